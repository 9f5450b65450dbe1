//! What became of differences: told of the real binary, against what was done to two tables.

use serde_json::Value;

use crate::daemon::{Daemon, admit, at};
use crate::harness::Place;
use crate::schema;

fn execute(place: &Place, file: &str, statements: &str) {
    let database = rusqlite::Connection::open(place.path(file)).expect("a database");
    database.execute_batch(statements).expect("statements");
}

/// Two tables that differ in the row 2, and in the row 3 that one has alone.
fn tables() -> Place {
    let place = Place::new();
    let all = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'same')";
    execute(&place, "a.db", &format!("{all}, (2, 'x');"));
    execute(&place, "b.db", &format!("{all}, (2, 'y'), (3, 'z');"));
    place
}

/// The keys and what became of them, and the summary.
fn told(objects: &[Value]) -> (Vec<(String, String)>, Value) {
    schema::holds(objects);
    let text = |value: &Value| value.as_str().expect("a text").to_string();
    let (summary, keys) = objects.split_last().expect("a summary");
    (keys.iter().map(|key| (text(&key["key"]), text(&key["change"]))).collect(), summary.clone())
}

fn keys(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(key, change)| (key.to_string(), change.to_string())).collect()
}

const DRIFT: &str = "drift sqlite:a.db/t sqlite:b.db/t --settle 0ms";

