//! Jobs: commands that were written down, with when they are due.
//!
//! The keys of a job are the flags of its command, read by whatever reads those; when a job is due is for the scheduler.

use clap::CommandFactory;
use toml::Spanned;
use toml::de::DeValue;

use super::section::{Section, meant};
use crate::cli::CliError;
use crate::cli::args::{Cli, Command};
use crate::node::At;

/// Keys that are no flags.
const OWN: [&str; 4] = ["a", "b", "do", "at"];
/// What a job can do.
const COMMANDS: [&str; 3] = ["check", "diff", "repair"];
/// Flags that make no sense again and again: a plan is looked at before it is carried out.
const LEFT_OUT: [&str; 1] = ["plan"];

/// A command that was written down.
#[derive(Debug)]
pub(crate) struct Job {
    /// When it is due, if it says so.
    pub(crate) at: Option<At>,
    /// As it would be typed after the program's name.
    pub(crate) typed: Vec<String>,
}

impl Job {
    /// Reads a job; `stores` are the names that there are.
    pub(super) fn read(section: &Section<'_>, stores: &[&str]) -> Result<Job, CliError> {
        let command = section.text("do")?.unwrap_or("check");
        if !COMMANDS.contains(&command) {
            let meant = meant(command, COMMANDS.into_iter());
            return Err(section.wrong(format!("does `{command}`, which is none of {}{meant}", COMMANDS.join(", "))));
        }
        let all = Cli::command();
        let flags: Vec<&clap::Arg> =
            all.find_subcommand(command).map(|c| c.get_arguments().collect()).unwrap_or_default();
        let key =
            |flag: &&clap::Arg| Some(flag.get_long()?.replace('-', "_")).filter(|key| !LEFT_OUT.contains(&&**key));
        let keys: Vec<(String, &clap::Arg)> = flags.iter().filter_map(|flag| Some((key(flag)?, *flag))).collect();
        let known: Vec<&str> = OWN.into_iter().chain(keys.iter().map(|(key, _)| &**key)).collect();
        section.only(&known)?;
        let mut typed = vec![command.to_string()];
        let mut apply = command == "repair";
        for (key, value) in section.values() {
            match keys.iter().find(|(known, _)| *known == key) {
                Some(_) if key == "apply" => {
                    apply =
                        value.get_ref().as_bool().ok_or_else(|| section.wrong_in(&key, value, "is true or false"))?;
                }
                Some((_, flag)) => typed.extend(argument(section, &key, flag, value)?),
                None => {}
            }
        }
        typed.extend(apply.then(|| "--apply".to_string()));
        typed.push("--".into());
        for side in ["a", "b"] {
            let text = section.text(side)?.ok_or_else(|| section.wrong(format!("lacks `{side}`")))?;
            typed.push(place(section, side, text, stores)?);
        }
        let at = section.text("at")?.map(str::parse).transpose();
        let job = Job { at: at.map_err(|error: crate::node::AtError| section.wrong(error))?, typed };
        job.command().map_err(|reason| section.wrong(format!("is no command: {reason}")))?;
        Ok(job)
    }

    /// The command that it is, or what is wrong with it.
    pub(crate) fn command(&self) -> Result<Command, String> {
        let typed = std::iter::once("reknit").chain(self.typed.iter().map(String::as_str));
        let typed: Vec<_> = typed.map(Into::into).collect();
        let told = |error: clap::Error| {
            let whole = error.to_string();
            let lines = whole.lines().take_while(|line| !line.is_empty()).map(str::trim);
            lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_string()
        };
        Ok(Cli::parse_typed(&typed).map_err(told)?.command)
    }
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

/// A side as it would be typed: the name of a store is enough here.
fn place(section: &Section<'_>, side: &str, text: &str, stores: &[&str]) -> Result<String, CliError> {
    if stores.contains(&text) {
        return Ok(format!("@{text}"));
    }
    if text.starts_with('@') || text.contains([':', '/']) {
        return Ok(text.to_string());
    }
    let meant = meant(text, stores.iter().copied());
    Err(section.wrong(format!("has `{text}` for {side}, which is no [store.{text}] and no address{meant}")))
}
