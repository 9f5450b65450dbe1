//! Answers to a session: views of ranges, items, pages of records; and what it writes.
//! Each answer comes from one snapshot that ends with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use reknit_core::bounds::LEVELS_MAX;
use reknit_core::collect::Horizon;
use reknit_core::journal::RunHeader;
use reknit_core::life::Sighting;
use reknit_core::query::{
    Applied, Ask, Cut, Incoming, Item, Overwrite, Page, Raising, Recognition, Selection, Shape, VersionInfo, View,
};
use reknit_core::range::DEPTH_MAX;
use reknit_core::receipt::Receipt;
use reknit_core::record::Dot;
use reknit_core::sketch::{Element, Sketch};
use reknit_core::tree::{is_leaf, rest};
use reknit_core::{Actor, CollectionId, Content, Entry, Millis, Position, Range, Record, Summary};

use super::giving_way::submit_pieces;
use super::journal::{InRun, Writing};
use super::rows::{self, Stored};
use super::sketches;
use super::tree::Tree;
use super::walk::Walk;
use super::write::{Done, Fate, Write, digested, read_state};
use super::{Collection, Inner, Store, StoreError};
use crate::store::engine::{Durability, Rows, Snapshot};
use crate::store::{Listed, LookOut, Side, SideInfo};

impl Collection {
    /// The value of `key`; none if it is absent, deleted or expired.
    ///
    /// # Errors
    /// What the engine met, or [`StoreError::Damaged`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let inner = &self.store.inner;
        let position = inner.keys.position(self.name(), key);
        let snapshot = inner.engine.snapshot()?;
        let Some(state) = read_state(inner, &*snapshot, self.id, position, key)? else {
            return lacks(inner, &*snapshot, self.id, position).map(|()| None);
        };
        let seen = inner.seen(self.id, &state);
        if seen.expires.is_some_and(|expires| expires <= inner.shown_until()) {
            return Ok(None);
        }
        Ok(seen.value().cloned())
    }
}

/// Whether there is nothing at a position that the tree knows and that has no record: an engine that lost a row to damage
/// says the same as if there had never been one.
fn lacks(
    inner: &Inner,
    snapshot: &dyn Snapshot,
    collection: CollectionId,
    position: Position,
) -> Result<(), StoreError> {
    if inner.bare {
        return Ok(());
    }
    let row = rows::entry(collection, position);
    let Some(value) = snapshot.get(&row)? else { return Ok(()) };
    let mut entries = Vec::new();
    rows::read_entries(&row, &value, &mut entries)?;
    let (start, end) = rows::records_of(collection, Range::of(position, DEPTH_MAX));
    let held = records(inner, snapshot.scan(&start, &end)?).collect::<Result<Vec<_>, _>>()?;
    if entries.len() > held.len() {
        return Err(StoreError::damaged(format!("a record at position {:016x} is missing", position.0)));
    }
    Ok(())
}

impl Store {
    /// As [`Side::apply`], under a run.
    pub(super) fn apply_in(
        &self,
        collection: CollectionId,
        batch: Vec<Incoming>,
        durability: Durability,
        run: Option<&Arc<Writing>>,
    ) -> Result<Applied, StoreError> {
        self.inner.check(collection)?;
        let keys: Vec<Vec<u8>> = batch.iter().map(|incoming| incoming.record.key.clone()).collect();
        let write = |incoming| Write::Incoming { collection, incoming, run: run.cloned() };
        let done = submit_pieces(&self.inner, batch.into_iter().map(write).collect(), durability)?;
        Ok(accounted(keys, done))
    }

    /// As [`Side::overwrite`], under a run.
    pub(super) fn overwrite_in(
        &self,
        collection: CollectionId,
        overwrites: Vec<Overwrite>,
        durability: Durability,
        run: Option<&Arc<Writing>>,
    ) -> Result<Applied, StoreError> {
        self.inner.check(collection)?;
        let keys: Vec<Vec<u8>> = overwrites.iter().map(|overwrite| overwrite.key.clone()).collect();
        let write = |overwrite| Write::Overwrite { collection, overwrite, run: run.cloned() };
        let done = submit_pieces(&self.inner, overwrites.into_iter().map(write).collect(), durability)?;
        Ok(accounted(keys, done))
    }
}

impl Side for Store {
    fn describe(&self) -> SideInfo {
        SideInfo {
            definition: self.inner.definition.clone(),
            keys: self.inner.keys.clone(),
            actor: self.inner.lives.actor(),
            nonce: self.inner.lives.nonce(),
            place: self.inner.dir.display().to_string(),
            writable: true,
        }
    }

    fn cut(&self) -> Result<Cut, StoreError> {
        Ok(self.inner.head())
    }

