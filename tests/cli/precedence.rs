//! What goes before what: the file before what is built in, the environment before the file, what is typed before both.

use std::net::SocketAddr;

use crate::daemon::{Daemon, admit};
use crate::harness::Place;
use crate::jobs::wait;
use crate::web::Web;

/// What the file, a variable and a flag say of a setting, each if it does.
type Said = [Option<&'static str>; 3];

/// The ways to say a setting, each with what counts.
fn ways(file: &'static str, variable: &'static str, flag: &'static str) -> [(Said, &'static str); 4] {
    [
        ([Some(file), None, None], file),
        ([Some(file), Some(variable), None], variable),
        ([Some(file), Some(variable), Some(flag)], flag),
        ([Some(file), None, Some(flag)], flag),
    ]
}

/// A daemon of the home `node` that serves the store `s`, where a key of `[serve]` is said in these ways, beside others.
fn serving(place: &mut Place, key: &str, said: Said, others: &str) -> Daemon {
    let [file, variable, flag] = said;
    let said = file.map_or(String::new(), |value| format!("{key} = '{value}'\n"));
    let listen = if key == "listen" { "" } else { "listen = '127.0.0.1:0'\n" };
    std::fs::create_dir_all(place.path("node")).expect("a home");
    place.file("node/config.toml", format!("[serve]\n{listen}{said}{others}"));
    let name: &'static str = match key {
        "listen" => "REKNIT_LISTEN",
        "http" => "REKNIT_HTTP",
        "http_token_file" => "REKNIT_HTTP_TOKEN_FILE",
        "max_delete" => "REKNIT_MAX_DELETE",
        "max_change" => "REKNIT_MAX_CHANGE",
        _ => "REKNIT_BRAKE_WINDOW",
    };
    place.vars = variable.map(|value| (name, value.to_string())).into_iter().collect();
    let flag = flag.map(|value| format!("--{}={value}", key.replace('_', "-")));
    let flags: Vec<&str> = flag.iter().map(String::as_str).collect();
    let daemon = Daemon::start_as_told(place, "node", &["s"], &flags, key.starts_with("http"));
    place.vars.clear();
    daemon
}

#[test]
fn where_a_daemon_listens_and_what_token_it_asks_for() {
    let mut place = Place::with_store();
    let shown = |socket: SocketAddr| format!("{}:0", socket.ip());
    for (said, counts) in ways("127.0.0.2:0", "127.0.0.3:0", "127.0.0.4:0") {
        let daemon = serving(&mut place, "listen", said, "");
        assert_eq!(shown(daemon.socket()), counts, "{said:?}");
        drop(daemon);
        let daemon = serving(&mut place, "http", said, "");
        assert_eq!(shown(daemon.http()), counts, "{said:?}");
    }
    let tokens = ["node/file", "node/variable", "node/flag"];
    tokens.iter().for_each(|name| drop(place.secret(name, &format!("{}-0123456789abcdef", name.replace('/', "-")))));
    // Relative paths begin beside the file that names them, or where they are typed.
    for (said, counts) in ways("file", "node/variable", "node/flag") {
        let daemon = serving(&mut place, "http_token_file", said, "http = '127.0.0.1:0'\n");
        for name in tokens {
            let bearer = format!("Bearer {}", place.read(name));
            let got = Web::with(daemon.http(), &[("authorization", &bearer)]).get("/api/v1/status");
            assert_eq!(got.status == 200, name.ends_with(counts), "{said:?}: {name} {got:?}");
        }
    }
}

/// Stores `s` and `t` with the same 40 records; whoever has the other may push from `t` to `s` where that is served.
fn pushing() -> Place {
    let rows: String = (0..40).map(|n| format!("k{n:02}\tv\n")).collect();
    let place = Place::with_file("all.kv", &rows, "");
    place.run("init t --like s").ok();
    admit(&place, "node", "compare,read,write");
    level(&place);
    place
}

/// Makes both stores equal, whatever that takes.
fn level(place: &Place) {
    place.run("repair s t --apply --max-delete 100% --max-change 100%").ok();
}

/// Whether the daemon lets through what was written to `t`.
fn passes(place: &Place, daemon: &Daemon) -> bool {
    let line = format!("repair t {} --to b --apply --max-delete 100% --max-change 100%", daemon.address());
    let ran = place.run(&line);
    assert!(ran.exit == Some(0) || ran.exit == Some(4) && ran.err.contains("[peer.brakes]"), "{ran:?}");
    ran.exit == Some(0)
}

#[test]
fn the_brakes_of_a_daemon() {
    let mut place = pushing();
    let both = [ways("0", "100%", "0"), ways("100%", "0", "100%")];
    for (nth, (said, counts)) in both.into_iter().flatten().enumerate() {
        let daemon = serving(&mut place, "max_delete", said, "");
        place.run(&format!("delete t k{nth:02}")).ok();
        assert_eq!(passes(&place, &daemon), counts == "100%", "{said:?}");
        drop(daemon);
        level(&place);
        let daemon = serving(&mut place, "max_change", said, "");
        place.run(&format!("put t k{} w{nth}", nth + 20)).ok();
        assert_eq!(passes(&place, &daemon), counts == "100%", "{said:?}");
        drop(daemon);
        level(&place);
    }
}

