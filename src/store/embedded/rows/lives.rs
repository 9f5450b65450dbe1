//! Rows of lives: the openings in which peers met this store, and what it remembers of theirs.
//! What follows from them is said in [`super::super::lives`].

use reknit_core::canonical::{Reader, put_varint};
use reknit_core::life::{SIGHTINGS_MAX, Sighting};
use reknit_core::{DecodeError, Stamp};

use super::{MET, OPENING};
use crate::store::StoreError;

/// An opening in which peers met this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::embedded) struct Opened {
    /// The last stamp before it.
    pub(in crate::store::embedded) stamp: Stamp,
    /// The commit number and the last stamp that it came to, once the store was opened again.
    pub(in crate::store::embedded) end: Option<(u64, Stamp)>,
    /// The next such opening, if there is one.
    pub(in crate::store::embedded) next: Option<u64>,
}

/// The row of an opening.
pub(in crate::store::embedded) fn opening(nonce: u64) -> Vec<u8> {
    [&[OPENING][..], &nonce.to_be_bytes()].concat()
}

/// Bounds of the rows of all openings.
pub(in crate::store::embedded) fn openings() -> (Vec<u8>, Vec<u8>) {
    (vec![OPENING], vec![OPENING + 1])
}

/// What the row of an opening holds.
pub(in crate::store::embedded) fn opening_value(opened: &Opened) -> Vec<u8> {
    let mut value = opened.stamp.0.to_be_bytes().to_vec();
    if let Some((commit, stamp)) = opened.end {
        put_varint(&mut value, commit);
        value.extend_from_slice(&stamp.0.to_be_bytes());
        value.extend(opened.next.into_iter().flat_map(u64::to_be_bytes));
    }
    value
}

/// Reads what the row of an opening holds.
pub(in crate::store::embedded) fn read_opening(value: &[u8]) -> Result<Opened, StoreError> {
    let read = || -> Result<Opened, DecodeError> {
        let mut reader = Reader::new(value);
        let stamp = Stamp(reader.u64()?);
        let has = |reader: &Reader<'_>| !reader.rest().is_empty();
        let end = match has(&reader) {
            true => Some((reader.varint("end of an opening", u64::MAX)?, Stamp(reader.u64()?))),
            false => None,
        };
        let next = if has(&reader) { Some(reader.u64()?) } else { None };
        reader.end()?;
        Ok(Opened { stamp, end, next })
    };
    read().map_err(|error| StoreError::damaged(format!("the row of an opening does not decode: {error}")))
}

/// The row of what is remembered of another store.
pub(in crate::store::embedded) fn met(actor: u64) -> Vec<u8> {
    [&[MET][..], &actor.to_be_bytes()].concat()
}

/// Bounds of the rows of what is remembered of all other stores.
pub(in crate::store::embedded) fn all_met() -> (Vec<u8>, Vec<u8>) {
    (vec![MET], vec![MET + 1])
}

/// What the row of what is remembered holds.
pub(in crate::store::embedded) fn met_value(met: &[Sighting]) -> Vec<u8> {
    let mut value = Vec::new();
    for sighting in met {
        value.extend_from_slice(&sighting.nonce.to_be_bytes());
        put_varint(&mut value, sighting.commit);
    }
    value
}

/// Reads what is remembered of another store.
pub(in crate::store::embedded) fn read_met(value: &[u8]) -> Result<Vec<Sighting>, StoreError> {
    let broken = |error: DecodeError| {
        StoreError::damaged(format!("what is remembered of another store does not decode: {error}"))
    };
    let mut reader = Reader::new(value);
    let mut met = Vec::new();
    while !reader.rest().is_empty() {
        let nonce = reader.u64().map_err(broken)?;
        let commit = reader.varint("commit of a store", u64::MAX).map_err(broken)?;
        met.push(Sighting { nonce, commit });
        if met.len() > SIGHTINGS_MAX {
            return Err(broken(DecodeError::Malformed("number of openings")));
        }
    }
    Ok(met)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_and_meetings_come_back() {
        for (end, next) in [(None, None), (Some((300, Stamp(7))), None), (Some((300, Stamp(7))), Some(9))] {
            let opened = Opened { stamp: Stamp(5), end, next };
            let value = opening_value(&opened);
            assert_eq!(read_opening(&value).expect("an opening"), opened);
            assert!(read_opening(&value[..value.len() - 1]).is_err());
        }
        let seen = vec![Sighting { nonce: 1, commit: 300 }, Sighting { nonce: u64::MAX, commit: u64::MAX }];
        assert_eq!(read_met(&met_value(&seen)).expect("sightings"), seen);
        assert!(read_met(&met_value(&seen)[..12]).is_err());
        assert!(read_met(&met_value(&[seen[0]; SIGHTINGS_MAX + 1])).is_err());
    }
}
