//! Triggers of SQLite that write the keys of changed rows to a table of their own.
//!
//! Where a statement replaces rows that are in its way (`OR REPLACE`), SQLite deletes them without a trigger; those are marked
//! before they go. Writers are serial: what comes after a look has a greater number.

use std::collections::BTreeSet;

use reknit_core::row::Value;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Sqlite, connect, quoted, value};
use crate::store::StoreError;
use crate::store::linked::{Access, Drained, Feed, FeedMark, Remains, Shape, Take, Waiting, feed_comment};

/// Changes that the feed holds; past it one row says that everything may have changed.
const CHANGES_MAX: u64 = 1_000_000;
/// Keys that are taken at once.
const KEYS: usize = 1_000;

/// The feed of one table for one index.
pub(super) struct Triggers<'a> {
    table: &'a Sqlite,
    /// How the names of all that belongs to it begin.
    name: String,
    key: Vec<String>,
    /// The columns of unique indexes beside the key.
    others: Vec<Vec<String>>,
    /// Whether the key is the row's number.
    keyed_by_number: bool,
    /// The name of the row's number, if that is no part of the key and rows may be replaced by it.
    number: Option<String>,
}

impl<'a> Triggers<'a> {
    pub(super) fn new(table: &'a Sqlite, shape: &Shape, index: &str) -> Result<Self, StoreError> {
        let key: Vec<String> = shape.key_sources().map(String::from).collect();
        let connection = connect(&table.file, Access::Read).map_err(|error| table.met(&error))?;
        let others = unique_beside(&connection, &table.name, &key).map_err(|error| table.met(&error))?;
        let Some((others, keyed_by_number)) = others else {
            let message = "the table has a unique index over an expression or over some rows only: rows that it makes a \
                           statement replace would go unnoticed, so there is no feed for it; it is read whole";
            return Err(StoreError::database(&table.place, message));
        };
        // A table that numbers its rows replaces by that number too, unless the key is the number.
        let numbered = table.columns.column(&table.order[0]).is_none();
        let number = table.order.first().filter(|_| numbered && !keyed_by_number).cloned();
        Ok(Self { table, name: format!("reknit_{index}"), key, others, keyed_by_number, number })
    }

    fn dirty(&self) -> String {
        quoted(&format!("{}_dirty", self.name))
    }

    fn feed(&self) -> String {
        quoted(&format!("{}_feed", self.name))
    }

    fn columns(&self) -> String {
        (0..self.key.len()).map(|nth| format!("k{nth}")).collect::<Vec<_>>().join(", ")
    }

    /// The key of `new` or `old`.
    fn key_of(&self, row: &str) -> String {
        self.key.iter().map(|name| format!("{row}.{}", quoted(name))).collect::<Vec<_>>().join(", ")
    }

    /// Asked for one by one, the least and the greatest are found without reading the table.
    fn full(&self) -> String {
        let end = |which: &str| format!("(SELECT {which}(n) FROM {})", self.dirty());
        format!("(coalesce({} - {}, 0) >= {CHANGES_MAX})", end("max"), end("min"))
    }

    /// What marks the keys that a query gives.
    fn note(&self, query: &str, condition: &str) -> String {
        format!(
            "INSERT INTO {} ({}) {query} WHERE NOT {} AND ({condition});",
            self.dirty(),
            self.columns(),
            self.full()
        )
    }

    /// What says once, where no more keys are held, that everything may have changed.
    fn overflow(&self) -> String {
        let dirty = self.dirty();
        format!(
            "INSERT INTO {dirty} (every) SELECT 1 WHERE {} AND (SELECT every FROM {dirty} ORDER BY n DESC LIMIT 1) IS NOT 1;",
            self.full()
        )
    }

    fn triggers(&self) -> Vec<(String, String)> {
        let table = quoted(&self.table.name);
        let named = |what: &str| format!("{}_{what}", self.name);
        let make = |what: &str, when: &str, body: &str| {
            let name = named(what);
            let sql = format!(
                "CREATE TRIGGER {} {when} ON {table} FOR EACH ROW BEGIN {body} {} END",
                quoted(&name),
                self.overflow()
            );
            (name, sql)
        };
        let select = |row: &str| format!("SELECT {}", self.key_of(row));
        let moved = format!("({}) IS NOT ({})", self.key_of("old"), self.key_of("new"));
        let mut all = vec![
            make("insert", "AFTER INSERT", &self.note(&select("new"), "1")),
            make("delete", "AFTER DELETE", &self.note(&select("old"), "1")),
            make(
                "update",
                "AFTER UPDATE",
                &[self.note(&select("new"), "1"), self.note(&select("old"), &moved)].join(" "),
            ),
        ];
        // A key that only looks the same, as by a collation, is in the way too, and is another.
        let key = (!self.keyed_by_number).then(|| self.key.clone());
        let number = self.number.iter().map(|name| vec![name.clone()]);
        let ways: Vec<Vec<String>> = self.others.iter().cloned().chain(key).chain(number).collect();
        if !ways.is_empty() {
            let from = format!("SELECT {} FROM {table} AS t", self.key_of("t"));
            let in_the_way = |columns: &Vec<String>| {
                let equal = columns.iter().map(|name| format!("t.{0} = new.{0}", quoted(name)));
                self.note(&from, &equal.collect::<Vec<_>>().join(" AND "))
            };
            let body = ways.iter().map(in_the_way).collect::<Vec<_>>().join(" ");
            all.push(make("replace", "BEFORE INSERT", &body));
            all.push(make("replace_update", "BEFORE UPDATE", &body));
        }
        all
    }

