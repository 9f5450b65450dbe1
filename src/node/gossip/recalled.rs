//! What each store keeps of the peers that it met: read at the beginning, written as it changes.
//!
//! What is kept of a peer is decided in the core.

use std::time::{Duration, Instant};

use reknit_core::gossip::{Acquaintance, Acquaintances, Roster};

use super::Shared;
use crate::clock::now_ms;
use crate::store::{Store, StoreError};
use crate::transport::PeerId;

/// The note of a store that says whom it met.
const MET: &str = "met by gossip";
/// How old what is kept may be where nothing but the time has changed.
const AGE_MAX: Duration = Duration::from_secs(60);

/// Tells a roster whom the store has met before this node began, each by its newest key. What cannot be read counts for
/// nothing: it is known again after a session with each.
pub(super) fn recall(store: &Store, roster: &mut Roster<PeerId>, newest: impl Fn(PeerId) -> PeerId) {
    let kept = match store.fact(MET) {
        Ok(Some(bytes)) => Acquaintances::from_bytes(&bytes).map_err(|error| error.to_string()),
        Ok(None) => return,
        Err(error) => Err(error.to_string()),
    };
    match kept {
        Ok(kept) => {
            let now = now_ms();
            kept.0.into_iter().for_each(|(peer, kept)| roster.recall(newest(PeerId(peer)), kept, now));
        }
        Err(error) => {
            let dataset = &store.definition().name;
            tracing::warn!(dataset, error, "whom gossip has met before is not known any more");
        }
    }
}

/// What a store keeps, and since when it is so.
pub(super) struct Kept {
    all: Acquaintances,
    at: Instant,
}

impl Kept {
    /// What a store keeps at the beginning.
    pub(super) fn of(store: &Store, shared: &Shared) -> Kept {
        Kept { all: known(store, shared), at: Instant::now() }
    }

    /// Keeps what is known now, where that is another thing than what is kept: at once where somebody has come to be equal or to
    /// differ, else each minute, and at the end (`last`).
    pub(super) async fn update(&mut self, store: &Store, shared: &Shared, last: bool) {
        let all = known(store, shared);
        if all == self.all || !(last || self.at.elapsed() >= AGE_MAX || told(&all) != told(&self.all)) {
            return;
        }
        let (keeping, bytes) = (store.clone(), all.to_bytes());
        let kept = tokio::task::spawn_blocking(move || keeping.set_fact(MET, Some(bytes))).await;
        if let Err(error) = kept.unwrap_or_else(|panic| Err(StoreError::Panicked(panic.to_string()))) {
            let dataset = &store.definition().name;
            tracing::warn!(dataset, %error, "whom gossip has met is not kept");
        }
        (self.all, self.at) = (all, Instant::now());
    }
}

fn known(store: &Store, shared: &Shared) -> Acquaintances {
    let rosters = shared.rosters();
    let peers = rosters.get(&store.definition().id).into_iter().flat_map(Roster::peers);
    Acquaintances(peers.filter_map(|(peer, standing)| Some((peer.0, Acquaintance::of(standing)?))).collect())
}

/// What is said of each peer but for times that only grow.
fn told(all: &Acquaintances) -> Vec<([u8; 32], bool, Option<u64>)> {
    all.0.iter().map(|(peer, kept)| (*peer, kept.equal.is_some(), kept.since)).collect()
}

#[cfg(test)]
mod tests {
    use reknit_core::gossip::Met;
    use reknit_core::{DatasetId, DatasetKey, Definition};

    use super::*;
    use crate::store::Options;

    #[tokio::test]
    async fn what_cannot_be_read_counts_for_nothing_and_is_replaced() {
        let definition = Definition::simple(DatasetId([7; 16]), "notes");
        let store =
            Store::in_memory(definition, DatasetKey::from_bytes([9; 32]), &Options::default()).expect("a store");
        let (peer, shared) = (PeerId([3; 32]), Shared::default());
        let recalled = || {
            let mut roster = Roster::new(1);
            recall(&store, &mut roster, |peer| peer);
            roster
        };
        assert_eq!(recalled().peers().count(), 0);
        store.set_fact(MET, Some(b"anything".into())).expect("noted");
        assert_eq!(recalled().peers().count(), 0);
        shared.rosters().insert(store.definition().id, recalled());
        let mut kept = Kept::of(&store, &shared);
        let meet = |tick, met| {
            let mut rosters = shared.rosters();
            let roster = rosters.get_mut(&store.definition().id).expect("it is there");
            roster.up(peer);
            roster.met(peer, tick, tick, met);
        };
        let equal = || recalled().standing(peer).and_then(|standing| standing.equal);
        meet(10, Met::Equal);
        kept.update(&store, &shared, false).await;
        assert_eq!(equal(), Some(10));
        // Nothing but the time has changed: that is kept at the end, or after a minute.
        meet(20, Met::Equal);
        kept.update(&store, &shared, false).await;
        assert_eq!(equal(), Some(10));
        kept.update(&store, &shared, true).await;
        assert_eq!(equal(), Some(20));
        meet(30, Met::Differs(1));
        kept.update(&store, &shared, false).await;
        assert_eq!(recalled().standing(peer).and_then(|standing| standing.since), Some(30));
    }
}
