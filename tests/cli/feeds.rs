//! Indexes that follow their tables by feeds: what changes is noticed, whatever changes it; a gap is never equal; what is
//! installed is shown first, and goes without a trace.

use postgres::Client;
use rusqlite::{Connection, StatementStatus};

use crate::harness::{Place, Ran};
use crate::server::Server;
use crate::slots::{self, catalog};

fn sql(place: &Place, file: &str, statements: &str) {
    let connection = Connection::open(place.path(file)).expect("a database");
    connection.execute_batch(statements).expect("statements");
}

/// Says that the two tables differ in these keys.
pub(crate) fn differ(place: &Place, a: &str, b: &str, keys: &[&str]) -> Ran {
    let looked = place.json(&format!("diff {a} {b} --settle 0ms"));
    let objects = looked.objects();
    let found = objects.iter().filter(|object| object["t"] == "difference").map(|object| object["key"].as_str());
    let mut found: Vec<&str> = found.map(|key| key.expect("a key")).collect();
    found.sort_unstable();
    assert_eq!(found, keys, "{} {}", looked.out, looked.err);
    looked
}

fn follows(place: &Place, table: &str) {
    place.run_args(&["index", "build", table, "--feed", "triggers", "--apply"]).ok().says(&["followed by triggers"]);
}

/// What a database is made of, beside its rows.
fn schema(place: &Place, file: &str) -> Vec<String> {
    let connection = Connection::open(place.path(file)).expect("a database");
    let mut all = connection.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY 1").expect("a query");
    all.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect()
}

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, u INTEGER UNIQUE);
    WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 1000) INSERT INTO t SELECT x, 'v' || x, x FROM i;";

#[test]
fn triggers_of_sqlite_notice_every_change() {
    let place = Place::new();
    for file in ["a.db", "b.db"] {
        sql(&place, file, T);
    }
    let (a, b) = ("sqlite:a.db", "sqlite:b.db");
    let before = schema(&place, "a.db");
    let shown = place.run("index build sqlite:a.db --feed triggers").ok();
    shown.says(&["CREATE TRIGGER", "nothing was, add --apply"]);
    assert_eq!(schema(&place, "a.db"), before, "looking changes nothing");
    follows(&place, a);
    follows(&place, b);
    differ(&place, a, b, &[]);
    for (change, keys) in [
        ("UPDATE t SET v = 'x' WHERE id = 5", vec!["5"]),
        ("INSERT INTO t VALUES (2000, 'new', NULL)", vec!["2000", "5"]),
        ("DELETE FROM t WHERE id IN (1, 2)", vec!["1", "2", "2000", "5"]),
        ("UPDATE t SET id = 3000 WHERE id = 2000", vec!["1", "2", "3000", "5"]),
        ("DELETE FROM t WHERE id = 3000; INSERT INTO t VALUES (1, 'v1', 1), (2, 'v2', 2)", vec!["5"]),
        ("UPDATE t SET v = 'v5' WHERE id = 5", vec![]),
        // Rows in the way go without a trigger of their own.
        ("INSERT OR REPLACE INTO t VALUES (4000, 'r', 7)", vec!["4000", "7"]),
        ("UPDATE OR REPLACE t SET u = 8 WHERE id = 4000", vec!["4000", "7", "8"]),
        (
            "DELETE FROM t WHERE id = 4000; INSERT OR IGNORE INTO t VALUES (7, 'v7', 7), (8, 'v8', 8), (9, 'no', 9)",
            vec![],
        ),
        ("BEGIN; UPDATE t SET v = 'gone'; ROLLBACK", vec![]),
    ] {
        sql(&place, "a.db", change);
        let looked = differ(&place, a, b, &keys);
        assert!(!looked.err.contains("read whole"), "{}", looked.err);
    }
    sql(&place, "a.db", "DELETE FROM t");
    let looked = place.run("check sqlite:a.db sqlite:b.db").exits(1);
    assert!(!looked.err.contains("read whole"), "{}", looked.err);
    // A repair is followed like any other change.
    let repaired = place.run("repair sqlite:a.db sqlite:b.db --to a --apply").ok();
    assert!(!repaired.out.contains("triggers run"), "its own are no news: {}", repaired.out);
    place.run("check sqlite:a.db sqlite:b.db").ok().says(&["in sync: 1,000 records"]);
    place.run("index verify sqlite:a.db").ok().says(&["sound: 1,000 rows"]);
    place.run("index status sqlite:a.db").ok().says(&["1,000 rows", "followed by triggers", "0 changes wait"]);
    place.run("index drop sqlite:a.db --sql").ok().says(&["DROP TRIGGER IF EXISTS", "nothing was run"]);
    place.run("index drop sqlite:a.db --force").ok().says(&["removed 1 indexes here, and 1 feeds"]);
    assert_eq!(schema(&place, "a.db"), before, "nothing is left");
    place.run("check sqlite:a.db sqlite:b.db").ok();
}

