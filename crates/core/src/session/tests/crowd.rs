//! A hundred nodes in one thread that gossip, lose messages and are parted, and whose sessions are those of the two machines over
//! their stores: what the model in `gossip::tests` takes for granted of a session is so.

use super::party::{Machine, Party};
use super::world::next;
use super::*;
use crate::gossip::{Limits, Met, Roster, Rumour, Rumours, Send, Speaker, Speakers, Word};
use crate::message::Rights;
use crate::range::Position;
use crate::record::Record;
use crate::stamp::Stamp;

const NODES: usize = 100;
const KEYS: usize = 5000;
const VALUE_BYTES: usize = 100;
/// Messages and sessions that are lost, of a hundred.
const LOST: usize = 5;
/// Milliseconds that a message travels; after so many of them each node has met one peer.
const STEP: u64 = 50;
const STEPS_PER_ROUND: u64 = 20;
/// Steps between two partitions, and writes in each.
const STEPS: u64 = 40;
const WRITES: usize = 5;

struct Node {
    model: Model,
    rumours: Rumours<usize>,
    roster: Roster<usize>,
    /// Who spoke, on the way to each other.
    speakers: Vec<Speakers>,
}

struct Crowd {
    nodes: Vec<Node>,
    seed: u64,
    now: u64,
    /// Nodes of other groups hear nothing of each other.
    group: Vec<usize>,
    under_way: Vec<(usize, usize, Word)>,
    written: usize,
    gossiped: usize,
    in_sessions: usize,
    sessions: usize,
}

impl Crowd {
    fn new(seed: u64) -> Crowd {
        let node = |nth: usize| Node {
            model: Model::new(nth as u64 + 1, Profile::Versioned, 64),
            rumours: Rumours::new(Limits::default(), seed ^ nth as u64),
            roster: Roster::new(seed ^ nth as u64),
            speakers: vec![Speakers::default(); NODES],
        };
        let (nodes, group) = ((0..NODES).map(node).collect(), vec![0; NODES]);
        let (under_way, written, gossiped, in_sessions) = (Vec::new(), 0, 0, 0);
        Crowd { nodes, seed: seed | 1, now: 0, group, under_way, written, gossiped, in_sessions, sessions: 0 }
    }

    fn draw(&mut self, below: usize) -> usize {
        next(&mut self.seed);
        (self.seed >> 33) as usize % below
    }

    /// Divides the nodes; each notices whom it does not hear.
    fn part(&mut self, groups: usize) {
        let group = (0..NODES).map(|_| self.draw(groups)).collect();
        let before = std::mem::replace(&mut self.group, group);
        for nth in 0..NODES {
            let node = &mut self.nodes[nth];
            for other in (0..NODES).filter(|other| *other != nth) {
                if self.group[nth] == self.group[other] {
                    if before.get(nth) == before.get(other) && !before.is_empty() {
                        continue;
                    }
                    node.rumours.up(other, self.now);
                    node.roster.up(other);
                } else {
                    node.rumours.down(other);
                    node.roster.down(other);
                }
            }
        }
    }

    fn write(&mut self) {
        let (nth, key) = (self.draw(NODES), (self.draw(KEYS) as u32).to_be_bytes());
        let value = (0..VALUE_BYTES).map(|_| self.draw(256) as u8).collect();
        self.written += 1;
        let node = &mut self.nodes[nth];
        node.model.write(&key, Some(value));
        let rumour = node.rumour(node.model.keys().position("default", &key)).expect("it is there");
        node.rumours.wrote(rumour, self.now);
    }

    fn step(&mut self) {
        self.now += STEP;
        for (from, to, word) in std::mem::take(&mut self.under_way) {
            if self.group[from] == self.group[to] && self.draw(100) >= LOST {
                self.nodes[to].hear(from, word, self.now);
            }
        }
        for nth in 0..NODES {
            self.nodes[nth].rumours.pass(self.now);
            for (to, send) in self.nodes[nth].rumours.send() {
                let node = &mut self.nodes[nth];
                let word = node.word(send);
                self.gossiped += framed(node.speakers[to].shorten(word.encode()).len());
                self.under_way.push((nth, to, word));
            }
            // They do not all meet at once.
            if (self.now / STEP + nth as u64).is_multiple_of(STEPS_PER_ROUND) {
                self.meet(nth);
            }
        }
    }

