//! What the type of a Parquet column means, and its values as ours. Types are read as the format's own document on logical
//! types says; the older converted types are taken where there is no logical one.

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::column::page::PageReader;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType, Int96};
use parquet::errors::ParquetError;
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};
use reknit_core::bounds::VALUE_BYTES_MAX;
use reknit_core::row::{Decimal, Float, Interval, Json, Kind, Value};

use super::pages::{Begun, Extent, Pages};

const DAY_US: i64 = 86_400_000_000;
/// The day of 1970-01-01 as times of twelve bytes count days.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;

/// What values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Bool,
    Int,
    Unsigned,
    /// Whole numbers of this many digits behind the point.
    Decimal(i32),
    Float,
    Text,
    Bytes,
    Json,
    Uuid,
    Date,
    Interval,
    Time(Unit),
    DateTime(Unit),
    Timestamp(Unit),
    /// All NULL.
    Null,
    Unread,
}

/// What times are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    /// In microseconds, if that is exact.
    fn us(self, count: i64) -> Option<i64> {
        match self {
            Unit::Millis => count.checked_mul(1_000),
            Unit::Micros => Some(count),
            Unit::Nanos => (count % 1_000 == 0).then_some(count / 1_000),
        }
    }
}

impl From<&TimeUnit> for Unit {
    fn from(unit: &TimeUnit) -> Unit {
        match unit {
            TimeUnit::MILLIS => Unit::Millis,
            TimeUnit::MICROS => Unit::Micros,
            TimeUnit::NANOS => Unit::Nanos,
        }
    }
}

/// The column of a file that holds one column of its rows.
#[derive(Clone)]
pub(super) struct Leaf {
    name: String,
    place: usize,
    descriptor: ColumnDescPtr,
    meaning: Meaning,
    list: bool,
}

/// The leaf of a field of the rows, if the field is one value or a list of values.
pub(super) fn leaf(schema: &SchemaDescriptor, field: usize) -> Option<Leaf> {
    let mut own = (0..schema.num_columns()).filter(|place| schema.get_column_root_idx(*place) == field);
    let place = own.next().filter(|_| own.next().is_none())?;
    let descriptor = schema.column(place);
    let root = schema.get_column_root(place);
    let list = match (root.is_primitive(), descriptor.max_rep_level()) {
        (true, 0) => false,
        // A group with one value is a record, and one of maps has two.
        (true, 1) => true,
        (false, 1) if is_list(root.get_basic_info()) => true,
        _ => return None,
    };
    let meaning = meaning(&descriptor);
    Some(Leaf { name: root.name().into(), place, descriptor, meaning, list })
}

fn is_list(info: &parquet::schema::types::BasicTypeInfo) -> bool {
    matches!(info.logical_type_ref(), Some(LogicalType::List)) || info.converted_type() == ConvertedType::LIST
}

