//! id and peers: who this node is, who may connect and what they may.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::daemon::{Daemon, admit, at};
use crate::harness::{Place, Ran};
use crate::relay::Relay;

#[test]
fn a_node_is_the_same_each_time_and_keeps_its_secret_to_itself() {
    let place = Place::new();
    let first = place.run("id").ok().says(&["home"]);
    let peer = first.out.trim_end();
    assert_eq!(peer.replace('-', "").len(), 56);
    place.run("id").ok().prints(&first.out);
    let told = place.run("id --format jsonl").ok().summary();
    assert_eq!((&told["peer"], &told["home"]), (&peer.into(), &place.path("home").to_str().into()));
    let secret = place.path("home/identity.key");
    assert_eq!(fs::metadata(&secret).expect("the identity").permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("permissions");
    place.run("id").fails("home.identity").says(&["read by others"]);
    place.run("id --home elsewhere").ok();
    assert!(place.path("elsewhere/identity.key").exists());
    fs::write(place.path("file"), "").expect("a file");
    place.run("id --home file").fails("home.file");
}

#[test]
fn peers_are_added_changed_and_removed() {
    let place = Place::new();
    let peer = place.run("id --home other").ok().out.trim_end().to_string();
    place.run("peers list").ok().says(&["no peer may connect"]);
    place.run(&format!("peers add {peer}")).ok().says(&["may compare here"]);
    place.run(&format!("peers add {peer} --may read,write --name bern")).ok();
    place.run("peers list").ok().prints(&format!("{peer} (bern) may read, write\n"));
    let listed = place.run("peers list --format jsonl").ok();
    assert_eq!((&listed.objects()[0]["peer"], &listed.summary()["peers"]), (&peer.as_str().into(), &1.into()));
    let ran = place.run(&format!("peers add {peer} --may compare,reed")).fails("usage.right");
    ran.says(&["`reed`", "compare", "read", "write", "operate"]);
    place.run("peers add abc").fails("usage.peer").says(&["56"]);
    let slip = peer.replacen(&peer[..1], if peer.starts_with('a') { "b" } else { "a" }, 1);
    place.run(&format!("peers add {slip}")).fails("usage.peer").says(&["mistyped"]);
    place.run("peers list").ok().prints(&format!("{peer} (bern) may read, write\n"));
    place.run(&format!("peers remove {peer}")).ok();
    place.run(&format!("peers remove {peer}")).exits(1).says(&["was not known"]);
    place.run(&format!("peers remove {peer} --exit-zero")).ok();
    fs::write(place.path("home/peers.toml"), "[[peer]]\nid = 7\n").expect("written");
    place.run("peers list").fails("home.malformed").says(&["peers.toml"]);
}

/// The daemon hears nothing more of the peer, so that only the loss of its rights can end the session.
#[test]
fn a_peer_that_is_removed_is_cut_off_in_the_middle_of_its_session_and_hears_what_to_do() {
    let place = Place::new();
    // Nothing that packing makes small.
    let mut seed = 1_u64;
    let mut word = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("{:08x}", seed >> 32)
    };
    let mut line = |n| format!("k{n:04}\t{}\n", (0..60).map(|_| word()).collect::<String>());
    let all: String = (0..8000).map(&mut line).collect();
    place.file("all.kv", all);
    place.run("init a").ok();
    place.run("import a all.kv").ok();
    place.run("init b --like a").ok();
    let me = place.run("id").ok().out.trim().to_owned();
    for taken in [format!("peers remove {me}"), format!("peers add {me} --may compare,read")] {
        admit(&place, "far", "compare,read,write");
        let daemon = Daemon::start(&place, "far", &["b"]);
        let relay = Relay::start(daemon.socket());
        relay.hold_after(50_000);
        let address = relay.address(daemon.address());
        let repair = place.command(&["repair", "a", &address, "--to", "b", "--apply"]).spawn().expect("the binary");
        relay.holds();
        at(&place, "far", &taken).ok();
        let ran = Ran::of(repair.wait_with_output().expect("its end")).exits(3);
        ran.says(&["[peer.cut-off]", "has taken away rights of this node", &format!("reknit peers add {me}")]);
        at(&place, "far", "verify b").ok();
        let refused = if taken.contains("remove") { "[peer.not-admitted]" } else { "[peer.rights]" };
        place.run(&format!("repair a {} --to b --apply", daemon.address())).says(&[refused]);
        assert!(daemon.end().success());
    }
}
