//! `check`, `diff` and `repair` between two directories: every verdict, outcome and exit code.

use serde_json::{Value, json};

use crate::harness::{Place, Ran};

/// Stores `a` and `b` of one dataset with 200 equal records, and one another: only in a, only in b, newer in a, newer
/// in b, deleted in b.
fn drifted() -> Place {
    let place = Place::new();
    let lines: String = (0..200).map(|n| format!("k{n:03}\tv{n}\n")).collect();
    place.file("all.kv", lines);
    place.run("init a").ok();
    place.run("import a all.kv").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    for line in ["put a only-a x", "put b only-b x", "put a k001 newer", "put b k002 newer", "delete b k003"] {
        place.run(line).ok();
    }
    place
}

fn counts(ran: &Ran) -> Vec<Value> {
    let summary = ran.summary();
    ["only_a", "only_b", "a_newer", "b_newer"].iter().map(|kind| summary["counts"][kind].clone()).collect()
}

#[test]
fn check_tells_equal_from_different_by_roots_alone() {
    let place = drifted();
    let differs = place.run("check a b --settle 0ms").exits(1).says(&["differs", "about", "keys"]);
    assert!(differs.err.is_empty(), "{differs:?}");
    place.run("check a b --settle 0ms --exit-zero").ok();
    let summary = place.json("check a b --settle 0ms").exits(1).summary();
    assert_eq!((&summary["verdict"], &summary["exit"], &summary["wrote"]), (&json!("differs"), &json!(1), &json!(0)));
    let estimate = &summary["estimate"];
    assert!(estimate["low"].as_u64() <= Some(5) && estimate["high"].as_u64() >= Some(5), "{estimate}");
    place.run("repair a b --apply").ok();
    place.run("check a b").ok().says(&["in sync: 202 records", "1 round trip"]);
    assert_eq!(place.run("check a b --quiet").ok().out, "");
    let summary = place.json("check b a").ok().summary();
    assert_eq!((&summary["verdict"], &summary["roots"]["a"]), (&json!("in_sync"), &summary["roots"]["b"]));
    assert_eq!(summary["scope"], json!(["default"]));
}

#[test]
fn diff_lists_every_difference_and_changes_nothing() {
    let place = drifted();
    let roots = (place.root("a"), place.root("b"));
    let ran = place.json("diff a b --settle 0ms").exits(1);
    let mut found: Vec<(String, String)> = ran
        .objects()
        .iter()
        .filter(|object| object["t"] == "difference")
        .map(|object| {
            assert_eq!(object["state"], "stable");
            (object["key"].as_str().expect("a key").into(), object["op"].as_str().expect("an op").into())
        })
        .collect();
    found.sort();
    let expected =
        [("k001", "a_newer"), ("k002", "b_newer"), ("k003", "b_newer"), ("only-a", "only_a"), ("only-b", "only_b")];
    let expected: Vec<(String, String)> = expected.iter().map(|(key, op)| (key.to_string(), op.to_string())).collect();
    assert_eq!(found, expected);
    assert_eq!(counts(&ran), [1, 1, 1, 2]);
    let text = place.run("diff a b --settle 0ms").exits(1);
    text.says(&["- only-a", "+ only-b", "* k001\tnewer in a", "* k003\tnewer in b, deleted there", "2 newer in b"]);
    let swapped = place.json("diff b a --settle 0ms").exits(1);
    assert_eq!(counts(&swapped), [1, 1, 2, 1]);
    place.run("diff a b --settle 0ms --values").exits(1).says(&["a: newer", "b: v1", "a: v2", "b: newer"]);
    let limited = place.json("diff a b --settle 0ms --limit 2").exits(1);
    assert_eq!((limited.objects().len(), &limited.summary()["printed"]), (3, &json!(2)));
    assert_eq!(counts(&limited), [1, 1, 1, 2], "all are counted");
    assert_eq!((place.root("a"), place.root("b")), roots);
}

#[test]
fn repair_writes_only_when_told_to_and_only_what_differs() {
    let place = drifted();
    let roots = (place.root("a"), place.root("b"));
    let plan = place.json("repair a b --settle 0ms").exits(1).summary();
    assert_eq!(plan["would_write"], json!({ "a": 3, "b": 2, "left": 0 }));
    assert_eq!((&plan["applied"], &plan["wrote"]), (&json!(false), &json!(0)));
    place.run("repair a b --settle 0ms").exits(1).says(&["would write 3 records to a and 2 to b", "--apply"]);
    assert_eq!((place.root("a"), place.root("b")), roots);
    let done = place.json("repair a b --apply").ok().summary();
    assert_eq!((&done["verdict"], &done["wrote"]), (&json!("in_sync"), &json!(5)));
    for side in ["to_a", "to_b"] {
        let moves = |what: &str| done[side][what].as_u64().expect("a count");
        assert_eq!(moves("offered"), moves("applied") + moves("kept") + moves("moved") + moves("refused"));
        assert_eq!(moves("offered"), moves("applied"), "nothing needless travels");
    }
    place.run("get a k003").exits(1);
    place.run("get b k001").ok().prints("newer");
    place.run("repair a b --apply").ok().says(&["nothing to repair"]);
    for store in ["a", "b"] {
        place.run(&format!("verify {store}")).ok();
    }
}

