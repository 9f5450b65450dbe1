//! The engine of an index that is made at once and then changes little: the rows that there are many of lie packed in a
//! sorted file, what has changed of them since lies loose in a B-tree above it, with all other rows.
//!
//! Which file counts is a row of that tree, so that a new one and all that goes with it come with one commit.

mod file;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use reknit_core::canonical::Reader;

pub use self::file::Draft;
use self::file::Packed;
use super::redb::Redb;
use super::{Batch, Durability, Engine, EngineError, Packing, Row, Rows, Snapshot, directory_bytes, ending};

/// The first bytes of rows that are packed.
pub(in crate::store) const PACKED: [u8; 3] = [1, 3, 7];
/// The row that says which file counts; behind all rows of a store.
const COUNTS: &[u8] = &[0xff, b'p'];
/// Before a loose row of a kind that is packed, with the number of the file that it changes.
const LOOSE: u8 = 0xfe;
/// Before what a loose row holds, or for one that is gone.
const THERE: u8 = 1;
const GONE: &[u8] = &[0];
/// Loose rows of earlier files that are removed in one commit.
const SWEPT: usize = 10_000;

/// An open engine.
pub(super) struct PackedEngine {
    loose: Redb,
    dir: PathBuf,
    under: RwLock<Under>,
}

/// The file that counts.
#[derive(Clone)]
struct Under {
    number: u64,
    file: Option<Arc<Packed>>,
}

impl PackedEngine {
    /// Opens the files in `dir`, or creates them.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, EngineError> {
        let loose = Redb::open(dir, cache_bytes)?;
        let number = match loose.snapshot()?.get(COUNTS)? {
            Some(bytes) => Reader::new(&bytes).u64().map_err(|error| EngineError::Corrupt {
                dir: dir.to_path_buf(),
                what: format!("which packed file counts: {error}"),
            })?,
            None => 0,
        };
        let own = name(number);
        let items = std::fs::read_dir(dir).map_err(|error| EngineError::from_io(dir, error))?;
        for item in items.flatten() {
            let other = item.file_name();
            if other.to_string_lossy().starts_with(NAME) && other != *own {
                // Of a command that was stopped: it counts for nobody.
                let _ = std::fs::remove_file(item.path());
            }
        }
        let file = if number > 0 { Some(Arc::new(Packed::open(&dir.join(own))?)) } else { None };
        let engine = Self { loose, dir: dir.to_path_buf(), under: RwLock::new(Under { number, file }) };
        engine.sweep(number)?;
        Ok(engine)
    }

    fn under(&self) -> Under {
        self.under.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Removes loose rows that change a file before this one.
    fn sweep(&self, number: u64) -> Result<(), EngineError> {
        loop {
            let mut batch = Batch::new();
            let snapshot = self.loose.snapshot()?;
            for row in snapshot.scan(&[LOOSE], &loose(number, &[]))?.take(SWEPT) {
                batch.delete(&row?.0);
            }
            drop(snapshot);
            if batch.is_empty() {
                return Ok(());
            }
            self.loose.commit(&mut batch, Durability::Buffered)?;
        }
    }
}

const NAME: &str = "packed-";

fn name(number: u64) -> String {
    format!("{NAME}{number}")
}

fn is_packed(key: &[u8]) -> bool {
    key.first().is_some_and(|first| PACKED.contains(first))
}

/// The key of a loose row of a kind that is packed.
fn loose(number: u64, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(9 + key.len());
    row.push(LOOSE);
    row.extend_from_slice(&number.to_be_bytes());
    row.extend_from_slice(key);
    row
}

