//! Fresh writes, told to a few peers at once: who is told, who is asked, and what is sent again elsewhere if no answer comes.
//!
//! A writer gives the record itself to very few peers. Everyone else is told that there is one, in 17 bytes, and asks the first
//! who told for it: so a record travels about once to each peer, whoever knows it first. Each passes on what is news to it, once.
//! (Rumour mongering: Demers and others, 1987.) Records are read when they are sent, so that queues hold no contents. Answers are
//! waited for by a clock that nobody sets (`tick`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::draw::Draw;
use crate::dataset::CollectionId;
use crate::range::Position;
use crate::stamp::Millis;

/// That there is a fresh state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rumour {
    /// Of which collection.
    pub collection: CollectionId,
    /// Where its key lies.
    pub position: Position,
    /// The digest of its entry, by [`crate::Digest::short`].
    pub entry: u64,
}

/// How much is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rumours that wait to be sent to one peer, of each kind; past it the oldest are left to sessions.
    pub queue: usize,
    /// Records that are asked for; past it what is told is left to sessions.
    pub asked: usize,
    /// Rumours that are remembered, so that none is passed on twice.
    pub remembered: usize,
    /// How long an answer is waited for before another peer is asked, in milliseconds.
    pub patience: Millis,
    /// Whoever comes up is told what was written within so many milliseconds: it may have been written before it was seen to be up.
    pub fresh: Millis,
    /// Rumours in one message.
    pub message: usize,
}

impl Default for Limits {
    /// A few MiB a dataset at most.
    fn default() -> Limits {
        Limits { queue: 4096, asked: 16_384, remembered: 65_536, patience: 500, fresh: 10_000, message: 512 }
    }
}

/// What is to be sent to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Send {
    /// That this node has these.
    Tell(Vec<Rumour>),
    /// That this node wants these.
    Want(Vec<Rumour>),
    /// The records of these, as the store has them by now.
    Give(Vec<Rumour>),
}

/// What is sent of some rumours.
type Kind = fn(Vec<Rumour>) -> Send;

/// What became of rumours so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That were news here.
    pub news: u64,
    /// Records that came though they were known.
    pub needless: u64,
    /// That found a full queue, that nobody answered for, or that may not be taken in now: sessions bring them.
    pub left: u64,
}

/// A record that was asked for.
#[derive(Clone, Debug)]
struct Asked<P> {
    of: P,
    tick: Millis,
    /// It has told before it was seen to be up, and is asked once it is.
    early: bool,
    /// Others who have it.
    others: Vec<P>,
}

/// What waits to be sent to a peer.
#[derive(Clone, Debug, Default)]
struct Queues {
    /// Whether the peer may read what is here.
    reads: bool,
    /// When it was told what was fresh.
    brought_up: Option<Millis>,
    tell: VecDeque<Rumour>,
    want: VecDeque<Rumour>,
    give: VecDeque<Rumour>,
}

/// Peers that a writer gives the record itself.
const GIVEN: usize = 2;
/// Milliseconds in which a peer is told once what is fresh.
const BROUGHT_UP_APART: Millis = 1_000;
/// Further peers that are remembered to have a record which was asked for.
const OTHERS: usize = 4;

/// The rumours of a dataset.
#[derive(Clone, Debug)]
pub struct Rumours<P> {
    limits: Limits,
    draw: Draw,
    peers: BTreeMap<P, Queues>,
    /// Rumours that were passed on, in which order, and when.
    known: BTreeSet<Rumour>,
    order: VecDeque<(Rumour, Millis)>,
    asked: BTreeMap<Rumour, Asked<P>>,
    counts: Counts,
}

impl<P: Copy + Ord> Rumours<P> {
    /// None so far.
    pub fn new(limits: Limits, seed: u64) -> Rumours<P> {
        let (peers, known, order, asked) = Default::default();
        Rumours { limits, draw: Draw::new(seed), peers, known, order, asked, counts: Counts::default() }
    }

