//! What stores have lost within a sliding window: to each peer, to all who push together, to another store of the same process.
//!
//! When a batch is weighed, and what may be lost, is the core's concern; here is kept what was lost, and when.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reknit_core::DatasetId;
use reknit_core::brakes::{Brakes, Losses};
use reknit_core::query::Applied;

use crate::store::{Side, SideInfo, StoreError};
use crate::transport::PeerId;

/// Parts of a window that are told apart; a loss is forgotten at most so much of a window late.
const PARTS: u32 = 60;

/// How much a store may lose to a peer, and within what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeBrakes {
    /// What it may lose.
    pub brakes: Brakes,
    /// How far back is counted.
    pub window: Duration,
}

impl Default for NodeBrakes {
    /// The defaults of a repair, within an hour.
    fn default() -> NodeBrakes {
        NodeBrakes { brakes: Brakes::default(), window: Duration::from_secs(3600) }
    }
}

/// What one store has lost to one other, and how far back any who asked looks.
#[derive(Default)]
struct Lost {
    parts: VecDeque<(Instant, Losses)>,
    longest: Duration,
}

/// What the stores of a process have lost, as far back as it counts. It lasts as long as the process.
#[derive(Default)]
pub(crate) struct Windows {
    lost: Mutex<BTreeMap<(Store, To), Lost>>,
    /// Whose turn it is, of each store, to let something out of quarantine.
    turns: Mutex<BTreeMap<Store, Arc<Mutex<()>>>>,
}

/// A store, by where it is: a process may hold several of one dataset.
type Store = (DatasetId, String);

/// To whom it has lost records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    /// A peer, whoever opened the session; what it pushed too.
    Peer(PeerId),
    /// All who push together: what one deletes, others pass on.
    Pushes,
    /// Another store of the process, by where it is.
    #[cfg(any(test, feature = "cli"))]
    Store(String),
}

/// What one store has lost to one other.
#[derive(Clone)]
pub(super) struct Window {
    /// How far back is counted.
    within: Duration,
    windows: Arc<Windows>,
    whose: (Store, To),
}

impl Window {
    pub(super) fn of_peer(within: Duration, windows: &Arc<Windows>, side: &SideInfo, peer: PeerId) -> Window {
        Window::new(within, windows, side, To::Peer(peer))
    }

    pub(super) fn of_pushes(within: Duration, windows: &Arc<Windows>, side: &SideInfo) -> Window {
        Window::new(within, windows, side, To::Pushes)
    }

    #[cfg(any(test, feature = "cli"))]
    pub(super) fn of_store(within: Duration, windows: &Arc<Windows>, side: &SideInfo, other: &SideInfo) -> Window {
        Window::new(within, windows, side, To::Store(other.place.clone()))
    }

    fn new(within: Duration, windows: &Arc<Windows>, side: &SideInfo, to: To) -> Window {
        let store = (side.definition.id, side.place.clone());
        Window { within, windows: Arc::clone(windows), whose: (store, to) }
    }

    /// What counts now.
    pub(super) fn lost(&self, now: Instant) -> Losses {
        let mut windows = self.windows.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lost) = windows.get_mut(&self.whose) else { return Losses::default() };
        lost.longest = lost.longest.max(self.within);
        let longest = lost.longest;
        let since = |at: &Instant| now.saturating_duration_since(*at);
        while lost.parts.front().is_some_and(|(at, _)| since(at) >= longest) {
            lost.parts.pop_front();
        }
        let counts = lost.parts.iter().filter(|(at, _)| since(at) < self.within);
        let sum = counts.fold(Losses::default(), |sum, (_, losses)| sum.and(*losses));
        if lost.parts.is_empty() {
            windows.remove(&self.whose);
        }
        sum
    }

    /// What is held by whoever lets something out of quarantine, for as long as it takes.
    fn turn(&self) -> Arc<Mutex<()>> {
        let mut turns = self.windows.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(self.whose.0.clone()).or_default())
    }

    /// What counts now of what leaves quarantine: with what pushes lost, since it is not known any more who brought it, and how.
    fn lost_before_release(&self, now: Instant) -> Losses {
        self.lost(now).max(self.of_pushes_here().lost(now))
    }

    /// More was lost by what left quarantine.
    fn note_released(&self, losses: Losses, now: Instant) {
        self.note(losses, now);
        self.of_pushes_here().note(losses, now);
    }

    fn of_pushes_here(&self) -> Window {
        Window { whose: (self.whose.0.clone(), To::Pushes), ..self.clone() }
    }

    /// More was lost. What comes close together is kept together, under the later time.
    pub(super) fn note(&self, losses: Losses, now: Instant) {
        if losses == Losses::default() {
            return;
        }
        let mut windows = self.windows.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = windows.entry(self.whose.clone()).or_default();
        lost.longest = lost.longest.max(self.within);
        let close = |at: Instant| now.saturating_duration_since(at) < self.within / PARTS;
        match lost.parts.back_mut() {
            // The first of a part says when it ends, so that a steady stream is forgotten too.
            Some((at, sum)) if close(*at) => *sum = sum.and(losses),
            _ => lost.parts.push_back((now, losses)),
        }
    }
}

