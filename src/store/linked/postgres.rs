//! Tables of PostgreSQL databases: all rows by binary COPY from one snapshot; only transactions that write can write.

mod address;
mod connect;
mod copied;
mod decode;
mod encode;
mod feed;
mod parts;
mod pgoutput;
mod readers;
mod rights;
mod scan;
mod script;
mod slot;
mod tables;
mod tls;
mod transaction;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postgres::Client;
use postgres::error::SqlState;
use postgres::types::Type;
use reknit_core::row::{Kind, Value};

pub use self::address::{PostgresAddress, Secret, redacted};
use self::connect::{Connector, told};
use self::decode::kind;
use self::feed::Triggers;
use self::script::Statements;
use self::slot::Slot;
pub use self::tls::SslMode;
use self::transaction::Work;
use super::reading::in_rows;
use super::references::{Along, stays};
use super::{
    Access, Cautions, Column, Columns, Cost, Feed, FeedKind, Kin, Pace, Pages, Purpose, Reference, Remains, Rows,
    Script, Shape, Standing, Table, Transaction,
};
use crate::store::StoreError;

/// A table of a PostgreSQL database.
pub struct Postgres {
    connector: Connector,
    /// Schema and name.
    table: (String, String),
    place: String,
    /// The same as it can be typed.
    typed: String,
    /// The same as others may have typed it.
    also_typed: Option<String>,
    columns: Columns,
    oid: u32,
    /// What the driver knows of each column's type, and how SQL spells it, in the table's order.
    types: Vec<(Type, String)>,
    /// Columns whose values a sequence gives, with it.
    sequences: Vec<(String, String)>,
    references: Vec<Reference>,
    along: Vec<Along>,
    /// A connection that waits for the next transaction.
    idle: Mutex<Option<Client>>,
}

impl Postgres {
    /// Opens a table. Without a schema, the one that comes first in the search path.
    ///
    /// # Errors
    /// [`StoreError::Database`] says what is wrong with the server, the table or its key, and what to do.
    pub fn open(address: PostgresAddress) -> Result<Postgres, StoreError> {
        let wrong = |message: String| StoreError::database(&address.place, message);
        let met = |error: postgres::Error| wrong(told(&error));
        let connector = Connector::new(&address).map_err(wrong)?;
        let mut client = connector.connect().map_err(wrong)?;
        let name = address.table.as_str();
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
        let rows = client.query(COLUMNS, &[&oid]).map_err(met)?;
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let spelled: Vec<String> = rows.iter().map(|row| row.get(1)).collect();
        let sequences = rows.iter().filter_map(|row| Some((row.get(0), row.get::<_, Option<String>>(2)?))).collect();
        let (mut references, mut along) = (Vec::new(), Vec::new());
        for row in client.query(&format!("{} {REFERENCES}", parts::PARTS), &[&oid]).map_err(met)? {
            let (columns, referred, cascades) = (row.get(0), row.get(1), row.get(2));
            match row.get::<_, Option<String>>(3) {
                None => references.push(Reference { columns, referred, cascades }),
                Some(table) if cascades => along.push(Along { table, columns, referred }),
                Some(_) => {}
            }
        }
        let table = (schema, name);
        // The types as the driver knows them, of a statement that is prepared and never run.
        let statement = client.prepare(&format!("SELECT {} FROM {}", list(&names), quoted(&table))).map_err(met)?;
        let types: Vec<Type> = statement.columns().iter().map(|column| column.type_().clone()).collect();
        let column = |(name, of): (String, &Type)| Column { name, kind: kind(of), declared: of.name().into() };
        let columns = Columns { columns: names.into_iter().zip(&types).map(column).collect(), key };
        let types = types.into_iter().zip(spelled).collect();
        let searched = client.query_one(SEARCHED, &[&table.1, &oid]).map_err(met)?.get(0);
        let idle = Mutex::new(Some(client));
        let also_typed = also_typed(&address, &table, searched);
        let PostgresAddress { place, typed, .. } = address;
        Ok(Postgres {
            connector,
            table,
            place,
            also_typed,
            typed,
            columns,
            oid,
            types,
            sequences,
            references,
            along,
            idle,
        })
    }

