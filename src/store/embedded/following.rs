//! A store as the index of a table: it follows what the rows are worth, and its journal keeps what a run replaced, in full.
//! Reading and writing the table is left to whoever keeps the index.

use std::sync::Arc;

use reknit_core::CollectionId;
use reknit_core::journal::{RunHeader, RunId, Undoing};

use super::commit::submit;
use super::journal::Writing;
use super::write::Write;
use super::{Durability, Store, StoreError, rows};

/// What is known of one row.
pub(crate) enum Followed {
    /// The digest of its content, as it was read; none if it is not there.
    Is(Vec<u8>, Option<Vec<u8>>),
    /// A run changes it.
    Becomes {
        /// Its key.
        key: Vec<u8>,
        /// What it was: the digest of its content, and the content; none if it was not there.
        before: Option<(Vec<u8>, Vec<u8>)>,
        /// The digest of what it is to be; none if it goes.
        after: Option<Vec<u8>>,
    },
}

impl Store {
    /// Begins a run of the journal, which has a number once it changes something.
    pub(crate) fn begin_run(&self, header: RunHeader) -> Result<Arc<Writing>, StoreError> {
        // Whoever answers may be asked for a comparison alone, which is always let.
        if header.opener {
            self.admit_run()?;
        }
        Ok(Writing::new(header))
    }

    /// Refuses while repairs are paused, and where no more can be undone.
    pub(crate) fn admit_run(&self) -> Result<(), StoreError> {
        self.inner.journal.admits()
    }

    /// Notes how a run ended; gives its number if it changed anything.
    pub(crate) fn close_run(&self, run: &Writing, verdict: &str) -> Result<Option<RunId>, StoreError> {
        self.end_writing(run, verdict)
    }

    /// Takes over what rows are worth, in one commit, with what a run replaces. Gives the commit number, and how many of them
    /// the store had otherwise.
    pub(crate) fn follow(
        &self,
        collection: CollectionId,
        rows: Vec<Followed>,
        run: Option<&Arc<Writing>>,
        durability: Durability,
    ) -> Result<(u64, u64), StoreError> {
        let mut writes = Vec::with_capacity(rows.len());
        for row in rows {
            match row {
                Followed::Is(key, content) => writes.push(Write::Follow { collection, key, content, run: None }),
                Followed::Becomes { key, before, after } => {
                    let (digest, whole) = before.unzip();
                    // What the run replaces is what was read, whatever the index knew.
                    writes.push(Write::Follow { collection, key: key.clone(), content: digest, run: None });
                    let run = run.map(|run| (Arc::clone(run), whole));
                    writes.push(Write::Follow { collection, key, content: after, run });
                }
            }
        }
        let done = submit(&self.inner, writes, durability)?;
        Ok((done.commit, done.changed()))
    }

    /// What was noted under a name.
    pub(crate) fn fact(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.inner.engine.snapshot()?.get(&rows::meta(name))?)
    }

    /// Notes something under a name, or that there is nothing; synced.
    pub(crate) fn set_fact(&self, name: &str, value: Option<Vec<u8>>) -> Result<(), StoreError> {
        self.change_facts(|batch| match value {
            Some(value) => batch.put(&rows::meta(name), &value),
            None => batch.delete(&rows::meta(name)),
        })
    }

    /// As [`Store::set_fact`], but durable no later than what is committed next.
    pub(crate) fn set_fact_soon(&self, name: &str, value: Option<Vec<u8>>) -> Result<(), StoreError> {
        self.change_facts_soon(|batch| match value {
            Some(value) => batch.put(&rows::meta(name), &value),
            None => batch.delete(&rows::meta(name)),
        })
    }

    /// Notes how far a run is undone.
    pub(crate) fn note_undoing(&self, run: RunId, undoing: Undoing) -> Result<(), StoreError> {
        submit(&self.inner, vec![Write::Undoing { run, undoing, of: 0 }], Durability::Synced).map(drop)
    }
}
