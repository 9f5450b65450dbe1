use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::digest::DatasetKey;
use crate::range::Position;

/// A store in memory: just what [`Nodes`] asks for, kept by the rows that [`update`] returns.
struct Kept {
    keys: Keys,
    root: Summary,
    nodes: BTreeMap<Range, Summary>,
    entries: BTreeSet<Entry>,
    reads: Cell<u64>,
}

impl Nodes for Kept {
    type Error = Infallible;

    fn children(&self, range: Range) -> Result<[Summary; 16], Infallible> {
        Ok(std::array::from_fn(|d| self.nodes.get(&range.child(d as u8)).copied().unwrap_or_default()))
    }

    fn entries(&self, range: Range) -> Result<Vec<Entry>, Infallible> {
        self.reads.set(self.reads.get() + 1);
        let (first, last) = (range.first(), range.last());
        let lowest = Entry { position: first, digest: Digest::ZERO };
        Ok(self.entries.range(lowest..).take_while(|entry| entry.position <= last).copied().collect())
    }
}

impl Kept {
    fn new() -> Kept {
        let keys = Keys::new(&DatasetKey::from_bytes([9; 32]));
        Kept { keys, root: Summary::EMPTY, nodes: BTreeMap::new(), entries: BTreeSet::new(), reads: Cell::new(0) }
    }

    fn apply(&mut self, changes: Vec<Change>) -> Update {
        let update = update(&self.keys, self, self.root, changes).expect("the tree and its entries agree");
        for (range, summary) in &update.nodes {
            match summary {
                Some(summary) => self.nodes.insert(*range, *summary),
                None => self.nodes.remove(range),
            };
        }
        for (position, digests) in &update.positions {
            let lowest = Entry { position: *position, digest: Digest::ZERO };
            let gone = self.entries.range(lowest..).take_while(|entry| entry.position == *position);
            for entry in gone.copied().collect::<Vec<_>>() {
                self.entries.remove(&entry);
            }
            let there = digests.iter().map(|digest| Entry { position: *position, digest: *digest });
            self.entries.extend(there);
        }
        self.root = update.root;
        update
    }

    /// Puts records given as key -> value over the map and the tree alike.
    fn write(&mut self, map: &mut BTreeMap<u16, u8>, batch: &BTreeMap<u16, Option<u8>>, spread: u32) -> Update {
        let changes = batch.iter().map(|(key, value)| Change {
            position: place(*key, spread),
            before: map.get(key).map(|old| worth(*key, *old)),
            after: value.map(|new| worth(*key, new)),
        });
        let changes = changes.collect();
        for (key, value) in batch {
            match value {
                Some(value) => map.insert(*key, *value),
                None => map.remove(key),
            };
        }
        self.apply(changes)
    }
}

fn worth(key: u16, value: u8) -> Digest {
    Digest(*blake3::hash(&[key.to_be_bytes()[0], key.to_be_bytes()[1], value]).as_bytes())
}

/// `spread` bits of the position are used, from the top: few bits make keys collide and tries deep.
fn place(key: u16, spread: u32) -> Position {
    let hash = Digest(*blake3::hash(&key.to_be_bytes()).as_bytes()).short();
    Position(hash & u64::MAX.checked_shl(64 - spread).unwrap_or(0))
}

fn rebuilt(keys: &Keys, map: &BTreeMap<u16, u8>, spread: u32) -> (Summary, BTreeMap<Range, Summary>) {
    let entry = |(key, value): (&u16, &u8)| Entry { position: place(*key, spread), digest: worth(*key, *value) };
    let entries: BTreeSet<Entry> = map.iter().map(entry).collect();
    let entries: Vec<Entry> = entries.into_iter().collect();
    let mut nodes = BTreeMap::new();
    let root = keys.build(Range::ALL, &entries, &mut |range, summary| {
        nodes.insert(range, summary);
    });
    (root, nodes)
}

