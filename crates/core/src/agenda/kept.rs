//! What is remembered of a job, as bytes: whether it is paused, what was tuned, when it is due, and how its runs ended.
//!
//! Where those bytes lie, and that they are replaced whole, is for whoever keeps them.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::Pass;
use super::parked::{Named, Parking, Trial};
use super::spending::Spent;
use crate::range::Range;
use crate::sealed::{KeptError, seal, unseal};
use crate::stamp::Millis;

/// Runs of a job that are remembered; the oldest go first.
pub const HISTORY_MAX: usize = 256;
/// Keys of a job that are remembered with when they were first seen to differ.
pub const OPEN_KEYS_MAX: usize = 4_096;
/// Bytes that are kept of why a run failed.
pub const CAUSE_BYTES_MAX: usize = 512;
/// Ranges that are kept of where a run has proven nothing, the widest first.
pub const RANGES_KEPT_MAX: usize = 16;
/// Indexes of tables that are kept of a job.
pub const INDEXES_MAX: usize = 1_024;
/// What every file begins with; the last byte is the version.
const MAGIC: &[u8; 8] = b"reknitJ\x01";

/// Why a run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was due.
    Schedule,
    /// Somebody asked for it, and does not wait.
    Asked,
    /// Somebody does it, and waits.
    Hand,
    /// The one before it failed.
    Retry,
}

/// A run that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Its number; the first run of a job is 1.
    pub number: u64,
    /// When it began.
    pub began: Millis,
    /// Why.
    pub cause: Cause,
    /// When it is to have ended.
    pub until: Millis,
    /// What bounds it so; nothing where an earlier release began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
}

/// What bounds how long a run may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// How long any run may take.
    Longest,
    /// What is left of how long all runs of a day may take.
    Day,
    /// The window in which it began.
    Window,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunVerdict {
    /// The sides were equal, all of them.
    InSync,
    /// They were equal at the cut.
    Converged,
    /// They differ.
    Differs,
    /// A store was read against its tree, and is what was written.
    Sound,
    /// It is not: damage of this one store, and no difference between two.
    Damaged,
    /// Some ranges were not compared.
    Partial,
    /// Nothing can be said: a side could not answer.
    Undetermined,
    /// It was refused.
    Refused,
    /// Somebody cancelled it.
    Cancelled,
    /// The node ended in the middle of it.
    Interrupted,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// Its number.
    pub number: u64,
    /// When it began.
    pub began: Millis,
    /// When it ended; where that is not known, when it was last known to go on.
    pub ended: Millis,
    /// Whether its end is not known: the process ended before it could be noted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end_unknown: bool,
    /// Why it began.
    pub cause: Cause,
    /// How it ended.
    pub verdict: RunVerdict,
    /// What a command would have exited with.
    pub exit: u8,
    /// Keys that differed, if they were counted.
    pub differences: Option<u64>,
    /// Whether that is about how many, as of a check that lists none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// The same by how they differed, where they were listed; classes without any are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, u64>,
    /// Records that were compared, of each side, if it came so far.
    pub records: Option<[u64; 2]>,
    /// Records that were written to each side.
    pub written: [u64; 2],
    /// Bytes that the sides said to each other.
    pub bytes: u64,
    /// The error's id and what it says, if it failed.
    pub error: Option<(String, String)>,
    /// What ended it, if it was told to end for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Where it has proven nothing, if it ended before its end.
    #[serde(default, skip_serializing_if = "Unproven::is_empty")]
    pub unproven: Unproven,
    /// Parked ranges that it left out, if it came to its end with all the rest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parked: u64,
    /// Of each sixteenth of all positions whether it was compared to its end, in all collections: the lowest bit is `0*`.
    #[serde(skip)]
    pub verified: u16,
    /// What it left out, and what it tried of what is parked.
    #[serde(skip)]
    pub trial: Trial,
    /// Where a store could not answer, if that ended it.
    #[serde(skip)]
    pub stuck: Option<Named>,
    /// The indexes of tables that it followed.
    #[serde(skip)]
    pub indexes: Vec<FreshIndex>,
    /// Keys that differ and were left, by the first bytes of their digest; nothing if they were not listed, or not all.
    #[serde(skip)]
    pub seen: Option<OpenKeys>,
    /// Whether it made a part of a pass through a store, which goes on with the next run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
    /// How far that has come.
    #[serde(skip)]
    pub pass: Option<Pass>,
}

/// Ranges in which a run has proven nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproven {
    /// Some of them, each with the name of its collection or table; at most [`RANGES_KEPT_MAX`] are kept of a run.
    pub ranges: Vec<(String, Range)>,
    /// How many there are beyond those.
    pub more: u64,
}

impl Unproven {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.more == 0
    }

    /// The same with at most so many named, those that come first.
    #[must_use]
    pub fn at_most(mut self, named: usize) -> Unproven {
        self.more += self.ranges.len().saturating_sub(named) as u64;
        self.ranges.truncate(named);
        self
    }
}

