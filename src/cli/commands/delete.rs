//! `reknit delete STORE KEY`: deletes a key, leaving a tombstone; exits 1 if it had no value.

use serde_json::json;

use crate::cli::args::Delete;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::records::key_fields;
use crate::cli::{CliError, Exit};

pub(crate) fn run(args: &Delete, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(&args.store)?;
    let (collection, layout) = env.collection(&store, &args.of)?;
    let key = layout.encode_key_argument(&args.key)?;
    let found = collection.delete(&key)?;
    let shown = layout.show_key(&key);
    let (exit, text) = match found {
        true => (Exit::Done, format!("deleted {shown}")),
        false => (Exit::Differs, format!("{shown} has no value; nothing was changed")),
    };
    let mut summary = fields(json!({ "found": found, "wrote": u8::from(found) }));
    summary.extend(key_fields(&layout, &key));
    Printer::new(env).end(exit, &text, summary)
}
