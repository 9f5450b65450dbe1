//! Two tables that were equal once: what one side alone has changed since goes to the other.

use rusqlite::Connection;

use crate::harness::Place;
use crate::server::Server;

const SIDES: &str = "sqlite:a.db/t sqlite:b.db/t";

fn two(place: &Place) -> [Connection; 2] {
    ["a.db", "b.db"].map(|file| {
        let connection = Connection::open(place.path(file)).expect("a database");
        let statements = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
            WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 200)
            INSERT INTO t SELECT x, 'v' || x FROM i";
        connection.execute_batch(statements).expect("statements");
        connection
    })
}

fn sql(connection: &Connection, statements: &str) {
    connection.execute_batch(statements).expect("statements");
}

fn rows(connection: &Connection) -> String {
    let all = "SELECT group_concat(id || '=' || v) FROM (SELECT * FROM t WHERE v <> 'v' || id ORDER BY id)";
    let some: Option<String> = connection.query_row(all, [], |row| row.get(0)).expect("rows");
    let count: i64 = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("a number");
    format!("{count}: {}", some.unwrap_or_default())
}

#[test]
fn what_one_side_has_changed_goes_to_the_other() {
    let place = Place::new();
    let [a, b] = two(&place);
    let both = format!("repair {SIDES} --to both");
    place.run(&format!("{both} --delete --apply")).exits(4).says(&["[repair.base]"]);
    place.run(&format!("check {SIDES}")).ok();
    sql(&a, "UPDATE t SET v = 'a' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (301, 'new a')");
    sql(&b, "UPDATE t SET v = 'b' WHERE id = 3; DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (302, 'new b')");
    // Both: otherwise, alike, gone here and changed there, changed and back again.
    sql(&a, "UPDATE t SET v = 'x' WHERE id IN (5, 6); DELETE FROM t WHERE id = 7; UPDATE t SET v = v WHERE id = 8");
    sql(&b, "UPDATE t SET v = 'y' WHERE id = 5; UPDATE t SET v = 'x' WHERE id = 6; UPDATE t SET v = 'y' WHERE id = 7");
    let told = place.run(&format!("diff {SIDES}")).exits(1);
    told.says(&["3 changed in a, 3 changed in b, 2 changed on both sides"]);
    let told = place.run(&both).exits(1);
    let told = told.says(&["would write 2 records to a and 2 to b; 4 differences would be left"]);
    told.says(&[
        "2 rows changed on both sides left; --prefer",
        "2 rows that the other side has deleted kept; --delete",
    ]);
    let told = place.run(&format!("{both} --delete --prefer a")).exits(1);
    told.says(&["would write 3 records to a and 5 to b;"]);
    let told = place.run(&format!("{both} --apply")).exits(1);
    told.says(&[
        "wrote 2 records to a and 2 to b",
        "2 rows changed on both sides",
        "2 rows that the other side has deleted kept",
    ]);
    assert_eq!(rows(&a), "200: 1=a,3=b,5=x,6=x,301=new a,302=new b");
    assert_eq!(rows(&b), "201: 1=a,3=b,5=y,6=x,7=y,301=new a,302=new b");
    // What was made equal is what changes are counted from, though not all is equal.
    sql(&a, "UPDATE t SET v = 'again' WHERE id IN (1, 3)");
    let told = place.run(&format!("{both} --delete --apply")).exits(1);
    told.says(&["wrote 1 records to a and 3 to b", "2 rows changed on both sides left"]);
    assert_eq!(rows(&a), "199: 1=again,3=again,5=x,6=x,301=new a,302=new b");
    assert_eq!(rows(&b), "200: 1=again,3=again,5=y,6=x,7=y,301=new a,302=new b");
    place.run(&format!("{both} --delete --prefer a --apply")).ok().says(&["in sync"]);
    assert_eq!(rows(&b), "199: 1=again,3=again,5=x,6=x,301=new a,302=new b");
    // An undo brings back what was there, and is a change like another.
    place.run("runs undo sqlite:b.db/t 3").ok();
    assert_eq!(rows(&b), "200: 1=again,3=again,5=y,6=x,7=y,301=new a,302=new b");
    place.run("resume sqlite:b.db/t").ok();
    place.run(&format!("diff {SIDES}")).exits(1).says(&["2 changed in b"]);
}

#[test]
fn a_lost_index_or_another_database_makes_nothing_known() {
    let place = Place::new();
    let [a, b] = two(&place);
    place.run(&format!("check {SIDES}")).ok();
    sql(&a, "DELETE FROM t WHERE id = 1");
    place.run(&format!("diff {SIDES}")).exits(1).says(&["1 changed in a"]);
    // An index that is built anew knows nothing of before.
    place.run("index drop sqlite:a.db/t").ok();
    place.run(&format!("diff {SIDES}")).exits(1).says(&["1 only in b"]);
    place.run(&format!("repair {SIDES} --to both --delete --apply")).exits(4).says(&["[repair.base]"]);
    place.run(&format!("repair {SIDES} --to both --apply")).ok();
    // A file that was put in the place of another is not what has changed.
    std::fs::copy(place.path("b.db"), place.path("old.db")).expect("a copy");
    sql(&b, "UPDATE t SET v = 'later' WHERE id = 9");
    place.run(&format!("repair {SIDES} --to both --apply")).ok().says(&["wrote 1 records to a"]);
    drop((a, b));
    std::fs::rename(place.path("old.db"), place.path("b.db")).expect("moved");
    let told = place.run(&format!("repair {SIDES} --to both --apply")).exits(1);
    told.says(&["the database or the table is another than before", "wrote 0 records to a and 0 to b"]);
    let told = place.run(&format!("diff {SIDES}")).exits(1);
    told.says(&["1 with different content"]);
}