impl Engine for PackedEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        // Held until the tree's own snapshot is there, so that both are of one commit.
        let under = self.under.read().unwrap_or_else(PoisonError::into_inner);
        let loose = self.loose.snapshot()?;
        Ok(Box::new(View { loose, under: under.clone() }))
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        let under = self.under();
        let mut all = Batch::new();
        let mut held = Vec::new();
        for (key, value) in batch.sorted() {
            if !is_packed(key) {
                match value {
                    Some(value) => all.put(key, value),
                    None => all.delete(key),
                }
                continue;
            }
            let row = loose(under.number, key);
            match value {
                Some(value) => {
                    held.clear();
                    held.push(THERE);
                    held.extend_from_slice(value);
                    all.put(&row, &held);
                }
                None => match under.file.as_ref().map(|file| file.get(key)).transpose()?.flatten() {
                    Some(_) => all.put(&row, GONE),
                    None => all.delete(&row),
                },
            }
        }
        self.loose.commit(&mut all, durability)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.loose.sync()
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        directory_bytes(&self.dir).map_err(|error| EngineError::from_io(&self.dir, error))
    }

    fn packing(&self) -> Option<&dyn Packing> {
        Some(self)
    }
}

impl Packing for PackedEngine {
    fn draft(&self) -> Result<Draft, EngineError> {
        Draft::create(self.dir.join(name(self.under().number + 1)))
    }

    fn pack(&self, draft: Draft, batch: &mut Batch) -> Result<(), EngineError> {
        let number = self.under().number + 1;
        let file = Arc::new(draft.finish()?);
        batch.put(COUNTS, &number.to_be_bytes());
        let mut under = self.under.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.loose.commit(batch, Durability::Synced) {
            file.remove();
            return Err(error);
        }
        let before = std::mem::replace(&mut *under, Under { number, file: Some(file) });
        drop(under);
        // Whoever still reads it has it open.
        before.file.iter().for_each(|file| file.remove());
        self.sweep(number)
    }

    fn is_loose(&self) -> Result<bool, EngineError> {
        /// So many loose rows are no matter, and this share of those in the file.
        const FEW: u64 = 4_096;
        const SHARE: u64 = 8;
        let under = self.under();
        let most = FEW + under.file.as_ref().map_or(0, |file| file.rows) / SHARE;
        let snapshot = self.loose.snapshot()?;
        let mut rows = snapshot.scan(&loose(under.number, &[]), &loose(under.number + 1, &[]))?;
        Ok(rows.nth(usize::try_from(most).unwrap_or(usize::MAX)).is_some())
    }
}

struct View<'e> {
    loose: Box<dyn Snapshot + 'e>,
    under: Under,
}

impl Snapshot for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        if !is_packed(key) {
            return self.loose.get(key);
        }
        match (self.loose.get(&loose(self.under.number, key))?, &self.under.file) {
            (Some(held), _) => Ok(there(held)),
            (None, Some(file)) => file.get(key),
            (None, None) => Ok(None),
        }
    }

    fn scan<'a>(&'a self, start: &[u8], end: &[u8]) -> Result<Rows<'a>, EngineError> {
        let end = end.min(&[LOOSE]);
        if start >= end {
            return Ok(Box::new(std::iter::empty()));
        }
        // Rows of one kind, as all are but of who copies everything.
        let one = start.first().copied().filter(|first| end <= [first + 1].as_slice());
        let plain: Rows<'a> = match one {
            Some(first) if PACKED.contains(&first) => Box::new(std::iter::empty()),
            _ => self.loose.scan(start, end)?,
        };
        if one.is_some_and(|first| !PACKED.contains(&first)) {
            return Ok(plain);
        }
        let number = self.under.number;
        let changed = self.loose.scan(&loose(number, start), &loose(number, end))?;
        let changed = changed.map(|row| row.map(|(key, held)| (key[9..].to_vec(), there(held))));
        let mut changed = changed.peekable();
        let mut under = match &self.under.file {
            Some(file) => file.scan(start, end),
            None => Box::new(std::iter::empty()),
        }
        .peekable();
        let packed = std::iter::from_fn(move || {
            loop {
                let take_changed = match (changed.peek(), under.peek()) {
                    (None, None) => return None,
                    (Some(Err(_)), _) | (Some(_), None) => true,
                    (_, Some(Err(_))) | (None, Some(_)) => false,
                    (Some(Ok((changed, _))), Some(Ok((here, _)))) => changed <= here,
                };
                if !take_changed {
                    return under.next();
                }
                match changed.next()? {
                    Err(error) => return Some(Err(error)),
                    Ok((key, value)) => {
                        // It stands in place of the one below it.
                        let _ = under.next_if(|row| row.as_ref().is_ok_and(|(here, _)| *here == key));
                        if let Some(value) = value {
                            return Some(Ok((key, value)));
                        }
                    }
                }
            }
        });
        if one.is_some() {
            return Ok(ending(packed));
        }
        Ok(ending(merged(plain, packed)))
    }
}

