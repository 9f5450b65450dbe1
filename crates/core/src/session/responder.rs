//! The side that answers: shows where its ranges differ, streams what is wanted, applies what it may.
//!
//! It judges nothing and remembers nothing between requests but its cut and open transfers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::descent;
use super::gate::Meter;
use super::joint::Shown;
use super::meeting::Known;
use super::planner::Planner;
use super::scope::{Grant, Scope, hint};
use super::shown::{Opened, opened};
use super::witness::Signing;
use super::{Input, Output, SessionError};
use crate::bounds::REQUESTS_MAX;
use crate::brakes::Brakes;
use crate::canonical::Blob;
use crate::collect::Horizon;
use crate::dataset::{CollectionId, Definition};
use crate::digest::Keys;
use crate::life::Sighting;
use crate::mark::Marks;
use crate::message::{
    Accept, AcceptMore, AskRoots, Compared, Differing, Life, Message, Open, PROTOCOL, Refuse, RefuseCode, Rights,
    Roots, Transfer, Written,
};
use crate::query::{Answer, Ask, Cut, Incoming, Query};
use crate::range::{Position, Range};
use crate::wire::RangeView;

/// Width of the digests in the first, unasked view.
pub(super) const FIRST_WIDTH: u8 = 6;

/// The responder's state machine.
pub struct Responder {
    pub(super) keys: Arc<Keys>,
    pub(super) definition: Arc<Definition>,
    life: Life,
    pub(super) grant: Grant,
    pub(super) planner: Planner,
    /// Entries of the collections in scope at the cut.
    pub(super) root_count: u64,
    inbox: VecDeque<Work>,
    asked: Option<Stage>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) scope: Option<Scope>,
    pub(super) cut: Option<Cut>,
    pub(super) own_commits: BTreeSet<u64>,
    /// Ranges without which cells are shown.
    pub(super) aside: Vec<Range>,
    pub(super) transfers: BTreeMap<Transfer, Written>,
    /// Transfers whose outcome was told.
    written: u64,
    /// What the opener said that it will need.
    pub(super) takes: Rights,
    /// Live roots are asked for once so many were.
    roots_after: Option<u64>,
    over: Option<String>,
    pub(super) known: Known,
    /// The opener has said which life of this store it met.
    pub(super) was_met: bool,
    pub(super) brakes: Option<Brakes>,
    pub(super) meter: Meter,
    /// Records that changed this side.
    pub(super) wrote: u64,
    pub(super) signing: Signing,
}

#[allow(clippy::large_enum_variant, reason = "nearly all of it is messages")]
pub(super) enum Work {
    Message(Message),
    Records(Transfer, Vec<Incoming>),
    End(Transfer),
}

/// Between a question to the store and its answer.
pub(super) enum Stage {
    Expire(Box<Open>, Scope),
    Opening(Box<Open>, Scope),
    Recognise,
    Confirm,
    TellMet,
    Horizon(Box<Open>, Scope, Cut, Vec<Sighting>),
    Raise,
    /// What the opening showed, and what is known of ours.
    Parts(CollectionId, Box<Opened>),
    Plan(CollectionId, Box<Opened>, Vec<Range>),
    JointCells(Box<Shown>),
    JointPlaces(CollectionId, Box<Shown>),
    Differing(CollectionId, Differing, Vec<Range>),
    Offer {
        transfer: Transfer,
        marks: Marks,
        apart: Option<Vec<Range>>,
    },
    OfferWhole {
        transfer: Transfer,
        marks: Marks,
        whole: Vec<Range>,
        apart: Vec<Range>,
    },
    Cells {
        id: u32,
        ranges: Vec<Range>,
        from: usize,
    },
    Rests {
        id: u32,
        collection: CollectionId,
        theirs: Vec<RangeView>,
    },
    First(u8),
    Roots,
    Compare {
        id: u32,
        collection: CollectionId,
        theirs: Vec<RangeView>,
    },
    Opened {
        reply: Reply,
        collection: CollectionId,
        asks: Vec<Ask>,
        positions: Vec<Position>,
        width: u8,
    },
    Items {
        reply: Reply,
        asked: Vec<Position>,
    },
    List {
        reply: Reply,
        collection: CollectionId,
        rest: Vec<Range>,
        positions: Vec<Position>,
        current: Range,
    },
    Weigh(Transfer, Vec<Incoming>),
    Apply(Transfer),
    Sync(Transfer),
}

/// An answer that grows and is sent in frames.
#[derive(Default)]
pub(super) struct Reply(pub(super) Compared);

