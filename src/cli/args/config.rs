//! What can be typed about the configuration, and the jobs in it.
//!
//! What it may say is read by the module of that name.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = "Examples:\n  reknit run orders\n  reknit run orders --format json")]
pub(crate) struct Run {
    /// The job, as [job.NAME] of config.toml in the home
    pub(crate) job: String,
    /// Write what was found to this file, for node_exporter's textfile collector; goes before what the job says
    #[arg(long, env = "REKNIT_METRICS_FILE", value_name = "FILE")]
    pub(crate) metrics_file: Option<PathBuf>,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum ConfigCommand {
    /// Read config.toml in the home, and list its stores and jobs without passwords
    Check,
    /// Write a config.toml that says nothing yet, with all that can be said as comments
    Init,
}
