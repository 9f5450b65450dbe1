//! A node on the network: connects to peers, and answers those that it admits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use reknit_core::gossip::Word;
use reknit_core::message::{Message, Refuse, RefuseCode, Rights};
use reknit_core::session::Options;
use reknit_core::{DatasetId, Definition};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::brakes::{NodeBrakes, Windows};
use super::counters::{Counted, Counters, Refusal, UnderWay};
use super::gossip::{FRAME_GOSSIP, Gossip};
use super::held::FRAME_HOLD;
use super::introductions::FRAME_SUCCESSION;
use super::places::Places;
use super::receipts::Signer;
use super::rights::{InForce, still_allows};
use super::visits::{Asked, Peer, visit};
use super::{
    Budget, Grants, HoldRequest, Home, HomeError, NodeError, Over, Progress, SessionReport, Ticket, Welcome, Whom,
    answer_with,
};
use crate::clock::{millis, now_ms};
use crate::store::{Side, for_session};
use crate::transport::{
    Address, Arriving, CloseCode, Connection, Endpoint, Identity, Link, Network, PeerId, Quic, RateLimits,
    TransportError, limits,
};

/// The first byte of a frame that shows an invitation's token.
const FRAME_JOIN: u8 = 64;
/// The first byte of the answer: what was granted follows, as [`Grants`] are written.
const FRAME_WELCOME: u8 = 65;

/// A store that a node serves.
#[derive(Clone)]
pub struct Served {
    /// The store.
    pub side: Arc<dyn Side>,
}

/// Where a node binds.
#[derive(Clone, Copy, Debug)]
pub struct NodeOptions {
    /// The address, which over QUIC is one of UDP; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Whether peers may connect.
    pub listen: bool,
}

/// A node: an identity at an address. Its futures may be dropped at any point; store calls run off the async threads.
///
/// ```
/// use std::sync::Arc;
/// use reknit::core::message::Rights;
/// use reknit::core::session::{Direction, Intent, Options as SessionOptions, Verdict};
/// use reknit::core::{DatasetId, DatasetKey, Definition};
/// use reknit::node::{Budget, Home, KnownPeer, Node, NodeOptions, Served};
/// use reknit::store::{Options, Store};
/// use reknit::transport::Address;
///
/// # let dir = tempfile::tempdir()?;
/// let definition = Definition::simple(DatasetId([1; 16]), "notes");
/// let store = || Store::in_memory(definition.clone(), DatasetKey::from_bytes([2; 32]), &Options::default());
/// let (desk, phone) = (store()?, store()?);
/// desk.put(b"milk", b"two bottles")?;
///
/// tokio::runtime::Runtime::new()?.block_on(async {
///     let homes = [Home::open(&dir.path().join("desk"))?, Home::open(&dir.path().join("phone"))?];
///     let bind = "127.0.0.1:0".parse()?;
///     let server = Node::bind(&homes[0], NodeOptions { bind, listen: true })?;
///     let client = Node::bind(&homes[1], NodeOptions { bind, listen: false })?;
///     // Nobody may anything until added.
///     homes[0].add_peer(&KnownPeer { peer: client.peer(), may: Rights::ALL.into(), name: None })?;
///     let at = server.local_addr()?;
///     let address = Address { peer: server.peer(), host: at.ip().to_string(), port: at.port(), dataset: "notes".into() };
///     let (stop, stopped) = tokio::sync::watch::channel(false);
///     let served = Served { side: Arc::new(desk.clone()) };
///     let serving = tokio::spawn(async move { server.serve(vec![served], stopped).await });
///
///     let options = SessionOptions::new(Intent::Repair(Direction::Both));
///     let (_never, going) = tokio::sync::watch::channel(false);
///     let side = Arc::new(phone.clone());
///     let report = client.session(&address, side, options, Budget::default(), going, &mut |_| {}).await?;
///     assert_eq!(report.outcome.verdict, Verdict::InSync);
///     assert_eq!(phone.get(b"milk")?, Some(b"two bottles".to_vec()));
///     stop.send(true)?;
///     serving.await??;
///     # Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Node {
    home: Home,
    endpoint: Endpoint,
    /// By which it comes to peers that know the key before its own only, while that is in force.
    pub(super) former: Option<Endpoint>,
    identity: Arc<Identity>,
    brakes: NodeBrakes,
    pub(super) windows: Arc<Windows>,
    counters: Arc<Counters>,
    rights: InForce,
    joined: Option<Joined>,
}

