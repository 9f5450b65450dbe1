//! `reknit receipts list|export|verify`: what two sides signed of their sessions.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use reknit_core::DatasetId;
use reknit_core::receipt::{Receipt, Seat};
use serde_json::{Value, json};

use super::peers::parsed;
use super::sides::{plural, tables};
use crate::cli::args::{Receipts, ReceiptsCommand};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::records::{hex, unhex};
use crate::cli::units::{show_count, show_time};
use crate::cli::{CliError, Exit};
use crate::store::Side;
use crate::transport::PeerId;

/// Bytes of a line; no receipt is longer.
const LINE_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn run(args: &Receipts, env: &mut Env) -> Result<Exit, CliError> {
    match &args.command {
        ReceiptsCommand::List { store, with, limit } => {
            let receipts = of(env, store, with.as_deref())?;
            list(&receipts, limit.unwrap_or(u64::MAX), env)
        }
        ReceiptsCommand::Export { store, with } => export(&of(env, store, with.as_deref())?, env),
        ReceiptsCommand::Verify { file, peer, dataset } => verify(file, peer, dataset.as_deref(), env),
    }
}

/// What the home has signed of a store's dataset, of a table, or of two tables; the oldest first.
fn of(env: &Env, store: &Path, with: Option<&str>) -> Result<Vec<Receipt>, CliError> {
    let home = env.home()?;
    let Some(table) = store.to_str().filter(|typed| tables::is_table(typed)) else {
        if with.is_some() {
            let message = "a second side is for two tables; of a store all receipts of its dataset are meant";
            return Err(CliError::new("usage.sides", message));
        }
        return Ok(home.receipts(env.store(store)?.definition().id)?);
    };
    // A table has an index for each shape in which it was compared, and a shape is a dataset; who it was there is the index's.
    let seats = |typed: &str| -> Result<BTreeSet<(DatasetId, u64)>, CliError> {
        let infos = tables::indexes(env, typed)?.into_iter().map(|linked| linked.describe());
        Ok(infos.map(|info| (info.definition.id, info.actor.0)).collect())
    };
    let (one, other) = (seats(table)?, with.map(seats).transpose()?);
    let datasets: BTreeSet<DatasetId> = one.iter().map(|(dataset, _)| *dataset).collect();
    let mut all = Vec::new();
    for dataset in datasets {
        let is = |of: &BTreeSet<(DatasetId, u64)>, seat: &Seat| of.contains(&(dataset, seat.life.actor));
        let mut receipts = home.receipts(dataset)?;
        receipts.retain(|Receipt { opener, responder, .. }| match &other {
            Some(other) => is(&one, opener) && is(other, responder) || is(other, opener) && is(&one, responder),
            None => is(&one, opener) || is(&one, responder),
        });
        all.extend(receipts);
    }
    all.sort_by_key(|receipt| receipt.opener.time);
    Ok(all)
}

fn list(receipts: &[Receipt], limit: u64, env: &mut Env) -> Result<Exit, CliError> {
    let me = env.home()?.identity()?.peer();
    let listed = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut printer = Printer::new(env);
    for receipt in receipts.iter().rev().take(listed) {
        printer.item(|| line(receipt, me), || object(receipt))?;
    }
    let text =
        if receipts.is_empty() { "no session has left a receipt here".into() } else { counted(receipts.len() as u64) };
    printer.end(Exit::Done, &text, fields(json!({ "receipts": receipts.len() })))
}

fn export(receipts: &[Receipt], env: &mut Env) -> Result<Exit, CliError> {
    if env.text() {
        for receipt in receipts {
            writeln!(env.results(), "{}", object(receipt))?;
        }
        env.results().flush()?;
        return Ok(Exit::Done);
    }
    let mut printer = Printer::new(env);
    for receipt in receipts {
        printer.item(String::new, || object(receipt))?;
    }
    printer.end(Exit::Done, "", fields(json!({ "receipts": receipts.len() })))
}

