//! What was done in all runs, and how often: an operation, a fault or a place to die that no seed reaches proves nothing.

use std::collections::BTreeMap;

use crate::disk::Point;

/// What a process was doing when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Where {
    Idle,
    Writing,
    Opener,
    Responder,
    Ending,
    Undoing,
    Opening,
    Collecting,
}

/// What every campaign must have done.
const WANTED: &[&str] = &[
    "put",
    "put that expires",
    "delete",
    "delete of nothing",
    "batch",
    "buffered batch",
    "sync",
    "repair",
    "pull",
    "push",
    "mirror",
    "diff",
    "check",
    "undo",
    "undo everywhere",
    "undone for all",
    "undo of an undo",
    "resume",
    "resolve",
    "strangers",
    "journal bounded",
    "runs dropped",
    "fault: crash",
    "fault: dies at work",
    "fault: clock a day ahead",
    "fault: clock a day back",
    "fault: clock off a little",
    "fault: restored",
    "fault: emptied",
    "fault: partition",
    "fault: link broken",
    "session: paused after an undo",
    "session: the journal is full",
    "verdict: in_sync",
    "verdict: converged",
    "verdict: differs",
    "verdict: undetermined",
    "refused: from the future",
    "receipt",
    "expired",
    "session: records expired first",
    "fault: rolled back",
    "rolled back, and a peer knows",
    "fault: copied",
    "gc",
    "gc: nothing to collect",
    "gc without a member that lapsed",
    "session: a horizon was raised",
    "session: a side was behind",
    "caught up",
    "caught up: removed",
    "caught up: kept",
    "caught up: strays",
    "preferred",
    "history bounded",
    "history kept",
    "history dropped",
    "history: not undone",
    "session: overtaken by collecting",
    "session: a new life was begun",
    "session: cut short",
    "undo: the journal is full",
    "catching up: could not be compared",
    "catching up: it has collected itself",
    "gc: waits for whoever has collected",
];

/// Where processes must have died in every campaign.
const PLACES: &[(Where, Point)] = &[
    (Where::Idle, Point::Idle),
    (Where::Writing, Point::Snapshot),
    (Where::Writing, Point::BeforeCommit),
    (Where::Writing, Point::AfterCommit),
    (Where::Writing, Point::BeforeSync),
    (Where::Writing, Point::AfterSync),
    (Where::Opener, Point::Snapshot),
    (Where::Opener, Point::BeforeCommit),
    (Where::Opener, Point::AfterCommit),
    (Where::Opener, Point::BeforeSync),
    (Where::Opener, Point::AfterSync),
    (Where::Responder, Point::Snapshot),
    (Where::Responder, Point::BeforeCommit),
    (Where::Responder, Point::AfterCommit),
    (Where::Responder, Point::BeforeSync),
    (Where::Responder, Point::AfterSync),
    (Where::Ending, Point::BeforeCommit),
    (Where::Ending, Point::AfterCommit),
    (Where::Undoing, Point::Snapshot),
    (Where::Undoing, Point::BeforeCommit),
    (Where::Undoing, Point::AfterCommit),
    (Where::Opening, Point::Snapshot),
    (Where::Opening, Point::BeforeCommit),
    (Where::Opening, Point::AfterCommit),
    (Where::Collecting, Point::Snapshot),
    (Where::Collecting, Point::BeforeCommit),
    (Where::Collecting, Point::AfterCommit),
];

/// Counts of what was done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    counts: BTreeMap<String, u64>,
    places: BTreeMap<(Where, Point), u64>,
    pub(crate) operations: u64,
    pub(crate) faults: u64,
}

impl Tally {
    pub(crate) fn note(&mut self, what: &str) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: &str, n: u64) {
        match self.counts.get_mut(what) {
            Some(count) => *count += n,
            None => drop(self.counts.insert(what.into(), n)),
        }
    }

    pub(crate) fn died(&mut self, doing: Where, point: Point) {
        *self.places.entry((doing, point)).or_default() += 1;
    }

    pub(crate) fn join(&mut self, other: &Tally) {
        other.counts.iter().for_each(|(what, count)| self.add(what, *count));
        for (place, count) in &other.places {
            *self.places.entry(*place).or_default() += count;
        }
        self.operations += other.operations;
        self.faults += other.faults;
    }

    /// What was never done and should have been.
    pub(crate) fn lacking(&self) -> Vec<String> {
        let wanted = WANTED
            .iter()
            .filter(|what| self.counts.get(**what).is_none_or(|count| *count == 0))
            .map(|what| (*what).to_string());
        let places = PLACES.iter().filter(|place| !self.places.contains_key(place));
        wanted.chain(places.map(|(doing, point)| format!("died: {doing:?}, {point:?}"))).collect()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} operations, {} faults", self.operations, self.faults)?;
        self.counts.iter().try_for_each(|(what, count)| writeln!(f, "{count:>10} {what}"))?;
        let mut places = self.places.iter();
        places.try_for_each(|((doing, point), count)| writeln!(f, "{count:>10} died: {doing:?}, {point:?}"))
    }
}
