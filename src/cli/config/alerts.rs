//! The table `[alerts]`: what operators are told of by themselves, and how.
//!
//! What is told when is the core's; telling it is the daemon's.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reknit_core::Millis;
use reknit_core::alert::Rules;
use reqwest::Url;

use super::section::Section;
use crate::cli::CliError;
use crate::cli::units::parse_duration;

/// How long passes until what goes on is told again, unless it is said, and at least.
const REPEAT: Duration = Duration::from_secs(4 * 3_600);
const REPEAT_MIN: Duration = Duration::from_secs(60);
/// Runs in a row that failed, unless it is said, and at most.
const FAILURES: u32 = 3;
const FAILURES_MAX: u64 = 1_000;
/// How long a command, or a webhook, may take, unless it is said, and at most.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// What `[alerts]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AlertsTable {
    /// A program with its arguments, without a shell.
    pub(crate) command: Vec<String>,
    /// Where JSON is posted to.
    pub(crate) webhook: Option<Url>,
    /// A file whose first line is a header that goes along, `Name: value`.
    pub(crate) header_file: Option<PathBuf>,
    /// A file of the authorities that may vouch for the webhook, in the place of the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// How long either may take.
    pub(crate) timeout: Duration,
    /// From when on something is trouble, and when it is told again.
    pub(crate) rules: Rules,
}

impl Default for AlertsTable {
    fn default() -> AlertsTable {
        let rules = Rules { failures: FAILURES, drift: None, repeat: millis(REPEAT) };
        AlertsTable { command: Vec::new(), webhook: None, header_file: None, ca_file: None, timeout: TIMEOUT, rules }
    }
}

impl AlertsTable {
    /// Reads the table; relative paths begin in `dir`.
    pub(super) fn read(section: &Section<'_>, dir: &Path) -> Result<AlertsTable, CliError> {
        section.only(&[
            "command",
            "webhook",
            "webhook_header_file",
            "webhook_ca",
            "timeout",
            "repeat",
            "failures",
            "drift",
        ])?;
        let duration = |key: &str| {
            let read = section.text(key)?.map(parse_duration).transpose();
            read.map_err(|error| section.wrong(error.message))
        };
        let timeout = duration("timeout")?.unwrap_or(TIMEOUT);
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            return Err(section.wrong(format!("has a `timeout` that is not above 0 and up to {TIMEOUT_MAX:?}")));
        }
        let repeat = duration("repeat")?.unwrap_or(REPEAT);
        if repeat < REPEAT_MIN {
            return Err(section.wrong(format!("tells again, by `repeat`, what goes on; {REPEAT_MIN:?} pass at least")));
        }
        let table = AlertsTable {
            command: section.texts("command")?.into_iter().map(String::from).collect(),
            webhook: section.text("webhook")?.map(|text| webhook(section, text)).transpose()?,
            header_file: section.text("webhook_header_file")?.map(|file| dir.join(file)),
            ca_file: section.text("webhook_ca")?.map(|file| dir.join(file)),
            timeout,
            rules: Rules {
                failures: section.number("failures", 1..=FAILURES_MAX)?.map_or(FAILURES, |n| n as u32),
                drift: duration("drift")?.map(millis),
                repeat: millis(repeat),
            },
        };
        if table.header_file.is_some() && table.webhook.is_none() {
            return Err(section.wrong("has a `webhook_header_file`, but no `webhook` that the header is for"));
        }
        if table.ca_file.is_some() && table.webhook.as_ref().is_none_or(|url| url.scheme() != "https") {
            return Err(section.wrong("has a `webhook_ca`, but no `webhook` with https:// that it vouches for"));
        }
        if table.ways().is_empty() {
            return Err(section.wrong("tells nobody; `command` or `webhook` says whom"));
        }
        Ok(table)
    }

    /// By which ways something is told.
    pub(crate) fn ways(&self) -> Vec<&'static str> {
        let ways = [(COMMAND, !self.command.is_empty()), (WEBHOOK, self.webhook.is_some())];
        ways.into_iter().filter(|(_, there)| *there).map(|(way, _)| way).collect()
    }

    /// In words; an address may hold a secret in its path.
    pub(crate) fn told(&self) -> String {
        let command = self.command.first().map(|program| format!("command {program}"));
        let host = self.webhook.as_ref().and_then(|url| url.host_str().map(|host| format!("webhook at {host}")));
        [command, host].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// What whoever wrote it should know.
    pub(super) fn warning(&self) -> Option<String> {
        let file = self.header_file.as_ref()?;
        let open = std::fs::metadata(file).is_ok_and(|found| found.mode() & super::OTHERS != 0);
        let path = file.display();
        open.then(|| format!("others than its owner may read the header in {path}: chmod 600 {path}"))
    }
}

/// The names of the ways.
pub(crate) const COMMAND: &str = "command";
pub(crate) const WEBHOOK: &str = "webhook";

fn webhook(section: &Section<'_>, text: &str) -> Result<Url, CliError> {
    let wrong = || section.wrong("has a `webhook` that is no https:// address (http:// only to this machine itself)");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_string();
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|at| at.is_loopback());
    match url.scheme() {
        "https" if !host.is_empty() => Ok(url),
        "http" if here => Ok(url),
        _ => Err(wrong()),
    }
}

fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(Millis::MAX)
}
