//! Gossip of a node: who is up, fresh writes to a few peers at once, and sessions with whoever was checked longest ago.
//!
//! What is decided is decided in the core ([`reknit_core::gossip`]) and by the failure detector; here are the threads, the links
//! and the clock. Who may read and write what is the grants' word, looked up each second.

mod inbox;
mod links;
mod meet;
mod spread;
mod swim;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reknit_core::gossip::{Counts, Roster, Standing, Word};
use reknit_core::{DatasetId, Millis};
use tokio::sync::{mpsc, watch};

use inbox::{Post, inbox};
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
/// How long is waited for what a store's thread has counted.
const COUNTS_WITHIN: Duration = Duration::from_secs(1);
/// How far back it is told that this node was displaced, and how often at most.
const DISPLACED_WITHIN: Duration = Duration::from_secs(60);
const DISPLACED_MAX: usize = 64;

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

/// Gossip that is under way; ends with the node's `stop`.
#[derive(Clone)]
pub struct Gossip {
    home: Home,
    links: Links,
    shared: Arc<Shared>,
    inputs: Arc<BTreeMap<DatasetId, Post<Input>>>,
    /// Peers to join by, but for this node.
    seeds: Arc<Vec<Address>>,
}

/// What waits in the queues of gossip, as it is: none of these numbers is cut off at a bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Words that are to be said to peers.
    pub said: usize,
    /// Words of peers that nobody has looked at.
    pub heard: usize,
    /// What the thread of each store has not taken up.
    pub inboxes: BTreeMap<DatasetId, usize>,
}

type Rosters = BTreeMap<DatasetId, Roster<PeerId>>;

#[derive(Default)]
struct Shared {
    up: Mutex<BTreeMap<PeerId, SocketAddr>>,
    /// Seeds that are not up, since when.
    missing: Mutex<BTreeMap<PeerId, Instant>>,
    /// When this node was last displaced.
    displaced: Mutex<VecDeque<Instant>>,
    rosters: Mutex<Rosters>,
}

impl Shared {
    fn up(&self) -> std::sync::MutexGuard<'_, BTreeMap<PeerId, SocketAddr>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(&self) -> std::sync::MutexGuard<'_, BTreeMap<PeerId, Instant>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn displaced(&self) -> std::sync::MutexGuard<'_, VecDeque<Instant>> {
        self.displaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rosters(&self) -> std::sync::MutexGuard<'_, Rosters> {
        self.rosters.lock().unwrap_or_else(PoisonError::into_inner)
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
            let (sender, receiver) = inbox();
            let id = store.definition().id;
            let spread = Spread::new(store.clone(), node.guards(), links.clone(), options.seed ^ nth);
            std::thread::spawn(move || spread.run(&receiver));
            let (follower, to, stopped) = (store.clone(), sender.clone(), stopped.clone());
            std::thread::spawn(move || spread::follow(&follower, &to, &stopped));
            inputs.insert(id, sender);
            shared.rosters().insert(id, Roster::new(options.seed ^ nth));
            tokio::spawn(meet::keep(node.clone(), store.clone(), shared.clone(), options.clone(), stop.clone()));
        }
        let me = Near { peer: node.peer().0, at, life: now() };
        let seeds: Vec<Address> = options.seeds.iter().filter(|seed| seed.peer != node.peer()).cloned().collect();
        *shared.missing() = seeds.iter().map(|seed| (seed.peer, Instant::now())).collect();
        let (inputs, seeds) = (Arc::new(inputs), Arc::new(seeds));
        let gossip = Gossip { home: node.guards().0, links, shared, inputs, seeds };
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

    /// What became of the rumours of a dataset, and how many wait to be told; none if that is not gossiped about, or its thread
    /// does not answer for a second.
    pub fn counts(&self, dataset: DatasetId) -> Option<(Counts, usize)> {
        let (to, counts) = std::sync::mpsc::channel();
        self.inputs.get(&dataset)?.send(Input::Counts(to)).then_some(())?;
        counts.recv_timeout(COUNTS_WITHIN).ok()
    }

    /// What waits in its queues.
    pub fn waiting(&self) -> Waiting {
        let (said, heard) = self.links.waiting();
        let inboxes = self.inputs.iter().map(|(dataset, to)| (*dataset, to.waiting())).collect();
        Waiting { said, heard, inboxes }
    }

    /// Bytes of words that were said to peers, and heard from them.
    pub fn bytes(&self) -> [u64; 2] {
        self.links.bytes()
    }

    /// Seeds that are not up, as far as this node knows, for at least so long.
    pub fn missing(&self, least: Duration) -> Vec<Address> {
        let missing = self.shared.missing();
        let is = |seed: &&Address| missing.get(&seed.peer).is_some_and(|since| since.elapsed() >= least);
        self.seeds.iter().filter(is).cloned().collect()
    }

    /// How often within the last minute this node was taken for down, or for another life of its identity, and came back. A
    /// node that was out of reach for a while is displaced once; of two nodes with one identity the older is again and again.
    pub fn displaced(&self) -> usize {
        self.shared.displaced().iter().filter(|at| at.elapsed() < DISPLACED_WITHIN).count()
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
                    self.shared.missing().remove(&near.peer());
                    self.shared.rosters().values_mut().for_each(|roster| roster.up(near.peer()));
                    self.to_all(|| Input::Up(near.peer(), near.at));
                }
                Said::Displaced => {
                    tracing::debug!("taken for down, or for another life; back as a new one");
                    let mut displaced = self.shared.displaced();
                    displaced.push_back(Instant::now());
                    while displaced.len() > DISPLACED_MAX {
                        displaced.pop_front();
                    }
                }
                Said::Down(near) => {
                    tracing::info!(peer = %near.peer().short(), "down");
                    self.shared.up().remove(&near.peer());
                    if self.seeds.iter().any(|seed| seed.peer == near.peer()) {
                        self.shared.missing().insert(near.peer(), Instant::now());
                    }
                    self.shared.rosters().values_mut().for_each(|roster| roster.down(near.peer()));
                    self.to_all(|| Input::Down(near.peer()));
                }
            }
        }
    }

    fn to_all(&self, input: impl Fn() -> Input) {
        // One whose thread has ended hears nothing any more.
        self.inputs.values().for_each(|to| _ = to.send(input()));
    }

    fn pass_on(&self, from: PeerId, word: Word) {
        let dataset = match &word {
            Word::Tell(dataset, _) | Word::Want(dataset, _) | Word::Records(dataset, ..) => *dataset,
            Word::Hello { .. } | Word::Swim(_) => return,
        };
        if let Some(to) = self.inputs.get(&dataset) {
            to.send(Input::Word(from, word));
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
