//! What readers see of versions that have not seen each other, and how a conflict is settled.

use std::sync::Arc;

use reknit::core::bounds::VALUE_BYTES_MAX;
use reknit::core::brakes::Losses;
use reknit::core::policy::{Judgement, Policies, Policy, PolicyError, Why};
use reknit::core::query::{Guard, Incoming};
use reknit::core::row::{Json, Row, encode};
use reknit::core::{Actor, CollectionId, Content, Definition, Profile, Record, Sibling, Stamp, State, Version};
use reknit::store::contract::record;
use reknit::store::{Durability, EngineKind, Options, Resolution, Resolved, Side, Store, StoreError};

use crate::support::{self, assert_sound, options};

fn store(policy: &str) -> Store {
    let mut definition = support::definition();
    definition.collections[0].policy = policy.into();
    Store::in_memory(definition, support::key(), &options(EngineKind::Fjall)).expect("create")
}

/// As if a session had brought it from a replica that knew nothing of what is here.
fn bring(store: &Store, key: &str, stamp: u64, value: Option<&[u8]>) {
    let record = record(key.as_bytes(), stamp << 16, stamp, value);
    let batch = vec![Incoming { record, guard: Guard::Join }];
    let applied = store.apply(CollectionId(0), batch, Durability::Synced).expect("apply");
    assert_eq!(applied.applied, 1);
}

fn row(json: &str) -> Vec<u8> {
    let mut row = Row::new();
    for (name, value) in Json::columns(json).expect("columns") {
        row.set(name, value).expect("set");
    }
    encode(&row)
}

fn listed(store: &Store) -> Vec<String> {
    let conflicts = store.first().conflicts(None, 100).expect("conflicts");
    conflicts.into_iter().map(|conflict| String::from_utf8(conflict.key).expect("text")).collect()
}

