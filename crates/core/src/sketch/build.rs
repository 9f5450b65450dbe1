//! The sketches of a range and of all ranges below it, from all elements at once.
//!
//! Each fall of an element is worked out once and laid once, in the deepest range that keeps so many cells; a range's
//! cells are then added to those of the range above it. So four levels cost little more than the highest alone.

use super::{Element, Falls, KEPT_DEPTH_MAX, Sketch};
use crate::range::{Position, Range};

/// Elements whose cells are worked out at once: about 100 bytes of memory each.
const LAID_AT_ONCE: usize = 4096;

/// Adds elements, sorted and all of `range`, each so many times, to the sketch `whole` of a range that holds it, and
/// tells `emit` of the cells that each range keeps which holds any of them: `range`, and those below it down to
/// [`KEPT_DEPTH_MAX`]. `keeps` says how many cells those are by depth and elements; no more for a range than for one
/// that holds it.
///
/// Parts of a collection can be built side by side, each with a `whole` of its own, and those joined: cells are sums.
pub fn build(
    range: Range,
    elements: &[(Element, i64)],
    whole: &mut Sketch,
    keeps: &impl Fn(u8, u64) -> usize,
    emit: &mut impl FnMut(Range, u64, Sketch),
) {
    let mut levels = vec![std::mem::take(whole)];
    Building { keeps, emit }.range(range, elements, &mut levels);
    *whole = levels.pop().unwrap_or_default();
}

struct Building<'a, K, E> {
    keeps: &'a K,
    emit: &'a mut E,
}

impl<K: Fn(u8, u64) -> usize, E: FnMut(Range, u64, Sketch)> Building<'_, K, E> {
    fn range(&mut self, range: Range, elements: &[(Element, i64)], levels: &mut Vec<Sketch>) {
        let sum: i64 = elements.iter().fold(0, |sum, (_, count)| sum.wrapping_add(*count));
        let count = u64::try_from(sum).unwrap_or(0);
        // What is not laid in a range reaches none above it; that which was handed in may be shorter than all.
        let most = if levels.len() > 1 { levels.last().map_or(0, |above| above.0.len()) } else { usize::MAX };
        let cells = (self.keeps)(range.depth(), count).min(most);
        levels.push(Sketch::new(cells));
        if range.depth() >= KEPT_DEPTH_MAX || (self.keeps)(range.depth() + 1, count) == 0 {
            let longest = levels.iter().map(|level| level.0.len()).max().unwrap_or(0);
            for some in elements.chunks(LAID_AT_ONCE) {
                Falls::new(some, longest).lay_deepest(levels);
            }
        } else {
            let child = |element: &Element| range.digit(Position(element.0));
            for part in elements.chunk_by(|(a, _), (b, _)| child(a) == child(b)) {
                self.range(range.child(child(&part[0].0)), part, levels);
            }
        }
        let Some(built) = levels.pop() else { return };
        if let Some(above) = levels.last_mut() {
            above.join_first(&built);
        }
        if cells > 0 {
            (self.emit)(range, count, built);
        }
    }
}

impl Sketch {
    /// Adds the first cells of another set that has none in common; cells beyond them stay as they are.
    fn join_first(&mut self, other: &Sketch) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.count = mine.count.wrapping_add(theirs.count);
            mine.sum ^= theirs.sum;
            mine.check ^= theirs.check;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::{cells_kept, scramble};
    use super::*;

    /// Each range by itself, its elements laid one by one.
    fn one_by_one(elements: &[(Element, i64)], keeps: &impl Fn(u8, u64) -> usize) -> BTreeMap<Range, (u64, Sketch)> {
        let mut ranges: BTreeMap<Range, Vec<(Element, i64)>> = BTreeMap::new();
        for (element, count) in elements {
            for depth in 0..=KEPT_DEPTH_MAX {
                ranges.entry(Range::of(Position(element.0), depth)).or_default().push((*element, *count));
            }
        }
        let sketches = ranges.into_iter().map(|(range, elements)| {
            let count = u64::try_from(elements.iter().map(|(_, count)| count).sum::<i64>()).unwrap_or(0);
            let mut sketch = Sketch::new(keeps(range.depth(), count));
            elements.iter().for_each(|(element, count)| sketch.lay(*element, *count));
            (range, (count, sketch))
        });
        sketches.filter(|(_, (_, sketch))| !sketch.cells().is_empty()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        #[test]
        fn what_is_built_at_once_is_what_is_laid_one_by_one(
            seed: u64, n in 0u64..12_000, crowded in 0u32..13, small: bool, gone in 0usize..20,
        ) {
            // Crowded into one range of some depth, so that deep ranges keep cells too.
            let drawn = (0..n).map(|i| scramble(seed ^ i) >> crowded | if crowded == 0 { 0 } else { seed << (64 - crowded) });
            let mut elements: Vec<(Element, i64)> = drawn.map(|bits| (Element(bits), 1)).collect();
            // Some that are taken away again.
            elements.extend(elements.iter().take(gone).map(|(element, _)| (*element, -1)).collect::<Vec<_>>());
            elements.sort_unstable();
            let fewer = |depth: u8, count: u64| if small { cells_kept(depth, 16 * count).min(1 << (8 - depth)) } else { cells_kept(depth, count) };
            let expected = one_by_one(&elements, &fewer);
            let mut whole = Sketch::new(cells_kept(0, u64::MAX));
            let mut built = BTreeMap::new();
            build(Range::ALL, &elements, &mut whole, &fewer, &mut |range, count, sketch| {
                built.insert(range, (count, sketch));
            });
            prop_assert_eq!(&built, &expected);
            // By parts, side by side.
            let (mut joined, mut by_parts) = (Sketch::new(whole.cells().len()), BTreeMap::new());
            for part in elements.chunk_by(|(a, _), (b, _)| a.0 >> 60 == b.0 >> 60) {
                let mut mine = Sketch::new(whole.cells().len());
                let range = Range::of(Position(part[0].0.0), 1);
                build(range, part, &mut mine, &fewer, &mut |range, count, sketch| {
                    by_parts.insert(range, (count, sketch));
                });
                joined.join(&mine);
            }
            prop_assert_eq!(&joined, &whole);
            built.remove(&Range::ALL);
            prop_assert_eq!(by_parts, built);
            let mut short = Sketch::new(5);
            build(Range::ALL, &elements, &mut short, &fewer, &mut |_, _, _| {});
            prop_assert_eq!(short.cells(), &whole.cells()[..5]);
            let mut alone = Sketch::new(whole.cells().len());
            elements.iter().for_each(|(element, count)| alone.lay(*element, *count));
            prop_assert_eq!(alone, whole);
        }
    }
}
