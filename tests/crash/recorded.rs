//! What a crash of the machine leaves of fjall's files at each call that changes them, also while tables are written out and
//! journals go: the calls are written down by `strace`, and images are made of what they had come to.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use reknit::store::EngineKind;
use reknit::store::engine;
use reknit::store::engine::conformance::Draw;

use crate::calls::{self, Event};
use crate::disk::Disk;
use crate::history::{History, found, is_what, reopen};
use crate::model;
use crate::process::quick_dir;

const CACHE_BYTES: u64 = 1 << 20;
/// Commits before each time that tables are written out, about, and after the last.
const STEPS: usize = 12;
/// How often tables are written out.
const TABLES: usize = 4;
/// One in so many images is verified from end to end.
const DEEP: usize = 5;
const DIR: &str = "REKNIT_RECORDED_DIR";
const SEED: &str = "REKNIT_RECORDED_SEED";

/// Makes a history in the directory of rows that the environment names; where none is named, in one of its own, which is what was
/// told of it afterwards.
#[test]
fn makes_a_history_when_told() {
    if let (Ok(dir), Ok(seed)) = (std::env::var(DIR), std::env::var(SEED)) {
        let history = make_a_history(Path::new(&dir), seed.parse().expect("a number"));
        return history.told().for_each(|(commit, held)| println!("\nheld {commit} {held}"));
    }
    let home = quick_dir();
    let open = || engine::open(EngineKind::Fjall, home.path(), CACHE_BYTES).expect("an engine");
    drop(found(open()));
    let (_, held) = make_a_history(home.path(), 1).told().last().expect("commits");
    assert_eq!(is_what(&held, &reopen(open()).expect("open"), true), Ok(()));
}

fn make_a_history(dir: &Path, seed: u64) -> History {
    let mut draw = Draw(seed);
    let engine = engine::open(EngineKind::Fjall, dir, CACHE_BYTES).expect("an engine");
    let store = reopen(engine).expect("open");
    let mut acknowledged = |commit: u64, synced: bool| println!("\nacknowledged {commit} {synced}");
    let mut history = History::default();
    for _ in 0..TABLES {
        history.go_on(&store, &mut draw, STEPS, &mut acknowledged);
        let before = tables(dir);
        history.fill(&store, &mut acknowledged);
        while tables(dir) == before {
            std::thread::yield_now();
        }
    }
    history.go_on(&store, &mut draw, STEPS, &mut acknowledged);
    history
}

fn tables(dir: &Path) -> usize {
    fs::read_dir(dir.join("keyspaces/1/tables")).map_or(0, Iterator::count)
}

/// What a process did to its files, and what its store held after each commit.
struct Past {
    begun: Disk,
    events: Vec<Event>,
    held: BTreeMap<u64, String>,
}

fn record(seed: u64) -> Past {
    let home = quick_dir();
    let (dir, log) = (home.path().join("rows"), home.path().join("calls"));
    fs::create_dir(&dir).expect("a directory");
    drop(found(engine::open(EngineKind::Fjall, &dir, CACHE_BYTES).expect("an engine")));
    let begun = Disk::read(&dir);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-xx", "-s", "33554432", "-e", calls::TRACED, "-e", "signal=none", "-o"]).arg(&log);
    strace.arg(std::env::current_exe().expect("this test"));
    strace.args(["--exact", "recorded::makes_a_history_when_told", "--nocapture", "--test-threads", "1"]);
    strace.env(DIR, &dir).env(SEED, seed.to_string()).stdin(Stdio::null());
    let output = strace.output().expect("strace, which Debian has in a package of that name");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let events = calls::read(&log, &dir);
    let held = events.iter().filter_map(|event| {
        let Event::Said(line) = event else { return None };
        let (commit, told) = line.strip_prefix("held ")?.split_once(' ')?;
        Some((commit.parse().expect("a number"), told.to_owned()))
    });
    let held = held.collect();
    let mut disk = begun.clone();
    events.iter().for_each(|event| disk.apply(event));
    let other = disk.other_than(&Disk::read(&dir));
    assert!(other.is_empty(), "what was written down is not what was done: {other:?}");
    Past { begun, events, held }
}

/// What became of images.
#[derive(Debug, Default)]
struct Opened {
    images: u64,
    /// With a commit that nobody had been told of as synced.
    newer: u64,
    /// Made while a name was on its way.
    naming: u64,
}

