//! The journal as values: what a run is, what it found at each key that it changed, and their canonical bytes.
//!
//! Where rows are kept, and how a run is undone, is left to the store and to whoever drives it.

use crate::bounds::{KEY_BYTES_MAX, VALUE_BYTES_MAX, VERSIONS_MAX};
use crate::canonical::{DecodeError, Reader, put_bytes, put_varint};
use crate::dataset::CollectionId;
use crate::range::Position;
use crate::record::State;
use crate::stamp::Millis;

const RUN_FORMAT: u8 = 1;
const HAS_BEFORE: u8 = 1;
const HAS_AFTER: u8 = 2;
const FILLED: u8 = 4;
/// Bytes of a text of a run: whose word it was, its policy in words, its verdict.
pub const RUN_TEXT_BYTES_MAX: usize = 4096;
/// Bytes of the state of one key.
const STATE_BYTES_MAX: usize = VERSIONS_MAX * (VALUE_BYTES_MAX + 1024);

/// The number of a run in the journal of one store; it rises and is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a run was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunKind {
    /// Two sides were made equal.
    Repair,
    /// One side was made exactly the other.
    Mirror,
    /// What a plan said was carried out.
    Apply,
    /// A side that missed a horizon let go of what others had deleted.
    CatchUp,
    /// What ordinary writes replaced is kept; there is no undoing it.
    Written,
    /// What a peer pushed as it was written there, in no session.
    Pushed,
    /// What had been set apart was applied at somebody's word.
    Accepted,
    /// The exact states before a run were put back here.
    Undo(RunId),
    /// The contents before a run were written anew, for all.
    UndoEverywhere(RunId),
}

impl RunKind {
    /// What it is called, for people and machines.
    pub fn name(self) -> &'static str {
        match self {
            RunKind::Repair => "repair",
            RunKind::Mirror => "mirror",
            RunKind::Apply => "apply",
            RunKind::CatchUp => "catch-up",
            RunKind::Written => "written",
            RunKind::Pushed => "pushed",
            RunKind::Accepted => "accepted",
            RunKind::Undo(_) => "undo",
            RunKind::UndoEverywhere(_) => "undo-everywhere",
        }
    }

    /// The run that it undoes, if it undoes one.
    pub fn undoes(self) -> Option<RunId> {
        match self {
            RunKind::Undo(run) | RunKind::UndoEverywhere(run) => Some(run),
            _ => None,
        }
    }
}

/// What is known of a run when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunHeader {
    /// What it is for.
    pub kind: RunKind,
    /// Whose word it takes: the fingerprint of the other side, or where its store lies. At most [`RUN_TEXT_BYTES_MAX`].
    pub peer: String,
    /// Whether this side opened the session.
    pub opener: bool,
    /// Direction and policy in words. At most [`RUN_TEXT_BYTES_MAX`].
    pub policy: String,
    /// When it began, by the clock of the store.
    pub started: Millis,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// When, by the clock of the store.
    pub ended: Millis,
    /// The verdict's name. At most [`RUN_TEXT_BYTES_MAX`].
    pub verdict: String,
}

/// Which run undoes this one, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undoing {
    /// The run that undoes.
    pub by: RunId,
    /// The row of entries that was undone last, by commit and number; they are undone backwards.
    pub at: Option<(u64, u64)>,
    /// Keys that were put back so far.
    pub restored: u64,
    /// Keys that were skipped so far, since they had been written after the run.
    pub skipped: u64,
    /// Whether it has come to its end.
    pub done: bool,
}

/// A run as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What was known when it began.
    pub header: RunHeader,
    /// How it ended; none while it runs, or where it was killed.
    pub end: Option<RunEnd>,
    /// Changes of keys.
    pub entries: u64,
    /// Those of keys of which there had been something.
    pub overwritten: u64,
    /// Bytes of its entries.
    pub bytes: u64,
    /// Whether and how far it was undone.
    pub undone: Option<Undoing>,
    /// Whether some of its entries were dropped for their age, so that it can no longer be undone.
    pub dropped: bool,
}

