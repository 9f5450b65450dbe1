//! Which runs are undone, and by what: an undo stands until it is undone itself. How a run is undone is said in [`super::undo`].

use reknit_core::journal::{JournalEntry, Run, RunId, Undoing};
use reknit_core::{CollectionId, Content, State};

use super::Known;
use super::again::Again;
use crate::store::StoreError;
use crate::store::embedded::rows::Stored;
use crate::store::embedded::write::read_stored;
use crate::store::embedded::{Inner, Store};
use crate::store::engine::Snapshot;

impl Known {
    /// The undos of a run, oldest first.
    fn undos(&self, id: RunId) -> impl DoubleEndedIterator<Item = (RunId, &Run)> {
        let undoes = move |run: &Run| run.header.kind.undoes() == Some(id);
        self.runs.iter().filter(move |(_, run)| undoes(run)).map(|(by, run)| (*by, run))
    }

    /// How a run was undone last, if that came to its end and nothing that undid it was undone since.
    fn undone(&self, id: RunId) -> Option<Undoing> {
        let last = self.runs.get(&id)?.undone.filter(|undone| undone.done)?;
        let mut since =
            self.undos(id).filter_map(|(_, run)| run.undone.filter(|undone| undone.done && undone.by > last.by));
        let wholly = |undone: &Undoing| self.undone(undone.by).is_some_and(|undone| undone.skipped == 0);
        since.all(|undone| wholly(&undone)).then_some(last)
    }
}

impl Store {
    /// How a run is undone, if it is: by an undo that came to its end and was not undone itself since.
    #[must_use]
    pub fn undone(&self, id: RunId) -> Option<Undoing> {
        self.inner.journal.known().undone(id)
    }

    /// The undos of a run that stand and have changed something, newest first; the last of them if none has.
    pub(super) fn standing(&self, id: RunId, last: RunId) -> Vec<u64> {
        let known = self.inner.journal.known();
        let stands = |by: RunId, run: &Run| by == last || (run.entries > 0 && known.undone(by).is_none());
        let mut by: Vec<u64> = known.undos(id).rev().filter(|(by, run)| stands(*by, run)).map(|(by, _)| by.0).collect();
        if by.is_empty() {
            by.push(last.0);
        }
        by
    }

    /// The undos of a run that were made before one.
    pub(super) fn undos_before(&self, id: RunId, by: RunId) -> Vec<RunId> {
        self.inner.journal.known().undos(id).map(|(other, _)| other).filter(|other| *other != by).collect()
    }
}

/// Whether a key that a run changed in a commit is as earlier undos of that run have left it, and shows what it did before that
/// change and those that had led to it. One that others wrote in between may have gone back half of the way.
pub(super) fn is_back(
    inner: &Inner,
    snapshot: &dyn Snapshot,
    (run, earlier): (&mut Again<'_>, &mut [Again<'_>]),
    (commit, entry): (u64, &JournalEntry),
) -> Result<bool, StoreError> {
    if earlier.is_empty() {
        return Ok(false);
    }
    let JournalEntry { collection, position, key, .. } = entry;
    match read_stored(inner, snapshot, *collection, *position, key)? {
        Some(stored) => {
            let shown = |state: &State| inner.seen(*collection, state).written();
            let before = run.first(commit, entry)?;
            let before =
                before.map_or((Content::Tombstone, None), |before| shown(&inner.without_expired(before.state)));
            Ok(wrote(earlier, *collection, &stored)? && shown(&stored.state) == before)
        }
        None => Ok(entry.before.as_ref().is_none_or(|before| !inner.is_live(*collection, &before.state))),
    }
}

/// Those of the keys that a run filled a collection with and that are not as earlier undos of that run have left them.
pub(super) fn not_back(
    inner: &Inner,
    snapshot: &dyn Snapshot,
    earlier: &mut [Again<'_>],
    collection: CollectionId,
    keys: Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut not_back = Vec::new();
    for key in keys {
        let position = inner.keys.position(inner.name_of(collection), &key);
        match read_stored(inner, snapshot, collection, position, &key)? {
            Some(stored) if wrote(earlier, collection, &stored)? => {}
            _ => not_back.push(key),
        }
    }
    Ok(not_back)
}

/// Whether one of these wrote a record last.
fn wrote(undos: &mut [Again<'_>], collection: CollectionId, stored: &Stored) -> Result<bool, StoreError> {
    for undo in undos {
        if undo.wrote(collection, stored)? {
            return Ok(true);
        }
    }
    Ok(false)
}
