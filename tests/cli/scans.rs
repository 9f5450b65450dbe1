//! Reading tables whole: what it costs is told first, and it is left out where it is not wanted.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use rusqlite::Connection;

use crate::daemon::until;
use crate::harness::{Place, Ran};
use crate::server::Server;

fn sql(place: &Place, file: &str, statements: &str) {
    let connection = Connection::open(place.path(file)).expect("a database");
    connection.execute_batch(statements).expect("statements");
}

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
    WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 1000) INSERT INTO t SELECT x, 'v' || x FROM i;";

fn pair() -> Place {
    let place = Place::new();
    for file in ["a.db", "b.db"] {
        sql(&place, file, T);
    }
    place
}

#[test]
fn without_an_index_a_scan_is_told_of_first_and_left_out_if_asked() {
    let place = pair();
    sql(&place, "a.db", "ANALYZE");
    let refused = place.run("check sqlite:a.db sqlite:b.db --no-scan").exits(3);
    for word in ["a.db/t would be read whole, since it has no index yet: about 1,000 rows", "b.db/t", "rows a second"] {
        assert!(refused.err.contains(word), "{word}: {}", refused.err);
    }
    assert!(refused.err.contains("[database.no-scan]"), "{}", refused.err);
    place.run("index status sqlite:a.db").fails("database.no-index");
    let json = place.json("diff sqlite:a.db sqlite:b.db --no-scan").exits(3).summary();
    assert_eq!(json["error"], "database.no-scan");
    let checked = place.run("check sqlite:a.db sqlite:b.db").ok();
    assert!(checked.err.contains("a.db/t is scanned, since it has no index yet: about 1,000 rows"), "{}", checked.err);
    // The second time it is known how long it takes, and not worth a word.
    let checked = place.run("check sqlite:a.db sqlite:b.db").ok();
    assert_eq!(checked.err, "");
    // An index without a feed does not spare the scan.
    let refused = place.run("check sqlite:a.db sqlite:b.db --no-scan").exits(3);
    assert!(refused.err.contains("it has no feed") && refused.err.contains("as it took last"), "{}", refused.err);
    place.run("explain sqlite:a.db").ok().says(&["reading it whole: about 1,000 rows"]);
    place.run("init s").ok();
    place.run("check s s --no-scan").fails("usage.terms");
}

#[test]
fn with_feeds_nothing_is_read_whole_until_there_is_a_gap() {
    let place = pair();
    for table in ["sqlite:a.db", "sqlite:b.db/t"] {
        place.run_args(&["index", "build", table, "--feed", "triggers", "--apply"]).ok();
    }
    sql(&place, "a.db", "UPDATE t SET v = 'x' WHERE id = 7");
    place.run("diff sqlite:a.db sqlite:b.db/t --no-scan --settle 0ms").exits(1).says(&["7"]);
    place.run("repair sqlite:a.db sqlite:b.db/t --to b --no-scan --no-probe --apply").ok();
    // A file whose schema has changed is one that the feed may have missed something of.
    sql(&place, "b.db", "CREATE TABLE other (x)");
    let refused = place.run("check sqlite:a.db sqlite:b.db/t --no-scan").exits(3);
    assert!(refused.err.contains("b.db/t would be read whole, since its feed has a gap"), "{}", refused.err);
    assert!(!refused.err.contains("a.db/t"), "{}", refused.err);
    // And the one that was told of is still there for who reads it whole.
    place.run("check sqlite:a.db sqlite:b.db/t").ok();
    place.run("check sqlite:a.db sqlite:b.db/t --no-scan").ok();
}

