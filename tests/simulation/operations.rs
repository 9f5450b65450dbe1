//! What users and operators do: writes, repairs, undos, resolutions.

use std::collections::{BTreeMap, BTreeSet};

use reknit::core::difference::Side as Which;
use reknit::core::journal::RunKind;
use reknit::core::query::{Guard, Incoming};
use reknit::core::row::{Json, Row, Value, encode};
use reknit::core::session::{Direction, Intent, Options as SessionOptions, Planner};
use reknit::core::{Actor, CollectionId, Content, Keeps, Record, Sibling, Stamp, State, Version};
use reknit::store::{Durability, JournalLimits, Op, Resolution, Resolved, Side, StoreError, Undo};

use crate::history::is_history;
use crate::oracle::{Cause, KeyId, Step, WriteId, is_dead, is_renamed};
use crate::tally::Where;
use crate::world::World;

/// Milliseconds of half a day.
const HALF_A_DAY: u64 = 43_200_000;

impl World {
    /// Does one operation. One that finds nothing to do does not count.
    pub(crate) fn operate(&mut self) {
        self.idle = false;
        let peer = self.draw.below(self.peers.len());
        match self.draw.below(100) {
            0..34 => self.write(peer),
            34..40 => self.write_many(peer),
            40..72 => self.meet(),
            72..76 => self.undo(peer),
            76..83 => self.resume(peer),
            83..89 => self.resolve(peer),
            89..91 => self.strangers(peer),
            91..93 if self.shape.histories && self.draw.below(2) == 0 => self.keep_history(peer),
            91..93 => self.bound_journal(peer),
            93..98 => self.collect(peer),
            _ => self.sync(peer),
        }
        self.tally.operations += u64::from(!self.idle);
    }

    fn some_key(&mut self) -> (CollectionId, Vec<u8>) {
        let collection = CollectionId(self.draw.below(self.shape.policies.len()) as u16);
        // Some keys are written often.
        let most = if self.draw.below(3) == 0 { self.shape.keys.min(4) } else { self.shape.keys };
        (collection, format!("key {}", self.draw.below(most)).into_bytes())
    }

    /// A value that no other write has.
    pub(crate) fn value(&mut self) -> Vec<u8> {
        self.values += 1;
        let mut row = Row::new();
        let number = i128::from(self.values);
        let pad = "x".repeat(self.draw.below(self.shape.value_bytes + 1));
        let size = self.draw.below(20) as i128;
        // Each of the columns that change is stamped by itself, so that merges take some of either side.
        let stamps = format!("{{\"number\":{},\"size\":{}}}", self.draw.below(50), self.draw.below(50));
        let changed = Value::Json(Json::parse(&stamps).expect("two numbers"));
        // One that lacks a column that policies go by leaves its key undecided.
        let lacks = self.draw.below(40) == 0;
        let columns = [
            ("changed", changed),
            ("number", Value::Int(number)),
            ("pad", Value::Text(pad)),
            ("size", Value::Int(size)),
        ];
        let columns = columns.into_iter().filter(|(name, _)| !lacks || !["changed", "size"].contains(name));
        columns.for_each(|(name, value)| drop(row.set(name, value).expect("a small row")));
        encode(&row)
    }

    fn write(&mut self, peer: usize) {
        let (collection, key) = self.some_key();
        let store = self.store(peer);
        let op = match self.draw.below(10) {
            0..3 => Op::delete(key.clone()),
            3 => {
                let expires = self.now.saturating_sub(1_000) + self.draw.below(100_000) as u64;
                Op::Put { key: key.clone(), value: self.value(), expires: Some(expires) }
            }
            _ => Op::put(key.clone(), self.value()),
        };
        let at = collection_of(&store, collection);
        let done = match &op {
            Op::Delete { key } => at.delete(key),
            op => at.batch(vec![op.clone()], Durability::Synced).map(|_| true),
        };
        let Some(done) = self.local(peer, done, Where::Writing) else { return };
        let id = self.oracle.key(collection, &key);
        let state = self.peers[peer].held.states.get(&id).cloned();
        match op {
            Op::Put { value, expires, .. } => {
                self.tally.note(if expires.is_some() { "put that expires" } else { "put" });
                self.acknowledge(peer);
                let state = state.expect("it was written");
                let held = state.winner();
                // What should have expired by now has.
                let gone = expires.is_some_and(|expires| expires <= self.store(peer).cut().watermark);
                let kept = held.value() == Some(&value).filter(|_| !gone);
                let same = state.versions().len() == 1 && kept && held.expires == expires;
                assert!(same, "a put of {key:?} left {state:?}");
            }
            _ if done => {
                self.tally.note("delete");
                self.acknowledge(peer);
                let gone = state.is_some_and(|state| state.versions().len() == 1 && !state.is_live());
                assert!(gone, "a delete of {key:?} left something");
            }
            _ => {
                self.idle = true;
                self.tally.note("delete of nothing");
            }
        }
    }

