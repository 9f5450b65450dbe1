//! What a repair and a plan say that they would write is what is written, whatever the policy; and whether the brakes would stop it.

use serde_json::json;

use crate::harness::Place;

/// Stores `a` and `b` of a policy, with rows that were then written apart, and one that `a` alone has.
fn apart(policy: &str) -> Place {
    let place = Place::new();
    place.run_args(&["init", "a", "--policy", policy]).ok();
    let rows = |people: u32| (1..=3).map(|id| format!("{id},{people}\n")).collect::<String>();
    let file = |name: &str, rows: String| drop(place.file(name, format!("id,people\n{rows}")));
    file("a.csv", rows(7) + "4,7\n");
    file("b.csv", rows(8));
    file("all.csv", rows(5));
    place.run("import a all.csv --key id").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    place.run("import a a.csv").ok();
    place.run("import b b.csv").ok();
    place
}

/// Holds what is said before against what is written, by a repair of copies and by a plan.
#[track_caller]
fn told_rightly(place: &Place, flags: &str, (a, b, left): (u64, u64, u64)) {
    let would = json!({ "a": a, "b": b, "left": left });
    assert_eq!(place.json(&format!("repair a b {flags}")).exits(1).summary()["would_write"], would, "{flags}");
    let swapped: Vec<&str> = flags
        .split(' ')
        .map(|word| match word {
            "a" => "b",
            "b" => "a",
            word => word,
        })
        .collect();
    let swapped = swapped.join(" ");
    let told = place.json(&format!("repair b a {swapped}")).exits(1).summary()["would_write"].clone();
    assert_eq!(told, json!({ "a": b, "b": a, "left": left }), "{swapped}");
    std::fs::remove_file(place.path("plan")).unwrap_or_default();
    let planned = place.json(&format!("repair a b {flags} --plan plan")).exits(1).summary();
    assert_eq!(planned["would_write"], would, "{flags}");
    let done = place.json(&format!("repair a b {flags} --apply --max-change 100% --max-delete 100%")).summary();
    let wrote = |side: &str| done[side]["applied"].as_u64().expect("a count");
    assert_eq!((wrote("to_a"), wrote("to_b")), (a, b), "{flags}");
}

#[test]
fn what_would_be_written_is_what_is_written_whatever_is_kept_of_versions() {
    for (policy, flags, counts) in [
        ("newest", "--to both", (3, 1, 0)),
        ("newest", "--to b", (0, 1, 3)),
        ("keep-both", "--to both", (3, 4, 0)),
        ("keep-both", "--to b", (0, 4, 0)),
        ("largest people", "--to both", (3, 4, 0)),
        ("largest people", "--to a", (3, 0, 1)),
        ("ask", "--to b", (0, 4, 0)),
    ] {
        told_rightly(&apart(policy), flags, counts);
    }
}

#[test]
fn the_source_of_a_mirror_is_told_of_the_new_versions_that_it_gets() {
    // What is newer in b already goes to a as it is; what a is to lose or to take back needs a version that both get.
    told_rightly(&apart("newest"), "--mirror --to a", (4, 1, 0));
    told_rightly(&apart("newest"), "--mirror --to b", (3, 4, 0));
    told_rightly(&apart("keep-both"), "--mirror --to a", (4, 4, 0));
    let place = apart("newest");
    let told = "b becomes a by new versions, which go to a too and leave its content as it is";
    place.run("repair a b --mirror --to b").exits(1).says(&["would write 3 records to a and 4 to b", told]);
    place.run("repair a b --mirror --to b --plan plan").exits(1).says(&["3 records to a and 4 to b", told]);
    let plain = place.run("repair a b --to b").exits(1);
    assert!(!plain.out.contains("becomes"), "{plain:?}");
    // Nothing has versions there, and nobody gets any.
    let place = Place::with_file("a.kv", "k\tl\n", "");
    place.run("init bare --profile content").ok();
    place.run("import bare a.kv").ok();
    place.run("init empty --like bare").ok();
    let bare = place.json("repair bare empty --mirror --to a").exits(1).summary();
    assert_eq!(bare["would_write"], json!({ "a": 1, "b": 0, "left": 0 }));
}

#[test]
fn that_the_brakes_would_stop_it_is_told_before() {
    let place = Place::new();
    place.run("init a").ok();
    place.file("all.kv", (0..100).map(|n| format!("k{n:02}\tv\n")).collect::<String>());
    place.run("import a all.kv").ok();
    place.run("init b --like a").ok();
    place.run("init empty --like a").ok();
    place.run("repair a b --apply").ok();
    let free = place.run("repair a empty").exits(1);
    assert!(!free.out.contains("brakes"), "{free:?}");
    (0..11).for_each(|n| drop(place.run(&format!("delete b k{n:02}")).ok()));
    let told = [
        "the brakes would stop it: of the 100 records of a 11 would be deleted, at most 10 may be; for example k",
        "to let it pass: --max-delete 11; wrote 0 records",
    ];
    place.run("repair a b").exits(1).says(&told);
    let braked = place.json("repair a b").exits(1).summary()["braked"].clone();
    let stopped = place.json("repair a b --apply").exits(4).summary()["braked"].clone();
    for field in ["side", "records", "deleted", "max_delete", "changed", "max_change", "flags", "shrunken"] {
        assert_eq!(braked[field], stopped[field], "{field}");
    }
    assert_eq!(braked["side"], "a");
    let swapped = place.json("repair b a").exits(1).summary();
    assert_eq!(swapped["braked"]["side"], "b");
    for flags in ["--max-delete 11", "--to b", "--max-delete 20%"] {
        let passes = place.json(&format!("repair a b {flags}")).exits(1).summary();
        assert!(passes.get("braked").is_none(), "{flags}: {passes}");
    }
    place.run("repair a empty --mirror --to a").exits(1).says(&[
        "the brakes would stop it",
        "b holds 0 records, fewer than half as many",
        "--max-delete 100",
    ]);
}
