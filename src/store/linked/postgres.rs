//! Tables of PostgreSQL databases: all rows by one binary COPY from one snapshot, nothing written.

mod decode;

use std::str::FromStr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use postgres::binary_copy::BinaryCopyOutIter;
use postgres::config::Host;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::Type;
use postgres::{Client, Config, NoTls};
use reknit_core::row::{Kind, Value};

use self::decode::{Sent, kind};
use super::{Column, Columns, Rows, Table};
use crate::store::StoreError;

/// Rows that are handed on at once, and how often that may be ahead of who takes them.
const PAGE_ROWS: usize = 1_024;
const PAGES_AHEAD: usize = 4;
/// How long a server is waited for.
const CONNECT: Duration = Duration::from_secs(10);

/// A table of a PostgreSQL database.
pub struct Postgres {
    config: Config,
    /// Schema and name.
    table: (String, String),
    place: String,
    columns: Columns,
    /// The type of each column, in the table's order.
    types: Vec<Type>,
}

impl Postgres {
    /// Opens a table: `postgres://user@host[:port]/database/[schema.]table`. Without a schema, the one that comes first in the
    /// search path.
    ///
    /// # Errors
    /// [`StoreError::Database`] says what is wrong with the address, the server, the table or its key, and what to do.
    pub fn open(address: &str) -> Result<Postgres, StoreError> {
        let (url, name) = split(address)?;
        let mut config =
            Config::from_str(&url).map_err(|error| StoreError::database(&redacted(address), told(&error)))?;
        config.application_name("reknit").connect_timeout(CONNECT);
        let place = place(&config, name);
        let wrong = |message: String| StoreError::database(&place, message);
        let met = |error: postgres::Error| wrong(told(&error));
        let mut client = connect(&config).map_err(met)?;
        let found = client.query_opt(TABLE, &[&name]).map_err(met)?;
        let Some(found) = found else {
            return Err(wrong(format!("there is no table {name} that this user may read; write it as schema.table")));
        };
        let (oid, schema, name): (u32, String, String) = (found.get(0), found.get(1), found.get(2));
        let key: Vec<String> = match client.query_opt(KEY, &[&oid]).map_err(met)? {
            Some(row) => row.get(0),
            None => {
                let message = "the table has no primary key and no unique index over columns that are NOT NULL, so its \
                               rows cannot be told apart; make one";
                return Err(wrong(message.into()));
            }
        };
        let names: Vec<String> = client.query(COLUMNS, &[&oid]).map_err(met)?.iter().map(|row| row.get(0)).collect();
        let table = (schema, name);
        // The types as the driver knows them, of a statement that is prepared and never run.
        let statement = client.prepare(&format!("SELECT {} FROM {}", list(&names), quoted(&table))).map_err(met)?;
        let types: Vec<Type> = statement.columns().iter().map(|column| column.type_().clone()).collect();
        let column = |(name, of): (String, &Type)| Column { name, kind: kind(of), declared: of.name().into() };
        let columns = Columns { columns: names.into_iter().zip(&types).map(column).collect(), key };
        Ok(Postgres { config, table, place, columns, types })
    }
}

impl Table for Postgres {
    fn place(&self) -> &str {
        &self.place
    }

    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn scan(&self, columns: &[(String, Kind)]) -> Result<Rows<'_>, StoreError> {
        let mut types = Vec::new();
        let mut wanted = Vec::new();
        for (name, _) in columns {
            let place = self.columns.columns.iter().position(|column| column.name == *name);
            let Some(place) = place else {
                return Err(StoreError::database(&self.place, format!("there is no column {name}")));
            };
            let of = self.types[place].clone();
            // A type without a kind is compared as it is printed.
            let cast = if kind(&of) == Kind::Other { "::text" } else { "" };
            wanted.push(format!("{}{cast}", ident(name)));
            types.push(of);
        }
        let copy =
            format!("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)", wanted.join(", "), quoted(&self.table));
        let (config, place) = (self.config.clone(), self.place.clone());
        let (sender, receiver) = sync_channel(PAGES_AHEAD);
        let reader = std::thread::spawn(move || {
            let mut page = Vec::new();
            let error = read(&config, &copy, &types, &place, &mut page, &sender).err();
            // Whoever has gone needs neither.
            let _ = sender.send((page, error));
        });
        Ok(Box::new(Scan { receiver, reader: Some(reader), page: Vec::new().into_iter(), error: None }))
    }
}

