//! Files as tables that are read and never written: CSV, JSON Lines and Parquet, here or in a bucket; and the rows of embedded
//! stores.
//!
//! How their bytes become rows is said in [`text`] and [`parquet`], where the bytes come from in [`local`] and `s3`. A file is one
//! version for as long as a command runs: if it becomes another, the command ends.

mod local;
mod parquet;
mod records;
#[cfg(feature = "linked-s3")]
mod s3;
mod source;
mod spelled;
#[cfg(test)]
mod tests;
mod text;
mod transaction;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::local::Local;
pub use self::records::TableStore;
use self::source::{Opened, Source, Version};
use self::transaction::Reading;
use super::{
    Access, Cautions, Columns, Cost, Feed, FeedKind, Purpose, Remains, Rows, Script, Shape, Table, Transaction,
};
use crate::store::StoreError;

const READ_ONLY: &str = "a file is read, and never written; make the other side the one that is: --to";

/// How a file spells rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// RFC 4180 with a header row. Fields are text that spells what the other side has; an empty field is NULL, `""` the empty
    /// text.
    Csv,
    /// One JSON object a line, all with the same columns.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

impl FileFormat {
    /// What it is called in addresses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FileFormat::Csv => "csv",
            FileFormat::Jsonl => "jsonl",
            FileFormat::Parquet => "parquet",
        }
    }

    /// The format that a name's ending promises: `.csv`, `.jsonl`, `.ndjson`, each also with `.zst` behind, or `.parquet`.
    #[must_use]
    pub fn of_name(name: &str) -> Option<FileFormat> {
        let name = name.to_ascii_lowercase();
        match name.strip_suffix(".zst").unwrap_or(&name).rsplit_once('.')?.1 {
            "csv" => Some(FileFormat::Csv),
            "jsonl" | "ndjson" => Some(FileFormat::Jsonl),
            "parquet" if !name.ends_with(".zst") => Some(FileFormat::Parquet),
            _ => None,
        }
    }
}

/// A file as a table. It has no key of its own.
pub struct TableFile {
    source: Box<dyn Source>,
    format: FileFormat,
    place: String,
    columns: Columns,
    /// What it was when it was read whole.
    read: Mutex<Option<Version>>,
}

impl TableFile {
    /// Opens a file of this machine; `.zst` behind the name of a text is decompressed.
    ///
    /// # Errors
    /// [`StoreError::Database`] says what is wrong with the file or its first lines.
    pub fn open(format: FileFormat, path: &Path) -> Result<TableFile, StoreError> {
        TableFile::over(Box::new(Local::new(path)), format, format!("{}:{}", format.name(), path.display()))
    }

    /// Opens a file in a bucket: `s3://bucket/path.csv`, `.jsonl` or `.parquet`. Credentials, region and endpoint come from the
    /// environment, as AWS's own tools name them.
    ///
    /// # Errors
    /// [`StoreError::Database`] says what is wrong with the address, the bucket or the file.
    #[cfg(feature = "linked-s3")]
    pub fn open_s3(address: &str) -> Result<TableFile, StoreError> {
        let wrong = |message: String| StoreError::database(address, message);
        let format = FileFormat::of_name(address);
        let format =
            format.ok_or_else(|| wrong("what is it? Its name ends in neither .csv, .jsonl nor .parquet".into()))?;
        let object = s3::Object::new(address).map_err(|error| wrong(error.to_string()))?;
        TableFile::over(Box::new(object), format, address.to_string())
    }

    fn over(source: Box<dyn Source>, format: FileFormat, place: String) -> Result<TableFile, StoreError> {
        let mut file = TableFile { source, format, place, columns: Columns::default(), read: Mutex::default() };
        let opened = file.opened()?;
        file.columns.columns = match format {
            FileFormat::Csv | FileFormat::Jsonl => text::columns(format, &file.place, opened)?,
            FileFormat::Parquet => parquet::columns(&file.place, &opened)?,
        };
        Ok(file)
    }

    fn opened(&self) -> Result<Arc<dyn Opened>, StoreError> {
        self.source.open().map_err(|error| self.met(&error))
    }

