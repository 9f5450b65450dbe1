//! reconcile: ranges over an order-statistics tree that keeps counts and fingerprints, cut in sixteen down to one record.
//!
//! The engine of the crate `reconcile`, which is `rbsr` over `rsos`, driven in memory: its messages, packed as that
//! crate packs them, without its datagrams. A range that ends holds the records themselves, so no ids are asked for.

use std::sync::Arc;
use std::time::Duration;

use bincode::Options;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rbsr::{EnumerationRange, RangeAggregate, initial_ranges, protocol_round};
use rsos::FingerprintTreeMap;
use serde::Serialize;

use crate::peer::{Line, Outcome, Peer, Stopwatch};
use crate::workload::{Id, Pair, Record};

type Key = [u8; 16];
type Map = FingerprintTreeMap<Key, Id>;

/// The one message that carries metadata; first of its enum, as in the crate.
#[derive(Serialize)]
enum Message {
    EntryFingerprint(RangeAggregate<Key>),
}

/// The peer.
pub struct Adapter {
    pair: Arc<Pair>,
    sides: [Map; 2],
}

/// A peer that is not built yet.
pub fn new(pair: Arc<Pair>) -> Box<dyn Peer> {
    Box::new(Adapter { pair, sides: [Map::new(), Map::new()] })
}

/// Where a record lies in the order of keys.
pub fn place(record: &Record) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| record.key[i]))
}

fn packed(ranges: &[RangeAggregate<Key>]) -> Vec<u8> {
    let mut out = Vec::new();
    for range in ranges {
        let message = Message::EntryFingerprint(range.clone());
        bincode::DefaultOptions::new().serialize_into(&mut out, &message).expect("plain data into memory");
    }
    out
}

impl Peer for Adapter {
    fn build(&mut self) {
        for (map, records) in self.sides.iter_mut().zip(&self.pair.sides) {
            *map = Map::from_sorted_iter(records.iter().map(|record| (record.key, record.id)));
        }
    }

    fn reconcile(&mut self) -> Outcome {
        let (mut line, mut watch) = (Line::default(), Stopwatch::default());
        let mut random = StdRng::seed_from_u64(self.pair.plan.seed);
        let mut found: [Vec<EnumerationRange<Key>>; 2] = Default::default();
        watch.time(|| {
            let mut active = initial_ranges(&self.sides[0]);
            let mut side = 0;
            while !active.is_empty() {
                line.send(side, packed(&active).len());
                side = 1 - side;
                let mut children = Vec::new();
                protocol_round(&self.sides[side], active, &mut children, &mut found[side], &mut random);
                active = children;
            }
            // Whoever has nothing to say acknowledges: one byte, the number of its message.
            if found.iter().all(Vec::is_empty) {
                line.send(side, 1);
            }
        });
        let ids = |side: usize| {
            let ranges = found[side].iter();
            ranges.flat_map(|range| self.sides[side].range(*range).map(|(_, id)| *id)).collect()
        };
        Outcome { metadata: line.bytes(), flights: line.flights(), sends: [ids(0), ids(1)], cpu: watch.total() }
    }

    fn update(&mut self, _: &Record, new: &Record) -> Duration {
        let mut watch = Stopwatch::default();
        watch.time(|| self.sides[0].insert(new.key, new.id));
        watch.total()
    }
}
