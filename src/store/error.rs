//! Why a store could not do what it was asked, and whether anything changed.
//! What an engine met is told by [`EngineError`]; this adds what a store knows of records and datasets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use reknit_core::DecodeError;
use reknit_core::policy::UnknownPolicy;

use reknit_core::query::Applied;

use super::engine::EngineError;

/// Why a store could not do what it was asked. It can be cloned: writers that were committed together share one.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The engine under the store failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Whoever asked for it has stopped it.
    #[error("it was stopped before its end; nothing was changed")]
    Stopped,
    /// The directory holds no store.
    #[error("{} is not a store; nothing was changed; make one with `reknit init`, or check the path", dir.display())]
    NotAStore {
        /// The directory.
        dir: PathBuf,
    },
    /// A store was to be made where there is something already.
    #[error("{} is not empty; nothing was changed; name a directory that does not exist yet", dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// The store was written in a format that this release does not know.
    #[error("{} has the format {found:?}, which this release does not read; nothing was changed; use the release that wrote it", dir.display())]
    Format {
        /// The directory.
        dir: PathBuf,
        /// What its marker says.
        found: String,
    },
    /// Rows contradict each other or do not decode.
    #[error("the store is damaged: {what}; nothing was changed; `reknit verify` lists all that is wrong")]
    Damaged {
        /// What is wrong, and where.
        what: String,
    },
    /// A key is longer than any store takes.
    #[error("a key has {bytes} bytes, at most {limit} are allowed; nothing was changed")]
    KeyTooLong {
        /// Bytes of the key.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A value is longer than any store takes.
    #[error("the value of key {key} has {bytes} bytes, at most {limit} are allowed; nothing was changed")]
    ValueTooLong {
        /// The key, shown.
        key: String,
        /// Bytes of the value.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A database refused, or its table is not as it must be.
    #[error("{place}: {message}; {left}")]
    Database {
        /// The table, without secrets.
        place: String,
        /// What the database said, or what is wrong, and what to do.
        message: String,
        /// What was changed there.
        left: Left,
    },
    /// Others keep locked what was to be written, for longer than was waited.
    #[error("{place}: {message}; nothing was changed there")]
    Busy {
        /// The table, without secrets.
        place: String,
        /// What the database said.
        message: String,
    },
    /// An index where a store was to be, or the other way round.
    #[error(
        "{} {}; nothing was changed",
        dir.display(),
        if *bare { "is the index of a database, not a store of records" } else { "is a store of records, not the index of a database" }
    )]
    Bare {
        /// The directory.
        dir: PathBuf,
        /// Whether it is an index.
        bare: bool,
    },
    /// The dataset has no collection of that name or place.
    #[error("the dataset has no collection {name:?} (it has {have}); nothing was changed")]
    NoCollection {
        /// What was asked for.
        name: String,
        /// The names that there are.
        have: String,
    },
    /// Records are listed in key order through an index that this dataset does not keep.
    #[error("this dataset keeps no index by key, so its records cannot be listed in key order; nothing was changed")]
    NoKeyIndex,
    /// The horizon was raised while a session ran that had begun before.
    #[error(
        "tombstones were collected here while the session ran, so what the peer sent may have been deleted; what was applied before is valid, the same command goes on"
    )]
    Overtaken,
    /// Strays have no room.
    #[error(
        "the quarantine is full, and this store holds more records of which nobody can tell whether they were deleted; what was done so far is valid; empty it (`reknit quarantine`) and repair again"
    )]
    QuarantineFull,
    /// The dataset has no collection for its members.
    #[error("this dataset keeps no members; one made by `reknit init` without --no-members does; nothing was changed")]
    NoMembers,
    /// An import names a key twice.
    #[error("rows {first} and {second} have the same key {key}; nothing was imported; remove one of them")]
    Duplicate {
        /// The key, shown.
        key: String,
        /// Which row named it first, from 1.
        first: u64,
        /// Which row named it again.
        second: u64,
    },
    /// The definition of the dataset is not one.
    #[error("the definition of the dataset is not valid: {0}; nothing was changed")]
    Definition(DecodeError),
    /// A collection has a policy that this program does not know.
    #[error("{0}; nothing was changed; use a program that brings it")]
    Policy(UnknownPolicy),
    /// A question is beyond a named bound.
    #[error("{what} is {found}, at most {limit} is allowed; nothing was changed")]
    Bound {
        /// Which number.
        what: &'static str,
        /// What was asked for.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// A file beside the engine's own could not be read or written.
    #[error("{}: {source}; no record was changed", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The thread that was committing this write died; whether it was committed shows when the store is opened again.
    #[error("the thread that committed this write died; open the store again to see whether it was committed")]
    Abandoned,
    /// The journal has no such run, or has dropped it for its age.
    #[error(
        "the journal has no run {run}, or no longer all of it; nothing was changed; `reknit runs list` shows what it has"
    )]
    NoRun {
        /// Its number.
        run: u64,
    },
    /// The run holds what ordinary writes replaced.
    #[error(
        "run {run} keeps what ordinary writes replaced and cannot be undone as a whole; nothing was changed; `reknit history STORE KEY --values` shows what a key was"
    )]
    NoUndo {
        /// Its number.
        run: u64,
    },
    /// The run was undone already.
    #[error(
        "run {run} was undone already, by {}; nothing was changed; to have it back, or to undo it otherwise, undo {} first",
        runs(by),
        runs(by)
    )]
    Undone {
        /// Its number.
        run: u64,
        /// The runs that undid it, newest first.
        by: Vec<u64>,
    },
    /// The run is being undone in the other way.
    #[error(
        "run {run} is being undone by run {by}, {}; nothing was changed; that goes on with: `reknit runs undo STORE {run}{}`",
        if *everywhere { "everywhere and not here alone" } else { "here alone and not everywhere" },
        if *everywhere { " --everywhere" } else { "" }
    )]
    BeingUndone {
        /// Its number.
        run: u64,
        /// The undo that has begun.
        by: u64,
        /// Whether that writes new versions, which win wherever they come.
        everywhere: bool,
    },
    /// Repairs are paused after an undo, since they would bring back what was undone.
    #[error(
        "repairs of {} are paused since run {run} undid a run, which a repair would bring back; `reknit resume {}` lets them go on",
        place.as_deref().unwrap_or("this store"), place.as_deref().unwrap_or("STORE")
    )]
    Paused {
        /// The undo.
        run: u64,
        /// The store, where whoever met that knew.
        place: Option<String>,
    },
    /// The journal holds as much as it may, so that nothing more could be undone.
    #[error(
        "the journal holds {bytes} bytes, at most {limit} are allowed, so nothing more is applied; wrote {wrote} records to this store before, which are valid; `reknit runs limit STORE --bytes N` makes room, `--age D` drops old runs"
    )]
    JournalFull {
        /// Bytes that it holds.
        bytes: u64,
        /// The bound.
        limit: u64,
        /// Records that the run had changed before.
        wrote: u64,
    },
    /// A batch was written in part before something failed.
    #[error("{error}")]
    Partly {
        /// What became of the records before.
        applied: Box<Applied>,
        /// What failed.
        error: Box<StoreError>,
    },
    /// The system gave no randomness.
    #[error("the system gave no randomness: {0}; nothing was changed")]
    Randomness(String),
    /// Code of ours broke its own promise while the store was asked. What was committed before is whole.
    #[error("a defect of this program stopped the store's work: {0}; what was committed before is whole")]
    Panicked(String),
}

