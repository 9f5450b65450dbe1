//! A new key of a node: it is shown and believed, both keys are the peer while they overlap, and one is refused afterwards.

use std::fs;

use serde_json::json;

use crate::daemon::{Daemon, at, until};
use crate::harness::{Place, Ran};

/// Three copies `a`, `b` and `c` of a dataset; the homes `home` and `near` may anything at each other.
fn place() -> Place {
    let place = Place::new();
    place.file("all.kv", (0..30).map(|n| format!("k{n:02}\tv{n}\n")).collect::<String>());
    place.run("init a").ok();
    place.run("import a all.kv").ok();
    place.run("init b --like a").ok();
    place.run("init c --like a").ok();
    let (home, near) = (id(&place, "home"), id(&place, "near"));
    at(&place, "near", &format!("peers add {home} --may compare,read,write,operate --name bern")).ok();
    at(&place, "home", &format!("peers add {near} --may compare,read,write,operate")).ok();
    place
}

fn id(place: &Place, home: &str) -> String {
    at(place, home, "id").ok().out.trim().to_owned()
}

/// A home of whoever has a copy of another's key.
fn copy_key(place: &Place, from: &str, to: &str) {
    fs::create_dir_all(place.path(to)).expect("a directory");
    fs::copy(place.path(from).join("identity.key"), place.path(to).join("identity.key")).expect("copied");
}

/// The address of a daemon by another key.
fn by(peer: &str, daemon: &Daemon) -> String {
    let (_, rest) = daemon.address().split_once('@').expect("a peer");
    format!("quic://{peer}@{rest}")
}

fn peers(place: &Place, home: &str) -> String {
    at(place, home, "peers list").ok().out
}

#[test]
fn both_keys_are_the_peer_while_they_overlap_whoever_connects() {
    let place = place();
    let near = Daemon::start(&place, "near", &["b"]);
    let old = id(&place, "home");
    copy_key(&place, "home", "before");
    let rotated = place.json("id rotate --overlap 1h").ok().summary();
    let new = id(&place, "home");
    assert_eq!((&rotated["peer"], &rotated["was"]), (&json!(new), &json!([old])));
    assert_ne!(old, new);

    // The new key is shown on the way; the old one may the same.
    place.run(&format!("repair a {} --apply", near.address())).ok().says(&["30 to b"]);
    let listed = at(&place, "near", "peers list").ok();
    listed.says(&[&format!("{new} (bern) may compare"), &format!("was {old}: rotated, admitted for 5")]);
    let object = at(&place, "near", "peers list --format jsonl").ok().objects()[0].clone();
    assert_eq!((&object["was"][0]["peer"], &object["was"][0]["ended"]), (&json!(old), &json!(false)));
    at(&place, "before", &format!("check c {}", near.address())).exits(1);
    at(&place, "near", &format!("peers add {old}")).fails("peers.succeeded").says(&[&new]);

    // It is reached by either, and its signatures hold.
    let home = Daemon::start(&place, "home", &["a"]);
    assert!(home.address().contains(&new));
    for to in [home.address().to_owned(), by(&old, &home)] {
        at(&place, "near", &format!("repair c {to} --to a --apply")).ok();
    }
    // So by whoever knows an address alone, who hears of the new key there.
    let third = id(&place, "third");
    place.run(&format!("peers add {third} --may compare,read")).ok();
    at(&place, "third", &format!("check c {} --receipt", by(&old, &home))).ok();
    let signed = at(&place, "third", "receipts export c").ok().out;
    place.file("signed", signed);
    place.run(&format!("receipts verify signed --peer {third} --peer {old}")).ok();
    until(|| {
        at(&place, "third", &format!("check c {}", by(&old, &home))).ok();
        fs::read_to_string(place.path("third/peers.toml")).is_ok_and(|known| known.contains(&new))
    });
    assert_eq!(home.end().code(), Some(0));

    // At once: whoever has heard is led from the old address to the newest key, and the old ones are refused.
    place.run("id rotate --overlap 1h").fails("id.overlap").says(&["--overlap 0"]);
    place.run("id rotate --overlap 0").ok().says(&["is this node no more"]);
    let newest = id(&place, "home");
    place.run(&format!("check a {}", near.address())).ok();
    let refused = |key: &str| format!("was {key}: rotated, refused");
    at(&place, "near", "peers list").ok().says(&[&format!("{newest} (bern)"), &refused(&new), &refused(&old)]);
    at(&place, "before", &format!("check c {}", near.address())).fails("peer.not-admitted");
    let home = Daemon::start(&place, "home", &["a"]);
    at(&place, "near", &format!("check c {}", by(&old, &home))).ok();
    // Whoever has not heard finds another key, and is told by hand.
    at(&place, "third", &format!("check c {}", by(&old, &home))).exits(4).says(&["peer.impostor"]);
    let statement = place.run("id statement").ok().out;
    at(&place, "third", &format!("peers succeed {statement}")).ok().says(&[&newest, &new, &old]);
    at(&place, "third", &format!("check c {}", by(&old, &home))).ok();
}

