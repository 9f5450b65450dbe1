//! A daemon that runs its jobs by itself: when they are due, once at a time, remembered whatever ends the daemon.

use std::path::Path;

use serde_json::Value;

use crate::daemon::{Daemon, admit, at, until};
use crate::harness::Place;
use crate::{schema, stores};

/// A place with two tables that differ in one row, and a configuration that names them.
fn with_tables(jobs: &str) -> Place {
    let place = Place::new();
    for (file, value) in [("a.db", "x"), ("b.db", "y")] {
        execute(
            &place.path(file),
            &format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'same'), (2, '{value}');"
            ),
        );
    }
    configure(&place, jobs);
    place
}

fn configure(place: &Place, jobs: &str) {
    std::fs::create_dir_all(place.path("home")).expect("a home");
    let stores = "[store.a]\nurl = 'sqlite:../a.db'\n[store.b]\nurl = 'sqlite:../b.db'\n";
    place.file("home/config.toml", format!("{stores}{jobs}"));
}

fn execute(file: &Path, statements: &str) {
    let database = rusqlite::Connection::open(file).expect("a database");
    database.busy_timeout(std::time::Duration::from_secs(60)).expect("a wait");
    database.execute_batch(statements).expect("statements");
}

/// The job and its runs, the newest first, as they are shown for machines.
fn shown(place: &Place, job: &str) -> (Value, Vec<Value>) {
    let objects = place.json(&format!("jobs show {job} --limit 1000")).ok().objects();
    schema::holds(&objects);
    let runs = objects[1..objects.len() - 1].to_vec();
    (objects[0].clone(), runs)
}

/// Waits until a job is as it should be, and gives it back.
#[track_caller]
pub(crate) fn wait(place: &Place, job: &str, so: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    until(|| {
        // Until the daemon answers, what is remembered is.
        last = shown(place, job).0;
        so(&last)
    });
    last
}

#[test]
fn jobs_run_when_they_are_due_and_what_they_found_outlives_the_daemon() {
    let place = with_tables(
        "[job.look]\na = 'a'\nb = 'b'\ndo = 'diff'\nevery = '1s'\nsettle = '0ms'\n[job.mend]\na = 'a'\nb = 'b'\ndo = 'repair'\nto = 'b'\nno_probe = true\nmax_change = '100%'\nsettle = '0ms'",
    );
    let mut daemon = Daemon::start(&place, "home", &[]);
    let look = wait(&place, "look", |job| job["runs"].as_u64() >= Some(2) && job["verdict"] == "differs");
    assert_eq!((&look["open"], &look["failures"], &look["does"]), (&1.into(), &0.into(), &"diff".into()));
    let first = look["oldest_ms"].as_u64().expect("it was seen");
    place.run("status").exits(1).says(&["job    look: differs, 1 key differed", "open for", "mend: not run yet"]);
    // Another key differs too; the first is still the oldest.
    execute(&place.path("a.db"), "INSERT INTO t VALUES (3, 'z')");
    let look = wait(&place, "look", |job| job["open"] == 2);
    assert_eq!(look["oldest_ms"].as_u64(), Some(first));
    execute(&place.path("b.db"), "UPDATE t SET v = 'x' WHERE id = 2");
    let look = wait(&place, "look", |job| job["open"] == 1 && job["oldest_ms"].as_u64() > Some(first));
    assert_eq!(look["proven_ms"], Value::Null);
    // A job without a time runs when it is asked for; it never works on a table that another one works on.
    place.run("jobs run mend").ok().says(&["begins as soon as it can"]);
    let mend = wait(&place, "mend", |job| job["verdict"] == "in_sync");
    assert_eq!((&mend["runs"], &mend["state"]), (&1.into(), &"by_hand".into()));
    let (_, runs) = shown(&place, "mend");
    assert_eq!((&runs[0]["cause"], &runs[0]["written"]["b"]), (&"asked".into(), &1.into()));
    let look = wait(&place, "look", |job| job["verdict"] == "in_sync");
    assert_eq!((&look["oldest_ms"], &look["open"]), (&Value::Null, &Value::Null));
    place.run("status").ok().says(&["look: in sync"]);
    daemon.kill();
    // What is remembered is shown without a daemon, and goes on with the next.
    let (before, runs) = shown(&place, "look");
    let runs_before = before["runs"].as_u64().expect("a number");
    assert!(runs_before >= 3 && runs.len() as u64 >= runs_before, "{before}");
    place.run("jobs list").ok().says(&["look\t", "mend\tin sync", "2 jobs"]);
    place.run("jobs run look").fails("job.no-daemon").says(&["reknit run look"]);
    let daemon = Daemon::start(&place, "home", &[]);
    wait(&place, "look", |job| job["runs"].as_u64() > Some(runs_before + 1) && job["verdict"] == "in_sync");
    let (_, runs) = shown(&place, "look");
    let mut numbers: Vec<u64> = runs.iter().map(|run| run["run"].as_u64().expect("a number")).collect();
    let ended = numbers.len();
    numbers.dedup();
    assert!(numbers.is_sorted_by(|one, other| one > other) && numbers.len() == ended, "{numbers:?}");
    assert_eq!(daemon.end().code(), Some(0));
}

