//! Files of records: CSV, JSON Lines and `kv`, read as (key, value) and written back as the same rows.
//!
//! Sorting, duplicate keys and the store itself are the commands' concern.
//!
//! What reading normalises, and so an export does not give back: a byte-order mark, CRLF line ends, quotes that a CSV
//! field did not need, spaces and the spelling of numbers and strings in JSON (`1.50` becomes `1.5`), and the order of
//! JSON names where lines disagree (the order of first appearance is kept). All else comes back byte for byte, sorted by
//! key.

mod csv;
mod jsonl;
mod kv;
mod layout;
mod lines;
mod rows;
mod writer;

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::str::FromStr;

use crate::core::bounds::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::core::row::{self, COLUMNS_MAX, Row, RowError};

pub use layout::{ArgumentError, LAYOUT_BYTES_MAX, Layout, LayoutError};
pub use rows::Rows;
pub use writer::{WriteError, Writer};

/// Bytes of one line, or of one CSV record over several lines: a value at its cap, with room for escapes.
pub const LINE_BYTES_MAX: usize = 80 * 1024 * 1024;
/// Bytes that are read from a file at once.
const READ_BYTES: usize = 256 * 1024;

/// How a file spells records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// RFC 4180 with a header row. Every field is text; an empty field is NULL, `""` is the empty text.
    Csv,
    /// One JSON object a line; the values keep their types.
    Jsonl,
    /// One `key<TAB>value` a line, raw bytes with the escapes `\t \n \r \\`.
    Kv,
}

impl Format {
    /// The format that a file's name promises: `.csv`, `.jsonl`, `.ndjson` or `.kv`, each also with `.zst` behind.
    pub fn of_path(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = name.strip_suffix(".zst").unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "csv" => Some(Format::Csv),
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            "kv" => Some(Format::Kv),
            _ => None,
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Format, String> {
        match name {
            "csv" => Ok(Format::Csv),
            "jsonl" => Ok(Format::Jsonl),
            "kv" => Ok(Format::Kv),
            _ => Err(format!("`{name}` is no format; formats are csv, jsonl and kv")),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
            Format::Kv => "kv",
        })
    }
}

/// What is wrong with a file, and where. Records that were read before it are whole. Its text is safe for a terminal,
/// whatever the file has for names.
#[derive(Debug, thiserror::Error)]
#[error("{}", layout::escaped(&format!("{}{reason}", Place(.file, *.line))))]
pub struct FormatError {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1; of a record over several lines, the first unless a later one is at fault. 0: the whole file.
    pub line: u64,
    /// What is wrong.
    pub reason: Reason,
}

