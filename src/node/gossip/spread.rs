//! Fresh writes of one store: told to peers as they are made, taken in as they come. Runs on a thread of its own, since stores
//! block; what it may not do, or is too large, is left to sessions.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use reknit_core::bounds::FRAME_BYTES_AIM;
use reknit_core::gossip::{Counts, Limits, Rumour, Rumours, Send, Speaker, Word};
use reknit_core::message::Rights;
use reknit_core::query::{Guard, Incoming, Item, Selection};
use reknit_core::range::places;
use reknit_core::session::Grant;
use reknit_core::{CollectionId, DatasetId, Definition, Position, Record, Stamp, Version};

use super::acquainted::{Acquainted, Speaks};
use super::inbox::{Inbox, Post};
use super::links::Links;
use super::withheld::replaces;
use super::{Apart, Shared};
use crate::clock::ticks;
use crate::node::brakes::{NodeBrakes, Window, Windows};
use crate::node::{Home, NodeError};
use crate::store::{Durability, Event, Origin, Side, Store, StoreError, Watcher};
use crate::transport::PeerId;

/// How long writes are gathered before they are told.
const GATHER: Duration = Duration::from_millis(20);
/// How long it is known what a peer may.
const GRANTS_KNOWN: Duration = Duration::from_secs(1);
/// How often it is looked whether the store is still followed.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes of a record that is told; larger ones are left to sessions.
const RECORD_BYTES_MAX: usize = FRAME_BYTES_AIM;
/// Records that are looked up at once.
const TOGETHER: usize = 512;

/// What a store's thread is told.
pub(crate) enum Input {
    /// A peer is up there.
    Up(PeerId, SocketAddr),
    /// A peer is down.
    Down(PeerId),
    /// Rights were given or taken away.
    Rights,
    /// A peer said something.
    Word(PeerId, Word),
    /// The store was written.
    Wrote(Vec<Event>),
    /// What became of rumours is asked for.
    Counts(Sender<(Counts, usize)>),
}

/// What a peer may, and its newest key.
type Known = (Grant, PeerId);

/// The rumours of one store.
pub(super) struct Spread {
    store: Store,
    side: Arc<dyn Side>,
    home: Home,
    links: Links,
    acquainted: Acquainted,
    shared: Arc<Shared>,
    brakes: NodeBrakes,
    windows: Arc<Windows>,
    runtime: tokio::runtime::Handle,
    up: HashMap<PeerId, SocketAddr>,
    rumours: Rumours<PeerId>,
    known: RefCell<HashMap<PeerId, (Instant, Known)>>,
}

/// Tells the thread of a store what is written there, as a watcher of it sees it, until it is stopped.
pub(super) fn follow(id: DatasetId, mut watcher: Watcher, to: &Post<Input>, (shared, stopped): (&Shared, &AtomicBool)) {
    while !stopped.load(Ordering::Relaxed) {
        let mut events = Vec::new();
        // Whoever loads so much that it is not followed any more loads for sessions.
        if let Ok(Some(event)) = watcher.next(LOOK) {
            events.push(event);
            while let Ok(Some(event)) = watcher.next(Duration::ZERO) {
                events.push(event);
                if events.len() == TOGETHER {
                    break;
                }
            }
        }
        // What sessions bring is of interest only where it may have been withheld.
        let withholds = shared.withheld().get(&id).is_some_and(|withheld| !withheld.is_empty());
        events.retain(|event| withholds || event.origin == Origin::Local);
        while to.is_behind() && !stopped.load(Ordering::Relaxed) {
            std::thread::sleep(GATHER);
        }
        if !events.is_empty() && !to.send(Input::Wrote(events)) {
            return;
        }
    }
}

impl Spread {
    pub(super) fn new(
        store: Store,
        (home, _, windows): (Home, NodeBrakes, Arc<Windows>),
        links: Links,
        (shared, brakes, seed): (Arc<Shared>, NodeBrakes, u64),
    ) -> Spread {
        let side: Arc<dyn Side> = Arc::new(store.clone());
        let (runtime, rumours) = (tokio::runtime::Handle::current(), Rumours::new(Limits::default(), seed));
        Spread {
            acquainted: Acquainted::new(store.clone()),
            shared,
            store,
            side,
            home,
            links,
            brakes,
            windows,
            runtime,
            up: HashMap::new(),
            rumours,
            known: RefCell::default(),
        }
    }

