//! Jobs: commands that were written down, with when they are due.
//!
//! The keys of a job are the flags of its command, read by whatever reads those; when a job is due is for the scheduler.

use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use reknit_core::Millis;
use reknit_core::agenda::DayBudget;
use reknit_core::schedule::At;
use toml::Spanned;
use toml::de::DeValue;

use super::objective::{self, WITHIN};
use super::section::{Section, meant};
use super::when::{self, When};
use crate::cli::CliError;
use crate::cli::args::{Cli, Command, Repair, TermFlags};
use crate::cli::commands::sides::{self, tables};
use crate::cli::units::{parse_bytes, parse_duration};

/// Keys that are no flags.
const OWN: [&str; 7] = ["a", "b", "do", "dataset", WITHIN, BYTES_A_DAY, TIME_A_DAY];
/// Those of a job that looks at one store.
const OWN_OF_ONE: [&str; 3] = ["store", "do", TIME_A_DAY];
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
    /// Keys for which the environment says something, each with the variable: that goes before them.
    pub(crate) overruled: Vec<(String, String)>,
    /// Variables that are set, and that it does not go by: what it writes it says alone.
    pub(crate) unheard: Vec<String>,
}

/// A flag that a table sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flag {
    key: String,
    /// As it would be typed.
    typed: String,
    /// The variable of the environment that goes before it.
    variable: Option<String>,
}

/// Flags in the order of the table.
pub(super) type Flags = Vec<Flag>;

/// Reads what two tables are compared on, in whatever job; what is not understood of it is left out.
pub(super) fn dataset(section: &Section<'_>) -> Flags {
    let all = TermFlags::augment_args(clap::Command::new("dataset"));
    let flags = flags(section, &all, &[]);
    // Nothing is looked at but what is said of tables.
    let wrong = judge(section, "check", &flags, &["a".into(), "b".into()]);
    flags.into_iter().filter(|flag| !wrong.contains(&flag.key)).collect()
}

impl Job {
    /// Reads a job, if it is clear what it does; `names` are those that there are, of stores and of all, `datasets` what they say.
    pub(super) fn read(section: &Section<'_>, names: (&[&str], &[&str]), datasets: &[(&str, Flags)]) -> Option<Job> {
        let Some(command) = command_of(section) else {
            judge_whatever_it_does(section);
            return None;
        };
        let own = if command == VERIFY { &OWN_OF_ONE[..] } else { &OWN[..] };
        let all = Cli::command();
        let all = all.find_subcommand(command).unwrap_or(&all);
        let mut flags = flags(section, all, &[own, &when::KEYS[..]].concat());
        flags.extend(of_dataset(section, &flags, datasets));
        // Whoever writes down a repair means it.
        if command == "repair" && !section.has("apply") {
            flags.push(Flag { key: "apply".into(), typed: "--apply".into(), variable: None });
        }
        let set = |variable: &String| section.is_in_environment(variable);
        let unheard = all.get_arguments().filter(|flag| writes(flag)).filter_map(variable).filter(set).collect();
        let side = |side: &str| {
            if !section.has(side) {
                section.wrong(format!("lacks `{side}`, a [store] by its name, or an address"));
            }
            section.read(side, |text| place(text, names))
        };
        let sides = if command == VERIFY { &["store"][..] } else { &["a", "b"][..] };
        let sides: Vec<Option<String>> = sides.iter().map(|name| side(name)).collect();
        let (when, within, a_day) = timed(section);
        let places = sides.iter().cloned().collect::<Option<Vec<String>>>();
        // What is wrong with a side does not hide what is wrong with the rest.
        let stand_ins = sides.iter().map(|_| "x:y".to_string()).collect();
        judge(section, command, &flags, places.as_ref().unwrap_or(&stand_ins));
        let places = places?;
        if let [a, b] = &places[..]
            && a == b
        {
            section.wrong_text("b", format!("`{b}` is what `a` is; two sides are compared, not one with itself"));
        }
        let said = |flag: &Flag| flag.variable.as_ref().is_some_and(set);
        let (overruled, flags): (Flags, Flags) = flags.into_iter().partition(said);
        let typed = typed(command, &flags, &places);
        let overruled: Vec<(String, String)> =
            overruled.into_iter().filter_map(|flag| Some((flag.key, flag.variable?))).collect();
        if let (Some((key, _)), Err(reason)) = (overruled.first(), admitted(&typed)) {
            let variables: Vec<&str> = overruled.iter().map(|(_, variable)| variable.as_str()).collect();
            let words =
                format!("what {} says goes before it, and is not understood: {}", variables.join(", "), reason.words);
            section.wrong_text(key, words);
        }
        Some(Job { when, within, a_day, typed, overruled, unheard })
    }

