//! `reknit index build|status|verify|drop TABLE`: what this home keeps of a table, and how it follows it.

use std::path::PathBuf;

use reknit_core::journal::Run;
use serde_json::{Value, json};

use super::sides::{scans, tables};
use crate::cli::args::{AskedFeed, Index, IndexBuild, IndexCommand, PaceFlags, TermFlags};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::progress::Progress;
use crate::cli::shared_tables;
use crate::cli::units::{parse_bytes, show_bytes, show_count};
use crate::cli::{CliError, Exit};
use crate::store::linked::{FeedKind, FeedState, Linked, Remains, Waiting};

/// Runs that are named where an index is not removed for their sake.
const RUNS_NAMED_MAX: usize = 5;

pub(crate) fn run(args: &Index, env: &mut Env) -> Result<Exit, CliError> {
    match &args.command {
        IndexCommand::Build(args) => build(args, env),
        IndexCommand::Status { table } => status(table, env),
        IndexCommand::Verify { table } => verify(table, env),
        IndexCommand::Drop { table, orphans, sql, force } => drop_all(table, *orphans, (*sql, *force), env),
    }
}

fn build(args: &IndexBuild, env: &mut Env) -> Result<Exit, CliError> {
    let max_lag = parse_bytes(&args.max_feed_lag)?;
    args.pace.pace()?;
    scans::brakes(&args.pace, &[&args.table])?;
    let linked = match args.shared {
        true => shared(args, env)?,
        false => tables::alone(env, &args.table, args.with.as_deref(), &args.terms.terms()?)?,
    };
    if let Some(kind) = args.feed.map(AskedFeed::kind) {
        let feed = linked.feed(kind)?;
        feed.ready()?;
        if let (Some(setting), false) = (feed.unbounded()?, args.unbounded_wal) {
            let message = format!(
                "nothing bounds what the server keeps for a slot that nobody reads, until its disk is full: ALTER SYSTEM SET \
                 {setting} = '10GB', then SELECT pg_reload_conf(); --unbounded-wal makes the slot all the same"
            );
            return Err(CliError::refused("database.unbounded", message));
        }
        if !args.apply {
            let sql = feed.install_sql().concat();
            let text = format!("{} statements would be run; nothing was, add --apply to run them", sql.len());
            return print_sql(&sql, false, &text, env);
        }
        if !linked.goes_on(kind, max_lag)? {
            linked.install_feed(kind, max_lag)?;
        }
    }
    // That it has just been installed is no gap.
    let replica = scans::replicated(env, &args.pace, &[(&args.table, &linked)])?;
    let followed = scans::follow(env, &linked, &args.pace, replica.as_ref().map(|(_, from)| from.as_str()))?;
    let text = format!(
        "{} rows indexed, {} of them changed; {}",
        show_count(linked.rows()),
        show_count(followed.changed),
        follows(linked.feed_state()?.as_ref())
    );
    let summary = json!({ "records": linked.rows(), "changed": followed.changed });
    Printer::new(env).end(Exit::Done, &text, fields(summary))
}

/// The table with the index by which peers compare it.
fn shared(args: &IndexBuild, env: &Env) -> Result<Linked, CliError> {
    if args.with.is_some() || args.terms != TermFlags::default() {
        let message = "what peers compare of a table is part of their dataset, so that --shared goes without --with and terms; \
                       nothing was read";
        return Err(CliError::new("usage.terms", message));
    }
    shared_tables::opened(env, &args.table)
}

fn status(typed: &str, env: &mut Env) -> Result<Exit, CliError> {
    let all = tables::indexes(env, typed)?;
    let mut printer = Printer::new(env);
    for linked in &all {
        let state = linked.feed_state()?;
        let waiting = match &state {
            Some(state) => linked.feed(state.kind)?.waiting()?,
            None => Waiting::default(),
        };
        let columns: Vec<&str> = linked.shape().columns().iter().map(|(name, _)| name.as_str()).collect();
        let disk = show_bytes(linked.index().stats()?.disk_bytes);
        let line = format!(
            "{}\t{} rows, {disk}; {}{}; columns {}",
            linked.name(),
            show_count(linked.rows()),
            linked.misfit().unwrap_or_else(|| follows(state.as_ref())),
            waits(&waiting),
            columns.join(", ")
        );
        let object = object(linked, &waiting)?;
        printer.item(|| line, || object)?;
    }
    let text = format!("{} index{}", all.len(), if all.len() == 1 { "" } else { "es" });
    printer.end(Exit::Done, &text, fields(json!({ "listed": all.len() })))
}

fn verify(typed: &str, env: &mut Env) -> Result<Exit, CliError> {
    let (mut wrong, mut faults, mut rows) = (0, 0, 0);
    for linked in tables::indexes(env, typed)? {
        let fed = linked.feed_state()?.is_some_and(|state| state.stale.is_none());
        let mut progress = Progress::new(env, "verifying rows");
        faults += linked.index().verify(&mut |rows| progress.at(rows, Some(linked.rows())))?.wrong_count;
        drop(progress);
        let pace = PaceFlags::default();
        scans::follow(env, &linked, &pace, None)?;
        let mut progress = Progress::new(env, "reading rows");
        let read = linked.refresh(&mut |so_far| progress.at(so_far.read, Some(linked.rows())))?;
        drop(progress);
        rows += read.records;
        // What writers changed while it was read waits in the feed.
        let since = if fed && read.changed > 0 { scans::follow(env, &linked, &pace, None)?.read } else { 0 };
        wrong += if fed { read.changed.saturating_sub(since) } else { 0 };
    }
    let (exit, text) = match wrong + faults {
        0 => (Exit::Done, format!("sound: {} rows are as the table has them", show_count(rows))),
        _ => (
            Exit::Differs,
            format!(
                "{} rows were otherwise than the feed had told, {faults} faults in the index; rows are mended, for faults: \
                 reknit index drop, and build it anew",
                show_count(wrong)
            ),
        ),
    };
    let summary = json!({ "sound": wrong + faults == 0, "records": rows, "changed": wrong, "faults": faults });
    Printer::new(env).end(exit, &text, fields(summary))
}

