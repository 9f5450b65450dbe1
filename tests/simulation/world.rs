//! Peers, the time, and what is under way between them: one thread, everything from the seed.
//! Which operations and faults there are is said in the modules beside this one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reknit::core::journal::{RunHeader, RunId, RunKind};
use reknit::core::query::Cut;
use reknit::core::receipt::Receipt;
use reknit::core::session::{Intent, Options as SessionOptions, Outcome};
use reknit::core::{Actor, Collection, DatasetId, DatasetKey, Definition, Stamp};
use reknit::store::engine::conformance::Draw;
use reknit::store::{Options, Side, Store, StoreError};

use crate::disk::Disk;
use crate::history::{History, is_history};
use crate::lives::{Image, Lives};
use crate::oracle::{Cause, Held, KeyId, Lineage, Oracle, Step, Who, WriteId};
use crate::session::{Did, End, Session};
use crate::shape::Shape;
use crate::tally::{Tally, Where};

/// Where the pretended clock begins: some day in 2033.
const BEGIN: u64 = 2_000_000_000_000;

pub(crate) struct Peer {
    pub(crate) disk: Disk,
    pub(crate) store: Option<Store>,
    clock: Arc<AtomicU64>,
    random: Arc<AtomicU64>,
    /// How far its wall clock is off, in milliseconds.
    pub(crate) skew: i64,
    /// The latest time that its wall clock told.
    pub(crate) latest: u64,
    pub(crate) held: Held,
    /// The commit that changed each key last.
    pub(crate) commits: BTreeMap<KeyId, u64>,
    /// The commit number that it told last.
    pub(crate) commit: u64,
    /// Writes that nobody has promised yet.
    pub(crate) unsynced: Vec<WriteId>,
    /// What sessions and undos wrote anew since then, each with its commit.
    pub(crate) derived: Vec<(u64, WriteId)>,
    /// Writes that a key had no room for while it was full of newer ones, or that went while it was caught up with others, each with
    /// the commit of that.
    pub(crate) gave_up: BTreeMap<WriteId, u64>,
    /// How often its disk was replaced.
    pub(crate) epoch: u64,
    /// Times that states came back which had been replaced.
    pub(crate) upheavals: u64,
    /// What its runs changed, by their numbers.
    pub(crate) runs: BTreeMap<RunId, Vec<Step>>,
    /// What it keeps of what its own writes replaced.
    pub(crate) history: History,
    /// Disks of earlier, to be put back.
    pub(crate) images: Vec<Image>,
    /// What was collected there, or where it collected with.
    pub(crate) lineage: Lineage,
    /// Up to where it collects.
    pub(crate) horizon: Stamp,
    /// Receipts in its home, which is not on that disk.
    pub(crate) receipts: Vec<Receipt>,
}

pub(crate) struct World {
    pub(crate) shape: Shape,
    pub(crate) draw: Draw,
    pub(crate) now: u64,
    pub(crate) peers: Vec<Peer>,
    pub(crate) sessions: Vec<Session>,
    begun: u64,
    /// That of the session that ended last.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) oracle: Oracle,
    /// Actors that several disks have.
    pub(crate) forked: BTreeSet<Actor>,
    pub(crate) lives: Lives,
    /// Members whose lease has lapsed, until they are heard of again.
    pub(crate) lapsed: BTreeSet<usize>,
    /// Which side of a partition each peer is on.
    pub(crate) islands: Vec<u8>,
    /// Whether faults may still happen.
    pub(crate) faulty: bool,
    pub(crate) tally: Tally,
    definition: Definition,
    trace: blake3::Hasher,
    loud: bool,
    pub(crate) values: u64,
    /// Whether the operation or the fault that was drawn last found nothing to do.
    pub(crate) idle: bool,
}

fn key() -> DatasetKey {
    DatasetKey::from_bytes([9; 32])
}

fn definition(shape: &Shape) -> Definition {
    let mut definition = Definition::simple(DatasetId([7; 16]), "simulated");
    let names = ["first", "second"];
    let collection = |(name, policy): (&str, &&str)| Collection { name: name.into(), policy: (*policy).into() };
    definition.collections = names.into_iter().zip(&shape.policies).map(collection).collect();
    definition.key_index = shape.key_index;
    definition
}

