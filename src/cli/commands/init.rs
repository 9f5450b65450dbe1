//! `reknit init DIR|TABLE`: makes a store of a new dataset, or of the dataset of another store; or a dataset of a table.

use std::collections::BTreeMap;
use std::path::Path;

use reknit_core::row::Kind;
use serde_json::json;

use super::sides::tables;
use crate::cli::args::{Init, ProfileArg, TermFlags};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::shared_tables::{self, SharedTable};
use crate::cli::{CliError, Exit};
use crate::core::bounds::NAME_BYTES_MAX;
use crate::core::policy::named;
use crate::core::{Collection, DatasetId, DatasetKey, Definition, Profile};
use crate::store::Store;

/// The policy where none was typed.
const NEWEST: &str = "newest";
/// The policy that goes by the kinds of columns.
const MERGE: &str = "merge/1";

pub(crate) fn run(args: &Init, env: &mut Env) -> Result<Exit, CliError> {
    if let Some(typed) = args.dir.to_str().filter(|typed| tables::is_table(typed)) {
        return of_table(typed, args, env);
    }
    if args.terms != TermFlags::default() || !args.kind.is_empty() {
        let message = "--kind, --key, --columns, --ignore, --rename, --where, --zone, roundings and tolerances are for a table; a \
                       store keeps whole records; nothing was made";
        return Err(CliError::new("usage.terms", message));
    }
    let dir = env.path(&args.dir);
    let store = match &args.like {
        Some(other) => like(&env.store(other)?, &dir, env)?,
        None => {
            let name = name(args, &dir)?;
            let (mut id, mut key) = ([0; 16], [0; 32]);
            random(&mut id)?;
            random(&mut key)?;
            let mut definition = Definition::simple(DatasetId(id), &name);
            definition.profile = match args.profile {
                ProfileArg::Versioned => Profile::Versioned,
                ProfileArg::Content => Profile::Content,
            };
            definition.key_index = !args.no_key_index;
            definition.collections = collections(args)?;
            refuse_idle_policy(&definition)?;
            if !args.no_members && definition.profile == Profile::Versioned {
                definition = definition.with_members();
            }
            let wrong = |error| CliError::new("usage.collection", format!("{error}; nothing was made"));
            definition.check().map_err(wrong)?;
            Store::create(&dir, definition, DatasetKey::from_bytes(key), &env.store_options())?
        }
    };
    made(&store, &args.dir, env)
}

/// An empty store of the dataset of another, with a life of its own.
fn like(other: &Store, dir: &Path, env: &Env) -> Result<Store, CliError> {
    let definition = (**other.definition()).clone();
    let store = Store::create(dir, definition, other.dataset_key().clone(), &env.store_options())?;
    for collection in &other.definition().collections {
        if let Some(layout) = other.collection(&collection.name)?.layout()? {
            store.collection(&collection.name)?.set_layout(Some(layout))?;
        }
    }
    Ok(store)
}

/// A dataset of a table, which stays where it is and as it is.
fn of_table(typed: &str, args: &Init, env: &mut Env) -> Result<Exit, CliError> {
    let of_stores = args.like.is_some()
        || args.policy != NEWEST
        || !args.collection.is_empty()
        || args.no_key_index
        || args.no_members;
    if of_stores || !args.terms.tolerance.is_empty() {
        let message = "--like, --policy, --collection, --no-key-index and --no-members are for stores, and --tolerance is for two \
                       tables of one machine; nothing was made";
        return Err(CliError::new("usage.terms", message));
    }
    let table = tables::table(env, typed)?;
    let kinds = args.kind.iter().map(|typed| {
        let (column, kind) = typed.rsplit_once('=')?;
        Some((column.to_string(), Kind::of_name(kind.as_bytes())?))
    });
    let kinds = kinds.collect::<Option<BTreeMap<_, _>>>().ok_or_else(|| {
        let known = Kind::ALL.map(Kind::name).join(", ");
        CliError::new("usage.terms", format!("--kind takes COLUMN=KIND, with one of {known}; nothing was made"))
    })?;
    let name = args.name.as_deref().unwrap_or_else(|| shared_tables::name_of(table.place()));
    let shared = SharedTable::make(env, &*table, name, (&args.terms.terms()?, &kinds))?;
    let definition = shared.dataset.definition();
    let typed = tables::typed_again(typed);
    let text = format!(
        "made the dataset {} {} of {}\nlet others compare theirs with it: reknit invite {typed} --at HOST, and reknit serve {typed}",
        definition.name,
        definition.id,
        table.place()
    );
    let summary =
        json!({ "dataset": definition.name, "dataset_id": definition.id.to_string(), "table": table.place() });
    Printer::new(env).end(Exit::Done, &text, fields(summary))
}

