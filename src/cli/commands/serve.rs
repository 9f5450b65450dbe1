//! `reknit serve STORE…`: answers peers, and commands by the control socket, until interrupted.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use serde_json::{Map, json};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::sides;
use crate::cli::args::{OutputFormat, Serve};
use crate::cli::control::Control;
use crate::cli::env::Env;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Printer;
use crate::cli::units::parse_duration;
use crate::cli::verdicts::now_ms;
use crate::cli::{CliError, Exit};
use crate::core::members::{LEASE_MILLIS, Member};
use crate::core::message::Rights;
use crate::node::{Joined, Node, NodeBrakes, NodeOptions, Served};
use crate::store::Store;
use crate::transport::Address;

pub(crate) fn run(args: &Serve, env: &mut Env) -> Result<Exit, CliError> {
    let (brakes, window) = (sides::brakes::typed(&args.brakes)?, parse_duration(&args.brake_window)?);
    let home = env.home()?;
    let _held = home.hold()?;
    if env.global.output == OutputFormat::Json {
        // Whoever starts a daemon waits for its address, not for its end: an object a line.
        env.global.output = OutputFormat::Jsonl;
    }
    log(env);
    let mut stores = BTreeMap::new();
    for typed in &args.stores {
        let store = env.store(typed)?;
        let path = env.path(typed);
        let canonical = path.canonicalize().unwrap_or(path);
        // Addresses and rights tell datasets by name, sessions by identity.
        let mine = store.definition();
        let same =
            |other: &crate::store::Store| other.definition().id == mine.id || other.definition().name == mine.name;
        if stores.values().any(same) {
            let message = format!(
                "{} holds the dataset {} or one of that name, as another of these stores does",
                typed.display(),
                mine.name
            );
            return Err(CliError::new("serve.same-dataset", message));
        }
        stores.insert(canonical, store);
    }
    let runtime = sides::runtime()?;
    runtime.block_on(async {
        let node = Node::bind(&home, NodeOptions { bind: args.listen, listen: true })?;
        let node = node.with_brakes(NodeBrakes { brakes, window }).when_joined(member_of(stores.values()));
        let at = node.local_addr()?;
        let _control = Control::listen(home.socket(), &stores, at)?;
        // Whoever reads the address may ask for the end.
        let (stop, stopped) = watch::channel(false);
        let _interrupt = Interrupt::listen(stop, env.left.clone());
        for store in stores.values() {
            let definition = store.definition();
            let (peer, host, port) = (node.peer(), at.ip().to_string(), at.port());
            let address = Address { peer, host, port, dataset: definition.name.clone() };
            let told = match env.global.output {
                OutputFormat::Text => format!("serving {} at {address}", definition.name),
                _ => json!({ "t": "serving", "dataset": definition.name, "address": address.to_string() }).to_string(),
            };
            writeln!(env.out, "{told}")?;
        }
        env.out.flush()?;
        let served = stores.values().map(|store| Served { side: Arc::new(store.clone()) }).collect();
        node.serve(served, stopped).await?;
        // A daemon that was asked to end and did is done.
        Printer::new(env).end(Exit::Done, "", Map::new())
    })
}

/// Makes a peer that joins a member of those stores' datasets on which it may anything.
fn member_of<'a>(stores: impl Iterator<Item = &'a Store>) -> Joined {
    let stores: Vec<Store> = stores.filter(|store| store.definition().members().is_some()).cloned().collect();
    Arc::new(move |peer, grants| {
        let may = |store: &&Store| grants.on(store.definition()).anywhere() != Rights::default();
        for store in stores.iter().filter(may) {
            let member = Member { name: String::new(), since: now_ms(), lease: LEASE_MILLIS };
            if let Err(error) = store.add_member(&peer.0, &member) {
                tracing::error!(%error, %peer, "it could not be made a member");
            }
        }
    })
}

/// Log lines on stderr: `RUST_LOG`, or by how often `-v` was given.
fn log(env: &Env) {
    let level = match env.global.verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("reknit={level},warn")));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A second subscriber in one process would be a test's; the first stays.
    let _ = match env.global.output {
        OutputFormat::Text => builder.try_init(),
        _ => builder.json().try_init(),
    };
}
