//! Files of records: what is read is what is written, and what is wrong is named with its line; rows of sketches.

mod arguments;
mod refusals;
mod roundtrip;
mod sketches;

use std::collections::BTreeMap;
use std::io::Cursor;

use reknit::format::{Format, FormatError, Layout, Reader, Writer};

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fn reader(format: Format, key: &str, bytes: impl Into<Vec<u8>>) -> Result<Reader, FormatError> {
    let key: Vec<String> = key.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Reader::new("in.file", Box::new(Cursor::new(bytes.into())), format, &key)
}

/// All records, sorted by key as a store keeps them, and the layout that a store would remember.
fn import(format: Format, key: &str, bytes: impl Into<Vec<u8>>) -> (Records, Layout) {
    let mut reader = reader(format, key, bytes).unwrap();
    let mut records = Records::new();
    for record in &mut reader {
        let (key, value) = record.unwrap();
        assert!(records.insert(key, value).is_none(), "the same key twice");
    }
    (records, Layout::from_bytes(&reader.layout().to_bytes()).unwrap())
}

fn export(format: Format, records: &Records, layout: &Layout) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), format, layout.clone()).unwrap();
    records.iter().for_each(|(key, value)| writer.write(key, value).unwrap());
    writer.finish().unwrap()
}
