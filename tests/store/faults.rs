//! Each fault has its own name: a store in use, a marker of another release, damaged files and rows.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use reknit::core::query::{Guard, Incoming};
use reknit::core::{CollectionId, Position, Range};
use reknit::store::contract;
use reknit::store::engine::{Batch, Durability, Engine, EngineError, Memory};
use reknit::store::{EngineKind, Op, Options, Side, Store, StoreError};

use crate::support::{self, ENGINES, assert_sound, options};

fn opened(dir: &Path, engine: EngineKind) -> Result<Store, StoreError> {
    Store::open(dir, &options(engine))
}

#[test]
fn a_store_in_use_is_locked() {
    for engine in ENGINES {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("store");
        let held = support::create(engine, &dir);
        let error = opened(&dir, engine).err().expect("in use");
        assert!(matches!(error, StoreError::Engine(EngineError::Locked { .. })), "{error}");
        assert!(error.to_string().contains("in use"), "{error}");
        drop(held);
        opened(&dir, engine).expect("free again");
    }
}

#[test]
fn a_marker_of_another_release_is_named() {
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path().join("store");
    drop(support::create(EngineKind::Redb, &dir));
    for marker in ["reknit store 2\nengine redb\n", "reknit store 1\nengine other\n", ""] {
        fs::write(dir.join("reknit.store"), marker).expect("written");
        assert!(matches!(opened(&dir, EngineKind::Redb), Err(StoreError::Format { .. })), "{marker:?}");
    }
    fs::remove_file(dir.join("reknit.store")).expect("removed");
    assert!(matches!(opened(&dir, EngineKind::Redb), Err(StoreError::NotAStore { .. })));
}

#[test]
fn rows_that_are_gone_or_garbage_are_named() {
    for engine in ENGINES {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("store");
        let store = support::create(engine, &dir);
        store.put(b"k", b"v").expect("put");
        drop(store);
        let file = match engine {
            EngineKind::Redb => "rows/rows.redb",
            _ => "rows/version",
        };
        fs::write(dir.join(file), b"this is not what was written here").expect("written");
        let error = opened(&dir, engine).err().expect("garbage");
        assert!(matches!(error, StoreError::Engine(EngineError::Corrupt { .. })), "{engine}: {error:?}");
        fs::remove_dir_all(dir.join("rows")).expect("removed");
        let error = opened(&dir, engine).err().expect("gone");
        assert!(matches!(error, StoreError::Engine(EngineError::Missing { .. })), "{engine}: {error:?}");
        fs::create_dir(dir.join("rows")).expect("made");
        let error = opened(&dir, engine).err().expect("empty");
        assert!(matches!(error, StoreError::Damaged { .. }), "{engine}: {error:?}");
    }
}

/// Whatever single row is removed, or has a bit flipped, `verify` says so or the store refuses to open or to read.
#[test]
fn verify_notices_every_row_that_is_missing_or_changed() {
    let memory = Memory::new();
    {
        let mut definition = support::definition();
        definition.collections[1].policy = "keep-both/1".into();
        let made = Store::in_memory(definition, support::key(), &options(EngineKind::Fjall)).expect("create");
        for (key, stamp) in [("one", 5), ("one", 6), ("two", 7), ("two", 8)] {
            let record = contract::record(key.as_bytes(), stamp, stamp, Some(b"value"));
            let batch = vec![Incoming { record, guard: Guard::Join }];
            made.apply(CollectionId(1), batch, Durability::Buffered).expect("apply");
        }
        for nth in 0..120_u16 {
            made.put(&nth.to_be_bytes(), b"value").expect("put");
        }
        made.delete(&7_u16.to_be_bytes()).expect("delete");
        made.copy_rows(&memory).expect("a copy");
    }
    let rows: Vec<(Vec<u8>, Vec<u8>)> = {
        let snapshot = memory.snapshot().expect("snapshot");
        snapshot.scan(&[], &[0xff; 16]).expect("scan").collect::<Result<_, _>>().expect("rows")
    };
    assert!(rows.len() > 380, "records, entries, nodes and index: {}", rows.len());
    for (nth, (key, value)) in rows.iter().enumerate() {
        // Facts about the store itself are free to differ: a life, a clock, a key are what they are.
        if key[0] == 0 {
            continue;
        }
        let options = options(EngineKind::Fjall);
        assert!(!is_sound(&memory, &options, key, None), "row {key:02x?} removed and not noticed");
        let flipped = support::flipped(value, nth);
        assert!(!is_sound(&memory, &options, key, Some(&flipped)), "row {key:02x?} flipped and not noticed");
    }
}

