//! Policies: pure functions of the set of concurrent versions of a key to the one value that readers see.
//!
//! A policy is named in the dataset's definition. What is kept of versions is [`crate::record::State::join`]'s concern; a
//! policy never sees them two by two or in the order of their arrival, so that all replicas see one value.

mod column;
mod laws;
mod merge;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use crate::bounds::POLICY_BYTES_MAX;
use crate::record::{Content, Keeps, Sibling};
use crate::row::{Row, Value};
use crate::stamp::Millis;

pub use laws::{Judged, LawBroken, judged, policy_laws};

/// The id of the policy that keeps the version of the greatest stamp. It may lose concurrent writes.
pub const NEWEST: &str = "newest/1";
/// The id of the policy that keeps all versions and shows the newest that is live.
pub const KEEP_BOTH: &str = "keep-both/1";
/// The id of the policy that keeps all versions and shows the oldest until someone decides.
pub const ASK: &str = "ask/1";

/// What replicas keep of concurrent versions under the policy of this id: one under [`NEWEST`], else all.
pub fn keeps(id: &str) -> Keeps {
    if id == NEWEST { Keeps::Newest } else { Keeps::All }
}

/// How concurrent versions become one value.
///
/// [`policy_laws`] checks what every policy must keep to.
pub trait Policy: Debug + Send + Sync {
    /// Its name, version and parameters, exactly as a definition tells them: `largest/1 population`.
    fn id(&self) -> &str;

    /// Which value readers see of these versions, at least one, newest first, none of which has seen another.
    /// A function of the set alone.
    fn judge(&self, versions: &[Sibling]) -> Judgement;
}

/// What a policy makes of a set of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Readers see this one, by its place.
    Version(usize),
    /// Readers see what is made of several.
    Made(Content, Option<Millis>),
    /// A conflict that is yet to be settled; until then readers see this one.
    Open {
        /// Its place.
        shown: usize,
        /// Why nobody has.
        why: Why,
    },
}

/// Why a conflict is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The policy leaves it to someone.
    Asks,
    /// A version lacks what the policy needs.
    Failed(PolicyError),
}

/// What a version lacks that a policy needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// A value is no row of columns.
    NoRow,
    /// The row lacks the column, or it is null.
    NoColumn(String),
    /// The column holds something else than it should.
    Column {
        /// Which.
        column: String,
        /// What it should hold.
        wanted: &'static str,
    },
}

impl std::fmt::Display for PolicyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PolicyError::NoRow => write!(f, "the policy looks at columns, and a version's value is no row"),
            PolicyError::NoColumn(column) => write!(f, "the policy needs the column {column}, which a version lacks"),
            PolicyError::Column { column, wanted } => {
                write!(f, "the policy needs {wanted} in the column {column}, where a version has something else")
            }
        }
    }
}

impl std::error::Error for PolicyError {}

impl Judgement {
    /// The content that readers see, and when it expires.
    pub fn seen<'a>(&'a self, versions: &'a [Sibling]) -> (&'a Content, Option<Millis>) {
        match self {
            Judgement::Version(nth) | Judgement::Open { shown: nth, .. } => {
                let shown = &versions[(*nth).min(versions.len() - 1)];
                (&shown.content, shown.expires)
            }
            Judgement::Made(content, expires) => (content, *expires),
        }
    }

    /// Whether the conflict is open.
    pub fn is_open(&self) -> bool {
        matches!(self, Judgement::Open { .. })
    }
}

/// A policy's text that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy {
    /// The text.
    pub text: String,
}

impl std::fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} is no policy; there are {NEWEST}, newest/1 COLUMN, largest/1 COLUMN, smallest/1 COLUMN, \
             merge/1 STAMPS[;COLUMN=counter|set|maximum|minimum]…, {KEEP_BOTH} and {ASK}",
            self.text
        )
    }
}

impl std::error::Error for UnknownPolicy {}

/// The policies that a store knows: those that are built in, and those that a program brings.
#[derive(Clone, Debug, Default)]
pub struct Policies(BTreeMap<String, Arc<dyn Policy>>);

impl Policies {
    /// With one more, known by its id.
    #[must_use]
    pub fn with(mut self, policy: Arc<dyn Policy>) -> Policies {
        self.0.insert(policy.id().to_string(), policy);
        self
    }

    /// The policy of this id.
    ///
    /// # Errors
    /// [`UnknownPolicy`] if it was neither brought nor is the canonical text of a built-in one.
    pub fn get(&self, id: &str) -> Result<Arc<dyn Policy>, UnknownPolicy> {
        self.0.get(id).cloned().map_or_else(|| named(id), Ok)
    }
}

/// The built-in policy of this id.
///
/// # Errors
/// [`UnknownPolicy`] for anything but the canonical text of one.
pub fn named(id: &str) -> Result<Arc<dyn Policy>, UnknownPolicy> {
    let unknown = || UnknownPolicy { text: id.chars().take(200).collect() };
    if id.len() > POLICY_BYTES_MAX {
        return Err(unknown());
    }
    let (name, parameters) = id.split_once(' ').unwrap_or((id, ""));
    let policy: Option<Arc<dyn Policy>> = match (name, parameters) {
        (NEWEST, "") => Some(Arc::new(Newest)),
        (KEEP_BOTH, "") => Some(Arc::new(KeepBoth)),
        (ASK, "") => Some(Arc::new(Ask)),
        ("merge/1", parameters) => merge::Merge::parse(id, parameters).map(|merge| Arc::new(merge) as Arc<dyn Policy>),
        (name, column) => {
            column::ByColumn::parse(id, name, column).map(|by_column| Arc::new(by_column) as Arc<dyn Policy>)
        }
    };
    policy.filter(|policy| policy.id() == id).ok_or_else(unknown)
}

/// The version of the greatest stamp.
#[derive(Debug)]
struct Newest;

impl Policy for Newest {
    fn id(&self) -> &str {
        NEWEST
    }

    fn judge(&self, _: &[Sibling]) -> Judgement {
        Judgement::Version(0)
    }
}

#[derive(Debug)]
struct KeepBoth;

impl Policy for KeepBoth {
    fn id(&self) -> &str {
        KEEP_BOTH
    }

    fn judge(&self, versions: &[Sibling]) -> Judgement {
        Judgement::Version(versions.iter().position(|sibling| sibling.value().is_some()).unwrap_or(0))
    }
}

#[derive(Debug)]
struct Ask;

impl Policy for Ask {
    fn id(&self) -> &str {
        ASK
    }

    fn judge(&self, versions: &[Sibling]) -> Judgement {
        match versions.len() {
            1 => Judgement::Version(0),
            n => Judgement::Open { shown: n - 1, why: Why::Asks },
        }
    }
}

/// The live versions as rows, by their places.
fn rows(versions: &[Sibling]) -> Result<Vec<(usize, Row)>, PolicyError> {
    let live = (0..).zip(versions).filter_map(|(nth, sibling)| Some((nth, sibling.value()?)));
    live.map(|(nth, value)| Ok((nth, crate::row::decode(value).map_err(|_| PolicyError::NoRow)?))).collect()
}

/// What a column holds, which must be something.
fn column<'r>(row: &'r Row, name: &str) -> Result<&'r Value, PolicyError> {
    let held = row.get(name).filter(|value| **value != Value::Null);
    held.ok_or_else(|| PolicyError::NoColumn(name.to_string()))
}

#[cfg(test)]
mod tests;
