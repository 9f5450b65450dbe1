//! The nodes of a soak: homes, daemons of the real binary as processes, and commands at them. What is done to them, and what is
//! made of it, is for others.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use reknit::store::engine::conformance::Draw;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::relay::{Relay, Weather};

/// Nodes; the first [`STEADY`] of them are never killed, so that their memory can be judged. Every other one keeps its rows in redb.
pub(crate) const NODES: usize = 4;
pub(crate) const STEADY: usize = 2;
/// Records that all hold from the beginning, and nobody changes.
pub(crate) const STANDING: usize = 1_500;
/// What no command takes, beside stopped daemons and cut lines: whoever has not answered by then does not.
const COMMAND_SECONDS: &str = "120";
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// All nodes, in a directory that goes with them.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    pub(crate) nodes: Vec<Node>,
    // Relays live on it.
    _network: Runtime,
}

/// A home with a store `s` beside it, and its daemon.
pub(crate) struct Node {
    dir: PathBuf,
    pub(crate) id: String,
    pub(crate) relay: Relay,
    config: String,
    daemon: Mutex<Option<Daemon>>,
}

struct Daemon {
    child: Child,
    socket: SocketAddr,
    http: SocketAddr,
    // It says something at its end, to whoever still listens.
    _out: BufReader<ChildStdout>,
}

