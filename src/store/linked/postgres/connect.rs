//! Connections to a PostgreSQL server: encrypted as far as was asked for, and unable to write unless a transaction says so.
//!
//! How servers are believed is the neighbour's concern.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use postgres::config::{Host, SslMode as Asked};
use postgres::error::SqlState;
use postgres::{CancelToken, Client, Config, NoTls};
use rustls::CertificateError;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::PostgresAddress;
use super::tls::SslMode;

/// How long all of it may take, until the first transaction can begin: one that takes connections may say nothing on them.
const GREETED: Duration = Duration::from_secs(15);
/// Connections to servers that did not greet in time and are waited for on threads of their own, until those end them.
const UNGREETED_MAX: usize = 32;

/// What each connection begins with: it writes nothing unless a transaction says so.
const READ_ONLY: &str = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";
/// What is run ends soon after whoever asked for it is gone, where the server can tell: from PostgreSQL 14 on. Whoever locks a table is
/// waited for so long, unless it was said how long to wait.
const WAITS: &str = "SELECT set_config(name, CASE name WHEN 'lock_timeout' THEN '60s' ELSE '10s' END, false) FROM pg_settings \
                     WHERE name = 'client_connection_check_interval' OR name = 'lock_timeout' AND setting = '0'";

static UNGREETED: AtomicUsize = AtomicUsize::new(0);

/// How a server is connected to.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    mode: SslMode,
    tls: Option<MakeRustlsConnect>,
    /// The roots in words.
    roots: String,
}

impl Connector {
    /// Reads the roots that were asked for.
    pub(super) fn new(address: &PostgresAddress) -> Result<Connector, String> {
        let (mut config, encryption) = (address.config.clone(), &address.encryption);
        // As in libpq: what goes through a socket of the file system is not encrypted, whatever is asked for.
        let mode = if is_local(&config) { SslMode::Disable } else { encryption.mode()? };
        config.ssl_mode(match mode {
            SslMode::Disable => Asked::Disable,
            SslMode::Prefer => Asked::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => Asked::Require,
        });
        let tls = (mode != SslMode::Disable).then(|| encryption.client(mode)).transpose()?;
        Ok(Connector { config, mode, tls: tls.map(MakeRustlsConnect::new), roots: encryption.roots_told() })
    }

    /// Connects; or says what is wrong, and what to do.
    pub(super) fn connect(&self) -> Result<Client, String> {
        if UNGREETED.fetch_add(1, Ordering::Relaxed) >= UNGREETED_MAX {
            UNGREETED.fetch_sub(1, Ordering::Relaxed);
            return Err(format!("{UNGREETED_MAX} connections wait for servers that say nothing; no more is made"));
        }
        let (to, greeted) = channel();
        let connector = self.clone();
        // The driver has no deadline for what comes after the socket is there.
        let thread = std::thread::Builder::new().name("connects".into()).spawn(move || {
            let connected = connector.greet();
            UNGREETED.fetch_sub(1, Ordering::Relaxed);
            // Whoever asked may have gone; the connection is let go here then.
            let _ = to.send(connected);
        });
        if let Err(error) = thread {
            UNGREETED.fetch_sub(1, Ordering::Relaxed);
            return Err(format!("a thread to connect on cannot be started: {error}"));
        }
        match greeted.recv_timeout(GREETED) {
            Ok(connected) => connected,
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "the server took the connection and said nothing for {} s; is that PostgreSQL, and does it answer others?",
                GREETED.as_secs()
            )),
            Err(RecvTimeoutError::Disconnected) => Err("connecting broke a promise of this program".into()),
        }
    }

    fn greet(&self) -> Result<Client, String> {
        let mut client = self.open().map_err(|error| self.told(&error))?;
        client.batch_execute(READ_ONLY).map_err(|error| told(&error))?;
        // A server that cannot is as good without.
        let _ = client.batch_execute(WAITS);
        Ok(client)
    }

    /// Has the server end what a connection runs. A server that does not hear it notices in time that nobody is there.
    pub(super) fn cancel(&self, token: &CancelToken) {
        let _ = match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()),
            None => token.cancel_query(NoTls),
        };
    }

    fn open(&self) -> Result<Client, postgres::Error> {
        let Some(tls) = &self.tls else { return self.config.connect(NoTls) };
        match self.config.connect(tls.clone()) {
            Err(error) if self.mode == SslMode::Prefer && is_of_encryption(&error) => {
                self.config.clone().ssl_mode(Asked::Disable).connect(NoTls)
            }
            other => other,
        }
    }

    fn told(&self, error: &postgres::Error) -> String {
        let mode = self.mode.name();
        match certificate_error(error) {
            // An authority that was made anew under its old name is another.
            Some(CertificateError::UnknownIssuer | CertificateError::BadSignature) => format!(
                "the server's certificate is signed by none of the roots in {}, and sslmode={mode} asks for that; \
                 sslrootcert=FILE names the root that signed it",
                self.roots
            ),
            Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
                let host = self.config.get_hosts().iter().find_map(|host| match host {
                    Host::Tcp(name) => Some(name.as_str()),
                    #[cfg(unix)]
                    Host::Unix(_) => None,
                });
                format!(
                    "the server's certificate is not for {}; connect by a name that it has among its alternative names, or \
                     sslmode=verify-ca looks at its signature alone",
                    host.unwrap_or_default()
                )
            }
            Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                "the server's certificate has expired; it needs a new one".into()
            }
            _ if self.tls.is_some() && told(error).contains("server does not support TLS") => {
                format!(
                    "the server does not encrypt connections, and sslmode={mode} asks for it; sslmode=prefer goes on without"
                )
            }
            _ if told(error).contains("password missing") => {
                "the server asks for a password; PGPASSWORD, ~/.pgpass or a [store] with password_file tells it".into()
            }
            _ => told(error),
        }
    }
}

/// What the server said, else what the driver did.
pub(super) fn told(error: &postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    let cause = std::error::Error::source(error).map(ToString::to_string);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

fn is_local(config: &Config) -> bool {
    #[cfg(unix)]
    return config.get_hosts().iter().any(|host| matches!(host, Host::Unix(_)));
    #[cfg(not(unix))]
    return false;
}

/// Whether a connection might be had without encryption that was not had with it.
fn is_of_encryption(error: &postgres::Error) -> bool {
    let refused = error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    refused || tls_error(error).is_some()
}

fn certificate_error(error: &postgres::Error) -> Option<&CertificateError> {
    match tls_error(error)? {
        rustls::Error::InvalidCertificate(error) => Some(error),
        _ => None,
    }
}

/// What went wrong with TLS, if that is what did.
fn tls_error(error: &postgres::Error) -> Option<&rustls::Error> {
    error.source()?.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref()
}
