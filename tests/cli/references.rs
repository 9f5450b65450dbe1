//! Rows that refer to one another, what is checked only in the end, and what databases do of themselves when rows are written.

use rusqlite::Connection;

use crate::harness::{Place, Ran};
use crate::server::Server;

fn lite(place: &Place, file: &str, statements: &str) {
    let connection = Connection::open(place.path(file)).expect("a database");
    connection.execute_batch(statements).expect("statements");
}

fn lite_column(place: &Place, file: &str, query: &str) -> Vec<String> {
    let connection = Connection::open(place.path(file)).expect("a database");
    let mut statement = connection.prepare(query).expect("a query");
    statement.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect()
}

fn column(server: &Server, query: &str) -> Vec<String> {
    server.client().query(query, &[]).expect("rows").iter().map(|row| row.get(0)).collect()
}

/// A chain of rows, each of which refers to the next one, of which many transactions write a part each.
#[track_caller]
fn chain(run: &dyn Fn(&[&str]) -> Ran, sql: &dyn Fn(&str)) {
    let repair = |more: &[&str]| {
        run(&[&["--to", "b", "--apply", "--no-probe", "--delete", "--max-delete", "100%", "--batch", "30"], more]
            .concat())
    };
    repair(&[]).ok().says(&["in sync: 400 records", "wrote 0 records to a and 400 to b"]);
    // Now from the other end, what refers to others first.
    sql("UPDATE a SET parent = NULL WHERE id = 10; DELETE FROM a WHERE id > 10");
    repair(&[]).ok().says(&["in sync: 10 records", "wrote 0 records to a and 391 to b"]);
    sql("INSERT INTO a VALUES (50, 51), (51, 52), (60, NULL)");
    repair(&[]).exits(1).says(&[
        "wrote 0 records to a and 1 to b",
        "not stored: 50 in default",
        "not stored: 51 in default",
    ]);
}

#[test]
fn parents_come_before_children_across_transactions() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY, parent int); INSERT INTO a SELECT i, nullif(i + 1, 401) FROM generate_series(1, 400) AS i;
         CREATE TABLE b (id int PRIMARY KEY, parent int REFERENCES b ON DELETE CASCADE)",
    );
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    let run = |more: &[&str]| place.run_args(&[&["repair", &a, &b], more].concat());
    chain(&run, &|statements| server.sql(statements));
    // All of it is one run each.
    place.run_args(&["runs", "list", &b]).ok().says(&["400 changes", "391 changes"]);
    place.run_args(&["runs", "undo", &b, "3"]).ok().says(&["1 changes put back, 0 skipped"]);
}

#[test]
fn parents_come_before_children_across_transactions_of_sqlite() {
    let place = Place::new();
    lite(
        &place,
        "a.db",
        "CREATE TABLE a (id INTEGER PRIMARY KEY, parent INTEGER); WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 400)
         INSERT INTO a SELECT x, nullif(x + 1, 401) FROM i",
    );
    lite(&place, "b.db", "CREATE TABLE b (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES b ON DELETE SET NULL)");
    let run = |more: &[&str]| place.run_args(&[&["repair", "sqlite:a.db", "sqlite:b.db"], more].concat());
    chain(&run, &|statements| lite(&place, "a.db", statements));
}

#[test]
fn a_row_that_would_take_others_along_stays() {
    let (server, place) = (Server::start(), Place::new());
    // The one side knows of no reference, so it lacks what its row refers to.
    let rows = "INSERT INTO b VALUES (1, NULL), (2, 1), (3, 3), (4, NULL)";
    server.sql(&format!(
        "CREATE TABLE a (id int PRIMARY KEY, parent int); INSERT INTO a VALUES (2, 1);
        CREATE TABLE b (id int PRIMARY KEY, parent int REFERENCES b ON DELETE CASCADE); {rows}"
    ));
    lite(&place, "a.db", "CREATE TABLE a (id INTEGER PRIMARY KEY, parent INTEGER); INSERT INTO a VALUES (2, 1)");
    lite(
        &place,
        "b.db",
        &format!("CREATE TABLE b (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES b (id) ON DELETE CASCADE); {rows}"),
    );
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    for (a, b) in [(a.as_str(), b.as_str()), ("sqlite:a.db", "sqlite:b.db")] {
        let ran =
            place.run_args(&["repair", a, b, "--to", "b", "--delete", "--max-delete", "100%", "--apply"]).exits(1);
        // One that refers to itself alone takes nothing along.
        ran.says(&["2 to b", "not stored: 1 in default: rows that refer to it would go or change along, and stay"]);
    }
    assert_eq!(column(&server, "SELECT id::text FROM b ORDER BY id"), ["1", "2"]);
    assert_eq!(lite_column(&place, "b.db", "SELECT CAST(id AS TEXT) FROM b ORDER BY id"), ["1", "2"]);
}

