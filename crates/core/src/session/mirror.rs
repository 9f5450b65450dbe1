//! Mirroring: one side becomes exactly the other, as new versions that supersede what both had.
//!
//! New versions are written on the opener's store wherever the mirrored side would have won; the next
//! round is then a plain repair, in which those versions win everywhere.

use super::Intent;
use super::opener::Opener;
use crate::difference::{Difference, Kind, Side};
use crate::query::{Item, Overwrite, Replacement};

impl Opener {
    /// The side that is being made the other's mirror.
    pub(super) fn mirroring(&self) -> Option<Side> {
        self.options.mirror.filter(|_| matches!(self.options.intent, Intent::Repair(_)))
    }

    /// Writes a new version where the mirrored side would win; says whether it did.
    pub(super) fn mirror(&mut self, difference: &Difference, mine: Option<&Item>, theirs: Option<&Item>) -> bool {
        let Some(mirrored) = self.mirroring() else { return false };
        let wins = match difference.kind {
            Kind::Only(side) | Kind::Newer(side) | Kind::Concurrent(side) => side == mirrored,
            // The same content needs no new version; bare content has no order, so the source always wins.
            Kind::Versions(_) => false,
            Kind::Content => true,
        };
        if !wins {
            return false;
        }
        let live = |item: Option<&Item>| item.is_some_and(|i| i.versions.first().is_some_and(|v| v.content.is_some()));
        let short = |item: Option<&Item>| item.and_then(|i| i.digest).map(|digest| digest.short());
        let source = if mirrored == Side::Mine { theirs } else { mine };
        let (collection, key) = (difference.collection, difference.key.clone());
        let seen = theirs.map(|item| item.versions.iter().map(|info| info.version.clone()).collect());
        let seen = seen.unwrap_or_default();
        let content = match (mirrored, live(source)) {
            // A tombstone against nothing is nothing on both sides.
            (_, false) if !live(mine) && !live(theirs) => return false,
            (_, false) => Replacement::Delete,
            (Side::Theirs, true) => Replacement::Keep,
            (Side::Mine, true) => {
                if let Some(digest) = short(theirs) {
                    self.transfers.take_entry(collection, difference.position, digest, &key, short(mine));
                }
                return true;
            }
        };
        self.counts.to_mine.offered += 1;
        let overwrite = Overwrite { key, expected: short(mine), content, seen };
        self.overwrites.entry(collection).or_default().push(overwrite);
        true
    }
}
