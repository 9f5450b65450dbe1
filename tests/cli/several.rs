//! `check` of three or more sides: who is the odd one out, in which ranges, or that no majority is.

use serde_json::{Value, json};

use crate::daemon::{Daemon, admit};
use crate::harness::{Place, Ran};
use crate::schema;

/// Stores `a`, `b`, … of one dataset with 100 equal records.
fn equal(names: &[&str]) -> Place {
    let place = Place::new();
    place.file("all.kv", (0..100).map(|n| format!("k{n:03}\tv{n}\n")).collect::<String>());
    place.run(&format!("init {}", names[0])).ok();
    place.run(&format!("import {} all.kv", names[0])).ok();
    for name in &names[1..] {
        place.run(&format!("init {name} --like {}", names[0])).ok();
        place.run(&format!("repair {} {name} --apply", names[0])).ok();
    }
    place
}

/// The ranges and the summary of what was printed, held against the schema.
fn told(ran: &Ran) -> (Vec<Value>, Value) {
    let mut objects = ran.objects();
    schema::holds(&objects);
    let summary = objects.pop().expect("a summary");
    (objects, summary)
}

fn odd(summary: &Value) -> Vec<Value> {
    summary["sides"].as_array().expect("sides").iter().map(|side| side["odd"].clone()).collect()
}

#[test]
fn of_three_the_odd_one_out_is_named_and_of_all_different_that_there_is_no_majority() {
    let place = equal(&["a", "b", "c"]);
    place.run("check a b c").ok().says(&["in sync: 100 records on all 3 sides, root", "of messages"]);
    let (ranges, summary) = told(&place.json("check a b c").ok());
    assert_eq!((ranges, &summary["verdict"], odd(&summary)), (vec![], &json!("in_sync"), vec![json!(0); 3]));
    assert_eq!(place.run("check a b c --quiet").ok().out, "");
    // Only b has what it has; then it lacks something, too.
    place.run("put b k007 other").ok();
    place.run("put b only-b x").ok();
    place.run("delete b k009").ok();
    let ran = place.run("check a b c --settle 0ms").exits(1);
    let ran = ran.says(&[
        "b is the odd one out; a, c agree",
        "differs: 3 keys are not the same on all 3 sides",
        "odd in 3 keys",
    ]);
    // Members are a collection too, and no reason to name the only one of the user's.
    assert!(!ran.out.contains("default"), "{}", ran.out);
    place.run("check a b c --settle 0ms --exit-zero").ok();
    let (ranges, summary) = told(&place.json("check a b c --settle 0ms").exits(1));
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    let range = &ranges[0];
    assert_eq!((&range["odd"], &range["keys"], &range["mixed"]), (&json!(["b"]), &json!(3), &json!(false)));
    assert_eq!((&range["groups"], &range["majority"]), (&json!([["a", "c"], ["b"]]), &json!(true)));
    assert!(range["first"].as_str() < range["last"].as_str());
    assert_eq!(odd(&summary), [0, 3, 0].map(Value::from));
    assert_eq!(summary["agreement"], json!({"centre": "a", "keys": 3, "no_majority": 0, "moved": 0, "ranges": 1}));
    // Whoever is named first: the same is odd.
    let (ranges, summary) = told(&place.json("check b a c --settle 0ms").exits(1));
    assert_eq!((&ranges[0]["odd"], odd(&summary)), (&json!(["a"]), [3, 0, 0].map(Value::from).to_vec()));
    // A key that is another on each side has no majority; the others still do.
    place.run("put a k050 1").ok();
    place.run("put b k050 2").ok();
    place.run("put c k050 3").ok();
    let (ranges, summary) = told(&place.json("check a b c --settle 0ms").exits(1));
    let counted: u64 = ranges.iter().map(|range| range["keys"].as_u64().expect("a number")).sum();
    assert_eq!((counted, &summary["agreement"]["no_majority"]), (4, &json!(1)));
    let none: Vec<&Value> = ranges.iter().filter(|range| range["majority"] == false).collect();
    assert_eq!((none.len(), &none[0]["groups"]), (1, &json!([["a"], ["b"], ["c"]])));
    place.run("check a b c --settle 0ms").exits(1).says(&["1 key: no majority: a | b | c", "3 keys: b is the odd"]);
    // Nothing was written by any of it.
    place.run("get b only-b").ok();
    assert_eq!(place.run("get a only-b").exit, Some(1));
}

