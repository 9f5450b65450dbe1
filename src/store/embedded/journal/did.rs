//! What a change of a run did to its key, in a word. Of a key that was written since the journal no longer knows what the
//! run left, only what it found.

use reknit_core::State;
use reknit_core::brakes::Loss;
use reknit_core::journal::JournalEntry;

use crate::store::StoreError;
use crate::store::embedded::Store;
use crate::store::embedded::write::{digested, read_state};

/// What a change did to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// There was nothing of it.
    Inserted,
    /// Readers see nothing of it any more.
    Deleted,
    /// Readers see another value of it.
    Overwrote,
    /// A version was laid beside those that were there.
    Beside,
    /// Readers saw nothing of it, and do now.
    Revived,
    /// Readers see what they saw, or it was written since.
    Changed,
}

impl Store {
    /// What a change did to its key, as far as that can still be told.
    ///
    /// # Errors
    /// What the store met while reading.
    pub fn did(&self, entry: &JournalEntry) -> Result<Did, StoreError> {
        let inner = &self.inner;
        let JournalEntry { collection, position, key, before, after } = entry;
        inner.check(*collection)?;
        let mut left = None;
        if after.is_some() {
            let snapshot = inner.engine.snapshot()?;
            let now = read_state(inner, &*snapshot, *collection, *position, key)?;
            let now = now.map(|state| digested(inner, *collection, key, state));
            left = now.filter(|(_, digest)| digest.map(|digest| digest.short()) == *after).map(|(state, _)| state);
            if left.is_none() {
                return Ok(if before.is_none() { Did::Inserted } else { Did::Changed });
            }
        }
        let (left, before) = (left.as_ref(), before.as_ref().map(|before| &before.state));
        let shows = |state: Option<&State>| state.is_some_and(|state| inner.is_live(*collection, state));
        Ok(match (before, left) {
            (None, left) if shows(left) => Did::Inserted,
            (None, _) => Did::Deleted,
            (Some(before), Some(left)) if is_beside(before, left) => Did::Beside,
            _ => match inner.lost(*collection, before, left) {
                Some(Loss::Deleted) => Did::Deleted,
                Some(Loss::Changed) => Did::Overwrote,
                None if !shows(before) && shows(left) => Did::Revived,
                None => Did::Changed,
            },
        })
    }
}

/// Whether all versions that there were are there still, with others.
fn is_beside(before: &State, left: &State) -> bool {
    let left = left.versions();
    left.len() > before.versions().len() && before.versions().iter().all(|version| left.contains(version))
}
