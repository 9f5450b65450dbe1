//! Tables under writers: what is in flight is never reported as drift, and what has drifted always is.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Place, Ran};
use crate::server::Server;

const WRITERS: u64 = 8;
const KEYS: u64 = 400;
/// A key that no writer writes.
const LOST: &str = "100000";
/// How long a difference stands before it counts.
const SETTLE: Duration = Duration::from_millis(500);

/// Lets the writers end, whatever happens.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long it goes on: some rounds, or so many minutes as the campaign wants.
fn goes_on(rounds: u64, begun: Instant) -> bool {
    match std::env::var("REKNIT_WRITERS_MINUTES").ok().and_then(|minutes| minutes.parse::<u64>().ok()) {
        Some(minutes) => begun.elapsed() < Duration::from_secs(60 * minutes),
        None => rounds < 4,
    }
}

#[test]
fn writers_make_no_drift_and_hide_none() {
    beside_writers(None);
}

#[test]
fn writers_make_no_drift_and_hide_none_where_a_slot_follows_them() {
    beside_writers(Some("slot"));
}

#[test]
fn writers_make_no_drift_and_hide_none_where_triggers_follow_them() {
    beside_writers(Some("triggers"));
}

/// Looks beside writers, with a table that is read whole each time or followed by a feed; the other side has triggers then.
fn beside_writers(feed: Option<&str>) {
    let (server, place) = (Server::with_slots(), Place::new());
    server.sql("CREATE TABLE t (id bigint PRIMARY KEY, v text)");
    let file = place.path("b.db");
    let lite = rusqlite::Connection::open(&file).expect("a database");
    lite.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
        .expect("statements");
    let (stop, written, late) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(BTreeSet::new()));
    let (a, b) = (server.table("reknit", "t"), "sqlite:b.db");
    if let Some(feed) = feed {
        for (table, with, feed) in [(a.as_str(), b, feed), (b, &a, "triggers")] {
            place.run_args(&["index", "build", table, "--with", with, "--feed", feed, "--apply"]).ok();
        }
    }
    let mut claimed = BTreeSet::new();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (server, file, stop, written, late) = (&server, &file, &stop, &written, &late);
            scope.spawn(move || {
                let mut a = server.client();
                let b = rusqlite::Connection::open(file).expect("a database");
                b.busy_timeout(Duration::from_secs(60)).expect("set");
                let mut draw = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(writer + 1);
                while !stop.load(Ordering::Relaxed) {
                    draw ^= draw << 13;
                    draw ^= draw >> 7;
                    draw ^= draw << 17;
                    // Each key has one writer, so that the two sides are written in one order.
                    let id = ((draw >> 20) % KEYS * WRITERS + writer) as i64;
                    let v = format!("{draw:x}");
                    let begun = Instant::now();
                    // First one side, a moment later the other: deletes too.
                    if draw.is_multiple_of(5) {
                        a.execute("DELETE FROM t WHERE id = $1", &[&id]).expect("deleted");
                        b.execute("DELETE FROM t WHERE id = ?", [id]).expect("deleted");
                    } else {
                        let upsert = "INSERT INTO t VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = $2";
                        a.execute(upsert, &[&id, &v]).expect("written");
                        let upsert = "INSERT INTO t VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET v = ?2";
                        b.execute(upsert, rusqlite::params![id, v]).expect("written");
                    }
                    // One that had to wait for its turn stood still in between.
                    if begun.elapsed() > SETTLE / 2 {
                        late.lock().expect("no panic").insert(id.to_string());
                    }
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = Stop(&stop);
        let begun = Instant::now();
        let mut rounds = 0;
        while goes_on(rounds, begun) {
            let was = written.load(Ordering::Relaxed);
            let looked = place.json(&format!("diff {a} {b}"));
            claimed.extend(stable(&looked));
            server.sql(&format!("INSERT INTO t VALUES ({LOST}, 'lost')"));
            let looked = place.json(&format!("diff {b} {a}")).exits(1);
            assert!(feed.is_none() || !looked.err.contains("read whole"), "{}", looked.err);
            let found = stable(&looked);
            assert!(found.iter().any(|key| key == LOST), "what was lost is found: {}", looked.out);
            claimed.extend(found.into_iter().filter(|key| key != LOST));
            server.sql(&format!("DELETE FROM t WHERE id = {LOST}"));
            assert!(written.load(Ordering::Relaxed) > was, "they write");
            rounds += 1;
        }
        println!("{rounds} rounds beside {} writes", written.load(Ordering::Relaxed));
    });
    // All writers have ended, so that those which had to wait have said so.
    let late = late.into_inner().expect("no panic");
    let wrong: Vec<&String> = claimed.iter().filter(|key| !late.contains(*key)).collect();
    assert_eq!(wrong, Vec::<&String>::new(), "these were in flight, and reported as drift");
    place.run_args(&["check", &a, b]).ok();
}

/// The keys of differences that stood still.
fn stable(looked: &Ran) -> Vec<String> {
    let objects = looked.objects();
    let stable = objects.iter().filter(|object| object["state"] == json!("stable"));
    stable.map(|object| object["key"].as_str().expect("a key").to_string()).collect()
}
