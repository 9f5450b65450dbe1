//! Metrics of jobs: what each found last, since when it is so, and what all of them have come to.

use reknit_core::Millis;
use reknit_core::agenda::{Job, Kept, Ran, RunVerdict};

use super::seconds;
use crate::cli::commands::jobs::shown::sides;
use crate::cli::daemon::Daemon;
use crate::cli::metrics::{
    CLASSES, DIFFERENCES, DURATION, ESTIMATED, EXIT_CODE, Kind, LAST_RUN, LAST_SUCCESS, LAST_SUCCESS_HELP, RECORDS,
    Text, VERDICT, WRITTEN,
};

const VERDICTS: [RunVerdict; 10] = [
    RunVerdict::InSync,
    RunVerdict::Converged,
    RunVerdict::Differs,
    RunVerdict::Sound,
    RunVerdict::Damaged,
    RunVerdict::Partial,
    RunVerdict::Undetermined,
    RunVerdict::Refused,
    RunVerdict::Cancelled,
    RunVerdict::Interrupted,
];

/// A job with its labels.
struct Of<'a> {
    labels: Vec<(&'a str, &'a str)>,
    job: &'a Job,
}

impl Of<'_> {
    fn kept(&self) -> &Kept {
        &self.job.kept
    }
}

/// Each job that is configured.
pub(super) fn all(daemon: &Daemon, text: &mut Text) {
    let view = daemon.view();
    let configured = view.jobs.iter().filter(|(_, job)| job.plan.is_some());
    let named: Vec<(&str, Vec<String>, &Job)> =
        configured.map(|(name, job)| (name.as_str(), sides(&view.config, name), job)).collect();
    let labelled = named.iter().map(|(name, sides, job)| {
        let of_sides = ["a", "b"].into_iter().zip(sides.iter().map(String::as_str));
        Of { labels: [("job", *name)].into_iter().chain(of_sides).collect(), job }
    });
    let all: Vec<Of<'_>> = labelled.collect();
    found(&all, text);
    since(&all, daemon.began(), text);
    schedule(&all, text);
}

/// Writes a family with what is known of each job.
fn each(text: &mut Text, all: &[Of<'_>], (name, help): (&str, &str), known: impl Fn(&Of<'_>) -> Option<f64>) {
    text.family(name, Kind::Gauge, help);
    for of in all {
        known(of).into_iter().for_each(|value| text.sample(&of.labels, value));
    }
}

/// The same with one label more.
fn parts<'l>(
    text: &mut Text,
    all: &[Of<'_>],
    (name, help): (&str, &str),
    label: &str,
    known: impl Fn(&Of<'_>) -> Vec<(&'l str, f64)>,
) {
    text.family(name, Kind::Gauge, help);
    for of in all {
        for (part, value) in known(of) {
            let labels: Vec<(&str, &str)> = of.labels.iter().copied().chain([(label, part)]).collect();
            text.sample(&labels, value);
        }
    }
}

