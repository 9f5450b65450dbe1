//! A job and its runs, as people and machines read them.
//!
//! What is known of them is the agenda's.

use std::time::Duration;

use reknit_core::Millis;
use reknit_core::agenda::{DayBudget, Job, Limit, Parked, RANGES_KEPT_MAX, Ran, RunVerdict, Unmet, Unproven};
use reknit_core::objective::{Objective, State};
use reknit_core::schedule::{At, Window};
use serde_json::{Value, json};

use crate::cli::commands::sides::{plural, unproven, unproven_object};
use crate::cli::config::{Config, Does};
use crate::cli::objectives;
use crate::cli::units::{show_bytes, show_count, show_duration, show_time, typed_duration};

/// A job as it is seen at a moment.
pub(crate) struct Seen<'a> {
    pub(crate) name: &'a str,
    pub(crate) job: &'a Job,
    pub(crate) config: &'a Config,
    pub(crate) now: Millis,
    /// Whether a daemon runs it.
    pub(crate) live: bool,
}

impl Seen<'_> {
    /// What it does at the moment.
    fn state(&self) -> &'static str {
        let (job, kept) = (self.job, &self.job.kept);
        match (&job.plan, kept.running) {
            (_, Some(_)) => "running",
            (None, _) => "not_configured",
            _ if kept.asked && job.used_up(self.now).is_none() => "asked",
            _ if kept.paused.is_some() => "paused",
            _ if job.used_up(self.now).is_some() => "budget_used_up",
            (Some(_), _) if kept.due.is_none() => "by_hand",
            _ if kept.due.is_some_and(|due| due <= self.now) => "due",
            _ => "waiting",
        }
    }

    /// What is wrong with it, in words.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let kept = &self.job.kept;
        let mut all = Vec::new();
        if kept.last().is_some_and(|ran| !self.waits_for_tomorrow(ran)) {
            all.extend(self.ended_badly());
        }
        all.extend(self.parked_words());
        all.extend(self.job.unmet().map(|unmet| format!("{}: a run takes {}", self.name, self.unmet(unmet))));
        let broken = self.objective().and_then(|objective| objectives::broken(&objective, " and never was", self.now));
        all.extend(broken.map(|broken| format!("{}: {broken}", self.name)));
        if let Some(begun) = kept.running.filter(|begun| begun.until < self.now) {
            let late = self.ago(begun.until);
            let why = since(begun.limit);
            all.push(format!("{}: run {} was to have ended {late} ago{why}, and was told to", self.name, begun.number));
        }
        all
    }

    /// How its last runs ended, where that is no verdict, or a bad one.
    pub(crate) fn ended_badly(&self) -> Option<String> {
        let kept = &self.job.kept;
        let bad = |ran: &&Ran| ran.failed() || matches!(ran.verdict, RunVerdict::Refused | RunVerdict::Damaged);
        let ran = kept.last().filter(bad)?;
        let alike = |n: u32| kept.history.iter().rev().take(n as usize).all(|earlier| earlier.verdict == ran.verdict);
        let times = match kept.failures {
            0 | 1 => "its last run".to_string(),
            n if alike(n) => format!("{n} runs in a row"),
            n => format!("{n} runs in a row came to nothing; the last"),
        };
        let why = ran.error.as_ref().map_or(String::new(), |(id, message)| format!(": {message} [{id}]"));
        Some(format!("{}: {times} ended {}{why}", self.name, words(ran.verdict)))
    }

    /// Whether a run ended as its day's budget is meant to end it, and the next one waits for tomorrow's. Sides that never come to
    /// be proven equal so are told of by their objective.
    fn waits_for_tomorrow(&self, ran: &Ran) -> bool {
        let ended_so = match (ran.limit, &ran.error) {
            (Some(limit), _) => limit == Limit::Day,
            // The session kept to what was left.
            (None, error) => ran.verdict == RunVerdict::Partial && error.is_none(),
        };
        ended_so && ran.failed() && self.job.used_up(self.now).is_some()
    }

    /// How long a run takes, and what of its schedule cannot be kept so.
    fn unmet(&self, unmet: Unmet) -> String {
        let shown = |millis| show_duration(Duration::from_millis(millis));
        let every = matches!(self.job.plan.as_ref().and_then(|plan| plan.schedule.at.as_ref()), Some(At::Every(_)));
        match unmet {
            Unmet::Interval { took, interval } if every => {
                format!("{}, which every {} cannot be met with", shown(took), shown(interval))
            }
            Unmet::Interval { took, interval } => {
                format!("{}, and {} after one of its times is the next", shown(took), shown(interval))
            }
            Unmet::Window { took, window } if took <= window => {
                format!("longer than the {} that it has until its window closes", shown(window))
            }
            Unmet::Window { took, window } => {
                format!("{}, and it has {} until its window closes", shown(took), shown(window))
            }
        }
    }

    /// One line.
    pub(crate) fn line(&self) -> String {
        let kept = &self.job.kept;
        let verdict = match kept.last() {
            None => "not run yet".to_string(),
            Some(ran) if ran.end_unknown => format!("{} ({})", words(ran.verdict), no_end(ran, self.now)),
            Some(ran) => format!("{}{} ({} ago)", words(ran.verdict), counted(ran), self.ago(ran.ended)),
        };
        let open = kept.oldest().map_or(String::new(), |at| format!(", open for {}", self.ago(at)));
        let proven = match kept.proven {
            Some(at) if kept.last().is_some_and(|ran| !ran.equal()) => format!(", equal {} ago", self.ago(at)),
            _ => String::new(),
        };
        format!("{}\t{verdict}{open}{proven}; {}", self.name, self.next())
    }

    /// Several lines.
    pub(crate) fn whole(&self) -> String {
        let kept = &self.job.kept;
        let does = self.does().map_or(String::new(), |(command, sides)| format!("\n{command} {}", sides.join(" ")));
        let when = self.config.jobs.get(self.name).map_or(String::new(), |job| job.when.told());
        let when = if when.is_empty() { String::new() } else { format!("\ndue {when}") };
        let wanted = self.objective().map_or(String::new(), |objective| {
            let within = typed_duration(objective.within);
            let state = match objective.state {
                State::Met => "which is met",
                State::AtRisk => "which is at risk",
                State::Broken => "which is broken",
            };
            format!("\nwanted: proven equal within {within}, {state}")
        });
        let tuned = self.tuned_words().map_or(String::new(), |tuned| format!("\ntuned {tuned}"));
        let budget = self.budget_words().map_or(String::new(), |budget| format!("\n{budget}"));
        let runs = format!("\n{} runs, {} missed", show_count(kept.runs), show_count(kept.missed));
        let left = kept.last().map_or(String::new(), |ran| match ran.unproven.is_empty() {
            true => String::new(),
            false => format!("\nunproven at its last run: {}", unproven(&ran.unproven)),
        });
        let pass = kept.passing().map_or(String::new(), |pass| {
            let (began, records) = (self.ago(pass.began), show_count(pass.records));
            format!("\nread so far: {} %, {records} records, in a pass that began {began} ago", pass.share() / 10_000)
        });
        let parked: String = self.parked_lines().iter().map(|line| format!("\n{line}")).collect();
        let wrong: String = self.wrong().iter().map(|wrong| format!("\nwrong: {wrong}")).collect();
        format!("{}{does}{when}{wanted}{tuned}{budget}{runs}{left}{pass}{parked}{wrong}", self.line())
    }

    /// For machines.
    pub(crate) fn object(&self) -> Value {
        let kept = &self.job.kept;
        let when = self.config.jobs.get(self.name).map(|job| &job.when);
        let schedule = self.job.plan.as_ref().map(|plan| &plan.schedule);
        let (command, sides) = self.does().unzip();
        let sides = sides.unwrap_or_default();
        let objective = self.objective().as_ref().map(objectives::object);
        let running = kept.running.map(|begun| {
            json!({
                "run": begun.number, "began_ms": begun.began, "until_ms": begun.until, "cause": begun.cause.name(),
            })
        });
        let last = kept.last();
        let differing = last.filter(|ran| ran.verdict == RunVerdict::Differs);
        json!({
            "t": "job",
            "job": self.name,
            "state": self.state(),
            "does": command,
            "a": sides.first(),
            "b": sides.get(1),
            "at": schedule.and_then(|schedule| schedule.at.as_ref()).map(|at| at.to_string()),
            "clock": when.and_then(|when| when.zone.clone()),
            "windows": schedule.map_or(Vec::new(), |schedule| schedule.windows.iter().map(Window::to_string).collect()),
            "jitter_ms": schedule.map_or(0, |schedule| schedule.jitter),
            "tuned": json!({
                "at": kept.tuned.at, "jitter_ms": kept.tuned.jitter, "max_time_ms": kept.tuned.max_time,
                "max_bytes": kept.tuned.max_bytes, "max_time_per_day_ms": kept.tuned.max_time_per_day,
                "max_bytes_per_day": kept.tuned.max_bytes_per_day,
            }),
            "budget": self.budget(),
            "next_ms": self.job.begins(self.now).filter(|_| kept.paused.is_none() && kept.running.is_none()),
            "paused_ms": kept.paused,
            "running": running,
            "runs": kept.runs,
            "missed": kept.missed,
            "failures": kept.failures,
            "verdict": last.map(|ran| ran.verdict.name()),
            "last_ms": last.and_then(end),
            "proven_ms": kept.proven,
            "objective": objective,
            "open": differing.and_then(|ran| ran.differences),
            "open_estimated": differing.is_some_and(|ran| ran.estimated),
            "oldest_ms": kept.oldest(),
            "parked": kept.parking.all().iter().map(parked_object).collect::<Vec<_>>(),
            "unverified_ms": kept.verified.oldest(),
            "pass": kept.passing().map(|pass| {
                json!({
                    "began_ms": pass.began, "share": f64::from(pass.share()) / 1e6, "records": pass.records,
                    "faults": pass.wrong(),
                })
            }),
            "wrong": self.wrong(),
        })
    }

    /// What is parked, in a line.
    fn parked_words(&self) -> Option<String> {
        let parking = &self.job.kept.parking;
        let (n, since) = (parking.ranges(), self.ago(parking.since()?));
        let why = parking.all().first().map(|parked| &parked.reason.1)?;
        let more = if parking.all().len() > 1 { ", and more" } else { "" };
        Some(format!(
            "{}: {} parked range{}, for {since}, left out so that the rest goes on: {why}{more}",
            self.name,
            show_count(n as u64),
            plural(n as u64)
        ))
    }

    /// A line for each that is parked.
    fn parked_lines(&self) -> Vec<String> {
        let line = |parked: &Parked| {
            let ranges = unproven(&named(parked));
            let since = self.ago(parked.since);
            let tried = match parked.tries {
                0 => "it is looked for which of them".to_string(),
                n => format!("tried {n} time{}, again {}", plural(u64::from(n)), self.later(parked.next)),
            };
            format!("parked for {since}: {ranges}; {tried}: {} [{}]", parked.reason.1, parked.reason.0)
        };
        self.job.kept.parking.all().iter().map(line).collect()
    }

    fn objective(&self) -> Option<Objective> {
        self.job.objective(self.now)
    }

    /// The command, and its sides without passwords.
    fn does(&self) -> Option<Does> {
        self.config.does(self.name)
    }

    /// What comes next.
    fn next(&self) -> String {
        let kept = &self.job.kept;
        let due = kept.due.map_or(String::new(), |due| match due.checked_sub(self.now) {
            Some(later) if later > 0 => format!("next in {}", show_duration(Duration::from_millis(later))),
            _ if self.live => "due now".to_string(),
            _ => "due when a daemon runs".to_string(),
        });
        match self.state() {
            "running" => {
                let began = kept.running.map_or(self.now, |begun| begun.began);
                format!("running for {}", self.ago(began))
            }
            "paused" => format!("paused for {}", self.ago(kept.paused.unwrap_or(self.now))),
            "not_configured" => "no longer configured".into(),
            "by_hand" => "run by hand".into(),
            "asked" => "begins as soon as it can".into(),
            "budget_used_up" => {
                let until = self.job.used_up(self.now).unwrap_or(self.now);
                format!("budget used up until {} ({})", show_time(until), self.later(until))
            }
            _ => due,
        }
    }

    fn tuned_words(&self) -> Option<String> {
        let tuned = &self.job.kept.tuned;
        let millis = |name: &str, millis: Option<Millis>| {
            millis.map(|millis| format!("{name} {}", show_duration(Duration::from_millis(millis))))
        };
        let bytes = tuned.max_bytes.map(|bytes| format!("at most {}", show_bytes(bytes)));
        let time_a_day = tuned.max_time_per_day.map(|time| format!("{} a day", typed_duration(time)));
        let bytes_a_day = tuned.max_bytes_per_day.map(|bytes| format!("{} a day", show_bytes(bytes)));
        let parts = [tuned.at.clone(), millis("jitter", tuned.jitter), millis("at most", tuned.max_time), bytes];
        let parts: Vec<String> = parts.into_iter().chain([time_a_day, bytes_a_day]).flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// What its runs of a day may cost, and what they have today, for machines.
    fn budget(&self) -> Value {
        let a_day = self.job.plan.as_ref().map(|plan| plan.a_day).unwrap_or_default();
        if a_day == DayBudget::default() {
            return Value::Null;
        }
        let spent = self.job.spent(self.now);
        json!({
            "bytes_per_day": a_day.bytes, "time_per_day_ms": a_day.time, "spent_bytes": spent.bytes,
            "spent_ms": spent.time, "used_up_until_ms": self.job.used_up(self.now),
        })
    }

    /// The same in words, if there is one.
    fn budget_words(&self) -> Option<String> {
        let (a_day, spent) = (self.job.plan.as_ref()?.a_day, self.job.spent(self.now));
        let bytes = a_day.bytes.map(|most| format!("{} of {}", show_bytes(spent.bytes), show_bytes(most)));
        let took = show_duration(Duration::from_millis(spent.time));
        let time = a_day.time.map(|most| format!("{took} of {}", typed_duration(most)));
        let parts: Vec<String> = [bytes, time].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("used of today's budget: {}", parts.join(", ")))
    }

    /// How far away it is.
    fn later(&self, at: Millis) -> String {
        format!("in {}", show_duration(Duration::from_millis(at.saturating_sub(self.now))))
    }

    fn ago(&self, at: Millis) -> String {
        ago(self.now, at)
    }
}

