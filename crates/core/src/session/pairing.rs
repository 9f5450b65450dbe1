//! The opener between items and records: pairs what both sides know of a key, judges it, and has the winners moved.
//!
//! Which items come together is the concern of [`super::opener`]; moving records that of [`super::transfers`].

use std::collections::{BTreeMap, BTreeSet};

use super::opener::{FOUND_MAX, Opener, Purpose};
use super::{Direction, Intent, Output, SessionError};
use crate::dataset::{CollectionId, Profile};
use crate::difference::{Difference, Judged, Kind, Side, judge, lacking, shared};
use crate::query::{Item, Query};
use crate::range::{Position, Range};
use crate::record::Keeps;
use crate::sketch::ELEMENT_DEPTH;
use crate::wire::WireItem;

/// What both sides know of one key.
type Pair = (Option<Item>, Option<WireItem>);

impl Opener {
    /// Pairs the items of single elements' ranges, which hold all that either side has there.
    pub(super) fn pair_close(
        &mut self,
        collection: CollectionId,
        ranges: Vec<Range>,
        items: Vec<WireItem>,
    ) -> Result<(), SessionError> {
        let asked: BTreeSet<Range> = ranges.iter().copied().collect();
        if items.iter().any(|item| !asked.contains(&Range::of(item.item.position, ELEMENT_DEPTH))) {
            return Err(SessionError::Unexpected("items of ranges that were not asked about"));
        }
        self.ask(Query::Items(collection, ranges), Purpose::Pair(collection, items));
        Ok(())
    }

    /// Pairs our items and the peer's by key, judges each pair and acts on it.
    pub(super) fn pair(&mut self, collection: CollectionId, mine: Vec<Item>, theirs: Vec<WireItem>) {
        let mut pairs: BTreeMap<(Position, Vec<u8>), Pair> = BTreeMap::new();
        for item in mine {
            let pair = pairs.entry((item.position, item.key.clone())).or_default();
            pair.0 = Some(item);
        }
        for item in theirs {
            let pair = pairs.entry((item.item.position, item.item.key.clone())).or_default();
            pair.1 = Some(item);
        }
        for ((position, key), (mine, theirs)) in pairs {
            let other = theirs.as_ref().map(|t| &t.item);
            if self.passes_by(collection, &key, mine.as_ref(), other) {
                continue;
            }
            let profile = self.definition.profile;
            let keeps = self.definition.keeps(collection);
            let judged = judge(profile, keeps, mine.as_ref(), theirs.as_ref().map(|t| &t.item));
            let Some(judged) = judged else { continue };
            let judged = self.judge_since(collection, &key, (mine.as_ref(), other), judged);
            let judged = self.tolerate(collection, &key, (mine.as_ref(), other), judged);
            let kind = judged.kind;
            let fresh =
                theirs.as_ref().is_some_and(|t| t.fresh) || mine.as_ref().is_some_and(|item| self.is_fresh(item));
            let newest = |item: Option<&Item>| item.and_then(|i| i.versions.first().cloned());
            let shared = match (mine.as_ref(), other) {
                (Some(mine), Some(other)) if keeps == Keeps::All => shared(&mine.versions, &other.versions),
                _ => Vec::new(),
            };
            let difference = Difference {
                collection,
                position,
                key,
                kind,
                mine: newest(mine.as_ref()),
                theirs: newest(theirs.as_ref().map(|t| &t.item)),
                shared,
                stable: !fresh,
                entries: [mine.as_ref(), other].map(|item| item.and_then(|i| i.digest).map(|digest| digest.short())),
            };
            self.fresh += u64::from(fresh);
            // What the session wrote here a round before was counted then; it is on its way to the other side.
            let made = mine.as_ref().is_some_and(|item| self.transfers.is_own(item.commit));
            let made = made && matches!(kind, Kind::Newer(Side::Mine) | Kind::Versions(Side::Mine));
            let known = self.was_left(&difference);
            if !made && !known {
                self.count(kind);
            }
            let (own, other) = (mine.as_ref(), theirs.as_ref().map(|t| &t.item));
            self.foresee(&difference, own);
            if self.overrule(&difference, own, other) {
                self.meet_again(collection, &difference.key, other);
                self.outputs.push_back(Output::Found(difference));
            } else if let Intent::Repair(direction) = self.options.intent {
                self.resolve(direction, &difference, judged, own, other);
                if !known {
                    self.outputs.push_back(Output::Found(difference));
                }
            } else if self.found.len() < FOUND_MAX {
                self.found.push(difference);
            } else {
                self.outputs.push_back(Output::Found(difference));
            }
        }
        if let Some(braked) = self.overran() {
            return self.brake(braked);
        }
        if self.gate_is_open() {
            self.flush_overwrites();
        }
    }

