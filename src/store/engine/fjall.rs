//! The engine on `fjall`, a log-structured merge tree.
//! All rows share one keyspace: a rarely written second one would keep old journal pieces alive and slow the start.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fjall::compaction::Leveled;
use fjall::{Database, Error, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot as Still};

use super::{Batch, Durability, Engine, EngineError, Rows, Snapshot, directory_bytes, ending, shielded};

mod journal;
mod upkeep;
mod versions;

/// The file that the engine locks while it is open.
const LOCK: &str = "lock";

/// Rows held in memory before they are written out as a table: bounds memory, and the time a start takes.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// What the engine is told of that bound: out of its reach. It counts some sixty bytes more for each row than there are, so
/// that it would rotate in between, and the smaller tables be merged half as often again.
const ENGINE_MEMTABLE_BYTES: u64 = 8 * MEMTABLE_BYTES;
/// How large a table becomes by merging; the levels that they lie in are sized by it. The engine ends the last one, and syncs it,
/// under the lock that every read and write needs, and a disk that syncs a large one lets others wait: 64 MiB, the engine's
/// own choice, took 40 ms.
const TABLE_BYTES: u64 = 16 << 20;
/// Rows in memory that are not written out yet, of all memtables, by the engine's count; beyond it writers wait. A full memtable
/// may come to two thirds of it: the rest is for what comes while that is written out. The engine itself bounds only their
/// number, and that not while its worker merges.
const UNWRITTEN_BYTES_MAX: u64 = 24 << 20;
/// How often a writer that waits looks again.
const WAIT: Duration = Duration::from_millis(2);
/// How often a writer finds no less unwritten before it goes on all the same: the engine's own count of what is
/// unwritten was seen to stay where it was.
const STILL_MAX: u32 = 500;
/// All journals together; the smallest that the engine takes, and what a start has to read at most.
const JOURNALS_BYTES: u64 = 64 << 20;
/// One thread writes tables out and merges them. With more, the first of them spins for as long as another merges
/// (fjall 3.1), which costs more than it brings.
const WORKER_THREADS: usize = 1;

/// An open database with its single keyspace.
pub(super) struct Fjall {
    // Both are dropped before the database, which waits for its workers.
    upkeep: upkeep::Upkeep,
    rows: Keyspace,
    database: Database,
    dir: PathBuf,
    mark: journal::Mark,
    /// The number of the last batch, or one below it.
    last_batch: AtomicU64,
    /// Bytes committed since the memtable was last rotated.
    in_memtable: Arc<AtomicU64>,
}

impl Fjall {
    /// Has a memtable rotated that is full, by our count or by the engine's, and waits while too much is unwritten. The engine
    /// leaves rotation to its worker, so that a memtable would grow without bound for as long as the worker merges.
    fn bound_memory(&self, committed: u64) -> Result<(), EngineError> {
        let filled = self.in_memtable.fetch_add(committed, Ordering::Relaxed) + committed;
        if filled >= MEMTABLE_BYTES {
            self.upkeep.wake();
        }
        let (mut last, mut still) = (u64::MAX, 0);
        loop {
            let unwritten = self.database.write_buffer_size();
            if unwritten <= UNWRITTEN_BYTES_MAX || still >= STILL_MAX {
                break;
            }
            // Nothing is on its way out: so much is in the memtable itself, whose small rows the engine counts as larger.
            if self.rows.sealed_memtable_count() == 0 {
                self.rotate()?;
            }
            still = if unwritten < last { 0 } else { still + 1 };
            last = unwritten;
            // A worker that failed writes nothing out any more; the engine then refuses this.
            self.database.persist(PersistMode::Buffer).map_err(|error| sorted(&self.dir, error))?;
            std::thread::sleep(WAIT);
        }
        Ok(())
    }

    fn rotate(&self) -> Result<(), EngineError> {
        self.in_memtable.store(0, Ordering::Relaxed);
        self.rows.rotate_memtable().map_err(|error| sorted(&self.dir, error))?;
        self.upkeep.wake();
        Ok(())
    }

