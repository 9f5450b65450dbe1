//! What can be typed: every command and flag, each flag with its twin in the environment.
//!
//! Completions and man pages are made from this definition.

mod alerts;
mod config;
mod conflicts;
mod facts;
mod index;
mod jobs;
mod journal;
mod members;
mod node;
mod peers;
mod places;
mod quarantine;
mod receipts;
mod repair;
mod scan;
mod sides;
mod store;
mod terms;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

pub(crate) use self::journal::{History, Inspect, Resume, Runs, RunsCommand};
use super::commands::sides::tables;
use crate::format::Format;

pub(crate) use alerts::{Alerts, AlertsCommand};
pub(crate) use config::{Config, ConfigCommand, Run};
pub(crate) use conflicts::{Conflicts, ConflictsCommand, ResolveBy};
pub(crate) use index::{AskedFeed, AskedPurpose, Explain, Index, IndexBuild, IndexCommand};
pub(crate) use jobs::{Jobs, JobsCommand, JobsTune};
pub(crate) use members::{Gc, Members, MembersCommand};
pub(crate) use node::{Id, IdCommand, Invite, Join, Serve};
pub(crate) use peers::{Peers, PeersCommand};
pub(crate) use places::{Place, STORE, store_in};
pub(crate) use quarantine::{Quarantine, QuarantineCommand, Which};
pub(crate) use receipts::{Receipts, ReceiptsCommand};
pub(crate) use repair::{Among, Apply, BrakeFlags, Preferred, Repair, To, WriteFlags};
pub(crate) use scan::PaceFlags;
pub(crate) use sides::{Check, Diff, Drift, Sides};
pub(crate) use store::{
    Backup, Dataset, DatasetCommand, Delete, Demo, Export, Get, Import, InCollection, Init, List, ProfileArg, Put,
    Restore, Verify,
};
pub(crate) use terms::TermFlags;

const EXAMPLES: &str = "\
Examples:
  reknit demo
  reknit init a && reknit import a cities.csv --key geonameid
  reknit init b --like a
  reknit diff a b
  reknit repair a b --apply
  reknit serve a --listen 0.0.0.0:7473
  reknit check b quic://PEER@host/cities

Exit codes: 0 in sync, converged or done; 1 differs; 2 cannot judge; 3 undetermined or partial;
4 refused for safety. --exit-zero maps only 1 to 0.";

/// Knits replicas that have drifted apart back together.
#[derive(Debug, Parser, Serialize, Deserialize)]
#[command(name = "reknit", version, about, after_help = EXAMPLES, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The job that the command is, if `reknit run` named one.
    #[arg(skip)]
    pub(crate) job: Option<String>,
}

/// Flags of every command.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The home: identity, peers, control socket [default: $XDG_STATE_HOME/reknit]
    #[arg(long, global = true, env = "REKNIT_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// How results are printed: text, json or jsonl. After import and export the file's format: csv, jsonl or kv (also
    /// REKNIT_FILE_FORMAT); what those two print then follows REKNIT_FORMAT
    #[arg(long, global = true, env = "REKNIT_FORMAT", value_enum, default_value_t = AnyFormat::Text, hide_possible_values = true)]
    format: AnyFormat,
    /// How results are printed, once [`Cli::settle`] has told it from a file's format.
    #[arg(skip)]
    pub(crate) output: OutputFormat,
    /// Print nothing when the exit is 0
    #[arg(long, short, global = true, env = "REKNIT_QUIET")]
    pub(crate) quiet: bool,
    /// Say more on stderr; twice for still more
    #[arg(long, short, global = true, env = "REKNIT_VERBOSE", action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Exit 0 instead of 1
    #[arg(long, global = true, env = "REKNIT_EXIT_ZERO")]
    pub(crate) exit_zero: bool,
    /// The engine of a store that is created
    #[arg(long, global = true, env = "REKNIT_ENGINE", value_enum, hide = true)]
    pub(crate) engine: Option<Engine>,
}

/// A format of results or of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
enum AnyFormat {
    Text,
    Json,
    Jsonl,
    Csv,
    Kv,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// One document.
    Json,
    /// One object a line, the last a summary.
    Jsonl,
}

