//! Two tables of databases as the sides of a session: their addresses, what they have in common, their indexes in the home.

use std::io::Write;
use std::path::{Path, PathBuf};

use reknit_core::{DatasetId, DatasetKey, Definition, Profile};

use crate::cli::args::To;
use crate::cli::commands::explain;
use crate::cli::env::Env;
use crate::cli::progress::Progress;
use crate::cli::{CliError, Exit};
use crate::format::Layout;
use crate::store::linked::{FileFormat, Followed, Linked, Postgres, Shape, Sqlite, Table, TableFile, probe, redacted};
use crate::store::{EngineKind, Options, StoreError};
use crate::transport::Identity;

const SQLITE: &str = "sqlite:";
const POSTGRES: [&str; 2] = ["postgres://", "postgresql://"];
const S3: &str = "s3://";
const FILES: [(&str, FileFormat); 3] =
    [("csv:", FileFormat::Csv), ("jsonl:", FileFormat::Jsonl), ("parquet:", FileFormat::Parquet)];
/// What the identifier of a dataset of tables is derived for, the directory of all indexes, and the secret key.
const DATASET: &str = "reknit 2026 v1 dataset of tables";
const INDEX: &str = "index";
const KEY: &str = "reknit 2026 v1 key of tables";

/// Whether a side, as it was typed, is a table: of a database, or a file.
pub(crate) fn is_table(typed: &str) -> bool {
    typed.starts_with(SQLITE) || is_postgres(typed) || is_file(typed)
}

/// Whether a side, as it was typed, is a file, which is read and never written.
pub(crate) fn is_file(typed: &str) -> bool {
    typed.starts_with(S3) || FILES.iter().any(|(scheme, _)| typed.starts_with(scheme))
}

fn is_postgres(typed: &str) -> bool {
    POSTGRES.iter().any(|scheme| typed.starts_with(scheme))
}

/// A side as it was typed, without a password.
pub(crate) fn shown(typed: &str) -> String {
    if is_postgres(typed) { redacted(typed) } else { typed.to_string() }
}

/// Opens both tables, and reads them into their indexes.
pub(crate) fn open(env: &mut Env, a: &str, b: &str) -> Result<[Linked; 2], CliError> {
    let (a, b) = (table(env, a)?, table(env, b)?);
    if a.place() == b.place() {
        return Err(CliError::refused("session.one-store", "both sides are one table"));
    }
    let shape = shape(&*a, &*b)?;
    let a = indexed(env, a, &shape)?;
    let b = indexed(env, b, &shape)?.paired(&a);
    for linked in [&a, &b] {
        follow(env, linked)?;
    }
    Ok([a, b])
}

/// A table with the index that it has for itself, or for being compared with another, as it was left.
pub(crate) fn alone(env: &Env, typed: &str, with: Option<&str>) -> Result<Linked, CliError> {
    let table = table(env, typed)?;
    let other = with.map(|with| self::table(env, with)).transpose()?;
    let other = other.as_ref().unwrap_or(&table);
    let shape = shape(&*table, &**other)?;
    indexed(env, table, &shape)
}

pub(crate) fn shape(a: &dyn Table, b: &dyn Table) -> Result<Shape, CliError> {
    let shape = Shape::of_pair((a.place(), a.columns()), (b.place(), b.columns()));
    shape.map_err(|error| CliError { exit: Exit::Refused, ..CliError::new("database.shape", error.to_string()) })
}

/// The directories of the indexes that a table has in the home, with the names of those.
pub(crate) fn directories(env: &Env, table: &dyn Table) -> Result<Vec<(String, PathBuf)>, CliError> {
    let home = env.home()?;
    let (dir, begins) = (home.dir().join(INDEX), place_name(&home.identity()?, table.place()));
    let named = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    let mut names: Vec<String> = std::fs::read_dir(&dir).into_iter().flatten().filter_map(named).collect();
    names.retain(|name| name.starts_with(&begins));
    names.sort();
    Ok(names.into_iter().map(|name| (Linked::name_in(&dir.join(&name)), dir.join(name))).collect())
}

