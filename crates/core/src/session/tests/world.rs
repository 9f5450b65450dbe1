//! Two sides over model stores in one thread, and what is done to them meanwhile.

use std::collections::VecDeque;

use super::model::Model;
use super::*;
use crate::brakes::Losses;
use crate::canonical::Blob;
use crate::difference::{Difference, Side};
use crate::message::{Message, Refuse, RefuseCode, Rights};
use crate::query::{Guard, Incoming, Query};
use crate::receipt::{PeerKey, Signature, Witness};

/// What happens around a session.
pub(super) struct World {
    pub(super) rights: Rights,
    /// Those on the first collection alone.
    pub(super) on_first: Rights,
    pub(super) writers: Option<u64>,
    /// Writes of one store that the other follows.
    pub(super) followed: Option<Followed>,
    /// What the responder lets itself lose.
    pub(super) brakes: Option<crate::brakes::Brakes>,
    /// What each side has lost in sessions before, as the opener knows it.
    pub(super) lost: (Losses, Losses),
    /// How often the opener's store is written just after it asked for roots.
    pub(super) late: u8,
    /// Whether each side signs receipts.
    pub(super) signs: (bool, bool),
    /// Whether the opener signs with a key that is not its own.
    pub(super) forges: bool,
    /// After how many messages and batches of records that the opener was handed the link is lost.
    pub(super) cut: Option<usize>,
    /// The opener is told to end while its store writes for the first time.
    pub(super) stops: bool,
}

impl World {
    pub(super) fn quiet() -> World {
        World {
            rights: Rights::ALL,
            on_first: Rights(0),
            writers: None,
            followed: None,
            brakes: None,
            lost: Default::default(),
            late: 0,
            signs: (false, false),
            forges: false,
            cut: None,
            stops: false,
        }
    }

    /// The link is lost after so many messages and batches of records.
    pub(super) fn cut(after: usize) -> World {
        World { cut: Some(after), ..World::quiet() }
    }

    /// Both sides are written while the session runs, from a seed.
    pub(super) fn written(seed: u64) -> World {
        World { writers: Some(seed | 1), ..World::quiet() }
    }
}

/// A few keys of which one store is written, and the other follows in the same order, a moment later.
pub(super) struct Followed {
    seed: u64,
    /// Whether it is the responder's store that is written first.
    turned: bool,
    written: u64,
    /// What the other store has yet to follow, by those who write: each key has one.
    behind: [VecDeque<(u16, Option<u64>)>; 4],
}

impl Followed {
    /// Keys that are written.
    const KEYS: u64 = 24;

    pub(super) fn new(seed: u64, turned: bool) -> Followed {
        Followed { seed: seed | 1, turned, written: 0, behind: Default::default() }
    }

    fn draw(&mut self, below: u64) -> u64 {
        next(&mut self.seed);
        (self.seed >> 33) % below
    }

    /// One side does one thing, or none.
    fn go_on(&mut self, opener: &mut Model, responder: &mut Model) {
        let (first, second) = if self.turned { (responder, opener) } else { (opener, responder) };
        match self.draw(4) {
            0 => {
                let key = self.draw(Self::KEYS) as u16;
                self.written += 1;
                // No value is written twice, but what is gone is gone each time.
                let value = (self.draw(2) == 0).then_some(self.written);
                self.set(first, key, value);
                self.behind[usize::from(key) % 4].push_back((key, value));
            }
            1 | 2 => {
                let writer = self.draw(4) as usize;
                if let Some((key, value)) = self.behind[writer].pop_front() {
                    self.set(second, key, value);
                }
            }
            _ => {}
        }
    }

    /// Much is written, and all that was behind is followed.
    fn while_it_settles(&mut self, opener: &mut Model, responder: &mut Model) {
        let before: Vec<_> = self.behind.iter_mut().flat_map(std::mem::take).collect();
        let second = if self.turned { &mut *opener } else { &mut *responder };
        before.into_iter().for_each(|(key, value)| self.set(second, key, value));
        for _ in 0..self.draw(60) {
            self.go_on(opener, responder);
        }
    }

    fn set(&self, model: &mut Model, key: u16, value: Option<u64>) {
        model.put_bare(&key.to_be_bytes(), value.map(|value| value.to_be_bytes().to_vec()));
    }
}

pub(super) fn next(seed: &mut u64) {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
}

pub(super) struct Run {
    pub(super) outcome: Outcome,
    pub(super) found: Vec<Difference>,
    pub(super) bytes: usize,
    /// Records that travelled with their contents.
    pub(super) whole: usize,
    pub(super) plans: Vec<Plan>,
    /// One-way bursts until both sides knew what to send: all but those that look at roots and say goodbye.
    pub(super) flights: u64,
    /// Where a store could not answer, if that ended it.
    pub(super) stuck: Option<Stuck>,
    /// The responder's copy of the receipt, or how it took the opener's last words.
    pub(super) receipt_there: Result<Option<Receipt>, SessionError>,
}

