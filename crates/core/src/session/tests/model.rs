//! A store as an ordered map.

mod several;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::brakes::Loss;
use crate::collect::Horizon;
use crate::dataset::{CollectionId, DatasetId, Definition, Profile};
use crate::digest::{DatasetKey, Keys};
use crate::entry::Entry;
use crate::life::{self, Life, Meeting, Opening, Sighting};
use crate::message::Rights;
use crate::query::{
    Answer, Applied, Ask, Cut, Guard, Incoming, Item, Overwrite, Query, Raising, Recognition, Replacement, Selection,
    Shape, VersionInfo, View,
};
use crate::range::{Position, Range};
use crate::record::{Actor, Content, Keeps, Record, Sibling, State, Version};
use crate::session::{Grant, Guards, Opener, Options, Planner, Responder, Stuck};
use crate::sketch::{Element, Sketch, cells_kept};
use crate::stamp::{CLOCK_BOUND_MILLIS, Clock, Millis, Stamp};
use crate::tree::{Summary, is_leaf};

pub(super) struct Model {
    definition: Definition,
    /// The collection that it holds.
    name: String,
    /// Those that it holds beside it.
    beside: Vec<Model>,
    keys: Keys,
    pub(super) life: Life,
    clock: Clock,
    now: Millis,
    commit: u64,
    records: BTreeMap<Vec<u8>, State>,
    commits: BTreeMap<Vec<u8>, u64>,
    /// Sorted; kept current by every write.
    entries: BTreeMap<Entry, Vec<u8>>,
    /// Makes the sketches that it answers with wrong.
    pub(super) distort: Option<Box<dyn Fn(Range, Sketch) -> Sketch>>,
    /// How it plans as a responder.
    pub(super) planner: Planner,
    /// Records that it was asked to read, so that reads can be held to the size of a difference.
    pub(super) reads: u64,
    /// What it remembers of other stores.
    pub(super) met: BTreeMap<u64, Vec<Sighting>>,
    /// Another life of a store that is met beside a session, once that has told its doubts.
    pub(super) meanwhile: Option<(u64, Sighting)>,
    /// Its openings, each with the commit number that it came to.
    pub(super) openings: BTreeMap<u64, u64>,
    /// Up to where it has collected.
    pub(super) horizon: Horizon,
    /// When it last put back what a run had changed.
    pub(super) undone: u64,
    /// What its clock on the wall says, by which records expire.
    pub(super) wall: Millis,
    pub(super) watermark: Millis,
    /// Keys whose records it cannot read, and keys whose entries it cannot.
    pub(super) rotten: (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>),
}

impl Model {
    pub(super) fn new(actor: u64, profile: Profile, position_bits: u32) -> Model {
        let definition = Definition { profile, ..Definition::simple(DatasetId([1; 16]), "model") };
        let keys = Keys::new(&DatasetKey::from_bytes([3; 32])).with_position_bits(position_bits);
        let life = Life { actor, nonce: actor };
        let (records, commits) = (BTreeMap::new(), BTreeMap::new());
        let clock = Clock::default();
        Model {
            definition,
            name: "default".into(),
            beside: Vec::new(),
            keys,
            life,
            clock,
            now: 1_000_000,
            commit: 0,
            records,
            commits,
            entries: BTreeMap::new(),
            distort: None,
            planner: Planner::default(),
            reads: 0,
            met: BTreeMap::new(),
            meanwhile: None,
            openings: BTreeMap::new(),
            horizon: Horizon::default(),
            undone: 0,
            wall: 0,
            watermark: 0,
            rotten: Default::default(),
        }
    }

