//! The core alone: two sessions in one thread over maps in memory. No runtime, no socket, no disk.
//!
//! `cargo run --example bring_your_own_io`

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use reknit_core::message::{Life, Rights};
use reknit_core::query::{Answer, Ask, Cut, Item, Query, Raising, Recognition, Shape, VersionInfo, View};
use reknit_core::session::{Grant, Input, Intent, Opener, Options, Output, Responder};
use reknit_core::sketch::Sketch;
use reknit_core::tree::is_leaf;
use reknit_core::{
    Actor, Content, DatasetId, DatasetKey, Definition, Entry, Keys, Range, Record, Sibling, Stamp, State, Version,
};

/// A side of your own: anything that can answer these questions.
struct Map {
    keys: Arc<Keys>,
    entries: BTreeMap<Entry, Record>,
}

impl Map {
    fn new(keys: &Arc<Keys>, words: &[&str]) -> Map {
        let record = |word: &&str| {
            let version = Version::after(Stamp::at(1), Actor(1), []);
            let sibling = Sibling { version, content: Content::Live(b"a value".to_vec()), expires: None };
            let record = Record { key: word.as_bytes().to_vec(), state: State::single(sibling) };
            let digest = keys.entry(reknit_core::Profile::Versioned, "default", &record).expect("versioned");
            (Entry { position: keys.position("default", &record.key), digest }, record)
        };
        Map { keys: keys.clone(), entries: words.iter().map(record).collect() }
    }

    fn within(&self, range: Range) -> Vec<Entry> {
        self.entries.keys().filter(|entry| range.contains(entry.position)).copied().collect()
    }

    fn view(&self, Ask { range, levels }: Ask) -> View {
        let entries = self.within(range);
        let sum = |range, entries: &[Entry]| self.keys.build(range, entries, &mut |_, _| {});
        let summary = sum(range, &entries);
        let part = |i| sum(range.descendant(levels, i), &self.within(range.descendant(levels, i)));
        let shape = match is_leaf(range, summary.count) {
            true => Shape::Leaf(entries),
            false => Shape::Inner((0..1usize << (4 * levels)).map(part).collect()),
        };
        View { range, summary, shape }
    }

    fn item(&self, entry: &Entry) -> Item {
        let record = &self.entries[entry];
        let version = record.state.winner().version.clone();
        let content = record.state.value().map(|value| self.keys.content(value));
        let versions = vec![VersionInfo { version, content, bytes: 0, expires: None }];
        Item { position: entry.position, key: record.key.clone(), digest: Some(entry.digest), versions, commit: 0 }
    }

    fn cut(&self) -> Cut {
        let root = self.keys.build(Range::ALL, &self.within(Range::ALL), &mut |_, _| {});
        Cut {
            commit: 0,
            stamp: Default::default(),
            horizon: Default::default(),
            undone: 0,
            watermark: 0,
            roots: vec![root],
        }
    }

    fn answer(&self, query: Query) -> Answer {
        let items = |range| self.within(range).iter().map(|entry| self.item(entry)).collect::<Vec<_>>();
        match query {
            // Nothing expires here.
            Query::Cut | Query::Introduce | Query::Expire(_) => Answer::Cut(self.cut()),
            // A store that is never restored or copied remembers nobody.
            Query::Meet(..) => Answer::Met(self.cut(), Vec::new()),
            Query::Confirm(..) => Answer::Confirmed(true),
            Query::Recognise(..) => Answer::Recognised(Recognition::Same),
            Query::Horizon => Answer::Horizon(Default::default()),
            Query::Raise(_) => Answer::Raised(Raising::Refused),
            Query::Views(_, asks) => Answer::Views(asks.into_iter().map(|ask| self.view(ask)).collect()),
            Query::Items(_, ranges) => Answer::Items(ranges.into_iter().flat_map(items).collect()),
            // A store need not keep sketches: then differences are found by comparing ranges alone.
            Query::Sketches(_, ranges, _) => Answer::Sketches(vec![Sketch::default(); ranges.len()]),
            Query::Rests(_, ranges) => {
                let left = |range, parts: &[Range]| {
                    let mut entries = self.within(range);
                    entries.retain(|entry| !parts.iter().any(|part| part.contains(entry.position)));
                    self.keys.build(range, &entries, &mut |_, _| {})
                };
                Answer::Rests(ranges.iter().map(|(range, parts)| left(*range, parts)).collect())
            }
            Query::List(_, range, _) => Answer::Listed(items(range), None),
            other => unreachable!("a diff never asks to write: {other:?}"),
        }
    }
}

fn main() {
    let definition = Arc::new(Definition::simple(DatasetId([1; 16]), "words"));
    let keys = Arc::new(Keys::new(&DatasetKey::from_bytes([2; 32])));
    let here = Map::new(&keys, &["apple", "pear", "plum"]);
    let there = Map::new(&keys, &["apple", "plum", "quince"]);
    let life = |n| Life { actor: n, nonce: n };
    let mut now = 0;
    let mut opener = Opener::new(definition.clone(), keys.clone(), life(1), Options::new(Intent::Diff), now);
    let mut responder = Responder::new(definition, keys, life(2), Grant::everywhere(Rights::COMPARE));
    let (mut to_opener, mut to_responder) = (VecDeque::new(), VecDeque::new());
    loop {
        match opener.poll() {
            Some(Output::Send(message)) => to_responder.push_back(message),
            Some(Output::Ask(query)) => opener.handle(Input::Answer(here.answer(query)), now).expect("in order"),
            Some(Output::Found(found)) => println!("{:?} {}", found.kind, String::from_utf8_lossy(&found.key)),
            Some(Output::Planned(plan)) => println!("({plan})"),
            Some(Output::Done(outcome)) => return println!("{}", outcome.verdict.name()),
            Some(Output::Stream { .. }) => unreachable!("a diff moves nothing"),
            None => match responder.poll() {
                Some(Output::Send(message)) => to_opener.push_back(message),
                Some(Output::Ask(query)) => responder.handle(Input::Answer(there.answer(query))).expect("in order"),
                _ => {
                    if let Some(message) = to_responder.pop_front() {
                        responder.handle(Input::Message(message)).expect("the protocol is kept");
                    } else if let Some(message) = to_opener.pop_front() {
                        opener.handle(Input::Message(message), now).expect("the protocol is kept");
                    } else {
                        // Nothing to carry: let the time pass that differences need to settle.
                        now = opener.wake_at().expect("it waits for the time");
                        opener.handle(Input::Time, now).expect("time passes");
                    }
                }
            },
        }
    }
}
