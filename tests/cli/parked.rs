//! Records that rot at either side: a job parks them with the reason, settles all the rest, and takes them up once they are whole.

use serde_json::{Value, json};

use crate::alerts::{heard, listener, pair};
use crate::daemon::{Daemon, admit, at, until};
use crate::harness::Place;
use crate::{schema, stores};

/// Every fiftieth of two thousand records is newer in `s` than in `t`.
fn drifted() -> Place {
    let lines = |step: usize, value: &str| {
        (0..2000).step_by(step).map(|n| format!("m{n:04}\t{value}{n}\n")).collect::<String>()
    };
    let place = Place::with_file("all.kv", &lines(1, "old"), "");
    place.run("init t --like s").ok();
    place.run("repair s t --apply").ok();
    place.file("newer.kv", lines(50, "new"));
    place.run("import s newer.kv").ok();
    place
}

fn shown(place: &Place) -> Vec<Value> {
    let objects = place.json("jobs show mend --limit 100").ok().objects();
    schema::holds(&objects);
    objects
}

/// Waits until one record is parked and all else is done, and tells of it.
fn parked(place: &Place) -> Value {
    let mut job = Value::Null;
    until(|| {
        job = shown(place)[0].clone();
        let tried = |parked: &Value| parked["tries"] == 1;
        // The rest was gone through after that, and the stores are nobody's for now.
        let rests = job["verdict"] == "partial" && job["running"].is_null();
        rests && job["parked"].as_array().is_some_and(|parked| parked.iter().any(tried))
    });
    assert_eq!(job["parked"].as_array().map(Vec::len), Some(1), "{job}");
    job
}

fn configure(place: &Place, with: &str) {
    std::fs::create_dir_all(place.path("home")).expect("a home");
    place.file(
        "home/config.toml",
        format!(
            "[job.mend]\na = '../s'\nb = '{with}'\ndo = 'repair'\nevery = '1h'\nsettle = '0ms'\nmax_change = '100%'\n"
        ),
    );
}

#[test]
fn a_record_that_rots_here_is_parked_and_all_others_are_repaired() {
    let place = drifted();
    configure(&place, "../t");
    let rotten = stores::rot(&place, "s", "m0050");
    let daemon = Daemon::start(&place, "home", &["s"]);
    let job = parked(&place);
    let ranges = &job["parked"][0]["ranges"]["ranges"];
    let range = ranges[0]["range"].as_str().expect("a range").to_string();
    assert_eq!((range.len(), ranges.as_array().map(Vec::len)), (17, Some(1)), "the place of one record: {job}");
    assert_eq!((&job["parked"][0]["error"], &job["failures"]), (&json!("store.damaged"), &json!(0)));
    for n in [0, 100, 1950] {
        place.run(&format!("get t m{n:04}")).ok().prints(&format!("new{n}"));
    }
    place.run("get t m0050").ok().prints("old50");
    let text = place.run("jobs show mend").ok().out;
    assert!(
        text.contains("parked for ") && text.contains(&range) && text.contains("tried 1 time, again in "),
        "{text}"
    );
    place
        .run("status")
        .exits(3)
        .says(&["mend: 1 parked range, for ", "left out so that the rest goes on: the store is damaged"]);
    let first = &shown(&place)[1..];
    let last = &first[0];
    assert_eq!((&last["verdict"], &last["unproven"]["ranges"][0]["range"]), (&json!("partial"), &json!(range)));
    assert_eq!(daemon.end().code(), Some(0));
    // It outlives the daemon; once the record is whole, a run that somebody asks for takes it up.
    stores::heal(&place, "s", &rotten);
    let _daemon = Daemon::start(&place, "home", &["s"]);
    assert_eq!(parked(&place)["parked"][0]["tries"], 1);
    place.run("jobs run mend").ok();
    until(|| shown(&place)[0]["verdict"] == "in_sync");
    assert_eq!(shown(&place)[0]["parked"], json!([]));
    place.run("get t m0050").ok().prints("new50");
}

#[test]
fn a_record_that_rots_at_a_peer_is_parked_and_all_others_are_repaired() {
    let place = drifted();
    let rotten = stores::rot(&place, "t", "m0050");
    let there = Daemon::start(&place, "there", &["t"]);
    admit(&place, "there", "compare,read,write");
    configure(&place, there.address());
    let daemon = Daemon::start(&place, "home", &["s"]);
    let job = parked(&place);
    assert_eq!(job["parked"][0]["ranges"]["ranges"].as_array().map(Vec::len), Some(1), "{job}");
    let message = job["parked"][0]["message"].as_str().expect("why").to_string();
    assert!(message.contains("the peer's store cannot go on: the store is damaged"), "{message}");
    let listed = at(&place, "there", "get t m0000").ok();
    listed.prints("new0");
    at(&place, "there", "get t m1950").ok().prints("new1950");
    assert_eq!(daemon.end().code(), Some(0));
    assert_eq!(there.end().code(), Some(0));
    stores::heal(&place, "t", &rotten);
    let there = Daemon::start(&place, "there", &["t"]);
    configure(&place, there.address());
    let _daemon = Daemon::start(&place, "home", &["s"]);
    place.run("jobs run mend").ok();
    until(|| shown(&place)[0]["verdict"] == "in_sync");
    assert_eq!(shown(&place)[0]["parked"], json!([]));
}

#[test]
fn daemons_that_gossip_leave_out_a_record_that_rots_and_bring_all_others() {
    let place = drifted();
    stores::rot(&place, "t", "m0050");
    let id = |home: &str| at(&place, home, "id").ok().out.trim().to_string();
    for (home, other) in [("home", "there"), ("there", "home")] {
        at(&place, home, &format!("peers add {} --may compare,read,write --name {other}", id(other))).ok();
    }
    let gossip = "[gossip]\nevery = '100ms'\ndo = 'repair'\nmax_change = '100%'\n";
    place.file("there/config.toml", gossip);
    let there = Daemon::start(&place, "there", &["t"]);
    let alerts = format!("[alerts]\ncommand = ['{}', 'said']\n", listener(&place));
    place.file("home/config.toml", format!("{gossip}seeds = ['{}']\n{alerts}", there.address()));
    let daemons = [Daemon::start(&place, "home", &["s"]), there];
    let has = |n: usize, value: &str| at(&place, "there", &format!("get t m{n:04}")).out == format!("{value}{n}");
    until(|| (0..2000).step_by(50).filter(|n| *n != 50).all(|n| has(n, "new")));
    let looked = |home: &str| at(&place, home, "status");
    for home in ["home", "there"] {
        // All else is equal once nothing more was written by a session.
        until(|| looked(home).exit == Some(1) && looked(home).out.contains("1 parked range, for "));
        looked(home).says(&["left out so that the rest goes on: ", "the store is damaged", "1 keys differ, for "]);
        let objects = at(&place, home, "status --format jsonl").objects();
        schema::holds(&objects);
        assert_eq!(objects[objects.len() - 1]["gossip_pairs"][0]["parked"], 1, "{objects:?}");
    }
    let about = format!("peer/s@{}/parked", &id("there")[..7]);
    until(|| heard(&place).contains(&pair(&about, "firing")));
    daemons.into_iter().for_each(|daemon| assert_eq!(daemon.end().code(), Some(0)));
}
