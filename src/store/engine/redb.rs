//! The engine on `redb`, a copy-on-write B-tree in one file.
//! All rows are in one table; durable commits are made in two phases, so that no crash can leave half a commit.
//! Each value ends with a checksum of its row: the engine checks its pages when it recovers, not when it reads.

use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, StorageBackend, TableDefinition, TableError,
};
use xxhash_rust::xxh3::Xxh3;

use super::{Batch, Durability, Engine, EngineError, Rows, Snapshot, directory_bytes, ending, shielded};

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

const FILE: &str = "rows.redb";

const CHECKSUM_BYTES: usize = 4;

/// An open database.
pub(super) struct Redb {
    database: Database,
    dir: PathBuf,
}

impl Redb {
    /// Opens the file in `dir`, or creates it.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        shielded(dir, || {
            let path = dir.join(FILE);
            // A file that was cut to nothing would otherwise be taken for a new one.
            if std::fs::metadata(&path).is_ok_and(|meta| meta.len() == 0) {
                return Err(EngineError::Corrupt { dir: dir.to_path_buf(), what: format!("{FILE} is empty") });
            }
            Self::ready(dir, builder(cache_bytes).create(path))
        })
    }

    /// Opens what a backend holds; errors name `dir`.
    pub(super) fn over(backend: impl StorageBackend, dir: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        shielded(dir, || Self::ready(dir, builder(cache_bytes).create_with_backend(backend)))
    }

    fn ready(dir: &Path, opened: Result<Database, DatabaseError>) -> Result<Self, EngineError> {
        let database = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => EngineError::Locked { dir: dir.to_path_buf() },
            other => sorted(dir, other.into()),
        })?;
        let engine = Self { database, dir: dir.to_path_buf() };
        // Readers need the table to exist.
        if engine.open_table()?.is_none() {
            engine.commit(&mut Batch::new(), Durability::Synced)?;
        }
        Ok(engine)
    }

    fn open_table(&self) -> Result<Option<Table>, EngineError> {
        let read = self.database.begin_read().map_err(|error| sorted(&self.dir, error.into()))?;
        match read.open_table(ROWS) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(sorted(&self.dir, error.into())),
        }
    }

    fn write(&self, batch: &mut Batch, durability: Durability) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        match durability {
            Durability::Synced => write.set_two_phase_commit(true),
            Durability::Buffered => write.set_durability(redb::Durability::None)?,
        }
        {
            let mut table = write.open_table(ROWS)?;
            let mut sealed = Vec::new();
            for (key, value) in batch.sorted() {
                match value {
                    Some(value) => {
                        sealed.clear();
                        sealed.extend_from_slice(value);
                        sealed.extend_from_slice(&checksum(key, value));
                        drop(table.insert(key, sealed.as_slice())?);
                    }
                    None => drop(table.remove(key)?),
                }
            }
        }
        write.commit()?;
        Ok(())
    }
}

fn builder(cache_bytes: u64) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(usize::try_from(cache_bytes).unwrap_or(usize::MAX));
    builder
}

impl Engine for Redb {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        shielded(&self.dir, || {
            let table = self.open_table()?.ok_or_else(|| EngineError::Corrupt {
                dir: self.dir.clone(),
                what: format!("{FILE} has lost its table"),
            })?;
            Ok(Box::new(View { table, dir: &self.dir }) as Box<dyn Snapshot>)
        })
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        shielded(&self.dir, || self.write(batch, durability).map_err(|error| sorted(&self.dir, error)))
    }

    fn sync(&self) -> Result<(), EngineError> {
        // A durable commit carries every buffered one before it.
        self.commit(&mut Batch::new(), Durability::Synced)
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        directory_bytes(&self.dir).map_err(|error| EngineError::from_io(&self.dir, error))
    }
}

struct View<'e> {
    table: Table,
    dir: &'e Path,
}

impl Snapshot for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        shielded(self.dir, || {
            let value = self.table.get(key).map_err(|error| sorted(self.dir, error.into()))?;
            value.map(|value| unsealed(self.dir, key, value.value())).transpose()
        })
    }

    fn scan<'a>(&'a self, start: &[u8], end: &[u8]) -> Result<Rows<'a>, EngineError> {
        if start >= end {
            return Ok(Box::new(std::iter::empty()));
        }
        let dir = self.dir;
        let mut rows =
            shielded(dir, || self.table.range::<&[u8]>(start..end).map_err(|error| sorted(dir, error.into())))?;
        Ok(ending(std::iter::from_fn(move || {
            shielded(dir, || {
                let Some(row) = rows.next() else {
                    return Ok(None);
                };
                let (key, value) = row.map_err(|error| sorted(dir, error.into()))?;
                Ok(Some((key.value().to_vec(), unsealed(dir, key.value(), value.value())?)))
            })
            .transpose()
        })))
    }
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = Xxh3::new();
    sum.update(key);
    sum.update(value);
    let sum = sum.digest().to_be_bytes();
    std::array::from_fn(|i| sum[i])
}

/// The value of a row without its checksum.
fn unsealed(dir: &Path, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, EngineError> {
    match sealed.split_last_chunk() {
        Some((value, sum)) if *sum == checksum(key, value) => Ok(value.to_vec()),
        _ => {
            let shown: String = key.iter().take(40).map(|byte| format!("{byte:02x}")).collect();
            Err(EngineError::Corrupt { dir: dir.to_path_buf(), what: format!("the checksum of row {shown} is wrong") })
        }
    }
}

/// Tells apart what a caller can act on.
fn sorted(dir: &Path, error: redb::Error) -> EngineError {
    match error {
        redb::Error::Io(source) => EngineError::from_io(dir, source),
        redb::Error::DatabaseAlreadyOpen => EngineError::Locked { dir: dir.to_path_buf() },
        redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::LockPoisoned(_) => {
            EngineError::Poisoned { dir: dir.to_path_buf() }
        }
        other => EngineError::Corrupt { dir: dir.to_path_buf(), what: other.to_string() },
    }
}
