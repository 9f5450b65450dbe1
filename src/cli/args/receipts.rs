//! What can be typed of receipts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit receipts list a\n  reknit receipts export a > a.receipts\n  reknit receipts list postgres://me@host/db/orders sqlite:b.db/orders\n  reknit receipts verify a.receipts --peer PEER --peer PEER     needs neither store nor peer"
)]
pub(crate) struct Receipts {
    #[command(subcommand)]
    pub(crate) command: ReceiptsCommand,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum ReceiptsCommand {
    /// List what this home has signed of a store's dataset or of a table, the newest first
    List {
        /// The store, or a table
        #[arg(value_name = "STORE|TABLE")]
        store: PathBuf,
        /// The other table, of two: only what is of both
        #[arg(value_name = "TABLE")]
        with: Option<String>,
        /// At most so many
        #[arg(long, env = "REKNIT_LIMIT", value_name = "N")]
        limit: Option<u64>,
    },
    /// Print the receipts, a line of JSON each, the oldest first
    Export {
        /// The store, or a table
        #[arg(value_name = "STORE|TABLE")]
        store: PathBuf,
        /// The other table, of two: only what is of both
        #[arg(value_name = "TABLE")]
        with: Option<String>,
    },
    /// Say whether receipts are as they were signed; exit 4 if one is not
    Verify {
        /// The file; - for stdin
        file: PathBuf,
        /// Who must have signed; given twice, both sides
        #[arg(long, env = "REKNIT_PEER", value_name = "PEER", value_delimiter = ',', required = true)]
        peer: Vec<String>,
        /// The dataset that they must be about, by its id
        #[arg(long, env = "REKNIT_DATASET", value_name = "ID")]
        dataset: Option<String>,
    },
}
