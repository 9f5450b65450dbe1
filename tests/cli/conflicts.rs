//! Conflicts: how they come about, are listed, shown and settled, by the real binary.

use reknit::core::query::{Guard, Incoming};
use reknit::core::{
    Actor, Collection, CollectionId, Content, DatasetId, DatasetKey, Definition, Record, Sibling, Stamp, State, Version,
};
use reknit::store::{Durability, Options, Side, Store};
use serde_json::json;

use crate::harness::Place;

/// Two replicas under a policy, that were written apart and then repaired.
fn apart(policy: &str) -> Place {
    let place = Place::new();
    place.run_args(&["init", "a", "--policy", policy]).ok();
    place.file("cities.csv", "id,name,people\n1,Bern,134\n2,Basel,178\n3,Thun,43\n");
    place.run("import a cities.csv --key id").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    place.run_args(&["put", "a", "1", "1,Berne,150"]).ok();
    place.run_args(&["put", "b", "1", "1,Bern,145"]).ok();
    place.run("delete a 2").ok();
    place.run_args(&["put", "b", "2", "2,Basle,180"]).ok();
    place.run_args(&["put", "b", "3", "3,Thoune,44"]).ok();
    place.run("repair a b --apply").ok();
    assert_eq!(place.root("a"), place.root("b"));
    place
}

#[test]
fn a_run_tells_what_readers_lost_by_it_whatever_was_newest() {
    let place = Place::new();
    place.run("init a --policy ask").ok();
    place.run("put a k one").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    place.run("put b k two").ok();
    place.run("delete a k").ok();
    place.run("repair a b --apply").ok();
    // The newest version is the deletion; until somebody decides, readers see the older one.
    place.run("get b k").ok().prints("two");
    place.run("conflicts resolve a k --value three").ok();
    place.run("repair a b --apply").ok();
    place.run("runs show b 3").ok().says(&["* k\toverwrote"]);
}

#[test]
fn a_version_that_is_laid_beside_another_overwrites_nothing() {
    let place = apart("keep-both");
    let run = place.json("runs list a").ok().objects()[0]["run"].as_str().expect("a run").to_owned();
    place.run(&format!("runs show a {run}")).ok().says(&["+ 1\tlaid beside", "+ 2\tlaid beside"]);
    let objects = place.json(&format!("runs show a {run}")).ok().objects();
    assert!(objects.iter().any(|object| object["key"] == "1" && object["op"] == "beside"), "{objects:?}");
}

#[test]
fn what_the_policy_keeps_is_listed_shown_and_settled() {
    let place = apart("ask");
    place.run("get b 1").ok().prints("1,Berne,150\n");
    let place = apart("keep-both");
    place.run("get a 1").ok().prints("1,Bern,145\n");
    place.run("get b 2").ok().prints("2,Basle,180\n");
    let listed = place.run("conflicts list b").exits(1);
    let listed = listed.says(&["1: 2 versions; readers see version 1", "2: 2 versions", "2 conflicts"]);
    drop(listed);
    let objects = place.json("conflicts list a").exits(1).objects();
    assert_eq!(
        (&objects[0]["key"], &objects[0]["versions"], &objects[0]["open"]),
        (&"1".into(), &2.into(), &false.into())
    );
    assert_eq!(place.json("conflicts list a --limit 1").exits(1).summary()["more"], true);
    let shown = place.json("conflicts show a 1").exits(1).objects();
    assert_eq!((&shown[0]["row"]["name"], &shown[1]["row"]["name"]), (&"Bern".into(), &"Berne".into()));
    place.run("conflicts show a 2").exits(1).says(&["deleted", "Basle", "reknit conflicts resolve", " UTC by "]);
    place.run("conflicts show a 3").ok().says(&["no conflict"]);
    place.run("conflicts show a 9").ok().says(&["never written"]);

    place.run("conflicts resolve a 1").exits(2);
    place.run("conflicts resolve a 1 --version 1 --delete").exits(2);
    place
        .run("conflicts resolve a 1 --version 3")
        .fails("usage.version")
        .says(&["versions 1 to 2", "nothing was changed"]);
    place.run("conflicts resolve a 1 --version 0").fails("usage.version");
    place.run("conflicts resolve a 1 --version 2").ok().says(&["settled 1"]);
    place.run("conflicts resolve a 1 --version 2").exits(1).says(&["no conflict"]);
    place.run("conflicts resolve a 3 --delete").exits(1);
    place.run_args(&["conflicts", "resolve", "b", "2", "--value", "2,Basel,181"]).ok();
    place.run("repair a b --apply").ok();
    place.run("conflicts list a").ok().says(&["no key has several versions"]);
    place.run("conflicts list b").ok();
    place.run("export b").ok().prints("id,name,people\n1,Berne,150\n2,Basel,181\n3,Thoune,44\n");
    place.run("verify a").ok();
}

