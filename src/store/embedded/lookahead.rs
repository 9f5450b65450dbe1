//! Entries that come in order, of which the next few can be looked at, so that a tree is made of them without holding more.

use std::collections::VecDeque;

use reknit_core::tree::{LEAF_ENTRIES_MAX, Summary, is_leaf};
use reknit_core::{Entry, Keys, Range};

use super::StoreError;

/// Entries to come.
pub(super) struct Lookahead<I> {
    entries: I,
    ahead: VecDeque<Entry>,
    /// Why they ended early, if they did.
    pub(super) failed: Option<StoreError>,
}

impl<I: Iterator<Item = Result<Entry, StoreError>>> Lookahead<I> {
    pub(super) fn new(entries: I) -> Self {
        Self { entries, ahead: VecDeque::new(), failed: None }
    }

    /// How many of the next entries lie in `range`, counting no further than `most`.
    fn count_up_to(&mut self, range: Range, most: usize) -> usize {
        while self.ahead.len() < most && self.failed.is_none() {
            match self.entries.next() {
                Some(Ok(entry)) => self.ahead.push_back(entry),
                Some(Err(error)) => self.failed = Some(error),
                None => break,
            }
        }
        self.ahead.iter().take(most).take_while(|entry| range.contains(entry.position)).count()
    }

    /// Takes all entries of a leaf.
    fn take(&mut self, range: Range) -> Vec<Entry> {
        let mut taken = Vec::new();
        while self.count_up_to(range, 1) == 1 {
            taken.extend(self.ahead.pop_front());
        }
        taken
    }

    /// The summary of a range from the entries to come; tells of each range below it, empty ones too.
    pub(super) fn build(
        &mut self,
        keys: &Keys,
        range: Range,
        tell: &mut impl FnMut(Range, Summary) -> Result<(), StoreError>,
    ) -> Result<Summary, StoreError> {
        if is_leaf(range, self.count_up_to(range, LEAF_ENTRIES_MAX + 1) as u64) {
            return Ok(keys.leaf(range, &self.take(range)));
        }
        let mut children = [Summary::EMPTY; 16];
        for digit in 0..16 {
            let part = range.child(digit);
            let summary = self.build(keys, part, tell)?;
            tell(part, summary)?;
            children[usize::from(digit)] = summary;
        }
        Ok(keys.inner(range, &children))
    }
}
