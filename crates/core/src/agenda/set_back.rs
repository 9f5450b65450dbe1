//! A clock that ran ahead and was set back: what was planned and noted by it lies so far ahead that no run would come, and nobody be
//! told, until the clock has made up for it. It counts from now instead.
//!
//! Telling that is the driver's.

use super::{Agenda, Job, back_off, jitter};
use crate::stamp::Millis;

/// Clocks are set back by less now and then, which puts nothing off for long: a job must not run twice for it.
const STEP_MILLIS: Millis = 60_000;

impl Agenda {
    /// Has what lies further ahead than it can count from now: a run that its schedule could not put so late, a trial of what is
    /// parked, a proof and a difference that were noted later than now. Says of which jobs; a driver asks before what is
    /// [due](Agenda::due). What was remembered is looked at once the clock has `settled`: one that has just begun may itself be
    /// behind, and be put on soon.
    pub fn set_right(&mut self, now: Millis, settled: bool) -> Vec<String> {
        let stepped = self.latest > now.saturating_add(STEP_MILLIS);
        if !(stepped || settled && self.remembers) {
            return Vec::new();
        }
        self.latest = now;
        self.remembers &= !settled;
        let seed = self.seed;
        let all = self.jobs.iter_mut();
        all.filter_map(|(name, job)| job.set_right(&seed, name, now).then(|| name.clone())).collect()
    }
}

impl Job {
    fn set_right(&mut self, seed: &[u8; 32], name: &str, now: Millis) -> bool {
        let planned = self.plan_nearer(seed, name, now);
        let noted = self.kept.set_right(now);
        let parked = self.kept.parking.set_right(now);
        planned || noted || parked
    }

    /// Plans anew what lies further ahead than it could if it were planned now; says whether it did.
    fn plan_nearer(&mut self, seed: &[u8; 32], name: &str, now: Millis) -> bool {
        let (Some(plan), Some(slot), Some(due)) = (&self.plan, self.kept.slot, self.kept.due) else { return false };
        let (schedule, zone) = (&plan.schedule, &*plan.zone);
        let (Some(at), Some(furthest)) = (&schedule.at, schedule.next(zone, now, now)) else { return false };
        let regular = furthest.saturating_add(schedule.jitter);
        let retry = now.saturating_add(back_off(at, self.kept.failures));
        let latest = schedule.opens(zone, regular.max(retry));
        if slot <= furthest && latest.is_none_or(|latest| due <= latest) {
            return false;
        }
        let slot = if slot > furthest { schedule.first(zone, now).unwrap_or(furthest) } else { slot };
        let regular = slot.saturating_add(jitter(seed, name, self.kept.runs, schedule));
        // What is to begin before its slot, after a failure or since it was cut short, still does.
        (self.kept.slot, self.kept.due) = (Some(slot), Some(due.min(regular)));
        true
    }
}