    fn write_many(&mut self, peer: usize) {
        let n = 1 + self.draw.below(20);
        let (collection, _) = self.some_key();
        let ops = (0..n).map(|_| {
            let key = self.some_key().1;
            if self.draw.below(5) == 0 { Op::delete(key) } else { Op::put(key, self.value()) }
        });
        let ops: Vec<Op> = ops.collect();
        let synced = self.draw.below(2) == 0;
        self.batch(peer, collection, ops, synced);
    }

    pub(crate) fn batch(&mut self, peer: usize, collection: CollectionId, ops: Vec<Op>, synced: bool) {
        let durability = if synced { Durability::Synced } else { Durability::Buffered };
        let store = self.store(peer);
        let done = collection_of(&store, collection).batch(ops, durability);
        if self.local(peer, done, Where::Writing).is_some() {
            self.tally.note(if synced { "batch" } else { "buffered batch" });
            if synced {
                self.acknowledge(peer);
            }
        }
    }

    /// Fills a peer with every key, so that trees have depth.
    pub(crate) fn fill(&mut self) {
        for collection in 0..self.shape.policies.len() {
            let filled = self.shape.filled;
            let ops: Vec<Op> = (0..filled).map(|nth| Op::put(format!("key {nth}"), self.value())).collect();
            for some in ops.chunks(200) {
                self.batch(0, CollectionId(collection as u16), some.to_vec(), true);
            }
        }
    }

    /// What came of something that a user did at a peer; nothing if the process died of it.
    pub(crate) fn local<T>(&mut self, peer: usize, done: Result<T, StoreError>, doing: Where) -> Option<T> {
        let (steps, fresh) = self.observe(peer, Cause::Local);
        self.remember(peer, steps);
        self.happened(peer, fresh, done, doing)
    }

    fn happened<T>(
        &mut self,
        peer: usize,
        fresh: Vec<WriteId>,
        done: Result<T, StoreError>,
        doing: Where,
    ) -> Option<T> {
        self.peers[peer].unsynced.extend(fresh);
        if self.peers[peer].disk.died().is_some() {
            self.crash(peer, doing);
            return None;
        }
        Some(done.unwrap_or_else(|error| panic!("{doing:?} at peer {peer}: {error}")))
    }

    fn sync(&mut self, peer: usize) {
        let done = self.store(peer).sync();
        if self.local(peer, done, Where::Writing).is_some() {
            self.tally.note("sync");
            self.acknowledge(peer);
        }
    }

    /// Two peers begin a session, of whatever kind.
    fn meet(&mut self) {
        if self.sessions.len() >= self.shape.sessions {
            let nth = self.draw.below(self.sessions.len());
            while self.sessions.len() > nth && self.draw.below(200) > 0 {
                if !self.step(nth) {
                    break;
                }
            }
        }
        let a = self.draw.below(self.peers.len());
        let b = (a + 1 + self.draw.below(self.peers.len() - 1)) % self.peers.len();
        let (a, b) = self.lives.who_meets(a, b);
        let (name, intent) = match self.draw.below(20) {
            0..12 => ("repair", Intent::Repair(Direction::Both)),
            12..14 => ("pull", Intent::Repair(Direction::To(Which::Mine))),
            14..16 => ("push", Intent::Repair(Direction::To(Which::Theirs))),
            16 => ("mirror", Intent::Repair(Direction::Both)),
            17 | 18 => ("diff", Intent::Diff),
            _ => ("check", Intent::Check),
        };
        let mut options = self.session_options(intent);
        if name == "mirror" {
            let side = if self.draw.below(2) == 0 { Which::Mine } else { Which::Theirs };
            options.mirror = Some(side);
        }
        if self.draw.below(5) == 0 {
            options.scope = vec![CollectionId(self.draw.below(self.shape.policies.len()) as u16)];
        }
        self.may_prefer(&mut options);
        match self.begin(a, b, options) {
            true => self.tally.note(name),
            false => self.idle = true,
        }
    }

