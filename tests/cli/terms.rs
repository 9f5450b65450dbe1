//! What two tables are compared on: columns, names, rows, and how much of a value counts.

use rusqlite::Connection;

use crate::harness::Place;
use crate::server::Server;

fn sqlite(place: &Place, file: &str, statements: &str) -> Connection {
    let connection = Connection::open(place.path(file)).expect("a database");
    connection.execute_batch(statements).expect("statements");
    connection
}

fn text(connection: &Connection, sql: &str) -> String {
    connection.query_row(sql, [], |row| row.get(0)).expect("a row")
}

#[test]
fn columns_are_left_out_picked_and_called_otherwise() {
    let place = Place::new();
    sqlite(
        &place,
        "a.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, seen TEXT, note TEXT);
         INSERT INTO t VALUES (1, 'ann', 'x', 'n1'), (2, 'ben', 'x', 'n2'), (3, 'cat', 'x', 'n3')",
    );
    let b = sqlite(
        &place,
        "b.db",
        "CREATE TABLE t (nr INTEGER PRIMARY KEY, name TEXT, seen TEXT, extra TEXT DEFAULT 'e');
         INSERT INTO t (nr, name, seen) VALUES (1, 'ann', 'y'), (2, 'BEN', 'y')",
    );
    let sides = "sqlite:a.db/t sqlite:b.db/t";
    place.run(&format!("check {sides}")).exits(4).says(&["[database.shape]", "the key of"]);
    let terms = "--rename nr=id --ignore seen,note,extra";
    let ran = place.run(&format!("check {sides} {terms}")).exits(1);
    ran.says(&["differs", "[without seen, note, extra; with nr as id]"]);
    let told = place.run(&format!("diff {sides} --rename nr=id --columns name --format jsonl")).exits(1);
    let column = r#"{"name":"id","kind":"int","rounding":null,"zones":null,"tolerance":null}"#;
    told.says(&[&format!(r#""compared":{{"key":["id"],"columns":[{column},{{"name":"name""#)]);
    // The other way round, and for an index alone, it is the same comparison.
    place.run(&format!("check sqlite:b.db/t sqlite:a.db/t {terms}")).exits(1);
    place.run(&format!("index build sqlite:b.db/t --with sqlite:a.db/t {terms}")).ok().says(&["0 of them changed"]);
    // What is left out cannot be brought back, so nothing is deleted; all else is written by its own names.
    let repair = format!("repair {sides} {terms} --to b --no-probe --max-change 100% --apply");
    place.run(&format!("{repair} --delete")).exits(4).says(&["[database.columns]", "seen, extra"]);
    place.run(&repair).ok();
    let rows = "SELECT group_concat(nr || name || coalesce(seen, '-') || extra) FROM t";
    assert_eq!(text(&b, rows), "1annye,2benye,3cat-e");
    place.run("runs undo sqlite:b.db/t 1").ok();
    assert_eq!(text(&b, rows), "1annye,2BENye");
    for (terms, told) in [
        ("--rename nr=id --ignore none", "neither side has a column none"),
        ("--rename name=seen", "has a column seen already"),
        ("--rename nr=id --ignore id", "belongs to the key"),
    ] {
        place.run(&format!("check {sides} {terms}")).exits(4).says(&["[database.shape]", told]);
    }
    place.run(&format!("check {sides} --rename nr")).fails("usage.terms");
    place.run(&format!("check {sides} --float-digits 99")).fails("usage.terms");
    place.run("init s").ok();
    place.run("init r --like s").ok();
    place.run("check s r --ignore v").fails("usage.terms");
}

#[test]
fn only_rows_that_meet_a_condition_are_compared_and_written() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, part int, v text);
         INSERT INTO t SELECT i, i % 2, 'v' || i FROM generate_series(1, 100) AS i",
    );
    let b = sqlite(
        &place,
        "b.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, part INTEGER, v TEXT);
         WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 100)
         INSERT INTO t SELECT x, x % 2, CASE WHEN x % 2 = 0 THEN 'other' ELSE 'v' || x END FROM i;
         DELETE FROM t WHERE id = 7; UPDATE t SET part = 0 WHERE id = 9",
    );
    let (a, b_side) = (server.table("reknit", "t"), "sqlite:b.db/t");
    let run = |command: &[&str], more: &[&str]| place.run_args(&[command, &[&a, b_side], more].concat());
    // The condition ends where it ends, whatever is in it.
    let terms = ["--where", "part = 1 -- odd"];
    let ran = run(&["diff"], &terms).exits(1);
    ran.says(&["2 only in a", "[where part = 1 -- odd]"]);
    // One row is there, though not meant: it is refused by its key and named, the other is written.
    let ran = run(&["repair"], &[&terms[..], &["--to", "b", "--apply"]].concat()).exits(1);
    ran.says(&["UNIQUE constraint failed: t.id", "9"]);
    assert_eq!(text(&b, "SELECT v FROM t WHERE id = 7"), "v7");
    assert_eq!(text(&b, "SELECT v FROM t WHERE id = 8"), "other");
    b.execute_batch("UPDATE t SET part = 1 WHERE id = 9").expect("a statement");
    run(&["check"], &terms).ok();
    run(&["check"], &["--where", "none = 1"]).fails("database");
    run(&["check"], &["--where", "part = 1) OR (part = 0"]).exits(1);
    // What meets a condition by time alone has no feed.
    let build = |terms: &[&str]| {
        let command = ["index", "build", b_side, "--with", &a, "--feed", "triggers"];
        place.run_args(&[&command[..], terms].concat())
    };
    build(&terms).ok().says(&["statements would be run"]);
    build(&["--where", "v < date('now')"]).fails("database").says(&["without being changed (now)"]);
}

