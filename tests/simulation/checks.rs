//! What is checked of sessions when they end, of journals, and of everything in the end.

use std::collections::BTreeSet;

use reknit::core::query::Selection;
use reknit::core::session::{Direction, Intent, Moves, Verdict};
use reknit::core::{CollectionId, Range, Sibling};
use reknit::store::{JournalLimits, Release, Side};

use crate::oracle::{Held, KeyId};
use crate::session::{Half, Session};
use crate::tree;
use crate::world::{Peer, World};

/// Passes around the ring of peers until all must be equal: one gathers, one spreads, one to spare.
const PASSES_MAX: usize = 3;

impl World {
    /// A session has ended: what it claims must be so.
    pub(crate) fn judge(&mut self, session: &Session) {
        session.receipts().into_iter().for_each(|(peer, receipt)| self.keep_receipt(peer, receipt));
        let Some(outcome) = &session.outcome else {
            return self.tally.note("session: cut short");
        };
        // Looking at what there is to catch up with is part of the session that found it so.
        if session.catches_up.is_none() {
            self.outcome = Some(outcome.clone());
        }
        let verdict = outcome.verdict;
        let number = session.number;
        self.tally.note(&format!("verdict: {}", verdict.name()));
        self.event(&[20, number, verdict as u64], || format!("session {number}: {verdict:?} {}", outcome.reason));
        if outcome.reason.contains("new life") {
            self.tally.note("session: a new life was begun");
        }
        if outcome.refused.iter().any(|(_, _, why)| why.contains("ahead")) {
            self.tally.note("refused: from the future");
        }
        let scope = &session.options.scope;
        let in_scope = |collection: CollectionId| scope.is_empty() || scope.contains(&collection);
        let [near, far] = &session.halves;
        if verdict == Verdict::InSync {
            let cut = |held: &Option<Held>| held.as_ref().map(|held| held.prints.clone()).unwrap_or_default();
            let (mine, theirs) = (cut(&near.at_cut), cut(&far.at_cut));
            for (nth, (mine, theirs)) in mine.iter().zip(&theirs).enumerate() {
                let equal = mine == theirs || !in_scope(CollectionId(nth as u16));
                assert!(equal, "I6: session {number} says in sync, and collection {nth} was not the same at the cut");
            }
            assert!(!mine.is_empty() && mine.len() == theirs.len(), "I6: session {number} read no roots");
        }
        let proven = matches!(verdict, Verdict::InSync | Verdict::Converged);
        for moves in [&outcome.counts.to_mine, &outcome.counts.to_theirs].into_iter().filter(|_| proven) {
            let Moves { offered, applied, kept, moved, refused } = *moves;
            assert_eq!(offered, applied + kept + moved + refused, "I6: session {number} counts {:?}", outcome.counts);
        }
        let calm = [near, far].iter().all(|half| half.upheavals == self.peers[half.peer].upheavals);
        let both = session.options.intent == Intent::Repair(Direction::Both) && session.options.mirror.is_none();
        if proven && calm && both {
            self.both_have(session, in_scope);
        }
        let still = [near, far].iter().all(|half| !half.killed && half.commit == self.peers[half.peer].commit);
        if verdict == Verdict::Differs && still && session.options.intent == Intent::Diff {
            self.found_exactly(session, in_scope);
        }
        if let Some(of) = session.catches_up.clone() {
            return self.goes_on_catching_up(session, of);
        }
        if outcome.raised {
            let expired = outcome.reason.starts_with("records that have expired");
            let what = if expired { "records expired first" } else { "a horizon was raised" };
            self.tally.note(&format!("session: {what}"));
        }
        if let Some(behind) = &outcome.behind {
            self.catch_up_after(session, behind);
        }
    }

    /// What either side held when a repair began, both hold when it is done.
    fn both_have(&self, session: &Session, in_scope: impl Fn(CollectionId) -> bool) {
        let [near, far] = &session.halves;
        let converged = session.outcome.as_ref().is_some_and(|outcome| outcome.verdict == Verdict::Converged);
        for had in [near, far] {
            for (key, state) in
                had.at_start.states.iter().filter(|(key, _)| in_scope(self.oracle.keys[**key as usize].0))
            {
                // What was written meanwhile is in flight.
                if converged && self.peers[had.peer].held.states.get(key) != Some(state) {
                    continue;
                }
                for half in [near, far] {
                    let now = self.peers[half.peer].held.states.get(key);
                    if now == Some(state) {
                        continue;
                    }
                    for sibling in state.versions() {
                        // What either has collected since, the other need not have any more.
                        let misses = |end: &Half| {
                            let lineage = &self.peers[end.peer].lineage;
                            self.oracle.misses(*key, now.map(|now| &**now), sibling, lineage)
                        };
                        let missing = misses(near)
                            && misses(far)
                            && !self.let_go_meanwhile(had.peer, *key, sibling)
                            && !self.gave_up_meanwhile(half, *key, sibling);
                        assert!(
                            !missing,
                            "I2: session {} {:?} without bringing {sibling:?} of key {key} to peer {}, which has {now:?}",
                            session.number,
                            session.outcome.as_ref().map(|outcome| outcome.verdict),
                            half.peer
                        );
                    }
                }
            }
        }
    }

