//! What a crash of the machine leaves of fjall's files, which has no hook for a disk of ours: the files are read after each
//! commit, and images are made of them in which what came since the last sync is cut off, torn or full of holes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use reknit::store::engine::conformance::Draw;
use reknit::store::engine::{self, Batch, Engine, EngineError, Snapshot};
use reknit::store::{Durability, EngineKind};

use crate::history::Unsynced::{Commit, Rest};
use crate::history::{History, Lazy, Unsynced, found, reopen};
use crate::model;
use crate::process::{quick_dir, written};

const CACHE_BYTES: u64 = 1 << 20;
/// Commits before each crash, about.
const STEPS: usize = 30;
/// Images of each point in time.
const AT_EACH: usize = 12;
/// One in so many is verified from end to end.
const DEEP: usize = 5;
const SECTOR: usize = 512;
/// What the engine writes after a sync, and does not sync.
const MARK: &str = "synced";

/// A file without the zeroes at its end, and its length.
type File = (Vec<u8>, u64);
type Files = BTreeMap<PathBuf, Arc<File>>;

/// What there was on disk after a commit.
struct Frame {
    files: Files,
    /// Whether the engine was told to sync it.
    synced: bool,
    /// The last commit that had been acknowledged as synced when the next began.
    floor: u64,
}

/// An engine that looks at its files after each commit.
struct Watched {
    engine: Arc<dyn Engine>,
    dir: PathBuf,
    frames: Arc<Mutex<Vec<Frame>>>,
}

impl Watched {
    fn look(&self, synced: bool) {
        let mut frames = self.frames.lock().expect("the frames");
        let (files, floor) = (read(&self.dir), frames.last().map_or(0, |frame| frame.floor));
        frames.push(Frame { files, synced, floor });
    }
}

impl Engine for Watched {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, EngineError> {
        self.engine.snapshot()
    }

    fn commit(&self, batch: &mut Batch, durability: Durability) -> Result<(), EngineError> {
        self.engine.commit(batch, durability)?;
        self.look(durability == Durability::Synced);
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine.sync()?;
        self.look(true);
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.engine.disk_bytes()
    }
}

/// All files below a directory.
fn read(dir: &Path) -> Files {
    let mut files = Files::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(next) = dirs.pop() {
        for item in fs::read_dir(next).expect("files") {
            let path = item.expect("a file").path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let (bytes, length) = (written(&path), fs::metadata(&path).expect("what it is").len());
            let name = path.strip_prefix(dir).expect("below").to_path_buf();
            files.insert(name, Arc::new((bytes, length)));
        }
    }
    files
}

struct Past {
    history: History,
    frames: Vec<Frame>,
}

/// Runs a history on a watched engine, which may leave a sync out.
fn record(seed: u64, unsynced: Option<Unsynced>) -> Past {
    let home = quick_dir();
    let dir = home.path().to_path_buf();
    drop(found(engine::open(EngineKind::Fjall, &dir, CACHE_BYTES).expect("an engine")));
    let frames = Arc::new(Mutex::new(vec![Frame { files: read(&dir), synced: true, floor: 0 }]));
    let engine = engine::open(EngineKind::Fjall, &dir, CACHE_BYTES).expect("an engine");
    let mut engine: Arc<dyn Engine> = Arc::new(Watched { engine, dir, frames: Arc::clone(&frames) });
    if let Some(unsynced) = unsynced {
        engine = Lazy::over(engine, unsynced);
    }
    let store = reopen(engine).expect("open");
    let acknowledged = &mut |commit, synced: bool| {
        if synced && let Some(frame) = frames.lock().expect("the frames").last_mut() {
            frame.floor = commit;
        }
    };
    let history = History::make(&store, &mut Draw(seed), STEPS, acknowledged);
    drop(store);
    let frames = std::mem::take(&mut *frames.lock().expect("the frames"));
    Past { history, frames }
}

