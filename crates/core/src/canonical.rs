//! Canonical bytes: fixed-width integers, minimal varints and length-prefixed strings, written and strictly read.
//!
//! One value has one encoding and one encoding has one value; what the fields mean is said where they are used.

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why bytes were not understood. Nothing was changed by reading them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the value does.
    Truncated,
    /// Bytes are left over after the value.
    Trailing(usize),
    /// A format version that this release does not know.
    Version(u8),
    /// A number beyond its named bound.
    Bound {
        /// Which number.
        what: &'static str,
        /// What the bytes say.
        found: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// Bytes that mean something but are not the one encoding of it, or mean nothing.
    Malformed(&'static str),
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::Truncated => f.write_str("the bytes end too early"),
            DecodeError::Trailing(n) => write!(f, "{n} bytes are left over"),
            DecodeError::Version(v) => write!(f, "format version {v} is not known to this release"),
            DecodeError::Bound { what, found, limit } => write!(f, "{what} is {found}, at most {limit} is allowed"),
            DecodeError::Malformed(what) => write!(f, "malformed {what}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Appends `value` in seven-bit groups, least significant first: 1 to 10 bytes.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the length of `bytes` as a varint, then the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads canonical bytes from the front; every method refuses what is not canonical.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    /// The bytes not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if there are fewer.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(DecodeError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// A big-endian 64-bit number.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer than eight bytes are left.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A varint of at most `limit`, in its shortest form.
    ///
    /// # Errors
    /// [`DecodeError::Bound`] beyond `limit`, named `what`; [`DecodeError::Malformed`] for a longer form;
    /// [`DecodeError::Truncated`].
    pub fn varint(&mut self, what: &'static str, limit: u64) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let group = u64::from(byte & 0x7f);
            if shift == 63 && group > 1 {
                return Err(DecodeError::Malformed("varint"));
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::Malformed("varint"));
                }
                if value > limit {
                    return Err(DecodeError::Bound { what, found: value, limit });
                }
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed("varint"))
    }

    /// A length-prefixed string of at most `limit` bytes.
    ///
    /// # Errors
    /// As for [`Reader::varint`] and [`Reader::take`].
    pub fn bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], DecodeError> {
        let n = self.varint(what, limit as u64)?;
        self.take(n as usize)
    }

    /// Refuses bytes that are left over.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] with their number.
    pub fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.0.len())) }
    }
}

/// Bytes that MessagePack carries as one binary string instead of a list of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Blob;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a binary string")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Blob, A::Error> {
                Err(serde::de::Error::custom("a binary string was expected, not a list"))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// Bytes in a struct as one binary string: `#[serde(with = "blob")]`.
pub(crate) mod blob {
    use super::Blob;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Blob::deserialize(deserializer).map(|blob| blob.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_has_one_encoding(value: u64, noise in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint("v", u64::MAX), Ok(value));
            prop_assert_eq!(reader.end(), Ok(()));
            let mut reader = Reader::new(&noise);
            if let Ok(value) = reader.varint("v", u64::MAX) {
                let mut again = Vec::new();
                put_varint(&mut again, value);
                prop_assert_eq!(&noise[..again.len()], again.as_slice());
            }
        }
    }

    #[test]
    fn bounds_are_checked_before_anything_is_taken() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, 1 << 40);
        let refused = Reader::new(&bytes).bytes("key", 65_536);
        assert_eq!(refused, Err(DecodeError::Bound { what: "key", found: 1 << 40, limit: 65_536 }));
    }
}
