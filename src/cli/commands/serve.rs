//! `reknit serve STORE…`: answers peers, and commands by the control socket, and runs jobs when they are due, until interrupted.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::sides;
use crate::cli::args::{BrakeFlags, OutputFormat, Serve};
use crate::cli::config::{Config, GossipTable};
use crate::cli::control::Control;
use crate::cli::daemon::{Daemon, supervisor};
use crate::cli::env::Env;
use crate::cli::http::{Face, Wanted};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Printer;
use crate::cli::units::parse_duration;
use crate::cli::{CliError, Exit};
use crate::node::{Gossip, GossipOptions, Node, NodeBrakes, NodeOptions, Served, follow_keys, member_of};
use crate::store::Store;
use crate::transport::Address;

/// Where it listens unless it is told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7473);
const BRAKE_WINDOW: &str = "1h";

pub(crate) fn run(args: &Serve, env: &mut Env) -> Result<Exit, CliError> {
    // What is typed goes before what is configured. A daemon has the configuration that it read at its start.
    let home = env.home()?;
    let config = Config::load(&home)?;
    let table = config.serve.clone();
    let flags = BrakeFlags {
        max_delete: args.brakes.max_delete.clone().or(table.max_delete),
        max_change: args.brakes.max_change.clone().or(table.max_change),
    };
    let brakes = sides::brakes::typed(&flags)?;
    let window = args.brake_window.as_deref().or(table.brake_window.as_deref()).unwrap_or(BRAKE_WINDOW);
    let window = parse_duration(window)?;
    let gossip = table.gossip;
    let listen = args.listen.or(table.listen).unwrap_or(LISTEN);
    let typed = if args.stores.is_empty() { table.stores } else { args.stores.clone() };
    if typed.is_empty() && config.jobs.is_empty() {
        let path = config.path.display();
        let message = format!(
            "there is nothing to serve and nothing to do: name a store, or write [serve] or a [job] into {path}"
        );
        return Err(CliError::new("serve.nothing", message));
    }
    let http = args.http.or(table.http).map(|at| {
        let file = args.http_token_file.as_ref().map(|file| env.path(file)).or(table.http_token_file);
        Wanted::new(at, file)
    });
    let http = http.transpose()?;
    let _held = home.hold()?;
    if env.global.output == OutputFormat::Json {
        // Whoever starts a daemon waits for its address, not for its end: an object a line.
        env.global.output = OutputFormat::Jsonl;
    }
    log(env);
    config.warnings.iter().for_each(|warning| env.warn(warning));
    let runtime = sides::runtime()?;
    runtime.block_on(async {
        let (stop, mut stopped) = watch::channel(false);
        let http = match http {
            Some(wanted) => Some(Face::begin(wanted, stopped.clone()).await?),
            None => None,
        };
        let stores = open(&typed, &config, env)?;
        // Who serves nothing has nothing to listen for.
        let node = match stores.is_empty() {
            true => None,
            false => Some(Node::bind(&home, NodeOptions { bind: listen, listen: true })?),
        };
        let node =
            node.map(|node| node.with_brakes(NodeBrakes { brakes, window }).when_joined(member_of(stores.values())));
        let at = node.as_ref().map(Node::local_addr).transpose()?;
        let daemon = Daemon::load(home.clone(), env.global.clone(), config, stores.clone(), at)?;
        let node = node.map(|node| node.with_rate_limits(daemon.rate_limits.clone()));
        let _control = Control::listen(home.socket(), &stores, at, &daemon)?;
        // Whoever reads the address may ask for the end, and for the configuration to be read again.
        let _interrupt = Interrupt::listen(stop, env.left.clone());
        read_again_on_hangup(&daemon, http.as_ref());
        for store in stores.values() {
            let definition = store.definition();
            let (Some(node), Some(at)) = (&node, at) else { continue };
            let (peer, host, port) = (node.peer(), at.ip().to_string(), at.port());
            let address = Address { peer, host, port, dataset: definition.name.clone() };
            let told = match env.global.output {
                OutputFormat::Text => format!("serving {} at {address}", definition.name),
                _ => json!({ "t": "serving", "dataset": definition.name, "address": address.to_string() }).to_string(),
            };
            writeln!(env.out, "{told}")?;
        }
        if stores.is_empty() && env.text() {
            writeln!(env.out, "running the jobs of {}", daemon.view().config.path.display())?;
        }
        if let Some(http) = &http {
            daemon.answers_at(http.at());
            http.shows(&daemon);
            let url = format!("http://{}/", http.at());
            match env.text() {
                true => writeln!(env.out, "answering HTTP at {url}")?,
                false => writeln!(env.out, "{}", json!({ "t": "http", "url": url }))?,
            }
        }
        env.out.flush()?;
        let keeping = daemon.keep_time()?;
        supervisor::ready(&format!("stores: {}, jobs: {}", stores.len(), daemon.view().jobs.len()));
        match node {
            Some(node) => {
                let served = stores.values().map(|store| Served { side: Arc::new(store.clone()) }).collect();
                let begin = |table| begin_gossip(&node, &stores, (table, &flags, window), stopped.clone());
                let gossip = gossip.map(begin).transpose()?;
                gossip.iter().for_each(|gossip| daemon.gossips(gossip.clone()));
                daemon.serves_by(node.clone());
                follow_keys(&node, stores.values(), stopped.clone());
                node.serve_with(served, gossip, stopped).await?;
            }
            // It ends with its sender at the latest.
            None => drop(stopped.wait_for(|stop| *stop).await),
        }
        // Runs end with what they have, on threads of their own.
        drop(tokio::task::spawn_blocking(move || drop(keeping)).await);
        // A daemon that was asked to end and did is done.
        Printer::new(env).end(Exit::Done, "", Map::new())
    })
}

