//! Files as sides: each format against real databases, equal and different; what is wrong with a file; that none is written.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int32Type,
    Int64Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use reknit::core::row::Value;
use serde_json::{Value as Json, json};

use crate::bucket::{BUCKET, Bucket};
use crate::geonames::{Known, LARGE, SMALL};
use crate::harness::{Place, Ran};
use crate::server::Server;

/// Columns of all kinds that every format and both databases have.
const KINDS: &str =
    "id bigint PRIMARY KEY, ok boolean, n integer, price numeric(10,2), f double precision, name text, raw bytea,
    day date, t time, at timestamp, seen timestamptz, u uuid, doc jsonb";
const IN_SQLITE: &str =
    "CREATE TABLE t (id INTEGER PRIMARY KEY, ok BOOLEAN, n INTEGER, price DECIMAL, f REAL, name TEXT, raw BLOB,
    day DATE, t TIME, at DATETIME, seen TIMESTAMPTZ, u UUID, doc JSON)";
const IN_PARQUET: &str = "message t { required int64 id; optional boolean ok; optional int32 n;
    optional int64 price (DECIMAL(10,2)); optional double f; optional binary name (STRING); optional binary raw;
    optional int32 day (DATE); optional int64 t (TIME(MICROS,false)); optional int64 at (TIMESTAMP(MICROS,false));
    optional int64 seen (TIMESTAMP(MICROS,true)); optional fixed_len_byte_array(16) u (UUID); optional binary doc (JSON); }";
/// The values of Parquet's types that mean those of the database.
const AS_PARQUET: &str = "SELECT id, ok, n, (price * 100)::bigint, f, name, raw, day - date '1970-01-01',
    (extract(epoch from t) * 1000000)::bigint, (extract(epoch from at) * 1000000)::bigint,
    (extract(epoch from seen) * 1000000)::bigint, uuid_send(u), doc::text FROM";
/// So many rows that more than one page of each is read.
const ROWS: usize = 3_000;

/// Rows in which every kind has some values, some NULL, and some that are near to NULL.
fn fill(server: &Server, table: &str) {
    server.sql(&format!(
        "CREATE TABLE {table} ({KINDS}); SET timezone = 'Asia/Kolkata';
         INSERT INTO {table} SELECT i, i % 2 = 0, i % 1000 - 500, i / 100.0, i / 7.0,
             CASE i % 4 WHEN 0 THEN '' WHEN 1 THEN 'Zürich, \"' || i || E'\"\\n' ELSE 'n' || i END,
             decode(md5(i::text), 'hex'), date '1960-01-01' + i, time '00:00' + i * interval '7.5 s',
             timestamp '1969-12-31 23:00' + i * interval '1 day 0.000001 s',
             timestamptz '1969-12-31 23:00+02' + i * interval '1 day 0.000001 s', md5(i::text)::uuid,
             jsonb_build_object('i', i, 'half', i / 2.0, 'list', jsonb_build_array(i, null, 'x'))
         FROM generate_series(1, {}) i;
         INSERT INTO {table} (id) VALUES (0); INSERT INTO {table} (id, name, raw, doc) VALUES (-1, '', '', '[]');",
        ROWS - 2
    ));
}

/// Changes a few rows, drops one, adds two.
fn drift(server: &Server, table: &str) {
    server.sql(&format!(
        "UPDATE {table} SET name = 'other' WHERE id IN (7, 1500); UPDATE {table} SET name = '' WHERE id = 0;
         UPDATE {table} SET price = price + 0.01 WHERE id = 8; UPDATE {table} SET raw = NULL WHERE id = -1;
         UPDATE {table} SET seen = seen + interval '1 us' WHERE id = 9; UPDATE {table} SET ok = NOT ok WHERE id = 10;
         UPDATE {table} SET doc = '{{}}' WHERE id = 11; DELETE FROM {table} WHERE id = 12;
         INSERT INTO {table} (id) VALUES (900000), (900001);"
    ));
}