    pub(super) fn records(&self) -> &BTreeMap<Vec<u8>, State> {
        &self.records
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Has another policy from now on.
    pub(super) fn with_policy(mut self, policy: &str) -> Model {
        self.definition.collections[0].policy = policy.into();
        self
    }

    pub(super) fn definition_mut(&mut self) -> &mut Definition {
        &mut self.definition
    }

    pub(super) fn keeps(&self) -> Keeps {
        self.definition.keeps(CollectionId(0))
    }

    /// What the profile makes of a key's record.
    pub(super) fn worth(&self, key: &[u8]) -> Option<crate::Digest> {
        let state = self.records.get(key)?.clone();
        self.keys.entry(self.definition.profile, &self.name, &Record { key: key.to_vec(), state })
    }

    pub(super) fn fill(&mut self, n: u32) {
        (0..n).for_each(|i| self.write(&i.to_be_bytes(), Some(i.to_le_bytes().to_vec())));
    }

    /// Holds exactly these records beside those that it has.
    pub(super) fn put_all(&mut self, records: &BTreeMap<Vec<u8>, State>) {
        records.iter().for_each(|(key, state)| self.set(key, state.clone()));
    }

    pub(super) fn write(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        self.now += 1;
        let stamp = self.clock.next(self.now);
        let seen = self.records.get(key).into_iter().flat_map(State::versions).map(|sibling| &sibling.version);
        let version = Version::after(stamp, Actor(self.life.actor), seen);
        let content = value.map_or(Content::Tombstone, Content::Live);
        self.set(key, State::single(Sibling { version, content, expires: None }));
        self.commit += 1;
        self.commits.insert(key.to_vec(), self.commit);
    }

    /// Holds a value as a database does: without a version, and nothing where it is gone.
    pub(super) fn put_bare(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        match value {
            Some(value) => {
                let version = Version::after(Stamp(0), Actor(0), []);
                self.set(key, State::single(Sibling { version, content: Content::Live(value), expires: None }));
            }
            None => {
                self.entry(key).inspect(|entry| drop(self.entries.remove(entry)));
                self.records.remove(key);
            }
        }
        self.commit += 1;
        self.commits.insert(key.to_vec(), self.commit);
    }

    fn set(&mut self, key: &[u8], state: State) {
        if let Some(entry) = self.entry(key) {
            self.entries.remove(&entry);
        }
        self.records.insert(key.to_vec(), state);
        if let Some(entry) = self.entry(key) {
            self.entries.insert(entry, key.to_vec());
        }
    }

    /// The record at a position, with its entry.
    pub(super) fn at(&self, position: Position) -> Option<(Entry, Record)> {
        let (entry, key) = self.keyed(Range::of(position, 16)).next()?;
        Some((*entry, Record { key: key.clone(), state: self.records[key].clone() }))
    }

    /// Joins a record, as one that was pushed.
    pub(super) fn join(&mut self, record: Record) {
        self.apply(vec![Incoming { record, guard: Guard::Join }]);
    }

    fn entry(&self, key: &[u8]) -> Option<Entry> {
        Some(Entry { position: self.keys.position(&self.name, key), digest: self.worth(key)? })
    }

    /// Loses all records of a range, as a damaged disk would; says how many.
    pub(super) fn lose(&mut self, range: Range) -> usize {
        let keys: Vec<Vec<u8>> = self.keyed(range).map(|(_, key)| key.clone()).collect();
        self.entries.retain(|entry, _| !range.contains(entry.position));
        keys.iter().for_each(|key| {
            self.records.remove(key);
        });
        self.commit += 1;
        keys.len()
    }

    pub(super) fn copy_from(&mut self, other: &Model) {
        self.records = other.records.clone();
        self.commits = other.commits.clone();
        self.commit = other.commit;
        self.clock = other.clock;
        self.now = other.now;
        self.entries = other.entries.clone();
    }

    fn within(&self, range: Range) -> Vec<Entry> {
        self.keyed(range).map(|(entry, _)| *entry).collect()
    }

    /// The entries of a range with their keys.
    fn keyed(&self, range: Range) -> impl Iterator<Item = (&Entry, &Vec<u8>)> {
        let lowest = Entry { position: range.first(), digest: crate::Digest::ZERO };
        self.entries.range(lowest..).take_while(move |(entry, _)| entry.position <= range.last())
    }

    fn view(&self, ask: &Ask) -> View {
        let entries = self.within(ask.range);
        let summary = self.keys.build(ask.range, &entries, &mut |_, _| {});
        let shape = if entries.is_empty() {
            Shape::Empty
        } else if is_leaf(ask.range, summary.count) {
            Shape::Leaf(entries)
        } else {
            let part = |i| {
                let below = ask.range.descendant(ask.levels, i);
                self.keys.build(below, &self.within(below), &mut |_, _| {})
            };
            Shape::Inner((0..1usize << (4 * ask.levels)).map(part).collect())
        };
        View { range: ask.range, summary, shape }
    }

    /// From the entries themselves, so that what a store keeps can be told from what it should.
    fn sketch(&self, range: Range, cells: usize) -> Sketch {
        let entries = self.within(range);
        let mut sketch = Sketch::new(cells_kept(range.depth(), entries.len() as u64).min(cells));
        entries.iter().for_each(|entry| sketch.add(Element::of(entry)));
        match &self.distort {
            Some(distort) => distort(range, sketch),
            None => sketch,
        }
    }

    fn rest(&self, range: Range, parts: &[Range]) -> Summary {
        let mut entries = self.within(range);
        entries.retain(|entry| !parts.iter().any(|part| part.contains(entry.position)));
        self.keys.build(range, &entries, &mut |_, _| {})
    }

    fn item(&self, key: &[u8]) -> Item {
        let info = |sibling: &Sibling| {
            let value = match &sibling.content {
                Content::Live(value) => Some(value),
                Content::Tombstone => None,
            };
            VersionInfo {
                version: sibling.version.clone(),
                content: value.map(|value| self.keys.content(value)),
                bytes: value.map_or(0, |value| value.len() as u64),
                expires: sibling.expires,
            }
        };
        Item {
            position: self.keys.position(&self.name, key),
            key: key.to_vec(),
            digest: self.worth(key),
            versions: self.records[key].versions().iter().map(info).collect(),
            commit: self.commits.get(key).copied().unwrap_or(0),
        }
    }

    fn items(&self, range: Range) -> Vec<Item> {
        let mut items: Vec<Item> = self.keyed(range).map(|(_, key)| self.item(key)).collect();
        items.sort_by(|a, b| (a.position, &a.key).cmp(&(b.position, &b.key)));
        items
    }

    fn cut(&self) -> Cut {
        let root = self.keys.build(Range::ALL, &self.within(Range::ALL), &mut |_, _| {});
        Cut {
            commit: self.commit,
            stamp: self.clock.last(),
            horizon: self.horizon.stamp,
            undone: self.undone,
            watermark: self.watermark,
            roots: [root].into_iter().chain(self.beside.iter().flat_map(|other| other.cut().roots)).collect(),
        }
    }

    /// Where it cannot answer, if it cannot.
    pub(super) fn stuck(&self, query: &Query) -> Option<Stuck> {
        let (records, entries) = &self.rotten;
        let within = |range: &Range| self.keyed(*range).any(|(_, key)| records.contains(key));
        let fails = match query {
            Query::Views(_, asks) => asks.iter().any(|ask| {
                let shows = self.keyed(ask.range).any(|(_, key)| entries.contains(key));
                shows && matches!(self.view(ask).shape, Shape::Leaf(_))
            }),
            Query::Items(_, ranges) => ranges.iter().any(within),
            Query::List(_, range, _) => within(range),
            Query::Apply(_, batch) => batch.iter().any(|one| records.contains(&one.record.key)),
            _ => false,
        };
        fails.then(|| Stuck::asking(query, &self.definition, &self.keys)).flatten()
    }

    /// The same of records that it is to stream.
    pub(super) fn stuck_at(&self, selections: &[Selection]) -> Option<Stuck> {
        let at = |selection| Stuck::reading(CollectionId(0), selection, Position(0));
        let within = |range: &Range| self.keyed(*range).any(|(_, key)| self.rotten.0.contains(key));
        selections.iter().map(at).find(|stuck| stuck.ranges.iter().any(within))
    }

    /// What it answers about its first collection, and as a whole.
    fn answer_alone(&mut self, query: Query) -> Answer {
        match query {
            Query::Cut => Answer::Cut(self.cut()),
            Query::Expire(upto) => {
                self.expire(upto);
                Answer::Cut(self.cut())
            }
            Query::Introduce => {
                self.expire(None);
                self.openings.insert(self.life.nonce, self.commit);
                Answer::Cut(self.cut())
            }
            Query::Meet(peer, commit) => {
                self.openings.insert(self.life.nonce, self.commit);
                let all = self.met.entry(peer.actor).or_default();
                let doubtful = life::meet(all, Sighting { nonce: peer.nonce, commit }) == Meeting::Doubtful;
                let told = if doubtful { all.clone() } else { Vec::new() };
                if let Some((actor, other)) = self.meanwhile.take() {
                    life::meet(self.met.entry(actor).or_default(), other);
                }
                Answer::Met(self.cut(), told)
            }
            Query::Confirm(peer, commit, by) => {
                let all = self.met.entry(peer.actor).or_default();
                Answer::Confirmed(life::confirm(all, Sighting { nonce: peer.nonce, commit }, by))
            }
            Query::Recognise(met, whole) => {
                let opening = |met: &Sighting| {
                    let end = self
                        .openings
                        .get(&met.nonce)
                        .map(|end| if met.nonce == self.life.nonce { self.commit } else { *end });
                    (*met, end.map(|end| Opening { began: Stamp::default(), stamp: Stamp::default(), end }))
                };
                let forked = life::forked(&met.iter().map(opening).collect::<Vec<_>>()).is_some();
                Answer::Recognised(match (forked, whole) {
                    (false, _) => Recognition::Same,
                    (true, false) => Recognition::Unsure,
                    (true, true) => {
                        self.life.actor += 1000;
                        Recognition::Renewed
                    }
                })
            }
            Query::Horizon => Answer::Horizon(self.horizon.clone()),
            Query::Raise(horizon) => {
                let own = horizon.of(self.life.actor);
                let known = |met: Sighting| self.openings.contains_key(&met.nonce) && met.commit <= self.commit;
                if !own.into_iter().any(|own| known(own.met)) {
                    return Answer::Raised(Raising::Behind);
                }
                self.collect(horizon);
                Answer::Raised(Raising::Raised)
            }
            Query::Views(_, asks) => Answer::Views(asks.iter().map(|ask| self.view(ask)).collect()),
            Query::Items(_, ranges) => {
                let items: Vec<Item> = ranges.iter().flat_map(|range| self.items(*range)).collect();
                self.reads += items.len() as u64;
                Answer::Items(items)
            }
            Query::Sketches(_, ranges, cells) => {
                Answer::Sketches(ranges.iter().map(|range| self.sketch(*range, cells)).collect())
            }
            Query::Rests(_, ranges) => {
                Answer::Rests(ranges.iter().map(|(range, parts)| self.rest(*range, parts)).collect())
            }
            Query::List(_, range, after) => {
                let mut items = self.items(range);
                items.retain(|item| after.as_ref().is_none_or(|a| (item.position, &item.key) > (a.0, &a.1)));
                let more = items.len() > 50;
                items.truncate(50);
                self.reads += items.len() as u64;
                let next = items.last().filter(|_| more).map(|item| (item.position, item.key.clone()));
                Answer::Listed(items, next)
            }
            Query::Apply(_, batch) => Answer::Applied(self.apply(batch)),
            Query::Overwrite(_, overwrites) => Answer::Applied(self.overwrite(overwrites)),
            Query::Sync => Answer::Synced,
        }
    }

    /// Lets expire what expires up to a time, but never beyond its clock and the bound; or up to its clock.
    pub(super) fn expire(&mut self, upto: Option<Millis>) {
        let upto = upto.unwrap_or(self.wall).min(self.wall.saturating_add(CLOCK_BOUND_MILLIS));
        self.watermark = self.watermark.max(upto);
        let expired = |(key, state): (&Vec<u8>, &State)| Some((key.clone(), state.expired(self.watermark)?));
        let expired: Vec<(Vec<u8>, State)> = self.records.iter().filter_map(expired).collect();
        self.commit += u64::from(!expired.is_empty());
        for (key, state) in expired {
            self.set(&key, state);
            self.commits.insert(key, self.commit);
        }
    }

    /// Drops the tombstones up to a horizon.
    pub(super) fn collect(&mut self, horizon: Horizon) {
        let past = |one: &Sibling| one.gone_since().is_some_and(|since| since <= horizon.stamp);
        let gone = |(_, state): &(&Vec<u8>, &State)| state.versions().iter().all(past);
        let gone: Vec<Vec<u8>> = self.records.iter().filter(gone).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.entry(&key).map(|entry| self.entries.remove(&entry));
            self.records.remove(&key);
        }
        self.commit += 1;
        self.horizon = horizon;
    }

