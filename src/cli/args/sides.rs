//! What can be typed of two sides and of comparing them.
//!
//! What it means is said in the files of the commands.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{PaceFlags, TermFlags};

/// Two sides: each a directory or a quic:// address; or two tables, of which one may be a file or a directory; or the name of one.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct Sides {
    /// A directory, quic://PEER@host[:port]/DATASET, sqlite:FILE/TABLE, postgres://USER@HOST/DB/TABLE, @NAME, or a file:
    /// csv:FILE, jsonl:FILE, parquet:FILE, s3://BUCKET/PATH
    pub(crate) a: String,
    /// A directory, quic://PEER@host[:port]/DATASET, sqlite:FILE/TABLE, postgres://USER@HOST/DB/TABLE, @NAME, or a file:
    /// csv:FILE, jsonl:FILE, parquet:FILE, s3://BUCKET/PATH
    pub(crate) b: String,
    /// Only these collections of the dataset
    #[arg(long = "collection", env = "REKNIT_COLLECTION", value_name = "NAME", value_delimiter = ',')]
    pub(crate) collections: Vec<String>,
    /// How long a difference must stand still before it counts
    #[arg(long, env = "REKNIT_SETTLE", value_name = "TIME", default_value = "500ms")]
    pub(crate) settle: String,
    /// End after this long with what is known then; tables are read before that begins
    #[arg(long, env = "REKNIT_MAX_TIME", value_name = "TIME")]
    pub(crate) max_time: Option<String>,
    /// End after about so many bytes with what is known then
    #[arg(long, env = "REKNIT_MAX_BYTES", value_name = "BYTES")]
    pub(crate) max_bytes: Option<String>,
    /// Send and take at most so many bytes a second, of sessions with peers
    #[arg(long, env = "REKNIT_BANDWIDTH", value_name = "BYTES")]
    pub(crate) bandwidth: Option<String>,
    /// Let both sides sign a receipt; of a repair they always do
    #[arg(long, env = "REKNIT_RECEIPT")]
    pub(crate) receipt: bool,
    /// Write what was found to this file, for node_exporter's textfile collector
    #[arg(long, env = "REKNIT_METRICS_FILE", value_name = "FILE")]
    pub(crate) metrics_file: Option<PathBuf>,
    /// Of two databases: which table of one is which of the other, where they are called otherwise
    #[arg(long, env = "REKNIT_MAP", value_name = "a.TABLE=b.TABLE", value_delimiter = ',')]
    pub(crate) map: Vec<String>,
    /// Of two databases: leave these tables out
    #[arg(long = "ignore-table", env = "REKNIT_IGNORE_TABLE", value_name = "TABLE[,TABLE]", value_delimiter = ',')]
    pub(crate) ignore_tables: Vec<String>,
    #[command(flatten)]
    pub(crate) terms: TermFlags,
    /// Exit 3 instead of reading a table whole, and tell what that would cost
    #[arg(long, env = "REKNIT_NO_SCAN", help_heading = "Of reading tables whole")]
    pub(crate) no_scan: bool,
    #[command(flatten)]
    pub(crate) pace: PaceFlags,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit check a b\n  reknit check sqlite:a.db/people sqlite:b.db/people\n  reknit check postgres://me@host/db sqlite:b.db     all tables\n  reknit check a quic://PEER@host/a --format json\n  reknit check quic://PEER@one/a quic://PEER@two/a     one compares with two, for who may operate one\n  reknit check a b quic://PEER@host/a     of three or more: who is the odd one out"
)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) sides: Sides,
    /// More sides: who is the odd one out is told, range by range
    #[serde(default)]
    pub(crate) more: Vec<String>,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit diff a b --limit 20 --values\n  reknit diff a quic://PEER@host/a --format jsonl"
)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) sides: Sides,
    /// More sides, which are refused: `check` compares three or more
    #[arg(hide = true)]
    #[serde(default)]
    pub(crate) more: Vec<String>,
    /// Print at most so many differences; all are counted
    #[arg(long, env = "REKNIT_LIMIT", value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Print the values too, of sides that are directories
    #[arg(long, env = "REKNIT_VALUES")]
    pub(crate) values: bool,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit drift a quic://PEER@host/a --since 7d\n  reknit drift a b --save monday.drift\n  reknit drift monday.drift tuesday.drift     two saved files; no store is touched"
)]
pub(crate) struct Drift {
    #[command(flatten)]
    pub(crate) sides: Sides,
    /// Against what differed so long ago; otherwise against the last time that somebody looked
    #[arg(long, env = "REKNIT_SINCE", value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Keep what differs now in a new file
    #[arg(long, env = "REKNIT_SAVE", value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Print at most so many keys; all are counted
    #[arg(long, env = "REKNIT_LIMIT", value_name = "N")]
    pub(crate) limit: Option<u64>,
}
