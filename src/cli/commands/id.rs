//! `reknit id`: who this node is, and by a new key from now on. The peer goes to stdout, alone, so that it can be handed on.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use crate::cli::args::{Id, IdCommand};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::units::{parse_duration, show_duration};
use crate::cli::{CliError, Exit};
use crate::node::{Rotated, statements_typed};

pub(crate) fn run(args: &Id, env: &mut Env) -> Result<Exit, CliError> {
    match &args.command {
        None => shown(env),
        Some(IdCommand::Rotate { overlap }) => rotated(overlap, env),
        Some(IdCommand::Statement) => statement(env),
    }
}

fn shown(env: &mut Env) -> Result<Exit, CliError> {
    let home = env.home()?;
    let peer = home.identity()?.peer().to_string();
    if env.text() && !env.global.quiet {
        writeln!(env.err, "home {}", home.dir().display())?;
    }
    let summary = json!({ "peer": peer, "home": home.dir().display().to_string() });
    Printer::new(env).end(Exit::Done, &peer, fields(summary))
}

fn rotated(overlap: &str, env: &mut Env) -> Result<Exit, CliError> {
    let overlap = if overlap == "0" { Duration::ZERO } else { parse_duration(overlap)? };
    let home = env.home()?;
    let Rotated { old, new, until_ms } = home.rotate(overlap)?;
    let statement = statements_typed(home.identity()?.statements());
    if env.text() && !env.global.quiet {
        let goes_on = match overlap.is_zero() {
            true => "is this node no more".into(),
            false => format!("is this node too for {}", show_duration(overlap)),
        };
        writeln!(env.err, "the key {old} {goes_on}; peers hear of the new one as they meet this node")?;
    }
    let (old, new) = (old.to_string(), new.to_string());
    let summary = json!({ "peer": new, "was": [old], "until_ms": until_ms, "statement": statement });
    Printer::new(env).end(Exit::Done, &new, fields(summary))
}

fn statement(env: &mut Env) -> Result<Exit, CliError> {
    let identity = env.home()?.identity()?;
    if identity.statements().is_empty() {
        let message = "this node has the key that it began with: there is nothing to state";
        return Err(CliError { exit: Exit::Differs, ..CliError::new("id.no-statement", message) });
    }
    let statement = statements_typed(identity.statements());
    let summary = json!({ "peer": identity.peer().to_string(), "statement": statement });
    Printer::new(env).end(Exit::Done, &statement, fields(summary))
}
