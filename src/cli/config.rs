//! The configuration, `config.toml` in the home: names for stores, where passwords come from, what tables are compared on, jobs.
//!
//! Nothing needs it. What a job does is the command's that it names; when it is due is the scheduler's.

mod alerts;
mod gossip;
mod job;
mod peer;
mod section;
mod serve;
mod template;
mod when;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub(crate) use self::alerts::{AlertsTable, COMMAND};
pub(crate) use self::gossip::GossipTable;
pub(crate) use self::job::{Job, bytes_a_day, time_a_day};
pub(crate) use self::peer::bandwidth;
use self::section::{Section, Source, meant};
pub(crate) use self::serve::ServeTable;
pub(crate) use self::template::TEMPLATE;
pub(crate) use self::when::jitter;
use super::CliError;
use super::args::{Cli, Command, Place};
use super::commands::apply;
use super::commands::sides::tables;
use super::env::Env;
use super::login::{Password, Source as From};
use crate::node::Home;
use crate::transport::{PeerId, RateLimits, Rates};

const PASSWORD_FILE: &str = "password_file";
const PASSWORD_ENV: &str = "password_env";
const PASSWORD_COMMAND: &str = "password_command";
/// Bytes of the file.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// What is in it.
const TABLES: [&str; 7] = ["serve", "gossip", "alerts", "peer", "store", "dataset", "job"];
/// Rights of others than the owner, in the mode of a file.
const OTHERS: u32 = 0o077;

