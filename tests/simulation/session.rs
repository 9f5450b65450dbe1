//! One session between two simulated peers: the core's machines, the store's answers, and two lanes of encoded frames that
//! may lag, overtake each other and break.

use std::collections::VecDeque;
use std::sync::Arc;

use reknit::core::canonical::Blob;
use reknit::core::collect::{CatchingUp as Steps, Horizon};
use reknit::core::difference::Difference;
use reknit::core::journal::RunId;
use reknit::core::message::{Life, Message, Refuse, RefuseCode, Rights};
use reknit::core::query::{Answer, Incoming, Query};
use reknit::core::receipt::Receipt;
use reknit::core::session::{Grant, Input, Opener, Options, Outcome, Output, Responder};
use reknit::core::wire::RecordFrame;
use reknit::store::LookOut;
use reknit::store::answer::{Chunks, Frames, answer};
use reknit::store::engine::conformance::Draw;
use reknit::store::{Side, StoreError};

use crate::collecting::{Signer, key_of};
use crate::oracle::Held;
use crate::shape::Shape;

/// Record frames that an end takes before the first of them is applied, as the driver does.
const FRAMES_MAX: usize = 2;

enum Machine {
    Opener(Box<Opener>),
    Responder(Box<Responder>),
}

/// One end of a session.
pub(crate) struct Half {
    machine: Machine,
    pub(crate) peer: usize,
    pub(crate) side: Arc<dyn Side>,
    question: Option<Query>,
    answered: Option<Answer>,
    frames: VecDeque<Frames>,
    chunks: Chunks,
    control: VecDeque<Vec<u8>>,
    records: VecDeque<Vec<u8>>,
    /// Record frames that were taken and are not applied yet.
    applying: usize,
    /// How it ended, once it has.
    pub(crate) over: Option<String>,
    /// Whether its run was ended.
    pub(crate) closed: bool,
    /// Whether its process died.
    pub(crate) killed: bool,
    /// What the peer held when the session began, and when it read its roots last.
    pub(crate) at_start: Held,
    pub(crate) at_cut: Option<Held>,
    /// Its commit number when the session began.
    pub(crate) commit: u64,
    /// Undos, restores and the like of this peer until then.
    pub(crate) upheavals: u64,
    /// Its run in the journal, once it has changed something.
    pub(crate) run: Option<RunId>,
}

/// What may happen next.
#[derive(Clone, Copy)]
enum Act {
    Ask(usize),
    Answer(usize),
    Stream(usize),
    Control(usize),
    Records(usize),
    End(usize),
    Wake(u64),
}

/// What a step did.
pub(crate) enum Did {
    /// There was nothing to do.
    Nothing,
    /// This half worked; the second tells whether it read its roots.
    Worked(usize, bool),
    /// The store of this half failed.
    Failed(usize, StoreError),
}

/// What a session is part of whose opener catches up.
#[derive(Clone)]
pub(crate) struct CatchingUp {
    /// Up to where the opener collects then.
    pub(crate) horizon: Horizon,
    /// How far it is.
    pub(crate) steps: Steps,
    /// Held from before it looks at what differs.
    pub(crate) looks_out: Option<LookOut>,
}

pub(crate) struct Session {
    pub(crate) number: u64,
    pub(crate) halves: [Half; 2],
    pub(crate) options: Options,
    pub(crate) broken: bool,
    begun: u64,
    /// Milliseconds that it has taken.
    time: u64,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) found: Vec<Difference>,
    pub(crate) catches_up: Option<CatchingUp>,
    page_bytes: usize,
}

impl Half {
    fn new(machine: Machine, end: End) -> Self {
        let End { peer, side, held: at_start, upheavals, commit } = end;
        Self {
            machine,
            peer,
            side,
            question: None,
            answered: None,
            frames: VecDeque::new(),
            chunks: Chunks::default(),
            control: VecDeque::new(),
            records: VecDeque::new(),
            applying: 0,
            over: None,
            closed: false,
            killed: false,
            at_start,
            at_cut: None,
            commit,
            upheavals,
            run: None,
        }
    }

    /// Ends without an outcome.
    pub(crate) fn end(&mut self) {
        self.over.get_or_insert_with(|| "undetermined".into());
        self.question = None;
        self.answered = None;
        self.frames.clear();
        self.control.clear();
        self.records.clear();
    }

    fn rests(&self) -> bool {
        self.question.is_none() && self.answered.is_none() && self.frames.is_empty()
    }
}

/// A peer as a session sees it.
pub(crate) struct End {
    pub(crate) peer: usize,
    pub(crate) side: Arc<dyn Side>,
    pub(crate) held: Held,
    pub(crate) upheavals: u64,
    pub(crate) commit: u64,
}

