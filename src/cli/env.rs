//! The surroundings of a command: its streams, its home, its directory, the stores that are open.
//!
//! The same command runs in a process of its own or within a daemon that holds the stores; only
//! this differs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Read, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use reknit_core::agenda::{FreshIndex, Named, Trial};
use reknit_core::members::MEMBERS;

use super::CliError;
use super::args::{Cli, Engine, Global, InCollection, OutputFormat};
use super::commands::sides::tables;
use super::config::Config;
use super::daemon::Daemon;
use super::layouts::of_collection;
use super::metrics::Measured;
use super::output::OfTable;
use super::passing::Passing;
use super::patience::{self, Patience};
use crate::format::Layout;
use crate::node::{Home, Windows};
use crate::store::{Collection, EngineKind, Options, Store};
use crate::transport::{RateLimits, Rates};

/// What a command works with.
pub(crate) struct Env {
    /// Where results go.
    pub(crate) out: Box<dyn Write + Send>,
    /// Whether what goes there are the records of a store, so that a report goes elsewhere.
    pub(crate) out_is_data: bool,
    /// Where everything else goes.
    pub(crate) err: Box<dyn Write + Send>,
    /// What is typed or piped in.
    pub(crate) input: Box<dyn Read + Send>,
    /// Whether a person looks at stderr.
    pub(crate) terminal: bool,
    /// Relative paths begin here.
    pub(crate) dir: PathBuf,
    /// The flags of every command.
    pub(crate) global: Global,
    /// What the command is called in results.
    pub(crate) command: &'static str,
    /// Stores that are open already, by their canonical directories.
    pub(crate) open: BTreeMap<PathBuf, Store>,
    /// Stores that the command has opened to look at them as tables, until it ends.
    pub(crate) beside: Mutex<BTreeMap<PathBuf, Store>>,
    /// Whether whoever waits for the command in another process went away.
    pub(crate) left: tokio::sync::watch::Receiver<bool>,
    /// Where it is told that the command waits for what another process works on; nothing where it does not wait.
    pub(crate) patience: Option<Patience>,
    /// Where the daemon that runs the command listens.
    pub(crate) listening: Option<std::net::SocketAddr>,
    /// The job that the command is, if it is one.
    pub(crate) job: Option<String>,
    /// What is configured, once somebody has asked.
    pub(crate) config: OnceLock<Arc<Config>>,
    /// How fast sessions with peers go, where that is shared with others.
    pub(crate) rate_limits: Option<Arc<RateLimits>>,
    /// Where sessions count what they lose stores, and how far back, where nobody waits for the command and others count too.
    pub(crate) windows: Option<(Arc<Windows>, Duration)>,
    /// What was told already that stops nothing.
    pub(crate) warned: Mutex<BTreeSet<String>>,
    /// What a session found.
    pub(crate) measured: Option<Measured>,
    /// The table of two databases that results are of, where a command goes through several.
    pub(crate) table: Option<OfTable>,
    /// The error that the command ended with: its id, and what it says.
    pub(crate) failed: Option<(&'static str, String)>,
    /// The indexes that were made to tell what their tables held, where a daemon wants to know.
    pub(crate) followed: Option<Vec<FreshIndex>>,
    /// What sessions are to leave out, and to try, of what is parked of a job.
    pub(crate) trial: Trial,
    /// The pass through a store of which the command makes a part; nothing where it is to read all of it.
    pub(crate) pass: Option<Passing>,
    /// Where a store could not answer, if that ended the command.
    pub(crate) stuck: Option<Named>,
    /// The daemon that runs the command.
    pub(crate) daemon: Option<Arc<Daemon>>,
}

impl Env {
    /// The streams and the directory of this process.
    pub(crate) fn of_process(cli: &Cli) -> Env {
        Env {
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            input: Box::new(std::io::stdin()),
            terminal: std::io::stderr().is_terminal(),
            command: cli.command.name(),
            followed: None,
            ..Env::unheard(&cli.global, std::env::current_dir().unwrap_or_default())
        }
    }

    /// The surroundings of what a daemon does by itself: nobody types or reads, and warnings go to its log.
    pub(crate) fn unheard(global: &Global, dir: PathBuf) -> Env {
        Env {
            out: Box::new(std::io::sink()),
            out_is_data: false,
            err: Box::new(std::io::sink()),
            input: Box::new(std::io::empty()),
            terminal: false,
            dir,
            global: global.clone(),
            command: "",
            open: BTreeMap::new(),
            beside: Mutex::default(),
            left: tokio::sync::watch::channel(false).1,
            patience: None,
            listening: None,
            job: None,
            config: OnceLock::new(),
            rate_limits: None,
            windows: None,
            warned: Mutex::default(),
            measured: None,
            table: None,
            failed: None,
            followed: Some(Vec::new()),
            trial: Trial::default(),
            pass: None,
            stuck: None,
            daemon: None,
        }
    }

    /// Whether results are for people.
    pub(crate) fn text(&self) -> bool {
        self.global.output == OutputFormat::Text
    }

    /// Where results and summaries go: not between the records of an export.
    pub(crate) fn results(&mut self) -> &mut (dyn Write + Send) {
        if self.out_is_data { &mut *self.err } else { &mut *self.out }
    }

