//! `reknit repair A B` without `--apply`: how much it would write, and whether the brakes would let it.
//!
//! It is told from the differences alone; a plan has them key by key.

use reknit_core::difference::{Difference, Kind, Resolution};
use reknit_core::session::{Intent, Verdict};
use serde_json::json;

use super::{diff, exactly, plan, preferred, resolution, script, sides, tables, told_source};
use crate::cli::args::{Repair, To};
use crate::cli::commands::sides::brakes::{self, Foreseen};
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};

/// What a repair would do.
#[derive(Default)]
struct Would {
    to_a: u64,
    to_b: u64,
    left: u64,
    /// Rows that stay though the other side has deleted them, which are left too.
    spared: u64,
    foreseen: Foreseen,
}

pub(super) fn run(args: &Repair, env: &mut Env) -> Result<Exit, CliError> {
    let limits = brakes::typed(&args.brakes)?;
    let stores = if sides::are_tables(&args.sides) { None } else { Some(plan::Here::of(env, &args.sides)?) };
    let definition = stores.as_ref().and_then(|here| here.any()).map(|store| store.definition().clone());
    let mut would = Would::default();
    let mut script = args.sql.as_ref().map(|_| script::Collected::default());
    let mut found = |difference: &Difference, swapped: bool| {
        if let Some(script) = &mut script {
            script.add(args, difference);
        }
        if tables::is_spared(args, difference) {
            would.spared += 1;
        } else {
            let how = resolution(args, definition.as_deref(), difference.collection, swapped);
            would.add(difference, &how, swapped);
        }
    };
    let (writing, since) = (tables::writing(args)?, tables::since(args));
    let asked = sides::Asked { tables: writing, since, newest: args.newest.clone(), ..sides::Asked::default() };
    let ran = sides::run(env, &args.sides, |_| Intent::Diff, asked, &mut found)?;
    let left = would.left + would.spared;
    let mut text = format!("{}{} ({})", ran.verdict(), diff::described(&ran), ran.cost());
    let mut summary = ran.summary();
    if ran.report.outcome.verdict != Verdict::InSync {
        let (a, b) = (show_count(would.to_a), show_count(would.to_b));
        text.push_str(&format!("\nwould write {a} records to a and {b} to b"));
        if left > tables::kept(args, &ran) {
            text.push_str(&format!("; {} differences would be left", show_count(left)));
        }
        text.push_str(match &script {
            Some(_) => "; wrote 0 records",
            None => "; wrote 0 records, add --apply to write",
        });
        text.push_str(&told_source(args, would.to_a, would.to_b));
        text.push_str(&preferred(args, &ran, "would win"));
    }
    if let Some(script) = script {
        if let Some(much) = script.too_much(args, &ran)? {
            return much.tell(env, 0, summary);
        }
        script.write(args, env, &ran, (&mut text, &mut summary))?;
    } else if let Some(much) = would.foreseen.too_much(&limits, exactly(args), &ran) {
        text.push_str(&format!("\nthe brakes would stop it: {}", much.message(env.job.as_deref(), 0)));
        summary.insert("braked".into(), much.object());
    }
    for line in &ran.notes {
        text.push_str(&format!("\n{line}"));
    }
    tables::told_since(args, &ran, would.spared, &mut text);
    let counts = &ran.report.outcome.counts;
    let exit = tables::with_kept(args, &ran, counts.differences() - counts.tolerated, ran.exit(), &mut text);
    summary.insert("applied".into(), json!(false));
    summary.insert("would_write".into(), json!({ "a": would.to_a, "b": would.to_b, "left": left }));
    Printer::new(env).end(exit, &text, summary)
}

impl Would {
    fn add(&mut self, difference: &Difference, how: &Resolution, swapped: bool) {
        let (mine, theirs) = difference.writes_in_all(how);
        let (a, b) = if swapped { (theirs, mine) } else { (mine, theirs) };
        self.to_a += u64::from(a);
        self.to_b += u64::from(b);
        self.left += u64::from(!(a || b || difference.kind == Kind::Tolerated));
        for (nth, to) in [To::A, To::B].into_iter().enumerate() {
            let loss = difference.loss(sides::seen(to, swapped), how);
            self.foreseen.add(nth, (difference.collection, &difference.key), loss);
        }
    }
}
