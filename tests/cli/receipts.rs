//! Receipts: left by repairs on both sides, listed, exported, and verified away from both.

use serde_json::Value;

use crate::daemon::{Daemon, at};
use crate::harness::Place;

/// Two stores in sync but for a record, and the lines that `receipts export` prints at one of them.
fn signed() -> (Place, String, [String; 2]) {
    let place = Place::with_file("a.kv", "a\tb\nc\td\n", "");
    place.run("init b --like s").ok();
    let me = place.run("id").ok().out.trim().to_owned();
    at(&place, "far", &format!("peers add {me} --may compare,read,write")).ok();
    let daemon = Daemon::start(&place, "far", &["b"]);
    let b = daemon.address().to_string();
    let there = at(&place, "far", "id").ok().out.trim().to_owned();
    place.run(&format!("repair s {b} --apply")).ok();
    let here = place.run("receipts export s").ok().out;
    assert_eq!(at(&place, "far", "receipts export b").ok().out, here, "both sides have the same");
    drop(daemon);
    (place, here, [me, there])
}

#[test]
fn both_sides_keep_the_same_receipt_and_anyone_can_verify_it() {
    let (place, lines, [me, there]) = signed();
    let receipt: Value = serde_json::from_str(lines.trim()).expect("one line");
    assert_eq!((&receipt["verdict"], &receipt["to_responder"]), (&"in_sync".into(), &2.into()));
    assert_eq!(
        (receipt["opener"]["peer"].as_str(), receipt["responder"]["peer"].as_str()),
        (Some(&*me), Some(&*there))
    );
    assert_eq!(receipt["opener"]["root"]["digest"].as_str(), Some(&*place.root("s")));
    place.run("receipts list s").ok().says(&[" UTC\tin_sync", "2 records", "2 moved", "1 receipt"]);
    place.file("signed", lines.clone());
    // Neither store nor home is needed.
    let elsewhere = |line: &str| at(&place, "elsewhere", line);
    elsewhere(&format!("receipts verify signed --peer {me} --peer {there}")).ok().says(&["1 receipt as signed"]);
    let dataset = receipt["dataset"].as_str().expect("an id");
    elsewhere(&format!("receipts verify signed --peer {me},{there} --dataset {dataset}")).ok();
    let other = "0".repeat(32);
    elsewhere(&format!("receipts verify signed --peer {me},{there} --dataset {other}"))
        .exits(4)
        .says(&["[receipt.dataset]"]);
    elsewhere(&format!("receipts verify signed --peer {me}")).exits(4).says(&["[receipt.other-peer]", &there]);
    elsewhere("receipts verify signed --peer nobody").exits(2);
    // What is typed wrongly is not held against the file, and nothing is no proof.
    for typed in ["xyz", "", &dataset[..30], &format!("{dataset}00")] {
        let dataset = format!("--dataset={typed}");
        at(&place, "elsewhere", &format!("receipts verify signed --peer {me},{there} {dataset}"))
            .fails("usage.dataset");
    }
    elsewhere(&format!("receipts verify signed --peer {me},{there} --dataset {}", dataset.to_uppercase())).ok();
    place.file("nothing", "");
    elsewhere(&format!("receipts verify nothing --peer {me}")).fails("receipt.none").says(&["nothing was proven"]);
    place.file("summary", place.json("receipts export s").ok().out.lines().last().expect("a summary"));
    elsewhere(&format!("receipts verify summary --peer {me}")).fails("receipt.none");
    elsewhere(&format!("receipts verify none --peer {me}")).exits(2).says(&["[receipt.file]"]);
}