    /// A path as it was typed, from the directory of the command.
    pub(crate) fn path(&self, typed: &Path) -> PathBuf {
        self.dir.join(typed)
    }

    /// The home.
    pub(crate) fn home(&self) -> Result<Home, CliError> {
        // Whoever asks a daemon for something and names no home means the daemon's, not what its own surroundings say there.
        match self.daemon.as_ref().filter(|_| self.global.home.is_none()) {
            Some(daemon) => Ok(daemon.home().clone()),
            None => Ok(Home::open(&home_dir(&self.global)?)?),
        }
    }

    /// # Errors
    /// `home.none` if the home is not there: whoever is to look at one makes none.
    pub(crate) fn needs_home(&self) -> Result<(), CliError> {
        let dir = home_dir(&self.global)?;
        // What else may be wrong with it is told by whoever opens it.
        if !matches!(std::fs::metadata(&dir), Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
            return Ok(());
        }
        let message = format!(
            "there is no home at {}: nothing was compared or configured there, and nothing was made; name another with --home or \
             REKNIT_HOME, or begin one: reknit check A B, or reknit config init",
            dir.display()
        );
        Err(CliError::new("home.none", message))
    }

    /// The configuration of the home; what whoever wrote it should know is told once.
    pub(crate) fn config(&self) -> Result<&Config, CliError> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = Config::load(&self.home()?)?;
        config.warnings.iter().for_each(|warning| self.warn(warning));
        Ok(self.config.get_or_init(|| Arc::new(config)))
    }

    /// How fast sessions with peers go, with a bound for those of this command.
    pub(crate) fn rate_limits(&self, bytes: Option<NonZeroU32>) -> Result<Arc<RateLimits>, CliError> {
        let rate_limits = match &self.rate_limits {
            Some(shared) => Arc::clone(shared),
            None => Arc::new(self.config()?.rate_limits()),
        };
        let rates = Rates { bytes, records: None };
        Ok(if bytes.is_some() { Arc::new(rate_limits.and(rates)) } else { rate_limits })
    }

    /// Tells what is to be known, though it stops nothing, once.
    pub(crate) fn warn(&self, warning: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !warned.insert(warning.to_string()) {
            return;
        }
        // Of a run of a job nobody reads what it prints; its log is read.
        if self.followed.is_some() {
            tracing::warn!("{warning}");
        } else if !self.global.quiet {
            eprintln!("reknit: {warning}");
        }
    }

    /// A store of this machine.
    pub(crate) fn store(&self, typed: &Path) -> Result<Store, CliError> {
        patience::once_free(self, || self.store_now(typed))
    }

    fn store_now(&self, typed: &Path) -> Result<Store, CliError> {
        let path = self.path(typed);
        let table = typed.strip_prefix(&self.dir).unwrap_or(typed).to_str().filter(|typed| tables::is_table(typed));
        if let Some(table) = table.filter(|_| !path.exists()) {
            return Err(tables::no_store(table));
        }
        if let Some(open) = path.canonicalize().ok().and_then(|path| self.open.get(&path)) {
            return Ok(open.clone());
        }
        Ok(Store::open(&path, &self.store_options())?)
    }

    /// A store of this machine, which stays open until the command ends.
    pub(crate) fn store_beside(&self, path: &Path) -> Result<Store, CliError> {
        let real = path.canonicalize().unwrap_or_else(|_| path.into());
        let mut beside = self.beside.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(open) = beside.get(&real) {
            return Ok(open.clone());
        }
        // Whoever waits for it has let go of these meanwhile.
        let store = self.store_now(path)?;
        beside.insert(real, store.clone());
        Ok(store)
    }

    /// How stores are made and opened here.
    pub(crate) fn store_options(&self) -> Options {
        let engine = match self.global.engine {
            Some(Engine::Fjall) => EngineKind::Fjall,
            Some(Engine::Redb) => EngineKind::Redb,
            None => EngineKind::default(),
        };
        Options { engine, gives_way: true, ..Options::default() }
    }

    /// How the rows of a store's first collection are laid out.
    pub(crate) fn layout(&self, store: &Store) -> Result<Layout, CliError> {
        of_collection(&store.first())
    }

    /// The collection of a store that is meant, and how its rows are laid out.
    pub(crate) fn collection(&self, store: &Store, of: &InCollection) -> Result<(Collection, Layout), CliError> {
        let collection = match of.name.as_deref() {
            None => store.first(),
            Some(MEMBERS) => {
                let message = format!(
                    "{MEMBERS} holds no records of yours; the members of a dataset are those of: reknit members list STORE"
                );
                return Err(CliError::new("store.no-collection", message));
            }
            Some(name) => store.collection(name)?,
        };
        let layout = of_collection(&collection)?;
        Ok((collection, layout))
    }
}

/// Where the home is: the flag, its environment twin, the system's place for state.
pub(crate) fn home_dir(global: &Global) -> Result<PathBuf, CliError> {
    if let Some(dir) = &global.home {
        return Ok(dir.clone());
    }
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = var("XDG_STATE_HOME").or_else(|| var("HOME").map(|home| home.join(".local/state")));
    let state = state.ok_or_else(|| CliError::new("home.none", "there is no home; name one with --home DIR"))?;
    Ok(state.join("reknit"))
}
