//! Where a table of PostgreSQL is: what an address says, and what is known beside it of passwords and encryption.
//!
//! Where passwords come from is for whoever typed the address; connecting is the adapter's.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use postgres::Config;
use postgres::config::Host;

use super::connect::told;
use super::tls::{Encryption, SslMode};
use crate::store::StoreError;

/// How long a server is waited for to take a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long what was sent to a server may not be acknowledged, and after how long without a word it is asked whether it is there:
/// a host that has gone is noticed in the middle of a statement too.
const UNHEARD: Duration = Duration::from_secs(30);
const ASKED_AFTER: Duration = Duration::from_secs(10);
/// Where a server listens unless it is told otherwise.
const PORT: u16 = 5432;
/// Options of an address that are ours to understand, after a question mark.
const OPTIONS: [&str; 2] = ["sslmode", "sslrootcert"];

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being printed.
    #[must_use]
    pub fn new(text: String) -> Secret {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A table's address, with what is needed to connect.
#[derive(Clone, Debug)]
pub struct PostgresAddress {
    pub(super) config: Config,
    pub(super) encryption: Encryption,
    /// The table as it is written: `table` or `schema.table`.
    pub(super) table: String,
    /// Where the table is, without who asks and how.
    pub(super) place: String,
    /// The same as it can be typed.
    pub(super) typed: String,
}

impl PostgresAddress {
    /// Reads `postgres://user@host[:port]/database/[schema.]table[?sslmode=…][&sslrootcert=…]`.
    ///
    /// # Errors
    /// [`StoreError::Database`] says what an address is; it holds no password.
    pub fn parse(address: &str) -> Result<PostgresAddress, StoreError> {
        let wrong = |message: String| StoreError::database(&redacted(address), message);
        let (url, table) = split(address).map_err(wrong)?;
        let (table, options) = table.split_once('?').unwrap_or((table, ""));
        let mut config = Config::from_str(&url).map_err(|error| wrong(told(&error)))?;
        config.application_name("reknit").connect_timeout(CONNECT);
        config.tcp_user_timeout(UNHEARD).keepalives(true).keepalives_idle(ASKED_AFTER).keepalives_interval(ASKED_AFTER);
        let mut encryption = Encryption::default();
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "sslmode" => encryption.mode = Some(value.parse().map_err(wrong)?),
                "sslrootcert" => encryption.roots = Some(PathBuf::from(value)),
                // Its value may be a password.
                _ => return Err(wrong(format!("`{name}` is no option of an address; {} are", OPTIONS.join(" and ")))),
            }
        }
        let place = place(&config, table, &host(&config));
        // The slashes of a socket's directory would end it.
        let typed = self::place(&config, table, &host(&config).replace('/', "%2F"));
        Ok(PostgresAddress { config, encryption, table: table.into(), place, typed })
    }

    /// The host as it is written, or the directory of a socket.
    #[must_use]
    pub fn host(&self) -> String {
        host(&self.config)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.config.get_ports().first().copied().unwrap_or(PORT)
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }

    /// The user, if the address names one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.config.get_user()
    }

    /// Names the user.
    pub fn set_user(&mut self, user: &str) {
        self.config.user(user);
    }

    /// Whether a password is known.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// Makes a password known.
    pub fn set_password(&mut self, password: &Secret) {
        self.config.password(&password.0);
    }

    /// What is to hold of the encryption where the address says nothing.
    pub fn set_encryption(&mut self, mode: Option<SslMode>, roots: Option<PathBuf>) {
        self.encryption.mode = self.encryption.mode.or(mode);
        self.encryption.roots = self.encryption.roots.take().or(roots);
    }
}

/// An address without its password.
#[must_use]
pub fn redacted(address: &str) -> String {
    let known = |options: &str| {
        options.split('&').all(|option| OPTIONS.iter().any(|name| option.split('=').next() == Some(name)))
    };
    let (place, options) = match address.rsplit_once('?') {
        Some((place, options)) if known(options) => (place, format!("?{options}")),
        _ => (address, String::new()),
    };
    match (place.split_once("://"), place.rsplit_once('@')) {
        (Some((scheme, rest)), Some((_, host))) => {
            let user = rest.split([':', '@']).next().unwrap_or_default();
            // Of options that are not known any may be a password.
            let host = host.split('?').next().unwrap_or_default();
            format!("{scheme}://{user}@{host}{options}")
        }
        _ => format!("{}{options}", place.split('?').next().unwrap_or_default()),
    }
}

