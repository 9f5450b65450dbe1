//! Daemons that gossip, as processes: what is written on one is on all at once, and who is gone is noticed.

use crate::api::Heard;
use crate::daemon::{Daemon, at, until};
use crate::harness::Place;
use crate::monitoring::{sample, scraped};
use crate::schema;
use crate::web::Web;

const HOMES: [&str; 3] = ["one", "two", "three"];

/// The peer of a home.
fn id(place: &Place, home: &str) -> String {
    at(place, home, "id").ok().out.trim().to_string()
}

/// Three homes that know each other, each with a store of one dataset.
fn homes() -> Place {
    let place = Place::new();
    at(&place, "one", "init one.store --name notes").ok();
    for home in &HOMES[1..] {
        at(&place, "one", &format!("init {home}.store --like one.store")).ok();
    }
    let ids = HOMES.map(|home| id(&place, home));
    for home in HOMES {
        for (other, id) in HOMES.iter().zip(&ids).filter(|(other, _)| **other != home) {
            at(&place, home, &format!("peers add {id} --may compare,read,write,operate --name {other}")).ok();
        }
    }
    place
}

fn start(place: &Place, home: &str, seed: Option<&str>) -> Daemon {
    start_with(place, home, seed, "")
}

fn start_with(place: &Place, home: &str, seed: Option<&str>, more: &str) -> Daemon {
    let seeds = seed.map(|seed| format!("seeds = ['{seed}']\n")).unwrap_or_default();
    // No session is held: what arrives was told.
    place.file(&format!("{home}/config.toml"), format!("[gossip]\n{seeds}every = '1h'\ndo = 'repair'\n{more}"));
    Daemon::start(place, home, &[&format!("{home}.store")])
}

fn up(place: &Place, home: &str) -> usize {
    let looked = at(place, home, "status --format jsonl");
    schema::holds(&looked.objects());
    looked.summary()["gossip"].as_array().expect("it gossips").len()
}

#[test]
fn what_is_written_on_one_is_on_all_at_once_and_who_is_gone_is_noticed() {
    let place = homes();
    let first = start(&place, "one", None);
    let seed = first.address().to_string();
    let (mut second, third) = (start(&place, "two", Some(&seed)), start(&place, "three", Some(&seed)));
    until(|| HOMES.iter().all(|home| up(&place, home) == 2));
    at(&place, "two", "put two.store milk bottles").ok();
    at(&place, "three", "put three.store bread rolls").ok();
    let has =
        |home: &str, key: &str, value: &str| at(&place, home, &format!("get {home}.store {key}")).out.trim() == value;
    until(|| HOMES.iter().all(|home| has(home, "milk", "bottles") && has(home, "bread", "rolls")));
    // What it heard last it may be passing on.
    until(|| at(&place, "one", "status").out.contains("gossip of notes: 2 writes heard, 0 left to sessions, 0 wait"));
    at(&place, "one", "status").says(&["is up at 127.0.0.1:"]);
    at(&place, "one", "delete one.store milk").ok();
    until(|| HOMES.iter().all(|home| at(&place, home, &format!("get {home}.store milk")).out.is_empty()));
    second.kill();
    until(|| ["one", "three"].iter().all(|home| up(&place, home) == 1));
    for daemon in [first, third] {
        assert!(daemon.end().success());
    }
}

/// Whoever knew the opening before gives records to that one, which is no more; and a replica that is written by nobody else has
/// nothing to say from which its peer would learn of the new one.
#[test]
fn a_peer_that_begins_again_is_told_what_is_written_though_it_has_nothing_to_say() {
    let place = homes();
    let first = start(&place, "one", None);
    let seed = first.address().to_string();
    let mut second = start(&place, "two", Some(&seed));
    let has = |home: &str, key: &str| at(&place, home, &format!("get {home}.store {key}")).exit == Some(0);
    until(|| up(&place, "one") == 1 && up(&place, "two") == 1);
    for key in ["milk", "bread", "salt"] {
        at(&place, "one", &format!("put one.store {key} here")).ok();
        until(|| has("two", key));
        second.kill();
        second = start(&place, "two", Some(&seed));
        until(|| up(&place, "two") == 1);
    }
    at(&place, "one", "put one.store honey here").ok();
    until(|| has("two", "honey"));
    for daemon in [first, second] {
        assert!(daemon.end().success());
    }
}