fn drop_all(typed: &str, orphans: bool, (sql, force): (bool, bool), env: &mut Env) -> Result<Exit, CliError> {
    let table = tables::table(env, typed)?;
    let dirs = tables::directories(env, &*table)?;
    // By its name alone what is in the database is known as this home's, also where its index is lost.
    let own = |remains: &Remains| dirs.iter().any(|(name, _)| *name == remains.index);
    let remains: Vec<Remains> = table.remains()?.into_iter().filter(|remains| orphans || own(remains)).collect();
    let statements: Vec<String> = remains.iter().flat_map(|remains| remains.remove_sql.clone()).collect();
    if sql {
        let text = format!("{} statements remove it; nothing was run", statements.len());
        return print_sql(&statements, false, &text, env);
    }
    if !force {
        refuse_to_forget(env, typed, &dirs)?;
    }
    if !statements.is_empty() {
        table.run(&statements)?;
    }
    for (_, dir) in &dirs {
        std::fs::remove_dir_all(dir)
            .map_err(|error| CliError::new("store.failed", format!("{} cannot be removed: {error}", dir.display())))?;
    }
    let (indexes, feeds) = (dirs.len(), remains.len());
    let text = format!("removed {indexes} indexes here, and {feeds} feeds from the database");
    Printer::new(env).end(Exit::Done, &text, fields(json!({ "listed": indexes, "feeds": feeds })))
}

/// Refuses to remove indexes whose journals hold what repairs have overwritten, as long as that could be put back.
fn refuse_to_forget(env: &Env, typed: &str, dirs: &[(String, PathBuf)]) -> Result<(), CliError> {
    let mut runs = Vec::new();
    for dir in dirs {
        match tables::reopen(env, typed, dir) {
            // Of a table that has changed its columns nothing is put back.
            Ok(linked) if linked.misfit().is_none() => {
                for (id, run) in linked.index().runs().iter() {
                    if has_changed(run) && linked.index().undone(*id).is_none() && linked.tells_what_it_left(*id)? {
                        runs.push(id.to_string());
                    }
                }
            }
            Err(error) if error.id == "store.in-use" => return Err(error),
            // One that is damaged brings nothing back.
            _ => {}
        }
    }
    if runs.is_empty() {
        return Ok(());
    }
    let (s, named) = (if runs.len() == 1 { "" } else { "s" }, runs.iter().rev().take(RUNS_NAMED_MAX));
    let named = named.map(String::as_str).collect::<Vec<_>>().join(", ");
    let message = format!(
        "the journal of the table holds what {} run{s} overwrote ({named}{}), which could not be undone any more; nothing was \
         removed; reknit runs list tells of them, --force removes all the same",
        show_count(runs.len() as u64),
        if runs.len() > RUNS_NAMED_MAX { ", …" } else { "" }
    );
    Err(CliError::refused("database.journal", message))
}

/// Whether a run of a repair has changed something that the journal still has.
fn has_changed(run: &Run) -> bool {
    run.entries > 0 && !run.dropped && run.header.kind.undoes().is_none()
}

/// Statements, each on lines of its own.
pub(crate) fn print_sql(statements: &[String], ran: bool, text: &str, env: &mut Env) -> Result<Exit, CliError> {
    let mut printer = Printer::new(env);
    for statement in statements {
        printer.item(|| format!("{statement};"), || json!({ "t": "statement", "sql": statement }))?;
    }
    printer.end(Exit::Done, text, fields(json!({ "listed": statements.len(), "applied": ran })))
}

/// How an index follows its table.
fn follows(state: Option<&FeedState>) -> String {
    match state {
        None => "without a feed: each command reads the table whole".into(),
        Some(FeedState { kind, stale: None, .. }) => format!("followed by {}", kind.name()),
        Some(FeedState { kind, stale: Some(why), .. }) => {
            format!("followed by {}, stale: {why}; the next command reads the table whole", kind.name())
        }
    }
}

/// What waits in a feed.
fn waits(waiting: &Waiting) -> String {
    let changes = waiting.changes.map(|changes| format!(", {} changes wait", show_count(changes)));
    let kept = waiting.kept_bytes.map(|bytes| format!(", the server keeps {} of its log for it", show_bytes(bytes)));
    [changes, kept].into_iter().flatten().collect()
}

fn object(linked: &Linked, waiting: &Waiting) -> Result<Value, CliError> {
    let state = linked.feed_state()?;
    let columns: Vec<Value> =
        linked.shape().columns().iter().map(|(name, kind)| json!({ "name": name, "kind": kind.name() })).collect();
    Ok(json!({
        "t": "index", "index": linked.name(), "table": linked.table().place(), "records": linked.rows(),
        "disk_bytes": linked.index().stats()?.disk_bytes, "columns": columns,
        "feed": state.as_ref().map(|state| state.kind.name()), "stale": state.and_then(|state| state.stale), "waiting": waiting.changes, "kept_bytes": waiting.kept_bytes,
    }))
}

impl AskedFeed {
    fn kind(self) -> FeedKind {
        match self {
            AskedFeed::Triggers => FeedKind::Triggers,
            AskedFeed::Slot => FeedKind::Slot,
        }
    }
}