    /// The command that it is, or what is wrong with it.
    pub(crate) fn command(&self) -> Result<Command, String> {
        command(&self.typed).map_err(|error| told(&error))
    }
}

/// What a job does, if that is understood.
fn command_of<'s>(section: &Section<'s>) -> Option<&'s str> {
    if !section.has("do") {
        return Some("check");
    }
    let command = section.text("do")?;
    if !COMMANDS.contains(&command) {
        let meant = meant(command, COMMANDS.into_iter());
        section.wrong_text("do", format!("`{command}` is none of {}{meant}", COMMANDS.join(", ")));
        return None;
    }
    Some(command)
}

/// Notes what is wrong with a job of which it is not understood what it does, as far as it does not depend on that.
fn judge_whatever_it_does(section: &Section<'_>) {
    let all = Cli::command();
    let commands = COMMANDS.into_iter().filter_map(|command| all.find_subcommand(command));
    let keys: Vec<String> = commands.flat_map(clap::Command::get_arguments).filter_map(key).collect();
    let own = OWN.into_iter().chain(OWN_OF_ONE).chain(when::KEYS);
    section.only(&own.chain(keys.iter().map(String::as_str)).collect::<Vec<_>>());
    timed(section);
}

/// When a job is due, within how long its sides are to be proven equal, and what its runs of a day may cost.
fn timed(section: &Section<'_>) -> (When, Option<Millis>, DayBudget) {
    let when = When::read(section);
    let every = when.schedule.at.as_ref().and_then(|at| if let At::Every(every) = at { Some(*every) } else { None });
    let within = objective::within(section, every);
    let a_day = DayBudget { bytes: section.read(BYTES_A_DAY, bytes_a_day), time: section.read(TIME_A_DAY, time_a_day) };
    (when, within, a_day)
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
    some_time("runs of a day cannot do in no time; \"1h\" is some", text)
}

/// Reads how long a session may take.
pub(crate) fn max_time(text: &str) -> Result<Millis, CliError> {
    some_time("a session cannot do in no time; \"10m\" is some", text)
}

/// Reads how long any run may take.
pub(super) fn max_run(text: &str) -> Result<Millis, CliError> {
    some_time("a run cannot do in no time; \"6h\" is some", text)
}

/// Reads a time that is some.
fn some_time(none: &str, text: &str) -> Result<Millis, CliError> {
    match u64::try_from(parse_duration(text)?.as_millis()).unwrap_or(Millis::MAX) {
        0 => Err(CliError::new("usage.duration", none)),
        millis => Ok(millis),
    }
}

fn typed(command: &str, flags: &[Flag], places: &[String]) -> Vec<String> {
    let flags = flags.iter().map(|flag| flag.typed.clone());
    std::iter::once(command.to_string()).chain(flags).chain(["--".to_string()]).chain(places.iter().cloned()).collect()
}

/// What the dataset of a job says, if it has one.
fn of_dataset(section: &Section<'_>, flags: &Flags, datasets: &[(&str, Flags)]) -> Flags {
    let Some(name) = section.text("dataset") else { return Flags::new() };
    let Some((_, said)) = datasets.iter().find(|(known, _)| *known == name) else {
        let meant = meant(name, datasets.iter().map(|(known, _)| *known));
        section.wrong_text("dataset", format!("there is no [dataset.{name}]{meant}"));
        return Flags::new();
    };
    let (twice, once): (Flags, Flags) =
        said.iter().cloned().partition(|flag| flags.iter().any(|own| own.key == flag.key));
    for Flag { key, .. } in twice {
        section.wrong_by(&key, format!("says `{key}` itself, and so does [dataset.{name}]"));
    }
    once
}

/// Looks at whether a command would be understood; notes what is not at the keys that it is about, and gives those back.
fn judge(section: &Section<'_>, command: &str, flags: &Flags, places: &[String]) -> Vec<String> {
    let reason = |flags: &[Flag]| admitted(&typed(command, flags, places)).err();
    let Some(whole) = reason(flags) else { return Vec::new() };
    let without = reason(&[]);
    // Only what no other flag makes good is about one of them.
    let alone = |flag: &Flag| {
        let reason =
            reason(std::slice::from_ref(flag)).filter(|reason| reason.of_value && without.as_ref() != Some(reason));
        reason.map(|reason| (flag.key.clone(), reason.words))
    };
    let wrong: Vec<(String, String)> = flags.iter().filter_map(alone).collect();
    for (key, words) in &wrong {
        section.wrong_text(key, words);
    }
    if wrong.is_empty() {
        section.wrong(format!("is no command: {}", whole.words));
    }
    wrong.into_iter().map(|(key, _)| key).collect()
}

/// Why a command is not understood.
#[derive(PartialEq, Eq)]
struct Reason {
    words: String,
    /// Whether it is what a flag says, and not which others there are.
    of_value: bool,
}

