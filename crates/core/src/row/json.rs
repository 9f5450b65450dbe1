//! Canonical JSON: no spaces, sorted names, one spelling for each number and string; and JSON objects as columns.
//!
//! Strict: a name that comes twice, half a surrogate pair or a number beyond 32 bits of exponent is refused, not guessed.

use std::fmt::{self, Write};

use super::{Decimal, JSON_DEPTH_MAX, Value};
use crate::canonical::DecodeError;

/// A JSON document in its canonical text. Names are sorted by their UTF-8 bytes, numbers are exact: 1.50 becomes 1.5,
/// 1 and 1.0 stay different.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json(String);

impl Json {
    /// Reads a document and rewrites it canonically.
    ///
    /// # Errors
    /// [`JsonError`]: where the text is not strict JSON, or goes beyond a bound.
    pub fn parse(text: &str) -> Result<Json, JsonError> {
        let mut parser = Parser { text, at: 0, by_value: false };
        let mut out = String::new();
        parser.space();
        parser.canonical(&mut out, 0)?;
        parser.end()?;
        Ok(Json(out))
    }

    /// Reads one object as columns, in the order of the text: scalars become values, nested ones canonical JSON.
    /// A number without fraction and exponent is a whole number if it fits 128 bits, any other is a decimal.
    ///
    /// # Errors
    /// As for [`Json::parse`], or it is no object, or names a column twice.
    pub fn columns(text: &str) -> Result<Vec<(String, Value)>, JsonError> {
        Json::columns_within(text, usize::MAX)
    }

    /// The same of an object that has at most so many columns. They are counted while they are read: one takes many times the
    /// bytes of its text.
    ///
    /// # Errors
    /// As for [`Json::columns`], or there are more.
    pub fn columns_within(text: &str, most: usize) -> Result<Vec<(String, Value)>, JsonError> {
        let mut parser = Parser { text, at: 0, by_value: false };
        parser.space();
        if parser.peek() != Some(b'{') {
            return Err(parser.error("an object `{…}` was expected"));
        }
        let mut columns = Vec::new();
        parser.object(|parser, name| {
            if columns.len() == most {
                return Err(parser.error(&format!("more than {most} columns in one row; is a line end missing?")));
            }
            let value = parser.value()?;
            columns.push((name, value));
            Ok(())
        })?;
        let at = parser.at;
        parser.end()?;
        let mut names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(JsonError { at, reason: format!("the name `{}` comes twice", pair[0]) }),
            None => Ok(columns),
        }
    }

    /// Reads one value alone, as [`Json::columns`] reads the values of an object.
    ///
    /// # Errors
    /// As for [`Json::parse`].
    pub fn value(text: &str) -> Result<Value, JsonError> {
        let mut parser = Parser { text, at: 0, by_value: false };
        parser.space();
        let value = parser.value()?;
        parser.end()?;
        Ok(value)
    }

    /// The canonical texts of a list's elements; nothing if it is no list.
    pub fn elements(&self) -> Option<Vec<&str>> {
        let inside = self.0.strip_prefix('[')?.strip_suffix(']')?;
        let (mut parts, mut start, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0, false, false);
        for (at, byte) in inside.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                b',' if depth == 0 => {
                    parts.push(&inside[start..at]);
                    start = at + 1;
                }
                _ => {}
            }
        }
        if !inside.is_empty() {
            parts.push(&inside[start..]);
        }
        Some(parts)
    }

    /// The document by what its numbers are worth, however they are spelled: 1, 1.0 and 10e-1 are one. Exact, not as binary
    /// floating point: no two numbers of different worth become one.
    pub fn by_value(&self) -> Json {
        let mut parser = Parser { text: &self.0, at: 0, by_value: true };
        let mut out = String::new();
        // What is canonical is read again.
        if parser.canonical(&mut out, 0).is_err() {
            return self.clone();
        }
        Json(out)
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn from_canonical(text: &str) -> Result<Json, DecodeError> {
        match Json::parse(text) {
            Ok(json) if json.0 == text => Ok(json),
            _ => Err(DecodeError::Malformed("JSON: not in its canonical form")),
        }
    }
}

/// Why a text is not JSON as it is taken here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The byte of the text where it was noticed, from 0.
    pub at: usize,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.reason, self.at + 1)
    }
}

impl std::error::Error for JsonError {}

