//! One case: one peer, one pair of sets, everything that is measured about it.
//!
//! A case runs in a process of its own, so that memory is its own and a long series of cases does not wear it out.

use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::peer::{Outcome, Peer, Stopwatch};
use crate::peers::{self, New};
use crate::workload::{Id, Pair, Plan, Record, Shape};

/// Runs of a warm exchange, of which the median counts.
const WARM_RUNS: usize = 5;
/// Beyond this CPU time one warm run is enough.
const LONG: Duration = Duration::from_secs(5);
/// Updates that are timed, if they do not take too long.
const UPDATES: usize = 1000;
/// CPU time after which no more updates are timed.
const UPDATES_TIME: Duration = Duration::from_secs(1);

/// What is to be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// The peer's name.
    pub peer: String,
    /// Where the differences lie.
    pub shape: Shape,
    /// Records in all.
    pub records: usize,
    /// Differences asked for.
    pub differences: usize,
    /// What the sets follow from.
    pub seed: u64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The case.
    pub case: Case,
    /// When it was measured, as given on the command line.
    pub date: String,
    /// The command line.
    pub command: String,
    /// Differences that there were.
    pub differences: u64,
    /// Bytes both ways except records.
    pub metadata: u64,
    /// One-way flights until both sides knew what to send.
    pub flights: u32,
    /// Records that a side would have sent without need: losing versions, equal records.
    pub needless: u64,
    /// Records that had to be sent and were not found; 0 unless the peer failed.
    pub missed: u64,
    /// CPU time of both sides once everything is built, in milliseconds.
    pub warm_ms: f64,
    /// The same with building both sides.
    pub cold_ms: f64,
    /// CPU time to build one side from ready hashes, in milliseconds.
    pub build_ms: f64,
    /// CPU time of one update on one side, in microseconds.
    pub update_us: f64,
    /// Memory that building took, in bytes a record and side; none where the system does not tell.
    pub memory: Option<f64>,
}

impl Case {
    /// Measures in a process of its own.
    pub fn run(&self, date: &str, command: &str) -> Result<Figures, String> {
        let this = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
        let told = serde_json::to_string(self).expect("plain data");
        let child = Command::new(this).args(["--case", &told, "--date", date]).stderr(Stdio::inherit()).output();
        let output = child.map_err(|error| format!("{} cannot be started: {error}", self.peer))?;
        if !output.status.success() {
            return Err(format!("{told} ended with {}", output.status));
        }
        let found = serde_json::from_slice::<Figures>(&output.stdout);
        let found = found.map_err(|error| format!("{told} said what is not understood: {error}"))?;
        Ok(Figures { command: command.to_string(), ..found })
    }

    /// Measures in this process.
    pub fn measure(&self, date: &str) -> Result<Figures, String> {
        let kinds = peers::all();
        let known = kinds.iter().find(|kind| kind.name == self.peer).and_then(|kind| Some((kind, kind.new?)));
        let (kind, new) = known.ok_or_else(|| format!("{} was not compiled in", self.peer))?;
        Ok(measure(self, kind.place, new, date))
    }
}

fn measure(case: &Case, place: fn(&Record) -> u64, new: New, date: &str) -> Figures {
    let Case { shape, records, differences, seed, .. } = *case;
    let pair = Arc::new(Pair::new(Plan { records, differences, shape, seed }, place));
    let mut peer = new(pair.clone());
    let (mut build, before) = (Stopwatch::default(), resident());
    build.time(|| peer.build());
    let held = resident().zip(before).map(|(after, before)| after.saturating_sub(before));
    let in_sides = pair.sides.iter().map(Vec::len).sum::<usize>().max(1);
    let first = peer.reconcile();
    let runs = match first.cpu {
        _ if !peer.repeats() => 0,
        long if long > LONG => 1,
        _ => WARM_RUNS,
    };
    let mut warm: Vec<Duration> = Vec::new();
    for _ in 0..runs {
        let again = peer.reconcile();
        assert_eq!(again.metadata, first.metadata, "an exchange leaves the sides as they were");
        warm.push(again.cpu);
    }
    warm.sort_unstable();
    let (needless, missed) = judge(&pair, &first);
    Figures {
        case: case.clone(),
        date: date.to_string(),
        command: String::new(),
        differences: pair.differences() as u64,
        metadata: first.metadata,
        flights: first.flights,
        needless,
        missed,
        warm_ms: ms(warm.get(runs / 2).copied().unwrap_or(first.cpu)),
        cold_ms: ms(build.total() + first.cpu),
        build_ms: ms(build.total()) / 2.0,
        update_us: update(peer.as_mut(), &pair),
        memory: held.map(|bytes| bytes as f64 / in_sides as f64),
    }
}

/// Records sent without need, and records that had to be sent and were not.
fn judge(pair: &Pair, outcome: &Outcome) -> (u64, u64) {
    let (mut needless, mut missed) = (0, 0);
    for (sent, truth) in outcome.sends.iter().zip(&pair.truth) {
        let truth: HashSet<&Id> = truth.iter().collect();
        let needed = sent.iter().filter(|id| truth.contains(id)).collect::<HashSet<&Id>>().len();
        needless += sent.len() - needed;
        missed += truth.len() - needed;
    }
    (needless as u64, missed as u64)
}

fn update(peer: &mut dyn Peer, pair: &Pair) -> f64 {
    let (mut time, mut done) = (Duration::ZERO, 0u32);
    for (old, new) in pair.updates(UPDATES) {
        time += peer.update(&old, &new);
        done += 1;
        if time > UPDATES_TIME {
            break;
        }
    }
    time.as_secs_f64() * 1e6 / f64::from(done.max(1))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Bytes of memory that this process holds.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(peer: &str, shape: Shape, records: usize, differences: usize) -> Figures {
        let case = Case { peer: peer.into(), shape, records, differences, seed: 1 };
        case.measure("2026-01-01").expect("every peer that is listed is known")
    }

    #[test]
    fn every_peer_finds_every_difference_of_every_shape() {
        for kind in peers::here() {
            for shape in Shape::ALL {
                let found = figures(kind.name, shape, 1500, 40);
                assert_eq!(found.missed, 0, "{} {}", kind.name, shape.name());
                assert!(found.metadata > 0 && found.flights >= 1, "{} {}", kind.name, shape.name());
            }
            let equal = figures(kind.name, Shape::Scattered, 1500, 0);
            assert_eq!((equal.differences, equal.needless, equal.missed), (0, 0, 0), "{}", kind.name);
        }
    }

    #[test]
    fn a_peer_that_compares_hashes_sends_the_losing_version_of_each_changed_record() {
        assert_eq!(figures("negentropy", Shape::Scattered, 2000, 40).needless, 10);
        assert_eq!(figures("negentropy", Shape::AllChanged, 300, 0).needless, 300);
    }

    #[test]
    fn judging_counts_what_is_needless_and_what_is_missed() {
        let plan = Plan { records: 100, differences: 8, shape: Shape::Scattered, seed: 1 };
        let pair = Pair::new(plan, |_| 0);
        let equal = pair.sides[0].iter().find(|record| pair.sides[1].contains(record)).expect("most are equal").id;
        let outcome = Outcome { sends: [vec![equal, equal], pair.truth[1].clone()], ..Outcome::default() };
        assert_eq!(judge(&pair, &outcome), (2, pair.truth[0].len() as u64));
    }
}