#[test]
fn a_version_that_nobody_looked_at_is_not_taken_for_one_that_was_shown() {
    let place = Place::new();
    place.run("init a --policy ask").ok();
    for store in ["b", "c"] {
        place.run(&format!("init {store} --like a")).ok();
    }
    for (store, value) in [("a", "one"), ("b", "two"), ("c", "three")] {
        place.run_args(&["put", store, "the key", value]).ok();
    }
    place.run("repair a b --apply").ok();
    let shown = place.run_args(&["conflicts", "show", "a", "the key"]).exits(1);
    let command = shown.out.lines().last().expect("a line").split("reknit ").nth(1).expect("a command");
    let (typed, seen) = command.split_once(" --seen ").expect("what was seen");
    assert_eq!(typed, "conflicts resolve a 'the key'");
    let seen = seen.split_whitespace().next().expect("a digest");
    let resolve =
        |how: &[&str]| place.run_args(&[&["conflicts", "resolve", "a", "the key", "--seen", seen], how].concat());
    // Another comes, and the numbers mean others now.
    place.run("repair a c --apply").ok();
    let root = place.root("a");
    for how in [&["--version", "1"][..], &["--value", "four"], &["--delete"]] {
        resolve(how).exits(3).says(&["another version of the key came meanwhile", "[conflict.moved]"]);
    }
    assert_eq!(place.root("a"), root);
    let again = place.run_args(&["conflicts", "show", "a", "the key", "--format", "jsonl"]).exits(1).summary();
    let entry = again["entry"].as_str().expect("a digest");
    assert_ne!(entry, seen);
    let shown = place.run_args(&["conflicts", "show", "c", "the key"]).exits(1);
    shown.says(&[entry, "three"]);
    place.run_args(&["conflicts", "resolve", "a", "the key", "--seen", entry, "--value", "four"]).ok();
    place.run_args(&["get", "a", "the key"]).ok().prints("four");
}

#[test]
fn the_policy_is_a_part_of_the_definition() {
    let place = apart("newest");
    place.run("conflicts list a").ok();
    let place = apart("largest people");
    place.run("get a 1").ok().prints("1,Berne,150\n");
    place.run("init c --policy nonsense").fails("usage.policy").says(&["largest/1 COLUMN", "nothing was made"]);
    assert!(!place.path("c").exists());
    // The same dataset, of which one side was told another policy.
    place.run("dataset export a a.dataset").ok();
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (people, places) = (hex("largest/1 people"), hex("largest/1 places"));
    let file = place.read("a.dataset");
    assert!(file.contains(&people), "{file}");
    place.file("d.dataset", file.replace(&people, &places));
    place.run("dataset import d.dataset d").ok();
    let (a, d) = (place.root("a"), place.root("d"));
    place.run("repair a d --apply").exits(4).says(&[
        "policy of default (largest/1 people here, largest/1 places there)",
        "wrote 0 records",
        "[session.definition]",
    ]);
    assert_eq!((place.root("a"), place.root("d")), (a, d));
}

