//! What a store is made to do before a crash, and what it held after each commit: batches, runs and an undo. And an engine
//! that leaves a sync out, which must be noticed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reknit::core::journal::{RunHeader, RunId, RunKind};
use reknit::core::query::{Guard, Incoming, Selection};
use reknit::core::{CollectionId, DatasetId, DatasetKey, Definition, Range, Summary};
use reknit::store::engine::conformance::Draw;
use reknit::store::engine::{Batch, Engine, EngineError, Snapshot};
use reknit::store::{Durability, EngineKind, Op, Side, Store, StoreError, Undo};

use crate::model::{Map, options};

const FIRST: CollectionId = CollectionId(0);

/// What a store held after a commit.
pub(crate) struct Held {
    root: Summary,
    rows: Map,
    runs: usize,
}

/// What a store held after each commit.
#[derive(Default)]
pub(crate) struct History {
    held: BTreeMap<u64, Held>,
}

/// A definition and a key for stores over engines at hand.
pub(crate) fn founding() -> (Definition, DatasetKey) {
    (Definition::simple(DatasetId([7; 16]), "crash"), DatasetKey::from_bytes([9; 32]))
}

/// A new store over an engine.
pub(crate) fn found(engine: Arc<dyn Engine>) -> Store {
    let (definition, key) = founding();
    Store::found_over(engine, definition, key, &options(EngineKind::Fjall)).expect("a store")
}

pub(crate) fn reopen(engine: Arc<dyn Engine>) -> Result<Store, StoreError> {
    Store::over(engine, &options(EngineKind::Fjall))
}

impl History {
    /// Notes what a store holds now.
    fn see(&mut self, store: &Store) {
        let rows = store.scan(b"").expect("scan").collect::<Result<Map, _>>().expect("a row");
        let held = Held { root: store.root(), rows, runs: store.runs().len() };
        self.held.insert(store.cut().commit, held);
    }

    /// Makes a store do things; `acknowledged` hears of each commit that was, and whether it was synced.
    pub(crate) fn make(store: &Store, draw: &mut Draw, steps: usize, acknowledged: &mut dyn FnMut(u64, bool)) -> Self {
        let mut history = Self::default();
        history.go_on(store, draw, steps, acknowledged);
        history
    }

    /// Makes it do more.
    pub(crate) fn go_on(
        &mut self,
        store: &Store,
        draw: &mut Draw,
        steps: usize,
        acknowledged: &mut dyn FnMut(u64, bool),
    ) {
        self.see(store);
        acknowledged(store.cut().commit, true);
        let (definition, key) = founding();
        let other = Store::in_memory(definition, key, &options(EngineKind::Fjall)).expect("a store");
        for step in 0..steps {
            match draw.below(12) {
                0 if step > 4 => bring(&other, store, draw, self, acknowledged),
                1 if step > 4 => undo(store, self, acknowledged),
                2 => {
                    store.batch(ops(draw), Durability::Buffered).expect("a batch");
                    self.see(store);
                    acknowledged(store.cut().commit, false);
                    store.sync().expect("synced");
                    acknowledged(store.cut().commit, true);
                }
                _ => {
                    other.batch(ops(draw), Durability::Buffered).expect("a batch");
                    let synced = draw.below(3) > 0;
                    let durability = if synced { Durability::Synced } else { Durability::Buffered };
                    store.batch(ops(draw), durability).expect("a batch");
                    self.see(store);
                    acknowledged(store.cut().commit, synced);
                }
            }
        }
    }

    /// Writes as much as makes fjall write out a table, all of it alike so that the table stays small, and deletes it again.
    pub(crate) fn fill(&mut self, store: &Store, acknowledged: &mut dyn FnMut(u64, bool)) {
        let key = |nth: usize| format!("large {nth}");
        let large = || (0..4).map(|nth| Op::put(key(nth), vec![7; 500_000])).collect();
        let gone = || (0..4).map(|nth| Op::delete(key(nth))).collect();
        for nth in 0..6 {
            let batch = if nth < 5 { large() } else { gone() };
            store.batch(batch, Durability::Buffered).expect("a batch");
            self.see(store);
            acknowledged(store.cut().commit, false);
        }
        store.sync().expect("synced");
        acknowledged(store.cut().commit, true);
    }

    /// What was held after each commit, for another process: see [`is_what`].
    pub(crate) fn told(&self) -> impl Iterator<Item = (u64, String)> {
        self.held
            .iter()
            .map(|(commit, held)| (*commit, format!("{:?} {} {:?}", held.runs, print(&held.rows), held.root)))
    }

    /// Says what is wrong with a store that was opened after a crash: it must hold what it held after some commit, and none
    /// before `floor`, the last that was acknowledged as synced. Gives the commit.
    pub(crate) fn check(&self, store: &Store, floor: u64, deep: bool) -> Result<u64, String> {
        let commit = store.cut().commit;
        let held = self.held.get(&commit).ok_or_else(|| format!("there never was a commit {commit}"))?;
        if commit < floor {
            return Err(format!("commit {floor} was acknowledged as synced, the newest is {commit}"));
        }
        if store.root() != held.root {
            return Err(format!("the root is not that of commit {commit}"));
        }
        // The run of a repair is there from its first commit on; its end is no commit.
        if store.runs().len() < held.runs {
            return Err(format!("runs are missing at commit {commit}"));
        }
        if !deep {
            for (key, value) in held.rows.iter().step_by(7) {
                if store.get(key).map_err(|error| error.to_string())?.as_ref() != Some(value) {
                    return Err(format!("{} is wrong at commit {commit}", String::from_utf8_lossy(key)));
                }
            }
            return Ok(commit);
        }
        let rows =
            store.scan(b"").and_then(|rows| rows.collect::<Result<Map, _>>()).map_err(|error| error.to_string())?;
        if rows != held.rows {
            return Err(format!("the records are not those of commit {commit}"));
        }
        let report = store.verify(&mut |_| ()).map_err(|error| error.to_string())?;
        if report.is_sound() { Ok(commit) } else { Err(report.wrong.join("; ")) }
    }
}

