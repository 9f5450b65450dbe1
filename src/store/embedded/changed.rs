//! What has changed since a commit, read from the records themselves: it needs no ring and outlives an opening of the store.
//! What a value was before, and in what order things happened, is not kept and so not told.

use std::collections::VecDeque;

use reknit_core::{CollectionId, Position, Range};

use super::read::records_after;
use super::{Collection, Cursor, StoreError};

/// Records that are looked at for one page.
const LOOKED_AT: usize = 4_096;
/// Bytes after which a page ends.
const PAGE_BYTES: usize = 4 << 20;

/// Records whose last change is after a commit, in order of position; ends after an error.
pub struct ChangedAfter {
    of: Collection,
    cursor: Cursor,
    after: Option<(Position, Vec<u8>)>,
    done: bool,
    page: VecDeque<ChangedRecord>,
}

/// A record that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedRecord {
    /// Its collection.
    pub collection: CollectionId,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value now; none where it is deleted or has expired.
    pub value: Option<Vec<u8>>,
    /// The commit of its last change.
    pub commit: u64,
}

impl Collection {
    /// The records that have changed since `cursor`, each once, as it is now.
    ///
    /// Reads the whole collection. A deletion whose tombstone was collected is not found: it waited for all members before.
    #[must_use]
    pub fn changed_after(&self, cursor: Cursor) -> ChangedAfter {
        ChangedAfter { of: self.clone(), cursor, after: None, done: false, page: VecDeque::new() }
    }
}

#[cfg(feature = "node")]
impl super::Store {
    /// How many handles there are to this store, its collections and watchers; the last one closes it.
    pub(crate) fn handles(&self) -> usize {
        std::sync::Arc::strong_count(&self.inner)
    }
}

impl Iterator for ChangedAfter {
    type Item = Result<ChangedRecord, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() && !self.done {
            if let Err(error) = self.fill() {
                self.done = true;
                self.page.clear();
                return Some(Err(error));
            }
        }
        self.page.pop_front().map(Ok)
    }
}

impl ChangedAfter {
    fn fill(&mut self) -> Result<(), StoreError> {
        let inner = &self.of.store.inner;
        let snapshot = inner.engine.snapshot()?;
        let now = inner.shown_until();
        let (mut looked, mut bytes) = (0, 0);
        let mut last = None;
        for stored in records_after(inner, &*snapshot, self.of.id, Range::ALL, self.after.as_ref())? {
            if looked >= LOOKED_AT || bytes >= PAGE_BYTES {
                self.after = last;
                return Ok(());
            }
            let stored = stored?;
            looked += 1;
            last = Some((stored.position, stored.key.clone()));
            if stored.commit <= self.cursor.0 {
                continue;
            }
            let seen = inner.seen(self.of.id, &stored.state);
            let shown = seen.expires.is_none_or(|expires| expires > now);
            let value = seen.value().filter(|_| shown).cloned();
            bytes += stored.key.len() + value.as_ref().map_or(0, Vec::len);
            let collection = self.of.id;
            self.page.push_back(ChangedRecord { collection, key: stored.key, value, commit: stored.commit });
        }
        self.done = true;
        Ok(())
    }
}
