//! Tables of SQLite databases, read and written beside whoever else uses them.

mod feed;
mod foreign;
mod script;
mod transaction;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reknit_core::row::{Float, Kind, Value, decode_key, encode_key};
use rusqlite::types::{Value as Stored, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, ToSql};

use self::feed::Triggers;
use self::foreign::{Foreign, Touched, deferred, parents, referring};
use self::script::Statements;
use self::transaction::Work;
use super::pace::Held;
use super::reading::in_rows;
use super::references::Along;
use super::{
    Access, Cautions, Column, Columns, Cost, Feed, FeedKind, Kin, Load, Pace, Page, Pages, Purpose, Reference, Remains,
    Rows, Script, Shape, Standing, Table, Transaction,
};
use crate::store::StoreError;

/// Rows that are read at once.
const PAGE_ROWS: usize = 4_096;
/// Where a database file counts its changes, big-endian; in WAL mode some of them only.
const CHANGES_AT: usize = 24;
/// How long a writer is waited for by whoever reads, and by whoever has written and is to commit.
const BUSY: Duration = Duration::from_secs(5);

/// A table of a SQLite database.
pub struct Sqlite {
    file: PathBuf,
    name: String,
    place: String,
    columns: Columns,
    /// The columns by whose order pages follow one another: the row's number, or the key of a table that has none.
    order: Vec<String>,
    references: Vec<Reference>,
    along: Vec<Along>,
    deferred: Vec<Foreign>,
}

impl Sqlite {
    /// Opens a table, or the only one there is. The file must be there; it is opened for reading only.
    ///
    /// # Errors
    /// [`StoreError::Database`] says what is wrong with the file, the table or its key, and what to do.
    pub fn open(file: &Path, table: Option<&str>) -> Result<Sqlite, StoreError> {
        let place = |name: &str| format!("sqlite:{}/{name}", file.display());
        let wrong = |message: String| StoreError::database(&place(table.unwrap_or_default()), message);
        let met = |error: rusqlite::Error| wrong(error.to_string());
        let connection = connect(file, Access::Read).map_err(met)?;
        let names = names(&connection).map_err(met)?;
        let have = if names.is_empty() { "it has none".into() } else { format!("it has {}", names.join(", ")) };
        let name = match (table, names.as_slice()) {
            (Some(name), _) if names.iter().any(|known| known == name) => name.to_string(),
            (Some(name), _) => return Err(wrong(format!("there is no table {name}; {have}"))),
            (None, [one]) => one.clone(),
            (None, _) => return Err(wrong(format!("say which table: sqlite:{}/TABLE; {have}", file.display()))),
        };
        let columns = read_columns(&connection, &name).map_err(met)?;
        if columns.key.is_empty() {
            let message = "the table has no primary key and no unique index over columns that are NOT NULL, so its rows \
                           cannot be told apart; make one";
            return Err(StoreError::database(&place(&name), message));
        }
        let order = number(&connection, &name, &columns).map_or_else(|| columns.key.clone(), |name| vec![name.into()]);
        let deferred = deferred(&connection, &name).map_err(met)?;
        let (references, along) = referring(&connection, &name, &columns).map_err(met)?;
        Ok(Sqlite { file: file.to_path_buf(), place: place(&name), name, columns, order, references, along, deferred })
    }

