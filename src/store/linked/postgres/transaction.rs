//! Transactions of PostgreSQL: rows found by their keys and locked, and written where they were found.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use postgres::error::SqlState;
use postgres::types::{ToSql, Type};
use postgres::{Client, Row, Statement};
use reknit_core::row::{Kind, Value};

use super::decode::Sent;
use super::encode::{can_be_in, text};
use super::{Postgres, ident, quoted, told};
use crate::store::StoreError;
use crate::store::linked::{Access, Besides, Change, Found, Shape, Transaction, Written};

/// How long what others keep locked is waited for by a transaction that has waited already; the server knows no shorter time.
const NO_MORE_WAIT: &str = "SET LOCAL lock_timeout = 1";
/// Rows that are fetched at once where a table is read for a key of unusual form.
const FETCHED_ROWS: usize = 2_000;
/// Table and row, by which a row is known until the transaction ends.
const PLACE: &str = "t.tableoid::text, t.ctid::text";

/// One transaction; rolled back with its connection if it has no end.
pub(super) struct Work<'a> {
    table: &'a Postgres,
    client: Client,
    access: Access,
    /// Whether it has waited in vain for what others keep locked, and whether it waits no more.
    waited: bool,
    hurried: bool,
    statements: HashMap<String, Statement>,
    /// The greatest number that was written to each column that has a sequence.
    given: BTreeMap<String, i64>,
}

impl<'a> Work<'a> {
    pub(super) fn begin(table: &'a Postgres, access: Access, wait: Duration) -> Result<Self, StoreError> {
        let mut client = table.client()?;
        let begin = match access {
            Access::Read => "BEGIN READ ONLY".to_string(),
            // The session is one that cannot write unless it is told to. A timeout of nothing would be none.
            Access::Write => format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = {}",
                wait.as_millis().max(1)
            ),
        };
        client.batch_execute(&begin).map_err(|error| table.met(&error))?;
        let (statements, given) = Default::default();
        Ok(Self { table, client, access, waited: false, hurried: false, statements, given })
    }

    fn run(&mut self, sql: &str) -> Result<(), StoreError> {
        self.client.batch_execute(sql).map_err(|error| self.table.met(&error))
    }

    fn statement(&mut self, sql: &str) -> Result<Statement, postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql)?;
        self.statements.insert(sql.to_string(), statement.clone());
        Ok(statement)
    }

    fn query(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, postgres::Error> {
        let statement = self.statement(sql)?;
        self.client.query(&statement, params)
    }

    /// The values of a row from its column `first` on.
    fn values(&self, row: &Row, first: usize, types: &[Type]) -> Result<Vec<Value>, StoreError> {
        let one = |(nth, of): (usize, &Type)| {
            let sent: Sent<'_> = row.try_get(first + nth).map_err(|error| self.table.met(&error))?;
            let wrong =
                |error| StoreError::database(&self.table.place, format!("a field of type {}: {error}", of.name()));
            sent.value(of).map_err(wrong)
        };
        types.iter().enumerate().map(one).collect()
    }

    /// A row as [`PLACE`] and the shape's columns say it.
    fn found(&self, row: &Row, types: &[Type]) -> Result<Found, StoreError> {
        let place = |nth| row.try_get(nth).map(Value::Text).map_err(|error| self.table.met(&error));
        Ok(Found { place: vec![place(0)?, place(1)?], values: self.values(row, 2, types)?, busy: None })
    }

    fn kind(&self, name: &str) -> Kind {
        self.table.columns.column(name).map_or(Kind::Any, |column| column.kind)
    }

    /// Parameter `n` as a value of a column's type: it is sent as text.
    fn cast(&self, n: usize, name: &str) -> Result<String, StoreError> {
        Ok(format!("${n}::text::{}", self.table.type_of(name)?.1))
    }

    /// Moves sequences past the numbers that were written, so that they are not given out again; tells which.
    fn move_sequences(&mut self) -> Besides {
        let mut besides = Besides::new();
        for (column, number) in std::mem::take(&mut self.given) {
            let Some(statement) = self.table.moves_sequence(&column, number) else { continue };
            // No part of the rows, and not undone with them; whoever may not do it has written them all the same.
            let moved = self.client.batch_execute("BEGIN READ WRITE").and_then(|()| {
                let moved = self.client.query(&statement, &[])?;
                self.client.batch_execute("COMMIT").map(|()| !moved.is_empty())
            });
            let of = format!("the sequence of {}.{column}", quoted(&self.table.table).replace('"', ""));
            match moved {
                Ok(true) => _ = besides.insert(column, format!("{of} was moved to {number}")),
                Ok(false) => {}
                Err(error) => {
                    let _ = self.client.batch_execute("ROLLBACK");
                    let line = format!(
                        "{of} was not moved to {number}, so it may give out keys that are there: {}",
                        told(&error)
                    );
                    besides.insert(column, line);
                }
            }
        }
        besides
    }

    /// Rows of a query, each locked: those that others keep locked for longer than is waited are found as busy.
    fn find_locked(
        &mut self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        types: &[Type],
    ) -> Result<Vec<Found>, StoreError> {
        self.mark()?;
        let error = match self.query(&format!("{sql} FOR UPDATE OF t"), params) {
            Ok(rows) => {
                self.unmark(false)?;
                return rows.iter().map(|row| self.found(row, types)).collect();
            }
            Err(error) if is_locked(&error) => told(&error),
            Err(error) => return Err(self.table.met(&error)),
        };
        self.unmark(true)?;
        self.waited = true;
        let busy = |error: &postgres::Error| match is_locked(error) {
            true => StoreError::Busy { place: self.table.place.clone(), message: told(error) },
            false => self.table.met(error),
        };
        // A table that is locked as a whole is no less so now.
        self.client.batch_execute(NO_MORE_WAIT).map_err(|error| self.table.met(&error))?;
        let free = match self.client.query(&format!("{sql} FOR UPDATE OF t SKIP LOCKED"), params) {
            Ok(rows) => rows,
            Err(error) => return Err(busy(&error)),
        };
        let mut found: Vec<Found> = free.iter().map(|row| self.found(row, types)).collect::<Result<_, _>>()?;
        let places: Vec<Vec<Value>> = found.iter().map(|found| found.place.clone()).collect();
        for row in self.query(sql, params).map_err(|error| self.table.met(&error))? {
            let row = self.found(&row, types)?;
            if !places.contains(&row.place) {
                found.push(Found { busy: Some(error.clone()), ..row });
            }
        }
        Ok(found)
    }
}

