//! What an embedded node is to be: home, identity, datasets, addresses, who may what.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use reknit_core::dataset::Collection;
use reknit_core::message::Rights;
use reknit_core::{DatasetId, DatasetKey, Definition};
use tokio::sync::watch;

use super::jobs::{Jobs, keep_time};
use super::{EmbedError, Job, Kept, NEAR, Running, Shared, State, blocking};
use crate::node::{Authority, GossipOptions, Grants, Home, NodeBrakes};
use crate::store::{Options, Side, Store, StoreError};
use crate::transport::{Address, Identity, Network, PeerId, Quic, RateLimits};

/// The folder of a home that holds the stores of an embedded node, by the names of their datasets.
const STORES: &str = "stores";
/// The note of a store that says where whoever invited the node serves its dataset.
pub(super) const INVITED_AT: &str = "invited at";

/// Where a program keeps the secret of its node, such as the keychain of its platform. Called once, at the start.
pub trait Keychain: Send + Sync {
    /// The secret, as it was kept; none the first time.
    ///
    /// # Errors
    /// What the keychain says; the node does not start then.
    fn load(&self) -> std::io::Result<Option<Vec<u8>>>;

    /// Keeps the secret of a new identity, 83 bytes, before it is used.
    ///
    /// # Errors
    /// What the keychain says; the node does not start then.
    fn keep(&self, secret: &[u8]) -> std::io::Result<()>;
}

type Decides = Arc<dyn Fn(PeerId, &str) -> Rights + Send + Sync>;

/// A node that is to run in this program. Unless it is told otherwise it is in memory, listens on a free port of the
/// loopback, and gossips.
#[must_use]
pub struct Builder {
    home: Option<PathBuf>,
    identity: Option<Identity>,
    keychain: Option<Box<dyn Keychain>>,
    network: Arc<dyn Network>,
    listen: SocketAddr,
    advertise: Option<SocketAddr>,
    gossip: Option<GossipOptions>,
    brakes: NodeBrakes,
    rate_limits: Arc<RateLimits>,
    options: Options,
    datasets: Vec<Definition>,
    stores: Vec<Store>,
    sides: Vec<Arc<dyn Side>>,
    decides: Option<Decides>,
    seeds: Vec<Address>,
    jobs: BTreeMap<String, Job>,
}

impl Builder {
    pub(super) fn new() -> Builder {
        Builder {
            home: None,
            identity: None,
            keychain: None,
            network: Arc::new(Quic),
            listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            advertise: None,
            gossip: Some(GossipOptions::default()),
            brakes: NodeBrakes::default(),
            rate_limits: Arc::default(),
            options: Options { gives_way: true, ..Options::default() },
            datasets: Vec::new(),
            stores: Vec::new(),
            sides: Vec::new(),
            decides: None,
            seeds: Vec::new(),
            jobs: BTreeMap::new(),
        }
    }

    /// Keeps identity, peers and stores in this directory, which is made if it is not there. One node at a time has it. An
    /// engine must be built in (the feature `embedded-fjall` or `embedded-redb`).
    pub fn home(self, dir: impl AsRef<Path>) -> Builder {
        Builder { home: Some(dir.as_ref().into()), ..self }
    }

    /// Is this peer, instead of one whose secret lies in the home.
    pub fn identity(self, identity: Identity) -> Builder {
        Builder { identity: Some(identity), ..self }
    }

    /// Is the peer whose secret is kept there; a new one is made and kept the first time.
    pub fn keychain(self, keychain: impl Keychain + 'static) -> Builder {
        Builder { keychain: Some(Box::new(keychain)), ..self }
    }

    /// Reaches others over this network, instead of by QUIC.
    pub fn network(self, network: impl Network + 'static) -> Builder {
        Builder { network: Arc::new(network), ..self }
    }

    /// Listens there (UDP, over QUIC); port 0 lets the network choose.
    pub fn listen(self, at: SocketAddr) -> Builder {
        Builder { listen: at, ..self }
    }

    /// Tells others this address of itself, where it listens on all of the host's, or behind another.
    pub fn advertise(self, at: SocketAddr) -> Builder {
        Builder { advertise: Some(at), ..self }
    }

    /// Gossips so: seeds and address given here are taken from the builder instead.
    pub fn gossip(self, options: GossipOptions) -> Builder {
        Builder { gossip: Some(options), ..self }
    }

    /// Does not gossip: it answers, and holds the sessions that the program asks for.
    pub fn without_gossip(self) -> Builder {
        Builder { gossip: None, ..self }
    }

    /// Joins the gossip by these peers too, beside those that invited it.
    pub fn seeds(self, seeds: impl IntoIterator<Item = Address>) -> Builder {
        Builder { seeds: seeds.into_iter().collect(), ..self }
    }

    /// Lets peers lose what it serves no more than that, whoever opens the session: a peer, a job, or the program by
    /// [`Running::sync_now`]. Gossip has brakes of its own ([`GossipOptions::brakes`]).
    pub fn brakes(self, brakes: NodeBrakes) -> Builder {
        Builder { brakes, ..self }
    }

