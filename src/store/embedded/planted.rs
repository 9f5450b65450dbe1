//! What the store does where a bug is planted ([`reknit_core::planted`]); without that feature nothing of it is ever called.
//! Where that is, each place says in a line.

use reknit_core::policy::Judgement;
use reknit_core::{Clock, CollectionId, Millis, Sibling, State, Version};

use super::Inner;

/// The version that the policy shows, as if it had been asked about two that just met.
pub(super) fn pairwise(store: &Inner, collection: CollectionId, state: State) -> State {
    match store.judge(collection, &state) {
        Judgement::Version(nth) => State::single(state.versions()[nth].clone()),
        _ => state,
    }
}

/// The same content under a version of this store's own.
pub(super) fn restamped(store: &Inner, clock: &mut Clock, now: Millis, state: &State) -> State {
    let seen = state.versions().iter().map(|sibling| &sibling.version);
    let version = Version::after(clock.next(now), store.lives.actor(), seen);
    State::single(Sibling { version, ..state.winner().clone() })
}
