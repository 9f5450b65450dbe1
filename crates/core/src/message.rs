//! What two sides of a session say to each other on the control lane.
//!
//! The bytes are pinned by `docs/protocol.md` and golden vectors; how ranges and items are packed
//! is in [`crate::wire`]; who may say what, and when, is the sessions' concern ([`crate::session`]).

use serde::{Deserialize, Serialize};

use crate::bounds::FRAME_BYTES_MAX;
use crate::canonical::{Blob, DecodeError};
use crate::collect::Horizon;
use crate::dataset::{CollectionId, DatasetId};
use crate::life::Sighting;
use crate::query::Raising;
use crate::record::Dot;
use crate::stamp::{Millis, Stamp};
use crate::tree::Summary;

pub use crate::life::Life;

/// The version of this protocol; told in the opening, checked by the responder.
pub const PROTOCOL: u16 = 2;

/// What a peer may do here. A set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights(pub u8);

impl Rights {
    /// Digests, keys and versions.
    pub const COMPARE: Rights = Rights(1);
    /// Values.
    pub const READ: Rights = Rights(2);
    /// Writing records.
    pub const WRITE: Rights = Rights(4);
    /// Running the node: sessions with others, members.
    pub const OPERATE: Rights = Rights(8);
    /// All of them.
    pub const ALL: Rights = Rights(15);

    /// Both sets together.
    pub fn and(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// What is in both sets.
    pub fn both(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }

    /// Whether all of `wanted` is granted.
    pub fn allow(self, wanted: Rights) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// The names of the rights in the set.
    pub fn names(self) -> Vec<&'static str> {
        let all = [(1, "compare"), (2, "read"), (4, "write"), (8, "operate")];
        all.into_iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| name).collect()
    }

    /// The right of this name.
    pub fn named(name: &str) -> Option<Rights> {
        let all = [("compare", 1), ("read", 2), ("write", 4), ("operate", 8)];
        all.into_iter().find(|(known, _)| *known == name).map(|(_, bit)| Rights(bit))
    }
}

/// The opener's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// [`PROTOCOL`] of the opener.
    pub protocol: u16,
    /// The dataset that it means.
    pub dataset: DatasetIdBytes,
    /// The first sixteen bytes of [`crate::Definition::hash`] of its definition.
    pub definition: Blob,
    /// What it will need to be allowed.
    pub wants: Rights,
    /// Whether it will go down into ranges that differ; not for a check.
    pub descend: bool,
    /// The root of the collections in scope there.
    pub root: Summary,
    /// The opener's store.
    pub life: Life,
    /// And how far it is: its commit number.
    pub commit: u64,
    /// The collections that the session is about; none named: all.
    pub scope: Vec<CollectionId>,
    /// If it descends: the first cells of the only collection in scope, a packed [`crate::sketch::CellRun`], and behind it
    /// its lost ranges; or those of the sum of all collections, and behind them which those are.
    pub cells: Blob,
    /// And the last byte of the counts of its cells 96 to 191, if it keeps so many: for estimates.
    pub counts: Blob,
    /// And the first byte of the digest of each of the root's sixteen parts, zero where one is empty.
    pub parts: Blob,
    /// What few sessions need; nothing is sent if there is nothing of it.
    #[serde(default, skip_serializing_if = "OpenMore::is_nothing")]
    pub more: OpenMore,
}

/// What only some openings say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenMore {
    /// Whether the opener will sign a receipt.
    pub receipt: bool,
    /// The first bytes of the root of the dataset's members, as far as the opener knows them; 0 where there are none.
    pub members: u64,
    /// Up to where the opener's tombstones were collected.
    pub horizon: Stamp,
    /// Up to when everything that expires has expired at the opener's side; 0 where nothing ever did.
    pub watermark: Millis,
}

impl OpenMore {
    fn is_nothing(&self) -> bool {
        *self == OpenMore::default()
    }
}

/// A dataset's id as one binary string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatasetIdBytes(pub DatasetId);

impl Serialize for DatasetIdBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.0)
    }
}

impl<'de> Deserialize<'de> for DatasetIdBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Blob::deserialize(deserializer)?.0;
        let exact = <[u8; 16]>::try_from(bytes.as_slice());
        exact.map(|id| DatasetIdBytes(DatasetId(id))).map_err(|_| serde::de::Error::invalid_length(bytes.len(), &"16"))
    }
}

