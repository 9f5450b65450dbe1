//! Tables that are changed under their indexes: rows that DDL changes are found whatever the feed, and an index that its table has
//! outgrown is named with what to do.

use rusqlite::Connection;

use crate::feeds::differ;
use crate::harness::Place;
use crate::server::Server;

const TABLE: &str = "(id int PRIMARY KEY, v text); INSERT INTO";
const ROWS: &str = "VALUES (1, 'a'), (2, 'b'), (3, 'c')";

/// A table in PostgreSQL that a feed follows, and its equal in SQLite.
fn pair(feed: &str) -> (Server, Place, String) {
    let (server, place) = (Server::with_slots(), Place::new());
    server.sql(&format!("CREATE TABLE t {TABLE} t {ROWS}"));
    sqlite(&place, &format!("CREATE TABLE t {TABLE} t {ROWS}"));
    let t = server.table("reknit", "t");
    for (table, with, feed) in [(t.as_str(), "sqlite:b.db", feed), ("sqlite:b.db", &t, "triggers")] {
        place.run_args(&["index", "build", table, "--with", with, "--feed", feed, "--apply"]).ok();
    }
    assert!(!differ(&place, &t, "sqlite:b.db", &[]).err.contains("read whole"));
    (server, place, t)
}

fn sqlite(place: &Place, statements: &str) {
    Connection::open(place.path("b.db")).expect("a database").execute_batch(statements).expect("statements");
}

#[test]
fn rows_that_ddl_changes_are_found() {
    for feed in ["triggers", "slot"] {
        let (server, place, t) = pair(feed);
        let b = "sqlite:b.db";
        for (change, back) in [
            ("ALTER TABLE t ALTER v TYPE text USING upper(v)", "UPDATE t SET v = lower(v)"),
            ("ALTER TABLE t DROP COLUMN v; ALTER TABLE t ADD COLUMN v text", "UPDATE t SET v = chr(96 + id)"),
            (
                "ALTER TABLE t DROP COLUMN v; ALTER TABLE t ADD COLUMN v text NOT NULL DEFAULT 'x'",
                "UPDATE t SET v = chr(96 + id)",
            ),
        ] {
            server.sql(change);
            let looked = differ(&place, &t, b, &["1", "2", "3"]);
            assert!(looked.err.contains("was read whole, its feed had a gap"), "{feed}, {change}: {}", looked.err);
            server.sql(back);
            assert!(!differ(&place, &t, b, &[]).err.contains("read whole"), "{feed}, {change}");
        }
        // In SQLite too.
        sqlite(&place, "ALTER TABLE t DROP COLUMN v; ALTER TABLE t ADD COLUMN v text");
        assert!(differ(&place, &t, b, &["1", "2", "3"]).err.contains("the schema of the file"), "{feed}");
    }
}

#[test]
fn an_index_that_its_table_has_outgrown_is_named() {
    for feed in ["triggers", "slot"] {
        let (server, place, t) = pair(feed);
        let b = "sqlite:b.db";
        let both = |statements: &str| {
            server.sql(statements);
            sqlite(&place, statements);
        };
        server.sql("ALTER TABLE t ADD COLUMN w text");
        place.run_args(&["check", &t, b]).exits(4).says(&["[database.shape]", "no column w"]);
        sqlite(&place, "ALTER TABLE t ADD COLUMN w text");
        let looked = differ(&place, &t, b, &[]);
        looked.says(&["its column w is new; it is of no use, nor is its feed: reknit index drop"]);
        place.run_args(&["index", "status", &t]).ok().says(&["its column w is new"]);
        place.run_args(&["index", "verify", &t]).fails("database").says(&["its column w is new: reknit index drop"]);
        both("ALTER TABLE t RENAME COLUMN v TO u");
        differ(&place, &t, b, &[]).says(&["it has no column v any more"]);
        // Dropped as told, there is nothing left to tell.
        place.run_args(&["index", "drop", &t]).ok().says(&["and 1 feeds"]);
        place.run_args(&["index", "drop", b]).ok().says(&["and 1 feeds"]);
        let looked = differ(&place, &t, b, &[]);
        assert!(!looked.err.contains("of no use"), "{}", looked.err);
        server.sql("ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (u)");
        place.run_args(&["check", &t, b]).exits(4).says(&["[database.shape]", "the key of"]);
    }
}
