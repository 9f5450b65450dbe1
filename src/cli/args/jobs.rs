//! What can be typed about the jobs of a daemon.
//!
//! What it means is said in the file of the command.

use clap::{ArgGroup, Args, Subcommand};
use serde::{Deserialize, Serialize};

/// What can be tuned; a command without any of it changes nothing.
const TUNED: [&str; 8] =
    ["every", "daily", "jitter", "max_time", "max_bytes", "max_time_per_day", "max_bytes_per_day", "reset"];

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit jobs list\n  reknit jobs show orders --limit 5\n  reknit jobs run orders\n  reknit jobs pause orders\n  reknit jobs tune orders --every 5m --max-time 2m"
)]
pub(crate) struct Jobs {
    #[command(subcommand)]
    pub(crate) command: JobsCommand,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum JobsCommand {
    /// List the jobs: when they are due, how they ended, what is wrong
    List,
    /// Show a job and its last runs
    Show {
        /// The job
        job: String,
        /// Print at most so many runs, the newest first
        #[arg(long, env = "REKNIT_LIMIT", value_name = "N", default_value_t = 10)]
        limit: usize,
    },
    /// Have the daemon run a job now, whatever its schedule says; `reknit run` waits for its end
    Run {
        /// The job
        job: String,
    },
    /// Let a job begin no more by itself; a run that has begun goes on
    Pause {
        /// The job
        job: String,
    },
    /// Let a job begin by itself again
    Resume {
        /// The job
        job: String,
    },
    /// End the run of a job with what it has
    Cancel {
        /// The job
        job: String,
    },
    /// Change when a job is due, and what a run may take, until it is tuned back
    Tune(JobsTune),
}

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(group = ArgGroup::new("tuned").required(true).multiple(true).args(TUNED))]
pub(crate) struct JobsTune {
    /// The job
    pub(crate) job: String,
    /// Due again after so long
    #[arg(long, env = "REKNIT_EVERY", value_name = "TIME")]
    pub(crate) every: Option<String>,
    /// Due each day at these times
    #[arg(long = "daily", env = "REKNIT_DAILY", value_name = "HH:MM")]
    pub(crate) daily: Option<String>,
    /// Due up to so much later
    #[arg(long, env = "REKNIT_JITTER", value_name = "TIME")]
    pub(crate) jitter: Option<String>,
    /// End its session after this long with what is known then
    #[arg(long, env = "REKNIT_MAX_TIME", value_name = "TIME")]
    pub(crate) max_time: Option<String>,
    /// End its session after about so many bytes
    #[arg(long, env = "REKNIT_MAX_BYTES", value_name = "BYTES")]
    pub(crate) max_bytes: Option<String>,
    /// Begin no run on a day whose runs took this long together
    #[arg(long, env = "REKNIT_MAX_TIME_PER_DAY", value_name = "TIME")]
    #[serde(default)]
    pub(crate) max_time_per_day: Option<String>,
    /// Begin no run on a day whose runs took about so many bytes
    #[arg(long, env = "REKNIT_MAX_BYTES_PER_DAY", value_name = "BYTES")]
    #[serde(default)]
    pub(crate) max_bytes_per_day: Option<String>,
    /// Forget what was tuned before
    #[arg(long, env = "REKNIT_RESET")]
    pub(crate) reset: bool,
}
