//! Tables of SQLite databases, compared where they are: what is found, what stays as it was, what is refused.

use rusqlite::Connection;

use crate::harness::Place;

/// Two databases in a place, made by these statements.
fn pair(a: &str, b: &str) -> Place {
    let place = Place::new();
    for (file, statements) in [("a.db", a), ("b.db", b)] {
        sql(&place, file, statements);
    }
    place
}

fn sql(place: &Place, file: &str, statements: &str) {
    let connection = Connection::open(place.path(file)).expect("a database");
    connection.execute_batch(statements).expect("statements");
}

const PEOPLE: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, born DATE, score REAL);
    INSERT INTO people VALUES (1, 'Ada', '1815-12-10', 1.5), (2, 'Emmy', '1882-03-23', NULL), (3, '', NULL, 0.0);";

#[test]
fn equal_tables_are_in_sync_and_looking_changes_nothing() {
    let place = pair(PEOPLE, PEOPLE);
    let before = ["a.db", "b.db"].map(|file| std::fs::read(place.path(file)).expect("a file"));
    place.run("check sqlite:a.db/people sqlite:b.db").ok().says(&["in sync: 3 records on both sides"]);
    place.run("diff sqlite:a.db sqlite:b.db/people").ok();
    let after = ["a.db", "b.db"].map(|file| std::fs::read(place.path(file)).expect("a file"));
    assert!(before == after, "the files are as they were");
    let json = place.json("check sqlite:a.db sqlite:b.db").ok();
    assert_eq!(json.summary()["roots"]["a"], json.summary()["roots"]["b"]);
}

#[test]
fn what_differs_is_listed_and_what_was_mended_is_not() {
    let place = pair(PEOPLE, PEOPLE);
    sql(&place, "a.db", "UPDATE people SET score = 2 WHERE id = 1; DELETE FROM people WHERE id = 2;");
    sql(
        &place,
        "b.db",
        "INSERT INTO people VALUES (9, 'Sofja', '1850-01-15', 3); UPDATE people SET name = NULL WHERE id = 3;",
    );
    place.run("check sqlite:a.db sqlite:b.db").exits(1);
    let found = place.run("diff sqlite:a.db sqlite:b.db").exits(1);
    let listed = found.out.lines().filter(|line| line.starts_with(['*', '+', '-']));
    let mut keys: Vec<&str> = listed.filter_map(|line| line.split_whitespace().nth(1)).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["1", "2", "3", "9"], "{}", found.out);
    // The index follows what came, changed and went.
    sql(&place, "a.db", "DELETE FROM people");
    place.run("diff sqlite:a.db sqlite:b.db").exits(1).says(&["4 only in b"]);
    let b = place.path("b.db");
    sql(&place, "a.db", &format!("ATTACH '{}' AS b; INSERT INTO people SELECT * FROM b.people;", b.display()));
    place.run("check sqlite:a.db sqlite:b.db").ok().says(&["in sync: 4 records"]);
}

#[test]
fn one_meaning_is_equal_however_it_is_declared() {
    let place = pair(
        "CREATE TABLE t (k UUID PRIMARY KEY, ok BOOLEAN, at DATETIME, price DECIMAL(10,2), doc JSON, n INTEGER);
         INSERT INTO t VALUES ('6F9619FF-8B86-D011-B42D-00CF4FC964FF', 1, '2026-01-02 03:04:05', 12.5, '{\"a\": 1,\"b\":[]}', 7);",
        "CREATE TABLE t (n, doc TEXT, price TEXT, at TEXT, ok TEXT, k TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID;
         INSERT INTO t VALUES (7, '{\"b\":[],\"a\":1}', '12.50', '2026-01-02T03:04:05.000', 'true', '6f9619ff-8b86-d011-b42d-00cf4fc964ff');",
    );
    place.run("check sqlite:a.db sqlite:b.db").ok().says(&["in sync: 1 records"]);
    // NULL is not the empty text.
    sql(&place, "a.db", "UPDATE t SET n = NULL");
    sql(&place, "b.db", "UPDATE t SET n = ''");
    place.run("check sqlite:a.db sqlite:b.db").exits(1);
}