#[test]
fn as_much_of_a_value_counts_as_was_said() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE t (code text PRIMARY KEY, price numeric(12, 4), ratio float8, at timestamp);
         INSERT INTO t VALUES ('Ab', 1.5000, 0.1234567, '2026-01-01 10:00:00.123456'), ('cd', 2, 2.5, '2026-01-01 10:00:01')",
    );
    let b = sqlite(
        &place,
        "b.db",
        "CREATE TABLE t (code TEXT PRIMARY KEY NOT NULL, price DOUBLE, ratio DOUBLE, at DATETIME);
         INSERT INTO t VALUES ('aB', 1.5, 0.1234568, '2026-01-01 10:00:00'), ('CD', 2.0, 2.6, '2026-01-01 10:00:01')",
    );
    let (a, b_side) = (server.table("reknit", "t"), "sqlite:b.db/t");
    let run = |command: &[&str], more: &[&str]| place.run_args(&[command, &[&a, b_side], more].concat());
    run(&["check"], &[]).exits(4).says(&["[database.shape]", "price is decimal"]);
    let terms = ["--float-digits", "6", "--time-precision", "s", "--collate", "code=ci"];
    let ran = run(&["diff"], &terms).exits(1);
    ran.says(&["1 with different content", "rounded: all by 6, all by s, code by ci"]);
    let told = run(&["explain"], &terms).ok();
    told.says(&[
        "code is compared as text by ci",
        "at is compared as datetime by s",
        "price is compared as float by 6",
    ]);
    // Only what differs as far as it counts is written, whole; what does not count stays on both sides.
    run(&["repair"], &[&terms[..], &["--to", "b", "--apply"]].concat()).ok();
    let rows = "SELECT group_concat(code || '|' || ratio || '|' || at) FROM (SELECT * FROM t ORDER BY price)";
    assert_eq!(text(&b, rows), "aB|0.1234568|2026-01-01 10:00:00,CD|2.5|2026-01-01 10:00:01");
    run(&["check"], &terms).ok();
    // A row that comes is written as it is, and not as it counts.
    server.sql("INSERT INTO t VALUES ('Ef', 3, 0.123456789, '2026-01-01 10:00:02.5')");
    run(&["repair"], &[&terms[..], &["--to", "b", "--apply"]].concat()).ok();
    let row = "SELECT code || '|' || ratio || '|' || at FROM t WHERE code = 'Ef'";
    assert_eq!(text(&b, row), "Ef|0.123456789|2026-01-01 10:00:02.5");
    // Keys that collapse are told, and never as a difference.
    b.execute_batch("INSERT INTO t VALUES ('ab', 1, 1, NULL)").expect("a statement");
    run(&["check"], &terms).exits(4).says(&["[database.collapse]"]);
    run(&["check"], &["--collate", "price=ci"]).exits(4).says(&["[database.shape]"]);
}

