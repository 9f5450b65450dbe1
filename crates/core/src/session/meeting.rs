//! Before records move: whether the two stores are the lives that they met before. One that was restored or copied begins
//! a new life first, and writes as another actor from then on. Where nothing will move, nobody asks.
//!
//! What is remembered, and how a life begins, is the stores' concern; what tells lives apart that of [`crate::life`].

use super::opener::{Opener, Purpose};
use super::responder::{Responder, Stage, Work};
use super::rounds::Phase;
use super::scope::Scope;
use super::{Intent, Other, SessionError, Verdict};
use crate::bounds::REQUESTS_MAX;
use crate::canonical::Blob;
use crate::life::{Life, SIGHTINGS_MAX, Sighting};
use crate::message::{Accept, Message, Met, Open, Recognised, Refuse, RefuseCode, Rights};
use crate::query::{Query, Recognition};

const RENEWED_HERE: &str = "this store was restored or copied since the peer met it; it has begun a new life, and the \
                            same command goes on";
const RENEWED_THERE: &str = "the peer's store was restored or copied since this one met it; it has begun a new life, and \
                             the same command goes on";

const ANOTHER_MET: &str = "another life of the peer's store was met meanwhile, and one of the two was restored or copied; \
                           the same command goes on";
const ANOTHER_MET_HERE: &str = "it met another life of this store meanwhile, and one of the two was restored or copied; the \
                                same command goes on";

/// What the opener keeps until it is known who meets.
#[derive(Default)]
pub(super) struct Meeting {
    pub(super) accept: Option<Accept>,
    /// By which opening the peer's store is to be recognised.
    by: Option<Sighting>,
    /// What came meanwhile.
    postponed: Vec<Message>,
}

impl Opener {
    pub(super) fn on_accept(&mut self, accept: Accept) -> Result<(), SessionError> {
        if self.phase != Phase::Opening {
            return Err(SessionError::Unexpected("a second acceptance"));
        }
        self.meet_witness(&accept)?;
        if self.expire(&accept) { Ok(()) } else { self.meet_peer(accept) }
    }

    /// Nothing is compared, and nothing moves, before both lives are known.
    pub(super) fn meet_peer(&mut self, accept: Accept) -> Result<(), SessionError> {
        let other = Other { actor: accept.life.actor, undone: accept.more.undone };
        self.outcome.other = accept.more.horizon.as_ref().map(|_| other);
        let apart = accept.root != self.outcome.root_mine || accept.more.horizon.is_some();
        let moves = matches!(self.options.intent, Intent::Repair(_)) && apart;
        self.meeting.accept = Some(accept);
        if !moves {
            return self.begin_after_meeting();
        }
        // (M16)
        self.phase = Phase::Meeting;
        match self.meeting.accept.as_ref().and_then(|accept| accept.met) {
            None => self.meet(),
            Some(last) => self.ask(Query::Recognise(vec![last], false), Purpose::Recognise),
        }
        Ok(())
    }

    fn meet(&mut self) {
        if let Some(Accept { life, commit, .. }) = &self.meeting.accept {
            self.ask(Query::Meet(*life, *commit), Purpose::Meet);
        }
    }

    /// Whether a message has to wait until both lives are known; then it is kept.
    pub(super) fn postpone(&mut self, message: Message) -> Result<Option<Message>, SessionError> {
        let about =
            matches!(message, Message::Met(_) | Message::Recognised(_) | Message::Raised(_) | Message::Refuse(_));
        if self.phase != Phase::Meeting || about {
            return Ok(Some(message));
        }
        if self.meeting.postponed.len() > 2 * REQUESTS_MAX {
            return Err(SessionError::Unexpected("more answers at once than were asked for"));
        }
        self.meeting.postponed.push(message);
        Ok(None)
    }

    pub(super) fn recognised_here(&mut self, recognition: Recognition) {
        match recognition {
            Recognition::Same => self.meet(),
            Recognition::Unsure => self.send(Message::AskMet),
            Recognition::Renewed => self.finish(Verdict::Undetermined, RENEWED_HERE.into()),
        }
    }

    pub(super) fn on_met_there(&mut self, met: Met) -> Result<(), SessionError> {
        match self.phase {
            Phase::Meeting => self.ask(Query::Recognise(bounded(met.met)?, true), Purpose::Recognise),
            _ => return Err(SessionError::Unexpected("an answer nobody asked for")),
        }
        Ok(())
    }

    /// What our store remembers of the peer's, if that may be another life.
    pub(super) fn met_here(&mut self, met: Vec<Sighting>) -> Result<(), SessionError> {
        if met.is_empty() {
            return self.level();
        }
        self.meeting.by = met.last().copied();
        self.send(Message::Met(Met { met }));
        Ok(())
    }

    pub(super) fn confirmed_here(&mut self, same: bool) -> Result<(), SessionError> {
        if same {
            return self.level();
        }
        self.finish(Verdict::Undetermined, ANOTHER_MET.into());
        Ok(())
    }

