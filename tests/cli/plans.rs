//! Plans: written, refused for every reason, carried out on stores here and there, and only where nothing moved.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::daemon::{Daemon, admit, at};
use crate::harness::Place;

/// Stores `a` and `b` that differ in nine keys: three only in each, two changed in `b`, one deleted in `b`.
fn drifted() -> Place {
    let place = Place::new();
    let rows = |from: u32, to: u32, what: &str| (from..to).map(|n| format!("k{n:03}\t{what}{n}\n")).collect::<String>();
    place.file("all.kv", rows(0, 60, "v"));
    place.run("init a").ok();
    place.run("import a all.kv").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    place.file("a.kv", rows(100, 103, "a"));
    place.run("import a a.kv").ok();
    place.file("b.kv", rows(200, 203, "b") + &rows(7, 9, "w"));
    place.run("import b b.kv").ok();
    place.run("delete b k005").ok();
    place
}

fn roots(place: &Place) -> (String, String) {
    (place.root("a"), place.root("b"))
}

#[track_caller]
fn refused(place: &Place, line: &str, id: &str) {
    let before = roots(place);
    place.run(line).exits(4).says(&[&format!("[{id}]"), "wrote 0 records"]);
    let summary = place.json(line).exits(4).summary();
    assert_eq!((&summary["verdict"], &summary["wrote"], &summary["error"]), (&json!("refused"), &json!(0), &json!(id)));
    assert_eq!(roots(place), before, "{line} wrote something");
}

#[test]
fn a_plan_is_written_and_then_carried_out() {
    let place = drifted();
    let before = roots(&place);
    let told = ["plan ", "of 9 keys: 6 records to a and 3 to b", "wrote 0 records", "reknit apply p.plan a b"];
    place.run("repair a b --plan p.plan").exits(1).says(&told);
    assert_eq!(roots(&place), before, "a plan writes nothing");
    let mode = fs::metadata(place.path("p.plan")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = place.read("p.plan");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 11);
    assert_eq!((&lines[0]["t"], &lines[0]["to"], &lines[0]["mirror"]), (&json!("plan"), &json!("both"), &json!(false)));
    assert!(lines[1..10].iter().all(|line| line["t"] == "key" && line.get("value_a").is_none()));
    let gone = lines.iter().find(|line| line["key"] == "k005").expect("the deleted key");
    assert_eq!((&gone["op"], &gone["write"], &gone["loses_a"]), (&json!("b_newer"), &json!("a"), &json!("deleted")));
    assert_eq!(lines[10]["loses_a"], json!({ "deleted": 1, "changed": 2 }));
    assert!(!place.names(&place.path("")).iter().any(|name| name.ends_with(".part")));
    place.run("repair a b --plan p.plan").fails("plan.exists");

    let ran = place.run("apply p.plan a b").ok();
    ran.says(&["carried out 9 of 9 keys", "6 records to a and 3 to b", "made ", "to undo it in a"]);
    place.run("check a b").ok();
    place.run("get a k005").exits(1);
    place.run("runs list a").ok().says(&["apply with"]);
    refused(&place, "apply p.plan a b", "plan.applied");
    let text = place.run("repair a b --plan none.plan").ok();
    text.says(&["no plan was written"]);
    assert!(!place.path("none.plan").exists());
}

#[test]
fn a_plan_knows_its_sides() {
    let place = drifted();
    place.run("init c --like a").ok();
    place.run("repair a b --plan p.plan").exits(1);
    place.run("apply p.plan a").fails("usage.sides").says(&["both sides, or none", "nothing was changed"]);
    let b = place.path("b").canonicalize().expect("there").display().to_string();
    let text = place.read("p.plan");
    assert!(text.contains(&b), "{text}");
    place.secret("x.plan", &text.replacen(&b, &place.path("c").display().to_string(), 1));
    refused(&place, "apply x.plan", "plan.altered");
    place.secret("y.plan", &text.replacen("\"b\":", "\"c\":", 1));
    refused(&place, "apply y.plan", "plan.malformed");
    place.run("apply none.plan").fails("plan.file");
    place.run("apply p.plan").ok().says(&["carried out 9 of 9 keys", "6 records to a and 3 to b"]);
    place.run("check a b").ok();
    refused(&place, "apply p.plan", "plan.applied");
}

