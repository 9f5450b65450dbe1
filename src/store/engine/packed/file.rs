//! A file of rows in order that is written once: blocks in which a key leaves out what it shares with the one before, then
//! where each block begins. What the rows mean, and which file counts, is for others.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use reknit_core::canonical::{DecodeError, Reader, put_bytes, put_varint};
use xxhash_rust::xxh3::xxh3_64;

use super::super::{EngineError, Row, Rows, ending};

/// How a file begins and ends; its last byte is the version of the format.
const MAGIC: [u8; 8] = *b"RKPACK\0\x01";
const SUM_BYTES: usize = 8;
/// Where the list of blocks begins, and how many rows there are; a checksum; the magic.
const FOOTER_BYTES: usize = 8 + 8 + SUM_BYTES + MAGIC.len();
/// Bytes of rows after which a block ends.
const BLOCK_BYTES: usize = 4 << 10;
/// The longest block that is believed: one row of the longest key and value, twice.
const BLOCK_BYTES_MAX: u64 = 1 << 30;

/// A file that is being written; one that is dropped before its end is removed.
pub struct Draft {
    path: PathBuf,
    file: BufWriter<File>,
    block: Vec<u8>,
    /// The list of blocks so far.
    list: Vec<u8>,
    last: Vec<u8>,
    at: u64,
    rows: u64,
    kept: bool,
}

impl Draft {
    pub(super) fn create(path: PathBuf) -> Result<Draft, EngineError> {
        let made = || {
            let mut file = BufWriter::with_capacity(1 << 18, File::create(&path)?);
            file.write_all(&MAGIC)?;
            Ok(file)
        };
        let file = made().map_err(|error| EngineError::from_io(&path, error))?;
        let (block, list, last, at) = (Vec::new(), Vec::new(), Vec::new(), MAGIC.len() as u64);
        Ok(Draft { path, file, block, list, last, at, rows: 0, kept: false })
    }