    fn expire(&self, upto: Option<Millis>) -> Result<Cut, StoreError> {
        self.expire_until(upto)
    }

    fn introduce(&self) -> Result<Cut, StoreError> {
        self.expire_until(None)?;
        self.introduce_now()
    }

    fn meet(&self, actor: Actor, now: Sighting, recognised: Option<Sighting>) -> Result<Vec<Sighting>, StoreError> {
        self.meet_now(actor, now, recognised)
    }

    fn recognise(&self, met: &[Sighting], whole: bool) -> Result<Recognition, StoreError> {
        self.recognise_now(met, whole)
    }

    fn horizon(&self) -> Result<Horizon, StoreError> {
        Ok(Store::horizon(self))
    }

    fn look_out(&self) -> LookOut {
        Store::look_out(self)
    }

    fn raise(&self, horizon: &Horizon, caught_up: bool) -> Result<Raising, StoreError> {
        Store::raise(self, horizon, caught_up)
    }

    fn forward(&self, receipt: &Receipt) -> Result<(), StoreError> {
        Store::forward(self, receipt).map(drop)
    }

    fn view(&self, collection: CollectionId, asks: &[Ask]) -> Result<Vec<View>, StoreError> {
        let inner = &*self.inner;
        inner.check(collection)?;
        let snapshot = inner.engine.snapshot()?;
        let tree = Tree::of(inner, &*snapshot, collection);
        asks.iter().map(|ask| view(inner, &tree, *ask)).collect()
    }

    fn items(&self, collection: CollectionId, ranges: &[Range]) -> Result<Vec<Item>, StoreError> {
        let inner = &*self.inner;
        inner.check(collection)?;
        let mut ranges = ranges.to_vec();
        ranges.sort_unstable_by_key(|range| (range.first(), range.depth()));
        // What lies in a range before it is read with that one.
        ranges.dedup_by(|later, earlier| earlier.covers(*later));
        let snapshot = inner.engine.snapshot()?;
        let mut items = Vec::new();
        for read in Walk::new(inner, &*snapshot, collection, ranges) {
            items.extend(read?.1.into_iter().map(|stored| item(inner, collection, stored)));
        }
        Ok(items)
    }

    fn sketches(&self, collection: CollectionId, ranges: &[Range], cells: usize) -> Result<Vec<Sketch>, StoreError> {
        self.inner.check(collection)?;
        sketches::answer(&self.inner, collection, ranges, cells)
    }

    fn rests(&self, collection: CollectionId, ranges: &[(Range, Vec<Range>)]) -> Result<Vec<Summary>, StoreError> {
        let inner = &*self.inner;
        inner.check(collection)?;
        let snapshot = inner.engine.snapshot()?;
        let tree = Tree::of(inner, &*snapshot, collection);
        let one = |(range, parts): &(Range, Vec<Range>)| {
            rest(&inner.keys, &tree, *range, tree.summary(&inner.keys, *range)?, parts)
        };
        ranges.iter().map(one).collect()
    }

    fn list(
        &self,
        collection: CollectionId,
        range: Range,
        after: Option<(Position, Vec<u8>)>,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        let inner = &*self.inner;
        inner.check(collection)?;
        let snapshot = inner.engine.snapshot()?;
        let mut items: Vec<Item> = Vec::new();
        for stored in records_after(inner, &*snapshot, collection, range, after.as_ref())? {
            let stored = stored?;
            if items.len() >= limit.max(1) {
                let next = items.last().map(|item| (item.position, item.key.clone()));
                return Ok((items, next));
            }
            items.push(item(inner, collection, stored));
        }
        Ok((items, None))
    }

    fn read(
        &self,
        collection: CollectionId,
        what: &Selection,
        after: Option<(Position, Vec<u8>)>,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        let inner = &*self.inner;
        inner.check(collection)?;
        let snapshot = inner.engine.snapshot()?;
        inner.owed.settle(&*inner.engine)?;
        let mut filling = Filling { page: Page::default(), bytes: 0, max_bytes, last: None };
        match what {
            Selection::Range(range) => {
                for stored in records_after(inner, &*snapshot, collection, *range, after.as_ref())? {
                    if filling.is_full() {
                        filling.cut();
                        return Ok(filling.page);
                    }
                    filling.put(stored?);
                }
            }
            Selection::Entries(entries) | Selection::Bare(entries) => {
                let mut wanted: BTreeMap<Range, Vec<u64>> = BTreeMap::new();
                for (position, short) in entries {
                    wanted.entry(Range::of(*position, DEPTH_MAX)).or_default().push(*short);
                }
                let told = |entry: Entry| entry.digest.short();
                self.read_named(collection, &*snapshot, &mut filling, wanted, told, after.as_ref())?;
            }
            Selection::Versions { of, .. } => {
                self.read_versions(collection, &*snapshot, &mut filling, of, after.as_ref())?
            }
            Selection::Elements(bits, elements) => {
                let mut wanted: BTreeMap<Range, Vec<u64>> = BTreeMap::new();
                for element in elements {
                    wanted.entry(element.range()).or_default().push(element.0);
                }
                let told = |entry: Entry| Element::of(&entry).cut(*bits).0;
                self.read_named(collection, &*snapshot, &mut filling, wanted, told, after.as_ref())?;
            }
        }
        Ok(filling.page)
    }