    fn apply(&mut self, batch: Vec<Incoming>) -> Applied {
        let mut applied = Applied::default();
        for Incoming { mut record, guard } in batch {
            let old = self.records.get(&record.key).cloned();
            let new = match guard {
                Guard::Bare if !record.dress(old.as_ref(), &self.keys) => {
                    applied.moved += 1;
                    continue;
                }
                Guard::Join | Guard::Bare => {
                    old.as_ref().map_or(record.state.clone(), |old| old.join(&record.state, self.keeps(), &self.keys))
                }
                Guard::IfShort(expected) if expected == self.worth(&record.key).map(|d| d.short()) => record.state,
                Guard::IfShort(_) => {
                    applied.moved += 1;
                    continue;
                }
            };
            if old.as_ref() == Some(&new) {
                applied.kept += 1;
                continue;
            }
            applied.applied += 1;
            applied.losses.add(Loss::of_states(old.as_ref(), Some(&new)));
            let _ = self.clock.observe(new.winner().version.stamp, self.now, Millis::MAX);
            self.commits.insert(record.key.clone(), self.commit + 1);
            self.set(&record.key, new);
        }
        if applied.applied > 0 {
            self.commit += 1;
        }
        applied.commit = self.commit;
        applied
    }

    /// What readers see of a state.
    pub(super) fn shown(&self, state: &State) -> (Content, Option<Millis>) {
        let policy = crate::policy::named(&self.definition.collections[0].policy).expect("a policy");
        let judged = policy.judge(state.versions());
        let (content, expires) = judged.seen(state.versions());
        (content.clone(), expires)
    }

