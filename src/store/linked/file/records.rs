//! The records of an embedded store as the rows of a table that is read: those of one collection, with the columns that they were
//! imported with.
//!
//! How records are kept is the store's concern; unlike a file it may be written meanwhile, as any table may.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reknit_core::row::{Kind, Row, Value, decode};

use super::spelled::{document, meant};
use super::transaction::Reading;
use crate::format::{Format, Layout};
use crate::store::linked::{
    Access, Cautions, Column, Columns, Cost, Feed, FeedKind, Purpose, Remains, Rows, Script, Shape, Table, Transaction,
};
use crate::store::{Collection, Store, StoreError};

const READ_ONLY: &str = "the records of a store are read beside a table, and never written; make the other side the one that is: \
                         --to";

/// A collection of an embedded store, as a table.
pub struct TableStore {
    store: Store,
    collection: Collection,
    layout: Layout,
    place: String,
    columns: Columns,
    /// The commit number of the store while all of it was read.
    read: Arc<Mutex<Option<u64>>>,
}

impl TableStore {
    /// A collection of a store, the first one unless another is named; `place` is what it is called.
    ///
    /// # Errors
    /// [`StoreError::NoCollection`], or [`StoreError::Database`] for records that are raw bytes, without columns.
    pub fn open(store: Store, collection: Option<&str>, place: String) -> Result<TableStore, StoreError> {
        let collection = collection.map_or_else(|| Ok(store.first()), |name| store.collection(name))?;
        let layout = Layout::from_bytes(&collection.layout()?.unwrap_or_default());
        let layout = layout.map_err(|error| StoreError::database(&place, error.to_string()))?;
        if layout.format() == Format::Kv {
            let message = "its records are raw bytes without columns, so they are compared with no table; rows that were imported \
                           from CSV or JSON Lines have columns";
            return Err(StoreError::database(&place, message));
        }
        // As a file of the same format is taken: a field of CSV is text whatever it means.
        let kind = if layout.format() == Format::Csv { Kind::Spelled } else { Kind::Any };
        let column = |name: &String| Column { name: name.clone(), kind, declared: String::new() };
        let columns =
            Columns { columns: layout.columns().iter().map(column).collect(), key: layout.key_columns().to_vec() };
        Ok(TableStore { store, collection, layout, place, columns, read: Arc::default() })
    }

    fn refused(&self) -> StoreError {
        StoreError::database(&self.place, READ_ONLY)
    }

    /// The values of a record in the order of the shape's columns.
    fn values(&self, shape: &Shape, key: &[u8], row: &Row) -> Result<Vec<Value>, StoreError> {
        let one = |(name, (_, kind)): (&String, &(String, Kind))| {
            let value = row.get(name).cloned().ok_or_else(|| {
                let message = format!(
                    "the record {} has no column {name}; --ignore {name} leaves that out",
                    self.layout.show_key(key)
                );
                StoreError::database(&self.place, message)
            })?;
            let nested = self.layout.format() == Format::Jsonl && *kind == Kind::Json;
            Ok(meant(*kind, if nested { document(value) } else { value }))
        };
        shape.sources().iter().zip(shape.columns()).map(one).collect()
    }
}

impl Table for TableStore {
    fn place(&self) -> &str {
        &self.place
    }

    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn scan(&self, shape: &Shape) -> Result<Rows<'_>, StoreError> {
        if shape.filter().is_some() {
            let message =
                "a store knows no SQL, so --where cannot be had of it; compare tables, or a store of those rows alone";
            return Err(StoreError::database(&self.place, message));
        }
        let unspelled = |(_, kind): &&(String, Kind)| matches!(kind, Kind::Array | Kind::Other);
        if let Some((name, kind)) = shape.columns().iter().find(unspelled) {
            let message = format!(
                "the column {name} is of a type ({}) whose values a store of rows does not spell in one way, so it cannot be \
                 compared; --ignore {name} leaves it out",
                kind.name()
            );
            return Err(StoreError::database(&self.place, message));
        }
        let (shape, begun) = (shape.clone(), self.store.cut().commit);
        let rows = self.collection.scan(b"")?.map(move |record| {
            let (key, value) = record?;
            let row = decode(&value).map_err(|error| {
                let message = format!("the record {} is no row: {error}", self.layout.show_key(&key));
                StoreError::database(&self.place, message)
            })?;
            self.values(&shape, &key, &row)
        });
        // Its end is reached only if no row was an error.
        let ended = std::iter::once_with(move || {
            let still = self.store.cut().commit == begun;
            *self.read.lock().unwrap_or_else(PoisonError::into_inner) = still.then_some(begun);
        });
        Ok(Box::new(rows.map(Some).chain(ended.map(|()| None)).flatten()))
    }

    fn stands(&self) -> Result<bool, StoreError> {
        let read = *self.read.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(read == Some(self.store.cut().commit))
    }

    fn stores_keys_one_way(&self, _: &Shape) -> bool {
        // What is sought is compared with what each key means.
        true
    }

    fn begin(&self, access: Access, _: Duration) -> Result<Box<dyn Transaction + '_>, StoreError> {
        if access == Access::Write {
            return Err(self.refused());
        }
        Ok(Box::new(Reading { table: self, refused: READ_ONLY }))
    }

    fn cautions(&self) -> Result<Cautions, StoreError> {
        Ok(Cautions::default())
    }

    fn script(&self, _: Duration) -> Result<Box<dyn Script + '_>, StoreError> {
        Err(self.refused())
    }

    fn lacking(&self, purpose: Purpose) -> Result<Vec<String>, StoreError> {
        if purpose == Purpose::Compare { Ok(Vec::new()) } else { Err(self.refused()) }
    }

    fn cost(&self, _: &Shape) -> Result<Cost, StoreError> {
        let place = usize::from(self.collection.id().0);
        let rows = self.store.cut().roots.get(place).map(|root| root.count);
        Ok(Cost { sql: format!("all records of {}, in the order of their keys", self.place), rows, bytes: None })
    }

    fn feed(&self, _: FeedKind, _: &Shape, _: &str) -> Result<Box<dyn Feed + '_>, StoreError> {
        Err(StoreError::database(&self.place, "a store has no feed for its records beside tables, and is read whole"))
    }

    fn remains(&self) -> Result<Vec<Remains>, StoreError> {
        Ok(Vec::new())
    }

    fn run(&self, _: &[String]) -> Result<(), StoreError> {
        Err(self.refused())
    }
}