    /// Holds sessions to these rates, whoever opens them. Without it they go as fast as they can. A program that keeps the
    /// handle changes them while the node runs ([`RateLimits::set`]).
    pub fn rate_limits(self, rate_limits: Arc<RateLimits>) -> Builder {
        Builder { rate_limits, ..self }
    }

    /// How stores are opened: engine, caches, and the policies that the program brings; otherwise as usual, and sessions give
    /// way to what the program writes ([`Options::gives_way`]).
    pub fn store_options(self, options: Options) -> Builder {
        Builder { options, ..self }
    }

    /// Has a dataset of that name; one that it neither has yet nor joined is made, with an identity and a secret of its own, of
    /// these collections under the policy `newest`. Replicas of a dataset come about by [`Running::join`], not by its name.
    pub fn dataset<'n>(self, name: &str, collections: impl IntoIterator<Item = &'n str>) -> Builder {
        let collections: Vec<Collection> = collections
            .into_iter()
            .map(|name| Collection { name: name.into(), policy: reknit_core::policy::NEWEST.into() })
            .collect();
        self.definition(Definition { collections, ..Definition::simple(DatasetId([0; 16]), name) })
    }

    /// The same, with policies and all; the identity in it is drawn anew if the dataset is made and it is zero.
    pub fn definition(mut self, definition: Definition) -> Builder {
        self.datasets.push(definition);
        self
    }

    /// Has this store, which the program opened and keeps.
    pub fn store(mut self, store: Store) -> Builder {
        self.stores.push(store);
        self
    }

    /// Has this store of the program's own, which keeps the contract [`Side`]: peers and [`Running::sync_at`] hold sessions about
    /// its dataset. The program reads and writes it itself; it is neither invited to nor gossiped about.
    pub fn side(mut self, side: Arc<dyn Side>) -> Builder {
        self.sides.push(side);
        self
    }

    /// Decides what a peer may on a dataset on which it was granted nothing, by an invitation, by joining or by
    /// [`Running::grant`]. Without it such a peer may nothing there; where it panics too.
    ///
    /// It is asked at each session and, with gossip, each second for each peer; it is called on async threads and must not take
    /// long. What it decides is not kept.
    pub fn authorize(self, decides: impl Fn(PeerId, &str) -> Rights + Send + Sync + 'static) -> Builder {
        Builder { decides: Some(Arc::new(decides)), ..self }
    }

    /// Opens sessions by itself whenever the job is due, from the start on ([`Running::job`]). One about a dataset that it has
    /// not got fails until it has.
    pub fn job(mut self, name: &str, job: Job) -> Builder {
        self.jobs.insert(name.into(), job);
        self
    }

    /// Opens home and stores, and begins to answer, within the caller's runtime.
    ///
    /// # Errors
    /// [`EmbedError::Home`] if another node has the home, [`EmbedError::Store`] (also for some seconds after a node of this
    /// program with that home was dropped and not ended), [`EmbedError::DatasetExists`], [`EmbedError::DatasetName`],
    /// [`EmbedError::Keychain`], [`EmbedError::Identity`], [`EmbedError::Randomness`], [`EmbedError::Node`] if the address cannot be bound.
    pub async fn start(self) -> Result<Running, EmbedError> {
        let runtime = tokio::runtime::Handle::current();
        let shared = blocking(move || self.open(runtime)).await?;
        let running = Running { shared: Arc::new(shared) };
        let turn = running.shared.turn.write().await;
        running.begin_network().await?;
        drop(turn);
        tokio::spawn(keep_time(Arc::downgrade(&running.shared)));
        Ok(running)
    }

    fn open(self, runtime: tokio::runtime::Handle) -> Result<Shared, EmbedError> {
        let home = match &self.home {
            Some(dir) => Home::open(dir)?,
            None => Home::in_memory(),
        };
        let held = self.home.as_ref().map(|_| home.hold()).transpose()?;
        let identity = match (self.identity, &self.keychain) {
            (Some(identity), _) => identity,
            (None, Some(keychain)) => kept(&**keychain)?,
            (None, None) => home.identity()?,
        };
        let mut state = State { seeds: self.seeds, ..State::default() };
        if self.home.is_some() {
            for store in found(&home, &self.options)? {
                state.seeds.extend(noted(&store, INVITED_AT)?);
                state.near.extend(noted(&store, NEAR)?);
                state.add(store, true)?;
            }
        }
        for store in self.stores {
            state.add(store, false)?;
        }
        for mut definition in self.datasets {
            if state.stores.contains_key(&definition.name) {
                continue;
            }
            if definition.id == DatasetId([0; 16]) {
                definition.id = DatasetId(drawn()?);
            }
            let (on_disk, key) = (self.home.is_some(), DatasetKey::from_bytes(drawn()?));
            state.add(made(&home, on_disk, definition, key, &self.options, |_| Ok(()))?, true)?;
        }
        let mut sides: BTreeMap<String, Arc<dyn Side>> = BTreeMap::new();
        for side in self.sides {
            let name = side.describe().definition.name.clone();
            if state.stores.contains_key(&name) || sides.insert(name.clone(), side).is_some() {
                return Err(EmbedError::DatasetExists { name });
            }
        }
        let names = Arc::new(RwLock::new(state.stores.keys().chain(sides.keys()).cloned().collect()));
        let home = match self.decides {
            Some(decides) => home.with_authority(authority(decides, Arc::clone(&names))),
            None => home,
        };
        let jobs = Jobs::new(&identity, self.jobs);
        Ok(Shared {
            home,
            on_disk: self.home.is_some(),
            identity: Arc::new(identity),
            network: self.network,
            listen: self.listen,
            advertise: self.advertise,
            gossip: self.gossip,
            brakes: self.brakes,
            rate_limits: self.rate_limits,
            windows: Arc::default(),
            options: self.options,
            sides,
            names,
            state: Mutex::new(state),
            jobs,
            turn: tokio::sync::RwLock::new(()),
            runtime,
            ended: watch::channel(false).0,
            held: Mutex::new(held),
        })
    }
}

