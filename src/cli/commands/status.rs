//! `reknit status`: one screen of stores, peers, last verdicts and jobs, and what is wrong; exits as the worst of them.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use reknit_core::Millis;
use reknit_core::agenda::{Job, RunVerdict};
use reknit_core::gossip::{Counts, Standing};
use reknit_core::objective::Objective;
use serde_json::{Map, Value, json};

use super::alerts;
use super::jobs;
use super::jobs::shown::Seen;

use crate::cli::args::{Cli, Status};
use crate::cli::control;
use crate::cli::daemon::{Daemon, View};
use crate::cli::env::Env;
use crate::cli::objectives;
use crate::cli::output::{self, Printer, fields};
use crate::cli::units::{parse_duration, show_count, show_duration};
use crate::cli::verdicts::{self, Last};
use crate::cli::{CliError, Exit};
use crate::clock::{now_ms, now_s};
use crate::node::{Gossip, Home, Neighbour};
use crate::store::{Side, Store};
use crate::transport::PeerId;

/// How often it can be looked at.
const WATCH_MIN: Duration = Duration::from_millis(200);
/// What makes a terminal empty, and begins at its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Looks again and again, until interrupted or nobody reads any more; gives back the exit of the last look.
pub(crate) fn watch(every: &str, cli: &Cli, mut look: impl FnMut() -> Result<Exit, clap::Error>) -> Exit {
    let every = match parse_duration(every) {
        Ok(every) => every.max(WATCH_MIN),
        Err(error) => return output::print_error(&mut Env::of_process(cli), &error),
    };
    loop {
        if std::io::stdout().is_terminal() {
            print!("{CLEAR}");
        }
        // It was understood once.
        let Ok(exit) = look() else { return Exit::CannotJudge };
        std::thread::sleep(every);
        if writeln!(std::io::stdout()).and_then(|()| std::io::stdout().flush()).is_err() {
            return exit;
        }
    }
}

pub(crate) fn run(_: &Status, env: &mut Env) -> Result<Exit, CliError> {
    let (home, view) = (env.home()?, jobs::view(env)?);
    let Look { exit, lines, summary } = look(&home, &view, env.daemon.as_deref(), &env.open)?;
    Printer::new(env).end(exit, &lines.join("\n"), summary)
}

/// What there is to see of a home.
pub(crate) struct Look {
    /// As the worst of what is seen.
    pub(crate) exit: Exit,
    /// For people.
    pub(crate) lines: Vec<String>,
    /// For machines.
    pub(crate) summary: Map<String, Value>,
}

