//! A store of one's own behind the contract `Side`: records in a map, where a program has its database.
//!
//! `cargo run --example custom_store` checks it by the suite for stores, then makes it equal to an embedded store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use reknit::core::bounds::{KEY_BYTES_MAX, LEVELS_MAX, VALUE_BYTES_MAX};
use reknit::core::message::Rights;
use reknit::core::query::{
    Applied, Ask, Cut, Guard, Incoming, Item, Overwrite, Page, Replacement, Selection, Shape, VersionInfo, View,
};
use reknit::core::sketch::Element;
use reknit::core::stamp::{CLOCK_BOUND_MILLIS, Clock};
use reknit::core::tree::{Summary, is_leaf};
use reknit::core::{
    Actor, Collection, CollectionId, Content, DatasetId, DatasetKey, Definition, Digest, Entry, Keys, Position, Range,
    Record, Sibling, State, Version,
};
use reknit::node::Node;
use reknit::store::{Durability, Listed, Options, Side, SideInfo, Store, StoreError};
use reknit::transport::Address;

/// Where a record lies: in the order of positions, in which sessions ask.
type Place = (Position, Vec<u8>);

/// A store that forgets all with its process, and does not know policies beyond what it keeps of versions.
struct Shelf {
    info: SideInfo,
    inner: Mutex<Inner>,
}

struct Inner {
    commit: u64,
    clock: Clock,
    collections: Vec<BTreeMap<Place, Held>>,
}

struct Held {
    state: State,
    digest: Option<Digest>,
    commit: u64,
}

/// What becomes of a write.
enum Fate {
    Written(State),
    Kept,
    Moved,
    Refused(String),
}

impl Shelf {
    fn new(definition: Definition, key: &DatasetKey, actor: u64) -> Shelf {
        let collections = definition.collections.iter().map(|_| BTreeMap::new()).collect();
        let info = SideInfo {
            keys: Arc::new(Keys::new(key)),
            // A store that outlives its process keeps its actor, and draws another once it was restored from a copy.
            actor: Actor(actor),
            nonce: actor,
            place: format!("the shelf of {}", definition.name),
            writable: true,
            definition: Arc::new(definition),
        };
        Shelf { info, inner: Mutex::new(Inner { commit: 0, clock: Clock::default(), collections }) }
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let place = self.place(CollectionId(0), key);
        self.lock().collections[0].get(&place).and_then(|held| held.state.value().map(<[u8]>::to_vec))
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<Applied, StoreError> {
        let place = self.place(CollectionId(0), key);
        let expected = self.lock().collections[0].get(&place).and_then(|held| held.digest).map(|digest| digest.short());
        let content = Replacement::Take(value.to_vec(), None);
        let write = Overwrite { key: key.to_vec(), expected, content, seen: Vec::new() };
        self.overwrite(CollectionId(0), vec![write], Durability::Synced)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, collection: CollectionId, key: &[u8]) -> Place {
        let name = &self.info.definition.collections[usize::from(collection.0)].name;
        (self.info.keys.position(name, key), key.to_vec())
    }

    /// The store as it stands: no answer is made of two states.
    fn snapshot(&self, collection: CollectionId) -> Result<MutexGuard<'_, Inner>, StoreError> {
        let definition = &self.info.definition;
        if usize::from(collection.0) < definition.collections.len() {
            return Ok(self.lock());
        }
        let names: Vec<&str> = definition.collections.iter().map(|collection| collection.name.as_str()).collect();
        Err(StoreError::NoCollection { name: collection.0.to_string(), have: names.join(", ") })
    }

    /// What the tree says of some entries. A store with many records keeps the nodes, and changes those above a write.
    fn worth(&self, range: Range, entries: &[Entry]) -> Summary {
        self.info.keys.build(range, entries, &mut |_, _| {})
    }

    /// What there is to say of a record without its content.
    fn item(&self, place: &Place, held: &Held) -> Item {
        let info = |sibling: &Sibling| VersionInfo {
            version: sibling.version.clone(),
            content: sibling.value().map(|value| self.info.keys.content(value)),
            bytes: sibling.value().map_or(0, |value| value.len() as u64),
            expires: sibling.expires,
        };
        let versions = held.state.versions().iter().map(info).collect();
        Item { position: place.0, key: place.1.clone(), digest: held.digest, versions, commit: held.commit }
    }

