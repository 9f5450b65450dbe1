//! `reknit repair A B`: makes two stores equal; without `--apply` it prints what that would do.

use reknit_core::session::{Intent, Verdict};
use serde_json::json;

use super::{diff, plan, sides};
use crate::cli::args::{Repair, To};
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};
use crate::core::policy::{Judgement, Why};
use crate::store::Store;

/// Conflicts of a collection that are looked at after a repair.
const CONFLICTS_MAX: usize = 10_000;
/// Of those that cannot be judged, so many are named.
const SAMPLES: u64 = 3;

pub(crate) fn run(args: &Repair, env: &mut Env) -> Result<Exit, CliError> {
    if args.mirror && args.to == To::Both {
        let message = "--mirror makes one side exactly the other: name it with --to a or --to b";
        return Err(CliError::refused("repair.mirror-direction", message));
    }
    if args.plan.is_some() {
        return plan::run(args, env);
    }
    if args.apply { apply(args, env) } else { preview(args, env) }
}

fn apply(args: &Repair, env: &mut Env) -> Result<Exit, CliError> {
    let mirror = args.mirror.then_some(args.to);
    // A mirror's new versions must reach the other side too, whose content they leave as it is.
    let to = if args.mirror { To::Both } else { args.to };
    let intent = |swapped| Intent::Repair(sides::direction(to, swapped));
    let brakes = Some(sides::brakes::typed(&args.brakes)?);
    let ran = sides::run(env, &args.sides, intent, sides::Asked { mirror, brakes, picked: None }, &mut |_, _| {})?;
    if let Some(braked) = &ran.report.outcome.braked {
        return sides::brakes::stopped(env, &ran, braked, 0);
    }
    let (to_a, to_b) = ran.moves();
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
    for (side, run) in [(&args.sides.a, ran.runs().0), (&args.sides.b, ran.runs().1)] {
        if let Some(run) = run {
            text.push_str(&format!("\nto undo it in {side}: reknit runs undo {side} {run}"));
        }
    }
    for (collection, key, reason) in &outcome.refused {
        let name = ran.collections.get(usize::from(collection.0)).map_or("", String::as_str);
        text.push_str(&format!("\nnot stored: {} in {name}: {reason}", ran.layout.show_key(key)));
    }
    let mut summary = ran.summary();
    let (opener, responder) = &ran.stores;
    let mut exit = ran.exit();
    if let Some(store) = opener.as_ref().or(responder.as_ref()) {
        let open = Open::of(store, &ran)?;
        text.push_str(&open.text);
        // What no policy can judge is a difference that is left, though both sides hold it.
        exit = if open.failed > 0 && exit == Exit::Done { Exit::Differs } else { exit };
        summary.insert("conflicts".into(), json!({ "keys": open.keys, "failed": open.failed }));
    }
    Printer::new(env).end(exit, &text, summary)
}

/// Keys that have several versions after a repair.
#[derive(Default)]
struct Open {
    keys: u64,
    /// Those that the policy cannot judge.
    failed: u64,
    text: String,
}

impl Open {
    /// Looks at the first of each collection of the session.
    fn of(store: &Store, ran: &sides::Ran) -> Result<Open, CliError> {
        let mut open = Open::default();
        for name in &ran.scope {
            for conflict in store.collection(name)?.conflicts(None, CONFLICTS_MAX)? {
                open.keys += 1;
                if let Judgement::Open { why: Why::Failed(error), .. } = &conflict.judgement {
                    open.failed += 1;
                    if open.failed <= SAMPLES {
                        let key = ran.layout.show_key(&conflict.key);
                        open.text.push_str(&format!("\nopen conflict: {key} in {name}: {error}"));
                    }
                }
            }
        }
        if open.keys > 0 {
            let keys = show_count(open.keys);
            open.text.push_str(&format!("\n{keys} keys have several versions: reknit conflicts list STORE"));
        }
        Ok(open)
    }
}

fn preview(args: &Repair, env: &mut Env) -> Result<Exit, CliError> {
    sides::brakes::typed(&args.brakes)?;
    let ran = sides::run(env, &args.sides, |_| Intent::Diff, sides::Asked::default(), &mut |_, _| {})?;
    let (only_a, only_b, a_newer, b_newer) = ran.counted();
    let (mut to_a, mut to_b) = (only_b + b_newer, only_a + a_newer);
    let counts = &ran.report.outcome.counts;
    let undirected = counts.versions + counts.content;
    let all = counts.differences();
    match (args.to, args.mirror) {
        (To::A, true) => (to_a, to_b) = (all, 0),
        (To::B, true) => (to_a, to_b) = (0, all),
        (To::A, false) => to_b = 0,
        (To::B, false) => to_a = 0,
        (To::Both, _) => {}
    }
    let left = all - (to_a + to_b).min(all) - if args.to == To::Both { undirected } else { 0 };
    let mut text = format!("{}{} ({})", ran.verdict(), diff::described(&ran), ran.cost());
    if ran.report.outcome.verdict != Verdict::InSync {
        let (a, b) = (show_count(to_a), show_count(to_b));
        text.push_str(&format!("\nwould write {a} records to a and {b} to b"));
        if left > 0 {
            text.push_str(&format!("; {} differences would be left", show_count(left)));
        }
        text.push_str("; wrote 0 records, add --apply to write");
    }
    let mut summary = ran.summary();
    summary.insert("applied".into(), json!(false));
    summary.insert("would_write".into(), json!({ "a": to_a, "b": to_b, "left": left }));
    Printer::new(env).end(ran.exit(), &text, summary)
}