#[test]
fn values_are_in_a_plan_only_if_they_are_asked_for() {
    let place = drifted();
    place.run("repair a b --plan p.plan --values").exits(1);
    let text = place.read("p.plan");
    let changed = text.lines().find(|line| line.contains("k007")).expect("the changed key");
    let changed: Value = serde_json::from_str(changed).expect("JSON");
    assert_eq!((&changed["value_a"], &changed["value_b"]), (&json!("v7"), &json!("w7")));
    place.run("apply p.plan a b").ok();
}

#[test]
fn what_moved_meanwhile_is_skipped_and_told() {
    let place = drifted();
    place.run("repair a b --plan p.plan").exits(1);
    place.run("put a k005 later").ok();
    place.run("put b k100 here").ok();
    place.run("put b new thing").ok();
    let ran = place.run("apply p.plan a b").exits(1);
    ran.says(&["skipped k005", "skipped k100", "carried out 7 of 9 keys, 2 skipped since they moved, 0 failed"]);
    place.run("get a k005").ok().prints("later");
    place.run("get b k100").ok().prints("here");
    place.run("get a new").exits(1);
    place.run("get a k200").ok().prints("b200");
    let place = drifted();
    place.run("repair a b --plan p.plan").exits(1);
    place.run("put a k005 later").ok();
    let ran = place.json("apply p.plan a b").exits(1);
    assert_eq!(
        ran.objects()[0],
        json!({ "t": "skipped", "collection": "default", "key": "k005", "key_hex": "6b303035" })
    );
    let summary = ran.summary();
    let counts = ["keys", "carried_out", "skipped", "failed", "wrote"].map(|name| summary[name].as_u64());
    assert_eq!(counts, [Some(9), Some(8), Some(1), Some(0), Some(8)]);
}

#[test]
fn one_side_and_mirrors_are_planned_as_they_are_repaired() {
    let place = drifted();
    place.run("repair a b --to b --plan p.plan").exits(1).says(&["of 3 keys: 0 records to a and 3 to b"]);
    let a = place.root("a");
    place.run("apply p.plan a b").ok();
    assert_eq!(place.root("a"), a);
    place.run("get b k100").ok();
    let place = drifted();
    place.run("repair a b --to b --mirror --plan p.plan").exits(1).says(&["of 9 keys: 6 records to a and 9 to b"]);
    place.run("put b k201 kept").ok();
    place.run("apply p.plan a b").exits(1).says(&["skipped k201", "carried out 8 of 9 keys"]);
    place.run("get b k201").ok().prints("kept");
    place.run("get b k200").exits(1);
    place.run("get b k005").ok().prints("v5");
    place.run("get b k007").ok().prints("v7");
}

#[test]
fn a_plan_that_was_altered_is_refused_and_the_line_is_named() {
    let place = drifted();
    place.run("repair a b --plan p.plan").exits(1);
    let text = place.read("p.plan");
    let lines: Vec<&str> = text.lines().collect();
    let alter = |n: usize, from: &str, to: &str| {
        assert!(lines[n].contains(from), "{}", lines[n]);
        let mut altered: Vec<String> = lines.iter().map(|line| line.to_string()).collect();
        altered[n] = altered[n].replacen(from, to, 1);
        place.file("x.plan", altered.join("\n") + "\n");
        refused(&place, "apply x.plan a b", "plan.altered");
        place.run("apply x.plan a b").exits(4).says(&[&format!("line {} ", n + 1)]);
    };
    alter(0, "\"to\":\"both\"", "\"to\":\"a\"");
    alter(0, "\"made_at_ms\":1", "\"made_at_ms\":2");
    alter(4, "\"entry_a\":", "\"entry_c\":");
    alter(10, "\"keys\":9", "\"keys\":8");
    let cut = |kept: &[&str]| {
        place.file("x.plan", kept.join("\n") + "\n");
        refused(&place, "apply x.plan a b", "plan.altered");
    };
    cut(&lines[..10]);
    cut(&[&lines[..3], &lines[4..]].concat());
    cut(&[&lines[..], &[lines[3]]].concat());
    place.file("x.plan", "k\tv\n");
    refused(&place, "apply x.plan a b", "plan.malformed");
    place.file("x.plan", "{\"t\":\"plan\",\"format\":9}\n");
    refused(&place, "apply x.plan a b", "plan.malformed");
    place.run("apply none.plan a b").fails("plan.file");
    place.run("repair a b --plan no/such/dir.plan").fails("plan.file");
    place.run("apply p.plan a b").ok();
}