#[test]
fn a_replica_that_its_peer_may_only_write_asks_for_what_is_written() {
    let place = homes();
    let (one, two) = (id(&place, "one"), id(&place, "two"));
    at(&place, "one", &format!("peers add {two} --may read")).ok();
    at(&place, "two", &format!("peers add {one} --may write")).ok();
    let first = start(&place, "one", None);
    let second = start(&place, "two", Some(first.address()));
    until(|| up(&place, "one") == 1 && up(&place, "two") == 1);
    let has = |home: &str, key: &str| at(&place, home, &format!("get {home}.store {key}")).exit == Some(0);
    at(&place, "two", "put two.store salt here").ok();
    for key in ["milk", "bread"] {
        at(&place, "one", &format!("put one.store {key} here")).ok();
        until(|| has("two", key));
    }
    assert!(!has("one", "salt"), "it may not write there, nor read here");
    for daemon in [first, second] {
        assert!(daemon.end().success());
    }
}

/// It knows nobody, and has no seeds: whoever knew it asks it anew, at once, and not once it was taken for down.
#[test]
fn a_peer_that_is_killed_and_begins_again_is_asked_who_it_is() {
    let place = homes();
    let mut first = start(&place, "one", None);
    let socket = first.socket().to_string();
    let seed = first.address().to_string();
    let job = "[job.look]\ndo = 'check'\na = '../two.store'\nb = '../three.store'\n";
    place.file("two/config.toml", format!("[gossip]\nseeds = ['{seed}']\nevery = '1h'\n{job}"));
    let second = Daemon::start_with(&place, "two", &["two.store"], &["--http", "127.0.0.1:0"]);
    let web = Web::with(second.http(), &[("X-Reknit", "1")]);
    let mut heard = Heard::since(&web);
    until(|| up(&place, "one") == 1 && up(&place, "two") == 1);
    // On a machine that is held up for ten seconds it is taken for down all the same; not each time.
    let asked = (0..5).any(|nth| {
        first.kill();
        first = Daemon::start_with(&place, "one", &["one.store"], &["--listen", &socket]);
        until(|| up(&place, "one") == 1);
        at(&place, "one", &format!("put one.store milk{nth} bottles")).ok();
        until(|| at(&place, "two", &format!("get two.store milk{nth}")).exit == Some(0));
        at(&place, "two", "jobs run look").ok();
        !heard.until("run_began").contains(&"peer_down".into())
    });
    assert!(asked, "it was taken for down each time before anybody asked");
    for daemon in [first, second] {
        assert!(daemon.end().success());
    }
}

#[test]
fn a_peer_that_is_removed_is_let_go_by_the_daemon_and_says_why_itself() {
    let place = homes();
    let first = start(&place, "one", None);
    let second = start(&place, "two", Some(first.address()));
    until(|| up(&place, "one") == 1 && up(&place, "two") == 1);
    let removed = id(&place, "two");
    at(&place, "one", &format!("peers remove {removed}")).ok();
    until(|| up(&place, "one") == 0);
    at(&place, "one", "put one.store milk bottles").ok();
    until(|| at(&place, "two", "status").out.contains("does not take this node in"));
    at(&place, "two", "status").says(&[&format!("there: reknit peers add {removed}")]);
    assert_eq!(at(&place, "two", "get two.store milk").out, "");
    for daemon in [first, second] {
        assert!(daemon.end().success());
    }
}

#[test]
fn what_is_withheld_is_named_and_a_repair_brings_it() {
    let place = homes();
    let more = "max_delete = '2'\n";
    let first = start_with(&place, "one", None, more);
    let second = start_with(&place, "two", Some(first.address()), more);
    until(|| up(&place, "one") == 1 && up(&place, "two") == 1);
    for nth in 0..6 {
        at(&place, "one", &format!("put one.store key{nth} value")).ok();
    }
    let root = |home: &str| {
        let told = at(&place, home, &format!("dataset show {home}.store --format jsonl")).ok().summary();
        told["root"].clone()
    };
    until(|| root("one") == root("two"));
    for nth in 0..5 {
        at(&place, "one", &format!("delete one.store key{nth}")).ok();
    }
    until(|| at(&place, "two", "status").out.contains("gossip of notes withholds 3 records"));
    let looked = at(&place, "two", "status --format jsonl");
    schema::holds(&looked.objects());
    at(&place, "two", "status").says(&["(key", "reknit repair", "ADDRESS, with --apply and --max-delete"]);
    at(&place, "two", &format!("repair two.store {} --apply --max-delete 5", first.address())).ok();
    assert_eq!(root("one"), root("two"));
    place.file("one/config.toml", "[gossip]\nmax_delete = 'all'\n");
    at(&place, "one", "config check").fails("config.malformed").says(&["`all` is no limit"]);
    for daemon in [first, second] {
        assert!(daemon.end().success());
    }
}