#[test]
fn a_gap_in_a_feed_is_never_equal() {
    let place = Place::new();
    for file in ["a.db", "b.db"] {
        sql(&place, file, T);
        follows(&place, &format!("sqlite:{file}"));
    }
    let (a, b) = ("sqlite:a.db", "sqlite:b.db");
    let trigger = || {
        let all = schema(&place, "a.db").into_iter().find_map(|sql| {
            let name = sql.strip_prefix("CREATE TRIGGER \"")?.split('"').next()?.to_string();
            (name.ends_with("_update") && !name.ends_with("replace_update")).then_some((name, sql))
        });
        all.expect("a trigger")
    };
    // A trigger that was dropped for a while and made anew.
    let (name, make) = trigger();
    sql(&place, "a.db", &format!("DROP TRIGGER {name}; UPDATE t SET v = 'x' WHERE id = 5"));
    assert!(differ(&place, a, b, &["5"]).err.contains("its trigger"));
    assert!(differ(&place, a, b, &["5"]).err.contains("its trigger"), "it is still not there");
    sql(&place, "a.db", &make);
    // A file that was put back.
    differ(&place, a, b, &["5"]);
    std::fs::copy(place.path("a.db"), place.path("saved")).expect("copied");
    sql(&place, "a.db", "UPDATE t SET v = 'v5' WHERE id = 5");
    differ(&place, a, b, &[]);
    std::fs::copy(place.path("saved"), place.path("a.db")).expect("copied");
    assert!(differ(&place, a, b, &["5"]).err.contains("put back to an earlier state"));
    assert!(!differ(&place, a, b, &["5"]).err.contains("read whole"), "it goes on from there");
    // The feed's own tables.
    let (name, _) = trigger();
    let base = name.trim_end_matches("_update");
    sql(&place, "a.db", &format!("UPDATE {base}_feed SET nonce = 'other'; UPDATE t SET v = 'y' WHERE id = 6"));
    assert!(differ(&place, a, b, &["5", "6"]).err.contains("read whole"));
    place.run("index build sqlite:a.db --feed triggers --apply").ok();
    assert!(!differ(&place, a, b, &["5", "6"]).err.contains("read whole"));
    // Triggers that another release made otherwise are made anew.
    let (name, make) = trigger();
    sql(&place, "a.db", &format!("DROP TRIGGER {name}; {}", make.replace("NOT", "not")));
    assert!(differ(&place, a, b, &["5", "6"]).err.contains("not as it was made"));
    place.run("index build sqlite:a.db --feed triggers --apply").ok();
    assert_eq!(trigger(), (name, make));
    assert!(!differ(&place, a, b, &["5", "6"]).err.contains("read whole"));
    // What a lost home has left is removed from the database alone.
    std::fs::remove_dir_all(place.path("home/index")).expect("removed");
    place.run("index drop sqlite:a.db").ok().says(&["0 feeds"]);
    place.run("index drop sqlite:a.db --orphans").ok().says(&["1 feeds"]);
    assert!(schema(&place, "a.db").iter().all(|sql| !sql.contains("reknit")), "{:?}", schema(&place, "a.db"));
}