/// A key of two columns, one of them text of all kinds, in both databases.
fn composite(rows: u32) -> (Place, Server, String) {
    let (place, server) = (Place::new(), Server::start());
    server.sql(&format!(
        "CREATE TABLE t (k text, n int, v text, PRIMARY KEY (k, n)); INSERT INTO t \
         SELECT CASE i % 3 WHEN 0 THEN 'it''s' WHEN 1 THEN 'a\\b' ELSE 'k' || i END, i, 'v' || i \
         FROM generate_series(1, {rows}) i; ANALYZE t"
    ));
    sql(
        &place,
        "b.db",
        &format!(
            "CREATE TABLE t (k TEXT NOT NULL, n INT NOT NULL, v TEXT, PRIMARY KEY (k, n)); \
             WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < {rows}) INSERT INTO t \
             SELECT CASE i % 3 WHEN 0 THEN 'it''s' WHEN 1 THEN 'a\\b' ELSE 'k' || i END, i, 'v' || i FROM i"
        ),
    );
    let table = server.table("reknit", "t");
    (place, server, table)
}

#[test]
fn what_is_read_in_slices_is_what_is_read_at_once() {
    let (place, server, table) = composite(7_001);
    let slices = |more: &[&str]| {
        let mut args = vec!["check", table.as_str(), "sqlite:b.db", "--chunk-time", "1ms"];
        args.extend(more);
        place.run_args(&args)
    };
    slices(&[]).ok().says(&["in sync: 7,001 records"]);
    server.sql("UPDATE t SET v = 'x' WHERE n = 6999; DELETE FROM t WHERE n = 1");
    slices(&[]).exits(1);
    place.run_args(&["diff", &table, "sqlite:b.db"]).exits(1).says(&["2 changed in a"]);
    // A transaction may not last; slices are what helps.
    let long = place.run_args(&["check", &table, "sqlite:b.db", "--max-snapshot", "1ms", "--chunk-time", "1ms"]);
    long.exits(1);
    slices(&["--max-rate", "0"]).fails("usage.pace");
    slices(&["--max-snapshot", "soon"]).fails("usage.duration");
}

/// A command that says on stderr that it waits, before the way is made free.
fn waits(place: &Place, args: &[&str], why: &str, free: impl FnOnce()) -> Ran {
    let mut child: Child = place.command(args).spawn().expect("the binary");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut heard = String::new();
    while !heard.contains(why) {
        let line = lines.next().unwrap_or_else(|| panic!("{args:?} ended, having said {heard}")).expect("a line");
        heard += &line;
        heard.push('\n');
    }
    assert_eq!(child.try_wait().expect("its state"), None);
    free();
    lines.for_each(|line| {
        heard += &line.expect("a line");
        heard.push('\n');
    });
    let mut ran = Ran::of(child.wait_with_output().expect("its end"));
    ran.err = heard;
    ran
}

#[test]
fn a_scan_waits_for_a_file_to_go_and_for_others_to_end() {
    let (place, server, table) = composite(500);
    let pause = place.file("pause", "");
    let ran = waits(&place, &["check", &table, "sqlite:b.db", "--pause-file", "pause"], "waits: ", || {
        std::fs::remove_file(&pause).expect("removed");
    });
    ran.ok().says(&["pause exists", "goes on", "in sync"]);
    let mut other = server.client();
    other.batch_execute("BEGIN; SELECT 1").expect("a transaction");
    let args = ["check", &table, "sqlite:b.db", "--max-active", "0"];
    let ran =
        waits(&place, &args, "other transactions are open", move || other.batch_execute("COMMIT").expect("ended"));
    ran.ok().says(&["goes on", "in sync"]);
    // Somebody who may do nothing but read is told as much.
    server.sql("CREATE ROLE looks LOGIN; GRANT SELECT ON t TO looks");
    let looks = server.table("looks", "t");
    place.run_args(&["check", &looks, "sqlite:b.db", "--max-active", "100", "--max-replica-lag", "1GB"]).ok();
}

