//! Datasets of several collections, each with its own policy, rows and keys, from the command line alone.

use std::fs;

use crate::harness::Place;
use crate::quarantine::put_tomorrow;

/// A store of users, whose key is a number, and carts, of which both versions are kept; and another of its dataset.
fn shop() -> Place {
    let place = Place::new();
    place.run("init a --collection users --collection carts=keep-both").ok();
    fs::write(place.path("users.csv"), "id,name\n1,Ada\n2,Bob\n").expect("written");
    fs::write(place.path("carts.csv"), "shop,owner,total\nx,1,10\ny,1,20\n").expect("written");
    place.run("import a users.csv --key id --collection users").ok().says(&["wrote 2"]);
    place.run("import a carts.csv --key shop,owner --collection carts").ok().says(&["wrote 2"]);
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    place
}

#[test]
fn each_collection_has_rows_and_a_policy_of_its_own() {
    let place = shop();
    assert_eq!(place.run("export b --collection users").ok().out, "id,name\n1,Ada\n2,Bob\n");
    assert_eq!(place.run("export b --collection carts").ok().out, "shop,owner,total\nx,1,10\ny,1,20\n");
    // Without a name it is the first.
    assert_eq!(place.run("export b").ok().out, "id,name\n1,Ada\n2,Bob\n");
    for (store, name, total) in [("a", "Alan", 11), ("b", "Alice", 12)] {
        fs::write(place.path("users.csv"), format!("id,name\n1,{name}\n")).expect("written");
        fs::write(place.path("carts.csv"), format!("shop,owner,total\nx,1,{total}\n")).expect("written");
        place.run(&format!("import {store} users.csv")).ok().says(&["wrote 1"]);
        place.run(&format!("import {store} carts.csv --collection carts")).ok().says(&["wrote 1"]);
    }
    place.run("repair a b --apply").ok();
    assert_eq!(place.run("export a").ok().out, "id,name\n1,Alice\n2,Bob\n");
    let listed = place.json("conflicts list b").exits(1);
    assert_eq!((listed.objects().len(), &listed.objects()[0]["collection"]), (2, &"carts".into()));
}

#[test]
fn keys_are_told_as_the_rows_of_their_collection_have_them() {
    let place = shop();
    fs::write(place.path("users.csv"), "id,name\n2,Bill\n").expect("written");
    fs::write(place.path("carts.csv"), "shop,owner,total\ny,1,21\n").expect("written");
    place.run("import a users.csv").ok();
    place.run("import a carts.csv --collection carts").ok();
    let keys = |ran: &crate::harness::Ran, t: &str| -> Vec<(String, String)> {
        let of_kind = ran.objects().into_iter().filter(|object| object["t"] == t);
        let text = |object: &serde_json::Value, name: &str| object[name].as_str().expect("a text").to_string();
        of_kind.map(|object| (text(&object, "collection"), text(&object, "key"))).collect()
    };
    let both = [("users".into(), "2".into()), ("carts".into(), "y,1".into())];
    let listed = place.json("diff a b --values").exits(1);
    assert_eq!(keys(&listed, "difference"), both);
    assert_eq!(listed.objects()[1]["values"]["a"], r#"{"shop":"y","owner":"1","total":"21"}"#);
    place.run("repair a b --plan p").exits(1);
    let plan = place.read("p");
    assert!(plan.contains(r#""key":"2""#) && plan.contains(r#""key":"y,1""#), "{plan}");
    place.run("repair a b --apply").ok();
    let mut shown = keys(&place.json("runs show b 2").ok(), "change");
    shown.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(shown, both);
}

#[test]
fn a_file_goes_into_the_collection_that_is_named_or_nowhere() {
    let place = shop();
    place.run("import a carts.csv --collection users").exits(2);
    place.run("import a users.csv --collection nothing").exits(2).says(&["nothing", "users, carts"]);
    place.run("import a users.csv --collection .members").exits(2).says(&["members list"]);
    place.run("export a --collection nothing").exits(2).says(&["users, carts"]);
    assert_eq!(place.run("export a").ok().out, "id,name\n1,Ada\n2,Bob\n");
}

#[test]
fn collections_that_cannot_be_are_told_and_nothing_is_made() {
    let mut place = Place::new();
    for (typed, said) in [
        ("--collection x --collection x", "two collections of one name"),
        ("--collection .x", "begins with a dot"),
        ("--collection x=nothing", "nothing"),
        ("--collection=", "name"),
    ] {
        place.run(&format!("init a {typed}")).exits(2).says(&[said, "nothing was made"]);
        assert!(!place.path("a").exists(), "{typed}");
    }
    // A dataset that there is says itself which it has.
    place.run("init a").ok();
    for said in ["--collection", "--policy", "--name", "--profile"] {
        let typed = if said == "--profile" { "content" } else { "ask" };
        place.run(&format!("init b --like a {said} {typed}")).exits(2).says(&["--like", said]);
    }
    for said in ["--no-key-index", "--no-members"] {
        place.run(&format!("init b --like a {said}")).exits(2).says(&["--like", said]);
    }
    assert!(!place.path("b").exists());
    // What the environment says of new datasets.
    place.vars = vec![("REKNIT_COLLECTIONS", "x=keep-both".into())];
    place.run("init c --like a").ok().says(&["dataset a"]);
    place.run("init d").ok().says(&["dataset d"]);
    place.vars = vec![("REKNIT_LIKE", "a".into())];
    place.run("init e --collection z").ok().says(&["dataset e"]);
    place.vars.clear();
    place.run("export d --collection nothing").exits(2).says(&["has x"]);
}

#[test]
fn the_quarantine_of_each_collection_is_let_out_by_its_own_keys() {
    let place = Place::new();
    place.run("init a --collection first --collection second").ok();
    place.run("init b --like a").ok();
    put_tomorrow(&place, "b", &["k"]);
    let put = |key: &str| crate::quarantine::put_tomorrow_in(&place, "b", "second", &[key]);
    ["k", "l", "m"].iter().for_each(|key| put(key));
    place.run("repair a b --apply").exits(1).says(&["it is in quarantine"]);
    place.run("quarantine accept a k --collection second").ok().says(&["applied 1 record"]);
    place.run("get a k").exits(1);
    place.run("get a k --collection second").ok().prints("tomorrow");
    place.run("quarantine accept a --all --collection second").ok().says(&["applied 2 records"]);
    place.run("quarantine list a").exits(1).says(&["1 record in quarantine", "first k"]);
    place.run("quarantine drop a k").ok().says(&["dropped 1 record"]);
}
