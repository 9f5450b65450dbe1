//! The index of a table, and the table with it as a side of a session.

use std::path::Path;
use std::sync::Arc;

use reknit_core::query::{Applied, Ask, Cut, Incoming, Item, Overwrite, Page, Selection, View};
use reknit_core::row::RowError;
use reknit_core::sketch::Sketch;
use reknit_core::{CollectionId, DatasetKey, Definition, Keys, Millis, Position, Range, Summary};

use super::{Shape, Table};
use crate::store::{
    Durability, ImportError, ImportProgress, Imported, Listed, Options, Side, SideInfo, Store, StoreError,
};

/// A table of a database with its index.
pub struct Linked {
    table: Box<dyn Table>,
    shape: Shape,
    index: Store,
    /// Those of whole records.
    keys: Arc<Keys>,
}

impl Linked {
    /// The table with its index in `dir`, which is made if there is none. It holds what the table held when it was last read:
    /// see [`Linked::refresh`].
    ///
    /// # Errors
    /// What the index met, or [`StoreError::Definition`].
    pub fn open(
        dir: &Path,
        table: Box<dyn Table>,
        shape: Shape,
        (definition, key): (Definition, DatasetKey),
        options: &Options,
    ) -> Result<Linked, StoreError> {
        let options = Options { bare: true, ..options.clone() };
        let keys = Arc::new(Keys::new(&key));
        let index = match Store::open(dir, &options) {
            Err(StoreError::NotAStore { .. }) => Store::create(dir, definition, key, &options),
            opened => opened,
        }?;
        Ok(Linked { table, shape, index, keys })
    }

    /// Reads the table, and makes the index tell what it holds: what has changed, came and went since. Reads each row once,
    /// sorts digests on disk where memory does not suffice, and writes nothing but the index.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Duplicate`] for rows whose keys mean the same, or what the index met.
    pub fn refresh(&self, progress: &mut dyn FnMut(ImportProgress)) -> Result<Imported, StoreError> {
        let rows = self.table.scan(self.shape.columns())?;
        let bare = rows.map(|values| {
            let (key, row) = self.shape.record(values?).map_err(|error| self.unfit(&error))?;
            Ok((key, self.keys.content(&row).0.to_vec()))
        });
        self.index.first().import_exactly(bare, progress).map_err(|error| match error {
            ImportError::Source(error) | ImportError::Store(error) => error,
        })
    }

    /// How many rows it had when it was last read.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.index.cut().roots.iter().map(|root| root.count).sum()
    }

    /// What is compared of it.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    fn unfit(&self, error: &RowError) -> StoreError {
        StoreError::database(self.table.place(), format!("a row cannot be compared: {error}"))
    }

    fn unwritten(&self) -> StoreError {
        StoreError::database(self.table.place(), "databases are compared, not written, by this release")
    }
}

impl Side for Linked {
    fn describe(&self) -> SideInfo {
        let info = self.index.describe();
        SideInfo { keys: Arc::clone(&self.keys), place: self.table.place().into(), writable: false, ..info }
    }

    fn cut(&self) -> Result<Cut, StoreError> {
        Side::cut(&self.index)
    }

    fn expire(&self, upto: Option<Millis>) -> Result<Cut, StoreError> {
        Side::expire(&self.index, upto)
    }

    fn view(&self, collection: CollectionId, asks: &[Ask]) -> Result<Vec<View>, StoreError> {
        self.index.view(collection, asks)
    }

    fn items(&self, collection: CollectionId, ranges: &[Range]) -> Result<Vec<Item>, StoreError> {
        self.index.items(collection, ranges)
    }

    fn sketches(&self, collection: CollectionId, ranges: &[Range], cells: usize) -> Result<Vec<Sketch>, StoreError> {
        self.index.sketches(collection, ranges, cells)
    }

    fn rests(&self, collection: CollectionId, ranges: &[(Range, Vec<Range>)]) -> Result<Vec<Summary>, StoreError> {
        self.index.rests(collection, ranges)
    }

    fn list(
        &self,
        collection: CollectionId,
        range: Range,
        after: Option<(Position, Vec<u8>)>,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        self.index.list(collection, range, after, limit)
    }

    fn read(
        &self,
        _: CollectionId,
        _: &Selection,
        _: Option<(Position, Vec<u8>)>,
        _: usize,
    ) -> Result<Page, StoreError> {
        Err(self.unwritten())
    }