    /// Whether a peer let go of a version while it caught up, since another has what came in its place: that may be too far
    /// ahead of the clocks here to be brought yet.
    fn let_go_meanwhile(&self, peer: usize, key: KeyId, sibling: &Sibling) -> bool {
        let Some(id) = self.oracle.find(key, sibling) else { return false };
        let held = |peer: &Peer| self.oracle.is_held(&peer.held, id);
        self.oracle.dropped.contains(&id) && !held(&self.peers[peer]) && self.peers.iter().any(held)
    }

    /// Whether a side let go of a version since the session began, or had no room for it then, but has now.
    fn gave_up_meanwhile(&self, half: &Half, key: KeyId, sibling: &Sibling) -> bool {
        let ended = self.oracle.find(key, sibling).and_then(|id| self.peers[half.peer].gave_up.get(&id));
        ended.is_some_and(|commit| *commit > half.commit)
    }

    /// A diff of two sides that stood still names each key that differs, and no other.
    fn found_exactly(&self, session: &Session, in_scope: impl Fn(CollectionId) -> bool) {
        let [near, far] = &session.halves;
        let (mine, theirs) = (&near.at_start.states, &far.at_start.states);
        let keys: BTreeSet<KeyId> = mine.keys().chain(theirs.keys()).copied().collect();
        let differ = |key: &KeyId| mine.get(key) != theirs.get(key) && in_scope(self.oracle.keys[*key as usize].0);
        let differ: BTreeSet<_> = keys.into_iter().filter(differ).map(|key| &self.oracle.keys[key as usize]).collect();
        let found: BTreeSet<_> = session.found.iter().map(|found| (found.collection, found.key.clone())).collect();
        let found: BTreeSet<_> = found.iter().collect();
        let (more, less): (Vec<_>, Vec<_>) = (found.difference(&differ).collect(), differ.difference(&found).collect());
        let number = session.number;
        assert!(more.is_empty(), "I4: session {number} found what does not differ: {more:?}");
        assert!(less.is_empty(), "I4: session {number} did not find {less:?}: {:?}", session.outcome);
    }

    /// Whatever a run changed and that is still as the run left it has its earlier state in the journal.
    pub(crate) fn journal_is_whole(&mut self, peer: usize) {
        self.history_is_whole(peer);
        let store = self.store(peer);
        let at = &self.peers[peer];
        for (id, steps) in &at.runs {
            let Ok(run) = store.run(*id) else { continue };
            if run.dropped {
                continue;
            }
            let mut entries = BTreeSet::new();
            let mut note = |entry: reknit::core::journal::JournalEntry| {
                let mut before = Vec::new();
                entry.before.iter().for_each(|was| was.state.encode(&mut before));
                entries.insert((entry.collection, entry.key, before));
                true
            };
            store.run_entries(*id, &mut note).expect("the journal is read");
            for step in steps.iter().filter(|step| at.commits.get(&step.key) == Some(&step.commit)) {
                let (collection, key) = &self.oracle.keys[step.key as usize];
                let mut before = Vec::new();
                step.old.iter().for_each(|state| state.encode(&mut before));
                let kept = entries.contains(&(*collection, key.clone(), before));
                assert!(
                    kept,
                    "I15: run {id} of peer {peer} changed key {} without keeping what there was: {step:?}",
                    step.key
                );
            }
        }
    }

