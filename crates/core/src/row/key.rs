//! Keys made of values: bytes that sort as the values do, column by column.
//!
//! Which columns make the key is the dataset's or the file's concern.

use super::{ARRAY_DEPTH_MAX, Decimal, Float, Interval, Json, Value, tag, tag_of, take_bool, utf8};
use crate::bounds::KEY_BYTES_MAX;
use crate::canonical::{DecodeError, Reader};

/// Ends a list; smaller than every tag, so that a shorter list sorts first.
const LIST_END: u8 = 0;
/// Follows a zero byte that belongs to the text.
const ESCAPED: u8 = 0xff;
/// Follows the zero byte that ends a text.
const ENDED: u8 = 0;
/// The whole number 0: numbers of n more bytes lie n above it, negative ones n + 1 below.
const INT_ZERO: u8 = 0x80;
/// Decimals below, at and above zero.
const BELOW: u8 = 0;
const ZERO: u8 = 1;
const ABOVE: u8 = 2;

/// The bytes of a key. Comparing two keys byte by byte compares their values; equal values have equal bytes.
///
/// The caller holds the result against [`KEY_BYTES_MAX`]: [`decode_key`] refuses longer ones.
pub fn encode_key(columns: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    columns.iter().for_each(|value| put(&mut out, value));
    out
}

/// Reads the bytes of [`encode_key`] and nothing else: what is accepted encodes to the same bytes again.
///
/// # Errors
/// [`DecodeError`] for anything but these bytes.
pub fn decode_key(bytes: &[u8]) -> Result<Vec<Value>, DecodeError> {
    if bytes.len() > KEY_BYTES_MAX {
        let (found, limit) = (bytes.len() as u64, KEY_BYTES_MAX as u64);
        return Err(DecodeError::Bound { what: "bytes of a key", found, limit });
    }
    let mut reader = Reader::new(bytes);
    let mut columns = Vec::new();
    while !reader.rest().is_empty() {
        let tag = reader.u8()?;
        columns.push(take(&mut reader, tag, 0)?);
    }
    Ok(columns)
}

fn put(out: &mut Vec<u8>, value: &Value) {
    out.push(tag_of(value));
    match value {
        Value::Null => {}
        Value::Bool(yes) => out.push(u8::from(*yes)),
        Value::Int(number) => put_int(out, *number),
        Value::Decimal(number) => put_decimal(out, number),
        Value::Float(number) => {
            let bits = number.get().to_bits();
            let flip = if bits >> 63 == 1 { u64::MAX } else { 1 << 63 };
            out.extend_from_slice(&(bits ^ flip).to_be_bytes());
        }
        Value::Text(text) => put_text(out, text.as_bytes()),
        Value::Bytes(bytes) => put_text(out, bytes),
        Value::Timestamp(us) | Value::DateTime(us) | Value::Time(us) => put_i64(out, *us),
        Value::Date(days) => put_i32(out, *days),
        Value::Interval(interval) => {
            put_i32(out, interval.months);
            put_i32(out, interval.days);
            put_i64(out, interval.us);
        }
        Value::Uuid(uuid) => out.extend_from_slice(uuid),
        Value::Json(json) => put_text(out, json.as_str().as_bytes()),
        Value::Array(items) => {
            items.iter().for_each(|item| put(out, item));
            out.push(LIST_END);
        }
        Value::Other { type_name, text } => {
            put_text(out, type_name.as_bytes());
            put_text(out, text.as_bytes());
        }
    }
}

fn take(reader: &mut Reader<'_>, tag: u8, arrays: usize) -> Result<Value, DecodeError> {
    Ok(match tag {
        tag::NULL => Value::Null,
        tag::BOOL => Value::Bool(take_bool(reader)?),
        tag::INT => Value::Int(take_int(reader)?),
        tag::DECIMAL => Value::Decimal(take_decimal(reader)?),
        tag::FLOAT => {
            let flipped = reader.u64()?;
            let flip = if flipped >> 63 == 1 { 1 << 63 } else { u64::MAX };
            Value::Float(Float::from_canonical_bits(flipped ^ flip)?)
        }
        tag::TEXT => Value::Text(utf8(&take_text(reader)?)?),
        tag::BYTES => Value::Bytes(take_text(reader)?),
        tag::TIMESTAMP => Value::Timestamp(take_i64(reader)?),
        tag::DATETIME => Value::DateTime(take_i64(reader)?),
        tag::DATE => Value::Date(take_i32(reader)?),
        tag::TIME => Value::Time(take_i64(reader)?),
        tag::INTERVAL => {
            Value::Interval(Interval { months: take_i32(reader)?, days: take_i32(reader)?, us: take_i64(reader)? })
        }
        tag::UUID => Value::Uuid(reader.array()?),
        tag::JSON => Value::Json(Json::from_canonical(&utf8(&take_text(reader)?)?)?),
        tag::ARRAY => {
            if arrays == ARRAY_DEPTH_MAX {
                let (found, limit) = (arrays as u64 + 1, ARRAY_DEPTH_MAX as u64);
                return Err(DecodeError::Bound { what: "depth of an array", found, limit });
            }
            let mut items = Vec::new();
            loop {
                match reader.u8()? {
                    LIST_END => break Value::Array(items),
                    tag => items.push(take(reader, tag, arrays + 1)?),
                }
            }
        }
        tag::OTHER => Value::Other { type_name: utf8(&take_text(reader)?)?, text: utf8(&take_text(reader)?)? },
        _ => return Err(DecodeError::Malformed("key: a kind of value that this release does not know")),
    })
}

