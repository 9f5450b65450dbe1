//! What PostgreSQL sends in its binary format, as values. The formats are those of its `*send` functions
//! (`src/backend/utils/adt`), read here as they are documented by the protocol.

use postgres::types::{FromSql, Kind as TypeKind, Type};
use reknit_core::DecodeError;
use reknit_core::canonical::Reader;
use reknit_core::row::{ARRAY_DEPTH_MAX, Decimal, Float, Interval, Json, Kind, Value};

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_US: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// What a type means.
pub(super) fn kind(of: &Type) -> Kind {
    match *of {
        Type::BOOL => Kind::Bool,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => Kind::Int,
        Type::NUMERIC => Kind::Decimal,
        Type::FLOAT4 | Type::FLOAT8 => Kind::Float,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => Kind::Text,
        Type::BYTEA => Kind::Bytes,
        Type::DATE => Kind::Date,
        Type::TIME => Kind::Time,
        Type::TIMESTAMP => Kind::DateTime,
        Type::TIMESTAMPTZ => Kind::Timestamp,
        Type::INTERVAL => Kind::Interval,
        Type::UUID => Kind::Uuid,
        Type::JSON | Type::JSONB => Kind::Json,
        _ => match of.kind() {
            TypeKind::Enum(_) => Kind::Text,
            TypeKind::Domain(base) => kind(base),
            // Arrays that are spelled like none.
            _ if matches!(*of, Type::OID_VECTOR | Type::INT2_VECTOR) => Kind::Other,
            TypeKind::Array(element) if !matches!(kind(element), Kind::Other) => Kind::Array,
            _ => Kind::Other,
        },
    }
}

