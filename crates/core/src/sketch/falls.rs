//! Where many elements fall, worked out side by side and once for several sketches.
//!
//! Each place of an element follows from the one before through a root and a quotient, which a processor works out for
//! several elements in the time of one. Shorter sketches take the first places of longer ones.

use super::{Element, Places, Sketch, next_place};

/// Elements worked out at once.
const LANES: usize = 8;

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
        // Most elements have fewer places.
        const PLACES: usize = 24;
        let places = Vec::with_capacity(PLACES * elements.len());
        let mut falls = Falls { cells, elements: Vec::with_capacity(elements.len()), places };
        let room = |lane| if lane < elements.len() { PLACES } else { 0 };
        let mut found: [Vec<u32>; LANES] = std::array::from_fn(|lane| Vec::with_capacity(room(lane)));
        for some in elements.chunks(LANES) {
            falls.work_out(some, &mut found);
            for ((element, count), found) in some.iter().zip(&mut found) {
                falls.places.append(found);
                let (check, end) = (element.check(), falls.places.len());
                falls.elements.push(Fall { element: *element, count: *count, check, end });
            }
        }
        falls
    }

    fn work_out(&self, some: &[(Element, i64)], found: &mut [Vec<u32>; LANES]) {
        let (mut seeds, mut places) = ([0; LANES], [u64::MAX; LANES]);
        for ((element, _), (seed, place)) in some.iter().zip(seeds.iter_mut().zip(&mut places)) {
            (*seed, *place) = (Places::of(*element).seed, 0);
        }
        loop {
            let mut going = false;
            for (place, found) in places.iter().zip(found.iter_mut()) {
                if *place < self.cells as u64 {
                    found.push(*place as u32);
                    going = true;
                }
            }
            if !going {
                return;
            }
            for (seed, place) in seeds.iter_mut().zip(&mut places).take(some.len()) {
                *place = next_place(*place, seed);
            }
        }
    }
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
