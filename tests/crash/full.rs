//! A disk that is full: the write that does not fit is refused by name, nothing before it is lost; of a repair and an undo by
//! the real binary too.

use std::io::Read as _;
use std::path::Path;

use reknit::core::{DatasetId, DatasetKey, Definition};
use reknit::store::{Durability, EngineKind, Op, Store};

use crate::binary::{assert_between, contents, options};
use crate::child;
use crate::model::{self, ENGINES, Map, WRITERS, assert_sound, batches_held, durability};
use crate::process::{Place, copy, within, written};

/// No file may grow beyond this.
const FILE_BLOCKS_MAX: u64 = 4_000;
/// Bounds that are tried, from a few blocks to as many as the largest file has.
const BOUNDS: u64 = 8;
/// Records of which each side has large and small ones, so that either way takes room.
const RECORDS: usize = 300;

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    for engine in ENGINES {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().join("store");
        model::create(engine, &dir);
        let inner = child::command(&dir, engine.name(), &[0; 3]);
        let mut command = within(FILE_BLOCKS_MAX, &inner);
        command.stdout(std::process::Stdio::piped());
        let mut process = command.spawn().expect("a shell");
        let mut said = String::new();
        process.stdout.take().expect("its output").read_to_string(&mut said).expect("text");
        process.wait().expect("its end");

        let failed: Vec<&str> = said.lines().filter(|line| line.starts_with("failed")).collect();
        assert_eq!(failed.len() as u64, WRITERS, "{engine}: {failed:?}");
        assert!(failed.iter().any(|line| line.ends_with(" full")), "{engine}: {failed:?}");
        assert!(failed.iter().all(|line| !line.ends_with(" otherwise")), "{engine}: {failed:?}");

        let store = Store::open(&dir, &model::options(engine)).expect("open again with room");
        for writer in 0..WRITERS {
            let begin = format!("done {writer} ");
            let numbers = said.lines().filter_map(|line| line.strip_prefix(&begin)?.parse::<u64>().ok());
            let synced = numbers.filter(|nth| durability(*nth) == Durability::Synced).max().unwrap_or(0);
            assert!(batches_held(&store, writer, engine.name()) >= synced, "{engine}: writer {writer}");
        }
        assert_sound(&store, engine.name());
        store.put(b"9/after", b"x").expect("room again");
    }
}

/// A record of which readers see the one content or the other.
fn row(nth: usize, large: bool) -> (Vec<u8>, Vec<u8>) {
    let len = if large { 12_000 } else { 20 };
    // No two are alike, so that no engine packs them into less.
    let text = (0..len).map(|at| b'a' + u8::try_from((at * at + at / 7 * nth + nth) % 26).expect("a letter"));
    (format!("k{nth:05}").into_bytes(), text.collect())
}

/// Bytes of the largest file of a store, as far as they are written.
fn largest(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("files").map(|item| item.expect("a file").path());
    files.map(|path| if path.is_dir() { largest(&path) } else { written(&path).len() as u64 }).max().unwrap_or(0)
}

/// Runs a command under one bound after the other, each time on a fresh copy of `b`; what it left is looked at by `look`. Says how
/// often the disk was full.
fn bounded(place: &Place, like: &str, line: &str, look: &dyn Fn(bool, &str)) -> u64 {
    let most = largest(&place.path(like)) / 512;
    let mut full = 0;
    for bound in 1..=BOUNDS {
        std::fs::remove_dir_all(place.path("b")).expect("removed");
        copy(&place.path(like), &place.path("b"));
        let ended = place.run_within((most * bound / BOUNDS).max(64), line);
        let note = format!("{line} with {bound} of {BOUNDS}: {:?} {}", ended.exit, ended.err);
        let done = ended.exit == Some(0);
        assert!(done || ended.err.contains("[store.disk-full]"), "{note}");
        full += u64::from(!done);
        look(done, &note);
    }
    full
}

#[test]
fn a_repair_and_an_undo_that_find_the_disk_full_say_so_and_leave_nothing_that_cannot_be_put_back() {
    for engine in ENGINES {
        full(engine);
    }
}

fn full(engine: EngineKind) {
    let place = Place::new();
    let definition = Definition::simple(DatasetId([7; 16]), "full");
    let open = |name: &str| Store::open(&place.path(name), &options(engine)).expect("open again with room");
    let [before, after]: [Map; 2] = [0, 1].map(|odd| (0..RECORDS).map(|nth| row(nth, nth % 2 == odd)).collect());
    let put = |store: &Store, rows: &Map| {
        let ops = rows.iter().map(|(key, value)| Op::put(key.clone(), value.clone())).collect();
        store.batch(ops, Durability::Synced).expect("written");
    };
    for name in ["a", "b0"] {
        let key = DatasetKey::from_bytes([9; 32]);
        let store = Store::create(&place.path(name), definition.clone(), key, &options(engine)).expect("create");
        if name == "b0" {
            put(&store, &before);
        }
    }
    place.run("repair a b0 --apply").ok();
    put(&open("a"), &after);

    copy(&place.path("b0"), &place.path("b"));
    let repair = "repair a b --to b --apply";
    let refused = bounded(&place, "b0", repair, &|done, note| {
        let store = open("b");
        assert_sound(&store, note);
        assert!(!done || contents(&store) == after, "{note}");
        assert_between(&store, (&before, &after), None, note);
    });
    assert!(refused > 0, "{engine}: the disk was never full in a repair");
    place.run(repair).ok();
    assert!(contents(&open("b")) == after, "{engine}: with room again it goes on");

    // Of one run, begun and ended with room.
    std::fs::remove_dir_all(place.path("b")).expect("removed");
    copy(&place.path("b0"), &place.path("b"));
    place.run(repair).ok();
    copy(&place.path("b"), &place.path("b1"));
    let run = open("b").runs().last().expect("the repair").0;
    let undo = format!("runs undo b {run}");
    let refused = bounded(&place, "b1", &undo, &|done, note| {
        let found = contents(&open("b"));
        assert!(!done || found == before, "{note}");
        let known = |key: &Vec<u8>| found.get(key) == before.get(key) || found.get(key) == after.get(key);
        assert!(before.keys().all(known), "{note}: a key is neither as before the run nor as after it");
        if !done {
            place.run(&undo).ok();
        }
        let (undone, was) = (open("b"), open("b0"));
        assert_sound(&undone, note);
        assert!(contents(&undone) == before && undone.root() == was.root(), "{note}: not just what was before");
    });
    assert!(refused > 0, "{engine}: the disk was never full in an undo");
}
