//! Files that lost their end or a bit: a store opens with a prefix of what was written, or says that it is damaged.
//! It never shows a value that nobody wrote.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use reknit::store::engine::conformance::Draw;
use reknit::store::{Durability, EngineError, EngineKind, Store, StoreError};

use crate::model::{self, Map, lay};
use crate::process::copy;

const BATCHES: u64 = 120;
/// The last batches are not synced: what is torn there may be cut off, and what was synced must be there.
const BUFFERED: u64 = 12;
const DAMAGES: usize = 40;

#[test]
fn fjall_with_a_torn_tail() {
    torn(EngineKind::Fjall, ".jnl");
}

#[test]
fn redb_with_a_torn_tail() {
    torn(EngineKind::Redb, ".redb");
}

fn torn(engine: EngineKind, suffix: &str) {
    let home = tempfile::tempdir().expect("a directory");
    let whole = home.path().join("whole");
    model::create(engine, &whole);
    {
        let store = Store::open(&whole, &model::options(engine)).expect("open");
        for nth in 1..=BATCHES {
            let durability = if nth + BUFFERED > BATCHES { Durability::Buffered } else { Durability::Synced };
            store.batch(model::batch(0, nth), durability).expect("a batch");
        }
    }
    // What each prefix of the batches leaves.
    let mut prefixes = vec![Map::new()];
    for nth in 1..=BATCHES {
        let mut next = prefixes[prefixes.len() - 1].clone();
        lay(&mut next, 0, nth);
        prefixes.push(next);
    }
    let mut draw = Draw(7);
    let (mut opened, mut refused) = (0, 0);
    for damage in 0..DAMAGES {
        let dir = home.path().join("torn");
        copy(&whole, &dir);
        let note = format!("{engine}, {}", hurt(&dir, suffix, &mut draw, damage));
        match read_all(engine, &dir) {
            Ok(found) => {
                assert!(prefixes.contains(&found), "{note}: values that no prefix of the batches leaves");
                opened += 1;
            }
            Err(StoreError::Engine(EngineError::Corrupt { .. }) | StoreError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("{note}: {error}"),
        }
        fs::remove_dir_all(&dir).expect("removed");
    }
    assert!(opened + refused == DAMAGES && opened > 0, "{engine}: {opened} opened, {refused} refused");
    println!("{engine}: of {DAMAGES} torn stores {opened} opened with a prefix, {refused} were refused as damaged");
}

fn read_all(engine: EngineKind, dir: &Path) -> Result<Map, StoreError> {
    let store = Store::open(dir, &model::options(engine))?;
    let found = store.scan(b"")?.collect::<Result<Map, _>>()?;
    let report = store.verify(&mut |_| ())?;
    // What opens may have damage in places that were not read; `verify` then names it, and it is not a wrong value.
    if report.is_sound() { Ok(found) } else { Err(StoreError::Damaged { what: report.wrong.join("; ") }) }
}

/// Cuts or flips something near the end of what was written to the newest file; says what.
fn hurt(dir: &Path, suffix: &str, draw: &mut Draw, damage: usize) -> String {
    let path = newest(&dir.join("rows"), suffix);
    let mut file = OpenOptions::new().read(true).write(true).open(&path).expect("the file");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("its bytes");
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let back = draw.below(if damage.is_multiple_of(4) { end } else { 4_000.min(end) });
    let at = end - 1 - back;
    match damage % 3 {
        0 => {
            file.set_len(at as u64).expect("cut");
            format!("cut at {at} of {end}")
        }
        1 => {
            let flipped = bytes[at] ^ (1 << draw.below(8));
            file.seek(SeekFrom::Start(at as u64)).expect("there");
            file.write_all(&[flipped]).expect("flipped");
            format!("a bit flipped at {at} of {end}")
        }
        _ => {
            let block = at - at % 512;
            file.seek(SeekFrom::Start(block as u64)).expect("there");
            file.write_all(&[0; 512]).expect("zeroed");
            format!("a block of zeroes at {block} of {end}")
        }
    }
}

fn newest(dir: &Path, suffix: &str) -> PathBuf {
    let files = fs::read_dir(dir).expect("files").map(|item| item.expect("a file").path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    files.sort();
    files.pop().expect("a file of the engine")
}
