//! What Prometheus reads of a daemon: how far its pairs have drifted and since when, what its node does, and what is wrong.
//!
//! Everything is known already: no store is gone through for it, no other machine asked. How metrics are written is shared with
//! those of a command.

use crate::cli::daemon::Daemon;
use crate::cli::metrics::{Kind, Text};

/// What it is, for whoever reads it.
pub(super) const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything, as text.
pub(super) fn text(daemon: &Daemon) -> String {
    let mut text = Text::default();
    process(daemon, &mut text);
    text.finish()
}

fn process(daemon: &Daemon, text: &mut Text) {
    let version = env!("CARGO_PKG_VERSION");
    text.family("reknit_build_info", Kind::Gauge, "1, with the release.").sample(&[("version", version)], 1.0);
    let began = daemon.began() as f64 / 1000.0;
    text.family("process_start_time_seconds", Kind::Gauge, "When the process began.").sample(&[], began);
}
