//! Rows of CSV and JSON Lines, as [`crate::format`] reads them, as values of the kinds that are compared.

use std::io::{BufRead, BufReader};
use std::sync::Arc;

use reknit_core::row::{Kind, Value};

use super::FileFormat;
use super::source::{Opened, Stream};
use super::spelled::{document, meant};
use crate::format;
use crate::store::StoreError;
use crate::store::linked::{Column, Rows, Shape};

/// Bytes of text that are held ready.
const READ_BYTES: usize = 256 * 1024;

/// The columns that the first line names.
pub(super) fn columns(format: FileFormat, place: &str, opened: Arc<dyn Opened>) -> Result<Vec<Column>, StoreError> {
    // A field of CSV is text whatever it means; JSON has some types of its own, and a text for the others.
    let kind = if format == FileFormat::Csv { Kind::Spelled } else { Kind::Any };
    let rows = read(format, place, opened)?;
    let column = |name: &String| Column { name: name.clone(), kind, declared: String::new() };
    Ok(rows.columns().iter().map(column).collect())
}

/// All rows.
pub(super) fn rows<'a>(
    format: FileFormat,
    place: &'a str,
    opened: Arc<dyn Opened>,
    shape: &Shape,
) -> Result<Rows<'a>, StoreError> {
    let rows = read(format, place, opened)?;
    let mut places = Vec::with_capacity(shape.columns().len());
    for (name, (_, kind)) in shape.sources().iter().zip(shape.columns()) {
        if matches!(kind, Kind::Array | Kind::Other) {
            let message = format!(
                "the column {name} is of a type ({}) whose values {} does not spell in one way, so it cannot be compared; \
                 compare it with Parquet, or with another database",
                kind.name(),
                format.name()
            );
            return Err(StoreError::database(place, message));
        }
        let found = rows.columns().iter().position(|column| column == name);
        // It is other than when its columns were read.
        let missing = || StoreError::database(place, format!("there is no column {name} any more"));
        places.push((found.ok_or_else(missing)?, *kind));
    }
    let taken = move |row: Result<Vec<Value>, format::FormatError>| {
        let mut row = row.map_err(|error| met(place, &error))?;
        let one = |(from, kind): &(usize, Kind)| {
            let value = row.get_mut(*from).map_or(Value::Null, |value| std::mem::replace(value, Value::Null));
            let value = if format == FileFormat::Jsonl && *kind == Kind::Json { document(value) } else { value };
            meant(*kind, value)
        };
        Ok(places.iter().map(one).collect())
    };
    Ok(Box::new(rows.map(taken)))
}

fn read(format: FileFormat, place: &str, opened: Arc<dyn Opened>) -> Result<format::Rows, StoreError> {
    let stream = Stream::new(opened, 0);
    let input: Box<dyn BufRead + Send> = if place.to_ascii_lowercase().ends_with(".zst") {
        let decoder = zstd::stream::read::Decoder::new(stream)
            .map_err(|error| StoreError::database(place, format!("the file cannot be decompressed: {error}")))?;
        Box::new(BufReader::with_capacity(READ_BYTES, decoder))
    } else {
        Box::new(BufReader::with_capacity(READ_BYTES, stream))
    };
    let rows = match format {
        FileFormat::Csv => format::Rows::csv(place, input),
        _ => format::Rows::jsonl(place, input),
    };
    rows.map_err(|error| met(place, &error))
}

fn met(place: &str, error: &format::FormatError) -> StoreError {
    let line = if error.line > 0 { format!("line {}: ", error.line) } else { String::new() };
    StoreError::database(place, format!("{line}{}", format::shown(&error.reason)))
}
