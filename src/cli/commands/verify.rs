//! `reknit verify STORE`: recomputes everything from the records; exits 1 if something is damaged.

use serde_json::json;

use crate::cli::args::Verify;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::progress::Progress;
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};

pub(crate) fn run(args: &Verify, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(&args.store)?;
    let stats = store.stats()?;
    let report = {
        let mut progress = Progress::new(env, "verifying records");
        store.verify(&mut |records| progress.at(records, Some(stats.records + stats.tombstones)))?
    };
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
