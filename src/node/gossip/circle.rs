//! Who may know of whom: peers with a right on a dataset that is gossiped about know one another as far as they share one. Whoever
//! has none learns nothing, neither names nor addresses (M25).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reknit_core::message::Rights;
use reknit_core::{DatasetId, Definition};

use crate::node::{Home, HomeError};
use crate::transport::PeerId;

/// The datasets of each peer, of those that are gossiped about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Circle(BTreeMap<PeerId, BTreeSet<DatasetId>>);

impl Circle {
    /// By what a home grants now.
    pub(super) fn of(home: &Home, datasets: &[Arc<Definition>]) -> Result<Circle, HomeError> {
        let mut circle = Circle::default();
        for known in home.peers()? {
            let any = |of: &&Arc<Definition>| known.may.on(of).anywhere() != Rights::default();
            let has: BTreeSet<DatasetId> = datasets.iter().filter(any).map(|of| of.id).collect();
            if !has.is_empty() {
                circle.0.insert(known.peer, has);
            }
        }
        Ok(circle)
    }

    /// Whether a peer has any right on anything that is gossiped about.
    pub(super) fn has(&self, peer: PeerId) -> bool {
        self.0.contains_key(&peer)
    }

    /// All of them.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.0.keys().copied()
    }

    /// Whether two peers have a dataset in common.
    pub(super) fn share(&self, one: PeerId, other: PeerId) -> bool {
        let (one, other) = (self.0.get(&one), self.0.get(&other));
        one.zip(other).is_some_and(|(one, other)| !one.is_disjoint(other))
    }

    /// The datasets of a peer.
    pub(super) fn datasets(&self, peer: PeerId) -> Vec<DatasetId> {
        self.0.get(&peer).into_iter().flatten().copied().collect()
    }
}
