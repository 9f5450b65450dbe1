//! The side that drives a session: opens ranges, pairs items, judges, moves records, gives the verdict.
//!
//! What happens between rounds (roots, settling, verdicts) is in [`super::rounds`]; transfers are in
//! [`super::transfers`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::cells::{Named, Seen};
use super::descent::{self, Step};
use super::gate::Guarded;
use super::joint::Joint;
use super::left::Left;
use super::lost::Aside;
use super::meeting::Meeting;
use super::offers::Parts;
use super::picked::Pending;
use super::request::{Awaited, Request};
use super::rounds::Phase;
use super::scope::Scope;
use super::transfers::Transfers;
use super::witness::Signing;
use super::{Counts, Input, Intent, Options, Outcome, Output, SessionError};
use crate::bounds::{FRAME_BYTES_AIM, RANGES_PER_MESSAGE_MAX, REQUESTS_MAX};
use crate::canonical::Blob;
use crate::collect::Horizon;
use crate::dataset::{CollectionId, Definition};
use crate::difference::{Difference, Side};
use crate::digest::Keys;
use crate::mark::Mark;
use crate::message::{Compare, Compared, Life, List, Message};
use crate::query::{Answer, Ask, Cut, Incoming, Overwrite, Query, Selection, View};
use crate::range::{DEPTH_MAX, Position, Range, places};
use crate::sketch::Element;
use crate::stamp::{Millis, Stamp};
use crate::wire::{self, RangeView, WireItem};

/// Ranges that are looked at in one question to the store.
const ASKS_MAX: usize = 512;
/// Questions to the store that may wait before no more messages are taken.
const QUERIES_MAX: usize = 64;
/// Differences that are kept to be looked at again once they had time to settle.
pub(super) const FOUND_MAX: usize = 65_536;

const STOPPED: &str = "stopped before the end";

/// The opener's state machine.
pub struct Opener {
    pub(super) keys: Arc<Keys>,
    pub(super) definition: Arc<Definition>,
    pub(super) life: Life,
    pub(super) options: Options,
    pub(super) scope: Scope,
    pub(super) now: Millis,
    pub(super) phase: Phase,
    pub(super) outputs: VecDeque<Output>,
    pub(super) queries: VecDeque<(Query, Purpose)>,
    /// The question that is open, and the places of single keys that it is about.
    pub(super) asked: Option<(Purpose, Vec<Range>)>,
    pub(super) requests: BTreeMap<u32, Request>,
    next_request: u32,
    pub(super) open: BTreeMap<CollectionId, VecDeque<(Range, u64)>>,
    pub(super) list: BTreeMap<CollectionId, (Vec<Position>, Vec<Range>)>,
    /// Ranges of one element each whose items are to be asked for.
    pub(super) close: BTreeMap<CollectionId, Vec<Range>>,
    /// Ranges in which much differs, to be offered as they are, of about so many records each.
    pub(super) whole: BTreeMap<CollectionId, VecDeque<Parts>>,
    pub(super) whole_size: u64,
    /// What sketches named and is to be proven.
    pub(super) named: BTreeMap<CollectionId, Named>,
    /// Where that was proven wrong.
    pub(super) wrong: Vec<(CollectionId, Range)>,
    /// Of what was acted on by sketches alone.
    pub(super) unconfirmed: BTreeMap<CollectionId, Vec<Range>>,
    pub(super) transfers: Transfers,
    /// New versions to be written where one side's value is to win.
    pub(super) overwrites: BTreeMap<CollectionId, Vec<Overwrite>>,
    pub(super) cut: Option<Cut>,
    pub(super) width: u8,
    pub(super) opening_parts: Blob,
    pub(super) aside: Aside,
    pub(super) joint: Joint,
    pub(super) found: Vec<Difference>,
    /// Which of them were seen to move, where a first look at them was needed.
    pub(super) moving: Option<BTreeSet<usize>>,
    pub(super) counts: Counts,
    /// Differences of this round that stood still and were not resolved.
    pub(super) unresolved: u64,
    pub(super) left: Left,
    /// Items of this round that were written since the cut.
    pub(super) fresh: u64,
    pub(super) outcome: Outcome,
    last_sent: Option<bool>,
    pub(super) meeting: Meeting,
    pub(super) guarded: Guarded,
    pub(super) pending: Pending,
    pub(super) signing: Signing,
    /// Whether it was told to end, and waits for what its store writes.
    ends: bool,
}

