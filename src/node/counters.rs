//! What a node counts while it runs: sessions by how they ended, what they moved, and whom it refused. Numbers alone: what they
//! mean for an alert is for whoever reads them.

use std::sync::atomic::{AtomicU64, Ordering};

use reknit_core::message::RefuseCode;
use reknit_core::session::Verdict;

use super::{NodeError, Traffic};

/// Verdicts as they are told, and last what is none.
const VERDICTS: [&str; 7] = ["in_sync", "converged", "differs", "partial", "undetermined", "refused", "none"];
const REFUSALS: [&str; 12] = [
    "protocol",
    "dataset",
    "definition",
    "rights",
    "one_store",
    "busy",
    "message",
    "store",
    "brakes",
    "not_admitted",
    "sessions",
    "other",
];

/// Why somebody was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As a session said.
    Said(RefuseCode),
    /// The peer is not known here.
    NotAdmitted,
    /// It asked for more sessions than are answered at once.
    Sessions,
    /// What it said made no sense.
    Protocol,
}

impl Refusal {
    fn name(self) -> &'static str {
        match self {
            Refusal::Said(RefuseCode::Protocol) | Refusal::Protocol => "protocol",
            Refusal::Said(RefuseCode::Dataset) => "dataset",
            Refusal::Said(RefuseCode::Definition) => "definition",
            Refusal::Said(RefuseCode::Rights) => "rights",
            Refusal::Said(RefuseCode::OneStore) => "one_store",
            Refusal::Said(RefuseCode::Busy) => "busy",
            Refusal::Said(RefuseCode::Message) => "message",
            Refusal::Said(RefuseCode::Store) => "store",
            Refusal::Said(RefuseCode::Brakes) => "brakes",
            Refusal::Said(_) => "other",
            Refusal::NotAdmitted => "not_admitted",
            Refusal::Sessions => "sessions",
        }
    }
}

/// Sessions of one kind.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    ended: [AtomicU64; VERDICTS.len()],
    bytes: [AtomicU64; 4],
    under_way: AtomicU64,
}

/// What a node has counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Sessions that peers opened.
    pub(super) answered: Sessions,
    /// Sessions that were opened here, by gossip or for a peer.
    pub(super) opened: Sessions,
    /// Connections of peers that are open.
    pub(super) connections: AtomicU64,
    refusals: [AtomicU64; REFUSALS.len()],
}

impl Counters {
    /// Somebody was refused.
    pub(super) fn refused(&self, why: Refusal) {
        bump(&self.refusals, &REFUSALS, why.name());
    }

    /// What was counted so far.
    pub(super) fn counted(&self) -> Counted {
        let refusals = REFUSALS.iter().zip(&self.refusals).map(|(name, n)| (*name, load(n))).collect();
        let (answered, opened) = (self.answered.counted(), self.opened.counted());
        Counted { answered, opened, connections: load(&self.connections), refusals }
    }
}

impl Sessions {
    /// One begins, until this is dropped.
    pub(super) fn begins(&self) -> UnderWay<'_> {
        UnderWay::of(&self.under_way)
    }

    /// One has ended with this verdict, and moved that.
    pub(super) fn ended(&self, verdict: &str, traffic: Traffic) {
        bump(&self.ended, &VERDICTS, verdict);
        let Traffic { control_sent, control_received, records_sent, records_received } = traffic;
        let moved = [control_sent, control_received, records_sent, records_received];
        self.bytes.iter().zip(moved).for_each(|(sum, n)| _ = sum.fetch_add(n, Ordering::Relaxed));
    }

    /// One that was opened here has ended, in whatever way.
    pub(super) fn done(&self, ended: Result<(Verdict, Traffic), &NodeError>) {
        match ended {
            Ok((verdict, traffic)) => self.ended(verdict.name(), traffic),
            Err(_) => self.ended("none", Traffic::default()),
        }
    }

    fn counted(&self) -> CountedSessions {
        let ended = VERDICTS.iter().zip(&self.ended).map(|(name, n)| (*name, load(n))).collect();
        let [control_sent, control_received, records_sent, records_received] = self.bytes.each_ref().map(load);
        let traffic = Traffic { control_sent, control_received, records_sent, records_received };
        CountedSessions { ended, under_way: load(&self.under_way), traffic }
    }
}

/// Something that is counted while it is there.
pub(super) struct UnderWay<'c>(&'c AtomicU64);

impl UnderWay<'_> {
    pub(super) fn of(count: &AtomicU64) -> UnderWay<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        UnderWay(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a node has counted since it was bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Sessions that peers opened.
    pub answered: CountedSessions,
    /// Sessions that were opened here: by gossip, or for a peer that may operate.
    pub opened: CountedSessions,
    /// Connections of peers that are open.
    pub connections: u64,
    /// Refusals by their reasons.
    pub refusals: Vec<(&'static str, u64)>,
}

/// Sessions of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedSessions {
    /// Those that have ended, by verdict; `none` where there was none, or the peer did not tell it.
    pub ended: Vec<(&'static str, u64)>,
    /// Those that have not.
    pub under_way: u64,
    /// What those moved that had an outcome.
    pub traffic: Traffic,
}

/// Counts one by its name; what has none of these names by the last.
fn bump(counts: &[AtomicU64], names: &[&str], name: &str) {
    let place = names.iter().position(|known| *known == name).unwrap_or(names.len() - 1);
    counts[place].fetch_add(1, Ordering::Relaxed);
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_once_by_its_name_and_what_has_none_by_the_last() {
        let counters = Counters::default();
        let traffic = Traffic { control_sent: 1, control_received: 2, records_sent: 3, records_received: 4 };
        counters.answered.ended("in_sync", traffic);
        counters.answered.ended("", traffic);
        counters.opened.done(Ok((Verdict::Differs, traffic)));
        counters.opened.done(Err(&NodeError::Cut));
        let codes = [RefuseCode::Rights, RefuseCode::Brakes, RefuseCode::Rights];
        codes.into_iter().for_each(|code| counters.refused(Refusal::Said(code)));
        [Refusal::NotAdmitted, Refusal::Sessions, Refusal::Protocol].into_iter().for_each(|why| counters.refused(why));
        let under_way = counters.answered.begins();
        let counted = counters.counted();
        let some = |counts: &[(&'static str, u64)]| -> Vec<(&'static str, u64)> {
            counts.iter().copied().filter(|(_, n)| *n > 0).collect()
        };
        assert_eq!(some(&counted.answered.ended), [("in_sync", 1), ("none", 1)]);
        assert_eq!(some(&counted.opened.ended), [("differs", 1), ("none", 1)]);
        assert_eq!((counted.answered.under_way, counted.answered.traffic), (1, traffic.and(traffic)));
        let refusals = [("protocol", 1), ("rights", 2), ("brakes", 1), ("not_admitted", 1), ("sessions", 1)];
        assert_eq!(some(&counted.refusals), refusals);
        drop(under_way);
        assert_eq!(counters.counted().answered.under_way, 0);
        let verdicts = [Verdict::InSync, Verdict::Converged, Verdict::Differs, Verdict::Partial, Verdict::Undetermined];
        assert!(verdicts.iter().all(|verdict| VERDICTS.contains(&verdict.name())), "each has a place of its own");
    }
}
