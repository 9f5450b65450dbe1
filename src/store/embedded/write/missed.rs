//! What becomes of tombstones at a horizon, and of what a store holds that missed one. Nothing is written here.

use reknit_core::record::Dot;
use reknit_core::{Clock, Keeps, Millis, Stamp, State};

use super::arriving::anew;
use super::{Fate, Slot, digested};
use crate::store::embedded::Inner;
use crate::store::embedded::collecting::{dead, parted};
use crate::store::embedded::quarantine::{self, Why};
use crate::store::{Missed, Stands};

/// Of at most so many versions of a key it is found out which of them the other side has: the choices double with each.
const SHARED_AMONG_MAX: usize = 6;

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
    let there =
        if keeps == Keeps::All && dead.is_none() { shared(store, slot, state, missed.there) } else { Vec::new() };
    let (old, later) =
        parted(state, |sibling| sibling.version.stamp <= horizon && !there.contains(&sibling.version.dot()));
    let Some(old) = old else { return Err(Fate::Kept) };
    let unchanged = base.is_some_and(|cut| slot.before_commit > 0 && slot.before_commit <= cut);
    // What others wrote and this store was given since, without a receipt, may have been deleted meanwhile too.
    let foreign = old.versions().iter().any(|sibling| sibling.version.actor != store.lives.actor());
    // Where only the newest is kept nothing else is to be judged: what is older goes by itself.
    let judged = missed.stands != Stands::Beside || keeps == Keeps::All;
    match (missed.stands, dead) {
        // It goes when the horizon is raised, unless it was written since the other side was seen last.
        (Stands::Alone, Some(since)) if since <= horizon && (base.is_none() || unchanged) => Err(Fate::Kept),
        // It expires later than that: whatever replaced it was collected.
        (Stands::Alone, Some(_)) if unchanged => Ok(later),
        // The other side has something older, or would not store a tombstone from before its horizon.
        (_, Some(_)) => Ok(Some(anew(store, clock, now, slot, state))),
        // The other side had it and has it no more, also where something older has come there since from a third.
        (_, None) if unchanged && judged => Ok(later),
        (_, None) if (base.is_none() || foreign) && judged => apart(store, slot, (old, later), quarantined),
        _ => Err(Fate::Kept),
    }
}

/// The versions that the other side has too: they are not judged, or a copy would go that somebody counts on. A side that has
/// taken all holds the versions that make the entry there among its own; of many it is not found out which they are.
fn shared(store: &Inner, slot: &Slot, state: &State, there: Option<u64>) -> Vec<Dot> {
    let (Some(there), all) = (there, state.versions()) else { return Vec::new() };
    if all.len() > SHARED_AMONG_MAX {
        return Vec::new();
    }
    let some = |which: u32| -> Vec<Dot> {
        let chosen = all.iter().enumerate().filter(|(nth, _)| which >> nth & 1 == 1);
        chosen.map(|(_, sibling)| sibling.version.dot()).collect()
    };
    let makes_it = |dots: &Vec<Dot>| {
        let digest = state.only(dots).and_then(|state| digested(store, slot.collection, &slot.key, state).1);
        digest.is_some_and(|digest| digest.short() == there)
    };
    (1..1 << all.len()).map(some).find(makes_it).unwrap_or_default()
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
