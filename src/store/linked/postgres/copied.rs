//! What COPY sends in its binary format, cut into pages of whole rows as it comes. The fields of a row become values where the
//! row is taken, which may be on another thread.

use std::sync::Arc;

use postgres::types::Type;
use reknit_core::row::Value;

use super::decode::value_of;
use crate::store::StoreError;

/// How it begins; then flags, and how long what follows them is.
const BEGINS: &[u8] = b"PGCOPY\n\xff\r\n\0";
const HEAD_BYTES: usize = BEGINS.len() + 8;
/// A flag that no server sends any more whose rows have other fields.
const WITH_OIDS: u8 = 1;
/// Bytes from which a page is full.
const PAGE_BYTES: usize = 128 << 10;

/// The fields that a row has.
pub(super) struct Fields {
    /// The types of all that is selected.
    pub(super) types: Vec<Type>,
    /// How many of them are handed on.
    pub(super) columns: usize,
    pub(super) place: String,
}

/// Rows one behind the other, as they were sent.
#[derive(Default)]
pub(super) struct Cutter {
    bytes: Vec<u8>,
    /// Where the last row that is whole begins, and where it ends.
    last: usize,
    whole: usize,
    begun: bool,
    /// Whether the server has said that there are no more.
    pub(super) ended: bool,
    pub(super) rows: u64,
    /// Bytes of fields.
    pub(super) sent: u64,
}

impl Cutter {
    /// Takes what was sent next; says whether a page is full. An error is what is wrong with it.
    pub(super) fn push(&mut self, chunk: &[u8], fields: usize) -> Result<bool, &'static str> {
        self.bytes.extend_from_slice(chunk);
        if !self.begun {
            let Some((head, _)) = self.bytes.split_at_checked(HEAD_BYTES) else { return Ok(false) };
            let (flags, more) = (head[BEGINS.len() + 1], u32_of(&head[BEGINS.len() + 4..]));
            if !head.starts_with(BEGINS) || flags & WITH_OIDS != 0 || more != Some(0) {
                return Err("it begins otherwise than a binary COPY does");
            }
            self.bytes.drain(..HEAD_BYTES);
            self.begun = true;
        }
        while !self.ended {
            let Some((count, mut rest)) = self.bytes[self.whole..].split_first_chunk() else { break };
            let count = i16::from_be_bytes(*count);
            if count == -1 {
                self.ended = true;
                self.bytes.truncate(self.whole);
                break;
            }
            if usize::try_from(count) != Ok(fields) {
                return Err("a row has another number of fields than was selected");
            }
            let (mut sent, mut all) = (0, true);
            for _ in 0..fields {
                match split_field(rest) {
                    Some((field, after)) => (sent, rest) = (sent + field.map_or(0, <[u8]>::len), after),
                    None => {
                        all = false;
                        break;
                    }
                }
            }
            if !all {
                break;
            }
            (self.last, self.whole) = (self.whole, self.bytes.len() - rest.len());
            self.rows += 1;
            self.sent += sent as u64;
        }
        Ok(self.whole >= PAGE_BYTES)
    }

    /// The rows that are whole, and what the fields of the last of them are that are not handed on.
    pub(super) fn page(&mut self, fields: &Arc<Fields>) -> Result<(Copied, Vec<Value>), StoreError> {
        let rest = self.bytes.split_off(self.whole);
        let bytes = std::mem::replace(&mut self.bytes, rest);
        let more = fields.types.len() > fields.columns && !bytes.is_empty();
        let behind =
            if more { fields.values(&bytes[self.last..], fields.columns..fields.types.len())?.0 } else { Vec::new() };
        (self.last, self.whole) = (0, 0);
        Ok((Copied { bytes, at: 0, fields: Arc::clone(fields) }, behind))
    }
}

impl Fields {
    /// The values of some fields of the row that begins here, and what is behind the row.
    fn values<'a>(&self, row: &'a [u8], wanted: std::ops::Range<usize>) -> Result<(Vec<Value>, &'a [u8]), StoreError> {
        let mut rest = row.get(2..).unwrap_or_default();
        let mut values = Vec::with_capacity(wanted.len());
        for (nth, of) in self.types.iter().enumerate() {
            // It was seen whole before.
            let Some((field, after)) = split_field(rest) else { break };
            rest = after;
            if wanted.contains(&nth) {
                let value = field.map_or(Ok(Value::Null), |field| value_of(of, field));
                values.push(value.map_err(|error| {
                    StoreError::database(&self.place, format!("a field of type {}: {error}", of.name()))
                })?);
            }
        }
        Ok((values, rest))
    }
}

