//! The API of a daemon: its documents are those that are described, its jobs are steered, and what happens is heard.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::daemon::{Daemon, until};
use crate::harness::Place;
use crate::schema;
use crate::web::{Got, Web, head};

const LOOPBACK: [&str; 2] = ["--http", "127.0.0.1:0"];

/// A served store and one beside it, which differ in three keys, and jobs on them.
pub(crate) fn differing() -> Place {
    let place = Place::new();
    place.file("all.kv", (0..20).map(|n| format!("k{n:02}\tv{n}\n")).collect::<String>());
    place.file("more.kv", "x\t1\ny\t2\nz\t3\n");
    place.run("init a --name notes").ok();
    place.run("import a all.kv").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    place.run("import a more.kv").ok();
    let here = |name: &str| place.path(name).display().to_string();
    let pair = format!("a = '{}'\nb = '{}'\nsettle = '0ms'\n", here("a"), here("b"));
    place.file(
        "home/config.toml",
        format!(
            "[job.look]\ndo = 'diff'\n{pair}[job.mend]\ndo = 'repair'\n{pair}[job.quick]\n{pair}\
             [job.scrub]\ndo = 'verify'\nstore = '{}'\n[job.nowhere]\na = '{}'\nb = '{}'\n",
            here("a"),
            here("a"),
            here("none"),
        ),
    );
    place
}

/// Asks, and holds the answer against the document; `path` is as it is there.
fn ask(web: &Web, method: &str, path: &str, job: &str) -> Got {
    let got = web.send(method, &path.replace("{job}", job), "");
    schema::answers(method, path, got.status, &got.json());
    got
}

/// Has a job run, and waits for its end.
pub(crate) fn ran(web: &Web, job: &str) -> Value {
    let before = web.get(&format!("/api/v1/jobs/{job}")).is(200).json()["runs"].as_array().expect("runs").len();
    web.post(&format!("/api/v1/jobs/{job}/run")).is(200);
    let mut last = Value::Null;
    until(|| {
        let shown = web.get(&format!("/api/v1/jobs/{job}")).is(200).json();
        last = shown["runs"][0].clone();
        shown["runs"].as_array().is_some_and(|runs| runs.len() > before)
    });
    last
}

#[test]
fn the_api_tells_what_the_commands_tell_and_its_documents_are_as_described() {
    let place = differing();
    let daemon = Daemon::start_with(&place, "home", &["a"], &LOOPBACK);
    let web = Web::with(daemon.http(), &[("X-Reknit", "1")]);
    let (get, post) = (|path: &str| ask(&web, "GET", path, "look"), |path: &str| ask(&web, "POST", path, "look"));
    get("/healthz").is(200);
    until(|| web.get("/readyz").status == 200);
    get("/readyz").is(200);
    let fresh = get("/api/v1/jobs/{job}").is(200).json();
    assert_eq!((&fresh["job"]["state"], &fresh["runs"]), (&json!("by_hand"), &json!([])));
    let looked = ran(&web, "look");
    assert_eq!((&looked["verdict"], &looked["classes"]), (&json!("differs"), &json!({ "only_a": 3 })));
    assert_eq!(ran(&web, "quick")["verdict"], "differs");
    assert_eq!(ran(&web, "scrub")["verdict"], "sound");
    assert_eq!(ran(&web, "nowhere")["error"], "store.none");
    let status = get("/api/v1/status").is(200).json();
    assert_eq!((&status["stores"][0]["records"], &status["exit"]), (&json!(23), &json!(1)));
    let told = place.run("status --format jsonl").summary();
    for same in ["node", "home", "serving", "http", "stores", "peers", "gossip", "pairs", "wrong"] {
        assert_eq!(status[same], told[same], "{same}");
    }
    let trouble = &status["trouble"][0];
    assert_eq!((&trouble["about"], &trouble["subject"]), (&json!("job"), &json!("job nowhere")));
    assert_eq!(get("/api/v1/jobs").json()["jobs"].as_array().map(Vec::len), Some(5));
    assert_eq!(post("/api/v1/jobs/{job}/pause").is(200).json(), json!({ "job": "look", "changed": true }));
    assert_eq!(post("/api/v1/jobs/{job}/pause").is(200).json()["changed"], false);
    assert_eq!(get("/api/v1/jobs/{job}").json()["job"]["state"], "paused");
    assert_eq!(post("/api/v1/jobs/{job}/resume").is(200).json()["changed"], true);
    post("/api/v1/jobs/{job}/cancel").refused(409, "job.idle");
    for path in ["run", "pause", "resume", "cancel"] {
        ask(&web, "POST", &format!("/api/v1/jobs/{{job}}/{path}"), "lokk").refused(404, "config.job");
        Web::at(daemon.http()).post(&format!("/api/v1/jobs/look/{path}")).refused(403, "http.cross-site");
    }
    let unknown = ask(&web, "GET", "/api/v1/jobs/{job}", "lokk").refused(404, "config.job").json();
    assert!(unknown["message"].as_str().is_some_and(|text| text.contains("did you mean `look`?")), "{unknown}");
    let runs = get("/api/v1/runs").is(200).json();
    let ended = |runs: &Value| -> Vec<String> {
        let all = runs["runs"].as_array().expect("runs");
        all.iter().map(|ran| ran["job"].as_str().expect("a job").to_string()).collect()
    };
    assert_eq!(ended(&runs), ["nowhere", "scrub", "quick", "look"]);
    assert_eq!(ended(&web.get("/api/v1/runs?limit=1").json()), ["nowhere"]);
    let bad = web.get("/api/v1/runs?limit=0").refused(400, "http.query");
    schema::answers("GET", "/api/v1/runs", 400, &bad.json());
    let drift = get("/api/v1/drift").is(200).json();
    assert_eq!((&drift["pairs"][0]["differ"], drift["pairs"].as_array().map(Vec::len)), (&json!(3), Some(1)));
    let me = place.run("id").ok().out.trim().to_string();
    place.run(&format!("members add a {me} --name desk")).ok();
    let members = get("/api/v1/members").is(200).json();
    assert_eq!(members["datasets"][0]["members"][0]["name"], "desk");
    place.run(&format!("peers add {} --may compare --name other", "0".repeat(64).replace('0', "1"))).exits(2);
    let other = crate::daemon::at(&place, "other", "id").ok().out;
    place.run(&format!("peers add {} --may compare --name other", other.trim())).ok();
    assert_eq!(get("/api/v1/peers").is(200).json()["peers"][0]["name"], "other");
    assert_eq!(ran(&web, "mend")["verdict"], "in_sync");
    assert!(daemon.end().success());
}