#[test]
fn an_overlap_runs_out_by_itself_here_and_there() {
    let place = place();
    let near = Daemon::start(&place, "near", &["b"]);
    let old = id(&place, "home");
    copy_key(&place, "home", "before");
    place.run("id rotate --overlap 5s").ok();
    place.run(&format!("check a {}", near.address())).exits(1);
    let home = Daemon::start(&place, "home", &["a"]);
    let (fourth, new) = (id(&place, "fourth"), id(&place, "home"));
    // Nobody does anything about it.
    until(|| at(&place, "before", &format!("check c {}", near.address())).err.contains("[peer.not-admitted]"));
    at(&place, "near", "peers list").ok().says(&[&format!("was {old}: rotated, refused"), &format!("{new} (bern)")]);
    // Whoever has heard is led to the new key, whoever has not finds another than it expects.
    at(&place, "near", &format!("check c {}", by(&old, &home))).exits(1);
    place.run(&format!("peers add {fourth} --may compare")).ok();
    at(&place, "fourth", &format!("check c {}", by(&old, &home))).exits(4).says(&["peer.impostor"]);
    at(&place, "fourth", &format!("check c {}", home.address())).exits(1);
}

#[test]
fn taking_away_one_key_takes_away_all() {
    for which in 0..2 {
        let place = place();
        let near = Daemon::start(&place, "near", &["b"]);
        let old = id(&place, "home");
        copy_key(&place, "home", "before");
        place.run("id rotate").ok().says(&["this node too for 7 d"]);
        place.run(&format!("repair a {} --apply", near.address())).ok();
        let keys = [old, id(&place, "home")];
        at(&place, "near", &format!("peers remove {}", keys[which])).ok();
        assert!(peers(&place, "near").starts_with("no peer may connect"));
        place.run(&format!("check a {}", near.address())).fails("peer.not-admitted");
        at(&place, "before", &format!("check c {}", near.address())).fails("peer.not-admitted");
        assert!(peers(&place, "near").starts_with("no peer may connect"), "what was shown since is of a stranger");
        at(&place, "near", &format!("peers remove {}", keys[which])).exits(1);
    }
}

#[test]
fn a_stolen_key_names_no_other_and_members_go_by_the_new_one() {
    let place = place();
    let old = id(&place, "home");
    place.run(&format!("members add a {old} --name bern --lease 30d")).ok();
    copy_key(&place, "home", "thief");
    place.run("id rotate").ok();
    let new = id(&place, "home");
    let near = Daemon::start(&place, "near", &["b"]);
    place.run(&format!("repair a {} --apply", near.address())).ok();
    // It takes the stolen key for its own, and rotates that.
    at(&place, "thief", "id rotate").ok();
    // The old key is admitted still, as long as it overlaps; what it says of another is not believed.
    until(|| at(&place, "thief", &format!("check c {}", near.address())).exit == Some(1));
    assert!(!peers(&place, "near").contains(&id(&place, "thief")));
    let statement = at(&place, "thief", "id statement").ok().out;
    at(&place, "near", &format!("peers succeed {statement}")).fails("peers.statement").says(&["may have stolen it"]);
    // Here the members came with the repair, and there from the start.
    let moved = |home: &str, store: &str| {
        let members = at(&place, home, &format!("members list {store}")).ok().out;
        members.contains(&new) && !members.contains(&old) && members.contains("bern")
    };
    until(|| moved("near", "b"));
    let _home = Daemon::start(&place, "home", &["a"]);
    until(|| moved("home", "a"));
}

#[test]
fn members_that_come_after_a_newer_key_was_heard_of_go_by_it_too() {
    let place = place();
    let near = Daemon::start(&place, "near", &["b"]);
    let old = id(&place, "home");
    place.run("id rotate").ok();
    let new = id(&place, "home");
    place.run(&format!("check a {}", near.address())).exits(1);
    until(|| peers(&place, "near").contains(&new));
    // As a repair brings them, which was under way when the key was heard of.
    at(&place, "near", &format!("members add b {old} --name bern --lease 30d")).ok();
    until(|| at(&place, "near", "members list b").ok().out.contains(&new));
    at(&place, "near", "members list b").ok().says(&["bern"]);
}

#[test]
fn a_key_is_not_replaced_under_a_daemon_and_nonsense_is_not_believed() {
    let place = place();
    place.run("id statement").exits(1).says(&["id.no-statement"]);
    place.run("id rotate --overlap 91d").fails("peers.statement").says(&["90 days"]);
    place.run("id rotate --overlap soon").exits(2);
    let before = id(&place, "home");
    let daemon = Daemon::start(&place, "home", &["a"]);
    place.run("id rotate").fails("home.in-use").says(&["stop it"]);
    assert_eq!((daemon.end().code(), id(&place, "home")), (Some(0), before.clone()));
    for nonsense in ["reknit-key-", "reknit-key-00ff", "words"] {
        at(&place, "near", &format!("peers succeed {nonsense}")).fails("peers.statement");
    }
    // Of nobody who is known there.
    place.run("id rotate").ok();
    let statement = place.run("id statement").ok().out;
    at(&place, "fourth", &format!("peers succeed {statement}"))
        .fails("peers.statement")
        .says(&["no peer that is known"]);
    at(&place, "near", &format!("peers succeed {}", &statement.trim()[..300])).fails("peers.statement");
    let ran: Ran = at(&place, "near", &format!("peers succeed {statement}")).ok();
    ran.says(&[&id(&place, "home"), &before]);
}
