//! What PostgreSQL runs for a command or a run of a job ends at the server when that ends, also while it has nothing to send.

use crate::daemon::{Daemon, until};
use crate::harness::Place;
use crate::jobs::wait;
use crate::server::Server;

/// Two tables, and a condition that is judged for an hour.
fn slow() -> (Server, Place, [String; 2]) {
    let server = Server::start();
    server.sql(
        "CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3600); RETURN true; END';
         CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (LIKE a INCLUDING ALL);
         ALTER TABLE a ALTER v SET STORAGE PLAIN; INSERT INTO a SELECT i, repeat('x', 7000) FROM generate_series(1, 1500) AS i",
    );
    let sides = ["a", "b"].map(|table| server.table("reknit", table));
    (server, Place::new(), sides)
}

/// Statements of Reknit that the server runs.
fn running(server: &Server) -> i64 {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reknit' AND state = 'active'";
    server.client().query_one(query, &[]).expect("a row").get(0)
}

#[test]
fn a_run_that_is_cancelled_leaves_no_statement_behind() {
    let (server, place, [a, b]) = slow();
    std::fs::create_dir_all(place.path("home")).expect("a home");
    place.file("home/config.toml", format!("[job.look]\na = '{a}'\nb = '{b}'\nwhere = 'slow()'\n"));
    let _daemon = Daemon::start(&place, "home", &[]);
    place.run("jobs run look").ok();
    until(|| running(&server) > 0);
    place.run("jobs cancel look").ok();
    wait(&place, "look", |job| job["verdict"] == "cancelled");
    until(|| running(&server) == 0);
}

#[test]
fn a_process_that_was_killed_leaves_no_statement_behind() {
    let (server, place, [a, b]) = slow();
    let mut command =
        place.command(&["check", &a, &b, "--where", "slow()", "--readers", "3"]).spawn().expect("the binary");
    until(|| running(&server) == 3);
    command.kill().expect("killed");
    command.wait().expect("its end");
    until(|| running(&server) == 0);
}