fn copied(server: &Server, statement: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut client = server.client();
    let mut copy = client.copy_out(statement).expect("a copy");
    copy.read_to_end(&mut out).expect("rows");
    out
}

/// Writes a table as a file of each format, and gives their addresses.
fn exported(place: &Place, server: &Server, table: &str) -> Vec<String> {
    let csv = copied(server, &format!("COPY {table} TO STDOUT (FORMAT csv, HEADER)"));
    place.file(&format!("{table}.csv.zst"), zstd::encode_all(csv.as_slice(), 1).expect("zstd"));
    place.file(&format!("{table}.csv"), csv);
    let mut lines = String::new();
    for row in server.client().query(&format!("SELECT row_to_json(x)::text FROM {table} x"), &[]).expect("rows") {
        lines.push_str(&row.get::<_, String>(0));
        lines.push('\n');
    }
    place.file(&format!("{table}.jsonl"), lines);
    as_parquet(server, table, &place.path(&format!("{table}.parquet")));
    ["csv:{}.csv", "csv:{}.csv.zst", "jsonl:{}.jsonl", "parquet:{}.parquet"].map(|at| at.replace("{}", table)).to_vec()
}

fn as_parquet(server: &Server, table: &str, path: &Path) {
    let rows = server.client().query(&format!("{AS_PARQUET} {table}"), &[]).expect("rows");
    let schema = Arc::new(parse_message_type(IN_PARQUET).expect("a schema"));
    let properties =
        WriterProperties::builder().set_compression(Compression::SNAPPY).set_data_page_row_count_limit(500);
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).expect("a writer");
    for rows in rows.chunks(ROWS / 2) {
        let mut group = writer.next_row_group().expect("a row group");
        let g = &mut group;
        column::<Int64Type>(g, rows.iter().map(|row| Some(row.get(0))));
        column::<BoolType>(g, rows.iter().map(|row| row.get(1)));
        column::<Int32Type>(g, rows.iter().map(|row| row.get(2)));
        column::<Int64Type>(g, rows.iter().map(|row| row.get(3)));
        column::<DoubleType>(g, rows.iter().map(|row| row.get(4)));
        let text =
            |row: &postgres::Row, at| row.get::<_, Option<String>>(at).map(|text| ByteArray::from(text.into_bytes()));
        let bytes = |row: &postgres::Row, at| row.get::<_, Option<Vec<u8>>>(at).map(ByteArray::from);
        column::<ByteArrayType>(g, rows.iter().map(|row| text(row, 5)));
        column::<ByteArrayType>(g, rows.iter().map(|row| bytes(row, 6)));
        column::<Int32Type>(g, rows.iter().map(|row| row.get(7)));
        for at in 8..11 {
            column::<Int64Type>(g, rows.iter().map(|row| row.get(at)));
        }
        column::<FixedLenByteArrayType>(g, rows.iter().map(|row| bytes(row, 11).map(FixedLenByteArray::from)));
        column::<ByteArrayType>(g, rows.iter().map(|row| text(row, 12)));
        group.close().expect("closed");
    }
    writer.close().expect("closed");
}

/// Writes one column, of which some values may be NULL.
pub(crate) fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, std::fs::File>,
    values: impl Iterator<Item = Option<T::T>>,
) {
    let values: Vec<Option<T::T>> = values.collect();
    let levels: Vec<i16> = values.iter().map(|value| value.is_some().into()).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    let mut column = group.next_column().expect("a column").expect("one more");
    column.typed::<T>().write_batch(&values, Some(&levels), None).expect("written");
    column.close().expect("closed");
}

/// What two sides differ in, as it is listed: how, by which key, what each side has; not when which index saw it.
fn differences(place: &Place, a: &str, b: &str) -> Vec<[Json; 5]> {
    let ran = place.command(&["diff", a, b, "--settle", "0ms", "--format", "jsonl"]).output().expect("the binary");
    let found = Ran::of(ran).exits(1).objects();
    let found = found.into_iter().filter(|object| object["t"] == "difference");
    let side = |side: &Json| side["content"].clone();
    let mut found: Vec<_> = found
        .map(|mut one| [one["op"].take(), one["key"].take(), one["state"].take(), side(&one["a"]), side(&one["b"])])
        .collect();
    // Many are told part by part, in no order that is promised.
    found.sort_by_cached_key(|one| one[1].to_string());
    found
}