#[test]
fn what_is_checked_in_the_end_costs_no_other_row() {
    let (server, place) = (Server::start(), Place::new());
    // Two that refer to each other, one that refers to nothing there is, one that its table refuses.
    let rows = "INSERT INTO a VALUES (1, 2, 0), (2, 1, 0), (3, 77, 0), (4, NULL, 100), (5, NULL, 0)";
    let make = |name: &str, more: &str, check: &str| {
        format!("CREATE TABLE {name} (id INTEGER PRIMARY KEY, parent INTEGER {more}, n INTEGER {check});")
    };
    let deferred = make("b", "REFERENCES b DEFERRABLE INITIALLY DEFERRED", "CHECK (n < 100)");
    server.sql(&format!("{}{rows}; {deferred}", make("a", "", "")));
    lite(&place, "a.db", &format!("{}{rows}", make("a", "", "")));
    lite(&place, "b.db", &deferred);
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    for (a, b) in [(a.as_str(), b.as_str()), ("sqlite:a.db", "sqlite:b.db")] {
        let repair = || place.run_args(&["repair", a, b, "--to", "b", "--apply", "--batch", "2"]);
        repair().exits(1).says(&["not stored: 3 in default", "not stored: 4 in default"]);
        // Both of the circle in one transaction.
        let ran = place.run_args(&["repair", a, b, "--to", "b", "--apply"]).exits(1);
        ran.says(&["not stored: 3 in default", "not stored: 4 in default"]);
    }
    assert_eq!(column(&server, "SELECT id::text FROM b ORDER BY id"), ["1", "2", "5"]);
    assert_eq!(lite_column(&place, "b.db", "SELECT CAST(id AS TEXT) FROM b ORDER BY id"), ["1", "2", "5"]);
}

#[test]
fn a_parent_that_goes_in_another_table_is_looked_at_before_the_end() {
    let place = Place::new();
    lite(&place, "a.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE); INSERT INTO t VALUES (3, 'new')");
    lite(
        &place,
        "b.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, code TEXT UNIQUE); INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four');
         CREATE TABLE c (t INTEGER REFERENCES t DEFERRABLE INITIALLY DEFERRED, code TEXT REFERENCES t (code) DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO c VALUES (1, NULL), (NULL, 'three')",
    );
    let ran = place.run("repair sqlite:a.db sqlite:b.db/t --to b --delete --max-delete 100% --apply").exits(1);
    ran.says(&["2 to b", "not stored: 1 in default: FOREIGN KEY", "not stored: 3 in default: FOREIGN KEY"]);
    assert_eq!(lite_column(&place, "b.db", "SELECT code FROM t ORDER BY id"), ["one", "three"]);
}

#[test]
fn sequences_are_moved_and_said_so() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY, nr int, down int); INSERT INTO a VALUES (1, 40, -9);
         CREATE SEQUENCE loose; CREATE SEQUENCE falling INCREMENT -1;
         CREATE TABLE b (id serial PRIMARY KEY, nr int DEFAULT nextval('loose'), down int DEFAULT nextval('falling'));
         CREATE ROLE writer LOGIN; GRANT SELECT, INSERT, UPDATE ON a, b TO writer",
    );
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    let repair = |b: &str| place.run_args(&["repair", &a, b, "--to", "b", "--apply", "--no-probe"]);
    // The first number of all was not given out yet.
    let ran = repair(&b).ok();
    ran.says(&[
        "in b: the sequence of public.b.id was moved to 1",
        "in b: the sequence of public.b.nr was moved to 40",
    ]);
    assert_eq!(column(&server, "INSERT INTO b DEFAULT VALUES RETURNING id || ' ' || nr || ' ' || down"), ["2 41 -1"]);
    server.sql("INSERT INTO a VALUES (2, 41, -1), (9, 9, 9)");
    let ran = repair(&server.table("writer", "b")).ok();
    ran.says(&["in b: the sequence of public.b.id was not moved to 9", "permission denied"]);
    // What was not moved is where it was.
    assert_eq!(column(&server, "SELECT last_value::text FROM b_id_seq"), ["2"]);
    server.sql("DELETE FROM b WHERE id = 9");
    repair(&b).ok().says(&["the sequence of public.b.id was moved to 9"]);
    let ran = repair(&b).ok();
    assert!(!ran.out.contains("sequence"), "{ran:?}");
}

