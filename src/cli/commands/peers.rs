//! `reknit peers`: who may connect, and what they may.

use serde_json::{Value, json};

use super::invite::grants;
use crate::cli::args::{Peers, PeersCommand};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::{CliError, Exit};
use crate::node::KnownPeer;
use crate::transport::PeerId;

pub(crate) fn run(args: &Peers, env: &mut Env) -> Result<Exit, CliError> {
    match &args.command {
        PeersCommand::List => list(env),
        PeersCommand::Add { peer, may, name } => {
            let known = KnownPeer { peer: parsed(peer)?, may: grants(may)?, name: name.clone() };
            env.home()?.add_peer(&known)?;
            let may = known.may.names();
            let text = format!("{} may {} here", known.peer.short(), may.join(", "));
            let summary = json!({ "peer": known.peer.to_string(), "may": may, "name": name });
            Printer::new(env).end(Exit::Done, &text, fields(summary))
        }
        PeersCommand::Remove { peer } => {
            let peer = parsed(peer)?;
            let found = env.home()?.remove_peer(peer)?;
            let (exit, text) = match found {
                true => (Exit::Done, format!("removed {}: it may nothing here", peer.short())),
                false => (Exit::Differs, format!("{} was not known; nothing was changed", peer.short())),
            };
            let summary = json!({ "peer": peer.to_string(), "found": found });
            Printer::new(env).end(exit, &text, fields(summary))
        }
    }
}

fn list(env: &mut Env) -> Result<Exit, CliError> {
    let peers = env.home()?.peers()?;
    let mut printer = Printer::new(env);
    for known in &peers {
        let KnownPeer { peer, may, name } = known;
        let shown = name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        printer.item(|| format!("{peer}{shown} may {}", may.names().join(", ")), || object(known))?;
    }
    let text = if peers.is_empty() { "no peer may connect; add one with: reknit peers add PEER" } else { "" };
    printer.end(Exit::Done, text, fields(json!({ "peers": peers.len() })))
}

/// A peer for machines.
pub(crate) fn object(KnownPeer { peer, may, name }: &KnownPeer) -> Value {
    json!({ "t": "peer", "peer": peer.to_string(), "may": may.names(), "name": name })
}

pub(super) fn parsed(text: &str) -> Result<PeerId, CliError> {
    text.parse().map_err(|error| CliError::new("usage.peer", format!("{error}; nothing was changed")))
}
