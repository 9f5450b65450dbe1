//! `reknit drift A B`: what differs now against what did then: what is new, healed, still open, and since when.
//!
//! What is remembered, and what became of it, is the core's.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reknit_core::drift::{Change, Changes, History, KEY_BYTES_MAX, Picture, Seen};
use reknit_core::session::Intent;
use serde_json::{Map, Value, json};

use super::sides::{self, history};
use crate::cli::args::Drift;
use crate::cli::env::Env;
use crate::cli::new_file::NewFile;
use crate::cli::output::{Printer, fields};
use crate::cli::units::{parse_duration, show_count, show_duration};
use crate::cli::{CliError, Exit};
use crate::format::Layout;

/// Whether both sides are files in which something can be saved, and no stores or tables.
pub(crate) fn are_saved(args: &Drift, env: &Env) -> bool {
    let is_file = |typed: &String| !typed.contains("://") && env.path(Path::new(typed)).is_file();
    is_file(&args.sides.a) && is_file(&args.sides.b)
}

/// The side of which nothing is there, where the other one is a file in which something may be saved.
fn missing(args: &Drift, env: &Env) -> Option<PathBuf> {
    let here = |typed: &String| {
        let elsewhere = typed.contains("://") || sides::tables::is_table(typed);
        (!elsewhere).then(|| env.path(Path::new(typed)))
    };
    let (a, b) = (here(&args.sides.a)?, here(&args.sides.b)?);
    match (a.exists(), b.exists()) {
        (true, false) if a.is_file() => Some(b),
        (false, true) if b.is_file() => Some(a),
        _ => None,
    }
}

/// Compares the sides, or two files that were saved.
pub(crate) fn run(args: &Drift, env: &mut Env) -> Result<Exit, CliError> {
    if are_saved(args, env) {
        return offline(args, env);
    }
    if let Some(missing) = missing(args, env) {
        let message = format!(
            "there is no file {}; two that drift --save wrote are compared, and nothing was",
            missing.display()
        );
        return Err(CliError::new("drift.file", message));
    }
    let since = args.since.as_deref().map(parse_duration).transpose()?;
    let file = args.save.as_ref().map(|file| env.path(file));
    if let Some(file) = &file {
        let refused = |message: String| Err(CliError::new("drift.file", format!("{message}; nothing was compared")));
        match (env.table.is_some(), file.exists()) {
            (true, _) => return refused("of two databases --save takes one table; name it".into()),
            (false, true) => return refused(format!("{} is there already, and is never replaced", file.display())),
            (false, false) => {}
        }
    }
    let asked = sides::Asked { since: Some(false), tells_history: true, ..sides::Asked::default() };
    let ran = sides::run(env, &args.sides, |_| Intent::Diff, asked, &mut |_, _| {})?;
    let (mut summary, verdict, exit) = (ran.summary(), ran.verdict(), ran.exit());
    let Some(history) = ran.history? else {
        let text = format!("{verdict}; what became of earlier differences cannot be told");
        return Printer::new(env).end(exit, &text, summary);
    };
    let Some(now) = history.pictures().back() else {
        return Err(CliError::new("defect", "what was just seen is not in the history"));
    };
    if let Some(file) = &file {
        let mut alone = History::new(history.pair.clone());
        alone.add(now.clone());
        let saved = NewFile::create(file, &mut env.err).and_then(|mut new| {
            new.write_all(&alone.to_bytes())?;
            new.finish()
        });
        saved.map_err(|cause| {
            CliError::new("drift.file", format!("{} cannot be written: {cause}; nothing is there", file.display()))
        })?;
        summary.insert("saved".into(), json!(file.display().to_string()));
    }
    let asked = since.map_or(now.at, |since| now.at.saturating_sub(millis(since)));
    let told = Told { history: &history, then: history.then(asked), now };
    let late = told.then.filter(|then| then.at > asked).is_some();
    told.print(env, args.limit, exit, (&verdict, late), summary)
}