/// What a run was told to end for, after a comma; nothing where that is not known.
pub(crate) fn since(limit: Option<Limit>) -> &'static str {
    match limit {
        Some(Limit::Longest) => ", since it had gone on for `max_run` of [serve]",
        Some(Limit::Day) => ", since the `max_time_per_day` of the job was used up",
        Some(Limit::Window) => ", since the `window` of the job had closed",
        None => "",
    }
}

/// The sides of a job without passwords, or its store.
pub(crate) fn sides(config: &Config, name: &str) -> Vec<String> {
    config.does(name).map(|(_, sides)| sides).unwrap_or_default()
}

/// A run in one line.
pub(crate) fn ran_line(ran: &Ran, now: Millis) -> String {
    let took = show_duration(Duration::from_millis(ran.ended.saturating_sub(ran.began)));
    let [a, b] = ran.written;
    let wrote = if a + b > 0 { format!(", wrote {a} to a and {b} to b") } else { String::new() };
    let why = ran.error.as_ref().map_or(String::new(), |(id, message)| format!(": {message} [{id}]"));
    let (number, verdict, bytes) = (ran.number, words(ran.verdict), show_bytes(ran.bytes));
    if ran.end_unknown {
        return format!("run {number}\t{verdict}, {}", no_end(ran, now));
    }
    format!("run {number}\t{verdict}{}{wrote}, {} ago in {took}, {bytes}{why}", counted(ran), ago(now, ran.ended))
}

