//! Differences over time: what differed between two sides at some moments, and what became of it between two of them.
//!
//! When somebody looks, and where this is kept, is for whoever keeps it; which keys differ is the session's.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::agenda::OPEN_KEYS_MAX;
use crate::dataset::CollectionId;
use crate::difference::{Difference, Kind};
use crate::sealed::{KeptError, seal, unseal};
use crate::stamp::Millis;

/// Keys of one picture: those whose fingerprints are the least, so that two pictures keep the same ones.
pub const KEYS_MAX: usize = OPEN_KEYS_MAX;
/// A longer key is known by its fingerprint alone.
pub const KEY_BYTES_MAX: usize = 64;
/// Moments of a history; of many that lie close together those long ago go first.
pub const PICTURES_MAX: usize = 64;
/// Keys of all pictures of a history together.
pub const HISTORY_KEYS_MAX: usize = 16 * KEYS_MAX;
/// Bytes of a history; one that is full of everything has half of it.
pub const BYTES_MAX: usize = 32 << 20;
/// What the bytes begin with; the last one is the version.
const MAGIC: &[u8; 8] = b"reknitD\x01";

/// What a key is told from others by: the first bytes of its digest.
pub fn fingerprint(collection: CollectionId, key: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&collection.0.to_be_bytes()).update(key);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// A key that differed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// In which collection.
    pub collection: CollectionId,
    /// The key, if it is short.
    #[serde(with = "crate::canonical::blob")]
    pub key: Vec<u8>,
    /// How it differs; the first side is `Mine`, whoever opened.
    pub kind: Kind,
    /// The entries of both sides.
    pub entries: [Option<u64>; 2],
    /// When it was first seen to differ since the sides were last seen equal in it.
    pub first: Millis,
}

/// What differed at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// When.
    pub at: Millis,
    /// Keys that differed.
    pub total: u64,
    /// Those that are kept, at most [`KEYS_MAX`].
    pub keys: BTreeMap<u64, Seen>,
}

impl Picture {
    /// Nothing differs yet.
    pub fn new(at: Millis) -> Picture {
        Picture { at, total: 0, keys: BTreeMap::new() }
    }

    /// Takes a difference in, once; `swapped` if the second side opened. One within tolerance is no difference.
    pub fn add(&mut self, difference: &Difference, swapped: bool) {
        if difference.kind == Kind::Tolerated {
            return;
        }
        let print = fingerprint(difference.collection, &difference.key);
        let [mine, theirs] = difference.entries;
        let short = difference.key.len() <= KEY_BYTES_MAX;
        let seen = Seen {
            collection: difference.collection,
            key: if short { difference.key.clone() } else { Vec::new() },
            kind: if swapped { turned(difference.kind) } else { difference.kind },
            entries: if swapped { [theirs, mine] } else { [mine, theirs] },
            first: self.at,
        };
        // What is told twice is one key, unless it was dropped in between: the count is then too high, and says so.
        if self.keys.insert(print, seen).is_none() {
            self.total += 1;
        }
        if self.keys.len() > KEYS_MAX {
            self.keys.pop_last();
        }
    }

    /// Whether all keys that differed are kept.
    pub fn is_whole(&self) -> bool {
        self.total == self.keys.len() as u64
    }

    /// The key that has differed for longest, as far as it is known.
    pub fn oldest(&self) -> Option<&Seen> {
        self.keys.values().min_by_key(|seen| seen.first)
    }

    /// Keys up to this fingerprint are kept without a gap.
    fn horizon(&self) -> u64 {
        if self.is_whole() { u64::MAX } else { self.keys.last_key_value().map_or(0, |(print, _)| *print) }
    }

    fn is_valid(&self) -> bool {
        let kept = self.keys.len();
        let small = self.keys.values().all(|seen| seen.key.len() <= KEY_BYTES_MAX);
        kept <= KEYS_MAX && self.total >= kept as u64 && (kept == KEYS_MAX || self.is_whole()) && small
    }
}

fn turned(kind: Kind) -> Kind {
    match kind {
        Kind::Only(side) => Kind::Only(side.other()),
        Kind::Newer(side) => Kind::Newer(side.other()),
        Kind::Concurrent(side) => Kind::Concurrent(side.other()),
        Kind::Versions(side) => Kind::Versions(side.other()),
        Kind::Content | Kind::Tolerated => kind,
    }
}

/// What became of a key between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It differs now, and did not then.
    New,
    /// It differed at both moments.
    Open,
    /// It differed then, and does not now.
    Healed,
}

/// What became of the keys between two moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes<'a> {
    /// Each key that something is known of, by its fingerprint.
    pub keys: BTreeMap<u64, (Change, &'a Seen)>,
    /// Whether that is all of them. If not, there are at least so many of each.
    pub exact: bool,
}

