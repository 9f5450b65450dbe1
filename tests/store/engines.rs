//! Each engine keeps the contract of engines, and tells its faults apart.

use std::path::Path;
use std::sync::Arc;

use reknit::store::engine::{self, Engine, EngineError, EngineKind, Memory, conformance};

const CACHE_BYTES: u64 = 8 << 20;

fn open(kind: EngineKind, dir: &Path) -> Arc<dyn Engine> {
    engine::open(kind, dir, CACHE_BYTES).expect("open")
}

#[test]
fn memory_conforms() {
    for seed in 0..20 {
        let memory = Memory::new();
        conformance::run(&mut || Arc::new(memory.clone()), seed, 100);
    }
}

#[test]
fn fjall_conforms() {
    for seed in 0..3 {
        let dir = tempfile::tempdir().expect("a directory");
        conformance::run(&mut || open(EngineKind::Fjall, dir.path()), seed, 60);
    }
}

#[test]
fn redb_conforms() {
    for seed in 0..3 {
        let dir = tempfile::tempdir().expect("a directory");
        conformance::run(&mut || open(EngineKind::Redb, dir.path()), seed, 60);
    }
}

#[test]
fn an_engine_that_is_open_is_locked() {
    for kind in [EngineKind::Fjall, EngineKind::Redb] {
        let dir = tempfile::tempdir().expect("a directory");
        let held = open(kind, dir.path());
        let second = engine::open(kind, dir.path(), CACHE_BYTES);
        assert!(matches!(second, Err(EngineError::Locked { .. })), "{kind}: {:?}", second.err());
        drop(held);
        open(kind, dir.path());
    }
}
