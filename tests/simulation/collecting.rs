//! Tombstones that are collected, and peers that missed it: what a home and a node do about them, over pretended peers.

use reknit::core::Stamp;
use reknit::core::brakes::Losses;
use reknit::core::collect::{self, CatchingUp as Steps, Horizon, Known, Next};
use reknit::core::difference::Side as Which;
use reknit::core::journal::{RunHeader, RunKind};
use reknit::core::members::Member;
use reknit::core::message::Life;
use reknit::core::query::Raising;
use reknit::core::receipt::{PeerKey, Receipt, Signature, Witness};
use reknit::core::session::{Behind, Intent, Other};
use reknit::store::{Base, Missed, Quarantined, Side, StoreError};

use crate::oracle::{Cause, Lineage, Step};
use crate::session::{CatchingUp, Session};
use crate::tally::Where;
use crate::world::World;

/// Receipts that a peer keeps.
const RECEIPTS_MAX: usize = 200;
/// Keys that are caught up with in one commit.
const BATCH: usize = 20;

/// The key of a peer.
pub(crate) fn key_of(peer: usize) -> PeerKey {
    [peer as u8 + 1; 32]
}

/// Signs for one peer in a session with another.
pub(crate) struct Signer {
    pub(crate) me: PeerKey,
    pub(crate) peer: PeerKey,
    pub(crate) now: u64,
}

fn signed(by: &PeerKey, statement: &[u8]) -> Signature {
    let mut signature = [0; 64];
    blake3::Hasher::new_keyed(by).update(statement).finalize_xof().fill(&mut signature);
    signature
}

impl Witness for Signer {
    fn me(&self) -> PeerKey {
        self.me
    }

    fn peer(&self) -> PeerKey {
        self.peer
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn sign(&self, statement: &[u8]) -> Signature {
        signed(&self.me, statement)
    }

    fn holds(&self, peer: &PeerKey, statement: &[u8], signature: &Signature) -> bool {
        signed(peer, statement) == *signature
    }
}

impl World {
    /// A home keeps a receipt, whatever becomes of the store.
    pub(crate) fn keep_receipt(&mut self, peer: usize, receipt: Receipt) {
        self.tally.note("receipt");
        self.lapsed.remove(&peer);
        let receipts = &mut self.peers[peer].receipts;
        receipts.push(receipt);
        receipts.drain(..receipts.len().saturating_sub(RECEIPTS_MAX));
    }

    /// A peer collects as far as the receipts show that it knows: its own, and of others those that were handed on.
    pub(crate) fn collect(&mut self, peer: usize) {
        // Leases are so long that whoever has not heard of a horizon waits for those who have.
        if self.peers.iter().any(|other| other.horizon > self.peers[peer].horizon) {
            self.idle = true;
            return self.tally.note("gc: waits for whoever has collected");
        }
        if self.draw.below(self.shape.lapses) == 0 {
            let lapsed = self.draw.below(self.peers.len());
            self.lapsed.insert(lapsed);
        }
        let store = self.store(peer);
        let mut receipts = self.peers[peer].receipts.clone();
        for other in 0..self.peers.len() {
            let all = self.peers[other].receipts.clone();
            receipts.extend(all.into_iter().filter(|_| other != peer && self.draw.below(3) > 0));
        }
        let definition = store.definition().clone();
        let (info, cut) = (store.describe(), store.cut());
        let holds = |receipt: &Receipt| {
            receipt.verify(|peer, statement, signature| signed(peer, statement) == *signature).is_ok()
        };
        let standing = collect::standing(receipts, &definition, info.actor.0, |met| store.recalls(met), holds);
        let Some(mut receipts) = self.raised(peer, standing, Where::Collecting) else { return };
        // As few as make no seed slow, the newest.
        receipts.truncate(60);
        let members: Vec<(PeerKey, Member)> = (0..self.peers.len() - self.shape.guests)
            .map(|member| {
                let lease = if self.lapsed.contains(&member) { 0 } else { u64::MAX / 2 };
                (key_of(member), Member { name: String::new(), since: 0, lease })
            })
            .collect();
        let (life, now) = (Life { actor: info.actor.0, nonce: info.nonce }, self.told(peer));
        let known = Known {
            me: key_of(peer),
            life,
            commit: cut.commit,
            stamp: cut.stamp,
            undone: cut.undone,
            caught_up: store.caught_up_at(),
            members: &members,
            receipts: &receipts,
            now,
            grace: self.shape.grace,
        };
        let found = collect::find(&known);
        let (before, lapsed) =
            (store.horizon().stamp, found.standings.iter().filter(|standing| standing.lapsed).count());
        let raised = store.raise(&found.horizon, false);
        let Some(raised) = self.raised(peer, raised, Where::Collecting) else { return };
        assert_eq!(raised, Raising::Raised, "a collector vouches for itself");
        if self.store(peer).horizon().stamp > before {
            self.tally.note("gc");
            self.tally.add("gc without a member that lapsed", u64::from(lapsed > 0));
        } else {
            self.idle = true;
            self.tally.note("gc: nothing to collect");
        }
    }

