//! What an embedded store asks of the thing that keeps its bytes: ordered rows, an atomic batch, a short snapshot.
//! It knows nothing of records, trees or datasets; those are rows to it.
//!
//! The contract, which every engine proves with [`conformance`]:
//!
//! - Rows are ordered by key, bytewise. A key has 1 to [`ROW_KEY_BYTES_MAX`] bytes; values may be empty.
//! - [`Engine::commit`] is atomic: after a crash a batch is there whole or not at all, and batches vanish only from
//!   the end. With [`Durability::Synced`] it is on disk when the call returns, and so is every batch before it.
//! - A [`Snapshot`] stands still. It is for one answer or one page; an engine may keep old rows while one lives.
//! - After an error of a write the engine may refuse further writes until it is opened again; what was synced
//!   before stays readable.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

#[doc(hidden)]
pub mod conformance;
#[cfg(feature = "embedded-fjall")]
mod fjall;
mod memory;
#[cfg(feature = "embedded-redb")]
mod packed;
#[cfg(feature = "embedded-redb")]
mod redb;

pub use memory::Memory;
#[cfg(feature = "embedded-redb")]
#[doc(hidden)]
pub use packed::Draft;
#[cfg(feature = "embedded-redb")]
pub(super) use packed::PACKED;

/// The longest row key, in bytes, that every engine takes (the shortest bound among them is 65,535).
pub const ROW_KEY_BYTES_MAX: usize = 65_535;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// Synced to disk before the call returns.
    #[default]
    Synced,
    /// Handed over, to be synced with the next synced write, with `sync`, or when the engine sees fit. A crash may
    /// lose whole buffered batches from the end, never a part of one.
    Buffered,
}

/// Which engine keeps the rows of a store. The choice is made when a store is created, and stays with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineKind {
    /// A log-structured merge tree (the crate `fjall`): takes random writes best.
    Fjall,
    /// A copy-on-write B-tree in one file (the crate `redb`): reads and reopens fastest.
    Redb,
    /// That of indexes of tables: rows packed in a sorted file, and what has changed since in a B-tree (`redb`).
    Packed,
}

impl Default for EngineKind {
    /// Fjall, unless redb alone was built in.
    fn default() -> EngineKind {
        match cfg!(all(feature = "embedded-redb", not(feature = "embedded-fjall"))) {
            true => EngineKind::Redb,
            false => EngineKind::Fjall,
        }
    }
}

impl EngineKind {
    /// The name that a store's marker file carries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fjall => "fjall",
            Self::Redb => "redb",
            Self::Packed => "packed",
        }
    }

    /// The engine of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Fjall, Self::Redb, Self::Packed].into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an engine could not do what it was asked. Each display says whether anything changed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Another process, or another handle in this one, holds the files.
    #[error(
        "{} is in use by another process; nothing was changed; stop that process or talk to its daemon",
        dir.display()
    )]
    Locked {
        /// The directory of the engine.
        dir: PathBuf,
    },
    /// There is nothing to open.
    #[error("{} holds no engine files; nothing was changed; check the path", dir.display())]
    Missing {
        /// The directory that was looked at.
        dir: PathBuf,
    },
    /// This build was made without the engine that wrote these files.
    #[error(
        "{} was written by the engine {engine}, which this build leaves out; nothing was changed; build with the feature embedded-{engine}",
        dir.display()
    )]
    NotBuilt {
        /// The directory of the engine.
        dir: PathBuf,
        /// The engine that is needed.
        engine: EngineKind,
    },
    /// The disk, or a quota, is full.
    #[error(
        "the disk under {} is full; this write was not committed, everything before it stands; free some space and open the store again",
        dir.display()
    )]
    Full {
        /// The directory of the engine.
        dir: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Bytes on disk are not what the engine wrote.
    #[error(
        "the files in {} are damaged ({what}); nothing was changed; restore a backup or fill a new store from a peer",
        dir.display()
    )]
    Corrupt {
        /// The directory of the engine.
        dir: PathBuf,
        /// What the engine found.
        what: String,
    },
    /// An earlier write failed, so nothing more is written through this handle.
    #[error(
        "an earlier write to {} failed, so this one was refused and not committed; open the store again once the cause is gone",
        dir.display()
    )]
    Poisoned {
        /// The directory of the engine.
        dir: PathBuf,
    },
    /// The system refused a read or a write for another reason.
    #[error("{}: {source}; the write, if it was one, may or may not be there when the store is opened again", dir.display())]
    Io {
        /// The directory of the engine.
        dir: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl EngineError {
    /// Sorts an error of the system into the variant that a caller can act on.
    #[must_use]
    pub fn from_io(dir: &Path, source: io::Error) -> Self {
        let dir = dir.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { dir, source: Arc::new(source) }
            }
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Corrupt { dir, what: source.to_string() }
            }
            _ => Self::Io { dir, source: Arc::new(source) },
        }
    }
}

