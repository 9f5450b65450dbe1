//! Two sides and the session between them: what `check`, `diff` and `repair` share.

pub(crate) mod brakes;
mod compared;
mod handed;
pub(crate) mod history;
mod keyed;
mod listed;
mod meter;
mod newest;
mod pair;
mod prepared;
mod ran;
mod runtime;
pub(crate) mod scans;
mod shown;
pub(crate) mod tables;
mod tolerance;
mod under_way;
mod with_peer;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reknit_core::agenda::{Named, OPEN_KEYS_MAX, OpenKeys};
use reknit_core::brakes::Brakes;
use reknit_core::difference::{Difference, Side as Seen};
use reknit_core::drift::{self, Picture};
use reknit_core::journal::RunId;
use reknit_core::members::MEMBERS;
use reknit_core::message::RefuseCode;
use reknit_core::session::{Direction, Intent, Outcome, Picked, Verdict};
use serde_json::{Value, json};

pub(crate) use self::keyed::{Keyed, Opened};
use self::meter::Meter;
use self::pair::Pair;
pub(crate) use self::pair::{are_tables, refuse_one_table};
use self::prepared::Prepared;
pub(crate) use self::ran::Ran;
pub(crate) use self::runtime::runtime;
pub(crate) use self::shown::{line, object, op, plural, unproven, unproven_object};
use self::under_way::Ended;
use crate::cli::CliError;
use crate::cli::args::{Sides, To};
use crate::cli::config::bandwidth;
use crate::cli::env::Env;
use crate::cli::layouts::Layouts;
use crate::cli::units::{parse_bytes, parse_duration, show_count};
use crate::cli::verdicts::{self, Last};
use crate::clock::{now_ms, now_s};
use crate::node::{Budget, NodeError, Progress, SessionReport};
use crate::store::Store;

/// How long differences may be given to settle; a peer that hears nothing for twice as long gives up.
const SETTLE_MAX: Duration = Duration::from_secs(300);

/// What a session is asked for beside its intent.
#[derive(Default)]
pub(crate) struct Asked {
    /// The side that becomes exactly the other.
    pub(crate) mirror: Option<To>,
    /// The side whose value wins where both were written apart.
    pub(crate) prefer: Option<To>,
    /// What each written side may lose.
    pub(crate) brakes: Option<Brakes>,
    /// How tables are to be written, if the sides are tables.
    pub(crate) tables: Option<tables::Writing>,
    /// That it goes by what has changed since two tables were equal, and whether it deletes what one of them has deleted.
    pub(crate) since: Option<bool>,
    /// The column by which the newer of two rows is known, of tables.
    pub(crate) newest: Option<String>,
    /// The keys that it is about, told for an opener that is `b` or is not.
    pub(crate) picked: Option<Box<dyn Fn(bool) -> Arc<Picked>>>,
    /// Two tables that are open, if the keys are of those.
    pub(crate) opened: Option<Opened>,
    /// Whether the command itself tells why nothing is remembered.
    pub(crate) tells_history: bool,
}

