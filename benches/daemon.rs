//! What daemons cost while all is equal, and how soon one is there again: processes of the real binary, on loopback.
//!
//! `cargo bench --bench daemon -- [records] [peers] [seconds]`. The method is in `benches/README.md`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let mut number = |default| args.next().and_then(|arg| arg.parse::<u64>().ok()).unwrap_or(default);
    let (n, peers, seconds) = (number(100_000), number(10), number(60));
    let dir = tempfile::tempdir().expect("a directory");
    let first = Home::new(dir.path(), 0);
    println!("{n} records of 16 + 100 bytes, {peers} peers, each a process, QUIC on loopback");
    fill(&first, n);
    first.reknit(&["config", "init"]);

    // Killed, then asked to end: how soon it serves again, and what it read for that.
    for how in ["-KILL", "-TERM"] {
        let mut daemon = first.serve(&[]);
        first.reknit(&["put", "s", "written", how.trim_start_matches('-')]);
        daemon.end(how);
        let again = first.serve(&[]);
        let (read, peak) = (again.read() >> 10, again.memory("VmHWM"));
        println!("ready after {how}: {:.2} s, {read} KB read, {:.1} MB", again.ready.as_secs_f64(), mb(peak));
    }

    let empty = memory_of_an_empty_store(dir.path());
    let homes: Vec<Home> = (1..=peers).map(|i| first.copied(dir.path(), i)).collect();
    let all: Vec<&Home> = std::iter::once(&first).chain(&homes).collect();
    let ids: Vec<String> = all.iter().map(|home| home.reknit(&["id"]).trim().to_string()).collect();
    for (i, home) in all.iter().enumerate() {
        for other in ids.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, id)| id) {
            home.reknit(&["peers", "add", other, "--may", "compare,read,write"]);
        }
    }
    let seed = first.serve(&["[gossip]", "seeds = []"]);
    let configured = format!("seeds = [\"{}\"]", seed.address);
    let mut others: Vec<Daemon> = homes.iter().map(|home| home.serve(&["[gossip]", &configured])).collect();
    // Copies recognise themselves in their first sessions; what is measured begins when every node knows every other.
    for home in &all {
        let deadline = Instant::now() + Duration::from_secs(300);
        while home.up() < peers {
            assert!(Instant::now() < deadline, "not all peers are up");
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    std::thread::sleep(Duration::from_secs(seconds.min(30)));
    let daemons: Vec<&Daemon> = std::iter::once(&seed).chain(&others).collect();
    let before: Vec<u64> = daemons.iter().map(|daemon| daemon.ticks()).collect();
    let (bytes, began) = (loopback(), Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let (bytes, took) = (loopback() - bytes, began.elapsed().as_secs_f64());
    let ticks: u64 = daemons.iter().zip(&before).map(|(daemon, before)| daemon.ticks() - before).sum();
    let nodes = daemons.len() as f64;
    // A hundredth of a second each, as the kernel tells it; loopback carries what each node sends once.
    println!("idle for {took:.0} s, a node: {:.2} % of a core", ticks as f64 / nodes / took);
    println!("a node and peer: {:.0} B/s both ways, on IP", 2.0 * bytes as f64 / nodes / peers as f64 / took);
    let memory = daemons.iter().map(|daemon| daemon.memory("VmRSS")).max().unwrap_or(0);
    println!("resident at most {:.1} MB; a daemon with one record {:.1} MB", mb(memory), mb(empty));
    others.iter_mut().for_each(|daemon| daemon.end("-TERM"));
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn memory_of_an_empty_store(dir: &Path) -> u64 {
    let home = Home::new(dir, 1_000);
    fill(&home, 1);
    let daemon = home.serve(&["[gossip]", "seeds = []"]);
    daemon.memory("VmRSS")
}

fn fill(home: &Home, n: u64) {
    let lines = (0..n).map(|i| {
        let hex = blake3::hash(&i.to_le_bytes()).to_hex();
        format!("{}\t{}{}\n", &hex[..16], hex, &hex[..36])
    });
    std::fs::write(home.dir.join("all.kv"), lines.collect::<String>()).expect("a file");
    home.reknit(&["init", "s"]);
    home.reknit(&["import", "s", "all.kv"]);
    std::fs::remove_file(home.dir.join("all.kv")).expect("removed");
}

/// A directory with a home and a store in it.
struct Home {
    dir: PathBuf,
}

impl Home {
    fn new(within: &Path, number: u64) -> Home {
        let dir = within.join(number.to_string());
        std::fs::create_dir(&dir).expect("a directory");
        Home { dir }
    }

    /// Another home, with a copy of the store.
    fn copied(&self, within: &Path, number: u64) -> Home {
        let home = Home::new(within, number);
        let copied = Command::new("cp").arg("-a").arg(self.dir.join("s")).arg(&home.dir).status();
        assert!(copied.expect("cp").success());
        home
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reknit"));
        command.args(args).current_dir(&self.dir).env("REKNIT_HOME", self.dir.join("home")).env("RUST_LOG", "off");
        command
    }

    fn reknit(&self, args: &[&str]) -> String {
        let ran = self.command(args).output().expect("it runs");
        let text = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.code().is_some_and(|code| code < 2), "{args:?}: {text}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    /// Peers that it knows to be up.
    fn up(&self) -> u64 {
        // It exits as the worst of its verdicts.
        let ran = self.command(&["status"]).output().expect("it runs");
        String::from_utf8_lossy(&ran.stdout).lines().filter(|line| line.contains(" is up at ")).count() as u64
    }

    /// A daemon of this home, once it serves.
    fn serve(&self, config: &[&str]) -> Daemon {
        std::fs::create_dir_all(self.dir.join("home")).expect("a home");
        std::fs::write(self.dir.join("home/config.toml"), config.join("\n")).expect("a file");
        let began = Instant::now();
        let mut command = self.command(&["serve", "s", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a daemon");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it tells its address");
        let address = line.split_whitespace().next_back().expect("an address").to_string();
        Daemon { child, address, ready: began.elapsed() }
    }
}

/// A process; killed when it is dropped.
struct Daemon {
    child: Child,
    address: String,
    ready: Duration,
}

impl Daemon {
    fn of_process(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("it runs")
    }

    /// Bytes that it read, wherever from.
    fn read(&self) -> u64 {
        let io = self.of_process("io");
        let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
        line.and_then(|bytes| bytes.parse().ok()).expect("a number")
    }

    fn memory(&self, what: &str) -> u64 {
        let status = self.of_process("status");
        let line = status.lines().find(|line| line.starts_with(what)).expect("a line");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number") << 10
    }

    /// Processor time, in hundredths of a second.
    fn ticks(&self) -> u64 {
        let stat = self.of_process("stat");
        let after = stat.rsplit(')').next().expect("fields after the name");
        after.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
    }

    fn end(&mut self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
        self.child.wait().expect("gone");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that the loopback interface has carried.
fn loopback() -> u64 {
    let all = std::fs::read_to_string("/proc/net/dev").expect("interfaces");
    let line = all.lines().find_map(|line| line.trim().strip_prefix("lo:")).expect("loopback");
    line.split_whitespace().nth(8).and_then(|bytes| bytes.parse().ok()).expect("a number")
}
