//! Rows of records in quarantine. When a record gets there, and leaves, is said in [`super::super::quarantine`].

use reknit_core::bounds::KEY_BYTES_MAX;
use reknit_core::canonical::{Reader, put_bytes, put_varint};
use reknit_core::{CollectionId, DecodeError, Millis, State};

use super::{CHECKSUM_BYTES, INDEX_HEAD, QUARANTINE, by_key, checksum, is_long, whole};
use crate::store::error::shown;
use crate::store::{Quarantined, StoreError, Why};

/// The row of a key in quarantine.
pub(in crate::store::embedded) fn quarantined(collection: CollectionId, key: &[u8]) -> Vec<u8> {
    by_key(QUARANTINE, collection, key).0
}

/// Bounds of the rows of all that is in quarantine.
pub(in crate::store::embedded) fn quarantined_all() -> (Vec<u8>, Vec<u8>) {
    (vec![QUARANTINE], vec![QUARANTINE + 1])
}

/// What the row of a key in quarantine holds.
pub(in crate::store::embedded) fn put_quarantined(
    row: &[u8],
    key: &[u8],
    (since, why): (Millis, Why),
    state: &State,
) -> Vec<u8> {
    let mut value = vec![0; CHECKSUM_BYTES];
    value.push(u8::from(why == Why::Stray));
    put_varint(&mut value, since);
    if let Some(rest) = super::put_key(&mut Vec::new(), key) {
        put_bytes(&mut value, rest);
    }
    state.encode(&mut value);
    let sum = checksum(row, &value[CHECKSUM_BYTES..]);
    value[..CHECKSUM_BYTES].copy_from_slice(&sum);
    value
}

/// Reads the row of a key in quarantine.
pub(in crate::store::embedded) fn read_quarantined(row: &[u8], value: &[u8]) -> Result<Quarantined, StoreError> {
    let read = || -> Result<Quarantined, DecodeError> {
        let mut head = Reader::new(row);
        head.take(1)?;
        let collection = CollectionId(u16::from_be_bytes(head.array()?));
        let inline = row.get(INDEX_HEAD..).ok_or(DecodeError::Truncated)?;
        let (sum, body) = value.split_at_checked(CHECKSUM_BYTES).ok_or(DecodeError::Truncated)?;
        if sum != checksum(row, body) {
            return Err(DecodeError::Malformed("checksum"));
        }
        let mut reader = Reader::new(body);
        let why = match reader.u8()? {
            0 => Why::Ahead,
            1 => Why::Stray,
            _ => return Err(DecodeError::Malformed("reason")),
        };
        let since = reader.varint("time of quarantine", u64::MAX)?;
        let rest = if is_long(inline) { reader.bytes("bytes of a key", KEY_BYTES_MAX)? } else { &[] };
        let key = whole(inline, rest)?;
        Ok(Quarantined { collection, key, since, why, state: State::decode(reader.rest())? })
    };
    let key = || shown(row.get(INDEX_HEAD..).unwrap_or_default());
    read().map_err(|error| {
        StoreError::damaged(format!("the row of key {} in quarantine does not decode: {error}", key()))
    })
}

#[cfg(test)]
mod tests {
    use reknit_core::{Actor, Content, Sibling, Stamp, Version};

    use super::*;

    #[test]
    fn keys_of_every_length_come_back_and_damage_is_named() {
        let version = Version::after(Stamp(5), Actor(6), []);
        let state = State::single(Sibling { version, content: Content::Live(b"v".to_vec()), expires: None });
        for len in [0, 1, 65_000, 65_001, KEY_BYTES_MAX] {
            let key = vec![7; len];
            let row = quarantined(CollectionId(2), &key);
            let mut value = put_quarantined(&row, &key, (9, Why::Stray), &state);
            let found = read_quarantined(&row, &value).expect("a record");
            assert_eq!((found.collection, found.since, &found.state), (CollectionId(2), 9, &state));
            assert!(found.key == key, "{len}");
            value[CHECKSUM_BYTES] ^= 1;
            assert!(read_quarantined(&row, &value).is_err());
        }
    }
}
