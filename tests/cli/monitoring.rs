//! What is watched of a daemon: its metrics are true and explained, trouble has its names everywhere, Prometheus takes all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::api::{differing, ran};
use crate::daemon::{Daemon, admit, at, until};
use crate::harness::Place;
use crate::metrics::{Samples, read};
use crate::quarantine::put_tomorrow;
use crate::web::Web;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// No file of a store that is to be full may grow beyond this.
const FULL_BLOCKS: u32 = 4_000;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

pub(crate) fn scraped(web: &Web) -> Samples {
    read(&web.get("/metrics").is(200).body)
}

/// The sample of this name whose labels begin so and end so.
#[track_caller]
pub(crate) fn sample(all: &Samples, name: &str, labels: &[&str]) -> f64 {
    let fits = |key: &&String| {
        let (found, rest) = key.split_once(' ').unwrap_or((key, ""));
        found == name && labels.iter().all(|label| format!(" {rest} ").contains(&format!(" {label} ")))
    };
    let found: Vec<&String> = all.keys().filter(fits).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
    all[found[0]]
}

#[test]
fn what_is_measured_is_so_and_every_metric_is_explained() {
    let place = differing();
    std::fs::create_dir_all(place.path("there")).expect("a home");
    let config = place.read("home/config.toml") + "[gossip]\nevery = '1h'\n";
    place.file("home/config.toml", config);
    let daemon = Daemon::start_with(&place, "home", &["a"], &["--http", "127.0.0.1:0"]);
    let web = Web::with(daemon.http(), &[("X-Reknit", "1")]);
    let fresh = scraped(&web);
    assert!(!fresh.keys().any(|key| key.starts_with("reknit_proven")), "what never was has no sample: {fresh:?}");
    assert!(!fresh.keys().any(|key| key.starts_with("reknit_differences")), "{fresh:?}");
    let looked = ran(&web, "look");
    ran(&web, "quick");
    let scrubbed = ran(&web, "scrub");
    ran(&web, "nowhere");
    // A stranger, and one who may look.
    at(&place, "there", &format!("check b {}", daemon.address())).fails("peer.not-admitted");
    let them = at(&place, "there", "id").ok().out.trim().to_string();
    place.run(&format!("peers add {them} --may compare")).ok();
    at(&place, "there", &format!("diff b {} --settle 0ms", daemon.address())).exits(1);
    at(&place, "there", &format!("repair b {} --apply --settle 0ms", daemon.address())).exits(4);
    // Whoever asked may know the verdict before it is counted here.
    let once = |all: &Samples, name: &str, of: &str| {
        all.iter().any(|(key, times)| key.starts_with(name) && key.contains(of) && *times == 1.0)
    };
    let counted = |all: &Samples| {
        once(all, "reknit_refusals_total", "why=rights") && once(all, "reknit_sessions_total", "verdict=differs")
    };
    let mut all = Samples::new();
    until(|| {
        all = scraped(&web);
        counted(&all)
    });
    let is = |name: &str, labels: &[&str]| sample(&all, name, labels);
    assert_eq!(is("reknit_differences", &["job=look", "class=only_a"]), 3.0);
    assert_eq!(is("reknit_differences", &["job=look", "class=only_b"]), 0.0);
    assert_eq!(is("reknit_records", &["job=look", "side=a"]), 23.0);
    assert!(is("reknit_estimated_differences", &["job=quick"]) > 0.0);
    assert_eq!(is("reknit_verdict", &["job=look", "verdict=differs"]), 1.0);
    assert_eq!(is("reknit_verdict", &["job=scrub", "verdict=sound"]), 1.0);
    let seconds = |value: &Value| value.as_f64().expect("a number") / 1000.0;
    assert_eq!(is("reknit_oldest_difference_timestamp_seconds", &["job=look"]), seconds(&looked["began_ms"]));
    let unverified = "reknit_oldest_unverified_range_timestamp_seconds";
    assert_eq!(is(unverified, &["job=look"]), seconds(&looked["ended_ms"]));
    let where_is_not_known = |key: &String| key.starts_with(unverified) && key.contains("job=quick");
    assert!(!all.keys().any(where_is_not_known), "a check tells not where they differ: {all:?}");
    assert_eq!(is("reknit_verified_timestamp_seconds", &["job=scrub"]), seconds(&scrubbed["ended_ms"]));
    // Never proven, which counts from the begin of the process; one side alone has nothing to prove.
    let unproven = "reknit_unproven_since_timestamp_seconds";
    assert_eq!(is(unproven, &["job=look"]), is("process_start_time_seconds", &[]));
    assert!(!all.keys().any(|key| key.starts_with("reknit_proven_timestamp_seconds") && key.contains("job=look")));
    assert!(!all.keys().any(|key| key.starts_with(unproven) && key.contains("job=scrub")), "{all:?}");
    assert_eq!(is("reknit_failed_runs", &["job=nowhere"]), 1.0);
    assert_eq!(is("reknit_trouble", &["about=job"]), 1.0);
    assert_eq!(is("reknit_runs_total", &["verdict=differs"]), 2.0);
    assert!(is("reknit_run_bytes_total", &["kind=messages"]) > 0.0);
    assert_eq!(is("reknit_store_records", &["dataset=notes"]), 23.0);
    assert_eq!(is("reknit_sessions_total", &["by=peer", "verdict=differs"]), 1.0);
    assert!(is("reknit_session_bytes_total", &["by=peer", "kind=messages", "way=sent"]) > 0.0);
    assert_eq!(is("reknit_refusals_total", &["why=not_admitted"]), 1.0);
    assert_eq!(is("reknit_refusals_total", &["why=rights"]), 1.0);
    assert_eq!(is("reknit_ready", &[]), 1.0);
    assert!(is("reknit_tasks", &[]) > 1.0 && is("process_open_fds", &[]) > 3.0);
    assert!(is("reknit_http_requests_total", &["status=200"]) > 5.0);
    assert_eq!(is("reknit_gossip_peers", &[]), 0.0);
    assert_eq!(is("reknit_queue_length", &["queue=gossip_inbox", "dataset=notes"]), 0.0);
    // A repair leaves nothing open, and says when that was proven.
    let mended = ran(&web, "mend");
    assert_eq!(mended["verdict"], "in_sync");
    ran(&web, "look");
    let all = scraped(&web);
    assert_eq!(sample(&all, "reknit_differences", &["job=look", "class=only_a"]), 0.0);
    assert_eq!(sample(&all, "reknit_written_records", &["job=mend", "side=b"]), 3.0);
    assert_eq!(sample(&all, "reknit_proven_timestamp_seconds", &["job=mend"]), seconds(&mended["ended_ms"]));
    assert!(!all.keys().any(|key| key.starts_with("reknit_oldest_difference") && key.contains("job=look")), "{all:?}");
    // The guide has a row for each, and for no other.
    let text = web.get("/metrics").body;
    let there: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    let guide = std::fs::read_to_string(file("docs/guide/monitoring.md")).expect("the guide");
    let table = guide.split("## Metrics").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the metrics");
    let first = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let told = first.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect::<BTreeSet<&str>>();
    assert_eq!(told, there);
    for name in rules().split(|c: char| !c.is_ascii_lowercase() && c != '_').filter(|it| it.starts_with("reknit_")) {
        assert!(there.contains(name), "{name} of the rules is not measured");
    }
    assert!(daemon.end().success());
}

