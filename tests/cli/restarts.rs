//! A server that goes, or is lost, in the middle of a scan and of a repair: what was written are whole transactions, what is told
//! of it is true, and the next run finishes.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use postgres::Client;

use crate::harness::{Place, Ran};
use crate::kills::{gone, sorted_files};
use crate::server::Server;

/// Starts a command, and waits until the test has what it waits for.
fn begun(place: &Place, args: &[&str], mut waits: impl FnMut() -> bool) -> Child {
    let mut command = place.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
    while !waits() {
        assert_eq!(child.try_wait().expect("its state"), None, "{args:?} ended before it had to wait");
        thread::yield_now();
    }
    child
}

fn ended(child: Child) -> Ran {
    Ran::of(child.wait_with_output().expect("its end"))
}

/// Whether the binary waits for something of this kind.
fn waits(client: &mut Client, kind: &str) -> bool {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reknit' AND wait_event = $1 AND state = 'active'";
    client.query_one(waiting, &[&kind]).expect("a row").get::<_, i64>(0) > 0
}

fn number(server: &Server, query: &str) -> i64 {
    server.client().query_one(query, &[]).expect("a row").get(0)
}

/// What was changed by the last run that an index knows of.
fn changes(place: &Place, table: &str) -> (usize, u64) {
    let listed = place.run_args(&["runs", "list", table, "--format", "jsonl"]).ok().objects();
    let runs: Vec<_> = listed.iter().filter(|object| object["t"] == "run").collect();
    (runs.len(), runs.last().and_then(|run| run["changes"].as_u64()).unwrap_or_default())
}

#[test]
fn a_server_that_restarts_in_the_middle_of_a_scan_is_named_and_the_next_run_finishes() {
    let (mut server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, 'v' || i FROM generate_series(1, 60000) i; ANALYZE a;
         CREATE TABLE b (LIKE a INCLUDING ALL); INSERT INTO b SELECT * FROM a",
    );
    // By slices, of which a feed lets the next command go on.
    let a = server.table("reknit", "a");
    let build = ["index", "build", &a, "--feed", "triggers", "--apply"];
    let child = begun(&place, &[&build[..], &["--max-rate", "8000"]].concat(), || sorted_files(&place) >= 2);
    server.crash();
    ended(child).exits(2).says(&["[database]", "/a: ", "nothing was changed there"]);
    place.run_args(&build).ok().says(&["goes on behind"]);
    place.run_args(&["index", "verify", &a]).ok().says(&["sound: 60,000 rows"]);
    // By one statement, in the middle of which a row waits.
    server.sql(
        "CREATE FUNCTION waits(i int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
             IF i = 30000 THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; RETURN true; END $$;
         CREATE ROLE reader LOGIN; GRANT SELECT ON b TO reader; ALTER TABLE b ENABLE ROW LEVEL SECURITY;
         CREATE POLICY slow ON b USING (waits(id))",
    );
    let b = server.table("reader", "b");
    let (mut holder, mut client) = (server.client(), server.client());
    holder.batch_execute("SELECT pg_advisory_lock(1)").expect("held");
    let child = begun(&place, &["check", &a, &b], || waits(&mut client, "advisory"));
    server.crash();
    let ran = ended(child).exits(2).says(&["[database]", "/b: ", "nothing was changed there"]);
    assert_eq!(ran.out, "", "there is no verdict");
    place.run_args(&["check", &a, &b]).ok().says(&["in sync: 60,000 records"]);
}

/// Tables of which one lacks what the other has, and a home that knows both.
fn lacking(server: &Server, place: &Place, rows: u32) -> [String; 2] {
    server.sql(&format!(
        "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, 'v' || i FROM generate_series(1, {rows}) i;
         CREATE TABLE b (LIKE a INCLUDING ALL)"
    ));
    let tables = ["a", "b"].map(|name| server.table("reknit", name));
    place.run_args(&["check", &tables[0], &tables[1]]).exits(1);
    tables
}

