//! A run that is undone more than once, or whose undo is undone: what is refused, and what comes back.

use std::collections::BTreeMap;

use proptest::prelude::*;
use reknit::core::journal::{RunHeader, RunId, RunKind};
use reknit::core::query::{Guard, Incoming, Selection};
use reknit::core::{CollectionId, Range, Record, State};
use reknit::store::{Durability, EngineKind, Op, Side, Store, StoreError, Undo};

use super::journal::{some_ops, write};
use super::support::{assert_sound, memory, options};

const FIRST: CollectionId = CollectionId(0);

fn fresh() -> Store {
    memory(&options(EngineKind::Fjall))
}

fn records(store: &Store) -> Vec<Record> {
    store.read(FIRST, &Selection::Range(Range::ALL), None, usize::MAX).expect("read").records
}

fn states(store: &Store) -> BTreeMap<Vec<u8>, State> {
    records(store).into_iter().map(|record| (record.key, record.state)).collect()
}

/// Brings all of one store into another, some records at a time, as a run.
fn bring(from: &Store, to: &Store, at_once: usize) -> Option<RunId> {
    let header =
        RunHeader { kind: RunKind::Repair, peer: "peer".into(), opener: true, policy: "both".into(), started: 0 };
    let run = to.in_run(header).expect("a run").expect("a journal");
    let run: &dyn Side = &*run;
    for some in records(from).chunks(at_once) {
        let incoming = |record: &Record| Incoming { record: record.clone(), guard: Guard::Join };
        run.apply(FIRST, some.iter().map(incoming).collect(), Durability::Buffered).expect("applied");
    }
    run.end_run("in_sync").expect("ended")
}

/// Undoes a run; tells by which, how many changes came back, and which keys did not.
fn undo(store: &Store, run: u64, how: Undo) -> Result<(u64, u64, Vec<Vec<u8>>), StoreError> {
    let mut skipped = Vec::new();
    let done = store.undo(RunId(run), how, &mut |(_, key)| skipped.push(key), &mut |_| ())?;
    assert_eq!(done.skipped, skipped.len() as u64);
    Ok((done.by.0, done.restored, skipped))
}

#[track_caller]
fn done(store: &Store, run: u64, how: Undo, by: u64, restored: u64, skipped: &[&str]) {
    let skipped = skipped.iter().map(|key| key.as_bytes().to_vec()).collect();
    assert_eq!(undo(store, run, how).expect("undone"), (by, restored, skipped));
}

#[track_caller]
fn refused(store: &Store, run: u64, how: Undo, by: &[u64]) {
    match undo(store, run, how) {
        Err(StoreError::Undone { run: of, by: told }) => assert_eq!((of, &told[..]), (run, by)),
        other => panic!("{other:?}"),
    }
}

/// Two stores of which a run brought `j` and `k` into the first, and another one `k` again.
fn twice_over() -> (Store, Store) {
    let (a, b) = (fresh(), fresh());
    let put = |key: &str, value: &str| assert!(b.put(key.as_bytes(), value.as_bytes()).is_ok());
    [("j", "1"), ("k", "1")].into_iter().for_each(|(key, value)| put(key, value));
    bring(&b, &a, 9);
    [("j", "2"), ("k", "2")].into_iter().for_each(|(key, value)| put(key, value));
    assert_eq!(bring(&b, &a, 9), Some(RunId(2)));
    put("k", "3");
    assert_eq!(bring(&b, &a, 9), Some(RunId(3)));
    (a, b)
}

#[track_caller]
fn holds(store: &Store, j: &str, k: &str) {
    let held = |key: &str| String::from_utf8(store.get(key.as_bytes()).expect("get").expect("there")).expect("text");
    assert_eq!((held("j").as_str(), held("k").as_str()), (j, k));
}

#[test]
fn a_key_that_was_skipped_comes_back_once_nothing_stands_over_it() {
    let (a, _) = twice_over();
    done(&a, 2, Undo::Here, 4, 1, &["k"]);
    holds(&a, "1", "3");
    done(&a, 3, Undo::Here, 5, 1, &[]);
    holds(&a, "1", "2");
    // What is back already is neither put back nor skipped.
    done(&a, 2, Undo::Here, 6, 1, &[]);
    holds(&a, "1", "1");
    refused(&a, 2, Undo::Here, &[6, 4]);
    done(&a, 6, Undo::Here, 7, 1, &[]);
    done(&a, 4, Undo::Here, 8, 1, &[]);
    holds(&a, "2", "2");
    done(&a, 2, Undo::Here, 9, 2, &[]);
    holds(&a, "1", "1");
    assert_sound(&a, "undone");
}

#[test]
fn a_key_that_was_skipped_everywhere_comes_back_everywhere() {
    let (a, b) = twice_over();
    done(&a, 2, Undo::Everywhere, 4, 1, &["k"]);
    refused(&a, 2, Undo::Here, &[4]);
    done(&a, 3, Undo::Here, 5, 1, &[]);
    done(&a, 2, Undo::Everywhere, 6, 1, &[]);
    refused(&a, 2, Undo::Everywhere, &[6, 4]);
    holds(&a, "1", "1");
    bring(&a, &b, 9);
    holds(&b, "1", "1");
    assert_sound(&a, "undone");
}