/// What an answer of the store is for.
pub(super) enum Purpose {
    FirstCut,
    Expire,
    Meet,
    Recognise,
    Confirm,
    TellHorizon,
    Raise(Horizon),
    CutBefore,
    CutAfter,
    OpenViews(CollectionId, Vec<Ask>),
    CompareTheirs(CollectionId, Vec<RangeView>),
    Pair(CollectionId, Vec<WireItem>),
    Mine(CollectionId, Vec<Element>),
    Offer(CollectionId, Vec<Range>, Vec<Mark>),
    OfferWhole(CollectionId, Vec<Range>),
    MineOnly(CollectionId, Range),
    OpeningParts,
    OpeningCells,
    JointCells,
    JointPlaces(CollectionId),
    Subtract(CollectionId, Vec<Seen>, u8),
    Prove(CollectionId, Vec<(Range, Vec<Range>)>),
    Stood(CollectionId, Vec<u64>),
    Recheck(CollectionId, Vec<WireItem>),
    Weigh(CollectionId, Vec<Incoming>),
    Apply(CollectionId),
    Sync,
}

impl Opener {
    /// Starts a session; drain [`Opener::poll`] at once.
    pub fn new(definition: Arc<Definition>, keys: Arc<Keys>, life: Life, options: Options, now: Millis) -> Opener {
        let empty = Cut {
            commit: 0,
            stamp: Stamp::default(),
            horizon: Stamp::default(),
            undone: 0,
            watermark: 0,
            roots: Vec::new(),
        };
        // A collection that the dataset has not got is nothing to compare; the peer would refuse it.
        let scope = Scope::new(&definition, &options.scope).unwrap_or_default();
        let mut opener = Opener {
            keys,
            definition,
            life,
            width: options.width.clamp(1, 32),
            opening_parts: Blob::default(),
            aside: Aside::default(),
            joint: Joint::default(),
            options,
            scope,
            now,
            phase: Phase::Start,
            outputs: VecDeque::new(),
            queries: VecDeque::new(),
            asked: None,
            requests: BTreeMap::new(),
            next_request: 1,
            open: BTreeMap::new(),
            list: BTreeMap::new(),
            close: BTreeMap::new(),
            whole: BTreeMap::new(),
            whole_size: 0,
            named: BTreeMap::new(),
            wrong: Vec::new(),
            unconfirmed: BTreeMap::new(),
            transfers: Transfers::default(),
            overwrites: BTreeMap::new(),
            cut: None,
            found: Vec::new(),
            moving: None,
            counts: Counts::default(),
            unresolved: 0,
            left: Left::default(),
            fresh: 0,
            outcome: Outcome::begun(empty),
            last_sent: None,
            meeting: Meeting::default(),
            guarded: Guarded::default(),
            pending: Pending::default(),
            signing: Signing::default(),
            ends: false,
        };
        // Whoever is to be written, or read from, remembers whom it met.
        let moves = matches!(opener.options.intent, Intent::Repair(_));
        opener.ask(if moves { Query::Introduce } else { Query::Expire(None) }, Purpose::FirstCut);
        opener.advance();
        opener
    }

    /// Hands in what happened. Drain [`Opener::poll`] afterwards.
    ///
    /// # Errors
    /// [`SessionError`] for an answer that was not asked for, or a peer that breaks the protocol; the session is over then.
    pub fn handle(&mut self, input: Input, now: Millis) -> Result<(), SessionError> {
        self.now = now;
        if matches!(self.phase, Phase::Over) {
            return Ok(());
        }
        if self.ends {
            return self.end_once_written(input);
        }
        match input {
            Input::Message(message) => {
                self.note_message(false);
                if let Some(message) = self.postpone(message)? {
                    self.on_message(message)?;
                }
            }
            Input::Answer(answer) => {
                let (purpose, _) = self.asked.take().ok_or(SessionError::Driver("an answer without a question"))?;
                self.on_answer(purpose, answer)?;
            }
            Input::Records { transfer, records } => self.on_records(transfer, records)?,
            Input::End { transfer, records, moved } => self.on_end(transfer, records, moved)?,
            Input::Time => {}
            Input::Stop if matches!(self.asked, Some((Purpose::Apply(_), _))) => {
                self.ends = true;
                return Ok(());
            }
            Input::Stop => self.stop(STOPPED),
            Input::Lost => self.stop("the link was lost before the end"),
        }
        self.advance();
        Ok(())
    }

