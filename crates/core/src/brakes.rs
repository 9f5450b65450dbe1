//! Brakes: how many of a side's live records one session may delete or overwrite, and what was lost so far, as values.
//!
//! When they are looked at is the sessions' concern; how they are typed and told that of the command line.

use serde::{Deserialize, Serialize};

use crate::dataset::CollectionId;
use crate::difference::Side;
use crate::query::Incoming;
use crate::record::{Content, State};

/// Keys that are named of those that a brake stopped.
pub const SAMPLES_MAX: usize = 3;
/// Bytes of such a key.
const SAMPLE_BYTES_MAX: usize = 256;
/// All of a side, as a share.
const WHOLE: u32 = 1_000_000;

/// How many records, told by number or by what a side holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The share of the side's records, in millionths; a whole side is no limit.
    pub share: u32,
    /// But never less,
    pub least: u64,
    /// and never more.
    pub most: u64,
}

impl Limit {
    /// So many records, whatever a side holds.
    pub fn records(most: u64) -> Limit {
        Limit { share: 0, least: most, most }
    }

    /// A share of the side's records, in millionths.
    pub fn share(millionths: u32) -> Limit {
        Limit { share: millionths, least: 0, most: u64::MAX }
    }

    /// What it comes to for a side of so many records.
    pub fn of(&self, records: u64) -> u64 {
        if self.share >= WHOLE {
            return self.most;
        }
        let share = u128::from(records) * u128::from(self.share) / u128::from(WHOLE);
        u64::try_from(share).unwrap_or(u64::MAX).min(self.most).max(self.least)
    }
}

/// What each written side of a session may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brakes {
    /// Live records that become tombstones or vanish.
    pub delete: Limit,
    /// Live records whose content becomes another.
    pub change: Limit,
    /// Whether a side may become the mirror of one that holds fewer than half as many records, if the limits let it.
    pub shrunken: bool,
}

impl Default for Brakes {
    /// 10 % of a side deleted, but 10,000 at most and 10 at least; 20 % changed, but 100 at least; no mirror of what shrank.
    fn default() -> Brakes {
        Brakes {
            delete: Limit { share: WHOLE / 10, least: 10, most: 10_000 },
            change: Limit { share: WHOLE / 5, least: 100, most: u64::MAX },
            shrunken: false,
        }
    }
}

/// Live records of a side that were, would be or may be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Those that become tombstones or vanish.
    pub deleted: u64,
    /// Those whose content becomes another.
    pub changed: u64,
}

impl Losses {
    /// What a side of so many records may lose.
    pub fn allowed(brakes: &Brakes, records: u64) -> Losses {
        Losses { deleted: brakes.delete.of(records), changed: brakes.change.of(records) }
    }

    /// How many more live records a side may lose at worst that holds so many now, and has lost these: a row of small losses comes
    /// to no more than one large one may.
    pub fn room(&self, brakes: &Brakes, records: u64) -> u64 {
        let allowed = Losses::allowed(brakes, records);
        allowed.deleted.saturating_sub(self.deleted).min(allowed.changed.saturating_sub(self.changed))
    }

    /// One more.
    pub fn add(&mut self, loss: Option<Loss>) {
        match loss {
            Some(Loss::Deleted) => self.deleted += 1,
            Some(Loss::Changed) => self.changed += 1,
            None => {}
        }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Losses) -> Losses {
        let Losses { deleted, changed } = other;
        Losses { deleted: self.deleted.saturating_add(deleted), changed: self.changed.saturating_add(changed) }
    }

    /// What is left of this once so much was lost.
    #[must_use]
    pub fn without(self, lost: Losses) -> Losses {
        let Losses { deleted, changed } = lost;
        Losses { deleted: self.deleted.saturating_sub(deleted), changed: self.changed.saturating_sub(changed) }
    }

    /// The greater of both, of each kind.
    #[must_use]
    pub fn max(self, other: Losses) -> Losses {
        Losses { deleted: self.deleted.max(other.deleted), changed: self.changed.max(other.changed) }
    }

    /// Whether all of this may be lost.
    pub fn within(&self, allowed: &Losses) -> bool {
        self.deleted <= allowed.deleted && self.changed <= allowed.changed
    }

    /// Whether this may be lost where so much was before: a kind of which nothing more is lost is not held against it.
    pub fn may_follow(&self, before: &Losses, allowed: &Losses) -> bool {
        let may = |more: u64, before: u64, most: u64| more == 0 || before.saturating_add(more) <= most;
        may(self.deleted, before.deleted, allowed.deleted) && may(self.changed, before.changed, allowed.changed)
    }
}

/// What the new state of a key means for who reads it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// There was a live record, and is none.
    Deleted,
    /// There was a live record, and its content is another.
    Changed,
}

impl Loss {
    /// What becomes of a live content if another takes its place; none stands for a tombstone or for no record.
    pub fn between<T: PartialEq>(before: Option<T>, after: Option<T>) -> Option<Loss> {
        match (before, after) {
            (Some(before), Some(after)) => (before != after).then_some(Loss::Changed),
            (Some(_), None) => Some(Loss::Deleted),
            (None, _) => None,
        }
    }

