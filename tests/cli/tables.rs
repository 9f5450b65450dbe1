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
    // They were equal before.
    assert_eq!(json["counts"]["b_newer"], changed);
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
    compare("sqlite:a.db", "sqlite:b.db").exits(4).says(&["only in b: other", "[database.shape]"]);
    compare("sqlite:a.db/people", "sqlite:b.db").fails("database").says(&["say which", "other, people"]);
    compare("sqlite:a.db", "sqlite:b.db/other").fails("database").says(&["cannot be told apart", "make one"]);
    sql(&place, "b.db", "ALTER TABLE people DROP COLUMN born");
    compare("sqlite:a.db", "sqlite:b.db/people").exits(4).says(&["[database.shape]"]).says(&["no column born"]);
    place.run("init store").ok();
    compare("sqlite:a.db", "store").exits(4).says(&["[database.pair]"]);
    sql(&place, "b.db", &format!("DROP TABLE people; {PEOPLE}"));
    place
        .run("repair sqlite:a.db sqlite:b.db/people")
        .exits(4)
        .says(&["[repair.direction]"])
        .says(&["--to b", "wrote 0"]);
    place.run("repair sqlite:a.db sqlite:b.db/people --to b --ignore-extra a").exits(4).says(&["[repair.direction]"]);
    place.run("repair sqlite:a.db store --to b --plan p").exits(4).says(&["[database.read-only]"]);
    place.run("repair store store --delete").exits(4).says(&["[repair.tables]"]);
    place.run("runs list sqlite:a.db/people").fails("database.no-index").says(&["never compared from this home"]);
    place.run("repair sqlite:a.db sqlite:b.db/people --to both --delete").exits(4).says(&["[repair.base]"]);
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

/// What a query of one column gives, a text a row.
fn column(place: &Place, file: &str, query: &str) -> Vec<String> {
    let connection = Connection::open(place.path(file)).expect("a database");
    let mut statement = connection.prepare(query).expect("a query");
    let rows = statement.query_map([], |row| row.get::<_, Option<String>>(0)).expect("rows");
    rows.map(|row| row.expect("a row").unwrap_or_else(|| "NULL".into())).collect()
}

const ALL: &str = "SELECT id || ' ' || coalesce(name, '-') || ' ' || coalesce(born, '-') || ' ' || coalesce(score, '-')
    FROM people ORDER BY id";

#[test]
fn a_repair_writes_what_differs_and_is_undone() {
    let place = pair(PEOPLE, PEOPLE);
    sql(
        &place,
        "a.db",
        "UPDATE people SET score = 2 WHERE id = 1; INSERT INTO people VALUES (7, 'Lise', '1878-11-07', 9)",
    );
    sql(&place, "b.db", "INSERT INTO people VALUES (9, 'Sofja', '1850-01-15', 3)");
    let before = column(&place, "b.db", ALL);
    let would = place.run("repair sqlite:a.db sqlite:b.db --to b").exits(1);
    would.says(&["would write 0 records to a and 2 to b", "1 row only in b kept", "add --apply"]);
    assert_eq!(column(&place, "b.db", ALL), before);
    let ran = place.run("repair sqlite:a.db sqlite:b.db --to b --apply").exits(1);
    ran.says(&["wrote 0 records to a and 2 to b", "1 row only in b kept; --delete", "runs undo sqlite:b.db 1"]);
    assert_eq!(
        column(&place, "b.db", ALL),
        ["1 Ada 1815-12-10 2.0", "2 Emmy 1882-03-23 -", "3  - 0.0", "7 Lise 1878-11-07 9.0", "9 Sofja 1850-01-15 3.0"]
    );
    place.run("repair sqlite:a.db sqlite:b.db --to b --apply --ignore-extra b").ok();
    // What it is told of is what it is for.
    let shown = place.run("runs show sqlite:b.db 1").ok();
    assert_eq!(shown.out.lines().filter(|line| line.starts_with(['*', '+'])).count(), 2, "{}", shown.out);
    let json = place.json("repair sqlite:a.db sqlite:b.db --to b --delete --apply").ok().summary();
    assert_eq!([&json["wrote"], &json["runs"]["b"]], [&serde_json::json!(1), &serde_json::json!("2")]);
    place.run("check sqlite:b.db sqlite:a.db").ok().says(&["in sync: 4 records"]);
    place.run("runs show sqlite:b.db 2").ok().says(&["- 9\tdeleted", "one side is written"]);
    // Undone backwards, the last run first; what was written since stays.
    place.run("runs undo sqlite:b.db 2").ok().says(&["1 changes put back, 0 skipped"]);
    sql(&place, "b.db", "UPDATE people SET name = 'Lise M.' WHERE id = 7");
    place.run("runs undo sqlite:b.db 1 --everywhere").exits(4).says(&["[database.everywhere]"]);
    let undone = place.run("runs undo sqlite:b.db 1").ok();
    undone.says(&["! 7\twritten since", "1 changes put back, 1 skipped"]);
    let after = column(&place, "b.db", ALL);
    assert_eq!(after.len(), 5);
    assert_eq!([&after[0], &after[3]], ["1 Ada 1815-12-10 1.5", "7 Lise M. 1878-11-07 9.0"]);
    place.run("repair sqlite:a.db sqlite:b.db --to b --apply").exits(4).says(&[
        "repairs of ",
        "b.db",
        "[journal.paused]",
    ]);
    place.run("resume sqlite:b.db").ok().says(&["repairs go on"]);
    place.run("repair sqlite:a.db sqlite:b.db --to a --delete --apply").ok();
    assert_eq!(column(&place, "a.db", ALL), after);
    place.run("check sqlite:a.db sqlite:b.db").ok();
}

