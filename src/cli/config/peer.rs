//! The tables `[peer.NAME]`, and what `[serve]` says of all other peers: how fast sessions with them go.
//!
//! Who a peer is and what it may, is in the file of peers; what keeps sessions to a rate is [`crate::transport::RateLimits`].

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::section::Section;
use crate::cli::CliError;
use crate::cli::units::parse_bytes;
use crate::transport::{BYTES_MIN, PeerId, Rates};

/// The keys of rates.
pub(super) const RATES: [&str; 2] = ["bandwidth", "reads"];

/// Reads rates, where they are told.
pub(super) fn rates(section: &Section<'_>) -> Rates {
    let records = section.number("reads", 1..=u64::from(u32::MAX)).and_then(|reads| u32::try_from(reads).ok());
    Rates { bytes: section.read("bandwidth", bandwidth), records: records.and_then(NonZeroU32::new) }
}

/// Reads the rates of peers.
pub(super) fn peers(sections: Vec<(&str, Section<'_>)>) -> BTreeMap<PeerId, Rates> {
    let mut peers = BTreeMap::new();
    for (_, section) in sections {
        section.only(&[&["id"], &RATES[..]].concat());
        let rates = rates(&section);
        if !section.has("id") {
            section.wrong("lacks `id`, the peer as `reknit id` prints it there");
        }
        let peer = section.read("id", |id| id.parse::<PeerId>().map_err(|error| format!("it is no peer: {error}")));
        if peer.is_some_and(|peer| peers.insert(peer, rates).is_some()) {
            section.wrong_text("id", "it is that of another [peer]");
        }
    }
    peers
}

/// Reads bytes a second.
pub(crate) fn bandwidth(typed: &str) -> Result<NonZeroU32, CliError> {
    let bytes = parse_bytes(typed)?;
    let bytes = u32::try_from(bytes).ok().filter(|bytes| *bytes >= BYTES_MIN).and_then(NonZeroU32::new);
    bytes.ok_or_else(|| {
        let least = BYTES_MIN >> 10;
        CliError::new("usage.bandwidth", format!("`{typed}` a second is none; it is from {least}KiB to 4095MiB"))
    })
}
