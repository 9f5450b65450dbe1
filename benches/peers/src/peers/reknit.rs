//! Reknit: an opener and a responder of `reknit-core` over two stores in memory, a repair of both sides.
//!
//! Records themselves stay with the pair of sets. What a repair wrote is taken back afterwards, outside of the time that is
//! counted.
//!
//! Counted as metadata is every control message, from the opening to the last root and the farewell. Streams of records
//! are records, which no peer is charged for; neither is applying them.

mod store;

use std::sync::Arc;
use std::time::Duration;

use reknit_core::message::{Life, Message, Rights};
use reknit_core::query::{Incoming, Query};
use reknit_core::session::{Direction, Grant, Input, Intent, Opener, Options, Output, Responder, Verdict};
use reknit_core::{
    Actor, Content, DatasetId, DatasetKey, Definition, Entry, Keys, Profile, Record, Sibling, Stamp, State, Version,
};

use self::store::Store;
use crate::peer::{Line, Outcome, Peer, Stopwatch};
use crate::workload::{self, Id, Pair};

const COLLECTION: &str = "default";
/// Items in one page of a list.
const PAGE: usize = 1000;
/// Records in one frame of a stream.
const RECORDS_PER_FRAME: usize = 1000;

/// The peer.
pub struct Adapter {
    pair: Arc<Pair>,
    keys: Arc<Keys>,
    definition: Arc<Definition>,
    /// Entries with their records, sorted: hashed before anything is built.
    ready: [Vec<Row>; 2],
    stores: [Store; 2],
}

/// A peer that is not built yet.
pub fn new(pair: Arc<Pair>) -> Box<dyn Peer> {
    Box::new(unbuilt(pair))
}

fn unbuilt(pair: Arc<Pair>) -> Adapter {
    let keys = keys();
    let ready = pair.sides.each_ref().map(|records| {
        let mut ready: Vec<Row> = records.iter().map(|record| row(&keys, &pair, record)).collect();
        ready.sort_unstable_by_key(|(entry, _)| *entry);
        ready
    });
    let stores = [0, 1].map(|_| Store::new(pair.clone(), keys.clone()));
    let definition = Arc::new(Definition::simple(DatasetId([1; 16]), "yardstick"));
    Adapter { pair, keys, definition, ready, stores }
}

/// Where a record lies in the order of positions.
pub fn place(record: &workload::Record) -> u64 {
    thread_local!(static KEYS: Arc<Keys> = keys());
    KEYS.with(|keys| keys.position(COLLECTION, &record.key).0)
}

fn keys() -> Arc<Keys> {
    Arc::new(Keys::new(&DatasetKey::from_bytes([3; 32])))
}

/// What a store keeps of a record beside its entry; the value follows from it.
#[derive(Clone, Copy, Debug)]
struct Kept {
    key: [u8; workload::KEY_BYTES],
    version: u64,
    replaces: u64,
}

/// An entry with its record.
type Row = (Entry, Kept);

fn row(keys: &Keys, pair: &Pair, record: &workload::Record) -> Row {
    let kept = Kept { key: record.key, version: record.version, replaces: record.replaces };
    (entry(keys, pair, &kept), kept)
}

fn entry(keys: &Keys, pair: &Pair, record: &Kept) -> Entry {
    let digest = keys.entry(Profile::Versioned, COLLECTION, &whole(pair, record));
    let digest = digest.expect("a versioned record has an entry");
    Entry { position: keys.position(COLLECTION, &record.key), digest }
}

/// A record as Reknit knows it. The first version was written by one actor, later ones by another that had seen it.
fn whole(pair: &Pair, record: &Kept) -> Record {
    let version = version(record);
    let content = Content::Live(pair.value(&record.key, record.version).to_vec());
    Record { key: record.key.to_vec(), state: State::single(Sibling { version, content, expires: None }) }
}

fn version(record: &Kept) -> Version {
    let first = |stamp| Version { stamp: Stamp(stamp), actor: Actor(1), seen: Default::default() };
    match record.replaces {
        0 => first(record.version),
        old => Version::after(Stamp(record.version), Actor(2), [&first(old)]),
    }
}

