//! One commit: what a group of callers wants written, decided in order and laid over records and trees at once.
//! Who leads the group and who waits is the concern of [`super::commit`].

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use reknit_core::brakes::{Loss, Losses};
use reknit_core::tree::{Change, Update, update};
use reknit_core::{Clock, CollectionId, Content, Digest, Millis, Position, Profile, Record, Sibling, Stamp, State};

use reknit_core::planted::{Bug, planted};

use super::cache::{Cache, Touched};
use super::journal::{self, Gathered, Writing};
use super::quarantine;
use super::rows::{self, Counts, Stored};
use super::seen::is_conflict;
use super::sketches;
use super::tree::{Batched, Tree};
use super::watch::{Event, Origin};
use super::{Inner, StoreError};
use crate::store::engine::{Batch, Durability, EngineError, Snapshot};

mod arriving;
mod asked;
mod found;
mod leaving;
mod missed;
mod put;

use arriving::{own_version, receive, supersede};
use leaving::leave;
use missed::{catch_up, collect};
use put::put_tree;

pub(super) use asked::Write;

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
    /// Live records that the writes overwrote or deleted.
    pub(super) losses: Losses,
}

impl Done {
    /// How many of the writes changed the store.
    pub(super) fn changed(&self) -> u64 {
        self.fates.iter().filter(|fate| **fate == Fate::Applied).count() as u64
    }
}

/// What only the leader of a group touches.
pub(super) struct Writer {
    pub(super) clock: Clock,
    pub(super) cache: Cache,
    pub(super) counts: Vec<Counts>,
    /// A commit failed: what is on disk is not known until the store is opened again.
    pub(super) failed: bool,
}

/// A key that the group touches, with what there was of it before the group, and its state as decided so far.
struct Slot {
    collection: CollectionId,
    position: Position,
    key: Vec<u8>,
    before_live: Option<bool>,
    /// The commit that had changed it last; zero if that is this one.
    before_commit: u64,
    before_conflict: bool,
    /// Its stamp, if it was nothing but a tombstone that may be collected one day.
    before_dead: Option<Stamp>,
    /// When its first version expires, if one does.
    before_expires: Option<Millis>,
    before_digest: Option<Digest>,
    now: Option<State>,
    now_digest: Option<Digest>,
    changed: bool,
}