fn history() -> impl Strategy<Value = Vec<BTreeMap<u16, Option<u8>>>> {
    let op = (0u16..400, proptest::option::weighted(0.6, 0u8..3));
    proptest::collection::vec(proptest::collection::btree_map(0u16..400, op.prop_map(|(_, v)| v), 0..120), 1..12)
}

proptest! {
    #[test]
    fn a_tree_that_was_changed_equals_one_that_was_built(history in history(), spread in prop_oneof![Just(0u32), Just(3), Just(8), Just(13), Just(64)]) {
        let (mut kept, mut map) = (Kept::new(), BTreeMap::new());
        for batch in &history {
            kept.write(&mut map, batch, spread);
            let (root, nodes) = rebuilt(&kept.keys, &map, spread);
            prop_assert_eq!(kept.root, root);
            prop_assert_eq!(&kept.nodes, &nodes);
            prop_assert_eq!(kept.entries.len(), map.len());
        }
    }

    #[test]
    fn roots_are_equal_exactly_when_the_sets_are(a in proptest::collection::btree_map(0u16..60, 0u8..2, 0..60), b in proptest::collection::btree_map(0u16..60, 0u8..2, 0..60), spread in prop_oneof![Just(2u32), Just(64)]) {
        let keys = Keys::new(&DatasetKey::from_bytes([9; 32]));
        prop_assert_eq!(rebuilt(&keys, &a, spread).0 == rebuilt(&keys, &b, spread).0, a == b);
        let mut c = a.clone();
        c.extend(b.clone());
        c.retain(|key, _| a.contains_key(key));
        c.extend(a.clone());
        prop_assert_eq!(rebuilt(&keys, &a, spread).0, rebuilt(&keys, &c, spread).0);
    }
}

/// Fills and empties a single range across the size at which a leaf splits, one record at a time.
#[test]
fn order_and_history_leave_no_trace_at_any_boundary_size() {
    for n in [1, 31, 32, 33, 34, 47, 48, 49, 300] {
        for spread in [0, 4, 64] {
            let (mut kept, mut map) = (Kept::new(), BTreeMap::new());
            let one = |key: u16, value| BTreeMap::from([(key, value)]);
            for key in 0..n {
                kept.write(&mut map, &one(key, Some(1)), spread);
            }
            let full = (kept.root, kept.nodes.clone());
            for key in (n / 2..n).rev() {
                kept.write(&mut map, &one(key, None), spread);
            }
            for key in n / 2..n {
                kept.write(&mut map, &one(key, Some(1)), spread);
            }
            assert_eq!((kept.root, kept.nodes.clone()), full, "{n} records, {spread} bits");
            assert_eq!(full, rebuilt(&kept.keys, &map, spread));
            for key in 0..n {
                kept.write(&mut map, &one(key, None), spread);
            }
            assert_eq!((kept.root, kept.nodes.len()), (Summary::EMPTY, 0));
        }
    }
}

#[test]
fn one_write_touches_one_path_and_a_batch_touches_each_node_once() {
    let (mut kept, mut map) = (Kept::new(), BTreeMap::new());
    let all: BTreeMap<u16, Option<u8>> = (0..20_000).map(|key| (key, Some(0))).collect();
    kept.write(&mut map, &all, 64);
    let depth = 1 + kept.nodes.keys().map(|range| u64::from(range.depth())).max().unwrap_or(0);
    let update = kept.write(&mut map, &BTreeMap::from([(5, Some(1))]), 64);
    assert!(update.digested <= depth && update.nodes.len() < depth as usize, "{} of {depth}", update.digested);
    kept.reads.set(0);
    let every: BTreeMap<u16, Option<u8>> = (0..20_000).map(|key| (key, Some(2))).collect();
    let update = kept.write(&mut map, &every, 64);
    assert_eq!(update.digested, kept.nodes.len() as u64 + 1);
    let leaves = kept.nodes.iter().filter(|(range, summary)| is_leaf(**range, summary.count)).count();
    assert_eq!(kept.reads.get(), leaves as u64);
}

