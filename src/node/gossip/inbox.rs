//! The queue of a thread, with its length: it has no bound, so that nothing which was promised is dropped, and is therefore watched.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Where something is put in.
pub(super) struct Post<T> {
    to: Sender<T>,
    waiting: Arc<AtomicUsize>,
}

/// Where it is taken out.
pub(super) struct Inbox<T> {
    from: Receiver<T>,
    waiting: Arc<AtomicUsize>,
}

/// An empty queue.
pub(super) fn inbox<T>() -> (Post<T>, Inbox<T>) {
    let (to, from) = channel();
    let waiting = Arc::<AtomicUsize>::default();
    (Post { to, waiting: waiting.clone() }, Inbox { from, waiting })
}

impl<T> Clone for Post<T> {
    fn clone(&self) -> Post<T> {
        Post { to: self.to.clone(), waiting: self.waiting.clone() }
    }
}

impl<T> Post<T> {
    /// Puts something in; says whether anybody is there who will take it out.
    pub(super) fn send(&self, what: T) -> bool {
        // Counted first: whoever takes it out counts it down.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = self.to.send(what).is_ok();
        if !sent {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }

    /// How much waits.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl<T> Inbox<T> {
    /// Takes out what was put in first, or waits for it.
    pub(super) fn recv_timeout(&self, wait: Duration) -> Result<T, RecvTimeoutError> {
        let taken = self.from.recv_timeout(wait)?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
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
        assert_eq!(post.waiting(), 1000);
        (0..400).for_each(|n| assert_eq!(inbox.recv_timeout(Duration::ZERO), Ok(n)));
        assert_eq!(post.waiting(), 600);
        drop(inbox);
        assert!(!post.send(0), "nobody is there");
        assert_eq!(post.waiting(), 600);
    }
}
