//! What a daemon tells operators by itself: by a real command and a real webhook, once until it is repeated, and when it is over.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;

use crate::daemon::{Daemon, at, until};
use crate::harness::Place;
use crate::schema;

/// A place with two tables that differ in one row, and this configuration after the names of both.
fn with_tables(rest: &str) -> Place {
    let place = Place::new();
    for (file, value) in [("a.db", "x"), ("b.db", "y")] {
        let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)";
        execute(&place.path(file), &format!("{table}; INSERT INTO t VALUES (1, 'same'), (2, '{value}');"));
    }
    std::fs::create_dir_all(place.path("home")).expect("a home");
    configure(&place, rest);
    place
}

fn configure(place: &Place, rest: &str) {
    let stores = "[store.a]\nurl = 'sqlite:../a.db'\n[store.b]\nurl = 'sqlite:../b.db'\n";
    place.file("home/config.toml", format!("{stores}{rest}"));
}

fn execute(file: &Path, statements: &str) {
    let database = rusqlite::Connection::open(file).expect("a database");
    database.busy_timeout(std::time::Duration::from_secs(60)).expect("a wait");
    database.execute_batch(statements).expect("statements");
}

/// A program that appends what it gets to `heard` of the place.
pub(crate) fn listener(place: &Place) -> String {
    let heard = place.path("heard");
    let program = place.file("listen", format!("#!/bin/sh\n/bin/cat >> {}\necho \"$1\"\n", heard.display()));
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("a program");
    program.display().to_string()
}

/// What it got: id and state of each, in order.
pub(crate) fn heard(place: &Place) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(place.path("heard")).unwrap_or_default();
    let object = |line: &str| serde_json::from_str::<Value>(line).ok();
    text.lines().filter_map(object).map(|event| of(&event)).collect()
}

/// Whether these bytes are in what is remembered of alerts.
fn remembers(place: &Place, bytes: &[u8]) -> bool {
    let file = std::fs::read(place.path("home/alerts")).expect("the memory");
    file.windows(bytes.len()).any(|window| window == bytes)
}

fn of(event: &Value) -> (String, String) {
    let text = |field: &str| event[field].as_str().expect("a text").to_string();
    (text("alert"), text("state"))
}

pub(crate) fn pair(id: &str, state: &str) -> (String, String) {
    (id.into(), state.into())
}

const LOOK: &str =
    "[job.look]\na = 'a'\nb = 'b'\ndo = 'diff'\nevery = '1s'\nsettle = '0ms'\nproven_equal_within = '10s'\n";

#[test]
fn an_objective_that_is_broken_is_told_once_and_so_is_its_end_across_a_restart() {
    let place = with_tables("");
    let program = listener(&place);
    configure(&place, &format!("{LOOK}[alerts]\ncommand = ['{program}', 'said']\n"));
    place.run("config check").ok().says(&["alerts\talerts\tcommand"]);
    let mut daemon = Daemon::start(&place, "home", &[]);
    let broken = pair("objective/look", "firing");
    until(|| heard(&place).contains(&broken));
    // A number where there was none: it is written down that this was heard.
    until(|| remembers(&place, b"firing\xcf"));
    let ran = place.run("status").exits(1);
    ran.says(&["alert  objective/look", "wrong  look: it is not proven equal within 10s and never was"]);
    place.run("jobs show look").ok().says(&["wanted: proven equal within 10s, which is broken"]);
    let objects = place.json("alerts list").exits(1).objects();
    schema::holds(&objects);
    assert_eq!((&objects[0]["alert"], &objects[0]["kind"]), (&"objective/look".into(), &"objective".into()));
    schema::holds(&place.json("status").objects());
    // Another daemon knows that it was told.
    daemon.kill();
    let mut daemon = Daemon::start(&place, "home", &[]);
    let runs = |place: &Place| place.json("jobs show look").objects()[0]["runs"].as_u64().expect("a number");
    let before = runs(&place);
    until(|| runs(&place) > before + 1);
    assert_eq!(heard(&place).iter().filter(|event| **event == broken).count(), 1, "{:?}", heard(&place));
    execute(&place.path("b.db"), "UPDATE t SET v = 'x' WHERE id = 2");
    until(|| heard(&place).last() == Some(&pair("objective/look", "resolved")));
    place.run("status").ok().says(&["look: in sync"]);
    let objective = &place.json("jobs show look").ok().objects()[0]["objective"];
    assert_eq!((&objective["proven"], &objective["within_ms"]), (&true.into(), &10_000.into()));
    until(|| !remembers(&place, b"objective"));
    // And that it has ended.
    daemon.kill();
    let _daemon = Daemon::start(&place, "home", &[]);
    let before = runs(&place);
    until(|| runs(&place) > before + 1);
    assert_eq!(heard(&place).len(), 2, "{:?}", heard(&place));
}

