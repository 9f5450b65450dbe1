//! Sessions: one reconciliation between two peers, as two state machines.
//!
//! The [`Opener`] drives: it opens ranges, judges differences and gives the verdict. The
//! [`Responder`] answers and remembers nothing between requests but its cut and open transfers.
//! Neither calls a store, a socket or a clock: inputs go in, outputs come out, a driver does the rest.
//!
//! **Termination.** Every request either ends a range or opens ranges that lie strictly below it, and
//! a range of one position has none below; a session looks again at most [`crate::bounds::ROUNDS_MAX`] times.
//! **Cost.** One flight a level of the tree; nothing is read or sent for ranges that are equal.

mod base;
mod cells;
mod comparing;
mod descent;
mod expiry;
mod gate;
mod joint;
mod left;
mod level;
mod lost;
mod meeting;
mod mirror;
mod offers;
mod opener;
mod pairing;
mod parked;
mod picked;
mod planner;
mod recheck;
mod request;
mod responder;
mod rounds;
mod scope;
mod shown;
#[cfg(test)]
mod tests;
mod tolerated;
mod transfers;
mod unproven;
mod wanted;
mod witness;

pub use base::Base;
pub use level::{Behind, Other};
pub use opener::Opener;
pub use parked::{Parked, STUCK_MAX, Stuck};
pub use picked::{PICKED_MAX, Picked, PickedKey};
pub use planner::{Plan, Planner, Why};
pub use responder::Responder;
pub use scope::Grant;
pub use tolerated::Tolerated;
pub use unproven::{UNPROVEN_MAX, Unproven};

use serde::{Deserialize, Serialize};

use crate::bounds::REQUESTS_MAX;
use crate::brakes::{Braked, Brakes};
use crate::canonical::DecodeError;
use crate::dataset::CollectionId;
use crate::difference::{Difference, Side};
use crate::message::{Message, Refuse, Transfer};
use crate::query::{Answer, Cut, Incoming, Query, Selection};
use crate::receipt::Receipt;
use crate::record::Record;
use crate::stamp::Millis;
use crate::tree::Summary;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    /// Roots only: a verdict, and an estimate if they differ.
    Check,
    /// Every difference, exact and classified; nothing is written.
    Diff,
    /// Makes the sides named equal to the winners.
    Repair(Direction),
}

/// Which sides a repair may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Both.
    Both,
    /// Only this one.
    To(Side),
}

impl Direction {
    /// Whether this side may be written.
    pub fn writes(self, side: Side) -> bool {
        self == Direction::Both || self == Direction::To(side)
    }
}

/// How an opener goes about it. A local choice: only the scope is told to the peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// What the session is for.
    pub intent: Intent,
    /// How long a difference must stand still before it counts, in milliseconds.
    pub settle: Millis,
    /// Bytes of a digest that travel while ranges are compared, 1 to 32. A wrong "equal" at this
    /// width is caught by the roots and compared again at 32.
    pub width: u8,
    /// Makes this side exactly the other, with new versions that supersede what both had; only of a repair.
    pub mirror: Option<Side>,
    /// Requests that may wait for their answer at once, 1 to [`crate::bounds::REQUESTS_MAX`]: few where a budget of bytes is
    /// small, since what was asked for still arrives.
    pub requests: usize,
    /// The collections that the session is about; none named: all of the dataset.
    pub scope: Vec<CollectionId>,
    /// How it goes about finding what differs.
    pub planner: Planner,
    /// What a repair may lose each written side; none: whatever follows. A mirror may lose only the mirrored side.
    pub brakes: Option<Brakes>,
    /// Whether a receipt is signed, where both sides can; of a repair, unless told otherwise.
    pub receipt: bool,
    /// This side's value wins where both were written apart: under a new version that has seen both, whatever the policy.
    /// Only of a repair of both sides, which then compares whole versions; no part of a mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<Side>,
    /// Whether the opener's side may be written from a peer that has collected further, though it is not level with it: it has
    /// missed that and catches up.
    #[serde(skip)]
    pub catching_up: bool,
    /// Whether tombstones are not collected here because the peer has collected further: it may not write all that there is here
    /// (M20). Not told to a node that holds the session.
    #[serde(skip)]
    pub keeps_horizon: bool,
    /// The keys that a repair is about; none named: all that differ. Not told to a node that holds the session.
    #[serde(skip)]
    pub picked: Option<std::sync::Arc<Picked>>,
    /// What was equal once, and has changed since; only of bare content. Not told to a node that holds the session.
    #[serde(skip)]
    pub base: Option<std::sync::Arc<Base>>,
    /// What differs and is left; only of bare content. Not told to a node that holds the session.
    #[serde(skip)]
    pub tolerated: Option<std::sync::Arc<Tolerated>>,
    /// What is left out, or tried with care, since a store could not answer for it before; then differences are found by
    /// comparing ranges alone. Nothing of that for a check. Not told to a node that holds the session.
    #[serde(skip)]
    pub parked: Option<std::sync::Arc<Parked>>,
}

