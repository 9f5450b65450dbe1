//! `reknit join DIR TICKET`: makes a store from a ticket, and makes the two nodes known to each other.

use serde_json::{Map, json};

use super::{invite, sides};
use crate::cli::args::Join;
use crate::cli::env::Env;
use crate::cli::output::Printer;
use crate::cli::{CliError, Exit};
use crate::node::{Node, Ticket};
use crate::store::Store;
use crate::transport::Address;

pub(crate) fn run(args: &Join, env: &mut Env) -> Result<Exit, CliError> {
    let ticket: Ticket = args.ticket.parse()?;
    let address: Address = ticket.address.parse()?;
    let may = invite::grants(&args.may)?.within(&ticket.definition.name);
    let dir = env.path(&args.dir);
    if dir.exists() && dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        let message = format!("{} is there already; name a directory that is not", dir.display());
        return Err(CliError::new("store.exists", message));
    }
    let home = env.home()?;
    let granted = sides::runtime()?.block_on(async {
        let node = Node::client(&home, &address)?;
        let granted = node.take_up(&ticket, &address).await;
        node.shutdown().await;
        granted
    })?;
    // From here on the invitation is used up: what is left is local.
    let store = Store::create(&dir, ticket.definition.clone(), ticket.key.clone(), &env.store_options())?;
    for (collection, layout) in ticket.definition.collections.iter().zip(&ticket.layouts) {
        store.collection(&collection.name)?.set_layout(layout.clone())?;
    }
    home.grant(address.peer, &may)?;
    let granted = granted.names().join(", ");
    let text = format!(
        "joined {}: this node may {granted} there\nfill it with: reknit repair {} {address} --apply",
        ticket.definition.name,
        args.dir.display()
    );
    let summary = json!({ "dataset": ticket.definition.name, "address": address.to_string() });
    Printer::new(env).end(Exit::Done, &text, summary.as_object().cloned().unwrap_or_else(Map::new))
}
