//! CSV by RFC 4180, strictly, telling an empty field from a quoted empty one.
//!
//! Which columns make the key is the layout's concern.

use std::io::{self, Write};

use super::lines::Lines;
use super::{Format, FormatError, LINE_BYTES_MAX, Reason, fits};
use crate::core::row::{Row, Value};

/// The fields of one record.
#[derive(Default)]
pub(super) struct Fields {
    text: Vec<u8>,
    ends: Vec<(usize, bool)>,
    quoted: bool,
    place: Place,
}

/// Where in a record the next byte stands.
#[derive(Clone, Copy, Default, PartialEq)]
enum Place {
    #[default]
    Start,
    Plain,
    Quoted,
    /// After a quote inside a quoted field: the field's end, or the first half of a quote that belongs to the text.
    Quote,
}

impl Fields {
    /// Reads the next record, over as many lines as its quotes span; `false` at the end of the file.
    pub(super) fn read(&mut self, lines: &mut Lines) -> Result<bool, FormatError> {
        self.clear();
        let first = lines.number() + 1;
        loop {
            let Some(line) = lines.next()? else {
                return match self.place {
                    Place::Quoted => Err(lines.error_at(first, malformed("the file ends inside a quoted field"))),
                    _ => Ok(false),
                };
            };
            if self.text.len() + line.len() > LINE_BYTES_MAX {
                return Err(lines.error_at(first, Reason::LineTooLong));
            }
            if self.feed(line).map_err(|reason| lines.error_at(lines.number(), reason))? {
                return Ok(true);
            }
        }
    }

    /// Takes one line; `true` if the record ends with it, `false` if a quoted field goes on.
    pub(super) fn feed(&mut self, line: &[u8]) -> Result<bool, Reason> {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        let ended = content.len() < line.len();
        let mut at = 0;
        while let Some(&byte) = content.get(at) {
            at += 1;
            match (self.place, byte) {
                (Place::Quoted, b'"') => self.place = Place::Quote,
                (Place::Quote, b'"') => {
                    self.text.push(b'"');
                    self.place = Place::Quoted;
                }
                (Place::Quoted, _) => at = self.take_while(content, at - 1, |byte| byte != b'"'),
                (_, b',') => self.end_field()?,
                (_, b'\r') if at == content.len() && ended => {}
                (_, b'\r') => {
                    return Err(malformed("a carriage return outside quotes, not at the end of a line"));
                }
                (Place::Quote, _) => return Err(malformed("text after a closing quote")),
                (Place::Start, b'"') => {
                    self.quoted = true;
                    self.place = Place::Quoted;
                }
                (_, b'"') => return Err(malformed("a quote inside a field that does not start with one")),
                (_, _) => {
                    self.place = Place::Plain;
                    at = self.take_while(content, at - 1, |byte| !matches!(byte, b',' | b'"' | b'\r'));
                }
            }
        }
        if self.place == Place::Quoted {
            self.text.extend_from_slice(if ended { b"\n" } else { b"" });
            return Ok(false);
        }
        self.end_field()?;
        Ok(true)
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.quoted = false;
        self.place = Place::Start;
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of each field, and whether it was quoted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        starts.zip(&self.ends).map(|(start, (end, quoted))| (&self.text[start..*end], *quoted))
    }

    /// Takes bytes of the text from `start` on; where they end.
    fn take_while(&mut self, content: &[u8], start: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let rest = &content[start..];
        let count = rest.iter().position(|byte| !belongs(*byte)).unwrap_or(rest.len());
        self.text.extend_from_slice(&rest[..count]);
        start + count
    }

    /// Counts while the record is read: where an empty field ends takes many times the byte of its comma.
    fn end_field(&mut self) -> Result<(), Reason> {
        if !fits(self.ends.len()) {
            return Err(Reason::TooManyFields);
        }
        self.ends.push((self.text.len(), self.quoted));
        self.quoted = false;
        self.place = Place::Start;
        Ok(())
    }
}

