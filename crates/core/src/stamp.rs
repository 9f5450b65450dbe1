//! Hybrid logical time: stamps that follow the wall clock when they can and never run backwards.
//!
//! The wall clock is an argument; who reads it and who stores the last stamp is left to the caller.
//! After Kulkarni and others, "Logical Physical Clocks", 2014.

use serde::{Deserialize, Serialize};

use crate::planted::{Bug, planted};

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

/// How far a peer's stamp may run ahead of our wall clock before its record is refused, unless told otherwise.
pub const CLOCK_BOUND_MILLIS: Millis = 60_000;

const COUNTER_BITS: u32 = 16;

/// A point in hybrid logical time: 48 bits of milliseconds, 16 bits of counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The stamp with counter 0 at `millis` (cut to 48 bits).
    pub fn at(millis: Millis) -> Stamp {
        Stamp(millis.min((1 << 48) - 1) << COUNTER_BITS)
    }

    /// The wall-clock part.
    pub fn millis(self) -> Millis {
        self.0 >> COUNTER_BITS
    }
}

/// A stamp that lies too far ahead of our wall clock; the clock did not follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFarAhead {
    /// By how much it lies ahead.
    pub ahead: Millis,
    /// How far it might have been.
    pub bound: Millis,
}

impl std::fmt::Display for TooFarAhead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "its stamp is {} ms ahead of this clock, at most {} ms is followed", self.ahead, self.bound)
    }
}

impl std::error::Error for TooFarAhead {}

/// Gives out stamps that are strictly monotonic, whatever the wall clock does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    last: Stamp,
}

impl Clock {
    /// A clock that continues after `last`, the greatest stamp that was stored.
    pub fn new(last: Stamp) -> Self {
        Clock { last }
    }

    /// The greatest stamp given out or seen.
    pub fn last(&self) -> Stamp {
        self.last
    }

    /// The next stamp: the wall clock if it moved on, else one more than the last.
    pub fn next(&mut self, now: Millis) -> Stamp {
        self.last = Stamp::at(now).max(Stamp(self.last.0.saturating_add(1)));
        self.last
    }

    /// Follows a stamp made elsewhere, so that later ones are greater; never further than `bound` ahead of `now`.
    ///
    /// # Errors
    /// [`TooFarAhead`]; the clock has not followed it then.
    pub fn observe(&mut self, seen: Stamp, now: Millis, bound: Millis) -> Result<(), TooFarAhead> {
        let ahead = seen.millis().saturating_sub(now);
        if ahead > bound && !planted(Bug::ClockFollowsWithoutBound) {
            return Err(TooFarAhead { ahead, bound });
        }
        self.last = self.last.max(seen);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stamps_rise_whatever_the_wall_clock_does(steps in proptest::collection::vec((0u64..1 << 44, 0u64..1 << 60), 1..50)) {
            let mut clock = Clock::default();
            for (now, seen) in steps {
                let before = clock.last();
                let stamp = clock.next(now);
                prop_assert!(stamp > before && stamp >= Stamp::at(now));
                match clock.observe(Stamp(seen), now, CLOCK_BOUND_MILLIS) {
                    Ok(()) => prop_assert!(clock.last() >= Stamp(seen) && clock.next(now) > Stamp(seen)),
                    Err(_) => prop_assert!(Stamp(seen).millis() > now + CLOCK_BOUND_MILLIS && clock.last() == stamp),
                }
            }
        }
    }
}
