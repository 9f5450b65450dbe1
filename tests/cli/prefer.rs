//! Repairs that prefer a side: which values win, what is told before and after, and what goes with it.

use serde_json::json;

use crate::daemon::{Daemon, admit, at};
use crate::harness::Place;

/// Stores `a` and `b` of which both were written apart at `k1` and `k2`, `b` last, and one alone at the other keys.
fn apart(init: &str) -> Place {
    let place = Place::new();
    place.file("all.kv", "k1\tone\nk2\ttwo\nk3\tthree\nk4\tfour\n");
    for line in ["init a", "import a all.kv", "init b --like a", "repair a b --apply"] {
        place.run(&if line == "init a" { format!("init a {init}") } else { line.to_string() }).ok();
    }
    for line in ["put a k1 a1", "put a k2 a2", "put a k3 a3", "put a only-a x"] {
        place.run(line).ok();
    }
    for line in ["put b k1 b1", "delete b k2", "put b k4 b4"] {
        place.run(line).ok();
    }
    place
}

const A_WINS: &str = "k1\ta1\nk2\ta2\nk3\ta3\nk4\tb4\nonly-a\tx\n";
const B_WINS: &str = "k1\tb1\nk3\ta3\nk4\tb4\nonly-a\tx\n";

#[test]
fn the_side_that_is_preferred_wins_where_both_were_written_apart() {
    for (init, line, export) in [
        ("--policy newest", "repair a b --prefer a", A_WINS),
        ("--policy newest", "repair a b --prefer b", B_WINS),
        ("--policy newest", "repair b a --prefer b", A_WINS),
        ("--policy keep-both", "repair a b --prefer a", A_WINS),
        ("--policy ask", "repair a b --prefer b", B_WINS),
    ] {
        let place = apart(init);
        place.run("backup b saved").ok();
        let roots = (place.root("a"), place.root("b"));
        let side = line.rsplit(' ').next().expect("a side");
        let told = place.run(line).exits(1);
        drop(told.says(&["wrote 0 records", &format!("the value of {side} would win in 2 keys written apart")]));
        let plan = place.json(line).exits(1).summary();
        // Both sides get a new version of two keys, and each what only the other wrote.
        let (to_a, to_b) = if line.starts_with("repair a") { (3, 4) } else { (4, 3) };
        assert_eq!(plan["would_write"], json!({ "a": to_a, "b": to_b, "left": 0 }), "{line}");
        assert_eq!((place.root("a"), place.root("b")), roots);
        let done = place.run(&format!("{line} --apply")).ok();
        done.says(&["in sync", "to undo it in a", &format!("the value of {side} wins in 2 keys written apart")]);
        assert_eq!(place.root("a"), place.root("b"));
        place.run("export a").ok().prints(export);
        place.run("export b").ok().prints(export);
        place.run("conflicts list a").ok();
        place.run(&format!("{line} --apply")).ok().says(&["nothing to repair"]);
        // It has seen both: a replica that holds what lost takes it, in a repair that prefers nothing.
        place.run("restore saved again").ok();
        place.run("repair again a --apply").ok();
        place.run("export again").ok().prints(export);
        place.run("verify a").ok();
    }
}

/// Nothing tells there which content is the newer one.
#[test]
fn under_the_content_profile_the_preferred_side_wins_wherever_both_have_some() {
    let place = apart("--profile content");
    place.run("repair a b --apply").exits(1);
    let plan = place.json("repair a b --prefer b").exits(1).summary();
    assert_eq!(plan["would_write"], json!({ "a": 3, "b": 0, "left": 0 }));
    let done = place.run("repair a b --prefer b --apply").ok();
    done.says(&["in sync", "wrote 3 records to a and 0 to b", "the value of b wins in 3 keys written apart"]);
    let export = "k1\tb1\nk2\ta2\nk3\tthree\nk4\tb4\nonly-a\tx\n";
    place.run("export a").ok().prints(export);
    place.run("export b").ok().prints(export);
}

#[test]
fn what_was_overwritten_so_can_be_undone_and_the_run_says_who_was_preferred() {
    let place = apart("--policy newest");
    let before = place.run("export b").ok().out;
    place.run("repair a b --prefer a --apply").ok().says(&["reknit runs undo b"]);
    let last = |store: &str| place.json(&format!("runs list {store}")).ok().objects().swap_remove(0);
    assert_eq!(last("a")["policy"], "both sides are written, this one is preferred; newest/1");
    let last = last("b");
    assert_eq!(last["policy"], "both sides are written, the other one is preferred; newest/1");
    place.run(&format!("runs undo b {}", last["run"].as_str().expect("a number"))).ok();
    place.run("export b").ok().prints(&before);
}

#[test]
fn brakes_count_what_preferring_a_side_overwrites() {
    let place = apart("--policy keep-both");
    let roots = (place.root("a"), place.root("b"));
    // Of b one value is overwritten by the one that wins, and one by a newer one of a's.
    let line = "repair a b --prefer a --apply --max-change";
    place.run(&format!("{line} 1")).exits(4).says(&["[repair.braked]", "records of b 2 would be overwritten"]);
    assert_eq!((place.root("a"), place.root("b")), roots);
    place.run(&format!("{line} 2")).ok();
    place.run("export b").ok().prints(A_WINS);
}

#[test]
fn it_writes_both_sides_and_is_refused_with_what_does_not() {
    let place = apart("--policy newest");
    let roots = (place.root("a"), place.root("b"));
    for other in ["--to a", "--to b", "--to b --mirror", "--plan night.plan"] {
        for apply in ["", " --apply"] {
            let line = format!("repair a b --prefer a {other}{apply}");
            place.run(&line).exits(4).says(&["[repair.prefer]", "wrote 0 records"]);
        }
    }
    place.run("repair a b --prefer both").exits(2);
    assert_eq!((place.root("a"), place.root("b")), roots);
    assert!(!place.path("night.plan").exists());
    place.run("repair a b --to both --prefer a --apply").ok();
}

#[test]
fn a_node_that_holds_the_session_prefers_the_same_side() {
    let place = apart("--policy newest");
    admit(&place, "first", "a=compare,read,write,operate");
    admit(&place, "second", "compare,read,write");
    let first = at(&place, "first", "id").ok().out;
    at(&place, "second", &format!("peers add {} --may compare,read,write", first.trim())).ok();
    let (a, b) = (Daemon::start(&place, "first", &["a"]), Daemon::start(&place, "second", &["b"]));
    let line = format!("repair {} {} --prefer a", a.address(), b.address());
    let plan = place.json(&line).exits(1).summary();
    assert_eq!(plan["would_write"], json!({ "a": 3, "b": 4, "left": 0 }));
    place.run(&format!("{line} --apply")).ok().says(&["in sync", "the value of a wins in 2 keys"]);
    at(&place, "second", "get b k1").ok().prints("a1");
    at(&place, "first", "get a k2").ok().prints("a2");
}
