//! `reknit serve STORE|TABLE…`: answers peers, and commands by the control socket, and runs jobs when they are due, until interrupted.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::sides;
use crate::cli::args::{BrakeFlags, OutputFormat, Serve};
use crate::cli::config::{Config, GossipTable};
use crate::cli::control::Control;
use crate::cli::daemon::{Daemon, NotTaken, supervisor};
use crate::cli::env::Env;
use crate::cli::http::{Face, Wanted};
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Printer;
use crate::cli::shared_tables::{self, SharedTable};
use crate::cli::units::parse_duration;
use crate::cli::{CliError, Exit};
use crate::core::Definition;
use crate::node::{
    Declared, Gossip, GossipOptions, Node, NodeBrakes, NodeOptions, Served, Windows, follow_keys, member_of,
};
use crate::store::linked::ServedTable;
use crate::store::{Side, Store};
use crate::transport::Address;

/// Where it listens unless it is told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7473);
const BRAKE_WINDOW: &str = "1h";

pub(crate) fn run(args: &Serve, env: &mut Env) -> Result<Exit, CliError> {
    // What is typed goes before what is configured. A daemon has the configuration that it read at its start.
    let home = env.home()?;
    let config = Config::load_to_serve(&home)?;
    let home = home.with_declared(Declared::new(config.declared()));
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
    config.warnings.iter().chain(&config.overruled()).for_each(|warning| env.warn(warning));
    let reading_ends = Arc::new(AtomicBool::new(false));
    // A client of a database has a runtime of its own, and cannot begin within another.
    let tables = tables(&typed, &config, env, &reading_ends)?;
    let runtime = sides::runtime()?;
    runtime.block_on(async {
        let (stop, mut stopped) = watch::channel(false);
        let http = match http {
            Some(wanted) => Some(Face::begin(wanted, stopped.clone()).await?),
            None => None,
        };
        let stores = open(&typed, &config, &tables, env)?;
        // Who serves nothing has nothing to listen for.
        let node = match stores.is_empty() && tables.is_empty() {
            true => None,
            false => Some(Node::bind(&home, NodeOptions { bind: listen, listen: true })?),
        };
        let node =
            node.map(|node| node.with_brakes(NodeBrakes { brakes, window }).when_joined(member_of(stores.values())));
        let at = node.as_ref().map(Node::local_addr).transpose()?;
        let daemon = Daemon::load(home.clone(), env.global.clone(), config, stores.clone(), at)?;
        let windows = Arc::<Windows>::default();
        daemon.counts_in(windows.clone(), window);
        daemon.goes_by(said(args), (!args.stores.is_empty()).then(|| args.named.clone()));
        let node = node.map(|node| node.with_rate_limits(daemon.rate_limits.clone()).with_windows(windows));
        let _control = Control::listen(home.socket(), &stores, at, &daemon)?;
        // Whoever reads the address may ask for the end, and for the configuration to be read again.
        let _interrupt = Interrupt::listen(stop, env.left.clone());
        read_again_on_hangup(&daemon, http.as_ref());
        let tables_side = tables.iter().map(|(_, table)| Arc::new(table.clone()) as Arc<dyn Side>);
        let sides = stores.values().map(|store| Arc::new(store.clone()) as Arc<dyn Side>).chain(tables_side);
        let served: Vec<Served> = sides.map(|side| Served { side }).collect();
        daemon.compares(tables);
        if let Some(http) = &http {
            daemon.answers_at(http.at());
            http.shows(&daemon);
        }
        home.peers()?;
        let begin = |(node, table)| begin_gossip(node, &stores, (table, &flags, window), stopped.clone());
        let gossip = node.as_ref().zip(gossip).map(begin).transpose()?;
        gossip.iter().for_each(|gossip| daemon.gossips(gossip.clone()));
        node.iter().for_each(|node| daemon.serves_by(node.clone()));
        let keeping = daemon.keep_time()?;
        // Whoever hears where it is finds it ready.
        if let Err(error) = announce(env, &daemon, &served, node.as_ref().zip(at), http.as_deref()) {
            drop(tokio::task::spawn_blocking(move || drop(keeping)).await);
            return Err(error);
        }
        supervisor::ready(&format!("stores: {}, jobs: {}", served.len(), daemon.view().jobs.len()));
        match node {
            Some(node) => {
                follow_keys(&node, stores.values(), stopped.clone());
                let ended = node.serve_with(served, gossip, stopped).await;
                reading_ends.store(true, Ordering::Relaxed);
                ended?;
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

/// Says where the daemon is, a line for each thing that it serves.
fn announce(
    env: &mut Env,
    daemon: &Daemon,
    served: &[Served],
    node: Option<(&Node, SocketAddr)>,
    http: Option<&Face>,
) -> Result<(), CliError> {
    for Served { side } in served {
        let definition = side.describe().definition;
        let Some((node, at)) = node else { continue };
        let (peer, host, port) = (node.peer(), at.ip().to_string(), at.port());
        let address = Address { peer, host, port, dataset: definition.name.clone() };
        let told = match env.global.output {
            OutputFormat::Text => format!("serving {} at {address}", definition.name),
            _ => json!({ "t": "serving", "dataset": definition.name, "address": address.to_string() }).to_string(),
        };
        writeln!(env.out, "{told}")?;
    }
    if served.is_empty() && env.text() {
        writeln!(env.out, "running the jobs of {}", daemon.view().config.path.display())?;
    }
    if let Some(http) = http {
        let url = format!("http://{}/", http.at());
        match env.text() {
            true => writeln!(env.out, "answering HTTP at {url}")?,
            false => writeln!(env.out, "{}", json!({ "t": "http", "url": url }))?,
        }
    }
    Ok(env.out.flush()?)
}

/// The keys of `[serve]` that are typed, or said by the environment.
fn said(args: &Serve) -> Vec<&'static str> {
    let said = [
        ("stores", !args.stores.is_empty()),
        ("listen", args.listen.is_some()),
        ("http", args.http.is_some()),
        ("http_token_file", args.http_token_file.is_some()),
        ("max_delete", args.brakes.max_delete.is_some()),
        ("max_change", args.brakes.max_change.is_some()),
        ("brake_window", args.brake_window.is_some()),
    ];
    said.into_iter().filter(|(_, said)| *said).map(|(key, _)| key).collect()
}

fn begin_gossip(
    node: &Node,
    stores: &BTreeMap<PathBuf, Store>,
    (table, serves, window): (GossipTable, &BrakeFlags, Duration),
    stop: watch::Receiver<bool>,
) -> Result<Gossip, CliError> {
    let GossipTable { seeds, every, repair, advertise, max_delete, max_change, brake_window, within: _ } = table;
    let flags = BrakeFlags {
        max_delete: max_delete.or_else(|| serves.max_delete.clone()),
        max_change: max_change.or_else(|| serves.max_change.clone()),
    };
    let window = brake_window.as_deref().map(parse_duration).transpose()?.unwrap_or(window);
    let brakes = NodeBrakes { brakes: sides::brakes::typed(&flags)?, window };
    let options = GossipOptions { seeds, advertise, every, repair, brakes, ..GossipOptions::default() };
    let options = GossipOptions { session_max: options.session_max.max(6 * every), ..options };
    let stores: Vec<Store> = stores.values().cloned().collect();
    Ok(Gossip::start(node, &stores, &options, stop)?)
}

/// Tables that are served, each with where it is.
type Tables = Vec<(String, ServedTable)>;

/// A place as it was typed; names stand for what the configuration says.
fn named(typed: &Path, config: &Config) -> Result<PathBuf, CliError> {
    match typed.to_str().filter(|typed| typed.starts_with('@')) {
        Some(name) => Ok(PathBuf::from(config.address(name)?)),
        None => Ok(typed.to_path_buf()),
    }
}

/// Addresses and rights tell datasets by name, sessions by identity: two of one name cannot be served.
fn refuse_same(typed: &str, mine: &Definition, others: &[Arc<Definition>]) -> Result<(), CliError> {
    if others.iter().any(|other| other.id == mine.id || other.name == mine.name) {
        let message = format!("{typed} holds the dataset {} or one of that name, as another of these does", mine.name);
        return Err(CliError::new("serve.same-dataset", message));
    }
    Ok(())
}

/// Looks at the tables that are served; one that is of no dataset yet becomes one.
fn tables(
    typed: &[PathBuf],
    config: &Config,
    env: &mut Env,
    reading_ends: &Arc<AtomicBool>,
) -> Result<Tables, CliError> {
    let mut all = Tables::new();
    for typed in typed {
        let typed = named(typed, config)?;
        let Some(typed) = typed.to_str().filter(|typed| sides::tables::is_table(typed)) else { continue };
        let table = sides::tables::table(env, typed)?;
        let shared = SharedTable::of_or_new(env, &*table)?;
        let others: Vec<_> = all.iter().map(|(_, other)| other.describe().definition).collect();
        refuse_same(&sides::tables::shown(typed), shared.dataset.definition(), &others)?;
        let served = shared_tables::served(env, typed, (table.place(), &shared), reading_ends.clone())?;
        all.push((table.place().to_string(), served));
    }
    Ok(all)
}

/// Opens the stores that are served beside these tables.
fn open(typed: &[PathBuf], config: &Config, tables: &Tables, env: &Env) -> Result<BTreeMap<PathBuf, Store>, CliError> {
    let mut stores: BTreeMap<PathBuf, Store> = BTreeMap::new();
    let mut others: Vec<_> = tables.iter().map(|(_, table)| table.describe().definition).collect();
    for typed in typed {
        let typed = named(typed, config)?;
        if typed.to_str().is_some_and(sides::tables::is_table) {
            continue;
        }
        let store = env.store(&typed)?;
        let path = env.path(&typed);
        let canonical = path.canonicalize().unwrap_or(path);
        refuse_same(&typed.display().to_string(), store.definition(), &others)?;
        others.push(store.definition().clone());
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
                Ok(Ok(not_taken)) => {
                    tracing::info!("the configuration was read again");
                    let NotTaken { until_begun, overruled, told } = not_taken;
                    told.iter().for_each(|told| tracing::warn!("{told}"));
                    if !until_begun.is_empty() {
                        let keys = until_begun.join(", ");
                        tracing::warn!(keys, "they are taken up when the daemon begins again");
                    }
                    if !overruled.is_empty() {
                        let keys = overruled.join(", ");
                        tracing::warn!(
                            keys,
                            "they are not taken up: the daemon was told otherwise where it was started"
                        );
                    }
                }
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
