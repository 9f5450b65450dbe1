//! Histories of ordinary writes: if a store is told to, what its own writes replace goes to the journal as well, in runs that
//! are begun anew now and then, so that old ones can be dropped whole. Such a run only tells; it cannot be undone.

use std::sync::Arc;

use reknit_core::Millis;
use reknit_core::journal::{Run, RunHeader, RunId, RunKind};
use reknit_core::planted::{Bug, planted};

use super::pushed::is_pushed;
use super::{Journal, Known, Writing};
use crate::store::StoreError;
use crate::store::embedded::{Store, rows};

/// Into so many runs a full history is divided, about.
const RUNS: u64 = 8;
pub(super) const KEPT: &str = "keep-history";

/// How much is kept of what ordinary writes replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepHistory {
    /// For how long, in milliseconds; a quarter more may be there, and what was kept last stays until something is again.
    pub age: Millis,
    /// Bytes of entries beyond which the oldest are dropped; an eighth and one batch more may be there.
    pub bytes: u64,
}

/// What is known of it while the store is open.
pub(super) struct Keeping {
    pub(super) limits: Option<KeepHistory>,
    current: Option<Arc<Writing>>,
    /// Another run was begun: what is too old by now can be dropped.
    pub(super) begun: bool,
}

impl Keeping {
    pub(super) fn new(limits: Option<KeepHistory>) -> Keeping {
        Keeping { limits, current: None, begun: false }
    }
}

/// Whether a run holds what ordinary writes replaced. It takes no room from those that can be undone.
pub(super) fn is_kept(run: &Run) -> bool {
    run.header.kind == RunKind::Written
}

/// Bytes of a run that count towards the bytes after which repairs stop.
pub(super) fn counted(run: &Run) -> u64 {
    if is_kept(run) || is_pushed(run) { 0 } else { run.bytes }
}

impl Journal {
    /// The run under which what an ordinary write replaces is kept, if it is.
    pub(in crate::store::embedded) fn keeping(&self, now: Millis) -> Option<Arc<Writing>> {
        let mut known = self.known();
        let limits = known.keeping.limits?;
        let young = |run: &Run| {
            let age = now.saturating_sub(run.header.started);
            is_kept(run) && !run.dropped && age <= limits.age / RUNS && run.bytes <= limits.bytes / RUNS
        };
        if let Some(current) = &known.keeping.current {
            let id = current.id.get();
            if id.is_none() || id.and_then(|id| known.runs.get(id)).is_some_and(young) {
                return Some(Arc::clone(current));
            }
        }
        let header =
            RunHeader { kind: RunKind::Written, peer: String::new(), opener: true, policy: String::new(), started: 0 };
        // One that an earlier opening of the store began goes on.
        let newest = known.runs.iter().rev().find(|(_, run)| is_kept(run)).filter(|(_, run)| young(run));
        let resumed = newest.map(|(id, _)| *id);
        // Another is begun once something is kept under it, and it has its number.
        known.keeping.begun |= resumed.is_some();
        let current = match resumed {
            Some(id) => Writing::resumed(header, id),
            None => Writing::new(header),
        };
        known.keeping.current = Some(Arc::clone(&current));
        Some(current)
    }
}

impl Known {
    /// The runs of ordinary writes that are too old or too much, oldest first; never the newest of them for its bytes.
    pub(super) fn outlived(&self, now: Millis) -> Vec<RunId> {
        let kept: Vec<(RunId, &Run)> =
            self.runs.iter().filter(|(_, run)| is_kept(run)).map(|(id, run)| (*id, run)).collect();
        let Some(limits) = self.keeping.limits else { return kept.iter().map(|(id, _)| *id).collect() };
        let limit = now.saturating_sub(limits.age).saturating_sub(limits.age / RUNS);
        let mut bytes: u64 = kept.iter().map(|(_, run)| run.bytes).sum();
        let mut outlived = Vec::new();
        for (nth, (id, run)) in kept.iter().enumerate() {
            let too_much = bytes > limits.bytes && nth + 1 < kept.len();
            let early = planted(Bug::HistoryDroppedEarly) && nth + 1 < kept.len();
            if !too_much && run.header.started >= limit && !early {
                break;
            }
            bytes -= run.bytes;
            outlived.push(*id);
        }
        outlived
    }
}

impl Store {
    /// What is kept of what ordinary writes replace; nothing unless a store is told to.
    #[must_use]
    pub fn keeps_history(&self) -> Option<KeepHistory> {
        self.inner.journal.known().keeping.limits
    }

    /// Bytes of what ordinary writes replaced and the journal holds.
    #[must_use]
    pub fn history_bytes(&self) -> u64 {
        self.inner.journal.known().runs.values().filter(|run| is_kept(run)).map(|run| run.bytes).sum()
    }

    /// Keeps from now on what ordinary writes replace, or no longer, and drops what is more than that; synced. Tells how many
    /// runs were dropped.
    ///
    /// # Errors
    /// What the engine met.
    pub fn keep_history(&self, limits: Option<KeepHistory>) -> Result<u64, StoreError> {
        self.change_journal(|known, batch| {
            known.keeping.limits = limits;
            known.keeping.current = None;
            match limits {
                Some(limits) => {
                    batch.put(&rows::meta(KEPT), &[limits.age.to_be_bytes(), limits.bytes.to_be_bytes()].concat());
                }
                None => batch.delete(&rows::meta(KEPT)),
            }
        })?;
        self.drop_old_runs()
    }

    /// Drops what is too old if another run was begun. The write that began it is done, so what the engine meets here it will
    /// say again to the next one.
    pub(in crate::store::embedded) fn tidy_history(&self) {
        let begun = std::mem::take(&mut self.inner.journal.known().keeping.begun);
        if begun && let Err(error) = self.drop_old_runs() {
            tracing::warn!(%error, "what is too old of the history stays for now");
        }
    }
}