#[test]
fn a_plan_that_is_old_foreign_or_of_another_dataset_is_refused() {
    let place = drifted();
    place.run("repair a b --plan p.plan").exits(1);
    refused(&place, "apply p.plan a b --max-age 0ms", "plan.old");
    let foreign = at(&place, "elsewhere", "apply p.plan a b").exits(4);
    foreign.says(&["[plan.foreign]", "was made by", "wrote 0 records"]);
    place.run("init other").ok();
    place.run("init same --like other").ok();
    refused(&place, "apply p.plan other same", "plan.dataset");
    refused(&place, "apply p.plan a b --collection default", "plan.collections");
    refused(&place, "repair a b --apply --plan q.plan", "plan.and-apply");
    let far = format!("quic://{}@127.0.0.1:9/a", place.run("id").ok().out.trim());
    place.run(&format!("apply p.plan {far} {far}")).fails("plan.two-addresses");
    place.run("apply p.plan a b --max-age 7d").ok();
}

#[test]
fn brakes_hold_for_plans_too() {
    let place = drifted();
    for n in 10..30 {
        place.run(&format!("delete b k{n:03}")).ok();
    }
    place.run("repair a b --plan p.plan").exits(1);
    refused(&place, "apply p.plan a b", "repair.braked");
    let told = ["21 would be deleted, at most 10 may be", "for example k0", "--max-delete 21"];
    place.run("apply p.plan a b").exits(4).says(&told);
    place.run("apply p.plan a b --max-delete 21").ok();
    place.run("check a b").ok();
    place.run("init empty --like a").ok();
    place.run("repair a empty --to a --mirror --plan m.plan").exits(1);
    place.run("apply m.plan a empty").exits(4).says(&["b holds 0 records"]);
}

#[test]
fn a_plan_is_carried_out_with_a_remote_side() {
    let place = drifted();
    admit(&place, "far", "compare,read,write");
    let daemon = Daemon::start(&place, "far", &["b"]);
    let b = daemon.address().to_string();
    place.run(&format!("repair a {b} --plan p.plan")).exits(1).says(&["6 records to a and 3 to b"]);
    at(&place, "far", "put b k100 there").ok();
    let ran = place.run(&format!("apply p.plan a {b}")).exits(1);
    ran.says(&["carried out 8 of 9 keys", "skipped k100", "6 records to a and 2 to b"]);
    place.run("get a k005").exits(1);
    at(&place, "far", "get b k101").ok().prints("a101");
    // The other way round too, and by the daemon of the home for a store of its own.
    place.run(&format!("repair {b} a --to b --plan q.plan")).exits(1).says(&["0 records to a and 1 to b"]);
    place.run(&format!("apply q.plan {b} a")).ok();
    place.run(&format!("check a {b}")).ok();
    let own = Daemon::start(&place, "home", &["a"]);
    place.run("put a fresh one").ok();
    place.run(&format!("repair a {b} --plan r.plan")).exits(1);
    place.run(&format!("apply r.plan a {b}")).ok().says(&["carried out 1 of 1 keys"]);
    drop(own);
}

#[test]
fn more_keys_than_one_session_takes_are_carried_out() {
    let place = Place::new();
    place.file("all.kv", (0..26_000).map(|n| format!("k{n:05}\tv\n")).collect::<String>());
    place.run("init a").ok();
    place.run("import a all.kv").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --plan p.plan").exits(1).says(&["of 26,000 keys"]);
    place.run("apply p.plan a b").ok().says(&["carried out 26,000 of 26,000 keys"]);
    place.run("check a b").ok();
}