#[test]
fn a_server_that_restarts_in_the_middle_of_a_repair_has_whole_transactions() {
    let (mut server, place) = (Server::start(), Place::new());
    let [a, b] = lacking(&server, &place, 100);
    server.sql("INSERT INTO b SELECT i, 'old' FROM generate_series(1, 100) i");
    let mut holder = server.client();
    holder.batch_execute("BEGIN; UPDATE b SET v = 'held' WHERE id = 50").expect("held");
    let repair = ["repair", &a, &b, "--to", "b", "--apply", "--no-probe", "--max-change", "100%", "--batch", "10"];
    let mut client = server.client();
    let waits_long = [&repair[..], &["--lock-timeout", "1h"]].concat();
    let child = begun(&place, &waits_long, || waits(&mut client, "transactionid"));
    server.crash();
    let ran = ended(child).exits(2).says(&["[database]", "/b: "]);
    let written = number(&server, "SELECT count(*) FROM b WHERE v LIKE 'v%'");
    assert_eq!(
        (written % 10, number(&server, "SELECT count(*) FROM b WHERE v = 'held'")),
        (0, 0),
        "whole transactions"
    );
    let told = if written == 0 { "nothing was changed there" } else { "those before were, and can be undone" };
    ran.says(&[told]);
    let known = changes(&place, &b);
    assert_eq!(known, (usize::from(written > 0), u64::try_from(written).expect("a count")));
    place.run_args(&repair).ok().says(&["in sync: 100 records", &format!("{} to b", 100 - written)]);
    let run = (known.0 + 1).to_string();
    place.run_args(&["runs", "undo", &b, &run]).ok().says(&[&format!("{} changes put back, 0 skipped", 100 - written)]);
}

#[test]
fn a_server_that_restarts_after_a_commit_that_nobody_heard_of_has_what_the_journal_tells() {
    // A commit waits for a standby that there is not; only those of one user do.
    let (mut server, place) =
        (Server::with_settings(&["synchronous_standby_names=nobody", "synchronous_commit=local"]), Place::new());
    let [a, b] = lacking(&server, &place, 30);
    server.sql("CREATE ROLE writer LOGIN SUPERUSER; ALTER ROLE writer SET synchronous_commit = on");
    let slow = server.table("writer", "b");
    let mut client = server.client();
    let repair = ["repair", &a, &slow, "--to", "b", "--apply", "--no-probe", "--batch", "10"];
    let child = begun(&place, &repair, || waits(&mut client, "SyncRep"));
    server.crash();
    ended(child).exits(2).says(&[
        "[database]",
        "/b: ",
        "whether the last rows were written is for the next check to tell",
    ]);
    assert_eq!(number(&server, "SELECT count(*) FROM b"), 10, "it was committed");
    assert_eq!(changes(&place, &slow), (1, 10));
    server.sql("ALTER ROLE writer RESET synchronous_commit");
    place.run_args(&repair).ok().says(&["in sync: 30 records", "20 to b"]);
    place.run_args(&["runs", "undo", &slow, "1"]).ok().says(&["10 changes put back, 0 skipped"]);
    place.run_args(&["check", &a, &b]).exits(1);
}

/// Between the binary and a server: once it is told to, the first commit that is to end a transaction that writes is lost, and
/// the server is out of reach from then on.
struct Between {
    dir: tempfile::TempDir,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Passes,
    /// The next commit is lost; who sent it hears of that at once, or never.
    Loses {
        at_once: bool,
    },
    Lost {
        at_once: bool,
    },
}