/// Says which store was made.
pub(super) fn made(store: &Store, typed: &Path, env: &mut Env) -> Result<Exit, CliError> {
    let definition = store.definition();
    let actor = format!("{:016x}", store.actor().0);
    let text =
        format!("made the store {}\ndataset {} {}\nactor   {actor}", typed.display(), definition.name, definition.id);
    let summary = json!({
        "dataset": definition.name,
        "dataset_id": definition.id.to_string(),
        "store": env.path(typed).display().to_string(),
        "actor": actor,
        "records": store.stats()?.records,
    });
    Printer::new(env).end(Exit::Done, &text, fields(summary))
}

/// The collections that were typed, each with its policy.
fn collections(args: &Init) -> Result<Vec<Collection>, CliError> {
    let of_all = policy(&args.policy)?;
    if args.collection.is_empty() {
        return Ok(vec![Collection { name: "default".into(), policy: of_all }]);
    }
    let each = args.collection.iter().map(|typed| {
        let (name, own) = typed.split_once('=').map_or((typed.as_str(), None), |(name, own)| (name, Some(own)));
        if name.is_empty() || name.contains('/') || name.chars().any(char::is_control) {
            let message =
                format!("{name:?} cannot name a collection: it is empty, or has a slash or a control character");
            return Err(CliError::new("usage.collection", format!("{message}; nothing was made")));
        }
        Ok(Collection { name: name.into(), policy: own.map_or_else(|| Ok(of_all.clone()), policy)? })
    });
    each.collect()
}

/// Refuses a policy where there are no versions that it could judge.
fn refuse_idle_policy(definition: &Definition) -> Result<(), CliError> {
    let idle = |of: &&Collection| definition.profile == Profile::Content && of.policy != format!("{NEWEST}/1");
    let Some(Collection { name, policy }) = definition.collections.iter().find(idle) else { return Ok(()) };
    let message = format!(
        "the policy {policy} of {name} would judge nothing: the profile content keeps no versions, and of two contents that differ \
         none is newer; leave --policy or --profile out; nothing was made"
    );
    Err(CliError::new("usage.policy", message))
}

/// The policy that was typed, in its one spelling; the version may be left out.
fn policy(typed: &str) -> Result<String, CliError> {
    let typed = typed.trim();
    let (name, rest) = typed.split_once(char::is_whitespace).map_or((typed, ""), |(name, rest)| (name, rest.trim()));
    let mut text = if name.contains('/') { name.to_string() } else { format!("{name}/1") };
    if !rest.is_empty() {
        let rest = if text == MERGE { in_order(rest) } else { rest.into() };
        text = format!("{text} {rest}");
    }
    let known = named(&text);
    known.map_err(|error| CliError::new("usage.policy", format!("{error}; nothing was made")))?;
    Ok(text)
}

/// What `merge` is told: the column of stamps, then the others sorted, so that one policy has one spelling.
fn in_order(typed: &str) -> String {
    // Of each part its name, without the backslashes, and itself.
    let mut parts = vec![(String::new(), String::new())];
    let (mut chars, mut named) = (typed.chars(), true);
    while let Some(c) = chars.next() {
        let literal = if c == '\\' { chars.next() } else { None };
        if c == ';' {
            parts.push(Default::default());
            named = true;
            continue;
        }
        named &= c != '=';
        if let Some((name, part)) = parts.last_mut() {
            name.extend(literal.or(Some(c)).filter(|_| named));
            part.push(c);
            part.extend(literal);
        }
    }
    for (name, part) in &mut parts {
        (*name, *part) = (name.trim_start().into(), part.trim().into());
    }
    parts[1..].sort();
    parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(";")
}

/// The dataset's name: as given, or the directory's. It stands in addresses, so it has no slash.
fn name(args: &Init, dir: &Path) -> Result<String, CliError> {
    let of_dir = || dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = args.name.clone().or_else(of_dir).unwrap_or_default();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('/') || name.chars().any(char::is_control) {
        let message = format!(
            "{name:?} cannot name a dataset: 1 to {NAME_BYTES_MAX} bytes without slashes and control characters can; \
             nothing was made; give one with --name"
        );
        return Err(CliError::new("usage.name", message));
    }
    Ok(name)
}

fn random(bytes: &mut [u8]) -> Result<(), CliError> {
    let told = |error| CliError::new("randomness", format!("the system gave no randomness: {error}; nothing was made"));
    getrandom::fill(bytes).map_err(told)
}
