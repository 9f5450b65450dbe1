//! What a run overwrote is in the journal and comes back; keys that were written since stay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use reknit::core::journal::{RunHeader, RunId, RunKind};
use reknit::core::query::{Guard, Incoming, Selection};
use reknit::core::row::{Json, Row, encode};
use reknit::core::{Actor, CollectionId, Content, Range, Record, Sibling, Stamp, State, Summary, Version};
use reknit::store::contract::record;
use reknit::store::engine::{Batch, Engine, EngineError, Memory, Snapshot};
use reknit::store::{Durability, JournalLimits, Op, Options, Side, Store, StoreError, Undo};

use super::support::{NOW, assert_sound, definition, key, memory, options};
use reknit::store::EngineKind;

const FIRST: CollectionId = CollectionId(0);

fn header() -> RunHeader {
    RunHeader { kind: RunKind::Repair, peer: "peer".into(), opener: true, policy: "both".into(), started: 0 }
}

fn fresh() -> Store {
    memory(&options(EngineKind::Fjall))
}

/// A new store over this engine.
fn founded(engine: &Arc<dyn Engine>) -> Store {
    Store::found_over(Arc::clone(engine), definition(), key(), &options(EngineKind::Fjall)).expect("made")
}

fn records(store: &Store) -> Vec<Record> {
    store.read(FIRST, &Selection::Range(Range::ALL), None, usize::MAX).expect("read").records
}

fn states(store: &Store) -> (BTreeMap<Vec<u8>, State>, Summary) {
    (records(store).into_iter().map(|record| (record.key, record.state)).collect(), store.root())
}

/// Brings all of one store into another, some records at a time, as a run.
fn bring(from: &Store, to: &Store, at_once: usize) -> Option<RunId> {
    let run = to.in_run(header()).expect("a run").expect("a journal");
    let run: &dyn Side = &*run;
    apply(run, &records(from), at_once);
    run.end_run("in_sync").expect("ended")
}

fn apply(run: &dyn Side, records: &[Record], at_once: usize) {
    for some in records.chunks(at_once) {
        let incoming = |record: &Record| Incoming { record: record.clone(), guard: Guard::Join };
        run.apply(FIRST, some.iter().map(incoming).collect(), Durability::Buffered).expect("applied");
    }
}

fn undo(store: &Store, run: RunId) -> (u64, BTreeSet<Vec<u8>>) {
    let mut skipped = BTreeSet::new();
    let done = store.undo(run, Undo::Here, &mut |(_, key)| skipped.extend([key]), &mut |_| ()).expect("undone");
    assert_eq!(done.skipped, skipped.len() as u64);
    (done.restored, skipped)
}

pub(super) fn write(store: &Store, ops: &[(u8, Option<u8>)]) {
    let op = |(key, value): &(u8, Option<u8>)| match value {
        Some(value) => Op::put([*key], vec![*value; 1 + usize::from(*value)]),
        None => Op::delete([*key]),
    };
    store.batch(ops.iter().map(op).collect(), Durability::Buffered).expect("written");
}

