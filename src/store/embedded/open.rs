//! Making a store and opening one: the marker beside the engine's files, and the facts that every store begins with.
//! A store that was copied or restored gets a new life in [`super::backup`].

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use reknit_core::canonical::Reader;
use reknit_core::dataset::Collection;
use reknit_core::planted::{Bug, planted};
use reknit_core::policy::Policies;
use reknit_core::query::Cut;
use reknit_core::stamp::CLOCK_BOUND_MILLIS;
use reknit_core::{Actor, Clock, CollectionId, DatasetKey, Definition, Keys, Millis, Stamp};

use super::cache::Cache;
use super::giving_way::{GivingWay, steady};
use super::lives::{self, Lives};
use super::rows::{self, Counts};
use super::sketches::{FOLD_AT, Sketches};
use super::tree::{ReadCounts, Tree};
use super::watch::Watchers;
use super::write::{Writer, put_head};
use super::{Group, HEAD, Inner, Store, StoreError};
use crate::clock::now_ms;
use crate::store::engine::{self, Batch, Durability, Engine, EngineKind, Memory, Snapshot};

/// The file that makes a directory a store: its format and its engine.
const MARKER: &str = "reknit.store";
const DRAFT: &str = "reknit.store.new";
const MARKER_FORMAT: &str = "reknit store 1";
/// The engine's own directory.
const ROWS: &str = "rows";
/// There while a store is made, by whoever has the lock of its directory; else it tells that this was cut off, whatever else is
/// there.
const MAKING: &str = "reknit.making";
/// What an import sorts, removed when the store is opened.
pub(super) const TEMPORARY: &str = "tmp";

const DEFINITION: &str = "definition";
const KEY: &str = "key";
const LIFE: &str = "life";
pub(super) const ROW_FORMAT: &str = "format";
/// There where the values of records are the digests of contents.
pub(super) const BARE: &str = "bare";

/// Where lives and nonces are drawn from.
pub(super) type Random = Arc<dyn Fn() -> Result<u64, StoreError> + Send + Sync>;

/// How a store is to be kept and run.
#[derive(Clone)]
pub struct Options {
    /// The engine of a new store; one that exists stays with its own.
    pub engine: EngineKind,
    /// Bytes of memory for the engine's blocks.
    pub block_cache_bytes: u64,
    /// Bytes of memory for parts of the trees.
    pub tree_cache_bytes: usize,
    /// Policies that the program brings, beside those that are built in.
    pub policies: Policies,
    /// The wall clock, in milliseconds since the Unix epoch.
    pub clock: Arc<dyn Fn() -> Millis + Send + Sync>,
    /// How far a record's stamp may be ahead of the wall clock, in milliseconds.
    pub clock_bound: Millis,
    /// While clients write, what sessions write gives way to them: it comes in small commits, and with rests, aiming at
    /// waits no more than twice as long as without; a repair then takes longer.
    pub gives_way: bool,
    /// Where lives and nonces are drawn from.
    #[doc(hidden)]
    pub random: Random,
    /// By what it is told how long clients wait.
    #[doc(hidden)]
    pub micros: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// The store keeps the digests of contents in place of values: it is the index of a table.
    #[doc(hidden)]
    pub bare: bool,
    /// For tests: positions keep only so many bits, so that they collide.
    #[doc(hidden)]
    pub position_bits: Option<u32>,
    /// For measurements: keeps no tree. Such a store is worth nothing.
    #[doc(hidden)]
    pub no_tree: bool,
    /// For tests: folds the tail of a sketch beyond so many changes.
    #[doc(hidden)]
    pub fold_at: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: EngineKind::default(),
            block_cache_bytes: 16 << 20,
            tree_cache_bytes: 48 << 20,
            policies: Policies::default(),
            clock: Arc::new(now_ms),
            clock_bound: CLOCK_BOUND_MILLIS,
            gives_way: false,
            random: Arc::new(random),
            micros: steady(),
            bare: false,
            position_bits: None,
            no_tree: false,
            fold_at: FOLD_AT,
        }
    }
}

impl Store {
    /// Makes a store of `definition` in `dir`, which must not exist, be empty, or hold what is left of making one that was cut
    /// off.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Definition`], or what the system said.
    pub fn create(dir: &Path, definition: Definition, key: DatasetKey, options: &Options) -> Result<Self, StoreError> {
        Self::create_with(dir, definition, key, options, |_| Ok::<(), StoreError>(()))
    }

