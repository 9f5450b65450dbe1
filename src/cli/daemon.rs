//! What a serving process does by itself: jobs when they are due, each run as `reknit run` does it; and what others ask of them.
//!
//! When a job is due is the core's agenda. What is asked by HTTP is answered beside the keeper of time, over the same
//! [`Daemon`].

mod alerts;
pub(crate) mod events;
mod files;
mod running;
mod shared;
pub(crate) mod supervisor;
mod totals;
pub(crate) mod trouble;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use reknit_core::Millis;
use reknit_core::agenda::{ALIVE_MILLIS, Agenda, Begun, By, DayBudget, Job, Plan, Refusal, Tuned};
use reknit_core::alert::{Alert, Alerts};
use serde_json::json;
use tokio::sync::watch;

use super::args::{Command, Global, Place, STORE, store_in};
use super::commands::sides::tables;
use super::config::Config;
use super::http::Face;
use super::{CliError, Exit};
use crate::clock::{is_settled, millis, now_ms};
use crate::node::{Gossip, Home, Node, Windows};
use crate::store::Store;
use crate::store::linked::ServedTable;
use crate::transport::RateLimits;

use self::events::Events;
use self::running::Stopped;
pub(crate) use self::running::{Ended, span};
pub(crate) use self::totals::Totals;
use self::trouble::{Mistakes, Trouble};

/// The agenda is looked at so often at least: a clock may be put on.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// And so often while a run goes on, which is noted when it is time.
const ALIVE: Duration = Duration::from_millis(ALIVE_MILLIS / 6);
/// How soon what could not be written in the home is tried again: a disk may have room again.
const WRITES_AGAIN: Duration = Duration::from_secs(5);
/// How long the end of the daemon waits for runs that were told to end.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Ends the name of the trouble that a job names what is not there.
const UNPLANNED: &str = " cannot be planned";
/// Jitter is another in each home.
const SEED: &str = "reknit 2026 v1 jitter";

/// What the commands of a serving process share.
pub(crate) struct Daemon {
    home: Home,
    global: Global,
    stores: BTreeMap<PathBuf, Store>,
    listening: Option<SocketAddr>,
    /// How fast sessions go, of jobs and of those that are answered.
    pub(crate) rate_limits: Arc<RateLimits>,
    /// What stores have lost to peers and to each other, and how far back that counts.
    windows: OnceLock<(Arc<Windows>, Duration)>,
    /// Gossip about the stores, where that is configured.
    gossip: OnceLock<Gossip>,
    /// Where it answers HTTP.
    http: OnceLock<SocketAddr>,
    /// Keys of `[serve]` that were said where it was started, which goes before the configuration, and the names among the stores,
    /// if those were.
    overruled: OnceLock<(Vec<&'static str>, Option<Vec<PathBuf>>)>,
    /// When it was made.
    began: Millis,
    /// What has happened since.
    events: Events,
    mistakes: Mistakes,
    /// Requests by HTTP, by the status of their answers.
    requests: Mutex<BTreeMap<u16, u64>>,
    /// The node that serves its stores and tables, where there are any.
    node: OnceLock<Node>,
    /// The tables that peers compare, each with where it is.
    tables: OnceLock<Vec<(String, ServedTable)>>,
    state: Mutex<State>,
    /// Something may be due, or has ended.
    woken: Condvar,
}

struct State {
    agenda: Agenda,
    config: Arc<Config>,
    /// What was configured when the daemon began.
    began_with: Arc<Config>,
    /// Stores that are open here: several jobs may work on one.
    shared: BTreeSet<String>,
    running: BTreeMap<String, Stopped>,
    /// Runs that count as ended, by job and number, though their threads have not.
    left_behind: BTreeMap<String, BTreeSet<u64>>,
    /// Jobs of which the home does not remember what is known here.
    unwritten: BTreeSet<String>,
    /// Jobs are begun when they are due.
    keeping: bool,
    ending: bool,
    /// What runs have come to since the daemon began.
    totals: Totals,
    /// What is wrong, by what it is about; it goes when that is right again.
    wrong: BTreeMap<String, String>,
    /// What operators are told of.
    alerts: Alerts,
}

/// What there is to see of the jobs of a home.
pub(crate) struct View {
    pub(crate) config: Arc<Config>,
    pub(crate) jobs: BTreeMap<String, Job>,
    /// What is wrong with something else than a job.
    pub(crate) wrong: Vec<String>,
    /// What operators are told of by themselves, while it fires.
    pub(crate) alerts: Vec<Alert>,
}

impl Daemon {
    /// Reads what is configured and remembered in a home. Nothing runs yet, and nothing is changed.
    ///
    /// # Errors
    /// As for [`Config::load`], `home.file`, and `home.malformed` for what a later release wrote.
    pub(crate) fn load(
        home: Home,
        global: Global,
        config: Config,
        stores: BTreeMap<PathBuf, Store>,
        listening: Option<SocketAddr>,
    ) -> Result<Arc<Daemon>, CliError> {
        let now = now_ms();
        let mut agenda = Agenda::new(home.identity()?.derive(SEED), config.serve.at_once);
        let mut wrong = BTreeMap::new();
        for (name, kept) in files::read(&home)? {
            match kept {
                Ok(kept) => agenda.remember(name, kept, now),
                Err(message) => {
                    wrong.insert(format!("memory of {name}"), message);
                }
            }
        }
        let alerts = files::read_alerts(&home)?.unwrap_or_else(|message| {
            wrong.insert("alerts memory".into(), message);
            Alerts::default()
        });
        let (rate_limits, config) = (Arc::new(config.rate_limits()), Arc::new(config));
        let shared = stores.keys().map(|dir| dir.display().to_string()).collect();
        let mut state = State {
            agenda,
            began_with: Arc::clone(&config),
            config,
            shared,
            running: BTreeMap::new(),
            left_behind: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            keeping: false,
            ending: false,
            totals: Totals::default(),
            wrong,
            alerts,
        };
        state.plan(now);
        let (state, woken) = (Mutex::new(state), Condvar::new());
        let (windows, gossip, http, overruled, mistakes, requests, node, tables) = Default::default();
        let (began, events) = (now, Events::new(now));
        let daemon = Daemon {
            home,
            global,
            stores,
            listening,
            rate_limits,
            windows,
            gossip,
            http,
            overruled,
            began,
            events,
            mistakes,
            requests,
            node,
            tables,
            state,
            woken,
        };
        Ok(Arc::new(daemon))
    }