/// A tiny server: each request, its head and its body, and what it is answered.
struct Hook {
    at: String,
    requests: Receiver<(String, Value)>,
    answers: Sender<u16>,
}

impl Hook {
    fn start() -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = format!("http://{}/hook?token=secret", listener.local_addr().expect("an address"));
        let (heard, requests) = channel();
        let (answers, to_answer) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(code) = to_answer.recv() else { return };
                if serve(stream, code).is_some_and(|request| heard.send(request).is_err()) {
                    return;
                }
            }
        });
        Hook { at, requests, answers }
    }
}

fn serve(stream: impl Read + Write, code: u16) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).ok()? > 2 {
        head += &std::mem::take(&mut line).to_lowercase();
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let stream = reader.get_mut();
    write!(stream, "HTTP/1.1 {code} So\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok()?;
    stream.flush().ok()?;
    Some((head, serde_json::from_slice(&body).expect("JSON")))
}

#[test]
fn a_webhook_that_is_down_and_then_up_hears_of_what_failed_in_a_row() {
    let place = with_tables("");
    let hook = Hook::start();
    let failing = "[job.gone]\na = 'sqlite:../none.db/t'\nb = 'b'\nevery = '1s'\nsettle = '0ms'\n";
    let alerts = format!("[alerts]\nwebhook = '{}'\nwebhook_header_file = 'hook.header'\nfailures = 1\n", hook.at);
    place.file("home/hook.header", "Authorization: Bearer abc\n");
    configure(&place, &format!("{failing}{alerts}"));
    let ran = place.run("config check").ok();
    assert!(ran.out.contains("webhook at 127.0.0.1") && !ran.out.contains("secret"), "{ran:?}");
    for answer in [503, 302, 200] {
        hook.answers.send(answer).expect("it listens");
    }
    let mut daemon = Daemon::start(&place, "home", &[]);
    let next = || hook.requests.recv_timeout(std::time::Duration::from_secs(120)).expect("a request");
    let (head, first) = next();
    assert!(head.starts_with("post /hook?token=secret") && head.contains("authorization: bearer abc"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(of(&first), pair("failing/gone", "firing"));
    assert!(first["message"].as_str().is_some_and(|message| message.contains("none.db")), "{first}");
    // What was not heard is told again, and then no more.
    assert_eq!((of(&next().1), of(&next().1)), (of(&first), of(&first)));
    until(|| !place.run("status").out.contains("alerts by webhook"));
    daemon.kill();
    // The job is no longer there, and so is its trouble.
    configure(&place, &alerts);
    place.file("home/config.toml", format!("{}[job.hand]\na = 'a'\nb = 'b'\n", place.read("home/config.toml")));
    hook.answers.send(200).expect("it listens");
    let _daemon = Daemon::start(&place, "home", &[]);
    assert_eq!(of(&next().1), pair("failing/gone", "resolved"));
    assert!(hook.requests.try_recv().is_err(), "each was heard once");
}

#[test]
fn what_is_configured_can_be_tried_out_and_what_is_wrong_with_it_is_told() {
    let place = with_tables("");
    place.run("alerts test").fails("alerts.none").says(&["[alerts]"]);
    let (program, hook) = (listener(&place), Hook::start());
    configure(&place, &format!("[alerts]\ncommand = ['{program}']\nwebhook = '{}'\n", hook.at));
    hook.answers.send(204).expect("it listens");
    place.run("alerts test").ok().says(&["command\theard it", "webhook\theard it", "2 of 2 ways"]);
    assert_eq!(heard(&place), [pair("test/test", "firing")]);
    assert_eq!(of(&hook.requests.recv().expect("a request").1), pair("test/test", "firing"));
    hook.answers.send(500).expect("it listens");
    let ran = place.run("alerts test").exits(2).says(&["webhook\tfailed: the webhook at 127.0.0.1 answered 500"]);
    assert!(!ran.out.contains("secret"), "{ran:?}");
    schema::holds(&{
        hook.answers.send(200).expect("it listens");
        place.json("alerts test").ok().objects()
    });
    // One that fails, one that does not end, one that prints without end, one that is not there.
    for (command, timeout, words) in [
        ("'/bin/sh', '-c', 'exit 3'", "60s", "exit status: 3"),
        ("'/bin/sh', '-c', 'exec sleep 600'", "1s", "did not end within 1s"),
        ("'/bin/sh', '-c', 'yes'", "1s", "did not end within 1s"),
        ("'/no/such/program'", "60s", "cannot be run"),
    ] {
        configure(&place, &format!("[alerts]\ncommand = [{command}]\ntimeout = '{timeout}'\n"));
        place.run("alerts test").exits(2).says(&[words, "0 of 1 ways"]);
    }
    // What it began itself ends with it.
    let begun = place.path("begun");
    let script = format!("sleep 600 & echo $! > {}; wait", begun.display());
    configure(&place, &format!("[alerts]\ncommand = ['/bin/sh', '-c', '{script}']\ntimeout = '5s'\n"));
    place.run("alerts test").exits(2).says(&["did not end within 5s"]);
    let stat = format!("/proc/{}/stat", place.read("begun").trim());
    until(|| std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")));
    for (alerts, words) in [
        ("webhook = 'http://example.org/'", "is no https:// address"),
        ("webhook = 'ftp://example.org/'", "is no https:// address"),
        ("command = []", "tells nobody"),
        ("command = 'a'\nrepeat = '1s'", "60s pass at least"),
        ("command = 'a'\ntimeout = '2m'", "`timeout`"),
        ("command = 'a'\nwebhook_header_file = 'h'", "no `webhook`"),
        ("command = 'a'\nfailures = 0", "must be a whole number from 1"),
        ("comand = 'a'", "did you mean `command`?"),
    ] {
        configure(&place, &format!("[alerts]\n{alerts}\n"));
        place.run("config check").fails("config.malformed").says(&[words]);
    }
    for (objective, words) in [("'500ms'", "more often"), ("'soon'", "is no duration")] {
        configure(&place, &format!("[job.j]\na = 'a'\nb = 'b'\nevery = '1s'\nproven_equal_within = {objective}\n"));
        place.run("config check").fails("config.malformed").says(&[words]);
    }
}

/// A daemon that runs one job, and a listener that hears of nothing but `id`: it fires, and is over once that is mended.
fn fires_and_ends(job: &str, rules: &str, id: &str, mend: impl Fn(&Place)) {
    let place = with_tables("");
    let program = listener(&place);
    configure(&place, &format!("{job}[alerts]\ncommand = ['{program}', 'said']\n{rules}"));
    let daemon = Daemon::start(&place, "home", &[]);
    until(|| heard(&place).contains(&pair(id, "firing")));
    let objects = place.json("alerts list").exits(1).objects();
    schema::holds(&objects);
    assert_eq!(objects[0]["alert"], id, "{objects:?}");
    mend(&place);
    until(|| heard(&place).last() == Some(&pair(id, "resolved")));
    assert_eq!(heard(&place), [pair(id, "firing"), pair(id, "resolved")]);
    place.run("alerts list").ok();
    assert!(daemon.end().success());
}

/// The tables of a place are equal from now on.
fn equal(place: &Place) {
    execute(&place.path("b.db"), "UPDATE t SET v = 'x' WHERE id = 2");
}

#[test]
fn differences_that_stand_for_too_long_are_told_until_they_are_gone() {
    let job = "[job.look]\na = 'a'\nb = 'b'\ndo = 'diff'\nevery = '1s'\nsettle = '0ms'\n";
    fires_and_ends(job, "drift = '1s'\n", "drift/look", equal);
}

#[test]
fn a_job_that_is_refused_is_told_until_it_is_not() {
    // Half of what is there would be overwritten.
    let job = "[job.mend]\na = 'a'\nb = 'b'\ndo = 'repair'\nto = 'b'\nmax_change = '0'\nevery = '1s'\nsettle = '0ms'\n";
    fires_and_ends(job, "", "refused/mend", equal);
}

#[test]
fn a_configuration_that_is_wrong_is_told_until_it_is_right() {
    let place = with_tables("");
    let alerts = format!("[job.hand]\na = 'a'\nb = 'b'\n[alerts]\ncommand = ['{}', 'said']\n", listener(&place));
    configure(&place, &alerts);
    let daemon = Daemon::start(&place, "home", &[]);
    configure(&place, &format!("{alerts}comand = 'a'\n"));
    daemon.signal("-HUP");
    until(|| heard(&place).contains(&pair("wrong/config", "firing")));
    configure(&place, &alerts);
    daemon.signal("-HUP");
    until(|| heard(&place) == [pair("wrong/config", "firing"), pair("wrong/config", "resolved")]);
}

#[test]
fn a_peer_that_never_gets_better_is_told_until_it_does() {
    let place = Place::with_store();
    place.run("init b --like s").ok();
    // Written before anybody gossips: nothing brings it there but a repair, which neither daemon does.
    (0..40).for_each(|nth| drop(place.run(&format!("put s milk{nth} bottles")).ok()));
    let ids = ["home", "near"].map(|home| at(&place, home, "id").ok().out.trim().to_string());
    at(&place, "near", &format!("peers add {} --may compare,read,write", ids[0])).ok();
    at(&place, "home", &format!("peers add {} --may compare,read,write", ids[1])).ok();
    let gossip = "[gossip]\nevery = '100ms'\ndo = 'check'\n";
    place.file("near/config.toml", gossip);
    let near = Daemon::start(&place, "near", &["b"]);
    let program = listener(&place);
    let alerts = format!("[alerts]\ncommand = ['{program}', 'said']\n");
    place.file("home/config.toml", format!("{gossip}seeds = ['{}']\n{alerts}", near.address()));
    let _home = Daemon::start(&place, "home", &["s"]);
    let about = format!("peer/s@{}", &ids[1][..7]);
    until(|| heard(&place).contains(&pair(&about, "firing")));
    // A check does not list what differs; it is said about how much.
    let told = place.run("status").exits(1).says(&["keys of s differ from", "keys differ, for", "never proven equal"]);
    let pairs = place.json("status").summary()["gossip_pairs"].clone();
    let left = pairs[0]["left"].as_u64().expect("a number");
    assert!((20..=80).contains(&left) && told.out.contains(&format!("about {left} keys")), "{left}: {told:?}");
    place.run(&format!("repair s {} --apply", near.address())).ok();
    until(|| heard(&place).contains(&pair(&about, "resolved")));
}

/// A webhook that encrypts, with a certificate of an authority that the world does not know; says where it is.
fn sealed_hook(place: &Place) -> (String, Receiver<(String, Value)>) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).expect("names");
    let certificate = params.self_signed(&key).expect("a certificate");
    place.file("home/ca.pem", certificate.pem());
    let secret = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let server = server.expect("versions").with_no_client_auth();
    let server = server.with_single_cert(vec![certificate.der().clone()], secret).expect("a server");
    let server = std::sync::Arc::new(server);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = format!("https://{}/hook?token=secret", listener.local_addr().expect("an address"));
    let (heard, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(server.clone()).expect("a connection");
            // Whoever does not trust it says nothing.
            let stream = rustls::StreamOwned::new(connection, stream);
            if serve(stream, 200).is_some_and(|request| heard.send(request).is_err()) {
                return;
            }
        }
    });
    (at, requests)
}

