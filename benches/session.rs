//! What sessions cost over QUIC on loopback: bytes, round trips, records moved, time.
//!
//! `cargo bench --bench session -- [records] [fjall|redb]`. The method is in `benches/README.md`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use reknit::core::message::Rights;
use reknit::core::session::{Direction, Intent, Options as SessionOptions};
use reknit::core::{DatasetId, DatasetKey, Definition};
use reknit::node::{Budget, Home, KnownPeer, Node, NodeOptions, Served, SessionReport, open_session};
use reknit::store::{Durability, EngineKind, Op, Options, Store};
use reknit::transport::Address;

/// The one of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE_BYTES: usize = 100;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let n: u64 = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(100_000);
    let engine = match args.next().as_deref() {
        Some("redb") => EngineKind::Redb,
        _ => EngineKind::Fjall,
    };
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { engine, ..Options::default() };
    let definition = Definition::simple(DatasetId([1; 16]), "bench");
    let make = |name: &str| {
        let key = DatasetKey::from_bytes([2; 32]);
        Store::create(&dir.path().join(name), definition.clone(), key, &options).expect("a store")
    };
    println!("{n} records, 16-byte keys, {VALUE_BYTES}-byte values, {engine:?}, QUIC on loopback, one process");

    let (local, a) = (make("local"), make("a"));
    // Into an empty store, and over older records of the same keys: what a repair of each kind is held against.
    let into_empty = import(&local, n, 0);
    let over_older = import(&local, n, n);
    drop(local);
    std::fs::remove_dir_all(dir.path().join("local")).expect("removed");
    import(&a, n, 0);
    let b = make("b");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let net = runtime.block_on(Net::start(dir.path(), &b));
    let run = |intent| runtime.block_on(net.session(&a, intent));

    let filled = run(Intent::Repair(Direction::Both));
    tell("fill an empty side", &filled);
    tell_rate(n, &filled, into_empty);

    tell("check, equal", &run(Intent::Check));
    tell("diff, equal", &run(Intent::Diff));
    a.put(&key(n / 2), b"another value").expect("put");
    tell("diff of 1", &run(Intent::Diff));
    tell("repair of 1", &run(Intent::Repair(Direction::Both)));
    for d in [100, 1000, 10_000] {
        drift(&a, &b, n, d);
        let reads = (a.stats().expect("stats").reads, b.stats().expect("stats").reads);
        let report = run(Intent::Repair(Direction::Both));
        tell(&format!("repair of {d}"), &report);
        let moved = report.outcome.counts.to_mine.applied + report.outcome.counts.to_theirs.applied;
        println!("  records moved / records different: {:.2}", moved as f64 / d as f64);
        let now = (a.stats().expect("stats").reads, b.stats().expect("stats").reads);
        println!("  records read: {} here, {} there", now.0.records - reads.0.records, now.1.records - reads.1.records);
    }
    change_all(&b, n);
    let report = run(Intent::Repair(Direction::Both));
    tell("repair where all changed", &report);
    tell_rate(n, &report, over_older);
    println!("peak memory of the process, both sides in it: {}", peak());
    runtime.block_on(net.stop());
}

fn key(n: u64) -> Vec<u8> {
    blake3::hash(&n.to_le_bytes()).as_bytes()[..16].to_vec()
}

fn value(n: u64) -> Vec<u8> {
    let hash = blake3::hash(&(!n).to_le_bytes());
    hash.as_bytes().iter().copied().cycle().take(VALUE_BYTES).collect()
}

/// Imports all keys with the values from `first` on; gives records a second.
fn import(store: &Store, n: u64, first: u64) -> f64 {
    let began = Instant::now();
    let rows = (0..n).map(|i| Ok::<_, std::convert::Infallible>((key(i), value(first + i))));
    store.first().import(rows, &mut |_| {}).expect("imported");
    n as f64 / began.elapsed().as_secs_f64()
}

/// Half missing on one side, a quarter on the other, a quarter changed, scattered.
fn drift(a: &Store, b: &Store, n: u64, d: u64) {
    let fresh = |store: &Store, from: u64, many: u64| {
        let ops = (from..from + many).map(|i| Op::put(key(n + i), value(i))).collect();
        store.batch(ops, Durability::Synced).expect("written");
    };
    let base = d * 1_000_000;
    fresh(a, base, d / 2);
    fresh(b, base + d / 2, d / 4);
    let changed = (0..d - d / 2 - d / 4).map(|i| Op::put(key(i * 7919 % n), value(base + i))).collect();
    b.batch(changed, Durability::Synced).expect("written");
}

fn change_all(store: &Store, n: u64) {
    const BATCH: u64 = 10_000;
    for from in (0..n).step_by(BATCH as usize) {
        let ops = (from..n.min(from + BATCH)).map(|i| Op::put(key(i), value(n + i))).collect();
        store.batch(ops, Durability::Synced).expect("written");
    }
}

fn tell(what: &str, report: &SessionReport) {
    let (counts, traffic) = (&report.outcome.counts, report.traffic);
    println!(
        "{what}: {} | {} differ | {} flights | messages {} B | records {} B | {:.1} ms",
        report.outcome.verdict.name(),
        counts.differences(),
        counts.flights,
        traffic.control(),
        traffic.records_sent + traffic.records_received,
        report.elapsed.as_secs_f64() * 1000.0
    );
}

fn tell_rate(n: u64, report: &SessionReport, import: f64) {
    let rate = n as f64 / report.elapsed.as_secs_f64();
    println!("  the same imported: {import:.0}/s, this {rate:.0}/s: {:.2} of it", rate / import);
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("not known here").to_string()
}

/// A node that serves a store, and one that connects to it.
struct Net {
    address: Address,
    near: Node,
    stop: tokio::sync::watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

impl Net {
    async fn start(dir: &Path, served: &Store) -> Net {
        let homes = ["home-a", "home-b"].map(|name| Home::open(&dir.join(name)).expect("a home"));
        let bind = "127.0.0.1:0".parse().expect("an address");
        let near = Node::bind(&homes[0], NodeOptions { bind, listen: false }).expect("bound");
        let far = Node::bind(&homes[1], NodeOptions { bind, listen: true }).expect("bound");
        homes[1].add_peer(&KnownPeer { peer: near.peer(), may: Rights::ALL.into(), name: None }).expect("added");
        let port = far.local_addr().expect("bound").port();
        let address = Address { peer: far.peer(), host: "127.0.0.1".into(), port, dataset: "bench".into() };
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let side = Arc::new(served.clone());
        let serving = tokio::spawn(async move { far.serve(vec![Served { side }], stopped).await.expect("served") });
        Net { address, near, stop, serving }
    }

    async fn session(&self, a: &Store, intent: Intent) -> SessionReport {
        let connection = self.near.connect(&self.address).await.expect("connected");
        let link = connection.open().await.expect("opened");
        let options = SessionOptions { settle: 0, ..SessionOptions::new(intent) };
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let side = Arc::new(a.clone());
        let report = open_session(side, link, options, Budget::default(), stopped, &mut |_| {}).await;
        report.expect("a session")
    }

    async fn stop(self) {
        self.stop.send(true).expect("it listens");
        self.serving.await.expect("it ends");
    }
}
