//! What sessions write gives way to clients: in pieces while clients write, whole without them, and the same in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use reknit::core::CollectionId;
use reknit::core::query::{Guard, Incoming};
use reknit::core::throttle::ACTIVE_MICROS;
use reknit::store::engine::{Batch, Engine, EngineError, Memory, Snapshot};
use reknit::store::{Durability, GivesWay, Options, Side, Store, contract};

use super::support::{NOW, assert_sound, clocked, definition, key, memory};

const BATCH: u64 = 1_000;

fn store(gives_way: bool) -> (Arc<AtomicU64>, Store) {
    let micros = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&micros);
    let options = Options { gives_way, micros: Arc::new(move || clock.load(Ordering::SeqCst)), ..clocked(NOW).1 };
    (micros, memory(&options))
}

/// Applies a session's batch whose last record this store has already; gives the commits that it took.
fn apply(store: &Store, first: u64) -> u64 {
    let record = |nth: u64| contract::record(&(first + nth).to_be_bytes(), first + nth + 1, 77, Some(b"value"));
    let last = Incoming { record: record(BATCH - 1), guard: Guard::Join };
    store.apply(CollectionId(0), vec![last], Durability::Buffered).expect("applied");
    let before = store.cut().commit;
    let batch = (0..BATCH).map(|nth| Incoming { record: record(nth), guard: Guard::Join }).collect();
    let applied = store.apply(CollectionId(0), batch, Durability::Buffered).expect("applied");
    assert_eq!((applied.applied, applied.kept, applied.moved, applied.refused.len()), (BATCH - 1, 1, 0, 0));
    assert!((before + 1..=store.cut().commit).contains(&applied.commit));
    applied.commit - before
}

#[test]
fn what_a_session_writes_beside_clients_comes_in_pieces() {
    let (micros, store) = store(true);
    assert_eq!((apply(&store, 0), store.gives_way()), (1, None), "nobody else writes");
    store.put(b"client", b"writes").expect("put");
    assert_eq!(store.gives_way(), Some(GivesWay { piece: 64, rest: Duration::ZERO }));
    assert_eq!(apply(&store, BATCH), BATCH.div_ceil(64));
    micros.fetch_add(ACTIVE_MICROS + 1, Ordering::SeqCst);
    assert_eq!((apply(&store, 2 * BATCH), store.gives_way()), (1, None), "the client has gone");
    assert_eq!(store.stats().expect("stats").records, 3 * BATCH + 1);
    assert_sound(&store, "in pieces");
}

#[test]
fn a_store_that_does_not_give_way_takes_what_a_session_writes_at_once() {
    let (_, store) = store(false);
    store.put(b"client", b"writes").expect("put");
    assert_eq!((apply(&store, 0), store.gives_way()), (1, None));
}

/// An engine that is behind for the next so many looks.
struct Busy {
    engine: Memory,
    looks: AtomicI64,
}

impl Engine for Busy {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        self.engine.snapshot()
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        self.engine.commit(batch, durability)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine.sync()
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.engine.disk_bytes()
    }

    fn behind(&self) -> bool {
        self.looks.fetch_sub(1, Ordering::SeqCst) > 0
    }
}

#[test]
fn a_session_writes_nothing_beside_clients_while_the_engine_is_behind() {
    let engine = Arc::new(Busy { engine: Memory::new(), looks: AtomicI64::new(7) });
    let options = Options { gives_way: true, micros: Arc::new(|| 0), ..clocked(NOW).1 };
    let store = Store::found_over(engine.clone(), definition(), key(), &options).expect("a store");
    apply(&store, 0);
    assert_eq!(engine.looks.load(Ordering::SeqCst), 7, "nobody else writes");
    store.put(b"client", b"writes").expect("put");
    assert_eq!(engine.looks.load(Ordering::SeqCst), 7, "a client waits for nothing");
    apply(&store, BATCH);
    // Until it has caught up, then once before each piece; a first record came by itself.
    let pieces = i64::try_from(BATCH.div_ceil(64)).expect("few");
    assert_eq!(engine.looks.load(Ordering::SeqCst), -(1 + pieces));
    assert_sound(&store, "behind");
}

#[test]
fn clients_and_sessions_of_many_threads_lose_nothing() {
    let store = memory(&Options { gives_way: true, ..clocked(NOW).1 });
    std::thread::scope(|scope| {
        for client in 0..3u64 {
            let store = &store;
            scope.spawn(move || {
                for nth in 0..60u64 {
                    store.put(format!("client {client} {nth}").as_bytes(), &nth.to_be_bytes()).expect("put");
                }
            });
        }
        for session in 1..3u64 {
            let store = &store;
            scope.spawn(move || apply(store, session << 32));
        }
    });
    assert_eq!(store.stats().expect("stats").records, 3 * 60 + 2 * BATCH);
    assert_sound(&store, "beside clients");
}