/// What can be wrong with a file of records.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The file cannot be opened, read or decompressed.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// A CSV file without a header row.
    #[error("the file is empty; the first line of a CSV file names its columns")]
    Empty,
    /// A line, or a CSV record, beyond [`LINE_BYTES_MAX`].
    #[error("a line of more than {LINE_BYTES_MAX} bytes; is the end of a quoted field missing?")]
    LineTooLong,
    /// A CSV record with more fields than a row may have columns.
    #[error("more than {COLUMNS_MAX} columns in one row; is a line end missing?")]
    TooManyFields,
    /// Text was expected.
    #[error("{what} is not UTF-8; convert the file to UTF-8, or use kv for raw bytes")]
    NotUtf8 {
        /// Which part of the line.
        what: String,
    },
    /// The line does not follow its format.
    #[error("malformed {format}: {what}")]
    Malformed {
        /// The format.
        format: Format,
        /// What is wrong.
        what: String,
    },
    /// A CSV row with more or fewer fields than the header.
    #[error("{found} fields where the header has {expected}")]
    FieldCount {
        /// Fields of the row.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// The header names a column twice.
    #[error("the header names the column `{name}` twice")]
    DuplicateColumn {
        /// The column.
        name: String,
    },
    /// A line of JSON Lines without a column of the first one, where all rows have the same.
    #[error("the column `{name}`, which the first line has, is absent; write null for no value")]
    AbsentColumn {
        /// The column.
        name: String,
    },
    /// A line of JSON Lines with a column that the first one lacks, where all rows have the same.
    #[error("the column `{name}` is none of the first line, which names the columns of all")]
    OtherColumn {
        /// The column.
        name: String,
    },
    /// A file of JSON Lines without a line, whose columns are asked for.
    #[error("the file is empty; the first line of JSON Lines names the columns of all")]
    NoLine,
    /// A format with columns was read without saying which are the key.
    #[error("which columns are the key? Name them with --key; the columns are {}", Columns(.columns))]
    NoKeyColumns {
        /// The columns of the file; empty if they are not known before its rows are read.
        columns: Vec<String>,
    },
    /// The same column was given twice as a part of the key.
    #[error("the key column `{name}` is given twice")]
    RepeatedKeyColumn {
        /// The column.
        name: String,
    },
    /// A key column that the header or the row does not have.
    #[error("there is no key column `{name}`; the columns are {}", Columns(.columns))]
    UnknownKeyColumn {
        /// The column that was asked for.
        name: String,
        /// The columns that exist.
        columns: Vec<String>,
    },
    /// Key columns were named for a format that has none.
    #[error("kv files have no columns: the key is what stands before the tab, so --key is not taken")]
    KeyColumnsOfKv,
    /// A key column holds an object or a list.
    #[error("the key column `{name}` holds an object or a list; a key is text, a number or a truth value")]
    NestedKey {
        /// The column.
        name: String,
    },
    /// A key beyond its bound.
    #[error("a key of {bytes} bytes; at most {KEY_BYTES_MAX} are allowed")]
    KeyTooLong {
        /// Bytes of the encoded key.
        bytes: usize,
    },
    /// A value beyond its bound.
    #[error("a value of {bytes} bytes; at most {VALUE_BYTES_MAX} are allowed")]
    ValueTooLong {
        /// Bytes of the encoded value.
        bytes: usize,
    },
    /// A column that rows cannot hold.
    #[error("{0}")]
    Column(#[from] RowError),
}

/// What is wrong, without where; safe for a terminal.
pub(crate) fn shown(reason: &Reason) -> String {
    layout::escaped(&reason.to_string())
}

/// Opens a file of records, decompressing `.zst`; `-` is the standard input, as it comes.
///
/// # Errors
/// [`FormatError`] without a line: what the system says of the file.
pub fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, FormatError> {
    let failed = |error| FormatError { file: path.display().to_string(), line: 0, reason: Reason::Io(error) };
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, io::stdin())));
    }
    let file = File::open(path).map_err(failed)?;
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zst")) {
        let decoder = zstd::stream::read::Decoder::new(file).map_err(failed)?;
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, decoder)));
    }
    Ok(Box::new(BufReader::with_capacity(READ_BYTES, file)))
}

/// The bytes of a record: its key, its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// The records of a file, one after the other: the bytes of key and value. Ends after the first error.
///
/// Holds one record at a time, at most [`LINE_BYTES_MAX`] bytes of it.
pub struct Reader {
    lines: lines::Lines,
    layout: Layout,
    source: Source,
    line: u64,
    ended: bool,
}

enum Source {
    Csv(csv::Fields),
    Jsonl(jsonl::Names),
    Kv(Vec<u8>),
}

