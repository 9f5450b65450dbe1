//! Nodes, stores and sessions for tests.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reknit::core::message::Rights;
use reknit::core::query::{Applied, Ask, Cut, Guard, Incoming, Item, Overwrite, Page, Selection, View};
use reknit::core::session::{Intent, Options as SessionOptions};
use reknit::core::sketch::Sketch;
use reknit::core::{
    Actor, CollectionId, Content, DatasetId, DatasetKey, Definition, Position, Range, Record, Sibling, Stamp, State,
    Summary, Version,
};
use reknit::node::{
    Budget, Home, KnownPeer, Node, NodeBrakes, NodeError, NodeOptions, Progress, Served, SessionReport, Stop,
};
use reknit::store::{Durability, Listed, Op, Options, Side, SideInfo, Store, StoreError};
use reknit::transport::{Address, PeerId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Far above what any test needs; it only keeps a hang from lasting for ever.
pub(crate) const SAFETY: Duration = Duration::from_secs(90);

/// Runs a test on a runtime of its own.
pub(crate) fn run(test: impl Future<Output = ()>) {
    run_for(SAFETY, test);
}

/// The same, for one that takes so long at most.
pub(crate) fn run_for(most: Duration, test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(most, test).await.expect("the test hangs") });
    runtime.shutdown_background();
}

pub(crate) fn definition() -> Definition {
    Definition::simple(DatasetId([7; 16]), "test")
}

pub(crate) fn store() -> Store {
    store_of(definition())
}

pub(crate) fn store_of(definition: Definition) -> Store {
    Store::in_memory(definition, DatasetKey::from_bytes([9; 32]), &Options::default()).expect("a store")
}

/// Gives all stores the same `count` records.
pub(crate) fn plant(stores: &[&Store], count: usize) {
    let record = |nth: usize| {
        let version = Version::after(Stamp(1 + nth as u64), Actor(1), []);
        let content = Content::Live(format!("value {nth}").into_bytes());
        let state = State::single(Sibling { version, content, expires: None });
        Incoming { record: Record { key: key(nth), state }, guard: Guard::Join }
    };
    for store in stores {
        for begin in (0..count).step_by(5000) {
            let batch = (begin..count.min(begin + 5000)).map(record).collect();
            let applied = store.apply(CollectionId(0), batch, Durability::Buffered).expect("planted");
            assert_eq!(applied.applied as usize, count.min(begin + 5000) - begin);
        }
    }
}

pub(crate) fn key(nth: usize) -> Vec<u8> {
    format!("key {nth:06}").into_bytes()
}

/// Gives one store new values of `keys`.
pub(crate) fn write(store: &Store, keys: impl Iterator<Item = Vec<u8>>, value: &str) {
    let ops = keys.map(|key| Op::put(key, value)).collect();
    store.batch(ops, Durability::Buffered).expect("written");
}

pub(crate) fn contents(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    store.scan(b"").expect("scanned").map(|row| row.expect("a row")).collect()
}

pub(crate) fn assert_sound(store: &Store) {
    let report = store.verify(&mut |_| ()).expect("verified");
    assert!(report.is_sound(), "{:#?}", report.wrong);
}

/// A store that counts what it is asked and what it applies.
pub(crate) struct Counted {
    store: Store,
    asked: AtomicU64,
    applied: AtomicU64,
    /// Once it has applied so many records, it is stuck.
    takes: u64,
}

impl Counted {
    pub(crate) fn new(store: &Store) -> Arc<Counted> {
        Counted::stuck_after(store, u64::MAX)
    }

    /// One that takes in a batch while it has applied fewer than so many records, and then never comes back.
    pub(crate) fn stuck_after(store: &Store, takes: u64) -> Arc<Counted> {
        Arc::new(Counted { store: store.clone(), asked: AtomicU64::new(0), applied: AtomicU64::new(0), takes })
    }

    /// Questions, but for who it is.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Records that changed it.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::SeqCst)
    }

    fn ask(&self) -> &Store {
        self.asked.fetch_add(1, Ordering::SeqCst);
        &self.store
    }

    fn note(&self, applied: Result<Applied, StoreError>) -> Result<Applied, StoreError> {
        if let Ok(applied) = &applied {
            self.applied.fetch_add(applied.applied, Ordering::SeqCst);
        }
        applied
    }
}

impl Side for Counted {
    fn describe(&self) -> SideInfo {
        self.store.describe()
    }

    fn cut(&self) -> Result<Cut, StoreError> {
        Side::cut(self.ask())
    }

    fn view(&self, collection: CollectionId, asks: &[Ask]) -> Result<Vec<View>, StoreError> {
        self.ask().view(collection, asks)
    }

    fn items(&self, collection: CollectionId, ranges: &[Range]) -> Result<Vec<Item>, StoreError> {
        self.ask().items(collection, ranges)
    }

