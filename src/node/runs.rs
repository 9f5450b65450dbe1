//! Sessions as runs of the journal: a side that a session may write is written under a run, which ends with its verdict.
//! What a run keeps is the store's concern.

use std::sync::Arc;

use reknit_core::difference::Side as Seen;
use reknit_core::journal::{RunHeader, RunId, RunKind};
use reknit_core::query::Applied;
use reknit_core::session::{Direction, Intent, Options};
use reknit_core::{CollectionId, Profile};

use super::NodeError;
use super::brakes::{self, Guarded};
use crate::store::{Side, StoreError};

/// One side's run of one session.
pub(super) struct SideRun {
    run: Option<Arc<dyn Side>>,
    plain: Arc<dyn Side>,
}

impl SideRun {
    /// The run of whoever opens a session; none where the session writes nothing.
    pub(super) fn opener(side: Arc<dyn Side>, options: &Options, peer: String) -> Result<SideRun, NodeError> {
        if !matches!(options.intent, Intent::Repair(_)) {
            return Ok(SideRun { run: None, plain: side });
        }
        let header = header(options, &side, peer, true);
        SideRun::begin(side, header)
    }

    /// The run of whoever answers, who does not know what the session is for.
    pub(super) fn responder(side: Arc<dyn Side>, peer: String) -> Result<SideRun, NodeError> {
        let policy = format!("as the opener decides{}", policies(&side, &[]));
        SideRun::begin(side, RunHeader { kind: RunKind::Repair, peer, opener: false, policy, started: 0 })
    }

    /// The run of the other side of a session within this process.
    pub(super) fn other(side: Arc<dyn Side>, options: &Options, peer: String) -> Result<SideRun, NodeError> {
        // It is refused as an opener would be: who runs both knows what the session is for.
        let mut run = SideRun::opener(Arc::clone(&side), options, peer.clone())?;
        if run.run.is_some() {
            run.run = begun(&side, header(options, &side, peer, false))?;
        }
        Ok(run)
    }

    /// A run that is no session's.
    pub(super) fn begin(side: Arc<dyn Side>, header: RunHeader) -> Result<SideRun, NodeError> {
        Ok(SideRun { run: begun(&side, header)?, plain: side })
    }

    /// The side as the session writes it.
    pub(super) fn side(&self) -> Arc<dyn Side> {
        Arc::clone(self.run.as_ref().unwrap_or(&self.plain))
    }

    /// Lets out of quarantine what is due, before a session of which the other side says what may be lost.
    pub(super) async fn release(&self, guarded: Guarded) -> Result<Applied, NodeError> {
        let Some(run) = self.run.clone() else { return Ok(Applied::default()) };
        let work = move || {
            let (released, done) = brakes::release(&*run, &guarded);
            done.map(|()| released)
        };
        let released = tokio::task::spawn_blocking(work).await;
        Ok(released.unwrap_or_else(|panic| Err(StoreError::Panicked(panic.to_string())))?)
    }

    /// Notes how the session ended; gives the number of the run if it changed anything.
    pub(super) async fn end(self, verdict: &str) -> Result<Option<RunId>, NodeError> {
        let Some(run) = self.run else { return Ok(None) };
        let verdict = verdict.to_string();
        let ended = tokio::task::spawn_blocking(move || run.end_run(&verdict)).await;
        Ok(ended.unwrap_or_else(|panic| Err(StoreError::Panicked(panic.to_string())))?)
    }
}

/// A side in a run; of two sides it is told which refuses.
fn begun(side: &Arc<dyn Side>, header: RunHeader) -> Result<Option<Arc<dyn Side>>, StoreError> {
    Arc::clone(side).in_run(header).map_err(|error| match error {
        StoreError::Paused { run, place: None } => StoreError::Paused { run, place: Some(side.describe().place) },
        other => other,
    })
}

/// The policies of the collections that a session is about, all if none are named; none where there are no versions.
fn policies(side: &Arc<dyn Side>, scope: &[CollectionId]) -> String {
    let definition = side.describe().definition;
    let within = |id: CollectionId| scope.is_empty() || scope.contains(&id);
    let collections = definition.data().filter(|(id, _)| within(*id));
    let mut policies: Vec<&str> = collections.map(|(_, collection)| collection.policy.as_str()).collect();
    policies.sort_unstable();
    policies.dedup();
    // A dataset of contents has none, and a session about members alone is under no policy of the user's.
    let none = definition.profile == Profile::Content || policies.is_empty();
    if none { String::new() } else { format!("; {}", policies.join(", ")) }
}

fn header(options: &Options, side: &Arc<dyn Side>, peer: String, opener: bool) -> RunHeader {
    let kind = match (&options.picked, options.mirror) {
        (Some(_), _) => RunKind::Apply,
        (None, Some(_)) => RunKind::Mirror,
        (None, None) => RunKind::Repair,
    };
    let written = match (options.mirror, options.intent) {
        (None, Intent::Repair(Direction::Both)) => "both sides are written",
        _ => "one side is written",
    };
    let preferred = match options.prefer.map(|side| (side == Seen::Mine) == opener) {
        Some(true) => ", this one is preferred",
        Some(false) => ", the other one is preferred",
        None => "",
    };
    let policies = policies(side, &options.scope);
    let policy = match &options.picked {
        Some(picked) => format!("plan {}, {written}{policies}", picked.name),
        None => format!("{written}{preferred}{policies}"),
    };
    RunHeader { kind, peer, opener, policy, started: 0 }
}
