//! A table that several read, and that somebody waits to change when the others come: he waits for the first, and they for him.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use crate::daemon::until;
use crate::harness::{Place, Ran};
use crate::server::Server;

/// What a first reader says before it asks others to join.
const LAST_ALONE: &[u8] = b"pg_export_snapshot";

/// A door before a server, which shuts behind the first reader.
struct Door {
    at: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    shut: bool,
    waiting: usize,
}

impl Door {
    fn before(socket: PathBuf) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (at, state) = (listener.local_addr().expect("an address"), Arc::<(Mutex<State>, Condvar)>::default());
        let doors = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (doors, socket) = (doors.clone(), socket.clone());
                std::thread::spawn(move || pass(stream, &socket, &doors));
            }
        });
        Door { at, state }
    }

    fn open(&self) {
        self.state.0.lock().expect("no panic").shut = false;
        self.state.1.notify_all();
    }

    fn waiting(&self) -> usize {
        self.state.0.lock().expect("no panic").waiting
    }
}

/// Opens it when it is dropped.
struct Opens<'d>(&'d Door);

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Nobody minds how it ends.
fn pass(mut client: TcpStream, socket: &PathBuf, doors: &(Mutex<State>, Condvar)) -> Option<()> {
    {
        let mut state = doors.0.lock().ok()?;
        state.waiting += 1;
        let mut state = doors.1.wait_while(state, |state| state.shut).ok()?;
        state.waiting -= 1;
    }
    let mut server = UnixStream::connect(socket).ok()?;
    let (mut answers, mut back) = (server.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        back.shutdown(Shutdown::Both)
    });
    let mut said = [0; 8192];
    loop {
        let length = client.read(&mut said).ok().filter(|length| *length > 0);
        let Some(length) = length else { return server.shutdown(Shutdown::Both).ok() };
        if said[..length].windows(LAST_ALONE.len()).any(|part| part == LAST_ALONE) {
            doors.0.lock().ok()?.shut = true;
        }
        server.write_all(&said[..length]).ok()?;
    }
}

#[test]
fn a_change_that_waits_for_the_first_of_several_readers_holds_up_nobody() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY, v text); ALTER TABLE a ALTER v SET STORAGE PLAIN;
         INSERT INTO a SELECT i, repeat('x', 3000) FROM generate_series(1, 6000) AS i",
    );
    let door = Door::before(server.dir().join(".s.PGSQL.5432"));
    let table = format!("postgres://reknit@{}/postgres/a?sslmode=disable", door.at);
    let reading = place.command(&["index", "build", &table, "--readers", "3"]).spawn().expect("the binary");
    until(|| door.waiting() == 2);
    std::thread::scope(|scope| {
        // Whatever fails here, nobody waits at the door.
        let opens = Opens(&door);
        scope.spawn(|| server.sql("ALTER TABLE a ADD COLUMN w text"));
        let mut looking = server.client();
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'";
        until(|| looking.query_one(waits, &[]).expect("a row").get::<_, i64>(0) == 1);
        drop(opens);
        Ran::of(reading.wait_with_output().expect("its end")).ok().says(&["6,000 rows indexed"]);
    });
    assert_eq!(door.waiting(), 0);
    server.sql("UPDATE a SET w = v WHERE id = 7");
}