#[test]
fn nodes_with_new_keys_gossip_on_with_those_who_knew_the_old_ones() {
    let place = homes();
    let first = start(&place, "one", None);
    let (seed, socket) = (first.address().to_string(), first.socket().to_string());
    let second = start(&place, "two", Some(&seed));
    until(|| up(&place, "one") == 1 && up(&place, "two") == 1);
    let has =
        |home: &str, key: &str, value: &str| at(&place, home, &format!("get {home}.store {key}")).out.trim() == value;
    let sees = |home: &str, peer: &str| {
        let gossip = at(&place, home, "status --format jsonl").summary()["gossip"].clone();
        gossip.as_array().is_some_and(|all| all.iter().any(|near| near["peer"] == peer))
    };

    // One that comes to a seed.
    assert!(second.end().success());
    at(&place, "two", "id rotate").ok();
    let second = start(&place, "two", Some(&seed));
    until(|| sees("one", &id(&place, "two")));
    at(&place, "one", "put one.store milk bottles").ok();
    at(&place, "two", "put two.store bread rolls").ok();
    until(|| has("two", "milk", "bottles") && has("one", "bread", "rolls"));

    // The seed itself, which others know by the address that they were started with.
    assert!(first.end().success());
    at(&place, "one", "id rotate").ok();
    place.file("one/config.toml", "[gossip]\nevery = '1h'\ndo = 'repair'\n");
    let _first = Daemon::start_with(&place, "one", &["one.store"], &["--listen", &socket]);
    until(|| sees("two", &id(&place, "one")));
    at(&place, "one", "put one.store tea leaves").ok();
    until(|| has("two", "tea", "leaves"));
    until(|| !at(&place, "two", "status").out.contains("seed"));
    drop(second);
}

#[test]
fn a_peer_that_comes_differs_is_mended_and_goes_is_heard_of_and_measured() {
    let place = homes();
    at(&place, "two", "put two.store milk bottles").ok();
    let table = "[gossip]\nevery = '100ms'\ndo = 'check'\n";
    place.file("one/config.toml", format!("{table}proven_equal_within = '300ms'\n"));
    let first = Daemon::start_with(&place, "one", &["one.store"], &["--http", "127.0.0.1:0"]);
    let web = Web::at(first.http());
    let mut heard = Heard::since(&web);
    let second = start(&place, "two", Some(first.address()));
    let peer = id(&place, "two");
    let (_, up) = heard.next("peer_up");
    assert_eq!(up["peer"], peer.as_str(), "{up}");
    assert!(up["at"].as_str().is_some_and(|at| at.starts_with("127.0.0.1:")), "{up}");
    let labels = ["dataset=notes", &format!("peer={peer}")];
    let has = |all: &crate::metrics::Samples, name: &str| all.keys().any(|key| key.starts_with(&format!("{name} ")));
    let mut all = scraped(&web);
    until(|| {
        all = scraped(&web);
        has(&all, "reknit_peer_oldest_difference_timestamp_seconds")
    });
    let is = |all: &_, name: &str| sample(all, name, &labels);
    assert_eq!((is(&all, "reknit_peer_up"), is(&all, "reknit_peer_differences")), (1.0, 1.0));
    assert_eq!(is(&all, "reknit_peer_failed_sessions"), 0.0);
    let since = is(&all, "reknit_peer_oldest_difference_timestamp_seconds");
    assert!(is(&all, "reknit_peer_checked_timestamp_seconds") >= since);
    // It never was proven, and has waited for that since a session first ended.
    assert!(!has(&all, "reknit_peer_proven_timestamp_seconds"));
    assert!(is(&all, "reknit_peer_unproven_since_timestamp_seconds") <= since);
    let objective = || {
        let looked = at(&place, "one", "status --format jsonl");
        schema::holds(&looked.objects());
        looked.summary()["gossip_pairs"][0]["objective"].clone()
    };
    until(|| objective()["state"] == "broken");
    assert_eq!((&objective()["proven"], &objective()["within_ms"]), (&false.into(), &300.into()));
    let broken = format!("gossip of notes with {}: it is not proven equal within 300ms and never was, for", &peer[..7]);
    at(&place, "one", "status").says(&[&format!("wrong  {broken}")]);
    until(|| at(&place, "one", "alerts list").out.contains(&broken));
    assert_eq!(sample(&scraped(&web), "reknit_trouble", &["about=objective"]), 1.0);
    at(&place, "one", &format!("repair one.store {} --apply", second.address())).ok();
    until(|| {
        all = scraped(&web);
        has(&all, "reknit_peer_proven_timestamp_seconds")
    });
    until(|| objective()["proven"] == true && objective()["state"] != "broken");
    // It is taken up, and given up, while the daemon runs.
    place.file("one/config.toml", table);
    first.signal("-HUP");
    until(|| objective().is_null());
    assert!(!has(&all, "reknit_peer_oldest_difference_timestamp_seconds"));
    assert_eq!(is(&all, "reknit_peer_differences"), 0.0);
    let proven = is(&all, "reknit_peer_proven_timestamp_seconds");
    assert!(proven >= since && is(&all, "reknit_peer_unproven_since_timestamp_seconds") == proven);
    at(&place, "two", "put two.store bread rolls").ok();
    until(|| sample(&scraped(&web), "reknit_gossip_records_total", &["dataset=notes", "what=news"]) == 1.0);
    assert!(second.end().success());
    assert_eq!(heard.next("peer_down").1["peer"], peer.as_str());
    assert_eq!(sample(&scraped(&web), "reknit_peer_up", &labels), 0.0);
    at(&place, "one", "status").says(&[&format!("gossip of notes with {}", &peer[..7]), ", down"]);
    at(&place, "one", &format!("peers remove {peer}")).ok();
    until(|| !has(&scraped(&web), "reknit_peer_up"));
}

