//! Indexes that follow tables of PostgreSQL by a slot of logical replication: what changes is noticed, a gap is never equal, and
//! nothing is left.

use postgres::Client;

use crate::daemon::until;
use crate::feeds::differ;
use crate::harness::{Place, Ran};
use crate::server::Server;

fn build(place: &Place, table: &str, more: &[&str]) -> Ran {
    place.run_args(&[&["index", "build", table, "--feed", "slot"], more].concat())
}

pub(crate) fn follows(place: &Place, table: &str) {
    build(place, table, &["--apply"]).ok().says(&["followed by slot"]);
}

/// Two equal tables of 1,000 rows, `a` followed by a slot, `b` by triggers.
pub(crate) fn pair(server: &Server, place: &Place) -> (String, String) {
    for name in ["a", "b"] {
        server.sql(&format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, v text); INSERT INTO {name} SELECT i, 'v' || i FROM generate_series(1, 1000) AS i"
        ));
    }
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    follows(place, &a);
    place.run_args(&["index", "build", &b, "--feed", "triggers", "--apply"]).ok();
    differ(place, &a, &b, &[]);
    (a, b)
}

/// That it was not read whole.
fn followed(looked: &Ran) {
    assert!(!looked.err.contains("read whole"), "{}", looked.err);
}

/// What a feed could leave: relations, functions, triggers, publications, slots, comments.
pub(crate) fn catalog(client: &mut Client) -> String {
    let query = "SELECT concat((SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
        ';', (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace), ';', (SELECT count(*) FROM pg_trigger), ';',
        (SELECT string_agg(pubname, ' ') FROM pg_publication), ';', (SELECT count(*) FROM pg_publication_rel), ';',
        (SELECT string_agg(slot_name, ' ') FROM pg_replication_slots), ';', (SELECT count(*) FROM pg_description))";
    client.query_one(query, &[]).expect("a row").get(0)
}

fn slot(server: &Server) -> String {
    server.client().query_one("SELECT slot_name::text FROM pg_replication_slots", &[]).expect("a slot").get(0)
}