    pub(crate) fn session_options(&mut self, intent: Intent) -> SessionOptions {
        let shape = &self.shape;
        let planner = if self.draw.below(4) == 0 { Planner::default() } else { shape.planner };
        let (settle, requests) = (shape.settle, shape.requests);
        // A diff that has found some of what differs is not compared again at full width: a digest of one byte may hide more.
        let width = if intent == Intent::Diff { shape.width.max(6) } else { shape.width };
        SessionOptions { settle, width, requests, planner, ..SessionOptions::new(intent) }
    }

    /// Undoes some run, and checks each key of it against what the run was seen to change.
    fn undo(&mut self, peer: usize) {
        let busy = self.sessions.iter().any(|session| session.halves.iter().any(|half| half.peer == peer));
        let store = self.store(peer);
        let runs = store.runs();
        let undoable = |(id, run): &(_, reknit::core::journal::Run)| {
            let done = run.undone.is_some_and(|undone| undone.done) || is_history(run);
            (!done && !run.dropped && (run.end.is_some() || !busy)).then_some((*id, run.header.kind))
        };
        let runs: Vec<_> = runs.iter().filter_map(undoable).collect();
        if runs.is_empty() {
            return self.undo_of_history(peer);
        }
        // The last ones are undone most.
        let nth = runs.len() - 1 - self.draw.below(runs.len().min(3));
        let (run, kind) = runs[nth];
        self.undo_run(peer, run, kind);
        // However it ended: what only this disk had and what is undone on it may be gone.
        self.forgive();
    }

    fn undo_run(&mut self, peer: usize, run: reknit::core::journal::RunId, kind: RunKind) {
        let mut how = if self.draw.below(4) == 0 { Undo::Everywhere } else { Undo::Here };
        let (before, commits) = (self.peers[peer].held.clone(), self.peers[peer].commits.clone());
        let mut died = false;
        let done = loop {
            let store = self.store(peer);
            if let Ok(run) = store.run(run)
                && let Some(undoing) = run.undone
                && let Ok(by) = store.run(undoing.by)
            {
                // One that was cut short goes on as it began.
                how = if matches!(by.header.kind, RunKind::Undo(_)) { Undo::Here } else { Undo::Everywhere };
            }
            let done = store.undo(run, how, &mut |_| (), &mut |_| ());
            self.peers[peer].upheavals += 1;
            let cause = if how == Undo::Here { Cause::Undo } else { Cause::Session };
            let (steps, _) = self.observe(peer, cause);
            let horizon = self.peers[peer].horizon;
            for step in &steps {
                self.oracle.revive(step, horizon);
                if step.new.is_none() {
                    self.oracle.undone(step.key);
                }
            }
            self.not_stored_again(peer, run, &steps);
            if self.peers[peer].disk.died().is_some() {
                died = true;
                self.crash(peer, Where::Undoing);
                continue;
            }
            match done {
                Ok(done) => {
                    if !died {
                        self.peers[peer].runs.insert(done.by, steps);
                    }
                    break done;
                }
                Err(StoreError::JournalFull { .. }) => return self.tally.note("undo: the journal is full"),
                // It had come to its end before the process died.
                Err(StoreError::Undone { .. }) if died => return,
                Err(StoreError::NoRun { .. }) if died => return,
                Err(error) => panic!("an undo of run {run} at peer {peer}: {error}"),
            }
        };
        self.tally.note(if how == Undo::Here { "undo" } else { "undo everywhere" });
        if kind.undoes().is_some() {
            self.tally.note("undo of an undo");
        }
        self.event(&[6, peer as u64, run.0, done.restored, done.skipped], || {
            format!("peer {peer} undid run {run}: {done:?}")
        });
        match how {
            _ if died => {}
            Undo::Here => self.undone_exactly(peer, run, (&before, &commits)),
            Undo::Everywhere => self.undone_for_all(peer, run, (&before, &commits)),
        }
    }

