//! A linear sketch of a set of entries: the first cells of a rateless invertible Bloom lookup table.
//!
//! Subtracting the sketches of two sets leaves a sketch of what differs, from which the differing elements are peeled
//! one by one. The longer the prefix of cells, the more differences it holds: about 1.36 cells each when there are
//! many, 2 when there are few. A cell is a sum, so that a range's sketch is the sum of its parts'.
//! The construction is that of Yang, Gilad and Alizadeh, "Practical Rateless Set Reconciliation" (SIGCOMM 2024).
//!
//! A sketch only accelerates: what was peeled wrongly, by accident or malice, is caught by digests ([`crate::tree`]).
//! Elements, the cells that they fall in and the bytes of cells are format, pinned by golden vectors. Where sketches
//! are kept is left to a store, what is asked of them to the planner of a session.

mod build;
mod coding;
mod falls;

pub use build::build;
pub use coding::{CellRun, pack, pack_elements, unpack, unpack_elements};
pub use falls::Falls;

use crate::entry::Entry;
use crate::range::{Position, Range};
use crate::tree::LEAF_ENTRIES_MAX;

/// Hex digits of a position that an element tells.
pub const ELEMENT_DEPTH: u8 = 10;
const POSITION_BITS: u32 = 4 * ELEMENT_DEPTH as u32;
/// The first cells, whose counts tell best how many elements differ; so many at most travel with whole counts.
pub const COUNTED: usize = 64;
/// The deepest ranges that keep cells of their own.
pub const KEPT_DEPTH_MAX: u8 = 3;

/// How many cells a range of this depth with so many entries keeps: the greatest power of two that is at most half
/// its entries, at most 16,384 at the root and a quarter of it with each level; none where that would be few.
///
/// So a level of 256 ranges keeps enough for some 180,000 differing elements however large the collection is. No level
/// keeps more than a cell for two entries, and one that is far above the leaves next to none.
pub fn cells_kept(depth: u8, count: u64) -> usize {
    if depth > KEPT_DEPTH_MAX || count < 4 * LEAF_ENTRIES_MAX as u64 {
        return 0;
    }
    let half = (count / 2).ilog2();
    let most = 14 - 2 * u32::from(depth);
    let kept = 1 << half.min(most);
    let least = if depth == 0 { 64 } else { 256 };
    if kept < least { 0 } else { kept }
}

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

    /// Its first bits, the others zero.
    pub fn cut(self, bits: u32) -> Element {
        Element(self.0 & !u64::MAX.checked_shr(bits).unwrap_or(0))
    }

    /// The positions that it may stand for.
    pub fn range(self) -> Range {
        Range::of(Position(self.0), ELEMENT_DEPTH)
    }

    /// Tells a lone element from a sum of several.
    fn check(self) -> u16 {
        (scramble(self.0 ^ CHECK_SEED) >> 48) as u16
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
    pub check: u16,
}

impl Cell {
    fn lay(&mut self, element: Element, check: u16, count: i64) {
        self.count = self.count.wrapping_add(count);
        self.sum ^= element.0;
        self.check ^= check;
    }

    /// The one element that is left in the cell at `place`, and whether it was added or subtracted. An element that
    /// does not fall there cannot be it, which tells as much as another ten bits of check in a long sketch.
    ///
    /// Of a count only what is left of four is looked at: that is what travels ([`CellRun`]).
    fn lone(&self, place: usize) -> Option<(Element, i64)> {
        let sign = match self.count.rem_euclid(4) {
            1 => 1,
            3 => -1,
            _ => return None,
        };
        let element = Element(self.sum);
        let alone = element.check() == self.check;
        (alone && Places::of(element).find(|p| *p >= place as f64) == Some(place as f64)).then_some((element, sign))
    }

