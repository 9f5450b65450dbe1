//! What a node has to do and when: which job is due, what was missed, what waits for what, and what came of it.
//!
//! Doing it, and keeping it, is the driver's: it asks what a clock that was set back has [put too far ahead](Agenda::set_right) and
//! what is [due](Agenda::due), says what [begins](Agenda::begin) and how that [ended](Agenda::end), and writes down a job's [`Kept`]
//! after each. Time is an argument; jitter comes from a seed.

mod kept;
mod parked;
mod pass;
mod set_back;
mod spending;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use self::parked::{End, Named, PARKED_MAX, Parked, Parking, Trial};
pub use self::pass::Pass;
pub use self::spending::{DayBudget, Spent};
use crate::objective::Objective;
use crate::schedule::{At, Schedule, Zone};
use crate::stamp::Millis;

pub use self::kept::{
    Begun, CAUSE_BYTES_MAX, Cause, FreshIndex, HISTORY_MAX, INDEXES_MAX, Kept, Limit, OPEN_KEYS_MAX, OpenKeys,
    RANGES_KEPT_MAX, Ran, RunVerdict, Tuned, Unproven, Verified,
};

/// Jobs of one node.
pub const JOBS_MAX: usize = 1_024;
/// How long is waited at first before what failed is tried again; twice as long each time.
const RETRY_MILLIS: Millis = 60_000;
/// How long at most.
const RETRY_MAX_MILLIS: Millis = 3_600_000;
/// Of an interval below an hour, so many pass at most before what failed is tried again.
const RETRY_INTERVALS_MAX: u64 = 8;
/// Runs by which it is told how long a job takes.
const MEASURED_RUNS: usize = 5;
/// So much later than its window opens a run may begin that had all of it.
const WINDOW_SLACK: Millis = 60_000;
/// How often it is noted of a run that it goes on: about so much at most of what it took is not known if the process is killed.
pub const ALIVE_MILLIS: Millis = 30_000;

/// What runs cannot keep of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// They take longer than until the next is due.
    Interval {
        /// How long they take.
        took: Millis,
        /// How long passes at least until the next is due.
        interval: Millis,
    },
    /// They take longer than until the windows close.
    Window {
        /// How long they take; at least so long where the window cut the last one short.
        took: Millis,
        /// How long there is at least.
        window: Millis,
    },
}

/// A job as it is configured.
#[derive(Clone)]
pub struct Plan {
    /// When it is due.
    pub schedule: Schedule,
    /// By which clock.
    pub zone: Arc<dyn Zone>,
    /// What nobody else may work on at the same time: the places of its sides that are on this machine.
    pub places: BTreeSet<String>,
    /// How long a run may take at most.
    pub longest: Millis,
    /// Within how long its sides are to be proven equal, if that is wanted.
    pub within: Option<Millis>,
    /// What its runs may cost in a day; those that somebody does by hand and waits for count, and begin whatever is left.
    pub a_day: DayBudget,
}

/// Who begins a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The driver, because it is due or was asked for.
    Schedule,
    /// Somebody who waits for it.
    Hand,
}

/// Why a job cannot begin now. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none of this name.
    Unknown,
    /// A run of it has not ended.
    Running(Begun),
    /// Another job works on the same place.
    Occupied {
        /// The place.
        place: String,
        /// That job.
        by: String,
    },
}

/// One job: what is configured, and what is remembered.
#[derive(Clone)]
pub struct Job {
    /// How it is configured, with what was tuned; none if it no longer is.
    pub plan: Option<Plan>,
    /// What is remembered of it.
    pub kept: Kept,
}

/// All jobs of a node.
pub struct Agenda {
    seed: [u8; 32],
    jobs: BTreeMap<String, Job>,
    at_once: usize,
    /// The latest moment by which something was planned or noted since this process began, as far as that was not set right.
    latest: Millis,
    /// By which clock was planned and noted what was remembered is not known yet.
    remembers: bool,
}

impl Agenda {
    /// No jobs yet; `at_once` may run at the same time. Two nodes with different seeds do not begin their jobs together.
    pub fn new(seed: [u8; 32], at_once: usize) -> Agenda {
        Agenda { seed, jobs: BTreeMap::new(), at_once: at_once.max(1), latest: 0, remembers: false }
    }

