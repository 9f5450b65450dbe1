//! Where an opener has proven nothing yet: what is named when a session ends before its end, and how far it has come.
//!
//! A range is proven once it was compared and what differed in it was found, or in a repair settled. When a session ends is
//! said in [`super::rounds`] and by whoever drives it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::gate::Gate;
use super::offers::Parts;
use super::opener::{Opener, Purpose};
use super::request::Awaited;
use super::rounds::Phase;
use super::{Intent, Output, Verdict};
use crate::dataset::CollectionId;
use crate::range::{DEPTH_MAX, Position, Range};
use crate::sketch::ELEMENT_DEPTH;

/// Ranges that are named of what is unproven: a screen or two. How many there are beyond is told.
pub const UNPROVEN_MAX: usize = 64;

/// Where a session that ended before its end has proven nothing, in the fewest ranges that hold all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproven {
    /// The widest of the ranges, at most [`UNPROVEN_MAX`], the widest first.
    pub ranges: Vec<(CollectionId, Range)>,
    /// How many there are beyond those.
    pub more: u64,
    /// Of each sixteenth of all positions whether some of it is unproven in any collection: the lowest bit is the range `0*`.
    pub sixteenths: u16,
}

impl Unproven {
    /// The same with no more ranges named than are: another node may have told it.
    #[must_use]
    pub fn at_most(mut self) -> Unproven {
        self.more = self.more.saturating_add(self.ranges.len().saturating_sub(UNPROVEN_MAX) as u64);
        self.ranges.truncate(UNPROVEN_MAX);
        self
    }

    /// What is named of these ranges, in any order and however they overlap.
    pub(super) fn of(all: BTreeMap<CollectionId, Vec<Range>>) -> Unproven {
        let covers = all.into_iter().map(|(collection, ranges)| (collection, cover(ranges)));
        let covers = covers.flat_map(|(collection, cover)| cover.into_iter().map(move |range| (collection, range)));
        let mut ranges: Vec<(CollectionId, Range)> = covers.collect();
        let sixteenths = ranges.iter().fold(0, |bits, (_, range)| match range.depth() {
            0 => u16::MAX,
            _ => bits | 1 << Range::ALL.digit(range.first()),
        });
        ranges.sort_by_key(|(collection, range)| (range.depth(), *collection, *range));
        let more = ranges.len().saturating_sub(UNPROVEN_MAX) as u64;
        ranges.truncate(UNPROVEN_MAX);
        Unproven { ranges, more, sixteenths }
    }
}

/// The fewest ranges that hold the same positions, in order.
pub(super) fn cover(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_by_key(|range| (range.first(), range.depth()));
    let mut cover: Vec<Range> = Vec::new();
    for range in ranges {
        if cover.last().is_some_and(|last| last.covers(range)) {
            continue;
        }
        cover.push(range);
        while let Some(whole) = whole(&cover) {
            cover.truncate(cover.len() - 16);
            cover.push(whole);
        }
    }
    cover
}

/// The range whose sixteen parts come last, if they do.
fn whole(cover: &[Range]) -> Option<Range> {
    let parts = cover.last_chunk::<16>()?;
    let parent = parts[0].parent()?;
    (0..).zip(parts).all(|(digit, part)| *part == parent.child(digit)).then_some(parent)
}