    fn overwrite(&mut self, overwrites: Vec<Overwrite>) -> Applied {
        let mut applied = Applied::default();
        for Overwrite { key, expected, content, seen } in overwrites {
            if expected != self.worth(&key).map(|digest| digest.short()) {
                applied.moved += 1;
                continue;
            }
            let own = self.records.get(&key).cloned();
            let (content, expires) = match content {
                Replacement::Keep => own.as_ref().map_or((Content::Tombstone, None), |own| self.shown(own)),
                Replacement::Delete => (Content::Tombstone, None),
                Replacement::Take(value, expires) => (Content::Live(value), expires),
                Replacement::Shown(state) => self.shown(&state),
            };
            for version in &seen {
                let _ = self.clock.observe(version.stamp, self.now, Millis::MAX);
            }
            let replaced = own.iter().flat_map(State::versions).map(|sibling| &sibling.version).chain(&seen);
            let version = Version::after(self.clock.next(self.now), Actor(self.life.actor), replaced);
            let new = State::single(Sibling { version, content, expires });
            applied.losses.add(Loss::of_states(self.records.get(&key), Some(&new)));
            self.set(&key, new);
            self.commits.insert(key, self.commit + 1);
            applied.applied += 1;
        }
        self.commit += u64::from(applied.applied > 0);
        applied.commit = self.commit;
        applied
    }

