//! A UDP relay between one client and one server, which delays, loses, doubles and reorders datagrams by a seed.
//! It counts what the two sent, and knows nothing of what it carries.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes that may wait for a capped way; what comes above is lost, as in a router.
const QUEUE_BYTES_MAX: u64 = 256 << 10;
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// What the relay does to each way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// How long a datagram takes, one way.
    pub(crate) delay: Duration,
    /// Datagrams lost, of a thousand.
    pub(crate) lost: u64,
    /// Datagrams that come twice, of a thousand.
    pub(crate) doubled: u64,
    /// Datagrams that later ones overtake, of a thousand.
    pub(crate) reordered: u64,
    /// Bytes a second; none for no cap.
    pub(crate) bytes_per_second: Option<u64>,
}

/// What one of the two sent to the other, before anything was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Datagrams.
    pub(crate) datagrams: u64,
    /// Bytes of UDP payload.
    pub(crate) bytes: u64,
}

#[derive(Default)]
struct Counts {
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    fn read(&self) -> Sent {
        Sent { datagrams: self.datagrams.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// A running relay; it ends when it is dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    counts: Arc<[Counts; 2]>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts a relay to `server` on a port of its own.
    pub(crate) async fn start(server: SocketAddr, shape: Shape, seed: u64) -> std::io::Result<Relay> {
        let sockets = [UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?];
        let address = sockets[0].local_addr()?;
        let counts: Arc<[Counts; 2]> = Arc::default();
        let ways =
            Ways { shape, seed, counts: counts.clone(), due: BinaryHeap::new(), nth: 0, busy: [Instant::now(); 2] };
        let task = tokio::spawn(ways.run(sockets, server));
        Ok(Relay { address, counts, task })
    }

    /// Where the client finds it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the client sent.
    pub(crate) fn by_client(&self) -> Sent {
        self.counts[0].read()
    }

    /// What the server sent.
    pub(crate) fn by_server(&self) -> Sent {
        self.counts[1].read()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// When, in which order, which way, what.
type Due = (Instant, u64, usize, Vec<u8>);

struct Ways {
    shape: Shape,
    seed: u64,
    counts: Arc<[Counts; 2]>,
    due: BinaryHeap<Reverse<Due>>,
    nth: u64,
    /// Until when each way is taken by what was sent before.
    busy: [Instant; 2],
}

impl Ways {
    /// Way 0 is from the client to the server; socket 0 is the one that the client knows.
    async fn run(mut self, [near, far]: [UdpSocket; 2], server: SocketAddr) {
        let mut client = None;
        let (mut from_near, mut from_far) = (vec![0; DATAGRAM_BYTES_MAX], vec![0; DATAGRAM_BYTES_MAX]);
        loop {
            let next = self.due.peek().map(|Reverse((at, ..))| *at);
            tokio::select! {
                got = near.recv_from(&mut from_near) => if let Ok((len, from)) = got {
                    client = Some(from);
                    self.take(0, &from_near[..len]);
                },
                // An error tells that the server's port was closed; the next datagram may find it open.
                got = far.recv_from(&mut from_far) => if let Ok((len, _)) = got {
                    self.take(1, &from_far[..len]);
                },
                () = at(next) => {
                    let Some(Reverse((_, _, way, bytes))) = self.due.pop() else { continue };
                    let to = if way == 0 { Some(server) } else { client };
                    if let Some(to) = to {
                        let _ = if way == 0 { &far } else { &near }.send_to(&bytes, to).await;
                    }
                }
            }
        }
    }

    fn take(&mut self, way: usize, bytes: &[u8]) {
        self.counts[way].datagrams.fetch_add(1, Ordering::Relaxed);
        self.counts[way].bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.happens(self.shape.lost) {
            return;
        }
        let now = Instant::now();
        let mut leaves = now;
        if let Some(rate) = self.shape.bytes_per_second {
            let begins = self.busy[way].max(now);
            let waiting = begins.duration_since(now).as_secs_f64() * rate as f64;
            if waiting > QUEUE_BYTES_MAX as f64 {
                return;
            }
            leaves = begins + Duration::from_secs_f64(bytes.len() as f64 / rate as f64);
            self.busy[way] = leaves;
        }
        let mut due = leaves + self.shape.delay;
        if self.happens(self.shape.reordered) {
            due += self.shape.delay / 2 + Duration::from_millis(2);
        }
        let copies = 1 + u64::from(self.happens(self.shape.doubled));
        for _ in 0..copies {
            self.nth += 1;
            self.due.push(Reverse((due, self.nth, way, bytes.to_vec())));
        }
    }

    fn happens(&mut self, of_thousand: u64) -> bool {
        // splitmix64: a plain counter, scrambled.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 1000 < of_thousand
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
