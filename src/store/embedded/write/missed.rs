//! What becomes of tombstones at a horizon, and of what a store holds that missed one. Nothing is written here.

use reknit_core::{Clock, Keeps, Millis, Sibling, Stamp, State};

use super::arriving::anew;
use super::{Fate, Slot};
use crate::store::embedded::Inner;
use crate::store::embedded::collecting::dead;
use crate::store::embedded::quarantine::{self, Why};
use crate::store::{Missed, Stands};

/// What becomes of a tombstone at the horizon.
pub(super) fn collect(store: &Inner, clock: &mut Clock, now: Millis, slot: &Slot) -> Result<Option<State>, Fate> {
    let state = slot.now.as_ref().filter(|state| store.is_collected(slot.collection, state)).ok_or(Fate::Kept)?;
    if store.is_known_everywhere(state, slot.before_commit) {
        return Ok(None);
    }
    Ok(Some(anew(store, clock, now, slot, state)))
}

/// What becomes of a key of a store that missed a horizon. A stray is taken into quarantine, and counts as moved.
pub(super) fn catch_up(
    store: &Inner,
    clock: &mut Clock,
    now: Millis,
    slot: &Slot,
    (missed, base, horizon): (Missed, Option<u64>, Stamp),
    quarantined: &mut quarantine::Gathered,
) -> Result<Option<State>, Fate> {
    let state = slot.now.as_ref().ok_or(Fate::Kept)?;
    if state.versions().iter().all(|sibling| sibling.version.stamp > horizon) {
        return Err(Fate::Kept);
    }
    let unchanged = base.is_some_and(|cut| slot.before_commit > 0 && slot.before_commit <= cut);
    match (missed.stands, dead(state)) {
        // It goes when the horizon is raised.
        (Stands::Alone, Some(_)) => Err(Fate::Kept),
        // The other side has something older, and would not store a tombstone from before its horizon.
        (_, Some(_)) => Ok(Some(anew(store, clock, now, slot, state))),
        (Stands::Alone, None) if unchanged => Ok(None),
        (Stands::Alone, None) if base.is_none() => {
            let held = state.clone();
            store
                .quarantine
                .take(quarantined, slot.collection, &slot.key, (Why::Stray, held))
                .map_err(Fate::Refused)?;
            Ok(None)
        }
        // What it has besides, the other side had too at the last receipt.
        (Stands::Beside, None) if unchanged && store.definition.keeps(slot.collection) == Keeps::All => {
            let later = |sibling: &&Sibling| sibling.version.stamp > horizon;
            let dots: Vec<_> = state.versions().iter().filter(later).map(|sibling| sibling.version.dot()).collect();
            Ok(state.only(&dots))
        }
        _ => Err(Fate::Kept),
    }
}