impl Responder {
    /// Waits for an opening.
    pub fn new(definition: Arc<Definition>, keys: Arc<Keys>, life: Life, grant: Grant) -> Responder {
        let grant = Grant { members: definition.members(), ..grant };
        Responder {
            keys,
            definition,
            life,
            grant,
            planner: Planner::default(),
            root_count: 0,
            inbox: VecDeque::new(),
            asked: None,
            outputs: VecDeque::new(),
            scope: None,
            cut: None,
            own_commits: BTreeSet::new(),
            aside: Vec::new(),
            transfers: BTreeMap::new(),
            written: 0,
            takes: Rights(0),
            roots_after: None,
            over: None,
            known: Known::Same,
            was_met: false,
            brakes: None,
            meter: Meter::default(),
            wrote: 0,
            signing: Signing::default(),
        }
    }

    /// Plans otherwise than by default.
    #[must_use]
    pub fn with_planner(self, planner: Planner) -> Responder {
        Responder { planner, ..self }
    }

    /// Hands in what happened. Drain [`Responder::poll`] afterwards.
    ///
    /// # Errors
    /// [`SessionError`] for an answer that was not asked for, or a peer that breaks the protocol; the session is over then.
    pub fn handle(&mut self, input: Input) -> Result<(), SessionError> {
        match input {
            Input::Message(Message::Bye(bye)) => {
                let scope = self.scope.clone();
                self.close(&bye, scope.as_ref())?;
                self.over = Some(bye.verdict);
            }
            Input::Message(message) => {
                if !self.has_room() {
                    return Err(SessionError::Unexpected("more requests at once than are allowed"));
                }
                self.inbox.push_back(Work::Message(message));
            }
            Input::Records { transfer, records } => self.inbox.push_back(Work::Records(transfer, records)),
            Input::End { transfer, .. } => self.inbox.push_back(Work::End(transfer)),
            Input::Answer(answer) => {
                let stage = self.asked.take().ok_or(SessionError::Driver("an answer without a question"))?;
                self.on_answer(stage, answer)?;
            }
            Input::Time => {}
            Input::Stop | Input::Lost => self.over = Some(String::new()),
        }
        while self.asked.is_none() && self.over.is_none() {
            let Some(work) = self.inbox.pop_front() else { break };
            if let Some(work) = self.goes_on(work) {
                self.start(work)?;
            }
        }
        Ok(())
    }

    /// Whether one more message may be handed in; what comes beyond that is left where it is, so that whoever asks waits.
    pub fn has_room(&self) -> bool {
        self.inbox.len() <= 2 * REQUESTS_MAX
    }

    /// The next output, until there is none.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The verdict that the opener told, once the session is over.
    pub fn verdict(&self) -> Option<&str> {
        self.over.as_deref()
    }

    fn start(&mut self, work: Work) -> Result<(), SessionError> {
        match work {
            Work::Message(Message::Open(open)) if self.cut.is_none() => self.on_open(open),
            _ if self.cut.is_none() => return Err(SessionError::Unexpected("a message before the opening")),
            Work::Message(Message::Met(met)) => self.on_met(met)?,
            Work::Message(Message::AskMet) => self.on_ask_met()?,
            Work::Message(Message::Raise(horizon)) => self.on_raise(horizon)?,
            Work::Message(Message::AskRoots(asked)) => self.ask_roots(asked)?,
            Work::Message(Message::Compare(compare)) => self.compare(compare)?,
            Work::Message(Message::List(list)) => self.list(list)?,
            Work::Message(Message::AskCells(asked)) => self.ask_cells(asked)?,
            Work::Message(Message::Offer(offer)) => self.on_offer(offer)?,
            Work::Message(Message::Want(want)) => self.want(want)?,
            Work::Message(_) => return Err(SessionError::Unexpected("a message that only a responder sends")),
            Work::Records(transfer, records) => {
                self.check(transfer.1, Rights::WRITE, "records without the right to write")?;
                self.begin_transfer(transfer)?;
                self.apply(transfer, records);
            }
            Work::End(transfer) => {
                self.check(transfer.1, Rights::WRITE, "the end of records without the right to write")?;
                self.begin_transfer(transfer)?;
                self.ask(Query::Sync, Stage::Sync(transfer));
            }
        }
        Ok(())
    }