#[test]
fn a_key_that_went_back_half_of_the_way_is_told_each_time() {
    let (here, other) = (fresh(), fresh());
    let header =
        RunHeader { kind: RunKind::Repair, peer: "peer".into(), opener: true, policy: "both".into(), started: 0 };
    let side = here.in_run(header).expect("a run").expect("a journal");
    let run: &dyn Side = &*side;
    // Others write the key between two changes of one run.
    for (mine, theirs) in [(b"a", b"b"), (b"x", b"y")] {
        here.put(b"k", mine).expect("put");
        bring(&here, &other, 9);
        other.put(b"k", theirs).expect("put");
        let incoming = |record: &Record| Incoming { record: record.clone(), guard: Guard::Join };
        run.apply(FIRST, records(&other).iter().map(incoming).collect(), Durability::Buffered).expect("applied");
    }
    let id = run.end_run("in_sync").expect("ended").expect("it wrote").0;
    done(&here, id, Undo::Here, id + 1, 1, &["k"]);
    done(&here, id, Undo::Here, id + 2, 0, &["k"]);
    assert_eq!(here.get(b"k").expect("read"), Some(b"x".to_vec()));
}

#[test]
fn a_run_is_undone_as_long_as_its_undo_stands() {
    let (a, _) = twice_over();
    done(&a, 3, Undo::Here, 4, 1, &[]);
    refused(&a, 3, Undo::Here, &[4]);
    assert_eq!(a.undone(RunId(3)).map(|undone| undone.by), Some(RunId(4)));
    done(&a, 4, Undo::Here, 5, 1, &[]);
    holds(&a, "2", "3");
    refused(&a, 4, Undo::Here, &[5]);
    assert_eq!(a.undone(RunId(3)), None);
    // The undo of the undo is undone: so is the run.
    done(&a, 5, Undo::Here, 6, 1, &[]);
    holds(&a, "2", "2");
    refused(&a, 3, Undo::Here, &[4]);
    done(&a, 6, Undo::Here, 7, 1, &[]);
    done(&a, 3, Undo::Here, 8, 1, &[]);
    holds(&a, "2", "2");
    refused(&a, 3, Undo::Here, &[8]);
    assert_sound(&a, "undone");
}

/// What is here alone does not win elsewhere by being undone again; undone first, it does.
#[test]
fn an_undo_everywhere_is_instead_of_one_here() {
    let (a, b) = twice_over();
    done(&a, 3, Undo::Here, 4, 1, &[]);
    refused(&a, 3, Undo::Everywhere, &[4]);
    done(&a, 4, Undo::Here, 5, 1, &[]);
    done(&a, 3, Undo::Everywhere, 6, 1, &[]);
    a.resume().expect("resumed");
    bring(&a, &b, 9);
    holds(&b, "2", "2");
    // Nor where some of it was skipped.
    done(&a, 2, Undo::Here, 7, 1, &["k"]);
    refused(&a, 2, Undo::Everywhere, &[7]);
    assert_sound(&a, "undone");
}

/// Of a run that filled a store the journal has no list: what an undo has removed counts as back.
#[test]
fn a_run_that_filled_a_store_is_undone_again() {
    let name = |n: u32| n.to_be_bytes().to_vec();
    for how in [Undo::Here, Undo::Everywhere] {
        let (full, store) = (fresh(), fresh());
        full.batch((0..200).map(|n| Op::put(name(n), vec![7])).collect(), Durability::Buffered).expect("written");
        assert_eq!(bring(&full, &store, 1000), Some(RunId(1)));
        full.put(&name(5), b"again").expect("put");
        assert_eq!(bring(&full, &store, 1000), Some(RunId(2)));
        assert_eq!(undo(&store, 1, how).expect("undone"), (3, 199, vec![name(5)]));
        // As long as it is written over, it is skipped again and told as the one that is.
        assert_eq!(undo(&store, 1, how).expect("undone"), (4, 0, vec![name(5)]));
        assert_eq!(undo(&store, 2, Undo::Here).expect("undone"), (5, 1, vec![]));
        assert_eq!(undo(&store, 1, how).expect("undone"), (6, 1, vec![]));
        assert_eq!(store.stats().expect("stats").records, 0);
        assert_sound(&store, "undone");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Undone in the order in which they were made, runs leave what the later ones wrote; undone once more, nothing.
    #[test]
    fn runs_are_undone_in_any_order_if_they_are_undone_again(
        mine in some_ops(40), theirs in some_ops(40), again in some_ops(40), at_once in 1..50_usize,
    ) {
        let (a, b) = (fresh(), fresh());
        write(&a, &mine);
        write(&b, &theirs);
        let (before, root) = (states(&a), a.root());
        let first = bring(&b, &a, at_once);
        write(&b, &again);
        let second = bring(&b, &a, at_once);
        let (Some(first), Some(second)) = (first, second) else { return Ok(()) };
        let (_, _, skipped) = undo(&a, first.0, Undo::Here).expect("undone");
        undo(&a, second.0, Undo::Here).expect("undone");
        if !skipped.is_empty() {
            let (_, restored, none) = undo(&a, first.0, Undo::Here).expect("undone again");
            prop_assert_eq!((restored, none), (skipped.len() as u64, vec![]));
        }
        prop_assert_eq!((states(&a), a.root()), (before, root));
        let refused = matches!(undo(&a, first.0, Undo::Here), Err(StoreError::Undone { .. }));
        prop_assert!(refused);
        assert_sound(&a, "undone");
    }
}
