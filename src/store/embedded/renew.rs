//! An index of an older release, made anew in the layout of this one: what its journal has, and what is noted of it, stays; its
//! records go, since the table has them.

use std::fs;
use std::path::Path;

use super::open::{Options, mark, marked, open_rows};
use super::{StoreError, rows};
use crate::store::engine::{self, Batch, Durability, EngineKind};

/// The fact that an index was of an older release, until its table is read.
pub(crate) const RENEWED: &str = "renewed";
/// The engine's directory while it is made, and the one that it was.
const NEW: &str = "rows.new";
const OLD: &str = "rows.old";
/// Bytes that one commit copies.
const COPY_BYTES_MAX: u64 = 4 << 20;

/// Makes the index in `dir` one of this layout, if it is of an older one. Whoever is stopped in the middle has one or the other.
pub(crate) fn renew(dir: &Path, options: &Options) -> Result<(), StoreError> {
    let kind = marked(dir)?;
    let (now, new, old) = (dir.join("rows"), dir.join(NEW), dir.join(OLD));
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |error| StoreError::file(&path, error)
    };
    if kind != EngineKind::Packed {
        if !old.exists() {
            if new.exists() {
                fs::remove_dir_all(&new).map_err(at(&new))?;
            }
            fs::create_dir_all(&new).map_err(at(&new))?;
            if !copy(dir, kind, &new, options)? {
                return fs::remove_dir_all(&new).map_err(at(&new));
            }
            fs::rename(&now, &old).map_err(at(&now))?;
        }
        if !now.exists() {
            fs::rename(&new, &now).map_err(at(&new))?;
        }
        mark(dir, EngineKind::Packed)?;
    }
    if old.exists() {
        fs::remove_dir_all(&old).map_err(at(&old))?;
    }
    Ok(())
}

/// Copies what stays; whether it is an index at all.
fn copy(dir: &Path, kind: EngineKind, new: &Path, options: &Options) -> Result<bool, StoreError> {
    let from = open_rows(dir, kind, options)?;
    let snapshot = from.snapshot()?;
    if snapshot.get(&rows::meta(super::open::BARE))?.is_none() {
        return Ok(false);
    }
    let to = engine::open(EngineKind::Packed, new, options.block_cache_bytes)?;
    let mut batch = Batch::new();
    for row in snapshot.scan(&[], &[0xff; 16])? {
        let (key, value) = row?;
        if rows::outlives_content(&key) {
            batch.put(&key, &value);
        }
        if batch.bytes() >= COPY_BYTES_MAX {
            to.commit(&mut batch, Durability::Buffered)?;
            batch = Batch::new();
        }
    }
    batch.put(&rows::meta(super::open::ROW_FORMAT), &[rows::BARE_FORMAT]);
    batch.put(&rows::meta(RENEWED), &[]);
    to.commit(&mut batch, Durability::Synced)?;
    Ok(true)
}
