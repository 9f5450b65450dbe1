//! Real data with real, exactly known drift: two releases of the GeoNames gazetteer, and the demo that shows them.
//!
//! The numbers are those of the data's own README, counted there by other means.

use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use crate::harness::Place;
use crate::server::Server;

/// Records in a and in b; only in a, only in b, other content.
pub(crate) type Known = [u64; 5];
pub(crate) const SMALL: Known = [26_457, 26_463, 2, 8, 256];
pub(crate) const LARGE: Known = [53_276, 65_849, 104, 12_677, 9_733];

fn data(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/geonames").join(name).display().to_string()
}

/// Compares stores `a` and `b`, of the content profile, both ways, then makes `b` exactly `a`.
fn compare(place: &Place, known: Known) {
    let [in_a, in_b, only_a, only_b, other] = known;
    let diff = place.json("diff a b --settle 0ms").exits(1);
    let summary = diff.summary();
    let counts = &summary["counts"];
    assert_eq!(
        [&counts["only_a"], &counts["only_b"], &counts["content"]],
        [&json!(only_a), &json!(only_b), &json!(other)]
    );
    assert_eq!([&summary["roots"]["a"]["count"], &summary["roots"]["b"]["count"]], [&json!(in_a), &json!(in_b)]);
    let found = diff.objects().iter().filter(|object| object["t"] == "difference").count() as u64;
    assert_eq!(found, only_a + only_b + other);
    let back = place.json("diff b a --settle 0ms --limit 0").exits(1).summary();
    assert_eq!([&back["counts"]["only_a"], &back["counts"]["only_b"]], [&json!(only_b), &json!(only_a)]);
    let done = place.json("repair a b --to b --mirror --max-delete 100% --apply").ok().summary();
    assert_eq!((&done["verdict"], &done["roots"]["b"]["count"]), (&json!("in_sync"), &json!(in_a)));
    assert_eq!(place.run("export b").ok().bytes, place.run("export a").ok().bytes);
}

#[test]
fn both_pairs_differ_as_published() {
    for (cities, releases, known) in
        [("cities15000", ["1.6.0", "2.0.0"], SMALL), ("cities5000", ["2.0.0", "3.0.0"], LARGE)]
    {
        let place = Place::new();
        place.run("init a --profile content").ok();
        place.run("init b --like a").ok();
        for (store, release) in ["a", "b"].iter().zip(releases) {
            let file = data(&format!("{cities}-{release}.csv.zst"));
            place.run(&format!("import {store} {file} --key geonameid")).ok();
        }
        compare(&place, known);
    }
}

#[test]
fn an_export_gives_the_file_back_byte_for_byte() {
    let place = Place::with_store();
    let file = data("cities15000-2.0.0.csv.zst");
    place.run(&format!("import s {file} --key geonameid")).ok().says(&["26,463 records"]);
    let packed = std::fs::read(file).expect("the data");
    let plain = zstd::decode_all(packed.as_slice()).expect("zstd");
    assert!(place.run("export s").ok().bytes == plain);
}

#[test]
fn the_demo_shows_drift_repair_and_equal_roots() {
    let mut place = Place::new();
    // What the environment says of reports is not for the second process.
    place.vars = vec![("REKNIT_FORMAT", "json".into()), ("REKNIT_QUIET", "true".into()), ("TMPDIR", tmp(&place))];
    let story = ["GeoNames", "266 keys differ", "8 only in b, 258 newer in b", "wrote 266 records to a and 0 to b"];
    place.run("demo --format text").ok().says(&story);
    // Machines get one summary; the story is beside it.
    place.vars.retain(|(name, _)| *name != "REKNIT_QUIET");
    let ran = place.run("demo --format jsonl").ok().says(&story);
    let summary = ran.summary();
    assert_eq!((ran.objects().len(), &summary["command"], &summary["wrote"]), (1, &json!("demo"), &json!(266)));
    assert_eq!((&summary["verdict"], &summary["roots"]["a"]), (&json!("in_sync"), &summary["roots"]["b"]));
    let ran = place.run("demo --format text --keep kept").ok();
    let root = |side: &str| {
        let line = ran.out.lines().find(|line| line.starts_with(&format!("root of {side} "))).expect("a root");
        line.rsplit(' ').next().expect("a digest").to_string()
    };
    assert_eq!(root("a"), root("b"));
    let plain = ran.out.lines().find(|line| line.contains("times less than a copy")).expect("a ratio");
    assert!(
        plain.split(" times").next().and_then(|head| head.rsplit(' ').next()?.parse::<u64>().ok()) >= Some(20),
        "{plain}"
    );
    place.vars.clear();
    place.run("verify kept/a").ok().says(&["26,463 records, 2 tombstones"]);
    place.run("get kept/a 2950159").ok().says(&["Berlin"]);
    assert_eq!(place.names(&place.path("tmp")), Vec::<String>::new(), "nothing is left behind");
}

