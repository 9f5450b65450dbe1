//! What goes wrong: processes die, disks are put back or emptied, clocks jump, links break.

use reknit::store::Store;

use std::sync::Arc;

use crate::disk::{Fuse, Map};
use crate::oracle::{Held, Lineage};
use crate::shape::built;
use crate::tally::Where;
use crate::world::World;

const DAY: i64 = 86_400_000;

impl World {
    /// Lets one fault happen, or begin.
    pub(crate) fn fail(&mut self) {
        self.tally.faults += 1;
        let peer = self.draw.below(self.peers.len());
        match self.draw.below(20) {
            0..3 => {
                self.tally.note("fault: crash");
                self.crash(peer, Where::Idle);
            }
            3..10 => {
                let fuse = Fuse::draw(&mut self.draw, 12);
                self.peers[peer].disk.arm(fuse);
                self.tally.note("fault: dies at work");
                self.event(&[10, peer as u64, u64::from(fuse.left)], || format!("peer {peer} will die: {fuse:?}"));
            }
            10 => self.step_clock(peer, "fault: clock a day ahead", DAY),
            11 => self.step_clock(peer, "fault: clock a day back", -DAY),
            12 => {
                let by = self.draw.below(100_000) as i64 - 50_000;
                self.step_clock(peer, "fault: clock off a little", by);
            }
            13 | 14 => self.restore(peer),
            15 if built::LIVES && self.draw.below(2) == 0 => self.roll_back(peer),
            15 => self.empty(peer),
            16 | 17 => self.part(),
            _ => self.break_link(),
        }
        if self.draw.below(2) == 0 {
            let at = &mut self.peers[peer];
            at.images.push((at.disk.durable(), at.lineage.clone()));
        }
    }

    fn step_clock(&mut self, peer: usize, name: &str, by: i64) {
        self.tally.note(name);
        self.peers[peer].skew += by;
        let skew = self.peers[peer].skew;
        self.event(&[11, peer as u64, skew as u64], || format!("the clock of peer {peer} is off by {skew} ms"));
    }

    /// The process of a peer dies, and is started again until it stays.
    pub(crate) fn crash(&mut self, peer: usize, doing: Where) {
        self.die(peer, doing);
        let unsynced = std::mem::take(&mut self.peers[peer].unsynced);
        loop {
            if self.faulty && self.draw.below(self.shape.crash_again) == 0 {
                let fuse = Fuse::draw(&mut self.draw, 3);
                self.peers[peer].disk.arm(fuse);
            }
            self.advance();
            let options = self.store_options(peer);
            self.wind(peer);
            let opened = Store::over(self.peers[peer].disk.engine(), &options);
            self.peers[peer].disk.disarm();
            match opened {
                Ok(store) => {
                    if self.draw.below(10) == 0 {
                        let report = store.verify(&mut |_| ()).expect("verify");
                        assert!(report.is_sound(), "I3: peer {peer} after a crash: {:?}", report.wrong);
                    }
                    self.opened(peer, store);
                    break;
                }
                Err(error) => {
                    assert!(self.peers[peer].disk.died().is_some(), "peer {peer} does not open: {error}");
                    self.die(peer, Where::Opening);
                }
            }
        }
        for id in unsynced {
            let dot = self.oracle.writes[id as usize].sibling.version.dot();
            let key = self.oracle.writes[id as usize].key;
            let has = |held: &Held| held.states.get(&key).is_some_and(|state| state.only(&[dot]).is_some());
            if !self.oracle.writes[id as usize].acked && !self.peers.iter().any(|peer| has(&peer.held)) {
                self.oracle.lost(id);
            }
        }
        let at = &mut self.peers[peer];
        let commit = at.commit;
        at.runs.values_mut().for_each(|steps| steps.retain(|step| step.new.is_none() || step.commit <= commit));
        at.runs.retain(|_, steps| !steps.is_empty() && steps.iter().all(|step| step.new.is_some()));
        let at = &self.peers[peer];
        self.oracle.kept_promises(peer, at.epoch, &at.held, &at.lineage);
        self.journal_is_whole(peer);
    }

