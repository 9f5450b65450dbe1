//! The binary killed while it collects tombstones, while a repair hands that on, and while a store that was away catches up.
//! Whatever is left, no deleted record comes back, none that lives is lost, and no tombstone goes that somebody still needs.

use std::collections::BTreeSet;

use reknit::core::journal::RunId;
use reknit::core::query::Selection;
use reknit::core::{CollectionId, Content, DatasetId, DatasetKey, Definition, Range};
use reknit::store::{Durability, Op, Side as _, Store};

use super::{Stage, assert_between, contents, key, newest_run, options, value};
use crate::model::Map;
use crate::process::{copy, put_back};

/// More than go in one commit, so that a kill finds some gone and others not.
const DELETED: usize = 2_600;
/// Of these many records.
const RECORDS: usize = 2_900;
/// Records that each side changes once the deletions have passed.
const CHANGED: usize = 60;

/// What is put back before each scene: two stores, and the home that signs for both.
const PAIR: [&str; 3] = ["c", "d", "keeper"];
const LAPSED: [&str; 3] = ["f", "e", "away"];

/// Stores of which tombstones are collected, as they are before each scene.
pub(super) struct Collecting {
    /// What `c` and `d` hold.
    pair: Drifted,
    /// The tombstones of `c` that can go with those that cannot, and the latter alone.
    graves: [Map; 2],
    /// What `f`, of the home `away`, and `e` hold, of which `e` has collected without waiting for it.
    lapsed: Drifted,
}

/// Two stores that differ.
pub(super) struct Drifted {
    before: [Map; 2],
    runs: [Option<RunId>; 2],
    after: Map,
    /// What was deleted and must not come back.
    gone: BTreeSet<Vec<u8>>,
}

impl Drifted {
    /// What holds whenever one of the sides was killed.
    fn assert_holds(&self, store: &Store, side: usize, note: &str) {
        assert_between(store, (&self.before[side], &self.after), self.runs[side], note);
        let found = contents(store);
        let back = self.gone.iter().find(|key| !self.before[side].contains_key(*key) && found.contains_key(*key));
        assert!(back.is_none(), "{note}: {back:?} was deleted and is back");
    }

    fn assert_over(&self, store: &Store, note: &str) {
        let found = contents(store);
        assert!(found == self.after, "{note}: a side is not as repaired");
        assert!(!self.gone.iter().any(|key| found.contains_key(key)), "{note}: what was deleted is back");
    }
}

/// All keys that are deleted, with the stamps of that.
fn graves(store: &Store) -> Map {
    let all = Selection::Range(Range::ALL);
    let records = store.read(CollectionId(0), &all, None, usize::MAX).expect("read").records;
    let dead = records.into_iter().filter_map(|record| {
        let winner = record.state.winner();
        let stamp = winner.version.stamp.0.to_be_bytes().to_vec();
        (winner.content == Content::Tombstone).then_some((record.key, stamp))
    });
    dead.collect()
}

/// Two stores of a dataset with members, the first with records.
fn create(stage: &Stage, names: [&str; 2], dataset: u8) {
    let definition = Definition::simple(DatasetId([dataset; 16]), "crash").with_members();
    let stores = names.map(|name| {
        let key = DatasetKey::from_bytes([9; 32]);
        Store::create(&stage.place.path(name), definition.clone(), key, &options(stage.engine)).expect("create")
    });
    let records = (0..RECORDS).map(|nth| Op::put(key(nth), value(&mut stage.draw.borrow_mut()))).collect();
    stores[0].batch(records, Durability::Synced).expect("written");
}

/// What one side writes, overwrites and deletes of the keys that are left.
fn change(stage: &Stage, name: &str, side: usize) {
    let mut draw = stage.draw.borrow_mut();
    let store = Store::open(&stage.place.path(name), &options(stage.engine)).expect("open");
    let keys = (DELETED..RECORDS + CHANGED).filter(|nth| nth % 2 == side).take(CHANGED * 3);
    let one = |nth| if nth % 5 < 2 { Op::delete(key(nth)) } else { Op::put(key(nth), value(&mut draw)) };
    store.batch(keys.map(one).collect(), Durability::Synced).expect("written");
}

fn delete(stage: &Stage, name: &str, keys: impl Iterator<Item = usize>) {
    let store = Store::open(&stage.place.path(name), &options(stage.engine)).expect("open");
    store.batch(keys.map(|nth| Op::delete(key(nth))).collect(), Durability::Synced).expect("written");
}

impl Collecting {
    pub(super) fn build(stage: &Stage) -> Collecting {
        let (pair, graves) = passed(stage);
        Collecting { pair, graves, lapsed: lapsed(stage) }
    }
}