#[test]
fn one_side_alone_may_be_written() {
    let place = drifted();
    let b = place.root("b");
    let summary = place.json("repair a b --to a --apply").exits(1).summary();
    assert_eq!(
        (&summary["verdict"], &summary["to_a"]["applied"], &summary["to_b"]["offered"]),
        (&json!("differs"), &json!(3), &json!(0))
    );
    assert_eq!((&summary["counts"]["left"], place.root("b")), (&json!(2), b), "what only a has is left");
    let a = place.root("a");
    let summary = place.json("repair a b --to b --apply").ok().summary();
    assert_eq!((&summary["verdict"], &summary["to_b"]["applied"]), (&json!("in_sync"), &json!(2)));
    assert_eq!((place.root("a"), place.root("b")), (a.clone(), a));
}

#[test]
fn a_mirror_is_exactly_the_other_side() {
    let place = drifted();
    let export = place.run("export b").ok().out;
    place.run("repair a b --mirror --apply").exits(4).says(&[
        "--to a or --to b",
        "wrote 0 records",
        "repair.mirror-direction",
    ]);
    let plan = place.json("repair a b --mirror --to a").exits(1).summary();
    // What was newer in a, or there alone, is superseded by new versions that b gets too.
    assert_eq!(plan["would_write"], json!({ "a": 5, "b": 2, "left": 0 }));
    place.run("repair a b --mirror --to a --apply").ok().says(&["in sync", "wrote 5 records to a and 2 to b"]);
    assert_eq!(place.run("export a").ok().out, export, "deletes and overwrites included");
    assert_eq!(place.run("export b").ok().out, export);
    place.run("get a only-a").exits(1);
    place.run("put a again x").ok();
    place.run("repair b a --mirror --to a --apply").ok();
    place.run("get b again").ok().prints("x");
}

#[test]
fn a_budget_ends_with_what_is_known_then() {
    let place = drifted();
    let lines: String = (0..3000).map(|n| format!("n{n:05}\tv{n}\n")).collect();
    place.file("more.kv", lines);
    place.run("import a more.kv").ok();
    place.run("repair a b --apply").ok();
    let changed: String = (0..100).map(|n| format!("n{n:05}\tnew\n")).collect();
    place.file("changed.kv", changed);
    place.run("import a changed.kv").ok();
    let summary = place.json("diff a b --settle 0ms --max-bytes 6kB").exits(3).summary();
    let coverage = summary["coverage"].as_f64().expect("a share");
    assert!(summary["verdict"] == "partial" && coverage > 0.1 && coverage < 1.0, "{summary}");
    place.run("diff a b --max-bytes 6kB").exits(3).says(&["partial", "%"]);
    let summary = place.json("check a b --max-time 0s").exits(3).summary();
    // How far it came in no time is the scheduler's choice; that it proved nothing is not.
    assert!(summary["verdict"] == "undetermined" || summary["verdict"] == "partial", "{summary}");
    assert_eq!(summary["wrote"], 0);
    place.run("repair a b --apply").ok();
    for line in ["check a b --max-bytes x", "check a b --max-time never", "check a b --settle 1h"] {
        place.run(line).exits(2).says(&["usage."]);
    }
}

#[test]
fn quiet_prints_nothing_on_0_and_the_result_otherwise() {
    let mut place = drifted();
    place.vars = vec![("REKNIT_QUIET", "true".into()), ("REKNIT_SETTLE", "0ms".into())];
    for command in ["check a b", "diff a b", "repair a b"] {
        place.run(command).exits(1).says(&["differs"]);
        let ran = place.run(&format!("{command} --exit-zero")).ok();
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""), "{command}");
    }
    for command in ["repair a b --apply", "repair a b", "diff a b", "check a b", "check a b --format json"] {
        let ran = place.run(command).ok();
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""), "{command}");
    }
}

#[test]
fn status_exits_as_the_worst_of_the_last_verdicts() {
    let place = drifted();
    place.run("status").ok().says(&["b: in_sync", "(repair "]);
    place.run("diff a b --settle 0ms").exits(1);
    place.run("status").exits(1).says(&["differs, 5 differed"]);
    place.run("status --exit-zero").ok();
    place.run("diff a b --max-bytes 1").exits(3);
    place.run("status --exit-zero").exits(3);
    place.run("check b a --settle 0ms").exits(1);
    assert_eq!(place.json("status").exits(1).summary()["pairs"].as_array().map(Vec::len), Some(2), "1 goes before 3");
    place.run("init other").ok();
    place.run("check a other").exits(4);
    place.run("status").exits(4).says(&["other: refused"]);
}

