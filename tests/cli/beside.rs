//! Embedded stores beside tables: their rows are compared as those of any table are, and go into one; they are never written so.

use reknit::core::row::{Row, Value, encode, encode_key};
use reknit::core::{DatasetId, DatasetKey, Definition};
use reknit::format::Layout;
use reknit::store::{Options, Store};

use crate::daemon::Daemon;
use crate::harness::Place;

/// A store of imported rows, and a table of the same.
fn pair() -> Place {
    let rows = "id,name,price,at\n1,ann,1.50,2026-07-01 12:00:00\n2,\"\",2,\n3,,-3.25,2026-07-02 00:00:00\n";
    let place = Place::with_file("rows.csv", rows, "--key id");
    sql(
        &place,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, price DECIMAL, at DATETIME);
         INSERT INTO t VALUES (1, 'ann', 1.5, '2026-07-01 12:00:00'), (2, '', 2.0, NULL), (3, NULL, '-3.250', '2026-07-02')",
    );
    place
}

fn sql(place: &Place, statements: &str) {
    let database = rusqlite::Connection::open(place.path("b.db")).expect("a database");
    database.execute_batch(statements).expect("statements");
}

#[test]
fn rows_of_a_store_mean_what_those_of_a_table_do() {
    let place = pair();
    let root = place.root("s");
    // What a date without a time means is for the table to say.
    place.run("diff s sqlite:b.db --settle 0ms").exits(1).says(&["1 with different content"]);
    sql(&place, "UPDATE t SET at = '2026-07-02 00:00:00' WHERE id = 3");
    for sides in ["s sqlite:b.db", "sqlite:b.db/t s", "store:s sqlite:b.db/t", "store:s#default sqlite:b.db"] {
        place.run(&format!("check {sides} --settle 0ms")).ok().says(&["in sync: 3 records"]);
    }
    sql(
        &place,
        "UPDATE t SET name = 'x' WHERE id = 2; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (9, 'new', 1, NULL)",
    );
    let told = place.json("diff s sqlite:b.db --settle 0ms").exits(1);
    crate::schema::holds(&told.objects());
    // They were equal before, so it is known which side has changed.
    assert_eq!(told.summary()["counts"]["b_newer"], 3, "{}", told.out);
    place.run("inspect sqlite:b.db/t 2 --against s").exits(1).says(&["name differs first"]);
    place.run("explain s sqlite:b.db").ok().says(&["name differs in 1 of 2"]);
    // Drift is remembered of such a pair too.
    place.run("drift s sqlite:b.db --settle 0ms").exits(1).says(&["3 still open"]);
    assert_eq!(place.root("s"), root, "it is only looked at");
}

#[test]
fn a_table_takes_what_a_store_has_and_never_the_other_way_round() {
    let place = pair();
    sql(
        &place,
        "UPDATE t SET name = 'x' WHERE id = 2; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (9, 'new', 1, NULL)",
    );
    let root = place.root("s");
    for wrong in
        ["repair sqlite:b.db s --to b", "repair s sqlite:b.db --to both", "repair s sqlite:b.db --to a --apply"]
    {
        place.run(wrong).exits(4).says(&["[database.read-only]", "a store beside a table"]);
    }
    place.run("repair s sqlite:b.db --to b --no-probe --plan p.plan --settle 0ms").exits(1);
    place.run("apply p.plan s sqlite:b.db").ok().says(&["carried out 2 of 2 keys"]);
    let done = place.run("repair s sqlite:b.db --to b --delete --no-probe --apply --settle 0ms").ok();
    done.says(&["wrote 0 records to a and 1 to b", "reknit runs undo sqlite:b.db 2"]);
    place.run("check s sqlite:b.db").ok();
    place.run("runs undo sqlite:b.db 2").ok().says(&["1 changes put back"]);
    assert_eq!(place.root("s"), root);
    // Rows of JSON Lines have types of their own; what one lacks is named.
    place.file("rows.jsonl", "{\"id\":1,\"name\":\"ann\",\"price\":1.5}\n{\"id\":2,\"name\":null,\"price\":2}\n");
    place.run("init j").ok();
    place.run("import j rows.jsonl --key id").ok();
    sql(
        &place,
        "CREATE TABLE j (id INTEGER PRIMARY KEY, name TEXT, price REAL); INSERT INTO j VALUES (1, 'ann', 1.5), (2, NULL, 2)",
    );
    place.run("check j sqlite:b.db/j --float-digits 6").ok().says(&["in sync: 2 records"]);
    place.file("more.jsonl", "{\"id\":3,\"price\":3}\n");
    place.run("import j more.jsonl --key id").ok();
    place.run("check j sqlite:b.db/j --float-digits 6").fails("database").says(&["the record 3 has no column name"]);
    // Bytes without columns are no rows, and a peer's are compared where they are.
    place.run("init raw").ok();
    place.run("put raw k v").ok();
    place.run("check raw sqlite:b.db/j").exits(4).says(&["[database.pair]", "raw bytes"]);
    place.run("check store:s#none sqlite:b.db/t").fails("store.no-collection");
    place.run("check none sqlite:b.db/t").exits(4).says(&["[database.pair]", "there is no directory none"]);
    let me = place.run("id").ok().out.trim().to_string();
    place.run(&format!("check sqlite:b.db/t quic://{me}@localhost/x")).exits(4).says(&["[database.no-dataset]"]);
}