#[test]
fn however_many_sessions_a_plan_of_tables_takes_it_is_one_run_and_undone_as_one() {
    let place = Place::new();
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT)";
    let many = "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 25500)";
    lite(&place, "a.db", &format!("{table}; {many} INSERT INTO t SELECT x, 'new', NULL FROM i"));
    lite(&place, "b.db", &format!("{table}; {many} INSERT INTO t SELECT x, 'old', NULL FROM i"));
    let before = rows(&place, "b.db");
    place.run(&format!("{REPAIR} --to b --max-change 100% --plan p.plan")).exits(1).says(&["of 25,500 keys"]);
    let ran = place.run(&format!("{APPLY} --max-change 100%")).ok().says(&["carried out 25,500 of 25,500 keys"]);
    assert_eq!(ran.out.matches("reknit runs undo").count(), 1, "{}", ran.out);
    assert_eq!(rows(&place, "a.db"), rows(&place, "b.db"));
    let listed = place.json("runs list sqlite:b.db").ok();
    assert_eq!((&listed.objects()[0]["changes"], &listed.summary()["listed"]), (&25_500.into(), &1.into()));
    place.run("runs undo sqlite:b.db 1").ok();
    assert_eq!(rows(&place, "b.db"), before);
}

/// Two tables, in PostgreSQL or SQLite, that differ in a row only here, one only there and one on both sides.
fn tables(place: &Place) {
    for (file, rows) in [
        ("a.db", "(1, 'new', ''), (2, 'same', ''), (3, 'a', '')"),
        ("b.db", "(1, 'old', ''), (2, 'same', ''), (9, 'b', '')"),
    ] {
        lite(
            place,
            file,
            &format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT); INSERT INTO t VALUES {rows}"),
        );
    }
}

fn lite(place: &Place, file: &str, statements: &str) {
    let connection = rusqlite::Connection::open(place.path(file)).expect("a database");
    connection.execute_batch(statements).expect("statements");
}

fn rows(place: &Place, file: &str) -> Vec<String> {
    let connection = rusqlite::Connection::open(place.path(file)).expect("a database");
    let mut statement = connection.prepare("SELECT id || v || coalesce(w, '') FROM t ORDER BY id").expect("a query");
    statement.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect()
}

const REPAIR: &str = "repair sqlite:a.db sqlite:b.db --no-probe";
const APPLY: &str = "apply p.plan sqlite:a.db sqlite:b.db";

#[test]
fn a_plan_of_tables_is_written_and_then_carried_out() {
    let place = Place::new();
    tables(&place);
    let told = place.run(&format!("{REPAIR} --to b --delete --plan p.plan --values")).exits(1);
    told.says(&[
        "of 3 keys: 0 records to a and 3 to b; wrote 0 records",
        "reknit apply p.plan sqlite:a.db sqlite:b.db",
    ]);
    assert_eq!(rows(&place, "b.db"), ["1old", "2same", "9b"]);
    let text = place.read("p.plan");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let key = |key: &str| lines.iter().find(|line| line["key"] == key).expect("a key").clone();
    let (changed, gone) = (key("1"), key("9"));
    assert_eq!((&changed["write"], &changed["loses_b"]), (&json!("b"), &json!("changed")));
    let values = [&changed["value_a"], &changed["value_b"]].map(|value| value.as_str().unwrap_or_default().to_owned());
    assert!(values[0].contains("new") && values[1].contains("old"), "{values:?}");
    assert_eq!((&gone["op"], &gone["write"], &gone["loses_b"]), (&json!("only_b"), &json!("b"), &json!("deleted")));
    place.run(APPLY).ok().says(&[
        "carried out 3 of 3 keys",
        "3 to b",
        "to undo it in sqlite:b.db: reknit runs undo sqlite:b.db 1",
    ]);
    place.run("check sqlite:a.db sqlite:b.db").ok();
    place.run(APPLY).exits(4).says(&["[plan.applied]"]);
    place.run("runs undo sqlite:b.db 1").ok().says(&["3 changes put back"]);
    assert_eq!(rows(&place, "b.db"), ["1old", "2same", "9b"]);
}