    fn sketches(&self, collection: CollectionId, ranges: &[Range], cells: usize) -> Result<Vec<Sketch>, StoreError> {
        self.ask().sketches(collection, ranges, cells)
    }

    fn rests(&self, collection: CollectionId, ranges: &[(Range, Vec<Range>)]) -> Result<Vec<Summary>, StoreError> {
        self.ask().rests(collection, ranges)
    }

    fn list(
        &self,
        collection: CollectionId,
        range: Range,
        after: Option<(Position, Vec<u8>)>,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        self.ask().list(collection, range, after, limit)
    }

    fn read(
        &self,
        collection: CollectionId,
        what: &Selection,
        after: Option<(Position, Vec<u8>)>,
        max_bytes: usize,
    ) -> Result<Page, StoreError> {
        self.ask().read(collection, what, after, max_bytes)
    }

    fn apply(
        &self,
        collection: CollectionId,
        batch: Vec<Incoming>,
        durability: Durability,
    ) -> Result<Applied, StoreError> {
        while self.applied() >= self.takes {
            std::thread::park();
        }
        self.note(self.ask().apply(collection, batch, durability))
    }

    fn overwrite(
        &self,
        collection: CollectionId,
        overwrites: Vec<Overwrite>,
        durability: Durability,
    ) -> Result<Applied, StoreError> {
        self.note(self.ask().overwrite(collection, overwrites, durability))
    }

    fn sync(&self) -> Result<(), StoreError> {
        Side::sync(self.ask())
    }
}

/// A node with a home of its own.
pub(crate) struct Peer {
    pub(crate) home: Home,
    pub(crate) node: Node,
    _dir: tempfile::TempDir,
}

pub(crate) fn peer(listen: bool) -> Peer {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::open(dir.path()).expect("a home");
    let node = bind(&home, listen);
    Peer { home, node, _dir: dir }
}

pub(crate) fn bind(home: &Home, listen: bool) -> Node {
    let bind = "127.0.0.1:0".parse().expect("an address");
    Node::bind(home, NodeOptions { bind, listen }).expect("bound")
}

impl Peer {
    pub(crate) fn admit(&self, peer: PeerId, may: Rights) {
        self.home.add_peer(&KnownPeer { peer, may: may.into(), name: None }).expect("added");
    }

    pub(crate) fn address(&self) -> Address {
        address(&self.node)
    }
}

pub(crate) fn address(node: &Node) -> Address {
    let at = node.local_addr().expect("bound");
    Address { peer: node.peer(), host: at.ip().to_string(), port: at.port(), dataset: "test".into() }
}

/// Starts answering for `side`.
pub(crate) fn serve(node: &Node, side: Arc<dyn Side>) -> (JoinHandle<Result<(), NodeError>>, Stop) {
    let (stop, stopped) = watch::channel(false);
    let node = node.clone();
    (tokio::spawn(async move { node.serve(vec![Served { side }], stopped).await }), stop)
}

/// An opener and a responder that admits it.
pub(crate) struct Two {
    pub(crate) client: Peer,
    pub(crate) server: Peer,
    _serving: JoinHandle<Result<(), NodeError>>,
    _stop: Stop,
}

pub(crate) fn two(side: Arc<dyn Side>, may: Rights) -> Two {
    two_braked(side, may, NodeBrakes::default())
}

pub(crate) fn two_braked(side: Arc<dyn Side>, may: Rights, brakes: NodeBrakes) -> Two {
    let (client, mut server) = (peer(false), peer(true));
    server.node = server.node.with_brakes(brakes);
    server.admit(client.node.peer(), may);
    let (serving, stop) = serve(&server.node, side);
    Two { client, server, _serving: serving, _stop: stop }
}

impl Two {
    /// Runs a session of the client's `side` to its end.
    pub(crate) async fn session(&self, side: Arc<dyn Side>, options: SessionOptions) -> SessionReport {
        session(&self.client.node, &self.server.address(), side, options).await.expect("an outcome")
    }
}

pub(crate) fn intent(intent: Intent) -> SessionOptions {
    SessionOptions { settle: 50, ..SessionOptions::new(intent) }
}

pub(crate) async fn session(
    node: &Node,
    address: &Address,
    side: Arc<dyn Side>,
    options: SessionOptions,
) -> Result<SessionReport, NodeError> {
    let (_never, stop) = watch::channel(false);
    session_with(node, address, side, options, Budget::default(), stop, &mut |_| ()).await
}

pub(crate) async fn session_with(
    node: &Node,
    address: &Address,
    side: Arc<dyn Side>,
    options: SessionOptions,
    budget: Budget,
    stop: watch::Receiver<bool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<SessionReport, NodeError> {
    node.session(address, side, options, budget, stop, progress).await
}