/// Opens `wanted` images of crashes after any of some events. One event, which was to sync something, came to nothing.
fn crash(past: &Past, seed: u64, wanted: u64, among: Range<usize>, lost: Option<usize>) -> Result<Opened, String> {
    let home = quick_dir();
    let mut draw = Draw(seed ^ 0x7374_7261_6365);
    let mut points: Vec<usize> = (0..wanted).map(|_| among.start + draw.below(among.len())).collect();
    points.sort_unstable();
    let (mut disk, mut opened, mut floor) = (past.begun.clone(), Opened::default(), 0);
    let mut points = points.into_iter().peekable();
    for (nth, event) in past.events.iter().enumerate() {
        if lost == Some(nth) {
            disk.pass()
        } else {
            disk.apply(event)
        }
        let said = if let Event::Said(line) = event { line.strip_prefix("acknowledged ") } else { None };
        let synced = said.and_then(|said| said.strip_suffix(" true"));
        floor = synced.map_or(floor, |commit| commit.parse().expect("a number"));
        while points.next_if_eq(&nth).is_some() {
            let dir = home.path().join("image");
            let what = disk.image(&mut draw, &dir);
            let note = |wrong: String| format!("fjall, seed {seed}, after event {nth} ({event:?}), {what}: {wrong}");
            let engine = engine::open(EngineKind::Fjall, &dir, CACHE_BYTES).map_err(|error| note(error.to_string()))?;
            let store = reopen(engine).map_err(|error| note(error.to_string()))?;
            let commit = store.cut().commit;
            let told = past.held.get(&commit).ok_or_else(|| note(format!("there never was a commit {commit}")))?;
            if commit < floor {
                return Err(note(format!("commit {floor} was acknowledged as synced, the newest is {commit}")));
            }
            is_what(told, &store, draw.below(DEEP) == 0).map_err(note)?;
            opened.images += 1;
            opened.newer += u64::from(commit > floor);
            opened.naming += u64::from(disk.is_naming());
            drop(store);
            fs::remove_dir_all(&dir).expect("removed");
        }
    }
    Ok(opened)
}

#[test]
fn fjall_survives_crashes_at_every_call() {
    let began = Instant::now();
    let seed = model::seed();
    let past = record(seed);
    let all = 0..past.events.len();
    let opened = crash(&past, seed, model::recorded(), all, None).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("fjall, {} calls: {opened:?}, {} s", past.events.len(), began.elapsed().as_secs());
    assert!(opened.newer * 50 > opened.images && opened.naming > 0, "crashes leave nothing half-way: {opened:?}");
}

#[test]
fn a_sync_of_a_journal_that_comes_to_nothing_is_caught() {
    let past = record(7);
    let is_sync = |nth: &usize| matches!(past.events[*nth], Event::Synced { .. });
    let of_journal = |nth: &usize| matches!(&past.events[*nth], Event::Synced { name, .. } if name.extension().is_some_and(|kind| kind == "jnl"));
    let told = |nth: &usize| matches!(&past.events[*nth], Event::Said(line) if line.starts_with("acknowledged") && line.ends_with("true"));
    let all = past.events.len();
    let commit = |nth: usize| match &past.events[nth] {
        Event::Said(line) => line.split(' ').nth(1).and_then(|commit| commit.parse::<u64>().ok()),
        _ => None,
    };
    // It matters where somebody was told of a commit that was not safe before, and before anything else was synced.
    let needed = (0..all).filter(of_journal).filter_map(|sync| {
        let next = (sync + 1..all).find(is_sync).unwrap_or(all);
        let first = (sync..next).find(told)?;
        let safe = (0..sync).filter(told).filter_map(commit).max();
        (commit(first) > safe).then_some((sync, first..next))
    });
    let (mut caught, mut wanted) = (0, 0);
    for (sync, among) in needed {
        wanted += 1;
        caught += u64::from(crash(&past, 7, 12, among, Some(sync)).is_err());
    }
    println!("fjall: {caught} of {wanted} syncs that came to nothing were noticed");
    // An image may keep by chance all that was not synced.
    assert!(wanted > 20 && caught * 10 >= wanted * 9, "only {caught} of {wanted} were noticed");
}
