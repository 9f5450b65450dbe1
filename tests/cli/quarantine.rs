//! Records that a peer stamped too far in the future, as the real binary keeps, lists, applies and drops them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use reknit::store::{Options, Store};

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
