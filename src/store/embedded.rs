//! The store that owns its records: rows of an engine on disk, changed together with the trees over them.
//! Which bytes stand for what is said in [`rows`]; engines know nothing of it.

mod backup;
mod bases;
mod cache;
mod changed;
mod collecting;
mod commit;
mod expiring;
#[cfg(feature = "embedded-redb")]
mod fill;
mod following;
mod giving_way;
mod import;
mod journal;
mod lives;
mod lookahead;
mod lookouts;
mod members;
mod open;
mod planted;
mod quarantine;
mod read;
mod renew;
mod rows;
mod scan;
mod seen;
mod sketches;
mod sorting;
mod tree;
mod updating;
mod verify;
mod walk;
mod watch;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};

use reknit_core::bounds::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use reknit_core::policy::Policy;
use reknit_core::query::Cut;
use reknit_core::tree::Summary;
use reknit_core::{Actor, CollectionId, Content, DatasetKey, Definition, Keys, Millis, Stamp, State};

use super::StoreError;
use super::engine::{Durability, Engine};
use super::error::shown;
use commit::{Group, submit};
use giving_way::submit_first;
use write::{Fate, Write, Writer};

pub(crate) use bases::Changed;
pub use changed::{ChangedAfter, ChangedRecord};
pub(crate) use following::Followed;
pub use giving_way::GivesWay;
pub(crate) use import::{BareRows, Keeping, SortedUpto};
pub use import::{ImportError, ImportProgress, Imported};
pub use journal::{Did, Earlier, JournalLimits, KeepHistory, Skipped, Undo, Undone};
pub(crate) use journal::{PutsBack, Writing};
#[cfg(feature = "node")]
pub(crate) use lives::Acquaintance;
pub use lookouts::LookOut;
pub use open::Options;
pub(crate) use open::random;
pub use quarantine::{Quarantined, Release, Released, Why};
pub(crate) use renew::{RENEWED, renew};
pub use scan::{Scan, ScanPositions};
pub use seen::{Conflict, Resolution, Resolved};
pub use verify::{Part, Report};
pub use watch::{Cursor, Event, Lagged, Origin, Watcher};

/// The row of commit number and clock.
const HEAD: &str = "head";

/// A store of one dataset in a directory of its own. Cloning gives another handle; calls block and need no runtime.
///
/// ```
/// use reknit::core::{DatasetId, DatasetKey, Definition};
/// use reknit::store::{Options, Store};
///
/// # let home = tempfile::tempdir()?;
/// let definition = Definition::simple(DatasetId([7; 16]), "cities");
/// let store = Store::create(&home.path().join("cities"), definition, DatasetKey::from_bytes([9; 32]), &Options::default())?;
/// store.put(b"bern", b"Bern")?;
/// assert_eq!(store.get(b"bern")?, Some(b"Bern".to_vec()));
/// for row in store.scan(b"b")? {
///     let (key, value) = row?;
///     assert_eq!((key, value), (b"bern".to_vec(), b"Bern".to_vec()));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What all handles share.
struct Inner {
    dir: PathBuf,
    engine: Arc<dyn Engine>,
    definition: Arc<Definition>,
    /// What readers see of concurrent versions, of each collection.
    policies: Vec<Arc<dyn Policy>>,
    keys: Arc<Keys>,
    dataset_key: DatasetKey,
    lives: lives::Lives,
    clock: Arc<dyn Fn() -> Millis + Send + Sync>,
    clock_bound: Millis,
    no_tree: bool,
    /// The values of records are the digests of contents that lie elsewhere.
    bare: bool,
    group: Group,
    /// How sessions give way to clients, if they do.
    giving_way: Option<giving_way::GivingWay>,
    owed: commit::Owed,
    random: open::Random,
    writer: Mutex<Writer>,
    head: RwLock<Arc<Cut>>,
    watchers: watch::Watchers,
    reads: tree::ReadCounts,
    sketches: sketches::Sketches,
    journal: journal::Journal,
    quarantine: quarantine::Quarantine,
    collecting: collecting::Collecting,
    lookouts: lookouts::LookOuts,
    expiring: expiring::Expiring,
    bases: bases::Bases,
}

impl Store {
    /// Whether a write failed, so that none is taken until the store is opened again. While one is under way that is not known: no.
    #[must_use]
    pub fn refuses_writes(&self) -> bool {
        match self.inner.writer.try_lock() {
            Ok(writer) => writer.failed,
            Err(TryLockError::Poisoned(writer)) => writer.into_inner().failed,
            Err(TryLockError::WouldBlock) => false,
        }
    }
}

impl Inner {
    fn head(&self) -> Cut {
        let head = Cut::clone(&self.head.read().unwrap_or_else(PoisonError::into_inner));
        Cut { watermark: self.expiring.watermark(), ..head }
    }

