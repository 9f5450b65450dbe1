//! What can be typed about the indexes of tables.
//!
//! What it means is said in the files of the commands.

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::{PaceFlags, TermFlags};

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit index build sqlite:b.db/t\n  reknit index build sqlite:b.db/t --feed triggers           prints what would be installed\n  reknit index build sqlite:b.db/t --feed triggers --apply\n  reknit index build postgres://me@host/db/t --feed slot --apply\n  reknit index status sqlite:b.db/t\n  reknit index drop sqlite:b.db/t"
)]
pub(crate) struct Index {
    #[command(subcommand)]
    pub(crate) command: IndexCommand,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum IndexCommand {
    /// Read a table into its index, and let it follow by a feed if one is asked for
    Build(Box<IndexBuild>),
    /// Tell what the indexes of a table hold, and how they follow it
    Status {
        /// The table
        table: String,
    },
    /// Compare the indexes of a table with the table
    Verify {
        /// The table
        table: String,
    },
    /// Remove the indexes of a table, their journals and their feeds
    Drop {
        /// The table
        table: String,
        /// And what feeds of other or lost homes have there
        #[arg(long, env = "REKNIT_ORPHANS")]
        orphans: bool,
        /// Only print the statements that remove it from the database
        #[arg(long, env = "REKNIT_SQL")]
        sql: bool,
        /// Also while repairs of the table could still be undone; they cannot be any more then
        #[arg(long, env = "REKNIT_FORCE")]
        force: bool,
    },
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct IndexBuild {
    /// The table
    pub(crate) table: String,
    /// The table that it is compared with, if the two are declared differently
    #[arg(long, env = "REKNIT_WITH", value_name = "TABLE")]
    pub(crate) with: Option<String>,
    /// The index by which peers compare it, of a table that is of a dataset
    #[arg(long, env = "REKNIT_SHARED")]
    pub(crate) shared: bool,
    /// How changes are noticed from then on; without one the table is read whole by each command
    #[arg(long, env = "REKNIT_FEED", value_enum, value_name = "KIND")]
    pub(crate) feed: Option<AskedFeed>,
    /// Install the feed; without it the statements are only printed
    #[arg(long, env = "REKNIT_APPLY")]
    pub(crate) apply: bool,
    /// How much of its log a server may keep for a slot; past that the next command drops the slot
    #[arg(long, env = "REKNIT_MAX_FEED_LAG", value_name = "BYTES", default_value = "4GiB")]
    pub(crate) max_feed_lag: String,
    /// Make a slot also where nothing bounds what the server keeps for it while no command runs
    #[arg(long, env = "REKNIT_UNBOUNDED_WAL")]
    pub(crate) unbounded_wal: bool,
    #[command(flatten)]
    pub(crate) terms: TermFlags,
    #[command(flatten)]
    pub(crate) pace: PaceFlags,
}

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit explain postgres://me@host/db/t\n  reknit explain postgres://me@host/db/t sqlite:b.db/t    and whether the two go together\n  reknit explain postgres://me@host/db/t --grants repair    what the user lacks for it"
)]
pub(crate) struct Explain {
    /// A table
    pub(crate) a: String,
    /// Another, of which rows that both have are looked at
    pub(crate) b: Option<String>,
    /// Only print the statements that let the users of these addresses do this, as far as rights are lacking
    #[arg(long, env = "REKNIT_GRANTS", value_enum, value_name = "PURPOSE")]
    pub(crate) grants: Option<AskedPurpose>,
    #[command(flatten)]
    pub(crate) terms: TermFlags,
}

/// What rights can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AskedPurpose {
    /// Reading it.
    Compare,
    /// Writing it.
    Repair,
    /// A feed of triggers.
    Triggers,
    /// A feed by a slot.
    Slot,
}

/// A feed that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AskedFeed {
    /// Triggers that write keys to a table of their own.
    Triggers,
    /// A slot of logical replication of PostgreSQL.
    Slot,
}