    /// The same with what `prepare` gives it: whoever is cut off before that is done has made no store.
    ///
    /// # Errors
    /// As for [`Store::create`], and what `prepare` met.
    pub fn create_with<E: From<StoreError>>(
        dir: &Path,
        definition: Definition,
        key: DatasetKey,
        options: &Options,
        prepare: impl FnOnce(&Store) -> Result<(), E>,
    ) -> Result<Self, E> {
        definition.check().map_err(StoreError::Definition)?;
        let (engine, making) = claim(dir, options)?;
        found(&*engine, &definition, &key, options)?;
        mark(dir, options.engine)?;
        let store = Self::over_at(dir.to_path_buf(), engine, options)?;
        prepare(&store)?;
        making.finish()?;
        Ok(store)
    }

    /// Whether there is a store in `dir`, whole or hurt; of one that was cut off while it was made: no.
    ///
    /// # Errors
    /// What the system said.
    pub fn is_in(dir: &Path) -> Result<bool, StoreError> {
        let there = |name: &str| dir.join(name).try_exists().map_err(|error| StoreError::file(dir, error));
        Ok(!there(MAKING)? && (there(MARKER)? || there(ROWS)?))
    }

    /// Opens the store in `dir`.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`], [`StoreError::Format`], an engine that is locked, damaged or not built in, or
    /// [`StoreError::Damaged`].
    pub fn open(dir: &Path, options: &Options) -> Result<Self, StoreError> {
        let kind = marked(dir)?;
        let engine = open_rows(dir, kind, options)?;
        // The engine's lock is ours, so what an interrupted import left behind is nobody's.
        match fs::remove_dir_all(dir.join(TEMPORARY)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::file(&dir.join(TEMPORARY), error));
            }
            _ => {}
        }
        Self::over_at(dir.to_path_buf(), engine, options)
    }

    /// A store in memory, for tests and simulations; it is gone with its last handle.
    ///
    /// # Errors
    /// [`StoreError::Definition`].
    pub fn in_memory(definition: Definition, key: DatasetKey, options: &Options) -> Result<Self, StoreError> {
        Self::found_over(Arc::new(Memory::new()), definition, key, options)
    }

    /// A new store over an engine that is at hand.
    #[doc(hidden)]
    pub fn found_over(
        engine: Arc<dyn Engine>,
        definition: Definition,
        key: DatasetKey,
        options: &Options,
    ) -> Result<Self, StoreError> {
        definition.check().map_err(StoreError::Definition)?;
        found(&*engine, &definition, &key, options)?;
        Self::over(engine, options)
    }

    /// Opens the store whose rows `engine` has.
    #[doc(hidden)]
    pub fn over(engine: Arc<dyn Engine>, options: &Options) -> Result<Self, StoreError> {
        Self::over_at(PathBuf::from("memory"), engine, options)
    }

    /// Opens the store whose rows `engine` has, which are a copy, as [`Store::restore`] does.
    #[doc(hidden)]
    pub fn restored_over(engine: Arc<dyn Engine>, options: &Options) -> Result<Self, StoreError> {
        revive(&*engine, options)?;
        Self::over(engine, options)
    }

    /// Reads the facts, draws the nonce of this opening, and begins a new life if the directory is a copy.
    fn over_at(dir: PathBuf, engine: Arc<dyn Engine>, options: &Options) -> Result<Self, StoreError> {
        let snapshot = engine.snapshot()?;
        let facts = Facts::read(&dir, &*snapshot)?;
        if facts.bare != options.bare {
            return Err(StoreError::Bare { dir, bare: facts.bare });
        }
        let reads = ReadCounts::default();
        let mut roots = Vec::new();
        let mut counts = Vec::new();
        for place in 0..facts.definition.collections.len() {
            let collection = CollectionId(u16::try_from(place).unwrap_or(u16::MAX));
            roots.push(Tree { snapshot: &*snapshot, collection, reads: &reads, bare: None }.root()?);
            counts.push(match snapshot.get(&rows::counts(collection))? {
                Some(value) => Counts::decode(&value)
                    .map_err(|error| StoreError::damaged(format!("the counts do not decode: {error}")))?,
                None => Counts::default(),
            });
        }
        let sketches = if options.no_tree {
            Sketches::none()
        } else {
            Sketches::open(&*snapshot, facts.definition.collections.len(), options.fold_at)?
        };
        let policy = |collection: &Collection| options.policies.get(&collection.policy).map_err(StoreError::Policy);
        let policies = facts.definition.collections.iter().map(policy).collect::<Result<_, _>>()?;
        let journal = super::journal::Journal::open(&*snapshot)?;
        let quarantine = super::quarantine::Quarantine::open(&*snapshot)?;
        let collecting = super::collecting::Collecting::open(&*snapshot)?;
        let expiring = super::expiring::Expiring::open(&*snapshot)?;
        let mut batch = Batch::new();
        let actor = lives::settle(&dir.join(MARKER), &*snapshot, facts.actor, &options.random, &mut batch)?;
        if actor == facts.actor {
            lives::end_last(&*snapshot, (facts.commit, facts.stamp), &mut batch)?;
        }
        let bases = super::bases::Bases::open(&*snapshot, actor)?;
        let lives = Lives::open(&*snapshot, actor, (options.random)()?, facts.stamp)?;
        drop(snapshot);
        engine.commit(&mut batch, Durability::Synced)?;
        let mut keys = Keys::new(&facts.key);
        if let Some(bits) = options.position_bits {
            keys = keys.with_position_bits(bits);
        }
        if facts.bare {
            keys = keys.of_bare();
        }
        let inner = Inner {
            dir,
            engine,
            definition: Arc::new(facts.definition),
            policies,
            keys: Arc::new(keys),
            dataset_key: facts.key,
            lives,
            clock: Arc::clone(&options.clock),
            clock_bound: options.clock_bound,
            no_tree: options.no_tree,
            giving_way: options.gives_way.then(|| GivingWay::new(Arc::clone(&options.micros))),
            bare: facts.bare,
            group: Group::default(),
            owed: Default::default(),
            random: Arc::clone(&options.random),
            writer: Mutex::new(Writer {
                clock: Clock::new(facts.stamp),
                cache: Cache::new(options.tree_cache_bytes),
                counts,
                failed: false,
            }),
            watchers: Watchers::new(facts.commit),
            head: RwLock::new(Arc::new(Cut {
                commit: facts.commit,
                stamp: facts.stamp,
                horizon: collecting.stamp(),
                undone: collecting.undone(),
                watermark: 0,
                roots,
            })),
            reads,
            sketches,
            journal,
            quarantine,
            collecting,
            lookouts: Default::default(),
            expiring,
            bases,
        };
        let store = Self { inner: Arc::new(inner) };
        store.finish_renewal()?;
        store.finish_expiring()?;
        store.finish_collecting()?;
        Ok(store)
    }
}

