//! `reknit repair A B`: makes two stores equal; without `--apply` it prints what that would do.

mod ordered;
mod script;
pub(super) mod tables;

use reknit_core::Profile;
use reknit_core::difference::{Difference, Kind, Side as Seen};
use reknit_core::session::{Intent, Verdict};
use serde_json::{Map, Value, json};

use super::{diff, plan, sides};
use crate::cli::args::{Preferred, Repair, To};
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::units::show_count;
use crate::cli::waiting::Conflicts;
use crate::cli::{CliError, Exit};
use crate::store::Store;

pub(crate) fn run(args: &Repair, env: &mut Env) -> Result<Exit, CliError> {
    sides::refuse_one_table(&args.sides)?;
    let tables = sides::are_tables(&args.sides);
    if tables {
        tables::admit(args)?;
    } else if args.delete
        || args.ignore_extra.is_some()
        || args.write_replica
        || args.no_probe
        || args.newest.is_some()
        || args.sql.is_some()
    {
        let message = "--newest, --delete, --ignore-extra, --write-replica, --sql and --no-probe are for tables of databases; \
                       in a store a deletion is a record too, and --mirror makes one side exactly the other";
        return Err(CliError::refused("repair.tables", message));
    }
    if args.mirror && args.to() == To::Both {
        let message = "--mirror makes one side exactly the other: name it with --to a or --to b";
        return Err(CliError::refused("repair.mirror-direction", message));
    }
    let planned = args.plan.as_ref().filter(|_| !tables);
    let alone = if args.mirror { Some("--mirror") } else { planned.map(|_| "--plan") };
    let alone = alone.or_else(|| (args.to() != To::Both).then_some("--to"));
    if let (Some(_), Some(other)) = (args.prefer, alone) {
        let message = format!("--prefer writes new versions to both sides, and cannot be had with {other}");
        return Err(CliError::refused("repair.prefer", message));
    }
    if args.plan.is_some() {
        return plan::run(args, env);
    }
    match args.apply {
        true if args.among.deletes_later => ordered::run(args, env),
        true => apply(args, env, None),
        false => preview(args, env),
    }
}

/// Whether one side is made exactly the other.
pub(super) fn exactly(args: &Repair) -> bool {
    args.mirror || args.delete && args.to() != To::Both
}

/// Whether the sides hold bare content, without versions.
fn is_bare(args: &Repair, ran: &sides::Ran) -> bool {
    let bare = |store: &Store| store.definition().profile == Profile::Content;
    sides::are_tables(&args.sides) || ran.stores.0.as_ref().is_some_and(bare)
}

