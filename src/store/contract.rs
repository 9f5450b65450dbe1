//! What every [`Side`] must do, as functions that panic where it does not.
//! They use the contract alone, so that one suite serves every store; crashes and commands are tested elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use reknit_core::bounds::{KEY_BYTES_MAX, LEVELS_MAX};
use reknit_core::query::{Ask, Guard, Incoming, Item, Selection, Shape};
use reknit_core::range::DEPTH_MAX;
use reknit_core::record::Dot;
use reknit_core::sketch::{Element, Sketch, cells_kept};
use reknit_core::tree::{Summary, is_leaf};
use reknit_core::{
    Actor, CollectionId, Content, Digest, Entry, Keeps, Position, Profile, Range, Record, Sibling, Stamp, State,
    Version,
};

use super::engine::conformance::Draw;
use super::{Durability, Side, StoreError};

const FIRST: CollectionId = CollectionId(0);

/// Makes an empty side of a dataset, which may be the same each time, whose clock stands between 1,000 s after the epoch and the
/// year 3000.
pub type Make<'a> = &'a mut dyn FnMut() -> Arc<dyn Side>;

/// All checks of a store; `seed` draws a history of `batches` batches of up to 120 records, after each of which every answer is
/// compared with what the records make: 16 of them take about a second in a debug build.
///
/// # Panics
/// Where the store breaks its contract, with the seed, the batch and what it should have answered.
pub fn run(make: Make<'_>, seed: u64, batches: usize) {
    empty(&*make());
    refusals(&*make());
    match make().describe().definition.keeps(FIRST) {
        Keeps::Newest => guards(&*make()),
        Keeps::All => siblings(&*make()),
    }
    histories(&*make(), seed, batches);
}

/// A record of one version.
#[must_use]
pub fn record(key: &[u8], stamp: u64, actor: u64, value: Option<&[u8]>) -> Record {
    let version = Version::after(Stamp(stamp), Actor(actor), []);
    let content = value.map_or(Content::Tombstone, |value| Content::Live(value.to_vec()));
    Record { key: key.to_vec(), state: State::single(Sibling { version, content, expires: None }) }
}

fn joined(record: Record) -> Incoming {
    Incoming { record, guard: Guard::Join }
}

fn empty(side: &dyn Side) {
    let info = side.describe();
    let cut = side.cut().expect("cut");
    assert_eq!(cut.roots, vec![Summary::EMPTY; info.definition.collections.len()]);
    let views = side.view(FIRST, &[Ask { range: Range::ALL, levels: 1 }]).expect("view");
    assert_eq!((views.len(), views[0].summary, &views[0].shape), (1, Summary::EMPTY, &Shape::Empty));
    assert_eq!(side.items(FIRST, &[Range::of(Position(7), DEPTH_MAX)]).expect("items"), vec![]);
    let page = side.read(FIRST, &Selection::Range(Range::ALL), None, 100).expect("read");
    assert!(page.records.is_empty() && page.next.is_none());
    assert_eq!(side.list(FIRST, Range::ALL, None, 10).expect("list"), (vec![], None));
    let applied = side.apply(FIRST, vec![], Durability::Synced).expect("apply");
    assert_eq!((applied.applied, applied.commit), (0, cut.commit), "nothing written is no commit");
}

fn refusals(side: &dyn Side) {
    let nowhere = CollectionId(u16::MAX);
    assert!(matches!(side.items(nowhere, &[]), Err(StoreError::NoCollection { .. })));
    assert!(matches!(side.apply(nowhere, vec![], Durability::Synced), Err(StoreError::NoCollection { .. })));
    let deep = Ask { range: Range::ALL, levels: LEVELS_MAX + 1 };
    assert!(matches!(side.view(FIRST, &[deep]), Err(StoreError::Bound { .. })));
    let before = side.cut().expect("cut");
    let bad = vec![
        joined(record(b"future", u64::MAX, 1, Some(b"x"))),
        joined(record(&vec![1; KEY_BYTES_MAX + 1], 5, 1, Some(b"x"))),
    ];
    let applied = side.apply(FIRST, bad, Durability::Synced).expect("apply");
    assert_eq!((applied.applied, applied.refused.len()), (0, 2));
    assert!(applied.refused[0].1.contains("ahead"), "{:?}", applied.refused[0].1);
    assert!(applied.refused[1].1.contains("65536"), "{:?}", applied.refused[1].1);
    assert_eq!(side.cut().expect("cut"), before);
}

