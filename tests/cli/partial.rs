//! Sessions that end before their end: what was not proven is named, by commands and by jobs.

use serde_json::{Value, json};

use crate::daemon::{Daemon, admit, at, until};
use crate::harness::{Place, Ran};
use crate::relay::Relay;
use crate::schema;

/// Records of digits that no compression makes small.
fn lines(of: impl Iterator<Item = u128>, salt: u128) -> String {
    let odd = |n: u128| n.wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    of.map(|n| format!("m{n:06}\t{:032x}{:032x}\n", odd(n), odd(odd(n)))).collect()
}

/// A store `s` and a copy `t` of it, of which a sixth of the records in `s` is newer: fewer than a served store may be changed by default.
fn drifted() -> Place {
    let place = Place::with_file("all.kv", &lines(0..20_000, 0), "");
    place.run("init t --like s").ok();
    place.run("repair s t --apply").ok();
    place.file("newer.kv", lines((0..20_000).step_by(6), 1));
    place.run("import s newer.kv").ok();
    place
}

/// The ranges that a partial verdict names.
fn ranges(of: &Value) -> Vec<String> {
    let ranges = of["unproven"]["ranges"].as_array().expect("some are named");
    ranges.iter().map(|one| one["range"].as_str().expect("a range").to_string()).collect()
}

#[test]
fn what_a_budget_did_not_suffice_for_is_named() {
    let place = drifted();
    let ran = place.json("diff s t --settle 0ms --max-bytes 60kB").exits(3);
    let summary = ran.summary();
    schema::holds(std::slice::from_ref(&summary));
    let named = ranges(&summary);
    assert_eq!((&summary["verdict"], &summary["error"]), (&json!("partial"), &Value::Null));
    assert!(!named.is_empty() && named.iter().all(|range| range.ends_with('*')), "{summary}");
    place.run("diff s t --settle 0ms --max-bytes 60kB --limit 0").exits(3).says(&[
        "partial",
        "; unproven: ",
        "* of default",
    ]);
    let whole = place.json("diff s t --settle 0ms --limit 0").exits(1).summary();
    assert_eq!(whole["unproven"], Value::Null);
}

#[test]
fn a_run_whose_link_breaks_is_partial_with_its_ranges_named_and_the_next_one_goes_on() {
    let place = drifted();
    let mut there = Daemon::start(&place, "there", &["t"]);
    admit(&place, "there", "compare,read,write");
    let relay = Relay::start(there.socket());
    let job =
        format!("[job.mend]\na = '../s'\nb = '{}'\ndo = 'repair'\nmax_change = '100%'", relay.address(there.address()));
    place.file("home/config.toml", job);
    let _here = Daemon::start(&place, "home", &["s"]);
    let shown = |place: &Place| -> Vec<Value> {
        let objects = place.json("jobs show mend").ok().objects();
        schema::holds(&objects);
        objects
    };
    // Of about a quarter of a megabyte that is to travel.
    relay.hold_after(100_000);
    place.run("jobs run mend").ok();
    relay.holds();
    there.kill();
    until(|| shown(&place)[0]["verdict"] != Value::Null);
    let objects = shown(&place);
    let run = &objects[1];
    assert_eq!((&objects[0]["verdict"], &objects[0]["failures"]), (&json!("partial"), &json!(1)), "{run}");
    assert_eq!((&run["error"], &run["exit"]), (&json!("session.lost"), &json!(3)));
    let named = ranges(run);
    assert!((1..=16).contains(&named.len()), "{run}");
    let text = place.run("jobs show mend").ok().out;
    assert!(text.contains("unproven at its last run: ") && text.contains(" of default"), "{text}");
    place.run("status").exits(3).says(&["mend: its last run ended partial: ", "[session.lost]"]);
    let there = Daemon::start(&place, "there", &["t"]);
    relay.lead_to(there.socket());
    place.run("jobs run mend").ok();
    until(|| shown(&place)[0]["verdict"] == "in_sync");
    assert_eq!(shown(&place)[1]["unproven"], Value::Null);
}

#[test]
fn a_command_whose_peer_dies_tells_what_it_knew_and_why_it_ended() {
    let place = drifted();
    admit(&place, "there", "compare,read,write");
    let mut there = Daemon::start(&place, "there", &["t"]);
    let relay = Relay::start(there.socket());
    relay.hold_after(100_000);
    let mut command =
        place.command(&["repair", "s", &relay.address(there.address()), "--apply", "--max-change", "100%"]);
    let running = command.env("REKNIT_FORMAT", "jsonl").spawn().expect("the binary");
    relay.holds();
    there.kill();
    let ran = Ran::of(running.wait_with_output().expect("its end")).exits(3);
    let summary = ran.summary();
    schema::holds(std::slice::from_ref(&summary));
    assert_eq!((&summary["verdict"], &summary["error"]), (&json!("partial"), &json!("session.lost")));
    assert!(!ranges(&summary).is_empty());
    ran.says(&["[session.lost]", "what was applied is valid"]);
    for store in ["s", "t"] {
        place.run(&format!("verify {store}")).ok().says(&["20,000 records"]);
    }
}

#[test]
fn a_node_that_holds_a_session_for_another_names_what_is_unproven_too() {
    let place = drifted();
    let (first, second) = (Daemon::start(&place, "first", &["s"]), Daemon::start(&place, "second", &["t"]));
    admit(&place, "first", "compare,read,operate");
    let holder = at(&place, "first", "id").ok().out;
    at(&place, "second", &format!("peers add {} --may compare,read", holder.trim())).ok();
    let line = format!("diff {} {} --settle 0ms --max-bytes 60kB", first.address(), second.address());
    let summary = place.json(&line).exits(3).summary();
    schema::holds(std::slice::from_ref(&summary));
    assert_eq!(summary["verdict"], "partial");
    assert!(!ranges(&summary).is_empty() && summary["unproven"]["ranges"][0]["collection"] == "default", "{summary}");
    place.run(&line).exits(3).says(&["partial", "; unproven: ", "* of default"]);
}
