//! Transactions of SQLite: rows found by their keys, and written where they were found.

use std::collections::BTreeSet;

use reknit_core::row::{Kind, Value};
use rusqlite::types::Value as Stored;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use super::foreign::Touched;
use super::{Sqlite, list, quoted, value};
use crate::store::StoreError;
use crate::store::linked::references::stays;
use crate::store::linked::{Besides, Change, Found, Shape, Transaction, Written};

/// One transaction on a connection of its own; rolled back when that is closed.
pub(super) struct Work<'a> {
    pub(super) table: &'a Sqlite,
    pub(super) connection: Connection,
    pub(super) touched: Touched,
}

/// A row that was written, and where it is.
type Changed = (Vec<Value>, Vec<Stored>);

impl Work<'_> {
    fn met(&self, error: &rusqlite::Error) -> StoreError {
        self.table.met(error)
    }

    fn run(&mut self, sql: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(sql).map_err(|error| self.met(&error))
    }

    /// Rows of a query that begins with [`Sqlite::select`].
    fn query(
        &self,
        shape: &Shape,
        sql: &str,
        bound: &[Stored],
        wanted: &mut dyn FnMut(&[Value]) -> bool,
        found: &mut Vec<Found>,
    ) -> Result<(), rusqlite::Error> {
        let (columns, mut statement) = (shape.columns().len(), self.connection.prepare_cached(sql)?);
        let mut rows = statement.query(params_from_iter(bound))?;
        while let Some(row) = rows.next()? {
            let values: Vec<Value> = (0..columns).map(|place| value(row, place)).collect::<Result<_, _>>()?;
            if wanted(&values) {
                let places = columns..columns + self.table.order.len();
                let place = places.map(|place| value(row, place)).collect::<Result<_, _>>()?;
                found.push(Found { place, values, busy: None });
            }
        }
        Ok(())
    }

    /// Makes a change, and gives the row as it is then, and where.
    fn change(&self, sql: &str, bound: &[Stored], columns: usize) -> Result<Option<Changed>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(bound))?;
        let mut last = None;
        // All steps are made: a statement that is left in the middle may be undone.
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|place| value(row, place)).collect::<Result<_, _>>()?;
            let place = (columns..columns + self.table.order.len()).map(|place| row.get(place));
            last = Some((values, place.collect::<Result<_, _>>()?));
        }
        Ok(last)
    }

    fn kind(&self, name: &str) -> Kind {
        self.table.columns.column(name).map_or(Kind::Any, |column| column.kind)
    }
}

