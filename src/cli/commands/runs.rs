//! `reknit runs list|show|undo|limit`: what repairs did to a store, and bringing back what they overwrote.

use std::path::Path;
use std::time::Duration;

use reknit_core::CollectionId;
use reknit_core::journal::{Run, RunId, RunKind, Undoing};
use serde_json::{Value, json};

use super::journals;
use super::sides::tables;
use crate::cli::args::{Runs, RunsCommand};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::progress::Progress;
use crate::cli::records::key_fields;
use crate::cli::units::{parse_bytes, parse_duration, show_bytes, show_count, show_duration};
use crate::cli::{CliError, Exit};
use crate::clock::{millis, now_ms};
use crate::store::{Did, JournalLimits, KeepHistory, Store, Undo};

pub(crate) fn run(args: &Runs, env: &mut Env) -> Result<Exit, CliError> {
    match &args.command {
        RunsCommand::List { store } => list(store, env),
        RunsCommand::Show { store, run, limit } => show(store, RunId(*run), *limit, env),
        RunsCommand::Undo { store, run, everywhere } => undo(store, RunId(*run), *everywhere, env),
        RunsCommand::Limit { store, bytes, age, keep_history } => {
            limit(store, bytes.as_deref(), age.as_deref(), keep_history.as_deref(), env)
        }
    }
}

fn list(store: &Path, env: &mut Env) -> Result<Exit, CliError> {
    let all = journals::open(env, store)?;
    let mut printer = Printer::new(env);
    let mut listed = 0;
    for kept in &all {
        for (id, run) in kept.store.runs().iter().rev() {
            printer.item(|| line(&kept.store, *id, run), || object(&kept.store, *id, run))?;
            listed += 1;
        }
    }
    let bytes = all.iter().map(|kept| kept.store.journal_bytes()).sum();
    let paused = all.iter().find_map(|kept| kept.store.paused());
    let mut text = format!("{} runs, {} of journal", show_count(listed), show_bytes(bytes));
    if let Some(run) = paused {
        text.push_str(&format!("; repairs are paused by run {run}, let them go on with: reknit resume STORE"));
    }
    let summary = json!({
        "listed": listed, "journal_bytes": bytes, "paused_by": paused.map(|run| run.to_string()),
    });
    printer.end(Exit::Done, &text, fields(summary))
}

