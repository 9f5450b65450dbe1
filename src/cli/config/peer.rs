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
pub(super) fn rates(section: &Section<'_>) -> Result<Rates, CliError> {
    let bytes = section.text("bandwidth")?.map(bandwidth).transpose();
    let records = section.number("reads", 1..=u64::from(u32::MAX))?.and_then(|reads| u32::try_from(reads).ok());
    Ok(Rates {
        bytes: bytes.map_err(|error| section.wrong(format!("has for `bandwidth`: {}", error.message)))?,
        records: records.and_then(NonZeroU32::new),
    })
}

/// Reads the rates of peers.
pub(super) fn peers(sections: Vec<(&str, Section<'_>)>) -> Result<BTreeMap<PeerId, Rates>, CliError> {
    let mut peers = BTreeMap::new();
    for (_, section) in sections {
        section.only(&[&["id"], &RATES[..]].concat())?;
        let id = section.text("id")?.ok_or_else(|| section.wrong("lacks `id`"))?;
        let peer: PeerId =
            id.parse().map_err(|error| section.wrong(format!("has an `id` that is no peer: {error}")))?;
        if peers.insert(peer, rates(&section)?).is_some() {
            return Err(section.wrong("has the `id` of another [peer]"));
        }
    }
    Ok(peers)
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
