//! `reknit get STORE KEY`: prints the value of a key; exits 1 if it has none.

use std::io::{IsTerminal, Write};

use serde_json::json;

use crate::cli::args::Get;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::records::{key_fields, value_fields, value_line};
use crate::cli::{CliError, Exit};
use crate::format::Format;

pub(crate) fn run(args: &Get, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(&args.store)?;
    let (collection, layout) = env.collection(&store, &args.of)?;
    let key = layout.encode_key_argument(&args.key)?;
    let value = collection.get(&key)?;
    if let Some(value) = value.as_ref().filter(|_| env.text() && !env.global.quiet) {
        env.out.write_all(&value_line(&layout, &key, value))?;
        // Raw bytes are printed as they are, except where a prompt would stick to them. Within a daemon stdout is not
        // the one that is printed to.
        if layout.format() == Format::Kv && env.listening.is_none() && std::io::stdout().is_terminal() {
            env.out.write_all(b"\n")?;
        }
        env.out.flush()?;
    }
    let exit = if value.is_some() { Exit::Done } else { Exit::Differs };
    let mut summary = fields(json!({ "found": value.is_some() }));
    summary.extend(key_fields(&layout, &key));
    summary.extend(value.map(|value| value_fields(&layout, &value)).unwrap_or_default());
    Printer::new(env).end(exit, "", summary)
}
