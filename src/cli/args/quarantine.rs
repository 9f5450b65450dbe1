//! What can be typed of the quarantine.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::InCollection;

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit quarantine list a\n  reknit quarantine accept a 2661552\n  reknit quarantine drop a --all"
)]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    pub(crate) command: QuarantineCommand,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum QuarantineCommand {
    /// List records that peers stamped too far in the future; exit 1 if there are any
    List {
        /// The store
        store: PathBuf,
        /// At most so many
        #[arg(long, env = "REKNIT_LIMIT", value_name = "N")]
        limit: Option<u64>,
    },
    /// Apply a record whatever its stamp, in a run that can be undone; exit 1 if it was not there
    Accept {
        /// The store
        store: PathBuf,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        of: InCollection,
    },
    /// Drop a record; exit 1 if it was not there
    ///
    /// A peer that still has it will send it again. A stray nobody else has: it is gone for good.
    Drop {
        /// The store
        store: PathBuf,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        of: InCollection,
    },
}

/// Which records leave quarantine.
#[derive(Debug, Args, Serialize, Deserialize)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// The key
    pub(crate) key: Option<String>,
    /// All of them
    #[arg(long, env = "REKNIT_QUARANTINE_ALL")]
    pub(crate) all: bool,
}
