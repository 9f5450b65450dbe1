//! A PostgreSQL server of a test's own: private directory, no port, gone with the test.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use postgres::{Client, NoTls};

pub(crate) struct Server {
    dir: tempfile::TempDir,
    child: Child,
    bin: PathBuf,
    settings: Vec<String>,
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::with(&[])
    }

    /// One of which slots are bounded.
    pub(crate) fn with_slots() -> Server {
        Server::with(&["max_slot_wal_keep_size=1GB", "max_prepared_transactions=5"])
    }

    /// One with settings of a test's own.
    pub(crate) fn with(settings: &[&str]) -> Server {
        let bin = binaries().expect("PostgreSQL is installed (Debian: postgresql); scripts/test sees to it");
        let dir = private();
        let data = dir.path().join("data");
        let made = run(&bin.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=reknit", "--encoding=UTF8", "--locale=C", "--pgdata"])
            .arg(&data)
            .output()
            .expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let own = ["listen_addresses=", "fsync=off", "wal_level=logical"];
        let setting = |setting: &&str| ["-c".to_string(), (*setting).to_string()];
        let settings: Vec<String> = own.iter().chain(settings).flat_map(setting).collect();
        let child = serve(&bin, dir.path(), &settings);
        Server { dir, child, bin, settings }
    }

    /// Makes it a standby, of no primary.
    pub(crate) fn become_standby(&mut self) {
        self.stop();
        std::fs::write(self.dir.path().join("data/standby.signal"), "").expect("written");
        self.child = serve(&self.bin, self.dir.path(), &self.settings);
    }

    /// Stops it as a power cut would, and starts it again.
    pub(crate) fn crash(&mut self) {
        self.stop();
        self.child = serve(&self.bin, self.dir.path(), &self.settings);
    }

    /// Stops it as a power cut would, keeps a copy of all its files, and starts it again.
    pub(crate) fn save(&mut self) {
        self.stop();
        self.copy("data", "saved");
        self.child = serve(&self.bin, self.dir.path(), &self.settings);
    }

    /// Puts the files back that were kept.
    pub(crate) fn put_back(&mut self) {
        self.stop();
        std::fs::remove_dir_all(self.dir.path().join("data")).expect("removed");
        self.copy("saved", "data");
        self.child = serve(&self.bin, self.dir.path(), &self.settings);
    }

    fn copy(&self, from: &str, to: &str) {
        let [from, to] = [from, to].map(|name| self.dir.path().join(name));
        let copied = run(Path::new("cp")).arg("-a").arg(from).arg(to).status().expect("cp");
        assert!(copied.success());
    }

    fn stop(&mut self) {
        let data = self.dir.path().join("data");
        let _ = run(&self.bin.join("pg_ctl")).args(["stop", "-m", "immediate", "-D"]).arg(data).output();
        let _ = self.child.wait();
    }

    /// A table's address for a user.
    pub(crate) fn table(&self, user: &str, table: &str) -> String {
        let host = self.dir.path().display().to_string().replace('/', "%2F");
        format!("postgres://{user}@{host}/postgres/{table}")
    }

    /// How another server connects to it.
    pub(crate) fn conninfo(&self) -> String {
        format!("host={} user=reknit dbname=postgres", self.dir.path().display())
    }

    pub(crate) fn sql(&self, statements: &str) {
        self.client().batch_execute(statements).expect("statements");
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.conninfo(), NoTls).expect("a connection")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A directory of whoever runs the server.
fn private() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    if let Some((uid, gid)) = other_user() {
        chown(dir.path(), Some(uid), Some(gid)).expect("it is root's to give");
    }
    dir
}

/// Starts a server over its directory, and waits until it takes connections.
fn serve(bin: &Path, dir: &Path, settings: &[String]) -> Child {
    let mut server = run(&bin.join("postgres"));
    server.arg("-D").arg(dir.join("data")).arg("-k").arg(dir).args(settings).stderr(Stdio::piped());
    let mut child = server.spawn().expect("postgres");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let ready = |line: &std::io::Result<String>| {
        line.as_ref().is_ok_and(|line| line.contains("database system is ready to accept"))
    };
    assert!(lines.any(|line| ready(&line)), "the server does not start");
    // What it says later is read, so that it never waits for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// Where the server's programs are.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|version| version.path().join("bin"));
    std::env::split_paths(&path).chain(debian).find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
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
