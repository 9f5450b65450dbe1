//! A model of Cassandra's repair: one tree of 2^15 leaves over the hashes of keys, shipped whole.
//!
//! Written after its `MerkleTree`: a leaf is the XOR of the hashes of its rows, 32 bytes, an inner node the XOR of its
//! children, and both sides stream every row of the leaves that differ. The real one reads all rows again for each repair.

use std::sync::Arc;
use std::time::Duration;

use crate::peer::{Line, Outcome, Peer, Stopwatch};
use crate::workload::{Id, Pair, Record};

const DEPTH: u32 = 15;
const LEAVES: usize = 1 << DEPTH;
const HASH_BYTES: usize = 32;
/// The answer to a request: every node of the tree.
const TREE_BYTES: usize = (2 * LEAVES - 1) * HASH_BYTES;
/// A request names two tokens.
const RANGE_BYTES: usize = 16;

/// The peer.
pub struct Adapter {
    pair: Arc<Pair>,
    /// The leaf of each record, in the order of the records; a real one reads it off the token of the key.
    leaves: [Vec<u16>; 2],
    sides: [Vec<Id>; 2],
}

/// A peer that is not built yet.
pub fn new(pair: Arc<Pair>) -> Box<dyn Peer> {
    let leaves = pair.sides.each_ref().map(|records| records.iter().map(leaf).collect());
    Box::new(Adapter { pair, leaves, sides: Default::default() })
}

/// Where a record lies in the order of tokens: the first 64 bits of the hash of its key.
pub fn place(record: &Record) -> u64 {
    let hash = blake3::hash(&record.key);
    u64::from_be_bytes(std::array::from_fn(|i| hash.as_bytes()[i]))
}

fn leaf(record: &Record) -> u16 {
    (place(record) >> (64 - DEPTH)) as u16
}

fn mix(leaf: &mut Id, id: &Id) {
    leaf.iter_mut().zip(id).for_each(|(byte, other)| *byte ^= other);
}

impl Peer for Adapter {
    fn build(&mut self) {
        for ((tree, records), leaves) in self.sides.iter_mut().zip(&self.pair.sides).zip(&self.leaves) {
            *tree = vec![[0; HASH_BYTES]; LEAVES];
            records.iter().zip(leaves).for_each(|(record, at)| mix(&mut tree[usize::from(*at)], &record.id));
        }
    }

    fn reconcile(&mut self) -> Outcome {
        let (mut line, mut watch) = (Line::default(), Stopwatch::default());
        let differs = watch.time(|| {
            line.send(0, RANGE_BYTES);
            line.send(1, TREE_BYTES);
            let [a, b] = &self.sides;
            let differs: Vec<bool> = a.iter().zip(b).map(|(mine, theirs)| mine != theirs).collect();
            let runs = differs.chunk_by(|one, next| one == next).filter(|run| run[0]).count();
            line.send(0, RANGE_BYTES * runs);
            differs
        });
        let ids = |side: usize| {
            let records = self.pair.sides[side].iter().zip(&self.leaves[side]);
            records.filter(|(_, at)| differs[usize::from(**at)]).map(|(record, _)| record.id).collect()
        };
        Outcome { metadata: line.bytes(), flights: line.flights(), sends: [ids(0), ids(1)], cpu: watch.total() }
    }

    fn update(&mut self, old: &Record, new: &Record) -> Duration {
        let at = usize::from(leaf(new));
        let mut watch = Stopwatch::default();
        watch.time(|| {
            mix(&mut self.sides[0][at], &old.id);
            mix(&mut self.sides[0][at], &new.id);
        });
        watch.total()
    }
}