/// The engines of an embedded store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Engine {
    /// A log-structured merge tree.
    Fjall,
    /// A copy-on-write B-tree in one file.
    Redb,
}

/// Formats of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FileFormat {
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// key, tab, value; \t \n \r \\ escaped.
    Kv,
}

impl From<FileFormat> for Format {
    fn from(format: FileFormat) -> Format {
        match format {
            FileFormat::Csv => Format::Csv,
            FileFormat::Jsonl => Format::Jsonl,
            FileFormat::Kv => Format::Kv,
        }
    }
}

#[derive(Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Show the main job on two real releases of a gazetteer
    Demo(Demo),
    /// Make a store
    Init(Init),
    /// Load a file into a store
    Import(Import),
    /// Write a store's records to a file or stdout, in key order
    Export(Export),
    /// Put one record
    Put(Put),
    /// Print one record's value; exit 1 if there is none
    Get(Get),
    /// Delete one record; exit 1 if there is none
    Delete(Delete),
    /// List keys in order
    List(List),
    /// List, show and settle keys whose versions have not seen each other
    Conflicts(Conflicts),
    /// List records that peers stamped too far in the future, apply or drop them
    Quarantine(Quarantine),
    /// Recompute everything from the records; exit 1 if something is damaged
    Verify(Verify),
    /// Copy an open store, consistently
    Backup(Backup),
    /// Make a store from a backup, with a new life of its own
    Restore(Restore),
    /// List what repairs did here, show it, undo it
    Runs(Runs),
    /// Tell what tables are compared by, and whether two go together
    Explain(Explain),
    /// Build, show, verify or remove what this home keeps of tables of databases
    Index(Index),
    /// Let repairs go on that an undo has paused
    Resume(Resume),
    /// Print the versions that a key has, and those that the journal still has
    History(History),
    /// Show one record as it is compared, and what differs from another side's
    Inspect(Box<Inspect>),
    /// List, export or verify what two sides signed of their sessions
    Receipts(Receipts),
    /// Show, export or import what a dataset is
    Dataset(Dataset),
    /// Print who this node is
    Id(Id),
    /// Print a ticket with which another node joins a store's dataset
    Invite(Invite),
    /// Make a store from a ticket
    Join(Join),
    /// List, add or remove the peers that may connect
    Peers(Peers),
    /// List, add or forget the peers whose copies of a dataset count
    Members(Members),
    /// Drop tombstones that every member has passed; without --apply, tell which
    Gc(Gc),
    /// Serve stores to peers until interrupted
    Serve(Serve),
    /// Compare two stores by their roots
    Check(Check),
    /// List every difference between two stores
    Diff(Diff),
    /// Tell which differences are new, healed or still open since when
    Drift(Drift),
    /// Make two stores equal; without --apply, print what that would do
    Repair(Repair),
    /// Carry out a plan that repair wrote
    Apply(Apply),
    /// Do here and now what a job of the configuration says
    Run(Run),
    /// List, show and steer the jobs that a daemon runs by itself
    Jobs(Jobs),
    /// List what operators are told of by themselves, or try out whether they hear it
    Alerts(Alerts),
    /// Write, or check, the configuration
    Config(Config),
    /// Show stores, peers and last verdicts on one screen; exit as check
    Status(Status),
    /// Print completions for a shell
    #[serde(skip)]
    Completions(Completions),
    /// Print the manual page
    Man(Man),
}

#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_help = "Examples:\n  reknit status\n  reknit status --watch 5s\n  reknit status --format json")]
pub(crate) struct Status {
    /// Again and again, every 2 s or so often, until interrupted
    #[arg(long, env = "REKNIT_WATCH", value_name = "TIME", num_args = 0..=1, default_missing_value = "2s")]
    pub(crate) watch: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args, Serialize, Deserialize)]
pub(crate) struct Man {
    /// Write one page for each command into this directory instead
    #[arg(long, env = "REKNIT_DIR", value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

impl Cli {
    /// The command that was typed, or how it is to be understood.
    ///
    /// # Errors
    /// What was typed wrongly, or an answer: help, version.
    pub(crate) fn parse_typed(typed: &[OsString]) -> Result<Cli, clap::Error> {
        Cli::parse_by(Cli::command(), typed)
    }