#[test]
fn a_job_is_paused_tuned_and_cancelled_live_and_that_is_remembered() {
    // Its differences are given minutes to settle.
    let slow = "[job.slow]\na = 'a'\nb = 'b'\ndo = 'diff'\nsettle = '5m'\n[job.look]\na = 'a'\nb = 'b'\nevery = '1d'\nsettle = '0ms'";
    let place = with_tables(slow);
    let mut daemon = Daemon::start(&place, "home", &[]);
    wait(&place, "look", |job| job["runs"] == 1 && job["running"] == Value::Null);
    place.run("jobs run slow").ok();
    let running = wait(&place, "slow", |job| job["state"] == "running");
    assert_eq!(running["running"]["cause"], "asked");
    place.run("run slow").exits(4).says(&["[job.running]", "wrote 0 records"]);
    place.run("run look").exits(4).says(&["[job.occupied]", "the job slow works on"]);
    place.run("jobs run slow").exits(4).says(&["[job.running]"]);
    place.run("jobs cancel look").exits(4).says(&["[job.idle]"]);
    place.run("jobs cancel slow").ok();
    let slow = wait(&place, "slow", |job| job["verdict"] == "cancelled");
    assert_eq!((&slow["state"], &slow["failures"]), (&"by_hand".into(), &0.into()));
    place.run("jobs pause look").ok().says(&["is paused"]);
    place.run("jobs pause look").ok().says(&["was paused already"]);
    place.run("jobs tune look --every 1s --jitter 5ms --max-bytes 1MiB").ok();
    place.run("jobs tune look --every 1s --daily 03:00").fails("usage.at");
    place.run("jobs tune look --every soon").fails("usage.at");
    place.run("jobs show lok").fails("config.job").says(&["did you mean `look`?"]);
    // What is asked for runs though it is paused; by hand it is the same run, and remembered.
    let look = shown(&place, "look").0;
    assert_eq!(
        (&look["state"], &look["at"], &look["tuned"]["max_bytes"]),
        (&"paused".into(), &"every 1s".into(), &(1 << 20).into())
    );
    place.run("run look").exits(1).says(&["differs"]);
    let (_, runs) = shown(&place, "look");
    assert_eq!((&runs[0]["cause"], &runs[0]["exit"]), (&"hand".into(), &1.into()));
    // The daemon dies in the middle of a run.
    place.run("jobs run slow").ok();
    wait(&place, "slow", |job| job["state"] == "running");
    daemon.kill();
    // Nobody knows when it ended, also not once a daemon runs again.
    let no_end = ["interrupted, began ", "its end is not known"];
    place.run("jobs show slow").ok().says(&no_end);
    place.run("status").says(&["slow: interrupted (began ", "its end is not known"]);
    let daemon = Daemon::start(&place, "home", &[]);
    let slow = wait(&place, "slow", |job| job["state"] == "running" && job["verdict"] == "interrupted");
    place.run("jobs show slow").ok().says(&no_end);
    assert_eq!((&slow["last_ms"], &shown(&place, "slow").1[0]["ended_ms"]), (&Value::Null, &Value::Null));
    let look = shown(&place, "look").0;
    assert_eq!((&look["state"], &look["jitter_ms"], &look["runs"]), (&"paused".into(), &5.into(), &runs[0]["run"]));
    place.run("jobs cancel slow").ok();
    wait(&place, "slow", |job| job["verdict"] == "cancelled");
    place.run("jobs resume look").ok().says(&["goes on"]);
    let before = look["runs"].as_u64();
    wait(&place, "look", |job| job["runs"].as_u64() > before);
    assert_eq!(daemon.end().code(), Some(0));
    // Without a daemon the same is changed in the home.
    place.run("jobs tune look --reset").ok();
    place.run("jobs pause look").ok();
    place.run("jobs cancel look").fails("job.no-daemon");
    let look = shown(&place, "look").0;
    assert_eq!(
        (&look["at"], &look["state"], &look["tuned"]["at"]),
        (&"every 1d".into(), &"paused".into(), &Value::Null)
    );
}

