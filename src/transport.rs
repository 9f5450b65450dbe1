//! Links to known peers: identities, addresses, frames, QUIC and what programs bring in its place, and links in memory for
//! one process.
//!
//! Carries frames and says who is at the other end. It neither retries nor schedules, and knows
//! nothing of what the frames mean.

mod address;
mod connection;
#[doc(hidden)]
pub mod contract;
mod frames;
mod identity;
pub mod limits;
mod link;
pub mod network;
mod quic;
mod rates;
mod reset;

pub use address::{Address, AddressError, PORT};
pub use connection::{Arriving, Connection, Endpoint, Links};
pub use frames::{FrameReader, FrameWriter, LaneCounts};
pub use identity::{Former, Identity, IdentityError, PeerId, PeerIdError};
pub use link::{Lane, LaneKind, Link};
pub use network::{CloseCode, Network};
pub use quic::Quic;
#[cfg(test)]
pub(crate) use quic::QuicOver;
pub use rates::{BYTES_MIN, RateLimit, RateLimits, Rates};

/// Why a link could not be had or did not last. Nothing is written by a transport; whether to try
/// again is said in each variant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address does not resolve or nobody answers there. Worth another try later.
    #[error("{address} cannot be reached: {cause}")]
    Unreachable {
        /// The address.
        address: String,
        /// What stood in the way.
        cause: String,
    },
    /// The address is this node's own. Its stores are named by their directories here.
    #[error("{address} is this node itself; name the store by its directory")]
    Oneself {
        /// The address.
        address: String,
    },
    /// Somebody else holds the address. Do not try again before the peer's identity is cleared up.
    #[error(
        "an impostor at {address}: expected peer {expected}, the key there is another; find out who holds the address before anything is tried again"
    )]
    Impostor {
        /// The address.
        address: String,
        /// Who was expected.
        expected: PeerId,
    },
    /// The peer does not know this node. Its operator adds it with `reknit peers add`.
    #[error("the peer does not admit this node; have it added there: `reknit peers add {me} --may …`")]
    NotAdmitted {
        /// This node.
        me: PeerId,
    },
    /// The peer took away rights that this node was using, and ended what was under way at once.
    #[error(
        "the peer has taken away rights of this node, and cut it off; what was applied is valid; to go on, have them \
         given again there: `reknit peers add {me} --may …`"
    )]
    CutOff {
        /// This node.
        me: PeerId,
    },
    /// The peer speaks another major version of the protocol.
    #[error("{address} speaks no version of the protocol that this release knows; upgrade the older of the two")]
    Version {
        /// The address.
        address: String,
    },
    /// The peer is busy. Worth another try later.
    #[error("the peer has as many sessions as it allows; try again later")]
    Busy,
    /// The peer closed the connection: for it all is said.
    #[error("the peer closed the connection; what was applied is valid, the same command goes on")]
    Closed,
    /// The link broke. Whatever was applied is valid; the same command goes on.
    #[error("the link to the peer broke: {0}; what was applied is valid, the same command goes on")]
    Lost(String),
    /// A frame above its cap; it was not read.
    #[error("a frame of {size} bytes came, at most {limit} are allowed; the link was closed")]
    FrameTooLarge {
        /// Bytes that it claims.
        size: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// The operating system refused.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// What it said.
        cause: std::io::Error,
    },
    /// Cryptography could not be set up.
    #[error("TLS could not be set up: {0}")]
    Tls(String),
}
