//! Records: a key and the set of versions that no other version has seen.
//!
//! How a set becomes the one value that readers see is the policies' concern ([`crate::policy`]).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bounds::{KEY_BYTES_MAX, VALUE_BYTES_MAX, VECTOR_MAX, VERSIONS_MAX};
use crate::canonical::{DecodeError, Reader, put_bytes, put_varint};
use crate::digest::{Digest, Keys};
use crate::planted::{Bug, planted};
use crate::stamp::{Millis, Stamp};

const STATE_FORMAT: u8 = 1;
const FLAG_LIVE: u8 = 1;
const FLAG_EXPIRES: u8 = 2;

/// One life of one store: random, drawn anew when a store is created, restored or copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Actor(pub u64);

/// What a writer had seen of each actor: that actor's greatest stamp. Ordered by actor, bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vector(BTreeMap<Actor, Stamp>);

impl Vector {
    /// Raises what was seen of `actor`; beyond [`VECTOR_MAX`] actors the smallest stamps are forgotten.
    pub fn see(&mut self, actor: Actor, stamp: Stamp) {
        let seen = self.0.entry(actor).or_insert(stamp);
        *seen = stamp.max(*seen);
        while self.0.len() > VECTOR_MAX {
            if let Some(oldest) = self.0.iter().map(|(a, s)| (*s, *a)).min() {
                self.0.remove(&oldest.1);
            }
        }
    }

    /// The greatest stamp seen of `actor`.
    pub fn seen(&self, actor: Actor) -> Option<Stamp> {
        self.0.get(&actor).copied()
    }

    /// Raises what was seen of each actor to what either had seen.
    pub fn join(&mut self, other: &Vector) {
        other.iter().for_each(|(actor, stamp)| self.see(actor, stamp));
    }

    /// Whether it may have forgotten actors: then a version that was seen may come back beside the one that saw it.
    pub fn is_full(&self) -> bool {
        self.0.len() >= VECTOR_MAX
    }

    /// What was seen, by actor.
    pub fn iter(&self) -> impl Iterator<Item = (Actor, Stamp)> + '_ {
        self.0.iter().map(|(actor, stamp)| (*actor, *stamp))
    }
}

/// A stamp and an actor: they name one write.
pub type Dot = (Stamp, Actor);

/// Who wrote when, and what that writer had seen of the key. A writer has always seen its own earlier stamps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// When, in hybrid logical time.
    pub stamp: Stamp,
    /// Who.
    pub actor: Actor,
    /// What the writer had seen of other actors.
    pub seen: Vector,
}

impl Version {
    /// The version of a write that replaces `replaced`: it has seen all of them and all that they had seen.
    pub fn after<'a>(stamp: Stamp, actor: Actor, replaced: impl IntoIterator<Item = &'a Version>) -> Version {
        let mut seen = Vector::default();
        for version in replaced {
            let own = (version.actor, version.stamp);
            for (other, stamp) in version.seen.iter().chain([own]) {
                if other != actor {
                    seen.see(other, stamp);
                }
            }
        }
        Version { stamp, actor, seen }
    }

    /// What names this write.
    pub fn dot(&self) -> Dot {
        (self.stamp, self.actor)
    }

    /// Whether this writer had seen `other` (or is it).
    pub fn has_seen(&self, other: &Version) -> bool {
        if self.actor == other.actor || planted(Bug::StampBeforeCausality) {
            return self.stamp >= other.stamp;
        }
        self.seen.seen(other.actor).is_some_and(|stamp| stamp >= other.stamp)
    }

    /// Appends the version's canonical bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stamp.0.to_be_bytes());
        out.extend_from_slice(&self.actor.0.to_be_bytes());
        put_varint(out, self.seen.0.len() as u64);
        for (actor, stamp) in self.seen.iter() {
            out.extend_from_slice(&actor.0.to_be_bytes());
            out.extend_from_slice(&stamp.0.to_be_bytes());
        }
    }

    /// Reads a version; its vector must be strictly ordered and bounded.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the canonical bytes of a version.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
        let stamp = Stamp(reader.u64()?);
        let actor = Actor(reader.u64()?);
        let n = reader.varint("actors of a version vector", VECTOR_MAX as u64)?;
        let mut seen = Vector::default();
        for _ in 0..n {
            let other = Actor(reader.u64()?);
            if seen.0.last_key_value().is_some_and(|(last, _)| *last >= other) {
                return Err(DecodeError::Malformed("version vector"));
            }
            seen.0.insert(other, Stamp(reader.u64()?));
        }
        Ok(Version { stamp, actor, seen })
    }
}