/// What is done when a peer has joined by an invitation.
pub type Joined = Arc<dyn Fn(PeerId, &Grants) + Send + Sync>;

impl Node {
    /// Binds a node of this home. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`NodeError::Home`] or [`NodeError::Transport`].
    pub fn bind(home: &Home, options: NodeOptions) -> Result<Node, NodeError> {
        Node::bind_as(home, Arc::new(home.identity()?), options)
    }

    /// The same, with an identity that is kept elsewhere than in the home.
    ///
    /// # Errors
    /// As for [`Node::bind`].
    pub fn bind_as(home: &Home, identity: Arc<Identity>, options: NodeOptions) -> Result<Node, NodeError> {
        Node::bind_over(home, identity, options, &Quic)
    }

    /// The same, over a network that the program brings.
    ///
    /// # Errors
    /// As for [`Node::bind`].
    pub fn bind_over(
        home: &Home,
        identity: Arc<Identity>,
        options: NodeOptions,
        network: &dyn Network,
    ) -> Result<Node, NodeError> {
        let endpoint = Endpoint::bind(network, options.bind, &identity, options.listen)?;
        let any = SocketAddr::new(options.bind.ip(), 0);
        let former =
            identity.former().map(|former| Endpoint::bind(network, any, &former.identity, false)).transpose()?;
        let (brakes, windows, counters) = Default::default();
        let (home, rights) = (home.clone(), InForce::new(home));
        Ok(Node { home, endpoint, former, identity, brakes, windows, counters, rights, joined: None })
    }

    /// Binds a node of this home that connects, from wherever such an address can be reached.
    ///
    /// # Errors
    /// As for [`Node::bind`].
    pub fn client(home: &Home, to: &Address) -> Result<Node, NodeError> {
        let any: std::net::IpAddr = match to.host.as_str() {
            "127.0.0.1" | "localhost" => std::net::Ipv4Addr::LOCALHOST.into(),
            host if host.contains(':') => std::net::Ipv6Addr::UNSPECIFIED.into(),
            _ => std::net::Ipv4Addr::UNSPECIFIED.into(),
        };
        Node::bind(home, NodeOptions { bind: SocketAddr::new(any, 0), listen: false })
    }

    /// Lets peers lose what it serves no more than that.
    #[must_use]
    pub fn with_brakes(self, brakes: NodeBrakes) -> Node {
        Node { brakes, ..self }
    }

    /// Holds the sessions of connections that begin from now on to these rates.
    #[must_use]
    pub fn with_rate_limits(self, rate_limits: Arc<RateLimits>) -> Node {
        let home = self.home.clone();
        rate_limits.by_lines(move |peer| home.line(peer));
        let former = self.former.map(|former| former.with_rate_limits(rate_limits.clone()));
        Node { endpoint: self.endpoint.with_rate_limits(rate_limits), former, ..self }
    }

    /// Has this done when a peer has joined by an invitation, with what it may; it must not take long.
    #[must_use]
    pub fn when_joined(self, joined: Joined) -> Node {
        Node { joined: Some(joined), ..self }
    }

