//! What the store does where a bug is planted ([`reknit_core::planted`]); without that feature nothing of it is ever called.
//! Where that is, each place says in a line.

use reknit_core::policy::Judgement;
use reknit_core::{CollectionId, State};

use super::Inner;

/// The version that the policy shows, as if it had been asked about two that just met.
pub(super) fn pairwise(store: &Inner, collection: CollectionId, state: State) -> State {
    match store.judge(collection, &state) {
        Judgement::Version(nth) => State::single(state.versions()[nth].clone()),
        _ => state,
    }
}