    fn met(&self, error: &rusqlite::Error) -> StoreError {
        self.table.met(error)
    }

    /// Why the feed cannot be read on, if it cannot.
    fn gap(&self, connection: &Connection, mark: &FeedMark) -> Result<Option<String>, rusqlite::Error> {
        for (name, should) in self.triggers() {
            let query = "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?";
            let sql: Option<String> = connection.query_row(query, [&name], |row| row.get(0)).optional()?;
            if sql.as_deref() != Some(should.as_str()) {
                return Ok(Some(format!("its trigger {name} is not there, or not as it was made")));
            }
        }
        let known: Option<String> =
            connection.query_row(&format!("SELECT nonce FROM {}", self.feed()), [], |row| row.get(0)).optional()?;
        if known.as_ref() != Some(&mark.nonce) && (known.is_none() || known != mark.next) {
            return Ok(Some("the database was put back to an earlier state, or another home has read its feed".into()));
        }
        let every =
            format!("SELECT count(*) FROM (SELECT every FROM {} ORDER BY n DESC LIMIT 1) WHERE every", self.dirty());
        let every: i64 = connection.query_row(&every, [], |row| row.get(0))?;
        if every > 0 {
            return Ok(Some(format!("more than {CHANGES_MAX} changes came since it was read")));
        }
        let why = "the schema of the file was changed since it was read, or the file was vacuumed";
        Ok((layout(connection)? != mark.layout).then(|| why.into()))
    }

    fn changes(&self, connection: &Connection, take: Take<'_>) -> Result<i64, StoreError> {
        let query = format!("SELECT {}, n FROM {} ORDER BY n", self.columns(), self.dirty());
        let mut statement = connection.prepare(&query).map_err(|error| self.met(&error))?;
        let mut rows = statement.query([]).map_err(|error| self.met(&error))?;
        let (mut keys, mut last) = (Vec::new(), 0);
        while let Some(row) = rows.next().map_err(|error| self.met(&error))? {
            let key: Result<Vec<Value>, _> = (0..self.key.len()).map(|place| value(row, place)).collect();
            keys.push(key.map_err(|error| self.met(&error))?);
            last = row.get(self.key.len()).map_err(|error| self.met(&error))?;
            if keys.len() == KEYS {
                take(std::mem::take(&mut keys))?;
            }
        }
        if !keys.is_empty() {
            take(keys)?;
        }
        Ok(last)
    }
}