/// Runs a session between the sides that were typed.
pub(crate) fn run(
    env: &mut Env,
    sides: &Sides,
    intent: impl Fn(bool) -> Intent,
    mut asked: Asked,
    found: &mut (dyn FnMut(&Difference, bool) + Send),
) -> Result<Ran, CliError> {
    let (of_keys, whole) = (asked.picked.is_some(), asked.opened.as_ref().is_none_or(|opened| opened.whole));
    let (mut pair, swapped) = match asked.opened.take() {
        Some(opened) => (Pair::Tables(opened.pair), false),
        None => Pair::of(env, sides)?,
    };
    let intent = intent(swapped);
    let Prepared { terms, known, mut notes, since, compared, handed } =
        Prepared::of(env, sides, &mut pair, (intent, swapped), &asked)?;
    let linked = pair.tables().cloned().map(Box::new);
    let (mut equal_but, mut keys) = (tables::EqualBut::default(), OpenKeys::new());
    let mut picture = Picture::new(now_ms());
    let mut meter = Meter::new(env);
    let mut progress = |progress: Progress| match progress {
        Progress::Found(difference) => {
            equal_but.add(&difference, since.as_ref());
            if keys.len() <= OPEN_KEYS_MAX {
                keys.insert(drift::fingerprint(difference.collection, &difference.key));
            }
            picture.add(&difference, swapped);
            found(&difference, swapped);
        }
        Progress::Counted(counts, coverage) => meter.tell(&counts, coverage),
    };
    let (ended, interrupted) = under_way::hold(env, pair, terms, &mut progress)?;
    meter.end();
    env.stuck = stuck(&ended, known.collections());
    let (held, mut report) = ended.map_err(|error| {
        let error = CliError::from(error);
        CliError { exit: interrupted.unwrap_or(error.exit), ..error }
    })?;
    let passed = report.outcome.refusal.is_none() && report.outcome.braked.is_none();
    let own = if passed { handed.take(env, &known.stores)?.or(known.own) } else { known.own };
    let of = held.or(own).unwrap_or_default();
    let (layouts, collections) = (Layouts::told(&of)?, of.collections);
    if !whole && report.outcome.verdict == Verdict::InSync {
        // Of all other keys nothing was read.
        report.outcome.verdict = Verdict::Converged;
        report.outcome.reason = "the picked keys are resolved; no others were looked at".into();
    }
    // What becomes of some keys says nothing of the pair.
    if !of_keys {
        note(env, sides, known.dataset, intent, &report);
    }
    // It is told, and its id remembered of a job's run, beside what was known by then.
    let lost = report.lost.take().and_then(Arc::into_inner).map(CliError::from);
    if let Some(error) = &lost {
        let _ = writeln!(env.err, "reknit: {error} [{}]", error.id);
        env.failed = Some((error.id, error.message.clone()));
    }
    if let Some(pair) = &linked {
        tables::note_equal(pair, &report, intent, equal_but)?;
        notes.extend(tables::written(pair, &mut report));
    }
    if let Some(refuse) = &report.outcome.refusal {
        return Err(refused(sides, &known.stores, refuse.code, &report.outcome));
    }
    let scope = match sides.collections.is_empty() {
        true => collections.iter().filter(|name| *name != MEMBERS).cloned().collect(),
        false => sides.collections.clone(),
    };
    let writes = matches!(intent, Intent::Repair(_));
    let mut ran = Ran {
        report,
        swapped,
        layouts,
        collections,
        scope,
        interrupted,
        stores: known.stores,
        notes,
        tables: linked.filter(|_| !writes),
        compared,
        writes,
        since: since.map(|since| since.at),
        history: Ok(None),
        lost,
    };
    if !of_keys {
        ran.history = history::note(env, sides, &ran, intent, picture);
    }
    if let (Err(error), false) = (&ran.history, asked.tells_history) {
        let _ = writeln!(env.err, "reknit: {error}");
    }
    // A repair may have made them equal since; a check does not list them.
    let keys = Some(keys).filter(|_| intent == Intent::Diff);
    env.measured = Some(ran.measured(intent == Intent::Check, keys));
    Ok(ran)
}

/// The ranges that a store could not answer for, by the names of its collections.
fn stuck(ended: &Ended, names: &[String]) -> Option<Named> {
    let stuck = match ended {
        Err(NodeError::Stuck { stuck, .. }) => stuck,
        Ok((_, report)) => report.outcome.stuck.as_ref()?,
        Err(_) => return None,
    };
    let name = names.get(usize::from(stuck.collection.0))?;
    Some(stuck.ranges.iter().map(|range| (name.clone(), *range)).collect())
}

/// What is told of a session that one side refused.
fn refused(sides: &Sides, stores: &(Option<Store>, Option<Store>), code: RefuseCode, outcome: &Outcome) -> CliError {
    let named = |of: &Store| format!("the dataset {} ({})", of.definition().name, of.definition().id);
    match (code, stores) {
        (RefuseCode::Brakes, _) => brakes::by_the_peer(outcome),
        // Of two stores here none is a peer.
        (RefuseCode::Dataset, (Some(a), Some(b))) => {
            CliError::refusal(code, &format!("{} holds {}, {} holds {}", sides.a, named(a), sides.b, named(b)))
        }
        _ => CliError::refusal(code, &outcome.reason),
    }
}

