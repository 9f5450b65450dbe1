//! Where many elements fall, worked out side by side and once for several sketches.
//!
//! Each place of an element follows from the one before through a root and a quotient, which a processor works out for
//! several elements in the time of one. Shorter sketches take the first places of longer ones.

use super::{Element, Places, Sketch, luck, next_place};

/// Elements worked out at once, where there are so many; the last ones by two, such as those of one record.
const LANES: usize = 8;
/// Most elements have fewer places.
const PLACES: usize = 24;

/// Elements with their counts, and the cells that each falls in.
#[derive(Clone, Debug, Default)]
pub struct Falls {
    cells: usize,
    elements: Vec<Fall>,
    places: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Fall {
    element: Element,
    count: i64,
    check: u16,
    /// Where its places end in the list of all; they begin where those of the element before end.
    end: usize,
}

impl Falls {
    /// Where each of these elements falls among the first `cells` cells. Takes about 16 bytes of memory for each, and 4
    /// for each place: `2 ln(cells)` of them.
    pub fn new(elements: &[(Element, i64)], cells: usize) -> Falls {
        let cells = cells.min(u32::MAX as usize);
        let places = Vec::with_capacity(PLACES * elements.len());
        let mut falls = Falls { cells, elements: Vec::with_capacity(elements.len()), places };
        let (many, few) = elements.split_at(elements.len() - elements.len() % LANES);
        falls.work_out::<LANES>(many);
        falls.work_out::<2>(few);
        falls
    }

    /// Appends the places of these elements, so many at once.
    fn work_out<const N: usize>(&mut self, elements: &[(Element, i64)]) {
        let mut steps = Vec::with_capacity(2 * PLACES);
        for some in elements.chunks(N) {
            let found = side_by_side::<N>(some, self.cells, &mut steps);
            for (lane, ((element, count), found)) in some.iter().zip(found).enumerate() {
                self.places.extend(steps[..found].iter().map(|step| step[lane]));
                let (check, end) = (element.check(), self.places.len());
                self.elements.push(Fall { element: *element, count: *count, check, end });
            }
        }
    }
}

/// The places of at most so many elements, step by step, and how many of them each has among the first `cells`.
fn side_by_side<const N: usize>(some: &[(Element, i64)], cells: usize, steps: &mut Vec<[u32; N]>) -> [usize; N] {
    let cells = cells as f64;
    let (mut seeds, mut places, mut found) = ([0; N], [cells; N], [0; N]);
    for ((element, _), (seed, place)) in some.iter().zip(seeds.iter_mut().zip(&mut places)) {
        (*seed, *place) = (Places::of(*element).seed, 0.0);
    }
    steps.clear();
    while places.iter().any(|place| *place < cells) {
        steps.push(places.map(|place| place as u32));
        for (found, place) in found.iter_mut().zip(&places) {
            *found += usize::from(*place < cells);
        }
        // First what a processor works out one by one, then what it works out side by side.
        let lucks = seeds.each_mut().map(luck);
        for (place, luck) in places.iter_mut().zip(lucks) {
            *place = next_place(*place, luck);
        }
    }
    found
}

impl Falls {
    /// Lays each fall in the last of these sketches that has so many cells; none may have more than one before it.
    pub(super) fn lay_deepest(&self, levels: &mut [Sketch]) {
        let mut places = self.places.iter();
        let mut start = 0;
        for fall in &self.elements {
            let odd = fall.count % 2 != 0;
            let (sum, check) = if odd { (fall.element.0, fall.check) } else { (0, 0) };
            let mut level = levels.len();
            for place in places.by_ref().take(fall.end - start) {
                // The places of an element rise.
                while level > 0 && levels[level - 1].0.len() <= *place as usize {
                    level -= 1;
                }
                let Some(cell) = level.checked_sub(1).and_then(|level| levels[level].0.get_mut(*place as usize)) else {
                    continue;
                };
                cell.count = cell.count.wrapping_add(fall.count);
                cell.sum ^= sum;
                cell.check ^= check;
            }
            start = fall.end;
        }
    }
}

impl Sketch {
    /// As [`Sketch::lay`] of each element whose number is in `of`, all others left out.
    ///
    /// # Panics
    /// If there are fewer elements, or if the sketch has more cells than were asked for when the falls were worked out.
    pub fn lay_falls(&mut self, falls: &Falls, of: std::ops::Range<usize>) {
        assert!(self.0.len() <= falls.cells, "places beyond {} cells are not known", falls.cells);
        let mut start = of.start.checked_sub(1).map_or(0, |before| falls.elements[before].end);
        for fall in &falls.elements[of] {
            let places = &falls.places[start..fall.end];
            start = fall.end;
            let odd = fall.count % 2 != 0;
            let (sum, check) = if odd { (fall.element.0, fall.check) } else { (0, 0) };
            for place in places {
                let Some(cell) = self.0.get_mut(*place as usize) else { break };
                cell.count = cell.count.wrapping_add(fall.count);
                cell.sum ^= sum;
                cell.check ^= check;
            }
        }
    }
}