fn put_int(out: &mut Vec<u8>, number: i128) {
    // A negative number is kept as its complement: the further below zero, the smaller the bytes.
    let negative = number < 0;
    let size = if negative { !number } else { number } as u128;
    let bytes = 16 - size.leading_zeros() as usize / 8;
    out.push(if negative { INT_ZERO - 1 - bytes as u8 } else { INT_ZERO + bytes as u8 });
    out.extend_from_slice(&number.to_be_bytes()[16 - bytes..]);
}

fn take_int(reader: &mut Reader<'_>) -> Result<i128, DecodeError> {
    let malformed = DecodeError::Malformed("key: whole number");
    let head = reader.u8()?;
    let negative = head < INT_ZERO;
    let count = usize::from(if negative { INT_ZERO - 1 - head } else { head - INT_ZERO });
    if count > 16 {
        return Err(malformed);
    }
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide[16 - count..].copy_from_slice(reader.take(count)?);
    let number = i128::from_be_bytes(wide);
    let mut again = Vec::with_capacity(17);
    put_int(&mut again, number);
    // The head tells sign and length: if it is the same, the bytes were the shortest ones.
    if again[0] == head { Ok(number) } else { Err(malformed) }
}

fn put_decimal(out: &mut Vec<u8>, number: &Decimal) {
    if number.digits().is_empty() {
        return out.push(ZERO);
    }
    out.push(if number.is_negative() { BELOW } else { ABOVE });
    let start = out.len();
    put_i64(out, number.magnitude());
    out.extend_from_slice(number.digits().as_bytes());
    out.push(LIST_END);
    if number.is_negative() {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

fn take_decimal(reader: &mut Reader<'_>) -> Result<Decimal, DecodeError> {
    let flip = match reader.u8()? {
        ZERO => return Decimal::from_canonical(false, "", 0),
        ABOVE => 0,
        BELOW => 0xff,
        _ => return Err(DecodeError::Malformed("key: decimal")),
    };
    let magnitude = reader.array::<8>()?.map(|byte| byte ^ flip);
    let magnitude = i64::from_be_bytes(magnitude) ^ i64::MIN;
    let mut digits = String::new();
    loop {
        match reader.u8()? ^ flip {
            LIST_END => break,
            digit @ b'0'..=b'9' => digits.push(char::from(digit)),
            _ => return Err(DecodeError::Malformed("key: decimal")),
        }
    }
    let exponent = magnitude.checked_sub(digits.len() as i64).and_then(|exponent| i32::try_from(exponent).ok());
    match exponent {
        Some(exponent) if !digits.is_empty() => Decimal::from_canonical(flip != 0, &digits, exponent),
        _ => Err(DecodeError::Malformed("key: decimal")),
    }
}

fn put_text(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(ESCAPED);
        }
    }
    out.extend_from_slice(&[0, ENDED]);
}

fn take_text(reader: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    loop {
        match reader.u8()? {
            0 => match reader.u8()? {
                ESCAPED => out.push(0),
                ENDED => return Ok(out),
                _ => return Err(DecodeError::Malformed("key: text")),
            },
            byte => out.push(byte),
        }
    }
}

fn put_i64(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(&(number ^ i64::MIN).to_be_bytes());
}

fn take_i64(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
    Ok(i64::from_be_bytes(reader.array()?) ^ i64::MIN)
}

fn put_i32(out: &mut Vec<u8>, number: i32) {
    out.extend_from_slice(&(number ^ i32::MIN).to_be_bytes());
}

fn take_i32(reader: &mut Reader<'_>) -> Result<i32, DecodeError> {
    Ok(i32::from_be_bytes(reader.array()?) ^ i32::MIN)
}
