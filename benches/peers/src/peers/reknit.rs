//! Reknit: an opener and a responder of `reknit-core` over two stores in memory, a repair of both sides.
//!
//! The store answers what a session asks and keeps the summaries and sketches of nodes; records themselves stay with the pair of
//! sets. What a repair wrote is taken back afterwards, outside of the time that is counted.
//!
//! Counted as metadata is every control message, from the opening to the last root and the farewell. Streams of records
//! are records, which no peer is charged for; neither is applying them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use reknit_core::message::{Life, Message, Rights};
use reknit_core::query::{
    Answer, Applied, Ask, Cut, Guard, Incoming, Item, Query, Recognition, Selection, Shape, VersionInfo, View,
};
use reknit_core::session::{Direction, Grant, Guards, Input, Intent, Opener, Options, Output, Responder, Verdict};
use reknit_core::sketch::{Element, KEPT_DEPTH_MAX, Sketch, cells_kept};
use reknit_core::tree::{self, Change, is_leaf};
use reknit_core::{
    Actor, Content, DatasetId, DatasetKey, Definition, Digest, Entry, Keys, Position, Profile, Range, Record, Sibling,
    Stamp, State, Summary, Version,
};

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

/// One side's store, in memory.
struct Store {
    pair: Arc<Pair>,
    keys: Arc<Keys>,
    commit: u64,
    root: Summary,
    rows: BTreeMap<Entry, Kept>,
    /// The children of each inner node.
    nodes: HashMap<Range, Box<[Summary; 16]>>,
    /// The cells of each range that keeps some.
    sketches: HashMap<Range, Sketch>,
    /// What a session applied and what is not yet in rows and tree: what was there, and what will be there.
    pending: HashMap<Vec<u8>, (Option<Row>, Option<Row>)>,
    /// What sessions replaced, to be taken back.
    written: Vec<(Option<Row>, Option<Row>)>,
}

impl Store {
    fn new(pair: Arc<Pair>, keys: Arc<Keys>) -> Store {
        let (rows, nodes, sketches) = Default::default();
        Store {
            pair,
            keys,
            commit: 1,
            root: Summary::EMPTY,
            rows,
            nodes,
            sketches,
            pending: HashMap::new(),
            written: Vec::new(),
        }
    }

    fn build(&mut self, ready: &[Row]) {
        self.rows = ready.iter().copied().collect();
        let entries: Vec<Entry> = ready.iter().map(|(entry, _)| *entry).collect();
        let mut nodes = HashMap::new();
        self.root = self.keys.build(Range::ALL, &entries, &mut |part, summary| put_node(&mut nodes, part, summary));
        self.nodes = nodes;
        self.sketches.clear();
        self.build_sketches(Range::ALL, &entries);
    }

    fn build_sketches(&mut self, range: Range, entries: &[Entry]) {
        let cells = cells_kept(range.depth(), entries.len() as u64);
        if cells > 0 {
            let mut sketch = Sketch::new(cells);
            entries.iter().for_each(|entry| sketch.add(Element::of(entry)));
            self.sketches.insert(range, sketch);
        }
        if range.depth() < KEPT_DEPTH_MAX {
            for same in entries.chunk_by(|a, b| range.digit(a.position) == range.digit(b.position)) {
                self.build_sketches(range.child(range.digit(same[0].position)), same);
            }
        }
    }

    fn cut(&self) -> Cut {
        Cut { commit: self.commit, roots: vec![self.root] }
    }

