//! What must hold, from the history of all writes: which write had seen which, and what therefore may be gone.
//! It knows nothing of trees, sessions or stores; states of keys are what it is told.

mod gone;
mod renamed;
mod step;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;

use reknit::core::canonical::Reader;
use reknit::core::record::Dot;
use reknit::core::stamp::CLOCK_BOUND_MILLIS;
use reknit::core::{Actor, CollectionId, Definition, Keeps, Sibling, Stamp, State};

use crate::disk::{Changed, Map};

pub(crate) use renamed::is_renamed;
pub(crate) use step::Step;

pub(crate) type KeyId = u32;
pub(crate) type WriteId = u32;

/// Tag, collection and position come before the key in the row of a record; a checksum before what is kept of it.
const ROW_HEAD: usize = 11;
const CHECKSUM: usize = 8;

/// One write, by whomever.
pub(crate) struct Write {
    pub(crate) key: KeyId,
    pub(crate) sibling: Sibling,
    /// Under which names it is known: its own, and those that new lives gave it.
    names: Vec<Dot>,
    /// All writes of the key that this one replaced, directly or not.
    seen: BTreeSet<WriteId>,
    /// Those that may be taken for replaced too: what its writer's sessions had replaced before they were undone.
    passed: BTreeSet<WriteId>,
    pub(crate) acked: bool,
    /// It may be gone: the only disks that had it are.
    forgiven: bool,
    /// A crash took it before it was promised.
    lost: bool,
    /// It was made by a session or an undo, of content that was there.
    derived: bool,
    origin: usize,
    /// How often that peer's disk had been replaced.
    epoch: u64,
}

/// Why a state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A write of this peer's user.
    Local,
    /// A session.
    Session,
    /// The states of before a run came back.
    Undo,
    /// Tombstones were collected, or it was caught up with that others were.
    Collect,
}

/// The deletions that were collected where a peer, or one that it collected with, knew of them.
pub(crate) type Lineage = BTreeSet<WriteId>;

/// What a peer has.
#[derive(Clone, Default)]
pub(crate) struct Held {
    pub(crate) states: Rc<BTreeMap<KeyId, Rc<State>>>,
    /// For each collection a sum over its records.
    pub(crate) prints: Vec<u128>,
}

/// Who makes a change.
pub(crate) struct Who<'a> {
    pub(crate) peer: usize,
    pub(crate) actor: Actor,
    /// The latest time that its wall clock ever told.
    pub(crate) latest: u64,
    /// How often its disk was replaced.
    pub(crate) epoch: u64,
    /// Whether another disk may go on under its name.
    pub(crate) forked: bool,
    /// What was collected.
    pub(crate) lineage: &'a Lineage,
    /// Whether another peer has a version of a key.
    pub(crate) elsewhere: &'a dyn Fn(KeyId, Dot) -> bool,
}

pub(crate) struct Oracle {
    definition: Definition,
    pub(crate) keys: Vec<(CollectionId, Vec<u8>)>,
    ids: BTreeMap<(u16, Vec<u8>), KeyId>,
    pub(crate) writes: Vec<Write>,
    /// Several where a store was copied, and both went on under one name.
    by_dot: BTreeMap<Dot, Vec<WriteId>>,
    of_key: Vec<Vec<WriteId>>,
    /// The greatest stamp of each actor that a peer has acknowledged.
    acked: BTreeMap<(usize, Actor), Stamp>,
    /// Writes that were put back, or are offered again, where whatever deleted them had been collected.
    revived: BTreeSet<WriteId>,
    /// Writes that went somewhere while it was caught up there: their writer's next ones have seen them all the same.
    pub(crate) dropped: BTreeSet<WriteId>,
    /// What the changes that were looked at last collected, and what else went with catching up.
    pub(crate) collected: Vec<WriteId>,
    pub(crate) removed: Vec<WriteId>,
}