#[test]
fn an_export_equals_its_table_and_tells_the_same_differences_in_every_format() {
    let (server, place) = (Server::start(), Place::new());
    fill(&server, "t");
    let pg = server.table("reknit", "t");
    let lite = rusqlite::Connection::open(place.path("lite.db")).expect("a database");
    lite.execute_batch(IN_SQLITE).expect("a table");
    place.run_args(&["repair", &pg, "sqlite:lite.db", "--to", "b", "--apply"]).ok();
    for file in exported(&place, &server, "t") {
        for table in [&pg, "sqlite:lite.db"] {
            place.run_args(&["check", &file, table]).ok().says(&["in sync: 3,000 records"]);
        }
        let explained = place.run_args(&["explain", &file, &pg]).ok();
        explained.says(&["key\tthat of the other side", "1,000 shared rows were probed: none differs"]);
    }
    fill(&server, "later");
    drift(&server, "later");
    let known = differences(&place, &pg, &server.table("reknit", "later"));
    assert_eq!(known.len(), 11, "{known:?}");
    for file in exported(&place, &server, "later") {
        for table in [&pg, "sqlite:lite.db"] {
            assert_eq!(differences(&place, table, &file), known, "{table} and {file}");
        }
        for other in ["csv:t.csv", "jsonl:t.jsonl", "parquet:t.parquet"] {
            // Two files without types have no key either.
            if other.starts_with("parquet") {
                place
                    .run_args(&["check", other, &file])
                    .exits(4)
                    .says(&["[database.shape]", "has a key; --key COLUMN"]);
            }
        }
    }
    // What was read is written to the other side, and can be undone there.
    place.run("repair csv:later.csv sqlite:lite.db --to b --delete --apply").ok();
    place.run("check jsonl:later.jsonl sqlite:lite.db").ok();
}

#[test]
fn what_postgresql_spells_in_its_own_way_is_read_as_it_is_meant() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TYPE mood AS ENUM ('sad', 'fine');
         CREATE TABLE own (id smallint PRIMARY KEY, half real, feeling mood, span interval, day date, at timestamp,
             seen timestamptz, price numeric, f double precision);
         SET timezone = 'Europe/Berlin';
         INSERT INTO own VALUES
             (1, 0.1, 'sad', '1 year 2 mons -3 days 04:05:06.789', '0044-03-15 BC', '0044-03-15 12:00 BC', '1850-01-01', 'NaN', 'NaN'),
             (2, 'Infinity', 'fine', '-1 mon +1 day -100:00:00.000001', 'infinity', '-infinity', 'infinity', 'Infinity', '-Infinity'),
             (3, 1e-30, NULL, '0', '10000-01-01', '10000-01-01', '10000-01-01 00:00+00', 1e50, 1e300);
         ALTER DATABASE postgres SET timezone = 'Europe/Berlin';",
    );
    let (pg, _) = (
        server.table("reknit", "own"),
        place.file("own.csv", copied(&server, "COPY own TO STDOUT (FORMAT csv, HEADER)")),
    );
    place.run_args(&["check", "csv:own.csv", &pg]).ok();
    let lines: Vec<String> = server
        .client()
        .query("SELECT row_to_json(x)::text FROM own x", &[])
        .expect("rows")
        .iter()
        .map(|row| row.get(0))
        .collect();
    place.file("own.jsonl", lines.join("\n"));
    place.run_args(&["check", "jsonl:own.jsonl", &pg]).ok();
    // Whose elements are of which type, a text does not tell.
    server.sql("CREATE TABLE lists (id int PRIMARY KEY, tags text[]); INSERT INTO lists VALUES (1, '{a}')");
    let pg = server.table("reknit", "lists");
    place.file("lists.csv", copied(&server, "COPY lists TO STDOUT (FORMAT csv, HEADER)"));
    place.run_args(&["check", "csv:lists.csv", &pg]).exits(4).says(&[
        "[database.shape]",
        "tags is spelled in",
        "array",
    ]);
    place.file("lists.jsonl", "{\"id\":1,\"tags\":[\"a\"]}\n");
    place.run_args(&["check", "jsonl:lists.jsonl", &pg]).ok();
}