    fn answer(&mut self, query: Query) -> Answer {
        match query {
            Query::Cut | Query::Introduce => Answer::Cut(self.cut()),
            Query::Meet(..) => Answer::Met(self.cut(), Vec::new()),
            Query::Confirm(..) => Answer::Confirmed,
            Query::Recognise(..) => Answer::Recognised(Recognition::Same),
            Query::Views(_, asks) => Answer::Views(asks.iter().map(|ask| self.view(ask)).collect()),
            Query::Items(_, ranges) => {
                let within = |range: Range| self.within(range).map(|(_, record)| self.item(record));
                Answer::Items(sorted(ranges.into_iter().flat_map(within).collect()))
            }
            Query::Sketches(_, ranges, cells) => {
                Answer::Sketches(ranges.iter().map(|range| self.sketch(*range, cells)).collect())
            }
            Query::Rests(_, ranges) => {
                Answer::Rests(ranges.iter().map(|(range, parts)| self.rest(*range, parts)).collect())
            }
            Query::List(_, range, after) => self.list(range, after),
            Query::Apply(_, batch) => Answer::Applied(self.apply(batch)),
            Query::Overwrite(..) => unreachable!("only a mirror writes versions of its own"),
            Query::Sync => Answer::Synced,
        }
    }

    fn within(&self, range: Range) -> impl Iterator<Item = (&Entry, &Kept)> {
        let lowest = Entry { position: range.first(), digest: Digest::ZERO };
        let highest = Entry { position: range.last(), digest: Digest([255; 32]) };
        self.rows.range(lowest..=highest)
    }

    fn entries_of(&self, range: Range) -> Vec<Entry> {
        self.within(range).map(|(entry, _)| *entry).collect()
    }

    fn view(&self, ask: &Ask) -> View {
        let range = ask.range;
        let summary = self.summary(range);
        let shape = if summary.is_empty() {
            Shape::Empty
        } else if is_leaf(range, summary.count) {
            Shape::Leaf(self.entries_of(range))
        } else {
            Shape::Inner(self.parts(range, summary, ask.levels))
        };
        View { range, summary, shape }
    }

    /// The summary of any range, also below a leaf.
    fn summary(&self, range: Range) -> Summary {
        let Some(parent) = range.parent() else { return self.root };
        match self.nodes.get(&parent) {
            Some(children) => children[usize::from(parent.digit(range.first()))],
            None => self.keys.build(range, &self.entries_of(range), &mut |_, _| {}),
        }
    }

    /// The first cells that are kept of a range.
    fn sketch(&self, range: Range, cells: usize) -> Sketch {
        let kept = self.sketches.get(&range).map_or(&[][..], Sketch::cells);
        Sketch::from_cells(kept[..kept.len().min(cells)].to_vec())
    }

    /// What a range is worth without some parts.
    fn rest(&self, range: Range, parts: &[Range]) -> Summary {
        let Ok(rest) = tree::rest(&self.keys, self, range, self.summary(range), parts);
        rest
    }

    fn parts(&self, range: Range, summary: Summary, levels: u8) -> Vec<Summary> {
        match (levels, self.nodes.get(&range)) {
            (0, _) => vec![summary],
            (_, Some(children)) => {
                let below =
                    |(digit, child): (usize, &Summary)| self.parts(range.child(digit as u8), *child, levels - 1);
                children.iter().enumerate().flat_map(below).collect()
            }
            _ if summary.is_empty() => vec![Summary::EMPTY; 1 << (4 * levels)],
            (_, None) => (0..1 << (4 * levels)).map(|i| self.summary(range.descendant(levels, i))).collect(),
        }
    }

    fn item(&self, record: &Kept) -> Item {
        let value = self.pair.value(&record.key, record.version);
        let content = Some(self.keys.content(&value));
        let entry = entry(&self.keys, &self.pair, record);
        let info = VersionInfo { version: version(record), content, bytes: value.len() as u64, expires: None };
        let (position, digest) = (entry.position, Some(entry.digest));
        Item { position, key: record.key.to_vec(), digest, versions: vec![info], commit: 1 }
    }

