//! The rows that the changed records of a commit make: the records, the lists that name them, their counts, and their trees.

use reknit_core::tree::Update;
use reknit_core::{CollectionId, Range};

use super::Plan;
use crate::store::embedded::Inner;
use crate::store::embedded::rows::{self, Counts};
use crate::store::embedded::seen::is_conflict;
use crate::store::engine::Batch;

impl Plan {
    /// Puts the rows of changed records, then those of the index by key, so that each kind comes in one run.
    pub(super) fn put_records(&self, store: &Inner, commit: u64, batch: &mut Batch) {
        let mut value = Vec::new();
        for slot in self.changed() {
            let row = rows::record(slot.collection, slot.position, &slot.key);
            let Some(state) = &slot.now else {
                batch.delete(&row);
                continue;
            };
            store.put_record(&mut value, &row, &slot.key, commit, state);
            batch.put(&row, &value);
        }
        let mut keep = |(row, value): (Vec<u8>, Vec<u8>), before: bool, now: bool| match (before, now) {
            (false, true) => batch.put(&row, &value),
            (true, false) => batch.delete(&row),
            _ => {}
        };
        for slot in self.changed().filter(|_| store.definition.key_index) {
            let (before, now) = (slot.before_live.unwrap_or(false), slot.is_live(store).unwrap_or(false));
            if before != now {
                keep(rows::index(slot.collection, &slot.key), before, now);
            }
        }
        for slot in self.changed() {
            let (before, now) = (slot.before_dead, store.dead(slot.collection, slot.now.as_ref()));
            if before != now {
                let row = |stamp| rows::tombstone(slot.collection, stamp, &slot.key);
                before.into_iter().for_each(|stamp| keep(row(stamp), true, false));
                now.into_iter().for_each(|stamp| keep(row(stamp), false, true));
            }
        }
        for slot in self.changed() {
            let (before, now) = (slot.before_expires, store.expires_first(slot.now.as_ref()));
            if before != now {
                let row = |at| rows::expiring(slot.collection, at, &slot.key);
                before.into_iter().for_each(|at| keep(row(at), true, false));
                now.into_iter().for_each(|at| keep(row(at), false, true));
            }
        }
        for slot in self.changed() {
            let (before, now) = (slot.before_conflict, slot.now.as_ref().is_some_and(is_conflict));
            if before != now {
                keep(rows::conflict(slot.collection, &slot.key), before, now);
            }
        }
    }

    pub(super) fn count(&self, store: &Inner, counts: &mut [Counts], batch: &mut Batch) {
        for slot in self.changed() {
            counts[usize::from(slot.collection.0)].change(slot.before_live, slot.is_live(store));
        }
        for same in self.slots.chunk_by(|a, b| a.collection == b.collection) {
            let collection = same[0].collection;
            if same.iter().any(|slot| slot.changed) {
                batch.put(&rows::counts(collection), &counts[usize::from(collection.0)].encode());
            }
        }
    }
}

/// Puts the nodes and entries that an update of a tree changed.
pub(super) fn put_tree(store: &Inner, collection: CollectionId, laid: &Update, batch: &mut Batch) {
    for (range, summary) in &laid.nodes {
        match summary {
            Some(summary) => batch.put(&rows::node(collection, *range), &rows::node_value(summary)),
            None => batch.delete(&rows::node(collection, *range)),
        }
    }
    // Entries of bare records are worked out from those.
    for (position, digests) in laid.positions.iter().filter(|_| !store.bare) {
        match digests.as_slice() {
            [] => batch.delete(&rows::entry(collection, *position)),
            [digest] => batch.put(&rows::entry(collection, *position), &digest.0),
            digests => batch.put(&rows::entry(collection, *position), &rows::entry_value(digests)),
        }
    }
    batch.put(&rows::node(collection, Range::ALL), &rows::node_value(&laid.root));
}
