//! Succession of keys: what a peer states when another key stands for it from now on, and who is who by such statements.
//!
//! Who signs and checks signatures is left to those who have keys, what a peer may to those who grant; the time is an argument.

use std::collections::{BTreeMap, BTreeSet};

use crate::canonical::{DecodeError, Reader};
use crate::receipt::{PeerKey, Signature};
use crate::stamp::Millis;

/// The longest time for which an old key can go on beside the new one: 90 days.
pub const OVERLAP_MILLIS_MAX: Millis = 90 * 24 * 3600 * 1000;
/// Statements that are shown together: whoever has not heard of more changes of one key is told by hand.
pub const SHOWN_MAX: usize = 8;
/// Old keys of one peer that are remembered; those before them are strangers.
pub const LINE_MAX: usize = 16;
/// Successions that are remembered of all peers.
pub const SUCCESSIONS_MAX: usize = 1024;
/// Bytes of a statement.
pub const STATEMENT_BYTES: usize = DOMAIN.len() + 32 + 32 + 8 + 8 + 64 + 64;

/// What a statement begins with: a signature is never taken for one of anything else.
const DOMAIN: &[u8] = b"reknit succession 1\0";

/// That one key stands for the peer of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Succession {
    /// The key that goes.
    pub old: PeerKey,
    /// The key that comes.
    pub new: PeerKey,
    /// When that was stated, by the clock of the peer.
    pub made: Millis,
    /// Until when the old key is the peer too; not at that time any more.
    pub until: Millis,
}

impl Succession {
    /// What both keys sign: the old one gives itself up, and the new one agrees to stand for it, so that nobody can make another
    /// peer its successor.
    pub fn signed(&self) -> Vec<u8> {
        let mut out = DOMAIN.to_vec();
        out.extend_from_slice(&self.old);
        out.extend_from_slice(&self.new);
        out.extend_from_slice(&self.made.to_be_bytes());
        out.extend_from_slice(&self.until.to_be_bytes());
        out
    }
}

/// A succession, signed by both of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What is stated.
    pub succession: Succession,
    /// The signature of the old key, and of the new one.
    pub signatures: (Signature, Signature),
}

impl Statement {
    /// The bytes under which it is kept and shown.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.succession.signed();
        out.extend_from_slice(&self.signatures.0);
        out.extend_from_slice(&self.signatures.1);
        out
    }

    /// Reads one; whether its signatures hold is another question.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are none, and for an overlap beyond [`OVERLAP_MILLIS_MAX`].
    pub fn decode(bytes: &[u8]) -> Result<Statement, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.take(DOMAIN.len())? != DOMAIN {
            return Err(DecodeError::Malformed("succession"));
        }
        let succession =
            Succession { old: reader.array()?, new: reader.array()?, made: reader.u64()?, until: reader.u64()? };
        let signatures = (reader.array()?, reader.array()?);
        reader.end()?;
        let overlap = succession.until.checked_sub(succession.made).ok_or(DecodeError::Malformed("overlap"))?;
        if overlap > OVERLAP_MILLIS_MAX {
            let (what, limit) = ("milliseconds of an overlap", OVERLAP_MILLIS_MAX);
            return Err(DecodeError::Bound { what, found: overlap, limit });
        }
        match succession.old == succession.new {
            true => Err(DecodeError::Malformed("succession")),
            false => Ok(Statement { succession, signatures }),
        }
    }

    /// Whether both signatures hold, by `holds`.
    pub fn holds(&self, holds: impl Fn(&PeerKey, &[u8], &Signature) -> bool) -> bool {
        let (signed, Succession { old, new, .. }) = (self.succession.signed(), &self.succession);
        holds(old, &signed, &self.signatures.0) && holds(new, &signed, &self.signatures.1)
    }
}

/// Statements as they are shown: one after the other, the oldest first, at most the newest [`SHOWN_MAX`].
pub fn encode_all(statements: &[Statement]) -> Vec<u8> {
    statements[statements.len().saturating_sub(SHOWN_MAX)..].iter().flat_map(Statement::encode).collect()
}

/// Reads statements that were shown together: each begins with the key that the one before ends with.
///
/// # Errors
/// [`DecodeError`] for none, for more than [`SHOWN_MAX`], and for those that do not follow one another.
pub fn decode_all(bytes: &[u8]) -> Result<Vec<Statement>, DecodeError> {
    let (found, limit) = (bytes.len() as u64, (SHOWN_MAX * STATEMENT_BYTES) as u64);
    if found > limit {
        return Err(DecodeError::Bound { what: "bytes of statements", found, limit });
    }
    if bytes.is_empty() {
        return Err(DecodeError::Truncated);
    }
    let all = bytes.chunks(STATEMENT_BYTES).map(Statement::decode).collect::<Result<Vec<_>, _>>()?;
    let follows = |pair: &[Statement]| pair[0].succession.new == pair[1].succession.old;
    if all.windows(2).all(follows) { Ok(all) } else { Err(DecodeError::Malformed("succession")) }
}

