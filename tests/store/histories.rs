//! Random histories of local writes and joins: what is read is what was written, and the tree that was changed step by
//! step is the one that a rebuild makes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use reknit::core::CollectionId;
use reknit::core::query::{Guard, Incoming};
use reknit::store::contract::record;
use reknit::store::engine::conformance::Draw;
use reknit::store::{Durability, EngineKind, Op, Options, Side, Store};

use crate::support::{self, ENGINES, assert_sound, options};

#[derive(Clone, Debug)]
enum Step {
    Put(u16, u8),
    Delete(u16),
    Join(u16, u32, Option<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop_oneof![
        4 => (0u16..200, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        2 => (0u16..200).prop_map(Step::Delete),
        2 => (0u16..200, any::<u32>(), proptest::option::of(any::<u8>())).prop_map(|(k, s, v)| Step::Join(k, s, v)),
    ];
    proptest::collection::vec(proptest::collection::vec(step, 0..90), 1..10)
}

/// Runs a history through a store, reopening it after each batch with `reopen`, and through a map.
fn check(mut store: Store, history: &[Vec<Step>], reopen: &mut dyn FnMut(Store) -> Store) {
    let mut model: BTreeMap<Vec<u8>, u8> = BTreeMap::new();
    for (nth, batch) in history.iter().enumerate() {
        let (mut ops, mut joins) = (Vec::new(), Vec::new());
        for step in batch {
            match step {
                Step::Put(key, value) => ops.push(Op::put(key.to_be_bytes(), [*value])),
                Step::Delete(key) => ops.push(Op::delete(key.to_be_bytes())),
                // Stamps of long ago lose against any local write, and meet others like them.
                Step::Join(key, stamp, value) => {
                    let value = value.map(|value| [value]);
                    let value = value.as_ref().map(<[u8; 1]>::as_slice);
                    let record = record(&key.to_be_bytes(), u64::from(*stamp), 3, value);
                    joins.push(Incoming { record, guard: Guard::Join });
                }
            }
        }
        for step in batch {
            match step {
                Step::Put(key, value) => drop(model.insert(key.to_be_bytes().to_vec(), *value)),
                Step::Delete(key) => drop(model.remove(key.to_be_bytes().as_slice())),
                Step::Join(..) => {}
            }
        }
        store.batch(ops, Durability::Synced).expect("batch");
        let touched: Vec<Vec<u8>> = joins.iter().map(|incoming| incoming.record.key.clone()).collect();
        store.apply(CollectionId(0), joins, Durability::Buffered).expect("apply");
        for key in touched {
            // What a join leaves is the joined state's business; the model follows it.
            match store.get(&key).expect("get") {
                Some(value) => drop(model.insert(key, value[0])),
                None => drop(model.remove(&key)),
            }
        }
        let found: Vec<(Vec<u8>, Vec<u8>)> = store.scan(b"").expect("scan").collect::<Result<_, _>>().expect("row");
        let should: Vec<(Vec<u8>, Vec<u8>)> = model.iter().map(|(key, value)| (key.clone(), vec![*value])).collect();
        assert_eq!(found, should, "batch {nth}");
        assert_eq!(store.stats().expect("stats").records, model.len() as u64);
        assert_sound(&store, &format!("batch {nth}"));
        store = reopen(store);
        assert_sound(&store, &format!("batch {nth}, reopened"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn in_memory(history in steps(), bits in prop_oneof![Just(None), Just(Some(0)), Just(Some(4)), Just(Some(9))], cache in prop_oneof![Just(0usize), Just(9_000), Just(1 << 20)]) {
        let options = Options { position_bits: bits, tree_cache_bytes: cache, ..options(EngineKind::Fjall) };
        check(support::memory(&options), &history, &mut |store| store);
    }

    #[test]
    fn in_memory_under_the_content_profile(history in steps()) {
        let store = Store::in_memory(support::content_definition(), support::key(), &options(EngineKind::Fjall));
        check(store.expect("create"), &history, &mut |store| store);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn on_disk(history in steps()) {
        for engine in ENGINES {
            let home = tempfile::tempdir().expect("a directory");
            let dir = home.path().join("store");
            check(support::create(engine, &dir), &history, &mut |store| {
                drop(store);
                Store::open(&dir, &options(engine)).expect("open")
            });
        }
    }
}

/// Batches grow a tree over several levels, through caches that hold nothing, a part and all of it.
#[test]
fn a_tree_grows_and_shrinks_through_the_cache() {
    for cache in [0, 200_000, 64 << 20] {
        let options = Options { tree_cache_bytes: cache, ..options(EngineKind::Fjall) };
        let store = support::memory(&options);
        let keys: Vec<[u8; 4]> = (0..6_000_u32).map(u32::to_be_bytes).collect();
        for some in keys.chunks(700) {
            store.batch(some.iter().map(|key| Op::put(*key, *key)).collect(), Durability::Synced).expect("batch");
        }
        assert_sound(&store, "full");
        for some in keys.chunks(900) {
            store.batch(some.iter().map(|key| Op::delete(*key)).collect(), Durability::Synced).expect("batch");
        }
        assert_sound(&store, "deleted");
        assert_eq!(store.stats().expect("stats").tombstones, 6_000);
    }
}

/// A leaf that becomes a part of its parent and comes back later is another one: what a cache held of it is stale.
/// Only under the content profile does a tree shrink, since elsewhere a tombstone is an entry too.
#[test]
fn a_range_that_was_part_of_a_leaf_meanwhile_is_read_anew() {
    let store = Store::in_memory(support::content_definition(), support::key(), &options(EngineKind::Fjall));
    let store = store.expect("create");
    let mut draw = Draw(3);
    for wave in 0..40_u8 {
        let put = |keys: std::ops::Range<u8>, value: u8| keys.map(|key| Op::put([key], [value])).collect();
        store.batch(put(0..70, wave), Durability::Synced).expect("grown");
        // One key at a time, so that the batch that makes the root a leaf touches one of its sixteen parts only.
        for key in 25..70_u8 {
            store.batch(vec![Op::delete([key])], Durability::Synced).expect("shrunk");
        }
        assert_sound(&store, &format!("wave {wave}, shrunk"));
        let some = u8::try_from(draw.below(20)).expect("few");
        store.batch(put(some..some + 5, !wave), Durability::Synced).expect("changed");
        for key in 25..70_u8 {
            if draw.below(2) == 0 {
                store.batch(vec![Op::put([key], [wave])], Durability::Synced).expect("grown again");
            }
        }
        assert_sound(&store, &format!("wave {wave}, grown again"));
    }
}