#[test]
fn rows_that_have_changed_since_the_plan_are_left_and_named() {
    let place = Place::new();
    tables(&place);
    place.run(&format!("{REPAIR} --to b --delete --plan p.plan")).exits(1);
    // On the side that is written, and on the one that is read; a column, a row, and one that is in no plan.
    lite(&place, "b.db", "UPDATE t SET w = 'mine' WHERE id IN (1, 2)");
    lite(&place, "a.db", "UPDATE t SET w = 'more' WHERE id = 3; INSERT INTO t VALUES (5, 'later', '')");
    let ran = place.run(APPLY).exits(1);
    ran.says(&[
        "skipped 1: it has moved since the plan was made",
        "skipped 3: ",
        "carried out 1 of 3 keys, 2 skipped",
        "1 to b",
    ]);
    assert_eq!(rows(&place, "b.db"), ["1oldmine", "2samemine"]);
    assert_eq!(rows(&place, "a.db").len(), 4);
    // Not taken for equal, though the plan is done with.
    place.run("check sqlite:a.db sqlite:b.db").exits(1);
}

#[test]
fn of_a_plan_of_tables_nothing_but_its_keys_is_read_and_nothing_else_is_proven() {
    let place = Place::new();
    tables(&place);
    place.run("diff sqlite:a.db sqlite:b.db").exits(1).says(&["1 only in a, 1 only in b"]);
    place.run(&format!("{REPAIR} --to b --delete --plan p.plan")).exits(1);
    // In no plan, and so never seen.
    lite(&place, "a.db", "INSERT INTO t VALUES (5, 'later', '')");
    let ran = place.json(&format!("{APPLY} --no-scan")).ok();
    let told = ran.summary();
    assert_eq!((&told["verdict"], &told["wrote"]), (&json!("converged"), &json!(3)));
    place.run("status").exits(1).says(&["differs"]);
    assert_eq!(rows(&place, "b.db"), ["1new", "2same", "3a"]);
    // Nor is it remembered when the two were equal: they were not.
    place.run("repair sqlite:a.db sqlite:b.db --to both --delete --apply").exits(4).says(&["[repair.base]"]);
    // What the journal of a look has is that of the whole table.
    place.run("index verify sqlite:b.db").ok().says(&["sound: 3 rows"]);
    // A key that can be spelled in several ways is sought among all rows, and so are those of a file.
    lite(&place, "a.db", "CREATE TABLE d (id DECIMAL PRIMARY KEY, v TEXT); INSERT INTO d VALUES (1.5, 'x')");
    lite(&place, "b.db", "CREATE TABLE d (id DECIMAL PRIMARY KEY, v TEXT)");
    for (file, a) in [("d.plan", "sqlite:a.db/d"), ("f.plan", "csv:f.csv")] {
        place.file("f.csv", "id,v\n1.5,y\n");
        place.run(&format!("repair {a} sqlite:b.db/d --to b --no-probe --plan {file}")).exits(1);
        let apply = format!("apply {file} {a} sqlite:b.db/d");
        place.run(&format!("{apply} --no-scan")).exits(3).says(&["[database.no-scan]"]);
        place.run(&apply).ok().says(&["carried out 1 of 1 keys"]);
    }
}

