//! What can be typed about alerts.
//!
//! What it means is said in the file of the command.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = "Examples:\n  reknit alerts test\n  reknit alerts list --format json")]
pub(crate) struct Alerts {
    #[command(subcommand)]
    pub(crate) command: AlertsCommand,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum AlertsCommand {
    /// List the alerts that fire; exit 1 if any does
    List,
    /// Tell one by every way that is configured, and whether it was heard
    Test,
}