/// Rows of a page, of which each becomes values when it is taken; ends after an error.
pub(super) struct Copied {
    bytes: Vec<u8>,
    at: usize,
    fields: Arc<Fields>,
}

impl Iterator for Copied {
    type Item = Result<Vec<Value>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.bytes.get(self.at..).filter(|row| !row.is_empty())?;
        match self.fields.values(row, 0..self.fields.columns) {
            Ok((values, rest)) => {
                self.at = self.bytes.len() - rest.len();
                Some(Ok(values))
            }
            Err(error) => {
                self.at = self.bytes.len();
                Some(Err(error))
            }
        }
    }
}

/// A field, or none for NULL, and what is behind it; none if not all of it is there.
fn split_field(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) => rest.split_at_checked(length).map(|(field, rest)| (Some(field), rest)),
        Err(_) => Some((None, rest)),
    }
}

fn u32_of(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(columns: usize) -> Arc<Fields> {
        Arc::new(Fields { types: vec![Type::INT4, Type::TEXT, Type::INT4], columns, place: "t".into() })
    }

    fn sent(rows: &[(i32, Option<String>)]) -> Vec<u8> {
        let mut bytes = [BEGINS, &[0; 8]].concat();
        for (number, text) in rows {
            bytes.extend([0, 3, 0, 0, 0, 4]);
            bytes.extend(number.to_be_bytes());
            let length = text.as_ref().map_or(-1, |text| i32::try_from(text.len()).expect("a short text"));
            bytes.extend(length.to_be_bytes());
            bytes.extend(text.iter().flat_map(|text| text.bytes()));
            bytes.extend([0, 0, 0, 4]);
            bytes.extend((number ^ 1).to_be_bytes());
        }
        bytes.extend((-1_i16).to_be_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn rows_are_the_same_however_they_come(
            rows in proptest::collection::vec((any::<i32>(), proptest::option::of("[a-z]{0,9}")), 0..20),
            cuts in proptest::collection::vec(1_usize..40, 1..60),
        ) {
            let (bytes, mut cutter, fields) = (sent(&rows), Cutter::default(), fields(2));
            let (mut at, mut read, mut behind) = (0, Vec::new(), Vec::new());
            for (nth, cut) in cuts.iter().chain([&bytes.len()]).enumerate() {
                let end = bytes.len().min(at + cut);
                cutter.push(&bytes[at..end], 3).expect("sound");
                at = end;
                if nth % 3 == 0 || at == bytes.len() {
                    let (page, last) = cutter.page(&fields).expect("sound");
                    let page: Vec<Vec<Value>> = page.collect::<Result<_, _>>().expect("sound");
                    if !page.is_empty() {
                        behind = last;
                    }
                    read.extend(page);
                }
            }
            let value = |(number, text): &(i32, Option<String>)| {
                vec![Value::Int((*number).into()), text.clone().map_or(Value::Null, Value::Text)]
            };
            prop_assert_eq!(read, rows.iter().map(value).collect::<Vec<_>>());
            prop_assert_eq!(cutter.rows, rows.len() as u64);
            let last = rows.last().map(|(number, _)| vec![Value::Int((number ^ 1).into())]);
            prop_assert_eq!(behind, last.unwrap_or_default());
        }

        #[test]
        fn any_bytes_are_rows_or_an_error(bytes: Vec<u8>, begins: bool) {
            let mut cutter = Cutter::default();
            let bytes = if begins { [sent(&[])[..HEAD_BYTES].to_vec(), bytes].concat() } else { bytes };
            if cutter.push(&bytes, 3).is_ok()
                && let Ok((page, _)) = cutter.page(&fields(2))
            {
                page.for_each(drop);
            }
        }
    }

    #[test]
    fn what_is_no_binary_copy_is_told() {
        assert!(Cutter::default().push(&[0; 40], 3).is_err());
        assert!(Cutter::default().push(&sent(&[(1, None)]), 2).is_err());
        let (mut cutter, mut odd) = (Cutter::default(), sent(&[(1, Some("x".into())), (2, None)]));
        let text = odd.iter().position(|byte| *byte == b'x').expect("it is there");
        odd[text] = 0xff;
        cutter.push(&odd, 3).expect("sound so far");
        let mut page = cutter.page(&fields(2)).expect("sound so far").0;
        let error = page.next().expect("a row").expect_err("no text").to_string();
        assert!(error.contains("a field of type text"), "{error}");
        assert!(page.next().is_none());
    }
}