#[test]
fn readers_see_what_the_policy_says_everywhere() {
    let sees = |policy: &str, old: Option<&[u8]>, new: Option<&[u8]>| {
        let store = store(policy);
        bring(&store, "k", 5, old);
        bring(&store, "k", 7, new);
        let value = store.get(b"k").expect("get");
        let scanned: Vec<_> = store.scan(b"").expect("scan").map(|row| row.expect("a row").1).collect();
        assert_eq!(value.iter().collect::<Vec<_>>(), scanned.iter().collect::<Vec<_>>(), "{policy}");
        assert_eq!(store.stats().expect("stats").records, u64::from(value.is_some()));
        assert_eq!(listed(&store).len(), usize::from(policy != "newest/1"));
        assert_sound(&store, policy);
        value
    };
    let (old, new) = (row(r#"{"n":9}"#), row(r#"{"n":2.5}"#));
    for (policy, seen) in [
        ("newest/1", &new),
        ("keep-both/1", &new),
        ("ask/1", &old),
        ("largest/1 n", &old),
        ("smallest/1 n", &new),
        ("merge/1 at", &old),
    ] {
        assert_eq!(sees(policy, Some(&old), Some(&new)).as_ref(), Some(seen), "{policy}");
    }
    assert_eq!(sees("newest/1", Some(&old), None), None);
    assert_eq!(
        sees("keep-both/1", Some(&old), None).as_ref(),
        Some(&old),
        "a delete hides nothing that it had not seen"
    );
    assert_eq!(sees("ask/1", None, Some(&new)), None, "the oldest, until someone decides");
    let (a, b) = (row(r#"{"at":{"x":9},"hits":{"p":1},"x":1}"#), row(r#"{"at":{"x":8},"hits":{"q":2},"x":2}"#));
    let merged = row(r#"{"at":{"x":9},"hits":{"p":1,"q":2},"x":1}"#);
    assert_eq!(sees("merge/1 at;hits=counter", Some(&a), Some(&b)), Some(merged));
}

#[test]
fn what_a_session_loses_a_store_is_what_readers_lose() {
    let lost = |policy: &str, contents: [Option<&[u8]>; 2], last: Option<&[u8]>| {
        let store = store(policy);
        let apply = |record: Record| {
            let batch = vec![Incoming { record, guard: Guard::Join }];
            let Losses { deleted, changed } =
                store.apply(CollectionId(0), batch, Durability::Synced).expect("apply").losses;
            (deleted, changed)
        };
        let [old, new] = contents;
        let (old, new) = (record(b"k", 5 << 16, 5, old), record(b"k", 7 << 16, 7, new));
        let seen = [&old, &new].map(|record| record.state.winner().version.clone());
        let version = Version::after(Stamp(9 << 16), Actor(9), &seen);
        let content = last.map_or(Content::Tombstone, |value| Content::Live(value.to_vec()));
        let state = State::single(Sibling { version, content, expires: None });
        [old, new, Record { key: b"k".to_vec(), state }].map(apply)
    };
    let (a, b, c) = (row(r#"{"n":9}"#), row(r#"{"n":2}"#), row(r#"{"n":3}"#));
    let none = (0, 0);
    assert_eq!(lost("newest/1", [Some(&a), None], None), [none, (1, 0), none]);
    // A newer deletion hides nothing that it had not seen; only what has seen both takes it away.
    for policy in ["keep-both/1", "largest/1 n", "ask/1"] {
        assert_eq!(lost(policy, [Some(&a), None], None), [none, none, (1, 0)], "{policy}");
    }
    assert_eq!(lost("ask/1", [Some(&a), Some(&b)], Some(&b)), [none, none, (0, 1)]);
    assert_eq!(lost("largest/1 n", [Some(&a), Some(&b)], Some(&c)), [none, none, (0, 1)]);
    assert_eq!(lost("smallest/1 n", [Some(&a), Some(&b)], Some(&b)), [none, (0, 1), none]);
}

#[test]
fn a_conflict_is_settled_by_whoever_has_seen_it() {
    let store = store("ask/1");
    for (key, stamp) in [("c", 3), ("a", 4), ("b", 5), ("d", 6), ("c", 7), ("a", 8), ("b", 9), ("d", 10)] {
        bring(&store, key, stamp, Some(format!("{key}{stamp}").as_bytes()));
    }
    assert_eq!(listed(&store), ["a", "b", "c", "d"]);
    let first = store.first();
    let conflicts = first.conflicts(None, 3).expect("conflicts");
    assert_eq!(first.conflicts(Some(b"c"), 3).expect("conflicts").len(), 1, "listed on from a key");
    assert_eq!(conflicts[0].judgement, Judgement::Open { shown: 1, why: Why::Asks });
    assert_eq!(store.get(b"a").expect("get"), Some(b"a4".to_vec()), "readers see the old value");
    assert_eq!(first.resolve(&conflicts[0], Resolution::Version(2)).expect("resolve"), Resolved::NoVersion);
    assert_eq!(first.resolve(&conflicts[0], Resolution::Version(0)).expect("resolve"), Resolved::Written);
    assert_eq!(first.resolve(&conflicts[0], Resolution::Version(0)).expect("resolve"), Resolved::Moved, "again");
    assert_eq!(first.resolve(&conflicts[1], Resolution::Value(b"both".to_vec())).expect("resolve"), Resolved::Written);
    bring(&store, "c", 11, Some(b"c11"));
    assert_eq!(first.resolve(&conflicts[2], Resolution::Delete).expect("resolve"), Resolved::Moved, "one came since");
    assert_eq!(listed(&store), ["c", "d"]);
    let rest = first.conflicts(None, 9).expect("conflicts");
    assert_eq!(rest[0].versions.len(), 3);
    assert_eq!(first.resolve(&rest[0], Resolution::Delete).expect("resolve"), Resolved::Written);
    let values = [b"a", b"b", b"c"].map(|key| store.get(key).expect("get"));
    assert_eq!(values, [Some(b"a8".to_vec()), Some(b"both".to_vec()), None]);
    // What was resolved is not brought back by what it had seen.
    for versions in conflicts.iter().map(|conflict| conflict.versions.clone()) {
        let before = store.root();
        let old: Vec<Incoming> = versions
            .into_iter()
            .map(|Sibling { version, content, expires }| {
                let key = conflicts.iter().find(|c| c.versions.iter().any(|s| s.version == version)).expect("there");
                let state = reknit::core::State::single(Sibling { version, content, expires });
                Incoming { record: reknit::core::Record { key: key.key.clone(), state }, guard: Guard::Join }
            })
            .collect();
        assert_eq!(store.apply(CollectionId(0), old, Durability::Synced).expect("apply").applied, 0);
        assert_eq!(store.root(), before);
    }
    // A put has seen what is there, and so settles it too.
    store.put(b"d", b"settled").expect("put");
    assert_eq!(listed(&store), Vec::<String>::new());
    assert_sound(&store, "at the end");
}

#[test]
fn what_a_policy_needs_and_a_version_lacks_is_a_conflict() {
    let store = store("largest/1 n");
    bring(&store, "k", 5, Some(&row(r#"{"n":9}"#)));
    bring(&store, "k", 7, Some(&row(r#"{"m":1}"#)));
    let conflicts = store.first().conflicts(None, 9).expect("conflicts");
    let why = Why::Failed(PolicyError::NoColumn("n".into()));
    assert_eq!(conflicts[0].judgement, Judgement::Open { shown: 1, why });
    assert_eq!(store.get(b"k").expect("get"), Some(row(r#"{"n":9}"#)));
}

#[derive(Debug)]
struct Shortest;

impl Policy for Shortest {
    fn id(&self) -> &str {
        "shortest/1"
    }

    fn judge(&self, versions: &[Sibling]) -> Judgement {
        let length = |nth: &usize| versions[*nth].value().map_or(usize::MAX, Vec::len);
        Judgement::Version((0..versions.len()).min_by_key(length).unwrap_or(0))
    }
}

#[test]
fn a_policy_is_built_in_or_brought_or_refused_by_name() {
    let mut definition = support::definition();
    definition.collections[0].policy = "shortest/1".into();
    let known = options(EngineKind::Fjall);
    match Store::in_memory(definition.clone(), support::key(), &known) {
        Err(StoreError::Policy(unknown)) => assert_eq!(unknown.text, "shortest/1"),
        Ok(_) | Err(_) => panic!("it is not known"),
    }
    let brought = Options { policies: Policies::default().with(Arc::new(Shortest)), ..known };
    let store = Store::in_memory(definition, support::key(), &brought).expect("create");
    bring(&store, "k", 5, Some(b"short"));
    bring(&store, "k", 7, Some(b"much longer"));
    assert_eq!(store.get(b"k").expect("get"), Some(b"short".to_vec()));
}

/// Without versions there are no siblings, whatever the policy.
#[test]
fn the_content_profile_keeps_one_value() {
    let mut definition: Definition = support::definition();
    (definition.profile, definition.collections[0].policy) = (Profile::Content, "keep-both/1".into());
    let store = Store::in_memory(definition, support::key(), &options(EngineKind::Fjall)).expect("create");
    bring(&store, "k", 5, Some(b"old"));
    bring(&store, "k", 7, Some(b"new"));
    let state = store.first().versions(b"k").expect("versions").expect("there");
    assert_eq!(state.versions().iter().map(|s| &s.content).collect::<Vec<_>>(), [&Content::Live(b"new".to_vec())]);
    assert_eq!(listed(&store), Vec::<String>::new());
}

/// What does not travel whole is not stored side by side: one key, and no session, stands still for it.
#[test]
fn versions_that_are_too_large_together_are_refused_by_name_and_hold_up_no_other() {
    let store = store("keep-both/1");
    let half = vec![7; VALUE_BYTES_MAX / 2 + 1];
    let incoming = |key: &str, stamp: u64, value: &[u8]| Incoming {
        record: record(key.as_bytes(), stamp << 16, stamp, Some(value)),
        guard: Guard::Join,
    };
    let apply = |batch| store.apply(CollectionId(0), batch, Durability::Synced).expect("apply");
    assert_eq!(apply(vec![incoming("k", 5, &half)]).applied, 1);
    let applied = apply(vec![incoming("k", 7, &half), incoming("other", 7, b"small")]);
    assert_eq!((applied.applied, applied.refused.len()), (1, 1), "{:?}", applied.refused);
    let (key, reason) = &applied.refused[0];
    assert!(key == b"k" && reason.contains("2 versions have 67108866 bytes together"), "{reason}");
    assert!(store.get(b"k").expect("get") == Some(half) && listed(&store).is_empty());
}
