//! The brakes of a node that answers: how much each peer may lose each of its stores within a sliding window, and how much all who
//! push may together.
//!
//! When a batch is weighed is the core's concern; here is kept what was lost, and when.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reknit_core::DatasetId;
use reknit_core::brakes::{Brakes, Losses};

use crate::transport::PeerId;

/// Parts of a window that are told apart; a loss is forgotten at most so much of a window late.
const PARTS: u32 = 60;

/// How much a peer may lose a store that is served, and within what time.
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

type Lost = VecDeque<(Instant, Losses)>;

/// What peers have lost the stores of a node, as far back as it counts.
#[derive(Default)]
pub(super) struct Windows(Mutex<BTreeMap<Whose, Lost>>);

/// A peer, or none for all who push, and a store.
type Whose = (Option<PeerId>, DatasetId);

/// What one peer, or all who push, have lost one store.
#[derive(Clone)]
pub(super) struct Window {
    pub(super) brakes: NodeBrakes,
    windows: Arc<Windows>,
    whose: Whose,
}

impl Window {
    pub(super) fn new(brakes: NodeBrakes, windows: &Arc<Windows>, peer: PeerId, dataset: DatasetId) -> Window {
        Window { brakes, windows: Arc::clone(windows), whose: (Some(peer), dataset) }
    }

    /// Of all who push together: what one deletes, others pass on.
    pub(super) fn of_pushes(brakes: NodeBrakes, windows: &Arc<Windows>, dataset: DatasetId) -> Window {
        Window { brakes, windows: Arc::clone(windows), whose: (None, dataset) }
    }

    /// What counts now.
    pub(super) fn lost(&self, now: Instant) -> Losses {
        let mut windows = self.windows.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lost) = windows.get_mut(&self.whose) else { return Losses::default() };
        while lost.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= self.brakes.window) {
            lost.pop_front();
        }
        let sum = lost.iter().fold(Losses::default(), |sum, (_, losses)| sum.and(*losses));
        if lost.is_empty() {
            windows.remove(&self.whose);
        }
        sum
    }

    /// More was lost. What comes close together is kept together, under the later time.
    pub(super) fn note(&self, losses: Losses, now: Instant) {
        if losses == Losses::default() {
            return;
        }
        let mut windows = self.windows.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = windows.entry(self.whose).or_default();
        let close = |at: Instant| now.saturating_duration_since(at) < self.brakes.window / PARTS;
        match lost.back_mut() {
            // The first of a part says when it ends, so that a steady stream is forgotten too.
            Some((at, sum)) if close(*at) => *sum = sum.and(losses),
            _ => lost.push_back((now, losses)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Identity;

    #[test]
    fn a_window_forgets_what_is_past_and_tells_peers_and_datasets_apart() {
        let windows = Arc::new(Windows::default());
        let dir = tempfile::tempdir().expect("a directory");
        let identity = |name| Identity::load_or_create(&dir.path().join(name)).expect("an identity").peer();
        let brakes = NodeBrakes { window: Duration::from_secs(60), ..NodeBrakes::default() };
        let window = Window::new(brakes, &windows, identity("one"), DatasetId([1; 16]));
        let others = [(identity("two"), 1), (identity("one"), 2)];
        let others = others.map(|(peer, id)| Window::new(brakes, &windows, peer, DatasetId([id; 16])));
        let others = others.into_iter().chain([Window::of_pushes(brakes, &windows, DatasetId([1; 16]))]);
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let lost = |deleted, changed| Losses { deleted, changed };
        (0..50).for_each(|second| window.note(lost(1, 2), at(second)));
        assert_eq!(window.lost(at(50)), lost(50, 100));
        assert_eq!(window.lost(at(60)), lost(49, 98));
        assert_eq!(window.lost(at(108)), lost(1, 2));
        assert_eq!(window.lost(at(109)), lost(0, 0));
        others.for_each(|other| assert_eq!(other.lost(at(50)), lost(0, 0)));
        assert!(windows.0.lock().expect("whole").is_empty(), "what is past takes no room");
        let much = |n: u64| begun + Duration::from_micros(n * 10);
        (0..100_000).for_each(|n| window.note(lost(1, 0), much(n)));
        let kept = windows.0.lock().expect("whole").values().map(VecDeque::len).sum::<usize>();
        assert!((1..=PARTS as usize + 1).contains(&kept), "{kept}");
    }
}