type Page = (Vec<Vec<Value>>, Option<StoreError>);

/// Rows on their way from the thread that reads them.
struct Scan {
    receiver: Receiver<Page>,
    reader: Option<JoinHandle<()>>,
    page: std::vec::IntoIter<Vec<Value>>,
    error: Option<StoreError>,
}

impl Iterator for Scan {
    type Item = Result<Vec<Value>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.page.next() {
                return Some(Ok(row));
            }
            if let Some(error) = self.error.take() {
                return Some(Err(error));
            }
            match self.receiver.recv() {
                Ok((page, error)) => (self.page, self.error) = (page.into_iter(), error),
                Err(_) => {
                    let panicked = self.reader.take().is_some_and(|reader| reader.join().is_err());
                    return panicked.then(|| Err(StoreError::Panicked("reading a table".into())));
                }
            }
        }
    }
}

/// Reads all rows, a page at a time; what is left of the last is in `page`.
fn read(
    config: &Config,
    copy: &str,
    types: &[Type],
    place: &str,
    page: &mut Vec<Vec<Value>>,
    sender: &SyncSender<Page>,
) -> Result<(), StoreError> {
    let met = |error: postgres::Error| StoreError::database(place, told(&error));
    let mut client = connect(config).map_err(met)?;
    let rows = client.copy_out(copy).map_err(met)?;
    // Each field is taken as it was sent.
    let mut rows = BinaryCopyOutIter::new(rows, &vec![Type::BYTEA; types.len()]);
    while let Some(row) = rows.next().map_err(met)? {
        let mut values = Vec::with_capacity(types.len());
        for (place_of, of) in types.iter().enumerate() {
            let sent: Sent<'_> = row.try_get(place_of).map_err(met)?;
            let value = sent.value(of);
            let column = |error| StoreError::database(place, format!("a field of type {}: {error}", of.name()));
            values.push(value.map_err(column)?);
        }
        page.push(values);
        if page.len() == PAGE_ROWS && sender.send((std::mem::take(page), None)).is_err() {
            break;
        }
    }
    Ok(())
}

/// A connection that cannot write.
fn connect(config: &Config) -> Result<Client, postgres::Error> {
    let mut client = config.connect(NoTls)?;
    client.batch_execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")?;
    Ok(client)
}

/// Tables, partitioned ones too, by name as in SQL.
const TABLE: &str = "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                     WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p') AND has_table_privilege(c.oid, 'SELECT')";

/// The columns that hold something of their own.
const COLUMNS: &str = "SELECT attname::text FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped \
                       AND attgenerated = '' ORDER BY attnum";

/// The primary key, or the first unique index over columns that are all NOT NULL.
const KEY: &str = "SELECT array_agg(a.attname::text ORDER BY k.nth) FROM pg_index i \
                   CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(num, nth) \
                   LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num \
                   WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND k.nth <= i.indnkeyatts \
                   GROUP BY i.indexrelid, i.indisprimary \
                   HAVING bool_and(a.attnotnull IS TRUE AND k.num > 0) \
                   ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1";

/// The part of an address that names a database, and the table.
fn split(address: &str) -> Result<(String, &str), StoreError> {
    let wrong = || {
        let message = "a table is postgres://user@host/database/table, or …/schema.table";
        StoreError::database(&redacted(address), message)
    };
    let (scheme, rest) = address.split_once("://").ok_or_else(wrong)?;
    let mut parts = rest.splitn(3, '/');
    let (Some(host), Some(database), Some(table)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    if database.is_empty() || table.is_empty() {
        return Err(wrong());
    }
    Ok((format!("{scheme}://{host}/{database}"), table))
}

/// Where a table is, without who asks.
fn place(config: &Config, table: &str) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(dir)) => dir.display().to_string(),
        None => "localhost".into(),
    };
    let port =
        config.get_ports().first().filter(|port| **port != 5432).map_or(String::new(), |port| format!(":{port}"));
    format!("postgres://{host}{port}/{}/{table}", config.get_dbname().unwrap_or_default())
}

/// An address without its user and password.
#[must_use]
pub fn redacted(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => address.to_string(),
    }
}

/// What the server said, else what the driver did.
fn told(error: &postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    let cause = std::error::Error::source(error).map(ToString::to_string);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted((schema, name): &(String, String)) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| ident(name)).collect::<Vec<_>>().join(", ")
}
