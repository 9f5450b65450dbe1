//! What readers see of a key: its collection's policy, asked with the whole set of versions; and the keys that have several.
//!
//! How versions come to stand side by side is decided in [`super::write`].

use std::borrow::Cow;

use reknit_core::brakes::Loss;
use reknit_core::policy::{Judgement, Why};
use reknit_core::query::{Overwrite, Replacement};
use reknit_core::range::DEPTH_MAX;
use reknit_core::{CollectionId, Content, Millis, Range, Sibling, State};

use super::commit::submit;
use super::read::{item, records};
use super::rows;
use super::write::{Fate, Write, digested, read_state};
use super::{Collection, Inner, Store, StoreError, check_bounds};
use crate::store::engine::Durability;

/// A key whose versions have not seen each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The key.
    pub key: Vec<u8>,
    /// Its versions, newest first.
    pub versions: Vec<Sibling>,
    /// What readers see meanwhile, and why if nobody decided yet.
    pub judgement: Judgement,
    /// The digest of its entry, shortened: another as soon as its versions are others, here and on every replica.
    pub entry: u64,
}

/// What settles a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The content of one of the versions, by its place, newest first.
    Version(usize),
    /// A value of its own.
    Value(Vec<u8>),
    /// The key is deleted.
    Delete,
}

/// What became of a resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// It was written, as a version that has seen all of them.
    Written,
    /// The key has no version of that place.
    NoVersion,
    /// The key has no conflict, or its versions are no longer those that were looked at; nothing was written.
    Moved,
}

impl Collection {
    /// All versions of `key`, newest first; none if it was never written.
    ///
    /// # Errors
    /// What the engine met, or [`StoreError::Damaged`].
    pub fn versions(&self, key: &[u8]) -> Result<Option<State>, StoreError> {
        let inner = &self.store.inner;
        let position = inner.keys.position(self.name(), key);
        read_state(inner, &*inner.engine.snapshot()?, self.id, position, key)
    }

    /// The keys that have several versions, in the order of their rows, at most `limit` after a key.
    ///
    /// Reads those keys only.
    ///
    /// # Errors
    /// As for [`Collection::versions`].
    pub fn conflicts(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Conflict>, StoreError> {
        let inner = &self.store.inner;
        let snapshot = inner.engine.snapshot()?;
        let (mut start, end) = rows::conflicts_of(self.id);
        if let Some(after) = after {
            start = rows::after(rows::conflict(self.id, after).0);
        }
        let mut found = Vec::new();
        for row in snapshot.scan(&start, &end)? {
            if found.len() == limit {
                break;
            }
            let (row, value) = row?;
            let key = rows::conflict_key(&row, &value)?;
            let position = inner.keys.position(self.name(), &key);
            let state = read_state(inner, &*snapshot, self.id, position, &key)?.ok_or_else(|| {
                StoreError::damaged(format!("the list of conflicts names {}, which has no record", super::shown(&key)))
            })?;
            found.push(self.as_conflict(key, state));
        }
        Ok(found)
    }

    /// The versions of a key, if there are several.
    ///
    /// # Errors
    /// As for [`Collection::versions`].
    pub fn conflict(&self, key: &[u8]) -> Result<Option<Conflict>, StoreError> {
        let Some(state) = self.versions(key)?.filter(is_conflict) else { return Ok(None) };
        Ok(Some(self.as_conflict(key.to_vec(), state)))
    }

    fn as_conflict(&self, key: Vec<u8>, state: State) -> Conflict {
        let inner = &self.store.inner;
        let judgement = inner.judge(self.id, &state);
        let (state, digest) = digested(inner, self.id, &key, state);
        let entry = digest.map(|digest| digest.short()).unwrap_or_default();
        Conflict { key, versions: state.versions().to_vec(), judgement, entry }
    }

    /// Settles a conflict by a version that has seen all of those that were looked at; synced when it returns.
    ///
    /// # Errors
    /// [`StoreError::ValueTooLong`], or what the engine met.
    pub fn resolve(&self, conflict: &Conflict, by: Resolution) -> Result<Resolved, StoreError> {
        let inner = &self.store.inner;
        let (content, expires) = match by {
            Resolution::Version(nth) => match conflict.versions.get(nth) {
                Some(chosen) => (chosen.content.clone(), chosen.expires),
                None => return Ok(Resolved::NoVersion),
            },
            Resolution::Value(value) => (Content::Live(value), None),
            Resolution::Delete => (Content::Tombstone, None),
        };
        check_bounds(&conflict.key, &content)?;
        let position = inner.keys.position(self.name(), &conflict.key);
        let (start, end) = rows::records_of(self.id, Range::of(position, DEPTH_MAX));
        let mut expected = None;
        for stored in records(inner, inner.engine.snapshot()?.scan(&start, &end)?) {
            let stored = stored?;
            if stored.key == conflict.key && stored.state.versions() == conflict.versions {
                expected = item(inner, self.id, stored).digest.map(|digest| digest.short());
            }
        }
        if expected.is_none() || conflict.versions.len() < 2 {
            return Ok(Resolved::Moved);
        }
        let content = match content {
            Content::Live(value) => Replacement::Take(value, expires),
            Content::Tombstone => Replacement::Delete,
        };
        let overwrite = Overwrite { key: conflict.key.clone(), expected, content, seen: Vec::new() };
        let done =
            submit(inner, vec![Write::Overwrite { collection: self.id, overwrite, run: None }], Durability::Synced)?;
        self.store.tidy_history();
        Ok(if done.fates == [Fate::Applied] { Resolved::Written } else { Resolved::Moved })
    }
}

/// What readers see of a key.
pub(super) struct Seen<'s> {
    pub(super) content: Cow<'s, Content>,
    pub(super) expires: Option<Millis>,
}

