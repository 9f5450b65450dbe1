//! The adapters of tables keep their contract, against a real server and real files; one that does not is noticed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use reknit::store::linked::{
    Access, Cautions, Columns, Cost, Feed, FeedKind, FileFormat, Postgres, PostgresAddress, Remains, Rows, Script,
    Shape, Sqlite, Standing, Table, TableFile, TableStore, Transaction,
};
use reknit::store::{Options, Store, StoreError};
use reknit::testing::{Can, TableRow, table_contract};

use crate::files::column;
use crate::harness::Place;
use crate::server::Server;

const WRITES: Can = Can { empty: true, writes: true, feeds: Vec::new() };

fn postgres(server: &Server, name: &str, create: &str, rows: &[TableRow]) -> Box<dyn Table> {
    let mut client = server.client();
    client.batch_execute(create).expect("a table");
    let insert = client.prepare(&format!("INSERT INTO {name} (id, name, note) VALUES ($1, $2, $3)")).expect("prepared");
    let mut all = client.transaction().expect("a transaction");
    for (id, name, note) in rows {
        all.execute(&insert, &[id, name, note]).expect("a row");
    }
    all.commit().expect("committed");
    let address = PostgresAddress::parse(&server.table("reknit", name)).expect("an address");
    Box::new(Postgres::open(address).expect("a table"))
}

#[test]
fn postgresql_keeps_the_contract_of_tables() {
    let server = Server::with_slots();
    let mut made = 0;
    let feeds = vec![FeedKind::Triggers, FeedKind::Slot];
    let mut plain = |rows: &[TableRow]| {
        made += 1;
        let name = format!("t{made}");
        let columns = "(note text, id bigint PRIMARY KEY, name text NOT NULL)";
        postgres(&server, &name, &format!("CREATE TABLE {name} {columns}"), rows)
    };
    table_contract(&mut plain, &Can { feeds: feeds.clone(), ..WRITES });
    let mut made = 0;
    let mut parted = |rows: &[TableRow]| {
        made += 1;
        let name = format!("p{made}");
        let create = format!(
            "CREATE TABLE {name} (id bigint PRIMARY KEY, name text NOT NULL, note text) PARTITION BY RANGE (id); \
             CREATE TABLE {name}_low PARTITION OF {name} FOR VALUES FROM (MINVALUE) TO (3); \
             CREATE TABLE {name}_high PARTITION OF {name} DEFAULT"
        );
        postgres(&server, &name, &create, rows)
    };
    table_contract(&mut parted, &Can { feeds, ..WRITES });
}

fn sqlite(place: &Place, file: &str, setup: &str, rows: &[TableRow]) -> Sqlite {
    let path = place.path(file);
    let mut connection = rusqlite::Connection::open(&path).expect("a database");
    connection.execute_batch(setup).expect("statements");
    let all = connection.transaction().expect("a transaction");
    for (id, name, note) in rows {
        all.execute("INSERT INTO t (id, name, note) VALUES (?, ?, ?)", (id, name, note)).expect("a row");
    }
    all.commit().expect("committed");
    Sqlite::open(&path, Some("t")).expect("a table")
}

const NUMBERED: &str = "CREATE TABLE t (note TEXT, id INTEGER PRIMARY KEY, name TEXT NOT NULL)";

#[test]
fn sqlite_keeps_the_contract_of_tables() {
    for setup in [
        NUMBERED,
        "PRAGMA journal_mode = WAL; CREATE TABLE t (id INT PRIMARY KEY NOT NULL, name TEXT NOT NULL, note TEXT)",
        "CREATE TABLE t (id INT PRIMARY KEY, name TEXT NOT NULL, note TEXT) WITHOUT ROWID",
    ] {
        let (place, mut made) = (Place::new(), 0);
        let mut make = |rows: &[TableRow]| -> Box<dyn Table> {
            made += 1;
            Box::new(sqlite(&place, &format!("{made}.db"), setup, rows))
        };
        table_contract(&mut make, &Can { feeds: vec![FeedKind::Triggers], ..WRITES });
    }
}

#[test]
fn files_keep_the_part_of_the_contract_that_is_about_reading() {
    for format in [FileFormat::Csv, FileFormat::Jsonl, FileFormat::Parquet] {
        let (place, mut made) = (Place::new(), 0);
        let mut make = |rows: &[TableRow]| -> Box<dyn Table> {
            made += 1;
            let path = place.path(&format!("{made}"));
            match format {
                FileFormat::Csv => std::fs::write(&path, csv(rows)).expect("written"),
                FileFormat::Jsonl => std::fs::write(&path, jsonl(rows)).expect("written"),
                FileFormat::Parquet => parquet(rows, &path),
            }
            Box::new(TableFile::open(format, &path).expect("a file"))
        };
        // Without a line JSON Lines name no columns.
        table_contract(&mut make, &Can { empty: format != FileFormat::Jsonl, ..Can::default() });
    }
}

