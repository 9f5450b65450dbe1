//! Stores for tests: a fixed clock, a fixed key, any engine.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reknit::core::{Collection, DatasetId, DatasetKey, Definition, Profile};
use reknit::store::engine::{self, Batch, Durability, Engine, Memory};
use reknit::store::{EngineKind, Options, Store};

pub(crate) const ENGINES: [EngineKind; 2] = [EngineKind::Fjall, EngineKind::Redb];

/// The time that all stores here have: some day in 2033.
pub(crate) const NOW: u64 = 2_000_000_000_000;

pub(crate) fn options(engine: EngineKind) -> Options {
    Options { engine, clock: Arc::new(|| NOW), block_cache_bytes: 8 << 20, ..Options::default() }
}

/// Options of a store whose clock a test moves, and that clock.
pub(crate) fn clocked(begun: u64) -> (Arc<AtomicU64>, Options) {
    let clock = Arc::new(AtomicU64::new(begun));
    let read = Arc::clone(&clock);
    let told = Arc::new(move || read.load(Ordering::Relaxed));
    (clock, Options { clock: told, ..options(EngineKind::Fjall) })
}

pub(crate) fn definition() -> Definition {
    let mut definition = Definition::simple(DatasetId([7; 16]), "test");
    definition.collections.push(Collection { name: "second".into(), policy: "newest/1".into() });
    definition
}

pub(crate) fn content_definition() -> Definition {
    Definition { profile: Profile::Content, ..definition() }
}

pub(crate) fn key() -> DatasetKey {
    DatasetKey::from_bytes([9; 32])
}

pub(crate) fn create(engine: EngineKind, dir: &Path) -> Store {
    Store::create(dir, definition(), key(), &options(engine)).expect("create")
}

pub(crate) fn memory(options: &Options) -> Store {
    Store::in_memory(definition(), key(), options).expect("create")
}

/// The same rows, but for one that has another value, or is gone.
pub(crate) fn hurt(memory: &Memory, key: &[u8], value: Option<&[u8]>) -> Memory {
    let hurt = Memory::new();
    engine::copy_all(memory, &hurt, &mut |_| ()).expect("a copy");
    let mut batch = Batch::new();
    match value {
        Some(value) => batch.put(key, value),
        None => batch.delete(key),
    }
    hurt.commit(&mut batch, Durability::Synced).expect("hurt");
    hurt
}

/// A value of which one bit is another; where it is empty there is a byte.
pub(crate) fn flipped(value: &[u8], nth: usize) -> Vec<u8> {
    let mut value = value.to_vec();
    match value.len() {
        0 => value.push(1),
        len => value[nth % len] ^= 1 << (nth % 8),
    }
    value
}

pub(crate) fn assert_sound(store: &Store, note: &str) {
    let report = store.verify(&mut |_| ()).expect("verify");
    assert!(report.is_sound(), "{note}: {:#?}", report.wrong);
}