pub(super) fn some_ops(most: usize) -> impl Strategy<Value = Vec<(u8, Option<u8>)>> {
    prop::collection::vec((0..40_u8, prop::option::weighted(0.7, any::<u8>())), 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn an_undo_brings_back_the_exact_states_and_skips_what_was_written_since(
        mine in some_ops(40), theirs in some_ops(40), later in some_ops(6), at_once in 1..50_usize,
    ) {
        let (a, b) = (fresh(), fresh());
        write(&a, &mine);
        write(&b, &theirs);
        let (before, root) = states(&a);
        let commit = a.cut().commit;
        let Some(run) = bring(&b, &a, at_once) else {
            prop_assert_eq!(states(&a), (before, root));
            return Ok(());
        };
        let (repaired, _) = states(&a);
        write(&a, &later);
        let (written, _) = states(&a);
        let moved: BTreeSet<Vec<u8>> = repaired.keys().filter(|key| written.get(*key) != repaired.get(*key)).cloned().collect();
        let (_, skipped) = undo(&a, run);
        let (after, root_after) = states(&a);
        for key in repaired.keys().chain(written.keys()) {
            let touched = before.get(key) != repaired.get(key);
            let expected = if touched && !moved.contains(key) { before.get(key) } else { written.get(key) };
            prop_assert_eq!(after.get(key), expected);
            prop_assert_eq!(skipped.contains(key), touched && moved.contains(key));
        }
        if written == repaired {
            prop_assert_eq!(root_after, root);
        }
        prop_assert!(a.cut().commit > commit);
        assert_sound(&a, "after the undo");
        let undo_run = a.run(run).expect("the run").undone.expect("undone").by;
        undo(&a, undo_run);
        prop_assert_eq!(states(&a).0, written);
        assert_sound(&a, "after the undo of the undo");
    }
}

#[test]
fn an_undo_that_was_cut_short_goes_on_and_ends_the_same() {
    for cut in 1..12 {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let (a, b) = (founded(&engine), fresh());
        write(&a, &(0..40).map(|key| (key, Some(1))).collect::<Vec<_>>());
        let (before, root) = states(&a);
        bring(&a, &b, 99);
        write(&b, &(20..60).map(|key| (key, Some(2))).collect::<Vec<_>>());
        let run = bring(&b, &a, 4).expect("changes");
        let mut commits = 0;
        let cut_short = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            a.undo(run, Undo::Here, &mut |_| (), &mut |_| {
                commits += 1;
                assert!(commits < cut, "cut short");
            })
        }));
        drop(a);
        let a = Store::over(engine, &options(EngineKind::Fjall)).expect("opened again");
        match cut_short {
            Err(_) => {
                assert!(a.paused().is_some(), "paused before anything is put back");
                let (restored, skipped) = undo(&a, run);
                assert_eq!((restored, skipped.len()), (40, 0));
            }
            Ok(done) => assert_eq!(done.expect("undone").restored, 40),
        }
        assert_eq!(states(&a), (before, root));
        assert_eq!(a.runs().len(), 2, "one undo, however often it was begun");
        assert_sound(&a, "after the undo");
    }
}

#[test]
fn an_undo_everywhere_writes_new_versions_and_pauses_nothing() {
    let (a, b) = (fresh(), fresh());
    a.put(b"old", b"one").expect("put");
    bring(&a, &b, 9);
    b.put(b"old", b"two").expect("put");
    b.put(b"new", b"three").expect("put");
    let run = bring(&b, &a, 9).expect("changes");
    let done = a.undo(run, Undo::Everywhere, &mut |_| (), &mut |_| ()).expect("undone");
    assert_eq!((done.restored, done.skipped, a.paused()), (2, 0, None));
    bring(&a, &b, 9);
    assert_eq!((b.get(b"old").expect("get"), b.get(b"new").expect("get")), (Some(b"one".to_vec()), None));
    assert_eq!(a.root(), b.root());
}

/// A store with one collection under a policy.
fn under(policy: &str) -> Store {
    let mut definition = definition();
    definition.collections[0].policy = policy.into();
    Store::in_memory(definition, key(), &options(EngineKind::Fjall)).expect("made")
}

/// What a peer's run brings: versions that know of nothing here but of what they are told to have seen.
fn pushed(store: &Store, records: Vec<Record>) -> RunId {
    let run = store.in_run(header()).expect("a run").expect("a journal");
    apply(&*run, &records, 99);
    run.end_run("in_sync").expect("ended").expect("it has changed something")
}

fn row(json: &str) -> Vec<u8> {
    let mut row = Row::new();
    for (name, value) in Json::columns(json).expect("columns") {
        row.set(name, value).expect("set");
    }
    encode(&row)
}

