//! What to do about two roots that differ: name what a short sketch gave away, send cells for as many differences as it
//! seems there are, or compare ranges.
//!
//! A choice of one side alone, never agreed upon: whatever it is, digests decide, and peers that choose otherwise still
//! end equal. What is done with a plan is left to the sessions.

use serde::{Deserialize, Serialize};

use crate::range::Range;
use crate::sketch::{KEPT_DEPTH_MAX, Peeled, cells_for, cells_kept};

/// How a side plans. The defaults are what the figures in `docs/performance.md` were measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planner {
    /// Cells that an opener shows with its opening, at most 64: 28 give away up to ten differences nearly always. Without
    /// any, ranges are compared.
    pub opening: u8,
    /// Cells sent beyond what the estimate asks for, in per cent of it; a quarter of that for less than 400 elements,
    /// which are a few kilobytes in all. The estimate is off by an eighth one time in three; a stream that is too short
    /// costs a round trip, one that is too long only its bytes.
    pub margin: u8,
    /// Times that more cells are asked for before the range is compared instead.
    pub more: u8,
}

/// Cells that an opening may show, whoever planned it: they fit one datagram.
pub(super) const OPENING_MAX: usize = 64;
/// Elements that must be peeled before how far it got tells more than the counts.
const REACH_TELLS: usize = 12;
/// Elements from which on the whole margin is sent.
const MANY: u64 = 400;
/// Elements that are thought to lie beside what is lost, if an estimate of all does not tell that there are more.
const BESIDE_LOST: u64 = 128;
/// Of these further cells an opening tells a byte of the count. So far down, it tells some hundred thousand differences.
pub(super) const FURTHER: std::ops::Range<usize> = 96..192;

/// What an opening tells beside its cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// How many of the root's parts differ, if both have parts.
    pub(super) parts: Option<u32>,
    /// What is left of 256 of the difference of the counts of [`FURTHER`]; nothing if one side does not keep those.
    pub(super) further: Vec<u8>,
    /// About how many entries the peer has in ranges that are lost here and set aside.
    pub(super) lost: u64,
    /// Cells that both sides have of the root without what is set aside; nothing if that is nothing.
    pub(super) most: Option<usize>,
}

impl Default for Planner {
    fn default() -> Self {
        Planner { opening: 28, margin: 8, more: 2 }
    }
}

/// A plan for one collection, with what led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Every difference is known already.
    Named,
    /// The first cells of all ranges at this depth.
    Cells {
        /// The depth of the ranges.
        depth: u8,
        /// Cells of each.
        cells: usize,
        /// About how many entries differ, counted on both sides.
        elements: u64,
    },
    /// Ranges are compared.
    Compare(Why),
}

/// Why ranges are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// One side has nothing.
    OneSideEmpty,
    /// There is no sketch: the set is small, the peer sent none, or the store keeps none.
    NoSketch,
    /// The differences lie in few parts of the root: so many of sixteen.
    Clustered(u32),
    /// So many entries differ that naming them one by one is dearer.
    Many(u64),
    /// One side has lost the range: it is set aside, the rest is planned without it.
    Lost(Range),
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Plan::Named => write!(f, "the opening gave every difference away"),
            Plan::Cells { depth, cells, elements } => {
                let ranges = 1u64 << (4 * u32::from(*depth));
                write!(f, "{cells} cells of each of {ranges} ranges, for about {elements} entries that differ")
            }
            Plan::Compare(Why::OneSideEmpty) => write!(f, "compare ranges: one side has nothing"),
            Plan::Compare(Why::NoSketch) => write!(f, "compare ranges: there is no sketch"),
            Plan::Compare(Why::Clustered(parts)) => {
                write!(f, "compare ranges: all differences lie in {parts} of 16 parts")
            }
            Plan::Compare(Why::Many(elements)) => write!(f, "compare ranges: about {elements} entries differ"),
            Plan::Compare(Why::Lost(range)) => write!(f, "compare range {range} for itself: one side has lost it"),
        }
    }
}

impl Planner {
    /// What to do, from the number of entries on both sides, from what was peeled off the opening's cells, and from how
    /// many of the root's parts differ, if that is known.
    pub(super) fn plan(&self, counts: (u64, u64), opening: Option<&Peeled>, hints: &Hints) -> Plan {
        let (mine, theirs) = counts;
        if mine == 0 || theirs == 0 {
            return Plan::Compare(Why::OneSideEmpty);
        }
        let Some(peeled) = opening.filter(|peeled| !peeled.rest.cells().is_empty()) else {
            return Plan::Compare(Why::NoSketch);
        };
        if peeled.is_complete() {
            return Plan::Named;
        }
        let elements = about(peeled, counts, &hints.further);
        // Scattered differences leave a part untouched with the probability (15/16)^n: at 64 that is one in sixty.
        if let Some(parts) = hints.parts.filter(|parts| *parts <= 8 && elements >= 64) {
            return Plan::Compare(Why::Clustered(parts));
        }
        // An estimate is off by an eighth: of what is left of it without what is lost, only so much is sure.
        let beside = || elements.saturating_sub(hints.lost + elements / 8).max(BESIDE_LOST);
        let elements = if hints.lost > 0 { elements.min(beside()) } else { elements };
        // To tell of every record costs some nine bytes each, to name an entry that differs some eighteen.
        if elements > (mine + theirs) / 4 {
            return Plan::Compare(Why::Many(elements));
        }
        match self.level(Range::ALL, 0, elements, mine.min(theirs), hints.most) {
            Some((depth, cells)) => Plan::Cells { depth, cells, elements },
            None => Plan::Compare(Why::Many(elements)),
        }
    }

