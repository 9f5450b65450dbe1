//! `reknit config check`: the configuration, read as every command that needs it does, and what it names.

use serde_json::json;

use super::sides::tables;
use crate::cli::args::{Config, ConfigCommand};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::{CliError, Exit};

pub(crate) fn run(args: &Config, env: &mut Env) -> Result<Exit, CliError> {
    match args.command {
        ConfigCommand::Check => check(env),
    }
}

fn check(env: &mut Env) -> Result<Exit, CliError> {
    let config = env.config()?;
    let mut known: Vec<(&str, String, String)> = Vec::new();
    for (name, store) in &config.stores {
        let password =
            store.password.as_ref().map_or(String::new(), |from| format!(", password from {}", from.place()));
        known.push(("store", name.clone(), format!("{}{password}", tables::shown(&store.url))));
    }
    for (name, job) in &config.jobs {
        let typed: Vec<String> =
            job.typed.iter().filter(|word| *word != "--").map(|word| tables::shown(word)).collect();
        let at = job.at.map_or(String::new(), |at| format!(", {at}"));
        known.push(("job", name.clone(), format!("{}{at}", typed.join(" "))));
    }
    let text = format!("{}: {} stores, {} jobs", config.path.display(), config.stores.len(), config.jobs.len());
    let listed = known.len();
    let mut printer = Printer::new(env);
    for (what, name, told) in known {
        let object = json!({ "t": "configured", "what": what, "name": name, "told": told });
        printer.item(|| format!("{what}\t{name}\t{told}"), || object)?;
    }
    printer.end(Exit::Done, &text, fields(json!({ "listed": listed })))
}
