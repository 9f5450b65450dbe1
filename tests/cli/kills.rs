//! The binary is killed in the middle of installing and of dropping a feed: what is left goes, and a feed can be had again.

use std::path::Path;
use std::process::Child;

use postgres::Client;
use rusqlite::Connection;

use crate::harness::Place;
use crate::server::Server;
use crate::slots::catalog;

/// Starts a command, and kills it once it waits for what the test holds.
fn kill_once(place: &Place, args: &[&str], mut waits: impl FnMut() -> bool) {
    let mut child: Child = place.command(args).spawn().expect("the binary");
    while !waits() {
        assert_eq!(child.try_wait().expect("its state"), None, "{args:?} ended before it had to wait");
        std::thread::yield_now();
    }
    child.kill().expect("killed");
    child.wait().expect("its end");
}

/// Backends of the binary that wait for a lock.
const WAITING: &str = "SELECT pid FROM pg_stat_activity WHERE application_name = 'reknit' AND wait_event_type = 'Lock'";

fn waits(client: &mut Client) -> bool {
    !client.query(WAITING, &[]).expect("rows").is_empty()
}

/// Waits until no backend of the binary is left.
pub(crate) fn gone(client: &mut Client) {
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reknit'";
    while client.query_one(left, &[]).expect("a row").get::<_, i64>(0) > 0 {
        std::thread::yield_now();
    }
}

/// Kills one command over a table `t` where it waits for what `held` holds. What it had asked of the server ends with it, or is
/// done all the same once it need not wait. Then the database is made clean, and the feed is had again, and goes.
fn kill_at(feed: &str, held: &str, dropping: bool) {
    for goes_on in [false, true] {
        let (server, place) = (Server::with_slots(), Place::new());
        server.sql(
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'); CREATE TABLE other (id int);
             CREATE TABLE u (LIKE t INCLUDING ALL); INSERT INTO u VALUES (1, 'a')",
        );
        let mut client = server.client();
        let before = catalog(&mut client);
        let t = server.table("reknit", "t");
        let build = ["index", "build", &t, "--feed", feed, "--apply"];
        let drop = ["index", "drop", &t];
        if dropping {
            place.run_args(&build).ok();
        }
        let mut holder = server.client();
        let mut transaction = holder.transaction().expect("a transaction");
        let publication = "SELECT coalesce((SELECT pubname::text FROM pg_publication), '')";
        let publication: String = client.query_one(publication, &[]).expect("a row").get(0);
        transaction.batch_execute(&held.replace("PUBLICATION_NAME", &publication)).expect("held");
        kill_once(&place, if dropping { &drop } else { &build }, || waits(&mut client));
        if !goes_on {
            client.execute(&format!("SELECT pg_terminate_backend(pid) FROM ({WAITING}) AS w"), &[]).expect("ended");
        }
        transaction.rollback().expect("no longer held");
        gone(&mut client);
        place.run_args(&["index", "drop", &t, "--orphans"]).ok();
        assert_eq!(catalog(&mut client), before, "{feed}: nothing is left, after {held}, {goes_on}");
        place.run_args(&build).ok();
        client.batch_execute("UPDATE t SET v = 'b'").expect("updated");
        let looked = place.run_args(&["check", &t, &server.table("reknit", "u")]).exits(1);
        assert!(!looked.err.contains("read whole"), "{}", looked.err);
        place.run_args(&drop).ok();
        assert_eq!(catalog(&mut client), before);
    }
}

#[test]
fn killed_while_it_makes_triggers() {
    kill_at("triggers", "LOCK TABLE t IN SHARE MODE", false);
}

#[test]
fn killed_while_it_drops_triggers() {
    kill_at("triggers", "SELECT FROM t", true);
}

#[test]
fn killed_while_it_makes_a_publication() {
    kill_at("slot", "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE", false);
}

#[test]
fn killed_while_it_makes_a_slot() {
    // A slot begins once those who write have ended.
    kill_at("slot", "INSERT INTO other VALUES (1)", false);
}

#[test]
fn killed_while_it_drops_a_publication() {
    // The slot has gone by then.
    kill_at("slot", "COMMENT ON PUBLICATION PUBLICATION_NAME IS 'held'", true);
}

#[test]
fn a_slot_that_is_being_made_for_nobody_is_dropped_all_the_same() {
    let (server, place) = (Server::with_slots(), Place::new());
    server.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int)");
    let mut client = server.client();
    let before = catalog(&mut client);
    let t = server.table("reknit", "t");
    let mut holder = server.client();
    let mut transaction = holder.transaction().expect("a transaction");
    transaction.batch_execute("INSERT INTO other VALUES (1)").expect("held");
    kill_once(&place, &["index", "build", &t, "--feed", "slot", "--apply"], || waits(&mut client));
    place.run_args(&["index", "drop", &t, "--orphans"]).ok();
    assert_eq!(catalog(&mut client), before);
    transaction.rollback().expect("no longer held");
    gone(&mut client);
    assert_eq!(catalog(&mut client), before);
}

fn schema(file: &Path) -> Vec<String> {
    let connection = Connection::open(file).expect("a database");
    let mut all = connection.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY 1").expect("a query");
    all.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect()
}

/// Whether a writer has begun to change pages, which it journals first.
fn is_writing(file: &Path) -> bool {
    std::fs::metadata(format!("{}-journal", file.display())).is_ok_and(|journal| journal.len() > 0)
}