#[test]
fn tables_that_no_trigger_can_follow_are_told() {
    let place = Place::new();
    sql(
        &place,
        "a.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE UNIQUE INDEX some ON t (v) WHERE v > 'm'",
    );
    let told = place.run("index build sqlite:a.db --feed triggers").fails("database");
    told.says(&["unique index over an expression or over some rows"]);
    place.run("index build sqlite:a.db").ok().says(&["0 rows indexed", "without a feed"]);
    place.run("index status sqlite:a.db").ok().says(&["1 index", "columns id, v"]);
}

#[test]
fn triggers_of_postgresql_notice_every_change() {
    let (server, place) = (Server::start(), Place::new());
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id int, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
             CREATE TABLE {name}1 PARTITION OF {name} FOR VALUES IN (1); CREATE TABLE {name}2 PARTITION OF {name} FOR VALUES IN (2);
             INSERT INTO {name} SELECT i, 1 + i % 2, 'v' || i FROM generate_series(1, 1000) AS i;"
        )
    };
    server.sql(&table("a"));
    server.sql(&table("b"));
    // What is published must say which row is deleted, also in tables of ours.
    server.sql("CREATE PUBLICATION everything FOR ALL TABLES");
    let catalog = || {
        let query = "SELECT string_agg(relname, ' ' ORDER BY relname)
             || (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace) || (SELECT count(*) FROM pg_trigger)
             FROM pg_class WHERE relnamespace = 'public'::regnamespace";
        server.client().query_one(query, &[]).expect("a row").get::<_, String>(0)
    };
    let before = catalog();
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    place.run_args(&["index", "build", &a, "--feed", "triggers"]).ok().says(&["CREATE FUNCTION", "add --apply"]);
    assert_eq!(catalog(), before, "looking changes nothing");
    follows(&place, &a);
    follows(&place, &b);
    differ(&place, &a, &b, &[]);
    for (change, keys) in [
        ("UPDATE a SET v = 'x' WHERE id = 5", vec!["5,2"]),
        // By the name of a part.
        ("INSERT INTO a1 VALUES (2000, 1, 'new')", vec!["2000,1", "5,2"]),
        ("DELETE FROM a WHERE id IN (1, 2)", vec!["1,2", "2,1", "2000,1", "5,2"]),
        ("UPDATE a SET id = 3000, part = 2 WHERE id = 2000", vec!["1,2", "2,1", "3000,2", "5,2"]),
        ("INSERT INTO a VALUES (1, 2, 'v1'), (2, 1, 'v2')", vec!["3000,2", "5,2"]),
        ("SET session_replication_role = replica; DELETE FROM a2 WHERE id = 3000", vec!["5,2"]),
        ("BEGIN; UPDATE a SET v = 'gone'; ROLLBACK", vec!["5,2"]),
        (
            "MERGE INTO a USING b ON a.id = b.id AND a.part = b.part WHEN MATCHED AND a.v <> b.v THEN UPDATE SET v = b.v",
            vec![],
        ),
    ] {
        server.sql(change);
        let looked = differ(&place, &a, &b, &keys);
        assert!(!looked.err.contains("read whole"), "{change}: {}", looked.err);
    }
    // A transaction that began before a look and ends after it.
    let mut other = server.client();
    let mut transaction = other.transaction().expect("a transaction");
    transaction.batch_execute("UPDATE a SET v = 'late' WHERE id = 9").expect("updated");
    server.sql("UPDATE a SET v = 'early' WHERE id = 10");
    differ(&place, &a, &b, &["10,1"]);
    transaction.commit().expect("committed");
    let looked = differ(&place, &a, &b, &["10,1", "9,2"]);
    assert!(!looked.err.contains("read whole"), "{}", looked.err);
    place.run_args(&["repair", &b, &a, "--to", "b", "--apply"]).ok();
    place.run_args(&["index", "verify", &a]).ok().says(&["sound: 1,000 rows"]);
    // A new part has no trigger; what is emptied is read whole.
    server.sql("CREATE TABLE a3 PARTITION OF a FOR VALUES IN (3); INSERT INTO a3 VALUES (1, 3, 'x')");
    assert!(differ(&place, &a, &b, &["1,3"]).err.contains("its trigger on a3"));
    follows(&place, &a);
    server.sql("TRUNCATE a3");
    assert!(differ(&place, &a, &b, &[]).err.contains("TRUNCATE"));
    assert!(!differ(&place, &a, &b, &[]).err.contains("read whole"));
    // A part that goes takes its rows along.
    server.sql("INSERT INTO a VALUES (1, 3, 'x')");
    differ(&place, &a, &b, &["1,3"]);
    server.sql("ALTER TABLE a DETACH PARTITION a3");
    assert!(differ(&place, &a, &b, &[]).err.contains("its parts"));
    // What the repair overwrote in one of them goes along.
    place.run_args(&["index", "drop", &a]).exits(4).says(&["[database.journal]"]);
    for table in [&a, &b] {
        place.run_args(&["index", "drop", table, "--force"]).ok().says(&["and 1 feeds"]);
    }
    server.sql("DROP TABLE a3");
    assert_eq!(catalog(), before, "nothing is left");
}