/// How tables are to be written.
pub(crate) struct Writing {
    /// Which side is.
    pub(crate) to: To,
    /// Whether rows are deleted.
    pub(crate) delete: bool,
    /// Whether a table is written that replication keeps.
    pub(crate) write_replica: bool,
    /// Whether some rows are looked at before the first repair.
    pub(crate) probe: bool,
}

/// What is to be known of tables that are to be written, a line each; refuses what must not be.
pub(crate) fn cautions(pair: &[Linked; 2], writing: &Writing) -> Result<Vec<String>, CliError> {
    let mut lines = Vec::new();
    let repaired = pair.iter().any(|table| !table.index().runs().is_empty());
    if writing.probe && !repaired {
        let probe = probe(pair[0].table(), pair[1].table(), pair[0].shape(), explain::PROBED)?;
        let (exit, text) = explain::judged(&probe);
        if exit == Exit::Refused {
            let message = text.trim_end_matches("; wrote 0 records");
            let message = format!("{message}; reknit explain A B tells more, --no-probe repairs all the same");
            return Err(CliError::refused("database.probe", message));
        }
    }
    for (name, table, written) in [("a", &pair[0], writing.to != To::B), ("b", &pair[1], writing.to != To::A)] {
        if !written {
            continue;
        }
        let cautions = table.cautions()?;
        if let (Some(why), false) = (cautions.kept, writing.write_replica) {
            let message = format!("{name} is not to be written: {why}; --write-replica does it all the same");
            return Err(CliError::refused("database.replica", message));
        }
        if writing.delete && !cautions.cascades.is_empty() {
            let others = cautions.cascades.join(", ");
            let message =
                format!("deleting rows of {name} would delete or change rows of {others}; repair without --delete");
            return Err(CliError::refused("database.cascade", message));
        }
        if !cautions.triggers.is_empty() {
            lines.push(format!("triggers run where {name} is written: {}", cautions.triggers.join(", ")));
        }
    }
    Ok(lines)
}

/// The indexes that a table has in the home, one for each shape that it was compared in.
pub(crate) fn indexes(env: &Env, typed: &str) -> Result<Vec<Linked>, CliError> {
    let secret = env.home()?.identity()?;
    let first = table(env, typed)?;
    let place = first.place().to_string();
    let open = |(_, dir): &(String, PathBuf)| {
        let key = |shape: &Shape| dataset_key(&secret, &shape.to_bytes());
        Ok(Linked::reopen(dir, table(env, typed)?, key, &options(env))?)
    };
    let all: Vec<Linked> = directories(env, &*first)?.iter().map(open).collect::<Result<_, CliError>>()?;
    if all.is_empty() {
        let message = format!("{place} was never compared from this home, so nothing is known of it");
        return Err(CliError::new("database.no-index", message));
    }
    Ok(all)
}

/// How keys and rows of a shape are shown.
pub(crate) fn layout(shape: &Shape) -> Layout {
    let columns = shape.columns().iter().map(|(name, _)| name.clone()).collect();
    Layout::of_table(shape.key().map(String::from).collect(), columns)
}