/// Whether nothing is noticed of a row that was changed or removed.
fn is_sound(memory: &Memory, options: &Options, key: &[u8], value: Option<&[u8]>) -> bool {
    let hurt = support::hurt(memory, key, value);
    let report = Store::over(Arc::new(hurt), options).and_then(|store| store.verify(&mut |_| ()));
    report.is_ok_and(|report| report.is_sound())
}

/// A store that keeps cells at every depth, a root of several rows, parts that are folded and parts that are not, and
/// tails over both.
fn sketched() -> (Memory, Options) {
    let options = Options { position_bits: Some(1), fold_at: 5_000, ..options(EngineKind::Fjall) };
    let memory = Memory::new();
    let made = Store::in_memory(support::content_definition(), support::key(), &options).expect("create");
    let second = made.collection("second").expect("second");
    for (first, last) in [(0_u32, 4_200), (4_200, 8_400), (8_380, 8_420)] {
        let ops =
            |some: std::ops::Range<u32>| some.map(|key| Op::put(key.to_be_bytes(), first.to_be_bytes())).collect();
        made.batch(ops(first..last), Durability::Synced).expect("batch");
        second.batch(ops(first..first + 20), Durability::Synced).expect("batch");
    }
    // One half has a longer tail.
    let half = |key: &u32| made.keys().position("default", &key.to_be_bytes()).0 >> 63 == 1;
    for wave in 0..2_u8 {
        let ops = (0..8_400).filter(half).map(|key: u32| Op::put(key.to_be_bytes(), [wave])).collect();
        made.batch(ops, Durability::Synced).expect("batch");
    }
    made.put(b"more", b"x").expect("put");
    assert_sound(&made, "unhurt");
    made.copy_rows(&memory).expect("a copy");
    (memory, options)
}

const CELLS: u8 = 7;
const TAIL: u8 = 8;

#[test]
fn verify_notices_every_row_of_a_sketch_that_is_missing_or_changed() {
    let (memory, options) = sketched();
    let snapshot = memory.snapshot().expect("snapshot");
    let rows = |tag: u8| -> Vec<(Vec<u8>, Vec<u8>)> {
        snapshot.scan(&[tag], &[tag + 1]).expect("scan").collect::<Result<_, _>>().expect("rows")
    };
    let (cells, tails) = (rows(CELLS), rows(TAIL));
    for depth in 0..=3 {
        assert!(cells.iter().any(|(key, _)| key[3] == depth), "no cells at depth {depth}");
    }
    assert!(cells.iter().any(|(key, _)| key[12..] != [0, 0]), "no sketch of several rows");
    assert!(tails.len() > 4, "{} rows of tails", tails.len());
    for (nth, (key, value)) in cells.iter().chain(&tails).enumerate() {
        assert!(!is_sound(&memory, &options, key, None), "row {key:02x?} removed and not noticed");
        for place in [0, 1, 3, 5, value.len() - 1] {
            let mut flipped = value.clone();
            flipped[place] ^= 1 << (nth % 8);
            let note = format!("row {key:02x?} flipped at {place} and not noticed");
            assert!(!is_sound(&memory, &options, key, Some(&flipped)), "{note}");
        }
        assert!(!is_sound(&memory, &options, key, Some(&value[..value.len() - 1])), "row {key:02x?} cut");
        // The same row where it belongs nowhere: another collection, range, place or commit.
        for place in [2, 3, 4, key.len() - 1] {
            let mut moved = key.clone();
            moved[place] ^= 1;
            if snapshot.get(&moved).expect("get").is_none() {
                assert!(!is_sound(&memory, &options, &moved, Some(value)), "row {moved:02x?} added and not noticed");
            }
        }
    }
}

