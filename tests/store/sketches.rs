//! Sketches are kept with the records: whatever was folded when, cells and tail add up to the entries of each range.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use reknit::core::sketch::{Element, KEPT_DEPTH_MAX, Sketch, cells_kept};
use reknit::core::{Collection, CollectionId, DatasetKey, Definition, Entry, Position, Range};
use reknit::store::engine::conformance::Draw;
use reknit::store::engine::{Batch, Engine, EngineError, Memory, Rows, Snapshot};
use reknit::store::{Durability, EngineKind, Op, Options, Side, Store};

use crate::support::{self, ENGINES, assert_sound, options};

const FIRST: CollectionId = CollectionId(0);

/// The entries that the records make, without the tree.
fn entries(store: &Store) -> Vec<Entry> {
    let items = store.items(FIRST, &[Range::ALL]).expect("items");
    items.iter().filter_map(|item| Some(Entry { position: item.position, digest: item.digest? })).collect()
}

/// How many cells of a range a store may give.
#[derive(Clone, Copy, PartialEq)]
enum Lengths {
    /// As many as the range should keep.
    Exact,
    /// Fewer below the root where a part has grown since it was folded.
    Fewer,
}

/// Compares the sketches of all ranges near some entries with the sums of their entries; tells how many have cells.
fn compare(store: &Store, lengths: Lengths, draw: &mut Draw, note: &str) -> usize {
    let entries = entries(store);
    let mut ranges = vec![Range::ALL];
    for _ in 0..12 {
        let near = match entries.len() {
            0 => Position(draw.bits()),
            some => entries[draw.below(some)].position,
        };
        ranges.extend((1..=KEPT_DEPTH_MAX + 1).map(|depth| Range::of(near, depth)));
    }
    let cells = [1, 40, 300, 5_000, usize::MAX][draw.below(5)];
    let sketches = store.sketches(FIRST, &ranges, cells).expect("sketches");
    assert_eq!(sketches.len(), ranges.len());
    for (range, sketch) in ranges.iter().zip(&sketches) {
        let inside: Vec<&Entry> = entries.iter().filter(|entry| range.contains(entry.position)).collect();
        let kept = cells_kept(range.depth(), inside.len() as u64).min(cells);
        let found = sketch.cells().len();
        if lengths == Lengths::Exact || range.depth() == 0 {
            assert_eq!(found, kept, "{note}: cells of {range} with {} entries", inside.len());
        } else {
            assert!(found <= kept, "{note}: cells of {range} with {} entries", inside.len());
        }
        let mut should = Sketch::new(found);
        inside.into_iter().for_each(|entry| should.add(Element::of(entry)));
        assert!(*sketch == should, "{note}: the sketch of {range}");
    }
    sketches.iter().filter(|sketch| !sketch.cells().is_empty()).count()
}

struct History {
    definition: Definition,
    fold_at: usize,
    position_bits: Option<u32>,
    keys: usize,
    seed: u64,
}

/// Grows, changes and shrinks a store, reopened now and then.
fn run(history: &History) {
    let History { definition, fold_at, position_bits, keys, seed } = history;
    let lengths = if *fold_at == 0 || *fold_at > 100_000 { Lengths::Exact } else { Lengths::Fewer };
    let options = Options { fold_at: *fold_at, position_bits: *position_bits, ..options(EngineKind::Fjall) };
    let made = Store::in_memory(definition.clone(), DatasetKey::from_bytes([9; 32]), &options).expect("create");
    let memory = Memory::new();
    made.copy_rows(&memory).expect("a copy");
    let open = || Store::over(Arc::new(memory.clone()), &options).expect("open");
    let (mut store, mut draw, mut with_cells) = (open(), Draw(*seed), 0);
    // Up to all keys, down to next to none, and up again, eighths of them at a time between a few at random.
    for wave in 0..40 {
        let note = format!("fold at {fold_at}, bits {position_bits:?}, seed {seed}, wave {wave}");
        let growing = !(16..32).contains(&wave);
        let eighth = wave / 2 % 8;
        let chosen: Vec<usize> = match wave % 2 {
            0 => (eighth * keys / 8..(eighth + 1) * keys / 8).collect(),
            _ => (0..1 + draw.below(20)).map(|_| draw.below(*keys)).collect(),
        };
        let mut ops = Vec::new();
        for key in chosen {
            let key = u32::try_from(key).expect("few").to_be_bytes();
            let put = draw.below(64) < if growing { 63 } else { 1 };
            ops.push(if put { Op::put(key, draw.bytes(4)) } else { Op::delete(key) });
        }
        store.batch(ops, Durability::Buffered).expect("batch");
        with_cells += compare(&store, lengths, &mut draw, &note);
        if draw.below(3) == 0 {
            store = open();
            compare(&store, lengths, &mut draw, &format!("{note}, reopened"));
            assert_sound(&store, &note);
        }
    }
    assert!(with_cells > 20, "next to no range had cells: {with_cells}");
}

