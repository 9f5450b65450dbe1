//! Who may know of whom: peers with a right on a dataset that is gossiped about know one another as far as they share one. Whoever
//! has none learns nothing, neither names nor addresses (M25).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reknit_core::message::Rights;
use reknit_core::succession::Lines;
use reknit_core::{DatasetId, Definition};

use crate::clock::now_ms;
use crate::node::home::beside;
use crate::node::{Authority, Grants, Home, HomeError, KnownPeer};
use crate::transport::PeerId;

/// The datasets of each peer, of those that are gossiped about.
#[derive(Clone, Default)]
pub(super) struct Circle {
    /// Of those that are in the file of peers, with what that grants.
    known: BTreeMap<PeerId, (BTreeSet<DatasetId>, Grants)>,
    /// Which keys are one peer.
    lines: Lines,
    /// Who decides on others, where somebody does.
    others: Option<(Authority, Vec<Arc<Definition>>)>,
}

impl Circle {
    /// By what a home grants now.
    pub(super) fn of(home: &Home, datasets: &[Arc<Definition>]) -> Result<Circle, HomeError> {
        let of = |known: KnownPeer| (known.peer, (granted(&known.may, datasets), known.may));
        let known = home.admitted()?.into_iter().map(of).collect();
        let lines = home.lines()?;
        Ok(Circle { known, lines, others: home.authority().map(|authority| (authority, datasets.to_vec())) })
    }

    /// Which keys are one peer.
    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Whether a peer has any right on anything that is gossiped about.
    pub(super) fn has(&self, peer: PeerId) -> bool {
        !self.of_peer(peer).is_empty()
    }

    /// All that are in the file of peers and have one.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.known.iter().filter(|(_, (has, _))| !has.is_empty()).map(|(peer, _)| *peer)
    }

    /// Whether two peers have a dataset in common.
    pub(super) fn share(&self, one: PeerId, other: PeerId) -> bool {
        !self.of_peer(one).is_disjoint(&self.of_peer(other))
    }

    /// The datasets of a peer.
    pub(super) fn datasets(&self, peer: PeerId) -> Vec<DatasetId> {
        self.of_peer(peer).iter().copied().collect()
    }

    fn of_peer(&self, peer: PeerId) -> Cow<'_, BTreeSet<DatasetId>> {
        let known = self.known.get(&peer);
        let Some((authority, of)) = &self.others else {
            return known.map_or_else(Cow::default, |(has, _)| Cow::Borrowed(has));
        };
        if self.lines.ended(&peer.0, now_ms()) {
            return Cow::default();
        }
        let may = beside(known.map(|(_, may)| may.clone()), authority(peer));
        Cow::Owned(may.map(|may| granted(&may, of)).unwrap_or_default())
    }
}

fn granted(may: &Grants, datasets: &[Arc<Definition>]) -> BTreeSet<DatasetId> {
    let any = |of: &&Arc<Definition>| may.on(of).anywhere() != Rights::default();
    datasets.iter().filter(any).map(|of| of.id).collect()
}
