//! `reknit diff A B`: every difference, exact and classified.

use reknit_core::difference::Difference;
use reknit_core::session::{Intent, Verdict};
use serde_json::json;

use super::sides;
use crate::cli::args::{Diff, Sides};
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};

/// Differences that are held until they can be printed; the rest is counted.
const HELD_MAX: usize = 1_000_000;

pub(crate) fn run(args: &Diff, env: &mut Env) -> Result<Exit, CliError> {
    if !args.more.is_empty() {
        let Sides { a, b, .. } = &args.sides;
        let more = args.more.join(" ");
        let message = format!(
            "a diff lists what two sides differ in, and {} were typed; nothing was compared; `reknit check {a} {b} {more}` tells which of \
             them is the odd one out in which ranges, and a diff of that one with another every key",
            args.more.len() + 2
        );
        return Err(CliError::new("usage.sides", message));
    }
    let limit = args.limit.map_or(HELD_MAX, |limit| usize::try_from(limit).unwrap_or(HELD_MAX)).min(HELD_MAX);
    let mut held: Vec<Difference> = Vec::new();
    let mut keep = |difference: &Difference, _: bool| {
        if held.len() < limit {
            held.push(difference.clone());
        }
    };
    let asked = sides::Asked { since: Some(false), ..sides::Asked::default() };
    let ran = sides::run(env, &args.sides, |_| Intent::Diff, asked, &mut keep)?;
    let (opener, responder) = &ran.stores;
    let mut printer = Printer::new(env);
    for difference in &held {
        let value = |store: &crate::store::Store| {
            let name = &ran.collections[usize::from(difference.collection.0)];
            let value = store.collection(name).and_then(|collection| collection.get(&difference.key));
            value.ok().flatten().map(|value| ran.layouts.of(difference.collection).show_value(&value))
        };
        let values = args.values.then(|| {
            let (mine, theirs) = (opener.as_ref().and_then(value), responder.as_ref().and_then(value));
            if ran.swapped { (theirs, mine) } else { (mine, theirs) }
        });
        printer.item(
            || {
                let line = sides::line(difference, ran.swapped, &ran.layouts);
                let Some((a, b)) = &values else { return line };
                let shown = |side: &str, value: &Option<String>| value.as_ref().map(|v| format!("\n    {side}: {v}"));
                [Some(line), shown("a", a), shown("b", b)].into_iter().flatten().collect()
            },
            || {
                let mut object = sides::object(difference, ran.swapped, &ran.layouts, &ran.collections);
                if let Some((a, b)) = &values {
                    object["values"] = json!({ "a": a, "b": b });
                }
                object
            },
        )?;
    }
    let text = format!("{}{} ({})", ran.verdict(), described(&ran), ran.cost());
    let mut summary = ran.summary();
    summary.insert("printed".into(), json!(held.len()));
    printer.end(ran.exit(), &text, summary)
}

/// How many keys differ, by kind.
pub(crate) fn described(ran: &sides::Ran) -> String {
    if ran.report.outcome.verdict == Verdict::InSync {
        return String::new();
    }
    let counts = &ran.report.outcome.counts;
    let (only_a, only_b, a_newer, b_newer) = ran.counted();
    let [newer_a, newer_b, apart] = match ran.since {
        Some(_) => ["changed in a", "changed in b", "changed on both sides"],
        None => ["newer in a", "newer in b", "with different content"],
    };
    let kinds = [
        (only_a, "only in a"),
        (only_b, "only in b"),
        (a_newer, newer_a),
        (b_newer, newer_b),
        (counts.versions, "under different versions"),
        (counts.content, apart),
        (counts.tolerated, "within tolerance"),
    ];
    let kinds = kinds.iter().filter(|(n, _)| *n > 0).map(|(n, words)| format!("{} {words}", show_count(*n)));
    let kinds: Vec<String> = kinds.collect();
    let concurrent = match counts.concurrent {
        0 => String::new(),
        n => format!("; {} of them concurrent", show_count(n)),
    };
    if kinds.is_empty() { String::new() } else { format!(": {}{concurrent}", kinds.join(", ")) }
}