    /// Deletions that an undo would have put back, had they not been collected meanwhile.
    fn not_stored_again(&mut self, peer: usize, run: reknit::core::journal::RunId, undone: &[Step]) {
        let at = &self.peers[peer];
        // What a run changed whose disk was copied is not known here, but which deletions went with it.
        let went = undone.iter().filter(|step| step.new.is_none());
        let went = went.flat_map(|step| step.old.iter().flat_map(|old| old.versions()).map(|old| (step.key, old)));
        let went = went.filter(|(_, sibling)| sibling.gone_since().is_some_and(|since| since <= at.horizon));
        let gone = |step: &&Step| !at.held.states.contains_key(&step.key);
        let steps = at.runs.get(&run).into_iter().flatten().filter(gone);
        let before = steps.filter_map(|step| Some((step.key, step.old.as_ref()?)));
        let watermark = at.store.as_ref().map_or(0, |store| store.cut().watermark);
        let dead = before.filter(|(_, old)| {
            let expired = old.expired(watermark);
            is_dead(expired.as_ref().unwrap_or(old), at.horizon)
        });
        let each = dead.flat_map(|(key, state)| state.versions().iter().map(move |sibling| (key, sibling)));
        let collected = each.chain(went).filter_map(|(key, sibling)| self.oracle.find(key, sibling));
        for id in collected.collect::<Vec<_>>() {
            // Had it been undone before it was collected, others rightly have what it deleted.
            if !self.peers.iter().any(|peer| peer.lineage.contains(&id)) {
                self.oracle.undeleted(id);
            }
            self.peers[peer].lineage.insert(id);
        }
    }

    /// Walks backwards through what a run changed, as an undo should have.
    fn undone_exactly(
        &mut self,
        peer: usize,
        run: reknit::core::journal::RunId,
        (before, commits): (&crate::oracle::Held, &BTreeMap<KeyId, u64>),
    ) {
        let Some(steps) = self.peers[peer].runs.get(&run).cloned() else { return };
        let horizon = self.peers[peer].horizon;
        let watermark = self.store(peer).cut().watermark;
        let mut expected = (*before.states).clone();
        let (mut put_back, mut through) = (BTreeSet::new(), BTreeMap::<KeyId, Vec<_>>::new());
        for Step { key, old, new, commit } in steps.into_iter().rev() {
            if expected.get(&key) == new.as_ref() {
                // What another undo has put back is as the run left it, and yet was written since: it may go, and may stay.
                if before.states.get(&key) == new.as_ref() && new.is_some() && commits.get(&key) != Some(&commit) {
                    put_back.insert(key);
                }
                // What has expired meanwhile does not come back, and a deletion that was collected is not stored again.
                let old = old.map(|old| old.expired(watermark).map_or(old, std::rc::Rc::new));
                match old.filter(|old| !is_dead(old, horizon)) {
                    Some(old) => {
                        through.entry(key).or_default().push(old.clone());
                        expected.insert(key, old)
                    }
                    None => expected.remove(&key),
                };
            }
        }
        let after = &self.peers[peer].held.states;
        for key in put_back.into_iter().filter(|key| after.get(key) == before.states.get(key)) {
            before.states.get(&key).map(|state| expected.insert(key, state.clone()));
        }
        for (key, state) in &expected {
            // What an earlier life wrote comes back as this one's, and what had led to that was not there as the run left it.
            let renamed = |now: &std::rc::Rc<State>| {
                through.get(key).is_some_and(|all| all.iter().any(|was| is_renamed(was, now)))
            };
            assert!(
                after.get(key) == Some(state) || after.get(key).is_some_and(renamed),
                "I15: an undo of run {run} at peer {peer} left key {key} as {:?}, not as {state:?}",
                after.get(key)
            );
        }
        let more: Vec<_> = after.iter().filter(|(key, _)| !expected.contains_key(key)).collect();
        assert!(more.is_empty(), "I15: an undo of run {run} at peer {peer} left keys that had not been: {more:?}");
    }

    /// Walks backwards likewise: what readers saw of each key stands there now, under one version.
    fn undone_for_all(
        &mut self,
        peer: usize,
        run: reknit::core::journal::RunId,
        (before, commits): (&crate::oracle::Held, &BTreeMap<KeyId, u64>),
    ) {
        let Some(steps) = self.peers[peer].runs.get(&run).cloned() else { return };
        let watermark = self.store(peer).cut().watermark;
        let (mut walked, mut skipped) = (BTreeMap::new(), BTreeMap::new());
        let mut put_back = BTreeSet::new();
        for Step { key, old, new, commit } in steps.into_iter().rev() {
            let now = walked.get(&key).map_or_else(|| before.states.get(&key), Option::as_ref);
            // As above: what another undo has put back may go, and may stay.
            if before.states.get(&key) == new.as_ref() && new.is_some() && commits.get(&key) != Some(&commit) {
                put_back.insert(key);
            }
            // A change that led to one that is skipped is skipped with it, whatever brought its outcome back since.
            let led_there = new.is_some() && skipped.get(&key) == Some(&new);
            let of = if now == new.as_ref() && !led_there { &mut walked } else { &mut skipped };
            of.insert(key, old);
        }
        self.tally.add("undone for all", walked.len() as u64);
        for (key, old) in walked {
            let old = old.map(|old| old.expired(watermark).map_or(old, std::rc::Rc::new));
            let (shown, _) = old.as_ref().map_or((Content::Tombstone, None), |old| self.shown_of(key, old));
            let after = self.peers[peer].held.states.get(&key);
            let right = after.is_some_and(|after| matches!(after.versions(), [one] if one.content == shown))
                || put_back.contains(&key) && after == before.states.get(&key);
            assert!(right, "an undo of run {run} for all at peer {peer} left key {key} as {after:?}; it was {old:?}");
        }
    }