/// When each sixteenth of all positions was last compared to its end, whatever was found; by the first hex digit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified([Option<Millis>; 16]);

impl Verified {
    /// Notes when those of these sixteenths were; the lowest bit is `0*`.
    pub fn note(&mut self, sixteenths: u16, at: Millis) {
        let those = self.0.iter_mut().enumerate().filter(|(nth, _)| sixteenths >> nth & 1 == 1);
        those.for_each(|(_, verified)| *verified = Some(at));
    }

    /// When the one was that has waited longest; none while one never was.
    pub fn oldest(&self) -> Option<Millis> {
        self.0.iter().min().copied().flatten()
    }

    fn is_none(&self) -> bool {
        self.0 == [None; 16]
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Keys that a run saw differ, by the first 8 bytes of a digest.
pub type OpenKeys = std::collections::BTreeSet<u64>;

impl Ran {
    /// A run that was cut short by the end of the process, as far as it is known.
    pub fn cut(begun: Begun, now: Millis) -> Ran {
        Ran {
            number: begun.number,
            began: begun.began,
            ended: now,
            end_unknown: false,
            cause: begun.cause,
            verdict: RunVerdict::Interrupted,
            exit: 3,
            differences: None,
            estimated: false,
            classes: BTreeMap::new(),
            records: None,
            written: [0; 2],
            bytes: 0,
            error: None,
            limit: None,
            unproven: Unproven::default(),
            parked: 0,
            verified: 0,
            trial: Trial::default(),
            indexes: Vec::new(),
            stuck: None,
            seen: None,
            goes_on: false,
            pass: None,
        }
    }

    /// Whether it proved both sides equal.
    pub fn equal(&self) -> bool {
        matches!(self.verdict, RunVerdict::InSync | RunVerdict::Converged)
    }

    /// Whether it is worth trying again before it is due: nothing, or not all, can be said.
    pub fn failed(&self) -> bool {
        match self.verdict {
            // What is parked is tried again at its own time, and holds up nothing; a pass goes on when it is due.
            RunVerdict::Partial => self.parked == 0 && !self.goes_on,
            verdict => matches!(verdict, RunVerdict::Undetermined | RunVerdict::Interrupted),
        }
    }
}

impl RunVerdict {
    /// As it is written for machines.
    pub fn name(self) -> &'static str {
        match self {
            RunVerdict::InSync => "in_sync",
            RunVerdict::Converged => "converged",
            RunVerdict::Differs => "differs",
            RunVerdict::Sound => "sound",
            RunVerdict::Damaged => "damaged",
            RunVerdict::Partial => "partial",
            RunVerdict::Undetermined => "undetermined",
            RunVerdict::Refused => "refused",
            RunVerdict::Cancelled => "cancelled",
            RunVerdict::Interrupted => "interrupted",
        }
    }
}

impl Cause {
    /// As it is written for machines.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Schedule => "schedule",
            Cause::Asked => "asked",
            Cause::Hand => "hand",
            Cause::Retry => "retry",
        }
    }
}

/// What was tuned of a job while the node ran; it goes before what is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuned {
    /// When it is due, as it would be written in the configuration.
    pub at: Option<String>,
    /// Its jitter, in milliseconds.
    pub jitter: Option<Millis>,
    /// After how many milliseconds its session ends with what is known.
    pub max_time: Option<Millis>,
    /// After about how many bytes.
    pub max_bytes: Option<u64>,
    /// How long all of its runs of a day may take together, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_time_per_day: Option<Millis>,
    /// About how many bytes they may cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes_per_day: Option<u64>,
}

/// An index of a table, when it was last made to tell what that held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshIndex {
    /// Its name.
    pub index: String,
    /// The table, without a password.
    pub table: String,
    /// When that was.
    pub at: Millis,
    /// Changes, about, that waited in its feed just before; nothing if it has none, or that cannot tell.
    pub waited: Option<u64>,
    /// Bytes of its log that the database kept for the feed then.
    pub kept_bytes: Option<u64>,
}