#[test]
fn a_key_that_is_asked_for_is_compared_by_and_not_written_by() {
    let place = Place::new();
    let rows = "INSERT INTO t VALUES (1, 'x', 'v'), (2, 'y', 'v')";
    let made = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL, v TEXT);";
    sqlite(&place, "a.db", &format!("{made}{rows}"));
    let b = sqlite(&place, "b.db", &format!("{made}{rows}; UPDATE t SET id = id + 10"));
    let sides = "sqlite:a.db/t sqlite:b.db/t";
    place.run(&format!("check {sides}")).exits(1);
    place.run(&format!("check {sides} --key name --ignore id")).ok().says(&["[by name; without id]"]);
    b.execute_batch("UPDATE t SET v = 'w'").expect("a statement");
    let repair = place.run(&format!("repair {sides} --key name --ignore id --to b --apply")).exits(4);
    repair.says(&["[database.key]", "its own is id"]);
    b.execute_batch("UPDATE t SET name = 'x'").expect("a statement");
    place.run(&format!("check {sides} --key name --ignore id")).exits(4).says(&["[database.collapse]"]);
}

#[test]
fn files_take_terms_too_but_no_condition() {
    let place = Place::new();
    place.file("a.csv", "nr,name,at\n1,Ann,2026-01-01 10:00:00.5\n2,ben,2026-01-01 11:00:00\n");
    place.file("b.csv", "id,name,at\n1,ann,2026-01-01 10:00:00.5\n2,Ben,2026-01-01 11:00:01\n");
    let sides = "csv:a.csv csv:b.csv";
    place.run(&format!("check {sides} --rename nr=id")).exits(4).says(&["[database.shape]", "--key COLUMN"]);
    let terms = "--rename nr=id --key id --collate name=ci";
    place.run(&format!("diff {sides} {terms}")).exits(1).says(&["1 with different content"]);
    place.run(&format!("check {sides} {terms} --ignore at")).ok();
    sqlite(
        &place,
        "c.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, at DATETIME);
         INSERT INTO t VALUES (1, 'ANN', '2026-01-01 10:00:00'), (2, 'BEN', '2026-01-01 11:00:00')",
    );
    let terms = "--rename nr=id --collate ci --time-precision s";
    place.run(&format!("check csv:a.csv sqlite:c.db/t {terms}")).ok();
    // What counts alike stays; what differs comes as it is in the file.
    let terms = "--collate ci --time-precision s";
    place.run(&format!("repair csv:b.csv sqlite:c.db/t {terms} --to b --apply")).ok();
    let c = Connection::open(place.path("c.db")).expect("a database");
    let rows = "SELECT group_concat(name || '|' || at) FROM (SELECT * FROM t ORDER BY id)";
    assert_eq!(text(&c, rows), "ANN|2026-01-01 10:00:00,BEN|2026-01-01 11:00:01");
    place.run("check csv:b.csv sqlite:c.db/t --where id>1").fails("database").says(&["--where cannot be had of it"]);
}

#[test]
fn json_counts_by_what_its_numbers_are_worth() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        r#"CREATE TABLE t (id int PRIMARY KEY, doc jsonb, raw text);
           INSERT INTO t VALUES (1, '{"n": 1.0, "s": "x"}', '{"a": [1, 2.50]}'), (2, '[1e2]', '{ }'), (3, '{"n": 1}', 'none')"#,
    );
    let b = sqlite(
        &place,
        "b.db",
        r#"CREATE TABLE t (id INTEGER PRIMARY KEY, doc JSON, raw TEXT);
           INSERT INTO t VALUES (1, '{"s":"x","n":1}', '{"a":[1.0,2.5]}'), (2, '[100.00]', '{}'), (3, '{"n": 2}', 'none')"#,
    );
    let (a, b_side) = (server.table("reknit", "t"), "sqlite:b.db/t");
    let run = |command: &[&str], more: &[&str]| place.run_args(&[command, &[&a, b_side], more].concat());
    run(&["diff"], &[]).exits(1).says(&["3 with different content"]);
    run(&["diff"], &["--json", "semantic"]).exits(1).says(&["* 1", "* 2", "* 3", "[rounded: all by semantic]"]);
    let terms = ["--json", "semantic,raw=semantic"];
    run(&["diff"], &terms).exits(1).says(&["* 3", "1 with different content"]);
    run(&["explain"], &terms)
        .ok()
        .says(&["raw is compared as json by semantic", "doc is compared as json by semantic"]);
    run(&["repair"], &[&terms[..], &["--to", "b", "--apply"]].concat()).ok();
    let rows = "SELECT group_concat(doc || raw, ';') FROM t";
    assert_eq!(text(&b, rows), r#"{"s":"x","n":1}{"a":[1.0,2.5]};[100.00]{};{"n":1}none"#);
    run(&["check"], &["--json", "id=semantic"]).exits(4).says(&["[database.shape]", "id is compared as int"]);
    run(&["check"], &["--json", "exact"]).fails("usage.terms");
}

