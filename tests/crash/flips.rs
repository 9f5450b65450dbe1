//! Single bits flipped in the files of a store, and files cut: what is read is exact or an error that names the damage, what
//! `verify` says agrees with it, and a peer that repairs with such a store keeps the right records.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reknit::core::journal::{RunHeader, RunKind};
use reknit::core::query::{Guard, Incoming, Selection};
use reknit::core::session::{Direction, Intent, Options as SessionOptions, Verdict};
use reknit::core::{CollectionId, Range, Record};
use reknit::node::{Budget, between};
use reknit::store::engine::conformance::Draw;
use reknit::store::{Durability, EngineError, EngineKind, Op, Options, Side, Store, StoreError};

use crate::history::founding;
use crate::model::{self, Map};
use crate::process::{copy, quick_dir, written};

const FIRST: CollectionId = CollectionId(0);
/// Far above what a session takes; it only keeps one from hanging.
const SESSION_MAX: Duration = Duration::from_secs(120);

#[test]
fn fjall_with_a_bit_flipped() {
    flipped(EngineKind::Fjall);
}

#[test]
fn redb_with_a_bit_flipped() {
    flipped(EngineKind::Redb);
}

/// What became of the damages.
#[derive(Debug, Default)]
struct Found {
    /// The store did not open, by name.
    refused: u64,
    /// All was read and is exact, `verify` found nothing wrong.
    harmless: u64,
    /// Something was not read, by name, or `verify` named it.
    named: u64,
    /// Of the former: a part was shown without all that it holds.
    short: u64,
}

fn flipped(engine: EngineKind) {
    let began = Instant::now();
    let whole = Whole::build(engine);
    let mut draw = Draw(model::seed() ^ engine as u64);
    let (mut found, mut wrong) = (Found::default(), Vec::new());
    for nth in 0..model::flips() {
        let dir = whole.home.path().join("hurt");
        copy(&whole.home.path().join("whole"), &dir);
        let what = hurt(&dir, &mut draw);
        if let Err(error) = whole.look(&dir, &mut found) {
            wrong.push(format!("{engine}, seed {}, flip {nth}, {what}: {error}", model::seed()));
        }
        fs::remove_dir_all(&dir).expect("removed");
    }
    println!("{engine}: {found:?}, {} s", began.elapsed().as_secs());
    assert!(wrong.is_empty(), "{} of {} damages:\n{}", wrong.len(), model::flips(), wrong.join("\n"));
    assert!(found.harmless > 0 && found.named + found.refused > model::flips() / 4, "{engine}: {found:?}");
}

/// A store that nothing is wrong with, and what it holds.
struct Whole {
    engine: EngineKind,
    home: tempfile::TempDir,
    records: Vec<Record>,
    rows: Map,
    /// What a peer of it holds before a repair, and then.
    peer: Vec<Record>,
    peer_rows: Map,
    both: Map,
}

fn options(engine: EngineKind) -> Options {
    model::options(engine)
}

fn in_memory(records: &[Record]) -> Store {
    let (definition, key) = founding();
    let store = Store::in_memory(definition, key, &options(EngineKind::Fjall)).expect("a store");
    let incoming = |record: &Record| Incoming { record: record.clone(), guard: Guard::Join };
    store.apply(FIRST, records.iter().map(incoming).collect(), Durability::Buffered).expect("applied");
    store
}

fn all(store: &Store) -> Vec<Record> {
    store.read(FIRST, &Selection::Range(Range::ALL), None, usize::MAX).expect("read").records
}

fn rows(store: &Store) -> Result<Map, StoreError> {
    store.scan(b"")?.collect()
}

fn key(nth: usize) -> Vec<u8> {
    format!("key {nth:04}").into_bytes()
}

