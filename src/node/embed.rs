//! A node within a program, which lives on the program's runtime: stores, peers and gossip behind one handle.
//!
//! How sessions, gossip and stores work is theirs; here they are begun together, suspended together and ended together.
//!
//! ```
//! use reknit::core::message::Rights;
//! use reknit::node::Node;
//! use std::time::Duration;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let desk = Node::builder().dataset("todo", ["items"]).start().await?;
//! desk.put("todo/items", b"milk", b"two bottles").await?;
//! let ticket = desk.invite("todo", Rights::ALL, Duration::from_secs(60)).await?;
//!
//! let phone = Node::builder().start().await?;
//! let at = phone.join(&ticket).await?;
//! phone.sync_at(&at).await?;
//! assert_eq!(phone.get("todo/items", b"milk").await?, Some(b"two bottles".to_vec()));
//! phone.shutdown().await?;
//! desk.shutdown().await?;
//! # Ok::<(), reknit::node::embed::EmbedError>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builder;
mod changes;
mod error;
mod jobs;
mod peers;
mod records;
mod status;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use builder::{Builder, Keychain};
pub use changes::{Change, Watch};
pub use error::EmbedError;
pub use jobs::Job;
pub use records::{Record, Typed, TypedChange, TypedWatch};
pub use status::{DatasetStatus, PeerStatus, Status};

use super::{
    Gossip, GossipOptions, Home, Neighbour, Node, NodeBrakes, NodeError, NodeOptions, Served, Windows, member_of,
};
use crate::store::{Options, Side, Store, StoreError};
use crate::transport::{Address, Identity, Network, PeerId, RateLimits, TransportError};

/// The note of a store that says who was last up, each in a line.
const NEAR: &str = "near";
/// How often it is looked whether that has changed.
const NEAR_LOOK: Duration = Duration::from_secs(1);
/// A note is written no sooner than so long after the last.
const NEAR_PAUSE: Duration = Duration::from_secs(10);
/// How long what was let go of may take until it is gone.
const LET_GO_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(5);

/// A node that runs in this program; made by [`Node::builder`]. Cloning gives another handle.
///
/// Methods that touch a store run it off the async threads. When the last handle is dropped the node ends, without anybody
/// waiting for that: a program ends it with [`Running::shutdown`].
#[derive(Clone)]
pub struct Running {
    shared: Arc<Shared>,
}

struct Shared {
    home: Home,
    on_disk: bool,
    identity: Arc<Identity>,
    network: Arc<dyn Network>,
    listen: SocketAddr,
    advertise: Option<SocketAddr>,
    gossip: Option<GossipOptions>,
    brakes: NodeBrakes,
    rate_limits: Arc<RateLimits>,
    /// They outlast the network, which ends and begins again.
    windows: Arc<Windows>,
    options: Options,
    /// Stores of the program's own, by the names of their datasets.
    sides: BTreeMap<String, Arc<dyn Side>>,
    /// Names of the datasets, for whoever decides on rights.
    names: Arc<RwLock<Vec<String>>>,
    state: Mutex<State>,
    jobs: jobs::Jobs,
    /// Sessions share it; who begins or ends the network has it alone.
    turn: tokio::sync::RwLock<()>,
    runtime: tokio::runtime::Handle,
    /// Whether the node has ended, for those who watch.
    ended: watch::Sender<bool>,
    /// Its directory is held for this node, until all above is gone.
    held: Mutex<Option<std::fs::File>>,
}

#[derive(Default)]
struct State {
    stores: BTreeMap<String, Kept>,
    /// Where those are who invited this node, and what it was told to join by.
    seeds: Vec<Address>,
    /// Where those were who were last up.
    near: Vec<Address>,
    /// Where it was bound first: whoever has a ticket finds it there after a pause.
    bound: Option<SocketAddr>,
    live: Option<Live>,
}

struct Kept {
    store: Store,
    /// Whether it was opened here, and is closed here.
    own: bool,
}

/// The network of a node that is not suspended.
struct Live {
    node: Node,
    gossip: Option<Gossip>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<Result<(), NodeError>>,
}

