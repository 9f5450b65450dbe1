//! Gossip of a node: who is up, fresh writes to a few peers at once, and sessions with whoever was checked longest ago.
//!
//! What is decided is decided in the core ([`reknit_core::gossip`]) and by the failure detector; here are the threads, the links
//! and the clock. Who may read and write what is the grants' word, looked up each second.

mod acquainted;
mod allowed;
mod circle;
mod granted;
mod inbox;
mod links;
mod meet;
mod parked;
mod presence;
mod recalled;
mod seeking;
mod spread;
mod swim;
mod withheld;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reknit_core::gossip::{Counts, Roster, Standing, Word};
use reknit_core::{DatasetId, Definition};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use circle::Circle;
use inbox::{Post, inbox};
pub(crate) use links::FRAME_GOSSIP;
use links::Links;
pub use parked::ParkedRanges;
use parked::ParkedWith;
use spread::{Input, Spread};
use swim::{Near, Swim};
use withheld::Withheld;

pub(super) use allowed::less as lesser;

use super::rotation::own_lines;
use super::{Home, Node, NodeBrakes, NodeError};
use crate::clock::{now_ms, ticks};
use crate::store::Store;
use crate::transport::{Address, Connection, Link, PeerId};

/// Words that wait to be heard.
const HEARD: usize = 1024;
/// How long a session takes at most, unless it is said.
const SESSION_MAX: Duration = Duration::from_secs(60);
/// How long is waited for what a store's thread has counted.
const COUNTS_WITHIN: Duration = Duration::from_secs(1);
/// How long is waited at the end for sessions that are told to end, and for what is kept of peers.
const KEPT_WITHIN: Duration = Duration::from_secs(2);
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
    /// How long one session may take; what it has not done by then is left to the next, and others have their turn.
    pub session_max: Duration,
    /// How much all who push may lose each store together, and how much each peer, by what it pushes and by sessions that are
    /// opened here; within what time.
    pub brakes: NodeBrakes,
    /// Decides all that is drawn.
    pub seed: u64,
}

