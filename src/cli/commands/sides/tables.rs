//! Two tables of databases as the sides of a session: what they have in common, and their indexes in the home. How their addresses
//! are spelled is [`address`]'s.

mod address;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reknit_core::{CollectionId, DatasetId, DatasetKey, Definition, Profile};

use self::address::{FILES, S3};
pub(crate) use self::address::{
    SQLITE, admit, file_of, has_password, held, in_full, is_database, is_file, is_postgres, is_table, known_scheme,
    shown, table_of, typed_again, with_table,
};
use super::scans::{self, Fresh, Needed};
pub(crate) use crate::cli::args::STORE;
use crate::cli::args::{PaceFlags, To, WriteFlags};
use crate::cli::commands::explain;
use crate::cli::env::Env;
use crate::cli::login;
use crate::cli::patience;
use crate::cli::units::parse_duration;
use crate::cli::{CliError, Exit};
use crate::core::difference::Difference;
use crate::core::session::{Base, Intent, Verdict};
use crate::format::Layout;
use crate::node::{Home, SessionReport};
use crate::store::StoreError;
use crate::store::engine::EngineError;
use crate::store::linked::{
    Column, Linked, Manner, Postgres, Purpose, Shape, Since, Sqlite, Table, TableFile, TableStore, Terms, probe,
};
use crate::transport::Identity;

/// What stands between the directory of a store and one of its collections.
const COLLECTION: char = '#';
/// What the identifier of a dataset of tables is derived for, the directory of all indexes, and the secret key.
const DATASET: &str = "reknit 2026 v1 dataset of tables";
const INDEX: &str = "index";
/// So many rows make an index tell what more of them would take, and what others took.
const MEASURED_ROWS: u64 = 10_000;
const INDEX_BYTES_A_ROW: u64 = 70;
const KEY: &str = "reknit 2026 v1 key of tables";

/// The one collection of a table.
pub(crate) const FIRST: CollectionId = CollectionId(0);
/// Rows that were refused and are named.
const NAMED_MAX: usize = 16;
/// How long locks may be waited for; a transaction keeps its own meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// Keys in which two tables may differ, and yet what was equal is remembered.
const EXCEPTIONS_MAX: usize = 100_000;

/// The answer of a command that is about records with versions, which a table has not.
pub(crate) fn no_store(typed: &str) -> CliError {
    let message = format!(
        "{} is a table or a file, and this command is for stores of Reknit; of a table tell `reknit inspect`, `reknit index` \
         and `reknit runs`; nothing was changed",
        shown(typed)
    );
    CliError::new("store.table", message)
}

/// Opens both tables, and makes their indexes tell what they hold; unless it is to be done without reading one whole.
pub(crate) fn open(
    env: &mut Env,
    sides: (&str, &str),
    terms: &Terms,
    (scan, pace): (bool, &PaceFlags),
) -> Result<[Linked; 2], CliError> {
    // What is typed wrongly is told before anything is read.
    pace.pace()?;
    scans::brakes(pace, &[sides.0, sides.1])?;
    if !scan {
        let (a, b) = (table(env, sides.0)?, table(env, sides.1)?);
        let [of_a, of_b] = shapes(terms, &*a, &*b)?;
        let needed = scans::needed(env, [(sides.0, &of_a, &*a), (sides.1, &of_b, &*b)], pace)?;
        if !needed.is_empty() {
            return Err(scans::refused(&needed));
        }
    }
    let pair = pair(env, sides, terms)?;
    bring_up(env, sides, &pair, (scan, pace), [true, true])?;
    Ok(pair)
}

/// Makes the indexes of those of two tables that are `meant` tell what these hold.
pub(crate) fn bring_up(
    env: &mut Env,
    sides: (&str, &str),
    pair: &[Linked; 2],
    (scan, pace): (bool, &PaceFlags),
    meant: [bool; 2],
) -> Result<(), CliError> {
    let both = [(sides.0, &pair[0]), (sides.1, &pair[1])];
    let replica = if meant.contains(&true) { scans::replicated(env, pace, &both)? } else { None };
    for (nth, (typed, linked)) in both.into_iter().enumerate().filter(|(nth, _)| meant[*nth]) {
        outgrown(env, typed, linked);
        if scan {
            let from = replica.as_ref().filter(|(of, _)| *of == nth).map(|(_, from)| from.as_str());
            scans::follow(env, linked, pace, from)?;
            continue;
        }
        let fresh = Fresh::before(env, linked);
        if linked.follow_feed(&mut |_| {})?.is_none() {
            // Only when it was read its feed told of a gap.
            return Err(scans::refused(&Needed::of(linked, pace.pace()?.rate)?.into_iter().collect::<Vec<_>>()));
        }
        fresh.into_iter().for_each(|fresh| fresh.note(env));
    }
    Ok(())
}

