//! The table `[gossip]`: that a daemon gossips about the stores that it serves, and with whom it begins.
//!
//! What it means is said where it is used.

use std::net::SocketAddr;
use std::time::Duration;

use reknit_core::Millis;

use super::objective::{self, WITHIN};
use super::section::Section;
use super::serve::socket;
use crate::cli::units::{parse_duration, parse_limit};
use crate::clock::millis;
use crate::transport::Address;

/// How often a peer is met, unless it is said.
const EVERY: Duration = Duration::from_secs(10);
const EVERY_MIN: Duration = Duration::from_millis(100);
const DOES: [&str; 2] = ["check", "repair"];

/// What `[gossip]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GossipTable {
    /// Peers to join by.
    pub(crate) seeds: Vec<Address>,
    /// How often one peer is met.
    pub(crate) every: Duration,
    /// Whether a session with it repairs both sides.
    pub(crate) repair: bool,
    /// Where others reach this node.
    pub(crate) advertise: Option<SocketAddr>,
    /// What all who push may delete here together, as it is typed; as `[serve]` says, if it is not.
    pub(crate) max_delete: Option<String>,
    /// What they may change here.
    pub(crate) max_change: Option<String>,
    /// How far back that is counted.
    pub(crate) brake_window: Option<String>,
    /// The objective of each store with each of its peers: within how long they are to be proven equal.
    pub(crate) within: Option<Millis>,
}

impl GossipTable {
    /// Reads the table; `named` knows the address that a name stands for.
    pub(super) fn read(section: &Section<'_>, named: impl Fn(&str) -> Result<String, String>) -> GossipTable {
        section.only(&["seeds", "every", "do", "advertise", "max_delete", "max_change", "brake_window", WITHIN]);
        let seed = |text: &str| {
            let address = if text.starts_with('@') { named(text)? } else { text.into() };
            address.parse().map_err(|error| format!("`{text}` is no address: {error}"))
        };
        let said = section.read("every", parse_duration);
        let understood = said.is_some() || !section.has("every");
        let every = said.unwrap_or(EVERY);
        if every < EVERY_MIN {
            section.wrong_text("every", "a peer is met so often; at least 100ms lie between two sessions");
        }
        let does = section.text("do").unwrap_or("check");
        if !DOES.contains(&does) {
            section.wrong_text("do", format!("`{does}` is none of {}", DOES.join(", ")));
        }
        GossipTable {
            seeds: section.read_each("seeds", seed),
            every,
            repair: does == "repair",
            advertise: section.read("advertise", |text| socket(text, "203.0.113.5:7473")),
            max_delete: section.typed("max_delete", parse_limit),
            max_change: section.typed("max_change", parse_limit),
            brake_window: section.typed("brake_window", parse_duration),
            within: objective::within(section, understood.then(|| millis(every))),
        }
    }

    /// The keys that another table says otherwise and a running daemon does not take up: all but the objective.
    pub(super) fn fixed(&self, other: &GossipTable) -> Vec<&'static str> {
        let differ = [
            ("seeds", self.seeds != other.seeds),
            ("every", self.every != other.every),
            ("do", self.repair != other.repair),
            ("advertise", self.advertise != other.advertise),
            ("max_delete", self.max_delete != other.max_delete),
            ("max_change", self.max_change != other.max_change),
            ("brake_window", self.brake_window != other.brake_window),
        ];
        differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}
