//! The members of a dataset: records of a reserved collection, so that they travel as records do.
//!
//! A member is a peer for whose copy of the dataset tombstones wait before they are collected. Who may write members is a
//! right of sessions ([`crate::message::Rights::OPERATE`]); what waits for them is elsewhere.

use serde::{Deserialize, Serialize};

use crate::bounds::NAME_BYTES_MAX;
use crate::canonical::DecodeError;
use crate::receipt::{PeerKey, Receipt};
use crate::stamp::Millis;

/// The name of the collection; no other may begin with a dot.
pub const MEMBERS: &str = ".members";
/// How long a member that nobody hears of is waited for, unless it says otherwise: 90 days.
pub const LEASE_MILLIS: Millis = 90 * 24 * 3600 * 1000;

const FORMAT: u8 = 1;
const KIND: u8 = b'm';
const RECEIPT: u8 = b'r';
/// Receipts of two peers that are handed on to third ones: the newest, and the one before, so that one can follow another's.
pub const FORWARDED: u8 = 2;

/// A member as its record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// A name for people.
    pub name: String,
    /// When it became one.
    pub since: Millis,
    /// How long it is waited for after it was heard of last.
    pub lease: Millis,
}

impl Member {
    /// The key of a peer's record.
    pub fn key(peer: &PeerKey) -> Vec<u8> {
        [&[KIND], peer.as_slice()].concat()
    }

    /// Whose record a key is.
    pub fn peer(key: &[u8]) -> Option<PeerKey> {
        let (kind, peer) = key.split_first()?;
        if *kind == KIND { peer.try_into().ok() } else { None }
    }

    /// The content of its record: a format version, then MessagePack.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        // A string and two numbers cannot fail to serialise into memory.
        rmp_serde::encode::write(&mut out, self).expect("a member is plain data");
        out
    }

    /// Reads a record's content.
    ///
    /// # Errors
    /// [`DecodeError`] for what is no member of this release.
    pub fn decode(bytes: &[u8]) -> Result<Member, DecodeError> {
        let (format, body) = bytes.split_first().ok_or(DecodeError::Truncated)?;
        if *format != FORMAT {
            return Err(DecodeError::Version(*format));
        }
        let member: Member = rmp_serde::from_slice(body).map_err(|_| DecodeError::Malformed("member"))?;
        if member.name.len() > NAME_BYTES_MAX {
            let (found, limit) = (member.name.len() as u64, NAME_BYTES_MAX as u64);
            return Err(DecodeError::Bound { what: "bytes of a member's name", found, limit });
        }
        if member.encode() == bytes { Ok(member) } else { Err(DecodeError::Malformed("member")) }
    }
}

/// The key of a receipt that is handed on: of who opened, who answered, and which of [`FORWARDED`] it is.
pub fn receipt_key(receipt: &Receipt, nth: u8) -> Vec<u8> {
    [&[RECEIPT], receipt.opener.peer.as_slice(), &receipt.responder.peer, &[nth]].concat()
}

/// Whether a key is that of a receipt which is handed on.
pub fn is_receipt_key(key: &[u8]) -> bool {
    key.len() == 66 && key[0] == RECEIPT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_comes_back_and_nothing_else_is_one() {
        let member = Member { name: "berlin".into(), since: 1_700_000_000_000, lease: LEASE_MILLIS };
        let bytes = member.encode();
        assert_eq!(Member::decode(&bytes), Ok(member));
        assert_eq!(Member::peer(&Member::key(&[7; 32])), Some([7; 32]));
        assert!(!is_receipt_key(&Member::key(&[7; 32])));
        assert_eq!((Member::peer(b"m short"), Member::peer(&[b'x'; 33]), Member::peer(b"")), (None, None, None));
        for at in 0..bytes.len() {
            assert!(Member::decode(&bytes[..at]).is_err());
        }
        let long = Member { name: "x".repeat(NAME_BYTES_MAX + 1), since: 0, lease: 0 };
        assert!(matches!(Member::decode(&long.encode()), Err(DecodeError::Bound { .. })));
    }
}
