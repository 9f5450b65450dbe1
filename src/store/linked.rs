//! A table of a database as a store: its records stay where they are, and an index beside them, in the home, knows what
//! they are worth.
//!
//! The index is an embedded store that keeps each record *bare*: the digest of its content in place of a value. So the tree,
//! its sketches and what a session asks of them are those of any store. The index's journal keeps what a repair overwrites in
//! full. What a kind of database does is its adapter's concern ([`Table`]), what is compared of a table that of its [`Shape`].

mod base;
mod changing;
#[doc(hidden)]
pub mod contract;
mod dataset;
mod doubt;
mod encoding;
mod feed;
#[cfg(feature = "linked-files")]
mod file;
mod index;
mod kept;
mod looking;
mod pace;
mod parked;
#[cfg(feature = "linked-postgres")]
mod postgres;
mod probe;
mod reading;
mod references;
mod script;
mod served;
mod shape;
#[cfg(feature = "linked-sqlite")]
mod sqlite;
mod terms;
#[cfg(all(test, feature = "embedded-redb"))]
mod tests;
mod zone;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reknit_core::row::{Kind, Value};

use super::StoreError;

#[cfg(feature = "linked-postgres")]
pub use self::postgres::{Postgres, PostgresAddress, Secret, SslMode, redacted};
pub use base::Since;
pub use changing::Wanted;
pub use dataset::{TableDataset, TableDatasetError};
pub use feed::{Drained, Feed, FeedKind, FeedMark, FeedState, Followed, Take, Waiting, feed_comment};
#[cfg(feature = "linked-files")]
pub use file::{FileFormat, TableFile, TableStore};
pub use index::Linked;
pub use pace::{Load, Pace, Rate, host_load};
pub use probe::{Probe, ProbedColumn, probe};
pub use references::{Kin, Reference};
pub use script::{Compared, Script, Scripted};
pub use served::{ServedTable, TableSession};
pub use shape::{Fit, Shape};
#[cfg(feature = "linked-sqlite")]
pub use sqlite::Sqlite;
pub use terms::{ShapeError, Terms, Zoned};
pub use zone::Zone;

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

/// Rows of a table, each as values in the order of the shape's columns; ends after an error.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<Vec<Value>, StoreError>> + Send + 'a>;

/// Some of them.
pub struct Page {
    /// The rows, which may become values only as they are taken.
    pub rows: Rows<'static>,
    /// From where another scan may go on behind them, as the adapter spells it; none if it may not.
    pub upto: Option<Vec<u8>>,
}

/// All of them, some at a time.
pub type Pages<'a> = Box<dyn Iterator<Item = Result<Page, StoreError>> + Send + 'a>;

/// One table of a database: what an adapter for another kind of database implements. Calls block.
///
/// # The contract
///
/// - **Looking changes nothing.** A scan, a look-up, and whatever tells of the table write nothing to its database: no row, no
///   temporary object, no lock that a writer would wait for longer than one slice is read.
/// - **Rows as they are.** A scan gives each row once, from one snapshot where the database has those, and in slices of the key's
///   order where that is asked for; values in the order of the shape's columns, as the database has them. What they mean is the
///   shape's concern.
/// - **Found is kept.** What a transaction that writes has found stays as it is until its end. Who waits for others waits no
///   longer than it was told to, and says so ([`StoreError::Busy`], [`Found::busy`], [`Written::Busy`]).
/// - **All or nothing.** What is committed is durable and whole, what is dropped was never there, and what is refused does no
///   harm to what else its transaction wrote, once that has gone back to its mark.
/// - **No row goes along.** A row that others refer to goes only if none of those would go or change with it.
/// - **The row as it is then.** What was written is given back as the database has it, rounded, cut or changed by a trigger.
/// - **A feed only marks.** It marks at least the keys that have changed, tells each gap as one ([`Drained::Lost`]), never slows
///   or fails a writer for being full, and goes without a trace.
///
/// Whoever implements it runs the suite [`table_contract`](crate::testing::table_contract).
pub trait Table: Send + Sync {
    /// Where it is, for people: without secrets.
    fn place(&self) -> &str;

