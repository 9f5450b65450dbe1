//! Brakes of repairs: what is refused, how it is told, which flags let it pass, and those of a daemon.

use serde_json::json;

use crate::daemon::{Daemon, admit, at};
use crate::harness::{Place, Ran};
use crate::jobs::wait;

/// Stores `a` and `b` with the same records, of which `b` then deleted and changed some.
fn drifted(records: u32, deletes: u32, changes: u32) -> Place {
    let place = Place::new();
    let row = |n: u32, what: &str| format!("k{n:04}\t{what}{n}\n");
    place.file("all.kv", (0..records).map(|n| row(n, "v")).collect::<String>());
    place.run("init a").ok();
    place.run("import a all.kv").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    (0..deletes).for_each(|n| drop(place.run(&format!("delete b k{n:04}")).ok()));
    place.file("changed.kv", (deletes..deletes + changes).map(|n| row(n, "w")).collect::<String>());
    if changes > 0 {
        place.run("import b changed.kv").ok();
    }
    place
}

fn roots(place: &Place) -> (String, String) {
    (place.root("a"), place.root("b"))
}

#[track_caller]
fn refused(place: &Place, line: &str) -> Ran {
    let before = roots(place);
    let ran = place.run(line).exits(4).says(&["[repair.braked]", "wrote 0 records"]);
    assert_eq!(ran.out, "");
    assert_eq!(roots(place), before, "{line} wrote something");
    let summary = place.json(line).exits(4).summary();
    assert_eq!((&summary["verdict"], &summary["wrote"]), (&json!("refused"), &json!(0)));
    assert_eq!(summary["error"], "repair.braked");
    assert!((1..=3).contains(&summary["braked"]["keys"].as_array().expect("keys").len()), "{summary}");
    assert_eq!(place.json("runs list a").ok().summary()["listed"], 0, "no run was begun");
    assert_eq!(roots(place), before, "{line} wrote something");
    ran
}

#[test]
fn many_deletes_are_refused_with_counts_keys_and_the_flag_that_lets_them_pass() {
    let place = drifted(100, 11, 0);
    place.run("repair a b").exits(1).says(&["would write 11 records to a", "wrote 0 records"]);
    let told = ["of the 100 records of a 11 would be deleted, at most 10 may be", "--max-delete 11", "for example k00"];
    refused(&place, "repair a b --apply").says(&told);
    refused(&place, "repair a b --apply --max-delete 10");
    refused(&place, "repair a b --apply --max-delete 10%");
    refused(&place, "repair b a --apply").says(&["records of b 11 would be deleted"]);
    refused(&place, "repair a b --to a --apply").says(&["records of a 11 would be deleted"]);
    place.run("repair a b --apply --max-delete 11").ok().says(&["wrote 11 records to a"]);
    assert_eq!(place.root("a"), place.root("b"));
}

#[test]
fn many_changes_are_refused_and_few_of_either_pass() {
    let place = drifted(300, 0, 101);
    refused(&place, "repair a b --apply").says(&["101 would be overwritten, at most 100 may be", "--max-change 101"]);
    let both = refused(&place, "repair a b --apply --max-change 0.5% --max-delete 0");
    both.says(&["at most 1 may be", "--max-change 101"]);
    place.run("repair a b --apply --max-change 34%").ok().says(&["wrote 101 records to a"]);
    let place = drifted(300, 10, 100);
    place.run("repair a b --apply").ok().says(&["wrote 110 records to a"]);
}

#[test]
fn both_limits_are_told_where_both_are_exceeded() {
    let place = drifted(120, 15, 101);
    refused(&place, "repair a b --apply").says(&["--max-delete 15 --max-change 101"]);
    let summary = place.json("repair a b --apply").exits(4).summary();
    let told = &summary["braked"];
    assert_eq!(
        (&told["deleted"], &told["max_delete"], &told["changed"], &told["max_change"]),
        (&json!(15), &json!(12), &json!(101), &json!(100))
    );
    assert_eq!((&told["side"], &told["flags"]), (&json!("a"), &json!("--max-delete 15 --max-change 101")));
    place.run("repair a b --apply --max-delete 15 --max-change 101").ok();
}

#[test]
fn a_mirror_of_a_side_that_shrank_needs_the_flag_and_filling_one_never_does() {
    let place = drifted(8, 0, 0);
    place.run("init empty --like a").ok();
    // Eight records may be deleted, but not because their copy is gone.
    let line = "repair a empty --to a --mirror --apply";
    place.run(line).exits(4).says(&[
        "b holds 0 records, fewer than half as many",
        "8 would be deleted",
        "--max-delete 8",
    ]);
    assert_eq!(place.json(line).exits(4).summary()["braked"]["shrunken"], 0);
    place.run("repair a empty --apply --max-delete 0 --max-change 0").ok().says(&["8 to b"]);
    place.run("init gone --like a").ok();
    place.run("repair a gone --to a --mirror --apply --max-delete 7").exits(4);
    place.run("repair a gone --to a --mirror --apply --max-delete 8").ok();
    place.run("list a").ok().prints("");
}

#[test]
fn limits_that_are_not_understood_are_named() {
    let place = drifted(3, 0, 0);
    for limit in ["x", "-1", "101%", "1e3", "%"] {
        place.run_args(&["repair", "a", "b", &format!("--max-delete={limit}")]).fails("usage.limit");
        place.run_args(&["repair", "a", "b", "--apply", &format!("--max-change={limit}")]).fails("usage.limit");
        place.run_args(&["serve", "a", &format!("--max-change={limit}")]).fails("usage.limit");
    }
    place.run("serve a --brake-window x").fails("usage.duration");
}