/// Looks at a home, and at the daemon that holds it with its stores.
///
/// # Errors
/// `home.file`, `home.identity`, `home.malformed`, and what a store met.
pub(crate) fn look(
    home: &Home,
    view: &View,
    daemon: Option<&Daemon>,
    stores: &BTreeMap<PathBuf, Store>,
) -> Result<Look, CliError> {
    let (peer, peers) = (home.identity()?.peer(), home.peers()?);
    // What is remembered of pairs is not all that there is to see.
    let (lasts, unread) = verdicts::read(home).map_or_else(|error| (Vec::new(), Some(error)), |lasts| (lasts, None));
    let serving = daemon.is_some() || control::is_alive(&home.socket());
    let (now, live) = (now_s(), daemon.is_some());
    let configured = view.jobs.iter().filter(|(_, job)| job.plan.is_some());
    let seen: Vec<Seen<'_>> =
        configured.map(|(name, job)| Seen { name, job, config: &view.config, now: now_ms(), live }).collect();
    let of_jobs = seen.iter().filter_map(|seen| exit_of_job(seen.job));
    let gossip = daemon.and_then(Daemon::gossip);
    let met: Vec<Met<'_>> = daemon.into_iter().flat_map(|daemon| met(daemon, stores)).collect();
    let of_gossip = met.iter().filter_map(Met::exit);
    let of_pairs = lasts.iter().map(exit_of).chain(unread.iter().map(|_| Exit::CannotJudge));
    let exit = of_pairs.chain(of_jobs).chain(of_gossip).max_by_key(|exit| rank(*exit)).unwrap_or(Exit::Done);
    let mut lines = vec![
        format!("node   {peer}"),
        format!("home   {}{}", home.dir().display(), if serving { ", a daemon is running" } else { "" }),
    ];
    let http = daemon.and_then(Daemon::http).map(|at| format!("http://{at}/"));
    lines.extend(http.iter().map(|url| format!("http   {url}")));
    let (told, neighbours) = gossip.map(neighbours).unwrap_or_default();
    lines.extend(told);
    let mut shown = Vec::new();
    for (dir, store) in stores {
        let (definition, root) = (store.definition(), store.root());
        let (dir, records) = (dir.display().to_string(), store.stats()?.records);
        let digest = root.digest.to_string();
        lines.push(format!(
            "store  {dir}: dataset {}, {} records, root {}…",
            definition.name,
            show_count(records),
            &digest[..16]
        ));
        if let Some((counts, waiting)) = gossip.and_then(|gossip| gossip.counts(definition.id)) {
            let Counts { news, left, .. } = counts;
            let [news, left, waiting] = [news, left, waiting as u64].map(show_count);
            lines.push(format!(
                "gossip of {}: {news} writes heard, {left} left to sessions, {waiting} wait",
                definition.name
            ));
        }
        shown.push(json!({ "store": dir, "dataset": definition.name, "records": records, "root": digest }));
    }
    lines.extend(met.iter().map(Met::line));
    let tables = daemon.map(Daemon::tables).unwrap_or_default();
    let tables: Vec<_> = tables.iter().map(|(place, table)| (place, table.describe().definition)).collect();
    lines.extend(tables.iter().map(|(place, of)| format!("table  {place}: dataset {}, compared by peers", of.name)));
    let tables: Vec<Value> = tables.iter().map(|(place, of)| json!({ "table": place, "dataset": of.name })).collect();
    for known in &peers {
        let name = known.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
        lines.push(format!("peer   {}{name} may {}", known.peer.short(), known.may.names().join(", ")));
    }
    if lasts.is_empty() && unread.is_none() {
        lines.push("pairs  none was compared yet: reknit check A B".into());
    }
    for last in &lasts {
        let ago = show_duration(Duration::from_secs(u64::try_from(now - last.at).unwrap_or(0)));
        let differ = match last.differences {
            0 => String::new(),
            n => {
                let about = if last.estimated { "about " } else { "" };
                format!(", {about}{} differed", show_count(u64::try_from(n).unwrap_or(0)))
            }
        };
        let Last { a, b, verdict, command, .. } = last;
        lines.push(format!("pair   {a} and {b}: {verdict}{differ} ({command} {ago} ago)"));
    }
    lines.extend(seen.iter().map(|job| format!("job    {}", job.line().replace('\t', ": "))));
    let of_jobs = seen.iter().flat_map(|job| job.wrong());
    let unread = unread.iter().map(ToString::to_string);
    let wrong: Vec<String> = view.wrong.iter().cloned().chain(of_jobs).chain(unread).collect();
    lines.extend(wrong.iter().map(|wrong| format!("wrong  {wrong}")));
    lines.extend(view.alerts.iter().map(|alert| format!("alert  {}", alerts::line(alert, now_ms()))));
    let alerts: Vec<_> = view.alerts.iter().map(alerts::object).collect();
    let jobs: Vec<_> = seen.iter().map(|job| job.object()).collect();
    let summary = json!({
        "node": peer.to_string(),
        "home": home.dir().display().to_string(),
        "serving": serving,
        "http": http,
        "stores": shown,
        "served_tables": tables,
        "peers": peers.iter().map(|p| json!({ "peer": p.peer.to_string(), "may": p.may.names(), "name": p.name })).collect::<Vec<_>>(),
        "gossip": gossip.map(|_| neighbours),
        "gossip_pairs": gossip.map(|_| met.iter().map(Met::object).collect::<Vec<_>>()),
        "pairs": lasts,
        "jobs": jobs,
        "alerts": alerts,
        "wrong": wrong,
    });
    Ok(Look { exit, lines, summary: fields(summary) })
}

/// Peers that are known by gossip: a line each, and an object for machines.
fn neighbours(gossip: &Gossip) -> (Vec<String>, Vec<Value>) {
    let up = gossip.neighbours();
    let line = |near: &Neighbour| format!("gossip {} is up at {}", near.peer.short(), near.at);
    let object = |near: &Neighbour| json!({ "peer": near.peer.to_string(), "at": near.at.to_string() });
    (up.iter().map(line).collect(), up.iter().map(object).collect())
}

