//! The configuration, `config.toml` in the home: names for stores, where passwords come from, what tables are compared on, jobs.
//!
//! Nothing needs it. What a job does is the command's that it names; when it is due is the scheduler's.

mod alerts;
mod error;
mod gossip;
mod job;
mod objective;
mod peer;
mod section;
mod serve;
mod template;
mod when;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use toml::de::DeTable;

pub(crate) use self::alerts::{AlertsTable, COMMAND};
pub(crate) use self::error::ConfigError;
use self::error::{Errors, Lines, malformed};
pub(crate) use self::gossip::GossipTable;
pub(crate) use self::job::{Job, bytes_a_day, max_time, time_a_day};
pub(crate) use self::peer::{PeerTable, bandwidth};
use self::section::{Section, Source, meant};
pub(crate) use self::serve::ServeTable;
pub(crate) use self::template::TEMPLATE;
pub(crate) use self::when::jitter;
use super::CliError;
use super::args::{Cli, Command, Place};
use super::commands::apply;
use super::commands::repair;
use super::commands::sides::{self, tables};
use super::env::Env;
use super::login::{Password, Source as From};
use crate::node::{Home, KnownPeer};
use crate::transport::{PeerId, RateLimits, Rates};

const PASSWORD_FILE: &str = "password_file";
const PASSWORD_ENV: &str = "password_env";
const PASSWORD_COMMAND: &str = "password_command";
/// Bytes of the file.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// What is in it.
const TABLES: [&str; 8] = ["identity", "serve", "gossip", "alerts", "peer", "store", "dataset", "job"];
/// Ends what stopped a command before it did anything.
const DONE_NOTHING: &str = "; nothing was done";
/// Rights of others than the owner, in the mode of a file.
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;

/// What is written in the configuration.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// Where it is, or would be.
    pub(crate) path: PathBuf,
    /// Whether it is there.
    exists: bool,
    /// Stores by their names.
    pub(crate) stores: BTreeMap<String, NamedStore>,
    /// Jobs by their names.
    pub(crate) jobs: BTreeMap<String, Job>,
    /// Peers by their names.
    pub(crate) peers: BTreeMap<String, PeerTable>,
    /// Which peer this home is, if that is said.
    identity: Option<PeerId>,
    /// What a daemon does.
    pub(crate) serve: ServeTable,
    /// Whom it tells what is wrong.
    pub(crate) alerts: AlertsTable,
    /// What whoever wrote it should know.
    pub(crate) warnings: Vec<String>,
    lines: Lines,
    /// What jobs do, of those that somebody has asked about.
    does: Mutex<BTreeMap<String, Option<Does>>>,
}

