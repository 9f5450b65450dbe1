//! Daemons of the real binary that gossip, run jobs and are written to, for minutes or hours, while all kinds of faults happen:
//! what they hold of memory, descriptors and tasks does not grow, all are equal in the end, and nothing acknowledged is lost.
//!
//! `REKNIT_SOAK_MINUTES` says how long (5), `REKNIT_SEED` which faults. `scripts/soak` runs it for hours.

#![cfg(target_os = "linux")]

mod cluster;
mod faults;
mod measures;
mod relay;
mod writers;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reknit::store::engine::conformance::Draw;

use crate::cluster::{Cluster, NODES, STEADY};
use crate::faults::Faults;
use crate::measures::{Held, Sample, Slope, sample, slope, windows};

/// What memory may grow by, in MiB an hour, in the second half of a soak of so many minutes. Before, all that is bounded fills up:
/// caches, what watchers may yet ask for, what gossip remembers.
const LONG_MINUTES: f64 = 30.0;
const SLOPE_MAX: f64 = 1.0;
/// MiB that a daemon may have at any time, which a shorter soak is judged by; those that were measured came to 74 in five minutes.
const MEMORY_MAX: f64 = 160.0;
/// Until all are equal, and have let go of what they held, once all is quiet.
const QUIET_MAX: Duration = Duration::from_secs(240);
/// How long is looked at what is held: longer than connections of those who were killed linger.
const QUIET: Duration = Duration::from_secs(40);
/// What a node may hold more than before, in sessions that happen to go on, and links that peers made to it rather than it to them.
const SLACK: u64 = 6;

fn variable<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn nothing_grows_and_nothing_is_lost_whatever_happens() {
    let (minutes, seed): (f64, u64) = (variable("REKNIT_SOAK_MINUTES", 5.0), variable("REKNIT_SEED", 1));
    let cluster = Cluster::new(seed);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| soak(&cluster, minutes, seed)));
    if let Err(why) = ran {
        println!("seed {seed}, {minutes} minutes; the daemons said:\n{}", cluster.logs());
        std::panic::resume_unwind(why);
    }
}