    fn is_empty(&self) -> bool {
        self.count.rem_euclid(4) == 0 && self.sum == 0 && self.check == 0
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
    /// What is left. If it is not empty, more cells may tell more; what is listed is right all the same, but for
    /// an accident of some hundred-thousandths.
    pub rest: Sketch,
}

/// Elements peeled by the cell, and all elements by the cell, of a sketch too short to be peeled to the end. Where `x` of
/// the elements are left, `n` cells for each hold `x = exp(-2 E1(2 x / n))`: the fixed point of peeling, after the paper.
const REACHED: [(f64, f64); 14] = [
    (0.0029, 2.860),
    (0.0051, 2.564),
    (0.0109, 2.181),
    (0.0190, 1.902),
    (0.0327, 1.634),
    (0.0553, 1.381),
    (0.0746, 1.243),
    (0.1081, 1.081),
    (0.1517, 0.948),
    (0.1784, 0.892),
    (0.2289, 0.818),
    (0.2784, 0.773),
    (0.3036, 0.759),
    (0.3701, 0.740),
];
impl Peeled {
    /// Whether nothing is left over.
    pub fn is_complete(&self) -> bool {
        self.rest.0.iter().all(Cell::is_empty)
    }

    /// Elements that were found.
    pub fn found(&self) -> usize {
        self.mine.len() + self.theirs.len()
    }

    /// About how many elements there are in all, from how far peeling got before it stood still; none if it came to the
    /// end. Where it hardly began it only tells that there are at least about so many.
    pub fn reach(&self) -> Option<u64> {
        let (found, cells) = (self.found(), self.rest.0.len() as f64);
        if self.is_complete() {
            return None;
        }
        let reached = found as f64 / cells;
        let after = REACHED.partition_point(|(at, _)| *at < reached).clamp(1, REACHED.len() - 1);
        let ((a, low), (b, high)) = (REACHED[after - 1], REACHED[after]);
        let elements = low + (high - low) * ((reached - a) / (b - a)).clamp(0.0, 1.0);
        Some((elements * cells).max(found as f64) as u64)
    }
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

    /// Elements of the set: each falls in the first cell. None are known of a sketch without cells.
    pub fn count(&self) -> i64 {
        self.0.first().map_or(0, |cell| cell.count)
    }

    /// Keeps the first cells only.
    pub fn truncate(&mut self, cells: usize) {
        self.0.truncate(cells);
    }