    /// The same of a job: what that writes, and what it may lose by it, it says alone. A variable that is meant for a command, or
    /// for peers, would turn round what it does.
    ///
    /// # Errors
    /// As for [`Cli::parse_typed`].
    pub(crate) fn parse_job(typed: &[OsString]) -> Result<Cli, clap::Error> {
        let unheard = |flag: Arg| flag.env(Resettable::Reset);
        let repair =
            |repair| Repair::WRITING.iter().fold(repair, |all: clap::Command, flag| all.mut_arg(flag, unheard));
        Cli::parse_by(Cli::command().mut_subcommand("repair", repair), typed)
    }

    fn parse_by(mut command: clap::Command, typed: &[OsString]) -> Result<Cli, clap::Error> {
        let matches = command
            .try_get_matches_from_mut(typed)
            .map_err(|error| blamed(error, &command, typed, |variable| std::env::var_os(variable).is_some()))?;
        let mut cli = Cli::from_arg_matches(&matches)?;
        let typed = matches.value_source("format") == Some(ValueSource::CommandLine);
        let refused = |message: String| Cli::command().error(clap::error::ErrorKind::InvalidValue, message);
        // What the environment says of new stores contradicts nothing that is typed.
        if let (Command::Init(init), Some(matches)) = (&mut cli.command, matches.subcommand_matches("init")) {
            let typed = |flag: &&str| matches.value_source(flag) == Some(ValueSource::CommandLine);
            let of_new = ["name", "profile", "policy", "collection", "no_key_index", "no_members"];
            match (typed(&"like"), of_new.into_iter().find(typed)) {
                (true, Some(flag)) => {
                    let flag = flag.replace('_', "-");
                    let message =
                        format!("--like takes everything from the other store; --{flag} cannot be used with it");
                    return Err(refused(message));
                }
                (false, Some(_)) => init.like = None,
                _ => {}
            }
        }
        // Nor does what it says of tables contradict a store.
        let of_tables = |dir: &Path| dir.to_str().is_some_and(tables::is_table);
        let none_typed = |command: &str, flags: &[&str]| {
            let typed = |matches: &ArgMatches, flag: &str| matches.value_source(flag) == Some(ValueSource::CommandLine);
            matches.subcommand_matches(command).is_some_and(|of| !flags.iter().any(|flag| typed(of, flag)))
        };
        match &mut cli.command {
            Command::Init(init) if !of_tables(&init.dir) && none_typed("init", &TermFlags::IDS) => {
                (init.terms, init.kind) = Default::default();
            }
            Command::Join(join) if !of_tables(&join.dir) && none_typed("join", &["rename", "ignore", "zone"]) => {
                (join.rename, join.ignore, join.zone) = Default::default();
            }
            _ => {}
        }
        cli.settle(typed, |name| std::env::var(name).ok()).map_err(refused)?;
        Ok(cli)
    }

    /// Tells the format of results from that of a file, for which one flag is typed.
    fn settle(&mut self, typed: bool, var: impl Fn(&str) -> Option<String>) -> Result<(), String> {
        let any = |name: &str| match var(name).filter(|value| !value.is_empty()) {
            Some(value) => AnyFormat::from_str(&value, true).map(Some).map_err(|error| format!("{name}: {error}")),
            None => Ok(None),
        };
        let mut result = self.global.format;
        let of_file = match &mut self.command {
            Command::Import(Import { file_format, .. }) | Command::Export(Export { file_format, .. }) => file_format,
            _ => {
                self.global.output = result.of_results()?;
                return Ok(());
            }
        };
        let file = if typed {
            let file = Some(result);
            result = any("REKNIT_FORMAT")?.unwrap_or(AnyFormat::Text);
            file
        } else {
            any("REKNIT_FILE_FORMAT")?
        };
        *of_file = file.map(AnyFormat::of_file).transpose()?;
        self.global.output = result.of_results()?;
        Ok(())
    }
}

impl AnyFormat {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
    }

    fn of_results(self) -> Result<OutputFormat, String> {
        match self {
            AnyFormat::Text => Ok(OutputFormat::Text),
            AnyFormat::Json => Ok(OutputFormat::Json),
            AnyFormat::Jsonl => Ok(OutputFormat::Jsonl),
            other => Err(format!("results are printed as text, json or jsonl; {} is a format of files", other.name())),
        }
    }