fn show(store: &Path, id: RunId, limit: Option<u64>, env: &mut Env) -> Result<Exit, CliError> {
    let journals::Kept { store, layouts, .. } = journals::of_run(env, store, id)?;
    let run = store.run(id)?;
    let mut printer = Printer::new(env);
    let mut printed = 0;
    let mut failed = None;
    store.run_entries(id, &mut |entry| {
        if limit.is_some_and(|limit| printed >= limit) {
            return false;
        }
        printed += 1;
        let (sign, op, told) = match store.did(&entry) {
            Ok(did) => named(did),
            Err(error) => {
                failed = Some(error.into());
                return false;
            }
        };
        let collection = store.definition().collections.get(usize::from(entry.collection.0));
        let collection = collection.map(|collection| collection.name.as_str());
        let shown = printer.item(
            || {
                let key = layouts.of(entry.collection).show_key(&entry.key);
                format!("{sign} {key}{}\t{told}", place(&store, entry.collection))
            },
            || {
                let mut object = fields(json!({ "t": "change", "op": op, "collection": collection }));
                object.extend(key_fields(layouts.of(entry.collection), &entry.key));
                Value::Object(object)
            },
        );
        failed = shown.err().map(CliError::from);
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let mut summary = fields(object(&store, id, &run));
    summary.remove("t");
    summary.insert("printed".into(), json!(printed));
    let mut text = line(&store, id, &run);
    // Of keys that came together, the store knows those that are as the run left them.
    if limit.is_none() && !run.dropped && printed < run.entries {
        text.push_str(&format!("\nand {} that were written since", show_count(run.entries - printed)));
    }
    printer.end(Exit::Done, &text, summary)
}

/// What a change did: its sign, its name for machines, and for people.
fn named(did: Did) -> (&'static str, &'static str, &'static str) {
    match did {
        Did::Inserted => ("+", "inserted", "inserted"),
        Did::Deleted => ("-", "deleted", "deleted"),
        Did::Overwrote => ("*", "overwrote", "overwrote"),
        Did::Beside => ("+", "beside", "laid beside"),
        Did::Revived => ("+", "revived", "revived"),
        Did::Changed => ("*", "changed", "changed"),
    }
}

fn undo(store: &Path, id: RunId, everywhere: bool, env: &mut Env) -> Result<Exit, CliError> {
    let typed = tables::typed_again(&store.display().to_string());
    let kept_by = journals::of_run(env, store, id).map_err(refused)?;
    let (store, layouts) = (&kept_by.store, &kept_by.layouts);
    let all = store.run(id).map_err(|error| refused(error.into()))?.entries;
    let how = if everywhere { Undo::Everywhere } else { Undo::Here };
    let mut kept = Vec::new();
    let done = {
        let mut progress = Progress::new(env, "undoing changes");
        let undone = kept_by.undo(id, how, &mut |skipped| kept.push(skipped), &mut |seen| progress.at(seen, Some(all)));
        undone.map_err(refused)?
    };
    let mut printer = Printer::new(env);
    for (collection, key) in &kept {
        let (layout, place) = (layouts.of(*collection), place(store, *collection));
        let collection = store.definition().collections.get(usize::from(collection.0)).map(|c| c.name.clone());
        printer.item(
            || format!("! {}{place}\twritten since, stays as it is", layout.show_key(key)),
            || {
                let mut object = fields(json!({ "t": "skipped", "collection": collection }));
                object.extend(key_fields(layout, key));
                Value::Object(object)
            },
        )?;
    }
    let (restored, skipped) = (show_count(done.restored), show_count(done.skipped));
    let mut text = format!("undid run {id} as run {}: {restored} changes put back, {skipped} skipped", done.by);
    if store.paused().is_some() {
        text.push_str(&format!("\nrepairs of this store are paused; let them go on with: reknit resume {typed}"));
    }
    let summary = json!({
        "undid": id.to_string(), "run": done.by.to_string(), "restored": done.restored, "skipped": done.skipped,
        "wrote": done.restored, "everywhere": everywhere, "paused_by": store.paused().map(|run| run.to_string()),
    });
    printer.end(Exit::Done, &text, fields(summary))
}

/// There is nothing to undo: that is a refusal, as where it was undone already.
fn refused(error: CliError) -> CliError {
    match error.id {
        "journal.no-run" => CliError::refused(error.id, error.message),
        _ => error,
    }
}

fn limit(
    store: &Path,
    bytes: Option<&str>,
    age: Option<&str>,
    keep_history: Option<&str>,
    env: &mut Env,
) -> Result<Exit, CliError> {
    // A table's indexes have a journal each, all of one size.
    let mut all = journals::open(env, store)?;
    let Some(journals::Kept { store, .. }) = all.pop() else { return Ok(Exit::Done) };
    let was = store.journal_limits();
    let age = age.map(parse_duration).transpose()?;
    let limits = JournalLimits {
        bytes: bytes.map(parse_bytes).transpose()?.unwrap_or(was.bytes),
        age: age.map_or(was.age, millis),
    };
    let keep_history = keep_history.map(|text| keeping(text, limits)).transpose()?;
    let mut dropped = if limits == was { store.drop_old_runs()? } else { store.set_journal_limits(limits)? };
    for journals::Kept { store, .. } in &all {
        dropped += store.set_journal_limits(limits)?;
    }
    if let Some(keeping) = keep_history {
        dropped += store.keep_history(keeping)?;
    }
    let kept = store.keeps_history();
    let mut text = format!(
        "the journal holds {} of at most {}, runs of {}; dropped {} runs",
        show_bytes(store.journal_bytes()),
        show_bytes(limits.bytes),
        show_duration(Duration::from_millis(limits.age)),
        show_count(dropped)
    );
    if let Some(kept) = kept {
        text.push_str(&format!(
            "\nand {} of what ordinary writes replaced: at most {}, of the last {}",
            show_bytes(store.history_bytes()),
            show_bytes(kept.bytes),
            show_duration(Duration::from_millis(kept.age))
        ));
    }
    let summary = json!({
        "journal_bytes": store.journal_bytes(), "limit_bytes": limits.bytes, "limit_age_ms": limits.age,
        "history_bytes": store.history_bytes(), "keep_history_ms": kept.map(|kept| kept.age),
        "keep_history_bytes": kept.map(|kept| kept.bytes), "dropped": dropped,
    });
    Printer::new(env).end(Exit::Done, &text, fields(summary))
}

/// What is typed of a history: an age, a size, or off. What is not said is as for the journal.
fn keeping(text: &str, limits: JournalLimits) -> Result<Option<KeepHistory>, CliError> {
    let JournalLimits { bytes, age } = limits;
    if text == "off" {
        return Ok(None);
    }
    let (lasts, size) = (parse_duration(text), parse_bytes(text));
    match (lasts, size) {
        (Ok(lasts), _) => Ok(Some(KeepHistory { age: millis(lasts), bytes })),
        (_, Ok(bytes)) => Ok(Some(KeepHistory { age, bytes })),
        (Err(_), Err(_)) => {
            Err(CliError::new("usage.limit", format!("`{text}` is neither an age nor a size; 30d, 256MiB or off is")))
        }
    }
}

/// Which collection a key is of, where there are several.
fn place(store: &Store, id: CollectionId) -> String {
    let definition = store.definition();
    let several = definition.data().count() > 1;
    let named = definition.collections.get(usize::from(id.0)).filter(|_| several || !definition.is_data(id));
    named.map(|collection| format!(" in {}", collection.name)).unwrap_or_default()
}

/// How a run stands, and the undo that undoes it or has undone it.
fn state<'r>(store: &Store, id: RunId, run: &'r Run) -> (&'r str, Option<Undoing>) {
    let unfinished = run.undone.filter(|undone| !undone.done);
    let undone = store.undone(id).or(unfinished);
    let state = match (undone, &run.end) {
        _ if run.header.kind == RunKind::Written => "kept",
        (Some(undone), _) if undone.done => "undone",
        (Some(_), _) => "being undone",
        // So undos ended in earlier releases, whether they stand or not.
        (None, Some(end)) if run.header.kind.undoes().is_some() && end.verdict == "undone" => "done",
        (None, Some(end)) => &end.verdict,
        (None, None) if run.header.kind == RunKind::Pushed => "goes on",
        (None, None) => "not ended",
    };
    (state, undone)
}

fn line(store: &Store, id: RunId, run: &Run) -> String {
    let peer = if run.header.peer.is_empty() { String::new() } else { format!(" with {}", run.header.peer) };
    let undoes = run.header.kind.undoes().map(|run| format!(" of run {run}")).unwrap_or_default();
    let (entries, overwritten) = (show_count(run.entries), show_count(run.overwritten));
    let (kind, bytes) = (run.header.kind.name(), show_bytes(run.bytes));
    let ago = show_duration(Duration::from_millis(now_ms().saturating_sub(run.header.started)));
    let policy = if run.header.policy.is_empty() { String::new() } else { format!("\t{}", run.header.policy) };
    let state = match state(store, id, run) {
        (state, Some(undone)) if undone.skipped > 0 => {
            format!("{state} by run {}, {} skipped", undone.by, show_count(undone.skipped))
        }
        (state, Some(undone)) => format!("{state} by run {}", undone.by),
        (state, None) => state.to_owned(),
    };
    format!(
        "{id}\t{kind}{undoes}{peer}\t{entries} changes, {overwritten} of known keys\t{state}\t{ago} ago\t{bytes}{policy}"
    )
}

fn object(store: &Store, id: RunId, run: &Run) -> Value {
    let (state, undone) = state(store, id, run);
    json!({
        "t": "run", "run": id.to_string(), "kind": run.header.kind.name(), "peer": run.header.peer,
        "undoes": run.header.kind.undoes().map(|run| run.to_string()), "opener": run.header.opener,
        "policy": run.header.policy, "started_ms": run.header.started,
        "ended_ms": run.end.as_ref().map(|end| end.ended), "state": state, "changes": run.entries,
        "overwritten": run.overwritten, "journal_bytes": run.bytes,
        "undone_by": undone.map(|undone| undone.by.to_string()),
    })
}