#[test]
fn a_peer_that_is_down_is_named_and_met_again_when_it_is_back() {
    let place = Place::with_file("a.kv", "k\tv\n", "");
    place.run("init t --like s").ok();
    let mut there = Daemon::start(&place, "there", &["t"]);
    admit(&place, "there", "compare,read,write");
    let (address, socket) = (there.address().to_string(), there.socket().to_string());
    let job = format!("a = '../s'\nb = '{address}'\nsettle = '0ms'");
    configure(&place, &format!("[job.mend]\n{job}\ndo = 'repair'\nevery = '1s'"));
    let _here = Daemon::start(&place, "home", &["s"]);
    let mend = wait(&place, "mend", |job| job["verdict"] == "in_sync");
    // Not in the middle of a run, which might be partial.
    place.run("jobs pause mend").ok();
    wait(&place, "mend", |job| job["running"].is_null());
    there.kill();
    place.run("jobs resume mend").ok();
    let proven = mend["proven_ms"].as_u64();
    let down = wait(&place, "mend", |job| job["failures"].as_u64() >= Some(2) && job["running"] == Value::Null);
    assert_eq!((&down["verdict"], down["proven_ms"].as_u64() >= proven), (&"undetermined".into(), true));
    place.run("status").exits(3).says(&["wrong  mend:", "runs in a row ended undetermined", "[peer.unreachable]"]);
    let (_, runs) = shown(&place, "mend");
    assert_eq!((&runs[0]["error"], &runs[0]["cause"]), (&"peer.unreachable".into(), &"retry".into()));
    let there = Daemon::start_with(&place, "there", &["t"], &["--listen", &socket]);
    place.run("put s later yes").ok();
    wait(&place, "mend", |job| job["failures"] == 0 && job["proven_ms"].as_u64() > down["last_ms"].as_u64());
    let status = place.run("status").ok();
    assert!(!status.out.contains("runs in a row"), "{status:?}");
    assert_eq!(there.end().code(), Some(0));
    until(|| place.run("get t later").exit == Some(0));
    at(&place, "there", "get t later").ok().prints("yes");
}

#[test]
fn the_configuration_is_read_again_at_a_hangup_and_what_stays_is_named() {
    let place = with_tables("[serve]\nlisten = '127.0.0.1:0'\n[job.one]\na = 'a'\nb = 'b'\nsettle = '0ms'");
    let daemon = Daemon::start(&place, "home", &[]);
    wait(&place, "one", |job| job["state"] == "by_hand");
    let wrong = |words: &str| {
        until(|| {
            let summary = place.json("status").summary();
            schema::holds(std::slice::from_ref(&summary));
            summary["wrong"].to_string().contains(words)
        });
    };
    configure(&place, "[job.one]\na = 'a'\nb = 'b'\nsetle = '0ms'");
    daemon.signal("-HUP");
    wrong("config.toml:8: unknown key `setle` in [job.one]; did you mean `settle`?");
    place.run("jobs list").ok().says(&["one\t", "[config.malformed]"]);
    // Half a replacement takes nothing away.
    std::fs::remove_file(place.path("home/config.toml")).expect("removed");
    daemon.signal("-HUP");
    wrong("config.toml is not there any more");
    place.run("jobs list").ok().says(&["one\t", "[config.file]"]);
    configure(
        &place,
        "[serve]\nmax_change = '1%'\n[job.two]\na = 'a'\nb = 'b'\nsettle = '0ms'\nevery = '1s'\nclock = 'Europe/Berlin'",
    );
    daemon.signal("-HUP");
    wrong("`max_change` in [serve] is taken up when the daemon begins again; the rest was taken up");
    let two = wait(&place, "two", |job| job["runs"].as_u64() >= Some(1));
    assert_eq!((&two["clock"], &two["at"]), (&"Europe/Berlin".into(), &"every 1s".into()));
    assert_eq!(place.json("jobs show one").ok().objects()[0]["state"], "not_configured");
    place.run("jobs pause one").fails("config.job");
    assert_eq!(daemon.end().code(), Some(0));
}

