//! What the journal costs a repair, and a kept history an ordinary write: each beside the same without, in turns, so that the
//! ratios hold though the machine's speed drifts.
//!
//! `cargo bench --bench journal -- [records] [fjall|redb] [turns] [repairs|writes]`. The method is in `benches/README.md`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reknit::core::difference::Side as Which;
use reknit::core::life::Sighting;
use reknit::core::query::{Applied, Ask, Cut, Incoming, Item, Overwrite, Page, Recognition, Selection, View};
use reknit::core::session::{Direction, Intent, Options as SessionOptions, Verdict};
use reknit::core::sketch::Sketch;
use reknit::core::{Actor, CollectionId, DatasetId, DatasetKey, Definition, Millis, Position, Profile, Range, Summary};
use reknit::node::{Budget, between};
use reknit::store::{Durability, EngineKind, KeepHistory, Listed, Op, Options, Side, SideInfo, Store, StoreError};

/// The one of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE_BYTES: usize = 100;
const DIFFERENCES: u64 = 10_000;
/// Ordinary writes of a batch, and of a turn.
const BATCH: u64 = 100;
const WRITES: u64 = 10_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let number = |nth: usize, other: u64| args.get(nth).and_then(|arg| arg.parse().ok()).unwrap_or(other);
    let (n, turns) = (number(0, 100_000), number(2, 9));
    let engine = args.get(1).and_then(|name| EngineKind::from_name(name)).unwrap_or(EngineKind::Fjall);
    let bench = Bench {
        dir: tempfile::tempdir().expect("a directory"),
        runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads"),
        engine,
        n,
        turns,
    };
    println!(
        "{n} records, 16-byte keys, {VALUE_BYTES}-byte values, {engine}, one process, {turns} turns: min, median, max"
    );
    let wanted = |part: &str| args.get(3).is_none_or(|only| only == part);
    if wanted("repairs") {
        bench.repairs();
    }
    if wanted("writes") {
        bench.writes();
    }
}

/// How two sides differ.
#[derive(Clone, Copy, Debug)]
enum Drift {
    /// All are missing on one side.
    Missing,
    /// Half is missing on one side, a quarter on the other, a quarter was changed.
    Mixed,
    /// All were changed on one side.
    Changed,
}

/// Two stores, and the first number of which no record was made.
struct Pair {
    a: Store,
    b: Store,
    fresh: u64,
}

impl Pair {
    /// Makes them differ.
    fn drift(&mut self, drift: Drift, n: u64) {
        let Pair { a, b, fresh } = self;
        let mut add = |store: &Store, many: u64| {
            let ops = (*fresh..*fresh + many).map(|i| Op::put(key(i), value(i))).collect();
            *fresh += many;
            store.batch(ops, Durability::Synced).expect("written");
        };
        let changed = match drift {
            Drift::Missing => {
                add(a, DIFFERENCES);
                return;
            }
            Drift::Mixed => {
                add(a, DIFFERENCES / 2);
                add(b, DIFFERENCES / 4);
                DIFFERENCES / 4
            }
            Drift::Changed => DIFFERENCES,
        };
        *fresh += changed;
        let ops = (0..changed).map(|i| Op::put(key((*fresh + i * 7919) % n), value(*fresh + i))).collect();
        a.batch(ops, Durability::Synced).expect("written");
    }
}

struct Bench {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    engine: EngineKind,
    n: u64,
    turns: u64,
}

/// What one turn took: all of it, and of the processors.
type Took = (Duration, Duration);

impl Bench {
    fn store(&self, name: &str, profile: Profile) -> Store {
        let options = Options { engine: self.engine, ..Options::default() };
        let definition = Definition { profile, ..Definition::simple(DatasetId([1; 16]), "bench") };
        Store::create(&self.dir.path().join(name), definition, DatasetKey::from_bytes([2; 32]), &options)
            .expect("a store")
    }

    fn import(&self, store: &Store) {
        let rows = (0..self.n).map(|i| Ok::<_, std::convert::Infallible>((key(i), value(i))));
        store.first().import(rows, &mut |_| {}).expect("imported");
    }