impl Reader {
    /// Starts reading `input`; `file` is its name in errors. CSV and JSON Lines need at least one key column.
    ///
    /// # Errors
    /// [`FormatError`]: what is wrong with the key columns or the header, or what cannot be read.
    pub fn new(
        file: impl Into<String>,
        input: Box<dyn BufRead + Send>,
        format: Format,
        key: &[String],
    ) -> Result<Reader, FormatError> {
        let mut lines = lines::Lines::new(file.into(), input);
        let repeated = key.iter().enumerate().find(|(i, name)| key[..*i].contains(name));
        if let Some((_, name)) = repeated {
            return Err(lines.error_at(0, Reason::RepeatedKeyColumn { name: name.clone() }));
        }
        let (columns, source) = match format {
            Format::Csv => {
                lines.skip_byte_order_mark()?;
                let mut fields = csv::Fields::default();
                let columns = csv::header(&mut fields, &mut lines)?;
                csv::check_key(&columns, key).map_err(|reason| lines.error_at(1, reason))?;
                (columns, Source::Csv(fields))
            }
            Format::Jsonl if key.is_empty() => {
                return Err(lines.error_at(0, Reason::NoKeyColumns { columns: Vec::new() }));
            }
            Format::Jsonl => {
                lines.skip_byte_order_mark()?;
                (Vec::new(), Source::Jsonl(jsonl::Names::default()))
            }
            Format::Kv if !key.is_empty() => return Err(lines.error_at(0, Reason::KeyColumnsOfKv)),
            Format::Kv => (Vec::new(), Source::Kv(Vec::new())),
        };
        let layout = Layout::new(format, key.to_vec(), columns);
        Ok(Reader { lines, layout, source, line: 0, ended: false })
    }

    /// How the file is laid out. Columns of JSON Lines are known once its rows have been read.
    pub fn layout(&self) -> Layout {
        match &self.source {
            Source::Jsonl(names) => {
                Layout::new(Format::Jsonl, self.layout.key_columns().to_vec(), names.in_order().to_vec())
            }
            _ => self.layout.clone(),
        }
    }

    /// The first line of the record that was read last, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    fn read(&mut self) -> Result<Option<KeyValue>, FormatError> {
        let first = self.lines.number() + 1;
        let record = match &mut self.source {
            Source::Csv(fields) => {
                if !fields.read(&mut self.lines)? {
                    return Ok(None);
                }
                csv::row(fields, self.layout.columns()).and_then(|row| record(&self.layout, &row))
            }
            Source::Jsonl(names) => match self.lines.next()? {
                None => return Ok(None),
                Some(line) => jsonl::row(line, names).and_then(|row| record(&self.layout, &row)),
            },
            Source::Kv(buffer) => match self.lines.next()? {
                None => return Ok(None),
                Some(line) => kv::read(line, buffer),
            },
        };
        self.line = first;
        let checked = record.and_then(|(key, value)| match (key.len(), value.len()) {
            (bytes, _) if bytes > KEY_BYTES_MAX => Err(Reason::KeyTooLong { bytes }),
            (_, bytes) if bytes > VALUE_BYTES_MAX => Err(Reason::ValueTooLong { bytes }),
            _ => Ok((key, value)),
        });
        checked.map(Some).map_err(|reason| self.lines.error_at(first, reason))
    }
}

impl Iterator for Reader {
    type Item = Result<KeyValue, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("layout", &self.layout).field("line", &self.line).finish_non_exhaustive()
    }
}

fn record(layout: &Layout, row: &Row) -> Result<KeyValue, Reason> {
    Ok((layout.key_of(row)?, row::encode(row)))
}

/// `file:line: `, or `file: ` for what is wrong with the whole file.
struct Place<'a>(&'a str, u64);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            0 => write!(f, "{}: ", self.0),
            line => write!(f, "{}:{line}: ", self.0),
        }
    }
}

/// Column names for people: in backquotes, not endless.
struct Columns<'a>(&'a [String]);

impl fmt::Display for Columns<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 30;
        if self.0.is_empty() {
            return f.write_str("the names in its lines");
        }
        for (i, name) in self.0.iter().take(SHOWN_MAX).enumerate() {
            write!(f, "{}`{}`", if i > 0 { ", " } else { "" }, name)?;
        }
        if self.0.len() > SHOWN_MAX { write!(f, " and {} more", self.0.len() - SHOWN_MAX) } else { Ok(()) }
    }
}

/// Whether one more distinct column still fits a layout.
fn fits(columns: usize) -> bool {
    columns < COLUMNS_MAX
}