    /// Opens the files in `dir`, or creates them.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        shielded(dir, || {
            let mark = journal::Mark::open(dir).map_err(|error| EngineError::from_io(dir, error))?;
            // The engine locks its directory as it opens, so that one that is in use is not looked at.
            let lock = File::open(dir.join(LOCK)).ok();
            let locked = lock.as_ref().map_or(Ok(()), File::try_lock);
            if matches!(locked, Err(TryLockError::WouldBlock)) {
                return Err(EngineError::Locked { dir: dir.to_path_buf() });
            }
            versions::check(dir)?;
            journal::mend(dir, mark.batch())?;
            drop(lock);
            let database = Database::builder(dir)
                .cache_size(cache_bytes)
                .worker_threads(WORKER_THREADS)
                .max_journaling_size(JOURNALS_BYTES)
                // Every commit says itself how it is to be persisted.
                .manual_journal_persist(true)
                .open()
                .map_err(|error| sorted(dir, error))?;
            let rows = database
                .keyspace("rows", || {
                    let merged = Leveled::default().with_table_target_size(TABLE_BYTES);
                    let options = KeyspaceCreateOptions::default().max_memtable_size(ENGINE_MEMTABLE_BYTES);
                    options.compaction_strategy(Arc::new(merged))
                })
                .map_err(|error| sorted(dir, error))?;
            let next = database.seqno();
            if let Some(batch) = mark.batch().filter(|batch| next <= *batch) {
                let what = format!("batches from {next} to {batch} were synced and are gone");
                return Err(EngineError::Corrupt { dir: dir.to_path_buf(), what });
            }
            let (last_batch, in_memtable) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
            let upkeep = upkeep::Upkeep::begin(rows.clone(), Arc::clone(&in_memtable))
                .map_err(|error| EngineError::from_io(dir, error))?;
            Ok(Self { upkeep, rows, database, dir: dir.to_path_buf(), mark, last_batch, in_memtable })
        })
    }
}

impl Engine for Fjall {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        Ok(Box::new(View { still: self.database.snapshot(), of: self }))
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        let mode = match durability {
            Durability::Synced => PersistMode::SyncData,
            // Handed to the system, so that a killed process loses nothing.
            Durability::Buffered => PersistMode::Buffer,
        };
        if batch.is_empty() {
            return match durability {
                Durability::Synced => self.sync(),
                Durability::Buffered => Ok(()),
            };
        }
        let bytes = batch.bytes();
        let rows = batch.sorted();
        let mut write = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), rows.len()).durability(Some(mode));
        for (key, value) in rows {
            match value {
                Some(value) => write.insert(&self.rows, key, value),
                None => write.remove(&self.rows, key),
            }
        }
        // Ours has this number, or a higher one if another came in between.
        let number = self.database.seqno();
        write.commit().map_err(|error| sorted(&self.dir, error))?;
        self.last_batch.fetch_max(number, Ordering::Relaxed);
        if durability == Durability::Synced {
            self.mark.synced(number);
        }
        self.bound_memory(bytes)
    }

    fn sync(&self) -> Result<(), EngineError> {
        let number = self.last_batch.load(Ordering::Relaxed);
        self.database.persist(PersistMode::SyncAll).map_err(|error| sorted(&self.dir, error))?;
        if number > 0 {
            self.mark.synced(number);
        }
        Ok(())
    }

    fn behind(&self) -> bool {
        self.rows.sealed_memtable_count() > 0
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        directory_bytes(&self.dir).map_err(|error| EngineError::from_io(&self.dir, error))
    }
}

struct View<'e> {
    still: Still,
    of: &'e Fjall,
}

impl Snapshot for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let dir = &self.of.dir;
        shielded(dir, || {
            let value = self.still.get(&self.of.rows, key).map_err(|error| sorted(dir, error))?;
            Ok(value.map(|value| value.to_vec()))
        })
    }

    fn scan<'a>(&'a self, start: &[u8], end: &[u8]) -> Result<Rows<'a>, EngineError> {
        if start >= end {
            return Ok(Box::new(std::iter::empty()));
        }
        let dir = &self.of.dir;
        let mut rows = shielded(dir, || Ok(self.still.range(&self.of.rows, start.to_vec()..end.to_vec())))?;
        Ok(ending(std::iter::from_fn(move || {
            shielded(dir, || {
                let Some(row) = rows.next() else {
                    return Ok(None);
                };
                let (key, value) = row.into_inner().map_err(|error| sorted(dir, error))?;
                Ok(Some((key.to_vec(), value.to_vec())))
            })
            .transpose()
        })))
    }
}