#[test]
fn a_scan_waits_for_replicas_that_are_behind() {
    let (place, server, table) = composite(500);
    let replica = server.replica();
    let mut behind = replica.client();
    behind.batch_execute("SELECT pg_wal_replay_pause()").expect("paused");
    while !behind.query_one("SELECT pg_get_wal_replay_pause_state() = 'paused'", &[]).expect("asked").get::<_, bool>(0)
    {
        std::thread::yield_now();
    }
    server.sql("SELECT pg_logical_emit_message(true, 'filler', repeat('x', 200000))");
    let args = ["check", &table, "sqlite:b.db", "--max-replica-lag", "100kB"];
    let ran = waits(&place, &args, "bytes behind, --max-replica-lag 100000", move || {
        behind.batch_execute("SELECT pg_wal_replay_resume()").expect("resumed");
    });
    ran.ok().says(&["goes on", "in sync: 500 records"]);
}

#[test]
fn what_is_read_at_once_ends_when_a_transaction_has_lasted_long_enough() {
    let (place, _server, table) = composite(20_000);
    // By another key than its own a table of PostgreSQL is never read in slices; one of SQLite only if that is asked for.
    let by_key = ["check", &table, "sqlite:b.db", "--key", "n", "--max-snapshot", "1ms"];
    let sqlite = ["index", "build", "sqlite:b.db", "--max-snapshot", "1ms"];
    for args in [&by_key[..], &sqlite] {
        place.run_args(args).fails("database").says(&["in one transaction has lasted", "nothing was kept of it"]);
    }
    place.run("index build sqlite:b.db --max-snapshot 1ms --chunk-time 1ms").ok().says(&["20,000 rows indexed"]);
}

#[test]
fn who_has_no_server_is_told_what_brakes_in_its_place() {
    let place = pair();
    for asked in ["--max-active 5", "--max-replica-lag 1MB"] {
        let refused = place.run(&format!("check sqlite:a.db sqlite:b.db {asked}")).fails("usage.pace");
        refused.says(&[asked.split(' ').next().expect("a flag"), "--max-load", "nothing was read"]);
        place.run(&format!("index build sqlite:a.db {asked}")).fails("usage.pace");
    }
    // So much no machine has to do.
    place.run("check sqlite:a.db sqlite:b.db --max-load 100000").ok().says(&["in sync: 1,000 records"]);
    for wrong in ["0", "much", "-1"] {
        place.run(&format!("check sqlite:a.db sqlite:b.db --max-load={wrong}")).fails("usage.pace");
    }
}

#[test]
fn a_rate_is_held() {
    let (place, _server, table) = composite(3_000);
    let began = Instant::now();
    place.run_args(&["index", "build", &table, "--max-rate", "3000"]).ok();
    // What was allowed is what was read, save for the last half of a second.
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
}

#[test]
fn what_is_written_between_two_slices_is_found_by_the_feed() {
    let (place, server, table) = composite(1_000);
    let args =
        ["index", "build", &table, "--feed", "triggers", "--apply", "--max-rate", "800", "--with", "sqlite:b.db"];
    let mut child = place.command(&args).spawn().expect("the binary");
    let mut client = server.client();
    let mut written = 0;
    while child.try_wait().expect("its state").is_none() {
        written += 1;
        client.execute("UPDATE t SET v = $1 WHERE n IN (1, 1000)", &[&format!("w{written}")]).expect("written");
    }
    Ran::of(child.wait_with_output().expect("its end")).ok();
    place.run_args(&["index", "build", "sqlite:b.db", "--feed", "triggers", "--apply", "--with", &table]).ok();
    let differ = place.json(&format!("diff {table} sqlite:b.db --no-scan --settle 0ms")).exits(1);
    let keys = differ.objects().iter().filter(|object| object["t"] == "difference").count();
    assert_eq!(keys, 2, "{}", differ.out);
}

