//! Parked ranges of a job or of a peer: where a store could not answer, so that a run ended there; the next ones leave them out, so
//! that all the rest goes on, and try them again later, each time after twice as long.
//!
//! Leaving them out, and telling where a run got stuck, is the session's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Ran, RunVerdict};
use crate::dataset::CollectionId;
use crate::range::Range;
use crate::session::Stuck;
use crate::stamp::Millis;

/// Entries that are kept of a job; beyond that the two that came last become one.
pub const PARKED_MAX: usize = 64;
/// How long is waited at first before a range is tried again; twice as long each time.
const TRY_MILLIS: Millis = 60_000;
/// How long at most.
const TRY_MAX_MILLIS: Millis = 24 * 3_600_000;
/// Runs in a row that begin at once, to go on with the rest and to narrow down what is stuck.
const AT_ONCE_MAX: u32 = 64;

/// Ranges of a collection or table, by its name.
pub type Named = Vec<(String, Range)>;

/// Some ranges that a run got stuck in, together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Where.
    pub ranges: Named,
    /// The error's id and what it says.
    pub reason: (String, String),
    /// When a run first got stuck there.
    pub since: Millis,
    /// How often they were tried alone, and failed again; 0 while it is not known yet how few of them it is about.
    pub tries: u32,
    /// When they are tried again.
    pub next: Millis,
}

/// What a run leaves out, and what it tries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// What it leaves out.
    pub out: Named,
    /// What it tries, with care.
    pub tried: Named,
}

/// How a session ended, as far as what is parked goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End<'s> {
    /// Both sides are equal.
    Equal,
    /// It came to its end with all that it did not leave out.
    Whole,
    /// A store could not answer there; the error's id and what it says.
    Stuck(&'s Named, (String, String)),
    /// It was cut off, or there was none.
    Cut,
}

/// All that is parked of a job, or of sessions with one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parking {
    all: Vec<Parked>,
    /// Whether the rest has yet to be gone through, before anything is tried.
    #[serde(default)]
    rest: bool,
    /// Runs in a row that began at once.
    #[serde(default)]
    at_once: u32,
}

impl Parking {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What is parked, in the order in which it came.
    pub fn all(&self) -> &[Parked] {
        &self.all
    }

    /// How many ranges are.
    pub fn ranges(&self) -> usize {
        self.all.iter().map(|parked| parked.ranges.len()).sum()
    }

    /// Since when the one has been that came first.
    pub fn since(&self) -> Option<Millis> {
        self.all.iter().map(|parked| parked.since).min()
    }

    /// What a run that begins now leaves out and tries: what is due, one after the other, and first what is not narrowed down
    /// yet; all of it if somebody asked for the run.
    pub fn trial(&self, asked: bool, now: Millis) -> Trial {
        let due = |(_, parked): &(usize, &Parked)| !self.rest && parked.next <= now;
        let order = |(nth, parked): &(usize, &Parked)| (parked.tries > 0, parked.next, *nth);
        let first = self.all.iter().enumerate().filter(due).min_by_key(order).map(|(nth, _)| nth);
        let (mut out, mut tried) = (Named::new(), Named::new());
        for (nth, parked) in self.all.iter().enumerate() {
            let into = if asked || first == Some(nth) { &mut tried } else { &mut out };
            into.extend(parked.ranges.iter().cloned());
        }
        Trial { out, tried }
    }

    /// Has what waits for longer than it would if it had been tried now be tried again now; says whether something did.
    pub(super) fn set_right(&mut self, now: Millis) -> bool {
        let mut any = false;
        for parked in &mut self.all {
            // What several became one of has waited for who knows which of them.
            let most = if parked.tries == 0 { TRY_MAX_MILLIS } else { wait(parked.tries) };
            if parked.next > now.saturating_add(most) {
                (parked.next, any) = (now, true);
            }
        }
        any
    }

    /// Takes in how a run ended; says whether the next is to begin at once.
    pub(super) fn note(&mut self, ran: &Ran) -> bool {
        let whole = ran.verdict == RunVerdict::Differs || ran.verdict == RunVerdict::Partial && ran.parked > 0;
        let end = match &ran.stuck {
            Some(stuck) => End::Stuck(stuck, ran.error.clone().unwrap_or_default()),
            None if ran.equal() => End::Equal,
            None if whole => End::Whole,
            None => End::Cut,
        };
        self.learn(&ran.trial, end, ran.ended)
    }