impl Transaction for Work<'_> {
    fn find(&mut self, shape: &Shape, keys: &[Vec<Value>]) -> Result<Vec<Found>, StoreError> {
        let names: Vec<String> = shape.key_sources().map(String::from).collect();
        let equal: Vec<String> = names.iter().map(|name| format!("{} IS ?", quoted(name))).collect();
        let sql = format!("{} WHERE {} AND {}", self.table.select(shape), equal.join(" AND "), shape.condition());
        let mut found = Vec::new();
        for key in keys {
            let bound: Vec<Stored> =
                names.iter().zip(key).map(|(name, value)| stored(value, self.kind(name))).collect();
            self.query(shape, &sql, &bound, &mut |_| true, &mut found).map_err(|error| self.met(&error))?;
        }
        Ok(found)
    }

    fn find_by_reading(
        &mut self,
        shape: &Shape,
        wanted: &mut dyn FnMut(&[Value]) -> bool,
    ) -> Result<Vec<Found>, StoreError> {
        let mut found = Vec::new();
        let all = format!("{} WHERE {}", self.table.select(shape), shape.condition());
        self.query(shape, &all, &[], wanted, &mut found).map_err(|error| self.met(&error))?;
        Ok(found)
    }

    fn write(&mut self, shape: &Shape, change: Change<'_>) -> Result<Written, StoreError> {
        let table = quoted(&self.table.name);
        let columns = list(&mut shape.sources().iter());
        let returned = format!("{columns}, {}", list(&mut self.table.order.iter()));
        let at = |place: &[Value]| place.iter().map(|value| stored(value, Kind::Any)).collect::<Vec<_>>();
        let here: Vec<String> = self.table.order.iter().map(|name| format!("{} IS ?", quoted(name))).collect();
        let here = here.join(" AND ");
        let value_of = |place: usize, value: &Value| stored(value, self.kind(shape.source(place)));
        let (sql, bound) = match change {
            Change::Insert(values) => {
                let marks = vec!["?"; values.len()].join(", ");
                let key: BTreeSet<String> = shape.key_sources().map(quoted).collect();
                // A row that is there and not meant is no row that has come meanwhile: it is refused by its key.
                let come = match shape.filter() {
                    None => format!("ON CONFLICT ({}) DO NOTHING ", key.into_iter().collect::<Vec<_>>().join(", ")),
                    Some(_) => String::new(),
                };
                let sql = format!("INSERT INTO {table} ({columns}) VALUES ({marks}) {come}RETURNING {returned}");
                (sql, values.iter().enumerate().map(|(place, value)| value_of(place, value)).collect())
            }
            Change::Update(place, values) => {
                let set = values.iter().map(|(place, _)| format!("{} = ?", quoted(shape.source(*place))));
                let set = set.collect::<Vec<_>>().join(", ");
                let bound = values.iter().map(|(place, value)| value_of(*place, value)).chain(at(place)).collect();
                (format!("UPDATE {table} SET {set} WHERE {here} RETURNING {returned}"), bound)
            }
            Change::Delete(place) => (
                format!("DELETE FROM {table} AS t WHERE {here}{} RETURNING {returned}", self.table.unless_referred()),
                at(place),
            ),
        };
        if let Change::Update(place, _) | Change::Delete(place) = change {
            let keys = (&self.connection, self.table.deferred.as_slice());
            let noted = self.touched.goes(keys, (&self.table.name, &here), &at(place));
            noted.map_err(|error| self.table.met(&error))?;
        }
        match self.change(&sql, &bound, shape.columns().len()) {
            Ok(Some(_)) if matches!(change, Change::Delete(_)) => Ok(Written::Gone),
            Ok(Some((row, place))) => {
                self.touched.places.push(place);
                Ok(Written::Row(row))
            }
            // It was found in this transaction, which is the only one that writes.
            Ok(None) if matches!(change, Change::Delete(_)) => {
                Ok(stays(&self.table.references, &self.table.along).map_or(Written::Moved, Written::Refused))
            }
            Ok(None) => Ok(Written::Moved),
            Err(rusqlite::Error::SqliteFailure(failure, said)) if is_of_the_row(failure.code) => {
                Ok(Written::Refused(said.unwrap_or_else(|| failure.to_string())))
            }
            Err(error) => Err(self.met(&error)),
        }
    }

    fn check(&mut self) -> Result<Option<String>, StoreError> {
        let here: Vec<String> = self.table.order.iter().map(|name| format!("c.{} IS ?", quoted(name))).collect();
        let keys = (&self.connection, self.table.deferred.as_slice());
        let breaks = self.touched.breaks(keys, (&self.table.name, &here.join(" AND ")));
        let breaks = breaks.map_err(|error| self.table.met(&error))?;
        // As SQLite says it at the end.
        Ok(breaks.then(|| "FOREIGN KEY constraint failed".into()))
    }

    fn mark(&mut self) -> Result<(), StoreError> {
        self.run("SAVEPOINT reknit")
    }

    fn unmark(&mut self, back: bool) -> Result<(), StoreError> {
        if back {
            self.touched = Touched::default();
        }
        self.run(if back { "ROLLBACK TO reknit; RELEASE reknit" } else { "RELEASE reknit" })
    }

    fn commit(mut self: Box<Self>) -> Result<Besides, StoreError> {
        self.run("COMMIT").map(|()| Besides::new())
    }
}

/// Whether a failure is about what was to be written, and not about the database.
fn is_of_the_row(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
}

/// A value as SQLite stores it, in a column of a kind; dates and times as its own functions spell them.
pub(super) fn stored(value: &Value, column: Kind) -> Stored {
    match value {
        Value::Null => Stored::Null,
        Value::Bool(yes) if column == Kind::Text => Stored::Text(yes.to_string()),
        Value::Bool(yes) => Stored::Integer((*yes).into()),
        Value::Int(number) => i64::try_from(*number).map_or_else(|_| Stored::Text(number.to_string()), Stored::Integer),
        Value::Float(number) => Stored::Real(number.get()),
        Value::Bytes(bytes) => Stored::Blob(bytes.clone()),
        Value::Uuid(uuid) if column == Kind::Bytes => Stored::Blob(uuid.to_vec()),
        Value::Timestamp(_) => Stored::Text(value.to_string().replacen('T', " ", 1).replacen('Z', "+00:00", 1)),
        Value::DateTime(_) => Stored::Text(value.to_string().replacen('T', " ", 1)),
        _ => Stored::Text(value.to_string()),
    }
}
