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
    /// The last stamp before it.
    pub began: Stamp,
    /// The commit number that it came to, as far as this life knows.
    pub end: u64,
    /// The last stamp then; of the opening that goes on, the last stamp before it.
    pub stamp: Stamp,
}

/// What two lives of a store certainly have in common: all that was written up to the stamp, and all that was up to the
/// commit. What is written is stamped in the order of commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Common {
    /// The last stamp.
    pub stamp: Stamp,
    /// The last commit number.
    pub commit: u64,
}

/// Judges what a peer remembers, oldest first, each with the opening that the store has under that nonce. Gives, where the
/// store is another life than the peer met, what both have in common.
///
/// The lives may have parted within the last opening that both know, and this may be the one that went on in it: so its end
/// says nothing, unless the peer met it further than it came here. What was told in it before the other life was met that
/// one knew too, or it had been recognised then.
pub fn forked(seen: &[(Sighting, Option<Opening>)]) -> Option<Common> {
    let (last, opening) = seen.last()?;
    if opening.is_some_and(|opening| last.commit <= opening.end) {
        return None;
    }
    let known = seen.iter().rev().find_map(|(sighting, opening)| opening.map(|opening| (sighting, opening)));
    let common = known.map(|(sighting, Opening { began, end, stamp })| match sighting.commit <= end {
        true => Common { stamp: began, commit: sighting.commit },
        false => Common { stamp, commit: 0 },
    });
    Some(common.unwrap_or_default())
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

/// Adds a meeting that was in doubt, once the store was recognised by what was the last one then. Not if another life was met
/// meanwhile, of which that says nothing: then it is still in doubt.
pub fn confirm(seen: &mut Vec<Sighting>, now: Sighting, by: Sighting) -> bool {
    if meet(seen, now) != Meeting::Doubtful || seen.last().is_some_and(|last| last.nonce == now.nonce) {
        return true;
    }
    let same = seen.last() == Some(&by);
    if same {
        seen.push(now);
        seen.drain(..seen.len().saturating_sub(SIGHTINGS_MAX));
    }
    same
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

    /// One that came to a stamp and a commit number, both greater by two than what it began with.
    fn opening(stamp: u64, end: u64) -> Option<Opening> {
        Some(Opening { began: Stamp(stamp - 2), stamp: Stamp(stamp), end })
    }

    fn common(stamp: u64, commit: u64) -> Option<Common> {
        Some(Common { stamp: Stamp(stamp), commit })
    }

    #[test]
    fn a_store_that_went_on_is_the_same_life() {
        assert_eq!(forked(&[]), None);
        assert_eq!(forked(&[(sighting(1, 5), opening(3, 5))]), None);
        assert_eq!(forked(&[(sighting(1, 5), None), (sighting(2, 9), opening(8, 20))]), None);
    }

    #[test]
    fn a_store_that_was_rolled_back_or_copied_is_another_life() {
        // It is not so far any more: all that it has of that opening is common.
        assert_eq!(forked(&[(sighting(1, 5), opening(3, 4))]), common(3, 0));
        // It knows nothing of the last opening; an older one is common to both, as far as it was told of. Which of the two
        // went on in it is not known.
        let seen = [(sighting(1, 5), opening(3, 7)), (sighting(2, 9), None), (sighting(3, 11), None)];
        assert_eq!(forked(&seen), common(1, 5));
        assert_eq!(forked(&[(sighting(1, 9), opening(3, 7)), seen[1]]), common(3, 0));
        assert_eq!(forked(&seen[1..]), common(0, 0));
    }

    #[test]
    fn a_store_that_was_recognised_by_what_is_not_the_last_any_more_is_still_in_doubt() {
        let mut seen = vec![sighting(1, 5)];
        assert_eq!(meet(&mut seen, sighting(2, 6)), Meeting::Doubtful);
        // The other life is met meanwhile: it went on in the opening that both know.
        assert_eq!(meet(&mut seen, sighting(1, 9)), Meeting::Remembered);
        assert!(!confirm(&mut seen, sighting(2, 6), sighting(1, 5)));
        assert_eq!(seen, [sighting(1, 9)]);
        assert!(confirm(&mut seen, sighting(2, 6), sighting(1, 9)));
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
        assert!(
            confirm(&mut seen, sighting(2, 9), sighting(1, 8)) && confirm(&mut seen, sighting(2, 9), sighting(1, 8))
        );
        assert_eq!(seen, [sighting(1, 8), sighting(2, 9)]);
        for nonce in 3..100 {
            let by = seen[seen.len() - 1];
            assert!(confirm(&mut seen, sighting(nonce, nonce), by));
        }
        assert_eq!((seen.len(), seen[0], seen[15]), (SIGHTINGS_MAX, sighting(84, 84), sighting(99, 99)));
    }
}
