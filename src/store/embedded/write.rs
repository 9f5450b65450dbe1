//! One commit: what a group of callers wants written, decided in order and laid over records and trees at once.
//! Who leads the group and who waits is the concern of [`super::commit`].

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use reknit_core::bounds::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use reknit_core::query::{Guard, Incoming};
use reknit_core::tree::{Change, Update, update};
use reknit_core::{
    Clock, CollectionId, Content, Digest, Millis, Position, Profile, Range, Record, Sibling, State, Version,
};

use super::cache::{Cache, Touched};
use super::rows::{self, Counts};
use super::tree::{Batched, Tree, in_two};
use super::watch::{Event, Origin};
use super::{Inner, StoreError};
use crate::store::engine::{Batch, Durability, EngineError, Snapshot};

/// One thing to be written.
#[derive(Clone, Debug)]
pub(super) enum Write {
    /// A caller's own put or delete.
    Local { collection: CollectionId, key: Vec<u8>, content: Content, expires: Option<Millis> },
    /// A record of a peer.
    Incoming { collection: CollectionId, incoming: Incoming },
    /// The opaque bytes that a collection's rows are laid out by.
    Layout { collection: CollectionId, bytes: Option<Vec<u8>> },
}

impl Write {
    fn place(&self) -> Option<(CollectionId, &[u8])> {
        match self {
            Self::Local { collection, key, .. } => Some((*collection, key)),
            Self::Incoming { collection, incoming } => Some((*collection, &incoming.record.key)),
            Self::Layout { .. } => None,
        }
    }
}

/// What became of one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Applied,
    Kept,
    Moved,
    Refused(String),
}

/// What became of one caller's writes, in order.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) commit: u64,
    pub(super) fates: Vec<Fate>,
}

/// What only the leader of a group touches.
pub(super) struct Writer {
    pub(super) clock: Clock,
    pub(super) cache: Cache,
    pub(super) counts: Vec<Counts>,
    /// A commit failed: what is on disk is not known until the store is opened again.
    pub(super) failed: bool,
}

/// A key that the group touches, with its state before the group and as decided so far.
struct Slot<'w> {
    collection: CollectionId,
    position: Position,
    key: &'w [u8],
    before: Option<State>,
    before_digest: Option<Digest>,
    now: Option<State>,
    now_digest: Option<Digest>,
    changed: bool,
}

/// Decides and commits the writes of a group; answers each caller.
pub(super) fn commit(store: &Inner, callers: &[&[Write]], durability: Durability) -> Result<Vec<Done>, StoreError> {
    let mut writer = store.writer.lock().unwrap_or_else(PoisonError::into_inner);
    if writer.failed {
        return Err(EngineError::Poisoned { dir: store.dir.clone() }.into());
    }
    let snapshot = store.engine.snapshot()?;
    let now = (store.clock)();
    let mut plan = Plan::read(store, &mut writer, &*snapshot, callers)?;
    let mut clock = writer.clock;
    let fates = plan.decide(store, &mut clock, now, callers);

    let head = store.head();
    let mut batch = Batch::new();
    let changed = plan.put_records(store, head.commit + 1, &mut batch);
    let layouts = put_layouts(callers, &mut batch);
    let commit = if changed + layouts == 0 { head.commit } else { head.commit + 1 };
    let mut roots = head.roots.clone();
    let mut trees: Vec<(CollectionId, Touched, Update)> = Vec::new();
    let mut counts = writer.counts.clone();
    plan.count(&mut counts, &mut batch);
    if !store.no_tree {
        for (collection, (touched, changes)) in plan.changes() {
            let tree = Tree { snapshot: &*snapshot, collection, reads: &store.reads };
            let old = roots[usize::from(collection.0)];
            let batched = Batched::resume(tree, &mut writer.cache, touched);
            let laid = update(&store.keys, &batched, old, changes)
                .map_err(|error| StoreError::damaged(format!("{error} (collection {})", store.name_of(collection))))?;
            put_tree(collection, &laid, &mut batch);
            roots[usize::from(collection.0)] = laid.root;
            trees.push((collection, batched.into_touched(), laid));
        }
    }
    let events = std::mem::take(&mut plan.events);
    drop(plan);
    drop(snapshot);
    if commit > head.commit {
        put_head(commit, &clock, &mut batch);
    }
    if let Err(error) = store.engine.commit(batch, durability) {
        writer.failed = true;
        return Err(error.into());
    }
    for (collection, touched, laid) in trees {
        writer.cache.absorb(collection, touched, &laid);
    }
    writer.clock = clock;
    writer.counts = counts;
    if commit > head.commit {
        store.publish(commit, roots);
        store.watchers.push(commit, events);
    }
    Ok(fates.into_iter().map(|fates| Done { commit, fates }).collect())
}