    fn apply(
        &self,
        collection: CollectionId,
        batch: Vec<Incoming>,
        durability: Durability,
    ) -> Result<Applied, StoreError> {
        self.apply_in(collection, batch, durability, None)
    }

    fn overwrite(
        &self,
        collection: CollectionId,
        overwrites: Vec<Overwrite>,
        durability: Durability,
    ) -> Result<Applied, StoreError> {
        self.overwrite_in(collection, overwrites, durability, None)
    }

    fn layout(&self, collection: CollectionId) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.check(collection)?;
        Ok(self.inner.engine.snapshot()?.get(&rows::layout(collection))?)
    }

    fn in_run(&self, header: RunHeader) -> Result<Option<Arc<dyn Side>>, StoreError> {
        Ok(Some(Arc::new(InRun::new(self.clone(), self.begin_run(header)?))))
    }

    fn sync(&self) -> Result<(), StoreError> {
        Store::sync(self)
    }
}

/// Accounts for each write of a batch.
fn accounted(keys: Vec<Vec<u8>>, done: Done) -> Applied {
    let mut applied = Applied { commit: done.commit, losses: done.losses, ..Applied::default() };
    for (key, fate) in keys.into_iter().zip(done.fates) {
        match fate {
            Fate::Applied => applied.applied += 1,
            Fate::Kept => applied.kept += 1,
            Fate::Moved => applied.moved += 1,
            Fate::Refused(reason) => applied.refused.push((key, reason)),
        }
    }
    applied
}

fn view(inner: &Inner, tree: &Tree<'_>, ask: Ask) -> Result<View, StoreError> {
    let Ask { range, levels } = ask;
    if levels > LEVELS_MAX {
        let (found, limit) = (u64::from(levels), u64::from(LEVELS_MAX));
        return Err(StoreError::Bound { what: "levels below a range", found, limit });
    }
    let summary = tree.summary(&inner.keys, range)?;
    let shape = if summary.is_empty() {
        Shape::Empty
    } else if is_leaf(range, summary.count) {
        Shape::Leaf(tree.entries(range)?)
    } else {
        let mut parts = Vec::with_capacity(1 << (4 * levels));
        tree.parts(&inner.keys, range, summary, levels.min(DEPTH_MAX - range.depth()), &mut parts)?;
        Shape::Inner(parts)
    };
    Ok(View { range, summary, shape })
}