    /// Writes what became of each, in one commit.
    fn commit<W>(
        &self,
        collection: CollectionId,
        writes: Vec<W>,
        decide: impl Fn(&mut Clock, Option<&Held>, W) -> (Vec<u8>, Fate),
        key: impl Fn(&W) -> Vec<u8>,
    ) -> Result<Applied, StoreError> {
        let mut inner = self.snapshot(collection)?;
        let Inner { commit, clock, collections } = &mut *inner;
        let records = &mut collections[usize::from(collection.0)];
        let name = &self.info.definition.collections[usize::from(collection.0)].name;
        let (mut done, next) = (Applied::default(), *commit + 1);
        for write in writes {
            let place = self.place(collection, &key(&write));
            let mine = records.get(&place);
            let (key, fate) = decide(clock, mine, write);
            match fate {
                Fate::Kept => done.kept += 1,
                Fate::Moved => done.moved += 1,
                Fate::Refused(why) => done.refused.push((key, why)),
                Fate::Written(state) => {
                    let before = mine.and_then(|held| held.state.value());
                    match (before, state.value()) {
                        (Some(_), None) => done.losses.deleted += 1,
                        (Some(before), Some(after)) if before != after => done.losses.changed += 1,
                        _ => {}
                    }
                    let record = Record { key, state };
                    let digest = self.info.keys.entry(self.info.definition.profile, name, &record);
                    records.insert(place, Held { state: record.state, digest, commit: next });
                    done.applied += 1;
                    *commit = next;
                }
            }
        }
        done.commit = *commit;
        Ok(done)
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Why a record cannot be stored, if it cannot.
fn refusal(record: &Record) -> Option<String> {
    let values = record.state.versions().iter().filter_map(Sibling::value).map(Vec::len);
    let (key, value) = (record.key.len(), values.max().unwrap_or(0));
    if key > KEY_BYTES_MAX {
        return Some(format!("its key has {key} bytes, at most {KEY_BYTES_MAX} are allowed"));
    }
    (value > VALUE_BYTES_MAX).then(|| format!("its value has {value} bytes, at most {VALUE_BYTES_MAX} are allowed"))
}

fn within(records: &BTreeMap<Place, Held>, range: Range) -> impl Iterator<Item = (&Place, &Held)> {
    records.range((range.first(), Vec::new())..).take_while(move |((position, _), _)| range.contains(*position))
}

fn entry(place: &Place, held: &Held) -> Option<Entry> {
    held.digest.map(|digest| Entry { position: place.0, digest })
}

fn entries(records: &BTreeMap<Place, Held>, range: Range) -> Vec<Entry> {
    let mut entries: Vec<Entry> = within(records, range).filter_map(|(place, held)| entry(place, held)).collect();
    entries.sort_unstable();
    entries
}

fn record(place: &Place, state: State) -> (Place, Record) {
    (place.clone(), Record { key: place.1.clone(), state })
}

impl Side for Shelf {
    fn describe(&self) -> SideInfo {
        self.info.clone()
    }

    fn cut(&self) -> Result<Cut, StoreError> {
        let inner = self.lock();
        let roots = inner.collections.iter().map(|records| self.worth(Range::ALL, &entries(records, Range::ALL)));
        Ok(Cut {
            commit: inner.commit,
            stamp: inner.clock.last(),
            // It keeps every tombstone, undoes nothing and lets nothing expire.
            horizon: Default::default(),
            undone: 0,
            watermark: 0,
            roots: roots.collect(),
        })
    }

    fn view(&self, collection: CollectionId, asks: &[Ask]) -> Result<Vec<View>, StoreError> {
        let inner = self.snapshot(collection)?;
        let records = &inner.collections[usize::from(collection.0)];
        let view = |Ask { range, levels }: &Ask| {
            if *levels > LEVELS_MAX {
                let (found, limit) = (u64::from(*levels), u64::from(LEVELS_MAX));
                return Err(StoreError::Bound { what: "levels below a range", found, limit });
            }
            let mine = entries(records, *range);
            let summary = self.worth(*range, &mine);
            let part =
                |nth| self.worth(range.descendant(*levels, nth), &entries(records, range.descendant(*levels, nth)));
            let shape = match mine {
                mine if mine.is_empty() => Shape::Empty,
                mine if is_leaf(*range, summary.count) => Shape::Leaf(mine),
                _ => Shape::Inner((0..1 << (4 * levels)).map(part).collect()),
            };
            Ok(View { range: *range, summary, shape })
        };
        asks.iter().map(view).collect()
    }

    fn items(&self, collection: CollectionId, ranges: &[Range]) -> Result<Vec<Item>, StoreError> {
        let inner = self.snapshot(collection)?;
        let records = &inner.collections[usize::from(collection.0)];
        // Each once, though ranges may lie within each other.
        let found: BTreeMap<&Place, &Held> = ranges.iter().flat_map(|range| within(records, *range)).collect();
        Ok(found.into_iter().map(|(place, held)| self.item(place, held)).collect())
    }

    fn rests(&self, collection: CollectionId, ranges: &[(Range, Vec<Range>)]) -> Result<Vec<Summary>, StoreError> {
        let inner = self.snapshot(collection)?;
        let rest = |(range, parts): &(Range, Vec<Range>)| {
            let mut mine = entries(&inner.collections[usize::from(collection.0)], *range);
            mine.retain(|entry| !parts.iter().any(|part| part.contains(entry.position)));
            self.worth(*range, &mine)
        };
        Ok(ranges.iter().map(rest).collect())
    }

    fn list(
        &self,
        collection: CollectionId,
        range: Range,
        after: Option<Place>,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        let inner = self.snapshot(collection)?;
        let records = &inner.collections[usize::from(collection.0)];
        let mut items = Vec::new();
        for (place, held) in within(records, range).filter(|(place, _)| after.as_ref().is_none_or(|last| *place > last))
        {
            if items.len() >= limit.max(1) {
                let next = items.last().map(|item: &Item| (item.position, item.key.clone()));
                return Ok((items, next));
            }
            items.push(self.item(place, held));
        }
        Ok((items, None))
    }

    fn read(
        &self,
        collection: CollectionId,
        what: &Selection,
        after: Option<Place>,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        let inner = self.snapshot(collection)?;
        let records = &inner.collections[usize::from(collection.0)];
        let all = |range| within(records, range).map(|(place, held)| record(place, held.state.clone()));
        let (mut found, mut moved) = (BTreeMap::new(), 0);
        // What is told by its digest is there if exactly one record answers to it.
        let mut told = |range, is_it: &dyn Fn(Entry) -> bool| {
            let mut it = within(records, range).filter(|(place, held)| entry(place, held).is_some_and(is_it));
            match (it.next(), it.next()) {
                (Some((place, held)), None) => found.extend([record(place, held.state.clone())]),
                _ => moved += 1,
            }
        };
        match what {
            Selection::Range(range) => found.extend(all(*range)),
            Selection::Entries(entries) | Selection::Bare(entries) => {
                for (position, short) in entries {
                    let place = Range::of(*position, reknit::core::range::DEPTH_MAX);
                    told(place, &|entry| entry.digest.short() == *short);
                }
            }
            Selection::Elements(bits, elements) => {
                for element in elements {
                    told(element.range(), &|entry| Element::of(&entry).cut(*bits) == *element);
                }
            }
            Selection::Versions { of, .. } => {
                for (position, dots) in of {
                    let before = found.len();
                    let here = all(Range::of(*position, reknit::core::range::DEPTH_MAX));
                    let named =
                        |(place, of): (Place, Record)| Some((place, Record { state: of.state.only(dots)?, ..of }));
                    found.extend(here.filter_map(named));
                    moved += u64::from(found.len() == before);
                }
            }
        }
        let mut page = Page::default();
        let mut bytes = 0;
        for (place, record) in found.into_iter().filter(|(place, _)| after.as_ref().is_none_or(|last| place > last)) {
            if bytes >= max_bytes.max(1) {
                return Ok(page);
            }
            bytes += record.weight();
            page.records.push(record);
            page.next = Some(place);
        }
        // What had moved is told once, with the last page.
        Ok(Page { next: None, moved, ..page })
    }

    fn apply(&self, collection: CollectionId, batch: Vec<Incoming>, _: Durability) -> Result<Applied, StoreError> {
        // Whether there is such a collection.
        drop(self.snapshot(collection)?);
        let (keys, keeps) = (&self.info.keys, self.info.definition.keeps(collection));
        let decide = |clock: &mut Clock, mine: Option<&Held>, incoming: Incoming| {
            let Incoming { mut record, guard } = incoming;
            let ahead = |sibling: &Sibling| clock.observe(sibling.version.stamp, now(), CLOCK_BOUND_MILLIS).err();
            if let Some(why) = refusal(&record) {
                return (record.key, Fate::Refused(why));
            }
            if let Some(ahead) = record.state.versions().iter().find_map(ahead) {
                return (record.key, Fate::Refused(ahead.to_string()));
            }
            let held = mine.map(|held| &held.state);
            let stands = match guard {
                Guard::Join => true,
                Guard::Bare => record.dress(held, keys),
                Guard::IfShort(short) => short == mine.and_then(|held| held.digest).map(|digest| digest.short()),
            };
            let next = match (held, guard) {
                (Some(held), Guard::Join | Guard::Bare) => held.join(&record.state, keeps, keys),
                _ => record.state,
            };
            let fate = match stands {
                false => Fate::Moved,
                true if held == Some(&next) => Fate::Kept,
                true => Fate::Written(next),
            };
            (record.key, fate)
        };
        self.commit(collection, batch, decide, |incoming| incoming.record.key.clone())
    }

    fn overwrite(
        &self,
        collection: CollectionId,
        overwrites: Vec<Overwrite>,
        _: Durability,
    ) -> Result<Applied, StoreError> {
        let decide = |clock: &mut Clock, mine: Option<&Held>, write: Overwrite| {
            if write.expected != mine.and_then(|held| held.digest).map(|digest| digest.short()) {
                return (write.key, Fate::Moved);
            }
            let shown = |state: &State| (state.winner().content.clone(), state.winner().expires);
            let (content, expires) = match &write.content {
                Replacement::Keep => mine.map_or((Content::Tombstone, None), |held| shown(&held.state)),
                Replacement::Delete => (Content::Tombstone, None),
                Replacement::Take(value, expires) => (Content::Live(value.clone()), *expires),
                Replacement::Shown(state) => shown(state),
            };
            for version in &write.seen {
                if let Err(ahead) = clock.observe(version.stamp, now(), CLOCK_BOUND_MILLIS) {
                    return (write.key, Fate::Refused(ahead.to_string()));
                }
            }
            let held = mine.into_iter().flat_map(|held| held.state.versions()).map(|sibling| &sibling.version);
            let version = Version::after(clock.next(now()), self.info.actor, held.chain(&write.seen));
            let record = Record { key: write.key, state: State::single(Sibling { version, content, expires }) };
            let fate = refusal(&record).map_or_else(|| Fate::Written(record.state.clone()), Fate::Refused);
            (record.key, fate)
        };
        self.commit(collection, overwrites, decide, |write| write.key.clone())
    }

    /// There is nothing that would outlive the process.
    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = DatasetKey::from_bytes([2; 32]);
    for policy in [reknit::core::policy::NEWEST, reknit::core::policy::KEEP_BOTH] {
        let mut definition = Definition::simple(DatasetId([1; 16]), "words");
        definition.collections[0].policy = policy.into();
        // Only then it shows that they are kept apart.
        definition.collections.push(Collection { name: "more".into(), policy: policy.into() });
        reknit::testing::store_contract(&mut || Arc::new(Shelf::new(definition.clone(), &key, 7)), 1, 12);
        println!("the store keeps the contract under {policy}");
    }

    // The program's own store on one node, an embedded one on the other. Both have the dataset's secret already, and let each
    // other do everything.
    let definition = Definition::simple(DatasetId([1; 16]), "words");
    let shelf = Arc::new(Shelf::new(definition.clone(), &key, 7));
    let store = Store::in_memory(definition, key, &Options::default())?;
    shelf.put(b"heron", b"a grey bird")?;
    shelf.put(b"roof", b"where it stood")?;
    store.put(b"train", b"where that was written")?;
    let serving = Node::builder().side(shelf.clone()).authorize(|_, _| Rights::ALL).start().await?;
    let node = Node::builder().store(store.clone()).start().await?;
    let at = serving.local_addr().ok_or("it is not bound")?;
    let (peer, host, port) = (serving.peer(), at.ip().to_string(), at.port());
    let report = node.sync_at(&Address { peer, host, port, dataset: "words".into() }).await?;
    println!("a session: {}", report.outcome.verdict.name());
    assert_eq!(store.get(b"heron")?, Some(b"a grey bird".to_vec()));
    assert_eq!(shelf.get(b"train"), Some(b"where that was written".to_vec()));
    assert_eq!(serving.status().await?.datasets[0].root, node.status().await?.datasets[0].root);
    println!("both hold {} records, root {}", store.root().count, &store.root().digest.to_string()[..12]);
    node.shutdown().await?;
    serving.shutdown().await?;
    Ok(())
}
