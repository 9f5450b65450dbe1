//! Tables of PostgreSQL, by a real server: compared with each other and with SQLite, read by whoever may only read.

use crate::harness::Place;
use crate::server::Server;
use crate::slots::catalog;

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
    let whole = place.run_args(&["check", "postgres://me@host/db", &server.table("reknit", "t")]);
    whole.fails("usage.databases").says(&["postgres://me@host/db/TABLE"]);
    let host = server.table("reknit", "t").replace("reknit@", "reknit:secret@").replace("/postgres/t", "/lost/t");
    let refused = told(&host).says(&["does not exist"]);
    assert!(!refused.err.contains("secret"), "{}", refused.err);
    place.run_args(&[
        "check",
        &server.table("reknit", "t").replace("reknit@", "reknit:secret@"),
        &server.table("reknit", "none"),
    ]);
    // What is to be typed next is told without it.
    server.sql("CREATE TABLE u (LIKE t INCLUDING ALL); INSERT INTO u VALUES (1)");
    let secret = |table: &str| server.table("reknit", table).replace("reknit@", "reknit:secret@");
    let repaired = place.run_args(&["repair", &secret("u"), &secret("t"), "--to", "b", "--apply"]).ok();
    let undone = place.run_args(&["runs", "undo", &secret("t"), "1"]).ok();
    for ran in [repaired.says(&["runs undo postgres://reknit@"]), undone.says(&["resume postgres://reknit@"])] {
        assert!(!format!("{} {}", ran.out, ran.err).contains("secret"), "{ran:?}");
    }
    let home = place.run("status");
    assert!(!home.out.contains("secret"));
}

/// What a query of one column of text gives.
fn column(server: &Server, query: &str) -> Vec<String> {
    let rows = server.client().query(query, &[]).expect("rows");
    rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_else(|| "NULL".into())).collect()
}

#[test]
fn a_repair_writes_every_type_both_ways_and_is_undone() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(TYPES);
    let lite = rusqlite::Connection::open(place.path("b.db")).expect("a database");
    lite.execute_batch(IN_SQLITE).expect("statements");
    let (pg, lite_place) = (server.table("reknit", "t"), "sqlite:b.db");
    let whole = "SELECT t::text FROM t ORDER BY id";
    let before = column(&server, whole);
    let repair = |a: &str, b: &str, more: &[&str]| {
        let words = [&["repair", a, b, "--to", "b", "--apply"], more].concat();
        place.run_args(&words)
    };
    // All rows come back from what SQLite holds of them.
    server.sql("DELETE FROM t");
    repair(lite_place, &pg, &[]).ok().says(&["in sync: 3 records", "3 to b"]);
    // Documents of JSON as they are compared: sorted, numbers in their shortest form.
    let canonical = |row: &String| {
        row.replace("1.50", "1.5").replace("{\"\"b\"\": 1, \"\"a\"\": [null]}", "{\"\"a\"\":[null],\"\"b\"\":1}")
    };
    assert_eq!(column(&server, whole), before.iter().map(canonical).collect::<Vec<_>>());
    // One column is written, the others stay as they are spelled.
    lite.execute_batch("UPDATE t SET name = 'Bern' WHERE ok; DELETE FROM t WHERE small = 0").expect("statements");
    repair(lite_place, &pg, &[]).exits(1).says(&["1 row only in b kept"]);
    repair(lite_place, &pg, &["--delete"]).ok().says(&["in sync: 2 records"]);
    assert_eq!(column(&server, "SELECT name FROM t ORDER BY id"), ["NULL", "Bern"]);
    // And the other way round.
    lite.execute_batch("DELETE FROM t").expect("statements");
    repair(&pg, lite_place, &[]).ok().says(&["in sync: 2 records"]);
    // Back to where it began, a run at a time.
    for run in ["3", "2", "1"] {
        place.run_args(&["runs", "undo", &pg, run]).ok().says(&[", 0 skipped"]);
    }
    assert_eq!(column(&server, "SELECT count(*)::text FROM t"), ["0"]);
}

