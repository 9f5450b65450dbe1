//! `reknit put STORE KEY VALUE`: gives a key a value; synced when it ends.

use serde_json::json;

use crate::cli::args::Put;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::records::{key_fields, typed_value};
use crate::cli::{CliError, Exit};

pub(crate) fn run(args: &Put, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(&args.store)?;
    let layout = env.layout(&store)?;
    let key = layout.encode_key_argument(&args.key)?;
    let value = typed_value(env, &layout, &key, &args.value)?;
    let commit = store.put(&key, &value)?;
    let mut summary = fields(json!({ "wrote": 1, "commit": commit }));
    summary.extend(key_fields(&layout, &key));
    Printer::new(env).end(Exit::Done, &format!("put {}", layout.show_key(&key)), summary)
}