#[test]
fn a_replica_is_read_once_it_has_come_as_far_as_its_primary() {
    let (place, server, table) = composite(500);
    let replica = server.replica();
    let from = replica.table("reknit", "t");
    place.run_args(&["check", &table, "sqlite:b.db", "--scan-from", &from]).ok().says(&["in sync: 500 records"]);
    let mut behind = replica.client();
    behind.batch_execute("SELECT pg_wal_replay_pause()").expect("paused");
    let paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'";
    server.sql("UPDATE t SET v = 'x' WHERE n = 7");
    while !behind.query_one(paused, &[]).expect("asked").get::<_, bool>(0) {
        std::thread::yield_now();
    }
    let args = ["diff", &table, "sqlite:b.db", "--scan-from", &from, "--settle", "0ms"];
    let mut child = place.command(&args).spawn().expect("the binary");
    let looks = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reknit'";
    while behind.query_one(looks, &[]).expect("asked").get::<_, i64>(0) == 0 {
        assert_eq!(child.try_wait().expect("its state"), None, "it ended before it could see that");
        std::thread::yield_now();
    }
    behind.batch_execute("SELECT pg_wal_replay_resume()").expect("resumed");
    Ran::of(child.wait_with_output().expect("its end")).exits(1).says(&["1 changed in a"]);
    // By a name, of a database, of whole databases and by a job.
    let database = from.strip_suffix("/t").expect("a table");
    place.run("config init").ok();
    let config = format!(
        "[store.twin]\nurl = '{database}'\n[store.own]\nurl = '{table}'\n[job.look]\na = 'own'\nb = 'sqlite:../b.db/t'\n\
         do = 'diff'\nsettle = '0ms'\nscan_from = '@twin/t'"
    );
    place.file("home/config.toml", config);
    for asked in ["@twin", "@twin/t"] {
        let args = ["diff", "@own", "sqlite:b.db", "--settle", "0ms", "--scan-from", asked];
        place.run_args(&args).exits(1).says(&["1 changed in a"]);
    }
    place.run("index build @own --scan-from @twin").ok().says(&["500 rows indexed"]);
    place.run("run look").exits(1).says(&["1 changed in a"]);
    let whole = table.strip_suffix("/t").expect("a table");
    let args = ["check", whole, "sqlite:b.db", "--settle", "0ms", "--scan-from", "@twin"];
    place.run_args(&args).exits(1).says(&["1 table: 1 with differences"]);
    place.run("check @own sqlite:b.db --scan-from @twn").fails("config.store").says(&["did you mean `twin`?"]);
    let other = Server::start();
    other.sql("CREATE TABLE t (k text, n int, v text, PRIMARY KEY (k, n))");
    let foreign = other.table("reknit", "t");
    place.run_args(&["check", &table, "sqlite:b.db", "--scan-from", &foreign]).fails("database.no-replica");
}

/// Ends what goes on beside a test, also where that fails.
struct Ended<'d>(&'d AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Rows that move while they are read, also from part to part, are read once by all that read, since these see one snapshot.
#[test]
fn several_readers_see_one_snapshot() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a (id int, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
         CREATE TABLE a0 PARTITION OF a FOR VALUES IN (0); CREATE TABLE a1 PARTITION OF a FOR VALUES IN (1);
         ALTER TABLE a ALTER v SET STORAGE PLAIN; ALTER TABLE a0 ALTER v SET STORAGE PLAIN; ALTER TABLE a1 ALTER v SET STORAGE PLAIN;
         INSERT INTO a SELECT i, i % 2, repeat('x', 3000) FROM generate_series(1, 6000) AS i",
    );
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    let build = |readers: &str| place.run_args(&["index", "build", &a, "--key", "id", "--readers", readers]);
    build("17").exits(2);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = server.client();
            for nth in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                client.execute("UPDATE a SET part = 1 - part WHERE id % 40 = $1", &[&(nth % 40)]).expect("moved");
            }
        });
        let _ended = Ended(&done);
        (0..4).for_each(|_| drop(build("3").ok().says(&["6,000 rows indexed"])));
    });
    server.sql(
        "CREATE TABLE b AS SELECT * FROM a; ALTER TABLE b ADD PRIMARY KEY (id, part); DELETE FROM b WHERE id = 77",
    );
    for readers in ["1", "2", "16"] {
        let ran = place.run_args(&["diff", &a, &b, "--key", "id", "--readers", readers, "--settle", "0ms"]).exits(1);
        ran.says(&["- 77\tonly in a", "1 only in a"]);
    }
}

