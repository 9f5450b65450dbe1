//! iroh-docs: ranges cut in two over signed entries; a range of one entry is sent as that entry.
//!
//! Driven by `sync_initial_message` and `sync_process_message` over two stores in memory, messages packed by postcard as
//! the crate packs them. An entry names the content's hash, which is the record's id here; contents are the records and
//! are not counted. An exchange writes to both stores, so it runs once only.

use std::sync::Arc;
use std::time::Duration;

use iroh_docs::store::Store;
use iroh_docs::{Author, ContentStatus, Entry, NamespaceSecret, RecordIdentifier, SignedEntry, SyncOutcome};
use pollster::block_on;

use crate::peer::{Line, Outcome, Peer, Stopwatch};
use crate::workload::{Id, Pair, Record, VALUE_BYTES};

/// The names of the two nodes.
const NODES: [[u8; 32]; 2] = [[1; 32], [2; 32]];

/// The peer.
pub struct Adapter {
    pair: Arc<Pair>,
    namespace: NamespaceSecret,
    author: Author,
    /// Entries, signed before anything is built.
    ready: [Vec<SignedEntry>; 2],
    sides: [Store; 2],
}

/// A peer that is not built yet.
pub fn new(pair: Arc<Pair>) -> Box<dyn Peer> {
    let (namespace, author) = (NamespaceSecret::from_bytes(&[3; 32]), Author::from_bytes(&[4; 32]));
    let ready = pair.sides.each_ref().map(|records| {
        let signed = |record: &Record| signed(&namespace, &author, record);
        records.iter().map(signed).collect()
    });
    Box::new(Adapter { pair, namespace, author, ready, sides: [0, 1].map(|_| Store::memory()) })
}

fn signed(namespace: &NamespaceSecret, author: &Author, record: &Record) -> SignedEntry {
    let id = RecordIdentifier::new(namespace.id(), author.id(), record.key);
    let value = iroh_docs::Record::new(record.id.into(), VALUE_BYTES as u64, record.version);
    SignedEntry::from_entry(Entry::new(id, value), namespace, author)
}

impl Peer for Adapter {
    fn build(&mut self) {
        for (store, entries) in self.sides.iter_mut().zip(&self.ready) {
            let mut replica = store.new_replica(self.namespace.clone()).expect("a fresh store takes a replica");
            for entry in entries {
                let inserted = replica.insert_remote_entry(entry.clone(), NODES[0], ContentStatus::Complete);
                block_on(inserted).expect("the entry is signed and new");
            }
        }
    }

    fn reconcile(&mut self) -> Outcome {
        let (mut line, mut watch) = (Line::default(), Stopwatch::default());
        let mut states = [SyncOutcome::default(), SyncOutcome::default()];
        let name = self.namespace.id();
        watch.time(|| {
            let [a, b] = &mut self.sides;
            let mut sides = [a, b].map(|store| store.open_replica(&name).expect("the replica was made"));
            let mut message = Some(sides[0].sync_initial_message().expect("the store can be read"));
            let mut side = 0;
            while let Some(sent) = message {
                let packed = postcard::to_stdvec(&sent).expect("plain data into memory");
                line.send(side, packed.len());
                let came = postcard::from_bytes(&packed).expect("what was sent is understood");
                side = 1 - side;
                let answer = sides[side].sync_process_message(came, NODES[1 - side], &mut states[side]);
                message = block_on(answer).expect("the store can be read and written");
            }
            if states.iter().all(|state| state.num_sent == 0) {
                line.close(side);
            }
        });
        // What a side got of the other is what it will ask the content of; an entry that loses is not taken.
        let author = self.author.id();
        let mut got = |by: usize| -> Vec<Id> {
            let (store, records) = (&mut self.sides[by], &self.pair.sides[1 - by]);
            let truth: std::collections::HashSet<&Id> = self.pair.truth[1 - by].iter().collect();
            let has = |record: &&Record| {
                let found = store.get_exact(name, author, record.key, false).expect("the store can be read");
                found.is_some_and(|entry| *entry.content_hash().as_bytes() == record.id)
            };
            records.iter().filter(|record| truth.contains(&record.id)).filter(has).map(|record| record.id).collect()
        };
        let sends = [got(1), got(0)];
        Outcome { metadata: line.bytes(), flights: line.flights(), sends, cpu: watch.total() }
    }

    fn repeats(&self) -> bool {
        false
    }

    fn update(&mut self, _: &Record, new: &Record) -> Duration {
        let entry = signed(&self.namespace, &self.author, new);
        let name = self.namespace.id();
        let mut watch = Stopwatch::default();
        watch.time(|| {
            let mut replica = self.sides[0].open_replica(&name).expect("the replica was made");
            block_on(replica.insert_remote_entry(entry, NODES[0], ContentStatus::Complete))
                .expect("the entry is newer");
        });
        watch.total()
    }
}