    /// Appends the cells that come next in the row.
    pub fn extend(&mut self, cells: &[Cell]) {
        self.0.extend_from_slice(cells);
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

    /// Adds an element `count` times, which may be less than nothing: what a list of changes comes to.
    pub fn lay(&mut self, element: Element, count: i64) {
        let check = element.check();
        let odd = count % 2 != 0;
        for place in Places::within(element, self.0.len()) {
            let cell = &mut self.0[place];
            cell.count = cell.count.wrapping_add(count);
            if odd {
                cell.sum ^= element.0;
                cell.check ^= check;
            }
        }
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

    /// Takes a sketch of differences apart.
    ///
    /// Ends whatever the cells hold: it takes no more elements than there are cells, which no honest sketch exceeds.
    pub fn peel(mut self) -> Peeled {
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        let mut next: Vec<usize> = (0..self.0.len()).collect();
        let mut budget = self.0.len();
        while let Some(place) = next.pop() {
            let Some((element, count)) = self.0[place].lone(place) else { continue };
            if budget == 0 {
                break;
            }
            budget -= 1;
            let check = element.check();
            for place in Places::within(element, self.0.len()) {
                self.0[place].lay(element, check, -count);
                next.push(place);
            }
            let list = if count > 0 { &mut mine } else { &mut theirs };
            list.push(element);
        }
        mine.sort_unstable();
        theirs.sort_unstable();
        Peeled { mine, theirs, rest: self }
    }

    /// About how many elements a sketch of differences holds, from how the counts of its first [`COUNTED`] cells stray;
    /// `surplus` is how many more were added than subtracted.
    ///
    /// Of `d` elements, each added or subtracted, the count of a cell that an element falls in with probability `p`
    /// has the variance `d p (1 - p)` about `p` times the surplus, so `k` cells tell `d` to a factor of
    /// `1 ± sqrt(2 / k)`.
    pub fn estimate(&self, surplus: i64) -> u64 {
        self.estimate_with(surplus, 0, &[])
    }

    /// The same, with what is left of 256 of the difference of the counts of some further cells, from a place on.
    pub fn estimate_with(&self, surplus: i64, from: usize, further: &[u8]) -> u64 {
        let stray = |place: usize, count: i64| count.wrapping_sub((surplus as f64 * chance(place)).round() as i64);
        let spread = |place: usize| chance(place) * (1.0 - chance(place));
        // Sixteen bits of these counts travel.
        let near = 1..self.0.len().min(COUNTED);
        let cells = near.len() as f64;
        let near: f64 = near.map(|at| f64::from(stray(at, self.0[at].count) as i16).powi(2) / spread(at)).sum();
        let mut likely = if cells > 0.0 { near / cells } else { 0.0 };
        let told = likely * spread(from) < UNTOLD && !further.is_empty();
        for _ in 0..if told { ROUNDS } else { 0 } {
            let square = |(at, count): (usize, &u8)| {
                square_of_rest(stray(at, i64::from(*count)) as i8, likely * spread(at)) / spread(at)
            };
            likely = (near + (from..).zip(further).map(square).sum::<f64>()) / (cells + further.len() as f64);
        }
        likely.max(surplus.unsigned_abs() as f64) as u64
    }
}

/// How the square of what is left of 256 is filled in: so many times, each by what the time before made likely
/// (Dempster, Laird and Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm", 1977).
const ROUNDS: usize = 8;
/// The variance of counts from which on what is left of 256 tells nothing.
const UNTOLD: f64 = 10_000.0;

/// The square of a number that is expected where this is left of it and 256, and it strays by so much about zero.
fn square_of_rest(rest: i8, variance: f64) -> f64 {
    let rest = f64::from(rest);
    let (mut sum, mut all) = (0.0, 0.0);
    for turns in -2..=2 {
        let square = (rest + 256.0 * f64::from(turns)).powi(2);
        let weight = ((rest.powi(2) - square) / (2.0 * variance.max(1.0))).exp();
        sum += weight * square;
        all += weight;
    }
    sum / all
}

/// How many cells give away so many differing elements three times in four.
pub fn cells_for(elements: u64) -> usize {
    let elements = elements as f64;
    (1.36 * elements + 1.7 * elements.sqrt() + 7.0) as usize
}

const CHECK_SEED: u64 = 0x7265_6b6e_6974_2063;
const PLACE_SEED: u64 = 0x7265_6b6e_6974_2070;

/// How likely an element falls in the cell at `place`.
fn chance(place: usize) -> f64 {
    2.0 / (place as f64 + 2.0)
}

/// The cells that an element falls in, in order: the first always, cell `i` with probability `2 / (i + 2)`.
struct Places {
    seed: u64,
    next: f64,
}

impl Places {
    fn of(element: Element) -> Places {
        Places { seed: scramble(element.0 ^ PLACE_SEED), next: 0.0 }
    }

    /// Those among the first `cells`.
    fn within(element: Element, cells: usize) -> impl Iterator<Item = usize> {
        Places::of(element).take_while(move |place| *place < cells as f64).map(|place| place as usize)
    }
}

impl Iterator for Places {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        let place = self.next;
        self.next = next_place(place, luck(&mut self.seed));
        Some(place)
    }
}

/// Above 0 and at most 1, from the upper 53 bits of the next number.
#[inline]
fn luck(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    // Signed, since that is what a processor turns into a double.
    ((scramble(*seed) >> 11) as i64 + 1) as f64 / (1u64 << 53) as f64
}

/// The next cell after `place` that an element falls in. Of any that there is memory for it is exact; a double, since
/// processors work out several of those at once.
#[inline]
fn next_place(place: f64, luck: f64) -> f64 {
    // The next place is beyond j with the probability (i + 1)(i + 2) / (j + 1)(j + 2), the product of not falling
    // in any cell up to it; this solves it for j. Root, quotient and product of doubles are exact by standard.
    let beyond = ((place + 1.0) * (place + 2.0) / luck + 0.25).sqrt() - 1.5;
    // Rounded up, without the call that it takes where processors of any age are to run it: a sum this large has no
    // room for a fraction.
    const WHOLE: f64 = (1u64 << 52) as f64;
    let near = beyond + WHOLE - WHOLE;
    let next = near + f64::from(u8::from(near < beyond));
    let least = place + 1.0;
    if next > least { next } else { least }
}

/// A bijection of 64 bits that spreads every bit over all (the finalizer of splitmix64, Steele, Lea and Flood, 2014).
fn scramble(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests;
