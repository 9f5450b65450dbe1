//! Runs of repairs: listed, shown, undone, bounded; and the history of a key.

use std::panic::{AssertUnwindSafe, catch_unwind};

use reknit::core::journal::RunId;
use reknit::store::{Options, Store, Undo};

use crate::daemon::{Daemon, admit, at};
use crate::harness::Place;

/// Two stores `a` and `b`, of which a repair has just brought an overwrite, a delete and an insert of b's into a.
fn repaired() -> Place {
    let place = Place::new();
    place.run("init a").ok();
    place.run("init b --like a").ok();
    ["put a k1 one", "put a k2 two", "put a k3 three", "repair a b --apply"]
        .iter()
        .for_each(|line| drop(place.run(line).ok()));
    ["put b k1 new", "delete b k2", "put b k4 four"].iter().for_each(|line| drop(place.run(line).ok()));
    place
}

#[test]
fn a_repair_is_undone_and_repairs_pause_until_resumed() {
    let place = repaired();
    let (before, root) = (place.run("export a").ok().out, place.root("a"));
    place.run("repair a b --apply").ok().says(&["reknit runs undo a 1"]);
    let listed = place.run("runs list a").ok();
    listed.says(&[
        "1\trepair with ",
        "3 changes, 2 of known keys\tin_sync\t",
        " ago\t",
        "both sides are written; newest/1",
        "1 runs",
    ]);
    place.run("runs show a 1").ok().says(&["* k1\toverwrote", "- k2\tdeleted", "+ k4\tinserted"]);
    place.run("runs undo a 1").ok().says(&["as run 2: 3 changes put back, 0 skipped", "reknit resume a"]);
    assert_eq!((place.run("export a").ok().out, place.root("a")), (before, root));
    place.run("verify a").ok();
    for line in ["repair a b --apply", "repair b a --apply", "runs undo a 1"] {
        place.run(line).exits(4).says(&["wrote 0 records"]);
    }
    for line in ["runs undo a 9", "runs undo a 9 --everywhere"] {
        place.run(line).exits(4).says(&["[journal.no-run]", "wrote 0 records"]);
    }
    place.run("runs show a 9").fails("journal.no-run");
    place.run("check a b").exits(1);
    place.run("diff a b").exits(1).says(&["k4"]);
    place.run("resume a").ok().says(&["run 2"]);
    place.run("resume a").exits(1);
    place.run("repair a b --apply").ok();
    place.run("get a k4").ok().prints("four");
}

/// What a run did to a key is told by what it left there, as long as that is there.
#[test]
fn a_run_says_of_each_key_what_it_did_to_it() {
    let place = repaired();
    // A deletion of what was never here, and the same value anew.
    place.run("put b k5 five").ok();
    ["delete b k5", "put b k3 three"].iter().for_each(|line| drop(place.run(line).ok()));
    place.run("repair a b --apply").ok().says(&["reknit runs undo a 1"]);
    let shown = place.run("runs show a 1").ok();
    shown.says(&["* k1\toverwrote", "- k2\tdeleted", "* k3\tchanged", "+ k4\tinserted", "- k5\tdeleted"]);
    place.run("put b k2 again").ok();
    place.run("repair a b --apply").ok();
    place.run("runs show a 2").ok().says(&["+ k2\trevived"]);
    // Of what was written since, only what there was is known.
    ["put a k1 mine", "delete a k4"].iter().for_each(|line| drop(place.run(line).ok()));
    place.run("runs show a 1").ok().says(&["* k1\tchanged", "* k2\tchanged", "+ k4\tinserted"]);
    let ops = place.json("runs show a 1").ok().objects();
    assert!(ops.iter().any(|object| object["key"] == "k1" && object["op"] == "changed"), "{ops:?}");
    // An undo is shown likewise.
    place.run("runs undo a 2").ok();
    place.run("runs show a 3").ok().says(&["- k2\tdeleted"]);
}

/// Of keys that come together the journal keeps no list: those that were written since are told by their number.
#[test]
fn a_run_that_filled_a_store_says_how_many_of_its_keys_were_written_since() {
    let place = Place::with_file("all.kv", &(0..100).map(|n| format!("k{n:03}\tv\n")).collect::<String>(), "");
    place.run("init a --like s").ok();
    place.run("repair a s --apply").ok();
    let shown = place.run("runs show a 1").ok().says(&["+ k042\tinserted", "100 changes, 0 of known keys"]);
    assert!(!shown.out.contains("written since"), "{}", shown.out);
    place.run("put a k042 w").ok();
    place.run("delete a k043").ok();
    place.run("runs show a 1").ok().says(&["+ k044\tinserted", "and 2 that were written since"]);
    place.run("runs show a 1 --limit 5").ok();
}

