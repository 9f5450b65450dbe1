//! One run of a job: the command that it is, with streams that nobody reads, and what came of it.
//!
//! What a command does is the command's; when it runs is said by the agenda.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use reknit_core::Millis;
use reknit_core::agenda::{
    Begun, By, CAUSE_BYTES_MAX, Cause, DayBudget, FreshIndex, Named, Pass, Ran, RunVerdict, Trial, Tuned,
};
use reknit_core::session::Verdict;
use tokio::sync::watch;

use super::{Daemon, State, refused};
use crate::cli::args::{Cli, Command};
use crate::cli::commands::jobs::shown::{ran_object, since};
use crate::cli::config::Config;
use crate::cli::env::Env;
use crate::cli::passing::Passing;
use crate::cli::patience::{AT_MOST, Patience};
use crate::cli::units::{parse_bytes, parse_duration, show_duration, typed_duration};
use crate::cli::{CliError, Exit};
use crate::clock::{millis, now_ms};

/// How long a run that was told to end may take to do so; then it counts as ended, and its thread is left behind.
const ENDS_WITHIN: Millis = 20_000;

/// How long passwords hold for runs that begin: they may expire.
const PASSWORDS_FOR: Duration = Duration::from_secs(60);

/// How a run that has begun is told to end, and why it was.
pub(super) struct Stopped {
    begun: Begun,
    stop: watch::Sender<bool>,
    why: Option<Why>,
    /// When it was told.
    told: Millis,
    /// The same, or before that when it began, by a clock that nobody sets.
    since: Instant,
}

/// Why a run was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Cancelled,
    /// It was to have ended.
    Late,
    /// The daemon ends.
    Ending,
}

impl Stopped {
    /// A run that goes on until it is to have ended.
    pub(super) fn none(begun: Begun, stop: watch::Sender<bool>) -> Stopped {
        Stopped { begun, stop, why: None, told: 0, since: Instant::now() }
    }

    /// When it is to have ended; or, once it was told to, when it is waited for no longer.
    pub(super) fn until(&self) -> Millis {
        if self.why.is_none() { self.begun.until } else { self.told + ENDS_WITHIN }
    }

    pub(super) fn stop_if_late(&mut self, now: Millis) {
        if self.why.is_none() && self.is_over(now) {
            self.tell(Why::Late, now);
        }
    }

    /// Whether it was told to end and has not, for so long that it is waited for no longer.
    fn is_stuck(&self, now: Millis) -> bool {
        self.why.is_some() && self.is_over(now)
    }

    /// Whether [`Stopped::until`] has come. A clock that is set back meanwhile gives it no longer.
    fn is_over(&self, now: Millis) -> bool {
        let Begun { began, until, .. } = self.begun;
        let most = if self.why.is_none() { until.saturating_sub(began) } else { ENDS_WITHIN };
        now >= self.until() || self.since.elapsed() >= Duration::from_millis(most)
    }

    /// For which limit it was told to end, if it was for one, before what else is said of it.
    fn was_late(&self) -> String {
        let why = since(self.begun.limit);
        if self.why == Some(Why::Late) { format!("it was to have ended{why}; ") } else { String::new() }
    }

    pub(super) fn cancel(&mut self, now: Millis) {
        self.tell(Why::Cancelled, now);
    }

    pub(super) fn end(&mut self, now: Millis) {
        self.tell(Why::Ending, now);
    }

    fn tell(&mut self, why: Why, now: Millis) {
        if self.why.is_none() {
            (self.why, self.told, self.since) = (Some(why), now, Instant::now());
        }
        // Where nobody listens it has ended.
        let _ = self.stop.send(true);
    }
}