/// One row: its key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Rows of a scan, in key order. It reads as it goes.
pub type Rows<'a> = Box<dyn Iterator<Item = Result<Row, EngineError>> + 'a>;

/// One write of a batch: a key and its new value; none removes the row.
pub type RowWrite<'a> = (&'a [u8], Option<&'a [u8]>);

/// Writes that become visible, and durable, together. All bytes lie in one buffer: a large batch is many small rows.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    rows: Vec<RowAt>,
}

/// Where a row's key begins in the buffer, and how long key and value are.
#[derive(Clone, Copy, Debug)]
struct RowAt {
    start: usize,
    key: usize,
    value: Option<usize>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a row. Of several writes to one key the last counts.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.rows.push(RowAt { start: self.bytes.len(), key: key.len(), value: Some(value.len()) });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    /// Removes a row, if it is there.
    pub fn delete(&mut self, key: &[u8]) {
        self.rows.push(RowAt { start: self.bytes.len(), key: key.len(), value: None });
        self.bytes.extend_from_slice(key);
    }

    /// How many writes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of all its keys and values.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The writes in key order, one a key: ordered writes are what every engine takes fastest.
    pub fn sorted(&mut self) -> impl ExactSizeIterator<Item = RowWrite<'_>> {
        let bytes = &self.bytes;
        let key = |row: &RowAt| &bytes[row.start..row.start + row.key];
        self.rows.sort_by(|a, b| key(a).cmp(key(b)));
        // The sort is stable, so of equal keys the last one is the newest: it replaces the one that is kept.
        self.rows.dedup_by(|later, kept| {
            let same = key(later) == key(kept);
            if same {
                *kept = *later;
            }
            same
        });
        self.rows.iter().map(|row| {
            let (key, rest) = self.bytes[row.start..].split_at(row.key);
            (key, row.value.map(|len| &rest[..len]))
        })
    }
}

/// A still picture of all rows.
pub trait Snapshot: Send + Sync {
    /// The value of a row.
    ///
    /// # Errors
    /// What the engine met while reading.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// The rows from `start` to just before `end`, in key order, read as the iterator goes.
    ///
    /// # Errors
    /// What the engine met while reading; the iterator then ends.
    fn scan<'a>(&'a self, start: &[u8], end: &[u8]) -> Result<Rows<'a>, EngineError>;
}

/// Ordered rows with atomic batches; the contract stands at the head of the module.
pub trait Engine: Send + Sync {
    /// A picture of the rows as of the last commit. Let it go soon.
    ///
    /// # Errors
    /// What the engine met.
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError>;

    /// Applies all writes of the batch, or none.
    ///
    /// # Errors
    /// [`EngineError::Full`], [`EngineError::Poisoned`] or what else the engine met; the batch is then not visible.
    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError>;

    /// Makes everything that was committed durable.
    ///
    /// # Errors
    /// As for [`Engine::commit`].
    fn sync(&self) -> Result<(), EngineError>;

    /// Bytes that the files take on disk.
    ///
    /// # Errors
    /// What the system said.
    fn disk_bytes(&self) -> Result<u64, EngineError>;

    /// Whether much of what was committed is still to be written out or put in order, so that writers may soon have to wait.
    fn behind(&self) -> bool {
        false
    }

    /// That it can take many rows at once, already in order, if it can.
    #[cfg(feature = "embedded-redb")]
    #[doc(hidden)]
    fn packing(&self) -> Option<&dyn Packing> {
        None
    }
}

/// An engine that keeps some kinds of rows packed.
#[cfg(feature = "embedded-redb")]
#[doc(hidden)]
pub trait Packing {
    /// Begins to write all rows of those kinds anew.
    ///
    /// # Errors
    /// What the system said.
    fn draft(&self) -> Result<Draft, EngineError>;

    /// Makes the rows of a draft all that there are of those kinds, together with a batch of others; synced.
    ///
    /// # Errors
    /// As for [`Engine::commit`].
    fn pack(&self, draft: Draft, batch: &mut Batch) -> Result<(), EngineError>;

    /// Whether so much has changed since they were packed that they are worth being packed anew.
    ///
    /// # Errors
    /// What the engine met.
    fn is_loose(&self) -> Result<bool, EngineError>;
}