fn guards(side: &dyn Side) {
    let info = side.describe();
    let name = &info.definition.collections[0].name;
    let digest = |record: &Record| info.keys.entry(info.definition.profile, name, record);
    let (old, new, other) =
        (record(b"k", 5, 1, Some(b"old")), record(b"k", 9, 2, Some(b"new")), record(b"k", 7, 3, Some(b"other")));
    let guarded = |record: &Record, guard| vec![Incoming { record: record.clone(), guard }];
    let apply = |batch| side.apply(FIRST, batch, Durability::Synced).expect("apply");
    let fate = |batch| {
        let applied = apply(batch);
        (applied.applied, applied.kept, applied.moved)
    };
    assert_eq!(fate(guarded(&new, Guard::IfShort(digest(&old).map(|d| d.short())))), (0, 0, 1), "nothing is there");
    assert_eq!(fate(guarded(&old, Guard::IfShort(None))), (1, 0, 0));
    assert_eq!(fate(guarded(&other, Guard::IfShort(None))), (0, 0, 1), "something is there now");
    assert_eq!(fate(guarded(&old, Guard::Join)), (0, 1, 0), "it is there already");
    assert_eq!(fate(guarded(&new, Guard::Join)), (1, 0, 0));
    assert_eq!(fate(guarded(&other, Guard::Join)), (0, 1, 0), "what is there is newer");
    assert_eq!(
        fate(guarded(&other, Guard::IfShort(digest(&new).map(|d| d.short())))),
        (1, 0, 0),
        "a guard that holds replaces"
    );
    let two = [guarded(&new, Guard::Join), guarded(&old, Guard::IfShort(digest(&new).map(|d| d.short())))].concat();
    assert_eq!(fate(two), (2, 0, 0), "a batch is decided in order");
    let bare = |record: &Record| {
        let mut bare = record.clone();
        bare.strip(&info.keys);
        guarded(&bare, Guard::Bare)
    };
    let renewed = self::record(b"k", 10, 2, Some(b"old"));
    assert_eq!(fate(bare(&self::record(b"k", 11, 2, Some(b"elsewhere")))), (0, 0, 1), "its content is not here");
    assert_eq!(fate(bare(&renewed)), (1, 0, 0), "its content is here under another version");
    assert_eq!(fate(bare(&self::record(b"n", 10, 2, Some(b"old")))), (0, 0, 1), "of another key");
    let position = info.keys.position(name, b"k");
    let place = Range::of(position, DEPTH_MAX);
    let items = side.items(FIRST, &[place, place]).expect("items");
    assert_eq!(items.len(), 1);
    assert_eq!((items[0].digest, items[0].commit), (digest(&renewed), side.cut().expect("cut").commit));
    side.sync().expect("sync");
}

/// Versions that have not seen each other stay side by side, until one comes that has seen them.
fn siblings(side: &dyn Side) {
    let apply = |record: &Record, guard| {
        let batch = vec![Incoming { record: record.clone(), guard }];
        let applied = side.apply(FIRST, batch, Durability::Synced).expect("apply");
        (applied.applied, applied.kept, applied.moved)
    };
    let place =
        Range::of(side.describe().keys.position(&side.describe().definition.collections[0].name, b"k"), DEPTH_MAX);
    let stamps = || -> Vec<u64> {
        let items = side.items(FIRST, &[place]).expect("items");
        items[0].versions.iter().map(|info| info.version.stamp.0).collect()
    };
    let (one, two) = (record(b"k", 5, 1, Some(b"one")), record(b"k", 9, 2, Some(b"two")));
    assert_eq!(apply(&two, Guard::Join), (1, 0, 0));
    assert_eq!(apply(&one, Guard::Join), (1, 0, 0), "older, and nobody has seen it");
    assert_eq!((apply(&one, Guard::Join), stamps()), ((0, 1, 0), vec![9, 5]));
    let mut after = record(b"k", 6, 3, Some(b"one"));
    let seen = Version::after(Stamp(6), Actor(3), [&two.state.winner().version]);
    after.state = State::single(Sibling { version: seen, ..after.state.winner().clone() });
    after.strip(&side.describe().keys);
    assert_eq!(apply(&after, Guard::Bare), (1, 0, 0), "what it brings is the content of another");
    assert_eq!(stamps(), [6, 5], "what has seen the newest replaces it, whatever the clocks say");
    assert_eq!((apply(&two, Guard::Join), stamps()), ((0, 1, 0), vec![6, 5]));
}

