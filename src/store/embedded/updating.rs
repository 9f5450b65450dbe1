//! Changing a value by what it was: a write that has seen exactly the versions that it was made from.

use std::convert::Infallible;

use reknit_core::Content;
use reknit_core::query::{Overwrite, Replacement};

use super::commit::submit;
use super::write::{Fate, Write, digested, read_state};
use super::{Collection, StoreError, check_bounds};
use crate::store::engine::Durability;

/// How often a change is made anew since something else was written meanwhile.
const TRIES_MAX: u64 = 1_000;

impl Collection {
    /// Gives `key` what `change` makes of its value, or deletes it where that is none; synced when it returns. Returns whether
    /// that was anything else than before.
    ///
    /// If somebody else writes the key meanwhile, here or on a peer, `change` is asked again: what it was not shown is not
    /// replaced. That tells it from a read and a [`Collection::put`], between which a write may be lost.
    ///
    /// # Errors
    /// As for [`Collection::put`]; [`StoreError::Bound`] if the key was written 1,000 times meanwhile.
    pub fn update(
        &self,
        key: &[u8],
        mut change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<bool, StoreError> {
        let Ok(changed) = self.try_update(key, |value| Ok::<_, Infallible>(change(value)))?;
        Ok(changed)
    }

    /// The same, with a `change` that may fail: nothing is written then, and its error is given.
    ///
    /// # Errors
    /// As for [`Collection::update`]; within, what `change` says.
    pub fn try_update<E>(
        &self,
        key: &[u8],
        mut change: impl FnMut(Option<&[u8]>) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Result<bool, E>, StoreError> {
        let inner = &self.store.inner;
        let position = inner.keys.position(self.name(), key);
        for _ in 0..TRIES_MAX {
            let state = read_state(inner, &*inner.engine.snapshot()?, self.id, position, key)?;
            let (state, digest) = match state {
                Some(state) => {
                    let (state, digest) = digested(inner, self.id, key, state);
                    (Some(state), digest)
                }
                None => (None, None),
            };
            let seen = state.as_ref().map(|state| inner.seen(self.id, state));
            let shown = seen.as_ref().filter(|seen| seen.expires.is_none_or(|expires| expires > inner.shown_until()));
            let value = shown.and_then(|seen| seen.value());
            let next = match change(value.map(Vec::as_slice)) {
                Ok(next) => next,
                Err(error) => return Ok(Err(error)),
            };
            let alone = state.as_ref().is_none_or(|state| state.versions().len() == 1);
            if next.as_ref() == value && alone {
                return Ok(Ok(false));
            }
            let content = next.map_or(Content::Tombstone, Content::Live);
            check_bounds(key, &content)?;
            let content = match content {
                Content::Live(value) => Replacement::Take(value, None),
                Content::Tombstone => Replacement::Delete,
            };
            let expected = digest.map(|digest| digest.short());
            let overwrite = Overwrite { key: key.to_vec(), expected, content, seen: Vec::new() };
            let write = Write::Overwrite { collection: self.id, overwrite, run: None };
            match submit(inner, vec![write], Durability::Synced)?.fates.pop() {
                Some(Fate::Moved) => {}
                fate => {
                    self.store.tidy_history();
                    return Ok(Ok(fate == Some(Fate::Applied)));
                }
            }
        }
        let what = "how often a key was written while it was changed";
        Err(StoreError::Bound { what, found: TRIES_MAX, limit: TRIES_MAX - 1 })
    }
}
