//! A linear sketch of a set of entries: the first cells of a rateless invertible Bloom lookup table.
//!
//! Subtracting the sketches of two sets leaves a sketch of what differs, from which the differing elements are peeled
//! one by one. The longer the prefix of cells, the more differences it holds: about 1.35 cells each when there are
//! many, 1.7 when there are few. A cell is a sum, so that a range's sketch is the sum of its parts'.
//! The construction is that of Yang, Gilad and Alizadeh, "Practical Rateless Set Reconciliation" (SIGCOMM 2024).
//!
//! A sketch only accelerates: what was peeled wrongly, by accident or malice, is caught by digests ([`crate::tree`]).
//! The bytes of elements and the cells that they fall in are format, pinned by golden vectors.

use crate::entry::Entry;
use crate::range::Position;

/// Bits of an element that tell the position; the rest tell the digest.
pub const POSITION_BITS: u32 = 40;

/// What a sketch knows of an entry: the first 40 bits of its position and the first 24 of its digest, so that the two
/// digests of one key are two elements that find each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element(pub u64);

impl Element {
    /// The element of an entry.
    pub fn of(entry: &Entry) -> Element {
        let digest_bits = u64::BITS - POSITION_BITS;
        Element(entry.position.0 >> digest_bits << digest_bits | entry.digest.short() >> POSITION_BITS)
    }

    /// The first position that it may stand for.
    pub fn first(self) -> Position {
        Position(self.0 & !self.below())
    }

    /// The last position that it may stand for.
    pub fn last(self) -> Position {
        Position(self.0 | self.below())
    }

    /// Whether it may stand for an entry.
    pub fn tells(self, entry: &Entry) -> bool {
        Element::of(entry) == self
    }

    fn below(self) -> u64 {
        u64::MAX >> POSITION_BITS
    }

    /// Tells a lone element from a sum of several.
    fn check(self) -> u32 {
        (scramble(self.0 ^ CHECK_SEED) >> 32) as u32
    }
}

/// One cell: sums over the elements that fall in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Elements added less elements subtracted.
    pub count: i64,
    /// The exclusive or of the elements.
    pub sum: u64,
    /// The exclusive or of their checks.
    pub check: u32,
}

impl Cell {
    fn lay(&mut self, element: Element, check: u32, count: i64) {
        self.count = self.count.wrapping_add(count);
        self.sum ^= element.0;
        self.check ^= check;
    }

    /// The one element that is left in the cell, and whether it was added or subtracted.
    fn lone(&self) -> Option<(Element, i64)> {
        let element = Element(self.sum);
        (matches!(self.count, 1 | -1) && element.check() == self.check).then_some((element, self.count))
    }

    fn is_empty(&self) -> bool {
        *self == Cell::default()
    }
}

/// A prefix of the endless row of cells of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch(Vec<Cell>);

/// What a sketch of differences gave away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peeled {
    /// Elements of the set that was subtracted from.
    pub mine: Vec<Element>,
    /// Elements of the set that was subtracted.
    pub theirs: Vec<Element>,
    /// Whether nothing is left over. If not, more cells may tell more; what is listed is right all the same, but for
    /// a wrong check in about one of 2^32.
    pub complete: bool,
}

impl Sketch {
    /// `cells` cells of the empty set.
    pub fn new(cells: usize) -> Sketch {
        Sketch(vec![Cell::default(); cells])
    }

    /// A sketch of these cells, as they were kept or came.
    pub fn from_cells(cells: Vec<Cell>) -> Sketch {
        Sketch(cells)
    }

    /// Its cells, the first first.
    pub fn cells(&self) -> &[Cell] {
        &self.0
    }

    /// Adds an element; one that is there already must not be added.
    ///
    /// Touches about `2 ln(cells)` cells.
    pub fn add(&mut self, element: Element) {
        self.lay(element, 1);
    }

    /// Removes an element that was added.
    pub fn remove(&mut self, element: Element) {
        self.lay(element, -1);
    }

    /// Adds all elements of another set that has none in common; both prefixes are cut to the shorter.
    pub fn join(&mut self, other: &Sketch) {
        self.combine(other, 1);
    }

    /// Subtracts another set: what is left tells how the two differ. Both prefixes are cut to the shorter.
    pub fn subtract(&mut self, other: &Sketch) {
        self.combine(other, -1);
    }

    fn combine(&mut self, other: &Sketch, sign: i64) {
        self.0.truncate(other.0.len());
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.count = mine.count.wrapping_add(sign.wrapping_mul(theirs.count));
            mine.sum ^= theirs.sum;
            mine.check ^= theirs.check;
        }
    }

    fn lay(&mut self, element: Element, count: i64) {
        let check = element.check();
        for place in Places::within(element, self.0.len()) {
            self.0[place].lay(element, check, count);
        }
    }

    /// Takes a sketch of differences apart.
    ///
    /// Ends whatever the cells hold: it takes no more elements than there are cells, which no honest sketch exceeds.
    pub fn peel(mut self) -> Peeled {
        let mut peeled = Peeled::default();
        let mut next: Vec<usize> = (0..self.0.len()).collect();
        let mut budget = self.0.len();
        while let Some(place) = next.pop() {
            let Some((element, count)) = self.0[place].lone() else { continue };
            if budget == 0 {
                return peeled;
            }
            budget -= 1;
            let check = element.check();
            for place in Places::within(element, self.0.len()) {
                self.0[place].lay(element, check, -count);
                next.push(place);
            }
            let list = if count > 0 { &mut peeled.mine } else { &mut peeled.theirs };
            list.push(element);
        }
        peeled.complete = self.0.iter().all(Cell::is_empty);
        peeled.mine.sort_unstable();
        peeled.theirs.sort_unstable();
        peeled
    }
}