/// The index that a table has for a shape, if it has one.
pub(crate) fn known(env: &Env, typed: &str, of: &dyn Table, shape: &Shape) -> Result<Option<Linked>, CliError> {
    let (dir, _, _) = place_of(env, of, shape)?;
    let one = (Linked::name_in(&dir), dir);
    if one.1.is_dir() { reopen(env, typed, &one).map(Some) } else { Ok(None) }
}

/// Both tables with their indexes as they were left.
pub(crate) fn pair(env: &Env, sides: (&str, &str), terms: &Terms) -> Result<[Linked; 2], CliError> {
    patience::once_free(env, || pair_now(env, sides, terms))
}

fn pair_now(env: &Env, (a, b): (&str, &str), terms: &Terms) -> Result<[Linked; 2], CliError> {
    let (a, b) = (table(env, a)?, table(env, b)?);
    if a.place() == b.place() {
        return Err(CliError::refused("session.one-store", "both sides are one table; name two"));
    }
    let [of_a, of_b] = shapes(terms, &*a, &*b)?;
    let a = indexed(env, a, of_a)?;
    let b = indexed(env, b, of_b)?.paired(&a);
    Ok([a, b])
}

/// What has changed in two tables since they were equal, if that is known; tells what is not known any more.
/// Nothing is read of it unless a session is to go by it.
pub(crate) fn since(env: &mut Env, pair: &[Linked; 2], asked: Option<bool>) -> Result<Option<Since>, CliError> {
    let [a, b] = pair;
    for linked in pair {
        if let Some(why) = linked.recognise()? {
            let place = linked.table().place();
            let lost = "so it is not known any more what has changed since it was equal to others";
            let _ = writeln!(env.err, "reknit: {place}: {why}, {lost}");
        }
    }
    a.keep_changes(b);
    let Some(deletes) = asked else { return Ok(None) };
    let since = a.since(b)?;
    Ok(since.map(|since| Since { base: Base { deletes, ..since.base }, ..since }))
}

/// The keys in which two tables differ, with what they were when those were equal.
#[derive(Default)]
pub(crate) struct EqualBut {
    keys: BTreeMap<(CollectionId, Vec<u8>), Option<u64>>,
    /// Whether that is not known of some, or there are too many.
    unknown: bool,
}

impl EqualBut {
    pub(crate) fn add(&mut self, difference: &Difference, since: Option<&Since>) {
        let key = (difference.collection, difference.key.clone());
        match since.and_then(|since| since.base.was.get(&key)) {
            Some(was) if self.keys.len() < EXCEPTIONS_MAX => _ = self.keys.insert(key, *was),
            _ => self.unknown = true,
        }
    }
}

/// Notes that two tables were proven equal, or equal but for some keys, so that what changes from then on is known.
pub(crate) fn note_equal(
    [a, b]: &[Linked; 2],
    report: &SessionReport,
    intent: Intent,
    but: EqualBut,
) -> Result<(), CliError> {
    let outcome = &report.outcome;
    let commits = (outcome.cut_mine.commit, outcome.cut_theirs);
    match outcome.verdict {
        Verdict::InSync => a.note_equal(b, commits, &BTreeMap::new())?,
        // A diff that ends so is exact if nothing has moved on either side.
        Verdict::Differs
            if intent == Intent::Diff
                && !but.unknown
                && (a.index().cut().commit, b.index().cut().commit) == (commits.0, commits.1) =>
        {
            a.note_equal(b, commits, &but.keys)?;
        }
        _ => {}
    }
    Ok(())
}

/// Tells of other indexes that the table has outgrown: their feeds go on, for nothing.
fn outgrown(env: &mut Env, typed: &str, linked: &Linked) {
    let own = |(name, _): &(String, PathBuf)| name != linked.name();
    for one in directories(env, linked.table()).unwrap_or_default().iter().filter(|one| own(one)) {
        // One that somebody else uses is told by them.
        let Ok(other) = reopen(env, typed, one) else { continue };
        let (Some(misfit), Ok(Some(_))) = (other.misfit(), other.feed_state()) else { continue };
        let dropped = if other.bound_feed().unwrap_or(false) { ", which was dropped" } else { "" };
        let place = other.table().place();
        let _ = writeln!(
            env.err,
            "reknit: {place}: {misfit}; it is of no use, nor is its feed{dropped}: reknit index drop, then build it anew"
        );
    }
}