impl Seen<'_> {
    pub(super) fn value(&self) -> Option<&Vec<u8>> {
        match &*self.content {
            Content::Live(value) => Some(value),
            Content::Tombstone => None,
        }
    }

    /// The same to be written again; a tombstone does not expire.
    pub(super) fn written(self) -> (Content, Option<Millis>) {
        let live = *self.content != Content::Tombstone;
        (self.content.into_owned(), self.expires.filter(|_| live))
    }
}

impl Store {
    /// Whether readers see a value of a state, by its collection's policy; none where there is no such collection.
    #[must_use]
    pub fn shows(&self, collection: CollectionId, state: &State) -> bool {
        usize::from(collection.0) < self.inner.policies.len() && self.inner.is_live(collection, state)
    }
}

impl Inner {
    pub(super) fn judge(&self, collection: CollectionId, state: &State) -> Judgement {
        match state.versions() {
            [_] => Judgement::Version(0),
            versions => match self.policies[usize::from(collection.0)].judge(versions) {
                // A program's own policy may break its laws; readers see the oldest rather than nothing.
                Judgement::Version(nth) if nth >= versions.len() => {
                    Judgement::Open { shown: versions.len() - 1, why: Why::Asks }
                }
                judged => judged,
            },
        }
    }

    pub(super) fn seen<'s>(&self, collection: CollectionId, state: &'s State) -> Seen<'s> {
        let judged = self.judge(collection, state);
        if let Judgement::Made(content, expires) = judged {
            return Seen { content: Cow::Owned(content), expires };
        }
        let versions = state.versions();
        let shown = match judged {
            Judgement::Version(nth) | Judgement::Open { shown: nth, .. } => &versions[nth.min(versions.len() - 1)],
            Judgement::Made(..) => &versions[0],
        };
        Seen { content: Cow::Borrowed(&shown.content), expires: shown.expires }
    }

    /// What readers lose where one state takes the place of another.
    pub(super) fn lost(&self, collection: CollectionId, before: Option<&State>, after: Option<&State>) -> Option<Loss> {
        let seen = |state| self.seen(collection, state);
        let (before, after) = (before.map(seen), after.map(seen));
        Loss::between(before.as_ref().and_then(Seen::value), after.as_ref().and_then(Seen::value))
    }

    /// Whether readers see a value, expired or not.
    pub(super) fn is_live(&self, collection: CollectionId, state: &State) -> bool {
        matches!(*self.seen(collection, state).content, Content::Live(_))
    }
}

/// Whether the key is in conflict.
pub(super) fn is_conflict(state: &State) -> bool {
    state.versions().len() > 1
}