    /// Counts what the store had begun to write, then ends; at once if it is told once more.
    fn end_once_written(&mut self, input: Input) -> Result<(), SessionError> {
        match input {
            Input::Answer(answer) => {
                let (purpose, _) = self.asked.take().ok_or(SessionError::Driver("an answer without a question"))?;
                self.on_answer(purpose, answer)?;
            }
            Input::Stop | Input::Lost => {}
            // What was written there counts; nothing follows from anything else any more.
            Input::Message(Message::Written(written)) => return self.on_written(written),
            Input::Message(_) | Input::Records { .. } | Input::End { .. } | Input::Time => return Ok(()),
        }
        self.stop(STOPPED);
        Ok(())
    }

    /// Whether one more message may be handed in: what it asks of the own store comes after what waits already.
    pub fn has_room(&self) -> bool {
        self.queries.len() < QUERIES_MAX
    }

    /// The next output, until there is none.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Time`] is wanted, if nothing else comes before.
    pub fn wake_at(&self) -> Option<Millis> {
        match self.phase {
            Phase::Settling(until) => Some(until),
            _ => None,
        }
    }

    /// What was counted so far, and the share of positions proven, in millionths: for progress.
    pub fn progress(&self) -> (&Counts, u32) {
        (&self.counts, self.coverage())
    }

    /// Whether the session is over and the peer was told how it ended.
    pub fn said_bye(&self) -> bool {
        matches!(self.phase, Phase::Over) && self.says_bye()
    }

    pub(super) fn ask(&mut self, query: Query, purpose: Purpose) {
        self.queries.push_back((query, purpose));
    }

    pub(super) fn send(&mut self, message: Message) {
        self.note_message(true);
        self.outputs.push_back(Output::Send(message));
    }

    fn note_message(&mut self, sent: bool) {
        self.counts.messages += 1;
        if self.last_sent != Some(sent) {
            self.counts.flights += 1;
            self.last_sent = Some(sent);
        }
    }

    pub(super) fn on_message(&mut self, message: Message) -> Result<(), SessionError> {
        match message {
            Message::Accept(accept) => self.on_accept(accept),
            Message::Refuse(refuse) => {
                self.refused(refuse);
                Ok(())
            }
            Message::Met(met) => self.on_met_there(met),
            Message::Recognised(recognised) => self.on_recognised(recognised),
            Message::Raised(raising) => self.raised_there(raising),
            Message::Roots(roots) => self.on_roots(roots),
            Message::Compared(compared) => self.on_compared(compared),
            Message::Differing(told) => self.on_differing(told),
            Message::Named(told) => self.on_named(told),
            Message::Cells(cells) => self.on_cells(cells),
            Message::Wanted(wanted) => self.on_wanted(wanted),
            Message::Written(written) => self.on_written(written),
            _ => Err(SessionError::Unexpected("a message that only an opener sends")),
        }
    }