impl World {
    pub(crate) fn new(shape: Shape, loud: bool) -> Self {
        let definition = definition(&shape);
        let mut world = Self {
            draw: Draw(shape.seed.rotate_left(32) ^ 0x0dd5),
            now: BEGIN,
            peers: Vec::new(),
            sessions: Vec::new(),
            begun: 0,
            outcome: None,
            oracle: Oracle::new(definition.clone()),
            forked: BTreeSet::new(),
            lives: Lives::default(),
            lapsed: BTreeSet::new(),
            islands: vec![0; shape.peers],
            faulty: false,
            tally: Tally::default(),
            definition,
            trace: blake3::Hasher::new(),
            loud,
            values: 0,
            idle: false,
            shape,
        };
        for nth in 0..world.shape.peers {
            let skew = world.shape.skews[nth];
            let latest = BEGIN.saturating_add_signed(skew);
            let peer = Peer {
                disk: Disk::new(),
                store: None,
                clock: Arc::new(AtomicU64::new(latest)),
                random: Arc::new(AtomicU64::new(world.draw.bits())),
                skew,
                latest,
                held: Held::default(),
                commits: BTreeMap::new(),
                commit: 0,
                unsynced: Vec::new(),
                derived: Vec::new(),
                gave_up: BTreeMap::new(),
                epoch: 0,
                upheavals: 0,
                runs: Default::default(),
                history: History::default(),
                images: Vec::new(),
                lineage: Lineage::new(),
                horizon: Stamp::default(),
                receipts: Vec::new(),
            };
            world.peers.push(peer);
            world.lives.begin(nth);
            world.found(nth);
        }
        world
    }

    /// Everything, from the first write to the last check.
    pub(crate) fn run(&mut self) {
        self.fill();
        for peer in 0..self.peers.len() {
            if self.shape.histories {
                self.keep_history(peer);
            }
        }
        self.faulty = true;
        let (operations, faults) = (self.shape.operations as u64, self.shape.faults as u64);
        while self.tally.operations < operations || self.tally.faults < faults {
            self.advance();
            let operations_left = operations.saturating_sub(self.tally.operations);
            let faults_left = faults.saturating_sub(self.tally.faults);
            if self.draw.below((operations_left + faults_left) as usize) < faults_left as usize {
                self.fail();
            } else {
                self.operate();
            }
            self.go_on();
        }
        self.conclude();
    }

    /// Sessions go on for a while.
    fn go_on(&mut self) {
        for _ in 0..self.draw.below(60) {
            if self.sessions.is_empty() {
                return;
            }
            let nth = self.draw.below(self.sessions.len());
            if !self.step(nth) && self.draw.below(40) == 0 {
                self.break_link();
            }
            if self.draw.below(self.shape.breaks) == 0 {
                self.break_link();
            }
            self.advance();
        }
    }

    /// Time passes.
    pub(crate) fn advance(&mut self) {
        self.now += self.draw.below(self.shape.tick as usize + 1) as u64;
    }

    /// Notes something that happened, for the trace and for whoever replays.
    pub(crate) fn event(&mut self, numbers: &[u64], text: impl FnOnce() -> String) {
        numbers.iter().for_each(|number| {
            self.trace.update(&number.to_le_bytes());
        });
        if self.loud {
            eprintln!("{:>9} {}", self.now - BEGIN, text());
        }
    }

    /// A digest of everything that happened.
    pub(crate) fn trace(&self) -> blake3::Hash {
        self.trace.finalize()
    }

    /// How a peer opens its store.
    pub(crate) fn store_options(&self, peer: usize) -> Options {
        let (clock, random) = (Arc::clone(&self.peers[peer].clock), Arc::clone(&self.peers[peer].random));
        Options {
            clock: Arc::new(move || clock.load(Ordering::Relaxed)),
            random: Arc::new(move || {
                let mut draw = Draw(random.load(Ordering::Relaxed));
                let bits = draw.bits();
                random.store(draw.0, Ordering::Relaxed);
                Ok(bits)
            }),
            position_bits: self.shape.position_bits,
            fold_at: self.shape.fold_at,
            tree_cache_bytes: self.shape.tree_cache_bytes,
            ..Options::default()
        }
    }

