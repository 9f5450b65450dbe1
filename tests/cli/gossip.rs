//! Daemons that gossip, as processes: what is written on one is on all at once, and who is gone is noticed.

use crate::daemon::{Daemon, at, until};
use crate::harness::Place;
use crate::schema;

const HOMES: [&str; 3] = ["one", "two", "three"];

/// The peer of a home.
fn id(place: &Place, home: &str) -> String {
    at(place, home, "id").ok().out.trim().to_string()
}

/// Three homes that know each other, each with a store of one dataset.
fn homes() -> Place {
    let place = Place::new();
    at(&place, "one", "init one.store --name notes").ok();
    for home in &HOMES[1..] {
        at(&place, "one", &format!("init {home}.store --like one.store")).ok();
    }
    let ids = HOMES.map(|home| id(&place, home));
    for home in HOMES {
        for (other, id) in HOMES.iter().zip(&ids).filter(|(other, _)| **other != home) {
            at(&place, home, &format!("peers add {id} --may compare,read,write,operate --name {other}")).ok();
        }
    }
    place
}

fn start(place: &Place, home: &str, seed: Option<&str>) -> Daemon {
    let seeds = seed.map(|seed| format!("seeds = ['{seed}']\n")).unwrap_or_default();
    // No session is held: what arrives was told.
    place.file(&format!("{home}/config.toml"), format!("[gossip]\n{seeds}every = '1h'\ndo = 'repair'\n"));
    Daemon::start(place, home, &[&format!("{home}.store")])
}

fn up(place: &Place, home: &str) -> usize {
    let looked = at(place, home, "status --format jsonl");
    schema::holds(&looked.objects());
    looked.summary()["gossip"].as_array().expect("it gossips").len()
}

#[test]
fn what_is_written_on_one_is_on_all_at_once_and_who_is_gone_is_noticed() {
    let place = homes();
    let first = start(&place, "one", None);
    let seed = first.address().to_string();
    let (mut second, third) = (start(&place, "two", Some(&seed)), start(&place, "three", Some(&seed)));
    until(|| HOMES.iter().all(|home| up(&place, home) == 2));
    at(&place, "two", "put two.store milk bottles").ok();
    at(&place, "three", "put three.store bread rolls").ok();
    let has =
        |home: &str, key: &str, value: &str| at(&place, home, &format!("get {home}.store {key}")).out.trim() == value;
    until(|| HOMES.iter().all(|home| has(home, "milk", "bottles") && has(home, "bread", "rolls")));
    at(&place, "one", "status")
        .says(&["gossip of notes: 2 writes heard, 0 left to sessions, 0 wait", "is up at 127.0.0.1:"]);
    at(&place, "one", "delete one.store milk").ok();
    until(|| HOMES.iter().all(|home| at(&place, home, &format!("get {home}.store milk")).out.is_empty()));
    second.kill();
    until(|| ["one", "three"].iter().all(|home| up(&place, home) == 1));
    for daemon in [first, third] {
        assert!(daemon.end().success());
    }
}
