//! `reknit apply FILE [A B]`: carries out a plan, each key only if it still is what the plan saw.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reknit_core::Definition;
use reknit_core::brakes::{Brakes, Losses, SAMPLES_MAX};
use reknit_core::journal::RunId;
use reknit_core::session::{Intent, Moves, PICKED_MAX, Picked, PickedKey, Verdict};
use serde_json::{Map, Value, json};

use super::plan::Here;
use super::repair;
use super::sides::brakes::TooMuch;
use super::sides::{self, Keyed, Ran, tables};
use crate::cli::args::{Apply, To};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::plans::{self, Header, Key, PlanReader, Tally};
use crate::cli::records::{hex, unhex};
use crate::cli::units::{parse_duration, show_count, show_duration};
use crate::cli::{CliError, Exit};
use crate::clock::now_ms;
use crate::node::Home;
use crate::store::linked::Linked;

/// A plan whose seals all hold.
struct Plan {
    header: Header,
    tally: Tally,
    /// Some keys of each side that will be deleted, and that will be overwritten.
    samples: [[Vec<String>; 2]; 2],
}

/// What became of the plan's keys.
#[derive(Default)]
struct Sum {
    keys: u64,
    skipped: Vec<(usize, Vec<u8>)>,
    moved: u64,
    refused: u64,
    to_a: Moves,
    to_b: Moves,
    runs: Vec<(String, String)>,
    /// The runs by which the sides caught up before it.
    caught_up: (Option<RunId>, Option<RunId>),
    /// Records that were set apart then.
    strays: (u64, u64),
    /// Rows that were not stored, with the reasons, and what else is to be known, a line each.
    lines: Vec<String>,
}

/// Takes the sides from the plan where none are typed; whether it was altered is seen when it is read, before anything is done.
pub(crate) fn take_sides(args: &mut Apply, dir: &Path) -> Result<(), CliError> {
    match (args.sides.a.is_empty(), args.sides.b.is_empty()) {
        (false, false) => return Ok(()),
        (true, true) => {}
        _ => {
            let message = "apply takes both sides, or none to take them from the plan; nothing was changed";
            return Err(CliError::new("usage.sides", message));
        }
    }
    let header = PlanReader::peek(&dir.join(&args.file))?;
    for (name, side) in [("a", &mut args.sides.a), ("b", &mut args.sides.b)] {
        let unnamed = || CliError::refused("plan.malformed", format!("{} names no side {name}", args.file.display()));
        *side = header[name].as_str().ok_or_else(unnamed)?.into();
    }
    Ok(())
}

pub(crate) fn run(args: &Apply, env: &mut Env) -> Result<Exit, CliError> {
    let path = env.path(&args.file);
    let home = env.home()?;
    let brakes = sides::brakes::typed(&args.brakes)?;
    let plan = read(&path, &home)?;
    let age = Duration::from_millis(now_ms().saturating_sub(plan.header.made_at_ms));
    let made = format!(
        "plan {} of {} keys, made {} ago by {} of a = {} and b = {}",
        plan.header.id,
        show_count(plan.tally.keys),
        show_duration(age),
        plan.header.made_by,
        plan.header.a,
        plan.header.b
    );
    if !env.global.quiet {
        writeln!(env.err, "reknit: {made}")?;
    }
    if age > parse_duration(&args.max_age)? {
        let message = format!("the {made}, is older than {}; make another, or say --max-age", args.max_age);
        return Err(CliError::refused("plan.old", message));
    }
    if plans::is_applied(&home, &plan.header.id)?.is_some() {
        return Err(CliError::refused(
            "plan.applied",
            format!("the {made}, was carried out already; make another with --plan"),
        ));
    }
    sides::refuse_one_table(&args.sides)?;
    let here;
    let mut pair = None;
    let definition = if sides::are_tables(&args.sides) {
        let [a, b] = tables::pair(env, (&args.sides.a, &args.sides.b), &args.sides.terms.terms()?)?;
        about(&plan.header, (a.table().place(), b.table().place()))?;
        let definition = a.index().definition().clone();
        pair = Some([a, b]);
        definition
    } else {
        here = Here::open(env, &args.sides)?;
        let Some(store) = here.any() else { return Err(CliError::new("defect", "no side is here")) };
        store.definition().clone()
    };
    fits(&plan, &definition, args)?;
    if let Some(much) = too_much(&plan, &brakes) {
        return much.tell(env, 0, fields(json!({ "plan": plan.header.id, "keys": plan.tally.keys })));
    }
    carry_out(args, env, &home, &path, (&plan, &definition, pair), brakes)
}