#[test]
fn a_policy_has_one_spelling_however_it_was_typed() {
    let place = Place::new();
    let made = [
        ("merge ch;tags=set;hits=counter", "merge/1 ch;hits=counter;tags=set"),
        ("merge/1  ch ; b=set; a=maximum", "merge/1 ch;a=maximum;b=set"),
        (r"merge ch;b\;=set;b=counter;b\=c=minimum", r"merge/1 ch;b=counter;b\;=set;b\=c=minimum"),
        ("largest  pop", "largest/1 pop"),
        (" newest ", "newest/1"),
        ("newest/1 the column ", "newest/1 the column"),
    ];
    for (nth, (typed, policy)) in made.into_iter().enumerate() {
        place.run_args(&["init", &format!("s{nth}"), "--policy", typed]).ok();
        let shown = place.json(&format!("dataset show s{nth}")).ok().summary();
        assert_eq!(shown["collections"][0]["policy"], policy, "{typed:?}");
    }
    for typed in ["merge ch;a=set;a=counter", "merge ch;ch=set", "merge ch;a", "merge", "largest "] {
        place.run_args(&["init", "none", "--policy", typed]).fails("usage.policy");
    }
    // There are no versions that it could judge.
    for typed in
        [&["--policy", "ask"][..], &["--policy", "newest pop"], &["--collection", "a", "--collection", "b=ask"]]
    {
        let ran = place.run_args(&[&["init", "none", "--profile", "content"], typed].concat()).fails("usage.policy");
        ran.says(&["the profile content keeps no versions", "nothing was made"]);
    }
    assert!(!place.path("none").exists());
    place.run("init bare --profile content --policy newest").ok();
}