    fn die(&mut self, peer: usize, doing: Where) {
        let died = self.peers[peer].disk.died();
        self.tally.died(doing, died.unwrap_or(crate::disk::Point::Idle));
        self.close(peer);
        for session in &mut self.sessions {
            for nth in 0..2 {
                if session.halves[nth].peer == peer {
                    session.kill(nth, &mut self.draw);
                }
            }
        }
        let (gone, of) = self.peers[peer].disk.crash(&mut self.draw);
        self.event(&[12, peer as u64, gone as u64, of as u64], || {
            format!("peer {peer} died: {doing:?}, {died:?}; {gone} of {of} unsynced commits are gone")
        });
    }

    /// A backup of a peer is put back, by the tool that is made for it.
    fn restore(&mut self, peer: usize) {
        let images = self.peers[peer].images.len();
        if images == 0 {
            return self.break_link();
        }
        self.tally.note("fault: restored");
        let (image, lineage) = self.peers[peer].images[self.draw.below(images)].clone();
        self.die(peer, Where::Idle);
        self.become_another(peer, image, lineage);
        self.wind(peer);
        let options = self.store_options(peer);
        let store = Store::restored_over(self.peers[peer].disk.engine(), &options).expect("a backup opens");
        self.renewed(peer, store);
    }

    /// Behind a peer's back its disk becomes one of its own of earlier, or that of another peer.
    fn roll_back(&mut self, peer: usize) {
        let other = self.draw.below(self.peers.len());
        let copied = other != peer && self.draw.below(2) == 0;
        let images = &self.peers[peer].images;
        let (rows, lineage) = match images.len() {
            _ if copied => (self.peers[other].disk.durable(), self.peers[other].lineage.clone()),
            0 => return self.break_link(),
            n => images[self.draw.below(n)].clone(),
        };
        self.tally.note(if copied { "fault: copied" } else { "fault: rolled back" });
        if copied {
            // The last stamp comes with the copy.
            self.peers[peer].latest = self.peers[peer].latest.max(self.peers[other].latest);
        }
        self.die(peer, Where::Idle);
        self.become_another(peer, rows, lineage);
        self.wind(peer);
        let store = Store::over(self.peers[peer].disk.engine(), &self.store_options(peer)).expect("a disk opens");
        self.forked.insert(store.actor());
        self.renewed(peer, store);
    }

    /// A peer loses everything, and begins anew.
    fn empty(&mut self, peer: usize) {
        self.tally.note("fault: emptied");
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
    }

    fn renewed(&mut self, peer: usize, store: Store) {
        self.opened(peer, store);
        self.replaced(peer);
    }

    fn replaced(&mut self, peer: usize) {
        let at = &mut self.peers[peer];
        at.upheavals += 1;
        at.epoch += 1;
        at.runs.clear();
        self.oracle.replaced(peer);
        self.forgive();
    }

    /// What only a disk that is gone had may be gone.
    pub(crate) fn forgive(&mut self) {
        let disks: Vec<_> = self.peers.iter().map(|peer| peer.disk.durable()).collect();
        let disks: Vec<_> = disks.iter().map(|rows| self.oracle.held(rows, &Held::default()).0).collect();
        let forgiven = self.oracle.forgive(&disks);
        self.tally.add("acknowledged writes that only a lost disk had", forgiven as u64);
    }

    fn part(&mut self) {
        if self.islands.iter().any(|island| *island > 0) {
            self.islands.fill(0);
        } else {
            self.tally.note("fault: partition");
            for nth in 0..self.islands.len() {
                self.islands[nth] = self.draw.below(2) as u8;
            }
        }
        let islands: Vec<u64> = self.islands.iter().map(|island| u64::from(*island)).collect();
        self.event(&islands, || format!("islands {islands:?}"));
    }

    pub(crate) fn break_link(&mut self) {
        self.tally.note("fault: link broken");
        if self.sessions.is_empty() {
            return;
        }
        let nth = self.draw.below(self.sessions.len());
        self.sessions[nth].cut_link(&mut self.draw);
        let number = self.sessions[nth].number;
        self.event(&[13, number], || format!("the link of session {number} broke"));
    }
}
