//! What can be typed of this node and of those that join it.
//!
//! What it means is said in the files of the commands.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::BrakeFlags;

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = "Examples:\n  reknit id\n  reknit id rotate --overlap 7d\n  reknit id rotate --overlap 0")]
pub(crate) struct Id {
    #[command(subcommand)]
    pub(crate) command: Option<IdCommand>,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum IdCommand {
    /// Make a new key in the place of this one; no daemon may run in the home
    Rotate {
        /// For how long the old key is this node too, at most 90d; 0 ends it at once
        #[arg(long, env = "REKNIT_OVERLAP", value_name = "TIME", default_value = "7d")]
        overlap: String,
    },
    /// Print what `reknit peers succeed` takes where the new key is not known yet
    Statement,
}

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit invite a --may compare,read --expires 1d\n  reknit invite a --at node.example:7473\n  reknit invite sqlite:b.db/t --may compare --at node.example"
)]
pub(crate) struct Invite {
    /// The store, or the table, which becomes a dataset of its own at its first invitation
    pub(crate) store: PathBuf,
    /// What whoever joins may do here
    #[arg(long, env = "REKNIT_MAY", value_name = "RIGHTS", default_value = "compare,read,write")]
    pub(crate) may: String,
    /// When the invitation ends
    #[arg(long, env = "REKNIT_EXPIRES", value_name = "TIME", default_value = "1h")]
    pub(crate) expires: String,
    /// Where this node is served, as the other reaches it: host[:port]
    #[arg(long, env = "REKNIT_AT", value_name = "HOST")]
    pub(crate) at: Option<String>,
}

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = "Examples:\n  reknit join b TICKET\n  reknit join postgres://me@host/db/t TICKET --may compare")]
pub(crate) struct Join {
    /// Where the store will be; or the table that is to be compared with the peer's
    pub(crate) dir: PathBuf,
    /// The ticket
    pub(crate) ticket: String,
    /// What the inviting node may do here
    #[arg(long, env = "REKNIT_MAY", value_name = "RIGHTS", default_value = "compare,read,write")]
    pub(crate) may: String,
    /// Columns of the table that the dataset calls otherwise
    #[arg(long, env = "REKNIT_RENAME", value_name = "FROM=TO", value_delimiter = ',')]
    pub(crate) rename: Vec<String>,
    /// Columns of the table that the dataset has not got
    #[arg(long, env = "REKNIT_IGNORE", value_name = "COL[,COL]", value_delimiter = ',')]
    pub(crate) ignore: Vec<String>,
    /// Dates and times of the table that say no zone are of this one
    #[arg(long, env = "REKNIT_JOIN_ZONE", value_name = "[COL=]ZONE", value_delimiter = ',')]
    pub(crate) zone: Vec<String>,
}

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit serve a b --listen 0.0.0.0:7473\n  reknit serve a --http 127.0.0.1:7474        health, metrics and jobs by HTTP too\n  reknit serve                                what config.toml in the home says"
)]
pub(crate) struct Serve {
    /// The stores, and tables, which peers compare; none are needed where the configuration has some, or jobs
    pub(crate) stores: Vec<PathBuf>,
    /// The names among them, for which addresses are put in their places.
    #[arg(skip)]
    #[serde(skip)]
    pub(crate) named: Vec<PathBuf>,
    /// The UDP address [default: 127.0.0.1:7473]
    #[arg(long, env = "REKNIT_LISTEN", value_name = "ADDR")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// Answer HTTP at this TCP address: health, metrics, what `status` shows (docs/guide/monitoring.md)
    #[arg(long, env = "REKNIT_HTTP", value_name = "ADDR")]
    pub(crate) http: Option<std::net::SocketAddr>,
    /// A file with the token that HTTP asks for; needed where others than this machine reach the address
    #[arg(long, env = "REKNIT_HTTP_TOKEN_FILE", value_name = "FILE")]
    pub(crate) http_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) brakes: BrakeFlags,
    /// How far back is counted what a peer has deleted and changed here [default: 1h]
    #[arg(long, env = "REKNIT_BRAKE_WINDOW", value_name = "TIME")]
    pub(crate) brake_window: Option<String>,
}