impl Whole {
    fn build(engine: EngineKind) -> Whole {
        let home = quick_dir();
        let dir = home.path().join("whole");
        let (definition, secret) = founding();
        let store = Store::create(&dir, definition, secret, &options(engine)).expect("create");
        let mut draw = Draw(11);
        let put = |nth: usize, draw: &mut Draw| {
            let len = draw.below(if nth.is_multiple_of(20) { 3_000 } else { 60 });
            Op::put(key(nth), draw.bytes(len))
        };
        store.batch((0..250).map(|nth| put(nth, &mut draw)).collect(), Durability::Synced).expect("written");
        if engine == EngineKind::Fjall {
            // Enough for the engine to write a table, all of it alike so that the table stays small.
            for _ in 0..5 {
                let large = (0..4).map(|nth| Op::put(key(300 + nth), vec![7; 500_000])).collect();
                store.batch(large, Durability::Buffered).expect("written");
            }
            until(|| fs::read_dir(dir.join("rows/keyspaces/1/tables")).is_ok_and(|tables| tables.count() > 0));
            store.batch((0..4).map(|nth| Op::delete(key(300 + nth))).collect(), Durability::Synced).expect("written");
        }
        let peer = in_memory(&all(&store));
        // What the peer lacks, has in another version beside, or has in an older one.
        let changed = (0..250).filter(|nth| nth % 5 == 0 || *nth > 230);
        let change = |nth| if nth % 3 == 0 { Op::delete(key(nth)) } else { put(nth, &mut draw) };
        store.batch(changed.map(change).collect(), Durability::Synced).expect("written");
        let own = (0..60).map(|nth| Op::put(key(nth * 7), format!("of the peer {nth}"))).collect();
        peer.batch(own, Durability::Buffered).expect("written");
        // A run that brings some of the peer's, so that there are a journal and conflicts.
        let header =
            RunHeader { kind: RunKind::Repair, peer: "peer".into(), opener: true, policy: "both".into(), started: 0 };
        let run = store.in_run(header).expect("a run").expect("a journal");
        let some = all(&peer).into_iter().step_by(2).map(|record| Incoming { record, guard: Guard::Join }).collect();
        run.apply(FIRST, some, Durability::Synced).expect("applied");
        run.end_run("in_sync").expect("ended");
        for nth in 0..20 {
            store.batch(vec![put(400 + nth, &mut draw)], Durability::Synced).expect("written");
        }
        let (records, rows_held) = (all(&store), rows(&store).expect("rows"));
        let both = in_memory(&records);
        let incoming = all(&peer).into_iter().map(|record| Incoming { record, guard: Guard::Join }).collect();
        both.apply(FIRST, incoming, Durability::Buffered).expect("applied");
        let both = rows(&both).expect("rows");
        Whole { engine, home, rows: rows_held, records, peer: all(&peer), peer_rows: rows(&peer).expect("rows"), both }
    }

    /// Reads, verifies and repairs from a store that was damaged; says what is wrong with what comes of it.
    fn look(&self, dir: &Path, found: &mut Found) -> Result<(), String> {
        let store = match Store::open(dir, &options(self.engine)) {
            Ok(store) => store,
            Err(error) if names_damage(&error) => {
                found.refused += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("opening says no more than {error:?}")),
        };
        // A part of the records may be missing from a reading of a part, if `verify` says so.
        let (mut named, mut short) = (false, false);
        let mut told = |error: StoreError| {
            named = true;
            if names_damage(&error) { Ok(()) } else { Err(format!("damage is not named: {error:?}")) }
        };
        for nth in (0..420).step_by(3) {
            match store.get(&key(nth)) {
                Ok(value) if value.as_ref() == self.rows.get(&key(nth)) => {}
                Ok(value) => return Err(format!("key {nth} is {:?}", value.map(|value| value.len()))),
                Err(error) => told(error)?,
            }
        }
        match rows(&store) {
            Ok(rows) if rows == self.rows => {}
            Ok(rows) => return Err(format!("a scan gives {} of {} records", rows.len(), self.rows.len())),
            Err(error) => told(error)?,
        }
        match store.read(FIRST, &Selection::Range(Range::ALL), None, usize::MAX) {
            Ok(page) if page.records == self.records => {}
            Ok(page) if page.records.iter().all(|record| self.records.contains(record)) => short = true,
            Ok(_) => return Err("a read gives a wrong record".into()),
            Err(error) => told(error)?,
        }
        match store.scan(b"key 01").and_then(Iterator::collect::<Result<Map, _>>) {
            Ok(rows) if rows.iter().any(|(key, value)| self.rows.get(key) != Some(value)) => {
                return Err("a listing gives a wrong record".into());
            }
            Ok(rows) => short |= rows.len() < self.rows.keys().filter(|key| key.starts_with(b"key 01")).count(),
            Err(error) => told(error)?,
        }
        for (id, _) in store.runs() {
            store.run_entries(id, &mut |_| true).or_else(&mut told)?;
        }
        match store.verify(&mut |_| ()) {
            Ok(report) if short && report.is_sound() => return Err("records are missing and nobody says so".into()),
            Ok(report) => named |= !report.is_sound(),
            Err(error) => told(error)?,
        }
        found.short += u64::from(short);
        if named {
            found.named += 1;
        } else {
            found.harmless += 1;
        }
        self.repair(store)
    }

