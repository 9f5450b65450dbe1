//! What a session may take, what it tells while it runs, and what it did.

use std::sync::Arc;
use std::time::Duration;

use reknit_core::difference::Difference;
use reknit_core::journal::RunId;
use reknit_core::session::{Counts, Outcome};

use super::NodeError;
use super::lanes::Traffic;

/// What a session tells while it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// A difference was found.
    Found(Box<Difference>),
    /// What was counted so far, and the share of positions proven, in millionths.
    Counted(Box<Counts>, u32),
}

/// Bounds on one session beside those of the link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    /// It gives its verdict after this long; what the store is writing then is waited for, three seconds at most.
    pub time: Option<Duration>,
    /// It gives its verdict after so many bytes both ways.
    pub bytes: Option<u64>,
}

/// What a session did, seen from one side.
#[derive(Clone, Debug)]
pub struct SessionReport {
    /// How it ended.
    pub outcome: Outcome,
    /// What it cost.
    pub traffic: Traffic,
    /// How long it took.
    pub elapsed: Duration,
    /// The runs of the opener's side and, where this process holds both, of the other, if they changed anything.
    pub runs: (Option<RunId>, Option<RunId>),
    /// The same of the runs by which a side that had been away caught up before it.
    pub caught_up: (Option<RunId>, Option<RunId>),
    /// How many records were set apart as strays then.
    pub strays: (u64, u64),
    /// How the link was lost before the end, if it was: the outcome says what was known by then.
    pub lost: Option<Arc<NodeError>>,
}