/// The name of a command, and its sides without passwords.
pub(crate) type Does = (&'static str, Vec<String>);

/// A store that has a name.
#[derive(Debug)]
pub(crate) struct NamedStore {
    /// Its address, or its directory in full.
    pub(crate) url: String,
    /// Where its password is, if that is not for others to know.
    pub(crate) password: Option<Password>,
}

impl Config {
    /// Reads the configuration of a home; nothing is in one that is not there.
    ///
    /// # Errors
    /// `config.file` and `config.malformed`, with the line.
    pub(crate) fn load(home: &Home) -> Result<Config, CliError> {
        let (config, errors) = Config::read(home)?;
        error::first(&errors)?;
        Ok(config)
    }

    /// Reads what can be understood of it, and all that is wrong with the rest.
    ///
    /// # Errors
    /// `config.file`.
    pub(crate) fn read(home: &Home) -> Result<(Config, Vec<ConfigError>), CliError> {
        let path = home.config();
        let failed = |cause: std::io::Error| {
            CliError::new("config.file", format!("{} cannot be read: {cause}; nothing was done", path.display()))
        };
        let found = match std::fs::metadata(&path) {
            Ok(found) => found,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                return Ok((Config { path, ..Config::default() }, Vec::new()));
            }
            Err(cause) => return Err(failed(cause)),
        };
        if found.len() > CONFIG_BYTES_MAX {
            return Err(failed(std::io::Error::other(format!("it has more than {CONFIG_BYTES_MAX} bytes"))));
        }
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        let (mut config, errors) = Config::parse(&path, &text, |variable| std::env::var_os(variable).is_some());
        let has_password = config.stores.values().any(|store| tables::has_password(&store.url));
        if has_password && found.mode() & OTHERS != 0 {
            let path = path.display();
            config.warnings.push(format!(
                "{path} holds a password, and others than its owner may read it: chmod 600 {path}, or password_file"
            ));
        }
        if config.peers.values().any(|peer| peer.may.is_some()) && found.mode() & OTHERS_WRITE != 0 {
            let path = path.display();
            let words = "says what peers may, and others than its owner may write it";
            config.warnings.push(format!("{path} {words}: chmod go-w {path}"));
        }
        config.warnings.extend(config.alerts.warning());
        Ok((config, errors))
    }

    fn parse(path: &Path, text: &str, environment: fn(&str) -> bool) -> (Config, Vec<ConfigError>) {
        let errors = Errors::default();
        let source = Source { path, text, errors: &errors, environment };
        let root = source.parse();
        let mut config = Config { path: path.into(), exists: true, ..Config::default() };
        // What is no TOML shifts what would be told of the rest.
        if errors.count() == 0 {
            config.lines = Lines::of(text, root.get_ref());
            config.fill(source, root.get_ref());
        }
        (config, errors.sorted())
    }

    /// Reads all tables.
    fn fill<'t>(&mut self, source: Source<'t>, root: &'t DeTable<'t>) {
        let dir = source.path.parent().unwrap_or(source.path);
        for (key, _) in root {
            let name = key.get_ref();
            if !TABLES.contains(&&**name) {
                let meant = meant(name, TABLES.into_iter());
                source.note((name, None), key.span(), format!("unknown table [{name}]{meant}"));
            }
        }
        let section = |name: &str| Section::of(source, name.into(), root.get(name)?);
        let sections = |name: &str| section(name).map(|section| section.sections()).unwrap_or_default();
        if let Some(section) = section("serve") {
            self.serve = ServeTable::read(&section, dir);
        }
        if let Some(section) = section("identity") {
            section.only(&["peer"]);
            self.identity = section.read("peer", |id| id.parse().map_err(|error| format!("it is no peer: {error}")));
        }
        if let Some(section) = section("alerts") {
            self.alerts = AlertsTable::read(&section, dir);
        }
        for (name, section) in sections("store") {
            self.stores.insert(name.into(), NamedStore::read(&section, dir));
        }
        let stores: Vec<&str> = self.stores.keys().map(String::as_str).collect();
        self.peers = peer::peers(sections("peer"), &stores);
        let names: Vec<&str> = stores.iter().copied().chain(self.peers.keys().map(String::as_str)).collect();
        let address = |typed: &str| self.address(typed).map_err(|error| said(&error).to_string());
        let gossip = section("gossip").map(|section| GossipTable::read(&section, address));
        let datasets: Vec<_> =
            sections("dataset").iter().map(|(name, section)| (*name, job::dataset(section))).collect();
        for (name, section) in sections("job") {
            if let Some(job) = Job::read(&section, (&stores, &names), &datasets) {
                self.jobs.insert(name.into(), job);
            }
        }
        self.serve.gossip = gossip;
        for (name, message) in self.jobs.keys().filter_map(|name| Some((name, self.never(name)?))) {
            let (table, key) = (format!("job.{name}"), "do");
            let message = format!("`{key}` in [{table}]: {message}");
            source.errors.note(malformed(source.path, (self.lines.of_key(&table, key), &table, Some(key)), message));
        }
    }

    /// Why each run of a job would be refused, where that follows from what is written alone.
    fn never(&self, name: &str) -> Option<String> {
        let Command::Repair(args) = self.command(name).ok()? else { return None };
        // Whether a directory beside a table is a store of rows is known where it is opened.
        sides::refuse_one_table(&args.sides).ok()?;
        Some(repair::admit(&args).err()?.message)
    }

    /// Takes another one in place of this one, by which a daemon goes.
    ///
    /// # Errors
    /// `config.file`: this one was there, and nothing is any more; half a replacement takes no jobs and no alerts away.
    pub(crate) fn followed_by(&self, next: Config) -> Result<Config, CliError> {
        if self.exists && !next.exists {
            let message =
                format!("{} is not there any more; an empty file takes away what it said", self.path.display());
            return Err(CliError::new("config.file", message));
        }
        Ok(next)
    }

    /// What a running daemon that began with this one cannot take up of another, each by its table and key. It serves what is
    /// configured, or these, if it was told.
    pub(crate) fn fixed(&self, other: &Config, told: Option<&[PathBuf]>) -> Vec<(String, &'static str)> {
        let of = |table: &str, keys: Vec<&'static str>| keys.into_iter().map(|key| (table.to_string(), key)).collect();
        let mut all: Vec<(String, &'static str)> = of("serve", self.serve.fixed(&other.serve));
        all.extend(match (&self.serve.gossip, &other.serve.gossip) {
            (Some(mine), Some(others)) => of("gossip", mine.fixed(others)),
            (None, None) => Vec::new(),
            _ => of("gossip", vec![""]),
        });
        // A store that is served by its name stays where it was when it was opened.
        let served = told.unwrap_or(&self.serve.stores);
        let named = served.iter().filter_map(|store| store.to_str()?.strip_prefix('@')?.split('/').next());
        for name in named.collect::<BTreeSet<_>>() {
            let url = |config: &Config| config.stores.get(name).map(|store| store.url.clone());
            if url(self) != url(other) {
                all.push((format!("store.{name}"), "url"));
            }
        }
        all
    }

    /// What the environment overrules of jobs, and what it says that they do not go by.
    pub(crate) fn overruled(&self) -> Vec<String> {
        let told = |(name, job): (&String, &Job)| {
            let goes_before = |(key, variable): &(String, String)| {
                format!("{variable} is set, which goes before `{key}` in [job.{name}]")
            };
            let unheard = |variable: &String| {
                format!("{variable} is set, and [job.{name}] does not go by it: what a job writes it says itself")
            };
            let goes_before = job.overruled.iter().map(goes_before);
            goes_before.chain(job.unheard.iter().map(unheard)).collect::<Vec<_>>()
        };
        self.jobs.iter().flat_map(told).collect()
    }

    /// What is named and is not there, or has another's tables: it stops only those who need it.
    pub(crate) fn missing(&self) -> Vec<ConfigError> {
        let mut all = Vec::new();
        let mut look = |table: &str, key: &str, typed: &str| {
            if typed.starts_with('@')
                && let Err(error) = self.address(typed)
            {
                all.push(self.wrong(table, key, error));
            }
        };
        for store in self.serve.stores.iter().filter_map(|store| store.to_str()) {
            look("serve", "stores", store);
        }
        for (name, job) in &self.jobs {
            let table = format!("job.{name}");
            // What it does is judged where it is read.
            let Ok(mut command) = job.command() else { continue };
            let keys: &[&str] = if command.places().len() == 1 { &["store"] } else { &["a", "b"] };
            for (key, place) in keys.iter().zip(command.places()) {
                place.typed().into_iter().for_each(|typed| look(&table, key, typed));
            }
            command.replica().iter().filter_map(Place::typed).for_each(|typed| look(&table, "scan_from", typed));
        }
        all
    }

    /// An error that was found later, at the key that it is about.
    pub(crate) fn wrong(&self, table: &str, key: &str, error: CliError) -> ConfigError {
        let message = format!("`{key}` in [{table}]: {}", said(&error));
        let wrong = malformed(&self.path, (self.lines.of_key(table, key), table, Some(key)), message);
        ConfigError { id: error.id, ..wrong }
    }

    /// The same as [`Config::load`], for a daemon of this home: which must be the peer that the configuration says.
    ///
    /// # Errors
    /// As for [`Config::load`], `config.identity`, `home.identity`.
    pub(crate) fn load_to_serve(home: &Home) -> Result<Config, CliError> {
        let config = Config::load(home)?;
        error::first(config.another(home)?.as_slice())?;
        Ok(config)
    }

    /// That the home is another peer than the configuration says, if it is. One of its older keys is it, too.
    pub(crate) fn another(&self, home: &Home) -> Result<Option<ConfigError>, CliError> {
        let Some(said) = self.identity else { return Ok(None) };
        let found = match home.is_peer(said)? {
            Some(true) => return Ok(None),
            Some(false) => format!("this home is {}, not {said}", home.identity()?.peer()),
            None => format!("this home has no key yet, and would not become {said}"),
        };
        Ok(Some(self.wrong("identity", "peer", CliError::new("config.identity", found))))
    }

    /// How fast sessions go.
    pub(crate) fn rate_limits(&self) -> RateLimits {
        RateLimits::new(self.serve.rates, self.peer_rates())
    }

    /// How fast sessions go with peers that have rates of their own.
    pub(crate) fn peer_rates(&self) -> BTreeMap<PeerId, Rates> {
        self.peers.values().map(|peer| (peer.id, peer.rates)).collect()
    }

    /// The peers of which it says what they may.
    pub(crate) fn declared(&self) -> Vec<KnownPeer> {
        let declared = |(name, peer): (&String, &PeerTable)| {
            Some(KnownPeer { peer: peer.id, may: peer.may.clone()?, name: Some(name.clone()) })
        };
        self.peers.iter().filter_map(declared).collect()
    }

    /// The address that a name stands for: `@NAME`, or `@NAME/TABLE` where the store is a database; `@NAME/DATASET` of a peer.
    pub(crate) fn address(&self, typed: &str) -> Result<String, CliError> {
        let (name, table) = match typed.trim_start_matches('@').split_once('/') {
            Some((name, table)) => (name, Some(table)),
            None => (typed.trim_start_matches('@'), None),
        };
        let wrong = |message: String| CliError::new("config.store", format!("{message}{DONE_NOTHING}"));
        if let Some(peer) = self.peers.get(name) {
            let dataset =
                table.ok_or_else(|| wrong(format!("{typed} is a peer; a dataset there is {typed}/DATASET")))?;
            return peer.at(dataset).ok_or_else(|| wrong(format!("{typed}: [peer.{name}] has no `address`")));
        }
        let Some(store) = self.stores.get(name) else {
            let (path, meant) = (self.path.display(), meant(name, self.names()));
            return Err(wrong(format!("there is no [store.{name}] in {path}{meant}")));
        };
        match table {
            None => Ok(store.url.clone()),
            Some(table) if tables::is_table(&store.url) => Ok(tables::with_table(&store.url, table)),
            Some(_) => Err(wrong(format!("{typed}: [store.{name}] is no database, and has no tables"))),
        }
    }

    /// What `@` may stand before.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.stores.keys().chain(self.peers.keys()).map(String::as_str)
    }

    /// The password of the store that has this address, or whose database it is in.
    pub(crate) fn password(&self, typed: &str) -> Option<&Password> {
        let bare = |address: &str| address.split_once('?').map_or(address, |(bare, _)| bare).to_string();
        let typed = bare(typed);
        let of = |store: &&NamedStore| {
            typed.strip_prefix(&bare(&store.url)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.stores.values().filter(of).max_by_key(|store| store.url.len())?.password.as_ref()
    }

    /// Has passwords asked for anew that were told so long ago.
    pub(crate) fn forget_passwords(&self, after: Duration) {
        self.stores.values().filter_map(|store| store.password.as_ref()).for_each(|password| password.forget(after));
    }

    /// The command that a job is, with addresses in the places of names.
    ///
    /// # Errors
    /// `config.job`, `config.store`.
    pub(crate) fn command(&self, name: &str) -> Result<Command, CliError> {
        let mut command = self.job(name)?.command().map_err(|reason| CliError::new("config.malformed", reason))?;
        let dir = self.path.parent().unwrap_or(&self.path);
        let settle = |place: Place<'_>| -> Result<(), CliError> {
            let Some(typed) = place.typed().map(String::from) else { return Ok(()) };
            place.set(if typed.starts_with('@') { self.address(&typed)? } else { from(dir, &typed) });
            Ok(())
        };
        command.places().into_iter().try_for_each(settle)?;
        command.replica().into_iter().try_for_each(settle)?;
        command.take_stores_for_tables(tables::is_table, |typed| Path::new(typed).is_dir());
        command.send_metrics(|file| file.map(|file| dir.join(file)));
        Ok(command)
    }

    /// What a job does, if it is understood; that is looked up once.
    pub(crate) fn does(&self, name: &str) -> Option<Does> {
        let look = || {
            let mut command = self.command(name).ok()?;
            let sides = command.places().iter().filter_map(Place::typed).map(tables::shown).collect();
            Some((command.name(), sides))
        };
        let mut known = self.does.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(name.into()).or_insert_with(look).clone()
    }

    /// The job of this name.
    fn job(&self, name: &str) -> Result<&Job, CliError> {
        self.jobs.get(name).ok_or_else(|| {
            let (path, meant) = (self.path.display(), meant(name, self.jobs.keys().map(String::as_str)));
            CliError::new("config.job", format!("there is no [job.{name}] in {path}{meant}; nothing was done"))
        })
    }
}