#[test]
fn a_slot_notices_every_change() {
    let (server, place) = (Server::with_slots(), Place::new());
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id int, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
             CREATE TABLE {name}1 PARTITION OF {name} FOR VALUES IN (1); CREATE TABLE {name}2 PARTITION OF {name} FOR VALUES IN (2);
             INSERT INTO {name} SELECT i, 1 + i % 2, 'v' || i FROM generate_series(1, 1000) AS i;"
        )
    };
    server.sql(&table("a"));
    server.sql(&table("b"));
    let before = catalog(&mut server.client());
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    build(&place, &a, &[]).ok().says(&["CREATE PUBLICATION", "pg_create_logical_replication_slot", "add --apply"]);
    assert_eq!(catalog(&mut server.client()), before, "looking changes nothing");
    follows(&place, &a);
    follows(&place, &b);
    differ(&place, &a, &b, &[]);
    for (change, keys) in [
        ("UPDATE a SET v = 'x' WHERE id = 5", vec!["5,2"]),
        // By the name of a part.
        ("INSERT INTO a1 VALUES (2000, 1, 'new')", vec!["2000,1", "5,2"]),
        ("DELETE FROM a WHERE id IN (1, 2)", vec!["1,2", "2,1", "2000,1", "5,2"]),
        // From one part to the other.
        ("UPDATE a SET id = 3000, part = 2 WHERE id = 2000", vec!["1,2", "2,1", "3000,2", "5,2"]),
        ("COPY a FROM PROGRAM 'printf \"1\\t2\\tv1\\n2\\t1\\tv2\\n\"'", vec!["3000,2", "5,2"]),
        ("SET session_replication_role = replica; DELETE FROM a2 WHERE id = 3000", vec!["5,2"]),
        ("BEGIN; UPDATE a SET v = 'gone'; ROLLBACK", vec!["5,2"]),
        (
            "BEGIN; SAVEPOINT s; UPDATE a SET v = 'gone'; ROLLBACK TO s; UPDATE a SET v = 'y' WHERE id = 6; COMMIT",
            vec!["5,2", "6,1"],
        ),
        ("BEGIN; UPDATE a SET v = 'late' WHERE id = 7; PREPARE TRANSACTION 'p'", vec!["5,2", "6,1"]),
        ("UPDATE a SET v = 'v6' WHERE id = 6", vec!["5,2"]),
        ("COMMIT PREPARED 'p'", vec!["5,2", "7,2"]),
        (
            "MERGE INTO a USING b ON a.id = b.id AND a.part = b.part WHEN MATCHED AND a.v <> b.v THEN UPDATE SET v = b.v",
            vec![],
        ),
    ] {
        server.sql(change);
        followed(&differ(&place, &a, &b, &keys));
    }
    // A transaction that began before a look and ends after it.
    let mut other = server.client();
    let mut transaction = other.transaction().expect("a transaction");
    transaction.batch_execute("UPDATE a SET v = 'late' WHERE id = 9").expect("updated");
    server.sql("UPDATE a SET v = 'early' WHERE id = 10");
    followed(&differ(&place, &a, &b, &["10,1"]));
    transaction.commit().expect("committed");
    followed(&differ(&place, &a, &b, &["10,1", "9,2"]));
    place.run_args(&["repair", &b, &a, "--to", "b", "--apply"]).ok();
    followed(&place.run_args(&["check", &a, &b]).ok());
    place.run_args(&["index", "verify", &a]).ok().says(&["sound: 1,000 rows"]);
    // A part that comes, goes, or is emptied.
    server.sql("CREATE TABLE a3 (id int, part int NOT NULL, v text, PRIMARY KEY (id, part)); INSERT INTO a3 VALUES (1, 3, 'x');
                ALTER TABLE a ATTACH PARTITION a3 FOR VALUES IN (3)");
    assert!(differ(&place, &a, &b, &["1,3"]).err.contains("its parts"));
    server.sql("INSERT INTO a VALUES (2, 3, 'y')");
    followed(&differ(&place, &a, &b, &["1,3", "2,3"]));
    server.sql("TRUNCATE a3");
    assert!(differ(&place, &a, &b, &[]).err.contains("TRUNCATE"));
    followed(&differ(&place, &a, &b, &[]));
    server.sql("ALTER TABLE a DETACH PARTITION a3");
    assert!(differ(&place, &a, &b, &[]).err.contains("its parts"));
    for table in [&a, &b] {
        place
            .run_args(&["index", "status", table])
            .ok()
            .says(&["followed by slot, 0 changes wait", "of its log for it"]);
        place.run_args(&["index", "drop", table, "--sql"]).ok().says(&["pg_drop_replication_slot", "DROP PUBLICATION"]);
        place.run_args(&["index", "drop", table, "--force"]).ok().says(&["and 1 feeds"]);
    }
    server.sql("DROP TABLE a3");
    assert_eq!(catalog(&mut server.client()), before, "nothing is left");
}