#[test]
fn what_is_within_tolerance_is_told_apart_and_left() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, price numeric(10, 4), at timestamp, name text);
         INSERT INTO t SELECT i, i, '2026-01-01'::timestamp + i * interval '1 h', 'n' FROM generate_series(1, 100) AS i",
    );
    let b = sqlite(
        &place,
        "b.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, price DECIMAL, at DATETIME, name TEXT);
         WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 100)
         INSERT INTO t SELECT x, x + 0.01, datetime('2026-01-01', x || ' hours', '1 second'), 'n' FROM i",
    );
    let (a, b_side) = (server.table("reknit", "t"), "sqlite:b.db/t");
    let run = |command: &[&str], more: &[&str]| place.run_args(&[command, &[&a, b_side], more].concat());
    let terms = ["--tolerance", "price=0.01,at=1s"];
    let check = run(&["check"], &terms).ok();
    check.says(&["in sync within tolerance", "[tolerating price by 0.01, at by 1s]", "100 within tolerance"]);
    run(&["diff"], &["--tolerance", "price=0.01"]).exits(1).says(&["100 with different content"]);
    // It is no part of what is digested: the same index serves without it.
    let home = || place.names(&place.path("home/index"));
    let indexes = home();
    run(&["check"], &[]).exits(1);
    assert_eq!(indexes, home());
    b.execute_batch(
        "UPDATE t SET price = 9.5 WHERE id = 7; UPDATE t SET name = 'x' WHERE id = 8; DELETE FROM t WHERE id = 9",
    )
    .expect("statements");
    let diff = run(&["diff"], &[&terms[..], &["--format", "jsonl"]].concat()).exits(1);
    let ops = diff.objects().iter().filter(|object| object["op"] == "tolerated").count();
    let counts = &diff.summary()["counts"];
    let of = |name: &str| counts[name].as_u64();
    assert_eq!((ops, of("tolerated"), of("content"), of("only_a")), (97, Some(97), Some(2), Some(1)));
    crate::schema::holds(&diff.objects());
    let columns = diff.summary()["compared"]["columns"].as_array().expect("columns").clone();
    let told: Vec<_> = columns.iter().map(|column| column["tolerance"].as_str()).collect();
    assert_eq!(told, [Some("1s"), None, None, Some("0.01")], "of at, id, name, price");
    let would = run(&["repair"], &[&terms[..], &["--to", "b"]].concat()).exits(1);
    would.says(&["would write 0 records to a and 3 to b; wrote 0", "97 within tolerance"]);
    // All else is repaired whole, and what is near enough is left.
    let done = run(&["repair"], &[&terms[..], &["--to", "b", "--apply"]].concat()).ok();
    done.says(&["in sync within tolerance", "wrote 0 records to a and 3 to b"]);
    let rows =
        "SELECT group_concat(price || name || time(at)) FROM (SELECT * FROM t WHERE id BETWEEN 6 AND 9 ORDER BY id)";
    assert_eq!(text(&b, rows), "6.01n06:00:01,7n07:00:00,8n08:00:00,9n09:00:00");
    // A mirror leaves it too; without tolerance it is drift.
    b.execute_batch("INSERT INTO t (id) VALUES (500)").expect("a statement");
    run(&["repair"], &[&terms[..], &["--to", "b", "--delete", "--apply"]].concat()).ok().says(&["and 1 to b"]);
    let done = run(&["repair"], &["--to", "b", "--delete", "--max-change", "100%", "--apply"]).ok();
    done.says(&["and 97 to b"]);
    run(&["check"], &terms).ok().says(&["in sync: 100 records"]);
    for (terms, told) in [
        ("id=1", "part of the key"),
        ("name=1", "compared as text"),
        ("price=2s", "compared as decimal"),
        ("none=1", "neither side has a column none"),
    ] {
        run(&["check"], &["--tolerance", terms]).exits(4).says(&["[database.shape]", told]);
    }
}
