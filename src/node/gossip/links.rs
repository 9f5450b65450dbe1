//! Links on which peers gossip: one to each peer that something is said to, made when it is first needed, dropped when it ends.
//!
//! What is said waits in a bounded queue and is dropped where that is full: who gossips reckons with losses. What the words mean
//! is left to those who hear them.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reknit_core::gossip::{Speakers, Word};
use tokio::sync::{Notify, mpsc, watch};

use super::Shared;
use crate::node::{Node, NodeError};
use crate::transport::limits::{GOSSIP_QUEUE_MAX, GOSSIP_UNUSED_TIMEOUT};
use crate::transport::{Address, CloseCode, Connection, Link, PeerId, TransportError};

/// The first byte of a link on which is gossiped; the first word follows.
pub(crate) const FRAME_GOSSIP: u8 = 72;
/// How long a peer that could not be reached is not tried again.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same of one that does not take this node in.
const PATIENCE_REFUSED: Duration = Duration::from_secs(10);
/// How often it is looked whether all is said.
const ENDS: Duration = Duration::from_millis(10);
/// How long a peer may take to hear the last words.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a peer said, and in how many bytes.
pub(crate) type Heard = (PeerId, Word, usize);

struct Queue {
    /// Tells one link to a peer from another that took its place.
    number: u64,
    words: mpsc::Sender<Vec<u8>>,
    /// Ends it at once.
    cut: Arc<Notify>,
}

/// The other end of a queue.
struct Waiting {
    number: u64,
    words: mpsc::Receiver<Vec<u8>>,
    cut: Arc<Notify>,
}

/// How a link ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The peer was not reached, or said nothing.
    Unheard,
    /// The peer does not take this node in.
    Refused,
    /// Another key is where the peer was to be.
    Impostor,
    /// After something was heard.
    Heard,
    /// By itself, after something was heard: the peer may have begun again.
    Broken,
}

#[derive(Default)]
struct Table {
    number: u64,
    queues: HashMap<PeerId, Queue>,
    /// When those were tried who could not be reached.
    tried: HashMap<PeerId, Instant>,
    /// Those who do not take this node in, or not any more.
    refusing: BTreeSet<PeerId>,
    /// Those at whose address another key was last.
    impostors: BTreeSet<PeerId>,
    /// Those to whom a link has broken, until somebody asks.
    broken: BTreeSet<PeerId>,
    /// Words that found a full queue, either way.
    dropped: u64,
    /// Nothing more is said.
    ended: bool,
}

impl Table {
    /// Nothing more is said on that link.
    fn close(&mut self, peer: PeerId, number: u64) {
        if self.queues.get(&peer).is_some_and(|queue| queue.number == number) {
            self.queues.remove(&peer);
        }
    }
}

/// The links of a node.
#[derive(Clone)]
pub(crate) struct Links {
    node: Node,
    shared: Arc<Shared>,
    port: u16,
    table: Arc<Mutex<Table>>,
    heard: mpsc::Sender<Heard>,
    /// How many links there are.
    talking: Arc<watch::Sender<usize>>,
    /// A link has broken.
    breaks: Arc<Notify>,
    /// Bytes that were said and heard.
    bytes: Arc<(AtomicU64, AtomicU64)>,
}

impl Links {
    /// None yet; this node takes in connections at that port.
    pub(super) fn new(node: Node, port: u16, shared: Arc<Shared>, heard: mpsc::Sender<Heard>) -> Links {
        let (talking, breaks, bytes) = (Arc::new(watch::Sender::new(0)), Arc::default(), Arc::default());
        Links { node, shared, port, table: Arc::default(), heard, talking, breaks, bytes }
    }

    /// The word that a link begins with: the datasets that the peer may know of.
    fn hello(&self, peer: PeerId) -> Word {
        Word::Hello { datasets: self.shared.circle().datasets(peer), port: self.port }
    }

    /// Ends the link to a peer at once.
    pub(crate) fn cut(&self, peer: PeerId) {
        if let Some(queue) = self.table().queues.remove(&peer) {
            queue.cut.notify_one();
        }
    }

    /// Says what waits for a peer on the link to it, and all else on another.
    pub(crate) fn let_go(&self, peer: PeerId) {
        self.table().queues.remove(&peer);
    }

    /// Waits until links have broken; to whom.
    pub(crate) async fn broke(&self) -> BTreeSet<PeerId> {
        self.breaks.notified().await;
        std::mem::take(&mut self.table().broken)
    }