impl Session {
    pub(crate) fn new(
        number: u64,
        a: End,
        b: End,
        options: Options,
        shape: &Shape,
        now: u64,
        clocks: (u64, u64),
    ) -> Self {
        let life = |side: &dyn Side| Life { actor: side.describe().actor.0, nonce: side.describe().nonce };
        let (mine, theirs) = (a.side.describe(), b.side.describe());
        let signer = |me, peer, now| Arc::new(Signer { me: key_of(me), peer: key_of(peer), now });
        let mut opener = Opener::new(mine.definition, mine.keys, life(&*a.side), options.clone(), 0);
        if options.receipt {
            opener = opener.with_witness(signer(a.peer, b.peer, clocks.0));
        }
        let responder = Responder::new(theirs.definition, theirs.keys, life(&*b.side), Grant::everywhere(Rights::ALL))
            .with_planner(shape.planner)
            .with_witness(signer(b.peer, a.peer, clocks.1));
        let halves =
            [Half::new(Machine::Opener(Box::new(opener)), a), Half::new(Machine::Responder(Box::new(responder)), b)];
        let mut session = Self {
            number,
            halves,
            options,
            broken: false,
            begun: now,
            time: 0,
            outcome: None,
            found: Vec::new(),
            catches_up: None,
            page_bytes: shape.page_bytes,
        };
        session.drain(0);
        session
    }

    /// What each end has of the receipt.
    pub(crate) fn receipts(&self) -> Vec<(usize, Receipt)> {
        let mut receipts = Vec::new();
        let near = self.outcome.as_ref().and_then(|outcome| outcome.receipt.as_deref());
        receipts.extend(near.map(|receipt| (self.halves[0].peer, receipt.clone())));
        if let Machine::Responder(responder) = &self.halves[1].machine {
            receipts.extend(responder.receipt().map(|receipt| (self.halves[1].peer, receipt.clone())));
        }
        receipts
    }

    pub(crate) fn is_over(&self) -> bool {
        self.halves.iter().all(|half| half.over.is_some() && half.rests())
    }

    /// The link breaks: what was under way arrives in part, and each end notices once it has nothing more to read.
    pub(crate) fn cut_link(&mut self, draw: &mut Draw) {
        self.broken = true;
        for half in &mut self.halves {
            let (control, records) = (draw.below(half.control.len() + 1), draw.below(half.records.len() + 1));
            half.control.truncate(control);
            half.records.truncate(records);
        }
    }

    /// One end is gone with its process.
    pub(crate) fn kill(&mut self, nth: usize, draw: &mut Draw) {
        self.halves[nth].closed = true;
        self.halves[nth].killed = true;
        self.halves[nth].end();
        self.cut_link(draw);
    }

    /// Does one of the things that can be done, if frames travel at all.
    pub(crate) fn step(&mut self, draw: &mut Draw, now: u64, travels: bool) -> Did {
        let mut acts = Vec::new();
        for nth in 0..2 {
            let (half, other) = (&self.halves[nth], &self.halves[1 - nth]);
            if half.question.is_some() {
                acts.push(Act::Ask(nth));
            }
            if half.answered.is_some() {
                acts.push(Act::Answer(nth));
            }
            if !half.frames.is_empty() {
                acts.push(Act::Stream(nth));
            }
            if half.over.is_none() && (travels || self.broken) {
                if !half.control.is_empty() {
                    acts.push(Act::Control(nth));
                }
                if !half.records.is_empty() && half.applying < FRAMES_MAX {
                    acts.push(Act::Records(nth));
                }
                let silent = half.control.is_empty() && half.records.is_empty();
                let ended = other.over.is_some() && other.frames.is_empty();
                if silent && half.rests() && (self.broken || ended) {
                    acts.push(Act::End(nth));
                }
            }
        }
        if acts.is_empty()
            && let Machine::Opener(opener) = &self.halves[0].machine
            && self.halves[0].over.is_none()
        {
            acts.extend(opener.wake_at().map(Act::Wake));
        }
        if acts.is_empty() {
            assert!(!travels || self.is_over(), "session {} stands still", self.number);
            return Did::Nothing;
        }
        let act = acts[draw.below(acts.len())];
        self.act(act, now)
    }

