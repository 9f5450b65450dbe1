//! Writing: many threads hand in what they want written, one of them commits it for all, each waits for its own.
//! Records, entries, nodes, counts, commit number and clock change in one commit of the engine.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::write::{Done, Write};
use super::{Inner, StoreError};
use crate::store::Durability;

/// Records that one commit may hold, save when one caller hands in more; bounds the wait of the others.
const GROUP_WRITES_MAX: usize = 20_000;
/// How long a leader waits for writers that were in the last group to hand in again, at most.
const GATHER_MAX: Duration = Duration::from_micros(300);

/// What one caller wants written.
struct Request {
    writes: Vec<Write>,
    durability: Durability,
    slot: Arc<Mutex<Option<Result<Done, StoreError>>>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Request>,
    led: bool,
    /// Callers that took part lately: as many are worth a short wait.
    lately: usize,
}

/// The callers of one store.
#[derive(Default)]
pub(super) struct Group {
    queue: Mutex<Queue>,
    /// A commit ended: results are there, and the lead is free.
    turn: Condvar,
    /// A request came in.
    arrived: Condvar,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands in `writes` and waits until they are committed, and synced if so asked.
pub(super) fn submit(store: &Inner, writes: Vec<Write>, durability: Durability) -> Result<Done, StoreError> {
    let group = &store.group;
    let slot = Arc::new(Mutex::new(None));
    let mut queue = group.lock();
    queue.waiting.push_back(Request { writes, durability, slot: Arc::clone(&slot) });
    group.arrived.notify_one();
    loop {
        if let Some(result) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return result;
        }
        if queue.led {
            queue = group.turn.wait(queue).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        queue.led = true;
        queue = gather(group, queue);
        let requests = next_group(&mut queue);
        drop(queue);
        let mut lead = Lead { group, requests };
        lead.commit(store);
        drop(lead);
        queue = group.lock();
    }
}

/// Waits shortly for those who were in the last group: they are on their way, and share this commit's sync.
fn gather<'g>(group: &'g Group, mut queue: MutexGuard<'g, Queue>) -> MutexGuard<'g, Queue> {
    if queue.lately <= 1 {
        return queue;
    }
    let deadline = Instant::now() + GATHER_MAX;
    while queue.waiting.len() < queue.lately {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        queue = group.arrived.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    queue
}

fn next_group(queue: &mut Queue) -> Vec<Request> {
    let (mut requests, mut writes) = (Vec::new(), 0);
    while let Some(request) = queue.waiting.front() {
        writes += request.writes.len();
        if writes > GROUP_WRITES_MAX && !requests.is_empty() {
            break;
        }
        requests.extend(queue.waiting.pop_front());
    }
    queue.lately = requests.len();
    requests
}

/// The lead of a group. Letting it go, even by a panic, answers everyone and frees the lead.
struct Lead<'g> {
    group: &'g Group,
    requests: Vec<Request>,
}

impl Lead<'_> {
    fn commit(&mut self, store: &Inner) {
        let synced = self.requests.iter().any(|request| request.durability == Durability::Synced);
        let durability = if synced { Durability::Synced } else { Durability::Buffered };
        let writes = self.requests.iter_mut().map(|request| std::mem::take(&mut request.writes)).collect();
        let result = super::write::commit(store, writes, durability);
        let answers: Vec<Result<Done, StoreError>> = match result {
            Ok(done) => done.into_iter().map(Ok).collect(),
            Err(error) => self.requests.iter().map(|_| Err(error.clone())).collect(),
        };
        for (request, answer) in self.requests.iter().zip(answers) {
            *request.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for request in &self.requests {
                let mut slot = request.slot.lock().unwrap_or_else(PoisonError::into_inner);
                slot.get_or_insert(Err(StoreError::Abandoned));
            }
        }
        let mut queue = self.group.lock();
        // Those who came meanwhile will be joined by those who were served.
        queue.lately += queue.waiting.len();
        queue.led = false;
        self.group.turn.notify_all();
    }
}
