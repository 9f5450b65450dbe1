//! Jobs of an embedded node: sessions that it opens by itself whenever they are due, and what came of them.
//!
//! When a job is due, what is tried again and what is parked is the core's agenda; how a session goes is the driver's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use reknit_core::agenda::{
    Agenda, Begun, By, CAUSE_BYTES_MAX, Cause, DayBudget, Kept, Plan, Ran, Refusal, RunVerdict, Trial, Unproven,
};
use reknit_core::objective::Objective;
use reknit_core::schedule::{At, EVERY_MAX_MILLIS, EVERY_MIN_MILLIS, Schedule, Utc, Zone};
use reknit_core::session::{Direction, Intent, Options, Stuck, Verdict};
use reknit_core::{Definition, Millis};
use tokio::sync::{Notify, watch};

use super::{EmbedError, Running, Shared};
use crate::clock::{is_settled, millis, now_ms};
use crate::node::parked::{named, parked, stuck_in};
use crate::node::{Budget, NodeError, SessionReport};
use crate::transport::{Address, Identity};

/// Jobs that run at the same time.
const AT_ONCE: usize = 2;
/// A run that takes longer ends with what it knows, unless it is told otherwise.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// The agenda is looked at so often at least: a clock may be put on.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// Jitter is another in each node.
const SEED: &str = "reknit 2026 v1 jitter";

/// A session that a node opens by itself: with whom, what for, and when.
#[derive(Clone)]
pub struct Job {
    with: Address,
    intent: Intent,
    schedule: Schedule,
    zone: Arc<dyn Zone>,
    longest: Duration,
    bytes: Option<u64>,
    a_day: DayBudget,
    within: Option<Duration>,
}

impl Job {
    /// Compares the dataset of that address with whoever serves it there: roots alone, so that it reads no record.
    pub fn check(with: Address) -> Job {
        Job::new(with, Intent::Check)
    }

    /// Makes both sides equal, as [`Running::sync_at`] does.
    pub fn repair(with: Address) -> Job {
        Job::new(with, Intent::Repair(Direction::Both))
    }

    fn new(with: Address, intent: Intent) -> Job {
        let (schedule, zone) = (Schedule::by_hand(), Arc::new(Utc));
        Job { with, intent, schedule, zone, longest: LONGEST, bytes: None, a_day: DayBudget::default(), within: None }
    }

    /// Is due now and again after so long, from a second to 30 days; what is beyond is taken for those.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Job {
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        self.schedule.at = Some(At::Every(millis.clamp(EVERY_MIN_MILLIS, EVERY_MAX_MILLIS)));
        self
    }

    /// Is due as the schedule says, by that clock ([`Utc`] is one).
    #[must_use]
    pub fn schedule(self, schedule: Schedule, zone: impl Zone + 'static) -> Job {
        Job { schedule, zone: Arc::new(zone), ..self }
    }

    /// Ends with what it knows after so long; six hours unless it is said.
    #[must_use]
    pub fn longest(self, longest: Duration) -> Job {
        Job { longest, ..self }
    }

    /// Ends with what it knows after about so many bytes both ways.
    #[must_use]
    pub fn bytes(self, bytes: u64) -> Job {
        Job { bytes: Some(bytes), ..self }
    }

    /// What its runs of a day may cost together, a day of the job's clock: what is used up ends a run, and none begins until
    /// the next day, also where [`Running::run_job`] asks for one.
    #[must_use]
    pub fn a_day(self, a_day: DayBudget) -> Job {
        Job { a_day, ..self }
    }

    /// The objective: both sides are to be proven equal within so long ([`Running::objective`]).
    #[must_use]
    pub fn within(self, within: Duration) -> Job {
        Job { within: Some(within), ..self }
    }

    fn plan(&self) -> Plan {
        Plan {
            schedule: self.schedule.clone(),
            zone: self.zone.clone(),
            // Sessions of one store run side by side.
            places: Default::default(),
            longest: millis(self.longest),
            within: self.within.map(millis),
            a_day: self.a_day,
        }
    }

    /// What a run may take where so much is left of the day.
    fn budget(&self, left: DayBudget) -> Budget {
        let less = |own: Option<u64>, left: Option<u64>| own.into_iter().chain(left).min();
        let time = less(Some(millis(self.longest)), left.time);
        Budget { time: time.map(Duration::from_millis), bytes: less(self.bytes, left.bytes) }
    }
}

/// The jobs of a node.
pub(super) struct Jobs {
    state: Mutex<Planned>,
    /// Something may be due.
    woken: Arc<Notify>,
}

struct Planned {
    agenda: Agenda,
    jobs: BTreeMap<String, Job>,
    /// By what the runs that are under way are cancelled.
    running: BTreeMap<String, watch::Sender<bool>>,
}