/// Opens the engine of the store in `dir`, of which the marker was read.
pub(super) fn open_rows(dir: &Path, kind: EngineKind, options: &Options) -> Result<Arc<dyn Engine>, StoreError> {
    let rows = dir.join(ROWS);
    if !rows.is_dir() {
        return Err(engine::EngineError::Missing { dir: rows }.into());
    }
    Ok(engine::open(kind, &rows, options.block_cache_bytes)?)
}

/// A directory in which a store is being made, by nobody else.
pub(super) struct Making {
    dir: PathBuf,
    held: fs::File,
}

impl Making {
    /// It is a store from now on.
    pub(super) fn finish(self) -> Result<(), StoreError> {
        let synced = fs::remove_file(self.dir.join(MAKING)).and_then(|()| self.held.sync_all());
        synced.map_err(|error| StoreError::file(&self.dir, error))
    }
}

/// Makes the directory, readable by its owner only since it holds the dataset's secret, and an engine in it.
pub(super) fn claim(dir: &Path, options: &Options) -> Result<(Arc<dyn Engine>, Making), StoreError> {
    let making = making(dir)?;
    let rows = dir.join(ROWS);
    fs::create_dir_all(&rows).map_err(|error| StoreError::file(&rows, error))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let owner_only = fs::Permissions::from_mode(0o700);
        fs::set_permissions(dir, owner_only).map_err(|error| StoreError::file(dir, error))?;
    }
    Ok((engine::open(options.engine, &rows, options.block_cache_bytes)?, making))
}

/// Begins to make a store in a directory, which is empty then.
fn making(dir: &Path) -> Result<Making, StoreError> {
    let failed = |error| StoreError::file(dir, error);
    fs::create_dir_all(dir).map_err(failed)?;
    // Whoever has it is alone with what is there, until it is a store: the directory itself is removed by nobody.
    let held = fs::File::open(dir).map_err(failed)?;
    held.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => engine::EngineError::Locked { dir: dir.to_path_buf() }.into(),
        fs::TryLockError::Error(error) => failed(error),
    })?;
    let names = || -> std::io::Result<Vec<_>> {
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    };
    let left = [MAKING, MARKER, DRAFT, ROWS, TEMPORARY];
    let cut_off = |names: &[std::ffi::OsString]| {
        names.iter().any(|name| name == MAKING) && names.iter().all(|name| left.iter().any(|left| name == left))
    };
    let names = names().map_err(failed)?;
    if !names.is_empty() && !cut_off(&names) {
        return Err(StoreError::Exists { dir: dir.to_path_buf() });
    }
    // It is there before what it tells of, also where the power fails.
    fs::write(dir.join(MAKING), "").and_then(|()| held.sync_all()).map_err(failed)?;
    for name in names.iter().filter(|name| *name != MAKING) {
        let path = dir.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| StoreError::file(&path, error))?;
    }
    Ok(Making { dir: dir.to_path_buf(), held })
}

