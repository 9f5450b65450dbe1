//! What every [`Side`] must do, as functions that panic where it does not.
//! They use the contract alone, so that one suite serves every store; crashes and commands are tested elsewhere.

use std::sync::Arc;

use reknit_core::bounds::{KEY_BYTES_MAX, LEVELS_MAX};
use reknit_core::query::{Ask, Guard, Incoming, Item, Selection, Shape};
use reknit_core::range::DEPTH_MAX;
use reknit_core::tree::Summary;
use reknit_core::{Actor, CollectionId, Content, Keeps, Position, Range, Record, Sibling, Stamp, State, Version};

use super::{Durability, Side, StoreError};

mod answers;
mod batches;
mod histories;
mod overwriting;

/// Makes an empty side of a dataset, which may be the same each time, whose clock stands between 1,000 s after the epoch and the
/// year 3000, and that may be written. Only a dataset of two collections shows whether they are kept apart.
pub type Make<'a> = &'a mut dyn FnMut() -> Arc<dyn Side>;

/// All checks of a store; `seed` draws a history of `batches` batches of up to 120 records, after each of which every answer is
/// compared with what the records make: 16 of them take about a second in a debug build.
///
/// # Panics
/// Where the store breaks its contract, with the seed, the batch and what it should have answered.
pub fn run(make: Make<'_>, seed: u64, batches: usize) {
    let side = make();
    described(&*side);
    let collections: Vec<CollectionId> = side.describe().definition.data().map(|(id, _)| id).collect();
    collections.iter().for_each(|collection| empty(&*side, *collection));
    refusals(&*side, collections[0]);
    for collection in &collections {
        let before = side.cut().expect("cut").roots;
        match side.describe().definition.keeps(*collection) {
            Keeps::Newest => guards(&*side, *collection),
            Keeps::All => siblings(&*side, *collection),
        }
        overwriting::run(&*side, *collection);
        let mut after = side.cut().expect("cut").roots;
        after[usize::from(collection.0)] = before[usize::from(collection.0)];
        assert_eq!(after, before, "a collection changes alone");
    }
    batches::run(&*make(), collections[collections.len() - 1]);
    histories::run(&*make(), &collections, seed, batches);
}

/// Who a side is stays the same for as long as it is open.
fn described(side: &dyn Side) {
    let (one, two) = (side.describe(), side.describe());
    assert!(one.writable, "a side that is to be checked may be written");
    assert_eq!((one.actor, one.nonce, &one.place), (two.actor, two.nonce, &two.place), "it is one side, opened once");
    assert_eq!((one.definition, one.keys.content(b"?")), (two.definition, two.keys.content(b"?")), "of one dataset");
}

/// Where a key lies.
fn position(side: &dyn Side, collection: CollectionId, key: &[u8]) -> Position {
    let info = side.describe();
    info.keys.position(&info.definition.collections[usize::from(collection.0)].name, key)
}

/// What a side knows of a key.
fn item(side: &dyn Side, collection: CollectionId, key: &[u8]) -> Option<Item> {
    let place = Range::of(position(side, collection, key), DEPTH_MAX);
    side.items(collection, &[place]).expect("items").into_iter().find(|item| item.key == key)
}

/// A record of one version.
#[must_use]
pub fn record(key: &[u8], stamp: u64, actor: u64, value: Option<&[u8]>) -> Record {
    let version = Version::after(Stamp(stamp), Actor(actor), []);
    let content = value.map_or(Content::Tombstone, |value| Content::Live(value.to_vec()));
    Record { key: key.to_vec(), state: State::single(Sibling { version, content, expires: None }) }
}

fn joined(record: Record) -> Incoming {
    Incoming { record, guard: Guard::Join }
}

fn empty(side: &dyn Side, collection: CollectionId) {
    let info = side.describe();
    let cut = side.cut().expect("cut");
    assert_eq!(cut.roots, vec![Summary::EMPTY; info.definition.collections.len()]);
    let views = side.view(collection, &[Ask { range: Range::ALL, levels: 1 }]).expect("view");
    assert_eq!((views.len(), views[0].summary, &views[0].shape), (1, Summary::EMPTY, &Shape::Empty));
    assert_eq!(side.items(collection, &[Range::of(Position(7), DEPTH_MAX)]).expect("items"), vec![]);
    let page = side.read(collection, &Selection::Range(Range::ALL), None, 100).expect("read");
    assert!(page.records.is_empty() && page.next.is_none());
    assert_eq!(side.list(collection, Range::ALL, None, 10).expect("list"), (vec![], None));
    let applied = side.apply(collection, vec![], Durability::Synced).expect("apply");
    assert_eq!((applied.applied, applied.commit), (0, cut.commit), "nothing written is no commit");
}

