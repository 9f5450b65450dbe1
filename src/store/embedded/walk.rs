//! Reads the records of ranges that come in order: by one scan where they lie close together, else by one for each.

use std::collections::VecDeque;
use std::iter::Peekable;

use reknit_core::{CollectionId, Range};

use super::read::records;
use super::rows::{self, Stored};
use super::{Inner, StoreError};
use crate::store::engine::Snapshot;

/// So many mean distances of records apart, a scan reads on rather than a new one begins, which costs as much as some rows.
const CLOSE: u64 = 2;

/// Ranges with their records, in order.
pub(super) struct Walk<'a> {
    inner: &'a Inner,
    snapshot: &'a dyn Snapshot,
    collection: CollectionId,
    ranges: VecDeque<Range>,
    close: u64,
    /// The scan that is under way, and the range that it was read up to.
    scan: Option<(Range, Peekable<Scan<'a>>)>,
}

type Scan<'a> = Box<dyn Iterator<Item = Result<Stored, StoreError>> + 'a>;

impl<'a> Walk<'a> {
    /// The ranges are in order and share nothing.
    pub(super) fn new(
        inner: &'a Inner,
        snapshot: &'a dyn Snapshot,
        collection: CollectionId,
        ranges: impl IntoIterator<Item = Range>,
    ) -> Self {
        let count = inner.head().roots[usize::from(collection.0)].count;
        let close = (u64::MAX / count.max(1)).saturating_mul(CLOSE).max(1);
        let close = if count == 0 { 1 } else { close };
        Self { inner, snapshot, collection, ranges: ranges.into_iter().collect(), close, scan: None }
    }

    fn follows(&self, before: Range, range: Range) -> bool {
        range.first().0 - before.last().0 <= self.close
    }

    /// The scan that comes by a range, and by those after it that lie close.
    fn scan_for(&mut self, range: Range) -> Result<Peekable<Scan<'a>>, StoreError> {
        if let Some((before, scan)) = self.scan.take().filter(|(before, _)| self.follows(*before, range)) {
            debug_assert!(before.last() < range.first(), "ranges come in order");
            return Ok(scan);
        }
        let mut last = range;
        for next in &self.ranges {
            if !self.follows(last, *next) {
                break;
            }
            last = *next;
        }
        let (start, end) = (rows::records_of(self.collection, range).0, rows::records_of(self.collection, last).1);
        let scan: Scan<'a> = Box::new(records(self.inner, self.snapshot.scan(&start, &end)?));
        Ok(scan.peekable())
    }

    fn read(&mut self, range: Range) -> Result<Vec<Stored>, StoreError> {
        let mut scan = self.scan_for(range)?;
        let mut found = Vec::new();
        let within = |row: &Result<Stored, StoreError>| row.as_ref().map_or(true, |row| row.position <= range.last());
        while let Some(stored) = scan.next_if(within) {
            let stored = stored?;
            if stored.position >= range.first() {
                found.push(stored);
            }
        }
        self.scan = Some((range, scan));
        Ok(found)
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<(Range, Vec<Stored>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let range = self.ranges.pop_front()?;
        Some(self.read(range).map(|found| (range, found)))
    }
}