impl Transaction for Work<'_> {
    fn find(&mut self, shape: &Shape, keys: &[Vec<Value>]) -> Result<Vec<Found>, StoreError> {
        let (columns, types) = self.table.selected(shape)?;
        let names: Vec<String> = shape.key_sources().map(String::from).collect();
        let kinds: Vec<Kind> = names.iter().map(|name| self.kind(name)).collect();
        let mut lists: Vec<Vec<Option<String>>> = vec![Vec::new(); names.len()];
        for key in keys {
            // A value that no column of this type holds is not there.
            if key.iter().zip(&kinds).all(|(value, kind)| can_be_in(value, *kind)) {
                for ((list, value), kind) in lists.iter_mut().zip(key).zip(&kinds) {
                    list.push(text(value, *kind));
                }
            }
        }
        let (mut parts, mut equal) = (Vec::new(), Vec::new());
        for (nth, name) in names.iter().enumerate() {
            parts.push(format!("unnest(${}::text[])::{} AS k{nth}", nth + 1, self.table.type_of(name)?.1));
            equal.push(format!("t.{} = w.k{nth}", ident(name)));
        }
        let sql = format!(
            "SELECT {PLACE}, {} FROM {} AS t JOIN (SELECT {}) AS w ON {} WHERE {}",
            columns.iter().map(|column| format!("t.{column}")).collect::<Vec<_>>().join(", "),
            quoted(&self.table.table),
            parts.join(", "),
            equal.join(" AND "),
            shape.condition()
        );
        let params: Vec<&(dyn ToSql + Sync)> = lists.iter().map(|list| list as &(dyn ToSql + Sync)).collect();
        if self.access == Access::Write {
            return self.find_locked(&sql, &params, &types);
        }
        let rows = self.query(&sql, &params).map_err(|error| self.table.met(&error))?;
        rows.iter().map(|row| self.found(row, &types)).collect()
    }

    fn find_by_reading(
        &mut self,
        shape: &Shape,
        wanted: &mut dyn FnMut(&[Value]) -> bool,
    ) -> Result<Vec<Found>, StoreError> {
        let (columns, types) = self.table.selected(shape)?;
        let columns: Vec<String> = columns.iter().map(|column| format!("t.{column}")).collect();
        let (columns, table) = (columns.join(", "), quoted(&self.table.table));
        let all = format!("SELECT {PLACE}, {columns} FROM {table} AS t WHERE {}", shape.condition());
        self.run(&format!("DECLARE reknit NO SCROLL CURSOR FOR {all}"))?;
        let mut found = Vec::new();
        loop {
            let sql = format!("FETCH {FETCHED_ROWS} FROM reknit");
            // Prepared for each cursor anew: it has columns of its own.
            let rows = self.client.query(&sql, &[]).map_err(|error| self.table.met(&error))?;
            for row in &rows {
                let row = self.found(row, &types)?;
                if wanted(&row.values) {
                    found.push(row);
                }
            }
            if rows.len() < FETCHED_ROWS {
                break;
            }
        }
        self.run("CLOSE reknit")?;
        if self.access == Access::Read || found.is_empty() {
            return Ok(found);
        }
        // Those that are to be written are locked, and read again.
        let lock = format!("{all} AND t.tableoid = $1::text::oid AND t.ctid = $2::text::tid");
        let mut locked = Vec::new();
        for row in found {
            let place: Vec<String> = row.place.iter().map(ToString::to_string).collect();
            locked.extend(self.find_locked(&lock, &[&place[0], &place[1]], &types)?);
        }
        Ok(locked)
    }

    fn write(&mut self, shape: &Shape, change: Change<'_>) -> Result<Written, StoreError> {
        let (columns, types) = self.table.selected(shape)?;
        let returning = format!("RETURNING {}", columns.join(", "));
        let table = quoted(&self.table.table);
        let mut params: Vec<Option<String>> = Vec::new();
        let name = |place: usize| shape.source(place);
        let sql = match change {
            Change::Insert(values) => {
                let mut marks = Vec::new();
                for (place, value) in values.iter().enumerate() {
                    params.push(text(value, self.kind(name(place))));
                    marks.push(self.cast(params.len(), name(place))?);
                }
                let names: Vec<String> = shape.sources().iter().map(|name| ident(name)).collect();
                let key: Vec<String> = shape.key_sources().map(ident).collect();
                // A row that is there and not meant is no row that has come meanwhile: it is refused by its key.
                let come = match shape.filter() {
                    None => format!("ON CONFLICT ({}) DO NOTHING", key.join(", ")),
                    Some(_) => String::new(),
                };
                let (names, marks) = (names.join(", "), marks.join(", "));
                format!("INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({marks}) {come} {returning}")
            }
            Change::Update(_, values) => {
                let mut set = Vec::new();
                for (place, value) in values {
                    params.push(text(value, self.kind(name(*place))));
                    set.push(format!("{} = {}", ident(name(*place)), self.cast(params.len(), name(*place))?));
                }
                format!("UPDATE {table} AS t SET {} {} {returning}", set.join(", "), here(params.len()))
            }
            Change::Delete(_) => {
                format!("DELETE FROM {table} AS t {}{} {returning}", here(0), self.table.unless_referred())
            }
        };
        if let Change::Update(place, _) | Change::Delete(place) = change {
            params.extend(place.iter().map(|part| Some(part.to_string())));
        }
        let bound: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
        let rows = match self.query(&sql, &bound) {
            Ok(rows) => rows,
            Err(error) if is_of_the_row(&error) => return Ok(Written::Refused(told(&error))),
            Err(error) if is_locked(&error) => {
                self.waited = true;
                return Ok(Written::Busy(told(&error)));
            }
            Err(error) => return Err(self.table.met(&error)),
        };
        match (rows.first(), change) {
            // It was found and locked: nobody else has taken it away.
            (None, Change::Delete(_)) => Ok(self.table.stays().map_or(Written::Moved, Written::Refused)),
            (None, _) => Ok(Written::Moved),
            (Some(_), Change::Delete(_)) => Ok(Written::Gone),
            (Some(row), _) => {
                let values = self.values(row, 0, &types)?;
                if let Change::Insert(_) = change {
                    self.table.note_given(shape, &values, &mut self.given);
                }
                Ok(Written::Row(values))
            }
        }
    }

    fn check(&mut self) -> Result<Option<String>, StoreError> {
        match self.client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE") {
            Ok(()) => Ok(None),
            Err(error) if is_of_the_row(&error) => Ok(Some(told(&error))),
            Err(error) => Err(self.table.met(&error)),
        }
    }

    fn mark(&mut self) -> Result<(), StoreError> {
        // One transaction waits once; what it keeps locked itself is not to wait for more.
        if self.waited && !std::mem::replace(&mut self.hurried, true) {
            self.run(NO_MORE_WAIT)?;
        }
        // What may be checked later is, by `check`.
        self.run("SAVEPOINT reknit; SET CONSTRAINTS ALL DEFERRED")
    }

    fn unmark(&mut self, back: bool) -> Result<(), StoreError> {
        self.run(if back { "ROLLBACK TO reknit; RELEASE reknit" } else { "RELEASE reknit" })
    }

    fn commit(mut self: Box<Self>) -> Result<Besides, StoreError> {
        self.run("COMMIT")?;
        let besides = self.move_sequences();
        self.table.put_back(self.client);
        Ok(besides)
    }
}

/// The row that two parameters behind so many others name.
fn here(before: usize) -> String {
    format!("WHERE t.tableoid = ${}::text::oid AND t.ctid = ${}::text::tid", before + 1, before + 2)
}

/// Whether others keep locked what is needed, or wait for what this transaction keeps.
fn is_locked(error: &postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED))
}

/// Whether a failure is about what was to be written: data that do not fit, a constraint, a trigger that refuses. Whatever
/// else it is, as a lock or a lost right, is about the table or the server.
fn is_of_the_row(error: &postgres::Error) -> bool {
    const RAISED: &str = "P0001";
    const GENERATED_ALWAYS: &str = "428C9";
    error.as_db_error().is_some_and(|error| {
        let code = error.code().code();
        code.starts_with("22") || code.starts_with("23") || [RAISED, GENERATED_ALWAYS].contains(&code)
    })
}