/// A living daemon, as far as the system tells of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Living {
    pub(crate) pid: u32,
    pub(crate) socket: SocketAddr,
    pub(crate) http: SocketAddr,
}

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Cluster {
    /// Homes that know one another, with stores of one dataset that hold the same; no daemon runs yet.
    pub(crate) fn new(seed: u64) -> Cluster {
        let dir = tempfile::tempdir().expect("a directory");
        let network = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let network = network.expect("a runtime");
        let node = |n: usize| {
            let place = dir.path().join(n.to_string());
            fs::create_dir_all(place.join("home")).expect("a home");
            let relay = Relay::start(&network, seed + n as u64);
            Node { dir: place, id: String::new(), relay, config: String::new(), daemon: Mutex::default() }
        };
        let mut nodes: Vec<Node> = (0..NODES).map(node).collect();
        let mut draw = Draw(seed);
        let standing = (0..STANDING).map(|n| format!("standing{n}\t{}\n", value(&mut draw, n as u64)));
        let standing: String = standing.collect();
        for n in 0..NODES {
            let engine = if n % 2 == 0 { "fjall" } else { "redb" };
            let how =
                if n == 0 { "--name soak".into() } else { format!("--like {}", nodes[0].dir.join("s").display()) };
            nodes[n].done(&format!("init s --engine {engine} {how}"));
            nodes[n].fed("import s - --format kv", standing.as_bytes()).is(&[0]);
            // What runs and pushes replace goes after a minute, so that stores do not grow.
            nodes[n].done("runs limit s --bytes 256MiB --age 1m");
            nodes[n].id = nodes[n].done("id").trim().to_string();
        }
        let at: Vec<String> = nodes.iter().map(|node| format!("quic://{}@{}/soak", node.id, node.relay.at())).collect();
        for n in 0..NODES {
            for other in (0..NODES).filter(|other| *other != n) {
                nodes[n].admit(&nodes[other].id).is(&[0]);
            }
            nodes[n].config = configuration(n, &at, nodes[n].relay.at());
            nodes[n].configure("");
            let token = nodes[n].dir.join("home/http.token");
            fs::write(&token, TOKEN).expect("a token");
            fs::set_permissions(token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("rights");
            tables(&nodes[n].dir);
        }
        Cluster { dir, nodes, _network: network }
    }

    /// A node that nobody admits, with a store of its own.
    pub(crate) fn stranger(&self) -> Command {
        let home = self.dir.path().join("stranger");
        let mut command = binary();
        command.env("REKNIT_HOME", home).current_dir(&self.nodes[0].dir);
        command
    }

    /// Where a node is reached, through its relay.
    pub(crate) fn address(&self, n: usize) -> String {
        format!("quic://{}@{}/soak", self.nodes[n].id, self.nodes[n].relay.at())
    }

    /// What the daemons logged last, for whoever reads how a soak failed.
    pub(crate) fn logs(&self) -> String {
        let tail = |node: &Node| {
            let log = fs::read_to_string(node.dir.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            format!("{}\n{}\n", node.dir.display(), lines[lines.len().saturating_sub(25)..].join("\n"))
        };
        self.nodes.iter().map(tail).collect()
    }
}

/// Two tables with the same rows.
fn tables(dir: &Path) {
    for file in ["left.db", "right.db"] {
        let rows = rusqlite::Connection::open(dir.join(file)).expect("a database");
        let made = rows.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE rows (id INTEGER PRIMARY KEY, v TEXT);");
        made.expect("a table");
    }
}

fn configuration(n: usize, at: &[String], advertised: SocketAddr) -> String {
    let (next, after) = (&at[(n + 1) % NODES], &at[(n + 2) % NODES]);
    let seed = if n == 0 { &at[1] } else { &at[0] };
    format!(
        "[serve]
http_token_file = 'http.token'
jobs_at_once = 2
max_delete = '100000000'
max_change = '100000000'
[gossip]
seeds = ['{seed}']
every = '2s'
do = 'repair'
advertise = '{advertised}'
max_delete = '100000000'
max_change = '100000000'
[alerts]
command = ['true']
failures = 1
[store.left]
url = 'sqlite:../left.db'
[store.right]
url = 'sqlite:../right.db'
[job.look]
a = '../s'
b = '{next}'
do = 'diff'
settle = '50ms'
every = '3s'
proven_equal_within = '10s'
[job.mend]
a = '../s'
b = '{after}'
do = 'repair'
every = '5s'
max_delete = '100000000'
max_change = '100000000'
[job.scrub]
store = '../s'
do = 'verify'
every = '11s'
[job.rows]
a = 'left/rows'
b = 'right/rows'
do = 'repair'
to = 'b'
every = '4s'
no_probe = true
max_delete = '100%'
max_change = '100%'
settle = '0ms'
"
    )
}

/// A value that says which write it is, and does not compress to nothing.
pub(crate) fn value(draw: &mut Draw, nth: u64) -> String {
    let noise: String = (0..4 + draw.below(12)).map(|_| format!("{:016x}", draw.bits())).collect();
    format!("{nth}-{noise}")
}

fn binary() -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", COMMAND_SECONDS, env!("CARGO_BIN_EXE_reknit")]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Node {
    pub(crate) fn table(&self, file: &str) -> rusqlite::Connection {
        let rows = rusqlite::Connection::open(self.dir.join(file)).expect("a database");
        rows.busy_timeout(Duration::from_secs(60)).expect("a wait");
        rows
    }

    /// Writes its configuration, with more at its end.
    pub(crate) fn configure(&self, more: &str) {
        fs::write(self.dir.join("home/config.toml"), format!("{}{more}", self.config)).expect("a file");
    }

    pub(crate) fn admit(&self, peer: &str) -> Ran {
        self.run(&format!("peers add {peer} --may compare,read,write,operate"))
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = binary();
        command.current_dir(&self.dir).env("REKNIT_HOME", self.dir.join("home")).args(words);
        command
    }

    pub(crate) fn run(&self, line: &str) -> Ran {
        Ran::of(self.command(&line.split(' ').collect::<Vec<_>>()), b"")
    }

    pub(crate) fn fed(&self, line: &str, input: &[u8]) -> Ran {
        Ran::of(self.command(&line.split(' ').collect::<Vec<_>>()), input)
    }

    /// What a command printed that was done.
    #[track_caller]
    pub(crate) fn done(&self, line: &str) -> String {
        self.run(line).is(&[0]).out
    }

    /// Root and records of its store.
    pub(crate) fn root(&self) -> String {
        let told: Value = serde_json::from_str(&self.done("dataset show s --format jsonl")).expect("JSON");
        format!("{} {}", told["root"], told["entries"])
    }

    /// Starts its daemon, and waits until it serves. A command may hold the store meanwhile, of which the daemon is told.
    pub(crate) fn start(&self) {
        let began = Instant::now();
        let mut daemon = self.daemon.lock().expect("no panic there");
        assert!(daemon.is_none(), "one runs already");
        while daemon.is_none() {
            assert!(began.elapsed() < Duration::from_secs(60), "{}: no daemon begins", self.dir.display());
            *daemon = self.spawn();
        }
        self.relay.lead_to(daemon.as_ref().expect("begun").socket);
    }

    fn spawn(&self) -> Option<Daemon> {
        let log = File::options().append(true).create(true).open(self.dir.join("log")).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_reknit"));
        command.args(["serve", "s", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--format", "jsonl"]);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("RUST_LOG", "error");
        // As the unit has it that is shipped.
        command.env("MALLOC_ARENA_MAX", "2");
        command.current_dir(&self.dir).env("REKNIT_HOME", self.dir.join("home"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the binary");
        let mut out = BufReader::new(child.stdout.take().expect("its stdout"));
        let lines = out.by_ref().lines();
        let mut lines = lines.map_while(|line| serde_json::from_str::<Value>(&line.ok()?).ok());
        let socket = lines.find_map(|line| {
            let (_, rest) = line["address"].as_str()?.split_once('@')?;
            rest.split('/').next()?.parse().ok()
        });
        let http =
            lines.find_map(|line| line["url"].as_str()?.strip_prefix("http://")?.trim_end_matches('/').parse().ok());
        if let (Some(socket), Some(http)) = (socket, http) {
            return Some(Daemon { child, socket, http, _out: out });
        }
        child.wait().expect("its end");
        None
    }

    pub(crate) fn living(&self) -> Option<Living> {
        let daemon = self.daemon.lock().expect("no panic there");
        daemon.as_ref().map(|daemon| Living { pid: daemon.child.id(), socket: daemon.socket, http: daemon.http })
    }

    pub(crate) fn kill(&self) {
        let mut daemon = self.daemon.lock().expect("no panic there").take().expect("it runs");
        daemon.child.kill().expect("killed");
        daemon.child.wait().expect("gone");
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.living().expect("it runs").pid.to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    /// The exit of a daemon that was asked to end.
    pub(crate) fn ended(&self) -> Option<i32> {
        let mut daemon = self.daemon.lock().expect("no panic there").take().expect("it runs");
        daemon.child.wait().expect("its end").code()
    }

    /// Nothing is in its way any more.
    pub(crate) fn fair(&self) {
        self.relay.set(Weather::default());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.get_mut().ok().and_then(Option::take) {
            let _ = daemon.child.kill();
            let _ = daemon.child.wait();
        }
    }
}

impl Ran {
    pub(crate) fn of(mut command: Command, input: &[u8]) -> Ran {
        let mut child = command.stdin(Stdio::piped()).spawn().expect("the binary");
        // Whoever ends early does not read everything.
        let _ = child.stdin.take().expect("its stdin").write_all(input);
        let ended = child.wait_with_output().expect("its end");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ran = Ran { exit: ended.status.code().unwrap_or(-1), out: text(&ended.stdout), err: text(&ended.stderr) };
        assert_ne!(ran.exit, 124, "{:?} has not answered in {COMMAND_SECONDS} s", command.get_args());
        ran
    }

    #[track_caller]
    pub(crate) fn is(self, exits: &[i32]) -> Ran {
        assert!(exits.contains(&self.exit), "exit {}: {} {}", self.exit, self.out, self.err);
        self
    }
}

impl Living {
    /// What HTTP answers to a request with this token; nothing if nobody does.
    pub(crate) fn get(&self, path: &str, token: &str) -> Option<String> {
        let mut stream = self.connect()?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n",
            self.http
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    pub(crate) fn asked(&self, path: &str) -> Option<String> {
        self.get(path, TOKEN).filter(|answer| answer.starts_with("HTTP/1.1 200 "))
    }

    pub(crate) fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.http, Duration::from_secs(5)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.set_write_timeout(Some(Duration::from_secs(5))).ok()?;
        Some(stream)
    }
}
