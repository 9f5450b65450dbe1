//! HTTP of a daemon: health, metrics, what `status` and `jobs` show, and what happens, as a stream of events.
//!
//! It reads what the control socket reads, and asks for what that asks for; what any of it means is the daemon's.

mod answer;
mod documents;
mod guard;
mod listener;
mod metrics;
mod routes;
mod stream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use self::guard::Token;
use super::CliError;
use super::daemon::Daemon;

/// Answers that are made at the same time; more wait. The threads for it are those on which stores answer peers.
const AT_WORK_MAX: usize = 2;

/// Listeners at the same time.
const LISTENERS_MAX: usize = 16;

/// Where HTTP is to be answered, and what is to be shown for it.
pub(crate) struct Wanted {
    at: SocketAddr,
    token: Option<(PathBuf, Token)>,
}

impl Wanted {
    /// An address, with the token that is in a file.
    ///
    /// # Errors
    /// `http.token` where the file holds none, `http.open` where others reach the address and nothing is to be shown.
    pub(crate) fn new(at: SocketAddr, file: Option<PathBuf>) -> Result<Wanted, CliError> {
        let token = file.map(|file| Token::read(&file, "nothing was served").map(|token| (file, token))).transpose()?;
        if token.is_none() && !at.ip().is_loopback() {
            let message = format!(
                "others than this machine reach {at}, and no token is asked for: write one into a file and name it by \
                 --http-token-file (http_token_file in [serve]), or take an address as 127.0.0.1:7474; nothing was served"
            );
            return Err(CliError::new("http.open", message));
        }
        Ok(Wanted { at, token })
    }
}

/// What answers.
pub(crate) struct Face {
    at: SocketAddr,
    /// Where the token is that is asked for, where one is.
    token_file: Option<PathBuf>,
    /// It, as it was read last.
    token: watch::Sender<Option<Token>>,
    /// The daemon, once its stores are open.
    daemon: OnceLock<Arc<Daemon>>,
    /// It is to end.
    stop: watch::Receiver<bool>,
    at_work: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
}

impl Face {
    /// Answers from now on, as long as the runtime is there: that nothing is ready, until [`Face::shows`].
    ///
    /// # Errors
    /// `http.address`: it cannot be bound.
    pub(crate) async fn begin(wanted: Wanted, stop: watch::Receiver<bool>) -> Result<Arc<Face>, CliError> {
        let Wanted { at, token } = wanted;
        let failed = |cause: std::io::Error| {
            let message = format!("HTTP cannot be answered at {at}: {cause}; choose another address with --http");
            CliError::new("http.address", message)
        };
        let listener = TcpListener::bind(at).await.map_err(failed)?;
        let at = listener.local_addr().map_err(failed)?;
        let face = Arc::new(Face::new(at, token, stop));
        tokio::spawn(listener::listen(listener, face.clone()));
        Ok(face)
    }

    fn new(at: SocketAddr, token: Option<(PathBuf, Token)>, stop: watch::Receiver<bool>) -> Face {
        let [at_work, listeners] = [AT_WORK_MAX, LISTENERS_MAX].map(|most| Arc::new(Semaphore::new(most)));
        let (token_file, token) = token.unzip();
        let token = watch::Sender::new(token);
        Face { at, token_file, token, daemon: OnceLock::new(), stop, at_work, listeners }
    }

    /// Asks for the token that is in the file now, if that is another; whoever listens by the one before is let go. Says whether it
    /// is another.
    ///
    /// # Errors
    /// `http.token`: the one before is asked for still.
    pub(crate) fn read_token_again(&self) -> Result<bool, CliError> {
        let Some(file) = &self.token_file else { return Ok(false) };
        let token = Token::read(file, "the one that was read before is asked for still")?;
        Ok(self.token.send_if_modified(|before| before.replace(token) != Some(token)))
    }

    /// Where it answers.
    pub(crate) fn at(&self) -> SocketAddr {
        self.at
    }

    /// Shows this daemon from now on.
    pub(crate) fn shows(&self, daemon: &Arc<Daemon>) {
        // It is begun once.
        let _ = self.daemon.set(daemon.clone());
    }

    /// Why it is not ready, in words; nothing if it is.
    fn not_ready(&self) -> Vec<&'static str> {
        let mut why = match self.daemon.get() {
            None => vec!["stores are being opened"],
            Some(daemon) => daemon.not_ready(),
        };
        if *self.stop.borrow() {
            why.push("it is ending");
        }
        why
    }
}