/// Decides and commits the writes of a group; answers each caller.
pub(super) fn commit(store: &Inner, callers: Vec<Vec<Write>>, durability: Durability) -> Result<Vec<Done>, StoreError> {
    let durability = if planted(Bug::AcknowledgedBeforeSync) { Durability::Buffered } else { durability };
    let mut writer = store.writer.lock().unwrap_or_else(PoisonError::into_inner);
    if writer.failed {
        let poisoned = || EngineError::Poisoned { dir: store.dir.clone() }.into();
        return Err(store.sketches.refused().unwrap_or_else(poisoned));
    }
    let sizes: Vec<usize> = callers.iter().map(Vec::len).collect();
    let snapshot = store.engine.snapshot()?;
    let now = (store.clock)();
    let mut batch = Batch::new();
    let mut writes: Vec<Write> = callers.into_iter().flatten().collect();
    let brought = writes.iter().filter_map(Write::brings).min();
    quarantine::look_up(store, &*snapshot, now, &mut writes)?;
    let mut plan = Plan::read(store, &mut writer, &*snapshot, writes)?;
    let mut clock = writer.clock;
    let fates = plan.decide(store, &mut clock, now, &mut batch);
    quarantine::stage(store, &*snapshot, std::mem::take(&mut plan.quarantined), now, &mut batch)?;

    let head = store.head();
    let mut roots = head.roots;
    let mut counts = writer.counts.clone();
    plan.put_records(store, head.commit + 1, &mut batch);
    store.bases.stage(head.commit + 1, plan.entries_before(), &mut batch);
    plan.count(store, &mut counts, &mut batch);
    let mut trees: Vec<(CollectionId, Touched, Update)> = Vec::new();
    let mut staged = Vec::new();
    if !store.no_tree {
        for (collection, (touched, changes)) in plan.changes() {
            if changes.is_empty() {
                writer.cache.put_back(collection, touched);
                continue;
            }
            let tree = Tree::of(store, &*snapshot, collection);
            let old = roots[usize::from(collection.0)];
            let moves = sketches::moves(&changes);
            let batched = Batched::resume(tree, &mut writer.cache, touched);
            let laid = update(&store.keys, &batched, old, changes)
                .map_err(|error| StoreError::damaged(format!("{error} (collection {})", store.name_of(collection))))?;
            put_tree(store, collection, &laid, &mut batch);
            if moves.len() > 0 {
                staged.push(sketches::stage(store, tree, &laid, moves, head.commit + 1, &mut batch)?);
            }
            roots[usize::from(collection.0)] = laid.root;
            trees.push((collection, batched.into_touched(), laid));
        }
    }
    let changed = plan.layouts > 0 || plan.gathered.changes() || plan.slots.iter().any(|slot| slot.changed);
    let lowered = planted(Bug::CommitLoweredByUndo) && plan.gathered.undoes();
    let commit = if lowered { head.commit - 1 } else { head.commit + u64::from(changed) };
    if changed {
        put_head(commit, &clock, &mut batch);
    }
    if plan.restores {
        store.collecting.put_undone(commit, &mut batch);
    }
    if plan.expires {
        store.expiring.put(&mut batch);
    }
    let entries = |collection: CollectionId| roots[usize::from(collection.0)].count;
    let gathered = std::mem::take(&mut plan.gathered);
    let changed_keys = plan.changed().count() as u64;
    let mut late = planted(Bug::BeforeImageAfter).then(Batch::new);
    let journal = late.as_mut().unwrap_or(&mut batch);
    let journalled = store.journal.stage(gathered, (commit, now), changed_keys, entries, journal);
    let events = plan.events.take();
    if durability == Durability::Buffered {
        let states = plan.changed().filter_map(|slot| slot.now.as_ref());
        store.owed.owe(commit, states, (store.lives.actor(), writer.clock.last()));
    }
    drop((plan, snapshot));
    let late = |()| late.as_mut().map_or(Ok(()), |late| store.engine.commit(late, durability));
    if let Err(error) = store.engine.commit(&mut batch, durability).and_then(late) {
        writer.failed = true;
        return Err(error.into());
    }
    if durability == Durability::Synced {
        store.owed.settled(commit);
    }
    for (collection, touched, laid) in trees {
        writer.cache.absorb(collection, touched, &laid);
    }
    writer.clock = clock;
    writer.counts = counts;
    store.journal.take_over(journalled);
    if changed {
        let mut held = store.sketches.hold();
        store.sketches.take_over(&mut held, staged);
        store.publish(commit, clock.last(), roots);
        drop(held);
        store.watchers.push(commit, events);
    }
    // Once it can be read: who looks out since then sees it in what it compares.
    brought.into_iter().for_each(|oldest| store.lookouts.comes(oldest));
    let mut fates = fates.into_iter();
    let done = |size| {
        let mut losses = Losses::default();
        let told = |(fate, loss)| {
            losses.add(loss);
            fate
        };
        let fates = fates.by_ref().take(size).map(told).collect();
        Done { commit, fates, losses }
    };
    Ok(sizes.into_iter().map(done).collect())
}

/// The facts that every commit writes.
pub(super) fn put_head(commit: u64, clock: &Clock, batch: &mut Batch) {
    let mut value = commit.to_be_bytes().to_vec();
    value.extend_from_slice(&clock.last().0.to_be_bytes());
    batch.put(&rows::meta(super::HEAD), &value);
}

/// The writes of a group in the order in which they came, and the keys that they touch in the order of their rows.
struct Plan {
    writes: Vec<Write>,
    slots: Vec<Slot>,
    /// For each write its slot; none for a write that means no key.
    slot_of: Vec<Option<usize>>,
    /// Parts of the trees that are at hand.
    touched: BTreeMap<CollectionId, Touched>,
    /// What watchers will be told; none where nobody is to be told.
    events: Option<Vec<Event>>,
    layouts: usize,
    /// Whether exact states of before a run are put back.
    restores: bool,
    /// Whether something expires.
    expires: bool,
    gathered: Gathered,
    /// The run under which what ordinary writes replace is kept, if it is.
    keeping: Option<Arc<Writing>>,
    /// What readers lost by the write that was decided last.
    loss: Option<Loss>,
    quarantined: quarantine::Gathered,
    /// What readers lost by what left quarantine.
    released: Losses,
}