/// What a version says of its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// It was deleted.
    Tombstone,
    /// It has this value.
    Live(Vec<u8>),
}

/// One version of a key with what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// Who wrote it, when, having seen what.
    pub version: Version,
    /// What was written.
    pub content: Content,
    /// When the content stops being visible, if it does.
    pub expires: Option<Millis>,
}

impl Sibling {
    /// What was written; none if it is a tombstone.
    pub fn value(&self) -> Option<&Vec<u8>> {
        match &self.content {
            Content::Live(value) => Some(value),
            Content::Tombstone => None,
        }
    }

    /// Whether it had content that has expired: nobody writes a tombstone that expires.
    pub fn has_expired(&self) -> bool {
        self.content == Content::Tombstone && self.expires.is_some()
    }

    /// From when on everybody may know that it is gone, if it is: when it was deleted, or when it expired if that was later.
    pub fn gone_since(&self) -> Option<Stamp> {
        let expired = self.expires.map(Stamp::at).unwrap_or_default();
        (self.content == Content::Tombstone).then(|| self.version.stamp.max(expired))
    }

    /// The order that siblings stand in: stamp, actor, then what was written, of which what has expired comes first.
    fn rank(&self) -> (Stamp, Actor, bool, &Content, Option<Millis>) {
        (self.version.stamp, self.version.actor, self.has_expired(), &self.content, self.expires)
    }

    /// The order that `newest` picks by: stamp, actor, whether it has expired, the digest of what was written, then when it
    /// expires.
    fn newest_rank(&self, keys: &Keys) -> (Stamp, Actor, bool, Option<Digest>, Option<Millis>) {
        let content = match &self.content {
            Content::Live(value) => Some(keys.content(value)),
            Content::Tombstone => None,
        };
        (self.version.stamp, self.version.actor, self.has_expired(), content, self.expires)
    }
}

/// What replicas keep of concurrent versions of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// The newest only, of the greatest stamp, actor and content digest. Others are lost when they meet it.
    Newest,
    /// All, until a write that has seen them replaces them.
    All,
}

/// The state of one key: never empty, newest version first, one canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State(Vec<Sibling>);

impl State {
    /// The state that one version makes.
    pub fn single(sibling: Sibling) -> State {
        State(vec![sibling])
    }

    /// Its versions, newest first.
    pub fn versions(&self) -> &[Sibling] {
        &self.0
    }

    /// The newest version.
    pub fn winner(&self) -> &Sibling {
        &self.0[0]
    }

    /// The value that readers see, whether or not it has expired.
    pub fn value(&self) -> Option<&[u8]> {
        match &self.winner().content {
            Content::Live(value) => Some(value),
            Content::Tombstone => None,
        }
    }

    /// Whether the newest version has content.
    pub fn is_live(&self) -> bool {
        matches!(self.winner().content, Content::Live(_))
    }

    /// The versions of these names alone; nothing if there is none of them.
    pub fn only(&self, dots: &[Dot]) -> Option<State> {
        let named: Vec<Sibling> = self.0.iter().filter(|s| dots.contains(&s.version.dot())).cloned().collect();
        if named.is_empty() { None } else { Some(State(named)) }
    }

    /// Whether it holds as many versions as a state may: older ones may have been left out.
    pub fn is_full(&self) -> bool {
        self.0.len() >= VERSIONS_MAX
    }

    /// What the state is worth once it is known that `old` began another life after a stamp: versions that it wrote since
    /// are those of `new`, which has seen what `old` wrote until then and nothing that was lost. None if there are no such.
    pub fn reattributed(&self, old: Actor, after: Stamp, new: Actor) -> Option<State> {
        let mut versions = self.0.clone();
        let mut any = false;
        for Sibling { version, .. } in &mut versions {
            if version.actor == old && version.stamp > after {
                version.actor = new;
                version.seen.see(old, after);
                any = true;
            }
        }
        any.then(|| State::of(versions))
    }

