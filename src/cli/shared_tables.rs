//! Tables of this home that are part of a dataset which nodes share: a file of each says of which one, and in what shape. Their
//! indexes lie beside those of pairs.
//!
//! What such a dataset is, is said by [`TableDataset`].

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use reknit_core::row::Kind;
use serde::{Deserialize, Serialize};

use super::commands::sides::tables::{self, named_for};
use super::env::Env;
use super::new_file::NewFile;
use super::records::{hex, unhex};
use super::{CliError, Exit};
use crate::core::bounds::NAME_BYTES_MAX;
use crate::core::{Actor, DatasetKey, Definition};
use crate::store::linked::{
    Column, Columns, Fit, Linked, Pace, ServedTable, Shape, Table, TableDataset, TableDatasetError, Terms,
};
use crate::store::{EngineError, Left, StoreError};

/// What the file begins with.
const FILE_FORMAT: &str = "reknit table 1";
/// Bytes of the file: a shape of as many columns as there can be, in hex.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// How long an index may be in use before that is an error, and how often it is tried.
const IN_USE_MAX: Duration = Duration::from_secs(3);
const IN_USE_LOOK: Duration = Duration::from_millis(20);
/// What the name of an index is derived for.
const INDEX: &str = "reknit 2026 v1 index of a shared table";

/// Bytes are in hex; what is decided by them is not said twice, except the name, for people.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    /// Where the table is, without a password.
    table: String,
    name: String,
    definition: String,
    /// The secret of the dataset.
    key: String,
    /// What is compared, with what columns are called in this table and of which zones they are.
    shape: String,
    /// Whether that is all of its columns, and its own key.
    whole: bool,
    keyed: bool,
}

/// What is known of a table that is shared.
#[derive(Clone)]
pub(crate) struct SharedTable {
    /// Of which dataset it is.
    pub(crate) dataset: TableDataset,
    /// The shape as the table has it.
    pub(crate) shape: Shape,
    /// How much of the table that was when it joined.
    pub(crate) fit: Fit,
}