fn histories(side: &dyn Side, seed: u64, batches: usize) {
    let mut draw = Draw(seed);
    let mut model: BTreeMap<Vec<u8>, State> = BTreeMap::new();
    let mut commit = side.cut().expect("cut").commit;
    for nth in 0..batches {
        let note = format!("seed {seed} batch {nth}");
        let size = draw.below(if nth % 4 == 0 { 120 } else { 12 });
        let mut batch = Vec::new();
        let mut applied = 0;
        for _ in 0..size {
            let record = drawn(&mut draw);
            let next = match model.get(&record.key) {
                Some(mine) => mine.join(&record.state, side.describe().definition.keeps(FIRST), &side.describe().keys),
                None => record.state.clone(),
            };
            if model.get(&record.key) != Some(&next) {
                applied += 1;
                model.insert(record.key.clone(), next);
            }
            batch.push(joined(record));
        }
        let durability = if draw.below(2) == 0 { Durability::Synced } else { Durability::Buffered };
        let done = side.apply(FIRST, batch, durability).expect("apply");
        assert_eq!((done.applied, done.kept), (applied, size as u64 - applied), "{note}");
        assert!(done.commit > commit || (applied == 0 && done.commit == commit), "{note}: the commit number");
        commit = done.commit;
        compare(side, &model, &mut draw, &note);
    }
}

fn drawn(draw: &mut Draw) -> Record {
    let key = format!("key {}", draw.below(300)).into_bytes();
    let len = draw.below(40);
    let value = draw.bytes(len);
    let value = (draw.below(4) > 0).then_some(value.as_slice());
    // A stamp and an actor name one write, so they also decide what it wrote: the key is in its value's place.
    record(&key, draw.bits() >> 30, 1 + draw.bits(), value)
}

/// Compares every answer with what the records of the model make.
fn compare(side: &dyn Side, model: &BTreeMap<Vec<u8>, State>, draw: &mut Draw, note: &str) {
    let info = side.describe();
    let (keys, profile) = (&info.keys, info.definition.profile);
    let name = &info.definition.collections[0].name;
    let mut records: Vec<(Position, Record)> = model
        .iter()
        .map(|(key, state)| (keys.position(name, key), Record { key: key.clone(), state: state.clone() }))
        .collect();
    records.sort_by(|a, b| (a.0, &a.1.key).cmp(&(b.0, &b.1.key)));
    let digest = |record: &Record| keys.entry(profile, name, record);
    let mut entries: Vec<Entry> = records
        .iter()
        .filter_map(|(position, record)| Some(Entry { position: *position, digest: digest(record)? }))
        .collect();
    entries.sort_unstable();
    let inside = |range: Range| -> Vec<Entry> {
        entries.iter().filter(|entry| range.contains(entry.position)).copied().collect()
    };
    let worth = |range: Range| keys.build(range, &inside(range), &mut |_, _| ());

    assert_eq!(side.cut().expect("cut").roots[0], worth(Range::ALL), "{note}: the root");

    let mut asks = vec![Ask { range: Range::ALL, levels: LEVELS_MAX }];
    for _ in 0..6 {
        let near = if entries.is_empty() { Position(draw.bits()) } else { entries[draw.below(entries.len())].position };
        let depth = u8::try_from(draw.below(6)).unwrap_or(0);
        let levels = u8::try_from(draw.below(usize::from(LEVELS_MAX) + 1)).unwrap_or(0);
        asks.push(Ask { range: Range::of(near, depth), levels });
    }
    asks.push(Ask { range: Range::of(Position(draw.bits()), DEPTH_MAX), levels: 0 });
    let views = side.view(FIRST, &asks).expect("view");
    assert_eq!(views.len(), asks.len());
    for (ask, view) in asks.iter().zip(&views) {
        let mine = inside(ask.range);
        let shape = if mine.is_empty() {
            Shape::Empty
        } else if is_leaf(ask.range, mine.len() as u64) {
            Shape::Leaf(mine)
        } else {
            Shape::Inner((0..1 << (4 * ask.levels)).map(|i| worth(ask.range.descendant(ask.levels, i))).collect())
        };
        assert_eq!((view.range, view.summary), (ask.range, worth(ask.range)), "{note}: {ask:?}");
        assert_eq!(view.shape, shape, "{note}: {ask:?}");
    }

    sketched(side, &entries, draw, note);
    rested(side, &entries, draw, note);
    listed(side, &records, draw, note);
    read(side, &records, &digest, draw, note);
    named(side, &records, draw, note);
    if profile == Profile::Versioned {
        moved(side, &records, &digest, note);
    }
}