    /// A peer that repairs with the store.
    fn repair(&self, store: Store) -> Result<(), String> {
        let peer = in_memory(&self.peer);
        let side: Arc<dyn Side> = Arc::new(peer.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("one");
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        let options = SessionOptions { settle: 0, ..SessionOptions::new(Intent::Repair(Direction::Both)) };
        let budget = Budget { time: Some(SESSION_MAX / 2), bytes: None };
        let session = async {
            let mut progress = |_| ();
            let ran = between(side, Arc::new(store), options, budget, stopped, &mut progress);
            tokio::time::timeout(SESSION_MAX, ran).await
        };
        let ended = runtime.block_on(session).map_err(|_| "a session hangs".to_owned())?;
        let found = rows(&peer).map_err(|error| format!("the peer: {error}"))?;
        for key in found.keys().chain(self.peer_rows.keys()) {
            let is = found.get(key);
            if is != self.peer_rows.get(key) && is != self.both.get(key) {
                return Err(format!("the peer was given a wrong {}", String::from_utf8_lossy(key)));
            }
        }
        match ended {
            Ok(report) if report.outcome.verdict == Verdict::InSync && found != self.both => {
                Err("in sync was said and is not so".into())
            }
            _ => Ok(()),
        }
    }
}

/// Whether an error says that the store is damaged, rather than something else.
fn names_damage(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Damaged { .. }
            | StoreError::Format { .. }
            | StoreError::NotAStore { .. }
            | StoreError::Definition(_)
            | StoreError::Policy(_)
            | StoreError::Engine(EngineError::Corrupt { .. } | EngineError::Missing { .. })
    )
}

fn until(mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never was so");
        std::thread::yield_now();
    }
}

/// Flips a bit in one of the files, or cuts it; says what.
fn hurt(dir: &Path, draw: &mut Draw) -> String {
    let files = all_written(dir);
    // Small files are as likely to be hit as large ones every other time.
    let total: usize = files.values().map(Vec::len).sum();
    let mut at = draw.below(total);
    let mut chosen = files.iter().find(|(_, bytes)| {
        let here = at < bytes.len();
        at -= if here { 0 } else { bytes.len() };
        here
    });
    if draw.below(2) == 0 {
        chosen = files.iter().nth(draw.below(files.len()));
        at = chosen.map_or(0, |(_, bytes)| draw.below(bytes.len()));
    }
    let (path, bytes) = chosen.expect("a file");
    let name = path.strip_prefix(dir).expect("below").display();
    if draw.below(8) == 0 {
        OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(at as u64)).expect("cut");
        return format!("{name} cut to {at} of {}", bytes.len());
    }
    let bit = draw.below(8);
    let mut hurt = bytes.clone();
    hurt[at] ^= 1 << bit;
    let mut file = OpenOptions::new().write(true).open(path).expect("the file");
    file.write_all(&hurt).expect("written");
    format!("bit {bit} of byte {at} of {} in {name}", bytes.len())
}

/// All files with something in them, without the zeroes at their end.
fn all_written(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for item in fs::read_dir(dir).expect("files") {
        let path = item.expect("a file").path();
        if path.is_dir() {
            files.extend(all_written(&path));
        } else {
            let bytes = written(&path);
            files.extend((!bytes.is_empty()).then_some((path, bytes)));
        }
    }
    files
}
