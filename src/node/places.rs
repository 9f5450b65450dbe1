//! Places for sessions that a node answers: so many at once, and no more than half of them for one peer.
//!
//! Who may have one at all is said elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::transport::PeerId;
use crate::transport::limits::{SESSIONS_MAX, SESSIONS_OF_PEER_MAX};

/// How many places each peer has taken.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<PeerId, usize>>>);

/// A place that is taken, until it is dropped.
pub(super) struct Place {
    of: Places,
    peer: PeerId,
}

impl Places {
    /// A place for a session with this peer, if there is one.
    pub(super) fn take(&self, peer: PeerId) -> Option<Place> {
        let mut taken = self.lock();
        let (all, own) = (taken.values().sum::<usize>(), taken.get(&peer).copied().unwrap_or_default());
        if all >= SESSIONS_MAX || own >= SESSIONS_OF_PEER_MAX {
            return None;
        }
        taken.insert(peer, own + 1);
        Some(Place { of: self.clone(), peer })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        if let Some(own) = taken.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_leaves_room_for_others() {
        let places = Places::default();
        let peer = |nth| PeerId([nth; 32]);
        let one: Vec<Place> = std::iter::from_fn(|| places.take(peer(1))).collect();
        assert_eq!(one.len(), SESSIONS_OF_PEER_MAX);
        let others: Vec<Place> = (2..=255).map_while(|nth| places.take(peer(nth))).collect();
        assert_eq!(others.len(), SESSIONS_MAX - SESSIONS_OF_PEER_MAX);
        drop(others);
        assert!(places.take(peer(1)).is_none() && places.take(peer(2)).is_some());
        drop(one);
        assert!(places.take(peer(1)).is_some() && places.lock().is_empty());
    }
}