    fn act(&mut self, act: Act, now: u64) -> Did {
        self.time = self.time.max(now.saturating_sub(self.begun));
        let now = self.time;
        match act {
            Act::Ask(nth) => {
                let half = &mut self.halves[nth];
                let Some(query) = half.question.take() else { return Did::Nothing };
                let roots = matches!(query, Query::Cut | Query::Expire(_) | Query::Introduce | Query::Meet(..));
                match answer(&*half.side, query) {
                    Ok(answer) => half.answered = Some(answer),
                    Err(error) => return Did::Failed(nth, error),
                }
                Did::Worked(nth, roots)
            }
            Act::Answer(nth) => {
                let answered = self.halves[nth].answered.take();
                if matches!(answered, Some(Answer::Applied(_))) {
                    self.halves[nth].applying = self.halves[nth].applying.saturating_sub(1);
                }
                answered.map_or(Did::Nothing, |answer| self.hand(nth, Input::Answer(answer), now))
            }
            Act::Stream(nth) => {
                let half = &mut self.halves[nth];
                let next = half.frames.front_mut().map(|frames| frames.next(&*half.side));
                match next {
                    Some(Ok(Some(frame))) => {
                        if !self.broken {
                            self.halves[1 - nth].records.push_back(frame.encode());
                        }
                    }
                    Some(Err(error)) => return Did::Failed(nth, error),
                    Some(Ok(None)) | None => drop(half.frames.pop_front()),
                }
                Did::Worked(nth, false)
            }
            Act::Control(nth) => {
                let frame = self.halves[nth].control.pop_front().unwrap_or_default();
                let message = Message::decode(&frame).expect("what was sent is understood");
                self.hand(nth, Input::Message(message), now)
            }
            Act::Records(nth) => {
                let frame = self.halves[nth].records.pop_front().unwrap_or_default();
                let input = match RecordFrame::decode(&frame).expect("what was sent is understood") {
                    RecordFrame::Records { transfer, records } => {
                        self.halves[nth].applying += 1;
                        Input::Records { transfer, records }
                    }
                    RecordFrame::End { transfer, records, moved } => Input::End { transfer, records, moved },
                    RecordFrame::Chunk { transfer, guard, total, bytes } => {
                        let whole = self.halves[nth].chunks.add(transfer, total, &bytes).expect("chunks fit together");
                        let Some(record) = whole else { return Did::Worked(nth, false) };
                        self.halves[nth].applying += 1;
                        Input::Records { transfer, records: vec![Incoming { record, guard }] }
                    }
                };
                self.hand(nth, input, now)
            }
            Act::End(nth) => {
                self.halves[nth].end();
                Did::Worked(nth, false)
            }
            Act::Wake(at) => {
                self.time = now.max(at);
                self.hand(0, Input::Time, self.time)
            }
        }
    }

    fn hand(&mut self, nth: usize, input: Input, now: u64) -> Did {
        let handled = match &mut self.halves[nth].machine {
            Machine::Opener(opener) => opener.handle(input, now),
            Machine::Responder(responder) => responder.handle(input),
        };
        handled.unwrap_or_else(|error| panic!("session {}: {error}", self.number));
        self.drain(nth);
        Did::Worked(nth, false)
    }

    /// Puts out all that a machine has to say.
    fn drain(&mut self, nth: usize) {
        loop {
            let half = &mut self.halves[nth];
            let output = match &mut half.machine {
                Machine::Opener(opener) => opener.poll(),
                Machine::Responder(responder) => responder.poll(),
            };
            match output {
                Some(Output::Send(message)) => self.send(nth, &message),
                Some(Output::Ask(query)) => half.question = Some(query),
                Some(Output::Stream { transfer, selections, given, guards }) => {
                    let keys = half.side.describe().keys;
                    let frames = Frames::new(keys, transfer, selections, given, guards);
                    half.frames.push_back(frames.with_page_bytes(self.page_bytes));
                }
                Some(Output::Planned(_)) => {}
                Some(Output::Found(difference)) => self.found.push(difference),
                Some(Output::Done(outcome)) => {
                    half.over = Some(outcome.verdict.name().into());
                    self.outcome = Some(*outcome);
                }
                None => break,
            }
        }
        let half = &mut self.halves[nth];
        if let Machine::Responder(responder) = &half.machine
            && let Some(verdict) = responder.verdict()
            && half.over.is_none()
        {
            half.over = Some(verdict.into());
        }
        if half.over.is_some() {
            half.question = None;
            half.answered = None;
        }
    }

    fn send(&mut self, nth: usize, message: &Message) {
        if !self.broken {
            self.halves[1 - nth].control.push_back(message.encode());
        }
    }

    /// The store of one end cannot go on: whoever answers says so.
    pub(crate) fn fail(&mut self, nth: usize, error: &StoreError) {
        if nth == 1 {
            let refuse = Refuse { code: RefuseCode::Store, detail: error.to_string(), definition: Blob::default() };
            self.send(nth, &Message::Refuse(refuse));
        }
        self.halves[nth].end();
    }
}
