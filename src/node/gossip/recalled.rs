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

/// Tells a roster whom the store has met before this node began, each by its newest key; gives what is kept. What cannot be
/// read counts for nothing: it is known again after a session with each.
pub(super) fn recall(store: &Store, roster: &mut Roster<PeerId>, newest: impl Fn(PeerId) -> PeerId) -> Kept {
    let all = read(store).unwrap_or_else(|error| {
        let dataset = &store.definition().name;
        tracing::warn!(dataset, error, "whom gossip has met before is not known any more");
        Acquaintances::default()
    });
    let now = now_ms();
    let known = all.0.iter().map(|(peer, kept)| (PeerId(*peer), *kept));
    // What is kept of the newest key goes before what is of earlier ones.
    let (newer, older): (Vec<_>, Vec<_>) = known.partition(|(peer, _)| newest(*peer) == *peer);
    newer.into_iter().chain(older).for_each(|(peer, kept)| roster.recall(newest(peer), kept, now));
    Kept { all, at: Instant::now() }
}

/// What a store keeps; nothing in another life, which has met nobody.
fn read(store: &Store) -> Result<Acquaintances, String> {
    let Some(bytes) = store.fact(MET).map_err(|error| error.to_string())? else { return Ok(Acquaintances::default()) };
    match bytes.split_first_chunk() {
        Some((actor, kept)) if u64::from_be_bytes(*actor) == store.actor().0 => {
            Acquaintances::from_bytes(kept).map_err(|error| error.to_string())
        }
        Some(_) => Ok(Acquaintances::default()),
        None => Err("it is cut short".into()),
    }
}

/// What a store keeps, and since when it is so.
pub(super) struct Kept {
    all: Acquaintances,
    at: Instant,
}

impl Kept {
    /// Keeps what is known now, where that is another thing than what is kept: at once where somebody has come to be equal or to
    /// differ, else each minute, and at the end (`last`).
    pub(super) async fn update(&mut self, store: &Store, shared: &Shared, last: bool) {
        let all = known(store, shared);
        if all == self.all || !(last || self.at.elapsed() >= AGE_MAX || told(&all) != told(&self.all)) {
            return;
        }
        let (keeping, actor) = (store.clone(), store.actor().0.to_be_bytes());
        let bytes = [&actor[..], &all.to_bytes()].concat();
        let kept = tokio::task::spawn_blocking(move || keeping.set_fact(MET, Some(bytes))).await;
        if let Err(error) = kept.unwrap_or_else(|panic| Err(StoreError::Panicked(panic.to_string()))) {
            let dataset = &store.definition().name;
            tracing::warn!(dataset, %error, "whom gossip has met is not kept");
            return;
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
        let (earlier, another) = (PeerId([2; 32]), PeerId([9; 32]));
        let newest = |of: PeerId| if of == earlier || of == another { peer } else { of };
        let recalled = || {
            let mut roster = Roster::new(1);
            recall(&store, &mut roster, newest);
            roster
        };
        assert_eq!(recalled().peers().count(), 0);
        let actor = store.actor().0;
        for damaged in [b"short".to_vec(), [&actor.to_be_bytes()[..], b"anything"].concat()] {
            store.set_fact(MET, Some(damaged)).expect("noted");
            assert_eq!(recalled().peers().count(), 0);
        }
        let met = |at| Acquaintance { first: at, checked: Some(at), equal: Some(at), since: None, left: 0 };
        let all = Acquaintances([(earlier.0, met(1)), (peer.0, met(2)), (another.0, met(3))].into()).to_bytes();
        // In another life it has met nobody.
        store.set_fact(MET, Some([&(actor ^ 1).to_be_bytes()[..], &all].concat())).expect("noted");
        assert_eq!(recalled().peers().count(), 0);
        // Three keys are one peer, which is known by its newest, and was equal when one of them was last.
        store.set_fact(MET, Some([&actor.to_be_bytes()[..], &all].concat())).expect("noted");
        let known: Vec<_> = recalled().peers().map(|(peer, standing)| (peer, standing.equal)).collect();
        assert_eq!(known, [(peer, Some(3))]);
        store.set_fact(MET, None).expect("noted");
        let mut roster = Roster::new(1);
        let mut kept = recall(&store, &mut roster, newest);
        shared.rosters().insert(store.definition().id, roster);
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
