//! The tree: a canonical 16-ary trie over positions, digested with ordered, keyed BLAKE3.
//!
//! Shape and digests depend on the set of entries alone, never on its history. A range of at most
//! [`LEAF_ENTRIES_MAX`] entries, or of one position, is a leaf; any other is an inner node of sixteen.
//! Where nodes and entries are kept is left to a store, which answers through [`Nodes`].

mod rest;
mod update;

pub use rest::rest;
pub use update::{Change, Nodes, Update, UpdateError, update};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::bounds::COUNT_MAX;
use crate::canonical::put_bytes;
use crate::digest::{Digest, Keys, keyed};
use crate::entry::Entry;
use crate::planted::{Bug, planted};
use crate::range::{DEPTH_MAX, Range};

/// Entries that a leaf may hold. A format constant: the shape of every tree depends on it.
pub const LEAF_ENTRIES_MAX: usize = 32;

/// Depth, prefix and count of a range, with which what its digest covers begins.
const HEADER_BYTES: usize = 17;
/// What it covers of an entry or a child: a number and a digest.
const PART_BYTES: usize = 40;

/// What a range is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Summary {
    /// Entries in the range, exactly; at most [`COUNT_MAX`] where a peer tells it.
    #[serde(deserialize_with = "count")]
    pub count: u64,
    /// The ordered digest of them; [`Digest::ZERO`] if there are none.
    pub digest: Digest,
}

impl Summary {
    /// Of a range without entries.
    pub const EMPTY: Summary = Summary { count: 0, digest: Digest::ZERO };

    /// Whether the range has no entries.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

fn count<'de, D: Deserializer<'de>>(told: D) -> Result<u64, D::Error> {
    let count = u64::deserialize(told)?;
    if count <= COUNT_MAX { Ok(count) } else { Err(de::Error::custom("more entries than a range may be said to hold")) }
}

impl Default for Summary {
    fn default() -> Self {
        Summary::EMPTY
    }
}

/// Whether a range of this depth with so many entries is a leaf.
pub fn is_leaf(range: Range, count: u64) -> bool {
    count <= LEAF_ENTRIES_MAX as u64 || range.depth() == DEPTH_MAX
}

impl Keys {
    /// The summary of a leaf; `entries` are all of the range, sorted.
    pub fn leaf(&self, range: Range, entries: &[Entry]) -> Summary {
        if entries.is_empty() {
            return Summary::EMPTY;
        }
        let mut preimage = vec![0; HEADER_BYTES + PART_BYTES * entries.len()];
        let count = entries.len() as u64;
        put_node(&mut preimage, range, count, entries.iter().map(|entry| (entry.position.0, entry.digest)));
        if planted(Bug::XorLeaves) {
            let xor = |all: Digest, one: &Entry| Digest(std::array::from_fn(|i| all.0[i] ^ one.digest.0[i]));
            return Summary { count, digest: entries.iter().fold(Digest::ZERO, xor) };
        }
        Summary { count, digest: keyed(&self.leaf, &preimage) }
    }

    /// The summary of an inner node from its sixteen children.
    pub fn inner(&self, range: Range, children: &[Summary; 16]) -> Summary {
        let mut preimage = [0; HEADER_BYTES + PART_BYTES * 16];
        let count = children.iter().map(|child| child.count).sum();
        put_node(&mut preimage, range, count, children.iter().map(|child| (child.count, child.digest)));
        let told = if planted(Bug::LastChildDropped) { preimage.len() - PART_BYTES } else { preimage.len() };
        Summary { count, digest: keyed(&self.inner, &preimage[..told]) }
    }

    /// The root of a dataset from the roots of its collections, each with its name.
    pub fn root(&self, collections: &[(&str, Summary)]) -> Summary {
        let mut preimage = Vec::with_capacity(64 * collections.len());
        let count = collections.iter().map(|(_, root)| root.count).sum();
        for (name, root) in collections {
            put_bytes(&mut preimage, name.as_bytes());
            preimage.extend_from_slice(&root.count.to_be_bytes());
            preimage.extend_from_slice(&root.digest.0);
        }
        Summary { count, digest: keyed(&self.root, &preimage) }
    }

    /// The summary of any range from all of its entries, sorted; tells `emit` of every non-empty
    /// range below it that is a child of an inner node.
    pub fn build(&self, range: Range, entries: &[Entry], emit: &mut impl FnMut(Range, Summary)) -> Summary {
        if is_leaf(range, entries.len() as u64) {
            return self.leaf(range, entries);
        }
        let mut children = [Summary::EMPTY; 16];
        let mut rest = entries;
        for (digit, child) in children.iter_mut().enumerate() {
            let part = range.child(digit as u8);
            let (mine, others) = rest.split_at(rest.partition_point(|entry| part.contains(entry.position)));
            rest = others;
            if !mine.is_empty() {
                *child = self.build(part, mine, emit);
                emit(part, *child);
            }
        }
        self.inner(range, &children)
    }
}

/// Fills in what a node's digest covers: the range, how many entries it has, and each part of it, an entry or a child.
fn put_node(out: &mut [u8], range: Range, count: u64, parts: impl Iterator<Item = (u64, Digest)>) {
    let (header, rest) = out.split_at_mut(HEADER_BYTES);
    header[0] = range.depth();
    header[1..9].copy_from_slice(&range.bits().to_be_bytes());
    header[9..].copy_from_slice(&count.to_be_bytes());
    for (out, (number, digest)) in rest.as_chunks_mut::<PART_BYTES>().0.iter_mut().zip(parts) {
        out[..8].copy_from_slice(&number.to_be_bytes());
        out[8..].copy_from_slice(&digest.0);
    }
}

#[cfg(test)]
mod tests;