impl Daemon {
    /// Runs a job on a thread of its own.
    pub(super) fn start(
        self: &Arc<Daemon>,
        state: &mut State,
        name: String,
        begun: Begun,
        left: watch::Receiver<bool>,
    ) {
        let (tuned, left_today) = match state.agenda.jobs().get(&name) {
            Some(job) => (job.kept.tuned.clone(), job.left(begun.began)),
            None => Default::default(),
        };
        let trial = trial(state, &name, &begun);
        let (daemon, config, job) = (self.clone(), state.config.clone(), name.clone());
        let run = move || {
            let within = span(&job, &begun);
            let run = || within.in_scope(|| daemon.run(&config, (&job, begun), (&tuned, left_today, trial), left));
            let ended = catch_unwind(AssertUnwindSafe(run));
            daemon.end(&job, begun, ended.unwrap_or_else(|_| Ended::defect()));
        };
        if let Err(error) = std::thread::Builder::new().name(format!("job {name}")).spawn(run) {
            let message = format!("threads cannot be started: {error}");
            self.end_in(state, &name, begun, Ended::failed("node.runtime", message));
        }
    }

    fn run(
        self: &Arc<Daemon>,
        config: &Arc<Config>,
        (name, begun): (&str, Begun),
        (tuned, left_today, trial): (&Tuned, DayBudget, Trial),
        left: watch::Receiver<bool>,
    ) -> Ended {
        config.forget_passwords(PASSWORDS_FOR);
        let command = config.command(name);
        let known = command.as_ref().map_or("run", Command::name);
        // Nobody reads what it prints; what goes wrong is remembered.
        let mut global = self.global.clone();
        (global.quiet, global.verbose, global.exit_zero) = (true, 0, false);
        let mut env = Env {
            command: known,
            open: self.stores.clone(),
            left,
            patience: Some(self.patience(name, &begun)),
            listening: self.listening,
            config: OnceLock::from(config.clone()),
            rate_limits: Some(self.rate_limits.clone()),
            windows: self.windows.get().cloned(),
            trial,
            pass: command.as_ref().ok().and_then(|command| self.passing(command, name, &begun)),
            ..Env::unheard(&global, std::env::current_dir().unwrap_or_default())
        };
        let (command, settled) = match command {
            Ok(command) => (command, Ok(())),
            Err(error) => (Command::Id(crate::cli::args::Id { command: None }), Err(error)),
        };
        let mut cli = Cli { global, command, job: Some(name.into()) };
        budget(&mut cli.command, tuned, left_today);
        let exit = crate::cli::run(&cli, &mut env, settled);
        Ended::of(exit, env)
    }

    /// Notes that a run waits for another process, under a name of its own.
    fn patience(self: &Arc<Daemon>, name: &str, begun: &Begun) -> Patience {
        let (daemon, about) = (self.clone(), occupied(name, begun));
        Patience::new(move |why| match why {
            Some(why) => {
                let told = format!("it waits for up to {}: {why}", show_duration(AT_MOST));
                daemon.lock().wrong.insert(about.clone(), told);
            }
            None => drop(daemon.lock().wrong.remove(&about)),
        })
    }

    /// What a run that has begun leaves out, and what it tries.
    pub(crate) fn trial(&self, name: &str, begun: &Begun) -> Trial {
        trial(&self.lock(), name, begun)
    }

    /// The pass that a run goes on with, if it reads a store against its tree. How far it comes is remembered also if the run
    /// is never heard of again.
    pub(crate) fn passing(self: &Arc<Daemon>, command: &Command, name: &str, begun: &Begun) -> Option<Passing> {
        let Command::Verify(_) = command else { return None };
        let state = self.lock();
        let known = state.agenda.jobs().get(name).and_then(|job| job.kept.pass.clone());
        let pass = known.unwrap_or_else(|| Pass::begin(String::new(), 0, begun.began));
        let (daemon, name, number) = (self.clone(), name.to_string(), begun.number);
        Some(Passing::new(pass, move |pass| {
            let mut state = daemon.lock();
            state.agenda.note_pass(&name, number, pass.clone());
            daemon.write(&mut state, &name);
        }))
    }