    /// What came of raising a horizon; nothing if the process died of it.
    fn raised<T>(&mut self, peer: usize, done: Result<T, StoreError>, doing: Where) -> Option<T> {
        self.changed(peer, done, doing).map(|(done, _)| done)
    }

    /// The same, with what it changed.
    fn changed<T>(&mut self, peer: usize, done: Result<T, StoreError>, doing: Where) -> Option<(T, Vec<Step>)> {
        let (steps, _) = self.observe(peer, Cause::Collect);
        let at = &mut self.peers[peer];
        at.horizon = at.store.as_ref().map_or(at.horizon, |store| store.horizon().stamp);
        if self.peers[peer].disk.died().is_some() {
            self.crash(peer, doing);
            return None;
        }
        Some((done.unwrap_or_else(|error| panic!("{doing:?} at peer {peer}: {error}")), steps))
    }

    /// What went while a peer caught up with another had been deleted there, or is set apart. Says whether the process lives.
    fn gone_rightly(&mut self, peer: usize, other: usize, horizon: Stamp) -> bool {
        let mut lives = true;
        let quarantined = loop {
            let read = self.store(peer).quarantined(None, usize::MAX);
            if let Some(read) = self.raised(peer, read, Where::Collecting) {
                break read;
            }
            lives = false;
        };
        for id in std::mem::take(&mut self.oracle.removed) {
            self.oracle.dropped.insert(id);
            let at = &mut self.peers[peer];
            at.gave_up.insert(id, at.commit);
            // A crash may have taken that it went, or the other has what came in its place.
            let held = |peer: usize| self.oracle.is_held(&self.peers[peer].held, id);
            let (here, there) = (held(peer), held(other));
            // What was deleted there is not known here yet: a crash before that leaves it gone.
            let deleted = self.oracle.is_explained(id, &self.peers[other].lineage);
            if there || deleted && !here {
                self.oracle.moved_on(id);
            }
            // Of what was collected there since it told its horizon nothing is known here.
            let told: Lineage = self.oracle.up_to(&self.peers[other].lineage, horizon).collect();
            if deleted && !here && !self.oracle.is_explained(id, &told) {
                self.oracle.let_go(id);
            }
            if there && self.oracle.is_beyond_held(&self.peers[other].held, id) {
                // Set apart here, it may be gone for good once what is full there is settled.
                self.oracle.let_go(id);
            }
            let (collection, key) = self.oracle.place(id);
            let is_it = |held: &&Quarantined| held.collection == collection && held.key == key;
            let of_key: Vec<&Quarantined> = quarantined.iter().filter(is_it).collect();
            let apart = of_key.iter().any(|held| self.oracle.covers(&held.state, id));
            // Then it may go wherever this peer's word is taken for it, unless it is the other's own word too.
            if apart && !self.oracle.is_there(&self.peers[other].held, id) {
                self.oracle.let_go(id);
            }
            if here || there || deleted {
                continue;
            }
            // The other had let it go itself, for what a third has in its place.
            let third = || self.peers.iter().any(|peer| self.oracle.is_held(&peer.held, id));
            if self.oracle.has_moved_on(id) && third() {
                continue;
            }
            let rightly = apart || !self.oracle.is_promised(id);
            assert!(rightly, "I1: {} went while peer {peer} caught up with {other}: {of_key:?}", self.oracle.shown(id));
            self.oracle.let_go(id);
        }
        lives
    }

    /// A peer that caught up with another knows of collected deletions what that one does, up to the horizon that it heard of.
    fn takes_over(&mut self, peer: usize, other: usize, horizon: Stamp) {
        let before = std::mem::take(&mut self.peers[peer].lineage);
        let theirs = &self.peers[other].lineage;
        let lineage = self.oracle.up_to(theirs, horizon).chain(before.intersection(theirs).copied()).collect();
        for id in before.difference(theirs) {
            self.oracle.let_go(*id);
        }
        self.peers[peer].lineage = lineage;
    }

    /// What a node does once a session has found a side behind.
    pub(crate) fn catch_up_after(&mut self, session: &Session, behind: &Behind) {
        let [a, b] = [&session.halves[0], &session.halves[1]].map(|half| half.peer);
        let (lower, other) = if behind.side == Which::Mine { (a, b) } else { (b, a) };
        self.tally.note("session: a side was behind");
        // Whoever answers has to be told its horizon by whom it opens to.
        let horizon = match behind.side {
            Which::Mine => behind.horizon.clone(),
            Which::Theirs => self.store(other).horizon(),
        };
        let steps = Steps::begin(self.session_options(Intent::Diff));
        self.part_of(lower, other, CatchingUp { horizon, steps, looks_out: None });
    }