/// A store and one of its peers by gossip.
struct Met<'a> {
    dataset: &'a str,
    peer: PeerId,
    standing: Standing,
    /// Within how long both are to be proven equal, and how that stands.
    objective: Option<Objective>,
    /// Whether it is known how much differs, not about how much.
    exact: bool,
    /// Ranges that its sessions leave out.
    parked: usize,
}

fn met<'a>(daemon: &Daemon, stores: &'a BTreeMap<PathBuf, Store>) -> Vec<Met<'a>> {
    let Some(gossip) = daemon.gossip() else { return Vec::new() };
    let of = |store: &'a Store| {
        let standings = gossip.standings(store.definition().id).into_iter();
        let parked = gossip.parked(store.definition().id);
        standings.map(move |(peer, standing)| {
            let parked = parked.get(&peer).map_or(0, |parked| parked.ranges);
            (store.definition().name.as_str(), (peer, standing), parked)
        })
    };
    let exact = gossip.repairs();
    let met = |(dataset, (peer, standing), parked)| {
        let objective = daemon.objective(&standing);
        Met { dataset, peer, standing, objective, exact, parked }
    };
    stores.values().flat_map(of).map(met).collect()
}

impl Met<'_> {
    /// What the last session with a verdict found: nothing where there was none.
    fn verdict(&self) -> Option<&'static str> {
        let it = &self.standing;
        it.checked.map(|_| if it.since.is_some() { "differs" } else { "in_sync" })
    }

    /// A peer that is down is no news of this node; one that is up counts as the verdict of its last session.
    fn exit(&self) -> Option<Exit> {
        match self.verdict().filter(|_| self.standing.up) {
            Some("differs") => Some(Exit::Differs),
            _ if self.standing.is_failing() || self.parked > 0 => Some(Exit::Undetermined),
            _ => None,
        }
    }

    fn line(&self) -> String {
        let it = &self.standing;
        let now = now_ms();
        let ago = |at: Millis| show_duration(Duration::from_millis(now.saturating_sub(at)));
        let proven = it.equal.map_or("never proven equal".into(), |at| format!("proven equal {} ago", ago(at)));
        let found = match (it.since, it.checked) {
            (Some(since), _) => {
                let about = if self.exact { "" } else { "about " };
                format!("{about}{} keys differ, for {}, {proven}", show_count(it.left), ago(since))
            }
            (None, Some(_)) => proven,
            (None, None) => "no session had a verdict yet".into(),
        };
        let fails = (it.fails > 0).then(|| format!(", {} sessions in a row had no verdict", it.fails));
        let down = if it.up { "" } else { ", down" };
        format!("gossip of {} with {}: {found}{}{down}", self.dataset, self.peer.short(), fails.unwrap_or_default())
    }

    fn object(&self) -> Value {
        let it = &self.standing;
        json!({
            "dataset": self.dataset, "peer": self.peer.to_string(), "up": it.up, "verdict": self.verdict(),
            "checked_ms": it.checked, "equal_ms": it.equal, "differs_since_ms": it.since, "left": it.left, "failed": it.fails,
            "parked": self.parked,
            "objective": self.objective.as_ref().map(objectives::object),
        })
    }
}

fn exit_of(last: &Last) -> Exit {
    match last.verdict.as_str() {
        "in_sync" | "converged" => Exit::Done,
        "differs" => Exit::Differs,
        "refused" => Exit::Refused,
        _ => Exit::Undetermined,
    }
}

/// What the last run of a job, if it had one, leaves to be said.
fn exit_of_job(job: &Job) -> Option<Exit> {
    Some(match job.kept.last()?.verdict {
        RunVerdict::InSync | RunVerdict::Converged | RunVerdict::Sound => Exit::Done,
        RunVerdict::Differs | RunVerdict::Damaged => Exit::Differs,
        RunVerdict::Refused => Exit::Refused,
        _ => Exit::Undetermined,
    })
}

/// If several apply: refused, cannot judge, differs, undetermined, done.
fn rank(exit: Exit) -> u8 {
    match exit {
        Exit::Refused => 4,
        Exit::CannotJudge => 3,
        Exit::Differs => 2,
        Exit::Undetermined => 1,
        _ => 0,
    }
}