    fn list(&self, range: Range, after: Option<(Position, Vec<u8>)>) -> Answer {
        let lowest = after.as_ref().map_or(range.first(), |(position, _)| *position);
        let highest = Entry { position: range.last(), digest: Digest([255; 32]) };
        let rows = self.rows.range(Entry { position: lowest, digest: Digest::ZERO }..=highest);
        let beyond = |record: &Kept, entry: &Entry| {
            after.as_ref().is_none_or(|(position, key)| (entry.position, &record.key[..]) > (*position, &key[..]))
        };
        let rest = rows.filter(|(entry, record)| beyond(record, entry));
        let mut items = sorted(rest.take(PAGE + 1).map(|(_, record)| self.item(record)).collect());
        let more = items.len() > PAGE;
        items.truncate(PAGE);
        let next = items.last().filter(|_| more).map(|item| (item.position, item.key.clone()));
        Answer::Listed(items, next)
    }

    /// The records of a stream, each with its guard, and its id if it travels with its content.
    fn stream(&self, selections: &[Selection], guards: &Guards) -> Vec<(Option<Id>, Incoming)> {
        assert_eq!(*guards, Guards::Join, "versioned records are joined");
        let (mut records, mut bare): (Vec<&Kept>, Vec<&Kept>) = Default::default();
        let named = |(position, short): &(Position, u64)| {
            let mut there = self.within(Range::of(*position, 16));
            there.find(|(entry, _)| entry.digest.short() == *short).expect("nothing moves while a session runs").1
        };
        for selection in selections {
            match selection {
                Selection::Range(range) => records.extend(self.within(*range).map(|(_, record)| record)),
                Selection::Elements(bits, elements) => records.extend(elements.iter().map(|element| {
                    let named = |(entry, _): &(&Entry, &Kept)| Element::of(entry).cut(*bits) == *element;
                    let mut found = self.within(element.range()).filter(named);
                    let record = found.next().expect("nothing moves while a session runs").1;
                    assert!(found.next().is_none(), "an element that tells two records");
                    record
                })),
                Selection::Versions { .. } => unreachable!("only the newest version is kept"),
                Selection::Bare(entries) => bare.extend(entries.iter().map(named)),
                Selection::Entries(entries) => records.extend(entries.iter().map(named)),
            }
        }
        let incoming = |record: &Kept, guard| Incoming { record: whole(&self.pair, record), guard };
        let id = |record: &Kept| self.pair.id(&record.key, record.version);
        let records = records.into_iter().map(|record| (Some(id(record)), incoming(record, Guard::Join)));
        records.chain(bare.into_iter().map(|record| (None, incoming(record, Guard::Bare)))).collect()
    }

    fn apply(&mut self, batch: Vec<Incoming>) -> Applied {
        let size = batch.len() as u64;
        let (mut applied, mut moved) = (0, 0);
        for Incoming { record: Record { key, state }, guard } in batch {
            // No two versions of a key have one content: what seemed the same was not.
            if guard == Guard::Bare {
                moved += 1;
                continue;
            }
            if self.pending.contains_key(&key) {
                self.settle();
            }
            let version = &state.winner().version;
            let replaces = version.seen.seen(Actor(1)).map_or(0, |stamp| stamp.0);
            let own = key.as_slice().try_into().expect("keys of the workload have one length");
            let new = Kept { key: own, version: version.stamp.0, replaces };
            let after = entry(&self.keys, &self.pair, &new);
            let there = |(_, record): &(&Entry, &Kept)| record.key == new.key;
            let old = self.within(Range::of(after.position, 16)).find(there).map(|(entry, record)| (*entry, *record));
            if old.is_none_or(|(_, old)| old.version < new.version) {
                applied += 1;
                self.pending.insert(key, (old, Some((after, new))));
            }
        }
        self.commit += u64::from(applied > 0);
        Applied { applied, moved, kept: size - applied - moved, commit: self.commit, ..Applied::default() }
    }

