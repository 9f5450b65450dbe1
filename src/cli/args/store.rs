//! What can be typed of one store: making it, its records, files and copies of them.
//!
//! What it means is said in the files of the commands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::{FileFormat, TermFlags};

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Demo {
    /// Keep the two stores in this directory instead of removing them
    #[arg(long, env = "REKNIT_KEEP", value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit init a\n  reknit init b --like a\n  reknit init c --collection users --collection carts=keep-both\n  reknit init postgres://me@host/db/t --name orders --ignore note    a dataset for a table that stays where it is"
)]
pub(crate) struct Init {
    /// Where the store will be; or the table that becomes a dataset, to be compared with tables of peers
    pub(crate) dir: PathBuf,
    /// Take part in the dataset of this store, which says all else
    #[arg(long, env = "REKNIT_LIKE", value_name = "DIR")]
    pub(crate) like: Option<PathBuf>,
    /// The dataset's name [default: the directory's]
    #[arg(long, env = "REKNIT_NAME")]
    pub(crate) name: Option<String>,
    /// What digests cover
    #[arg(long, env = "REKNIT_PROFILE", value_enum, default_value_t = ProfileArg::Versioned)]
    pub(crate) profile: ProfileArg,
    /// What readers see of concurrent versions: newest, newest COLUMN, largest COLUMN, smallest COLUMN, keep-both, ask or
    /// merge STAMPS[;COLUMN=KIND]...
    #[arg(long, env = "REKNIT_POLICY", default_value = "newest")]
    pub(crate) policy: String,
    /// A collection of the dataset, and its policy if not that of --policy; may be given several times [default: one, "default"]
    #[arg(long, env = "REKNIT_COLLECTIONS", value_name = "NAME[=POLICY]")]
    pub(crate) collection: Vec<String>,
    /// Keep no index by key: smaller and faster, but records cannot be listed in key order
    #[arg(long, env = "REKNIT_NO_KEY_INDEX")]
    pub(crate) no_key_index: bool,
    /// Keep no members: tombstones can then never be collected
    #[arg(long, env = "REKNIT_NO_MEMBERS")]
    pub(crate) no_members: bool,
    /// Of a table: compare columns as these kinds, where a peer's types tell more (bool, decimal, float, timestamp, datetime,
    /// date, time, uuid, json)
    #[arg(long, env = "REKNIT_KIND", value_name = "COL=KIND", value_delimiter = ',')]
    pub(crate) kind: Vec<String>,
    #[command(flatten)]
    pub(crate) terms: TermFlags,
}

/// What digests cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum ProfileArg {
    /// Key, versions, content or tombstone, expiry.
    Versioned,
    /// Key and content of live records.
    Content,
}

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit import a cities.csv --key geonameid\n  psql -c \"copy t to stdout csv header\" | reknit import a - --key id --format csv\n  reknit import a pairs.kv"
)]
pub(crate) struct Import {
    /// The store
    pub(crate) store: PathBuf,
    /// The file; - for stdin; .zst is unpacked
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) of: InCollection,
    /// The columns that make the key
    #[arg(long, env = "REKNIT_KEY", value_name = "COL[,COL]", value_delimiter = ',')]
    pub(crate) key: Vec<String>,
    /// The file's format [default: by its ending]
    #[arg(skip)]
    pub(crate) file_format: Option<FileFormat>,
}

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = "Examples:\n  reknit export a > cities.csv\n  reknit export a -o cities.jsonl")]
pub(crate) struct Export {
    /// The store
    pub(crate) store: PathBuf,
    #[command(flatten)]
    pub(crate) of: InCollection,
    /// Write to this file instead of stdout
    #[arg(long, short, env = "REKNIT_OUTPUT", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The format [default: by the file's ending, else the one that was imported]
    #[arg(skip)]
    pub(crate) file_format: Option<FileFormat>,
}

/// Which collection of a store is meant.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
pub(crate) struct InCollection {
    /// The collection of the dataset [default: the first]
    #[arg(long = "collection", env = "REKNIT_COLLECTION", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Put {
    /// The store
    pub(crate) store: PathBuf,
    /// The key
    pub(crate) key: String,
    /// The value; - for stdin
    pub(crate) value: String,
    /// After how long it is gone, everywhere and by itself, such as 30d [default: never]
    #[arg(long, env = "REKNIT_PUT_EXPIRES", value_name = "TIME")]
    pub(crate) expires: Option<String>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) of: InCollection,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Get {
    /// The store
    pub(crate) store: PathBuf,
    /// The key
    pub(crate) key: String,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) of: InCollection,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Delete {
    /// The store
    pub(crate) store: PathBuf,
    /// The key
    pub(crate) key: String,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) of: InCollection,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct List {
    /// The store
    pub(crate) store: PathBuf,
    /// Only keys that begin so
    #[arg(long, env = "REKNIT_PREFIX", value_name = "P")]
    pub(crate) prefix: Option<String>,
    /// At most so many
    #[arg(long, env = "REKNIT_LIMIT", value_name = "N")]
    pub(crate) limit: Option<u64>,
    #[command(flatten)]
    #[serde(default)]
    pub(crate) of: InCollection,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Verify {
    /// The store
    pub(crate) store: PathBuf,
    /// Read at most so many records a second
    #[arg(long, env = "REKNIT_RATE", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Backup {
    /// The store
    pub(crate) store: PathBuf,
    /// Where the copy will be
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Restore {
    /// The backup
    pub(crate) backup: PathBuf,
    /// Where the store will be
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Dataset {
    #[command(subcommand)]
    pub(crate) command: DatasetCommand,
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum DatasetCommand {
    /// Print a store's dataset
    Show {
        /// The store
        store: PathBuf,
    },
    /// Write a dataset's definition and secret key to a file (0600)
    Export {
        /// The store
        store: PathBuf,
        /// The file
        file: PathBuf,
    },
    /// Make an empty store of a dataset from such a file
    Import {
        /// The file
        file: PathBuf,
        /// Where the store will be
        dir: PathBuf,
    },
}