/// What is written in the configuration.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// Where it is, or would be.
    pub(crate) path: PathBuf,
    /// Stores by their names.
    pub(crate) stores: BTreeMap<String, NamedStore>,
    /// Jobs by their names.
    pub(crate) jobs: BTreeMap<String, Job>,
    /// How fast sessions go with peers that have rates of their own.
    pub(crate) peers: BTreeMap<PeerId, Rates>,
    /// What a daemon does.
    pub(crate) serve: ServeTable,
    /// Whom it tells what is wrong.
    pub(crate) alerts: AlertsTable,
    /// What whoever wrote it should know.
    pub(crate) warnings: Vec<String>,
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
        let path = home.config();
        let failed = |cause: std::io::Error| {
            CliError::new("config.file", format!("{} cannot be read: {cause}; nothing was done", path.display()))
        };
        let found = match std::fs::metadata(&path) {
            Ok(found) => found,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Config { path, ..Config::default() });
            }
            Err(cause) => return Err(failed(cause)),
        };
        if found.len() > CONFIG_BYTES_MAX {
            return Err(failed(std::io::Error::other(format!("it has more than {CONFIG_BYTES_MAX} bytes"))));
        }
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        let mut config = Config::parse(&path, &text)?;
        let has_password = config.stores.values().any(|store| tables::has_password(&store.url));
        if has_password && found.mode() & OTHERS != 0 {
            let path = path.display();
            config.warnings.push(format!(
                "{path} holds a password, and others than its owner may read it: chmod 600 {path}, or password_file"
            ));
        }
        config.warnings.extend(config.alerts.warning());
        Ok(config)
    }

    fn parse(path: &Path, text: &str) -> Result<Config, CliError> {
        let source = Source { path, text };
        let root = source.parse()?;
        let mut config = Config { path: path.into(), ..Config::default() };
        let dir = path.parent().unwrap_or(path);
        for (key, _) in root.get_ref() {
            let name = key.get_ref();
            if !TABLES.contains(&&**name) {
                let meant = meant(name, TABLES.into_iter());
                return Err(source.wrong(format!("unknown table [{name}]{meant}"), key.span()));
            }
        }
        let sections = |name: &str| match root.get_ref().get(name) {
            Some(value) => Section::of(source, name.into(), value)?.sections(),
            None => Ok(Vec::new()),
        };
        if let Some(value) = root.get_ref().get("serve") {
            config.serve = ServeTable::read(&Section::of(source, "serve".into(), value)?, dir)?;
        }
        if let Some(value) = root.get_ref().get("gossip") {
            config.serve.gossip = Some(GossipTable::read(&Section::of(source, "gossip".into(), value)?)?);
        }
        config.peers = peer::peers(sections("peer")?)?;
        if let Some(value) = root.get_ref().get("alerts") {
            config.alerts = AlertsTable::read(&Section::of(source, "alerts".into(), value)?, dir)?;
        }
        for (name, section) in sections("store")? {
            config.stores.insert(name.into(), NamedStore::read(&section, dir)?);
        }
        let stores: Vec<&str> = config.stores.keys().map(String::as_str).collect();
        let dataset = |(name, section): (_, Section<'_>)| Ok((name, job::dataset(&section)?));
        let datasets = sections("dataset")?.into_iter().map(dataset).collect::<Result<Vec<_>, CliError>>()?;
        for (name, section) in sections("job")? {
            config.jobs.insert(name.into(), Job::read(&section, &stores, &datasets)?);
        }
        Ok(config)
    }

    /// How fast sessions go.
    pub(crate) fn rate_limits(&self) -> RateLimits {
        RateLimits::new(self.serve.rates, self.peers.clone())
    }

    /// The address that a name stands for: `@NAME`, or `@NAME/TABLE` where the store is a database.
    pub(crate) fn address(&self, typed: &str) -> Result<String, CliError> {
        let (name, table) = match typed.trim_start_matches('@').split_once('/') {
            Some((name, table)) => (name, Some(table)),
            None => (typed.trim_start_matches('@'), None),
        };
        let wrong = |message: String| CliError::new("config.store", format!("{message}; nothing was done"));
        let Some(store) = self.stores.get(name) else {
            let (path, meant) = (self.path.display(), meant(name, self.stores.keys().map(String::as_str)));
            return Err(wrong(format!("there is no [store.{name}] in {path}{meant}")));
        };
        match table {
            None => Ok(store.url.clone()),
            Some(table) if tables::is_table(&store.url) => Ok(tables::with_table(&store.url, table)),
            Some(_) => Err(wrong(format!("{typed}: [store.{name}] is no database, and has no tables"))),
        }
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
    fn read(section: &Section<'_>, dir: &Path) -> Result<NamedStore, CliError> {
        section.only(&["url", PASSWORD_FILE, PASSWORD_ENV, PASSWORD_COMMAND])?;
        let url = from(dir, section.text("url")?.ok_or_else(|| section.wrong("lacks `url`"))?);
        let file = section.text(PASSWORD_FILE)?.map(|file| From::File(dir.join(file)));
        let variable = section.text(PASSWORD_ENV)?.map(|name| From::Env(name.into()));
        let command = section.text(PASSWORD_COMMAND)?.map(|command| From::Command(command.into()));
        let mut all: Vec<From> = [file, variable, command].into_iter().flatten().collect();
        if all.len() + usize::from(tables::has_password(&url)) > 1 {
            return Err(section.wrong("says in several ways what its password is; one is enough"));
        }
        if !all.is_empty() && !tables::is_postgres(&url) {
            return Err(section.wrong("has a password, which only a postgres:// address needs"));
        }
        Ok(NamedStore { url, password: all.pop().map(Password::of) })
    }
}

/// Puts the job in the place of its name, and addresses in the places of names.
///
/// # Errors
/// As for [`Config::load`]; `config.store` and `config.job` where there is none of that name.
pub(crate) fn settle(cli: &mut Cli, env: &mut Env) -> Result<(), CliError> {
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
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/where/config.toml"), text).map_err(|error| error.message)
    }

    #[test]
    fn names_stand_for_addresses_and_relative_paths_begin_beside_the_file() {
        let config = parse(
            "[store.pg]\nurl = 'postgres://me@host/db?sslmode=require'\n[store.lite]\nurl = \"sqlite:b.db\"\n\
             [store.dir]\nurl = '../a'\n[store.peer]\nurl = 'quic://x@host/a'",
        )
        .expect("a configuration");
        for (typed, address) in [
            ("@pg/public.t", "postgres://me@host/db/public.t?sslmode=require"),
            ("@lite", "sqlite:/where/b.db"),
            ("@lite/t", "sqlite:/where/b.db/t"),
            ("@dir", "/where/../a"),
            ("@peer", "quic://x@host/a"),
        ] {
            assert_eq!(config.address(typed).map_err(|error| error.message), Ok(address.into()));
        }
        let wrong = |typed| config.address(typed).expect_err("no address").message;
        assert!(wrong("@peers").contains("did you mean `peer`?"), "{}", wrong("@peers"));
        assert!(wrong("@dir/t").contains("is no database"));
        assert!(wrong("@").contains("there is no [store.]"));
    }

    #[test]
    fn a_job_is_what_would_be_typed() {
        let config = parse(
            "[store.pg]\nurl = 'postgres://me@host/db/t'\n[store.b]\nurl = 'sqlite:b.db/t'\n[job.look]\na = 'pg'\nb = 'b'\n\
             [job.mend]\ndo = 'repair'\na = '@pg'\nb = 'sqlite:c.db/t'\nto = 'b'\nat = '03:00'\ndelete = true\n\
             max-change = \"5%\"\nreceipt = false\ncollection = ['x', 'y']\n\
             [job.preview]\ndo = 'repair'\na = 'pg'\nb = 'b'\nto = 'a'\napply = false\n\
             [job.some]\ndo = 'diff'\na = 'pg'\nb = 'b/u'\nlimit = 20\ndataset = 'orders'\n\
             [dataset.orders]\nignore = ['seen', 'note']\nfloat_digits = 6\nwhere = \"region = 'eu'\"\nrename = 'nr=id'",
        )
        .expect("a configuration");
        let typed = |name: &str| config.jobs[name].typed.join(" ");
        assert_eq!(typed("look"), "check -- @pg @b");
        assert_eq!(
            typed("mend"),
            "repair --collection=x,y --delete --max-change=5% --to=b --apply -- @pg sqlite:c.db/t"
        );
        assert_eq!(typed("preview"), "repair --to=a -- @pg @b");
        let terms = "--float-digits=6 --ignore=seen,note --rename=nr=id --where=region = 'eu'";
        assert_eq!(typed("some"), format!("diff --limit=20 {terms} -- @pg @b/u"));
        assert_eq!(config.jobs["mend"].when.told(), "03:00");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_was_meant() {
        let store = "[store.pg]\nurl = 'x:y'\n";
        for (text, words) in [
            ("[store.pg]\nurl = 'a'\nurll = 'b'", "unknown key `urll` in [store.pg] at line 3; did you mean `url`?"),
            ("[stores.pg]\nurl = 'a'", "unknown table [stores]; did you mean `store`? at line 1"),
            ("[store.pg]\n", "[store.pg] lacks `url` at line 1"),
            ("[store.pg]\nurl = 5", "`url` in [store.pg] is a text in quotes; it is not at line 2"),
            ("[store.pg]\nurl = 'secret", "at line 2"),
            ("[store.'a b']\nurl = 'a'", "`a b` in [store] is no name"),
            ("store = 5", "store is no table at line 1"),
            ("\n[job.j]\na = 'pg'\nb = 'x:y'", "has `pg` for a, which is no [store.pg] and no address at line 2"),
            (&format!("{store}[job.j]\na = 'pgg'\nb = 'pg'"), "did you mean `pg`?"),
            (
                &format!("{store}[job.j]\na = '@pgg/t'\nb = 'pg'"),
                "which is no [store.pgg] and no address; did you mean `pg`?",
            ),
            (&format!("{store}[job.j]\na = 'pg'"), "[job.j] lacks `b` at line 3"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\nsetle = '1s'"), "did you mean `settle`?"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\nto = 'b'"), "unknown key `to` in [job.j] at line 6"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\ndo = 'repare'"), "did you mean `repair`?"),
            (
                &format!("{store}[job.j]\na = 'pg'\nb = 'pg'\ndo = 'repair'\nto = 'c'"),
                "invalid value 'c' for '--to <TO>'",
            ),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\ndo = 'repair'\nplan = 'p'"), "unknown key `plan`"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\nreceipt = 'yes'"), "`receipt` in [job.j] is true or false"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\nsettle = 'soon'"), "`soon` is no duration"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\ndo = 'repair'\nmax_change = 'x'"), "`x` is no limit"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\ndataset = 'o'"), "no [dataset.o] at line 3"),
            ("[dataset.o]\ncolumn = ['a']", "unknown key `column` in [dataset.o] at line 2; did you mean `columns`?"),
            ("[dataset.o]\nsettle = '1s'", "unknown key `settle`"),
            ("[dataset.o]\ncollate = 'x'", "[dataset.o] is not understood: --collate takes ci"),
            (
                &format!("{store}[dataset.o]\nkey = 'k'\n[job.j]\na = 'pg'\nb = 'pg'\ndataset = 'o'\nkey = 'l'"),
                "[job.j] says `key` itself, and so does [dataset.o]",
            ),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\nat = 'noon'"), "`noon` is no time of a job"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\nhome = '/x'"), "unknown key `home`"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\nclock = 'Europe/Nowhere'"), "the clock `Europe/Nowhere`"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\nwindow = ['Mon', 'Day']"), "`Day` is no window"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\nwindow = [1]"), "is a text in quotes, or a list of them"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\njitter = '2d'"), "at most a day later"),
            (&format!("{store}[job.j]\na = 'pg'\nb = 'pg'\nat = '03:00'\nevery = '1h'"), "says `at` and `every`"),
            (
                &format!("{store}[job.j]\na = 'pg'\nb = 'pg'\nat = '03:00'\nwindow = '04:00-05:00'"),
                "is never due: none of its times lies in its windows",
            ),
            ("[serve]\nlisten = '7473'", "[serve] listens at `7473`, which is no address"),
            ("[serve]\n\njobs_at_once = 0", "is a whole number from 1 to 64; it is not at line 3"),
            (
                "[serve]\nhttp = '7474'",
                "[serve] answers HTTP at `7474`, which is no address; \"127.0.0.1:7474\" is one",
            ),
            (
                "[serve]\nhttp_token = 'x'",
                "unknown key `http_token` in [serve] at line 2; did you mean `http_token_file`?",
            ),
            ("[serve]\nstore = 'a'", "unknown key `store` in [serve] at line 2; did you mean `stores`?"),
            ("[serve]\nmax_change = 'x'", "`x` is no limit"),
            ("[serve]\nmax_run = 'long'", "`long` is no duration"),
            (
                "[serve]\nbandwidth = '1KiB'",
                "has for `bandwidth`: `1KiB` a second is none; it is from 16KiB to 4095MiB",
            ),
            ("[serve]\nreads = 0", "`reads` in [serve] is a whole number from 1 to"),
            ("[peer.x]\nbandwidth = '1MiB'", "[peer.x] lacks `id` at line 1"),
            ("[peer.x]\nid = 'abc'", "has an `id` that is no peer"),
            ("[peer.x]\nbandwith = '1MiB'", "unknown key `bandwith` in [peer.x] at line 2; did you mean `bandwidth`?"),
            ("[gossip]\nseed = ['x']", "unknown key `seed` in [gossip] at line 2; did you mean `seeds`?"),
            (
                "[gossip]\nseeds = ['quic://x']",
                "has `quic://x` in seeds, which is no address: an address names its peer",
            ),
            ("[gossip]\ndo = 'diff'", "does `diff`; it is one of check, repair"),
            ("[gossip]\nevery = '1ms'", "at least 100ms lie between two sessions"),
            ("[gossip]\nadvertise = 'here'", "advertises `here`, which is no address"),
        ] {
            let message = parse(text).expect_err(words);
            assert!(message.contains(words) && message.starts_with("/where/config.toml: "), "{message}, not {words}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn the_configuration_that_is_written_says_nothing_and_its_comments_are_one() {
        let config = parse(TEMPLATE).expect("comments");
        assert_eq!((config.jobs.len(), config.stores.len(), &config.serve), (0, 0, &ServeTable::default()));
        let said: String = TEMPLATE
            .lines()
            .filter(|line| !line.starts_with("# "))
            .map(|line| format!("{}\n", line.trim_start_matches('#')))
            .collect();
        let config = parse(&said).expect("a configuration");
        let rates = |bytes, records| Rates { bytes: NonZeroU32::new(bytes), records: NonZeroU32::new(records) };
        assert_eq!(config.serve.rates, rates(50 << 20, 50_000));
        assert_eq!(config.peers.values().collect::<Vec<_>>(), [&rates(500 << 10, 0)]);
        assert_eq!(config.serve.stores, [PathBuf::from("/where/data/cities")]);
        let within = "every 15m Europe/Berlin within Mon,Tue,Wed,Thu,Fri 20:00-06:00, Sat,Sun 00:00-24:00";
        assert_eq!(config.jobs["orders"].when.told(), within);
    }
}