#[test]
fn identities_arrays_and_partitions_are_written_and_sequences_moved() {
    let (server, place) = (Server::start(), Place::new());
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id bigint GENERATED ALWAYS AS IDENTITY, part int, tags text[], net inet, span interval, far date,
                 double bigint GENERATED ALWAYS AS (id * 2) STORED, PRIMARY KEY (part, id)) PARTITION BY RANGE (part);
             CREATE TABLE {name}1 PARTITION OF {name} FOR VALUES FROM (0) TO (5);
             CREATE TABLE {name}2 PARTITION OF {name} FOR VALUES FROM (5) TO (100);"
        )
    };
    server.sql(&table("a"));
    server.sql(&table("b"));
    server.sql(
        "INSERT INTO a (part, tags, net, span, far) SELECT i % 10, ARRAY[i::text, NULL, 'a\"b\\c', ''], ('10.0.0.' || i)::inet,
             make_interval(months => i, days => -i, secs => i / 7.0), date '0044-03-15 BC' - i FROM generate_series(1, 200) AS i;
         INSERT INTO b (part, tags) VALUES (3, '{{1,2},{3,4}}'), (4, '{}'), (1, NULL);
         UPDATE a SET tags = '{{x,NULL}}' WHERE id = 5",
    );
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    place.run_args(&["repair", &a, &b, "--to", "b", "--delete", "--apply"]).ok().says(&["in sync: 200 records"]);
    let same = "SELECT a::text FROM a EXCEPT SELECT b::text FROM b";
    assert_eq!(column(&server, same), Vec::<String>::new());
    // What comes next gets a number of its own.
    assert_eq!(column(&server, "INSERT INTO b (part) VALUES (7) RETURNING id::text"), ["201"]);
    server.sql(
        "UPDATE b SET span = NULL, net = NULL WHERE id < 50; DELETE FROM b WHERE id = 77; DELETE FROM a WHERE id = 78",
    );
    place.run_args(&["repair", &a, &b, "--to", "a", "--delete", "--apply"]).ok().says(&["in sync: 200 records"]);
    assert_eq!(column(&server, same), Vec::<String>::new());
}

#[test]
fn what_the_server_refuses_is_named_and_the_others_are_written() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY, parent int, n numeric, label text);
         CREATE TABLE b (id int PRIMARY KEY, parent int REFERENCES b DEFERRABLE INITIALLY DEFERRED, n numeric(6, 2) CHECK (n < 100),
             label varchar(4) UNIQUE);
         INSERT INTO a VALUES (1, 2, 1, 'a'), (2, 3, 1, 'b'), (3, NULL, 1, 'c'), (4, NULL, 100, 'd'), (5, 77, 1, 'e'), (6, NULL, 1, 'z'),
             (7, NULL, 1.234, 'f'), (8, NULL, 1, 'long label'), (9, NULL, 1, 'no');
         INSERT INTO b VALUES (10, NULL, 1, 'z');
         CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF new.label = 'no' THEN RAISE EXCEPTION 'not that one'; END IF; RETURN new; END $$;
         CREATE TRIGGER guard BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION no();
         CREATE ROLE reader LOGIN; GRANT SELECT ON a, b TO reader",
    );
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    place.run_args(&["repair", &a, &b, "--to", "b", "--apply"]).exits(1).says(&[
        "wrote 0 records to a and 3 to b",
        "triggers run where b is written: guard",
        "not stored: 4 in default: new row for relation \"b\" violates check constraint",
        "not stored: 5 in default: insert or update on table \"b\" violates foreign key constraint",
        "not stored: 6 in default: duplicate key value violates unique constraint",
        "not stored: 7 in default: the column n cannot hold \"1.234\": it becomes \"1.23\"",
        "not stored: 8 in default: value too long for type character varying(4)",
        "not stored: 9 in default: not that one",
        "1 row only in b kept",
    ]);
    assert_eq!(column(&server, "SELECT label FROM b ORDER BY id"), ["a", "b", "c", "z"]);
    // Who may only read compares, and writes nothing.
    let reader = server.table("reader", "b");
    place.run_args(&["check", &a, &reader]).exits(1);
    let denied = place.run_args(&["repair", &a, &reader, "--to", "b", "--apply"]).fails("database");
    denied.says(&["permission denied for table b", "nothing was changed"]);
}

