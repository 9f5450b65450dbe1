//! Rows of what is collected: where tombstones lie, by stamp, and up to which horizon there are none.
//! When a tombstone goes is said in [`super::super::collecting`].

use reknit_core::canonical::{Reader, put_varint};
use reknit_core::collect::{Horizon, PASSED_MAX, Passed};
use reknit_core::life::Sighting;
use reknit_core::{CollectionId, DecodeError, Stamp};

use super::{HASH_BYTES, KEY_INLINE_MAX, TOMBSTONE, put_key, whole};
use crate::store::StoreError;

const HEAD: usize = 1 + 8 + 2;

/// The row of a tombstone, and its value.
pub(in crate::store::embedded) fn tombstone(collection: CollectionId, stamp: Stamp, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut row = Vec::with_capacity(HEAD + key.len().min(KEY_INLINE_MAX + HASH_BYTES));
    row.push(TOMBSTONE);
    row.extend_from_slice(&stamp.0.to_be_bytes());
    row.extend_from_slice(&collection.0.to_be_bytes());
    let rest = put_key(&mut row, key).map(<[u8]>::to_vec);
    (row, rest.unwrap_or_default())
}

/// Bounds of the rows of all tombstones with a stamp up to this.
pub(in crate::store::embedded) fn tombstones_up_to(stamp: Stamp) -> (Vec<u8>, Vec<u8>) {
    let end = match stamp.0.checked_add(1) {
        Some(next) => [&[TOMBSTONE][..], &next.to_be_bytes()].concat(),
        None => vec![TOMBSTONE + 1],
    };
    (vec![TOMBSTONE], end)
}

/// Reads where a tombstone lies.
pub(in crate::store::embedded) fn read_tombstone(
    row: &[u8],
    value: &[u8],
) -> Result<(CollectionId, Stamp, Vec<u8>), StoreError> {
    let read = || -> Result<_, DecodeError> {
        let mut reader = Reader::new(row);
        reader.take(1)?;
        let (stamp, collection) = (Stamp(reader.u64()?), CollectionId(u16::from_be_bytes(reader.array()?)));
        Ok((collection, stamp, whole(reader.rest(), value)?))
    };
    read().map_err(|error| StoreError::damaged(format!("a row of the list of tombstones does not decode: {error}")))
}

/// A horizon as a store keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store::embedded) struct Kept {
    pub(in crate::store::embedded) horizon: Horizon,
    /// Whether every tombstone up to it goes: the store has caught up with one that has none of them.
    pub(in crate::store::embedded) all: bool,
}

/// What the row of the horizon holds.
pub(in crate::store::embedded) fn horizon_value(kept: &Kept) -> Vec<u8> {
    let mut value = kept.horizon.stamp.0.to_be_bytes().to_vec();
    value.push(u8::from(kept.all));
    put_varint(&mut value, kept.horizon.passed.len() as u64);
    for passed in &kept.horizon.passed {
        value.extend_from_slice(&passed.actor.to_be_bytes());
        value.extend_from_slice(&passed.met.nonce.to_be_bytes());
        put_varint(&mut value, passed.met.commit);
        put_varint(&mut value, passed.everywhere);
        put_varint(&mut value, passed.undone);
    }
    value
}

/// Reads what the row of the horizon holds.
pub(in crate::store::embedded) fn read_horizon(value: &[u8]) -> Result<Kept, StoreError> {
    let read = || -> Result<Kept, DecodeError> {
        let mut reader = Reader::new(value);
        let stamp = Stamp(reader.u64()?);
        let all = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::Malformed("kind of horizon")),
        };
        let mut passed = Vec::new();
        for _ in 0..reader.varint("stores that have passed", PASSED_MAX as u64)? {
            let (actor, nonce) = (reader.u64()?, reader.u64()?);
            let commit = reader.varint("commit of a store", u64::MAX)?;
            let everywhere = reader.varint("commit of a store", u64::MAX)?;
            let undone = reader.varint("commit of a store", u64::MAX)?;
            passed.push(Passed { actor, met: Sighting { nonce, commit }, everywhere, undone });
        }
        reader.end()?;
        Ok(Kept { horizon: Horizon { stamp, passed }, all })
    };
    read().map_err(|error| StoreError::damaged(format!("the row of the horizon does not decode: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tombstones_lie_in_the_order_of_their_stamps() {
        let long = vec![7; KEY_INLINE_MAX + 40];
        for (collection, stamp, key) in [(0, 5, &b"k"[..]), (3, u64::MAX, b""), (1, 6, &long)] {
            let (row, value) = tombstone(CollectionId(collection), Stamp(stamp), key);
            let read = read_tombstone(&row, &value).expect("a tombstone");
            assert_eq!(read, (CollectionId(collection), Stamp(stamp), key.to_vec()));
            let within = |upto: u64| {
                let (start, end) = tombstones_up_to(Stamp(upto));
                start <= row && row < end
            };
            assert!(within(stamp) && within(u64::MAX) && (stamp == 0 || !within(stamp - 1)));
        }
        assert!(read_tombstone(&[TOMBSTONE, 1], b"").is_err());
    }

    #[test]
    fn a_horizon_comes_back() {
        let passed = Passed { actor: 1, met: Sighting { nonce: 2, commit: 300 }, everywhere: 200, undone: 100 };
        let kept = Kept { horizon: Horizon { stamp: Stamp(9), passed: vec![passed; 3] }, all: true };
        let value = horizon_value(&kept);
        assert_eq!(read_horizon(&value).expect("a horizon"), kept);
        (0..value.len()).for_each(|at| assert!(read_horizon(&value[..at]).is_err()));
    }
}
