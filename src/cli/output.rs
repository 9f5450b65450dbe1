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
            OutputFormat::Text => writeln!(self.env.out, "{}", text()),
            OutputFormat::Jsonl => writeln!(self.env.out, "{}", object()),
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
        let mut whole = Map::from_iter([
            ("t".to_string(), json!("summary")),
            ("schema".to_string(), json!(SCHEMA)),
            ("exit".to_string(), json!(exit.number())),
        ]);
        whole.extend(summary);
        match self.env.global.output {
            OutputFormat::Text if text.is_empty() => {}
            OutputFormat::Text => writeln!(self.env.out, "{text}")?,
            OutputFormat::Jsonl => writeln!(self.env.out, "{}", Value::Object(whole))?,
            OutputFormat::Json => {
                let document = json!({ "items": self.items, "summary": whole });
                writeln!(self.env.out, "{document:#}")?;
            }
        }
        self.env.out.flush()?;
        Ok(exit)
    }
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
    if !env.text() {
        let summary = json!({
            "t": "summary", "schema": SCHEMA, "exit": error.exit.number(), "error": error.id, "message": error.message
        });
        let whole =
            if env.global.output == OutputFormat::Json { json!({ "items": [], "summary": summary }) } else { summary };
        let _ = writeln!(env.out, "{whole}");
    }
    let _ = env.out.flush();
    error.exit
}
