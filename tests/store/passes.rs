//! Stores that are read against their trees part by part, each by a snapshot of its own, while they are written.

use std::collections::BTreeSet;
use std::sync::Arc;

use reknit::core::agenda::Pass;
use reknit::core::query::{Guard, Incoming};
use reknit::core::{CollectionId, Range};
use reknit::store::contract;
use reknit::store::engine::{Durability, Engine, Memory};
use reknit::store::{EngineKind, Op, Report, Side, Store, StoreError};

use crate::support::{self, ENGINES, options};

/// Records of a part.
const MOST: u64 = 50;
const RECORD: u8 = 1;
const NODE: u8 = 3;

type Place = (CollectionId, Range);

/// All parts of a store, between which `between` does something; with what was found in all of them.
fn parts(store: &Store, mut between: impl FnMut(usize)) -> Result<(Vec<Place>, Vec<Report>), StoreError> {
    let mut pass = Pass::begin("s".into(), 2, 0);
    let (mut ranges, mut reports) = (Vec::new(), Vec::new());
    while let Some((collection, from)) = pass.next() {
        let part = store.verify_part(collection, from, MOST, &mut || true)?;
        assert!(part.range.contains(from), "{} does not hold {from:?}", part.range);
        pass.note(part.range, part.report.records, part.report.wrong_count);
        ranges.push((collection, part.range));
        reports.push(part.report);
        between(ranges.len());
    }
    Ok((ranges, reports))
}

fn sum(reports: &[Report], of: fn(&Report) -> u64) -> u64 {
    reports.iter().map(of).sum()
}

fn fill(store: &Store, keys: std::ops::Range<u32>) {
    let ops = keys.map(|key| Op::put(key.to_be_bytes(), b"value")).collect();
    store.batch(ops, Durability::Buffered).expect("batch");
}

#[test]
fn parts_are_all_of_a_store_once() {
    for engine in ENGINES {
        let home = tempfile::tempdir().expect("a directory");
        let store = support::create(engine, &home.path().join("store"));
        fill(&store, 0..3_000);
        store.delete(&7_u32.to_be_bytes()).expect("delete");
        let (ranges, reports) = parts(&store, |_| ()).expect("read");
        let whole = store.verify(&mut |_| ()).expect("read");
        assert!(whole.is_sound() && reports.iter().all(Report::is_sound), "{reports:?}");
        for of in [|of: &Report| of.records, |of: &Report| of.tombstones] {
            assert_eq!(sum(&reports, of), of(&whole));
        }
        assert!(reports.iter().all(|report| report.records + report.tombstones <= MOST));
        // The second collection is empty.
        assert_eq!(ranges.last(), Some(&(CollectionId(1), Range::ALL)));
        let first = &ranges[..ranges.len() - 1];
        assert!(first.windows(2).all(|two| two[0].1.last().0 + 1 == two[1].1.first().0), "{first:?}");
        assert!(first.len() > 3_000 / 50);
    }
}

#[test]
fn what_is_written_between_parts_is_no_fault() {
    for engine in ENGINES {
        let home = tempfile::tempdir().expect("a directory");
        let store = support::create(engine, &home.path().join("store"));
        fill(&store, 0..3_000);
        // It grows to three times of what it was, then next to nothing is left, so that ranges become leaves and go.
        let write = |nth: usize| {
            let nth = u32::try_from(nth).expect("few");
            match nth {
                0..20 => fill(&store, 3_000 + nth * 300..3_300 + nth * 300),
                20 => {
                    let ops = (0..8_900_u32).map(|key| Op::delete(key.to_be_bytes())).collect();
                    store.batch(ops, Durability::Buffered).expect("batch");
                }
                _ => {}
            }
        };
        let (_, reports) = parts(&store, write).expect("read");
        let wrong: Vec<&String> = reports.iter().flat_map(|report| &report.wrong).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        support::assert_sound(&store, "in the end");
    }
}

