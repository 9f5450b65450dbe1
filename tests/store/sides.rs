//! The embedded store keeps the contract of sides, whatever its engine.

use std::sync::Arc;

use reknit::store::contract;
use reknit::store::{EngineKind, Options, Side, Store};

use crate::support::{self, ENGINES, options};

#[test]
fn memory_keeps_the_contract() {
    for seed in 0..6 {
        contract::run(&mut || Arc::new(support::memory(&options(EngineKind::Fjall))), seed, 16);
    }
}

#[test]
fn memory_keeps_the_contract_where_positions_collide() {
    for (seed, bits) in [(1, 0), (2, 3), (3, 8)] {
        let options = Options { position_bits: Some(bits), tree_cache_bytes: 20_000, ..options(EngineKind::Fjall) };
        contract::run(&mut || Arc::new(support::memory(&options)), seed, 12);
    }
}

#[test]
fn memory_keeps_the_contract_however_often_sketches_are_folded() {
    for (seed, fold_at) in [(7, 0), (8, 9), (9, 60)] {
        let options = Options { fold_at, ..options(EngineKind::Fjall) };
        contract::run(&mut || Arc::new(support::memory(&options)), seed, 16);
    }
}

#[test]
fn memory_keeps_the_contract_under_the_content_profile() {
    let make = || Store::in_memory(support::content_definition(), support::key(), &options(EngineKind::Fjall));
    contract::run(&mut || Arc::new(make().expect("create")), 5, 16);
}

#[test]
fn memory_keeps_the_contract_where_all_versions_are_kept() {
    for (seed, bits) in [(1, None), (2, Some(3))] {
        let mut definition = support::definition();
        definition.collections[0].policy = "keep-both/1".into();
        let options = Options { position_bits: bits, ..options(EngineKind::Fjall) };
        let make = || Store::in_memory(definition.clone(), support::key(), &options);
        contract::run(&mut || Arc::new(make().expect("create")), seed, 16);
    }
}

#[test]
fn every_engine_keeps_the_contract() {
    for engine in ENGINES {
        let home = tempfile::tempdir().expect("a directory");
        let mut made = 0;
        let mut make = || -> Arc<dyn Side> {
            made += 1;
            Arc::new(support::create(engine, &home.path().join(made.to_string())))
        };
        contract::run(&mut make, 11, 8);
    }
}
