//! What a command found, in a file for the textfile collector of Prometheus' node_exporter: replaced whole, or left as it was.
//!
//! What is found is the session's; when a file is read, and what is worth an alert, is for whoever reads it.

mod text;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reknit_core::agenda::{OpenKeys, Unproven};
use reknit_core::session::Verdict;

use self::text::labelled;
pub(crate) use self::text::{Kind, Text};
use super::{CliError, Exit};

/// Bytes of an earlier file that are looked at for the time of the last success.
const EARLIER_BYTES_MAX: u64 = 1 << 20;
pub(crate) const LAST_SUCCESS: &str = "reknit_last_success_timestamp_seconds";
pub(crate) const LAST_SUCCESS_HELP: &str = "When the last run ended that exited 0.";
pub(crate) const VERDICT: Named = ("reknit_verdict", "1 for the verdict of the last run; 0 for all if it has none.");
pub(crate) const EXIT_CODE: Named =
    ("reknit_exit_code", "How the last run ended: 0 done, 1 differs, 2 cannot judge, 3 undetermined, 4 refused.");
pub(crate) const DURATION: Named = ("reknit_duration_seconds", "How long the last run took.");
pub(crate) const LAST_RUN: Named = ("reknit_last_run_timestamp_seconds", "When the last run ended.");
pub(crate) const DIFFERENCES: Named = ("reknit_differences", "Keys that differed.");
pub(crate) const ESTIMATED: Named = ("reknit_estimated_differences", "Keys that differed, about, of a check.");
pub(crate) const RECORDS: Named = ("reknit_records", "Records of a side that were compared.");
pub(crate) const WRITTEN: Named = ("reknit_written_records", "Records that were written to a side.");
/// How keys can differ.
pub(crate) const CLASSES: [&str; 7] = ["only_a", "only_b", "a_newer", "b_newer", "versions", "content", "tolerated"];
const TRANSFERRED: &str = "reknit_transferred_bytes";
const VERDICTS: [Verdict; 6] =
    [Verdict::InSync, Verdict::Converged, Verdict::Differs, Verdict::Partial, Verdict::Undetermined, Verdict::Refused];

/// A metric's name, and what it is.
type Named = (&'static str, &'static str);

/// What a session found.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) verdict: Verdict,
    /// Keys that differ, by how they do, if they were listed.
    pub(crate) differences: Vec<(&'static str, u64)>,
    /// How many differ, likely, if they were not.
    pub(crate) estimate: Option<u64>,
    /// Whether that is no more than likely.
    pub(crate) estimated: bool,
    /// Records of `a` and of `b`.
    pub(crate) records: [u64; 2],
    /// Records written to `a` and to `b`.
    pub(crate) written: [u64; 2],
    /// Bytes of messages and of records, in both directions.
    pub(crate) bytes: [(&'static str, u64); 2],
    /// Records that were refused.
    pub(crate) refused: u64,
    /// Records that go only once other tables were written.
    pub(crate) later: u64,
    /// The keys that differ, if they were listed: how long each has is told by them.
    pub(crate) seen: Option<OpenKeys>,
    /// Where nothing was proven, if it ended before its end.
    pub(crate) unproven: Unproven,
    /// Parked ranges that were left out, if all else was compared to its end.
    pub(crate) left_out: u64,
    /// Of each sixteenth of all positions whether it was compared to its end.
    pub(crate) verified: u16,
}

impl Measured {
    /// What sessions found together of two tables.
    pub(crate) fn and(mut self, other: Measured) -> Measured {
        let worse =
            |verdict| Exit::of_verdict(verdict).or(Exit::of_verdict(self.verdict)) != Exit::of_verdict(self.verdict);
        if worse(other.verdict) {
            self.verdict = other.verdict;
        }
        self.add_moved(&other);
        self.records.iter_mut().zip(other.records).for_each(|(sum, n)| *sum += n);
        self.estimate = self.estimate.into_iter().chain(other.estimate).reduce(|one, other| one + other);
        self.estimated |= other.estimated;
        for (class, n) in other.differences {
            match self.differences.iter_mut().find(|(known, _)| *known == class) {
                Some(known) => known.1 += n,
                None => self.differences.push((class, n)),
            }
        }
        self.refused += other.refused;
        self.later += other.later;
        self.unproven.ranges.extend(other.unproven.ranges);
        self.unproven.more += other.unproven.more;
        self.left_out += other.left_out;
        self.verified &= other.verified;
        // Keys of several tables are not told apart.
        self.seen = None;
        self
    }

    /// What two sessions found of one table, one after the other: what differed before them, and how it is after them.
    pub(crate) fn then(mut self, last: Measured) -> Measured {
        self.add_moved(&last);
        Measured {
            differences: self.differences,
            estimate: self.estimate,
            estimated: self.estimated,
            records: self.records,
            written: self.written,
            bytes: self.bytes,
            ..last
        }
    }

    fn add_moved(&mut self, other: &Measured) {
        self.written.iter_mut().zip(other.written).for_each(|(sum, n)| *sum += n);
        self.bytes.iter_mut().zip(other.bytes).for_each(|(sum, (_, n))| sum.1 += n);
    }
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) job: Option<&'a str>,
    /// The two sides, without passwords, if they are known.
    pub(crate) sides: Option<[String; 2]>,
    pub(crate) measured: Option<&'a Measured>,
    pub(crate) exit: Exit,
    pub(crate) took: Duration,
    /// When it ended, in seconds since the Unix epoch.
    pub(crate) at: i64,
}

/// Writes the file.
///
/// # Errors
/// `metrics.file`: the file is as it was.
pub(crate) fn write(path: &Path, ended: &Ended<'_>) -> Result<(), CliError> {
    let text = text(ended, &earlier(path));
    let mut new = path.as_os_str().to_os_string();
    // The collector reads only what ends in .prom.
    new.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(new);
    let written = std::fs::File::create(&new).and_then(|mut file| file.write_all(text.as_bytes()));
    written.and_then(|()| std::fs::rename(&new, path)).map_err(|error| {
        // Where it could not be made there is none to remove.
        let _ = std::fs::remove_file(&new);
        let message = format!("{} cannot be written: {error}; the metrics there are of an earlier run", path.display());
        CliError::new("metrics.file", message)
    })
}

/// What an earlier run has left there.
fn earlier(path: &Path) -> String {
    let small = std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= EARLIER_BYTES_MAX);
    if small { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() }
}