#[test]
fn what_is_remembered_and_was_damaged_stops_nothing_and_is_told() {
    let place = with_tables("[job.look]\na = 'a'\nb = 'b'\nevery = '1d'\nsettle = '0ms'");
    let daemon = Daemon::start(&place, "home", &[]);
    wait(&place, "look", |job| job["runs"] == 1 && job["running"] == Value::Null);
    assert_eq!(daemon.end().code(), Some(0));
    let file = place.path("home/jobs/look");
    let mut bytes = std::fs::read(&file).expect("a file");
    *bytes.last_mut().expect("a byte") ^= 1;
    std::fs::write(&file, &bytes).expect("damaged");
    place.run("jobs list").ok().says(&["it is not what was written", "not run yet"]);
    let _daemon = Daemon::start(&place, "home", &[]);
    wait(&place, "look", |job| job["runs"] == 1 && job["verdict"] == "differs");
    place.run("status").exits(1).says(&["wrong  memory of look", "without its history"]);
    assert_eq!(std::fs::read(place.path("home/jobs/look.damaged")).expect("it is kept"), bytes);
}

#[test]
fn a_store_is_read_against_its_tree_and_damage_is_told_as_its_own() {
    let place = Place::with_file("a.kv", "k\tv\nl\tw\n", "");
    place.run("init t --like s").ok();
    configure(
        &place,
        "[job.scrub]\nstore = '../s'\ndo = 'verify'\nrate = 1000000\nevery = '1s'\n[job.look]\na = '../s'\nb = '../t'\nsettle = '0ms'",
    );
    let daemon = Daemon::start(&place, "home", &[]);
    let scrub = wait(&place, "scrub", |job| job["verdict"] == "sound");
    assert_eq!((&scrub["does"], &scrub["b"]), (&"verify".into(), &Value::Null));
    place.run("status").ok().says(&["scrub: sound"]);
    assert_eq!(daemon.end().code(), Some(0));
    stores::remove(&place, stores::entry(&stores::rows(&place)));
    let _daemon = Daemon::start(&place, "home", &[]);
    let scrub = wait(&place, "scrub", |job| job["verdict"] == "damaged");
    assert_eq!((&scrub["open"], &scrub["oldest_ms"], &scrub["failures"]), (&Value::Null, &Value::Null, &0.into()));
    place.run("status").exits(1).says(&["scrub: damaged", "its last run ended damaged", "[store.damaged]"]);
}

#[test]
fn a_store_is_read_in_parts_by_runs_that_go_on_where_the_last_one_ended() {
    let lines: String = (0..20_000).map(|nth| format!("{nth:05}\tv\n")).collect();
    let place = Place::with_file("a.kv", &lines, "");
    // One run reads a fifth of it, or a little more; each but the first begins when it is asked for.
    let job = "[serve]\nmax_run = '1s'\n[job.scrub]\nstore = '../s'\ndo = 'verify'\nrate = 4000\nevery = '1h'\n";
    configure(&place, job);
    let daemon = Daemon::start(&place, "home", &[]);
    let read = |job: &Value| job["pass"]["records"].as_u64().unwrap_or(0);
    let ran = |job: &Value, runs: u64| job["runs"].as_u64() > Some(runs) && job["running"].is_null();
    let next = |job: &Value| {
        place.run("jobs run scrub").ok();
        wait(&place, "scrub", |later| ran(later, job["runs"].as_u64().expect("a number")))
    };
    // One that is held up reads nothing in its second.
    let go_on = |from: Value, so: &dyn Fn(&Value) -> bool| {
        std::iter::successors(Some(from), |job| Some(next(job))).find(|job| so(job)).expect("it ends")
    };
    let part = go_on(wait(&place, "scrub", |job| ran(job, 0)), &|job| read(job) > 0);
    assert_eq!(
        (&part["verdict"], &part["failures"], &part["pass"]["faults"]),
        (&"partial".into(), &0.into(), &0.into())
    );
    assert!(part["pass"]["share"].as_f64().is_some_and(|share| share > 0.0 && share < 1.0), "{part}");
    assert_eq!(daemon.end().code(), Some(0));
    let show = place.run("jobs show scrub").ok().says(&["partial", "read so far: ", " records, in a pass that began "]);
    assert!(!show.out.contains("wrong"), "{}", show.out);
    let daemon = Daemon::start(&place, "home", &[]);
    let on = go_on(next(&part), &|job| read(job) != read(&part));
    assert_eq!(on["pass"]["began_ms"], part["pass"]["began_ms"], "{on} after {part}");
    assert!(read(&on) > read(&part), "{on} after {part}");
    let sound = go_on(on, &|job| job["pass"].is_null());
    assert_eq!((&sound["verdict"], sound["pass"].is_null()), (&"sound".into(), true), "{sound}");
    assert_eq!(daemon.end().code(), Some(0));
    // What a pass finds at its end is wrong until the next has come to its own.
    let rows = stores::rows(&place);
    stores::remove(&place, rows.iter().rfind(|row| row.starts_with(&[2])).expect("an entry"));
    let daemon = Daemon::start(&place, "home", &[]);
    let damaged = go_on(next(&sound), &|job| job["pass"].is_null());
    assert_eq!((&damaged["verdict"], damaged["pass"].is_null()), (&"damaged".into(), true), "{damaged}");
    let later = go_on(next(&damaged), &|job| !job["pass"].is_null());
    assert_eq!((&later["verdict"], later["pass"]["faults"].as_u64() > Some(0)), (&"damaged".into(), true), "{later}");
    place.run("status").exits(1).says(&["scrub: its last run ended damaged"]);
    assert_eq!(daemon.end().code(), Some(0));
    // Another store in its place has its own pass.
    std::fs::remove_dir_all(place.path("s")).expect("removed");
    place.run("init s").ok();
    place.run("put s k v").ok();
    let _daemon = Daemon::start(&place, "home", &[]);
    let other = go_on(next(&later), &|job| job["verdict"] != "partial");
    assert_eq!(other["verdict"], "sound", "{other}");
}