    fn met(&self, error: &io::Error) -> StoreError {
        StoreError::database(&self.place, format!("the file cannot be read: {error}"))
    }

    /// Fails if the file is not this version any more.
    fn still(&self, version: &Version) -> Result<(), StoreError> {
        match self.source.version() {
            Ok(now) if now == *version => Ok(()),
            Ok(_) => Err(self.changed()),
            Err(error) => Err(self.met(&error)),
        }
    }

    fn changed(&self) -> StoreError {
        let message = "the file was changed while it was read, so what was read of it is worth nothing; run the command again \
                       when whoever writes it is done";
        StoreError::database(&self.place, message)
    }

    fn refused(&self) -> StoreError {
        StoreError::database(&self.place, READ_ONLY)
    }
}

impl Table for TableFile {
    fn place(&self) -> &str {
        &self.place
    }

    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn scan(&self, shape: &Shape) -> Result<Rows<'_>, StoreError> {
        if shape.filter().is_some() {
            let message =
                "a file knows no SQL, so --where cannot be had of it; compare tables, or a file of those rows alone";
            return Err(StoreError::database(&self.place, message));
        }
        let opened = self.opened()?;
        let version = opened.version().clone();
        let rows = match self.format {
            FileFormat::Csv | FileFormat::Jsonl => text::rows(self.format, &self.place, opened, shape)?,
            FileFormat::Parquet => parquet::rows(&self.place, opened, shape)?,
        };
        Ok(Box::new(OneVersion { file: self, version, rows: Some(rows) }))
    }

    fn stands(&self) -> Result<bool, StoreError> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        read.map_or(Ok(false), |version| self.still(&version).map(|()| true))
    }

    fn stores_keys_one_way(&self, _: &Shape) -> bool {
        // What is sought is compared with what each key means.
        true
    }

    fn begin(&self, access: Access, _: Duration) -> Result<Box<dyn Transaction + '_>, StoreError> {
        if access == Access::Write {
            return Err(self.refused());
        }
        self.stands()?;
        Ok(Box::new(Reading { table: self, refused: READ_ONLY }))
    }

    fn cautions(&self) -> Result<Cautions, StoreError> {
        Ok(Cautions::default())
    }

    fn script(&self, _: Duration) -> Result<Box<dyn Script + '_>, StoreError> {
        Err(self.refused())
    }

    fn lacking(&self, purpose: Purpose) -> Result<Vec<String>, StoreError> {
        if purpose == Purpose::Compare { Ok(Vec::new()) } else { Err(self.refused()) }
    }

    fn cost(&self, _: &Shape) -> Result<Cost, StoreError> {
        let bytes = self.source.version().map_err(|error| self.met(&error))?.bytes;
        Ok(Cost { sql: format!("{} from its beginning to its end", self.place), rows: None, bytes: Some(bytes) })
    }

    fn feed(&self, _: FeedKind, _: &Shape, _: &str) -> Result<Box<dyn Feed + '_>, StoreError> {
        Err(StoreError::database(
            &self.place,
            "a file has no feed: it does not note what changes in it, and is read whole",
        ))
    }

    fn remains(&self) -> Result<Vec<Remains>, StoreError> {
        Ok(Vec::new())
    }

    fn run(&self, _: &[String]) -> Result<(), StoreError> {
        Err(self.refused())
    }
}

/// Rows that count only if the file is the same at their end as at their beginning.
struct OneVersion<'a> {
    file: &'a TableFile,
    version: Version,
    rows: Option<Rows<'a>>,
}

impl Iterator for OneVersion<'_> {
    type Item = Result<Vec<reknit_core::row::Value>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let failed = match self.rows.as_mut()?.next() {
            Some(Ok(row)) => return Some(Ok(row)),
            Some(Err(error)) => Some(error),
            None => None,
        };
        self.rows = None;
        match (self.file.still(&self.version), failed) {
            // What cannot be read in a file that is being written is no fault of it.
            (Err(changed), _) => Some(Err(changed)),
            (Ok(()), Some(error)) => Some(Err(error)),
            (Ok(()), None) => {
                *self.file.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.version.clone());
                None
            }
        }
    }
}