/// A store with all that is kept beside records, and some more records than fit into a part.
fn varied() -> Memory {
    let mut definition = support::definition();
    definition.collections[1].policy = "keep-both/1".into();
    let made = Store::in_memory(definition, support::key(), &options(EngineKind::Fjall)).expect("create");
    for (key, stamp) in [("one", 5), ("one", 6), ("two", 7), ("two", 8)] {
        let record = contract::record(key.as_bytes(), stamp, stamp, Some(b"value"));
        let batch = vec![Incoming { record, guard: Guard::Join }];
        made.apply(CollectionId(1), batch, Durability::Buffered).expect("apply");
    }
    fill(&made, 0..400);
    made.delete(&7_u32.to_be_bytes()).expect("delete");
    let memory = Memory::new();
    made.copy_rows(&memory).expect("a copy");
    memory
}

/// The ranges in which something is wrong where a row has another value, or none; nothing if the store cannot be opened or read.
fn found(memory: &Memory, key: &[u8], value: Option<&[u8]>) -> Option<BTreeSet<Place>> {
    let hurt = support::hurt(memory, key, value);
    let store = Store::over(Arc::new(hurt), &options(EngineKind::Fjall)).ok()?;
    let (ranges, reports) = parts(&store, |_| ()).ok()?;
    Some(ranges.into_iter().zip(reports).filter(|(_, report)| !report.is_sound()).map(|(range, _)| range).collect())
}

#[test]
fn parts_notice_every_row_of_records_and_tree_that_is_missing_or_changed_and_each_list_that_lacks_one() {
    let memory = varied();
    let rows: Vec<(Vec<u8>, Vec<u8>)> = {
        let snapshot = memory.snapshot().expect("snapshot");
        snapshot.scan(&[], &[0xff; 16]).expect("scan").collect::<Result<_, _>>().expect("rows")
    };
    // Of the rows of sketches, journals and counts, which are of the whole, nothing is said.
    let clean = BTreeSet::new();
    let mut lists = BTreeSet::new();
    for (nth, (key, value)) in
        rows.iter().enumerate().filter(|(nth, (key, _))| key[0] != 0 && (nth % 5 == 0 || key[0] > NODE))
    {
        let removed = found(&memory, key, None);
        if (RECORD..=NODE).contains(&key[0]) {
            assert_ne!(removed, Some(clean.clone()), "row {key:02x?} removed and not noticed");
            let flipped = support::flipped(value, nth);
            assert_ne!(
                found(&memory, key, Some(&flipped)),
                Some(clean.clone()),
                "row {key:02x?} flipped and not noticed"
            );
        } else if removed != Some(clean.clone()) {
            lists.insert(key[0]);
        }
    }
    assert!(lists.len() >= 3, "keys, conflicts and tombstones are looked up: {lists:?}");
}

#[test]
fn a_fault_is_found_where_it_is_and_a_pass_goes_on_behind_it() {
    let memory = varied();
    let entry = {
        let snapshot = memory.snapshot().expect("snapshot");
        let mut rows = snapshot.scan(&[2], &[3]).expect("scan");
        rows.nth(200).expect("an entry").expect("a row").0
    };
    let position = u64::from_be_bytes(entry[3..11].try_into().expect("eight"));
    let found = found(&memory, &entry, Some(&[7; 32])).expect("it can be read");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found.iter().all(|(collection, range)| collection.0 == 0 && range.contains(reknit::core::Position(position)))
    );
}

#[test]
fn a_part_is_given_up_when_it_is_not_wanted() {
    let store = support::memory(&options(EngineKind::Fjall));
    fill(&store, 0..10_001);
    let read = |go_on: bool| {
        store.verify_part(CollectionId(0), reknit::core::Position(0), u64::MAX, &mut || go_on).map(|part| part.range)
    };
    assert!(matches!(read(false), Err(StoreError::Stopped)));
    assert_eq!(read(true).expect("read"), Range::ALL);
}