impl Jobs {
    pub(super) fn new(identity: &Identity, jobs: BTreeMap<String, Job>) -> Jobs {
        let mut planned =
            Planned { agenda: Agenda::new(identity.derive(SEED), AT_ONCE), jobs, running: BTreeMap::new() };
        planned.plan();
        Jobs { state: Mutex::new(planned), woken: Arc::default() }
    }

    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Planned> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Planned {
    fn plan(&mut self) {
        let plans = self.jobs.iter().map(|(name, job)| (name.clone(), job.plan())).collect();
        self.agenda.configure(plans, AT_ONCE, now_ms());
    }
}

impl Running {
    /// Opens sessions by itself from now on, whenever the job is due; one of this name becomes another. While the node is
    /// suspended none begins. What fails is tried again after one interval, then two, four and eight (an hour at most);
    /// ranges that a store cannot answer for are parked, so that the rest goes on.
    ///
    /// # Errors
    /// [`EmbedError::NoDataset`] if the node has not got the dataset of its address, [`EmbedError::Ended`].
    pub fn job(&self, name: &str, job: Job) -> Result<(), EmbedError> {
        self.side(&job.with.dataset)?;
        let mut planned = self.shared.jobs.lock();
        planned.jobs.insert(name.into(), job);
        planned.plan();
        drop(planned);
        self.shared.jobs.wake();
        Ok(())
    }

    /// Lets a job begin no more; a run of it goes on to its end. Says whether there was one.
    pub fn drop_job(&self, name: &str) -> bool {
        let mut planned = self.shared.jobs.lock();
        let was = planned.jobs.remove(name).is_some();
        planned.plan();
        was
    }

    /// Has a job begin as soon as it can, whatever its schedule says. Says whether there is one that does not run already.
    pub fn run_job(&self, name: &str) -> bool {
        let asked = self.shared.jobs.lock().agenda.ask(name);
        self.shared.jobs.wake();
        asked.is_ok()
    }

    /// Lets a job begin no more by itself until [`Running::resume_job`]; a run of it goes on to its end, and
    /// [`Running::run_job`] begins one all the same. Says whether there is one that was not paused.
    pub fn pause_job(&self, name: &str) -> bool {
        self.shared.jobs.lock().agenda.pause(name, now_ms()).unwrap_or(false)
    }

    /// Lets a job that was paused begin again when it is due. Says whether there is one that was.
    pub fn resume_job(&self, name: &str) -> bool {
        let was = self.shared.jobs.lock().agenda.resume(name).unwrap_or(false);
        self.shared.jobs.wake();
        was
    }

    /// Tells the run of a job that is under way to end with what it knows; what it applied stays. Says whether one is.
    pub fn cancel_job(&self, name: &str) -> bool {
        let planned = self.shared.jobs.lock();
        planned.running.get(name).map(|cancel| cancel.send_replace(true)).is_some()
    }

    /// How the objective of a job stands ([`Job::within`]); nothing if it has none. It counts from the last run that proved both
    /// sides equal, before that from when this node first knew of the job.
    pub fn objective(&self, name: &str) -> Option<Objective> {
        self.shared.jobs.lock().agenda.jobs().get(name)?.objective(now_ms())
    }

    /// What is remembered of each job: when it is due, how its last runs ended, what is parked. It lasts as long as the node.
    pub fn jobs(&self) -> BTreeMap<String, Kept> {
        let planned = self.shared.jobs.lock();
        let configured = planned.agenda.jobs().iter().filter(|(_, job)| job.plan.is_some());
        configured.map(|(name, job)| (name.clone(), job.kept.clone())).collect()
    }

    /// Begins what is due; says how long there is nothing to do at most.
    pub(super) fn begin_due(&self) -> Duration {
        let mut planned = self.shared.jobs.lock();
        let at = now_ms();
        for name in planned.agenda.set_right(at, is_settled()) {
            tracing::warn!(
                job = name,
                "it was planned or noted later than it can be, as by a clock that was set back; that counts from now"
            );
        }
        // What is due while the node is suspended, or about to be, begins when it is resumed.
        let up = self.state().live.as_ref().is_some_and(|live| !*live.stop.borrow());
        let names = if up { planned.agenda.due(at) } else { Vec::new() };
        for name in names {
            let Some(job) = planned.jobs.get(&name).cloned() else { continue };
            let begun: Result<Begun, Refusal> = planned.agenda.begin(&name, By::Schedule, at);
            let Ok(begun) = begun else { continue };
            let asked = begun.cause == Cause::Asked;
            let known = &planned.agenda.jobs()[&name];
            let (trial, budget) = (known.kept.parking.trial(asked, at), job.budget(known.left(at)));
            let cancel = watch::Sender::new(false);
            planned.running.insert(name.clone(), cancel.clone());
            tokio::spawn(self.clone().run(name, job, (begun, trial), (budget, cancel)));
        }
        let wake = planned.agenda.wake(at).map_or(LOOK_MAX, |wake| Duration::from_millis(wake.saturating_sub(at)));
        wake.min(LOOK_MAX)
    }

