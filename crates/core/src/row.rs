//! Canonical rows: one row has one encoding whatever store or file it came from, and NULL, empty and absent differ.
//!
//! Which column of which store becomes which value is the adapters' and formats' concern.

mod decimal;
mod iso;
mod json;
mod key;
mod kind;
mod rounding;
mod size;
#[cfg(test)]
mod tests;
mod text;
mod tolerance;

use std::collections::BTreeMap;

use crate::bounds::{NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::canonical::{DecodeError, Reader, put_bytes, put_varint};

pub use decimal::Decimal;
pub use json::{Json, JsonError};
pub use key::{decode_key, encode_key};
pub use kind::Kind;
pub use rounding::Rounding;
pub use text::put_json_string;
pub use tolerance::Tolerance;

/// Columns of one row: twice what the widest SQL engines allow by default, and a list of their names stays small.
pub const COLUMNS_MAX: usize = 4096;
/// Arrays inside arrays, the outermost included; a reader's stack is bounded by it.
pub const ARRAY_DEPTH_MAX: usize = 16;
/// Containers inside containers of one [`Json`], the outermost included; a reader's stack is bounded by it.
pub const JSON_DEPTH_MAX: usize = 128;

/// The version of the encoding of rows and keys, which is the first byte of a row. Whoever keeps digests of rows keeps it with
/// them: those of another version tell nothing. This is the first; a later one reads rows of the one before.
pub const ENCODING: u8 = 1;

/// One value of one column. Values of different kinds are never equal: the number 1 is not the text `1`.
///
/// The order (kinds as listed, numbers by size, text by its bytes) is the order of encoded keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// SQL's NULL, JSON's null, an empty unquoted CSV field. An absent column is no value at all.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// An exact decimal number.
    Decimal(Decimal),
    /// A binary floating-point number.
    Float(Float),
    /// Unicode text.
    Text(String),
    /// Bytes that are not text.
    Bytes(Vec<u8>),
    /// An instant: microseconds since 1970-01-01 00:00:00 UTC.
    Timestamp(i64),
    /// A civil date and time without a zone: microseconds since 1970-01-01 00:00:00 of its own calendar.
    DateTime(i64),
    /// A civil date: days since 1970-01-01.
    Date(i32),
    /// A time of day or a duration: microseconds.
    Time(i64),
    /// A calendar interval.
    Interval(Interval),
    /// A UUID.
    Uuid([u8; 16]),
    /// A JSON document.
    Json(Json),
    /// A list of values.
    Array(Vec<Value>),
    /// A type without a canonical form of its own: comparable only between stores that print it alike.
    Other {
        /// The type's name in its store.
        type_name: String,
        /// The value as its store prints it.
        text: String,
    },
}

/// A calendar interval. Its parts are not convertible into each other, so they are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Microseconds.
    pub us: i64,
}

/// A floating-point number with one zero and one NaN, so that equal numbers have equal bytes.
///
/// Ordered by size; NaN is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Float(u64);

impl Float {
    /// Takes a number; -0 becomes 0, every NaN becomes the same NaN.
    pub fn new(number: f64) -> Float {
        if number.is_nan() {
            return Float(0x7ff8_0000_0000_0000);
        }
        Float(if number == 0.0 { 0 } else { number.to_bits() })
    }

    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }

    fn from_canonical_bits(bits: u64) -> Result<Float, DecodeError> {
        let float = Float::new(f64::from_bits(bits));
        if float.0 == bits { Ok(float) } else { Err(DecodeError::Malformed("float")) }
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.get().total_cmp(&other.get())
    }
}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Why a column was not taken. The row is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowError {
    /// The column's name is longer than [`NAME_BYTES_MAX`].
    NameTooLong {
        /// Bytes of the name.
        bytes: usize,
    },
    /// The row has [`COLUMNS_MAX`] columns already.
    TooManyColumns,
    /// The value nests arrays deeper than [`ARRAY_DEPTH_MAX`].
    TooDeep,
}

