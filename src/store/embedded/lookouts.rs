//! Looking out for what sessions bring while this store catches up with another: what comes after the two were compared may have been
//! deleted there, and its deletion collected.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use reknit_core::Stamp;

/// Held by whoever catches up, from before it looks at what differs until it has taken over the horizon.
#[derive(Clone, Debug)]
#[must_use]
pub struct LookOut {
    /// The oldest stamp of a version that came.
    oldest: Arc<AtomicU64>,
}

impl Default for LookOut {
    fn default() -> Self {
        LookOut { oldest: Arc::new(AtomicU64::new(u64::MAX)) }
    }
}

/// Those of one store that are held.
#[derive(Default)]
pub(super) struct LookOuts(Mutex<Vec<Weak<AtomicU64>>>);

impl LookOuts {
    fn held(&self) -> MutexGuard<'_, Vec<Weak<AtomicU64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) -> LookOut {
        let (mut held, one) = (self.held(), LookOut::default());
        held.retain(|other| other.strong_count() > 0);
        held.push(Arc::downgrade(&one.oldest));
        one
    }

    /// A session brings a version of this stamp.
    pub(super) fn comes(&self, stamp: Stamp) {
        self.held().iter().filter_map(Weak::upgrade).for_each(|oldest| {
            oldest.fetch_min(stamp.0, Ordering::SeqCst);
        });
    }

    /// Whether one of them has seen something come that a horizon may have collected.
    pub(super) fn came_up_to(&self, horizon: Stamp) -> bool {
        self.held().iter().filter_map(Weak::upgrade).any(|oldest| oldest.load(Ordering::SeqCst) <= horizon.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_seen_by_those_who_were_there_as_long_as_they_are() {
        let all = LookOuts::default();
        all.comes(Stamp(5));
        let first = all.begin();
        assert!(!all.came_up_to(Stamp(5)), "that was before");
        all.comes(Stamp(9));
        all.comes(Stamp(12));
        let second = all.begin();
        assert_eq!([8, 9].map(|horizon| all.came_up_to(Stamp(horizon))), [false, true]);
        drop(first);
        assert!(!all.came_up_to(Stamp(9)), "the other began later");
        all.comes(Stamp(7));
        assert!(all.came_up_to(Stamp(9)));
        drop(second);
        assert!(!all.came_up_to(Stamp(u64::MAX - 1)));
    }
}