/// What is known of a run whose end was not noted.
fn no_end(ran: &Ran, now: Millis) -> String {
    let went_on = match ran.ended.saturating_sub(ran.began) {
        0 => String::new(),
        least => format!(", went on for {} at least", show_duration(Duration::from_millis(least))),
    };
    format!("began {} ago{went_on}, its end is not known", ago(now, ran.began))
}

/// When a run ended, if that is known.
fn end(ran: &Ran) -> Option<Millis> {
    (!ran.end_unknown).then_some(ran.ended)
}

/// A run for machines.
pub(crate) fn ran_object(job: &str, ran: &Ran) -> Value {
    let records = ran.records.map(|[a, b]| json!({ "a": a, "b": b }));
    let [a, b] = ran.written;
    json!({
        "t": "job_run",
        "job": job,
        "run": ran.number,
        "cause": ran.cause.name(),
        "began_ms": ran.began,
        "ended_ms": end(ran),
        "verdict": ran.verdict.name(),
        "exit": ran.exit,
        "differences": ran.differences,
        "estimated": ran.estimated,
        "classes": ran.classes,
        "records": records,
        "written": json!({ "a": a, "b": b }),
        "bytes": ran.bytes,
        "error": ran.error.as_ref().map(|(id, _)| id),
        "message": ran.error.as_ref().map(|(_, message)| message),
        "unproven": unproven_object(&ran.unproven),
    })
}

