//! Every answer of a side, compared with what the records of a model make.

use reknit_core::bounds::LEVELS_MAX;
use reknit_core::query::{Ask, Item, Selection, Shape, VersionInfo};
use reknit_core::range::DEPTH_MAX;
use reknit_core::record::Dot;
use reknit_core::sketch::{ELEMENT_DEPTH, Element, Sketch, cells_kept};
use reknit_core::tree::is_leaf;
use reknit_core::{Actor, CollectionId, Digest, Entry, Position, Profile, Range, Record, Sibling, Stamp};

use super::histories::{Named, Records};
use crate::store::Side;
use crate::store::engine::conformance::Draw;

/// Reads all of a selection; gives the records, and how many had moved.
pub(super) fn pages(
    side: &dyn Side,
    collection: CollectionId,
    what: &Selection,
    max_bytes: usize,
    note: &str,
) -> (Vec<Record>, u64) {
    let (mut found, mut moved, mut after) = (Vec::new(), 0, None);
    loop {
        let page = side.read(collection, what, after, max_bytes).expect("read");
        assert!(page.next.is_none() || !page.records.is_empty(), "{note}: a page goes on");
        // A store need not weigh as we do, but a page must have an end.
        let before_last: usize = page.records.iter().rev().skip(1).map(Record::weight).sum();
        assert!(
            before_last <= 2 * max_bytes,
            "{note}: a page of {max_bytes} bytes has {before_last} and one more record"
        );
        found.extend(page.records);
        moved += page.moved;
        after = page.next;
        if after.is_none() {
            return (found, moved);
        }
    }
}

/// Compares every answer with what the records of the model make.
pub(super) fn compare(side: &dyn Side, named: &Named, model: &Records, draw: &mut Draw, note: &str) {
    let (keys, profile, id) = (&named.info.keys, named.info.definition.profile, named.id);
    let mut records: Vec<(Position, Record)> = model
        .iter()
        .map(|(key, held)| (named.position(key), Record { key: key.clone(), state: held.state.clone() }))
        .collect();
    records.sort_by(|a, b| (a.0, &a.1.key).cmp(&(b.0, &b.1.key)));
    let digest = |record: &Record| named.digest(record);
    let mut entries: Vec<Entry> = records
        .iter()
        .filter_map(|(position, record)| Some(Entry { position: *position, digest: digest(record)? }))
        .collect();
    entries.sort_unstable();
    let inside = |range: Range| -> Vec<Entry> {
        entries.iter().filter(|entry| range.contains(entry.position)).copied().collect()
    };
    let worth = |range: Range| keys.build(range, &inside(range), &mut |_, _| ());

    assert_eq!(side.cut().expect("cut").roots[usize::from(id.0)], worth(Range::ALL), "{note}: the root");

    let mut asks = vec![Ask { range: Range::ALL, levels: LEVELS_MAX }];
    for _ in 0..6 {
        let near = if entries.is_empty() { Position(draw.bits()) } else { entries[draw.below(entries.len())].position };
        let depth = u8::try_from(draw.below(6)).unwrap_or(0);
        let levels = u8::try_from(draw.below(usize::from(LEVELS_MAX) + 1)).unwrap_or(0);
        asks.push(Ask { range: Range::of(near, depth), levels });
    }
    asks.push(Ask { range: Range::of(Position(draw.bits()), DEPTH_MAX), levels: 0 });
    let views = side.view(id, &asks).expect("view");
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

    sketched(side, id, &entries, draw, note);
    rested(side, id, &entries, draw, note);
    listed(side, named, (model, &records), draw, note);
    read(side, id, &records, &digest, draw, note);
    told(side, id, &records, &digest, draw, note);
    versions(side, id, &records, draw, note);
    if profile == Profile::Versioned {
        moved(side, id, &records, &digest, note);
    }
}

