//! What a store remembers of others that it met, over an engine that loses what was not synced.

use std::sync::{Arc, Mutex};

use reknit::core::life::Sighting;
use reknit::core::query::{Guard, Incoming, Selection};
use reknit::core::{Actor, CollectionId, Content, Range, Record, Sibling, Stamp, State, Version};
use reknit::store::engine::{Batch, Durability, Engine, EngineError, Memory, Snapshot};
use reknit::store::{EngineKind, Side, Store};

use crate::support::{definition, key, options};

const FIRST: CollectionId = CollectionId(0);

/// Rows as of the last sync, beside those of now.
#[derive(Default)]
struct Forgetful {
    now: Memory,
    synced: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Forgetful {
    /// What the next process finds.
    fn after_a_crash(&self) -> Arc<dyn Engine> {
        let mut batch = Batch::new();
        self.synced.lock().expect("sound").iter().for_each(|(key, value)| batch.put(key, value));
        let found = Memory::new();
        found.commit(&mut batch, Durability::Synced).expect("commit");
        Arc::new(found)
    }
}

impl Engine for Forgetful {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        self.now.snapshot()
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        self.now.commit(batch, durability)?;
        if durability == Durability::Synced { self.sync() } else { Ok(()) }
    }

    fn sync(&self) -> Result<(), EngineError> {
        let rows = self.now.snapshot()?.scan(&[], &[0xff])?.collect::<Result<Vec<_>, _>>()?;
        *self.synced.lock().expect("sound") = rows;
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        Ok(0)
    }
}

#[test]
fn what_a_store_that_was_met_wrote_is_not_given_on_before_the_meeting_is_safe() {
    let engine = Arc::new(Forgetful::default());
    let opened = |engine: Arc<dyn Engine>| Store::over(engine, &options(EngineKind::Fjall)).expect("open");
    drop(Store::found_over(engine.clone(), definition(), key(), &options(EngineKind::Fjall)).expect("create"));
    let store = opened(engine.clone());
    let (actor, met) = (Actor(7), Sighting { nonce: 1, commit: 5 });
    assert_eq!(store.meet(actor, met, None).expect("met"), []);
    let version = Version::after(Stamp(1), actor, []);
    let state = State::single(Sibling { version, content: Content::Live(b"v".to_vec()), expires: None });
    let record = Record { key: b"k".to_vec(), state };
    store.apply(FIRST, vec![Incoming { record, guard: Guard::Join }], Durability::Buffered).expect("applied");
    let given = store.read(FIRST, &Selection::Range(Range::ALL), None, usize::MAX).expect("read");
    assert_eq!(given.records.len(), 1);
    drop(store);
    // Another life of the store that was met: it must still be told from that one.
    let again = opened(engine.after_a_crash());
    let other = Sighting { nonce: 2, commit: 3 };
    assert_eq!(again.meet(actor, other, None).expect("met"), [met]);
}