/// Repairs; two tables that are open as they are.
fn apply(args: &Repair, env: &mut Env, opened: Option<sides::Opened>) -> Result<Exit, CliError> {
    let mirror = exactly(args).then_some(args.to());
    // A mirror's new versions must reach the other side too, whose content they leave as it is.
    let to = if exactly(args) { To::Both } else { args.to() };
    let intent = |swapped| Intent::Repair(sides::direction(to, swapped));
    let prefer = args.prefer.map(Preferred::side);
    let brakes = Some(sides::brakes::typed(&args.brakes)?);
    let asked = sides::Asked {
        mirror,
        prefer,
        brakes,
        tables: tables::writing(args)?,
        picked: None,
        since: tables::since(args),
        newest: args.newest.clone(),
        opened,
        tells_history: false,
    };
    let ran = sides::run(env, &args.sides, intent, asked, &mut |_, _| {})?;
    if let Some(braked) = &ran.report.outcome.braked {
        return sides::brakes::stopped(env, (&args.sides, &ran), braked, 0);
    }
    let (to_a, to_b) = ran.moves();
    if ran.since.is_some() && ran.report.outcome.verdict == Verdict::Differs {
        // What was written is equal now, though the rest is not: from now on that is what changes are counted from.
        let asked = sides::Asked { since: Some(false), ..sides::Asked::default() };
        sides::run(env, &args.sides, |_| Intent::Diff, asked, &mut |_, _| {})?;
    }
    let outcome = &ran.report.outcome;
    let mut text = format!(
        "{}{}\nwrote {} records to a and {} to b ({})",
        ran.verdict(),
        diff::described(&ran),
        show_count(to_a.applied),
        show_count(to_b.applied),
        ran.cost()
    );
    if outcome.verdict == Verdict::InSync && to_a.applied + to_b.applied == 0 {
        text = format!("{}; nothing to repair ({})", ran.verdict(), ran.cost());
    }
    text.push_str(&preferred(args, &ran, "wins"));
    for (side, run) in [(&args.sides.a, ran.runs().0), (&args.sides.b, ran.runs().1)] {
        if let Some(run) = run {
            let side = sides::tables::typed_again(side);
            text.push_str(&format!("\nto undo it in {side}: reknit runs undo {side} {run}"));
        }
    }
    for line in sides::told_caught_up(&args.sides, ran.caught_up()) {
        text.push_str(&format!("\n{line}"));
    }
    for (collection, key, reason) in &outcome.refused {
        let name = ran.collections.get(usize::from(collection.0)).map_or("", String::as_str);
        text.push_str(&format!("\nnot stored: {} in {name}: {reason}", ran.layouts.of(*collection).show_key(key)));
    }
    for line in &ran.notes {
        text.push_str(&format!("\n{line}"));
    }
    let mut summary = ran.summary();
    let apart = if args.prefer.is_some() { 0 } else { outcome.counts.content };
    let left = outcome.counts.left.saturating_sub(outcome.counts.tolerated);
    tables::told_since(args, &ran, left.saturating_sub(apart), &mut text);
    let mut exit = tables::with_kept(args, &ran, left, ran.exit(), &mut text);
    tell_open(env, &ran, &mut exit, (&mut text, &mut summary))?;
    Printer::new(env).end(exit, &text, summary)
}

/// Tells which keys of a store here have several versions after it was written, and that some cannot be judged.
pub(super) fn tell_open(
    env: &mut Env,
    ran: &sides::Ran,
    exit: &mut Exit,
    (text, summary): (&mut String, &mut Map<String, Value>),
) -> Result<(), CliError> {
    let (opener, responder) = &ran.stores;
    let Some(store) = opener.as_ref().or(responder.as_ref()) else { return Ok(()) };
    let open = Conflicts::of(store, &ran.scope, usize::MAX)?;
    text.push_str(&waiting(&open, ran));
    // What no policy can judge is a difference that is left, though both sides hold it.
    if open.failed > 0 && *exit == Exit::Done {
        *exit = Exit::Differs;
        let keys = show_count(open.failed);
        let message = format!("the policy cannot judge {keys} keys, which stay open: reknit conflicts list STORE");
        env.failed = Some(("repair.unjudged", message));
    }
    summary.insert("conflicts".into(), json!({ "keys": open.keys, "failed": open.failed }));
    Ok(())
}

/// A line on the keys where one side is preferred, if it is and there are any.
fn preferred(args: &Repair, ran: &sides::Ran, wins: &str) -> String {
    let counts = &ran.report.outcome.counts;
    match (args.prefer, counts.concurrent + counts.content) {
        (None, _) | (_, 0) => String::new(),
        (Some(side), n) => {
            let (side, keys, s) = (side.name(), show_count(n), sides::plural(n));
            format!("\nthe value of {side} {wins} in {keys} key{s} written apart")
        }
    }
}

/// What is said of keys that have several versions after a repair.
fn waiting(open: &Conflicts, ran: &sides::Ran) -> String {
    let named = |(name, key, error): &(String, Vec<u8>, String)| {
        let of = ran.collections.iter().position(|known| known == name).unwrap_or_default();
        let layout = ran.layouts.at(of);
        format!("\nopen conflict: {} in {name}: {error}", layout.show_key(key))
    };
    let mut text: String = open.samples.iter().map(named).collect();
    if open.keys > 0 {
        let keys = show_count(open.keys);
        text.push_str(&format!("\n{keys} keys have several versions: reknit conflicts list STORE"));
    }
    text
}

