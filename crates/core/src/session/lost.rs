//! Lost ranges: empty on one side, where the ranges beside them make one expect many entries, as after damage.
//!
//! Positions are spread evenly, so that a side sees for itself what it has lost. Such ranges are set aside: compared for
//! themselves, while cells speak of what lies beside them, since what a side has in them is taken out of its sketches, which
//! are sums. When they are compared, and how, is left to the sessions; digests decide whatever was set aside.

use super::Output;
use super::opener::Opener;
use super::planner::{Plan, Why};
use super::request::Awaited;
use crate::canonical::{Reader, put_varint};
use crate::dataset::CollectionId;
use crate::query::{Ask, Shape, View};
use crate::range::Range;
use crate::sketch::{KEPT_DEPTH_MAX, Sketch, cells_kept};
use crate::wire::{Body, RangeView, put_range, take_range};

/// Entries of a collection from which on lost ranges are looked for: of fewer, a 256th is named for some two kilobytes.
pub(super) const LOST_FROM: u64 = 1 << 15;
/// Ranges that a side tells at most.
const LOST_MAX: usize = 8;
/// Entries that a lost range would hold at least: so many that the other side keeps cells of it.
const EXPECTED_MIN: u64 = 512;
/// Ranges that are looked into at once.
const LOOKED_MAX: usize = 4;

/// What one side has lost, with about how many entries each range would hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost(pub(super) Vec<(Range, u64)>);

impl Lost {
    /// Notes which of the sixteen parts of these ranges are lost; gives what else is to be looked into, as something
    /// below it may be.
    pub(super) fn look(&mut self, views: &[View]) -> Vec<Ask> {
        let mut next = Vec::new();
        for View { range, shape, .. } in views {
            let Shape::Inner(parts) = shape else { continue };
            let mut counts: Vec<u64> = parts.iter().map(|part| part.count).collect();
            counts.sort_unstable();
            let expected = counts.get(counts.len() / 2).copied().unwrap_or(0);
            if expected < EXPECTED_MIN || range.depth() >= KEPT_DEPTH_MAX || parts.len() != 16 {
                continue;
            }
            // Chance takes that many from one part in a thousand.
            let few = expected - 3 * expected.isqrt();
            let below = range.depth() + 1 < KEPT_DEPTH_MAX && expected / 16 >= EXPECTED_MIN;
            for (digit, part) in (0..).zip(parts) {
                let range = range.child(digit);
                if part.is_empty() {
                    self.0.push((range, expected));
                } else if below && part.count < few && next.len() < LOOKED_MAX {
                    next.push(Ask { range, levels: 1 });
                }
            }
        }
        self.0.truncate(LOST_MAX);
        next
    }

    /// Appends the ranges, behind the cells of an opening.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        self.0.iter().for_each(|(range, _)| put_range(out, *range, 0));
    }

    /// Entries that would be in all of them.
    pub(super) fn expected(&self) -> u64 {
        self.0.iter().map(|(_, expected)| expected).sum()
    }
}

/// What an opener told that it has lost; nothing if it told nothing, as those do that set nothing aside.
pub(super) fn take_lost(reader: &mut Reader<'_>) -> Option<Vec<Range>> {
    let n = reader.varint("lost ranges", LOST_MAX as u64).ok()?;
    let ranges: Option<Vec<Range>> = (0..n).map(|_| Some(take_range(reader).ok()?.0)).collect();
    ranges.filter(|ranges| may_be_aside(ranges))
}

/// Whether these are ranges that sketches can do without: few, disjoint, and none too deep.
fn may_be_aside(ranges: &[Range]) -> bool {
    let apart = |(i, range): (usize, &Range)| !ranges[..i].iter().any(|r| r.covers(*range) || range.covers(*r));
    let deep = |range: &Range| (1..=KEPT_DEPTH_MAX).contains(&range.depth());
    ranges.len() <= 2 * LOST_MAX && ranges.iter().all(deep) && ranges.iter().enumerate().all(apart)
}

/// What a store is asked for to sketch these ranges without what is aside: behind them the latter, as far as they hold it.
pub(super) fn with_aside(mut ranges: Vec<Range>, aside: &[Range]) -> Vec<Range> {
    let within = |part: &&Range| ranges.iter().any(|range| range.covers(**part));
    let parts: Vec<Range> = aside.iter().filter(within).copied().collect();
    ranges.extend(parts);
    ranges
}

/// The sketches of the first `n` of the ranges that were asked for, without what the others hold. Whoever has nothing there
/// has nothing to take out.
pub(super) fn without_aside(asked: &[Range], n: usize, mut sketches: Vec<Sketch>) -> Vec<Sketch> {
    let parts = sketches.split_off(n.min(sketches.len()));
    for (range, sketch) in asked.iter().zip(&mut sketches) {
        for (part, taken) in asked.iter().skip(n).zip(&parts) {
            if part.covers(*range) {
                sketch.truncate(0);
            } else if range.covers(*part) && !taken.cells().is_empty() {
                sketch.subtract(taken);
            }
        }
    }
    sketches
}

/// The greatest parts of a range that lie beside what is aside.
pub(super) fn beside(range: Range, aside: &[Range]) -> Vec<Range> {
    if aside.iter().any(|part| part.covers(range)) {
        return Vec::new();
    }
    if !aside.iter().any(|part| range.covers(*part)) {
        return vec![range];
    }
    (0..16).flat_map(|digit| beside(range.child(digit), aside)).collect()
}

/// How many cells both sides have of a range without parts of it that hold about so many entries on one.
pub(super) fn cells_without(parts: impl Iterator<Item = (Range, u64)>) -> Option<usize> {
    parts.map(|(part, count)| cells_kept(part.depth(), count)).min()
}