/// The ranges of one entry, the first of them by name.
fn named(parked: &Parked) -> Unproven {
    Unproven { ranges: parked.ranges.clone(), more: 0 }.at_most(RANGES_KEPT_MAX)
}

/// The same for machines.
fn parked_object(parked: &Parked) -> Value {
    json!({
        "ranges": unproven_object(&named(parked)),
        "error": parked.reason.0,
        "message": parked.reason.1,
        "since_ms": parked.since,
        "tries": parked.tries,
        "next_ms": parked.next,
    })
}

fn words(verdict: RunVerdict) -> String {
    verdict.name().replace('_', " ")
}

fn counted(ran: &Ran) -> String {
    match ran.differences {
        Some(n) if n > 0 => {
            let about = if ran.estimated { "about " } else { "" };
            format!(", {about}{} key{} differed", show_count(n), plural(n))
        }
        _ => String::new(),
    }
}

fn ago(now: Millis, at: Millis) -> String {
    show_duration(Duration::from_millis(now.saturating_sub(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reknit_core::agenda::{Agenda, By, Plan};
    use reknit_core::schedule::{Schedule, Utc};

    const MINUTE: Millis = 60_000;

    /// What is wrong with a job once a run took so many minutes, or was cut short.
    fn wrong(at: &str, windows: &[&str], took: Millis) -> Vec<String> {
        let windows = windows.iter().map(|window| window.parse().expect("a window")).collect();
        let schedule = Schedule { at: Some(at.parse().expect("a time")), windows, jitter: 0 };
        let (longest, within, a_day, places) = (1_440 * MINUTE, None, DayBudget::default(), Default::default());
        let plan = Plan { schedule, zone: std::sync::Arc::new(Utc), places, longest, within, a_day };
        let mut agenda = Agenda::new([7; 32], 1);
        agenda.configure([("j".to_string(), plan)].into(), 1, 0);
        let now = agenda.wake(0).unwrap_or(0);
        let begun = agenda.begin("j", By::Schedule, now).expect("it begins");
        let ended = (now + took * MINUTE).min(begun.until);
        let verdict = if ended < now + took * MINUTE { RunVerdict::Partial } else { RunVerdict::InSync };
        agenda.end("j", Ran { verdict, ..Ran::cut(begun, ended) });
        let config = Config::default();
        let seen = Seen { name: "j", job: &agenda.jobs()["j"], config: &config, now: ended, live: true };
        seen.wrong().into_iter().filter(|words| !words.contains("its last run")).collect()
    }

    #[test]
    fn what_a_schedule_cannot_keep_is_told_in_words() {
        assert_eq!(wrong("every 1h", &[], 90), ["j: a run takes 1 h, which every 1 h cannot be met with"]);
        assert_eq!(wrong("03:00,03:30", &[], 45), ["j: a run takes 45 m, and 30 m after one of its times is the next"]);
        let window = "j: a run takes longer than the 20 m that it has until its window closes";
        assert_eq!(wrong("03:10", &["03:00-03:30"], 25), [window]);
        // One of some days ends later than one of others may.
        let window = "j: a run takes 45 m, and it has 30 m until its window closes";
        assert_eq!(wrong("every 2h", &["Thu-Sun 03:00-04:00", "Mon-Wed 03:00-03:30"], 45), [window]);
        assert_eq!(wrong("every 2h", &["03:00-04:00"], 45), [""; 0]);
    }

    #[test]
    fn an_end_by_its_days_budget_is_not_wrong_while_the_next_run_waits_for_tomorrow() {
        const DAY: Millis = 1_440 * MINUTE;
        let schedule = Schedule { at: Some("every 1h".parse().expect("a time")), windows: Vec::new(), jitter: 0 };
        let a_day = DayBudget { bytes: None, time: Some(10 * MINUTE) };
        let zone = std::sync::Arc::new(Utc);
        let plan = Plan { schedule, zone, places: Default::default(), longest: DAY, within: None, a_day };
        let mut agenda = Agenda::new([7; 32], 1);
        agenda.configure([("j".to_string(), plan)].into(), 1, 0);
        let config = Config::default();
        let wrong = |agenda: &Agenda, now| {
            Seen { name: "j", job: &agenda.jobs()["j"], config: &config, now, live: true }.wrong()
        };
        let late = |agenda: &mut Agenda, now| {
            let begun = agenda.begin("j", By::Schedule, now).expect("it begins");
            let error = Some(("job.late".to_string(), "it was to have ended".to_string()));
            let ran = Ran { verdict: RunVerdict::Partial, limit: begun.limit, error, ..Ran::cut(begun, begun.until) };
            agenda.end("j", ran);
            begun.until
        };
        let ended = late(&mut agenda, 60 * MINUTE);
        assert_eq!(ended, 70 * MINUTE);
        assert_eq!(wrong(&agenda, ended), [""; 0]);
        // It has come, and no run has ended.
        assert_eq!(wrong(&agenda, DAY).len(), 1);
        let ended = late(&mut agenda, DAY);
        assert_eq!(wrong(&agenda, ended), [""; 0]);
    }
}
