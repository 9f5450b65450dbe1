//! What sessions cost over a network path: wall time in round trips, and all bytes on UDP.
//!
//! `cargo bench --bench path -- [records] [repeats] [only this round-trip time, in ms]`. The method is in `benches/README.md`.

#[path = "../tests/support/relay.rs"]
mod relay;

use std::sync::Arc;
use std::time::{Duration, Instant};

use reknit::core::message::Rights;
use reknit::core::session::{Direction, Intent, Options as SessionOptions, Verdict};
use reknit::core::{DatasetId, DatasetKey, Definition};
use reknit::node::{Budget, Home, KnownPeer, Node, NodeOptions, Served, between, open_session};
use reknit::store::{Durability, Op, Options, Store};
use reknit::transport::{Address, Connection};
use relay::{Relay, Shape};
use tokio::runtime::Runtime;

/// The one of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE_BYTES: usize = 100;
const ROUND_TRIPS_MS: [u64; 4] = [0, 10, 60, 150];
/// 10 Mbit/s each way.
const CAP: u64 = 10_000_000 / 8;
const DIFFERENCES: [u64; 5] = [0, 1, 100, 1000, 10_000];

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let n: u64 = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let repeats: usize = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(5);
    let only: Option<u64> = args.next().and_then(|arg| arg.parse().ok());
    let dir = tempfile::tempdir().expect("a directory");
    let definition = Definition::simple(DatasetId([1; 16]), "bench");
    let make = |name: &str| {
        let key = DatasetKey::from_bytes([2; 32]);
        let store = Store::create(&dir.path().join(name), definition.clone(), key, &Options::default());
        store.expect("a store")
    };
    let (a, b) = (make("a"), make("b"));
    import(&a, n);
    let path = Arc::new(Path::start(dir.path(), &b));
    path.fill(&a, &b);
    println!(
        "{n} records, 16-byte keys, {VALUE_BYTES}-byte values, fjall, QUIC on loopback through a relay, one process;"
    );
    println!(
        "medians of {repeats}: ms to the outcome | round trips | ms from there to the end of a program | bytes on UDP\n"
    );
    let mut bench = Bench { path, a, b, n, drifted: 0, repeats };
    for cap in [None, Some(CAP)] {
        for round_trip in ROUND_TRIPS_MS.into_iter().filter(|ms| only.is_none_or(|only| only == *ms)) {
            bench.table(Duration::from_millis(round_trip), cap);
        }
    }
}

/// One measured session.
#[derive(Clone, Copy)]
struct Figures {
    outcome_ms: f64,
    after_ms: f64,
    bytes: u64,
}

struct Bench {
    path: Arc<Path>,
    a: Store,
    b: Store,
    n: u64,
    drifted: u64,
    repeats: usize,
}

impl Bench {
    /// All sessions at one round-trip time, over new connections and over one that is used again.
    fn table(&mut self, round_trip: Duration, cap: Option<u64>) {
        let (ms, trips) = (round_trip.as_millis(), round_trip.as_secs_f64() * 1000.0);
        println!("{ms} ms, {}", if cap.is_some() { "10 Mbit/s" } else { "no cap" });
        let shape = Shape { delay: round_trip / 2, bytes_per_second: cap, ..Shape::default() };
        let reused = self.path.reuse(shape);
        // What is first on a connection is measured as a new one.
        reused.session(&self.a, Intent::Check, shape);
        let operations = std::iter::once((Intent::Check, 0));
        for (intent, d) in operations.chain(DIFFERENCES.map(|d| (Intent::Repair(Direction::Both), d))) {
            let (mut new, mut old) = (Vec::new(), Vec::new());
            for _ in 0..self.repeats {
                self.drift(d);
                new.push(self.path.session(&self.a, intent, shape));
                self.drift(d);
                old.push(reused.session(&self.a, intent, shape));
            }
            let what = if intent == Intent::Check { "check, equal".into() } else { format!("repair of {d}") };
            println!("  {what:<16} new: {}   reused: {}", tell(new, trips), tell(old, trips));
        }
    }

    /// Half missing on one side, a quarter on the other, a quarter changed, half of that on each; scattered.
    fn drift(&mut self, d: u64) {
        let base = self.n + self.drifted;
        self.drifted += d;
        let fresh = |from: u64, many: u64| (from..from + many).map(|i| Op::put(key(i), value(i))).collect::<Vec<_>>();
        let changed = d - d / 2 - d / 4;
        let mut to_a = fresh(base, d / 2);
        let mut to_b = fresh(base + d / 2, d / 4);
        for i in 0..changed {
            let op = Op::put(key((base + i) * 7919 % self.n), value(base + i));
            if i % 2 == 0 { to_b.push(op) } else { to_a.push(op) }
        }
        for (store, ops) in [(&self.a, to_a), (&self.b, to_b)] {
            if !ops.is_empty() {
                store.batch(ops, Durability::Synced).expect("written");
            }
        }
    }
}

