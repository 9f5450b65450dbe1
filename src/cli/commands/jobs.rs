//! `reknit jobs …`: what the daemon runs by itself, shown and steered; without a daemon, what is remembered.

pub(crate) mod shown;

use std::collections::BTreeMap;
use std::sync::Arc;

use reknit_core::agenda::Tuned;
use reknit_core::schedule::At;
use serde_json::json;

use crate::cli::args::{Jobs, JobsCommand, JobsTune};
use crate::cli::config::{self, Config};
use crate::cli::daemon::{Daemon, View};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::units::{parse_bytes, show_time};
use crate::cli::{CliError, Exit};
use crate::clock::now_ms;

pub(crate) fn run(args: &Jobs, env: &mut Env) -> Result<Exit, CliError> {
    match &args.command {
        JobsCommand::List => list(env),
        JobsCommand::Show { job, limit } => show(job, *limit, env),
        JobsCommand::Run { job } => {
            let daemon = live(env, job)?;
            daemon.ask(job)?;
            let now = now_ms();
            match daemon.view().jobs.get(job).and_then(|job| job.used_up(now)) {
                Some(until) => {
                    done(env, job, &format!("begins at {}: its budget is used up until then", show_time(until)))
                }
                None => done(env, job, "begins as soon as it can"),
            }
        }
        JobsCommand::Cancel { job } => {
            live(env, job)?.cancel(job)?;
            done(env, job, "is told to end with what it has")
        }
        JobsCommand::Pause { job } => {
            let news = change(env, |daemon| daemon.pause(job))?;
            done(env, job, if news { "is paused" } else { "was paused already" })
        }
        JobsCommand::Resume { job } => {
            let news = change(env, |daemon| daemon.resume(job))?;
            done(env, job, if news { "goes on" } else { "was not paused" })
        }
        JobsCommand::Tune(tune) => {
            let tuned = tuned(tune)?;
            change(env, |daemon| daemon.tune(&tune.job, tuned))?;
            done(env, &tune.job, "is tuned")
        }
    }
}

/// What is known of the jobs, live or from the home.
pub(crate) fn view(env: &Env) -> Result<View, CliError> {
    match &env.daemon {
        Some(daemon) => Ok(daemon.view()),
        None => Ok(offline(env)?.view()),
    }
}

/// The jobs of a home that no daemon holds.
fn offline(env: &Env) -> Result<Arc<Daemon>, CliError> {
    let home = env.home()?;
    let config = Config::load(&home)?;
    Daemon::load(home, env.global.clone(), config, BTreeMap::new(), None)
}

fn change<T>(env: &Env, change: impl FnOnce(&Daemon) -> Result<T, CliError>) -> Result<T, CliError> {
    match &env.daemon {
        Some(daemon) => change(daemon),
        None => {
            // No daemon begins meanwhile.
            let _held = env.home()?.hold()?;
            change(&*offline(env)?)
        }
    }
}

fn live(env: &Env, job: &str) -> Result<Arc<Daemon>, CliError> {
    env.daemon.clone().ok_or_else(|| {
        let message = format!("no daemon runs in this home; `reknit run {job}` does the job here and now");
        CliError::new("job.no-daemon", message)
    })
}

fn list(env: &mut Env) -> Result<Exit, CliError> {
    let view = view(env)?;
    let (now, live) = (now_ms(), env.daemon.is_some());
    let mut printer = Printer::new(env);
    for (name, job) in &view.jobs {
        let seen = shown::Seen { name, job, config: &view.config, now, live };
        printer.item(|| seen.line(), || seen.object())?;
    }
    let wrong = view.wrong.iter().map(|wrong| format!("wrong  {wrong}\n"));
    let text = format!("{}{} jobs", wrong.collect::<String>(), view.jobs.len());
    printer.end(Exit::Done, &text, fields(json!({ "listed": view.jobs.len(), "wrong": view.wrong })))
}

fn show(name: &str, limit: usize, env: &mut Env) -> Result<Exit, CliError> {
    let view = view(env)?;
    let (now, live) = (now_ms(), env.daemon.is_some());
    let Some(job) = view.jobs.get(name) else {
        // It says what was meant, if it is close.
        view.config.command(name)?;
        return Err(crate::cli::daemon::refused(name, &reknit_core::agenda::Refusal::Unknown));
    };
    let mut printer = Printer::new(env);
    let seen = shown::Seen { name, job, config: &view.config, now, live };
    printer.item(|| seen.whole(), || seen.object())?;
    let runs = job.kept.history.iter().rev().take(limit);
    let listed = runs.len();
    for ran in runs {
        printer.item(|| shown::ran_line(ran, now), || shown::ran_object(name, ran))?;
    }
    let text = format!("{} of {} runs that are remembered", listed, job.kept.history.len());
    printer.end(Exit::Done, &text, fields(json!({ "listed": listed })))
}

fn done(env: &mut Env, job: &str, what: &str) -> Result<Exit, CliError> {
    let text = format!("{job} {what}");
    Printer::new(env).end(Exit::Done, &text, fields(json!({ "job": job })))
}

/// What is tuned, of what was.
fn tuned(tune: &JobsTune) -> Result<impl FnOnce(Tuned) -> Tuned, CliError> {
    let at = match (&tune.every, &tune.daily) {
        (Some(_), Some(_)) => {
            let message = "--every and --daily both say when it is due; one of them is enough, nothing was changed";
            return Err(CliError::new("usage.at", message));
        }
        (Some(every), None) => Some(format!("every {every}")),
        (None, daily) => daily.clone(),
    };
    let at = at.map(|at| at.parse::<At>()).transpose();
    let at = at.map_err(|error| CliError::new("usage.at", error.to_string()))?.map(|at| at.to_string());
    let jitter = tune.jitter.as_deref().map(config::jitter).transpose()?;
    let max_time = tune.max_time.as_deref().map(config::max_time).transpose()?;
    let max_bytes = tune.max_bytes.as_deref().map(parse_bytes).transpose()?;
    let bytes_a_day = tune.max_bytes_per_day.as_deref().map(config::bytes_a_day).transpose()?;
    let time_a_day = tune.max_time_per_day.as_deref().map(config::time_a_day).transpose()?;
    let reset = tune.reset;
    Ok(move |was: Tuned| {
        let was = if reset { Tuned::default() } else { was };
        Tuned {
            at: at.or(was.at),
            jitter: jitter.or(was.jitter),
            max_time: max_time.or(was.max_time),
            max_bytes: max_bytes.or(was.max_bytes),
            max_time_per_day: time_a_day.or(was.max_time_per_day),
            max_bytes_per_day: bytes_a_day.or(was.max_bytes_per_day),
        }
    })
}
