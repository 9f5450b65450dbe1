//! Runs of what peers push, outside of sessions: one of each peer goes on for a while, so that they are few, and can be
//! undone like any other. They have a share of the journal of their own: beyond it the oldest are dropped, and repairs never
//! wait for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use reknit_core::journal::{Run, RunEnd, RunHeader, RunId, RunKind};
use reknit_core::{Millis, Stamp};

use super::{InRun, Known, Writing, put_run};
use crate::store::embedded::Store;
use crate::store::{Side, StoreError};

/// How long a run goes on.
const PERIOD: Millis = 60 * 60 * 1000;
/// The part of the journal's bytes that all of them may have.
const SHARE: u64 = 4;
/// The part of that which one run has, about.
const RUNS: u64 = 16;
/// Peers whose runs go on at once; with one more, all begin anew.
const PEERS_MAX: usize = 256;

/// The runs that go on, by peer.
#[derive(Default)]
pub(super) struct Pushing(BTreeMap<String, Arc<Writing>>);

/// Whether a run holds what pushes replaced.
pub(super) fn is_pushed(run: &Run) -> bool {
    run.header.kind == RunKind::Pushed
}

impl Known {
    /// Whether a run of pushes goes on: what is pushed once it was undone, even in part, belongs to another.
    fn goes_on(&self, id: RunId, now: Millis) -> bool {
        let young = |run: &Run| {
            let fits = run.bytes <= self.limits.bytes / SHARE / RUNS;
            now.saturating_sub(run.header.started) < PERIOD && fits && !run.dropped && run.undone.is_none()
        };
        self.runs.get(&id).is_some_and(|run| is_pushed(run) && run.end.is_none() && young(run))
    }

    /// Runs of pushes beyond their share of the bytes, oldest first; never the newest, and none that is being undone.
    pub(super) fn pushed_out(&self) -> Vec<RunId> {
        let pushed: Vec<(RunId, &Run)> =
            self.runs.iter().filter(|(_, run)| is_pushed(run)).map(|(id, run)| (*id, run)).collect();
        let mut bytes: u64 = pushed.iter().map(|(_, run)| run.bytes).sum();
        let mut out = Vec::new();
        for (id, run) in pushed.iter().take(pushed.len().saturating_sub(1)) {
            if bytes <= self.limits.bytes / SHARE {
                break;
            }
            if run.undone.is_none_or(|undone| undone.done) {
                bytes -= run.bytes;
                out.push(*id);
            }
        }
        out
    }
}

impl Store {
    /// This store as what a peer pushes is written, while both are at a horizon: what it replaces can be undone. The run of
    /// that peer goes on for an hour, also when the store was opened again.
    ///
    /// # Errors
    /// [`StoreError::Paused`], [`StoreError::JournalFull`], or what the engine met.
    pub fn pushed_by(&self, peer: &str, horizon: Stamp) -> Result<Arc<dyn Side>, StoreError> {
        let (journal, now) = (&self.inner.journal, (self.inner.clock)());
        journal.admits()?;
        let header = RunHeader {
            kind: RunKind::Pushed,
            peer: peer.into(),
            opener: false,
            policy: "as it was written there".into(),
            started: 0,
        };
        let mut known = journal.known();
        let goes_on = |writing: &Arc<Writing>| {
            let same = writing.id.get().is_none_or(|id| known.goes_on(*id, now));
            same && !writing.is_overtaken(horizon)
        };
        let current = known.pushing.0.get(peer).filter(|current| goes_on(current)).cloned();
        let (writing, over) = match current {
            Some(writing) => (writing, Vec::new()),
            None => {
                let mine = |run: &Run| is_pushed(run) && run.header.peer == peer && run.end.is_none();
                let begun = known.runs.iter().filter(|(_, run)| mine(run)).map(|(id, _)| *id);
                let (young, over): (Vec<_>, Vec<_>) = begun.partition(|id| known.goes_on(*id, now));
                let writing = match young.last() {
                    Some(id) => Writing::resumed(header, *id),
                    None => Writing::new(header),
                };
                writing.begin(horizon);
                if known.pushing.0.len() == PEERS_MAX {
                    known.pushing.0.clear();
                }
                known.pushing.0.insert(peer.into(), Arc::clone(&writing));
                (writing, over)
            }
        };
        drop(known);
        if !over.is_empty() {
            self.change_journal(|known, batch| {
                for id in over {
                    let Some(run) = known.runs.get_mut(&id) else { continue };
                    run.end = Some(RunEnd { ended: now, verdict: "pushed".into() });
                    put_run(id, run, batch);
                }
            })?;
            self.drop_old_runs()?;
        }
        Ok(Arc::new(InRun::new(self.clone(), writing)))
    }
}
