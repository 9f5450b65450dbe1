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
fn gone(client: &mut Client) {
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
