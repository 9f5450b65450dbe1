//! Disks that become other disks: put back by the tool that is made for it, or behind the store's back, copied, emptied.
//! What peers are promised then holds under one assumption, which is kept here: of two lives of a store each meets first
//! whoever can tell it from the other, and no backup is put back that was made before that.

use std::collections::BTreeMap;
use std::sync::Arc;

use reknit::core::canonical::Reader;
use reknit::core::life::Sighting;
use reknit::core::{Actor, CollectionId};
use reknit::store::{Op, Side, Store};

use crate::disk::Map;
use crate::oracle::{Held, Lineage};
use crate::tally::Where;
use crate::world::World;

/// Tags of the rows of what is remembered of a store, and of an opening.
const MET: u8 = 0x0f;
const OPENING: u8 = 0x0e;

/// A disk of earlier.
#[derive(Clone)]
pub(crate) struct Image {
    rows: Arc<Map>,
    lineage: Lineage,
    /// Which life of the peer it is of.
    life: u64,
    /// What had happened until then.
    at: u64,
}

/// Which lives there are, and who is to tell them apart.
#[derive(Default)]
pub(crate) struct Lives {
    /// The life of each peer: another whenever its disk became another, and whenever it began a new one itself.
    of: Vec<u64>,
    drawn: u64,
    /// Steps so far, and the last one in which each life told something.
    steps: u64,
    told: BTreeMap<u64, u64>,
    /// Peers of which another life may be met, each with whom it meets first.
    waits: BTreeMap<usize, Wait>,
}

#[derive(Clone, Copy)]
struct Wait {
    arbiter: usize,
    actor: Actor,
    /// The opening that both have in common, and how far it had come.
    common: Sighting,
    /// The arbiter has met the other life already, so this one is to be recognised.
    known: bool,
}

impl Lives {
    /// A life that nothing is known of.
    pub(crate) fn begin(&mut self, peer: usize) {
        self.drawn += 1;
        self.of.resize(self.of.len().max(peer + 1), 0);
        self.of[peer] = self.drawn;
    }

    /// Both of these may have told something.
    pub(crate) fn tell(&mut self, peers: [usize; 2]) {
        self.steps += 1;
        for peer in peers {
            self.told.insert(self.of[peer], self.steps);
        }
    }

    /// Whom a peer has to meet before all others.
    fn arbiter(&self, peer: usize) -> Option<usize> {
        self.waits.get(&peer).map(|wait| wait.arbiter)
    }

    /// Whether its disk is to stay for now.
    fn is_needed(&self, peer: usize) -> bool {
        self.waits.contains_key(&peer) || self.waits.values().any(|wait| wait.arbiter == peer)
    }

    /// Who meets where these two were to meet.
    pub(crate) fn who_meets(&self, a: usize, b: usize) -> (usize, usize) {
        match (self.arbiter(a), self.arbiter(b)) {
            (Some(arbiter), _) => (a, arbiter),
            (None, Some(arbiter)) if arbiter != a => (arbiter, b),
            _ => (a, b),
        }
    }

    /// All that wait, each with whom they are to meet.
    pub(crate) fn waiting(&self) -> Vec<(usize, usize)> {
        self.waits.iter().map(|(peer, wait)| (*peer, wait.arbiter)).collect()
    }
}

pub(crate) fn number(rows: &Map, name: &[u8]) -> u64 {
    let value = rows.get([&[0], name].concat().as_slice()).expect("a store has it");
    u64::from_be_bytes(std::array::from_fn(|i| value[i]))
}

/// The opening of a store of this actor that is remembered as the last.
fn last_met(rows: &Map, actor: u64) -> Option<Sighting> {
    let value = rows.get([&[MET][..], &actor.to_be_bytes()].concat().as_slice())?;
    let mut reader = Reader::new(value);
    let mut last = None;
    while !reader.rest().is_empty() {
        let nonce = reader.u64().expect("a nonce");
        last = Some(Sighting { nonce, commit: reader.varint("commit", u64::MAX).expect("a commit") });
    }
    last
}

/// Whether what is remembered is another life than that of these rows.
fn is_another(rows: &Map, met: Sighting) -> bool {
    let known = rows.contains_key([&[OPENING][..], &met.nonce.to_be_bytes()].concat().as_slice());
    !known || met.commit > number(rows, b"head")
}

