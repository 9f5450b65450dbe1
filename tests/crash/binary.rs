//! The real binary, killed while it imports, puts, repairs from either end, carries out a plan, undoes, collects, catches up,
//! and while it opens a store that was left by such a kill. After each kill the store opens soon, is sound, and holds what was
//! acknowledged.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reknit::core::journal::RunId;
use reknit::core::{Content, DatasetId, DatasetKey, Definition, State};
use reknit::store::engine::conformance::Draw;
use reknit::store::{Durability, EngineKind, Op, Options, Store};

use crate::model::{self, Map, assert_sound};
use crate::process::{Place, copy};

mod collecting;

use collecting::Collecting;

/// A store that was killed is open again within this time.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// Records that both sides hold alike before they drift.
const RECORDS: usize = 500;
/// Records in a file that is imported.
const IMPORTED: usize = 200;

#[test]
fn fjall_survives_kills_of_the_binary() {
    survives(EngineKind::Fjall);
}

#[test]
fn redb_survives_kills_of_the_binary() {
    survives(EngineKind::Redb);
}

/// What is killed, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scene {
    Import,
    Put,
    /// Both stores are of one process.
    Repair,
    Opener,
    Server,
    /// Of a plan, which goes on where it was.
    Apply,
    Undo,
    UndoEverywhere,
    /// Tombstones that all have passed, and then the repair that hands that on.
    Gc,
    CatchUp,
}

const SCENES: [Scene; 10] = [
    Scene::Import,
    Scene::Put,
    Scene::Repair,
    Scene::Opener,
    Scene::Server,
    Scene::Apply,
    Scene::Undo,
    Scene::UndoEverywhere,
    Scene::Gc,
    Scene::CatchUp,
];

fn survives(engine: EngineKind) {
    let began = Instant::now();
    let stage = Stage::build(engine, model::seed());
    let wanted = model::kills();
    for nth in 0.. {
        if stage.count() >= wanted {
            break;
        }
        stage.act(SCENES[nth % SCENES.len()]);
        assert!(nth as u64 <= 10 * wanted, "{engine}: processes end before they are killed: {:?}", stage.kills);
    }
    let kills = stage.kills.borrow();
    for scene in SCENES.map(|scene| format!("{scene:?}")).iter().map(String::as_str).chain(["handing on", "recovery"]) {
        assert!(wanted < 60 || kills.get(scene).is_some_and(|kills| *kills > 0), "{engine}: no kill in {scene}");
    }
    let left = stage.left.borrow();
    println!("{engine}, {} s: {kills:?}; left undone, in part, done: {left:?}", began.elapsed().as_secs());
}

/// Stores that have drifted, as they are before each scene, and what they hold.
struct Stage {
    engine: EngineKind,
    place: Place,
    draw: RefCell<Draw>,
    kills: RefCell<BTreeMap<String, u64>>,
    /// Of a scene's kills those that left nothing done, a part, all of it.
    left: RefCell<BTreeMap<String, [u64; 3]>>,
    /// How far each command goes, as seen so far.
    lengths: RefCell<BTreeMap<String, u64>>,
    before: [Map; 2],
    /// The runs that were before each scene.
    runs: [Option<RunId>; 2],
    /// What both hold after a repair.
    after: Map,
    /// A file to import into `a`, and what `a` holds then.
    imported: Map,
    collecting: OnceCell<Collecting>,
}

fn key(nth: usize) -> Vec<u8> {
    format!("k{nth:05}").into_bytes()
}

/// Text, since it stands in a file too.
fn value(draw: &mut Draw) -> Vec<u8> {
    let most = if draw.below(4) == 0 { 30_000 } else { 100 };
    let len = 1 + draw.below(most);
    (0..len).map(|_| b'a' + u8::try_from(draw.below(26)).expect("a letter")).collect()
}

pub(crate) fn options(engine: EngineKind) -> Options {
    Options { engine, fold_at: 60, ..Options::default() }
}

