//! What the real binary costs on large stores, each side a process of its own: time, memory, bytes.
//!
//! `cargo bench --bench large -- [records] [differences] [bytes of a value] [copy]`. The method is in `benches/README.md`. With
//! `copy` the other side is a copy of the first, where a fill would take too long.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

fn main() {
    let typed: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let copies = typed.iter().any(|arg| arg == "copy");
    let mut args = typed.into_iter();
    let mut number = |default| args.next().and_then(|arg| arg.parse::<u64>().ok()).unwrap_or(default);
    let (n, d, value) = (number(100_000), number(1000), number(100) as usize);
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    println!("{n} records of 16 + {value} bytes, each side a process, QUIC on loopback");
    println!("{:<34} {:>9} {:>12} {:>12}", "what", "seconds", "peak here MB", "peak there MB");

    write(&at("all.kv"), value, (0..n).map(|i| (i, i)));
    let a = at("a");
    reknit(dir.path(), &["init".as_ref(), a.as_os_str()]);
    let imported = timed(dir.path(), "import", None, &["import".as_ref(), a.as_os_str(), at("all.kv").as_os_str()]);
    println!("  {:.0} records/s, {} MB on disk", n as f64 / imported.seconds, disk(&a) >> 20);
    std::fs::remove_file(at("all.kv")).expect("removed");

    let b = at("b");
    if copies {
        copy(&a, &b);
    } else {
        reknit(dir.path(), &["init".as_ref(), b.as_os_str(), "--like".as_ref(), a.as_os_str()]);
    }
    let mut server = Server::start(dir.path(), &b);
    let run = |what: &str, server: &Server, command: &str, more: &[&str]| {
        let mut typed: Vec<&std::ffi::OsStr> = vec![command.as_ref(), a.as_os_str(), server.address.as_ref()];
        typed.extend(more.iter().map(AsRef::<std::ffi::OsStr>::as_ref));
        let ran = timed(dir.path(), what, Some(server), &typed);
        ran.lines.iter().for_each(|line| println!("  {line}"));
        ran
    };
    if !copies {
        let filled = run("fill an empty side", &server, "repair", &["--apply"]);
        println!("  {:.2} of the rate of the import", imported.seconds / filled.seconds);
        // A new process, so that its peak is of what follows.
        server.stop();
        server = Server::start(dir.path(), &b);
    }
    run("check, equal", &server, "check", &[]);
    run("diff, equal", &server, "diff", &["--limit", "0"]);
    server.stop();
    change(dir.path(), &a, value, n, 1);
    server = Server::start(dir.path(), &b);
    run("diff of 1", &server, "diff", &["--limit", "0"]);
    run("repair of 1", &server, "repair", &["--apply"]);
    server.stop();
    change(dir.path(), &a, value, n, d);
    server = Server::start(dir.path(), &b);
    run(&format!("diff of {d}"), &server, "diff", &["--limit", "0"]);
    run(&format!("repair of {d}"), &server, "repair", &["--apply"]);
    run("check, equal again", &server, "check", &[]);
    server.stop();
    timed(dir.path(), "verify", None, &["verify".as_ref(), b.as_os_str()]);
}

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a directory");
    for item in std::fs::read_dir(from).expect("a directory") {
        let (path, target) = item.map(|item| (item.path(), to.join(item.file_name()))).expect("an item");
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}

/// Gives so many keys, scattered, new values.
fn change(home: &Path, store: &Path, value: usize, n: u64, d: u64) {
    let file = home.join("changes.kv");
    write(&file, value, (0..d).map(|i| (i * (n / d).max(1) % n, n + i + d)));
    reknit(home, &["import".as_ref(), store.as_os_str(), file.as_os_str()]);
}

fn write(file: &Path, bytes: usize, records: impl Iterator<Item = (u64, u64)>) {
    let mut out = BufWriter::new(File::create(file).expect("a file"));
    for (key, number) in records {
        // Keys in no order, as keys are; values that do not compress to nothing.
        let key = blake3::hash(&key.to_le_bytes()).to_hex();
        let value = blake3::hash(&(!number).to_le_bytes()).to_hex().repeat(bytes.div_ceil(64));
        writeln!(out, "{}\t{}", &key[..16], &value[..bytes]).expect("written");
    }
}

struct Ran {
    seconds: f64,
    lines: Vec<String>,
}

fn command(home: &Path, args: &[&std::ffi::OsStr]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reknit"));
    command.args(args).env("REKNIT_HOME", home.join("home")).env("REKNIT_SETTLE", "0ms");
    command
}

fn reknit(home: &Path, args: &[&std::ffi::OsStr]) -> String {
    let ran = command(home, args).output().expect("it runs");
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.code().is_some_and(|code| code < 2), "{args:?}: {text}");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// Runs a command, and prints what it and the server needed.
fn timed(home: &Path, what: &str, server: Option<&Server>, args: &[&std::ffi::OsStr]) -> Ran {
    let began = Instant::now();
    let ran = command(home, args).arg("-v").output().expect("it runs");
    let seconds = began.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.code().is_some_and(|code| code < 2), "{args:?}: {text}");
    let told = text.lines().filter_map(|line| line.split_once("at most ")?.1.strip_suffix(" in memory")).next_back();
    let there = server.map_or(String::new(), |server| server.peak());
    println!("{what:<34} {seconds:>9.2} {:>12} {there:>12}", told.unwrap_or("?"));
    let lines = String::from_utf8_lossy(&ran.stdout).lines().map(String::from).collect();
    Ran { seconds, lines }
}

/// The second process.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(home: &Path, store: &Path) -> Server {
        // A home of its own, so that commands on the other store do not go through it.
        let mut command = Command::new(env!("CARGO_BIN_EXE_reknit"));
        command.args(["serve".as_ref(), store.as_os_str(), "--listen".as_ref(), "127.0.0.1:0".as_ref()]);
        let there = home.join("home-b");
        let me = reknit(home, &["id".as_ref()]);
        let admit = ["peers", "add", me.trim(), "--may", "compare,read,write"];
        let added = Command::new(env!("CARGO_BIN_EXE_reknit")).args(admit).env("REKNIT_HOME", &there).output();
        assert!(added.expect("it runs").status.success());
        command.env("REKNIT_HOME", &there).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it tells its address");
        let address = line.split_whitespace().next_back().expect("an address").to_string();
        Server { child, address }
    }

    fn peak(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
        let kb = line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok());
        kb.map_or("?".into(), |kb| format!("{:.1} MB", kb as f64 * 1024.0 / 1e6))
    }

    fn stop(&mut self) {
        // Killed, not asked: what was acknowledged must be there.
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }
}

fn disk(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory").flatten();
    let size = |path: PathBuf| if path.is_dir() { disk(&path) } else { path.metadata().map_or(0, |meta| meta.len()) };
    entries.map(|entry| size(entry.path())).sum()
}