    /// When the first of its versions that still have content expires, if one does.
    pub fn expires_first(&self) -> Option<Millis> {
        self.0
            .iter()
            .filter(|sibling| sibling.content != Content::Tombstone)
            .filter_map(|sibling| sibling.expires)
            .min()
    }

    /// What is left once all content that expires up to this time has expired; nothing if none does. The versions stay as
    /// they are, so that all who let them expire have the same.
    pub fn expired(&self, watermark: Millis) -> Option<State> {
        self.expires_first().filter(|first| *first <= watermark)?;
        let mut versions = self.0.clone();
        for sibling in &mut versions {
            if sibling.expires.is_some_and(|expires| expires <= watermark) {
                sibling.content = Content::Tombstone;
            }
        }
        Some(State::of(versions))
    }

    /// Joins what two replicas know of a key. Commutative, idempotent and, while no state and no vector is full,
    /// associative; replicas that join each other's states hold the same whatever is full.
    ///
    /// [`Keeps::All`] keeps the versions that no other has seen, at most [`VERSIONS_MAX`], the newest.
    /// [`Keeps::Newest`] keeps one, since a version that has seen another has the greater stamp.
    pub fn join(&self, other: &State, keeps: Keeps, keys: &Keys) -> State {
        match keeps {
            Keeps::Newest => State::single(self.newer(other, keys).clone()),
            Keeps::All => State::of(self.0.iter().chain(&other.0).cloned().collect()),
        }
    }

    fn newer<'s>(&'s self, other: &'s State, keys: &Keys) -> &'s Sibling {
        let (mine, theirs) = (self.winner(), other.winner());
        let ahead = match mine.version.dot().cmp(&theirs.version.dot()) {
            // Digests are worked out only where nothing else decides.
            Ordering::Equal => {
                let rank = |sibling: &Sibling| sibling.newest_rank(keys);
                (rank(mine), &mine.version.seen) >= (rank(theirs), &theirs.version.seen)
            }
            order => order == Ordering::Greater,
        };
        if ahead { mine } else { theirs }
    }

    /// The state of versions, at least one, of which some may have seen others or be others that have expired.
    fn of(mut versions: Vec<Sibling>) -> State {
        versions.sort_unstable_by(|a, b| b.rank().cmp(&a.rank()));
        versions.dedup_by(|again, first| {
            let same = again.rank() == first.rank();
            if same {
                first.version.seen.join(&again.version.seen);
            }
            same
        });
        // One that leads in rank stays even where all have seen each other, which no honest writer makes.
        let kept: Vec<bool> = (0..versions.len()).map(|nth| !is_seen(&versions, nth)).collect();
        let any = kept.contains(&true);
        let mut nth = 0..;
        versions.retain(|_| nth.next().is_some_and(|nth| if any { kept[nth] } else { nth == 0 }));
        versions.truncate(if planted(Bug::SiblingsLostAtCap) { VERSIONS_MAX / 2 } else { VERSIONS_MAX });
        State(versions)
    }

    /// Appends the state's canonical bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(STATE_FORMAT);
        put_varint(out, self.0.len() as u64);
        for sibling in &self.0 {
            sibling.version.encode(out);
            put_flags(out, sibling);
            if let Content::Live(value) = &sibling.content {
                put_bytes(out, value);
            }
        }
    }

    /// Reads a state back; refuses anything but the canonical bytes of one.
    ///
    /// # Errors
    /// [`DecodeError::Version`] for a later format, [`DecodeError`] for anything but these.
    pub fn decode(bytes: &[u8]) -> Result<State, DecodeError> {
        let mut reader = Reader::new(bytes);
        let format = reader.u8()?;
        if format != STATE_FORMAT {
            return Err(DecodeError::Version(format));
        }
        let n = reader.varint("versions of a key", VERSIONS_MAX as u64)?;
        let mut versions: Vec<Sibling> = Vec::new();
        for _ in 0..n {
            let version = Version::decode(&mut reader)?;
            let (live, expires) = take_flags(&mut reader)?;
            let content = match live {
                true => Content::Live(reader.bytes("bytes of a value", VALUE_BYTES_MAX)?.to_vec()),
                false => Content::Tombstone,
            };
            let sibling = Sibling { version, content, expires };
            if versions.last().is_some_and(|last| last.rank() <= sibling.rank()) {
                return Err(DecodeError::Malformed("order of versions"));
            }
            versions.push(sibling);
        }
        reader.end()?;
        if versions.is_empty() {
            return Err(DecodeError::Malformed("state without a version"));
        }
        if (0..versions.len()).any(|nth| is_seen(&versions, nth)) {
            return Err(DecodeError::Malformed("versions of which one has seen another"));
        }
        Ok(State(versions))
    }
}