#[test]
fn to_both_each_takes_what_only_the_other_has() {
    let place = pair(PEOPLE, PEOPLE);
    sql(&place, "a.db", "UPDATE people SET score = 2 WHERE id = 1; DELETE FROM people WHERE id = 2");
    sql(&place, "b.db", "DELETE FROM people WHERE id = 3");
    let would = place.run("repair sqlite:a.db sqlite:b.db --to both").exits(1);
    would.says(&["would write 1 records to a and 1 to b", "1 differences would be left"]);
    let ran = place.run("repair sqlite:a.db sqlite:b.db --to both --apply").exits(1);
    ran.says(&["1 differences are left", "wrote 1 records to a and 1 to b"]);
    assert_eq!([column(&place, "a.db", ALL).len(), column(&place, "b.db", ALL).len()], [3, 3]);
    place
        .run("repair sqlite:a.db sqlite:b.db --to both --prefer a --apply")
        .ok()
        .says(&["wrote 0 records to a and 1 to b"]);
    assert_eq!(column(&place, "a.db", ALL), column(&place, "b.db", ALL));
}

#[test]
fn a_row_that_the_database_refuses_is_named_and_the_others_are_written() {
    let plain = "CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER, n INTEGER, label TEXT);";
    let strict = "CREATE TABLE t (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES t, n INTEGER CHECK (n < 100), label TEXT UNIQUE);
        CREATE TRIGGER no BEFORE INSERT ON t WHEN new.label = 'no' BEGIN SELECT RAISE(ABORT, 'not that one'); END;";
    let place = pair(plain, strict);
    // Children come before their parents, by whatever order.
    sql(
        &place,
        "a.db",
        "INSERT INTO t VALUES (1, 2, 1, 'a'), (2, 3, 1, 'b'), (3, NULL, 1, 'c'), (4, NULL, 100, 'd'), (5, 77, 1, 'e'),
             (6, NULL, 1, 'no'), (7, NULL, 1, 'z')",
    );
    sql(&place, "b.db", "INSERT INTO t VALUES (8, NULL, 1, 'z')");
    place.run("repair sqlite:a.db sqlite:b.db --to b --apply").exits(1).says(&[
        "wrote 0 records to a and 3 to b",
        "triggers run where b is written: no",
        "not stored: 4 in default: CHECK constraint failed: n < 100",
        "not stored: 5 in default: FOREIGN KEY constraint failed",
        "not stored: 6 in default: not that one",
        "not stored: 7 in default: UNIQUE constraint failed: t.label",
    ]);
    assert_eq!(column(&place, "b.db", "SELECT label FROM t ORDER BY id"), ["a", "b", "c", "z"]);
}