    async fn run(
        self,
        name: String,
        job: Job,
        (begun, trial): (Begun, Trial),
        (budget, cancel): (Budget, watch::Sender<bool>),
    ) {
        let definition = self.side(&job.with.dataset).map(|side| side.describe().definition).ok();
        let parked = definition.as_ref().and_then(|definition| parked(&trial, definition));
        let options = Options { parked, ..Options::new(job.intent) };
        let of_node = self.state().live.as_ref().map(|live| live.stop.subscribe());
        let ended = self.session_at(&job.with, options, budget, cancel.subscribe()).await;
        // Told to end by the node or by somebody, not by what it met.
        let stopped = self.alive().is_err() || of_node.is_none_or(|stop| *stop.borrow());
        let cancelled = *cancel.borrow();
        let ran = ran(begun, ended, definition.as_deref(), now_ms());
        let verdict = match ran.failed() {
            true if stopped => RunVerdict::Interrupted,
            true if cancelled => RunVerdict::Cancelled,
            _ => ran.verdict,
        };
        tracing::info!(job = name, run = ran.number, verdict = verdict.name(), "a run has ended");
        let mut planned = self.shared.jobs.lock();
        planned.running.remove(&name);
        planned.agenda.end(&name, Ran { verdict, trial, ..ran });
        drop(planned);
        self.shared.jobs.wake();
    }
}

/// Begins jobs when they are due, until the node ends or nobody has a handle to it any more.
pub(super) async fn keep_time(shared: Weak<Shared>) {
    loop {
        let Some(running) = shared.upgrade().map(|shared| Running { shared }) else { return };
        let (wait, woken) = (running.begin_due(), running.shared.jobs.woken.clone());
        let mut ended = running.shared.ended.subscribe();
        drop(running);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = woken.notified() => {}
            // It has ended, or is gone.
            _ = ended.wait_for(|ended| *ended) => return,
        }
    }
}

/// What is remembered of a run that ended so.
fn ran(begun: Begun, ended: Result<SessionReport, EmbedError>, definition: Option<&Definition>, now: Millis) -> Ran {
    let stuck_in = |stuck: &Stuck| definition.map(|definition| stuck_in(stuck, definition));
    let cut = |mut message: String| {
        let end = (0..=CAUSE_BYTES_MAX.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or(0));
        message
    };
    let empty = Ran { verdict: RunVerdict::Undetermined, ..Ran::cut(begun, now) };
    let report = match ended {
        Ok(report) => report,
        Err(error) => {
            let stuck = match &error {
                EmbedError::Node(NodeError::Stuck { stuck, .. }) => stuck_in(stuck),
                _ => None,
            };
            let verdict = if stuck.is_some() { RunVerdict::Damaged } else { RunVerdict::Undetermined };
            return Ran { verdict, error: Some(("session".into(), cut(error.to_string()))), stuck, ..empty };
        }
    };
    let outcome = report.outcome;
    let (verdict, exit) = match outcome.verdict {
        Verdict::InSync => (RunVerdict::InSync, 0),
        Verdict::Converged => (RunVerdict::Converged, 0),
        Verdict::Differs => (RunVerdict::Differs, 1),
        Verdict::Partial => (RunVerdict::Partial, 3),
        Verdict::Refused => (RunVerdict::Refused, 4),
        _ => (RunVerdict::Undetermined, 3),
    };
    let lost = report.lost.as_ref().map(|error| error.to_string());
    let refused = outcome.refusal.is_some() || outcome.braked.is_some();
    let refused = refused.then(|| outcome.reason.clone());
    let ranges = definition.map(|definition| named(outcome.unproven.ranges.iter().copied(), definition));
    Ran {
        verdict,
        exit,
        estimated: outcome.estimate.is_some_and(|estimate| !estimate.is_exact()),
        differences: Some(outcome.estimate.map_or(outcome.counts.differences(), |estimate| estimate.likely)),
        records: Some([outcome.root_mine.count, outcome.root_theirs.count]),
        written: [outcome.counts.to_mine.applied, outcome.counts.to_theirs.applied],
        bytes: report.traffic.total(),
        error: lost.or(refused).map(|message| ("session".into(), cut(message))),
        unproven: Unproven { ranges: ranges.unwrap_or_default(), more: outcome.unproven.more },
        parked: outcome.left_out,
        stuck: outcome.stuck.as_ref().and_then(stuck_in),
        ..empty
    }
}