/// What an opener knows of ranges that are aside.
#[derive(Default)]
pub(super) struct Aside {
    pub(super) lost: Lost,
    /// Whether the peer was told what is lost here.
    pub(super) told: bool,
    pub(super) ranges: Vec<Range>,
    /// What the peer said of them.
    views: Vec<RangeView>,
    /// Whether they are yet to be compared.
    pub(super) due: bool,
}

impl Aside {
    /// Entries that the peer said to have in a range.
    pub(super) fn told_of(&self, range: Range) -> u64 {
        let told = |view: &RangeView| match view.body {
            Body::All(count) if view.range == range => Some(count),
            _ => None,
        };
        self.views.iter().find_map(told).unwrap_or(0)
    }
}

impl Opener {
    /// Looks at the own ranges before the opening; gives what else is to be looked at.
    pub(super) fn look_for_lost(&mut self, views: &[View]) -> Vec<Ask> {
        let many = self.outcome.root_mine.count >= LOST_FROM;
        if many { self.aside.lost.look(views) } else { Vec::new() }
    }

    /// Takes what the peer says of ranges before it shows anything else, if those are such as can be set aside.
    pub(super) fn set_aside(&mut self, views: &[RangeView]) -> bool {
        let first = self.requests.get(&0).is_some_and(|request| matches!(request.awaited, Awaited::First));
        let lone = views.iter().all(|view| matches!(view.body, Body::None | Body::All(_)));
        let ranges: Vec<Range> = views.iter().map(|view| view.range).collect();
        if !first || !lone || !self.aside.told || !self.aside.ranges.is_empty() || !may_be_aside(&ranges) {
            return false;
        }
        ranges.iter().for_each(|range| self.planned(Plan::Compare(Why::Lost(*range))));
        self.aside = Aside { ranges, views: views.to_vec(), due: true, ..std::mem::take(&mut self.aside) };
        true
    }

    /// Leaves ranges to the cells of which we have too few entries to keep any, so that they cannot be taken out.
    pub(super) fn take_back(&mut self, asked: &[Range], own: &[Sketch]) {
        let few = |range: &Range| asked.iter().zip(own).any(|(r, sketch)| r == range && sketch.cells().is_empty());
        let gone = |view: &RangeView| matches!(view.body, Body::None) && few(&view.range);
        self.aside.views.retain(|view| !gone(view));
        self.aside.ranges = self.aside.views.iter().map(|view| view.range).collect();
    }

    /// Compares what is aside, once no more cells are awaited: records that move there meanwhile would blur them.
    pub(super) fn compare_aside(&mut self, collection: CollectionId) {
        let waits = |awaited: &Awaited| matches!(awaited, Awaited::First | Awaited::Cells(..));
        if self.aside.due && !self.requests.values().any(|request| waits(&request.awaited)) {
            self.aside.due = false;
            self.look_at_views(collection, self.aside.views.clone());
        }
    }
}

/// Tells what is set aside by a responder: what the opener lost, with how much there is here, and what is lost here.
pub(super) fn aside_views(theirs: &[(Range, u64)], mine: &[(Range, u64)]) -> Vec<RangeView> {
    let has = theirs.iter().map(|(range, count)| RangeView { range: *range, body: Body::All(*count) });
    has.chain(mine.iter().map(|(range, _)| RangeView { range: *range, body: Body::None })).collect()
}

/// The plans to log for ranges that are set aside.
pub(super) fn planned(views: &[RangeView]) -> impl Iterator<Item = Output> {
    views.iter().map(|view| Output::Planned(Plan::Compare(Why::Lost(view.range))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Summary;

    fn view(range: Range, counts: [u64; 16]) -> View {
        let part = |count| Summary { count, ..Summary::EMPTY };
        View { range, summary: part(counts.iter().sum()), shape: Shape::Inner(counts.map(part).to_vec()) }
    }

    #[test]
    fn what_is_lost_is_seen_by_what_lies_beside_it() {
        let (all, third) = (Range::ALL, Range::ALL.child(3));
        let mut counts = [62_500; 16];
        counts[5] += 700;
        let mut lost = Lost::default();
        assert_eq!((lost.look(&[view(all, counts)]), lost.0.len()), (Vec::new(), 0));
        counts[3] -= 3900;
        assert_eq!(lost.look(&[view(all, counts)]), [Ask { range: third, levels: 1 }]);
        let mut counts = [3900; 16];
        counts[9] = 0;
        assert_eq!(lost.look(&[view(third, counts)]), []);
        assert_eq!((lost.0.as_slice(), lost.expected()), (&[(third.child(9), 3900)][..], 3900));
        // Where nearly all is gone, or little was there, nothing tells what is lost.
        let mut counts = [0; 16];
        counts[4] = 4000;
        assert_eq!((lost.look(&[view(all, counts), view(all, [100; 16])]), lost.0.len()), (Vec::new(), 1));
        let mut bytes = Vec::new();
        lost.encode(&mut bytes);
        assert_eq!(take_lost(&mut Reader::new(&bytes)), Some(vec![third.child(9)]));
        assert_eq!(take_lost(&mut Reader::new(&[2, 2, 0x39, 1, 0x30])), None, "one within the other");
        assert_eq!(take_lost(&mut Reader::new(&[])), None);
    }

    #[test]
    fn what_lies_beside_is_all_the_rest() {
        let aside = [Range::ALL.child(3).child(9), Range::ALL.child(7)];
        let parts = beside(Range::ALL, &aside);
        assert_eq!(parts.len(), 14 + 15);
        assert!(parts.iter().all(|part| !aside.iter().any(|a| a.covers(*part) || part.covers(*a))));
        assert_eq!(beside(aside[1].child(0), &aside), []);
    }
}
