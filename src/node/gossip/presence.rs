//! Who is up: hears all that is said to a node, keeps the failure detector's time, and tells stores and rosters who comes and goes.
//!
//! What is said about records is passed on to the thread of their store.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use reknit_core::gossip::{Acquaintance, Word};
use reknit_core::{DatasetId, Millis};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::circle::Circle;
use super::links::Heard;
use super::seeking::Seeking;
use super::spread::Input;
use super::swim::{self, Near, Said, Swim};
use super::{DISPLACED_MAX, Ends, Gossip};
use crate::clock::{now_ms, ticks};
use crate::transport::{Address, PeerId};

/// Being displaced again sooner than this counts once.
const DISPLACED_APART: Duration = Duration::from_secs(1);
/// How often a peer whose links break again and again is asked for that.
const ASKS_EVERY: Millis = 1_000;

impl Gossip {
    /// Hears all that is said, and keeps the failure detector's time.
    pub(super) async fn keep(
        self,
        mut swim: Swim,
        (mut hears, mut changes): (mpsc::Receiver<Heard>, watch::Receiver<u64>),
        seeds: HashMap<PeerId, Address>,
        mut stop: watch::Receiver<bool>,
        _ends: Ends,
    ) {
        let (mut announced, mut announces) = (ticks(), true);
        let (mut lookups, mut seeking, mut asked) = (JoinSet::new(), Seeking::new(seeds, ticks()), HashMap::new());
        let circle = self.shared.circle();
        for seed in seeking.peers().filter(|seed| !circle.has(*seed)) {
            tracing::warn!(peer = %seed, "this seed has no right on what is gossiped about, and is told nothing; `reknit peers add` gives it one");
        }
        loop {
            if announces || swim.asks_again(announced).is_some_and(|due| ticks() >= due) {
                (announced, announces) = (ticks(), false);
                seeking.hasten();
                self.announce(&mut swim);
            }
            // Names are looked up beside all else, however long that takes.
            if lookups.is_empty() {
                let (missing, alone) = (self.shared.missing().clone(), swim.up().next().is_none());
                for seed in seeking.asks(alone, |seed| missing.contains_key(&seed), ticks()) {
                    lookups.spawn(async move { (seed.peer, resolved(&seed).await) });
                }
            }
            let wakes = swim.wakes().into_iter().chain(swim.asks_again(announced)).min();
            let wait = Duration::from_millis(wakes.unwrap_or(Millis::MAX).saturating_sub(ticks()).min(1_000));
            tokio::select! {
                heard = hears.recv() => match heard {
                    Some((from, Word::Swim(bytes), _)) => {
                        let said = self.sifted_from(from, &bytes).map(|bytes| swim.heard(&bytes, ticks()));
                        self.said(said.unwrap_or_default());
                    }
                    Some((from, word, bytes)) => self.pass_on(from, word, bytes),
                    None => break,
                },
                () = tokio::time::sleep(wait) => {
                    let said = swim.tick(ticks());
                    self.said(said);
                }
                Some(looked_up) = lookups.join_next() => {
                    if let Ok((seed, Some(at))) = looked_up {
                        let near = Near { peer: self.newest(seed).0, at, life: 0 };
                        self.said(swim.announce(near, ticks()));
                    }
                }
                // One that was killed and begins again knows nobody: asked who it is, it is up anew at once.
                mut broke = self.links.broke() => {
                    broke.retain(|peer| asked.get(peer).is_none_or(|at| ticks() >= at + ASKS_EVERY));
                    asked.extend(broke.iter().map(|peer| (*peer, ticks())));
                    let mut up = self.shared.up().clone();
                    up.retain(|peer, _| broke.contains(peer));
                    for (peer, at) in up {
                        self.said(swim.announce(Near { peer: peer.0, at, life: 0 }, ticks()));
                    }
                }
                // Of those who may be known only now it hears from others.
                Ok(()) = changes.changed() => announces = self.review(&swim),
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        let said = swim.leave(ticks());
        self.said(said);
        self.links.end();
    }

    /// Asks a few that are up to take this node in.
    fn announce(&self, swim: &mut Swim) {
        let to: Vec<Near> = swim.up().take(3).cloned().collect();
        for near in to {
            let said = swim.announce(near, ticks());
            self.said(said);
        }
    }

    /// What a peer says of others, as far as they are known here; it speaks for nobody else.
    fn sifted_from(&self, from: PeerId, bytes: &[u8]) -> Option<Vec<u8>> {
        let circle = self.shared.circle();
        let (says, bytes) = swim::sifted(bytes, |peer| peer == self.me || circle.has(peer))?;
        (says == from && circle.has(from)).then_some(bytes)
    }

    /// Rights have changed: whoever has none any more is let go at once, and whoever has some is taken up. Says whether some
    /// may be known who might not before.
    fn review(&self, swim: &Swim) -> bool {
        let circle = match Circle::of(&self.home, &self.datasets) {
            Ok(circle) => Arc::new(circle),
            // Who looks at the file has told.
            Err(_) => return false,
        };
        let before =
            std::mem::replace(&mut *self.shared.circle.lock().unwrap_or_else(PoisonError::into_inner), circle.clone());
        for gone in before.peers().filter(|peer| !circle.has(*peer)) {
            self.down(gone);
            self.links.cut(gone);
        }
        self.enrol();
        self.to_all(|| Input::Rights);
        let up: BTreeSet<PeerId> = self.shared.up().keys().copied().collect();
        swim.up().filter(|near| !up.contains(&near.peer())).for_each(|near| self.up(near));
        circle.peers().any(|peer| !before.has(peer))
    }

    fn said(&self, said: Vec<Said>) {
        let circle = self.shared.circle();
        for one in said {
            match one {
                Said::Send(to, bytes) => {
                    let to_peer = to.peer();
                    let may = |peer| peer == self.me || circle.share(peer, to_peer);
                    let told = swim::sifted(&bytes, may).filter(|_| circle.has(to_peer));
                    told.into_iter().for_each(|(_, bytes)| self.links.say(to_peer, to.at, &Word::Swim(bytes)));
                }
                Said::Displaced => {
                    tracing::debug!("taken for down, or for another life; back as a new one");
                    let mut displaced = self.shared.displaced();
                    // Whoever catches up with a life that it had is displaced some times at once.
                    if displaced.back().is_none_or(|at| at.elapsed() >= DISPLACED_APART) {
                        displaced.push_back(Instant::now());
                    }
                    while displaced.len() > DISPLACED_MAX {
                        displaced.pop_front();
                    }
                }
                Said::Up(near) => self.up(&near),
                Said::Down(near) => {
                    // Whatever was said to it there for a while went nowhere.
                    self.links.let_go(near.peer());
                    self.down(near.peer());
                }
            }
        }
    }

    fn up(&self, near: &Near) {
        // Of whom a peer speaks is not yet somebody who is known here.
        if !self.shared.circle().has(near.peer()) {
            return;
        }
        tracing::info!(peer = %near.peer().short(), at = %near.at, "up");
        // Whoever sees that it is up may write at once, and that is told to it.
        self.to_all(|| Input::Up(near.peer(), near.at));
        self.shared.up().insert(near.peer(), near.at);
        self.shared.missing().retain(|seed, _| self.newest(*seed) != near.peer());
        self.enrol();
    }

    fn down(&self, peer: PeerId) {
        if self.shared.up().remove(&peer).is_none() {
            return;
        }
        tracing::info!(peer = %peer.short(), "down");
        for seed in self.seeds.iter().filter(|seed| self.newest(seed.peer) == peer) {
            self.shared.missing().insert(seed.peer, Instant::now());
        }
        self.shared.rosters().values_mut().for_each(|roster| roster.down(peer));
        self.enrol();
        self.to_all(|| Input::Down(peer));
    }

    /// Keeps in the roster of each dataset who may know of it: others are forgotten, with all that was wrong with them, and so is
    /// a key that has a successor once nobody goes by it, which is known as that one was.
    pub(super) fn enrol(&self) {
        let (circle, up) = (self.shared.circle(), self.shared.up().clone());
        let is_of = |peer: PeerId, dataset: DatasetId| {
            circle.datasets(peer).contains(&dataset)
                && (up.contains_key(&peer) || circle.lines().newest(peer.0) == peer.0)
        };
        for (dataset, roster) in self.shared.rosters().iter_mut() {
            up.keys().filter(|peer| is_of(**peer, *dataset)).for_each(|peer| roster.up(*peer));
            let known: Vec<PeerId> = roster.peers().map(|(peer, _)| peer).collect();
            for peer in known.into_iter().filter(|peer| !is_of(*peer, *dataset)) {
                let kept = roster.standing(peer).and_then(Acquaintance::of);
                let newest = PeerId(circle.lines().newest(peer.0));
                if let Some(kept) = kept.filter(|_| newest != peer && is_of(newest, *dataset)) {
                    roster.recall(newest, kept, now_ms());
                }
                roster.forget(peer);
            }
        }
        self.shared.apart().retain(|(dataset, peer), _| is_of(*peer, *dataset));
        self.shared.failures().retain(|(dataset, peer), _| is_of(*peer, *dataset));
        self.shared.parked.retain(is_of);
    }

    /// By which key a seed is known now.
    fn newest(&self, seed: PeerId) -> PeerId {
        PeerId(self.shared.circle().lines().newest(seed.0))
    }

    fn to_all(&self, input: impl Fn() -> Input) {
        // One whose thread has ended hears nothing any more.
        self.inputs.values().for_each(|to| _ = to.send(input()));
    }

    fn pass_on(&self, from: PeerId, word: Word, bytes: usize) {
        let dataset = word.speaker().map(|speaker| speaker.dataset);
        if let Some(to) = dataset.and_then(|dataset| self.inputs.get(&dataset))
            && !to.send_of(from, bytes, Input::Word(from, word))
        {
            self.links.unheard();
        }
    }
}

/// The first address of a peer's host.
async fn resolved(seed: &Address) -> Option<SocketAddr> {
    let found = tokio::net::lookup_host((seed.host.as_str(), seed.port)).await;
    found.ok().and_then(|mut all| all.next())
}