#[test]
fn a_tree_that_disagrees_with_its_records_is_not_changed_further() {
    let mut kept = Kept::new();
    let change = |before: Option<u8>, after: Option<u8>| Change {
        position: place(1, 64),
        before: before.map(|v| worth(1, v)),
        after: after.map(|v| worth(1, v)),
    };
    let missing = update(&kept.keys, &kept, kept.root, vec![change(Some(1), Some(2))]);
    assert_eq!(missing, Err(UpdateError::Missing(place(1, 64))));
    kept.apply(vec![change(None, Some(1))]);
    let twice = update(&kept.keys, &kept, kept.root, vec![change(None, Some(1))]);
    assert_eq!(twice, Err(UpdateError::Duplicate(place(1, 64))));
    let none = update(&kept.keys, &kept, kept.root, vec![change(Some(1), Some(1))]);
    assert_eq!(none.map(|u| (u.root, u.nodes.len())), Ok((kept.root, 0)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_rest_is_the_tree_of_what_is_left(
        n in 0u64..600, taken in proptest::collection::vec((0u64..700, 0u8..=16), 0..40), within in (any::<u64>(), 0u8..3),
    ) {
        let position = |nth: u64| Position(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let entry = |nth| Entry { position: position(nth), digest: Digest([nth as u8; 32]) };
        let mut kept = Kept::new();
        let add = |nth| Change { position: position(nth), before: None, after: Some(entry(nth).digest) };
        kept.apply((0..n).map(add).collect());
        let range = Range::of(Position(within.0), within.1);
        let inside: Vec<Entry> = kept.entries.iter().filter(|e| range.contains(e.position)).copied().collect();
        // Disjoint parts: none is kept that lies in another.
        let mut parts: Vec<Range> = taken.into_iter().map(|(nth, depth)| Range::of(position(nth), depth)).collect();
        parts.retain(|part| range.covers(*part));
        parts.sort_unstable_by_key(|part| (part.first(), part.depth()));
        parts.dedup_by(|later, earlier| earlier.covers(*later));
        let left: Vec<Entry> =
            inside.iter().filter(|e| !parts.iter().any(|part| part.contains(e.position))).copied().collect();
        let summary = kept.keys.build(range, &inside, &mut |_, _| {});
        let Ok(found) = rest(&kept.keys, &kept, range, summary, &parts);
        prop_assert_eq!(found, kept.keys.build(range, &left, &mut |_, _| {}));
    }
}

/// Reads a tree, and notes how many entries were read at once at most.
struct Watched<'a>(&'a Kept, Cell<usize>);

impl Nodes for Watched<'_> {
    type Error = Infallible;

    fn children(&self, range: Range) -> Result<[Summary; 16], Infallible> {
        self.0.children(range)
    }

    fn entries(&self, range: Range) -> Result<Vec<Entry>, Infallible> {
        let entries = self.0.entries(range)?;
        self.1.set(entries.len().max(self.1.get()));
        Ok(entries)
    }
}

/// A peer that says that all but a few entries are apart must not make a side read all of them.
#[test]
fn of_a_rest_no_more_is_read_than_leaves() {
    let position = |nth: u64| Position(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut kept = Kept::new();
    let add = |nth| Change { position: position(nth), before: None, after: Some(Digest([nth as u8; 32])) };
    kept.apply((0..20_000).map(add).collect());
    let (mut range, mut parts) = (Range::ALL, Vec::new());
    while kept.entries(range).expect("infallible").len() > LEAF_ENTRIES_MAX {
        parts.extend((1..16).map(|digit| range.child(digit)));
        range = range.child(0);
    }
    parts.sort_unstable_by_key(|part| part.first());
    let watched = Watched(&kept, Cell::new(0));
    let Ok(found) = rest(&kept.keys, &watched, Range::ALL, kept.root, &parts);
    let left = kept.entries(range).expect("infallible");
    assert!(parts.len() > 30 && !left.is_empty(), "{} parts, {} left", parts.len(), left.len());
    assert_eq!(found, kept.keys.build(Range::ALL, &left, &mut |_, _| {}));
    assert!(watched.1.get() <= LEAF_ENTRIES_MAX, "{} entries were read at once", watched.1.get());
}
