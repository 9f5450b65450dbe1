//! Listing a collection, in key order or in order of position, page by page.
//! No snapshot outlives a page, so a listing shows each record as of the time its page was read.

use std::collections::VecDeque;
use std::sync::Arc;

use reknit_core::{Position, Range, Record};

use super::read::records_after;
use super::rows::{self, Counts};
use super::write::read_state;
use super::{Collection, HEAD, StoreError};
use crate::store::engine::Snapshot;

/// Records of one page of a listing.
const PAGE_RECORDS: usize = 1_000;
/// Bytes after which a page ends.
const PAGE_BYTES: usize = 4 << 20;

impl Collection {
    /// The live records whose keys begin with `prefix`, in key order.
    ///
    /// # Errors
    /// [`StoreError::NoKeyIndex`]; each row, what the engine met or [`StoreError::Damaged`].
    pub fn scan(&self, prefix: &[u8]) -> Result<Scan, StoreError> {
        if !self.store.inner.definition.key_index {
            return Err(StoreError::NoKeyIndex);
        }
        let (next, end) = rows::index_of(self.id, prefix);
        let (prefix, page) = (prefix.to_vec(), VecDeque::new());
        Ok(Scan { of: self.clone(), prefix, next: Some(next), end, page, head: None, rows: 0 })
    }

    /// All records with their states, tombstones too, in order of position: as they lie.
    #[must_use]
    pub fn scan_positions(&self) -> ScanPositions {
        ScanPositions { of: self.clone(), after: None, done: false, page: VecDeque::new() }
    }
}

/// Live records in key order; ends after an error.
pub struct Scan {
    of: Collection,
    prefix: Vec<u8>,
    /// The index row to go on from; none at the end.
    next: Option<Vec<u8>>,
    end: Vec<u8>,
    page: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// What the store said of its newest commit when the first page was read.
    head: Option<Vec<u8>>,
    /// Index rows so far.
    rows: u64,
}

impl Iterator for Scan {
    type Item = Result<(Vec<u8>, Vec<u8>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() && self.next.is_some() {
            if let Err(error) = self.fill() {
                self.next = None;
                self.page.clear();
                return Some(Err(error));
            }
        }
        self.page.pop_front().map(Ok)
    }
}

impl Scan {
    fn fill(&mut self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.of.store.inner);
        let snapshot = inner.engine.snapshot()?;
        let now = inner.shown_until();
        let Some(start) = self.next.take() else { return Ok(()) };
        let head = snapshot.get(&rows::meta(HEAD))?.unwrap_or_default();
        let still = *self.head.get_or_insert_with(|| head.clone()) == head;
        let (mut seen, mut bytes) = (0_u64, 0);
        let mut same_beginning: Option<Vec<u8>> = None;
        let mut long: Vec<Vec<u8>> = Vec::new();
        for row in snapshot.scan(&start, &self.end)? {
            let (row, value) = row?;
            let beginning = rows::long_beginning(&row);
            if beginning != same_beginning.as_deref() {
                same_beginning = beginning.map(<[u8]>::to_vec);
                bytes += self.take_long(&*snapshot, now, &mut long)?;
            }
            // A group of long keys of one beginning is sorted here, so no page ends within one.
            if beginning.is_none() && (seen >= PAGE_RECORDS as u64 || bytes >= PAGE_BYTES) {
                self.next = Some(row);
                self.rows += seen;
                return Ok(());
            }
            seen += 1;
            let key = rows::read_index(&row, &value)?;
            if beginning.is_some() {
                long.push(key);
            } else {
                bytes += self.take(&*snapshot, now, key)?;
            }
        }
        self.take_long(&*snapshot, now, &mut long)?;
        self.rows += seen;
        if self.prefix.is_empty() && still { self.complete(&*snapshot) } else { Ok(()) }
    }

    /// Whether a listing of a whole collection that stood still has shown as many records as there are.
    fn complete(&self, snapshot: &dyn Snapshot) -> Result<(), StoreError> {
        let counts =
            snapshot.get(&rows::counts(self.of.id))?.map_or(Ok(Counts::default()), |value| Counts::decode(&value));
        let live = counts.map_err(|error| StoreError::damaged(format!("the counts do not decode: {error}")))?.live;
        if live == self.rows {
            return Ok(());
        }
        Err(StoreError::damaged(format!("the index by key has shown {} of {live} records", self.rows)))
    }

    /// Long keys of one beginning lie in the order of a hash; here they get the order of keys.
    fn take_long(&mut self, snapshot: &dyn Snapshot, now: u64, long: &mut Vec<Vec<u8>>) -> Result<usize, StoreError> {
        long.sort_unstable();
        let mut bytes = 0;
        for key in long.drain(..) {
            bytes += self.take(snapshot, now, key)?;
        }
        Ok(bytes)
    }

    fn take(&mut self, snapshot: &dyn Snapshot, now: u64, key: Vec<u8>) -> Result<usize, StoreError> {
        let inner = &self.of.store.inner;
        if !key.starts_with(&self.prefix) {
            return Ok(0);
        }
        let position = inner.keys.position(self.of.name(), &key);
        let Some(state) = read_state(inner, snapshot, self.of.id, position, &key)? else {
            let key = super::shown(&key);
            return Err(StoreError::damaged(format!("the index by key names {key}, which has no record")));
        };
        let seen = inner.seen(self.of.id, &state);
        if seen.expires.is_some_and(|expires| expires <= now) {
            return Ok(0);
        }
        let Some(value) = seen.value().cloned() else { return Ok(0) };
        let bytes = key.len() + value.len();
        self.page.push_back((key, value));
        Ok(bytes)
    }
}

/// All records in order of position; ends after an error.
pub struct ScanPositions {
    of: Collection,
    after: Option<(Position, Vec<u8>)>,
    done: bool,
    page: VecDeque<(Position, Record)>,
}

impl Iterator for ScanPositions {
    type Item = Result<(Position, Record), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty()
            && !self.done
            && let Err(error) = self.fill()
        {
            self.done = true;
            return Some(Err(error));
        }
        self.page.pop_front().map(Ok)
    }
}

impl ScanPositions {
    fn fill(&mut self) -> Result<(), StoreError> {
        let inner = &self.of.store.inner;
        let snapshot = inner.engine.snapshot()?;
        let mut bytes = 0;
        for stored in records_after(inner, &*snapshot, self.of.id, Range::ALL, self.after.as_ref())? {
            if self.page.len() >= PAGE_RECORDS || bytes >= PAGE_BYTES {
                self.after = self.page.back().map(|(position, record)| (*position, record.key.clone()));
                return Ok(());
            }
            let stored = stored?;
            let record = Record { key: stored.key, state: stored.state };
            bytes += record.weight();
            self.page.push_back((stored.position, record));
        }
        self.done = true;
        Ok(())
    }
}
