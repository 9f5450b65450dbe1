//! Keys and values at their bounds and of every odd kind, collections, expiry, and the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reknit::core::bounds::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use reknit::core::{CollectionId, Range, Stamp};
use reknit::store::{Durability, EngineKind, Op, Options, Side, Store, StoreError};

use crate::support::{self, ENGINES, NOW, assert_sound, options};

#[test]
fn odd_keys_and_values_come_back_byte_by_byte() {
    let mut odd: Vec<Vec<u8>> = vec![vec![], vec![0], vec![0, 0], vec![0xff], vec![0xff; 40], b"a\0b".to_vec()];
    odd.extend([64_999, 65_000, 65_001, KEY_BYTES_MAX - 1, KEY_BYTES_MAX].map(|len| vec![0xff; len]));
    odd.sort();
    for engine in ENGINES {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("store");
        let store = support::create(engine, &dir);
        for (nth, key) in odd.iter().enumerate() {
            store.put(key, &vec![0; nth]).expect("put");
        }
        drop(store);
        let store = Store::open(&dir, &options(engine)).expect("open");
        let found: Vec<(Vec<u8>, Vec<u8>)> = store.scan(b"").expect("scan").collect::<Result<_, _>>().expect("rows");
        let should: Vec<(Vec<u8>, Vec<u8>)> =
            odd.iter().enumerate().map(|(nth, key)| (key.clone(), vec![0; nth])).collect();
        assert!(found == should, "{engine}");
        for (nth, key) in odd.iter().enumerate() {
            assert_eq!(store.get(key).expect("get"), Some(vec![0; nth]), "{engine}: {} bytes", key.len());
        }
        assert_sound(&store, engine.name());
    }
}

/// Long keys of one beginning lie in the order of a hash; a listing still has them in the order of keys.
#[test]
fn long_keys_of_one_beginning_are_listed_in_order() {
    let store = support::memory(&options(EngineKind::Fjall));
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for nth in 0..40_u8 {
        let mut key = vec![7; 65_100];
        key[65_050] = nth;
        keys.push(key);
    }
    keys.push(vec![7; 10]);
    keys.push(vec![8]);
    keys.sort();
    for key in &keys {
        store.put(key, b"x").expect("put");
    }
    let found: Vec<Vec<u8>> = store.scan(b"").expect("scan").map(|row| row.expect("row").0).collect();
    assert!(found == keys);
    let prefix = &keys[20][..65_051];
    let under: Vec<Vec<u8>> = store.scan(prefix).expect("scan").map(|row| row.expect("row").0).collect();
    let should: Vec<Vec<u8>> = keys.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
    assert!(under == should && should.len() == 1);
}

#[test]
fn what_is_too_long_is_named_with_its_bound() {
    let store = support::memory(&options(EngineKind::Fjall));
    let before = store.cut();
    let long_key = vec![1; KEY_BYTES_MAX + 1];
    assert!(matches!(store.put(&long_key, b""), Err(StoreError::KeyTooLong { bytes: 65_537, limit: 65_536 })));
    assert!(matches!(store.delete(&long_key), Err(StoreError::KeyTooLong { .. })));
    let long_value = vec![0; VALUE_BYTES_MAX + 1];
    let refused = store.batch(vec![Op::put("a", "b"), Op::put("k", long_value)], Durability::Synced);
    let error = refused.expect_err("too long");
    assert!(matches!(error, StoreError::ValueTooLong { limit: VALUE_BYTES_MAX, .. }));
    assert!(error.to_string().contains("\"k\"") && error.to_string().contains("67108864"), "{error}");
    assert_eq!(store.cut(), before, "nothing of the batch is there");
}

#[test]
fn the_largest_value_is_stored() {
    for engine in ENGINES {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("store");
        let value: Vec<u8> = (0..VALUE_BYTES_MAX).map(|i| (i >> 8).to_le_bytes()[0]).collect();
        support::create(engine, &dir).put(b"large", &value).expect("put");
        let store = Store::open(&dir, &options(engine)).expect("open");
        assert!(store.get(b"large").expect("get") == Some(value), "{engine}");
    }
}

