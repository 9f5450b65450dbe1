//! `reknit list STORE`: the keys of a store in order.

use serde_json::{Value, json};

use crate::cli::args::List;
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::records::key_fields;
use crate::cli::{CliError, Exit};
use crate::core::row;
use crate::format::{Format, Layout};

/// Bytes that are written at once.
const WRITE_BYTES: usize = 64 << 10;

pub(crate) fn run(args: &List, env: &mut Env) -> Result<Exit, CliError> {
    match list(args, env) {
        // Whoever reads has seen enough.
        Err(error) if error.id == "output.closed" => Ok(Exit::Done),
        other => other,
    }
}

fn list(args: &List, env: &mut Env) -> Result<Exit, CliError> {
    let store = env.store(&args.store)?;
    let (collection, layout) = env.collection(&store, &args.of)?;
    let prefix = args.prefix.as_deref().map_or(Ok(Vec::new()), |typed| prefix(&layout, typed))?;
    let limit = args.limit.unwrap_or(u64::MAX);
    // Lines go out in large writes: keys can be many.
    let out = std::mem::replace(&mut env.out, Box::new(std::io::sink()));
    env.out = Box::new(std::io::BufWriter::with_capacity(WRITE_BYTES, out));
    let mut listed = 0;
    let mut more = false;
    let rows = collection.scan(&prefix)?;
    let mut printer = Printer::new(env);
    for row in rows {
        let (key, _) = row?;
        if listed == limit {
            more = true;
            break;
        }
        listed += 1;
        let object = || {
            let mut object = fields(json!({ "t": "key" }));
            object.extend(key_fields(&layout, &key));
            Value::Object(object)
        };
        printer.item(|| layout.show_key(&key), object)?;
    }
    printer.end(Exit::Done, "", fields(json!({ "keys": listed, "more": more })))
}

/// The first bytes of the keys that are meant.
fn prefix(layout: &Layout, typed: &str) -> Result<Vec<u8>, CliError> {
    if layout.format() == Format::Kv || typed.is_empty() {
        return Ok(layout.encode_key_argument(typed)?);
    }
    let refused = |message: String| CliError::new("usage.prefix", message);
    if layout.key_columns().len() > 1 {
        let columns = layout.key_columns().join(",");
        return Err(refused(format!("keys of several columns ({columns}) have no prefix; list without --prefix")));
    }
    let text = typed.strip_prefix('"');
    let digits = typed.strip_prefix('-').unwrap_or(typed);
    if text.is_none() && digits.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(refused(format!(
            "numbers sort as numbers and have no prefix; for texts that begin with {typed}, say --prefix '\"{typed}'"
        )));
    }
    let mut key = row::encode_key(&[row::Value::Text(text.unwrap_or(typed).to_owned())]);
    // Without the two bytes that end a text.
    key.truncate(key.len() - 2);
    Ok(key)
}