#[test]
fn how_far_a_pass_came_is_remembered_while_it_goes_on() {
    let lines: String = (0..60_000).map(|nth| format!("{nth:05}\tv\n")).collect();
    let place = Place::with_file("a.kv", &lines, "");
    configure(&place, "[job.scrub]\nstore = '../s'\ndo = 'verify'\nrate = 4000\nevery = '1h'\n");
    let mut daemon = Daemon::start(&place, "home", &[]);
    let read = |job: &Value| job["pass"]["records"].as_u64().unwrap_or(0);
    let on = wait(&place, "scrub", |job| read(job) > 0);
    assert_eq!(on["running"]["run"], 1, "{on}");
    daemon.kill();
    let _daemon = Daemon::start(&place, "home", &[]);
    let again = wait(&place, "scrub", |job| job["runs"] == 2);
    assert_eq!(again["pass"]["began_ms"], on["pass"]["began_ms"], "{again} after {on}");
    assert!(read(&again) >= read(&on), "{again} after {on}");
    wait(&place, "scrub", |job| job["running"].is_null() && job["verdict"] == "sound");
}

#[test]
fn what_could_not_be_remembered_is_once_it_can_though_the_job_does_not_run_again() {
    let place = with_tables("[job.look]\na = 'a'\nb = 'b'\ndo = 'diff'\nevery = '1h'\nsettle = '0ms'\n");
    let mut daemon = Daemon::start(&place, "home", &[]);
    let once = wait(&place, "look", |job| job["runs"] == 1 && job["running"].is_null());
    // Where the next draft is to be is something else.
    std::fs::create_dir(place.path("home/jobs/look.new")).expect("made");
    place.run("jobs run look").ok();
    wait(&place, "look", |job| job["runs"] == 2 && job["running"].is_null());
    let lacks = || place.run("status").out.contains("what it does is not remembered");
    assert!(lacks());
    std::fs::remove_dir(place.path("home/jobs/look.new")).expect("removed");
    until(|| !lacks());
    daemon.kill();
    let kept = shown(&place, "look").0;
    assert_eq!((&kept["runs"], kept["last_ms"] != once["last_ms"]), (&2.into(), true), "{kept}");
}

#[test]
fn jobs_on_a_store_that_the_daemon_holds_run_side_by_side() {
    let place = Place::with_file("a.kv", "k\tv\n", "");
    ["t", "u"].iter().for_each(|store| drop(place.run(&format!("init {store} --like s")).ok()));
    // Each waits for a difference to stand still, for minutes.
    let job =
        |name: &str, with: &str| format!("[job.{name}]\na = '../s'\nb = '../{with}'\ndo = 'diff'\nsettle = '5m'\n");
    configure(&place, &format!("{}{}{}", job("one", "t"), job("two", "u"), job("three", "t")));
    let daemon = Daemon::start(&place, "home", &["s"]);
    for name in ["one", "two"] {
        place.run(&format!("jobs run {name}")).ok();
        wait(&place, name, |job| job["state"] == "running");
    }
    place.run("run three").exits(4).says(&["[job.occupied]", "the job one works on"]);
    // Whoever ends the daemon does not wait for them.
    assert_eq!(daemon.end().code(), Some(0));
    let one = shown(&place, "one").0;
    assert_eq!((&one["verdict"], &one["state"]), (&"interrupted".into(), &"asked".into()));
}

