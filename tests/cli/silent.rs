//! Servers that take connections and then say nothing: whoever waits for them ends, and holds up no other.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::daemon::{Daemon, until};
use crate::harness::Place;
use crate::jobs::wait;

/// A server that greets whoever connects as PostgreSQL does, obeys two statements, and then listens without a word.
struct Silent {
    at: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Silent {
    fn start() -> Silent {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let streams = Arc::<Mutex<Vec<TcpStream>>>::default();
        let kept = streams.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                kept.lock().expect("no panic").push(stream.try_clone().expect("a handle"));
                std::thread::spawn(move || greet(stream));
            }
        });
        Silent { at, streams }
    }

    fn hang_up(&self) {
        let streams = std::mem::take(&mut *self.streams.lock().expect("no panic"));
        streams.iter().for_each(|stream| drop(stream.shutdown(std::net::Shutdown::Both)));
    }

    fn is_asked(&self) -> bool {
        !self.streams.lock().expect("no panic").is_empty()
    }
}

/// Nobody minds how it ends.
fn greet(mut stream: TcpStream) -> Option<()> {
    let ready = b"Z\0\0\0\x05I";
    // The first message has no kind before its length.
    message(&mut stream, 0)?;
    stream.write_all(&[b"R\0\0\0\x08\0\0\0\0", &ready[..]].concat()).ok()?;
    for _ in 0..2 {
        message(&mut stream, 1)?;
        stream.write_all(&[b"C\0\0\0\x08SET\0", &ready[..]].concat()).ok()?;
    }
    while stream.read(&mut [0; 1024]).ok()? > 0 {}
    Some(())
}

fn message(stream: &mut TcpStream, kind: usize) -> Option<()> {
    let mut head = vec![0; kind + 4];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes(head[kind..].try_into().ok()?);
    stream.read_exact(&mut vec![0; length as usize - 4]).ok()
}

/// Tables that are equal, compared each second, and a job that waits for that server. One runs at a time.
fn place(silent: &Silent, serve: &str) -> Place {
    let place = Place::new();
    for file in ["a.db", "b.db"] {
        let database = rusqlite::Connection::open(place.path(file)).expect("a database");
        let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'same');";
        database.execute_batch(table).expect("statements");
    }
    std::fs::create_dir_all(place.path("home")).expect("a home");
    let fine = "[job.fine]\na = 'sqlite:../a.db/t'\nb = 'sqlite:../b.db/t'\nevery = '1s'\n";
    let stuck =
        format!("[job.stuck]\na = 'postgres://me@{}/db/t?sslmode=disable'\nb = 'sqlite:../b.db/u'\n", silent.at);
    place.file("home/config.toml", format!("[serve]\njobs_at_once = 1\n{serve}{fine}{stuck}"));
    place
}

fn runs(job: &Value) -> u64 {
    job["runs"].as_u64().expect("a number")
}

#[test]
fn a_run_whose_database_says_nothing_ends_when_it_is_to_and_the_others_begin() {
    let silent = Silent::start();
    let place = place(&silent, "max_run = '5s'\n");
    let daemon = Daemon::start(&place, "home", &[]);
    place.run("jobs run stuck").ok();
    until(|| silent.is_asked());
    wait(&place, "stuck", |job| job["verdict"] == "undetermined");
    place.run("jobs show stuck").ok().says(&["it was told to end and had not 20 s later", "[job.late]"]);
    let before = runs(&wait(&place, "fine", |_| true));
    wait(&place, "fine", |job| runs(job) > before + 1);
    place.run("status").says(&["late runs of stuck: told to end", "run 1"]);
    // Its thread ends with what it waits for, and that is news of nothing.
    silent.hang_up();
    until(|| !place.run("status").out.contains("late runs of stuck"));
    assert_eq!(runs(&wait(&place, "stuck", |_| true)), 1);
    assert!(daemon.end().success());
}

#[test]
fn a_run_that_is_cancelled_while_its_database_says_nothing_is_over() {
    let silent = Silent::start();
    let place = place(&silent, "");
    let _daemon = Daemon::start(&place, "home", &[]);
    place.run("jobs run stuck").ok();
    until(|| silent.is_asked());
    place.run("jobs cancel stuck").ok();
    wait(&place, "stuck", |job| job["verdict"] == "cancelled");
    let before = runs(&wait(&place, "fine", |_| true));
    wait(&place, "fine", |job| runs(job) > before + 1);
}

#[test]
fn a_server_that_never_greets_is_not_waited_for_for_ever() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("an address");
    let place = Place::new();
    let ran = place.run(&format!("check postgres://me@{at}/db/t?sslmode=disable sqlite:x.db/t"));
    ran.exits(2).says(&["took the connection and said nothing for 15 s"]);
}