/// The responder lets the session begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// What the opener may do.
    pub rights: Rights,
    /// The root of the collections in scope here.
    pub root: Summary,
    /// The commit number that it was read at: the responder's cut.
    pub commit: u64,
    /// The responder's store.
    pub life: Life,
    /// If records are to move and the responder met another opening of the opener's store, or that store came further: the
    /// last one that it remembers.
    pub met: Option<Sighting>,
    /// What few sessions need; nothing is sent if there is nothing of it.
    #[serde(default, skip_serializing_if = "AcceptMore::is_nothing")]
    pub more: AcceptMore,
}

/// What only some acceptances say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptMore {
    /// The responder's signature, if the roots agree and it was asked for one.
    pub word: Option<Word>,
    /// Whether it knows other members.
    pub members: bool,
    /// Its horizon, if that is another than the opener's; those who have passed it are told where records are to move.
    pub horizon: Option<Horizon>,
    /// The commit at which this side last put back what a run had changed; 0 where nothing is told of its horizon.
    pub undone: u64,
    /// Up to when everything that expires has expired at this side, if that is later than at the opener's and the roots
    /// differ; 0 if not.
    pub watermark: Millis,
}

impl AcceptMore {
    fn is_nothing(&self) -> bool {
        *self == AcceptMore::default()
    }
}

/// What a responder adds to its roots, so that the opener can put a receipt together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// The commit at which it last put back what a run had changed.
    pub undone: u64,
    /// The last stamp of its store at its cut.
    pub stamp: Stamp,
    /// When it signed.
    pub time: Millis,
    /// Its signature: 64 bytes.
    pub signature: Blob,
}

/// Why there is no session, or no more of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuse {
    /// What kind of refusal.
    pub code: RefuseCode,
    /// The number, name or field that it is about.
    pub detail: String,
    /// The responder's definition, when the two differ.
    pub definition: Blob,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RefuseCode {
    /// The responder speaks another protocol version.
    Protocol,
    /// No such dataset here.
    Dataset,
    /// The definitions of the dataset differ.
    Definition,
    /// A right is missing.
    Rights,
    /// Opener and responder are one store.
    OneStore,
    /// Too many sessions.
    Busy,
    /// A message that breaks the protocol.
    Message,
    /// The responder's store failed, or has met another life of the opener's meanwhile.
    Store,
    /// The opener would lose the responder more records than it may: what it would delete, may, would change, may, and how
    /// many of its records were written.
    Brakes,
}

/// Live roots, asked for at any time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    /// The commit number that they were read at.
    pub commit: u64,
    /// Whether anyone but this session wrote since the cut.
    pub moved: bool,
    /// The root of each collection in scope.
    pub roots: Vec<Summary>,
    /// The responder's signature, if it was asked for one; nothing is sent if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<Word>,
}

/// The opener's view of some ranges, to be compared; answered by one or more [`Compared`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Names the request.
    pub id: u32,
    /// In which collection.
    pub collection: CollectionId,
    /// Packed [`crate::wire::RangeView`]s.
    pub views: Blob,
}

/// Where the responder's ranges differ from what it was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The request; 0 for the unasked first view of the root.
    pub id: u32,
    /// Whether this is the last of the answer.
    pub last: bool,
    /// Packed [`crate::wire::RangeView`]s: the responder's view, one step further down.
    pub views: Blob,
    /// Packed [`crate::wire::WireItem`]s: the responder's records where leaves differ, or those that were listed.
    pub items: Blob,
    /// Positions at which the opener has an entry and the responder has none.
    pub lacking: Vec<u64>,
    /// Positions at which only the responder has records, where the opener said that it will read: told instead of items.
    pub alone: Vec<u64>,
}

/// Everything that differs, as far as a sketch tells: entries by their elements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// Elements that only the responder has, packed.
    pub mine: Blob,
    /// Elements that only the opener has, packed.
    pub theirs: Blob,
    /// Where both have a record under what seems to be one key: packed [`crate::mark::Mark`]s of the responder's.
    pub marks: Blob,
    /// Packed ranges of single elements where the two meet otherwise.
    pub unclear: Blob,
}

/// The same in one of several collections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedIn {
    /// The collection.
    pub collection: CollectionId,
    /// Elements that only the responder has, packed.
    pub mine: Blob,
    /// As in [`Differing`].
    pub marks: Blob,
    /// As in [`Differing`].
    pub unclear: Blob,
}

