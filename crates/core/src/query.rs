//! The questions that a session asks of a store, and the answers, as plain values.
//!
//! Who answers them, and from where, is left to the driver and the store contract.

use serde::{Deserialize, Serialize};

use crate::brakes::Losses;
use crate::collect::Horizon;
use crate::dataset::CollectionId;
use crate::digest::Digest;
use crate::entry::Entry;
use crate::life::{Life, Sighting};
use crate::range::{Position, Range};
use crate::record::{Dot, Record, State, Version};
use crate::sketch::{Element, Sketch};
use crate::stamp::{Millis, Stamp};
use crate::tree::Summary;

/// The state that a side compares at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The store's commit number: it rises with each commit and never falls.
    pub commit: u64,
    /// The last stamp that the store had given out or seen by then: what it writes later has a greater one.
    pub stamp: Stamp,
    /// Up to where its tombstones were collected ([`Horizon::stamp`]).
    pub horizon: Stamp,
    /// The commit at which it last put back what a run had changed: what it had before it need not have any more.
    pub undone: u64,
    /// Up to when everything that expires has expired in it; 0 where nothing ever did.
    pub watermark: Millis,
    /// The root of each collection, in the definition's order.
    pub roots: Vec<Summary>,
}

/// A range to be looked at, and how many levels below it (0 to [`crate::bounds::LEVELS_MAX`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The range.
    pub range: Range,
    /// How many levels below it.
    pub levels: u8,
}

/// What a side has in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The range.
    pub range: Range,
    /// What it is worth.
    pub summary: Summary,
    /// How it looks inside.
    pub shape: Shape,
}

/// How a range looks inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No entries.
    Empty,
    /// A leaf: all entries, sorted.
    Leaf(Vec<Entry>),
    /// An inner node: the summaries of its 16^levels parts, in order. A summary exists for every
    /// range, also below a leaf: that of the entries that fall in it.
    Inner(Vec<Summary>),
}

/// What a side knows of one record, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where its key lies.
    pub position: Position,
    /// The key.
    pub key: Vec<u8>,
    /// The digest of its entry; none where the profile gives the record no entry.
    pub digest: Option<Digest>,
    /// Its versions, newest first.
    pub versions: Vec<VersionInfo>,
    /// The commit that last changed it.
    pub commit: u64,
}

/// One version without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// Who wrote it, when, having seen what.
    pub version: Version,
    /// The digest of its content; none for a tombstone.
    pub content: Option<Digest>,
    /// Bytes of its content.
    pub bytes: u64,
    /// When it stops being visible, if it does.
    pub expires: Option<Millis>,
}

/// Which records to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of a range.
    Range(Range),
    /// Those at these positions whose entry digests begin so ([`Digest::short`]); one that has moved
    /// since is skipped and counted.
    Entries(Vec<(Position, u64)>),
    /// The same, of which the receiver holds the contents: they travel without.
    Bare(Vec<(Position, u64)>),
    /// Some versions of records, by position and name; a record of which none is there any more is skipped and counted.
    Versions {
        /// Whether the receiver holds their contents, so that they travel without.
        bare: bool,
        /// Which of which.
        of: Vec<(Position, Vec<Dot>)>,
    },
    /// Those whose entries these elements stand for, told by so many of their first bits, the others zero; one that has
    /// moved since, or that two answer to, is skipped and counted.
    Elements(u32, Vec<Element>),
}

/// A part of what was selected, in order of position and key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// Where to go on; none at the end.
    pub next: Option<(Position, Vec<u8>)>,
    /// Selected entries that had moved.
    pub moved: u64,
}

/// When a record may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Always, by joining its versions with those that are there.
    Join,
    /// The same, and its values are the digests of contents that are here already: where one is not, it has moved.
    Bare,
    /// Only over the entry that was compared, told by [`Digest::short`]; none: only where there was no entry.
    IfShort(Option<u64>),
}

/// A record that a session wants written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The record.
    pub record: Record,
    /// When it may be written.
    pub guard: Guard,
}

/// What became of a batch. `applied + kept + moved + refused.len()` is the size of the batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Records that changed the store.
    pub applied: u64,
    /// Records that the store already had, or had newer.
    pub kept: u64,
    /// Records whose guard no longer held.
    pub moved: u64,
    /// Records that may not be stored, with the reason.
    pub refused: Vec<(Vec<u8>, String)>,
    /// The commit that holds them.
    pub commit: u64,
    /// Live records that were overwritten by other content or deleted, as readers of this store see them.
    pub losses: Losses,
}

