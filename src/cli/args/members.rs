//! What can be typed of the members of a dataset, and of collecting what they have passed.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reknit_core::collect::GRACE_MILLIS;
use reknit_core::members::LEASE_MILLIS;
use serde::{Deserialize, Serialize};

use crate::cli::units::typed_duration;

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit members list a\n  reknit members add a PEER --name berlin --lease 30d\n  reknit members forget a PEER"
)]
pub(crate) struct Members {
    #[command(subcommand)]
    pub(crate) command: MembersCommand,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum MembersCommand {
    /// List the peers whose copies of the dataset count, and when each was heard of last
    List {
        /// The store
        store: PathBuf,
    },
    /// Add a peer, or change what is said of it; it travels to all who repair with this store
    Add {
        /// The store
        store: PathBuf,
        /// The peer, as `reknit id` prints it there
        peer: String,
        /// A name for people
        #[arg(long, env = "REKNIT_PEER_NAME")]
        name: Option<String>,
        /// How long it is waited for after it was heard of last
        #[arg(long, env = "REKNIT_LEASE", value_name = "TIME", default_value_t = typed_duration(LEASE_MILLIS))]
        lease: String,
    },
    /// Forget a peer: nothing waits for it any more; exit 1 if it was no member
    Forget {
        /// The store
        store: PathBuf,
        /// The peer
        peer: String,
    },
}

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = "Examples:\n  reknit gc a\n  reknit gc a --grace 30d --apply")]
pub(crate) struct Gc {
    /// The store
    pub(crate) store: PathBuf,
    /// How long tombstones are kept at least
    #[arg(long, env = "REKNIT_GRACE", value_name = "TIME", default_value_t = typed_duration(GRACE_MILLIS))]
    pub(crate) grace: String,
    /// Drop them; without it, nothing is written
    #[arg(long, env = "REKNIT_APPLY")]
    pub(crate) apply: bool,
}