    /// Counts what its jobs lose stores there, with what peers do, from now on.
    pub(crate) fn counts_in(&self, windows: Arc<Windows>, within: Duration) {
        // It is said once.
        let _ = self.windows.set((windows, within));
    }

    /// Takes part in gossip from now on.
    pub(crate) fn gossips(&self, gossip: Gossip) {
        // It is begun once.
        let _ = self.gossip.set(gossip);
    }

    /// The gossip that it takes part in.
    pub(crate) fn gossip(&self) -> Option<&Gossip> {
        self.gossip.get()
    }

    /// Begins what is due, from now on, until the end of what is given back.
    pub(crate) fn keep_time(self: &Arc<Daemon>) -> Result<Keeping, CliError> {
        let mut state = self.lock();
        let names: Vec<String> = state.agenda.jobs().keys().cloned().collect();
        names.iter().for_each(|name| self.write(&mut state, name));
        state.keeping = true;
        drop(state);
        let daemon = self.clone();
        let thread = std::thread::Builder::new().name("jobs".into()).spawn(move || daemon.run_when_due());
        let daemon = self.clone();
        let watches = std::thread::Builder::new().name("watch".into()).spawn(move || daemon.watch());
        let daemon = self.clone();
        let tells = std::thread::Builder::new().name("alerts".into()).spawn(move || daemon.tell_when_due());
        let failed = |error| CliError::new("node.runtime", format!("threads cannot be started: {error}"));
        thread.and(watches).and(tells).map_err(failed)?;
        Ok(Keeping(self.clone()))
    }

