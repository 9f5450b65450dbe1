//! `kv`: the bytes of a record as they are, one `key<TAB>value` a line.
//!
//! Every record has exactly one spelling here, so a file and its re-export are the same bytes.

use super::{Format, KeyValue, Reason};

/// Reads one line. Its line end may be missing at the end of the file.
pub(super) fn read(line: &[u8], buffer: &mut Vec<u8>) -> Result<KeyValue, Reason> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let tab = line.iter().position(|byte| *byte == b'\t').ok_or_else(|| malformed("a line without a tab"))?;
    Ok((unescape(&line[..tab], buffer)?, unescape(&line[tab + 1..], buffer)?))
}

/// Appends one line.
pub(super) fn write(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    escape(out, key);
    out.push(b'\t');
    escape(out, value);
    out.push(b'\n');
}

fn unescape(field: &[u8], buffer: &mut Vec<u8>) -> Result<Vec<u8>, Reason> {
    buffer.clear();
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        buffer.push(match byte {
            b'\\' => match bytes.next() {
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b'\\') => b'\\',
                Some(_) => return Err(malformed(r"a backslash before something other than t, n, r or a backslash")),
                None => return Err(malformed("a backslash at the end of a key or value")),
            },
            b'\t' => return Err(malformed(r"a second tab; a tab inside a value is written \t")),
            b'\r' => return Err(malformed(r"a carriage return; lines end with LF, and one in a value is written \r")),
            other => *other,
        });
    }
    Ok(buffer.clone())
}

fn escape(out: &mut Vec<u8>, field: &[u8]) {
    for byte in field {
        match byte {
            b'\t' => out.extend_from_slice(br"\t"),
            b'\n' => out.extend_from_slice(br"\n"),
            b'\r' => out.extend_from_slice(br"\r"),
            b'\\' => out.extend_from_slice(br"\\"),
            other => out.push(*other),
        }
    }
}

fn malformed(what: &str) -> Reason {
    Reason::Malformed { format: Format::Kv, what: what.to_owned() }
}