impl SharedTable {
    /// What the home says of a table; nothing if it is not shared.
    ///
    /// # Errors
    /// `home.file`, `home.malformed`, `database.dataset`.
    pub(crate) fn of(env: &Env, table: &dyn Table) -> Result<Option<SharedTable>, CliError> {
        let path = path(env, table)?;
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, &error)),
        };
        let malformed = |what: &str| {
            let message =
                format!("{}: {what}; restore the file, or remove it and let the table join again", path.display());
            CliError::new("home.malformed", message)
        };
        let file: File = toml::from_str(&text).map_err(|error| malformed(error.message()))?;
        if file.format != FILE_FORMAT {
            return Err(malformed("this release does not know its format"));
        }
        let bytes = |field: &str, what: &str| unhex(field).ok_or_else(|| malformed(what));
        let definition = Definition::decode(&bytes(&file.definition, "its definition is not hex")?);
        let definition = definition.map_err(|error| malformed(&format!("its definition: {error}")))?;
        let key: [u8; 32] =
            bytes(&file.key, "its key is not hex")?.try_into().map_err(|_| malformed("its key is no key"))?;
        let shape = Shape::from_bytes(&bytes(&file.shape, "its shape is not hex")?);
        let shape = shape.map_err(|error| malformed(&format!("its shape: {error}")))?;
        let dataset = TableDataset::of(definition, DatasetKey::from_bytes(key), &shape.to_bytes())?;
        let fit = Fit { whole: file.whole, keyed: file.keyed };
        Ok(Some(SharedTable { dataset, shape, fit }))
    }

    /// The same of a table that has to be shared.
    ///
    /// # Errors
    /// The same, and `database.no-dataset`.
    pub(crate) fn required(env: &Env, table: &dyn Table) -> Result<SharedTable, CliError> {
        SharedTable::of(env, table)?.ok_or_else(|| {
            let message = format!(
                "{} is of no dataset that nodes share, so that it cannot be compared with a peer's; make one with reknit invite \
                 TABLE --at HOST, or join the peer's: reknit join TABLE TICKET",
                table.place()
            );
            CliError::refused("database.no-dataset", message)
        })
    }

    /// What the home says of a table; of one that is not shared yet a dataset is made, named after it.
    ///
    /// # Errors
    /// As for [`SharedTable::of`], or what keeps its rows from being compared.
    pub(crate) fn of_or_new(env: &mut Env, table: &dyn Table) -> Result<SharedTable, CliError> {
        if let Some(shared) = SharedTable::of(env, table)? {
            return Ok(shared);
        }
        SharedTable::make(env, table, name_of(table.place()), (&Terms::default(), &BTreeMap::new()))
    }

    /// Makes a dataset of a table.
    ///
    /// # Errors
    /// `usage.name`, `database.shape`, `database.shared`, `home.file`.
    pub(crate) fn make(
        env: &mut Env,
        table: &dyn Table,
        name: &str,
        (terms, kinds): (&Terms, &BTreeMap<String, Kind>),
    ) -> Result<SharedTable, CliError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('/') || name.chars().any(char::is_control) {
            let message = format!(
                "{name:?} cannot name a dataset: 1 to {NAME_BYTES_MAX} bytes without slashes and control characters can; nothing was made"
            );
            return Err(CliError::new("usage.name", message));
        }
        free(env, table)?;
        let shape = of_kinds(table, terms, kinds)?;
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| CliError::new("randomness", error.to_string()))?;
        let dataset = TableDataset::new(name, key, &shape);
        SharedTable::keep(env, table, dataset, shape)
    }

    /// Remembers that a table is of a dataset.
    ///
    /// # Errors
    /// `database.shared` if it is of another already, `home.file`.
    pub(crate) fn keep(
        env: &mut Env,
        table: &dyn Table,
        dataset: TableDataset,
        shape: Shape,
    ) -> Result<SharedTable, CliError> {
        free(env, table)?;
        let fit = shape.fit(table.columns());
        let file = File {
            format: FILE_FORMAT.into(),
            table: table.place().into(),
            name: dataset.definition().name.clone(),
            definition: hex(&dataset.definition().encode()),
            key: hex(dataset.key().as_bytes()),
            shape: hex(&shape.to_named_bytes()),
            whole: fit.whole,
            keyed: fit.keyed,
        };
        let (path, text) = (path(env, table)?, toml::to_string(&file).unwrap_or_default());
        let dir = env.home()?.tables();
        let write = |tell: &mut dyn Write| {
            fs::create_dir_all(&dir)?;
            let mut new = NewFile::create(&path, tell)?;
            new.write_all(text.as_bytes())?;
            new.finish()
        };
        write(&mut *env.err).map_err(|error| failed(&path, &error))?;
        Ok(SharedTable { dataset, shape, fit })
    }

    /// The table with its index as it was left.
    ///
    /// # Errors
    /// `database.shape` if the table has changed its columns since, or what the index met.
    pub(crate) fn linked(&self, env: &Env, typed: &str, mut table: Box<dyn Table>) -> Result<Linked, CliError> {
        if let Some(why) = self.shape.misfit(table.columns(), self.fit) {
            let message = format!(
                "{} was changed since it joined the dataset {}: {why}; nothing was compared. Change it back, or remove {} and let \
                 it join anew (--ignore leaves a column out)",
                table.place(),
                self.dataset.definition().name,
                path(env, &*table)?.display()
            );
            return Err(CliError { exit: Exit::Refused, ..CliError::new("database.shape", message) });
        }
        let home = env.home()?;
        let secret = home.identity()?;
        let of = [self.dataset.definition().id.0.as_slice(), &self.shape.to_own_bytes()].concat();
        let dir = tables::index_dir(&home, &named_for(&secret, table.place(), (INDEX, &of)));
        let until = Instant::now() + IN_USE_MAX;
        loop {
            let made_with = (self.dataset.definition().clone(), self.dataset.key().clone());
            match Linked::open(&dir, table, self.shape.clone(), made_with, &env.store_options()) {
                // A session of the daemon holds it for a moment.
                Err(StoreError::Engine(EngineError::Locked { .. })) if Instant::now() < until => {
                    std::thread::sleep(IN_USE_LOOK);
                    table = tables::table(env, typed)?;
                }
                opened => return Ok(opened?),
            }
        }
    }
}

/// The shape of a table, as it is compared with one whose columns are of these kinds where they are named, and of its own elsewhere.
fn of_kinds(table: &dyn Table, terms: &Terms, kinds: &BTreeMap<String, Kind>) -> Result<Shape, CliError> {
    let wrong = |message: String| CliError::new("usage.terms", format!("{message}; nothing was made"));
    if let Some(unknown) = kinds.keys().find(|name| table.columns().column(name).is_none()) {
        return Err(wrong(format!("{} has no column {unknown}", table.place())));
    }
    let kind = |column: &Column| kinds.get(&column.name).copied().unwrap_or(column.kind);
    let as_asked = |column: &Column| Column { kind: kind(column), ..column.clone() };
    let other = Columns { columns: table.columns().columns.iter().map(as_asked).collect(), ..table.columns().clone() };
    let shapes = terms.shapes((table.place(), table.columns()), ("a table of these kinds", &other));
    let [shape, _] = shapes.map_err(TableDatasetError::from)?;
    for (source, (_, compared)) in shape.sources().iter().zip(shape.columns()) {
        if let Some(asked) = kinds.get(source).filter(|asked| *asked != compared) {
            let (asked, compared) = (asked.name(), compared.name());
            return Err(wrong(format!("the column {source} tells more than {asked}: it is compared as {compared}")));
        }
    }
    Ok(shape)
}

