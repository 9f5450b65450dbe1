//! `reknit invite STORE|TABLE`: prints a ticket with which another node joins the dataset of a store, or of a table.

use serde_json::{Map, json};

use super::sides::tables;
use crate::cli::args::Invite;
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::shared_tables::SharedTable;
use crate::cli::units::parse_duration;
use crate::cli::{CliError, Exit};
use crate::clock::{millis, now_ms};
use crate::core::members::{LEASE_MILLIS, Member};
use crate::node::{Grants, GrantsError, Invitation, Ticket};
use crate::transport::{Address, PORT, PeerId};

/// Stands for the name of a dataset that is not known yet.
const ANY_DATASET: &str = "t";

pub(crate) fn run(args: &Invite, env: &mut Env) -> Result<Exit, CliError> {
    let may = grants(&args.may)?;
    let lasts = parse_duration(&args.expires)?;
    let home = env.home()?;
    let me = home.identity()?.peer();
    let mut token = vec![0; 16];
    getrandom::fill(&mut token).map_err(|error| CliError::new("randomness", error.to_string()))?;
    let ticket = match args.store.to_str().filter(|typed| tables::is_table(typed)) {
        Some(typed) => of_table(typed, args, env, (me, &token))?,
        None => of_store(args, env, (me, &token))?,
    };
    let may = may.within(&ticket.definition.name);
    let expires = now_ms().saturating_add(millis(lasts));
    home.invite(&Invitation { token_hash: *blake3::hash(&token).as_bytes(), may: may.clone(), expires })?;
    let (address, ticket) = (ticket.address.clone(), ticket.to_string());
    let summary = json!({ "ticket": ticket, "address": address, "may": may.names() });
    // A ticket holds the dataset's secret; whoever has it can join once, and guess records from digests.
    Printer::new(env).end(Exit::Done, &ticket, summary.as_object().cloned().unwrap_or_else(Map::new))
}

fn of_store(args: &Invite, env: &Env, (me, token): (PeerId, &[u8])) -> Result<Ticket, CliError> {
    let store = env.store(&args.store)?;
    let definition = (**store.definition()).clone();
    let address = address(args, env, &definition.name, me)?;
    let names = definition.collections.iter().map(|c| c.name.clone());
    let layouts = names.map(|name| store.collection(&name)?.layout()).collect::<Result<_, _>>()?;
    // Whoever invites takes part itself.
    if definition.members().is_some() && !store.members()?.iter().any(|(peer, _)| *peer == me.0) {
        let member = Member { name: String::new(), since: now_ms(), lease: LEASE_MILLIS };
        store.add_member(&me.0, &member)?;
    }
    Ok(Ticket { definition, key: store.dataset_key().clone(), address, token: token.to_vec(), layouts, table: None })
}

fn of_table(typed: &str, args: &Invite, env: &mut Env, (me, token): (PeerId, &[u8])) -> Result<Ticket, CliError> {
    let table = tables::table(env, typed)?;
    // What is typed wrongly is told before a dataset is made.
    address(args, env, ANY_DATASET, me)?;
    let SharedTable { dataset, .. } = SharedTable::of_or_new(env, &*table)?;
    let (definition, key) = (dataset.definition().clone(), dataset.key().clone());
    let address = address(args, env, &definition.name, me)?;
    let table = Some(dataset.shape().to_bytes());
    Ok(Ticket { definition, key, address, token: token.to_vec(), layouts: vec![None], table })
}

/// Where the other node reaches this one.
fn address(args: &Invite, env: &Env, dataset: &str, peer: PeerId) -> Result<String, CliError> {
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
