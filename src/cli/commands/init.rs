//! `reknit init DIR`: makes a store of a new dataset, or of the dataset of another store.

use std::path::Path;

use serde_json::json;

use crate::cli::args::{Init, ProfileArg};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::{CliError, Exit};
use crate::core::bounds::NAME_BYTES_MAX;
use crate::core::policy::named;
use crate::core::{DatasetId, DatasetKey, Definition, Profile};
use crate::store::Store;

pub(crate) fn run(args: &Init, env: &mut Env) -> Result<Exit, CliError> {
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
            if !args.no_members && definition.profile == Profile::Versioned {
                definition = definition.with_members();
            }
            definition.collections[0].policy = policy(&args.policy)?;
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

/// The policy that was typed, in its one spelling; the version may be left out.
fn policy(typed: &str) -> Result<String, CliError> {
    let (name, rest) = typed.split_once(' ').map_or((typed, String::new()), |(name, rest)| (name, format!(" {rest}")));
    let text = if name.contains('/') { typed.to_string() } else { format!("{name}/1{rest}") };
    let known = named(&text);
    known.map_err(|error| CliError::new("usage.policy", format!("{error}; nothing was made")))?;
    Ok(text)
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
