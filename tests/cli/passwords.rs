//! Passwords of PostgreSQL: where each is found, which counts, and that none is ever printed.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Place, Ran};
use crate::server::{Server, Setup};

const PASSWORD: &str = "s3cret:w\\rd";

fn guarded() -> Server {
    let server = Server::with(&Setup { password: PASSWORD, ..Setup::default() });
    server.sql(
        "CREATE TABLE a (id integer PRIMARY KEY, v text); INSERT INTO a SELECT i, 'v' FROM generate_series(1, 50) AS i;
         CREATE TABLE b (id integer PRIMARY KEY, v text); INSERT INTO b SELECT i, 'w' FROM generate_series(1, 50) AS i",
    );
    server
}

fn secret(place: &Place, name: &str, text: &str) {
    let file = place.file(name, text);
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}

#[track_caller]
fn hidden(ran: Ran) -> Ran {
    for secret in [PASSWORD, "s3cret", "wrong-one"] {
        assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "{ran:?}");
    }
    ran
}

#[test]
fn a_password_is_found_where_libpq_looks() {
    let (server, mut place) = (guarded(), Place::new());
    let table = server.table("reknit", "a");
    let explain = |place: &Place| hidden(place.run_args(&["explain", &table]));
    explain(&place).fails("database").says(&["asks for a password", "PGPASSWORD", "password_file"]);
    place.vars = vec![("PGPASSWORD", PASSWORD.into())];
    explain(&place).ok();
    place.vars = vec![("PGPASSWORD", "wrong-one".into())];
    explain(&place).fails("database").says(&["password authentication failed"]);
    secret(&place, "passwords", &format!("other:*:*:*:wrong-one\n{}", server.passfile()));
    place.vars = vec![("PGPASSFILE", place.path("passwords").display().to_string())];
    explain(&place).ok();
    std::fs::set_permissions(place.path("passwords"), std::fs::Permissions::from_mode(0o640)).expect("a mode");
    explain(&place).fails("database").says(&["others than its owner may; chmod 600", "asks for a password"]);
    let ran = hidden(place.run_args(&["explain", &table, &server.table("reknit", "b")]));
    assert_eq!(ran.err.matches("chmod 600").count(), 1, "{ran:?}");
    secret(&place, ".pgpass", &server.passfile());
    place.vars = vec![("HOME", place.path("").display().to_string())];
    explain(&place).ok();
    place.vars.push(("PGPASSWORD", "wrong-one".into()));
    explain(&place).fails("database");
    // The address names no user, the environment does.
    let (without, user) = (table.replace("reknit@", ""), ("PGUSER", "reknit".to_string()));
    place.vars = vec![("PGPASSWORD", PASSWORD.into()), user];
    hidden(place.run_args(&["explain", &without])).ok();
}

#[test]
fn a_password_that_is_typed_counts_first_is_warned_about_once_and_shown_nowhere() {
    let (server, mut place) = (guarded(), Place::new());
    place.vars = vec![("PGPASSWORD", "wrong-one".into())];
    let typed = |table| server.table("reknit", table).replace("reknit@", "reknit:s3cret%3Aw%5Crd@");
    let ran = hidden(place.run_args(&["repair", &typed("a"), &typed("b"), "--to", "b", "--apply", "--no-probe"])).ok();
    assert_eq!(ran.err.matches("anyone who lists processes").count(), 1, "{ran:?}");
    hidden(place.run_args(&["diff", &typed("a"), &typed("b")])).ok().says(&["in sync: 50"]);
    let quiet = hidden(place.run_args(&["check", &typed("a"), &typed("b"), "--quiet"])).ok();
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    hidden(place.run("status")).ok();
    hidden(place.run_args(&["runs", "undo", &typed("b"), "1"])).ok();
    let wrong = server.table("reknit", "a").replace("reknit@", "reknit:wrong-one@");
    hidden(place.run_args(&["explain", &wrong])).fails("database");
    hidden(place.run_args(&["explain", &format!("{}?password=s3cret", server.table("reknit", "a"))])).fails("database");
}

#[test]
fn a_store_tells_its_password_by_a_file_a_variable_or_a_command() {
    let (server, mut place) = (guarded(), Place::new());
    std::fs::create_dir_all(place.path("home")).expect("a home");
    secret(&place, "home/secret", &format!("{PASSWORD}\n"));
    place.vars = vec![("PGPASSWORD", "wrong-one".into())];
    let database = server.table("reknit", "a").trim_end_matches("/a").to_string();
    let configure = |place: &Place, how: &str| {
        let jobs = "[job.orders]\na = '@pg/a'\nb = '@pg/b'\nsettle = '0ms'";
        place.file("home/config.toml", format!("[store.pg]\nurl = '{database}'\n{how}\n{jobs}"));
    };
    configure(&place, "password_file = 'secret'");
    hidden(place.run("run orders")).exits(1).says(&["about"]);
    hidden(place.run("repair @pg/a @pg/b --to b --apply --no-probe")).ok().says(&["50 to b"]);
    hidden(place.run("config check")).ok().says(&["password from the file", "home/secret"]);
    // Also where the address is typed out.
    hidden(place.run_args(&["explain", &server.table("reknit", "a")])).ok();
    std::fs::set_permissions(place.path("home/secret"), std::fs::Permissions::from_mode(0o644)).expect("a mode");
    let ran = hidden(place.run("check @pg/a @pg/b")).ok();
    assert_eq!(ran.err.matches("chmod 600").count(), 1, "{ran:?}");
    // A command is asked once, and what it says is not told.
    configure(&place, "password_command = 'echo asked >> asked; cat home/secret; echo s3cret >&2'");
    hidden(place.run("check @pg/a @pg/b")).ok();
    assert_eq!(place.read("asked"), "asked\n");
    configure(&place, "password_command = 'echo s3cret; echo s3cret >&2; exit 7'");
    hidden(place.run("check @pg/a @pg/b")).fails("database.password").says(&["its password_command", "exit status: 7"]);
    configure(&place, "password_command = 'true'");
    hidden(place.run("check @pg/a @pg/b")).fails("database.password").says(&["is empty"]);
    configure(&place, "password_file = 'none'");
    hidden(place.run("check @pg/a @pg/b")).fails("database.password").says(&["none", "No such file"]);
    configure(&place, "password_env = 'DB_PASSWORD'");
    hidden(place.run("check @pg/a @pg/b")).fails("database.password").says(&["the variable DB_PASSWORD", "not set"]);
    place.vars.push(("DB_PASSWORD", PASSWORD.into()));
    hidden(place.run("check @pg/a @pg/b")).ok();
    configure(&place, "password_env = 'X'\npassword_file = 'secret'");
    hidden(place.run("check @pg/a @pg/b")).fails("config.malformed").says(&["in several ways", "config.toml:"]);
}
