//! How far a home may collect tombstones: what its own receipts and those that members handed on show together.
//!
//! What follows from receipts is worked out in [`reknit_core::collect`]; who keeps them is said in [`super::receipts`].

use std::collections::BTreeMap;
use std::sync::Arc;

use reknit_core::Millis;
use reknit_core::collect::{self, Found, Known};
use reknit_core::life::{Life, Sighting};
use reknit_core::query::Cut;
use reknit_core::receipt::{Receipt, Seat};

use super::{Home, NodeError};
use crate::store::{Side, Store, StoreError};
use crate::transport::PeerId;

/// Receipts of the same two stores that are looked at: the newest.
const RECEIPTS_MAX: usize = 8;

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
        receipts.retain(|receipt| collect::counts(receipt, definition));
        let (info, cut) = (store.describe(), store.cut());
        // What this store was told before it was rolled back it need not have any more.
        let stands = |seat: &Seat| {
            let met = Sighting { nonce: seat.life.nonce, commit: seat.commit };
            Ok::<_, StoreError>(seat.life.actor != info.actor.0 || store.recalls(met)?)
        };
        let mut standing = Vec::new();
        for receipt in receipts {
            if stands(&receipt.opener)? && stands(&receipt.responder)? {
                standing.push(receipt);
            }
        }
        let standing = newest(standing);
        let life = Life { actor: info.actor.0, nonce: info.nonce };
        let (me, Cut { commit, stamp, undone, .. }) = (self.identity()?.peer().0, cut);
        let (members, receipts) = (members.as_slice(), standing.as_slice());
        Ok(collect::find(&Known { me, life, commit, stamp, undone, members, receipts, now, grace }))
    }
}

/// The newest of each two stores, of those whose signatures hold.
fn newest(mut receipts: Vec<Receipt>) -> Vec<Receipt> {
    receipts.sort_by_key(|receipt| std::cmp::Reverse((receipt.opener.commit, receipt.responder.commit)));
    receipts.dedup();
    let mut kept: BTreeMap<_, usize> = BTreeMap::new();
    receipts.retain(|receipt| {
        let [opener, responder] = [receipt.opener, receipt.responder].map(|seat| (seat.peer, seat.life.actor));
        let so_far = kept.entry((opener.min(responder), opener.max(responder))).or_default();
        let holds = *so_far < RECEIPTS_MAX
            && receipt.verify(|peer, statement, signature| PeerId(*peer).verify(statement, signature)).is_ok();
        *so_far += usize::from(holds);
        holds
    });
    receipts
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
