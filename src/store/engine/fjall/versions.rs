//! The engine's lists of its tables, checked before it reads them. It writes a checksum of each and does not look at it.
//! What the lists say is the engine's concern; a damaged one has it read old tables, take a tree for an empty one, or abort.

use std::fs;
use std::io;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use crate::store::engine::EngineError;

/// The trees of the engine, each in a directory of its own.
const TREES: &str = "keyspaces";
/// The file of a tree that names its newest list of tables: number, checksum, kind of checksum.
const CURRENT: &str = "current";
const CURRENT_BYTES: usize = 8 + 16 + 1;
/// The tables of a tree.
const TABLES: &str = "tables";

/// Checks the newest list of tables of each tree in `dir`.
pub(super) fn check(dir: &Path) -> Result<(), EngineError> {
    let at = |error| EngineError::from_io(dir, error);
    let trees = match fs::read_dir(dir.join(TREES)) {
        // There is nothing yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        trees => trees.map_err(at)?,
    };
    for tree in trees {
        let tree = tree.map_err(at)?.path();
        let what = check_tree(&tree).map_err(at)?;
        if let Some(what) = what {
            let name = tree.file_name().unwrap_or_default().to_string_lossy();
            return Err(EngineError::Corrupt { dir: dir.to_path_buf(), what: format!("{TREES}/{name}: {what}") });
        }
    }
    Ok(())
}

/// Says what is wrong with the list of tables of a tree.
fn check_tree(tree: &Path) -> io::Result<Option<String>> {
    let current = match fs::read(tree.join(CURRENT)) {
        // A tree that was being made has no tables yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let tables = fs::read_dir(tree.join(TABLES)).map_or(0, |tables| tables.count());
            return Ok((tables > 0).then(|| format!("{CURRENT} is missing, {tables} tables are there")));
        }
        current => current?,
    };
    if current.len() != CURRENT_BYTES {
        return Ok(Some(format!("{CURRENT} has {} bytes, not {CURRENT_BYTES}", current.len())));
    }
    let number = u64::from_le_bytes(std::array::from_fn(|i| current[i]));
    let sum = u128::from_le_bytes(std::array::from_fn(|i| current[8 + i]));
    match fs::read(tree.join(format!("v{number}"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(format!("v{number} is missing"))),
        list => Ok((xxh3_128(&list?) != sum).then(|| format!("v{number} is not what {CURRENT} says"))),
    }
}
