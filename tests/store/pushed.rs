//! Runs of what peers push: one of each peer goes on, they keep within a share of the journal, and repairs never wait for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use reknit::core::CollectionId;
use reknit::core::journal::{Run, RunId, RunKind};
use reknit::core::query::{Guard, Incoming};
use reknit::store::engine::{Engine, Memory};
use reknit::store::{Durability, JournalLimits, Store, StoreError, Undo, contract};

use super::support::{NOW, assert_sound, clocked, definition, key};

const HOUR: u64 = 60 * 60 * 1000;

fn push(store: &Store, peer: &str, stamp: u64, value: &[u8]) {
    let run = store.pushed_by(peer, store.horizon().stamp).expect("a run");
    let record = contract::record(b"pushed", stamp, 77, Some(value));
    let batch = vec![Incoming { record, guard: Guard::Join }];
    assert_eq!(run.apply(CollectionId(0), batch, Durability::Buffered).expect("applied").applied, 1);
}

fn pushed(store: &Store) -> Vec<(RunId, Run)> {
    store.runs().into_iter().filter(|(_, run)| run.header.kind == RunKind::Pushed).collect()
}

#[test]
fn one_run_of_each_peer_goes_on_for_an_hour_also_when_the_store_is_opened_again() {
    let (now, options) = clocked(NOW);
    let engine: Arc<dyn Engine> = Arc::new(Memory::default());
    let store = Store::found_over(Arc::clone(&engine), definition(), key(), &options).expect("made");
    (1..20).for_each(|nth| push(&store, ["p", "q"][nth as usize % 2], nth, b"value"));
    let of = |store: &Store| pushed(store).iter().map(|(_, run)| run.header.peer.clone()).collect::<Vec<_>>();
    assert_eq!(of(&store), ["q", "p"]);
    drop(store);
    let store = Store::over(Arc::clone(&engine), &options).expect("opened");
    push(&store, "p", 20, b"value");
    assert_eq!(of(&store), ["q", "p"]);
    now.fetch_add(HOUR, Ordering::SeqCst);
    push(&store, "p", 21, b"value");
    assert_eq!(of(&store), ["q", "p", "p"]);
    let runs = pushed(&store);
    assert_eq!(runs.iter().map(|(_, run)| run.end.is_some()).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(runs.iter().map(|(_, run)| run.entries).collect::<Vec<_>>(), [10, 10, 1]);
    assert_sound(&store, "pushed");
}

#[test]
fn pushes_have_a_share_of_the_journal_of_their_own_and_the_newest_can_be_undone() {
    let (_, options) = clocked(NOW);
    let store = super::support::memory(&options);
    let bytes = 64 << 10;
    store.set_journal_limits(JournalLimits { bytes, age: HOUR }).expect("set");
    let value = |nth: u64| [nth as u8; 300];
    (1..=200).for_each(|nth| push(&store, "p", nth, &value(nth)));
    assert_eq!(store.journal_bytes(), 0, "repairs have all of theirs");
    let runs = pushed(&store);
    let kept: u64 = runs.iter().map(|(_, run)| run.bytes).sum();
    // A run ends once it has its part, so that one more is there at most.
    assert!(kept <= bytes / 4 + 2048 && kept >= bytes / 8, "{kept} bytes");
    assert!(runs.len() > 4, "{} runs", runs.len());
    let (newest, run) = runs.last().expect("one");
    let before = 200 - run.entries;
    store.undo(*newest, Undo::Here, &mut |_| (), &mut |_| ()).expect("undone");
    assert_eq!(store.get(b"pushed").expect("read"), Some(value(before).to_vec()));
    let refused = store.pushed_by("p", store.horizon().stamp).err();
    assert!(matches!(refused, Some(StoreError::Paused { .. })), "{refused:?}");
    store.resume().expect("resumed");
    push(&store, "p", 201, b"after");
    assert!(pushed(&store).last().is_some_and(|(id, run)| id > newest && run.entries == 1), "an undone run ends");
    assert_sound(&store, "pushed and undone");
}