fn command(typed: &[String]) -> Result<Command, clap::Error> {
    let typed: Vec<_> = std::iter::once("reknit").chain(typed.iter().map(String::as_str)).map(Into::into).collect();
    Ok(Cli::parse_job(&typed)?.command)
}

/// What was typed wrongly, in a line.
fn told(error: &clap::Error) -> String {
    let whole = error.to_string();
    let lines = whole.lines().take_while(|line| !line.is_empty()).map(str::trim);
    lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_string()
}

/// Looks at whether a command would be understood, as far as can be said before anything is opened.
fn admitted(typed: &[String]) -> Result<(), Reason> {
    let wrong = |error: clap::Error| {
        let of_others = [ErrorKind::MissingRequiredArgument, ErrorKind::ArgumentConflict].contains(&error.kind());
        Reason { words: told(&error), of_value: !of_others }
    };
    let command = command(typed).map_err(wrong)?;
    let meant = |error: CliError| Reason { words: error.message, of_value: true };
    if let Some(asked) = command.sides() {
        sides::limits(asked).map_err(meant)?;
        asked.terms.terms().map_err(meant)?;
        asked.pace.pace().map_err(meant)?;
        asked.max_time.as_deref().map(max_time).transpose().map_err(meant)?;
    }
    if let Command::Repair(repair) = &command {
        sides::brakes::typed(&repair.brakes).map_err(meant)?;
    }
    Ok(())
}

/// The flags that a table sets; its other keys are `own`.
fn flags(section: &Section<'_>, all: &clap::Command, own: &[&str]) -> Flags {
    let keys: Vec<(String, &clap::Arg)> = all.get_arguments().filter_map(|flag| Some((key(flag)?, flag))).collect();
    let known: Vec<&str> = own.iter().copied().chain(keys.iter().map(|(key, _)| &**key)).collect();
    section.only(&known);
    let set = |(key, value): (String, &Spanned<DeValue<'_>>)| {
        let (_, flag) = keys.iter().find(|(known, _)| *known == key)?;
        let typed = argument(section, &key, flag, value)?;
        Some(Flag { key, typed, variable: variable(flag).filter(|_| !writes(flag)) })
    };
    section.values().filter_map(set).collect()
}

/// The key that a flag has in a table, if it has one.
fn key(flag: &clap::Arg) -> Option<String> {
    Some(flag.get_long()?.replace('-', "_")).filter(|key| !LEFT_OUT.contains(&&**key))
}

/// Whether a flag says what a repair writes, or what it may lose by it.
fn writes(flag: &clap::Arg) -> bool {
    Repair::WRITING.contains(&flag.get_id().as_str())
}

/// The variable of the environment that says the same as a flag.
fn variable(flag: &clap::Arg) -> Option<String> {
    flag.get_env().map(|name| name.to_string_lossy().into_owned())
}

/// A flag as it would be typed; none where it is switched off.
fn argument(section: &Section<'_>, key: &str, flag: &clap::Arg, value: &Spanned<DeValue<'_>>) -> Option<String> {
    let long = flag.get_long().unwrap_or_default();
    let (text, must) = match value.get_ref() {
        DeValue::Boolean(on) if !flag.get_action().takes_values() => return on.then(|| format!("--{long}")),
        _ if !flag.get_action().takes_values() => (None, "true or false"),
        DeValue::String(text) => (Some(text.to_string()), ""),
        DeValue::Integer(number) if number.radix() == 10 => (Some(number.as_str().to_string()), ""),
        DeValue::Array(items) if flag.get_value_delimiter().is_some() => {
            let items: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            (items.map(|items| items.join(",")), "a list of texts in quotes")
        }
        _ => (None, "a text in quotes, or a number"),
    };
    if text.is_none() {
        section.wrong_in(key, value, must);
    }
    text.map(|text| format!("--{long}={text}"))
}

/// A side as it would be typed: the name of a store is enough here, before a table of it too. One of a peer is not, since a
/// directory may be called so.
fn place(text: &str, (stores, names): (&[&str], &[&str])) -> Result<String, String> {
    let bare = text.trim_start_matches('@');
    let name = bare.split('/').next().unwrap_or_default();
    let named = if text.starts_with('@') { names } else { stores };
    if named.contains(&name) {
        return Ok(format!("@{bare}"));
    }
    if !text.starts_with('@') && text.contains([':', '/']) {
        tables::admit(text).map_err(|error| error.message)?;
        return Ok(text.to_string());
    }
    if names.contains(&name) {
        return Err(format!("`{text}` is a [peer]; a dataset there is @{name}/DATASET"));
    }
    let meant = meant(name, names.iter().copied());
    Err(format!("`{text}` is no [store.{name}] or [peer.{name}] and no address{meant}"))
}
