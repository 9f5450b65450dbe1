//! Backups of open stores, and stores made from them.

use reknit::store::{EngineError, EngineKind, Side, Store, StoreError};

use crate::support::{self, ENGINES, assert_sound, options};

#[test]
fn a_backup_is_the_store_as_it_was_and_a_restored_one_has_a_life_of_its_own() {
    for (engine, other) in [(EngineKind::Fjall, EngineKind::Redb), (EngineKind::Redb, EngineKind::Fjall)] {
        let home = tempfile::tempdir().expect("a directory");
        let (dir, backup, again) = (home.path().join("store"), home.path().join("backup"), home.path().join("again"));
        let store = support::create(engine, &dir);
        for nth in 0..500_u16 {
            store.put(&nth.to_be_bytes(), b"before").expect("put");
        }
        store.collection("second").expect("second").set_layout(Some(b"l".to_vec())).expect("layout");
        let then = store.cut();
        // The copy may lie in another engine.
        store.backup(&backup, &options(other), &mut |_| ()).expect("backup");
        store.put(b"later", b"x").expect("put");
        let restored = Store::restore(&backup, &again, &options(engine), &mut |_| ()).expect("restore");
        assert_eq!(restored.cut(), then);
        assert_ne!(restored.actor(), store.actor());
        assert_eq!(restored.describe().definition.hash(), store.describe().definition.hash());
        assert_eq!(restored.collection("second").expect("second").layout().expect("layout"), Some(b"l".to_vec()));
        assert_sound(&restored, engine.name());
        restored.put(b"own", b"x").expect("put");
        let taken = store.backup(&backup, &options(engine), &mut |_| ());
        assert!(matches!(taken, Err(StoreError::Exists { .. })), "a backup is never written over");
    }
}

#[test]
fn a_store_is_made_once_and_opened_where_it_is() {
    for engine in ENGINES {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("a/b/store");
        assert!(matches!(Store::open(&dir, &options(engine)), Err(StoreError::NotAStore { .. })));
        drop(support::create(engine, &dir));
        let twice = Store::create(&dir, support::definition(), support::key(), &options(engine));
        assert!(matches!(twice, Err(StoreError::Exists { .. })));
        // Of one that was cut off as it was made, nobody was told: it is made anew, unless somebody is about to.
        let making = dir.join("reknit.making");
        std::fs::write(&making, "").expect("written");
        let held = std::fs::File::open(&dir).expect("opened");
        assert!(matches!(Store::open(&dir, &options(engine)), Err(StoreError::NotAStore { .. })));
        let make = || Store::create(&dir, support::definition(), support::key(), &options(engine));
        held.lock().expect("nobody has it");
        assert!(matches!(make(), Err(StoreError::Engine(EngineError::Locked { .. }))));
        drop(held);
        std::fs::write(dir.join("notes"), "somebody's").expect("written");
        assert!(matches!(make(), Err(StoreError::Exists { .. })));
        std::fs::remove_file(dir.join("notes")).expect("removed");
        make().expect("made anew");
        assert!(!making.exists() && Store::is_in(&dir).expect("looked at"));
        assert!(matches!(make(), Err(StoreError::Exists { .. })), "one that was made is nobody's to make");
        // The engine of a store that exists is its own, whatever the options say.
        for kind in ENGINES {
            assert_eq!(Store::open(&dir, &options(kind)).expect("open").definition().name, "test");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&dir).expect("the directory").permissions().mode();
            assert_eq!(mode & 0o077, 0, "it holds the dataset's secret");
        }
    }
}
