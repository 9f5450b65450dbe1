//! Gossip of a node: who is up, fresh writes to a few peers at once, and sessions with whoever was checked longest ago.
//!
//! What is decided is decided in the core ([`reknit_core::gossip`]) and by the failure detector; here are the threads, the links
//! and the clock. Who may read and write what is the grants' word, looked up each second.

mod acquainted;
mod links;
mod meet;
mod spread;
mod swim;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reknit_core::gossip::{Counts, Roster, Standing, Word};
use reknit_core::{DatasetId, Millis};
use tokio::sync::{mpsc, watch};

pub(crate) use links::FRAME_GOSSIP;
use links::{Heard, Links};
use spread::{Input, Spread};
use swim::{Near, Said, Swim};

use super::serve::now;
use super::{Home, Node, NodeError};
use crate::store::Store;
use crate::transport::{Address, Connection, Link, PeerId};

/// Words that wait to be heard.
const HEARD: usize = 1024;

/// How a node gossips.
#[derive(Clone, Debug)]
pub struct GossipOptions {
    /// Peers to join by; one that is up is enough.
    pub seeds: Vec<Address>,
    /// Where others reach this node; its own address, unless it is bound to all of the host's.
    pub advertise: Option<SocketAddr>,
    /// How often one peer is met by each store.
    pub every: Duration,
    /// Whether a session repairs both sides, or only checks.
    pub repair: bool,
    /// Decides all that is drawn.
    pub seed: u64,
}

impl Default for GossipOptions {
    /// A session each 10 s, with a repair.
    fn default() -> GossipOptions {
        let every = Duration::from_secs(10);
        GossipOptions { seeds: Vec::new(), advertise: None, every, repair: true, seed: now() }
    }
}

/// A peer as the node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Who.
    pub peer: PeerId,
    /// Where.
    pub at: SocketAddr,
}

/// Why a store does not gossip with one of a peer, until a session has sorted that out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Apart {
    /// The peer's store seems to be another life than the one that was met here.
    Life,
    /// This store seems to the peer to be another life than the one that it met.
    OwnLife,
    /// One is a copy of the other, and writes under its name.
    Copy,
    /// They have collected tombstones up to different points.
    Horizon,
}

impl Apart {
    /// What is wrong, for people.
    pub fn reason(self) -> &'static str {
        match self {
            Apart::Life => "its store seems to have been restored or copied since it was met",
            Apart::OwnLife => "the store here seems to have been restored or copied since that peer met it",
            Apart::Copy => "its store is a copy of the one here",
            Apart::Horizon => "one of the two stores has collected tombstones further than the other",
        }
    }
}

/// Gossip that is under way; ends with the node's `stop`.
#[derive(Clone)]
pub struct Gossip {
    home: Home,
    links: Links,
    shared: Arc<Shared>,
    inputs: Arc<BTreeMap<DatasetId, std::sync::mpsc::Sender<Input>>>,
}

type Rosters = BTreeMap<DatasetId, Roster<PeerId>>;

#[derive(Default)]
struct Shared {
    up: Mutex<BTreeMap<PeerId, SocketAddr>>,
    rosters: Mutex<Rosters>,
    apart: Mutex<BTreeMap<(DatasetId, PeerId), Apart>>,
}

impl Shared {
    fn up(&self) -> std::sync::MutexGuard<'_, BTreeMap<PeerId, SocketAddr>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rosters(&self) -> std::sync::MutexGuard<'_, Rosters> {
        self.rosters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apart(&self) -> std::sync::MutexGuard<'_, BTreeMap<(DatasetId, PeerId), Apart>> {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session has to sort out who a peer's store is, before others if it can be; says whether that is news.
    fn part(&self, dataset: DatasetId, peer: PeerId, apart: Apart) -> bool {
        if let Some(roster) = self.rosters().get_mut(&dataset) {
            roster.differs(peer);
        }
        self.apart().insert((dataset, peer), apart) != Some(apart)
    }
}

impl Gossip {
    /// Starts to gossip about these stores. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`NodeError::Transport`] where the node has no address, [`NodeError::Home`].
    pub fn start(
        node: &Node,
        stores: &[Store],
        options: &GossipOptions,
        stop: watch::Receiver<bool>,
    ) -> Result<Gossip, NodeError> {
        let bound = node.local_addr()?;
        let at = options.advertise.unwrap_or_else(|| reachable(bound, &options.seeds));
        let datasets = stores.iter().map(|store| store.definition().id).collect();
        let (heard, hears) = mpsc::channel(HEARD);
        let hello = Word::Hello { datasets, port: at.port() };
        let links = Links::new(node.endpoint().clone(), hello, heard);
        let (mut inputs, stopped) = (BTreeMap::new(), Arc::new(AtomicBool::new(false)));
        let shared = Arc::new(Shared::default());
        for (nth, store) in (0u64..).zip(stores) {
            let (sender, receiver) = std::sync::mpsc::channel();
            let id = store.definition().id;
            let spread = Spread::new(store.clone(), node.guards(), links.clone(), (shared.clone(), options.seed ^ nth));
            std::thread::spawn(move || spread.run(&receiver));
            let (follower, to, stopped) = (store.clone(), sender.clone(), stopped.clone());
            std::thread::spawn(move || spread::follow(&follower, &to, &stopped));
            inputs.insert(id, sender);
            shared.rosters().insert(id, Roster::new(options.seed ^ nth));
            tokio::spawn(meet::keep(node.clone(), store.clone(), shared.clone(), options.clone(), stop.clone()));
        }
        let me = Near { peer: node.peer().0, at, life: now() };
        let gossip = Gossip { home: node.guards().0, links, shared, inputs: Arc::new(inputs) };
        let swim = Swim::new(me, options.seed);
        let seeds = options.seeds.iter().map(|seed| (seed.peer, seed.clone())).collect();
        tokio::spawn(gossip.clone().keep(swim, hears, seeds, stop, stopped));
        Ok(gossip)
    }