    /// The same place as others may have typed it.
    fn also_typed(&self) -> Option<String> {
        None
    }

    /// What it is made of, as it was when it was opened.
    fn columns(&self) -> &Columns;

    /// All rows, each once, in no order that matters, from one snapshot where the database can. Writes nothing.
    ///
    /// # Errors
    /// [`StoreError::Database`], also while rows are read.
    fn scan(&self, shape: &Shape) -> Result<Rows<'_>, StoreError>;

    /// All rows, each once, as fast as `pace` lets: from one snapshot, or slice by slice in the order of the key, each slice
    /// from a snapshot of its own. Says whether it is by slices. Those alone tell from where another may go on; one that goes
    /// on `after` that gives the rows behind. Writes nothing.
    ///
    /// # Errors
    /// As for [`Table::scan`].
    fn scan_paced<'a>(
        &'a self,
        shape: &Shape,
        pace: &'a Arc<Pace>,
        _after: Option<&[u8]>,
    ) -> Result<(Pages<'a>, bool), StoreError> {
        Ok((reading::in_pages(pace::paced(self.scan(shape)?, pace)), false))
    }

    /// Whether its rows are for sure what the last whole scan by this value has read, so that none has to be looked at again.
    ///
    /// # Errors
    /// [`StoreError::Database`] if they are another's now, for a table that must stay as it is while it is compared.
    fn stands(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Whether a key is stored in one way only, so that [`Transaction::find`] finds each that is there.
    fn stores_keys_one_way(&self, shape: &Shape) -> bool;

    /// Begins a transaction; what it wrote is gone if it is dropped before its end. What others keep locked is waited for so
    /// long, once.
    ///
    /// # Errors
    /// [`StoreError::Database`], or [`StoreError::Busy`] if others keep all of it locked.
    fn begin(&self, access: Access, wait: Duration) -> Result<Box<dyn Transaction + '_>, StoreError>;

    /// What is to be known before the table is written.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn cautions(&self) -> Result<Cautions, StoreError>;

    /// Which of its columns refer to columns of its own.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn references(&self) -> Result<Vec<Reference>, StoreError> {
        Ok(Vec::new())
    }

    /// What it is called in its database, and which others its rows refer to.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn kin(&self) -> Result<Kin, StoreError> {
        Ok(Kin::default())
    }

    /// How changes are spelled for somebody else to make them, who waits so long for what others keep locked.
    ///
    /// # Errors
    /// [`StoreError::Database`] for what is never written.
    fn script(&self, wait: Duration) -> Result<Box<dyn Script + '_>, StoreError>;

    /// Which table of which database it is, and how far that has come.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn standing(&self) -> Result<Standing, StoreError> {
        Ok(Standing::default())
    }

    /// What this user lacks to do something with it, as the statements that give it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn lacking(&self, _: Purpose) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// What reading it whole takes.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn cost(&self, shape: &Shape) -> Result<Cost, StoreError>;

    /// The feed of the index of this name, installed or not.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the table cannot have one, with the reason.
    fn feed(&self, kind: FeedKind, shape: &Shape, index: &str) -> Result<Box<dyn Feed + '_>, StoreError>;

    /// What of feeds of this table is in the database, whoever made it, and what of feeds whose tables are gone.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn remains(&self) -> Result<Vec<Remains>, StoreError>;

    /// Runs statements in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Database`]; then nothing of them was done.
    fn run(&self, statements: &[String]) -> Result<(), StoreError>;
}

/// Which table of which database, and how far that has come, so that a table that was put in its place, or a database that
/// was restored, is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What it is known by; another for another table.
    pub identity: String,
    /// A number that only grows while it is the same.
    pub at: u64,
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads.
    Read,
    /// It writes too: what it finds stays as it is until its end.
    Write,
}

/// What is to be known before a table is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cautions {
    /// Why it is another's to write: it is kept by replication.
    pub kept: Option<String>,
    /// The triggers that run when it is written.
    pub triggers: Vec<String>,
    /// Other tables that lose or change rows when rows of this one are deleted.
    pub cascades: Vec<String>,
    /// Columns of this one with tables of which rows change when those do.
    pub follows: Vec<(String, String)>,
}

