//! Histories of ordinary writes, kept in the journal beside the runs of sessions: each state that one replaced is listed until
//! a bound that the store was told drops it, the oldest first, and never for any other reason.

use std::collections::{BTreeMap, BTreeSet};

use reknit::core::journal::{Run, RunId, RunKind};
use reknit::store::{KeepHistory, Store, StoreError, Undo};

use crate::oracle::{KeyId, Step};
use crate::tally::Where;
use crate::world::World;

/// A run is kept for an eighth longer than it is told, and until so much later a write drops it.
const LONGER: u64 = 8;

/// What a peer keeps of what ordinary writes replaced.
#[derive(Default)]
pub(crate) struct History {
    limits: Option<KeepHistory>,
    /// What ordinary writes changed, oldest first, and under which run that is kept; none where the process died of it.
    steps: Vec<(Option<RunId>, Step)>,
    /// The runs that there were when it was last looked.
    runs: BTreeMap<RunId, Run>,
    /// What was kept up to this commit is not known.
    from: u64,
}

impl History {
    /// The disk is another: what is kept there was not looked at.
    pub(crate) fn begin(&mut self) {
        *self = Self { from: u64::MAX, ..Self::default() };
    }

    /// A crash took all commits after this one.
    pub(crate) fn cut(&mut self, head: u64) {
        let lost = self.steps.extract_if(.., |(_, step)| step.commit > head).collect::<Vec<_>>();
        // With all that a run kept the run is gone. Of what it kept when the process died of that, nobody knows.
        let steps = &self.steps;
        let under = |steps: &[(Option<RunId>, Step)], id: &RunId| steps.iter().any(|(run, _)| *run == Some(*id));
        self.runs.retain(|id, _| under(steps, id) || !under(&lost, id));
    }
}

/// Whether a run keeps what ordinary writes replaced.
pub(crate) fn is_history(run: &Run) -> bool {
    run.header.kind == RunKind::Written
}

fn kept(store: &Store) -> BTreeMap<RunId, Run> {
    store.runs().into_iter().filter(|(_, run)| is_history(run)).collect()
}

impl World {
    /// A peer keeps what its writes replace from now on, so much and so long, or no longer.
    pub(crate) fn keep_history(&mut self, peer: usize) {
        let age = [500, 20_000, 1 << 40][self.draw.below(3)];
        let bytes = [400, 4_000, 1 << 30][self.draw.below(3)];
        let limits = (self.draw.below(6) > 0).then_some(KeepHistory { age, bytes });
        let done = self.store(peer).keep_history(limits);
        if self.local(peer, done, Where::Writing).is_some() {
            self.tally.note("history bounded");
            assert_eq!(self.store(peer).keeps_history(), limits, "peer {peer} keeps another history than it was told");
        }
    }

    /// Remembers what an ordinary write changed.
    pub(crate) fn remember(&mut self, peer: usize, steps: Vec<Step>) {
        let at = &mut self.peers[peer];
        let Some(store) = at.store.as_ref().filter(|_| at.history.limits.is_some()) else { return };
        let died = at.disk.died().is_some();
        let newest = kept(store).last_key_value().map(|(run, _)| *run).filter(|_| !died);
        let replaced = steps.iter().any(|step| step.old.is_some());
        at.history.steps.extend(steps.into_iter().map(|step| (newest, step)));
        if !replaced || died {
            return;
        }
        self.tally.note("history kept");
        assert!(newest.is_some(), "I15: peer {peer} keeps no history of what was written");
        let (at, now) = (&self.peers[peer], self.told(peer));
        let Some(limits) = at.history.limits else { return };
        let mut older: Vec<&Run> = at.history.runs.values().collect();
        let newest = older.pop();
        let bytes: u64 = older.iter().map(|run| run.bytes).sum();
        assert!(bytes <= limits.bytes, "peer {peer} keeps {bytes} bytes of {limits:?} beside what it keeps now");
        let latest = limits.age.saturating_add(2 * (limits.age / LONGER)).saturating_add(1);
        // The oldest goes first. Where the clock was put back the newest is young until it has come there again.
        let ahead = newest.is_some_and(|newest| newest.header.started > now);
        let oldest = older.first().filter(|_| !ahead);
        let aged = oldest.filter(|run| now.saturating_sub(run.header.started) > latest);
        assert!(aged.is_none(), "peer {peer} keeps {aged:?} at {now} beyond {limits:?}");
    }