impl<'a> Changes<'a> {
    /// What became of what differed then. Of keys that only one of the pictures could keep nothing is said.
    pub fn between(then: &'a Picture, now: &'a Picture) -> Changes<'a> {
        let mut keys = BTreeMap::new();
        for (print, seen) in &now.keys {
            match then.keys.contains_key(print) {
                true => _ = keys.insert(*print, (Change::Open, seen)),
                false if *print <= then.horizon() => _ = keys.insert(*print, (Change::New, seen)),
                false => {}
            }
        }
        for (print, seen) in &then.keys {
            if !now.keys.contains_key(print) && *print <= now.horizon() {
                keys.insert(*print, (Change::Healed, seen));
            }
        }
        Changes { keys, exact: then.is_whole() && now.is_whole() }
    }

    /// How many keys there are of which this became.
    pub fn count(&self, change: Change) -> u64 {
        self.keys.values().filter(|(became, _)| *became == change).count() as u64
    }
}

/// What two sides are, and how their keys are to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The first side, without a password.
    pub a: String,
    /// The second.
    pub b: String,
    /// What is compared of them: the dataset, or the columns.
    pub compared: String,
    /// The collections that are looked at.
    pub scope: Vec<String>,
    /// The names of all collections.
    pub collections: Vec<String>,
    /// How keys are laid out.
    #[serde(with = "crate::canonical::blob")]
    pub layout: Vec<u8>,
}

impl Pair {
    /// Whether pictures of both can be compared.
    pub fn is(&self, other: &Pair) -> bool {
        self.id() == other.id()
    }

    /// A name for it, of hex digits.
    pub fn id(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in [&self.a, &self.b, &self.compared].into_iter().chain(&self.scope) {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_string()
    }
}

/// What differed between two sides at several moments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The sides.
    pub pair: Pair,
    pictures: VecDeque<Picture>,
}

impl History {
    /// Nothing was seen yet.
    pub fn new(pair: Pair) -> History {
        History { pair, pictures: VecDeque::new() }
    }

    /// What was seen, the oldest first.
    pub fn pictures(&self) -> &VecDeque<Picture> {
        &self.pictures
    }

    /// Takes in what differs now; a key that differed at the last moment too is as old as it was. Whatever lies in the future
    /// of it was seen by a clock that was put back since, and is moved to now.
    pub fn add(&mut self, mut picture: Picture) {
        for earlier in &mut self.pictures {
            earlier.at = earlier.at.min(picture.at);
        }
        if let Some(last) = self.pictures.back() {
            for (print, seen) in &mut picture.keys {
                if let Some(earlier) = last.keys.get(print) {
                    seen.first = earlier.first.min(picture.at);
                }
            }
        }
        self.pictures.push_back(picture);
        while self.pictures.len() > PICTURES_MAX || self.kept() > HISTORY_KEYS_MAX {
            self.thin();
        }
    }

    /// The last moment at or before this one, or else the first that is known; never the newest, which is now.
    pub fn then(&self, at: Millis) -> Option<&Picture> {
        let earlier = self.pictures.len().saturating_sub(1);
        let before = self.pictures.iter().take(earlier).rev().find(|picture| picture.at <= at);
        before.or(self.pictures.front().filter(|_| earlier > 0))
    }

    /// As bytes: what they are, MessagePack, the digest of both.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Numbers, texts and options of them are always written.
        seal(MAGIC, &rmp_serde::to_vec(self).expect("a history is numbers and texts"))
    }

    /// Reads what [`History::to_bytes`] has written.
    ///
    /// # Errors
    /// [`KeptError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<History, KeptError> {
        if bytes.len() > BYTES_MAX {
            return Err(KeptError::Damaged);
        }
        let written = unseal(MAGIC, bytes)?;
        let history: History = rmp_serde::from_slice(written).map_err(|_| KeptError::Damaged)?;
        let bounded = history.pictures.len() <= PICTURES_MAX && history.kept() <= HISTORY_KEYS_MAX;
        let valid = bounded && history.pictures.iter().all(Picture::is_valid);
        let in_order = history.pictures.iter().is_sorted_by_key(|picture| picture.at);
        if valid && in_order { Ok(history) } else { Err(KeptError::Damaged) }
    }

    fn kept(&self) -> usize {
        self.pictures.iter().map(|picture| picture.keys.len()).sum()
    }

    /// Drops one moment of three or more: the one whose gap is then the least for how long ago it is. The first and the last
    /// two stay; where those are too much the first goes.
    fn thin(&mut self) {
        let now = self.pictures.back().map_or(0, |picture| picture.at);
        let gap = |nth: usize| {
            let [before, at, after] = [nth - 1, nth, nth + 1].map(|nth| self.pictures[nth].at);
            // In thousandths, that a whole number tells them apart.
            u128::from(after - before) * 1000 / u128::from(now - at + 1)
        };
        let least = (1..self.pictures.len().saturating_sub(2)).min_by_key(|nth| (gap(*nth), *nth));
        self.pictures.remove(least.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests;
