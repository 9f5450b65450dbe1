//! Two sides and the session between them: what `check`, `diff` and `repair` share.

pub(crate) mod brakes;
mod compared;
mod handed;
pub(crate) mod history;
mod keyed;
mod listed;
mod meter;
mod newest;
mod ran;
mod runtime;
pub(crate) mod scans;
mod shown;
pub(crate) mod tables;
mod tolerance;
mod with_peer;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reknit_core::agenda::{Named, OPEN_KEYS_MAX, OpenKeys, Trial};
use reknit_core::brakes::Brakes;
use reknit_core::difference::{Difference, Side as Seen};
use reknit_core::drift::{self, Picture};
use reknit_core::journal::RunId;
use reknit_core::members::MEMBERS;
use reknit_core::message::RefuseCode;
use reknit_core::session::{Direction, Intent, Options, Parked, Picked, Verdict};
use reknit_core::{CollectionId, Definition, Range};
use serde_json::{Value, json};
use tokio::sync::watch;

use self::handed::Handed;
pub(crate) use self::keyed::{Keyed, Opened};
use self::meter::Meter;
pub(crate) use self::ran::Ran;
pub(crate) use self::runtime::runtime;
pub(crate) use self::shown::{line, object, op, plural, unproven, unproven_object};
use self::with_peer::WithPeer;
use crate::cli::CliError;
use crate::cli::args::{PaceFlags, Sides, TermFlags, To};
use crate::cli::config::bandwidth;
use crate::cli::env::Env;
use crate::cli::interrupt::Interrupt;
use crate::cli::layouts::Layouts;
use crate::cli::units::{parse_bytes, parse_duration, show_count};
use crate::cli::verdicts::{self, Last};
use crate::clock::{millis, now_ms, now_s};
use crate::node::{
    Budget, HeldStore, HoldRequest, Home, Node, NodeError, Progress, SessionReport, Windows, between_counted,
    between_witnessed,
};
use crate::store::linked::{Linked, TableSession};
use crate::store::{Side, Store};
use crate::transport::Address;

/// A budget of bytes below which a session asks for one thing at a time.
const SMALL_BUDGET_BYTES: u64 = 4 << 20;
/// How long differences may be given to settle; a peer that hears nothing for twice as long gives up.
const SETTLE_MAX: Duration = Duration::from_secs(300);

/// One side of a session, as it was typed.
enum Target {
    Here(Store),
    There(Address),
}