    pub(super) fn on_recognised(&mut self, recognised: Recognised) -> Result<(), SessionError> {
        match (&self.phase, &self.meeting.accept, self.meeting.by) {
            (Phase::Meeting, Some(_), Some(_)) if recognised.renewed => {
                self.finish(Verdict::Undetermined, RENEWED_THERE.into());
                Ok(())
            }
            (Phase::Meeting, Some(accept), Some(by)) => {
                let (life, commit) = (accept.life, accept.commit);
                self.ask(Query::Confirm(life, commit, by), Purpose::Confirm);
                Ok(())
            }
            _ => Err(SessionError::Unexpected("an answer nobody asked for")),
        }
    }

    /// Both are known and level: the session begins, with what came meanwhile.
    pub(super) fn begin_after_meeting(&mut self) -> Result<(), SessionError> {
        let Meeting { accept: Some(accept), postponed, .. } = std::mem::take(&mut self.meeting) else {
            return Ok(());
        };
        self.accepted(&accept);
        postponed.into_iter().try_for_each(|message| self.on_message(message))
    }
}

/// What the responder knows of the opener's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is the life that was met, or nothing will move.
    Same,
    /// It may be another than the one that was met in this opening. If it goes on, it is not.
    Doubtful(Life, u64, Sighting),
}

impl Responder {
    pub(super) fn on_open(&mut self, open: Open) {
        match self.admit(&open) {
            Ok(scope) => self.expire(Box::new(open), scope),
            Err(refusal) => {
                self.end("refused");
                self.send(Message::Refuse(refusal));
            }
        }
    }

    /// Looks where it stands, and remembers the opener if records may move.
    pub(super) fn look_at_cut(&mut self, open: Box<Open>, scope: Scope) {
        let moves = open.wants.0 & Rights::READ.and(Rights::WRITE).0 != 0;
        let query = if moves { Query::Meet(open.life, open.commit) } else { Query::Cut };
        self.ask(query, Stage::Opening(open, scope));
    }

    /// What is told of an opener whose roots differ: the last opening of its store that was met, if this is another.
    pub(super) fn doubt(&mut self, open: &Open, met: &[Sighting]) -> Option<Sighting> {
        let last = met.last().copied();
        if let Some(by) = last {
            self.known = Known::Doubtful(open.life, open.commit, by);
        }
        last
    }

    /// Whether what an opener says means that it has recognised what it was told; then that is on record first.
    pub(super) fn goes_on(&mut self, work: Work) -> Option<Work> {
        let about = matches!(&work, Work::Message(Message::AskMet | Message::Met(_)));
        match self.known {
            Known::Doubtful(life, commit, by) if !about => {
                self.known = Known::Same;
                self.put_back(work);
                self.ask(Query::Confirm(life, commit, by), Stage::Confirm);
                None
            }
            _ => Some(work),
        }
    }

    pub(super) fn on_ask_met(&mut self) -> Result<(), SessionError> {
        match self.known {
            Known::Doubtful(life, commit, _) => self.ask(Query::Meet(life, commit), Stage::TellMet),
            Known::Same => return Err(SessionError::Unexpected("a question about a store that is not doubted")),
        }
        Ok(())
    }

    pub(super) fn tell_met(&mut self, met: Vec<Sighting>) {
        if let (Known::Doubtful(.., by), Some(last)) = (&mut self.known, met.last()) {
            *by = *last;
        }
        self.send(Message::Met(Met { met }));
    }

    pub(super) fn confirmed(&mut self, same: bool) {
        if !same {
            self.end("undetermined");
            let detail = ANOTHER_MET_HERE.into();
            self.send(Message::Refuse(Refuse { code: RefuseCode::Store, detail, definition: Blob::default() }));
        }
    }

    /// What an opener remembers of this store may begin a new life here, which gives another name to all that was written
    /// in the old one. So only those are believed who may move records, and once a session.
    pub(super) fn on_met(&mut self, met: Met) -> Result<(), SessionError> {
        let met = bounded(met.met)?;
        if std::mem::replace(&mut self.was_met, true) {
            return Err(SessionError::Unexpected("a second word on which life this store is"));
        }
        if !self.may_move() {
            self.recognised(Recognition::Same);
            return Ok(());
        }
        self.ask(Query::Recognise(met, true), Stage::Recognise);
        Ok(())
    }

    fn may_move(&self) -> bool {
        let may = Rights(self.takes.0 & self.grant.anywhere().0);
        may.allow(Rights::READ) || may.allow(Rights::WRITE)
    }

    pub(super) fn recognised(&mut self, recognition: Recognition) {
        let renewed = recognition == Recognition::Renewed;
        self.send(Message::Recognised(Recognised { renewed }));
        if renewed {
            self.end("undetermined");
        }
    }
}

fn bounded(met: Vec<Sighting>) -> Result<Vec<Sighting>, SessionError> {
    match met.len() {
        0..=SIGHTINGS_MAX => Ok(met),
        _ => Err(SessionError::Unexpected("more openings than a peer remembers")),
    }
}
