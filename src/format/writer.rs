//! Records written as a file: the counterpart of the reader.
//!
//! The order of the records is the caller's concern.

use std::io::{self, Write};

use super::layout::escaped;
use super::{Format, Layout, csv, jsonl, kv};
use crate::core::DecodeError;
use crate::core::row::{self, Row, Value};

/// Why a record was not written. Records before it were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The output does not take more bytes.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
    /// Rows were asked for and the store holds raw records.
    #[error("the store holds raw records without columns; export them as kv instead of {0}")]
    NoColumns(Format),
    /// The value is no row, though the store has a layout.
    #[error("the value of {key} is no row ({reason}); export as kv to see its bytes")]
    NotARow {
        /// The key, for people.
        key: String,
        /// What is wrong with the bytes.
        reason: DecodeError,
    },
    /// CSV cannot say that a column is absent.
    #[error("the row of {key} has no column `{column}`, which CSV cannot tell from NULL; export as jsonl")]
    Absent {
        /// The key, for people.
        key: String,
        /// The column.
        column: String,
    },
    /// The header, which is written first, lacks a column.
    #[error("the row of {key} has a column `{column}` that the header lacks; export as jsonl")]
    Beyond {
        /// The key, for people.
        key: String,
        /// The column.
        column: String,
    },
    /// The file would be read back as another record.
    #[error("the key columns of the row of {key} say another key; export as kv, or put the row again")]
    OtherKey {
        /// The key, for people.
        key: String,
    },
}

impl WriteError {
    /// Whether the reader of the output went away, which is no failure of the export.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, WriteError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Writes records one after the other.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    format: Format,
    layout: Layout,
    line: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Starts a file of records laid out by `layout`; CSV begins with its header. Give a buffered `out`.
    ///
    /// # Errors
    /// [`WriteError`]: what `out` says, or that this format cannot hold such records.
    pub fn new(mut out: W, format: Format, layout: Layout) -> Result<Writer<W>, WriteError> {
        if format != Format::Kv && layout.format() == Format::Kv {
            return Err(WriteError::NoColumns(format));
        }
        if format == Format::Csv {
            csv::write_header(&mut out, layout.columns())?;
        }
        Ok(Writer { out, format, layout, line: Vec::new() })
    }

    /// Writes one record: the bytes of its key and value as the store has them.
    ///
    /// # Errors
    /// [`WriteError`]: what `out` says, or a record that is no row of the layout.
    pub fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        self.line.clear();
        match self.format {
            Format::Kv => kv::write(&mut self.line, key, value),
            Format::Jsonl => {
                let row = self.row(key, value)?;
                self.line.extend_from_slice(jsonl::object(&row, self.layout.columns()).as_bytes());
                self.line.push(b'\n');
            }
            Format::Csv => {
                let row = self.row(key, value)?;
                self.csv_line(key, &row)?;
            }
        }
        self.out.write_all(&self.line)?;
        Ok(())
    }

    /// Flushes what is buffered and gives the output back.
    ///
    /// # Errors
    /// [`WriteError`]: what `out` says.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn row(&self, key: &[u8], value: &[u8]) -> Result<Row, WriteError> {
        let row =
            row::decode(value).map_err(|reason| WriteError::NotARow { key: self.layout.show_key(key), reason })?;
        if !self.layout.is_key_of(key, &row) {
            return Err(WriteError::OtherKey { key: self.layout.show_key(key) });
        }
        Ok(row)
    }

    fn csv_line(&mut self, key: &[u8], row: &Row) -> Result<(), WriteError> {
        let columns = self.layout.columns();
        let values: Result<Vec<&Value>, &String> = columns.iter().map(|name| row.get(name).ok_or(name)).collect();
        let values = match values {
            Ok(values) if values.len() == row.columns().len() => values,
            Ok(_) => {
                let beyond = row.columns().find(|(name, _)| !columns.iter().any(|column| column == name));
                let column = beyond.map(|(name, _)| escaped(name)).unwrap_or_default();
                return Err(WriteError::Beyond { key: self.layout.show_key(key), column });
            }
            Err(column) => {
                return Err(WriteError::Absent { key: self.layout.show_key(key), column: escaped(column) });
            }
        };
        for (i, value) in values.into_iter().enumerate() {
            self.line.extend_from_slice(if i > 0 { b"," } else { b"" });
            csv::write_field(&mut self.line, value)?;
        }
        self.line.push(b'\n');
        Ok(())
    }
}
