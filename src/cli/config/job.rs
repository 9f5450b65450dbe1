//! Jobs: commands that were written down, with when they are due.
//!
//! The keys of a job are the flags of its command, read by whatever reads those; when a job is due is for the scheduler.

use clap::{Args, CommandFactory};
use reknit_core::Millis;
use reknit_core::agenda::DayBudget;
use reknit_core::schedule::At;
use toml::Spanned;
use toml::de::DeValue;

use super::section::{Section, meant};
use super::when::{self, When};
use crate::cli::CliError;
use crate::cli::args::{Cli, Command, TermFlags};
use crate::cli::commands::sides;
use crate::cli::units::{parse_bytes, parse_duration};

/// Keys that are no flags.
const OWN: [&str; 7] = ["a", "b", "do", "dataset", WITHIN, BYTES_A_DAY, TIME_A_DAY];
/// Those of a job that looks at one store.
const OWN_OF_ONE: [&str; 3] = ["store", "do", TIME_A_DAY];
/// The objective of a job: within how long its sides are to be proven equal.
const WITHIN: &str = "proven_equal_within";
/// What its runs of a day may cost.
const BYTES_A_DAY: &str = "max_bytes_per_day";
const TIME_A_DAY: &str = "max_time_per_day";
const VERIFY: &str = "verify";
/// What a job can do.
const COMMANDS: [&str; 4] = ["check", "diff", "repair", VERIFY];
/// Flags that make no sense again and again: a plan and a file of statements are looked at before they are carried out.
const LEFT_OUT: [&str; 2] = ["plan", "sql"];

/// A command that was written down.
#[derive(Debug)]
pub(crate) struct Job {
    /// When it is due.
    pub(crate) when: When,
    /// Within how long its sides are to be proven equal.
    pub(crate) within: Option<Millis>,
    /// What its runs of a day may cost.
    pub(crate) a_day: DayBudget,
    /// As it would be typed after the program's name.
    pub(crate) typed: Vec<String>,
}

/// Flags as they would be typed, by their keys.
pub(super) type Flags = Vec<(String, String)>;

/// Reads what two tables are compared on, in whatever job.
pub(super) fn dataset(section: &Section<'_>) -> Result<Flags, CliError> {
    let all = TermFlags::augment_args(clap::Command::new("dataset"));
    let flags = flags(section, &all, &[])?;
    // Nothing is looked at but what is said of tables.
    let typed = typed("check", flags.iter().map(|(_, flag)| flag.clone()), vec!["a".into(), "b".into()]);
    admitted(&typed).map_err(|reason| section.wrong(format!("is not understood: {reason}")))?;
    Ok(flags)
}

impl Job {
    /// Reads a job; `stores` are the names that there are, `datasets` what they say.
    pub(super) fn read(section: &Section<'_>, stores: &[&str], datasets: &[(&str, Flags)]) -> Result<Job, CliError> {
        let command = section.text("do")?.unwrap_or("check");
        if !COMMANDS.contains(&command) {
            let meant = meant(command, COMMANDS.into_iter());
            return Err(section.wrong(format!("does `{command}`, which is none of {}{meant}", COMMANDS.join(", "))));
        }
        let own = if command == VERIFY { &OWN_OF_ONE[..] } else { &OWN[..] };
        let all = Cli::command();
        let all = all.find_subcommand(command).unwrap_or(&all);
        let mut flags = flags(section, all, &[own, &when::KEYS[..]].concat())?;
        if let Some(name) = section.text("dataset")? {
            let found = datasets.iter().find(|(known, _)| *known == name).ok_or_else(|| {
                let meant = meant(name, datasets.iter().map(|(known, _)| *known));
                section.wrong(format!("has `{name}` for its dataset, which is no [dataset.{name}]{meant}"))
            })?;
            if let Some((key, _)) = found.1.iter().find(|(key, _)| flags.iter().any(|(own, _)| own == key)) {
                return Err(section.wrong(format!("says `{key}` itself, and so does [dataset.{name}]")));
            }
            flags.extend(found.1.iter().cloned());
        }
        // Whoever writes down a repair means it.
        if command == "repair" && !section.values().any(|(key, _)| key == "apply") {
            flags.push(("apply".into(), "--apply".into()));
        }
        let side = |side: &str| match section.text(side)? {
            Some(text) => place(section, side, text, stores),
            None => Err(section.wrong(format!("lacks `{side}`"))),
        };
        let places = if command == VERIFY { vec![side("store")?] } else { vec![side("a")?, side("b")?] };
        let typed = typed(command, flags.into_iter().map(|(_, flag)| flag), places);
        admitted(&typed).map_err(|reason| section.wrong(format!("is no command: {reason}")))?;
        let within =
            section.text(WITHIN)?.map(parse_duration).transpose().map_err(|error| section.wrong(error.message))?;
        let within = within.map(|within| u64::try_from(within.as_millis()).unwrap_or(Millis::MAX));
        let when = When::read(section)?;
        if let (Some(within), Some(At::Every(every))) = (within, &when.schedule.at)
            && within < *every
        {
            let words = "is to be proven equal more often, by `proven_equal_within`, than it is looked at, by `every`";
            return Err(section.wrong(words));
        }
        if within == Some(0) {
            return Err(section.wrong("is to be proven equal within no time; \"15m\" is some"));
        }
        let a_day = DayBudget {
            bytes: section
                .text(BYTES_A_DAY)?
                .map(bytes_a_day)
                .transpose()
                .map_err(|error| section.wrong(error.message))?,
            time: section
                .text(TIME_A_DAY)?
                .map(time_a_day)
                .transpose()
                .map_err(|error| section.wrong(error.message))?,
        };
        Ok(Job { when, within, a_day, typed })
    }