impl Between {
    fn start(server: &Server) -> Between {
        let (dir, state) =
            (tempfile::tempdir().expect("a directory"), Arc::new((Mutex::new(State::Passes), Condvar::new())));
        let listener = UnixListener::bind(socket(dir.path())).expect("a socket");
        let (server, between) = (socket(server.dir()), Between { dir, state: state.clone() });
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, state) = (client.expect("a connection"), state.clone());
                if matches!(*state.0.lock().expect("no panic there"), State::Lost { .. }) {
                    continue;
                }
                let server = UnixStream::connect(&server).expect("the server");
                let (answers, to) = (server.try_clone().expect("a copy"), client.try_clone().expect("a copy"));
                thread::spawn(move || pipe(answers, to, |_| true));
                thread::spawn(move || {
                    let mut writes = false;
                    pipe(client, server, |bytes| {
                        let has = |words: &[u8]| bytes.windows(words.len()).any(|some| some == words);
                        writes |= has(b"READ COMMITTED READ WRITE");
                        !(writes && has(b"COMMIT\0")) || passes(&state)
                    });
                });
            }
        });
        between
    }

    fn becomes(&self, state: State) {
        *self.state.0.lock().expect("no panic there") = state;
        self.state.1.notify_all();
    }

    /// Waits until a commit is lost.
    fn lost(&self) {
        let state = self.state.0.lock().expect("no panic there");
        let waits = |state: &mut State| !matches!(state, State::Lost { .. });
        let waited = self.state.1.wait_timeout_while(state, Duration::from_secs(120), waits);
        assert!(!waited.expect("no panic there").1.timed_out(), "there was no commit");
    }

    fn table(&self, name: &str) -> String {
        format!("postgres://reknit@{}/postgres/{name}", self.dir.path().display().to_string().replace('/', "%2F"))
    }
}

/// Whether a commit passes; says that it does not when its sender is to hear of that.
fn passes((state, changed): &(Mutex<State>, Condvar)) -> bool {
    let mut now = state.lock().expect("no panic there");
    let State::Loses { at_once } = *now else { return true };
    *now = State::Lost { at_once };
    changed.notify_all();
    let held = changed.wait_while(now, |now| *now == State::Lost { at_once: false });
    drop(held.expect("no panic there"));
    false
}

fn socket(dir: &Path) -> PathBuf {
    dir.join(".s.PGSQL.5432")
}

/// Passes on what is sent, as long as it may; then neither side hears of the other any more.
fn pipe(mut from: UnixStream, mut to: UnixStream, mut may: impl FnMut(&[u8]) -> bool) {
    let mut bytes = [0; 65_536];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        if !may(&bytes[..n]) || to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        let _ = end.shutdown(std::net::Shutdown::Both);
    }
}

#[test]
fn rows_whose_commit_was_lost_are_not_believed_to_be_written() {
    for (feed, killed) in [("triggers", false), ("triggers", true), ("slot", true)] {
        let (server, place) = (Server::with_slots(), Place::new());
        let between = Between::start(&server);
        let [a, _] = lacking(&server, &place, 30);
        let b = between.table("b");
        for table in [&a, &b] {
            place.run_args(&["index", "build", table, "--feed", feed, "--apply"]).ok();
        }
        place.run_args(&["check", &a, &b]).exits(1);
        between.becomes(State::Loses { at_once: !killed });
        let repair = ["repair", &a, &b, "--to", "b", "--apply", "--no-probe"];
        let mut child = begun(&place, &repair, || true);
        between.lost();
        if killed {
            child.kill().expect("killed");
            child.wait().expect("its end");
        } else {
            ended(child).exits(2).says(&["[database]", "is for the next check to tell"]);
        }
        between.becomes(State::Passes);
        gone(&mut server.client());
        assert_eq!(number(&server, "SELECT count(*) FROM b"), 0, "{feed}: nothing was committed");
        let ran = place.run_args(&["check", &a, &b]).exits(1);
        assert!(!ran.err.contains("read whole"), "{feed}: {}", ran.err);
        place.run_args(&["diff", &a, &b]).exits(1).says(&["30 only in a"]);
        place.run_args(&repair).ok().says(&["in sync: 30 records", "30 to b"]);
        place.run_args(&["index", "verify", &b]).ok().says(&["sound: 30 rows"]);
    }
}
