//! The tables `[peer.NAME]`: who a peer is, where it is reached, what it may here and how fast sessions with it go; and what `[serve]`
//! says of the sessions with all others.
//!
//! What follows for a peer that the home knows too is said in [`crate::node::Declared`]; what keeps sessions to a rate is
//! [`crate::transport::RateLimits`].

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::section::Section;
use crate::cli::CliError;
use crate::cli::units::parse_bytes;
use crate::node::Grants;
use crate::transport::{Address, BYTES_MIN, PeerId, Rates};

/// The keys of rates.
pub(super) const RATES: [&str; 2] = ["bandwidth", "reads"];

/// Reads rates, where they are told.
pub(super) fn rates(section: &Section<'_>) -> Rates {
    let records = section.number("reads", 1..=u64::from(u32::MAX)).and_then(|reads| u32::try_from(reads).ok());
    Rates { bytes: section.read("bandwidth", bandwidth), records: records.and_then(NonZeroU32::new) }
}

/// What `[peer.NAME]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerTable {
    pub(crate) id: PeerId,
    /// Where it is reached, host and port.
    pub(crate) address: Option<String>,
    /// What it may here, if that is said.
    pub(crate) may: Option<Grants>,
    pub(crate) rates: Rates,
}

/// Reads all of them; names of `stores` are taken.
pub(super) fn peers(sections: Vec<(&str, Section<'_>)>, stores: &[&str]) -> BTreeMap<String, PeerTable> {
    let mut peers: BTreeMap<String, PeerTable> = BTreeMap::new();
    for (name, section) in sections {
        section.only(&[&["id", "address", "may"], &RATES[..]].concat());
        if stores.contains(&name) {
            section.wrong(format!("has the name of [store.{name}]; @{name} is one of both"));
        }
        if !section.has("id") {
            section.wrong("lacks `id`, the peer as `reknit id` prints it there");
        }
        let id = section.read("id", |id| id.parse::<PeerId>().map_err(|error| format!("it is no peer: {error}")));
        let (rates, rights) = (rates(&section), section.read_each("may", str::parse::<Grants>));
        let may = rights.iter().fold(Grants::default(), Grants::and);
        let address = section.typed("address", host);
        let Some(id) = id else { continue };
        if peers.values().any(|other| other.id == id) {
            section.wrong_text("id", "it is that of another [peer]");
        }
        peers.insert(name.into(), PeerTable { id, address, may: section.has("may").then_some(may), rates });
    }
    peers
}

impl PeerTable {
    /// The address of a dataset there.
    pub(super) fn at(&self, dataset: &str) -> Option<String> {
        Some(format!("quic://{}@{}/{dataset}", self.id, self.address.as_ref()?))
    }
}

/// Reads where a peer is reached.
fn host(text: &str) -> Result<(), String> {
    let whole = format!("quic://{}@{text}/dataset", PeerId([0; 32]));
    let wrong = || format!("`{text}` is no host[:port]; \"branch.example:7473\" is one");
    if text.contains(['@', '/']) {
        return Err(wrong());
    }
    whole.parse::<Address>().map(drop).map_err(|_| wrong())
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