#[test]
fn a_gap_in_a_slot_is_never_equal() {
    let (mut server, place) = (Server::with_slots(), Place::new());
    let (a, b) = pair(&server, &place);
    let name = slot(&server);
    // Somebody else has read it.
    server.sql("UPDATE a SET v = 'x' WHERE id = 5");
    server.sql(&format!("SELECT pg_replication_slot_advance('{name}', pg_current_wal_lsn())"));
    assert!(differ(&place, &a, &b, &["5"]).err.contains("another has read it"));
    followed(&differ(&place, &a, &b, &["5"]));
    // It was made anew.
    server.sql("UPDATE a SET v = 'x' WHERE id = 6");
    server.sql(&format!("SELECT pg_drop_replication_slot('{name}')"));
    server.sql("UPDATE a SET v = 'x' WHERE id = 7");
    server.sql(&format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"));
    assert!(differ(&place, &a, &b, &["5", "6", "7"]).err.contains("made anew"));
    followed(&differ(&place, &a, &b, &["5", "6", "7"]));
    // The server was lost in the middle.
    server.sql("CHECKPOINT; UPDATE a SET v = 'v5' WHERE id = 5");
    followed(&differ(&place, &a, &b, &["6", "7"]));
    server.sql("UPDATE a SET v = 'v6' WHERE id = 6");
    server.crash();
    followed(&differ(&place, &a, &b, &["7"]));
    // The publication is another one.
    server.sql(&format!("ALTER PUBLICATION {name} SET (publish = 'insert'); UPDATE a SET v = 'v7' WHERE id = 7"));
    server.sql(&format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')"));
    assert!(differ(&place, &a, &b, &[]).err.contains("read whole"));
    followed(&differ(&place, &a, &b, &[]));
    // The slot is gone for good.
    server.sql(&format!("UPDATE a SET v = 'x' WHERE id = 8; SELECT pg_drop_replication_slot('{name}')"));
    assert!(differ(&place, &a, &b, &["8"]).err.contains("its slot is not there"));
    server.sql("UPDATE a SET v = 'v8' WHERE id = 8");
    assert!(differ(&place, &a, &b, &[]).err.contains("its slot is not there"), "it still is not");
    follows(&place, &a);
    followed(&differ(&place, &a, &b, &[]));
    // What lost homes have left goes from the database alone.
    std::fs::remove_dir_all(place.path("home/index")).expect("removed");
    place.run_args(&["index", "drop", &a]).ok().says(&["0 feeds"]);
    place.run_args(&["index", "drop", &a, "--orphans"]).ok().says(&["1 feeds"]);
    assert!(!catalog(&mut server.client()).contains(&name));
}

#[test]
fn log_that_was_lost_is_a_gap() {
    let server = Server::with_settings(&["max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=32MB"]);
    let place = Place::new();
    let (a, b) = pair(&server, &place);
    server.sql("UPDATE a SET v = 'x' WHERE id = 5");
    // A segment of its own each time; what is not kept for the slot goes with a checkpoint.
    for _ in 0..4 {
        server.sql("CREATE TABLE IF NOT EXISTS filler (v text); INSERT INTO filler VALUES ('x'); SELECT pg_switch_wal(); CHECKPOINT");
    }
    let lost: String =
        server.client().query_one("SELECT wal_status FROM pg_replication_slots", &[]).expect("a row").get(0);
    assert_eq!(lost, "lost");
    assert!(differ(&place, &a, &b, &["5"]).err.contains("removed log"));
    server.sql("UPDATE a SET v = 'v5' WHERE id = 5");
    assert!(differ(&place, &a, &b, &[]).err.contains("removed log"), "it stays so");
    follows(&place, &a);
    followed(&differ(&place, &a, &b, &[]));
}

#[test]
fn a_slot_that_keeps_too_much_is_dropped() {
    let (server, place) = (Server::with_slots(), Place::new());
    let (a, b) = pair(&server, &place);
    build(&place, &a, &["--apply", "--max-feed-lag", "1MiB"]).ok();
    followed(&differ(&place, &a, &b, &[]));
    server.sql("UPDATE a SET v = 'x' WHERE id = 5; CREATE TABLE filler AS SELECT repeat(md5(i::text), 50) FROM generate_series(1, 3000) AS i");
    assert!(differ(&place, &a, &b, &["5"]).err.contains("more than --max-feed-lag allows (1 MiB), so it was dropped"));
    let left = "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication)";
    assert_eq!(server.client().query_one(left, &[]).expect("a row").get::<_, i64>(0), 0);
    server.sql("UPDATE a SET v = 'v5' WHERE id = 5");
    assert!(differ(&place, &a, &b, &[]).err.contains("read whole"));
    // What others write alone does not keep the slot where it is.
    build(&place, &a, &["--apply"]).ok();
    followed(&differ(&place, &a, &b, &[]));
    let others = "INSERT INTO filler SELECT repeat(md5(i::text), 50) FROM generate_series(1, 30000) AS i";
    server.sql(others);
    followed(&differ(&place, &a, &b, &[]));
    // More than is read at once.
    for id in [5, 6, 7] {
        server.sql(&format!("{others}; UPDATE a SET v = 'x' WHERE id = {id}"));
    }
    place.run_args(&["index", "build", &a]).ok().says(&["1,000 rows indexed, 3 of them changed"]);
    followed(&differ(&place, &a, &b, &["5", "6", "7"]));
    let behind =
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) < 16000000 FROM pg_replication_slots";
    assert!(server.client().query_one(behind, &[]).expect("a row").get::<_, bool>(0));
}

#[test]
fn a_transaction_that_is_too_large_is_a_gap() {
    let (server, place) = (Server::with_slots(), Place::new());
    let (a, b) = pair(&server, &place);
    server.sql("BEGIN; INSERT INTO a SELECT i, 'x' FROM generate_series(2000, 502000) AS i; DELETE FROM a WHERE id >= 2000; COMMIT; UPDATE a SET v = 'x' WHERE id = 5");
    assert!(differ(&place, &a, &b, &["5"]).err.contains("a transaction changed more than 500000 rows"));
    server.sql("UPDATE a SET v = 'v5' WHERE id = 5");
    followed(&differ(&place, &a, &b, &[]));
}

#[test]
fn where_no_slot_can_be_had_it_is_told() {
    let place = Place::new();
    let server = Server::start();
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE n (id int NOT NULL); CREATE UNIQUE INDEX n_id ON n (id);
         CREATE UNLOGGED TABLE l (id int PRIMARY KEY); CREATE TABLE i (id inet PRIMARY KEY, v text); CREATE TABLE j (LIKE i INCLUDING ALL); CREATE ROLE app LOGIN; GRANT SELECT ON a TO app",
    );
    let table = |name: &str| server.table("reknit", name);
    build(&place, &table("a"), &["--apply"])
        .exits(4)
        .says(&["[database.unbounded]", "max_slot_wal_keep_size = '10GB'"]);
    build(&place, &table("n"), &["--apply"])
        .fails("database")
        .says(&["ALTER TABLE n REPLICA IDENTITY USING INDEX n_id"]);
    build(&place, &table("l"), &["--apply"]).fails("database").says(&["unlogged"]);
    build(&place, &table("i"), &["--apply"]).fails("database").says(&["id (inet)", "--feed triggers"]);
    build(&place, &server.table("app", "a"), &["--apply"]).fails("database").says(&["ALTER ROLE \"app\" REPLICATION"]);
    assert!(!catalog(&mut server.client()).contains("reknit_"), "nothing was installed");
    server.sql("ALTER TABLE n REPLICA IDENTITY USING INDEX n_id");
    for name in ["a", "n"] {
        build(&place, &table(name), &["--apply", "--unbounded-wal"]).ok().says(&["followed by slot"]);
    }
    server.sql("INSERT INTO a VALUES (1); INSERT INTO n VALUES (2); UPDATE n SET id = 1");
    followed(&place.run_args(&["check", &table("a"), &table("n")]).ok());
    // Another one that tells the key too, and none.
    server.sql(
        "ALTER TABLE n REPLICA IDENTITY FULL; UPDATE n SET id = 3; ALTER TABLE n REPLICA IDENTITY USING INDEX n_id",
    );
    followed(&differ(&place, &table("a"), &table("n"), &["1", "3"]));
    server.sql("ALTER TABLE n REPLICA IDENTITY NOTHING; INSERT INTO n VALUES (4)");
    let looked = differ(&place, &table("a"), &table("n"), &["1", "3", "4"]);
    looked.says(&["does not tell the key (id) of rows of n"]);
    // Triggers follow keys of any type.
    place.run_args(&["index", "build", &table("i"), "--feed", "triggers", "--apply"]).ok();
    server.sql("INSERT INTO i VALUES ('10.0.0.1', 'a'), ('10.0.0.0/8', 'b'); INSERT INTO j VALUES ('10.0.0.1', 'a')");
    followed(&place.run_args(&["diff", &table("i"), &table("j")]).exits(1).says(&["1 only in a"]));
    // A right that is taken away, and one that comes back: nothing was missed.
    server.sql("CREATE TABLE o (id int PRIMARY KEY); ALTER TABLE o OWNER TO app");
    server.sql("ALTER ROLE app REPLICATION; GRANT CREATE ON DATABASE postgres TO app");
    let app = server.table("app", "o");
    build(&place, &app, &["--apply", "--unbounded-wal"]).ok();
    server.sql("ALTER ROLE app NOREPLICATION; INSERT INTO o VALUES (5)");
    place.run_args(&["check", &app, &table("n")]).fails("database").says(&["the right REPLICATION", "--grants slot"]);
    server.sql("ALTER ROLE app REPLICATION");
    place.run_args(&["index", "build", &app]).ok().says(&["1 rows indexed, 1 of them changed"]);
    // Nothing is left of what could not be made whole.
    let full = Server::with_settings(&["max_slot_wal_keep_size=1GB", "max_replication_slots=0"]);
    full.sql("CREATE TABLE a (id int PRIMARY KEY)");
    build(&place, &full.table("reknit", "a"), &["--apply"]).fails("database").says(&["max_replication_slots"]);
    assert!(!catalog(&mut full.client()).contains("reknit_"), "nothing is left");
    let plain = Server::with_settings(&["wal_level=replica"]);
    plain.sql("CREATE TABLE a (id int PRIMARY KEY)");
    build(&place, &plain.table("reknit", "a"), &[]).fails("database").says(&["wal_level is replica", "restart"]);
    let lite = rusqlite::Connection::open(place.path("b.db")).expect("a database");
    lite.execute_batch("CREATE TABLE a (id INTEGER PRIMARY KEY)").expect("made");
    build(&place, "sqlite:b.db", &[]).fails("database").says(&["--feed triggers"]);
}

