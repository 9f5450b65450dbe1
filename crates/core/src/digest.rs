//! Digests and the keyed, domain-separated BLAKE3 that makes them.
//!
//! What goes into each kind of digest is said beside that kind: [`crate::entry`] and [`crate::tree`].

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::range::Position;

/// A 32-byte BLAKE3 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Stands where there is nothing to digest; emptiness itself is told by a count.
    pub const ZERO: Digest = Digest([0; 32]);

    /// The first `width` bytes, the rest zero: what is left of a digest that travelled at that width.
    pub fn cut(mut self, width: usize) -> Digest {
        self.0[width.min(32)..].fill(0);
        self
    }

    /// The first eight bytes, big-endian.
    pub fn short(&self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|i| self.0[i]))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = crate::canonical::Blob::deserialize(deserializer)?;
        let exact = <[u8; 32]>::try_from(bytes.0.as_slice());
        exact.map(Digest).map_err(|_| serde::de::Error::invalid_length(bytes.0.len(), &"32 bytes"))
    }
}

/// The secret of a dataset: it keys placement and every digest, so that a stranger can neither
/// guess records from digests nor grind keys into one range.
#[derive(Clone, PartialEq, Eq)]
pub struct DatasetKey([u8; 32]);

impl DatasetKey {
    /// A key from 32 bytes of good randomness.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        DatasetKey(bytes)
    }

    /// The secret itself, to be stored with care.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for DatasetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatasetKey(secret)")
    }
}

/// The sub-keys of one dataset, one for each domain, so that no digest of one kind can stand for another.
#[derive(Clone)]
pub struct Keys {
    pub(crate) placement: [u8; 32],
    pub(crate) content: [u8; 32],
    pub(crate) entry: [u8; 32],
    pub(crate) leaf: [u8; 32],
    pub(crate) inner: [u8; 32],
    pub(crate) root: [u8; 32],
    placement_mask: u64,
    pub(crate) bare: bool,
}

impl Keys {
    /// Derives the sub-keys; costs six short hashes.
    pub fn new(key: &DatasetKey) -> Self {
        let derive = |context: &str| blake3::derive_key(context, key.as_bytes());
        Keys {
            placement: derive("reknit 2026 v1 placement"),
            content: derive("reknit 2026 v1 content"),
            entry: derive("reknit 2026 v1 entry"),
            leaf: derive("reknit 2026 v1 leaf"),
            inner: derive("reknit 2026 v1 inner"),
            root: derive("reknit 2026 v1 root"),
            placement_mask: u64::MAX,
            bare: false,
        }
    }

    /// Keys whose positions keep only their first `bits` bits (0 to 64), so that tests meet
    /// colliding positions, which a real dataset meets once in many millions of records.
    pub fn with_position_bits(mut self, bits: u32) -> Self {
        self.placement_mask = u64::MAX.checked_shl(64 - bits.min(64)).unwrap_or(0);
        self
    }

    /// Keys of whoever keeps records *bare*: their values are the digests of contents that lie elsewhere, so that entries
    /// are those of the whole records.
    #[must_use]
    pub fn of_bare(mut self) -> Self {
        self.bare = true;
        self
    }

    pub(crate) fn place(&self, preimage: &[u8]) -> Position {
        let hash = blake3::keyed_hash(&self.placement, preimage);
        Position(Digest(*hash.as_bytes()).short() & self.placement_mask)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(secret)")
    }
}

pub(crate) fn keyed(key: &[u8; 32], preimage: &[u8]) -> Digest {
    Digest(*blake3::keyed_hash(key, preimage).as_bytes())
}