impl NamedStore {
    fn read(section: &Section<'_>, dir: &Path) -> NamedStore {
        section.only(&["url", PASSWORD_FILE, PASSWORD_ENV, PASSWORD_COMMAND]);
        if !section.has("url") {
            section.wrong("lacks `url`, an address or a directory");
        }
        let url = section.typed("url", tables::admit).map(|url| from(dir, &url)).unwrap_or_default();
        let file = section.text(PASSWORD_FILE).map(|file| (PASSWORD_FILE, From::File(dir.join(file))));
        let variable = section.text(PASSWORD_ENV).map(|name| (PASSWORD_ENV, From::Env(name.into())));
        let command = section.text(PASSWORD_COMMAND).map(|command| (PASSWORD_COMMAND, From::Command(command.into())));
        let mut all: Vec<(&str, From)> = [file, variable, command].into_iter().flatten().collect();
        if let Some((key, _)) = all.last() {
            if all.len() + usize::from(tables::has_password(&url)) > 1 {
                section.wrong_by(key, "says in several ways what its password is; one is enough");
            }
            if !url.is_empty() && !tables::is_postgres(&url) {
                section.wrong_by(key, "has a password, which only a postgres:// address needs");
            }
        }
        NamedStore { url, password: all.pop().map(|(_, from)| Password::of(from)) }
    }
}

