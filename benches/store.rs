//! What the embedded store costs: durable loads, group commit, imports, and the work on tree and sketches alone.
//! Prints one table; `benches/README.md` says how the figures are taken.
//!
//! `cargo bench --bench store -- [--records N] [--only WORD]…`: rows whose name holds a word; all without one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reknit::core::sketch::{self, Element, Falls, KEPT_DEPTH_MAX, Sketch, cells_kept};
use reknit::core::tree::{Change, LEAF_ENTRIES_MAX, Nodes, Summary, update};
use reknit::core::{
    Actor, CollectionId, Content, DatasetId, DatasetKey, Definition, Digest, Entry, Keys, Position, Profile, Range,
    Record, Sibling, Stamp, State, Version,
};
use reknit::store::engine::{Batch, Engine, Snapshot};
use reknit::store::{Durability, EngineError, EngineKind, Op, Options, Side as _, Store};

/// The one of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 10_000;
const VALUE_BYTES: usize = 100;
/// Elements whose cells are worked out at once, as by the store.
const LAID_AT_ONCE: usize = 4096;

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut records, mut only) = (100_000_u64, Vec::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--records" => records = args.next().and_then(|n| n.parse().ok()).unwrap_or(records),
            "--only" => only.extend(args.next()),
            _ => {}
        }
    }
    println!("{records} records, keys of 16 B, values of {VALUE_BYTES} B, batches of {BATCH}");
    println!(
        "{:<34} {:>12} {:>9} {:>9} {:>10} {:>9}",
        "what", "records/s", "seconds", "disk MB", "written MB", "peak MB"
    );
    let wanted = |name: &str| only.is_empty() || only.iter().all(|word| name.contains(word.as_str()));
    for engine in [EngineKind::Fjall, EngineKind::Redb] {
        for (order, sorted) in [("random", false), ("sorted", true)] {
            for (what, kind) in [("tree", Kind::Whole), ("no tree", Kind::NoTree), ("no key index", Kind::NoKeyIndex)] {
                let name = format!("load {engine} {order} {what}");
                if wanted(&name) {
                    load(&name, engine, records, sorted, kind);
                }
            }
        }
        let name = format!("overwrite {engine} random");
        if wanted(&name) {
            overwrite(&name, engine, records);
        }
        let name = format!("import {engine}");
        if wanted(&name) {
            import(&name, engine, records);
        }
        let name = format!("sketches {engine}");
        if wanted(&name) {
            ask(&name, engine, records);
        }
        for writers in [1, 16] {
            let name = format!("writers {engine} {writers}");
            if wanted(&name) {
                write_together(&name, engine, writers);
            }
        }
    }
    for (batch, what) in [(1, "one put"), (BATCH, "a batch of puts")] {
        for (kept, kind) in [("whole", Kind::Whole), ("no tree", Kind::NoTree)] {
            let name = format!("memory {what} {kept}");
            if wanted(&name) {
                in_memory(&name, records, batch, kind);
            }
        }
    }
    if wanted("weigh") {
        weigh(records);
    }
    if wanted("tables") {
        weigh_tables(records);
    }
    for cores in [1, 2] {
        let name = format!("build on {cores} core{}", if cores == 1 { "" } else { "s" });
        if wanted(&name) {
            build(&name, records, cores);
        }
    }
    for (batch, name) in [(1, "digest one put"), (BATCH, "digest a batch of puts")] {
        if wanted(name) {
            digest(name, records, batch);
        }
    }
}

fn row(name: &str, records: u64, took: Duration, store: Option<&Store>) {
    let per_second = records as f64 / took.as_secs_f64();
    let disk = store.and_then(|store| store.stats().ok()).map_or(0, |stats| stats.disk_bytes >> 20);
    let written = written_mb();
    println!("{name:<34} {per_second:>12.0} {:>9.2} {disk:>9} {written:>10} {:>9}", took.as_secs_f64(), peak_mb());
}

