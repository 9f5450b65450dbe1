//! What can be typed of peers.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Peers {
    #[command(subcommand)]
    pub(crate) command: PeersCommand,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum PeersCommand {
    /// List peers and what they may
    List,
    /// Add a peer, or change what it may
    Add {
        /// The peer, as `reknit id` prints it there
        peer: String,
        /// compare, read, write, operate; each alone, or as DATASET=RIGHT or DATASET/COLLECTION=RIGHT
        #[arg(long, env = "REKNIT_MAY", value_name = "RIGHTS", default_value = "compare")]
        may: String,
        /// A name for people
        #[arg(long, env = "REKNIT_PEER_NAME")]
        name: Option<String>,
    },
    /// Believe that a peer has a new key, where it could not show that itself
    Succeed {
        /// What `reknit id statement` prints there
        statement: String,
    },
    /// Remove a peer, with all keys that it has had
    Remove {
        /// The peer
        peer: String,
    },
}
