//! One record as it is compared.

use rusqlite::Connection;

use crate::harness::Place;

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