    /// The statements that let the user of an address do something with its table, as far as they are lacking; also for one who
    /// may not read it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn grants(address: &PostgresAddress, purpose: Purpose) -> Result<Vec<String>, StoreError> {
        rights::lacking_at(address, purpose)
    }

    /// The tables of a database, or of a schema of it, by an address whose table is `*` or `SCHEMA.*`: what each is called, and
    /// how it is written in an address. Partitions belong to their table.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn tables(address: &PostgresAddress) -> Result<Vec<(String, String)>, StoreError> {
        tables::all(address)
    }

    fn scan_sql(&self, shape: &Shape) -> Result<(String, Vec<Type>), StoreError> {
        let (wanted, types) = self.selected(shape)?;
        let (columns, table, condition) = (wanted.join(", "), quoted(&self.table), shape.condition());
        let sql = format!("COPY (SELECT {columns} FROM {table} WHERE {condition}) TO STDOUT (FORMAT binary)");
        Ok((sql, types))
    }

    fn met(&self, error: &postgres::Error) -> StoreError {
        StoreError::database(&self.place, told(error))
    }

    /// That no other row refers to a row `t` that is to go, where that would take it along: the end of a condition.
    fn unless_referred(&self) -> String {
        let table = quoted(&self.table);
        let own = self.references.iter().filter(|of| of.cascades).map(|of| (&table, &of.columns, &of.referred));
        let others = self.along.iter().map(|of| (&of.table, &of.columns, &of.referred));
        let unless = own.chain(others).map(|(table, columns, referred)| {
            let pair = |(from, to): (&String, &String)| format!("o.{} = t.{}", ident(from), ident(to));
            let pairs: Vec<String> = columns.iter().zip(referred).map(pair).collect();
            format!(
                " AND NOT EXISTS (SELECT FROM {table} AS o WHERE {} AND (o.tableoid, o.ctid) <> (t.tableoid, t.ctid))",
                pairs.join(" AND ")
            )
        });
        unless.collect()
    }

    /// What is said of a row that stays by that condition.
    fn stays(&self) -> Option<String> {
        stays(&self.references, &self.along)
    }

    /// Notes the greatest numbers that rows have in columns to which a sequence gives them.
    fn note_given(&self, shape: &Shape, values: &[Value], given: &mut BTreeMap<String, i64>) {
        for (column, _) in &self.sequences {
            let place = shape.sources().iter().position(|name| name == column);
            if let Some(Value::Int(number)) = place.and_then(|place| values.get(place)) {
                let number = i64::try_from(*number).unwrap_or(i64::MAX);
                let greatest = given.entry(column.clone()).or_insert(number);
                *greatest = number.max(*greatest);
            }
        }
    }

    /// The statement that moves a column's sequence past a number, so that it is not given out again; it returns where that
    /// is then, if it was not there before. One that counts down stays where it is.
    fn moves_sequence(&self, column: &str, number: i64) -> Option<String> {
        let (_, sequence) = self.sequences.iter().find(|(name, _)| name == column)?;
        let name = literal(sequence);
        Some(format!(
            "SELECT setval({name}, {number}) FROM {sequence}, pg_sequence s WHERE s.seqrelid = {name}::regclass \
             AND s.seqincrement > 0 AND {number} BETWEEN s.seqmin AND s.seqmax \
             AND (last_value < {number} OR last_value = {number} AND NOT is_called)"
        ))
    }

    /// A column's type, and how SQL spells it.
    fn type_of(&self, name: &str) -> Result<&(Type, String), StoreError> {
        let place = self.columns.columns.iter().position(|column| column.name == name);
        let found = place.and_then(|place| self.types.get(place));
        found.ok_or_else(|| StoreError::database(&self.place, format!("there is no column {name}")))
    }

    /// The shape's columns as they are selected, and the types by which they are read.
    fn selected(&self, shape: &Shape) -> Result<(Vec<String>, Vec<Type>), StoreError> {
        let one = |name: &String| {
            let of = self.type_of(name)?.0.clone();
            // A type without a kind is compared as it is printed.
            let cast = if kind(&of) == Kind::Other { "::text" } else { "" };
            Ok((format!("{}{cast}", ident(name)), of))
        };
        shape.sources().iter().map(one).collect()
    }

    /// Keeps a connection that no transaction is open on for the next one.
    fn put_back(&self, client: Client) {
        *self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(client);
    }

    fn client(&self) -> Result<Client, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match idle.filter(|client| !client.is_closed()) {
            Some(client) => Ok(client),
            None => self.connector.connect().map_err(|message| StoreError::database(&self.place, message)),
        }
    }
}