    /// The tables of a file; it is opened for reading only.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn tables(file: &Path) -> Result<Vec<String>, StoreError> {
        let all = || names(&connect(file, Access::Read)?);
        all().map_err(|error| StoreError::database(&format!("sqlite:{}", file.display()), error.to_string()))
    }

    /// The values of the shape's columns, then where the row is.
    fn select(&self, shape: &Shape) -> String {
        let columns = list(&mut shape.sources().iter());
        format!("SELECT {columns}, {} FROM {}", list(&mut self.order.iter()), quoted(&self.name))
    }

    fn pages<'a>(
        &self,
        shape: &Shape,
        pace: Option<&'a Arc<Pace>>,
        after: Option<&[u8]>,
    ) -> Result<Scan<'a>, StoreError> {
        let sliced = after.is_some() || pace.is_some_and(|pace| pace.slice().is_some());
        if let Some(pace) = pace.filter(|_| sliced) {
            pace.wait(&mut || Ok(Load::default()))?;
        }
        let connection = connect(&self.file, Access::Read).map_err(|error| self.met(&error))?;
        // All pages of a slice from one snapshot; in WAL mode no writer waits for it.
        connection.execute_batch("BEGIN").map_err(|error| self.met(&error))?;
        // Of slices each row is in one only if it cannot come again under another number.
        let names = if sliced { &self.columns.key } else { &self.order };
        let (columns, order) = (list(&mut shape.sources().iter()), list(&mut names.iter()));
        let select = format!("SELECT {columns}, {order} FROM {}", quoted(&self.name));
        let marks = vec!["?"; names.len()].join(", ");
        let condition = shape.condition();
        let wrong = || StoreError::damaged("where a scan was to go on is no key".to_string());
        let pages = Scan {
            first: format!("{select} WHERE {condition} ORDER BY {order} LIMIT {PAGE_ROWS}"),
            next: format!("{select} WHERE ({order}) > ({marks}) AND {condition} ORDER BY {order} LIMIT {PAGE_ROWS}"),
            columns: shape.columns().len(),
            connection,
            began: Instant::now(),
            held: Held::new(pace.and_then(|pace| pace.rate), Instant::now()),
            pace,
            place: self.place.clone(),
            after: after.map(|after| stored_key(after).ok_or_else(wrong)).transpose()?,
            sliced,
            done: false,
        };
        Ok(pages)
    }

    /// That no other row refers to a row `t` that is to go, where that would take it along: the end of a condition.
    fn unless_referred(&self) -> String {
        let equal = |columns: &[String], referred: &[String]| {
            // What is equal is told by the side that is referred to.
            let pairs = columns.iter().zip(referred).map(|(from, to)| format!("t.{} = o.{}", quoted(to), quoted(from)));
            pairs.collect::<Vec<_>>().join(" AND ")
        };
        let place =
            |of: &str| self.order.iter().map(|name| format!("{of}.{}", quoted(name))).collect::<Vec<_>>().join(", ");
        let own = self.references.iter().filter(|of| of.cascades).map(|of| {
            let (table, equal) = (quoted(&self.name), equal(&of.columns, &of.referred));
            format!("{table} AS o WHERE {equal} AND ({}) IS NOT ({})", place("o"), place("t"))
        });
        let others = self.along.iter().map(|of| {
            let equal = equal(&of.columns, &of.referred);
            format!("{} AS o WHERE {equal}", quoted(&of.table))
        });
        own.chain(others).map(|rows| format!(" AND NOT EXISTS (SELECT 1 FROM {rows})")).collect()
    }

    fn no_slot(&self) -> StoreError {
        StoreError::database(&self.place, "SQLite keeps no log that a slot could read; --feed triggers can follow it")
    }

    fn met(&self, error: &rusqlite::Error) -> StoreError {
        StoreError::database(&self.place, error.to_string())
    }
}

