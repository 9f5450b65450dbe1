//! What it takes of a processor to find what differs in two persistent stores that are at hand: no network, nothing applied.
//!
//! `cargo bench --bench warm -- [records] [fjall|redb]`. The method is in `benches/README.md`.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use reknit::core::message::{Life, Message, Rights};
use reknit::core::session::{Direction, Grant, Input, Intent, Opener, Options as SessionOptions, Output, Responder};
use reknit::core::{DatasetId, DatasetKey, Definition};
use reknit::store::{Durability, EngineKind, Op, Options, Side, Store, answer};

/// The one of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REPAIR: Intent = Intent::Repair(Direction::Both);
/// Each is done until all of it took so long, since the system counts in steps of milliseconds; the mean counts.
const IN_ALL: Duration = Duration::from_secs(1);

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let n: u64 = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(100_000);
    let engine = match args.next().as_deref() {
        Some("redb") => EngineKind::Redb,
        _ => EngineKind::Fjall,
    };
    let dir = tempfile::tempdir().expect("a directory");
    let [a, b] = equal(dir.path(), engine, n);
    println!(
        "{n} records, {engine}; milliseconds of processor, both sides, until both know what to send; records read"
    );
    told("check of 0", &a, &b, Intent::Check);
    told("diff of 0", &a, &b, Intent::Diff);
    told("repair of 0", &a, &b, REPAIR);
    let mut differ = 0;
    for d in [1, 10, 100, 1_000, 10_000, 100_000].into_iter().filter(|d| 2 * d <= n) {
        drift(&a, &b, n, differ, d);
        differ = d;
        told(&format!("repair of {d}"), &a, &b, REPAIR);
    }
}

fn key(n: u64) -> Vec<u8> {
    blake3::hash(&n.to_le_bytes()).as_bytes()[..16].to_vec()
}

fn value(n: u64) -> Vec<u8> {
    blake3::hash(&(!n).to_le_bytes()).as_bytes().iter().copied().cycle().take(100).collect()
}

fn equal(dir: &Path, engine: EngineKind, n: u64) -> [Store; 2] {
    let definition = Definition::simple(DatasetId([1; 16]), "bench");
    let options = Options { engine, ..Options::default() };
    let a = Store::create(&dir.join("a"), definition, DatasetKey::from_bytes([2; 32]), &options).expect("a store");
    let rows = (0..n).map(|i| Ok::<_, std::convert::Infallible>((key(i), value(i))));
    a.first().import(rows, &mut |_| {}).expect("imported");
    a.backup(&dir.join("copy"), &options, &mut |_| {}).expect("copied");
    let b = Store::restore(&dir.join("copy"), &dir.join("b"), &options, &mut |_| {}).expect("a second store");
    [a, b]
}

/// Makes `d` differ of which `before` do already: half missing on one side, a quarter on the other, a quarter changed.
fn drift(a: &Store, b: &Store, n: u64, before: u64, d: u64) {
    let write = |store: &Store, ops: Vec<Op>| {
        for some in ops.chunks(10_000) {
            store.batch(some.to_vec(), Durability::Synced).expect("written");
        }
    };
    let some = |kind: u64| (before..d).filter(move |i| i % 4 == kind);
    write(a, some(0).chain(some(1)).map(|i| Op::put(key(n + i), value(i))).collect());
    write(b, some(2).map(|i| Op::put(key(n + i), value(i))).collect());
    write(b, some(3).map(|i| Op::put(key(i), value(n + i))).collect());
}

fn told(what: &str, a: &Store, b: &Store, intent: Intent) {
    let reads = || [a, b].map(|store| store.stats().expect("stats").reads.records).iter().sum::<u64>();
    let (before, began, mut times) = (reads(), on_cpu(), 0);
    while on_cpu() - began < IN_ALL {
        found(a, b, intent);
        times += 1;
    }
    let (took, read) = ((on_cpu() - began) / times, (reads() - before) / u64::from(times));
    println!("  {what:<18} {:>10.3} ms {read:>8}", took.as_secs_f64() * 1000.0);
}

/// A session up to where records would travel.
fn found(a: &Store, b: &Store, intent: Intent) {
    let life = |store: &Store| Life { actor: store.describe().actor.0, nonce: store.describe().nonce };
    let (definition, keys) = (a.describe().definition, a.describe().keys);
    let options = SessionOptions { settle: 0, ..SessionOptions::new(intent) };
    let mut opener = Opener::new(definition.clone(), keys.clone(), life(a), options, 0);
    let mut responder = Responder::new(definition, keys, life(b), Grant::everywhere(Rights::ALL));
    let (mut to_opener, mut to_responder) = (VecDeque::new(), VecDeque::new());
    let carried = |message: &Message| Message::decode(&message.encode()).expect("what was sent is understood");
    let asked = |store: &Store, query| Input::Answer(answer::answer(store, query).expect("an answer"));
    loop {
        match opener.poll() {
            Some(Output::Send(message)) => to_responder.push_back(carried(&message)),
            Some(Output::Ask(query)) => opener.handle(asked(a, query), 0).expect("in order"),
            Some(Output::Done(_)) => return,
            Some(_) => {}
            None => match responder.poll() {
                Some(Output::Send(message)) => to_opener.push_back(carried(&message)),
                Some(Output::Ask(query)) => responder.handle(asked(b, query)).expect("in order"),
                Some(_) => {}
                None => {
                    if let Some(message) = to_responder.pop_front() {
                        responder.handle(Input::Message(message)).expect("the protocol is kept");
                    } else if let Some(message) = to_opener.pop_front() {
                        opener.handle(Input::Message(message), 0).expect("the protocol is kept");
                    } else {
                        // What is left is to come as records.
                        return;
                    }
                }
            },
        }
    }
}

/// How long this thread ran so far, where the system tells; else nothing.
fn on_cpu() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(told.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}