/// Opens or creates an engine of that kind in `dir`, which exists. `cache_bytes` bounds its own cache of blocks.
///
/// # Errors
/// [`EngineError::Locked`], [`EngineError::Corrupt`], [`EngineError::NotBuilt`], or what the system said.
pub fn open(kind: EngineKind, dir: &Path, cache_bytes: u64) -> Result<Arc<dyn Engine>, EngineError> {
    match kind {
        #[cfg(feature = "embedded-fjall")]
        EngineKind::Fjall => Ok(Arc::new(fjall::Fjall::open(dir, cache_bytes)?)),
        #[cfg(feature = "embedded-redb")]
        EngineKind::Redb => Ok(Arc::new(redb::Redb::open(dir, cache_bytes)?)),
        #[cfg(feature = "embedded-redb")]
        EngineKind::Packed => Ok(Arc::new(packed::PackedEngine::open(dir, cache_bytes)?)),
        #[cfg(not(all(feature = "embedded-fjall", feature = "embedded-redb")))]
        engine => {
            let _ = cache_bytes;
            Err(EngineError::NotBuilt { dir: dir.to_path_buf(), engine })
        }
    }
}

/// Opens redb over a backend, for tests of what a crash leaves of its writes.
///
/// # Errors
/// As for [`open`].
#[cfg(feature = "embedded-redb")]
#[doc(hidden)]
pub fn redb_over(backend: impl ::redb::StorageBackend, cache_bytes: u64) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(Arc::new(redb::Redb::over(backend, Path::new("memory"), cache_bytes)?))
}

/// Copies every row of one snapshot of `from` into `to`, durably at the end. `progress` hears the rows so far.
///
/// # Errors
/// What either engine met; `to` is then incomplete.
pub fn copy_all(from: &dyn Engine, to: &dyn Engine, progress: &mut dyn FnMut(u64)) -> Result<(), EngineError> {
    /// Large enough to be fast, small enough not to matter in memory.
    const COPY_BYTES_MAX: usize = 4 << 20;
    let snapshot = from.snapshot()?;
    let (mut batch, mut bytes, mut rows) = (Batch::new(), 0, 0);
    for row in snapshot.scan(&[], &[0xff; 16])? {
        let (key, value) = row?;
        bytes += key.len() + value.len();
        batch.put(&key, &value);
        rows += 1;
        if bytes >= COPY_BYTES_MAX {
            to.commit(&mut batch, Durability::Buffered)?;
            batch = Batch::new();
            bytes = 0;
            progress(rows);
        }
    }
    to.commit(&mut batch, Durability::Synced)?;
    progress(rows);
    to.sync()
}

/// Bytes on disk of a directory and everything in it; files that vanish meanwhile count as nothing.
#[cfg(any(feature = "embedded-fjall", feature = "embedded-redb"))]
fn directory_bytes(dir: &Path) -> io::Result<u64> {
    let mut total = 0;
    for item in std::fs::read_dir(dir)? {
        let item = item?;
        match item.metadata() {
            Ok(meta) if meta.is_dir() => total += directory_bytes(&item.path()).unwrap_or(0),
            Ok(meta) => total += file_bytes(&meta),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// What a file really takes: engines set files to a length that they fill later.
#[cfg(all(unix, any(feature = "embedded-fjall", feature = "embedded-redb")))]
fn file_bytes(meta: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    meta.blocks() * 512
}

#[cfg(all(not(unix), any(feature = "embedded-fjall", feature = "embedded-redb")))]
fn file_bytes(meta: &std::fs::Metadata) -> u64 {
    meta.len()
}

/// Runs a read of an engine; a panic inside it, which only damaged files cause, becomes [`EngineError::Corrupt`].
#[cfg(any(feature = "embedded-fjall", feature = "embedded-redb"))]
fn shielded<T>(dir: &Path, read: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("the engine gave up without a word");
        Err(EngineError::Corrupt { dir: dir.to_path_buf(), what: said.to_string() })
    })
}

/// Rows that end after an error: one that damage causes would come again and again.
#[cfg(any(feature = "embedded-fjall", feature = "embedded-redb"))]
fn ending<'a>(rows: impl Iterator<Item = Result<Row, EngineError>> + 'a) -> Rows<'a> {
    let mut failed = false;
    Box::new(rows.take_while(move |row| !std::mem::replace(&mut failed, row.is_err())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_writes_to_one_key_the_last_counts() {
        let mut batch = Batch::new();
        batch.put(b"b", b"1");
        batch.put(b"a", b"1");
        batch.delete(b"b");
        batch.put(b"b", b"2");
        batch.put(b"c", b"1");
        batch.delete(b"c");
        let rows: Vec<RowWrite<'_>> = batch.sorted().collect();
        assert_eq!(rows, [(&b"a"[..], Some(&b"1"[..])), (b"b", Some(b"2")), (b"c", None)]);
    }

    #[test]
    fn an_engine_is_found_by_its_name() {
        for kind in [EngineKind::Fjall, EngineKind::Redb, EngineKind::Packed] {
            assert_eq!(EngineKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(EngineKind::from_name("other"), None);
    }
}