/// Who opens the session, and with whom.
enum Pair {
    /// A store here, with the other side.
    Own(Store, Target),
    /// The node of the first address, with that of the second.
    Held(Address, Address),
    /// Two tables of databases.
    Tables(Box<[Linked; 2]>),
    /// A table here, with a peer's.
    Table(Box<WithPeer>),
}

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
    asked: Asked,
    found: &mut (dyn FnMut(&Difference, bool) + Send),
) -> Result<Ran, CliError> {
    let (of_keys, whole) = (asked.picked.is_some(), asked.opened.as_ref().is_none_or(|opened| opened.whole));
    let (mut pair, swapped) = match asked.opened {
        Some(opened) => (Pair::Tables(opened.pair), false),
        None => pair(env, sides)?,
    };
    if let (Pair::Tables(pair), Some(writing)) = (&mut pair, &asked.tables) {
        pair.iter_mut().for_each(|linked| *linked = linked.clone().in_manner(writing.manner));
    }
    let (settle, budget) = limits(sides)?;
    if sides.bandwidth.is_some() && !matches!(pair, Pair::Own(_, Target::There(_)) | Pair::Table(_)) {
        let message =
            "--bandwidth is about sessions of a store or a table here with a peer; none of that kind was named";
        return Err(CliError::new("usage.bandwidth", message));
    }
    // Who compares stores and tables here needs no configuration.
    let rate_limits = match &pair {
        Pair::Own(_, Target::There(_)) | Pair::Held(..) | Pair::Table(_) => {
            env.rate_limits(sides.bandwidth.as_deref().map(bandwidth).transpose()?)?
        }
        _ => Arc::default(),
    };
    let mut options = Options::new(intent(swapped));
    options.settle = millis(settle);
    options.receipt |= sides.receipt;
    options.brakes = asked.brakes;
    options.picked = asked.picked.map(|picked| picked(swapped));
    options.mirror = asked.mirror.map(|to| seen(to, swapped));
    options.prefer = asked.prefer.map(|to| seen(to, swapped));
    // What was asked for arrives, however small the budget is: ask for little at once.
    if budget.bytes.is_some_and(|bytes| bytes < SMALL_BUDGET_BYTES) {
        options.requests = 1;
    }
    let mut notes = match (&pair, &asked.tables) {
        (Pair::Tables(pair), Some(writing)) => tables::cautions(pair, writing)?,
        _ => Vec::new(),
    };
    let linked = if let Pair::Tables(pair) = &pair { Some(pair.clone()) } else { None };
    let since = linked.as_ref().map(|pair| tables::since(env, pair, asked.since)).transpose()?.flatten();
    if asked.since == Some(true) && since.is_none() {
        let message = "--delete with --to both takes away what one side has deleted, but it is not known of when these two were \
                       equal, so a row that one side lacks may be new on the other; make them equal first, or name the side \
                       with --to a or --to b";
        return Err(CliError::refused("repair.base", message));
    }
    options.base = since.as_ref().map(|since| Arc::new(since.base.clone()));
    if let (Some(pair), Some(column)) = (&linked, &asked.newest) {
        options.base = Some(Arc::new(newest::base(env, pair, column, options.settle)?));
    }
    if let Some(pair) = &linked {
        options.tolerated = tolerance::tolerated(env, pair, &sides.terms.terms()?, options.settle)?;
    }
    let mut equal_but = tables::EqualBut::default();
    let compared = match &pair {
        Pair::Tables(pair) => Some((sides.terms.terms()?, pair.each_ref().map(|linked| linked.shape().clone()))),
        Pair::Table(with) => Some(with.compared()),
        _ => None,
    };
    let home = env.home()?;
    let mut keys = OpenKeys::new();
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
    let (own, dataset, stores) = match &pair {
        Pair::Own(opener, other) => {
            options.scope = scope(opener.definition(), &sides.collections)?;
            let own = HeldStore::of(opener)?;
            let responder = if let Target::Here(store) = other { Some(store.clone()) } else { None };
            let stores = (Some(opener.clone()), responder);
            (Some(own), opener.definition().name.clone(), stores)
        }
        Pair::Held(a, _) => (None, a.dataset.clone(), (None, None)),
        Pair::Tables(pair) => {
            let (own, name) = of_table(&mut options, &pair[0], &sides.collections)?;
            (Some(own), name, (None, None))
        }
        Pair::Table(with) => {
            let (own, name) = of_table(&mut options, &with.linked, &sides.collections)?;
            (Some(own), name, (None, None))
        }
    };
    let names = own.as_ref().map(|own| own.collections.clone()).unwrap_or_default();
    let handed = match intent(swapped) {
        Intent::Repair(direction) => Handed::between(&stores, direction, &options.scope)?,
        _ => Handed::default(),
    };
    options.parked = parked(&env.trial, &names);
    let windows = env.windows.clone();
    let (ran, interrupted) = runtime()?.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let interrupt = Interrupt::listen(stop, env.left.clone());
        let ran = match pair {
            Pair::Own(opener, Target::Here(store)) => {
                let pair: (Arc<dyn Side>, Arc<dyn Side>) = (Arc::new(opener), Arc::new(store));
                let report = here(&home, pair, windows, options, budget, stopped, &mut progress).await;
                report.map(|report| (None, report))
            }
            Pair::Tables(pair) => {
                let [a, b] = *pair;
                let pair: (Arc<dyn Side>, Arc<dyn Side>) = (Arc::new(a), Arc::new(b));
                let report = here(&home, pair, windows, options, budget, stopped, &mut progress).await;
                report.map(|report| (None, report))
            }
            Pair::Table(with) => {
                let WithPeer { linked, address, .. } = *with;
                let node = Node::client(&home, &address)?.with_rate_limits(rate_limits);
                let side = Arc::new(TableSession::of(linked));
                let report = there(&node, &address, side, windows, (options, budget), stopped, &mut progress).await;
                node.shutdown().await;
                report.map(|report| (None, report))
            }
            Pair::Own(opener, Target::There(address)) => {
                let node = Node::client(&home, &address)?.with_rate_limits(rate_limits);
                let report =
                    there(&node, &address, Arc::new(opener), windows, (options, budget), stopped, &mut progress).await;
                node.shutdown().await;
                report.map(|report| (None, report))
            }
            Pair::Held(a, b) => {
                let node = Node::client(&home, &a)?.with_rate_limits(rate_limits);
                let request = HoldRequest {
                    dataset: a.dataset.clone(),
                    with: b.to_string(),
                    options,
                    collections: sides.collections.clone(),
                    max_ms: budget.time.map(millis),
                    max_bytes: budget.bytes,
                };
                let held = node.hold(&a, &request, stopped, &mut progress).await;
                node.shutdown().await;
                held.map(|(store, report)| (Some(store), report))
            }
        };
        Ok::<_, CliError>((ran, interrupt.exit()))
    })?;
    meter.end();
    let stuck = match &ran {
        Err(NodeError::Stuck { stuck, .. }) => Some(stuck),
        Ok((_, report)) => report.outcome.stuck.as_ref(),
        Err(_) => None,
    };
    env.stuck = stuck.and_then(|stuck| {
        let name = names.get(usize::from(stuck.collection.0))?;
        Some(stuck.ranges.iter().map(|range| (name.clone(), *range)).collect())
    });
    let (held, mut report) = ran.map_err(|error| {
        let error = CliError::from(error);
        CliError { exit: interrupted.unwrap_or(error.exit), ..error }
    })?;
    let own = if report.outcome.refusal.is_none() && report.outcome.braked.is_none() {
        handed.take(env, &stores)?.or(own)
    } else {
        own
    };
    let of = held.or(own).unwrap_or_default();
    let (layouts, collections) = (Layouts::told(&of)?, of.collections);
    if !whole && report.outcome.verdict == Verdict::InSync {
        // Of all other keys nothing was read.
        report.outcome.verdict = Verdict::Converged;
        report.outcome.reason = "the picked keys are resolved; no others were looked at".into();
    }
    // What becomes of some keys says nothing of the pair.
    if !of_keys {
        note(env, sides, dataset, intent(swapped), &report);
    }
    // It is told, and its id remembered of a job's run, beside what was known by then.
    let lost = report.lost.take().and_then(Arc::into_inner).map(CliError::from);
    if let Some(error) = &lost {
        let _ = writeln!(env.err, "reknit: {error} [{}]", error.id);
        env.failed = Some((error.id, error.message.clone()));
    }
    if let Some(pair) = &linked {
        tables::note_equal(pair, &report, intent(swapped), equal_but)?;
        notes.extend(tables::written(pair, &mut report));
    }
    if let Some(refuse) = &report.outcome.refusal {
        let named = |of: &Store| format!("the dataset {} ({})", of.definition().name, of.definition().id);
        let reason = match &stores {
            // Of two stores here none is a peer.
            (Some(a), Some(b)) if refuse.code == RefuseCode::Dataset => {
                format!("{} holds {}, {} holds {}", sides.a, named(a), sides.b, named(b))
            }
            _ => report.outcome.reason.clone(),
        };
        let error = CliError::refusal(refuse.code, &reason);
        return Err(if refuse.code == RefuseCode::Brakes { brakes::by_the_peer(&report.outcome) } else { error });
    }
    let scope = match sides.collections.is_empty() {
        true => collections.iter().filter(|name| *name != MEMBERS).cloned().collect(),
        false => sides.collections.clone(),
    };
    let mut ran = Ran {
        report,
        swapped,
        layouts,
        collections,
        scope,
        interrupted,
        stores,
        notes,
        tables: linked.filter(|_| !matches!(intent(swapped), Intent::Repair(_))),
        compared,
        writes: matches!(intent(swapped), Intent::Repair(_)),
        since: since.map(|since| since.at),
        history: Ok(None),
        lost,
    };
    if !of_keys {
        ran.history = history::note(env, sides, &ran, intent(swapped), picture);
    }
    if let (Err(error), false) = (&ran.history, asked.tells_history) {
        let _ = writeln!(env.err, "reknit: {error}");
    }
    // A repair may have made them equal since; a check does not list them.
    let keys = Some(keys).filter(|_| matches!(intent(swapped), Intent::Diff));
    env.measured = Some(ran.measured(matches!(intent(swapped), Intent::Check), keys));
    Ok(ran)
}

