//! merkle-search-tree: both sides ship their pages, each works out which ranges of keys it wants.
//!
//! Driven by the documented interface of the crate; a page travels as two keys and a 16-byte hash, a range as two keys.

use std::sync::Arc;
use std::time::Duration;

use merkle_search_tree::MerkleSearchTree;
use merkle_search_tree::diff::{DiffRange, PageRange, diff};

use crate::peer::{Line, Outcome, Peer, Stopwatch};
use crate::workload::{Id, Pair, Record};

type Key = [u8; 16];

const ROOT_BYTES: usize = 16;
const PAGE_BYTES: usize = 16 + 16 + 16;
const RANGE_BYTES: usize = 16 + 16;

/// The peer.
pub struct Adapter {
    pair: Arc<Pair>,
    sides: [MerkleSearchTree<Key, Id>; 2],
}

/// A peer that is not built yet.
pub fn new(pair: Arc<Pair>) -> Box<dyn Peer> {
    Box::new(Adapter { pair, sides: Default::default() })
}

fn pages(tree: &MerkleSearchTree<Key, Id>) -> Vec<PageRange<'_, Key>> {
    tree.serialise_page_ranges().expect("the root is hashed")
}

impl Peer for Adapter {
    fn build(&mut self) {
        for (tree, records) in self.sides.iter_mut().zip(&self.pair.sides) {
            *tree = MerkleSearchTree::default();
            records.iter().for_each(|record| tree.upsert(record.key, &record.id));
            tree.root_hash();
        }
    }

    fn reconcile(&mut self) -> Outcome {
        let (mut line, mut watch) = (Line::default(), Stopwatch::default());
        let wanted = watch.time(|| {
            let [a, b] = self.sides.each_ref();
            line.send(0, ROOT_BYTES);
            line.send(1, ROOT_BYTES);
            if a.root_hash_cached() == b.root_hash_cached() {
                return Default::default();
            }
            let bounds = |range: &DiffRange<'_, Key>| (*range.start(), *range.end());
            let (mine, theirs) = (pages(a), pages(b));
            line.send(1, PAGE_BYTES * theirs.len());
            let of_b: Vec<(Key, Key)> = diff(mine.clone(), theirs.clone()).iter().map(bounds).collect();
            line.send(0, PAGE_BYTES * mine.len() + RANGE_BYTES * of_b.len());
            let of_a: Vec<(Key, Key)> = diff(theirs, mine).iter().map(bounds).collect();
            line.send(1, RANGE_BYTES * of_a.len());
            [of_a, of_b]
        });
        let ids = |side: usize| {
            let records = &self.pair.sides[side];
            let within = |(start, end): &(Key, Key)| {
                let first = records.partition_point(|record| record.key < *start);
                let last = records.partition_point(|record| record.key <= *end);
                records[first..last].iter().map(|record| record.id)
            };
            wanted[side].iter().flat_map(within).collect()
        };
        Outcome { metadata: line.bytes(), flights: line.flights(), sends: [ids(0), ids(1)], cpu: watch.total() }
    }

    fn update(&mut self, _: &Record, new: &Record) -> Duration {
        let mut watch = Stopwatch::default();
        watch.time(|| {
            self.sides[0].upsert(new.key, &new.id);
            self.sides[0].root_hash().as_bytes()[0]
        });
        watch.total()
    }
}