#[test]
fn a_webhook_by_https_hears_if_who_vouches_for_it_is_named() {
    let place = with_tables("");
    let (at, requests) = sealed_hook(&place);
    let alerts = |more: &str| configure(&place, &format!("[alerts]\nwebhook = '{at}'\n{more}"));
    // Nobody that the system knows vouches for it.
    alerts("");
    let ran = place.run("alerts test").exits(2).says(&["webhook\tfailed: the webhook at 127.0.0.1", "0 of 1 ways"]);
    assert!(!ran.out.contains("secret"), "{ran:?}");
    alerts("webhook_ca = 'ca.pem'\n");
    place.run("alerts test").ok().says(&["webhook\theard it", "1 of 1 ways"]);
    let (head, event) = requests.recv().expect("a request");
    assert!(head.starts_with("post /hook?token=secret"), "{head}");
    assert_eq!(of(&event), pair("test/test", "firing"));
    // Another authority does not, and a file without one, or none, is said.
    let other = rcgen::KeyPair::generate().expect("a key");
    let other = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).expect("names").self_signed(&other);
    place.file("home/other.pem", other.expect("a certificate").pem());
    place.file("home/empty.pem", "words");
    for (file, words) in [
        ("other.pem", "failed: the webhook at 127.0.0.1"),
        ("empty.pem", "are no certificates in PEM"),
        ("none.pem", "cannot be read"),
    ] {
        alerts(&format!("webhook_ca = '{file}'\n"));
        place.run("alerts test").exits(2).says(&[words, "0 of 1 ways"]);
    }
    assert!(requests.try_recv().is_err(), "who is not trusted is told nothing");
    configure(&place, "[alerts]\nwebhook = 'http://127.0.0.1:9/'\nwebhook_ca = 'ca.pem'\n");
    place.run("config check").fails("config.malformed").says(&["`webhook_ca`"]);
}

#[test]
fn a_job_that_somebody_typed_wrongly_is_told_where_it_is_looked_for_and_alarms_nobody() {
    let place = with_tables("");
    let program = listener(&place);
    let alerts = format!("[alerts]\ncommand = ['{program}', 'said']\n");
    configure(&place, &format!("[job.look]\na = 'a'\nb = 'b'\n{alerts}"));
    let daemon = Daemon::start(&place, "home", &[]);
    place.run("jobs run lokk").fails("config.job").says(&["did you mean `look`?"]);
    place.run("status").says(&["wrong  a job was asked for of late that there is not"]);
    configure(&place, "[serve]\nnothing = 1\n");
    daemon.signal("-HUP");
    until(|| heard(&place).contains(&pair("wrong/config", "firing")));
    assert_eq!(heard(&place), [pair("wrong/config", "firing")]);
}