    /// Two stores that hold the same.
    fn pair(&self, name: &str, profile: Profile) -> Pair {
        let store = |side| self.store(&format!("{name}-{side}"), profile);
        let pair = Pair { a: store("a"), b: store("b"), fresh: self.n };
        self.import(&pair.a);
        self.repair(&pair, Direction::Both, true);
        pair
    }

    /// Repairs with the journal and without, on the same two stores; then two beside two whose digests cover no versions, which
    /// grow alike.
    fn repairs(&self) {
        let mut pair = self.pair("journal", Profile::Versioned);
        for drift in [Drift::Missing, Drift::Mixed, Drift::Changed] {
            let name = format!("repair of {DIFFERENCES}, {drift:?}").to_lowercase();
            self.turns(&name, "journal", |with| {
                pair.drift(drift, self.n);
                self.repair(&pair, Direction::Both, with)
            });
        }
        let (mut versioned, mut content) =
            (self.pair("versioned", Profile::Versioned), self.pair("content", Profile::Content));
        // Without versions nothing tells which content is the newer: what was changed goes the way that it is told to.
        for (drift, direction) in [(Drift::Missing, Direction::Both), (Drift::Changed, Direction::To(Which::Theirs))] {
            let name = format!("repair of {DIFFERENCES}, {drift:?}").to_lowercase();
            self.turns(&name, "versions and journal", |with| {
                let pair = if with { &mut versioned } else { &mut content };
                pair.drift(drift, self.n);
                self.repair(pair, direction, with)
            });
        }
    }

    /// A repair to its end, that of its runs with it.
    fn repair(&self, Pair { a, b, .. }: &Pair, direction: Direction, journal: bool) -> Took {
        let side = |store: &Store| -> Arc<dyn Side> {
            if journal { Arc::new(store.clone()) } else { Arc::new(Unjournalled(store.clone())) }
        };
        let options = SessionOptions { settle: 0, ..SessionOptions::new(Intent::Repair(direction)) };
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let runs = a.runs().len() + b.runs().len();
        let begun = Begun::now();
        let mut progress = |_| {};
        let ran = between(side(a), side(b), options, Budget::default(), stopped, &mut progress);
        let report = self.runtime.block_on(ran).expect("a session");
        let took = begun.took();
        assert_eq!(report.outcome.verdict, Verdict::InSync);
        assert_eq!(journal, a.runs().len() + b.runs().len() > runs, "there is a run where there is to be one");
        took
    }

    /// Ordinary writes over what is there, to a store that keeps what they replace and to one that does not.
    fn writes(&self) {
        let stores = [true, false].map(|keeps| {
            let store = self.store(if keeps { "keeps" } else { "forgets" }, Profile::Versioned);
            self.import(&store);
            let limits = KeepHistory { age: 24 * 3600 * 1000, bytes: 1 << 40 };
            store.keep_history(keeps.then_some(limits)).expect("set");
            store
        });
        let mut written = [0; 2];
        for (name, batch, writes) in [("batches of 100", BATCH, WRITES), ("one by one", 1, WRITES / 10)] {
            self.turns(&format!("{writes} overwritten, {name}, synced"), "history", |with| {
                let (store, from) = (&stores[usize::from(!with)], &mut written[usize::from(!with)]);
                let begun = Begun::now();
                for _ in 0..writes / batch {
                    let ops = (*from..*from + batch).map(|i| Op::put(key(i * 7919 % self.n), value(!i))).collect();
                    *from += batch;
                    store.batch(ops, Durability::Synced).expect("written");
                }
                begun.took()
            });
        }
    }

    /// Takes turns, each with and without, and first one that does not count.
    fn turns(&self, name: &str, what: &str, mut turn: impl FnMut(bool) -> Took) {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for nth in 0..=self.turns {
            for first in [nth % 2 == 0, nth % 2 == 1] {
                let took = turn(first);
                if nth > 0 {
                    (if first { &mut with } else { &mut without }).push(took);
                }
            }
        }
        let of =
            |turns: &[Took], part: fn(&Took) -> Duration| turns.iter().map(part).map(|d| d.as_secs_f64()).collect();
        for (kind, part) in [("wall", (|took| took.0) as fn(&Took) -> Duration), ("cpu", |took| took.1)] {
            let (with, without): (Vec<f64>, Vec<f64>) = (of(&with, part), of(&without, part));
            let ratio = with.iter().zip(&without).map(|(with, without)| with / without).collect();
            let ms = |seconds: Vec<f64>| shown(seconds.into_iter().map(|seconds| seconds * 1000.0).collect(), 0);
            println!(
                "{name}, {kind}: with {what} {} ms, without {} ms, ratio {}",
                ms(with),
                ms(without),
                shown(ratio, 2)
            );
        }
    }
}