    /// Peers that do not take this node in, or not any more.
    pub(crate) fn refusing(&self) -> Vec<PeerId> {
        self.table().refusing.iter().copied().collect()
    }

    /// Whether another key was where a peer was to be when it was last sought.
    pub(crate) fn found_another(&self, peer: PeerId) -> bool {
        self.table().impostors.contains(&peer)
    }

    /// Says what waits, and nothing more.
    pub(crate) fn end(&self) {
        let mut table = self.table();
        table.ended = true;
        table.queues.clear();
    }

    /// Waits until all is said, not for long.
    pub(crate) async fn ended(&self) {
        let mut talking = self.talking.subscribe();
        let ended = async {
            let over = || self.table().ended;
            // A link that is made meanwhile has nothing to say.
            while !over() || *talking.borrow_and_update() > 0 {
                if tokio::time::timeout(ENDS, talking.changed()).await.is_ok_and(|changed| changed.is_err()) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(2 * LAST_WORDS, ended).await;
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something to a peer, at once if there is a link, or once there is one.
    pub(crate) fn say(&self, to: PeerId, at: SocketAddr, word: &Word) {
        let bytes = word.encode();
        let mut table = self.table();
        if table.ended {
            return;
        }
        if let Some(queue) = table.queues.get(&to) {
            if queue.words.try_send(bytes).is_err() {
                table.dropped += 1;
            }
            return;
        }
        let patience = if table.refusing.contains(&to) { PATIENCE_REFUSED } else { PATIENCE };
        if table.tried.get(&to).is_some_and(|tried| tried.elapsed() < patience) {
            table.dropped += 1;
            return;
        }
        let waiting = enter(&mut table, to, bytes);
        drop(table);
        tokio::spawn(self.clone().dial(to, at, waiting));
    }

    /// A word of a peer was dropped, since too much of what it said waits.
    pub(crate) fn unheard(&self) {
        self.table().dropped += 1;
    }

    /// How many words were dropped, and to how many peers there is a link.
    pub(crate) fn counts(&self) -> (u64, usize) {
        let table = self.table();
        (table.dropped, table.queues.len())
    }

    /// Words that wait to be said to any peer, and words that wait to be heard.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let length = |queue: &Queue| queue.words.max_capacity() - queue.words.capacity();
        let said = self.table().queues.values().map(length).sum();
        (said, self.heard.max_capacity() - self.heard.capacity())
    }

    /// Bytes of words that were said, and heard.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [self.bytes.0.load(Ordering::Relaxed), self.bytes.1.load(Ordering::Relaxed)]
    }

    /// Gossips on a link that a peer has opened, after its first word, until it ends.
    pub(crate) async fn taken_up(self, connection: Connection, link: Link, first: Word) {
        let peer = connection.peer();
        // Whoever may know nothing is told nothing, not even who is here.
        if !self.shared.circle().has(peer) {
            return;
        }
        let hello = self.hello(peer).encode();
        let waiting = {
            let mut table = self.table();
            if table.ended {
                return;
            }
            enter(&mut table, peer, hello)
        };
        let number = waiting.number;
        let ended = match self.heard.send((peer, first, 0)).await.is_ok() {
            true => self.talk(&connection, link, waiting).await,
            false => Ended::Heard,
        };
        self.left(peer, number, ended);
    }

    async fn dial(self, to: PeerId, at: SocketAddr, waiting: Waiting) {
        let address = Address { peer: to, host: at.ip().to_string(), port: at.port(), dataset: String::new() };
        let opened = match self.node.connect_by(&address, self.shared.circle().lines()).await {
            Ok(connection) => connection.open().await.map(|link| (connection, link)).map_err(NodeError::from),
            Err(error) => Err(error),
        };
        let number = waiting.number;
        let ended = match opened {
            Ok((connection, mut link)) => {
                let first = [&[FRAME_GOSSIP], self.hello(to).encode().as_slice()].concat();
                match link.control.writer.write(&first).await.is_ok() {
                    true => self.talk(&connection, link, waiting).await,
                    false => Ended::Unheard,
                }
            }
            Err(error) => {
                tracing::debug!(peer = %to.short(), %at, %error, "no link to gossip on");
                self.hand_on(to, waiting);
                match error {
                    NodeError::Transport(TransportError::Impostor { .. }) => Ended::Impostor,
                    _ => Ended::Unheard,
                }
            }
        };
        self.left(to, number, ended);
    }

    /// What waits for a peer that was not reached is said on the link that it has made meanwhile, if it has.
    fn hand_on(&self, to: PeerId, mut waiting: Waiting) {
        let mut table = self.table();
        table.close(to, waiting.number);
        while let Ok(bytes) = waiting.words.try_recv() {
            if table.queues.get(&to).is_none_or(|queue| queue.words.try_send(bytes).is_err()) {
                table.dropped += 1;
            }
        }
    }

    /// Says what waits and hears what comes, until either ends.
    async fn talk(&self, connection: &Connection, link: Link, waiting: Waiting) -> Ended {
        let (peer, Waiting { number, mut words, cut }) = (connection.peer(), waiting);
        let why = link.closed.clone();
        let any = AtomicBool::new(false);
        self.talking.send_modify(|links| *links += 1);
        let Link { control, records: _records, .. } = link;
        let (mut reader, mut writer) = (control.reader, control.writer);
        let used = Mutex::new(Instant::now());
        let touch = || *used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let saying = async {
            let mut speakers = Speakers::default();
            while let Some(bytes) = words.recv().await {
                touch();
                let bytes = speakers.shorten(bytes);
                if writer.write(&bytes).await.is_err() {
                    return;
                }
                self.bytes.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            let _ = writer.finish().await;
        };
        let hearing = async {
            let mut speakers = Speakers::default();
            while let Ok(Some(frame)) = reader.read().await {
                touch();
                let bytes = frame.len();
                self.bytes.1.fetch_add(bytes as u64, Ordering::Relaxed);
                if !any.swap(true, Ordering::Relaxed) {
                    self.table().refusing.remove(&peer);
                }
                let Ok(word) = speakers.lengthen(frame).and_then(|frame| Word::decode(&frame)) else {
                    tracing::warn!(peer = %peer.short(), "what it gossips means nothing; the link is let go");
                    break;
                };
                if self.heard.send((peer, word, bytes)).await.is_err() {
                    break;
                }
            }
        };
        let unused = async {
            loop {
                let since = used.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
                match GOSSIP_UNUSED_TIMEOUT.checked_sub(since) {
                    None => break,
                    Some(left) => tokio::time::sleep(left.max(Duration::from_millis(10))).await,
                }
            }
        };
        tokio::pin!(saying, hearing);
        tokio::select! {
            // The peer ends its side once it has heard all.
            () = &mut saying => drop(tokio::time::timeout(LAST_WORDS, &mut hearing).await),
            // Where both have made a link each ends the one that the other goes on by: what waits is said, and no more comes.
            () = &mut hearing => {
                self.table().close(peer, number);
                drop(tokio::time::timeout(LAST_WORDS, &mut saying).await);
            }
            () = unused => {}
            // Before its lanes are let go: it must hear of nothing else (M24).
            () = cut.notified() => connection.close(CloseCode::CutOff),
        }
        self.talking.send_modify(|links| *links -= 1);
        match why() {
            Some(error @ TransportError::CutOff { .. }) => {
                tracing::warn!(peer = %peer.short(), %error, "nothing is gossiped with it");
                Ended::Refused
            }
            Some(TransportError::NotAdmitted { .. }) => Ended::Refused,
            _ if any.load(Ordering::Relaxed) && connection.is_broken() => Ended::Broken,
            _ if any.load(Ordering::Relaxed) => Ended::Heard,
            _ => Ended::Unheard,
        }
    }

    fn left(&self, peer: PeerId, number: u64, ended: Ended) {
        let mut table = self.table();
        match ended {
            Ended::Heard | Ended::Broken => drop(table.tried.remove(&peer)),
            Ended::Unheard | Ended::Refused | Ended::Impostor => drop(table.tried.insert(peer, Instant::now())),
        }
        table.impostors.remove(&peer);
        match ended {
            Ended::Impostor => drop(table.impostors.insert(peer)),
            Ended::Refused => drop(table.refusing.insert(peer)),
            Ended::Broken => {
                table.broken.insert(peer);
                self.breaks.notify_one();
            }
            Ended::Heard | Ended::Unheard => {}
        }
        table.close(peer, number);
    }
}

fn enter(table: &mut Table, peer: PeerId, first: Vec<u8>) -> Waiting {
    let (sender, words) = mpsc::channel(GOSSIP_QUEUE_MAX);
    // An empty queue takes its first word.
    let _ = sender.try_send(first);
    table.number += 1;
    let (number, cut) = (table.number, Arc::new(Notify::new()));
    table.queues.insert(peer, Queue { number, words: sender, cut: cut.clone() });
    Waiting { number, words, cut }
}
