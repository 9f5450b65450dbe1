//! `reknit conflicts`: keys whose versions have not seen each other, what readers see of them, and settling them.

use serde_json::{Value, json};

use super::sides::plural;
use crate::cli::args::{Conflicts, ConflictsCommand, InCollection, ResolveBy};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::records::{key_fields, typed_value, value_fields};
use crate::cli::units::show_instant;
use crate::cli::{CliError, Exit};
use crate::core::bounds::VERSIONS_MAX;
use crate::core::policy::{Judgement, Why};
use crate::core::{Content, Sibling};
use crate::format::Layout;
use crate::store::{Collection, Conflict, Resolution, Resolved, Store};

/// Conflicts that are read at once.
const PAGE: usize = 256;

pub(crate) fn run(args: &Conflicts, env: &mut Env) -> Result<Exit, CliError> {
    match &args.command {
        ConflictsCommand::List { store, limit, collection } => {
            let store = env.store(store)?;
            list(&store, collection.as_deref(), limit.unwrap_or(u64::MAX), env)
        }
        ConflictsCommand::Show { store: typed, key, of } => {
            let store = env.store(typed)?;
            let (collection, layout) = env.collection(&store, of)?;
            let again = format!("{} {}", quoted(&typed.display().to_string()), quoted(key));
            let of = of.name.as_ref().map_or_else(String::new, |name| format!(" --collection {}", quoted(name)));
            show(&collection, &layout, (key, &format!("{again}{of}")), env)
        }
        ConflictsCommand::Resolve { store, key, by, seen, of } => {
            let store = env.store(store)?;
            let (collection, layout) = env.collection(&store, of)?;
            resolve(&store, (&collection, &layout), key, (by, seen.as_deref()), env)
        }
    }
}

fn list(store: &Store, only: Option<&str>, limit: u64, env: &mut Env) -> Result<Exit, CliError> {
    let all: Vec<&str> = store.definition().data().map(|(_, collection)| collection.name.as_str()).collect();
    let several = all.len() > 1;
    let asked = match only {
        Some(name) => vec![env.collection(store, &InCollection { name: Some(name.into()) })?],
        None => all
            .iter()
            .map(|name| env.collection(store, &InCollection { name: Some((*name).into()) }))
            .collect::<Result<_, _>>()?,
    };
    let mut printer = Printer::new(env);
    let (mut listed, mut more) = (0, false);
    for (collection, layout) in &asked {
        let name = collection.name();
        let place = if several { format!(" in {name}") } else { String::new() };
        let mut after: Option<Vec<u8>> = None;
        while !more {
            let page = collection.conflicts(after.as_deref(), PAGE)?;
            for conflict in &page {
                if listed == limit {
                    more = true;
                    break;
                }
                listed += 1;
                let shown = layout.show_key(&conflict.key);
                let (n, sees) = (conflict.versions.len(), seen(conflict));
                printer.item(
                    || format!("{shown}{place}: {n} versions{}; {sees}", if is_full(n) { FULL } else { "" }),
                    || {
                        let mut object = fields(json!({
                            "t": "conflict", "collection": name, "versions": n, "open": conflict.judgement.is_open(),
                        }));
                        object.extend(key_fields(layout, &conflict.key));
                        object.extend(why(conflict).map(|why| ("why".to_string(), json!(why))));
                        object.extend(is_full(n).then(|| ("full".to_string(), json!(true))));
                        Value::Object(object)
                    },
                )?;
            }
            if page.len() < PAGE {
                break;
            }
            after = page.last().map(|conflict| conflict.key.clone());
        }
    }
    let aside = store.quarantined_count();
    let mut text = match listed {
        0 => "no key has several versions".to_string(),
        n => {
            let of = if several { " --collection NAME" } else { "" };
            format!("{n} conflict{}; see one with: reknit conflicts show STORE KEY{of}", plural(n))
        }
    };
    if aside > 0 {
        text.push_str(&format!("; {aside} record{} in quarantine: reknit quarantine list STORE", plural(aside)));
    }
    let exit = if listed + aside == 0 { Exit::Done } else { Exit::Differs };
    printer.end(exit, &text, fields(json!({ "keys": listed, "more": more, "quarantined": aside })))
}

/// Shows the versions of a key; `again` is what to type of it to settle its conflict.
fn show(
    collection: &Collection,
    layout: &Layout,
    (typed, again): (&str, &str),
    env: &mut Env,
) -> Result<Exit, CliError> {
    let key = layout.encode_key_argument(typed)?;
    let (entry, versions) = match collection.conflict(&key)? {
        Some(conflict) => (Some(shown_entry(&conflict)), conflict.versions),
        None => (None, collection.versions(&key)?.map(|state| state.versions().to_vec()).unwrap_or_default()),
    };
    let mut printer = Printer::new(env);
    for (nth, sibling) in (1..).zip(&versions) {
        printer.item(|| version_line(layout, nth, sibling), || version_object(layout, nth, sibling))?;
    }
    let mut text = match (&entry, versions.is_empty()) {
        (Some(entry), _) => format!(
            "settle it with: reknit conflicts resolve {again} --seen {entry} --version N, or with --value VALUE or --delete at the end"
        ),
        (None, true) => "the key was never written".into(),
        (None, false) => "no conflict: one version".into(),
    };
    let mut summary = fields(json!({ "versions": versions.len() }));
    let exit = if entry.is_some() { Exit::Differs } else { Exit::Done };
    summary.extend(entry.map(|entry| ("entry".to_string(), json!(entry))));
    if is_full(versions.len()) {
        text = format!("{} versions{FULL}\n{text}", versions.len());
    }
    summary.extend(key_fields(layout, &key));
    printer.end(exit, &text, summary)
}

