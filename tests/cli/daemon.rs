//! A serving daemon and what reaches it: the control socket, tickets, rights, impostors, its death in the middle.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Place, Ran};
use crate::relay::Relay;

/// A daemon; killed when it is dropped.
pub(crate) struct Daemon {
    child: Child,
    /// `quic://PEER@HOST:PORT/DATASET` of each store.
    addresses: Vec<String>,
    http: Option<SocketAddr>,
}

impl Daemon {
    pub(crate) fn start(place: &Place, home: &str, stores: &[&str]) -> Daemon {
        Daemon::start_with(place, home, stores, &[])
    }

    pub(crate) fn start_with(place: &Place, home: &str, stores: &[&str], flags: &[&str]) -> Daemon {
        // What comes later would be refused as said twice.
        let listen: &[&str] = if flags.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        Daemon::start_as_told(place, home, stores, &[listen, flags].concat(), flags.contains(&"--http"))
    }

    /// The same with these flags alone; `http` tells whether it answers that.
    pub(crate) fn start_as_told(place: &Place, home: &str, stores: &[&str], flags: &[&str], http: bool) -> Daemon {
        Daemon::of(Daemon::command(place, home, stores, flags), stores, http)
    }

    /// One that answers HTTP where no file may grow beyond so many of the shell's blocks of 512 or 1,024 bytes: the system then
    /// refuses as for a disk that is full.
    pub(crate) fn start_within(place: &Place, home: &str, stores: &[&str], blocks: u32) -> Daemon {
        let inner = Daemon::command(place, home, stores, &["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).arg(inner.get_program()).args(inner.get_args());
        command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(place.path("")).stdin(Stdio::null()).stdout(Stdio::piped());
        Daemon::of(command, stores, true)
    }

    fn command(place: &Place, home: &str, stores: &[&str], flags: &[&str]) -> Command {
        let words: Vec<&str> = ["serve"].into_iter().chain(stores.iter().copied()).collect();
        let mut command = place.command(&words);
        command.args(flags).env("REKNIT_HOME", place.path(home)).env("RUST_LOG", "off");
        command
    }

    fn of(mut command: Command, stores: &[&str], http: bool) -> Daemon {
        let mut child = command.stderr(Stdio::null()).spawn().expect("the binary");
        let mut lines = BufReader::new(child.stdout.take().expect("its stdout")).lines();
        let addresses = stores.iter().map(|_| {
            let line = lines.next().expect("a line for each store").expect("readable");
            line.rsplit(' ').next().expect("an address").to_string()
        });
        let addresses: Vec<String> = addresses.collect();
        if stores.is_empty() {
            lines.next().expect("a line of what it does").expect("readable");
        }
        let http = http.then(|| {
            let line = lines.next().expect("a line of where it answers").expect("readable");
            let url = line.rsplit(' ').next().and_then(|url| url.strip_prefix("http://")).expect("an address");
            url.trim_end_matches('/').parse().expect("host and port")
        });
        Daemon { addresses, child, http }
    }

    /// Where it answers HTTP, of one that was started with `--http`.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http.expect("--http")
    }

    pub(crate) fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// Where it is bound.
    pub(crate) fn socket(&self) -> SocketAddr {
        let (_, rest) = self.address().split_once('@').expect("a peer");
        rest.split('/').next().and_then(|socket| socket.parse().ok()).expect("host and port")
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Sends SIGTERM.
    pub(crate) fn end(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.child.wait().expect("its end")
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command with a home of its own.
pub(crate) fn at(place: &Place, home: &str, line: &str) -> Ran {
    let mut command = place.command(&line.split_whitespace().collect::<Vec<_>>());
    Ran::of(command.env("REKNIT_HOME", place.path(home)).output().expect("the binary"))
}

/// Stores `a` and `b` of one dataset, with 300 records and none.
fn two() -> Place {
    let place = Place::new();
    place.file("all.kv", (0..300).map(|n| format!("k{n:03}\tv{n}\n")).collect::<String>());
    place.run("init a").ok();
    place.run("import a all.kv").ok();
    place.run("init b --like a").ok();
    place
}

/// Lets the home of the place do this at the home of the daemon.
pub(crate) fn admit(place: &Place, home: &str, may: &str) {
    let me = place.run("id").ok().out;
    at(place, home, &format!("peers add {} --may {may}", me.trim())).ok();
}

#[test]
fn commands_on_a_served_store_go_through_the_daemon() {
    let place = two();
    let before =
        [place.run("get a k001"), place.run("get a nothing"), place.run("list a --limit 3"), place.run("verify a")];
    let daemon = Daemon::start(&place, "home", &["a"]);
    let during =
        [place.run("get a k001"), place.run("get a nothing"), place.run("list a --limit 3"), place.run("verify a")];
    for (before, during) in before.iter().zip(&during) {
        assert_eq!((before.exit, &before.out, &before.err), (during.exit, &during.out, &during.err));
    }
    place.feed("put a piped -", b"through the socket").ok();
    place.run("get a piped").ok().prints("through the socket");
    place.run("import a nowhere.kv").fails("import.file");
    place.run("export a -o out.kv").ok();
    assert!(place.read("out.kv").contains("piped\tthrough the socket"));
    place.run("repair a b --apply").ok().says(&["in sync: 301 records"]);
    place.run("status").ok().says(&["a daemon is running", "in_sync", "dataset a, 301 records"]);
    let own = format!("check b {}", daemon.address());
    place.run(&own).exits(4).says(&["peer.oneself", "this node itself", "wrote 0 records"]);
    // Without the socket the store is plainly in use.
    let socket = place.path("home").join("control.sock");
    std::fs::rename(&socket, place.path("elsewhere")).expect("moved");
    place.run("get a k001").fails("store.in-use");
    std::fs::rename(place.path("elsewhere"), &socket).expect("moved back");
    let mut command = place.command(&["serve", "b", "--listen", "127.0.0.1:0"]);
    Ran::of(command.output().expect("the binary")).fails("home.in-use");
    assert_eq!(daemon.end().code(), Some(0), "a daemon that was asked to end and did is done");
    assert!(!socket.exists());
    place.run("get a piped").ok().prints("through the socket");
}

#[test]
fn a_daemon_that_was_killed_leaves_nothing_in_the_way() {
    let place = two();
    let mut daemon = Daemon::start(&place, "home", &["a"]);
    place.run("put a acknowledged yes").ok();
    daemon.kill();
    place.run("get a acknowledged").ok().prints("yes");
    place.run("verify a").ok();
    let daemon = Daemon::start(&place, "home", &["a"]);
    place.run("get a acknowledged").ok().prints("yes");
    daemon.end();
}

/// Asks again until it is so.
#[track_caller]
pub(crate) fn until(mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "it never was so");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_command_whose_process_ended_does_not_go_on_in_the_daemon() {
    let place = two();
    let _daemon = Daemon::start(&place, "home", &["a"]);
    // The differences are given minutes to settle; the daemon holds the other store for as long.
    let start = || place.command(&["diff", "a", "b", "--settle", "5m"]).spawn().expect("the binary");
    let mut running = start();
    until(|| {
        // Whoever looks holds the store too, for a moment in which the daemon may have wanted it.
        if running.try_wait().expect("asked").is_some() {
            running = start();
        }
        place.run("get b k001").err.contains("[store.in-use]")
    });
    assert_eq!(running.try_wait().expect("asked"), None);
    running.kill().expect("killed");
    running.wait().expect("gone");
    until(|| place.run("get b k001").exit == Some(1));
    place.run("get a k001").ok().prints("v1");
}

#[test]
fn a_daemon_that_goes_away_in_the_middle_is_told_with_exit_3() {
    let place = two();
    let mut daemon = Daemon::start(&place, "home", &["a"]);
    let mut importing = place.command(&["import", "a", "-", "--format", "kv"]);
    let mut importing = importing.env("REKNIT_FORMAT", "jsonl").stdin(Stdio::piped()).spawn().expect("the binary");
    // More than pipe and socket hold: once it is written, the daemon reads it.
    let lines: String = (0..100_000).map(|n| format!("key {n}\tvalue\n")).collect();
    importing.stdin.as_mut().expect("its stdin").write_all(lines.as_bytes()).expect("read");
    daemon.kill();
    let ran = Ran::of(importing.wait_with_output().expect("its end")).exits(3).says(&["[control.lost]"]);
    let summary = ran.summary();
    assert_eq!((&summary["error"], &summary["command"]), (&json!("control.lost"), &json!("import")));
    assert_eq!(place.run("list a").ok().out.lines().count(), 300, "an import is whole or absent");
}

#[test]
fn two_stores_of_one_dataset_are_not_served_from_one_home() {
    let place = two();
    let mut command = place.command(&["serve", "a", "b", "--listen", "127.0.0.1:0"]);
    Ran::of(command.output().expect("the binary")).fails("serve.same-dataset").says(&["a"]);
    place.run("serve nowhere --listen 127.0.0.1:0").fails("store.none");
    place.run("serve a --listen 192.0.2.1:0").fails("node.address");
}

#[test]
fn a_remote_store_is_checked_compared_and_repaired() {
    let place = two();
    let daemon = Daemon::start(&place, "there", &["b"]);
    let address = daemon.address().to_string();
    place.run(&format!("check a {address}")).fails("peer.not-admitted").says(&["peers add"]);
    admit(&place, "there", "compare");
    place.run(&format!("check a {address} --settle 0ms")).exits(1).says(&["differs"]);
    place.run(&format!("diff a {address} --settle 0ms --limit 0")).exits(1).says(&["300 only in a"]);
    place.run(&format!("diff {address} a --settle 0ms --limit 0")).exits(1).says(&["300 only in b"]);
    let root = place.root("b");
    place.run(&format!("repair a {address} --apply")).exits(4).says(&[
        "no right to read,write",
        "wrote 0 records",
        "[peer.rights]",
    ]);
    admit(&place, "there", "compare,read");
    place.run(&format!("repair a {address} --apply")).exits(4).says(&["no right to write", "wrote 0 records"]);
    place.run(&format!("repair a {address} --to a --apply")).exits(1).says(&["300 only in a"]);
    assert_eq!(place.root("b"), root, "nothing was changed by what was refused");
    admit(&place, "there", "compare,b=read,a=read,a/default=write");
    let done = place.json(&format!("repair a {address} --apply")).ok().summary();
    assert_eq!((&done["verdict"], &done["to_b"]["applied"]), (&json!("in_sync"), &json!(300)));
    place.run(&format!("check {address} a")).ok().says(&["in sync: 300 records", "1 round trip"]);
    // Rights end where they are taken away, also while the daemon runs.
    let me = place.run("id").ok().out;
    at(&place, "there", &format!("peers remove {}", me.trim())).ok();
    place.run(&format!("check a {address}")).fails("peer.not-admitted");
    assert_eq!(place.run("status").exits(0).out.lines().filter(|line| line.starts_with("pair")).count(), 2);
}

#[test]
fn addresses_that_lead_to_nobody_or_to_another_are_named() {
    let place = two();
    let daemon = Daemon::start(&place, "there", &["b"]);
    admit(&place, "there", "compare,read,write");
    let address = daemon.address().to_string();
    let (before, after) = address.split_once('@').expect("a peer");
    let other = format!("quic://{}@{after}", at(&place, "third", "id").ok().out.trim());
    place.run(&format!("check a {other}")).exits(4).says(&["peer.impostor", "impostor"]);
    let elsewhere = after.replace("/a", "/towns");
    place.run(&format!("check a {before}@{elsewhere}")).exits(4).says(&["session.dataset", "towns"]);
    place.run("init strange --name a").ok();
    place.run(&format!("check strange {address}")).exits(4).says(&["no such dataset", "wrote 0 records"]);
    drop(daemon);
    place.run(&format!("check a {address}")).fails("peer.unreachable");
}

#[test]
fn a_ticket_lets_one_node_join_once() {
    let place = two();
    let daemon = Daemon::start(&place, "home", &["a"]);
    let ticket = place.run("invite a --may compare,read").ok().out.trim().to_string();
    at(&place, "there", &format!("join c {ticket}")).ok().says(&["joined a", "a=compare, a=read", "reknit repair c"]);
    at(&place, "there", &format!("repair c {} --to a --apply", daemon.address())).ok().says(&["in sync: 300 records"]);
    at(&place, "there", "get c k001").ok().prints("v1");
    at(&place, "there", "put c mine x").ok();
    at(&place, "there", &format!("repair c {} --apply", daemon.address())).exits(4).says(&["no right to write"]);
    // Used up, wrong, too late.
    at(&place, "third", &format!("join d {ticket}")).fails("peer.not-admitted");
    assert!(!place.path("d").exists(), "nothing is left behind");
    at(&place, "third", &format!("join d {}", &ticket[..ticket.len() - 4])).fails("usage.ticket");
    let late = place.run("invite a --expires 0s").ok().out;
    at(&place, "third", &format!("join d {}", late.trim())).fails("peer.not-admitted");
    at(&place, "there", &format!("join c {ticket}")).fails("store.exists");
    place.run("invite a --may fly").fails("usage.right").says(&["fly", "operate"]);
    place.run("invite b").fails("usage.at").says(&["--at"]);
    place.run("invite b --at host:1").ok().says(&["reknit-"]);
}

#[test]
fn two_remote_sides_are_compared_by_one_of_them() {
    let place = two();
    let first = Daemon::start(&place, "first", &["a"]);
    let second = Daemon::start(&place, "second", &["b"]);
    let (a, b) = (first.address().to_string(), second.address().to_string());
    admit(&place, "first", "compare,read,write");
    place.run(&format!("check {a} {b}")).exits(4).says(&["session.held", "operate"]);
    admit(&place, "first", "operate");
    place.run(&format!("check {a} {b}")).fails("session.held").says(&["does not admit"]);
    let id = at(&place, "first", "id").ok().out;
    at(&place, "second", &format!("peers add {} --may compare,read,write", id.trim())).ok();
    place.run(&format!("check {a} {b} --settle 0ms")).exits(1).says(&["differs"]);
    let diff = place.json(&format!("diff {a} {b} --settle 0ms")).exits(1);
    let found = diff.objects().iter().filter(|object| object["t"] == "difference").count();
    assert_eq!((found, &diff.summary()["counts"]["only_a"]), (300, &json!(300)));
    place.run(&format!("repair {a} {b} --apply")).ok().says(&["in sync: 300 records", "300 to b"]);
    place.run(&format!("check {b} {a}")).fails("peer.not-admitted");
    place.run(&format!("check {a} {b} --collection users")).fails("session.held").says(&["users"]);
}

#[test]
fn a_peer_that_dies_in_the_middle_leaves_an_undetermined_verdict_and_valid_records() {
    let place = two();
    // Records of digits that no compression makes small.
    let odd = |n: u128| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let lines = (1..20_000).map(|n| format!("m{n:06}\t{:032x}{:032x}\n", odd(n), odd(odd(n))));
    place.file("many.kv", lines.collect::<String>());
    place.run("import a many.kv").ok();
    admit(&place, "there", "compare,read,write");
    let mut daemon = Daemon::start(&place, "there", &["b"]);
    let relay = Relay::start(daemon.socket());
    // Of more than a megabyte that is to travel.
    relay.hold_after(300_000);
    let repair = ["repair", "a", &relay.address(daemon.address()), "--apply"].map(str::to_owned);
    let running = place.command(&repair).spawn().expect("the binary");
    relay.holds();
    daemon.kill();
    let ran = Ran::of(running.wait_with_output().expect("its end")).exits(3);
    ran.says(&["[session.lost]", "what was applied is valid"]);
    place.run("verify b").ok();
    let daemon = Daemon::start(&place, "there", &["b"]);
    relay.lead_to(daemon.socket());
    let repair = repair.each_ref().map(String::as_str);
    place.run_args(&repair).ok().says(&["in sync: 20,299 records"]);
    assert_eq!(daemon.end().code(), Some(0));
    place.run("verify b").ok().says(&["20,299 records"]);
}

#[test]
fn a_command_that_a_daemon_runs_is_of_the_home_that_was_meant() {
    let place = two();
    let _daemon = Daemon::start(&place, "home", &["a"]);
    std::fs::create_dir(place.path("below")).expect("a directory");
    let from_below = |words: &[&str], home: Option<&str>| {
        let mut command = place.command(words);
        command.env_remove("REKNIT_HOME").env("HOME", place.path("person")).current_dir(place.path("below"));
        command.envs(home.map(|home| ("REKNIT_HOME", home)));
        Ran::of(command.output().expect("the binary"))
    };
    let me = place.run("id").ok().out.trim().to_string();
    // As the directory of whoever asks has it, not the daemon's.
    from_below(&["status"], Some("../home")).ok().says(&[&format!("node   {me}"), "a daemon is running"]);
    assert!(!place.path("../home").exists(), "no other home was made");
    // Nobody says which: the one of the daemon that holds the store remembers what was found.
    from_below(&["check", "../a", "../b"], None).exits(1);
    place.run("status").exits(1).says(&["differs", "(check "]);
    assert!(!place.path("person").join(".local/state/reknit/verdicts.toml").exists());
}
