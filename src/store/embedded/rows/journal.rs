//! Rows of the journal: runs, the packed entries of their commits, and where a key's earlier states lie.
//! What a run means is said by the core.

use reknit_core::canonical::Reader;
use reknit_core::journal::{Changed, Run, RunId};
use reknit_core::{CollectionId, DecodeError, Position};

use super::{CHECKSUM_BYTES, EARLIER, ENTRIES, RUN, after, after_all, checksum, placed};
use crate::store::StoreError;

/// Where packed entries lie: their run, their commit, and their number in it. Rows count down, so that the newest come first,
/// as they are undone.
pub(in crate::store::embedded) type Place = (RunId, u64, u64);

/// The row of a run.
pub(in crate::store::embedded) fn run(run: RunId) -> Vec<u8> {
    numbered(RUN, &[run.0])
}

/// Bounds of the rows of all runs.
pub(in crate::store::embedded) fn runs() -> (Vec<u8>, Vec<u8>) {
    (vec![RUN], vec![RUN + 1])
}

/// The row of packed entries.
pub(in crate::store::embedded) fn packed((run, commit, number): Place) -> Vec<u8> {
    numbered(ENTRIES, &[run.0, !commit, !number])
}

/// Bounds of the rows of packed entries of a run, only those older than a commit and number if they are given.
pub(in crate::store::embedded) fn packed_of(run: RunId, before: Option<(u64, u64)>) -> (Vec<u8>, Vec<u8>) {
    let all = numbered(ENTRIES, &[run.0]);
    let end = after_all(all.clone());
    (before.map_or(all, |(commit, number)| after(packed((run, commit, number)))), end)
}

/// Bounds of the rows of packed entries of all runs.
pub(in crate::store::embedded) fn all_packed() -> (Vec<u8>, Vec<u8>) {
    (vec![ENTRIES], vec![ENTRIES + 1])
}

/// The row that says that packed entries hold an earlier state of a key at this position.
pub(in crate::store::embedded) fn earlier(
    collection: CollectionId,
    position: Position,
    (run, commit, number): Place,
) -> Vec<u8> {
    let mut row = placed(EARLIER, collection, position, 24);
    [commit, run.0, number].iter().for_each(|number| row.extend_from_slice(&number.to_be_bytes()));
    row
}

/// Bounds of the rows of the earlier states at a position, oldest first.
pub(in crate::store::embedded) fn earlier_of(collection: CollectionId, position: Position) -> (Vec<u8>, Vec<u8>) {
    let start = placed(EARLIER, collection, position, 0);
    (start.clone(), after_all(start))
}

/// Reads where the row of an earlier state points.
pub(in crate::store::embedded) fn read_earlier(row: &[u8]) -> Result<Place, StoreError> {
    let read = || {
        let mut reader = Reader::new(row);
        reader.take(3 + 8)?;
        let (commit, run, number) = (reader.u64()?, reader.u64()?, reader.u64()?);
        reader.end()?;
        Ok((RunId(run), commit, number))
    };
    read().map_err(|error| broken("a row of an earlier state", error))
}

/// Reads where the row of packed entries lies.
pub(in crate::store::embedded) fn read_place(row: &[u8]) -> Result<Place, StoreError> {
    let read = || {
        let mut reader = Reader::new(row);
        reader.take(1)?;
        let place = (RunId(reader.u64()?), !reader.u64()?, !reader.u64()?);
        reader.end()?;
        Ok(place)
    };
    read().map_err(|error| broken("a row of journal entries", error))
}

/// A value with its checksum before it.
pub(in crate::store::embedded) fn sealed(row: &[u8], value: &[u8]) -> Vec<u8> {
    [checksum(row, value).as_slice(), value].concat()
}

fn unsealed<'v>(row: &[u8], value: &'v [u8]) -> Result<&'v [u8], DecodeError> {
    let (sum, value) = value.split_at_checked(CHECKSUM_BYTES).ok_or(DecodeError::Truncated)?;
    if sum == checksum(row, value) { Ok(value) } else { Err(DecodeError::Malformed("checksum")) }
}

/// Reads the row of a run.
pub(in crate::store::embedded) fn read_run(row: &[u8], value: &[u8]) -> Result<(RunId, Run), StoreError> {
    let read = || {
        let mut reader = Reader::new(row);
        reader.take(1)?;
        let id = RunId(reader.u64()?);
        reader.end()?;
        Ok((id, Run::decode(unsealed(row, value)?)?))
    };
    read().map_err(|error| broken("the row of a run", error))
}

/// Reads packed entries, in the order in which they were made.
pub(in crate::store::embedded) fn read_packed(row: &[u8], value: &[u8]) -> Result<Vec<Changed>, StoreError> {
    let read = || {
        let mut reader = Reader::new(unsealed(row, value)?);
        let mut entries = Vec::new();
        while !reader.rest().is_empty() {
            entries.push(Changed::decode(&mut reader)?);
        }
        Ok(entries)
    };
    read().map_err(|error| {
        let (run, commit, _) = read_place(row).unwrap_or((RunId(0), 0, 0));
        broken(&format!("a row of journal entries (run {run}, commit {commit})"), error)
    })
}

fn numbered(tag: u8, numbers: &[u64]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + 8 * numbers.len());
    row.push(tag);
    numbers.iter().for_each(|number| row.extend_from_slice(&number.to_be_bytes()));
    row
}

fn broken(what: &str, error: DecodeError) -> StoreError {
    StoreError::damaged(format!("{what} does not decode: {error}"))
}
