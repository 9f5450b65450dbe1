//! Foreign keys: which there are, and those that SQLite looks at only when a transaction ends, looked at before that for the rows
//! that were written: so one row that breaks one is refused, and not all of its transaction.
//!
//! Those that hold at once are SQLite's own concern.

use rusqlite::types::Value as Stored;
use rusqlite::{Connection, params_from_iter};

use super::quoted;
use crate::store::linked::references::Along;
use crate::store::linked::{Columns, Reference};

/// A foreign key that is deferred, from or to a table.
#[derive(Clone, Debug)]
pub(super) struct Foreign {
    child: String,
    columns: Vec<String>,
    parent: String,
    referred: Vec<String>,
}

/// The deferred foreign keys of a table, on either side. Which ones are is told by nothing but the text of their tables.
pub(super) fn deferred(connection: &Connection, table: &str) -> Result<Vec<Foreign>, rusqlite::Error> {
    let mut statement = connection.prepare(
        "SELECT s.name, f.id, f.\"table\", f.\"from\", coalesce(f.\"to\", (SELECT name FROM pragma_table_info(f.\"table\") WHERE pk = f.seq + 1)) \
         FROM sqlite_schema s JOIN pragma_foreign_key_list(s.name) f WHERE s.type = 'table' \
         AND (s.name = ?1 COLLATE NOCASE OR f.\"table\" = ?1 COLLATE NOCASE) AND s.sql LIKE '%INITIALLY%DEFERRED%' \
         ORDER BY s.name, f.id, f.seq",
    )?;
    let (mut all, mut last): (Vec<Foreign>, Option<(String, i64)>) = (Vec::new(), None);
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let (child, parent): (String, String) = (row.get(0)?, row.get(2)?);
        let this = Some((child.clone(), row.get(1)?));
        if last != this {
            last = this;
            all.push(Foreign { child, parent, columns: Vec::new(), referred: Vec::new() });
        }
        if let (Some(foreign), Some(to)) = (all.last_mut(), row.get::<_, Option<String>>(4)?) {
            foreign.columns.push(row.get(3)?);
            foreign.referred.push(to);
        }
    }
    all.retain(|key| !key.columns.is_empty());
    Ok(all)
}

/// References of a table to itself, and those of others with which their rows go or change along; without names on the side
/// that is referred to the primary key is meant.
pub(super) fn referring(
    connection: &Connection,
    table: &str,
    columns: &Columns,
) -> Result<(Vec<Reference>, Vec<Along>), rusqlite::Error> {
    let mut statement = connection.prepare(
        "SELECT s.name, f.id, f.\"from\", f.\"to\", f.on_delete IN ('CASCADE', 'SET NULL', 'SET DEFAULT') \
         FROM sqlite_schema s JOIN pragma_foreign_key_list(s.name) f \
         WHERE s.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE ORDER BY s.name, f.id, f.seq",
    )?;
    let mut all: Vec<(String, Reference)> = Vec::new();
    let mut last: Option<(String, i64)> = None;
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let (child, id, cascades): (String, i64, bool) = (row.get(0)?, row.get(1)?, row.get(4)?);
        let (from, to): (String, Option<String>) = (row.get(2)?, row.get(3)?);
        let this = Some((child.clone(), id));
        if last != this {
            last = this;
            all.push((child.clone(), Reference { columns: Vec::new(), referred: Vec::new(), cascades }));
        }
        let Some((_, of)) = all.last_mut() else { continue };
        let name = |name: String| {
            columns.columns.iter().map(|column| &column.name).find(|known| known.eq_ignore_ascii_case(&name)).cloned()
        };
        // A column that is generated is none of those that are known here.
        let known = |of: String| name(of.clone()).unwrap_or(of);
        let to = to.map(known).or_else(|| columns.key.get(of.referred.len()).cloned());
        of.columns.push(if child.eq_ignore_ascii_case(table) { known(from) } else { from });
        of.referred.push(to.unwrap_or_default());
    }
    let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(child, _)| child.eq_ignore_ascii_case(table));
    let along = others.into_iter().filter(|(_, of)| of.cascades);
    let along = along.map(|(table, of)| Along { table, columns: of.columns, referred: of.referred });
    Ok((own.into_iter().map(|(_, of)| of).collect(), along.collect()))
}