fn refusals(side: &dyn Side, collection: CollectionId) {
    let nowhere = CollectionId(u16::MAX);
    assert!(matches!(side.items(nowhere, &[]), Err(StoreError::NoCollection { .. })));
    assert!(matches!(side.apply(nowhere, vec![], Durability::Synced), Err(StoreError::NoCollection { .. })));
    assert!(matches!(side.overwrite(nowhere, vec![], Durability::Synced), Err(StoreError::NoCollection { .. })));
    assert!(matches!(side.view(nowhere, &[]), Err(StoreError::NoCollection { .. })));
    assert!(matches!(side.rests(nowhere, &[]), Err(StoreError::NoCollection { .. })));
    assert!(matches!(side.list(nowhere, Range::ALL, None, 1), Err(StoreError::NoCollection { .. })));
    let all = Selection::Range(Range::ALL);
    assert!(matches!(side.read(nowhere, &all, None, 1), Err(StoreError::NoCollection { .. })));
    let deep = Ask { range: Range::ALL, levels: LEVELS_MAX + 1 };
    assert!(matches!(side.view(collection, &[deep]), Err(StoreError::Bound { .. })));
    let before = side.cut().expect("cut");
    let bad = vec![
        joined(record(b"future", u64::MAX, 1, Some(b"x"))),
        joined(record(&vec![1; KEY_BYTES_MAX + 1], 5, 1, Some(b"x"))),
    ];
    let applied = side.apply(collection, bad, Durability::Synced).expect("apply");
    assert_eq!((applied.applied, applied.refused.len()), (0, 2));
    assert_eq!(applied.refused[0].0, b"future", "what was refused is named");
    assert!(applied.refused[0].1.contains("ahead"), "{:?}", applied.refused[0].1);
    assert!(applied.refused[1].1.contains("65536"), "{:?}", applied.refused[1].1);
    assert_eq!(side.cut().expect("cut"), before);
}

fn guards(side: &dyn Side, collection: CollectionId) {
    let info = side.describe();
    let name = &info.definition.collections[usize::from(collection.0)].name;
    let digest = |record: &Record| info.keys.entry(info.definition.profile, name, record);
    let (old, new, other) =
        (record(b"k", 5, 1, Some(b"old")), record(b"k", 9, 2, Some(b"new")), record(b"k", 7, 3, Some(b"other")));
    let guarded = |record: &Record, guard| vec![Incoming { record: record.clone(), guard }];
    let apply = |batch| side.apply(collection, batch, Durability::Synced).expect("apply");
    let fate = |batch| {
        let applied = apply(batch);
        (applied.applied, applied.kept, applied.moved)
    };
    assert_eq!(fate(guarded(&new, Guard::IfShort(digest(&old).map(|d| d.short())))), (0, 0, 1), "nothing is there");
    assert_eq!(fate(guarded(&old, Guard::IfShort(None))), (1, 0, 0));
    assert_eq!(fate(guarded(&other, Guard::IfShort(None))), (0, 0, 1), "something is there now");
    assert_eq!(fate(guarded(&old, Guard::Join)), (0, 1, 0), "it is there already");
    assert_eq!(fate(guarded(&new, Guard::Join)), (1, 0, 0));
    assert_eq!(fate(guarded(&other, Guard::Join)), (0, 1, 0), "what is there is newer");
    assert_eq!(
        fate(guarded(&other, Guard::IfShort(digest(&new).map(|d| d.short())))),
        (1, 0, 0),
        "a guard that holds replaces"
    );
    let two = [guarded(&new, Guard::Join), guarded(&old, Guard::IfShort(digest(&new).map(|d| d.short())))].concat();
    assert_eq!(fate(two), (2, 0, 0), "a batch is decided in order");
    let bare = |record: &Record| {
        let mut bare = record.clone();
        bare.strip(&info.keys);
        guarded(&bare, Guard::Bare)
    };
    let renewed = self::record(b"k", 10, 2, Some(b"old"));
    assert_eq!(fate(bare(&self::record(b"k", 11, 2, Some(b"elsewhere")))), (0, 0, 1), "its content is not here");
    assert_eq!(fate(bare(&renewed)), (1, 0, 0), "its content is here under another version");
    assert_eq!(fate(bare(&self::record(b"n", 10, 2, Some(b"old")))), (0, 0, 1), "of another key");
    let position = info.keys.position(name, b"k");
    let place = Range::of(position, DEPTH_MAX);
    let items = side.items(collection, &[place, place]).expect("items");
    assert_eq!(items.len(), 1);
    assert_eq!((items[0].digest, items[0].commit), (digest(&renewed), side.cut().expect("cut").commit));
    side.sync().expect("sync");
}

/// Versions that have not seen each other stay side by side, until one comes that has seen them.
fn siblings(side: &dyn Side, collection: CollectionId) {
    let apply = |record: &Record, guard| {
        let batch = vec![Incoming { record: record.clone(), guard }];
        let applied = side.apply(collection, batch, Durability::Synced).expect("apply");
        (applied.applied, applied.kept, applied.moved)
    };
    let stamps = || -> Vec<u64> {
        let held = item(side, collection, b"k").map(|item| item.versions).unwrap_or_default();
        held.iter().map(|info| info.version.stamp.0).collect()
    };
    let (one, two) = (record(b"k", 5, 1, Some(b"one")), record(b"k", 9, 2, Some(b"two")));
    assert_eq!(apply(&two, Guard::Join), (1, 0, 0));
    assert_eq!(apply(&one, Guard::Join), (1, 0, 0), "older, and nobody has seen it");
    assert_eq!((apply(&one, Guard::Join), stamps()), ((0, 1, 0), vec![9, 5]));
    let mut after = record(b"k", 6, 3, Some(b"one"));
    let seen = Version::after(Stamp(6), Actor(3), [&two.state.winner().version]);
    after.state = State::single(Sibling { version: seen, ..after.state.winner().clone() });
    after.strip(&side.describe().keys);
    assert_eq!(apply(&after, Guard::Bare), (1, 0, 0), "what it brings is the content of another");
    assert_eq!(stamps(), [6, 5], "what has seen the newest replaces it, whatever the clocks say");
    assert_eq!((apply(&two, Guard::Join), stamps()), ((0, 1, 0), vec![6, 5]));
}
