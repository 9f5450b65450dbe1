//! Changes as PostgreSQL's SQL spells them: values as literals that take their column's type, rows guarded by all that they
//! held.

use std::collections::BTreeMap;
use std::time::Duration;

use postgres::types::{Kind as TypeKind, Type};
use reknit_core::row::{Kind, Value};

use super::decode::kind;
use super::encode::text;
use super::{Postgres, ident, quoted};
use crate::store::linked::{Change, Script, Shape};

pub(super) struct Statements<'a> {
    table: &'a Postgres,
    wait: Duration,
    /// The greatest number that is written to each column that has a sequence.
    given: BTreeMap<String, i64>,
}

impl<'a> Statements<'a> {
    pub(super) fn new(table: &'a Postgres, wait: Duration) -> Self {
        Statements { table, wait, given: BTreeMap::new() }
    }

    fn value(&self, value: &Value, column: &str) -> Result<String, String> {
        let kind = self.table.columns.column(column).map_or(Kind::Any, |column| column.kind);
        let Some(text) = text(value, kind) else { return Ok("NULL".into()) };
        spelled(&text).ok_or_else(|| format!("the column {column} cannot hold a zero byte"))
    }

    /// That a row is still what it was.
    fn is(&self, shape: &Shape, was: &[Value]) -> Result<String, String> {
        let mut all = Vec::new();
        for (column, value) in shape.sources().iter().zip(was) {
            let of = self.table.type_of(column).map_err(|error| error.to_string())?;
            let compared = format!("{}{}", ident(column), compared_as(&of.0, value));
            all.push(match value {
                Value::Null => format!("{compared} IS NULL"),
                Value::Json(json) if json.as_str().contains("\\u0000") => {
                    return Err(format!("what the column {column} holds cannot be compared by the server"));
                }
                value => format!("{compared} = {}", self.value(value, column)?),
            });
        }
        Ok(all.join(" AND "))
    }
}

impl Script for Statements<'_> {
    fn opens(&self) -> Vec<String> {
        vec!["SET client_encoding = 'UTF8';".into()]
    }

    fn begins(&self) -> Vec<String> {
        vec!["BEGIN;".into(), format!("SET LOCAL lock_timeout = {};", self.wait.as_millis())]
    }

    fn statement(&mut self, shape: &Shape, change: Change<'_>) -> Result<String, String> {
        let table = quoted(&self.table.table);
        Ok(match change {
            Change::Insert(values) => {
                let columns = shape.sources();
                let spelled = columns.iter().zip(values).map(|(column, value)| self.value(value, column));
                let spelled = spelled.collect::<Result<Vec<_>, _>>()?.join(", ");
                let names = columns.iter().map(|name| ident(name)).collect::<Vec<_>>().join(", ");
                let key = shape.key_sources().map(ident).collect::<Vec<_>>().join(", ");
                self.table.note_given(shape, values, &mut self.given);
                format!(
                    "INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({spelled}) ON CONFLICT ({key}) DO NOTHING;"
                )
            }
            Change::Update(was, values) => {
                let set = |(place, value): &(usize, &Value)| {
                    let column = shape.source(*place);
                    Ok(format!("{} = {}", ident(column), self.value(value, column)?))
                };
                let set = values.iter().map(set).collect::<Result<Vec<_>, String>>()?.join(", ");
                format!("UPDATE {table} SET {set} WHERE {};", self.is(shape, was)?)
            }
            Change::Delete(was) => {
                let (is, unless) = (self.is(shape, was)?, self.table.unless_referred());
                format!("DELETE FROM {table} AS t WHERE {is}{unless};")
            }
        })
    }

    fn closes(&self) -> Vec<String> {
        let given = self.given.iter();
        given.filter_map(|(column, number)| Some(format!("{};", self.table.moves_sequence(column, *number)?))).collect()
    }
}

/// What a column is compared as, where its own type knows no equality or one that is not meant.
fn compared_as(of: &Type, value: &Value) -> &'static str {
    let is_json = |of: &Type| matches!(*of, Type::JSON | Type::JSONB);
    match (of.kind(), value) {
        (TypeKind::Domain(base), _) => compared_as(base, value),
        (_, Value::Null) => "",
        // A text that is no JSON to us.
        (_, Value::Text(_)) if is_json(of) => "::text",
        _ if is_json(of) => "::jsonb",
        (TypeKind::Array(element), _) if is_json(element) => "::jsonb[]",
        _ if kind(of) == Kind::Other => "::text",
        _ => "",
    }
}

/// A text as a literal in one line, however the server is set to read backslashes; none if no literal holds it.
fn spelled(text: &str) -> Option<String> {
    if text.contains('\0') {
        return None;
    }
    if !text.chars().any(|c| c == '\\' || c.is_ascii_control()) {
        return Some(super::literal(text));
    }
    let mut out = String::from("E'");
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('\'');
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_one_line_and_mean_themselves() {
        let spelled = |text| spelled(text).unwrap_or_default();
        assert_eq!(spelled("it's"), "'it''s'");
        assert_eq!(spelled("a\\b'\n\r\t\u{1}2é:x"), "E'a\\\\b''\\n\\r\\t\\x012é:x'");
        assert_eq!(super::spelled("a\0b"), None);
    }
}
