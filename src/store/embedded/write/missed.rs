//! What becomes of tombstones at a horizon, and of what a store holds that missed one. Nothing is written here.

use reknit_core::record::Dot;
use reknit_core::{Clock, Keeps, Millis, Stamp, State};

use super::arriving::anew;
use super::{Fate, Slot};
use crate::store::embedded::Inner;
use crate::store::embedded::collecting::{dead, parted};
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
    // Whoever has collected as far meanwhile has nothing to catch up with.
    let behind = store.collecting.stamp() < horizon;
    let state = slot.now.as_ref().filter(|_| behind).ok_or(Fate::Kept)?;
    let dead = dead(state);
    let keeps = store.definition.keeps(slot.collection);
    // Versions that the other side has too are not judged, or a copy would go that somebody counts on.
    let shared = |dot: &Dot| dead.is_none() && missed.shared.contains(dot);
    let (old, later) = parted(state, |sibling| sibling.version.stamp <= horizon && !shared(&sibling.version.dot()));
    let Some(old) = old else { return Err(Fate::Kept) };
    let unchanged = base.is_some_and(|cut| slot.before_commit > 0 && slot.before_commit <= cut);
    // What others wrote and this store was given since, without a receipt, may have been deleted meanwhile too.
    let foreign = old.versions().iter().any(|sibling| sibling.version.actor != store.lives.actor());
    let newer_there = match missed.stands {
        Stands::Below => true,
        Stands::Beside => keeps == Keeps::Newest,
        Stands::Alone | Stands::Above => false,
    };
    match (missed.stands, dead) {
        // Collected here when the horizon is raised, or replaced: a deletion that was written anew would win over it.
        (_, Some(_)) if newer_there => Err(Fate::Kept),
        // It goes when the horizon is raised, unless it was written since the other side was seen last.
        (Stands::Alone, Some(since)) if since <= horizon && (base.is_none() || unchanged) => Err(Fate::Kept),
        // It expires later than that: whatever replaced it was collected.
        (Stands::Alone, Some(_)) if unchanged => Ok(later),
        // The other side has something older, or would not store a tombstone from before its horizon.
        (_, Some(_)) => Ok(Some(anew(store, clock, now, slot, state))),
        // The other side had it and has it no more, also where something older has come there since from a third. What is
        // newer there may never come, and that must not leave here what it or an earlier deletion had replaced.
        (_, None) if unchanged => Ok(later),
        (_, None) if base.is_none() || foreign => apart(store, slot, (old, later), quarantined),
        _ => Err(Fate::Kept),
    }
}

/// Sets the versions apart of which no receipt tells whether they were deleted.
fn apart(
    store: &Inner,
    slot: &Slot,
    (old, later): (State, Option<State>),
    quarantined: &mut quarantine::Gathered,
) -> Result<Option<State>, Fate> {
    store.quarantine.take(quarantined, slot.collection, &slot.key, (Why::Stray, old)).map_err(Fate::Refused)?;
    Ok(later)
}
