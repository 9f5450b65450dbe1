//! What may be gone from the history of writes: deletions that were collected, and what they had deleted.
//! What must not be is said in [`super`].

use std::collections::BTreeSet;
use std::rc::Rc;

use reknit::core::{Actor, CollectionId, Stamp, State};

use super::{Held, KeyId, Lineage, Oracle, Step, WriteId, is_dead};

impl Oracle {
    /// Those of the deletions that a horizon collects.
    pub(crate) fn up_to<'l>(&'l self, lineage: &'l Lineage, horizon: Stamp) -> impl Iterator<Item = WriteId> + 'l {
        let due = move |id: &&WriteId| {
            let deletion = &self.writes[**id as usize].sibling;
            deletion.gone_since().is_none_or(|since| since <= horizon)
        };
        lineage.iter().filter(due).copied()
    }

    /// Whether a deletion that was collected is why a write is gone, or is that write.
    pub(crate) fn is_explained(&self, id: WriteId, lineage: &Lineage) -> bool {
        let key = self.writes[id as usize].key;
        let of_key = || lineage.iter().filter(|gone| self.writes[**gone as usize].key == key);
        of_key().any(|gone| {
            let state = State::single(self.writes[*gone as usize].sibling.clone());
            *gone == id || self.covers(&state, id)
        })
    }

    /// It may be gone from now on, and with it what it had replaced, or won over.
    pub(crate) fn let_go(&mut self, id: WriteId) {
        self.with_it(id).into_iter().for_each(|id| self.writes[id as usize].forgiven = true);
    }

    /// Whether a peer holds nothing that came in a write's place but newer versions that are as many as there may be.
    pub(crate) fn is_beyond_held(&self, held: &Held, id: WriteId) -> bool {
        let state = held.states.get(&self.writes[id as usize].key);
        state.is_some_and(|state| !self.holds(state, id) && self.is_beyond(state, id))
    }

    /// Writes that a key had no room for before a change, being full of newer ones: bringing them had changed nothing.
    pub(crate) fn crowded_out<'o>(&'o self, step: &'o Step) -> impl Iterator<Item = WriteId> + 'o {
        let all = self.of_key[step.key as usize].iter().copied();
        all.filter(|id| step.old.as_ref().is_some_and(|old| self.is_beyond(old, *id) && !self.holds(old, *id)))
    }

    /// Whether a peer holds a write itself.
    pub(crate) fn is_there(&self, held: &Held, id: WriteId) -> bool {
        let key = self.writes[id as usize].key;
        let all = held.states.get(&key).into_iter().flat_map(|state| state.versions());
        all.into_iter().any(|sibling| self.find(key, sibling) == Some(id))
    }

    /// Another has what came in its place: whoever wrote it need not hold it any more.
    pub(crate) fn moved_on(&mut self, id: WriteId) {
        self.with_it(id).into_iter().for_each(|id| self.writes[id as usize].epoch = u64::MAX);
    }

    /// Whether another had what came in its place when its writer, or whoever caught up with that, let it go.
    pub(crate) fn has_moved_on(&self, id: WriteId) -> bool {
        self.writes[id as usize].epoch == u64::MAX
    }

    /// A write, what it had replaced, and what it won over.
    fn with_it(&self, id: WriteId) -> BTreeSet<WriteId> {
        let (mut all, mut passed) = (BTreeSet::new(), BTreeSet::new());
        self.sees(id, &mut all, &mut passed);
        let state = State::single(self.writes[id as usize].sibling.clone());
        let of_key = &self.of_key[self.writes[id as usize].key as usize];
        all.extend(of_key.iter().filter(|other| self.covers(&state, **other)));
        all.extend(passed);
        all
    }

    /// A crash took it, and no peer has it: its name may be given again.
    pub(crate) fn lost(&mut self, id: WriteId) {
        self.writes[id as usize].lost = true;
    }

    /// A peer that was away offers what it wrote itself up to a horizon.
    pub(crate) fn offers_again(&mut self, held: &Held, key: KeyId, own: Actor, horizon: Stamp) {
        for sibling in held.states.get(&key).into_iter().flat_map(|state| state.versions()) {
            if sibling.version.actor == own && sibling.version.stamp <= horizon {
                self.revived.insert(self.id(key, sibling));
            }
        }
    }

    /// An undo put back what was there before, also where deletions of that age are collected: so somebody wanted it.
    pub(crate) fn revive(&mut self, step: &Step, horizon: Stamp) {
        for sibling in step.new.iter().flat_map(|state| state.versions()) {
            if sibling.version.stamp <= horizon {
                self.revived.insert(self.id(step.key, sibling));
            }
        }
    }

    /// A deletion that nobody collected is not stored again: what it had replaced may be elsewhere.
    pub(crate) fn undeleted(&mut self, id: WriteId) {
        self.revived.extend(&self.writes[id as usize].seen);
    }

    /// An undo left nothing of a key: whoever wrote it need not hold it any more.
    pub(crate) fn undone(&mut self, key: KeyId) {
        for id in self.of_key[key as usize].clone() {
            self.writes[id as usize].epoch = u64::MAX;
        }
    }

    /// The deletions among what a peer held that are gone since, up to a horizon.
    pub(crate) fn collected_between(&self, before: &Held, after: &Held, horizon: Stamp) -> Vec<WriteId> {
        let gone = before.states.iter().filter(|(key, _)| !after.states.contains_key(key));
        // What expires by then has expired first.
        let last = |state: &Rc<State>| state.expired(horizon.millis()).map_or_else(|| Rc::clone(state), Rc::new);
        let dead = gone.filter(|(_, state)| is_dead(&last(state), horizon));
        let ids = |(key, state): (&KeyId, &Rc<State>)| -> Vec<WriteId> {
            state.versions().iter().map(|sibling| self.id(*key, sibling)).collect()
        };
        dead.flat_map(ids).collect()
    }

    /// The key of a write.
    pub(crate) fn place(&self, id: WriteId) -> (CollectionId, &[u8]) {
        let (collection, key) = &self.keys[self.writes[id as usize].key as usize];
        (*collection, key)
    }
}