/// Reads all of the plan once: nothing is done of one that was altered anywhere.
fn read(path: &Path, home: &Home) -> Result<Plan, CliError> {
    let first = PlanReader::peek(path)?;
    let me = home.identity()?.peer().to_string();
    if let Some(by) = first["made_by"].as_str().filter(|by| *by != me) {
        let message =
            format!("the plan {} was made by {by}, this home is {me}: only it can carry it out", path.display());
        return Err(CliError::refused("plan.foreign", message));
    }
    let mut reader = PlanReader::open(path, home)?;
    let malformed = || CliError::refused("plan.malformed", format!("{} is no whole plan", path.display()));
    let header = Header::parse(reader.next()?.ok_or_else(malformed)?)?;
    let (mut last, mut keys) = (None, 0);
    let mut samples: [[Vec<String>; 2]; 2] = Default::default();
    while let Some(line) = reader.next()? {
        keys += u64::from(line["t"] == "key");
        for (side, samples) in ["loses_a", "loses_b"].into_iter().zip(&mut samples) {
            let kind = ["deleted", "changed"].into_iter().position(|kind| line[side] == kind);
            if let (Some(kind), Some(key)) = (kind, line["key"].as_str())
                && samples[kind].len() < SAMPLES_MAX
            {
                samples[kind].push(key.into());
            }
        }
        last = Some(line);
    }
    let tally = Tally::parse(last.ok_or_else(malformed)?)?;
    if tally.keys != keys {
        return Err(malformed());
    }
    Ok(Plan { header, tally, samples })
}

/// Whether the plan is about these two tables: others may have the same columns.
fn about(header: &Header, (a, b): (&str, &str)) -> Result<(), CliError> {
    if (header.a.as_str(), header.b.as_str()) == (a, b) {
        return Ok(());
    }
    let message = format!("the plan is about a = {} and b = {}, these are a = {a} and b = {b}", header.a, header.b);
    Err(CliError::refused("plan.dataset", message))
}

/// Whether the plan is about the dataset of these sides.
fn fits(plan: &Plan, definition: &Definition, args: &Apply) -> Result<(), CliError> {
    let Header { dataset, dataset_id, definition: hash, .. } = &plan.header;
    if *dataset_id != definition.id.to_string() {
        let message = match sides::are_tables(&args.sides) {
            true => "the two tables are not compared on what the plan was made of: their columns or key are others, or the flags \
                     that say which"
                .into(),
            false => format!("the plan is about the dataset {dataset}, the store holds {}", definition.name),
        };
        return Err(CliError::refused("plan.dataset", message));
    }
    if *hash != definition.hash().to_string() {
        let message = format!(
            "the definition of the dataset {dataset} has changed since the plan was made; make another with --plan"
        );
        return Err(CliError::refused("plan.dataset", message));
    }
    if !args.sides.collections.is_empty() {
        return Err(CliError::refused("plan.collections", "a plan says itself which collections it is about"));
    }
    Ok(())
}

/// A side that the whole plan would lose more than it may.
fn too_much(plan: &Plan, brakes: &Brakes) -> Option<TooMuch> {
    let Tally { loses_a, loses_b, records_a, records_b, .. } = &plan.tally;
    let sides = [("a", loses_a, *records_a, *records_b), ("b", loses_b, *records_b, *records_a)];
    for ((side, loses, records, others), [deleted, changed]) in sides.into_iter().zip(&plan.samples) {
        let losses = Losses { deleted: loses.deleted, changed: loses.changed };
        let allowed = Losses::allowed(brakes, records);
        let shrank =
            plan.header.mirror && !brakes.shrunken && others < records.div_ceil(2) && losses != Losses::default();
        if !losses.within(&allowed) || shrank {
            let (deleted, changed, shrunken) = (deleted.clone(), changed.clone(), shrank.then_some(others));
            let before = Losses::default();
            return Some(TooMuch { side, records, losses, before, allowed, shrunken, deleted, changed });
        }
    }
    None
}

