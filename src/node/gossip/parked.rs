//! Ranges in which sessions with a peer got stuck: the next ones leave them out, so that all the rest goes on, and try them later.
//!
//! What is parked, and when it is tried again, is the core's. It goes by a clock that nobody sets, and is kept in memory alone: who
//! begins anew gets stuck again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reknit_core::agenda::{End, Parking, Trial};
use reknit_core::session::Verdict;
use reknit_core::{DatasetId, Definition, Millis};

use crate::node::parked::stuck_in;
use crate::node::{NodeError, SessionReport};
use crate::transport::PeerId;

/// Ranges that sessions of gossip with a peer leave out, since a store could not answer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedRanges {
    /// How many they are.
    pub ranges: usize,
    /// For how long the first of them has been.
    pub lasts: Duration,
    /// Why one of them is.
    pub why: String,
}

/// What is parked, of each dataset with each peer.
#[derive(Default)]
pub(super) struct ParkedWith(Mutex<BTreeMap<(DatasetId, PeerId), Parking>>);

impl ParkedWith {
    /// What a session with a peer leaves out and tries at a tick.
    pub(super) fn trial(&self, dataset: DatasetId, peer: PeerId, tick: Millis) -> Trial {
        self.lock().get(&(dataset, peer)).map(|parking| parking.trial(false, tick)).unwrap_or_default()
    }

    /// Takes in how a session with a peer ended; says whether the next is to narrow down what is stuck.
    pub(super) fn learn(
        &self,
        definition: &Definition,
        peer: PeerId,
        (trial, ended): (&Trial, &Result<SessionReport, NodeError>),
        tick: Millis,
    ) -> bool {
        let stuck = match ended {
            Err(NodeError::Stuck { error, stuck }) => Some((stuck_in(stuck, definition), error.to_string())),
            Ok(report) => {
                report.outcome.stuck.as_ref().map(|stuck| (stuck_in(stuck, definition), report.outcome.reason.clone()))
            }
            Err(_) => None,
        };
        let end = match (&stuck, ended) {
            (Some((stuck, why)), _) => End::Stuck(stuck, ("session".into(), why.clone())),
            (None, Err(_)) => End::Cut,
            (None, Ok(report)) => match report.outcome.verdict {
                Verdict::InSync | Verdict::Converged => End::Equal,
                Verdict::Differs => End::Whole,
                Verdict::Partial if report.outcome.left_out > 0 => End::Whole,
                _ => End::Cut,
            },
        };
        let mut all = self.lock();
        let parking = all.entry((definition.id, peer)).or_default();
        let again = parking.learn(trial, end, tick);
        if parking.is_empty() {
            all.remove(&(definition.id, peer));
        }
        again
    }

    /// What is parked of a dataset at a tick, with each peer with whom anything is.
    pub(super) fn of(&self, dataset: DatasetId, tick: Millis) -> BTreeMap<PeerId, ParkedRanges> {
        let all = self.lock();
        let of = all.iter().filter(|((of, _), _)| *of == dataset);
        of.filter_map(|((_, peer), parking)| {
            let lasts = Duration::from_millis(tick.saturating_sub(parking.since()?));
            let why = parking.all().first()?.reason.1.clone();
            Some((*peer, ParkedRanges { ranges: parking.ranges(), lasts, why }))
        })
        .collect()
    }

    /// Forgets what is parked with others than these.
    pub(super) fn retain(&self, is_of: impl Fn(PeerId, DatasetId) -> bool) {
        self.lock().retain(|(dataset, peer), _| is_of(*peer, *dataset));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(DatasetId, PeerId), Parking>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reknit_core::session::{Parked, Stuck};
    use reknit_core::{CollectionId, Position, Range};

    use super::*;
    use crate::node::parked::parked;
    use crate::store::StoreError;

    #[test]
    fn a_range_that_a_store_could_not_answer_for_is_left_out_then_tried_alone_and_let_go() {
        let (definition, peer) = (Definition::simple(DatasetId([7; 16]), "cities"), PeerId([9; 32]));
        let (all, other) = (ParkedWith::default(), PeerId([8; 32]));
        let range = Range::of(Position(5), 16);
        let learn = |trial: &Trial, tick| {
            let stuck = Stuck::new(CollectionId(0), vec![range]);
            let ended = Err(NodeError::Stuck { error: StoreError::damaged("it rots"), stuck });
            all.learn(&definition, peer, (trial, &ended), tick)
        };
        let trial = |tick| all.trial(definition.id, peer, tick);
        assert!(learn(&Trial::default(), 100), "the rest is next");
        let first = trial(200);
        assert_eq!((first.out.len(), first.tried.len()), (1, 0));
        assert_eq!(parked(&first, &definition), Some(Arc::new(Parked::new(vec![(CollectionId(0), range)], vec![]))));
        assert_eq!((all.trial(definition.id, other, 200), parked(&Trial::default(), &definition)), Default::default());
        let known = all.of(definition.id, 1_100);
        assert_eq!((known.len(), known[&peer].ranges, known[&peer].lasts), (1, 1, Duration::from_secs(1)));
        assert!(known[&peer].why.contains("it rots"), "{known:?}");
        // Stuck in what was left out: it is tried again, later.
        assert!(!learn(&first, 300));
        assert_eq!((trial(300).tried.len(), trial(60_300).tried.len()), (0, 1));
        // A session that failed otherwise changes nothing.
        assert!(!all.learn(&definition, peer, (&trial(60_300), &Err(NodeError::TakenAway)), 60_400));
        assert_eq!(trial(60_500).tried.len(), 1);
        all.retain(|one, _| one == peer);
        assert_eq!(all.of(definition.id, 0).len(), 1);
        all.retain(|one, _| one == other);
        assert!(all.of(definition.id, 0).is_empty());
    }
}