#[test]
fn a_receipt_that_was_altered_is_refused() {
    let (place, lines, [me, there]) = signed();
    let verify = |text: String| {
        place.file("signed", text);
        place.run(&format!("receipts verify signed --peer {me} --peer {there}"))
    };
    verify(lines.replace("\"to_responder\":2", "\"to_responder\":3")).exits(4).says(&["[receipt.altered]", "line 1"]);
    // The bytes too: then a signature does not hold.
    let receipt: Value = serde_json::from_str(lines.trim()).expect("one line");
    let bytes = receipt["bytes"].as_str().expect("bytes");
    let (head, last) = bytes.split_at(bytes.len() - 1);
    let other = format!("{head}{}", if last == "0" { "1" } else { "0" });
    verify(lines.replace(bytes, &other)).exits(4).says(&["[receipt.altered]", "the opener's signature"]);
    verify(lines.replace(bytes, &bytes[..40])).exits(4).says(&["[receipt.malformed]"]);
    verify(format!("{lines}nonsense\n")).exits(4).says(&["[receipt.malformed]", "line 2"]);
    verify(lines).ok();
}

#[test]
fn one_process_with_both_stores_leaves_one_witness_and_says_so() {
    let place = Place::with_file("a.kv", "a\tb\n", "");
    place.run("init b --like s").ok();
    place.run("repair s b").exits(1);
    place.run("check s b").exits(1);
    place.run("receipts list s").ok().says(&["no session has left a receipt"]);
    place.run("repair s b --apply").ok();
    place.run("check s b --receipt").ok();
    place.run("check s b").ok();
    place.run("receipts list b").ok().says(&["one witness", "2 receipts"]);
    let me = place.run("id").ok().out.trim().to_owned();
    place.file("signed", place.run("receipts export b").ok().out);
    place
        .run(&format!("receipts verify signed --peer {me}"))
        .ok()
        .says(&["2 receipts as signed", "2 have one witness"]);
    let listed = place.json("receipts list b --limit 1").ok();
    let first = listed.out.lines().next().expect("a receipt").to_owned();
    let receipt: Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!((&receipt["one_witness"], &receipt["to_responder"]), (&true.into(), &0.into()));
}

#[test]
fn what_an_older_release_exported_is_as_signed_without_what_it_did_not_show() {
    let (place, lines, [me, there]) = signed();
    assert!(lines.contains("\"undone\":0"), "{lines}");
    let verify = |text: String| {
        place.file("signed", text);
        place.run(&format!("receipts verify signed --peer {me} --peer {there}"))
    };
    verify(lines.replace(",\"undone\":0", "")).ok();
    verify(lines.replace("\"undone\":0", "\"undone\":1")).exits(4).says(&["[receipt.altered]"]);
}

#[test]
fn receipts_of_two_tables_are_listed_by_either_and_by_both() {
    let place = Place::new();
    for (file, value) in [("a.db", "x"), ("b.db", "y"), ("c.db", "z")] {
        let database = rusqlite::Connection::open(place.path(file)).expect("a database");
        let rows = format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, '{value}');");
        database.execute_batch(&rows).expect("statements");
    }
    place.run("receipts list sqlite:a.db/t").fails("database.no-index");
    place.run("repair sqlite:a.db/t sqlite:b.db/t --to b --apply --max-change 100%").ok();
    place.run("repair sqlite:b.db/t sqlite:c.db/t --to b --apply --max-change 100%").ok();
    place.run("receipts list sqlite:a.db/t").ok().says(&["in_sync", "one witness", "1 moved", "1 receipt"]);
    place.run("receipts list sqlite:b.db/t").ok().says(&["2 receipts"]);
    place.run("receipts list sqlite:b.db/t sqlite:a.db/t").ok().says(&["1 receipt"]);
    place.run("receipts list sqlite:a.db/t sqlite:c.db/t").ok().says(&["no session has left a receipt here"]);
    place.file("signed", place.run("receipts export sqlite:c.db/t sqlite:b.db/t").ok().out);
    let me = place.run("id").ok().out.trim().to_owned();
    place
        .run(&format!("receipts verify signed --peer {me}"))
        .ok()
        .says(&["1 receipt as signed", "one has one witness"]);
    place.run("init s").ok();
    place.run("receipts list s sqlite:a.db/t").fails("usage.sides");
}