#[test]
fn generated_columns_are_left_to_the_table_and_numbers_are_not_given_out_twice() {
    let place = Place::new();
    let make = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT, up TEXT AS (upper(v)) STORED, twice INTEGER AS (id * 2));";
    lite(&place, "a.db", &format!("{make} INSERT INTO t (id, v) VALUES (1, 'a'), (70, 'b')"));
    lite(&place, "b.db", &format!("{make} INSERT INTO t (id, v) VALUES (1, 'x'), (2, 'c')"));
    place.run("repair sqlite:a.db sqlite:b.db --to b --delete --apply --no-probe").ok().says(&["3 to b"]);
    let rows = lite_column(&place, "b.db", "SELECT id || v || up || twice FROM t ORDER BY id");
    assert_eq!(rows, ["1aA2", "70bB140"]);
    lite(&place, "b.db", "INSERT INTO t (v) VALUES ('next')");
    assert_eq!(lite_column(&place, "b.db", "SELECT CAST(max(id) AS TEXT) FROM t"), ["71"]);
}

#[test]
fn triggers_are_named_before_anything_is_written() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'a'); CREATE TABLE b (id int PRIMARY KEY, v text);
         CREATE TABLE log (n int);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (1); RETURN NULL; END $$;
         CREATE TRIGGER first AFTER INSERT ON b FOR EACH ROW EXECUTE FUNCTION note();
         CREATE TRIGGER off AFTER INSERT ON b FOR EACH ROW EXECUTE FUNCTION note(); ALTER TABLE b DISABLE TRIGGER off",
    );
    lite(
        &place,
        "b.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE log (n);
        CREATE TRIGGER \"then\" AFTER INSERT ON t BEGIN INSERT INTO log VALUES (1); END",
    );
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    for (b, named) in [
        (b.as_str(), "triggers run where b is written: first\n"),
        ("sqlite:b.db/t", "triggers run where b is written: then\n"),
    ] {
        for more in [&[][..], &["--sql", "f.sql"], &["--plan", "f.plan"]] {
            place.run_args(&[&["repair", &a, b, "--to", "b"], more].concat()).exits(1).says(&[named]);
        }
        for file in ["f.sql", "f.plan"] {
            std::fs::remove_file(place.path(file)).expect("it was made");
        }
    }
    assert_eq!(column(&server, "SELECT count(*)::text FROM log"), ["0"]);
}

#[test]
fn columns_that_other_tables_follow_are_not_changed() {
    let (server, place) = (Server::start(), Place::new());
    let make = "CREATE TABLE b (id int PRIMARY KEY, code text UNIQUE); INSERT INTO b VALUES (1, 'old')";
    let follower =
        "CREATE TABLE follower (code text REFERENCES b (code) ON UPDATE CASCADE); INSERT INTO follower VALUES ('old')";
    server.sql(&format!("{make}; {follower}; CREATE TABLE a (id int PRIMARY KEY, code text); INSERT INTO a VALUES (1, 'new'), (2, 'more')"));
    lite(&place, "b.db", &format!("{make}; {follower}"));
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    for b in [b.as_str(), "sqlite:b.db/b"] {
        let repair = |more: &[&str]| place.run_args(&[&["repair", &a, b, "--to", "b", "--no-probe"], more].concat());
        for more in [&[][..], &["--apply"], &["--sql", "f.sql"]] {
            repair(more).exits(4).says(&["[database.cascade]"]).says(&[
                "changing code in rows of b",
                "follower",
                "wrote 0 records",
            ]);
        }
        place
            .run_args(&["explain", b])
            .ok()
            .says(&["changing code changes rows of", "follower; a repair needs --ignore code"]);
        repair(&["--ignore", "code", "--apply"]).ok().says(&["1 to b"]);
    }
    assert_eq!(column(&server, "SELECT code FROM follower"), ["old"]);
}
