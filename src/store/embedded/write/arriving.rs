//! What a record from elsewhere makes of a key, or why the key stays as it is. Nothing is written here.

use reknit_core::bounds::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use reknit_core::planted::{Bug, planted};
use reknit_core::query::{Guard, Incoming, Overwrite, Replacement};
use reknit_core::{Clock, Content, Millis, Sibling, Stamp, State, Version};

use super::{Fate, Slot};
use crate::store::embedded::Inner;
use crate::store::embedded::planted::pairwise;
use crate::store::embedded::quarantine::{self, Why};
use crate::store::embedded::seen::Seen;

/// What a peer's record makes of a key, or why it stays as it is.
pub(super) fn receive(
    store: &Inner,
    clock: &mut Clock,
    now: Millis,
    slot: &Slot,
    incoming: Incoming,
    quarantined: &mut quarantine::Gathered,
) -> Result<State, Fate> {
    let Incoming { mut record, guard } = incoming;
    if guard == Guard::Bare && !record.dress(slot.now.as_ref(), &store.keys) {
        return Err(Fate::Moved);
    }
    let state = record.state;
    if let Err(reason) = storable(&slot.key, &state) {
        return Err(Fate::Refused(reason));
    }
    if slot.now.as_ref() == Some(&state) {
        return Err(Fate::Kept);
    }
    let newest = state.winner().version.stamp;
    let ahead = newest.millis() > now.saturating_add(store.clock_bound);
    // What readers here still see has expired for a peer whose clock is far ahead: it waits until it does here.
    let expired = state.versions().iter().filter(|sibling| sibling.has_expired()).filter_map(|sibling| sibling.expires);
    let early = expired.max().filter(|expires| *expires > store.expires_until(now));
    let held = (ahead || early.is_some()).then(|| state.clone());
    let next = match (guard, &slot.now) {
        (Guard::Join | Guard::Bare, Some(mine)) => {
            mine.join(&state, store.definition.keeps(slot.collection), &store.keys)
        }
        (Guard::Join | Guard::Bare, None) => state,
        (Guard::IfShort(compared), _) if compared == slot.now_digest.map(|digest| digest.short()) => state,
        (Guard::IfShort(_), _) => return Err(Fate::Moved),
    };
    let next = if planted(Bug::PolicyJudgedPairwise) { pairwise(store, slot.collection, next) } else { next };
    if slot.now.as_ref() == Some(&next) {
        return Err(Fate::Kept);
    }
    joinable(slot, &next).map_err(Fate::Refused)?;
    let followed = match early {
        Some(expires) => Err(format!("by the clock here it expires in {} ms, by the peer's it has", expires - now)),
        None => clock.observe(newest, now, store.clock_bound).map_err(|too_far| too_far.to_string()),
    };
    if let Err(too_far) = followed {
        let Some(held) = held else { return Err(Fate::Refused(too_far)) };
        let taken = store.quarantine.take(quarantined, slot.collection, &slot.key, (Why::Ahead, held));
        if !planted(Bug::QuarantinedRecordApplied) {
            return Err(Fate::Refused(match taken {
                Ok(()) => format!("{too_far}; it is in quarantine"),
                Err(full) => format!("{too_far}; {full}, so it was left with the peer"),
            }));
        }
    }
    Ok(if planted(Bug::EchoRestamped) { anew(store, clock, now, slot, &next) } else { next })
}

/// The new version that supersedes what a key has and what was seen elsewhere, or why there is none.
pub(super) fn supersede(
    store: &Inner,
    clock: &mut Clock,
    now: Millis,
    slot: &Slot,
    overwrite: Overwrite,
) -> Result<State, Fate> {
    if overwrite.expected != slot.now_digest.map(|digest| digest.short()) {
        return Err(Fate::Moved);
    }
    let held = slot.now.as_ref().map(|state| store.seen(slot.collection, state));
    let (content, expires) = match overwrite.content {
        Replacement::Keep => held.map_or((Content::Tombstone, None), Seen::written),
        Replacement::Delete => (Content::Tombstone, None),
        Replacement::Take(value, expires) => (Content::Live(value), expires),
        Replacement::Shown(state) => store.seen(slot.collection, &state).written(),
    };
    for version in &overwrite.seen {
        clock.observe(version.stamp, now, store.clock_bound).map_err(|too_far| Fate::Refused(too_far.to_string()))?;
    }
    let version = own_version(store, clock, now, slot.now.as_ref(), &overwrite.seen);
    let state = State::single(Sibling { version, content, expires });
    storable(&slot.key, &state).map_err(Fate::Refused)?;
    Ok(state)
}

/// What readers see of a state, under a version of this store's own that has seen all of it.
pub(super) fn anew(store: &Inner, clock: &mut Clock, now: Millis, slot: &Slot, state: &State) -> State {
    let version = own_version(store, clock, now, Some(state), &[]);
    let (content, expires) = store.seen(slot.collection, state).written();
    State::single(Sibling { version, content, expires })
}

/// A version of this store's that has seen all versions of a key, and others. Its stamp is greater than theirs, also where
/// one was accepted from so far ahead that the clock did not follow: that a version has seen another shows in their stamps.
pub(super) fn own_version(
    store: &Inner,
    clock: &mut Clock,
    now: Millis,
    held: Option<&State>,
    others: &[Version],
) -> Version {
    // What an earlier life wrote is not seen as its own, also where it has not been given to this one yet.
    let renewed = held.and_then(|held| store.lives.renewal().and_then(|renewal| renewal.of(held)));
    let held = renewed.as_ref().or(held);
    let replaced = || held.into_iter().flat_map(State::versions).map(|sibling| &sibling.version).chain(others);
    let beyond = replaced().map(|version| Stamp(version.stamp.0.saturating_add(1))).max().unwrap_or_default();
    Version::after(clock.next(now).max(beyond), store.lives.actor(), replaced())
}

/// Whether what joining makes of a key is within the bounds of a store, or no further beyond than what is there. Versions that
/// are stored side by side travel together.
pub(super) fn joinable(slot: &Slot, next: &State) -> Result<(), String> {
    match &slot.now {
        Some(mine) if live_bytes(next) <= live_bytes(mine) => Ok(()),
        _ => storable(&slot.key, next),
    }
}

fn live_bytes(state: &State) -> usize {
    let bytes = |sibling: &Sibling| if let Content::Live(value) = &sibling.content { value.len() } else { 0 };
    state.versions().iter().map(bytes).sum()
}

/// Whether a record is within the bounds of a store, or why not.
fn storable(key: &[u8], state: &State) -> Result<(), String> {
    if key.len() > KEY_BYTES_MAX {
        return Err(format!("its key has {} bytes, at most {KEY_BYTES_MAX} are allowed", key.len()));
    }
    let all = live_bytes(state);
    match state.versions().len() {
        _ if all <= VALUE_BYTES_MAX => Ok(()),
        1 => Err(format!("its value has {all} bytes, at most {VALUE_BYTES_MAX} are allowed")),
        n => Err(format!(
            "its {n} versions have {all} bytes together, at most {VALUE_BYTES_MAX} are allowed: settle which of them is to stay"
        )),
    }
}