#[test]
fn a_feed_that_an_earlier_release_made_is_gone_until_it_is_made_anew() {
    let (server, place) = (Server::start(), Place::new());
    server.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'); CREATE TABLE u (LIKE t INCLUDING ALL)");
    let (t, u) = (server.table("reknit", "t"), server.table("reknit", "u"));
    follows(&place, &t);
    differ(&place, &t, &u, &["1"]);
    let named = "SELECT relname::text FROM pg_class WHERE relname LIKE 'reknit%dirty'";
    let dirty: String = server.client().query_one(named, &[]).expect("a table").get(0);
    let name = dirty.trim_end_matches("_dirty");
    server.sql(&format!(
        "DROP TABLE {name}_whole; ALTER TABLE {dirty} ADD n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
         ADD every boolean NOT NULL DEFAULT false; CREATE INDEX {name}_every ON {dirty} (every) WHERE every"
    ));
    for v in ["b", "c"] {
        server.sql(&format!("UPDATE t SET v = '{v}'; TRUNCATE u; INSERT INTO u VALUES (1, '{v}')"));
        let looked = differ(&place, &t, &u, &[]);
        assert!(looked.err.contains("read whole") && looked.err.contains("_whole"), "{}", looked.err);
    }
    follows(&place, &t);
    differ(&place, &t, &u, &[]);
    server.sql("UPDATE t SET v = 'd'");
    assert!(!differ(&place, &t, &u, &["1"]).err.contains("read whole"));
}

#[test]
fn writers_need_no_rights_on_what_a_feed_has() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'); CREATE ROLE writer LOGIN;
         GRANT SELECT, INSERT, UPDATE, DELETE ON t TO writer; CREATE TABLE u (LIKE t INCLUDING ALL); INSERT INTO u VALUES (1, 'b')",
    );
    let (t, u) = (server.table("reknit", "t"), server.table("reknit", "u"));
    follows(&place, &t);
    server.sql("SET ROLE writer; UPDATE t SET v = 'b'; INSERT INTO t VALUES (2, 'c'); DELETE FROM t WHERE id = 2");
    let looked = differ(&place, &t, &u, &[]);
    assert!(!looked.err.contains("read whole"), "{}", looked.err);
    // What it runs with others' rights takes nothing from the names that a writer has made.
    server.sql(
        "CREATE SCHEMA mine AUTHORIZATION writer; SET ROLE writer;
         CREATE FUNCTION mine.equal(text, text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''taken in''; END';
         CREATE FUNCTION mine.more(bigint, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''taken in''; END';
         CREATE FUNCTION mine.pg_relation_size(regclass) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''taken in''; END';
         CREATE OPERATOR mine.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.equal);
         CREATE OPERATOR mine.> (LEFTARG = bigint, RIGHTARG = int, FUNCTION = mine.more);
         CREATE TABLE mine.reknit_new (id int, v text); CREATE TABLE mine.reknit_old (id int, v text);
         SET search_path = mine, pg_catalog, public; UPDATE t SET v = 'd'; INSERT INTO t VALUES (3, 'e'); DELETE FROM t WHERE id = 3;
         RESET ROLE; TRUNCATE u; INSERT INTO u VALUES (1, 'd')",
    );
    differ(&place, &t, &u, &[]);
}