#[test]
fn killed_while_it_makes_and_drops_triggers_of_sqlite() {
    for dropping in [false, true] {
        let place = Place::new();
        let file = place.path("a.db");
        let connection = Connection::open(&file).expect("a database");
        connection
            .execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'a')")
            .expect("made");
        std::fs::copy(&file, place.path("b.db")).expect("copied");
        let before = schema(&file);
        let (build, drop) =
            (["index", "build", "sqlite:a.db", "--feed", "triggers", "--apply"], ["index", "drop", "sqlite:a.db"]);
        if dropping {
            place.run_args(&build).ok();
        }
        let was = schema(&file);
        // A reader keeps what was written from being committed.
        connection.execute_batch("BEGIN; SELECT count(*) FROM t").expect("read");
        let args: &[&str] = if dropping { &drop } else { &build };
        kill_once(&place, args, || is_writing(&file));
        connection.execute_batch("COMMIT").expect("ended");
        assert_eq!(schema(&file), was, "it is whole or not at all");
        place.run("index drop sqlite:a.db --orphans").ok();
        assert_eq!(schema(&file), before, "nothing is left");
        place.run_args(&build).ok();
        connection.execute_batch("UPDATE t SET v = 'b'").expect("updated");
        let looked = place.run("check sqlite:a.db sqlite:b.db").exits(1);
        assert!(!looked.err.contains("read whole"), "{}", looked.err);
        place.run_args(&drop).ok();
        assert_eq!(schema(&file), before);
    }
}

const NUMBERS: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
    WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 60000) INSERT INTO t SELECT x, 'v' || x FROM i;";

/// Files of sorted rows of a scan that is to be gone on with.
pub(crate) fn sorted_files(place: &Place) -> usize {
    let indexes = std::fs::read_dir(place.path("home/index")).into_iter().flatten().flatten();
    indexes.flat_map(|index| std::fs::read_dir(index.path().join("scan")).into_iter().flatten()).count()
}

/// Builds an index slowly, and kills that once some of it is kept.
fn kill_scan(place: &Place, table: &str) {
    let slow = ["index", "build", table, "--feed", "triggers", "--apply", "--max-rate", "8000"];
    // The second file is begun once the first is noted.
    kill_once(place, &slow, || sorted_files(place) >= 2);
}

/// The same again reads the rest, and says so.
fn finish_scan(place: &Place, table: &str) {
    place.run_args(&["index", "build", table, "--feed", "triggers", "--apply"]).ok().says(&["goes on behind"]);
    assert_eq!(sorted_files(place), 0);
}

#[test]
fn a_killed_scan_goes_on_where_it_was_and_misses_nothing() {
    let place = Place::new();
    let [a, b] = ["a.db", "b.db"].map(|file| {
        let connection = Connection::open(place.path(file)).expect("a database");
        connection.execute_batch(NUMBERS).expect("statements");
        connection
    });
    kill_scan(&place, "sqlite:a.db");
    // What was read already changes, and what was not; one row moves from the one to the other, one back.
    let changes = "UPDATE t SET v = 'x' WHERE id IN (1, 59000); DELETE FROM t WHERE id IN (2, 59001);
        UPDATE t SET id = 70000 WHERE id = 3; UPDATE t SET id = -1 WHERE id = 59002; INSERT INTO t VALUES (-2, 'new')";
    a.execute_batch(changes).expect("changed");
    finish_scan(&place, "sqlite:a.db");
    place.run("index verify sqlite:a.db").ok().says(&["sound: 59,999 rows"]);
    b.execute_batch(changes).expect("changed");
    place.run("check sqlite:a.db sqlite:b.db").ok().says(&["in sync: 59,999 records"]);
    // Another is begun anew, not gone on with.
    let told = place.run("index build sqlite:a.db --feed triggers --apply").ok();
    assert!(!told.err.contains("goes on"), "{}", told.err);
}

#[test]
fn a_killed_scan_whose_feed_had_a_gap_counts_for_nothing() {
    let place = Place::new();
    let a = Connection::open(place.path("a.db")).expect("a database");
    a.execute_batch(NUMBERS).expect("statements");
    kill_scan(&place, "sqlite:a.db");
    // A schema that has changed is one under which the feed may have missed something, as here.
    let triggers = "SELECT group_concat('DROP TRIGGER ' || name, ';') || ';UPDATE t SET v = ''unseen'' WHERE id = 1;' || \
                    group_concat(sql, ';') FROM sqlite_schema WHERE type = 'trigger'";
    let unseen: String = a.query_row(triggers, [], |row| row.get(0)).expect("triggers");
    a.execute_batch(&unseen).expect("changed");
    finish_scan(&place, "sqlite:a.db");
    place.run("index verify sqlite:a.db").ok().says(&["sound: 60,000 rows"]);
}

#[test]
fn a_killed_scan_of_a_server_goes_on_behind_keys_of_all_kinds() {
    let (place, server) = (Place::new(), Server::start());
    server.sql(
        "CREATE TABLE t (k text, n int, v text, PRIMARY KEY (k, n)); INSERT INTO t \
         SELECT CASE i % 3 WHEN 0 THEN 'it''s' WHEN 1 THEN 'a\\b' ELSE 'k' || i END, i, 'v' || i FROM generate_series(1, 60000) i; ANALYZE t",
    );
    let t = server.table("reknit", "t");
    kill_scan(&place, &t);
    gone(&mut server.client());
    server.sql("UPDATE t SET v = 'x' WHERE n % 1000 = 0; DELETE FROM t WHERE n % 1000 = 1");
    finish_scan(&place, &t);
    place.run_args(&["index", "verify", &t]).ok().says(&["sound: 59,940 rows"]);
}
