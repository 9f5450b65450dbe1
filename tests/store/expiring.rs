//! Records that expire: by the clock for readers, by a watermark for everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reknit::core::collect::Horizon;
use reknit::core::journal::{RunHeader, RunKind};
use reknit::core::query::{Applied, Guard, Incoming, Raising};
use reknit::core::stamp::{CLOCK_BOUND_MILLIS, Millis};
use reknit::core::{CollectionId, Content, Record, Stamp, State};
use reknit::store::contract::record;
use reknit::store::engine::Memory;
use reknit::store::{Durability, Op, Options, Release, Side, Store, Undo, Why};

use crate::support::{self, assert_sound};

const FIRST: CollectionId = CollectionId(0);
const BEGUN: Millis = 1_000_000;

struct Held {
    clock: Arc<AtomicU64>,
    engine: Arc<Memory>,
    options: Options,
    store: Store,
}

impl Held {
    fn new() -> Held {
        let (clock, options) = support::clocked(BEGUN);
        let engine = Arc::new(Memory::new());
        let store =
            Store::found_over(engine.clone(), support::definition(), support::key(), &options).expect("a store");
        Held { clock, engine, options, store }
    }

    fn at(&self, millis: Millis) {
        self.clock.store(millis, Ordering::Relaxed);
    }

    fn put(&self, key: &str, expires: Millis) {
        let op = Op::Put { key: key.into(), value: b"value".to_vec(), expires: Some(expires) };
        self.store.batch(vec![op], Durability::Synced).expect("put");
    }

    fn has(&self, key: &str) -> bool {
        let (got, all) = (self.store.get(key.as_bytes()).expect("get"), self.store.scan(b"").expect("scan"));
        let listed = all.map(|found| found.expect("a record").0).any(|found| found == key.as_bytes());
        assert_eq!(got.is_some(), listed, "a key is read and listed alike");
        listed
    }

    fn state(&self, key: &str) -> State {
        self.store.first().versions(key.as_bytes()).expect("versions").expect("a state")
    }

    /// As if a session had brought it.
    fn bring(&self, record: Record) -> Applied {
        self.store.apply(FIRST, vec![Incoming { record, guard: Guard::Join }], Durability::Synced).expect("apply")
    }

    fn counts(&self) -> (u64, u64) {
        let stats = self.store.stats().expect("stats");
        (stats.records, stats.tombstones)
    }
}

/// A version of another store, as it is before and after it has expired.
fn written(key: &str, stamp: u64, expires: Millis) -> [Record; 2] {
    let mut live = record(key.as_bytes(), stamp, 7, Some(b"value"));
    let mut sibling = live.state.winner().clone();
    sibling.expires = Some(expires);
    live.state = State::single(sibling);
    let expired = Record { key: key.into(), state: live.state.expired(expires).expect("it expires") };
    [live, expired]
}

#[test]
fn readers_go_by_the_clock_and_roots_by_the_watermark() {
    let mut held = Held::new();
    held.put("k", BEGUN + 10);
    held.put("later", BEGUN + 20);
    let before = held.store.cut();
    held.at(BEGUN + 10);
    assert!(!held.has("k") && held.has("later"));
    assert_eq!((held.store.cut(), held.counts()), (before.clone(), (2, 0)));
    let after = held.store.expire_until(None).expect("expired");
    assert_eq!((after.watermark, held.counts()), (BEGUN + 10, (1, 1)));
    assert_ne!(after.roots, before.roots);
    // The version is the one that was written.
    let state = held.state("k");
    assert!(state.winner().has_expired() && state.winner().expires == Some(BEGUN + 10));
    assert_eq!(held.store.expire_until(None).expect("expired"), after, "there is nothing to do twice");
    // A clock that is put back brings nothing back.
    held.at(BEGUN);
    assert!(!held.has("k"));
    held.put("late", BEGUN + 5);
    assert!(held.state("late").winner().has_expired());
    held.store = Store::over(held.engine.clone(), &held.options).expect("opened");
    assert_eq!(held.store.cut().watermark, BEGUN + 10);
    assert!(!held.has("k") && !held.has("late") && held.has("later"));
    assert_sound(&held.store, "opened again");
}

#[test]
fn the_watermark_goes_no_further_than_the_clock_and_its_bound() {
    let held = Held::new();
    held.put("k", BEGUN + CLOCK_BOUND_MILLIS + 1);
    // Nothing is due: there is none to tell, and no session becomes longer by it.
    assert_eq!(held.store.expire_until(Some(u64::MAX)).expect("expired").watermark, 0);
    held.put("due", BEGUN + 1);
    let cut = held.store.expire_until(Some(u64::MAX)).expect("expired");
    assert_eq!(cut.watermark, BEGUN + CLOCK_BOUND_MILLIS);
    assert!(held.has("k"));
    let lower = held.store.expire_until(Some(BEGUN)).expect("expired");
    assert_eq!(lower, cut, "it never falls");
    held.at(BEGUN + 1);
    held.store.expire_until(Some(u64::MAX)).expect("expired");
    assert!(!held.has("k"));
    assert_sound(&held.store, "expired");
}

