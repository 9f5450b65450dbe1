//! Writing: many threads hand in what they want written, one of them commits it for all, each waits for its own.
//! What a commit holds, and how it is laid over records and trees, is the concern of [`super::write`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use reknit_core::{Actor, Sibling, Stamp, State};

use super::sketches::{Asked, fold_due};
use super::write::{Done, Write};
use super::{Inner, StoreError};
use crate::store::Durability;
use crate::store::engine::{Engine, EngineError};

/// Records that one commit may hold, save when one caller hands in more; bounds the wait of the others.
const GROUP_WRITES_MAX: usize = 20_000;
/// Groups of clients that go before a session that waits.
const PASSED_MAX: usize = 8;
/// How long a leader waits for writers that were in the last group to hand in again, at most.
const GATHER_MAX: Duration = Duration::from_micros(300);

/// Commits that a crash would take. What a peer is given must not be among them, since stamps would be given out again; nor
/// the commit number that it is told, since the store would seem to be another life.
#[derive(Default)]
pub(super) struct Owed {
    /// The newest commit that was not synced when it was made.
    newest: AtomicU64,
    /// The newest of them with a version of this store's own.
    own: AtomicU64,
    /// Everything up to this commit is synced.
    synced: AtomicU64,
    met: Mutex<Met>,
}

/// Stores that were met: what one gave is not given on before it is on record that it was met.
#[derive(Default)]
struct Met {
    /// How many so far.
    count: u64,
    /// The first commit after the first of them that is not synced.
    since: Option<u64>,
}

impl Owed {
    /// Notes a commit that is about to be made, of these states, by an actor that has given its last stamp so far.
    pub(super) fn owe<'s>(&self, commit: u64, mut states: impl Iterator<Item = &'s State>, last: (Actor, Stamp)) {
        let own = |sibling: &Sibling| sibling.version.actor == last.0 && sibling.version.stamp > last.1;
        if states.any(|state| state.versions().iter().any(own)) {
            self.own.fetch_max(commit, Ordering::SeqCst);
        }
        self.newest.fetch_max(commit, Ordering::SeqCst);
    }

    /// Syncs what of this store's own is owed, if anything is.
    pub(super) fn settle(&self, engine: &dyn Engine) -> Result<(), EngineError> {
        self.settle_to(self.own.load(Ordering::SeqCst), engine)
    }

    /// Syncs all that is owed, if anything is.
    pub(super) fn settle_all(&self, engine: &dyn Engine) -> Result<(), EngineError> {
        self.settle_to(self.newest.load(Ordering::SeqCst), engine)
    }

    fn settle_to(&self, newest: u64, engine: &dyn Engine) -> Result<(), EngineError> {
        let since = self.meetings().since.is_some_and(|since| since <= self.newest.load(Ordering::SeqCst));
        if since || self.synced.load(Ordering::SeqCst) < newest { self.sync(engine) } else { Ok(()) }
    }

    fn meetings(&self) -> MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a meeting that was put on record before this commit, and not synced.
    pub(super) fn met(&self, before: u64) {
        let mut met = self.meetings();
        met.count += 1;
        met.since.get_or_insert(before);
    }

    /// Syncs whatever there is.
    pub(super) fn sync(&self, engine: &dyn Engine) -> Result<(), EngineError> {
        let (newest, count) = (self.newest.load(Ordering::SeqCst), self.meetings().count);
        engine.sync()?;
        self.settled(newest);
        let mut met = self.meetings();
        met.since = met.since.filter(|_| met.count > count);
        Ok(())
    }

    /// Notes that everything up to a commit is synced.
    pub(super) fn settled(&self, commit: u64) {
        self.synced.fetch_max(commit, Ordering::SeqCst);
    }
}

/// What one caller wants written.
struct Request {
    writes: Vec<Write>,
    durability: Durability,
    /// A session asks, not a client of the store.
    session: bool,
    caller: Arc<Caller>,
}

/// A caller that waits. It sleeps on its own, so that waking one wakes no other.
struct Caller {
    thread: Thread,
    answer: Mutex<Option<Result<Done, StoreError>>>,
    /// It was given the lead.
    leads: AtomicBool,
}

impl Caller {
    fn tell(&self, answer: Result<Done, StoreError>) {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(answer);
    }

    fn answer(&self) -> Option<Result<Done, StoreError>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Request>,
    /// Someone has the lead, or was given it.
    led: bool,
    /// Callers that took part lately: as many are worth a short wait.
    lately: usize,
    /// Groups that were committed before a session that waits.
    passed: usize,
    /// The leader that waits for so many callers.
    gathering: Option<(Thread, usize)>,
}