#[test]
fn a_value_that_becomes_another_is_not_written() {
    let place = pair(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, '12345678901234567890.5'), (2, '0.5')",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v DECIMAL); INSERT INTO t VALUES (1, 7), (2, 7)",
    );
    let ran = place.run("repair sqlite:a.db sqlite:b.db --to b --apply").exits(1);
    ran.says(&["1 to b", "the column v cannot hold \"12345678901234567890.5\": it becomes \"12345678901234567000\""]);
    assert_eq!(column(&place, "b.db", "SELECT CAST(v AS TEXT) FROM t ORDER BY id"), ["7", "0.5"]);
}

#[test]
fn deletes_that_would_take_others_along_are_refused() {
    let place = pair(
        PEOPLE,
        &format!(
            "{PEOPLE} CREATE TABLE pets (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES people ON DELETE CASCADE)"
        ),
    );
    sql(&place, "a.db", "DELETE FROM people WHERE id = 2");
    for apply in ["", "--apply"] {
        let ran = place.run(&format!("repair sqlite:a.db/people sqlite:b.db/people --to b --delete {apply}")).exits(4);
        ran.says(&["[database.cascade]"]).says(&["rows of pets", "wrote 0 records"]);
    }
    place.run("repair sqlite:a.db/people sqlite:b.db/people --to b --apply").exits(1).says(&["1 row only in b kept"]);
    place.run("repair sqlite:a.db/people sqlite:b.db/people --to a --apply").ok();
}

#[test]
fn rows_without_a_number_and_keys_of_unusual_spelling_are_written_where_they_are() {
    let place = pair(
        "CREATE TABLE t (k UUID, n INTEGER, v TEXT, PRIMARY KEY (k, n)) WITHOUT ROWID;
         INSERT INTO t VALUES ('6f9619ff-8b86-d011-b42d-00cf4fc964ff', 1, 'new'), ('00000000-0000-0000-0000-000000000001', 2, 'same');",
        "CREATE TABLE t (v TEXT, n INTEGER, k UUID, PRIMARY KEY (k, n)) WITHOUT ROWID;
         INSERT INTO t VALUES ('old', 1, '{6F9619FF8B86D011B42D00CF4FC964FF}'), ('same', 2, '00000000-0000-0000-0000-000000000001'),
             ('gone', 3, 'DDDDDDDD-0000-0000-0000-000000000001');",
    );
    place.run("repair sqlite:a.db sqlite:b.db --to b --delete --apply").ok().says(&["2 to b", "in sync: 2 records"]);
    let rows = column(&place, "b.db", "SELECT k || ' ' || v FROM t ORDER BY n");
    assert_eq!(rows, ["{6F9619FF8B86D011B42D00CF4FC964FF} new", "00000000-0000-0000-0000-000000000001 same"]);
}

#[test]
fn a_repair_waits_for_a_writer_and_says_so() {
    let place = pair(PEOPLE, PEOPLE);
    sql(&place, "a.db", "DELETE FROM people WHERE id = 2");
    let writer = Connection::open(place.path("a.db")).expect("a database");
    writer.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
    let ran = place.run("repair sqlite:a.db sqlite:b.db --to a --apply").exits(1);
    ran.says(&["wrote 0 records to a", "not stored: 2 in default: others keep it locked (database is locked)"]);
    writer.execute_batch("ROLLBACK").expect("rolled back");
    place.run("repair sqlite:a.db sqlite:b.db --to a --apply").ok();
}

#[test]
fn an_address_that_begins_as_none_does_is_told_what_there_is() {
    let place = Place::new();
    for other in ["mysql://u@h/db/t", "http://h/t"] {
        for line in ["check", "diff", "repair --to b"] {
            for sides in [format!("{other} sqlite:s.db/t"), format!("sqlite:s.db/t {other}"), format!("{other} s")] {
                let scheme = other.split_once(':').expect("a scheme").0;
                let words = [&format!("{scheme}:// is no side"), "postgres://", "sqlite:", "nothing was compared"];
                place.run(&format!("{line} {sides}")).fails("usage.scheme").says(&words);
            }
        }
    }
}
