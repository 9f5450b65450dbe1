//! Records from beyond the clock's bound: neither applied nor dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reknit::core::CollectionId;
use reknit::core::journal::RunKind;
use reknit::core::query::{Applied, Guard, Incoming};
use reknit::core::stamp::CLOCK_BOUND_MILLIS;
use reknit::store::contract::record;
use reknit::store::engine::Memory;
use reknit::store::{Durability, JournalLimits, Options, Release, Released, Side, Store, StoreError, Undo};

use crate::support::{self, assert_sound};

const ALL: CollectionId = CollectionId(0);
const DAY: u64 = 24 * 60 * 60 * 1000;

struct Held {
    clock: Arc<AtomicU64>,
    engine: Arc<Memory>,
    options: Options,
    store: Store,
}

fn held() -> Held {
    let (clock, options) = support::clocked(1_000_000);
    let engine = Arc::new(Memory::new());
    let store = Store::found_over(engine.clone(), support::definition(), support::key(), &options).expect("a store");
    Held { clock, engine, options, store }
}

impl Held {
    /// As if a session had brought it.
    fn bring(&self, key: &str, millis: u64, value: &[u8]) -> Applied {
        let record = record(key.as_bytes(), millis << 16, 7, Some(value));
        self.store.apply(ALL, vec![Incoming { record, guard: Guard::Join }], Durability::Synced).expect("apply")
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        self.store.quarantined(None, 10).expect("quarantined").into_iter().map(|held| held.key).collect()
    }
}

#[test]
fn a_record_from_beyond_the_bound_is_kept_apart_and_applied_once_the_clock_is_near() {
    let mut held = held();
    held.store.put(b"k", b"old").expect("put");
    let now = held.clock.load(Ordering::Relaxed);
    let (stamp, commit) = (now + DAY, held.store.cut().commit);
    let applied = held.bring("k", stamp, b"new");
    assert_eq!((applied.applied, applied.refused.len()), (0, 1));
    assert!(applied.refused[0].1.ends_with("it is in quarantine"), "{:?}", applied.refused);
    assert_eq!(held.store.get(b"k").expect("get"), Some(b"old".to_vec()));
    assert_eq!((held.store.cut().commit, held.store.quarantined_count()), (commit, 1));
    // Neither that it comes again nor that the store is opened again changes that.
    held.bring("k", stamp, b"new");
    held.store = Store::over(held.engine.clone(), &held.options).expect("opened");
    assert_eq!((held.store.quarantined_count(), held.keys()), (1, vec![b"k".to_vec()]));
    assert_eq!(held.store.release_all(Release::Due, None).expect("release").left, 0);
    // Its own writes stay near its own clock.
    held.store.put(b"other", b"v").expect("put");
    let own = held.store.first().versions(b"other").expect("versions").expect("one").winner().version.stamp;
    assert!(own.millis() <= now + CLOCK_BOUND_MILLIS);
    held.clock.store(stamp - CLOCK_BOUND_MILLIS, Ordering::Relaxed);
    assert_eq!(held.store.release_all(Release::Due, None).expect("release").left, 1);
    assert_eq!(held.store.get(b"k").expect("get"), Some(b"new".to_vec()));
    assert_eq!((held.store.quarantined_count(), held.keys()), (0, Vec::new()));
    assert_sound(&held.store, "released");
}

#[test]
fn someone_decides_sooner() {
    let held = held();
    let now = held.clock.load(Ordering::Relaxed);
    held.bring("a", now + DAY, b"1");
    held.bring("b", now + DAY, b"2");
    assert_eq!(held.store.release(ALL, b"a", Release::Accept).expect("release").left, 1);
    assert_eq!(held.store.release(ALL, b"a", Release::Accept).expect("release").left, 0);
    assert_eq!(held.store.release(ALL, b"b", Release::Drop).expect("release").left, 1);
    assert_eq!(held.store.get(b"a").expect("get"), Some(b"1".to_vec()));
    assert_eq!(held.store.get(b"b").expect("get"), None);
    // A write here has seen what was accepted, so its stamp is greater; the clock did not follow.
    held.store.put(b"a", b"later").expect("put");
    held.store.put(b"c", b"now").expect("put");
    assert_eq!(held.store.get(b"a").expect("get"), Some(b"later".to_vec()));
    let stamp = |key: &[u8]| held.store.first().versions(key).expect("versions").expect("one").winner().version.stamp;
    assert!(stamp(b"a").0 > (now + DAY) << 16 && stamp(b"c").millis() <= now + CLOCK_BOUND_MILLIS);
    assert_eq!(held.store.quarantined_count(), 0);
    assert_sound(&held.store, "decided");
}

#[test]
fn nothing_is_accepted_that_could_not_be_undone() {
    let held = held();
    let later = held.clock.load(Ordering::Relaxed) + DAY;
    held.store.put(b"k", b"now").expect("put");
    held.bring("k", later, b"tomorrow");
    held.bring("new", later, b"tomorrow");
    let limits = held.store.journal_limits();
    held.store.set_journal_limits(JournalLimits { bytes: 0, ..limits }).expect("set");
    for refused in [held.store.release(ALL, b"k", Release::Accept), held.store.release_all(Release::Accept, None)] {
        assert!(matches!(refused, Err(StoreError::JournalFull { .. })), "{refused:?}");
    }
    assert_eq!(held.store.quarantined_count(), 2);
    held.store.set_journal_limits(limits).expect("set");
    assert_eq!(held.store.release_all(Release::Accept, Some(CollectionId(1))).expect("none").left, 0);
    let Released { left, run } = held.store.release_all(Release::Accept, Some(ALL)).expect("release");
    let id = run.expect("a run");
    let run = held.store.run(id).expect("it is kept");
    assert_eq!((left, run.header.kind, run.entries, run.overwritten), (2, RunKind::Accepted, 2, 1));
    held.store.undo(id, Undo::Here, &mut |_| (), &mut |_| ()).expect("undone");
    assert_eq!(held.store.get(b"k").expect("get"), Some(b"now".to_vec()));
    assert_eq!(held.store.get(b"new").expect("get"), None);
    // No repair may write here now; somebody may decide all the same.
    held.bring("k", later, b"tomorrow");
    assert!(held.store.release(ALL, b"k", Release::Accept).expect("release").run.is_some());
    assert_eq!(held.store.get(b"k").expect("get"), Some(b"tomorrow".to_vec()));
    assert_sound(&held.store, "accepted");
}

#[test]
fn a_damaged_row_of_the_quarantine_is_named() {
    use reknit::store::engine::{Batch, Engine};
    let held = held();
    held.bring("k", held.clock.load(Ordering::Relaxed) + DAY, b"1");
    let snapshot = held.engine.snapshot().expect("a snapshot");
    let rows: Vec<_> = snapshot.scan(&[13], &[14]).expect("a scan").map(|row| row.expect("a row")).collect();
    drop(snapshot);
    let (row, mut value) = rows[0].clone();
    value[9] ^= 1;
    let mut batch = Batch::new();
    batch.put(&row, &value);
    held.engine.commit(&mut batch, Durability::Synced).expect("commit");
    let report = held.store.verify(&mut |_| ()).expect("a report");
    assert!(report.wrong.iter().any(|what| what.contains("quarantine")), "{:?}", report.wrong);
    assert!(held.store.quarantined(None, 10).is_err());
}