/// The facts that every commit writes.
pub(super) fn put_head(commit: u64, clock: &Clock, batch: &mut Batch) {
    let mut value = commit.to_be_bytes().to_vec();
    value.extend_from_slice(&clock.last().0.to_be_bytes());
    batch.put(rows::meta(super::HEAD), value);
}

fn put_layouts(callers: &[&[Write]], batch: &mut Batch) -> usize {
    let mut put = 0;
    for write in callers.iter().copied().flatten() {
        if let Write::Layout { collection, bytes } = write {
            match bytes {
                Some(bytes) => batch.put(rows::layout(*collection), bytes.clone()),
                None => batch.delete(rows::layout(*collection)),
            }
            put += 1;
        }
    }
    put
}

fn put_tree(collection: CollectionId, laid: &Update, batch: &mut Batch) {
    for (range, summary) in &laid.nodes {
        match summary {
            Some(summary) => batch.put(rows::node(collection, *range), rows::node_value(summary)),
            None => batch.delete(rows::node(collection, *range)),
        }
    }
    for (position, digests) in &laid.positions {
        match digests.as_slice() {
            [] => batch.delete(rows::entry(collection, *position)),
            digests => batch.put(rows::entry(collection, *position), rows::entry_value(digests)),
        }
    }
    batch.put(rows::node(collection, Range::ALL), rows::node_value(&laid.root));
}

/// All keys of a group in the order of their rows, and which of them each write means.
struct Plan<'w> {
    slots: Vec<Slot<'w>>,
    /// For each caller and each of its writes, the slot; none for a write that means no key.
    slot_of: Vec<Vec<Option<usize>>>,
    touched: BTreeMap<CollectionId, Touched>,
    events: Vec<Event>,
}

