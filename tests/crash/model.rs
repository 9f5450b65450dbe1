//! What the writing process does, as a function of a writer and a number, so that the watching process can redo it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use reknit::core::{DatasetId, DatasetKey, Definition};
use reknit::store::engine::conformance::Draw;
use reknit::store::{Durability, EngineKind, Op, Options, Store};

pub(crate) const ENGINES: [EngineKind; 2] = [EngineKind::Fjall, EngineKind::Redb];
/// Threads that write at once, each to keys of its own.
pub(crate) const WRITERS: u64 = 3;

/// Kills of the binary with each engine; a campaign says how many.
pub(crate) fn kills() -> u64 {
    number("REKNIT_KILLS").map_or(150, |kills| kills / 2)
}

/// Crash images of each engine; a campaign says how many.
pub(crate) fn images() -> u64 {
    number("REKNIT_IMAGES").map_or(10_000, |images| images / 2)
}

/// Crash images of what was written down of fjall's calls, beside those; a campaign says how many.
pub(crate) fn recorded() -> u64 {
    number("REKNIT_IMAGES").map_or(400, |images| images / 50)
}

/// Damages to the files of a store of each engine; a campaign says how many.
pub(crate) fn flips() -> u64 {
    number("REKNIT_FLIPS").map_or(500, |flips| flips / 2)
}

/// What all random choices follow from.
pub(crate) fn seed() -> u64 {
    number("REKNIT_SEED").unwrap_or(42)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

pub(crate) fn options(engine: EngineKind) -> Options {
    // Sketches are folded every few commits, so that some kills hit those that fold.
    let clock = Arc::new(|| 2_000_000_000_000);
    Options { engine, clock, block_cache_bytes: 8 << 20, fold_at: 60, ..Options::default() }
}

pub(crate) fn create(engine: EngineKind, dir: &Path) {
    let definition = Definition::simple(DatasetId([7; 16]), "crash");
    Store::create(dir, definition, DatasetKey::from_bytes([9; 32]), &options(engine)).expect("create");
}

/// Every third batch is only buffered; the next synced one makes it durable.
pub(crate) fn durability(nth: u64) -> Durability {
    if nth % 3 == 1 { Durability::Buffered } else { Durability::Synced }
}

/// The `nth` batch of a writer: new keys, overwritten keys, deleted keys; values up to 3,000 bytes.
pub(crate) fn batch(writer: u64, nth: u64) -> Vec<Op> {
    let mut draw = Draw(writer << 32 | nth);
    let mut ops = vec![Op::put(format!("{writer}/last"), nth.to_be_bytes())];
    for i in 0..1 + draw.below(12) {
        let key = match draw.below(3) {
            0 => format!("{writer}/new/{nth}/{i}"),
            _ => format!("{writer}/old/{}", draw.below(60)),
        };
        if draw.below(5) == 0 {
            ops.push(Op::delete(key));
        } else {
            let most = if draw.below(8) == 0 { 3_000 } else { 60 };
            let len = draw.below(most);
            ops.push(Op::put(key, draw.bytes(len)));
        }
    }
    ops
}

pub(crate) type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Lays one batch over what a writer's keys hold.
pub(crate) fn lay(map: &mut Map, writer: u64, nth: u64) {
    for op in batch(writer, nth) {
        match op {
            Op::Put { key, value, .. } => drop(map.insert(key, value)),
            Op::Delete { key } => drop(map.remove(&key)),
            _ => unreachable!("batches put and delete"),
        }
    }
}

/// How many batches of a writer the store holds, having checked that it holds them whole and nothing else.
pub(crate) fn batches_held(store: &Store, writer: u64, note: &str) -> u64 {
    let prefix = format!("{writer}/").into_bytes();
    let found: Map = store.scan(&prefix).expect("scan").collect::<Result<_, _>>().expect("a row");
    let last = found.get([&prefix[..], b"last"].concat().as_slice());
    let held = last.map_or(0, |value| u64::from_be_bytes(value.as_slice().try_into().expect("a number")));
    let mut should = Map::new();
    (1..=held).for_each(|nth| lay(&mut should, writer, nth));
    assert!(found == should, "{note}: writer {writer} left batch {held} torn");
    held
}

pub(crate) fn assert_sound(store: &Store, note: &str) {
    let report = store.verify(&mut |_| ()).expect("verify");
    assert!(report.is_sound(), "{note}: {:#?}", report.wrong);
}
