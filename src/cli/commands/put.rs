//! `reknit put STORE KEY VALUE`: gives a key a value, which may expire; synced when it ends.

use reknit_core::Profile;
use reknit_core::stamp::Millis;
use serde_json::json;

use crate::cli::args::Put;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::records::{key_fields, typed_value};
use crate::cli::units::parse_duration;
use crate::cli::{CliError, Exit};
use crate::clock::now_ms;
use crate::store::{Durability, Op, Store};

pub(crate) fn run(args: &Put, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(&args.store)?;
    let (collection, layout) = env.collection(&store, &args.of)?;
    let key = layout.encode_key_argument(&args.key)?;
    let value = typed_value(env, &layout, &key, &args.value)?;
    let expires = args.expires.as_deref().map(|lasts| expiry(&store, lasts)).transpose()?;
    let commit = collection.batch(vec![Op::Put { key: key.clone(), value, expires }], Durability::Synced)?;
    let mut summary = fields(json!({ "wrote": 1, "commit": commit }));
    summary.extend(expires.map(|at| ("expires_ms".to_string(), json!(at))));
    summary.extend(key_fields(&layout, &key));
    Printer::new(env).end(Exit::Done, &format!("put {}", layout.show_key(&key)), summary)
}

/// When what lasts so long expires.
fn expiry(store: &Store, lasts: &str) -> Result<Millis, CliError> {
    let lasts = u64::try_from(parse_duration(lasts)?.as_millis()).unwrap_or(u64::MAX);
    if store.definition().profile == Profile::Content {
        let message = "nothing expires in a dataset that keeps no versions, since nobody could tell that from a loss; wrote 0 records";
        return Err(CliError::new("put.expires", message));
    }
    Ok(now_ms().saturating_add(lasts))
}