#[test]
fn a_document_holds_what_the_lines_hold() {
    let place = drifted();
    let lines = place.json("diff a b --settle 0ms").exits(1).objects();
    let ran = place.run("diff a b --settle 0ms --format json").exits(1);
    let document: Value = serde_json::from_str(&ran.out).expect("one document");
    assert_eq!(document["items"].as_array().expect("items"), &lines[..lines.len() - 1]);
    assert_eq!(document["summary"]["counts"], lines[lines.len() - 1]["counts"]);
    let refused: Value = serde_json::from_str(&place.run("diff a a --format json").exits(4).out).expect("one document");
    assert_eq!((&refused["summary"]["error"], &refused["summary"]["exit"]), (&json!("session.one-store"), &json!(4)));
}

/// Waits until a command listens for interrupts, then sends it one until it ends.
#[cfg(target_os = "linux")]
fn interrupted(place: &Place, line: &str, signal: &str) -> Ran {
    let mut command = place.command(&line.split_whitespace().collect::<Vec<_>>());
    let mut child = command.env("REKNIT_FORMAT", "jsonl").spawn().expect("the binary");
    let (pid, pause) = (child.id(), || std::thread::sleep(std::time::Duration::from_millis(5)));
    // The mask of signals that are caught: 2 is SIGINT, 15 is SIGTERM.
    let caught = |status: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        mask & (1 << 1) != 0 && mask & (1 << 14) != 0
    };
    while !caught(&std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs")) {
        assert_eq!(child.try_wait().expect("asked"), None, "it ended before it was interrupted");
        pause();
    }
    while child.try_wait().expect("asked").is_none() {
        std::process::Command::new("kill").args([signal, &pid.to_string()]).output().expect("kill");
        pause();
    }
    Ran::of(child.wait_with_output().expect("its end"))
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupted_session_says_so_and_goes_on_when_run_again() {
    let place = drifted();
    for (signal, exit) in [("-INT", 130), ("-TERM", 143)] {
        // The difference is given minutes to settle: there is time to interrupt.
        let ran = interrupted(&place, "diff a b --settle 5m", signal).exits(exit);
        let summary = ran.summary();
        assert_eq!((&summary["exit"], &summary["wrote"]), (&json!(exit), &json!(0)));
        assert_ne!(summary["verdict"], "in_sync");
        assert_ne!(summary["verdict"], "differs", "nothing is known to stand still yet");
    }
    place.run("diff a b --settle 0ms").exits(1);
}

#[test]
fn what_cannot_be_compared_is_refused_and_nothing_changes() {
    let place = drifted();
    place.run("init other").ok();
    place.run("init content --profile content --name a").ok();
    let root = place.root("a");
    for (b, words) in [("other", "other holds the dataset other ("), ("content", "content holds the dataset a (")] {
        let ran = place.run(&format!("repair a {b} --apply")).exits(4);
        // Two may have one name: the ids tell them apart.
        let ids = ["a", b].map(|side| place.json(&format!("dataset show {side}")).ok().summary()["dataset_id"].clone());
        let ids = ids.each_ref().map(|id| id.as_str().expect("an id"));
        ran.says(&[words, "a holds the dataset a (", ids[0], ids[1], "wrote 0 records", "[session.dataset]"]);
    }
    // The same dataset, of which one side was told that digests cover content alone.
    place.run("init versioned --no-members").ok();
    place.run("dataset export versioned a.dataset").ok();
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    // MessagePack puts the length before a text: a9 Versioned, a7 Content.
    let (versioned, content) = (format!("a9{}", hex("Versioned")), format!("a7{}", hex("Content")));
    let file = place.read("a.dataset");
    assert!(file.contains(&versioned), "{file}");
    place.file("c.dataset", file.replace(&versioned, &content));
    place.run("dataset import c.dataset c").ok();
    let c = place.root("c");
    for words in ["check A c", "check c A", "repair A c --apply", "repair A c --mirror --to b --apply"] {
        place.run(&words.replace('A', "versioned")).exits(4).says(&[
            "definitions",
            "profile",
            "wrote 0 records",
            "[session.definition]",
        ]);
    }
    assert_eq!(place.root("c"), c);
    place.run("repair a a --apply").exits(4).says(&["session.one-store", "one store"]);
    place.run("repair a ./a --apply").exits(4).says(&["session.one-store"]);
    place.run("check a nowhere").fails("store.none").says(&["nowhere"]);
    place.run("check a mysql://x/y").fails("usage.scheme").says(&["mysql://"]);
    place.run("check a quic://nonsense").fails("usage.address");
    place.run("check a b --collection users").fails("store.no-collection").says(&["users", "default"]);
    place.run("diff a b --collection default --settle 0ms").exits(1);
    assert_eq!(place.root("a"), root);
}

#[test]
fn a_restored_backup_is_a_replica_of_its_own() {
    let place = drifted();
    place.run("backup a saved").ok();
    place.run("restore saved again").ok();
    place.run("put again k2 y").ok();
    place.run("put a k1 x").ok();
    place.run("repair a again --apply").ok().says(&["in sync"]);
    place.run("get a k2").ok().prints("y");
    place.run("get again k1").ok().prints("x");
}
