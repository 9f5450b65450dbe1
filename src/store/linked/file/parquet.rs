//! Rows of Parquet: its columns are read side by side, some rows at a time, page by page.
//!
//! What a column's type means, and how its values become ours, is said in [`column`].

mod column;

use std::any::Any;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use parquet::column::reader::get_column_reader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};
use reknit_core::row::{COLUMNS_MAX, Kind, Value};

use self::column::{Leaf, Values, leaf};
use super::source::Opened;
use crate::store::StoreError;
use crate::store::linked::{Column, Rows, Shape};

/// Rows that are read of each column at once.
const BATCH_ROWS: usize = 1_024;
/// Bytes that all columns together read ahead, and the least and most that one does.
const AHEAD_BYTES: usize = 32 << 20;
const AHEAD_MIN: usize = 64 << 10;
const AHEAD_MAX: usize = 4 << 20;

/// The columns that the file's footer tells.
pub(super) fn columns(place: &str, opened: &Arc<dyn Opened>) -> Result<Vec<Column>, StoreError> {
    let metadata = footer(place, opened)?;
    let schema = metadata.file_metadata().schema_descr();
    let fields = schema.root_schema().get_fields();
    if fields.len() > COLUMNS_MAX {
        return Err(StoreError::database(
            place,
            format!("the file has {} columns; at most {COLUMNS_MAX} are compared", fields.len()),
        ));
    }
    let column = |(at, field): (usize, &Arc<parquet::schema::types::Type>)| {
        let (kind, declared) = match leaf(schema, at) {
            Some(leaf) => (leaf.kind(), leaf.declared()),
            None => (Kind::Other, "nested columns".into()),
        };
        Column { name: field.name().into(), kind, declared }
    };
    Ok(fields.iter().enumerate().map(column).collect())
}

/// All rows.
pub(super) fn rows<'a>(place: &'a str, opened: Arc<dyn Opened>, shape: &Shape) -> Result<Rows<'a>, StoreError> {
    let metadata = footer(place, &opened)?;
    let schema = metadata.file_metadata().schema_descr();
    let mut leaves = Vec::with_capacity(shape.columns().len());
    for name in shape.sources() {
        let at = schema.root_schema().get_fields().iter().position(|field| field.name() == name);
        let at = at.ok_or_else(|| StoreError::database(place, format!("there is no column {name} any more")))?;
        let unread = || {
            let message =
                format!("the column {name} holds columns or lists of lists, which are not compared by this release");
            StoreError::database(place, message)
        };
        leaves.push(leaf(schema, at).filter(|leaf| leaf.kind() != Kind::Other).ok_or_else(unread)?);
    }
    let ahead = (AHEAD_BYTES / leaves.len().max(1)).clamp(AHEAD_MIN, AHEAD_MAX);
    let groups = 0..metadata.num_row_groups();
    let batches = Batches {
        place,
        opened,
        metadata,
        leaves,
        ahead,
        groups,
        group: 0,
        readers: Vec::new(),
        left: 0,
        ended: false,
    };
    Ok(Box::new(batches.flat_map(Batch::into_rows)))
}

fn footer(place: &str, opened: &Arc<dyn Opened>) -> Result<ParquetMetaData, StoreError> {
    let chunk = Chunk::new(Arc::clone(opened), AHEAD_MIN);
    let read = guarded(|| ParquetMetaDataReader::new().parse_and_finish(&chunk));
    read.map_err(|error| StoreError::database(place, format!("this is no sound Parquet file: {error}")))
}

/// What the library makes of bytes from outside; should it give up on them, that is an error of the file too.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    let gave_up = |panic: Box<dyn Any + Send>| {
        let said = panic.downcast_ref::<String>().cloned();
        said.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("its bytes contradict each other ({})", gave_up(panic))),
    }
}

/// Rows that were read at once, or why there are none.
enum Batch {
    Rows(Vec<std::vec::IntoIter<Value>>),
    Failed(StoreError),
}

impl Batch {
    fn into_rows(self) -> Rows<'static> {
        match self {
            Batch::Failed(error) => Box::new(std::iter::once(Err(error))),
            // All have the same number of values.
            Batch::Rows(mut columns) => Box::new(std::iter::from_fn(move || {
                columns
                    .iter_mut()
                    .map(Iterator::next)
                    .collect::<Option<Vec<Value>>>()
                    .filter(|row| !row.is_empty())
                    .map(Ok)
            })),
        }
    }
}