#[test]
fn a_key_that_was_written_since_is_skipped_and_an_undo_is_undone() {
    let place = repaired();
    place.run("repair a b --apply").ok();
    place.run("put a k1 later").ok();
    place.run("runs undo a 1").ok().says(&["! k1\twritten since", "2 changes put back, 1 skipped"]);
    place.run("export a").ok().prints("k1\tlater\nk2\ttwo\nk3\tthree\n");
    place.run("runs undo a 2").ok();
    place.run("export a").ok().prints("k1\tlater\nk3\tthree\nk4\tfour\n");
    place.run("verify a").ok();
}

#[test]
fn an_undo_everywhere_wins_on_the_other_side_too() {
    let place = repaired();
    let before = place.run("export a").ok().out;
    place.run("repair a b --apply").ok();
    place.run("runs undo a 1 --everywhere").ok().says(&["3 changes put back"]);
    place.run("repair a b --apply").ok();
    place.run("export a").ok().prints(&before);
    place.run("export b").ok().prints(&before);
}

/// Run 2 changed both keys, run 3 one of them again.
#[test]
fn what_an_undo_skipped_comes_back_once_nothing_stands_over_it() {
    let place = repaired();
    place.run("repair a b --apply").ok();
    for (key, run) in [("k1", 2), ("k3", 2), ("k1", 3)] {
        place.run(&format!("put b {key} by-{run}")).ok();
        if (key, run) != ("k1", 2) {
            place.run("repair a b --apply").ok();
        }
    }
    place.run("runs undo a 2").ok().says(&["as run 4: 1 changes put back, 1 skipped", "! k1\twritten since"]);
    place.run("runs undo a 2 --everywhere").exits(4).says(&["[journal.undone]", "by run 4", "undo run 4 first"]);
    place.run("runs undo a 3").ok();
    place.run("export a").ok().prints("k1\tby-2\nk3\tthree\nk4\tfour\n");
    let again = place.run("runs undo a 2").ok().says(&["as run 6: 1 changes put back, 0 skipped"]);
    assert!(!again.out.contains("written since"), "what is back already is not told: {}", again.out);
    place.run("export a").ok().prints("k1\tnew\nk3\tthree\nk4\tfour\n");
    place.run("runs undo a 2").exits(4).says(&["[journal.undone]", "by run 6 and run 4", "undo run 6 and run 4 first"]);
    // What the message says helps.
    place.run("runs undo a 6").ok();
    place.run("runs undo a 4").ok();
    place.run("export a").ok().prints("k1\tby-2\nk3\tby-2\nk4\tfour\n");
    place.run("runs undo a 2 --everywhere").ok().says(&["as run 9: 2 changes put back, 0 skipped"]);
    place.run("resume a").ok();
    place.run("repair a b --apply").ok();
    place.run("export b").ok().prints("k1\tnew\nk3\tthree\nk4\tfour\n");
    place.run("verify a").ok();
}

#[test]
fn an_undo_that_stands_is_told_from_one_that_was_undone() {
    let place = repaired();
    place.run("repair a b --apply").ok();
    place.run("put a k1 later").ok();
    place.run("runs undo a 1").ok();
    let line = |run: u64| {
        let listed = place.run("runs list a").ok().out;
        listed.lines().find(|line| line.starts_with(&format!("{run}\t"))).expect("a run").to_owned()
    };
    let state = |run: u64| {
        let summary = place.json(&format!("runs show a {run}")).ok().summary();
        (summary["state"].clone(), summary["undone_by"].clone())
    };
    assert!(line(1).contains("\tundone by run 2, 1 skipped\t"), "{}", line(1));
    assert!(line(2).contains("\tdone\t"), "{}", line(2));
    assert_eq!(state(1), ("undone".into(), "2".into()));
    assert_eq!(state(2), ("done".into(), serde_json::Value::Null));
    place.run("runs undo a 2").ok();
    assert!(line(1).contains("\tin_sync\t"), "run 1 is in force again: {}", line(1));
    assert!(line(2).contains("\tundone by run 3\t"), "{}", line(2));
    assert!(line(3).contains("\tdone\t"), "{}", line(3));
    assert_eq!(state(1), ("in_sync".into(), serde_json::Value::Null));
    assert_eq!(state(2), ("undone".into(), "3".into()));
    place.run("history a k2").ok().says(&[
        "replaced by run 2 (undo)",
        "replaced by run 3 (undo)",
        "replaced by run 1 (",
    ]);
    let kinds = place.json("history a k2").ok().objects();
    assert!(kinds.iter().any(|object| object["kind"] == "undo" && object["replaced_by"] == "3"), "{kinds:?}");
}

