//! A table of a database as a store: its records stay where they are, and an index beside them, in the home, knows what
//! they are worth.
//!
//! The index is an embedded store that keeps each record *bare*: the digest of its content in place of a value. So the tree,
//! its sketches and what a session asks of them are those of any store. What a kind of database does is its adapter's
//! concern ([`Table`]), what is compared of a table that of its [`Shape`].

mod index;
#[cfg(feature = "linked-postgres")]
mod postgres;
mod shape;
#[cfg(feature = "linked-sqlite")]
mod sqlite;

use std::fmt;

use reknit_core::row::{Kind, Value};

use super::StoreError;

#[cfg(feature = "linked-postgres")]
pub use self::postgres::{Postgres, redacted};
pub use index::Linked;
pub use shape::{Shape, ShapeError};
#[cfg(feature = "linked-sqlite")]
pub use sqlite::Sqlite;

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it means.
    pub kind: Kind,
    /// The type that the database declares.
    pub declared: String,
}

/// What a table is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// All columns that hold something of their own, in the table's order; what is generated is left out.
    pub columns: Vec<Column>,
    /// The columns that name a row, in the order of the key.
    pub key: Vec<String>,
}

impl fmt::Display for Column {
    /// What it means, and how that is declared.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.declared.as_str() {
            "" => f.write_str(self.kind.name()),
            declared => write!(f, "{} ({declared})", self.kind.name()),
        }
    }
}

impl Columns {
    /// A column by its name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Rows of a table, each as values in the order that was asked for; ends after an error.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<Vec<Value>, StoreError>> + 'a>;

/// One table of a database. Calls block.
pub trait Table: Send + Sync {
    /// Where it is, for people: without secrets.
    fn place(&self) -> &str;

    /// What it is made of, as it was when it was opened.
    fn columns(&self) -> &Columns;

    /// All rows, each once, in no order that matters, from one snapshot where the database can. Writes nothing.
    ///
    /// # Errors
    /// [`StoreError::Database`], also while rows are read.
    fn scan(&self, columns: &[(String, Kind)]) -> Result<Rows<'_>, StoreError>;
}