/// Which key follows another, and until when both are the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The key that follows.
    pub new: PeerKey,
    /// Until when the one before is the peer too.
    pub until: Millis,
}

/// Why a succession is not believed. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Another key follows the old one already: somebody else may hold the old key.
    Another {
        /// The one that is known to.
        known: PeerKey,
    },
    /// The new key follows another, or would follow itself.
    Tangled,
    /// As many are remembered as may be.
    Full,
}

impl std::fmt::Display for NotTaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            NotTaken::Another { .. } => {
                "another key is known to follow this one: whoever states otherwise may have stolen it"
            }
            NotTaken::Tangled => "the new key is known to be another peer's, or an older one of this peer",
            NotTaken::Full => "as many successions are remembered as may be",
        })
    }
}

impl std::error::Error for NotTaken {}

/// Keys that are one peer: lines in which each key has at most one before it and one after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines(BTreeMap<PeerKey, Next>);

impl Lines {
    /// Those that were remembered.
    ///
    /// # Errors
    /// [`NotTaken`] where they contradict each other.
    pub fn new(all: impl IntoIterator<Item = (PeerKey, Next)>) -> Result<Lines, NotTaken> {
        let mut lines = Lines::default();
        for (old, next) in all {
            lines.enter(old, next)?;
        }
        Ok(lines)
    }

    /// All successions.
    pub fn all(&self) -> impl Iterator<Item = (&PeerKey, &Next)> {
        self.0.iter()
    }

    /// The newest key of the peer that a key stands for, or stood for: itself, where nothing follows it.
    pub fn newest(&self, key: PeerKey) -> PeerKey {
        let mut newest = key;
        // No line leads back into itself.
        while let Some(next) = self.0.get(&newest) {
            newest = next.new;
        }
        newest
    }

    /// All keys of that peer, the newest first.
    pub fn line(&self, key: PeerKey) -> Vec<PeerKey> {
        let mut line = vec![self.newest(key)];
        while let Some(before) = line.last().and_then(|last| self.before(last)) {
            line.push(before);
        }
        line
    }

    /// What followed a key, if something did.
    pub fn next(&self, key: &PeerKey) -> Option<Next> {
        self.0.get(key).copied()
    }

    /// Whether a key is the peer no more: another follows it, and the overlap is over.
    pub fn ended(&self, key: &PeerKey, now: Millis) -> bool {
        self.0.get(key).is_some_and(|next| next.until <= now)
    }

    /// When the next overlap ends after `now`.
    pub fn next_end(&self, now: Millis) -> Option<Millis> {
        self.0.values().map(|next| next.until).filter(|until| *until > now).min()
    }

    /// Believes a succession; says whether that was news. One that is known may end earlier than was said, never later.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn take(&mut self, succession: &Succession) -> Result<bool, NotTaken> {
        let Succession { old, new, until, .. } = *succession;
        let before = self.0.get(&old).copied();
        let until = before.map_or(until, |before| before.until.min(until));
        self.enter(old, Next { new, until })?;
        if before.is_none() {
            let forgotten: Vec<PeerKey> = self.line(new).into_iter().skip(LINE_MAX + 1).collect();
            forgotten.iter().for_each(|key| _ = self.0.remove(key));
        }
        Ok(before.is_none_or(|before| before.until != until))
    }

    /// Forgets what is known of the peer of a key.
    pub fn forget(&mut self, key: PeerKey) {
        let line: BTreeSet<PeerKey> = self.line(key).into_iter().collect();
        self.0.retain(|old, _| !line.contains(old));
    }

    fn enter(&mut self, old: PeerKey, next: Next) -> Result<(), NotTaken> {
        match self.0.get(&old) {
            Some(known) if known.new != next.new => return Err(NotTaken::Another { known: known.new }),
            Some(_) => {}
            None if self.before(&next.new).is_some() || self.newest(next.new) == old => return Err(NotTaken::Tangled),
            None if self.0.len() >= SUCCESSIONS_MAX => return Err(NotTaken::Full),
            None => {}
        }
        self.0.insert(old, next);
        Ok(())
    }

    fn before(&self, key: &PeerKey) -> Option<PeerKey> {
        self.0.iter().find(|(_, next)| next.new == *key).map(|(old, _)| *old)
    }
}

#[cfg(test)]
mod tests;
