//! What a record that leaves quarantine makes of its key, if there is room for what readers lose by it, and of its row there.

use reknit_core::brakes::Losses;
use reknit_core::{Clock, Millis, State};

use super::arriving::{anew, joinable};
use super::{Fate, Slot};
use crate::store::embedded::Inner;
use crate::store::embedded::quarantine::{Leaving, Release, Why};
use crate::store::engine::Batch;

/// What a record makes of its key; none where it was not there, or stays. What readers lose by it is added to what they lost.
pub(super) fn leave(
    store: &Inner,
    (clock, now): (&mut Clock, Millis),
    slot: &Slot,
    (how, leaving, room): (Release, Option<Leaving>, Option<Losses>),
    (lost, batch): (&mut Losses, &mut Batch),
) -> Result<State, Fate> {
    let mut leaving = leaving.ok_or(Fate::Moved)?;
    let Some(held) = leaving.state.take() else {
        leaving.stage(store, batch);
        return Err(Fate::Moved);
    };
    let stray = leaving.why == Why::Stray && how == Release::Accept;
    let held = if stray { anew(store, clock, now, slot, &held) } else { held };
    let next = match (&slot.now, how) {
        (_, Release::Drop) => None,
        (Some(mine), _) => Some(mine.join(&held, store.definition.keeps(slot.collection), &store.keys)),
        (None, _) => Some(held),
    };
    let Some(next) = next.filter(|next| slot.now.as_ref() != Some(next)) else {
        leaving.stage(store, batch);
        return Err(Fate::Kept);
    };
    joinable(slot, &next).map_err(Fate::Refused)?;
    let mut losses = Losses::default();
    losses.add(store.lost(slot.collection, slot.now.as_ref(), Some(&next)));
    if room.is_some_and(|room| !losses.within(&room.without(*lost))) {
        return Err(Fate::Refused("more would be lost than may be".into()));
    }
    *lost = lost.and(losses);
    leaving.stage(store, batch);
    // One that was accepted from further away is not followed.
    let _ = clock.observe(next.winner().version.stamp, now, store.clock_bound);
    Ok(next)
}