/// A table with an index that it has, by its directory.
pub(crate) fn reopen(env: &Env, typed: &str, (_, dir): &(String, PathBuf)) -> Result<Linked, CliError> {
    let table = table(env, typed)?;
    let place = table.place().to_string();
    Linked::reopen(dir, table, &env.store_options()).map_err(|error| in_use(&place, error))
}

/// Whoever works on a table holds its index: another command of this home, or a job of its daemon.
fn in_use(place: &str, error: StoreError) -> CliError {
    match &error {
        StoreError::Engine(EngineError::Locked { .. }) => {
            let message = format!(
                "{place} is worked on by another command of this home, or by a job of its daemon (reknit jobs list); nothing was \
                 changed; try again when that has ended"
            );
            CliError { message, ..CliError::from(error) }
        }
        _ => error.into(),
    }
}

/// A table with the index that it has for itself, or for being compared with another, as it was left.
pub(crate) fn alone(env: &Env, typed: &str, with: Option<&str>, terms: &Terms) -> Result<Linked, CliError> {
    let table = table(env, typed)?;
    let other = with.map(|with| self::table(env, with)).transpose()?;
    let other = other.as_ref().unwrap_or(&table);
    let [shape, _] = shapes(terms, &*table, &**other)?;
    indexed(env, table, shape)
}

/// What two tables are compared on, as each of them sees it.
pub(crate) fn shapes(terms: &Terms, a: &dyn Table, b: &dyn Table) -> Result<[Shape; 2], CliError> {
    let shapes = terms.shapes((a.place(), a.columns()), (b.place(), b.columns()));
    shapes.map_err(|error| CliError { exit: Exit::Refused, ..CliError::new("database.shape", error.to_string()) })
}

/// The directories of the indexes that a table has in the home, with the names of those.
pub(crate) fn directories(env: &Env, table: &dyn Table) -> Result<Vec<(String, PathBuf)>, CliError> {
    let home = env.home()?;
    let (dir, secret) = (home.dir().join(INDEX), home.identity()?);
    let places = [Some(table.place().to_string()), table.also_typed()].into_iter().flatten();
    let begins: Vec<String> = places.map(|place| place_name(&secret, &place)).collect();
    let named = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    let mut names: Vec<String> = std::fs::read_dir(&dir).into_iter().flatten().filter_map(named).collect();
    names.retain(|name| begins.iter().any(|begin| name.starts_with(begin)));
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
    /// What they are compared on.
    pub(crate) terms: Terms,
    /// How many rows at once, and how patiently.
    pub(crate) manner: Manner,
    /// The tables of `a` and of `b` whose rows are written by the same command, as their databases call them.
    pub(crate) beside: [Arc<BTreeSet<String>>; 2],
}

/// How many rows are written at once, and how patiently.
pub(crate) fn manner(flags: &WriteFlags) -> Result<Manner, CliError> {
    let wait = parse_duration(&flags.lock_timeout)?;
    if wait > WAIT_MAX {
        let message = format!("locks are waited for at most {} s, not {}", WAIT_MAX.as_secs(), flags.lock_timeout);
        return Err(CliError::new("usage.duration", message));
    }
    Ok(Manner { batch: usize::try_from(flags.batch).unwrap_or(usize::MAX), wait })
}

/// What is to be told of tables that were written, a line each. Rows that had waited for others are counted as what became
/// of them.
pub(crate) fn written([a, b]: &[Linked; 2], report: &mut SessionReport) -> Vec<String> {
    let (outcome, mut lines) = (&mut report.outcome, Vec::new());
    for (name, linked, mine) in [("a", a, true), ("b", b, false)] {
        let (late, left) = linked.waited();
        let moves = if mine { &mut outcome.counts.to_mine } else { &mut outcome.counts.to_theirs };
        let refused = left.len() as u64;
        moves.applied += late;
        moves.refused += refused;
        moves.moved = moves.moved.saturating_sub(late + refused);
        let room = NAMED_MAX.saturating_sub(outcome.refused.len());
        outcome.refused.extend(left.into_iter().take(room).map(|(key, reason)| (FIRST, key, reason)));
        lines.extend(linked.besides().into_iter().map(|line| format!("in {name}: {line}")));
    }
    lines
}