impl Default for GossipOptions {
    /// A session each 10 s, with a repair, for a minute at most.
    fn default() -> GossipOptions {
        let every = Duration::from_secs(10);
        GossipOptions {
            seeds: Vec::new(),
            advertise: None,
            every,
            repair: true,
            session_max: SESSION_MAX,
            brakes: NodeBrakes::default(),
            seed: now_ms(),
        }
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
    me: PeerId,
    datasets: Arc<Vec<Arc<Definition>>>,
    links: Links,
    shared: Arc<Shared>,
    inputs: Arc<BTreeMap<DatasetId, Post<Input>>>,
    /// Whoever meets peers, until it has kept what it knows of them.
    meets: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// Peers to join by, but for this node.
    seeds: Arc<Vec<Address>>,
    window: Duration,
    repair: bool,
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

/// Tells the threads of gossip that it has ended: also where its task is dropped with the runtime, or panics.
struct Ends(Arc<AtomicBool>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
    apart: Mutex<BTreeMap<(DatasetId, PeerId), Apart>>,
    /// Why the last session failed.
    failures: Mutex<BTreeMap<(DatasetId, PeerId), String>>,
    parked: ParkedWith,
    circle: Mutex<Arc<Circle>>,
    withheld: Mutex<BTreeMap<DatasetId, Withheld>>,
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

    fn apart(&self) -> std::sync::MutexGuard<'_, BTreeMap<(DatasetId, PeerId), Apart>> {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, BTreeMap<(DatasetId, PeerId), String>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn withheld(&self) -> std::sync::MutexGuard<'_, BTreeMap<DatasetId, Withheld>> {
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn circle(&self) -> Arc<Circle> {
        self.circle.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        let datasets: Vec<_> = stores.iter().map(|store| store.definition().clone()).collect();
        let changes = node.rights().changes();
        let circle = Mutex::new(Arc::new(Circle::of(&node.guards().0, &datasets)?));
        let shared = Arc::new(Shared { circle, ..Shared::default() });
        let (heard, hears) = mpsc::channel(HEARD);
        let links = Links::new(node.clone(), at.port(), shared.clone(), heard);
        let (mut inputs, stopped) = (BTreeMap::new(), Arc::new(AtomicBool::new(false)));
        let (lines, mut meets) = (node.home().lines()?, Vec::new());
        for (nth, store) in (0u64..).zip(stores) {
            let (sender, receiver) = inbox();
            let id = store.definition().id;
            let spread = Spread::new(
                store.clone(),
                node.guards(),
                links.clone(),
                (shared.clone(), options.brakes, options.seed ^ nth),
            );
            std::thread::spawn(move || spread.run(&receiver));
            // From here on: who starts a node may write before its threads have begun.
            let (watcher, to, seen) = (store.watch(None), sender.clone(), (shared.clone(), stopped.clone()));
            std::thread::spawn(move || spread::follow(id, watcher, &to, (&seen.0, &seen.1)));
            inputs.insert(id, sender);
            let mut roster = Roster::new(options.seed ^ nth);
            let kept = recalled::recall(store, &mut roster, |peer| PeerId(lines.newest(peer.0)));
            shared.rosters().insert(id, roster);
            let of = (store.clone(), kept);
            meets.push(tokio::spawn(meet::keep(node.clone(), of, shared.clone(), options.clone(), stop.clone())));
        }
        let me = Near { peer: node.peer().0, at, life: now_ms() };
        // A seed is known by its newest key.
        let newest = |seed: &Address| Address { peer: PeerId(lines.newest(seed.peer.0)), ..seed.clone() };
        let all: Vec<Address> = options.seeds.iter().map(newest).collect();
        let own = own_lines(node.identity()).line(node.peer().0);
        let seeds: Vec<Address> = all.iter().filter(|seed| !own.contains(&seed.peer.0)).cloned().collect();
        *shared.missing() = seeds.iter().map(|seed| (seed.peer, Instant::now())).collect();
        let (datasets, inputs, seeds) = (Arc::new(datasets), Arc::new(inputs), Arc::new(seeds));
        let (home, window, repair) = (node.guards().0, options.brakes.window, options.repair);
        let meets = Arc::new(Mutex::new(meets));
        let gossip = Gossip { home, me: node.peer(), datasets, links, shared, inputs, meets, seeds, window, repair };
        // Of those who were met, some may have no rights any more.
        gossip.enrol();
        let swim = Swim::new(me, options.seed);
        let seeds = all.into_iter().map(|seed| (seed.peer, seed)).collect();
        tokio::spawn(gossip.clone().keep(swim, (hears, changes), seeds, stop, Ends(stopped)));
        Ok(gossip)
    }

    /// Peers that are up, as far as this node knows.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        self.shared.up().iter().map(|(peer, at)| Neighbour { peer: *peer, at: *at }).collect()
    }

    /// Whether its sessions repair; those that only check know about how much differs, not how much.
    pub fn repairs(&self) -> bool {
        self.repair
    }

    /// What is known of each peer of a dataset.
    pub fn standings(&self, dataset: DatasetId) -> Vec<(PeerId, Standing)> {
        let rosters = self.shared.rosters();
        let roster = rosters.get(&dataset);
        roster.into_iter().flat_map(Roster::peers).map(|(peer, standing)| (peer, standing.clone())).collect()
    }

    /// Peers of a dataset that are up and with whom session after session fails: how many in a row, and why the last did. One that
    /// has not got the dataset is none of them.
    pub fn failing(&self, dataset: DatasetId) -> Vec<(PeerId, u32, String)> {
        let standings = self.standings(dataset);
        let failures = self.shared.failures();
        let failing = standings.into_iter().filter(|(_, standing)| standing.is_failing());
        failing.filter_map(|(peer, it)| Some((peer, it.fails, failures.get(&(dataset, peer))?.clone()))).collect()
    }

    /// Why the last session about a dataset with a peer failed, if it did.
    pub(crate) fn failure(&self, dataset: DatasetId, peer: PeerId) -> Option<String> {
        self.shared.failures().get(&(dataset, peer)).cloned()
    }

    /// What sessions about a dataset leave out, with each peer that is up and with whom they leave anything out.
    pub fn parked(&self, dataset: DatasetId) -> BTreeMap<PeerId, ParkedRanges> {
        let mut parked = self.shared.parked.of(dataset, ticks());
        let up = self.shared.up();
        parked.retain(|peer, _| up.contains_key(peer));
        parked
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

    /// Whether another key than a seed's answers at its address: it may have a new one that this node has not heard of.
    pub fn found_another(&self, seed: &Address) -> bool {
        self.links.found_another(PeerId(self.shared.circle().lines().newest(seed.peer.0)))
    }

    /// How often within the last minute this node was taken for down, or for another life of its identity, and came back. A
    /// node that was out of reach for a while is displaced once; of two nodes with one identity the older is again and again.
    pub fn displaced(&self) -> usize {
        self.shared.displaced().iter().filter(|at| at.elapsed() < DISPLACED_WITHIN).count()
    }

    /// With whose stores nothing is gossiped before a session, of which dataset, and why.
    pub fn apart(&self) -> Vec<(DatasetId, PeerId, Apart)> {
        self.shared.apart().iter().map(|((dataset, peer), apart)| (*dataset, *peer, *apart)).collect()
    }

    /// How many pushed records of a dataset are withheld, since too much would have been lost, and some of their keys. A repair
    /// that is let do so brings them.
    pub fn withheld(&self, dataset: DatasetId) -> (usize, Vec<Vec<u8>>) {
        let mut all = self.shared.withheld();
        all.get_mut(&dataset).map(|withheld| withheld.told(Instant::now(), self.window)).unwrap_or_default()
    }

    /// Peers that do not take this node in, or not any more.
    pub fn refusing(&self) -> Vec<PeerId> {
        self.links.refusing()
    }

    /// How many words were dropped, since a queue was full or a peer out of reach, and to how many peers there is a link.
    pub fn links(&self) -> (u64, usize) {
        self.links.counts()
    }

    /// Waits until this node has said goodbye, once it was stopped, and has kept what it knows of its peers.
    pub(super) async fn ended(&self) {
        self.links.ended().await;
        let meets = std::mem::take(&mut *self.meets.lock().unwrap_or_else(PoisonError::into_inner));
        let until = tokio::time::Instant::now() + KEPT_WITHIN;
        for meet in meets {
            // One that panicked has told.
            let _ = tokio::time::timeout_at(until, meet).await;
        }
    }

    /// A peer opened a link to gossip on.
    pub(super) async fn taken_up(&self, connection: Connection, link: Link, first: Word) {
        self.links.clone().taken_up(connection, link, first).await;
    }
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