#[test]
fn an_undo_everywhere_writes_what_readers_saw_under_every_policy() {
    let (nine, two) = (row(r#"{"n":9}"#), row(r#"{"n":2.5}"#));
    let (a, b) = (row(r#"{"at":{"x":9},"hits":{"p":1},"x":1}"#), row(r#"{"at":{"x":8},"hits":{"q":2},"x":2}"#));
    let merged = row(r#"{"at":{"x":9},"hits":{"p":1,"q":2},"x":1}"#);
    for (policy, old, new, saw) in [
        ("keep-both/1", Some(&nine), None, Some(&nine)),
        ("keep-both/1", None, Some(&two), Some(&two)),
        ("ask/1", Some(&nine), Some(&two), Some(&nine)),
        ("ask/1", None, Some(&two), None),
        ("largest/1 n", Some(&nine), Some(&two), Some(&nine)),
        ("largest/1 n", Some(&nine), None, Some(&nine)),
        ("smallest/1 n", Some(&two), Some(&nine), Some(&two)),
        ("newest/1 n", Some(&nine), Some(&two), Some(&nine)),
        ("merge/1 at;hits=counter", Some(&a), Some(&b), Some(&merged)),
        ("newest/1", Some(&nine), Some(&two), Some(&two)),
    ] {
        let store = under(policy);
        let version = |stamp: u64, value: Option<&Vec<u8>>| record(b"k", stamp << 16, stamp, value.map(Vec::as_slice));
        pushed(&store, vec![version(5, old), version(7, new)]);
        assert_eq!(store.get(b"k").expect("get").as_ref(), saw, "{policy}");
        // The run that is undone had seen both.
        let state = store.first().versions(b"k").expect("versions").expect("there");
        let seen = state.versions().iter().map(|sibling| &sibling.version);
        let version = Version::after(Stamp::at(NOW), Actor(9), seen);
        let sibling = Sibling { version, content: Content::Live(row(r#"{"at":{},"n":1,"x":7}"#)), expires: None };
        let run = pushed(&store, vec![Record { key: b"k".to_vec(), state: State::single(sibling) }]);
        let done = store.undo(run, Undo::Everywhere, &mut |_| (), &mut |_| ()).expect("undone");
        assert_eq!((done.restored, done.skipped), (1, 0), "{policy}");
        assert_eq!(store.get(b"k").expect("get").as_ref(), saw, "{policy} after the undo");
        let state = store.first().versions(b"k").expect("versions").expect("there");
        assert_eq!(state.versions().len(), 1, "{policy}: a version that has seen all");
        assert_sound(&store, policy);
    }
}

/// A run may change a key again: what peers push is one run for an hour.
#[test]
fn an_undo_everywhere_goes_back_to_before_the_first_change_of_a_key() {
    let (a, b) = (fresh(), fresh());
    write(&a, &[(1, Some(1)), (2, Some(1)), (3, Some(1))]);
    bring(&a, &b, 9);
    let many = |value| (50..100).map(|key| (key, value)).collect::<Vec<_>>();
    let run = a.in_run(header()).expect("a run").expect("a journal");
    let again = |ops: &[(u8, Option<u8>)]| {
        write(&b, ops);
        apply(&*run, &records(&b), 99);
    };
    // Many at once are told by their positions alone.
    again(&many(Some(1)));
    again(&[(1, Some(2)), (2, Some(2)), (4, Some(2)), (50, Some(2))]);
    // Two changes of a key in one commit.
    let incoming = |record: Record| Incoming { record, guard: Guard::Join };
    let mut twice = Vec::new();
    for value in [3, 4] {
        write(&b, &[(1, Some(value)), (4, Some(value))]);
        twice.extend(records(&b).into_iter().filter(|record| [[1], [4]].contains(&[record.key[0]])));
    }
    run.apply(FIRST, twice.into_iter().map(incoming).collect(), Durability::Buffered).expect("applied");
    // Written here in between, and again by the run: no further than that.
    write(&a, &[(2, Some(7)), (51, Some(7))]);
    bring(&a, &b, 99);
    again(&[(1, None), (2, Some(8)), (3, Some(8)), (5, Some(8)), (51, Some(8))]);
    let id = run.end_run("in_sync").expect("ended").expect("it has changed something");
    let mut skipped = BTreeSet::new();
    a.undo(id, Undo::Everywhere, &mut |(_, key)| skipped.extend([key]), &mut |_| ()).expect("undone");
    let holds = |key: u8| a.get(&[key]).expect("get").map(|value| value[0]);
    let now = [1, 2, 3, 4, 5, 50, 51, 52].map(holds);
    assert_eq!(now, [Some(1), Some(7), Some(1), None, None, None, Some(7), None]);
    assert_eq!(skipped, [vec![2], vec![51]].into(), "what was written in between hides what the run did before");
    assert_sound(&a, "after the undo");
}

#[test]
fn what_cannot_be_undone_is_refused_by_name() {
    let (a, b) = (fresh(), fresh());
    b.put(b"key", b"value").expect("put");
    let run = bring(&b, &a, 9).expect("changes");
    assert_eq!(bring(&b, &a, 9), None, "a run that changes nothing leaves no row");
    assert_eq!(a.runs().len(), 1);
    let again = |run| a.undo(run, Undo::Here, &mut |_| (), &mut |_| ());
    assert!(matches!(again(RunId(7)), Err(StoreError::NoRun { run: 7 })));
    undo(&a, run);
    assert!(matches!(again(run), Err(StoreError::Undone { run: 1, by }) if by == [2]));
    assert!(matches!(a.in_run(header()), Err(StoreError::Paused { run: 2, .. })));
    let answering = a.in_run(RunHeader { opener: false, ..header() }).expect("a run").expect("a journal");
    assert!(answering.cut().is_ok());
    let offered = answering.read(FIRST, &Selection::Range(Range::ALL), None, 9);
    assert!(matches!(offered, Err(StoreError::Paused { .. })));
    assert!(matches!(answering.apply(FIRST, Vec::new(), Durability::Buffered), Err(StoreError::Paused { .. })));
    assert_eq!(a.resume().expect("resumed"), Some(RunId(2)));
    assert_eq!(bring(&b, &a, 9), Some(RunId(3)));
}

#[test]
fn a_full_journal_stops_a_run_before_it_writes_and_age_makes_room() {
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = Arc::clone(&now);
    let clock = Options { clock: Arc::new(move || clock.load(Ordering::Relaxed)), ..options(EngineKind::Fjall) };
    let (a, b) = (memory(&clock), fresh());
    b.put(b"key", b"one").expect("put");
    bring(&b, &a, 9);
    a.set_journal_limits(JournalLimits { bytes: 1, age: 1000 }).expect("set");
    b.put(b"key", b"two").expect("put");
    let root = a.root();
    assert!(matches!(a.in_run(header()), Err(StoreError::JournalFull { limit: 1, wrote: 0, .. })));
    assert_eq!((a.root(), a.runs().len()), (root, 1), "nothing is written, nothing is dropped");
    now.fetch_add(2000, Ordering::Relaxed);
    assert_eq!(a.drop_old_runs().expect("dropped"), 1);
    assert_eq!((a.runs().len(), a.journal_bytes()), (0, 0));
    assert_eq!(bring(&b, &a, 9), Some(RunId(2)), "numbers rise");
    assert_sound(&a, "after dropping");
}

#[test]
fn a_run_that_fills_the_journal_says_what_it_had_written() {
    let (a, b) = (fresh(), fresh());
    write(&a, &[(1, Some(1)), (2, Some(1)), (3, Some(1))]);
    bring(&a, &b, 9);
    write(&b, &[(1, Some(2)), (2, Some(2)), (3, Some(2))]);
    let run = a.in_run(header()).expect("a run").expect("a journal");
    let (all, root) = (records(&b), a.root());
    apply(&*run, &all[..2], 9);
    a.set_journal_limits(JournalLimits { bytes: 1, age: u64::MAX }).expect("set");
    let incoming = vec![Incoming { record: all[2].clone(), guard: Guard::Join }];
    match run.apply(FIRST, incoming, Durability::Buffered) {
        Err(full @ StoreError::JournalFull { wrote: 2, .. }) => {
            assert!(full.to_string().contains("wrote 2 records"), "{full}");
        }
        other => panic!("{other:?}"),
    }
    let id = run.end_run("refused").expect("ended").expect("it has changed something");
    a.set_journal_limits(JournalLimits { bytes: 1 << 20, age: u64::MAX }).expect("room");
    undo(&a, id);
    assert_eq!(a.root(), root);
}

#[test]
fn a_run_that_was_dropped_while_it_wrote_is_not_taken_for_whole() {
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = Arc::clone(&now);
    let clock = Options { clock: Arc::new(move || clock.load(Ordering::Relaxed)), ..options(EngineKind::Fjall) };
    let (a, b) = (memory(&clock), fresh());
    a.set_journal_limits(JournalLimits { bytes: 1 << 20, age: 1000 }).expect("set");
    let run = a.in_run(header()).expect("a run").expect("a journal");
    let apply = |key: &[u8]| {
        b.put(key, b"value").expect("put");
        let incoming = |record: Record| Incoming { record, guard: Guard::Join };
        run.apply(FIRST, records(&b).into_iter().map(incoming).collect(), Durability::Buffered).expect("applied");
    };
    apply(b"one");
    now.fetch_add(2000, Ordering::Relaxed);
    assert_eq!(a.drop_old_runs().expect("dropped"), 1);
    apply(b"two");
    let id = run.end_run("in_sync").expect("ended").expect("it has changed something");
    assert!(a.run(id).expect("a run").dropped);
    let undone = a.undo(id, Undo::Here, &mut |_| (), &mut |_| ());
    assert!(matches!(undone, Err(StoreError::NoRun { .. })), "half of it would be undone: {undone:?}");
    assert_sound(&a, "after dropping");
}

#[test]
fn what_a_peer_was_given_is_synced_here() {
    /// Counts syncs.
    struct Counting(Memory, Arc<AtomicU64>);
    impl Engine for Counting {
        fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
            self.0.snapshot()
        }
        fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
            self.0.commit(batch, durability)
        }
        fn sync(&self) -> Result<(), EngineError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.sync()
        }
        fn disk_bytes(&self) -> Result<u64, EngineError> {
            self.0.disk_bytes()
        }
    }
    let syncs = Arc::new(AtomicU64::new(0));
    let engine: Arc<dyn Engine> = Arc::new(Counting(Memory::new(), Arc::clone(&syncs)));
    let (a, b) = (founded(&engine), fresh());
    let read = || {
        records(&a);
        syncs.load(Ordering::Relaxed)
    };
    assert_eq!(read(), 0, "nothing is owed");
    write(&a, &[(1, Some(1))]);
    assert_eq!((read(), read()), (1, 1), "once is enough");
    a.put(b"synced", b"at once").expect("put");
    b.put(b"of another", b"peer").expect("put");
    let incoming = |record: Record| Incoming { record, guard: Guard::Join };
    a.apply(FIRST, records(&b).into_iter().map(incoming).collect(), Durability::Buffered).expect("applied");
    assert_eq!(read(), 1, "only versions of its own are owed");
}

#[test]
fn a_key_has_a_history_through_runs() {
    let (a, b) = (fresh(), fresh());
    for value in [b"one", b"two", b"six"] {
        b.put(b"key", value).expect("put");
        bring(&b, &a, 9);
    }
    let history = a.history(b"key").expect("history");
    let found: Vec<_> = history.iter().map(|earlier| (earlier.run.0, earlier.state.value().expect("live"))).collect();
    assert_eq!(found, [(2, b"one".as_slice()), (3, b"two".as_slice())]);
    assert_eq!(a.history(b"other").expect("history"), []);
}

#[test]
fn every_damaged_row_of_the_journal_is_named() {
    let engine: Arc<dyn Engine> = Arc::new(Memory::new());
    let (a, b) = (founded(&engine), fresh());
    write(&a, &[(1, Some(1)), (2, Some(2))]);
    bring(&a, &b, 9);
    write(&b, &[(1, Some(3)), (3, Some(3))]);
    bring(&b, &a, 9);
    drop(a);
    let rows: Vec<(Vec<u8>, Vec<u8>)> = {
        let snapshot = engine.snapshot().expect("snapshot");
        snapshot.scan(&[9], &[12]).expect("scan").collect::<Result<_, _>>().expect("rows")
    };
    assert_eq!(rows.len(), 3, "a run, its entries, an earlier state");
    for (row, value) in rows {
        let mut wrongs = vec![None];
        wrongs.extend((0..value.len()).map(|at| {
            let mut flipped = value.clone();
            flipped[at] ^= 4;
            Some(flipped)
        }));
        for wrong in wrongs {
            let mut batch = Batch::new();
            match &wrong {
                Some(value) => batch.put(&row, value),
                None => batch.delete(&row),
            }
            engine.commit(&mut batch, Durability::Synced).expect("damaged");
            let store = Store::over(Arc::clone(&engine), &options(EngineKind::Fjall)).expect("opened");
            assert!(!store.verify(&mut |_| ()).expect("verified").is_sound(), "row {row:?} as {wrong:?}");
            drop(store);
            let mut batch = Batch::new();
            batch.put(&row, &value);
            engine.commit(&mut batch, Durability::Synced).expect("mended");
        }
    }
}

#[test]
fn the_journal_of_a_fill_does_not_grow_with_its_keys_and_it_is_undone_all_the_same() {
    let (full, store) = (fresh(), fresh());
    let name = |n: u32| n.to_be_bytes().to_vec();
    full.batch((0..2000).map(|n| Op::put(name(n), vec![7; 20])).collect(), Durability::Buffered).expect("written");
    store.put(b"mine", b"1").expect("put");
    let before = states(&store);
    let run = bring(&full, &store, 500).expect("a run");
    let held = store.run(run).expect("the run");
    assert_eq!((held.entries, held.overwritten), (2000, 0));
    assert!(store.journal_bytes() < 400, "{} bytes", store.journal_bytes());
    let mut listed = BTreeSet::new();
    let see = &mut |entry: reknit::core::journal::JournalEntry| entry.before.is_none() && listed.insert(entry.key);
    store.run_entries(run, see).expect("entries");
    assert_eq!(listed, (0..2000).map(name).collect());
    assert_sound(&store, "filled");
    // Written since: they stay, and are told.
    store.put(&name(5), b"changed").expect("put");
    store.delete(&name(6)).expect("deleted");
    let (restored, skipped) = undo(&store, run);
    assert_eq!((restored, skipped), (1998, [name(5), name(6)].into()));
    assert_eq!(store.stats().expect("stats").records, 2);
    assert_eq!(store.get(&name(5)).expect("get"), Some(b"changed".to_vec()));
    assert_eq!(states(&store).0.get(b"mine".as_slice()), before.0.get(b"mine".as_slice()));
    assert_sound(&store, "undone");
}

#[test]
fn keys_that_are_scattered_among_others_are_named_one_by_one() {
    let (other, store) = (fresh(), fresh());
    let name = |n: u32| n.to_be_bytes().to_vec();
    store.batch((0..2000).map(|n| Op::put(name(n), vec![7])).collect(), Durability::Buffered).expect("written");
    other.batch((5000..5100).map(|n| Op::put(name(n), vec![7])).collect(), Durability::Buffered).expect("written");
    let before = states(&store);
    let run = bring(&other, &store, 1000).expect("a run");
    assert!(store.journal_bytes() > 100 * 4, "{} bytes", store.journal_bytes());
    assert_eq!(undo(&store, run), (100, BTreeSet::new()));
    assert_eq!(states(&store), before);
}

#[test]
fn a_key_that_was_filled_in_and_that_a_run_wrote_again_goes_too_unless_somebody_wrote_between() {
    let (other, store) = (fresh(), fresh());
    let name = |n: u32| n.to_be_bytes().to_vec();
    other.batch((0..200).map(|n| Op::put(name(n), vec![7])).collect(), Durability::Buffered).expect("written");
    let run = store.in_run(header()).expect("a run").expect("a journal");
    apply(&*run, &records(&other), 1000);
    store.put(&name(5), b"mine").expect("put");
    let mine = store.first().versions(&name(5)).expect("read");
    // Its clock is at a standstill too; the second put is newer than mine whoever's name is greater.
    other.put(&name(5), b"once").expect("put");
    other.put(&name(5), b"again").expect("put");
    other.put(&name(6), b"again").expect("put");
    apply(&*run, &records(&other), 1000);
    assert!(store.journal_bytes() < 400, "{} bytes", store.journal_bytes());
    let run = run.end_run("in_sync").expect("ended").expect("a run");
    assert_eq!(undo(&store, run), (201, [name(5)].into()));
    assert_eq!(store.stats().expect("stats").records, 1);
    assert_eq!(store.first().versions(&name(5)).expect("read"), mine);
    assert_sound(&store, "undone");
}
