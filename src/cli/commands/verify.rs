//! `reknit verify STORE`: recomputes everything from the records; exits 1 if something is damaged.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::args::Verify;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::progress::Progress;
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};

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
    let stats = store.stats()?;
    let report = {
        let left = env.left.clone();
        let mut pace = Pace { rate: args.rate, began: Instant::now() };
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
    if !report.is_sound() {
        let message = format!("{} faults; `reknit verify` names them", show_count(report.wrong_count));
        env.failed = Some(("store.damaged", message));
    }
    let mut printer = Printer::new(env);
    for what in &report.wrong {
        printer.item(|| what.clone(), || json!({ "t": "fault", "what": what }))?;
    }
    let (records, tombstones) = (show_count(report.records), show_count(report.tombstones));
    let (exit, text) = if report.is_sound() {
        let nodes = show_count(report.nodes);
        (Exit::Done, format!("sound: {records} records, {tombstones} tombstones, {nodes} nodes of trees"))
    } else {
        let faults = show_count(report.wrong_count);
        let named = report.wrong.len() as u64;
        let some =
            if named < report.wrong_count { format!(" (the first {} above)", show_count(named)) } else { "".into() };
        let advice = "fill a new store from a backup or a peer";
        (
            Exit::Differs,
            format!("damaged: {faults} faults{some} in {records} records, {tombstones} tombstones; {advice}"),
        )
    };
    let summary = json!({
        "sound": report.is_sound(),
        "records": report.records,
        "tombstones": report.tombstones,
        "nodes": report.nodes,
        "faults": report.wrong_count,
        "root": store.root().digest.to_string(),
    });
    printer.end(exit, &text, fields(summary))
}