fn begin_gossip(
    node: &Node,
    stores: &BTreeMap<PathBuf, Store>,
    (table, serves, window): (GossipTable, &BrakeFlags, Duration),
    stop: watch::Receiver<bool>,
) -> Result<Gossip, CliError> {
    let GossipTable { seeds, every, repair, advertise, max_delete, max_change, brake_window } = table;
    let flags = BrakeFlags {
        max_delete: max_delete.or_else(|| serves.max_delete.clone()),
        max_change: max_change.or_else(|| serves.max_change.clone()),
    };
    let window = brake_window.as_deref().map(parse_duration).transpose()?.unwrap_or(window);
    let brakes = NodeBrakes { brakes: sides::brakes::typed(&flags)?, window };
    let options = GossipOptions { seeds, advertise, every, repair, brakes, ..GossipOptions::default() };
    let stores: Vec<Store> = stores.values().cloned().collect();
    Ok(Gossip::start(node, &stores, &options, stop)?)
}

/// Opens the stores that are served; names stand for what the configuration says.
fn open(typed: &[PathBuf], config: &Config, env: &Env) -> Result<BTreeMap<PathBuf, Store>, CliError> {
    let mut stores: BTreeMap<PathBuf, Store> = BTreeMap::new();
    for typed in typed {
        let typed = match typed.to_str().filter(|typed| typed.starts_with('@')) {
            Some(name) => PathBuf::from(config.address(name)?),
            None => typed.clone(),
        };
        let store = env.store(&typed)?;
        let path = env.path(&typed);
        let canonical = path.canonicalize().unwrap_or(path);
        // Addresses and rights tell datasets by name, sessions by identity.
        let mine = store.definition();
        let same = |other: &Store| other.definition().id == mine.id || other.definition().name == mine.name;
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
    Ok(stores)
}

/// Lets the daemon read its configuration again at each SIGHUP, and the token of HTTP, within a runtime.
fn read_again_on_hangup(daemon: &Arc<Daemon>, http: Option<&Arc<Face>>) {
    let (daemon, http) = (daemon.clone(), http.cloned());
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let (daemon, http) = (daemon.clone(), http.clone());
            let read = tokio::task::spawn_blocking(move || {
                if let Some(http) = http {
                    daemon.read_token_again(&http);
                }
                daemon.reload()
            });
            let read = read.await;
            match read {
                Ok(Ok(fixed)) if fixed.is_empty() => tracing::info!("the configuration was read again"),
                Ok(Ok(fixed)) => tracing::warn!(
                    keys = fixed.join(", "),
                    "the configuration was read again; these of [serve] are taken up when the daemon begins again"
                ),
                Ok(Err(error)) => tracing::error!(%error, id = error.id, "what was configured before still is"),
                Err(_) => tracing::error!("the configuration could not be read again: a defect"),
            }
        }
    });
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
