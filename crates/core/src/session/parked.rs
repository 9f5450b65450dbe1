//! Ranges that a session leaves out, since a store could not answer for them before, and those that it tries again with care:
//! each alone, so that whatever still fails is told as narrowly as can be.
//!
//! Which ranges are parked, and when each is tried again, is the agenda's; whose store failed, and why, is the driver's to tell.

use std::collections::{BTreeMap, VecDeque};

use super::opener::{Opener, Purpose};
use super::request::{Awaited, Request};
use super::rounds::Phase;
use super::unproven::{Unproven, cover, share};
use super::{Options, Verdict};
use crate::bounds::ROUNDS_MAX;
use crate::canonical::{Reader, put_varint};
use crate::dataset::{CollectionId, Definition};
use crate::digest::Keys;
use crate::message::Refuse;
use crate::query::{Query, Selection};
use crate::range::{DEPTH_MAX, Position, Range, places};
use crate::session::descent::{Step, ask_for};
use crate::wire::{RangeView, WireItem, pack_ranges, unpack_ranges};

/// Ranges that are told of what a store could not answer for; if there are more, wider ones that hold them.
pub const STUCK_MAX: usize = 512;

/// What a session leaves out, and what it tries with care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parked {
    out: BTreeMap<CollectionId, Vec<Range>>,
    tried: BTreeMap<CollectionId, Vec<Range>>,
}

/// Where a store could not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// In which collection.
    pub collection: CollectionId,
    /// At most [`STUCK_MAX`] ranges, in order and disjoint, within which it failed.
    pub ranges: Vec<Range>,
}

impl Parked {
    /// Leaves out some ranges, and tries others with care; what is in both is left out.
    pub fn new(out: Vec<(CollectionId, Range)>, tried: Vec<(CollectionId, Range)>) -> Parked {
        let by_collection = |ranges: Vec<(CollectionId, Range)>| {
            let mut all: BTreeMap<CollectionId, Vec<Range>> = BTreeMap::new();
            ranges.into_iter().for_each(|(collection, range)| all.entry(collection).or_default().push(range));
            all.values_mut().for_each(|ranges| *ranges = cover(std::mem::take(ranges)));
            all
        };
        Parked { out: by_collection(out), tried: by_collection(tried) }
    }

    /// Whether all of a range is left out.
    fn leaves_out(&self, collection: CollectionId, range: Range) -> bool {
        around(of(&self.out, collection), range).is_some()
    }

    /// Whether some of a range is tried.
    fn tries(&self, collection: CollectionId, range: Range) -> bool {
        meets(of(&self.tried, collection), range)
    }

    /// Whether a range is not to be taken as a whole.
    fn divides(&self, collection: CollectionId, range: Range) -> bool {
        self.tries(collection, range) || meets(of(&self.out, collection), range)
    }

    /// What is left of a range without what is left out, in pieces: the sixteen parts of each range that is tried are some.
    fn pieces(&self, collection: CollectionId, range: Range) -> Vec<Range> {
        let (out, tried) = (of(&self.out, collection), of(&self.tried, collection));
        let mut pieces = Vec::new();
        let mut open = vec![range];
        while let Some(range) = open.pop() {
            let whole = match around(tried, range) {
                // A part of what is tried is a piece.
                Some(tried) => tried != range || range.depth() == DEPTH_MAX,
                None => !meets(tried, range),
            };
            if around(out, range).is_some() {
                continue;
            } else if whole && !meets(out, range) {
                pieces.push(range);
            } else {
                open.extend((0..16).rev().map(|digit| range.child(digit)));
            }
        }
        pieces
    }
}

/// The ranges of a collection.
fn of(all: &BTreeMap<CollectionId, Vec<Range>>, collection: CollectionId) -> &[Range] {
    all.get(&collection).map_or(&[], Vec::as_slice)
}

/// The one of some disjoint ranges, in order, that covers this one.
fn around(ranges: &[Range], range: Range) -> Option<Range> {
    let after = ranges.partition_point(|one| one.first() <= range.first());
    ranges[..after].last().copied().filter(|one| one.covers(range))
}

/// Whether one of them has positions in common with this one.
fn meets(ranges: &[Range], range: Range) -> bool {
    let from = ranges.partition_point(|one| one.last() < range.first());
    ranges.get(from).is_some_and(|one| one.first() <= range.last())
}

