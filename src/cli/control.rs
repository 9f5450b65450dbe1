//! The control socket: while a daemon holds a store, commands on it run there, with the same output and exit.
//!
//! A command travels as it was understood; its streams travel as frames of one byte for the kind,
//! four for the length, then so many.

use std::collections::BTreeMap;
use std::io::{self, LineWriter, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use reknit_core::agenda::Trial;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::args::{Cli, Command, PeersCommand};
use super::commands::sides::tables;
use super::daemon::{Daemon, Ended, span};
use super::env::{Env, home_dir};
use super::{CliError, Exit, output};
use crate::node::Home;
use crate::store::Store;

/// In a store's directory, while a daemon holds it: where its socket is.
const MARKER: &str = "served-by";
/// Bytes of a frame on the socket.
const FRAME_MAX: usize = 64 << 10;
/// Bytes of a command.
const COMMAND_MAX: usize = 1 << 20;
/// How long is waited where the system gives no connection.
const NO_CONNECTION: Duration = Duration::from_millis(100);

const COMMAND: u8 = 0;
const INPUT: u8 = 1;
const OUT: u8 = 2;
const ERR: u8 = 3;
const EXIT: u8 = 4;

#[derive(Serialize, Deserialize)]
struct Request {
    cli: Cli,
    dir: PathBuf,
    terminal: bool,
}

/// Lets the daemon that holds a store of this command, or the home that it asks about, run it; nothing if there is none.
pub(crate) fn hand_over(cli: &mut Cli) -> Option<Exit> {
    // Of a table that it serves the daemon knows where others reach it.
    let of_table = |place: &Path| place.to_str().is_some_and(tables::is_table);
    let of_home = match &cli.command {
        // What is let in goes by what the daemon has read; rights are given and taken away whether or not it answers.
        Command::Peers(args) => matches!(args.command, PeersCommand::List),
        Command::Invite(args) => of_table(&args.store),
        command => command.is_of_home() || cli.job.is_some(),
    };
    let marker = |store: PathBuf| std::fs::read_to_string(store.join(MARKER)).ok();
    // A job runs where it is remembered; else whoever holds a store answers for it.
    let at_home = || Some(Home::open(&home_dir(&cli.global).ok()?).ok()?.socket()).filter(|socket| is_alive(socket));
    let at_home = if of_home { at_home() } else { None };
    let socket = match at_home {
        Some(socket) => socket,
        None => PathBuf::from(cli.command.held().into_iter().find_map(marker)?.trim()),
    };
    // A marker or a socket that nobody answers at was left by a daemon that was killed.
    let socket = UnixStream::connect(socket).ok()?;
    Some(ask(cli, socket).unwrap_or_else(|error| {
        let message = format!("the daemon that holds the store went away: {error}; try the command again");
        let lost = CliError { exit: Exit::Undetermined, ..CliError::new("control.lost", message) };
        output::print_error(&mut Env::of_process(cli), &lost)
    }))
}

fn ask(cli: &Cli, mut socket: UnixStream) -> io::Result<Exit> {
    use std::io::IsTerminal;
    let mut request = Request {
        cli: rmp_serde::from_slice(&rmp_serde::to_vec_named(cli).map_err(io::Error::other)?)
            .map_err(io::Error::other)?,
        dir: std::env::current_dir()?,
        terminal: io::stderr().is_terminal(),
    };
    // As it is meant here, wherever the daemon was started.
    request.cli.global.home = request.cli.global.home.map(|home| request.dir.join(home));
    put_frame(&mut socket, COMMAND, &rmp_serde::to_vec_named(&request).map_err(io::Error::other)?)?;
    if cli.command.reads_input() {
        let mut socket = socket.try_clone()?;
        std::thread::spawn(move || -> io::Result<()> {
            let mut buffer = vec![0; FRAME_MAX];
            loop {
                let n = io::stdin().read(&mut buffer)?;
                put_frame(&mut socket, INPUT, &buffer[..n])?;
                if n == 0 {
                    return Ok(());
                }
            }
        });
    }
    loop {
        match take_frame(&mut socket, FRAME_MAX)? {
            (OUT, bytes) => {
                let mut out = io::stdout().lock();
                // Where nobody listens any more the command still runs to its end.
                let _ = out.write_all(&bytes).and_then(|()| out.flush());
            }
            (ERR, bytes) => io::stderr().write_all(&bytes)?,
            (EXIT, bytes) => return Ok(Exit::of_number(bytes.first().copied().unwrap_or(2))),
            _ => return Err(io::Error::other("it speaks another language")),
        }
    }
}

/// A daemon's socket and the marks in the stores that it holds; both go when it is dropped.
pub(crate) struct Control {
    socket: PathBuf,
    markers: Vec<PathBuf>,
}

impl Control {
    /// Listens at `socket` for commands on `stores`.
    pub(crate) fn listen(
        socket: PathBuf,
        stores: &BTreeMap<PathBuf, Store>,
        listening: Option<SocketAddr>,
        daemon: &Arc<Daemon>,
    ) -> Result<Control, CliError> {
        let failed = |error: io::Error| {
            CliError::new("control.socket", format!("the control socket {} cannot be made: {error}", socket.display()))
        };
        // Whoever holds the home's lock owns the socket; one that is there is a dead daemon's.
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let mut control = Control { socket: socket.clone(), markers: Vec::new() };
        for dir in stores.keys() {
            let marker = dir.join(MARKER);
            std::fs::write(&marker, socket.as_os_str().as_encoded_bytes()).map_err(failed)?;
            control.markers.push(marker);
        }
        let (stores, daemon) = (stores.clone(), daemon.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                match connection {
                    Ok(connection) => {
                        let (stores, daemon) = (stores.clone(), daemon.clone());
                        std::thread::spawn(move || answer(connection, stores, listening, daemon));
                    }
                    // The daemon does not wait for this thread where it ends.
                    Err(error) => {
                        tracing::warn!(%error, "no command can be taken up by the control socket");
                        std::thread::sleep(NO_CONNECTION);
                    }
                }
            }
        });
        Ok(control)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        for file in self.markers.iter().chain([&self.socket]) {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn answer(
    mut connection: UnixStream,
    stores: BTreeMap<PathBuf, Store>,
    listening: Option<SocketAddr>,
    daemon: Arc<Daemon>,
) {
    let Ok((COMMAND, bytes)) = take_frame(&mut connection, COMMAND_MAX) else { return };
    let (Ok(input), Ok(output)) = (connection.try_clone(), connection.try_clone()) else { return };
    let output = Arc::new(Mutex::new(output));
    let stream = |kind| Box::new(Frames { kind, to: output.clone() });
    let exit = match rmp_serde::from_slice::<Request>(&bytes) {
        Ok(request) => {
            let (tell, left) = watch::channel(false);
            watch(&connection, &request.cli, tell.clone());
            let mut env = Env {
                patience: None,
                job: None,
                out: Box::new(lines(&output)),
                out_is_data: false,
                err: stream(ERR),
                input: Box::new(Input { from: input, buffer: Vec::new(), ended: false }),
                terminal: false,
                dir: request.dir,
                global: request.cli.global.clone(),
                command: request.cli.command.name(),
                open: stores,
                beside: Mutex::default(),
                left,
                listening,
                config: OnceLock::new(),
                rate_limits: Some(daemon.rate_limits.clone()),
                // Somebody waits for it, and says what may be lost.
                windows: None,
                warned: Mutex::default(),
                measured: None,
                table: None,
                failed: None,
                followed: Some(Vec::new()),
                trial: Trial::default(),
                pass: None,
                stuck: None,
                daemon: Some(daemon.clone()),
            };
            tracing::debug!(terminal = request.terminal, "a command by the control socket");
            let job = request.cli.job.as_deref();
            match job.map_or(Ok(None), |job| daemon.by_hand(job, tell)) {
                Err(refused) => super::run(&request.cli, &mut env, Err(refused)),
                Ok(begun) => {
                    let within = job.zip(begun.as_ref()).map(|(job, begun)| span(job, begun).entered());
                    if let Some((job, begun)) = job.zip(begun.as_ref()) {
                        let command = &request.cli.command;
                        (env.trial, env.pass) = (daemon.trial(job, begun), daemon.passing(command, job, begun));
                    }
                    let ran = catch_unwind(AssertUnwindSafe(|| super::run(&request.cli, &mut env, Ok(()))));
                    drop(within);
                    let (exit, ended) = match ran {
                        Ok(exit) => (exit, Ended::of(exit, env)),
                        Err(_) => {
                            let ended = Ended::defect();
                            let (id, message) = ended.failed.as_ref().map(|(id, why)| (*id, why.as_str())).unzip();
                            let (id, message) = (id.unwrap_or_default(), message.unwrap_or_default());
                            let _ = writeln!(stream(ERR), "reknit: {message} [{id}]");
                            (Exit::CannotJudge, ended)
                        }
                    };
                    if let (Some(job), Some(begun)) = (job, begun) {
                        daemon.end(job, begun, ended);
                    }
                    exit
                }
            }
        }
        Err(error) => {
            let told = writeln!(
                stream(ERR),
                "reknit: the daemon is of another release: {error}; restart it [control.release]"
            );
            let _ = told;
            Exit::CannotJudge
        }
    };
    let mut output = output.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let _ = put_frame(&mut *output, EXIT, &[exit.number()]);
}

/// Watches whoever waits for a command: who was interrupted does not want it to go on.
fn watch(connection: &UnixStream, cli: &Cli, tell: watch::Sender<bool>) {
    // Where input comes, its end is seen by who reads it.
    if let (false, Ok(mut connection)) = (cli.command.reads_input(), connection.try_clone()) {
        std::thread::spawn(move || {
            // Nothing more is said on this side; it is closed when the command was answered, or its process ended.
            let _ = connection.read(&mut [0]);
            let _ = tell.send(true);
        });
    }
}

/// What is printed, a frame for each line, or some of a long one: it is printed in many small pieces.
fn lines(to: &Arc<Mutex<UnixStream>>) -> LineWriter<Frames> {
    LineWriter::new(Frames { kind: OUT, to: to.clone() })
}

/// A stream that leaves as frames of one kind.
struct Frames {
    kind: u8,
    to: Arc<Mutex<UnixStream>>,
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(FRAME_MAX);
        let mut to = self.to.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        put_frame(&mut *to, self.kind, &bytes[..n])?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is piped into the command, as frames; an empty one is the end.
struct Input {
    from: UnixStream,
    buffer: Vec<u8>,
    ended: bool,
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() && !self.ended {
            match take_frame(&mut self.from, FRAME_MAX)? {
                (INPUT, bytes) if bytes.is_empty() => self.ended = true,
                (INPUT, bytes) => self.buffer = bytes,
                _ => return Err(io::Error::other("input was expected")),
            }
        }
        let n = into.len().min(self.buffer.len());
        into[..n].copy_from_slice(&self.buffer[..n]);
        self.buffer.drain(..n);
        Ok(n)
    }
}

fn put_frame(to: &mut impl Write, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&[&[kind][..], &length.to_be_bytes(), bytes].concat())
}

fn take_frame(from: &mut impl Read, limit: usize) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 5];
    from.read_exact(&mut header)?;
    let [kind, length @ ..] = header;
    let length = u32::from_be_bytes(length) as usize;
    if length > limit.max(FRAME_MAX) {
        return Err(io::Error::other("a frame above its limit"));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok((kind, bytes))
}

/// Whether a daemon answers at this socket.
pub(crate) fn is_alive(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_frame_however_it_is_printed() {
        let (here, mut there) = UnixStream::pair().expect("a pair");
        let mut out = lines(&Arc::new(Mutex::new(here)));
        for nth in 0..3 {
            write!(out, "run {nth}").expect("written");
            writeln!(out, ": in sync").expect("written");
        }
        write!(out, "and no end").expect("written");
        drop(out);
        let mut told = Vec::new();
        while let Ok((OUT, bytes)) = take_frame(&mut there, FRAME_MAX) {
            told.push(String::from_utf8(bytes).expect("text"));
        }
        assert_eq!(told, ["run 0: in sync\n", "run 1: in sync\n", "run 2: in sync\n", "and no end"]);
    }
}