#[test]
fn a_conflict_that_no_policy_can_judge_is_open() {
    let place = Place::new();
    place.run_args(&["init", "a", "--policy", "largest people"]).ok();
    place.file("rows.jsonl", "{\"id\":1,\"people\":5}\n");
    place.run("import a rows.jsonl --key id").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    place.run_args(&["put", "a", "1", r#"{"id":1,"people":7}"#]).ok();
    place.run_args(&["put", "b", "1", r#"{"id":1,"name":"x"}"#]).ok();
    place
        .run("repair a b --apply")
        .exits(1)
        .says(&["in sync", "open conflict: 1 in default: the policy needs the column people"]);
    let again = place.json("repair a b --apply").exits(1).summary();
    assert_eq!((&again["verdict"], &again["conflicts"]["failed"]), (&"in_sync".into(), &1.into()));
    place.run("conflicts list a").exits(1).says(&["open: the policy needs the column people, which a version lacks"]);
    assert_eq!(place.json("conflicts list a").exits(1).objects()[0]["open"], true);
}

#[test]
fn a_plan_that_was_carried_out_names_what_no_policy_can_judge() {
    let place = Place::new();
    place.run_args(&["init", "a", "--policy", "largest people"]).ok();
    place.file("rows.jsonl", "{\"id\":1,\"people\":5}\n{\"id\":2,\"people\":5}\n");
    place.run("import a rows.jsonl --key id").ok();
    place.run("init b --like a").ok();
    place.run("repair a b --apply").ok();
    place.run_args(&["put", "a", "1", r#"{"id":1,"people":7}"#]).ok();
    place.run_args(&["put", "b", "1", r#"{"id":1,"people":6}"#]).ok();
    place.run_args(&["put", "a", "2", r#"{"id":2,"people":7}"#]).ok();
    place.run("repair a b --plan plan").exits(1);
    let carried_out = place.json("apply plan").ok().summary();
    assert_eq!(
        (&carried_out["carried_out"], &carried_out["conflicts"]),
        (&2.into(), &json!({ "keys": 1, "failed": 0 }))
    );
    place.run_args(&["put", "b", "2", r#"{"id":2,"name":"x"}"#]).ok();
    place.run_args(&["put", "a", "2", r#"{"id":2,"people":8}"#]).ok();
    place.run("repair a b --plan again").exits(1);
    let told = place.run("apply again").exits(1).says(&["carried out 1 of 1 keys", "2 keys have several versions"]);
    drop(told.says(&["open conflict: 2 in default: the policy needs the column people"]));
    let again = place.run("repair a b --apply").exits(1);
    again.says(&["in sync", "open conflict: 2 in default"]);
}

/// A place with stores `a` and `b` of a dataset of two collections and its members, as a program makes it.
fn with_titles() -> Place {
    let place = Place::new();
    let mut definition = Definition::simple(DatasetId([5; 16]), "todo");
    definition.collections[0] = Collection { name: "items".into(), policy: "newest/1".into() };
    definition.collections.push(Collection { name: "titles".into(), policy: "ask/1".into() });
    let made = Store::create(
        &place.path("a"),
        definition.with_members(),
        DatasetKey::from_bytes([6; 32]),
        &Options::default(),
    );
    drop(made.expect("a store"));
    place.run("init b --like a").ok();
    place
}

#[test]
fn conflicts_of_every_collection_are_listed_and_settled_by_its_name() {
    let place = with_titles();
    for line in [
        "put a k item",
        "put a k one --collection titles",
        "put b k two --collection titles",
        "put a j mine --collection titles",
        "put b j yours --collection titles",
        "repair a b --apply",
    ] {
        place.run(line).ok();
    }
    place.run("get b k").ok().prints("item");
    place.run("get b k --collection titles").ok().prints("one");
    place.run("list b").ok().prints("k\n");
    place.run("list b --collection titles").ok().prints("j\nk\n");
    let listed = place.run("conflicts list a").exits(1);
    listed.says(&["k in titles: 2 versions", "j in titles: 2 versions", "2 conflicts", "--collection NAME"]);
    place.run("conflicts list a --collection items").ok().says(&["no key has several versions"]);
    let objects = place.json("conflicts list a --collection titles --limit 1").exits(1).objects();
    assert_eq!((&objects[0]["collection"], &objects[1]["more"]), (&"titles".into(), &true.into()));
    place.run("conflicts show a k").ok().says(&["no conflict: one version"]);
    place.run("conflicts show a k --collection titles").exits(1).says(&["one", "two"]);
    place.run("conflicts resolve a k --version 1").exits(1).says(&["no conflict"]);
    place.run("conflicts resolve a k --version 2 --collection titles").ok().says(&["settled k"]);
    place.run("delete a j --collection titles").ok();
    place.run("repair a b --apply").ok();
    place.run("conflicts list b").ok();
    place.run("get b j --collection titles").exits(1);
    let history = place.run("history b k --collection titles --values").ok();
    history.says(&["there now\tone", "replaced by run", "two"]);
    place.run("history b k").ok().says(&["there now"]);
    for line in
        ["get a k", "put a k v", "delete a k", "list a", "history a k", "conflicts list a", "conflicts show a k"]
    {
        place.run(&format!("{line} --collection none")).fails("store.no-collection").says(&["items, titles"]);
        place.run(&format!("{line} --collection .members")).fails("store.no-collection").says(&["reknit members list"]);
    }
    place.run("verify a").ok();
}

#[test]
fn bounds_on_versions_and_on_what_they_have_seen_are_told_where_they_are_reached() {
    let place = Place::new();
    place.run("init a --policy keep-both").ok();
    let store = Store::open(&place.path("a"), &Options::default()).expect("opened");
    let version = |n: u64, seen: &[Version]| Version::after(Stamp::at(1_000 + n), Actor(n), seen);
    let bring = |key: &str, version: Version| {
        let sibling = Sibling { version, content: Content::Live(b"v".to_vec()), expires: None };
        let record = Record { key: key.into(), state: State::single(sibling) };
        let batch = vec![Incoming { record, guard: Guard::Join }];
        store.apply(CollectionId(0), batch, Durability::Synced).expect("applied");
    };
    let all: Vec<Version> = (1..=33).map(|n| version(n, &[])).collect();
    all.iter().for_each(|version| bring("many", version.clone()));
    all[..2].iter().for_each(|version| bring("few", version.clone()));
    bring("forgets", version(40, &all));
    bring("forgets", version(41, &[]));
    drop(store);
    let listed = place.run("conflicts list a").exits(1);
    listed.says(&["few: 2 versions; ", "many: 32 versions, as many as are kept: older ones may have gone; "]);
    let objects = place.json("conflicts list a").exits(1).objects();
    let full: Vec<_> = objects.iter().filter(|one| one["full"] == true).map(|one| one["key"].as_str()).collect();
    assert_eq!(full, [Some("many")]);
    place.run("conflicts show a many").exits(1).says(&["32 versions, as many as are kept"]);
    let shown = place.run("conflicts show a forgets").exits(1);
    let lines: Vec<bool> = shown.out.lines().take(2).map(|line| line.contains("no longer tells")).collect();
    assert_eq!(lines, [false, true], "{shown:?}");
    let objects = place.json("conflicts show a forgets").exits(1).objects();
    assert_eq!((objects[0].get("forgets"), &objects[1]["forgets"]), (None, &true.into()));
    let few = place.run("conflicts show a few").exits(1);
    assert!(!few.out.contains("as many as are kept"), "{few:?}");
}
