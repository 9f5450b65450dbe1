//! Imports: sorted in memory and on disk, all checked before anything is written.

use std::convert::Infallible;

use reknit::store::{EngineKind, ImportError, Store, StoreError};

use crate::support::{self, ENGINES, assert_sound, options};

type Row = Result<(Vec<u8>, Vec<u8>), String>;

fn row(nth: u64, bytes: usize) -> Row {
    Ok((format!("key {nth}").into_bytes(), vec![nth.to_le_bytes()[0]; bytes]))
}

#[test]
fn an_import_is_what_puts_would_have_made() {
    for engine in ENGINES {
        let home = tempfile::tempdir().expect("a directory");
        let store = support::create(engine, &home.path().join("store"));
        store.put(b"key 3", b"before").expect("put");
        let mut heard = Vec::new();
        let done = store.first().import((0..25_000).map(|nth| row(nth, 10)), &mut |progress| heard.push(progress));
        assert_eq!(done.expect("import").records, 25_000);
        assert_eq!(heard.last().map(|last| (last.read, last.written)), Some((25_000, 25_000)));
        assert_eq!(store.get(b"key 3").expect("get"), Some(vec![3; 10]));
        assert_eq!(store.stats().expect("stats").records, 25_000);
        assert_sound(&store, engine.name());
    }
}

/// Rows of 80 MB do not fit the memory for sorting, so runs on disk are merged; none of them stays.
#[test]
fn what_does_not_fit_in_memory_is_sorted_on_disk() {
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path().join("store");
    let store = support::create(EngineKind::Redb, &dir);
    let rows = || (0..2_000).map(|nth| row(nth * 7_919 % 2_000, 40_000));
    assert_eq!(store.first().import(rows(), &mut |_| ()).expect("import").records, 2_000);
    assert_eq!(store.scan(b"").expect("scan").count(), 2_000);
    assert_sound(&store, "sorted on disk");
    let before = store.cut();
    let twice = store.first().import(rows().chain([row(1_234, 1)]), &mut |_| ());
    let Err(ImportError::Store(StoreError::Duplicate { key, second: 2_001, .. })) = twice else {
        panic!("a key that comes twice: {twice:?}");
    };
    assert_eq!(key, "\"key 1234\"");
    assert_eq!(store.cut(), before);
    assert!(std::fs::read_dir(dir.join("tmp")).expect("the directory").next().is_none(), "a run stayed");
}

#[test]
fn an_import_that_cannot_succeed_changes_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let store = support::create(EngineKind::Redb, &home.path().join("store"));
    let before = store.cut();
    let broken = store.first().import([row(1, 1), Err("line 2: no key".into())], &mut |_| ());
    assert!(matches!(broken, Err(ImportError::Source(what)) if what == "line 2: no key"));
    let twice = store.first().import([row(1, 1), row(2, 1), row(1, 2)], &mut |_| ());
    let twice = twice.expect_err("a key twice").to_string();
    assert!(twice.contains("rows 1 and 3") && twice.contains("key 1"), "{twice}");
    let long = store.first().import([Ok::<_, Infallible>((vec![0; 65_537], vec![]))], &mut |_| ());
    assert!(matches!(long, Err(ImportError::Store(StoreError::KeyTooLong { .. }))));
    assert_eq!(store.cut(), before);
}

#[test]
fn what_an_interrupted_import_left_is_removed_at_the_next_opening() {
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path().join("store");
    drop(support::create(EngineKind::Redb, &dir));
    std::fs::create_dir_all(dir.join("tmp/import-0")).expect("a directory");
    std::fs::write(dir.join("tmp/import-0/run-0"), b"half").expect("a file");
    drop(Store::open(&dir, &options(EngineKind::Redb)).expect("open"));
    assert!(!dir.join("tmp").exists());
}
