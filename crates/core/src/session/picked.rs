//! A session about picked keys alone, each as it was seen once: what has moved since is left as it is and told.
//!
//! Who picked them, and when, is the concern of whoever opens the session.

use std::collections::BTreeMap;

use super::opener::Opener;
use super::request::Awaited;
use super::{Intent, Verdict};
use crate::bounds::{FRAME_BYTES_AIM, ROUNDS_MAX};
use crate::dataset::{CollectionId, Profile};
use crate::query::Item;

/// Keys that one session may be about.
pub const PICKED_MAX: usize = 25_000;
/// Keys that had moved and are named.
const NAMED_MAX: usize = PICKED_MAX;

/// Keys that a session is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picked {
    /// Whose choice it was, for the journal.
    pub name: String,
    /// The keys, at most [`PICKED_MAX`]; what is beyond is not looked at.
    pub keys: Vec<PickedKey>,
}

/// A key, and what its entries were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickedKey {
    /// In which collection.
    pub collection: CollectionId,
    /// The key.
    pub key: Vec<u8>,
    /// The opener's entry by [`crate::Digest::short`], if there was one.
    pub mine: Option<u64>,
    /// The responder's.
    pub theirs: Option<u64>,
}

/// What a key is to be before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected {
    /// None: whatever the session itself has made of it.
    mine: Option<Option<u64>>,
    theirs: Option<u64>,
}

/// The keys that were not met yet, and those that are to be met again.
#[derive(Default)]
pub(super) struct Pending {
    expected: BTreeMap<(CollectionId, Vec<u8>), Expected>,
    /// New versions of this session's own, which the other side is to have too.
    again: BTreeMap<(CollectionId, Vec<u8>), Expected>,
}

impl Opener {
    pub(super) fn is_picked(&self) -> bool {
        self.options.picked.is_some()
    }

    /// Asks what the peer has of the picked keys.
    pub(super) fn list_picked(&mut self) {
        let Some(picked) = self.options.picked.clone() else { return };
        if self.pending.again.is_empty() {
            let known = |key: &&PickedKey| self.scope.contains(key.collection);
            let keys = picked.keys.iter().take(PICKED_MAX).filter(known);
            let expected = |key: &PickedKey| Expected { mine: Some(key.mine), theirs: key.theirs };
            self.pending.expected = keys.map(|key| ((key.collection, key.key.clone()), expected(key))).collect();
        } else {
            self.pending.expected = std::mem::take(&mut self.pending.again);
        }
        let mut positions: BTreeMap<CollectionId, Vec<u64>> = BTreeMap::new();
        for (collection, key) in self.pending.expected.keys() {
            let name = &self.definition.collections[usize::from(collection.0)].name;
            positions.entry(*collection).or_default().push(self.keys.position(name, key).0);
        }
        for (collection, mut positions) in positions {
            positions.sort_unstable();
            positions.dedup();
            for some in positions.chunks(FRAME_BYTES_AIM / 10) {
                self.send_list(collection, &[], some.to_vec(), Awaited::List);
            }
        }
    }

    /// Whether a key that was met is to be left alone: it was not picked, or has moved since.
    pub(super) fn passes_by(
        &mut self,
        c: CollectionId,
        key: &[u8],
        mine: Option<&Item>,
        theirs: Option<&Item>,
    ) -> bool {
        if !self.is_picked() {
            return false;
        }
        let Some(expected) = self.pending.expected.remove(&(c, key.to_vec())) else { return true };
        let short = |item: Option<&Item>| item.and_then(|item| item.digest).map(|digest| digest.short());
        let stands = expected.mine.is_none_or(|seen| seen == short(mine)) && expected.theirs == short(theirs);
        if !stands {
            self.skip(c, key.to_vec());
        }
        !stands
    }

    /// A new version was written here: the peer is to have it too, over what it had.
    pub(super) fn meet_again(&mut self, c: CollectionId, key: &[u8], theirs: Option<&Item>) {
        if self.is_picked() && self.definition.profile == Profile::Versioned {
            let theirs = theirs.and_then(|item| item.digest).map(|digest| digest.short());
            self.pending.again.insert((c, key.to_vec()), Expected { mine: None, theirs });
        }
    }

    fn skip(&mut self, collection: CollectionId, key: Vec<u8>) {
        if self.outcome.skipped.len() < NAMED_MAX {
            self.outcome.skipped.push((collection, key));
        }
    }

    /// Gives the verdict of a session about picked keys whose roots are known to differ still; says whether it did.
    pub(super) fn judge_picked(&mut self) -> bool {
        if !self.is_picked() || !matches!(self.options.intent, Intent::Repair(_)) {
            return false;
        }
        if !self.pending.again.is_empty() && self.counts.rounds < ROUNDS_MAX {
            self.phase = super::rounds::Phase::Descending;
            self.close_gate();
            self.list_picked();
            return true;
        }
        self.skip_the_rest();
        let skipped = self.outcome.skipped.len() as u64;
        let (left, moved) = (self.unresolved, self.counts.to_mine.moved + self.counts.to_theirs.moved);
        if skipped + left + moved > 0 {
            let reason = format!("{} of the picked keys moved or were left", skipped + left + moved);
            self.finish(Verdict::Differs, reason);
        } else {
            self.finish(Verdict::Converged, "the picked keys are resolved; others differ".into());
        }
        true
    }

    /// Keys of which neither side has anything any more have moved too.
    pub(super) fn skip_the_rest(&mut self) {
        for (collection, key) in std::mem::take(&mut self.pending.expected).into_keys() {
            self.skip(collection, key);
        }
    }
}