    /// A session with whom the roster names.
    fn meet(&mut self, nth: usize) {
        let Some(other) = self.nodes[nth].roster.next(self.now) else { return };
        if self.group[nth] != self.group[other] || self.draw(100) < LOST {
            return self.nodes[nth].roster.met(other, self.now, self.now, Met::Failed);
        }
        let [mine, theirs] = [nth, other].map(|side| {
            let away = Model::new(0, Profile::Versioned, 64);
            std::mem::replace(&mut self.nodes[side].model, away)
        });
        let opener = mine.opener(Options::new(Intent::Repair(Direction::Both)));
        let responder = theirs.responder(Rights::ALL);
        let mut opener = Party::new(mine, Machine::Opener(Box::new(opener)));
        let mut responder = Party::new(theirs, Machine::Responder(Box::new(responder)));
        while let Some(said) = opener.next().or_else(|| responder.next()) {
            self.in_sessions += framed(said.frame.len());
            if said.by_opener { responder.hear(&said) } else { opener.hear(&said) }
        }
        assert_eq!(opener.verdict, Some(Verdict::InSync), "nobody writes meanwhile");
        self.sessions += 1;
        (self.nodes[nth].model, self.nodes[other].model) = (opener.model, responder.model);
        self.nodes[nth].roster.met(other, self.now, self.now, Met::Equal);
    }

    fn is_equal(&self) -> bool {
        self.nodes.iter().all(|node| node.model.records() == self.nodes[0].model.records())
    }
}

/// With the length that goes before.
fn framed(len: usize) -> usize {
    len + if len < 128 { 1 } else { 2 }
}

impl Node {
    /// What is told of the record at a position.
    fn rumour(&self, position: Position) -> Option<Rumour> {
        let (entry, _) = self.model.at(position)?;
        Some(Rumour { collection: CollectionId(0), position, entry: entry.digest.short() })
    }

    fn word(&self, send: Send) -> Word {
        let dataset = crate::dataset::DatasetId([1; 16]);
        let me = Speaker { dataset, life: self.model.life, commit: 1, horizon: Stamp(0) };
        match send {
            Send::Tell(of) => Word::Tell(me, of),
            Send::Want(of) => Word::Want(me, of),
            Send::Give(of) => {
                let records = of.iter().filter_map(|rumour| Some(self.model.at(rumour.position)?.1));
                Word::Records(me, 1, CollectionId(0), records.collect())
            }
        }
    }

    fn hear(&mut self, from: usize, word: Word, now: u64) {
        match word {
            Word::Tell(_, told) => {
                let held = |rumour: &Rumour| self.rumour(rumour.position) == Some(*rumour);
                let heard: Vec<(Rumour, bool)> = told.into_iter().map(|rumour| (rumour, held(&rumour))).collect();
                self.rumours.told(from, &heard, now);
            }
            Word::Want(_, wanted) => self.rumours.wanted(from, &wanted),
            Word::Records(_, _, _, records) => {
                for record in records {
                    let position = self.model.keys().position("default", &record.key);
                    let before = self.rumour(position);
                    self.model.join(record);
                    let after = self.rumour(position).expect("it was joined");
                    self.rumours.given(from, after, before != Some(after), now);
                }
            }
            _ => unreachable!("nobody says that here"),
        }
    }
}

/// The figure of the model, of real sessions: 5 of a hundred messages are lost, twice the network is parted and heals.
#[test]
fn a_hundred_nodes_converge_by_real_sessions_too() {
    let mut crowd = Crowd::new(1);
    for groups in [1, 2, 1, 3] {
        crowd.part(groups);
        for _ in 0..STEPS {
            (0..WRITES).for_each(|_| crowd.write());
            crowd.step();
        }
    }
    crowd.part(1);
    assert!(!crowd.is_equal(), "what was written apart is to be knit together");
    let (begun, most) = (crowd.now, (3.0 * (NODES as f64).log2()) as u64);
    while !crowd.is_equal() {
        crowd.step();
        assert!(crowd.now - begun <= most * STEPS_PER_ROUND * STEP, "not equal after {most} rounds");
    }
    let rounds = (crowd.now - begun).div_ceil(STEPS_PER_ROUND * STEP);
    let (key, state) = crowd.nodes[0].model.records().iter().next().expect("records");
    let mut copy = Vec::new();
    Record { key: key.clone(), state: state.clone() }.encode(&mut copy);
    let copies = |bytes: usize| bytes as f64 / (NODES * crowd.written * copy.len()) as f64;
    let (gossiped, in_sessions) = (copies(crowd.gossiped), copies(crowd.in_sessions));
    println!(
        "{rounds} rounds, {:.2} copies of each write a node: {gossiped:.2} gossiped, {in_sessions:.2} in {} sessions; a copy has {} bytes",
        gossiped + in_sessions,
        crowd.sessions,
        copy.len()
    );
    assert!(gossiped + in_sessions <= 4.0, "{gossiped} and {in_sessions} copies");
}