#[test]
fn what_has_expired_too_early_elsewhere_waits_in_quarantine() {
    let held = Held::new();
    let far = BEGUN + CLOCK_BOUND_MILLIS + 5;
    let [live, expired] = written("k", BEGUN << 16, far);
    assert_eq!(held.bring(live).applied, 1);
    let refused = held.bring(expired).refused;
    assert!(refused[0].1.ends_with("it is in quarantine"), "{refused:?}");
    assert!(held.has("k"));
    let kept = held.store.quarantined(None, 10).expect("quarantined");
    assert_eq!((kept.len(), kept[0].why), (1, Why::Ahead));
    held.at(BEGUN + 5);
    assert_eq!(held.store.release_all(Release::Due, None).expect("release").left, 1);
    assert!(!held.has("k") && held.state("k").winner().has_expired());
    assert_sound(&held.store, "released");
}

#[test]
fn what_was_early_and_is_due_when_a_run_begins_is_no_part_of_it() {
    let held = Held::new();
    let [live, expired] = written("k", BEGUN << 16, BEGUN + CLOCK_BOUND_MILLIS + 5);
    held.bring(live);
    held.bring(expired);
    held.at(BEGUN + CLOCK_BOUND_MILLIS + 5);
    let header =
        RunHeader { kind: RunKind::Repair, peer: "p".into(), opener: true, policy: String::new(), started: BEGUN };
    let run = held.store.in_run(header).expect("a run").expect("a journal");
    run.introduce().expect("introduced");
    assert_eq!((held.store.quarantined_count(), held.state("k").winner().has_expired()), (0, true));
    let other = record(b"other", (BEGUN << 16) + 1, 7, Some(b"value"));
    run.apply(FIRST, vec![Incoming { record: other, guard: Guard::Join }], Durability::Synced).expect("applied");
    let id = run.end_run("converged").expect("ended").expect("it wrote");
    let undone = held.store.undo(id, Undo::Here, &mut |_| (), &mut |_| ()).expect("undone");
    assert_eq!((undone.restored, held.has("other")), (1, false));
    assert!(held.state("k").winner().has_expired());
    assert_sound(&held.store, "undone");
}

#[test]
fn whoever_has_let_it_expire_is_joined_by_who_has_not() {
    let (first, second) = (Held::new(), Held::new());
    let [live, expired] = written("k", BEGUN << 16, BEGUN + 10);
    [&first, &second].into_iter().for_each(|held| assert_eq!(held.bring(live.clone()).applied, 1));
    first.at(BEGUN + 10);
    first.store.expire_until(None).expect("expired");
    // The live form does not come back, and the expired one is taken.
    assert_eq!(first.bring(live).applied, 0);
    assert_eq!(second.bring(expired).applied, 1);
    assert_eq!((first.state("k"), first.store.cut().roots), (second.state("k"), second.store.cut().roots));
    assert!(first.state("k").winner().content == Content::Tombstone);
}

#[test]
fn what_has_expired_is_collected_as_other_tombstones_are() {
    let held = Held::new();
    held.put("k", BEGUN + 10);
    held.put("later", BEGUN + 20);
    held.at(BEGUN + 30);
    let old = Horizon { stamp: Stamp::at(BEGUN + 15), passed: Vec::new() };
    // Nobody need have looked at it since it expired.
    assert_eq!(held.store.raise(&old, true).expect("raised"), Raising::Raised);
    assert_eq!((held.counts(), held.store.cut().watermark), ((1, 0), BEGUN + 15));
    let [live, _] = written("new", (BEGUN + 1) << 16, BEGUN + 12);
    // What expired before the horizon is not stored again.
    held.bring(live);
    assert_eq!(held.counts(), (1, 0));
    assert_sound(&held.store, "collected");
}

#[test]
fn many_expire_at_once() {
    let held = Held::new();
    let ops = (0..2_500).map(|n| Op::Put {
        key: format!("key {n:04}").into(),
        value: b"v".to_vec(),
        expires: Some(BEGUN + 1 + n % 7),
    });
    held.store.batch(ops.collect(), Durability::Synced).expect("written");
    held.at(BEGUN + 5);
    held.store.expire_until(None).expect("expired");
    let left = (0..2_500).filter(|n| 1 + n % 7 > 5).count() as u64;
    assert_eq!(held.counts(), (left, 2_500 - left));
    assert_eq!(held.store.scan(b"").expect("scan").count() as u64, left);
    assert_sound(&held.store, "expired");
}
