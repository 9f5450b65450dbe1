//! What can be typed of how tables are read whole.
//!
//! What it means is said in [`crate::store::linked::Pace`].

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

/// How tables are read whole: without more haste, load or time in one transaction than is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Of reading tables whole")]
pub(crate) struct PaceFlags {
    /// No transaction that reads lasts longer; a table that takes more is read in slices, in the order of its key
    /// [default: 15m]
    #[arg(long, env = "REKNIT_MAX_SNAPSHOT", value_name = "TIME")]
    pub(crate) max_snapshot: Option<String>,
    /// About how long one slice is read, where a table is read in slices [default: 500ms]
    #[arg(long, env = "REKNIT_CHUNK_TIME", value_name = "TIME")]
    pub(crate) chunk_time: Option<String>,
    /// Read at most so many rows (20000), or bytes (5MB), of a table in a second
    #[arg(long, env = "REKNIT_MAX_RATE", value_name = "ROWS|BYTES")]
    pub(crate) max_rate: Option<String>,
    /// Wait for as long as this file exists
    #[arg(long, env = "REKNIT_PAUSE_FILE", value_name = "FILE")]
    pub(crate) pause_file: Option<PathBuf>,
    /// Wait while more than so many other connections work on the server (PostgreSQL)
    #[arg(long, env = "REKNIT_MAX_ACTIVE", value_name = "N")]
    pub(crate) max_active: Option<u32>,
    /// Wait while a replica of the server is further behind than this (PostgreSQL)
    #[arg(long, env = "REKNIT_MAX_REPLICA_LAG", value_name = "BYTES")]
    pub(crate) max_replica_lag: Option<String>,
    /// Read the table of the same address on this replica, once it has come as far as the primary
    #[arg(long, env = "REKNIT_SCAN_FROM", value_name = "ADDRESS")]
    pub(crate) scan_from: Option<String>,
}