impl Oracle {
    pub(crate) fn new(definition: Definition) -> Self {
        Self {
            definition,
            keys: Vec::new(),
            ids: BTreeMap::new(),
            writes: Vec::new(),
            by_dot: BTreeMap::new(),
            of_key: Vec::new(),
            acked: BTreeMap::new(),
            revived: BTreeSet::new(),
            dropped: BTreeSet::new(),
            collected: Vec::new(),
            removed: Vec::new(),
        }
    }

    pub(crate) fn key(&mut self, collection: CollectionId, key: &[u8]) -> KeyId {
        if let Some(id) = self.ids.get(&(collection.0, key.to_vec())) {
            return *id;
        }
        let id = self.keys.len() as KeyId;
        self.keys.push((collection, key.to_vec()));
        self.of_key.push(Vec::new());
        self.ids.insert((collection.0, key.to_vec()), id);
        id
    }

    fn keeps(&self, key: KeyId) -> Keeps {
        self.definition.keeps(self.keys[key as usize].0)
    }

    fn row(&mut self, row: &[u8]) -> KeyId {
        let collection = CollectionId(u16::from_be_bytes([row[1], row[2]]));
        self.key(collection, &row[ROW_HEAD..])
    }

    /// All that a disk holds.
    pub(crate) fn held(&mut self, rows: &Map, before: &Held) -> (Held, BTreeMap<KeyId, u64>) {
        let mut commits = BTreeMap::new();
        let mut held = Held { prints: vec![0; self.definition.collections.len()], ..Held::default() };
        for (row, value) in rows.range::<[u8], _>((Bound::Included([1].as_slice()), Bound::Excluded([2].as_slice()))) {
            let key = self.row(row);
            let (commit, bytes) = kept(value);
            let state = State::decode(bytes).expect("a store writes canonical states");
            let old = before.states.get(&key).map(|old| &**old);
            for sibling in state.versions() {
                let _ = self.find(key, sibling).is_some() || self.renamed(Cause::Undo, key, sibling, (old, &state));
            }
            commits.insert(key, commit);
            self.lay(&mut held, key, None, Some((commit, bytes)));
        }
        (held, commits)
    }