/// The callers of one store.
#[derive(Default)]
pub(super) struct Group {
    queue: Mutex<Queue>,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits shortly for those who were in the last group: they are on their way, and share this commit's sync.
    fn gather(&self) -> Vec<Request> {
        let mut queue = self.lock();
        let wanted = queue.lately;
        let deadline = Instant::now() + GATHER_MAX;
        while queue.waiting.len() < wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue.gathering = Some((std::thread::current(), wanted));
            drop(queue);
            std::thread::park_timeout(left);
            queue = self.lock();
        }
        queue.gathering = None;
        queue.clients_first();
        let (mut requests, mut writes) = (Vec::new(), 0);
        while let Some(request) = queue.waiting.front() {
            writes += request.writes.len();
            let apart = requests.first().is_some_and(|first: &Request| first.session != request.session);
            if apart || writes > GROUP_WRITES_MAX && !requests.is_empty() {
                break;
            }
            requests.extend(queue.waiting.pop_front());
        }
        queue.lately = requests.len();
        requests
    }
}

impl Queue {
    /// Clients go before sessions, save now and then, and each for themselves: a client waits for no session's records.
    fn clients_first(&mut self) {
        let sessions = self.waiting.iter().filter(|request| request.session).count();
        if sessions == 0 || sessions == self.waiting.len() {
            self.passed = 0;
            return;
        }
        let first = self.passed >= PASSED_MAX;
        self.passed = if first { 0 } else { self.passed + 1 };
        self.waiting.make_contiguous().sort_by_key(|request| request.session != first);
    }
}

/// Hands in `writes` and waits until they are committed, and synced if so asked; then sees to what is due of the sketches.
pub(super) fn submit(store: &Inner, writes: Vec<Write>, durability: Durability) -> Result<Done, StoreError> {
    let done = hand_in(store, writes, durability);
    fold_due(store, Asked::Any);
    done
}

/// Hands in `writes` and waits until they are committed, and synced if so asked.
pub(super) fn hand_in(store: &Inner, writes: Vec<Write>, durability: Durability) -> Result<Done, StoreError> {
    let session = writes.first().is_some_and(Write::is_of_a_session);
    let caller =
        Arc::new(Caller { thread: std::thread::current(), answer: Mutex::new(None), leads: AtomicBool::new(false) });
    {
        let mut queue = store.group.lock();
        queue.waiting.push_back(Request { writes, durability, session, caller: Arc::clone(&caller) });
        if !queue.led {
            queue.led = true;
            caller.leads.store(true, Ordering::Release);
        } else if queue.gathering.as_ref().is_some_and(|(_, wanted)| queue.waiting.len() >= *wanted)
            && let Some((leader, _)) = queue.gathering.take()
        {
            leader.unpark();
        }
    }
    loop {
        if let Some(answer) = caller.answer() {
            return answer;
        }
        if caller.leads.swap(false, Ordering::Acquire) {
            // Whoever leads waits too, at the front, so the group that it commits holds its own writes.
            let mut lead = Lead { group: &store.group, requests: store.group.gather() };
            lead.commit(store);
        } else {
            std::thread::park();
        }
    }
}

/// The lead of a group. Letting it go, even by a panic, answers everyone and hands the lead on.
struct Lead<'g> {
    group: &'g Group,
    requests: Vec<Request>,
}

impl Lead<'_> {
    fn commit(&mut self, store: &Inner) {
        let synced = self.requests.iter().any(|request| request.durability == Durability::Synced);
        let durability = if synced { Durability::Synced } else { Durability::Buffered };
        let writes = self.requests.iter_mut().map(|request| std::mem::take(&mut request.writes)).collect();
        match super::write::commit(store, writes, durability) {
            Ok(done) => self.requests.iter().zip(done).for_each(|(request, done)| request.caller.tell(Ok(done))),
            Err(error) => self.requests.iter().for_each(|request| request.caller.tell(Err(error.clone()))),
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut queue = self.group.lock();
        // Those who came meanwhile will be joined by those who are served now.
        queue.lately += queue.waiting.len();
        let next = queue.waiting.front().map(|request| Arc::clone(&request.caller));
        queue.led = next.is_some();
        drop(queue);
        for request in self.requests.drain(..) {
            // Kept only where a panic left a caller without its answer.
            if std::thread::panicking() {
                request.caller.tell(Err(StoreError::Abandoned));
            }
            request.caller.thread.unpark();
        }
        if let Some(next) = next {
            next.leads.store(true, Ordering::Release);
            next.thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_go_before_sessions_save_now_and_then_and_each_for_themselves() {
        let request = |session| Request {
            writes: Vec::new(),
            durability: Durability::Buffered,
            session,
            caller: Arc::new(Caller {
                thread: std::thread::current(),
                answer: Mutex::new(None),
                leads: AtomicBool::new(false),
            }),
        };
        let group = Group::default();
        let mut groups = Vec::new();
        group.lock().waiting.extend([request(true), request(true)]);
        for _ in 0..=PASSED_MAX {
            group.lock().waiting.extend([request(false), request(false)]);
            groups.push(group.gather().iter().map(|request| request.session).collect::<Vec<_>>());
        }
        let (last, before) = groups.split_last().expect("groups");
        assert!(before.iter().all(|group| *group == [false, false]), "{groups:?}");
        assert_eq!(*last, [true, true], "sessions have waited long enough");
        assert_eq!(group.gather().len(), 2, "nobody is forgotten");
    }
}
