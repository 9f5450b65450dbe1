//! `reknit verify STORE`: recomputes everything from the records, and as a job a part of that which the next run goes on from; exits
//! 1 if something is damaged.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::args::Verify;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::passing::Passing;
use crate::cli::progress::Progress;
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};
use crate::clock::now_ms;
use crate::store::{Report, Store, StoreError};

/// How often whoever waits is asked whether that is to end.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Keeps a reader at its rate.
struct Pace {
    rate: Option<u64>,
    began: Instant,
}

impl Pace {
    /// Waits until so many records are due; says whether to go on.
    fn wait(&mut self, records: u64, stopped: impl Fn() -> bool) -> bool {
        let due = self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(records as f64 / rate as f64));
        while !stopped() {
            let Some(wait) = due.checked_sub(self.began.elapsed()) else { return true };
            std::thread::sleep(wait.min(ASK_EVERY));
        }
        false
    }
}

pub(crate) fn run(args: &Verify, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(&args.store)?;
    match env.pass.take() {
        Some(mut passing) => {
            let ran = run_part(&store, &mut passing, args.rate, env);
            env.pass = Some(passing);
            ran
        }
        None => run_whole(&store, args.rate, env),
    }
}

/// Goes on with a pass until all is read, or whoever waits wants it to end: then the next run goes on there.
fn run_part(store: &Store, passing: &mut Passing, rate: Option<u64>, env: &mut Env) -> Result<Exit, CliError> {
    let left = env.left.clone();
    let mut pace = Pace { rate, began: Instant::now() };
    let collections = u16::try_from(store.definition().collections.len()).unwrap_or(u16::MAX);
    // Another life of a store may be another store.
    let name = format!("{} {:016x}", store.dir().display(), store.actor().0);
    passing.through(&name, collections, now_ms());
    let (mut report, mut read, mut failed) = (Report::default(), 0, None);
    while let Some((collection, from)) = passing.pass().next() {
        let found = match store.verify_part(collection, from, passing.pass().most, &mut || !*left.borrow()) {
            Ok(found) => found,
            Err(error) => {
                if matches!(error, StoreError::Stopped) {
                    passing.gave_up();
                }
                failed = Some(error);
                break;
            }
        };
        let (records, faults) = (found.report.records + found.report.tombstones, found.report.wrong_count);
        passing.came(|pass| pass.note(found.range, records, faults));
        report.add(found.report);
        read += records;
        if !pace.wait(read, || *left.borrow()) {
            failed = Some(StoreError::Stopped);
            break;
        }
    }
    let pass = passing.pass();
    match failed {
        Some(error) if pass.next().is_some() && pass.wrong() == 0 => return Err(error.into()),
        Some(error) if !matches!(error, StoreError::Stopped) => {
            tracing::warn!(store = name, %error, "the pass ends before its end; what is known to be wrong is told");
        }
        _ => {}
    }
    let in_all = format!(" in this run; {} in the pass", show_count(pass.records));
    tell(store, &report, (pass.wrong(), &in_all), env)
}

fn run_whole(store: &Store, rate: Option<u64>, env: &mut Env) -> Result<Exit, CliError> {
    let stats = store.stats()?;
    let report = {
        let left = env.left.clone();
        let mut pace = Pace { rate, began: Instant::now() };
        let mut progress = Progress::new(env, "verifying records");
        let mut before = 0;
        let mut seen = 0;
        store.verify_while(&mut |records| {
            // Each collection counts from its start.
            seen += if records > before { records - before } else { records };
            before = records;
            progress.at(seen, Some(stats.records + stats.tombstones));
            pace.wait(seen, || *left.borrow())
        })?
    };
    tell(store, &report, (report.wrong_count, ""), env)
}

/// Says what was found, and that there are so many faults in all.
fn tell(store: &Store, report: &Report, (faults, in_all): (u64, &str), env: &mut Env) -> Result<Exit, CliError> {
    if faults > 0 {
        let message = format!("{} faults; `reknit verify` names them", show_count(faults));
        env.failed = Some(("store.damaged", message));
    }
    let mut printer = Printer::new(env);
    for what in &report.wrong {
        printer.item(|| what.clone(), || json!({ "t": "fault", "what": what }))?;
    }
    let (records, tombstones) = (show_count(report.records), show_count(report.tombstones));
    let (exit, text) = if faults == 0 {
        let nodes = show_count(report.nodes);
        (Exit::Done, format!("sound: {records} records, {tombstones} tombstones, {nodes} nodes of trees{in_all}"))
    } else {
        let named = report.wrong.len() as u64;
        let some = if named < faults { format!(" (the first {} above)", show_count(named)) } else { "".into() };
        let (advice, faults) = ("fill a new store from a backup or a peer", show_count(faults));
        (
            Exit::Differs,
            format!("damaged: {faults} faults{some} in {records} records, {tombstones} tombstones{in_all}; {advice}"),
        )
    };
    let summary = json!({
        "sound": faults == 0,
        "records": report.records,
        "tombstones": report.tombstones,
        "nodes": report.nodes,
        "faults": faults,
        "root": store.root().digest.to_string(),
    });
    printer.end(exit, &text, fields(summary))
}
