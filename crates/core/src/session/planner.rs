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
    /// Cells that an opener shows with its opening, at most 64: 32 give away up to ten differences nearly always. Without
    /// any, ranges are compared.
    pub opening: u8,
    /// Cells sent beyond what the estimate asks for, in per cent of it. An estimate from 32 cells is off by a quarter
    /// one time in three; a stream that is too short costs a round trip, one that is too long only its bytes.
    pub margin: u8,
    /// Times that more cells are asked for before the range is compared instead.
    pub more: u8,
}

/// Cells that an opening may show, whoever planned it: they fit one datagram.
pub(super) const OPENING_MAX: usize = 64;

impl Default for Planner {
    fn default() -> Self {
        Planner { opening: 32, margin: 17, more: 2 }
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
        }
    }
}

impl Planner {
    /// What to do, from the number of entries on both sides, from what was peeled off the opening's cells, and from how
    /// many of the root's parts differ, if that is known.
    pub(super) fn plan(&self, mine: u64, theirs: u64, opening: Option<&Peeled>, parts: Option<u32>) -> Plan {
        if mine == 0 || theirs == 0 {
            return Plan::Compare(Why::OneSideEmpty);
        }
        let Some(peeled) = opening.filter(|peeled| !peeled.rest.cells().is_empty()) else {
            return Plan::Compare(Why::NoSketch);
        };
        if peeled.is_complete() {
            return Plan::Named;
        }
        let elements = about(peeled).max(mine.abs_diff(theirs));
        // Scattered differences leave a part untouched with the probability (15/16)^n: at 64 that is one in sixty.
        if let Some(parts) = parts.filter(|parts| *parts <= 8 && elements >= 64) {
            return Plan::Compare(Why::Clustered(parts));
        }
        // Comparing shows every entry of both sides, some twelve bytes each; a cell costs as much and 1.4 name an entry.
        if elements > (mine + theirs) / 3 {
            return Plan::Compare(Why::Many(elements));
        }
        let kept = |depth: u8| cells_kept(depth, mine.min(theirs) >> (4 * u32::from(depth)));
        let fits = |depth: &u8| self.cells_at(*depth, elements) <= kept(*depth);
        // An estimate that is a third too high must not keep a level from being used.
        let may_do = |depth: &u8| self.cells_at(*depth, elements * 3 / 4) <= kept(*depth);
        match (0..=KEPT_DEPTH_MAX).find(fits).or_else(|| (0..=KEPT_DEPTH_MAX).find(may_do)) {
            Some(depth) => Plan::Cells { depth, cells: self.cells_at(depth, elements).min(kept(depth)), elements },
            None => Plan::Compare(Why::Many(elements)),
        }
    }

    /// How many cells of each range at a depth, for so many elements in all.
    fn cells_at(&self, depth: u8, elements: u64) -> usize {
        let each = (elements as f64 * (1.0 + f64::from(self.margin) / 100.0)) / 16f64.powi(i32::from(depth));
        // Ranges hold as many as chance gives them.
        let most = if depth == 0 { each } else { each + 2.0 * each.sqrt() };
        cells_for(most.ceil() as u64)
    }

    /// How many cells in all may give a range away that so many did not; none if another look is not worth it.
    pub(super) fn more(&self, range: Range, count: u64, peeled: &Peeled, times: u8) -> Option<usize> {
        let had = peeled.rest.cells().len();
        let wanted = cells_for(about(peeled)).max(had + had / 8 + 8);
        let kept = cells_kept(range.depth(), count);
        (times < self.more && had > 0 && wanted <= kept).then_some(wanted)
    }
}

/// About how many elements a sketch of differences held, from what was peeled off and what is left.
fn about(peeled: &Peeled) -> u64 {
    (peeled.mine.len() + peeled.theirs.len()) as u64 + peeled.rest.estimate()
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
        Planner::default().plan(n, n, Some(&opening(elements)), Some(parts))
    }

    #[test]
    fn a_plan_follows_from_how_much_differs_and_where() {
        let million = 1_000_000;
        assert_eq!(plan(million, 8, 5), Plan::Named);
        assert_eq!(plan(million, 4000, 1), Plan::Compare(Why::Clustered(1)));
        assert!(matches!(plan(million, 1000, 16), Plan::Cells { depth: 0, cells: 1000..3000, .. }));
        assert!(matches!(plan(million, 40_000, 16), Plan::Cells { depth: 1, .. }));
        assert!(matches!(plan(million, 125_000, 16), Plan::Cells { depth: 2, cells: 500..=1024, .. }));
        assert!(matches!(plan(million, 1_900_000, 16), Plan::Compare(Why::Many(_))));
        let planner = Planner::default();
        assert_eq!(planner.plan(0, 9, None, None), Plan::Compare(Why::OneSideEmpty));
        assert_eq!(planner.plan(99, 98, None, None), Plan::Compare(Why::NoSketch));
    }
}
