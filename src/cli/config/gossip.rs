//! The table `[gossip]`: that a daemon gossips about the stores that it serves, and with whom it begins.
//!
//! What it means is said where it is used.

use std::net::SocketAddr;
use std::time::Duration;

use super::section::Section;
use crate::cli::CliError;
use crate::cli::args::BrakeFlags;
use crate::cli::commands::sides;
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
    /// What all who push may delete here together, as it is typed; as `[serve]` says, if it is not.
    pub(crate) max_delete: Option<String>,
    /// What they may change here.
    pub(crate) max_change: Option<String>,
    /// How far back that is counted.
    pub(crate) brake_window: Option<String>,
}

impl GossipTable {
    /// Reads the table.
    pub(super) fn read(section: &Section<'_>) -> Result<GossipTable, CliError> {
        section.only(&["seeds", "every", "do", "advertise", "max_delete", "max_change", "brake_window"])?;
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
        let text = |key: &str| section.text(key).map(|text| text.map(String::from));
        let flags = BrakeFlags { max_delete: text("max_delete")?, max_change: text("max_change")? };
        sides::brakes::typed(&flags).map_err(|error| section.wrong(error.message))?;
        let brake_window = text("brake_window")?;
        brake_window.as_deref().map(parse_duration).transpose().map_err(|error| section.wrong(error.message))?;
        let (advertise, BrakeFlags { max_delete, max_change }) = (advertise.transpose()?, flags);
        Ok(GossipTable { seeds, every, repair: does == "repair", advertise, max_delete, max_change, brake_window })
    }
}
