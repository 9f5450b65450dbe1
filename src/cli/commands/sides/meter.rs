//! How far a session is: a bar on a terminal, a plain line a minute otherwise.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use reknit_core::session::Counts;

use crate::cli::env::Env;
use crate::cli::units::show_count;

/// How often progress is told where no terminal shows a bar.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A bar on a terminal, a plain line a minute otherwise.
pub(super) struct Meter {
    bar: Option<ProgressBar>,
    told: Instant,
    quiet: bool,
}

impl Meter {
    pub(super) fn new(env: &Env) -> Meter {
        let quiet = env.global.quiet;
        let bar = (env.terminal && !quiet).then(|| {
            let bar = ProgressBar::new(100);
            let style = ProgressStyle::with_template("{bar:30} {pos:>3} % compared  {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Meter { bar, told: Instant::now(), quiet }
    }

    pub(super) fn tell(&mut self, counts: &Counts, coverage: u32) {
        let moved = counts.to_mine.applied + counts.to_theirs.applied;
        let message = || format!("{} differ, {} moved", show_count(counts.differences()), show_count(moved));
        if let Some(bar) = &self.bar {
            bar.set_position(u64::from(coverage / 10_000));
            bar.set_message(message());
        } else if !self.quiet && self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            eprintln!("reknit: {} % compared, {}", coverage / 10_000, message());
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