#[test]
fn lists_of_parquet_are_arrays() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE lists (id bigint PRIMARY KEY, tags text[], n integer[]);
         INSERT INTO lists VALUES (1, '{a,NULL,\"\"}', '{1,2}'), (2, '{}', NULL), (3, NULL, '{NULL}'), (4, '{b}', '{}')",
    );
    let schema = "message lists { required int64 id;
        optional group tags (LIST) { repeated group list { optional binary element (STRING); } }
        optional group n (LIST) { repeated group list { optional int32 element; } } }";
    let file = std::fs::File::create(place.path("lists.parquet")).expect("a file");
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    column::<Int64Type>(&mut group, (1..=4).map(Some));
    let mut tags = group.next_column().expect("a column").expect("one more");
    let texts = ["a", "", "b"].map(ByteArray::from);
    let (defined, repeated) = ([3, 2, 3, 1, 0, 3], [0, 1, 1, 0, 0, 0]);
    tags.typed::<ByteArrayType>().write_batch(&texts, Some(&defined), Some(&repeated)).expect("written");
    tags.close().expect("closed");
    let mut n = group.next_column().expect("a column").expect("one more");
    n.typed::<Int32Type>().write_batch(&[1, 2], Some(&[3, 3, 0, 2, 1]), Some(&[0, 1, 0, 0, 0])).expect("written");
    n.close().expect("closed");
    group.close().expect("closed");
    writer.close().expect("closed");
    let pg = server.table("reknit", "lists");
    place.run_args(&["check", "parquet:lists.parquet", &pg]).ok().says(&["in sync: 4 records"]);
    server.sql("UPDATE lists SET tags = '{a,\"\",NULL}' WHERE id = 1; UPDATE lists SET n = '{}' WHERE id = 2");
    assert_eq!(differences(&place, "parquet:lists.parquet", &pg).len(), 2);
}

/// A place with a table of two columns in SQLite.
fn small() -> Place {
    let place = Place::new();
    let lite = rusqlite::Connection::open(place.path("b.db")).expect("a database");
    lite.execute_batch("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'one'), (2, NULL)")
        .expect("a table");
    place
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let place = small();
    for (name, content, words) in [
        (
            "csv:ragged.csv",
            b"k,v\n1,one\n2\n".as_slice(),
            ["line 3: 1 fields where the header has 2", "nothing was changed"],
        ),
        ("csv:open.csv", b"k,v\n1,\"one\n", ["line 2", "ends inside a quoted field"]),
        ("csv:empty.csv", b"", ["the file is empty", "names its columns"]),
        ("csv:latin.csv", b"k,v\n1,Z\xfcrich\n", ["line 2", "column `v` is not UTF-8"]),
        ("csv:twice.csv", b"k,v,v\n1,2,3\n", ["line 1", "names the column `v` twice"]),
        (
            "csv:torn.csv.zst",
            &zstd::encode_all(b"k,v\n1,one\n".as_slice(), 1).expect("zstd")[..12],
            ["cannot be read", "torn"],
        ),
        ("jsonl:absent.jsonl", b"{\"k\":1,\"v\":\"one\"}\n{\"k\":2}\n", ["line 2", "write null for no value"]),
        (
            "jsonl:more.jsonl",
            b"{\"k\":1,\"v\":\"one\"}\n{\"k\":2,\"v\":null,\"w\":1}\n",
            ["line 2", "`w` is none of the first line"],
        ),
        ("jsonl:no.jsonl", b"{\"k\":1,\"v\":\"one\"}\n[1]\n", ["line 2", "malformed jsonl"]),
        ("jsonl:empty.jsonl", b"", ["the file is empty", "names the columns"]),
        ("parquet:magic.parquet", b"PAR0 and so on PAR0", ["no sound Parquet file", "magic"]),
        ("parquet:short.parquet", b"PAR1", ["no sound Parquet file", "nothing was changed"]),
    ] {
        place.file(name.split_once(':').expect("a scheme").1, content);
        place.run_args(&["check", name, "sqlite:b.db"]).fails("database").says(&words);
    }
    place.run("check csv:none.csv sqlite:b.db").fails("database.none").says(&["no file", "none.csv"]);
    place.run("check csv:. sqlite:b.db").fails("database").says(&["no regular file"]);
    place.file("fewer.csv", "k\n1\n");
    place.run("check csv:fewer.csv sqlite:b.db").exits(4).says(&["[database.shape]", "has no column v"]);
    place.file("again.csv", "k,v\n1,one\n2,\n01,two\n");
    place.run("check csv:again.csv sqlite:b.db").exits(4).says(&["[database.collapse]", "rows 1 and 3 of the file"]);
    place.run("init store").ok();
    place.run("check csv:again.csv store").exits(4).says(&["[database.pair]"]);
}

