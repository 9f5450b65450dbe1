//! How long was waited of late, as a histogram that forgets: what share of waits is shorter than what.

/// Waits after which each of those before counts half: half a minute, where one comes each millisecond. A disk stalls for what was
/// written seconds ago, so that a percentile of fewer would be chance.
const REMEMBERED: u32 = 32_768;
/// Steps in which a wait is told from one that is twice as long.
const STEPS: u64 = 16;
/// Waits that are longer count as this long, in microseconds: more than an hour.
const LONGEST: u64 = (1 << 32) - 1;
/// Places of a wait up to the longest.
const PLACES: usize = place(LONGEST) + 1;

/// The newest waits of one kind.
#[derive(Clone, Debug)]
pub(super) struct Waits {
    counts: Vec<u32>,
    all: u32,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits { counts: vec![0; PLACES], all: 0 }
    }
}

impl Waits {
    pub(super) fn add(&mut self, micros: u64) {
        self.counts[place(micros.min(LONGEST))] += 1;
        self.all += 1;
        if self.all >= REMEMBERED {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.all = self.counts.iter().sum();
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all as usize
    }

    /// The wait that so many of 100 do not exceed, to a sixteenth too long; zero of none.
    pub(super) fn at(&self, percent: u32) -> u64 {
        let wanted = self.all - self.all * (100 - percent) / 100;
        let mut below = 0;
        let reached = |count: &u32| {
            below += count;
            below >= wanted
        };
        self.counts.iter().position(reached).map_or(0, longest_at)
    }
}

/// Where a wait is counted: each below the steps for itself, others by their highest bits.
const fn place(micros: u64) -> usize {
    let doublings = (micros / STEPS).checked_ilog2();
    match doublings {
        None => micros as usize,
        Some(doublings) => (STEPS * doublings as u64 + (micros >> doublings)) as usize,
    }
}

/// The longest wait that is counted there.
fn longest_at(place: usize) -> u64 {
    let place = place as u64;
    let doublings = (place / STEPS).saturating_sub(1);
    ((place - STEPS * doublings + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_is_told_to_a_sixteenth(micros in 0..=LONGEST) {
            let told = longest_at(place(micros));
            prop_assert!((micros..=micros + micros / STEPS).contains(&told), "{micros} is told as {told}");
        }

        #[test]
        fn percentiles_are_those_of_the_waits(mut waits in prop::collection::vec(0u64..1 << 20, 1..2_000), percent in 1u32..=100) {
            let mut some = Waits::default();
            waits.iter().for_each(|wait| some.add(*wait));
            waits.sort_unstable();
            let exact = waits[waits.len() - waits.len() * (100 - percent as usize) / 100 - 1];
            prop_assert_eq!(some.at(percent), longest_at(place(exact)));
        }
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut waits = Waits::default();
        assert_eq!((waits.len(), waits.at(99)), (0, 0));
        (0..REMEMBERED).for_each(|_| waits.add(5_000));
        (0..4 * REMEMBERED).for_each(|_| waits.add(10));
        assert_eq!(waits.at(99), 10);
        assert!(waits.len() < REMEMBERED as usize && waits.len() >= REMEMBERED as usize / 4);
    }
}