    fn run_when_due(self: Arc<Daemon>) {
        let look_max = supervisor::asks_within().map_or(LOOK_MAX, |within| (within / 2).min(LOOK_MAX));
        let mut state = self.lock();
        while !state.ending {
            supervisor::alive();
            let now = now_ms();
            state.running.values_mut().for_each(|run| run.stop_if_late(now));
            self.leave_behind(&mut state, now);
            for name in state.agenda.note_alive(now) {
                self.write(&mut state, &name);
            }
            let unwritten = state.unwritten.clone();
            unwritten.iter().for_each(|name| self.write(&mut state, name));
            for name in state.agenda.set_right(now, is_settled()) {
                tracing::warn!(
                    job = name,
                    "it was planned or noted later than it can be, as by a clock that was set back; that counts from now"
                );
                self.write(&mut state, &name);
            }
            for name in state.agenda.due(now) {
                let (stop, left) = watch::channel(false);
                match self.begin(&mut state, &name, By::Schedule, stop) {
                    Ok(begun) => self.start(&mut state, name, begun, left),
                    // What was due a moment ago has a reason for waiting now.
                    Err(refusal) => tracing::debug!(job = name, ?refusal, "it does not begin"),
                }
            }
            let ends = state.running.values().map(Stopped::until).filter(|until| *until > now).min();
            let wake = state.agenda.wake(now).into_iter().chain(ends).min();
            let look_max = if state.unwritten.is_empty() { look_max } else { look_max.min(WRITES_AGAIN) };
            let look_max = if state.running.is_empty() { look_max } else { look_max.min(ALIVE) };
            let wait = wake.map_or(look_max, |wake| Duration::from_millis(wake - now).min(look_max));
            state = match self.woken.wait_timeout(state, wait) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Notes that a run begins, in the home too.
    fn begin(&self, state: &mut State, name: &str, by: By, stop: watch::Sender<bool>) -> Result<Begun, Refusal> {
        let begun = state.agenda.begin(name, by, now_ms())?;
        state.running.insert(name.into(), Stopped::none(begun, stop));
        self.write(state, name);
        let (run, cause) = (begun.number, begun.cause.name());
        span(name, &begun).in_scope(|| tracing::info!(job = name, run, cause, "a run begins"));
        self.events.tell("run_began", json!({ "job": name, "run": run, "cause": cause, "began_ms": begun.began }));
        Ok(begun)
    }

    /// Goes by these keys of `[serve]`, and these names of stores, as they were said where it was started, whatever is configured.
    pub(crate) fn goes_by(&self, keys: Vec<&'static str>, stores: Option<Vec<PathBuf>>) {
        // They are said once.
        let _ = self.overruled.set((keys, stores));
    }

    /// Reads the configuration again, and tells what of it this daemon does not take up.
    ///
    /// # Errors
    /// As for [`Config::load_to_serve`]; what was configured before stays.
    pub(crate) fn reload(&self) -> Result<NotTaken, CliError> {
        let _told = supervisor::Reloading::begin();
        let config = Config::load_to_serve(&self.home);
        let mut state = self.lock();
        let config = config.and_then(|config| state.config.followed_by(config));
        let config = config.inspect_err(|error| {
            let message = format!("{error} [{}]; what was configured before still is", error.id);
            state.wrong.insert("config".into(), message);
        })?;
        let (goes_by, stores) = self.overruled.get().cloned().unwrap_or_default();
        let overruled = |(table, key): &(String, &'static str)| table == "serve" && goes_by.contains(key);
        let (overruled, until_begun): (Vec<_>, Vec<_>) =
            state.began_with.fixed(&config, stores.as_deref()).into_iter().partition(overruled);
        let told = config.warnings.iter().cloned().chain(config.overruled()).collect();
        let not_taken = NotTaken { until_begun: named(&until_begun), overruled: named(&overruled), told };
        state.wrong.remove("config");
        if !until_begun.is_empty() {
            let (keys, is) = (not_taken.until_begun.join(", "), if until_begun.len() == 1 { "is" } else { "are" });
            let message = format!("{keys} {is} taken up when the daemon begins again; the rest was taken up");
            state.wrong.insert("config".into(), message);
        }
        self.rate_limits.set(config.serve.rates, config.peer_rates());
        self.home.declare(config.declared());
        state.config = Arc::new(config);
        state.plan(now_ms());
        let names: Vec<String> = state.agenda.jobs().keys().cloned().collect();
        names.iter().for_each(|name| self.write(&mut state, name));
        self.woken.notify_all();
        Ok(not_taken)
    }

    /// Has HTTP ask for the token that is in its file now; what is wrong with that is told until it is right.
    pub(crate) fn read_token_again(&self, http: &Face) {
        let read = http.read_token_again();
        match &read {
            Ok(true) => tracing::info!("HTTP asks for another token"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, id = error.id, "the token of HTTP"),
        }
        let mut state = self.lock();
        match read {
            Ok(_) => state.wrong.remove("config http_token_file"),
            Err(error) => state.wrong.insert("config http_token_file".into(), format!("{error} [{}]", error.id)),
        };
    }

    /// What there is to see.
    pub(crate) fn view(&self) -> View {
        let state = self.lock();
        let jobs = state.agenda.jobs().clone();
        let (config, alerts) = (state.config.clone(), alerts::firing(&state.alerts));
        drop(state);
        let wrong = self.noted().into_iter().map(|Trouble { message, .. }| message).collect();
        View { config, jobs, wrong, alerts }
    }

    /// Has a job begin as soon as it can.
    pub(crate) fn ask(&self, name: &str) -> Result<(), CliError> {
        self.change(name, |agenda| agenda.ask(name))
    }

    /// Lets a job begin no more by itself.
    pub(crate) fn pause(&self, name: &str) -> Result<bool, CliError> {
        self.change(name, |agenda| agenda.pause(name, now_ms()))
    }

    /// Lets it begin by itself again.
    pub(crate) fn resume(&self, name: &str) -> Result<bool, CliError> {
        self.change(name, |agenda| agenda.resume(name))
    }

    /// Tells the run of a job to end with what it has.
    pub(crate) fn cancel(&self, name: &str) -> Result<(), CliError> {
        let mut state = self.lock();
        self.known(&state, name)?;
        let Some(run) = state.running.get_mut(name) else {
            let message = format!("no run of {name} is there to cancel; nothing was changed");
            return Err(CliError { exit: Exit::Refused, ..CliError::new("job.idle", message) });
        };
        run.cancel(now_ms());
        self.woken.notify_all();
        Ok(())
    }

    /// Tunes a job: `change` makes what is tuned of what was.
    pub(crate) fn tune(&self, name: &str, change: impl FnOnce(Tuned) -> Tuned) -> Result<(), CliError> {
        let mut state = self.lock();
        self.known(&state, name)?;
        let tuned = change(state.agenda.jobs()[name].kept.tuned.clone());
        let plan = state.plan_of(name, &tuned)?;
        if plan.schedule.at.is_some() && plan.schedule.first(&*plan.zone, now_ms()).is_none() {
            let message =
                format!("{name} would never be due: none of these times lies in its windows; nothing was changed");
            return Err(CliError::new("usage.at", message));
        }
        let tuned = state.agenda.tune(name, tuned, plan, now_ms());
        tuned.map_err(|refusal| refused(name, &refusal))?;
        self.write(&mut state, name);
        self.woken.notify_all();
        Ok(())
    }

    fn change<T>(&self, name: &str, change: impl FnOnce(&mut Agenda) -> Result<T, Refusal>) -> Result<T, CliError> {
        let mut state = self.lock();
        self.known(&state, name)?;
        let changed = change(&mut state.agenda).map_err(|refusal| refused(name, &refusal))?;
        self.write(&mut state, name);
        self.woken.notify_all();
        Ok(changed)
    }

    /// That there is a job of this name.
    fn known(&self, state: &State, name: &str) -> Result<(), CliError> {
        if state.agenda.jobs().get(name).is_some_and(|job| job.plan.is_some()) {
            return Ok(());
        }
        self.asked_for_none(name);
        // It says what was meant, if it is close.
        state.config.command(name).map(|_| ()).and(Err(refused(name, &Refusal::Unknown)))
    }

    /// Keeps what is to be remembered of a job.
    fn write(&self, state: &mut State, name: &str) {
        let Some(job) = state.agenda.jobs().get(name) else {
            state.unwritten.remove(name);
            return;
        };
        let about = format!("job {name}");
        match files::write(&self.home, name, &job.kept) {
            Ok(()) => {
                state.wrong.remove(&about);
                state.unwritten.remove(name);
            }
            Err(error) => {
                let told = format!("what it does is not remembered: {error}");
                let before = state.wrong.insert(about, told.clone());
                if before.as_ref() != Some(&told) {
                    tracing::error!(job = name, error = error.message, "it is not remembered");
                }
                state.unwritten.insert(name.into());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    /// Plans what is configured.
    fn plan(&mut self, now: Millis) {
        let mut plans = BTreeMap::new();
        self.wrong.retain(|subject, _| !subject.ends_with(UNPLANNED));
        for name in self.config.jobs.keys() {
            let tuned = self.agenda.jobs().get(name).map(|job| job.kept.tuned.clone()).unwrap_or_default();
            match self.plan_of(name, &tuned) {
                Ok(plan) => {
                    plans.insert(name.clone(), plan);
                }
                // It is understood, but what it names is not there.
                Err(error) => {
                    self.wrong.insert(format!("job {name}{UNPLANNED}"), error.message);
                }
            }
        }
        let at_once = self.config.serve.at_once;
        self.agenda.configure(plans, at_once, now);
    }

    fn plan_of(&self, name: &str, tuned: &Tuned) -> Result<Plan, CliError> {
        let command = self.config.command(name)?;
        let job = self.config.jobs.get(name).ok_or_else(|| refused(name, &Refusal::Unknown))?;
        let when = &job.when;
        let longest = millis(self.config.serve.longest);
        Ok(Plan {
            schedule: when.tuned(tuned),
            zone: when.clock(),
            places: self.places(command),
            longest,
            within: job.within,
            a_day: DayBudget {
                bytes: tuned.max_bytes_per_day.or(job.a_day.bytes),
                time: tuned.max_time_per_day.or(job.a_day.time),
            },
        })
    }

    /// The places of a command that nobody else may work on meanwhile: directories that it opens, and tables.
    fn places(&self, mut command: Command) -> BTreeSet<String> {
        // A store beside a table is held as any store is.
        let full = |place: &str| match tables::is_table(place) && !place.starts_with(STORE) {
            true => tables::held(place),
            false => {
                let dir = store_in(place);
                std::fs::canonicalize(&dir).map_or_else(|_| place.into(), |path| path.display().to_string())
            }
        };
        let places = command.places();
        let here = places.iter().filter_map(Place::typed).filter(|place| !place.starts_with("quic://")).map(full);
        here.filter(|place| !self.shared.contains(place)).collect()
    }
}

/// What a daemon does not take up of a configuration that it reads again, key by key.
pub(crate) struct NotTaken {
    /// Until it begins again.
    pub(crate) until_begun: Vec<String>,
    /// Since it was said where it was started.
    pub(crate) overruled: Vec<String>,
    /// What else is to be known of it, in words.
    pub(crate) told: Vec<String>,
}

/// Keys in their tables, as errors name them; a table alone where it is there or not.
fn named(keys: &[(String, &'static str)]) -> Vec<String> {
    let name = |(table, key): &(String, &'static str)| match *key {
        "" => format!("[{table}]"),
        key => format!("`{key}` in [{table}]"),
    };
    keys.iter().map(name).collect()
}

/// Why a job does not begin, or is not changed.
pub(crate) fn refused(name: &str, refusal: &Refusal) -> CliError {
    let (id, message) = match refusal {
        Refusal::Unknown => {
            let message =
                format!("there is no job {name} that this daemon knows; after a change of config.toml: SIGHUP");
            return CliError::new("config.job", message);
        }
        Refusal::Running(begun) => ("job.running", format!("run {} of {name} has not ended", begun.number)),
        Refusal::Occupied { place, by } => ("job.occupied", format!("the job {by} works on {place}, as {name} would")),
    };
    CliError::refused(id, format!("{message}; `reknit jobs show {name}` tells more"))
}

/// A daemon that keeps time; when it is dropped, runs end with what they have.
pub(crate) struct Keeping(Arc<Daemon>);

impl Drop for Keeping {
    fn drop(&mut self) {
        supervisor::ending();
        let mut state = self.0.lock();
        state.ending = true;
        state.running.values_mut().for_each(|run| run.end(now_ms()));
        self.0.woken.notify_all();
        let drained = self.0.woken.wait_timeout_while(state, DRAIN_MAX, |state| !state.running.is_empty());
        let Ok((state, waited)) = drained else { return };
        if waited.timed_out() {
            let names: Vec<&String> = state.running.keys().collect();
            tracing::warn!(jobs = ?names, "they did not end in time; they are noted as cut short when the daemon begins again");
        }
    }
}
