//! `reknit join DIR|TABLE TICKET`: makes a store from a ticket, or lets a table take part in its dataset, and makes the two nodes
//! known to each other.

use reknit_core::message::Rights;
use serde_json::{Map, json};

use super::invite;
use super::sides::{self, tables};
use crate::cli::args::{Join, TermFlags};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::shared_tables::{self, SharedTable};
use crate::cli::{CliError, Exit};
use crate::node::{Grants, Home, Node, Ticket};
use crate::store::Store;
use crate::store::linked::TableDataset;
use crate::transport::Address;

pub(crate) fn run(args: &Join, env: &mut Env) -> Result<Exit, CliError> {
    let ticket: Ticket = args.ticket.parse()?;
    let address: Address = ticket.address.parse()?;
    let may = invite::grants(&args.may)?.within(&ticket.definition.name);
    if let Some(typed) = args.dir.to_str().filter(|typed| tables::is_table(typed)) {
        return table(typed, (&ticket, &address, &may), args, env);
    }
    if ticket.table.is_some() {
        let message = "the ticket is for a dataset of tables: name the table that is to be compared, as in reknit join \
                       sqlite:b.db/t TICKET; nothing was changed, and the ticket is not used up";
        return Err(CliError::refused("join.kind", message));
    }
    if [&args.rename, &args.ignore, &args.zone].iter().any(|typed| !typed.is_empty()) {
        let message = "--rename, --ignore and --zone are for a table that joins; a store takes whole records";
        return Err(CliError::new("usage.terms", message));
    }
    let dir = env.path(&args.dir);
    if dir.exists() && dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        let message = format!("{} is there already; name a directory that is not", dir.display());
        return Err(CliError::new("store.exists", message));
    }
    let home = env.home()?;
    let granted = take_up(&home, &ticket, &address)?;
    // From here on the invitation is this node's: what is left is local.
    let store = Store::create(&dir, ticket.definition.clone(), ticket.key.clone(), &env.store_options())?;
    for (collection, layout) in ticket.definition.collections.iter().zip(&ticket.layouts) {
        store.collection(&collection.name)?.set_layout(layout.clone())?;
    }
    home.grant(address.peer, &may)?;
    let (may, names) = (granted.on(&ticket.definition).anywhere(), granted.names().join(", "));
    let (name, dir) = (&ticket.definition.name, args.dir.display());
    let next = match (may.allow(Rights::READ), may.allow(Rights::WRITE)) {
        (true, true) => format!("fill it with: reknit repair {dir} {address} --apply"),
        (true, false) => format!("fill it with: reknit repair {dir} {address} --to a --apply"),
        (false, true) => format!("give what it holds with: reknit repair {dir} {address} --to b --apply"),
        (false, false) => format!("compare it with: reknit check {dir} {address}"),
    };
    let text = format!("joined {name}: this node may {names} there\n{next}");
    let summary = json!({ "dataset": ticket.definition.name, "address": address.to_string() });
    Printer::new(env).end(Exit::Done, &text, summary.as_object().cloned().unwrap_or_else(Map::new))
}

/// Shows the ticket to the node that issued it; says what this one may there.
fn take_up(home: &Home, ticket: &Ticket, address: &Address) -> Result<Grants, CliError> {
    Ok(sides::runtime()?.block_on(async {
        let node = Node::client(home, address)?;
        let granted = node.take_up(ticket, address).await;
        node.shutdown().await;
        granted
    })?)
}

/// Lets a table take part in the dataset of a ticket, if it fits.
fn table(
    typed: &str,
    (ticket, address, may): (&Ticket, &Address, &Grants),
    args: &Join,
    env: &mut Env,
) -> Result<Exit, CliError> {
    let Some(shape) = &ticket.table else {
        let message = "the ticket is for a dataset of stores: name a directory that is not there yet; nothing was changed, and \
                       the ticket is not used up";
        return Err(CliError::refused("join.kind", message));
    };
    let dataset = TableDataset::of(ticket.definition.clone(), ticket.key.clone(), shape)?;
    let table = tables::table(env, typed)?;
    shared_tables::free(env, &*table)?;
    let zone = args.zone.iter().map(|zone| format!("b{}{zone}", if zone.contains('=') { "." } else { "=" })).collect();
    let (rename, ignore) = (args.rename.clone(), args.ignore.clone());
    let asked = TermFlags { rename, ignore, zone, ..TermFlags::default() }.terms()?;
    let shape = dataset.shape_of(table.place(), table.columns(), &asked)?;
    if let (Some(filter), true) = (shape.filter(), tables::is_file(typed)) {
        let message = format!(
            "the dataset is of rows where {filter}, and {} knows no SQL that could tell which those are; nothing was changed, and \
             the ticket is not used up",
            table.place()
        );
        return Err(CliError { exit: Exit::Refused, ..CliError::new("database.shape", message) });
    }
    let home = env.home()?;
    let granted = take_up(&home, ticket, address)?;
    // From here on the invitation is this node's: what is left is local.
    SharedTable::keep(env, &*table, dataset, shape)?;
    home.grant(address.peer, may)?;
    let (granted, name, typed) = (granted.names().join(", "), &ticket.definition.name, tables::typed_again(typed));
    let text = format!("joined {name}: this node may {granted} there\ncompare it with: reknit check {typed} {address}");
    let summary = json!({ "dataset": name, "address": address.to_string(), "table": table.place() });
    Printer::new(env).end(Exit::Done, &text, fields(summary))
}