    fn resume(&mut self, peer: usize) {
        let resumed = self.store(peer).resume();
        match self.local(peer, resumed, Where::Writing) {
            Some(Some(_)) => self.tally.note("resume"),
            Some(None) => self.idle = true,
            None => {}
        }
    }

    fn resolve(&mut self, peer: usize) {
        let store = self.store(peer);
        let id = CollectionId(self.draw.below(self.shape.policies.len()) as u16);
        let collection = collection_of(&store, id);
        let conflicts = collection.conflicts(None, 20);
        let Some(conflicts) = self.local(peer, conflicts, Where::Writing) else { return };
        if conflicts.is_empty() {
            self.idle = true;
            return;
        }
        let conflict = &conflicts[self.draw.below(conflicts.len())];
        let by = match self.draw.below(4) {
            0 => Resolution::Value(self.value()),
            1 => Resolution::Delete,
            _ => Resolution::Version(self.draw.below(conflict.versions.len())),
        };
        let resolved = collection.resolve(conflict, by);
        if let Some(resolved) = self.local(peer, resolved, Where::Writing) {
            assert_eq!(resolved, Resolved::Written, "nobody else writes meanwhile");
            self.tally.note("resolve");
            self.acknowledge(peer);
        }
    }

    /// Many whom nobody knows have written one key.
    fn strangers(&mut self, peer: usize) {
        let (collection, key) = self.some_key();
        let store = self.store(peer);
        let keeps = store.definition().keeps(collection);
        if !self.shape.strangers || keeps == Keeps::Newest {
            self.idle = true;
            return;
        }
        let n = 10 + self.draw.below(30);
        let id = self.oracle.key(collection, &key);
        let mut batch = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..n {
            let millis = self.now.saturating_sub(self.draw.below(10_000) as u64);
            let version =
                Version::after(Stamp(Stamp::at(millis).0 + self.values % 60_000), Actor(self.draw.bits()), []);
            let sibling = Sibling { version, content: Content::Live(self.value()), expires: None };
            ids.push(self.oracle.stranger(id, sibling.clone(), peer, self.peers[peer].epoch));
            let record = Record { key: key.clone(), state: State::single(sibling) };
            batch.push(Incoming { record, guard: Guard::Join });
        }
        let applied = store.apply(collection, batch, Durability::Synced);
        // No write of this peer's own.
        let (_, fresh) = self.observe(peer, Cause::Local);
        let Some(applied) = self.happened(peer, fresh, applied, Where::Writing) else { return };
        self.tally.note("strangers");
        if !applied.refused.is_empty() {
            return;
        }
        let state = self.peers[peer].held.states.get(&id).cloned().expect("they have written");
        for id in ids {
            assert!(self.oracle.covers(&state, id), "I1: {} went at once", self.oracle.shown(id));
            if !self.oracle.is_beyond(&state, id) {
                self.oracle.acknowledge(id);
            }
        }
    }

    /// The journal may hold little, or much again.
    fn bound_journal(&mut self, peer: usize) {
        let bytes = [1 << 30, 1 << 30, 20_000, 2_000][self.draw.below(4)];
        let age = [HALF_A_DAY, 60 * HALF_A_DAY][self.draw.below(2)];
        let dropped = self.store(peer).set_journal_limits(JournalLimits { bytes, age });
        if let Some(dropped) = self.local(peer, dropped, Where::Writing) {
            self.tally.note("journal bounded");
            self.tally.add("runs dropped", dropped);
            let runs: BTreeSet<_> = self.store(peer).runs().into_iter().map(|(id, _)| id).collect();
            self.peers[peer].runs.retain(|id, _| runs.contains(id));
        }
    }
}

pub(crate) fn collection_of(store: &reknit::store::Store, id: CollectionId) -> reknit::store::Collection {
    let name = &store.definition().collections[usize::from(id.0)].name;
    store.collection(name).expect("the dataset has it")
}