    /// Adds a row, whose key is greater than that of the one before.
    /// # Errors
    /// What the system said, or a key that is not greater.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        if self.rows > 0 && key <= self.last.as_slice() {
            let what = "rows were to be packed that are out of order".to_string();
            return Err(EngineError::Corrupt { dir: self.path.clone(), what });
        }
        let same = self.last.iter().zip(key).take_while(|(a, b)| a == b).count();
        if self.block.is_empty() {
            // As much of the key as tells it from the one before.
            put_bytes(&mut self.list, &key[..key.len().min(same + 1)]);
        }
        let shared = if self.block.is_empty() { 0 } else { same };
        put_varint(&mut self.block, shared as u64);
        put_varint(&mut self.block, (key.len() - shared) as u64);
        put_varint(&mut self.block, value.len() as u64);
        self.block.extend_from_slice(&key[shared..]);
        self.block.extend_from_slice(value);
        self.last.clear();
        self.last.extend_from_slice(key);
        self.rows += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), EngineError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let sum = xxh3_64(&self.block).to_be_bytes();
        let written = self.file.write_all(&self.block).and_then(|()| self.file.write_all(&sum));
        written.map_err(|error| EngineError::from_io(&self.path, error))?;
        let bytes = (self.block.len() + SUM_BYTES) as u64;
        put_varint(&mut self.list, bytes);
        self.at += bytes;
        self.block.clear();
        Ok(())
    }

    /// Writes the end, and makes it durable under its name.
    pub(super) fn finish(mut self) -> Result<Packed, EngineError> {
        self.end_block()?;
        let mut end = std::mem::take(&mut self.list);
        end.extend_from_slice(&self.at.to_be_bytes());
        end.extend_from_slice(&self.rows.to_be_bytes());
        let sum = xxh3_64(&end).to_be_bytes();
        end.extend_from_slice(&sum);
        end.extend_from_slice(&MAGIC);
        let mut written = || {
            self.file.write_all(&end)?;
            self.file.flush()?;
            self.file.get_ref().sync_all()?;
            self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
        };
        written().map_err(|error| EngineError::from_io(&self.path, error))?;
        let packed = Packed::open(&self.path)?;
        self.kept = true;
        Ok(packed)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed now is when the engine is next opened.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A whole file of rows.
pub(super) struct Packed {
    path: PathBuf,
    file: Mutex<File>,
    /// Rows in it.
    pub(super) rows: u64,
    blocks: Vec<Block>,
    /// The beginnings of blocks, one behind the other.
    keys: Vec<u8>,
}

/// Where a block lies, and where what it begins with lies among the beginnings.
struct Block {
    at: u64,
    bytes: usize,
    key: (usize, usize),
}

impl Packed {
    /// Opens a file; reads where its blocks are.
    pub(super) fn open(path: &Path) -> Result<Packed, EngineError> {
        let met = |error| EngineError::from_io(path, error);
        let broken = |error: DecodeError| corrupt(path, error.to_string());
        let mut file = File::open(path).map_err(met)?;
        let length = file.metadata().map_err(met)?.len();
        let list_end =
            length.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| corrupt(path, "it is cut short".into()))?;
        let footer = read_at(&mut file, list_end, FOOTER_BYTES).map_err(met)?;
        let mut reader = Reader::new(&footer);
        let (list_at, rows, sum) =
            (reader.u64().map_err(broken)?, reader.u64().map_err(broken)?, reader.u64().map_err(broken)?);
        let bytes = list_end.checked_sub(list_at).and_then(|bytes| usize::try_from(bytes).ok());
        let (true, Some(bytes)) = (reader.rest() == MAGIC, bytes) else {
            return Err(corrupt(path, "it ends otherwise than a packed file does".into()));
        };
        let mut list = read_at(&mut file, list_at, bytes).map_err(met)?;
        list.extend_from_slice(&footer[..16]);
        if xxh3_64(&list) != sum {
            return Err(corrupt(path, "the checksum of its list of blocks is wrong".into()));
        }
        list.truncate(bytes);
        let (mut blocks, mut keys, mut at) = (Vec::new(), Vec::new(), MAGIC.len() as u64);
        let mut reader = Reader::new(&list);
        while !reader.rest().is_empty() {
            let key = reader.bytes("bytes of a key", super::super::ROW_KEY_BYTES_MAX).map_err(broken)?;
            let start = keys.len();
            keys.extend_from_slice(key);
            let bytes = reader.varint("bytes of a block", BLOCK_BYTES_MAX).map_err(broken)?;
            blocks.push(Block { at, bytes: usize::try_from(bytes).unwrap_or(usize::MAX), key: (start, keys.len()) });
            at += bytes;
        }
        if at != list_at {
            return Err(corrupt(path, "its blocks are not where its list says".into()));
        }
        Ok(Packed { path: path.to_path_buf(), file: Mutex::new(file), rows, blocks, keys })
    }

    /// Removes it, once nobody reads it any more.
    pub(super) fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(nth) = self.block_of(key) else { return Ok(None) };
        let found = self.block(nth)?.into_iter().find(|(here, _)| here.as_slice() >= key);
        Ok(found.filter(|(here, _)| here == key).map(|(_, value)| value))
    }

    /// The rows from `start` to just before `end`, a block at a time.
    pub(super) fn scan<'a>(&'a self, start: &[u8], end: &[u8]) -> Rows<'a> {
        if self.blocks.is_empty() || start >= end {
            return Box::new(std::iter::empty());
        }
        let (start, end) = (start.to_vec(), end.to_vec());
        let first = self.block_of(&start).unwrap_or(0);
        let last = self.block_of(&end).unwrap_or(0);
        let blocks = (first..=last).flat_map(move |nth| match self.block(nth) {
            Ok(rows) => rows.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        });
        let inside = move |row: &Result<Row, EngineError>| row.as_ref().map_or(true, |(key, _)| *key >= start);
        let before = move |row: &Result<Row, EngineError>| row.as_ref().map_or(true, |(key, _)| *key < end);
        ending(blocks.skip_while(move |row| !inside(row)).take_while(before))
    }

    /// The last block that begins at a key or before it.
    fn block_of(&self, key: &[u8]) -> Option<usize> {
        let begins = |block: &Block| &self.keys[block.key.0..block.key.1];
        self.blocks.partition_point(|block| begins(block) <= key).checked_sub(1)
    }

    fn block(&self, nth: usize) -> Result<Vec<Row>, EngineError> {
        let Block { at, bytes, .. } = self.blocks[nth];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = read_at(&mut file, at, bytes).map_err(|error| EngineError::from_io(&self.path, error))?;
        drop(file);
        let whole = bytes.split_last_chunk::<SUM_BYTES>();
        let Some((rows, _)) = whole.filter(|(rows, sum)| xxh3_64(rows).to_be_bytes() == **sum) else {
            return Err(corrupt(&self.path, format!("the checksum of the block at {at} is wrong")));
        };
        decode(rows).map_err(|error| corrupt(&self.path, format!("the block at {at}: {error}")))
    }
}