    /// Looks at which runs of it are gone: those that a bound drops, the oldest first.
    pub(crate) fn look_at_history(&mut self, peer: usize) {
        let at = &self.peers[peer];
        let Some(store) = at.store.as_ref() else { return };
        let (runs, limits, now) = (kept(store), store.keeps_history(), self.told(peer));
        let gone: BTreeMap<RunId, Run> = at
            .history
            .runs
            .iter()
            .filter(|(id, _)| !runs.contains_key(id))
            .map(|(id, run)| (*id, run.clone()))
            .collect();
        let mut bytes: u64 = gone.values().chain(runs.values()).map(|run| run.bytes).sum();
        for (id, run) in &gone {
            let oldest = runs.keys().all(|other| other > id);
            let due = limits.is_none_or(|limits| {
                let age = now.saturating_sub(run.header.started);
                age > limits.age.saturating_add(limits.age / LONGER) || bytes > limits.bytes
            });
            assert!(
                oldest && due,
                "I15: peer {peer} dropped {id:?} ({run:?}) of its history at {now}, of {bytes} bytes: {limits:?}"
            );
            bytes -= run.bytes;
        }
        self.tally.add("history dropped", gone.len() as u64);
        let commit = self.peers[peer].commit;
        let history = &mut self.peers[peer].history;
        history.limits = limits;
        history.runs = runs;
        if history.from == u64::MAX {
            history.from = commit;
        }
    }

    /// Each state that an ordinary write replaced is listed, unless the run that kept it is gone; and nothing else is.
    pub(crate) fn history_is_whole(&mut self, peer: usize) {
        let store = self.store(peer);
        let at = &self.peers[peer];
        let mut of_key: BTreeMap<KeyId, Vec<&(Option<RunId>, Step)>> = BTreeMap::new();
        at.history.steps.iter().for_each(|step| of_key.entry(step.1.key).or_default().push(step));
        let there = |run: &RunId| at.history.runs.get(run).is_some_and(|run| !run.dropped);
        let mut lost = BTreeSet::new();
        for (key, steps) in of_key {
            let (collection, name) = &self.oracle.keys[key as usize];
            let listed =
                crate::operations::collection_of(&store, *collection).history(name).expect("a journal is read");
            let listed: Vec<_> = listed.iter().filter(|earlier| at.history.runs.contains_key(&earlier.run)).collect();
            for (run, step) in &steps {
                let Some(old) = &step.old else { continue };
                let found = listed.iter().any(|earlier| earlier.commit == step.commit && earlier.state == **old);
                assert!(found || !run.is_some_and(|run| there(&run)), "I15: peer {peer} lacks what {step:?} replaced");
                lost.extend((!found).then_some((key, step.commit)));
            }
            let written = |commit: u64| steps.iter().any(|(_, step)| step.commit == commit);
            let more = listed.iter().find(|earlier| earlier.commit > at.history.from && !written(earlier.commit));
            assert!(more.is_none(), "I15: peer {peer} lists {more:?} of key {key}, which nobody wrote over");
        }
        self.peers[peer].history.steps.retain(|(_, step)| !lost.contains(&(step.key, step.commit)));
    }

    /// What ordinary writes replaced is not undone as a whole.
    pub(crate) fn undo_of_history(&mut self, peer: usize) {
        let store = self.store(peer);
        let Some((run, _)) = store.runs().into_iter().find(|(_, run)| is_history(run)) else {
            self.idle = true;
            return;
        };
        let refused = store.undo(run, Undo::Here, &mut |_| (), &mut |_| ());
        let died = self.peers[peer].disk.died().is_some();
        assert!(died || matches!(refused, Err(StoreError::NoUndo { .. })), "a history was undone: {refused:?}");
        if self.local(peer, Ok(()), Where::Writing).is_some() {
            self.tally.note("history: not undone");
        }
    }
}
