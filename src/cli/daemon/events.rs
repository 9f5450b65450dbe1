//! What has happened, kept for whoever listens: a bounded row of events that each listener goes along at its own pace, and that
//! tells whoever fell behind how much it missed.
//!
//! What an event says is said by those who tell it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reknit_core::Millis;
use serde_json::Value;
use tokio::sync::watch;

/// Events that are kept.
pub(crate) const KEPT_MAX: usize = 1024;

/// Something that happened.
#[derive(Debug)]
pub(crate) struct Event {
    /// Its place: 1 is the first since the daemon began.
    pub(crate) number: u64,
    pub(crate) kind: &'static str,
    pub(crate) body: Value,
}

/// How far a listener has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Everything up to this place.
    UpTo(u64),
    /// Something of a daemon that ran before this one: what came after is not known.
    Before,
}

/// What a listener is told next.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// Events that it missed, since they are not kept any more; of those of a daemon before this one it is not known.
    pub(crate) lost: Option<Option<u64>>,
    pub(crate) events: Vec<Arc<Event>>,
}

/// The row.
pub(crate) struct Events {
    /// When it began: tells its places from those of another daemon.
    began: Millis,
    kept: Mutex<VecDeque<Arc<Event>>>,
    last: watch::Sender<u64>,
}

impl Events {
    /// Nothing has happened yet.
    pub(crate) fn new(began: Millis) -> Events {
        Events { began, kept: Mutex::default(), last: watch::Sender::new(0) }
    }

    /// Something happens.
    pub(crate) fn tell(&self, kind: &'static str, body: Value) {
        let mut kept = self.kept();
        let number = *self.last.borrow() + 1;
        kept.push_back(Arc::new(Event { number, kind, body }));
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
        self.last.send_replace(number);
    }

    /// Wakes whenever something happens.
    pub(crate) fn wakes(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// How far somebody has come who listens from now on.
    pub(crate) fn now(&self) -> Heard {
        Heard::UpTo(*self.last.borrow())
    }

    /// What comes next for a listener, at most so many, and how far it has come then.
    pub(crate) fn after(&self, heard: Heard, most: usize) -> (Next, Heard) {
        let kept = self.kept();
        let first = kept.front().map_or(1, |event| event.number);
        let (from, lost) = match heard {
            Heard::Before => (first, Some(None)),
            Heard::UpTo(place) if place + 1 < first => (first, Some(Some(first - 1 - place))),
            Heard::UpTo(place) => (place + 1, None),
        };
        let events: Vec<Arc<Event>> = kept.iter().filter(|event| event.number >= from).take(most).cloned().collect();
        let heard = Heard::UpTo(events.last().map_or(from - 1, |event| event.number));
        (Next { lost, events }, heard)
    }

    /// What names a place, also to a daemon that runs later.
    pub(crate) fn id(&self, number: u64) -> String {
        format!("{:x}-{number}", self.began)
    }

    /// How far somebody has come who was last told this.
    pub(crate) fn heard(&self, id: &str) -> Heard {
        let place = id.split_once('-').filter(|(began, _)| *began == format!("{:x}", self.began));
        let place = place.and_then(|(_, number)| number.parse().ok()).filter(|number| number <= &*self.last.borrow());
        place.map_or(Heard::Before, Heard::UpTo)
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    proptest! {
        /// Told and lost together are everything, in order, however slowly a listener goes.
        #[test]
        fn whoever_listens_is_told_all_or_how_much_is_lost(steps in proptest::collection::vec((0usize..1500, 0usize..80), 1..12)) {
            let events = Events::new(7);
            let (mut heard, mut told, mut place) = (events.now(), 0u64, 0u64);
            for (happens, most) in steps {
                for _ in 0..happens {
                    told += 1;
                    events.tell("x", json!(told));
                }
                let (next, now) = events.after(heard, most);
                place += next.lost.map_or(0, |lost| lost.expect("known"));
                for event in &next.events {
                    place += 1;
                    prop_assert_eq!((event.number, &event.body), (place, &json!(place)));
                }
                prop_assert_eq!(now, Heard::UpTo(place));
                prop_assert_eq!(events.heard(&events.id(place)), now);
                prop_assert!(next.events.len() <= most && events.kept().len() <= KEPT_MAX);
                heard = now;
            }
        }

        #[test]
        fn no_text_is_taken_for_a_place_that_there_was_not(text in "[0-9a-f]{0,3}-?[0-9]{0,22}") {
            let events = Events::new(7);
            (0..3).for_each(|_| events.tell("x", json!(null)));
            let known = (0..=3).map(|number| events.id(number)).collect::<Vec<_>>();
            prop_assert!(known.contains(&text) || events.heard(&text) == Heard::Before || text.starts_with("7-0"));
        }
    }

    #[test]
    fn of_a_daemon_before_this_one_nothing_is_pretended() {
        let events = Events::new(7);
        let (next, heard) = events.after(events.heard("6-3"), 10);
        assert_eq!((next.lost, next.events.len(), heard), (Some(None), 0, Heard::UpTo(0)));
        let (next, _) = events.after(heard, 10);
        assert_eq!(next.lost, None, "it is told once");
    }
}
