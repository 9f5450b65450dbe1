//! What a crash of the machine leaves of redb's file: images of the disk with the writes since the last sync lost, torn and
//! out of order are opened, also those of a crash while another image was recovered.

use std::sync::Arc;
use std::time::Instant;

use reknit::store::engine::conformance::Draw;
use reknit::store::engine::{self, Engine, EngineError};

use crate::backend::{Disk, Event, apply, image};
use crate::history::Unsynced::{Commit, Rest};
use crate::history::{History, Lazy, found, reopen};
use crate::model;

const CACHE_BYTES: u64 = 1 << 20;
/// Commits before each crash, about.
const STEPS: usize = 40;
/// Images of each point in time.
const AT_EACH: usize = 4;
/// One in so many images is recovered on a disk that crashes too.
const RECOVERED: usize = 20;
/// One in so many is verified from end to end.
const DEEP: usize = 5;

fn engine_over(disk: &Disk) -> Result<Arc<dyn Engine>, EngineError> {
    engine::redb_over(disk.clone(), CACHE_BYTES)
}

#[test]
fn redb_survives_crashes_of_the_machine() {
    let began = Instant::now();
    let wanted = model::images();
    let mut opened = Opened::default();
    for seed in model::seed().. {
        if opened.images >= wanted {
            break;
        }
        let past = record(seed, None, |engine| engine);
        crash(&past, seed, wanted - opened.images, &mut opened).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    println!("redb: {opened:?}, {} s", began.elapsed().as_secs());
    assert!(opened.older * 20 > opened.images && opened.newer > 0, "crashes leave no commit half-way: {opened:?}");
}

/// How many images were opened, and what was in them.
#[derive(Debug, Default)]
struct Opened {
    images: u64,
    /// With the commit that was under way.
    newer: u64,
    /// With the last that was acknowledged as synced.
    older: u64,
    /// Of a crash during the recovery of another.
    recovered: u64,
}

/// What a store did on a disk.
struct Past {
    history: History,
    /// What was on the disk before.
    begun: Vec<u8>,
    events: Vec<Event>,
    syncs: u64,
}

/// Runs a history on a disk that keeps what happens to it.
fn record(seed: u64, ignored: Option<u64>, wrap: impl FnOnce(Arc<dyn Engine>) -> Arc<dyn Engine>) -> Past {
    let disk = Disk::default();
    let engine = engine_over(&disk).expect("an engine");
    let store = found(Arc::clone(&engine));
    drop((store, engine));
    let begun = disk.bytes();
    let disk = Disk::of(begun.clone()).record(ignored);
    let store = reopen(wrap(engine_over(&disk).expect("an engine"))).expect("open");
    let acknowledged = &mut |commit, synced| {
        if synced {
            disk.acknowledged(commit);
        }
    };
    let history = History::make(&store, &mut Draw(seed), STEPS, acknowledged);
    Past { history, begun, events: disk.events(), syncs: disk.syncs() }
}

/// Opens images of a crash at every point of what happened to a disk, `most` at most.
fn crash(past: &Past, seed: u64, most: u64, opened: &mut Opened) -> Result<(), String> {
    let mut draw = Draw(seed ^ 0x696d_6167_6573);
    let (mut solid, mut since, mut floor) = (past.begun.clone(), Vec::new(), 0);
    let mut left = most;
    let founded = past.events.iter().position(|event| matches!(event, Event::Acknowledged(_))).unwrap_or(0);
    for (nth, event) in past.events.iter().enumerate() {
        match event {
            Event::Sync => since.drain(..).for_each(|event| apply(&mut solid, event)),
            Event::Acknowledged(commit) => floor = *commit,
            _ => since.push(event),
        }
        if nth < founded {
            continue;
        }
        for _ in 0..AT_EACH {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            let bytes = image(&solid, &since, &mut draw);
            let note = |wrong| format!("redb, seed {seed}, after event {nth}: {wrong}");
            look(&past.history, bytes, floor, &mut draw, opened).map_err(note)?;
        }
    }
    Ok(())
}

fn look(history: &History, bytes: Vec<u8>, floor: u64, draw: &mut Draw, opened: &mut Opened) -> Result<(), String> {
    opened.images += 1;
    let crashes_again = draw.below(RECOVERED) == 0;
    let disk = Disk::of(bytes.clone());
    let disk = if crashes_again { disk.record(None) } else { disk };
    let engine = engine_over(&disk).map_err(|error| error.to_string())?;
    let store = reopen(engine).map_err(|error| error.to_string())?;
    let commit = history.check(&store, floor, draw.below(DEEP) == 0)?;
    opened.newer += u64::from(commit > floor);
    opened.older += u64::from(commit == floor);
    drop(store);
    if crashes_again {
        let (mut solid, mut since) = (bytes, Vec::new());
        for event in &disk.events() {
            match event {
                Event::Sync => since.drain(..).for_each(|event| apply(&mut solid, event)),
                _ => since.push(event),
            }
            if draw.below(4) > 0 {
                continue;
            }
            let disk = Disk::of(image(&solid, &since, draw));
            let engine = engine_over(&disk).map_err(|error| format!("crashed again: {error}"))?;
            let store = reopen(engine).map_err(|error| format!("crashed again: {error}"))?;
            // What is recovered from the same bytes is the same commit.
            let again = history.check(&store, floor, false).map_err(|wrong| format!("crashed again: {wrong}"))?;
            if again != commit {
                return Err(format!("recovered as commit {commit}, then as {again}"));
            }
            opened.images += 1;
            opened.recovered += 1;
        }
    }
    Ok(())
}

#[test]
fn a_sync_that_comes_to_nothing_is_caught() {
    let syncs = record(7, None, |engine| engine).syncs;
    let caught = |ignored: u64| {
        (0..4).any(|seed| {
            let past = record(seed, Some(ignored), |engine| engine);
            crash(&past, seed, u64::MAX, &mut Opened::default()).is_err()
        })
    };
    // A commit has two, of which either is missed.
    for ignored in [syncs / 3, syncs / 3 + 1, syncs / 2, syncs / 2 + 1] {
        assert!(caught(ignored), "nothing was seen of sync {ignored} of {syncs} missing");
    }
}

#[test]
fn a_sync_that_the_code_leaves_out_is_caught() {
    for unsynced in [Commit(5), Commit(10), Commit(15), Rest(0), Rest(1), Rest(2)] {
        let caught = |seed| {
            let past = record(seed, None, |engine| Lazy::over(engine, unsynced));
            crash(&past, seed, u64::MAX, &mut Opened::default()).is_err()
        };
        assert!((0..2).any(caught), "nothing was seen of {unsynced:?} not being synced");
    }
}