    /// Makes an empty store where a peer's disk is empty.
    pub(crate) fn found(&mut self, peer: usize) {
        let options = self.store_options(peer);
        let engine = self.peers[peer].disk.engine();
        let store = Store::found_over(engine, self.definition.clone(), key(), &options).expect("an empty disk");
        self.opened(peer, store);
    }

    /// Takes over a store that was just opened: what it holds is what its disk holds.
    pub(crate) fn opened(&mut self, peer: usize, store: Store) {
        let rows = self.peers[peer].disk.rows();
        self.peers[peer].disk.changes();
        let (held, commits) = self.oracle.held(&rows, &self.peers[peer].held);
        let before = std::mem::take(&mut self.peers[peer].held);
        let elsewhere = |_, _| false;
        let at = &self.peers[peer];
        let (actor, forked) = (store.actor(), self.forked.contains(&store.actor()));
        let (latest, epoch, lineage) = (at.latest, at.epoch, &at.lineage);
        // Deletions that somebody may lack are written anew when collecting is finished.
        let who = Who { peer, actor, latest, epoch, forked, lineage, elsewhere: &elsewhere };
        self.oracle.know_all(&who, &held, &before);
        let horizon = store.horizon().stamp;
        // What was being collected when it died is finished by now.
        let collected = self.oracle.collected_between(&before, &held, horizon);
        let at = &mut self.peers[peer];
        at.lineage.extend(collected);
        at.horizon = horizon;
        at.held = held;
        at.commits = commits;
        at.commit = store.cut().commit;
        at.unsynced.clear();
        at.store = Some(store);
        self.look_at_history(peer);
        let commit = self.peers[peer].commit;
        self.event(&[1, peer as u64, commit, actor.0], || {
            format!("peer {peer} is open as {actor:?} at commit {commit}")
        });
    }

    /// The store of a peer, whose clock is set.
    pub(crate) fn store(&mut self, peer: usize) -> Store {
        self.wind(peer);
        self.peers[peer].store.clone().expect("every peer is open between events")
    }

    /// Sets the clock of a peer to its time.
    pub(crate) fn wind(&mut self, peer: usize) {
        let at = &mut self.peers[peer];
        let told = self.now.saturating_add_signed(at.skew);
        at.clock.store(told, Ordering::Relaxed);
        at.latest = at.latest.max(told);
    }

    /// What the wall clock of a peer tells.
    pub(crate) fn told(&self, peer: usize) -> u64 {
        self.peers[peer].clock.load(Ordering::Relaxed)
    }

    /// Drops the store of a peer whose process is gone.
    pub(crate) fn close(&mut self, peer: usize) {
        self.peers[peer].store = None;
    }

    /// Looks at what a peer's disk was told since the last look, and checks it. Gives the writes that are new.
    pub(crate) fn observe(&mut self, peer: usize, cause: Cause) -> (Vec<Step>, Vec<WriteId>) {
        if self.shape.histories && self.peers[peer].disk.died().is_none() {
            self.look_at_history(peer);
        }
        let at = &mut self.peers[peer];
        let changes = at.disk.changes();
        let cut = at.store.as_ref().map(Store::cut);
        let commit = cut.as_ref().map_or(0, |cut: &Cut| cut.commit);
        if changes.is_empty() && commit == at.commit {
            return Default::default();
        }
        assert!(commit >= at.commit, "the commit number of peer {peer} fell from {} to {commit}", at.commit);
        at.commit = commit;
        let actor = at.store.as_ref().map(Store::actor).expect("open");
        let latest = at.latest;
        let mut held = std::mem::take(&mut at.held);
        let elsewhere = |key, dot| {
            let has = |held: &Held| held.states.get(&key).is_some_and(|state| state.only(&[dot]).is_some());
            self.peers.iter().any(|peer| has(&peer.held))
        };
        let (epoch, forked) = (self.peers[peer].epoch, self.forked.contains(&actor));
        let lineage = &self.peers[peer].lineage;
        let who = Who { peer, actor, latest, epoch, forked, lineage, elsewhere: &elsewhere };
        let (steps, fresh) = self.oracle.observe(&who, cause, &mut held, &changes);
        if cause == Cause::Session {
            let told = self.told(peer);
            steps.iter().for_each(|step| step.is_near(actor, told));
        }
        let collected = std::mem::take(&mut self.oracle.collected);
        let at = &mut self.peers[peer];
        at.lineage.extend(collected);
        at.held = held;
        if cause != Cause::Local {
            at.derived.extend(fresh.iter().filter_map(|id| Some((self.oracle.written(*id, &steps)?, *id))));
        }
        for step in &steps {
            at.gave_up.extend(self.oracle.crowded_out(step).map(|id| (id, commit)));
            match &step.new {
                Some(_) => at.commits.insert(step.key, step.commit),
                None => at.commits.remove(&step.key),
            };
        }
        let prints: Vec<u64> = at.held.prints.iter().map(|print| *print as u64).collect();
        let told: Vec<String> =
            if self.loud { steps.iter().map(|step| self.oracle.told(step)).collect() } else { Vec::new() };
        self.event(&[2, peer as u64, commit], || format!("peer {peer} is at commit {commit}: {}", told.join(", ")));
        self.event(&prints, || format!("peer {peer} holds {prints:x?}"));
        (steps, fresh)
    }

