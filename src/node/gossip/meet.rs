//! Sessions with one peer after the other, as the roster says.

use std::sync::Arc;

use reknit_core::gossip::Met;
use reknit_core::message::Rights;
use reknit_core::session::{Direction, Intent, Options, Verdict};
use tokio::sync::watch;

use super::{GossipOptions, Shared};
use crate::node::serve::now;
use crate::node::{Budget, Grants, Node, NodeError};
use crate::store::Store;
use crate::transport::{Address, PeerId};

/// Meets peers until it is stopped.
pub(super) async fn keep(
    node: Node,
    store: Store,
    shared: Arc<Shared>,
    options: GossipOptions,
    mut stop: watch::Receiver<bool>,
) {
    let id = store.definition().id;
    loop {
        tokio::select! {
            () = tokio::time::sleep(options.every) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let next = shared.rosters().get_mut(&id).and_then(|roster| roster.next(now()));
        let Some(peer) = next else { continue };
        let Some(at) = shared.up().get(&peer).copied() else { continue };
        let dataset = store.definition().name.clone();
        let address = Address { peer, host: at.ip().to_string(), port: at.port(), dataset };
        let met = meet(&node, &store, &address, &options, stop.clone()).await;
        if let (Met::Equal, Some(withheld)) = (met, shared.withheld().get_mut(&id)) {
            withheld.clear();
        }
        if let Some(roster) = shared.rosters().get_mut(&id) {
            roster.met(peer, now(), met);
            tell(roster.standing(peer).is_some_and(reknit_core::gossip::Standing::is_stalled), peer, &address.dataset);
        }
    }
}

fn tell(stalled: bool, peer: PeerId, dataset: &str) {
    if stalled {
        tracing::warn!(peer = %peer.short(), dataset, "as much differs after each session as before; it is met less often");
    }
}

async fn meet(
    node: &Node,
    store: &Store,
    address: &Address,
    options: &GossipOptions,
    stop: watch::Receiver<bool>,
) -> Met {
    let intent = if options.repair { Intent::Repair(Direction::Both) } else { Intent::Check };
    let side = Arc::new(store.clone());
    let definition = store.definition().clone();
    let known = |grants: &Grants| grants.on(&definition).anywhere() != Rights::default();
    let lost = node.rights().lost(node.rights().changes(), address.peer, known);
    let mut deaf = |_| {};
    // What may not be pushed is not brought by a session either that nobody asked for.
    let asked = Options { brakes: Some(options.brakes.brakes), ..Options::new(intent) };
    let session = node.session(address, side, asked, Budget::default(), stop, &mut deaf);
    let session = tokio::select! {
        session = session => session,
        () = lost => Err(NodeError::TakenAway),
    };
    match session {
        Ok(report) => match report.outcome.verdict {
            Verdict::InSync | Verdict::Converged => Met::Equal,
            Verdict::Differs => Met::Differs(report.outcome.counts.differences().max(1)),
            Verdict::Refused => {
                tracing::warn!(peer = %address.peer.short(), dataset = definition.name, reason = report.outcome.reason, "a session was refused");
                Met::Failed
            }
            _ => Met::Failed,
        },
        Err(error) => {
            tracing::debug!(peer = %address.peer.short(), %error, "no session");
            Met::Failed
        }
    }
}
