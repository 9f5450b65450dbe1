//! What a look at two tables that their indexes follow asks of either database: rows by PostgreSQL's own count, pages by what SQLite
//! reads of its file, of which each holds one row.

use std::collections::BTreeSet;

use postgres::Client;
use rusqlite::Connection;

use crate::daemon::until;
use crate::harness::{Place, Ran};
use crate::server::Server;

/// Rows of each table; so many that PostgreSQL looks up by key what is sought.
const ROWS: usize = 40_000;
const DIFFERENT: usize = 100;

/// Rows of a table that were read by whoever has gone meanwhile.
fn rows_read(client: &mut Client) -> i64 {
    let here = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reknit'";
    until(|| client.query_one(here, &[]).expect("a row").get::<_, i64>(0) == 0);
    let read = "SELECT (seq_tup_read + idx_tup_fetch)::int8 FROM pg_stat_user_tables WHERE relname = 't'";
    client.query_one(read, &[]).expect("a row").get(0)
}

/// Pages that were read of a file, each once, by what `strace` has written down.
fn pages_read(log: &str, file: &str) -> usize {
    let read = log.lines().filter(|line| line.contains("pread64(") && line.contains(&format!("/{file}>")));
    read.filter_map(|line| line.rsplit_once(") =")?.0.rsplit_once(", "))
        .map(|(_, at)| at)
        .collect::<BTreeSet<_>>()
        .len()
}

#[test]
fn with_both_indexes_warm_only_what_differs_is_read_of_either_database() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, v text);
         INSERT INTO t SELECT i, repeat('x', 400) FROM generate_series(1, {ROWS}) AS i"
    ));
    server.sql("VACUUM ANALYZE t");
    let connection = Connection::open(place.path("b.db")).expect("a database");
    let rows = format!(
        "PRAGMA page_size = 512; CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
         WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < {ROWS})
         INSERT INTO t SELECT x, replace(hex(zeroblob(200)), '00', 'xx') FROM i;"
    );
    connection.execute_batch(&rows).expect("rows");
    let pages: usize = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a number");
    assert!(pages > ROWS, "each page holds one row: {pages}");
    let (a, b) = (server.table("reknit", "t"), "sqlite:b.db");
    for (table, with) in [(a.as_str(), b), (b, a.as_str())] {
        let build = ["index", "build", table, "--with", with, "--feed", "triggers", "--apply"];
        place.run_args(&build).ok();
    }
    place.run_args(&["check", &a, b]).ok();
    connection
        .execute_batch(&format!("UPDATE t SET v = v || 'y' WHERE id % {} = 0", ROWS / DIFFERENT))
        .expect("changed");
    drop(connection);
    // The feeds are read.
    place.run_args(&["check", &a, b, "--settle", "0ms"]).exits(1);
    let mut client = server.client();
    let before = rows_read(&mut client);
    let look = place.command(&["diff", &a, b, "--settle", "0ms"]);
    let mut traced = std::process::Command::new("strace");
    traced
        .args(["-f", "-y", "-s", "0", "-e", "trace=pread64,read", "-e", "signal=none", "-o"])
        .arg(place.path("calls"));
    traced.arg(look.get_program()).args(look.get_args()).current_dir(place.path(""));
    traced.env_clear().env("REKNIT_HOME", place.path("home"));
    let ran = Ran::of(traced.output().expect("strace, which Debian has in a package of that name")).exits(1);
    ran.says(&["differs: 100 changed in b"]);
    let rows = usize::try_from(rows_read(&mut client) - before).expect("it rises");
    assert!((DIFFERENT..=3 * DIFFERENT).contains(&rows), "{rows} rows of {ROWS} in PostgreSQL");
    let pages = pages_read(&place.read("calls"), "b.db");
    // Each row's page, and those of the tree that lead there.
    assert!((DIFFERENT..=3 * DIFFERENT).contains(&pages), "{pages} pages in SQLite, each with a row");
    println!("{DIFFERENT} of {ROWS} rows differ: {rows} rows and {pages} pages were read");
}