fn meaning(of: &ColumnDescPtr) -> Meaning {
    let physical = of.physical_type();
    if let Some(logical) = of.logical_type_ref() {
        return match (logical, physical) {
            (LogicalType::String | LogicalType::Enum, Physical::BYTE_ARRAY) => Meaning::Text,
            (LogicalType::Json, Physical::BYTE_ARRAY) => Meaning::Json,
            (LogicalType::Decimal(decimal), _) => Meaning::Decimal(decimal.scale),
            (LogicalType::Date, Physical::INT32) => Meaning::Date,
            (LogicalType::Time(time), Physical::INT32 | Physical::INT64) => Meaning::Time(Unit::from(&time.unit)),
            (LogicalType::Timestamp(time), Physical::INT64) if time.is_adjusted_to_u_t_c => {
                Meaning::Timestamp(Unit::from(&time.unit))
            }
            (LogicalType::Timestamp(time), Physical::INT64) => Meaning::DateTime(Unit::from(&time.unit)),
            (LogicalType::Integer(int), Physical::INT32 | Physical::INT64) if int.is_signed => Meaning::Int,
            (LogicalType::Integer(_), Physical::INT32 | Physical::INT64) => Meaning::Unsigned,
            (LogicalType::Uuid, Physical::FIXED_LEN_BYTE_ARRAY) => Meaning::Uuid,
            (LogicalType::Unknown, _) => Meaning::Null,
            _ => Meaning::Unread,
        };
    }
    match (of.converted_type(), physical) {
        (ConvertedType::UTF8 | ConvertedType::ENUM, Physical::BYTE_ARRAY) => Meaning::Text,
        (ConvertedType::JSON, Physical::BYTE_ARRAY) => Meaning::Json,
        (ConvertedType::DECIMAL, _) => Meaning::Decimal(of.type_scale()),
        (ConvertedType::DATE, Physical::INT32) => Meaning::Date,
        (ConvertedType::TIME_MILLIS, Physical::INT32) => Meaning::Time(Unit::Millis),
        (ConvertedType::TIME_MICROS, Physical::INT64) => Meaning::Time(Unit::Micros),
        (ConvertedType::TIMESTAMP_MILLIS, Physical::INT64) => Meaning::Timestamp(Unit::Millis),
        (ConvertedType::TIMESTAMP_MICROS, Physical::INT64) => Meaning::Timestamp(Unit::Micros),
        (ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32, Physical::INT32)
        | (ConvertedType::UINT_64, Physical::INT64) => Meaning::Unsigned,
        (ConvertedType::INTERVAL, Physical::FIXED_LEN_BYTE_ARRAY) => Meaning::Interval,
        (ConvertedType::BSON, _) => Meaning::Unread,
        (_, Physical::BOOLEAN) => Meaning::Bool,
        (_, Physical::INT32 | Physical::INT64) => Meaning::Int,
        (_, Physical::FLOAT | Physical::DOUBLE) => Meaning::Float,
        // Whose times these were, those who wrote them did not agree on.
        (_, Physical::INT96) => Meaning::DateTime(Unit::Nanos),
        (_, Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY) => Meaning::Bytes,
    }
}

impl Leaf {
    /// Its place among all leaves.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// What it means.
    pub(super) fn kind(&self) -> Kind {
        match self.meaning {
            Meaning::Unread => Kind::Other,
            _ if self.list => Kind::Array,
            Meaning::Bool => Kind::Bool,
            Meaning::Int | Meaning::Unsigned => Kind::Int,
            Meaning::Decimal(_) => Kind::Decimal,
            Meaning::Float => Kind::Float,
            Meaning::Text => Kind::Text,
            Meaning::Bytes => Kind::Bytes,
            Meaning::Json => Kind::Json,
            Meaning::Uuid => Kind::Uuid,
            Meaning::Date => Kind::Date,
            Meaning::Interval => Kind::Interval,
            Meaning::Time(_) => Kind::Time,
            Meaning::DateTime(_) => Kind::DateTime,
            Meaning::Timestamp(_) => Kind::Timestamp,
            Meaning::Null => Kind::Any,
        }
    }

    /// How the file declares it.
    pub(super) fn declared(&self) -> String {
        let list = if self.list { "list of " } else { "" };
        format!("{list}{}", self.descriptor.physical_type())
    }

    fn int(&self, number: i64) -> Value {
        let time = |unit: Unit, make: fn(i64) -> Value| unit.us(number).map_or_else(|| self.too_fine(number), make);
        match self.meaning {
            Meaning::Unsigned if self.descriptor.physical_type() == Physical::INT32 => {
                Value::Int((number as u32).into())
            }
            Meaning::Unsigned => Value::Int((number as u64).into()),
            Meaning::Decimal(scale) => self.decimal(number.into(), scale),
            Meaning::Date => i32::try_from(number).map_or(Value::Int(number.into()), Value::Date),
            Meaning::Time(unit) => time(unit, Value::Time),
            Meaning::DateTime(unit) => time(unit, Value::DateTime),
            Meaning::Timestamp(unit) => time(unit, Value::Timestamp),
            _ => Value::Int(number.into()),
        }
    }

