//! Filling a store from rows in any order: sorted by position, on disk where memory does not suffice, then written in
//! large batches. Reading rows from a format is left to the caller.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use reknit_core::bounds::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use reknit_core::canonical::{put_bytes, put_varint};
use reknit_core::{CollectionId, Content, Position, Record};

use super::commit::submit;
use super::open::TEMPORARY;
use super::write::{Done, Write};
use super::{Collection, ScanPositions, StoreError, check_bounds};
use crate::store::engine::Durability;
use crate::store::error::shown;

/// Records that one commit of an import holds.
const BATCH_RECORDS: usize = 10_000;
/// Bytes of keys and values that one commit of an import holds, so that large values do not pile up in memory.
const BATCH_BYTES: usize = 16 << 20;
/// Bytes of rows that are sorted in memory; more are sorted in runs on disk.
const SORT_BYTES: usize = 16 << 20;
/// Runs merged at once; each holds a file and a buffer.
const RUNS_MAX: usize = 256;

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

/// A row on its way, with its number in the source from 1.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    position: Position,
    key: Vec<u8>,
    nth: u64,
    value: Vec<u8>,
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
        let mut batch = Batch::default();
        let mut changed = 0;
        for row in sorted.rows()? {
            let row = row?;
            so_far.written += 1;
            let same = match &mut beside {
                Some(beside) => beside.up_to(self.id, &row, &mut batch)?,
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
                batch.push(gone(self.id, record.key));
            }
            if batch.is_full() {
                changed += self.write(&mut batch, Durability::Buffered)?.changed();
            }
        }
        let done = self.write(&mut batch, Durability::Synced)?;
        self.store.sync()?;
        progress(so_far);
        Ok(Imported { records: so_far.written, changed: changed + done.changed(), commit: done.commit })
    }

    fn sort<E>(
        &self,
        rows: impl IntoIterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
        so_far: &mut ImportProgress,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<Sorted, ImportError<E>> {
        let mut sorter = Sorter::new(self.store.inner.dir.join(TEMPORARY))?;
        for row in rows {
            let (key, value) = row.map_err(ImportError::Source)?;
            so_far.read += 1;
            let content = Content::Live(value);
            check_bounds(&key, &content)?;
            let Content::Live(value) = content else { continue };
            let position = self.store.inner.keys.position(self.name(), &key);
            sorter.push(Row { position, key, nth: so_far.read, value })?;
            if so_far.read.is_multiple_of(BATCH_RECORDS as u64) {
                progress(*so_far);
            }
        }
        let sorted = sorter.finish()?;
        sorted.refuse_duplicates()?;
        Ok(sorted)
    }

    fn write(&self, batch: &mut Batch, durability: Durability) -> Result<Done, StoreError> {
        let done = submit(&self.store.inner, std::mem::take(batch).writes, durability)?;
        self.store.tidy_history();
        Ok(done)
    }
}

fn gone(collection: CollectionId, key: Vec<u8>) -> Write {
    Write::Local { collection, key, content: Content::Tombstone, expires: None }
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
    fn up_to(&mut self, collection: CollectionId, row: &Row, batch: &mut Batch) -> Result<bool, StoreError> {
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
                batch.push(gone(collection, record.key));
            }
        }
    }
}

/// Sorts rows by position and key, in runs on disk when they outgrow memory.
struct Sorter {
    dir: PathBuf,
    rows: Vec<Row>,
    bytes: usize,
    runs: Vec<PathBuf>,
    made: u64,
}

impl Sorter {
    fn new(base: PathBuf) -> Result<Self, StoreError> {
        // Imports at the same time each sort in a directory of their own.
        let dir = base.join(format!("import-{:016x}", super::open::random()?));
        Ok(Self { dir, rows: Vec::new(), bytes: 0, runs: Vec::new(), made: 0 })
    }