impl Plan {
    /// Finds the keys and reads what is there of them, in order of position.
    fn read(
        store: &Inner,
        writer: &mut Writer,
        snapshot: &dyn Snapshot,
        mut writes: Vec<Write>,
    ) -> Result<Self, StoreError> {
        let mut wanted = Vec::with_capacity(writes.len());
        for (nth, write) in writes.iter().enumerate() {
            if let Some((collection, key)) = write.place() {
                wanted.push((collection, store.keys.position(store.name_of(collection), key), nth));
            }
        }
        let key = |nth: usize| writes[nth].place().map(|(_, key)| key);
        wanted.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| (key(a.2), a.2).cmp(&(key(b.2), b.2))));
        let mut slot_of = vec![None; writes.len()];
        let mut firsts = Vec::with_capacity(wanted.len());
        for (collection, position, nth) in wanted {
            let same = |last: &(CollectionId, Position, usize)| {
                (last.0, last.1) == (collection, position) && key(last.2) == key(nth)
            };
            if !firsts.last().is_some_and(same) {
                firsts.push((collection, position, nth));
            }
            slot_of[nth] = Some(firsts.len() - 1);
        }
        let slot = |(collection, position, nth): (CollectionId, Position, usize)| Slot {
            collection,
            position,
            key: writes[nth].take_key(),
            before_live: None,
            before_commit: 0,
            before_conflict: false,
            before_dead: None,
            before_expires: None,
            before_digest: None,
            now: None,
            now_digest: None,
            changed: false,
        };
        let slots = firsts.into_iter().map(slot).collect();
        let events = store.watchers.listens(writes.len()).then(Vec::new);
        let mut plan = Self {
            writes,
            slots,
            slot_of,
            touched: BTreeMap::new(),
            events,
            layouts: 0,
            restores: false,
            expires: false,
            gathered: Gathered::default(),
            keeping: None,
            loss: None,
            quarantined: quarantine::Gathered::default(),
            released: Losses::default(),
        };
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
            let tree = Tree::of(store, snapshot, collection);
            let batched = Batched::new(tree, &mut writer.cache);
            let positions: Vec<Position> = same.iter().map(|slot| slot.position).collect();
            let leaves = batched.prefetch(roots[usize::from(collection.0)], &positions)?;
            // Where each record has an entry, a vacant position tells that there is no record to read.
            let told = store.definition.profile == Profile::Versioned;
            for (leaf, position) in leaves.into_iter().zip(positions) {
                if !(told && batched.is_vacant(leaf, position)) {
                    there.push(nth);
                }
                nth += 1;
            }
            self.touched.insert(collection, batched.into_touched());
        }
        let found = found::read(store, snapshot, &self.slots, &there)?;
        for (nth, stored) in there.into_iter().zip(found) {
            let slot = &mut self.slots[nth];
            if let Some(Stored { commit, state, .. }) = stored {
                slot.before_commit = commit;
                slot.before_live = Some(store.is_live(slot.collection, &state));
                slot.before_conflict = is_conflict(&state);
                slot.before_dead = store.dead(slot.collection, Some(&state));
                slot.before_expires = store.expires_first(Some(&state));
                slot.set(store, Some(state));
                slot.before_digest = slot.now_digest;
            }
        }
        Ok(())
    }

    /// Decides each write, in the order in which the callers came.
    fn decide(
        &mut self,
        store: &Inner,
        clock: &mut Clock,
        now: Millis,
        batch: &mut Batch,
    ) -> Vec<(Fate, Option<Loss>)> {
        let writes = std::mem::take(&mut self.writes);
        self.keeping = store.journal.keeping(now);
        let mut fates = Vec::with_capacity(writes.len());
        for (write, slot) in writes.into_iter().zip(std::mem::take(&mut self.slot_of)) {
            let fate = match write {
                Write::Undoing { run, mut undoing, of } => {
                    let done = |(fate, _): &&(Fate, Option<Loss>)| matches!(fate, Fate::Applied | Fate::Kept);
                    let restored = fates.iter().rev().take(of).filter(done).count();
                    undoing.restored += restored as u64;
                    undoing.skipped += (of - restored) as u64;
                    self.gathered.undoing(run, undoing);
                    Fate::Applied
                }
                write => self.decide_one(store, clock, now, batch, slot, write),
            };
            fates.push((fate, self.loss.take()));
        }
        fates
    }

    fn decide_one(
        &mut self,
        store: &Inner,
        clock: &mut Clock,
        now: Millis,
        batch: &mut Batch,
        slot: Option<usize>,
        write: Write,
    ) -> Fate {
        let slot = slot.and_then(|slot| self.slots.get_mut(slot));
        let ordinary = write.is_ordinary();
        // What a row of a database was, where that is not what is kept of it here.
        let mut whole = None;
        let (slot, next, origin, run) = match (write, slot) {
            (Write::Local { collection, content, expires, .. }, Some(slot)) => {
                let live = |state: &State| store.is_live(collection, state);
                if content == Content::Tombstone && !slot.now.as_ref().is_some_and(live) {
                    return Fate::Kept;
                }
                let version = own_version(store, clock, now, slot.now.as_ref(), &[]);
                (slot, Some(State::single(Sibling { version, content, expires })), Origin::Local, None)
            }
            (Write::Row { value, .. }, Some(slot)) => {
                let same = |state: &State| store.seen(slot.collection, state).value() == Some(&value);
                if slot.now.as_ref().is_some_and(same) {
                    return Fate::Kept;
                }
                let version = own_version(store, clock, now, slot.now.as_ref(), &[]);
                let content = Content::Live(value);
                (slot, Some(State::single(Sibling { version, content, expires: None })), Origin::Local, None)
            }
            (Write::Overwrite { overwrite, run, .. }, Some(slot)) => {
                // Outside of a run it is a caller's own.
                let origin = if run.is_some() { Origin::Session } else { Origin::Local };
                match supersede(store, clock, now, slot, overwrite) {
                    Ok(state) => (slot, Some(state), origin, run),
                    Err(fate) => return fate,
                }
            }
            (Write::Incoming { incoming, run, .. }, Some(slot)) => {
                if run.as_ref().is_some_and(|run| run.is_overtaken(store.collecting.stamp())) {
                    return Fate::Refused(StoreError::Overtaken.to_string());
                }
                match receive(store, clock, now, slot, incoming, &mut self.quarantined) {
                    Ok(state) => (slot, Some(state), Origin::Session, run),
                    Err(fate) => return fate,
                }
            }
            (Write::Reattribute { .. }, Some(slot)) => {
                let renewed = |state| store.lives.renewal().and_then(|renewal| renewal.of(state));
                match slot.now.as_ref().and_then(renewed) {
                    Some(state) => (slot, Some(state), Origin::Session, None),
                    None => return Fate::Kept,
                }
            }
            (Write::Expire { .. }, Some(slot)) => {
                self.expires = true;
                let now = slot.now.clone();
                (slot, now, Origin::Expiry, None)
            }
            (Write::Collect { .. }, Some(slot)) => match collect(store, clock, now, slot) {
                Ok(state) => (slot, state, Origin::Session, None),
                Err(fate) => return fate,
            },
            (Write::CatchUp { missed, base, horizon, run }, Some(slot)) => {
                let found = (missed, base, horizon);
                match catch_up(store, clock, now, slot, found, &mut self.quarantined) {
                    Ok(state) => (slot, state, Origin::Session, Some(run)),
                    Err(fate) => return fate,
                }
            }
            (Write::Release { leaving, how, room, run, .. }, Some(slot)) => {
                match leave(store, (clock, now), slot, (how, leaving, room), (&mut self.released, batch)) {
                    Ok(state) => (slot, Some(state), Origin::Session, run),
                    Err(fate) => return fate,
                }
            }
            (Write::Restore { expected, state, run, .. }, Some(slot)) => {
                if expected != slot.now_digest.map(|digest| digest.short()) {
                    return Fate::Moved;
                }
                let state = state.map(|(state, made)| store.lives.of_earlier(state, made));
                if slot.now == state {
                    return Fate::Kept;
                }
                self.restores = true;
                (slot, state, Origin::Session, Some(run))
            }
            (Write::Follow { content, run, .. }, Some(slot)) => {
                let held = slot.now.as_ref().and_then(State::value);
                if run.is_none() && held == content.as_deref() {
                    return Fate::Kept;
                }
                let state = content.map(|content| {
                    let version = own_version(store, clock, now, slot.now.as_ref(), &[]);
                    State::single(Sibling { version, content: Content::Live(content), expires: None })
                });
                let run = run.map(|(run, before)| {
                    whole = before;
                    run
                });
                (slot, state, Origin::Session, run)
            }
            (Write::Layout { collection, bytes }, _) => {
                match bytes {
                    Some(bytes) => batch.put(&rows::layout(collection), &bytes),
                    None => batch.delete(&rows::layout(collection)),
                }
                self.layouts += 1;
                return Fate::Applied;
            }
            // Only a layout and what is said of an undo mean no key.
            (Write::Undoing { .. }, _) | (_, None) => return Fate::Kept,
        };
        // What has expired is written as such, and a tombstone that was collected not again, whatever brings it.
        let next = next.map(|state| store.without_expired(state));
        let next = next.filter(|state| !store.is_collected(slot.collection, state));
        if slot.now == next {
            return Fate::Kept;
        }
        if let Some(events) = &mut self.events {
            let value = |state: &State| store.seen(slot.collection, state).value().cloned();
            let (old, new) = (slot.now.as_ref().and_then(value), next.as_ref().and_then(value));
            let (collection, key) = (slot.collection, slot.key.clone());
            events.push(Event { collection, key, old, new, origin, commit: 0 });
        }
        let before = slot.set(store, next);
        let before_commit = std::mem::take(&mut slot.before_commit);
        slot.changed = true;
        self.loss = store.lost(slot.collection, before.as_ref(), slot.now.as_ref());
        let before = match (before, whole) {
            (Some(before), Some(whole)) => {
                let sibling = Sibling { content: Content::Live(whole), ..before.winner().clone() };
                Some(State::single(sibling))
            }
            (before, _) => before,
        };
        // Of ordinary writes only what they replace is kept.
        let keeping = self.keeping.as_ref().filter(|_| ordinary && before.is_some());
        if let Some(run) = run.as_ref().or(keeping) {
            let (collection, position, key) = (slot.collection, slot.position, slot.key.as_slice());
            let after = slot.now_digest.map(|digest| digest.short());
            let before = before.as_ref().map(|state| (before_commit, state));
            self.gathered.add(run, journal::Change { collection, position, key, before, after });
        }
        Fate::Applied
    }

    fn changed(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.changed)
    }

    /// What keys were whose entries change.
    fn entries_before(&self) -> impl Iterator<Item = (CollectionId, &[u8], Option<u64>)> {
        let moved = self.changed().filter(|slot| slot.before_digest != slot.now_digest);
        moved.map(|slot| (slot.collection, slot.key.as_slice(), slot.before_digest.map(|digest| digest.short())))
    }

    /// What changes in each tree, with the parts of it that are at hand.
    fn changes(&mut self) -> BTreeMap<CollectionId, (Touched, Vec<Change>)> {
        let mut all = BTreeMap::new();
        for same in self.slots.chunk_by(|a, b| a.collection == b.collection) {
            let collection = same[0].collection;
            let changes: Vec<Change> = same
                .iter()
                .filter(|slot| slot.changed)
                .map(|slot| Change { position: slot.position, before: slot.before_digest, after: slot.now_digest })
                .collect();
            all.insert(collection, (self.touched.remove(&collection).unwrap_or_default(), changes));
        }
        all
    }
}