/// Writes the facts that a store begins with.
fn found(engine: &dyn Engine, definition: &Definition, key: &DatasetKey, options: &Options) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    batch.put(&rows::meta(ROW_FORMAT), &[if options.bare { rows::BARE_FORMAT } else { rows::FORMAT }]);
    batch.put(&rows::meta(DEFINITION), &definition.encode());
    batch.put(&rows::meta(KEY), key.as_bytes());
    if options.bare {
        batch.put(&rows::meta(BARE), &[]);
    }
    put_life(Actor((options.random)()?), &mut batch);
    put_head(0, &Clock::default(), &mut batch);
    Ok(engine.commit(&mut batch, Durability::Synced)?)
}

/// Gives the rows in `engine` a life of their own.
pub(super) fn revive(engine: &dyn Engine, options: &Options) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    let actor = Actor((options.random)()?);
    if !planted(Bug::ActorReusedAfterRestore) {
        put_life(actor, &mut batch);
    }
    Ok(engine.commit(&mut batch, Durability::Synced)?)
}

pub(super) fn put_life(actor: Actor, batch: &mut Batch) {
    batch.put(&rows::meta(LIFE), &actor.0.to_be_bytes());
}

/// Makes the directory a store, once nobody is making it any more: all or nothing, and durable.
pub(super) fn mark(dir: &Path, kind: EngineKind) -> Result<(), StoreError> {
    let (path, draft) = (dir.join(MARKER), dir.join(DRAFT));
    let write = || {
        let mut file = fs::File::create(&draft)?;
        writeln!(file, "{MARKER_FORMAT}\nengine {kind}")?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(|error| StoreError::file(&path, error))
}

/// The engine of the store in `dir`.
pub(super) fn marked(dir: &Path) -> Result<EngineKind, StoreError> {
    let path = dir.join(MARKER);
    if dir.join(MAKING).exists() {
        return Err(StoreError::NotAStore { dir: dir.to_path_buf() });
    }
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Err(StoreError::NotAStore { dir: dir.to_path_buf() });
        }
        Err(error) => return Err(StoreError::file(&path, error)),
    };
    let mut lines = text.lines();
    let format = lines.next().unwrap_or_default();
    let kind = lines.next().and_then(|line| line.strip_prefix("engine ")).and_then(EngineKind::from_name);
    match kind {
        Some(kind) if format == MARKER_FORMAT => Ok(kind),
        _ => Err(StoreError::Format { dir: dir.to_path_buf(), found: text.trim().chars().take(80).collect() }),
    }
}

pub(crate) fn random() -> Result<u64, StoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Randomness(error.to_string()))?;
    Ok(u64::from_be_bytes(bytes))
}

/// What a store says of itself.
struct Facts {
    definition: Definition,
    key: DatasetKey,
    actor: Actor,
    commit: u64,
    stamp: Stamp,
    bare: bool,
}

impl Facts {
    fn read(dir: &Path, snapshot: &dyn Snapshot) -> Result<Self, StoreError> {
        let fact = |name: &str| {
            let value = snapshot.get(&rows::meta(name))?;
            value.ok_or_else(|| StoreError::damaged(format!("the row {name:?} is missing")))
        };
        let malformed = |name: &str| StoreError::damaged(format!("the row {name:?} does not decode"));
        let format = fact(ROW_FORMAT)?;
        let bare = snapshot.get(&rows::meta(BARE))?.is_some();
        if format != [if bare { rows::BARE_FORMAT } else { rows::FORMAT }] {
            return Err(StoreError::Format { dir: dir.to_path_buf(), found: format!("rows {format:?}") });
        }
        let definition = Definition::decode(&fact(DEFINITION)?).map_err(StoreError::Definition)?;
        let key = <[u8; 32]>::try_from(fact(KEY)?).map_err(|_| malformed(KEY))?;
        let life = fact(LIFE)?;
        let actor = Reader::new(&life).u64().map_err(|_| malformed(LIFE))?;
        let head = fact(HEAD)?;
        let mut reader = Reader::new(&head);
        let commit = reader.u64().map_err(|_| malformed(HEAD))?;
        let stamp = reader.u64().map_err(|_| malformed(HEAD))?;
        let (key, actor, stamp) = (DatasetKey::from_bytes(key), Actor(actor), Stamp(stamp));
        Ok(Self { definition, key, actor, commit, stamp, bare })
    }
}