#[test]
fn a_plan_of_both_tables_writes_each_row_where_it_is_to_go() {
    let place = Place::new();
    tables(&place);
    place.run(&format!("{REPAIR} --to both --plan p.plan")).exits(1).says(&["of 2 keys: 1 records to a and 1 to b"]);
    place.run(APPLY).ok().says(&[
        "carried out 2 of 2 keys",
        "wrote 1 records to a and 1 to b",
        "undo sqlite:a.db 1",
        "undo sqlite:b.db 1",
    ]);
    assert_eq!(
        [rows(&place, "a.db"), rows(&place, "b.db")],
        [["1new", "2same", "3a", "9b"], ["1old", "2same", "3a", "9b"]]
    );
    std::fs::remove_file(place.path("p.plan")).expect("removed");
    place
        .run(&format!("{REPAIR} --to both --prefer b --plan p.plan"))
        .exits(1)
        .says(&["of 1 keys: 1 records to a and 0 to b"]);
    place.run(APPLY).ok();
    place.run("check sqlite:a.db sqlite:b.db").ok();
    // From here on it is known which side has changed what, and what one of them has deleted.
    lite(&place, "a.db", "UPDATE t SET v = 'a' WHERE id = 1; DELETE FROM t WHERE id = 2");
    lite(&place, "b.db", "UPDATE t SET v = 'b' WHERE id = 3");
    std::fs::remove_file(place.path("p.plan")).expect("removed");
    place.run(&format!("{REPAIR} --to both --plan p.plan")).exits(1).says(&["of 2 keys: 1 records to a and 1 to b"]);
    place.run(APPLY).ok();
    assert_eq!([rows(&place, "a.db"), rows(&place, "b.db")], [vec!["1a", "3b", "9b"], vec!["1a", "2same", "3b", "9b"]]);
}

#[test]
fn a_plan_of_tables_is_for_those_alone_and_what_is_refused_is_named() {
    let place = Place::new();
    tables(&place);
    place.run(&format!("{REPAIR} --to b --plan p.plan --ignore w")).exits(1);
    place.run(APPLY).exits(4).says(&["[plan.dataset]", "not compared on what the plan was made of", "wrote 0 records"]);
    place.run("apply p.plan sqlite:b.db sqlite:a.db --ignore w").exits(4).says(&["[plan.dataset]", "wrote 0 records"]);
    place.run("apply p.plan sqlite:a.db s").exits(4).says(&["[database.pair]"]);
    let writer = rusqlite::Connection::open(place.path("b.db")).expect("a database");
    writer.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
    let ran = place.run("apply p.plan sqlite:a.db sqlite:b.db --ignore w --lock-timeout 10ms").exits(1);
    ran.says(&[
        "carried out 0 of 2 keys, 0 skipped since they moved, 2 failed",
        "not stored: 1: others keep it locked",
    ]);
    writer.execute_batch("ROLLBACK").expect("rolled back");
    // Brakes hold for the plan as a whole.
    let many = |n: u32| {
        format!(
            "DELETE FROM t; WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < {n}) INSERT INTO t SELECT x, '', '' FROM i"
        )
    };
    lite(&place, "a.db", &many(10));
    lite(&place, "b.db", &many(90));
    std::fs::remove_file(place.path("p.plan")).expect("removed");
    place.run(&format!("{REPAIR} --to b --delete --plan p.plan")).exits(1).says(&["of 80 keys"]);
    place.run(APPLY).exits(4).says(&["[repair.braked]", "wrote 0 records"]);
    place.run(&format!("{APPLY} --max-delete 80")).ok().says(&["carried out 80 of 80 keys"]);
}

#[test]
fn a_plan_of_tables_goes_from_one_database_to_another() {
    let (server, place) = (crate::server::Server::start(), Place::new());
    server.sql("CREATE TABLE t (id int PRIMARY KEY, v text, w text); INSERT INTO t VALUES (1, 'x', ''), (2, 'y', NULL); CREATE ROLE writer LOGIN; GRANT SELECT, INSERT ON t TO writer");
    tables(&place);
    // A password is in no plan; and as whom one comes makes no other table.
    let pg = |user: &str| server.table(user, "t");
    let secret = pg("reknit").replace("reknit@", "reknit:secret@");
    place.run_args(&["repair", &secret, "sqlite:b.db", "--to", "b", "--no-probe", "--plan", "p.plan"]).exits(1);
    assert!(!place.read("p.plan").contains("secret"));
    place
        .run_args(&["apply", "p.plan", &pg("reknit"), "sqlite:b.db", "--no-scan"])
        .ok()
        .says(&["carried out 2 of 2 keys"]);
    assert_eq!(rows(&place, "b.db")[0], "1x");
}
