//! Batches and pages of many records: all of a batch is accounted for, and a page has an end.

use std::collections::BTreeSet;

use reknit_core::bounds::{KEY_BYTES_MAX, VERSIONS_MAX};
use reknit_core::query::{Guard, Incoming, Selection};
use reknit_core::{CollectionId, Keeps, Range, Record};

use super::answers::pages;
use super::histories::Named;
use super::{item, record};
use crate::store::{Durability, Side};

/// Records of one batch: more than a session hands over at once.
const MANY: usize = 1_500;
/// Versions of one key that meet, of which so many as may be stay.
const MEET: u64 = VERSIONS_MAX as u64 + 5;

pub(super) fn run(side: &dyn Side, collection: CollectionId) {
    many(side, collection);
    full(side, collection);
    long(side, collection);
}

fn many(side: &dyn Side, collection: CollectionId) {
    let key = |nth: usize| format!("many {nth}").into_bytes();
    let of = |record: Record, guard| Incoming { record, guard };
    let mut batch: Vec<Incoming> =
        (0..MANY).map(|nth| of(record(&key(nth), 9, 1, Some(b"value")), Guard::Join)).collect();
    // At the end, where what is dropped of a large batch would go unseen.
    batch.push(of(record(&key(3), 9, 1, Some(b"value")), Guard::Join));
    batch.push(of(record(b"nowhere", 9, 1, Some(b"x")), Guard::IfShort(Some(7))));
    batch.push(of(record(&[1; KEY_BYTES_MAX + 1], 9, 1, Some(b"x")), Guard::Join));
    let done = side.apply(collection, batch, Durability::Synced).expect("apply");
    let found = (done.applied, done.kept, done.moved, done.refused.len());
    assert_eq!(found, (MANY as u64, 1, 1, 1), "all of a batch of {} is accounted for", MANY + 3);
    assert_eq!(side.cut().expect("cut").roots[usize::from(collection.0)].count, MANY as u64, "all of it is there");
    let all = pages(side, collection, &Selection::Range(Range::ALL), 1 << 24, "many").0;
    let keys: BTreeSet<Vec<u8>> = all.into_iter().map(|record| record.key).collect();
    assert_eq!(keys, (0..MANY).map(key).collect(), "all of it can be read");
}

/// More versions than may stand side by side, of which the newest stay; under a policy that keeps one, the newest.
fn full(side: &dyn Side, collection: CollectionId) {
    let named = Named::of(side, collection);
    let one = |nth: u64| record(b"full", 100 + nth, 1 + nth, Some(b"one of many"));
    let state = |versions: &[u64]| {
        let states = versions.iter().map(|nth| one(*nth).state);
        states.reduce(|all, next| all.join(&next, Keeps::All, &named.info.keys)).expect("some")
    };
    let (low, high) = (state(&(0..20).collect::<Vec<_>>()), state(&(20..MEET).collect::<Vec<_>>()));
    for state in [low, high] {
        let record = Record { key: b"full".to_vec(), state };
        let batch = vec![Incoming { record, guard: Guard::Join }];
        let done = side.apply(collection, batch, Durability::Synced).expect("apply");
        assert_eq!((done.applied, done.refused), (1, vec![]), "several versions come at once");
    }
    let stamps: Vec<u64> = item(side, collection, b"full")
        .map(|item| item.versions.iter().map(|info| info.version.stamp.0).collect())
        .unwrap_or_default();
    let should: Vec<u64> = (0..MEET).rev().map(|nth| 100 + nth).collect();
    let kept = if named.keeps == Keeps::All { VERSIONS_MAX } else { 1 };
    assert_eq!(stamps, should[..kept], "the newest of many versions stay, newest first");
}

/// A page ends somewhere near the bytes that it may have, whatever is selected.
fn long(side: &dyn Side, collection: CollectionId) {
    let named = Named::of(side, collection);
    let records: Vec<Record> =
        (0..24u64).map(|nth| record(format!("long {nth}").as_bytes(), 10, 1, Some(&[7; 3000]))).collect();
    let batch = records.iter().map(|record| Incoming { record: record.clone(), guard: Guard::Join }).collect();
    side.apply(collection, batch, Durability::Synced).expect("apply");
    let entries: Vec<_> = records
        .iter()
        .filter_map(|record| Some((named.position(&record.key), named.digest(record)?.short())))
        .collect();
    let dots = |record: &Record| vec![record.state.winner().version.dot()];
    let of = records.iter().map(|record| (named.position(&record.key), dots(record))).collect();
    let selections =
        [Selection::Entries(entries.clone()), Selection::Bare(entries), Selection::Versions { bare: false, of }];
    for what in selections {
        for max_bytes in [0, 1, 10_000, 1 << 20] {
            assert_eq!(pages(side, collection, &what, max_bytes, "long").0.len(), records.len());
        }
    }
}