    /// Whether anyone but the session wrote our record since the cut.
    fn is_fresh(&self, item: &Item) -> bool {
        self.cut.as_ref().is_some_and(|cut| item.commit > cut.commit) && !self.transfers.is_own(item.commit)
    }

    pub(super) fn note_fresh(&mut self, item: &Item) {
        self.fresh += u64::from(self.is_fresh(item));
    }

    fn count(&mut self, kind: Kind) {
        let counts = &mut self.counts;
        *match kind {
            Kind::Only(Side::Mine) => &mut counts.only_mine,
            Kind::Only(Side::Theirs) => &mut counts.only_theirs,
            Kind::Newer(Side::Mine) | Kind::Concurrent(Side::Mine) => &mut counts.mine_newer,
            Kind::Newer(Side::Theirs) | Kind::Concurrent(Side::Theirs) => &mut counts.theirs_newer,
            Kind::Versions(_) => &mut counts.versions,
            Kind::Content => &mut counts.content,
            Kind::Tolerated => &mut counts.tolerated,
        } += 1;
        counts.concurrent += u64::from(matches!(kind, Kind::Concurrent(_)));
    }

    fn resolve(
        &mut self,
        direction: Direction,
        difference: &Difference,
        judged: Judged,
        mine: Option<&Item>,
        theirs: Option<&Item>,
    ) {
        let (collection, position) = (difference.collection, difference.position);
        let short = |item: Option<&Item>| item.and_then(|i| i.digest).map(|digest| digest.short());
        let (send, want) = match (difference.kind, direction) {
            (Kind::Content, Direction::To(side)) => (side == Side::Theirs, side == Side::Mine),
            // Versions without an order both travel, and each side joins them; bare content has none.
            (Kind::Content, Direction::Both) => {
                let versioned = self.definition.profile == Profile::Versioned;
                (versioned, versioned)
            }
            // Neither lacks anything where it is tolerated.
            _ => (judged.theirs_lacks, judged.mine_lacks),
        };
        if let (Keeps::All, Some(mine), Some(theirs)) = (self.definition.keeps(collection), mine, theirs)
            && self.definition.profile == Profile::Versioned
        {
            let (sends, wants) = (send && direction.writes(Side::Theirs), want && direction.writes(Side::Mine));
            self.exchange(collection, (sends, mine), (wants, theirs));
            if (send, want) != (sends, wants) {
                self.leave_one(difference);
            }
            return;
        }
        let bare = matches!(difference.kind, Kind::Versions(_));
        // Where bare content is gone there is nothing to send.
        let mut done = !(send && short(mine).is_none() || want && short(theirs).is_none());
        if let (true, Some(digest)) = (send, short(mine)) {
            match (direction.writes(Side::Theirs), bare) {
                (true, true) => self.transfers.send_bare(collection, position, digest),
                (true, false) => {
                    self.transfers.send_entry(collection, position, digest, &difference.key, short(theirs));
                }
                (false, _) => done = false,
            }
        }
        if let (true, Some(digest)) = (want, short(theirs)) {
            match (direction.writes(Side::Mine), bare) {
                (true, true) => self.transfers.want_bare(collection, position, digest),
                (true, false) => {
                    self.transfers.want_entry(collection, position, digest, &difference.key, short(mine));
                }
                (false, _) => done = false,
            }
        }
        if !done || !(send || want) {
            self.leave_one(difference);
        }
    }

    /// Has those versions moved that the other side lacks, by their names: its entry may change meanwhile.
    fn exchange(&mut self, collection: CollectionId, (sends, mine): (bool, &Item), (wants, theirs): (bool, &Item)) {
        let named = |of: &Item, by: &Item| match lacking(&of.versions, &by.versions) {
            // They differ in what is said to have been seen: each joins all that the other has.
            (none, _) if none.is_empty() => (of.versions.iter().map(|info| info.version.dot()).collect(), true),
            some => some,
        };
        if sends {
            let (dots, bare) = named(mine, theirs);
            self.transfers.send_versions(collection, mine.position, dots, bare);
        }
        if wants {
            let (dots, bare) = named(theirs, mine);
            self.transfers.want_versions(collection, theirs.position, dots, bare);
        }
    }
}