impl World {
    /// Keeps what is safe on a peer's disk, to be put back later.
    pub(crate) fn keep_image(&mut self, peer: usize) {
        if self.lives.waits.contains_key(&peer) {
            return;
        }
        let (life, at) = (self.lives.of[peer], self.lives.steps);
        let peer = &mut self.peers[peer];
        peer.images.push(Image { rows: peer.disk.durable(), lineage: peer.lineage.clone(), life, at });
    }

    /// A backup of a peer is put back, by the tool that is made for it.
    pub(crate) fn restore(&mut self, peer: usize) {
        let images = self.peers[peer].images.len();
        if images == 0 || self.lives.is_needed(peer) {
            return self.break_link();
        }
        self.tally.note("fault: restored");
        self.event(&[14, peer as u64], || format!("a backup of peer {peer} is put back"));
        let Image { rows, lineage, .. } = self.peers[peer].images[self.draw.below(images)].clone();
        self.die(peer, Where::Idle);
        self.become_another(peer, rows, lineage);
        self.wind(peer);
        let options = self.store_options(peer);
        let store = Store::restored_over(self.peers[peer].disk.engine(), &options).expect("a backup opens");
        self.opened(peer, store);
        self.replaced(peer);
    }

    /// Behind a peer's back its disk becomes one of its own of earlier.
    pub(crate) fn roll_back(&mut self, peer: usize) {
        let life = self.lives.of[peer];
        let images = self.peers[peer].images.iter().filter(|image| image.life == life);
        let images: Vec<Image> = images.cloned().collect();
        if images.is_empty() || self.lives.is_needed(peer) {
            return self.break_link();
        }
        let image = images[self.draw.below(images.len())].clone();
        let actor = Actor(number(&image.rows, b"life"));
        let tells = |other: &usize| {
            let rows = self.peers[*other].disk.durable();
            last_met(&rows, actor.0).is_some_and(|met| is_another(&image.rows, met))
        };
        let others = (0..self.peers.len()).filter(|other| *other != peer && self.lives.arbiter(*other).is_none());
        let tell: Vec<usize> = others.filter(tells).collect();
        let told = self.lives.told.get(&life).is_some_and(|told| *told > image.at);
        if tell.is_empty() && told {
            // Others may have what it wrote since, and nobody knows from whom.
            return self.break_link();
        }
        self.tally.note("fault: rolled back");
        self.event(&[15, peer as u64], || format!("behind its back an earlier disk of peer {peer} is put back"));
        // What was made of the life that is gone now is none of the one that goes on.
        self.peers[peer].images.retain(|other| other.at <= image.at);
        self.goes_on_as(peer, image.rows, image.lineage);
        if !tell.is_empty() {
            self.tally.note("rolled back, and a peer knows");
            let arbiter = tell[self.draw.below(tell.len())];
            self.wait(peer, Wait { arbiter, actor, common: Sighting { nonce: 0, commit: 0 }, known: true });
        }
    }

    /// Behind a peer's back its disk becomes that of another peer.
    pub(crate) fn copy(&mut self, peer: usize) {
        let other = (peer + 1 + self.draw.below(self.peers.len() - 1)) % self.peers.len();
        if self.lives.is_needed(peer) || self.lives.is_needed(other) {
            return self.break_link();
        }
        self.tally.note("fault: copied");
        self.event(&[16, peer as u64, other as u64], || format!("peer {peer} becomes a copy of peer {other}"));
        // What is under way from the one that was copied is met by nobody who is to tell them apart.
        for session in &mut self.sessions {
            if session.halves.iter().any(|half| half.peer == other) {
                session.cut_link(&mut self.draw);
            }
        }
        // The last stamp comes with the copy.
        self.peers[peer].latest = self.peers[peer].latest.max(self.peers[other].latest);
        let (rows, lineage) = (self.peers[other].disk.durable(), self.peers[other].lineage.clone());
        let copied = self.store(other).describe();
        let (actor, common) = (copied.actor, Sighting { nonce: copied.nonce, commit: number(&rows, b"head") });
        self.goes_on_as(peer, rows, lineage);
        let free = |third: &usize| ![peer, other].contains(third) && self.lives.arbiter(*third).is_none();
        let thirds: Vec<usize> = (0..self.peers.len()).filter(free).collect();
        // Either both meet a third, or each other.
        let third = self.draw.below(thirds.len() + 1);
        for (life, twin) in [(peer, other), (other, peer)] {
            let arbiter = thirds.get(third).copied().unwrap_or(twin);
            self.wait(life, Wait { arbiter, actor, common, known: false });
        }
        // What it gives in a session counts as told with the commit number of its beginning: that is none of both any more.
        let op = Op::put(b"since".to_vec(), self.value());
        self.batch(other, CollectionId(0), vec![op], true);
    }

