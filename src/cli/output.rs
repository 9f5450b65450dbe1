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

impl<'a> Printer<'a> {
    /// Prints to the streams of `env`.
    pub(crate) fn new(env: &'a mut Env) -> Printer<'a> {
        Printer { env, items: Vec::new() }
    }

    /// One result: a line for people, or an object.
    pub(crate) fn item(
        &mut self,
        text: impl FnOnce() -> String,
        object: impl FnOnce() -> Value,
    ) -> std::io::Result<()> {
        match self.env.global.output {
            OutputFormat::Text if self.env.global.quiet => Ok(()),
            OutputFormat::Text => writeln!(self.env.results(), "{}", text()),
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
            OutputFormat::Text => writeln!(self.env.results(), "{text}")?,
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