#[test]
fn keys_that_a_collation_takes_for_one_are_noticed_when_they_are_replaced() {
    let place = Place::new();
    let table = "CREATE TABLE t (k TEXT PRIMARY KEY COLLATE NOCASE NOT NULL, v TEXT); INSERT INTO t VALUES ('abc', 'v'), ('x', 'y')";
    for file in ["a.db", "b.db"] {
        sql(&place, file, table);
        follows(&place, &format!("sqlite:{file}"));
    }
    sql(&place, "a.db", "INSERT OR REPLACE INTO t VALUES ('ABC', 'w')");
    let looked = differ(&place, "sqlite:a.db", "sqlite:b.db", &["ABC", "abc"]);
    assert!(!looked.err.contains("read whole"), "{}", looked.err);
    // By the row's number, too.
    sql(&place, "a.db", "INSERT OR REPLACE INTO t (rowid, k, v) SELECT rowid, 'new', 'z' FROM t WHERE k = 'x'");
    let looked = differ(&place, "sqlite:a.db", "sqlite:b.db", &["ABC", "abc", "new", "x"]);
    assert!(!looked.err.contains("read whole"), "{}", looked.err);
}

/// Steps of SQLite's machine for one statement, with all that its triggers do.
fn steps(connection: &Connection, statement: &str) -> i32 {
    let mut statement = connection.prepare(statement).expect("a statement");
    statement.execute([]).expect("done");
    statement.get_status(StatementStatus::VmStep)
}

#[test]
fn what_waits_in_a_feed_of_sqlite_costs_its_writers_nothing() {
    let place = Place::new();
    sql(&place, "a.db", T);
    follows(&place, "sqlite:a.db");
    let connection = Connection::open(place.path("a.db")).expect("a database");
    let each = ["INSERT INTO t (v) VALUES ('x')", "UPDATE t SET v = 'y' WHERE id = 7", "DELETE FROM t WHERE id = 8"];
    sql(&place, "a.db", "UPDATE t SET v = 'z' WHERE id = 1");
    let few = each.map(|statement| steps(&connection, statement));
    sql(&place, "a.db", "UPDATE t SET v = 'z'; UPDATE t SET v = 'w'; INSERT INTO t (id, v) VALUES (8, 'v8')");
    let many = each.map(|statement| steps(&connection, statement));
    assert_eq!(many, few, "steps with 2,000 changes that wait, and with some");
    assert!(few.iter().all(|steps| *steps < 400), "{few:?}");
}

#[test]
fn past_its_cap_a_feed_says_that_everything_may_have_changed_and_goes_on() {
    let (server, place) = (Server::start(), Place::new());
    sql(&place, "a.db", T);
    server.sql("CREATE TABLE t (id bigint PRIMARY KEY, v text, u int); INSERT INTO t SELECT i, 'v' || i, i FROM generate_series(1, 1000) AS i");
    let (a, b) = ("sqlite:a.db", server.table("reknit", "t"));
    for (table, with) in [(a, b.as_str()), (&b, a)] {
        let build = ["index", "build", table, "--with", with, "--feed", "triggers", "--apply"];
        place.run_args(&build).ok();
    }
    // As if so many had come.
    let dirty = schema(&place, "a.db")
        .into_iter()
        .find_map(|sql| Some(sql.split('"').nth(1)?.strip_suffix("_dirty")?.to_string()));
    let dirty = format!("{}_dirty", dirty.expect("a table"));
    sql(
        &place,
        "a.db",
        &format!("INSERT INTO {dirty} (n, k0) VALUES (1, 1), (1000001, 1); UPDATE t SET v = 'x' WHERE id = 5"),
    );
    sql(&place, "a.db", "UPDATE t SET v = 'x' WHERE id = 6");
    assert!(differ(&place, a, &b, &["5", "6"]).err.contains("more than 1000000 changes"));
    let dirty: String = server
        .client()
        .query_one("SELECT relname::text FROM pg_class WHERE relname LIKE 'reknit%dirty'", &[])
        .expect("a table")
        .get(0);
    server.sql(&format!("INSERT INTO {dirty} (k0) SELECT 1 FROM generate_series(1, 2000000)"));
    server.sql("UPDATE t SET v = 'x' WHERE id = 5");
    server.sql("UPDATE t SET v = 'x' WHERE id = 6");
    assert!(differ(&place, a, &b, &[]).err.contains("more changed than the feed holds"));
    server.sql("UPDATE t SET v = 'y' WHERE id = 7");
    let looked = differ(&place, a, &b, &["7"]);
    assert!(!looked.err.contains("read whole"), "{}", looked.err);
}