/// The events of a stream, after its first line.
pub(crate) struct Heard(BufReader<TcpStream>);

impl Heard {
    pub(crate) fn since(web: &Web) -> Heard {
        let mut reader = web.open("GET", "/api/v1/events", "");
        let (status, headers) = head(&mut reader);
        assert_eq!((status, headers["content-type"].as_str()), (200, "text/event-stream"));
        let mut heard = Heard(reader);
        while heard.line() != ": events of reknit" {}
        heard
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        assert!(!line.is_empty(), "the stream has ended");
        line.trim_end().to_string()
    }

    /// The kinds of what happened until the next of this kind.
    pub(crate) fn until(&mut self, kind: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let (_, told, _) = self.one();
            if told == kind {
                return all;
            }
            all.push(told);
        }
    }

    /// The next event of this kind: its id and what it says.
    pub(crate) fn next(&mut self, kind: &str) -> (String, Value) {
        loop {
            let (id, told, data) = self.one();
            if told == kind {
                return (id, data);
            }
        }
    }

    /// The next event: its id, its kind, and what it says.
    fn one(&mut self) -> (String, String, Value) {
        let mut id = String::new();
        loop {
            let line = self.line();
            if let Some(told) = line.strip_prefix("id: ") {
                id = told.into();
            }
            let Some(told) = line.strip_prefix("event: ").map(String::from) else { continue };
            let data = self.line();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
            schema::happens(&told, &data);
            return (id, told, data);
        }
    }
}

#[test]
fn what_happens_is_heard_and_whoever_comes_back_goes_on_where_it_was() {
    let place = differing();
    let daemon = Daemon::start_with(&place, "home", &["a"], &LOOPBACK);
    let web = Web::with(daemon.http(), &[("X-Reknit", "1")]);
    let mut heard = Heard::since(&web);
    ran(&web, "look");
    let (first, began) = heard.next("run_began");
    assert_eq!((&began["job"], &began["run"], &began["cause"]), (&json!("look"), &json!(1), &json!("asked")));
    let (_, ended) = heard.next("run_ended");
    assert_eq!((&ended["verdict"], &ended["differences"]), (&json!("differs"), &json!(3)));
    ran(&web, "nowhere");
    let (_, trouble) = heard.next("trouble");
    assert_eq!((&trouble["about"], &trouble["subject"]), (&json!("job"), &json!("job nowhere")));
    place.run(&format!("init none --like {}", place.path("a").display())).ok();
    ran(&web, "nowhere");
    assert_eq!(heard.next("trouble_over").1["subject"], "job nowhere");
    drop(heard);
    // Whoever comes back is told what it missed, and nothing twice.
    let mut again = Heard::since(&Web::with(daemon.http(), &[("Last-Event-ID", &first)]));
    assert_eq!(again.next("run_ended").1["run"], 1);
    assert_eq!(again.next("run_began").1["job"], "nowhere");
    for odd in ["nonsense", "0-1", "1-18446744073709551616"] {
        let mut lost = Heard::since(&Web::with(daemon.http(), &[("Last-Event-ID", odd)]));
        assert_eq!(lost.next("lost").1, json!({ "events": null }), "{odd}");
    }
    Web::with(daemon.http(), &[("Last-Event-ID", &"1".repeat(100))]).get("/api/v1/events").refused(400, "http.event");
    // So many may listen; one that goes makes room.
    let mut all: Vec<Heard> = Vec::new();
    until(|| {
        let mut reader = web.open("GET", "/api/v1/events", "");
        if head(&mut reader).0 == 200 {
            all.push(Heard(reader));
        }
        all.len() == 15
    });
    web.get("/api/v1/events").refused(503, "http.busy");
    assert!(daemon.end().success(), "whoever listens keeps nobody from ending");
    assert!(all.iter_mut().all(|one| one.0.read_line(&mut String::new()).is_ok()));
}
