//! What tables are compared by, and a column that is read otherwise than it is meant.

use rusqlite::Connection;

use crate::harness::Place;
use crate::server::Server;

#[test]
fn a_table_and_a_pair_are_explained() {
    let place = Place::new();
    for file in ["a.db", "b.db"] {
        let connection = Connection::open(place.path(file)).expect("a database");
        let statements = "CREATE TABLE t (id INTEGER PRIMARY KEY, at DATETIME, name TEXT);
            CREATE TRIGGER noted AFTER INSERT ON t BEGIN SELECT 1; END; CREATE TABLE c (t INTEGER REFERENCES t ON DELETE CASCADE);
            WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 3000)
            INSERT INTO t SELECT x, datetime('2026-01-01', x || ' minutes'), 'name ' || x FROM i;";
        connection.execute_batch(statements).expect("statements");
    }
    let told = place.run("explain sqlite:a.db/t").ok();
    told.says(&["key\tid", "at datetime (DATETIME)", "noted", "rows of c", "would install triggers"]);
    let told = place.run("explain sqlite:a.db/t sqlite:b.db/t").ok();
    told.says(&["1,000 shared rows were probed: none differs", "at is compared as datetime"]);
    place.run("explain sqlite:a.db/none").fails("database");
    place.run("explain sqlite:a.db/t sqlite:b.db/c").fails("database");
    // Two hours apart, in all rows; some names drifted.
    let b = Connection::open(place.path("b.db")).expect("a database");
    b.execute_batch("UPDATE t SET at = datetime(at, '2 hours'); UPDATE t SET name = 'x' WHERE id % 100 = 0")
        .expect("statements");
    let told = place.run("explain sqlite:a.db/t sqlite:b.db/t").exits(4);
    told.says(&["at differs in 1000 of 1000 probed rows, always by 2 h", "different zones", "wrote 0 records"]);
    let before: String = b.query_row("SELECT group_concat(at) FROM t", [], |row| row.get(0)).expect("a row");
    for apply in ["", "--apply"] {
        let ran = place.run(&format!("repair sqlite:a.db/t sqlite:b.db/t --to b {apply}")).exits(4);
        ran.says(&["[database.probe]"]).says(&["always by 2 h", "--no-probe", "wrote 0 records"]);
    }
    let after: String = b.query_row("SELECT group_concat(at) FROM t", [], |row| row.get(0)).expect("a row");
    assert_eq!(before, after);
    place.run("repair sqlite:a.db/t sqlite:b.db/t --to b --no-probe --max-change 100% --apply").ok();
    // Once repaired, much that differs is drift.
    b.execute_batch("UPDATE t SET name = NULL").expect("statements");
    place.run("repair sqlite:a.db/t sqlite:b.db/t --to b --max-change 100% --apply").ok().says(&["3,000 to b"]);
}

#[test]
fn kinds_of_postgresql_are_probed_and_looking_changes_nothing() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a AS SELECT i AS id, now() + i * interval '1.0001 s' AS at, 'n' || i AS name FROM generate_series(1, 100) AS i;
         CREATE TABLE b AS SELECT id, date_trunc('second', at) AS at, upper(name) AS name FROM a;
         ALTER TABLE a ADD PRIMARY KEY (id); ALTER TABLE b ADD PRIMARY KEY (id);
         CREATE ROLE reader LOGIN; GRANT SELECT ON a, b TO reader",
    );
    let (a, b) = (server.table("reader", "a"), server.table("reader", "b"));
    let told = place.run_args(&["explain", &a, &b]).exits(4);
    told.says(&[
        "at differs in 100 of 100",
        "always by less than 1 s: b keeps less",
        "name differs in 100 of 100",
        "case alone",
    ]);
    place.run_args(&["explain", &a]).ok().says(&["at timestamp (timestamptz)"]);
}