    fn on_answer(&mut self, purpose: Purpose, answer: Answer) -> Result<(), SessionError> {
        match (purpose, answer) {
            (Purpose::FirstCut, Answer::Cut(cut)) => self.begin(cut),
            (Purpose::Expire, Answer::Cut(cut)) => self.expired_here(cut)?,
            (Purpose::Meet, Answer::Met(_, met)) => self.met_here(met)?,
            (Purpose::Recognise, Answer::Recognised(recognition)) => self.recognised_here(recognition),
            (Purpose::Confirm, Answer::Confirmed(same)) => self.confirmed_here(same)?,
            (Purpose::TellHorizon, Answer::Horizon(mine)) => self.send(Message::Raise(mine)),
            (Purpose::Raise(horizon), Answer::Raised(raising)) => self.raised_here(horizon, raising),
            (Purpose::CutBefore, Answer::Cut(cut)) => self.look_at_theirs(cut),
            (Purpose::CutAfter, Answer::Cut(cut)) => self.judge_roots(cut),
            (Purpose::OpenViews(collection, asks), Answer::Views(views)) => self.send_views(collection, &asks, &views),
            (Purpose::CompareTheirs(collection, theirs), Answer::Views(views)) => {
                let mut steps = Vec::new();
                for (view, other) in views.iter().zip(&theirs) {
                    descent::compare(&self.keys, view, other, &mut steps);
                }
                if self.options.intent == Intent::Check {
                    self.estimate(&theirs, &steps);
                } else {
                    steps.into_iter().for_each(|step| self.take_step(collection, step));
                }
            }
            (Purpose::Pair(collection, theirs), Answer::Items(mine)) => self.pair(collection, mine, theirs),
            (Purpose::Mine(collection, named), Answer::Items(mine)) => self.pair_mine(collection, &named, mine),
            (Purpose::Offer(collection, places, theirs), Answer::Items(mine)) => {
                self.offer(collection, &places, &theirs, mine);
            }
            (Purpose::OfferWhole(collection, ranges), Answer::Items(mine)) => {
                self.offer_whole(collection, &ranges, mine);
            }
            (Purpose::OpeningParts, Answer::Views(views)) => self.look_at_parts(&views),
            (Purpose::OpeningCells, Answer::Sketches(sketches)) => self.show_cells(&sketches),
            (Purpose::JointCells, Answer::Sketches(sketches)) => self.add_cells(&sketches),
            (Purpose::JointPlaces(collection), Answer::Items(mine)) => self.place_elements(collection, &mine),
            (Purpose::Subtract(collection, seen, times), Answer::Sketches(own)) => {
                self.subtract(collection, seen, times, own);
            }
            (Purpose::Prove(collection, wholes), Answer::Rests(own)) => self.send_proof(collection, wholes, &own),
            (Purpose::Stood(collection, positions), Answer::Items(mine)) => self.stood(collection, &positions, &mine),
            (Purpose::Recheck(collection, theirs), Answer::Items(mine)) => self.recheck(collection, &mine, &theirs),
            (Purpose::MineOnly(collection, range), Answer::Listed(items, next)) => {
                if next.is_some() {
                    self.ask(Query::List(collection, range, next), Purpose::MineOnly(collection, range));
                }
                self.pair(collection, items, Vec::new());
            }
            (Purpose::Weigh(collection, records), Answer::Items(there)) => self.weighed(collection, records, &there),
            (Purpose::Apply(collection), Answer::Applied(applied)) => self.on_applied(collection, applied),
            (Purpose::Sync, Answer::Synced) => self.transfers.synced(),
            _ => return Err(SessionError::Driver("the answer is not to the question")),
        }
        Ok(())
    }

    /// Puts the next questions and messages out, once what came in is digested.
    fn advance(&mut self) {
        loop {
            if self.asked.is_some() || matches!(self.phase, Phase::Over) {
                return;
            }
            // Beside what comes and is applied, so that the peer has something to send meanwhile.
            if self.gate_is_open() {
                self.offer_more();
            }
            if let Some((query, purpose)) = self.queries.pop_front() {
                self.asked = Some((purpose, query.places().to_vec()));
                self.outputs.push_back(Output::Ask(query));
                return;
            }
            self.send_lists();
            if self.requests.len() < self.requests_max() && self.open_more() {
                continue;
            }
            self.bound_gathered();
            let open = self.gate_is_open();
            if open && self.flush_transfers() {
                continue;
            }
            if !open && self.requests.is_empty() && self.release() {
                continue;
            }
            let ready = open && self.requests.is_empty() && self.transfers.all_sent();
            if !(ready && self.next_phase()) {
                return;
            }
        }
    }

    pub(super) fn requests_max(&self) -> usize {
        self.options.requests.clamp(1, REQUESTS_MAX)
    }

