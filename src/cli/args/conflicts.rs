//! What can be typed of conflicts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::InCollection;

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit conflicts list a\n  reknit conflicts show a 2661552\n  reknit conflicts resolve a 2661552 --version 2 --seen 5f0c1d2e3a4b5968"
)]
pub(crate) struct Conflicts {
    #[command(subcommand)]
    pub(crate) command: ConflictsCommand,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum ConflictsCommand {
    /// List the keys that have several versions; exit 1 if there are any
    List {
        /// The store
        store: PathBuf,
        /// At most so many
        #[arg(long, env = "REKNIT_LIMIT", value_name = "N")]
        limit: Option<u64>,
        /// Only those of this collection [default: all]
        #[arg(long, env = "REKNIT_COLLECTION", value_name = "NAME")]
        #[serde(default)]
        collection: Option<String>,
    },
    /// Show the versions of one key, newest first; exit 1 if it has several
    Show {
        /// The store
        store: PathBuf,
        /// The key
        key: String,
        #[command(flatten)]
        #[serde(default)]
        of: InCollection,
    },
    /// Settle the conflict of one key; exit 1 if it has none
    Resolve {
        /// The store
        store: PathBuf,
        /// The key
        key: String,
        #[command(flatten)]
        by: ResolveBy,
        /// Only if its versions are still those that `show` told, by the digest that it printed
        #[arg(long, env = "REKNIT_RESOLVE_SEEN", value_name = "ENTRY")]
        #[serde(default)]
        seen: Option<String>,
        #[command(flatten)]
        #[serde(default)]
        of: InCollection,
    },
}

/// What settles a conflict.
#[derive(Debug, Args, Serialize, Deserialize)]
#[group(required = true, multiple = false)]
pub(crate) struct ResolveBy {
    /// The content of this version, as `show` numbers them
    #[arg(long, env = "REKNIT_RESOLVE_VERSION", value_name = "N")]
    pub(crate) version: Option<usize>,
    /// A value, as `put` takes it; - for stdin
    #[arg(long, env = "REKNIT_RESOLVE_VALUE")]
    pub(crate) value: Option<String>,
    /// Delete the key
    #[arg(long, env = "REKNIT_RESOLVE_DELETE")]
    pub(crate) delete: bool,
}