#[test]
fn many_rows_with_a_key_of_several_columns_are_read_page_by_page() {
    let make = |kind: &str| {
        format!(
            "CREATE TABLE \"odd \"\"name\" (\"the key\" TEXT NOT NULL, n INTEGER NOT NULL, v BLOB, g AS (n + 1), \
             PRIMARY KEY (n, \"the key\")) {kind};
             WITH RECURSIVE i(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM i WHERE x < 9999)
             INSERT INTO \"odd \"\"name\" SELECT 'k' || (x % 7), x / 3 * 3 + x % 7, zeroblob(x % 5) FROM i WHERE true
             ON CONFLICT DO NOTHING;"
        )
    };
    let place = pair(&make(""), &make("WITHOUT ROWID"));
    let connection = Connection::open(place.path("a.db")).expect("a database");
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0)).expect("a count");
    let all = count("SELECT count(*) FROM \"odd \"\"name\"");
    assert!(all > 9_000, "{all}");
    let json = place.json("check sqlite:a.db sqlite:b.db").ok().summary();
    assert_eq!([&json["roots"]["a"]["count"], &json["roots"]["b"]["count"]], [all, all]);
    sql(&place, "b.db", "UPDATE \"odd \"\"name\" SET v = 'text' WHERE n = 5000");
    let changed = count("SELECT count(*) FROM \"odd \"\"name\" WHERE n = 5000");
    assert!(changed > 0);
    let json = place.json("diff sqlite:a.db sqlite:./b.db").exits(1).summary();
    assert_eq!(json["counts"]["content"], changed);
}

#[test]
fn a_column_called_rowid_is_a_column() {
    let make = "CREATE TABLE t (k TEXT PRIMARY KEY, rowid TEXT, _ROWID_ TEXT, g TEXT AS (k) STORED NOT NULL UNIQUE);
        WITH RECURSIVE i(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM i WHERE x < 9999)
        INSERT INTO t SELECT 'k' || x, 'same', 'same' FROM i;";
    let place = pair(make, make);
    place.run("check sqlite:a.db sqlite:b.db").ok().says(&["in sync: 10,000 records"]);
}

#[test]
fn a_table_is_read_beside_its_writers() {
    let place = pair(PEOPLE, &format!("PRAGMA journal_mode = WAL; {PEOPLE}"));
    let writer = Connection::open(place.path("b.db")).expect("a database");
    writer.execute_batch("BEGIN IMMEDIATE; UPDATE people SET name = 'unseen'").expect("a transaction");
    place.run("check sqlite:a.db sqlite:b.db").ok();
    writer.execute_batch("COMMIT").expect("committed");
    place.run("check sqlite:a.db sqlite:b.db").exits(1);
}

#[test]
fn what_cannot_be_compared_is_named() {
    let place = pair(PEOPLE, "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, born TIMESTAMP, score REAL)");
    let compare = |a: &str, b: &str| place.run_args(&["check", a, b]);
    compare("sqlite:a.db/people", "sqlite:b.db/people")
        .exits(4)
        .says(&["[database.shape]"])
        .says(&["born is date (DATE)", "datetime (TIMESTAMP)"]);
    compare("sqlite:a.db/none", "sqlite:b.db").fails("database").says(&["no table none", "people"]);
    compare("sqlite:no.db/people", "sqlite:b.db").fails("database.none").says(&["no.db"]);
    assert!(!place.path("no.db").exists(), "looking makes no file");
    compare("sqlite:a.db", "sqlite:a.db/people").exits(4).says(&["[session.one-store]"]);
    sql(&place, "b.db", "CREATE TABLE other (x)");
    compare("sqlite:a.db", "sqlite:b.db").fails("database").says(&["say which", "other, people"]);
    compare("sqlite:a.db", "sqlite:b.db/other").fails("database").says(&["cannot be told apart", "make one"]);
    sql(&place, "b.db", "ALTER TABLE people DROP COLUMN born");
    compare("sqlite:a.db", "sqlite:b.db/people").exits(4).says(&["[database.shape]"]).says(&["no column born"]);
    place.run("init store").ok();
    compare("sqlite:a.db", "store").exits(4).says(&["[database.pair]"]);
    sql(&place, "b.db", &format!("DROP TABLE people; {PEOPLE}"));
    let refused = place.run("repair sqlite:a.db sqlite:b.db/people").exits(4).says(&["[database.read-only]"]);
    refused.says(&["reknit diff", "wrote 0 records"]);
    std::fs::write(place.path("c.db"), "no database").expect("written");
    compare("sqlite:a.db", "sqlite:c.db/people").fails("database").says(&["not a database"]);
}

#[test]
fn keys_that_mean_the_same_are_told() {
    let make = |keys: &str| format!("CREATE TABLE t (k UUID NOT NULL UNIQUE); INSERT INTO t VALUES {keys};");
    let one = "('6f9619ff-8b86-d011-b42d-00cf4fc964ff')";
    let place = pair(&make(one), &make(&format!("{one}, {}", one.to_uppercase())));
    place
        .run("check sqlite:a.db sqlite:b.db")
        .exits(4)
        .says(&["[database.collapse]"])
        .says(&["b.db", "two rows mean the same key"]);
}