fn tmp(place: &Place) -> String {
    let dir = place.path("tmp");
    std::fs::create_dir(&dir).expect("a directory");
    dir.display().to_string()
}

/// Columns that one side declares as what they are, where the other declares all as text.
const TYPED: [&str; 4] =
    ["geonameid INTEGER PRIMARY KEY", "latitude DECIMAL", "longitude DECIMAL", "population INTEGER"];

/// A release, as the names of its columns and its rows.
fn release(name: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let packed = std::fs::read(data(&format!("cities15000-{name}.csv.zst"))).expect("the data");
    let plain = String::from_utf8(zstd::decode_all(packed.as_slice()).expect("zstd")).expect("text");
    let mut lines = plain.lines().map(fields);
    (lines.next().expect("a head"), lines.collect())
}

/// How a table of these columns is made.
fn declared(names: &[String], typed: bool) -> String {
    let column = |name: &String| {
        let known = TYPED.iter().filter(|_| typed).find(|column| column.split(' ').next() == Some(name));
        known.map_or_else(|| format!("{name} TEXT"), ToString::to_string)
    };
    let columns: Vec<String> = names.iter().map(column).collect();
    let key = if typed { "" } else { ", PRIMARY KEY (geonameid)" };
    format!("CREATE TABLE cities ({}{key})", columns.join(", "))
}

fn in_sqlite(place: &Place, file: &str, name: &str, typed: bool) -> String {
    let (names, rows) = release(name);
    let mut connection = rusqlite::Connection::open(place.path(file)).expect("a database");
    connection.execute_batch(&declared(&names, typed)).expect("a table");
    let transaction = connection.transaction().expect("a transaction");
    {
        let marks = vec!["?"; names.len()].join(", ");
        let mut insert = transaction.prepare(&format!("INSERT INTO cities VALUES ({marks})")).expect("a statement");
        for row in rows {
            let values = row.iter().map(|field| (!field.is_empty()).then_some(field));
            insert.execute(rusqlite::params_from_iter(values)).expect("a row");
        }
    }
    transaction.commit().expect("committed");
    format!("sqlite:{file}")
}

fn in_postgresql(server: &Server, name: &str, typed: bool) -> String {
    let (names, rows) = release(name);
    server.sql(&declared(&names, typed));
    let mut client = server.client();
    let mut copy = client.copy_in("COPY cities FROM STDIN (FORMAT csv)").expect("a copy");
    for row in rows {
        let quoted = |field: &String| if field.is_empty() { String::new() } else { format!("\"{field}\"") };
        let line: Vec<String> = row.iter().map(quoted).collect();
        writeln!(copy, "{}", line.join(",")).expect("a row");
    }
    copy.finish().expect("copied");
    server.table("reknit", "cities")
}

/// Two tables that hold the small pair.
fn differ_as_published(place: &Place, a: &str, b: &str) {
    let [in_a, in_b, only_a, only_b, other] = SMALL;
    let summary = place.json(&format!("diff {a} {b} --settle 0ms")).exits(1).summary();
    let (counts, roots) = (&summary["counts"], &summary["roots"]);
    assert_eq!(
        [&counts["only_a"], &counts["only_b"], &counts["content"]],
        [&json!(only_a), &json!(only_b), &json!(other)]
    );
    assert_eq!([&roots["a"]["count"], &roots["b"]["count"]], [&json!(in_a), &json!(in_b)]);
}

/// The same pair as tables, of which one is declared with types and the other without.
#[test]
fn the_small_pair_differs_the_same_in_tables() {
    let (server, place) = (Server::start(), Place::new());
    let a = in_sqlite(&place, "a.db", "1.6.0", true);
    let b = in_sqlite(&place, "b.db", "2.0.0", false);
    differ_as_published(&place, &a, &b);
    differ_as_published(&place, &in_postgresql(&server, "1.6.0", true), &b);
    server.sql("DROP TABLE cities");
    differ_as_published(&place, &a, &in_postgresql(&server, "2.0.0", false));
}

/// The fields of a line of CSV; empty ones are NULL in the tables.
fn fields(line: &str) -> Vec<String> {
    let (mut all, mut field, mut quoted) = (Vec::new(), String::new(), false);
    for char in line.chars() {
        match char {
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut field)),
            char => field.push(char),
        }
    }
    all.push(field);
    all
}
