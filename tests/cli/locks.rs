//! Rows and databases that others keep locked: waited for as long as is said, then left and named, and the others written.

use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;

use crate::harness::{Place, Ran};
use crate::server::Server;

/// Until what is awaited has come.
const DEADLINE: Duration = Duration::from_secs(60);

fn tables(server: &Server) -> (String, String) {
    server.sql(
        "CREATE TABLE a AS SELECT i AS id, 'new' AS v FROM generate_series(1, 6) AS i; ALTER TABLE a ADD PRIMARY KEY (id);
         CREATE TABLE b AS SELECT id, 'old' AS v FROM a WHERE id < 5; ALTER TABLE b ADD PRIMARY KEY (id)",
    );
    (server.table("reknit", "a"), server.table("reknit", "b"))
}

fn rows(server: &Server) -> Vec<String> {
    let rows = server.client().query("SELECT id || v FROM b ORDER BY id", &[]).expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_row_that_others_lock_is_left_and_named_and_the_rest_goes_on() {
    let (server, place) = (Server::start(), Place::new());
    let (a, b) = tables(&server);
    let repair = |more: &[&str]| {
        place.run_args(
            &[&["repair", &a, &b, "--to", "b", "--apply", "--no-probe", "--lock-timeout", "50ms"], more].concat(),
        )
    };
    let mut other = server.client();
    let mut transaction = other.transaction().expect("a transaction");
    // One row that is changed, one that is looked at, one that comes.
    let statements =
        "UPDATE b SET v = 'mine' WHERE id = 1; SELECT FROM b WHERE id = 3 FOR UPDATE; INSERT INTO b VALUES (5, 'mine')";
    transaction.batch_execute(statements).expect("locked");
    let ran = repair(&[]).exits(1).says(&["wrote 0 records to a and 3 to b"]);
    for key in [1, 3, 5] {
        ran_names(
            &ran,
            &format!(
                "not stored: {key} in default: others keep it locked (canceling statement due to lock timeout (55P03))"
            ),
        );
    }
    assert_eq!(rows(&server), ["1old", "2new", "3old", "4new", "6new"]);
    // One at a time is no other.
    repair(&["--batch", "1"]).exits(1).says(&["wrote 0 records to a and 0 to b", "not stored: 5 in"]);
    transaction.commit().expect("committed");
    // What has come meanwhile is compared, as all else.
    repair(&[]).ok().says(&["wrote 0 records to a and 3 to b"]);
    assert_eq!(rows(&server), ["1new", "2new", "3new", "4new", "5new", "6new"]);
    place.run_args(&["runs", "undo", &b, "2"]).ok().says(&["3 changes put back, 0 skipped"]);
}

fn ran_names(ran: &Ran, words: &str) {
    assert!(ran.out.contains(words), "no {words:?} in {ran:?}");
}

#[test]
fn a_lock_that_goes_in_time_is_waited_for() {
    let (server, place) = (Server::start(), Place::new());
    let (a, b) = tables(&server);
    let mut other = server.client();
    let mut transaction = other.transaction().expect("a transaction");
    transaction.execute("UPDATE b SET v = 'mine' WHERE id = 1", &[]).expect("locked");
    let words = ["repair", &a, &b, "--to", "b", "--apply", "--no-probe", "--lock-timeout", "10m"];
    let mut repair = place.command(&words).spawn().expect("the binary");
    let (mut client, began) = (server.client(), Instant::now());
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while client.query_one(waits, &[]).expect("a count").get::<_, i64>(0) == 0 {
        assert!(began.elapsed() < DEADLINE && repair.try_wait().expect("a process").is_none(), "it was to wait");
    }
    transaction.rollback().expect("rolled back");
    Ran::of(repair.wait_with_output().expect("its end")).ok().says(&["6 to b"]);
}

#[test]
fn an_undo_waits_and_skips_nothing_that_is_locked() {
    let (server, place) = (Server::start(), Place::new());
    let (a, b) = tables(&server);
    place.run_args(&["repair", &a, &b, "--to", "b", "--apply", "--no-probe"]).ok();
    let mut other = server.client();
    let mut transaction = other.transaction().expect("a transaction");
    transaction.execute("SELECT FROM b WHERE id = 1 FOR UPDATE", &[]).expect("locked");
    place.run_args(&["runs", "undo", &b, "1"]).fails("database").says(&["others keep it locked"]);
    transaction.rollback().expect("rolled back");
    place.run_args(&["runs", "undo", &b, "1"]).ok().says(&[", 0 skipped"]);
    assert_eq!(rows(&server), ["1old", "2old", "3old", "4old"]);
}

#[test]
fn a_table_that_is_locked_as_a_whole_ends_the_repair_after_some_tries() {
    let (server, place) = (Server::start(), Place::new());
    let (a, b) = tables(&server);
    let mut other = server.client();
    let mut transaction = other.transaction().expect("a transaction");
    transaction.batch_execute("LOCK TABLE b IN EXCLUSIVE MODE").expect("locked");
    let repair = |batch: &str| {
        let words =
            ["repair", &a, &b, "--to", "b", "--apply", "--no-probe", "--lock-timeout", "10ms", "--batch", batch];
        place.run_args(&words)
    };
    repair("500")
        .exits(1)
        .says(&["wrote 0 records to a and 0 to b", "not stored: 6 in default: others keep it locked"]);
    repair("1").fails("database").says(&["lock timeout", "nothing was changed there"]);
    transaction.rollback().expect("rolled back");
    repair("1").ok().says(&["6 to b"]);
}

#[test]
fn a_database_of_sqlite_that_others_write_is_waited_for_as_long_as_is_said() {
    let place = Place::new();
    let make = |rows: &str| format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES {rows}");
    for (file, rows) in [("a.db", "(1, 'new'), (2, 'new')"), ("b.db", "(1, 'old')")] {
        Connection::open(place.path(file)).expect("a database").execute_batch(&make(rows)).expect("statements");
    }
    let writer = Connection::open(place.path("b.db")).expect("a database");
    writer.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
    let repair = "repair sqlite:a.db sqlite:b.db --to b --apply --no-probe --lock-timeout";
    let ran = place.json(&format!("{repair} 20ms")).exits(1).summary();
    assert_eq!([&ran["verdict"], &ran["to_b"]["refused"], &ran["wrote"]], [&json!("differs"), &json!(2), &json!(0)]);
    let ran = place.run(&format!("{repair} 20ms")).exits(1);
    ran.says(&[
        "not stored: 1 in default: others keep it locked (database is locked); the same command goes on with it",
    ]);
    let words: Vec<String> = format!("{repair} 10m").split_whitespace().map(String::from).collect();
    let repair = place.command(&words).spawn().expect("the binary");
    writer.execute_batch("ROLLBACK").expect("rolled back");
    Ran::of(repair.wait_with_output().expect("its end")).ok().says(&["2 to b"]);
}

#[test]
fn rows_that_are_found_by_reading_only_are_left_too() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a (k uuid PRIMARY KEY, v text); INSERT INTO a SELECT ('00000000-0000-0000-0000-00000000000' || i)::uuid, 'new' FROM generate_series(1, 3) AS i;
         CREATE TABLE b (k text PRIMARY KEY, v text); INSERT INTO b SELECT '{0000000000000000000000000000000' || i || '}', 'old' FROM generate_series(1, 3) AS i",
    );
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    let repair = || place.run_args(&["repair", &a, &b, "--to", "b", "--apply", "--no-probe", "--lock-timeout", "50ms"]);
    let mut other = server.client();
    let mut transaction = other.transaction().expect("a transaction");
    transaction.batch_execute("SELECT FROM b WHERE k LIKE '%2}' FOR UPDATE").expect("locked");
    let ran = repair().exits(1).says(&["2 to b"]);
    ran_names(&ran, "02 in default: others keep it locked");
    transaction.rollback().expect("rolled back");
    repair().ok().says(&["1 to b"]);
}

#[test]
fn how_many_and_how_long_is_looked_at_before_anything_is_done() {
    let place = Place::new();
    place.run("repair sqlite:a.db sqlite:b.db --to b --batch 0").exits(2).says(&["0 is not in 1..=10000"]);
    place.run("repair sqlite:a.db sqlite:b.db --to b --batch 10001").exits(2);
    for wait in ["soon", "61m", "1000d"] {
        place.run(&format!("repair sqlite:a.db sqlite:b.db --to b --lock-timeout {wait}")).fails("usage.duration");
    }
}