/// A daemon whose log is a file.
pub(crate) fn logged(place: &Place, words: &[&str], level: &str) -> (Child, SocketAddr, impl Iterator<Item = Value>) {
    let mut command =
        place.command(&[&["serve"], words, &["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]].concat());
    command.env("REKNIT_FORMAT", "jsonl").env("RUST_LOG", level);
    let mut child = command.stderr(File::create(place.path("log")).expect("a file")).spawn().expect("the binary");
    let lines = BufReader::new(child.stdout.take().expect("its stdout")).lines();
    let mut objects = lines.map(|line| serde_json::from_str::<Value>(&line.expect("readable")).expect("JSON"));
    let http = objects.find_map(|object| Some(object["url"].as_str()?.to_string())).expect("an address");
    let at = http.trim_start_matches("http://").trim_end_matches('/').parse().expect("host and port");
    (child, at, objects)
}

pub(crate) fn log(place: &Place) -> Vec<Value> {
    // The last line may be under way.
    let (text, whole) = (place.read("log"), |line: &&str| line.ends_with('\n'));
    text.split_inclusive('\n').filter(whole).map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

pub(crate) fn signal(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill").success());
}

#[test]
fn what_is_wrong_has_its_name_in_status_metrics_and_the_log() {
    let place = differing();
    // A home that knows nobody, at an address where nobody answers.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let nobody = silent.local_addr().expect("bound");
    let stranger = at(&place, "stranger", "id").ok().out;
    let gossip = format!("[gossip]\nevery = '1h'\nseeds = ['quic://{}@{nobody}/notes']\n", stranger.trim());
    let config = place.read("home/config.toml") + &gossip;
    place.file("home/config.toml", &config);
    place.secret("token", TOKEN);
    std::fs::create_dir_all(place.path("home/jobs")).expect("a directory");
    place.file("home/jobs/look", "nothing that was kept");
    // A store whose journal is full, and has records from a day ahead.
    place.run("put b k01 other").ok();
    place.run("repair a b --apply").ok();
    put_tomorrow(&place, "b", &["k00", "later"]);
    place.run("repair a b --apply").exits(1);
    place.run("runs limit a --bytes 1").ok();
    let (mut child, http, _out) = logged(&place, &["a", "--http-token-file", "token"], "reknit=info");
    Web::with(http, &[("Authorization", "Bearer no")]).get("/metrics").refused(401, "http.wrong-token");
    place.file("home/config.toml", "[serve]\nstore = 'a'\n");
    signal(&child, "-HUP");
    let web = Web::with(http, &[("Authorization", &format!("Bearer {TOKEN}"))]);
    web.post("/api/v1/jobs/lokk/run").refused(404, "config.job");
    let about = ["clock", "config", "journal", "memory", "seed", "token", "unknown_job"];
    until(|| {
        let all = scraped(&web);
        about.iter().all(|about| sample(&all, "reknit_trouble", &[&format!("about={about}")]) == 1.0)
    });
    let status = web.get("/api/v1/status").is(200).json();
    let named: BTreeSet<&str> =
        status["trouble"].as_array().expect("trouble").iter().filter_map(|it| it["about"].as_str()).collect();
    assert_eq!(named, about.into());
    place.run("status").says(&[
        "wrong  the journal of notes is full",
        "stamped ahead of the clock of this machine",
        "wrong  a wrong token was shown to HTTP of late: 1 times, last from 127.0.0.1",
        "wrong  a job was asked for of late that there is not: 1 times, last `lokk`",
        "is not up: nobody answers there",
        "wrong  config: ",
        "wrong  memory of look: ",
    ]);
    until(|| {
        let logged = log(&place);
        let is = |line: &&Value| line["fields"]["message"].as_str().is_some_and(|text| text.starts_with("trouble: "));
        let troubles = logged.iter().filter(is);
        troubles.filter_map(|line| line["fields"]["about"].as_str().map(String::from)).collect::<BTreeSet<_>>()
            == about.map(String::from).into()
    });
    // What is right again is told once more.
    place.file("home/config.toml", &config);
    signal(&child, "-HUP");
    until(|| log(&place).iter().any(|line| line["fields"]["message"] == "the trouble is over"));
    let all = scraped(&web);
    assert_eq!(sample(&all, "reknit_trouble", &["about=config"]), 0.0);
    signal(&child, "-TERM");
    assert_eq!(child.wait().expect("its end").code(), Some(0));
}

/// What readers see of such keys is not what somebody wrote last: it waits for somebody to look.
#[test]
fn conflicts_that_wait_for_somebody_are_told_and_a_run_that_finds_them_is_not_remembered_as_in_sync() {
    let place = Place::new();
    place.run_args(&["init", "a", "--name", "notes", "--policy", "largest people"]).ok();
    place.file("rows.jsonl", "{\"id\":1,\"people\":5}\n{\"id\":2,\"people\":5}\n");
    place.run("import a rows.jsonl --key id").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    place.file("home/config.toml", "[job.mend]\na = '../a'\nb = '../b'\ndo = 'repair'\nsettle = '0ms'\n");
    let daemon = Daemon::start_with(&place, "home", &["a"], &["--http", "127.0.0.1:0"]);
    let web = Web::with(daemon.http(), &[("X-Reknit", "1")]);
    assert_eq!(ran(&web, "mend")["verdict"], "in_sync");
    let waits = |why: &str| sample(&scraped(&web), "reknit_conflicts", &["dataset=notes", &format!("why={why}")]);
    assert_eq!((waits("asks"), waits("fails")), (0.0, 0.0));
    // Written apart, of which one version lacks the column that the policy needs.
    place.run_args(&["put", "a", "1", r#"{"id":1,"people":7}"#]).ok();
    place.run_args(&["put", "b", "1", r#"{"id":1,"name":"x"}"#]).ok();
    let found = ran(&web, "mend");
    assert_eq!((&found["verdict"], &found["exit"]), (&"differs".into(), &1.into()), "{found}");
    assert_eq!(found["error"], "repair.unjudged", "{found}");
    assert_eq!((waits("asks"), waits("fails")), (0.0, 1.0));
    until(|| sample(&scraped(&web), "reknit_trouble", &["about=conflicts"]) == 1.0);
    let told =
        ["wrong  1 keys of notes cannot be judged by the policy", "reknit conflicts list STORE", "mend: differs"];
    place.run("status").exits(1).says(&told);
    place.run_args(&["conflicts", "resolve", "a", "1", "--version", "1"]).ok();
    assert_eq!(ran(&web, "mend")["verdict"], "in_sync");
    assert_eq!(waits("fails"), 0.0);
    until(|| sample(&scraped(&web), "reknit_trouble", &["about=conflicts"]) == 0.0);
}

#[test]
fn every_line_that_a_run_logs_carries_its_number() {
    let place = differing();
    let peer = Daemon::start(&place, "there", &["a"]);
    let config = format!("[job.look]\ndo = 'diff'\na = '../b'\nb = '{}'\nsettle = '0ms'\n", peer.address());
    place.file("home/config.toml", config);
    let me = place.run("id").ok().out;
    at(&place, "there", &format!("peers add {} --may compare,read", me.trim())).ok();
    // It serves nothing: all that is said on the network is said by runs, on threads of their own.
    let (mut child, http, _out) = logged(&place, &[], "trace");
    let web = Web::with(http, &[("X-Reknit", "1")]);
    (1..=3).for_each(|number| assert_eq!(ran(&web, "look")["run"], number));
    place.run("run look").exits(1);
    signal(&child, "-TERM");
    assert_eq!(child.wait().expect("its end").code(), Some(0));
    let mut seen: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for line in log(&place) {
        let target = line["target"].as_str().expect("a target");
        // That a command came is said before it is known what it is.
        if !target.starts_with("quinn") && !target.starts_with("reknit") || target == "reknit::cli::control" {
            continue;
        }
        let span = &line["spans"][0];
        assert!(span["name"] == "run" && span["job"] == "look", "{line}");
        let message = line["fields"]["message"].as_str().unwrap_or_default();
        seen.entry(span["run"].as_u64().expect("a number")).or_default().insert(message.to_string());
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    for (number, messages) in &seen {
        assert!(messages.contains("a run begins") && messages.contains("a run has ended"), "{number}: {messages:?}");
        assert!(messages.len() > 5, "the network is heard of: {number}: {messages:?}");
    }
}

#[test]
fn a_daemon_that_is_ending_says_so_until_its_runs_have_ended() {
    let place = Place::new();
    place.run("init a --name notes").ok();
    // A server that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("bound");
    let mut home = std::fs::create_dir_all(place.path("home")).map(|()| String::new()).expect("a home");
    home += &format!("[job.waits]\na = 'postgres://me@{at}/db/t?sslmode=disable'\nb = 'sqlite:x.db/t'\n");
    place.file("home/config.toml", home);
    let daemon = Daemon::start_with(&place, "home", &["a"], &["--http", "127.0.0.1:0"]);
    let web = Web::with(daemon.http(), &[("X-Reknit", "1")]);
    web.post("/api/v1/jobs/waits/run").is(200);
    let waiting = silent.accept().expect("the run connects");
    daemon.signal("-TERM");
    until(|| web.get("/readyz").status == 503);
    let why = web.get("/readyz").is(503).json();
    assert_eq!(why["ready"], false);
    assert!(why["reasons"].as_array().is_some_and(|all| all.contains(&json!("it is ending"))), "{why}");
    web.get("/healthz").is(200);
    assert_eq!(sample(&scraped(&web), "reknit_running", &["job=waits"]), 1.0);
    drop((waiting, silent));
    assert!(daemon.end().success());
}

#[test]
fn a_node_that_runs_with_the_identity_of_another_is_trouble() {
    let place = Place::new();
    at(&place, "one", "init one.store --name notes").ok();
    at(&place, "one", "init two.store --like one.store").ok();
    at(&place, "one", "init copy.store --like one.store").ok();
    let ids = ["one", "two"].map(|home| at(&place, home, "id").ok().out.trim().to_string());
    at(&place, "one", &format!("peers add {} --may compare,read", ids[1])).ok();
    at(&place, "two", &format!("peers add {} --may compare,read", ids[0])).ok();
    std::fs::create_dir_all(place.path("copy")).expect("a home");
    for name in ["identity.key", "peers.toml"] {
        std::fs::copy(place.path("one").join(name), place.path("copy").join(name)).expect("a copy");
    }
    let start = |home: &str, seeds: &str| {
        place.file(&format!("{home}/config.toml"), format!("[gossip]\nevery = '1h'\n{seeds}"));
        Daemon::start_with(&place, home, &[&format!("{home}.store")], &["--http", "127.0.0.1:0"])
    };
    let two = start("two", "");
    let seeds = format!("seeds = ['{}']\n", two.address());
    let (one, copy) = (start("one", &seeds), start("copy", &seeds));
    let troubled =
        |daemon: &Daemon| sample(&scraped(&Web::at(daemon.http())), "reknit_trouble", &["about=identity"]) == 1.0;
    let (mut first, mut second) = (false, false);
    until(|| {
        first |= troubled(&one);
        second |= troubled(&copy);
        first || second
    });
    assert!(!troubled(&two));
    let told = if first { at(&place, "one", "status") } else { at(&place, "copy", "status") };
    told.says(&["another one seems to run with its identity"]);
}

fn rules() -> String {
    std::fs::read_to_string(file("docs/start/prometheus-rules.yml")).expect("the rules")
}

#[test]
fn the_rules_that_are_shipped_are_rules_and_fire() {
    let place = Place::new();
    let tool = |words: &[&str]| {
        let ran = Command::new("promtool").args(words).output().expect("promtool, which scripts/test installs");
        let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        (ran.status.code(), said)
    };
    let shipped = file("docs/start/prometheus-rules.yml").display().to_string();
    let (exit, said) = tool(&["check", "rules", &shipped]);
    assert_eq!(exit, Some(0), "{said}");
    let series = |series: &str, values: &str| format!("      - series: '{series}'\n        values: '{values}'\n");
    let input = [
        series("reknit_ready{instance=\"h\"}", "1x200"),
        series("reknit_build_info{instance=\"h\"}", "1x200"),
        series("reknit_oldest_difference_timestamp_seconds{instance=\"h\",job=\"orders\",a=\"x\",b=\"y\"}", "0x200"),
        series("reknit_unproven_since_timestamp_seconds{instance=\"h\",job=\"orders\",a=\"x\",b=\"y\"}", "0x1500"),
        series("reknit_peer_unproven_since_timestamp_seconds{instance=\"h\",dataset=\"d\",peer=\"p\"}", "0x200"),
        series("reknit_peer_up{instance=\"h\",dataset=\"d\",peer=\"p\"}", "1x200"),
        series("reknit_trouble{instance=\"h\",about=\"clock\"}", "1x200"),
        series("reknit_trouble{instance=\"h\",about=\"journal\"}", "0x200"),
        series("reknit_gossip_records_total{instance=\"h\",dataset=\"d\",what=\"needless\"}", "0+60x200"),
        series("reknit_gossip_records_total{instance=\"h\",dataset=\"d\",what=\"news\"}", "0+180x200"),
    ];
    let fires = |alert: &str, at: &str, labels: &str| {
        let labels =
            if labels.is_empty() { String::new() } else { format!("          - exp_labels: {{ {labels} }}\n") };
        format!("      - eval_time: {at}\n        alertname: {alert}\n        exp_alerts:\n{labels}")
    };
    let drift = "severity: warning, instance: h, job: orders, a: x, b: y";
    let alerts = [
        fires("ReknitDrift", "50m", ""),
        fires("ReknitDrift", "65m", drift),
        fires("ReknitNotProven", "1400m", ""),
        fires("ReknitNotProven", "1445m", drift),
        fires("ReknitPeerNotProven", "50m", ""),
        fires("ReknitPeerNotProven", "65m", "severity: warning, instance: h, dataset: d, peer: p"),
        fires("ReknitTrouble", "5m", "severity: warning, instance: h, about: clock"),
        fires("ReknitNotReady", "60m", ""),
        fires("ReknitGone", "60m", ""),
    ];
    let proven = [
        "            exp_annotations: { summary: 'orders: x and y have not been proven equal for 1d 0h 5m 0s.' }\n",
        "            exp_annotations: { summary: 'd has not been proven equal with p for 1h 5m 0s.' }\n",
    ];
    let summary = "            exp_annotations: { summary: 'orders: x and y have differed for 1h 5m 0s.' }\n";
    let clock = "            exp_annotations: { summary: 'h: trouble with clock; `reknit status` says what.' }\n";
    let mut alerts = alerts.concat();
    alerts = alerts.replacen("b: y }\n", &format!("b: y }}\n{summary}"), 1);
    // The last of them is the other rule's.
    let last = alerts.rfind("b: y }\n").expect("it is there") + "b: y }\n".len();
    alerts.insert_str(last, proven[0]);
    alerts = alerts.replace("peer: p }\n", &format!("peer: p }}\n{}", proven[1]));
    alerts = alerts.replace("about: clock }\n", &format!("about: clock }}\n{clock}"));
    let test = format!(
        "rule_files: ['{shipped}']\ntests:\n  - interval: 1m\n    input_series:\n{}    alert_rule_test:\n{alerts}    \
         promql_expr_test:\n      - expr: reknit:gossip_waste:ratio\n        eval_time: 30m\n        exp_samples:\n          - \
         labels: 'reknit:gossip_waste:ratio{{instance=\"h\",dataset=\"d\"}}'\n            value: 0.25\n",
        input.concat()
    );
    let test = place.file("test.yml", test).display().to_string();
    let (exit, said) = tool(&["test", "rules", &test]);
    assert_eq!(exit, Some(0), "{said}\n{}", place.read("test.yml"));
    // What is wrong with a rule is noticed.
    let broken = place.file("broken.yml", rules().replace("reknit_ready == 0", "reknit_ready === 0"));
    assert_eq!(tool(&["check", "rules", &broken.display().to_string()]).0, Some(1));
}

/// Prometheus itself, in a directory of the test; killed when it is dropped.
struct Prometheus {
    child: Child,
    web: Web,
}

impl Prometheus {
    fn scraping(place: &Place, target: SocketAddr) -> Prometheus {
        let rules = file("docs/start/prometheus-rules.yml");
        let config = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms }}\nrule_files: ['{}']\n\
             scrape_configs:\n  - job_name: reknit\n    honor_labels: true\n    \
             authorization: {{ credentials_file: '{}' }}\n    static_configs: [{{ targets: ['{target}'] }}]\n",
            rules.display(),
            place.path("token").display()
        );
        let config = place.file("prometheus.yml", config);
        // Free when it was looked at; it is told where to listen before it does.
        let at = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display())).arg(format!("--web.listen-address={at}"));
        command.arg(format!("--storage.tsdb.path={}", place.path("tsdb").display())).stdin(Stdio::null());
        let log = File::create(place.path("prometheus.log")).expect("a file");
        command.stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("prometheus, which scripts/test installs");
        Prometheus { child, web: Web::at(at) }
    }

    /// Asks its API; nothing while it is not there yet.
    fn asks(&mut self, path: &str) -> Option<Value> {
        assert_eq!(self.child.try_wait().expect("asked"), None, "it has ended");
        std::net::TcpStream::connect(self.web.at).ok()?;
        let got = self.web.get(path);
        serde_json::from_str::<Value>(&got.body).ok().map(|answer| answer["data"].clone())
    }

    /// The values of a query.
    fn finds(&mut self, query: &str) -> Vec<(Value, String)> {
        let found = self.asks(&format!("/api/v1/query?query={query}")).unwrap_or_default();
        let all = found["result"].as_array().cloned().unwrap_or_default();
        all.into_iter().map(|one| (one["metric"].clone(), one["value"][1].as_str().unwrap_or("").into())).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_scrapes_a_daemon_and_takes_up_the_rules() {
    let place = differing();
    place.secret("token", TOKEN);
    let daemon = Daemon::start_with(&place, "home", &["a"], &["--http", "127.0.0.1:0", "--http-token-file", "token"]);
    ran(&Web::with(daemon.http(), &[("Authorization", &format!("Bearer {TOKEN}"))]), "look");
    let mut prometheus = Prometheus::scraping(&place, daemon.http());
    until(|| !prometheus.finds("reknit_build_info").is_empty());
    until(|| {
        let open = prometheus.finds("reknit_differences%7Bjob=%22look%22,class=%22only_a%22%7D");
        open.iter().any(|(labels, value)| value == "3" && labels["a"].is_string())
    });
    until(|| prometheus.finds("up").iter().any(|(_, value)| value == "1"));
    let targets = prometheus.asks("/api/v1/targets").expect("an answer");
    assert_eq!(targets["activeTargets"][0]["lastError"], "", "{targets}");
    let names = prometheus.asks("/api/v1/label/__name__/values").expect("an answer");
    let names = names.as_array().expect("names").iter().filter_map(Value::as_str);
    assert!(names.filter(|name| name.starts_with("reknit_")).count() > 30);
    // Each rule was looked at, and none has failed.
    until(|| {
        let found = prometheus.asks("/api/v1/rules").unwrap_or_default();
        let rules = found["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        let expected = rules.len() == self::rules().matches("expr:").count();
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{found}");
        expected && rules.iter().all(|rule| rule["health"] == "ok")
    });
    admit(&place, "home", "compare");
    assert!(daemon.end().success());
}

#[test]
fn an_interval_that_cannot_be_met_is_a_line_in_the_log_until_it_can() {
    let place = differing();
    let job = "[job.slow]\na = '../a'\nb = '../b'\ndo = 'diff'\nsettle = '1500ms'\nevery = '1s'\n";
    place.file("home/config.toml", job);
    let (mut child, _http, _out) = logged(&place, &[], "reknit=info");
    let told = |words: &str| -> Vec<Value> {
        log(&place).into_iter().filter(|line| line["fields"]["message"] == words).collect()
    };
    let cannot = "the interval cannot be met: a run takes longer";
    until(|| !told(cannot).is_empty());
    let line = &told(cannot)[0];
    assert_eq!(
        (&line["level"], &line["fields"]["job"], &line["fields"]["every_ms"]),
        (&"WARN".into(), &"slow".into(), &1000.into())
    );
    assert!(line["fields"]["takes_ms"].as_u64() >= Some(1500), "{line}");
    place.run("status").says(&["wrong  slow: a run takes ", "which every 1.0 s cannot be met with"]);
    place.run("jobs tune slow --every 1h").ok();
    until(|| !told("the interval can be met again").is_empty());
    assert_eq!(told(cannot).len(), 1, "once, however many runs there were");
    signal(&child, "-TERM");
    assert_eq!(child.wait().expect("its end").code(), Some(0));
}

#[test]
fn how_fresh_the_indexes_of_tables_are_is_told_once_a_run_has_followed_them() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("home")).expect("a home");
    let execute = |file: &str, statements: &str| {
        let database = rusqlite::Connection::open(place.path(file)).expect("a database");
        database.execute_batch(statements).expect("statements");
    };
    for file in ["a.db", "b.db"] {
        execute(file, "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y');");
    }
    place.run("index build sqlite:a.db --feed triggers --apply").ok();
    place.file(
        "home/config.toml",
        "[job.look]\ndo = 'diff'\na = 'sqlite:../a.db'\nb = 'sqlite:../b.db'\nsettle = '0ms'\n",
    );
    let daemon = Daemon::start_with(&place, "home", &[], &["--http", "127.0.0.1:0"]);
    let web = Web::with(daemon.http(), &[("X-Reknit", "1")]);
    let of = |all: &Samples, name: &str| -> Vec<(bool, f64)> {
        let some = all.iter().filter(|(key, _)| key.starts_with(name));
        some.map(|(key, value)| (key.contains("a.db"), *value)).collect()
    };
    let fresh = "reknit_index_fresh_timestamp_seconds";
    assert!(of(&scraped(&web), fresh).is_empty(), "nobody has looked yet");
    let first = ran(&web, "look");
    assert_eq!(first["verdict"], "in_sync", "{first}");
    execute("a.db", "UPDATE t SET v = 'z'; DELETE FROM t WHERE id = 1");
    let looked = ran(&web, "look");
    let all = scraped(&web);
    assert_eq!(of(&all, fresh).len(), 2, "{all:?}");
    let within = |name: &str| looked[name].as_f64().expect("a time") / 1000.0;
    assert!(of(&all, fresh).iter().all(|(_, at)| within("began_ms") <= *at && *at <= within("ended_ms")), "{all:?}");
    // The table without a feed is read whole each time.
    let waited = of(&all, "reknit_feed_waiting_changes");
    assert!(waited.len() == 1 && waited[0].0 && waited[0].1 >= 2.0, "{waited:?}");
    assert!(daemon.end().success());
    // A daemon that begins anew knows it still, as long as the job is there.
    let daemon = Daemon::start_with(&place, "home", &[], &["--http", "127.0.0.1:0"]);
    let again = scraped(&Web::with(daemon.http(), &[("X-Reknit", "1")]));
    assert_eq!((of(&again, fresh), of(&again, "reknit_feed_waiting_changes")), (of(&all, fresh), waited));
    place.file("home/config.toml", "");
    daemon.signal("-HUP");
    until(|| of(&scraped(&Web::with(daemon.http(), &[("X-Reknit", "1")])), fresh).is_empty());
    assert!(daemon.end().success());
}

#[test]
fn what_is_remembered_of_pairs_and_cannot_be_read_hides_nothing_else() {
    let place = Place::with_store();
    std::fs::create_dir_all(place.path("home")).expect("a home");
    place.file("home/verdicts.toml", "[[verdict]\n");
    let told = place.run("status").exits(2).says(&["node ", "wrong ", "verdicts.toml", "remove it"]);
    assert!(!told.out.contains("none was compared yet"), "{}", told.out);
    let summary = place.json("status").exits(2).summary();
    assert!(summary["wrong"][0].as_str().expect("what is wrong").contains("verdicts.toml"), "{summary}");
    std::fs::remove_file(place.path("home/verdicts.toml")).expect("removed");
    place.run("status").ok();
}

#[test]
fn a_store_that_takes_no_writes_any_more_is_told_of_until_it_is_opened_again() {
    let place = Place::with_store();
    let ready = |daemon: &Daemon| Web::at(daemon.http()).get("/readyz");
    let daemon = Daemon::start_within(&place, "home", &["s"], FULL_BLOCKS);
    assert_eq!(ready(&daemon).status, 200);
    // No engine packs it into less.
    let value: Vec<u8> =
        (0..256_u64 << 10).map(|at| b'a' + u8::try_from(at * at % 25_463 % 26).expect("a letter")).collect();
    let written = (0..1_000).take_while(|n| place.feed(&format!("put s k{n} -"), &value).exit == Some(0)).count();
    assert!(written < 1_000, "the disk was to be full");
    // Though there is room again for what is small.
    place.run("put s small 1").fails("store.failed");
    let told = ready(&daemon);
    assert_eq!(told.status, 503);
    assert!(told.body.contains("a store takes no writes any more"), "{}", told.body);
    place.run("status").says(&["wrong ", "begin this daemon anew"]);
    place.run("get s k0").ok();
    daemon.end();
    let daemon = Daemon::start_with(&place, "home", &["s"], &["--http", "127.0.0.1:0"]);
    assert_eq!(ready(&daemon).status, 200);
    place.run("put s small 1").ok();
    (0..written).for_each(|n| drop(place.run(&format!("get s k{n}")).ok()));
}
