//! What can be typed of repairs: which side, how far, and carrying out a plan.
//!
//! What it means is said in the files of the commands.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Arg, Args, ValueEnum, value_parser};
use serde::{Deserialize, Serialize};

use super::Sides;
use crate::cli::sql_file::SharedSql;

/// Rows that one transaction may write: all of them are in memory, and locked, at once.
const BATCH_ROWS_MAX: i64 = 10_000;

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit repair a b                      what it would do\n  reknit repair a b --apply\n  reknit repair a b --to b --apply       only b is written\n  reknit repair a b --to b --mirror --apply   b becomes exactly a\n  reknit repair sqlite:a.db/t sqlite:b.db/t --to b --delete --apply   of tables\n  reknit repair a b --prefer a --apply   where both were written apart, a wins, this once\n  reknit repair a b --plan night.plan    writes down what it would do, for: reknit apply night.plan a b"
)]
pub(crate) struct Repair {
    #[command(flatten)]
    pub(crate) sides: Sides,
    /// Which side is written; both by default, but tables have no versions that tell which side is right
    #[arg(long, env = "REKNIT_TO", value_enum)]
    pub(crate) to: Option<To>,
    /// Make that side exactly the other: overwrites and deletes, as new versions
    #[arg(long, env = "REKNIT_MIRROR")]
    pub(crate) mirror: bool,
    /// Of tables: write both, each with the rows of the other that are newer, by this column
    #[arg(long, env = "REKNIT_NEWEST", value_name = "COLUMN")]
    pub(crate) newest: Option<String>,
    /// Of tables: delete what only the written side has
    #[arg(long, env = "REKNIT_DELETE")]
    pub(crate) delete: bool,
    /// Of tables: what only this side has is no difference that is left
    #[arg(long, env = "REKNIT_IGNORE_EXTRA", value_enum, value_name = "SIDE")]
    pub(crate) ignore_extra: Option<Preferred>,
    /// Write a table that replication keeps
    #[arg(long, env = "REKNIT_WRITE_REPLICA")]
    pub(crate) write_replica: bool,
    /// Of tables: repair also where most rows that both have differ in one column, as if it were read wrongly
    #[arg(long, env = "REKNIT_NO_PROBE")]
    pub(crate) no_probe: bool,
    #[command(flatten)]
    pub(crate) writes: WriteFlags,
    /// Of tables: write the statements that would be executed to this file, in place of executing them
    #[arg(long, env = "REKNIT_SQL", value_name = "FILE")]
    pub(crate) sql: Option<PathBuf>,
    /// Where both sides were written apart, this one's value wins, as a new version, whatever the policy
    #[arg(long, env = "REKNIT_PREFER", value_enum, value_name = "SIDE")]
    pub(crate) prefer: Option<Preferred>,
    /// Write; without it nothing is written
    #[arg(long, env = "REKNIT_APPLY")]
    pub(crate) apply: bool,
    /// Write what it would do to this file (0600), for: reknit apply FILE A B
    #[arg(long, env = "REKNIT_PLAN", value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,
    /// Put the values of sides that are directories in the plan too
    #[arg(long, env = "REKNIT_VALUES")]
    pub(crate) values: bool,
    #[command(flatten)]
    pub(crate) brakes: BrakeFlags,
    /// What else the same command repairs.
    #[arg(skip)]
    #[serde(skip)]
    pub(crate) among: Among,
}

impl Repair {
    /// What says what it writes, and what it may lose by it.
    pub(crate) const WRITING: [&str; 11] = [
        "to",
        "mirror",
        "newest",
        "delete",
        "ignore_extra",
        "write_replica",
        "no_probe",
        "prefer",
        "apply",
        "max_delete",
        "max_change",
    ];
}

/// A table among others that one command repairs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Among {
    /// The tables of `a` and of `b` that are repaired, as their databases call them.
    pub(crate) tables: [Arc<BTreeSet<String>>; 2],
    /// Whether rows go only once all tables were written.
    pub(crate) deletes_later: bool,
    /// Where the statements of all of them go, if they are for somebody else to run.
    pub(crate) script: Option<SharedSql>,
}

/// Which side a repair writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum To {
    /// Only the first.
    A,
    /// Only the second.
    B,
    /// Both.
    Both,
}

/// Which side a repair prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Preferred {
    /// The first.
    A,
    /// The second.
    B,
}

impl Repair {
    /// Which side is written.
    pub(crate) fn to(&self) -> To {
        self.to.unwrap_or(To::Both)
    }

    /// Whether rows of tables are deleted.
    pub(crate) fn deletes(&self) -> bool {
        self.delete || self.mirror
    }
}

impl Preferred {
    /// The side alone.
    pub(crate) fn side(self) -> To {
        match self {
            Preferred::A => To::A,
            Preferred::B => To::B,
        }
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Preferred::A => "a",
            Preferred::B => "b",
        }
    }
}

/// How tables are written.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct WriteFlags {
    /// Of tables: write so many rows in one transaction
    #[arg(long, env = "REKNIT_BATCH", value_name = "ROWS", default_value_t = 500, value_parser = value_parser!(u32).range(1..=BATCH_ROWS_MAX))]
    pub(crate) batch: u32,
    /// Of tables: how long a transaction waits for rows that others keep locked, before it leaves them
    #[arg(long, env = "REKNIT_LOCK_TIMEOUT", value_name = "TIME", default_value = "1s")]
    pub(crate) lock_timeout: String,
}

/// What each written side may lose.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub(crate) struct BrakeFlags {
    /// Refuse what would delete more records of a side, by number or share [default: 10%, but 10 at least and 10000 at most]
    #[arg(long, env = "REKNIT_MAX_DELETE", value_name = "N|P%")]
    pub(crate) max_delete: Option<String>,
    /// Refuse what would overwrite more records of a side, by number or share [default: 20%, but 100 at least]
    #[arg(long, env = "REKNIT_MAX_CHANGE", value_name = "N|P%")]
    pub(crate) max_change: Option<String>,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(
    after_help = "Examples:\n  reknit apply night.plan\n  reknit apply night.plan a quic://PEER@host/a --max-age 3d",
    mut_args(of_the_plan)
)]
pub(crate) struct Apply {
    /// The plan
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) sides: Sides,
    /// Refuse a plan that was made longer ago
    #[arg(long, env = "REKNIT_MAX_AGE", value_name = "TIME", default_value = "1d")]
    pub(crate) max_age: String,
    /// Write a table that replication keeps
    #[arg(long, env = "REKNIT_WRITE_REPLICA")]
    pub(crate) write_replica: bool,
    #[command(flatten)]
    pub(crate) writes: WriteFlags,
    #[command(flatten)]
    pub(crate) brakes: BrakeFlags,
}

/// The sides need not be typed, since the plan names them.
fn of_the_plan(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "a" | "b" => arg
            .required(false)
            .default_value("")
            .hide_default_value(true)
            .help("The side [default: the plan's]")
            .long_help(None),
        _ => arg,
    }
}