/// Everything that differs in all collections in scope, as far as the sum of their sketches tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Elements that only the opener has, packed; in which collection it knows itself.
    pub theirs: Blob,
    /// What else differs, by collection.
    pub each: Vec<NamedIn>,
    /// Collections that differ without being in the sum: to be compared.
    pub open: Vec<CollectionId>,
}

/// Asks for cells of ranges; answered by one or more [`Cells`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskCells {
    /// Names the request.
    pub id: u32,
    /// In which collection.
    pub collection: CollectionId,
    /// Packed ranges.
    pub ranges: Blob,
    /// The first cell of each.
    pub from: u32,
    /// The cell after the last.
    pub to: u32,
}

/// Cells of the responder's ranges, as many of those asked for as it keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cells {
    /// The request; 0 for those that are sent unasked after the opening.
    pub id: u32,
    /// Whether this is the last of the answer.
    pub last: bool,
    /// Packed [`crate::sketch::CellRun`]s.
    pub runs: Blob,
}

/// Asks for items without content; answered by one or more [`Compared`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Names the request.
    pub id: u32,
    /// In which collection.
    pub collection: CollectionId,
    /// Packed ranges, all of whose records are meant.
    pub ranges: Blob,
    /// Positions, all of whose records are meant.
    pub positions: Vec<u64>,
}

/// Names a transfer of records: the opener's number for it, and the collection that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Transfer(pub u16, pub CollectionId);

/// Asks for records to be streamed to the opener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Names the transfer.
    pub transfer: Transfer,
    /// Packed ranges, all of whose records are meant.
    pub ranges: Blob,
    /// Positions and short digests of entries.
    pub entries: Vec<(u64, u64)>,
    /// Elements of entries, packed.
    pub elements: Blob,
    /// Positions and short digests of entries whose contents the opener has.
    pub bare: Vec<(u64, u64)>,
    /// Versions of records: position, whether the opener has their contents, and of each the stamp and the actor.
    pub versions: Vec<(u64, bool, Vec<Dot>)>,
}

/// Tells how the opener's records at some places rank, so that those travel that win; answered by [`Wanted`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Names the transfer of what the responder streams.
    pub transfer: Transfer,
    /// Packed [`crate::mark::Mark`]s.
    pub marks: Blob,
    /// Packed ranges of which the marks are all that the opener has,
    pub whole: Blob,
    /// but for these, of single elements: there it has several records.
    pub apart: Blob,
}

/// Which of the records offered the responder wants; it streams its own of those that it has newer, and in whole ranges
/// those that were not offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The transfer of the offer.
    pub transfer: Transfer,
    /// Whether anything is streamed at all.
    pub streams: bool,
    /// Of those that are streamed: how many the opener has older, how many it lacks, and of how many it has the content
    /// under another version.
    pub newer: (u64, u64, u64),
    /// Which the responder has older, by their places in the offer ([`crate::mark::pack_places`]).
    pub wanted: Blob,
    /// Which it has older with what seems to be the same content.
    pub bare: Blob,
    /// Which it lacks.
    pub lacking: Blob,
    /// Which cannot be told by marks.
    pub unclear: Blob,
}

/// What became of a transfer to the responder, once it is durable there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The transfer.
    pub transfer: Transfer,
    /// Records that changed the responder's store.
    pub applied: u64,
    /// Records that it had, or had newer.
    pub kept: u64,
    /// Records whose guard no longer held.
    pub moved: u64,
    /// Records that it may not store.
    pub refused: u64,
    /// Live records that were deleted,
    pub deleted: u64,
    /// and whose content became another.
    pub changed: u64,
    /// Some of the keys of those refused, with reasons.
    pub samples: Vec<(Blob, String)>,
}

/// Asks for the responder's live roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskRoots {
    /// How many of the opener's transfers the roots must hold: they are told after as many [`Written`].
    pub after: u64,
}

/// What a side remembers of the other's store, which may be another life of it. The opener's is answered by [`Recognised`],
/// the responder's answers [`Message::AskMet`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// The openings, oldest first, at most [`crate::life::SIGHTINGS_MAX`].
    pub met: Vec<Sighting>,
}

/// Whether the store is the life that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recognised {
    /// It is not: it was restored or copied, has begun a new life by now, and the session is over.
    pub renewed: bool,
}

/// The opener's last message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// The verdict, by its name.
    pub verdict: String,
    /// What the responder lacks of the receipt, if it signed its part; nothing is sent if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing: Option<Closing>,
}