    /// A time that is no whole number of microseconds, or beyond them, differs from all that are.
    fn too_fine(&self, number: i64) -> Value {
        Value::Other { type_name: self.declared(), text: number.to_string() }
    }

    fn decimal(&self, unscaled: i128, scale: i32) -> Value {
        Decimal::parse(&format!("{unscaled}e{}", -i64::from(scale)))
            .map_or_else(|| Value::Other { type_name: self.declared(), text: unscaled.to_string() }, Value::Decimal)
    }

    fn bytes(&self, bytes: &[u8]) -> Value {
        let raw = || Value::Bytes(bytes.to_vec());
        // A text that is no Unicode is bytes, and differs from every text.
        let text = || std::str::from_utf8(bytes).ok();
        match self.meaning {
            Meaning::Text => text().map_or_else(raw, |text| Value::Text(text.into())),
            Meaning::Json => {
                text().map_or_else(raw, |text| Json::parse(text).map_or_else(|_| Value::Text(text.into()), Value::Json))
            }
            Meaning::Uuid => bytes.try_into().map_or_else(|_| raw(), Value::Uuid),
            Meaning::Decimal(scale) => big_endian(bytes).map_or_else(raw, |unscaled| self.decimal(unscaled, scale)),
            Meaning::Interval => interval(bytes).map_or_else(raw, Value::Interval),
            _ => raw(),
        }
    }

    fn int96(&self, number: &Int96) -> Value {
        let [low, high, day] = number.data() else { return Value::Null };
        let nanos = i64::from(*high) << 32 | i64::from(*low);
        let us = (i64::from(*day) - EPOCH_JULIAN_DAY).checked_mul(DAY_US);
        let us = us.and_then(|us| us.checked_add(Unit::Nanos.us(nanos)?));
        us.map_or_else(|| self.too_fine(nanos), Value::DateTime)
    }
}

/// A whole number in two's complement, as long as it fits 128 bits.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first().is_some_and(|first| *first >= 0x80) { 0xff } else { 0 };
    let (more, last) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut wide = [sign; 16];
    wide[16 - last.len()..].copy_from_slice(last);
    let fits = more.iter().all(|byte| *byte == sign) && (more.is_empty() || (wide[0] >= 0x80) == (sign == 0xff));
    fits.then(|| i128::from_be_bytes(wide))
}

/// Months, days and milliseconds, four bytes each.
fn interval(bytes: &[u8]) -> Option<Interval> {
    let [months, days, millis] = [0, 4, 8].map(|at| {
        let part = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(part))
    });
    let us = i64::from(millis?) * 1_000;
    Some(Interval { months: i32::try_from(months?).ok()?, days: i32::try_from(days?).ok()?, us })
}

/// Bytes that a value takes at least while its row is to come.
pub(super) const HELD_VALUE_BYTES: usize = size_of::<Held>();

/// The values of a column of one row group, of which some are held ready.
pub(super) struct Values {
    leaf: Leaf,
    reader: ColumnReader,
    begun: Begun,
    /// The page that is read, and how many of its rows are to come.
    page: Extent,
    on_page: usize,
    /// Rows of the group that are to come beside those that are held.
    left: usize,
    held: std::vec::IntoIter<Held>,
}

/// A value whose row is to come.
enum Held {
    Ready(Value),
    /// A part of its page or of the dictionary; it is copied when its row is given, and not before.
    Bytes(ByteArray),
    /// So many bytes, which are more than a value may have.
    TooLong(usize),
}

