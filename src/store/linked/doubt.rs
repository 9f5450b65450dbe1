//! Rows of a transaction whose end was not seen: the process ended, or the database was lost, after the index had learnt what
//! they become. A database that has not committed has changed nothing, so no feed marks them: they are looked at before the
//! index is believed again.

use reknit_core::DecodeError;
use reknit_core::bounds::KEY_BYTES_MAX;
use reknit_core::canonical::{Reader, put_bytes};

use super::Linked;
use crate::store::StoreError;

/// The fact of an index that names their keys.
const FACT: &str = "doubt";
const FORMAT: u8 = 1;

impl Linked {
    /// Notes that it is not known of these keys whether they are written, before the index learns that they are.
    pub(super) fn doubt<'a>(&self, keys: impl Iterator<Item = &'a Vec<u8>>) -> Result<(), StoreError> {
        self.index().set_fact_soon(FACT, Some(encode(keys)))
    }

    /// Notes that it is known.
    pub(super) fn is_known(&self) -> Result<(), StoreError> {
        self.index().set_fact_soon(FACT, None)
    }

    /// Looks at the keys of which it was not known. Says how many were otherwise than the index had them.
    pub(super) fn look_at_doubted(&self) -> Result<u64, StoreError> {
        let Some(bytes) = self.index().fact(FACT)? else { return Ok(0) };
        let keys = decode(&bytes);
        let keys = keys.map_err(|error| StoreError::damaged(format!("rows in doubt of an index: {error}")))?;
        let changed = self.look(&keys)?;
        self.is_known()?;
        Ok(changed)
    }
}

fn encode<'a>(keys: impl Iterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    keys.for_each(|key| put_bytes(&mut bytes, key));
    bytes
}

fn decode(bytes: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        FORMAT => {}
        other => return Err(DecodeError::Version(other)),
    }
    let mut keys = Vec::new();
    while !reader.rest().is_empty() {
        keys.push(reader.bytes("bytes of a key", KEY_BYTES_MAX)?.to_vec());
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_doubt_has_these_bytes() {
        let keys = [b"a".to_vec(), Vec::new(), b"key".to_vec()];
        let bytes = encode(keys.iter());
        assert_eq!(bytes, [1, 1, b'a', 0, 3, b'k', b'e', b'y']);
        assert_eq!(decode(&bytes).as_deref(), Ok(&keys[..]));
        assert_eq!(decode(&[2]), Err(DecodeError::Version(2)));
        assert!(decode(&bytes[..bytes.len() - 1]).is_err() && decode(&[]).is_err());
    }
}