#[test]
fn a_file_is_never_written() {
    let place = small();
    place.file("a.csv", "k,v\n1,one\n2,\n3,three\n");
    let before = place.read("a.csv");
    for (line, words) in [
        ("repair csv:a.csv sqlite:b.db --to a", "a is a file"),
        ("repair sqlite:b.db csv:a.csv --to b --apply", "b is a file"),
        ("repair csv:a.csv sqlite:b.db --to both --apply", "only --to b is possible"),
    ] {
        place.run(line).exits(4).says(&["[database.read-only]", words]);
    }
    assert!(!place.path("home/index").exists(), "nothing was read before that was known");
    place
        .run("index build csv:a.csv --with sqlite:b.db --feed triggers")
        .fails("database")
        .says(&["a file has no feed"]);
    place.run("index build csv:a.csv").exits(4).says(&["[database.shape]", "--key COLUMN"]);
    place.run("index build csv:a.csv --with sqlite:b.db").ok().says(&["3 rows indexed"]);
    place.run("index status csv:a.csv").ok().says(&["3 rows", "without a feed"]);
    place.run("index verify csv:a.csv").ok().says(&["sound: 3 rows"]);
    place.run("repair csv:a.csv sqlite:b.db --to b --apply").ok().says(&["wrote 0 records to a and 1 to b"]);
    place.run("explain csv:a.csv").ok().says(&["v spelled", "read whole by each command"]);
    place.run("index drop csv:a.csv").ok().says(&["removed 1 indexes"]);
    assert_eq!(place.read("a.csv"), before);
}

/// Untyped sides are compared by what they spell.
#[test]
fn files_without_types_are_compared_as_text() {
    let place = Place::new();
    let lite = rusqlite::Connection::open(place.path("b.db")).expect("a database");
    lite.execute_batch(
        "CREATE TABLE t (k PRIMARY KEY NOT NULL, v); INSERT INTO t VALUES (1, 1.5), ('x', NULL), (3, '')",
    )
    .expect("a table");
    place.file("a.csv", "v,k\n1.5,1\n,x\n\"\",3\n");
    place.run("check csv:a.csv sqlite:b.db").ok();
    place.file("a.jsonl", "{\"k\":1,\"v\":1.5}\n{\"k\":\"x\",\"v\":null}\n{\"v\":\"\",\"k\":3}\n");
    place.run("check jsonl:a.jsonl sqlite:b.db").exits(1);
    lite.execute_batch("UPDATE t SET v = '1.5' WHERE k = 1").expect("a change");
    place.run("check csv:a.csv sqlite:b.db").ok();
}

