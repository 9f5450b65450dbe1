//! Each fault has its own name: a store in use, a marker of another release, damaged files and rows.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use reknit::store::engine::{self, Batch, Durability, Engine, EngineError, Memory};
use reknit::store::{EngineKind, Store, StoreError};

use crate::support::{self, ENGINES, options};

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
        let made = support::memory(&options(EngineKind::Fjall));
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
        for flip in [false, true] {
            let hurt = Memory::new();
            engine::copy_all(&memory, &hurt, &mut |_| ()).expect("a copy");
            let mut batch = Batch::new();
            if flip {
                let mut value = value.clone();
                match value.len() {
                    0 => value.push(1),
                    len => value[nth % len] ^= 1 << (nth % 8),
                }
                batch.put(key, &value);
            } else {
                batch.delete(key);
            }
            hurt.commit(&mut batch, Durability::Synced).expect("hurt");
            let found = Store::over(Arc::new(hurt), &options(EngineKind::Fjall))
                .and_then(|store| store.verify(&mut |_| ()))
                .map(|report| report.is_sound());
            assert!(!matches!(found, Ok(true)), "row {key:02x?} hurt (flipped: {flip}) and not noticed");
        }
    }
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
