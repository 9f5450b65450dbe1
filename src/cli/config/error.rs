//! What is wrong with a configuration: each error with its line, its table and its key; several at once.
//!
//! What is expected where is said by whoever reads that.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::CliError;

/// One thing that is wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    pub(crate) path: PathBuf,
    /// Of the key; of the table where it lacks one.
    pub(crate) line: usize,
    /// The table, as it is written; nothing beyond all tables.
    pub(crate) table: String,
    /// The key, if it is about one.
    pub(crate) key: Option<String>,
    pub(crate) id: &'static str,
    /// What was found, and what was expected. The text of the file, in which there may be a password, is not shown.
    pub(crate) message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.message)
    }
}

impl ConfigError {
    /// For machines.
    pub(crate) fn object(&self) -> Value {
        json!({
            "t": "config_error",
            "file": self.path.display().to_string(),
            "line": self.line,
            "table": self.table,
            "key": self.key,
            "error": self.id,
            "message": self.message,
        })
    }
}

/// What was found to be wrong so far.
#[derive(Debug, Default)]
pub(super) struct Errors(RefCell<Vec<ConfigError>>);

impl Errors {
    pub(super) fn note(&self, error: ConfigError) {
        self.0.borrow_mut().push(error);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// All, in the order of the file.
    pub(super) fn sorted(self) -> Vec<ConfigError> {
        let mut all = self.0.into_inner();
        all.sort_by_key(|error| error.line);
        all
    }
}

/// The lines of tables, and of the keys in them.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<String, (usize, BTreeMap<String, usize>)>);

impl Lines {
    pub(super) fn of(text: &str, root: &DeTable<'_>) -> Lines {
        let mut lines = Lines::default();
        for (name, value) in root {
            let Some(table) = value.get_ref().as_table() else { continue };
            lines.add(text, name.get_ref().to_string(), value.span(), table);
            for (key, value) in table {
                let Some(table) = value.get_ref().as_table() else { continue };
                lines.add(text, format!("{}.{}", name.get_ref(), key.get_ref()), value.span(), table);
            }
        }
        lines
    }

    fn add(&mut self, text: &str, name: String, at: Range<usize>, table: &DeTable<'_>) {
        let key = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            (key.get_ref().replace('-', "_"), line(text, value.span().start))
        };
        self.0.insert(name, (line(text, at.start), table.iter().map(key).collect()));
    }

    /// The line of a key, or that of the table where it lacks it.
    pub(super) fn of_key(&self, table: &str, key: &str) -> usize {
        self.0.get(table).map_or(1, |(line, keys)| keys.get(key).copied().unwrap_or(*line))
    }
}

/// The first of them, for who needs the configuration and can do nothing with this one.
pub(super) fn first(errors: &[ConfigError]) -> Result<(), CliError> {
    let Some((first, others)) = errors.split_first() else { return Ok(()) };
    let more = match others.len() {
        0 => String::new(),
        1 => "; 1 more error: reknit config check".into(),
        n => format!("; {n} more errors: reknit config check"),
    };
    Err(CliError::new(first.id, format!("{first}{more}; nothing was done")))
}

/// The line on which something stands.
pub(super) fn line(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

/// That something is wrong there.
pub(super) fn malformed(path: &Path, (line, table, key): (usize, &str, Option<&str>), message: String) -> ConfigError {
    let (table, key) = (table.into(), key.map(String::from));
    ConfigError { path: path.into(), line, table, key, id: "config.malformed", message }
}