#[test]
fn what_was_known_of_peers_outlives_the_daemon() {
    let place = homes();
    at(&place, "two", "put two.store milk bottles").ok();
    place.file("one/config.toml", "[gossip]\nevery = '100ms'\ndo = 'check'\nproven_equal_within = '1h'\n");
    let begin = || Daemon::start(&place, "one", &["one.store"]);
    let pairs = || {
        let looked = at(&place, "one", "status --format jsonl");
        schema::holds(&looked.objects());
        looked.summary()["gossip_pairs"].as_array().expect("it gossips").clone()
    };
    let pair = || pairs().first().cloned().unwrap_or_default();
    let mut first = begin();
    let second = start(&place, "two", Some(first.address()));
    until(|| pair()["verdict"] == "differs");
    // What a session has found is kept before the next one begins.
    let known = pair();
    until(|| pair()["checked_ms"].as_u64() > known["checked_ms"].as_u64());
    assert!(second.end().success());
    first.kill();
    let first = begin();
    let recalled = pair();
    assert_eq!((&recalled["up"], &recalled["verdict"]), (&false.into(), &"differs".into()), "{recalled}");
    for of in ["differs_since_ms", "left", "peer", "equal_ms"] {
        assert_eq!(recalled[of], known[of], "{of}");
    }
    let second = start(&place, "two", Some(first.address()));
    at(&place, "one", &format!("repair one.store {} --apply", second.address())).ok();
    until(|| pair()["verdict"] == "in_sync");
    assert!(second.end().success());
    until(|| pair()["up"] == false);
    let known = pair();
    assert!(first.end().success());
    let first = begin();
    let recalled = pair();
    assert_eq!((&recalled["verdict"], &recalled["equal_ms"]), (&"in_sync".into(), &known["equal_ms"]), "{recalled}");
    assert_eq!(recalled["objective"], known["objective"]);
    assert_eq!((&recalled["objective"]["state"], &recalled["objective"]["proven"]), (&"met".into(), &true.into()));
    at(&place, "one", "status").says(&["proven equal ", " ago, down"]);
    // Whoever was removed is not known at the next beginning.
    at(&place, "one", &format!("peers remove {}", id(&place, "two"))).ok();
    until(|| pairs().is_empty());
    assert!(first.end().success());
    let first = begin();
    assert_eq!(pairs(), [] as [serde_json::Value; 0]);
    assert!(first.end().success());
}