    /// A peer that came up, perhaps as a new life of one that was, or may read more than it might, and may read what is written
    /// here. It is told what is fresh ([`Limits::fresh`]): the newest of that, one message at most ([`Limits::message`]), once a
    /// second at most, and where many are up with the chance with which it would have been told of a write.
    pub fn up(&mut self, peer: P, tick: Millis) {
        self.ask_at_last(peer, tick);
        let queues = self.peers.entry(peer).or_default();
        queues.reads = true;
        if queues.brought_up.is_some_and(|at| tick.saturating_sub(at) < BROUGHT_UP_APART) {
            return;
        }
        queues.brought_up = Some(tick);
        // The others see it too; so many of them tell it as are told of a write.
        let readers = self.peers.values().filter(|queues| queues.reads).count();
        if self.draw.below(readers) >= told_of(readers) {
            return;
        }
        let Limits { fresh, message, .. } = self.limits;
        let news = self.order.iter().rev().take_while(|(_, at)| tick.saturating_sub(*at) <= fresh).take(message);
        let news: Vec<Rumour> = news.map(|(rumour, _)| *rumour).collect();
        news.into_iter().rev().for_each(|rumour| self.queue(peer, rumour, |queues| &mut queues.tell));
    }

    /// A peer that is up and may only write here: it is asked for what it has, and neither told nor given anything.
    pub fn up_unread(&mut self, peer: P, tick: Millis) {
        let want = self.peers.remove(&peer).map(|queues| queues.want).unwrap_or_default();
        self.peers.insert(peer, Queues { want, ..Queues::default() });
        self.ask_at_last(peer, tick);
    }

    /// A peer that is not told anything any longer; who was waited for is asked elsewhere at the next [`Rumours::pass`].
    pub fn down(&mut self, peer: P) {
        self.peers.remove(&peer);
        self.asked.values_mut().filter(|asked| asked.of == peer).for_each(|asked| asked.early = false);
    }

    /// A record was written here.
    pub fn wrote(&mut self, rumour: Rumour, tick: Millis) {
        if self.remember(rumour, tick) {
            let mut chosen = self.choose(None);
            let told = chosen.split_off(GIVEN.min(chosen.len()));
            chosen.into_iter().for_each(|peer| self.queue(peer, rumour, |queues| &mut queues.give));
            told.into_iter().for_each(|peer| self.queue(peer, rumour, |queues| &mut queues.tell));
        }
    }

    /// A peer says that it has these; with each comes whether this store holds the same.
    pub fn told(&mut self, from: P, heard: &[(Rumour, bool)], tick: Millis) {
        for (rumour, _) in heard.iter().filter(|(_, held)| !held) {
            if let Some(asked) = self.asked.get_mut(rumour) {
                if asked.others.len() < OTHERS && asked.of != from && !asked.others.contains(&from) {
                    asked.others.push(from);
                }
            } else if self.known.contains(rumour) {
                // It was here and is not now: something newer took its place.
            } else if self.asked.len() < self.limits.asked {
                // Two do not see each other at one moment: who is seen first may tell before it is seen here.
                let early = !self.peers.contains_key(&from);
                self.asked.insert(*rumour, Asked { of: from, tick, early, others: Vec::new() });
                self.queue(from, *rumour, |queues| &mut queues.want);
            } else {
                self.counts.left += 1;
            }
        }
    }

    /// A peer wants these.
    pub fn wanted(&mut self, from: P, rumours: &[Rumour]) {
        if self.peers.get(&from).is_some_and(|queues| queues.reads) {
            rumours.iter().for_each(|rumour| self.queue(from, *rumour, |queues| &mut queues.give));
        }
    }

    /// A peer gave a record; whether it changed anything here. Whatever else was asked for there has come with it, or is older.
    pub fn given(&mut self, from: P, rumour: Rumour, news: bool, tick: Millis) {
        let there = Rumour { entry: 0, ..rumour }..=Rumour { entry: u64::MAX, ..rumour };
        let came: Vec<Rumour> = self.asked.range(there).map(|(asked, _)| *asked).collect();
        came.iter().for_each(|asked| drop(self.asked.remove(asked)));
        if !news {
            self.counts.needless += 1;
        } else if self.remember(rumour, tick) {
            self.counts.news += 1;
            for peer in self.choose(Some(from)) {
                self.queue(peer, rumour, |queues| &mut queues.tell);
            }
        }
    }

    /// Records that a peer gave are not taken in.
    pub fn leave(&mut self, count: u64) {
        self.counts.left += count;
    }

