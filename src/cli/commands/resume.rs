//! `reknit resume STORE`: lets repairs go on that an undo has paused.

use serde_json::json;

use super::journals;
use crate::cli::args::Resume;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::{CliError, Exit};

pub(crate) fn run(args: &Resume, env: &mut Env) -> Result<Exit, CliError> {
    let mut paused = None;
    for kept in journals::open(env, &args.store)? {
        paused = kept.store.resume()?.or(paused);
    }
    let (exit, text) = match paused {
        Some(run) => (Exit::Done, format!("repairs go on; run {run} had paused them")),
        None => (Exit::Differs, "repairs were not paused; nothing was changed".into()),
    };
    Printer::new(env).end(exit, &text, fields(json!({ "paused_by": paused.map(|run| run.to_string()) })))
}