#[test]
fn collections_are_apart() {
    let store = support::memory(&options(EngineKind::Fjall));
    let (first, second) = (store.first(), store.collection("second").expect("second"));
    assert_eq!((first.name(), second.id()), ("default", CollectionId(1)));
    let empty = store.root();
    first.put(b"k", b"1").expect("put");
    let one = store.cut();
    second.put(b"k", b"2").expect("put");
    let two = store.cut();
    assert_eq!((first.get(b"k"), second.get(b"k")).0.expect("get"), Some(b"1".to_vec()));
    assert_eq!(second.get(b"k").expect("get"), Some(b"2".to_vec()));
    assert!(one.roots[0] == two.roots[0] && one.roots[1] != two.roots[1] && store.root() != empty);
    let missing = store.collection("third").err().expect("there is none");
    assert!(missing.to_string().contains("default, second"), "{missing}");
    second.set_layout(Some(b"columns".to_vec())).expect("layout");
    assert_eq!((first.layout().expect("layout"), second.layout().expect("layout")), (None, Some(b"columns".to_vec())));
    assert_eq!(store.cut().roots, two.roots);
    assert_sound(&store, "two collections");
}

#[test]
fn what_expires_is_hidden_and_stays_a_record() {
    let now = Arc::new(AtomicU64::new(NOW));
    let told = Arc::clone(&now);
    let clock = Arc::new(move || told.load(Ordering::Relaxed));
    let store = support::memory(&Options { clock, ..options(EngineKind::Fjall) });
    let put = Op::Put { key: b"k".to_vec(), value: b"v".to_vec(), expires: Some(NOW + 10) };
    store.batch(vec![put, Op::put("stays", "v")], Durability::Synced).expect("batch");
    let root = store.root();
    assert_eq!(store.get(b"k").expect("get"), Some(b"v".to_vec()));
    now.store(NOW + 10, Ordering::Relaxed);
    assert_eq!(store.get(b"k").expect("get"), None);
    assert_eq!(store.scan(b"").expect("scan").count(), 1);
    assert_eq!((store.root(), store.stats().expect("stats").records), (root, 2));
    assert_sound(&store, "expired");
}

#[test]
fn stamps_rise_across_an_opening_and_a_clock_that_falls_back() {
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path().join("store");
    let stamp = |store: &Store| {
        let position = store.keys().position("default", b"k");
        store.items(CollectionId(0), &[Range::of(position, 16)]).expect("items")[0].versions[0].version.stamp
    };
    let store = support::create(EngineKind::Redb, &dir);
    store.put(b"k", b"1").expect("put");
    let first = stamp(&store);
    let (actor, nonce) = (store.actor(), store.describe().nonce);
    assert_eq!(first, Stamp::at(NOW));
    drop(store);
    let earlier = Options { clock: Arc::new(|| NOW - 86_400_000), ..options(EngineKind::Redb) };
    let store = Store::open(&dir, &earlier).expect("open");
    store.put(b"k", b"2").expect("put");
    assert!(stamp(&store) > first);
    assert_eq!(store.actor(), actor, "the same life");
    assert_ne!(store.describe().nonce, nonce, "another opening");
}

#[test]
fn a_delete_of_nothing_writes_nothing() {
    let store = support::memory(&options(EngineKind::Fjall));
    let before = store.cut();
    assert!(!store.delete(b"k").expect("delete"));
    assert_eq!(store.cut(), before);
    store.put(b"k", b"v").expect("put");
    assert!(store.delete(b"k").expect("delete"));
    assert!(!store.delete(b"k").expect("delete"));
    let stats = store.stats().expect("stats");
    assert_eq!((stats.records, stats.tombstones, stats.commit), (0, 1, 2));
}

#[test]
fn many_threads_are_committed_together_and_none_is_lost() {
    for engine in ENGINES {
        let home = tempfile::tempdir().expect("a directory");
        let store = support::create(engine, &home.path().join("store"));
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                let store = store.clone();
                scope.spawn(move || {
                    for nth in 0..25_u8 {
                        store.put(&[thread, nth], &[nth]).expect("put");
                        assert_eq!(store.get(&[thread, nth]).expect("get"), Some(vec![nth]));
                    }
                });
            }
        });
        let stats = store.stats().expect("stats");
        assert_eq!(stats.records, 200);
        assert!(stats.commit <= 200, "{engine}");
        assert_sound(&store, engine.name());
    }
}

#[test]
fn a_dataset_without_an_index_by_key_is_listed_by_position_only() {
    let mut definition = support::definition();
    definition.key_index = false;
    let store = Store::in_memory(definition, support::key(), &options(EngineKind::Fjall)).expect("create");
    for nth in 0..3_000_u16 {
        store.batch(vec![Op::put(nth.to_be_bytes(), "v")], Durability::Buffered).expect("put");
    }
    assert!(matches!(store.scan(b"").err(), Some(StoreError::NoKeyIndex)));
    let rows: Vec<_> = store.first().scan_positions().collect::<Result<_, _>>().expect("rows");
    assert_eq!(rows.len(), 3_000);
    assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_sound(&store, "no index");
}
