//! Tables of PostgreSQL, by a real server: compared with each other and with SQLite, read by whoever may only read.

use crate::harness::Place;
use crate::server::Server;

const TYPES: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'fine');
    CREATE DOMAIN cents AS numeric(12, 2);
    CREATE TABLE t (
        id uuid PRIMARY KEY, ok boolean, small smallint, n integer, big bigint, price cents, half real, whole double precision,
        name text, code char(5), label varchar(9), feeling mood, raw bytea, day date, at time, civil timestamp, instant timestamptz,
        doc json, docs jsonb, doubled bigint GENERATED ALWAYS AS (big / 2) STORED);
    INSERT INTO t VALUES
        ('6f9619ff-8b86-d011-b42d-00cf4fc964ff', true, -7, 2147483647, 9223372036854775807, 12.50, 0.1, 1e300, 'Zürich', 'ab',
         '', 'fine', '\\x00ff', '1969-07-20', '20:17:40.5', '2026-01-02 03:04:05.000006', '2026-01-02 03:04:05+02',
         '{\"b\": 1, \"a\": [null]}', '{\"a\": 1.50}'),
        ('00000000-0000-0000-0000-000000000001', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
         NULL, NULL, NULL, NULL),
        ('00000000-0000-0000-0000-000000000002', false, 0, 0, 0, 0, 0, -0.0, '', '', 'x', 'sad', '', '0044-03-15 BC', '00:00', '1900-01-01',
         '1582-10-15 00:00:00+00', '[]', '\"x\"');";

const IN_SQLITE: &str = "
    CREATE TABLE t (
        id TEXT PRIMARY KEY, ok BOOLEAN, small INTEGER, n INTEGER, big INTEGER, price TEXT, half REAL, whole REAL, name TEXT, code TEXT,
        label TEXT, feeling TEXT, raw BLOB, day DATE, at TIME, civil DATETIME, instant TEXT, doc JSON, docs TEXT);
    INSERT INTO t VALUES
        ('6F9619FF-8B86-D011-B42D-00CF4FC964FF', 1, -7, 2147483647, 9223372036854775807, '12.5', 0.1, 1e300, 'Zürich', 'ab', '', 'fine',
         x'00ff', '1969-07-20', '20:17:40.500', '2026-01-02 03:04:05.000006', '2026-01-02T01:04:05Z', '{\"a\":[null],\"b\":1}',
         '{\"a\":1.5}'),
        ('00000000-0000-0000-0000-000000000001', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
         NULL, NULL, NULL),
        ('00000000-0000-0000-0000-000000000002', 0, 0, 0, 0, '0.00', 0, 0.0, '', '', 'x', 'sad', x'', '-0043-03-15', '00:00', '1900-01-01 00:00',
         '1582-10-15 00:00:00+00', '[]', '\"x\"');";

#[test]
fn rows_that_mean_the_same_are_equal_in_postgresql_and_sqlite() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(TYPES);
    server.sql("CREATE ROLE reader LOGIN; GRANT SELECT ON t TO reader");
    let lite = rusqlite::Connection::open(place.path("b.db")).expect("a database");
    lite.execute_batch(IN_SQLITE).expect("statements");
    let (pg, lite_place) = (server.table("reader", "t"), "sqlite:b.db");
    let diff = place.run_args(&["diff", &pg, lite_place]);
    diff.ok().says(&["in sync: 3 records on both sides"]);
    for change in
        ["name = 'Zurich'", "price = 12.51", "code = 'abc'", "instant = instant + interval '1 us'", "docs = '1'"]
    {
        server.sql(&format!("BEGIN; UPDATE t SET {change} WHERE ok"));
        place.run_args(&["check", lite_place, &pg]).ok();
        server.sql(&format!("UPDATE t SET {change} WHERE ok"));
        place.run_args(&["check", lite_place, &pg]).exits(1);
        server.sql(&format!("DROP TABLE t; DROP DOMAIN cents; DROP TYPE mood; {TYPES}; GRANT SELECT ON t TO reader"));
    }
    place.run_args(&["check", &pg, lite_place]).ok();
}

#[test]
fn many_rows_partitions_and_keys_of_several_columns() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a (k text NOT NULL, n integer NOT NULL, v text, odd int4range, tags text[], PRIMARY KEY (n, k))
             PARTITION BY RANGE (n);
         CREATE TABLE a1 PARTITION OF a FOR VALUES FROM (0) TO (5000);
         CREATE TABLE a2 PARTITION OF a FOR VALUES FROM (5000) TO (100000);
         INSERT INTO a SELECT 'k' || i % 7, i, repeat('v', i % 50), int4range(i, i + 1), ARRAY['x', NULL, i::text]
             FROM generate_series(0, 19999) AS i;
         CREATE SCHEMA other;
         CREATE TABLE other.\"A \"\"b\" (LIKE a);
         ALTER TABLE other.\"A \"\"b\" ADD UNIQUE (n, k);
         INSERT INTO other.\"A \"\"b\" SELECT * FROM a",
    );
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "other.\"A \"\"b\""));
    place.run_args(&["check", &a, &b]).ok().says(&["in sync: 20,000 records"]);
    server.sql("DELETE FROM a WHERE n = 3; UPDATE a SET tags = ARRAY['x', '', '77'] WHERE n = 77; UPDATE a SET odd = '[1,9)' WHERE n = 9999");
    let diff = place.run_args(&["diff", &a, &b]).exits(1);
    assert_eq!(diff.out.lines().count(), 4, "{}", diff.out);
}

#[test]
fn what_cannot_be_read_is_named_and_no_password_told() {
    let (server, place) = (Server::start(), Place::new());
    server.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE none (id int); CREATE ROLE stranger LOGIN");
    let told = |address: &str| place.run_args(&["check", address, &server.table("reknit", "t")]).fails("database");
    told(&server.table("reknit", "missing")).says(&["no table missing"]);
    told(&server.table("reknit", "none")).says(&["cannot be told apart"]);
    told(&server.table("stranger", "t")).says(&["may read"]);
    told("postgres://me@host/db").says(&["database/table"]);
    let host = server.table("reknit", "t").replace("reknit@", "reknit:secret@").replace("/postgres/t", "/lost/t");
    let refused = told(&host).says(&["does not exist"]);
    assert!(!refused.err.contains("secret"), "{}", refused.err);
    place.run_args(&[
        "check",
        &server.table("reknit", "t").replace("reknit@", "reknit:secret@"),
        &server.table("reknit", "none"),
    ]);
    let home = place.run("status");
    assert!(!home.out.contains("secret"));
}