    /// Looks at the next ranges that differ, to show them to the peer; each lies below one that was compared (M8).
    fn open_more(&mut self) -> bool {
        let most = ASKS_MAX * self.requests_max() / REQUESTS_MAX;
        let Some((collection, queue)) = self.open.iter_mut().find(|(_, queue)| !queue.is_empty()) else {
            return false;
        };
        let (n, few) = (self.options.together(*collection, queue, most), queue.len());
        let ask = |(range, count)| Ask { range, levels: descent::levels(range, count, few) };
        let asks: Vec<Ask> = queue.drain(..n).map(ask).collect();
        let collection = *collection;
        self.ask(Query::Views(collection, asks.clone()), Purpose::OpenViews(collection, asks));
        true
    }

    fn send_views(&mut self, collection: CollectionId, asks: &[Ask], views: &[View]) {
        let (mut blob, mut ranges) = (Vec::new(), Vec::new());
        for (ask, view) in asks.iter().zip(views) {
            descent::view(view, ask.levels, self.width).encode(&mut blob);
            ranges.push(ask.range);
            if blob.len() >= FRAME_BYTES_AIM {
                self.send_compare(collection, std::mem::take(&mut blob), std::mem::take(&mut ranges));
            }
        }
        if !ranges.is_empty() {
            self.send_compare(collection, blob, ranges);
        }
    }

    fn send_compare(&mut self, collection: CollectionId, views: Vec<u8>, ranges: Vec<Range>) {
        let id = self.request(collection, ranges, Awaited::Compare);
        self.send(Message::Compare(Compare { id, collection, views: Blob(views) }));
    }

    pub(super) fn request(&mut self, collection: CollectionId, ranges: Vec<Range>, awaited: Awaited) -> u32 {
        let id = self.next_request;
        self.next_request = self.next_request.wrapping_add(1).max(1);
        self.requests.insert(id, Request::new(collection, ranges, awaited));
        id
    }

    /// Expects the responder's first, unasked view of a root.
    pub(super) fn expect_first(&mut self, collection: CollectionId) {
        self.requests.insert(0, Request::new(collection, vec![Range::ALL], Awaited::First));
    }

    /// Asks for the items that were gathered, unless many requests wait already: then more are gathered first.
    fn send_lists(&mut self) {
        if self.requests.len() >= self.requests_max() {
            return;
        }
        for (collection, (mut positions, ranges)) in std::mem::take(&mut self.list) {
            positions.sort_unstable();
            positions.dedup();
            let mut positions = self.list_tried(collection, positions);
            let mut ranges = ranges.chunks(RANGES_PER_MESSAGE_MAX / 2);
            loop {
                let some: Vec<Position> = positions.split_off(positions.len().saturating_sub(FRAME_BYTES_AIM / 10));
                let parts = ranges.next().unwrap_or_default();
                if some.is_empty() && parts.is_empty() {
                    break;
                }
                let positions = some.into_iter().map(|position| position.0).collect();
                self.send_list(collection, parts, positions, Awaited::List);
            }
        }
        self.send_close_lists();
    }

    pub(super) fn send_list(
        &mut self,
        collection: CollectionId,
        parts: &[Range],
        positions: Vec<u64>,
        awaited: Awaited,
    ) {
        let id = self.request(collection, parts.to_vec(), awaited);
        if let Some(request) = self.requests.get_mut(&id) {
            request.positions.clone_from(&positions);
        }
        self.send(Message::List(List { id, collection, ranges: Blob(wire::pack_ranges(parts)), positions }));
    }

