//! Stores that were restored, rolled back or copied: they begin a new life before anything is compared, and nothing that was
//! acknowledged is taken for seen by what they wrote meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reknit::core::journal::RunId;
use reknit::core::session::{Direction, Intent, Options as SessionOptions, Verdict};
use reknit::core::{DatasetKey, Definition};
use reknit::node::{Budget, between};
use reknit::store::engine::Memory;
use reknit::store::{Options, Store, Undo};
use tokio::sync::watch;

use crate::support::{assert_sound, contents, definition, run};

fn keep_both() -> Definition {
    let mut definition = definition();
    definition.collections[0].policy = "keep-both/1".into();
    definition
}

fn new() -> Store {
    let engine = Arc::new(Memory::new());
    Store::found_over(engine, keep_both(), DatasetKey::from_bytes([9; 32]), &Options::default()).expect("a store")
}

/// The store as it was, in another engine: what a snapshot of a machine brings back.
fn image(store: &Store) -> Arc<Memory> {
    let engine = Arc::new(Memory::new());
    store.copy_rows(&*engine).expect("copied");
    engine
}

fn opened(engine: Arc<Memory>) -> Store {
    Store::over(engine, &Options::default()).expect("opened")
}

async fn repair(a: &Store, b: &Store) -> (Verdict, String) {
    let (_stop, stopped) = watch::channel(false);
    let options = SessionOptions::new(Intent::Repair(Direction::Both));
    let (a, b) = (Arc::new(a.clone()), Arc::new(b.clone()));
    let report = between(a, b, options, Budget::default(), stopped, &mut |_| ()).await.expect("a session");
    (report.outcome.verdict, report.outcome.reason)
}

fn values(store: &Store, key: &[u8]) -> Vec<String> {
    let state = store.first().versions(key).expect("versions").expect("a state");
    let mut values: Vec<String> = state
        .versions()
        .iter()
        .map(|sibling| String::from_utf8(sibling.value().expect("live").to_vec()).expect("text"))
        .collect();
    values.sort();
    values
}

#[test]
fn a_store_that_was_rolled_back_loses_nothing_that_its_peer_knows() {
    run(async {
        for opens in [true, false] {
            let (a, b) = (new(), new());
            a.put(b"k", b"first").expect("put");
            a.put(b"old", b"1").expect("put");
            assert_eq!(repair(&a, &b).await.0, Verdict::InSync);
            let before = image(&a);
            // Acknowledged, known to the peer, and then lost here.
            a.put(b"k", b"lost").expect("put");
            a.put(b"alone", b"lost").expect("put");
            assert_eq!(repair(&a, &b).await.0, Verdict::InSync);
            let actor = a.actor();
            drop(a);
            let a = opened(before);
            assert_eq!(a.actor(), actor);
            a.put(b"k", b"since").expect("put");
            a.put(b"new", b"since").expect("put");
            let session = async || if opens { repair(&a, &b).await } else { repair(&b, &a).await };
            let (verdict, reason) = session().await;
            assert_eq!(verdict, Verdict::Undetermined);
            assert!(reason.contains("restored or copied"), "{reason}");
            assert_eq!(values(&b, b"k"), ["lost"]);
            assert_ne!(a.actor(), actor);
            assert_eq!(session().await.0, Verdict::InSync);
            for store in [&a, &b] {
                assert_eq!(values(store, b"k"), ["lost", "since"]);
                assert_eq!(values(store, b"alone"), ["lost"]);
                assert_eq!(values(store, b"new"), ["since"]);
                assert_eq!(values(store, b"old"), ["1"]);
                assert_sound(store);
            }
            assert_eq!(session().await.0, Verdict::InSync);
        }
    });
}