    /// Promises all writes of a peer.
    pub(crate) fn acknowledge(&mut self, peer: usize) {
        self.peers[peer].derived.clear();
        for id in std::mem::take(&mut self.peers[peer].unsynced) {
            self.oracle.acknowledge(id);
        }
    }

    /// Whether frames travel between two peers.
    pub(crate) fn travels(&self, a: usize, b: usize) -> bool {
        self.islands[a] == self.islands[b]
    }

    /// Begins a session, unless a store lets none begin.
    pub(crate) fn begin(&mut self, a: usize, b: usize, options: SessionOptions) -> bool {
        let end = |world: &mut Self, peer: usize, other: usize, opener: bool| -> Result<End, StoreError> {
            let store = world.store(peer);
            let kind = if options.mirror.is_some() { RunKind::Mirror } else { RunKind::Repair };
            let header = RunHeader { kind, peer: format!("peer {other}"), opener, policy: String::new(), started: 0 };
            let writes = !opener || matches!(options.intent, Intent::Repair(_));
            let run = if writes { store.in_run(header)? } else { None };
            let at = &world.peers[peer];
            let side: Arc<dyn Side> = run.unwrap_or_else(|| Arc::new(store));
            Ok(End { peer, side, held: at.held.clone(), upheavals: at.upheavals, commit: at.commit })
        };
        let ends = end(self, a, b, true).and_then(|near| Ok((near, end(self, b, a, false)?)));
        // What was in quarantine may have left it.
        self.observe(a, Cause::Session);
        self.observe(b, Cause::Session);
        let (near, far) = match ends {
            Ok(ends) => ends,
            Err(error) => {
                match [a, b].into_iter().find(|peer| self.peers[*peer].disk.died().is_some()) {
                    Some(peer) => self.crash(peer, Where::Opener),
                    None => self.refused_run(&error),
                }
                return false;
            }
        };
        self.begun += 1;
        let number = self.begun;
        self.event(&[3, number, a as u64, b as u64], || format!("session {number} from {a} to {b}: {options:?}"));
        let clocks = (self.told(a), self.told(b));
        self.sessions.push(Session::new(number, near, far, options, &self.shape, self.now, clocks));
        true
    }

    /// A store lets no session write, for one of the reasons that it may have.
    pub(crate) fn refused_run(&mut self, error: &StoreError) {
        match error {
            StoreError::Paused { .. } => self.tally.note("session: paused after an undo"),
            StoreError::JournalFull { .. } => self.tally.note("session: the journal is full"),
            StoreError::Overtaken => self.tally.note("session: overtaken by collecting"),
            error => panic!("a session failed: {error}"),
        }
    }