#[test]
fn cells_and_tails_add_up_to_the_entries() {
    for (seed, fold_at) in [(1, 0), (2, 400), (3, usize::MAX)] {
        let definition = support::definition();
        run(&History { definition, fold_at, position_bits: None, keys: 12_000, seed });
    }
}

/// Under the content profile what is deleted has no entry, so that ranges shrink.
#[test]
fn cells_and_tails_add_up_where_ranges_shrink() {
    for (seed, fold_at) in [(1, 0), (2, 1), (3, 30), (4, 3_000)] {
        let definition = support::content_definition();
        run(&History { definition, fold_at, position_bits: None, keys: 12_000, seed });
    }
}

#[test]
fn every_engine_keeps_sketches_across_openings() {
    for engine in ENGINES {
        for fold_at in [70, 4_000] {
            let home = tempfile::tempdir().expect("a directory");
            let dir = home.path().join("store");
            drop(support::create(engine, &dir));
            let mut draw = Draw(1);
            for opening in 0..3_u32 {
                let note = format!("{engine}, fold at {fold_at}, opening {opening}");
                let store = Store::open(&dir, &Options { fold_at, ..options(engine) }).expect("open");
                compare(&store, Lengths::Fewer, &mut draw, &note);
                assert_sound(&store, &note);
                for wave in 0..4_u32 {
                    let keys = opening * 1_500..opening * 1_500 + 2_000;
                    let ops = keys.map(|key| Op::put(key.to_be_bytes(), wave.to_be_bytes())).collect();
                    store.batch(ops, Durability::Buffered).expect("batch");
                    store.put(b"one more", &wave.to_be_bytes()).expect("put");
                    compare(&store, Lengths::Fewer, &mut draw, &note);
                }
            }
        }
    }
}

#[test]
fn deep_ranges_keep_cells_where_positions_lie_close() {
    for (seed, fold_at) in [(1, 0), (2, 30), (3, 400), (4, 3_000), (5, usize::MAX)] {
        for bits in [0, 1, 3] {
            let definition = support::content_definition();
            run(&History { definition, fold_at, position_bits: Some(bits), keys: 4_000, seed });
        }
    }
}

/// Many small commits, each in a row of its own, and a fold after each few hundred.
#[test]
fn single_puts_are_kept_and_folded() {
    let options = Options { fold_at: 50, ..options(EngineKind::Fjall) };
    let store = support::memory(&options);
    let mut draw = Draw(5);
    for nth in 0..3_000_u32 {
        store.put(&(nth % 1_100).to_be_bytes(), &nth.to_be_bytes()).expect("put");
        if nth % 300 == 0 {
            compare(&store, Lengths::Fewer, &mut draw, &format!("put {nth}"));
        }
    }
    compare(&store, Lengths::Fewer, &mut draw, "at the end");
    assert_sound(&store, "at the end");
}

/// The keys and values of rows of this tag.
fn rows(store: &Store, tag: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let memory = Memory::new();
    store.copy_rows(&memory).expect("a copy");
    let snapshot = memory.snapshot().expect("snapshot");
    snapshot.scan(&[tag], &[tag + 1]).expect("scan").collect::<Result<_, _>>().expect("rows")
}

#[test]
fn a_range_keeps_its_cells_until_half_of_what_they_need_is_gone() {
    let options = Options { fold_at: 0, position_bits: Some(0), ..options(EngineKind::Fjall) };
    let store = Store::in_memory(support::content_definition(), support::key(), &options).expect("create");
    let deep = || rows(&store, 7).iter().filter(|(key, _)| key[3] == KEPT_DEPTH_MAX).count();
    let put = |keys: std::ops::Range<u32>| keys.map(|key| Op::put(key.to_be_bytes(), "v")).collect();
    let delete = |keys: std::ops::Range<u32>| keys.map(|key| Op::delete(key.to_be_bytes())).collect();
    for (ops, kept) in
        [(put(0..511), 0), (put(511..512), 1), (delete(256..512), 1), (delete(255..256), 0), (put(255..511), 0)]
    {
        store.batch(ops, Durability::Buffered).expect("batch");
        let count = store.cut().roots[0].count;
        assert_eq!(deep(), kept, "{count} entries");
        assert_sound(&store, &format!("{count} entries"));
    }
}