/// Whether one of the other versions has seen the `nth`, or is the same and has expired. Two writes under one dot, which a
/// store that was copied may make, have not seen each other.
fn is_seen(versions: &[Sibling], nth: usize) -> bool {
    let Sibling { version, expires, .. } = &versions[nth];
    let live = !versions[nth].has_expired();
    let sees = |other: &Sibling| match other.version.dot() == version.dot() {
        true => live && other.has_expired() && other.expires == *expires,
        false => other.version.has_seen(version),
    };
    versions.iter().any(sees)
}

/// A key with its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key: any bytes, at most [`KEY_BYTES_MAX`].
    pub key: Vec<u8>,
    /// What is known of it.
    pub state: State,
}

impl Record {
    /// The bytes that this record takes in a frame, about.
    pub fn weight(&self) -> usize {
        let content = |s: &Sibling| if let Content::Live(value) = &s.content { value.len() } else { 0 };
        self.key.len() + self.state.0.iter().map(|s| 32 + content(s)).sum::<usize>()
    }

    /// Puts the digest of each value in the place of the value.
    pub fn strip(&mut self, keys: &Keys) {
        for sibling in &mut self.state.0 {
            if let Content::Live(value) = &mut sibling.content {
                *value = keys.content(value).0.to_vec();
            }
        }
    }

    /// Puts back the values that [`Record::strip`] took, from a state that holds them; says whether it has them all.
    /// If not, some of the record are digests still.
    pub fn dress(&mut self, from: Option<&State>, keys: &Keys) -> bool {
        let held: Vec<&Vec<u8>> = from.into_iter().flat_map(State::versions).filter_map(Sibling::value).collect();
        let digests: Vec<Digest> = held.iter().map(|value| keys.content(value)).collect();
        self.state.0.iter_mut().all(|sibling| match &mut sibling.content {
            Content::Live(value) => match digests.iter().position(|digest| digest.0 == value.as_slice()) {
                Some(nth) => {
                    value.clone_from(held[nth]);
                    true
                }
                None => false,
            },
            Content::Tombstone => true,
        })
    }

    /// Appends the record's canonical bytes: the key, then the state, each with its length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.key);
        let mut state = Vec::new();
        self.state.encode(&mut state);
        put_bytes(out, &state);
    }

    /// Reads one record from the front of `reader`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the bytes of a record, its key and values within their bounds.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Record, DecodeError> {
        let key = reader.bytes("bytes of a key", KEY_BYTES_MAX)?.to_vec();
        let state_max = VERSIONS_MAX * (VALUE_BYTES_MAX + 1024);
        let state = State::decode(reader.bytes("bytes of a state", state_max)?)?;
        Ok(Record { key, state })
    }
}

pub(crate) fn put_flags(out: &mut Vec<u8>, sibling: &Sibling) {
    let live = if sibling.content == Content::Tombstone { 0 } else { FLAG_LIVE };
    let expires = if sibling.expires.is_some() { FLAG_EXPIRES } else { 0 };
    out.push(live | expires);
    if let Some(millis) = sibling.expires {
        out.extend_from_slice(&millis.to_be_bytes());
    }
}

pub(crate) fn take_flags(reader: &mut Reader<'_>) -> Result<(bool, Option<Millis>), DecodeError> {
    let flags = reader.u8()?;
    if flags & !(FLAG_LIVE | FLAG_EXPIRES) != 0 {
        return Err(DecodeError::Malformed("flags of a version"));
    }
    let expires = if flags & FLAG_EXPIRES != 0 { Some(reader.u64()?) } else { None };
    Ok((flags & FLAG_LIVE != 0, expires))
}

#[cfg(test)]
mod tests;