/// Appends a JSON string: quotes, and escapes only where JSON demands them.
pub(super) fn put_string(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\u{8}' => out.write_str("\\b")?,
            '\u{c}' => out.write_str("\\f")?,
            c if c < ' ' => write!(out, "\\u{:04x}", c as u32)?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

/// Appends a decimal so that it is read as a decimal again: with a fraction or an exponent if a whole number would fit.
pub(super) fn put_decimal(out: &mut impl Write, number: &Decimal) -> fmt::Result {
    write!(out, "{number}")?;
    if number.to_int().is_some() { out.write_str(".0") } else { Ok(()) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// Whether the spelling of a number does not count: whole ones are taken for such.
    by_value: bool,
}

impl Parser<'_> {
    fn value(&mut self) -> Result<Value, JsonError> {
        match self.peek() {
            Some(b'{' | b'[') => {
                let mut out = String::new();
                self.canonical(&mut out, 0)?;
                Ok(Value::Json(Json(out)))
            }
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.word("null") => Ok(Value::Null),
            _ if self.word("true") => Ok(Value::Bool(true)),
            _ if self.word("false") => Ok(Value::Bool(false)),
            Some(_) => Err(self.error("a value was expected")),
            None => Err(self.error("the text ends where a value was expected")),
        }
    }

    fn canonical(&mut self, out: &mut String, depth: usize) -> Result<(), JsonError> {
        if depth >= JSON_DEPTH_MAX && matches!(self.peek(), Some(b'{' | b'[')) {
            return Err(self.error(&format!("nested deeper than {JSON_DEPTH_MAX}")));
        }
        match self.peek() {
            Some(b'{') => {
                let mut members = Vec::new();
                self.object(|parser, name| {
                    let mut body = String::new();
                    parser.canonical(&mut body, depth + 1)?;
                    members.push((name, body));
                    Ok(())
                })?;
                members.sort_unstable();
                if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                    return Err(self.error(&format!("the name `{}` comes twice", pair[0].0)));
                }
                out.push('{');
                for (i, (name, body)) in members.iter().enumerate() {
                    out.push_str(if i > 0 { "," } else { "" });
                    put_string(out, name).map_err(|_| self.error("out of memory"))?;
                    out.push(':');
                    out.push_str(body);
                }
                out.push('}');
                Ok(())
            }
            Some(b'[') => {
                self.at += 1;
                out.push('[');
                self.space();
                if !self.byte(b']') {
                    loop {
                        self.canonical(out, depth + 1)?;
                        if self.next_item(b']', "`,` or `]` was expected")? {
                            break;
                        }
                        out.push(',');
                    }
                }
                out.push(']');
                Ok(())
            }
            _ => {
                let value = self.value()?;
                value.put_json(out).map_err(|_| self.error("out of memory"))
            }
        }
    }

    /// Reads an object from its `{` on; `member` reads each value.
    fn object(&mut self, mut member: impl FnMut(&mut Self, String) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.at += 1;
        self.space();
        if self.byte(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.error("a name in quotes was expected"));
            }
            let name = self.string()?;
            self.space();
            if !self.byte(b':') {
                return Err(self.error("`:` was expected"));
            }
            self.space();
            member(self, name)?;
            if self.next_item(b'}', "`,` or `}` was expected")? {
                return Ok(());
            }
        }
    }

    /// After an item: whether the list ends here; otherwise a comma was passed.
    fn next_item(&mut self, end: u8, expected: &str) -> Result<bool, JsonError> {
        self.space();
        if self.byte(end) {
            return Ok(true);
        }
        if !self.byte(b',') {
            return Err(self.error(expected));
        }
        self.space();
        Ok(false)
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let number = &rest[..length];
        let digits = number.strip_prefix('-').unwrap_or(number);
        if digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit() {
            return Err(self.error("a number with a leading zero"));
        }
        let Some(decimal) = Decimal::parse(number) else {
            return Err(self.error("a malformed number, or one whose exponent leaves 32 bits"));
        };
        self.at += length;
        let whole = digits.bytes().all(|byte| byte.is_ascii_digit());
        Ok(match (number.parse::<i128>(), decimal.to_int()) {
            (Ok(int), _) if whole => Value::Int(int),
            (_, Some(int)) if self.by_value => Value::Int(int),
            _ => Value::Decimal(decimal),
        })
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
            out.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escaped = self.escape()?;
                    out.push(escaped);
                }
                Some(_) => return Err(self.error("a control character inside a string; write it as an escape")),
                None => return Err(self.error("the text ends inside a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let Some(letter) = self.peek() else {
            return Err(self.error("the text ends inside a string"));
        };
        let c = match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.error("an unknown escape after `\\`")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let first = self.hex4()?;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        let low = if first < 0xdc00 && self.word("\\u") { self.hex4()? } else { 0 };
        if !(0xdc00..0xe000).contains(&low) {
            return Err(self.error("half of a surrogate pair, which is no character"));
        }
        let code = 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00);
        char::from_u32(code).ok_or_else(|| self.error("an escape that is no character"))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(self.error("four hex digits were expected after `\\u`"));
        }
        self.at += 4;
        Ok(digits.iter().fold(0, |sum, digit| sum * 16 + char::from(*digit).to_digit(16).unwrap_or(0)))
    }

    fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.error("something follows the value")) }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn byte(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn error(&self, reason: &str) -> JsonError {
        JsonError { at: self.at, reason: reason.to_owned() }
    }
}
