//! The rows of sketches, byte for byte, as `docs/formats.md` describes them. A change here is a change of format.

use reknit::core::canonical::put_varint;
use reknit::core::sketch::{Element, Sketch, pack};
use reknit::core::{CollectionId, DatasetId, DatasetKey, Definition, Entry, Profile, Range};
use reknit::store::engine::{Engine as _, Memory};
use reknit::store::{Durability, Op, Options, Side, Store};

/// Under the content profile digests follow from keys and values alone, and so do elements.
fn store(fold_at: usize) -> Store {
    let definition = Definition { profile: Profile::Content, ..Definition::simple(DatasetId([7; 16]), "format") };
    let options = Options { fold_at, ..Options::default() };
    Store::in_memory(definition, DatasetKey::from_bytes([9; 32]), &options).expect("a store")
}

fn put(store: &Store, keys: std::ops::Range<u32>, value: &[u8]) {
    let ops = keys.map(|key| Op::put(key.to_be_bytes(), value)).collect();
    store.batch(ops, Durability::Buffered).expect("a batch");
}

/// The rows of cells and of tails.
fn rows(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let memory = Memory::new();
    store.copy_rows(&memory).expect("a copy");
    let snapshot = memory.snapshot().expect("snapshot");
    snapshot.scan(&[7], &[9]).expect("scan").collect::<Result<_, _>>().expect("rows")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_tail_is_a_row_for_each_commit_and_part() {
    let store = store(100);
    put(&store, 0..2, b"old");
    put(&store, 0..1, b"new");
    let found: Vec<String> = rows(&store).iter().map(|(key, value)| format!("{} {}", hex(key), hex(value))).collect();
    assert_eq!(found, GOLDEN_TAILS);
}

#[test]
fn a_fold_leaves_a_row_of_cells_for_the_root_and_the_part() {
    let store = store(1);
    put(&store, 0..1, b"old");
    put(&store, 0..1, b"new");
    let found: Vec<String> = rows(&store).iter().map(|(key, value)| format!("{} {}", hex(key), hex(value))).collect();
    assert_eq!(found, GOLDEN_CELLS);
}

/// All rows of a root of 4,096 cells and of parts of 256, against what the entries make and against a hash.
#[test]
fn cells_lie_in_rows_of_a_thousand() {
    let store = store(0);
    put(&store, 0..9_500, b"v");
    let items = store.items(CollectionId(0), &[Range::ALL]).expect("items");
    let entries = items.iter().filter_map(|item| Some(Entry { position: item.position, digest: item.digest? }));
    let elements: Vec<Element> = entries.map(|entry| Element::of(&entry)).collect();
    let mut should = Vec::new();
    for (depth, cells) in [(0, 4_096), (1, 256)] {
        for place in 0..1 << (4 * depth) {
            let range = Range::ALL.descendant(depth, place);
            let mut sketch = Sketch::new(cells);
            let inside = elements.iter().filter(|element| range.covers(element.range()));
            inside.for_each(|element| sketch.add(*element));
            let count = u64::try_from(sketch.count()).expect("a count");
            for (nth, some) in sketch.cells().chunks(1_024).enumerate() {
                let mut key = vec![7, 0, 0, depth];
                key.extend_from_slice(&range.bits().to_be_bytes());
                key.extend_from_slice(&u16::try_from(nth * 1_024).expect("few").to_be_bytes());
                let mut value = vec![1];
                put_varint(&mut value, count);
                put_varint(&mut value, cells as u64);
                pack(&mut value, range, count, nth * 1_024, some);
                should.push((key, value));
            }
        }
    }
    let found = rows(&store);
    assert!(found == should, "{} rows, {} expected", found.len(), should.len());
    let mut hasher = blake3::Hasher::new();
    for (key, value) in &found {
        hasher.update(key).update(value);
    }
    assert_eq!(hasher.finalize().to_hex().as_str(), GOLDEN_ROWS);
}

const GOLDEN_TAILS: [&str; 3] = [
    "080000010000000000000001 01001ad7f32b010b8ff9",
    "080000010000000000000002 01011ad7f32b010b8ff91ad7f32b012c8637",
    "0800000b0000000000000001 0100bee2d6fa1937b619",
];
const GOLDEN_CELLS: [&str; 2] = [
    "0700000000000000000000000000 010101001ad7f32b012c8637828f",
    "0700000110000000000000000000 010101001ad7f32b012c8637828f",
];
const GOLDEN_ROWS: &str = "5bb732ef97bfd9babf232d4beec1555d3fd7e883342e64434a56a1b7550785eb";