impl std::fmt::Display for RowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RowError::NameTooLong { bytes } => {
                write!(f, "a column name of {bytes} bytes; at most {NAME_BYTES_MAX} are allowed")
            }
            RowError::TooManyColumns => write!(f, "more than {COLUMNS_MAX} columns in one row"),
            RowError::TooDeep => write!(f, "arrays nested deeper than {ARRAY_DEPTH_MAX}"),
        }
    }
}

impl std::error::Error for RowError {}

/// The columns of one record, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(BTreeMap<String, Value>);

impl Row {
    /// A row without columns.
    pub fn new() -> Row {
        Row::default()
    }

    /// Sets one column and gives back what it held. Refuses what [`decode`] would refuse; see [`RowError`].
    ///
    /// # Errors
    /// [`RowError`]; the row is as it was then.
    pub fn set(&mut self, name: impl Into<String>, value: Value) -> Result<Option<Value>, RowError> {
        let name = name.into();
        check_column(self.0.len() - usize::from(self.0.contains_key(&name)), &name, &value)?;
        Ok(self.0.insert(name, value))
    }

    /// The column's value; `None` if the row has no such column, which is not the same as [`Value::Null`].
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The columns, by name.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

/// The one encoding of a row: two rows are equal exactly when their bytes are.
///
/// A format byte, then each column in the order of its name's bytes: the name (length and bytes), one byte for the
/// kind of the value, and the value's body (length and bytes).
pub fn encode(row: &Row) -> Vec<u8> {
    let mut out = vec![ENCODING];
    for (name, value) in &row.0 {
        put_bytes(&mut out, name.as_bytes());
        put_value(&mut out, value);
    }
    out
}

/// Appends what [`encode`] gives of a row with these columns, which come in the order of their names' bytes, each once: for
/// whoever has many rows of the same columns and no use for a [`Row`] of each.
///
/// # Errors
/// [`RowError`], as [`Row::set`] has it; then a part of the row was appended.
pub fn encode_columns<'a>(
    out: &mut Vec<u8>,
    columns: impl IntoIterator<Item = (&'a str, &'a Value)>,
) -> Result<(), RowError> {
    out.push(ENCODING);
    for (before, (name, value)) in columns.into_iter().enumerate() {
        check_column(before, name, value)?;
        put_bytes(out, name.as_bytes());
        put_value(out, value);
    }
    Ok(())
}

/// Whether a row that has so many other columns can hold this one.
fn check_column(others: usize, name: &str, value: &Value) -> Result<(), RowError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(RowError::NameTooLong { bytes: name.len() });
    }
    if others >= COLUMNS_MAX {
        return Err(RowError::TooManyColumns);
    }
    if depth(value) > ARRAY_DEPTH_MAX { Err(RowError::TooDeep) } else { Ok(()) }
}

/// Reads the bytes of [`encode`] and nothing else: what is accepted encodes to the same bytes again.
///
/// Takes at most [`VALUE_BYTES_MAX`] bytes and allocates no more than a small multiple of what it was given.
///
/// # Errors
/// [`DecodeError`] for anything but these bytes.
pub fn decode(bytes: &[u8]) -> Result<Row, DecodeError> {
    if bytes.len() > VALUE_BYTES_MAX {
        let (found, limit) = (bytes.len() as u64, VALUE_BYTES_MAX as u64);
        return Err(DecodeError::Bound { what: "bytes of a row", found, limit });
    }
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        ENCODING => {}
        other => return Err(DecodeError::Version(other)),
    }
    let mut columns: BTreeMap<String, Value> = BTreeMap::new();
    while !reader.rest().is_empty() {
        let name = utf8(reader.bytes("bytes of a column name", NAME_BYTES_MAX)?)?;
        if columns.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(DecodeError::Malformed("row: columns are not in the order of their names"));
        }
        if columns.len() == COLUMNS_MAX {
            let (found, limit) = (COLUMNS_MAX as u64 + 1, COLUMNS_MAX as u64);
            return Err(DecodeError::Bound { what: "columns of a row", found, limit });
        }
        let value = take_value(&mut reader, 0)?;
        columns.insert(name, value);
    }
    Ok(Row(columns))
}