impl Stage {
    fn build(engine: EngineKind, seed: u64) -> Stage {
        let mut draw = Draw(seed.wrapping_mul(2).wrapping_add(engine as u64));
        let place = Place::new();
        let definition = Definition::simple(DatasetId([7; 16]), "crash");
        let stores = ["a0", "b0"].map(|name| {
            let key = DatasetKey::from_bytes([9; 32]);
            Store::create(&place.path(name), definition.clone(), key, &options(engine)).expect("create")
        });
        let same = (0..RECORDS).map(|nth| Op::put(key(nth), value(&mut draw))).collect();
        stores[0].batch(same, Durability::Synced).expect("written");
        drop(stores);
        place.run("repair a0 b0 --apply").ok();
        let stores = ["a0", "b0"].map(|name| Store::open(&place.path(name), &options(engine)).expect("open"));
        // Each changes, deletes and adds keys of its own, so that it is plain what a repair makes of them.
        for (side, store) in stores.iter().enumerate() {
            let mut ops = Vec::new();
            for nth in (side..RECORDS + 80).step_by(2).filter(|nth| nth % 3 > 0 || *nth >= RECORDS) {
                let deleted = nth < RECORDS && draw.below(4) == 0;
                ops.push(if deleted { Op::delete(key(nth)) } else { Op::put(key(nth), value(&mut draw)) });
            }
            store.batch(ops, Durability::Synced).expect("written");
        }
        let (before, runs) = (stores.each_ref().map(contents), stores.each_ref().map(newest_run));
        drop(stores);
        ["a", "b"].iter().for_each(|name| copy(&place.path(&format!("{name}0")), &place.path(name)));
        place.run("repair a b --apply").ok();
        let after = contents(&Store::open(&place.path("b"), &options(engine)).expect("open"));
        copy(&place.path("a"), &place.path("a1"));
        let mut imported = before[0].clone();
        let mut file = String::new();
        for nth in 0..IMPORTED {
            let (key, value) = (key(nth * 2), value(&mut draw));
            file.push_str(&format!("{}\t{}\n", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value)));
            imported.insert(key, value);
        }
        std::fs::write(place.path("rows.kv"), file).expect("a file");
        let me = place.run("id").ok().out;
        place.run_at("far", &format!("peers add {} --may compare,read,write", me.trim())).ok();
        let draw = RefCell::new(draw);
        let (kills, left, lengths) = (RefCell::default(), RefCell::default(), RefCell::default());
        let collecting = OnceCell::new();
        Stage { engine, place, draw, kills, left, lengths, before, runs, after, imported, collecting }
    }

    fn collecting(&self) -> &Collecting {
        self.collecting.get_or_init(|| Collecting::build(self))
    }

    fn count(&self) -> u64 {
        self.kills.borrow().values().sum()
    }

    fn below(&self, most: u64) -> u64 {
        self.draw.borrow_mut().below(usize::try_from(most).expect("fits")) as u64
    }

    /// Where to kill a command: anywhere on the way that it was seen to go. The first of its kind goes to its end.
    fn point(&self, what: &str) -> u64 {
        let length = self.lengths.borrow().get(what).copied();
        length.map_or(u64::MAX, |length| self.below(length + 1))
    }

    /// Notes how far a command came, and whether it was killed.
    fn note(&self, what: &str, (seen, killed): (u64, bool)) -> bool {
        let mut lengths = self.lengths.borrow_mut();
        let length = lengths.entry(what.to_owned()).or_insert(0);
        *length = (*length).max(seen);
        if killed {
            *self.kills.borrow_mut().entry(what.to_owned()).or_insert(0) += 1;
        }
        killed
    }

    /// Notes what a kill has left.
    fn left(&self, what: &str, found: &Map, undone: &Map, done: &Map) {
        let place = if found == done { 2 } else { usize::from(found != undone) };
        self.left.borrow_mut().entry(what.to_owned()).or_default()[place] += 1;
    }

    fn fresh(&self, store: &str, like: &str) {
        let path = self.place.path(store);
        if path.exists() {
            std::fs::remove_dir_all(&path).expect("removed");
        }
        copy(&self.place.path(like), &path);
    }

    /// Runs a command until it is killed; now and then what opens the stores next is killed too.
    fn killed(&self, home: &str, what: &str, line: &str, stores: &[&str]) -> bool {
        let mut running = self.place.start(home, line);
        let killed = self.note(what, running.kill_at(self.point(what), None));
        drop(running);
        self.recover(stores);
        killed
    }

    fn recover(&self, stores: &[&str]) {
        for store in stores {
            for _ in 0..self.below(3).saturating_sub(1) {
                let mut running = self.place.start("home", &format!("get {store} nothing"));
                self.note("recovery", running.kill_at(self.point("recovery"), None));
            }
        }
    }

    fn open(&self, name: &str, note: &str) -> Store {
        let began = Instant::now();
        let store = Store::open(&self.place.path(name), &options(self.engine))
            .unwrap_or_else(|error| panic!("{note}: {error}"));
        let took = began.elapsed();
        assert!(took < OPEN_MAX, "{note}: {name} took {took:?} to open");
        assert_sound(&store, note);
        store
    }

    fn act(&self, scene: Scene) {
        let what = format!("{scene:?}");
        let note = format!("{}, seed {}, kill {} in {what}", self.engine, model::seed(), self.count());
        match scene {
            Scene::Import => self.import(&what, &note),
            Scene::Put => self.put(&what, &note),
            Scene::Repair | Scene::Opener | Scene::Server => self.repair(scene, &what, &note),
            Scene::Apply => self.apply(&what, &note),
            Scene::Undo => self.undo(&what, &note),
            Scene::UndoEverywhere => self.undo_everywhere(&what, &note),
            Scene::Gc => self.gc(&what, &note),
            Scene::CatchUp => self.catch_up(&what, &note),
        }
    }

    /// A file of one batch is there whole or not at all, and whole once the command has said so.
    fn import(&self, what: &str, note: &str) {
        self.fresh("a", "a0");
        for _ in 0..3 {
            let killed = self.killed("home", what, "import a rows.kv", &["a"]);
            let found = contents(&self.open("a", note));
            self.left(what, &found, &self.before[0], &self.imported);
            let whole = found == self.imported;
            assert!(whole || (killed && found == self.before[0]), "{note}: an import is there in part");
            if whole {
                return;
            }
        }
    }

    /// Keys that were put stay, the one that was not acknowledged is there or not.
    fn put(&self, what: &str, note: &str) {
        self.fresh("a", "a0");
        let mut should = self.before[0].clone();
        for nth in 0..4 {
            let (key, value) = (key(nth), format!("put {nth}").into_bytes());
            let line = format!("put a {} put-{nth}", String::from_utf8_lossy(&key));
            let value = [b"put-", &value[4..]].concat();
            let killed = self.killed("home", what, &line, &["a"]);
            let mut with = should.clone();
            with.insert(key, value);
            let found = contents(&self.open("a", note));
            self.left(what, &found, &should, &with);
            if found == with {
                should = with;
            } else {
                assert!(
                    killed && found == should,
                    "{note}: put {nth} was acknowledged and is not there, or half of it"
                );
            }
        }
    }

    /// Each key of either side is as it was, or as it is to be and its old state in the journal. A repair that is let to
    /// its end makes both equal.
    fn repair(&self, scene: Scene, what: &str, note: &str) {
        self.fresh("a", "a0");
        self.fresh("b", "b0");
        for _ in 0..2 {
            if scene == Scene::Repair {
                self.killed("home", what, "repair a b --apply", &["a", "b"]);
            } else {
                let (mut server, address) = self.place.serve("b");
                if scene == Scene::Server && !self.lengths.borrow().contains_key(what) {
                    self.place.run(&format!("repair a {address} --apply")).ok();
                    self.note(what, (server.progress(), false));
                    return;
                }
                let mut opener = self.place.start("home", &format!("repair a {address} --apply"));
                if scene == Scene::Opener {
                    self.note(what, opener.kill_at(self.point(what), None));
                    server.kill();
                } else {
                    self.note(what, server.kill_at(self.point(what), Some(&mut opener)));
                    drop(opener);
                }
                self.recover(&["a", "b"]);
            }
            for (side, name) in ["a", "b"].iter().enumerate() {
                let store = self.open(name, note);
                self.left(what, &contents(&store), &self.before[side], &self.after);
                assert_between(&store, (&self.before[side], &self.after), self.runs[side], note);
            }
        }
        if self.below(4) == 0 {
            self.place.run("repair a b --apply").ok();
            for name in ["a", "b"] {
                assert!(contents(&self.open(name, note)) == self.after, "{note}: {name} is not as repaired");
            }
        }
    }

    /// A plan that is carried out and killed writes keys as the plan says or not at all, and goes on: what it has written is what
    /// moved meanwhile.
    fn apply(&self, what: &str, note: &str) {
        self.fresh("a", "a0");
        self.fresh("b", "b0");
        let planned = self.place.run("repair a b --plan plan");
        assert_eq!(planned.exit, Some(1), "{note}: {}", planned.err);
        for _ in 0..3 {
            self.killed("home", what, "apply plan a b", &["a", "b"]);
            for (side, name) in ["a", "b"].iter().enumerate() {
                let store = self.open(name, note);
                self.left(what, &contents(&store), &self.before[side], &self.after);
                assert_between(&store, (&self.before[side], &self.after), self.runs[side], note);
            }
        }
        let ended = self.place.run("apply plan a b");
        // What was written before is skipped; refused where the last kill came after it was noted that all of it is done.
        assert!(matches!(ended.exit, Some(0 | 1 | 4)), "{note}: {:?} {}", ended.exit, ended.err);
        assert!(ended.exit != Some(4) || ended.err.contains("[plan.applied]"), "{note}: {}", ended.err);
        for name in ["a", "b"] {
            assert!(contents(&self.open(name, note)) == self.after, "{note}: {name} is not as planned");
        }
        std::fs::remove_file(self.place.path("plan")).expect("removed");
    }

    /// The same of an undo by new versions: killed anywhere, it goes on to the contents of before the run.
    fn undo_everywhere(&self, what: &str, note: &str) {
        self.fresh("a", "a1");
        let run = {
            let store = self.open("a", note);
            store.runs().last().expect("the repair").0
        };
        let line = format!("runs undo a {run} --everywhere");
        for _ in 0..4 {
            self.killed("home", what, &line, &["a"]);
            let found = contents(&self.open("a", note));
            self.left(what, &found, &self.after, &self.before[0]);
            for key in self.before[0].keys().chain(self.after.keys()) {
                let known = found.get(key) == self.before[0].get(key) || found.get(key) == self.after.get(key);
                let shown = String::from_utf8_lossy(key);
                assert!(known, "{note}: {shown} is neither as before the run nor as after it");
            }
            if found == self.before[0] {
                break;
            }
        }
        let ended = self.place.run(&line);
        // Refused where the last kill came after its end.
        assert!(matches!(ended.exit, Some(0 | 4)), "{note}: {}", ended.err);
        assert!(contents(&self.open("a", note)) == self.before[0], "{note}: not the contents of before the run");
    }

    /// An undo that is killed goes on, and ends with just the bytes of before the run.
    fn undo(&self, what: &str, note: &str) {
        self.fresh("a", "a1");
        let run = {
            let store = self.open("a", note);
            store.runs().last().expect("the repair").0
        };
        let line = format!("runs undo a {run}");
        for _ in 0..4 {
            self.killed("home", what, &line, &["a"]);
            let found = contents(&self.open("a", note));
            self.left(what, &found, &self.after, &self.before[0]);
            for key in found.keys().chain(self.before[0].keys()).chain(self.after.keys()) {
                let is = found.get(key);
                let shown = String::from_utf8_lossy(key);
                let known = is == self.before[0].get(key) || is == self.after.get(key);
                assert!(known, "{note}: {shown} is neither as before the run nor as after it");
            }
            if found == self.before[0] {
                break;
            }
        }
        let ended = self.place.run(&line);
        // Refused where the last kill came after its end.
        assert!(matches!(ended.exit, Some(0 | 4)), "{note}: {}", ended.err);
        drop(self.open("a", note));
        let exported = |store: &str| self.place.run(&format!("export {store} -o {store}.kv")).ok().exit.is_some();
        assert!(exported("a") && exported("a0"));
        let bytes = |name: &str| std::fs::read(self.place.path(name)).expect("exported");
        assert!(bytes("a.kv") == bytes("a0.kv"), "{note}: the undo does not end with the bytes of before");
        let root = |name: &str| Store::open(&self.place.path(name), &options(self.engine)).expect("open").root();
        assert_eq!(root("a"), root("a0"), "{note}: the versions are not those of before");
    }
}