/// Something that is open: a range, or single places.
enum Part<'a> {
    Range(Range),
    Positions(&'a [Position]),
    Places(Box<dyn ExactSizeIterator<Item = Range> + 'a>),
}

impl Opener {
    /// The share of all positions that is proven, in millionths, as far as that is told on the way: ranges count by their
    /// size, single places by how many there are. The whole is only reached with a verdict.
    pub(super) fn coverage(&self) -> u32 {
        let (mut ranges, mut places) = (0.0, 0);
        self.frontier(&mut |_, part| match part {
            Part::Range(range) => ranges += share(range),
            Part::Positions(positions) => places += positions.len(),
            Part::Places(some) => places += some.len(),
        });
        self.proven_share(ranges, places)
    }

    fn proven_share(&self, ranges: f64, places: usize) -> u32 {
        let collections = self.scope.len().max(1) as f64;
        let entries = self.outcome.root_mine.count.max(self.outcome.root_theirs.count).max(1);
        let unproven = ranges / collections + places as f64 / entries as f64;
        let begun = !matches!(self.phase, Phase::Start | Phase::Opening | Phase::Meeting);
        if begun { ((1.0 - unproven).clamp(0.0, 0.999_999) * 1e6) as u32 } else { 0 }
    }

    /// Whether nothing at all can be said yet, or ever by such a session.
    fn knows_nothing(&self) -> bool {
        match self.phase {
            Phase::Start | Phase::Opening | Phase::Meeting | Phase::Checking => true,
            // The first look at the roots of several collections.
            Phase::Looking(_) if self.counts.rounds == 0 => true,
            // Roots alone do not tell where; a session about some keys says nothing of all others; what was only counted is
            // found again.
            _ => self.options.intent == Intent::Check || self.is_picked() || self.guarded.gate == Gate::Counting,
        }
    }

    /// Where nothing is proven, and the share of positions that is.
    fn unproven(&self) -> (Unproven, u32) {
        let mut all: BTreeMap<CollectionId, Vec<Range>> = BTreeMap::new();
        if self.knows_nothing() {
            all.extend(self.scope.iter().map(|collection| (collection, vec![Range::ALL])));
            return (Unproven::of(all), 0);
        }
        let mut add = |collection, range| all.entry(collection).or_default().push(range);
        self.frontier(&mut |collection, part| match part {
            Part::Range(range) => add(collection, range),
            Part::Positions(positions) => {
                positions.iter().for_each(|at| add(collection, Range::of(*at, DEPTH_MAX)));
            }
            Part::Places(places) => places.for_each(|place| add(collection, place)),
        });
        self.transfers.open(&mut add);
        for (collection, overwrites) in &self.overwrites {
            overwrites.iter().for_each(|overwrite| add(*collection, self.place(*collection, &overwrite.key)));
        }
        for (collection, within) in &self.unconfirmed {
            within.iter().for_each(|range| add(*collection, *range));
        }
        all.values_mut().for_each(|ranges| *ranges = cover(std::mem::take(ranges)));
        let (mut ranges, mut places) = (0.0, 0);
        for range in all.values().flatten() {
            match range.depth() < ELEMENT_DEPTH {
                true => ranges += share(*range),
                false => places += 1,
            }
        }
        let proven = self.proven_share(ranges, places);
        (Unproven::of(all), proven)
    }

    /// Ends with what is known: partial, if that is anything.
    pub(super) fn stop(&mut self, why: &str) {
        let (unproven, coverage) = self.unproven();
        let found = std::mem::take(&mut self.found);
        let known = coverage > 0 || self.counts.differences() > 0;
        let verdict = if known { Verdict::Partial } else { Verdict::Undetermined };
        self.outputs.extend(found.into_iter().map(Output::Found));
        self.outcome.unproven = unproven;
        self.finish_at(verdict, why.into(), coverage);
    }

    /// Where a key lies.
    pub(super) fn place(&self, collection: CollectionId, key: &[u8]) -> Range {
        let name = &self.definition.collections[usize::from(collection.0)].name;
        Range::of(self.keys.position(name, key), DEPTH_MAX)
    }

    /// What is known to differ, and has yet to be looked at.
    fn frontier(&self, visit: &mut dyn FnMut(CollectionId, Part<'_>)) {
        self.joint.unknown().for_each(|collection| visit(collection, Part::Range(Range::ALL)));
        let aside = self.scope.only().filter(|_| self.aside.due);
        aside.iter().for_each(|only| self.aside.ranges.iter().for_each(|range| visit(*only, Part::Range(*range))));
        for (collection, queue) in &self.open {
            queue.iter().for_each(|(range, _)| visit(*collection, Part::Range(*range)));
        }
        for request in self.requests.values() {
            match request.awaited {
                // Single keys, though of no known length.
                Awaited::Close(_) => visit(request.collection, places(&request.ranges)),
                _ => request.ranges.iter().for_each(|range| visit(request.collection, Part::Range(*range))),
            }
            let positions = request.positions.iter().map(|at| Range::of(Position(*at), DEPTH_MAX));
            visit(request.collection, Part::Places(Box::new(positions)));
        }
        self.close.iter().for_each(|(collection, ranges)| visit(*collection, places(ranges)));
        for (collection, queue) in &self.whole {
            queue.iter().flat_map(Parts::left).for_each(|range| visit(*collection, Part::Range(range)));
        }
        for (collection, named) in &self.named {
            named.within.iter().for_each(|range| visit(*collection, Part::Range(*range)));
        }
        for (collection, (listed, parts)) in &self.list {
            visit(*collection, Part::Positions(listed));
            parts.iter().for_each(|range| visit(*collection, Part::Range(*range)));
        }
        let asked = self.asked.iter().map(|(purpose, at)| (purpose, at.as_slice()));
        for (purpose, at) in self.queries.iter().map(|(query, purpose)| (purpose, query.places())).chain(asked) {
            match purpose {
                Purpose::OpenViews(c, asks) => asks.iter().for_each(|ask| visit(*c, Part::Range(ask.range))),
                Purpose::CompareTheirs(c, views) => views.iter().for_each(|view| visit(*c, Part::Range(view.range))),
                Purpose::Pair(c, _) => visit(*c, places(at)),
                Purpose::MineOnly(c, range) => visit(*c, Part::Range(*range)),
                Purpose::Mine(c, elements) => {
                    visit(*c, Part::Places(Box::new(elements.iter().map(|element| element.range()))));
                }
                Purpose::Offer(c, some, _) => visit(*c, places(some)),
                Purpose::OfferWhole(c, parts) => parts.iter().for_each(|range| visit(*c, Part::Range(*range))),
                Purpose::Subtract(c, seen, _) => seen.iter().for_each(|seen| visit(*c, Part::Range(seen.range))),
                _ => {}
            }
        }
    }
}

fn places(ranges: &[Range]) -> Part<'_> {
    Part::Places(Box::new(ranges.iter().copied()))
}

/// The share of all positions of a collection.
pub(super) fn share(range: Range) -> f64 {
    16f64.powi(-i32::from(range.depth()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A few ranges, close enough to meet.
    fn ranges() -> impl Strategy<Value = Vec<Range>> {
        let one = (0u64..512, 0u8..=3).prop_map(|(bits, depth)| Range::of(Position(bits << 52), depth));
        proptest::collection::vec(one, 0..300)
    }

    proptest! {
        #[test]
        fn a_cover_holds_the_same_positions_in_the_fewest_ranges(ranges in ranges()) {
            let covered = cover(ranges.clone());
            for nth in 0..4096u64 {
                let at = Position(nth << 52 | 7);
                let holding = covered.iter().filter(|range| range.contains(at)).count();
                prop_assert_eq!(holding, usize::from(ranges.iter().any(|range| range.contains(at))));
            }
            // Fewest: no sixteen of them make one.
            for parent in covered.iter().filter_map(|range| range.parent()) {
                prop_assert!((0..16).any(|digit| !covered.contains(&parent.child(digit))));
            }
        }
    }

    #[test]
    fn the_widest_ranges_are_named_and_the_rest_is_counted() {
        let narrow = (0..100).map(|nth| Range::of(Position(nth << 40), 8));
        let wide = Range::ALL.child(15);
        let all = BTreeMap::from([(CollectionId(0), narrow.collect()), (CollectionId(1), vec![wide, wide.child(3)])]);
        let unproven = Unproven::of(all);
        assert_eq!((unproven.ranges[0], unproven.ranges.len()), ((CollectionId(1), wide), UNPROVEN_MAX));
        assert_eq!(unproven.more, 101 - UNPROVEN_MAX as u64);
        assert_eq!(unproven.sixteenths, 1 << 15 | 1);
    }
}