/// A range near an entry.
fn near(entries: &[Entry], draw: &mut Draw, depths: usize) -> Range {
    let position = if entries.is_empty() { Position(draw.bits()) } else { entries[draw.below(entries.len())].position };
    Range::of(position, u8::try_from(draw.below(depths)).unwrap_or(0))
}

/// A store may keep fewer cells than it should, or none; those that it gives are the sums of its entries.
fn sketched(side: &dyn Side, entries: &[Entry], draw: &mut Draw, note: &str) {
    let mut ranges = vec![Range::ALL];
    ranges.extend((0..6).map(|_| near(entries, draw, 5)));
    let cells = draw.below(100);
    let sketches = side.sketches(FIRST, &ranges, cells).expect("sketches");
    assert_eq!(sketches.len(), ranges.len(), "{note}");
    for (range, sketch) in ranges.iter().zip(sketches) {
        let inside: Vec<&Entry> = entries.iter().filter(|entry| range.contains(entry.position)).collect();
        let kept = cells_kept(range.depth(), inside.len() as u64).min(cells);
        assert!(sketch.cells().len() <= kept, "{note}: {range} has {} cells", sketch.cells().len());
        let mut should = Sketch::new(sketch.cells().len());
        inside.into_iter().for_each(|entry| should.add(Element::of(entry)));
        assert_eq!(sketch, should, "{note}: the sketch of {range}");
    }
}

/// What is left of a range without some parts is what a tree of the other entries is worth.
fn rested(side: &dyn Side, entries: &[Entry], draw: &mut Draw, note: &str) {
    let keys = side.describe().keys;
    let mut asked = Vec::new();
    for _ in 0..4 {
        let range = near(entries, draw, 3);
        let mut parts: Vec<Range> =
            (0..draw.below(5)).map(|_| near(entries, draw, 17)).filter(|part| range.covers(*part)).collect();
        parts.sort_unstable_by_key(|part| (part.first(), part.depth()));
        parts.dedup_by(|later, earlier| earlier.covers(*later));
        asked.push((range, parts));
    }
    let rests = side.rests(FIRST, &asked).expect("rests");
    assert_eq!(rests.len(), asked.len(), "{note}");
    for ((range, parts), rest) in asked.iter().zip(rests) {
        let left =
            |entry: &&Entry| range.contains(entry.position) && !parts.iter().any(|part| part.contains(entry.position));
        let left: Vec<Entry> = entries.iter().filter(left).copied().collect();
        assert_eq!(rest, keys.build(*range, &left, &mut |_, _| ()), "{note}: the rest of {range} without {parts:?}");
    }
}