impl Table for Sqlite {
    fn place(&self) -> &str {
        &self.place
    }

    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn scan(&self, shape: &Shape) -> Result<Rows<'_>, StoreError> {
        Ok(in_rows(Box::new(self.pages(shape, None, None)?)))
    }

    fn scan_paced<'a>(
        &'a self,
        shape: &Shape,
        pace: &'a Arc<Pace>,
        after: Option<&[u8]>,
    ) -> Result<(Pages<'a>, bool), StoreError> {
        let pages = self.pages(shape, Some(pace), after)?;
        let by_slices = pages.sliced;
        Ok((Box::new(pages), by_slices))
    }

    fn stores_keys_one_way(&self, shape: &Shape) -> bool {
        shape.key_places().iter().all(|place| {
            let kind = &shape.columns()[*place].1;
            let declared = self.columns.column(shape.source(*place)).map(|column| column.kind);
            declared == Some(*kind) && matches!(kind, Kind::Int | Kind::Text | Kind::Bytes | Kind::Any)
        })
    }

    fn begin(&self, access: Access, wait: Duration) -> Result<Box<dyn Transaction + '_>, StoreError> {
        let begun = || {
            let connection = connect(&self.file, access)?;
            match access {
                Access::Read => connection.execute_batch("BEGIN")?,
                Access::Write => {
                    connection.busy_timeout(wait)?;
                    connection.execute_batch("PRAGMA foreign_keys = ON; BEGIN IMMEDIATE")?;
                    // Whoever reads is waited for at the end all the same.
                    connection.busy_timeout(BUSY)?;
                }
            }
            Ok(connection)
        };
        let connection = begun().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) if access == Access::Write => {
                StoreError::Busy { place: self.place.clone(), message: error.to_string() }
            }
            _ => self.met(&error),
        })?;
        Ok(Box::new(Work { table: self, connection, touched: Touched::default() }))
    }

    fn references(&self) -> Result<Vec<Reference>, StoreError> {
        Ok(self.references.clone())
    }

    fn kin(&self) -> Result<Kin, StoreError> {
        let read = || parents(&connect(&self.file, Access::Read)?, &self.name);
        Ok(Kin { name: self.name.clone(), parents: read().map_err(|error| self.met(&error))? })
    }

    fn script(&self, wait: Duration) -> Result<Box<dyn Script + '_>, StoreError> {
        Ok(Box::new(Statements { table: self, wait }))
    }

    fn cautions(&self) -> Result<Cautions, StoreError> {
        let read = || {
            let connection = connect(&self.file, Access::Read)?;
            let names = |sql: &str| -> Result<Vec<String>, rusqlite::Error> {
                let mut statement = connection.prepare(sql)?;
                statement.query_map([&self.name], |row| row.get(0))?.collect()
            };
            let mut follows = connection.prepare(
                "SELECT DISTINCT f.\"to\", s.name FROM sqlite_schema s JOIN pragma_foreign_key_list(s.name) f \
                 WHERE s.type = 'table' AND f.\"table\" = ? COLLATE NOCASE AND f.\"to\" IS NOT NULL \
                 AND f.on_update IN ('CASCADE', 'SET NULL', 'SET DEFAULT') ORDER BY 1, 2",
            )?;
            let follows = follows.query_map([&self.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(Cautions {
                follows: follows.collect::<Result<_, _>>()?,
                kept: None,
                triggers: names(
                    "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE \
                     AND name NOT LIKE 'reknit\\_%' ESCAPE '\\'",
                )?,
                cascades: names(
                    "SELECT DISTINCT s.name FROM sqlite_schema s JOIN pragma_foreign_key_list(s.name) f \
                     WHERE s.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE AND s.name <> ?1 COLLATE NOCASE \
                     AND f.on_delete IN ('CASCADE', 'SET NULL', 'SET DEFAULT') ORDER BY 1",
                )?,
            })
        };
        read().map_err(|error| self.met(&error))
    }

    fn standing(&self) -> Result<Standing, StoreError> {
        let told = |error: std::io::Error| StoreError::database(&self.place, error.to_string());
        let mut head = [0; CHANGES_AT + 4];
        let mut file = std::fs::File::open(&self.file).map_err(told)?;
        std::io::Read::read_exact(&mut file, &mut head).map_err(told)?;
        let at = head[CHANGES_AT..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Ok(Standing { identity: identity(&file.metadata().map_err(told)?), at })
    }

    fn cost(&self, shape: &Shape) -> Result<Cost, StoreError> {
        let read = || {
            let connection = connect(&self.file, Access::Read)?;
            // Only where ANALYZE has been run.
            if !connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'")?.exists([])? {
                return Ok(None);
            }
            let counted = "SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = ? COLLATE NOCASE";
            connection.query_row(counted, [&self.name], |row| row.get::<_, Option<i64>>(0))
        };
        let rows: Option<i64> = read().map_err(|error| self.met(&error))?;
        // Which of them are this table's is not told without reading.
        let bytes = std::fs::metadata(&self.file).ok().map(|file| file.len());
        Ok(Cost { sql: self.select(shape), rows: rows.map(i64::unsigned_abs), bytes })
    }

    fn lacking(&self, purpose: Purpose) -> Result<Vec<String>, StoreError> {
        if purpose == Purpose::Slot {
            return Err(self.no_slot());
        }
        // Whoever may write the file may do all.
        let file = std::fs::OpenOptions::new().write(true).open(&self.file);
        match (purpose, file) {
            (Purpose::Compare, _) | (_, Ok(_)) => Ok(Vec::new()),
            (_, Err(error)) => {
                let message = format!(
                    "{} cannot be written ({error}); SQLite knows no rights but those of the file",
                    self.file.display()
                );
                Err(StoreError::database(&self.place, message))
            }
        }
    }

    fn feed(&self, kind: FeedKind, shape: &Shape, index: &str) -> Result<Box<dyn Feed + '_>, StoreError> {
        match kind {
            FeedKind::Triggers => Ok(Box::new(Triggers::new(self, shape, index)?)),
            FeedKind::Slot => Err(self.no_slot()),
        }
    }

    fn remains(&self) -> Result<Vec<Remains>, StoreError> {
        let read = || feed::remains(&connect(&self.file, Access::Read)?, &self.name);
        read().map_err(|error| self.met(&error))
    }

    fn run(&self, statements: &[String]) -> Result<(), StoreError> {
        let run = || {
            let mut connection = connect(&self.file, Access::Write)?;
            let transaction = connection.transaction()?;
            statements.iter().try_for_each(|statement| transaction.execute_batch(statement))?;
            transaction.commit()
        };
        run().map_err(|error| self.met(&error))
    }
}