    /// Begins the session that catching up comes to next.
    fn part_of(&mut self, lower: usize, other: usize, mut of: CatchingUp) {
        if of.steps.looks() {
            of.looks_out = Some(self.store(lower).look_out());
        }
        if self.begin(lower, other, of.steps.session())
            && let Some(session) = self.sessions.last_mut()
        {
            session.catches_up = Some(of);
        }
    }

    /// A session that is part of catching up has ended.
    pub(crate) fn goes_on_catching_up(&mut self, session: &Session, mut of: CatchingUp) {
        // Whoever died knows nothing any more of what was compared.
        let Some(outcome) = session.outcome.as_ref().filter(|_| !session.halves[0].killed) else { return };
        session.found.iter().for_each(|difference| of.steps.found(difference));
        match of.steps.ended(outcome, Losses::default()) {
            Next::Session => self.part_of(session.halves[0].peer, session.halves[1].peer, of),
            Next::Judge(missed, with) => self.catch_up(session, &of.horizon, (missed, with)),
            Next::NotYet(braked) => {
                assert!(braked.is_none(), "nobody asked for brakes");
                self.tally.note("catching up: could not be compared");
            }
        }
    }

    /// The side that is behind knows what differs, and of whom.
    fn catch_up(&mut self, session: &Session, horizon: &Horizon, (missed, with): (Vec<Missed>, Other)) {
        let (peer, other) = (session.halves[0].peer, session.halves[1].peer);
        if self.peers[peer].horizon >= horizon.stamp {
            return self.tally.note("catching up: it has collected itself");
        }
        let store = self.store(peer);
        let me = (&key_of(peer), store.actor());
        let bases = Base::all(&self.peers[peer].receipts, store.definition(), (me.0, me.1.0), (horizon, with));
        let cuts: Vec<u64> = bases.iter().flat_map(|base| [base.met.commit, base.cut]).collect();
        self.event(&cuts, || format!("peer {peer} catches up with {with:?} of {horizon:?} by {bases:?}"));
        let header = RunHeader {
            kind: RunKind::CatchUp,
            peer: format!("peer {other}"),
            opener: true,
            policy: String::new(),
            started: 0,
        };
        let run = match store.in_run(header) {
            Ok(run) => run.expect("a store keeps a journal"),
            Err(_) if self.peers[peer].disk.died().is_some() => return self.crash(peer, Where::Collecting),
            Err(error) => return self.refused_run(&error),
        };
        let keys: Vec<_> = missed.iter().map(|missed| (missed.collection, missed.key.clone())).collect();
        let mut missed = missed.iter().cloned().peekable();
        while missed.peek().is_some() {
            let some = missed.by_ref().take(BATCH).collect();
            let caught = run.catch_up(some, &bases, horizon.stamp);
            if let Err(error) = &caught
                && self.peers[peer].disk.died().is_none()
            {
                return self.refused_run(error);
            }
            let caught = self.changed(peer, caught, Where::Collecting);
            let lives = self.gone_rightly(peer, other, horizon.stamp);
            let Some((caught, steps)) = caught.filter(|_| lives) else { return };
            let newest = self.newest_run(peer).filter(|_| !steps.is_empty());
            if let Some(run) = newest {
                self.peers[peer].runs.entry(run).or_default().extend(steps);
            }
            self.tally.add("caught up: removed", caught.removed);
            self.tally.add("caught up: kept", caught.kept);
            self.tally.add("caught up: strays", caught.strays);
        }
        // What it wrote since its last receipt it offers, also where it had given it to somebody without one.
        for (collection, key) in keys {
            let key = self.oracle.key(collection, &key);
            self.oracle.offers_again(&self.peers[peer].held, key, me.1, horizon.stamp);
        }
        let raised = run.raise(horizon, true);
        let raised = self.raised(peer, raised, Where::Collecting);
        if self.peers[peer].horizon >= horizon.stamp {
            self.takes_over(peer, other, horizon.stamp);
        }
        match raised {
            Some(Raising::Raised) => self.tally.note("caught up"),
            // Its clock was put back meanwhile.
            Some(Raising::Refused) => self.tally.note("catching up: the horizon lies ahead"),
            Some(Raising::Behind) => self.tally.note("catching up: something came meanwhile"),
            None => return,
        }
        let ended = run.end_run("converged");
        self.look_at_history(peer);
        if ended.is_err() && self.peers[peer].disk.died().is_some() {
            self.crash(peer, Where::Ending);
        }
    }
}
