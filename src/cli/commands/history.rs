//! `reknit history STORE KEY`: every version that a key has and that the journal still has, newest first; exits 1 if none.

use std::time::Duration;

use reknit_core::journal::{RunId, RunKind};
use reknit_core::{Content, State};
use serde_json::{Value, json};

use crate::cli::args::History;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::records::{key_fields, value_fields};
use crate::cli::units::{show_bytes, show_duration};
use crate::cli::{CliError, Exit};
use crate::clock::now_s;

pub(crate) fn run(args: &History, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(&args.store)?;
    let (collection, layout) = env.collection(&store, &args.of)?;
    let key = layout.encode_key_argument(&args.key)?;
    // Each state with the run that replaced it; the one that is there was replaced by none.
    let mut states: Vec<(State, Option<RunId>)> =
        collection.versions(&key)?.into_iter().map(|state| (state, None)).collect();
    states.extend(collection.history(&key)?.into_iter().rev().map(|earlier| (earlier.state, Some(earlier.run))));
    let written = |run| store.run(run).is_ok_and(|run| run.header.kind == RunKind::Written);
    let mut printer = Printer::new(env);
    let mut versions = 0_u64;
    for (state, replaced) in &states {
        for sibling in state.versions() {
            versions += 1;
            let live = matches!(sibling.content, Content::Live(_));
            let bytes = sibling.value().map_or(0, Vec::len) as u64;
            let (millis, actor) = (sibling.version.stamp.millis(), sibling.version.actor);
            let header = replaced.and_then(|run| store.run(run).ok()).map(|run| run.header);
            let peer = header.as_ref().map(|header| header.peer.as_str());
            let kind = header.as_ref().map(|header| header.kind.name());
            let value = sibling.value().filter(|_| args.values);
            let text = || {
                let ago = u64::try_from(now_s()).unwrap_or_default().saturating_sub(millis / 1000);
                let what = if live { show_bytes(bytes) } else { "deleted".into() };
                let until = match replaced {
                    Some(run) if written(*run) => "replaced by a write here".into(),
                    Some(run) => {
                        // An undo takes nobody's word.
                        let by = peer.filter(|peer| !peer.is_empty()).or(kind).unwrap_or_default();
                        format!("replaced by run {run} ({by})")
                    }
                    None => "there now".into(),
                };
                let ago = show_duration(Duration::from_secs(ago));
                let value = value.map(|value| format!("\t{}", layout.show_value(value))).unwrap_or_default();
                format!("{ago} ago by {:016x}\t{what}\t{until}{value}", actor.0)
            };
            let object = || {
                let mut object = fields(json!({
                    "t": "kept_version", "at_ms": millis, "actor": format!("{:016x}", actor.0), "live": live, "bytes": bytes,
                    "replaced_by": replaced.map(|run| run.to_string()), "peer": peer, "kind": kind,
                }));
                object.extend(value.map(|value| value_fields(&layout, value)).unwrap_or_default());
                Value::Object(object)
            };
            printer.item(text, object)?;
        }
    }
    let (exit, text) = match versions {
        0 => (Exit::Differs, format!("{}: neither the store nor its journal has it", layout.show_key(&key))),
        _ => (Exit::Done, String::new()),
    };
    let mut summary = fields(json!({ "found": versions > 0, "versions": versions }));
    summary.extend(key_fields(&layout, &key));
    printer.end(exit, &text, summary)
}
