//! `reknit config check|init`: the configuration, read as every command that needs it does, and what it names; or one to fill in.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use serde_json::json;

use super::sides::plural;
use super::sides::tables;
use crate::cli::args::{Config as Args, ConfigCommand};
use crate::cli::config::{Config, ConfigError, TEMPLATE};
use crate::cli::env::Env;
use crate::cli::http::Wanted;
use crate::cli::output::{Printer, fields};
use crate::cli::{CliError, Exit};

pub(crate) fn run(args: &Args, env: &mut Env) -> Result<Exit, CliError> {
    match args.command {
        ConfigCommand::Check => check(env),
        ConfigCommand::Init => init(env),
    }
}

fn init(env: &mut Env) -> Result<Exit, CliError> {
    let path = env.home()?.config();
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let message = format!("{} is there already; nothing was changed", path.display());
            CliError { exit: Exit::Refused, ..CliError::new("config.exists", message) }
        }
        _ => CliError::new("config.file", format!("{} cannot be written: {error}", path.display())),
    };
    // There may be a password in it one day.
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    made.and_then(|mut file| file.write_all(TEMPLATE.as_bytes())).map_err(failed)?;
    let text =
        format!("wrote {}, all of it comments; when you have said something: reknit config check", path.display());
    Printer::new(env).end(Exit::Done, &text, fields(json!({ "file": path.display().to_string() })))
}

fn check(env: &mut Env) -> Result<Exit, CliError> {
    let (config, mut errors) = Config::read(&env.home()?)?;
    config.warnings.iter().chain(&config.overruled()).for_each(|warning| env.warn(warning));
    if let Some(at) = config.serve.http {
        // Whether the address is free is not looked at.
        let key = if config.serve.http_token_file.is_some() { "http_token_file" } else { "http" };
        let wanted = Wanted::new(at, config.serve.http_token_file.clone());
        errors.extend(wanted.err().map(|error| config.wrong("serve", key, error)));
    }
    // A key that cannot be read is told beside the rest.
    let another = config.another(&env.home()?);
    errors.extend(another.unwrap_or_else(|error| Some(config.wrong("identity", "peer", error))));
    // What they name is looked up as a daemon does, so that it is not told only when one begins.
    errors.extend(config.missing());
    if !errors.is_empty() {
        errors.sort_by_key(|error| error.line);
        return refuse(env, &config, &errors);
    }
    let mut known: Vec<(&str, String, String)> = Vec::new();
    for (name, store) in &config.stores {
        let password =
            store.password.as_ref().map_or(String::new(), |from| format!(", password from {}", from.place()));
        known.push(("store", name.clone(), format!("{}{password}", tables::shown(&store.url))));
    }
    for (name, peer) in &config.peers {
        let may = peer.may.as_ref().map(|may| if may.is_empty() { "nothing".into() } else { may.names().join(", ") });
        let may = may.map_or(String::new(), |may| format!(", may {may}"));
        let at = peer.address.as_ref().map_or(String::new(), |address| format!(" at {address}"));
        known.push(("peer", name.clone(), format!("{}{at}{may}", peer.id)));
    }
    for (name, job) in &config.jobs {
        let typed: Vec<String> =
            job.typed.iter().filter(|word| *word != "--").map(|word| tables::shown(word)).collect();
        let when = job.when.told();
        let at = if when.is_empty() { when } else { format!(", {when}") };
        known.push(("job", name.clone(), format!("{}{at}", typed.join(" "))));
    }
    if !config.alerts.ways().is_empty() {
        known.push(("alerts", "alerts".into(), config.alerts.told()));
    }
    let (stores, peers, jobs) = (config.stores.len(), config.peers.len(), config.jobs.len());
    let peers = if peers == 0 { String::new() } else { format!("{peers} peers, ") };
    let text = format!("{}: {stores} stores, {peers}{jobs} jobs", config.path.display());
    let listed = known.len();
    let mut printer = Printer::new(env);
    for (what, name, told) in known {
        let object = json!({ "t": "configured", "what": what, "name": name, "told": told });
        printer.item(|| format!("{what}\t{name}\t{told}"), || object)?;
    }
    printer.end(Exit::Done, &text, fields(json!({ "listed": listed })))
}

/// Tells all that is wrong.
fn refuse(env: &mut Env, config: &Config, errors: &[ConfigError]) -> Result<Exit, CliError> {
    for error in errors {
        writeln!(env.err, "reknit: {error} [{}]", error.id)?;
    }
    let (id, s) = (errors[0].id, plural(errors.len() as u64));
    let message = format!("{} error{s} in {}", errors.len(), config.path.display());
    let for_people = env.text();
    let mut printer = Printer::new(env);
    for error in errors.iter().filter(|_| !for_people) {
        printer.item(String::new, || error.object())?;
    }
    let summary = json!({ "listed": errors.len(), "error": id, "message": message });
    let exit = printer.end(Exit::CannotJudge, "", fields(summary))?;
    env.failed = Some((id, message));
    Ok(exit)
}