/// The first byte of a value, in rows and in keys. Their order is the order of the kinds; 0 ends a list in a key.
mod tag {
    pub(super) const NULL: u8 = 1;
    pub(super) const BOOL: u8 = 2;
    pub(super) const INT: u8 = 3;
    pub(super) const DECIMAL: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    pub(super) const TEXT: u8 = 6;
    pub(super) const BYTES: u8 = 7;
    pub(super) const TIMESTAMP: u8 = 8;
    pub(super) const DATETIME: u8 = 9;
    pub(super) const DATE: u8 = 10;
    pub(super) const TIME: u8 = 11;
    pub(super) const INTERVAL: u8 = 12;
    pub(super) const UUID: u8 = 13;
    pub(super) const JSON: u8 = 14;
    pub(super) const ARRAY: u8 = 15;
    pub(super) const OTHER: u8 = 16;
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    out.push(tag_of(value));
    match value {
        Value::Null => put_bytes(out, &[]),
        Value::Bool(yes) => put_bytes(out, &[u8::from(*yes)]),
        Value::Int(number) => put_bytes(out, minimal(&number.to_be_bytes())),
        Value::Decimal(number) => {
            put_varint(out, 5 + number.digits().len() as u64);
            out.push(u8::from(number.is_negative()));
            out.extend_from_slice(&number.exponent().to_be_bytes());
            out.extend_from_slice(number.digits().as_bytes());
        }
        Value::Float(number) => put_bytes(out, &number.0.to_be_bytes()),
        Value::Text(text) => put_bytes(out, text.as_bytes()),
        Value::Bytes(bytes) => put_bytes(out, bytes),
        Value::Timestamp(us) | Value::DateTime(us) | Value::Time(us) => put_bytes(out, &us.to_be_bytes()),
        Value::Date(days) => put_bytes(out, &days.to_be_bytes()),
        Value::Interval(interval) => {
            put_varint(out, 16);
            out.extend_from_slice(&interval.months.to_be_bytes());
            out.extend_from_slice(&interval.days.to_be_bytes());
            out.extend_from_slice(&interval.us.to_be_bytes());
        }
        Value::Uuid(uuid) => put_bytes(out, uuid),
        Value::Json(json) => put_bytes(out, json.as_str().as_bytes()),
        Value::Array(items) => {
            let mut body = Vec::new();
            items.iter().for_each(|item| put_value(&mut body, item));
            put_bytes(out, &body);
        }
        Value::Other { type_name, text } => {
            let mut body = Vec::new();
            put_bytes(&mut body, type_name.as_bytes());
            body.extend_from_slice(text.as_bytes());
            put_bytes(out, &body);
        }
    }
}