/// What `--seen` takes of the versions of a key.
fn shown_entry(conflict: &Conflict) -> String {
    format!("{:016x}", conflict.entry)
}

/// An argument as a shell takes it.
fn quoted(typed: &str) -> String {
    match typed.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c)) && !typed.is_empty() {
        true => typed.into(),
        false => format!("'{}'", typed.replace('\'', r"'\''")),
    }
}

fn resolve(
    store: &Store,
    (collection, layout): (&Collection, &Layout),
    typed: &str,
    (by, seen): (&ResolveBy, Option<&str>),
    env: &mut Env,
) -> Result<Exit, CliError> {
    let key = layout.encode_key_argument(typed)?;
    let shown = layout.show_key(&key);
    let moved = || {
        let message = format!("another version of {shown} came meanwhile; nothing was changed; look again");
        CliError { exit: Exit::Undetermined, ..CliError::new("conflict.moved", message) }
    };
    let by = match (by.version, &by.value) {
        (Some(nth), _) => Resolution::Version(nth.wrapping_sub(1)),
        (None, Some(typed)) => Resolution::Value(typed_value(env, layout, &key, typed)?),
        (None, None) => Resolution::Delete,
    };
    let Some(conflict) = collection.conflict(&key)? else {
        let mut summary = fields(json!({ "found": false, "wrote": 0 }));
        summary.extend(key_fields(layout, &key));
        let text = format!("{shown} has no conflict; nothing was changed");
        return Printer::new(env).end(Exit::Differs, &text, summary);
    };
    if seen.is_some_and(|seen| seen != shown_entry(&conflict)) {
        return Err(moved());
    }
    match collection.resolve(&conflict, by)? {
        Resolved::Written => {
            let mut summary = fields(json!({ "found": true, "wrote": 1, "commit": store.cut().commit }));
            summary.extend(key_fields(layout, &key));
            Printer::new(env).end(Exit::Done, &format!("settled {shown}"), summary)
        }
        Resolved::NoVersion => {
            let n = conflict.versions.len();
            Err(CliError::new("usage.version", format!("{shown} has versions 1 to {n}; nothing was changed")))
        }
        Resolved::Moved => Err(moved()),
    }
}

/// What is said of a key that has as many versions as are kept.
const FULL: &str = ", as many as are kept: older ones may have gone";

/// Whether a key has as many versions as are kept.
fn is_full(versions: usize) -> bool {
    versions >= VERSIONS_MAX
}

/// What readers see, and why.
fn seen(conflict: &Conflict) -> String {
    match &conflict.judgement {
        Judgement::Version(nth) => format!("readers see version {}", nth + 1),
        Judgement::Made(..) => "readers see what the policy makes of them".into(),
        Judgement::Open { shown, why } => format!("open: {}; readers see version {}", reason(why), shown + 1),
    }
}

fn reason(why: &Why) -> String {
    match why {
        Why::Asks => "the policy asks".into(),
        Why::Failed(error) => error.to_string(),
    }
}

fn why(conflict: &Conflict) -> Option<String> {
    match &conflict.judgement {
        Judgement::Open { why, .. } => Some(reason(why)),
        _ => None,
    }
}

fn version_line(layout: &Layout, nth: usize, sibling: &Sibling) -> String {
    let content = match &sibling.content {
        Content::Live(value) => layout.show_value(value),
        Content::Tombstone => "deleted".into(),
    };
    let version = &sibling.version;
    let forgets = if version.seen.is_full() { "  (may have seen versions that it no longer tells)" } else { "" };
    let at = show_instant(version.stamp.millis());
    format!("{nth}  written {at} by {:016x}  {content}{forgets}", version.actor.0)
}

fn version_object(layout: &Layout, nth: usize, sibling: &Sibling) -> Value {
    let version = &sibling.version;
    let mut object = fields(json!({
        "t": "sibling",
        "version": nth,
        "millis": version.stamp.millis(),
        "actor": format!("{:016x}", version.actor.0),
        "deleted": sibling.value().is_none(),
    }));
    object.extend(version.seen.is_full().then(|| ("forgets".to_string(), json!(true))));
    object.extend(sibling.value().map(|value| value_fields(layout, value)).unwrap_or_default());
    Value::Object(object)
}
