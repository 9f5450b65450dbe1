//! `reknit repair A B`: makes two stores equal.
//!
//! What that would do is told by [`preview`], and written down by [`super::plan`].

mod ordered;
mod preview;
mod script;
pub(super) mod tables;

use reknit_core::difference::{Resolution, Side as Seen};
use reknit_core::record::Keeps;
use reknit_core::session::{Intent, Verdict};
use reknit_core::{CollectionId, Definition, Profile};
use serde_json::{Map, Value, json};

use super::{diff, plan, sides};
use crate::cli::args::{Preferred, Repair, To};
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::units::show_count;
use crate::cli::waiting::Conflicts;
use crate::cli::{CliError, Exit};

/// Refuses what is never done of such sides, whatever they hold.
///
/// # Errors
/// `repair.direction`, `repair.tables`, and the others of what was asked for together.
pub(crate) fn admit(args: &Repair) -> Result<(), CliError> {
    if sides::are_tables(&args.sides) {
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
    let planned = args.plan.as_ref().filter(|_| !sides::are_tables(&args.sides));
    let alone = if args.mirror { Some("--mirror") } else { planned.map(|_| "--plan") };
    let alone = alone.or_else(|| (args.to() != To::Both).then_some("--to"));
    if let (Some(_), Some(other)) = (args.prefer, alone) {
        let message = format!("--prefer writes new versions to both sides, and cannot be had with {other}");
        return Err(CliError::refused("repair.prefer", message));
    }
    Ok(())
}

pub(crate) fn run(args: &Repair, env: &mut Env) -> Result<Exit, CliError> {
    sides::refuse_one_table(&args.sides)?;
    admit(args)?;
    if args.plan.is_some() {
        return plan::run(args, env);
    }
    match args.apply {
        true if args.among.deletes_later => ordered::run(args, env),
        true => apply(args, env, None),
        false => preview::run(args, env),
    }
}

/// Whether one side is made exactly the other.
pub(super) fn exactly(args: &Repair) -> bool {
    args.mirror || args.delete && args.to() != To::Both
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
    for line in sides::told_caught_up(&args.sides, ran.caught_up(), ran.strays()) {
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

/// How a repair resolves the differences of a collection; `definition` is none where no store is here: of tables, and of two peers,
/// where each key is counted for the side that is older.
pub(super) fn resolution(
    args: &Repair,
    definition: Option<&Definition>,
    collection: CollectionId,
    swapped: bool,
) -> Resolution {
    let direction = sides::direction(args.to(), swapped);
    Resolution {
        mine: direction.writes(Seen::Mine),
        theirs: direction.writes(Seen::Theirs),
        mirror: exactly(args).then(|| sides::seen(args.to(), swapped)),
        prefer: args.prefer.map(|side| sides::seen(Preferred::side(side), swapped)),
        profile: definition.map_or(Profile::Content, |definition| definition.profile),
        keeps: definition.map_or(Keeps::Newest, |definition| definition.keeps(collection)),
    }
}

/// A line on a mirror whose source is written too, so many records.
pub(super) fn told_source(args: &Repair, to_a: u64, to_b: u64) -> String {
    let (source, mirrored, written) = if args.to() == To::A { ("b", "a", to_b) } else { ("a", "b", to_a) };
    match exactly(args) && written > 0 {
        true => format!(
            "\n{mirrored} becomes {source} by new versions, which go to {source} too and leave its content as it is"
        ),
        false => String::new(),
    }
}
