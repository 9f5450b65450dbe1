//! What is printed: results on stdout, everything else on stderr, one `summary` at the end of JSON.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::args::OutputFormat;
use super::env::Env;
use super::{CliError, Exit};

/// The version of the JSON that is printed; fields are only ever added to it.
pub(crate) const SCHEMA: &str = "reknit/1";

/// Prints results as they come, and a summary at the end.
pub(crate) struct Printer<'a> {
    env: &'a mut Env,
    items: Vec<Value>,
}

/// A table of several that one command goes through, with what was printed of it where that is one document.
pub(crate) struct OfTable {
    name: String,
    pub(crate) items: Vec<Value>,
}

impl OfTable {
    /// A table of which nothing was printed.
    pub(crate) fn new(name: String) -> OfTable {
        OfTable { name, items: Vec::new() }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl<'a> Printer<'a> {
    /// Prints to the streams of `env`.
    pub(crate) fn new(env: &'a mut Env) -> Printer<'a> {
        Printer::with(env, Vec::new())
    }

    /// As [`Printer::new`], with items that there are already, if one document is printed.
    pub(crate) fn with(env: &'a mut Env, items: Vec<Value>) -> Printer<'a> {
        Printer { env, items }
    }

    /// One result: a line for people, or an object.
    pub(crate) fn item(
        &mut self,
        text: impl FnOnce() -> String,
        object: impl FnOnce() -> Value,
    ) -> std::io::Result<()> {
        let table = self.env.table.as_ref().map(|of| of.name.clone());
        let object = || {
            let mut object = object();
            if let Some(table) = &table {
                object["table"] = json!(table);
            }
            object
        };
        match self.env.global.output {
            OutputFormat::Text if self.env.global.quiet => Ok(()),
            OutputFormat::Text => match &table {
                Some(table) => writeln!(self.env.results(), "{table}\t{}", text()),
                None => writeln!(self.env.results(), "{}", text()),
            },
            OutputFormat::Jsonl => writeln!(self.env.results(), "{}", object()),
            OutputFormat::Json => {
                self.items.push(object());
                Ok(())
            }
        }
    }

    /// The end: a text for people, or the summary object; quiet prints nothing on exit 0.
    pub(crate) fn end(self, exit: Exit, text: &str, summary: Map<String, Value>) -> Result<Exit, CliError> {
        let exit = if exit == Exit::Differs && self.env.global.exit_zero { Exit::Done } else { exit };
        if self.env.global.quiet && exit == Exit::Done {
            return Ok(exit);
        }
        let whole = whole(self.env, exit, summary);
        match self.env.global.output {
            OutputFormat::Text if text.is_empty() => {}
            OutputFormat::Text => match self.env.table.as_ref().map(|of| of.name.clone()) {
                Some(table) => writeln!(self.env.results(), "{table}: {text}")?,
                None => writeln!(self.env.results(), "{text}")?,
            },
            OutputFormat::Json if self.env.table.is_some() => {
                if let Some(of) = &mut self.env.table {
                    of.items.extend(self.items);
                    of.items.push(Value::Object(whole));
                }
            }
            OutputFormat::Jsonl => writeln!(self.env.results(), "{}", Value::Object(whole))?,
            OutputFormat::Json => {
                let document = json!({ "items": self.items, "summary": whole });
                writeln!(self.env.results(), "{document:#}")?;
            }
        }
        self.env.results().flush()?;
        Ok(exit)
    }
}

/// A summary: what every one of them holds, then what this one adds.
fn whole(env: &Env, exit: Exit, summary: Map<String, Value>) -> Map<String, Value> {
    let mut whole = fields(json!({ "t": "summary", "schema": SCHEMA, "command": env.command, "exit": exit.number() }));
    if let Some(of) = &env.table {
        whole.insert("t".into(), json!("table"));
        whole.insert("table".into(), json!(of.name));
    }
    whole.extend(summary);
    whole
}

/// The fields of an object, for a summary.
pub(crate) fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Prints why a table of several could not be gone through; its exit is that of the error.
pub(crate) fn print_table_error(env: &mut Env, error: &CliError) -> Exit {
    let name = env.table.as_ref().map(|of| of.name.clone()).unwrap_or_default();
    // Where nobody listens any more there is nobody to tell.
    let _ = writeln!(env.err, "reknit: {name}: {error} [{}]", error.id);
    let object = whole(env, error.exit, fields(json!({ "error": error.id, "message": error.message })));
    match env.global.output {
        OutputFormat::Text => {}
        OutputFormat::Jsonl => _ = writeln!(env.results(), "{}", Value::Object(object)),
        OutputFormat::Json => env.table.iter_mut().for_each(|of| of.items.push(Value::Object(object.clone()))),
    }
    error.exit
}

/// Prints an error: a sentence with its id for people, a summary with its id otherwise.
pub(crate) fn print_error(env: &mut Env, error: &CliError) -> Exit {
    // Where nobody listens any more there is nobody to tell.
    let _ = writeln!(env.err, "reknit: {error} [{}]", error.id);
    env.failed = Some((error.id, error.message.clone()));
    if !env.text() {
        let mut summary = fields(json!({ "error": error.id, "message": error.message }));
        match error.exit {
            // A journal may become full in the middle, and a peer may brake there; what was written before is not known here.
            Exit::Refused if ["journal.full", "peer.brakes"].contains(&error.id) => {
                summary.extend(fields(json!({ "verdict": "refused" })))
            }
            Exit::Refused => summary.extend(fields(json!({ "verdict": "refused", "wrote": 0 }))),
            // What was written before is not known here.
            Exit::Undetermined | Exit::Interrupted | Exit::Terminated => {
                summary.extend(fields(json!({ "verdict": "undetermined" })));
            }
            _ => {}
        }
        let summary = whole(env, error.exit, summary);
        let whole = match env.global.output {
            OutputFormat::Json => json!({ "items": [], "summary": summary }),
            _ => Value::Object(summary),
        };
        let _ = writeln!(env.results(), "{whole}");
    }
    let _ = env.results().flush();
    error.exit
}
