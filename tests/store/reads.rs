//! Reads follow the question, not the size of the store; counted by the store itself.

use reknit::core::query::{Ask, Selection};
use reknit::core::{CollectionId, Position, Range};
use reknit::store::{Durability, EngineKind, Op, Reads, Side, Store};

use crate::support::{self, options};

const FIRST: CollectionId = CollectionId(0);

fn filled() -> Store {
    let store = support::memory(&options(EngineKind::Fjall));
    let keys: Vec<u32> = (0..40_000).collect();
    for some in keys.chunks(10_000) {
        let ops = some.iter().map(|key| Op::put(key.to_be_bytes(), "value")).collect();
        store.batch(ops, Durability::Synced).expect("batch");
    }
    store
}

fn during<T>(store: &Store, act: impl FnOnce() -> T) -> (T, Reads) {
    let before = store.stats().expect("stats").reads;
    let done = act();
    let after = store.stats().expect("stats").reads;
    let reads = Reads {
        records: after.records - before.records,
        nodes: after.nodes - before.nodes,
        entries: after.entries - before.entries,
    };
    (done, reads)
}

#[test]
fn a_question_reads_what_it_names() {
    let store = filled();
    let position = |key: u32| store.keys().position("default", &key.to_be_bytes());
    let place = |key: u32| Range::of(position(key), 16);
    let (_, reads) = during(&store, || store.cut());
    assert_eq!(reads, Reads::default(), "a root is at hand");

    let (items, reads) = during(&store, || store.items(FIRST, &[place(5), place(9)]).expect("items"));
    assert_eq!((items.len(), reads), (2, Reads { records: 2, ..Reads::default() }));

    let entries: Vec<(Position, u64)> =
        items.iter().map(|item| (item.position, item.digest.expect("an entry").short())).collect();
    let (page, reads) =
        during(&store, || store.read(FIRST, &Selection::Entries(entries), None, 1 << 20).expect("read"));
    assert_eq!((page.records.len(), reads), (2, Reads { records: 2, ..Reads::default() }));

    let ask = Ask { range: Range::ALL, levels: 2 };
    let (_, reads) = during(&store, || store.view(FIRST, &[ask]).expect("view"));
    assert_eq!(reads, Reads { nodes: 1 + 16 + 256, ..Reads::default() });

    let leaf = Ask { range: Range::of(position(5), 5), levels: 0 };
    let (views, reads) = during(&store, || store.view(FIRST, &[leaf]).expect("view"));
    assert!(reads.entries <= 2 * views[0].summary.count && reads.nodes <= 1 && reads.records == 0, "{reads:?}");
}

/// Where much is named the rows between are passed over, which shows neither in what is found nor, by much, in what is read.
#[test]
fn what_lies_close_is_reached_together_and_is_the_same() {
    let store = filled();
    let mut positions: Vec<Position> =
        (0..40_000u32).map(|key| store.keys().position("default", &key.to_be_bytes())).collect();
    positions.sort_unstable();
    for step in [1, 2, 3, 10, 100] {
        let places: Vec<Range> = positions.iter().step_by(step).map(|position| Range::of(*position, 16)).collect();
        let (items, reads) = during(&store, || store.items(FIRST, &places).expect("items"));
        let one_by_one = places.iter().flat_map(|place| store.items(FIRST, &[*place]).expect("items"));
        assert!(items.iter().eq(one_by_one.collect::<Vec<_>>().iter()), "each {step}th");
        assert!(reads.records < 2 * places.len() as u64, "each {step}th: {reads:?} of {}", places.len());
        let entries: Vec<(Position, u64)> =
            items.iter().map(|item| (item.position, item.digest.expect("an entry").short())).collect();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.read(FIRST, &Selection::Entries(entries.clone()), after, 50_000).expect("read");
            found.extend(page.records.into_iter().map(|record| record.key));
            assert_eq!(page.moved, 0);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(found.iter().eq(items.iter().map(|item| &item.key)), "each {step}th");
    }
}

#[test]
fn a_write_reads_nothing_that_the_last_one_left_at_hand() {
    let store = filled();
    let (_, reads) = during(&store, || store.put(b"new", b"v").expect("put"));
    assert_eq!(reads, Reads::default());
    let (_, reads) = during(&store, || store.put(&5_u32.to_be_bytes(), b"other").expect("put"));
    assert_eq!(reads, Reads { records: 1, ..Reads::default() });
}