/// Of many collections only a part of each root is in memory.
#[test]
fn the_cells_of_a_root_beyond_those_in_memory_are_in_its_rows() {
    let mut definition = support::definition();
    let more = (2..256).map(|nth| Collection { name: format!("more {nth}"), policy: "newest/1".into() });
    definition.collections.extend(more);
    let options = Options { fold_at: 2_500, ..options(EngineKind::Fjall) };
    let store = Store::in_memory(definition, support::key(), &options).expect("create");
    let mut draw = Draw(1);
    for first in [0_u32, 17_000] {
        let ops = (first..first + 17_000).map(|key| Op::put(key.to_be_bytes(), "v")).collect();
        store.batch(ops, Durability::Buffered).expect("batch");
        let found = store.sketches(FIRST, &[Range::ALL], usize::MAX).expect("sketches");
        assert_eq!(found[0].cells().len(), if first == 0 { 8_192 } else { 16_384 });
        compare(&store, Lengths::Fewer, &mut draw, &format!("from {first}"));
    }
    assert_sound(&store, "at the end");
}

/// Changes that cancel out are rows all the same.
#[test]
fn a_key_that_is_written_over_and_over_does_not_make_a_tail_grow_without_end() {
    let store = support::memory(&Options { fold_at: 100, ..options(EngineKind::Fjall) });
    for nth in 0..1_000_u32 {
        store.put(b"key", &nth.to_be_bytes()).expect("put");
        assert!(nth % 100 != 99 || rows(&store, 8).len() <= 62, "{} rows after {nth} puts", rows(&store, 8).len());
    }
    assert_sound(&store, "at the end");
}

#[test]
fn the_first_cells_of_a_root_are_at_hand() {
    let store = support::memory(&options(EngineKind::Fjall));
    let ops = (0..40_000_u32).map(|key| Op::put(key.to_be_bytes(), "value")).collect();
    store.batch(ops, Durability::Buffered).expect("batch");
    let before = store.stats().expect("stats").reads;
    let sketches = store.sketches(FIRST, &[Range::ALL], 40).expect("sketches");
    assert_eq!((sketches[0].cells().len(), sketches[0].count()), (40, 40_000));
    assert_eq!(store.stats().expect("stats").reads, before);
}

/// Questions of several threads while others write and fold: each answer is of one commit.
#[test]
fn an_answer_is_of_one_commit_while_others_write() {
    let home = tempfile::tempdir().expect("a directory");
    let stores = [
        support::memory(&Options { fold_at: 40, ..options(EngineKind::Fjall) }),
        opened(&home.path().join("fjall"), EngineKind::Fjall),
        opened(&home.path().join("redb"), EngineKind::Redb),
    ];
    stores.iter().for_each(write_and_ask);
}

fn opened(dir: &Path, engine: EngineKind) -> Store {
    drop(support::create(engine, dir));
    Store::open(dir, &Options { fold_at: 40, ..options(engine) }).expect("open")
}

fn write_and_ask(store: &Store) {
    let ops = (0..10_000_u32).map(|key| Op::put(key.to_be_bytes(), "value")).collect();
    store.batch(ops, Durability::Buffered).expect("batch");
    let parts: Vec<Range> = (0..16).map(|digit| Range::ALL.child(digit)).collect();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for nth in 0..1_500_u32 {
                let op = Op::put((nth % 10_000).to_be_bytes(), nth.to_be_bytes());
                store.batch(vec![op], Durability::Buffered).expect("batch");
            }
        });
        let mut times = 0;
        while times == 0 || !writing.is_finished() {
            times += 1;
            let mut asked = vec![Range::ALL];
            asked.extend(&parts);
            let sketches = store.sketches(FIRST, &asked, 200).expect("sketches");
            let mut sum = Sketch::new(200);
            sketches[1..].iter().for_each(|sketch| sum.join(sketch));
            assert!(sum == sketches[0], "the parts of a root make the root");
            assert_eq!(sum.count(), 10_000);
        }
    });
}

