//! Addresses: `quic://PEER@host[:port]/DATASET`.

use std::fmt;
use std::str::FromStr;

use super::identity::{PeerId, PeerIdError};

/// The port where none is named.
pub const PORT: u16 = 7473;

/// Where a dataset of a peer is served. The peer is pinned: nobody else is accepted there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Who serves it.
    pub peer: PeerId,
    /// A host name or an IP address.
    pub host: String,
    /// A UDP port.
    pub port: u16,
    /// The name or id of the dataset.
    pub dataset: String,
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It does not begin with `quic://`.
    #[error("an address begins with quic://")]
    Scheme,
    /// It names no peer.
    #[error("an address names its peer: quic://PEER@host[:port]/DATASET")]
    NoPeer,
    /// The peer is not one.
    #[error("{0}")]
    Peer(#[from] PeerIdError),
    /// It names no host.
    #[error("an address names a host after the @")]
    NoHost,
    /// The port is not one.
    #[error("`{0}` is not a port")]
    Port(String),
    /// It names no dataset.
    #[error("an address names its dataset after the host: quic://PEER@host[:port]/DATASET")]
    NoDataset,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let rest = text.strip_prefix("quic://").ok_or(AddressError::Scheme)?;
        let (peer, rest) = rest.split_once('@').ok_or(AddressError::NoPeer)?;
        let peer = peer.parse()?;
        let (authority, dataset) = rest.split_once('/').ok_or(AddressError::NoDataset)?;
        if dataset.is_empty() || dataset.contains('/') {
            return Err(AddressError::NoDataset);
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(AddressError::NoHost);
        }
        let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| AddressError::Port(port.into())))?;
        Ok(Address { peer, host: host.into(), port, dataset: dataset.into() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { peer, host, port, dataset } = self;
        if host.contains(':') {
            write!(f, "quic://{peer}@[{host}]:{port}/{dataset}")
        } else {
            write!(f, "quic://{peer}@{host}:{port}/{dataset}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_and_what_is_wrong_is_named() {
        let peer = PeerId([7; 32]);
        for (text, host, port) in [
            (format!("quic://{peer}@db1.example/cities"), "db1.example", PORT),
            (format!("quic://{peer}@127.0.0.1:99/cities"), "127.0.0.1", 99),
            (format!("quic://{peer}@[::1]:99/cities"), "::1", 99),
            (format!("quic://{peer}@[::1]/cities"), "::1", PORT),
        ] {
            let address: Address = text.parse().expect("an address");
            assert_eq!((address.host.as_str(), address.port, address.dataset.as_str()), (host, port, "cities"));
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        let check = |text: String, error| assert_eq!(text.parse::<Address>(), Err(error));
        check("http://x".into(), AddressError::Scheme);
        check("quic://host/cities".into(), AddressError::NoPeer);
        check("quic://abc@host/cities".into(), AddressError::Peer(PeerIdError::Length(3)));
        check(format!("quic://{peer}@host"), AddressError::NoDataset);
        check(format!("quic://{peer}@host/"), AddressError::NoDataset);
        check(format!("quic://{peer}@/cities"), AddressError::NoHost);
        check(format!("quic://{peer}@host:port/cities"), AddressError::Port("port".into()));
    }
}