    /// Replaces rows, and lays the change over the tree.
    fn replace(&mut self, rows: Vec<(Option<Row>, Option<Row>)>) {
        let change = |(before, after): &(Option<Row>, Option<Row>)| {
            let position = after.or(*before).expect("something changes").0.position;
            let digest = |row: &Option<Row>| row.map(|(entry, _)| entry.digest);
            Change { position, before: digest(before), after: digest(after) }
        };
        let changes = rows.iter().map(change).collect();
        let update = tree::update(&self.keys, &*self, self.root, changes).expect("tree and rows agree");
        self.root = update.root;
        for (part, summary) in update.nodes {
            put_node(&mut self.nodes, part, summary.unwrap_or(Summary::EMPTY));
        }
        for (before, after) in &rows {
            before.map(|(entry, _)| self.rows.remove(&entry));
            after.map(|(entry, kept)| self.rows.insert(entry, kept));
        }
        self.update_sketches(&rows);
    }

    /// Lays changes over the sketches; a range whose count calls for another number of cells is summed anew, and so is
    /// everything if much has changed.
    fn update_sketches(&mut self, rows: &[(Option<Row>, Option<Row>)]) {
        if rows.len() > self.rows.len() / 8 {
            let entries: Vec<Entry> = self.rows.keys().copied().collect();
            self.sketches.clear();
            return self.build_sketches(Range::ALL, &entries);
        }
        let changes = rows.iter().flat_map(|(before, after)| [(before, -1), (after, 1)]);
        let changes: Vec<(Entry, i64)> = changes.filter_map(|(row, sign)| Some((row.as_ref()?.0, sign))).collect();
        for depth in 0..=KEPT_DEPTH_MAX {
            for (entry, sign) in &changes {
                let range = Range::of(entry.position, depth);
                let kept = cells_kept(depth, self.summary(range).count);
                let sketch = self.sketches.get_mut(&range);
                match sketch {
                    Some(sketch) if sketch.cells().len() == kept => sketch.lay(Element::of(entry), *sign),
                    None if kept == 0 => {}
                    _ => {
                        self.sketches.remove(&range);
                    }
                }
            }
            let ranges: BTreeSet<Range> = changes.iter().map(|(entry, _)| Range::of(entry.position, depth)).collect();
            for range in ranges {
                let kept = cells_kept(depth, self.summary(range).count);
                if kept > 0 && !self.sketches.contains_key(&range) {
                    let mut sketch = Sketch::new(kept);
                    self.within(range).for_each(|(entry, _)| sketch.add(Element::of(entry)));
                    self.sketches.insert(range, sketch);
                }
            }
        }
    }

    /// Writes what was applied, in one batch.
    fn settle(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            let rows: Vec<(Option<Row>, Option<Row>)> = pending.into_values().collect();
            self.written.extend(rows.iter().copied());
            self.replace(rows);
        }
    }

    /// Undoes what sessions wrote.
    fn take_back(&mut self) {
        self.settle();
        let written = std::mem::take(&mut self.written);
        self.replace(written.into_iter().map(|(before, after)| (after, before)).collect());
        self.commit = 1;
    }
}

impl tree::Nodes for Store {
    type Error = Infallible;

    fn children(&self, range: Range) -> Result<[Summary; 16], Infallible> {
        Ok(**self.nodes.get(&range).expect("an inner node has children"))
    }

    fn entries(&self, range: Range) -> Result<Vec<Entry>, Infallible> {
        Ok(self.entries_of(range))
    }
}

/// Keeps a summary with its parent; a parent without children is no inner node any more.
fn put_node(nodes: &mut HashMap<Range, Box<[Summary; 16]>>, part: Range, summary: Summary) {
    let parent = part.parent().expect("the root is kept apart");
    let children = nodes.entry(parent).or_insert_with(|| Box::new([Summary::EMPTY; 16]));
    children[usize::from(parent.digit(part.first()))] = summary;
    if children.iter().all(Summary::is_empty) {
        nodes.remove(&parent);
    }
}

fn sorted(mut items: Vec<Item>) -> Vec<Item> {
    items.sort_by(|a, b| (a.position, &a.key).cmp(&(b.position, &b.key)));
    items
}

#[cfg(test)]
mod tests {
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