/// How long differences may settle, and when a session is to end with what is known.
pub(crate) fn limits(sides: &Sides) -> Result<(Duration, Budget), CliError> {
    let settle = parse_duration(&sides.settle)?;
    if settle > SETTLE_MAX {
        let message = format!("differences settle for at most {} s, not {}", SETTLE_MAX.as_secs(), sides.settle);
        return Err(CliError::new("usage.duration", message));
    }
    sides.bandwidth.as_deref().map(bandwidth).transpose()?;
    let time = sides.max_time.as_deref().map(parse_duration).transpose()?;
    Ok((settle, Budget { time, bytes: sides.max_bytes.as_deref().map(parse_bytes).transpose()? }))
}

/// Runs in the two sides, as machines read it.
pub(crate) fn pair_of_runs((a, b): (Option<RunId>, Option<RunId>)) -> Value {
    json!({ "a": a.map(|run| run.to_string()), "b": b.map(|run| run.to_string()) })
}

/// Counts of the two sides, as machines read them.
pub(crate) fn pair_of_counts((a, b): (u64, u64)) -> Value {
    json!({ "a": a, "b": b })
}

/// A line for each side that caught up, and one more where records of it were set apart.
pub(crate) fn told_caught_up(sides: &Sides, (a, b): (Option<RunId>, Option<RunId>), strays: (u64, u64)) -> Vec<String> {
    let mut lines = Vec::new();
    for (side, run, strays) in [(&sides.a, a, strays.0), (&sides.b, b, strays.1)] {
        let told =
            |run| format!("{side} had been away and was changed first, to catch up: reknit runs show {side} {run}");
        lines.extend(run.map(told));
        if strays > 0 {
            let (n, s, were) = (show_count(strays), plural(strays), if strays == 1 { "was" } else { "were" });
            lines.push(format!("{n} record{s} of {side} {were} set apart: reknit quarantine list {side}"));
        }
    }
    lines
}

/// A side as it was typed; a directory in full.
pub(crate) fn full(env: &Env, typed: &str) -> String {
    if tables::is_table(typed) {
        return tables::in_full(typed, &env.dir);
    }
    match typed.contains("://") {
        true => typed.to_string(),
        false => env.path(Path::new(typed)).canonicalize().unwrap_or_else(|_| typed.into()).display().to_string(),
    }
}

/// Remembers the verdict for `status`; a home that cannot be written spoils no verdict.
fn note(env: &mut Env, sides: &Sides, dataset: String, intent: Intent, report: &SessionReport) {
    let command = match intent {
        Intent::Check => "check",
        Intent::Diff => "diff",
        Intent::Repair(_) => "repair",
    };
    let outcome = &report.outcome;
    // A check lists none; of sides that are equal it estimates nothing.
    let equal = matches!(outcome.verdict, Verdict::InSync | Verdict::Converged);
    let estimate = outcome.estimate.filter(|_| intent == Intent::Check && !equal);
    let differences = estimate.map_or(outcome.counts.differences(), |estimate| estimate.likely);
    let last = Last {
        a: full(env, &sides.a),
        b: full(env, &sides.b),
        dataset,
        verdict: outcome.verdict.name().into(),
        command: command.into(),
        differences: i64::try_from(differences).unwrap_or(i64::MAX),
        estimated: estimate.is_some_and(|estimate| !estimate.is_exact()),
        at: now_s(),
    };
    if let Err(error) = env.home().and_then(|home| verdicts::note(&home, last)) {
        let _ = writeln!(env.err, "reknit: the verdict is not remembered for `status`: {error}");
    }
}

/// One side, seen from the opener.
pub(crate) fn seen(to: To, swapped: bool) -> Seen {
    if (to == To::A) != swapped { Seen::Mine } else { Seen::Theirs }
}

/// Which sides a repair writes, seen from the opener.
pub(crate) fn direction(to: To, swapped: bool) -> Direction {
    match to {
        To::Both => Direction::Both,
        To::A => Direction::To(if swapped { Seen::Theirs } else { Seen::Mine }),
        To::B => Direction::To(if swapped { Seen::Mine } else { Seen::Theirs }),
    }
}