    /// Puts a change of a key into what is held; gives it as a step.
    fn lay(&self, held: &mut Held, key: KeyId, old: Option<&[u8]>, new: Option<(u64, &[u8])>) -> Step {
        let (collection, name) = &self.keys[key as usize];
        let print = |bytes: &[u8]| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&(name.len() as u64).to_be_bytes()).update(name).update(bytes);
            let hash = hasher.finalize();
            u128::from_be_bytes(std::array::from_fn(|i| hash.as_bytes()[i]))
        };
        let sum = &mut held.prints[usize::from(collection.0)];
        if let Some(old) = old {
            *sum = sum.wrapping_sub(print(old));
        }
        let states = Rc::make_mut(&mut held.states);
        let Some((commit, bytes)) = new else {
            return Step { key, commit: 0, old: states.remove(&key), new: None };
        };
        *sum = sum.wrapping_add(print(bytes));
        let state = Rc::new(State::decode(bytes).expect("a store writes canonical states"));
        Step { key, commit, old: states.insert(key, Rc::clone(&state)), new: Some(state) }
    }

    /// Takes over what commits changed, and checks each change. Gives the changes and the writes that are new.
    pub(crate) fn observe(
        &mut self,
        who: &Who<'_>,
        cause: Cause,
        held: &mut Held,
        changes: &[Changed],
    ) -> (Vec<Step>, Vec<WriteId>) {
        let (mut steps, mut fresh) = (Vec::new(), Vec::new());
        for change in changes {
            let key = self.row(&change.row);
            let old = change.old.as_deref().map(|value| kept(value).1);
            let step = self.lay(held, key, old, change.new.as_deref().map(kept));
            if let Some(state) = &step.new {
                for sibling in state.versions() {
                    fresh.extend(self.know(who, cause, key, sibling, (step.old.as_deref(), state)));
                }
            }
            step.expired_in_time(who.latest);
            self.nothing_lost(&step, cause, who);
            steps.push(step);
        }
        (steps, fresh)
    }

    /// The commit that a write came with, if one of these steps wrote it.
    pub(crate) fn written(&self, id: WriteId, steps: &[Step]) -> Option<u64> {
        let Write { key, sibling, .. } = &self.writes[id as usize];
        let wrote = |step: &&Step| {
            let new = step.new.iter().flat_map(|state| state.versions());
            step.key == *key && new.into_iter().any(|made| made.version.dot() == sibling.version.dot())
        };
        steps.iter().filter(wrote).map(|step| step.commit).min()
    }

    /// All versions of what is held: those that are not known were made by the store itself when it was opened.
    pub(crate) fn know_all(&mut self, who: &Who<'_>, held: &Held, before: &Held) {
        for (key, state) in held.states.iter() {
            for sibling in state.versions() {
                let old = before.states.get(key).map(|old| &**old);
                let _ = self.know(who, Cause::Collect, *key, sibling, (old, state));
            }
        }
    }

    /// A version that a state holds: known, or made here and now.
    fn know(
        &mut self,
        who: &Who<'_>,
        cause: Cause,
        key: KeyId,
        sibling: &Sibling,
        (old, new): (Option<&State>, &State),
    ) -> Option<WriteId> {
        let version = &sibling.version;
        let twin = |had: &&Sibling| had.version.dot() == version.dot() && !is_of(had, sibling) && !is_of(sibling, had);
        let met = old.and_then(|old| old.versions().iter().find(twin)).filter(|_| cause == Cause::Session);
        assert!(met.is_none(), "I9: {met:?} and {sibling:?} met at peer {}", who.peer);
        if let Some(id) = self.find(key, sibling) {
            let write = &self.writes[id as usize];
            let known = &write.sibling.version;
            // One that is written now has seen what is there now; a copy that has another name since told nobody of this one.
            let own = known.dot() == version.dot() && version.actor == who.actor;
            let last = self.acked.get(&(who.peer, version.actor));
            let later = last.is_none_or(|last| *last < version.stamp);
            let there = old.is_some_and(|old| old.versions().contains(sibling));
            let given_up = write.names.len() > 1 && write.origin != who.peer && later;
            let local = cause == Cause::Local && (known.seen != version.seen || given_up);
            let anew = own && !there && (local || write.lost && (cause == Cause::Local || write.derived));
            if !anew {
                // Two lives may give the very same one name: it then stands for both, and for what each of them replaced.
                let other_life = (write.origin, write.epoch) != (who.peer, who.epoch);
                if cause == Cause::Local && own && who.forked && other_life && !there {
                    let (mut seen, mut passed) = (BTreeSet::new(), BTreeSet::new());
                    for had in old.into_iter().flat_map(State::versions).map(|had| self.id(key, had)) {
                        self.sees(had, &mut seen, &mut passed);
                    }
                    // Unless what was here had seen it already.
                    if !seen.contains(&id) {
                        let write = &mut self.writes[id as usize];
                        write.seen.extend(seen);
                        write.passed.extend(passed);
                    }
                }
                return None;
            }
        }
        if self.renamed(cause, key, sibling, (old, new)) {
            return None;
        }
        match self.by_dot.get(&version.dot()).and_then(|ids| ids.last()).copied() {
            None => {}
            Some(id) => {
                let known = &self.writes[id as usize];
                // What a crash took before anyone else had heard of it was never written.
                let unheard = !known.acked && !(who.elsewhere)(known.key, version.dot());
                let may = version.actor == who.actor && (unheard || who.forked);
                assert!(may, "I9: {sibling:?} of key {key} at peer {} was written as {} too", who.peer, self.shown(id));
            }
        }
        assert!(version.actor == who.actor, "a version from nowhere: {sibling:?} at peer {}", who.peer);
        assert!(
            version.stamp.millis() <= who.latest + CLOCK_BOUND_MILLIS + 1,
            "I10: peer {} stamps {} ms beyond its own clock",
            who.peer,
            version.stamp.millis() - who.latest
        );
        let last = self.acked.get(&(who.peer, version.actor));
        assert!(
            last.is_none_or(|last| *last < version.stamp),
            "I10: peer {}'s clock ran backwards: {sibling:?} of key {key} for {old:?} ({cause:?}), after {last:?}",
            who.peer
        );
        let derived = cause != Cause::Local;
        let (mut seen, mut passed) = (BTreeSet::new(), BTreeSet::new());
        for id in old.into_iter().flat_map(State::versions).map(|had| self.id(key, had)) {
            self.sees(id, &mut seen, &mut passed);
        }
        for id in &self.of_key[key as usize] {
            let other = &self.writes[*id as usize];
            // Of another life under its name what was stamped later is none of its own.
            let own = other.names.iter().any(|name| name.1 == version.actor && name.0 <= version.stamp);
            let told = other.names.iter().any(|(stamp, actor)| version.seen.seen(*actor) >= Some(*stamp));
            let last = other.names.iter().any(|(stamp, actor)| version.seen.seen(*actor) == Some(*stamp));
            // What a session writes says itself what it replaces elsewhere; and a writer has seen its own. What an earlier one of
            // them had replaced it does not say: that may have been undone.
            if derived && last {
                self.sees(*id, &mut seen, &mut passed);
            } else if derived && told
                || own
                    && (other.derived
                        || self.dropped.contains(id)
                        || self.has_moved_on(*id)
                        || self.is_explained(*id, who.lineage))
            {
                passed.insert(*id);
                passed.extend(other.seen.union(&other.passed));
            }
        }
        Some(self.add(Write {
            key,
            names: vec![sibling.version.dot()],
            sibling: sibling.clone(),
            seen,
            passed,
            acked: false,
            forgiven: false,
            lost: false,
            derived,
            origin: who.peer,
            epoch: who.epoch,
        }))
    }

    /// The write that a version is, whatever its name says.
    pub(crate) fn find(&self, key: KeyId, sibling: &Sibling) -> Option<WriteId> {
        let same = |id: &&WriteId| {
            let Write { key: of, sibling: known, .. } = &self.writes[**id as usize];
            *of == key && is_of(sibling, known)
        };
        self.by_dot.get(&sibling.version.dot())?.iter().rev().find(same).copied()
    }

    /// Adds a write and all that it had seen.
    fn sees(&self, id: WriteId, seen: &mut BTreeSet<WriteId>, passed: &mut BTreeSet<WriteId>) {
        let write = &self.writes[id as usize];
        seen.insert(id);
        seen.extend(&write.seen);
        passed.extend(&write.passed);
    }

    fn add(&mut self, write: Write) -> WriteId {
        let id = self.writes.len() as WriteId;
        self.by_dot.entry(write.sibling.version.dot()).or_default().push(id);
        self.of_key[write.key as usize].push(id);
        self.writes.push(write);
        id
    }

    /// Announces a write of someone whom nobody knows, which has seen nothing.
    pub(crate) fn stranger(&mut self, key: KeyId, sibling: Sibling, at: usize, epoch: u64) -> WriteId {
        let (seen, passed) = Default::default();
        let names = vec![sibling.version.dot()];
        self.add(Write {
            key,
            sibling,
            names,
            seen,
            passed,
            acked: false,
            forgiven: false,
            lost: false,
            derived: false,
            origin: at,
            epoch,
        })
    }

    pub(crate) fn id(&self, key: KeyId, sibling: &Sibling) -> WriteId {
        self.find(key, sibling).expect("every version was looked at")
    }

    /// What was acknowledged stays until something comes that has seen it, or that wins by the policy.
    fn nothing_lost(&mut self, step: &Step, cause: Cause, who: &Who<'_>) {
        if cause == Cause::Undo {
            return;
        }
        // A session may let expire and collect at once.
        let due = who.latest + CLOCK_BOUND_MILLIS;
        let dead = |state: &Rc<State>| is_dead(state.expired(due).as_ref().unwrap_or(state), Stamp(u64::MAX));
        let collected = step.new.is_none() && step.old.as_ref().is_some_and(dead) && cause != Cause::Local;
        for sibling in step.old.iter().flat_map(|state| state.versions()) {
            let id = self.id(step.key, sibling);
            if collected {
                self.collected.push(id);
                continue;
            }
            let Some(new) = &step.new else {
                if cause == Cause::Collect {
                    self.removed.push(id);
                    continue;
                }
                let gone = !self.is_promised(id) || self.is_explained(id, who.lineage);
                assert!(gone, "I1: {} went ({cause:?})", self.shown(id));
                continue;
            };
            if cause == Cause::Collect && !self.covers(new, id) {
                self.removed.push(id);
                continue;
            }
            let covered = self.covers(new, id) || !self.is_promised(id);
            assert!(covered, "I1: {} went for {new:?} ({cause:?})", self.shown(id));
            if !self.holds(new, id) && self.is_beyond(new, id) {
                // It may be gone for good once what is full is settled.
                self.let_go(id);
            }
        }
    }

    /// Whether a peer holds a write, or what rightly came in its place.
    pub(crate) fn is_held(&self, held: &Held, id: WriteId) -> bool {
        held.states.get(&self.writes[id as usize].key).is_some_and(|state| self.covers(state, id))
    }

    /// Whether a write must not be lost.
    pub(crate) fn is_promised(&self, id: WriteId) -> bool {
        let write = &self.writes[id as usize];
        write.acked && !write.forgiven
    }

    /// Whether a state holds a write, or one that had seen it.
    fn holds(&self, state: &State, id: WriteId) -> bool {
        state.versions().iter().any(|sibling| {
            let held = self.find(self.writes[id as usize].key, sibling).map(|held| (held, &self.writes[held as usize]));
            held.is_some_and(|(held, write)| held == id || write.seen.contains(&id) || write.passed.contains(&id))
        })
    }

    /// Whether a state holds a write or what rightly came in its place.
    pub(crate) fn covers(&self, state: &State, id: WriteId) -> bool {
        if self.holds(state, id) {
            return true;
        }
        let write = &self.writes[id as usize];
        match self.keeps(write.key) {
            // What a new life gave another name is there under that one, too.
            Keeps::Newest => write.names.iter().any(|name| state.winner().version.dot() >= *name),
            Keeps::All => self.is_beyond(state, id),
        }
    }

    /// Whether a state is full of newer versions: past the bound the oldest go.
    pub(crate) fn is_beyond(&self, state: &State, id: WriteId) -> bool {
        let dot = self.writes[id as usize].sibling.version.dot();
        state.is_full() && state.versions().iter().all(|sibling| sibling.version.dot() > dot)
    }

    /// Whether a version was acknowledged and is missing from a state, without anything that rightly came in its place.
    pub(crate) fn misses(&self, key: KeyId, state: Option<&State>, sibling: &Sibling, lineage: &Lineage) -> bool {
        let Some(id) = self.find(key, sibling) else { return false };
        self.is_promised(id) && !state.is_some_and(|state| self.covers(state, id)) && !self.is_explained(id, lineage)
    }

    /// A peer's disk was replaced, and its clock with it.
    pub(crate) fn replaced(&mut self, peer: usize) {
        self.acked.retain(|(other, _), _| *other != peer);
    }

    pub(crate) fn acknowledge(&mut self, id: WriteId) {
        let write = &mut self.writes[id as usize];
        write.acked = true;
        let last = self.acked.entry((write.origin, write.sibling.version.actor)).or_default();
        *last = write.sibling.version.stamp.max(*last);
    }

    /// Whatever was acknowledged and is on none of these disks may be gone.
    pub(crate) fn forgive(&mut self, disks: &[Held]) -> usize {
        let mut forgiven = 0;
        for id in 0..self.writes.len() {
            let write = &self.writes[id];
            if !self.is_promised(id as WriteId) {
                continue;
            }
            let (key, id) = (write.key, id as WriteId);
            // A state that is full of newer ones is none that has it.
            let has =
                |state: &State| self.holds(state, id) || self.covers(state, id) && self.keeps(key) == Keeps::Newest;
            let covered = |held: &Held| held.states.get(&key).is_some_and(|state| has(state));
            if !disks.iter().any(covered) {
                self.writes[id as usize].forgiven = true;
                forgiven += 1;
            }
        }
        forgiven
    }

    /// A disk that came back holds all that was acknowledged there.
    pub(crate) fn kept_promises(&self, peer: usize, epoch: u64, held: &Held, lineage: &Lineage) {
        // What just went while it caught up is looked at next.
        let removed: Lineage = self.removed.iter().copied().collect();
        for id in 0..self.writes.len() as WriteId {
            let write = &self.writes[id as usize];
            if (write.origin, write.epoch) == (peer, epoch) && self.is_promised(id) {
                let state = held.states.get(&write.key);
                let gone = self.is_explained(id, lineage) || self.is_explained(id, &removed);
                let covered = gone || state.is_some_and(|state| self.covers(state, id));
                assert!(covered, "I1: {} was acknowledged and is gone after a crash: {state:?}", self.shown(id));
            }
        }
    }

    /// What all peers hold in the end: everything that was acknowledged is there or was replaced, and nothing is that had
    /// been replaced.
    pub(crate) fn conclude(&self, held: &Held, lineage: &Lineage) {
        for id in 0..self.writes.len() as WriteId {
            let write = &self.writes[id as usize];
            if !self.is_promised(id as WriteId) {
                continue;
            }
            let state = held.states.get(&write.key);
            let covered = state.is_some_and(|state| self.covers(state, id)) || self.is_explained(id, lineage);
            assert!(covered, "I1: {} was acknowledged and is gone: {state:?}", self.shown(id));
        }
        for gone in lineage {
            let write = &self.writes[*gone as usize];
            let live = held.states.get(&write.key).into_iter().flat_map(|state| state.versions());
            // Under the name that another life of its writer still had for it, whoever saw it under a new one never saw it.
            let under_another = |id: WriteId, sibling: &Sibling| {
                self.writes[id as usize].names.len() > 1 && !write.sibling.version.has_seen(&sibling.version)
            };
            let is_back = |(id, sibling): &(WriteId, &Sibling)| {
                write.seen.contains(id) && !self.revived.contains(id) && !under_another(*id, sibling)
            };
            let back = live.map(|sibling| (self.id(write.key, sibling), sibling)).find(is_back).map(|(id, _)| id);
            assert!(
                back.is_none(),
                "I8: {:?} is back, {} was collected",
                back.map(|id| self.shown(id)),
                self.shown(*gone)
            );
        }
        for (key, state) in held.states.iter() {
            // A vector that is full may have forgotten what it had seen.
            for sibling in state.versions().iter().filter(|sibling| !sibling.version.seen.is_full()) {
                let id = self.id(*key, sibling);
                // What a new life gave another name stands beside what had seen it under the old one.
                let renamed = |id: WriteId| self.writes[id as usize].names.len() > 1;
                let is_back = |other: WriteId| self.writes[id as usize].seen.contains(&other) && !renamed(other);
                let back = state.versions().iter().find(|other| is_back(self.id(*key, other)));
                let shown = back.map(|back| self.shown(self.id(*key, back)));
                assert!(shown.is_none(), "I8: {shown:?} is back beside {}, which had replaced it", self.shown(id));
            }
        }
    }
}

/// Whether a state is nothing but a deletion, of a stamp up to a horizon.
pub(crate) fn is_dead(state: &State, horizon: Stamp) -> bool {
    state.versions().iter().all(|sibling| sibling.gone_since().is_some_and(|since| since <= horizon))
}

/// Whether one says what was written as another, whether or not that has expired.
fn is_of(sibling: &Sibling, written: &Sibling) -> bool {
    sibling.expires == written.expires && (sibling.content == written.content || sibling.has_expired())
}

/// The commit and the state that the row of a record holds.
fn kept(value: &[u8]) -> (u64, &[u8]) {
    let mut reader = Reader::new(&value[CHECKSUM..]);
    let commit = reader.varint("commit of a record", u64::MAX).expect("a store writes whole rows");
    (commit, reader.rest())
}