    fn push(&mut self, row: Row) -> Result<(), StoreError> {
        self.bytes += row.key.len() + row.value.len() + size_of::<Row>();
        self.rows.push(row);
        if self.bytes >= SORT_BYTES {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<(), StoreError> {
        let mut rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        rows.sort_unstable();
        self.write_run(rows.into_iter().map(Ok))?;
        if self.runs.len() >= RUNS_MAX {
            // Merging as many as may be open at once into one keeps files and buffers bounded.
            let runs = std::mem::take(&mut self.runs);
            let merged = merge(&runs)?;
            self.write_run(merged)?;
            for run in runs {
                fs::remove_file(&run).map_err(|error| StoreError::file(&run, error))?;
            }
        }
        Ok(())
    }

    fn write_run(&mut self, rows: impl Iterator<Item = Result<Row, StoreError>>) -> Result<(), StoreError> {
        let path = self.dir.join(format!("run-{}", self.made));
        self.made += 1;
        let at = |error| StoreError::file(&path, error);
        fs::create_dir_all(&self.dir).map_err(at)?;
        let mut file = BufWriter::with_capacity(1 << 18, File::create(&path).map_err(at)?);
        let mut bytes = Vec::new();
        for row in rows {
            let row = row?;
            bytes.clear();
            bytes.extend_from_slice(&row.position.0.to_be_bytes());
            put_varint(&mut bytes, row.nth);
            put_bytes(&mut bytes, &row.key);
            put_bytes(&mut bytes, &row.value);
            file.write_all(&bytes).map_err(at)?;
        }
        file.flush().map_err(at)?;
        self.runs.push(path);
        Ok(())
    }

    fn finish(mut self) -> Result<Sorted, StoreError> {
        if self.runs.is_empty() {
            self.rows.sort_unstable();
        } else if !self.rows.is_empty() {
            self.spill()?;
        }
        Ok(Sorted { rows: std::mem::take(&mut self.rows), runs: std::mem::take(&mut self.runs), sorter: self })
    }
}

impl Drop for Sorter {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the store is next opened.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// All rows in order: in memory, or in runs on disk.
struct Sorted {
    rows: Vec<Row>,
    runs: Vec<PathBuf>,
    /// Removes the runs when it goes.
    sorter: Sorter,
}

type SortedRows = Box<dyn Iterator<Item = Result<Row, StoreError>>>;

impl Sorted {
    fn refuse_duplicates(&self) -> Result<(), StoreError> {
        let duplicate = |key: &[u8], first, second| StoreError::Duplicate { key: shown(key), first, second };
        if self.runs.is_empty() {
            let twice = self.rows.windows(2).find(|pair| pair[0].key == pair[1].key);
            return twice.map_or(Ok(()), |pair| Err(duplicate(&pair[0].key, pair[0].nth, pair[1].nth)));
        }
        let mut last: Option<Row> = None;
        for row in merge(&self.runs)? {
            let row = row?;
            if let Some(last) = last.filter(|last| last.key == row.key) {
                return Err(duplicate(&row.key, last.nth, row.nth));
            }
            last = Some(Row { value: Vec::new(), ..row });
        }
        Ok(())
    }

    fn rows(self) -> Result<SortedRows, StoreError> {
        if self.runs.is_empty() {
            return Ok(Box::new(self.rows.into_iter().map(Ok)));
        }
        let merged = merge(&self.runs)?;
        let keep = self.sorter;
        Ok(Box::new(merged.inspect(move |_| {
            // The runs stay as long as they are read.
            let _ = &keep;
        })))
    }
}

fn merge(runs: &[PathBuf]) -> Result<impl Iterator<Item = Result<Row, StoreError>> + use<>, StoreError> {
    let mut open = runs.iter().map(|path| Run::open(path)).collect::<Result<Vec<Run>, _>>()?;
    let mut heap = BinaryHeap::new();
    for (nth, run) in open.iter_mut().enumerate() {
        heap.extend(run.next()?.map(|row| Reverse((row, nth))));
    }
    Ok(std::iter::from_fn(move || {
        let Reverse((row, nth)) = heap.pop()?;
        match open[nth].next() {
            Ok(next) => heap.extend(next.map(|row| Reverse((row, nth)))),
            Err(error) => {
                heap.clear();
                return Some(Err(error));
            }
        }
        Some(Ok(row))
    }))
}

/// One sorted run that is read back.
struct Run {
    path: PathBuf,
    file: BufReader<File>,
}

impl Run {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|error| StoreError::file(path, error))?;
        Ok(Self { path: path.to_path_buf(), file: BufReader::with_capacity(1 << 16, file) })
    }

    fn next(&mut self) -> Result<Option<Row>, StoreError> {
        self.read().map_err(|error| StoreError::file(&self.path, error))
    }

    fn read(&mut self) -> io::Result<Option<Row>> {
        let mut position = [0; 8];
        match self.file.read_exact(&mut position) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let nth = self.varint()?;
        let key = self.bytes(KEY_BYTES_MAX)?;
        let value = self.bytes(VALUE_BYTES_MAX)?;
        Ok(Some(Row { position: Position(u64::from_be_bytes(position)), key, nth, value }))
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.file.read_exact(&mut byte)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    fn bytes(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if len > limit {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; len];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