/// Without its schema where that was typed and the name alone would do, else with it.
fn also_typed(address: &PostgresAddress, (schema, name): &(String, String), searched: bool) -> Option<String> {
    let simple = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let base = address.place.strip_suffix(&address.table).filter(|_| simple(schema) && simple(name))?;
    match address.table.contains('.') {
        true => searched.then(|| format!("{base}{name}")),
        false => Some(format!("{base}{schema}.{name}")),
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The driver takes leave of the server by itself, which must not be done where asynchronous tasks run.
        let idle = self.idle.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(client) = idle {
            std::thread::spawn(move || drop(client));
        }
    }
}

impl Table for Postgres {
    fn place(&self) -> &str {
        &self.place
    }

    fn also_typed(&self) -> Option<String> {
        self.also_typed.clone()
    }

    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn scan(&self, shape: &Shape) -> Result<Rows<'_>, StoreError> {
        Ok(in_rows(self.read_whole(shape, None)?))
    }

    fn scan_paced<'a>(
        &'a self,
        shape: &Shape,
        pace: &'a Arc<Pace>,
        after: Option<&[u8]>,
    ) -> Result<(Pages<'a>, bool), StoreError> {
        match self.slice_time(shape, pace, after.is_some())? {
            Some(time) => Ok((self.read_sliced(shape, pace, time, after)?, true)),
            None if after.is_some() => {
                Err(StoreError::database(&self.place, "its key is not the one by which it was read so far"))
            }
            None => Ok((self.read_whole(shape, Some(pace))?, false)),
        }
    }

    fn stores_keys_one_way(&self, shape: &Shape) -> bool {
        // Only what is declared as text can be spelled in several ways.
        shape.key_places().iter().all(|place| {
            let kind = &shape.columns()[*place].1;
            self.columns
                .column(shape.source(*place))
                .is_some_and(|column| column.kind != Kind::Text || *kind == Kind::Text)
        })
    }

    fn begin(&self, access: Access, wait: Duration) -> Result<Box<dyn Transaction + '_>, StoreError> {
        Ok(Box::new(Work::begin(self, access, wait)?))
    }

    fn references(&self) -> Result<Vec<Reference>, StoreError> {
        Ok(self.references.clone())
    }

    fn kin(&self) -> Result<Kin, StoreError> {
        let mut client = self.client()?;
        let sql = format!("{} {KIN}", parts::PARTS);
        let row = client.query_one(&sql, &[&self.oid]).map_err(|error| self.met(&error))?;
        self.put_back(client);
        Ok(Kin { name: row.get(0), parents: row.get(1) })
    }

    fn script(&self, wait: Duration) -> Result<Box<dyn Script + '_>, StoreError> {
        Ok(Box::new(Statements::new(self, wait)))
    }

    fn cautions(&self) -> Result<Cautions, StoreError> {
        let mut client = self.client()?;
        let mut names = |sql: &str| -> Result<Vec<String>, StoreError> {
            let rows = client.query(sql, &[&self.oid]).map_err(|error| self.met(&error))?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        };
        let (kept, triggers) = (names(KEPT)?.pop(), names(TRIGGERS)?);
        let cascades = names(&format!("{} {CASCADES}", parts::PARTS))?;
        let follows = client.query(FOLLOWS, &[&self.oid]).map_err(|error| self.met(&error))?;
        let follows = follows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let cautions = Cautions { kept, triggers, cascades, follows };
        self.put_back(client);
        Ok(cautions)
    }

    fn standing(&self) -> Result<Standing, StoreError> {
        let mut client = self.client()?;
        let row = client.query_one(STANDING, &[&self.oid]).map_err(|error| self.met(&error))?;
        self.put_back(client);
        let at: i64 = row.get(1);
        Ok(Standing { identity: row.get(0), at: u64::try_from(at).unwrap_or_default() })
    }

    fn lacking(&self, purpose: Purpose) -> Result<Vec<String>, StoreError> {
        let mut client = self.client()?;
        let lacking = rights::lacking(&mut client, self.oid, purpose).map_err(|error| self.met(&error))?;
        self.put_back(client);
        Ok(lacking)
    }

    fn cost(&self, shape: &Shape) -> Result<Cost, StoreError> {
        let mut client = self.client()?;
        let sql = format!("{} {ROWS}", parts::PARTS);
        let row = client.query_one(&sql, &[&self.oid]).map_err(|error| self.met(&error))?;
        self.put_back(client);
        let rows = row.get::<_, Option<i64>>(0).map(i64::unsigned_abs);
        let bytes = row.get::<_, Option<i64>>(1).map(i64::unsigned_abs);
        Ok(Cost { sql: self.scan_sql(shape)?.0, rows, bytes })
    }

    fn feed(&self, kind: FeedKind, shape: &Shape, index: &str) -> Result<Box<dyn Feed + '_>, StoreError> {
        match kind {
            FeedKind::Triggers => Ok(Box::new(Triggers::new(self, shape, index)?)),
            FeedKind::Slot => Ok(Box::new(Slot::new(self, shape, index))),
        }
    }

    fn remains(&self) -> Result<Vec<Remains>, StoreError> {
        Ok([feed::remains(self)?, slot::remains(self)?].concat())
    }

    fn run(&self, statements: &[String]) -> Result<(), StoreError> {
        let mut client = self.client()?;
        let all = format!(
            "SET client_min_messages = warning; BEGIN READ WRITE; SET LOCAL lock_timeout = '5s'; {}; COMMIT",
            statements.join(";\n")
        );
        client.batch_execute(&all).map_err(|error| match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => StoreError::database(
                &self.place,
                format!("{}: a transaction was open for too long; end it, or try again", told(&error)),
            ),
            _ => self.met(&error),
        })?;
        self.put_back(client);
        Ok(())
    }
}