#[test]
fn stores_of_rows_keep_the_part_of_the_contract_that_is_about_reading() {
    let (place, mut made) = (Place::new(), 0);
    let mut make = |rows: &[TableRow]| -> Box<dyn Table> {
        made += 1;
        place.file("rows.csv", csv(rows));
        place.run(&format!("init {made}")).ok();
        place.run(&format!("import {made} rows.csv --key id")).ok();
        let store = Store::open(&place.path(&made.to_string()), &Options::default()).expect("a store");
        Box::new(TableStore::open(store, None, format!("store:{made}")).expect("rows"))
    };
    table_contract(&mut make, &Can { empty: true, ..Can::default() });
}

fn csv(rows: &[TableRow]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let line =
        |(id, name, note): &TableRow| format!("{id},{},{}\n", quoted(name), note.map(quoted).unwrap_or_default());
    std::iter::once("id,name,note\n".to_string()).chain(rows.iter().map(line)).collect()
}

fn jsonl(rows: &[TableRow]) -> String {
    let line = |(id, name, note): &TableRow| serde_json::json!({ "id": id, "name": name, "note": note }).to_string();
    rows.iter().map(|row| line(row) + "\n").collect()
}

fn parquet(rows: &[TableRow], path: &std::path::Path) {
    let schema = "message t { optional int64 id; optional binary name (UTF8); optional binary note (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let file = std::fs::File::create(path).expect("a file");
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, schema, properties).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    column::<Int64Type>(&mut group, rows.iter().map(|row| Some(row.0)));
    column::<ByteArrayType>(&mut group, rows.iter().map(|row| Some(ByteArray::from(row.1))));
    column::<ByteArrayType>(&mut group, rows.iter().map(|row| row.2.map(ByteArray::from)));
    group.close().expect("closed");
    writer.close().expect("closed");
}

/// What an adapter gets wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// A scan leaves a row out.
    Misses,
    /// A scan gives a row twice.
    Repeats,
    /// It is another table each time that somebody asks.
    Moves,
    /// It writes what it says it only reads.
    Writes,
}

struct Faulty(Sqlite, Fault, std::sync::atomic::AtomicU64);

impl Table for Faulty {
    fn place(&self) -> &str {
        self.0.place()
    }

    fn columns(&self) -> &Columns {
        self.0.columns()
    }

    fn scan(&self, shape: &Shape) -> Result<Rows<'_>, StoreError> {
        let rows = self.0.scan(shape)?;
        Ok(match self.1 {
            Fault::Misses => Box::new(rows.skip(1)),
            Fault::Repeats => Box::new(rows.chain(self.0.scan(shape)?.take(1))),
            _ => rows,
        })
    }

    fn stores_keys_one_way(&self, shape: &Shape) -> bool {
        self.0.stores_keys_one_way(shape)
    }

    fn begin(&self, access: Access, wait: Duration) -> Result<Box<dyn Transaction + '_>, StoreError> {
        self.0.begin(access, wait)
    }

    fn cautions(&self) -> Result<Cautions, StoreError> {
        self.0.cautions()
    }

    fn script(&self, wait: Duration) -> Result<Box<dyn Script + '_>, StoreError> {
        self.0.script(wait)
    }

    fn standing(&self) -> Result<Standing, StoreError> {
        let standing = self.0.standing()?;
        let nth = self.2.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let identity = if self.1 == Fault::Moves { nth.to_string() } else { standing.identity };
        Ok(Standing { identity, ..standing })
    }

    fn cost(&self, shape: &Shape) -> Result<Cost, StoreError> {
        self.0.cost(shape)
    }

    fn feed(&self, kind: FeedKind, shape: &Shape, index: &str) -> Result<Box<dyn Feed + '_>, StoreError> {
        self.0.feed(kind, shape, index)
    }

    fn remains(&self) -> Result<Vec<Remains>, StoreError> {
        self.0.remains()
    }

    fn run(&self, statements: &[String]) -> Result<(), StoreError> {
        self.0.run(statements)
    }
}

#[test]
fn an_adapter_that_breaks_the_contract_is_noticed() {
    for (fault, told) in [
        (Fault::Misses, "all rows, and what they mean"),
        (Fault::Repeats, "comes once"),
        (Fault::Moves, "it is the same table"),
        (Fault::Writes, "it is not written"),
    ] {
        let (place, mut made) = (Place::new(), 0);
        let mut make = |rows: &[TableRow]| -> Box<dyn Table> {
            made += 1;
            let table = sqlite(&place, &format!("{made}.db"), NUMBERED, rows);
            Box::new(Faulty(table, fault, std::sync::atomic::AtomicU64::new(0)))
        };
        let can = if fault == Fault::Writes { Can::default() } else { WRITES };
        let broken = catch_unwind(AssertUnwindSafe(|| table_contract(&mut make, &can))).expect_err("it is noticed");
        let words = broken.downcast_ref::<String>().map(String::as_str).or(broken.downcast_ref::<&str>().copied());
        assert!(words.is_some_and(|words| words.contains(told)), "{fault:?}: {words:?}");
    }
}
