//! Differences: one key that differs between two sides, classified, and which side's record wins.
//!
//! Judged from items alone, without content. What is done about it is the sessions' concern.

use serde::{Deserialize, Serialize};

use crate::brakes::Loss;
use crate::dataset::{CollectionId, Profile};
use crate::digest::Digest;
use crate::query::{Item, VersionInfo};
use crate::range::Position;
use crate::record::{Dot, Keeps};
use crate::stamp::Millis;

/// Which side is meant, seen from the opener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// The opener's.
    Mine,
    /// The responder's.
    Theirs,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Mine => Side::Theirs,
            Side::Theirs => Side::Mine,
        }
    }
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
    /// Different content that whoever asks holds to be no difference; it is left as it is.
    Tolerated,
}

impl Kind {
    /// Whether a mirror writes a new version of the key, which its source gets too: what the mirrored side has would win, or stand
    /// beside the other's. Bare content has no versions.
    pub fn is_renewed(self, mirrored: Side, keeps: Keeps) -> bool {
        match self {
            Kind::Only(side) | Kind::Newer(side) => side == mirrored,
            // Where all versions are kept, neither wins.
            Kind::Concurrent(side) => side == mirrored || keeps == Keeps::All,
            // The same content needs no new version.
            Kind::Versions(_) | Kind::Tolerated => false,
            Kind::Content => true,
        }
    }
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
    /// The entries of the opener and of the responder, by [`Digest::short`].
    pub entries: [Option<u64>; 2],
    /// Where all versions are kept, those that both sides have. They are told to whoever holds the session, and to nobody else.
    #[serde(skip)]
    pub shared: Vec<Dot>,
    /// Both sides stood still across the settle window. If not, it was or may have been in flight.
    pub stable: bool,
}

/// How differences are to be resolved, as far as it is known without looking at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The opener's side may be written.
    pub mine: bool,
    /// The responder's side may be written.
    pub theirs: bool,
    /// The side that becomes exactly the other.
    pub mirror: Option<Side>,
    /// The side whose value wins where both were written apart, under a version that is new to both.
    pub prefer: Option<Side>,
    /// What entries cover.
    pub profile: Profile,
    /// Which versions are kept.
    pub keeps: Keeps,
}

impl Difference {
    /// Which sides resolving it writes, the opener's first; neither where it is left as it is.
    pub fn writes(&self, how: &Resolution) -> (bool, bool) {
        if let Some(mirrored) = how.mirror.filter(|_| self.kind != Kind::Tolerated) {
            return (mirrored == Side::Mine, mirrored == Side::Theirs);
        }
        let both = how.mine && how.theirs;
        match self.kind {
            Kind::Content if how.prefer.is_some() && how.profile == Profile::Content => {
                (how.prefer == Some(Side::Theirs), how.prefer == Some(Side::Mine))
            }
            Kind::Concurrent(_) if how.prefer.is_some() => (true, true),
            Kind::Content if both && how.profile == Profile::Content => (false, false),
            Kind::Tolerated => (false, false),
            Kind::Content => (how.mine, how.theirs),
            Kind::Concurrent(_) if how.keeps == Keeps::All => (how.mine, how.theirs),
            Kind::Only(wins) | Kind::Newer(wins) | Kind::Concurrent(wins) | Kind::Versions(wins) => {
                (wins == Side::Theirs && how.mine, wins == Side::Mine && how.theirs)
            }
        }
    }

    /// The same, with the source of a mirror where it gets a new version that leaves its content as it is.
    pub fn writes_in_all(&self, how: &Resolution) -> (bool, bool) {
        let (mine, theirs) = self.writes(how);
        let mirrored = how.mirror.filter(|_| how.profile == Profile::Versioned);
        match mirrored.filter(|mirrored| self.kind.is_renewed(*mirrored, how.keeps)) {
            Some(_) => (true, true),
            None => (mine, theirs),
        }
    }

    /// What resolving it loses a side.
    pub fn loss(&self, side: Side, how: &Resolution) -> Option<Loss> {
        let (mine, theirs) = self.writes(how);
        let content = |entry: Option<u64>, info: &Option<VersionInfo>| {
            entry.and(info.as_ref()).and_then(|info| info.content).map(|digest| digest.short())
        };
        let here = content(self.entries[0], &self.mine);
        let there = content(self.entries[1], &self.theirs);
        match (side, self.kind) {
            // Only bare content has no order; where versions have none, each side joins those of the other.
            (_, Kind::Versions(_)) => None,
            // Of a set of versions, a side loses what it shows only if the other's newest leads, or is preferred.
            (side, Kind::Concurrent(leads)) if how.mirror.is_none() && how.prefer.unwrap_or(leads) == side => None,
            (Side::Mine, _) => Loss::between(here, there).filter(|_| mine),
            (Side::Theirs, _) => Loss::between(there, here).filter(|_| theirs),
        }
    }
}

/// What two sides know of one key that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// How it differs.
    pub kind: Kind,
    /// Whether the opener lacks something that the responder has.
    pub mine_lacks: bool,
    /// Whether the responder lacks something that the opener has.
    pub theirs_lacks: bool,
}

impl Judged {
    /// Only one side has something that the other lacks.
    fn one(kind: Kind, wins: Side) -> Judged {
        Judged { kind, mine_lacks: wins == Side::Theirs, theirs_lacks: wins == Side::Mine }
    }

    fn both(kind: Kind) -> Judged {
        Judged { kind, mine_lacks: true, theirs_lacks: true }
    }
}