    fn of_file(self) -> Result<FileFormat, String> {
        match self {
            AnyFormat::Csv => Ok(FileFormat::Csv),
            AnyFormat::Jsonl => Ok(FileFormat::Jsonl),
            AnyFormat::Kv => Ok(FileFormat::Kv),
            other => Err(format!("a file is csv, jsonl or kv; {} is a format of results", other.name())),
        }
    }
}

/// The same error; of a value that nobody typed it tells the variable that it comes from.
fn blamed(
    error: clap::Error,
    command: &clap::Command,
    typed: &[OsString],
    is_set: impl Fn(&str) -> bool,
) -> clap::Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return error };
    let long = flag.split([' ', '=', '[']).next().and_then(|flag| flag.strip_prefix("--"));
    let Some(flag) = long.and_then(|long| flag_of(command, long)) else { return error };
    let is_typed = typed.iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--").any(|word| {
        match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(word), _) => word.split('=').next() == flag.get_long(),
            (None, Some(letters)) => flag.get_short().is_some_and(|letter| letters.contains(letter)),
            (None, None) => false,
        }
    });
    let variable = flag.get_env().and_then(|variable| variable.to_str()).filter(|variable| is_set(variable));
    let Some(variable) = variable.filter(|_| !is_typed) else { return error };
    let text = error.to_string();
    let words = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
    let words = words.trim_start_matches("error: ");
    Cli::command().error(error.kind(), format!("{words}; {variable} in the environment says so"))
}

/// A flag, of a command or of one below it.
fn flag_of<'c>(command: &'c clap::Command, long: &str) -> Option<&'c Arg> {
    let own = command.get_arguments().find(|flag| flag.get_long() == Some(long));
    own.or_else(|| command.get_subcommands().find_map(|below| flag_of(below, long)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// The name and the variable of every flag, here and below.
    fn flags(command: &clap::Command, found: &mut Vec<(String, String)>) {
        for arg in command.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())) {
            let name = format!("{} {}", command.get_name(), arg.get_id());
            assert!(
                command.get_arg_conflicts_with(arg).is_empty(),
                "{name}: to clap a variable is a flag that is typed"
            );
            match (arg.get_long(), arg.get_env()) {
                (Some(long), Some(env)) => found.push((long.to_owned(), env.to_string_lossy().into_owned())),
                _ => assert!(arg.is_positional(), "{name} has no twin in the environment"),
            }
        }
        command.get_subcommands().for_each(|below| flags(below, found));
    }

    #[test]
    fn the_definition_holds_and_every_flag_has_a_twin_of_its_own_in_the_environment() {
        Cli::command().debug_assert();
        let mut found = Vec::new();
        flags(&Cli::command(), &mut found);
        for (long, env) in &found {
            assert!(found.iter().all(|(other, twin)| twin != env || other == long), "--{long} shares {env}");
        }
    }
    #[test]
    fn a_value_that_nobody_typed_is_told_with_its_variable() {
        let told = |typed: &[&str], set: &str| {
            let typed: Vec<OsString> = typed.iter().map(Into::into).collect();
            let mut command = Cli::command();
            let error = command.try_get_matches_from_mut(&typed).expect_err("a value that is none");
            blamed(error, &command, &typed, |variable| variable == set).to_string()
        };
        // What is typed stands for what the environment would say: clap tells both alike.
        let typed = ["reknit", "check", "a", "b", "--readers=abc"];
        assert!(!told(&typed, "REKNIT_READERS").contains("REKNIT_READERS"));
        let command = |variable: &str| {
            let mut command = Cli::command();
            let error = command.try_get_matches_from_mut(typed).expect_err("a value that is none");
            blamed(error, &command, &["reknit".into(), "check".into()], |set| set == variable).to_string()
        };
        let words =
            "'abc' for '--readers <N>': invalid digit found in string; REKNIT_READERS in the environment says so";
        assert!(command("REKNIT_READERS").contains(words), "{}", command("REKNIT_READERS"));
        assert!(!command("REKNIT_LIMIT").contains("environment"));
        let short = ["reknit", "status", "-q=7"];
        assert!(!told(&short, "REKNIT_QUIET").contains("REKNIT_QUIET"));
    }
}