impl Values {
    /// The values of so many rows, which these pages hold.
    pub(super) fn new(leaf: Leaf, rows: usize, pages: impl PageReader + 'static) -> Values {
        let begun = Begun::default();
        let pages = Pages::new(pages, begun.clone());
        let reader = get_column_reader(ColumnDescPtr::clone(&leaf.descriptor), Box::new(pages));
        let (page, held) = (Extent::default(), Vec::new().into_iter());
        Values { leaf, reader, begun, page, on_page: 0, left: rows, held }
    }

    pub(super) fn name(&self) -> &str {
        &self.leaf.name
    }

    /// Whether nothing is held.
    pub(super) fn is_spent(&self) -> bool {
        self.held.as_slice().is_empty()
    }

    /// The next value of those that are held; of one that is too long, its bytes.
    pub(super) fn next_value(&mut self) -> Option<Result<Value, usize>> {
        Some(self.held.next()?.value(&self.leaf))
    }

    /// Reads at most so many rows, of which those that no page holds take at most so many bytes; one row at least, as long as there
    /// are some.
    pub(super) fn fill(&mut self, rows: usize, bytes: usize) -> Result<(), ParquetError> {
        let rows = self.at_once(rows, bytes).min(self.left);
        let held = self.read(rows)?;
        if held.len() > rows {
            return Err(ParquetError::General("there are more values than said".into()));
        }
        if let Some(page) = self.begun.take() {
            (self.page, self.on_page) = (page, page.values);
        }
        self.on_page = self.on_page.saturating_sub(held.len());
        self.left -= held.len();
        self.held = held.into_iter();
        Ok(())
    }

    fn at_once(&self, rows: usize, bytes: usize) -> usize {
        // How long a list is, is known only when it is read.
        if self.leaf.list {
            return 1;
        }
        if !matches!(self.leaf.descriptor.physical_type(), Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY) {
            return rows;
        }
        let rows = if self.page.rebuilt { rows.min(bytes / self.page.bytes.max(1)) } else { rows };
        // The first row of a page is read alone: what the page holds is not known before.
        rows.min(self.on_page).max(1)
    }

    /// The next values, so many or all that are left.
    fn read(&mut self, rows: usize) -> Result<Vec<Held>, ParquetError> {
        let leaf = &self.leaf;
        let mut levels = Levels::default();
        let values: Vec<Held> = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => ready(levels.read(reader, rows)?, Value::Bool),
            ColumnReader::Int32ColumnReader(reader) => {
                ready(levels.read(reader, rows)?, |number| leaf.int(number.into()))
            }
            ColumnReader::Int64ColumnReader(reader) => ready(levels.read(reader, rows)?, |number| leaf.int(number)),
            ColumnReader::Int96ColumnReader(reader) => ready(levels.read(reader, rows)?, |number| leaf.int96(&number)),
            ColumnReader::FloatColumnReader(reader) => {
                // As it is printed: 0.1 of four bytes is 0.1 of eight.
                let float = |number: f32| number.to_string().parse().unwrap_or_else(|_| number.into());
                ready(levels.read(reader, rows)?, |number| Value::Float(Float::new(float(number))))
            }
            ColumnReader::DoubleColumnReader(reader) => {
                ready(levels.read(reader, rows)?, |number| Value::Float(Float::new(number)))
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                levels.read(reader, rows)?.into_iter().map(Held::bytes).collect()
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                levels.read(reader, rows)?.into_iter().map(|bytes| Held::bytes(bytes.into())).collect()
            }
        };
        if leaf.list { levels.lists(leaf, values) } else { levels.placed(leaf, values) }
    }

    /// Bytes of what is held, each once however many share them.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let bytes = self.held.as_slice().iter().filter_map(|held| match held {
            Held::Bytes(bytes) => Some(bytes.data()),
            Held::Ready(Value::Bytes(bytes)) => Some(bytes.as_slice()),
            Held::Ready(Value::Text(text)) => Some(text.as_bytes()),
            _ => None,
        });
        let once: std::collections::BTreeMap<_, _> = bytes.map(|bytes| (bytes.as_ptr(), bytes.len())).collect();
        once.values().sum()
    }
}