#[test]
fn what_is_new_open_and_healed_is_told_against_the_last_look_and_against_longer_ago() {
    let place = tables();
    // A diff remembers too.
    place.run("diff sqlite:a.db/t sqlite:b.db/t --settle 0ms").exits(1);
    execute(&place, "a.db", "INSERT INTO t VALUES (3, 'z'), (4, 'w')");
    let (found, summary) = told(&place.json(DRIFT).exits(1).objects());
    assert_eq!(found, keys(&[("4", "new"), ("2", "open"), ("3", "healed")]));
    let drift = &summary["drift"];
    assert_eq!((&drift["new"], &drift["open"], &drift["healed"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!((&drift["differed"], &drift["differ"], &drift["at_least"]), (&2.into(), &2.into(), &false.into()));
    assert_eq!((&drift["oldest_key"], &drift["oldest_ms"]), (&"2".into(), &drift["known_ms"]));
    assert!(drift["then_ms"].as_u64() <= drift["now_ms"].as_u64());
    // Nothing has changed since; but since longer ago there has, as far as that is remembered.
    let (found, summary) = told(&place.json(DRIFT).exits(1).objects());
    assert_eq!(found, keys(&[("2", "open"), ("4", "open")]));
    assert_eq!(summary["drift"]["oldest_key"], "2");
    place.run(&format!("{DRIFT} --since 7d")).exits(1).says(&[
        "1 new, 1 healed, 1 still open",
        "which is all that is remembered",
        "the oldest, 2,",
    ]);
    // A repair that makes them equal is remembered, and what differs after it is new.
    place.run("repair sqlite:a.db/t sqlite:b.db/t --to b --apply --no-probe --max-change 100% --settle 0ms").ok();
    let (found, _) = told(&place.json(DRIFT).ok().objects());
    assert_eq!(found, []);
    execute(&place, "a.db", "UPDATE t SET v = 'again' WHERE id = 2");
    let (found, summary) = told(&place.json(DRIFT).exits(1).objects());
    assert_eq!(found, keys(&[("2", "new")]));
    assert_eq!(summary["drift"]["oldest_ms"], summary["drift"]["now_ms"]);
}

#[test]
fn two_saved_files_are_compared_without_the_stores() {
    let place = tables();
    place.run(&format!("{DRIFT} --save one.drift")).exits(1).says(&["nothing was remembered of these two before"]);
    place.run(&format!("{DRIFT} --save one.drift")).fails("drift.file").says(&["never replaced"]);
    execute(&place, "a.db", "INSERT INTO t VALUES (3, 'z'), (4, 'w')");
    place.run(&format!("{DRIFT} --save two.drift")).exits(1);
    execute(&place, "a.db", "CREATE TABLE u (id INTEGER PRIMARY KEY)");
    execute(&place, "b.db", "CREATE TABLE u (id INTEGER PRIMARY KEY)");
    place.run("drift sqlite:a.db/u sqlite:b.db/u --save other.drift --settle 0ms").ok();
    ["a.db", "b.db"].iter().for_each(|file| std::fs::remove_file(place.path(file)).expect("it was there"));
    for typed in ["drift one.drift two.drift", "drift two.drift one.drift"] {
        let (found, summary) = told(&place.json(typed).exits(1).objects());
        assert_eq!(found, keys(&[("4", "new"), ("2", "open"), ("3", "healed")]));
        assert_eq!(summary["drift"]["oldest_key"], "2");
    }
    place.run("drift one.drift other.drift").fails("drift.pair").says(&["nothing was compared"]);
    place.run("drift one.drift two.drift --since 1d").fails("drift.file");
    let mut bytes = std::fs::read(place.path("two.drift")).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    place.file("bad.drift", &bytes);
    place.run("drift one.drift bad.drift").fails("drift.file").says(&["it is not what was written"]);
    // The one that is missing is named, not the one that is there.
    for typed in ["drift one.drift nope.drift", "drift nope.drift one.drift"] {
        place.run(typed).fails("drift.file").says(&["there is no file ", "nope.drift; two that drift --save wrote"]);
    }
}

#[test]
fn a_damaged_history_is_set_aside_and_one_of_a_later_release_is_left() {
    let place = tables();
    place.run(DRIFT).exits(1);
    let dir = place.path("home/drift");
    let names = place.names(&dir);
    let [name] = &names[..] else { panic!("{names:?}") };
    place.file(&format!("home/drift/{name}"), "damaged");
    place.run(DRIFT).exits(1).says(&["it was set aside", "nothing was remembered"]);
    assert!(place.names(&dir).contains(&format!("{name}.damaged")));
    let body = b"reknitD\x7f";
    let later = [&body[..], blake3::hash(body).as_bytes()].concat();
    place.file(&format!("home/drift/{name}"), &later);
    let ran = place.run(DRIFT).fails("home.malformed").says(&["later release"]);
    assert_eq!(ran.err.matches("later release").count(), 1, "said once: {}", ran.err);
    // What a diff finds does not depend on it.
    place.run("diff sqlite:a.db/t sqlite:b.db/t --settle 0ms").exits(1).says(&["later release"]);
    assert_eq!(std::fs::read(dir.join(name)).expect("a file"), later);
}

#[test]
fn the_pair_that_was_looked_at_longest_ago_is_forgotten_and_named() {
    let place = tables();
    place.run(DRIFT).exits(1);
    // As many others as may be, looked at since.
    (0..255).for_each(|n| _ = place.file(&format!("home/drift/{n:08x}"), "of another pair"));
    execute(&place, "a.db", "CREATE TABLE u (id INTEGER PRIMARY KEY)");
    execute(&place, "b.db", "CREATE TABLE u (id INTEGER PRIMARY KEY)");
    let ran = place.run("drift sqlite:a.db/u sqlite:b.db/u --settle 0ms").ok();
    ran.says(&["256 pairs are remembered", "a.db/t", "b.db/t", "is forgotten"]);
    place.run(DRIFT).exits(1).says(&["nothing was remembered of these two before"]);
}

/// A store that a daemon serves is looked at there, and the other at its peer; both are remembered as any pair is.
#[test]
fn drift_of_a_served_store_and_of_a_peer_is_told_as_of_any_pair() {
    let place = Place::with_file("all.kv", "a\t1\nb\t2\n", "");
    place.run("init b --like s").ok();
    admit(&place, "there", "compare,read,write");
    let there = Daemon::start(&place, "there", &["b"]);
    let drift = format!("drift s {} --settle 0ms", there.address());
    place.run(&drift).exits(1).says(&["2 differ", "nothing was remembered"]);
    let _here = Daemon::start(&place, "home", &["s"]);
    place.run("put s c 3").ok();
    at(&place, "there", "put b d 4").ok();
    let (mut found, summary) = told(&place.json(&drift).exits(1).objects());
    found.sort();
    assert_eq!(found, keys(&[("a", "open"), ("b", "open"), ("c", "new"), ("d", "new")]));
    assert_eq!(summary["drift"]["b"], there.address());
    // The other way round it is another pair, with sides of its own.
    place.run(&format!("drift {} s --settle 0ms --save now.drift", there.address())).exits(1).says(&["4 differ"]);
    assert!(place.path("now.drift").exists(), "a file is made where the command was given");
    // What goes wrong there is said here, once.
    let ran = place.run(&format!("{drift} --save now.drift")).fails("drift.file").says(&["never replaced"]);
    assert_eq!(ran.err.matches("never replaced").count(), 1);
    drop(there);
    let ran = place.run(&drift).fails("peer.unreachable");
    assert_eq!(ran.err.matches("[peer.unreachable]").count(), 1, "{}", ran.err);
}