fn preview(args: &Repair, env: &mut Env) -> Result<Exit, CliError> {
    sides::brakes::typed(&args.brakes)?;
    // Keys that were written apart, by the side whose version is the newest.
    let (mut apart_a, mut apart_b) = (0, 0);
    let mut spared = tables::Spared::default();
    let mut script = args.sql.as_ref().map(|_| script::Collected::default());
    let mut found = |difference: &Difference, swapped: bool| {
        if let Some(script) = &mut script {
            script.add(args, difference);
        }
        match difference.kind {
            Kind::Concurrent(leads) if (leads == Seen::Mine) != swapped => apart_a += 1,
            Kind::Concurrent(_) => apart_b += 1,
            _ => spared.add(args, difference),
        }
    };
    let (tables, since) = (tables::writing(args)?, tables::since(args));
    let asked = sides::Asked { tables, since, newest: args.newest.clone(), ..sides::Asked::default() };
    let ran = sides::run(env, &args.sides, |_| Intent::Diff, asked, &mut found)?;
    let (only_a, only_b, a_newer, b_newer) = ran.counted();
    let (mut to_a, mut to_b) = (only_b + b_newer, only_a + a_newer);
    let counts = &ran.report.outcome.counts;
    // Bare content has no order: it is written to the one side that is, and left where both are.
    let undirected = counts.versions + if is_bare(args, &ran) { 0 } else { counts.content };
    let all = counts.differences() - counts.tolerated;
    match (args.to(), exactly(args)) {
        (To::A, true) => (to_a, to_b) = (all, 0),
        (To::B, true) => (to_a, to_b) = (0, all),
        (To::A, false) => (to_a, to_b) = (to_a + counts.content, 0),
        (To::B, false) => (to_a, to_b) = (0, to_b + counts.content),
        (To::Both, _) => {}
    }
    let mut left = all - (to_a + to_b).min(all) - if args.to() == To::Both { undirected } else { 0 };
    if let Some(preferred) = args.prefer {
        // The newest too is superseded by a new version; bare content is written where it is not preferred.
        (to_a, to_b, left) = (to_a + apart_a, to_b + apart_b, 0);
        *(if preferred == Preferred::A { &mut to_b } else { &mut to_a }) += counts.content;
    }
    (to_a, to_b, left) = (to_a - spared.a, to_b - spared.b, left + spared.a + spared.b);
    let mut text = format!("{}{} ({})", ran.verdict(), diff::described(&ran), ran.cost());
    if ran.report.outcome.verdict != Verdict::InSync {
        let (a, b) = (show_count(to_a), show_count(to_b));
        text.push_str(&format!("\nwould write {a} records to a and {b} to b"));
        if left > tables::kept(args, &ran) {
            text.push_str(&format!("; {} differences would be left", show_count(left)));
        }
        text.push_str(match &script {
            Some(_) => "; wrote 0 records",
            None => "; wrote 0 records, add --apply to write",
        });
        text.push_str(&preferred(args, &ran, "would win"));
    }
    let mut summary = ran.summary();
    if let Some(script) = script {
        if let Some(much) = script.too_much(args, &ran)? {
            return much.tell(env, 0, summary);
        }
        script.write(args, env, &ran, (&mut text, &mut summary))?;
    }
    for line in &ran.notes {
        text.push_str(&format!("\n{line}"));
    }
    tables::told_since(args, &ran, spared.a + spared.b, &mut text);
    let exit = tables::with_kept(args, &ran, all, ran.exit(), &mut text);
    summary.insert("applied".into(), json!(false));
    summary.insert("would_write".into(), json!({ "a": to_a, "b": to_b, "left": left }));
    Printer::new(env).end(exit, &text, summary)
}
