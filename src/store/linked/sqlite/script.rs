//! Changes as SQLite's SQL spells them: values as they are stored, rows guarded by all that they held.

use std::time::Duration;

use reknit_core::row::{Kind, Value};
use rusqlite::types::Value as Stored;

use super::transaction::stored;
use super::{Sqlite, quoted};
use crate::store::linked::{Change, Script, Shape};

pub(super) struct Statements<'a> {
    pub(super) table: &'a Sqlite,
    pub(super) wait: Duration,
}

impl Statements<'_> {
    /// A value as it will be stored in a column.
    fn value(&self, value: &Value, column: &str) -> String {
        let kind = self.table.columns.column(column).map_or(Kind::Any, |column| column.kind);
        literal(&stored(value, kind))
    }
}

impl Script for Statements<'_> {
    fn opens(&self) -> Vec<String> {
        vec!["PRAGMA foreign_keys = ON;".into(), format!("PRAGMA busy_timeout = {};", self.wait.as_millis())]
    }

    fn begins(&self) -> Vec<String> {
        vec!["BEGIN IMMEDIATE;".into()]
    }

    fn statement(&mut self, shape: &Shape, change: Change<'_>) -> Result<String, String> {
        let table = quoted(&self.table.name);
        Ok(match change {
            Change::Insert(values) => {
                let columns = shape.sources();
                let spelled = columns.iter().zip(values).map(|(column, value)| self.value(value, column));
                let spelled = spelled.collect::<Vec<_>>().join(", ");
                let names = columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
                let key = shape.key_sources().map(quoted).collect::<Vec<_>>().join(", ");
                format!("INSERT INTO {table} ({names}) VALUES ({spelled}) ON CONFLICT ({key}) DO NOTHING;")
            }
            Change::Update(was, values) => {
                let set = values.iter().map(|(place, value)| {
                    let column = shape.source(*place);
                    format!("{} = {}", quoted(column), self.value(value, column))
                });
                format!("UPDATE {table} SET {} WHERE {};", set.collect::<Vec<_>>().join(", "), is(shape, was))
            }
            Change::Delete(was) => {
                format!("DELETE FROM {table} AS t WHERE {}{};", is(shape, was), self.table.unless_referred())
            }
        })
    }

    fn closes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// That a row is still what it was: as it was stored, whatever its columns take for equal.
fn is(shape: &Shape, was: &[Value]) -> String {
    let one = |(place, (column, value)): (usize, (&String, &Value))| {
        let (column, spelled) = (quoted(column), literal(&stored(value, Kind::Any)));
        match value {
            Value::Text(_) => format!("{column} IS {spelled} COLLATE BINARY"),
            // A text that is no Unicode was read as bytes. A key is to be found by its index.
            Value::Bytes(_) if !shape.key_places().contains(&place) => format!("CAST({column} AS BLOB) IS {spelled}"),
            _ => format!("{column} IS {spelled}"),
        }
    };
    shape.sources().iter().zip(was).enumerate().map(one).collect::<Vec<_>>().join(" AND ")
}

/// A value as a literal in one line.
fn literal(value: &Stored) -> String {
    match value {
        Stored::Null => "NULL".into(),
        // The smallest one is no literal: its digits without the sign are too many.
        Stored::Integer(i64::MIN) => format!("({} - 1)", i64::MIN + 1),
        Stored::Integer(number) => number.to_string(),
        Stored::Real(number) if number.is_nan() => "NULL".into(),
        Stored::Real(number) if number.is_infinite() => if *number > 0.0 { "9e999" } else { "-9e999" }.into(),
        Stored::Real(number) => format!("{number:?}"),
        Stored::Blob(bytes) => format!("x'{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        Stored::Text(text) => spelled(text),
    }
}

/// A text in one line: what controls is told by its number, since a shell takes some of it for itself.
fn spelled(text: &str) -> String {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let controls = rest.starts_with(|c: char| c.is_ascii_control());
        let end = rest.find(|c: char| c.is_ascii_control() != controls).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        parts.push(match controls {
            true => format!("char({})", part.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ")),
            false => format!("'{}'", part.replace('\'', "''")),
        });
        rest = after;
    }
    match parts.len() {
        0 => "''".into(),
        1 => parts.remove(0),
        _ => format!("({})", parts.join(" || ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_mean_what_they_were_made_of() {
        let connection = rusqlite::Connection::open_in_memory().expect("a database");
        let numbers =
            [0.1, -0.0, 1e300, 5.0, f64::MIN_POSITIVE, f64::MAX, 5e-324, 1.0 / 3.0, f64::INFINITY, -f64::INFINITY];
        let texts = ["", "it's", "a\0b\r\n", "\n", "--", "é;\u{2028}", "\r\r'\t'"];
        let mut all: Vec<Stored> = numbers.into_iter().map(Stored::Real).collect();
        all.extend(texts.map(|text| Stored::Text(text.into())));
        all.extend([i64::MIN, -1, 0, i64::MAX].map(Stored::Integer));
        all.extend([Stored::Null, Stored::Blob(vec![]), Stored::Blob(vec![0, 255])]);
        for value in all {
            let spelled = literal(&value);
            assert!(!spelled.contains(['\n', '\r', '\0']), "{spelled}");
            let read: Stored =
                connection.query_row(&format!("SELECT {spelled}"), [], |row| row.get(0)).expect("a value");
            assert_eq!(read, value, "{spelled}");
        }
    }
}
