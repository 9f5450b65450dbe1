//! A session between sides that were equal once and keep no versions: what has changed since on one side alone goes to the
//! other, what has changed on both is left, or goes as is preferred.
//!
//! When the sides were equal, and what was changed since, is for the stores to know.

use std::collections::BTreeMap;

use super::opener::Opener;
use super::{Direction, Intent};
use crate::dataset::{CollectionId, Profile};
use crate::difference::{Difference, Judged, Kind, Side};
use crate::query::Item;

/// What keys were worth when both sides were equal, of those that either has changed since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// The entry of a key then, by [`crate::Digest::short`]; none: there was none.
    pub was: BTreeMap<(CollectionId, Vec<u8>), Option<u64>>,
    /// Whether what one side has deleted is deleted on the other.
    pub deletes: bool,
}

impl Base {
    /// Which side has changed a key, from its entries now; none if both have, or neither, or if that is not known.
    #[must_use]
    pub fn changed(
        &self,
        collection: CollectionId,
        key: &[u8],
        mine: Option<u64>,
        theirs: Option<u64>,
    ) -> Option<Side> {
        let was = self.was.get(&(collection, key.to_vec()))?;
        match (*was == mine, *was == theirs) {
            (false, true) => Some(Side::Mine),
            (true, false) => Some(Side::Theirs),
            _ => None,
        }
    }
}

impl Opener {
    /// Whether what has changed on one side alone is known.
    pub(super) fn is_based(&self) -> bool {
        self.options.base.is_some() && self.definition.profile == Profile::Content
    }

    /// A difference judged by what has changed since both sides were equal.
    pub(super) fn judge_since(
        &self,
        c: CollectionId,
        key: &[u8],
        (mine, theirs): (Option<&Item>, Option<&Item>),
        judged: Judged,
    ) -> Judged {
        let Some(base) = self.options.base.as_ref().filter(|_| self.is_based()) else { return judged };
        let short = |item: Option<&Item>| item.and_then(|item| item.digest).map(|digest| digest.short());
        let kind = base.changed(c, key, short(mine), short(theirs)).map_or(Kind::Content, Kind::Newer);
        Judged { kind, mine_lacks: kind != Kind::Newer(Side::Mine), theirs_lacks: kind != Kind::Newer(Side::Theirs) }
    }

    /// The side whose value gives way to a change on the other, in a repair of both.
    pub(super) fn outdated(&self, kind: Kind) -> Option<Side> {
        let both = self.options.intent == Intent::Repair(Direction::Both) && self.is_based();
        match kind {
            Kind::Newer(side) if both => Some(side.other()),
            _ => None,
        }
    }

    /// Whether a side keeps what the other has deleted, though the other's word counts.
    pub(super) fn spares(&self, overruled: Side, difference: &Difference) -> bool {
        let [mine, theirs] = difference.entries;
        let gone = if overruled == Side::Mine { theirs.is_none() } else { mine.is_none() };
        gone && self.is_based() && self.options.base.as_ref().is_some_and(|base| !base.deletes)
    }
}
