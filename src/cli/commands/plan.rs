//! `reknit repair A B --plan FILE`: writes down what a repair would do, a line each, for `reknit apply`.

mod tables;

use std::collections::BTreeMap;
use std::path::PathBuf;

use reknit_core::Definition;
use reknit_core::brakes::Loss;
use reknit_core::difference::{Difference, Side as Seen};
use reknit_core::session::{Intent, Verdict};
use serde_json::{Value, json};

use super::{diff, repair, sides};
use crate::cli::args::{Repair, Sides, TermFlags, To};
use crate::cli::env::Env;
use crate::cli::layouts::Layouts;
use crate::cli::output::Printer;
use crate::cli::plans::{self, Header, Key, Loses, PlanWriter, Tally};
use crate::cli::records::hex;
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};
use crate::clock::now_ms;
use crate::store::Store;

/// Bytes of a value as it is shown; longer ones are left out.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// The stores of two sides that are here, kept open for what else is done with them.
pub(super) struct Here {
    pub(super) a: Option<Store>,
    pub(super) b: Option<Store>,
}

impl Here {
    /// Opens those sides that are directories.
    pub(super) fn of(env: &mut Env, sides: &Sides) -> Result<Here, CliError> {
        let mut open = |typed: &str| -> Result<Option<Store>, CliError> {
            if typed.contains("://") {
                return Ok(None);
            }
            let store = env.store(typed.as_ref())?;
            if let Ok(path) = env.path(typed.as_ref()).canonicalize() {
                env.open.insert(path, store.clone());
            }
            Ok(Some(store))
        };
        Ok(Here { a: open(&sides.a)?, b: open(&sides.b)? })
    }

    /// The same, where one must be.
    pub(super) fn open(env: &mut Env, sides: &Sides) -> Result<Here, CliError> {
        let here = Here::of(env, sides)?;
        if here.any().is_none() {
            let message = "a plan needs one side that is a directory; run the command on one of the two nodes";
            return Err(CliError::new("plan.two-addresses", message));
        }
        Ok(here)
    }

    pub(super) fn any(&self) -> Option<&Store> {
        self.a.as_ref().or(self.b.as_ref())
    }
}

/// What becomes of lines on the way to the file.
struct Writing {
    plan: PlanWriter,
    tally: Tally,
    /// The first error; nothing is written after it.
    failed: Option<CliError>,
}

/// Values as a plan shows them.
enum Values<'a> {
    /// Those of stores that are here.
    Stores(&'a Here),
    /// Rows of two tables, by their keys.
    Rows(BTreeMap<Vec<u8>, Vec<u8>>, BTreeMap<Vec<u8>, Vec<u8>>),
}

/// What the lines follow from.
struct Made<'a> {
    args: &'a Repair,
    definition: &'a Definition,
    layouts: &'a Layouts,
    values: Values<'a>,
}

pub(super) fn run(args: &Repair, env: &mut Env) -> Result<Exit, CliError> {
    if sides::are_tables(&args.sides) {
        return tables::run(args, env);
    }
    let (mut plan, file) = begun(args, env)?;
    let here = Here::open(env, &args.sides)?;
    let Some(store) = here.any() else { return Err(CliError::new("defect", "no side is here")) };
    let (definition, layouts) = (store.definition().clone(), Layouts::of_store(store)?);
    let header = header(args, env, &definition, &env.home()?.identity()?.peer().to_string())?;
    plan.line(&value(&header)?)?;
    let made = Made { args, definition: &definition, layouts: &layouts, values: Values::Stores(&here) };
    let mut writing = Writing { plan, tally: empty(), failed: None };
    let mut found = |difference: &Difference, swapped: bool| {
        if writing.failed.is_none()
            && let Err(error) = made.put(&mut writing, difference, swapped)
        {
            writing.failed = Some(error);
        }
    };
    let ran = sides::run(env, &args.sides, |_| Intent::Diff, sides::Asked::default(), &mut found)?;
    ended(args, env, &ran, (header, writing), file)
}

