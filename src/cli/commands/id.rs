//! `reknit id`: who this node is. The peer goes to stdout, alone, so that it can be handed on.

use std::io::Write;

use serde_json::json;

use crate::cli::args::Id;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::{CliError, Exit};

pub(crate) fn run(_: &Id, env: &mut Env) -> Result<Exit, CliError> {
    let home = env.home()?;
    let peer = home.identity()?.peer().to_string();
    if env.text() && !env.global.quiet {
        writeln!(env.err, "home {}", home.dir().display())?;
    }
    let summary = json!({ "peer": peer, "home": home.dir().display().to_string() });
    Printer::new(env).end(Exit::Done, &peer, fields(summary))
}