#[test]
fn a_daemon_lets_a_peer_lose_it_only_so_much_within_its_window() {
    let place = drifted(100, 0, 0);
    admit(&place, "far", "compare,read,write");
    let flags = ["--max-delete", "6", "--max-change", "50", "--brake-window", "1h"];
    let daemon = Daemon::start_with(&place, "far", &["b"], &flags);
    let repair = |more: &str| place.run(&format!("repair a {} --apply {more}", daemon.address()));
    let delete = |from: u32, to: u32| (from..to).for_each(|n| drop(place.run(&format!("delete a k{n:04}")).ok()));
    let kept = || at(&place, "far", "list b").ok().out.lines().count();
    delete(0, 4);
    repair("").ok().says(&["4 to b"]);
    // Four of six are used up, whichever session did it, and whatever the opener lets pass.
    delete(4, 7);
    repair("--max-delete 100%").exits(4).says(&["[peer.brakes]", "deleted 7 of at most 6", "wrote 0 records"]);
    assert_eq!(kept(), 96);
    let summary = place.json(&format!("repair a {} --apply", daemon.address())).exits(4).summary();
    assert_eq!((&summary["verdict"], &summary["error"]), (&json!("refused"), &json!("peer.brakes")));
    // What loses nothing goes on.
    place.run("put a k0004 again").ok();
    repair("").ok();
    assert_eq!(kept(), 94);
    // Nothing is remembered by another daemon, and its own words go.
    drop(daemon);
    let daemon = Daemon::start_with(&place, "far", &["b"], &["--max-delete", "100%"]);
    delete(7, 60);
    let line = format!("repair a {} --apply --max-delete 53", daemon.address());
    place.run(&line).ok();
    assert_eq!(kept(), 41);
}

/// A job is a session after the other that nobody looks at: they count together, whoever the other side is.
#[test]
fn runs_of_a_job_lose_a_store_no_more_than_one_of_them_may() {
    let place = drifted(100, 0, 0);
    admit(&place, "far", "compare,read,write");
    let far = Daemon::start(&place, "far", &["b"]);
    place.run("init c --like a").ok();
    place.run("repair a c --apply").ok();
    let jobs = format!(
        "[job.far]\na = '../a'\nb = '{}'\ndo = 'repair'\nto = 'a'\n[job.near]\na = '../a'\nb = '../c'\ndo = 'repair'\nto = 'b'\n",
        far.address()
    );
    place.file("home/config.toml", jobs);
    let daemon = Daemon::start(&place, "home", &[]);
    let run = |job: &str, runs: u64| {
        place.run(&format!("jobs run {job}")).ok();
        wait(&place, job, |job| job["runs"] == runs && job["state"] != "running")
    };
    let delete = |from: u32, to: u32| {
        (from..to).for_each(|n| drop(at(&place, "far", &format!("delete b k{n:04}")).ok()));
    };
    let count = |store: &str| place.run(&format!("list {store}")).ok().out.lines().count();
    delete(0, 8);
    assert_eq!(run("far", 1)["verdict"], "in_sync");
    assert_eq!(run("near", 1)["verdict"], "in_sync");
    assert_eq!((count("a"), count("c")), (92, 92));
    delete(8, 16);
    let refused = run("far", 2);
    assert_eq!(refused["verdict"], "refused", "{refused}");
    place.run("jobs show far").says(&["[repair.braked]", "16 would be deleted, with 8 by sessions of a while before"]);
    assert_eq!(count("a"), 92);
    // Whoever asks by hand has limits of his own; between two stores it is the same.
    place.run(&format!("repair a {} --to a --apply", far.address())).ok();
    assert_eq!(count("a"), 84);
    assert_eq!(run("near", 2)["verdict"], "refused");
    assert_eq!(count("c"), 92);
    // What loses nothing goes on.
    at(&place, "far", "put b other value").ok();
    assert_eq!(run("far", 3)["verdict"], "in_sync");
    // It is forgotten with the process.
    drop(daemon);
    let _daemon = Daemon::start(&place, "home", &[]);
    assert_eq!(run("near", 3)["verdict"], "in_sync");
    assert_eq!(count("c"), 85);
}

#[test]
fn a_window_moves_on() {
    let place = drifted(50, 0, 0);
    admit(&place, "far", "compare,read,write");
    let daemon = Daemon::start_with(&place, "far", &["b"], &["--max-delete", "1", "--brake-window", "0ms"]);
    for n in 0..3 {
        place.run(&format!("delete a k{n:04}")).ok();
        place.run(&format!("repair a {} --apply", daemon.address())).ok();
    }
}

#[test]
fn a_job_that_a_brake_has_stopped_is_told_its_own_keys_and_no_flags() {
    let place = drifted(100, 0, 40);
    place.run("repair a b --apply --max-change 0 --settle 0ms").exits(4).says(&["to let it pass: --max-change 40;"]);
    place.file(
        "home/config.toml",
        "[job.mend]\na = '../a'\nb = '../b'\ndo = 'repair'\nmax_change = 0\nsettle = '0ms'\n",
    );
    let keys = "to let it pass: max_change = 40 in [job.mend];";
    let ran = place.run("run mend").exits(4).says(&[keys]);
    assert!(!ran.err.contains("--max-change"), "{ran:?}");
    let daemon = Daemon::start(&place, "home", &[]);
    place.run("jobs run mend").ok();
    wait(&place, "mend", |job| job["verdict"] == "refused");
    place.run("jobs show mend").ok().says(&[keys]);
    assert!(daemon.end().success());
}