    /// The first level, from so many below a range on, whose cells suffice for so many elements in the range, and how
    /// many of each; none if none keeps enough.
    fn level(&self, range: Range, from: u8, elements: u64, count: u64, most: Option<usize>) -> Option<(u8, usize)> {
        let levels = || from..=KEPT_DEPTH_MAX.saturating_sub(range.depth());
        let most = |below: u8| most.filter(|_| below == 0).unwrap_or(usize::MAX);
        let kept = |below: u8| cells_kept(range.depth() + below, count >> (4 * u32::from(below))).min(most(below));
        // A level that would not do if the estimate is a quarter too low is passed over for the next.
        let fits = |below: &u8| cells_at(*below, elements * 5 / 4) <= kept(*below);
        // And if there is none, an estimate that is a third too high must not keep a level from being used, where
        // comparing would be much dearer than cells that came in vain.
        let may_do = |below: &u8| elements <= count / 4 && cells_at(*below, elements * 3 / 4) <= kept(*below);
        let below = levels().find(fits).or_else(|| levels().find(may_do))?;
        Some((below, cells_at(below, self.with_margin(elements)).min(kept(below))))
    }

    fn with_margin(&self, elements: u64) -> u64 {
        let share = if elements < MANY { 400 } else { 100 };
        elements.saturating_add(elements.saturating_mul(self.margin.into()).div_ceil(share))
    }

    /// What else may give a range away that so many cells did not: more cells of it, or cells of its parts, so many
    /// levels below; none if another look is not worth it. `counted` says whether the counts of its cells tell anything,
    /// `most` how many cells there are at most.
    pub(super) fn more(
        &self,
        range: Range,
        counts: (u64, u64),
        peeled: &Peeled,
        counted: bool,
        times: u8,
        most: Option<usize>,
    ) -> Option<(u8, usize)> {
        let had = peeled.rest.cells().len();
        let elements = match peeled.reach() {
            Some(reach) if !counted => reach,
            _ => about(peeled, counts, &[]),
        };
        if times >= self.more || had == 0 || elements > (counts.0 + counts.1) / 4 {
            return None;
        }
        let count = counts.0.min(counts.1);
        let wanted = cells_at(0, self.with_margin(elements)).max(had + had / 8 + 8);
        if wanted <= cells_kept(range.depth(), count).min(most.unwrap_or(usize::MAX)) {
            Some((0, wanted))
        } else {
            self.level(range, 1, elements, count, None)
        }
    }
}

/// How many cells of each range at a depth give away so many elements in all.
fn cells_at(depth: u8, elements: u64) -> usize {
    let each = elements as f64 / 16f64.powi(i32::from(depth));
    // Ranges hold as many as chance gives them.
    let most = if depth == 0 { each } else { each + 2.0 * each.sqrt() };
    cells_for(most.ceil() as u64)
}

/// About how many elements a sketch of differences held, from what was peeled off and what is left.
fn about(peeled: &Peeled, (mine, theirs): (u64, u64), further: &[u8]) -> u64 {
    let found = (peeled.mine.len() as i64, peeled.theirs.len() as i64);
    let surplus = (mine as i64).wrapping_sub(theirs as i64);
    if let Some(reach) = peeled.reach().filter(|_| peeled.found() >= REACH_TELLS) {
        return reach;
    }
    // Further cells still count what was peeled.
    if peeled.mine.is_empty() && peeled.theirs.is_empty() {
        return peeled.rest.estimate_with(surplus, FURTHER.start, further);
    }
    let left = peeled.rest.estimate(surplus.wrapping_sub(found.0 - found.1));
    (found.0 + found.1) as u64 + left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sketch::{Element, Sketch};

    fn opening(elements: u64) -> Peeled {
        let mut sketch = Sketch::new(32);
        let spread = |n: u64| Element(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (0..elements).for_each(|n| sketch.lay(spread(n + 1), if n % 2 == 0 { 1 } else { -1 }));
        sketch.peel()
    }

    fn plan(n: u64, elements: u64, parts: u32) -> Plan {
        Planner::default().plan((n, n), Some(&opening(elements)), &Hints { parts: Some(parts), ..Hints::default() })
    }

    #[test]
    fn a_plan_follows_from_how_much_differs_and_where() {
        let million = 1_000_000;
        assert_eq!(plan(million, 8, 5), Plan::Named);
        assert_eq!(plan(million, 4000, 1), Plan::Compare(Why::Clustered(1)));
        assert!(matches!(plan(million, 1000, 16), Plan::Cells { depth: 0, cells: 500..3000, .. }));
        assert!(matches!(plan(million, 40_000, 16), Plan::Cells { depth: 1, .. }));
        assert!(matches!(plan(million, 125_000, 16), Plan::Cells { depth: 2, cells: 400..=1024, .. }));
        assert!(matches!(plan(million, 1_900_000, 16), Plan::Compare(Why::Many(_))));
        let planner = Planner::default();
        assert_eq!(planner.plan((0, 9), None, &Hints::default()), Plan::Compare(Why::OneSideEmpty));
        assert_eq!(planner.plan((99, 98), None, &Hints::default()), Plan::Compare(Why::NoSketch));
    }
}