#[test]
fn how_far_back_a_daemon_counts() {
    let mut place = pushing();
    let both = [ways("1h", "1ms", "1h"), ways("1ms", "1h", "1ms")];
    for (nth, (said, counts)) in both.into_iter().flatten().enumerate() {
        let daemon = serving(&mut place, "brake_window", said, "max_delete = '1'\n");
        place.run(&format!("delete t k{nth:02}")).ok();
        assert!(passes(&place, &daemon), "one alone");
        place.run(&format!("delete t k{}", nth + 20)).ok();
        assert_eq!(passes(&place, &daemon), counts == "1ms", "{said:?}");
        drop(daemon);
        level(&place);
    }
}

#[test]
fn what_a_job_does_and_where_its_metrics_go() {
    let mut place = Place::with_file("a.kv", "a\t1\nb\t2\nc\t3\n", "");
    place.run("init t --like s").ok();
    std::fs::create_dir_all(place.path("home")).expect("a home");
    let job = "a = '../s'\nb = '../t'\nsettle = '0ms'\nmetrics_file = 'file.prom'\n";
    let config =
        format!("[job.list]\ndo = 'diff'\nlimit = 1\n{job}[job.mend]\ndo = 'repair'\nmax_change = '100%'\n{job}");
    place.file("home/config.toml", &config);
    let listed = |place: &Place| place.json("run list").exits(1).objects().len() - 1;
    assert_eq!(listed(&place), 1);
    place.run("config check").ok().says(&["diff --limit=1 "]);
    let written = |place: &Place| {
        let names = ["home/file.prom", "variable.prom", "flag.prom"];
        names.map(|name| std::fs::remove_file(place.path(name)).is_ok())
    };
    assert_eq!(written(&place), [true, false, false]);
    place.vars = vec![("REKNIT_LIMIT", "2".into()), ("REKNIT_METRICS_FILE", "variable.prom".into())];
    assert_eq!(listed(&place), 2);
    assert_eq!(written(&place), [false, true, false]);
    // What is overruled is told where the configuration is looked at.
    let ran = place.run("config check").ok();
    let ran = ran.says(&["REKNIT_LIMIT is set, which goes before `limit` in [job.list]"]);
    assert!(!ran.out.contains("--limit"), "{ran:?}");
    place.run("run list --metrics-file flag.prom").exits(1);
    assert_eq!(written(&place), [false, false, true]);
}

/// Nothing that the environment says makes a job write what it does not say itself, nor another side, nor more.
#[test]
fn what_a_job_writes_and_may_lose_it_says_alone() {
    let mut place = Place::with_file("a.kv", "a\t1\nb\t2\nc\t3\n", "");
    place.run("init t --like s").ok();
    std::fs::create_dir_all(place.path("home")).expect("a home");
    let job = |more: &str| format!("[job.j]\na = '../s'\nb = '../t'\nsettle = '0ms'\n{more}\n");
    let all = ["APPLY=true", "TO=a", "MIRROR=true", "PREFER=b", "MAX_DELETE=100%", "MAX_CHANGE=100%"].map(|said| {
        let (name, value) = said.split_once('=').expect("a value");
        (format!("REKNIT_{name}").leak() as &'static str, value.to_string())
    });
    let kept = |place: &Place| [place.run("export s").ok().out, place.run("export t").ok().out];
    let before = kept(&place);
    place.vars = all.to_vec();
    for more in ["", "do = 'diff'", "do = 'repair'\napply = false"] {
        place.file("home/config.toml", job(more));
        place.run("run j").exits(1);
        assert_eq!(kept(&place), before, "{more}");
    }
    let told = place.run("config check").ok();
    told.says(&["REKNIT_TO is set, and [job.j] does not go by it", "REKNIT_MAX_DELETE is set"]);
    // By its own word `t` becomes `s`, and a brake of its own holds.
    place.file("home/config.toml", job("do = 'repair'\nto = 'b'\nmirror = true\nmax_change = '100%'"));
    place.run("run j").ok();
    assert_eq!(kept(&place), [before[0].clone(), before[0].clone()]);
    place.run("delete s a").ok();
    place.file("home/config.toml", job("do = 'repair'\nmax_delete = '0'"));
    place.run("run j").exits(4).says(&["[repair.braked]"]);
    // Of a daemon neither.
    place.file("home/config.toml", job("do = 'repair'\nevery = '1s'\nmax_delete = '0'"));
    let _daemon = Daemon::start_as_told(&place, "home", &[], &[], false);
    place.vars.clear();
    wait(&place, "j", |job| job["runs"].as_u64() > Some(0) && job["verdict"] == "refused");
    // What is not understood is said where the configuration is looked at.
    place.file("home/config.toml", job("do = 'diff'\nlimit = 1"));
    place.vars = vec![("REKNIT_LIMIT", "lots".into())];
    place.run("config check").exits(2).says(&["what REKNIT_LIMIT says goes before it, and is not understood"]);
}

#[test]
fn a_variable_that_is_not_understood_is_named_wherever_it_is_heard() {
    let mut place = Place::with_store();
    std::fs::create_dir_all(place.path("home")).expect("a home");
    place.file("home/config.toml", "[job.look]\na = 'x:y'\nb = 'x:z'\nevery = '15m'\n");
    place.run("config check").ok();
    place.vars = vec![("REKNIT_READERS", "many".into())];
    let words = ["invalid value 'many' for '--readers <N>'", "REKNIT_READERS in the environment says so"];
    place.run("config check").fails("config.malformed").says(&words);
    let ran = place.run("check s s");
    ran.exits(2).says(&words);
    // What is typed goes before it, also where that is wrong.
    let ran = place.run("check s s --readers=few").exits(2).says(&["'few'"]);
    assert!(!ran.err.contains("REKNIT_READERS"), "{}", ran.err);
}