/// What a database was changed before it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Unchanged,
    /// Not the last rows; those before are written, and in the journal.
    Batches,
    /// The last rows perhaps: the database did not say.
    Unsure,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Left::Unchanged => "nothing was changed there",
            Left::Batches => "the last rows were not written; those before were, and can be undone (reknit runs list)",
            Left::Unsure => "whether the last rows were written is for the next check to tell; they can be undone (reknit runs list)",
        })
    }
}

impl StoreError {
    /// A failure of a file beside the engine's own.
    #[must_use]
    pub fn file(path: &Path, source: io::Error) -> Self {
        // A full disk is one fault, whichever file met it.
        match EngineError::from_io(path, source) {
            full @ EngineError::Full { .. } => Self::Engine(full),
            EngineError::Io { dir, source } => Self::File { path: dir, source },
            other => Self::Damaged { what: other.to_string() },
        }
    }

    pub(crate) fn database(place: &str, message: impl Into<String>) -> Self {
        Self::Database { place: place.into(), message: message.into(), left: Left::Unchanged }
    }

    /// The same of an error that came when some was written already.
    pub(crate) fn when_written(self, left: Left) -> Self {
        match self {
            Self::Database { place, message, .. } | Self::Busy { place, message } => {
                Self::Database { place, message, left }
            }
            other => other,
        }
    }

    /// Whether rows are not what was written: of some records, so that the store can still answer for others.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Partly { error, .. } => error.is_damage(),
            _ => matches!(self, Self::Damaged { .. } | Self::Engine(EngineError::Corrupt { .. })),
        }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }
}

fn runs(all: &[u64]) -> String {
    all.iter().map(|run| format!("run {run}")).collect::<Vec<_>>().join(" and ")
}

/// A key as people can read it: text where it is text, else hexadecimal; cut short where it is long.
pub(crate) fn shown(key: &[u8]) -> String {
    const SHOWN_MAX: usize = 80;
    let cut = &key[..key.len().min(SHOWN_MAX)];
    let more = if key.len() > SHOWN_MAX { "…" } else { "" };
    match std::str::from_utf8(cut) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{text:?}{more}"),
        _ => {
            let hex: String = cut.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{hex}{more}")
        }
    }
}