    /// What it has counted since it was bound; costs nothing.
    pub fn counted(&self) -> Counted {
        self.counters.counted()
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// Hears of rights that are given and taken away.
    pub(super) fn rights(&self) -> &InForce {
        &self.rights
    }

    /// By what is judged who may write what, and lose how much.
    pub(super) fn guards(&self) -> (Home, NodeBrakes, Arc<Windows>) {
        (self.home.clone(), self.brakes, self.windows.clone())
    }

    /// Who this node is.
    pub fn peer(&self) -> PeerId {
        self.identity.peer()
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// [`NodeError::Transport`].
    pub fn local_addr(&self) -> Result<SocketAddr, NodeError> {
        Ok(self.endpoint.local_addr()?)
    }

    /// Runs a session of a store of ours with the dataset at `address`, to its outcome.
    ///
    /// Dropping the future ends the session at once; what was applied stays valid. The peer may hear the outcome after it
    /// is given here: a program ends with [`Node::shutdown`].
    ///
    /// # Errors
    /// As for [`super::open_session`], or the peer could not be reached.
    pub async fn session(
        &self,
        address: &Address,
        side: Arc<dyn Side>,
        options: Options,
        budget: Budget,
        stop: watch::Receiver<bool>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<SessionReport, NodeError> {
        self.visit(address, side, Asked::once(options, budget, stop), progress).await
    }

    pub(super) async fn visit(
        &self,
        address: &Address,
        side: Arc<dyn Side>,
        asked: Asked,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<SessionReport, NodeError> {
        let _under_way = self.counters.opened.begins();
        let visited = async {
            let connection = self.connect(address).await?;
            let signer = Signer::new(&self.home, self.identity_as(connection.me()), connection.peer());
            let peer = Peer::Node(&connection, connection.peer().to_string(), signer);
            // The connection ends with its last holder: once the peer has heard how the session ended.
            visit(side, peer, asked, progress).await
        };
        let report = visited.await;
        self.counters.opened.done(report.as_ref().map(|report| (report.outcome.verdict, report.traffic)));
        report
    }

    fn whom(&self, peer: PeerId, me: PeerId) -> Whom {
        let signer = Signer::new(&self.home, self.identity_as(me), peer);
        Whom::new(peer.to_string(), Some(signer))
    }

    /// Shows the token of a ticket to the node that issued it, which then knows this node. It may be shown again until it ends.
    ///
    /// # Errors
    /// [`TransportError::NotAdmitted`] if the invitation has ended or another has used it; that the connection was lost.
    pub async fn take_up(&self, ticket: &Ticket, address: &Address) -> Result<Grants, NodeError> {
        let connection = self.connect(address).await?;
        let mut link = connection.open().await?;
        let not_admitted = || NodeError::Transport(TransportError::NotAdmitted { me: self.peer() });
        // A node that awaits nobody turns a stranger away before the token arrives.
        let lost = |error| (link.closed)().unwrap_or(error);
        link.control.writer.write(&[&[FRAME_JOIN], ticket.token.as_slice()].concat()).await.map_err(lost)?;
        let answer = link.control.reader.read().await.map_err(lost)?.ok_or_else(not_admitted)?;
        connection.close(CloseCode::Done);
        let names = answer.strip_prefix(&[FRAME_WELCOME]).and_then(|names| std::str::from_utf8(names).ok());
        names.and_then(|names| names.parse().ok()).ok_or_else(not_admitted)
    }

    /// Answers peers until `stop` says so, then lets running sessions end for a moment and closes.
    ///
    /// # Errors
    /// [`NodeError::Home`] if the file of peers cannot be read at the start.
    pub async fn serve(&self, stores: Vec<Served>, stop: watch::Receiver<bool>) -> Result<(), NodeError> {
        self.serve_with(stores, None, stop).await
    }

    /// The same, and takes part in gossip that was started with this node.
    ///
    /// # Errors
    /// As for [`Node::serve`].
    pub async fn serve_with(
        &self,
        stores: Vec<Served>,
        gossip: Option<Gossip>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), NodeError> {
        self.home.peers()?;
        let by_dataset = stores.into_iter().map(|served| (served.side.describe().definition.id, served)).collect();
        let serving = Serving {
            node: self.clone(),
            stores: Arc::new(by_dataset),
            places: Places::default(),
            gossip,
            stop: stop.clone(),
        };
        tokio::spawn(self.rights.clone().look(stop.clone()));
        let mut connections = JoinSet::new();
        let mut stopped = stop;
        loop {
            tokio::select! {
                arriving = self.endpoint.accept(), if connections.len() < limits::CONNECTIONS_MAX => match arriving {
                    Some(arriving) => {
                        connections.spawn(serving.clone().arrived(arriving));
                    }
                    None => break,
                },
                Some(_) = connections.join_next() => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        if let Some(gossip) = &serving.gossip {
            gossip.ended().await;
        }
        // Sessions see the same signal and end with what they have.
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, drained).await;
        self.endpoint.shutdown(CloseCode::Shutdown).await;
        if let Some(former) = &self.former {
            former.shutdown(CloseCode::Shutdown).await;
        }
        Ok(())
    }

    /// Closes all connections, and waits for a few hundredths of a second until that is said, not until it was heard.
    pub async fn shutdown(&self) {
        self.endpoint.leave(CloseCode::Done).await;
        if let Some(former) = &self.former {
            former.leave(CloseCode::Done).await;
        }
    }
}

/// What a serving node knows while it answers.
#[derive(Clone)]
pub struct Serving {
    node: Node,
    stores: Arc<BTreeMap<DatasetId, Served>>,
    places: Places,
    gossip: Option<Gossip>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Serving {
    async fn arrived(self, arriving: Arriving) {
        if let Some(connection) = arriving.connection().await {
            self.connection(connection).await;
        }
    }

    pub(super) fn refused(&self, why: Refusal) {
        self.node.counters.refused(why);
    }

    async fn connection(self, connection: Connection) {
        let counters = self.node.counters.clone();
        let _open = UnderWay::of(&counters.connections);
        let peer = connection.peer();
        let changes = self.node.rights.changes();
        let (admitted, idle) = match self.admit(peer) {
            // Whoever may nothing yet is here to show an invitation.
            Ok(Some(grants)) if grants.is_empty() => (false, limits::HANDSHAKE_TIMEOUT),
            Ok(Some(_)) => (true, limits::UNUSED_TIMEOUT),
            // Told nothing but that (M2), unless it has the key of a peer.
            Ok(None) => return self.stranger(connection).await,
            Err(error) => {
                tracing::error!(%error, "the file of peers cannot be read; nobody is admitted");
                self.refused(Refusal::NotAdmitted);
                return turn_away(connection).await;
            }
        };
        let mut sessions = JoinSet::new();
        if admitted && self.node.shows_to(peer) {
            let (node, connection) = (self.node.clone(), connection.clone());
            tokio::spawn(async move { node.show(&connection).await });
        }
        let mut stop = self.stop.clone();
        let lost = async {
            match admitted {
                true => self.node.rights.lost(changes, peer, |grants| !grants.is_empty()).await,
                // Whoever comes with an invitation has nothing to lose yet.
                false => std::future::pending().await,
            }
        };
        tokio::pin!(lost);
        loop {
            tokio::select! {
                link = connection.accept() => match link {
                    Some(link) => {
                        sessions.spawn(self.clone().session(connection.clone(), link, peer));
                    }
                    None => break,
                },
                Some(_) = sessions.join_next() => {}
                () = tokio::time::sleep(idle), if sessions.is_empty() => return connection.close(CloseCode::Done),
                // (M24)
                () = &mut lost => {
                    tracing::warn!(peer = %peer.short(), "it is no longer known here, and cut off");
                    connection.close(CloseCode::CutOff);
                    break;
                }
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        while sessions.join_next().await.is_some() {}
        if *stop.borrow() {
            // Dropped, it would only say that all is said.
            connection.close(CloseCode::Shutdown);
        }
    }

    /// This node, to connect to others.
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// The store of a dataset that is told by name or id.
    pub(super) fn side_named(&self, dataset: &str) -> Option<Arc<dyn Side>> {
        let named = |served: &&Served| {
            let definition = served.side.describe().definition;
            definition.name == dataset || definition.id.to_string() == dataset
        };
        self.stores.values().find(named).map(|served| served.side.clone())
    }

    /// Whether a peer may have this node hold sessions for a dataset.
    pub(super) fn may_operate(&self, peer: PeerId, definition: &Definition) -> bool {
        let grants = self.admit(peer).ok().flatten().unwrap_or_default();
        grants.on(definition).rights.allow(Rights::OPERATE)
    }

    /// By which grants a peer may have the session held that it asks for.
    fn may_hold(&self, request: &[u8]) -> impl Fn(&Grants) -> bool + Send + Sync + 'static {
        let request: Option<HoldRequest> = rmp_serde::from_slice(request).ok();
        let side = request.and_then(|request| self.side_named(&request.dataset));
        let definition = side.map(|side| side.describe().definition);
        // What is asked about nothing here is refused anyway.
        move |grants| definition.as_ref().is_none_or(|of| grants.on(of).rights.allow(Rights::OPERATE))
    }

    /// What a peer may do; no rights but entry while it may come with an invitation.
    fn admit(&self, peer: PeerId) -> Result<Option<Grants>, HomeError> {
        match self.node.home.grants(peer)? {
            Some(grants) => Ok(Some(grants)),
            None if self.node.home.awaits_anyone(now_ms())? => Ok(Some(Grants::default())),
            None => Ok(None),
        }
    }

    async fn session(self, connection: Connection, mut link: Link, peer: PeerId) {
        let Some(place) = self.places.take(peer) else {
            self.refused(Refusal::Sessions);
            return connection.close(CloseCode::Busy);
        };
        let mut stop = self.stop.clone();
        let first = tokio::select! {
            first = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, link.control.reader.read()) => first,
            // Whoever has said nothing yet hears that the node stops, not that it was too slow.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Ok(Ok(Some(frame))) = first else {
            self.refused(Refusal::Protocol);
            return connection.close(CloseCode::Protocol);
        };
        if let Some(token) = frame.strip_prefix(&[FRAME_JOIN]) {
            return self.join(connection, link, peer, token).await;
        }
        if let Some(shown) = frame.strip_prefix(&[FRAME_SUCCESSION]) {
            return self.succession(connection, link, shown).await;
        }
        // Read again at each session: what was taken away since the connection began is gone.
        let changes = self.node.rights.changes();
        let grants = self.admit(peer).ok().flatten().unwrap_or_default();
        if grants.is_empty() {
            self.refused(Refusal::NotAdmitted);
            return connection.close(CloseCode::NotAdmitted);
        }
        if let Some(request) = frame.strip_prefix(&[FRAME_HOLD]) {
            let over = self.over(connection, changes, (peer, self.may_hold(request)));
            return self.clone().hold(link, peer, request, over).await;
        }
        if let Some(word) = frame.strip_prefix(&[FRAME_GOSSIP]) {
            // It stays as long as the peer does, and is no session.
            drop(place);
            return match (&self.gossip, Word::decode(word)) {
                // By its old key it says nothing: whoever comes so is shown the new one, and comes again.
                (Some(gossip), Ok(hello @ Word::Hello { .. })) if connection.me() == self.node.peer() => {
                    gossip.taken_up(connection, link, hello).await;
                }
                (_, Ok(Word::Hello { .. })) => {}
                _ => connection.close(CloseCode::Protocol),
            };
        }
        let Ok(Message::Open(open)) = Message::decode(&frame) else {
            self.refused(Refusal::Protocol);
            return connection.close(CloseCode::Protocol);
        };
        let Some(served) = self.stores.get(&open.dataset.0) else {
            self.refused(Refusal::Said(RefuseCode::Dataset));
            let refuse = Refuse { code: RefuseCode::Dataset, detail: String::new(), definition: Default::default() };
            let _ = link.control.writer.write(&Message::Refuse(refuse).encode()).await;
            let _ = link.control.writer.finish().await;
            return;
        };
        let (side, stop) = (for_session(&served.side), self.stop.clone());
        let grant = grants.on(&side.describe().definition);
        let began = std::time::Instant::now();
        let guarded = (Some(self.node.brakes.brakes), Some(self.node.window(self.node.brakes.window, &*side, peer)));
        let (definition, wanted, at_first) = (side.describe().definition, open.clone(), grant.clone());
        let has = move |grants: &Grants| still_allows(&wanted, &definition, &at_first, &grants.on(&definition));
        let first = Some(Message::Open(open));
        let whom =
            Whom { over: self.over(connection.clone(), changes, (peer, has)), ..self.node.whom(peer, connection.me()) };
        let counters = self.node.counters.clone();
        let _under_way = counters.answered.begins();
        let ended = answer_with(side, link, grant, first, stop, whom, guarded).await;
        let elapsed_ms = millis(began.elapsed());
        match ended {
            Ok(answered) => {
                counters.answered.ended(&answered.verdict, answered.traffic);
                answered.refused.into_iter().for_each(|code| self.refused(Refusal::Said(code)));
                tracing::info!(peer = %peer.short(), verdict = answered.verdict, elapsed_ms, "session");
            }
            Err(error) => {
                counters.answered.done(Err(&error));
                if matches!(error, NodeError::Store(_) | NodeError::Stuck { .. }) {
                    self.refused(Refusal::Said(RefuseCode::Store));
                }
                tracing::warn!(peer = %peer.short(), %error, elapsed_ms, "session without an outcome");
                if matches!(error, NodeError::Session(_) | NodeError::Transport(TransportError::FrameTooLarge { .. })) {
                    self.refused(Refusal::Protocol);
                    connection.close(CloseCode::Protocol);
                }
            }
        }
    }

    /// Is over once a peer has lost what it needs; the connection is closed by then, so that it hears of nothing else (M24).
    fn over(
        &self,
        connection: Connection,
        changes: watch::Receiver<u64>,
        (peer, has): (PeerId, impl Fn(&Grants) -> bool + Send + Sync + 'static),
    ) -> Over {
        let rights = self.node.rights.clone();
        Box::pin(async move {
            rights.lost(changes, peer, has).await;
            tracing::warn!(peer = %peer.short(), "rights that it was using were taken away; it is cut off");
            connection.close(CloseCode::CutOff);
        })
    }

    async fn join(self, connection: Connection, mut link: Link, peer: PeerId, token: &[u8]) {
        match self.node.home.take_up(token, peer, now_ms()) {
            Ok(Some(Welcome { may, again })) => {
                let names = may.names().join(",");
                tracing::info!(%peer, may = names, "joined by invitation");
                // Whoever shows it again is what it was made then, or what it was made since.
                if let Some(joined) = self.node.joined.as_ref().filter(|_| !again) {
                    joined(peer, &may);
                }
                let _ = link.control.writer.write(&[&[FRAME_WELCOME], names.as_bytes()].concat()).await;
                let _ = link.control.writer.finish().await;
                connection.closed().await;
            }
            Ok(None) => {
                self.refused(Refusal::NotAdmitted);
                connection.close(CloseCode::NotAdmitted);
            }
            Err(error) => {
                tracing::error!(%error, "an invitation could not be taken up");
                connection.close(CloseCode::NotAdmitted);
            }
        }
    }
}

/// Closes on a peer that is not admitted, once it has spoken: a close within its handshake would carry no code of ours.
async fn turn_away(connection: Connection) {
    // Its lanes are let go after the close: it must hear of nothing else.
    let _lanes = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, connection.accept()).await;
    connection.close(CloseCode::NotAdmitted);
}
