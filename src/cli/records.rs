//! Records as they are typed and shown by commands on one store.
//!
//! What a layout makes of keys and values is the formats' concern.

use std::io::Read;

use serde_json::{Map, Value, json};

use super::CliError;
use super::env::Env;
use crate::core::bounds::VALUE_BYTES_MAX;
use crate::format::{Format, LINE_BYTES_MAX, Layout, Writer};

/// A key in JSON: as it is shown, and its bytes in hex where they are something else.
pub(crate) fn key_fields(layout: &Layout, key: &[u8]) -> Map<String, Value> {
    let shown = layout.show_key(key);
    let mut fields = Map::new();
    let plain = shown.as_bytes() == key;
    fields.insert("key".into(), json!(shown));
    if !plain {
        fields.insert("key_hex".into(), json!(hex(key)));
    }
    fields
}

/// A value in JSON: a row as an object, raw bytes as text or in hex.
pub(crate) fn value_fields(layout: &Layout, value: &[u8]) -> Map<String, Value> {
    let row = (layout.format() != Format::Kv).then(|| serde_json::from_str(&layout.show_value(value)).ok()).flatten();
    let (name, shown) = match (row, std::str::from_utf8(value)) {
        (Some(row), _) => ("row", row),
        (None, Ok(text)) => ("value", json!(text)),
        (None, Err(_)) => ("value_hex", json!(hex(value))),
    };
    Map::from_iter([(name.to_string(), shown)])
}

/// A value as it is printed and as `put` takes it back: raw bytes, or the row as a line of the store's format.
pub(crate) fn value_line(layout: &Layout, key: &[u8], value: &[u8]) -> Vec<u8> {
    if layout.format() == Format::Kv {
        return value.to_vec();
    }
    let written = |record: Option<(&[u8], &[u8])>| {
        let mut writer = Writer::new(Vec::new(), layout.format(), layout.clone()).ok()?;
        if let Some((key, value)) = record {
            writer.write(key, value).ok()?;
        }
        writer.finish().ok()
    };
    let line = written(None).zip(written(Some((key, value)))).map(|(header, whole)| whole[header.len()..].to_vec());
    // A row that its format cannot say is still shown.
    line.unwrap_or_else(|| [layout.show_value(value).as_bytes(), b"\n"].concat())
}

/// The value that was typed, or read from stdin if that is `-`.
pub(crate) fn typed_value(env: &mut Env, layout: &Layout, key: &[u8], typed: &str) -> Result<Vec<u8>, CliError> {
    if typed != "-" {
        return Ok(layout.encode_value_argument(key, typed)?);
    }
    let limit = if layout.format() == Format::Kv { VALUE_BYTES_MAX } else { LINE_BYTES_MAX };
    let mut bytes = Vec::new();
    let read = (&mut env.input).take(limit as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| CliError::new("usage.stdin", format!("stdin cannot be read: {error}; nothing was changed")))?;
    if bytes.len() > limit {
        let message = format!("stdin has more than {limit} bytes, the most that a value may have; nothing was changed");
        return Err(CliError::new("record.value-too-long", message));
    }
    if layout.format() == Format::Kv {
        return Ok(bytes);
    }
    let line = String::from_utf8(bytes);
    let line = line.map_err(|_| CliError::new("usage.record", "the row on stdin is not UTF-8; nothing was changed"))?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(layout.encode_value_argument(key, line.strip_suffix('\r').unwrap_or(line))?)
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hex digits, if that is what it is.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let nibbles: Vec<u8> = digits.chars().map(|c| c.to_digit(16).map(|n| n as u8)).collect::<Option<_>>()?;
    let pairs = nibbles.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}