impl Stuck {
    /// Where it was, in few ranges.
    pub fn new(collection: CollectionId, ranges: Vec<Range>) -> Stuck {
        let mut ranges = cover(ranges);
        while ranges.len() > STUCK_MAX {
            let deepest = ranges.iter().map(|range| range.depth()).max().unwrap_or_default();
            let wider = |range: Range| range.parent().filter(|_| range.depth() == deepest).unwrap_or(range);
            ranges = cover(ranges.into_iter().map(wider).collect());
        }
        Stuck { collection, ranges }
    }

    /// Where a question is about some ranges of a collection, and a store could not answer it.
    pub fn asking(query: &Query, definition: &Definition, keys: &Keys) -> Option<Stuck> {
        let place = |collection: CollectionId, key: &[u8]| {
            let name = &definition.collections.get(usize::from(collection.0))?.name;
            Some(Range::of(keys.position(name, key), DEPTH_MAX))
        };
        let (collection, ranges) = match query {
            Query::Views(collection, asks) => (*collection, asks.iter().map(|ask| ask.range).collect()),
            Query::Items(collection, ranges) => (*collection, ranges.clone()),
            // It is read beside what is left out of it.
            Query::Rests(collection, wholes) => {
                (*collection, wholes.iter().flat_map(|(_, parts)| parts.clone()).collect())
            }
            Query::List(collection, range, _) => (*collection, vec![*range]),
            Query::Apply(collection, batch) => {
                (*collection, batch.iter().filter_map(|one| place(*collection, &one.record.key)).collect())
            }
            Query::Overwrite(collection, batch) => {
                (*collection, batch.iter().filter_map(|one| place(*collection, &one.key)).collect())
            }
            _ => return None,
        };
        Some(Stuck::new(collection, ranges))
    }

    /// Where records were selected that could not be read, from a position on.
    pub fn reading(collection: CollectionId, selection: &Selection, from: Position) -> Stuck {
        let at = |positions: Vec<Position>| places(&positions);
        let ranges = match selection {
            Selection::Range(range) => vec![*range],
            Selection::Entries(entries) | Selection::Bare(entries) => at(entries.iter().map(|(at, _)| *at).collect()),
            Selection::Versions { of, .. } => at(of.iter().map(|(at, _)| *at).collect()),
            Selection::Elements(_, elements) => elements.iter().map(|element| element.range()).collect(),
        };
        Stuck::new(collection, ranges.into_iter().filter(|range: &Range| range.last() >= from).collect())
    }

    /// As it travels with a refusal.
    pub fn pack(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, u64::from(self.collection.0));
        out.extend(pack_ranges(&self.ranges));
        out
    }

    /// Reads what [`Stuck::pack`] has written; nothing if there is nothing, or it is not understood.
    fn unpack(bytes: &[u8]) -> Option<Stuck> {
        let mut reader = Reader::new(bytes);
        let collection = CollectionId(u16::try_from(reader.varint("collection", u64::from(u16::MAX)).ok()?).ok()?);
        let ranges = unpack_ranges(reader.rest()).ok()?;
        Some(Stuck::new(collection, ranges))
    }
}

impl Options {
    /// How many of these ranges are looked at together: one that is tried comes alone.
    pub(super) fn together(&self, collection: CollectionId, queue: &VecDeque<(Range, u64)>, most: usize) -> usize {
        let Some(parked) = &self.parked else { return queue.len().min(most) };
        let plain = queue.iter().take(most).take_while(|(range, _)| !parked.tries(collection, *range));
        plain.count().max(1)
    }

    fn leaves_out(&self, collection: CollectionId, at: Position) -> bool {
        self.parked.as_ref().is_some_and(|parked| parked.leaves_out(collection, Range::of(at, DEPTH_MAX)))
    }

    fn tries(&self, collection: CollectionId, range: Range) -> bool {
        self.parked.as_ref().is_some_and(|parked| parked.tries(collection, range))
    }
}