    /// Hears and tells until nobody is left who could say something.
    pub(super) fn run(mut self, inputs: &Inbox<Input>) {
        // Links are made from here.
        let runtime = self.runtime.clone();
        let _within = runtime.enter();
        let mut told = Instant::now();
        loop {
            let wait = match self.rumours.is_idle() {
                false => GATHER.saturating_sub(told.elapsed()),
                true => match self.rumours.wakes() {
                    Some(at) => Duration::from_millis(at.saturating_sub(ticks())).max(GATHER),
                    None => Duration::from_secs(3600),
                },
            };
            let wait = self.acquainted.wakes_in().map_or(wait, |wakes| wait.min(wakes.max(GATHER)));
            match inputs.recv_timeout(wait) {
                Ok(input) => {
                    if let Err(error) = self.heard(input) {
                        tracing::warn!(dataset = self.store.definition().name, %error, "what was gossiped is left to sessions");
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.rumours.pass(ticks());
            for (peer, let_go) in self.acquainted.in_vain() {
                self.rumours.leave(let_go);
                self.part(peer, Apart::Life);
            }
            if told.elapsed() >= GATHER {
                told = Instant::now();
                if let Err(error) = self.tell() {
                    tracing::warn!(dataset = self.store.definition().name, %error, "what was to be told is left to sessions");
                }
            }
        }
    }

    fn heard(&mut self, input: Input) -> Result<(), NodeError> {
        match input {
            Input::Up(peer, at) => {
                self.up.insert(peer, at);
                self.told_or_not(peer)?;
            }
            Input::Rights => {
                self.known.borrow_mut().clear();
                let up: Vec<PeerId> = self.up.keys().copied().collect();
                up.into_iter().try_for_each(|peer| self.told_or_not(peer))?;
            }
            Input::Down(peer) => {
                self.up.remove(&peer);
                self.rumours.down(peer);
                let let_go = self.acquainted.forget(peer);
                self.rumours.leave(let_go);
            }
            Input::Word(from, word) => self.word(from, word)?,
            Input::Wrote(events) => self.wrote(&events)?,
            Input::Counts(to) => drop(to.send((self.rumours.counts(), self.rumours.waiting().0.values().sum()))),
        }
        Ok(())
    }

    /// A peer says something: first of all, who it is.
    fn word(&mut self, from: PeerId, word: Word) -> Result<(), NodeError> {
        let moves = self.may(from)?.anywhere().0 & Rights::READ.and(Rights::WRITE).0 != 0;
        let Some(speaker) = word.speaker().copied().filter(|_| moves) else { return Ok(()) };
        match word {
            Word::Doubt(_, met) => {
                if !self.acquainted.knows(met)? {
                    self.part(from, Apart::OwnLife);
                    return Ok(());
                }
                let me = self.acquainted.me_giving()?;
                self.say(from, &Word::Recall(me, met));
            }
            Word::Recall(_, by) => {
                for word in self.acquainted.recalls(from, &speaker, by)? {
                    self.known_says(from, word)?;
                }
            }
            word => match self.acquainted.hears(from, &speaker)? {
                Speaks::Known => self.known_says(from, word)?,
                Speaks::Apart(apart) => {
                    self.rumours.leave(word.count());
                    self.part(from, apart);
                }
                Speaks::Doubtful(last) => {
                    let (asks, let_go) = self.acquainted.wait(from, word);
                    self.rumours.leave(let_go);
                    if asks {
                        let me = self.acquainted.me()?;
                        self.say(from, &Word::Doubt(me, last));
                    }
                }
            },
        }
        Ok(())
    }

    /// Nothing is gossiped with a peer's store before a session has sorted out why.
    fn part(&self, peer: PeerId, apart: Apart) {
        let definition = self.definition();
        if self.shared.part(definition.id, peer, apart) {
            tracing::warn!(peer = %peer.short(), dataset = definition.name, "nothing is gossiped with it before a session: {}", apart.reason());
        }
    }

    /// One who is known says something: what kept both apart is past.
    fn known_says(&mut self, from: PeerId, word: Word) -> Result<(), NodeError> {
        let mut all = self.shared.apart();
        let key = (self.definition().id, from);
        // Who tells something may be in doubt of this store; who asks this opening of it for something, or gives it that, is not.
        let mine = matches!(word, Word::Want(..))
            || matches!(word, Word::Records(_, to, ..) if to == self.side.describe().nonce);
        if all.get(&key).is_some_and(|apart| *apart != Apart::OwnLife || mine) {
            all.remove(&key);
        }
        drop(all);
        self.take(from, word)
    }

    /// Who may read is told what is written, and who may write asked for it.
    fn told_or_not(&mut self, peer: PeerId) -> Result<(), NodeError> {
        let may = self.may(peer)?.anywhere();
        match (may.allow(Rights::READ), may.allow(Rights::WRITE)) {
            (true, _) => self.rumours.up(peer, ticks()),
            (false, true) => self.rumours.up_unread(peer, ticks()),
            (false, false) => self.rumours.down(peer),
        }
        Ok(())
    }

    fn say(&self, to: PeerId, word: &Word) {
        if let Some(at) = self.up.get(&to) {
            self.links.say(to, *at, word);
        }
    }

    /// Takes up what a peer said who is known.
    fn take(&mut self, from: PeerId, word: Word) -> Result<(), NodeError> {
        match word {
            Word::Tell(_, told) => self.told(from, told)?,
            Word::Want(_, wanted) => {
                let wanted = self.among(from, wanted, Rights::READ)?;
                self.rumours.wanted(from, &wanted);
            }
            // Meant for another opening of this store, it may have seen what this one lost. Whoever is asked for it hears which
            // one this is, though nothing else may be said here for long.
            Word::Records(_, to, collection, records) if to != self.side.describe().nonce => {
                self.told(from, self.rumours_of(collection, &records))?;
            }
            Word::Records(speaker, _, collection, records) => {
                self.given(from, speaker.horizon, collection, records)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Asks for what a peer has and this store has not.
    fn told(&mut self, from: PeerId, told: Vec<Rumour>) -> Result<(), NodeError> {
        let told = self.among(from, told, Rights::WRITE)?;
        for some in told.chunks(TOGETHER) {
            let held = self.held(some)?;
            let heard: Vec<(Rumour, bool)> = some.iter().map(|one| (*one, held.contains(one))).collect();
            self.rumours.told(from, &heard, ticks());
        }
        Ok(())
    }

    fn rumours_of(&self, collection: CollectionId, records: &[Record]) -> Vec<Rumour> {
        let info = self.side.describe();
        let Some(of) = info.definition.collections.get(usize::from(collection.0)) else { return Vec::new() };
        let rumour = |record: &Record| {
            let entry = info.keys.entry(info.definition.profile, &of.name, record)?.short();
            Some(Rumour { collection, position: info.keys.position(&of.name, &record.key), entry })
        };
        records.iter().filter_map(rumour).collect()
    }

    fn definition(&self) -> Arc<Definition> {
        self.side.describe().definition
    }

    /// What a peer may, as of a second ago at most: the file of grants is not read for each word.
    fn may(&self, peer: PeerId) -> Result<Grant, NodeError> {
        Ok(self.known(peer)?.0)
    }

    /// The same, with the newest key of the peer.
    fn known(&self, peer: PeerId) -> Result<Known, NodeError> {
        let mut known = self.known.borrow_mut();
        if let Some((_, known)) = known.get(&peer).filter(|(since, _)| since.elapsed() < GRANTS_KNOWN) {
            return Ok(known.clone());
        }
        let grant = self.home.grants(peer)?.unwrap_or_default().on(&self.definition());
        let is = (grant, PeerId(self.home.lines()?.newest(peer.0)));
        known.insert(peer, (Instant::now(), is.clone()));
        Ok(is)
    }

    /// Those of collections on which a peer may that; members are for sessions alone (M22).
    fn among(&self, peer: PeerId, mut rumours: Vec<Rumour>, right: Rights) -> Result<Vec<Rumour>, NodeError> {
        let (grant, definition) = (self.may(peer)?, self.definition());
        rumours.retain(|rumour| definition.is_data(rumour.collection) && grant.on(rumour.collection).allow(right));
        Ok(rumours)
    }

    /// What is here at the positions of rumours.
    fn items(
        &self,
        rumours: impl IntoIterator<Item = (CollectionId, Position)>,
    ) -> Result<Vec<(CollectionId, Item)>, StoreError> {
        let mut at: BTreeMap<CollectionId, BTreeSet<Position>> = BTreeMap::new();
        for (collection, position) in rumours {
            at.entry(collection).or_default().insert(position);
        }
        let mut all = Vec::new();
        for (collection, positions) in at {
            let positions: Vec<Position> = positions.into_iter().collect();
            let items = self.side.items(collection, &places(&positions))?;
            all.extend(items.into_iter().map(|item| (collection, item)));
        }
        Ok(all)
    }

    fn entries(
        &self,
        rumours: impl IntoIterator<Item = (CollectionId, Position)>,
    ) -> Result<BTreeSet<Rumour>, StoreError> {
        Ok(self.items(rumours)?.iter().filter_map(|(collection, item)| rumour(*collection, item)).collect())
    }

    fn held(&self, rumours: &[Rumour]) -> Result<BTreeSet<Rumour>, StoreError> {
        self.entries(rumours.iter().map(|rumour| (rumour.collection, rumour.position)))
    }

    fn position(&self, collection: CollectionId, key: &[u8]) -> Position {
        let info = self.side.describe();
        info.keys.position(&info.definition.collections[usize::from(collection.0)].name, key)
    }

    fn wrote(&mut self, events: &[Event]) -> Result<(), NodeError> {
        let definition = self.definition();
        let events = events.iter().filter(|event| definition.is_data(event.collection));
        let at = |event: &Event| (event.collection, self.position(event.collection, &event.key));
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for event in events {
            if event.origin == Origin::Local { &mut own } else { &mut others }.push(at(event));
        }
        let horizon = self.store.horizon().stamp;
        if let Some(withheld) = self.shared.withheld().get_mut(&self.definition().id) {
            own.iter().chain(&others).for_each(|at| withheld.written(*at));
        }
        for (collection, item) in self.items(own)? {
            // What a session brought that is older is not told: nobody would take it.
            let fresh = is_newer(item.versions.iter().map(|one| &one.version), horizon);
            match rumour(collection, &item) {
                Some(rumour) if fresh => self.rumours.wrote(rumour, ticks()),
                _ => self.rumours.leave(1),
            }
        }
        Ok(())
    }

    /// Takes records in, as far as the peer may write and lose them (M22).
    fn given(
        &mut self,
        from: PeerId,
        horizon: Stamp,
        collection: CollectionId,
        mut records: Vec<Record>,
    ) -> Result<(), NodeError> {
        if !self.definition().is_data(collection) || !self.may(from)?.on(collection).allow(Rights::WRITE) {
            tracing::debug!(peer = %from.short(), "it may not write what it gives");
            return Ok(());
        }
        if self.store.paused().is_some() {
            self.rumours.leave(records.len() as u64);
            return Ok(());
        }
        // What is not newer than the horizon was everywhere once: it may be here no more because it was deleted (M20).
        let came = records.len();
        records.retain(|record| is_newer(record.state.versions().iter().map(|one| &one.version), horizon));
        self.rumours.leave((came - records.len()) as u64);
        let (within, info) = (self.brakes.window, self.side.describe());
        let one = Window::of_peer(within, &self.windows, &info, self.known(from)?.1);
        let windows = [Window::of_pushes(within, &self.windows, &info), one];
        while !records.is_empty() {
            let some: Vec<Record> = records.drain(..records.len().min(TOGETHER)).collect();
            let at: Vec<_> = some.iter().map(|record| (collection, self.position(collection, &record.key))).collect();
            let there = self.items(at.iter().copied())?;
            let all = self.side.cut()?.roots.iter().map(|root| root.count).sum();
            let room = |window: &Window| window.lost(Instant::now()).room(&self.brakes.brakes, all);
            let room = windows.iter().map(room).min().unwrap_or(0);
            let some = self.braked(from, collection, some, &there, room);
            let batch = some.into_iter().map(|record| Incoming { record, guard: Guard::Join }).collect();
            let run = self.store.pushed_by(&from.to_string(), horizon)?;
            let applied = run.apply(collection, batch, Durability::Buffered)?;
            windows.iter().for_each(|window| window.note(applied.losses, Instant::now()));
            let before: BTreeSet<Rumour> = there.iter().filter_map(|(of, item)| rumour(*of, item)).collect();
            for rumour in self.entries(at)? {
                let fresh = !before.contains(&rumour);
                // A session may have brought it since it was looked up: whoever follows the store did not tell of it yet.
                if fresh && let Some(withheld) = self.shared.withheld().get_mut(&self.definition().id) {
                    withheld.written((collection, rumour.position));
                }
                self.rumours.given(from, rumour, fresh, ticks());
            }
        }
        Ok(())
    }

    /// Those that may be taken in: of records that would take the place of others, at worst all, so many. The rest is withheld,
    /// named, and left to sessions.
    fn braked(
        &mut self,
        from: PeerId,
        collection: CollectionId,
        some: Vec<Record>,
        there: &[(CollectionId, Item)],
        room: u64,
    ) -> Vec<Record> {
        let there: HashMap<&[u8], &Item> = there.iter().map(|(_, item)| (item.key.as_slice(), item)).collect();
        let mut left = room;
        let (taken, withheld): (Vec<Record>, Vec<Record>) = some.into_iter().partition(|record| {
            let replaces = there.get(record.key.as_slice()).is_some_and(|here| replaces(record, here));
            let taken = !replaces || left > 0;
            left -= u64::from(replaces && taken);
            taken
        });
        if withheld.is_empty() {
            return taken;
        }
        self.rumours.leave(withheld.len() as u64);
        let definition = self.definition();
        let mut all = self.shared.withheld();
        let here = all.entry(definition.id).or_default();
        for record in &withheld {
            let at = (collection, self.position(collection, &record.key));
            if here.add(at, &record.key, Instant::now()) {
                tracing::warn!(peer = %from.short(), dataset = definition.name, "more would be lost by what is pushed than may be in a while; it is withheld, and left to sessions");
            }
        }
        taken
    }

    fn tell(&mut self) -> Result<(), NodeError> {
        let (sends, paused) = (self.rumours.send(), self.store.paused().is_some());
        if sends.is_empty() {
            return Ok(());
        }
        let me = self.acquainted.me()?;
        for (to, send) in sends {
            // What was undone here is not told while repairs are paused.
            if paused {
                continue;
            }
            let Some(at) = self.up.get(&to).copied() else { continue };
            match send {
                Send::Tell(told) => {
                    let told = self.among(to, told, Rights::READ)?;
                    if !told.is_empty() {
                        self.links.say(to, at, &Word::Tell(me, told));
                    }
                }
                Send::Want(wanted) => self.links.say(to, at, &Word::Want(me, wanted)),
                Send::Give(given) => {
                    let given = self.among(to, given, Rights::READ)?;
                    match self.acquainted.opening_of(to)? {
                        Some(nonce) => {
                            let me = self.acquainted.me_giving()?;
                            self.give((to, at), (me, nonce), &given)?;
                        }
                        None if given.is_empty() => {}
                        // It says who it is when it asks for them.
                        None => self.links.say(to, at, &Word::Tell(me, given)),
                    }
                }
            }
        }
        Ok(())
    }

    fn give(
        &self,
        (to, at): (PeerId, SocketAddr),
        (me, nonce): (Speaker, u64),
        given: &[Rumour],
    ) -> Result<(), StoreError> {
        let mut of: BTreeMap<CollectionId, BTreeSet<Position>> = BTreeMap::new();
        for rumour in given {
            of.entry(rumour.collection).or_default().insert(rumour.position);
        }
        for (collection, positions) in of {
            let (mut frame, mut bytes) = (Vec::new(), 0);
            for place in positions.iter().flat_map(|position| places(&[*position])) {
                let page = self.side.read(collection, &Selection::Range(place), None, RECORD_BYTES_MAX)?;
                for record in page.records {
                    let size = size(&record);
                    if size > RECORD_BYTES_MAX {
                        continue;
                    }
                    if bytes + size > FRAME_BYTES_AIM {
                        self.links.say(to, at, &Word::Records(me, nonce, collection, std::mem::take(&mut frame)));
                        bytes = 0;
                    }
                    bytes += size;
                    frame.push(record);
                }
            }
            if !frame.is_empty() {
                self.links.say(to, at, &Word::Records(me, nonce, collection, frame));
            }
        }
        Ok(())
    }
}

fn rumour(collection: CollectionId, item: &Item) -> Option<Rumour> {
    item.digest.map(|digest| Rumour { collection, position: item.position, entry: digest.short() })
}

/// Whether all versions were written after a horizon; always where nothing was ever collected.
fn is_newer<'a>(mut versions: impl Iterator<Item = &'a Version>, horizon: Stamp) -> bool {
    horizon == Stamp::default() || versions.all(|version| version.stamp > horizon)
}

fn size(record: &Record) -> usize {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes.len()
}