/// What a loose row holds; none where it says that the row is gone.
fn there(mut held: Vec<u8>) -> Option<Vec<u8>> {
    if held.first() != Some(&THERE) {
        return None;
    }
    held.remove(0);
    Some(held)
}

/// Two sequences of rows that have no key in common, as one.
fn merged<'a>(
    a: impl Iterator<Item = Result<Row, EngineError>> + 'a,
    b: impl Iterator<Item = Result<Row, EngineError>> + 'a,
) -> impl Iterator<Item = Result<Row, EngineError>> + 'a {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(Ok((first, _))), Some(Ok((second, _)))) if second < first => b.next(),
        (None, _) => b.next(),
        _ => a.next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_all_rows_and_takes_the_loose_ones_in() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = PackedEngine::open(dir.path(), 1 << 20).expect("an engine");
        let all = |engine: &PackedEngine| {
            let snapshot = engine.snapshot().expect("a snapshot");
            snapshot.scan(&[], &[0xff; 16]).expect("rows").collect::<Result<Vec<_>, _>>().expect("rows")
        };
        let row = |first: u8, n: u8| (vec![first, n], vec![n]);
        let mut draft = engine.draft().expect("a draft");
        for n in [1, 2, 3, 9] {
            draft.put(&row(1, n).0, &[n]).expect("a row");
        }
        let mut batch = Batch::new();
        batch.put(&row(0, 5).0, &[5]);
        engine.pack(draft, &mut batch).expect("packed");
        assert_eq!(all(&engine), [row(0, 5), row(1, 1), row(1, 2), row(1, 3), row(1, 9)]);
        // An older picture stands still, whatever is packed meanwhile.
        let before = engine.snapshot().expect("a snapshot");
        let mut batch = Batch::new();
        batch.delete(&row(1, 2).0);
        batch.delete(&row(1, 7).0);
        batch.put(&row(1, 3).0, &[33]);
        batch.put(&row(1, 4).0, &[4]);
        batch.put(&row(2, 1).0, &[1]);
        engine.commit(&mut batch, Durability::Synced).expect("a commit");
        let expected = [row(0, 5), row(1, 1), (vec![1, 3], vec![33]), row(1, 4), row(1, 9), row(2, 1)];
        assert_eq!(all(&engine), expected);
        let mut draft = engine.draft().expect("a draft");
        all(&engine)
            .iter()
            .filter(|(key, _)| key[0] == 1)
            .for_each(|(key, value)| draft.put(key, value).expect("a row"));
        engine.pack(draft, &mut Batch::new()).expect("packed");
        assert_eq!(all(&engine), expected);
        assert_eq!(before.get(&[1, 2]).expect("read"), Some(vec![2]));
        drop(before);
        // What a stopped command left is nobody's; another opening finds the same.
        drop(engine.draft().expect("a draft"));
        std::fs::write(dir.path().join(name(77)), b"half").expect("written");
        drop(engine);
        let engine = PackedEngine::open(dir.path(), 1 << 20).expect("an engine");
        assert_eq!(all(&engine), expected);
        assert!(!dir.path().join(name(77)).exists() && !dir.path().join(name(1)).exists());
        assert!(!engine.is_loose().expect("counted"));
    }
}
