//! Collecting tombstones: what every member has passed goes, nobody brings it back, and who was away catches up first.

use serde_json::json;

use crate::daemon::{Daemon, at};
use crate::harness::Place;

/// Two stores of one home with a record that was deleted, which both know of each other to have passed.
fn passed() -> Place {
    let place = Place::with_file("a.kv", "a\tb\nk\tl\nm\tn\n", "");
    place.run("init b --like s").ok();
    place.run("repair s b --apply").ok();
    place.run("delete s k").ok();
    place.run("repair s b --apply").ok();
    place
}

#[test]
fn what_both_have_passed_goes_on_both_sides_and_stays_gone() {
    let place = passed();
    // That the other has it shows only in a receipt of what it compared since.
    place.run("gc s --grace 0s").ok().says(&["0 of 1 tombstones can be collected; 1 wait for members"]);
    place.run("repair s b --apply").ok();
    // One home stands for both, so the lives tell whom a line is about.
    let standings = place.json("gc s").ok().objects();
    let actors: Vec<&str> = standings.iter().filter_map(|object| object["actor"].as_str()).collect();
    assert!(actors.len() == 2 && actors[0] != actors[1], "{standings:?}");
    let told = place.run("gc s").ok().says(&["0 of 1 tombstones", "0 wait for members, 1 for the grace time"]);
    told.says(&[&format!(" as {}\tthis node", actors[0]), &format!(" as {}\tthis node", actors[1])]);
    place.run("gc s --grace 0s").ok().says(&["1 of 1 tombstones can be collected", "wrote 0 records, add --apply"]);
    let json = place.json("gc s --grace 0s --apply").ok();
    let summary = json.summary();
    let told = ["wrote", "tombstones", "collectable", "waiting", "young"].map(|field| summary[field].clone());
    assert_eq!(told, [1, 1, 1, 0, 0].map(|n| json!(n)));
    assert_eq!(json.objects().iter().filter(|object| object["t"] == "standing").count(), 2);
    // The other still has the tombstone: looking tells of it, and a repair drops it there instead of bringing it back.
    place.run("check s b").exits(1);
    place.run("repair b s --apply").ok().says(&["in sync", "nothing to repair"]);
    place.run("gc b").ok().says(&["there are no tombstones"]);
    place.run("get s k").exits(1);
    place.run("get b k").exits(1);
    place.run("verify s").ok();
    place.run("verify b").ok();
    place.run("gc s --grace 0s --apply").ok().says(&["collected 0 of 0 tombstones"]);
}

#[test]
fn what_has_expired_is_collected_too() {
    let place = passed();
    place.run("put s goes v --expires 0ms").ok();
    place.run("repair s b --apply").ok();
    place.run("repair s b --apply").ok();
    place.run("gc s --grace 0s --apply").ok().says(&["collected 2 of 2 tombstones"]);
    place.run("repair b s --apply").ok().says(&["in sync"]);
    place.run("gc b").ok().says(&["there are no tombstones"]);
    place.run("check s b").ok();
}

#[test]
fn one_side_alone_is_not_written_for_the_sake_of_the_other() {
    let place = passed();
    place.run("repair s b --apply").ok();
    place.run("gc s --grace 0s --apply").ok().says(&["collected 1 of 1"]);
    let root = place.root("b");
    place.run("repair s b --to a --apply").exits(3).says(&["the peer still keeps tombstones that were collected here"]);
    assert_eq!(place.root("b"), root);
    place.run("repair b s --to b --apply").exits(3).says(&["still keeps", "wrote 0 records"]);
    place.run("repair s b --to b --apply").ok().says(&["in sync"]);
    place.run("gc b").ok().says(&["there are no tombstones"]);
}

#[test]
fn a_third_store_is_waited_for() {
    let place = passed();
    place.run("init c --like s").ok();
    place.run("repair s c --apply").ok();
    place.run("delete s m").ok();
    (0..2).for_each(|_| {
        place.run("repair s b --apply").ok();
    });
    place.run("gc s --grace 0s").ok().says(&["0 of 2 tombstones can be collected; 2 wait"]);
    (0..2).for_each(|_| {
        place.run("repair b c --apply").ok();
    });
    place.run("repair s b --apply").ok();
    // What b and c have of each other came to s with its own receipts of b.
    place.run("gc s --grace 0s --apply").ok().says(&["collected 2 of 2 tombstones; 0 wait"]);
    place.run("repair s c --apply").ok().says(&["in sync"]);
    place.run("repair b c --apply").ok().says(&["in sync"]);
    ["b", "c"].iter().for_each(|store| {
        place.run(&format!("gc {store}")).ok().says(&["there are no tombstones"]);
    });
}