impl<'w> Plan<'w> {
    /// Finds the keys and reads what is there of them, in order of position.
    fn read(
        store: &Inner,
        writer: &mut Writer,
        snapshot: &dyn Snapshot,
        callers: &[&'w [Write]],
    ) -> Result<Self, StoreError> {
        let mut wanted = Vec::new();
        let mut slot_of: Vec<Vec<Option<usize>>> = Vec::new();
        for (caller, writes) in callers.iter().enumerate() {
            slot_of.push(vec![None; writes.len()]);
            for (nth, write) in writes.iter().enumerate() {
                if let Some((collection, key)) = write.place() {
                    let position = store.keys.position(store.name_of(collection), key);
                    wanted.push((collection, position, key, caller, nth));
                }
            }
        }
        wanted.sort_unstable();
        let mut slots: Vec<Slot<'w>> = Vec::with_capacity(wanted.len());
        for (collection, position, key, caller, nth) in wanted {
            let same = |last: &Slot<'_>| (last.collection, last.position, last.key) == (collection, position, key);
            if !slots.last().is_some_and(same) {
                slots.push(Slot {
                    collection,
                    position,
                    key,
                    before: None,
                    before_digest: None,
                    now: None,
                    now_digest: None,
                    changed: false,
                });
            }
            slot_of[caller][nth] = Some(slots.len() - 1);
        }
        let mut plan = Self { slots, slot_of, touched: BTreeMap::new(), events: Vec::new() };
        plan.load(store, writer, snapshot)?;
        Ok(plan)
    }

    fn load(&mut self, store: &Inner, writer: &mut Writer, snapshot: &dyn Snapshot) -> Result<(), StoreError> {
        let mut there: Vec<usize> = Vec::new();
        let roots = store.head().roots;
        let mut nth = 0;
        for same in self.slots.chunk_by(|a, b| a.collection == b.collection) {
            let collection = same[0].collection;
            if store.no_tree {
                there.extend(nth..nth + same.len());
                nth += same.len();
                continue;
            }
            let root = roots[usize::from(collection.0)];
            let batched = Batched::new(Tree { snapshot, collection, reads: &store.reads }, &mut writer.cache);
            let positions: Vec<Position> = same.iter().map(|slot| slot.position).collect();
            batched.prefetch(root, &positions)?;
            for slot in same {
                // Where each record has an entry, a vacant position tells that there is none to read.
                let told = store.definition.profile == Profile::Versioned;
                if !(told && batched.is_vacant(root, slot.position)?) {
                    there.push(nth);
                }
                nth += 1;
            }
            self.touched.insert(collection, batched.into_touched());
        }
        let slots = &self.slots;
        let found = in_two(&there, |nth| {
            let slot = &slots[*nth];
            read_state(store, snapshot, slot.collection, slot.position, slot.key)
        })?;
        for (nth, state) in there.into_iter().zip(found) {
            let slot = &mut self.slots[nth];
            let Some(state) = state else { continue };
            let (state, digest) = digested(store, slot.collection, slot.key, state);
            (slot.before_digest, slot.now_digest) = (digest, digest);
            slot.before = Some(state.clone());
            slot.now = Some(state);
        }
        Ok(())
    }

    /// Decides each write in the order in which the callers came.
    fn decide(&mut self, store: &Inner, clock: &mut Clock, now: Millis, callers: &[&[Write]]) -> Vec<Vec<Fate>> {
        let mut all = Vec::with_capacity(callers.len());
        for (caller, writes) in callers.iter().enumerate() {
            let mut fates = Vec::with_capacity(writes.len());
            for (nth, write) in writes.iter().enumerate() {
                fates.push(match self.slot_of[caller][nth] {
                    Some(slot) => self.decide_one(store, clock, now, slot, write),
                    None => Fate::Applied,
                });
            }
            all.push(fates);
        }
        all
    }

    fn decide_one(&mut self, store: &Inner, clock: &mut Clock, now: Millis, slot: usize, write: &Write) -> Fate {
        let slot = &mut self.slots[slot];
        let (next, origin) = match write {
            Write::Local { content, expires, .. } => {
                if *content == Content::Tombstone && !slot.now.as_ref().is_some_and(State::is_live) {
                    return Fate::Kept;
                }
                let replaced = slot.now.iter().flat_map(State::versions).map(|sibling| &sibling.version);
                let version = Version::after(clock.next(now), store.actor, replaced);
                let sibling = Sibling { version, content: content.clone(), expires: *expires };
                (State::single(sibling), Origin::Local)
            }
            Write::Incoming { incoming, .. } => match receive(store, clock, now, slot, incoming) {
                Ok(state) => (state, Origin::Session),
                Err(fate) => return fate,
            },
            Write::Layout { .. } => return Fate::Applied,
        };
        let old = slot.now.as_ref().and_then(State::value).map(<[u8]>::to_vec);
        let new = next.value().map(<[u8]>::to_vec);
        let collection = slot.collection;
        self.events.push(Event { collection, key: slot.key.to_vec(), old, new, origin, commit: 0 });
        let (next, digest) = digested(store, slot.collection, slot.key, next);
        slot.now_digest = digest;
        slot.now = Some(next);
        slot.changed = true;
        Fate::Applied
    }

    /// Puts the rows of changed records and of the index by key; returns how many records changed.
    fn put_records(&self, store: &Inner, commit: u64, batch: &mut Batch) -> usize {
        let mut changed = 0;
        for slot in self.slots.iter().filter(|slot| slot.changed) {
            let Some(state) = &slot.now else { continue };
            let row = rows::record(slot.collection, slot.position, slot.key);
            let value = rows::record_value(&row, slot.key, commit, state);
            batch.put(row, value);
            changed += 1;
            let was_live = slot.before.as_ref().is_some_and(State::is_live);
            if store.definition.key_index && was_live != state.is_live() {
                let (row, value) = rows::index(slot.collection, slot.key);
                if state.is_live() {
                    batch.put(row, value);
                } else {
                    batch.delete(row);
                }
            }
        }
        changed
    }

    fn count(&self, counts: &mut [Counts], batch: &mut Batch) {
        for same in self.slots.chunk_by(|a, b| a.collection == b.collection) {
            let collection = same[0].collection;
            let count = &mut counts[usize::from(collection.0)];
            let before = *count;
            for slot in same.iter().filter(|slot| slot.changed) {
                count.replace(slot.before.as_ref(), slot.now.as_ref());
            }
            if *count != before {
                batch.put(rows::counts(collection), count.encode());
            }
        }
    }

    /// What changes in each tree, with the parts of it that are at hand.
    fn changes(&mut self) -> BTreeMap<CollectionId, (Touched, Vec<Change>)> {
        let mut all = BTreeMap::new();
        for same in self.slots.chunk_by(|a, b| a.collection == b.collection) {
            let collection = same[0].collection;
            let changes = same
                .iter()
                .filter(|slot| slot.changed)
                .map(|slot| Change { position: slot.position, before: slot.before_digest, after: slot.now_digest })
                .collect();
            all.insert(collection, (self.touched.remove(&collection).unwrap_or_default(), changes));
        }
        all
    }
}

/// What a peer's record makes of a key, or why it stays as it is.
fn receive(store: &Inner, clock: &mut Clock, now: Millis, slot: &Slot<'_>, incoming: &Incoming) -> Result<State, Fate> {
    let state = &incoming.record.state;
    if let Err(reason) = storable(&incoming.record) {
        return Err(Fate::Refused(reason));
    }
    if slot.now.as_ref() == Some(state) {
        return Err(Fate::Kept);
    }
    let next = match incoming.guard {
        Guard::Join => match &slot.now {
            Some(mine) => mine.join(state),
            None => state.clone(),
        },
        Guard::IfShort(compared) if compared == slot.now_digest.map(|digest| digest.short()) => state.clone(),
        Guard::IfShort(_) => return Err(Fate::Moved),
    };
    if slot.now.as_ref() == Some(&next) {
        return Err(Fate::Kept);
    }
    let newest = state.versions().iter().map(|sibling| sibling.version.stamp).max().unwrap_or_default();
    clock.observe(newest, now, store.clock_bound).map_err(|too_far| Fate::Refused(too_far.to_string()))?;
    Ok(next)
}

/// Whether a record is within the bounds of a store, or why not.
fn storable(record: &Record) -> Result<(), String> {
    if record.key.len() > KEY_BYTES_MAX {
        return Err(format!("its key has {} bytes, at most {KEY_BYTES_MAX} are allowed", record.key.len()));
    }
    for sibling in record.state.versions() {
        match &sibling.content {
            Content::Live(value) if value.len() > VALUE_BYTES_MAX => {
                return Err(format!("its value has {} bytes, at most {VALUE_BYTES_MAX} are allowed", value.len()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The state of one key in a snapshot.
pub(super) fn read_state(
    store: &Inner,
    snapshot: &dyn Snapshot,
    collection: CollectionId,
    position: Position,
    key: &[u8],
) -> Result<Option<State>, StoreError> {
    let row = rows::record(collection, position, key);
    let Some(value) = snapshot.get(&row)? else { return Ok(None) };
    store.reads.records.fetch_add(1, Ordering::Relaxed);
    Ok(Some(rows::read_record(&row, &value)?.state))
}

/// A state with the digest of its entry.
pub(super) fn digested(store: &Inner, collection: CollectionId, key: &[u8], state: State) -> (State, Option<Digest>) {
    let record = Record { key: key.to_vec(), state };
    let digest = store.keys.entry(store.definition.profile, store.name_of(collection), &record);
    (record.state, digest)
}