/// What is remembered of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Since when it is paused.
    pub paused: Option<Millis>,
    /// What was tuned.
    pub tuned: Tuned,
    /// When it is due as it was when that was planned.
    pub planned: Option<String>,
    /// The slot of its next run; of the one that runs until that has ended.
    pub slot: Option<Millis>,
    /// When the next run begins: its slot and jitter, or earlier or later after a failure.
    pub due: Option<Millis>,
    /// Whether somebody asked for a run that has not begun.
    pub asked: bool,
    /// Runs that have begun.
    pub runs: u64,
    /// The one that has not ended.
    pub running: Option<Begun>,
    /// When that was last noted to go on; what it took by then counts already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive: Option<Millis>,
    /// Runs in a row of which nothing, or not all, can be said.
    pub failures: u32,
    /// Slots that passed without a run.
    pub missed: u64,
    /// What the runs of the last day with one have cost, where that is bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
    /// Where runs got stuck, and what is left out until it is tried again.
    #[serde(default, skip_serializing_if = "Parking::is_empty")]
    pub parking: Parking,
    /// When both sides were last proven equal.
    pub proven: Option<Millis>,
    /// Since when it is wanted that they are proven equal within some time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Millis>,
    /// When each part of them was last compared to its end.
    #[serde(default, skip_serializing_if = "Verified::is_none")]
    pub verified: Verified,
    /// How far a pass through its store has come, or what it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<Pass>,
    /// When its store was last found sound, all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound: Option<Millis>,
    /// The indexes of tables that its runs have followed, by their names: at most [`INDEXES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<FreshIndex>,
    /// When they were first seen to differ since.
    pub open: Option<Millis>,
    /// When keys that still differ were first seen to, by the first 8 bytes of their digest; empty where they are not listed.
    pub keys: BTreeMap<u64, Millis>,
    /// How its last runs ended, the newest last.
    pub history: VecDeque<Ran>,
}

impl Kept {
    /// As bytes: what they are, MessagePack, the digest of both.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Numbers, texts and options of them are always written.
        seal(MAGIC, &rmp_serde::to_vec_named(self).expect("a job is numbers and texts"))
    }

    /// Reads what [`Kept::to_bytes`] has written.
    ///
    /// # Errors
    /// [`KeptError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Kept, KeptError> {
        rmp_serde::from_slice(unseal(MAGIC, bytes)?).map_err(|_| KeptError::Damaged)
    }

    /// When the oldest difference that is still open was first seen, as far as it is known.
    pub fn oldest(&self) -> Option<Millis> {
        self.keys.values().min().copied().or(self.open)
    }

    /// How far a pass has come that goes on with the next run.
    pub fn passing(&self) -> Option<&Pass> {
        self.pass.as_ref().filter(|pass| pass.next().is_some())
    }

    /// The last run that has ended.
    pub fn last(&self) -> Option<&Ran> {
        self.history.back()
    }

    /// Takes what was noted later than now for noted now; says whether something was.
    pub(super) fn set_right(&mut self, now: Millis) -> bool {
        let noted = [&mut self.proven, &mut self.wanted, &mut self.open].into_iter().flatten();
        let noted = noted.chain(self.keys.values_mut()).chain(self.verified.0.iter_mut().flatten());
        let noted = noted.chain(self.pass.as_mut().map(|pass| &mut pass.began)).chain(&mut self.sound);
        let noted = noted.chain(self.indexes.iter_mut().map(|index| &mut index.at));
        let mut any = false;
        for at in noted.filter(|at| **at > now) {
            (*at, any) = (now, true);
        }
        any
    }

    /// Notes which indexes a run has followed; one that came to its end has followed all that there are.
    fn note_indexes(&mut self, followed: Vec<FreshIndex>, all: bool) {
        if all && !followed.is_empty() {
            self.indexes.clear();
        }
        for index in followed {
            self.indexes.retain(|known| known.index != index.index);
            self.indexes.push(index);
        }
        self.indexes.drain(..self.indexes.len().saturating_sub(INDEXES_MAX));
    }

    /// Notes how a run ended.
    pub(super) fn note(&mut self, mut ran: Ran) {
        // The clock may have been set back since.
        let began = ran.began.min(ran.ended);
        if ran.equal() {
            self.proven = Some(ran.ended);
            self.open = None;
            self.keys.clear();
        } else if ran.verdict == RunVerdict::Differs {
            self.open.get_or_insert(began);
            let seen = ran.seen.take().filter(|seen| seen.len() <= OPEN_KEYS_MAX).unwrap_or_default();
            let first = |key: u64| (key, self.keys.get(&key).copied().unwrap_or(began));
            self.keys = seen.into_iter().map(first).collect();
        }
        // A part was compared some time within the run.
        let whole = ran.verified == u16::MAX;
        self.verified.note(std::mem::take(&mut ran.verified), if whole { ran.ended } else { began });
        match ran.pass.take() {
            // Of one that found nothing nothing is left to know.
            Some(pass) => self.pass = (pass.next().is_some() || pass.faults > 0).then_some(pass),
            // The job compares two sides now.
            None if ran.records.is_some() => (self.pass, self.sound) = (None, None),
            None => {}
        }
        if ran.verdict == RunVerdict::Sound {
            self.sound = Some(ran.ended);
        }
        self.note_indexes(std::mem::take(&mut ran.indexes), ran.equal() || ran.verdict == RunVerdict::Differs);
        (ran.seen, ran.stuck, ran.trial) = (None, None, Trial::default());
        ran.unproven = ran.unproven.at_most(RANGES_KEPT_MAX);
        self.history.push_back(ran);
        while self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
    }
}
