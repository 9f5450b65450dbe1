//! The table `[serve]`: what a daemon does unless it is told otherwise where it is started.
//!
//! What it means is said where it is used.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::job::max_run;
use super::section::Section;
use super::{GossipTable, peer};
use crate::cli::units::{parse_duration, parse_limit};
use crate::transport::Rates;

/// Jobs that run at the same time, and the most that may be asked for.
const AT_ONCE: usize = 2;
const AT_ONCE_MAX: u64 = 64;
/// How long a run may take at most.
const LONGEST: Duration = Duration::from_secs(6 * 3_600);

/// What `[serve]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServeTable {
    /// The stores that are served, as paths, addresses or names.
    pub(crate) stores: Vec<PathBuf>,
    /// The UDP address.
    pub(crate) listen: Option<SocketAddr>,
    /// The TCP address of HTTP.
    pub(crate) http: Option<SocketAddr>,
    /// Where the token is that HTTP asks for.
    pub(crate) http_token_file: Option<PathBuf>,
    /// What peers may delete here, as it is typed.
    pub(crate) max_delete: Option<String>,
    /// What peers may change here.
    pub(crate) max_change: Option<String>,
    /// How far back that is counted.
    pub(crate) brake_window: Option<String>,
    /// How fast sessions go with each peer that has no rates of its own.
    pub(crate) rates: Rates,
    /// Jobs that run at the same time.
    pub(crate) at_once: usize,
    /// How long a run may take.
    pub(crate) longest: Duration,
    /// What `[gossip]` says, if it is there.
    pub(crate) gossip: Option<GossipTable>,
}

impl Default for ServeTable {
    fn default() -> ServeTable {
        ServeTable {
            stores: Vec::new(),
            listen: None,
            http: None,
            http_token_file: None,
            max_delete: None,
            max_change: None,
            brake_window: None,
            rates: Rates::default(),
            at_once: AT_ONCE,
            longest: LONGEST,
            gossip: None,
        }
    }
}

impl ServeTable {
    /// Reads the table.
    pub(super) fn read(section: &Section<'_>, dir: &Path) -> ServeTable {
        let known = ["stores", "listen", "http", "http_token_file", "max_delete", "max_change", "brake_window"];
        section.only(&[&known[..], &["jobs_at_once", "max_run"], &peer::RATES].concat());
        let place = |store: &str| match store.starts_with('@') {
            true => PathBuf::from(store),
            false => super::from(dir, store).into(),
        };
        ServeTable {
            stores: section.texts("stores").into_iter().map(place).collect(),
            listen: section.read("listen", |text| socket(text, "0.0.0.0:7473")),
            http: section.read("http", |text| socket(text, "127.0.0.1:7474")),
            http_token_file: section.text("http_token_file").map(|file| dir.join(file)),
            max_delete: section.typed("max_delete", parse_limit),
            max_change: section.typed("max_change", parse_limit),
            brake_window: section.typed("brake_window", parse_duration),
            rates: peer::rates(section),
            at_once: section.number("jobs_at_once", 1..=AT_ONCE_MAX).map_or(AT_ONCE, |n| n as usize),
            longest: section.read("max_run", max_run).map_or(LONGEST, Duration::from_millis),
            gossip: None,
        }
    }

    /// The keys that another table says otherwise, of those that a running daemon cannot take up.
    pub(super) fn fixed(&self, other: &ServeTable) -> Vec<&'static str> {
        let differ = [
            ("stores", self.stores != other.stores),
            ("listen", self.listen != other.listen),
            ("http", self.http != other.http),
            ("http_token_file", self.http_token_file != other.http_token_file),
            ("max_delete", self.max_delete != other.max_delete),
            ("max_change", self.max_change != other.max_change),
            ("brake_window", self.brake_window != other.brake_window),
        ];
        differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

/// Reads the address of a socket.
pub(super) fn socket(text: &str, example: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no address; \"{example}\" is one"))
}
