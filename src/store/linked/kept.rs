//! What is kept of a scan that ended early, so that another goes on where it was: only where slices are read and a feed tells of
//! all that has changed since before the first of them. Whatever is doubtful about that begins the scan anew.

use std::path::PathBuf;

use reknit_core::canonical::{DecodeError, Reader, put_bytes, put_varint};

use super::{FeedKind, FeedMark, FeedState, Linked, Standing};
use crate::store::StoreError;
use crate::store::embedded::SortedUpto;

/// The fact of an index that tells of it, and the directory beside its rows with what was sorted.
const FACT: &str = "scan";
const DIR: &str = "scan";
const FORMAT: u8 = 1;
/// Bytes of any part, and files of what was sorted.
const PART_MAX: usize = 1 << 20;
const RUNS_MAX: u64 = 1 << 16;

/// A scan that another may go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptScan {
    kind: FeedKind,
    max_lag: u64,
    /// How far the feed was read when the scan began: nowhere, since it was just told to begin.
    pub(super) mark: FeedMark,
    /// What was read of the table.
    pub(super) sorted: SortedUpto,
}

impl KeptScan {
    /// One of which nothing was read yet.
    pub(super) fn new(state: &FeedState, mark: FeedMark) -> KeptScan {
        KeptScan { kind: state.kind, max_lag: state.max_lag, mark, sorted: SortedUpto::default() }
    }
}

impl Linked {
    /// Whether a scan goes on for which such a feed was installed, so that it must stay.
    ///
    /// # Errors
    /// What the index met, or [`StoreError::Database`].
    pub fn goes_on(&self, kind: FeedKind, max_lag: u64) -> Result<bool, StoreError> {
        let Some(state) = self.feed_state()?.filter(|state| state.kind == kind && state.max_lag == max_lag) else {
            return Ok(false);
        };
        Ok(self.kept_scan(&state)?.is_some())
    }

    pub(super) fn kept_dir(&self) -> PathBuf {
        self.index().dir().join(DIR)
    }

    /// The scan to go on with: of this feed, by this encoding, of a table that is the same and has not gone back.
    pub(super) fn kept_scan(&self, state: &FeedState) -> Result<Option<KeptScan>, StoreError> {
        let Some(bytes) = self.index().fact(FACT)? else { return Ok(None) };
        let damaged = |error: DecodeError| StoreError::damaged(format!("what is kept of a scan: {error}"));
        let (kept, encoding, standing) = decode(&bytes).map_err(damaged)?;
        let now = self.table().standing()?;
        let same = standing.identity == now.identity && standing.at <= now.at && encoding == self.encoding();
        let dir = self.kept_dir();
        let there = kept.sorted.runs.iter().all(|nth| dir.join(format!("run-{nth}")).is_file());
        let fits = kept.kind == state.kind && kept.max_lag == state.max_lag && state.stale.is_some();
        Ok(Some(kept).filter(|_| same && there && fits))
    }

    /// Notes what was read.
    pub(super) fn keep_scan(&self, kept: Option<&KeptScan>, sorted: &SortedUpto) -> Result<(), StoreError> {
        let Some(kept) = kept else { return Ok(()) };
        let kept = KeptScan { sorted: sorted.clone(), ..kept.clone() };
        self.index().set_fact(FACT, Some(encode(&kept, &self.encoding(), &self.table().standing()?)))
    }

    /// Nobody is to go on with what was read.
    pub(super) fn forget_scan(&self) -> Result<(), StoreError> {
        if self.index().fact(FACT)?.is_some() {
            self.index().set_fact(FACT, None)?;
        }
        let dir = self.kept_dir();
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::file(&dir, error)),
            _ => Ok(()),
        }
    }
}

fn encode(kept: &KeptScan, encoding: &[u8], standing: &Standing) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    let KeptScan { kind, max_lag, mark, sorted } = kept;
    let texts = [kind.name(), &mark.nonce, mark.next.as_deref().unwrap_or_default(), &mark.layout, &standing.identity];
    texts.iter().for_each(|text| put_bytes(&mut bytes, text.as_bytes()));
    put_bytes(&mut bytes, encoding);
    put_bytes(&mut bytes, &sorted.upto);
    for number in [*max_lag, mark.position, mark.told, standing.at, sorted.read, sorted.runs.len() as u64] {
        put_varint(&mut bytes, number);
    }
    sorted.runs.iter().for_each(|nth| put_varint(&mut bytes, *nth));
    bytes
}

/// The kept scan, by which encoding it was, and where the table stood.
fn decode(bytes: &[u8]) -> Result<(KeptScan, Vec<u8>, Standing), DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        FORMAT => {}
        other => return Err(DecodeError::Version(other)),
    }
    let mut text = || {
        let bytes = reader.bytes("bytes of a kept scan", PART_MAX)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Malformed("text of a kept scan"))
    };
    let (kind, nonce, next, layout, identity) = (text()?, text()?, text()?, text()?, text()?);
    let kind = [FeedKind::Triggers, FeedKind::Slot].into_iter().find(|known| known.name() == kind);
    let kind = kind.ok_or(DecodeError::Malformed("kind of a feed"))?;
    let encoding = reader.bytes("bytes of an encoding", PART_MAX)?.to_vec();
    let upto = reader.bytes("bytes of a place", PART_MAX)?.to_vec();
    let mut number = || reader.varint("number of a kept scan", u64::MAX);
    let (max_lag, position, told, at, read) = (number()?, number()?, number()?, number()?, number()?);
    let count = reader.varint("files of a kept scan", RUNS_MAX)?;
    let runs = (0..count).map(|_| reader.varint("number of a file", u64::MAX)).collect::<Result<_, _>>()?;
    reader.end()?;
    let mark = FeedMark { nonce, next: Some(next).filter(|next| !next.is_empty()), position, told, layout };
    let sorted = SortedUpto { runs, read, upto };
    Ok((KeptScan { kind, max_lag, mark, sorted }, encoding, Standing { identity, at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_these_bytes() {
        let mark = FeedMark { nonce: "n".into(), next: Some("x".into()), position: 2, told: 3, layout: "l".into() };
        let sorted = SortedUpto { runs: vec![4, 9], read: 300, upto: b"u".to_vec() };
        let kept = KeptScan { kind: FeedKind::Slot, max_lag: 1, mark, sorted };
        let standing = Standing { identity: "i".into(), at: 5 };
        let bytes = encode(&kept, &[7], &standing);
        let texts = [&[1, 4][..], b"slot", &[1, b'n', 1, b'x', 1, b'l', 1, b'i', 1, 7, 1, b'u']].concat();
        assert_eq!(bytes, [&texts[..], &[1, 2, 3, 5, 0xac, 2, 2, 4, 9]].concat());
        assert_eq!(decode(&bytes), Ok((kept, vec![7], standing)));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err());
        }
    }
}