impl Node {
    /// Describes a node that is to run in this program.
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("peer", &self.peer()).field("at", &self.local_addr()).finish_non_exhaustive()
    }
}

impl Running {
    /// Who this node is.
    pub fn peer(&self) -> PeerId {
        self.shared.identity.peer()
    }

    /// Where it is bound, or was before it was suspended.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.state().bound
    }

    /// Ends the sessions under way with what they have, leaves the gossip and closes the socket, so that nothing comes about
    /// until [`Running::resume`]. Records can be read, written and watched meanwhile. Takes some seconds at most.
    ///
    /// # Errors
    /// [`EmbedError::Ended`] after the end.
    pub async fn suspend(&self) -> Result<(), EmbedError> {
        self.alive()?;
        let _turn = self.stopped().await;
        self.end_network().await;
        Ok(())
    }

    /// Binds the same address again and goes on. Nothing happens to a node that is not suspended.
    ///
    /// # Errors
    /// [`EmbedError::Node`] if the address was taken meanwhile; the node then stays suspended.
    pub async fn resume(&self) -> Result<(), EmbedError> {
        let _turn = self.shared.turn.write().await;
        self.alive()?;
        // A pause that nobody waited for to its end is ended here.
        if self.state().live.as_ref().is_some_and(|live| *live.stop.borrow()) {
            self.end_network().await;
        }
        if self.state().live.is_none() {
            self.begin_network().await?;
        }
        self.shared.jobs.wake();
        Ok(())
    }

    /// Ends the node: sessions end with what they have, watchers see their end, and the stores that it opened are closed.
    /// Nothing of it is left when this returns, though the system may hold its address for a moment. All handles are then of no
    /// use. Once more does nothing.
    ///
    /// # Errors
    /// [`EmbedError::StillHeld`] where a store is in use for longer than 5 s after all else has ended.
    pub async fn shutdown(&self) -> Result<(), EmbedError> {
        let _turn = self.stopped().await;
        self.shared.ended.send_replace(true);
        self.end_network().await;
        let stores = std::mem::take(&mut self.state().stores);
        let mut still = None;
        for (name, kept) in stores.into_iter().filter(|(_, kept)| kept.own) {
            if !within(LET_GO_MAX, || kept.store.handles() == 1).await {
                still = Some(name);
            }
            // Closing an engine may write.
            drop(tokio::task::spawn_blocking(move || drop(kept)).await);
        }
        drop(self.shared.held.lock().unwrap_or_else(PoisonError::into_inner).take());
        still.map_or(Ok(()), |dataset| Err(EmbedError::StillHeld { dataset }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Result<(), EmbedError> {
        if *self.shared.ended.borrow() { Err(EmbedError::Ended) } else { Ok(()) }
    }

    /// Tells all sessions to end, and waits for those that this node opened.
    async fn stopped(&self) -> tokio::sync::RwLockWriteGuard<'_, ()> {
        if let Some(live) = &self.state().live {
            live.stop.send_replace(true);
        }
        self.shared.turn.write().await
    }

    /// Begins to answer, and to gossip; for whoever has the turn.
    async fn begin_network(&self) -> Result<(), EmbedError> {
        let (stores, seeds, bound) = {
            let state = self.state();
            let stores: Vec<Store> = state.stores.values().map(|kept| kept.store.clone()).collect();
            // Where somebody was last counts for more.
            let seeds = state.seeds.iter().chain(&state.near).cloned().collect();
            (stores, seeds, state.bound)
        };
        let node = self.bind(bound.unwrap_or(self.shared.listen)).await?;
        let node = node.with_brakes(self.shared.brakes).with_windows(self.shared.windows.clone());
        let node = node.with_rate_limits(self.shared.rate_limits.clone());
        let node = node.when_joined(member_of(stores.iter()));
        let at = node.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let gossip = match &self.shared.gossip {
            Some(options) => {
                let options = GossipOptions { seeds, advertise: self.shared.advertise, ..options.clone() };
                Some(Gossip::start(&node, &stores, &options, stopped.clone())?)
            }
            None => None,
        };
        if let Some(gossip) = &gossip {
            tokio::spawn(keep_near_noted(Arc::downgrade(&self.shared), gossip.clone(), stopped.clone()));
        }
        let stores = stores.into_iter().map(|store| Arc::new(store) as Arc<dyn Side>);
        let served = stores.chain(self.shared.sides.values().cloned()).map(|side| Served { side }).collect();
        let (answering, taking) = (node.clone(), gossip.clone());
        let serving = tokio::spawn(async move { answering.serve_with(served, taking, stopped).await });
        let mut state = self.state();
        state.bound = Some(at);
        state.live = Some(Live { node, gossip, stop, serving });
        Ok(())
    }

    /// Binds an address that this node may have had a moment ago.
    async fn bind(&self, at: SocketAddr) -> Result<Node, EmbedError> {
        let until = Instant::now() + LET_GO_MAX;
        loop {
            let options = NodeOptions { bind: at, listen: true };
            let (home, identity) = (&self.shared.home, self.shared.identity.clone());
            match Node::bind_over(home, identity, options, &*self.shared.network) {
                Err(NodeError::Transport(TransportError::Io { cause, .. }))
                    if cause.kind() == std::io::ErrorKind::AddrInUse
                        && self.state().bound == Some(at)
                        && Instant::now() < until =>
                {
                    tokio::time::sleep(LOOK).await;
                }
                bound => return Ok(bound?),
            }
        }
    }

    /// Ends what [`Running::begin_network`] began; for whoever has the turn.
    async fn end_network(&self) {
        let Some(Live { node, gossip, stop, serving }) = self.state().live.take() else { return };
        if let Some(gossip) = &gossip {
            self.note_near(gossip.neighbours()).await;
        }
        stop.send_replace(true);
        match serving.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the node had stopped answering"),
            Err(error) => tracing::error!(%error, "the node had stopped answering: a defect"),
        }
        node.shutdown().await;
        drop((node, gossip));
    }

    /// Remembers who is up, so that this node is taken in again though it invited all of them and knows nobody else.
    async fn note_near(&self, up: Vec<Neighbour>) {
        if up.is_empty() {
            return;
        }
        let at = |name: &str| {
            let address = |near: &Neighbour| {
                let (host, port) = (near.at.ip().to_string(), near.at.port());
                Address { peer: near.peer, host, port, dataset: name.into() }
            };
            up.iter().map(address).collect::<Vec<Address>>()
        };
        let mut noted = Vec::new();
        {
            let mut state = self.state();
            for (name, kept) in state.stores.iter().filter(|(_, kept)| kept.own && self.shared.on_disk) {
                let lines: Vec<String> = at(name).iter().map(Address::to_string).collect();
                noted.push((kept.store.clone(), lines.join("\n")));
            }
            let first = state.stores.keys().next().cloned().unwrap_or_default();
            state.near = at(&first);
        }
        let kept = blocking(move || {
            noted.into_iter().try_for_each(|(store, lines)| Ok(store.set_fact(NEAR, Some(lines.into_bytes()))?))
        });
        if let Err(error) = kept.await {
            tracing::warn!(%error, "who was up is not remembered");
        }
    }
}

/// Notes who is up whenever that has changed, so that a program that is killed is taken in again too.
async fn keep_near_noted(shared: Weak<Shared>, gossip: Gossip, mut stopped: watch::Receiver<bool>) {
    let (mut noted, mut may) = (Vec::new(), Instant::now());
    while tokio::time::timeout(NEAR_LOOK, stopped.wait_for(|stopped| *stopped)).await.is_err() {
        let up = gossip.neighbours();
        if up == noted || Instant::now() < may {
            continue;
        }
        let Some(shared) = shared.upgrade() else { return };
        Running { shared }.note_near(up.clone()).await;
        (noted, may) = (up, Instant::now() + NEAR_PAUSE);
    }
}

/// Runs what blocks off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EmbedError> + Send + 'static,
) -> Result<T, EmbedError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(StoreError::Panicked(panic.to_string()).into()))
}

/// Whether it comes to hold in time.
async fn within(most: Duration, holds: impl Fn() -> bool) -> bool {
    let until = Instant::now() + most;
    while !holds() {
        if Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

#[cfg(test)]
mod tests;