#[test]
fn rows_in_use_and_tables_of_others_are_left_alone() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'new'), (2, 'same');
         CREATE TABLE b (id int PRIMARY KEY, v text); INSERT INTO b VALUES (1, 'old'), (2, 'same'), (3, 'more');
         CREATE TABLE child (b int REFERENCES b ON DELETE SET NULL);",
    );
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    let repair = |more: &[&str]| place.run_args(&[&["repair", &a, &b, "--to", "b", "--apply"], more].concat());
    let mut other = server.client();
    let mut transaction = other.transaction().expect("a transaction");
    transaction.execute("UPDATE b SET v = 'mine' WHERE id = 1", &[]).expect("locked");
    repair(&[]).exits(1).says(&["0 to b", "not stored: 1 in default: others keep it locked"]);
    transaction.rollback().expect("rolled back");
    repair(&["--delete"]).exits(4).says(&["[database.cascade]"]).says(&["rows of child"]);
    server.sql(
        "CREATE ROLE careful LOGIN; GRANT ALL ON b TO careful; ALTER ROLE careful SET default_transaction_read_only = on",
    );
    let careful = server.table("careful", "b");
    let refused = place.run_args(&["repair", &a, &careful, "--to", "b", "--ignore-extra", "b", "--apply"]);
    refused.exits(4).says(&["[database.replica]"]).says(&[
        "read only by default",
        "--write-replica",
        "wrote 0 records",
    ]);
    server.sql("CREATE SUBSCRIPTION s CONNECTION 'host=/nowhere dbname=postgres' PUBLICATION p WITH (connect = false)");
    server.sql("INSERT INTO pg_subscription_rel SELECT oid, 'b'::regclass, 'r', NULL FROM pg_subscription");
    repair(&[]).exits(4).says(&["[database.replica]"]).says(&["subscription", "--write-replica", "wrote 0 records"]);
    repair(&["--write-replica", "--ignore-extra", "b"]).ok().says(&["1 to b", "1 row only in b kept"]);
}

#[test]
fn a_repair_that_is_killed_leaves_whole_batches_that_can_be_undone() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a AS SELECT i AS id, 'new' AS v FROM generate_series(1, 1200) AS i; ALTER TABLE a ADD PRIMARY KEY (id);
         CREATE TABLE b AS SELECT id, 'old' AS v FROM a; ALTER TABLE b ADD PRIMARY KEY (id);
         CREATE TABLE writes (id int); CREATE SEQUENCE asked;
         CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('asked') > 700 THEN PERFORM pg_sleep(3600); END IF; RETURN new; END $$;
         CREATE TRIGGER halt BEFORE UPDATE ON b FOR EACH ROW EXECUTE FUNCTION halt()",
    );
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    let mut repair = place.command(&["repair", &a, &b, "--to", "b", "--no-probe", "--max-change", "100%", "--apply"]);
    let mut repair = repair.stdout(std::process::Stdio::null()).spawn().expect("the binary");
    let mut client = server.client();
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while client.query_one(asleep, &[]).expect("a count").get::<_, i64>(0) == 0 {
        assert!(repair.try_wait().expect("a process").is_none(), "it was to wait");
    }
    repair.kill().expect("killed");
    repair.wait().expect("its end");
    let gone = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    client.query(gone, &[]).expect("the server is rid of it");
    assert_eq!(column(&server, "SELECT count(*)::text FROM b WHERE v = 'new'"), ["500"]);
    place.run_args(&["runs", "list", &b]).ok().says(&["500 changes, 500 of known keys\tnot ended"]);
    server.sql("DROP TRIGGER halt ON b");
    place.run_args(&["runs", "undo", &b, "1"]).ok().says(&["500 changes put back, 0 skipped"]);
    assert_eq!(column(&server, "SELECT DISTINCT v FROM b"), ["old"]);
    place.run_args(&["resume", &b]).ok();
    place
        .run_args(&["repair", &a, &b, "--to", "b", "--no-probe", "--max-change", "100%", "--apply"])
        .ok()
        .says(&["1,200 to b"]);
}

#[test]
fn a_server_without_plpgsql_lacks_triggers_and_nothing_else() {
    let (server, place) = (Server::with_slots(), Place::new());
    server.sql("DROP EXTENSION plpgsql");
    for table in ["a", "b"] {
        server.sql(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v text); INSERT INTO {table} VALUES (1, 'v')"));
    }
    server.sql("INSERT INTO a VALUES (2, 'w')");
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    let before = catalog(&mut server.client());
    let refused = place.run_args(&["index", "build", &a, "--feed", "triggers", "--apply"]).fails("database");
    refused.says(&["plpgsql"]);
    assert_eq!(catalog(&mut server.client()), before, "nothing of it is left");
    place.run_args(&["index", "build", &a, "--feed", "slot", "--apply"]).ok();
    place.run_args(&["explain", &a, &b]).ok();
    place.run_args(&["repair", &a, &b, "--to", "b", "--apply"]).ok().says(&["1 to b"]);
    place.run_args(&["check", &a, &b]).ok();
}
