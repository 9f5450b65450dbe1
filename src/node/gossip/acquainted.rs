//! Whom a store gossips with: peers whose store is certainly the life that was met, and has collected as far as this one. With
//! others it waits until a session has sorted that out.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use reknit_core::gossip::{Speaker, Word};
use reknit_core::life::{Life, Sighting};
use reknit_core::query::Recognition;
use reknit_core::{Actor, Stamp};

use super::Apart;
use crate::store::{Acquaintance, Side, Store, StoreError};
use crate::transport::PeerId;

/// How long it is known who a peer's store is.
const KNOWN: Duration = Duration::from_secs(1);
/// How long a peer in doubt may take to recall how it was met.
const PATIENCE: Duration = Duration::from_secs(1);
/// Words of one peer that wait until it is known who it is.
const WAITING: usize = 4;

/// What follows from who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// The life that was met.
    Known,
    /// Perhaps another than the one of this opening.
    Doubtful(Sighting),
    /// One that is for sessions.
    Apart(Apart),
}

/// Who the stores of peers are.
pub(super) struct Acquainted {
    store: Store,
    /// This store as it was introduced.
    me: Option<(Life, u64)>,
    heard: HashMap<PeerId, (Speaker, Instant)>,
    waiting: HashMap<PeerId, VecDeque<Word>>,
    /// When those were asked who are in doubt.
    asked: HashMap<PeerId, Instant>,
}

impl Acquainted {
    pub(super) fn new(store: Store) -> Acquainted {
        let (heard, waiting, asked) = Default::default();
        Acquainted { store, me: None, heard, waiting, asked }
    }

    fn horizon(&self) -> Stamp {
        self.store.horizon().stamp
    }

    /// This store, as it speaks now: that it was opened is on record before a peer hears of it (M16).
    pub(super) fn me(&mut self) -> Result<Speaker, StoreError> {
        let info = self.store.describe();
        let life = Life { actor: info.actor.0, nonce: info.nonce };
        let commit = match self.me {
            Some((introduced, commit)) if introduced == life => commit,
            _ => {
                let commit = self.store.introduce()?.commit;
                self.me = Some((life, commit));
                commit
            }
        };
        Ok(Speaker { dataset: info.definition.id, life, commit, horizon: self.horizon() })
    }

    /// This store, as it gives what it holds: a peer remembers how far it was then, or would not notice that it was rolled
    /// back behind that. What is told is durable first, and said in all that follows.
    pub(super) fn me_giving(&mut self) -> Result<Speaker, StoreError> {
        let me = self.me()?;
        let commit = self.store.introduce()?.commit;
        self.me = Some((me.life, commit));
        Ok(Speaker { commit, ..me })
    }

    /// Who speaks (M16, M20, M23).
    pub(super) fn hears(&mut self, from: PeerId, speaker: &Speaker) -> Result<Speaks, StoreError> {
        self.look(from, speaker, None)
    }

    /// A peer in doubt says that it knows the opening in which it was met; gives what waited for that.
    pub(super) fn recalls(&mut self, from: PeerId, speaker: &Speaker, by: Sighting) -> Result<Vec<Word>, StoreError> {
        let waited = self.waiting.remove(&from).unwrap_or_default();
        self.asked.remove(&from);
        // Nobody who was not asked recalls anything.
        if waited.is_empty() || self.look(from, speaker, Some(by))? != Speaks::Known {
            return Ok(Vec::new());
        }
        Ok(waited.into())
    }

    fn look(&mut self, from: PeerId, speaker: &Speaker, by: Option<Sighting>) -> Result<Speaks, StoreError> {
        let same = |known: &Speaker| (known.life, known.commit) == (speaker.life, speaker.commit);
        if !self.heard.get(&from).is_some_and(|(known, at)| same(known) && at.elapsed() < KNOWN) {
            self.heard.remove(&from);
            match self.store.acquainted(Actor(speaker.life.actor), speaker.sighting(), by)? {
                Acquaintance::Known => {}
                Acquaintance::Doubtful(last) => return Ok(Speaks::Doubtful(last)),
                Acquaintance::Oneself => return Ok(Speaks::Apart(Apart::Copy)),
            }
            self.heard.insert(from, (*speaker, Instant::now()));
        }
        if let Some((known, _)) = self.heard.get_mut(&from) {
            known.horizon = speaker.horizon;
        }
        Ok(if speaker.horizon == self.horizon() { Speaks::Known } else { Speaks::Apart(Apart::Horizon) })
    }

    /// Keeps what a peer in doubt says; gives whether it is to be asked now, and how much of what it said before is let go.
    pub(super) fn wait(&mut self, from: PeerId, word: Word) -> (bool, u64) {
        let asks = !self.asked.contains_key(&from);
        self.asked.entry(from).or_insert_with(Instant::now);
        let waiting = self.waiting.entry(from).or_default();
        waiting.push_back(word);
        let let_go = if waiting.len() > WAITING { waiting.pop_front() } else { None };
        (asks, let_go.map_or(0, |word| word.count()))
    }

    /// Peers that were asked and have recalled nothing, with how much of what they said is let go. They are asked again.
    pub(super) fn in_vain(&mut self) -> Vec<(PeerId, u64)> {
        let late = |(peer, at): (&PeerId, &Instant)| (at.elapsed() >= PATIENCE).then_some(*peer);
        let late: Vec<PeerId> = self.asked.iter().filter_map(late).collect();
        late.into_iter().map(|peer| (peer, self.forget(peer))).collect()
    }

    /// In how long [`Acquainted::in_vain`] has something to say.
    pub(super) fn wakes_in(&self) -> Option<Duration> {
        self.asked.values().map(|at| PATIENCE.saturating_sub(at.elapsed())).min()
    }

    /// Whether this store is still the life that a peer met in an opening.
    pub(super) fn knows(&self, met: Sighting) -> Result<bool, StoreError> {
        Ok(self.store.recognise(&[met], false)? == Recognition::Same)
    }

    /// Under which opening a peer's store may be given records; none if that is not known: then it has to ask for them.
    pub(super) fn opening_of(&mut self, peer: PeerId) -> Result<Option<u64>, StoreError> {
        let Some((speaker, _)) = self.heard.get(&peer).copied() else { return Ok(None) };
        let known = self.look(peer, &speaker, None)? == Speaks::Known;
        Ok(known.then_some(speaker.life.nonce))
    }

    /// A peer is down: whoever comes up there says anew who it is. Gives how much of what it said is let go.
    pub(super) fn forget(&mut self, peer: PeerId) -> u64 {
        self.heard.remove(&peer);
        self.asked.remove(&peer);
        self.waiting.remove(&peer).unwrap_or_default().iter().map(Word::count).sum()
    }
}