/// Two homes that meet only by way of a third learn of each other's receipts from it.
#[test]
fn receipts_of_others_are_handed_on() {
    let place = Place::with_file("a.kv", "k\tl\nm\tn\n", "");
    ["b", "c"].iter().for_each(|store| {
        place.run(&format!("init {store} --like s")).ok();
    });
    let id = |home: &str| at(&place, home, "id").ok().out.trim().to_owned();
    let (first, third) = (id("home"), id("third"));
    for home in ["home", "second", "third"] {
        at(&place, "second", &format!("members add b {}", id(home))).ok();
    }
    at(&place, "second", &format!("peers add {first} --may compare,read,write,operate")).ok();
    at(&place, "second", &format!("peers add {third} --may compare,read,write")).ok();
    let daemon = Daemon::start(&place, "second", &["b"]);
    let b = daemon.address().to_string();
    at(&place, "home", &format!("repair s {b} --apply")).ok();
    at(&place, "third", &format!("repair c {b} --apply")).ok();
    at(&place, "home", "delete s k").ok();
    let all = || {
        at(&place, "home", &format!("repair s {b} --apply")).ok();
        at(&place, "third", &format!("repair c {b} --apply")).ok();
    };
    all();
    // The first receipts are handed on at once; the next of the same two are hours later, so the deletion waits for them.
    let told = at(&place, "home", "gc s --grace 0s --format jsonl").ok();
    let standings = told.objects();
    let heard = standings.iter().filter(|object| object["t"] == "standing" && object["heard_ms"].is_u64()).count();
    assert_eq!((heard, told.summary()["waiting"].clone()), (3, json!(1)), "{standings:?}");
}

/// A member in a home of its own, whose lease is over at once: what it deleted, kept and wrote while it was away.
fn lapsed(receipts: bool) -> (Place, Daemon, String) {
    let place = Place::with_file("a.kv", "gone\t1\nstays\t1\nhere\t1\n", "");
    place.run("init c --like s").ok();
    let id = |home: &str| at(&place, home, "id").ok().out.trim().to_owned();
    let (me, away) = (id("home"), id("away"));
    at(&place, "home", &format!("members add s {me}")).ok();
    at(&place, "home", &format!("members add s {away} --lease 1ms")).ok();
    at(&place, "home", &format!("peers add {away} --may compare,read,write")).ok();
    let daemon = Daemon::start(&place, "home", &["s"]);
    let s = daemon.address().to_string();
    at(&place, "away", &format!("repair c {s} --apply")).ok();
    if !receipts {
        std::fs::remove_dir_all(place.path("away").join("receipts")).expect("receipts that are lost");
    }
    at(&place, "away", "put c since 2").ok();
    at(&place, "away", "delete c here").ok();
    at(&place, "home", "delete s gone").ok();
    at(&place, "home", "gc s --grace 0s").ok().says(&["nothing waits for it", "1 of 1 tombstones can be collected"]);
    at(&place, "home", "gc s --grace 0s --apply").ok();
    (place, daemon, s)
}

/// The one run of a store by which it caught up.
#[track_caller]
fn catch_up(place: &Place, home: &str, store: &str) -> String {
    let runs = at(place, home, &format!("runs list {store} --format jsonl")).ok().objects();
    let runs: Vec<_> = runs.iter().filter(|run| run["kind"] == "catch-up").collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs[0]["run"].as_str().expect("its number").into()
}

#[test]
fn a_member_whose_lease_lapsed_catches_up_before_it_gives_anything() {
    let (place, daemon, s) = lapsed(true);
    let repaired = at(&place, "away", &format!("repair c {s} --apply")).ok();
    let run = catch_up(&place, "away", "c");
    repaired
        .says(&["in sync", &format!("c had been away and was changed first, to catch up: reknit runs show c {run}")]);
    // What others had deleted is gone there too; what was written there since was given, a deletion included.
    for (home, store) in [("home", "s"), ("away", "c")] {
        at(&place, home, &format!("get {store} gone")).exits(1);
        at(&place, home, &format!("get {store} since")).ok();
        at(&place, home, &format!("get {store} stays")).ok();
        at(&place, home, &format!("get {store} here")).exits(1);
    }
    at(&place, "away", "verify c").ok();
    drop(daemon);
}

