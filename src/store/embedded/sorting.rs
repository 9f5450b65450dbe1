//! Rows in any order, put in that of their positions and keys: in memory, or in runs on disk where memory does not suffice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use reknit_core::Position;
use reknit_core::bounds::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use reknit_core::canonical::{Reader, put_bytes, put_varint};

use super::StoreError;
use crate::store::error::shown;

/// How the files of runs are called, before their numbers.
const RUN_NAME: &str = "run-";
/// Runs merged at once; each holds a file and a buffer.
const RUNS_MAX: usize = 256;

/// A row on its way, with its number in the source from 1.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) position: Position,
    pub(super) key: Vec<u8>,
    pub(super) nth: u64,
    pub(super) value: Vec<u8>,
}

impl Row {
    fn put(&self, bytes: &mut Vec<u8>) {
        put_row(bytes, self.nth, &self.key, &self.value);
    }
}

fn run_name(nth: u64) -> String {
    format!("{RUN_NAME}{nth}")
}

fn put_row(bytes: &mut Vec<u8>, nth: u64, key: &[u8], value: &[u8]) {
    put_varint(bytes, nth);
    put_bytes(bytes, key);
    put_bytes(bytes, value);
}

/// Sorts rows, in runs on disk when they outgrow memory.
pub(super) struct Sorter {
    dir: PathBuf,
    memory: usize,
    held: Held,
    runs: Vec<PathBuf>,
    made: u64,
    /// Its runs outlive it until it is told otherwise, so that another may go on with them.
    keeps: bool,
    /// Runs that are durable.
    synced: u64,
}

/// Rows in memory: their bytes one behind the other, and where each begins.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    places: Vec<(Position, u32)>,
}

impl Held {
    fn key(&self, start: u32) -> &[u8] {
        let mut reader = Reader::new(self.bytes.get(start as usize..).unwrap_or_default());
        // What is read is what was put.
        reader
            .varint("number of a row", u64::MAX)
            .and_then(|_| reader.bytes("bytes of a key", KEY_BYTES_MAX))
            .unwrap_or_default()
    }

    fn row(&self, (position, start): (Position, u32)) -> Row {
        let mut reader = Reader::new(self.bytes.get(start as usize..).unwrap_or_default());
        let nth = reader.varint("number of a row", u64::MAX).unwrap_or_default();
        let key = reader.bytes("bytes of a key", KEY_BYTES_MAX).unwrap_or_default().to_vec();
        let value = reader.bytes("bytes of a value", VALUE_BYTES_MAX).unwrap_or_default().to_vec();
        Row { position, key, nth, value }
    }

    fn sort(&mut self) {
        let mut places = std::mem::take(&mut self.places);
        // Where a key comes twice its rows stay in the order of the source, in which they lie.
        places.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| (self.key(a.1), a.1).cmp(&(self.key(b.1), b.1))));
        self.places = places;
    }

    fn rows(&self) -> impl Iterator<Item = Row> {
        self.places.iter().map(|place| self.row(*place))
    }
}

impl Sorter {
    /// One that keeps its runs below `base`, and about so many bytes of rows in memory.
    pub(super) fn new(base: &Path, memory: usize) -> Result<Self, StoreError> {
        // Imports at the same time each sort in a directory of their own.
        let dir = base.join(format!("import-{:016x}", super::open::random()?));
        Ok(Self { dir, memory, held: Held::default(), runs: Vec::new(), made: 0, keeps: false, synced: 0 })
    }

    /// One that goes on with the runs of these numbers in `dir`, and keeps its own there too; whatever else is there goes.
    pub(super) fn kept(dir: &Path, memory: usize, runs: &[u64]) -> Result<Self, StoreError> {
        let met = |error| StoreError::file(dir, error);
        fs::create_dir_all(dir).map_err(met)?;
        let path = |nth: &u64| dir.join(run_name(*nth));
        let runs_kept: Vec<PathBuf> = runs.iter().map(path).collect();
        for item in fs::read_dir(dir).map_err(met)? {
            let path = item.map_err(met)?.path();
            if !runs_kept.contains(&path) {
                fs::remove_file(&path).map_err(|error| StoreError::file(&path, error))?;
            }
        }
        let made = runs.iter().max().map_or(0, |last| last + 1);
        let (dir, held) = (dir.to_path_buf(), Held::default());
        Ok(Self { dir, memory, held, runs: runs_kept, made, keeps: true, synced: made })
    }

    /// Makes durable what was sorted so far; gives the numbers of its runs.
    pub(super) fn checkpoint(&mut self) -> Result<Vec<u64>, StoreError> {
        if !self.held.places.is_empty() {
            self.spill()?;
        }
        let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(RUN_NAME)?.parse().ok();
        let numbers: Vec<u64> = self.runs.iter().filter_map(number).collect();
        for (path, _) in self.runs.iter().zip(&numbers).filter(|(_, number)| **number >= self.synced) {
            File::open(path).and_then(|run| run.sync_all()).map_err(|error| StoreError::file(path, error))?;
        }
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(|error| StoreError::file(&self.dir, error))?;
        self.synced = self.made;
        Ok(numbers)
    }