    /// Asks another peer for what did not come in time.
    pub fn pass(&mut self, tick: Millis) {
        let Limits { patience, fresh, .. } = self.limits;
        let late = |asked: &Asked<P>| match asked.early {
            true => tick.saturating_sub(asked.tick) >= fresh,
            false => tick.saturating_sub(asked.tick) >= patience || !self.peers.contains_key(&asked.of),
        };
        let late: Vec<Rumour> = self.asked.iter().filter(|(_, asked)| late(asked)).map(|(rumour, _)| *rumour).collect();
        let mut again = Vec::new();
        for rumour in late {
            let Some(mut asked) = self.asked.remove(&rumour) else { continue };
            asked.others.retain(|peer| self.peers.contains_key(peer));
            match asked.others.pop() {
                Some(of) => again.push((rumour, Asked { of, tick, early: false, ..asked })),
                None => self.counts.left += 1,
            }
        }
        for (rumour, asked) in again {
            self.queue(asked.of, rumour, |queues| &mut queues.want);
            self.asked.insert(rumour, asked);
        }
    }

    /// Takes what is to be sent now: to each peer a message of each kind at most.
    pub fn send(&mut self) -> Vec<(P, Send)> {
        let most = self.limits.message;
        let mut sends = Vec::new();
        for (peer, queues) in &mut self.peers {
            let give = (&mut queues.give, Send::Give as Kind);
            let kinds = [give, (&mut queues.want, Send::Want), (&mut queues.tell, Send::Tell)];
            for (queue, kind) in kinds {
                if !queue.is_empty() {
                    let some = queue.drain(..queue.len().min(most)).collect();
                    sends.push((*peer, kind(some)));
                }
            }
        }
        sends
    }

    /// Whether something waits to be sent.
    pub fn is_idle(&self) -> bool {
        self.peers
            .values()
            .all(|queues| [&queues.give, &queues.want, &queues.tell].iter().all(|queue| queue.is_empty()))
    }

    /// The tick at which [`Rumours::pass`] has something to do.
    pub fn wakes(&self) -> Option<Millis> {
        let Limits { patience, fresh, .. } = self.limits;
        self.asked.values().map(|asked| asked.tick + if asked.early { fresh } else { patience }).min()
    }

    /// What became of them.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Rumours that wait to be sent to each peer, and those that are waited for.
    pub fn waiting(&self) -> (BTreeMap<P, usize>, usize) {
        let of = |queues: &Queues| queues.give.len() + queues.want.len() + queues.tell.len();
        (self.peers.iter().map(|(peer, queues)| (*peer, of(queues))).collect(), self.asked.len())
    }

    /// Asks a peer that is up now for what it told before.
    fn ask_at_last(&mut self, peer: P, tick: Millis) {
        self.peers.entry(peer).or_default();
        let mut early = Vec::new();
        for (rumour, asked) in self.asked.iter_mut().filter(|(_, asked)| asked.early && asked.of == peer) {
            (asked.early, asked.tick) = (false, tick);
            early.push(*rumour);
        }
        early.into_iter().for_each(|rumour| self.queue(peer, rumour, |queues| &mut queues.want));
    }

    /// Whom to tell.
    fn choose(&mut self, but: Option<P>) -> Vec<P> {
        let read = self.peers.iter().filter(|(peer, queues)| queues.reads && Some(**peer) != but);
        let peers: Vec<P> = read.map(|(peer, _)| *peer).collect();
        let count = told_of(peers.len());
        self.draw.some(peers, count)
    }

    fn remember(&mut self, rumour: Rumour, tick: Millis) -> bool {
        if !self.known.insert(rumour) {
            return false;
        }
        self.order.push_back((rumour, tick));
        if self.order.len() > self.limits.remembered
            && let Some((oldest, _)) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    fn queue(&mut self, peer: P, rumour: Rumour, kind: impl Fn(&mut Queues) -> &mut VecDeque<Rumour>) {
        let Some(queues) = self.peers.get_mut(&peer) else { return };
        let queue = kind(queues);
        if queue.len() >= self.limits.queue {
            queue.pop_front();
            self.counts.left += 1;
        }
        queue.push_back(rumour);
    }
}

/// How many of so many peers are told: all of a few, or as many as make it likely that everyone hears: some more than the logarithm.
fn told_of(peers: usize) -> usize {
    if peers <= 8 { peers } else { peers.ilog2() as usize + 3 }
}
