//! What is kept of the peers that were met, as bytes: so that a node which begins again still knows who was equal, and when.
//!
//! When it is kept, and where, is left to others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Standing;
use crate::canonical::Blob;
use crate::sealed::{KeptError, seal, unseal};
use crate::stamp::Millis;

/// What the bytes begin with; the last byte is the version.
const MAGIC: &[u8; 8] = b"reknitM\x01";

/// What is kept of a peer, by the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquaintance {
    /// When a session with it first ended, however it did.
    pub first: Millis,
    /// When a session with it last had a verdict.
    pub checked: Option<Millis>,
    /// When both sides were last equal.
    pub equal: Option<Millis>,
    /// Since when they are known to differ without having been equal in between.
    pub since: Option<Millis>,
    /// Differences that the last session left.
    pub left: u64,
}

impl Acquaintance {
    /// What is worth keeping of what is known of a peer; nothing of one with whom no session has ended.
    pub fn of(standing: &Standing) -> Option<Acquaintance> {
        let Standing { first, checked, equal, since, left, .. } = *standing;
        Some(Acquaintance { first: first?, checked, equal, since, left })
    }

    /// What is known of that peer at a beginning: it is not up, and nothing in it is later than now, as where a clock was set back
    /// meanwhile.
    pub(super) fn standing(self, now: Millis) -> Standing {
        let past = |at: Option<Millis>| at.map(|at| at.min(now));
        Standing {
            first: Some(self.first.min(now)),
            checked: past(self.checked),
            equal: past(self.equal),
            since: past(self.since),
            differs: self.since.is_some(),
            left: self.left,
            ..Standing::default()
        }
    }
}

/// The peers that were met, by their public keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acquaintances(pub BTreeMap<[u8; 32], Acquaintance>);

impl Acquaintances {
    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let all: BTreeMap<Blob, &Acquaintance> = self.0.iter().map(|(key, kept)| (Blob(key.to_vec()), kept)).collect();
        // Numbers and options of them are always written.
        seal(MAGIC, &rmp_serde::to_vec_named(&all).expect("they are numbers"))
    }

    /// Reads what [`Acquaintances::to_bytes`] has written.
    ///
    /// # Errors
    /// [`KeptError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Acquaintances, KeptError> {
        let all = rmp_serde::from_slice(unseal(MAGIC, bytes)?);
        let all: BTreeMap<Blob, Acquaintance> = all.map_err(|_| KeptError::Damaged)?;
        let known = |(key, kept): (Blob, Acquaintance)| Ok((key.0.try_into().map_err(|_| KeptError::Damaged)?, kept));
        Ok(Acquaintances(all.into_iter().map(known).collect::<Result<_, _>>()?))
    }
}