/// Release A in PostgreSQL against release B in every other store: the numbers are those of the data's README.
#[test]
fn the_small_geonames_pair_differs_alike_in_every_store() {
    differs_alike_in_every_store("cities15000", ["1.6.0", "2.0.0"], SMALL);
}

#[test]
fn the_large_geonames_pair_differs_alike_in_every_store() {
    differs_alike_in_every_store("cities5000", ["2.0.0", "3.0.0"], LARGE);
}

fn differs_alike_in_every_store(cities: &str, [of_a, of_b]: [&str; 2], [_, in_b, only_a, only_b, content]: Known) {
    let (server, place) = (Server::start(), Place::new());
    let data = |release: &str| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("data/geonames/{cities}-{release}.csv.zst"))
    };
    let plain = |release: &str| zstd::decode_all(std::fs::File::open(data(release)).expect("the data")).expect("zstd");
    let columns = "geonameid bigint PRIMARY KEY, name text, latitude double precision, longitude double precision, countrycode text,
        population bigint, timezone text, admin1code text";
    server.sql(&format!("CREATE TABLE cities ({columns})"));
    let mut client = server.client();
    let mut copy = client.copy_in("COPY cities FROM STDIN (FORMAT csv, HEADER)").expect("a copy");
    std::io::Write::write_all(&mut copy, &plain(of_a)).expect("rows");
    copy.finish().expect("copied");
    let pg = server.table("reknit", "cities");

    let b = plain(of_b);
    let rows = reknit::format::Rows::csv("b", Box::new(BufReader::new(std::io::Cursor::new(b.clone())))).expect("rows");
    let rows: Vec<Vec<Option<String>>> = rows
        .map(|row| {
            let text = |value: Value| if let Value::Text(text) = value { Some(text) } else { None };
            row.expect("a row").into_iter().map(text).collect()
        })
        .collect();
    place.file("b.csv", &b);
    let mut lite = rusqlite::Connection::open(place.path("b.db")).expect("a database");
    let load = lite.transaction().expect("a transaction");
    load.execute_batch(&format!("CREATE TABLE cities ({})", columns.replace("bigint", "INTEGER"))).expect("a table");
    for row in &rows {
        load.execute("INSERT INTO cities VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rusqlite::params_from_iter(row))
            .expect("a row");
    }
    load.commit().expect("committed");
    let schema = "message cities { required int64 geonameid; optional binary name (STRING); optional double latitude;
        optional double longitude; optional binary countrycode (STRING); optional int64 population;
        optional binary timezone (STRING); optional binary admin1code (STRING); }";
    let file = std::fs::File::create(place.path("b.parquet")).expect("a file");
    let properties = WriterProperties::builder().set_compression(Compression::LZ4_RAW).build();
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    for at in 0..8 {
        let cells = rows.iter().map(|row| row[at].as_ref());
        match at {
            0 | 5 => {
                column::<Int64Type>(&mut group, cells.map(|cell| cell.map(|cell| cell.parse().expect("a number"))))
            }
            2 | 3 => {
                column::<DoubleType>(&mut group, cells.map(|cell| cell.map(|cell| cell.parse().expect("a number"))))
            }
            _ => column::<ByteArrayType>(&mut group, cells.map(|cell| cell.map(|cell| ByteArray::from(cell.as_str())))),
        }
    }
    group.close().expect("closed");
    writer.close().expect("closed");

    let known = differences(&place, &pg, "sqlite:b.db");
    assert_eq!(known.len() as u64, only_a + only_b + content);
    let zipped = format!("csv:{}", data(of_b).display());
    for other in ["csv:b.csv", "parquet:b.parquet", &zipped] {
        assert_eq!(differences(&place, &pg, other), known, "{other}");
        place.run_args(&["check", other, "sqlite:b.db"]).ok().says(&[&format!(
            "in sync: {},{:03} records",
            in_b / 1000,
            in_b % 1000
        )]);
    }
    let summary = place.json(&format!("diff {pg} parquet:b.parquet --settle 0ms --limit 0")).exits(1).summary();
    let counts = &summary["counts"];
    assert_eq!(
        [&counts["only_a"], &counts["only_b"], &counts["content"]],
        [&json!(only_a), &json!(only_b), &json!(content)]
    );
}