    /// Begins a run for somebody who does it and waits for it; nothing if the daemon knows no such job.
    ///
    /// # Errors
    /// `job.running`, `job.occupied`.
    pub(crate) fn by_hand(&self, name: &str, stop: watch::Sender<bool>) -> Result<Option<Begun>, CliError> {
        let mut state = self.lock();
        match self.begin(&mut state, name, By::Hand, stop) {
            Ok(begun) => Ok(Some(begun)),
            Err(reknit_core::agenda::Refusal::Unknown) => Ok(None),
            Err(refusal) => Err(refused(name, &refusal)),
        }
    }

    /// Runs that were told to end and wait for somebody who does not answer: they count as ended, so that others begin. What they
    /// hold they hold on to, and what they still find is not told.
    pub(super) fn leave_behind(&self, state: &mut State, now: Millis) {
        let stuck: Vec<(String, Begun, String)> = state
            .running
            .iter()
            .filter(|(_, run)| run.is_stuck(now))
            .map(|(name, run)| (name.clone(), run.begun, run.was_late()))
            .collect();
        for (name, begun, why) in stuck {
            let message = format!(
                "{why}it was told to end and had not {} s later: it waits for somebody who does not answer, and was left behind",
                ENDS_WITHIN / 1_000
            );
            self.end_in(state, &name, begun, Ended::failed("job.late", message));
            let late = state.left_behind.entry(name.clone()).or_default();
            late.insert(begun.number);
            state.wrong.insert(left_behind(&name), told_of(late));
        }
    }

    /// Notes how a run ended, in the home too.
    pub(crate) fn end(&self, name: &str, begun: Begun, ended: Ended) {
        let mut state = self.lock();
        self.end_in(&mut state, name, begun, ended);
        self.woken.notify_all();
    }

    fn end_in(&self, state: &mut State, name: &str, begun: Begun, ended: Ended) {
        if let Some(late) = state.left_behind.get_mut(name)
            && late.remove(&begun.number)
        {
            tracing::warn!(job = name, run = begun.number, "a run that was left behind has ended");
            match late.is_empty() {
                true => {
                    state.left_behind.remove(name);
                    state.wrong.remove(&left_behind(name));
                }
                false => drop(state.wrong.insert(left_behind(name), told_of(late))),
            }
            return;
        }
        let why = state.running.remove(name).and_then(|run| run.why);
        state.wrong.remove(&occupied(name, &begun));
        let measured = ended.measured.clone();
        let ran = ended.ran(begun, why, now_ms());
        state.totals.add(ran.verdict, measured.as_ref());
        let error = ran.error.as_ref().map(|(id, message)| format!("{message} [{id}]"));
        let _within = span(name, &begun).entered();
        tracing::info!(
            job = name,
            run = ran.number,
            verdict = ran.verdict.name(),
            differences = ran.differences,
            estimated = ran.estimated,
            error,
            "a run has ended"
        );
        self.events.tell("run_ended", ran_object(name, &ran));
        state.agenda.end(name, ran);
        self.write(state, name);
    }
}

/// The name of the trouble that a run waits for what another process works on.
fn occupied(name: &str, begun: &Begun) -> String {
    format!("occupied run {} of {name}", begun.number)
}

/// The name of the trouble that runs of a job were left behind.
fn left_behind(name: &str) -> String {
    format!("late runs of {name}")
}

fn told_of(late: &BTreeSet<u64>) -> String {
    let numbers: Vec<String> = late.iter().map(u64::to_string).collect();
    format!(
        "told to end, they have not, and were left behind with what they hold: run {}; what they wait for does not answer",
        numbers.join(", ")
    )
}

fn trial(state: &State, name: &str, begun: &Begun) -> Trial {
    // Whoever asks for a run wants to know how all of it stands.
    let asked = matches!(begun.cause, Cause::Asked | Cause::Hand);
    state.agenda.jobs().get(name).map(|job| job.kept.parking.trial(asked, begun.began)).unwrap_or_default()
}

/// What is logged within it belongs to this run.
pub(crate) fn span(job: &str, begun: &Begun) -> tracing::Span {
    tracing::info_span!("run", job, run = begun.number)
}

