//! Filling a store from rows in any order: sorted by position, on disk where memory does not suffice, then written in
//! large batches. Reading rows from a format is left to the caller.

use std::path::Path;
use std::time::{Duration, Instant};

use reknit_core::{Content, Position, Record};

use super::commit::submit;
use super::open::TEMPORARY;
use super::sorting::{Row, Sorted, Sorter};
use super::write::{Done, Write};
use super::{Collection, ScanPositions, StoreError, check_bounds, check_key};
use crate::store::engine::Durability;

/// Records that one commit of an import holds.
const BATCH_RECORDS: usize = 10_000;
/// Bytes of keys and values that one commit of an import holds, so that large values do not pile up in memory.
const BATCH_BYTES: usize = 16 << 20;
/// Bytes of rows that are sorted in memory; more are sorted in runs on disk.
const SORT_BYTES: usize = 16 << 20;
/// The same of digests in place of rows: those of a million rows.
const SORT_BARE_BYTES: usize = 80 << 20;

/// How often what was sorted is kept for another to go on with, at most.
const KEPT_EVERY: Duration = Duration::from_secs(2);
/// Bytes of the digest of a row's content.
const DIGEST_BYTES: usize = 32;

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
        let mut so_far = ImportProgress::default();
        let sorted = self.sort(rows, &mut so_far, progress)?;
        sorted.refuse_duplicates()?;
        Ok(self.write_sorted(&sorted, None, (u64::MAX, &mut 0), so_far, progress)?.unwrap_or_default())
    }

    /// Makes a collection of bare records hold these rows and no others, in any order; whoever sends none any more has sent all.
    /// Where it is `kept` what was sorted outlives it if it ends early, and it goes on with what did before.
    ///
    /// # Errors
    /// As for [`Collection::import`], and whatever comes in place of rows.
    pub(crate) fn import_exactly(
        &self,
        pages: impl Iterator<Item = Result<BareRows, StoreError>>,
        mut kept: Option<Keeping<'_>>,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<Imported, StoreError> {
        let (mut so_far, mut last) = (ImportProgress::default(), Instant::now());
        let mut sorter = match &kept {
            Some(kept) => Sorter::kept(kept.dir, SORT_BARE_BYTES, &kept.sorted.runs)?,
            None => self.sorter(SORT_BARE_BYTES)?,
        };
        so_far.read = kept.as_ref().map_or(0, |kept| kept.sorted.read);
        for page in pages {
            let page = page?;
            for (position, key, digest) in page.iter() {
                so_far.read += 1;
                check_key(key)?;
                sorter.push(position, so_far.read, key, digest)?;
            }
            progress(so_far);
            if let (Some(kept), Some(upto), true) = (&mut kept, page.upto, last.elapsed() >= KEPT_EVERY) {
                let runs = sorter.checkpoint()?;
                (kept.note)(&SortedUpto { runs, read: so_far.read, upto })?;
                last = Instant::now();
            }
        }
        let mut sorted = sorter.finish()?;
        let done = self.import_sorted(&sorted, so_far, progress)?;
        sorted.let_go();
        Ok(done)
    }

    fn import_sorted(
        &self,
        sorted: &Sorted,
        so_far: ImportProgress,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<Imported, StoreError> {
        #[cfg(feature = "embedded-redb")]
        if so_far.read > 0 && self.is_to_fill() {
            // Whoever comes twice is met while it is filled, and nothing is there before its end.
            return self.fill(sorted.rows()?, None, so_far, progress);
        }
        sorted.refuse_duplicates()?;
        #[cfg(feature = "embedded-redb")]
        let most = self.most_changed(so_far.read);
        #[cfg(not(feature = "embedded-redb"))]
        let most = u64::MAX;
        let mut changed = 0;
        let written = self.write_sorted(sorted, Some(self.beside()), (most, &mut changed), so_far, progress)?;
        #[cfg(feature = "embedded-redb")]
        if written.is_none() {
            let filled = self.fill(sorted.rows()?, Some(self.beside()), so_far, progress)?;
            return Ok(Imported { changed: changed + filled.changed, ..filled });
        }
        Ok(written.unwrap_or_default())
    }

    /// Writes rows one by one, and lets go what is beside them; none if it ended early, once so many had changed.
    fn write_sorted(
        &self,
        sorted: &Sorted,
        mut beside: Option<Beside>,
        (most, changed): (u64, &mut u64),
        mut so_far: ImportProgress,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<Option<Imported>, StoreError> {
        let mut batch = Batch::default();
        for row in sorted.rows()? {
            let row = row?;
            so_far.written += 1;
            let same = match &mut beside {
                Some(beside) => {
                    let before = beside.up_to(&row, &mut |record| batch.push(self.gone(record.key)))?;
                    before.is_some_and(|before| before.state.value() == Some(row.value.as_slice()))
                }
                None => false,
            };
            if !same {
                batch.push(Write::Row { collection: self.id, key: row.key, value: row.value });
            }
            if batch.is_full() {
                *changed += self.write(&mut batch, Durability::Buffered)?.changed();
                progress(so_far);
                if *changed >= most {
                    return Ok(None);
                }
            }
        }
        for record in beside.iter_mut().flat_map(|beside| &mut beside.records) {
            let (_, record) = record?;
            if record.state.is_live() {
                batch.push(self.gone(record.key));
            }
            if batch.is_full() {
                *changed += self.write(&mut batch, Durability::Buffered)?.changed();
                if *changed >= most {
                    return Ok(None);
                }
            }
        }
        let done = self.write(&mut batch, Durability::Synced)?;
        *changed += done.changed();
        self.store.sync()?;
        #[cfg(feature = "embedded-redb")]
        self.store.repack()?;
        progress(so_far);
        Ok(Some(Imported { records: so_far.written, changed: *changed, commit: done.commit }))
    }

    fn beside(&self) -> Beside {
        Beside { records: self.scan_positions().peekable() }
    }

    fn sorter(&self, memory: usize) -> Result<Sorter, StoreError> {
        Sorter::new(&self.store.inner.dir.join(TEMPORARY), memory)
    }

    fn sort<E>(
        &self,
        rows: impl IntoIterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
        so_far: &mut ImportProgress,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<Sorted, ImportError<E>> {
        let mut sorter = self.sorter(SORT_BYTES)?;
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

/// What was read of a source and sorted, up to where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SortedUpto {
    /// The numbers of the files with it.
    pub(crate) runs: Vec<u64>,
    /// Rows.
    pub(crate) read: u64,
    /// Where to go on, as the source spells it.
    pub(crate) upto: Vec<u8>,
}

/// How an import outlives its end.
pub(crate) struct Keeping<'a> {
    /// Where its sorted files are.
    pub(crate) dir: &'a Path,
    /// What it goes on with.
    pub(crate) sorted: SortedUpto,
    /// Notes durably what was sorted since; that is there, and durable, until the import is done.
    pub(crate) note: &'a mut dyn FnMut(&SortedUpto) -> Result<(), StoreError>,
}

/// Rows of an index on their way into it: of each where it lies, its key, and the digest of its content.
#[derive(Debug, Default)]
pub(crate) struct BareRows {
    /// Where to go on behind them, if one may.
    pub(crate) upto: Option<Vec<u8>>,
    /// Keys and digests, one behind the other.
    bytes: Vec<u8>,
    /// Where each lies, and where it ends among the bytes.
    rows: Vec<(Position, usize)>,
}

impl BareRows {
    pub(crate) fn push(&mut self, position: Position, key: &[u8], digest: &[u8; DIGEST_BYTES]) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(digest);
        self.rows.push((position, self.bytes.len()));
    }

    fn iter(&self) -> impl Iterator<Item = (Position, &[u8], &[u8])> {
        let begins = std::iter::once(0).chain(self.rows.iter().map(|(_, end)| *end));
        self.rows.iter().zip(begins).map(|((position, end), begin)| {
            let (key, digest) = self.bytes[begin..*end].split_at(*end - begin - DIGEST_BYTES);
            (*position, key, digest)
        })
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
pub(super) struct Beside {
    records: std::iter::Peekable<ScanPositions>,
}

impl Beside {
    /// Lets go the live records that lie before a row. Gives what is there under its key.
    pub(super) fn up_to(&mut self, row: &Row, gone: &mut dyn FnMut(Record)) -> Result<Option<Record>, StoreError> {
        let place = (row.position, row.key.as_slice());
        loop {
            let before = |record: &Result<(Position, Record), StoreError>| match record {
                Ok((position, record)) => (*position, record.key.as_slice()) <= place,
                Err(_) => true,
            };
            let Some(record) = self.records.next_if(before) else { return Ok(None) };
            let (_, record) = record?;
            if record.key == row.key {
                return Ok(Some(record));
            }
            if record.state.is_live() {
                gone(record);
            }
        }
    }

    /// Lets go the live records behind all rows.
    #[cfg(feature = "embedded-redb")]
    pub(super) fn end(&mut self, gone: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        for record in &mut self.records {
            Some(record?.1).filter(|record| record.state.is_live()).into_iter().for_each(&mut *gone);
        }
        Ok(())
    }
}