    fn on_answer(&mut self, stage: Stage, answer: Answer) -> Result<(), SessionError> {
        match (stage, answer) {
            (Stage::Expire(open, scope), Answer::Cut(_)) => self.look_at_cut(open, scope),
            (Stage::Opening(open, scope), Answer::Met(cut, met)) => self.look_at_horizon(open, scope, cut, met),
            (Stage::Opening(open, scope), Answer::Cut(cut)) => self.look_at_horizon(open, scope, cut, Vec::new()),
            (Stage::Horizon(open, scope, cut, met), Answer::Horizon(horizon)) => {
                self.open(*open, scope, cut, met, Some(horizon));
            }
            (Stage::Raise, Answer::Raised(raising)) => self.send(Message::Raised(raising)),
            (Stage::Recognise, Answer::Recognised(recognition)) => self.recognised(recognition),
            (Stage::TellMet, Answer::Met(_, met)) => self.tell_met(met),
            (Stage::Confirm, Answer::Confirmed(same)) => self.confirmed(same),
            (Stage::First(levels), Answer::Views(views)) => self.first(levels, &views),
            (Stage::Parts(collection, opened), Answer::Views(views)) => self.look_at_parts(collection, opened, &views),
            (Stage::Plan(collection, opened, asked), Answer::Sketches(own)) => {
                self.plan(collection, *opened, &asked, own);
            }
            (Stage::JointCells(shown), Answer::Sketches(own)) => self.add_joint_cells(shown, &own),
            (Stage::JointPlaces(collection, shown), Answer::Items(items)) => {
                self.add_joint_items(collection, shown, items);
            }
            (Stage::Differing(collection, told, both), Answer::Items(items)) => {
                self.send_differing(collection, told, &both, items);
            }
            (Stage::OfferWhole { transfer, marks, whole, apart }, Answer::Views(views)) => {
                self.look_at_whole(transfer, marks, (whole, apart), &views)?;
            }
            (Stage::Offer { transfer, marks, apart }, Answer::Items(items)) => {
                self.answer_offer(transfer, &marks, apart, items);
            }
            (Stage::Cells { id, ranges, from }, Answer::Sketches(sketches)) => {
                self.send_cells(id, &ranges, from, sketches);
            }
            (Stage::Rests { id, collection, theirs }, Answer::Rests(own)) => self.rests(id, collection, &theirs, &own),
            (Stage::Roots, Answer::Cut(cut)) => self.send_roots(cut, true),
            (Stage::Compare { id, collection, theirs }, Answer::Views(views)) => {
                self.compared(id, collection, &theirs, &views)
            }
            (Stage::Opened { mut reply, collection, asks, positions, width }, Answer::Views(views)) => {
                for (ask, view) in asks.iter().zip(&views) {
                    self.put_view(&mut reply, &descent::view(view, ask.levels, width));
                }
                self.ask_items(reply, collection, positions);
            }
            (Stage::Items { mut reply, asked }, Answer::Items(items)) => {
                let has = |p: &Position| items.binary_search_by(|item| item.position.cmp(p)).is_ok();
                reply.0.lacking.extend(asked.iter().filter(|p| !has(p)).map(|p| p.0));
                self.put_items(&mut reply, items);
                self.send_last(reply);
            }
            (Stage::List { mut reply, collection, rest, positions, current }, Answer::Listed(items, next)) => {
                self.put_items(&mut reply, items);
                match next {
                    Some(_) => {
                        let stage = Stage::List { reply, collection, rest, positions, current };
                        self.ask(Query::List(collection, current, next), stage);
                    }
                    None => self.list_on(reply, collection, rest, positions),
                }
            }
            (Stage::Weigh(transfer, records), Answer::Items(there)) => self.weighed(transfer, records, &there),
            (Stage::Apply(transfer), Answer::Applied(applied)) => self.applied(transfer, applied),
            (Stage::Sync(transfer), Answer::Synced) => {
                if let Some(written) = self.transfers.remove(&transfer) {
                    self.send(Message::Written(written));
                    self.written += 1;
                    self.look_at_roots();
                }
            }
            _ => return Err(SessionError::Driver("the answer is not to the question")),
        }
        Ok(())
    }

    /// Does something first.
    pub(super) fn put_back(&mut self, work: Work) {
        self.inbox.push_front(work);
    }

    /// Ends the session from this side.
    pub(super) fn end(&mut self, how: &str) {
        self.over = Some(how.into());
    }