#[test]
fn two_copies_of_one_store_that_meet_become_two_lives() {
    run(async {
        let (a, c) = (new(), new());
        a.put(b"k", b"common").expect("put");
        assert_eq!(repair(&a, &c).await.0, Verdict::InSync);
        let copy = opened(image(&a));
        a.put(b"k", b"here").expect("put");
        copy.put(b"k", b"there").expect("put");
        assert_eq!((repair(&a, &copy).await.0, repair(&a, &copy).await.0), (Verdict::Undetermined, Verdict::InSync));
        assert_ne!(a.actor(), copy.actor());
        assert_eq!((values(&a, b"k"), values(&copy, b"k")), (values(&copy, b"k"), vec!["here".into(), "there".into()]));
        assert_sound(&a);
    });
}

#[test]
fn a_store_that_was_copied_while_it_was_open_loses_nothing_whichever_meets_their_peer_first() {
    run(async {
        // What is written here, and what there, have stamps of their own.
        let ticks = Arc::new(AtomicU64::new(2_000_000_000_000));
        let clock = move || ticks.fetch_add(1, Ordering::Relaxed);
        let options = Options { clock: Arc::new(clock), ..Options::default() };
        let opened = |engine| Store::over(engine, &options).expect("opened");
        // Closed or not, the one that was copied went on in the opening that the copy knows too.
        for (closes, first) in [(true, true), (true, false), (false, true), (false, false)] {
            let (engine, key) = (Arc::new(Memory::new()), DatasetKey::from_bytes([9; 32]));
            let founded = |engine| Store::found_over(engine, keep_both(), key.clone(), &options).expect("a store");
            let (a, p) = (founded(engine.clone()), founded(Arc::new(Memory::new())));
            a.put(b"k", b"common").expect("put");
            a.put(b"old", b"common").expect("put");
            assert_eq!(repair(&a, &p).await.0, Verdict::InSync);
            let copy = opened(image(&a));
            a.put(b"k", b"here").expect("put");
            let a = match closes {
                true => {
                    drop(a);
                    opened(engine)
                }
                false => a,
            };
            copy.put(b"k", b"there").expect("put");
            let (one, other) = if first { (&a, &copy) } else { (&copy, &a) };
            assert_eq!(repair(one, &p).await.0, Verdict::InSync);
            let verdicts = (repair(other, &p).await.0, repair(other, &p).await.0, repair(one, &p).await.0);
            assert_eq!(verdicts, (Verdict::Undetermined, Verdict::InSync, Verdict::InSync));
            for store in [&a, &copy, &p] {
                assert_eq!(values(store, b"k"), ["here", "there"], "{closes} {first}");
                assert_eq!(values(store, b"old"), ["common"], "{closes} {first}: what is common keeps its name");
                assert_sound(store);
            }
        }
    });
}

#[test]
fn a_renewal_that_was_cut_short_is_finished_when_the_store_is_opened_again() {
    use reknit::store::engine::{Batch, Engine};
    run(async {
        let a = new();
        let old = a.actor();
        for n in 0..50u8 {
            a.put(&[n], b"v").expect("put");
        }
        let stamp = a.first().versions(&[19]).expect("versions").expect("one").winner().version.stamp;
        let engine = image(&a);
        // As a renewal leaves it when it has just begun: the row of the life, and what is still to be given to it.
        let mut batch = Batch::new();
        batch.put(b"\0life", &7u64.to_be_bytes());
        batch.put(b"\0renewal", &[old.0, stamp.0, 7].map(u64::to_be_bytes).concat());
        engine.commit(&mut batch, reknit::store::Durability::Synced).expect("commit");
        let a = opened(engine.clone());
        assert_eq!(a.actor().0, 7);
        for n in 0..50u8 {
            let version = a.first().versions(&[n]).expect("versions").expect("one").winner().version.clone();
            let expected = if n < 20 { (old, None) } else { (a.actor(), Some(stamp)) };
            assert_eq!((version.actor, version.seen.seen(old)), expected, "{n}");
        }
        assert_sound(&a);
        drop(a);
        assert_eq!(opened(engine).actor().0, 7);
    });
}

