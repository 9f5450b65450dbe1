//! Rows of Parquet: its columns are read side by side, some rows at a time, page by page.
//!
//! What a column's type means, and how its values become ours, is said in [`column`]; what is held of its pages in [`pages`].

mod column;
mod pages;

use std::any::Any;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};
use reknit_core::bounds::VALUE_BYTES_MAX;
use reknit_core::row::{COLUMNS_MAX, Kind, Value};

use self::column::{HELD_VALUE_BYTES, Leaf, Values, leaf};
use super::source::Opened;
use crate::store::StoreError;
use crate::store::linked::{Column, Rows, Shape};

/// Bytes that all columns together hold of rows to come, beside the page of each that the library holds.
pub(super) const HELD_BYTES: usize = 32 << 20;
/// Rows that are read of a column at once, at most; more make nothing faster.
const AT_ONCE_MAX: usize = 1_024;
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
    Ok(Box::new(scan(place, opened, shape)?))
}

/// The same, of which can be told what it holds.
pub(super) fn scan<'a>(place: &'a str, opened: Arc<dyn Opened>, shape: &Shape) -> Result<Scan<'a>, StoreError> {
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
    Ok(Scan {
        place,
        opened,
        metadata,
        leaves,
        ahead,
        groups,
        group: 0,
        columns: Vec::new(),
        at_once: 0,
        left: 0,
        given: 0,
        ended: false,
    })
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

/// All rows of a file, of which each column holds some ready.
pub(super) struct Scan<'a> {
    place: &'a str,
    opened: Arc<dyn Opened>,
    metadata: ParquetMetaData,
    leaves: Vec<Leaf>,
    ahead: usize,
    /// Row groups to come.
    groups: std::ops::Range<usize>,
    /// The one that is read, its columns, how many rows each of them reads at once, and how many are to come.
    group: usize,
    columns: Vec<Values>,
    at_once: usize,
    left: usize,
    /// Rows that were given, of all groups.
    given: u64,
    ended: bool,
}

impl Iterator for Scan<'_> {
    type Item = Result<Vec<Value>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.row().map_err(|message| StoreError::database(self.place, message)).transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}

impl Scan<'_> {
    fn row(&mut self) -> Result<Option<Vec<Value>>, String> {
        while self.left == 0 {
            let Some(group) = self.groups.next() else { return Ok(None) };
            self.group = group;
            self.begin(group).map_err(|error| damaged(group, &error))?;
        }
        let (group, at_once, share) = (self.group, self.at_once, HELD_BYTES / self.columns.len().max(1));
        let mut row = Vec::with_capacity(self.columns.len());
        for column in &mut self.columns {
            if column.is_spent() {
                guarded(|| column.fill(at_once, share)).map_err(|error| damaged(group, &error))?;
            }
            match column.next_value() {
                Some(Ok(value)) => row.push(value),
                Some(Err(bytes)) => {
                    let name = column.name();
                    return Err(format!(
                        "row {}: the column {name} holds a value of {bytes} bytes; at most {VALUE_BYTES_MAX} are allowed, and \
                         --ignore {name} leaves the column out",
                        self.given + 1
                    ));
                }
                None => {
                    let error = format!("the column {} ends {} rows too early", column.name(), self.left);
                    return Err(damaged(group, &error));
                }
            }
        }
        self.left -= 1;
        self.given += 1;
        Ok(Some(row))
    }

    fn begin(&mut self, group: usize) -> Result<(), String> {
        let metadata = self.metadata.row_group(group);
        let rows = usize::try_from(metadata.num_rows()).map_err(|_| "its number of rows is negative".to_string())?;
        let column = |leaf: &Leaf| {
            guarded(|| {
                let column = metadata.columns().get(leaf.place());
                let column = column.ok_or_else(|| ParquetError::General("a column is missing".into()))?;
                let chunk = Chunk::new(Arc::clone(&self.opened), self.ahead);
                let pages = SerializedPageReader::new(Arc::new(chunk), column, rows, None)?;
                Ok(Values::new(leaf.clone(), rows, pages))
            })
        };
        self.columns = self.leaves.iter().map(column).collect::<Result<_, _>>()?;
        self.at_once = rows_at_once(metadata, rows, &self.leaves);
        self.left = rows;
        Ok(())
    }

    /// Bytes that are held of rows to come.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.columns.iter().map(Values::held_bytes).sum()
    }
}

/// How many rows a column reads at once, so that all columns together hold what is wanted where rows are as long as the average.
fn rows_at_once(group: &RowGroupMetaData, rows: usize, leaves: &[Leaf]) -> usize {
    let bytes = |leaf: &Leaf| {
        let column = group.columns().get(leaf.place());
        column.and_then(|column| usize::try_from(column.uncompressed_size()).ok()).unwrap_or_default()
    };
    let bytes = leaves.iter().map(bytes).fold(0, usize::saturating_add);
    // What is said of a row in few bytes takes a place for each of its values all the same.
    let of_row = (bytes / rows.max(1)).saturating_add(leaves.len() * HELD_VALUE_BYTES);
    (HELD_BYTES / of_row.max(1)).clamp(1, AT_ONCE_MAX)
}

fn damaged(group: usize, error: &str) -> String {
    format!("row group {}: {error}; the file is damaged, write it anew", group + 1)
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