impl Store {
    /// Reads the records in some ranges of one depth whose entries are told by these numbers; those that are not there,
    /// or not any more, are counted as moved.
    fn read_named(
        &self,
        collection: CollectionId,
        snapshot: &dyn Snapshot,
        filling: &mut Filling,
        mut wanted: BTreeMap<Range, Vec<u64>>,
        told: impl Fn(Entry) -> u64,
        after: Option<&(Position, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        let inner = &*self.inner;
        if let Some((position, _)) = after {
            wanted.retain(|range, _| range.last() >= *position);
        }
        let mut walk = Walk::new(inner, snapshot, collection, wanted.keys().copied());
        for mut numbers in wanted.into_values() {
            if filling.is_full() {
                filling.cut();
                return Ok(());
            }
            let Some((range, there)) = walk.next().transpose()? else { return Ok(()) };
            let mut held = Vec::new();
            for stored in there {
                let (state, digest) = digested(inner, collection, &stored.key, stored.state);
                let number = digest.map(|digest| told(Entry { position: stored.position, digest }));
                held.push((number, Stored { state, ..stored }));
            }
            // A number that tells two records apart from none of them tells neither.
            let tells = |number: u64| held.iter().filter(|(held, _)| *held == Some(number)).count() == 1;
            let moved = numbers.iter().filter(|number| !tells(**number)).count();
            numbers.retain(|number| tells(*number));
            let is_wanted = |number: Option<u64>| number.is_some_and(|number| numbers.contains(&number));
            let mut found: Vec<Stored> =
                held.into_iter().filter(|(number, _)| is_wanted(*number)).map(|(_, stored)| stored).collect();
            match after.filter(|(last, _)| range.contains(*last)) {
                // What had moved here was counted on the page before.
                Some((position, key)) => {
                    found.retain(|stored| (stored.position, stored.key.as_slice()) > (*position, key.as_slice()));
                }
                None => filling.page.moved += moved as u64,
            }
            for stored in found {
                if filling.is_full() {
                    filling.cut();
                    return Ok(());
                }
                filling.put(stored);
            }
        }
        Ok(())
    }
}

impl Store {
    /// Reads those versions of records that are named; a record that has none of them any more is counted as moved.
    fn read_versions(
        &self,
        collection: CollectionId,
        snapshot: &dyn Snapshot,
        filling: &mut Filling,
        wanted: &[(Position, Vec<Dot>)],
        after: Option<&(Position, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        // Where positions collide, several records are named at one.
        let mut places: BTreeMap<Position, Vec<&[Dot]>> = BTreeMap::new();
        for (position, dots) in wanted.iter().filter(|(position, _)| after.is_none_or(|(last, _)| position >= last)) {
            places.entry(*position).or_default().push(dots);
        }
        for (position, named) in places {
            if filling.is_full() {
                filling.cut();
                return Ok(());
            }
            let all: Vec<Dot> = named.iter().copied().flatten().copied().collect();
            let mut held = Vec::new();
            let (start, end) = rows::records_of(collection, Range::of(position, DEPTH_MAX));
            for stored in records(&self.inner, snapshot.scan(&start, &end)?) {
                let stored = stored?;
                held.extend(stored.state.only(&all).map(|state| Stored { state, ..stored }));
            }
            let versions = held.iter().flat_map(|stored: &Stored| stored.state.versions());
            let found: Vec<Dot> = versions.map(|sibling| sibling.version.dot()).collect();
            let gone = |dots: &&&[Dot]| !dots.iter().any(|dot| found.contains(dot));
            match after.filter(|(last, _)| *last == position) {
                // What had moved here was counted on the page before.
                Some((_, key)) => held.retain(|stored| stored.key > *key),
                None => filling.page.moved += named.iter().filter(gone).count() as u64,
            }
            for stored in held {
                if filling.is_full() {
                    filling.cut();
                    return Ok(());
                }
                filling.put(stored);
            }
        }
        Ok(())
    }
}

/// A page that is being filled.
struct Filling {
    page: Page,
    bytes: usize,
    max_bytes: usize,
    last: Option<(Position, Vec<u8>)>,
}

impl Filling {
    /// A page holds at least one record, so that reading always goes on.
    fn is_full(&self) -> bool {
        self.bytes >= self.max_bytes.max(1)
    }

    fn put(&mut self, stored: Stored) {
        let record = Record { key: stored.key, state: stored.state };
        self.bytes += record.weight().max(1);
        self.last = Some((stored.position, record.key.clone()));
        self.page.records.push(record);
    }

    /// Tells where to go on: there is more.
    fn cut(&mut self) {
        self.page.next = self.last.clone();
    }
}

pub(super) fn item(inner: &Inner, collection: CollectionId, stored: Stored) -> Item {
    let Stored { position, key, commit, state } = stored;
    let (state, digest) = digested(inner, collection, &key, state);
    let versions = state
        .versions()
        .iter()
        .map(|sibling| {
            let (content, bytes) = match &sibling.content {
                Content::Live(value) => (Some(inner.keys.content(value)), value.len() as u64),
                Content::Tombstone => (None, 0),
            };
            VersionInfo { version: sibling.version.clone(), content, bytes, expires: sibling.expires }
        })
        .collect();
    Item { position, key, digest, versions, commit }
}

/// The records of a scan, counted as they are read.
pub(super) fn records<'a>(inner: &'a Inner, scan: Rows<'a>) -> impl Iterator<Item = Result<Stored, StoreError>> + 'a {
    scan.map(move |row| {
        let (row, value) = row?;
        inner.reads.records.fetch_add(1, Ordering::Relaxed);
        inner.read_record(&row, &value)
    })
}

/// The records of a range after a position and key.
pub(super) fn records_after<'a>(
    inner: &'a Inner,
    snapshot: &'a dyn Snapshot,
    collection: CollectionId,
    range: Range,
    after: Option<&(Position, Vec<u8>)>,
) -> Result<impl Iterator<Item = Result<Stored, StoreError>> + 'a, StoreError> {
    let (mut start, end) = rows::records_of(collection, range);
    if let Some((position, key)) = after {
        start = start.max(rows::after(rows::record(collection, *position, key)));
    }
    Ok(records(inner, snapshot.scan(&start, &end)?))
}