/// Puts the job in the place of its name, and addresses in the places of names.
///
/// # Errors
/// `home.none`; as for [`Config::load`]; `config.store` and `config.job` where there is none of that name.
pub(crate) fn settle(cli: &mut Cli, env: &mut Env) -> Result<(), CliError> {
    if cli.command.is_of_home() {
        env.needs_home()?;
    }
    if let Command::Run(args) = &cli.command {
        let (name, asked) = (args.job.clone(), args.metrics_file.clone());
        let mut command = env.config()?.command(&name)?;
        command.send_metrics(|file| asked.or(file));
        (cli.command, cli.job) = (command, Some(name));
        env.command = cli.command.name();
    }
    if let Command::Apply(args) = &mut cli.command {
        apply::take_sides(args, &env.dir)?;
    }
    if let Command::Serve(args) = &mut cli.command {
        args.named = args
            .stores
            .iter()
            .filter(|store| store.to_str().is_some_and(|store| store.starts_with('@')))
            .cloned()
            .collect();
    }
    let (mut said, typed_here) = (false, cli.job.is_none());
    let mut settle = |place: Place<'_>| -> Result<(), CliError> {
        let Some(typed) = place.typed() else { return Ok(()) };
        said |= typed_here && tables::has_password(typed);
        if typed.starts_with('@') {
            let address = env.config()?.address(typed)?;
            place.set(address);
        }
        Ok(())
    };
    cli.command.places().into_iter().try_for_each(&mut settle)?;
    cli.command.replica().into_iter().try_for_each(&mut settle)?;
    let dir = &env.dir;
    cli.command.take_stores_for_tables(tables::is_table, |typed| dir.join(typed).is_dir());
    if said {
        env.warn(
            "a password in an address that is typed can be read by anyone who lists processes, and stays in the shell's history; \
             PGPASSWORD, ~/.pgpass or a [store] with password_file keep it (docs/guide/databases.md)",
        );
    }
    Ok(())
}

/// What went wrong, without that nothing was done.
fn said(error: &CliError) -> &str {
    error.message.trim_end_matches(DONE_NOTHING)
}

/// A place as it is written in the configuration: relative paths begin beside it.
fn from(dir: &Path, written: &str) -> String {
    if written.contains("://") {
        return written.to_string();
    }
    match tables::file_of(written) {
        Some((scheme, file)) => format!("{scheme}{}", dir.join(file).display()),
        None => dir.join(written).display().to_string(),
    }
}

#[cfg(test)]
mod tests;
