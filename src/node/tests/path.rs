//! Round trips of whole commands, handshake included, over QUIC on a network in memory whose clock is pretended: however
//! busy the machine is, what took so long took so many round trips.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use reknit_core::query::{Guard, Incoming};
use reknit_core::{Actor, CollectionId, Content, Record, Sibling, Stamp, State, Version};
use tokio::time::{Instant, Sleep};

use super::*;
use crate::transport::limits::{LEAVE_MAX, UNPROVEN_HANDSHAKES_MAX};
use crate::transport::{Connection, Endpoint, QuicOver};

const ROUND_TRIP: Duration = Duration::from_millis(60);
/// What tasks and timers may add on the pretended clock, which stands still while anything works.
const SLACK: Duration = Duration::from_millis(5);

type Datagram = (Instant, SocketAddr, Vec<u8>);

/// What is on its way to an address.
#[derive(Debug, Default)]
struct Inbox {
    coming: VecDeque<Datagram>,
    due: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
}

/// A network in memory: every datagram arrives, in order, half a round trip later.
#[derive(Clone, Debug, Default)]
struct Network(Arc<Mutex<HashMap<SocketAddr, Inbox>>>);

#[derive(Debug)]
struct Socket {
    network: Network,
    at: SocketAddr,
    /// One that is deaf never hears an answer.
    deaf: bool,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        let mut inboxes = self.network.0.lock().expect("no panic");
        let inbox = inboxes.entry(transmit.destination).or_default();
        inbox.coming.push_back((Instant::now() + ROUND_TRIP / 2, self.at, transmit.contents.to_vec()));
        inbox.reader.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inboxes = self.network.0.lock().expect("no panic");
        let Inbox { coming, due, reader } = inboxes.entry(self.at).or_default();
        *reader = Some(cx.waker().clone());
        let Some(at) = coming.front().map(|(at, ..)| *at).filter(|_| !self.deaf) else { return Poll::Pending };
        let due = due.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if due.deadline() != at {
            due.as_mut().reset(at);
        }
        if Instant::now() < at && due.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let Some((_, addr, bytes)) = coming.pop_front() else { return Poll::Pending };
        bufs[0][..bytes.len()].copy_from_slice(&bytes);
        meta[0] = RecvMeta { addr, len: bytes.len(), stride: bytes.len(), ecn: None, dst_ip: None };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}

#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A network with a node that serves a store.
struct Path {
    network: Network,
    server: Node,
    home: Home,
    hosts: u16,
    dir: tempfile::TempDir,
    _stop: Stop,
}

impl Path {
    fn to(store: &Store) -> Path {
        let (dir, network) = (tempfile::tempdir().expect("a directory"), Network::default());
        let home = Home::open(&dir.path().join("server")).expect("a home");
        let server = node(&network, &home, 1, true);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let (serving, side) = (server.clone(), Arc::new(store.clone()));
        tokio::spawn(async move { serving.serve(vec![super::super::Served { side }], stopped).await });
        Path { network, server, home, hosts: 1, dir, _stop: stop }
    }

    /// A node that may do everything at the server.
    fn client(&mut self) -> Node {
        self.hosts += 1;
        let home = Home::open(&self.dir.path().join(self.hosts.to_string())).expect("a home");
        let client = node(&self.network, &home, self.hosts, false);
        let known = KnownPeer { peer: client.peer(), may: Rights::ALL.into(), name: None };
        self.home.add_peer(&known).expect("added");
        client
    }

    fn address(&self) -> Address {
        let at = host(1);
        Address { peer: self.server.peer(), host: at.ip().to_string(), port: at.port(), dataset: "shop".into() }
    }

    /// So many handshakes begin, and come to nothing.
    async fn crowd(&self, handshakes: usize) {
        for nth in 0..handshakes {
            let at = host(10_000 + nth as u16);
            let socket = Arc::new(Socket { network: self.network.clone(), at, deaf: true });
            let identity = crate::transport::Identity::generate().expect("drawn");
            let endpoint = Endpoint::bind(&QuicOver(socket), at, &identity, false).expect("an endpoint");
            let address = self.address();
            tokio::spawn(async move { endpoint.connect(&address).await.is_err() });
        }
        tokio::time::sleep(ROUND_TRIP).await;
    }
}

fn host(nth: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], nth))
}

fn node(network: &Network, home: &Home, nth: u16, listen: bool) -> Node {
    let socket = Arc::new(Socket { network: network.clone(), at: host(nth), deaf: false });
    let identity = Arc::new(home.identity().expect("an identity"));
    Node::bind_over(home, identity, NodeOptions { bind: host(nth), listen }, &QuicOver(socket)).expect("a node")
}

fn pretend(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(test);
}

/// Round trips on the pretended clock, which are whole.
fn round_trips(took: Duration) -> u128 {
    let (whole, rest) = (took.as_micros() / ROUND_TRIP.as_micros(), took.as_micros() % ROUND_TRIP.as_micros());
    assert!(rest <= SLACK.as_micros(), "{took:?} is no number of round trips: something waited for a timer");
    whole
}

