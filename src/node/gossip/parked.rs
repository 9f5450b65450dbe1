//! Ranges in which sessions with a peer got stuck: the next ones leave them out, so that all the rest goes on, and try them later.
//!
//! What is parked, and when it is tried again, is the core's. It is kept in memory alone: who begins anew gets stuck again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reknit_core::agenda::{End, Named, Parking, Trial};
use reknit_core::session::{Parked, Stuck, Verdict};
use reknit_core::{CollectionId, DatasetId, Definition, Millis};

use crate::node::{NodeError, SessionReport};
use crate::transport::PeerId;

/// Ranges that sessions of gossip with a peer leave out, since a store could not answer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedRanges {
    /// How many they are.
    pub ranges: usize,
    /// Since when the first of them is.
    pub since: Millis,
    /// Why one of them is.
    pub why: String,
}

/// What is parked, of each dataset with each peer.
#[derive(Default)]
pub(super) struct ParkedWith(Mutex<BTreeMap<(DatasetId, PeerId), Parking>>);

impl ParkedWith {
    /// What a session with a peer leaves out and tries now.
    pub(super) fn trial(&self, dataset: DatasetId, peer: PeerId, now: Millis) -> Trial {
        self.lock().get(&(dataset, peer)).map(|parking| parking.trial(false, now)).unwrap_or_default()
    }

    /// Takes in how a session with a peer ended; says whether the next is to narrow down what is stuck.
    pub(super) fn learn(
        &self,
        definition: &Definition,
        peer: PeerId,
        (trial, ended): (&Trial, &Result<SessionReport, NodeError>),
        now: Millis,
    ) -> bool {
        let called = |collection: CollectionId| {
            let known = definition.collections.get(usize::from(collection.0));
            known.map(|collection| collection.name.clone()).unwrap_or_default()
        };
        let named =
            |stuck: &Stuck| -> Named { stuck.ranges.iter().map(|range| (called(stuck.collection), *range)).collect() };
        let stuck = match ended {
            Err(NodeError::Stuck { error, stuck }) => Some((named(stuck), error.to_string())),
            Ok(report) => report.outcome.stuck.as_ref().map(|stuck| (named(stuck), report.outcome.reason.clone())),
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
        let again = parking.learn(trial, end, now);
        if parking.is_empty() {
            all.remove(&(definition.id, peer));
        }
        again
    }

    /// What is parked of a dataset, with each peer with whom anything is.
    pub(super) fn of(&self, dataset: DatasetId) -> BTreeMap<PeerId, ParkedRanges> {
        let all = self.lock();
        let of = all.iter().filter(|((of, _), _)| *of == dataset);
        of.filter_map(|((_, peer), parking)| {
            let (ranges, since) = (parking.ranges(), parking.since()?);
            Some((*peer, ParkedRanges { ranges, since, why: parking.all().first()?.reason.1.clone() }))
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

/// What a session leaves out and tries, for its options; nothing where nothing is parked.
pub(super) fn parked(trial: &Trial, definition: &Definition) -> Option<Arc<Parked>> {
    let ids = |of: &Named| -> Vec<_> {
        of.iter().filter_map(|(name, range)| Some((definition.collection(name)?, *range))).collect()
    };
    let parked = Parked::new(ids(&trial.out), ids(&trial.tried));
    (parked != Parked::default()).then(|| Arc::new(parked))
}