/// Tables, partitioned ones too, by name as in SQL.
const TABLE: &str = "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                     WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p') AND has_table_privilege(c.oid, 'SELECT')";

/// Whether a table is found by its name alone.
const SEARCHED: &str = "SELECT coalesce(to_regclass(quote_ident($1::text))::oid = $2::oid, false)";

/// The columns that hold something of their own, how their types are spelled, and the sequences that give them values.
const COLUMNS: &str = "SELECT attname::text, format_type(atttypid, -1), \
                       coalesce(pg_get_serial_sequence(attrelid::regclass::text, attname::text), \
                           (SELECT min(format('%I.%I', n.nspname, s.relname)) FROM pg_attrdef d \
                           JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid \
                           JOIN pg_class s ON p.refclassid = 'pg_class'::regclass AND s.oid = p.refobjid AND s.relkind = 'S' \
                           JOIN pg_namespace n ON n.oid = s.relnamespace WHERE d.adrelid = attrelid AND d.adnum = attnum)) \
                       FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped \
                       AND attgenerated = '' ORDER BY attnum";

/// The cluster, its timeline, database and table; and how much was ever written there.
const STANDING: &str = "SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()), \
                        CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint()) \
                        ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END, \
                        (SELECT oid FROM pg_database WHERE datname = current_database()), $1::oid), \
                        pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
                        ELSE pg_current_wal_lsn() END, '0/0')::int8";

