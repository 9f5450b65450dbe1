//! The subcommands: what was typed, what it means, what is printed.
//!
//! One file for each subcommand; what they do is done by the modules below.

mod args;
mod commands;
mod config;
mod control;
mod daemon;
mod env;
mod error;
mod exit;
mod http;
mod interrupt;
mod layouts;
mod login;
mod metrics;
mod new_file;
mod objectives;
mod output;
mod passing;
mod patience;
mod plans;
mod progress;
mod records;
mod shared_tables;
pub(crate) mod sql_file;
mod telling;
mod units;
mod verdicts;
mod waiting;

pub use error::CliError;
pub use exit::Exit;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::clock::now_s;
use args::{Check, Cli, Command, Diff, Drift, Repair};
use commands::databases;
use env::Env;

/// Runs the program with the arguments and streams of this process.
pub fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let mut cli = match Cli::parse_typed(&typed) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; anything else was typed wrongly.
            let _ = error.print();
            return if error.use_stderr() { Exit::CannotJudge.code() } else { Exit::Done.code() };
        }
    };
    if let Command::Status(args) = &cli.command
        && let Some(every) = args.watch.clone()
    {
        return commands::status::watch(&every, &cli, || Ok(once(&mut Cli::parse_typed(&typed)?))).code();
    }
    once(&mut cli).code()
}

/// Does what was typed: here, or where a daemon does it.
fn once(cli: &mut Cli) -> Exit {
    let began = Instant::now();
    let mut env = Env::of_process(cli);
    let settled = config::settle(cli, &mut env);
    if let Some(exit) = settled.is_ok().then(|| control::hand_over(cli)).flatten() {
        return exit;
    }
    let exit = run(cli, &mut env, settled);
    if cli.global.verbose > 0 {
        tell_cost(began);
    }
    exit
}

/// What the command took, on stderr.
fn tell_cost(began: Instant) {
    // The most that was resident, in kB, where the system tells.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse::<u64>().ok());
    let peak = peak.map(|kb| format!(", at most {} in memory", units::show_bytes(kb << 10))).unwrap_or_default();
    eprintln!("reknit: took {:.1} s{peak}", began.elapsed().as_secs_f64());
}

/// Runs one command to its exit, errors printed and metrics written; of one that could not be settled the error alone.
pub(crate) fn run(cli: &Cli, env: &mut Env, settled: Result<(), CliError>) -> Exit {
    let began = Instant::now();
    env.job.clone_from(&cli.job);
    let done = settled.and_then(|()| dispatch(cli, env));
    let exit = done.unwrap_or_else(|error| output::print_error(env, &error));
    let Err(error) = measure(cli, env, exit, began.elapsed()) else { return exit };
    // Where nobody listens any more there is nobody to tell.
    let _ = writeln!(env.err, "reknit: {error} [{}]", error.id);
    env.failed.get_or_insert((error.id, error.message.clone()));
    // How the command itself ended says more.
    if exit == Exit::Done { error.exit } else { exit }
}

/// Writes the metrics of a command that has ended, if they were asked for.
fn measure(cli: &Cli, env: &Env, exit: Exit, took: Duration) -> Result<(), CliError> {
    let Some(file) = cli.command.metrics_file() else { return Ok(()) };
    let sides = cli.command.sides().map(|sides| [&sides.a, &sides.b].map(|side| commands::sides::full(env, side)));
    let (job, measured) = (cli.job.as_deref(), env.measured.as_ref());
    let ended = metrics::Ended { job, sides, measured, exit, took, at: now_s() };
    metrics::write(&env.path(file), &ended)
}

fn dispatch(cli: &Cli, env: &mut Env) -> Result<Exit, CliError> {
    match &cli.command {
        Command::Demo(args) => commands::demo::run(args, env),
        Command::Invite(args) => commands::invite::run(args, env),
        Command::Join(args) => commands::join::run(args, env),
        Command::Serve(args) => commands::serve::run(args, env),
        Command::Check(args) if !args.more.is_empty() => commands::check::run(args, env),
        Command::Check(args) => databases::each(env, &args.sides, None, |sides, _, env| {
            commands::check::run(&Check { sides, ..args.clone() }, env)
        }),
        Command::Diff(args) if !args.more.is_empty() => commands::diff::run(args, env),
        Command::Diff(args) => databases::each(env, &args.sides, None, |sides, _, env| {
            commands::diff::run(&Diff { sides, ..args.clone() }, env)
        }),
        Command::Drift(args) if commands::drift::are_saved(args, env) => commands::drift::run(args, env),
        Command::Drift(args) => databases::each(env, &args.sides, None, |sides, _, env| {
            commands::drift::run(&Drift { sides, ..args.clone() }, env)
        }),
        Command::Repair(args) => databases::each(env, &args.sides, Some(args), |sides, among, env| {
            commands::repair::run(&Repair { sides, among, ..args.clone() }, env)
        }),
        Command::Apply(args) => commands::apply::run(args, env),
        // The job that it names took its place.
        Command::Run(args) => Err(CliError::new("config.job", format!("{} is no job", args.job))),
        Command::Config(args) => commands::config::run(args, env),
        Command::Jobs(args) => commands::jobs::run(args, env),
        Command::Alerts(args) => commands::alerts::run(args, env),
        Command::Status(args) => commands::status::run(args, env),
        Command::Init(args) => commands::init::run(args, env),
        Command::Import(args) => commands::import::run(args, env),
        Command::Export(args) => commands::export::run(args, env),
        Command::Put(args) => commands::put::run(args, env),
        Command::Get(args) => commands::get::run(args, env),
        Command::Delete(args) => commands::delete::run(args, env),
        Command::List(args) => commands::list::run(args, env),
        Command::Conflicts(args) => commands::conflicts::run(args, env),
        Command::Quarantine(args) => commands::quarantine::run(args, env),
        Command::Gc(args) => commands::gc::run(args, env),
        Command::Members(args) => commands::members::run(args, env),
        Command::Receipts(args) => commands::receipts::run(args, env),
        Command::Verify(args) => commands::verify::run(args, env),
        Command::Backup(args) => commands::backup::run(args, env),
        Command::Restore(args) => commands::restore::run(args, env),
        Command::Runs(args) => commands::runs::run(args, env),
        Command::Explain(args) => commands::explain::run(args, env),
        Command::Index(args) => commands::index::run(args, env),
        Command::Resume(args) => commands::resume::run(args, env),
        Command::History(args) => commands::history::run(args, env),
        Command::Inspect(args) => commands::inspect::run(args, env),
        Command::Dataset(args) => commands::dataset::run(args, env),
        Command::Id(args) => commands::id::run(args, env),
        Command::Peers(args) => commands::peers::run(args, env),
        Command::Completions(args) => commands::completions::run(args, env),
        Command::Man(args) => commands::man::run(args, env),
    }
}
