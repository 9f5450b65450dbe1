//! `reknit alerts …`: what is told to operators now, and a try whether they hear of it.

use reknit_core::alert::{Alert, Event, Kind, Trouble};
use serde_json::{Value, json};

use super::jobs;
use crate::cli::args::{Alerts, AlertsCommand};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::units::show_duration;
use crate::cli::{CliError, Exit, telling};
use crate::clock::now_ms;

pub(crate) fn run(args: &Alerts, env: &mut Env) -> Result<Exit, CliError> {
    match args.command {
        AlertsCommand::List => list(env),
        AlertsCommand::Test => test(env),
    }
}

fn list(env: &mut Env) -> Result<Exit, CliError> {
    let (alerts, now) = (jobs::view(env)?.alerts, now_ms());
    let exit = if alerts.is_empty() { Exit::Done } else { Exit::Differs };
    let mut printer = Printer::new(env);
    for alert in &alerts {
        printer.item(|| line(alert, now), || object(alert))?;
    }
    let text = format!("{} alerts fire", alerts.len());
    printer.end(exit, &text, fields(json!({ "listed": alerts.len() })))
}

/// An alert in one line.
pub(crate) fn line(alert: &Alert, now: u64) -> String {
    let ago = show_duration(std::time::Duration::from_millis(now.saturating_sub(alert.since)));
    format!("{}\tfor {ago}: {}", alert.trouble.id(), alert.trouble.message)
}

/// An alert for machines.
pub(crate) fn object(alert: &Alert) -> Value {
    json!({
        "t": "alert",
        "alert": alert.trouble.id(),
        "kind": alert.trouble.kind.name(),
        "about": alert.trouble.about,
        "since_ms": alert.since,
        "message": alert.trouble.message,
    })
}

fn test(env: &mut Env) -> Result<Exit, CliError> {
    let home = env.home()?;
    let config = crate::cli::config::Config::load(&home)?;
    let table = &config.alerts;
    if table.ways().is_empty() {
        let message = format!("[alerts] in {} says nobody who is to be told", config.path.display());
        return Err(CliError::new("alerts.none", message));
    }
    let (node, now) = (home.identity()?.peer().to_string(), now_ms());
    let message = "somebody tries out what is configured".to_string();
    let trouble = Trouble { kind: Kind::Test, about: "test".into(), since: Some(now), message };
    let mut told = Vec::new();
    for way in table.ways() {
        let (id, trouble) = (trouble.id(), trouble.clone());
        let event = Event { id, way: way.into(), trouble, since: now, resolved: None, again: false };
        told.push((way, telling::tell(table, way, &telling::object(&event, &node, now))));
    }
    let failed = told.iter().filter(|(_, told)| told.is_err()).count();
    let exit = if failed > 0 { Exit::CannotJudge } else { Exit::Done };
    let mut printer = Printer::new(env);
    for (way, told) in &told {
        let why = told.as_ref().err();
        printer.item(
            || why.map_or_else(|| format!("{way}\theard it"), |why| format!("{way}\tfailed: {why}")),
            || json!({ "t": "alert_told", "way": way, "heard": told.is_ok(), "message": why }),
        )?;
    }
    let text = format!("{} of {} ways heard it", told.len() - failed, told.len());
    let mut summary = fields(json!({ "listed": told.len() }));
    if failed > 0 {
        summary.extend(fields(json!({ "error": "alerts.unheard", "message": text })));
    }
    let exit = printer.end(exit, &text, summary)?;
    if failed > 0 {
        env.failed = Some(("alerts.unheard", text));
    }
    Ok(exit)
}