/// Tells apart what a caller can act on.
fn sorted(dir: &Path, error: Error) -> EngineError {
    let corrupt = |what: String| EngineError::Corrupt { dir: dir.to_path_buf(), what };
    match error {
        Error::Locked => EngineError::Locked { dir: dir.to_path_buf() },
        Error::Poisoned => EngineError::Poisoned { dir: dir.to_path_buf() },
        Error::Io(source) | Error::Storage(fjall::LsmError::Io(source)) => {
            // A table or journal that a manifest names and that is gone was taken away from outside.
            if source.kind() == std::io::ErrorKind::NotFound {
                corrupt(format!("a file is missing: {source}"))
            } else {
                EngineError::from_io(dir, source)
            }
        }
        other => corrupt(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_small_are_written_out_before_writers_would_wait_for_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = Fjall::open(dir.path(), 8 << 20).expect("opened");
        for first in (0..400_000u64).step_by(10_000) {
            let mut batch = Batch::new();
            (first..first + 10_000).for_each(|nth| batch.put(&nth.to_be_bytes(), b"v"));
            engine.commit(&mut batch, Durability::Buffered).expect("committed");
            let (began, told) = (std::time::Instant::now(), engine.database.write_buffer_size());
            // A disk that writes nothing out within a second is not waited for; what it has not written is bounded still.
            assert!(told <= 2 * UNWRITTEN_BYTES_MAX, "{told} bytes after {first} rows, which each writer waits for");
            while engine.database.write_buffer_size() > UNWRITTEN_BYTES_MAX {
                assert!(began.elapsed() < PATIENCE, "{told} bytes after {first} rows are never written out");
                std::thread::sleep(WAIT);
            }
        }
    }

    /// How long a test waits for what another thread does by itself.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn tables_that_were_merged_go_though_their_versions_are_held() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = Fjall::open(dir.path(), 8 << 20).expect("opened");
        let tables = dir.path().join("keyspaces/1/tables");
        let mut made = 0;
        for round in 0..12_u64 {
            let mut batch = Batch::new();
            (0..2_000u64).for_each(|nth| batch.put(&(nth * 7_919 % 2_003).to_be_bytes(), &[round as u8; 500]));
            engine.commit(&mut batch, Durability::Buffered).expect("committed");
            engine.rows.rotate_memtable_and_wait().expect("written out");
            made = made.max(std::fs::read_dir(&tables).expect("tables").count());
        }
        // The engine lets go of a version when the next memtable is rotated, at the latest.
        let began = std::time::Instant::now();
        while std::fs::read_dir(&tables).expect("tables").count() != engine.rows.table_count() {
            assert!(
                began.elapsed() < PATIENCE,
                "{made} tables were there at once, {} are in use",
                engine.rows.table_count()
            );
            let mut batch = Batch::new();
            batch.put(b"one more", b"v");
            engine.commit(&mut batch, Durability::Buffered).expect("committed");
            engine.rotate().expect("rotated");
            std::thread::yield_now();
        }
        assert!(engine.rows.table_count() < 12, "something was merged");
    }

    #[test]
    fn a_full_memtable_is_rotated_by_the_thread_of_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = Fjall::open(dir.path(), 8 << 20).expect("opened");
        let mut batch = Batch::new();
        (0..9_000u64).for_each(|nth| batch.put(&nth.to_be_bytes(), &[7; 1_000]));
        let began = std::time::Instant::now();
        engine.commit(&mut batch, Durability::Buffered).expect("committed");
        while engine.rows.table_count() == 0 {
            assert!(began.elapsed() < PATIENCE, "nothing was written out");
            std::thread::yield_now();
        }
    }
}