/// A file by its place on the disk, which another that was put there in its stead has not.
fn identity(file: &std::fs::Metadata) -> String {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        format!("{}/{}", file.dev(), file.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        String::new()
    }
}

/// Bytes of a value, about.
fn bytes_of(value: &Value) -> u64 {
    match value {
        Value::Text(text) => text.len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        _ => 8,
    }
}

/// A scan, page by page.
struct Scan<'a> {
    pace: Option<&'a Arc<Pace>>,
    place: String,
    held: Held,
    /// When the transaction began that it reads in.
    began: Instant,
    connection: Connection,
    first: String,
    next: String,
    columns: usize,
    /// Where the last page ended.
    after: Option<Vec<Stored>>,
    sliced: bool,
    done: bool,
}

impl Iterator for Scan<'_> {
    type Item = Result<Page, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let read = self.read().map_err(|error| StoreError::database(&self.place, error.to_string()));
        let read = read.and_then(|page| {
            self.done = page.len() < PAGE_ROWS;
            if !self.done {
                self.slice(page.iter().flatten().map(bytes_of).sum())?;
            }
            Ok(page)
        });
        self.done |= read.is_err();
        let upto = self.after.as_ref().filter(|_| self.sliced && !self.done).map(|after| key_bytes(after));
        Some(read.map(|page| Page { rows: Box::new(page.into_iter().map(Ok)), upto }))
    }
}

impl Scan<'_> {
    /// Between two pages: ends the transaction if it has lasted as long as a slice, waits if there is a reason, and begins
    /// another.
    fn slice(&mut self, bytes: u64) -> Result<(), StoreError> {
        let Some(pace) = self.pace else { return Ok(()) };
        let lasted = self.began.elapsed();
        let Some(slice) = pace.slice() else {
            return if lasted > pace.max_snapshot { Err(pace.too_long(&self.place)) } else { Ok(()) };
        };
        let rest = self.held.rest(PAGE_ROWS as u64, bytes, Instant::now());
        if lasted < slice.min(pace.max_snapshot) && rest.is_zero() {
            return Ok(());
        }
        let met = |error: rusqlite::Error| StoreError::database(&self.place, error.to_string());
        self.connection.execute_batch("COMMIT").map_err(met)?;
        pace.wait(&mut || Ok(Load::default()))?;
        std::thread::sleep(rest);
        self.connection.execute_batch("BEGIN").map_err(met)?;
        self.began = Instant::now();
        Ok(())
    }

    fn read(&mut self) -> Result<Vec<Vec<Value>>, rusqlite::Error> {
        let after = self.after.take();
        let mut statement = self.connection.prepare_cached(if after.is_some() { &self.next } else { &self.first })?;
        let bound: Vec<&dyn ToSql> = after.iter().flatten().map(|value| value as &dyn ToSql).collect();
        let mut rows = statement.query(bound.as_slice())?;
        let (mut page, mut last) = (Vec::new(), None);
        while let Some(row) = rows.next()? {
            page.push((0..self.columns).map(|place| value(row, place)).collect::<Result<_, _>>()?);
            if page.len() == PAGE_ROWS {
                let width = row.as_ref().column_count();
                last = Some((self.columns..width).map(|place| row.get(place)).collect::<Result<_, _>>()?);
            }
        }
        self.after = last;
        Ok(page)
    }
}

/// The values of a key as SQLite stores them, in one piece, and back.
fn key_bytes(values: &[Stored]) -> Vec<u8> {
    let value = |value: &Stored| match value {
        Stored::Null => Value::Null,
        Stored::Integer(number) => Value::Int((*number).into()),
        Stored::Real(number) => Value::Float(Float::new(*number)),
        Stored::Text(text) => Value::Text(text.clone()),
        Stored::Blob(bytes) => Value::Bytes(bytes.clone()),
    };
    encode_key(&values.iter().map(value).collect::<Vec<_>>())
}

fn stored_key(bytes: &[u8]) -> Option<Vec<Stored>> {
    let stored = |value| match value {
        Value::Null => Some(Stored::Null),
        Value::Int(number) => i64::try_from(number).ok().map(Stored::Integer),
        Value::Float(number) => Some(Stored::Real(number.get())),
        Value::Text(text) => Some(Stored::Text(text)),
        Value::Bytes(bytes) => Some(Stored::Blob(bytes)),
        _ => None,
    };
    decode_key(bytes).ok()?.into_iter().map(stored).collect()
}