#[test]
fn of_four_two_and_two_are_no_majority_and_one_place_counts_once() {
    let place = equal(&["a", "b", "c", "d"]);
    place.file("one.kv", "k001\tx\n");
    place.file("two.kv", "k001\ty\n");
    // What was written once and came by a repair is one version.
    place.run("import a one.kv").ok();
    place.run("repair a b --apply --to b").ok();
    place.run("import c two.kv").ok();
    place.run("repair c d --apply --to b").ok();
    let (ranges, summary) = told(&place.json("check a b c d --settle 0ms").exits(1));
    assert_eq!((ranges.len(), &ranges[0]["majority"], &ranges[0]["odd"]), (1, &json!(false), &json!([])));
    assert_eq!(ranges[0]["groups"], json!([["a", "b"], ["c", "d"]]));
    assert_eq!(odd(&summary), vec![json!(0); 4]);
    place.run("check a b c d --settle 0ms").exits(1).says(&["no majority: a, b | c, d"]);
    // Three of four are one.
    place.run("put a k001 new").ok();
    place.run("repair a b --apply").ok();
    place.run("repair a c --apply").ok();
    let (ranges, _) = told(&place.json("check a b c d --settle 0ms").exits(1));
    assert_eq!((&ranges[0]["odd"], &ranges[0]["groups"]), (&json!(["d"]), &json!([["a", "b", "c"], ["d"]])));
    place.run("check a b ./a").exits(4).says(&["[session.one-store]", "a and c are one place"]);
    let many = ["a"; 17].join(" ");
    place.run(&format!("check {many}")).fails("check.sides");
}

#[test]
fn a_side_that_cannot_be_reached_is_left_out_and_the_others_are_judged() {
    let place = equal(&["a", "b", "c"]);
    admit(&place, "far", "compare");
    place.run("put c k001 other").ok();
    let mut daemon = Daemon::start(&place, "far", &["c"]);
    let address = daemon.address().to_string();
    let (ranges, summary) = told(&place.json(&format!("check {address} a b --settle 0ms")).exits(1));
    assert_eq!((&ranges[0]["odd"], &summary["agreement"]["centre"]), (&json!(["a"]), &json!("b")));
    assert_eq!(summary["sides"][0]["place"], address.as_str());
    daemon.kill();
    let (ranges, summary) = told(&place.json(&format!("check a b {address} --settle 0ms")).exits(2));
    assert_eq!((ranges.len(), &summary["verdict"]), (0, &json!("in_sync")));
    let gone = &summary["sides"][2];
    assert_eq!((&gone["odd"], &gone["root"], gone["error"].is_string()), (&Value::Null, &Value::Null, true));
    let ran = place.run(&format!("check a b {address} --settle 0ms")).exits(2);
    ran.says(&["in sync: 100 records on all 2 sides", "c\tleft out", "is left out:"]);
    place.run("check a nowhere none").exits(2).says(&["[check.nobody]"]);
}

#[test]
fn tables_are_judged_on_what_all_have_in_common() {
    let place = Place::new();
    let all = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'same')";
    let make = |file: &str, statements: &str| {
        let database = rusqlite::Connection::open(place.path(file)).expect("a database");
        database.execute_batch(statements).expect("statements");
    };
    make("a.db", &format!("{all}, (2, 'x');"));
    make("b.db", &format!("{all}, (2, 'x'), (3, 'z');"));
    make("c.db", &format!("{all}, (2, 'y');"));
    place.file("d.csv", "id,v\n1,same\n2,x\n");
    let three = "check sqlite:a.db/t sqlite:b.db/t sqlite:c.db/t";
    let (ranges, summary) = told(&place.json(&format!("{three} --settle 0ms")).exits(1));
    let mut found: Vec<&Value> = ranges.iter().map(|range| &range["odd"]).collect();
    found.sort_by_key(|odd| odd.to_string());
    assert_eq!((found, odd(&summary)), (vec![&json!(["b"]), &json!(["c"])], [0, 1, 1].map(Value::from).to_vec()));
    place.run(&format!("{three} csv:d.csv --settle 0ms")).exits(1).says(&["c is the odd one out; a, b, d agree"]);
    // What was digested as other kinds cannot be set beside each other.
    make("n.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER); INSERT INTO t VALUES (1, 5)");
    make("o.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER); INSERT INTO t VALUES (1, 6)");
    make("r.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, v REAL); INSERT INTO t VALUES (1, 5.0)");
    let kinds = "check sqlite:n.db/t sqlite:o.db/t sqlite:r.db/t --settle 0ms";
    place.run(kinds).exits(4).says(&["[database.shape]", "--ignore"]);
    place.run(&format!("{kinds} --ignore v")).ok();
}

#[test]
fn a_diff_of_three_is_refused_and_says_what_tells_of_them() {
    let place = Place::with_file("a.kv", "k\tv\n", "");
    ["t", "u"].iter().for_each(|store| drop(place.run(&format!("init {store} --like s")).ok()));
    let ran = place.run("diff s t u --settle 0ms").exits(2);
    ran.says(&["[usage.sides]", "3 were typed; nothing was compared", "`reknit check s t u`"]);
}