/// The part of an address that names a database, and the table with what follows it.
fn split(address: &str) -> Result<(String, &str), String> {
    let wrong = || "a table is postgres://user@host/database/table, or …/schema.table".to_string();
    let (scheme, rest) = address.split_once("://").ok_or_else(wrong)?;
    let mut parts = rest.splitn(3, '/');
    let (Some(host), Some(database), Some(table)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    // Read by another rule it would be part of the host, and be shown.
    if host.matches('@').count() > 1 || database.contains('@') {
        return Err("a password is written with %40 for an @, %2F for a / and %25 for a %".into());
    }
    if database.is_empty() || database.contains('?') || table.is_empty() || table.starts_with('?') {
        return Err(wrong());
    }
    Ok((format!("{scheme}://{host}/{database}"), table))
}

fn place(config: &Config, table: &str, host: &str) -> String {
    let port =
        config.get_ports().first().filter(|port| **port != PORT).map_or(String::new(), |port| format!(":{port}"));
    format!("postgres://{host}{port}/{}/{table}", config.get_dbname().unwrap_or_default())
}

fn host(config: &Config) -> String {
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(dir)) => dir.display().to_string(),
        None => "localhost".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown_without_its_password() {
        let text = "postgres://me:p%40ss@%2Frun%2Fpg:5433/db/public.t?sslmode=verify-ca&sslrootcert=/etc/root@x.pem";
        let address = PostgresAddress::parse(text).expect("an address");
        assert_eq!((address.host(), address.port()), ("/run/pg".into(), 5433));
        assert_eq!((address.database(), address.user(), address.table.as_str()), ("db", Some("me"), "public.t"));
        assert!(address.has_password() && !format!("{address:?}").contains("p@ss"), "{address:?}");
        assert_eq!(address.place, "postgres:///run/pg:5433/db/public.t");
        assert_eq!(address.typed, "postgres://%2Frun%2Fpg:5433/db/public.t");
        assert_eq!(PostgresAddress::parse(&address.typed).expect("an address").place, address.place);
        assert_eq!(address.encryption.mode, Some(SslMode::VerifyCa));
        assert_eq!(address.encryption.roots, Some(PathBuf::from("/etc/root@x.pem")));
        assert_eq!(redacted(text), text.replace(":p%40ss", ""));
        let plain = PostgresAddress::parse("postgres://host/db/t").expect("an address");
        assert_eq!((plain.has_password(), plain.user(), plain.port()), (false, None, 5432));
        assert_eq!(redacted("postgres://host:5433/db/t"), "postgres://host:5433/db/t");
    }

    #[test]
    fn no_password_is_shown_wherever_it_stands() {
        for text in [
            "postgres://me:secret@host/db/t",
            "postgres://me:secr/secret@host/db/t",
            "postgres://me:a@secret@host/db/t",
            "postgres://me:a?secret@host/db/t",
            "postgres://me@host/db/t?password=secret",
            "postgres://me@host/db/t?sslmode=require&password=secret",
            "postgres://me:secret@host:port/db/t",
            "postgres://me:secret@host/db",
            "postgres://host/db/t?password=secret",
        ] {
            assert!(!redacted(text).contains("secret"), "{}", redacted(text));
            match PostgresAddress::parse(text) {
                Err(error) => assert!(!error.to_string().contains("secret"), "{error}"),
                Ok(read) => assert!(!format!("{} {}", read.place, read.typed).contains("secret"), "{read:?}"),
            }
        }
        for (text, words) in [
            ("postgres://me@host/db/t?sslmode=allow", "disable, prefer, require, verify-ca, verify-full"),
            ("postgres://me@host/db/t?ssl=on", "`ssl` is no option"),
            ("postgres://me@host/db", "a table is postgres://"),
            ("postgres://me@host/db?sslmode=require/t", "a table is postgres://"),
            ("postgres://me:a@secret@host/db/t", "%40 for an @"),
        ] {
            let error = PostgresAddress::parse(text).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
