//! Rows of what expires: which key, by when the first of its versions does.
//! When a record goes is said in [`super::super::expiring`].

use reknit_core::canonical::Reader;
use reknit_core::{CollectionId, DecodeError, Millis};

use super::{EXPIRING, HASH_BYTES, KEY_INLINE_MAX, put_key, whole};
use crate::store::StoreError;

const HEAD: usize = 1 + 8 + 2;

/// The row of a key that expires, and its value.
pub(in crate::store::embedded) fn expiring(collection: CollectionId, at: Millis, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut row = Vec::with_capacity(HEAD + key.len().min(KEY_INLINE_MAX + HASH_BYTES));
    row.push(EXPIRING);
    row.extend_from_slice(&at.to_be_bytes());
    row.extend_from_slice(&collection.0.to_be_bytes());
    let rest = put_key(&mut row, key).map(<[u8]>::to_vec);
    (row, rest.unwrap_or_default())
}

/// Bounds of the rows of all that expires up to this time.
pub(in crate::store::embedded) fn expiring_up_to(watermark: Millis) -> (Vec<u8>, Vec<u8>) {
    let end = match watermark.checked_add(1) {
        Some(next) => [&[EXPIRING][..], &next.to_be_bytes()].concat(),
        None => vec![EXPIRING + 1],
    };
    (vec![EXPIRING], end)
}

/// Reads which key expires.
pub(in crate::store::embedded) fn read_expiring(
    row: &[u8],
    value: &[u8],
) -> Result<(CollectionId, Vec<u8>), StoreError> {
    let read = || -> Result<_, DecodeError> {
        let mut reader = Reader::new(row);
        reader.take(1 + 8)?;
        Ok((CollectionId(u16::from_be_bytes(reader.array()?)), whole(reader.rest(), value)?))
    };
    read().map_err(|error| StoreError::damaged(format!("a row of the list of what expires does not decode: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_expires_lies_in_the_order_of_time() {
        let long = vec![7; KEY_INLINE_MAX + 40];
        for (collection, at, key) in [(0, 5, &b"k"[..]), (3, u64::MAX, b""), (1, 6, &long)] {
            let (row, value) = expiring(CollectionId(collection), at, key);
            assert_eq!(read_expiring(&row, &value).expect("a key"), (CollectionId(collection), key.to_vec()));
            let within = |upto: u64| {
                let (start, end) = expiring_up_to(upto);
                start <= row && row < end
            };
            assert!(within(at) && within(u64::MAX) && !within(at - 1));
        }
        assert!(read_expiring(&[EXPIRING, 1], b"").is_err());
    }
}