#[test]
fn keys_of_several_collections_are_told_with_theirs() {
    let place = Place::new();
    place.run("init a --collection items --collection titles").ok();
    place.run("init b --like a").ok();
    for of in ["items", "titles"] {
        place.run(&format!("put b k 1 --collection {of}")).ok();
    }
    place.run("repair a b --apply").ok();
    place.run("runs show a 1").ok().says(&["+ k in items\tinserted", "+ k in titles\tinserted"]);
    place.run("put a k 2 --collection titles").ok();
    let undone = place.run("runs undo a 1").ok().says(&["! k in titles\twritten since", "1 skipped"]);
    assert!(!undone.out.contains("in items"), "{}", undone.out);
}

/// Both ways an undo of one kind and then of the other would be told as what it is not.
#[test]
fn an_undo_that_was_cut_short_goes_on_as_it_began_and_not_otherwise() {
    for (how, began, other) in [(Undo::Here, "", " --everywhere"), (Undo::Everywhere, " --everywhere", "")] {
        let place = repaired();
        place.run("repair a b --apply").ok();
        let store = Store::open(&place.path("a"), &Options::default()).expect("opened");
        let cut = AssertUnwindSafe(|| store.undo(RunId(1), how, &mut |_| (), &mut |_| panic!("cut short")));
        assert!(catch_unwind(cut).is_err());
        drop(store);
        place.run("runs list a").ok().says(&["being undone"]);
        let (held, paused) = (place.run("export a").ok().out, how == Undo::Here);
        let go_on = format!("`reknit runs undo STORE 1{began}`");
        let refused = place.run(&format!("runs undo a 1{other}")).exits(4);
        refused.says(&["[journal.being-undone]", "by run 2", &go_on, "wrote 0 records"]);
        assert_eq!(place.run("export a").ok().out, held);
        let done = place.json(&format!("runs undo a 1{began}")).ok().summary();
        assert_eq!((&done["restored"], &done["everywhere"]), (&3.into(), &(!paused).into()));
        assert_eq!(done["paused_by"].is_string(), paused);
        place.run("export a").ok().prints("k1\tone\nk2\ttwo\nk3\tthree\n");
        place.run("verify a").ok();
    }
}

#[test]
fn a_full_journal_refuses_and_age_makes_room() {
    let place = repaired();
    place.run("runs limit b --bytes 1").ok().says(&["of at most 1 B"]);
    let roots = (place.root("a"), place.root("b"));
    place.run("repair a b --apply").exits(4).says(&["[journal.full]", "wrote 0 records", "runs limit"]);
    assert_eq!((place.root("a"), place.root("b")), roots);
    place.run("runs list b").ok().says(&["1 runs"]);
    place.run("runs limit b --bytes 1MiB --age 0s").ok();
    place.run("runs limit b --age 30d").ok();
    place.run("repair a b --apply").ok();
}

/// What did not fit any more was not written either.
#[test]
fn a_journal_that_fills_in_the_middle_of_a_repair_stops_it_and_all_of_it_can_be_put_back() {
    let row = |n: u32, what: &str| format!("k{n:05}\t{}\n", what.repeat(100));
    let place = Place::with_file("a.kv", &(0..6000).map(|n| row(n, "one")).collect::<String>(), "");
    place.run("init b --like s").ok();
    place.run("repair s b --apply").ok();
    let before = (place.root("b"), place.run("export b").ok().out);
    place.file("new.kv", (0..6000).map(|n| row(n, "two")).collect::<String>());
    place.run("import s new.kv").ok();
    place.run("runs limit b --bytes 300KiB").ok();
    let repair = "repair s b --to b --apply --max-change 100%";
    place.run(repair).exits(4).says(&["[journal.full]", "runs limit"]);
    let count = |what: &str| place.run("export b").ok().out.lines().filter(|line| line.contains(what)).count();
    let written = count("two");
    assert!(written > 0 && written < 6000 && written + count("one") == 6000, "{written}");
    let runs = place.json("runs list b").ok().objects();
    let last = runs.iter().find(|run| run["t"] == "run").expect("a run");
    assert_eq!(last["overwritten"], written, "{last}");
    place.run("verify b").ok();
    // An undo is a run too. With room it puts all of it back, and the same repair goes on.
    let undo = format!("runs undo b {}", last["run"].as_str().expect("an id"));
    place.run(&undo).exits(4).says(&["[journal.full]"]);
    assert_eq!(count("two"), written);
    place.run("runs limit b --bytes 100MiB").ok();
    place.run(&undo).ok();
    assert_eq!((place.root("b"), place.run("export b").ok().out), before);
    place.run("resume b").ok();
    place.run(repair).ok();
    assert_eq!(count("two"), 6000);
}