/// A part that is emptied would be read as empty by whoever has seen the table before: it cannot be, until all was read.
#[test]
fn what_several_read_stays_as_they_saw_it() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE FUNCTION gate() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN true; END';
         CREATE TABLE a (id int, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part)",
    );
    for part in 0..12 {
        server.sql(&format!(
            "CREATE TABLE a{part} PARTITION OF a FOR VALUES IN ({part}); ALTER TABLE a{part} ALTER v SET STORAGE PLAIN;
             INSERT INTO a SELECT i, {part}, repeat('x', 3000) FROM generate_series(1, 350) AS i"
        ));
    }
    let (mut gate, mut other) = (server.client(), server.client());
    gate.execute("SELECT pg_advisory_lock(7)", &[]).expect("closed");
    let table = server.table("reknit", "a");
    let reading =
        place.command(&["index", "build", &table, "--where", "gate()", "--readers", "3"]).spawn().expect("the binary");
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reknit' AND wait_event_type = 'Lock'";
    until(|| other.query_one(waiting, &[]).expect("a row").get::<_, i64>(0) == 3);
    other.batch_execute("SET lock_timeout = '200ms'").expect("set");
    for part in [0, 6, 11] {
        let emptied = other.batch_execute(&format!("TRUNCATE a{part}")).expect_err("it is read");
        assert_eq!(emptied.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{emptied}");
    }
    gate.execute("SELECT pg_advisory_unlock(7)", &[]).expect("open");
    Ran::of(reading.wait_with_output().expect("its end")).ok().says(&["4,200 rows indexed"]);
}

/// A part whose schema this user may not use can be read by the table's name alone, and one whose detaching was begun is none any more
/// for whoever begins to read.
#[test]
fn parts_that_cannot_be_read_by_their_names_are_read_by_that_of_the_table() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE ROLE reader LOGIN; CREATE SCHEMA hidden;
         CREATE TABLE a (id int, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
         CREATE TABLE hidden.a0 PARTITION OF a FOR VALUES IN (0); CREATE TABLE a1 PARTITION OF a FOR VALUES IN (1);
         ALTER TABLE hidden.a0 ALTER v SET STORAGE PLAIN; ALTER TABLE a1 ALTER v SET STORAGE PLAIN;
         INSERT INTO a SELECT i, i % 2, repeat('x', 3000) FROM generate_series(1, 6000) AS i;
         GRANT SELECT ON a, hidden.a0, a1 TO reader",
    );
    let build = |user: &str| place.run_args(&["index", "build", &server.table(user, "a"), "--readers", "3"]).ok();
    build("reader").says(&["6,000 rows indexed"]);
    let (mut holder, mut other) = (server.client(), server.client());
    let mut holds = holder.transaction().expect("a transaction");
    holds.execute("SELECT FROM a LIMIT 1", &[]).expect("read");
    std::thread::scope(|scope| {
        let detaching = scope.spawn(|| {
            let cut = server.client().batch_execute("ALTER TABLE a DETACH PARTITION a1 CONCURRENTLY");
            assert_eq!(cut.expect_err("it waits for whoever has read").code(), Some(&SqlState::QUERY_CANCELED));
        });
        let waits = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%DETACH%'";
        until(|| other.query_one(&format!("SELECT count(*) {waits}"), &[]).expect("a row").get::<_, i64>(0) == 1);
        other.batch_execute(&format!("SELECT pg_cancel_backend(pid) {waits}")).expect("cut");
        detaching.join().expect("its end");
    });
    drop(holds);
    build("reknit").says(&["3,000 rows indexed"]);
}