/// A field as it was sent.
pub(super) struct Sent<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Sent<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Sent(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Sent(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl Sent<'_> {
    /// The value that was sent as this type; a type that has no kind of its own was sent as text.
    pub(super) fn value(&self, of: &Type) -> Result<Value, DecodeError> {
        self.0.map_or(Ok(Value::Null), |raw| value(of, raw, 0))
    }
}

/// The value that these bytes are of a type.
pub(super) fn value_of(of: &Type, raw: &[u8]) -> Result<Value, DecodeError> {
    value(of, raw, 0)
}

fn value(of: &Type, raw: &[u8], depth: usize) -> Result<Value, DecodeError> {
    if let TypeKind::Domain(base) = of.kind() {
        return value(base, raw, depth);
    }
    let mut reader = Reader::new(raw);
    let read = match kind(of) {
        Kind::Bool => Value::Bool(reader.u8()? != 0),
        Kind::Int => Value::Int(int(of, &mut reader)?),
        Kind::Float if *of == Type::FLOAT4 => {
            let number = f32::from_bits(u32::from_be_bytes(reader.array()?));
            // As it is printed: 0.1 of four bytes is 0.1 of eight.
            Value::Float(Float::new(number.to_string().parse().unwrap_or_else(|_| number.into())))
        }
        Kind::Float => Value::Float(Float::new(f64::from_bits(reader.u64()?))),
        Kind::Decimal => numeric(&mut reader)?,
        Kind::Bytes => return Ok(Value::Bytes(raw.to_vec())),
        Kind::Date => match i32::from_be_bytes(reader.array()?) {
            i32::MAX => other(of, "infinity"),
            i32::MIN => other(of, "-infinity"),
            days => days.checked_add(EPOCH_DAYS).map(Value::Date).ok_or(DecodeError::Malformed("date"))?,
        },
        kind @ (Kind::DateTime | Kind::Timestamp) => match i64::from_be_bytes(reader.array()?) {
            i64::MAX => other(of, "infinity"),
            i64::MIN => other(of, "-infinity"),
            us => {
                let us = us.checked_add(EPOCH_US).ok_or(DecodeError::Malformed("timestamp"))?;
                if kind == Kind::DateTime { Value::DateTime(us) } else { Value::Timestamp(us) }
            }
        },
        Kind::Time => Value::Time(i64::from_be_bytes(reader.array()?)),
        Kind::Interval => {
            let us = i64::from_be_bytes(reader.array()?);
            let (days, months) = (i32::from_be_bytes(reader.array()?), i32::from_be_bytes(reader.array()?));
            Value::Interval(Interval { months, days, us })
        }
        Kind::Uuid => Value::Uuid(reader.array()?),
        Kind::Json => {
            let json = if *of == Type::JSONB { raw.get(1..).unwrap_or_default() } else { raw };
            let text = text(json)?;
            return Ok(Json::parse(&text).map_or(Value::Text(text), Value::Json));
        }
        Kind::Array => array(&mut reader, of, depth)?,
        Kind::Text if *of == Type::BPCHAR => return Ok(Value::Text(text(raw)?.trim_end_matches(' ').into())),
        Kind::Text => return Ok(Value::Text(text(raw)?)),
        _ => return Ok(other(of, &text(raw)?)),
    };
    match reader.rest() {
        [] => Ok(read),
        _ => Err(DecodeError::Malformed("bytes behind a value")),
    }
}

fn other(of: &Type, text: &str) -> Value {
    Value::Other { type_name: of.name().into(), text: text.into() }
}

fn text(raw: &[u8]) -> Result<String, DecodeError> {
    String::from_utf8(raw.to_vec()).map_err(|_| DecodeError::Malformed("text"))
}

fn int(of: &Type, reader: &mut Reader<'_>) -> Result<i128, DecodeError> {
    Ok(match *of {
        Type::INT2 => i16::from_be_bytes(reader.array()?).into(),
        Type::INT4 => i32::from_be_bytes(reader.array()?).into(),
        Type::OID => u32::from_be_bytes(reader.array()?).into(),
        _ => i64::from_be_bytes(reader.array()?).into(),
    })
}

/// Digits to the base of 10,000, the place of the first, the sign; the digits that are shown do not change the number.
fn numeric(reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    let count = u16::from_be_bytes(reader.array()?);
    let weight = i16::from_be_bytes(reader.array()?);
    let sign = u16::from_be_bytes(reader.array()?);
    reader.take(2)?;
    let mut digits = String::new();
    for _ in 0..count {
        let group = u16::from_be_bytes(reader.array()?);
        if group > 9_999 {
            return Err(DecodeError::Malformed("numeric"));
        }
        digits.extend([1_000, 100, 10, 1].map(|place| char::from(b'0' + (group / place % 10) as u8)));
    }
    let negative = match sign {
        0x0000 => false,
        0x4000 => true,
        0xc000 => return Ok(other(&Type::NUMERIC, "NaN")),
        0xd000 => return Ok(other(&Type::NUMERIC, "Infinity")),
        0xf000 => return Ok(other(&Type::NUMERIC, "-Infinity")),
        _ => return Err(DecodeError::Malformed("numeric")),
    };
    let exponent = 4 * (i64::from(weight) + 1) - digits.len() as i64;
    let number = Decimal::of_digits(negative, &digits, exponent);
    number.map(Value::Decimal).ok_or(DecodeError::Malformed("numeric"))
}

/// An array of any dimensions as lists in lists; where counting begins is no part of the value.
fn array(reader: &mut Reader<'_>, of: &Type, depth: usize) -> Result<Value, DecodeError> {
    let TypeKind::Array(element) = of.kind() else { return Err(DecodeError::Malformed("array")) };
    let dimensions = u32::from_be_bytes(reader.array()?) as usize;
    reader.take(8)?;
    if dimensions + depth > ARRAY_DEPTH_MAX {
        let (found, limit) = ((dimensions + depth) as u64, ARRAY_DEPTH_MAX as u64);
        return Err(DecodeError::Bound { what: "dimensions of an array", found, limit });
    }
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(u32::from_be_bytes(reader.array()?) as usize);
        reader.take(4)?;
    }
    if lengths.is_empty() { Ok(Value::Array(Vec::new())) } else { list(reader, element, &lengths, depth + dimensions) }
}

fn list(reader: &mut Reader<'_>, element: &Type, lengths: &[usize], depth: usize) -> Result<Value, DecodeError> {
    let Some((length, inner)) = lengths.split_first() else {
        let bytes = i32::from_be_bytes(reader.array()?);
        let Ok(bytes) = usize::try_from(bytes) else { return Ok(Value::Null) };
        return value(element, reader.take(bytes)?, depth);
    };
    // Each element is at least its length.
    if *length > reader.rest().len() / 4 {
        return Err(DecodeError::Truncated);
    }
    let mut values = Vec::new();
    for _ in 0..*length {
        values.push(list(reader, element, inner, depth)?);
    }
    Ok(Value::Array(values))
}
