//! Entries: what the tree keeps of a record, its position and its digest.
//!
//! The preimages here are format: golden vectors in `tests/vectors` pin every byte (see `docs/formats.md`).

use crate::canonical::{put_bytes, put_varint};
use crate::dataset::Profile;
use crate::digest::{Digest, Keys, keyed};
use crate::planted::{Bug, planted};
use crate::range::Position;
use crate::record::{Content, Record, put_flags};

const ENTRY_FORMAT: u8 = 1;
const PROFILE_VERSIONED: u8 = 0;
const PROFILE_CONTENT: u8 = 1;

/// One record as the tree knows it. Ordered by position, then digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Where its key lies.
    pub position: Position,
    /// What it is worth.
    pub digest: Digest,
}

impl Keys {
    /// The position of a key: the first 64 bits of its keyed placement hash.
    pub fn position(&self, collection: &str, key: &[u8]) -> Position {
        let mut preimage = Vec::with_capacity(collection.len() + key.len() + 4);
        put_bytes(&mut preimage, collection.as_bytes());
        preimage.extend_from_slice(key);
        self.place(&preimage)
    }

    /// The digest of a value; of a bare record the value itself.
    pub fn content(&self, value: &[u8]) -> Digest {
        match value.try_into() {
            Ok(digest) if self.bare => Digest(digest),
            _ => keyed(&self.content, value),
        }
    }

    /// The digest of a record; none in the content profile for a record that is not live.
    pub fn entry(&self, profile: Profile, collection: &str, record: &Record) -> Option<Digest> {
        let mut preimage = Vec::with_capacity(collection.len() + record.key.len() + 96);
        preimage.push(ENTRY_FORMAT);
        preimage.push(if profile == Profile::Versioned { PROFILE_VERSIONED } else { PROFILE_CONTENT });
        put_bytes(&mut preimage, collection.as_bytes());
        put_bytes(&mut preimage, &record.key);
        match profile {
            _ if planted(Bug::KeyOnlyDigest) => {}
            Profile::Versioned => {
                put_varint(&mut preimage, record.state.versions().len() as u64);
                for sibling in record.state.versions() {
                    sibling.version.encode(&mut preimage);
                    put_flags(&mut preimage, sibling);
                    if let Content::Live(value) = &sibling.content {
                        preimage.extend_from_slice(&self.content(value).0);
                    }
                }
            }
            Profile::Content => preimage.extend_from_slice(&self.content(record.state.value()?).0),
        }
        Some(keyed(&self.entry, &preimage))
    }
}