/// What a key is to hold under a new version of this store's, which has seen all that was there and more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overwrite {
    /// The key.
    pub key: Vec<u8>,
    /// Only over the entry that was compared, told by [`Digest::short`]; none: only where there was no entry.
    pub expected: Option<u64>,
    /// What it is to hold.
    pub content: Replacement,
    /// Versions elsewhere that the new one supersedes too.
    pub seen: Vec<Version>,
}

/// What a key is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// What it holds now; a tombstone where that is nothing.
    Keep,
    /// Nothing: a tombstone.
    Delete,
    /// This value.
    Take(Vec<u8>, Option<Millis>),
    /// What readers see of this state, which another store holds, or this one held before.
    Shown(State),
}

/// Whether a store is the life that a peer met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// It is.
    Same,
    /// Perhaps not; who knows all that the peer remembers can tell.
    Unsure,
    /// It was restored or copied since, and has begun a new life now.
    Renewed,
}

/// What a store makes of a peer's horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Raising {
    /// It collects up to there now, or did before.
    Raised,
    /// It was not among those that had passed it: it may hold what was deleted, and no tombstone tells any more.
    Behind,
    /// It does not collect, or the horizon lies ahead of its clock.
    Refused,
}

/// What a session asks of its own store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Its commit number and roots, read together; answered by [`Answer::Cut`].
    Cut,
    /// The same, once what expires up to a time has expired, or up to its own clock if there is none. That time lies beyond
    /// its clock by no more than its bound.
    Expire(Option<Millis>),
    /// The same as by its own clock, of a store that is about to be introduced to a peer: this opening of it is on record,
    /// synced.
    Introduce,
    /// A peer's store introduces itself, with its commit number; answered by [`Answer::Met`].
    Meet(Life, u64),
    /// One that was in doubt is the life that was met in this opening: that is to be remembered; answered by
    /// [`Answer::Confirmed`].
    Confirm(Life, u64, Sighting),
    /// What a peer remembers of this store, and whether that is all; answered by [`Answer::Recognised`].
    Recognise(Vec<Sighting>, bool),
    /// Its horizon, with those who have passed it; answered by [`Answer::Horizon`].
    Horizon,
    /// Collect up to a peer's horizon, if it has passed it; answered by [`Answer::Raised`].
    Raise(Horizon),
    /// Views of ranges, from one snapshot; answered by [`Answer::Views`], one for each, in order.
    Views(CollectionId, Vec<Ask>),
    /// What it knows of the records in these ranges, each of few positions; answered by [`Answer::Items`], in order of
    /// position and key.
    Items(CollectionId, Vec<Range>),
    /// The first cells that it keeps of each range, at most so many; answered by [`Answer::Sketches`], in order.
    Sketches(CollectionId, Vec<Range>, usize),
    /// What each range is worth without the sorted parts beside it ([`crate::tree::rest`]); answered by [`Answer::Rests`].
    Rests(CollectionId, Vec<(Range, Vec<Range>)>),
    /// All records of a range after a position and key, without content, some at a time; answered by [`Answer::Listed`].
    List(CollectionId, Range, Option<(Position, Vec<u8>)>),
    /// Write these records; answered by [`Answer::Applied`].
    Apply(CollectionId, Vec<Incoming>),
    /// Write these under new versions; answered by [`Answer::Applied`].
    Overwrite(CollectionId, Vec<Overwrite>),
    /// Make all that was applied durable; answered by [`Answer::Synced`].
    Sync,
}

impl Query {
    /// The places of single keys that it is about, if it is about some.
    pub(crate) fn places(&self) -> &[Range] {
        match self {
            Query::Items(_, places) => places,
            _ => &[],
        }
    }
}

/// What the store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Query::Cut`], [`Query::Expire`] and [`Query::Introduce`].
    Cut(Cut),
    /// To [`Query::Meet`]: the own cut, as by [`Query::Introduce`], and what is remembered of that store, if it may be another
    /// life.
    Met(Cut, Vec<Sighting>),
    /// To [`Query::Confirm`]: whether it is remembered, or another life was met meanwhile.
    Confirmed(bool),
    /// To [`Query::Recognise`].
    Recognised(Recognition),
    /// To [`Query::Horizon`].
    Horizon(Horizon),
    /// To [`Query::Raise`].
    Raised(Raising),
    /// To [`Query::Views`].
    Views(Vec<View>),
    /// To [`Query::Items`].
    Items(Vec<Item>),
    /// To [`Query::Sketches`]; one without cells where it keeps none.
    Sketches(Vec<Sketch>),
    /// To [`Query::Rests`].
    Rests(Vec<Summary>),
    /// To [`Query::List`]: some items, and where to go on.
    Listed(Vec<Item>, Option<(Position, Vec<u8>)>),
    /// To [`Query::Apply`] and [`Query::Overwrite`].
    Applied(Applied),
    /// To [`Query::Sync`].
    Synced,
}
