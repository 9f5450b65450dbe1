//! What goes wrong: processes die, clocks jump, links break. What becomes of disks is said in [`crate::lives`].

use reknit::store::Store;

use crate::disk::Fuse;
use crate::lives::number;
use crate::oracle::Held;
use crate::tally::Where;
use crate::world::World;

const DAY: i64 = 86_400_000;

impl World {
    /// Lets one fault happen, or begin. One that found nothing to break, or that ended, does not count.
    pub(crate) fn fail(&mut self) {
        self.idle = false;
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
            15 if self.draw.below(2) == 0 => self.empty(peer),
            15 | 18 => match self.draw.below(3) {
                0 => self.copy(peer),
                _ => self.roll_back(peer),
            },
            16 | 17 => self.part(),
            _ => self.break_link(),
        }
        self.tally.faults += u64::from(!self.idle);
        if self.draw.below(2) == 0 {
            self.keep_image(peer);
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
        let mut unsynced = std::mem::take(&mut self.peers[peer].unsynced);
        let derived = std::mem::take(&mut self.peers[peer].derived);
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
        let commit = self.peers[peer].commit;
        unsynced.extend(derived.into_iter().filter(|(made, _)| *made > commit).map(|(_, id)| id));
        for id in unsynced {
            let dot = self.oracle.writes[id as usize].sibling.version.dot();
            let key = self.oracle.writes[id as usize].key;
            let has = |held: &Held| held.states.get(&key).is_some_and(|state| state.only(&[dot]).is_some());
            if !self.oracle.writes[id as usize].acked && !self.peers.iter().any(|peer| has(&peer.held)) {
                self.oracle.lost(id);
            }
        }
        let at = &mut self.peers[peer];
        at.runs.values_mut().for_each(|steps| steps.retain(|step| step.new.is_none() || step.commit <= commit));
        at.runs.retain(|_, steps| !steps.is_empty() && steps.iter().all(|step| step.new.is_some()));
        let at = &self.peers[peer];
        self.oracle.kept_promises(peer, at.epoch, &at.held, &at.lineage);
        self.journal_is_whole(peer);
    }

    pub(crate) fn die(&mut self, peer: usize, doing: Where) {
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
        let head = number(&self.peers[peer].disk.durable(), b"head");
        self.peers[peer].history.cut(head);
        self.event(&[12, peer as u64, gone as u64, of as u64], || {
            format!("peer {peer} died: {doing:?}, {died:?}; {gone} of {of} unsynced commits are gone")
        });
    }

    fn part(&mut self) {
        if self.islands.iter().any(|island| *island > 0) {
            self.islands.fill(0);
            self.idle = true;
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
        if self.sessions.is_empty() {
            self.idle = true;
            return;
        }
        self.tally.note("fault: link broken");
        let nth = self.draw.below(self.sessions.len());
        self.sessions[nth].cut_link(&mut self.draw);
        let number = self.sessions[nth].number;
        self.event(&[13, number], || format!("the link of session {number} broke"));
    }
}
