//! A PostgreSQL server of a test's own: private directory, no port unless it is asked for, gone with the test.

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use postgres::{Client, NoTls};

use crate::daemon::until;

/// The number in the name of a socket that stands alone.
const SOCKET: u16 = 5432;
/// How often a free port is looked for.
const PORTS_TRIED: usize = 5;

pub(crate) struct Server {
    dir: tempfile::TempDir,
    child: Child,
    bin: PathBuf,
    port: u16,
    /// What it is started with.
    arguments: Vec<String>,
    password: &'static str,
}

/// How a server lets in, and where it listens besides its socket.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Everybody is asked for a password; this is the first user's.
    pub(crate) password: &'static str,
    /// Whether it listens on 127.0.0.1, at a free port.
    pub(crate) listens: bool,
    /// The certificate and key that it encrypts with.
    pub(crate) certificate: Option<(&'a str, &'a str)>,
    /// Lines of `pg_hba.conf` before all others.
    pub(crate) rules: &'a str,
    /// Settings, each NAME=VALUE.
    pub(crate) settings: &'a [&'a str],
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::with(&Setup::default())
    }

    pub(crate) fn with(setup: &Setup<'_>) -> Server {
        let bin = binaries().expect("PostgreSQL is installed (Debian: postgresql); scripts/test sees to it");
        let dir = tempfile::tempdir().expect("a directory");
        own(dir.path());
        let data = dir.path().join("data");
        if setup.password.is_empty() {
            copy(&fresh(&bin), &data);
        } else {
            let secret = dir.path().join("password");
            file(&secret, setup.password);
            make(&bin, &data, &["--auth=scram-sha-256", "--pwfile", &secret.display().to_string()]);
        }
        let rules = std::fs::read_to_string(data.join("pg_hba.conf")).expect("the rules");
        file(&data.join("pg_hba.conf"), &format!("{}\n{rules}", setup.rules));
        let mut options = vec!["fsync=off", "wal_level=logical"];
        if let Some((certificate, key)) = setup.certificate {
            file(&data.join("server.crt"), certificate);
            file(&data.join("server.key"), key);
            options.push("ssl=on");
        }
        options.extend(setup.settings);
        let tried = if setup.listens { PORTS_TRIED } else { 1 };
        let started = (0..tried).find_map(|_| {
            let port = if setup.listens { free_port() } else { SOCKET };
            let arguments = arguments(port, setup.listens, &options);
            serve(&bin, dir.path(), &arguments).map(|child| (child, port, arguments))
        });
        let (child, port, arguments) = started.expect("the server starts");
        Server { dir, child, bin, port, arguments, password: setup.password }
    }

    /// One of which slots are bounded.
    pub(crate) fn with_slots() -> Server {
        Server::with_settings(&["max_slot_wal_keep_size=1GB", "max_prepared_transactions=5"])
    }

    /// One with settings of a test's own.
    pub(crate) fn with_settings(settings: &[&str]) -> Server {
        Server::with(&Setup { settings, ..Setup::default() })
    }

    fn start_again(&mut self) {
        self.child = serve(&self.bin, self.dir.path(), &self.arguments).expect("the server starts again");
    }

    /// Makes it a standby, of no primary.
    pub(crate) fn become_standby(&mut self) {
        self.stop();
        std::fs::write(self.dir.path().join("data/standby.signal"), "").expect("written");
        self.start_again();
    }

    /// A standby that follows it.
    pub(crate) fn replica(&self) -> Server {
        let dir = tempfile::tempdir().expect("a directory");
        own(dir.path());
        let copy = directories().map(|dir| dir.join("pg_basebackup")).find(|program| program.exists());
        let mut copy = run(&copy.expect("pg_basebackup is installed (Debian: postgresql-client)"));
        copy.args([
            "--write-recovery-conf",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-sync",
            "--username=reknit",
        ]);
        copy.args(["--port", &self.port.to_string(), "--host"]).arg(self.dir.path());
        let made = copy.arg("--pgdata").arg(dir.path().join("data")).output().expect("pg_basebackup");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let child = serve(&self.bin, dir.path(), &self.arguments).expect("the replica starts");
        // It takes connections before it follows anybody.
        let follows =
            "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn IS NOT NULL)";
        let mut primary = self.client();
        until(|| primary.query_one(follows, &[]).expect("a row").get(0));
        let (bin, arguments) = (self.bin.clone(), self.arguments.clone());
        Server { dir, child, bin, port: self.port, arguments, password: self.password }
    }

    /// Stops it as a power cut would, and starts it again.
    pub(crate) fn crash(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Stops it as a power cut would, keeps a copy of all its files, and starts it again.
    pub(crate) fn save(&mut self) {
        self.stop();
        copy(&self.dir.path().join("data"), &self.dir.path().join("saved"));
        self.start_again();
    }

    /// Puts the files back that were kept.
    pub(crate) fn put_back(&mut self) {
        self.stop();
        std::fs::remove_dir_all(self.dir.path().join("data")).expect("removed");
        copy(&self.dir.path().join("saved"), &self.dir.path().join("data"));
        self.start_again();
    }

    fn stop(&mut self) {
        let data = self.dir.path().join("data");
        let _ = run(&self.bin.join("pg_ctl")).args(["stop", "-m", "immediate", "-D"]).arg(data).output();
        let _ = self.child.wait();
    }

    /// Where its socket is.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A table's address for a user.
    pub(crate) fn table(&self, user: &str, table: &str) -> String {
        let host = self.dir.path().display().to_string().replace('/', "%2F");
        let port = if self.port == SOCKET { String::new() } else { format!(":{}", self.port) };
        format!("postgres://{user}@{host}{port}/postgres/{table}")
    }

    /// A table's address for a user who comes by TCP.
    pub(crate) fn listening(&self, user: &str, host: &str, table: &str) -> String {
        format!("postgres://{user}@{host}:{}/postgres/{table}", self.port)
    }

    /// A line of libpq's file of passwords for the first user.
    pub(crate) fn passfile(&self) -> String {
        let escaped = self.password.replace('\\', "\\\\").replace(':', "\\:");
        format!("{}:{}:*:reknit:{escaped}\n", self.dir.path().display(), self.port)
    }

    /// How another server connects to it.
    pub(crate) fn conninfo(&self) -> String {
        format!("host={} port={} user=reknit dbname=postgres", self.dir.path().display(), self.port)
    }

    pub(crate) fn sql(&self, statements: &str) {
        self.client().batch_execute(statements).expect("statements");
    }

    pub(crate) fn client(&self) -> Client {
        let mut config: postgres::Config = self.conninfo().parse().expect("how to connect");
        config.password(self.password).connect(NoTls).expect("a connection")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The directory of a server that lets everybody in and has not run yet. It is made once, and copied for each test:
/// to make one takes ten times as long. The next run of the tests finds it too. A copy keeps the server's identity, so a
/// test's second server is a copy of another one.
fn fresh(bin: &Path) -> PathBuf {
    thread_local!(static STARTED: Cell<usize> = const { Cell::new(0) });
    static MADE: Mutex<()> = Mutex::new(());
    let nth = STARTED.replace(STARTED.get() + 1);
    let _one = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let version = Command::new(bin.join("postgres")).arg("--version").output().expect("its version").stdout;
    let version = String::from_utf8(version).expect("text").replace(|letter: char| !letter.is_alphanumeric(), "-");
    // What root makes, others cannot copy.
    let whose = if other_user().is_some() { "nobody" } else { "own" };
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{version}-{whose}-{nth}"));
    if !kept.exists() {
        // Whom the server runs as may not come where the tests are built.
        let dir = tempfile::tempdir().expect("a directory");
        own(dir.path());
        make(bin, &dir.path().join("data"), &["--auth=trust"]);
        let half = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        copy(&dir.path().join("data"), &half.path().join("data"));
        // Another process may have been faster.
        let moved = std::fs::rename(half.path().join("data"), &kept);
        assert!(kept.exists(), "{moved:?}");
    }
    kept
}

fn make(bin: &Path, data: &Path, auth: &[&str]) {
    let mut initdb = run(&bin.join("initdb"));
    initdb.args(["--no-sync", "--username=reknit", "--encoding=UTF8", "--locale=C", "--pgdata"]).arg(data).args(auth);
    let made = initdb.output().expect("initdb");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Copies a directory with all rights and owners.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp").success());
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port()
}

fn arguments(port: u16, listens: bool, options: &[&str]) -> Vec<String> {
    let listen = if listens { "listen_addresses=127.0.0.1" } else { "listen_addresses=" };
    let settings = options.iter().chain([&listen]).flat_map(|setting| ["-c".to_string(), (*setting).to_string()]);
    ["-p".to_string(), port.to_string()].into_iter().chain(settings).collect()
}

/// Starts a server over its directory, and waits until it takes connections; none if its port is taken meanwhile.
fn serve(bin: &Path, dir: &Path, arguments: &[String]) -> Option<Child> {
    let mut server = run(&bin.join("postgres"));
    server.arg("-D").arg(dir.join("data")).arg("-k").arg(dir).args(arguments).stderr(Stdio::piped());
    let mut child = server.spawn().expect("postgres");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let ready = |line: &std::io::Result<String>| {
        line.as_ref().is_ok_and(|line| line.contains("database system is ready to accept"))
    };
    if !lines.any(|line| ready(&line)) {
        child.wait().expect("its end");
        return None;
    }
    // What it says later is read, so that it never waits for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    Some(child)
}

/// A file that is the server's alone.
fn file(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    own(path);
}

fn own(path: &Path) {
    if let Some((uid, gid)) = other_user() {
        chown(path, Some(uid), Some(gid)).expect("it is root's to give");
    }
}

/// Where the server's programs are.
fn binaries() -> Option<PathBuf> {
    directories().find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
}

/// Where programs may be.
fn directories() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|version| version.path().join("bin"));
    std::env::split_paths(&path).chain(debian).collect::<Vec<_>>().into_iter()
}

/// The server refuses to be run by root: then it is run by whom nothing belongs to.
fn other_user() -> Option<(u32, u32)> {
    let id = Command::new("id").arg("-u").output().expect("id");
    let users = std::fs::read_to_string("/etc/passwd").expect("the users");
    let nobody = users.lines().find(|line| line.starts_with("nobody:"));
    let mut fields = nobody.expect("nobody").split(':').skip(2).map(|field| field.parse().expect("a number"));
    (id.stdout == b"0\n").then(|| (fields.next().expect("a user"), fields.next().expect("a group")))
}

fn run(program: &Path) -> Command {
    let Some((uid, gid)) = other_user() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]).arg(program);
    command.current_dir("/");
    command
}
