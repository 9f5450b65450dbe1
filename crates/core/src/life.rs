//! Lives of stores: what a peer remembers of one, and how a store sees from it that it was rolled back or copied.
//!
//! A store keeps the openings in which peers met it; a peer keeps which of them it met, and how far the store was. A store
//! that is not that far any more, or knows nothing of the opening, is another life of the same records: it must write as
//! another actor, or what it writes would seem to have seen what was lost. Where both are kept is left to the store.
//! The danger is that of riak_kv issue 679.

use serde::{Deserialize, Serialize};

use crate::stamp::Stamp;

/// Openings of one store that a peer remembers.
pub const SIGHTINGS_MAX: usize = 16;

/// Which life of which store speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The actor that writes there now.
    pub actor: u64,
    /// Drawn at each opening of the store.
    pub nonce: u64,
}

/// An opening of a store in which a peer met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The opening.
    pub nonce: u64,
    /// The greatest commit number that was told in it.
    pub commit: u64,
}

/// An opening as the store itself has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The commit number that it came to, as far as this life knows.
    pub end: u64,
    /// The last stamp then: all that was written in it until then is common to all lives that know it. Of the opening that
    /// goes on, the last stamp before it.
    pub stamp: Stamp,
}

/// Judges what a peer remembers, oldest first, each with the opening that the store has under that nonce. Gives, where the
/// store is another life than the peer met, the last stamp that certainly both have.
pub fn forked(seen: &[(Sighting, Option<Opening>)]) -> Option<Stamp> {
    let (last, opening) = seen.last()?;
    let there = opening.is_some_and(|opening| last.commit <= opening.end);
    (!there).then(|| seen.iter().rev().find_map(|(_, opening)| *opening).map(|both| both.stamp).unwrap_or_default())
}

/// Adds a meeting to what is remembered, unless the store may be another life than that; says what that changed.
pub fn meet(seen: &mut Vec<Sighting>, now: Sighting) -> Meeting {
    match seen.last_mut() {
        None => {
            seen.push(now);
            Meeting::Remembered
        }
        Some(last) if last.nonce == now.nonce && last.commit <= now.commit => {
            let moved = last.commit < now.commit;
            last.commit = now.commit;
            if moved { Meeting::Remembered } else { Meeting::Known }
        }
        Some(_) => Meeting::Doubtful,
    }
}

/// Adds a meeting that was in doubt, once the store was recognised.
pub fn confirm(seen: &mut Vec<Sighting>, now: Sighting) {
    if meet(seen, now) == Meeting::Doubtful {
        seen.push(now);
        seen.drain(..seen.len().saturating_sub(SIGHTINGS_MAX));
    }
}

/// What came of a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// All of it was known.
    Known,
    /// It is remembered.
    Remembered,
    /// The store may be another life than was met; that is not remembered yet.
    Doubtful,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(nonce: u64, commit: u64) -> Sighting {
        Sighting { nonce, commit }
    }

    fn opening(stamp: u64, end: u64) -> Option<Opening> {
        Some(Opening { stamp: Stamp(stamp), end })
    }

    #[test]
    fn a_store_that_went_on_is_the_same_life() {
        assert_eq!(forked(&[]), None);
        assert_eq!(forked(&[(sighting(1, 5), opening(3, 5))]), None);
        assert_eq!(forked(&[(sighting(1, 5), None), (sighting(2, 9), opening(8, 20))]), None);
    }

    #[test]
    fn a_store_that_was_rolled_back_or_copied_is_another_life() {
        // It is not so far any more.
        assert_eq!(forked(&[(sighting(1, 5), opening(3, 4))]), Some(Stamp(3)));
        // It knows nothing of the last opening; an older one is common to both.
        let seen = [(sighting(1, 5), opening(3, 7)), (sighting(2, 9), None), (sighting(3, 11), None)];
        assert_eq!(forked(&seen), Some(Stamp(3)));
        assert_eq!(forked(&seen[1..]), Some(Stamp(0)));
    }

    #[test]
    fn openings_are_remembered_newest_last_and_few_of_them() {
        let mut seen = Vec::new();
        assert_eq!(meet(&mut seen, sighting(1, 5)), Meeting::Remembered);
        assert_eq!(meet(&mut seen, sighting(1, 5)), Meeting::Known);
        assert_eq!(meet(&mut seen, sighting(1, 8)), Meeting::Remembered);
        assert_eq!(meet(&mut seen, sighting(1, 7)), Meeting::Doubtful);
        assert_eq!(meet(&mut seen, sighting(2, 9)), Meeting::Doubtful);
        assert_eq!(seen, [sighting(1, 8)]);
        confirm(&mut seen, sighting(2, 9));
        confirm(&mut seen, sighting(2, 9));
        assert_eq!(seen, [sighting(1, 8), sighting(2, 9)]);
        for nonce in 3..100 {
            confirm(&mut seen, sighting(nonce, nonce));
        }
        assert_eq!((seen.len(), seen[0], seen[15]), (SIGHTINGS_MAX, sighting(84, 84), sighting(99, 99)));
    }
}
