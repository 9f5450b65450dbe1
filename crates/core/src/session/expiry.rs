//! Before anything is compared: both sides let expire what expires up to the later of their watermarks, so that no record
//! is a difference for having expired on one side only.
//!
//! That a version is gone once it has expired is the state's to say ([`crate::State::expired`]), and how far a watermark
//! may be raised the store's.

use super::opener::{Opener, Purpose};
use super::responder::{Responder, Stage};
use super::rounds::Phase;
use super::scope::Scope;
use super::{SessionError, Verdict};
use crate::message::{Accept, Open};
use crate::query::{Cut, Query};
use crate::stamp::Millis;

const EXPIRED_HERE: &str = "records that have expired at the peer have expired here first; the same command goes on";

impl Opener {
    /// Raises the watermark to the peer's, if that is later (M21). Says whether the acceptance has to wait for it.
    pub(super) fn expire(&mut self, accept: &Accept) -> bool {
        let theirs = accept.more.watermark;
        if theirs <= self.outcome.cut_mine.watermark {
            return false;
        }
        self.phase = Phase::Meeting;
        self.meeting.accept = Some(accept.clone());
        self.ask(Query::Expire(Some(theirs)), Purpose::Expire);
        true
    }

    /// What was shown to the peer is stale if anything has expired: then the session is opened again.
    pub(super) fn expired_here(&mut self, cut: Cut) -> Result<(), SessionError> {
        let Some(accept) = self.meeting.accept.take() else { return Ok(()) };
        if cut.commit != self.outcome.cut_mine.commit {
            self.outcome.raised = true;
            self.finish(Verdict::Undetermined, EXPIRED_HERE.into());
            return Ok(());
        }
        self.outcome.cut_mine.watermark = accept.more.watermark;
        self.cut = Some(self.outcome.cut_mine.clone());
        self.meet_peer(accept)
    }
}

impl Responder {
    /// Raises the watermark to the opener's before it looks at its roots (M21).
    pub(super) fn expire(&mut self, open: Box<Open>, scope: Scope) {
        match open.more.watermark {
            0 => self.look_at_cut(open, scope),
            watermark => self.ask(Query::Expire(Some(watermark)), Stage::Expire(open, scope)),
        }
    }

    /// What is told of the own watermark to an opener: it, if it is later and the roots differ.
    pub(super) fn later_watermark(open: &Open, cut: &Cut, equal: bool) -> Millis {
        if equal || cut.watermark <= open.more.watermark { 0 } else { cut.watermark }
    }
}