/// What an opener signs of a session, as far as the responder does not know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The commit number at which the opener's root was read,
    pub commit: u64,
    /// that at which it last put back what a run had changed,
    pub undone: u64,
    /// the last stamp of its store at its cut,
    pub stamp: Stamp,
    /// and its root; none: the responder's.
    pub root: Option<Summary>,
    /// Keys that differed; of those left, refused or in flight; records that changed the opener's store, and the responder's.
    pub tally: (u64, u64, u64, u64),
    /// When it signed.
    pub time: Millis,
    /// Its signature: 64 bytes.
    pub signature: Blob,
}

/// A message on the control lane.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is documented as its struct")]
pub enum Message {
    Open(Open),
    Accept(Accept),
    Refuse(Refuse),
    AskRoots(AskRoots),
    Roots(Roots),
    Compare(Compare),
    Compared(Compared),
    List(List),
    Want(Want),
    Written(Written),
    Bye(Bye),
    Differing(Differing),
    AskCells(AskCells),
    Cells(Cells),
    Offer(Offer),
    Wanted(Wanted),
    Met(Met),
    Recognised(Recognised),
    AskMet,
    Raise(Horizon),
    Raised(Raising),
    Named(Named),
}

impl Message {
    /// The bytes of a control frame: one byte for the kind, then MessagePack.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Message::Open(body) => pack(1, body),
            Message::Accept(body) => pack(2, body),
            Message::Refuse(body) => pack(3, body),
            Message::AskRoots(body) => pack(4, body),
            Message::Roots(body) => pack(5, body),
            Message::Compare(body) => pack(6, body),
            Message::Compared(body) => pack(7, body),
            Message::List(body) => pack(8, body),
            Message::Want(body) => pack(9, body),
            Message::Written(body) => pack(10, body),
            Message::Bye(body) => pack(11, body),
            Message::Differing(body) => pack(12, body),
            Message::AskCells(body) => pack(13, body),
            Message::Cells(body) => pack(14, body),
            Message::Offer(body) => pack(15, body),
            Message::Wanted(body) => pack(16, body),
            Message::Met(body) => pack(17, body),
            Message::Recognised(body) => pack(18, body),
            Message::AskMet => pack(19, &()),
            Message::Raise(body) => pack(20, body),
            Message::Raised(body) => pack(21, body),
            Message::Named(body) => pack(22, body),
        }
    }

    /// Reads a control frame.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but a message of this protocol within its bounds.
    pub fn decode(frame: &[u8]) -> Result<Message, DecodeError> {
        if frame.len() > FRAME_BYTES_MAX {
            let (found, limit) = (frame.len() as u64, FRAME_BYTES_MAX as u64);
            return Err(DecodeError::Bound { what: "bytes of a control frame", found, limit });
        }
        let (kind, body) = frame.split_first().ok_or(DecodeError::Truncated)?;
        Ok(match kind {
            1 => Message::Open(unpack(body)?),
            2 => Message::Accept(unpack(body)?),
            3 => Message::Refuse(unpack(body)?),
            4 => Message::AskRoots(unpack(body)?),
            5 => Message::Roots(unpack(body)?),
            6 => Message::Compare(unpack(body)?),
            7 => Message::Compared(unpack(body)?),
            8 => Message::List(unpack(body)?),
            9 => Message::Want(unpack(body)?),
            10 => Message::Written(unpack(body)?),
            11 => Message::Bye(unpack(body)?),
            12 => Message::Differing(unpack(body)?),
            13 => Message::AskCells(unpack(body)?),
            14 => Message::Cells(unpack(body)?),
            15 => Message::Offer(unpack(body)?),
            16 => Message::Wanted(unpack(body)?),
            17 => Message::Met(unpack(body)?),
            18 => Message::Recognised(unpack(body)?),
            19 => unpack::<()>(body).map(|()| Message::AskMet)?,
            20 => Message::Raise(unpack(body)?),
            21 => Message::Raised(unpack(body)?),
            22 => Message::Named(unpack(body)?),
            _ => return Err(DecodeError::Malformed("kind of message")),
        })
    }
}

fn pack<T: Serialize>(kind: u8, body: &T) -> Vec<u8> {
    let mut out = vec![kind];
    // Writing plain data into memory cannot fail.
    rmp_serde::encode::write(&mut out, body).expect("a message is plain data");
    out
}

fn unpack<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DecodeError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
    deserializer.set_max_depth(8);
    T::deserialize(&mut deserializer).map_err(|_| DecodeError::Malformed("message"))
}