#[test]
fn a_key_has_a_history() {
    let place = repaired();
    place.run("repair a b --apply").ok();
    let ran = place.run("history a k1 --values").ok();
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    assert!(lines[0].ends_with("there now\tnew"), "{ran:?}");
    assert!(lines[1].contains("replaced by run 1") && lines[1].ends_with("\tone"), "{ran:?}");
    place.run("history a nothing").exits(1);
}

#[test]
fn what_is_written_over_is_kept_if_a_store_is_told_to() {
    let place = Place::with_file("a.kv", "k\tone\n", "");
    place.run("put s k unkept").ok();
    place.run("runs limit s --keep-history 30d").ok().says(&["ordinary writes replaced", "30 d"]);
    place.run("put s k two").ok();
    place.run("delete s k").ok();
    place.run("history s k --values").ok().says(&["two", "unkept", "replaced by a write here", "there now"]);
    let ran = place.run("history s k --values").ok();
    assert!(!ran.out.contains("one"), "{}", ran.out);
    place.run("runs list s").ok().says(&["written", "2 changes, 2 of known keys", "kept"]);
    place.run("runs undo s 1").exits(4).says(&["[journal.no-undo]", "history"]);
    place.run("verify s").ok();
    place.run("runs limit s --keep-history 1KiB").ok().says(&["at most 1.0 kB"]);
    place.run("runs limit s --keep-history soon").fails("usage.limit").says(&["30d, 256MiB or off"]);
    place.run("runs limit s --keep-history off").ok().says(&["dropped 1 runs"]);
    place.run("history s k").ok().says(&["deleted"]);
}

/// What a peer writes into a served store is a run of that store, and is undone as any other, by the daemon or without it.
#[test]
fn a_run_of_a_peer_in_a_served_store_is_undone_while_the_daemon_runs_and_when_it_does_not() {
    let place = Place::new();
    ["init a", "init b --like a", "put a k1 one", "put a k2 two", "repair a b --apply"]
        .iter()
        .for_each(|line| drop(place.run(line).ok()));
    let (before, mine) = (place.run("export b").ok().out, place.run("id").ok().out.trim().to_owned());
    admit(&place, "there", "compare,read,write");
    let mut changed = [("k1", "1"), ("k1", "2")].into_iter();
    for running in [true, false] {
        let (key, value) = changed.next().expect("two rounds");
        ["delete a k2", &format!("put a {key} {value}"), "put a k3 three"]
            .iter()
            .for_each(|line| drop(place.run(line)));
        let daemon = Daemon::start(&place, "there", &["b"]);
        place.run(&format!("repair a {} --apply", daemon.address())).ok();
        let after = at(&place, "there", "export b").ok().out;
        assert_eq!(after, format!("k1\t{value}\nk3\tthree\n"));
        // The newest run is the peer's.
        let runs = at(&place, "there", "runs list b --format jsonl").ok().objects();
        let run = runs.iter().filter(|one| one["peer"].as_str() == Some(&mine)).map(run_of).max();
        let run = run.expect("a run of the peer");
        let daemon = running.then_some(daemon);
        at(&place, "there", &format!("runs show b {run}")).ok().says(&["* k1\toverwrote", "- k2\tdeleted", "+ k3"]);
        let undone = at(&place, "there", &format!("runs undo b {run}")).ok();
        undone.says(&["3 changes put back, 0 skipped", "reknit resume b"]);
        assert_eq!(at(&place, "there", "export b").ok().out, before, "running: {running}");
        at(&place, "there", "verify b").ok();
        // Until it is said otherwise no peer writes there again.
        let daemon = daemon.unwrap_or_else(|| Daemon::start(&place, "there", &["b"]));
        let refused = place.run(&format!("repair a {} --to b --apply", daemon.address())).exits(3);
        refused.says(&["paused"]);
        assert_eq!(at(&place, "there", "export b").ok().out, before);
        at(&place, "there", "resume b").ok();
        // The other side is made as this one was, for the next round.
        ["put a k1 one", "put a k2 two", "delete a k3"].iter().for_each(|line| drop(place.run(line).ok()));
        place.run(&format!("repair a {} --apply", daemon.address())).ok();
        assert_eq!(at(&place, "there", "export b").ok().out, before);
    }
}

fn run_of(run: &serde_json::Value) -> u64 {
    let number = &run["run"];
    number.as_u64().or_else(|| number.as_str()?.parse().ok()).expect("a number")
}
