//! What ordinary writes replace is kept where a store is told to: every earlier state, within its bounds, beside runs that
//! can be undone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use reknit::core::State;
use reknit::core::journal::{RunHeader, RunId, RunKind};
use reknit::core::query::{Guard, Incoming, Selection};
use reknit::core::{CollectionId, Range};
use reknit::store::contract::record;
use reknit::store::engine::{Engine, Memory};
use reknit::store::{
    Durability, EngineKind, JournalLimits, KeepHistory, Op, Options, Resolution, Resolved, Side, Store, StoreError,
    Undo,
};

use super::support::{NOW, assert_sound, definition, key, memory, options};

const ALL: KeepHistory = KeepHistory { age: u64::MAX, bytes: u64::MAX };

fn earlier(store: &Store, key: &[u8]) -> Vec<State> {
    store.history(key).expect("read").into_iter().map(|earlier| earlier.state).collect()
}

/// A store whose clock is moved by the test.
fn clocked() -> (Store, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = Arc::clone(&now);
    let clock = Options { clock: Arc::new(move || clock.load(Ordering::Relaxed)), ..options(EngineKind::Fjall) };
    (memory(&clock), now)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_state_that_was_replaced_is_there_in_order(
        batches in proptest::collection::vec(proptest::collection::vec((0u8..6, any::<Option<u8>>()), 1..6), 1..20),
        reopened in 0usize..20,
    ) {
        let engine: Arc<dyn Engine> = Arc::new(Memory::default());
        let mut store =
            Store::found_over(Arc::clone(&engine), definition(), key(), &options(EngineKind::Fjall)).expect("made");
        store.put(&[0], b"before it is kept").expect("put");
        let mut last = store.put(&[0], b"first").expect("put");
        store.keep_history(Some(ALL)).expect("kept");
        let mut model: BTreeMap<u8, Vec<State>> = BTreeMap::new();
        for (nth, batch) in batches.into_iter().enumerate() {
            if nth == reopened {
                drop(store);
                store = Store::over(Arc::clone(&engine), &options(EngineKind::Fjall)).expect("opened");
            }
            for (name, value) in &batch {
                let op = value.map_or(Op::delete([*name]), |value| Op::put([*name], [value]));
                let before = store.first().versions(&[*name]).expect("read");
                let commit = store.first().batch(vec![op], Durability::Buffered).expect("written");
                if commit > std::mem::replace(&mut last, commit) {
                    model.entry(*name).or_default().extend(before);
                }
            }
        }
        for name in 0..6 {
            prop_assert_eq!(earlier(&store, &[name]), model.remove(&name).unwrap_or_default());
        }
        let runs = store.runs();
        prop_assert!(runs.len() <= 1, "an earlier opening's run goes on: {:?}", runs);
        assert_sound(&store, "with a history");
    }
}

#[test]
fn states_within_one_commit_are_kept_too() {
    let store = memory(&options(EngineKind::Fjall));
    store.keep_history(Some(ALL)).expect("kept");
    let ops = [b"one", b"two", b"six"].map(|value| Op::put(b"key", value));
    store.first().batch(ops.into(), Durability::Buffered).expect("written");
    store.delete(b"key").expect("deleted");
    let values: Vec<_> = earlier(&store, b"key").iter().map(|state| state.winner().value().cloned()).collect();
    assert_eq!(values, [b"one", b"two", b"six"].map(|value| Some(value.to_vec())));
    assert_sound(&store, "with a history");
}

#[test]
fn a_history_is_bounded_by_age_and_by_bytes_and_stops_no_repair() {
    let (store, now) = clocked();
    store.set_journal_limits(JournalLimits { bytes: 1, age: 1 }).expect("set");
    store.keep_history(Some(KeepHistory { age: 8_000, bytes: u64::MAX })).expect("kept");
    for n in 0u64..40 {
        now.fetch_add(1_000, Ordering::Relaxed);
        store.put(b"key", &n.to_be_bytes()).expect("put");
        let there = earlier(&store, b"key").len() as u64;
        assert!(there >= n.min(8) && there <= 12, "{there} states after {n} s");
    }
    assert_eq!(store.journal_bytes(), 0, "it takes no room from runs");
    let run = store.in_run(header()).expect("a run");
    drop(run.expect("a journal"));
    assert_sound(&store, "after dropping by age");

    store.keep_history(Some(KeepHistory { age: u64::MAX, bytes: 4_000 })).expect("kept");
    for n in 0u64..400 {
        store.put(b"key", &n.to_be_bytes()).expect("put");
        assert!(store.history_bytes() <= 4_000 + 4_000 / 8 + 200, "{}", store.history_bytes());
    }
    assert!(store.history_bytes() >= 2_000 && store.runs().len() > 2, "{:?}", store.runs());
    assert_sound(&store, "after dropping by bytes");

    assert!(store.keep_history(None).expect("off") > 0);
    store.put(b"key", b"unseen").expect("put");
    assert_eq!((earlier(&store, b"key").len(), store.history_bytes(), store.runs().len()), (0, 0, 0));
    assert_sound(&store, "without a history");
}

