//! Which peer is to be met next, and how long one that is down, or that never gets better, is left alone.
//!
//! It knows peers by what its caller calls them; who they are, and the session itself, are left to others. What is shown of them is
//! by the wall clock (`now`). Whose turn it is goes by a clock that nobody sets (`tick`): else whoever was met before a clock is set
//! back would not be met until that has made up for it.

use std::collections::BTreeMap;

use super::Acquaintance;
use super::draw::Draw;
use crate::stamp::Millis;

/// How long a peer is left alone after a first session that failed; twice as long after each further one.
const WAIT_FIRST: Millis = 1_000;
/// How long a peer that is down is left alone at most.
const WAIT_FAILED_MAX: Millis = 10 * 60_000;
/// How long a peer that never gets better is left alone at most.
const WAIT_STALLED_MAX: Millis = 60 * 60_000;
/// Sessions after each of which as much was left as before, until a peer is said to be stalled.
const STALLS: u32 = 3;

/// Sessions in a row that failed, until a peer that is up is said to fail.
const FAILS: u32 = 3;

/// How a session with a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Both sides are equal.
    Equal,
    /// So many differences are left, about, or at least one.
    Differs(u64),
    /// It was cut off before its verdict, but moved something, or told where a store cannot answer: it is no failure, and others have
    /// their turn.
    Partial,
    /// Both sides differ in so many ranges that it left out, since a store cannot answer there, and nowhere else.
    LeftOut(u64),
    /// There was no session, or it has no verdict.
    Failed,
}

/// What is known of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is up, as far as anyone knows.
    pub up: bool,
    /// When a session with it last had a verdict.
    pub checked: Option<Millis>,
    /// When both sides were last equal.
    pub equal: Option<Millis>,
    /// Since when they are known to differ without having been equal in between.
    pub since: Option<Millis>,
    /// When a session with it first ended, however it did.
    pub first: Option<Millis>,
    /// The tick of its last turn: a session with a verdict, or one that was cut off.
    pub turn: Option<Millis>,
    /// Whether it is known to differ since it was last met.
    pub differs: bool,
    /// Differences that the last session left.
    pub left: u64,
    /// Sessions in a row that failed.
    pub fails: u32,
    /// Sessions in a row that left as much as the one before.
    pub stalls: u32,
    /// Until which tick it is left alone.
    pub waits: Millis,
}

impl Standing {
    /// Whether it never gets better, however often it is met.
    pub fn is_stalled(&self) -> bool {
        self.stalls >= STALLS
    }

    /// Whether it is up, and sessions with it fail all the same.
    pub fn is_failing(&self) -> bool {
        self.up && self.fails >= FAILS
    }
}

/// The peers of a dataset.
#[derive(Clone, Debug)]
pub struct Roster<P> {
    peers: BTreeMap<P, Standing>,
    draw: Draw,
}

impl<P: Copy + Ord> Roster<P> {
    /// One without peers; the seed decides between those that are alike.
    pub fn new(seed: u64) -> Roster<P> {
        Roster { peers: BTreeMap::new(), draw: Draw::new(seed) }
    }

    /// What was kept of a peer, before what is known of it already: what the last session with a verdict found holds.
    pub fn recall(&mut self, peer: P, kept: Acquaintance, now: Millis) {
        let (standing, kept) = (self.peers.entry(peer).or_default(), kept.standing(now));
        standing.first = standing.first.into_iter().chain(kept.first).min();
        standing.equal = standing.equal.max(kept.equal);
        if standing.checked.is_none() {
            (standing.checked, standing.since, standing.left) = (kept.checked, kept.since, kept.left);
            standing.differs |= kept.differs;
        } else if standing.since.is_some() {
            standing.since = standing.since.into_iter().chain(kept.since).min();
        }
    }