impl Feed for Triggers<'_> {
    fn install_sql(&self) -> Vec<Vec<String>> {
        let about = feed_comment(&self.table.name, &self.table.place);
        let mut all = vec![
            format!("CREATE TABLE {} (n INTEGER PRIMARY KEY, every INTEGER, {})", self.dirty(), self.columns()),
            format!("CREATE TABLE {} (one INTEGER PRIMARY KEY CHECK (one = 1), nonce TEXT, about TEXT)", self.feed()),
            format!("INSERT INTO {} VALUES (1, '', '{}')", self.feed(), about.replace('\'', "''")),
        ];
        all.extend(self.triggers().into_iter().map(|(_, sql)| sql));
        vec![all]
    }

    fn remove_sql(&self) -> Vec<String> {
        remove_sql(&self.name)
    }

    fn restart(&self, nonce: &str) -> Result<Option<FeedMark>, StoreError> {
        let run = || {
            let mut connection = connect(&self.table.file, Access::Write)?;
            let transaction = connection.transaction()?;
            transaction.execute(&format!("DELETE FROM {}", self.dirty()), [])?;
            transaction.execute(&format!("UPDATE {} SET nonce = ?", self.feed()), [nonce])?;
            let layout = layout(&transaction)?;
            transaction.commit()?;
            Ok(FeedMark { nonce: nonce.into(), layout, ..FeedMark::default() })
        };
        match run() {
            Ok(mark) => Ok(Some(mark)),
            // Its tables are gone.
            Err(rusqlite::Error::SqliteFailure(_, Some(said))) if said.starts_with("no such") => Ok(None),
            Err(error) => Err(self.met(&error)),
        }
    }

    fn drain(&self, mark: &FeedMark, take: Take<'_>) -> Result<Drained, StoreError> {
        let connection = connect(&self.table.file, Access::Read).map_err(|error| self.met(&error))?;
        connection.execute_batch("BEGIN").map_err(|error| self.met(&error))?;
        match self.gap(&connection, mark) {
            Ok(Some(why)) => return Ok(Drained::Lost(why)),
            // Its tables are gone.
            Err(rusqlite::Error::SqliteFailure(_, Some(said))) if said.starts_with("no such") => {
                return Ok(Drained::Lost(said));
            }
            Err(error) => return Err(self.met(&error)),
            Ok(None) => {}
        }
        let last = self.changes(&connection, take)?;
        drop(connection);
        if last == 0 {
            return Ok(Drained::Untold);
        }
        let told = || {
            let mut connection = connect(&self.table.file, Access::Write)?;
            let transaction = connection.transaction()?;
            transaction.execute(&format!("DELETE FROM {} WHERE n <= ?", self.dirty()), [last])?;
            transaction.execute(&format!("UPDATE {} SET nonce = ?", self.feed()), params![mark.next])?;
            transaction.commit()
        };
        // Whoever may not write it, or has to wait for too long, reads the same again.
        Ok(match (told(), mark.next.clone()) {
            (Ok(()), Some(nonce)) => {
                Drained::Read { mark: FeedMark { nonce, next: None, ..mark.clone() }, more: false }
            }
            _ => Drained::Untold,
        })
    }

    fn waiting(&self) -> Result<Waiting, StoreError> {
        let count = || {
            let connection = connect(&self.table.file, Access::Read)?;
            connection.query_row(&format!("SELECT count(*) FROM {}", self.dirty()), [], |row| row.get::<_, i64>(0))
        };
        let waiting = |n: i64| Waiting { changes: Some(n.unsigned_abs()), kept_bytes: None };
        count().map(waiting).map_err(|error| self.met(&error))
    }
}

/// What changes with each change of the schema: columns that go and come under one name change rows without a trigger.
fn layout(connection: &Connection) -> Result<String, rusqlite::Error> {
    connection.query_row("PRAGMA schema_version", [], |row| row.get::<_, i64>(0)).map(|version| version.to_string())
}

/// What takes away all whose names begin so.
fn remove_sql(name: &str) -> Vec<String> {
    let all = ["insert", "delete", "update", "replace", "replace_update"];
    let trigger = |what: &&str| format!("DROP TRIGGER IF EXISTS {}", quoted(&format!("{name}_{what}")));
    let mut all: Vec<String> = all.iter().map(trigger).collect();
    all.extend(["dirty", "feed"].map(|what| format!("DROP TABLE IF EXISTS {}", quoted(&format!("{name}_{what}")))));
    all
}

/// What feeds have in a database, of those of a table and of those whose tables are gone.
pub(super) fn remains(connection: &Connection, table: &str) -> Result<Vec<Remains>, rusqlite::Error> {
    let found = "SELECT substr(d.name, 8, length(d.name) - 13) FROM sqlite_schema d \
                 LEFT JOIN sqlite_schema t ON t.type = 'trigger' AND t.name = substr(d.name, 1, length(d.name) - 5) || 'insert' \
                 WHERE d.type = 'table' AND d.name LIKE 'reknit\\_%\\_dirty' ESCAPE '\\' \
                 AND (t.name IS NULL OR t.tbl_name = ? COLLATE NOCASE) ORDER BY 1";
    let mut statement = connection.prepare(found)?;
    let one = |index: String| Remains { remove_sql: remove_sql(&format!("reknit_{index}")), index };
    statement.query_map([table], |row| row.get(0).map(one))?.collect()
}

/// The columns of unique indexes.
type Unique = Vec<Vec<String>>;

/// The columns of each unique index beside the key, and whether the key needs none since it is the row's number; none if one of
/// them is not over plain columns of all rows.
fn unique_beside(
    connection: &Connection,
    table: &str,
    key: &[String],
) -> Result<Option<(Unique, bool)>, rusqlite::Error> {
    let mut statement =
        connection.prepare("SELECT name, partial FROM pragma_index_list(?) WHERE \"unique\" = 1 ORDER BY name")?;
    let indexes: Vec<(String, bool)> =
        statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let mut all = Vec::new();
    for (index, partial) in indexes {
        let mut of = connection.prepare("SELECT name FROM pragma_index_info(?) ORDER BY seqno")?;
        let names = of.query_map([index], |row| row.get::<_, Option<String>>(0))?;
        let names: Option<Vec<String>> = names.collect::<Result<_, _>>()?;
        match names {
            Some(names) if !partial => all.push(names),
            _ => return Ok(None),
        }
    }
    // The key has its own way of being in the way.
    let found = all.len();
    let key: BTreeSet<&String> = key.iter().collect();
    all.retain(|names| names.iter().collect::<BTreeSet<_>>() != key);
    let keyed_by_number = all.len() == found;
    Ok(Some((all, keyed_by_number)))
}
