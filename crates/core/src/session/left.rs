//! What a repair leaves as it is. Roots that differ anyway cannot show what was missed by the way, so what the peer did not
//! find by what it was told of it costs one more round, in which what is left is met again, but counted and told once.

use std::collections::BTreeSet;

use super::opener::{FOUND_MAX, Opener};
use crate::difference::Difference;
use crate::tree::Summary;

/// What was left, and what was missed.
#[derive(Default)]
pub(super) struct Left {
    /// By the entries of both sides, which tell the key.
    known: BTreeSet<[Option<u64>; 2]>,
    missed: u64,
    again: bool,
}

impl Opener {
    pub(super) fn leave(&mut self, count: u64, fresh: bool) {
        self.counts.left += count;
        self.unresolved += if fresh { 0 } else { count };
    }

    /// Leaves one difference as it is.
    pub(super) fn leave_one(&mut self, difference: &Difference) {
        self.leave(1, !difference.stable);
        if difference.stable && self.left.known.len() < FOUND_MAX {
            self.left.known.insert(difference.entries);
        }
    }

    /// Whether this difference was left, counted and told in the round before.
    pub(super) fn was_left(&self, difference: &Difference) -> bool {
        self.left.again && self.left.known.contains(&difference.entries)
    }

    /// Notes records that the peer had not found by what it was told of them.
    pub(super) fn miss(&mut self, records: u64) {
        self.left.missed += records;
    }

    /// Looks for what was missed, if there is any, and all that is left will be known again; says whether it does.
    pub(super) fn seek_missed(&mut self, mine: &[Summary], theirs: &[Summary]) -> bool {
        let known = self.left.known.len() as u64;
        if self.left.missed == 0 || self.left.again || known != self.unresolved || known != self.counts.left {
            return false;
        }
        self.left.again = true;
        (self.unresolved, self.fresh, self.counts.left) = (0, 0, 0);
        self.descend(mine, theirs);
        true
    }
}
