//! One record as it is compared.

use rusqlite::Connection;

use crate::harness::Place;
use crate::server::Server;

#[test]
fn a_row_is_shown_as_it_is_compared_and_what_differs_first_is_named() {
    let place = Place::new();
    let made = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, price DECIMAL);
        WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 300)
        INSERT INTO t SELECT x, 'n' || x, '1.50' FROM i";
    let open = |file: &str| Connection::open(place.path(file)).expect("a database");
    let [a, b] = ["a.db", "b.db"].map(open);
    [&a, &b].iter().for_each(|connection| connection.execute_batch(made).expect("statements"));
    b.execute_batch("UPDATE t SET name = 'N7', price = 1.5 WHERE id = 7; DELETE FROM t WHERE id = 8")
        .expect("statements");
    place.run("check sqlite:a.db/t sqlite:b.db/t").exits(1);
    let told = place.run("inspect sqlite:a.db/t 7 --against sqlite:b.db/t").exits(1);
    let told =
        told.says(&["name differs first: \"n7\" in a, \"N7\" in b", "range .\t300 records", "range .\t299 records"]);
    told.says(&["id\t7", "price\t1.5", "bytes\t"]);
    let told = place.run("inspect sqlite:a.db/t 7 --against sqlite:b.db/t --collate ci --format jsonl").ok();
    told.says(&[r#""equal":true"#, r#""differs_first":null"#]);
    place.run("inspect sqlite:a.db/t 8 --against sqlite:b.db/t").exits(1).says(&["no record", "not on both sides"]);
    place.run("inspect sqlite:a.db/t 9 --against sqlite:b.db/t").ok().says(&["equal on both sides"]);
    place.run("inspect sqlite:a.db/t 999").exits(1).says(&["there is no such record"]);
    place.run("inspect sqlite:a.db/t 1 --against b").exits(4).says(&["[database.pair]"]);
    // The same bytes, whoever keeps them.
    let bytes =
        |table: &str| place.run(&format!("inspect {table} 9 --format jsonl")).ok().objects()[0]["bytes_hex"].clone();
    let one = bytes("sqlite:a.db/t");
    assert!(one.is_string());
    assert_eq!(bytes("sqlite:b.db/t"), one);
}

#[test]
fn a_row_of_a_server_is_shown_as_a_row_of_a_file_is() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE t (part text, id int, price numeric, at timestamptz, PRIMARY KEY (part, id));
         INSERT INTO t VALUES ('x', 1, 1.50, '2026-01-02 03:04:05+02'), ('it''s', 2, NULL, NULL), ('x', 3, 7, NULL)",
    );
    let connection = Connection::open(place.path("b.db")).expect("a database");
    let made = "CREATE TABLE t (part TEXT NOT NULL, id INTEGER, price DECIMAL, at TIMESTAMPTZ, PRIMARY KEY (part, id));
        INSERT INTO t VALUES ('x', 1, '1.5', '2026-01-02T01:04:05Z'), ('it''s', 2, NULL, NULL), ('x', 3, 8, NULL), ('y', 4, 0, NULL)";
    connection.execute_batch(made).expect("statements");
    let (a, b) = (server.table("reknit", "t"), "sqlite:b.db/t");
    place.run_args(&["check", &a, b]).exits(1);
    let told = place.run_args(&["inspect", &a, "x,1", "--against", b]).ok().says(&["equal on both sides"]);
    told.says(&[
        "part\t\"x\"",
        "id\t1",
        "price\t1.5",
        "at\t2026-01-02T01:04:05Z",
        "range .\t3 records",
        "range .\t4 records",
    ]);
    place.run_args(&["inspect", &a, "it's,2", "--against", b]).ok();
    let told = place.run_args(&["inspect", &a, "x,3", "--against", b]).exits(1);
    told.says(&["price differs first: 7 in a, 8 in b"]);
    place.run_args(&["inspect", &a, "y,4", "--against", b]).exits(1).says(&["not on both sides"]);
    place.run_args(&["inspect", &a, "z,9"]).exits(1).says(&["there is no such record"]);
    let bytes = |table: &str| {
        place.run_args(&["inspect", table, "x,1", "--format", "jsonl"]).ok().objects()[0]["bytes_hex"].clone()
    };
    let one = bytes(&a);
    assert!(one.is_string());
    assert_eq!(bytes(b), one, "the same bytes, whoever keeps them");
}

#[test]
fn a_record_of_a_store_is_shown_with_its_path() {
    let place = Place::new();
    place.file("rows.csv", "id,v\n1,x\n2,\n");
    place.run("init a").ok();
    place.run("import a rows.csv --key id").ok();
    place.run("init b --like a").ok();
    place.run("inspect a 2").ok().says(&["range .\t2 records", "v\tNULL", "entry\t"]);
    place.run("inspect a 1 --against b").exits(1).says(&["not on both sides"]);
    place.run("repair a b --apply").ok();
    place.run("inspect a 1 --against b").ok().says(&["equal on both sides"]);
    place.run("inspect a 3").exits(1);
}