fn verify(file: &Path, peers: &[String], dataset: Option<&str>, env: &mut Env) -> Result<Exit, CliError> {
    let peers = peers.iter().map(|peer| parsed(peer)).collect::<Result<Vec<PeerId>, CliError>>()?;
    let dataset = dataset.map(dataset_id).transpose()?;
    let shown = file.display().to_string();
    let unreadable = |error: std::io::Error| CliError::new("receipt.file", format!("{shown} cannot be read: {error}"));
    let input: Box<dyn Read> = match shown.as_str() {
        "-" => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(env.path(file)).map_err(unreadable)?),
    };
    let mut input = BufReader::new(input);
    let (mut held, mut alone, mut number) = (0, 0, 0u64);
    loop {
        number += 1;
        let mut text = String::new();
        let read = (&mut input).take(LINE_BYTES_MAX).read_line(&mut text).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        let refused = |id, why: String| CliError::refused(id, format!("line {number} of {shown}: {why}"));
        let value: Value =
            serde_json::from_str(&text).map_err(|_| refused("receipt.malformed", "it is no receipt".into()))?;
        if value["t"] == "summary" {
            continue;
        }
        let bytes = value["bytes"].as_str().and_then(unhex);
        let receipt = bytes.map(|bytes| Receipt::decode(&bytes));
        let Some(Ok(receipt)) = receipt else { return Err(refused("receipt.malformed", "it is no receipt".into())) };
        // What people read there must be what was signed.
        if shown_as(&receipt, &value) != value {
            return Err(refused("receipt.altered", "what it shows is not what was signed".into()));
        }
        let holds = receipt.verify(|peer, statement, signature| PeerId(*peer).verify(statement, signature));
        holds.map_err(|why| refused("receipt.altered", why.to_string()))?;
        if dataset.is_some_and(|id| id != receipt.dataset) {
            return Err(refused("receipt.dataset", format!("it is about the dataset {}", receipt.dataset)));
        }
        let signers = [PeerId(receipt.opener.peer), PeerId(receipt.responder.peer)];
        if let Some(stranger) = signers.iter().find(|signer| !peers.contains(signer)) {
            return Err(refused("receipt.other-peer", format!("it is signed by {stranger}, who was not named")));
        }
        held += 1;
        alone += u64::from(receipt.one_witness());
    }
    if held == 0 {
        // Whoever asks whether receipts hold takes silence for a yes.
        return Err(CliError::new("receipt.none", format!("there is no receipt in {shown}: nothing was proven")));
    }
    let one = match alone {
        0 => String::new(),
        n => format!(
            "; {} one witness: a process that held both stores",
            if n == 1 { "one has".into() } else { format!("{} have", show_count(n)) }
        ),
    };
    let text = format!("{} as signed{one}", counted(held));
    Printer::new(env).end(Exit::Done, &text, fields(json!({ "receipts": held, "one_witness": alone })))
}

fn dataset_id(typed: &str) -> Result<DatasetId, CliError> {
    let id = unhex(typed).and_then(|bytes| bytes.try_into().ok()).map(DatasetId);
    id.ok_or_else(|| {
        let message = format!("{typed:?} is no id of a dataset, which has 32 hex digits: reknit dataset show STORE");
        CliError::new("usage.dataset", message)
    })
}

fn counted(n: u64) -> String {
    format!("{} receipt{}", show_count(n), plural(n))
}

fn line(receipt: &Receipt, me: PeerId) -> String {
    let other = if receipt.opener.peer == me.0 { receipt.responder.peer } else { receipt.opener.peer };
    let with = match receipt.one_witness() {
        true => "one witness".into(),
        false => format!("with {}", PeerId(other).short()),
    };
    let tally = &receipt.tally;
    let moved = show_count(tally.to_opener + tally.to_responder);
    let left = if tally.left == 0 { String::new() } else { format!(", {} left", show_count(tally.left)) };
    let (records, root) = (show_count(receipt.responder.root.count), hex(&receipt.responder.root.digest.0[..8]));
    let (verdict, time) = (receipt.verdict.name(), show_time(receipt.opener.time));
    format!("{time}\t{verdict}\t{with}\t{records} records, root {root}…\t{moved} moved{left}")
}

/// The same as [`object`], without what was not yet shown when that was exported.
fn shown_as(receipt: &Receipt, value: &Value) -> Value {
    let mut shown = object(receipt);
    for seat in ["opener", "responder"] {
        if value[seat].get("undone").is_none()
            && let Some(seat) = shown[seat].as_object_mut()
        {
            seat.remove("undone");
        }
    }
    shown
}

/// All that a receipt says, and its bytes.
fn object(receipt: &Receipt) -> Value {
    let seat = |seat: &Seat| {
        json!({
            "peer": PeerId(seat.peer).to_string(), "actor": format!("{:016x}", seat.life.actor),
            "nonce": format!("{:016x}", seat.life.nonce), "cut": seat.cut, "commit": seat.commit, "undone": seat.undone,
            "stamp": format!("{:016x}", seat.stamp.0),
            "root": { "count": seat.root.count, "digest": hex(&seat.root.digest.0) }, "time_ms": seat.time,
        })
    };
    let tally = &receipt.tally;
    json!({
        "t": "receipt", "dataset": receipt.dataset.to_string(), "definition": hex(&receipt.definition.0),
        "collections": receipt.scope.iter().map(|collection| collection.0).collect::<Vec<_>>(),
        "verdict": receipt.verdict.name(), "one_witness": receipt.one_witness(),
        "opener": seat(&receipt.opener), "responder": seat(&receipt.responder),
        "differences": tally.differences, "left": tally.left, "to_opener": tally.to_opener,
        "to_responder": tally.to_responder, "bytes": hex(&receipt.encode()),
    })
}
