//! What Prometheus reads of a daemon: how far its pairs have drifted and since when, what its node does, and what is wrong.
//!
//! Everything is known already: no store is gone through for it, no other machine asked. How metrics are written is shared with
//! those of a command. What is not known has no sample.

mod jobs;
mod node;

use std::collections::BTreeMap;

use crate::cli::daemon::Daemon;
use crate::cli::daemon::trouble::ABOUT;
use crate::cli::metrics::{Kind, Text};

/// What it is, for whoever reads it.
pub(super) const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The parts of the text, each with families of its own.
const PARTS: &[fn(&Daemon, &mut Text)] = &[
    process,
    trouble,
    jobs::all,
    jobs::totals,
    node::stores,
    node::indexes,
    node::sessions,
    node::gossip,
    node::queues,
];

/// Everything, as text.
pub(super) fn text(daemon: &Daemon) -> String {
    let mut text = Text::default();
    PARTS.iter().for_each(|part| part(daemon, &mut text));
    text.finish()
}

fn process(daemon: &Daemon, text: &mut Text) {
    let version = env!("CARGO_PKG_VERSION");
    text.family("reknit_build_info", Kind::Gauge, "1, with the release.").sample(&[("version", version)], 1.0);
    let began = daemon.began() as f64 / 1000.0;
    text.family("process_start_time_seconds", Kind::Gauge, "When the daemon began.").sample(&[], began);
    let ready = f64::from(u8::from(daemon.not_ready().is_empty()));
    text.family("reknit_ready", Kind::Gauge, "1 where jobs are begun when they are due, and nothing is ending.");
    text.sample(&[], ready);
    // In kB, where the system tells.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
    text.family("process_resident_memory_bytes", Kind::Gauge, "Memory that is resident.");
    resident.into_iter().for_each(|kilobytes: f64| text.sample(&[], kilobytes * 1024.0));
    // The directory that is read is one of them.
    let open = std::fs::read_dir("/proc/self/fd").map(|files| files.count().saturating_sub(1));
    text.family("process_open_fds", Kind::Gauge, "Descriptors that are open.");
    open.into_iter().for_each(|n| text.sample(&[], n as f64));
    let tasks = tokio::runtime::Handle::try_current().map(|runtime| runtime.metrics().num_alive_tasks());
    text.family("reknit_tasks", Kind::Gauge, "Tasks of the runtime that have not ended.");
    tasks.into_iter().for_each(|n| text.sample(&[], n as f64));
}

fn trouble(daemon: &Daemon, text: &mut Text) {
    let mut counts: BTreeMap<String, u64> = ABOUT.iter().map(|about| (about.to_string(), 0)).collect();
    for trouble in daemon.troubles() {
        *counts.entry(trouble.about).or_default() += 1;
    }
    text.family("reknit_trouble", Kind::Gauge, "Things that somebody should look at, by what they are about.");
    for (about, n) in counts {
        text.sample(&[("about", &about)], n as f64);
    }
}

/// Milliseconds since the epoch as Prometheus has them.
fn seconds(millis: reknit_core::Millis) -> f64 {
    millis as f64 / 1000.0
}