/// All rows of a file, some at a time.
struct Batches<'a> {
    place: &'a str,
    opened: Arc<dyn Opened>,
    metadata: ParquetMetaData,
    leaves: Vec<Leaf>,
    ahead: usize,
    /// Row groups to come.
    groups: std::ops::Range<usize>,
    /// The one that is read, its columns, and how many rows of it are to come.
    group: usize,
    readers: Vec<Values>,
    left: usize,
    ended: bool,
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        match read {
            Ok(columns) => columns.map(|columns| Batch::Rows(columns.into_iter().map(Vec::into_iter).collect())),
            Err(error) => {
                let message = format!("row group {}: {error}; the file is damaged, write it anew", self.group + 1);
                Some(Batch::Failed(StoreError::database(self.place, message)))
            }
        }
    }
}

impl Batches<'_> {
    fn read(&mut self) -> Result<Option<Vec<Vec<Value>>>, String> {
        while self.left == 0 {
            let Some(group) = self.groups.next() else { return Ok(None) };
            self.group = group;
            self.begin(group)?;
        }
        let count = self.left.min(BATCH_ROWS);
        let columns: Vec<Vec<Value>> =
            self.readers.iter_mut().map(|reader| guarded(|| reader.read(count))).collect::<Result<_, _>>()?;
        if let Some((column, leaf)) = columns.iter().zip(&self.leaves).find(|(column, _)| column.len() != count) {
            return Err(format!(
                "the column {} ends {} rows too early",
                leaf.name(),
                self.left - column.len().min(count)
            ));
        }
        self.left -= count;
        Ok(Some(columns))
    }

    fn begin(&mut self, group: usize) -> Result<(), String> {
        let metadata = self.metadata.row_group(group);
        let rows = usize::try_from(metadata.num_rows()).map_err(|_| "its number of rows is negative".to_string())?;
        let reader = |leaf: &Leaf| {
            guarded(|| {
                let column = metadata.columns().get(leaf.place());
                let column = column.ok_or_else(|| ParquetError::General("a column is missing".into()))?;
                let chunk = Chunk::new(Arc::clone(&self.opened), self.ahead);
                let pages = SerializedPageReader::new(Arc::new(chunk), column, rows, None)?;
                Ok(Values::new(leaf.clone(), get_column_reader(leaf.descriptor(), Box::new(pages))))
            })
        };
        self.readers = self.leaves.iter().map(reader).collect::<Result<_, _>>()?;
        self.left = rows;
        Ok(())
    }
}

/// The bytes of a file as the pages of one column are read: mostly one after the other, so that some are read ahead.
struct Chunk {
    opened: Arc<dyn Opened>,
    ahead: usize,
    /// What was read last, and where it is.
    held: Arc<Mutex<(u64, Bytes)>>,
}

impl Chunk {
    fn new(opened: Arc<dyn Opened>, ahead: usize) -> Chunk {
        Chunk { opened, ahead, held: Arc::default() }
    }

    /// These bytes, or fewer if the file ends before.
    fn bytes(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.len().saturating_sub(start)).unwrap_or(usize::MAX);
        let length = length.min(left);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = start.checked_sub(held.0).and_then(|at| usize::try_from(at).ok());
        if let Some(at) = inside
            && at.checked_add(length).is_some_and(|end| end <= held.1.len())
        {
            return Ok(held.1.slice(at..at + length));
        }
        if length >= self.ahead {
            return self.opened.read_at(start, length);
        }
        *held = (start, self.opened.read_at(start, self.ahead.min(left))?);
        Ok(held.1.slice(..length))
    }
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.opened.version().bytes
    }
}

impl ChunkReader for Chunk {
    type T = From;

    fn get_read(&self, start: u64) -> Result<From, ParquetError> {
        let (opened, held) = (Arc::clone(&self.opened), Arc::clone(&self.held));
        Ok(From { chunk: Chunk { opened, held, ahead: self.ahead }, at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.bytes(start, length)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!(
                "{length} bytes are said to be at byte {start}, which is too near to the end"
            )));
        }
        Ok(bytes)
    }
}

/// The bytes from a place on.
struct From {
    chunk: Chunk,
    at: u64,
}

impl Read for From {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.chunk.bytes(self.at, into.len())?;
        let count = bytes.len();
        bytes.copy_to_slice(&mut into[..count]);
        self.at += count as u64;
        Ok(count)
    }
}
