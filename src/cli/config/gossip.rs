//! The table `[gossip]`: that a daemon gossips about the stores that it serves, and with whom it begins.
//!
//! What it means is said where it is used.

use std::net::SocketAddr;
use std::time::Duration;

use super::section::Section;
use crate::cli::CliError;
use crate::cli::units::parse_duration;
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
}

impl GossipTable {
    /// Reads the table.
    pub(super) fn read(section: &Section<'_>) -> Result<GossipTable, CliError> {
        section.only(&["seeds", "every", "do", "advertise"])?;
        let seed = |text: &str| {
            text.parse().map_err(|error| section.wrong(format!("has `{text}` in seeds, which is no address: {error}")))
        };
        let seeds = section.texts("seeds")?.into_iter().map(seed).collect::<Result<_, _>>()?;
        let every = section.text("every")?.map(parse_duration).transpose();
        let every = every.map_err(|error| section.wrong(error.message))?.unwrap_or(EVERY);
        if every < EVERY_MIN {
            return Err(section.wrong("meets a peer so often in `every`; at least 100ms lie between two sessions"));
        }
        let does = section.text("do")?.unwrap_or("check");
        if !DOES.contains(&does) {
            return Err(section.wrong(format!("does `{does}`; it is one of {}", DOES.join(", "))));
        }
        let advertise = section.text("advertise")?.map(|text| {
            let wrong = || format!("advertises `{text}`, which is no address; \"203.0.113.5:7473\" is one");
            text.parse().map_err(|_| section.wrong(wrong()))
        });
        Ok(GossipTable { seeds, every, repair: does == "repair", advertise: advertise.transpose()? })
    }
}