#[test]
fn a_configuration_is_written_to_be_filled_in_and_serves_what_it_says() {
    let place = Place::with_store();
    place.run("serve").fails("serve.nothing").says(&["config.toml"]);
    place.run("config init").ok().says(&["config.toml", "reknit config check"]);
    place.run("config check").ok().says(&["0 stores, 0 jobs"]);
    place.run("config init").exits(4).says(&["is there already", "[config.exists]"]);
    configure(&place, "[serve]\nstores = ['../s']\nlisten = '127.0.0.1:0'");
    let _daemon = Daemon::start(&place, "home", &[]);
    until(|| place.run("status").out.contains("dataset s, 0 records"));
}

#[test]
fn a_days_budget_bounds_runs_that_begin_by_themselves_and_says_until_when() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("home")).expect("a home");
    let notes: String = (0..2000).map(|n| format!("k{n:04}\tv{n}\n")).collect();
    for (store, like) in [("s", ""), ("t", " --like s")] {
        place.run(&format!("init {store}{like}")).ok();
    }
    place.file("notes.kv", notes);
    place.run("import s notes.kv").ok();
    let job =
        "[job.look]\na = '../s'\nb = '../t'\ndo = 'diff'\nsettle = '0ms'\nevery = '1s'\nclock = 'Pacific/Kiritimati'\n";
    place.file("home/config.toml", format!("{job}max_bytes_per_day = '0'\n"));
    place.run("jobs list").fails("config.malformed").says(&["config.toml:8: ", "no bytes"]);
    place.file("home/config.toml", format!("{job}max_bytes_per_day = '2kB'\n"));
    let daemon = Daemon::start(&place, "home", &[]);
    let look = wait(&place, "look", |job| job["state"] == "budget_used_up");
    let (budget, now) = (&look["budget"], look["last_ms"].as_u64().expect("it ran"));
    assert!(budget["spent_bytes"].as_u64() >= Some(2000) && budget["bytes_per_day"] == 2000, "{look}");
    let until = budget["used_up_until_ms"].as_u64().expect("a time");
    // Midnight of a clock that is 14 hours ahead.
    assert!(until > now && until <= now + 86_400_000 && until % 86_400_000 == 10 * 3_600_000, "{look}");
    assert!(look["next_ms"].as_u64() >= Some(until), "{look}");
    place.run("jobs show look").ok().says(&["budget used up until 20", "UTC (in ", "used of today's budget: "]);
    place.run("status").says(&["look: ", "budget used up until 20"]);
    // What is asked for waits too; what somebody waits for does not, and counts.
    place.run("jobs run look").ok().says(&["look begins at 20", "budget is used up"]);
    let before = shown(&place, "look").0;
    assert_eq!((&before["state"], &before["runs"]), (&"budget_used_up".into(), &look["runs"]));
    place.run("run look").exits(1);
    let after = shown(&place, "look").0;
    assert!(after["budget"]["spent_bytes"].as_u64() > before["budget"]["spent_bytes"].as_u64(), "{after}");
    place.run("jobs tune look --max-bytes-per-day 0").fails("usage.bytes");
    place.run("jobs tune look --max-bytes-per-day 1GiB --max-time-per-day 1h").ok();
    let runs = after["runs"].as_u64();
    wait(&place, "look", |job| job["runs"].as_u64() > runs && job["budget"]["time_per_day_ms"] == 3_600_000);
    place.run("jobs show look").ok().says(&["tuned 1h a day, 1.1 GB a day"]);
    assert_eq!(daemon.end().code(), Some(0));
}