impl Options {
    /// The defaults for an intent: half a second to settle, six bytes of digest.
    pub fn new(intent: Intent) -> Options {
        let planner = Planner::default();
        let receipt = matches!(intent, Intent::Repair(_));
        Options {
            intent,
            settle: 500,
            width: 6,
            mirror: None,
            requests: REQUESTS_MAX,
            scope: Vec::new(),
            planner,
            brakes: None,
            receipt,
            prefer: None,
            catching_up: false,
            keeps_horizon: false,
            base: None,
            tolerated: None,
            parked: None,
            picked: None,
        }
    }
}

/// What goes into a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is said in a line")]
pub enum Input {
    /// A message from the peer.
    Message(Message),
    /// The store's answer to the question that was asked last.
    Answer(Answer),
    /// Records of a transfer, in order.
    Records { transfer: Transfer, records: Vec<Incoming> },
    /// The end of a transfer, after its last records.
    End { transfer: Transfer, records: u64, moved: u64 },
    /// Nothing but the time.
    Time,
    /// Give the verdict with what is known: a budget is used up or someone interrupts. What the store is writing is waited for,
    /// so that it is counted; said once more, it is not.
    Stop,
    /// Give it since nothing can be said to the peer any more, nor heard of it: the link is gone.
    Lost,
}

/// What comes out of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is said in a line")]
pub enum Output {
    /// Send this on the control lane.
    Send(Message),
    /// Ask the store; one question is open at a time.
    Ask(Query),
    /// Stream these records of the store to the peer, and the given ones, then the end of the transfer.
    Stream { transfer: Transfer, selections: Vec<Selection>, given: Vec<Record>, guards: Guards },
    /// What was chosen, and why: for logs.
    Planned(Plan),
    /// A difference.
    Found(Difference),
    /// The session is over.
    Done(Box<Outcome>),
}

/// How the records of a transfer are guarded where they arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guards {
    /// Versions are joined.
    Join,
    /// Each key only over the entry that was compared, told short; a key that is not named, over none.
    Compared(std::collections::BTreeMap<Vec<u8>, Option<u64>>),
}

/// What a session concludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Verdict {
    /// Both roots were the same while nothing moved.
    InSync,
    /// Every range was equal or resolved at the cut; what was written since is in flight.
    Converged,
    /// There are differences that stood still.
    Differs,
    /// Some ranges are unproven.
    Partial,
    /// Nothing can be said: interrupted, moving, or the peer could not answer.
    Undetermined,
    /// The peer let no session begin, or brakes stopped it; unless records were on their way, nothing changed.
    Refused,
}

impl Verdict {
    /// Its name in output and logs.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::InSync => "in_sync",
            Verdict::Converged => "converged",
            Verdict::Differs => "differs",
            Verdict::Partial => "partial",
            Verdict::Undetermined => "undetermined",
            Verdict::Refused => "refused",
        }
    }
}

/// What became of records sent to one side. `offered = applied + kept + moved + refused`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    /// Records that were sent.
    pub offered: u64,
    /// Records that changed the side.
    pub applied: u64,
    /// Records that the side had, or had newer.
    pub kept: u64,
    /// Records whose guard no longer held, or that moved before they were read.
    pub moved: u64,
    /// Records that the side may not store.
    pub refused: u64,
}

impl Moves {
    /// At least so many have changed the side: more than is counted, where a session was cut short.
    pub fn wrote(&mut self, written: u64) {
        let more = written.saturating_sub(self.applied);
        self.applied += more;
        self.offered += more;
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Moves) -> Moves {
        Moves {
            offered: self.offered + other.offered,
            applied: self.applied + other.applied,
            kept: self.kept + other.kept,
            moved: self.moved + other.moved,
            refused: self.refused + other.refused,
        }
    }
}

/// What a session counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Keys that only the opener has.
    pub only_mine: u64,
    /// Keys that only the responder has.
    pub only_theirs: u64,
    /// Keys that the opener has newer, concurrent ones included.
    pub mine_newer: u64,
    /// Keys that the responder has newer, concurrent ones included.
    pub theirs_newer: u64,
    /// Keys whose versions had not seen each other, as far as whole versions were compared: records that a repair of both
    /// sides settles by their marks count as newer on one side.
    pub concurrent: u64,
    /// Keys with the same content under different versions.
    pub versions: u64,
    /// Keys with different content and no order.
    pub content: u64,
    /// Keys with different content that is tolerated; no peer is told.
    #[serde(skip)]
    pub tolerated: u64,
    /// Differences that did not stand still.
    pub in_flight: u64,
    /// Differences that the direction of the repair leaves as they are.
    pub left: u64,
    /// Records to the opener's store.
    pub to_mine: Moves,
    /// Records to the responder's store.
    pub to_theirs: Moves,
    /// Bursts of messages, one-way.
    pub flights: u64,
    /// Messages both ways.
    pub messages: u64,
    /// Times that the roots were looked at again.
    pub rounds: u32,
}