/// Opens images of a crash in each commit, `most` at most; gives how many, and how many held a commit that was under way.
fn crash(past: &Past, seed: u64, most: u64) -> Result<(u64, u64), String> {
    let home = quick_dir();
    let mut draw = Draw(seed ^ 0x0066_6a61_6c6c);
    let (mut opened, mut newer) = (0, 0);
    let mut solid = 0;
    for (nth, pair) in past.frames.windows(2).enumerate() {
        if pair[0].synced {
            solid = nth;
        }
        for _ in 0..AT_EACH {
            if opened >= most {
                return Ok((opened, newer));
            }
            let dir = home.path().join("image");
            let what = image(&past.frames[solid].files, &pair[0].files, &pair[1].files, &mut draw, &dir);
            let floor = pair[0].floor;
            let note = |wrong: String| format!("fjall, seed {seed}, in commit {nth}, {what}: {wrong}");
            let engine = engine::open(EngineKind::Fjall, &dir, CACHE_BYTES).map_err(|error| note(error.to_string()))?;
            let store = reopen(engine).map_err(|error| note(error.to_string()))?;
            let commit = past.history.check(&store, floor, draw.below(DEEP) == 0).map_err(note)?;
            newer += u64::from(commit > floor);
            opened += 1;
            drop(store);
            fs::remove_dir_all(&dir).expect("removed");
        }
    }
    Ok((opened, newer))
}

/// Lays into `dir` what a crash may leave of files that were `solid` at their last sync and are being changed from what they
/// were `before` to what they are `now`; says what was done.
fn image(solid: &Files, before: &Files, now: &Files, draw: &mut Draw, dir: &Path) -> String {
    let mut done = Vec::new();
    for (name, file) in now {
        let marked = [before, solid][draw.below(2)].get(Path::new(MARK));
        let file = if name == Path::new(MARK) { marked } else { Some(file) };
        let Some(file) = file else { continue };
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        let mut bytes = file.0.clone();
        let before = solid.get(name).map_or(0, |file| file.0.len());
        if solid.get(name).is_none_or(|solid| solid != file) && before < bytes.len() {
            let at = before + draw.below(bytes.len() - before + 1);
            let shape = draw.below(4);
            match shape {
                0 => {}
                1 => bytes.truncate(at),
                // Sectors are there or not, in any order.
                2 => holes(&mut bytes, before, draw, 2),
                _ => holes(&mut bytes, before, draw, 6),
            }
            done.push(format!("{} from {before} on shape {shape} at {at} of {}", name.display(), file.0.len()));
        }
        fs::write(&path, &bytes).expect("written");
        fs::OpenOptions::new().write(true).open(&path).and_then(|open| open.set_len(file.1)).expect("its length");
    }
    done.join(", ")
}

/// Takes sectors away, one in so many; of the first only what came after `from`.
fn holes(bytes: &mut [u8], from: usize, draw: &mut Draw, one_in: usize) {
    let mut start = from;
    while start < bytes.len() {
        let end = bytes.len().min(start / SECTOR * SECTOR + SECTOR);
        if draw.below(one_in) == 0 {
            bytes[start..end].fill(0);
        }
        start = end;
    }
}

#[test]
fn fjall_survives_crashes_of_the_machine() {
    let began = Instant::now();
    let (mut opened, mut newer) = (0, 0);
    for seed in model::seed().. {
        if opened >= model::images() {
            break;
        }
        let past = record(seed, None);
        let (images, with) = crash(&past, seed, model::images() - opened).unwrap_or_else(|wrong| panic!("{wrong}"));
        opened += images;
        newer += with;
    }
    println!("fjall: {opened} images, {newer} with a commit under way, {} s", began.elapsed().as_secs());
    assert!(newer * 50 > opened, "crashes leave no commit half-way: {newer} of {opened}");
}

#[test]
fn a_sync_that_the_code_leaves_out_is_caught() {
    for unsynced in [Commit(5), Commit(8), Commit(11), Rest(0), Rest(1)] {
        let caught = |seed| crash(&record(seed, Some(unsynced)), seed, u64::MAX).is_err();
        assert!((0..2).any(caught), "nothing was seen of {unsynced:?} not being synced");
    }
}
