//! The lines of a plan: who made it and against what, a key each, and the counts at its end.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::CliError;
use crate::cli::args::To;

/// The first line: who made the plan, when, and against what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// `plan`.
    pub(crate) t: String,
    pub(crate) format: u64,
    /// The plan's name.
    pub(crate) id: String,
    /// The identity of the home that made it.
    pub(crate) made_by: String,
    /// In milliseconds since the Unix epoch.
    pub(crate) made_at_ms: u64,
    pub(crate) dataset: String,
    pub(crate) dataset_id: String,
    /// The hash of its definition.
    pub(crate) definition: String,
    /// The collections that were compared, with the policies that they had.
    pub(crate) collections: Vec<(String, String)>,
    /// The sides, as they were typed; a directory in full.
    pub(crate) a: String,
    pub(crate) b: String,
    /// Which side is written.
    pub(crate) to: To,
    /// Whether that side becomes exactly the other.
    pub(crate) mirror: bool,
    /// Whether values are told.
    pub(crate) values: bool,
}

/// A line on one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Key {
    /// `key`.
    pub(crate) t: String,
    pub(crate) collection: String,
    /// As it is shown.
    pub(crate) key: String,
    pub(crate) key_hex: String,
    /// How it differs, as by `diff`.
    pub(crate) op: String,
    /// Which side is written: a, b or both.
    pub(crate) write: To,
    /// The first eight bytes of the entries' digests; none where there is no entry.
    pub(crate) entry_a: Option<String>,
    pub(crate) entry_b: Option<String>,
    /// What readers of a side will lose: `deleted` or `changed`.
    pub(crate) loses_a: Option<String>,
    pub(crate) loses_b: Option<String>,
    /// As they are shown, where they were asked for and are known here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) value_a: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) value_b: Option<String>,
}

/// What readers of a side will lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loses {
    pub(crate) deleted: u64,
    pub(crate) changed: u64,
}

/// The last line: what the sides were, and how much there is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// `end`.
    pub(crate) t: String,
    pub(crate) keys: u64,
    /// Differences that are not in the plan: left by its direction,
    pub(crate) left: u64,
    /// or in flight when it was made.
    pub(crate) in_flight: u64,
    /// Keys that are written on each side.
    pub(crate) writes_a: u64,
    pub(crate) writes_b: u64,
    pub(crate) loses_a: Loses,
    pub(crate) loses_b: Loses,
    /// How many records the sides held, their roots, and the commit numbers at which they were compared.
    pub(crate) records_a: u64,
    pub(crate) records_b: u64,
    pub(crate) root_a: String,
    pub(crate) root_b: String,
    pub(crate) cut_a: u64,
    pub(crate) cut_b: u64,
}

/// A line of the kind that is awaited there.
pub(super) fn parse<T: serde::de::DeserializeOwned>(line: Value) -> Result<T, CliError> {
    let of_another = |error| CliError::refused("plan.malformed", format!("the plan is of another release: {error}"));
    serde_json::from_value(line).map_err(of_another)
}

impl Header {
    pub(crate) fn parse(line: Value) -> Result<Header, CliError> {
        parse(line)
    }
}

impl Key {
    pub(crate) fn parse(line: Value) -> Result<Key, CliError> {
        parse(line)
    }
}

impl Tally {
    pub(crate) fn parse(line: Value) -> Result<Tally, CliError> {
        parse(line)
    }
}
