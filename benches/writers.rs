//! Repairs in a loop while both sides are written: every verdict, every planted difference, every acknowledged write.
//!
//! `cargo bench --bench writers -- [seconds] [writes a second and side]`. Fails where a promise does not hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reknit::core::message::Rights;
use reknit::core::session::{Direction, Intent, Options as SessionOptions};
use reknit::core::{DatasetId, DatasetKey, Definition};
use reknit::node::{Budget, Home, KnownPeer, Node, NodeOptions, Served, SessionReport};
use reknit::store::{Options, Store};
use reknit::transport::Address;

/// The one of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records that both sides have at the beginning.
const SHARED: u64 = 200_000;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let mut number = |default| args.next().and_then(|arg| arg.parse::<u64>().ok()).unwrap_or(default);
    let (seconds, rate) = (number(10), number(1000));
    let dir = tempfile::tempdir().expect("a directory");
    let definition = Definition::simple(DatasetId([1; 16]), "bench");
    let make = |name: &str| {
        let key = DatasetKey::from_bytes([2; 32]);
        Store::create(&dir.path().join(name), definition.clone(), key, &Options::default()).expect("a store")
    };
    let (a, b) = (make("a"), make("b"));
    let rows = (0..SHARED).map(|n| Ok::<_, std::convert::Infallible>((n.to_be_bytes().to_vec(), vec![7; 100])));
    a.first().import(rows, &mut |_| ()).expect("imported");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let net = runtime.block_on(Net::start(dir.path(), &b));
    let repair = || runtime.block_on(net.repair(&a));
    assert_eq!(repair().outcome.verdict.name(), "in_sync");

    let over = AtomicBool::new(false);
    // Writers end with the scope, also where a promise did not hold.
    struct Ends<'o>(&'o AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (mut verdicts, mut planted, mut moved) = (BTreeMap::<&str, u64>::new(), 0_u64, 0);
    let written = std::thread::scope(|scope| {
        let writers = [&a, &b].map(|store| {
            let over = &over;
            let side = if std::ptr::eq(store, &a) { b'a' } else { b'b' };
            scope.spawn(move || write(store, side, rate, over))
        });
        let ends = Ends(&over);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            // What is written before a run begins must be there when it ends.
            let key = format!("planted {planted}");
            let (from, to) = if planted % 2 == 0 { (&a, &b) } else { (&b, &a) };
            from.put(key.as_bytes(), b"found").expect("put");
            planted += 1;
            let report = repair();
            let verdict = report.outcome.verdict.name();
            *verdicts.entry(verdict).or_default() += 1;
            moved += report.outcome.counts.to_mine.applied + report.outcome.counts.to_theirs.applied;
            assert!(matches!(verdict, "in_sync" | "converged"), "{verdict}: {}", report.outcome.reason);
            assert_eq!(to.get(key.as_bytes()).expect("read"), Some(b"found".to_vec()), "{key} was missed");
        }
        drop(ends);
        writers.map(|writer| writer.join().expect("it ends"))
    });
    let last = repair();
    assert_eq!((last.outcome.verdict.name(), a.root()), ("in_sync", b.root()));
    for (key, value) in written.iter().flat_map(|(own, _)| own) {
        for store in [&a, &b] {
            assert_eq!(store.get(key).expect("read").as_ref(), Some(value), "an acknowledged write is lost");
        }
    }
    let acknowledged: u64 = written.iter().map(|(_, n)| n).sum();
    let runs: u64 = verdicts.values().sum();
    println!("{seconds} s, {acknowledged} acknowledged writes, {runs} repairs: {verdicts:?}");
    println!("{planted} planted differences found, {moved} records moved, 0 acknowledged writes lost, then in sync");
    runtime.block_on(net.stop());
}

/// Puts `rate` a second: every other over keys that both sides write, the rest over keys of its own, whose last values it gives.
fn write(store: &Store, side: u8, rate: u64, over: &AtomicBool) -> (BTreeMap<Vec<u8>, Vec<u8>>, u64) {
    let mut own = BTreeMap::new();
    let began = Instant::now();
    let mut n = 0;
    while !over.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        if n >= due {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let value = [&n.to_be_bytes()[..], &[side; 92]].concat();
        if n % 2 == 0 {
            let shared = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % SHARED;
            store.put(&shared.to_be_bytes(), &value).expect("put");
        } else {
            let key = [&[side][..], &(n / 2 % 10_000).to_be_bytes()].concat();
            store.put(&key, &value).expect("put");
            own.insert(key, value);
        }
        n += 1;
    }
    (own, n)
}

/// A node that serves a store, and one that connects to it.
struct Net {
    address: Address,
    near: Node,
    stop: tokio::sync::watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

impl Net {
    async fn start(dir: &std::path::Path, served: &Store) -> Net {
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

    async fn repair(&self, a: &Store) -> SessionReport {
        let options = SessionOptions::new(Intent::Repair(Direction::Both));
        let (_never, going) = tokio::sync::watch::channel(false);
        let side = Arc::new(a.clone());
        let ran = self.near.session(&self.address, side, options, Budget::default(), going, &mut |_| {}).await;
        ran.expect("a session")
    }

    async fn stop(self) {
        self.stop.send(true).expect("it listens");
        self.serving.await.expect("it ends");
    }
}