fn take_value(reader: &mut Reader<'_>, arrays: usize) -> Result<Value, DecodeError> {
    let tag = reader.u8()?;
    let mut body = Reader::new(reader.bytes("bytes of a value", VALUE_BYTES_MAX)?);
    let value = match tag {
        tag::NULL => Value::Null,
        tag::BOOL => Value::Bool(take_bool(&mut body)?),
        tag::INT => Value::Int(take_int(&mut body)?),
        tag::DECIMAL => {
            let negative = take_bool(&mut body)?;
            let exponent = i32::from_be_bytes(body.array()?);
            let digits = std::str::from_utf8(take_rest(&mut body)?).map_err(|_| DecodeError::Malformed("decimal"))?;
            Value::Decimal(Decimal::from_canonical(negative, digits, exponent)?)
        }
        tag::FLOAT => Value::Float(Float::from_canonical_bits(body.u64()?)?),
        tag::TEXT => Value::Text(utf8(take_rest(&mut body)?)?),
        tag::BYTES => Value::Bytes(take_rest(&mut body)?.to_vec()),
        tag::TIMESTAMP => Value::Timestamp(i64::from_be_bytes(body.array()?)),
        tag::DATETIME => Value::DateTime(i64::from_be_bytes(body.array()?)),
        tag::DATE => Value::Date(i32::from_be_bytes(body.array()?)),
        tag::TIME => Value::Time(i64::from_be_bytes(body.array()?)),
        tag::INTERVAL => Value::Interval(Interval {
            months: i32::from_be_bytes(body.array()?),
            days: i32::from_be_bytes(body.array()?),
            us: i64::from_be_bytes(body.array()?),
        }),
        tag::UUID => Value::Uuid(body.array()?),
        tag::JSON => Value::Json(Json::from_canonical(&utf8(take_rest(&mut body)?)?)?),
        tag::ARRAY => {
            if arrays == ARRAY_DEPTH_MAX {
                let (found, limit) = (arrays as u64 + 1, ARRAY_DEPTH_MAX as u64);
                return Err(DecodeError::Bound { what: "depth of an array", found, limit });
            }
            let mut items = Vec::new();
            while !body.rest().is_empty() {
                items.push(take_value(&mut body, arrays + 1)?);
            }
            Value::Array(items)
        }
        tag::OTHER => {
            let type_name = utf8(body.bytes("bytes of a type name", VALUE_BYTES_MAX)?)?;
            Value::Other { type_name, text: utf8(take_rest(&mut body)?)? }
        }
        _ => return Err(DecodeError::Malformed("row: a kind of value that this release does not know")),
    };
    body.end()?;
    Ok(value)
}

fn tag_of(value: &Value) -> u8 {
    match value {
        Value::Null => tag::NULL,
        Value::Bool(_) => tag::BOOL,
        Value::Int(_) => tag::INT,
        Value::Decimal(_) => tag::DECIMAL,
        Value::Float(_) => tag::FLOAT,
        Value::Text(_) => tag::TEXT,
        Value::Bytes(_) => tag::BYTES,
        Value::Timestamp(_) => tag::TIMESTAMP,
        Value::DateTime(_) => tag::DATETIME,
        Value::Date(_) => tag::DATE,
        Value::Time(_) => tag::TIME,
        Value::Interval(_) => tag::INTERVAL,
        Value::Uuid(_) => tag::UUID,
        Value::Json(_) => tag::JSON,
        Value::Array(_) => tag::ARRAY,
        Value::Other { .. } => tag::OTHER,
    }
}

/// How many arrays are around the deepest value, without recursing deeper than is allowed.
fn depth(value: &Value) -> usize {
    fn at(value: &Value, around: usize) -> usize {
        match value {
            Value::Array(items) if around <= ARRAY_DEPTH_MAX => {
                items.iter().map(|item| at(item, around + 1)).max().unwrap_or(around + 1)
            }
            _ => around,
        }
    }
    at(value, 0)
}

/// The shortest two's complement of a big-endian number; at least one byte.
fn minimal(bytes: &[u8]) -> &[u8] {
    let redundant =
        |pair: &&[u8]| matches!(pair, [0x00, next] if *next < 0x80) || matches!(pair, [0xff, next] if *next >= 0x80);
    &bytes[bytes.windows(2).take_while(redundant).count()..]
}

fn take_int(body: &mut Reader<'_>) -> Result<i128, DecodeError> {
    let bytes = take_rest(body)?;
    if bytes.is_empty() || bytes.len() > 16 || minimal(bytes).len() != bytes.len() {
        return Err(DecodeError::Malformed("whole number"));
    }
    let mut wide = [if bytes[0] >= 0x80 { 0xff } else { 0 }; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Ok(i128::from_be_bytes(wide))
}

fn take_bool(body: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match body.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Malformed("truth value or sign")),
    }
}

fn take_rest<'a>(body: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    body.take(body.rest().len())
}

fn utf8(bytes: &[u8]) -> Result<String, DecodeError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Malformed("text: not UTF-8"))
}