/// Whether a store is what was [told](History::told) of it in another process; if `deep`, from end to end.
pub(crate) fn is_what(told: &str, store: &Store, deep: bool) -> Result<(), String> {
    let mut words = told.splitn(3, ' ');
    let (runs, rows, root) = (words.next(), words.next(), words.next());
    let commit = store.cut().commit;
    if root != Some(format!("{:?}", store.root()).as_str()) {
        return Err(format!("the root is not that of commit {commit}"));
    }
    // The run of a repair is there from its first commit on; its end is no commit.
    if runs.and_then(|runs| runs.parse().ok()).is_none_or(|runs: usize| store.runs().len() < runs) {
        return Err(format!("runs are missing at commit {commit}"));
    }
    let found = store.scan(b"").and_then(|rows| rows.collect::<Result<Map, _>>()).map_err(|error| error.to_string())?;
    if rows != Some(print(&found).as_str()) {
        return Err(format!("the records are not those of commit {commit}"));
    }
    if !deep {
        return Ok(());
    }
    let report = store.verify(&mut |_| ()).map_err(|error| error.to_string())?;
    if report.is_sound() { Ok(()) } else { Err(report.wrong.join("; ")) }
}

/// A digest of all records.
fn print(rows: &Map) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in rows.iter().flat_map(|(key, value)| [key, value]) {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    hasher.finalize().to_hex().to_string()
}

fn ops(draw: &mut Draw) -> Vec<Op> {
    let count = 1 + draw.below(8);
    let op = |draw: &mut Draw| {
        let key = format!("k{:02}", draw.below(70));
        if draw.below(6) == 0 {
            return Op::delete(key);
        }
        let most = if draw.below(6) == 0 { 5_000 } else { 80 };
        let len = draw.below(most);
        Op::put(key, draw.bytes(len))
    };
    (0..count).map(|_| op(draw)).collect()
}

/// Brings what another store has into this one, as a run of a few commits.
fn bring(
    other: &Store,
    store: &Store,
    draw: &mut Draw,
    history: &mut History,
    acknowledged: &mut dyn FnMut(u64, bool),
) {
    let header =
        RunHeader { kind: RunKind::Repair, peer: "peer".into(), opener: true, policy: "both".into(), started: 0 };
    // After an undo nothing is applied until it is said to go on.
    store.resume().expect("resumed");
    let records = other.read(FIRST, &Selection::Range(Range::ALL), None, usize::MAX).expect("read").records;
    let run = store.in_run(header).expect("a run").expect("a journal");
    let at_once = 1 + draw.below(20);
    for some in records.chunks(at_once) {
        let batch = some.iter().map(|record| Incoming { record: record.clone(), guard: Guard::Join }).collect();
        run.apply(FIRST, batch, Durability::Buffered).expect("applied");
        history.see(store);
        acknowledged(store.cut().commit, false);
    }
    run.end_run("in_sync").expect("ended");
    acknowledged(store.cut().commit, true);
}

/// Undoes the newest run that is not undone, if there is one.
fn undo(store: &Store, history: &mut History, acknowledged: &mut dyn FnMut(u64, bool)) {
    let runs = store.runs();
    let newest: Option<RunId> = runs.iter().rev().find(|(_, run)| run.undone.is_none()).map(|(id, _)| *id);
    let Some(id) = newest else { return };
    store.undo(id, Undo::Here, &mut |_| (), &mut |_| history.see(store)).expect("undone");
    history.see(store);
    acknowledged(store.cut().commit, true);
}

/// What an engine does not sync, counted from 0.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unsynced {
    /// One of the commits that were to be synced.
    Commit(u64),
    /// What was to be synced of what had been committed before.
    Rest(u64),
}

/// An engine that leaves a sync out.
pub(crate) struct Lazy {
    engine: Arc<dyn Engine>,
    unsynced: Unsynced,
    commits: AtomicU64,
    rests: AtomicU64,
}

impl Lazy {
    pub(crate) fn over(engine: Arc<dyn Engine>, unsynced: Unsynced) -> Arc<dyn Engine> {
        Arc::new(Lazy { engine, unsynced, commits: AtomicU64::new(0), rests: AtomicU64::new(0) })
    }
}

impl Engine for Lazy {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        self.engine.snapshot()
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        let to_sync = durability == Durability::Synced;
        let nth = self.commits.fetch_add(u64::from(to_sync), Ordering::Relaxed);
        let lazy = to_sync && matches!(self.unsynced, Unsynced::Commit(lazy) if lazy == nth);
        self.engine.commit(batch, if lazy { Durability::Buffered } else { durability })
    }

    fn sync(&self) -> Result<(), EngineError> {
        let nth = self.rests.fetch_add(1, Ordering::Relaxed);
        let lazy = matches!(self.unsynced, Unsynced::Rest(lazy) if lazy == nth);
        if lazy { Ok(()) } else { self.engine.sync() }
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.engine.disk_bytes()
    }
}
