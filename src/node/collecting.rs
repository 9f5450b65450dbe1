//! How far a home may collect tombstones: what its own receipts and those that members handed on show together.
//!
//! What follows from receipts is worked out in [`reknit_core::collect`]; who keeps them is said in [`super::receipts`].

use std::sync::Arc;

use reknit_core::Millis;
use reknit_core::collect::{self, Found, Known};
use reknit_core::life::Life;
use reknit_core::query::Cut;
use reknit_core::receipt::Receipt;

use super::{Home, NodeError};
use crate::store::{Side, Store, StoreError};
use crate::transport::PeerId;

impl Home {
    /// Works out how far the tombstones of a store of this home may be collected, and who is waited for. Takes a look at the
    /// receipts of the dataset here, and at its members.
    ///
    /// # Errors
    /// [`StoreError::NoMembers`], or what the store or the home met.
    pub fn collectable(&self, store: &Store, now: Millis, grace: Millis) -> Result<Found, NodeError> {
        let members = store.members()?;
        let definition = store.definition();
        let mut receipts = self.receipts(definition.id)?;
        receipts.extend(store.forwarded()?);
        let (info, cut) = (store.describe(), store.cut());
        let holds = |receipt: &Receipt| {
            receipt.verify(|peer, statement, signature| PeerId(*peer).verify(statement, signature)).is_ok()
        };
        let standing = collect::standing(receipts, definition, info.actor.0, |met| store.recalls(met), holds)?;
        let life = Life { actor: info.actor.0, nonce: info.nonce };
        let (me, Cut { commit, stamp, undone, .. }) = (self.identity()?.peer().0, cut);
        let (members, receipts, caught_up) = (members.as_slice(), standing.as_slice(), store.caught_up_at());
        Ok(collect::find(&Known { me, life, commit, stamp, undone, caught_up, members, receipts, now, grace }))
    }
}

/// Hands a receipt on to members that were not there. The session stands without it.
pub(super) async fn forward(side: Arc<dyn Side>, receipt: &Receipt) {
    let receipt = receipt.clone();
    let done = tokio::task::spawn_blocking(move || side.forward(&receipt)).await;
    let done = done.unwrap_or_else(|panic| Err(StoreError::Panicked(panic.to_string())));
    if let Err(error) = done {
        tracing::warn!(%error, "the receipt of a session could not be handed on");
    }
}
