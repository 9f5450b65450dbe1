//! negentropy: ranges of a sorted list, cut in sixteen, each with a 16-byte fingerprint.
//!
//! Driven by the crate's own interface, with its vector storage and no limit of frames. The timestamp is 0, which makes
//! the order that of the ids; in a log, where it tells the age, it is the version.

use std::sync::Arc;
use std::time::Duration;

use negentropy::{Id, Negentropy, NegentropyStorageVector};

use crate::peer::{Line, Outcome, Peer, Stopwatch};
use crate::workload::{Pair, Record, Shape};

/// The peer.
pub struct Adapter {
    pair: Arc<Pair>,
    sides: [NegentropyStorageVector; 2],
}

/// A peer that is not built yet.
pub fn new(pair: Arc<Pair>) -> Box<dyn Peer> {
    Box::new(Adapter { pair, sides: Default::default() })
}

/// Where a record lies in the order of ids.
pub fn place(record: &Record) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| record.id[i]))
}

fn timestamp(shape: Shape, record: &Record) -> u64 {
    if shape == Shape::Tail { record.version } else { 0 }
}

impl Peer for Adapter {
    fn build(&mut self) {
        for (storage, records) in self.sides.iter_mut().zip(&self.pair.sides) {
            *storage = NegentropyStorageVector::with_capacity(records.len());
            for record in records {
                let time = timestamp(self.pair.plan.shape, record);
                storage.insert(time, Id::from_byte_array(record.id)).expect("the storage is not sealed");
            }
            storage.seal().expect("the storage is sealed once");
        }
    }

    fn reconcile(&mut self) -> Outcome {
        let (mut line, mut watch) = (Line::default(), Stopwatch::default());
        let (mut have, mut need) = (Vec::new(), Vec::new());
        watch.time(|| {
            let mut a = Negentropy::borrowed(&self.sides[0], 0).expect("no limit of frames");
            let mut b = Negentropy::borrowed(&self.sides[1], 0).expect("no limit of frames");
            let mut query = a.initiate().expect("the storage is sealed");
            loop {
                line.send(0, query.len());
                let answer = b.reconcile(&query).expect("the query is well-formed");
                line.send(1, answer.len());
                match a.reconcile_with_ids(&answer, &mut have, &mut need).expect("the answer is well-formed") {
                    Some(next) => query = next,
                    None => break,
                }
            }
        });
        line.send(0, 32 * need.len());
        let ids = |ids: Vec<Id>| ids.into_iter().map(Id::to_bytes).collect();
        let sends = [ids(have), ids(need)];
        Outcome { metadata: line.bytes(), flights: line.flights(), sends, cpu: watch.total() }
    }

    fn update(&mut self, _: &Record, new: &Record) -> Duration {
        // The storage has no way to take an item out; the cost is in the sorting.
        let mut watch = Stopwatch::default();
        let time = timestamp(self.pair.plan.shape, new);
        watch.time(|| {
            let storage = &mut self.sides[0];
            storage.unseal().expect("the storage was sealed");
            storage.insert(time, Id::from_byte_array(new.id)).expect("the storage is not sealed");
            storage.seal().expect("the storage is sealed once");
        });
        watch.total()
    }
}
