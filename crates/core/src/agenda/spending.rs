//! Budgets of a day: what the runs of a job may cost from midnight to midnight by its clock, and what they have.
//!
//! What a run costs is said by whoever ran it, and what it is told to keep to by the driver; when it begins is the agenda's.

use serde::{Deserialize, Serialize};

use super::Job;
use crate::schedule;
use crate::stamp::Millis;

/// What the runs of a job may cost in a day, or what is left of that; whatever is not said is not bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayBudget {
    /// Bytes that the sides say to each other.
    pub bytes: Option<u64>,
    /// How long they take together.
    pub time: Option<Millis>,
}

/// What runs have cost that began on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The day, counted from the start of 1970 by the clock of the job.
    day: i64,
    /// Bytes that the sides said to each other.
    pub bytes: u64,
    /// How long they took together.
    pub time: Millis,
}

impl Job {
    /// What the runs that began today have cost.
    pub fn spent(&self, now: Millis) -> Spent {
        let day = self.plan.as_ref().map_or(0, |plan| schedule::day(&*plan.zone, now));
        self.kept.spent.filter(|spent| spent.day == day).unwrap_or(Spent { day, ..Spent::default() })
    }

    /// What is left of today's budget.
    pub fn left(&self, now: Millis) -> DayBudget {
        let Some(DayBudget { bytes, time }) = self.plan.as_ref().map(|plan| plan.a_day) else {
            return DayBudget::default();
        };
        let spent = self.spent(now);
        DayBudget {
            bytes: bytes.map(|bytes| bytes.saturating_sub(spent.bytes)),
            time: time.map(|time| time.saturating_sub(spent.time)),
        }
    }

    /// Until when no run begins by itself, since today's budget is used up.
    pub fn used_up(&self, now: Millis) -> Option<Millis> {
        let left = self.left(now);
        let zone = &self.plan.as_ref()?.zone;
        (left.bytes == Some(0) || left.time == Some(0)).then(|| schedule::next_day(&**zone, now))
    }

    /// When the next run begins, as far as it is known.
    pub fn begins(&self, now: Millis) -> Option<Millis> {
        self.kept.due.map(|due| due.max(self.used_up(now).unwrap_or(0)))
    }

    /// Counts what a run has cost, or some of it, on the day on which it began.
    pub(super) fn spend(&mut self, began: Millis, cost: u64, took: Millis) {
        let Spent { day, bytes, time } = self.spent(began);
        let spent = Spent { day, bytes: bytes.saturating_add(cost), time: time.saturating_add(took) };
        // Where nothing is bounded, nothing is counted.
        let bounded = self.plan.as_ref().is_some_and(|plan| plan.a_day != DayBudget::default());
        self.kept.spent = bounded.then_some(spent);
    }
}
