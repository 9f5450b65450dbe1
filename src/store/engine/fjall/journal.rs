//! What the engine's journals are worth before it reads them: a batch that a crash left in part is cut off, damage is named.
//! What the batches mean is the engine's concern; it gives up at a torn batch, and takes some damage for the end.
//!
//! A disk may write the sectors of what was not synced in any order, so that the end of a batch may be there without its
//! middle, and a whole batch after a torn one. Only [`Mark`] tells that from damage: what it says was synced must be there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::store::engine::EngineError;

/// The file that says up to where batches were synced.
const MARK: &str = "synced";
const SUFFIX: &str = "jnl";

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// What the end of a batch ends with.
const TRAILER: [u8; 4] = *b"FJL\x03";

/// Up to which batch the journal was synced, by the engine's own numbers of batches. It is written after each sync and not
/// synced itself: a crash may leave an older one, never one that says too much.
pub(super) struct Mark {
    file: Mutex<(File, Option<u64>)>,
}

impl Mark {
    /// Opens the mark in `dir`, or creates one that says nothing. One that is damaged says nothing.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(MARK))?;
        let mut bytes = Vec::new();
        (&file).take(17).read_to_end(&mut bytes)?;
        let said = bytes.split_first_chunk().filter(|(batch, sum)| *sum == xxh3_64(*batch).to_be_bytes());
        let batch = said.map(|(batch, _)| u64::from_be_bytes(*batch));
        Ok(Self { file: Mutex::new((file, batch)) })
    }

    /// The batch up to which everything was synced, at least.
    pub(super) fn batch(&self) -> Option<u64> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Says that a batch of this number or a higher one was synced.
    pub(super) fn synced(&self, batch: u64) {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if held.1.is_some_and(|before| before >= batch) {
            return;
        }
        held.1 = Some(batch);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&batch.to_be_bytes());
        bytes[8..].copy_from_slice(&xxh3_64(&batch.to_be_bytes()).to_be_bytes());
        // A mark that cannot be written says less than it could, which is no reason to fail a commit that stands.
        let _ = held.0.seek(SeekFrom::Start(0)).and_then(|_| held.0.write_all(&bytes));
    }
}

/// Reads all journals in `dir`, of which everything up to the batch `synced` must be there. Cuts off what was not synced and
/// is torn.
pub(super) fn mend(dir: &Path, synced: Option<u64>) -> Result<(), EngineError> {
    let at = |error| EngineError::from_io(dir, error);
    let mut last = None;
    let journals = journals(dir).map_err(at)?;
    for (nth, (number, path)) in journals.iter().enumerate() {
        let damaged =
            |what: String| EngineError::Corrupt { dir: dir.to_path_buf(), what: format!("{number}.{SUFFIX}: {what}") };
        let mut reader = Reader::open(path).map_err(at)?;
        let mut whole = 0;
        let rest = loop {
            match reader.batch() {
                Ok(Some(batch)) => {
                    if last.is_some_and(|last| batch <= last) {
                        return Err(damaged(format!("the batch at {whole} has number {batch}, which is out of order")));
                    }
                    (last, whole) = (Some(batch), reader.at);
                }
                Ok(None) => break false,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => break true,
                Err(error) => return Err(at(error)),
            }
        };
        // Only the newest journal is written to; the others were synced when the next was begun.
        let newest = nth + 1 == journals.len();
        if !newest && (rest || !reader.only_zeroes().map_err(at)?) {
            return Err(damaged(format!("the batch at {whole} is damaged")));
        }
        if rest && synced.is_some_and(|synced| last.is_none_or(|last| last < synced)) {
            return Err(damaged(format!("the batch at {whole} was synced and is damaged")));
        }
        if rest {
            let file = OpenOptions::new().write(true).open(path).map_err(at)?;
            file.set_len(whole).and_then(|()| file.sync_all()).map_err(at)?;
        }
    }
    Ok(())
}

/// The journals in the order in which they were begun.
fn journals(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir)? {
        let path = item?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(number) = number.filter(|_| path.extension().is_some_and(|suffix| suffix == SUFFIX)) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

struct Reader {
    bytes: BufReader<File>,
    at: u64,
    length: u64,
}

impl Reader {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { bytes: BufReader::with_capacity(64 << 10, file), at: 0, length })
    }

    /// The number of the next batch; none where there is no more. Bytes that are no whole batch are
    /// [`io::ErrorKind::InvalidData`].
    fn batch(&mut self) -> io::Result<Option<u64>> {
        if self.at == self.length {
            return Ok(None);
        }
        match self.number::<1>()? {
            [START] => {}
            // The rest of the file is not written yet.
            [0] => return Ok(None),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        let items = u32::from_le_bytes(self.number()?);
        let batch = u64::from_le_bytes(self.number()?);
        let mut sum = Xxh3::new();
        for _ in 0..items {
            let tag: [u8; 1] = self.number()?;
            sum.update(&tag);
            match tag {
                [ITEM] => {
                    // Kind, compression and keyspace; bytes of the key, of the value, and of the value as it lies here.
                    let head: [u8; 20] = self.number()?;
                    sum.update(&head);
                    let key = u16::from_le_bytes([head[10], head[11]]);
                    let value = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
                    self.sum(&mut sum, u64::from(key) + u64::from(value))?;
                }
                [CLEAR] => sum.update(&self.number::<8>()?),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        let end: [u8; 1] = self.number()?;
        let expected = u64::from_le_bytes(self.number()?);
        let trailer: [u8; 4] = self.number()?;
        if end != [END] || expected != sum.digest() || trailer != TRAILER {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Some(batch))
    }

    fn number<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        if self.length - self.at < N as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = [0; N];
        self.bytes.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    /// Adds so many bytes to a sum.
    fn sum(&mut self, sum: &mut Xxh3, mut bytes: u64) -> io::Result<()> {
        if self.length - self.at < bytes {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.at += bytes;
        while bytes > 0 {
            let held = self.bytes.fill_buf()?;
            let some = usize::try_from(bytes).unwrap_or(usize::MAX).min(held.len());
            if some == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            sum.update(&held[..some]);
            self.bytes.consume(some);
            bytes -= some as u64;
        }
        Ok(())
    }

    /// Whether nothing but zeroes is left.
    fn only_zeroes(&mut self) -> io::Result<bool> {
        loop {
            let held = self.bytes.fill_buf()?;
            if held.is_empty() {
                return Ok(true);
            }
            if held.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            let some = held.len();
            self.bytes.consume(some);
        }
    }
}
