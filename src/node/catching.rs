//! Catching up: what a side does that was away while tombstones were collected, before it gives anything to anyone.
//!
//! Which sessions that takes is said in [`reknit_core::collect::CatchingUp`], which records go is the store's concern
//! ([`crate::store::Side::catch_up`]): they are held and written here.

use std::sync::Arc;
use std::time::Instant;

use reknit_core::brakes::{Braked, Losses};
use reknit_core::collect::{CatchingUp, Horizon, Next};
use reknit_core::difference::Side as Seen;
use reknit_core::journal::{RunHeader, RunKind};
use reknit_core::query::Raising;
use reknit_core::receipt::Witness;
use reknit_core::session::{Behind, Intent, Options, Other, Outcome, Verdict};

use super::runs::SideRun;
use super::visits::{Asked, Peer};
use super::{NodeError, Progress, SessionReport};
use crate::store::{Base, CaughtUp, Side, StoreError};

/// Keys that are looked at in one commit.
const BATCH: usize = 1_000;
const NOT_COMPARED: &str = "this store was away while tombstones were collected, and could not be compared with the peer \
                            to catch up; the same command goes on";
const CAME_MEANWHILE: &str = "this store was away while tombstones were collected, and while it caught up others brought records \
                              that may have been deleted then; the same command goes on";

/// What became of it.
pub(super) enum Caught {
    /// It may give now.
    Up,
    /// It may not; the outcome says why.
    NotYet,
}

/// Has the side that is behind catch up with the other, if it is one of this process.
pub(super) async fn catch_up(
    side: &Arc<dyn Side>,
    peer: &Peer<'_>,
    behind: &Behind,
    asked: &Asked,
    report: &mut SessionReport,
) -> Result<Caught, NodeError> {
    let mut asked = asked.clone();
    let (lower, other, horizon) = match (behind.side, peer) {
        (Seen::Mine, peer) => (side.clone(), peer.clone(), behind.horizon.clone()),
        (Seen::Theirs, Peer::Store(lower, signer)) => {
            asked.windows.reverse();
            (lower.clone(), Peer::Store(side.clone(), signer.clone()), side.horizon()?)
        }
        (Seen::Theirs, Peer::Node(..)) => return Ok(Caught::NotYet),
    };
    let header = RunHeader {
        kind: RunKind::CatchUp,
        peer: other.name(),
        opener: true,
        policy: "what others had deleted meanwhile goes".into(),
        started: 0,
    };
    let run = SideRun::begin(lower, header)?;
    let strays = if behind.side == Seen::Mine { &mut report.strays.0 } else { &mut report.strays.1 };
    let done = caught_up(&run, &other, horizon, behind.side, &asked, (&mut report.outcome, strays)).await;
    let verdict = if matches!(done, Ok(Caught::Up)) { Verdict::Converged } else { Verdict::Undetermined };
    let id = run.end(verdict.name()).await?;
    let told = if behind.side == Seen::Mine { &mut report.caught_up.0 } else { &mut report.caught_up.1 };
    *told = id.or(*told);
    done
}

async fn caught_up(
    run: &SideRun,
    other: &Peer<'_>,
    horizon: Horizon,
    seen: Seen,
    asked: &Asked,
    (outcome, set_apart): (&mut Outcome, &mut u64),
) -> Result<Caught, NodeError> {
    let Options { settle, brakes, .. } = asked.options;
    let window = &asked.windows[0];
    let lost = || window.as_ref().map(|window| window.lost(Instant::now())).unwrap_or_default();
    let mut steps = CatchingUp::begin(Options { settle, brakes, ..Options::new(Intent::Check) });
    let mut looks_out = None;
    let (missed, with) = loop {
        if steps.looks() {
            looks_out = Some(run.side().look_out());
        }
        let asked = Asked { options: steps.session(), ..asked.clone() };
        let mut found = |progress: Progress| {
            if let Progress::Found(difference) = progress {
                steps.found(&difference);
            }
        };
        let held = other.session(run.side(), asked, &mut found).await?;
        // Whatever becomes of the rest, that was written.
        let wrote = if seen == Seen::Mine { &mut outcome.counts.to_mine } else { &mut outcome.counts.to_theirs };
        *wrote = wrote.and(held.outcome.counts.to_mine);
        match steps.ended(&held.outcome, lost()) {
            Next::Session => {}
            Next::Judge(missed, with) => break (missed, with),
            Next::NotYet(Some(braked)) => {
                outcome.verdict = Verdict::Refused;
                outcome.braked = Some(Braked { side: seen, ..braked });
                return Ok(Caught::NotYet);
            }
            Next::NotYet(None) => {
                outcome.reason = NOT_COMPARED.into();
                return Ok(Caught::NotYet);
            }
        }
    };
    let side = run.side();
    let bases = bases(&*side, other, (&horizon, with))?;
    let work = move || -> Result<(Raising, CaughtUp), StoreError> {
        let mut all = CaughtUp::default();
        let mut missed = missed.into_iter().peekable();
        while missed.peek().is_some() {
            let some = missed.by_ref().take(BATCH).collect();
            let CaughtUp { removed, kept, strays } = side.catch_up(some, &bases, horizon.stamp)?;
            all = CaughtUp { removed: all.removed + removed, kept: all.kept + kept, strays: all.strays + strays };
        }
        let raising = side.raise(&horizon, true)?;
        // Not before: nobody may be there any more who waits for this.
        drop(looks_out);
        Ok((raising, all))
    };
    let done = tokio::task::spawn_blocking(work).await;
    let (raising, done) = done.unwrap_or_else(|panic| Err(StoreError::Panicked(panic.to_string())))?;
    let CaughtUp { removed, kept, strays } = done;
    *set_apart += strays;
    if let Some(window) = window {
        window.note(Losses { deleted: removed, changed: 0 }, Instant::now());
    }
    tracing::info!(removed, kept, strays, "caught up with what was collected meanwhile");
    if raising == Raising::Behind {
        outcome.reason = CAME_MEANWHILE.into();
    }
    Ok(if raising == Raising::Raised { Caught::Up } else { Caught::NotYet })
}

/// The receipts of this very store, as far as they tell what others had.
fn bases(side: &dyn Side, other: &Peer<'_>, with: (&Horizon, Other)) -> Result<Vec<Base>, NodeError> {
    let (info, Some(signer)) = (side.describe(), other.signer()) else { return Ok(Vec::new()) };
    let receipts = signer.receipts(info.definition.id)?;
    Ok(Base::all(&receipts, &info.definition, (&signer.me(), info.actor.0), with))
}