/// Two stores of one home, which know of each other to have passed most deletions.
fn passed(stage: &Stage) -> (Drifted, [Map; 2]) {
    let place = &stage.place;
    create(stage, ["c", "d"], 8);
    place.run_at("keeper", "repair c d --apply").ok();
    for (side, name) in ["c", "d"].iter().enumerate() {
        delete(stage, name, (0..DELETED).filter(|nth| nth % 2 == side));
    }
    for _ in 0..2 {
        place.run_at("keeper", "repair c d --apply").ok();
    }
    change(stage, "c", 0);
    change(stage, "d", 1);
    let open = |name: &str| Store::open(&place.path(name), &options(stage.engine)).expect("open");
    let before = ["c", "d"].map(|name| contents(&open(name)));
    let runs = ["c", "d"].map(|name| newest_run(&open(name)));
    let gone: BTreeSet<Vec<u8>> = (0..DELETED).map(key).collect();
    // As it goes when nobody is killed.
    stage.save(&PAIR);
    let all = graves(&open("c"));
    let told = place.run_at("keeper", "gc c --grace 0s --apply").ok().out;
    let young: Map = all.iter().filter(|(key, _)| !gone.contains(*key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!((all.len() - young.len(), graves(&open("c")) == young), (DELETED, true), "{told}");
    place.run_at("keeper", "repair c d --apply").ok();
    let after = contents(&open("d"));
    assert!(after != before[0] && after != before[1] && !young.is_empty());
    (Drifted { before, runs, after, gone }, [all, young])
}

/// A store of the home `away`, whose lease is over at once, and the one of the home `far` that has collected since.
fn lapsed(stage: &Stage) -> Drifted {
    let place = &stage.place;
    create(stage, ["e", "f"], 9);
    let id = |home: &str| place.run_at(home, "id").ok().out.trim().to_owned();
    let (owner, away) = (id("far"), id("away"));
    place.run_at("far", &format!("members add e {owner}")).ok();
    place.run_at("far", &format!("members add e {away} --lease 1ms")).ok();
    place.run_at("far", &format!("peers add {away} --may compare,read,write")).ok();
    let (server, address) = place.serve("e");
    place.run_at("away", &format!("repair f {address} --apply")).ok();
    server.kill();
    delete(stage, "e", 0..DELETED);
    place.run_at("far", "gc e --grace 0s --apply").ok();
    change(stage, "e", 0);
    change(stage, "f", 1);
    // What was written there since stays, though others had deleted what it was before.
    let kept = |nth: &usize| nth % 40 == 7;
    let open = |name: &str| Store::open(&place.path(name), &options(stage.engine)).expect("open");
    let since = (0..DELETED).filter(kept).map(|nth| Op::put(key(nth), format!("since {nth}"))).collect();
    open("f").batch(since, Durability::Synced).expect("written");
    let before = ["f", "e"].map(|name| contents(&open(name)));
    let runs = ["f", "e"].map(|name| newest_run(&open(name)));
    stage.save(&LAPSED);
    let told = place.run_at("away", "repair f e --apply").ok();
    assert!(told.out.contains("to catch up"), "{}", told.out);
    let after = contents(&open("e"));
    let (kept, gone): (Vec<_>, Vec<_>) = (0..DELETED).partition(kept);
    assert!(kept.into_iter().all(|nth| after.get(&key(nth)) == Some(&format!("since {nth}").into_bytes())));
    let drifted = Drifted { before, runs, after, gone: gone.into_iter().map(key).collect() };
    drifted.assert_over(&open("f"), "catching up");
    drifted
}

impl Stage {
    fn save(&self, names: &[&str]) {
        names.iter().for_each(|name| copy(&self.place.path(name), &self.place.path(&format!("{name}-before"))));
    }

    /// Stores stay the lives that receipts speak of: a copy would be one of its own.
    fn put_back(&self, names: &[&str]) {
        names.iter().for_each(|name| put_back(&self.place.path(&format!("{name}-before")), &self.place.path(name)));
    }

    /// All tombstones that every member has passed go, or none, once the store is open again; then a repair hands that on.
    pub(super) fn gc(&self, what: &str, note: &str) {
        let Collecting { pair, graves: [all, young], .. } = self.collecting();
        for _ in 0..3 {
            self.put_back(&PAIR);
            let killed = self.killed("keeper", what, "gc c --grace 0s --apply", &["c"]);
            let store = self.open("c", note);
            let found = graves(&store);
            self.left(what, &found, all, young);
            assert!(found == *young || (killed && found == *all), "{note}: {} tombstones are left", found.len());
            assert!(contents(&store) == pair.before[0], "{note}: collecting changed what is there");
        }
        let line = ["repair c d --apply", "repair d c --apply"][usize::from(self.below(2) == 0)];
        self.killed("keeper", "handing on", line, &["c", "d"]);
        let sides = || ["c", "d"].into_iter().enumerate();
        for (side, name) in sides() {
            let store = self.open(name, note);
            self.left("handing on", &graves(&store), all, young);
            pair.assert_holds(&store, side, note);
        }
        self.place.run_at("keeper", line).ok();
        self.place.run_at("keeper", "gc d --grace 0s --apply").ok();
        self.place.run_at("keeper", "repair d c --apply").ok();
        let over = sides().map(|(_, name)| {
            let store = self.open(name, note);
            pair.assert_over(&store, note);
            assert!(!graves(&store).keys().any(|key| pair.gone.contains(key)), "{note}: not all went in {name}");
            (store.root(), store.horizon().stamp)
        });
        let over: Vec<_> = over.collect();
        assert!(over[0] == over[1], "{note}: the sides differ: {over:?}");
    }

    /// A store that was away loses what others had deleted and nothing else, whenever it is killed.
    pub(super) fn catch_up(&self, what: &str, note: &str) {
        let lapsed = &self.collecting().lapsed;
        self.put_back(&LAPSED);
        let sides = || ["f", "e"].into_iter().enumerate();
        for _ in 0..2 {
            self.killed("away", what, "repair f e --apply", &["f", "e"]);
            for (side, name) in sides() {
                let store = self.open(name, note);
                self.left(what, &contents(&store), &lapsed.before[side], &lapsed.after);
                lapsed.assert_holds(&store, side, note);
            }
        }
        self.place.run_at("away", "repair f e --apply").ok();
        let over = sides().map(|(_, name)| {
            let store = self.open(name, note);
            lapsed.assert_over(&store, note);
            (store.root(), store.horizon().stamp)
        });
        let over: Vec<_> = over.collect();
        assert!(over[0] == over[1], "{note}: the sides differ: {over:?}");
    }
}
