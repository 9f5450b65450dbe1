//! HTTP of a daemon: who is answered, and that nothing from outside gets further than it may.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::daemon::{Daemon, until};
use crate::harness::{Place, Ran};
use crate::web::{Web, head, raw};

const LOOPBACK: [&str; 2] = ["--http", "127.0.0.1:0"];

#[test]
fn a_daemon_tells_that_it_lives_that_it_is_ready_and_what_it_measures() {
    let place = Place::with_store();
    let daemon = Daemon::start_with(&place, "home", &["s"], &LOOPBACK);
    let web = Web::at(daemon.http());
    assert_eq!(web.get("/healthz").is(200).json()["alive"], true);
    until(|| web.get("/readyz").status == 200);
    assert_eq!(web.get("/readyz").is(200).json(), json!({ "ready": true, "reasons": [] }));
    let metrics = web.get("/metrics").is(200);
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.body.contains("\nreknit_build_info{version=\"0.1.0\"} 1\n"), "{metrics:?}");
    assert_eq!(web.send("HEAD", "/healthz", "").is(200).body, "");
    place.run("status").ok().says(&[&format!("http   http://{}/", daemon.http())]);
    assert!(daemon.end().success());
}

#[test]
fn nothing_is_answered_to_others_without_a_token() {
    let place = Place::with_store();
    let refused = |flags: &[&str]| {
        let words = [&["serve", "s", "--listen", "127.0.0.1:0"], flags].concat();
        Ran::of(place.command(&words).output().expect("the binary"))
    };
    refused(&["--http", "0.0.0.0:0"]).fails("http.open").says(&["--http-token-file", "nothing was served"]);
    refused(&["--http", "[::]:0", "--http-token-file", "none"]).fails("http.token").says(&["none"]);
    place.secret("short", "hunter2");
    refused(&["--http", "0.0.0.0:0", "--http-token-file", "short"]).fails("http.token").says(&["openssl rand -hex 32"]);
    refused(&["--http", "192.0.2.1:0", "--http-token-file", "short"]).fails("http.token");
    let token = place.secret("token", "0123456789abcdef0123456789abcdef\n");
    refused(&["--http", "192.0.2.1:0", "--http-token-file", "token"]).fails("http.address").says(&["--http"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    refused(&["--http", &taken.local_addr().expect("bound").to_string()]).fails("http.address");
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("rights");
    refused(&["--http", "0.0.0.0:0", "--http-token-file", "token"]).fails("http.token").says(&["chmod 600"]);
}

#[test]
fn whoever_shows_no_token_or_a_wrong_one_learns_only_that_the_daemon_lives() {
    let place = Place::with_store();
    place.run("id").ok();
    let others = "[serve]\nhttp = '0.0.0.0:0'\n";
    place.file("home/config.toml", others);
    place.run("config check").fails("http.open");
    place.file("home/config.toml", format!("{others}http_token_file = 'http.token'\n"));
    place.run("config check").fails("http.token");
    place.secret("home/http.token", "0123456789abcdef0123456789abcdef\n");
    place.run("config check").ok();
    place.file("home/config.toml", "[serve]\nhttp = '127.0.0.1:0'\nhttp_token_file = 'http.token'\n");
    place.run("config check").ok();
    let daemon = Daemon::start_with(&place, "home", &["s"], &["--http", "127.0.0.1:0"]);
    let web = Web::at(daemon.http());
    web.get("/healthz").is(200);
    until(|| web.get("/readyz").status == 200);
    let asked = web.get("/metrics").refused(401, "http.no-token");
    assert_eq!(asked.headers["www-authenticate"], "Bearer realm=\"reknit\"");
    let showing = |token: &str| Web::with(daemon.http(), &[("Authorization", token)]);
    showing("Bearer 0123456789abcdef0123456789abcdee").get("/metrics").refused(401, "http.wrong-token");
    showing("Basic 0123456789abcdef0123456789abcdef").get("/metrics").refused(401, "http.wrong-token");
    showing("Bearer 0123456789abcdef0123456789abcdef").get("/metrics").is(200);
}

#[test]
fn another_token_takes_the_place_of_the_one_before_at_a_hangup() {
    let place = Place::with_store();
    let [old, new] = ["0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"];
    let token = place.secret("token", old);
    let flags = ["--http", "127.0.0.1:0", "--http-token-file", "token"];
    let daemon = Daemon::start_with(&place, "home", &["s"], &flags);
    let showing = |token: &str| Web::with(daemon.http(), &[("Authorization", &format!("Bearer {token}"))]);
    until(|| showing(old).get("/metrics").status == 200);
    let mut listening = showing(old).open("GET", "/api/v1/events", "");
    assert_eq!(head(&mut listening).0, 200);

    // A file that holds none changes nothing, and that is said.
    place.file("token", "short");
    daemon.signal("-HUP");
    let wrong = || place.json("status").summary()["wrong"].to_string();
    until(|| wrong().contains("[http.token]"));
    assert!(wrong().contains("is asked for still"), "{}", wrong());
    showing(old).get("/metrics").is(200);

    place.file("token", new);
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("rights");
    daemon.signal("-HUP");
    until(|| showing(new).get("/metrics").status == 200);
    showing(old).get("/metrics").refused(401, "http.wrong-token");
    // Whoever listened by the old one hears the end.
    listening.read_to_end(&mut Vec::new()).expect("an end");
    until(|| !wrong().contains("http.token"));
    showing(new).get("/api/v1/status").is(200);
}

#[test]
fn what_is_asked_for_wrongly_is_refused_and_bounded() {
    let place = Place::with_store();
    let daemon = Daemon::start_with(&place, "home", &["s"], &LOOPBACK);
    let at = daemon.http();
    let web = Web::at(at);
    web.get("/").refused(404, "http.path");
    web.get("/metrics/").refused(404, "http.path");
    web.get("//metrics").refused(404, "http.path");
    web.get(&format!("/{}", "x".repeat(2000))).refused(414, "http.path");
    web.get("/metrics?x=1").refused(400, "http.query");
    assert_eq!(web.send("DELETE", "/metrics", "").refused(405, "http.method").headers["allow"], "GET");
    web.send("GET", "/metrics", "{}").is(200);
    web.send("GET", "/metrics", "{\"x\": 1}").refused(400, "http.body");
    web.send("GET", "/metrics", &"x".repeat(5000)).refused(413, "http.body");
    // A page that was led here by a name of its own.
    Web::with(at, &[("Host", "evil.example:80")]).get("/metrics").refused(421, "http.host");
    Web::with(at, &[("Host", "localhost")]).get("/metrics").is(200);
    let many: Vec<(String, String)> = (0..100).map(|n| (format!("X-{n}"), "x".into())).collect();
    let many = Web { at, headers: many }.open("GET", "/metrics", "");
    let long = Web::with(at, &[("X-Long", &"x".repeat(40_000))]).open("GET", "/metrics", "");
    for mut refused in [many, long] {
        assert_eq!(head(&mut refused).0, 431);
    }
    for nonsense in
        [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut answer = Vec::new();
        // It is closed, with an answer or without.
        let _ = raw(at, nonsense).read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{nonsense:?}: {answer:?}");
    }
    // More connections than it takes wait, and cost nobody else theirs once they go.
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(at).expect("a connection")).collect();
    drop(silent);
    let mut half = TcpStream::connect(at).expect("a connection");
    half.write_all(b"GET /healthz HTTP/1.1\r\n").expect("half a request");
    web.get("/healthz").is(200);
    assert!(daemon.end().success(), "whoever has not asked yet keeps nobody from ending");
}

#[test]
fn so_many_connections_are_answered_at_once_and_one_more_once_another_goes() {
    let place = Place::with_store();
    let daemon = Daemon::start_with(&place, "home", &["s"], &LOOPBACK);
    let ask = || {
        let mut stream = TcpStream::connect(daemon.http()).expect("a connection");
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("a request");
        stream
    };
    // Each is answered, and stays.
    let mut all: Vec<TcpStream> = (0..64).map(|_| ask()).collect();
    all.iter_mut().for_each(|stream| assert_eq!(stream.read(&mut [0; 12]).expect("an answer"), 12));
    let mut waits = ask();
    waits.set_read_timeout(Some(std::time::Duration::from_millis(500))).expect("a limit");
    assert!(waits.read(&mut [0; 12]).is_err(), "it is not its turn");
    waits.set_read_timeout(None).expect("no limit");
    all.pop();
    let mut answer = [0; 12];
    waits.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
}
