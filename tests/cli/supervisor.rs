//! A daemon under systemd: what it tells its supervisor, and the unit that is shipped.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::harness::Place;

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/start/reknit.service");

/// The socket of a supervisor, and what came to it that no one has looked at.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn of(place: &mut Place, watchdog: Duration) -> Supervisor {
        let at = place.path("notify");
        let socket = UnixDatagram::bind(&at).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a deadline");
        place.vars.push(("NOTIFY_SOCKET", at.display().to_string()));
        place.vars.push(("WATCHDOG_USEC", watchdog.as_micros().to_string()));
        Supervisor(socket)
    }

    /// Waits for a message that says this, and gives all of it.
    fn hears(&self, word: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            let n = self.0.recv(&mut bytes).unwrap_or_else(|error| panic!("{word}: {error}"));
            let told = String::from_utf8_lossy(&bytes[..n]).into_owned();
            if told.lines().any(|line| line == word) {
                return told;
            }
        }
    }
}

#[test]
fn a_supervisor_hears_of_a_daemon_that_is_ready_alive_reading_again_and_ending() {
    let mut place = Place::with_store();
    let supervisor = Supervisor::of(&mut place, Duration::from_millis(200));
    let daemon = Daemon::start(&place, "home", &["s"]);
    let told = supervisor.hears("READY=1");
    assert!(told.contains("STATUS=stores: 1, jobs: 0"), "{told}");
    (0..3).for_each(|_| drop(supervisor.hears("WATCHDOG=1")));
    daemon.signal("-HUP");
    let told = supervisor.hears("RELOADING=1");
    assert!(told.contains("MONOTONIC_USEC="), "{told}");
    supervisor.hears("READY=1");
    daemon.signal("-TERM");
    supervisor.hears("STOPPING=1");
    assert_eq!(daemon.end().code(), Some(0));
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit_and_little_exposed() {
    let place = Place::new();
    let unit = std::fs::read_to_string(UNIT).expect("the unit");
    let installed = "/usr/local/bin/reknit";
    assert!(unit.contains(installed));
    let unit = unit.replace(installed, env!("CARGO_BIN_EXE_reknit"));
    let unit = place.file("reknit.service", unit);
    let analyze = |words: &[&str]| {
        let ran = Command::new("systemd-analyze").args(words).arg(&unit).output().expect("systemd-analyze");
        (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr))
    };
    // No page of the manual is installed here, and the documentation is not looked up.
    let (exit, said) = analyze(&["verify", "--man=no"]);
    assert_eq!((exit, said.as_str()), (Some(0), ""));
    // Tenths of its scale, on which 0 exposes nothing and 100 all.
    let (exit, said) = analyze(&["security", "--offline=yes", "--threshold=15"]);
    assert_eq!(exit, Some(0), "{said}");
    // What is misspelled is noticed.
    let unit = place.file("reknit.service", place.read("reknit.service").replace("ProtectSystem", "ProtctSystem"));
    let ran = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit).output().expect("systemd-analyze");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("ProtctSystem"));
}