    /// Takes up what was remembered of a job before this process began. A run of it that had begun was cut short, nobody knows
    /// when: it is noted in the history, and is due at once.
    pub fn remember(&mut self, name: String, mut kept: Kept, now: Millis) {
        if let Some(begun) = kept.running.take() {
            let alive = kept.alive.take().unwrap_or(begun.began);
            kept.note(Ran { end_unknown: true, ..Ran::cut(begun, alive) });
            kept.asked |= begun.cause == Cause::Asked;
            kept.due = kept.due.map(|due| due.min(now));
        }
        self.jobs.insert(name, Job { plan: None, kept });
    }

    /// Takes the configuration: plans by the names of their jobs, at most [`JOBS_MAX`]. A job whose schedule is another is
    /// planned anew; of one that is no longer there the memory stays.
    pub fn configure(&mut self, plans: BTreeMap<String, Plan>, at_once: usize, now: Millis) {
        self.at_once = at_once.max(1);
        self.remembers |= self.jobs.values().any(|job| job.plan.is_none() && job.kept.slot.is_some());
        self.jobs.values_mut().for_each(|job| job.plan = None);
        for (name, plan) in plans.into_iter().take(JOBS_MAX) {
            let job = self.jobs.entry(name.clone()).or_insert_with(|| Job { plan: None, kept: Kept::default() });
            // It counts from when it was first wanted, whatever it becomes.
            job.kept.wanted = plan.within.and(job.kept.wanted.or(Some(now)));
            job.plan_as(plan, &self.seed, &name, now);
        }
    }

    /// All jobs by their names.
    pub fn jobs(&self) -> &BTreeMap<String, Job> {
        &self.jobs
    }

    /// How many jobs are due or asked for, and have not begun, though their budget is not used up.
    pub fn waiting(&self, now: Millis) -> usize {
        let is = |job: &&Job| {
            let due = job.kept.asked || job.waits() && job.kept.due.is_some_and(|due| due <= now);
            job.plan.is_some() && job.kept.running.is_none() && job.used_up(now).is_none() && due
        };
        self.jobs.values().filter(is).count()
    }

    /// The jobs that are to begin now, those first that have waited longest. They have not begun.
    pub fn due(&mut self, now: Millis) -> Vec<String> {
        let running: Vec<&Job> = self.jobs.values().filter(|job| job.kept.running.is_some()).collect();
        let mut free = self.at_once.saturating_sub(running.len());
        let mut taken: BTreeSet<String> = running.iter().flat_map(|job| job.places()).cloned().collect();
        let mut waiting: Vec<(Millis, String)> = Vec::new();
        for (name, job) in &mut self.jobs {
            if let Some(since) = job.waits_since(now) {
                waiting.push((since, name.clone()));
            }
        }
        waiting.sort();
        waiting.retain(|(_, name)| {
            let places = &self.jobs[name].places();
            let begins = free > 0 && places.iter().all(|place| taken.iter().all(|other| !overlap(place, other)));
            if begins {
                free -= 1;
                taken.extend(places.iter().cloned());
            }
            begins
        });
        waiting.into_iter().map(|(_, name)| name).collect()
    }

    /// When to look again at the latest; nothing while all that is due waits for runs to end.
    pub fn wake(&self, now: Millis) -> Option<Millis> {
        let due = |job: &Job| job.begins(now).filter(|_| job.plan.is_some() && job.waits());
        // What was asked for waits for the next day's budget too.
        let asked = |job: &Job| job.used_up(now).filter(|_| job.kept.asked);
        let all = self.jobs.values().flat_map(|job| [due(job), asked(job)]);
        all.flatten().filter(|due| *due > now).min()
    }

