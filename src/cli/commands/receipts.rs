//! `reknit receipts list|export|verify`: what two sides signed of their sessions.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use reknit_core::receipt::{Receipt, Seat};
use serde_json::{Value, json};

use super::peers::parsed;
use super::sides::plural;
use crate::cli::args::{Receipts, ReceiptsCommand};
use crate::cli::env::Env;
use crate::cli::output::{Printer, fields};
use crate::cli::records::{hex, unhex};
use crate::cli::units::show_count;
use crate::cli::{CliError, Exit};
use crate::transport::PeerId;

/// Bytes of a line; no receipt is longer.
const LINE_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn run(args: &Receipts, env: &mut Env) -> Result<Exit, CliError> {
    match &args.command {
        ReceiptsCommand::List { store, limit } => list(store, limit.unwrap_or(u64::MAX), env),
        ReceiptsCommand::Export { store } => export(store, env),
        ReceiptsCommand::Verify { file, peer, dataset } => verify(file, peer, dataset.as_deref(), env),
    }
}

fn list(store: &Path, limit: u64, env: &mut Env) -> Result<Exit, CliError> {
    let dataset = env.store(store)?.definition().id;
    let receipts = env.home()?.receipts(dataset)?;
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

fn export(store: &Path, env: &mut Env) -> Result<Exit, CliError> {
    let dataset = env.store(store)?.definition().id;
    let receipts = env.home()?.receipts(dataset)?;
    if env.text() {
        for receipt in &receipts {
            writeln!(env.results(), "{}", object(receipt))?;
        }
        env.results().flush()?;
        return Ok(Exit::Done);
    }
    let mut printer = Printer::new(env);
    for receipt in &receipts {
        printer.item(String::new, || object(receipt))?;
    }
    printer.end(Exit::Done, "", fields(json!({ "receipts": receipts.len() })))
}

fn verify(file: &Path, peers: &[String], dataset: Option<&str>, env: &mut Env) -> Result<Exit, CliError> {
    let peers = peers.iter().map(|peer| parsed(peer)).collect::<Result<Vec<PeerId>, CliError>>()?;
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
        if object(&receipt) != value {
            return Err(refused("receipt.altered", "what it shows is not what was signed".into()));
        }
        let holds = receipt.verify(|peer, statement, signature| PeerId(*peer).verify(statement, signature));
        holds.map_err(|why| refused("receipt.altered", why.to_string()))?;
        if dataset.is_some_and(|id| id != receipt.dataset.to_string()) {
            return Err(refused("receipt.dataset", format!("it is about the dataset {}", receipt.dataset)));
        }
        let signers = [PeerId(receipt.opener.peer), PeerId(receipt.responder.peer)];
        if let Some(stranger) = signers.iter().find(|signer| !peers.contains(signer)) {
            return Err(refused("receipt.other-peer", format!("it is signed by {stranger}, who was not named")));
        }
        held += 1;
        alone += u64::from(receipt.one_witness());
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
    let (verdict, time) = (receipt.verdict.name(), receipt.opener.time);
    format!("{time} ms\t{verdict}\t{with}\t{records} records, root {root}…\t{moved} moved{left}")
}

/// All that a receipt says, and its bytes.
fn object(receipt: &Receipt) -> Value {
    let seat = |seat: &Seat| {
        json!({
            "peer": PeerId(seat.peer).to_string(), "actor": format!("{:016x}", seat.life.actor),
            "nonce": format!("{:016x}", seat.life.nonce), "cut": seat.cut, "commit": seat.commit,
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
