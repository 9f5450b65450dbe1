//! Logical replication of PostgreSQL whose subscriber drifts: found, repaired, and followed by a feed.

use crate::harness::Place;
use crate::server::Server;

/// Waits until a query of the subscriber gives true: replication is not to be hurried.
fn until(server: &Server, query: &str) {
    let mut client = server.client();
    while !client.query_one(query, &[]).expect("a row").get::<_, bool>(0) {
        std::thread::yield_now();
    }
}

#[test]
fn a_subscriber_that_lost_and_changed_rows_is_found_and_repaired() {
    let (publisher, subscriber, place) = (Server::start(), Server::start(), Place::new());
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text)";
    publisher.sql(table);
    publisher
        .sql("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 2000) AS i; CREATE PUBLICATION p FOR TABLE t");
    subscriber.sql(table);
    subscriber.sql(&format!("CREATE SUBSCRIPTION s CONNECTION '{}' PUBLICATION p", publisher.conninfo()));
    until(&subscriber, "SELECT count(*) = 2000 FROM t");
    let (a, b) = (publisher.table("reknit", "t"), subscriber.table("reknit", "t"));
    place.run_args(&["check", &a, &b]).ok().says(&["in sync: 2,000 records"]);
    for table in [&a, &b] {
        place
            .run_args(&["index", "build", table, "--feed", "triggers", "--apply"])
            .ok()
            .says(&["followed by triggers"]);
    }
    // What replication brings is noticed.
    publisher
        .sql("UPDATE t SET v = 'new' WHERE id <= 10; DELETE FROM t WHERE id = 11; INSERT INTO t VALUES (3000, 'more')");
    until(&subscriber, "SELECT count(*) = 1 FROM t WHERE id = 3000");
    let looked = place.run_args(&["check", &a, &b]).ok();
    assert!(!looked.err.contains("read whole"), "{}", looked.err);
    // Somebody writes to the wrong side.
    subscriber.sql("DELETE FROM t WHERE id BETWEEN 100 AND 119; UPDATE t SET v = 'wrong' WHERE id = 200; INSERT INTO t VALUES (4000, 'own')");
    let found = place.run_args(&["diff", &a, &b]).exits(1);
    assert!(!found.err.contains("read whole"), "{}", found.err);
    found.says(&["22 changed in b"]);
    place.run_args(&["repair", &a, &b, "--to", "b", "--delete", "--apply"]).exits(4).says(&["[database.replica]"]);
    let repaired = ["repair", &a, &b, "--to", "b", "--delete", "--write-replica", "--apply"];
    place.run_args(&repaired).ok().says(&["22 to b", "in sync: 2,000 records"]);
    // And replication goes on.
    publisher.sql("UPDATE t SET v = 'last' WHERE id = 100");
    until(&subscriber, "SELECT v = 'last' FROM t WHERE id = 100");
    place.run_args(&["check", &b, &a]).ok();
    subscriber.sql("DROP SUBSCRIPTION s");
}
