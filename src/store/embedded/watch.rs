//! Following a store: every change in commit order, from a bounded ring in memory.
//! It keeps no history across an opening of the store; who falls behind is told so and starts over from a listing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reknit_core::CollectionId;

/// Changes that the ring holds; about a second of writing at full speed.
const RING_EVENTS_MAX: usize = 65_536;
/// Bytes of keys and values that the ring holds.
const RING_BYTES_MAX: usize = 16 << 20;

/// Changes of one commit that are held though nobody watches; larger commits are loads, which nobody follows so.
const UNWATCHED_EVENTS_MAX: usize = 4_096;

/// Who changed a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A caller of this store.
    Local,
    /// A session with a peer.
    Session,
    /// It had expired.
    Expiry,
}

/// One change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The record's collection.
    pub collection: CollectionId,
    /// The record's key.
    pub key: Vec<u8>,
    /// Its value before; none where it was absent or deleted.
    pub old: Option<Vec<u8>>,
    /// Its value now; none where it is deleted.
    pub new: Option<Vec<u8>>,
    /// Who changed it.
    pub origin: Origin,
    /// The commit that holds the change.
    pub commit: u64,
}

impl Event {
    fn bytes(&self) -> usize {
        let value = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        self.key.len() + value(&self.old) + value(&self.new)
    }
}

/// Where a watcher stands: everything up to this commit was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u64);

/// Changes after the cursor are no longer known. List the records, then watch from `now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes after commit {} are no longer held; list the records again, then watch from commit {}", cursor.0, now.0)]
pub struct Lagged {
    /// Where the watcher stood.
    pub cursor: Cursor,
    /// The newest commit.
    pub now: Cursor,
}

#[derive(Default)]
struct Ring {
    commits: VecDeque<(u64, Arc<[Event]>)>,
    events: usize,
    bytes: usize,
    /// The newest commit whose changes are not held any more.
    forgotten: u64,
    newest: u64,
}

/// The ring of one store.
pub(super) struct Watchers {
    ring: Mutex<Ring>,
    grew: Condvar,
    watching: AtomicUsize,
}

impl Watchers {
    pub(super) fn new(commit: u64) -> Self {
        let ring = Ring { commits: VecDeque::new(), events: 0, bytes: 0, forgotten: commit, newest: commit };
        Self { ring: Mutex::new(ring), grew: Condvar::new(), watching: AtomicUsize::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a commit of so many changes is to be told: a large one with nobody watching is not.
    pub(super) fn listens(&self, changes: usize) -> bool {
        changes <= UNWATCHED_EVENTS_MAX || self.watching.load(Ordering::Relaxed) > 0
    }

    /// Adds the changes of a commit; none where they are not to be told.
    pub(super) fn push(&self, commit: u64, events: Option<Vec<Event>>) {
        let mut ring = self.lock();
        ring.newest = commit;
        let Some(mut events) = events else {
            *ring = Ring { forgotten: commit, newest: commit, ..Ring::default() };
            self.grew.notify_all();
            return;
        };
        events.iter_mut().for_each(|event| event.commit = commit);
        ring.events += events.len();
        ring.bytes += events.iter().map(Event::bytes).sum::<usize>();
        ring.commits.push_back((commit, events.into()));
        while ring.events > RING_EVENTS_MAX || ring.bytes > RING_BYTES_MAX {
            let Some((oldest, events)) = ring.commits.pop_front() else { break };
            ring.events -= events.len();
            ring.bytes -= events.iter().map(Event::bytes).sum::<usize>();
            ring.forgotten = oldest;
        }
        self.grew.notify_all();
    }
}

/// Follows a store from a cursor on.
pub struct Watcher {
    of: Arc<super::Inner>,
    cursor: Cursor,
    /// The commit that is being told, and how many of its changes were told already.
    telling: Option<(Arc<[Event]>, usize)>,
}

impl Watcher {
    pub(super) fn new(of: Arc<super::Inner>, cursor: Cursor) -> Self {
        of.watchers.watching.fetch_add(1, Ordering::Relaxed);
        Self { of, cursor, telling: None }
    }

    /// Where to go on later: everything up to here was told. Within a commit it stays before that commit.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next change, waiting for one at most so long; none if none came.
    ///
    /// # Errors
    /// [`Lagged`] when changes after the cursor are no longer held; the watcher then stands at the newest commit.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Event>, Lagged> {
        if let Some(event) = self.told() {
            return Ok(Some(event));
        }
        let of = Arc::clone(&self.of);
        let deadline = Instant::now().checked_add(wait);
        let mut ring = of.watchers.lock();
        loop {
            if self.cursor.0 < ring.forgotten || self.cursor.0 > ring.newest {
                let lagged = Lagged { cursor: self.cursor, now: Cursor(ring.newest) };
                self.cursor = lagged.now;
                return Err(lagged);
            }
            let after = ring.commits.partition_point(|(commit, _)| *commit <= self.cursor.0);
            if let Some((commit, events)) = ring.commits.get(after) {
                if events.is_empty() {
                    self.cursor = Cursor(*commit);
                    continue;
                }
                self.telling = Some((Arc::clone(events), 0));
                drop(ring);
                return Ok(self.told());
            }
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if left.is_zero() {
                return Ok(None);
            }
            ring = of.watchers.grew.wait_timeout(ring, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn told(&mut self) -> Option<Event> {
        let (events, told) = self.telling.as_mut()?;
        let event = events.get(*told)?.clone();
        *told += 1;
        if *told == events.len() {
            self.cursor = Cursor(event.commit);
            self.telling = None;
        }
        Some(event)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.of.watchers.watching.fetch_sub(1, Ordering::Relaxed);
    }
}