impl Peer for Adapter {
    fn build(&mut self) {
        self.stores.iter_mut().zip(&self.ready).for_each(|(store, ready)| store.build(ready));
    }

    fn reconcile(&mut self) -> Outcome {
        let (mut run, mut whole) = (Run::default(), Stopwatch::default());
        let verdict = whole.time(|| run.session(&self.definition, &self.keys, &mut self.stores));
        assert_eq!(verdict, Verdict::InSync, "a repair of both sides that nobody disturbs ends so");
        self.stores.iter_mut().for_each(Store::take_back);
        let cpu = whole.total().saturating_sub(run.records.total());
        Outcome { metadata: run.line.bytes(), flights: run.known, sends: run.sends, cpu }
    }

    fn update(&mut self, old: &workload::Record, new: &workload::Record) -> Duration {
        let (before, after) = (row(&self.keys, &self.pair, old), row(&self.keys, &self.pair, new));
        let mut watch = Stopwatch::default();
        watch.time(|| self.stores[0].replace(vec![(Some(before), Some(after))]));
        watch.total()
    }
}

/// One session as it is counted.
#[derive(Default)]
struct Run {
    line: Line,
    /// Streaming and applying records, which is in no peer's figure.
    records: Stopwatch,
    sends: [Vec<Id>; 2],
    /// Flights until both sides knew what to send, as far as it is seen.
    known: u32,
}

enum Turn {
    Said(Vec<Input>),
    Over(Verdict),
}

impl Run {
    fn session(&mut self, definition: &Arc<Definition>, keys: &Arc<Keys>, stores: &mut [Store; 2]) -> Verdict {
        let life = |n| Life { actor: n, nonce: n };
        let options = Options::new(Intent::Repair(Direction::Both));
        let opener = Opener::new(definition.clone(), keys.clone(), life(1), options, 0);
        let grant = Grant::everywhere(Rights::ALL);
        let responder = Responder::new(definition.clone(), keys.clone(), life(2), grant);
        let machines = [Machine::Opener(Box::new(opener)), Machine::Responder(Box::new(responder))];
        let mut sides: Vec<(Machine, &mut Store)> = machines.into_iter().zip(stores).collect();
        let mut came = Vec::new();
        loop {
            for (side, (machine, store)) in sides.iter_mut().enumerate() {
                match self.turn(side, machine, store, came) {
                    Turn::Said(said) => came = said,
                    Turn::Over(verdict) => return verdict,
                }
            }
        }
    }

    /// A side takes all that came and says all that it has to say: flights are then what a slow line would see.
    fn turn(&mut self, side: usize, machine: &mut Machine, store: &mut Store, came: Vec<Input>) -> Turn {
        let heard = self.line.flights();
        let (mut said, mut streamed, mut came) = (Vec::new(), false, came.into_iter());
        loop {
            while let Some(output) = machine.poll() {
                match output {
                    Output::Send(message) => said.push(self.carry(side, &message)),
                    Output::Ask(query) if is_about_records(&query) => {
                        self.records.time(|| machine.handle(Input::Answer(store.answer(query))));
                    }
                    Output::Ask(query) => {
                        if !store.pending.is_empty() {
                            self.records.time(|| store.settle());
                        }
                        machine.handle(Input::Answer(store.answer(query)));
                    }
                    Output::Stream { transfer, selections, given, guards } => {
                        assert!(given.is_empty(), "only a mirror gives records of its own");
                        streamed = true;
                        let sends = &mut self.sends[side];
                        self.records.time(|| {
                            let (ids, records): (Vec<Option<Id>>, Vec<Incoming>) =
                                store.stream(&selections, &guards).into_iter().unzip();
                            sends.extend(ids.into_iter().flatten());
                            let sent = records.len() as u64;
                            let frames = records.chunks(RECORDS_PER_FRAME).map(<[Incoming]>::to_vec);
                            said.extend(frames.map(|records| Input::Records { transfer, records }));
                            said.push(Input::End { transfer, records: sent, moved: 0 });
                        });
                    }
                    Output::Found(_) | Output::Planned(_) => {}
                    Output::Done(outcome) => {
                        if self.sends.iter().all(Vec::is_empty) {
                            self.known = heard;
                        }
                        return Turn::Over(outcome.verdict);
                    }
                }
            }
            let Some(input) = came.next() else { break };
            match input {
                Input::Records { .. } | Input::End { .. } => self.records.time(|| machine.handle(input)),
                _ => machine.handle(input),
            }
        }
        if streamed {
            self.known = heard;
        }
        Turn::Said(said)
    }

