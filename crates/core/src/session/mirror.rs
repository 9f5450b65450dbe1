//! One side's value wins whatever the versions say: everywhere in a mirror, where both were written apart if a side is
//! preferred. It wins as a new version that supersedes what both had; how records move is left to the repair around it.
//!
//! New versions are written on the opener's store wherever the other side's value would have won or stood beside it; the
//! next round is then a plain repair, in which those versions win everywhere.

use super::opener::Opener;
use super::{Direction, Intent};
use crate::dataset::Profile;
use crate::difference::{Difference, Kind, Side};
use crate::planted::{Bug, planted};
use crate::query::{Item, Overwrite, Replacement};
use crate::record::{Actor, Content, Record, Sibling, State, Version};
use crate::stamp::Stamp;

impl Opener {
    /// The side that is being made the other's mirror.
    pub(super) fn mirroring(&self) -> Option<Side> {
        self.options.mirror.filter(|_| matches!(self.options.intent, Intent::Repair(_)))
    }

    /// The side whose value wins where both were written apart.
    pub(super) fn preferring(&self) -> Option<Side> {
        let both = self.options.intent == Intent::Repair(Direction::Both) && self.mirroring().is_none();
        self.options.prefer.filter(|_| both)
    }

    /// The side whose value gives way to the other's, if versions and policy are not asked.
    pub(super) fn overruled(&self, difference: &Difference, mine: Option<&Item>) -> Option<Side> {
        let bare = self.definition.profile == Profile::Content;
        if difference.kind == Kind::Tolerated {
            return None;
        }
        if let Some(outdated) = self.outdated(difference.kind) {
            return Some(outdated);
        }
        let made = mine.is_some_and(|item| self.transfers.is_own(item.commit));
        if let Some(preferred) = self.preferring() {
            // A vector that is full has forgotten what it was to replace: another round would write the same again. Both stay.
            let full = |item: &Item| item.versions.iter().any(|info| info.version.seen.is_full());
            if made && mine.is_some_and(full) {
                return None;
            }
            // Versions that differ in nothing but what they have seen join as they always do.
            let apart = matches!(difference.kind, Kind::Concurrent(_)) || bare && difference.kind == Kind::Content;
            let gives_way = if planted(Bug::OtherSidePreferred) { preferred } else { preferred.other() };
            return apart.then_some(gives_way);
        }
        let mirrored = self.mirroring()?;
        let wins = match difference.kind {
            // It has no order, so the source always wins.
            _ if bare => true,
            // The session wrote it a round before: it is on its way to the other side.
            Kind::Newer(Side::Mine) if made => false,
            kind => kind.is_renewed(mirrored, self.definition.keeps(difference.collection)),
        };
        wins.then_some(mirrored)
    }

    /// Writes a new version where one side's value is to win that would not; says whether it did.
    pub(super) fn overrule(&mut self, difference: &Difference, mine: Option<&Item>, theirs: Option<&Item>) -> bool {
        let Some(overruled) = self.overruled(difference, mine) else { return false };
        if self.definition.profile == Profile::Content {
            if self.spares(overruled, difference) {
                return false;
            }
            self.overrule_content(overruled, difference, mine, theirs);
            return true;
        }
        // Which of several versions readers see is for the store to say.
        let live = |item: Option<&Item>| item.is_some_and(|i| i.versions.iter().any(|v| v.content.is_some()));
        let short = |item: Option<&Item>| item.and_then(|i| i.digest).map(|digest| digest.short());
        let source = if overruled == Side::Mine { theirs } else { mine };
        let (collection, key) = (difference.collection, difference.key.clone());
        let seen = theirs.map(|item| item.versions.iter().map(|info| info.version.clone()).collect());
        let seen = seen.unwrap_or_default();
        let content = match (overruled, live(source)) {
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

    /// Bare content has no order and no tombstones: what the source has is sent or wanted over what was compared, and
    /// what it lacks is deleted where it is.
    fn overrule_content(&mut self, overruled: Side, d: &Difference, mine: Option<&Item>, theirs: Option<&Item>) {
        let short = |item: Option<&Item>| item.and_then(|i| i.digest).map(|digest| digest.short());
        match (overruled, short(mine), short(theirs)) {
            (Side::Theirs, Some(digest), there) => {
                self.transfers.send_entry(d.collection, d.position, digest, &d.key, there);
            }
            (Side::Theirs, None, there) => {
                let seen = theirs.iter().flat_map(|item| &item.versions).map(|info| &info.version);
                let last = seen.clone().map(|version| version.stamp).max().unwrap_or_default();
                let version = Version::after(Stamp(last.0.saturating_add(1)), Actor(self.life.actor), seen);
                let gone = State::single(Sibling { version, content: Content::Tombstone, expires: None });
                self.transfers.send_given(d.collection, d.position, Record { key: d.key.clone(), state: gone }, there);
            }
            (Side::Mine, here, Some(digest)) => {
                self.transfers.want_entry(d.collection, d.position, digest, &d.key, here);
            }
            (Side::Mine, here, None) => {
                self.counts.to_mine.offered += 1;
                let (key, content, seen) = (d.key.clone(), Replacement::Delete, Vec::new());
                let overwrite = Overwrite { key, expected: here, content, seen };
                self.overwrites.entry(d.collection).or_default().push(overwrite);
            }
        }
    }
}