#[test]
fn keys_of_every_kind_are_followed() {
    let (server, place) = (Server::with_slots(), Place::new());
    let columns =
        "id uuid, n numeric, f double precision, b bytea, ok boolean, c char(3), day date, at timestamptz, mood mood";
    server.sql("CREATE TYPE mood AS ENUM ('sad', 'fine')");
    for name in ["a", "b"] {
        server.sql(&format!("CREATE TABLE {name} ({columns}, v int, PRIMARY KEY (id, n, f, b, ok, c, day, at, mood))"));
        server.sql(&format!("INSERT INTO {name} SELECT '6f9619ff-8b86-d011-b42d-00cf4fc964ff', 1.50 * i, 0.1 * i, '\\x00ff', i % 2 = 0, 'a', '1969-07-20', '2026-01-02 03:04:05+02', 'fine', i FROM generate_series(1, 9) AS i"));
    }
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    follows(&place, &a);
    follows(&place, &b);
    server.sql("UPDATE a SET v = 0 WHERE v = 5; UPDATE b SET f = -0.0 WHERE v = 6");
    let looked = place.run_args(&["diff", &a, &b]).exits(1);
    followed(&looked);
    looked.says(&["1 only in a, 1 only in b, 1 with different content"]);
}

#[test]
fn an_index_that_was_put_back_is_behind_its_slot() {
    let (server, place) = (Server::with_slots(), Place::new());
    let (a, b) = pair(&server, &place);
    let copy = |from: &str, to: &str| {
        let _ = std::fs::remove_dir_all(place.path(to));
        let copied = std::process::Command::new("cp").arg("-a").arg(place.path(from)).arg(place.path(to)).status();
        assert!(copied.expect("cp").success());
    };
    copy("home", "saved");
    server.sql("UPDATE a SET v = 'x' WHERE id = 5");
    followed(&differ(&place, &a, &b, &["5"]));
    // The slot was moved past what this index knows.
    copy("saved", "home");
    assert!(differ(&place, &a, &b, &["5"]).err.contains("another has read it"));
    followed(&differ(&place, &a, &b, &["5"]));
}

