//! `reknit completions SHELL`: what a shell needs to complete commands, made from their definition.

use std::io::{ErrorKind, Write};

use clap::CommandFactory;

use crate::cli::args::{Cli, Completions};
use crate::cli::env::Env;
use crate::cli::{CliError, Exit};

pub(crate) fn run(args: &Completions, env: &mut Env) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "reknit", &mut script);
    print(&script, env)
}

/// Prints a document that is all there is, whatever `--format` and `--quiet` say.
pub(super) fn print(document: &[u8], env: &mut Env) -> Result<Exit, CliError> {
    match env.out.write_all(document).and_then(|()| env.out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Done),
    }
}
