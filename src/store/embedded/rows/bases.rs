//! Rows of what has changed since a store was equal to another that keeps no versions: when that was, what each key that
//! changed was before, and keys that were left out. What they are for is said in [`super::super::bases`].

use reknit_core::canonical::Reader;
use reknit_core::{Actor, CollectionId, DecodeError, Millis};

use super::{BASE, BEFORE, EXCEPT, put_key, whole};
use crate::store::StoreError;

/// When two stores were equal, as one of them knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::embedded) struct Equal {
    /// The same on both sides.
    pub(in crate::store::embedded) id: u64,
    /// The commit number here.
    pub(in crate::store::embedded) commit: u64,
    pub(in crate::store::embedded) at: Millis,
    /// Whose commit number that is.
    pub(in crate::store::embedded) actor: Actor,
}

/// A key with its entry, by its first eight bytes, if it had one.
pub(in crate::store::embedded) type Was = (CollectionId, Vec<u8>, Option<u64>);

pub(in crate::store::embedded) fn base(with: &str) -> Vec<u8> {
    [&[BASE], with.as_bytes()].concat()
}

/// Bounds of the rows of all bases.
pub(in crate::store::embedded) fn all_bases() -> (Vec<u8>, Vec<u8>) {
    (vec![BASE], vec![BASE + 1])
}

pub(in crate::store::embedded) fn base_value(equal: &Equal) -> Vec<u8> {
    [equal.id, equal.commit, equal.at, equal.actor.0].map(u64::to_be_bytes).concat()
}

pub(in crate::store::embedded) fn read_base(row: &[u8], value: &[u8]) -> Result<(String, Equal), StoreError> {
    let read = || -> Result<_, DecodeError> {
        let with = String::from_utf8(row.get(1..).unwrap_or_default().to_vec());
        let mut reader = Reader::new(value);
        let (id, commit, at) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let equal = Equal { id, commit, at, actor: Actor(reader.u64()?) };
        reader.end()?;
        Ok((with.map_err(|_| DecodeError::Malformed("name of a base"))?, equal))
    };
    read().map_err(|error| StoreError::damaged(format!("a row of the bases does not decode: {error}")))
}

/// The row of what a key was before the commit of this number.
pub(in crate::store::embedded) fn before(
    commit: u64,
    collection: CollectionId,
    key: &[u8],
    entry: Option<u64>,
) -> (Vec<u8>, Vec<u8>) {
    keyed([&[BEFORE], commit.to_be_bytes().as_slice()].concat(), collection, key, entry)
}

/// Bounds of the rows of commits after `from` up to `to`.
pub(in crate::store::embedded) fn before_within(from: u64, to: u64) -> (Vec<u8>, Vec<u8>) {
    let start = |commit: u64| match commit.checked_add(1) {
        Some(next) => [&[BEFORE], next.to_be_bytes().as_slice()].concat(),
        None => vec![BEFORE + 1],
    };
    (start(from), start(to))
}

pub(in crate::store::embedded) fn read_before(row: &[u8], value: &[u8]) -> Result<Was, StoreError> {
    read_keyed(1 + 8, row, value)
}

/// The row of a key that differed when the rest was found equal.
pub(in crate::store::embedded) fn except(
    with: &str,
    collection: CollectionId,
    key: &[u8],
    entry: Option<u64>,
) -> (Vec<u8>, Vec<u8>) {
    keyed(except_head(with), collection, key, entry)
}

/// Bounds of the rows of all such keys.
pub(in crate::store::embedded) fn all_except(with: &str) -> (Vec<u8>, Vec<u8>) {
    let head = except_head(with);
    (head.clone(), super::after_all(head))
}

pub(in crate::store::embedded) fn read_except(with: &str, row: &[u8], value: &[u8]) -> Result<Was, StoreError> {
    read_keyed(except_head(with).len(), row, value)
}

fn except_head(with: &str) -> Vec<u8> {
    let name = blake3::hash(with.as_bytes());
    [&[EXCEPT], &name.as_bytes()[..8]].concat()
}

fn keyed(mut row: Vec<u8>, collection: CollectionId, key: &[u8], entry: Option<u64>) -> (Vec<u8>, Vec<u8>) {
    row.extend_from_slice(&collection.0.to_be_bytes());
    let rest = put_key(&mut row, key);
    let mut value = vec![u8::from(entry.is_some())];
    entry.into_iter().for_each(|entry| value.extend_from_slice(&entry.to_be_bytes()));
    value.extend_from_slice(rest.unwrap_or_default());
    (row, value)
}

fn read_keyed(head: usize, row: &[u8], value: &[u8]) -> Result<Was, StoreError> {
    let read = || -> Result<_, DecodeError> {
        let mut reader = Reader::new(row);
        reader.take(head)?;
        let collection = CollectionId(u16::from_be_bytes(reader.array()?));
        let mut values = Reader::new(value);
        let entry = match values.u8()? {
            0 => None,
            1 => Some(values.u64()?),
            _ => return Err(DecodeError::Malformed("what a key was")),
        };
        Ok((collection, whole(reader.rest(), values.rest())?, entry))
    };
    read().map_err(|error| StoreError::damaged(format!("a row of what has changed does not decode: {error}")))
}

#[cfg(test)]
mod tests {
    use super::super::KEY_INLINE_MAX;
    use super::*;

    #[test]
    fn rows_come_back_in_the_order_of_commits() {
        let equal = Equal { id: 1, commit: 2, at: 3, actor: Actor(4) };
        assert_eq!(read_base(&base("name"), &base_value(&equal)).expect("a base"), ("name".into(), equal));
        assert!(read_base(&base("name"), &[0; 31]).is_err());
        let long = vec![7; KEY_INLINE_MAX + 40];
        for (commit, key, entry) in [(5, &b"k"[..], None), (6, b"", Some(9)), (6, &long, Some(u64::MAX))] {
            let (row, value) = before(commit, CollectionId(3), key, entry);
            assert_eq!(read_before(&row, &value).expect("a key"), (CollectionId(3), key.to_vec(), entry));
            let within = |from: u64, to: u64| {
                let (start, end) = before_within(from, to);
                start <= row && row < end
            };
            assert!(within(commit - 1, commit) && within(0, u64::MAX) && !within(commit, u64::MAX) && !within(0, 4));
            let (row, value) = except("name", CollectionId(3), key, entry);
            assert_eq!(read_except("name", &row, &value).expect("a key"), (CollectionId(3), key.to_vec(), entry));
            let (start, end) = all_except("name");
            assert!(start <= row && row < end && !(all_except("other").0 <= row && row < all_except("other").1));
        }
        assert!(read_before(&[BEFORE, 1], &[0]).is_err());
        let (row, _) = before(1, CollectionId(0), b"k", None);
        assert!(read_before(&row, &[2]).is_err() && read_before(&row, &[]).is_err());
    }
}