/// What this process handed to the system to be written so far, in MiB, where the system tells.
fn written_mb() -> u64 {
    let told = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = told.lines().find(|line| line.starts_with("wchar:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|bytes| bytes.parse::<u64>().ok()).unwrap_or(0) >> 20
}

/// How long this thread ran so far, where the system tells; else nothing.
fn on_cpu() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(told.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// The most memory that was resident so far, in MiB, where the system tells.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) >> 10
}

/// Numbers that look random and never repeat.
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn key(n: u64) -> Vec<u8> {
    [mixed(n).to_be_bytes(), n.to_be_bytes()].concat()
}

fn value(n: u64) -> Vec<u8> {
    (0..VALUE_BYTES as u64 / 4).flat_map(|i| mixed(n ^ i << 40).to_le_bytes()[..4].to_vec()).collect()
}

/// What a store keeps beside its records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Tree and index by key.
    Whole,
    /// The index by key alone.
    NoTree,
    /// The tree alone.
    NoKeyIndex,
}

fn create(dir: &std::path::Path, engine: EngineKind, kind: Kind) -> Store {
    let key_index = kind != Kind::NoKeyIndex;
    let definition = Definition { key_index, ..Definition::simple(DatasetId([7; 16]), "bench") };
    let options = Options { engine, no_tree: kind == Kind::NoTree, ..Options::default() };
    Store::create(dir, definition, DatasetKey::from_bytes([9; 32]), &options).expect("a store")
}

fn load(name: &str, engine: EngineKind, records: u64, sorted: bool, kind: Kind) {
    let home = tempfile::tempdir().expect("a directory");
    let store = create(&home.path().join("store"), engine, kind);
    let mut order = Vec::new();
    if sorted {
        // In the order of positions, as an import writes.
        order.extend(0..records);
        order.sort_by_cached_key(|n| store.keys().position("default", &key(*n)));
    }
    let mut took = Duration::ZERO;
    for first in (0..records).step_by(BATCH) {
        let some = first..records.min(first + BATCH as u64);
        let some = some.map(|nth| order.get(nth as usize).copied().unwrap_or(nth));
        let ops = some.map(|n| Op::put(key(n), value(n))).collect();
        let began = Instant::now();
        store.batch(ops, Durability::Synced).expect("a batch");
        took += began.elapsed();
    }
    row(name, records, took, Some(&store));
}

/// Overwrites in a store without a disk, by the time that the writing thread ran, so that others on the machine matter
/// less: with and without tree and sketches tells what those cost.
fn in_memory(name: &str, records: u64, batch: usize, kind: Kind) {
    let options = Options { no_tree: kind == Kind::NoTree, ..Options::default() };
    let definition = Definition { key_index: false, ..Definition::simple(DatasetId([7; 16]), "bench") };
    let store = Store::in_memory(definition, DatasetKey::from_bytes([9; 32]), &options).expect("a store");
    for first in (0..records).step_by(BATCH) {
        let ops = (first..records.min(first + BATCH as u64)).map(|n| Op::put(key(n), value(n))).collect();
        store.batch(ops, Durability::Buffered).expect("a batch");
    }
    let writes = if batch == 1 { 300_000 } else { 60 * BATCH };
    let began = on_cpu();
    for nth in 0..writes / batch {
        let some = (nth * batch..).take(batch).map(|n| mixed(!(n as u64)) % records);
        let ops = some.map(|n| Op::put(key(n), value(n + nth as u64))).collect();
        store.batch(ops, Durability::Buffered).expect("a batch");
    }
    let took = on_cpu() - began;
    row(name, writes as u64, took, None);
}

fn overwrite(name: &str, engine: EngineKind, records: u64) {
    let home = tempfile::tempdir().expect("a directory");
    let store = create(&home.path().join("store"), engine, Kind::Whole);
    let rows = (0..records).map(|n| Ok::<_, Infallible>((key(n), value(n))));
    store.first().import(rows, &mut |_| ()).expect("an import");
    let writes = records / 5;
    let mut took = Duration::ZERO;
    for batch in 0..writes.div_ceil(BATCH as u64) {
        let some = (batch * BATCH as u64..).take(BATCH).map(|n| mixed(!n) % records);
        let ops = some.map(|n| Op::put(key(n), value(n + batch))).collect();
        let began = Instant::now();
        store.batch(ops, Durability::Synced).expect("a batch");
        took += began.elapsed();
    }
    row(name, writes.div_ceil(BATCH as u64) * BATCH as u64, took, Some(&store));
}

fn import(name: &str, engine: EngineKind, records: u64) {
    let home = tempfile::tempdir().expect("a directory");
    let store = create(&home.path().join("store"), engine, Kind::Whole);
    let rows = (0..records).map(|n| Ok::<_, Infallible>((key(n), value(n))));
    let began = Instant::now();
    store.first().import(rows, &mut |_| ()).expect("an import");
    row(name, records, began.elapsed(), Some(&store));
}

/// An engine that keeps nothing but the number and the bytes of rows by their tag.
#[derive(Default)]
struct Scales([(AtomicU64, AtomicU64); 16]);

impl Engine for Scales {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        Err(EngineError::Missing { dir: std::path::PathBuf::new() })
    }

    fn commit(&self, batch: &mut Batch, _: Durability) -> Result<(), EngineError> {
        for (key, value) in batch.sorted() {
            // Nodes that are leaves apart from others, by their counts.
            let leaf = key[0] == 3 && value.is_some_and(|value| value[1] <= LEAF_ENTRIES_MAX as u8);
            let (rows, bytes) = &self.0[if leaf { 15 } else { usize::from(key[0]) }];
            rows.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add((key.len() + value.map_or(0, <[u8]>::len)) as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        Ok(0)
    }
}

/// Bytes of rows by what they are for, keys and values, without what the engine adds.
fn weigh(records: u64) {
    let home = tempfile::tempdir().expect("a directory");
    let store = create(&home.path().join("store"), EngineKind::Fjall, Kind::Whole);
    for first in (0..records).step_by(BATCH) {
        let ops = (first..records.min(first + BATCH as u64)).map(|n| Op::put(key(n), value(n))).collect();
        store.batch(ops, Durability::Buffered).expect("a batch");
    }
    let scales = Scales::default();
    store.copy_rows(&scales).expect("all rows");
    let of = |tag: usize| (scales.0[tag].0.load(Ordering::Relaxed), scales.0[tag].1.load(Ordering::Relaxed));
    let whole = of(1).1;
    let kinds = [
        ("records", 1),
        ("index by key", 4),
        ("entries", 2),
        ("nodes, inner", 3),
        ("nodes, leaves", 15),
        ("cells", 7),
        ("tails", 8),
    ];
    for (what, tag) in kinds {
        let (rows, bytes) = of(tag);
        let (share, each) = (100.0 * bytes as f64 / whole as f64, bytes as f64 / records as f64);
        println!("  {what:<16} {rows:>10} rows {bytes:>12} B {each:>8.2} B a record {share:>7.2} % of the records");
    }
    let kept: u64 = [2, 3, 15, 7, 8].iter().map(|tag| of(*tag).1).sum();
    let nodes = of(3).0 + of(15).0;
    for width in [32, 16, 8] {
        let less = (32 - width) * (of(2).0 + nodes);
        let entries_alone = (32 - width) * of(2).0;
        let [all, some] = [less, entries_alone].map(|less| 100.0 * (kept - less) as f64 / whole as f64);
        println!("  digests kept of {width:>2} B: of entries {some:.1} %, of nodes too {all:.1} % of the records");
    }
}

/// What the tables of a compact copy take on disk: all that is kept, without the tree and what comes with it, without the
/// index by key. Only fjall has tables; redb's one file grows by doubling, which tells nothing.
fn weigh_tables(records: u64) {
    let engine = EngineKind::Fjall;
    let home = tempfile::tempdir().expect("a directory");
    let [whole, no_tree, no_index] = [Kind::Whole, Kind::NoTree, Kind::NoKeyIndex].map(|kind| {
        let (dir, copy) = (home.path().join("store"), home.path().join("copy"));
        let store = create(&dir, engine, kind);
        let rows = (0..records).map(|n| Ok::<_, Infallible>((key(n), value(n))));
        store.first().import(rows, &mut |_| ()).expect("an import");
        store.backup(&copy, &Options { engine, ..Options::default() }, &mut |_| ()).expect("a copy");
        let bytes = tables(&copy);
        drop(store);
        [dir, copy].iter().for_each(|dir| std::fs::remove_dir_all(dir).expect("removed"));
        bytes
    });
    let (tree, index) = (whole - no_tree, whole - no_index);
    let records_alone = no_tree - index;
    for (what, bytes) in [("records", records_alone), ("index by key", index), ("tree, sketches, entries", tree)] {
        let (share, each) = (100.0 * bytes / records_alone, bytes / records as f64);
        println!("  {what:<24} {bytes:>12.0} B {each:>8.2} B a record {share:>7.2} % of the records");
    }
}

fn tables(dir: &std::path::Path) -> f64 {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let size = |entry: std::fs::DirEntry| match entry.file_type().expect("a type").is_dir() {
        true => tables(&entry.path()),
        false if dir.ends_with("tables") => entry.metadata().expect("its size").len() as f64,
        false => 0.0,
    };
    entries.map(size).sum()
}

/// Questions for sketches, with tails as a load leaves them; "records" are cells.
fn ask(name: &str, engine: EngineKind, records: u64) {
    let home = tempfile::tempdir().expect("a directory");
    let store = create(&home.path().join("store"), engine, Kind::NoKeyIndex);
    for first in (0..records).step_by(BATCH) {
        let ops = (first..records.min(first + BATCH as u64)).map(|n| Op::put(key(n), value(n))).collect();
        store.batch(ops, Durability::Buffered).expect("a batch");
    }
    for (depth, cells, times) in
        [(0, 40, 1_000), (0, usize::MAX, 20), (1, usize::MAX, 5), (2, 40, 5), (2, usize::MAX, 5)]
    {
        let ranges: Vec<Range> = (0..1 << (4 * depth)).map(|place| Range::ALL.descendant(depth, place)).collect();
        let began = Instant::now();
        let mut given = 0;
        for _ in 0..times {
            let sketches = store.sketches(CollectionId(0), &ranges, cells).expect("sketches");
            given = sketches.iter().map(|sketch| sketch.cells().len()).sum();
        }
        let took = began.elapsed() / times;
        row(&format!("{name} depth {depth}, {given} cells"), given as u64, took, None);
        println!("  {:.3} ms", 1_000.0 * took.as_secs_f64());
    }
}

/// Writers that each wait until their put is on disk, for two seconds.
fn write_together(name: &str, engine: EngineKind, writers: u64) {
    let home = tempfile::tempdir().expect("a directory");
    let store = create(&home.path().join("store"), engine, Kind::Whole);
    let done = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                for n in 0.. {
                    if began.elapsed() > Duration::from_secs(2) {
                        break;
                    }
                    store.put(&key(writer << 40 | n), &value(n)).expect("a put");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (puts, commits) = (done.load(Ordering::Relaxed), store.cut().commit);
    row(name, puts, began.elapsed(), Some(&store));
    println!("  {:.1} puts share a sync", puts as f64 / commits.max(1) as f64);
}

/// Tree and sketches from sorted entries in memory, without a store: by parts of the first hex digit, on so many cores.
/// Counts the time of all threads together, so that a rate is one of a core.
fn build(name: &str, records: u64, cores: usize) {
    let keys = Keys::new(&DatasetKey::from_bytes([9; 32]));
    let entry = |n: u64| {
        let word = |i: u64| mixed(n.rotate_left(i as u32) ^ i << 60).to_le_bytes();
        let digest = Digest(std::array::from_fn(|i| word(i as u64 / 8)[i % 8]));
        Entry { position: Position(mixed(n)), digest }
    };
    let mut entries: Vec<Entry> = (0..records).map(entry).collect();
    entries.sort_unstable();
    let part = |digit: u8| {
        let range = Range::ALL.child(digit);
        let bound = |last: bool| {
            entries.partition_point(
                |entry| if last { entry.position <= range.last() } else { entry.position < range.first() },
            )
        };
        (range, &entries[bound(false)..bound(true)])
    };
    let (tree_time, sketch_time) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    let mut parts: Vec<(u8, Summary, Sketch, u64)> = std::thread::scope(|scope| {
        let build_parts = |first: usize| {
            let (tree_time, sketch_time) = (&tree_time, &sketch_time);
            let (keys, part) = (&keys, &part);
            scope.spawn(move || {
                let one = |digit: u8| {
                    let (range, entries) = part(digit);
                    let (mut nodes, mut cells) = (Vec::new(), 0);
                    let start = on_cpu();
                    let summary = keys.build(range, entries, &mut |range, summary| nodes.push((range, summary)));
                    let between = on_cpu();
                    let elements: Vec<(Element, i64)> = entries.iter().map(|entry| (Element::of(entry), 1)).collect();
                    let mut root = Sketch::new(cells_kept(0, records));
                    sketch::build(range, &elements, &mut root, &cells_kept, &mut |_, _, kept| {
                        cells += kept.cells().len() as u64;
                    });
                    let end = on_cpu();
                    tree_time.fetch_add((between - start).as_nanos() as u64, Ordering::Relaxed);
                    sketch_time.fetch_add((end - between).as_nanos() as u64, Ordering::Relaxed);
                    (digit, summary, root, nodes.len() as u64 + cells)
                };
                (first..16).step_by(cores).map(|digit| one(digit as u8)).collect::<Vec<_>>()
            })
        };
        let running: Vec<_> = (0..cores).map(build_parts).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("built")).collect()
    });
    parts.sort_unstable_by_key(|(digit, ..)| *digit);
    let mut children = [Summary::EMPTY; 16];
    let mut whole = Sketch::new(cells_kept(0, records));
    for (digit, summary, root, _) in &parts {
        children[usize::from(*digit)] = *summary;
        whole.join(root);
    }
    let root = keys.inner(Range::ALL, &children);
    let wall = began.elapsed();
    assert_eq!((root.count, whole.count()), (records, records as i64));
    let [tree, sketches] = [&tree_time, &sketch_time].map(|time| Duration::from_nanos(time.load(Ordering::Relaxed)));
    row(name, records, tree + sketches, None);
    let share = |time: Duration| 1e9 * time.as_secs_f64() / records as f64;
    println!(
        "  {:.0} ns an entry for the tree, {:.0} for sketches; {:.2} s by the clock",
        share(tree),
        share(sketches),
        wall.as_secs_f64()
    );
}

/// A tree and its sketches in memory, so that nothing but the work on them is timed.
struct InMemory {
    families: HashMap<Range, [Summary; 16]>,
    /// By the first four hex digits of their positions; sorted.
    entries: Vec<Vec<Entry>>,
    /// The cells of each range that keeps some.
    sketches: HashMap<Range, Sketch>,
}

impl InMemory {
    fn bucket(position: Position) -> usize {
        (position.0 >> 48) as usize
    }

    fn digest(&self, position: Position) -> Option<Digest> {
        let bucket = &self.entries[InMemory::bucket(position)];
        let place = bucket.binary_search_by_key(&position, |entry| entry.position).ok()?;
        Some(bucket[place].digest)
    }

    fn set(&mut self, position: Position, digest: Digest) {
        let bucket = &mut self.entries[InMemory::bucket(position)];
        match bucket.binary_search_by_key(&position, |entry| entry.position) {
            Ok(place) => bucket[place].digest = digest,
            Err(place) => bucket.insert(place, Entry { position, digest }),
        }
    }

    fn build_sketches(&mut self) {
        let elements: Vec<(Element, i64)> =
            self.entries.iter().flatten().map(|entry| (Element::of(entry), 1)).collect();
        sketch::build(Range::ALL, &elements, &mut Sketch::default(), &cells_kept, &mut |range, _, kept| {
            self.sketches.insert(range, kept);
        });
    }

    /// Lays what replaced each other over the cells of all ranges that keep some.
    fn lay(&mut self, mut replaced: Vec<(Element, i64)>) {
        replaced.sort_unstable();
        let longest = self.sketches.get(&Range::ALL).map_or(0, |root| root.cells().len());
        for some in replaced.chunks(LAID_AT_ONCE) {
            let falls = Falls::new(some, longest);
            for depth in 0..=KEPT_DEPTH_MAX {
                let range = |(element, _): &(Element, i64)| Range::of(Position(element.0), depth);
                let mut start = 0;
                for same in some.chunk_by(|a, b| range(a) == range(b)) {
                    let of = start..start + same.len();
                    start = of.end;
                    if let Some(sketch) = self.sketches.get_mut(&range(&same[0])) {
                        sketch.lay_falls(&falls, of);
                    }
                }
            }
        }
    }
}

impl Nodes for InMemory {
    type Error = Infallible;

    fn children(&self, range: Range) -> Result<[Summary; 16], Infallible> {
        Ok(self.families.get(&range).copied().unwrap_or([Summary::EMPTY; 16]))
    }

    fn entries(&self, range: Range) -> Result<Vec<Entry>, Infallible> {
        let buckets = &self.entries[InMemory::bucket(range.first())..=InMemory::bucket(range.last())];
        Ok(buckets.iter().flatten().filter(|entry| range.contains(entry.position)).copied().collect())
    }
}

fn digest(name: &str, records: u64, batch: usize) {
    let keys = Keys::new(&DatasetKey::from_bytes([9; 32]));
    let record = |n: u64, stamp: u64| {
        let version = Version::after(Stamp(stamp), Actor(1), []);
        let sibling = Sibling { version, content: Content::Live(value(n)), expires: None };
        Record { key: key(n), state: State::single(sibling) }
    };
    let change = |record: &Record, before: Option<Digest>| {
        let position = keys.position("default", &record.key);
        let after = keys.entry(Profile::Versioned, "default", record);
        Change { position, before, after }
    };
    let (families, sketches) = Default::default();
    let mut tree = InMemory { families, entries: vec![Vec::new(); 1 << 16], sketches };
    let mut root = Summary::EMPTY;
    // Position, content and entry digests belong to the work; making records and finding what there was does not.
    let mut lay = |tree: &mut InMemory, records: Vec<Record>| {
        let before = |record: &Record| tree.digest(keys.position("default", &record.key));
        let before: Vec<Option<Digest>> = records.iter().map(before).collect();
        let began = Instant::now();
        let changes: Vec<Change> = records.iter().zip(before).map(|(record, before)| change(record, before)).collect();
        let digested = began.elapsed();
        let element = |position, digest: Digest| Element::of(&Entry { position, digest });
        let moves = changes.iter().flat_map(|change| {
            let (before, after) = (change.before.map(|digest| (digest, -1)), change.after.map(|digest| (digest, 1)));
            before.into_iter().chain(after).map(|(digest, count)| (element(change.position, digest), count))
        });
        let replaced = moves.collect();
        let between = Instant::now();
        let laid = update(&keys, tree, root, changes).expect("a tree");
        let spent = digested + between.elapsed();
        root = laid.root;
        for (range, summary) in laid.nodes {
            let Some(parent) = range.parent() else { continue };
            let family = tree.families.entry(parent).or_insert([Summary::EMPTY; 16]);
            family[usize::from(parent.digit(range.first()))] = summary.unwrap_or(Summary::EMPTY);
        }
        for (position, digests) in laid.positions {
            tree.set(position, digests[0]);
        }
        let began = Instant::now();
        tree.lay(replaced);
        [spent, began.elapsed()]
    };
    for first in (0..records).step_by(BATCH) {
        lay(&mut tree, (first..records.min(first + BATCH as u64)).map(|n| record(n, 1)).collect());
    }
    tree.build_sketches();
    let writes = if batch == 1 { 20_000 } else { 20 * BATCH };
    let mut took = [Duration::ZERO; 2];
    for nth in 0..writes / batch {
        let mut some: Vec<u64> = (0..batch).map(|i| mixed((nth * batch + i) as u64) % records).collect();
        some.sort_unstable();
        some.dedup();
        let spent = lay(&mut tree, some.into_iter().map(|n| record(n, 2 + nth as u64)).collect());
        took = [took[0] + spent[0], took[1] + spent[1]];
    }
    row(name, writes as u64, took[0], None);
    row("  its sketches", writes as u64, took[1], None);
}