    pub(super) fn push(&mut self, position: Position, nth: u64, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let start = u32::try_from(self.held.bytes.len()).unwrap_or(u32::MAX);
        put_row(&mut self.held.bytes, nth, key, value);
        self.held.places.push((position, start));
        if self.held.bytes.len() + self.held.places.len() * size_of::<(Position, u32)>() >= self.memory {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<(), StoreError> {
        let mut held = std::mem::take(&mut self.held);
        held.sort();
        self.write_run(held.rows().map(Ok))?;
        if self.runs.len() >= RUNS_MAX {
            // Merging as many as may be open at once into one keeps files and buffers bounded.
            let runs = std::mem::take(&mut self.runs);
            let merged = merge(&runs)?;
            self.write_run(merged)?;
            // Those that are kept are what another goes on with until these are durable.
            for run in runs.into_iter().filter(|_| !self.keeps) {
                fs::remove_file(&run).map_err(|error| StoreError::file(&run, error))?;
            }
        }
        Ok(())
    }

    fn write_run(&mut self, rows: impl Iterator<Item = Result<Row, StoreError>>) -> Result<(), StoreError> {
        let mut run = RunWriter::create(&self.dir, &run_name(self.made))?;
        self.made += 1;
        for row in rows {
            run.put(&row?)?;
        }
        self.runs.push(run.finish()?);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Sorted, StoreError> {
        if self.runs.is_empty() {
            self.held.sort();
        } else if !self.held.places.is_empty() {
            self.spill()?;
        }
        Ok(Sorted { held: std::mem::take(&mut self.held), runs: std::mem::take(&mut self.runs), sorter: self })
    }
}

impl Drop for Sorter {
    fn drop(&mut self) {
        if !self.keeps {
            // What cannot be removed now is removed when the store is next opened.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// All rows in order: in memory, or in runs on disk.
pub(super) struct Sorted {
    held: Held,
    runs: Vec<PathBuf>,
    /// Removes the runs when it goes.
    sorter: Sorter,
}

pub(super) type SortedRows<'a> = Box<dyn Iterator<Item = Result<Row, StoreError>> + Send + 'a>;

/// That a key comes twice.
pub(super) fn duplicate(key: &[u8], first: u64, second: u64) -> StoreError {
    StoreError::Duplicate { key: shown(key), first, second }
}

impl Sorted {
    /// Nobody is to go on with its runs any more.
    pub(super) fn let_go(&mut self) {
        self.sorter.keeps = false;
    }

    pub(super) fn refuse_duplicates(&self) -> Result<(), StoreError> {
        if self.runs.is_empty() {
            let same = |pair: &&[(Position, u32)]| {
                pair[0].0 == pair[1].0 && self.held.key(pair[0].1) == self.held.key(pair[1].1)
            };
            let twice = self.held.places.windows(2).find(same);
            return twice.map_or(Ok(()), |pair| {
                let [first, second] = [pair[0], pair[1]].map(|place| self.held.row(place));
                Err(duplicate(&first.key, first.nth, second.nth))
            });
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

    pub(super) fn rows(&self) -> Result<SortedRows<'_>, StoreError> {
        Ok(if self.runs.is_empty() { Box::new(self.held.rows().map(Ok)) } else { Box::new(merge(&self.runs)?) })
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

/// A run that is being written.
pub(super) struct RunWriter {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: Vec<u8>,
}

impl RunWriter {
    pub(super) fn create(dir: &Path, name: &str) -> Result<Self, StoreError> {
        let path = dir.join(name);
        let made = fs::create_dir_all(dir).and_then(|()| File::create(&path));
        let file = made.map_err(|error| StoreError::file(&path, error))?;
        Ok(Self { path, file: BufWriter::with_capacity(1 << 18, file), bytes: Vec::new() })
    }

    pub(super) fn put(&mut self, row: &Row) -> Result<(), StoreError> {
        self.bytes.clear();
        self.bytes.extend_from_slice(&row.position.0.to_be_bytes());
        row.put(&mut self.bytes);
        self.file.write_all(&self.bytes).map_err(|error| StoreError::file(&self.path, error))
    }

    pub(super) fn finish(mut self) -> Result<PathBuf, StoreError> {
        self.file.flush().map_err(|error| StoreError::file(&self.path, error))?;
        Ok(self.path)
    }
}

/// One sorted run that is read back.
pub(super) struct Run {
    path: PathBuf,
    file: BufReader<File>,
}

impl Run {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|error| StoreError::file(path, error))?;
        Ok(Self { path: path.to_path_buf(), file: BufReader::with_capacity(1 << 16, file) })
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>, StoreError> {
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