/// How a command ended, as it is remembered of a job.
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) measured: Option<crate::cli::metrics::Measured>,
    pub(crate) failed: Option<(&'static str, String)>,
    /// The indexes that it made tell what their tables held.
    pub(crate) followed: Vec<FreshIndex>,
    /// What it left out and tried of what is parked, and where a store could not answer.
    trial: Trial,
    stuck: Option<Named>,
    /// How far a pass through a store has come, if the run came anywhere in one.
    pass: Option<Pass>,
}

impl Ended {
    fn failed(id: &'static str, message: impl Into<String>) -> Ended {
        let failed = Some((id, message.into()));
        let exit = Exit::Undetermined;
        Ended { exit, measured: None, failed, followed: Vec::new(), trial: Trial::default(), stuck: None, pass: None }
    }

    /// A command that panicked.
    pub(crate) fn defect() -> Ended {
        Ended::failed("defect", "the run broke a promise of this program; what was committed before is whole")
    }

    /// A command that came to its end here.
    pub(crate) fn of(exit: Exit, env: Env) -> Ended {
        let Env { measured, failed, followed, trial, stuck, pass, .. } = env;
        let pass = pass.and_then(Passing::end);
        Ended { exit, measured, failed, followed: followed.unwrap_or_default(), trial, stuck, pass }
    }

