//! The queue of a thread, with its length. What this node itself has to say to it is never dropped; of what each peer says so much
//! waits at most, and the rest is left to whoever makes up for what is lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::transport::PeerId;
use crate::transport::limits::{GOSSIP_BYTES_MAX, GOSSIP_WORDS_MAX};

/// So much of this node's own waits before whoever can wait with more does.
const OWN_MAX: usize = 64;

/// Where something is put in.
pub(super) struct Post<T> {
    to: Sender<(T, Option<(PeerId, usize)>)>,
    waiting: Arc<Waiting>,
}

/// Where it is taken out.
pub(super) struct Inbox<T> {
    from: Receiver<(T, Option<(PeerId, usize)>)>,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    all: AtomicUsize,
    own: AtomicUsize,
    /// Words of each peer and their bytes.
    of: Mutex<HashMap<PeerId, (usize, usize)>>,
}

impl Waiting {
    fn of(&self) -> MutexGuard<'_, HashMap<PeerId, (usize, usize)>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self, whose: Option<(PeerId, usize)>) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        let Some((peer, bytes)) = whose else {
            self.own.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let mut of = self.of();
        if let Some(has) = of.get_mut(&peer) {
            *has = (has.0 - 1, has.1 - bytes);
            if has.0 == 0 {
                of.remove(&peer);
            }
        }
    }
}

/// An empty queue.
pub(super) fn inbox<T>() -> (Post<T>, Inbox<T>) {
    let (to, from) = channel();
    let waiting = Arc::<Waiting>::default();
    (Post { to, waiting: waiting.clone() }, Inbox { from, waiting })
}

impl<T> Clone for Post<T> {
    fn clone(&self) -> Post<T> {
        Post { to: self.to.clone(), waiting: self.waiting.clone() }
    }
}

impl<T> Post<T> {
    /// Puts something of this node's own in; says whether anybody is there who will take it out.
    pub(super) fn send(&self, what: T) -> bool {
        self.waiting.own.fetch_add(1, Ordering::Relaxed);
        self.put(what, None)
    }

    /// Puts something in that a peer said in so many bytes, unless as much of what it said waits as may, or nobody is there; says
    /// whether.
    pub(super) fn send_of(&self, peer: PeerId, bytes: usize, what: T) -> bool {
        {
            let mut of = self.waiting.of();
            let has = of.entry(peer).or_default();
            // One word is taken however large it is.
            if has.0 > 0 && (has.0 >= GOSSIP_WORDS_MAX || has.1 + bytes > GOSSIP_BYTES_MAX) {
                return false;
            }
            *has = (has.0 + 1, has.1 + bytes);
        }
        self.put(what, Some((peer, bytes)))
    }

    fn put(&self, what: T, whose: Option<(PeerId, usize)>) -> bool {
        // Counted first: whoever takes it out counts it down.
        self.waiting.all.fetch_add(1, Ordering::Relaxed);
        let sent = self.to.send((what, whose)).is_ok();
        if !sent {
            self.waiting.taken(whose);
        }
        sent
    }

    /// Whether so much of this node's own waits that more had better wait elsewhere.
    pub(super) fn is_behind(&self) -> bool {
        self.waiting.own.load(Ordering::Relaxed) >= OWN_MAX
    }

    /// How much waits.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.all.load(Ordering::Relaxed)
    }
}

impl<T> Inbox<T> {
    /// Takes out what was put in first, or waits for it.
    pub(super) fn recv_timeout(&self, wait: Duration) -> Result<T, RecvTimeoutError> {
        let (taken, whose) = self.from.recv_timeout(wait)?;
        self.waiting.taken(whose);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_counted_until_it_is_taken() {
        let (post, inbox) = inbox();
        (0..1000).for_each(|n| assert!(post.send(n)));
        assert_eq!((post.waiting(), post.is_behind()), (1000, true));
        (0..400).for_each(|n| assert_eq!(inbox.recv_timeout(Duration::ZERO), Ok(n)));
        assert_eq!(post.waiting(), 600);
        drop(inbox);
        assert!(!post.send(0), "nobody is there");
        assert_eq!(post.waiting(), 600);
    }

    #[test]
    fn of_what_one_peer_says_a_bounded_part_waits_and_others_are_heard() {
        let (post, inbox) = inbox();
        let [one, other] = [1, 2].map(|nth| PeerId([nth; 32]));
        let taken = (0..10_000).filter(|n| post.send_of(one, 100, *n)).count();
        assert_eq!((taken, post.waiting()), (GOSSIP_WORDS_MAX, GOSSIP_WORDS_MAX));
        // Large words are fewer.
        let taken = (0..10_000).filter(|n| post.send_of(other, GOSSIP_BYTES_MAX / 8, *n)).count();
        assert_eq!(taken, 8);
        assert!(post.send(1) && !post.is_behind());
        while inbox.recv_timeout(Duration::ZERO).is_ok() {}
        assert!(post.waiting() == 0 && post.send_of(one, GOSSIP_BYTES_MAX + 1, 0) && post.send_of(other, 1, 0));
        assert!(!post.send_of(one, 1, 0), "one is taken however large it is, and no more");
    }
}