/// Of a dataset of several collections, as programs have them, each is a table.
#[test]
fn another_collection_than_the_first_is_named() {
    let place = pair();
    let mut definition = Definition::simple(DatasetId([7; 16]), "two");
    let mut second = definition.collections[0].clone();
    second.name = "second".into();
    definition.collections.push(second);
    let key = DatasetKey::from_bytes([7; 32]);
    let store = Store::create(&place.path("two"), definition, key, &Options::default()).expect("a store");
    let rows = store.collection("second").expect("a collection");
    let layout = Layout::of_table(vec!["id".into()], vec!["id".into(), "name".into()]);
    rows.set_layout(Some(layout.to_bytes())).expect("kept");
    for (id, name) in [(1, "ann"), (2, ""), (4, "more")] {
        let mut row = Row::new();
        row.set("id", Value::Text(id.to_string())).expect("a column");
        row.set("name", Value::Text(name.into())).expect("a column");
        rows.put(&encode_key(&[Value::Int(id)]), &encode(&row)).expect("put");
    }
    drop((rows, store));
    let told = place.run("diff store:two#second sqlite:b.db/t --ignore price,at --settle 0ms").exits(1);
    told.says(&["1 only in a, 1 only in b"]);
    place.run("check two sqlite:b.db/t").exits(4).says(&["[database.pair]", "raw bytes"]);
}

#[test]
fn a_store_that_a_daemon_serves_is_looked_at_there() {
    let place = pair();
    sql(&place, "UPDATE t SET at = '2026-07-02 00:00:00' WHERE id = 3");
    place.secret(
        "home/config.toml",
        "[store.own]\nurl = '../s'\n[job.look]\na = 'own'\nb = 'sqlite:../b.db/t'\nsettle = '0ms'",
    );
    let daemon = Daemon::start(&place, "home", &["s"]);
    place.run("check s sqlite:b.db/t").ok().says(&["in sync: 3 records"]);
    place.run("check store:s sqlite:b.db/t").ok();
    place.run_args(&["put", "s", "4", "4,late,1,"]).ok();
    place.run("check s sqlite:b.db/t --settle 0ms").exits(1);
    place.run("run look").exits(1).says(&["differs"]);
    drop(daemon);
    place.run("run look").exits(1).says(&["differs"]);
}

#[test]
fn a_job_that_looks_at_a_store_beside_a_table_has_it_for_itself() {
    let place = pair();
    // A difference is given minutes to stand still.
    let jobs = "[job.slow]\na = '../s'\nb = 'sqlite:../b.db/t'\ndo = 'diff'\nsettle = '5m'\n\
                [job.scrub]\nstore = '../s'\ndo = 'verify'";
    place.secret("home/config.toml", jobs);
    let _daemon = Daemon::start(&place, "home", &[]);
    place.run("jobs run slow").ok();
    crate::jobs::wait(&place, "slow", |job| job["state"] == "running");
    place.run("run scrub").exits(4).says(&["[job.occupied]", "the job slow works on"]);
}

#[test]
fn a_job_that_is_to_read_nothing_whole_comes_to_its_end_beside_a_store_too() {
    let place = pair();
    let job = "[job.quick]\na = '../s'\nb = 'sqlite:../b.db/t'\nno_scan = true";
    place.secret("home/config.toml", job);
    let _daemon = Daemon::start(&place, "home", &[]);
    place.run("jobs run quick").ok();
    let quick = crate::jobs::wait(&place, "quick", |job| !job["verdict"].is_null());
    assert_eq!(quick["running"], serde_json::Value::Null, "{quick}");
}