    /// Begins a run.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn begin(&mut self, name: &str, by: By, now: Millis) -> Result<Begun, Refusal> {
        let job = self.jobs.get(name).filter(|job| job.plan.is_some()).ok_or(Refusal::Unknown)?;
        if let Some(begun) = job.kept.running {
            return Err(Refusal::Running(begun));
        }
        let places = job.places().clone();
        for (by, other) in self.jobs.iter().filter(|(_, other)| other.kept.running.is_some()) {
            if let Some(place) = other.places().iter().find(|place| places.iter().any(|one| overlap(one, place))) {
                return Err(Refusal::Occupied { place: place.clone(), by: by.clone() });
            }
        }
        self.latest = self.latest.max(now);
        let job = self.jobs.get_mut(name).ok_or(Refusal::Unknown)?;
        Ok(job.begin(by, now))
    }

    /// Ends the run of a job, and plans the next.
    pub fn end(&mut self, name: &str, ran: Ran) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        if job.kept.running.take().is_none() {
            return;
        }
        let now = ran.ended;
        self.latest = self.latest.max(now);
        let slot = job.kept.slot;
        // What is cut short by the end of the node goes on when that begins again.
        let again = ran.verdict == RunVerdict::Interrupted;
        job.kept.asked |= again && ran.cause == Cause::Asked;
        let failed = ran.failed();
        let counted = job.kept.alive.take().unwrap_or(ran.began);
        job.spend(ran.began, ran.bytes, ran.ended.saturating_sub(counted));
        let at_once = job.kept.parking.note(&ran);
        job.kept.note(ran);
        job.kept.failures = if failed { job.kept.failures.saturating_add(1) } else { 0 };
        let (Some(plan), Some(slot)) = (&job.plan, slot) else { return };
        job.kept.missed += plan.schedule.missed(&*plan.zone, slot, now);
        // What was done by hand before it was due takes nothing from the schedule.
        let next = if slot > now { Some(slot) } else { plan.schedule.next(&*plan.zone, slot, now) };
        let regular = next.map(|slot| slot.saturating_add(jitter(&self.seed, name, job.kept.runs, &plan.schedule)));
        job.kept.slot = next;
        job.kept.due = match (regular, &plan.schedule.at) {
            (Some(_), _) if again => Some(now),
            // What is stuck holds up nothing else.
            (Some(_), _) if at_once => plan.schedule.opens(&*plan.zone, now),
            (Some(regular), Some(at)) if failed => {
                let retry = now.saturating_add(back_off(at, job.kept.failures));
                // A time of day is not put off; what runs again and again is not tried more often than it would be.
                let due = if matches!(at, At::Daily(_)) { retry.min(regular) } else { retry.max(regular) };
                plan.schedule.opens(&*plan.zone, due)
            }
            _ => regular,
        };
    }

    /// Notes of each run that is under way that it goes on, once in [`ALIVE_MILLIS`], and counts what it took by then: a process
    /// that is killed tells no end. Says of which jobs that is news.
    pub fn note_alive(&mut self, now: Millis) -> Vec<String> {
        let mut news = Vec::new();
        for (name, job) in &mut self.jobs {
            let Some(begun) = job.kept.running else { continue };
            let went_on = now.saturating_sub(job.kept.alive.unwrap_or(begun.began));
            if went_on >= ALIVE_MILLIS {
                job.spend(begun.began, 0, went_on);
                job.kept.alive = Some(now);
                news.push(name.clone());
            }
        }
        news
    }

    /// How far a run that is under way has come in its pass, so that the next goes on there even if this one is never heard of
    /// again.
    pub fn note_pass(&mut self, name: &str, number: u64, pass: Pass) {
        let job = self.jobs.get_mut(name);
        if let Some(job) = job.filter(|job| job.kept.running.is_some_and(|begun| begun.number == number)) {
            job.kept.pass = Some(pass);
        }
    }

    /// Has a job begin as soon as it can, in or out of its windows, paused or not.
    ///
    /// # Errors
    /// [`Refusal::Unknown`], [`Refusal::Running`].
    pub fn ask(&mut self, name: &str) -> Result<(), Refusal> {
        let job = self.configured(name)?;
        match job.kept.running {
            Some(begun) => Err(Refusal::Running(begun)),
            None => {
                job.kept.asked = true;
                Ok(())
            }
        }
    }

    /// Lets a job begin no more by itself, until it is resumed; a run that has begun goes on. Says whether it was not paused.
    ///
    /// # Errors
    /// [`Refusal::Unknown`].
    pub fn pause(&mut self, name: &str, now: Millis) -> Result<bool, Refusal> {
        let job = self.configured(name)?;
        let news = job.kept.paused.is_none();
        job.kept.paused.get_or_insert(now);
        Ok(news)
    }

    /// Lets a job begin by itself again; if it was due meanwhile, once and at once. Says whether it was paused.
    ///
    /// # Errors
    /// [`Refusal::Unknown`].
    pub fn resume(&mut self, name: &str) -> Result<bool, Refusal> {
        Ok(self.configured(name)?.kept.paused.take().is_some())
    }

    /// Keeps what was tuned of a job, with the plan that follows from it and from the configuration. It is due as it was unless its
    /// schedule is another now.
    ///
    /// # Errors
    /// [`Refusal::Unknown`].
    pub fn tune(&mut self, name: &str, tuned: Tuned, plan: Plan, now: Millis) -> Result<(), Refusal> {
        let seed = self.seed;
        self.latest = self.latest.max(now);
        let job = self.configured(name)?;
        job.kept.tuned = tuned;
        job.plan_as(plan, &seed, name, now);
        Ok(())
    }

    fn configured(&mut self, name: &str) -> Result<&mut Job, Refusal> {
        self.jobs.get_mut(name).filter(|job| job.plan.is_some()).ok_or(Refusal::Unknown)
    }
}