impl Run {
    /// A run that has changed nothing yet.
    pub fn new(header: RunHeader) -> Run {
        Run { header, end: None, entries: 0, overwritten: 0, bytes: 0, undone: None, dropped: false }
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![RUN_FORMAT];
        let (kind, undoes) = match self.header.kind {
            RunKind::Repair => (0, None),
            RunKind::Mirror => (1, None),
            RunKind::Apply => (4, None),
            RunKind::Written => (5, None),
            RunKind::CatchUp => (6, None),
            RunKind::Pushed => (7, None),
            RunKind::Accepted => (8, None),
            RunKind::Undo(run) => (2, Some(run)),
            RunKind::UndoEverywhere(run) => (3, Some(run)),
        };
        out.push(kind);
        if let Some(run) = undoes {
            put_varint(&mut out, run.0);
        }
        put_text(&mut out, &self.header.peer);
        out.push(u8::from(self.header.opener));
        put_text(&mut out, &self.header.policy);
        put_varint(&mut out, self.header.started);
        out.push(u8::from(self.end.is_some()));
        if let Some(end) = &self.end {
            put_varint(&mut out, end.ended);
            put_text(&mut out, &end.verdict);
        }
        for number in [self.entries, self.overwritten, self.bytes] {
            put_varint(&mut out, number);
        }
        out.push(u8::from(self.undone.is_some()));
        if let Some(undone) = &self.undone {
            put_varint(&mut out, undone.by.0);
            out.push(u8::from(undone.at.is_some()));
            if let Some((commit, number)) = undone.at {
                put_varint(&mut out, commit);
                put_varint(&mut out, number);
            }
            put_varint(&mut out, undone.restored);
            put_varint(&mut out, undone.skipped);
            out.push(u8::from(undone.done));
        }
        out.push(u8::from(self.dropped));
        out
    }

    /// Reads a run.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but its canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Run, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            RUN_FORMAT => {}
            other => return Err(DecodeError::Version(other)),
        }
        let kind = match reader.u8()? {
            0 => RunKind::Repair,
            1 => RunKind::Mirror,
            2 => RunKind::Undo(take_run(&mut reader)?),
            3 => RunKind::UndoEverywhere(take_run(&mut reader)?),
            4 => RunKind::Apply,
            5 => RunKind::Written,
            6 => RunKind::CatchUp,
            7 => RunKind::Pushed,
            8 => RunKind::Accepted,
            _ => return Err(DecodeError::Malformed("kind of a run")),
        };
        let peer = take_text(&mut reader)?;
        let opener = take_bool(&mut reader)?;
        let policy = take_text(&mut reader)?;
        let started = reader.varint("start of a run", u64::MAX)?;
        let header = RunHeader { kind, peer, opener, policy, started };
        let end = match take_bool(&mut reader)? {
            true => Some(RunEnd { ended: reader.varint("end of a run", u64::MAX)?, verdict: take_text(&mut reader)? }),
            false => None,
        };
        let entries = reader.varint("entries of a run", u64::MAX)?;
        let overwritten = reader.varint("overwritten keys of a run", entries)?;
        let bytes = reader.varint("bytes of a run", u64::MAX)?;
        let undone = if take_bool(&mut reader)? { Some(take_undoing(&mut reader)?) } else { None };
        let dropped = take_bool(&mut reader)?;
        reader.end()?;
        Ok(Run { header, end, entries, overwritten, bytes, undone, dropped })
    }
}

fn take_undoing(reader: &mut Reader<'_>) -> Result<Undoing, DecodeError> {
    let by = take_run(reader)?;
    let at = match take_bool(reader)? {
        true => Some((reader.varint("commit of entries", u64::MAX)?, reader.varint("number of entries", u64::MAX)?)),
        false => None,
    };
    let restored = reader.varint("keys put back", u64::MAX)?;
    let skipped = reader.varint("keys skipped", u64::MAX)?;
    Ok(Undoing { by, at, restored, skipped, done: take_bool(reader)? })
}

fn take_run(reader: &mut Reader<'_>) -> Result<RunId, DecodeError> {
    Ok(RunId(reader.varint("number of a run", u64::MAX)?))
}

fn take_bool(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Malformed("yes or no")),
    }
}

fn take_text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let bytes = reader.bytes("bytes of a run's text", RUN_TEXT_BYTES_MAX)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Malformed("text of a run"))
}

/// Appends a text, cut between letters where it would be too long to be read back.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let end = (0..=RUN_TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    put_bytes(out, &text.as_bytes()[..end.unwrap_or(0)]);
}

/// What a run replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// The commit that had last changed it.
    pub commit: u64,
    /// What there was.
    pub state: State,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Where the key is.
    pub collection: CollectionId,
    /// Its position.
    pub position: Position,
    /// The key.
    pub key: Vec<u8>,
    /// What there was of it; none: nothing.
    pub before: Option<Before>,
    /// The entry that the run left, told by [`crate::Digest::short`]; none where it left none.
    pub after: Option<u64>,
}

impl JournalEntry {
    /// Appends its canonical bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_entry(
            out,
            self.collection,
            self.position,
            &self.key,
            self.before.as_ref().map(|before| (before.commit, &before.state)),
            self.after,
        );
    }

    /// Reads one entry from the front of `reader`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but its canonical bytes.
    pub fn decode(reader: &mut Reader<'_>) -> Result<JournalEntry, DecodeError> {
        let flags = reader.u8()?;
        if flags & !(HAS_BEFORE | HAS_AFTER) != 0 {
            return Err(DecodeError::Malformed("flags of a journal entry"));
        }
        let collection = CollectionId(reader.varint("collection", u64::from(u16::MAX))? as u16);
        let position = Position(reader.u64()?);
        let key = reader.bytes("bytes of a key", KEY_BYTES_MAX)?.to_vec();
        let after = if flags & HAS_AFTER != 0 { Some(reader.u64()?) } else { None };
        let before = match flags & HAS_BEFORE != 0 {
            true => Some(Before {
                commit: reader.varint("commit of a state", u64::MAX)?,
                state: State::decode(reader.bytes("bytes of a state", STATE_BYTES_MAX)?)?,
            }),
            false => None,
        };
        Ok(JournalEntry { collection, position, key, before, after })
    }
}