/// Begins the file, where nothing is yet.
fn begun(args: &Repair, env: &mut Env) -> Result<(PlanWriter, PathBuf), CliError> {
    let Some(file) = &args.plan else { return Err(CliError::new("defect", "there is no file for the plan")) };
    if args.apply {
        let message = "--plan writes down what --apply would do; give one of them";
        return Err(CliError::refused("plan.and-apply", message));
    }
    let (path, home) = (env.path(file), env.home()?);
    Ok((PlanWriter::create(&path, &home, &mut env.err)?, file.clone()))
}

/// Ends the file if there is anything to do, and says so.
fn ended(
    args: &Repair,
    env: &mut Env,
    ran: &sides::Ran,
    (header, writing): (Header, Writing),
    file: PathBuf,
) -> Result<Exit, CliError> {
    let Writing { plan, mut tally, failed } = writing;
    if let Some(error) = failed {
        return Err(error);
    }
    let outcome = &ran.report.outcome;
    let mut summary = ran.summary();
    summary.insert("applied".into(), json!(false));
    let text = format!("{}{} ({})", ran.verdict(), diff::described(ran), ran.cost());
    if outcome.verdict != Verdict::Differs {
        // Nothing is left of the file: there is nothing to do, or nothing to rely on.
        let text = format!("{text}; no plan was written, wrote 0 records");
        return Printer::new(env).end(ran.exit(), &text, summary);
    }
    let order = |(mine, theirs)| if ran.swapped { (theirs, mine) } else { (mine, theirs) };
    let (a, b) =
        if ran.swapped { (outcome.root_theirs, outcome.root_mine) } else { (outcome.root_mine, outcome.root_theirs) };
    (tally.records_a, tally.records_b) = (a.count, b.count);
    (tally.root_a, tally.root_b) = (a.digest.to_string(), b.digest.to_string());
    (tally.cut_a, tally.cut_b) = order((outcome.cut_mine.commit, outcome.cut_theirs));
    plan.finish(&value(&tally)?)?;
    summary.insert("plan".into(), json!(header.id));
    summary.insert("file".into(), json!(env.path(&file).display().to_string()));
    summary.insert("keys".into(), json!(tally.keys));
    summary.insert("would_write".into(), json!({ "a": tally.writes_a, "b": tally.writes_b, "left": tally.left }));
    let mut text = format!(
        "{text}\nplan {} of {} keys: {} records to a and {} to b; wrote 0 records\nto carry it out: reknit apply {} {} {}",
        header.id,
        show_count(tally.keys),
        show_count(tally.writes_a),
        show_count(tally.writes_b),
        file.display(),
        sides::tables::typed_again(&args.sides.a),
        sides::tables::typed_again(&args.sides.b),
    );
    if args.sides.terms != TermFlags::default() {
        text.push_str(", with the same flags on what is compared");
    }
    text.push_str(&repair::told_source(args, tally.writes_a, tally.writes_b));
    for line in &ran.notes {
        text.push_str(&format!("\n{line}"));
    }
    Printer::new(env).end(ran.exit(), &text, summary)
}

fn header(args: &Repair, env: &Env, definition: &Definition, made_by: &str) -> Result<Header, CliError> {
    let named = |name: &String| args.sides.collections.is_empty() || args.sides.collections.contains(name);
    let collections = definition.collections.iter().filter(|collection| named(&collection.name));
    Ok(Header {
        t: "plan".into(),
        format: plans::FORMAT,
        id: plans::new_id()?,
        made_by: made_by.into(),
        made_at_ms: now_ms(),
        dataset: definition.name.clone(),
        dataset_id: definition.id.to_string(),
        definition: definition.hash().to_string(),
        collections: collections.map(|collection| (collection.name.clone(), collection.policy.clone())).collect(),
        a: sides::full(env, &args.sides.a),
        b: sides::full(env, &args.sides.b),
        to: args.to(),
        mirror: args.mirror,
        values: args.values,
    })
}

