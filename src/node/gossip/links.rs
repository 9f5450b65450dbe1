//! Links on which peers gossip: one to each peer that something is said to, made when it is first needed, dropped when it ends.
//!
//! What is said waits in a bounded queue and is dropped where that is full: who gossips reckons with losses. What the words mean
//! is left to those who hear them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reknit_core::gossip::Word;
use tokio::sync::{mpsc, watch};

use crate::transport::{Address, Connection, Endpoint, Link, PeerId};

/// The first byte of a link on which is gossiped; the first word follows.
pub(crate) const FRAME_GOSSIP: u8 = 72;
/// Words that wait for a peer.
const QUEUE: usize = 256;
/// How long a peer that could not be reached is not tried again.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether all is said.
const ENDS: Duration = Duration::from_millis(10);
/// How long a peer may take to hear the last words.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A link on which nothing was said for so long, either way, is let go.
const UNUSED: Duration = Duration::from_secs(120);

/// What a peer said.
pub(crate) type Heard = (PeerId, Word);

struct Queue {
    /// Tells one link to a peer from another that took its place.
    number: u64,
    words: mpsc::Sender<Vec<u8>>,
}

#[derive(Default)]
struct Table {
    number: u64,
    queues: HashMap<PeerId, Queue>,
    /// When those were tried who could not be reached.
    tried: HashMap<PeerId, Instant>,
    /// Words that found a full queue.
    dropped: u64,
    /// Nothing more is said.
    ended: bool,
}

/// The links of a node.
#[derive(Clone)]
pub(crate) struct Links {
    endpoint: Endpoint,
    hello: Arc<Word>,
    table: Arc<Mutex<Table>>,
    heard: mpsc::Sender<Heard>,
    /// How many links there are.
    talking: Arc<watch::Sender<usize>>,
    /// Bytes that were said and heard.
    bytes: Arc<(AtomicU64, AtomicU64)>,
}

impl Links {
    /// None yet; each begins with this word.
    pub(crate) fn new(endpoint: Endpoint, hello: Word, heard: mpsc::Sender<Heard>) -> Links {
        Links {
            endpoint,
            hello: Arc::new(hello),
            table: Arc::default(),
            heard,
            talking: Arc::new(watch::Sender::new(0)),
            bytes: Arc::default(),
        }
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
        if table.tried.get(&to).is_some_and(|tried| tried.elapsed() < PATIENCE) {
            table.dropped += 1;
            return;
        }
        let (number, words) = enter(&mut table, to, bytes);
        drop(table);
        tokio::spawn(self.clone().dial(to, at, number, words));
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
        let (number, words) = {
            let mut table = self.table();
            if table.ended {
                return;
            }
            enter(&mut table, peer, self.hello.encode())
        };
        if self.heard.send((peer, first)).await.is_ok() {
            self.talk(link, peer, words).await;
        }
        self.left(peer, number, false);
    }

    async fn dial(self, to: PeerId, at: SocketAddr, number: u64, words: mpsc::Receiver<Vec<u8>>) {
        let address = Address { peer: to, host: at.ip().to_string(), port: at.port(), dataset: String::new() };
        let opened = match self.endpoint.connect(&address).await {
            Ok(connection) => connection.open().await.map(|link| (connection, link)),
            Err(error) => Err(error),
        };
        let reached = match opened {
            Ok((connection, mut link)) => {
                let first = [&[FRAME_GOSSIP], self.hello.encode().as_slice()].concat();
                if link.control.writer.write(&first).await.is_ok() {
                    self.talk(link, to, words).await;
                }
                drop(connection);
                true
            }
            Err(error) => {
                tracing::debug!(peer = %to.short(), %at, %error, "no link to gossip on");
                false
            }
        };
        self.left(to, number, !reached);
    }

    /// Says what waits and hears what comes, until either ends.
    async fn talk(&self, link: Link, peer: PeerId, mut words: mpsc::Receiver<Vec<u8>>) {
        self.talking.send_modify(|links| *links += 1);
        let Link { control, records: _records, .. } = link;
        let (mut reader, mut writer) = (control.reader, control.writer);
        let used = Mutex::new(Instant::now());
        let touch = || *used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let saying = async {
            while let Some(bytes) = words.recv().await {
                touch();
                if writer.write(&bytes).await.is_err() {
                    return;
                }
                self.bytes.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            let _ = writer.finish().await;
        };
        let hearing = async {
            while let Ok(Some(frame)) = reader.read().await {
                touch();
                self.bytes.1.fetch_add(frame.len() as u64, Ordering::Relaxed);
                let Ok(word) = Word::decode(&frame) else {
                    tracing::warn!(peer = %peer.short(), "what it gossips means nothing; the link is let go");
                    break;
                };
                if self.heard.send((peer, word)).await.is_err() {
                    break;
                }
            }
        };
        let unused = async {
            loop {
                let since = used.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
                match UNUSED.checked_sub(since) {
                    None => break,
                    Some(left) => tokio::time::sleep(left.max(Duration::from_millis(10))).await,
                }
            }
        };
        tokio::pin!(hearing);
        tokio::select! {
            // The peer ends its side once it has heard all.
            () = saying => drop(tokio::time::timeout(LAST_WORDS, &mut hearing).await),
            () = &mut hearing => {}
            () = unused => {}
        }
        self.talking.send_modify(|links| *links -= 1);
    }

    fn left(&self, peer: PeerId, number: u64, unreachable: bool) {
        let mut table = self.table();
        if unreachable {
            table.tried.insert(peer, Instant::now());
        } else {
            table.tried.remove(&peer);
        }
        if table.queues.get(&peer).is_some_and(|queue| queue.number == number) {
            table.queues.remove(&peer);
        }
    }
}

fn enter(table: &mut Table, peer: PeerId, first: Vec<u8>) -> (u64, mpsc::Receiver<Vec<u8>>) {
    let (sender, words) = mpsc::channel(QUEUE);
    // An empty queue takes its first word.
    let _ = sender.try_send(first);
    table.number += 1;
    table.queues.insert(peer, Queue { number: table.number, words: sender });
    (table.number, words)
}
