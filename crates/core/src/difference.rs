//! Differences: one key that differs between two sides, classified, and which side's record wins.
//!
//! Judged from items alone, without content. What is done about it is the sessions' concern.

use serde::{Deserialize, Serialize};

use crate::dataset::{CollectionId, Profile};
use crate::digest::Digest;
use crate::query::{Item, VersionInfo};
use crate::range::Position;

/// Which side is meant, seen from the opener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// The opener's.
    Mine,
    /// The responder's.
    Theirs,
}

/// How a key differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Only this side has a record of the key.
    Only(Side),
    /// This side's version had seen the other's.
    Newer(Side),
    /// Neither had seen the other; `newest` picks this side's.
    Concurrent(Side),
    /// The same content under different versions; this side's is the newest.
    Versions(Side),
    /// Different content, and nothing that tells which is newer.
    Content,
}

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// In which collection.
    pub collection: CollectionId,
    /// Where the key lies.
    pub position: Position,
    /// The key.
    #[serde(with = "crate::canonical::blob")]
    pub key: Vec<u8>,
    /// How it differs.
    pub kind: Kind,
    /// The opener's newest version.
    pub mine: Option<VersionInfo>,
    /// The responder's newest version.
    pub theirs: Option<VersionInfo>,
    /// Both sides stood still across the settle window. If not, it was or may have been in flight.
    pub stable: bool,
}

/// Judges two items of one key; nothing if they do not differ.
///
/// Digests may have been cut on their way; a cut digest equals a whole one that begins with it.
pub fn judge(profile: Profile, mine: Option<&Item>, theirs: Option<&Item>) -> Option<Kind> {
    let entry = |item: Option<&Item>| item.and_then(|item| item.digest).map(|digest| digest.short());
    if entry(mine) == entry(theirs) {
        return None;
    }
    let (mine, theirs) = match (mine, theirs) {
        (Some(mine), Some(theirs)) if entry(Some(mine)).is_some() && entry(Some(theirs)).is_some() => (mine, theirs),
        (Some(mine), _) if mine.digest.is_some() => return Some(Kind::Only(Side::Mine)),
        _ => return Some(Kind::Only(Side::Theirs)),
    };
    let (a, b) = (mine.versions.first()?, theirs.versions.first()?);
    if profile == Profile::Content {
        return Some(Kind::Content);
    }
    let rank = |info: &VersionInfo| (info.version.stamp, info.version.actor);
    let cut = |info: &VersionInfo| (info.content.as_ref().map(Digest::short), info.expires);
    let winner = match (rank(a), cut(a)).cmp(&(rank(b), cut(b))) {
        std::cmp::Ordering::Greater => Side::Mine,
        std::cmp::Ordering::Less => Side::Theirs,
        // The same to eight bytes of digest, and yet different.
        std::cmp::Ordering::Equal => return Some(Kind::Content),
    };
    if cut(a) == cut(b) {
        return Some(Kind::Versions(winner));
    }
    let (newer, older) = if winner == Side::Mine { (a, b) } else { (b, a) };
    let seen = rank(a) != rank(b) && newer.version.has_seen(&older.version);
    Some(if seen { Kind::Newer(winner) } else { Kind::Concurrent(winner) })
}
