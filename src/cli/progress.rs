//! How far a long command is: a bar for a person, one plain line a minute for a log, nothing if quiet.
//!
//! What counts as done is the command's concern.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::env::Env;
use super::units::{show_count, show_duration};

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Tells how far a command is, on stderr. What a bar drew goes when it is dropped.
pub(crate) struct Progress<'a> {
    err: &'a mut (dyn Write + Send),
    /// What is being done, and to what.
    what: &'static str,
    show: Show,
}

enum Show {
    Nothing,
    Bar { bar: ProgressBar, known: bool },
    Lines { began: Instant, told: Duration },
}

impl<'a> Progress<'a> {
    /// Begins to tell of `what`: a verb and what is counted.
    pub(crate) fn new(env: &'a mut Env, what: &'static str) -> Progress<'a> {
        let show = if env.global.quiet {
            Show::Nothing
        } else if env.terminal && env.text() {
            Show::Bar { bar: ProgressBar::no_length(), known: false }
        } else {
            Show::Lines { began: Instant::now(), told: Duration::ZERO }
        };
        let progress = Progress { err: &mut *env.err, what, show };
        progress.describe();
        progress
    }

    /// Goes on with something else.
    pub(crate) fn turn_to(&mut self, what: &'static str) {
        if self.what != what {
            self.what = what;
            self.describe();
        }
    }

    /// Says something in between, unless nothing is to be said.
    pub(crate) fn say(&mut self, line: &str) {
        match &self.show {
            Show::Nothing => {}
            Show::Bar { bar, .. } => bar.println(line),
            Show::Lines { .. } => {
                let _ = writeln!(self.err, "{line}");
            }
        }
    }

    /// So many are done, of so many if that is known.
    pub(crate) fn at(&mut self, done: u64, total: Option<u64>) {
        match &mut self.show {
            Show::Nothing => {}
            Show::Bar { bar, known } => {
                if let Some(total) = total {
                    bar.set_length(total.max(done));
                }
                bar.set_position(done);
                if bar.length().is_some() != *known {
                    *known = !*known;
                    self.describe();
                }
            }
            Show::Lines { began, told } => {
                let now = began.elapsed();
                if now >= *told + LINE_EVERY {
                    *told = now;
                    let of = total.map(|total| format!(" of {}", show_count(total))).unwrap_or_default();
                    // As it went until now; more than was expected is no reason to promise an end.
                    let left = total.filter(|total| *total > done && done > 0);
                    let left = left.map(|total| now.mul_f64((total - done) as f64 / done as f64));
                    let left = left.map(|left| format!(", about {} left", show_duration(left))).unwrap_or_default();
                    let (what, done) = (self.what, show_count(done));
                    // Whoever does not listen to progress may still want the result.
                    let _ = writeln!(self.err, "reknit: {what}: {done}{of} after {} s{left}", now.as_secs());
                }
            }
        }
    }

    fn describe(&self) {
        if let Show::Bar { bar, known } = &self.show {
            let template = if *known {
                "{msg} [{wide_bar}] {human_pos} of {human_len}, {rate}, {eta} left"
            } else {
                "{msg} {human_pos}, {rate}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                let rate = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                    // Only a text in memory is written to.
                    let _ = write!(text, "{}/s", show_count(state.per_sec() as u64));
                };
                bar.set_style(style.progress_chars("=> ").with_key("rate", rate));
            }
            bar.set_message(self.what);
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Show::Bar { bar, .. } = &self.show {
            bar.finish_and_clear();
        }
    }
}