    fn apply(&self, _: CollectionId, _: Vec<Incoming>, _: Durability) -> Result<Applied, StoreError> {
        Err(self.unwritten())
    }

    fn overwrite(&self, _: CollectionId, _: Vec<Overwrite>, _: Durability) -> Result<Applied, StoreError> {
        Err(self.unwritten())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Side::sync(&self.index)
    }
}

#[cfg(all(test, feature = "embedded-redb"))]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use proptest::prelude::*;
    use reknit_core::row::{Kind, Value};
    use reknit_core::{DatasetId, Profile};

    use super::*;
    use crate::store::linked::{Column, Columns, Rows};
    use crate::store::{EngineKind, Op};

    /// A table in memory.
    struct Listed {
        columns: Columns,
        rows: Arc<Mutex<Vec<Vec<Value>>>>,
    }

    impl Table for Listed {
        fn place(&self) -> &str {
            "listed"
        }

        fn columns(&self) -> &Columns {
            &self.columns
        }

        fn scan(&self, _: &[(String, Kind)]) -> Result<Rows<'_>, StoreError> {
            let rows = self.rows.lock().expect("no panic").clone();
            Ok(Box::new(rows.into_iter().map(Ok)))
        }
    }

    fn columns() -> Columns {
        let column = |name: &str, kind| Column { name: name.into(), kind, declared: String::new() };
        Columns { columns: vec![column("id", Kind::Int), column("v", Kind::Text)], key: vec!["id".into()] }
    }

    fn shape() -> Shape {
        Shape::of_pair(("a", &columns()), ("b", &columns())).expect("a shape")
    }

    fn dataset() -> (Definition, DatasetKey) {
        let definition = Definition::simple(DatasetId([3; 16]), "table");
        let definition = Definition { profile: Profile::Content, key_index: false, ..definition };
        (definition, DatasetKey::from_bytes([5; 32]))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn an_index_is_worth_what_the_table_holds(
            tables in proptest::collection::vec(proptest::collection::btree_map(0_i128..60, 0_u8..3, 0..60), 1..5),
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let options = Options { engine: EngineKind::Redb, ..Options::default() };
            let shape = shape();
            let rows = Arc::new(Mutex::new(Vec::new()));
            let table = || Box::new(Listed { columns: columns(), rows: Arc::clone(&rows) });
            let mut last: BTreeMap<i128, u8> = BTreeMap::new();
            for held in tables {
                let row = |(id, v): (&i128, &u8)| vec![Value::Int(*id), Value::Text(format!("v{v}"))];
                *rows.lock().expect("no panic") = held.iter().map(row).rev().collect();
                // It goes on where it was.
                let linked = Linked::open(dir.path().join("index").as_path(), table(), shape.clone(), dataset(), &options).expect("opened");
                let read = linked.refresh(&mut |_| ()).expect("read");
                let changed = held.iter().filter(|(id, v)| last.get(*id) != Some(*v)).count()
                    + last.keys().filter(|id| !held.contains_key(*id)).count();
                prop_assert_eq!((read.records, read.changed), (held.len() as u64, changed as u64));
                // The same as of a store that holds the rows themselves.
                let (definition, key) = dataset();
                let whole = Store::in_memory(definition, key, &options).expect("a store");
                for values in held.iter().map(row) {
                    let (key, row) = shape.record(values).expect("a record");
                    whole.batch(vec![Op::put(key, row)], Durability::Buffered).expect("put");
                }
                prop_assert_eq!(Side::cut(&linked).expect("a cut").roots, whole.cut().roots);
                let report = linked.index.verify(&mut |_| ()).expect("verified");
                prop_assert!(report.is_sound(), "{:?}", report.wrong);
                last = held.clone();
            }
        }
    }

    #[test]
    fn an_index_is_no_store_and_a_store_no_index() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { engine: EngineKind::Redb, ..Options::default() };
        let (index, store) = (dir.path().join("index"), dir.path().join("store"));
        let table = || Box::new(Listed { columns: columns(), rows: Arc::default() });
        let open = |dir: &Path| Linked::open(dir, table(), shape(), dataset(), &options).map(drop);
        open(&index).expect("opened");
        let taken = Store::open(&index, &options).map(drop).expect_err("it is an index").to_string();
        assert!(taken.contains("is the index of a database"), "{taken}");
        let (definition, key) = dataset();
        drop(Store::create(&store, definition, key, &options).expect("created"));
        let taken = open(&store).expect_err("it is a store").to_string();
        assert!(taken.contains("is a store of records"), "{taken}");
    }
}