#[test]
fn tables_of_postgresql_too_and_a_restored_one_is_known() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, 'v' || i FROM generate_series(1, 100) AS i;
         CREATE TABLE b (id int PRIMARY KEY, v text); INSERT INTO b SELECT * FROM a;
         CREATE TABLE kept AS SELECT * FROM b;
         CREATE ROLE reader LOGIN; GRANT SELECT ON a, b TO reader",
    );
    let reads = [server.table("reader", "a"), server.table("reader", "b")];
    let writes = [server.table("reknit", "a"), server.table("reknit", "b")];
    let run = |command: &str, sides: &[String; 2], more: &[&str]| {
        place.run_args(&[&[command, &sides[0], &sides[1]], more].concat())
    };
    run("check", &reads, &[]).ok();
    server.sql("DELETE FROM a WHERE id <= 3; UPDATE b SET v = 'b' WHERE id = 50");
    run("diff", &reads, &[]).exits(1).says(&["3 changed in a, 1 changed in b"]);
    let both = ["--to", "both", "--delete", "--apply"];
    run("repair", &writes, &both).ok().says(&["wrote 1 records to a and 3 to b"]);
    // Brakes hold for what would be deleted.
    server.sql("DELETE FROM a");
    run("repair", &writes, &both).exits(4);
    run("repair", &writes, &["--to", "both", "--apply"])
        .exits(1)
        .says(&["97 rows that the other side has deleted kept"]);
    // A table that was made anew from a dump is another.
    server.sql("DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT * FROM kept");
    let told = run("repair", &writes, &["--to", "both", "--apply"]).exits(1);
    told.says(&["is another than before", "wrote 0 records to a and 3 to b", "1 with different content"]);
}

#[test]
fn the_newer_of_two_rows_is_known_by_a_column() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz);
         INSERT INTO t SELECT i, 'v', '2026-01-01 00:00:00Z' FROM generate_series(1, 50) AS i;
         UPDATE t SET v = 'a', at = '2026-01-02 00:00:00Z' WHERE id IN (1, 2);
         UPDATE t SET v = 'a' WHERE id = 3; UPDATE t SET v = 'a', at = NULL WHERE id = 4;
         INSERT INTO t VALUES (60, 'only a', NULL)",
    );
    let b = Connection::open(place.path("b.db")).expect("a database");
    sql(
        &b,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, at TIMESTAMPTZ);
         WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 50)
         INSERT INTO t SELECT x, 'v', '2026-01-01 02:00:00+02:00' FROM i;
         UPDATE t SET v = 'b', at = '2026-01-03 00:00:00Z' WHERE id IN (2, 5); UPDATE t SET v = 'b' WHERE id IN (3, 4)",
    );
    let a = server.table("reknit", "t");
    let repair = |more: &[&str]| place.run_args(&[&["repair", &a, "sqlite:b.db/t"], more].concat());
    repair(&["--newest", "none"]).exits(4).says(&["[database.shape]", "at, id, v"]);
    repair(&["--newest", "at", "--to", "b"]).exits(4).says(&["[repair.direction]"]);
    repair(&[]).exits(4).says(&["[repair.direction]", "--newest COLUMN"]);
    let told = repair(&["--newest", "at"]).exits(1);
    told.says(&[
        "would write 2 records to a and 2 to b; 2 differences would be left",
        "2 rows left of which at does not tell",
    ]);
    let told = repair(&["--newest", "at", "--apply"]).exits(1);
    told.says(&["wrote 2 records to a and 2 to b", "2 rows left of which at does not tell"]);
    let changed = |of: &str| format!("SELECT string_agg(id || v, ',' ORDER BY id) FROM {of} WHERE v <> 'v'");
    let in_a: String = server.client().query_one(&changed("t"), &[]).expect("rows").get(0);
    assert_eq!(in_a, "1a,2b,3a,4a,5b,60only a");
    let in_b = "SELECT group_concat(id || v) FROM (SELECT * FROM t WHERE v <> 'v' ORDER BY id)";
    let in_b: String = b.query_row(in_b, [], |row| row.get(0)).expect("rows");
    assert_eq!(in_b, "1a,2b,3b,4b,5b,60only a");
    repair(&["--newest", "at", "--prefer", "b", "--apply"]).ok().says(&["wrote 2 records to a and 0 to b"]);
    place.run_args(&["check", &a, "sqlite:b.db/t"]).ok();
    place.run("init s").ok();
    place.run("repair s s2 --newest at").exits(4).says(&["[repair.tables]"]);
}