    /// Does one thing of a session; tells whether there was one.
    pub(crate) fn step(&mut self, nth: usize) -> bool {
        let mut session = self.sessions.swap_remove(nth);
        let (a, b) = (session.halves[0].peer, session.halves[1].peer);
        self.wind(a);
        self.wind(b);
        let travels = self.travels(a, b);
        let did = session.step(&mut self.draw, self.now, travels);
        let worked = !matches!(did, Did::Nothing);
        self.lives.tell([a, b]);
        match did {
            Did::Nothing => {}
            Did::Worked(half, roots) => {
                self.observe_half(&mut session, half);
                if roots {
                    session.halves[half].at_cut = Some(self.peers[session.halves[half].peer].held.clone());
                }
            }
            Did::Failed(half, error) => {
                self.observe_half(&mut session, half);
                let peer = session.halves[half].peer;
                if self.peers[peer].disk.died().is_some() {
                    let doing = if half == 0 { Where::Opener } else { Where::Responder };
                    self.sessions.push(session);
                    self.crash(peer, doing);
                    return true;
                }
                self.refused_run(&error);
                self.event(&[5, session.number, half as u64], || format!("session {}: {error}", session.number));
                session.fail(half, &error);
            }
        }
        let number = session.number;
        self.close_runs(&mut session);
        self.event(&[4, number, u64::from(worked)], || format!("session {number} went on"));
        if session.is_over() && session.halves.iter().all(|half| half.closed) {
            self.judge(&session);
        } else {
            self.sessions.push(session);
        }
        let dead = (0..self.peers.len()).find(|peer| self.peers[*peer].disk.died().is_some());
        if let Some(peer) = dead {
            self.crash(peer, Where::Ending);
        }
        self.tell_lives_apart();
        worked
    }

    /// Checks what an end of a session changed, and remembers it for its run.
    fn observe_half(&mut self, session: &mut Session, half: usize) {
        let peer = session.halves[half].peer;
        let (mut steps, fresh) = self.observe(peer, Cause::Session);
        if self.raised_with(peer, session.halves[1 - half].peer) {
            // What is collected is no part of a run, and a deletion that is written anew for it prefers no side.
            return;
        }
        self.preferred_rightly(session, half, &steps, &fresh);
        let own = self.peers[peer].store.as_ref().map_or(Actor(0), Store::actor);
        let watermark = self.peers[peer].store.as_ref().map_or(0, |store| store.cut().watermark);
        let horizon = self.peers[peer].horizon;
        steps.retain(|step| !step.renames(own));
        let all = steps.len();
        steps.retain(|step| !step.expires(watermark) && !step.expires_and_goes(watermark, horizon));
        self.tally.add("expired", (all - steps.len()) as u64);
        if steps.is_empty() {
            return;
        }
        let end = &mut session.halves[half];
        if end.run.is_none() && self.peers[peer].disk.died().is_none() {
            end.run = self.newest_run(peer);
        }
        if let Some(run) = end.run {
            self.peers[peer].runs.entry(run).or_default().extend(steps);
        }
    }

    /// The run that was begun last, of those that no ordinary write makes.
    pub(crate) fn newest_run(&self, peer: usize) -> Option<RunId> {
        let runs = self.peers[peer].store.as_ref()?.runs();
        runs.iter().rev().find(|(_, run)| !is_history(run)).map(|(id, _)| *id)
    }

    /// Notes that a peer collects as far as another, where a session had it do so; says whether one had.
    fn raised_with(&mut self, peer: usize, other: usize) -> bool {
        let at = &self.peers[peer];
        let horizon = at.store.as_ref().map_or(at.horizon, |store| store.horizon().stamp);
        let raised = horizon > at.horizon;
        if raised {
            let lineage: Lineage = self.oracle.up_to(&self.peers[other].lineage, horizon).collect();
            self.peers[peer].horizon = horizon;
            self.peers[peer].lineage.extend(lineage);
        }
        raised
    }

    /// Ends the runs of whoever has ended.
    fn close_runs(&mut self, session: &mut Session) {
        for half in &mut session.halves {
            let Some(verdict) = half.over.clone().filter(|_| !half.closed) else { continue };
            half.closed = true;
            let ended = half.side.end_run(&verdict);
            self.look_at_history(half.peer);
            let died = self.peers[half.peer].disk.died().is_some();
            assert!(ended.is_ok() || died, "a run does not end: {:?}", ended.err());
        }
    }
}