impl Job {
    /// What its runs cannot keep of its schedule, by how long they took of late.
    pub fn unmet(&self) -> Option<Unmet> {
        let plan = self.plan.as_ref()?;
        // What goes on where it ended needs no room for all of it.
        let room = plan.schedule.room().filter(|_| self.kept.passing().is_none())?;
        let took = |ran: &Ran| ran.ended - ran.began.min(ran.ended);
        let whole = self.kept.history.iter().rev().filter(|ran| !ran.failed() && !ran.goes_on);
        let mut all: Vec<Millis> = whole.take(MEASURED_RUNS).map(took).collect();
        all.sort_unstable();
        let median = all.get(all.len() / 2).copied().unwrap_or(0);
        if median > room.interval {
            return Some(Unmet::Interval { took: median, interval: room.interval });
        }
        let window = room.window?;
        // One that its window cut short had all of it, but for the moment in which it began.
        let cut = |ran: &&Ran| {
            ran.verdict == RunVerdict::Partial
                && took(ran) + WINDOW_SLACK >= window
                && !plan.schedule.is_open(&*plan.zone, ran.ended)
        };
        let cut = self.kept.last().filter(cut).map_or(0, took);
        (median > window || cut > 0).then(|| Unmet::Window { took: median.max(cut), window })
    }

    /// How the objective stands that its sides are proven equal within some time, if that is wanted.
    pub fn objective(&self, now: Millis) -> Option<Objective> {
        let within = self.plan.as_ref()?.within?;
        Some(Objective::at(within, self.kept.wanted.unwrap_or(now), self.kept.proven, now))
    }

