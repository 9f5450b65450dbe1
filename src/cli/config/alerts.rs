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
    pub(super) fn read(section: &Section<'_>, dir: &Path) -> AlertsTable {
        section.only(&[
            "command",
            "webhook",
            "webhook_header_file",
            "webhook_ca",
            "timeout",
            "repeat",
            "failures",
            "drift",
        ]);
        let timeout = section.read("timeout", parse_duration).unwrap_or(TIMEOUT);
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            section.wrong_text("timeout", format!("it is above 0 and up to {TIMEOUT_MAX:?}, not {timeout:?}"));
        }
        let repeat = section.read("repeat", parse_duration).unwrap_or(REPEAT);
        if repeat < REPEAT_MIN {
            let why = format!("what goes on is told again after {repeat:?}; {REPEAT_MIN:?} pass at least");
            section.wrong_text("repeat", why);
        }
        let table = AlertsTable {
            command: section.texts("command").into_iter().map(String::from).collect(),
            webhook: section.read("webhook", webhook),
            header_file: section.text("webhook_header_file").map(|file| dir.join(file)),
            ca_file: section.text("webhook_ca").map(|file| dir.join(file)),
            timeout,
            rules: Rules {
                failures: section.number("failures", 1..=FAILURES_MAX).map_or(FAILURES, |n| n as u32),
                drift: section.read("drift", parse_duration).map(millis),
                repeat: millis(repeat),
            },
        };
        if section.has("webhook_header_file") && !section.has("webhook") {
            section.wrong_text("webhook_header_file", "there is no `webhook` that the header is for");
        }
        let vouched_for = |url: &Url| url.scheme() == "https";
        if section.has("webhook_ca") && !table.webhook.as_ref().map_or(section.has("webhook"), vouched_for) {
            section.wrong_text("webhook_ca", "there is no `webhook` with https:// that it vouches for");
        }
        if table.ways().is_empty() && !section.has("webhook") {
            section.wrong("tells nobody; `command` or `webhook` says whom");
        }
        table
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

/// Reads where is told; it may hold a secret in its path, and is not shown.
fn webhook(text: &str) -> Result<Url, &'static str> {
    const WRONG: &str = "it is no https:// address (http:// only to this machine itself)";
    let url = Url::parse(text).map_err(|_| WRONG)?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_string();
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|at| at.is_loopback());
    match url.scheme() {
        "https" if !host.is_empty() => Ok(url),
        "http" if here => Ok(url),
        _ => Err(WRONG),
    }
}

fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap_or(Millis::MAX)
}
