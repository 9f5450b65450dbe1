//! What can be typed about the journal of a store.
//!
//! What it means is said in the files of the commands.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::{InCollection, TermFlags};

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit runs list a\n  reknit runs show a 3\n  reknit runs undo a 3                 here alone; repairs pause until: reknit resume a\n  reknit runs undo a 3 --everywhere    as new versions, which win wherever they come"
)]
pub(crate) struct Runs {
    #[command(subcommand)]
    pub(crate) command: RunsCommand,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum RunsCommand {
    /// List the runs that the journal has
    List {
        /// The store
        store: PathBuf,
    },
    /// Show what a run changed
    Show {
        /// The store
        store: PathBuf,
        /// The run's number
        run: u64,
        /// Show at most so many keys
        #[arg(long, env = "REKNIT_LIMIT", value_name = "N")]
        limit: Option<u64>,
    },
    /// Put back what a run overwrote, and pause repairs here
    Undo {
        /// The store
        store: PathBuf,
        /// The run's number
        run: u64,
        /// Write the old contents as new versions, which win wherever they come; repairs go on
        #[arg(long, env = "REKNIT_EVERYWHERE")]
        everywhere: bool,
    },
    /// Show or set how much the journal may hold
    Limit {
        /// The store
        store: PathBuf,
        /// Bytes, beyond which repairs stop
        #[arg(long, env = "REKNIT_BYTES", value_name = "BYTES")]
        bytes: Option<String>,
        /// Drop runs that ended longer ago
        #[arg(long, env = "REKNIT_AGE", value_name = "TIME")]
        age: Option<String>,
        /// Keep what ordinary writes replace too, for so long or so many bytes; off: no longer
        #[arg(long, env = "REKNIT_KEEP_HISTORY", value_name = "AGE|BYTES|off")]
        keep_history: Option<String>,
    },
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Resume {
    /// The store
    pub(crate) store: PathBuf,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct History {
    /// The store
    pub(crate) store: PathBuf,
    /// The key
    pub(crate) key: String,
    /// Print the values too
    #[arg(long, env = "REKNIT_VALUES")]
    pub(crate) values: bool,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) of: InCollection,
}

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit inspect a 2661552\n  reknit inspect sqlite:a.db/t 7 --against sqlite:b.db/t"
)]
pub(crate) struct Inspect {
    /// The store or table
    pub(crate) store: String,
    /// The key
    #[arg(value_name = "KEY")]
    pub(crate) of: String,
    /// Another, whose record of that key is held against it
    #[arg(long, env = "REKNIT_AGAINST", value_name = "STORE")]
    pub(crate) against: Option<String>,
    #[command(flatten)]
    pub(crate) terms: TermFlags,
}