/// How long somebody may wait for a write before the test is over.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine that calls a client in whenever a fold reads the cells of its part, and reads on once the client's write has been acknowledged.
#[derive(Default)]
struct CallsIn {
    engine: Memory,
    call: Mutex<Option<mpsc::Sender<mpsc::Sender<()>>>>,
    called: AtomicU64,
    /// The cells of the first part cannot be read.
    torn: AtomicBool,
}

struct View<'e>(Box<dyn Snapshot + 'e>, &'e CallsIn);

impl View<'_> {
    fn call_in(&self, key: &[u8]) {
        let of_a_part = key.starts_with(&[7]) && key.get(3) == Some(&1);
        let Some(call) = self.1.call.lock().expect("sound").clone().filter(|_| of_a_part) else { return };
        let (written, acknowledged) = mpsc::channel();
        call.send(written).expect("a client");
        acknowledged.recv_timeout(PATIENCE).expect("a client waits for a fold");
        self.1.called.fetch_add(1, Ordering::SeqCst);
    }
}

impl Snapshot for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.call_in(key);
        if self.1.torn.load(Ordering::SeqCst) && key.starts_with(&[7, 0, 0, 1, 0]) {
            return Err(EngineError::Corrupt { dir: "rows".into(), what: "a block".into() });
        }
        self.0.get(key)
    }

    fn scan<'a>(&'a self, start: &[u8], end: &[u8]) -> Result<Rows<'a>, EngineError> {
        self.call_in(start);
        self.0.scan(start, end)
    }
}

impl Engine for CallsIn {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        Ok(Box::new(View(self.engine.snapshot()?, self)))
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        self.engine.commit(batch, durability)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine.sync()
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.engine.disk_bytes()
    }
}

/// What others write while a part is folded is in its tail afterwards, and is not in its cells twice.
#[test]
fn clients_write_while_a_part_is_folded() {
    for fold_at in [60, 150] {
        let engine = Arc::new(CallsIn::default());
        let options = Options { fold_at, ..options(EngineKind::Fjall) };
        let store =
            Store::found_over(engine.clone(), support::definition(), support::key(), &options).expect("a store");
        let (call, calls) = mpsc::channel::<mpsc::Sender<()>>();
        *engine.call.lock().expect("sound") = Some(call);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (nth, written) in (0_u32..).zip(calls) {
                    // New keys, and some that the other writes too.
                    store.put(format!("client {nth}").as_bytes(), b"value").expect("put");
                    store.put(&(nth % 700).to_be_bytes(), b"client").expect("put");
                    written.send(()).expect("a fold that waits");
                }
            });
            for nth in 0..3_000_u32 {
                store.put(&(nth % 1_100).to_be_bytes(), &nth.to_be_bytes()).expect("put");
            }
            *engine.call.lock().expect("sound") = None;
        });
        assert!(engine.called.load(Ordering::SeqCst) > 20, "next to nothing was folded");
        compare(&store, Lengths::Fewer, &mut Draw(3), "at the end");
        assert_sound(&store, "at the end");
    }
}

#[test]
fn a_part_that_cannot_be_folded_takes_no_more_writes_until_it_can_and_others_go_on() {
    let engine = Arc::new(CallsIn::default());
    let options = Options { fold_at: 60, ..options(EngineKind::Fjall) };
    let store = Store::found_over(engine.clone(), support::definition(), support::key(), &options).expect("a store");
    let first = |key: &u32| store.keys().position("default", &key.to_be_bytes()).0 >> 60 == 0;
    let (there, others): (Vec<u32>, Vec<u32>) = (0..3_000).partition(first);
    engine.torn.store(true, Ordering::SeqCst);
    let put = |key: &u32| store.put(&key.to_be_bytes(), b"value").map(drop);
    let written = there.iter().take_while(|key| put(key).is_ok()).count();
    assert!((40..60).contains(&written), "{written} writes");
    let refused = put(&there[written]).expect_err("refused");
    assert!(refused.is_damage(), "{refused}");
    others.iter().for_each(|key| put(key).expect("another part"));
    engine.torn.store(false, Ordering::SeqCst);
    // One is told of what was; then it is tried again.
    put(&there[written]).expect_err("refused once more");
    there.iter().for_each(|key| put(key).expect("written"));
    assert_sound(&store, "at the end");
}