/// What is to be known of tables that are to be written, a line each; refuses what must not be.
pub(crate) fn cautions(pair: &[Linked; 2], writing: &Writing) -> Result<Vec<String>, CliError> {
    let mut lines = Vec::new();
    let repaired = pair.iter().any(|table| !table.index().runs().is_empty());
    if writing.probe && !repaired {
        let [a, b] = pair.each_ref().map(|linked| (linked.table(), linked.shape()));
        let probe = probe(&writing.terms, a, b, explain::PROBED)?;
        let (exit, text) = explain::judged(&probe);
        if exit == Exit::Refused {
            let message = text.trim_end_matches("; wrote 0 records");
            let message = format!("{message}; reknit explain A B tells more, --no-probe repairs all the same");
            return Err(CliError::refused("database.probe", message));
        }
    }
    let [a, b] = &writing.beside;
    for (name, table, beside, written) in
        [("a", &pair[0], a, writing.to != To::B), ("b", &pair[1], b, writing.to != To::A)]
    {
        if !written {
            continue;
        }
        let (columns, shape) = (table.table().columns(), table.shape());
        if columns.key.iter().map(String::as_str).collect::<BTreeSet<_>>() != shape.key_sources().collect() {
            let (asked, own) = (shape.key().collect::<Vec<_>>().join(", "), columns.key.join(", "));
            let message = format!(
                "{name} is not to be written by the key {asked}, since its own is {own}: others could insert the same row \
                 meanwhile; repair by {own}, or make a unique index over {asked} its key"
            );
            return Err(CliError::refused("database.key", message));
        }
        let left_out = |column: &&Column| !shape.sources().contains(&column.name);
        let left_out: Vec<&str> = columns.columns.iter().filter(left_out).map(|column| column.name.as_str()).collect();
        if writing.delete && !left_out.is_empty() {
            let message = format!(
                "rows of {name} have columns that are not compared ({}), so an undo could not bring back all of what is \
                 deleted; repair without --delete, or compare all columns",
                left_out.join(", ")
            );
            return Err(CliError::refused("database.columns", message));
        }
        let cautions = table.cautions()?;
        if let (Some(why), false) = (cautions.kept, writing.write_replica) {
            let message = format!("{name} is not to be written: {why}; --write-replica does it all the same");
            return Err(CliError::refused("database.replica", message));
        }
        // Rows of a table that is written too go first; a row that any are left of stays.
        let alone = |other: &&String| !beside.contains(*other);
        let others: Vec<&str> = cautions.cascades.iter().filter(alone).map(String::as_str).collect();
        if writing.delete && !others.is_empty() {
            let others = others.join(", ");
            let message = format!(
                "deleting rows of {name} would delete or change rows of {others}; repair without --delete, or both whole \
                 databases at once"
            );
            return Err(CliError::refused("database.cascade", message));
        }
        let key: BTreeSet<&str> = shape.key_sources().collect();
        let changes = |column: &String| shape.sources().contains(column) && !key.contains(column.as_str());
        if let Some((column, other)) = cautions.follows.iter().find(|(column, _)| changes(column)) {
            let message = format!(
                "changing {column} in rows of {name} would change rows of {other} along; leave it out with --ignore {column}"
            );
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
    let first = table(env, typed)?;
    let place = first.place().to_string();
    let all = directories(env, &*first)?;
    let all: Vec<Linked> = all.iter().map(|one| reopen(env, typed, one)).collect::<Result<_, CliError>>()?;
    if all.is_empty() {
        let message = format!(
            "{place} was never compared from this home, so nothing is known of it; compare it, or name the home that did by --home"
        );
        return Err(CliError::new("database.no-index", message));
    }
    Ok(all)
}

/// The statements that give the user of an address what is lacking to do something with its table.
pub(crate) fn lacking(env: &Env, typed: &str, purpose: Purpose) -> Result<Vec<String>, CliError> {
    // Whoever may not even read it is told too.
    if is_postgres(typed) {
        return Ok(Postgres::grants(&login::address(env, typed)?, purpose)?);
    }
    Ok(table(env, typed)?.lacking(purpose)?)
}

/// Bytes of an index for each row of a table, and how that is known: by an index that this home has, if nobody else uses it.
pub(crate) fn bytes_a_row(env: &Env, typed: &str) -> (u64, &'static str) {
    for linked in indexes(env, typed).unwrap_or_default() {
        if let (Ok(stats), MEASURED_ROWS..) = (linked.index().stats(), linked.rows()) {
            return (stats.disk_bytes / linked.rows(), "as the index that there is does");
        }
    }
    (INDEX_BYTES_A_ROW, "as one of 200,000 rows did")
}

/// How keys and rows of a shape are shown.
pub(crate) fn layout(shape: &Shape) -> Layout {
    let columns = shape.columns().iter().map(|(name, _)| name.clone()).collect();
    Layout::of_table(shape.key().map(String::from).collect(), columns)
}

pub(crate) fn table(env: &Env, typed: &str) -> Result<Box<dyn Table>, CliError> {
    if is_postgres(typed) {
        return Ok(Box::new(Postgres::open(login::address(env, typed)?)?));
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
    if let Some(typed) = typed.strip_prefix(STORE) {
        return records(env, typed);
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

/// The records of a store: of its first collection, or of the one that is named behind its directory.
fn records(env: &Env, typed: &str) -> Result<Box<dyn Table>, CliError> {
    let named = typed.rsplit_once(COLLECTION).filter(|_| !env.path(Path::new(typed)).exists());
    let (dir, collection) = named.map_or((typed, None), |(dir, name)| (dir, Some(name)));
    let dir = env.path(Path::new(dir));
    let store = env.store_beside(&dir)?;
    let place = collection.map(|name| format!("{COLLECTION}{name}")).unwrap_or_default();
    let place = format!("{STORE}{}{place}", real(&dir).display());
    match TableStore::open(store, collection, place) {
        Ok(table) => Ok(Box::new(table)),
        Err(error @ StoreError::Database { .. }) => Err(CliError::refused("database.pair", error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// A file under one name, however it was typed, so that it has one index.
fn real(file: &Path) -> PathBuf {
    file.canonicalize().unwrap_or_else(|_| file.to_path_buf())
}

fn hash(secret: &Identity, purpose: &str, of: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(&secret.derive(purpose), of).as_bytes()
}

fn dataset_key(secret: &Identity, shape: &[u8]) -> DatasetKey {
    DatasetKey::from_bytes(hash(secret, KEY, shape))
}

/// How the names of all indexes of a table begin.
pub(crate) fn place_name(secret: &Identity, place: &str) -> String {
    format!("{}-", hex(&hash(secret, DATASET, place.as_bytes())[..8]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A table with its index as it was left. One shape has one dataset in a home, so that an index serves every pair it is in.
fn indexed(env: &Env, table: Box<dyn Table>, shape: Shape) -> Result<Linked, CliError> {
    let (dir, definition, key) = place_of(env, &*table, &shape)?;
    let place = table.place().to_string();
    Linked::open(&dir, table, shape, (definition, key), &env.store_options()).map_err(|error| in_use(&place, error))
}

/// Where the index of a table for a shape is, and what it is made with.
fn place_of(env: &Env, table: &dyn Table, shape: &Shape) -> Result<(PathBuf, Definition, DatasetKey), CliError> {
    let home = env.home()?;
    let secret = home.identity()?;
    let bytes = shape.to_bytes();
    let mut id = [0; 16];
    id.copy_from_slice(&hash(&secret, DATASET, &bytes)[..16]);
    let definition =
        Definition { profile: Profile::Content, key_index: false, ..Definition::simple(DatasetId(id), "table") };
    let dir = |place: &str| index_dir(&home, &named_for(&secret, place, (DATASET, &shape.to_own_bytes())));
    // One table has one index, with one journal and one pause, however it was typed.
    let own = dir(table.place());
    let other = table.also_typed().map(|place| dir(&place)).filter(|other| !own.is_dir() && other.is_dir());
    Ok((other.unwrap_or(own), definition, dataset_key(&secret, &bytes)))
}

/// The name of the index that a table has for a purpose, of something.
pub(crate) fn named_for(secret: &Identity, place: &str, (purpose, of): (&str, &[u8])) -> String {
    format!("{}{}", place_name(secret, place), hex(&hash(secret, purpose, of)[..4]))
}

/// Where the index of a name lies.
pub(crate) fn index_dir(home: &Home, name: &str) -> PathBuf {
    home.dir().join(INDEX).join(name)
}