/// What a side may lose, and where that is counted.
pub(super) type Guarded = (Option<Brakes>, Option<Window>);

/// Lets out of quarantine what is due and may be lost, and counts it, all before anyone else's turn: who read what was lost before
/// it is counted would have the whole room again. It blocks, and counts whether or not the session still stands when it is done;
/// what left before an error is given beside it.
pub(super) fn release(side: &dyn Side, (brakes, window): &Guarded) -> (Applied, Result<(), StoreError>) {
    let turn = window.as_ref().map(Window::turn);
    let held = turn.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
    let lost = window.as_ref().map(|window| window.lost_before_release(Instant::now())).unwrap_or_default();
    let mut released = Applied::default();
    let done = side.release_due(brakes.as_ref(), lost, &mut released);
    if let Some(window) = window {
        window.note_released(released.losses, Instant::now());
    }
    drop(held);
    if released.moved > 0 {
        let left = released.moved;
        tracing::warn!(left, "more would be lost than may be by what is due in quarantine; the rest stays there");
    }
    (released, done)
}

#[cfg(test)]
mod tests {
    use reknit_core::{Actor, DatasetKey, Definition, Keys};

    use super::*;
    use crate::transport::Identity;

    fn info(id: u8, place: &str) -> SideInfo {
        let definition = Definition::simple(DatasetId([id; 16]), "test");
        let keys = Arc::new(Keys::new(&DatasetKey::from_bytes([1; 32])));
        let (actor, nonce, writable) = (Actor(1), 1, true);
        SideInfo { definition: Arc::new(definition), keys, actor, nonce, place: place.into(), writable }
    }

    #[test]
    fn a_window_forgets_what_is_past_and_tells_peers_and_stores_apart() {
        let windows = Arc::new(Windows::default());
        let dir = tempfile::tempdir().expect("a directory");
        let identity = |name| Identity::load_or_create(&dir.path().join(name)).expect("an identity").peer();
        let (minute, here) = (Duration::from_secs(60), info(1, "here"));
        let window = Window::of_peer(minute, &windows, &here, identity("one"));
        let others = [
            Window::of_peer(minute, &windows, &here, identity("two")),
            Window::of_peer(minute, &windows, &info(2, "here"), identity("one")),
            Window::of_peer(minute, &windows, &info(1, "there"), identity("one")),
            Window::of_pushes(minute, &windows, &here),
            Window::of_store(minute, &windows, &here, &info(1, "there")),
        ];
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let lost = |deleted, changed| Losses { deleted, changed };
        (0..50).for_each(|second| window.note(lost(1, 2), at(second)));
        assert_eq!(window.lost(at(50)), lost(50, 100));
        assert_eq!(window.lost(at(60)), lost(49, 98));
        assert_eq!(window.lost(at(108)), lost(1, 2));
        assert_eq!(window.lost(at(109)), lost(0, 0));
        others.iter().for_each(|other| assert_eq!(other.lost(at(50)), lost(0, 0)));
        assert!(windows.lost.lock().expect("whole").is_empty(), "what is past takes no room");
        let much = |n: u64| begun + Duration::from_micros(n * 10);
        (0..100_000).for_each(|n| window.note(lost(1, 0), much(n)));
        let kept = windows.lost.lock().expect("whole").values().map(|lost| lost.parts.len()).sum::<usize>();
        assert!((1..=PARTS as usize + 1).contains(&kept), "{kept}");
    }

    /// What peers open and what gossip does may look back differently far.
    #[test]
    fn whoever_looks_back_less_far_takes_nothing_from_whoever_looks_further() {
        let (windows, here) = (Arc::new(Windows::default()), info(1, "here"));
        let of = |seconds| Window::of_pushes(Duration::from_secs(seconds), &windows, &here);
        let (long, short) = (of(3600), of(60));
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let lost = |deleted| Losses { deleted, changed: 0 };
        assert_eq!(long.lost(at(0)), lost(0));
        long.note(lost(5), at(0));
        assert_eq!((long.lost(at(0)), short.lost(at(0))), (lost(5), lost(5)));
        assert_eq!((short.lost(at(100)), long.lost(at(100))), (lost(0), lost(5)));
        short.note(lost(2), at(200));
        assert_eq!((short.lost(at(210)), long.lost(at(210)), long.lost(at(3600))), (lost(2), lost(7), lost(2)));
    }
}