#[test]
fn what_is_too_old_goes_with_the_first_state_that_is_kept_after_it_whatever_was_written_between() {
    let (store, now) = clocked();
    store.keep_history(Some(KeepHistory { age: 8_000, bytes: u64::MAX })).expect("kept");
    store.put(b"key", b"one").expect("put");
    store.put(b"key", b"two").expect("put");
    now.fetch_add(2_000, Ordering::Relaxed);
    store.put(b"new", b"replaces nothing").expect("put");
    now.fetch_add(20_000, Ordering::Relaxed);
    store.put(b"new", b"again").expect("put");
    assert_eq!((earlier(&store, b"key"), earlier(&store, b"new").len()), (Vec::new(), 1));
}

#[test]
fn what_a_resolution_replaces_is_kept_and_what_is_too_old_goes_with_it() {
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = Arc::clone(&now);
    let clock = Options { clock: Arc::new(move || clock.load(Ordering::Relaxed)), ..options(EngineKind::Fjall) };
    let mut kept = definition();
    kept.collections[0].policy = "ask/1".into();
    let store = Store::in_memory(kept, key(), &clock).expect("made");
    store.keep_history(Some(KeepHistory { age: 8_000, bytes: u64::MAX })).expect("kept");
    store.put(b"key", b"one").expect("put");
    store.put(b"key", b"two").expect("put");
    for stamp in [5, 7] {
        let record = record(b"open", stamp << 16, stamp, Some(&[stamp as u8]));
        let batch = vec![Incoming { record, guard: Guard::Join }];
        store.apply(CollectionId(0), batch, Durability::Synced).expect("applied");
    }
    now.fetch_add(20_000, Ordering::Relaxed);
    let open = store.first().conflicts(None, 1).expect("read").remove(0);
    let resolved = store.first().resolve(&open, Resolution::Version(0)).expect("resolved");
    assert_eq!(resolved, Resolved::Written);
    let kept = earlier(&store, b"open");
    assert_eq!(kept.iter().map(|state| state.versions().len()).collect::<Vec<_>>(), [2]);
    assert_eq!(earlier(&store, b"key"), Vec::new());
}

fn header() -> RunHeader {
    RunHeader { kind: RunKind::Repair, peer: "peer".into(), opener: true, policy: "both".into(), started: 0 }
}

#[test]
fn a_repair_is_undone_beside_a_history_which_is_not() {
    let (a, b) = (memory(&options(EngineKind::Fjall)), memory(&options(EngineKind::Fjall)));
    a.keep_history(Some(ALL)).expect("kept");
    a.put(b"key", b"mine").expect("put");
    a.put(b"key", b"mine again").expect("put");
    let before = a.root();
    for value in [b"one", b"two", b"six"] {
        b.put(b"key", value).expect("put");
    }
    let run = a.in_run(header()).expect("a run").expect("a journal");
    let all = Selection::Range(Range::ALL);
    let records = b.read(CollectionId(0), &all, None, usize::MAX).expect("read").records;
    let incoming = |record| Incoming { record, guard: Guard::Join };
    run.apply(CollectionId(0), records.into_iter().map(incoming).collect(), Durability::Buffered).expect("applied");
    let id = run.end_run("in_sync").expect("ended").expect("changed");
    assert_ne!(a.root(), before);
    let kinds: Vec<RunKind> = a.runs().into_iter().map(|(_, run)| run.header.kind).collect();
    assert_eq!(kinds, [RunKind::Written, RunKind::Repair]);
    let refused = a.undo(RunId(1), Undo::Here, &mut |_| (), &mut |_| ());
    assert!(matches!(refused, Err(StoreError::NoUndo { run: 1 })), "{refused:?}");
    a.undo(id, Undo::Here, &mut |_| (), &mut |_| ()).expect("undone");
    assert_eq!(a.root(), before);
    assert_sound(&a, "after an undo");
}
