//! Brakes as they are typed and told: limits from flags, and what to say when one stopped a session.

use std::io::Write;

use reknit_core::brakes::{Braked, Brakes, Loss};
use reknit_core::difference::Side as Seen;
use reknit_core::session::Outcome;
use serde_json::json;

use super::Ran;
use crate::cli::args::BrakeFlags;
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::units::{parse_limit, show_count};
use crate::cli::{CliError, Exit};

/// The brakes that were typed.
pub(crate) fn typed(flags: &BrakeFlags) -> Result<Brakes, CliError> {
    let mut brakes = Brakes::default();
    if let Some(limit) = &flags.max_delete {
        // Whoever says how much may go has seen that a side shrank.
        brakes = Brakes { delete: parse_limit(limit)?, shrunken: true, ..brakes };
    }
    if let Some(limit) = &flags.max_change {
        brakes.change = parse_limit(limit)?;
    }
    Ok(brakes)
}

/// The peer's own brakes have stopped the session.
pub(super) fn by_the_peer(outcome: &Outcome) -> CliError {
    let wrote = show_count(outcome.counts.to_mine.applied + outcome.counts.to_theirs.applied);
    let message = format!(
        "{}; wrote {wrote} records before; there: reknit serve --max-delete N --max-change N lets more pass, or wait",
        outcome.reason
    );
    CliError { exit: Exit::Refused, ..CliError::new("peer.brakes", message) }
}

/// Tells that a brake has stopped the session, what it would have lost, and which flags would let it pass.
pub(crate) fn stopped(env: &mut Env, ran: &Ran, braked: &Braked) -> Result<Exit, CliError> {
    let a = (braked.side == Seen::Mine) != ran.swapped;
    let (side, other) = if a { ("a", "b") } else { ("b", "a") };
    let Braked { losses, allowed, .. } = braked;
    let mut found = Vec::new();
    let mut flags = Vec::new();
    let mut keys = Vec::new();
    let shrunken = braked.shrunken.is_some();
    let kinds = [
        (Loss::Deleted, losses.deleted, allowed.deleted, "deleted", "--max-delete", shrunken),
        (Loss::Changed, losses.changed, allowed.changed, "overwritten", "--max-change", false),
    ];
    for (loss, n, most, word, flag, always) in kinds {
        if n > most || always {
            let bound = if n > most { format!(", at most {} may be", show_count(most)) } else { String::new() };
            found.push(format!("{} would be {word}{bound}", show_count(n)));
            flags.push(format!("{flag} {n}"));
            keys.extend(braked.samples.of(loss));
        }
    }
    keys.truncate(reknit_core::brakes::SAMPLES_MAX);
    let keys: Vec<String> = keys.into_iter().map(|(_, key)| ran.layout.show_key(key)).collect();
    let why = match braked.shrunken {
        Some(n) => format!("{other} holds {} records, fewer than half as many; ", show_count(n)),
        None => String::new(),
    };
    let named = if keys.is_empty() { String::new() } else { format!("; for example {}", keys.join(", ")) };
    let outcome = &ran.report.outcome;
    let wrote = outcome.counts.to_mine.applied + outcome.counts.to_theirs.applied;
    let flags = flags.join(" ");
    let message = format!(
        "of the {} records of {side} {}{named}; {why}to let it pass: {flags}; wrote {} records",
        show_count(braked.records),
        found.join(" and "),
        show_count(wrote),
    );
    writeln!(env.err, "reknit: {message} [repair.braked]")?;
    if env.text() {
        return Ok(Exit::Refused);
    }
    let mut summary = ran.summary();
    summary.insert("error".into(), json!("repair.braked"));
    summary.insert("message".into(), json!(message));
    let told = json!({
        "side": side, "records": braked.records, "shrunken": braked.shrunken, "keys": keys, "flags": flags,
        "deleted": losses.deleted, "max_delete": allowed.deleted,
        "changed": losses.changed, "max_change": allowed.changed,
    });
    summary.insert("braked".into(), told);
    Printer::new(env).end(Exit::Refused, "", summary)
}