    /// Faults stop: everything must become equal within a bounded number of passes, and then stay so.
    pub(crate) fn conclude(&mut self) {
        self.heal();
        for (peer, arbiter) in self.lives.waiting() {
            self.repair_in_peace(peer, arbiter, 6, None);
        }
        let peers = self.peers.len();
        for pass in 0.. {
            assert!(pass < PASSES_MAX, "I2: {} passes around {peers} peers did not make them equal", PASSES_MAX);
            for a in 0..peers {
                // Each end may find that it is to begin a new life, to catch up, and to collect.
                self.repair_in_peace(a, (a + 1) % peers, 6, None);
            }
            let alike = |peer: usize| {
                let (first, at) = (&self.peers[0], &self.peers[peer]);
                (&at.held.prints, at.horizon) == (&first.held.prints, first.horizon)
            };
            if (1..peers).all(alike) {
                break;
            }
        }
        for a in 0..peers {
            self.repair_in_peace(a, (a + 1) % peers, 0, Some(0));
        }
        self.all_lives_differ();
        let held = self.peers[0].held.clone();
        let (root, exported) = (self.store(0).root(), self.export(0));
        for peer in 1..peers {
            assert_eq!(self.peers[peer].held.states, held.states, "I2: peer {peer} and peer 0 hold different states");
            assert_eq!(self.store(peer).root(), root, "I5: equal states, different roots");
            assert_eq!(self.export(peer), exported, "I11: peer {peer} shows other values than peer 0");
        }
        self.oracle.conclude(&held, &self.peers[0].lineage);
        self.trees_are_canonical(&held);
        for peer in 0..peers {
            let report = self.store(peer).verify(&mut |_| ()).expect("verify");
            assert!(report.is_sound(), "I3: peer {peer}: {:?}", report.wrong);
            self.journal_is_whole(peer);
        }
    }

    fn heal(&mut self) {
        self.faulty = false;
        self.islands.fill(0);
        for peer in 0..self.peers.len() {
            self.peers[peer].disk.disarm();
        }
        while !self.sessions.is_empty() {
            self.step(0);
        }
        // The clocks are put right, and time passes until nothing that was stamped lies ahead of them.
        self.now = self.peers.iter().map(|peer| peer.latest).max().unwrap_or(self.now).max(self.now) + 120_000;
        for peer in 0..self.peers.len() {
            self.peers[peer].skew = 0;
            let store = self.store(peer);
            store.set_journal_limits(JournalLimits { bytes: u64::MAX, age: u64::MAX }).expect("room");
            store.resume().expect("resumed");
            store.release_all(Release::Due, None).expect("released");
            // What leaves quarantine was written by others, and has seen nothing of what stands here.
            let _ = self.observe(peer, crate::oracle::Cause::Session);
        }
        self.event(&[21], || "all is healed".into());
    }

    /// One repair while nobody writes and nothing fails: it ends in sync, having moved so many records if that is known.
    fn repair_in_peace(&mut self, a: usize, b: usize, again: u32, moves: Option<u64>) {
        let options = self.session_options(Intent::Repair(Direction::Both));
        let began = self.begin(a, b, options);
        assert!(began, "I2: a session between {a} and {b} does not begin");
        let before = (self.peers[a].commit, self.peers[b].commit);
        self.outcome = None;
        while !self.sessions.is_empty() {
            self.step(0);
        }
        let outcome = self.outcome.take().expect("a session in peace has an outcome");
        let raised = outcome.raised || outcome.behind.is_some() || outcome.reason.contains("new life");
        if outcome.verdict == Verdict::Undetermined && raised && moves.is_none() {
            assert!(again > 0, "I9: between {a} and {b}: {}", outcome.reason);
            return self.repair_in_peace(a, b, again - 1, moves);
        }
        assert_eq!(outcome.verdict, Verdict::InSync, "I2: between {a} and {b}: {}", outcome.reason);
        if let Some(moves) = moves {
            let counts = &outcome.counts;
            assert_eq!(counts.to_mine.offered + counts.to_theirs.offered, moves, "I7: {counts:?}");
            assert_eq!((self.peers[a].commit, self.peers[b].commit), before, "I7: a second repair wrote something");
        }
    }

    /// What readers see of each key.
    fn export(&mut self, peer: usize) -> Vec<Option<Vec<u8>>> {
        let store = self.store(peer);
        let get = |(collection, key): &(CollectionId, Vec<u8>)| {
            crate::operations::collection_of(&store, *collection).get(key).expect("a store reads")
        };
        self.oracle.keys.iter().map(get).collect()
    }

    /// Roots are those that the documents of the formats make of the records.
    fn trees_are_canonical(&mut self, held: &Held) {
        let store = self.store(0);
        let policies = store.definition().collections.clone();
        for (nth, collection) in policies.iter().enumerate() {
            let id = CollectionId(nth as u16);
            let of = held.states.iter().filter(|(key, _)| self.oracle.keys[**key as usize].0 == id);
            let records = of.map(|(key, state)| (self.oracle.keys[*key as usize].1.as_slice(), &**state));
            let root = tree::root(&collection.name, records, self.shape.position_bits);
            assert_eq!(store.cut().roots[nth], root, "I5: the root of collection {nth} is not that of its records");
            let page = store.read(id, &Selection::Range(Range::ALL), None, usize::MAX).expect("read");
            assert_eq!(page.records.len() as u64, root.count, "I5: records and entries");
        }
    }
}
