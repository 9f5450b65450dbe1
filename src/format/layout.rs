//! How the records of a store are laid out: what its keys are made of, and in which order its columns came.
//!
//! Kept in the store's `layout` bytes, so that export and the command line speak as the imported file did. Without a
//! layout, keys and values are raw bytes.

use serde::{Deserialize, Serialize};

use super::csv;
use super::{Format, Reason, fits, jsonl};
use crate::core::bounds::KEY_BYTES_MAX;
use crate::core::row::{self, COLUMNS_MAX, Json, Row, Value, decode_key, encode_key};

/// Bytes of an encoded layout: as many columns as a row may have, with the longest names.
pub const LAYOUT_BYTES_MAX: usize = 4 * 1024 * 1024;

const LAYOUT_FORMAT: u8 = 1;

/// The format that records came in, the columns that make their keys, and all columns as they were imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    format: Format,
    key: Vec<String>,
    columns: Vec<String>,
}

/// Why layout bytes were not taken, or two layouts do not go together. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// Written by a later release.
    #[error("the store's layout has format {0}, which this release does not know; use the release that wrote it")]
    Version(u8),
    /// Not a layout.
    #[error("the store's layout is damaged; import once more to write a new one")]
    Damaged,
    /// The store has rows and raw records were to be added, or the other way round.
    #[error("the store holds {store} records and this file is {file}; nothing was changed. Use a store of its own")]
    Formats {
        /// What the store has.
        store: Format,
        /// What the file has.
        file: Format,
    },
    /// Another key.
    #[error("the store's key is `{store}` and this file's is `{file}`; nothing was changed. Use a store of its own")]
    Keys {
        /// The store's key columns.
        store: String,
        /// The file's key columns.
        file: String,
    },
}

/// Why a key or value on the command line was not understood. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// `0x` and something else than pairs of hex digits.
    #[error("after 0x come pairs of hex digits; `{0}` has others")]
    NotHex(String),
    /// More or fewer fields than columns.
    #[error(
        "{found} fields were given; the columns are {expected}. Separate them with commas and quote those that contain one"
    )]
    FieldCount {
        /// Fields given.
        found: usize,
        /// The columns.
        expected: String,
    },
    /// Not the format of this store.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Beyond the bound for keys.
    #[error("a key of {0} bytes; at most {KEY_BYTES_MAX} are allowed")]
    KeyTooLong(usize),
    /// The key columns of a value say another key.
    #[error("the value's key columns say {row}, but the key is {key}")]
    OtherKey {
        /// What the row says.
        row: String,
        /// What was given.
        key: String,
    },
}

impl Layout {
    /// Keys and values are raw bytes.
    pub fn raw() -> Layout {
        Layout { format: Format::Kv, key: Vec::new(), columns: Vec::new() }
    }

    /// Rows of a table, shown as CSV shows them.
    pub fn of_table(key: Vec<String>, columns: Vec<String>) -> Layout {
        Layout::new(Format::Csv, key, columns)
    }

    pub(super) fn new(format: Format, key: Vec<String>, columns: Vec<String>) -> Layout {
        Layout { format, key, columns }
    }

    /// The format that decides how values and arguments are read; also what an export uses if not told otherwise.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The columns that make a key; none for raw records.
    pub fn key_columns(&self) -> &[String] {
        &self.key
    }