/// Judges two items of one key; nothing if they do not differ.
///
/// Digests may have been cut on their way; a cut digest equals a whole one that begins with it.
pub fn judge(profile: Profile, keeps: Keeps, mine: Option<&Item>, theirs: Option<&Item>) -> Option<Judged> {
    let entry = |item: Option<&Item>| item.and_then(|item| item.digest).map(|digest| digest.short());
    if entry(mine) == entry(theirs) {
        return None;
    }
    let (mine, theirs) = match (mine, theirs) {
        (Some(mine), Some(theirs)) if entry(Some(mine)).is_some() && entry(Some(theirs)).is_some() => (mine, theirs),
        (Some(mine), _) if mine.digest.is_some() => return Some(Judged::one(Kind::Only(Side::Mine), Side::Mine)),
        _ => return Some(Judged::one(Kind::Only(Side::Theirs), Side::Theirs)),
    };
    if profile == Profile::Content {
        return Some(Judged::both(Kind::Content));
    }
    match keeps {
        Keeps::Newest => judge_newest(mine.versions.first()?, theirs.versions.first()?),
        Keeps::All => judge_all(&mine.versions, &theirs.versions),
    }
}

fn cut(info: &VersionInfo) -> (Option<u64>, Option<Millis>) {
    (info.content.as_ref().map(Digest::short), info.expires)
}

/// The order of newest versions: under one name what has expired comes first.
fn rank(info: &VersionInfo) -> (Dot, bool, (Option<u64>, Option<Millis>)) {
    (info.version.dot(), has_expired(info), cut(info))
}

fn has_expired(info: &VersionInfo) -> bool {
    info.content.is_none() && info.expires.is_some()
}

/// Whether one version is another that has expired.
fn is_expired(version: &VersionInfo, of: &VersionInfo) -> bool {
    has_expired(version) && !has_expired(of) && version.expires == of.expires
}

fn judge_newest(a: &VersionInfo, b: &VersionInfo) -> Option<Judged> {
    let winner = match rank(a).cmp(&rank(b)) {
        std::cmp::Ordering::Greater => Side::Mine,
        std::cmp::Ordering::Less => Side::Theirs,
        // The same to eight bytes of digest, and yet different.
        std::cmp::Ordering::Equal => return Some(Judged::both(Kind::Content)),
    };
    if cut(a) == cut(b) {
        return Some(Judged::one(Kind::Versions(winner), winner));
    }
    let (newer, older) = if winner == Side::Mine { (a, b) } else { (b, a) };
    let seen = match a.version.dot() == b.version.dot() {
        true => is_expired(newer, older),
        false => newer.version.has_seen(&older.version),
    };
    Some(Judged::one(if seen { Kind::Newer(winner) } else { Kind::Concurrent(winner) }, winner))
}

/// Whether one of two versions of one name is the other, or is it once that has expired.
fn is_same(version: &VersionInfo, as_other: &VersionInfo) -> bool {
    cut(version) == cut(as_other) || is_expired(version, as_other)
}

/// The versions of one side that the other lacks, and whether it holds all their contents.
pub fn lacking(of: &[VersionInfo], by: &[VersionInfo]) -> (Vec<Dot>, bool) {
    let lacking = || of.iter().filter(|version| !is_covered(by, version));
    let held = |version: &VersionInfo| by.iter().any(|other| cut(other).0 == cut(version).0);
    (lacking().map(|info| info.version.dot()).collect(), lacking().all(held))
}

/// The versions of one side that another has too, under the same name and with the same content, or expired there.
pub fn shared(of: &[VersionInfo], with: &[VersionInfo]) -> Vec<Dot> {
    let has = |version: &VersionInfo, other: &VersionInfo| {
        other.version.dot() == version.version.dot() && is_same(other, version)
    };
    let both = of.iter().filter(|version| with.iter().any(|other| has(version, other)));
    both.map(|info| info.version.dot()).collect()
}

/// Whether one of these versions is this one, has seen it or is it once it has expired. Whoever writes twice under one dot
/// has not seen the other.
fn is_covered(by: &[VersionInfo], version: &VersionInfo) -> bool {
    by.iter().any(|other| match other.version.dot() == version.version.dot() {
        true => is_same(other, version),
        false => other.version.has_seen(&version.version),
    })
}

fn judge_all(mine: &[VersionInfo], theirs: &[VersionInfo]) -> Option<Judged> {
    let mine_lacks = !theirs.iter().all(|version| is_covered(mine, version));
    let theirs_lacks = !mine.iter().all(|version| is_covered(theirs, version));
    let contents = |versions: &[VersionInfo]| {
        let mut contents: Vec<_> = versions.iter().map(cut).collect();
        contents.sort_unstable();
        contents
    };
    let newest = |versions: &[VersionInfo]| versions.first().map(rank);
    let leads = if newest(mine) >= newest(theirs) { Side::Mine } else { Side::Theirs };
    let kind = match (mine_lacks, theirs_lacks) {
        // Neither lacks a version, and yet they differ: in what those are said to have seen.
        (false, false) => return Some(Judged::both(Kind::Content)),
        _ if contents(mine) == contents(theirs) => Kind::Versions(leads),
        (true, true) => Kind::Concurrent(leads),
        (true, false) => Kind::Newer(Side::Theirs),
        (false, true) => Kind::Newer(Side::Mine),
    };
    Some(Judged { kind, mine_lacks, theirs_lacks })
}