pub(crate) fn table(env: &Env, typed: &str) -> Result<Box<dyn Table>, CliError> {
    if is_postgres(typed) {
        return Ok(Box::new(Postgres::open(typed)?));
    }
    if typed.starts_with(S3) {
        return Ok(Box::new(TableFile::open_s3(typed)?));
    }
    for (scheme, format) in FILES {
        if let Some(path) = typed.strip_prefix(scheme) {
            let path = env.path(Path::new(path));
            if !path.exists() {
                return Err(CliError::new("database.none", format!("there is no file {}", path.display())));
            }
            return Ok(Box::new(TableFile::open(format, &real(&path))?));
        }
    }
    let address = typed.strip_prefix(SQLITE).unwrap_or(typed);
    let whole = env.path(Path::new(address));
    if whole.is_file() {
        return Ok(Box::new(Sqlite::open(&real(&whole), None)?));
    }
    let Some((file, name)) = address.rsplit_once('/') else {
        let message = format!("there is no file {address}; a table is sqlite:FILE/TABLE");
        return Err(CliError::new("database.none", message));
    };
    let file = env.path(Path::new(file));
    if !file.is_file() {
        return Err(CliError::new("database.none", format!("there is no file {}; nothing was made", file.display())));
    }
    Ok(Box::new(Sqlite::open(&real(&file), Some(name))?))
}

/// A file under one name, however it was typed, so that it has one index.
fn real(file: &Path) -> PathBuf {
    file.canonicalize().unwrap_or_else(|_| file.to_path_buf())
}

/// How indexes are made: by the engine that is opened at once, since each command opens two; what a scan writes is sorted.
fn options(env: &Env) -> Options {
    let asked = env.store_options();
    Options { engine: if env.global.engine.is_some() { asked.engine } else { EngineKind::Redb }, ..asked }
}

fn hash(secret: &Identity, purpose: &str, of: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&secret.derive(purpose), of).as_bytes()
}

fn dataset_key(secret: &Identity, shape: &[u8]) -> DatasetKey {
    DatasetKey::from_bytes(hash(secret, KEY, shape))
}

/// How the names of all indexes of a table begin.
fn place_name(secret: &Identity, place: &str) -> String {
    format!("{}-", hex(&hash(secret, DATASET, place.as_bytes())[..8]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A table with its index as it was left. One shape has one dataset in a home, so that an index serves every pair it is in.
fn indexed(env: &Env, table: Box<dyn Table>, shape: &Shape) -> Result<Linked, CliError> {
    let home = env.home()?;
    let secret = home.identity()?;
    let bytes = shape.to_bytes();
    let mut id = [0; 16];
    id.copy_from_slice(&hash(&secret, DATASET, &bytes)[..16]);
    let definition =
        Definition { profile: Profile::Content, key_index: false, ..Definition::simple(DatasetId(id), "table") };
    let name = format!("{}{}", place_name(&secret, table.place()), hex(&hash(&secret, DATASET, &bytes)[..4]));
    let dir = home.dir().join(INDEX).join(name);
    let key = dataset_key(&secret, &bytes);
    Ok(Linked::open(&dir, table, shape.clone(), (definition, key), &options(env))?)
}

/// Makes an index tell what its table holds now.
pub(crate) fn follow(env: &mut Env, linked: &Linked) -> Result<Followed, CliError> {
    // As many as there were, about: counting them would be reading them.
    let about = Some(linked.rows()).filter(|rows| *rows > 0);
    let mut progress = Progress::new(env, "reading rows");
    let read = linked.follow_table(&mut |so_far| match so_far.written {
        0 => progress.at(so_far.read, about),
        written => {
            progress.turn_to("indexing rows");
            progress.at(written, Some(so_far.read));
        }
    });
    drop(progress);
    let place = linked.table().place();
    match read {
        Ok(followed) => {
            if let Some(why) = &followed.stale {
                let _ = writeln!(env.err, "reknit: {place} was read whole, its feed had a gap: {why}");
            }
            Ok(followed)
        }
        Err(StoreError::Duplicate { key, first, second }) => {
            let message = format!(
                "{place}: two rows mean the same key {key}, so they cannot be told apart{}; nothing was compared",
                // The rows of a file have an order that it shows.
                if is_file(place) { format!(": rows {first} and {second} of the file") } else { String::new() }
            );
            Err(CliError { exit: Exit::Refused, ..CliError::new("database.collapse", message) })
        }
        Err(error) => Err(error.into()),
    }
}