impl Slot {
    /// Whether there is something of the key, and whether that is live.
    fn is_live(&self, store: &Inner) -> Option<bool> {
        self.now.as_ref().map(|state| store.is_live(self.collection, state))
    }

    /// Gives the key a state, or takes all there is of it; digests it. Gives what there was.
    fn set(&mut self, store: &Inner, state: Option<State>) -> Option<State> {
        let Some(state) = state else {
            self.now_digest = None;
            return self.now.take();
        };
        let record = Record { key: std::mem::take(&mut self.key), state };
        self.now_digest = store.keys.entry(store.definition.profile, store.name_of(self.collection), &record);
        self.key = record.key;
        self.now.replace(record.state)
    }
}

/// The state of one key in a snapshot.
pub(super) fn read_state(
    store: &Inner,
    snapshot: &dyn Snapshot,
    collection: CollectionId,
    position: Position,
    key: &[u8],
) -> Result<Option<State>, StoreError> {
    Ok(read_stored(store, snapshot, collection, position, key)?.map(|stored| stored.state))
}

/// A key in a snapshot, with the commit that changed it last.
pub(super) fn read_stored(
    store: &Inner,
    snapshot: &dyn Snapshot,
    collection: CollectionId,
    position: Position,
    key: &[u8],
) -> Result<Option<Stored>, StoreError> {
    let row = rows::record(collection, position, key);
    let Some(value) = snapshot.get(&row)? else { return Ok(None) };
    store.reads.records.fetch_add(1, Ordering::Relaxed);
    store.read_record(&row, &value).map(Some)
}

/// A state with the digest of its entry.
pub(super) fn digested(store: &Inner, collection: CollectionId, key: &[u8], state: State) -> (State, Option<Digest>) {
    let record = Record { key: key.to_vec(), state };
    let digest = store.keys.entry(store.definition.profile, store.name_of(collection), &record);
    (record.state, digest)
}