/// What was found last.
fn found(all: &[Of<'_>], text: &mut Text) {
    parts(text, all, VERDICT, "verdict", |of| {
        let last = of.kept().last().map(|ran| ran.verdict);
        VERDICTS.map(|verdict| (verdict.name(), f64::from(u8::from(last == Some(verdict))))).into()
    });
    each(text, all, EXIT_CODE, |of| of.kept().last().map(|ran| f64::from(ran.exit)));
    each(text, all, DURATION, |of| {
        let last = of.kept().last().filter(|ran| !ran.end_unknown);
        last.map(|ran| seconds(ran.ended.saturating_sub(ran.began)))
    });
    parts(text, all, DIFFERENCES, "class", |of| {
        let Some(ran) = judged(of.kept()).filter(|ran| ran.equal() || !ran.classes.is_empty()) else {
            return Vec::new();
        };
        // What a repair found is no drift once both sides are equal; what is tolerated is there still.
        let open = |class: &str| !ran.equal() || class == "tolerated";
        let count = |class: &str| ran.classes.get(class).filter(|_| open(class)).copied().unwrap_or(0);
        CLASSES.map(|class| (class, count(class) as f64)).into()
    });
    each(text, all, ESTIMATED, |of| {
        let ran = judged(of.kept()).filter(|ran| !ran.equal() && ran.classes.is_empty());
        ran.and_then(|ran| ran.differences).map(|n| n as f64)
    });
    let two = |[a, b]: [u64; 2]| vec![("a", a as f64), ("b", b as f64)];
    parts(text, all, RECORDS, "side", |of| judged(of.kept()).and_then(|ran| ran.records).map(two).unwrap_or_default());
    parts(text, all, WRITTEN, "side", |of| of.kept().last().map(|ran| two(ran.written)).unwrap_or_default());
}

/// The last run that said of all of both sides whether they are equal.
fn judged(kept: &Kept) -> Option<&Ran> {
    kept.history.iter().rev().find(|ran| ran.equal() || ran.verdict == RunVerdict::Differs)
}

/// Since when.
fn since(all: &[Of<'_>], began: Millis, text: &mut Text) {
    let ended = |of: &Of<'_>, is: fn(&Ran) -> bool| {
        of.kept().history.iter().rev().find(|ran| is(ran)).map(|ran| seconds(ran.ended))
    };
    each(text, all, LAST_RUN, |of| ended(of, |ran| !ran.end_unknown));
    each(text, all, (LAST_SUCCESS, LAST_SUCCESS_HELP), |of| ended(of, |ran| ran.exit == 0));
    let proven = ("reknit_proven_timestamp_seconds", "When both sides were last proven equal.");
    each(text, all, proven, |of| of.kept().proven.map(seconds));
    let unproven = (
        "reknit_unproven_since_timestamp_seconds",
        "The same, or else when this process began, of a job that has run.",
    );
    each(text, all, unproven, |of| {
        let two = of.labels.iter().any(|(label, _)| *label == "b");
        of.kept().proven.or(of.kept().last().map(|_| began)).filter(|_| two).map(seconds)
    });
    let oldest = (
        "reknit_oldest_difference_timestamp_seconds",
        "When the oldest difference was first seen that is still open; nothing where none is.",
    );
    each(text, all, oldest, |of| of.kept().oldest().map(seconds));
    let unverified = (
        "reknit_oldest_unverified_range_timestamp_seconds",
        "When the sixteenth of the positions was last compared to its end that has waited longest, whatever was found.",
    );
    each(text, all, unverified, |of| of.kept().verified.oldest().map(seconds));
    let verified =
        ("reknit_verified_timestamp_seconds", "When a store was last read against its tree, whole, and found sound.");
    each(text, all, verified, |of| {
        // What an earlier release remembered has it among the runs alone.
        of.kept().sound.map(seconds).or_else(|| ended(of, |ran| ran.verdict == RunVerdict::Sound))
    });
    let pass = ("reknit_pass_ratio", "The share of a store that a pass has read which goes on with the next run.");
    each(text, all, pass, |of| of.kept().passing().map(|pass| f64::from(pass.share()) / 1e6));
}

/// What comes next.
fn schedule(all: &[Of<'_>], text: &mut Text) {
    let parked = ("reknit_parked_ranges", "Ranges that runs leave out, since a store could not answer for them.");
    each(text, all, parked, |of| Some(of.kept().parking.ranges() as f64));
    each(text, all, ("reknit_next_run_timestamp_seconds", "When the next run is due."), |of| {
        of.kept().due.filter(|_| of.kept().paused.is_none() && of.kept().running.is_none()).map(seconds)
    });
    let flag = |is: bool| Some(f64::from(u8::from(is)));
    each(text, all, ("reknit_running", "1 while a run has not ended."), |of| flag(of.kept().running.is_some()));
    each(text, all, ("reknit_paused", "1 while the job is paused."), |of| flag(of.kept().paused.is_some()));
    let failures = ("reknit_failed_runs", "Runs in a row of which nothing, or not all, can be said.");
    each(text, all, failures, |of| Some(f64::from(of.kept().failures)));
    text.family("reknit_missed_runs_total", Kind::Counter, "Times at which a run was due and none began.");
    all.iter().for_each(|of| text.sample(&of.labels, of.kept().missed as f64));
}

/// What all runs have come to.
pub(super) fn totals(daemon: &Daemon, text: &mut Text) {
    let totals = daemon.totals();
    text.family("reknit_runs_total", Kind::Counter, "Runs of jobs that have ended, by how.");
    for verdict in VERDICTS {
        let n = totals.runs.get(verdict.name()).copied().unwrap_or(0);
        text.sample(&[("verdict", verdict.name())], n as f64);
    }
    text.family("reknit_run_bytes_total", Kind::Counter, "What the sides of jobs said to each other, by kind.");
    for kind in ["messages", "records"] {
        text.sample(&[("kind", kind)], totals.bytes.get(kind).copied().unwrap_or(0) as f64);
    }
    text.family("reknit_run_records_total", Kind::Counter, "Records that runs wrote, and that were refused.");
    text.sample(&[("what", "written")], totals.written as f64);
    text.sample(&[("what", "refused")], totals.refused as f64);
}
