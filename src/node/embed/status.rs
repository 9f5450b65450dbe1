//! What there is to see of an embedded node at one moment.

use std::net::SocketAddr;

use reknit_core::Millis;
use reknit_core::tree::Summary;

use super::{EmbedError, Running, blocking};
use crate::store::Stats;
use crate::transport::PeerId;

/// An embedded node at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who it is.
    pub peer: PeerId,
    /// Where it is bound; none while it is suspended.
    pub listening: Option<SocketAddr>,
    /// Peers that are up, as far as its gossip knows.
    pub up: Vec<(PeerId, SocketAddr)>,
    /// Its datasets, by name.
    pub datasets: Vec<DatasetStatus>,
}

/// A dataset of an embedded node.
#[derive(Clone, Debug)]
pub struct DatasetStatus {
    /// Its name.
    pub name: String,
    /// The root of its records: with equal roots two replicas are equal.
    pub root: Summary,
    /// Its store in numbers; none of a store of the program's own.
    pub stats: Option<Stats>,
    /// Records that gossip would have brought and that are withheld, since too much would have been lost by them
    /// ([`crate::node::GossipOptions::brakes`]); a session within the program's own brakes settles them.
    pub withheld: usize,
    /// What gossip knows of each peer.
    pub peers: Vec<PeerStatus>,
}

/// A peer of a dataset, as its store remembers it from gossip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub peer: PeerId,
    /// Whether it is up.
    pub up: bool,
    /// When a session that gossip held with it last had a verdict, in milliseconds since the Unix epoch.
    pub checked: Option<Millis>,
    /// When both sides were last proven equal.
    pub equal: Option<Millis>,
    /// Differences that the last session left.
    pub left: u64,
    /// Sessions in a row, up to the last, that had no verdict.
    pub fails: u32,
    /// Why the last one had none.
    pub why: Option<String>,
}

impl Running {
    /// What there is to see. Costs a look at the sizes of files.
    ///
    /// # Errors
    /// [`EmbedError::Ended`], or a store's files cannot be looked at.
    pub async fn status(&self) -> Result<Status, EmbedError> {
        self.alive()?;
        let (gossip, listening, stores) = {
            let state = self.state();
            let stores: Vec<_> = state.stores.iter().map(|(name, kept)| (name.clone(), kept.store.clone())).collect();
            let gossip = state.live.as_ref().and_then(|live| live.gossip.clone());
            (gossip, state.live.as_ref().and(state.bound), stores)
        };
        let (peer, sides) = (self.peer(), self.shared.sides.clone());
        blocking(move || {
            let up = gossip.iter().flat_map(|gossip| gossip.neighbours()).map(|near| (near.peer, near.at)).collect();
            let datasets = stores.into_iter().map(|(name, store)| {
                let id = store.definition().id;
                let known = gossip.iter().flat_map(|gossip| gossip.standings(id));
                let peers = known.map(|(peer, standing)| PeerStatus {
                    peer,
                    up: standing.up,
                    checked: standing.checked,
                    equal: standing.equal,
                    left: standing.left,
                    fails: standing.fails,
                    why: gossip.as_ref().and_then(|gossip| gossip.failure(id, peer)),
                });
                let withheld = gossip.as_ref().map_or(0, |gossip| gossip.withheld(id).0);
                let (root, stats) = (store.root(), Some(store.stats()?));
                Ok(DatasetStatus { name, root, stats, withheld, peers: peers.collect() })
            });
            let sides = sides.into_iter().map(|(name, side)| {
                let (info, roots) = (side.describe(), side.cut()?.roots);
                let root = info.definition.data_root(&info.keys, &roots);
                Ok(DatasetStatus { name, root, stats: None, withheld: 0, peers: Vec::new() })
            });
            let mut datasets = datasets.chain(sides).collect::<Result<Vec<_>, EmbedError>>()?;
            datasets.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(Status { peer, listening, up, datasets })
        })
        .await
    }
}
