//! Records that a peer stamped too far in the future, as the real binary keeps, lists, applies and drops them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use reknit::store::{Options, Store};
use serde_json::json;

use crate::harness::Place;

/// Puts into a store by a clock that is a day ahead.
pub(crate) fn put_tomorrow(place: &Place, store: &str, keys: &[&str]) {
    put_tomorrow_in(place, store, "", keys);
}

/// The same into a collection; the first, if it has no name.
pub(crate) fn put_tomorrow_in(place: &Place, store: &str, collection: &str, keys: &[&str]) {
    let now = || {
        u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis()).expect("a number")
    };
    let options = Options { clock: Arc::new(move || now() + 24 * 60 * 60 * 1000), ..Options::default() };
    let store = Store::open(&place.path(store), &options).expect("opened");
    let first = store.first();
    let into = if collection.is_empty() { first } else { store.collection(collection).expect("it is there") };
    for key in keys {
        into.put(key.as_bytes(), b"tomorrow").expect("put");
    }
}

#[test]
fn a_clock_that_runs_ahead_is_not_followed_and_nothing_is_lost() {
    let place = Place::new();
    place.run("init a").ok();
    place.run("put a k today").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    put_tomorrow(&place, "b", &["k", "l"]);
    place.run("quarantine list a").ok().says(&["nothing is in quarantine"]);
    place.run("repair a b --apply").exits(1).says(&["it is in quarantine"]);
    place.run("get a k").ok().prints("today");
    place.run("quarantine list a").exits(1).says(&["2 records in quarantine", "default k", "default l"]);
    let listed = place.json("quarantine list a --limit 1").exits(1);
    assert_eq!((&listed.objects()[0]["key"], &listed.summary()["more"]), (&"k".into(), &true.into()));
    // It is a difference until someone decides; it is held once however often it comes.
    place.run("repair a b --apply").exits(1);
    place.run("check a b --settle 0ms").exits(1).says(&["differs"]);
    place.run("quarantine accept a").exits(2);
    place.run("quarantine drop a l").ok().says(&["dropped 1 record"]);
    place.run("quarantine drop a l").exits(1).says(&["nothing was changed"]);
    place.run("quarantine accept a --all").ok().says(&["applied 1 record"]);
    place.run("get a k").ok().prints("tomorrow");
    place.run("get a l").exits(1);
    place.run("verify a").ok();
    place.run("put a k again").ok();
    // It has seen what was accepted, so it too is from the future, until b accepts it or time has passed.
    place.run("repair a b --apply").exits(1);
    place.run("get b k").ok().prints("tomorrow");
    place.run("quarantine accept b k").ok();
    place.run("get b k").ok().prints("again");
    place.run("delete b l").ok();
    place.run("repair a b --apply").exits(1);
    place.run("quarantine accept a l").ok();
    place.run("repair a b --apply").ok().says(&["in sync"]);
}

#[test]
fn what_is_accepted_replaces_under_a_run_that_can_be_undone() {
    let place = Place::new();
    place.run("init a").ok();
    place.run("put a k today").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    put_tomorrow(&place, "b", &["k", "l"]);
    place.run("repair a b --apply").exits(1);
    place.run("runs limit a --keep-history 30d").ok();
    place.run("put a k now").ok();
    let accepted = place.json("quarantine accept a --all").ok().summary();
    let run = accepted["run"].as_str().expect("its number").to_owned();
    assert_eq!((&accepted["keys"], &accepted["wrote"]), (&json!(2), &json!(2)));
    let runs = place.json("runs list a").ok().objects();
    let runs: Vec<_> = runs.iter().filter(|one| one["kind"] == "accepted").collect();
    assert_eq!(runs.len(), 1, "one for all: {runs:?}");
    let told = ["run", "state", "changes", "overwritten"].map(|field| runs[0][field].clone());
    assert_eq!(told, [json!(run.as_str()), json!("accepted"), json!(2), json!(1)]);
    place.run("history a k --values").ok().says(&["now"]);
    place.run(&format!("runs undo a {run}")).ok().says(&["2 changes put back"]);
    place.run("get a k").ok().prints("now");
    place.run("get a l").exits(1);
    place.run("resume a").ok();
    place.run("repair a b --apply").exits(1);
    place.run("quarantine accept a k").ok().says(&["applied 1 record", "to undo it in a: reknit runs undo a "]);
    place.run("get a k").ok().prints("tomorrow");
    // What is dropped changes nothing that readers see, so that there is nothing to undo.
    let dropped = place.json("quarantine drop a l").ok().summary();
    assert_eq!((&dropped["wrote"], &dropped["run"]), (&json!(0), &json!(null)));
    place.run("verify a").ok();
}
