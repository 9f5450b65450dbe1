//! The documents of `/api/v1`: what `status`, `jobs`, `peers`, `members` and `drift` tell, in the same words.
//!
//! What is in the parts that they are made of is said where commands print those.

use reknit_core::Millis;
use reknit_core::agenda::Ran;
use reknit_core::drift::History;
use serde_json::{Value, json};

use super::answer::{Answer, Refused};
use super::routes::Asked;
use crate::cli::commands::jobs::shown::{self, Seen};
use crate::cli::commands::sides::history;
use crate::cli::commands::{members, peers, status};
use crate::cli::daemon::trouble::Trouble;
use crate::cli::daemon::{Daemon, View, refused};
use crate::clock::now_ms;

/// Runs that are told unless it is said how many.
const RUNS: usize = 100;
/// Pairs of which drift is told unless it is said how many: each is a file to read.
const PAIRS: usize = 16;

type Told = Result<Answer, Refused>;

/// As `reknit status` tells it.
pub(super) fn status(daemon: &Daemon, _: &Asked) -> Told {
    let look = status::look(daemon.home(), &daemon.view(), Some(daemon), daemon.stores())?;
    let mut document = Value::Object(look.summary);
    let trouble =
        |Trouble { about, subject, message }| json!({ "about": about, "subject": subject, "message": message });
    document["exit"] = json!(look.exit.number());
    document["trouble"] = daemon.troubles().into_iter().map(trouble).collect();
    Ok(Answer::json(&document))
}

/// As `reknit jobs list` tells them.
pub(super) fn jobs(daemon: &Daemon, _: &Asked) -> Told {
    let view = daemon.view();
    let now = now_ms();
    let jobs: Vec<Value> = view.jobs.keys().filter_map(|name| object(&view, name, now)).collect();
    Ok(Answer::json(&json!({ "jobs": jobs, "wrong": view.wrong })))
}

/// As `reknit jobs show` tells it.
pub(super) fn job(daemon: &Daemon, asked: &Asked) -> Told {
    let (view, name) = (daemon.view(), asked.name());
    let (Some(job), Some(object)) = (view.jobs.get(name), object(&view, name, now_ms())) else {
        // It says what was meant, if it is close.
        view.config.command(name)?;
        return Err(refused(name, &reknit_core::agenda::Refusal::Unknown).into());
    };
    let runs = job.kept.history.iter().rev().take(asked.limit(RUNS));
    let runs: Vec<Value> = runs.map(|ran| shown::ran_object(name, ran)).collect();
    Ok(Answer::json(&json!({ "job": object, "runs": runs })))
}

fn object(view: &View, name: &str, now: Millis) -> Option<Value> {
    let (name, job) = view.jobs.get_key_value(name)?;
    Some(Seen { name, job, config: &view.config, now, live: true }.object())
}

/// Has a job begin as soon as it can.
pub(super) fn run(daemon: &Daemon, asked: &Asked) -> Told {
    daemon.ask(asked.name())?;
    done(asked, true)
}

/// Lets a job begin no more by itself.
pub(super) fn pause(daemon: &Daemon, asked: &Asked) -> Told {
    let news = daemon.pause(asked.name())?;
    done(asked, news)
}

/// Lets it begin by itself again.
pub(super) fn resume(daemon: &Daemon, asked: &Asked) -> Told {
    let news = daemon.resume(asked.name())?;
    done(asked, news)
}

/// Tells its run to end with what it has.
pub(super) fn cancel(daemon: &Daemon, asked: &Asked) -> Told {
    daemon.cancel(asked.name())?;
    done(asked, true)
}

fn done(asked: &Asked, changed: bool) -> Told {
    Ok(Answer::json(&json!({ "job": asked.name(), "changed": changed })))
}

/// The last runs of all jobs, the newest first.
pub(super) fn runs(daemon: &Daemon, asked: &Asked) -> Told {
    let view = daemon.view();
    let of = |(name, job): (&'_ String, &'_ reknit_core::agenda::Job)| -> Vec<(String, Ran)> {
        job.kept.history.iter().map(|ran| (name.clone(), ran.clone())).collect()
    };
    let mut all: Vec<(String, Ran)> = view.jobs.iter().flat_map(of).collect();
    all.sort_by(|(one, ran), (other, run)| (run.ended, other, run.number).cmp(&(ran.ended, one, ran.number)));
    let runs = all.iter().take(asked.limit(RUNS)).map(|(name, ran)| shown::ran_object(name, ran));
    Ok(Answer::json(&json!({ "runs": runs.collect::<Vec<_>>() })))
}

/// As `reknit peers list` tells them.
pub(super) fn peers(daemon: &Daemon, _: &Asked) -> Told {
    let known = daemon.home().peers().map_err(crate::cli::CliError::from)?;
    let lines = daemon.home().lines().map_err(crate::cli::CliError::from)?;
    let peers = known.iter().map(|known| peers::object(known, &lines, daemon.home()));
    Ok(Answer::json(&json!({ "peers": peers.collect::<Vec<_>>() })))
}

/// As `reknit members list` tells them of each store, with what gossip knows of its peers.
pub(super) fn members(daemon: &Daemon, _: &Asked) -> Told {
    let mut datasets = Vec::new();
    for store in daemon.stores().values() {
        let definition = store.definition();
        let members = match definition.members() {
            Some(_) => members::seen(store, daemon.home())?.iter().map(members::Seen::object).collect(),
            None => Vec::new(),
        };
        let standings = daemon.gossip().map(|gossip| gossip.standings(definition.id));
        let standing = |(peer, it): (crate::transport::PeerId, reknit_core::gossip::Standing)| {
            json!({
                "peer": peer.to_string(), "up": it.up, "checked_ms": it.checked, "equal_ms": it.equal, "differs": it.differs,
                "left": it.left, "failed": it.fails, "stalled": it.is_stalled(),
            })
        };
        let gossip = standings.map(|all| all.into_iter().map(standing).collect::<Vec<_>>());
        datasets.push(json!({ "dataset": definition.name, "members": members, "gossip": gossip }));
    }
    Ok(Answer::json(&json!({ "datasets": datasets })))
}

/// What is remembered of pairs, those that were looked at last first.
pub(super) fn drift(daemon: &Daemon, asked: &Asked) -> Told {
    let pair = |history: &History| {
        let pictures = history.pictures();
        let moment = |picture: &reknit_core::drift::Picture| json!({ "at_ms": picture.at, "differ": picture.total });
        let now = pictures.back();
        json!({
            "a": history.pair.a,
            "b": history.pair.b,
            "collections": history.pair.scope,
            "now_ms": now.map(|now| now.at),
            "differ": now.map(|now| now.total),
            "oldest_ms": now.and_then(|now| now.oldest()).map(|seen| seen.first),
            "at_least": now.is_some_and(|now| !now.is_whole()),
            "moments": pictures.iter().map(moment).collect::<Vec<_>>(),
        })
    };
    let mut pairs = Vec::new();
    history::newest(daemon.home(), asked.limit(PAIRS), &mut |history| pairs.push(pair(&history)))?;
    Ok(Answer::json(&json!({ "pairs": pairs })))
}