    fn publish(&self, commit: u64, stamp: Stamp, roots: Vec<Summary>) {
        let (horizon, undone) = (self.collecting.stamp(), self.collecting.undone());
        *self.head.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Cut { commit, stamp, horizon, undone, watermark: 0, roots });
    }

    /// Reads the row of a record.
    fn read_record(&self, row: &[u8], value: &[u8]) -> Result<rows::Stored, StoreError> {
        match self.bare {
            true => rows::read_bare(row, value, self.lives.actor()),
            false => rows::read_record(row, value),
        }
    }

    /// Makes `value` what the row of a record holds.
    fn put_record(&self, value: &mut Vec<u8>, row: &[u8], key: &[u8], commit: u64, state: &State) {
        match self.bare {
            true => rows::put_bare_value(value, key, commit, state),
            false => rows::put_record_value(value, row, key, commit, state),
        }
    }

    /// The name of a collection that was checked to be there.
    fn name_of(&self, collection: CollectionId) -> &str {
        &self.definition.collections[usize::from(collection.0)].name
    }

    fn check(&self, collection: CollectionId) -> Result<(), StoreError> {
        if usize::from(collection.0) < self.definition.collections.len() {
            return Ok(());
        }
        Err(self.no_collection(&format!("number {}", collection.0)))
    }

    fn no_collection(&self, name: &str) -> StoreError {
        let have: Vec<&str> = self.definition.collections.iter().map(|c| c.name.as_str()).collect();
        StoreError::NoCollection { name: name.into(), have: have.join(", ") }
    }
}

/// One change in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Gives a key a value.
    Put {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
        /// When the value stops being visible, in milliseconds since the Unix epoch.
        expires: Option<Millis>,
    },
    /// Deletes a key, if it has a value.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
}

impl Op {
    /// Gives `key` a value that does not expire.
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { key: key.into(), value: value.into(), expires: None }
    }

    /// Deletes `key`.
    pub fn delete(key: impl Into<Vec<u8>>) -> Self {
        Self::Delete { key: key.into() }
    }
}

/// Rows read since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Records.
    pub records: u64,
    /// Nodes of trees.
    pub nodes: u64,
    /// Entries.
    pub entries: u64,
}

/// A store in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live records, of all collections; those that have expired are among them.
    pub records: u64,
    /// Tombstones, of all collections.
    pub tombstones: u64,
    /// The commit number.
    pub commit: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Rows read since the store was opened.
    pub reads: Reads,
}

impl Store {
    /// What the dataset is.
    #[must_use]
    pub fn definition(&self) -> &Arc<Definition> {
        &self.inner.definition
    }

    /// The keys that place and digest its records.
    #[must_use]
    pub fn keys(&self) -> &Arc<Keys> {
        &self.inner.keys
    }

    /// The secret of the dataset, to be handed on with care.
    #[must_use]
    pub fn dataset_key(&self) -> &DatasetKey {
        &self.inner.dataset_key
    }

    /// This life of this store.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.inner.lives.actor()
    }

    /// The directory it lies in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// A handle to the collection of this name.
    ///
    /// # Errors
    /// [`StoreError::NoCollection`], naming those that there are.
    pub fn collection(&self, name: &str) -> Result<Collection, StoreError> {
        let id = self.inner.definition.collection(name).ok_or_else(|| self.inner.no_collection(name))?;
        Ok(Collection { store: self.clone(), id })
    }

    /// The first collection, which the methods without one mean.
    #[must_use]
    pub fn first(&self) -> Collection {
        Collection { store: self.clone(), id: CollectionId(0) }
    }

    /// Gives `key` a value in the first collection; synced when it returns.
    ///
    /// # Errors
    /// As for [`Collection::put`].
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<u64, StoreError> {
        self.first().put(key, value)
    }

    /// The value of `key` in the first collection.
    ///
    /// # Errors
    /// As for [`Collection::get`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.first().get(key)
    }

    /// Deletes `key` in the first collection; synced when it returns. Tells whether it had a value.
    ///
    /// # Errors
    /// As for [`Collection::delete`].
    pub fn delete(&self, key: &[u8]) -> Result<bool, StoreError> {
        self.first().delete(key)
    }

    /// Applies all changes to the first collection, or none.
    ///
    /// # Errors
    /// As for [`Collection::batch`].
    pub fn batch(&self, ops: Vec<Op>, durability: Durability) -> Result<u64, StoreError> {
        self.first().batch(ops, durability)
    }

    /// The live records of the first collection whose keys begin with `prefix`, in key order.
    ///
    /// # Errors
    /// As for [`Collection::scan`].
    pub fn scan(&self, prefix: &[u8]) -> Result<Scan, StoreError> {
        self.first().scan(prefix)
    }

    /// Follows all changes after `cursor`; none: from now on.
    #[must_use]
    pub fn watch(&self, cursor: Option<Cursor>) -> Watcher {
        let cursor = cursor.unwrap_or(Cursor(self.inner.head().commit));
        Watcher::new(Arc::clone(&self.inner), cursor)
    }

    /// The commit number and the roots of all collections, read together.
    #[must_use]
    pub fn cut(&self) -> Cut {
        self.inner.head()
    }

    /// The root of the dataset, without its members.
    #[must_use]
    pub fn root(&self) -> Summary {
        self.inner.definition.data_root(&self.inner.keys, &self.inner.head().roots)
    }

    /// The store in numbers.
    ///
    /// # Errors
    /// What the system said of the files.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        use std::sync::atomic::Ordering::Relaxed;
        let inner = &self.inner;
        let (records, tombstones) = {
            let writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let counts = inner.definition.data().map(|(id, _)| writer.counts[usize::from(id.0)]);
            counts.fold((0, 0), |(live, dead), count| (live + count.live, dead + count.tombstones))
        };
        Ok(Stats {
            records,
            tombstones,
            commit: inner.head().commit,
            disk_bytes: inner.engine.disk_bytes()?,
            reads: Reads {
                records: inner.reads.records.load(Relaxed),
                nodes: inner.reads.nodes.load(Relaxed),
                entries: inner.reads.entries.load(Relaxed),
            },
        })
    }

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// What the engine met.
    pub fn sync(&self) -> Result<(), StoreError> {
        Ok(self.inner.owed.sync(&*self.inner.engine)?)
    }
}