impl Opener {
    /// Looks at what the peer has shown, but for what is left out.
    pub(super) fn look_at_views(&mut self, collection: CollectionId, views: Vec<RangeView>) {
        let out = |view: &RangeView| self.options.parked.as_ref().is_some_and(|p| p.leaves_out(collection, view.range));
        let views = views.into_iter().filter(|view| !out(view));
        let (tried, plain): (Vec<_>, Vec<_>) = views.partition(|view| self.options.tries(collection, view.range));
        for views in tried.into_iter().map(|view| vec![view]).chain((!plain.is_empty()).then_some(plain)) {
            let asks = views.iter().map(ask_for).collect();
            self.ask(Query::Views(collection, asks), Purpose::CompareTheirs(collection, views));
        }
    }

    /// Asks for what is tried position by position, as far as requests may wait; the rest is gathered again. Gives all others.
    pub(super) fn list_tried(&mut self, collection: CollectionId, positions: Vec<Position>) -> Vec<Position> {
        let tries = |at: &Position| self.options.tries(collection, Range::of(*at, DEPTH_MAX));
        let (tried, plain): (Vec<_>, Vec<_>) = positions.into_iter().partition(tries);
        for at in tried {
            if self.requests.len() < self.requests_max() {
                self.send_list(collection, &[], vec![at.0], Awaited::List);
            } else {
                self.list.entry(collection).or_default().0.push(at);
            }
        }
        plain
    }

    /// Looks up what this side has at these positions, to be paired with what the peer has told of them.
    pub(super) fn look_at_items(
        &mut self,
        collection: CollectionId,
        mut positions: Vec<Position>,
        mut items: Vec<WireItem>,
    ) {
        positions.sort_unstable();
        positions.dedup();
        if self.options.parked.is_some() {
            positions.retain(|at| !self.options.leaves_out(collection, *at));
            items.retain(|item| !self.options.leaves_out(collection, item.item.position));
        }
        let tried = |at: &Position| self.options.tries(collection, Range::of(*at, DEPTH_MAX));
        let (alone, together): (Vec<Position>, Vec<Position>) = positions.into_iter().partition(tried);
        let rechecking = matches!(self.phase, Phase::Rechecking(_));
        for positions in alone.into_iter().map(|at| vec![at]).chain((!together.is_empty()).then_some(together)) {
            let (here, others) = match positions.len() {
                1 => items.into_iter().partition(|item| item.item.position == positions[0]),
                _ => (items, Vec::new()),
            };
            items = others;
            let purpose = if rechecking { Purpose::Recheck(collection, here) } else { Purpose::Pair(collection, here) };
            self.ask(Query::Items(collection, places(&positions)), purpose);
        }
    }

    /// What is to be done of a step beside what is left out; what is tried is listed, piece by piece.
    pub(super) fn step_beside_parked(&mut self, collection: CollectionId, step: Step) -> Option<Step> {
        let Some(parked) = self.options.parked.clone() else { return Some(step) };
        let stays = |at: &Position| !parked.leaves_out(collection, Range::of(*at, DEPTH_MAX));
        match step {
            Step::Open(range, _) if parked.leaves_out(collection, range) => None,
            Step::OnlyMine(range, _) if parked.divides(collection, range) => {
                for piece in parked.pieces(collection, range) {
                    self.ask(Query::List(collection, piece, None), Purpose::MineOnly(collection, piece));
                }
                None
            }
            Step::OnlyTheirs(range) if parked.divides(collection, range) => {
                let pieces = parked.pieces(collection, range);
                self.list.entry(collection).or_default().1.extend(pieces);
                None
            }
            Step::Leaf { mine, theirs, both } => {
                let (theirs, both) =
                    (theirs.into_iter().filter(stays).collect(), both.into_iter().filter(stays).collect());
                let mine = mine.into_iter().filter(stays);
                let (alone, mine): (Vec<_>, Vec<_>) =
                    mine.partition(|at| parked.tries(collection, Range::of(*at, DEPTH_MAX)));
                for at in alone {
                    self.ask(Query::Items(collection, places(&[at])), Purpose::Pair(collection, Vec::new()));
                }
                Some(Step::Leaf { mine, theirs, both })
            }
            step => Some(step),
        }
    }

    /// Whether roots are not to agree, since something is left out.
    fn leaves_out(&self) -> bool {
        self.options.parked.as_ref().is_some_and(|parked| self.scope.iter().any(|c| !of(&parked.out, c).is_empty()))
    }