impl Counts {
    /// All keys found to differ.
    pub fn differences(&self) -> u64 {
        let ordered = self.only_mine + self.only_theirs + self.mine_newer + self.theirs_newer;
        ordered + self.versions + self.content + self.tolerated
    }
}

/// About how many keys differ, from roots and the parts of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// The likely number.
    pub likely: u64,
    /// At least so many (95 of 100 times).
    pub low: u64,
    /// At most so many (95 of 100 times).
    pub high: u64,
}

impl Estimate {
    /// Whether they were counted.
    pub fn is_exact(&self) -> bool {
        self.low == self.high
    }
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The conclusion.
    pub verdict: Verdict,
    /// Why, in words, where the verdict alone does not say it.
    pub reason: String,
    /// The state that the opener compared at, or at which both sides were found equal.
    pub cut_mine: Cut,
    /// The commit number that the responder compared at, or had when both sides were found equal.
    pub cut_theirs: u64,
    /// The root of the opener's collections in scope when the verdict was given.
    pub root_mine: Summary,
    /// The responder's.
    pub root_theirs: Summary,
    /// What was counted.
    pub counts: Counts,
    /// The share of the dataset's positions that was proven, 0 to 1 in millionths.
    pub coverage_millionths: u32,
    /// About how many keys differ; only of a check.
    pub estimate: Option<Estimate>,
    /// The refusal, if there was one.
    pub refusal: Option<Refuse>,
    /// The brake that stopped it, if one of the opener's did.
    pub braked: Option<Braked>,
    /// Picked keys that had moved and were left as they are.
    pub skipped: Vec<(CollectionId, Vec<u8>)>,
    /// Some records that a side may not store: collection, key, reason.
    pub refused: Vec<(CollectionId, Vec<u8>, String)>,
    /// Whether the peer knows other members of the dataset; they are compared in a session of their own.
    pub members_differ: bool,
    /// Whether a side has collected, or the opener let expire, as far as the other now, so that the same session goes on when
    /// it is opened again.
    pub raised: bool,
    /// The side that has to be caught up with before records move, if one has: not told by a node that holds a session.
    #[serde(skip)]
    pub behind: Option<Behind>,
    /// The responder, if its horizon is another than the opener's: not told by a node that holds a session.
    #[serde(skip)]
    pub other: Option<Other>,
    /// What both sides signed, if both would: not told by a node that holds a session.
    #[serde(skip)]
    pub receipt: Option<Box<Receipt>>,
    /// Where nothing was proven, if it ended before its end or something was left out: told apart by a node that holds a session.
    #[serde(skip)]
    pub unproven: Unproven,
    /// How many ranges were left out, if all else was compared to its end: not told by a node that holds a session.
    #[serde(skip)]
    pub left_out: u64,
    /// Where the responder's store could not answer, if that ended the session: not told by a node that holds a session.
    #[serde(skip)]
    pub stuck: Option<Stuck>,
}

/// Why a check has no verdict where both sides were written all the time.
pub(crate) const KEEP_MOVING: &str = "the roots differ and keep moving; `diff` can tell more";

impl Outcome {
    /// Whether it was a check that heard both roots, again and again, and another one each time.
    pub fn keeps_moving(&self) -> bool {
        self.verdict == Verdict::Undetermined && self.reason == KEEP_MOVING
    }

    /// Of a session of which nothing is known yet, from a side that stands like this.
    pub(crate) fn begun(cut_mine: Cut) -> Self {
        Self {
            verdict: Verdict::Undetermined,
            reason: String::new(),
            cut_mine,
            cut_theirs: 0,
            root_mine: Summary::default(),
            root_theirs: Summary::default(),
            counts: Counts::default(),
            coverage_millionths: 0,
            estimate: None,
            refusal: None,
            braked: None,
            skipped: Vec::new(),
            refused: Vec::new(),
            members_differ: false,
            raised: false,
            behind: None,
            other: None,
            receipt: None,
            unproven: Unproven::default(),
            left_out: 0,
            stuck: None,
        }
    }
}

/// A peer that breaks the protocol. Nothing more is to be sent to it; what was applied is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// Bytes that are not understood.
    Decode(DecodeError),
    /// A message that has no place here.
    Unexpected(&'static str),
    /// The driver gave an answer that no question asked for.
    Driver(&'static str),
}

impl std::fmt::Display for SessionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SessionError::Decode(error) => write!(f, "the peer sent bytes that are not understood: {error}"),
            SessionError::Unexpected(what) => write!(f, "the peer broke the protocol: {what}"),
            SessionError::Driver(what) => write!(f, "the driver broke its contract: {what}"),
        }
    }
}

impl std::error::Error for SessionError {}

impl From<DecodeError> for SessionError {
    fn from(error: DecodeError) -> Self {
        SessionError::Decode(error)
    }
}
