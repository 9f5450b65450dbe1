//! Members: added by invitation, known to a third peer through a second, forgotten everywhere.

use serde_json::json;

use crate::daemon::{Daemon, at};
use crate::harness::Place;

fn members(place: &Place, home: &str, store: &str) -> String {
    at(place, home, &format!("members list {store}")).ok().out
}

#[test]
fn a_third_peer_learns_of_members_through_a_second_and_forgetting_travels() {
    let place = Place::with_file("a.kv", "a\tb\n", "");
    place.run("init b --like s").ok();
    place.run("init c --like s").ok();
    let id = |home: &str| at(&place, home, "id").ok().out.trim().to_owned();
    let (me, second, third) = (id("home"), id("second"), id("third"));
    at(&place, "home", &format!("members add s {me} --name first --lease 30d")).ok();
    at(&place, "home", &format!("members add s {third} --name third")).ok();
    let listed = at(&place, "home", "members list s").ok();
    listed.says(&["first", "this node, waited for 30 d", "never heard of here", "2 members"]);

    // Home tells the second, which operates there; the second tells the third, which may only read.
    at(&place, "second", &format!("peers add {me} --may compare,read,write,operate")).ok();
    at(&place, "second", &format!("peers add {third} --may compare,read")).ok();
    let daemon = Daemon::start(&place, "second", &["b"]);
    let b = daemon.address().to_string();
    at(&place, "home", &format!("repair s {b} --apply")).ok();
    assert!(members(&place, "second", "b").contains("first"), "{}", members(&place, "second", "b"));
    at(&place, "third", &format!("repair c {b} --to a --apply")).ok().says(&["1 records to a", "0 to b"]);
    at(&place, "third", "members list c").ok().says(&["first", "third", "2 members"]);
    at(&place, "third", &format!("check c {b}")).ok();

    // What the third says of members is not taken.
    at(&place, "third", &format!("members add c {second}")).ok();
    at(&place, "third", &format!("repair c {b} --to a --apply")).ok();
    assert!(!members(&place, "second", "b").contains(&second));

    at(&place, "home", &format!("members forget s {third}")).ok().says(&["nothing waits for it"]);
    at(&place, "home", &format!("members forget s {third}")).exits(1);
    at(&place, "home", &format!("repair s {b} --apply")).ok();
    assert!(!members(&place, "second", "b").contains("third"));
    at(&place, "third", &format!("repair c {b} --to a --apply")).ok();
    assert!(!members(&place, "third", "c").contains("third"), "{}", members(&place, "third", "c"));

    // A repair of one side alone leaves the other's members as they are, too.
    at(&place, "second", &format!("members add b {second} --name second")).ok();
    at(&place, "home", &format!("repair s {b} --to b --apply")).ok();
    assert!(!members(&place, "home", "s").contains("second"), "{}", members(&place, "home", "s"));
    at(&place, "home", &format!("repair s {b} --to a --apply")).ok();
    assert!(members(&place, "home", "s").contains("second"), "{}", members(&place, "home", "s"));
    at(&place, "home", &format!("members forget s {second}")).ok();
    let json = place.json("members list s").ok();
    assert_eq!((json.summary()["members"].clone(), json.objects()[0]["me"].clone()), (json!(1), json!(true)));
}

#[test]
fn whoever_invites_and_whoever_joins_become_members() {
    let place = Place::with_file("a.kv", "a\tb\n", "");
    let daemon = Daemon::start(&place, "home", &["s"]);
    let ticket = place.run("invite s --may compare,read").ok().out;
    at(&place, "far", &format!("join j {}", ticket.trim())).ok();
    let far = at(&place, "far", "id").ok().out.trim().to_owned();
    assert!(members(&place, "home", "s").contains(&far));
    at(&place, "far", &format!("repair j {} --to a --apply", daemon.address())).ok();
    at(&place, "far", "members list j").ok().says(&["2 members", &far]);
}

#[test]
fn a_dataset_may_do_without() {
    let place = Place::new();
    place.run("init s --no-members").ok();
    place.run("members list s").exits(2).says(&["[store.no-members]"]);
    place.run("init t --profile content").ok();
    place.run("members list t").exits(2).says(&["[store.no-members]"]);
}