    /// Of two states of a key, by their newest versions.
    pub fn of_states(before: Option<&State>, after: Option<&State>) -> Option<Loss> {
        Loss::between(before.and_then(live), after.and_then(live))
    }

    /// The most that a record which arrives can mean: all but one that is known to leave the content as it is.
    pub fn feared(incoming: &Incoming) -> Option<Loss> {
        match incoming.guard {
            crate::query::Guard::Bare => None,
            _ if live(&incoming.record.state).is_some() => Some(Loss::Changed),
            _ => Some(Loss::Deleted),
        }
    }
}

fn live(state: &State) -> Option<&Vec<u8>> {
    match &state.winner().content {
        Content::Live(value) => Some(value),
        Content::Tombstone => None,
    }
}

/// Some keys of those that a side would lose: a few deleted and a few changed ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    deleted: Vec<(CollectionId, Vec<u8>)>,
    changed: Vec<(CollectionId, Vec<u8>)>,
}

impl Samples {
    /// Keeps the key if there are few; one that was looked at again is there once.
    pub fn note(&mut self, loss: Loss, collection: CollectionId, key: &[u8]) {
        let list = if loss == Loss::Deleted { &mut self.deleted } else { &mut self.changed };
        let sample = (collection, key[..key.len().min(SAMPLE_BYTES_MAX)].to_vec());
        if list.len() < SAMPLES_MAX && !list.contains(&sample) {
            list.push(sample);
        }
    }

    /// Those of one kind.
    pub fn of(&self, loss: Loss) -> &[(CollectionId, Vec<u8>)] {
        if loss == Loss::Deleted { &self.deleted } else { &self.changed }
    }
}

/// A brake that stopped a session, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Braked {
    /// Whose records.
    pub side: Side,
    /// How many records the side held.
    pub records: u64,
    /// What it would lose, with what it lost before; where records were on their way already, at least that.
    pub losses: Losses,
    /// What of it was lost in sessions before this one, where those count. No node tells another.
    #[serde(skip)]
    pub before: Losses,
    /// What it may lose.
    pub allowed: Losses,
    /// Whether it was to become the mirror of a side with fewer than half as many records; so many.
    pub shrunken: Option<u64>,
    /// Some of the keys.
    pub samples: Samples,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_from_what_a_side_holds() {
        let Brakes { delete, change, .. } = Brakes::default();
        for (records, deleted, changed) in
            [(0, 10, 100), (99, 10, 100), (500, 50, 100), (5000, 500, 1000), (1_000_000, 10_000, 200_000)]
        {
            assert_eq!((delete.of(records), change.of(records)), (deleted, changed), "{records}");
        }
        assert_eq!(Limit::records(7).of(1_000_000), 7);
        assert_eq!((Limit::share(50_000).of(1000), Limit::share(50_000).of(10)), (50, 0));
        assert_eq!(Limit::share(WHOLE).of(3), u64::MAX, "a whole side is no limit, however it grows");
        assert_eq!(delete.of(u64::MAX), 10_000);
    }

    #[test]
    fn a_loss_is_what_readers_lose() {
        assert_eq!(Loss::between(Some(1), Some(2)), Some(Loss::Changed));
        assert_eq!(Loss::between(Some(1), None), Some(Loss::Deleted));
        for none in [(None, Some(1)), (None, None), (Some(1), Some(1))] {
            assert_eq!(Loss::between(none.0, none.1), None);
        }
        let mut losses = Losses { deleted: 2, changed: 3 };
        losses.add(Some(Loss::Deleted));
        assert!(
            losses.within(&Losses { deleted: 3, changed: 3 }) && !losses.within(&Losses { deleted: 2, changed: 9 })
        );
    }

    #[test]
    fn what_loses_nothing_more_may_follow_whatever_was_lost() {
        let lost = |deleted, changed| Losses { deleted, changed };
        let (before, allowed) = (lost(12, 5), lost(10, 10));
        assert!(lost(0, 0).may_follow(&before, &allowed) && lost(0, 5).may_follow(&before, &allowed));
        assert!(!lost(1, 0).may_follow(&before, &allowed) && !lost(0, 6).may_follow(&before, &allowed));
    }

    proptest::proptest! {
        #[test]
        fn a_row_of_small_losses_comes_to_no_more_than_one_large_one_may(
            pushes in proptest::collection::vec((1u64..40, 0u64..40, 0u64..40), 0..60),
            (records, share, least) in (0u64..2000, 0u32..1_000_000, 0u64..30),
        ) {
            let limit = Limit { share, least, most: 700 };
            let brakes = Brakes { delete: limit, change: Limit { share: share / 2, ..limit }, shrunken: false };
            let allowed = Losses::allowed(&brakes, records);
            let (mut lost, mut now) = (Losses::default(), records);
            for (size, deleted, changed) in pushes {
                let taken = size.min(lost.room(&brakes, now));
                let deleted = deleted.min(taken).min(now);
                let losses = Losses { deleted, changed: changed.min(taken - deleted) };
                (lost, now) = (lost.and(losses), now - deleted);
                proptest::prop_assert!(lost.within(&allowed), "{lost:?} of {allowed:?}");
            }
        }
    }
}