/// Whoever finds one in years knows whose it is, and how it goes.
#[test]
fn all_that_a_feed_makes_says_whose_it_is_and_how_it_goes() {
    let (server, place) = (Server::with_slots(), Place::new());
    let today = || -> String {
        server.client().query_one("SELECT (now() AT TIME ZONE 'UTC')::date::text", &[]).expect("a day").get(0)
    };
    let began = today();
    let (a, b) = slots::pair(&server, &place);
    let days = [began, today()];
    let query = "SELECT 'relation ' || relname, obj_description(oid, 'pg_class') FROM pg_class WHERE relname ~ '^reknit_' AND relkind = 'r'
        UNION ALL SELECT 'function ' || proname, obj_description(oid, 'pg_proc') FROM pg_proc WHERE proname ~ '^reknit_'
        UNION ALL SELECT 'trigger ' || tgname, obj_description(oid, 'pg_trigger') FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'publication ' || pubname, obj_description(oid, 'pg_publication') FROM pg_publication ORDER BY 1";
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let mut kinds = std::collections::BTreeMap::new();
    for row in server.client().query(query, &[]).expect("rows") {
        let (what, about): (String, Option<String>) = (row.get(0), row.get(1));
        let (kind, name) = what.split_once(' ').expect("a kind");
        let about = about.unwrap_or_default();
        let table = if kind == "publication" { &a } else { &b };
        let place = table.replace("reknit@", "");
        let since = |day: &String| format!("Reknit on {} notes here since {day} which rows of ", host.trim());
        let whole = days.iter().any(|day| about.starts_with(&since(day)))
            && about.ends_with(&format!("To remove it: reknit index drop {place}"));
        assert!(name.starts_with("reknit_") && whole, "{what}: {about:?}");
        *kinds.entry(kind.to_string()).or_insert(0) += 1;
    }
    let all = [("function", 1), ("publication", 1), ("relation", 3), ("trigger", 4)];
    assert_eq!(kinds, all.map(|(kind, n)| (kind.to_string(), n)).into());
}

/// As docs/uninstall.md says it is done without Reknit.
#[test]
fn a_feed_goes_by_hand() {
    let (server, place) = (Server::with_slots(), Place::new());
    let mut client = server.client();
    server.sql("CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text)");
    let before = catalog(&mut client);
    slots::follows(&place, &server.table("reknit", "a"));
    follows(&place, &server.table("reknit", "b"));
    assert_ne!(catalog(&mut client), before);
    let names = |client: &mut Client, query: &str| -> Vec<String> {
        client.query(query, &[]).expect("rows").iter().map(|row| row.get(0)).collect()
    };
    for note in names(&mut client, "SELECT oid::regprocedure::text FROM pg_proc WHERE proname ~ '^reknit_.*_note$'") {
        client.batch_execute(&format!("DROP FUNCTION {note} CASCADE")).expect("dropped");
    }
    for table in names(
        &mut client,
        "SELECT oid::regclass::text FROM pg_class WHERE relname ~ '^reknit_.*_(dirty|whole|feed)$' AND relkind = 'r'",
    ) {
        client.batch_execute(&format!("DROP TABLE {table}")).expect("dropped");
    }
    for slot in names(&mut client, "SELECT slot_name::text FROM pg_replication_slots") {
        client.execute("SELECT pg_drop_replication_slot($1::text::name)", &[&slot]).expect("dropped");
        client.batch_execute(&format!("DROP PUBLICATION {slot}")).expect("dropped");
    }
    assert_eq!(catalog(&mut client), before);
}