#[test]
fn a_run_that_reads_a_table_whole_is_cancelled_in_the_middle_of_that() {
    let place = with_tables("");
    let pause = place.file("pause", "");
    // Nothing is read while that file is there.
    let job = format!("[job.look]\na = 'a/t'\nb = 'b/t'\nsettle = '0ms'\npause_file = '{}'", pause.display());
    configure(&place, &job);
    let _daemon = Daemon::start(&place, "home", &[]);
    place.run("jobs run look").ok();
    wait(&place, "look", |job| job["state"] == "running");
    place.run("jobs cancel look").ok();
    wait(&place, "look", |job| job["verdict"] == "cancelled");
    std::fs::remove_file(pause).expect("there until now");
    place.run("jobs run look").ok();
    wait(&place, "look", |job| job["verdict"] == "differs");
}

#[test]
fn a_job_that_names_what_is_not_there_any_more_is_trouble_until_it_does() {
    let job = "[job.look]\na = '@a/t'\nb = '@b/t'\nevery = '1s'\nsettle = '0ms'\n";
    let place = with_tables(job);
    let daemon = Daemon::start(&place, "home", &[]);
    wait(&place, "look", |job| job["runs"].as_u64() > Some(0));
    let config = place.read("home/config.toml");
    place.file("home/config.toml", config.replace("sqlite:../a.db", "../a"));
    for _ in 0..2 {
        daemon.signal("-HUP");
        until(|| place.run("status").out.contains("wrong  job look cannot be planned: @a/t"));
    }
    place.file("home/config.toml", config);
    daemon.signal("-HUP");
    until(|| !place.run("status").out.contains("cannot be planned"));
    let runs = |job: &Value| job["runs"].as_u64().expect("a number");
    let before = runs(&shown(&place, "look").0);
    wait(&place, "look", |job| runs(job) > before);
}

#[test]
fn a_job_is_tuned_to_a_time_of_the_day_and_status_is_watched_until_nobody_reads() {
    use std::io::{BufRead, BufReader};
    let place = with_tables("[job.look]\na = '@a/t'\nb = '@b/t'\nevery = '1d'\nsettle = '0ms'\n");
    let _daemon = Daemon::start(&place, "home", &[]);
    place.run("jobs tune look --daily 25:00").fails("usage.at");
    place.run("jobs tune look --daily 03:00").ok();
    let look = wait(&place, "look", |job| job["tuned"]["at"] == "03:00" && job["next_ms"].is_u64());
    let next = look["next_ms"].as_u64().expect("a time");
    assert_eq!(next % 86_400_000, 3 * 3_600_000, "at three by UTC: {look}");
    place.run("jobs show look").ok().says(&["03:00"]);
    let mut child = place.command(&["status", "--watch", "200ms"]).spawn().expect("the binary");
    let mut lines = BufReader::new(child.stdout.take().expect("its stdout")).lines();
    let mut looks = || lines.by_ref().map(|line| line.expect("readable")).find(|line| line.starts_with("job    look"));
    assert!(looks().is_some_and(|line| line.contains("03:00") || line.contains("look")), "it is seen");
    place.run("jobs pause look").ok();
    while !looks().expect("it goes on").contains("paused") {}
    drop(lines);
    assert!(child.wait().expect("its end").code().is_some());
    place.run("status --watch soon").exits(2).says(&["soon"]);
}

#[test]
fn what_a_check_estimates_is_told_as_an_estimate_and_what_is_equal_as_none() {
    let place = Place::new();
    for (file, value) in [("a.db", "x"), ("b.db", "y")] {
        execute(
            &place.path(file),
            &format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t WITH RECURSIVE n(i) AS \
                 (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT i, '{value}' FROM n;"
            ),
        );
    }
    configure(&place, "[job.look]\na = 'a'\nb = 'b'\nsettle = '0ms'\n[job.same]\na = 'a'\nb = 'sqlite:../c.db'\n");
    std::fs::copy(place.path("a.db"), place.path("c.db")).expect("a copy");
    let _daemon = Daemon::start(&place, "home", &[]);
    place.run("run look").exits(1).says(&[": about ", " keys (between "]);
    let (look, runs) = shown(&place, "look");
    assert_eq!((&look["open_estimated"], &runs[0]["estimated"]), (&true.into(), &true.into()), "{look}");
    assert_eq!(look["open"], runs[0]["differences"]);
    place.run("jobs list").ok().says(&["differs, about ", " keys differed"]);
    place.run("jobs show look").ok().says(&["run 1\tdiffers, about "]);
    place.run("status").exits(1).says(&["look: differs, about ", ": differs, about "]);
    let status = place.json("status").summary();
    let pair = &status["pairs"][0];
    assert_eq!((&pair["differences"], &pair["estimated"]), (&look["open"], &true.into()), "{status}");
    // A check of sides that are equal knows that nothing differs.
    place.run("run same").ok();
    let (_, runs) = shown(&place, "same");
    assert_eq!((&runs[0]["differences"], &runs[0]["estimated"]), (&0.into(), &false.into()), "{runs:?}");
}

