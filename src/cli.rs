//! The subcommands: what was typed, what it means, what is printed.
//!
//! One file for each subcommand; what they do is done by the modules below.

mod args;
mod commands;
mod control;
mod env;
mod error;
mod exit;
pub mod format;
mod output;
mod units;
mod verdicts;

pub use error::CliError;
pub use exit::Exit;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use env::Env;

/// Runs the program with the arguments and streams of this process.
pub fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&typed) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; anything else was typed wrongly.
            let _ = error.print();
            return if error.use_stderr() { Exit::CannotJudge.code() } else { Exit::Done.code() };
        }
    };
    if let Some(exit) = control::hand_over(&cli) {
        return exit.code();
    }
    let mut env = Env::of_process(&cli.global);
    run(&cli, &mut env).code()
}

/// Runs one command to its exit, errors printed.
pub(crate) fn run(cli: &Cli, env: &mut Env) -> Exit {
    let done = match &cli.command {
        Command::Demo(args) => commands::demo::run(args, env),
        Command::Invite(args) => commands::invite::run(args, env),
        Command::Join(args) => commands::join::run(args, env),
        Command::Serve(args) => commands::serve::run(args, env),
        Command::Check(args) => commands::check::run(args, env),
        Command::Diff(args) => commands::diff::run(args, env),
        Command::Repair(args) => commands::repair::run(args, env),
        Command::Status(args) => commands::status::run(args, env),
        _ => Err(CliError::new("x", "y")),
    };
    done.unwrap_or_else(|error| output::print_error(env, &error))
}