/// Compares what was saved; no store is touched.
fn offline(args: &Drift, env: &mut Env) -> Result<Exit, CliError> {
    if args.since.is_some() || args.save.is_some() {
        let message = "two saved files are compared as they are; --since and --save are for stores and tables";
        return Err(CliError::new("drift.file", message));
    }
    let saved = |typed: &str| {
        let path = env.path(Path::new(typed));
        let found = history::read(&path).map_err(|error| CliError { id: "drift.file", ..error })?;
        let found = found.map_err(|error| {
            let message = format!("{}: {error}: no file that drift --save wrote; nothing was compared", path.display());
            CliError::new("drift.file", message)
        })?;
        let picture = found.pictures().back().cloned();
        picture.map(|picture| (found, picture)).ok_or_else(|| {
            CliError::new("drift.file", format!("{} holds nothing; nothing was compared", path.display()))
        })
    };
    let (one, other) = (saved(&args.sides.a)?, saved(&args.sides.b)?);
    if !one.0.pair.is(&other.0.pair) {
        let [(a, b), (c, d)] = [&one.0.pair, &other.0.pair].map(|pair| (&pair.a, &pair.b));
        let message = format!(
            "the files are of two pairs, or were compared on other terms: {a} and {b}, {c} and {d}; nothing was compared"
        );
        return Err(CliError::new("drift.pair", message));
    }
    let ((_, then), (history, mut now)) = if one.1.at <= other.1.at { (one, other) } else { (other, one) };
    // What the earlier file knows goes on.
    for (print, seen) in &mut now.keys {
        seen.first = then.keys.get(print).map_or(seen.first, |earlier| earlier.first.min(seen.first));
    }
    let exit = if now.total > 0 { Exit::Differs } else { Exit::Done };
    let verdict = if now.total > 0 { "differed" } else { "were equal" };
    Told { history: &history, then: Some(&then), now: &now }.print(env, args.limit, exit, (verdict, false), Map::new())
}

/// Two moments of a pair.
struct Told<'a> {
    history: &'a History,
    then: Option<&'a Picture>,
    now: &'a Picture,
}

impl Told<'_> {
    fn print(
        &self,
        env: &mut Env,
        limit: Option<u64>,
        exit: Exit,
        (verdict, late): (&str, bool),
        mut summary: Map<String, Value>,
    ) -> Result<Exit, CliError> {
        let pair = &self.history.pair;
        let layout = Layout::from_bytes(&pair.layout);
        let layout = layout.map_err(|error| CliError::new("drift.file", error.to_string()))?;
        let nothing = Picture::new(0);
        let changes = Changes::between(self.then.unwrap_or(&nothing), self.now);
        let mut keys: Vec<(Change, &Seen, u64)> =
            changes.keys.iter().map(|(print, (change, seen))| (*change, *seen, *print)).collect();
        keys.sort_by_key(|(change, seen, print)| (*change, seen.first, *print));
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let name = |seen: &Seen, print: u64| match seen.key.is_empty() {
            true => format!("(longer than {KEY_BYTES_MAX} bytes) {print:016x}"),
            false => layout.show_key(&seen.key),
        };
        let ago = |at| show_duration(Duration::from_millis(self.now.at.saturating_sub(at)));
        let mut printer = Printer::new(env);
        for (change, seen, print) in keys.iter().take(limit) {
            let op = sides::op(seen.kind, false);
            printer.item(
                || format!("{}\t{}\t{}, first seen {} ago", word(*change), name(seen, *print), op, ago(seen.first)),
                || {
                    let hex: String = seen.key.iter().map(|byte| format!("{byte:02x}")).collect();
                    json!({
                        "t": "drift_key",
                        "change": word(*change),
                        "op": op,
                        "collection": pair.collections.get(usize::from(seen.collection.0)),
                        "key": name(seen, *print),
                        "key_hex": if seen.key.is_empty() { None } else { Some(hex) },
                        "first_ms": seen.first,
                    })
                },
            )?;
        }
        let [new, open, healed] = [Change::New, Change::Open, Change::Healed].map(|change| changes.count(change));
        let oldest = self.now.keys.iter().min_by_key(|(print, seen)| (seen.first, **print));
        let least = if changes.exact { "" } else { "at least " };
        let mut text = match self.then {
            None => {
                format!("{verdict}: {} differ; nothing was remembered of these two before", show_count(self.now.total))
            }
            Some(then) => {
                let counts = [(new, "new"), (healed, "healed"), (open, "still open")];
                let counts = counts.map(|(n, word)| format!("{least}{} {word}", show_count(n))).join(", ");
                let late = if late { ", which is all that is remembered" } else { "" };
                format!("{verdict}: {counts}, against {} ago{late}", ago(then.at))
            }
        };
        if let Some((print, seen)) = oldest {
            text += &format!("; the oldest, {}, was first seen {} ago", name(seen, *print), ago(seen.first));
        }
        summary.insert("printed".into(), json!(keys.len().min(limit)));
        summary.extend(fields(json!({ "drift": {
            "a": pair.a,
            "b": pair.b,
            "then_ms": self.then.map(|then| then.at),
            "now_ms": self.now.at,
            "known_ms": self.history.pictures().front().map(|first| first.at),
            "differed": self.then.map(|then| then.total),
            "differ": self.now.total,
            "new": new,
            "healed": healed,
            "open": open,
            "at_least": !changes.exact,
            "oldest_ms": oldest.map(|(_, seen)| seen.first),
            "oldest_key": oldest.map(|(print, seen)| name(seen, *print)),
        }})));
        printer.end(exit, &text, summary)
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::New => "new",
        Change::Open => "open",
        Change::Healed => "healed",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