fn live(state: &State) -> Option<Vec<u8>> {
    match &state.winner().content {
        Content::Live(value) => Some(value.clone()),
        Content::Tombstone => None,
    }
}

pub(crate) fn contents(store: &Store) -> Map {
    store.scan(b"").expect("scan").collect::<Result<_, _>>().expect("a row")
}

/// The newest run of a store.
fn newest_run(store: &Store) -> Option<RunId> {
    store.runs().last().map(|(id, _)| *id)
}

/// Each key is as before or as after a repair, and the journal holds what was before of just those that changed.
pub(crate) fn assert_between(store: &Store, (before, after): (&Map, &Map), runs: Option<RunId>, note: &str) {
    let mut replaced: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
    for (id, _) in store.runs() {
        if Some(id) > runs {
            store
                .run_entries(id, &mut |entry| {
                    replaced.insert(entry.key, entry.before.as_ref().and_then(|before| live(&before.state)));
                    true
                })
                .unwrap_or_else(|error| panic!("{note}: {error}"));
        }
    }
    let found = contents(store);
    let keys: std::collections::BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).chain(found.keys()).collect();
    for key in keys {
        let shown = String::from_utf8_lossy(key);
        let (was, is, should) = (before.get(key), found.get(key), after.get(key));
        assert!(is == was || is == should, "{note}: {shown} is neither as before nor as repaired");
        if was != should && is == should {
            let kept = replaced.get(key).map(Option::as_ref);
            assert_eq!(kept, Some(was), "{note}: {shown} was replaced, and the journal does not hold what it was");
        }
    }
}
