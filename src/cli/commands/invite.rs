//! `reknit invite STORE`: prints a ticket with which another node joins the store's dataset.

use serde_json::{Map, json};

use crate::cli::args::Invite;
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::units::parse_duration;
use crate::cli::verdicts::{now, now_ms};
use crate::cli::{CliError, Exit};
use crate::core::members::{LEASE_MILLIS, Member};
use crate::node::{Grants, GrantsError, Invitation, Ticket};
use crate::transport::{Address, PORT};

pub(crate) fn run(args: &Invite, env: &mut Env) -> Result<Exit, CliError> {
    let may = grants(&args.may)?;
    let lasts = parse_duration(&args.expires)?;
    let store = env.store(&args.store)?;
    let home = env.home()?;
    let me = home.identity()?.peer();
    let address = address(args, env, &store.definition().name, me)?;
    let mut token = vec![0; 16];
    getrandom::fill(&mut token).map_err(|error| CliError::new("randomness", error.to_string()))?;
    let definition = (**store.definition()).clone();
    let (may, keeps_members) = (may.within(&definition.name), definition.members().is_some());
    let names = definition.collections.iter().map(|c| c.name.clone());
    let layouts = names.map(|name| store.collection(&name)?.layout()).collect::<Result<_, _>>()?;
    let ticket = Ticket { definition, key: store.dataset_key().clone(), address, token: token.clone(), layouts };
    let expires = u64::try_from(now()).unwrap_or(0) * 1000 + u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX / 2);
    // Whoever invites takes part itself.
    if keeps_members && !store.members()?.iter().any(|(peer, _)| *peer == me.0) {
        let member = Member { name: String::new(), since: now_ms(), lease: LEASE_MILLIS };
        store.add_member(&me.0, &member)?;
    }
    home.invite(&Invitation { token_hash: *blake3::hash(&token).as_bytes(), may: may.clone(), expires })?;
    let (address, ticket) = (ticket.address.clone(), ticket.to_string());
    let summary = json!({ "ticket": ticket, "address": address, "may": may.names() });
    // A ticket holds the dataset's secret; whoever has it can join once, and guess records from digests.
    Printer::new(env).end(Exit::Done, &ticket, summary.as_object().cloned().unwrap_or_else(Map::new))
}

/// Where the other node reaches this one.
fn address(args: &Invite, env: &Env, dataset: &str, peer: crate::transport::PeerId) -> Result<String, CliError> {
    let (host, port) = match (&args.at, env.listening) {
        (Some(at), listening) => {
            let port = listening.map_or(PORT, |listening| listening.port());
            let probe = format!("quic://{peer}@{at}/{dataset}").parse::<Address>()?;
            let named = at.rsplit(']').next().unwrap_or(at).contains(':');
            (probe.host, if named { probe.port } else { port })
        }
        (None, Some(listening)) if !listening.ip().is_unspecified() => (listening.ip().to_string(), listening.port()),
        _ => {
            let message = "say where the other node reaches this one: --at HOST[:port] (or serve the store first)";
            return Err(CliError::new("usage.at", message));
        }
    };
    Ok(Address { peer, host, port, dataset: dataset.into() }.to_string())
}

/// What is granted, as it was typed.
pub(crate) fn grants(typed: &str) -> Result<Grants, CliError> {
    typed.parse().map_err(|error: GrantsError| CliError::new("usage.right", format!("{error}; nothing was changed")))
}
