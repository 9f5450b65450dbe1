//! By what encoding of rows an index was made: one that this release has outgrown is of no worth, and is made anew by the next
//! reading of its table, which says so.

use reknit_core::journal::RunId;
use reknit_core::row::ENCODING;

use super::{Linked, Zone};
use crate::store::StoreError;

/// The name of the fact: the version of the encoding, then of which release of the zones' database instants are, if any are.
const FACT: &str = "encoding";
/// The name of the fact that says up to which run the journal is of an encoding that is outgrown.
const RUNS: &str = "outgrown-runs";
/// The encoding of indexes that do not say.
const FIRST: u8 = 1;

impl Linked {
    /// Why the digests of the index tell nothing of rows as they are encoded now, if they do not.
    ///
    /// # Errors
    /// What the index met.
    pub fn outgrown(&self) -> Result<Option<String>, StoreError> {
        let fact = self.index().fact(FACT)?.unwrap_or_else(|| vec![FIRST]);
        let (version, zones) = parts(&fact);
        let now = self.encoding();
        Ok(match () {
            () if fact == now || self.rows() == 0 => None,
            () if version != ENCODING => Some(format!(
                "its index was made by version {version} of the encoding of rows, this release has version {ENCODING}"
            )),
            () => Some(format!(
                "its index was made by the time zones of {}, this release has those of {}",
                String::from_utf8_lossy(zones),
                Zone::database()
            )),
        })
    }

    /// Lets go of what is known by an encoding that is outgrown: how the feed stands, and when the table was equal to others.
    pub(super) fn give_up(&self, why: &str) -> Result<(), StoreError> {
        if let (true, Some((RunId(last), _))) = (self.is_of_another_version()?, self.index().runs().last()) {
            self.index().set_fact(RUNS, Some(last.to_be_bytes().to_vec()))?;
        }
        self.index().drop_bases()?;
        self.mark_stale(why)
    }

    /// Whether a run of its journal tells by this release's encoding what it left: by another it is not known any more whether a
    /// row is as the run left it.
    ///
    /// # Errors
    /// What the index met.
    pub fn tells_what_it_left(&self, RunId(run): RunId) -> Result<bool, StoreError> {
        let last = self.index().fact(RUNS)?.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        Ok(!self.is_of_another_version()? && last.is_none_or(|last| run > last))
    }

    fn is_of_another_version(&self) -> Result<bool, StoreError> {
        let fact = self.index().fact(FACT)?.unwrap_or_else(|| vec![FIRST]);
        Ok(parts(&fact).0 != ENCODING)
    }

    /// All rows were read, and the index is of this release's encoding.
    pub(super) fn note_encoding(&self) -> Result<(), StoreError> {
        let now = self.encoding();
        if self.index().fact(FACT)?.as_ref() == Some(&now) { Ok(()) } else { self.index().set_fact(FACT, Some(now)) }
    }

    pub(super) fn encoding(&self) -> Vec<u8> {
        let zoned = (0..self.shape().columns().len()).any(|place| self.shape().zone(place).is_some());
        let zones = if zoned { Zone::database() } else { "" };
        [&[ENCODING], zones.as_bytes()].concat()
    }
}

/// The version of the encoding, and the release of the zones' database.
fn parts(fact: &[u8]) -> (u8, &[u8]) {
    fact.split_first().map_or((FIRST, &[][..]), |(version, zones)| (*version, zones))
}
