//! Reads the records of ranges that come in order: by one scan where they lie close together, else by one for each.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::atomic::Ordering;

use reknit_core::{CollectionId, Range};

use super::rows::{self, Stored};
use super::{Inner, StoreError};
use crate::store::engine::{Rows, Snapshot};

/// So many mean distances of records apart, a scan reads on rather than a new one begins, which costs as much as some rows.
const CLOSE: u64 = 2;

/// How far apart positions of a collection are that a scan does not leave out.
pub(super) fn close(inner: &Inner, collection: CollectionId) -> u64 {
    match inner.head().roots[usize::from(collection.0)].count {
        0 => 1,
        count => (u64::MAX / count).saturating_mul(CLOSE),
    }
}

/// Ranges with their records, in order. What lies between them is passed over, and may be damaged.
pub(super) struct Walk<'a> {
    inner: &'a Inner,
    snapshot: &'a dyn Snapshot,
    collection: CollectionId,
    ranges: VecDeque<Range>,
    close: u64,
    /// The scan that is under way, and the range that it was read up to.
    scan: Option<(Range, Peekable<Rows<'a>>)>,
}

impl<'a> Walk<'a> {
    /// The ranges are in order and share nothing.
    pub(super) fn new(
        inner: &'a Inner,
        snapshot: &'a dyn Snapshot,
        collection: CollectionId,
        ranges: impl IntoIterator<Item = Range>,
    ) -> Self {
        let (ranges, close) = (ranges.into_iter().collect(), close(inner, collection));
        Self { inner, snapshot, collection, ranges, close, scan: None }
    }

    fn follows(&self, before: Range, range: Range) -> bool {
        range.first().0 - before.last().0 <= self.close
    }

    /// The scan that comes by a range, and by those after it that lie close.
    fn scan_for(&mut self, range: Range) -> Result<Peekable<Rows<'a>>, StoreError> {
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
        Ok(self.snapshot.scan(&start, &end)?.peekable())
    }

    fn read(&mut self, range: Range) -> Result<Vec<Stored>, StoreError> {
        let mut scan = self.scan_for(range)?;
        let (start, end) = rows::records_of(self.collection, range);
        let mut found = Vec::new();
        while let Some(read) = scan.next_if(|read| read.as_ref().map_or(true, |(row, _)| *row < end)) {
            let (row, value) = read?;
            if row >= start {
                self.inner.reads.records.fetch_add(1, Ordering::Relaxed);
                found.push(self.inner.read_record(&row, &value)?);
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