/// Counts bursts of messages, one-way.
#[derive(Default)]
struct Flights {
    last: Option<bool>,
    all: u64,
    until_known: u64,
}

impl Flights {
    fn note(&mut self, to_responder: bool, message: &Message) {
        if self.last != Some(to_responder) {
            self.last = Some(to_responder);
            self.all += 1;
        }
        let after = match message {
            Message::AskRoots(_) | Message::Roots(_) | Message::Written(_) | Message::Bye(_) => true,
            Message::Wanted(w) => [&w.wanted, &w.bare, &w.lacking, &w.unclear].iter().all(|list| list.0.is_empty()),
            _ => false,
        };
        if !after {
            self.until_known = self.all;
        }
    }
}

fn with_content(records: &[Incoming]) -> usize {
    records.iter().filter(|incoming| incoming.guard != Guard::Bare).count()
}

/// Carries a session through to its end.
pub(super) fn run(a: &mut Model, b: &mut Model, options: Options, mut world: World) -> Run {
    let mut opener = a.opener(options);
    opener.note_lost(Side::Mine, world.lost.0);
    opener.note_lost(Side::Theirs, world.lost.1);
    let on_first = [(CollectionId(0), world.on_first)].into();
    let mut responder = b.responder_to(Grant { collections: on_first, ..Grant::everywhere(world.rights) });
    if let Some(brakes) = world.brakes {
        responder = responder.with_brakes(brakes);
    }
    if world.signs.0 {
        opener = opener.with_witness(Arc::new(Signer { me: OPENER, peer: RESPONDER, forges: world.forges }));
    }
    if world.signs.1 {
        responder = responder.with_witness(Arc::new(Signer { me: RESPONDER, peer: OPENER, forges: false }));
    }
    let (mut now, mut bytes, mut whole, mut found, mut plans) = (0, 0, 0, Vec::new(), Vec::new());
    let (mut flights, mut bursts, mut heard) = (Flights::default(), 0, 0);
    let (mut to_a, mut to_b): (VecDeque<Input>, VecDeque<Input>) = Default::default();
    let (mut stuck_here, mut stuck_there): (Option<Stuck>, Option<Stuck>) = Default::default();
    for _ in 0..1_000_000 {
        if let Some(followed) = &mut world.followed {
            followed.go_on(a, b);
        }
        if let Some(seed) = &mut world.writers {
            next(seed);
            let side = if *seed >> 40 & 1 == 0 { &mut *a } else { &mut *b };
            if *seed >> 45 & 3 == 0 {
                side.write(&((*seed >> 50) as u16 % 3000).to_be_bytes(), Some(vec![(*seed >> 33) as u8]));
            }
        }
        if let Some(output) = opener.poll() {
            match output {
                Output::Send(message) => {
                    let frame = message.encode();
                    flights.note(true, &message);
                    bytes += frame.len();
                    assert!(frame.len() <= crate::bounds::FRAME_BYTES_MAX);
                    to_b.push_back(Input::Message(Message::decode(&frame).expect("what was sent is understood")));
                    if matches!(message, Message::AskRoots(_)) && world.late > 0 {
                        world.late -= 1;
                        a.write(b"late", Some(vec![world.late]));
                    }
                }
                Output::Ask(query) => {
                    if world.stops && matches!(query, Query::Apply(..)) {
                        world.stops = false;
                        opener.handle(Input::Stop, now).expect("it ends");
                        assert!(opener.poll().is_none(), "not before it is known what was written");
                    }
                    stuck_here = stuck_here.or(a.stuck(&query));
                    let input = if stuck_here.is_some() { Input::Lost } else { Input::Answer(a.answer(query)) };
                    opener.handle(input, now).expect("in order");
                }
                Output::Stream { selections, .. } if a.stuck_at(&selections).is_some() => {
                    stuck_here = a.stuck_at(&selections);
                    opener.handle(Input::Lost, now).expect("it ends");
                }
                Output::Stream { transfer, selections, given, guards } => {
                    let (records, moved) = a.of(transfer.1).stream(&selections, given, &guards);
                    whole += with_content(&records);
                    let sent = records.len() as u64;
                    for some in records.chunks(100) {
                        to_b.push_back(Input::Records { transfer, records: some.to_vec() });
                    }
                    to_b.push_back(Input::End { transfer, records: sent, moved });
                }
                Output::Planned(plan) => plans.push(plan),
                Output::Found(difference) => found.push(difference),
                Output::Done(outcome) => {
                    let flights = flights.until_known;
                    let heard = to_b.drain(..).try_for_each(|input| responder.handle(input));
                    let receipt_there = heard.map(|()| responder.receipt().cloned());
                    let stuck = stuck_here.or(outcome.stuck.clone());
                    return Run { outcome: *outcome, found, bytes, whole, plans, flights, stuck, receipt_there };
                }
            }
        } else if world.cut == Some(heard) {
            world.cut = None;
            opener.handle(Input::Lost, now).expect("it ends");
        } else if let Some(output) = responder.poll().filter(|_| stuck_there.is_none()) {
            match output {
                Output::Send(message) => {
                    let frame = message.encode();
                    flights.note(false, &message);
                    bytes += frame.len();
                    assert!(frame.len() <= crate::bounds::FRAME_BYTES_MAX);
                    to_a.push_back(Input::Message(Message::decode(&frame).expect("what was sent is understood")));
                }
                Output::Ask(query) if b.stuck(&query).is_some() => {
                    stuck_there = b.stuck(&query);
                    to_a.extend(stuck_there.as_ref().map(refusal));
                }
                Output::Stream { selections, .. } if b.stuck_at(&selections).is_some() => {
                    stuck_there = b.stuck_at(&selections);
                    to_a.extend(stuck_there.as_ref().map(refusal));
                }
                Output::Ask(query) => responder.handle(Input::Answer(b.answer(query))).expect("in order"),
                Output::Stream { transfer, selections, given, guards } => {
                    let (records, moved) = b.of(transfer.1).stream(&selections, given, &guards);
                    whole += with_content(&records);
                    let sent = records.len() as u64;
                    for some in records.chunks(100) {
                        to_a.push_back(Input::Records { transfer, records: some.to_vec() });
                    }
                    to_a.push_back(Input::End { transfer, records: sent, moved });
                }
                Output::Planned(plan) => plans.push(plan),
                Output::Found(_) | Output::Done(_) => unreachable!("a responder judges nothing"),
            }
        } else if let Some(input) = to_a.pop_front() {
            heard += 1;
            opener.handle(input, now).expect("a responder keeps to the protocol");
        } else if !to_b.is_empty() && stuck_there.is_none() {
            // All that came at once is handed in at once, as a busy responder finds it.
            let mut burst: Vec<Input> = to_b.drain(..).collect();
            // Records travel on a lane of their own: now and then what is said overtakes them.
            bursts += 1;
            if bursts % 2 == 0 {
                burst.sort_by_key(|input| !matches!(input, Input::Message(_)));
            }
            let mut burst = VecDeque::from(burst);
            while let Some(input) = burst.pop_front() {
                // What there is no room for waits in its lane.
                if matches!(input, Input::Message(_)) && !responder.has_room() {
                    to_b.push_back(input);
                    break;
                }
                responder.handle(input).expect("an opener keeps to the protocol");
            }
            to_b.extend(burst);
        } else if let Some(at) = opener.wake_at() {
            now = at;
            if let Some(followed) = &mut world.followed {
                followed.while_it_settles(a, b);
            }
            opener.handle(Input::Time, now).expect("time passes");
        } else {
            panic!("the session stands still: nothing to send, nothing to wait for");
        }
    }
    panic!("the session does not end");
}