#[test]
fn a_server_that_was_put_back_is_a_gap() {
    let (mut server, place) = (Server::with_slots(), Place::new());
    let (a, b) = pair(&server, &place);
    server.save();
    followed(&differ(&place, &a, &b, &[]));
    server.sql("UPDATE a SET v = 'x' WHERE id = 5");
    followed(&differ(&place, &a, &b, &["5"]));
    server.put_back();
    // Its log has gone further than it had been read before.
    server.sql("CREATE TABLE filler AS SELECT repeat(md5(i::text), 50) FROM generate_series(1, 3000) AS i; UPDATE a SET v = 'x' WHERE id = 6");
    assert!(differ(&place, &a, &b, &["6"]).err.contains("put back to an earlier state"));
    followed(&differ(&place, &a, &b, &["6"]));
}

#[test]
fn a_standby_has_no_slot_of_its_own() {
    let (mut server, place) = (Server::with_slots(), Place::new());
    let (a, b) = pair(&server, &place);
    place.run_args(&["index", "drop", &b]).ok();
    server.sql("UPDATE a SET v = 'x' WHERE id = 5");
    server.become_standby();
    build(&place, &b, &[]).fails("database").says(&["is a standby", "its primary"]);
    assert!(differ(&place, &a, &b, &["5"]).err.contains("its slot is not there"));
}

#[test]
fn what_is_in_the_log_and_not_yet_seen_comes_again() {
    let settings = ["max_slot_wal_keep_size=1GB", "synchronous_standby_names=nobody", "synchronous_commit=local"];
    let (server, place) = (Server::with_settings(&settings), Place::new());
    let (a, b) = pair(&server, &place);
    let mut client = server.client();
    let waits = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    std::thread::scope(|scope| {
        // It waits for a standby that never comes: what it wrote is in the log, and nobody sees it.
        let writer = scope.spawn(|| server.sql("SET synchronous_commit = on; UPDATE a SET v = 'x' WHERE id = 5"));
        until(|| client.query_one(&format!("SELECT EXISTS (SELECT {waits})"), &[]).expect("a row").get(0));
        followed(&differ(&place, &a, &b, &[]));
        server.sql("UPDATE a SET v = 'x' WHERE id = 6");
        // What came behind it is seen already.
        followed(&differ(&place, &a, &b, &["6"]));
        server.sql(&format!("SELECT pg_cancel_backend(pid) {waits}"));
        writer.join().expect("written");
    });
    followed(&differ(&place, &a, &b, &["5", "6"]));
}