/// A session of two sides that are here.
async fn here(
    home: &Home,
    pair: (Arc<dyn Side>, Arc<dyn Side>),
    windows: Option<(Arc<Windows>, Duration)>,
    options: Options,
    budget: Budget,
    stopped: watch::Receiver<bool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<SessionReport, NodeError> {
    match windows {
        Some((windows, within)) => {
            between_counted(home, pair, (&windows, within), options, budget, stopped, progress).await
        }
        None => between_witnessed(home, pair, options, budget, stopped, progress).await,
    }
}

/// A session of a side here with a peer.
async fn there(
    node: &Node,
    address: &Address,
    side: Arc<dyn Side>,
    windows: Option<(Arc<Windows>, Duration)>,
    (options, budget): (Options, Budget),
    stopped: watch::Receiver<bool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<SessionReport, NodeError> {
    match windows {
        Some((windows, within)) => {
            let node = node.clone().with_windows(windows);
            node.session_counted(address, side, (options, within), budget, stopped, progress).await
        }
        None => node.session(address, side, options, budget, stopped, progress).await,
    }
}

/// What is told of a table, and which of its collections a session is about.
fn of_table(options: &mut Options, linked: &Linked, named: &[String]) -> Result<(HeldStore, String), CliError> {
    let definition = linked.describe().definition;
    options.scope = scope(&definition, named)?;
    let collections = definition.collections.iter().map(|c| c.name.clone()).collect();
    let layout = Some(tables::layout(linked.shape()).to_bytes());
    Ok((HeldStore { collections, layout, others: Vec::new() }, definition.name.clone()))
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

/// The two sides as they were typed, and whether the second opens.
fn pair(env: &mut Env, sides: &Sides) -> Result<(Pair, bool), CliError> {
    match [&sides.a, &sides.b].map(|side| tables::is_table(side)) {
        [false, false] if sides.no_scan || sides.pace != PaceFlags::default() => {
            let message = "--no-scan, --max-snapshot, --chunk-time, --readers, --max-rate, --pause-file, --max-active, \
                           --max-replica-lag, --max-load and --scan-from are about reading tables whole; stores are never read so";
            return Err(CliError::new("usage.terms", message));
        }
        [false, false] if sides.terms != TermFlags::default() => {
            let message = "--key, --columns, --ignore, --rename, --where, --float-digits, --time-precision, --collate, \
                           --json, --tolerance and --zone are for two tables; stores compare whole records";
            return Err(CliError::new("usage.terms", message));
        }
        [false, false] => {}
        [true, true] => {
            let pair = tables::open(env, (&sides.a, &sides.b), &sides.terms.terms()?, (!sides.no_scan, &sides.pace))?;
            return Ok((Pair::Tables(Box::new(pair)), false));
        }
        _ => {
            let with = WithPeer::of(env, sides)?.ok_or_else(|| one_table(sides))?;
            let swapped = with.swapped();
            return Ok((Pair::Table(Box::new(with)), swapped));
        }
    }
    let a = target(env, &sides.a)?;
    if let (Target::Here(_), false) = (&a, sides.b.contains("://"))
        && env.path(Path::new(&sides.a)).canonicalize().ok() == env.path(Path::new(&sides.b)).canonicalize().ok()
    {
        return Err(CliError::refused("session.one-store", "both sides are one store; name two"));
    }
    let (opener, other, swapped) = match (a, target(env, &sides.b)?) {
        (Target::Here(a), other) => (a, other, false),
        (Target::There(a), Target::Here(b)) => (b, Target::There(a), true),
        (Target::There(a), Target::There(b)) => return Ok((Pair::Held(a, b), false)),
    };
    if let Target::There(address) = &other {
        let definition = opener.definition();
        if address.dataset != definition.name && address.dataset != definition.id.to_string() {
            let message = format!(
                "the address names the dataset {}, the store holds {1}; it is to end in /{1}",
                address.dataset, definition.name
            );
            return Err(CliError::refused("session.dataset", message));
        }
    }
    Ok((Pair::Own(opener, other), swapped))
}

/// Whether both sides are tables.
pub(crate) fn are_tables(sides: &Sides) -> bool {
    [&sides.a, &sides.b].iter().all(|side| tables::is_table(side))
}

/// Refuses sides of which only one is a table.
pub(crate) fn refuse_one_table(sides: &Sides) -> Result<(), CliError> {
    let tables = [&sides.a, &sides.b].map(|side| tables::is_table(side));
    if tables[0] == tables[1] { Ok(()) } else { Err(one_table(sides)) }
}

/// A table beside what is none: a directory that is there was taken for a store of rows before.
fn one_table(sides: &Sides) -> CliError {
    let other = [&sides.a, &sides.b].into_iter().find(|side| !tables::is_table(side) && !side.contains("://"));
    let message = match other {
        Some(other) => {
            format!("there is no directory {other} with a store whose rows could be compared with a table's")
        }
        None => {
            "a table and a peer's are compared, with reknit check and reknit diff, and not repaired; repair where both databases \
                 can be reached: reknit repair TABLE TABLE"
                .into()
        }
    };
    CliError::refused("database.pair", message)
}

/// The collections of these names.
fn scope(definition: &Definition, names: &[String]) -> Result<Vec<CollectionId>, CliError> {
    let one = |name: &String| {
        let known = || definition.collections.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        let unknown = || format!("the dataset has no collection {name}; it has: {}", known());
        definition.collection(name).ok_or_else(|| CliError::new("store.no-collection", unknown()))
    };
    names.iter().map(one).collect()
}

/// What a session of these collections leaves out and tries of what is parked; nothing if none of it is theirs.
fn parked(trial: &Trial, names: &[String]) -> Option<Arc<Parked>> {
    let here = |of: &Named| -> Vec<(CollectionId, Range)> {
        let id = |name: &String| Some(CollectionId(u16::try_from(names.iter().position(|one| one == name)?).ok()?));
        of.iter().filter_map(|(name, range)| Some((id(name)?, *range))).collect()
    };
    let (out, tried) = (here(&trial.out), here(&trial.tried));
    (!(out.is_empty() && tried.is_empty())).then(|| Arc::new(Parked::new(out, tried)))
}

/// A side as it was typed; a directory in full.
pub(crate) fn full(env: &Env, typed: &str) -> String {
    if tables::is_table(typed) {
        return tables::shown(typed);
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
    let last = Last {
        a: full(env, &sides.a),
        b: full(env, &sides.b),
        dataset,
        verdict: report.outcome.verdict.name().into(),
        command: command.into(),
        differences: i64::try_from(report.outcome.counts.differences()).unwrap_or(i64::MAX),
        at: now_s(),
    };
    if let Err(error) = env.home().and_then(|home| verdicts::note(&home, last)) {
        let _ = writeln!(env.err, "reknit: the verdict is not remembered for `status`: {error}");
    }
}

fn target(env: &Env, typed: &str) -> Result<Target, CliError> {
    if typed.starts_with("quic://") {
        return Ok(Target::There(typed.parse()?));
    }
    if let Some((scheme, _)) = typed.split_once("://") {
        let message = format!(
            "{scheme}:// is no side of this release; a directory, quic://, postgres://, s3://, sqlite:, csv:, jsonl: or parquet: is"
        );
        return Err(CliError::new("usage.scheme", message));
    }
    Ok(Target::Here(env.store(Path::new(typed))?))
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