    /// The records of a stream, and how many had moved.
    pub(super) fn stream(&self, selections: &[Selection], given: Vec<Record>, guards: &Guards) -> (Vec<Incoming>, u64) {
        let (mut keys, mut parts, mut bare) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut moved = 0;
        for selection in selections {
            match selection {
                Selection::Range(range) => {
                    keys.extend(
                        self.entries.iter().filter(|(e, _)| range.contains(e.position)).map(|(_, k)| k.clone()),
                    );
                }
                Selection::Elements(bits, elements) => {
                    for element in elements {
                        let same = |(entry, _): &(&Entry, &Vec<u8>)| Element::of(entry).cut(*bits) == *element;
                        match self.keyed(element.range()).filter(same).collect::<Vec<_>>().as_slice() {
                            [(_, key)] => keys.push((*key).clone()),
                            _ => moved += 1,
                        }
                    }
                }
                Selection::Versions { bare, of } => {
                    for (position, dots) in of {
                        let record = |key: &Vec<u8>| {
                            self.records[key].only(dots).map(|state| Record { key: key.clone(), state })
                        };
                        let found: Vec<Record> =
                            self.keyed(Range::of(*position, 16)).filter_map(|(_, key)| record(key)).collect();
                        moved += u64::from(found.is_empty());
                        parts.extend(found.into_iter().map(|record| (record, *bare)));
                    }
                }
                Selection::Entries(entries) | Selection::Bare(entries) => {
                    for (position, short) in entries {
                        let same = |(entry, _): &(&Entry, &Vec<u8>)| entry.digest.short() == *short;
                        match self.keyed(Range::of(*position, 16)).find(same) {
                            Some((_, key)) => {
                                if matches!(selection, Selection::Bare(_)) {
                                    bare.insert(key.clone());
                                }
                                keys.push(key.clone());
                            }
                            None => moved += 1,
                        }
                    }
                }
            }
        }
        let guarded = |(mut record, bare): (Record, bool)| {
            let guard = match guards {
                Guards::Join if bare => {
                    record.strip(&self.keys);
                    Guard::Bare
                }
                Guards::Join => Guard::Join,
                Guards::Compared(guards) => Guard::IfShort(guards.get(&record.key).copied().flatten()),
            };
            Incoming { record, guard }
        };
        let record =
            |key: Vec<u8>| (Record { state: self.records[&key].clone(), key: key.clone() }, bare.contains(&key));
        let given = given.into_iter().map(|record| (record, false));
        (keys.into_iter().map(record).chain(parts).chain(given).map(guarded).collect(), moved)
    }

    /// The root of all collections.
    pub(super) fn root(&self) -> Summary {
        self.keys.root(&[(self.definition.collections[0].name.as_str(), self.cut().roots[0])])
    }

    pub(super) fn commit(&self) -> u64 {
        self.commit
    }

    pub(super) fn last_stamp(&self) -> Stamp {
        self.clock.last()
    }

    pub(super) fn opener(&self, options: Options) -> Opener {
        Opener::new(Arc::new(self.definition.clone()), Arc::new(self.keys.clone()), self.life, options, 0)
    }

    pub(super) fn responder(&self, rights: Rights) -> Responder {
        self.responder_to(Grant::everywhere(rights))
    }

    pub(super) fn responder_to(&self, grant: Grant) -> Responder {
        let (definition, keys) = (Arc::new(self.definition.clone()), Arc::new(self.keys.clone()));
        Responder::new(definition, keys, self.life, grant).with_planner(self.planner)
    }
}