/// A range near an entry.
fn near(entries: &[Entry], draw: &mut Draw, depths: usize) -> Range {
    let position = if entries.is_empty() { Position(draw.bits()) } else { entries[draw.below(entries.len())].position };
    Range::of(position, u8::try_from(draw.below(depths)).unwrap_or(0))
}

/// A store may keep fewer cells than it should, or none; those that it gives are the sums of its entries.
fn sketched(side: &dyn Side, id: CollectionId, entries: &[Entry], draw: &mut Draw, note: &str) {
    let mut ranges = vec![Range::ALL];
    ranges.extend((0..6).map(|_| near(entries, draw, 5)));
    let cells = draw.below(100);
    let sketches = side.sketches(id, &ranges, cells).expect("sketches");
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
fn rested(side: &dyn Side, id: CollectionId, entries: &[Entry], draw: &mut Draw, note: &str) {
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
    let rests = side.rests(id, &asked).expect("rests");
    assert_eq!(rests.len(), asked.len(), "{note}");
    for ((range, parts), rest) in asked.iter().zip(rests) {
        let left =
            |entry: &&Entry| range.contains(entry.position) && !parts.iter().any(|part| part.contains(entry.position));
        let left: Vec<Entry> = entries.iter().filter(left).copied().collect();
        assert_eq!(rest, keys.build(*range, &left, &mut |_, _| ()), "{note}: the rest of {range} without {parts:?}");
    }
}

/// What there is to say of a record; the commit is not known exactly.
fn item(named: &Named, (position, record): &(Position, Record), commit: u64) -> Item {
    let info = |sibling: &Sibling| VersionInfo {
        version: sibling.version.clone(),
        content: sibling.value().map(|value| named.info.keys.content(value)),
        bytes: sibling.value().map_or(0, |value| value.len() as u64),
        expires: sibling.expires,
    };
    let versions = record.state.versions().iter().map(info).collect();
    Item { position: *position, key: record.key.clone(), digest: named.digest(record), versions, commit }
}

fn listed(
    side: &dyn Side,
    named: &Named,
    (model, records): (&Records, &[(Position, Record)]),
    draw: &mut Draw,
    note: &str,
) {
    let range = Range::of(Position(draw.bits()), u8::try_from(draw.below(2)).unwrap_or(0));
    let mut items: Vec<Item> = Vec::new();
    let mut after = None;
    loop {
        let limit = 1 + draw.below(40);
        let (page, next) = side.list(named.id, range, after, limit).expect("list");
        assert!(page.len() <= limit && (next.is_none() || !page.is_empty()), "{note}: a page of items");
        items.extend(page);
        after = next;
        if after.is_none() {
            break;
        }
    }
    let mine = |range: Range| records.iter().filter(move |(position, _)| range.contains(*position));
    let same = |found: Vec<Item>, held: Vec<&(Position, Record)>, what: &str| {
        assert_eq!(found.len(), held.len(), "{note}: {what}");
        for (found, held) in found.into_iter().zip(held) {
            assert_eq!(found, item(named, held, found.commit), "{note}: {what}");
            let (behind, upto) = model[&found.key].commits;
            assert!(behind < found.commit && found.commit <= upto, "{note}: the commit that last changed a record");
        }
    };
    same(items, mine(range).collect(), "items of a range");

    let mut places: Vec<Range> = (0..draw.below(6))
        .filter_map(|_| records.get(draw.below(records.len().max(1))))
        .map(|(position, _)| Range::of(*position, DEPTH_MAX))
        .collect();
    // One that is asked for twice, and one where there is perhaps nothing.
    places.extend(places.first().copied());
    places.push(Range::of(Position(draw.bits()), DEPTH_MAX));
    let there = records.iter().filter(|(position, _)| places.iter().any(|place| place.contains(*position))).collect();
    same(side.items(named.id, &places).expect("items"), there, "items of some places");
}

fn read(
    side: &dyn Side,
    id: CollectionId,
    records: &[(Position, Record)],
    digest: &dyn Fn(&Record) -> Option<Digest>,
    draw: &mut Draw,
    note: &str,
) {
    let range = Range::of(Position(draw.bits()), u8::try_from(draw.below(2)).unwrap_or(0));
    let chosen: Vec<&(Position, Record)> = records.iter().filter(|_| draw.below(3) == 0).collect();
    let entries: Vec<(Position, u64)> =
        chosen.iter().filter_map(|(position, record)| Some((*position, digest(record)?.short()))).collect();
    let held: Vec<&Record> = chosen.iter().filter(|(_, r)| digest(r).is_some()).map(|(_, record)| record).collect();
    let in_range: Vec<&Record> = records.iter().filter(|(p, _)| range.contains(*p)).map(|(_, record)| record).collect();
    let selections = [
        (Selection::Range(range), in_range),
        (Selection::Entries(entries.clone()), held.clone()),
        (Selection::Bare(entries), held),
    ];
    for (what, should) in selections {
        let (found, moved) = pages(side, id, &what, 1 + draw.below(400), note);
        assert_eq!(moved, 0, "{note}");
        assert_eq!(found.iter().collect::<Vec<_>>(), should, "{note}: {what:?}");
    }
}

/// Entries are told by their elements, of which some stand for none or, cut short, for several.
fn told(
    side: &dyn Side,
    id: CollectionId,
    records: &[(Position, Record)],
    digest: &dyn Fn(&Record) -> Option<Digest>,
    draw: &mut Draw,
    note: &str,
) {
    let places = 4 * u32::from(ELEMENT_DEPTH);
    let bits = places + u32::try_from(draw.below(1 + (u64::BITS - places) as usize)).unwrap_or(0);
    let elements: Vec<(Element, &Record)> = records
        .iter()
        .filter_map(|(position, record)| {
            let entry = Entry { position: *position, digest: digest(record)? };
            Some((Element::of(&entry).cut(bits), record))
        })
        .collect();
    let mut wanted: Vec<Element> = Vec::new();
    for (element, _) in &elements {
        match draw.below(6) {
            0 | 1 => wanted.push(*element),
            2 => wanted.push(Element(element.0 ^ draw.bits() >> places).cut(bits)),
            _ => {}
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    let answer = |wanted: &Element| elements.iter().filter(|(element, _)| element == wanted).count();
    let should: Vec<&Record> = elements
        .iter()
        .filter(|(element, _)| answer(element) == 1 && wanted.contains(element))
        .map(|(_, record)| *record)
        .collect();
    let gone = wanted.iter().filter(|wanted| answer(wanted) != 1).count() as u64;
    let what = Selection::Elements(bits, wanted);
    let (found, moved) = pages(side, id, &what, 1 + draw.below(400), note);
    assert_eq!((found.iter().collect(), moved), (should, gone), "{note}: {what:?}");
}

/// Versions are read by their names; a record of which none is there is counted once, whatever the pages.
fn versions(side: &dyn Side, id: CollectionId, records: &[(Position, Record)], draw: &mut Draw, note: &str) {
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
    let what = Selection::Versions { bare: draw.below(2) == 0, of };
    assert_eq!(pages(side, id, &what, 60, note), (should, gone), "{note}");
}

/// Entries that are not there, or not any more, are counted once, whatever the pages.
fn moved(
    side: &dyn Side,
    id: CollectionId,
    records: &[(Position, Record)],
    digest: &dyn Fn(&Record) -> Option<Digest>,
    note: &str,
) {
    let mut wanted: Vec<(Position, u64)> = Vec::new();
    for (nth, (position, record)) in records.iter().enumerate() {
        let right = digest(record).unwrap_or(Digest::ZERO);
        wanted.push((*position, if nth % 3 == 0 { nth as u64 } else { right.short() }));
    }
    let (found, moved) = pages(side, id, &Selection::Entries(wanted), 60, note);
    let gone = records.len().div_ceil(3);
    assert_eq!((found.len(), moved), (records.len() - gone, gone as u64), "{note}");
}