    /// Where the responder's store could not answer, as far as it tells; of a comparison, the ranges that were to be compared.
    pub(super) fn stuck_there(&self, refuse: &Refuse) -> Option<Stuck> {
        let Stuck { collection, ranges } = Stuck::unpack(&refuse.definition.0)?;
        let compares =
            |request: &&Request| request.collection == collection && matches!(request.awaited, Awaited::Compare);
        let asked: Vec<Range> =
            self.requests.values().filter(compares).flat_map(|request| request.ranges.clone()).collect();
        let widest =
            |range: Range| asked.iter().copied().filter(|asked| asked.covers(range)).max_by_key(|asked| asked.depth());
        let stuck = Stuck::new(collection, ranges.into_iter().map(|range| widest(range).unwrap_or(range)).collect());
        (!stuck.ranges.is_empty() && self.scope.contains(collection)).then_some(stuck)
    }

    /// Names what was left out, where that is told by no roots.
    pub(super) fn note_left_out(&mut self) {
        let Some(parked) = self.options.parked.clone() else { return };
        let out = self.scope.iter().map(|collection| (collection, of(&parked.out, collection).to_vec()));
        self.outcome.unproven = Unproven::of(out.collect());
        self.outcome.left_out = self.outcome.unproven.ranges.len() as u64 + self.outcome.unproven.more;
    }

    /// Ends where all but what is left out was settled, if so; says whether it has.
    pub(super) fn ends_but_for_parked(&mut self, moved: bool) -> bool {
        if !self.leaves_out() || moved && self.counts.rounds < ROUNDS_MAX {
            return false;
        }
        self.note_left_out();
        let left = self.outcome.left_out;
        let reason = format!("{left} parked range{} left out", if left == 1 { " was" } else { "s were" });
        let out = self.options.parked.iter().flat_map(|parked| parked.out.values().flatten());
        let shares: f64 = out.map(|range| share(*range)).sum();
        let proven = (1.0 - shares / self.scope.len().max(1) as f64).clamp(0.0, 0.999_999);
        self.finish_at(Verdict::Partial, reason, (proven * 1e6) as u32);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges() -> impl Strategy<Value = Vec<Range>> {
        let one = (0u64..4096, 0u8..=3).prop_map(|(bits, depth)| Range::of(Position(bits << 52), depth));
        proptest::collection::vec(one, 0..12)
    }

    proptest! {
        #[test]
        fn pieces_hold_all_of_a_range_but_what_is_left_out(out in ranges(), tried in ranges(), range in ranges()) {
            let here = |ranges: &[Range]| ranges.iter().map(|range| (CollectionId(0), *range)).collect::<Vec<_>>();
            let parked = Parked::new(here(&out), here(&tried));
            for range in range {
                let pieces = parked.pieces(CollectionId(0), range);
                for nth in 0..4096u64 {
                    let at = Position(nth << 52 | 7);
                    let holding = pieces.iter().filter(|piece| piece.contains(at)).count();
                    let wanted = range.contains(at) && !out.iter().any(|out| out.contains(at));
                    prop_assert_eq!(holding, usize::from(wanted));
                }
                for piece in pieces {
                    prop_assert!(range.covers(piece) && !parked.leaves_out(CollectionId(0), piece));
                    let whole = of(&parked.tried, CollectionId(0)).iter().any(|tried| piece.covers(*tried));
                    prop_assert!(!whole, "a range that is tried is taken apart");
                }
            }
        }

        #[test]
        fn what_is_stuck_travels_in_few_ranges_that_hold_all_of_it(positions in proptest::collection::vec(any::<u64>(), 0..2000)) {
            let ranges = places(&positions.iter().map(|at| Position(*at)).collect::<Vec<_>>());
            let stuck = Stuck::new(CollectionId(3), ranges.clone());
            prop_assert!(stuck.ranges.len() <= STUCK_MAX);
            prop_assert!(ranges.iter().all(|range| around(&stuck.ranges, *range).is_some()));
            prop_assert_eq!(Stuck::unpack(&stuck.pack()), Some(stuck));
        }
    }

    #[test]
    fn a_refusal_that_names_no_ranges_names_none() {
        assert_eq!(Stuck::unpack(&[]), None);
        assert_eq!(Stuck::unpack(&[0, 0xff, 1]), None);
    }
}
