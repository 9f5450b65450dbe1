//! What the system tells of a process, and how fast its memory grows. What is too much is judged elsewhere.

use std::fs;
use std::time::Duration;

use crate::cluster::Living;

/// Windows that a row of samples is cut into; the median of each is what counts, so that what comes and goes does not.
const WINDOWS: usize = 20;
/// Where in the order of the slopes between windows the least is that their median may be, with 95 % of confidence: of the 190 of
/// n = 20 windows the one at (190 - 1.645 * sqrt(n (n - 1) (2 n + 5) / 18)) / 2.
const LEAST_PERCENT: usize = 36;

/// A process at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Since the soak began.
    pub(crate) at: Duration,
    /// Memory of its own that is resident.
    pub(crate) anonymous_kib: u64,
    pub(crate) held: Held,
}

/// What a process holds, that it has to let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Sockets, pipes and the like.
    pub(crate) descriptors: u64,
    /// Files on a disk.
    pub(crate) files: u64,
    pub(crate) threads: u64,
    /// Tasks of its runtime.
    pub(crate) tasks: u64,
}

impl Held {
    /// The medians of some, each for itself; nothing of none.
    pub(crate) fn median(of: &[Held]) -> Option<Held> {
        let middle = |each: fn(&Held) -> u64| {
            let mut all: Vec<u64> = of.iter().map(each).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied()
        };
        Some(Held {
            descriptors: middle(|held| held.descriptors)?,
            files: middle(|held| held.files)?,
            threads: middle(|held| held.threads)?,
            tasks: middle(|held| held.tasks)?,
        })
    }
}

/// Looks at a process; nothing if it does not answer, or has gone.
pub(crate) fn sample(of: &Living, at: Duration) -> Option<Sample> {
    let metrics = of.asked("/metrics")?;
    let tasks = metrics.lines().find_map(|line| line.strip_prefix("reknit_tasks "))?.parse().ok()?;
    let status = fs::read_to_string(format!("/proc/{}/status", of.pid)).ok()?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let links = fs::read_dir(format!("/proc/{}/fd", of.pid)).ok()?;
    let links = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
    let (files, others): (Vec<_>, Vec<_>) = links.partition(|to| to.is_absolute() && !to.starts_with("/dev"));
    let held =
        Held { descriptors: others.len() as u64, files: files.len() as u64, threads: number("Threads:")?, tasks };
    Some(Sample { at, anonymous_kib: number("RssAnon:")?, held })
}

/// How memory grew, in MiB an hour: the median of all slopes between two windows, and what it is at least with 95 % of
/// confidence (Theil and Sen).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slope {
    pub(crate) median: f64,
    pub(crate) least: f64,
}

/// When each window was, in hours, and the median of its samples, in MiB; one without samples is left out.
pub(crate) fn windows(samples: &[Sample]) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Vec::new() };
    let first = first.at.as_secs_f64();
    let width = (last.at.as_secs_f64() - first) / WINDOWS as f64;
    let window = |n: usize| {
        let from = first + n as f64 * width;
        let within = |sample: &&Sample| (from..from + width).contains(&sample.at.as_secs_f64());
        let mut found: Vec<u64> = samples.iter().filter(within).map(|sample| sample.anonymous_kib).collect();
        found.sort_unstable();
        let median = *found.get(found.len() / 2)?;
        Some(((from + width / 2.0) / 3600.0, median as f64 / 1024.0))
    };
    (0..WINDOWS).filter_map(window).collect()
}

/// The slope of windows; nothing if they are too few to say.
pub(crate) fn slope(windows: &[(f64, f64)]) -> Option<Slope> {
    let mut slopes = Vec::new();
    for (n, one) in windows.iter().enumerate() {
        slopes.extend(windows[n + 1..].iter().map(|other| (other.1 - one.1) / (other.0 - one.0)));
    }
    slopes.sort_by(f64::total_cmp);
    let at = |share: usize| slopes.get(slopes.len() * share / 100).copied();
    (windows.len() * 2 >= WINDOWS).then_some(Slope { median: at(50)?, least: at(LEAST_PERCENT)? })
}

#[test]
fn a_slope_is_found_in_noise_and_steps_that_come_and_go_are_none() {
    let made = |kib: &dyn Fn(u64) -> u64| {
        let sample = |second| Sample {
            at: Duration::from_secs(second),
            anonymous_kib: 50_000 + kib(second),
            held: Held::default(),
        };
        windows(&(0..7200).step_by(5).map(sample).collect::<Vec<_>>())
    };
    let noise = |second: u64| second * 7919 % 613;
    let leak = slope(&made(&|second| second * 2 + noise(second))).expect("enough");
    assert!((6.8..7.3).contains(&leak.median) && leak.least > 6.0, "{leak:?}");
    // A memtable that fills and is written out, and a burst.
    let teeth = slope(&made(&|second| second % 95 * 80 + if second / 60 == 50 { 90_000 } else { 0 })).expect("enough");
    assert!(teeth.median.abs() < 1.0 && teeth.least < 0.5, "{teeth:?}");
    assert!(slope(&made(&noise)[..5]).is_none());
}