    /// Takes in how a session ended, at this time, that left out and tried this; says whether the next is to begin at once.
    pub fn learn(&mut self, trial: &Trial, end: End<'_>, now: Millis) -> bool {
        let stuck = matches!(end, End::Stuck(..));
        match end {
            End::Stuck(stuck, reason) => {
                let beside: Named = stuck.iter().filter(|one| !covers(&trial.out, one)).cloned().collect();
                if beside.is_empty() {
                    self.blocked(stuck, now);
                    return false;
                }
                self.stuck(beside, trial, reason, now);
            }
            End::Equal => {
                // Roots that agree prove what was left out too.
                *self = Parking::default();
                return false;
            }
            End::Whole => {
                self.rest = false;
                let tried = |parked: &Parked| parked.ranges.iter().all(|range| trial.tried.contains(range));
                self.all.retain(|parked| !tried(parked));
            }
            End::Cut => {
                self.at_once = 0;
                return false;
            }
        }
        let narrows = stuck || self.all.iter().any(|parked| parked.next <= now);
        let again = narrows && self.at_once < AT_ONCE_MAX;
        self.at_once = if again { self.at_once + 1 } else { 0 };
        again
    }

    /// A run got stuck in what it left out: whatever is shown of so small a store shows that too, so that no run gets past it.
    fn blocked(&mut self, stuck: &Named, now: Millis) {
        (self.at_once, self.rest) = (0, false);
        for parked in self.all.iter_mut().filter(|parked| stuck.iter().any(|one| covers(&parked.ranges, one))) {
            parked.tries = parked.tries.saturating_add(1);
            parked.next = now.saturating_add(wait(parked.tries));
        }
    }

    fn stuck(&mut self, stuck: Named, trial: &Trial, reason: (String, String), now: Millis) {
        // What failed together with what was tried is suspected only once that is out of the way.
        let suspected: Named = stuck.iter().filter(|one| covers(&trial.tried, one)).cloned().collect();
        let elsewhere = suspected.is_empty();
        let ranges = if elsewhere { stuck } else { suspected };
        let mut new = Parked { ranges, reason, since: now, tries: 0, next: now };
        let within = |parked: &Parked| new.ranges.iter().all(|one| covers(&parked.ranges, one));
        if elsewhere {
            // It waits until the rest is done.
            self.rest = true;
        } else if let Some(at) = self.all.iter().position(within) {
            let known = self.all.remove(at);
            new.since = known.since;
            if known.ranges == new.ranges && new.ranges.len() == 1 {
                new.tries = known.tries.saturating_add(1);
                new.next = now.saturating_add(wait(new.tries));
            } else if known.ranges == new.ranges {
                // All of it failed at once: each half is tried alone.
                let half = new.ranges.split_off(new.ranges.len() / 2);
                self.all.push(Parked { ranges: half, ..new.clone() });
            }
        } else {
            // Several were tried at once.
            let again = |parked: &Parked| parked.ranges.iter().all(|range| new.ranges.contains(range));
            new.since = self.all.iter().filter(|parked| again(parked)).map(|parked| parked.since).min().unwrap_or(now);
            self.all.retain(|parked| !again(parked));
        }
        self.all.push(new);
        while self.all.len() > PARKED_MAX {
            let last = self.all.pop();
            if let (Some(last), Some(into)) = (last, self.all.last_mut()) {
                into.ranges = few(into.ranges.drain(..).chain(last.ranges));
                (into.tries, into.next, into.reason) = (0, last.next, last.reason);
            }
        }
    }
}

/// Those ranges, or wider ones that hold them: of each collection as many at most as one session tells of.
fn few(ranges: impl Iterator<Item = (String, Range)>) -> Named {
    let mut by_name: BTreeMap<String, Vec<Range>> = BTreeMap::new();
    ranges.for_each(|(name, range)| by_name.entry(name).or_default().push(range));
    let named = |(name, ranges): (String, Vec<Range>)| {
        let of_one = Stuck::new(CollectionId::default(), ranges).ranges;
        of_one.into_iter().map(move |range| (name.clone(), range))
    };
    by_name.into_iter().flat_map(named).collect()
}

/// Whether a range lies within one of some.
fn covers(some: &Named, (of, one): &(String, Range)) -> bool {
    some.iter().any(|(name, range)| of == name && range.covers(*one))
}

/// How long what was tried so often waits.
fn wait(tries: u32) -> Millis {
    TRY_MILLIS.saturating_mul(1 << tries.saturating_sub(1).min(32)).min(TRY_MAX_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;
    use crate::range::DEPTH_MAX;
    use crate::session::STUCK_MAX;

    #[test]
    fn what_is_parked_is_bounded_however_often_a_peer_names_other_ranges() {
        let mut parking = Parking::default();
        let place = |nth: u64| Range::of(Position(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)), DEPTH_MAX);
        for session in 0..200u64 {
            let stuck: Named = (0..100).map(|nth| ("default".into(), place(session * 100 + nth))).collect();
            let trial = parking.trial(false, session);
            parking.learn(&trial, End::Stuck(&stuck, ("peer".into(), "it rots".into())), session);
            let trial = parking.trial(false, session);
            assert!(stuck.iter().all(|one| covers(&trial.out, one) || covers(&trial.tried, one)), "{session}");
        }
        assert!(parking.all().len() <= PARKED_MAX);
        assert!(parking.ranges() <= 100 * PARKED_MAX + STUCK_MAX, "{}", parking.ranges());
    }
}