impl Held {
    /// Its length is asked for here: in a damaged file there may be none, which panics, and is expected only while it is read.
    fn bytes(bytes: ByteArray) -> Held {
        match bytes.len() {
            length if length > VALUE_BYTES_MAX => Held::TooLong(length),
            _ => Held::Bytes(bytes),
        }
    }

    /// Bytes that it takes as a value, at least.
    fn length(&self) -> usize {
        match self {
            Held::Ready(_) => 1,
            Held::Bytes(bytes) => bytes.len().max(1),
            Held::TooLong(length) => *length,
        }
    }

    /// The value; of one that is too long, its bytes.
    fn value(self, leaf: &Leaf) -> Result<Value, usize> {
        match self {
            Held::Ready(value) => Ok(value),
            Held::Bytes(bytes) => Ok(leaf.bytes(bytes.data())),
            Held::TooLong(length) => Err(length),
        }
    }
}

fn ready<T>(numbers: Vec<T>, value: impl Fn(T) -> Value) -> Vec<Held> {
    numbers.into_iter().map(|number| Held::Ready(value(number))).collect()
}

/// Which values are NULL, and where lists begin.
#[derive(Default)]
struct Levels {
    defined: Vec<i16>,
    repeated: Vec<i16>,
}

impl Levels {
    fn read<T: DataType>(&mut self, reader: &mut ColumnReaderImpl<T>, rows: usize) -> Result<Vec<T::T>, ParquetError> {
        let mut values = Vec::new();
        reader.read_records(rows, Some(&mut self.defined), Some(&mut self.repeated), &mut values)?;
        Ok(values)
    }

    /// The values of rows, in which there are some that are NULL.
    fn placed(self, leaf: &Leaf, values: Vec<Held>) -> Result<Vec<Held>, ParquetError> {
        let most = leaf.descriptor.max_def_level();
        if most == 0 {
            return Ok(values);
        }
        let mut values = values.into_iter();
        let next = |defined: i16| match defined == most {
            true => values.next().ok_or_else(too_few),
            false => Ok(Held::Ready(Value::Null)),
        };
        self.defined.into_iter().map(next).collect()
    }

    /// The list of one row.
    fn lists(self, leaf: &Leaf, items: Vec<Held>) -> Result<Vec<Held>, ParquetError> {
        // Added up before any is copied: a dictionary makes a long list of long values out of few bytes.
        let bytes: usize = items.iter().map(Held::length).sum();
        if bytes > VALUE_BYTES_MAX {
            return Ok(vec![Held::TooLong(bytes)]);
        }
        // None of them alone is too long then.
        let mut values = items.into_iter().filter_map(|item| item.value(leaf).ok());
        // From this level on there is an element, one below is the empty list, and less is none.
        let (most, element) = (leaf.descriptor.max_def_level(), leaf.descriptor.repeated_ancestor_def_level());
        let mut next = |defined: i16| match defined == most {
            true => values.next().ok_or_else(too_few),
            false => Ok(Value::Null),
        };
        let mut rows: Vec<Value> = Vec::new();
        for (defined, repeated) in self.defined.into_iter().zip(self.repeated) {
            let some = if defined >= element { Some(next(defined)?) } else { None };
            match (rows.last_mut(), some) {
                (Some(Value::Array(items)), Some(item)) if repeated > 0 => items.push(item),
                _ if repeated > 0 => return Err(ParquetError::General("a list goes on that has not begun".into())),
                (_, some) if some.is_some() || defined + 1 == element => {
                    rows.push(Value::Array(some.into_iter().collect()))
                }
                _ => rows.push(Value::Null),
            }
        }
        Ok(rows.into_iter().map(Held::Ready).collect())
    }
}

fn too_few() -> ParquetError {
    ParquetError::General("there are fewer values than said".into())
}
