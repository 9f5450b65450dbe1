//! One side's store in memory: answers what a session asks, keeps summaries and sketches, takes back what was written.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use reknit_core::query::{
    Answer, Applied, Ask, Cut, Guard, Incoming, Item, Query, Raising, Recognition, Selection, Shape, VersionInfo, View,
};
use reknit_core::session::Guards;
use reknit_core::sketch::{self, Element, Falls, KEPT_DEPTH_MAX, Sketch, cells_kept};
use reknit_core::tree::{self, Change, is_leaf};
use reknit_core::{Actor, Digest, Entry, Keys, Position, Range, Record, Summary};

use super::{Kept, PAGE, Row, entry, version, whole};
use crate::workload::{Id, Pair};

/// One side's store, in memory.
pub(super) struct Store {
    pair: Arc<Pair>,
    keys: Arc<Keys>,
    commit: u64,
    pub(super) root: Summary,
    pub(super) rows: BTreeMap<Entry, Kept>,
    /// The children of each inner node.
    pub(super) nodes: ByRange<Box<[Summary; 16]>>,
    /// The cells of each range that keeps some.
    pub(super) sketches: ByRange<Sketch>,
    /// What a session applied and what is not yet in rows and tree: what was there, and what will be there.
    pub(super) pending: HashMap<Vec<u8>, (Option<Row>, Option<Row>)>,
    /// What sessions replaced, to be taken back.
    written: Vec<(Option<Row>, Option<Row>)>,
}

impl Store {
    pub(super) fn new(pair: Arc<Pair>, keys: Arc<Keys>) -> Store {
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

    pub(super) fn build(&mut self, ready: &[Row]) {
        self.rows = ready.iter().copied().collect();
        let entries: Vec<Entry> = ready.iter().map(|(entry, _)| *entry).collect();
        let mut nodes = ByRange::default();
        self.root = self.keys.build(Range::ALL, &entries, &mut |part, summary| put_node(&mut nodes, part, summary));
        self.nodes = nodes;
        self.build_sketches(&entries);
    }

    fn build_sketches(&mut self, entries: &[Entry]) {
        self.sketches.clear();
        let elements: Vec<(Element, i64)> = entries.iter().map(|entry| (Element::of(entry), 1)).collect();
        sketch::build(Range::ALL, &elements, &mut Sketch::default(), &cells_kept, &mut |range, _, kept| {
            self.sketches.insert(range, kept);
        });
    }

    fn cut(&self) -> Cut {
        Cut {
            commit: self.commit,
            stamp: Default::default(),
            horizon: Default::default(),
            undone: 0,
            watermark: 0,
            roots: vec![self.root],
        }
    }

    pub(super) fn answer(&mut self, query: Query) -> Answer {
        match query {
            Query::Cut | Query::Expire(_) | Query::Introduce => Answer::Cut(self.cut()),
            Query::Meet(..) => Answer::Met(self.cut(), Vec::new()),
            Query::Confirm(..) => Answer::Confirmed(true),
            Query::Recognise(..) => Answer::Recognised(Recognition::Same),
            Query::Horizon => Answer::Horizon(Default::default()),
            Query::Raise(_) => Answer::Raised(Raising::Refused),
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

    /// Entries of any range.
    fn count(&self, range: Range) -> u64 {
        let Some(parent) = range.parent() else { return self.root.count };
        match self.nodes.get(&parent) {
            Some(children) => children[usize::from(parent.digit(range.first()))].count,
            None => self.within(range).count() as u64,
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
    pub(super) fn stream(&self, selections: &[Selection], guards: &Guards) -> Vec<(Option<Id>, Incoming)> {
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
    pub(super) fn replace(&mut self, rows: Vec<(Option<Row>, Option<Row>)>) {
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

    /// Lays changes over the sketches, or sums everything anew if much has changed.
    fn update_sketches(&mut self, rows: &[(Option<Row>, Option<Row>)]) {
        if rows.len() > self.rows.len() / 8 {
            let entries: Vec<Entry> = self.rows.keys().copied().collect();
            return self.build_sketches(&entries);
        }
        let moves = rows.iter().flat_map(|(before, after)| [(before, -1), (after, 1)]);
        let moves = moves.filter_map(|(row, count)| Some((Element::of(&row.as_ref()?.0), count)));
        let mut moves: Vec<(Element, i64)> = moves.collect();
        moves.sort_unstable();
        let falls = Falls::new(&moves, cells_kept(0, self.root.count));
        for depth in 0..=KEPT_DEPTH_MAX {
            let range = |(element, _): &(Element, i64)| Range::of(Position(element.0), depth);
            let mut start = 0;
            for same in moves.chunk_by(|a, b| range(a) == range(b)) {
                let end = start + same.len();
                self.update_sketch(range(&same[0]), &falls, start..end);
                start = end;
            }
        }
    }

    /// Lays some of the falls over the sketch of a range, or sums it anew if its count calls for another number of cells.
    fn update_sketch(&mut self, range: Range, falls: &Falls, of: std::ops::Range<usize>) {
        let kept = cells_kept(range.depth(), self.count(range));
        match self.sketches.get_mut(&range) {
            Some(sketch) if sketch.cells().len() == kept => sketch.lay_falls(falls, of),
            None if kept == 0 => {}
            _ if kept == 0 => {
                self.sketches.remove(&range);
            }
            _ => {
                let mut sketch = Sketch::new(kept);
                self.within(range).for_each(|(entry, _)| sketch.add(Element::of(entry)));
                self.sketches.insert(range, sketch);
            }
        }
    }

    /// Writes what was applied, in one batch.
    pub(super) fn settle(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            let rows: Vec<(Option<Row>, Option<Row>)> = pending.into_values().collect();
            self.written.extend(rows.iter().copied());
            self.replace(rows);
        }
    }

    /// Undoes what sessions wrote.
    pub(super) fn take_back(&mut self) {
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

/// Ranges need no hash that guards against chosen keys: their prefixes are those of keyed hashes.
type ByRange<T> = HashMap<Range, T, BuildHasherDefault<RangeHasher>>;

/// Spreads the prefix of a range, whose lower bits are zero, over all bits.
#[derive(Default)]
pub(super) struct RangeHasher(u64);

impl Hasher for RangeHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        let wide = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = wide as u64 ^ (wide >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Keeps a summary with its parent; a parent without children is no inner node any more.
fn put_node(nodes: &mut ByRange<Box<[Summary; 16]>>, part: Range, summary: Summary) {
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