/// What a commit of a run added where there was hardly anything: all records from one position to another that this commit
/// has written last. So the journal of a filled store does not grow with its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// In which collection.
    pub collection: CollectionId,
    /// The first position.
    pub first: Position,
    /// The last.
    pub last: Position,
    /// How many records there were.
    pub count: u64,
}

impl Filled {
    /// Appends its canonical bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FILLED);
        put_varint(out, u64::from(self.collection.0));
        out.extend_from_slice(&self.first.0.to_be_bytes());
        out.extend_from_slice(&self.last.0.to_be_bytes());
        put_varint(out, self.count);
    }
}

/// What a commit of a run changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// One key.
    Key(JournalEntry),
    /// Keys that were not there, all together.
    Filled(Filled),
}

impl Changed {
    /// How many keys.
    pub fn keys(&self) -> u64 {
        match self {
            Changed::Key(_) => 1,
            Changed::Filled(filled) => filled.count,
        }
    }

    /// Reads one from the front of `reader`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but its canonical bytes.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Changed, DecodeError> {
        if reader.rest().first() != Some(&FILLED) {
            return JournalEntry::decode(reader).map(Changed::Key);
        }
        reader.u8()?;
        let collection = CollectionId(reader.varint("collection", u64::from(u16::MAX))? as u16);
        let (first, last) = (Position(reader.u64()?), Position(reader.u64()?));
        let count = reader.varint("records of a commit", u64::MAX)?;
        if first > last {
            return Err(DecodeError::Malformed("positions of a commit"));
        }
        Ok(Changed::Filled(Filled { collection, first, last, count }))
    }
}

/// Appends the bytes of an entry whose parts lie elsewhere.
pub fn put_entry(
    out: &mut Vec<u8>,
    collection: CollectionId,
    position: Position,
    key: &[u8],
    before: Option<(u64, &State)>,
    after: Option<u64>,
) {
    out.push(if before.is_some() { HAS_BEFORE } else { 0 } | if after.is_some() { HAS_AFTER } else { 0 });
    put_varint(out, u64::from(collection.0));
    out.extend_from_slice(&position.0.to_be_bytes());
    put_bytes(out, key);
    if let Some(after) = after {
        out.extend_from_slice(&after.to_be_bytes());
    }
    if let Some((commit, before)) = before {
        put_varint(out, commit);
        let mut state = Vec::new();
        before.encode(&mut state);
        put_bytes(out, &state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Actor, Content, Sibling, Stamp, Version};

    #[test]
    fn runs_and_entries_come_back() {
        let header = RunHeader {
            kind: RunKind::Undo(RunId(7)),
            peer: "abcd".into(),
            opener: true,
            policy: "both".into(),
            started: 5,
        };
        let mut run = Run::new(header);
        assert_eq!(Run::decode(&run.encode()), Ok(run.clone()));
        run.end = Some(RunEnd { ended: 9, verdict: "in sync".into() });
        run.undone = Some(Undoing { by: RunId(9), at: Some((3, 4)), restored: 1, skipped: 2, done: true });
        assert_eq!(Run::decode(&run.encode()), Ok(run));
        let version = Version::after(Stamp(5), Actor(6), []);
        let before = State::single(Sibling { version, content: Content::Live(b"v".to_vec()), expires: None });
        let entry = JournalEntry {
            collection: CollectionId(1),
            position: Position(2),
            key: b"k".to_vec(),
            before: Some(Before { commit: 6, state: before }),
            after: None,
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(JournalEntry::decode(&mut reader), Ok(entry));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_letters() {
        let header = RunHeader {
            kind: RunKind::Repair,
            peer: "é".repeat(RUN_TEXT_BYTES_MAX),
            opener: false,
            policy: String::new(),
            started: 0,
        };
        let run = Run::decode(&Run::new(header).encode()).expect("a run");
        assert_eq!(run.header.peer.len(), RUN_TEXT_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_are_the_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(run) = Run::decode(&bytes) {
                prop_assert_eq!(run.encode(), bytes.clone());
            }
            let mut reader = Reader::new(&bytes);
            if let Ok(changed) = Changed::decode(&mut reader) {
                let mut again = Vec::new();
                match changed {
                    Changed::Key(entry) => entry.encode(&mut again),
                    Changed::Filled(filled) => filled.encode(&mut again),
                }
                prop_assert_eq!(&bytes[..again.len()], again.as_slice());
            }
        }
    }
}