    /// A control message goes over the line, as bytes.
    fn carry(&mut self, side: usize, message: &Message) -> Input {
        let frame = message.encode();
        self.line.send(side, frame.len());
        Input::Message(Message::decode(&frame).expect("what was sent is understood"))
    }
}

/// Whether answering reads or writes records rather than the tree.
fn is_about_records(query: &Query) -> bool {
    matches!(query, Query::Apply(..) | Query::Overwrite(..) | Query::Sync)
}

/// Either state machine.
enum Machine {
    Opener(Box<Opener>),
    Responder(Box<Responder>),
}

impl Machine {
    fn handle(&mut self, input: Input) {
        let result = match self {
            Machine::Opener(opener) => opener.handle(input, 0),
            Machine::Responder(responder) => responder.handle(input),
        };
        result.expect("both sides keep to the protocol, and the store answers what was asked");
    }

    fn poll(&mut self) -> Option<Output> {
        match self {
            Machine::Opener(opener) => opener.poll(),
            Machine::Responder(responder) => responder.poll(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::workload::{Plan, Shape};

    fn adapter(shape: Shape, records: usize, differences: usize) -> (Arc<Pair>, Adapter) {
        let pair = Arc::new(Pair::new(Plan { records, differences, shape, seed: 5 }, place));
        let mut adapter = unbuilt(pair.clone());
        adapter.build();
        (pair, adapter)
    }

    #[test]
    fn exactly_what_has_to_be_sent_is_sent_and_the_stores_are_as_before() {
        for shape in Shape::ALL {
            let (pair, mut adapter) = adapter(shape, 4000, 300);
            let before = adapter.stores.each_ref().map(|store| (store.root, store.sketches.clone()));
            let (first, again) = (adapter.reconcile(), adapter.reconcile());
            for (sent, truth) in first.sends.iter().zip(&pair.truth) {
                let set = |ids: &[Id]| ids.iter().copied().collect::<BTreeSet<Id>>();
                assert_eq!((sent.len(), set(sent)), (truth.len(), set(truth)), "{}", shape.name());
            }
            assert!(adapter.stores.each_ref().map(|store| (store.root, store.sketches.clone())) == before);
            assert_eq!((first.metadata, first.flights), (again.metadata, again.flights));
        }
    }

    #[test]
    fn equal_sets_cost_an_opening_an_answer_and_a_farewell() {
        let (_, mut adapter) = adapter(Shape::Scattered, 500, 0);
        let outcome = adapter.reconcile();
        assert_eq!(outcome.flights, 2);
        assert!(outcome.metadata <= 650, "{} bytes", outcome.metadata);
    }

    #[test]
    fn a_store_that_was_updated_equals_one_that_was_built() {
        let (pair, mut adapter) = adapter(Shape::Scattered, 3000, 0);
        let updates = pair.updates(50);
        for (old, new) in &updates {
            adapter.update(old, new);
        }
        let rows: Vec<Row> = adapter.stores[0].rows.iter().map(|(entry, kept)| (*entry, *kept)).collect();
        let mut built = Store::new(pair, adapter.keys.clone());
        built.build(&rows);
        assert_eq!((built.root, &built.nodes), (adapter.stores[0].root, &adapter.stores[0].nodes));
        assert!(built.sketches == adapter.stores[0].sketches && !built.sketches.is_empty());
        assert_ne!(built.root, adapter.stores[1].root);
    }
}