/// What a table is to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is read.
    Compare,
    /// It is written.
    Repair,
    /// It gets a feed of triggers.
    Triggers,
    /// It gets a feed by a slot.
    Slot,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Purpose; 4] = [Purpose::Compare, Purpose::Repair, Purpose::Triggers, Purpose::Slot];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Compare => "compare",
            Purpose::Repair => "repair",
            Purpose::Triggers => FeedKind::Triggers.name(),
            Purpose::Slot => FeedKind::Slot.name(),
        }
    }
}

/// What reading a table whole takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The statement that reads it.
    pub sql: String,
    /// Its rows, as the database counted them last; none if it never did.
    pub rows: Option<u64>,
    /// Bytes that they take where they are, at most; none if that cannot be told without reading them.
    pub bytes: Option<u64>,
}

/// The last time that a table was read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Rows that were read.
    pub rows: u64,
    /// How long that took, until they were in the index.
    pub time: Duration,
}

/// What a feed has in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// The name of the index that it is for.
    pub index: String,
    /// The statements that take it away.
    pub remove_sql: Vec<String>,
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Rows that one transaction writes, at least one.
    pub batch: usize,
    /// How long a transaction waits for what others keep locked.
    pub wait: Duration,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { batch: 500, wait: Duration::from_secs(1) }
    }
}

/// A row that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Where the database keeps it, in terms of the adapter; valid until the end of the transaction.
    pub place: Vec<Value>,
    /// Its values, in the order of the shape's columns.
    pub values: Vec<Value>,
    /// Why it cannot be written, if others keep it locked.
    pub busy: Option<String>,
}

/// One change of one row.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A row that was not found: all its values, in the order of the shape's columns.
    Insert(&'a [Value]),
    /// A row that was found, and the places and values of the columns that are to change.
    Update(&'a [Value], &'a [(usize, &'a Value)]),
    /// A row that was found goes.
    Delete(&'a [Value]),
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// It was made; the row as the database has it now.
    Row(Vec<Value>),
    /// It was made, and the row is gone.
    Gone,
    /// The row is not as it was found, or one has come meanwhile: nothing was changed.
    Moved,
    /// The database refuses it, with its reason. The transaction has to go back to its mark.
    Refused(String),
    /// Others keep something locked that it needs; as for what is refused.
    Busy(String),
}

/// What was done besides rows that were written, a line each, by what it was done to.
pub type Besides = BTreeMap<String, String>;

/// A transaction of a database.
pub trait Transaction {
    /// Rows of these keys, and maybe others that look like them, as far as the usual way to store a key finds them.
    ///
    /// # Errors
    /// [`StoreError::Database`], or [`StoreError::Busy`] if others keep all of the table locked.
    fn find(&mut self, shape: &Shape, keys: &[Vec<Value>]) -> Result<Vec<Found>, StoreError>;

    /// Those of all rows that are wanted; reads the whole table.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn find_by_reading(
        &mut self,
        shape: &Shape,
        wanted: &mut dyn FnMut(&[Value]) -> bool,
    ) -> Result<Vec<Found>, StoreError>;

    /// Makes one change.
    ///
    /// # Errors
    /// [`StoreError::Database`]; the transaction is then over.
    fn write(&mut self, shape: &Shape, change: Change<'_>) -> Result<Written, StoreError>;

    /// Checks what the database would check only at the end; its reason if something does not hold.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn check(&mut self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// Sets a mark to go back to.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn mark(&mut self) -> Result<(), StoreError>;

    /// Takes away the last mark; with what was written since, if it goes `back`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn unmark(&mut self, back: bool) -> Result<(), StoreError>;

    /// Ends it, durably. What was written is not there if this fails, unless the server was lost in the middle. Tells what was
    /// done besides the rows, by what that was done to.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn commit(self: Box<Self>) -> Result<Besides, StoreError>;
}