#[test]
fn verify_says_which_sketch_is_wrong_and_a_question_meets_damage_by_name() {
    let (memory, options) = sketched();
    let rows: Vec<(Vec<u8>, Vec<u8>)> = {
        let snapshot = memory.snapshot().expect("snapshot");
        snapshot.scan(&[CELLS], &[CELLS + 1]).expect("scan").collect::<Result<_, _>>().expect("rows")
    };
    for depth in 1..=3 {
        let (key, value) = rows.iter().find(|(key, _)| key[3] == depth).expect("cells of this depth");
        let range = Range::of(Position(u64::from_be_bytes(key[4..12].try_into().expect("eight"))), depth);
        let opened =
            |value: &[u8]| Store::over(Arc::new(support::hurt(&memory, key, Some(value))), &options).expect("open");
        let mut wrong = value.clone();
        *wrong.last_mut().expect("a byte") ^= 1;
        let should = format!("the cells of range {range} are not those of its entries (collection \"default\")");
        let report = opened(&wrong).verify(&mut |_| ()).expect("verify");
        assert_eq!((report.wrong, report.wrong_count), (vec![should], 1));
        let torn = opened(&value[..value.len() - 1]);
        let error = torn.sketches(CollectionId(0), &[range], 9).expect_err("torn");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("reknit verify"), "{error}");
    }
}

#[test]
fn writes_are_refused_where_damage_keeps_a_tail_from_being_folded() {
    let (memory, options) = sketched();
    let options = Options { fold_at: 40, ..options };
    let (key, value) = {
        let snapshot = memory.snapshot().expect("snapshot");
        let rows = snapshot.scan(&[CELLS], &[CELLS + 1]).expect("scan").map(|row| row.expect("a row"));
        rows.into_iter().find(|(key, _)| key[3] == 1).expect("cells of a part")
    };
    let torn = support::hurt(&memory, &key, Some(&value[..value.len() - 1]));
    let store = Store::over(Arc::new(torn), &options).expect("open");
    let refused = (0..1_000_u32).find_map(|nth| store.put(&nth.to_be_bytes(), b"again").err());
    let error = refused.expect("a tail that cannot be folded does not grow without end");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("reknit verify"), "{error}");
}

#[test]
fn verify_says_where_and_what() {
    let memory = Memory::new();
    let made = support::memory(&options(EngineKind::Fjall));
    made.put(b"bern", b"Bern").expect("put");
    made.copy_rows(&memory).expect("a copy");
    let entry = {
        let snapshot = memory.snapshot().expect("snapshot");
        let mut entries = snapshot.scan(&[2], &[3]).expect("scan");
        entries.next().expect("an entry").expect("a row").0
    };
    let mut batch = Batch::new();
    batch.put(&entry, &[7; 32]);
    memory.commit(&mut batch, Durability::Synced).expect("hurt");
    let store = Store::over(Arc::new(memory), &options(EngineKind::Fjall)).expect("open");
    let report = store.verify(&mut |_| ()).expect("verify");
    let position = made.keys().position("default", b"bern");
    let should =
        format!("the entries at position {:016x} are not those of its records (collection \"default\")", position.0);
    assert_eq!((report.wrong, report.wrong_count), (vec![should], 1));
    // What the tree does not hold cannot be replaced in it: the write is refused rather than guessed.
    let refused = store.put(b"bern", b"Berne").expect_err("refused");
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
}
