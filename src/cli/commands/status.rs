//! `reknit status`: one screen of stores, peers, last verdicts and jobs, and what is wrong; exits as the worst of them.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use reknit_core::agenda::{Job, RunVerdict};
use reknit_core::gossip::Counts;
use serde_json::{Map, Value, json};

use super::jobs;
use super::jobs::shown::Seen;

use crate::cli::args::{Cli, Status};
use crate::cli::control;
use crate::cli::env::Env;
use crate::cli::output::{self, Printer};
use crate::cli::units::{parse_duration, show_count, show_duration};
use crate::cli::verdicts::{self, Last};
use crate::cli::{CliError, Exit};
use crate::node::{Apart, Gossip, Neighbour};
use crate::store::Store;
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
    let home = env.home()?;
    let (peer, peers, lasts) = (home.identity()?.peer(), home.peers()?, verdicts::read(&home)?);
    let serving = control::is_alive(&home.socket());
    let view = jobs::view(env)?;
    let (now, live) = (verdicts::now(), env.daemon.is_some());
    let configured = view.jobs.iter().filter(|(_, job)| job.plan.is_some());
    let seen: Vec<Seen<'_>> =
        configured.map(|(name, job)| Seen { name, job, config: &view.config, now: verdicts::now_ms(), live }).collect();
    let of_jobs = seen.iter().filter_map(|seen| exit_of_job(seen.job));
    let exit = lasts.iter().map(exit_of).chain(of_jobs).max_by_key(|exit| rank(*exit)).unwrap_or(Exit::Done);
    let mut lines = vec![
        format!("node   {peer}"),
        format!("home   {}{}", home.dir().display(), if serving { ", a daemon is running" } else { "" }),
    ];
    let gossip = env.daemon.as_ref().and_then(|daemon| daemon.gossip());
    let (told, neighbours) = gossip.map(neighbours).unwrap_or_default();
    lines.extend(told);
    let mut stores = Vec::new();
    for (dir, store) in &env.open {
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
        stores.push(json!({ "store": dir, "dataset": definition.name, "records": records, "root": digest }));
    }
    for known in &peers {
        let name = known.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
        lines.push(format!("peer   {}{name} may {}", known.peer.short(), known.may.names().join(", ")));
    }
    if lasts.is_empty() {
        lines.push("pairs  none was compared yet: reknit check A B".into());
    }
    for last in &lasts {
        let ago = show_duration(Duration::from_secs(u64::try_from(now - last.at).unwrap_or(0)));
        let differ = match last.differences {
            0 => String::new(),
            n => format!(", {} differed", show_count(u64::try_from(n).unwrap_or(0))),
        };
        let Last { a, b, verdict, command, .. } = last;
        lines.push(format!("pair   {a} and {b}: {verdict}{differ} ({command} {ago} ago)"));
    }
    lines.extend(seen.iter().map(|job| format!("job    {}", job.line().replace('\t', ": "))));
    let of_jobs = seen.iter().flat_map(|job| job.wrong());
    let apart = gossip.map(|gossip| apart(gossip, env, peer)).unwrap_or_default();
    let wrong: Vec<String> = view.wrong.iter().cloned().chain(apart).chain(of_jobs).collect();
    lines.extend(wrong.iter().map(|wrong| format!("wrong  {wrong}")));
    let jobs: Vec<_> = seen.iter().map(|job| job.object()).collect();
    let summary = json!({
        "node": peer.to_string(),
        "home": home.dir().display().to_string(),
        "serving": serving,
        "stores": stores,
        "peers": peers.iter().map(|p| json!({ "peer": p.peer.to_string(), "may": p.may.names(), "name": p.name })).collect::<Vec<_>>(),
        "gossip": gossip.map(|_| neighbours),
        "pairs": lasts,
        "jobs": jobs,
        "wrong": wrong,
    });
    Printer::new(env).end(exit, &lines.join("\n"), summary.as_object().cloned().unwrap_or_else(Map::new))
}

/// Peers that are known by gossip: a line each, and an object for machines.
fn neighbours(gossip: &Gossip) -> (Vec<String>, Vec<Value>) {
    let up = gossip.neighbours();
    let line = |near: &Neighbour| format!("gossip {} is up at {}", near.peer.short(), near.at);
    let object = |near: &Neighbour| json!({ "peer": near.peer.to_string(), "at": near.at.to_string() });
    (up.iter().map(line).collect(), up.iter().map(object).collect())
}

/// With whom nothing is gossiped, and why.
fn apart(gossip: &Gossip, env: &Env, me: PeerId) -> Vec<String> {
    let name = |id| env.open.values().map(Store::definition).find(|of| of.id == id).map(|of| of.name.clone());
    let line = |(dataset, peer, apart): (_, PeerId, Apart)| {
        let (dataset, reason) = (name(dataset).unwrap_or_default(), apart.reason());
        format!("gossip of {dataset} with {} waits for a session that repairs: {reason}", peer.short())
    };
    let withheld = env.open.iter().filter_map(|(dir, store)| {
        let (count, keys) = gossip.withheld(store.definition().id);
        let keys: Vec<String> = keys.iter().map(|key| String::from_utf8_lossy(key).escape_debug().to_string()).collect();
        let (name, count, keys) = (&store.definition().name, (count > 0).then(|| show_count(count as u64))?, keys.join(", "));
        let dir = dir.display();
        Some(format!("gossip of {name} withholds {count} records that would replace or delete too much ({keys}, …); to look: reknit repair {dir} PEER --preview; to let them: --max-delete, --max-change"))
    });
    let refusing = |peer: PeerId| {
        format!(
            "gossip with {}: it does not take this node in, or not any more; there: reknit peers add {me} --may …",
            peer.short()
        )
    };
    gossip.apart().into_iter().map(line).chain(withheld).chain(gossip.refusing().into_iter().map(refusing)).collect()
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