#[test]
fn what_an_undo_brings_back_from_before_a_renewal_is_of_the_new_life() {
    run(async {
        let ticks = Arc::new(AtomicU64::new(2_000_000_000_000));
        let clock = move || ticks.fetch_add(1, Ordering::Relaxed);
        let options = Options { clock: Arc::new(clock), ..Options::default() };
        let opened = |engine| Store::over(engine, &options).expect("opened");
        for reopens in [false, true] {
            let key = DatasetKey::from_bytes([9; 32]);
            let founded = || {
                let engine = Arc::new(Memory::new());
                Store::found_over(engine, keep_both(), key.clone(), &options).expect("a store")
            };
            let (a, p) = (founded(), founded());
            let undo = |store: &Store, run: RunId, how| {
                let undone = store.undo(run, how, &mut |_| (), &mut |_| ()).expect("undone");
                store.resume().expect("resumed");
                assert_eq!((undone.restored, undone.skipped), (1, 0));
                undone.by
            };
            a.put(b"k", b"first").expect("put");
            assert_eq!(repair(&a, &p).await.0, Verdict::InSync);
            p.put(b"k", b"theirs").expect("put");
            assert_eq!(repair(&a, &p).await.0, Verdict::InSync);
            let overwrote = a.runs().last().expect("a run").0;
            let copy = opened(image(&a));
            // Both write the key under one name, the copy later, and the copy's is only in its journal when it gets a name.
            a.put(b"k", b"mine").expect("put");
            let wrote = undo(&copy, overwrote, Undo::Everywhere);
            assert_eq!(values(&copy, b"k"), ["first"]);
            let undid = undo(&copy, wrote, Undo::Here);
            assert_eq!(values(&copy, b"k"), ["theirs"]);
            let old = copy.actor();
            assert_eq!(repair(&a, &p).await.0, Verdict::InSync);
            assert_eq!(repair(&copy, &p).await.0, Verdict::Undetermined);
            assert_ne!(copy.actor(), old);
            let copy = if reopens { opened(image(&copy)) } else { copy };
            undo(&copy, undid, Undo::Here);
            let version = copy.first().versions(b"k").expect("versions").expect("one").winner().version.clone();
            assert_eq!(version.actor, copy.actor(), "{reopens}");
            assert_eq!((repair(&copy, &p).await.0, repair(&a, &p).await.0), (Verdict::InSync, Verdict::InSync));
            for store in [&a, &p] {
                assert_eq!(values(store, b"k"), ["first", "mine"], "{reopens}");
            }
            assert_sound(&copy);
        }
    });
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("made");
    for item in std::fs::read_dir(from).expect("read") {
        let item = item.expect("an item");
        let target = to.join(item.file_name());
        match item.file_type().expect("a type").is_dir() {
            true => copy_dir(&item.path(), &target),
            false => drop(std::fs::copy(item.path(), target).expect("copied")),
        }
    }
}

#[test]
fn a_directory_that_was_copied_is_another_life_from_the_first_write_on() {
    run(async {
        let place = tempfile::tempdir().expect("a directory");
        let (first, second, moved) = (place.path().join("a"), place.path().join("b"), place.path().join("c"));
        let a = Store::create(&first, keep_both(), DatasetKey::from_bytes([9; 32]), &Options::default()).expect("made");
        a.put(b"k", b"common").expect("put");
        let actor = a.actor();
        drop(a);
        copy_dir(&first, &second);
        std::fs::rename(&first, &moved).expect("renamed");
        let (a, b) = (
            Store::open(&moved, &Options::default()).expect("opened"),
            Store::open(&second, &Options::default()).expect("opened"),
        );
        // What was moved is what it was; the copy is not.
        assert_eq!(a.actor(), actor);
        assert_ne!(b.actor(), actor);
        a.put(b"k", b"here").expect("put");
        b.put(b"k", b"there").expect("put");
        assert_eq!(repair(&a, &b).await.0, Verdict::InSync);
        assert_eq!((values(&a, b"k"), values(&b, b"k")), (values(&b, b"k"), vec!["here".into(), "there".into()]));
        assert_eq!(contents(&a).len(), 1);
        let renewed = b.actor();
        drop(b);
        assert_eq!(Store::open(&second, &Options::default()).expect("opened").actor(), renewed);
    });
}