/// The least, the middle and the greatest.
fn shown(mut all: Vec<f64>, digits: usize) -> String {
    all.sort_by(f64::total_cmp);
    let (least, middle, most) = (all[0], all[all.len() / 2], all[all.len() - 1]);
    format!("{least:.digits$} {middle:.digits$} {most:.digits$}")
}

/// When something began, by both clocks.
struct Begun(Instant, Duration);

impl Begun {
    fn now() -> Begun {
        Begun(Instant::now(), processors())
    }

    fn took(&self) -> Took {
        (self.0.elapsed(), processors() - self.1)
    }
}

/// What all threads of this process have had of the processors, in hundredths of a second.
fn processors() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    Duration::from_millis(10 * fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>())
}

fn key(n: u64) -> Vec<u8> {
    blake3::hash(&n.to_le_bytes()).as_bytes()[..16].to_vec()
}

fn value(n: u64) -> Vec<u8> {
    let hash = blake3::hash(&(!n).to_le_bytes());
    hash.as_bytes().iter().copied().cycle().take(VALUE_BYTES).collect()
}

/// A store that begins no runs: what a session overwrites there is gone.
struct Unjournalled(Store);

impl Side for Unjournalled {
    fn describe(&self) -> SideInfo {
        self.0.describe()
    }

    fn cut(&self) -> Result<Cut, StoreError> {
        Side::cut(&self.0)
    }

    fn expire(&self, upto: Option<Millis>) -> Result<Cut, StoreError> {
        Side::expire(&self.0, upto)
    }

    fn introduce(&self) -> Result<Cut, StoreError> {
        Side::introduce(&self.0)
    }

    fn meet(&self, actor: Actor, now: Sighting, recognised: Option<Sighting>) -> Result<Vec<Sighting>, StoreError> {
        Side::meet(&self.0, actor, now, recognised)
    }

    fn recognise(&self, met: &[Sighting], whole: bool) -> Result<Recognition, StoreError> {
        Side::recognise(&self.0, met, whole)
    }

    fn view(&self, collection: CollectionId, asks: &[Ask]) -> Result<Vec<View>, StoreError> {
        self.0.view(collection, asks)
    }

    fn items(&self, collection: CollectionId, ranges: &[Range]) -> Result<Vec<Item>, StoreError> {
        self.0.items(collection, ranges)
    }

    fn sketches(&self, collection: CollectionId, ranges: &[Range], cells: usize) -> Result<Vec<Sketch>, StoreError> {
        Side::sketches(&self.0, collection, ranges, cells)
    }

    fn rests(&self, collection: CollectionId, ranges: &[(Range, Vec<Range>)]) -> Result<Vec<Summary>, StoreError> {
        self.0.rests(collection, ranges)
    }

    fn list(
        &self,
        collection: CollectionId,
        range: Range,
        after: Option<(Position, Vec<u8>)>,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        self.0.list(collection, range, after, limit)
    }

    fn read(
        &self,
        collection: CollectionId,
        what: &Selection,
        after: Option<(Position, Vec<u8>)>,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        self.0.read(collection, what, after, max_bytes)
    }

    fn apply(
        &self,
        collection: CollectionId,
        batch: Vec<Incoming>,
        durability: Durability,
    ) -> Result<Applied, StoreError> {
        self.0.apply(collection, batch, durability)
    }

    fn overwrite(
        &self,
        collection: CollectionId,
        overwrites: Vec<Overwrite>,
        durability: Durability,
    ) -> Result<Applied, StoreError> {
        self.0.overwrite(collection, overwrites, durability)
    }

    fn sync(&self) -> Result<(), StoreError> {
        Side::sync(&self.0)
    }
}