/// What a responder says whose store cannot answer.
fn refusal(stuck: &Stuck) -> Input {
    let (detail, definition) = ("the store is damaged".into(), Blob(stuck.pack()));
    Input::Message(Message::Refuse(Refuse { code: RefuseCode::Store, detail, definition }))
}

pub(super) const OPENER: PeerKey = [1; 32];
pub(super) const RESPONDER: PeerKey = [2; 32];

/// Signs with a hash under the name of the signer: whoever knows the name can forge it, which tests do.
pub(super) struct Signer {
    pub(super) me: PeerKey,
    pub(super) peer: PeerKey,
    pub(super) forges: bool,
}

impl Signer {
    fn signature(key: &PeerKey, statement: &[u8]) -> Signature {
        let mut signature = [0; 64];
        blake3::Hasher::new_keyed(key).update(statement).finalize_xof().fill(&mut signature);
        signature
    }
}

impl Witness for Signer {
    fn me(&self) -> PeerKey {
        self.me
    }

    fn peer(&self) -> PeerKey {
        self.peer
    }

    fn now(&self) -> Millis {
        u64::from(self.me[0])
    }

    fn sign(&self, statement: &[u8]) -> Signature {
        Signer::signature(if self.forges { &[9; 32] } else { &self.me }, statement)
    }

    fn holds(&self, peer: &PeerKey, statement: &[u8], signature: &Signature) -> bool {
        Signer::signature(peer, statement) == *signature
    }
}