#[test]
fn a_run_that_is_told_to_end_says_which_limit_it_came_to() {
    let slow = "a = 'a'\nb = 'b'\ndo = 'diff'\nsettle = '5m'\n";
    let place = with_tables(&format!("[serve]\nmax_run = '4s'\n[job.long]\n{slow}"));
    let daemon = Daemon::start(&place, "home", &[]);
    place.run("jobs run long").ok();
    wait(&place, "long", |job| job["verdict"] == "partial");
    let late = ["since it had gone on for `max_run` of [serve], and was told to", "[job.late]"];
    place.run("jobs show long").ok().says(&late);
    place.run("status").exits(3).says(&["wrong  long: its last run ended partial", late[0]]);
    assert!(daemon.end().success());
    configure(&place, &format!("[job.long]\n{slow}max_time_per_day = '4s'\nevery = '1h'\n"));
    let _daemon = Daemon::start(&place, "home", &[]);
    wait(&place, "long", |job| job["state"] == "budget_used_up");
    let status = place.run("status").exits(3).says(&["long: partial", "budget used up until"]);
    assert!(!status.out.contains("wrong  long"), "the next run waits for tomorrow: {status:?}");
}

#[test]
fn a_run_waits_for_what_a_command_works_on_and_that_has_a_name() {
    let place = with_tables(
        "[job.look]\na = 'a'\nb = 'b'\ndo = 'diff'\nsettle = '0ms'\n[job.read]\ndo = 'verify'\nstore = '../s'\n[job.pair]\na = '../s'\nb = '../other'\n",
    );
    place.run("init s").ok();
    for (store, value) in [("other", "v"), ("third", "w")] {
        place.run(&format!("init {store} --like s")).ok();
        place.run(&format!("put {store} k {value}")).ok();
    }
    let _daemon = Daemon::start(&place, "home", &[]);
    // Differences are given minutes to settle; who looks for them has both sides for as long.
    let held = |sides: [&str; 2], look: &str| {
        let start = || {
            let mut command = place.command(&["diff", sides[0], sides[1], "--settle", "5m"]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            command.spawn().expect("the binary")
        };
        let mut by_hand = start();
        until(|| {
            // Whoever looks holds it too, for a moment in which the other may have wanted it.
            if by_hand.try_wait().expect("asked").is_some() {
                by_hand = start();
            }
            place.run(look).err.contains("[store.in-use]")
        });
        by_hand
    };
    let (tables, looks) = (["@a/t", "@b/t"], "inspect @a/t 1");
    for (job, sides, looks, end) in [("look", tables, looks, "differs"), ("read", ["s", "other"], "get s k", "sound")] {
        let mut by_hand = held(sides, looks);
        place.run(&format!("jobs run {job}")).ok();
        until(|| place.run("status").out.contains(&format!("of {job}: it waits for up to 1 m: ")));
        assert_eq!(shown(&place, job).0["state"], "running");
        by_hand.kill().expect("killed");
        by_hand.wait().expect("gone");
        let ended = wait(&place, job, |job| job["verdict"] != Value::Null);
        assert_eq!((&ended["verdict"], &ended["failures"]), (&end.into(), &0.into()), "{ended}");
        assert!(!place.run("status").out.contains("occupied"));
    }
    // What it could have meanwhile it leaves to others.
    let mut by_hand = held(["other", "third"], "get other k");
    place.run("jobs run pair").ok();
    let waits = || place.run("status").out.contains("of pair: it waits for up to 1 m: ");
    until(waits);
    until(|| !place.run("get s k").err.contains("[store.in-use]"));
    assert!(waits());
    by_hand.kill().expect("killed");
    by_hand.wait().expect("gone");
    let ended = wait(&place, "pair", |job| job["verdict"] != Value::Null);
    assert_eq!(ended["verdict"], "differs");
    // One that is told to end does not go on waiting.
    let mut by_hand = held(tables, looks);
    place.run("jobs run look").ok();
    until(|| place.run("status").out.contains("occupied run 2 of look"));
    place.run("jobs cancel look").ok();
    wait(&place, "look", |job| job["verdict"] == "cancelled");
    by_hand.kill().expect("killed");
    by_hand.wait().expect("gone");
}
