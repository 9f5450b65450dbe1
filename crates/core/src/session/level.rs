//! Before records move: whether both sides have collected tombstones up to the same horizon. The one that has not does it
//! first, and the session is opened again; one that may have missed what was collected is behind, and moves nothing.
//!
//! How far may be collected is found in [`crate::collect`]; how a store that is behind catches up is left to the node.

use super::opener::{Opener, Purpose};
use super::responder::{Responder, Stage};
use super::scope::Scope;
use super::{Intent, SessionError, Verdict};
use crate::collect::{Horizon, PASSED_MAX};
use crate::difference::Side;
use crate::life::Sighting;
use crate::message::{Message, Open, Rights};
use crate::query::{Cut, Query, Raising};

const RAISED: &str = "tombstones that all members have passed were collected first; the same command goes on";
const BEHIND_HERE: &str =
    "this store was away while tombstones were collected: it has to catch up before it gives anything";
const BEHIND_THERE: &str = "the peer was away while tombstones were collected: it has to catch up before anything moves; \
                            let it repair with this store from its side";
const LOWER_HERE: &str = "the peer has collected tombstones that this store still keeps: first let this store be written, \
                          or collect here (`gc`)";
const LOWER_THERE: &str = "the peer still keeps tombstones that were collected here: first let it be written, or let it \
                           collect (`gc`)";
const REFUSED_HERE: &str = "this store does not collect tombstones up to where the peer has: it lies ahead of the clock here, or \
                            nothing is collected in this kind of store";
const REFUSED_THERE: &str = "the peer does not collect tombstones up to where this store has: it lies ahead of the clock there, \
                             or this node may not write all of the dataset there";

/// A side that was away while tombstones were collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Which.
    pub side: Side,
    /// Up to where the other has collected, and who had passed that; if it is ours that is behind.
    pub horizon: Horizon,
}

/// A responder whose horizon is another: whom a side catches up with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Other {
    /// Its life.
    pub actor: u64,
    /// The commit at which it last put back what a run had changed.
    pub undone: u64,
}

impl Opener {
    /// Both lives are known: goes on if both horizons are one, or raises the lower (M20).
    pub(super) fn level(&mut self) -> Result<(), SessionError> {
        let told = self.meeting.accept.as_ref().and_then(|accept| accept.more.horizon.clone());
        let (Some(theirs), Intent::Repair(direction)) = (told, self.options.intent) else {
            return self.begin_after_meeting();
        };
        let mine = self.outcome.cut_mine.horizon;
        // Whoever only takes gives nothing that was deleted.
        if self.options.catching_up && mine < theirs.stamp && !direction.writes(Side::Theirs) {
            return self.begin_after_meeting();
        }
        if theirs.stamp == mine {
            return Err(SessionError::Unexpected("a horizon that does not differ"));
        }
        let theirs = bounded(theirs)?;
        match mine < theirs.stamp {
            true if direction.writes(Side::Mine) && !self.options.keeps_horizon => {
                self.ask(Query::Raise(theirs.clone()), Purpose::Raise(theirs));
            }
            false if direction.writes(Side::Theirs) => self.ask(Query::Horizon, Purpose::TellHorizon),
            true => self.finish(Verdict::Undetermined, LOWER_HERE.into()),
            false => self.finish(Verdict::Undetermined, LOWER_THERE.into()),
        }
        Ok(())
    }

    pub(super) fn raised_here(&mut self, horizon: Horizon, raising: Raising) {
        self.leveled(Side::Mine, raising, horizon);
    }

    pub(super) fn raised_there(&mut self, raising: Raising) -> Result<(), SessionError> {
        if self.phase != super::rounds::Phase::Meeting {
            return Err(SessionError::Unexpected("an answer nobody asked for"));
        }
        self.leveled(Side::Theirs, raising, Horizon::default());
        Ok(())
    }

    fn leveled(&mut self, side: Side, raising: Raising, horizon: Horizon) {
        let reason = match (raising, side) {
            (Raising::Raised, _) => RAISED,
            (Raising::Behind, Side::Mine) => BEHIND_HERE,
            (Raising::Behind, Side::Theirs) => BEHIND_THERE,
            (Raising::Refused, Side::Mine) => REFUSED_HERE,
            (Raising::Refused, Side::Theirs) => REFUSED_THERE,
        };
        self.outcome.raised = raising == Raising::Raised;
        self.outcome.behind = (raising == Raising::Behind).then_some(Behind { side, horizon });
        self.finish(Verdict::Undetermined, reason.into());
    }
}

impl Responder {
    /// The opening is answered once it is known what is to be said of the horizon.
    pub(super) fn look_at_horizon(&mut self, open: Box<Open>, scope: Scope, cut: Cut, met: Vec<Sighting>) {
        let moves = open.wants.0 & Rights::READ.and(Rights::WRITE).0 != 0;
        if open.more.horizon == cut.horizon {
            return self.open(*open, scope, cut, met, None);
        }
        if moves && open.more.horizon < cut.horizon {
            return self.ask(Query::Horizon, Stage::Horizon(open, scope, cut, met));
        }
        let horizon = Horizon { stamp: cut.horizon, passed: Vec::new() };
        self.open(*open, scope, cut, met, Some(horizon));
    }

    /// Collects up to the opener's horizon, if it may write whatever tombstones there are (M20).
    pub(super) fn on_raise(&mut self, horizon: Horizon) -> Result<(), SessionError> {
        let horizon = bounded(horizon)?;
        if !self.grant.rights.allow(Rights::WRITE) {
            self.send(Message::Raised(Raising::Refused));
            return Ok(());
        }
        self.ask(Query::Raise(horizon), Stage::Raise);
        Ok(())
    }
}

fn bounded(horizon: Horizon) -> Result<Horizon, SessionError> {
    match horizon.passed.len() {
        0..=PASSED_MAX => Ok(horizon),
        _ => Err(SessionError::Unexpected("more stores that have passed a horizon than there may be")),
    }
}