fn listed(side: &dyn Side, records: &[(Position, Record)], draw: &mut Draw, note: &str) {
    let range = Range::of(Position(draw.bits()), u8::try_from(draw.below(2)).unwrap_or(0));
    let mut items: Vec<Item> = Vec::new();
    let mut after = None;
    loop {
        let limit = 1 + draw.below(40);
        let (page, next) = side.list(FIRST, range, after, limit).expect("list");
        assert!(page.len() <= limit && (next.is_none() || !page.is_empty()), "{note}: a page of items");
        items.extend(page);
        after = next;
        if after.is_none() {
            break;
        }
    }
    let mine: Vec<&(Position, Record)> = records.iter().filter(|(position, _)| range.contains(*position)).collect();
    assert_eq!(items.len(), mine.len(), "{note}: items of {range}");
    for (item, (position, record)) in items.iter().zip(mine) {
        assert_eq!((item.position, &item.key), (*position, &record.key), "{note}");
        let found: Vec<&Version> = item.versions.iter().map(|info| &info.version).collect();
        let held: Vec<&Version> = record.state.versions().iter().map(|sibling| &sibling.version).collect();
        assert_eq!(found, held, "{note}");
    }
}

fn read(
    side: &dyn Side,
    records: &[(Position, Record)],
    digest: &dyn Fn(&Record) -> Option<Digest>,
    draw: &mut Draw,
    note: &str,
) {
    let range = Range::of(Position(draw.bits()), u8::try_from(draw.below(2)).unwrap_or(0));
    let chosen: Vec<&(Position, Record)> = records.iter().filter(|_| draw.below(3) == 0).collect();
    let entries = chosen.iter().filter_map(|(position, record)| Some((*position, digest(record)?.short()))).collect();
    let held: Vec<&Record> = chosen.iter().filter(|(_, r)| digest(r).is_some()).map(|(_, record)| record).collect();
    let in_range: Vec<&Record> = records.iter().filter(|(p, _)| range.contains(*p)).map(|(_, record)| record).collect();
    for (what, should) in [(Selection::Range(range), in_range), (Selection::Entries(entries), held)] {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = side.read(FIRST, &what, after, 1 + draw.below(400)).expect("read");
            assert!(page.next.is_none() || !page.records.is_empty(), "{note}: a page goes on");
            assert_eq!(page.moved, 0, "{note}");
            found.extend(page.records);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found.iter().collect::<Vec<_>>(), should, "{note}: {what:?}");
    }
}

/// Versions are read by their names; a record of which none is there is counted once, whatever the pages.
fn named(side: &dyn Side, records: &[(Position, Record)], draw: &mut Draw, note: &str) {
    let (mut of, mut should, mut gone) = (Vec::new(), Vec::new(), 0);
    for (position, record) in records {
        let mut dots: Vec<Dot> = record.state.versions().iter().map(|sibling| sibling.version.dot()).collect();
        dots.retain(|_| draw.below(3) > 0);
        match record.state.only(&dots) {
            Some(state) => should.push(Record { key: record.key.clone(), state }),
            None => gone += 1,
        }
        dots.push((Stamp(7), Actor(0)));
        of.push((*position, dots));
    }
    let what = Selection::Versions { bare: false, of };
    let (mut found, mut moved, mut after) = (Vec::new(), 0, None);
    loop {
        let page = side.read(FIRST, &what, after, 60).expect("read");
        found.extend(page.records);
        moved += page.moved;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found, moved), (should, gone), "{note}");
}

/// Entries that are not there, or not any more, are counted once, whatever the pages.
fn moved(side: &dyn Side, records: &[(Position, Record)], digest: &dyn Fn(&Record) -> Option<Digest>, note: &str) {
    let mut wanted: Vec<(Position, u64)> = Vec::new();
    for (nth, (position, record)) in records.iter().enumerate() {
        let right = digest(record).unwrap_or(Digest::ZERO);
        wanted.push((*position, if nth % 3 == 0 { nth as u64 } else { right.short() }));
    }
    let (mut found, mut moved, mut after) = (0, 0, None);
    loop {
        let page = side.read(FIRST, &Selection::Entries(wanted.clone()), after, 60).expect("read");
        found += page.records.len();
        moved += page.moved;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found, moved), (records.len() - records.len().div_ceil(3), records.len().div_ceil(3) as u64), "{note}");
}