    /// What is remembered as later than it can be, as by a clock that was set back since, is as of now. Gives the peers of whom
    /// something was.
    pub fn set_right(&mut self, now: Millis) -> Vec<P> {
        let mut late = Vec::new();
        for (peer, standing) in &mut self.peers {
            let times = [&mut standing.checked, &mut standing.equal, &mut standing.since, &mut standing.first];
            let ahead = times.into_iter().flatten().filter(|at| **at > now).map(|at| *at = now).count();
            late.extend((ahead > 0).then_some(*peer));
        }
        late
    }

    /// A peer is up. One that was down is not left alone for that any longer.
    pub fn up(&mut self, peer: P) {
        let standing = self.peers.entry(peer).or_default();
        if !standing.up && standing.fails > 0 {
            (standing.fails, standing.waits) = (0, 0);
        }
        standing.up = true;
    }

    /// A peer is down: it is not met until it is up again.
    pub fn down(&mut self, peer: P) {
        if let Some(standing) = self.peers.get_mut(&peer) {
            standing.up = false;
        }
    }

    /// A peer is none any longer.
    pub fn forget(&mut self, peer: P) {
        self.peers.remove(&peer);
    }

    /// A peer said something from which it is known to differ. One that is stalled is left alone all the same.
    pub fn differs(&mut self, peer: P) {
        if let Some(standing) = self.peers.get_mut(&peer) {
            standing.differs = true;
        }
    }

    /// Whom to meet now: of those that are up and not left alone, one that is known to differ, or else the one whose turn was
    /// longest ago. Costs one look at each peer.
    pub fn next(&mut self, tick: Millis) -> Option<P> {
        let free = self.peers.iter().filter(|(_, standing)| standing.up && standing.waits <= tick);
        let rank = |standing: &Standing| (!standing.differs, standing.turn);
        let first = free.clone().map(|(_, standing)| rank(standing)).min()?;
        let alike: Vec<P> = free.filter(|(_, standing)| rank(standing) == first).map(|(peer, _)| *peer).collect();
        let nth = self.draw.below(alike.len());
        alike.get(nth).copied()
    }

    /// The tick at which a peer that is up is next to be met, if one is left alone now: the earliest of them.
    pub fn wakes(&self) -> Option<Millis> {
        self.peers.values().filter(|standing| standing.up).map(|standing| standing.waits).min()
    }

    /// A session with a peer ended, at this tick and at this time. One that nobody named before is not taken up.
    pub fn met(&mut self, peer: P, tick: Millis, now: Millis, met: Met) {
        let Some(standing) = self.peers.get_mut(&peer) else { return };
        standing.waits = tick;
        standing.first.get_or_insert(now);
        let wait = |times: u32, most| tick + (WAIT_FIRST << (times - 1).min(20)).min(most);
        if met == Met::Failed {
            standing.fails += 1;
            standing.waits = wait(standing.fails, WAIT_FAILED_MAX);
            return;
        }
        (standing.fails, standing.turn, standing.differs) = (0, Some(tick), false);
        if met == Met::Partial {
            return;
        }
        standing.checked = Some(now);
        match met {
            Met::Differs(left) => {
                let same = standing.left > 0 && left >= standing.left;
                standing.stalls = if same { standing.stalls + 1 } else { 0 };
                (standing.left, standing.differs) = (left.max(1), true);
                standing.since.get_or_insert(now);
                if standing.is_stalled() {
                    standing.waits = wait(standing.stalls, WAIT_STALLED_MAX);
                }
            }
            // A session soon would find the same.
            Met::LeftOut(ranges) => {
                (standing.left, standing.stalls) = (ranges.max(1), 0);
                standing.since.get_or_insert(now);
            }
            _ => (standing.left, standing.stalls, standing.since, standing.equal) = (0, 0, None, Some(now)),
        }
    }

    /// What is known of a peer.
    pub fn standing(&self, peer: P) -> Option<&Standing> {
        self.peers.get(&peer)
    }

    /// All peers, in order.
    pub fn peers(&self) -> impl Iterator<Item = (P, &Standing)> {
        self.peers.iter().map(|(peer, standing)| (*peer, standing))
    }
}