/// Reads the header row: the names of the columns.
pub(super) fn header(fields: &mut Fields, lines: &mut Lines) -> Result<Vec<String>, FormatError> {
    if !fields.read(lines)? {
        return Err(lines.error_at(0, Reason::Empty));
    }
    let mut columns: Vec<String> = Vec::new();
    let fail = |reason| Err(lines.error_at(1, reason));
    for (bytes, _) in fields.iter() {
        let Ok(name) = std::str::from_utf8(bytes) else {
            return fail(Reason::NotUtf8 { what: "the header".to_owned() });
        };
        if let Err(error) = Row::new().set(name, Value::Null) {
            return fail(error.into());
        }
        columns.push(name.to_owned());
    }
    let mut sorted = columns.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => fail(Reason::DuplicateColumn { name: pair[0].clone() }),
        None => Ok(columns),
    }
}

/// Holds the key columns against those that there are.
pub(super) fn check_key(columns: &[String], key: &[String]) -> Result<(), Reason> {
    if key.is_empty() {
        return Err(Reason::NoKeyColumns { columns: columns.to_vec() });
    }
    match key.iter().find(|name| !columns.contains(name)) {
        Some(name) => Err(Reason::UnknownKeyColumn { name: name.clone(), columns: columns.to_vec() }),
        None => Ok(()),
    }
}

/// The fields as a row: text, or NULL for an empty field without quotes.
pub(super) fn row(fields: &Fields, columns: &[String]) -> Result<Row, Reason> {
    let mut row = Row::new();
    for (name, value) in columns.iter().zip(values(fields, columns)?) {
        row.set(name.as_str(), value)?;
    }
    Ok(row)
}

/// The fields as values, in the order of the columns.
pub(super) fn values(fields: &Fields, columns: &[String]) -> Result<Vec<Value>, Reason> {
    if fields.len() != columns.len() {
        return Err(Reason::FieldCount { found: fields.len(), expected: columns.len() });
    }
    let one = |(name, (bytes, quoted)): (&String, (&[u8], bool))| {
        let text = std::str::from_utf8(bytes).map_err(|_| Reason::NotUtf8 { what: format!("column `{name}`") })?;
        Ok(value(text, quoted))
    };
    columns.iter().zip(fields.iter()).map(one).collect()
}

/// One field as the value of its column.
pub(super) fn value(text: &str, quoted: bool) -> Value {
    if text.is_empty() && !quoted { Value::Null } else { Value::Text(text.to_owned()) }
}

/// A value as a part of a key: a text that is exactly how a whole number is printed sorts as that number.
pub(super) fn key_value(value: &Value) -> Value {
    match value {
        Value::Text(text) if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => match text.parse::<i128>() {
            Ok(number) if number.to_string() == *text => Value::Int(number),
            _ => value.clone(),
        },
        _ => value.clone(),
    }
}

/// Writes the header row. A column without a name is written as nothing, as programs that write such columns do.
pub(super) fn write_header(out: &mut impl Write, columns: &[String]) -> io::Result<()> {
    for (i, name) in columns.iter().enumerate() {
        out.write_all(if i > 0 { b"," } else { b"" })?;
        if !name.is_empty() {
            write_text(out, name)?;
        }
    }
    out.write_all(b"\n")
}

/// Writes one field: nothing for NULL, `""` for the empty text, quotes only where they are needed.
pub(super) fn write_field(out: &mut impl Write, value: &Value) -> io::Result<()> {
    match value {
        Value::Null => Ok(()),
        Value::Text(text) => write_text(out, text),
        other => write_text(out, &other.to_string()),
    }
}

fn write_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    let plain = !text.is_empty()
        && !text.starts_with('\u{feff}')
        && !text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r'));
    if plain {
        return out.write_all(text.as_bytes());
    }
    out.write_all(b"\"")?;
    out.write_all(text.replace('"', "\"\"").as_bytes())?;
    out.write_all(b"\"")
}

fn malformed(what: &str) -> Reason {
    Reason::Malformed { format: Format::Csv, what: what.to_owned() }
}