    /// The command that it is, or what is wrong with it.
    pub(crate) fn command(&self) -> Result<Command, String> {
        command(&self.typed)
    }
}

/// Reads how many bytes the runs of a day may cost.
pub(crate) fn bytes_a_day(text: &str) -> Result<u64, CliError> {
    match parse_bytes(text)? {
        0 => Err(CliError::new("usage.bytes", "runs of a day cannot do with no bytes; \"1GiB\" are some")),
        bytes => Ok(bytes),
    }
}

/// Reads how long the runs of a day may take together.
pub(crate) fn time_a_day(text: &str) -> Result<Millis, CliError> {
    match u64::try_from(parse_duration(text)?.as_millis()).unwrap_or(Millis::MAX) {
        0 => Err(CliError::new("usage.duration", "runs of a day cannot do in no time; \"1h\" is some")),
        millis => Ok(millis),
    }
}

fn typed(command: &str, flags: impl Iterator<Item = String>, places: Vec<String>) -> Vec<String> {
    std::iter::once(command.to_string()).chain(flags).chain(["--".to_string()]).chain(places).collect()
}

fn command(typed: &[String]) -> Result<Command, String> {
    let typed: Vec<_> = std::iter::once("reknit").chain(typed.iter().map(String::as_str)).map(Into::into).collect();
    let told = |error: clap::Error| {
        let whole = error.to_string();
        let lines = whole.lines().take_while(|line| !line.is_empty()).map(str::trim);
        lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_string()
    };
    Ok(Cli::parse_typed(&typed).map_err(told)?.command)
}

/// Looks at whether a command would be understood, as far as can be said before anything is opened.
fn admitted(typed: &[String]) -> Result<(), String> {
    let command = command(typed)?;
    let told = |error: CliError| error.message;
    if let Some(asked) = command.sides() {
        sides::limits(asked).map_err(told)?;
        asked.terms.terms().map_err(told)?;
    }
    if let Command::Repair(repair) = &command {
        sides::brakes::typed(&repair.brakes).map_err(told)?;
    }
    Ok(())
}

/// The flags that a table sets; its other keys are `own`.
fn flags(section: &Section<'_>, all: &clap::Command, own: &[&str]) -> Result<Flags, CliError> {
    let key = |flag: &clap::Arg| Some(flag.get_long()?.replace('-', "_")).filter(|key| !LEFT_OUT.contains(&&**key));
    let keys: Vec<(String, &clap::Arg)> = all.get_arguments().filter_map(|flag| Some((key(flag)?, flag))).collect();
    let known: Vec<&str> = own.iter().copied().chain(keys.iter().map(|(key, _)| &**key)).collect();
    section.only(&known)?;
    let mut flags = Flags::new();
    for (key, value) in section.values() {
        if let Some((_, flag)) = keys.iter().find(|(known, _)| *known == key)
            && let Some(typed) = argument(section, &key, flag, value)?
        {
            flags.push((key, typed));
        }
    }
    Ok(flags)
}

/// A flag as it would be typed; none where it is switched off.
fn argument(
    section: &Section<'_>,
    key: &str,
    flag: &clap::Arg,
    value: &Spanned<DeValue<'_>>,
) -> Result<Option<String>, CliError> {
    let long = flag.get_long().unwrap_or_default();
    let wrong = |must: &str| section.wrong_in(key, value, must);
    if !flag.get_action().takes_values() {
        let on = value.get_ref().as_bool().ok_or_else(|| wrong("is true or false"))?;
        return Ok(on.then(|| format!("--{long}")));
    }
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_string(),
        DeValue::Array(items) if flag.get_value_delimiter().is_some() => {
            let items: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            items.ok_or_else(|| wrong("is a list of texts in quotes"))?.join(",")
        }
        _ => return Err(wrong("is a text in quotes, or a number")),
    };
    Ok(Some(format!("--{long}={text}")))
}

/// A side as it would be typed: the name of a store is enough here, before a table of it too.
fn place(section: &Section<'_>, side: &str, text: &str, stores: &[&str]) -> Result<String, CliError> {
    let named = text.trim_start_matches('@');
    let name = named.split('/').next().unwrap_or_default();
    if stores.contains(&name) {
        return Ok(format!("@{named}"));
    }
    if !text.starts_with('@') && text.contains([':', '/']) {
        return Ok(text.to_string());
    }
    let meant = meant(name, stores.iter().copied());
    Err(section.wrong(format!("has `{text}` for {side}, which is no [store.{name}] and no address{meant}")))
}
