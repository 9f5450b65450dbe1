//! Keys that a run changed more than once: what they were before the first of those changes, and which changes are a part of
//! a later one. What is done with them is said in [`super::undo`].

use std::collections::BTreeMap;

use reknit_core::journal::{Before, Changed, Filled, JournalEntry, RunId};
use reknit_core::{CollectionId, Position};

use crate::store::StoreError;
use crate::store::embedded::rows::Stored;
use crate::store::embedded::write::{digested, read_stored};
use crate::store::embedded::{Inner, rows};
use crate::store::engine::Snapshot;

/// Commits that are held at once, each with what the run changed in it.
const COMMITS_MAX: usize = 16;

/// What a run changed, as far as it was looked up.
pub(super) struct Again<'s> {
    inner: &'s Inner,
    snapshot: &'s dyn Snapshot,
    run: RunId,
    commits: BTreeMap<u64, Commit>,
}

/// What a run changed in one commit.
#[derive(Default)]
struct Commit {
    filled: Vec<Filled>,
    /// The changes of each key, in the order in which they were made.
    keys: BTreeMap<(CollectionId, Vec<u8>), Vec<JournalEntry>>,
}

impl<'s> Again<'s> {
    pub(super) fn new(inner: &'s Inner, snapshot: &'s dyn Snapshot, run: RunId) -> Self {
        Self { inner, snapshot, run, commits: BTreeMap::new() }
    }

    /// What a key was before the first of the run's changes that lead to this one, made in `commit`, each from what the one
    /// before it had left: nobody else has written in between.
    pub(super) fn first(&mut self, commit: u64, entry: &JournalEntry) -> Result<Option<Before>, StoreError> {
        let (collection, key) = (entry.collection, entry.key.clone());
        let mut last = entry.clone();
        let mut at = commit;
        loop {
            let Some(before) = &last.before else { return Ok(None) };
            let left = self.digest(collection, &key, before);
            let (from, same) = written(before, at);
            let made = self.at(from)?;
            if !same && made.filled.iter().any(|filled| lies_in(filled, collection, last.position)) {
                return Ok(None);
            }
            let all = made.keys.get(&(collection, key.clone())).map_or(&[][..], Vec::as_slice);
            let end = if same { all.iter().position(|entry| *entry == last).unwrap_or(0) } else { all.len() };
            match all[..end].iter().rev().find(|entry| entry.after == left) {
                Some(earlier) => last = earlier.clone(),
                None => return Ok(last.before),
            }
            at = from;
        }
    }

    /// Whether the run changed the key again, from what this change, made in `commit`, had left: who undoes that later change
    /// goes back to before this one too.
    pub(super) fn is_within(&mut self, commit: u64, entry: &JournalEntry) -> Result<bool, StoreError> {
        let JournalEntry { collection, position, ref key, after, .. } = *entry;
        if after.is_none() {
            return Ok(false);
        }
        for at in self.later(commit, collection, position)? {
            let all = self.of_key(at, collection, key)?;
            let same =
                if at == commit { all.iter().position(|one| one == entry).map_or(all.len(), |nth| nth + 1) } else { 0 };
            let before = all[same..].iter().filter_map(|entry| entry.before.as_ref());
            let mut from_there = before.filter(|before| written(before, at).0 == commit);
            if from_there.any(|before| self.digest(collection, key, before) == after) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a key that may have come with many others in `commit` is what the run that undoes this one, `by`, has made of
    /// it, and nobody wrote it between that commit and the later changes that were undone.
    pub(super) fn is_put_back(
        &mut self,
        by: &mut Again<'_>,
        commit: u64,
        collection: CollectionId,
        key: &[u8],
    ) -> Result<bool, StoreError> {
        let position = self.inner.keys.position(self.inner.name_of(collection), key);
        let Some(stored) = read_stored(self.inner, self.snapshot, collection, position, key)? else { return Ok(true) };
        let Some(undone) = by.of_key(stored.commit, collection, key)?.pop() else { return Ok(false) };
        let Some(before) = undone.before else { return Ok(false) };
        let now = digested(self.inner, collection, key, stored.state).1;
        let Some(last) = self.of_key(before.commit, collection, key)?.pop() else { return Ok(false) };
        let first = self.first(before.commit, &last)?;
        Ok(now.map(|digest| digest.short()) == undone.after && first.is_none_or(|first| first.commit < commit))
    }

    /// Whether it was the run that wrote a record last.
    pub(super) fn wrote(&mut self, collection: CollectionId, stored: &Stored) -> Result<bool, StoreError> {
        let made = self.at(stored.commit)?;
        if made.filled.iter().any(|filled| lies_in(filled, collection, stored.position)) {
            return Ok(true);
        }
        let Some(last) = self.of_key(stored.commit, collection, &stored.key)?.pop() else { return Ok(false) };
        let now = digested(self.inner, collection, &stored.key, stored.state.clone()).1;
        Ok(now.map(|digest| digest.short()) == last.after)
    }

    /// The commits, from this one on, in which the run replaced something at a position.
    fn later(&self, commit: u64, collection: CollectionId, position: Position) -> Result<Vec<u64>, StoreError> {
        let (start, end) = rows::earlier_of(collection, position);
        let mut later = Vec::new();
        for row in self.snapshot.scan(&start, &end)? {
            let (run, at, _) = rows::read_earlier(&row?.0)?;
            if run == self.run && at >= commit && later.last() != Some(&at) {
                later.push(at);
            }
        }
        Ok(later)
    }

    fn of_key(&mut self, commit: u64, collection: CollectionId, key: &[u8]) -> Result<Vec<JournalEntry>, StoreError> {
        let made = self.at(commit)?;
        Ok(made.keys.get(&(collection, key.to_vec())).cloned().unwrap_or_default())
    }

    fn digest(&self, collection: CollectionId, key: &[u8], before: &Before) -> Option<u64> {
        digested(self.inner, collection, key, before.state.clone()).1.map(|digest| digest.short())
    }

    fn at(&mut self, commit: u64) -> Result<&Commit, StoreError> {
        if !self.commits.contains_key(&commit) {
            if self.commits.len() >= COMMITS_MAX {
                self.commits.clear();
            }
            let mut made = Commit::default();
            for number in 0.. {
                let row = rows::packed((self.run, commit, number));
                let Some(value) = self.snapshot.get(&row)? else { break };
                for changed in rows::read_packed(&row, &value)? {
                    match changed {
                        Changed::Filled(filled) => made.filled.push(filled),
                        Changed::Key(entry) => {
                            made.keys.entry((entry.collection, entry.key.clone())).or_default().push(entry);
                        }
                    }
                }
            }
            self.commits.insert(commit, made);
        }
        Ok(&self.commits[&commit])
    }
}

/// The commit that wrote what another replaced, and whether it is that one itself, which had written the key before.
pub(super) fn written(before: &Before, commit: u64) -> (u64, bool) {
    if before.commit == 0 { (commit, true) } else { (before.commit, false) }
}

fn lies_in(filled: &Filled, collection: CollectionId, position: Position) -> bool {
    filled.collection == collection && (filled.first..=filled.last).contains(&position)
}
