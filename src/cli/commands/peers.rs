//! `reknit peers`: who may connect, and what they may.

use std::time::Duration;

use reknit_core::Millis;
use reknit_core::succession::Lines;
use serde_json::{Value, json};

use super::invite::grants;
use crate::cli::args::{Peers, PeersCommand};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::units::show_duration;
use crate::cli::{CliError, Exit};
use crate::clock::now_ms;
use crate::core::message::Rights;
use crate::node::{Declared, Grants, Home, KnownPeer};
use crate::transport::PeerId;

pub(crate) fn run(args: &Peers, env: &mut Env) -> Result<Exit, CliError> {
    match &args.command {
        PeersCommand::List => list(env),
        PeersCommand::Add { peer, may, name } => {
            let known = KnownPeer { peer: parsed(peer)?, may: grants(may)?, name: name.clone() };
            let home = home(env, None)?;
            home.add_peer(&known)?;
            let may = home.grants(known.peer)?.unwrap_or_default();
            let bound = if may == known.may { "" } else { ": config.toml lets it no more" };
            let text = format!("{} may {} here{bound}", known.peer.short(), words(&may));
            let may = may.names();
            let summary = json!({ "peer": known.peer.to_string(), "may": may, "name": name });
            Printer::new(env).end(Exit::Done, &text, fields(summary))
        }
        PeersCommand::Succeed { statement } => {
            let line = env.home()?.succeed(statement)?;
            let (newest, before) = line.split_first().ok_or_else(|| CliError::new("defect", "nobody was believed"))?;
            let before: Vec<String> = before.iter().map(PeerId::to_string).collect();
            let text = format!("{newest} is the peer that was {}", before.join(", "));
            let summary = json!({ "peer": newest.to_string(), "was": before });
            Printer::new(env).end(Exit::Done, &text, fields(summary))
        }
        PeersCommand::Remove { peer } => {
            let peer = parsed(peer)?;
            let found = home(env, Some(peer))?.remove_peer(peer)?;
            let (exit, text) = match found {
                true => (Exit::Done, format!("removed {}: it may nothing here", peer.short())),
                false => {
                    (Exit::Differs, format!("{} was not known; config.toml lets it in no more either", peer.short()))
                }
            };
            let summary = json!({ "peer": peer.to_string(), "found": found });
            Printer::new(env).end(exit, &text, fields(summary))
        }
    }
}

/// The home, with what is configured of peers. Rights can be taken away though that cannot be read: then it is as if all were
/// configured of whom they are taken from.
fn home(env: &Env, from: Option<PeerId>) -> Result<Home, CliError> {
    let declared = match env.config() {
        Ok(config) => config.declared(),
        Err(error) => {
            env.warn(&format!("what config.toml says of peers is not known: {error}"));
            from.map(|peer| KnownPeer { peer, may: Rights::ALL.into(), name: None }).into_iter().collect()
        }
    };
    Ok(env.home()?.with_declared(Declared::new(declared)))
}

fn list(env: &mut Env) -> Result<Exit, CliError> {
    // Within a daemon as that goes by it.
    let home = match &env.daemon {
        Some(daemon) => daemon.home().clone(),
        None => env.home()?.with_declared(Declared::new(env.config()?.declared())),
    };
    let (mut peers, lines) = (home.peers()?, home.lines()?);
    // Of those that config.toml lets in and the home does not it is told, too.
    for known in home.all_declared() {
        let peer = PeerId(lines.newest(known.peer.0));
        if !known.may.is_empty() && home.grants(peer)?.is_none() {
            peers.push(KnownPeer { peer, may: Grants::default(), ..known });
        }
    }
    let mut printer = Printer::new(env);
    for known in &peers {
        let KnownPeer { peer, may, name } = known;
        let shown = name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let text = || {
            let before: String = before(&lines, *peer).iter().map(|one| format!("\n  {}", one.line())).collect();
            let more = home.declared(*peer).filter(|declared| declared != may);
            let more = more.map_or(String::new(), |more| format!("; config.toml says {}", words(&more)));
            format!("{peer}{shown} may {}{more}{before}", words(may))
        };
        printer.item(text, || object(known, &lines, &home))?;
    }
    let text = if peers.is_empty() { "no peer may connect; add one with: reknit peers add PEER" } else { "" };
    printer.end(Exit::Done, text, fields(json!({ "peers": peers.len() })))
}

/// Rights for people.
fn words(may: &Grants) -> String {
    if may.is_empty() { "nothing".into() } else { may.names().join(", ") }
}

/// A peer for machines.
pub(crate) fn object(KnownPeer { peer, may, name }: &KnownPeer, lines: &Lines, home: &Home) -> Value {
    let was: Vec<Value> = before(lines, *peer).iter().map(Before::object).collect();
    let configured = home.declared(*peer).map(|may| may.names());
    let peer = peer.to_string();
    json!({ "t": "peer", "peer": peer, "may": may.names(), "name": name, "configured": configured, "was": was })
}

/// An older key of a peer.
struct Before {
    key: PeerId,
    until: Millis,
    ended: bool,
}

/// The older keys of a peer, the newest first.
fn before(lines: &Lines, peer: PeerId) -> Vec<Before> {
    let older = lines.line(peer.0).into_iter();
    let of = |key| {
        let until = lines.next(&key)?.until;
        Some(Before { key: PeerId(key), until, ended: lines.ended(&key, now_ms()) })
    };
    older.filter_map(of).collect()
}

impl Before {
    fn line(&self) -> String {
        match self.ended {
            true => format!("was {}: rotated, refused", self.key),
            false => {
                let left = Duration::from_millis(self.until.saturating_sub(now_ms()));
                format!("was {}: rotated, admitted for {}", self.key, show_duration(left))
            }
        }
    }

    fn object(&self) -> Value {
        json!({ "peer": self.key.to_string(), "until_ms": self.until, "ended": self.ended })
    }
}

pub(super) fn parsed(text: &str) -> Result<PeerId, CliError> {
    text.parse().map_err(|error| CliError::new("usage.peer", format!("{error}; nothing was changed")))
}