/// A table that is shared, with its index as it was left.
///
/// # Errors
/// As for [`SharedTable::required`] and [`SharedTable::linked`].
pub(crate) fn opened(env: &Env, typed: &str) -> Result<Linked, CliError> {
    let table = tables::table(env, typed)?;
    SharedTable::required(env, &*table)?.linked(env, typed, table)
}

/// A table as a node serves it: opened anew whenever a session begins while none is under way, and read no further once that is
/// `stopped`.
///
/// # Errors
/// `randomness`.
pub(crate) fn served(
    env: &Env,
    typed: &str,
    (place, shared): (&str, &SharedTable),
    stopped: Arc<AtomicBool>,
) -> Result<ServedTable, CliError> {
    let (typed, shared_there, global, dir) = (typed.to_string(), shared.clone(), env.global.clone(), env.dir.clone());
    let (mut actor, mut nonce) = ([0; 8], [0; 8]);
    let drawn = getrandom::fill(&mut actor).and_then(|()| getrandom::fill(&mut nonce));
    drawn.map_err(|error| CliError::new("randomness", error.to_string()))?;
    let life = (Actor(u64::from_be_bytes(actor)), u64::from_be_bytes(nonce));
    let told = place.to_string();
    let open = move || {
        let env = Env::unheard(&global, dir.clone());
        let opened = tables::table(&env, &typed).and_then(|table| shared_there.linked(&env, &typed, table));
        let pace = Pace { stopped: Some(stopped.clone()), ..Pace::default() };
        opened.map(|linked| linked.paced(pace, None)).map_err(|error| {
            // The place and what was changed are said once.
            let message = error.message.strip_suffix(&format!("; {}", Left::Unchanged)).unwrap_or(&error.message);
            let message = message.strip_prefix(&format!("{told}: ")).unwrap_or(message).to_string();
            StoreError::Database { place: told.clone(), message, left: Left::Unchanged }
        })
    };
    let layout = tables::layout(&shared.shape).to_bytes();
    Ok(ServedTable::new(&shared.dataset, (place.into(), Some(layout)), life, open))
}

/// Refuses a table that is of a dataset already.
///
/// # Errors
/// `database.shared`, or as for [`SharedTable::of`].
pub(crate) fn free(env: &Env, table: &dyn Table) -> Result<(), CliError> {
    let Some(shared) = SharedTable::of(env, table)? else { return Ok(()) };
    let message = format!(
        "{} is of the dataset {} already, in this home; nothing was changed. Another home, named with --home, can have it in \
         another dataset; {} is where this one says so",
        table.place(),
        shared.dataset.definition().name,
        path(env, table)?.display()
    );
    Err(CliError::refused("database.shared", message))
}

/// What a dataset is called that is named after its table.
pub(crate) fn name_of(place: &str) -> &str {
    let last = place.rsplit(['/', '#']).next().unwrap_or(place);
    let stem = ["zst", "csv", "jsonl", "parquet"]
        .iter()
        .fold(last, |name, ending| name.strip_suffix(ending).and_then(|name| name.strip_suffix('.')).unwrap_or(name));
    if tables::is_postgres(place) { stem.rsplit('.').next().unwrap_or(stem) } else { stem }
}

fn path(env: &Env, table: &dyn Table) -> Result<PathBuf, CliError> {
    let home = env.home()?;
    let name = tables::place_name(&home.identity()?, table.place());
    Ok(home.tables().join(format!("{}.toml", name.trim_end_matches('-'))))
}

fn read(path: &PathBuf) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn failed(path: &std::path::Path, error: &io::Error) -> CliError {
    CliError::new("home.file", format!("{} in the home cannot be used: {error}", path.display()))
}

impl From<TableDatasetError> for CliError {
    fn from(error: TableDatasetError) -> Self {
        let id = match &error {
            TableDatasetError::Encoding => "database.dataset",
            _ => "database.shape",
        };
        CliError { exit: Exit::Refused, ..CliError::new(id, error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn a_dataset_is_named_after_its_table() {
        for (place, name) in [
            ("sqlite:/x/a.db/people", "people"),
            ("postgres://host:5432/db/public.orders", "orders"),
            ("csv:/x/rows.v2.csv", "rows.v2"),
            ("csv:/x/rows.csv.zst", "rows"),
            ("s3://bucket/rows.parquet", "rows"),
            ("store:/x/shop#users", "users"),
        ] {
            assert_eq!(name_of(place), name);
        }
    }
}
