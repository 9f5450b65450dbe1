//! minisketch: PinSketch of 63-bit ids, in buckets, for a number of differences that it is told.
//!
//! A sends sketches of capacity 32, one for each 24 elements that differ; a bucket with more gets 32 syndromes more.
//! Up to 32 elements one sketch of just that capacity does. Sketches are built for the right number beforehand, which
//! no one could do; so this peer shows a bound, not a choice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use minisketch_rs::Minisketch;

use crate::peer::{Line, Outcome, Peer, Stopwatch};
use crate::workload::{Id, Pair, Record};

/// Bits of an element; at 64 the vendored library tells a wrong width.
const BITS: u32 = 63;
/// Elements that a bucket's first sketch can tell.
const CAPACITY: usize = 32;
/// Elements that are expected in a bucket.
const AIM: usize = 24;
/// Bytes of the name of a bucket, and of an id that is asked for.
const BUCKET_BYTES: usize = 4;
const ID_BYTES: usize = 8;

/// The peer.
pub struct Adapter {
    pair: Arc<Pair>,
    buckets: usize,
    /// Elements that a first sketch tells, and those that its extension tells.
    capacity: usize,
    extended: usize,
    ids: [HashMap<u64, Id>; 2],
    sides: [Vec<Minisketch>; 2],
}

/// A peer that is not built yet.
pub fn new(pair: Arc<Pair>) -> Box<dyn Peer> {
    let [a, b] = pair.sides.each_ref().map(Vec::len);
    let equal = b - pair.truth[1].len();
    let differ = a + b - 2 * equal;
    let one = differ <= CAPACITY;
    let buckets = if one { 1 } else { differ.div_ceil(AIM) };
    let capacity = if one { differ.max(1) } else { CAPACITY };
    let extended = if one { capacity } else { 2 * CAPACITY };
    let ids =
        pair.sides.each_ref().map(|records| records.iter().map(|record| (element(&record.id), record.id)).collect());
    Box::new(Adapter { pair, buckets, capacity, extended, ids, sides: Default::default() })
}

fn element(id: &Id) -> u64 {
    // Zero is no element.
    (u64::from_be_bytes(std::array::from_fn(|i| id[i])) >> (64 - BITS)).max(1)
}

fn sketch(capacity: usize) -> Minisketch {
    let best = (0..=Minisketch::implementation_max()).rev();
    best.filter_map(|implementation| Minisketch::try_new(BITS, implementation, capacity).ok())
        .next()
        .expect("63 bits are supported")
}

fn bytes(syndromes: usize) -> usize {
    (syndromes * BITS as usize).div_ceil(8)
}

/// The first syndromes of a sketch, as they travel: a sketch of less capacity is the beginning of one of more.
fn beginning(whole: &Minisketch, capacity: usize) -> Vec<u8> {
    let mut packed = vec![0; whole.serialized_size()];
    whole.serialize(&mut packed).expect("the buffer is as large as the sketch");
    packed.truncate(bytes(capacity));
    packed
}

fn unpacked(packed: &[u8], capacity: usize) -> Minisketch {
    let mut part = sketch(capacity);
    part.deserialize(packed);
    part
}

impl Adapter {
    fn bucket(&self, id: &Id) -> usize {
        let bits = u64::from_be_bytes(std::array::from_fn(|i| id[8 + i]));
        ((u128::from(bits) * self.buckets as u128) >> 64) as usize
    }

    /// What differs in a bucket, by as many syndromes of A's as came; none if there are too many.
    fn decode(&self, bucket: usize, packed: &[u8], capacity: usize) -> Option<Vec<u64>> {
        let mut both = unpacked(packed, capacity);
        both.merge(&unpacked(&beginning(&self.sides[1][bucket], capacity), capacity)).expect("the same kind of sketch");
        let mut found = vec![0; capacity];
        let count = both.decode(&mut found).ok()?;
        found.truncate(count);
        Some(found)
    }
}

impl Peer for Adapter {
    fn build(&mut self) {
        for side in 0..2 {
            let mut sketches: Vec<Minisketch> = (0..self.buckets).map(|_| sketch(self.extended)).collect();
            for record in &self.pair.sides[side] {
                sketches[self.bucket(&record.id)].add(element(&record.id));
            }
            self.sides[side] = sketches;
        }
    }

    fn reconcile(&mut self) -> Outcome {
        let (mut line, mut watch) = (Line::default(), Stopwatch::default());
        let mut sends: [Vec<Id>; 2] = Default::default();
        watch.time(|| {
            let mut open: Vec<usize> = (0..self.buckets).collect();
            for (capacity, known) in [(self.capacity, 0), (self.extended, self.capacity)] {
                let packed: Vec<Vec<u8>> = open.iter().map(|i| beginning(&self.sides[0][*i], capacity)).collect();
                line.send(0, open.len() * (bytes(capacity) - bytes(known)));
                let (mut wanted, mut unknown) = (0, Vec::new());
                for (bucket, packed) in open.iter().zip(&packed) {
                    let Some(found) = self.decode(*bucket, packed, capacity) else {
                        unknown.push(*bucket);
                        continue;
                    };
                    for element in found {
                        match self.ids[1].get(&element) {
                            Some(id) => sends[1].push(*id),
                            None => {
                                wanted += 1;
                                sends[0].extend(self.ids[0].get(&element));
                            }
                        }
                    }
                }
                line.send(1, ID_BYTES * wanted + BUCKET_BYTES * unknown.len());
                open = unknown;
                if open.is_empty() {
                    if sends.iter().all(Vec::is_empty) {
                        line.close(1);
                    }
                    break;
                }
            }
        });
        Outcome { metadata: line.bytes(), flights: line.flights(), sends, cpu: watch.total() }
    }

    fn update(&mut self, old: &Record, new: &Record) -> Duration {
        let mut watch = Stopwatch::default();
        watch.time(|| {
            for record in [old, new] {
                let bucket = self.bucket(&record.id);
                self.sides[0][bucket].add(element(&record.id));
            }
        });
        watch.total()
    }
}