/// A collection of a store. Cloning gives another handle.
#[derive(Clone)]
pub struct Collection {
    store: Store,
    id: CollectionId,
}

impl Collection {
    /// Its place in the dataset's definition.
    #[must_use]
    pub fn id(&self) -> CollectionId {
        self.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.store.inner.name_of(self.id)
    }

    /// Gives `key` a value; synced when it returns. Returns the commit number.
    ///
    /// # Errors
    /// [`StoreError::KeyTooLong`], [`StoreError::ValueTooLong`], or what the engine met.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<u64, StoreError> {
        self.batch(vec![Op::put(key, value)], Durability::Synced)
    }

    /// Deletes `key`; synced when it returns. Tells whether it had a value; if it had none, nothing is written.
    ///
    /// # Errors
    /// [`StoreError::KeyTooLong`], or what the engine met.
    pub fn delete(&self, key: &[u8]) -> Result<bool, StoreError> {
        let writes = self.writes(vec![Op::delete(key)])?;
        let done = submit_first(&self.store.inner, writes, Durability::Synced)?;
        self.store.tidy_history();
        Ok(done.fates == [Fate::Applied])
    }

    /// Applies all changes in order in one commit, or none. Returns the commit number.
    ///
    /// # Errors
    /// [`StoreError::KeyTooLong`], [`StoreError::ValueTooLong`], or what the engine met.
    pub fn batch(&self, ops: Vec<Op>, durability: Durability) -> Result<u64, StoreError> {
        let writes = self.writes(ops)?;
        let done = submit_first(&self.store.inner, writes, durability)?;
        self.store.tidy_history();
        Ok(done.commit)
    }

    fn writes(&self, ops: Vec<Op>) -> Result<Vec<Write>, StoreError> {
        ops.into_iter()
            .map(|op| {
                let (key, content, expires) = match op {
                    Op::Put { key, value, expires } => (key, Content::Live(value), expires),
                    Op::Delete { key } => (key, Content::Tombstone, None),
                };
                check_bounds(&key, &content)?;
                Ok(Write::Local { collection: self.id, key, content, expires })
            })
            .collect()
    }

    /// How many of its records are live, and how many are tombstones.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let writer = self.store.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &writer.counts[usize::from(self.id.0)];
        (count.live, count.tombstones)
    }

    /// The opaque bytes that say how the rows of this collection are laid out, if any were set.
    ///
    /// # Errors
    /// What the engine met.
    pub fn layout(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let snapshot = self.store.inner.engine.snapshot()?;
        Ok(snapshot.get(&rows::layout(self.id))?)
    }

    /// Sets or removes the opaque bytes that say how the rows of this collection are laid out; synced.
    ///
    /// # Errors
    /// What the engine met.
    pub fn set_layout(&self, bytes: Option<Vec<u8>>) -> Result<(), StoreError> {
        let write = Write::Layout { collection: self.id, bytes };
        submit(&self.store.inner, vec![write], Durability::Synced).map(drop)
    }
}

fn check_key(key: &[u8]) -> Result<(), StoreError> {
    let bytes = key.len();
    if bytes > KEY_BYTES_MAX { Err(StoreError::KeyTooLong { bytes, limit: KEY_BYTES_MAX }) } else { Ok(()) }
}

fn check_bounds(key: &[u8], content: &Content) -> Result<(), StoreError> {
    check_key(key)?;
    match content {
        Content::Live(value) if value.len() > VALUE_BYTES_MAX => {
            Err(StoreError::ValueTooLong { key: shown(key), bytes: value.len(), limit: VALUE_BYTES_MAX })
        }
        _ => Ok(()),
    }
}
