//! `reknit quarantine`: records that peers stamped too far in the future, and letting them out.

use std::path::Path;

use serde_json::{Value, json};

use super::sides::{plural, tables};
use crate::cli::args::{InCollection, Quarantine, QuarantineCommand, Which};
use crate::cli::env::Env;
use crate::cli::layouts::Layouts;
use crate::cli::output::{Printer, fields};
use crate::cli::records::key_fields;
use crate::cli::{CliError, Exit};
use crate::core::CollectionId;
use crate::store::{Release, Released, Store, Why};

/// Records that are read at once.
const PAGE: usize = 256;

pub(crate) fn run(args: &Quarantine, env: &mut Env) -> Result<Exit, CliError> {
    match &args.command {
        QuarantineCommand::List { store, limit } => {
            let store = env.store(store)?;
            list(&store, limit.unwrap_or(u64::MAX), env)
        }
        QuarantineCommand::Accept { store, which, of } => release(store, (which, of), Release::Accept, env),
        QuarantineCommand::Drop { store, which, of } => release(store, (which, of), Release::Drop, env),
    }
}

fn list(store: &Store, limit: u64, env: &mut Env) -> Result<Exit, CliError> {
    let layouts = Layouts::of_store(store)?;
    let mut printer = Printer::new(env);
    let mut listed = 0;
    let mut after: Option<(CollectionId, Vec<u8>)> = None;
    loop {
        let from = after.as_ref().map(|(collection, key)| (*collection, key.as_slice()));
        let page = store.quarantined(from, PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some((last.collection, last.key.clone()));
        for held in page.iter().take(usize::try_from(limit - listed).unwrap_or(usize::MAX)) {
            listed += 1;
            let collection = &store.definition().collections[usize::from(held.collection.0)].name;
            let layout = layouts.of(held.collection);
            let version = &held.state.winner().version;
            printer.item(
                || {
                    let (shown, stamp) = (layout.show_key(&held.key), version.stamp.millis());
                    let why = match held.why {
                        Why::Ahead => "came",
                        Why::Stray => {
                            "no other store had it as it is here, and no receipt tells whether it was deleted; set apart"
                        }
                    };
                    format!(
                        "{collection} {shown}  stamped {stamp} ms by {:016x}, {why} at {} ms",
                        version.actor.0, held.since
                    )
                },
                || {
                    let mut object = fields(json!({
                        "t": "quarantined",
                        "collection": collection,
                        "millis": version.stamp.millis(),
                        "actor": format!("{:016x}", version.actor.0),
                        "since": held.since,
                        "why": match held.why {
                            Why::Ahead => "ahead",
                            Why::Stray => "stray",
                        },
                    }));
                    object.extend(key_fields(layout, &held.key));
                    Value::Object(object)
                },
            )?;
        }
        if listed == limit {
            break;
        }
    }
    let all = store.quarantined_count();
    let text = match all {
        0 => "nothing is in quarantine".to_string(),
        n => format!(
            "{n} record{} in quarantine: those stamped ahead are applied once this clock comes near, strays wait for you \
             (reknit quarantine accept|drop)",
            plural(n)
        ),
    };
    let exit = if all == 0 { Exit::Done } else { Exit::Differs };
    printer.end(exit, &text, fields(json!({ "keys": listed, "more": listed < all })))
}

fn release(path: &Path, (which, of): (&Which, &InCollection), how: Release, env: &mut Env) -> Result<Exit, CliError> {
    let store = &env.store(path)?;
    let Released { left, run } = match &which.key {
        None => {
            let of = of.name.as_ref().map(|_| env.collection(store, of)).transpose()?;
            store.release_all(how, of.map(|(of, _)| of.id()))?
        }
        Some(typed) => {
            let (of, layout) = env.collection(store, of)?;
            store.release(of.id(), &layout.encode_key_argument(typed)?, how)?
        }
    };
    let (exit, wrote) =
        (if left == 0 { Exit::Differs } else { Exit::Done }, if how == Release::Drop { 0 } else { left });
    let mut text = match (left, how) {
        (0, _) => "not in quarantine; nothing was changed".to_string(),
        (n, Release::Drop) => format!("dropped {n} record{}", plural(n)),
        (n, _) => format!("applied {n} record{}", plural(n)),
    };
    if let Some(run) = run {
        let store = tables::typed_again(&path.display().to_string());
        text.push_str(&format!("\nto undo it in {store}: reknit runs undo {store} {run}"));
    }
    let run = run.map(|run| run.to_string());
    Printer::new(env).end(exit, &text, fields(json!({ "keys": left, "wrote": wrote, "run": run })))
}