    fn ran(self, begun: Begun, why: Option<Why>, now: Millis) -> Ran {
        let Ended { exit, measured, failed, followed, trial, stuck, pass } = self;
        let said = measured.as_ref().map(|measured| match measured.verdict {
            Verdict::InSync => RunVerdict::InSync,
            Verdict::Converged => RunVerdict::Converged,
            Verdict::Differs => RunVerdict::Differs,
            Verdict::Partial => RunVerdict::Partial,
            Verdict::Refused => RunVerdict::Refused,
            _ => RunVerdict::Undetermined,
        });
        let stopped = matches!(exit, Exit::Interrupted | Exit::Terminated);
        // Both sides are equal, and something is wrong with what they hold.
        let equal = matches!(said, Some(RunVerdict::InSync | RunVerdict::Converged));
        // Damage of a store here is never a difference between two.
        let damaged = failed.as_ref().is_some_and(|(id, _)| *id == "store.damaged");
        // Of a pass through a store there is a part; else nothing was found out.
        let known = if pass.is_some() { RunVerdict::Partial } else { RunVerdict::Undetermined };
        let (verdict, late) = match (exit, why) {
            _ if damaged => (RunVerdict::Damaged, false),
            (_, Some(Why::Late)) if stopped => (said.unwrap_or(known), true),
            (Exit::Terminated, _) | (_, Some(Why::Ending)) if stopped => (RunVerdict::Interrupted, false),
            _ if stopped => (RunVerdict::Cancelled, false),
            // Whoever began it by hand and heard what it found has gone.
            (_, None) if failed.as_ref().is_some_and(|(id, _)| *id == "output.closed") => {
                (RunVerdict::Cancelled, false)
            }
            // It was told to end, and could not say more than what was in its way.
            (Exit::CannotJudge | Exit::Undetermined, Some(Why::Cancelled)) if failed.is_some() => {
                (RunVerdict::Cancelled, false)
            }
            (Exit::CannotJudge | Exit::Undetermined, Some(Why::Ending)) if failed.is_some() => {
                (RunVerdict::Interrupted, false)
            }
            (Exit::CannotJudge | Exit::Undetermined, Some(Why::Late)) if failed.is_some() => {
                (said.unwrap_or(RunVerdict::Undetermined), failed.as_ref().is_some_and(|(id, _)| *id != "job.late"))
            }
            (Exit::Refused, _) => (RunVerdict::Refused, false),
            // Only a store that was read against its tree ends so without a session.
            (Exit::Done, _) if said.is_none() => (RunVerdict::Sound, false),
            // Its link was lost or some tables could not be judged, and some of it is known.
            (Exit::CannotJudge | Exit::Undetermined, _) if said == Some(RunVerdict::Partial) => {
                (RunVerdict::Partial, false)
            }
            (Exit::CannotJudge, _) => (RunVerdict::Undetermined, false),
            (Exit::Undetermined, _) if failed.is_some() => (RunVerdict::Undetermined, false),
            (Exit::Differs, _) if equal => (RunVerdict::Differs, false),
            _ => (said.unwrap_or(RunVerdict::Undetermined), false),
        };
        let cut = |mut text: String| {
            let end = (0..=CAUSE_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
            text
        };
        let error = failed.map(|(id, message)| (id.to_string(), cut(message)));
        let goes_on = pass.as_ref().is_some_and(|pass| pass.next().is_some());
        let error = match late {
            true if goes_on => None,
            true => {
                let why = since(begun.limit);
                let message = format!("it was to have ended{why}, and was told to: what was known then counts");
                Some(("job.late".into(), message))
            }
            false => error,
        };
        let differences = measured.as_ref().and_then(|measured| match measured.differences.is_empty() {
            // It estimates nothing of sides that are equal.
            true if equal => Some(0),
            true => measured.estimate,
            false => Some(measured.differences.iter().map(|(_, n)| n).sum()),
        });
        Ran {
            number: begun.number,
            began: begun.began,
            ended: now,
            end_unknown: false,
            cause: begun.cause,
            verdict,
            // How it was told to end is no verdict.
            exit: if stopped || goes_on && verdict == RunVerdict::Partial { Exit::Undetermined } else { exit }.number(),
            differences,
            estimated: !equal && measured.as_ref().is_some_and(|measured| measured.estimated),
            records: measured.as_ref().map(|measured| measured.records),
            written: measured.as_ref().map_or([0; 2], |measured| measured.written),
            bytes: measured.as_ref().map_or(0, |measured| measured.bytes.iter().map(|(_, n)| n).sum()),
            error,
            limit: begun.limit.filter(|_| late),
            classes: measured.as_ref().map(classes).unwrap_or_default(),
            unproven: measured.as_ref().map(|measured| measured.unproven.clone()).unwrap_or_default(),
            parked: measured.as_ref().map_or(0, |measured| measured.left_out),
            verified: measured.as_ref().map_or(0, |measured| measured.verified),
            trial,
            indexes: followed,
            stuck,
            seen: measured.and_then(|measured| measured.seen),
            goes_on,
            pass,
        }
    }
}

/// Differences by class, those that there are.
fn classes(measured: &crate::cli::metrics::Measured) -> BTreeMap<String, u64> {
    let some = measured.differences.iter().filter(|(_, n)| *n > 0);
    some.map(|(class, n)| ((*class).to_string(), *n)).collect()
}

/// Gives a session the budget that was tuned, and no more than is left today.
fn budget(command: &mut Command, tuned: &Tuned, left: DayBudget) {
    let sides = match command {
        Command::Check(args) => &mut args.sides,
        Command::Diff(args) => &mut args.sides,
        Command::Drift(args) => &mut args.sides,
        Command::Repair(args) => &mut args.sides,
        _ => return,
    };
    if let Some(millis) = tuned.max_time {
        sides.max_time = Some(typed_duration(millis));
    }
    if let Some(bytes) = tuned.max_bytes {
        sides.max_bytes = Some(bytes.to_string());
    }
    // What is not understood is told when the command reads it.
    let (bytes, time) = (sides.max_bytes.as_deref().map(parse_bytes), sides.max_time.as_deref().map(parse_duration));
    if let (Some(left), Some(Ok(_)) | None) = (left.bytes, &bytes) {
        let most = bytes.and_then(Result::ok).unwrap_or(u64::MAX);
        sides.max_bytes = Some(left.min(most).to_string());
    }
    if let (Some(left), Some(Ok(_)) | None) = (left.time, &time) {
        let most = time.and_then(Result::ok).unwrap_or(Duration::MAX);
        sides.max_time = Some(typed_duration(millis(most).min(left)));
    }
}