const CHECK_SEED: u64 = 0x7265_6b6e_6974_2063;
const PLACE_SEED: u64 = 0x7265_6b6e_6974_2070;

/// The cells that an element falls in, in order: the first always, cell `i` with probability `1 / (1 + i / 2)`.
struct Places {
    seed: u64,
    next: u64,
}

impl Places {
    fn of(element: Element) -> Places {
        Places { seed: scramble(element.0 ^ PLACE_SEED), next: 0 }
    }

    /// Those among the first `cells`.
    fn within(element: Element, cells: usize) -> impl Iterator<Item = usize> {
        Places::of(element).take_while(move |place| *place < cells as u64).map(|place| place as usize)
    }
}

impl Iterator for Places {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let place = self.next;
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // Above 0 and at most 1, from the upper 53 bits. Root, quotient and product of doubles are exact by standard.
        let luck = ((scramble(self.seed) >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let skip = (place as f64 + 1.5) * (1.0 / luck.sqrt() - 1.0);
        self.next = place.saturating_add((skip.ceil() as u64).max(1));
        Some(place)
    }
}

/// A bijection of 64 bits that spreads every bit over all (the finalizer of splitmix64, Steele, Lea and Flood, 2014).
fn scramble(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;

    fn sketch(cells: usize, elements: impl IntoIterator<Item = u64>) -> Sketch {
        let mut sketch = Sketch::new(cells);
        elements.into_iter().for_each(|element| sketch.add(Element(scramble(element))));
        sketch
    }

    #[test]
    fn an_element_carries_the_key_and_tells_two_digests_of_it_apart() {
        let position = Position(0x0123_4567_89ab_cdef);
        let entry = |byte| Entry { position, digest: Digest([byte; 32]) };
        let (old, new) = (Element::of(&entry(1)), Element::of(&entry(2)));
        assert_eq!(old, Element(0x0123_4567_8901_0101));
        assert_ne!(old, new);
        assert_eq!((old.first(), old.last()), (new.first(), new.last()));
        assert!(old.first() <= position && position <= old.last());
        assert!(old.tells(&entry(1)) && !old.tells(&entry(2)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn what_differs_is_peeled_whatever_is_shared(
            shared in 0u64..3000, mine in 0u64..60, theirs in 0u64..60, seed: u32,
        ) {
            let base = u64::from(seed) << 20;
            let (a, b, c) = (base + shared, base + shared + mine, base + shared + mine + theirs);
            let cells = 24 + 3 * (mine + theirs) as usize;
            let mut ours = sketch(cells, base..b);
            let other = sketch(cells, (base..a).chain(b..c));
            ours.subtract(&other);
            let peeled = ours.peel();
            prop_assert!(peeled.complete);
            let set = |elements: &[Element]| elements.iter().map(|e| e.0).collect::<BTreeSet<_>>();
            prop_assert_eq!(set(&peeled.mine), (a..b).map(scramble).collect::<BTreeSet<_>>());
            prop_assert_eq!(set(&peeled.theirs), (b..c).map(scramble).collect::<BTreeSet<_>>());
        }

        #[test]
        fn a_range_is_the_sum_of_its_parts_and_removing_undoes_adding(n in 0u64..500, cut in 0u64..500, cells in 0usize..200) {
            let cut = cut.min(n);
            let mut parts = sketch(cells, 0..cut);
            parts.join(&sketch(cells, cut..n));
            prop_assert_eq!(&parts, &sketch(cells, 0..n));
            for element in cut..n {
                parts.remove(Element(scramble(element)));
            }
            prop_assert_eq!(parts, sketch(cells, 0..cut));
        }

        #[test]
        fn a_prefix_of_a_sketch_is_a_sketch(n in 0u64..300, short in 0usize..100, long in 100usize..300) {
            let mut cut = sketch(long, 0..n);
            cut.join(&Sketch::new(short));
            prop_assert_eq!(cut, sketch(short, 0..n));
        }

        #[test]
        fn cells_of_anyone_are_peeled_to_an_end(cells in proptest::collection::vec((-2i64..3, any::<u64>(), any::<u32>()), 0..200)) {
            let honest = |sum: u64| Element(sum).check();
            let cells: Vec<Cell> = cells
                .into_iter()
                .map(|(count, sum, check)| Cell { count, sum, check: if check % 2 == 0 { honest(sum) } else { check } })
                .collect();
            let limit = cells.len();
            let peeled = Sketch::from_cells(cells).peel();
            prop_assert!(peeled.mine.len() + peeled.theirs.len() <= limit);
        }
    }

    /// The figures of the paper, and of the prototypes that this design rests on.
    #[test]
    fn many_differences_cost_about_1_36_cells_each() {
        for (differences, most) in [(10, 2.3), (100, 1.65), (1000, 1.45), (10_000, 1.40)] {
            let mut cells: Vec<usize> = (0..9).map(|seed| needed(differences, seed)).collect();
            cells.sort_unstable();
            let median = cells[cells.len() / 2] as f64 / differences as f64;
            assert!(median <= most, "{median} cells a difference at {differences}");
        }
    }

    /// The shortest prefix that gives all differences away.
    fn needed(differences: u64, seed: u64) -> usize {
        let base = seed << 32;
        let whole = sketch(24 + 3 * differences as usize, base..base + differences);
        let (mut low, mut high) = (differences as usize, whole.cells().len());
        while low < high {
            let middle = (low + high) / 2;
            let prefix = Sketch::from_cells(whole.cells()[..middle].to_vec());
            if prefix.peel().complete { high = middle } else { low = middle + 1 }
        }
        low
    }
}
