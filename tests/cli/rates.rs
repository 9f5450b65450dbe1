//! Sessions with a peer keep to the rates that were told, by whichever side.

use crate::daemon::{Daemon, admit, at};
use crate::harness::{Place, Ran};

/// Bytes a second.
const RATE: u64 = 65_536;

/// A store `a` of about 200 kB that do not compress, and an empty `b`.
fn two() -> Place {
    let place = Place::new();
    let mut noise = 1u64;
    let mut digit = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + (noise >> 33) as u8 % 90)
    };
    let mut line =
        |n: u32| format!("k{n:03}\t{}\n", (0..500).map(|_| digit()).filter(|c| *c != '\\').collect::<String>());
    place.file("all.kv", (0..400).map(&mut line).collect::<String>());
    place.run("init a").ok();
    place.run("import a all.kv").ok();
    place.run("init b --like a").ok();
    place
}

/// That a session took as long as its bytes take at the rate, after the first second's.
fn kept(session: &Ran) {
    let summary = session.summary();
    let bytes = summary["bytes"].as_object().expect("bytes").values().filter_map(|bytes| bytes.as_u64()).sum::<u64>();
    let least = bytes.saturating_sub(RATE) * 1_000 / RATE;
    let elapsed = summary["elapsed_ms"].as_u64().expect("a time");
    assert!(bytes > 150_000 && elapsed >= least, "{bytes} bytes in {elapsed} ms, at least {least}");
}

#[test]
fn sessions_keep_to_the_rates_of_the_node_that_answers() {
    let place = two();
    at(&place, "server", "id").ok();
    place.file("server/config.toml", "[serve]\nbandwidth = '64KiB'\nreads = 1000\n");
    let daemon = Daemon::start(&place, "server", &["a"]);
    admit(&place, "server", "compare,read");
    let repaired = place.json(&format!("repair b {} --to a --apply", daemon.address()));
    kept(&repaired.ok());
    place.run(&format!("check b {}", daemon.address())).ok();
    assert!(daemon.end().success());
}

#[test]
fn sessions_keep_to_the_rate_of_a_command_or_a_peer() {
    let place = two();
    let daemon = Daemon::start(&place, "server", &["b"]);
    admit(&place, "server", "compare,read,write");
    let repair = format!("repair a {} --to b --apply", daemon.address());
    place.run(&format!("{repair} --bandwidth 1KiB")).fails("usage.bandwidth");
    place.run("check a b --bandwidth 1MiB").fails("usage.bandwidth");
    kept(&place.json(&format!("{repair} --bandwidth 64KiB")).ok());
    let (_, peer) = daemon.address().split_once("quic://").expect("an address");
    let (peer, _) = peer.split_once('@').expect("a peer");
    place.file("home/config.toml", format!("[peer.far]\nid = '{peer}'\nbandwidth = '64KiB'\n"));
    place.run("init c --like a").ok();
    kept(&place.json(&format!("repair c {} --to a --apply", daemon.address())).ok());
    assert!(daemon.end().success());
}

#[test]
fn the_rate_of_a_peer_is_that_of_its_new_key_too() {
    let place = two();
    let old = at(&place, "server", "id").ok().out.trim().to_string();
    at(&place, "server", "id rotate --overlap 1h").ok();
    let daemon = Daemon::start(&place, "server", &["b"]);
    admit(&place, "server", "compare,read,write");
    place.file("home/config.toml", format!("[peer.far]\nid = '{old}'\nbandwidth = '64KiB'\n"));
    // It hears of the new key by the old one.
    let (_, rest) = daemon.address().split_once('@').expect("a peer");
    place.run(&format!("check a quic://{old}@{rest} --settle 0ms")).exits(1);
    assert!(!daemon.address().contains(&old));
    kept(&place.json(&format!("repair a {} --to b --apply", daemon.address())).ok());
}