    fn places(&self) -> &BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        self.plan.as_ref().map_or(&NONE, |plan| &plan.places)
    }

    fn waits(&self) -> bool {
        self.kept.running.is_none() && self.kept.paused.is_none()
    }

    /// Since when it waits to begin, if it does. One that is due outside of its windows is put off until they open.
    fn waits_since(&mut self, now: Millis) -> Option<Millis> {
        let plan = self.plan.as_ref()?;
        if self.used_up(now).is_some() {
            return None;
        }
        if self.kept.asked && self.kept.running.is_none() {
            return Some(0);
        }
        let due = self.kept.due.filter(|due| *due <= now && self.waits())?;
        if plan.schedule.is_open(&*plan.zone, now) {
            return Some(due);
        }
        self.kept.due = plan.schedule.opens(&*plan.zone, now);
        None
    }

    /// Goes by a plan from now on; what it changes of the schedule is planned anew.
    fn plan_as(&mut self, plan: Plan, seed: &[u8; 32], name: &str, now: Millis) {
        let written = plan.schedule.at.as_ref().map(At::to_string);
        let same = self.kept.planned == written && self.kept.slot.is_some() == written.is_some();
        self.plan = Some(plan);
        if !same {
            self.kept.planned = written;
            self.plan_first(seed, name, now);
        }
    }

    fn plan_first(&mut self, seed: &[u8; 32], name: &str, now: Millis) {
        let Some(plan) = &self.plan else { return };
        self.kept.slot = plan.schedule.first(&*plan.zone, now);
        // One that ran is not due once more only because its interval is another.
        if let (Some(At::Every(every)), 0, Some(last)) = (&plan.schedule.at, self.kept.failures, self.kept.last()) {
            let next = last.began.min(now).saturating_add(*every);
            self.kept.slot = self.kept.slot.map(|slot| slot.max(next));
        }
        let later = jitter(seed, name, self.kept.runs, &plan.schedule);
        self.kept.due = self.kept.slot.map(|slot| slot.saturating_add(later));
    }

    fn begin(&mut self, by: By, now: Millis) -> Begun {
        let left = self.left(now);
        let kept = &mut self.kept;
        let scheduled = kept.due.is_some_and(|due| due <= now);
        let cause = match (by, kept.asked, kept.failures) {
            (By::Hand, _, _) => Cause::Hand,
            (By::Schedule, true, _) => Cause::Asked,
            (By::Schedule, false, 0) => Cause::Schedule,
            (By::Schedule, false, _) => Cause::Retry,
        };
        let longest = now.saturating_add(self.plan.as_ref().map_or(0, |plan| plan.longest));
        let (mut until, mut limit) = (longest, Limit::Longest);
        if by == By::Schedule
            && let Some(day) = left.time.map(|left| now.saturating_add(left)).filter(|day| *day < until)
        {
            (until, limit) = (day, Limit::Day);
        }
        if let (Some(plan), Some(slot)) = (&self.plan, kept.slot) {
            let (schedule, zone) = (&plan.schedule, &*plan.zone);
            if scheduled && slot <= now {
                // However many were missed, it runs once; the end counts from here.
                kept.missed += schedule.missed(zone, slot, now);
                if let Some(At::Every(every)) = schedule.at {
                    kept.slot = Some(slot + (now - slot) / every * every);
                } else {
                    kept.slot = Some(now);
                }
            }
            if let (Cause::Schedule | Cause::Retry, Some(closes)) = (cause, schedule.closes(zone, now))
                && closes.max(now) < until
            {
                (until, limit) = (closes.max(now), Limit::Window);
            }
        }
        kept.asked = false;
        kept.runs += 1;
        let begun = Begun { number: kept.runs, began: now, cause, until, limit: Some(limit) };
        (kept.running, kept.alive) = (Some(begun), None);
        begun
    }
}

/// Whether two places are one, or one of them is in the other, as a table is in a database.
fn overlap(one: &str, other: &str) -> bool {
    let is_in = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    one == other || is_in(one, other) || is_in(other, one)
}

/// How long what failed so often in a row waits.
fn back_off(at: &At, failures: u32) -> Millis {
    let doubled = |first: Millis| first.saturating_mul(1 << failures.saturating_sub(1).min(32));
    match at {
        At::Every(every) if *every >= RETRY_MAX_MILLIS => doubled(RETRY_MILLIS).min(*every),
        At::Every(every) => doubled(*every).min(RETRY_MAX_MILLIS).min(every.saturating_mul(RETRY_INTERVALS_MAX)),
        At::Daily(_) => doubled(RETRY_MILLIS).min(RETRY_MAX_MILLIS),
    }
}

/// By how much later a job is due: the same for the same seed, job and run.
fn jitter(seed: &[u8; 32], name: &str, run: u64, schedule: &Schedule) -> Millis {
    if schedule.jitter == 0 {
        return 0;
    }
    let mut hasher = blake3::Hasher::new_keyed(seed);
    hasher.update(&run.to_be_bytes()).update(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first) % schedule.jitter
}

#[cfg(test)]
mod tests;