impl State {
    /// Takes a store up; one dataset has one store.
    pub(super) fn add(&mut self, store: Store, own: bool) -> Result<(), EmbedError> {
        let definition = store.definition().clone();
        let (id, name) = (definition.id, definition.name.clone());
        if self.stores.values().any(|kept| kept.store.definition().id == id) || self.stores.contains_key(&name) {
            return Err(EmbedError::DatasetExists { name });
        }
        self.stores.insert(name, Kept { store, own });
        Ok(())
    }
}

/// Whether a dataset may have this name here, where it is the name of a directory too.
pub(super) fn nameable(name: &str) -> Result<(), EmbedError> {
    match name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
        true => Err(EmbedError::DatasetName { name: name.into() }),
        false => Ok(()),
    }
}

/// Makes the store of a dataset in a home, with what `prepare` gives it: all of it, or none.
pub(super) fn made(
    home: &Home,
    on_disk: bool,
    definition: Definition,
    key: DatasetKey,
    options: &Options,
    prepare: impl FnOnce(&Store) -> Result<(), EmbedError>,
) -> Result<Store, EmbedError> {
    let name = &definition.name;
    nameable(name)?;
    if !on_disk {
        let store = Store::in_memory(definition, key, options)?;
        prepare(&store)?;
        return Ok(store);
    }
    let stores = home.dir().join(STORES);
    std::fs::create_dir_all(&stores).map_err(|error| StoreError::file(&stores, error))?;
    Store::create_with(&stores.join(name), definition, key, options, prepare)
}

/// Opens the stores of a home.
fn found(home: &Home, options: &Options) -> Result<Vec<Store>, EmbedError> {
    let stores = home.dir().join(STORES);
    let entries = match std::fs::read_dir(&stores) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| StoreError::file(&stores, error))?,
    };
    let mut dirs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    // What was cut off while it was made nobody has been told of; it is made anew where it is asked for.
    let mut stores = Vec::new();
    for dir in dirs {
        match Store::is_in(&dir)? {
            true => stores.push(Store::open(&dir, options)?),
            false => tracing::warn!(dir = %dir.display(), "no store is there, and it is left alone"),
        }
    }
    Ok(stores)
}

/// Addresses that were noted in a store, each in a line.
fn noted(store: &Store, name: &str) -> Result<Vec<Address>, EmbedError> {
    let noted = store.fact(name)?.unwrap_or_default();
    let lines = std::str::from_utf8(&noted).unwrap_or_default().lines();
    // What was noted by a release that writes addresses otherwise is no seed.
    Ok(lines.filter_map(|line| line.parse().ok()).collect())
}

fn kept(keychain: &dyn Keychain) -> Result<Identity, EmbedError> {
    if let Some(secret) = keychain.load().map_err(EmbedError::Keychain)? {
        return Ok(Identity::from_secret(&secret)?);
    }
    let identity = Identity::generate()?;
    keychain.keep(identity.secret()).map_err(EmbedError::Keychain)?;
    Ok(identity)
}

fn authority(decides: Decides, names: Arc<RwLock<Vec<String>>>) -> Authority {
    Arc::new(move |peer| {
        let names = names.read().unwrap_or_else(PoisonError::into_inner).clone();
        // What cannot decide lets nobody in, and stops nothing else.
        let decided = |name: &String| {
            let decided = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| decides(peer, name)));
            decided.unwrap_or_else(|_| {
                tracing::error!(peer = %peer.short(), dataset = name, "what decides on rights has panicked: the peer has none");
                Rights::default()
            })
        };
        let granted = names.iter().map(|name| Grants::from(decided(name)).within(name));
        Some(granted.fold(Grants::default(), |all, here| all.and(&here))).filter(|grants| !grants.is_empty())
    })
}

pub(super) fn drawn<const BYTES: usize>() -> Result<[u8; BYTES], EmbedError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| EmbedError::Randomness(error.to_string()))?;
    Ok(bytes)
}
