//! A process that is killed while it writes, again and again over one store.

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use reknit::store::engine::conformance::Draw;
use reknit::store::{Durability, EngineKind, Store};

use crate::child;
use crate::model::{self, WRITERS, assert_sound, batches_held, durability};

/// A fifth as many as there are kills of the binary, beside those.
fn kills() -> u64 {
    model::kills() / 5
}

#[test]
fn fjall_survives_kills() {
    survives(EngineKind::Fjall);
}

#[test]
fn redb_survives_kills() {
    survives(EngineKind::Redb);
}

fn survives(engine: EngineKind) {
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path().join("store");
    model::create(engine, &dir);
    let mut held = vec![0; usize::try_from(WRITERS).expect("few")];
    let mut draw = Draw(model::seed());
    for kill in 0..kills() {
        // One in a few dies while it opens the store, which is while it recovers from the kill before.
        let after = if kill % 5 == 4 { 0 } else { 1 + draw.below(150) };
        let said = write_and_kill(&dir, engine, &held, after);
        let note = format!("{engine}, kill {kill} after {after} acknowledgements");
        let store = Store::open(&dir, &model::options(engine)).expect(&note);
        for writer in 0..WRITERS {
            let place = usize::try_from(writer).expect("few");
            let found = batches_held(&store, writer, &note);
            let Said { synced, done } = said[place];
            assert!(found >= synced, "{note}: writer {writer} was told that {synced} is synced, {found} is there");
            assert!(found <= done + 1, "{note}: writer {writer} wrote {} at most, {found} is there", done + 1);
            held[place] = found;
        }
        assert_sound(&store, &note);
    }
    assert!(held.iter().sum::<u64>() > 20 * kills(), "{engine}: the processes wrote next to nothing: {held:?}");
    println!("{engine}: {held:?} batches of {WRITERS} writers survived {} kills", kills());
}

/// The last batch of a writer that was acknowledged, and the last that was acknowledged as synced.
#[derive(Clone, Copy)]
struct Said {
    synced: u64,
    done: u64,
}

/// Lets the process write until it has acknowledged so many batches, then kills it; reads what it said to the end.
fn write_and_kill(dir: &Path, engine: EngineKind, from: &[u64], after: usize) -> Vec<Said> {
    let mut said: Vec<Said> = from.iter().map(|nth| Said { synced: *nth, done: *nth }).collect();
    let mut child = child::command(dir, engine.name(), from).spawn().expect("a process");
    let out = child.stdout.take().expect("its output");
    let mut acknowledged = 0;
    for line in BufReader::new(out).lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["begun"] => {}
            ["done", writer, nth] => {
                let (writer, nth): (usize, u64) = (writer.parse().expect("a number"), nth.parse().expect("a number"));
                said[writer].done = nth;
                if durability(nth) == Durability::Synced {
                    said[writer].synced = nth;
                }
                acknowledged += 1;
            }
            ["failed", ..] => panic!("{engine}: {line}"),
            _ => continue,
        }
        if acknowledged >= after {
            // Lines that were on their way are still read: they were acknowledged too.
            child.kill().expect("a kill");
        }
    }
    child.wait().expect("its end");
    said
}
