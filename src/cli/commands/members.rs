//! `reknit members list|add|forget`: the peers whose copies of a dataset count.

use std::path::Path;

use reknit_core::Millis;
use reknit_core::members::Member;
use serde_json::{Value, json};

use super::peers::parsed;
use super::sides::plural;
use crate::cli::args::{Members, MembersCommand};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::units::{ago, parse_duration, show_count, show_duration};
use crate::cli::{CliError, Exit};
use crate::clock::now_ms;
use crate::node::Home;
use crate::store::Store;
use crate::transport::PeerId;

pub(crate) fn run(args: &Members, env: &mut Env) -> Result<Exit, CliError> {
    match &args.command {
        MembersCommand::List { store } => list(store, env),
        MembersCommand::Add { store, peer, name, lease } => add(store, peer, name.as_deref(), lease, env),
        MembersCommand::Forget { store, peer } => forget(store, peer, env),
    }
}

fn list(store: &Path, env: &mut Env) -> Result<Exit, CliError> {
    let members = seen(&env.store(store)?, &env.home()?)?;
    let (mut printer, now) = (Printer::new(env), now_ms());
    for member in &members {
        printer.item(|| member.line(now), || member.object())?;
    }
    let n = members.len() as u64;
    let text =
        if n == 0 { "the dataset has no members".into() } else { format!("{} member{}", show_count(n), plural(n)) };
    printer.end(Exit::Done, &text, fields(json!({ "members": n })))
}

/// A member as a home sees it.
pub(crate) struct Seen {
    peer: PeerId,
    member: Member,
    /// When it last signed a receipt that is kept here.
    heard: Option<Millis>,
    me: bool,
}

/// The members of a store's dataset, and when they were heard of.
///
/// # Errors
/// What the store met, `home.file`, `home.identity`.
pub(crate) fn seen(store: &Store, home: &Home) -> Result<Vec<Seen>, CliError> {
    let (receipts, me) = (home.receipts(store.definition().id)?, home.identity()?.peer());
    let of = |(peer, member)| {
        let seats = receipts.iter().flat_map(|receipt| [receipt.opener, receipt.responder]);
        let heard = seats.filter(|seat| seat.peer == peer).map(|seat| seat.time).max();
        let peer = PeerId(peer);
        Seen { peer, member, heard, me: peer == me }
    };
    Ok(store.members()?.into_iter().map(of).collect())
}

impl Seen {
    fn line(&self, now: Millis) -> String {
        let heard = match self.heard {
            _ if self.me => "this node".into(),
            Some(time) => format!("heard of {}", ago(time, now)),
            None => "never heard of here".into(),
        };
        let lease = show_duration(std::time::Duration::from_millis(self.member.lease));
        format!("{}\t{}\t{heard}, waited for {lease}", self.peer, self.member.name)
    }

    /// For machines.
    pub(crate) fn object(&self) -> Value {
        let Member { name, since, lease } = &self.member;
        json!({
            "t": "member", "peer": self.peer.to_string(), "name": name, "since_ms": since, "lease_ms": lease,
            "heard_ms": self.heard, "me": self.me,
        })
    }
}

fn add(store: &Path, peer: &str, name: Option<&str>, lease: &str, env: &mut Env) -> Result<Exit, CliError> {
    let peer = parsed(peer)?;
    let lease = u64::try_from(parse_duration(lease)?.as_millis()).unwrap_or(u64::MAX);
    let store = env.store(store)?;
    let known = store.members()?.into_iter().find(|(member, _)| *member == peer.0).map(|(_, member)| member);
    let since = known.as_ref().map_or_else(now_ms, |known| known.since);
    let name = name.map(str::to_owned).or(known.map(|known| known.name)).unwrap_or_default();
    let member = Member { name, since, lease };
    store.add_member(&peer.0, &member)?;
    let text = format!("{} is a member of {}", peer.short(), store.definition().name);
    let summary = json!({ "peer": peer.to_string(), "name": member.name, "lease_ms": lease });
    Printer::new(env).end(Exit::Done, &text, fields(summary))
}

fn forget(store: &Path, peer: &str, env: &mut Env) -> Result<Exit, CliError> {
    let peer = parsed(peer)?;
    let found = env.store(store)?.forget_member(&peer.0)?;
    let (exit, text) = match found {
        true => (Exit::Done, format!("{} is no member any more: nothing waits for it", peer.short())),
        false => (Exit::Differs, format!("{} was no member; nothing was changed", peer.short())),
    };
    Printer::new(env).end(exit, &text, fields(json!({ "peer": peer.to_string(), "found": found })))
}