fn decode(block: &[u8]) -> Result<Vec<Row>, DecodeError> {
    let mut reader = Reader::new(block);
    let mut rows: Vec<Row> = Vec::new();
    let most = block.len() as u64;
    while !reader.rest().is_empty() {
        let mut length = |what| Ok(usize::try_from(reader.varint(what, most)?).unwrap_or(usize::MAX));
        let (shared, rest, value) = (length("bytes shared")?, length("bytes of a key")?, length("bytes of a value")?);
        let before = rows.last().map_or(&[][..], |(key, _)| key);
        let mut key = before.get(..shared).ok_or(DecodeError::Malformed("bytes shared"))?.to_vec();
        key.extend_from_slice(reader.take(rest)?);
        rows.push((key, reader.take(value)?.to_vec()));
    }
    Ok(rows)
}

fn read_at(file: &mut File, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut read = vec![0; bytes];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut read)?;
    Ok(read)
}

fn corrupt(path: &Path, what: String) -> EngineError {
    EngineError::Corrupt { dir: path.to_path_buf(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(dir: &Path, rows: &[(Vec<u8>, Vec<u8>)]) -> Packed {
        let mut draft = Draft::create(dir.join("packed")).expect("a draft");
        rows.iter().for_each(|(key, value)| draft.put(key, value).expect("a row"));
        draft.finish().expect("a file")
    }

    #[test]
    fn the_bytes_of_a_file_are_these() {
        let dir = tempfile::tempdir().expect("a directory");
        packed(dir.path(), &[(b"ab".to_vec(), b"1".to_vec()), (b"ac".to_vec(), Vec::new())]);
        let rows = [0, 2, 1, b'a', b'b', b'1', 1, 1, 0, b'c'];
        let mut end = [&[1, b'a', 18][..], &[0, 0, 0, 0, 0, 0, 0, 26], &[0, 0, 0, 0, 0, 0, 0, 2]].concat();
        end.extend(xxh3_64(&end).to_be_bytes());
        let golden = [&MAGIC[..], &rows, &xxh3_64(&rows).to_be_bytes(), &end, &MAGIC].concat();
        assert_eq!(std::fs::read(dir.path().join("packed")).expect("a file"), golden);
        assert_eq!(MAGIC, *b"RKPACK\0\x01");
    }

    #[test]
    fn rows_are_found_one_by_one_and_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let row = |n: u32| (n.wrapping_mul(3).to_be_bytes().to_vec(), vec![n.to_le_bytes()[0]; n as usize % 40]);
        let rows: Vec<_> = (0..3_000).map(row).collect();
        let packed = packed(dir.path(), &rows);
        assert!(packed.blocks.len() > 10 && packed.rows == 3_000);
        for (key, value) in &rows {
            assert_eq!(packed.get(key).expect("read").as_ref(), Some(value));
        }
        assert_eq!(packed.get(&[0, 0, 0, 1]).expect("read"), None);
        assert_eq!(packed.get(&[]).expect("read"), None);
        let scanned = |start: &[u8], end: &[u8]| packed.scan(start, end).collect::<Result<Vec<_>, _>>().expect("rows");
        assert_eq!(scanned(&[], &[0xff; 4]), rows);
        assert_eq!(scanned(&rows[100].0, &rows[900].0), rows[100..900]);
        assert_eq!(scanned(&[0, 0, 0, 4], &[0, 0, 0, 7]), rows[2..3]);
        assert_eq!(scanned(&[0xff; 4], &[0xff; 5]), []);
    }

    #[test]
    fn what_is_damaged_is_not_believed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("packed");
        packed(dir.path(), &[(b"ab".to_vec(), b"1".to_vec()), (b"ac".to_vec(), b"2".to_vec())]);
        let whole = std::fs::read(&path).expect("a file");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).expect("written");
            let read = Packed::open(&path).and_then(|packed| packed.get(b"ab"));
            // How it begins is told by where it lies.
            assert!(at < MAGIC.len() || read.is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).expect("written");
            assert!(Packed::open(&path).is_err(), "cut at {at}");
        }
    }
}
