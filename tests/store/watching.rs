//! Watchers are told every change in order, or that they lag; never nothing.

use std::time::Duration;

use reknit::core::CollectionId;
use reknit::core::query::{Guard, Incoming};
use reknit::store::contract::record;
use reknit::store::{Cursor, Durability, EngineKind, Event, Op, Origin, Side, Watcher};

use crate::support::{self, NOW, options};

const NOT_LONG: Duration = Duration::ZERO;

fn all(watcher: &mut Watcher) -> Vec<Event> {
    std::iter::from_fn(|| watcher.next(NOT_LONG).expect("not lagging")).collect()
}

#[test]
fn every_change_is_told_once_in_order() {
    let store = support::memory(&options(EngineKind::Fjall));
    let mut watcher = store.watch(None);
    assert_eq!(all(&mut watcher), vec![]);
    store.put(b"a", b"1").expect("put");
    store.batch(vec![Op::put("a", "2"), Op::put("b", "1"), Op::delete("a")], Durability::Synced).expect("batch");
    let theirs = record(b"b", (NOW + 1) << 16, 5, Some(b"theirs"));
    store
        .apply(CollectionId(0), vec![Incoming { record: theirs, guard: Guard::Join }], Durability::Synced)
        .expect("apply");
    store.delete(b"nothing").expect("delete");
    let text = |value: Option<Vec<u8>>| value.map_or("-".into(), |value| String::from_utf8(value).expect("text"));
    let told: Vec<String> = all(&mut watcher)
        .into_iter()
        .map(|event| {
            let (key, old, new) = (text(Some(event.key)), text(event.old), text(event.new));
            format!("{} {key}: {old} -> {new} {:?}", event.commit, event.origin)
        })
        .collect();
    let should = [
        "1 a: - -> 1 Local",
        "2 a: 1 -> 2 Local",
        "2 b: - -> 1 Local",
        "2 a: 2 -> - Local",
        "3 b: 1 -> theirs Session",
    ];
    assert_eq!(told, should);
    assert_eq!(watcher.cursor(), Cursor(3));
    let again: Vec<u64> = all(&mut store.watch(Some(Cursor(2)))).into_iter().map(|event| event.commit).collect();
    assert_eq!(again, vec![3]);
}

#[test]
fn a_slow_watcher_is_told_that_it_lags() {
    let store = support::memory(&options(EngineKind::Fjall));
    let mut watcher = store.watch(None);
    store.put(b"first", b"").expect("put");
    for _ in 0..5 {
        let ops = (0..20_000_u32).map(|nth| Op::put(nth.to_be_bytes(), "v")).collect();
        store.batch(ops, Durability::Buffered).expect("batch");
    }
    let lagged = watcher.next(NOT_LONG).expect_err("the ring is smaller than that");
    assert_eq!((lagged.cursor, lagged.now), (Cursor(0), Cursor(6)));
    assert_eq!(watcher.next(NOT_LONG).expect("caught up"), None);
    store.put(b"next", b"").expect("put");
    assert_eq!(watcher.next(NOT_LONG).expect("told").map(|event| event.key), Some(b"next".to_vec()));
}

#[test]
fn a_cursor_of_before_or_of_nowhere_lags() {
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path().join("store");
    let store = support::create(EngineKind::Fjall, &dir);
    store.put(b"a", b"").expect("put");
    store.put(b"b", b"").expect("put");
    drop(store);
    let store = reknit::store::Store::open(&dir, &options(EngineKind::Fjall)).expect("open");
    assert!(store.watch(Some(Cursor(1))).next(NOT_LONG).is_err(), "what happened before the opening is not held");
    assert!(store.watch(Some(Cursor(9))).next(NOT_LONG).is_err(), "this store never was there");
    assert_eq!(store.watch(Some(Cursor(2))).next(NOT_LONG).expect("right there"), None);
}

#[test]
fn a_watcher_wakes_when_something_changes() {
    let store = support::memory(&options(EngineKind::Fjall));
    let mut watcher = store.watch(None);
    std::thread::scope(|scope| {
        let told = scope.spawn(move || watcher.next(Duration::from_secs(60)));
        store.put(b"k", b"v").expect("put");
        let event = told.join().expect("a thread").expect("not lagging").expect("told");
        assert_eq!((event.origin, event.new), (Origin::Local, Some(b"v".to_vec())));
    });
}