    /// Peers that are up, as far as this node knows.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        self.shared.up().iter().map(|(peer, at)| Neighbour { peer: *peer, at: *at }).collect()
    }

    /// What is known of each peer of a dataset.
    pub fn standings(&self, dataset: DatasetId) -> Vec<(PeerId, Standing)> {
        let rosters = self.shared.rosters();
        let roster = rosters.get(&dataset);
        roster.into_iter().flat_map(Roster::peers).map(|(peer, standing)| (peer, standing.clone())).collect()
    }

    /// What became of the rumours of a dataset, and how many wait to be told; none if that is not gossiped about.
    pub fn counts(&self, dataset: DatasetId) -> Option<(Counts, usize)> {
        let (to, counts) = std::sync::mpsc::channel();
        self.inputs.get(&dataset)?.send(Input::Counts(to)).ok()?;
        counts.recv().ok()
    }

    /// With whose stores nothing is gossiped before a session, of which dataset, and why.
    pub fn apart(&self) -> Vec<(DatasetId, PeerId, Apart)> {
        self.shared.apart().iter().map(|((dataset, peer), apart)| (*dataset, *peer, *apart)).collect()
    }

    /// How many words were dropped, since a queue was full or a peer out of reach, and to how many peers there is a link.
    pub fn links(&self) -> (u64, usize) {
        self.links.counts()
    }

    /// Waits until this node has said goodbye, once it was stopped.
    pub(super) async fn ended(&self) {
        self.links.ended().await;
    }

    /// A peer opened a link to gossip on.
    pub(super) async fn taken_up(&self, connection: Connection, link: Link, first: Word) {
        self.links.clone().taken_up(connection, link, first).await;
    }

    /// Hears all that is said, and keeps the failure detector's time.
    async fn keep(
        self,
        mut swim: Swim,
        mut hears: mpsc::Receiver<Heard>,
        seeds: HashMap<PeerId, Address>,
        mut stop: watch::Receiver<bool>,
        stopped: Arc<AtomicBool>,
    ) {
        let mut announced: Millis = 0;
        loop {
            // Whoever knows nobody asks again to be taken in.
            if swim.up().next().is_none() && now() >= announced + 1_000 {
                announced = now();
                for seed in seeds.values() {
                    if let Some(at) = resolved(seed).await {
                        let said = swim.announce(Near { peer: seed.peer.0, at, life: 0 }, now());
                        self.said(said);
                    }
                }
            }
            let wakes = swim.wakes().unwrap_or(Millis::MAX).min(announced + 1_000);
            let wait = Duration::from_millis(wakes.saturating_sub(now()).min(1_000));
            tokio::select! {
                heard = hears.recv() => match heard {
                    Some((_, Word::Swim(bytes))) => {
                        let said = swim.heard(&bytes, now());
                        self.said(said);
                    }
                    Some((from, word)) => self.pass_on(from, word),
                    None => break,
                },
                () = tokio::time::sleep(wait) => {
                    let said = swim.tick(now());
                    self.said(said);
                }
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        let said = swim.leave(now());
        self.said(said);
        self.links.end();
        stopped.store(true, Ordering::Relaxed);
    }

    fn said(&self, said: Vec<Said>) {
        for one in said {
            match one {
                Said::Send(to, bytes) => self.links.say(to.peer(), to.at, &Word::Swim(bytes)),
                // Of whom a peer speaks is not yet somebody who is known here.
                Said::Up(near) if !matches!(self.home.grants(near.peer()), Ok(Some(_))) => {
                    tracing::debug!(peer = %near.peer().short(), "somebody unknown is up");
                }
                Said::Up(near) => {
                    tracing::info!(peer = %near.peer().short(), at = %near.at, "up");
                    self.shared.up().insert(near.peer(), near.at);
                    self.shared.rosters().values_mut().for_each(|roster| roster.up(near.peer()));
                    self.to_all(|| Input::Up(near.peer(), near.at));
                }
                Said::Down(near) => {
                    tracing::info!(peer = %near.peer().short(), "down");
                    self.shared.up().remove(&near.peer());
                    self.shared.rosters().values_mut().for_each(|roster| roster.down(near.peer()));
                    self.to_all(|| Input::Down(near.peer()));
                }
            }
        }
    }

    fn to_all(&self, input: impl Fn() -> Input) {
        // One whose thread has ended hears nothing any more.
        self.inputs.values().for_each(|to| drop(to.send(input())));
    }

    fn pass_on(&self, from: PeerId, word: Word) {
        let dataset = word.speaker().map(|speaker| speaker.dataset);
        if let Some(to) = dataset.and_then(|dataset| self.inputs.get(&dataset)) {
            let _ = to.send(Input::Word(from, word));
        }
    }
}

/// The first address of a peer's host.
async fn resolved(seed: &Address) -> Option<SocketAddr> {
    let found = tokio::net::lookup_host((seed.host.as_str(), seed.port)).await;
    found.ok().and_then(|mut all| all.next())
}

/// Where others reach a node that is bound to all of its host's addresses: at the one by which it reaches a seed.
fn reachable(bound: SocketAddr, seeds: &[Address]) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    // Nothing is sent: the system is only asked which way it would go.
    let by = |seed: &Address| {
        let socket = std::net::UdpSocket::bind((bound.ip(), 0)).ok()?;
        socket.connect((seed.host.as_str(), seed.port)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let ip = seeds.iter().find_map(by).unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    SocketAddr::new(ip, bound.port())
}