/// The text; what an earlier one says of the last success holds until the next.
fn text(ended: &Ended<'_>, earlier: &str) -> String {
    let mut of: Vec<(&str, &str)> = ended.job.map(|job| ("job", job)).into_iter().collect();
    if let Some([a, b]) = &ended.sides {
        of.extend([("a", &**a), ("b", &**b)]);
    }
    let before = format!("{LAST_SUCCESS}{} ", labelled(&of, &[]));
    let before = earlier.lines().find_map(|line| line.strip_prefix(&before)?.parse::<f64>().ok());
    let mut text = Text::of(&of);
    let mut metric = |name: &str, help: &str, samples: &[(&[(&str, &str)], f64)]| {
        if !samples.is_empty() {
            let family = text.family(name, Kind::Gauge, help);
            samples.iter().for_each(|(labels, value)| family.sample(labels, *value));
        }
    };
    let verdict = ended.measured.map(|measured| measured.verdict).or(match ended.exit {
        Exit::Refused => Some(Verdict::Refused),
        Exit::Undetermined | Exit::Interrupted | Exit::Terminated => Some(Verdict::Undetermined),
        _ => None,
    });
    let is = |each: Verdict| f64::from(u8::from(verdict == Some(each)));
    let verdicts = VERDICTS.map(|each| ([("verdict", each.name())], is(each)));
    metric(VERDICT.0, VERDICT.1, &samples(&verdicts));
    metric(EXIT_CODE.0, EXIT_CODE.1, &[(&[], f64::from(ended.exit.number()))]);
    metric(DURATION.0, DURATION.1, &[(&[], ended.took.as_secs_f64())]);
    metric(LAST_RUN.0, LAST_RUN.1, &[(&[], ended.at as f64)]);
    let success = if ended.exit == Exit::Done { Some(ended.at as f64) } else { before };
    let success: Vec<(&[(&str, &str)], f64)> = success.map(|at| (&[][..], at)).into_iter().collect();
    metric(LAST_SUCCESS, LAST_SUCCESS_HELP, &success);
    if let Some(measured) = ended.measured {
        let sides = |[a, b]: [u64; 2]| [([("side", "a")], a as f64), ([("side", "b")], b as f64)];
        let counted = |counts: &[(&'static str, u64)], label: &'static str| -> Vec<_> {
            counts.iter().map(|(name, n)| ([(label, *name)], *n as f64)).collect()
        };
        let differences = counted(&measured.differences, "class");
        metric(DIFFERENCES.0, DIFFERENCES.1, &samples(&differences));
        let estimate: Vec<(&[(&str, &str)], f64)> =
            measured.estimate.map(|n| (&[][..], n as f64)).into_iter().collect();
        metric(ESTIMATED.0, ESTIMATED.1, &estimate);
        metric(RECORDS.0, RECORDS.1, &samples(&sides(measured.records)));
        metric(WRITTEN.0, WRITTEN.1, &samples(&sides(measured.written)));
        let bytes = counted(&measured.bytes, "kind");
        metric(TRANSFERRED, "What the two sides said to each other.", &samples(&bytes));
    }
    text.finish()
}

fn samples<'a>(all: &'a [([(&'a str, &'a str); 1], f64)]) -> Vec<(&'a [(&'a str, &'a str)], f64)> {
    all.iter().map(|(labels, value)| (&labels[..], *value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn the_last_success_is_kept_by_runs_that_fail() {
        let ended = |exit, at| Ended {
            job: Some("j"),
            sides: None,
            measured: None,
            exit,
            took: Duration::from_millis(1500),
            at,
        };
        let first = text(&ended(Exit::Done, 100), "");
        assert!(first.contains("reknit_last_success_timestamp_seconds{job=\"j\"} 100\n"), "{first}");
        let second = text(&ended(Exit::CannotJudge, 200), &first);
        assert!(second.contains("reknit_last_success_timestamp_seconds{job=\"j\"} 100\n"), "{second}");
        assert!(second.contains("reknit_last_run_timestamp_seconds{job=\"j\"} 200\n"), "{second}");
        assert!(second.contains("reknit_duration_seconds{job=\"j\"} 1.5\n"), "{second}");
        let other = Ended { job: Some("other"), ..ended(Exit::CannotJudge, 300) };
        assert!(!text(&other, &first).contains("success"), "it never had any");
    }
}