    /// All columns in the order of the file.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The bytes for the store: a version byte, then MessagePack.
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = rmp_serde::to_vec(self).expect("strings and lists of strings always encode");
        [&[LAYOUT_FORMAT], body.as_slice()].concat()
    }

    /// Reads the bytes of [`Layout::to_bytes`]; no bytes at all mean raw records.
    ///
    /// # Errors
    /// [`LayoutError`] for the bytes of a later release, or damaged ones.
    pub fn from_bytes(bytes: &[u8]) -> Result<Layout, LayoutError> {
        let Some((&version, body)) = bytes.split_first() else {
            return Ok(Layout::raw());
        };
        if version != LAYOUT_FORMAT {
            return Err(LayoutError::Version(version));
        }
        if body.len() > LAYOUT_BYTES_MAX {
            return Err(LayoutError::Damaged);
        }
        let layout: Layout = rmp_serde::from_slice(body).map_err(|_| LayoutError::Damaged)?;
        let raw = layout.format == Format::Kv;
        let sound = raw == layout.key.is_empty() && layout.columns.len() <= COLUMNS_MAX && layout.to_bytes() == bytes;
        if sound { Ok(layout) } else { Err(LayoutError::Damaged) }
    }

    /// This layout after a file of another one was imported as well: the same key, and any new columns at the end.
    ///
    /// # Errors
    /// [`LayoutError`]: how the two differ where they must not.
    pub fn joined(&self, file: &Layout) -> Result<Layout, LayoutError> {
        if (self.format == Format::Kv) != (file.format == Format::Kv) {
            return Err(LayoutError::Formats { store: self.format, file: file.format });
        }
        if self.key != file.key {
            return Err(LayoutError::Keys { store: escaped(&self.key.join(",")), file: escaped(&file.key.join(",")) });
        }
        let mut joined = self.clone();
        // JSON Lines can name every value that CSV can, so it wins.
        if file.format == Format::Jsonl {
            joined.format = Format::Jsonl;
        }
        for name in &file.columns {
            if fits(joined.columns.len()) && !joined.columns.contains(name) {
                joined.columns.push(name.clone());
            }
        }
        Ok(joined)
    }

    /// Takes in a record that was kept before anybody knew this layout: its columns too, unless it is no row of this key.
    pub fn takes_in(&mut self, key: &[u8], value: &[u8]) -> bool {
        let row = row::decode(value).ok().filter(|row| self.format != Format::Kv && self.is_key_of(key, row));
        let Some(row) = row else { return false };
        for (name, _) in row.columns() {
            if fits(self.columns.len()) && !self.columns.iter().any(|known| known == name) {
                self.columns.push(name.into());
            }
        }
        true
    }

    /// The key of a row: the values of the key columns. In CSV, texts that are whole numbers become such.
    ///
    /// # Errors
    /// [`Reason`]: why the row has no such key.
    pub fn key_of(&self, row: &Row) -> Result<Vec<u8>, Reason> {
        let mut key = Vec::with_capacity(self.key.len());
        for name in &self.key {
            key.push(match row.get(name) {
                Some(Value::Json(_) | Value::Array(_)) => return Err(Reason::NestedKey { name: name.clone() }),
                Some(value) if self.format == Format::Csv => csv::key_value(value),
                Some(value) => value.clone(),
                None => {
                    let columns = row.columns().map(|(name, _)| name.to_owned()).collect();
                    return Err(Reason::UnknownKeyColumn { name: name.clone(), columns });
                }
            });
        }
        Ok(encode_key(&key))
    }

    /// Whether the row's key columns say `key`. A store that took CSV and JSON Lines has rows of either kind.
    pub(super) fn is_key_of(&self, key: &[u8], row: &Row) -> bool {
        let Ok(parts) = decode_key(key) else {
            return false;
        };
        let says = |(part, name): (&Value, &String)| {
            row.get(name).is_some_and(|value| value == part || csv::key_value(value) == *part)
        };
        parts.len() == self.key.len() && parts.iter().zip(&self.key).all(says)
    }

    /// The key that an argument means.
    ///
    /// Raw records: the bytes of the argument, or `0x` and hex. Rows: one field for each key column, as in a line of
    /// CSV; with one key column the whole argument, unless it starts with a quote. In a store of JSON Lines, numbers,
    /// `true`, `false` and `null` mean what they mean in JSON unless quoted. What [`Layout::show_key`] prints is always
    /// taken back.
    ///
    /// # Errors
    /// [`ArgumentError`]: what is wrong with it.
    pub fn encode_key_argument(&self, argument: &str) -> Result<Vec<u8>, ArgumentError> {
        let key = match self.format {
            Format::Kv => match argument.strip_prefix("0x") {
                Some(digits) => unhex(digits).ok_or_else(|| ArgumentError::NotHex(escaped(digits)))?,
                None => argument.as_bytes().to_vec(),
            },
            _ => match self.hex_key(argument) {
                Some(key) => key,
                None => encode_key(&self.key_fields(argument)?),
            },
        };
        if key.len() > KEY_BYTES_MAX { Err(ArgumentError::KeyTooLong(key.len())) } else { Ok(key) }
    }

    /// The key as people read and type it, without control characters. [`Layout::encode_key_argument`] takes it back.
    pub fn show_key(&self, key: &[u8]) -> String {
        let takes_back = |shown: &String| printable(shown) && self.encode_key_argument(shown).is_ok_and(|k| k == key);
        let candidates = match self.format {
            Format::Kv => vec![std::str::from_utf8(key).ok().map(str::to_owned)],
            _ => {
                let parts = decode_key(key).unwrap_or_default();
                vec![self.show_parts(&parts, false), self.show_parts(&parts, true)]
            }
        };
        candidates.into_iter().flatten().find(takes_back).unwrap_or_else(|| hex(key))
    }

    /// The value that an argument means: raw bytes; or a whole row as a line of the store's format, whose key columns
    /// must say `key`.
    ///
    /// # Errors
    /// [`ArgumentError`]: what is wrong with it, or that it says another key.
    pub fn encode_value_argument(&self, key: &[u8], argument: &str) -> Result<Vec<u8>, ArgumentError> {
        let malformed = |reason: Reason| ArgumentError::Malformed(escaped(&reason.to_string()));
        let row = match self.format {
            Format::Kv => return Ok(argument.as_bytes().to_vec()),
            Format::Jsonl => jsonl::row(argument.as_bytes(), &mut jsonl::Names::default()).map_err(malformed)?,
            Format::Csv => {
                let fields = csv_fields(argument)?;
                if fields.len() != self.columns.len() {
                    let expected = escaped(&self.columns.join(","));
                    return Err(ArgumentError::FieldCount { found: fields.len(), expected });
                }
                csv::row(&fields, &self.columns).map_err(malformed)?
            }
        };
        if self.is_key_of(key, &row) {
            return Ok(row::encode(&row));
        }
        let says = self.key_of(&row).map_err(malformed)?;
        Err(ArgumentError::OtherKey { row: self.show_key(&says), key: self.show_key(key) })
    }

    /// The value in one line without control characters: a row as a JSON object, raw bytes as text or `0x` and hex.
    pub fn show_value(&self, value: &[u8]) -> String {
        if self.format != Format::Kv
            && let Ok(row) = row::decode(value)
        {
            return escaped(&jsonl::object(&row, &self.columns));
        }
        match std::str::from_utf8(value) {
            Ok(text) if printable(text) && !text.starts_with("0x") => text.to_owned(),
            _ => hex(value),
        }
    }

    /// A typed key in hex, as it is shown when its texts cannot be. Any other argument that starts with 0x is a text.
    fn hex_key(&self, argument: &str) -> Option<Vec<u8>> {
        let key = unhex(argument.strip_prefix("0x")?)?;
        decode_key(&key).is_ok_and(|parts| parts.len() == self.key.len()).then_some(key)
    }

    fn key_fields(&self, argument: &str) -> Result<Vec<Value>, ArgumentError> {
        if self.key.len() == 1 && !argument.starts_with('"') {
            return Ok(vec![self.key_field(argument, false)]);
        }
        let fields = csv_fields(argument)?;
        if fields.len() != self.key.len() {
            return Err(ArgumentError::FieldCount { found: fields.len(), expected: escaped(&self.key.join(",")) });
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(fields.iter().map(|(bytes, quoted)| self.key_field(&text(bytes), quoted)).collect())
    }

    fn key_field(&self, text: &str, quoted: bool) -> Value {
        if self.format == Format::Csv {
            return csv::key_value(&csv::value(text, quoted));
        }
        match Json::value(text) {
            Ok(value @ (Value::Null | Value::Bool(_) | Value::Int(_) | Value::Decimal(_))) if !quoted => value,
            _ => Value::Text(text.to_owned()),
        }
    }

    fn show_parts(&self, parts: &[Value], quote_all: bool) -> Option<String> {
        let mut out = String::new();
        for (i, part) in parts.iter().enumerate() {
            out.push_str(if i > 0 { "," } else { "" });
            match part {
                Value::Text(text) => {
                    let delimits = text.starts_with('"') || (parts.len() > 1 && text.contains([',', '"']));
                    if quote_all || delimits || self.key_field(text, false) != *part {
                        out.push_str(&format!("\"{}\"", text.replace('"', "\"\"")));
                    } else {
                        out.push_str(text);
                    }
                }
                Value::Null if self.format == Format::Csv => {}
                other => other.put_json(&mut out).ok()?,
            }
        }
        Some(out)
    }
}

/// The text with control characters and the like as JSON's `\u…` escapes, safe for a terminal.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if harmless(c) {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

fn printable(text: &str) -> bool {
    text.chars().all(harmless)
}

/// Neither a control character nor one that reorders or hides what stands beside it on a screen.
fn harmless(c: char) -> bool {
    let hides = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !hides
}

fn csv_fields(argument: &str) -> Result<csv::Fields, ArgumentError> {
    let mut fields = csv::Fields::default();
    match fields.feed(argument.as_bytes()) {
        Ok(true) => Ok(fields),
        Ok(false) => Err(ArgumentError::Malformed("a closing quote is missing".to_owned())),
        Err(Reason::Malformed { what, .. }) => Err(ArgumentError::Malformed(what)),
        Err(reason) => Err(ArgumentError::Malformed(reason.to_string())),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::from("0x");
    bytes.iter().for_each(|byte| out.push_str(&format!("{byte:02x}")));
    out
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = digits.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}