#[test]
fn without_its_receipts_what_only_it_has_is_set_apart() {
    let (place, daemon, s) = lapsed(false);
    let told = ["in sync", "2 records of c were set apart", "reknit quarantine list c"];
    at(&place, "away", &format!("repair c {s} --apply")).ok().says(&told);
    at(&place, "home", "get s since").exits(1);
    let listed = at(&place, "away", "quarantine list c").exits(1);
    listed.says(&["gone", "since", "no receipt tells whether it was deleted", "2 records in quarantine"]);
    at(&place, "away", "conflicts list c").exits(1).says(&["2 records in quarantine"]);
    at(&place, "away", "quarantine accept c since").ok();
    at(&place, "away", "quarantine drop c gone").ok();
    at(&place, "away", &format!("repair c {s} --apply")).ok().says(&["in sync", "wrote 0 records to a and 1 to b"]);
    at(&place, "home", "get s since").ok();
    at(&place, "home", "get s gone").exits(1);
    drop(daemon);
}

#[test]
fn what_is_newer_and_set_apart_is_told_as_what_others_may_have_older() {
    let place = Place::with_file("a.kv", "gone\t1\nk\t1\nl\t1\n", "");
    place.run("init c --like s").ok();
    let me = place.run("id").ok().out.trim().to_owned();
    place.run(&format!("members add s {me}")).ok();
    for key in ["k", "l", "only"] {
        place.run(&format!("put c {key} newer")).ok();
    }
    place.run("delete s gone").ok();
    place.run("gc s --grace 0s --apply").ok().says(&["collected 1 of 1"]);
    let repaired = place.json("repair s c --apply").ok().summary();
    assert_eq!(repaired["strays"], json!({ "a": 0, "b": 3 }), "{repaired}");
    place.run("get c k").ok().prints("1");
    let listed = place.run("quarantine list c").exits(1);
    let listed = listed.says(&["default k", "3 records in quarantine", "no other store had it as it is here"]);
    assert!(!listed.out.contains("nobody else has it"), "{}", listed.out);
    assert_eq!(place.json("repair s c --apply").ok().summary()["strays"], json!({ "a": 0, "b": 0 }));
}

#[test]
fn whoever_repairs_with_a_store_that_is_behind_is_told_so() {
    let (place, daemon, s) = lapsed(true);
    drop((daemon, s));
    let me = at(&place, "home", "id").ok().out.trim().to_owned();
    at(&place, "away", &format!("peers add {me} --may compare,read,write")).ok();
    let daemon = Daemon::start(&place, "away", &["c"]);
    let refused = at(&place, "home", &format!("repair s {} --apply", daemon.address())).exits(3);
    refused.says(&["the peer was away while tombstones were collected", "from its side", "wrote 0 records"]);
    drop(daemon);
    // Both in one process, either catches up.
    let repaired = at(&place, "home", "repair s c --apply --format jsonl").ok();
    assert_eq!(repaired.summary()["caught_up"], json!({ "a": null, "b": catch_up(&place, "home", "c") }));
    at(&place, "home", "get c gone").exits(1);
}

#[test]
fn brakes_hold_for_what_catching_up_would_delete() {
    let (place, daemon, s) = lapsed(true);
    let braked = at(&place, "away", &format!("repair c {s} --apply --max-delete 0")).exits(4);
    braked.says(&["would be deleted", "gone", "--max-delete", "wrote 0 records"]);
    at(&place, "away", "get c gone").ok();
    at(&place, "home", "get s since").exits(1);
    // What it took before it was stopped is told.
    at(&place, "home", "put s news 1").ok();
    at(&place, "away", &format!("repair c {s} --apply --max-delete 0"))
        .exits(4)
        .says(&["wrote 1 records", "to catch up"]);
    at(&place, "away", "get c news").ok();
    at(&place, "home", "put s more 1").ok();
    at(&place, "away", &format!("repair c {s} --apply")).ok().says(&["wrote 1 records to a and 2 to b"]);
    drop(daemon);
}

#[test]
fn a_dataset_without_members_is_not_collected() {
    let place = Place::new();
    place.run("init s --no-members").ok();
    place.run("gc s").exits(2).says(&["[store.no-members]"]);
    place.run("init t").ok();
    place.run("gc t --grace soon").exits(2).says(&["[usage.duration]"]);
}