fn carry_out(
    args: &Apply,
    env: &mut Env,
    home: &Home,
    path: &Path,
    (plan, definition, pair): (&Plan, &Definition, Option<[Linked; 2]>),
    brakes: Brakes,
) -> Result<Exit, CliError> {
    let header = &plan.header;
    let tables = pair.is_some();
    let keyed = pair.map(|pair| Keyed::of(env, &args.sides, pair)).transpose()?;
    let mut sum = Sum::default();
    let mut reader = PlanReader::open(path, home)?;
    let mut last: Option<Ran> = None;
    let mut exit = Exit::Done;
    'plan: loop {
        let keys = some(&mut reader, definition)?;
        if keys.is_empty() {
            break;
        }
        for (to, mirror, keys) in parts(header, tables, keys) {
            sum.keys += keys.len() as u64;
            let looked = |keyed: &Keyed| keyed.look(&keys.iter().map(|key| key.key.clone()).collect::<Vec<_>>());
            let opened = keyed.as_ref().map(looked).transpose()?;
            let name = header.id.clone();
            let picked = move |swapped: bool| {
                let key = |key: &Ready| {
                    let (mine, theirs) = if swapped { (key.b, key.a) } else { (key.a, key.b) };
                    PickedKey { collection: key.collection, key: key.key.clone(), mine, theirs }
                };
                Arc::new(Picked { name: name.clone(), keys: keys.iter().map(key).collect() })
            };
            let asked = sides::Asked {
                mirror,
                brakes: Some(Brakes { shrunken: brakes.shrunken || tables, ..brakes }),
                picked: Some(Box::new(picked)),
                opened,
                tables: mirror.filter(|_| tables).map(|side| writing(args, plan, side)).transpose()?,
                ..Default::default()
            };
            let intent = |swapped| Intent::Repair(sides::direction(to, swapped));
            let ran = sides::run(env, &args.sides, intent, asked, &mut |_, _| {})?;
            if let Some(braked) = &ran.report.outcome.braked {
                return sides::brakes::stopped(env, (&args.sides, &ran), braked, sum.to_a.applied + sum.to_b.applied);
            }
            sum.add(&ran);
            exit = ran.exit();
            last = Some(ran);
            if !matches!(exit, Exit::Done | Exit::Differs) {
                break 'plan;
            }
        }
    }
    let Some(ran) = last else {
        return Printer::new(env).end(Exit::Done, "the plan has no keys; wrote 0 records", Map::new());
    };
    if matches!(exit, Exit::Done | Exit::Differs) {
        plans::note_applied(home, &header.id)?;
        exit = if sum.applied() == plan.tally.keys { Exit::Done } else { Exit::Differs };
    }
    tell(args, env, plan, &ran, &sum, exit)
}

/// Which sides are written for which keys, and which becomes exactly the other there. Of two tables each row has a side of its
/// own; whatever it is to become, it becomes what the other side has.
fn parts(header: &Header, tables: bool, keys: Vec<Ready>) -> Vec<(To, Option<To>, Vec<Ready>)> {
    if !tables {
        let mirror = header.mirror.then_some(header.to);
        return vec![(if header.mirror { To::Both } else { header.to }, mirror, keys)];
    }
    let (a, b): (Vec<Ready>, Vec<Ready>) = keys.into_iter().partition(|key| key.write == To::A);
    let parts = [(To::Both, Some(To::A), a), (To::Both, Some(To::B), b)];
    parts.into_iter().filter(|(.., keys)| !keys.is_empty()).collect()
}

/// How one of two tables is written.
fn writing(args: &Apply, plan: &Plan, to: To) -> Result<tables::Writing, CliError> {
    let loses = if to == To::A { plan.tally.loses_a } else { plan.tally.loses_b };
    Ok(tables::Writing {
        to,
        delete: loses.deleted > 0,
        write_replica: args.write_replica,
        // Somebody has looked at the plan.
        probe: false,
        terms: args.sides.terms.terms()?,
        manner: tables::manner(&args.writes)?,
        beside: Default::default(),
    })
}

/// A key as it stands in the plan.
struct Ready {
    collection: reknit_core::CollectionId,
    key: Vec<u8>,
    write: To,
    a: Option<u64>,
    b: Option<u64>,
}

/// The next keys, as many as one session takes.
fn some(reader: &mut PlanReader, definition: &Definition) -> Result<Vec<Ready>, CliError> {
    let mut keys = Vec::new();
    while keys.len() < PICKED_MAX
        && let Some(line) = reader.next()?
    {
        if line["t"] != "key" {
            continue;
        }
        let Key { collection, key_hex, write, entry_a, entry_b, .. } = Key::parse(line)?;
        let malformed = || CliError::refused("plan.malformed", format!("the plan is of another release: {key_hex}"));
        let entry = |entry: Option<String>| {
            entry.map(|digits| u64::from_str_radix(&digits, 16).map_err(|_| malformed())).transpose()
        };
        let (a, b) = (entry(entry_a)?, entry(entry_b)?);
        let key = unhex(&key_hex).ok_or_else(malformed)?;
        let collection = definition.collection(&collection).ok_or_else(malformed)?;
        keys.push(Ready { collection, key, write, a, b });
    }
    Ok(keys)
}