/// Why the table is not written by others as a rule. Our own sessions are read only by default: what they would be is asked.
const KEPT: &str = "SELECT 'a subscription of logical replication keeps it' FROM pg_subscription_rel WHERE srrelid = $1 \
                    UNION ALL SELECT 'transactions there are read only by default (default_transaction_read_only)' \
                    FROM pg_settings WHERE name = 'default_transaction_read_only' AND reset_val = 'on' AND $1::oid IS NOT NULL \
                    UNION ALL SELECT 'the server is a standby' WHERE pg_is_in_recovery() AND $1::oid IS NOT NULL";

const TRIGGERS: &str = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal AND tgenabled <> 'D' \
                        AND tgname NOT LIKE 'reknit\\_%' \
                        ORDER BY tgname";

/// Other tables of which rows go or change along, partitioned ones by the name of all of it. What this user may not see there
/// cannot be looked for, so such a one has a name that no table has.
const CASCADES: &str = "SELECT DISTINCT coalesce(pg_partition_root(conrelid), conrelid)::regclass::text || \
                        CASE WHEN row_security_active(conrelid) THEN ' (of which this user may not see all)' ELSE '' END \
                        FROM pg_constraint WHERE contype = 'f' AND confdeltype IN ('c', 'n', 'd') AND conparentid = 0 \
                        AND confrelid IN (SELECT oid FROM parts) AND conrelid NOT IN (SELECT oid FROM parts) ORDER BY 1";

/// What the table is called, and the others that it or a part of it refers to.
const KIN: &str = "SELECT $1::oid::regclass::text, ARRAY(SELECT DISTINCT coalesce(pg_partition_root(confrelid), confrelid)::regclass::text \
                   FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 AND conrelid IN (SELECT oid FROM parts) \
                   AND confrelid NOT IN (SELECT oid FROM parts) ORDER BY 1)";

/// Columns that others follow, with those tables.
const FOLLOWS: &str = "SELECT DISTINCT a.attname::text, c.conrelid::regclass::text FROM pg_constraint c \
                       JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey) \
                       WHERE c.confrelid = $1 AND c.contype = 'f' AND c.conparentid = 0 AND c.confupdtype IN ('c', 'n', 'd') ORDER BY 1, 2";

/// References to the table or a part of it, with the columns on both sides, whether rows go or change with those they refer to, and
/// whose they are: nobody's else for those of the table to itself.
const REFERENCES: &str = "SELECT array_agg(a.attname::text ORDER BY k.nth), array_agg(f.attname::text ORDER BY k.nth), \
                          c.confdeltype IN ('c', 'n', 'd'), \
                          CASE WHEN c.conrelid <> $1 OR c.confrelid <> $1 THEN c.conrelid::regclass::text END FROM pg_constraint c \
                          CROSS JOIN LATERAL unnest(c.conkey, c.confkey) WITH ORDINALITY AS k(here, there, nth) \
                          JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.here \
                          JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = k.there \
                          WHERE c.contype = 'f' AND c.confrelid IN (SELECT oid FROM parts) AND c.conparentid = 0 \
                          GROUP BY c.oid, c.confdeltype, c.conrelid, c.confrelid ORDER BY c.oid";

/// The primary key, or the first unique index over columns that are all NOT NULL.
const KEY: &str = "SELECT array_agg(a.attname::text ORDER BY k.nth) FROM pg_index i \
                   CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(num, nth) \
                   LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num \
                   WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND k.nth <= i.indnkeyatts \
                   GROUP BY i.indexrelid, i.indisprimary \
                   HAVING bool_and(a.attnotnull IS TRUE AND k.num > 0) \
                   ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1";

/// How many rows there are, as the server counted them last.
const ROWS: &str = "SELECT sum(c.reltuples) FILTER (WHERE c.reltuples >= 0)::bigint, sum(pg_table_size(c.oid))::bigint \
     FROM pg_class c JOIN parts USING (oid) WHERE c.relkind = 'r'";

fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted((schema, name): &(String, String)) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// A text as SQL spells it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| ident(name)).collect::<Vec<_>>().join(", ")
}