    pub(super) fn open(&mut self, open: Open, scope: Scope, cut: Cut, met: Vec<Sighting>, horizon: Option<Horizon>) {
        let roots = scope.roots(&cut);
        let root = scope.root(&self.keys, &self.definition, &roots);
        let rights = scope.iter().fold(Rights::ALL, |all, collection| all.both(self.grant.on(collection)));
        let (life, commit, only) = (self.life, cut.commit, scope.only());
        let met = if root == open.root && horizon.is_none() { None } else { self.doubt(&open, &met) };
        self.meet_opener(&open, life, commit);
        let undone = if horizon.is_some() { cut.undone } else { 0 };
        let word = if root == open.root { self.give_word(&scope, &cut, root) } else { None };
        let watermark = Self::later_watermark(&open, &cut, root == open.root);
        let members = open.more.members != hint(&self.definition, &cut);
        let more = AcceptMore { word, members, horizon, undone, watermark };
        self.send(Message::Accept(Accept { rights, root, commit, life, met, more }));
        self.scope = Some(scope);
        self.cut = Some(cut.clone());
        self.takes = open.wants;
        if root == open.root {
            return;
        }
        self.root_count = roots.iter().map(|root| root.count).sum();
        self.set_brakes();
        match only {
            Some(collection) => match opened(open) {
                Some(opened) => {
                    let ask = Ask { range: Range::ALL, levels: 1 };
                    self.ask(Query::Views(collection, vec![ask]), Stage::Parts(collection, Box::new(opened)));
                }
                None => self.show_root(collection, descent::levels(Range::ALL, self.root_count, 1)),
            },
            None if open.descend => match self.shown_jointly(&open, &roots) {
                Some(shown) => self.look_at_joint(shown),
                None => self.first_roots(),
            },
            None => {}
        }
    }

    /// What the session is about, if it may begin (M5). Who may nothing here is told nothing but that.
    pub(super) fn admit(&self, open: &Open) -> Result<Scope, Refuse> {
        let refuse = |code, detail: String| Refuse { code, detail, definition: Blob::default() };
        let missing = |granted: Rights| Rights(open.wants.and(Rights::COMPARE).0 & !granted.0);
        if open.protocol != PROTOCOL {
            return Err(refuse(RefuseCode::Protocol, PROTOCOL.to_string()));
        }
        if open.dataset.0 != self.definition.id {
            return Err(refuse(RefuseCode::Dataset, String::new()));
        }
        let nowhere = missing(self.grant.anywhere());
        if nowhere != Rights::default() {
            return Err(refuse(RefuseCode::Rights, nowhere.names().join(",")));
        }
        let scope = Scope::new(&self.definition, &open.scope);
        let (Some(scope), true) = (scope, open.definition == self.definition.short_hash()) else {
            let definition = Blob(self.definition.encode());
            return Err(Refuse { definition, ..refuse(RefuseCode::Definition, String::new()) });
        };
        for collection in scope.iter() {
            let missing = missing(self.grant.on(collection));
            if missing != Rights::default() {
                let name = &self.definition.collections[usize::from(collection.0)].name;
                return Err(refuse(
                    RefuseCode::Rights,
                    format!("{} in the collection {name}", missing.names().join(",")),
                ));
            }
        }
        if open.life == self.life {
            return Err(refuse(RefuseCode::OneStore, String::new()));
        }
        Ok(scope)
    }

    fn ask_roots(&mut self, asked: AskRoots) -> Result<(), SessionError> {
        if self.roots_after.replace(asked.after).is_some() {
            return Err(SessionError::Unexpected("a second wish for roots before the first is answered"));
        }
        self.look_at_roots();
        Ok(())
    }

    /// Looks at the live roots if they are asked for and hold all that they are to hold (M15).
    fn look_at_roots(&mut self) {
        if self.roots_after.is_some_and(|after| self.written >= after) {
            self.roots_after = None;
            self.ask(Query::Cut, Stage::Roots);
        }
    }

    /// Tells the roots of several collections, which were looked at last.
    pub(super) fn first_roots(&mut self) {
        if let Some(cut) = self.cut.clone() {
            self.send_roots(cut, false);
        }
    }

    /// Tells the live roots; signs them if they may be the last.
    fn send_roots(&mut self, cut: Cut, signed: bool) {
        let since = self.cut.as_ref().map_or(0, |first| cut.commit.saturating_sub(first.commit));
        let moved = since != self.own_commits.len() as u64;
        let scope = self.scope.clone().unwrap_or_default();
        let roots = scope.roots(&cut);
        let root = scope.root(&self.keys, &self.definition, &roots);
        let word = if signed { self.give_word(&scope, &cut, root) } else { None };
        self.send(Message::Roots(Roots { commit: cut.commit, moved, roots, word }));
    }

    /// Whether a request about a collection has a place here: in scope, and with the right, looked at each time (M9).
    pub(super) fn check(
        &self,
        collection: CollectionId,
        right: Rights,
        without: &'static str,
    ) -> Result<(), SessionError> {
        if !self.scope.as_ref().is_some_and(|scope| scope.contains(collection)) {
            return Err(SessionError::Unexpected("a collection that the session is not about"));
        }
        if self.grant.on(collection).allow(right) { Ok(()) } else { Err(SessionError::Unexpected(without)) }
    }

    pub(super) fn ask(&mut self, query: Query, stage: Stage) {
        self.asked = Some(stage);
        self.outputs.push_back(Output::Ask(query));
    }

    pub(super) fn send(&mut self, message: Message) {
        self.outputs.push_back(Output::Send(message));
    }
}