impl Sum {
    fn add(&mut self, ran: &Ran) {
        let outcome = &ran.report.outcome;
        let (a, b) = ran.moves();
        for (sum, moves) in [(&mut self.to_a, a), (&mut self.to_b, b)] {
            sum.offered += moves.offered;
            sum.applied += moves.applied;
            sum.kept += moves.kept;
            sum.moved += moves.moved;
            sum.refused += moves.refused;
        }
        self.moved += a.moved + b.moved;
        self.refused += a.refused + b.refused;
        self.skipped.extend(outcome.skipped.iter().map(|(c, key)| (usize::from(c.0), key.clone())));
        let (run_a, run_b) = ran.runs();
        for (side, run) in [("a", run_a), ("b", run_b)] {
            let run = run.map(|run| (side.to_string(), run.to_string()));
            // Of tables it is one for all sessions.
            self.runs.extend(run.filter(|run| !self.runs.contains(run)));
        }
        for (of, key, reason) in &outcome.refused {
            self.lines.push(format!("not stored: {}: {reason}", ran.layouts.of(*of).show_key(key)));
        }
        self.lines.extend(ran.notes.iter().cloned());
        let (a, b) = ran.caught_up();
        self.caught_up = (self.caught_up.0.or(a), self.caught_up.1.or(b));
        let (a, b) = ran.strays();
        self.strays = (self.strays.0 + a, self.strays.1 + b);
    }

    /// Keys that moved: before they were looked at, or just after.
    fn skipped(&self) -> u64 {
        self.skipped.len() as u64 + self.moved
    }

    fn applied(&self) -> u64 {
        self.keys.saturating_sub(self.skipped() + self.refused)
    }
}

fn tell(args: &Apply, env: &mut Env, plan: &Plan, ran: &Ran, sum: &Sum, mut exit: Exit) -> Result<Exit, CliError> {
    let outcome = &ran.report.outcome;
    let mut open = (String::new(), Map::new());
    repair::tell_open(env, ran, &mut exit, (&mut open.0, &mut open.1))?;
    let mut printer = Printer::new(env);
    for (collection, key) in &sum.skipped {
        let name = ran.collections.get(*collection).cloned().unwrap_or_default();
        let shown = ran.layouts.at(*collection).show_key(key);
        printer.item(
            || format!("skipped {shown}: it has moved since the plan was made"),
            || json!({ "t": "skipped", "collection": name, "key": shown, "key_hex": hex(key) }),
        )?;
    }
    let wrote = sum.to_a.applied + sum.to_b.applied;
    let unsure = matches!(outcome.verdict, Verdict::Undetermined | Verdict::Partial);
    let left = plan.tally.keys - sum.keys.min(plan.tally.keys);
    let mut text = format!(
        "carried out {} of {} keys, {} skipped since they moved, {} failed; wrote {} records to a and {} to b",
        show_count(sum.applied()),
        show_count(plan.tally.keys),
        show_count(sum.skipped()),
        show_count(sum.refused),
        show_count(sum.to_a.applied),
        show_count(sum.to_b.applied),
    );
    if unsure {
        text = format!(
            "{}; {text}; {} keys were not looked at, the same command goes on",
            ran.verdict(),
            show_count(left)
        );
    }
    for (side, run) in &sum.runs {
        let side = tables::typed_again(if side == "a" { &args.sides.a } else { &args.sides.b });
        text.push_str(&format!("\nto undo it in {side}: reknit runs undo {side} {run}"));
    }
    for line in sides::told_caught_up(&args.sides, sum.caught_up, sum.strays).iter().chain(&sum.lines) {
        text.push_str(&format!("\n{line}"));
    }
    let moves = |m: Moves| json!({ "offered": m.offered, "applied": m.applied, "kept": m.kept, "moved": m.moved, "refused": m.refused });
    let mut summary: Map<String, Value> = ran.summary();
    summary.extend(fields(json!({
        "plan": plan.header.id, "made_by": plan.header.made_by, "made_at_ms": plan.header.made_at_ms,
        "keys": plan.tally.keys, "carried_out": sum.applied(), "skipped": sum.skipped(), "failed": sum.refused,
        "to_a": moves(sum.to_a), "to_b": moves(sum.to_b), "wrote": wrote,
        "caught_up": sides::pair_of_runs(sum.caught_up), "strays": sides::pair_of_counts(sum.strays),
    })));
    summary.extend(open.1);
    printer.end(exit, &format!("{text}{}", open.0), summary)
}