#[test]
fn files_in_a_bucket_are_read_as_those_that_are_here() {
    let bucket = Bucket::start();
    let (server, mut place) = (Server::start(), Place::new());
    fill(&server, "t");
    fill(&server, "later");
    drift(&server, "later");
    let pg = server.table("reknit", "t");
    let known = differences(&place, &pg, &server.table("reknit", "later"));
    for table in ["t", "later"] {
        for file in exported(&place, &server, table) {
            let name = file.split_once(':').expect("a scheme").1;
            bucket.put(&format!("exports/{name}"), &std::fs::read(place.path(name)).expect("a file"));
        }
    }
    place.vars = bucket.vars(bucket.at());
    let at = |name: &str| format!("s3://{BUCKET}/exports/{name}");
    for ending in ["csv", "csv.zst", "jsonl", "parquet"] {
        place.run_args(&["check", &at(&format!("t.{ending}")), &pg]).ok().says(&["in sync: 3,000 records"]);
        assert_eq!(differences(&place, &pg, &at(&format!("later.{ending}"))), known, "{ending}");
    }
    place.run_args(&["repair", &pg, &at("t.csv"), "--to", "b"]).exits(4).says(&["[database.read-only]"]);
    place.run_args(&["check", &at("none.csv"), &pg]).fails("database").says(&["there is no object exports/none.csv"]);
    place.run_args(&["check", &at("t.xml"), &pg]).fails("database").says(&["Its name ends in neither"]);
    place.run_args(&["check", "s3://tables", &pg]).fails("database");
    let vars = std::mem::take(&mut place.vars);
    let with = |name: &'static str, value: &str| {
        let others = vars.iter().filter(|(known, _)| *known != name).cloned();
        others.chain([(name, value.to_string())]).collect::<Vec<_>>()
    };
    place.vars = with("AWS_SECRET_ACCESS_KEY", "another");
    let refused = place.run_args(&["check", &at("t.csv"), &pg]).fails("database").says(&["may not read it"]);
    assert!(!refused.err.contains("another"), "{refused:?}");
    place.vars = with("AWS_ALLOW_HTTP", "false");
    place.run_args(&["check", &at("t.csv"), &pg]).fails("database").says(&["set AWS_ALLOW_HTTP=true"]);
}

/// Whichever request another version comes before, none is taken for the other.
#[test]
fn an_object_of_a_bucket_that_becomes_another_while_it_is_read_is_an_error() {
    let bucket = Arc::new(Bucket::start());
    let mut place = small();
    let rows = |text: &str| -> String { (0..20_000).map(|i| format!("{i},{}\n", text.repeat(300))).collect() };
    let (one, other) = (format!("k,v\n{}", rows("one")), format!("k,v\n{}", rows("two")));
    assert!(
        one.len() > 17 << 20 && one.len() == other.len(),
        "more than is read at once, and no length tells them apart"
    );
    // It is opened, its first line is read; its size is asked for, to tell what reading it will cost; it is opened again, its
    // bytes are read in three parts; then it is looked at again, twice.
    for request in 2..=9 {
        bucket.put("t.csv", one.as_bytes());
        // The relay stays as long as the process; the server must not.
        let (there, other) = (Arc::downgrade(&bucket), other.clone());
        let relay = bucket.relayed(request, move || there.upgrade().expect("there").put("t.csv", other.as_bytes()));
        place.vars = bucket.vars(relay);
        let ran = place.run_args(&["diff", "s3://tables/t.csv", "sqlite:b.db", "--limit", "1"]);
        let whole = [3, 4].contains(&request) && ran.exit == Some(1);
        assert!(whole || ran.exit == Some(2) && ran.err.contains("changed"), "before request {request}: {ran:?}");
    }
}
