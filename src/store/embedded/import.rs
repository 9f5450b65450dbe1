//! Filling a store from rows in any order: sorted by position, on disk where memory does not suffice, then written in
//! large batches. Reading rows from a format is left to the caller.

use reknit_core::{Content, Position, Record};

use super::commit::submit;
use super::open::TEMPORARY;
use super::sorting::{Row, Sorted, Sorter};
use super::write::{Done, Write};
use super::{Collection, ScanPositions, StoreError, check_bounds};
use crate::store::engine::Durability;

/// Records that one commit of an import holds.
const BATCH_RECORDS: usize = 10_000;
/// Bytes of keys and values that one commit of an import holds, so that large values do not pile up in memory.
const BATCH_BYTES: usize = 16 << 20;
/// Bytes of rows that are sorted in memory; more are sorted in runs on disk.
const SORT_BYTES: usize = 16 << 20;
/// The same of digests in place of rows: those of a million rows.
const SORT_BARE_BYTES: usize = 80 << 20;

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportProgress {
    /// Rows taken from the source.
    pub read: u64,
    /// Records written to the store.
    pub written: u64,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rows read.
    pub records: u64,
    /// Rows that changed the store; the rest was there already.
    pub changed: u64,
    /// The commit that holds the last of them.
    pub commit: u64,
}

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError<E> {
    /// The source of rows failed; nothing was imported.
    #[error("{0}")]
    Source(E),
    /// The store failed. Up to that point whole batches may be there; the same import again finishes it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Collection {
    /// Puts all rows; durable when it returns. All of them are read, checked and sorted before the first is written,
    /// so a source that fails, a key that comes twice or a value that is too long changes nothing. Needs about 64 MiB
    /// of memory, and on disk twice what the rows take while it runs.
    ///
    /// # Errors
    /// [`ImportError::Source`] with what the source said, [`StoreError::Duplicate`], [`StoreError::KeyTooLong`],
    /// [`StoreError::ValueTooLong`], or what the engine met.
    pub fn import<E>(
        &self,
        rows: impl IntoIterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<Imported, ImportError<E>> {
        self.import_beside(rows, None, progress)
    }

    /// The same, and all that is not among the rows goes: the collection then holds these rows and no others.
    ///
    /// # Errors
    /// As for [`Collection::import`].
    pub(crate) fn import_exactly<E>(
        &self,
        rows: impl IntoIterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<Imported, ImportError<E>> {
        self.import_beside(rows, Some(Beside { records: self.scan_positions().peekable() }), progress)
    }

    fn import_beside<E>(
        &self,
        rows: impl IntoIterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
        mut beside: Option<Beside>,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<Imported, ImportError<E>> {
        let mut so_far = ImportProgress::default();
        let sorted = self.sort(rows, &mut so_far, progress)?;
        #[cfg(feature = "embedded-redb")]
        if beside.is_some() && so_far.read > 0 && self.is_to_fill() {
            // Whoever comes twice is met while it is filled, and nothing is there before its end.
            return Ok(self.fill(sorted.rows()?, so_far, progress)?);
        }
        sorted.refuse_duplicates()?;
        let mut batch = Batch::default();
        let mut changed = 0;
        for row in sorted.rows()? {
            let row = row?;
            so_far.written += 1;
            let same = match &mut beside {
                Some(beside) => beside.up_to(self, &row, &mut batch)?,
                None => false,
            };
            if !same {
                batch.push(Write::Row { collection: self.id, key: row.key, value: row.value });
            }
            if batch.is_full() {
                changed += self.write(&mut batch, Durability::Buffered)?.changed();
                progress(so_far);
            }
        }
        for record in beside.iter_mut().flat_map(|beside| &mut beside.records) {
            let (_, record) = record?;
            if record.state.is_live() {
                batch.push(self.gone(record.key));
            }
            if batch.is_full() {
                changed += self.write(&mut batch, Durability::Buffered)?.changed();
            }
        }
        let done = self.write(&mut batch, Durability::Synced)?;
        self.store.sync()?;
        #[cfg(feature = "embedded-redb")]
        self.store.repack()?;
        progress(so_far);
        Ok(Imported { records: so_far.written, changed: changed + done.changed(), commit: done.commit })
    }

    fn sort<E>(
        &self,
        rows: impl IntoIterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
        so_far: &mut ImportProgress,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<Sorted, ImportError<E>> {
        let memory = if self.store.inner.bare { SORT_BARE_BYTES } else { SORT_BYTES };
        let mut sorter = Sorter::new(&self.store.inner.dir.join(TEMPORARY), memory)?;
        for row in rows {
            let (key, value) = row.map_err(ImportError::Source)?;
            so_far.read += 1;
            let content = Content::Live(value);
            check_bounds(&key, &content)?;
            let Content::Live(value) = content else { continue };
            let position = self.store.inner.keys.position(self.name(), &key);
            sorter.push(position, so_far.read, &key, &value)?;
            if so_far.read.is_multiple_of(BATCH_RECORDS as u64) {
                progress(*so_far);
            }
        }
        Ok(sorter.finish()?)
    }

    fn write(&self, batch: &mut Batch, durability: Durability) -> Result<Done, StoreError> {
        let done = submit(&self.store.inner, std::mem::take(batch).writes, durability)?;
        self.store.tidy_history();
        Ok(done)
    }

    fn gone(&self, key: Vec<u8>) -> Write {
        let collection = self.id;
        match self.store.inner.bare {
            // Of a row that has gone nothing is left.
            true => Write::Follow { collection, key, content: None, run: None },
            false => Write::Local { collection, key, content: Content::Tombstone, expires: None },
        }
    }
}

/// What one commit of an import writes.
#[derive(Default)]
struct Batch {
    writes: Vec<Write>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, write: Write) {
        if let Write::Row { key, value, .. } = &write {
            self.bytes += key.len() + value.len();
        }
        self.writes.push(write);
    }

    fn is_full(&self) -> bool {
        self.writes.len() >= BATCH_RECORDS || self.bytes >= BATCH_BYTES
    }
}

/// The records that are there already, in the order in which rows are written: what is written lies behind them.
struct Beside {
    records: std::iter::Peekable<ScanPositions>,
}

impl Beside {
    /// Lets go what lies before a row. Says whether the row is there as it is.
    fn up_to(&mut self, of: &Collection, row: &Row, batch: &mut Batch) -> Result<bool, StoreError> {
        let place = (row.position, row.key.as_slice());
        loop {
            let before = |record: &Result<(Position, Record), StoreError>| match record {
                Ok((position, record)) => (*position, record.key.as_slice()) <= place,
                Err(_) => true,
            };
            let Some(record) = self.records.next_if(before) else { return Ok(false) };
            let (_, record) = record?;
            if record.key == row.key {
                return Ok(record.state.value() == Some(row.value.as_slice()));
            }
            if record.state.is_live() {
                batch.push(of.gone(record.key));
            }
        }
    }
}