    fn wait(&mut self, peer: usize, wait: Wait) {
        let arbiter = wait.arbiter;
        self.event(&[17, peer as u64, arbiter as u64], || format!("peer {peer} is to meet peer {arbiter} first"));
        self.lives.waits.insert(peer, wait);
    }

    /// Opens other rows where a peer's process was, as if nothing had happened.
    fn goes_on_as(&mut self, peer: usize, rows: Arc<Map>, lineage: Lineage) {
        self.die(peer, Where::Idle);
        self.become_another(peer, rows, lineage);
        self.wind(peer);
        let store = Store::over(self.peers[peer].disk.engine(), &self.store_options(peer)).expect("a disk opens");
        self.forked.insert(store.actor());
        self.opened(peer, store);
        self.replaced(peer);
    }

    /// A peer loses everything, and begins anew.
    pub(crate) fn empty(&mut self, peer: usize) {
        if self.lives.is_needed(peer) {
            return self.break_link();
        }
        self.tally.note("fault: emptied");
        self.event(&[18, peer as u64], || format!("peer {peer} loses everything"));
        self.die(peer, Where::Idle);
        self.become_another(peer, Default::default(), Default::default());
        self.wind(peer);
        self.found(peer);
        self.replaced(peer);
    }

    fn become_another(&mut self, peer: usize, rows: Arc<Map>, lineage: Lineage) {
        let at = &mut self.peers[peer];
        let before = std::mem::take(&mut at.held);
        at.held = self.oracle.held(&rows, &before).0;
        at.disk.replace(rows);
        at.lineage = lineage;
        at.history.begin();
        // Before it is opened: what was being collected is finished then, with writes of its own.
        self.oracle.replaced(peer);
    }

    fn replaced(&mut self, peer: usize) {
        self.lives.begin(peer);
        let at = &mut self.peers[peer];
        at.upheavals += 1;
        at.epoch += 1;
        at.runs.clear();
        self.forgive();
    }

    /// What only a disk that is gone had may be gone.
    pub(crate) fn forgive(&mut self) {
        let disks: Vec<_> = self.peers.iter().map(|peer| peer.disk.durable()).collect();
        let disks: Vec<_> = disks.iter().map(|rows| self.oracle.held(rows, &Held::default()).0).collect();
        let forgiven = self.oracle.forgive(&disks);
        self.tally.add("acknowledged writes that only a lost disk had", forgiven as u64);
    }

    /// Whether lives that were to be told apart are, once a session has gone on.
    pub(crate) fn tell_lives_apart(&mut self) {
        for (peer, Wait { arbiter, actor, common, known }) in self.lives.waits.clone() {
            let Some(store) = self.peers[peer].store.as_ref() else { continue };
            let (now, nonce) = (store.actor(), store.describe().nonce);
            let since = |met: &Sighting| met.nonce != common.nonce || met.commit > common.commit;
            let last = last_met(&self.peers[arbiter].disk.durable(), actor.0).filter(since);
            if now != actor {
                // What was kept of it before is of the life that the other is now.
                self.lives.begin(peer);
                self.peers[peer].images.clear();
            } else if last.is_some_and(|last| last.nonce == nonce) {
                assert!(!known, "I9: peer {arbiter} took peer {peer} for the life of {actor:?} that it had met");
            } else {
                continue;
            }
            self.lives.waits.remove(&peer);
            // Whoever still writes under the name of the life that was met now is another.
            let same = |wait: &&mut Wait| now == actor && (wait.actor, wait.arbiter) == (actor, arbiter);
            self.lives.waits.values_mut().filter(same).for_each(|wait| wait.known = true);
            self.event(&[19, peer as u64, now.0], || format!("peer {peer} is told apart: it is {now:?}"));
        }
    }

    /// No two stores write under one name, unless neither had anything to give since they parted.
    pub(crate) fn all_lives_differ(&self) {
        let told_apart = |peer: &usize| !self.lives.waits.contains_key(peer);
        let mut actors = Vec::new();
        for peer in (0..self.peers.len()).filter(told_apart) {
            let actor = self.peers[peer].store.as_ref().map(Store::actor);
            assert!(!actors.contains(&actor), "I9: peer {peer} still writes as {actor:?}, as another does");
            actors.push(actor);
        }
    }
}