    fn on_compared(&mut self, compared: Compared) -> Result<(), SessionError> {
        let views = RangeView::unpack(&compared.views.0)?;
        let mut items = WireItem::unpack(&compared.items.0)?;
        if compared.id == 0 && !compared.last && self.set_aside(&views) {
            return Ok(());
        }
        let unasked = SessionError::Unexpected("an answer nobody asked for");
        let request = self.requests.get_mut(&compared.id).ok_or(unasked.clone())?;
        let collection = request.collection;
        if !request.may_tell(views.len(), compared.items.0.len()) {
            return Err(SessionError::Unexpected("an answer that goes on beyond what was asked about"));
        }
        // An answer speaks of nothing else than was asked about (M7).
        let below = |range: Range| request.ranges.iter().any(|asked| asked.covers(range));
        let listing = match &mut request.awaited {
            Awaited::Cells(..) => return Err(unasked),
            Awaited::First | Awaited::Compare | Awaited::Proof => false,
            Awaited::List => true,
            Awaited::Close(gathered) => {
                gathered.append(&mut items);
                true
            }
        };
        if listing && !views.is_empty() || request.ranges.len() < 64 && views.iter().any(|view| !below(view.range)) {
            return Err(SessionError::Unexpected("an answer about ranges that were not asked about"));
        }
        let (few, asked) = (request.ranges.len() < 64, request.ranges.clone());
        let ended = if compared.last { self.requests.remove(&compared.id) } else { None };
        let proof = |request: &Request| matches!(request.awaited, Awaited::Proof).then(|| request.ranges.clone());
        if let Some(asked) = ended.as_ref().or(self.requests.get(&compared.id)).and_then(proof) {
            self.note_unproven(collection, &asked, &views);
        }
        // The first view of the root tells nothing of picked keys.
        if !self.is_picked() {
            self.look_at_views(collection, views);
        }
        match ended.map(|request| (request.awaited, request.ranges)) {
            Some((Awaited::Proof, _)) => self.proven(),
            Some((Awaited::Close(items), ranges)) => {
                return self.pair_close(collection, ranges, items);
            }
            _ => {}
        }
        if !compared.alone.is_empty() {
            let alone: Vec<Position> = compared.alone.iter().map(|position| Position(*position)).collect();
            if few && alone.iter().any(|position| !asked.iter().any(|range| range.contains(*position))) {
                return Err(SessionError::Unexpected("an answer about positions that were not asked about"));
            }
            self.take_step(collection, Step::Leaf { mine: Vec::new(), theirs: alone, both: Vec::new() });
        }
        let positions = items.iter().map(|item| item.item.position);
        let positions = positions.chain(compared.lacking.iter().map(|p| Position(*p))).collect();
        self.look_at_items(collection, positions, items);
        Ok(())
    }

    fn take_step(&mut self, collection: CollectionId, step: Step) {
        let Some(step) = self.step_beside_parked(collection, step) else { return };
        let repair = match (self.options.intent, &step) {
            // What only the mirrored side has is to go, key by key.
            (_, Step::OnlyMine(..)) if self.mirroring() == Some(Side::Mine) || self.is_based() => None,
            (Intent::Repair(_), Step::OnlyTheirs(_)) if self.mirroring() == Some(Side::Theirs) || self.is_based() => {
                None
            }
            (Intent::Repair(direction), _) => Some(direction),
            _ => None,
        };
        match (step, repair) {
            (Step::Open(range, count), _) => self.open.entry(collection).or_default().push_back((range, count)),
            (Step::OnlyMine(range, count), Some(direction)) => {
                self.counts.only_mine += count;
                if direction.writes(Side::Theirs) {
                    self.transfers.send(collection, Selection::Range(range));
                } else {
                    self.leave(count, false);
                }
            }
            (Step::OnlyMine(range, _), None) => {
                self.ask(Query::List(collection, range, None), Purpose::MineOnly(collection, range));
            }
            (Step::OnlyTheirs(range), Some(direction)) if direction.writes(Side::Mine) => {
                self.transfers.want(collection, Selection::Range(range));
            }
            (Step::OnlyTheirs(range), _) => self.list.entry(collection).or_default().1.push(range),
            (Step::Leaf { mine, theirs, both }, repair) => {
                // What only the peer has is taken without a second look, unless it is to go.
                let plain = self.mirroring().is_none() && !self.is_based();
                let takes = plain && repair.is_some_and(|direction| direction.writes(Side::Mine));
                if takes {
                    let places = theirs.iter().map(|position| Range::of(*position, DEPTH_MAX));
                    places.for_each(|place| self.transfers.want(collection, Selection::Range(place)));
                }
                if !mine.is_empty() {
                    self.ask(Query::Items(collection, places(&mine)), Purpose::Pair(collection, Vec::new()));
                }
                let list = &mut self.list.entry(collection).or_default().0;
                list.extend(if takes { Vec::new() } else { theirs });
                list.extend(both);
            }
        }
    }
}