/// The other tables that rows of a table refer to.
pub(super) fn parents(connection: &Connection, table: &str) -> Result<Vec<String>, rusqlite::Error> {
    let mut statement = connection.prepare(
        "SELECT DISTINCT s.name FROM pragma_foreign_key_list(?1) f JOIN sqlite_schema s ON s.name = f.\"table\" COLLATE NOCASE \
         WHERE s.type = 'table' AND s.name <> ?1 COLLATE NOCASE ORDER BY 1",
    )?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

impl Foreign {
    fn is_of(&self, table: &str) -> bool {
        self.child.eq_ignore_ascii_case(table)
    }

    fn is_to(&self, table: &str) -> bool {
        self.parent.eq_ignore_ascii_case(table)
    }
}

/// What was written, as far as deferred foreign keys may be broken by it.
#[derive(Default)]
pub(super) struct Touched {
    /// Where rows are now that came or changed.
    pub(super) places: Vec<Vec<Stored>>,
    /// What could be referred to and may be no more: which key, and the values.
    gone: Vec<(usize, Vec<Stored>)>,
}

impl Touched {
    /// Notes by what others may refer to a row that is about to go or to change.
    pub(super) fn goes(
        &mut self,
        (connection, keys): (&Connection, &[Foreign]),
        (table, here): (&str, &str),
        place: &[Stored],
    ) -> Result<(), rusqlite::Error> {
        for (nth, key) in keys.iter().enumerate().filter(|(_, key)| key.is_to(table)) {
            let columns = key.referred.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
            let sql = format!("SELECT {columns} FROM {} WHERE {here}", quoted(table));
            let width = key.referred.len();
            let values = connection.prepare_cached(&sql)?.query_row(params_from_iter(place), |row| {
                (0..width).map(|at| row.get(at)).collect::<Result<Vec<Stored>, _>>()
            })?;
            self.gone.push((nth, values));
        }
        Ok(())
    }

    /// Whether a key is broken by what was written; nothing is noted any more.
    pub(super) fn breaks(
        &mut self,
        (connection, keys): (&Connection, &[Foreign]),
        (table, here): (&str, &str),
    ) -> Result<bool, rusqlite::Error> {
        let Touched { places, gone } = std::mem::take(self);
        let equal = |one: &str, names: &[String], other: &str, others: &[String]| {
            let pairs = names.iter().zip(others).map(|(a, b)| format!("{one}.{} = {other}.{}", quoted(a), quoted(b)));
            pairs.collect::<Vec<_>>().join(" AND ")
        };
        for key in keys.iter().filter(|key| key.is_of(table)) {
            let held: Vec<String> = key.columns.iter().map(|name| format!("c.{} IS NOT NULL", quoted(name))).collect();
            let sql = format!(
                "SELECT 1 FROM {} AS c WHERE {here} AND {} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
                quoted(table),
                held.join(" AND "),
                quoted(&key.parent),
                equal("p", &key.referred, "c", &key.columns)
            );
            for place in &places {
                if connection.prepare_cached(&sql)?.exists(params_from_iter(place))? {
                    return Ok(true);
                }
            }
        }
        for (nth, values) in gone {
            let key = &keys[nth];
            let is = |of: &str, names: &[String]| {
                let each = names.iter().enumerate().map(|(at, name)| format!("{of}.{} = ?{}", quoted(name), at + 1));
                each.collect::<Vec<_>>().join(" AND ")
            };
            let sql = format!(
                "SELECT 1 FROM {} AS c WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
                quoted(&key.child),
                is("c", &key.columns),
                quoted(&key.parent),
                is("p", &key.referred)
            );
            if connection.prepare_cached(&sql)?.exists(params_from_iter(values))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