fn empty() -> Tally {
    let (loses_a, loses_b) = (Loses::default(), Loses::default());
    let (root_a, root_b) = Default::default();
    Tally {
        t: "end".into(),
        keys: 0,
        left: 0,
        in_flight: 0,
        writes_a: 0,
        writes_b: 0,
        loses_a,
        loses_b,
        records_a: 0,
        records_b: 0,
        root_a,
        root_b,
        cut_a: 0,
        cut_b: 0,
    }
}

fn value(line: &impl serde::Serialize) -> Result<Value, CliError> {
    serde_json::to_value(line).map_err(|error| CliError::new("defect", error.to_string()))
}

impl Made<'_> {
    /// Puts one difference in the plan, if the repair would do anything about it.
    fn put(&self, writing: &mut Writing, d: &Difference, swapped: bool) -> Result<(), CliError> {
        let tally = &mut writing.tally;
        if !d.stable {
            tally.in_flight += 1;
            return Ok(());
        }
        let how = repair::resolution(self.args, Some(self.definition), d.collection, swapped);
        let order = |(mine, theirs)| if swapped { (theirs, mine) } else { (mine, theirs) };
        let (a, b) = order(d.writes(&how));
        let write = match (a, b) {
            (false, false) => {
                tally.left += 1;
                return Ok(());
            }
            (true, false) => To::A,
            (false, true) => To::B,
            (true, true) => To::Both,
        };
        let (side_a, side_b) = if swapped { (Seen::Theirs, Seen::Mine) } else { (Seen::Mine, Seen::Theirs) };
        let (loss_a, loss_b) = (d.loss(side_a, &how), d.loss(side_b, &how));
        tally.keys += 1;
        let (a, b) = order(d.writes_in_all(&how));
        tally.writes_a += u64::from(a);
        tally.writes_b += u64::from(b);
        tally.loses_a.add(loss_a);
        tally.loses_b.add(loss_b);
        let entry = |entry: Option<u64>| entry.map(|short| format!("{short:016x}"));
        let [mine, theirs] = d.entries.map(entry);
        let (entry_a, entry_b) = if swapped { (theirs, mine) } else { (mine, theirs) };
        let name = &self.definition.collections[usize::from(d.collection.0)].name;
        let held = |store: &Option<Store>| {
            let store = store.as_ref().filter(|_| self.args.values)?;
            store.collection(name).and_then(|collection| collection.get(&d.key)).ok().flatten()
        };
        let (value_a, value_b) = match &self.values {
            Values::Stores(here) => (held(&here.a), held(&here.b)),
            Values::Rows(a, b) => (a.get(&d.key).cloned(), b.get(&d.key).cloned()),
        };
        let shown = |value: Option<Vec<u8>>| {
            Some(self.layouts.of(d.collection).show_value(&value?)).filter(|value| value.len() <= VALUE_BYTES_MAX)
        };
        let key = Key {
            t: "key".into(),
            collection: name.clone(),
            key: self.layouts.of(d.collection).show_key(&d.key),
            key_hex: hex(&d.key),
            op: sides::op(d.kind, swapped).into(),
            write,
            entry_a,
            entry_b,
            loses_a: loss_a.map(named),
            loses_b: loss_b.map(named),
            value_a: shown(value_a),
            value_b: shown(value_b),
        };
        writing.plan.line(&value(&key)?)
    }
}

impl Loses {
    fn add(&mut self, loss: Option<Loss>) {
        self.deleted += u64::from(loss == Some(Loss::Deleted));
        self.changed += u64::from(loss == Some(Loss::Changed));
    }
}

fn named(loss: Loss) -> String {
    match loss {
        Loss::Deleted => "deleted".into(),
        Loss::Changed => "changed".into(),
    }
}
