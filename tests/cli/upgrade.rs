//! What earlier releases have written (`scripts/upgrade-fixture`): this one reads all of it, and goes on from there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::daemon::Daemon;
use crate::harness::{Place, Ran};
use crate::web::Web;

/// A place as each release left it, with the release's name.
fn places() -> Vec<(String, Place)> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade");
    let mut dirs: Vec<PathBuf> = fs::read_dir(all).expect("releases").map(|dir| dir.expect("one").path()).collect();
    dirs.sort();
    let of = |dir: PathBuf| {
        let place = Place::new();
        copy(&dir, &place.path(""));
        (dir.file_name().expect("a name").to_string_lossy().into_owned(), place)
    };
    dirs.into_iter().map(of).collect()
}

/// Copies a directory; a checkout does not keep who may read what.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let (from, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).expect("an entry");
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("copied");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("permitted");
        }
    }
}

#[test]
fn stores_of_earlier_releases_are_read_and_repaired() {
    let places = places();
    assert!(!places.is_empty());
    for (release, place) in places {
        for store in ["a", "b"] {
            place.run(&format!("verify {store}")).ok();
            let then: Value = serde_json::from_str(&place.read(&format!("{store}.shown"))).expect("what was shown");
            let now = place.json(&format!("dataset show {store}")).ok().summary();
            for field in ["dataset_id", "definition", "root", "entries", "profile", "key_index"] {
                assert_eq!(now[field], then["summary"][field], "{release}: {field} of {store}");
            }
            place.run(&format!("export {store} -o now.kv")).ok();
            assert_eq!(place.read("now.kv"), place.read(&format!("{store}.kv")), "{release}: records of {store}");
            place.run(&format!("conflicts list {store}")).exits(1).says(&["both"]);
            // Its runs can be undone however long ago they were.
            place.run(&format!("runs limit {store} --age 36500d")).ok();
        }
        place.run("history a key01").ok().says(&["20 B\tthere now", "8 B\treplaced by a write here"]);
        // The plan says what it said then, however long ago that was.
        place.run("apply night.plan a b --max-age 36500d").ok();
        place.run("get b planned").ok().prints("by the plan");
        place.run("check a b").ok().says(&["in sync"]);
        // The second run overwrote ten values of b; the third brought what was planned.
        place.run("runs undo b 2").ok();
        place.run("get b key07").ok().prints("value 07");
        place.run("get a key07").ok().prints("value 07 of a, later");
    }
}

#[test]
fn homes_of_earlier_releases_are_read_and_served() {
    for (release, place) in places() {
        let receipts = place.json("receipts list a").ok().objects();
        assert!(receipts.iter().any(|of| of["t"] == "receipt"), "{release}: {receipts:?}");
        place.run("config check").ok().says(&["nightly"]);
        let daemon = Daemon::start(&place, "home", &["a"]);
        place.run("jobs show nightly").exits(0).says(&["differs"]);
        place.run("get a key07").ok().prints("value 07 of a, later");
        assert_eq!(daemon.end().code(), Some(0));
    }
}

#[test]
fn what_homes_of_earlier_releases_keep_of_tables_is_read() {
    for (release, place) in places() {
        let at = |line: &str, home: &str| {
            let mut command = place.command(&line.split(' ').collect::<Vec<_>>());
            command.current_dir(place.path("tables")).env("REKNIT_HOME", place.path(&format!("tables/{home}")));
            Ran::of(command.output().expect("the binary"))
        };
        // An index is found by where its table is: another home with the same identity tells what that is here.
        fs::create_dir(place.path("tables/other")).expect("a home");
        let identity = |home: &str| place.path(&format!("tables/{home}/identity.key"));
        fs::copy(identity("home"), identity("other")).expect("copied, with who may read it");
        at("check sqlite:left.db/rows sqlite:right.db/rows", "other").ok();
        for line in place.read("tables/indexes.tsv").lines() {
            let (side, then) = line.split_once('\t').expect("a side and its index");
            let status = at(&format!("index status sqlite:{side}.db/rows"), "other").ok().out;
            let [then, now] = [then, &status].map(|id| format!("tables/home/index/{}-{}", &id[..16], &id[16..24]));
            fs::rename(place.path(&then), place.path(&now)).expect("an index");
        }
        at("index status sqlite:left.db/rows", "home").ok().says(&["60 rows"]);
        let then: Value = serde_json::from_str(&place.read("tables/shown")).expect("what was shown");
        let ran = at("check sqlite:left.db/rows sqlite:right.db/rows --format json", "home").ok();
        let now: Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!(now["summary"]["roots"], then["summary"]["roots"], "{release}");
        assert!(!ran.err.contains("no index yet"), "{release}: {}", ran.err);
        at("index verify sqlite:left.db/rows", "home").ok();
        let table = rusqlite::Connection::open(place.path("tables/right.db")).expect("a database");
        table.execute_batch("UPDATE rows SET name = 'another' WHERE id = 7").expect("a row");
        at("diff sqlite:left.db/rows sqlite:right.db/rows --settle 0ms", "home").exits(1).says(&["* 7\t"]);
    }
}

#[test]
fn what_homes_of_earlier_releases_keep_of_drift_and_alerts_is_read() {
    for (release, place) in places() {
        let at = |line: &str| {
            let mut command = place.command(&line.split(' ').collect::<Vec<_>>());
            command.current_dir(place.path("watched")).env("REKNIT_HOME", place.path("watched/home"));
            Ran::of(command.output().expect("the binary"))
        };
        at("drift first.drift second.drift").exits(1).says(&[
            "new\tkey4\tonly_b",
            "healed\tkey3\tonly_a",
            "2 new, 3 healed, 0 still open",
        ]);
        let since = || {
            let listed = at("alerts list --format jsonl").exits(1).objects();
            let lost = listed.iter().find(|object| object["alert"] == "failing/lost").expect("it fires");
            lost["since_ms"].as_u64().expect("a time")
        };
        let then = since();
        // A daemon goes on from there: what fired then has fired since.
        let daemon = Daemon::start_with(&place, "watched/home", &[], &["--http", "127.0.0.1:0"]);
        at("jobs show lost").says(&["undetermined"]);
        assert_eq!(since(), then, "{release}");
        let pairs = Web::at(daemon.http()).get("/api/v1/drift").json();
        let moments = pairs["pairs"][0]["moments"].as_array().expect("moments").len();
        assert_eq!((moments, &pairs["pairs"][0]["differ"]), (3, &2.into()), "{release}: {pairs}");
        assert_eq!(daemon.end().code(), Some(0));
    }
}