fn tell(figures: Vec<Figures>, round_trip_ms: f64) -> String {
    let median = |of: &dyn Fn(&Figures) -> f64| {
        let mut all: Vec<f64> = figures.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let ms = median(&|f| f.outcome_ms);
    let trips = if round_trip_ms > 0.0 { format!("{:5.2}", ms / round_trip_ms) } else { "    -".into() };
    let (after, bytes) = (median(&|f| f.after_ms), median(&|f| f.bytes as f64));
    format!("{ms:8.1} ms | {trips} | +{after:.0} ms | {bytes:>8} B")
}

fn key(n: u64) -> Vec<u8> {
    blake3::hash(&n.to_le_bytes()).as_bytes()[..16].to_vec()
}

fn value(n: u64) -> Vec<u8> {
    let hash = blake3::hash(&(!n).to_le_bytes());
    hash.as_bytes().iter().copied().cycle().take(VALUE_BYTES).collect()
}

fn import(store: &Store, n: u64) {
    let rows = (0..n).map(|i| Ok::<_, std::convert::Infallible>((key(i), value(i))));
    store.first().import(rows, &mut |_| {}).expect("imported");
}

/// A node that serves a store, and the way to it. The relay has threads of its own: a store at work holds it up no more
/// than it would hold up a network.
struct Path {
    near: Home,
    address: Address,
    stores: Runtime,
    network: Runtime,
    _stop: tokio::sync::watch::Sender<bool>,
}

/// A connection that sessions run over one after another.
struct Reused {
    path: Arc<Path>,
    relay: Relay,
    connection: Connection,
}

impl Path {
    fn start(dir: &std::path::Path, served: &Store) -> Path {
        let threads = |many| tokio::runtime::Builder::new_multi_thread().worker_threads(many).enable_all().build();
        let (stores, network) = (threads(2).expect("threads"), threads(1).expect("a thread"));
        let [near, far] = ["home-a", "home-b"].map(|name| Home::open(&dir.join(name)).expect("a home"));
        let bind = "127.0.0.1:0".parse().expect("an address");
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let side = Arc::new(served.clone());
        let address = stores.block_on(async {
            let client = Node::bind(&near, NodeOptions { bind, listen: false }).expect("bound");
            let node = Node::bind(&far, NodeOptions { bind, listen: true }).expect("bound");
            far.add_peer(&KnownPeer { peer: client.peer(), may: Rights::ALL.into(), name: None }).expect("added");
            let port = node.local_addr().expect("bound").port();
            let address = Address { peer: node.peer(), host: "127.0.0.1".into(), port, dataset: "bench".into() };
            tokio::spawn(async move { node.serve(vec![Served { side }], stopped).await.expect("served") });
            address
        });
        Path { near, address, stores, network, _stop: stop }
    }

    /// Makes `b` equal to `a`.
    fn fill(&self, a: &Store, b: &Store) {
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let (a, b, options) = (Arc::new(a.clone()), Arc::new(b.clone()), options(Intent::Repair(Direction::Both)));
        let filled = self.stores.block_on(between(a, b, options, Budget::default(), stopped, &mut |_| {}));
        assert_eq!(filled.expect("a session").outcome.verdict, Verdict::InSync);
    }

    fn relay(&self, shape: Shape) -> (Relay, Address) {
        let server = format!("127.0.0.1:{}", self.address.port).parse().expect("an address");
        let relay = self.network.block_on(Relay::start(server, shape, 1)).expect("a relay");
        let address = Address { port: relay.address().port(), ..self.address.clone() };
        (relay, address)
    }

    /// A session of a program of its own, as a command runs it: bind, connect, session, end.
    fn session(&self, a: &Store, intent: Intent, shape: Shape) -> Figures {
        let (relay, address) = self.relay(shape);
        self.stores.block_on(async {
            let (_stop, stopped) = tokio::sync::watch::channel(false);
            let side = Arc::new(a.clone());
            let began = Instant::now();
            let node = Node::client(&self.near, &address).expect("bound");
            let report = node.session(&address, side, options(intent), Budget::default(), stopped, &mut |_| {}).await;
            let outcome = began.elapsed();
            node.shutdown().await;
            let after = began.elapsed() - outcome;
            assert_eq!(report.expect("a session").outcome.verdict, Verdict::InSync);
            quiet(shape).await;
            figures(outcome, after, sent(&relay))
        })
    }

    fn reuse(self: &Arc<Self>, shape: Shape) -> Reused {
        let (relay, address) = self.relay(shape);
        let connection = self.stores.block_on(async {
            let node = Node::client(&self.near, &address).expect("bound");
            node.connect(&address).await.expect("connected")
        });
        Reused { path: self.clone(), relay, connection }
    }
}

impl Reused {
    fn session(&self, a: &Store, intent: Intent, shape: Shape) -> Figures {
        self.path.stores.block_on(async {
            let before = sent(&self.relay);
            let (_stop, stopped) = tokio::sync::watch::channel(false);
            let side = Arc::new(a.clone());
            let began = Instant::now();
            let link = self.connection.open().await.expect("opened");
            let report = open_session(side, link, options(intent), Budget::default(), stopped, &mut |_| {}).await;
            let outcome = began.elapsed();
            assert_eq!(report.expect("a session").outcome.verdict, Verdict::InSync);
            quiet(shape).await;
            figures(outcome, Duration::ZERO, sent(&self.relay) - before)
        })
    }
}

fn options(intent: Intent) -> SessionOptions {
    SessionOptions { settle: 0, ..SessionOptions::new(intent) }
}

fn sent(relay: &Relay) -> u64 {
    relay.by_client().bytes + relay.by_server().bytes
}

fn figures(outcome: Duration, after: Duration, bytes: u64) -> Figures {
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    Figures { outcome_ms: ms(outcome), after_ms: ms(after), bytes }
}

/// Lets what is under way arrive, and be acknowledged.
async fn quiet(shape: Shape) {
    tokio::time::sleep(4 * shape.delay + Duration::from_millis(100)).await;
}
