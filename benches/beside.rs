//! What clients of a store wait for their writes, alone and beside a repair of that store, which gives way or does not.
//!
//! `cargo bench --bench beside -- [records] [differences] [writes a second]`. The method is in `benches/README.md`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reknit::core::session::{Direction, Intent, Options as SessionOptions, Verdict};
use reknit::core::{DatasetId, DatasetKey, Definition};
use reknit::node::{Budget, between};
use reknit::store::{Durability, Op, Options, Store};

/// The one of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often clients are watched alone and beside a repair, in turn: one stall of a disk is not to decide.
const ROUNDS: u8 = 3;
/// How long the clients are watched alone.
const ALONE: Duration = Duration::from_secs(20);
/// They are so many threads: one alone would be bound by the disk's syncs.
const CLIENTS: u32 = 8;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let mut number = |default| args.next().and_then(|arg| arg.parse::<u64>().ok()).unwrap_or(default);
    let (n, d, rate) = (number(1_000_000), number(100_000), number(1_000));
    let dir = tempfile::tempdir().expect("a directory");
    println!("{n} records of 16 + 100 bytes, {d} of them repaired, clients that write {rate} a second");
    for gives_way in [true, false] {
        let stores = ["a", "b"].map(|name| store(&dir.path().join(format!("{name}{gives_way}")), gives_way));
        fill(&stores, n);
        measure(&stores, (n, d), rate, gives_way);
    }
}

fn measure(stores: &[Store; 2], (n, d): (u64, u64), rate: u64, gives_way: bool) {
    let [a, b] = stores;
    let (mut alone, mut beside, mut took) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        differ(a, n, d, round);
        settle();
        alone.extend(clients(b, (round, rate), || std::thread::sleep(ALONE)));
        beside.extend(clients(b, (round + ROUNDS, rate), || {
            let began = Instant::now();
            repair(a, b);
            took.push(format!("{:.1}", began.elapsed().as_secs_f64()));
        }));
    }
    let word = if gives_way { "gives way" } else { "does not" };
    println!("the repair {word}: {} s", took.join(", "));
    for (name, waits) in [("alone", &mut alone), ("beside", &mut beside)] {
        waits.sort_by(f64::total_cmp);
        let at = |of_a_thousand| at(waits, of_a_thousand);
        println!(
            "  {name}: {:.2} {:.2} {:.2} ms of {} writes (p50, p99, p99.9)",
            at(500),
            at(990),
            at(999),
            waits.len()
        );
    }
    println!("  p99 beside to alone: {:.1}", at(&beside, 990) / at(&alone, 990));
}

/// What each write of the clients waited from when it was due, in milliseconds, while something else goes on.
fn clients(store: &Store, (phase, rate): (u8, u64), meanwhile: impl FnOnce()) -> Vec<f64> {
    let done = AtomicBool::new(false);
    let each = Duration::from_secs(u64::from(CLIENTS)) / u32::try_from(rate).expect("a rate");
    let write = |client: u32| {
        let began = Instant::now() + each * client / CLIENTS;
        let mut waits = Vec::new();
        for nth in 0u32.. {
            if done.load(Ordering::Relaxed) {
                break;
            }
            let due = began + each * nth;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let key = blake3::hash(&[&[phase][..], &client.to_le_bytes(), &nth.to_le_bytes()].concat());
            store.put(&[&b"client "[..], &key.as_bytes()[..8]].concat(), &[7; 100]).expect("put");
            waits.push(due.elapsed().as_secs_f64() * 1e3);
        }
        waits
    };
    std::thread::scope(|scope| {
        let write = &write;
        let writers: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || write(client))).collect();
        {
            let _ended = Ended(&done);
            meanwhile();
        }
        writers.into_iter().flat_map(|writer| writer.join().expect("a client")).collect()
    })
}

/// Tells the clients that it is over, also where what went on beside it failed.
struct Ended<'d>(&'d AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until the engines have put in order what they were filled with, by the processor time of this process.
fn settle() {
    let ticks = || {
        let stat = std::fs::read_to_string("/proc/self/stat").expect("a process");
        let after = stat.rsplit(')').next().expect("fields after the name");
        after.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum::<u64>()
    };
    loop {
        let before = ticks();
        std::thread::sleep(Duration::from_secs(2));
        if ticks() - before < 5 {
            return;
        }
    }
}

/// What so many of a thousand waited at most.
fn at(waits: &[f64], of_a_thousand: usize) -> f64 {
    waits[(waits.len() * of_a_thousand / 1_000).min(waits.len() - 1)]
}

fn store(dir: &Path, gives_way: bool) -> Store {
    let definition = Definition::simple(DatasetId([7; 16]), "records");
    let options = Options { gives_way, ..Options::default() };
    Store::create(dir, definition, DatasetKey::from_bytes([9; 32]), &options).expect("a store")
}

fn repair(a: &Store, b: &Store) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let options = SessionOptions::new(Intent::Repair(Direction::Both));
    let (_never, stop) = tokio::sync::watch::channel(false);
    let mut quiet = |_| {};
    let session = between(Arc::new(a.clone()), Arc::new(b.clone()), options, Budget::default(), stop, &mut quiet);
    let report = runtime.block_on(session).expect("an outcome");
    let verdict = report.outcome.verdict;
    assert!(matches!(verdict, Verdict::InSync | Verdict::Converged), "{verdict:?} {:?}", report.lost);
}

/// The same records in both stores.
fn fill([a, b]: &[Store; 2], n: u64) {
    let row = |i| Ok::<_, std::convert::Infallible>((key(i), vec![b'v'; 100]));
    a.first().import((0..n).map(row), &mut |_| {}).expect("imported");
    repair(a, b);
}

/// Makes some records newer in one store.
fn differ(store: &Store, n: u64, d: u64, round: u8) {
    for first in (0..d).step_by(10_000) {
        let ops = (first..d.min(first + 10_000)).map(|i| Op::put(key(i * (n / d)), vec![round; 100]));
        store.batch(ops.collect(), Durability::Synced).expect("written");
    }
}

fn key(nth: u64) -> Vec<u8> {
    blake3::hash(&nth.to_le_bytes()).as_bytes()[..16].to_vec()
}
