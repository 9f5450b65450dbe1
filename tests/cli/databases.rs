//! Two whole databases, table by table.

use rusqlite::Connection;

use crate::daemon::Daemon;
use crate::harness::Place;
use crate::jobs::wait;
use crate::server::Server;

/// Databases with a parent and a child of it, one that has drifted, one that is called otherwise, one without a key, and one that
/// only the second has.
fn databases(place: &Place) -> (Server, Connection) {
    let server = Server::start();
    server.sql(
        "CREATE TABLE authors (id int PRIMARY KEY, name text, born date);
         CREATE TABLE books (id int PRIMARY KEY, author int REFERENCES authors, seen text);
         CREATE TABLE same (id int PRIMARY KEY, v text); CREATE TABLE notes (id int PRIMARY KEY, seen text);
         CREATE TABLE keyless (v text); CREATE SCHEMA other; CREATE TABLE other.same (id int PRIMARY KEY, v text);
         INSERT INTO authors VALUES (1, 'Ann', '1970-01-01'), (2, 'Ben', NULL); INSERT INTO books VALUES (10, 1, 'x'), (20, 2, 'y');
         INSERT INTO same VALUES (1, 'v'); INSERT INTO notes VALUES (1, 'x'); INSERT INTO other.same VALUES (1, 'w')",
    );
    let b = Connection::open(place.path("b.db")).expect("a database");
    b.execute_batch(
        "CREATE TABLE books (id INTEGER PRIMARY KEY, author INTEGER REFERENCES zauthors, seen TEXT);
         CREATE TABLE zauthors (id INTEGER PRIMARY KEY, name TEXT, born DATE);
         CREATE TABLE same (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE remarks (id INTEGER PRIMARY KEY, seen TEXT);
         CREATE TABLE keyless (v TEXT); CREATE TABLE audit (id INTEGER PRIMARY KEY);
         INSERT INTO same VALUES (1, 'v'); INSERT INTO remarks VALUES (1, 'z')",
    )
    .expect("statements");
    (server, b)
}

#[test]
fn two_databases_are_compared_and_repaired_table_by_table() {
    let place = Place::new();
    let (server, b) = databases(&place);
    let a = server.table("reknit", "x").replace("/x", "");
    let run = |words: &str| {
        let word = |word: &str| word.strip_prefix('A').map_or(word.to_string(), |rest| format!("{a}{rest}"));
        let words: Vec<String> = words.split_whitespace().map(word).collect();
        place.run_args(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mapped = "--map a.notes=b.remarks,a.authors=b.zauthors";
    let ran = run(&format!("check A sqlite:b.db {mapped}")).exits(2);
    ran.says(&[
        "authors: differs",
        "same: in sync: 1 records",
        "reknit: keyless: ",
        "has no primary key",
        "notes: differs",
        "5 tables: 1 in sync, 3 with differences, 1 not to be judged",
        "only in b: audit",
    ]);
    let ran = run(&format!("check A/public.* sqlite:b.db/* {mapped} --ignore-table keyless,audit --quiet")).exits(1);
    assert!(!ran.out.contains("same:"), "{}", ran.out);
    // What is said of columns is for the tables that have them.
    let rest = format!("{mapped} --ignore-table keyless,audit");
    run(&format!("diff A sqlite:b.db {rest} --ignore seen")).exits(1).says(&[
        "authors\t- 1\tonly in a",
        "notes: in sync",
        "4 tables: 2 in sync, 2 with differences",
    ]);
    run(&format!("check A sqlite:b.db {rest} --ignore seem")).fails("usage.terms");
    let ran = run(&format!("diff A sqlite:b.db {rest} --format json")).exits(1);
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("one document");
    let tables: Vec<(&str, &str)> = document["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| (item["t"].as_str().expect("a kind"), item["table"].as_str().expect("a table")))
        .collect();
    assert_eq!(tables.iter().filter(|(kind, _)| *kind == "table").count(), 4);
    assert_eq!(tables.iter().filter(|of| **of == ("difference", "books")).count(), 2);
    assert_eq!(document["summary"]["tables"]["differ"], 3);
    // Rows wait for those that they refer to, whatever tables are called.
    let preview = run(&format!("repair A sqlite:b.db {rest} --to b")).exits(1);
    preview.says(&["books: ", "would write 0 records to a and 2 to b"]);
    let metrics = "--metrics-file all.prom";
    run(&format!("repair A sqlite:b.db {rest} --to b --apply {metrics}")).ok().says(&["4 tables: 4 in sync"]);
    let rows = "SELECT (SELECT group_concat(author) FROM books) || (SELECT group_concat(name) FROM zauthors) || (SELECT seen FROM remarks)";
    let rows: String = b.query_row(rows, [], |row| row.get(0)).expect("a row");
    assert_eq!(rows, "1,2Ann,Benx");
    let told = place.read("all.prom");
    assert!(told.contains("reknit_exit_code{") && told.contains(",side=\"b\"} 5\n"), "{told}");
    run(&format!("check A sqlite:b.db {rest} --quiet")).ok().prints("");
    run("check A/other.* sqlite:b.db --ignore-table books,zauthors,remarks,keyless,audit")
        .exits(1)
        .says(&["same: differs"]);
}

#[test]
fn what_is_no_pair_of_databases_is_told() {
    let place = Place::new();
    for (file, tables) in
        [("a.db", "CREATE TABLE t (id INTEGER PRIMARY KEY)"), ("b.db", "CREATE TABLE u (id INTEGER PRIMARY KEY)")]
    {
        Connection::open(place.path(file)).expect("a database").execute_batch(tables).expect("statements");
    }
    // One table each, whatever they are called.
    place.run("check sqlite:a.db sqlite:b.db").ok();
    place.run("check sqlite:a.db/* sqlite:b.db/*").fails("database.none");
    place.run("check sqlite:a.db/* sqlite:b.db/u").fails("usage.databases");
    place.run("check sqlite:a.db/t sqlite:b.db/u --map a.t=b.u").fails("usage.databases");
    place.run("check sqlite:a.db sqlite:b.db --map t=u").fails("usage.databases");
    place.run("check sqlite:a.db sqlite:b.db --map a.t=b.u").ok().says(&["t: in sync", "1 table: 1 in sync"]);
}

#[test]
fn a_job_over_databases_of_which_not_all_can_be_judged_proves_nothing() {
    let place = Place::new();
    let [a, b] = ["a.db", "b.db"].map(|file| Connection::open(place.path(file)).expect("a database"));
    for side in [&a, &b] {
        let made = "CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE TABLE u (id INTEGER PRIMARY KEY)";
        side.execute_batch(made).expect("statements");
    }
    std::fs::create_dir_all(place.path("home")).expect("a home");
    let job = "[job.all]\na = 'sqlite:../a.db/*'\nb = 'sqlite:../b.db/*'\ndo = 'diff'\nsettle = '0ms'\nmetrics_file = 'all.prom'\n";
    place.file("home/config.toml", job);
    let _daemon = Daemon::start(&place, "home", &[]);
    let mut runs = 0;
    let mut next = || {
        // It began by itself the first time.
        let _ = place.run("jobs run all");
        let ran = wait(&place, "all", |job| job["runs"].as_u64() > Some(runs) && job["running"].is_null());
        runs = ran["runs"].as_u64().expect("a number");
        ran
    };
    let equal = next();
    assert_eq!(equal["verdict"], "in_sync", "{equal}");
    b.execute_batch("DROP TABLE u").expect("statements");
    let alone = next();
    assert_eq!((&alone["verdict"], &alone["proven_ms"]), (&"partial".into(), &equal["proven_ms"]), "{alone}");
    place.run("status").says(&["all: its last run ended partial", "only in a: u; --map or --ignore-table"]);
    assert!(place.read("home/all.prom").contains("verdict=\"in_sync\"} 0"));
    // One that nobody can judge beside one that differs.
    b.execute_batch("CREATE TABLE u (other TEXT); INSERT INTO t VALUES (1)").expect("statements");
    let unlike = next();
    assert_eq!((&unlike["verdict"], &unlike["proven_ms"]), (&"partial".into(), &equal["proven_ms"]), "{unlike}");
    place.run("status").says(&["all: 2 runs in a row ended", "u: "]);
    b.execute_batch("DROP TABLE t; CREATE TABLE t (other TEXT)").expect("statements");
    let neither = next();
    assert_eq!(neither["verdict"], "undetermined", "{neither}");
    place.run("status").says(&[
        "all: 3 runs in a row came to nothing; the last ended undetermined: t: ",
        "1 other table could not be judged either",
    ]);
    for made in [
        "DROP TABLE t; CREATE TABLE t (id INTEGER PRIMARY KEY)",
        "DROP TABLE u; CREATE TABLE u (id INTEGER PRIMARY KEY)",
    ] {
        b.execute_batch(made).expect("statements");
    }
    assert_eq!(next()["verdict"], "in_sync");
}

#[test]
fn a_table_has_one_index_however_its_schema_is_typed() {
    let place = Place::new();
    let server = Server::start();
    server.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x')");
    let b = Connection::open(place.path("b.db")).expect("a database");
    b.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'y')").expect("rows");
    for (nth, [first, then]) in [["t", "public.t"], ["public.t", "t"]].into_iter().enumerate() {
        let home = format!("--home home{nth}");
        let run = |words: &str| place.run(&format!("{home} {words}"));
        let [first, then] = [first, then].map(|table| server.table("reknit", table));
        b.execute("UPDATE t SET v = ?1", [format!("of b {nth}")]).expect("written");
        run(&format!("repair {first} sqlite:b.db/t --to a --apply --no-probe --max-change 100%")).ok();
        run(&format!("runs undo {first} 1")).ok();
        // By whatever name: repairs are paused there, and the runs are known.
        run(&format!("repair {then} sqlite:b.db/t --to a --apply --no-probe --max-change 100%"))
            .exits(4)
            .says(&["[journal.paused]"]);
        run(&format!("runs list {then}")).ok().says(&["undo"]);
        run(&format!("resume {then}")).ok();
        run(&format!("repair {first} sqlite:b.db/t --to a --apply --no-probe --max-change 100%")).ok();
    }
}