fn soak(cluster: &Cluster, minutes: f64, seed: u64) {
    let began = Instant::now();
    cluster.nodes.iter().for_each(cluster::Node::start);
    until("each knows the others", || cluster.nodes.iter().all(|node| up(&node.run("status").out) == NODES - 1));
    let (rest, end, resting) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let samples: [Mutex<Vec<Sample>>; STEADY] = Default::default();
    std::thread::scope(|scope| {
        // Whatever panics, the others end.
        let ending = Ending(&end);
        let (rest, end, resting, samples) = (&rest, &end, &resting, &samples);
        let writers: Vec<_> = (cluster.nodes.iter().enumerate())
            .map(|(nth, node)| {
                let seed = seed.wrapping_mul(1000) + nth as u64;
                scope.spawn(move || writers::write(node, nth, seed, rest, end, resting))
            })
            .collect();
        scope.spawn(move || watch(cluster, began, samples, end));
        let (mut draw, mut faults) = (Draw(seed), Faults::new());
        let mut storm = |minutes: f64, faults: &mut Faults| {
            let began = Instant::now();
            rest.store(false, Ordering::SeqCst);
            while began.elapsed().as_secs_f64() < minutes * 60.0 {
                faults::one(cluster, &mut draw, faults);
            }
            rest.store(true, Ordering::SeqCst);
            until("the writers rest", || resting.load(Ordering::SeqCst) == (1 << NODES) - 1);
            let stormed = began.elapsed().as_secs();
            until("all are equal", || {
                let roots: Vec<String> = cluster.nodes.iter().map(|node| node.root()).collect();
                roots.iter().all(|root| *root == roots[0])
            });
            println!("{stormed} s of faults, all equal {} s later", began.elapsed().as_secs() - stormed);
        };
        // What each holds is known after all has happened, and compared when it has happened again.
        storm(minutes / 5.0, &mut faults);
        let before = quiet(cluster, None);
        storm(minutes - minutes / 5.0, &mut faults);
        let after = quiet(cluster, Some(&before));
        let took = began.elapsed();
        drop(ending);
        let written: Vec<_> = writers.into_iter().map(|writer| writer.join().expect("it wrote")).collect();
        for node in &cluster.nodes {
            node.done("verify s");
            let records = node.done("export s --format kv");
            let records = records.lines().filter_map(|line| line.split_once('\t'));
            let held: BTreeMap<String, String> = records.map(|(key, value)| (key.into(), value.into())).collect();
            writers::assert_nothing_lost(&held, &written, seed);
        }
        cluster.nodes.iter().for_each(|node| node.signal("-TERM"));
        for node in &cluster.nodes {
            assert_eq!(node.ended(), Some(0), "a daemon that was asked to end and did is done");
        }
        let acknowledged: u64 = written.iter().map(|written| written.acknowledged).sum();
        let happened: u64 = faults.values().sum();
        for (n, (before, after)) in before.iter().zip(&after).enumerate() {
            println!("node {n} held {before:?}, then {after:?}");
        }
        let slopes: Vec<Slope> =
            samples.iter().map(|of| grown(&of.lock().expect("no panic there"), took / 2)).collect();
        println!("faults: {faults:?}");
        println!(
            "soak: seed {seed}, {minutes} minutes, {happened} faults, {acknowledged} writes, slopes {}",
            slopes.iter().map(|slope| format!("{:.2}", slope.median)).collect::<Vec<_>>().join(" and ")
        );
        if minutes >= LONG_MINUTES {
            slopes.iter().for_each(assert_steady);
        }
        if minutes >= 4.0 {
            faults::assert_all(&faults);
        }
    });
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < QUIET_MAX, "it never was so that {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Peers that are up, as `status` tells.
fn up(status: &str) -> usize {
    status.lines().filter(|line| line.contains(" is up at ")).count()
}

/// Looks at those that are never killed until the end.
fn watch(cluster: &Cluster, began: Instant, samples: &[Mutex<Vec<Sample>>], end: &AtomicBool) {
    while !end.load(Ordering::SeqCst) {
        for (node, samples) in cluster.nodes.iter().zip(samples) {
            let found = node.living().and_then(|living| sample(&living, began.elapsed()));
            samples.lock().expect("no panic there").extend(found);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// What each node holds while nothing but jobs and gossip goes on: the medians over [`QUIET`], again until they are no more than
/// before.
fn quiet(cluster: &Cluster, before: Option<&[Held]>) -> Vec<Held> {
    let began = Instant::now();
    loop {
        let (looking, mut samples) = (Instant::now(), vec![Vec::new(); NODES]);
        while looking.elapsed() < QUIET {
            for (node, samples) in cluster.nodes.iter().zip(&mut samples) {
                let found = node.living().and_then(|living| sample(&living, Duration::ZERO));
                samples.extend(found.map(|sample| sample.held));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        let held: Vec<Held> = samples.iter().map(|samples| Held::median(samples).expect("it answers")).collect();
        let grown = |(held, before): (&Held, &Held)| {
            held.tasks > before.tasks + SLACK || held.descriptors > before.descriptors + SLACK
        };
        if !before.is_some_and(|before| held.iter().zip(before).any(grown)) {
            return held;
        }
        assert!(began.elapsed() < QUIET_MAX, "{held:?} is held where {before:?} was");
    }
}

/// How the memory of a node went, and how it grew once it was warm; printed, and in the end no more than it may.
fn grown(samples: &[Sample], warm: Duration) -> Slope {
    let told: Vec<String> = windows(samples).iter().map(|(_, mib)| format!("{mib:.1}")).collect();
    let most = samples.iter().map(|sample| sample.anonymous_kib).max().expect("samples") as f64 / 1024.0;
    let warm: Vec<Sample> = samples.iter().filter(|sample| sample.at > warm).copied().collect();
    let slope = slope(&windows(&warm)).expect("samples");
    println!("{} samples, MiB: {}; {most:.1} at most, {slope:?}", samples.len(), told.join(" "));
    assert!(most <= MEMORY_MAX, "memory came to {most} MiB, and {MEMORY_MAX} are allowed");
    slope
}

/// Panics if memory beyond doubt grew by more than it may.
fn assert_steady(slope: &Slope) {
    assert!(slope.least <= SLOPE_MAX, "memory grows by {slope:?} MiB an hour, and {SLOPE_MAX} are allowed");
}