fn connect(file: &Path, access: Access) -> Result<Connection, rusqlite::Error> {
    let access = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let connection = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// The names of all tables but SQLite's own, and ours.
fn names(connection: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    let all = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE 'reknit\\_%' ESCAPE '\\' ORDER BY name";
    connection.prepare(all)?.query_map([], |row| row.get(0))?.collect()
}

/// Names in a list as SQL spells it.
fn list(names: &mut dyn Iterator<Item = &String>) -> String {
    names.map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// A name as SQL spells it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The name by which a row's number is read, if the table numbers its rows: one that is no column of its own.
fn number(connection: &Connection, table: &str, columns: &Columns) -> Option<&'static str> {
    let own = |name: &str| columns.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    let name = ["rowid", "_rowid_", "oid"].into_iter().find(|name| !own(name))?;
    connection.prepare(&format!("SELECT {name} FROM {} LIMIT 0", quoted(table))).is_ok().then_some(name)
}

/// The columns of a table, and its key: the primary one, or the first unique index whose columns are all NOT NULL.
fn read_columns(connection: &Connection, table: &str) -> Result<Columns, rusqlite::Error> {
    let mut statement = connection.prepare("SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?)")?;
    let (mut columns, mut primary, mut required) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let (name, declared): (String, String) = (row.get(0)?, row.get(1)?);
        let (not_null, place, hidden): (bool, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
        if place > 0 {
            primary.push((place, name.clone()));
        }
        // What is generated neither counts nor names a row.
        if hidden == 0 {
            if not_null {
                required.push(name.clone());
            }
            columns.push(Column { kind: kind(&declared), name, declared });
        }
    }
    primary.sort();
    let mut key: Vec<String> = primary.into_iter().map(|(_, name)| name).collect();
    if key.is_empty() {
        key = unique(connection, table, &required)?;
    }
    Ok(Columns { columns, key })
}

fn unique(connection: &Connection, table: &str, required: &[String]) -> Result<Vec<String>, rusqlite::Error> {
    let all = "SELECT name FROM pragma_index_list(?) WHERE \"unique\" = 1 AND partial = 0 ORDER BY name";
    let mut statement = connection.prepare(all)?;
    for index in statement.query_map([table], |row| row.get::<_, String>(0))? {
        let mut of = connection.prepare("SELECT name FROM pragma_index_info(?) ORDER BY seqno")?;
        let names = of.query_map([index?], |row| row.get::<_, Option<String>>(0))?;
        let names: Option<Vec<String>> = names.collect::<Result<_, _>>()?;
        if let Some(names) = names.filter(|names| names.iter().all(|name| required.contains(name))) {
            return Ok(names);
        }
    }
    Ok(Vec::new())
}

/// What a declared type means. SQLite lets any value into any column: what does not fit stays as it is and differs.
fn kind(declared: &str) -> Kind {
    let declared = declared.to_ascii_uppercase();
    let has = |part: &str| declared.contains(part);
    match () {
        () if declared.is_empty() || declared == "ANY" => Kind::Any,
        () if has("BOOL") => Kind::Bool,
        () if has("TIMESTAMPTZ") || has("WITH TIME ZONE") => Kind::Timestamp,
        () if has("DATETIME") || has("TIMESTAMP") => Kind::DateTime,
        () if has("DATE") => Kind::Date,
        () if has("INTERVAL") => Kind::Any,
        () if has("TIME") => Kind::Time,
        () if has("UUID") || has("GUID") => Kind::Uuid,
        () if has("JSON") => Kind::Json,
        () if has("INT") => Kind::Int,
        () if has("CHAR") || has("CLOB") || has("TEXT") => Kind::Text,
        () if has("BLOB") || has("BINARY") => Kind::Bytes,
        () if has("REAL") || has("FLOA") || has("DOUB") => Kind::Float,
        () if has("DEC") || has("NUMERIC") => Kind::Decimal,
        () => Kind::Any,
    }
}

fn value(row: &Row<'_>, place: usize) -> Result<Value, rusqlite::Error> {
    Ok(match row.get_ref(place)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number.into()),
        ValueRef::Real(number) => Value::Float(Float::new(number)),
        // A text that is no Unicode is bytes, and differs from every text.
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.into()),
            Err(_) => Value::Bytes(text.to_vec()),
        },
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    })
}