/// The same records wherever and whenever the test runs, so that the sketches are the same too.
fn apply(store: &Store, nths: impl Iterator<Item = u32>, stamp: u64) {
    let record = |nth: u32| {
        let content = Content::Live(format!("value {nth} {stamp}").into_bytes());
        let state =
            State::single(Sibling { version: Version::after(Stamp(stamp), Actor(1), []), content, expires: None });
        Incoming { record: Record { key: nth.to_be_bytes().to_vec(), state }, guard: Guard::Join }
    };
    let batch = nths.map(record).collect();
    crate::store::Side::apply(store, CollectionId(0), batch, Durability::Buffered).expect("applied");
}

const RECORDS: u32 = 30_000;

fn two_equal() -> (Store, Store) {
    let definition = Definition::simple(DatasetId([1; 16]), "shop");
    let make = || {
        let key = DatasetKey::from_bytes([2; 32]);
        let store = Store::in_memory(definition.clone(), key, &StoreOptions::default()).expect("a store");
        (0..RECORDS).step_by(5000).for_each(|from| apply(&store, from..from + 5000, 1));
        store
    };
    (make(), make())
}

/// Half missing on one side, a quarter on the other, a quarter changed, half of that on each.
fn drift(a: &Store, b: &Store, d: u32, times: u32) {
    let fresh = RECORDS + 100_000 * times;
    apply(a, fresh..fresh + d / 2, 2);
    apply(b, fresh + d / 2..fresh + d / 2 + d / 4, 2);
    let changed = |half: u32| (0..d - d / 2 - d / 4).filter(move |n| n % 2 == half).map(|n| n * 997 % RECORDS);
    apply(a, changed(0), 2 + u64::from(times));
    apply(b, changed(1), 2 + u64::from(times));
}

async fn on(connection: &Connection, a: &Store, intent: Intent) -> (u128, Verdict) {
    let began = Instant::now();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let options = Options { settle: 0, ..Options::new(intent) };
    let link = connection.open().await.expect("opened");
    let report = open_session(Arc::new(a.clone()), link, options, Budget::default(), stopped, &mut |_| {}).await;
    (round_trips(began.elapsed()), report.expect("an outcome").outcome.verdict)
}

async fn anew(path: &mut Path, a: &Store, intent: Intent) -> (u128, Verdict) {
    let (node, address, began) = (path.client(), path.address(), Instant::now());
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let options = Options { settle: 0, ..Options::new(intent) };
    let side = Arc::new(a.clone());
    let report = node.session(&address, side, options, Budget::default(), stopped, &mut |_| {}).await;
    let took = round_trips(began.elapsed());
    node.shutdown().await;
    let ended = began.elapsed() - ROUND_TRIP * u32::try_from(took).expect("few");
    assert!(ended <= 2 * LEAVE_MAX + SLACK, "{ended:?} after the outcome");
    (took, report.expect("an outcome").outcome.verdict)
}

#[test]
fn the_round_trips_of_commands_are_pinned() {
    pretend(async {
        let (a, b) = two_equal();
        let mut path = Path::to(&b);
        let (mut checks, mut repairs) = (Vec::new(), Vec::new());
        // The first has nothing to repair, each other a hundred differences.
        for times in 0..6 {
            drift(&a, &b, if times == 0 { 0 } else { 100 }, times);
            repairs.push(anew(&mut path, &a, REPAIR).await);
            checks.push(anew(&mut path, &a, Intent::Check).await);
            assert_eq!(a.root(), b.root());
        }
        // One is the handshake's, one the question's; then one for records, one for the last of them and for the roots.
        assert_eq!(checks, [(2, Verdict::InSync); 6]);
        assert_eq!(repairs.remove(0), (2, Verdict::InSync));
        repairs.sort_unstable_by_key(|(trips, _)| *trips);
        // Where the first cells do not suffice, more are asked for: that is once in a few times.
        assert!(repairs[..3] == [(4, Verdict::InSync); 3] && repairs[4].0 <= 5, "{repairs:?}");
    });
}

#[test]
fn a_connection_that_is_used_again_saves_the_handshake() {
    pretend(async {
        let (a, b) = two_equal();
        let mut path = Path::to(&b);
        let connection = path.client().connect(&path.address()).await.expect("connected");
        let mut repairs = Vec::new();
        for times in 0..5 {
            assert_eq!(on(&connection, &a, Intent::Check).await, (1, Verdict::InSync));
            drift(&a, &b, 100, times);
            repairs.push(on(&connection, &a, REPAIR).await);
            assert_eq!(a.root(), b.root());
        }
        repairs.sort_unstable_by_key(|(trips, _)| *trips);
        assert!(repairs[..3] == [(3, Verdict::InSync); 3] && repairs[4].0 <= 4, "{repairs:?}");
    });
}

#[test]
fn handshakes_that_prove_nothing_crowd_nobody_out() {
    pretend(async {
        let (a, b) = two_equal();
        let mut path = Path::to(&b);
        path.crowd(UNPROVEN_HANDSHAKES_MAX - 1).await;
        assert_eq!(anew(&mut path, &a, Intent::Check).await, (2, Verdict::InSync));
        path.crowd(2).await;
        // Now whoever comes has to prove its address first, for one round trip.
        assert_eq!(anew(&mut path, &a, Intent::Check).await, (3, Verdict::InSync));
        assert_eq!(anew(&mut path, &a, Intent::Check).await, (3, Verdict::InSync));
        // Those that dawdle are given up, and with them the retry.
        tokio::time::sleep(2 * crate::transport::limits::HANDSHAKE_TIMEOUT).await;
        assert_eq!(anew(&mut path, &a, Intent::Check).await, (2, Verdict::InSync));
    });
}
