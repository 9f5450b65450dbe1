//! A node on the network: connects to peers, and answers those that it admits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use reknit_core::message::{Message, Refuse, RefuseCode, Rights};
use reknit_core::{DatasetId, Definition};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::held::FRAME_HOLD;
use super::{Grants, Home, HomeError, NodeError, Ticket, answer_session};
use crate::store::Side;
use crate::transport::{
    Address, CloseCode, Connection, Endpoint, EndpointOptions, Link, PeerId, TransportError, limits,
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
    /// The UDP address; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Whether peers may connect.
    pub listen: bool,
}

/// A node: an identity on a UDP socket.
#[derive(Clone)]
pub struct Node {
    home: Home,
    endpoint: Endpoint,
    me: PeerId,
}

impl Node {
    /// Binds a node of this home. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`NodeError::Home`] or [`NodeError::Transport`].
    pub fn bind(home: &Home, options: NodeOptions) -> Result<Node, NodeError> {
        let identity = home.identity()?;
        let endpoint = Endpoint::bind(options.bind, &identity, &EndpointOptions { listen: options.listen })?;
        Ok(Node { home: home.clone(), endpoint, me: identity.peer() })
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

    /// Who this node is.
    pub fn peer(&self) -> PeerId {
        self.me
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// [`NodeError::Transport`].
    pub fn local_addr(&self) -> Result<SocketAddr, NodeError> {
        Ok(self.endpoint.local_addr()?)
    }

    /// Connects to the peer of an address.
    ///
    /// # Errors
    /// [`NodeError::Transport`].
    pub async fn connect(&self, address: &Address) -> Result<Connection, NodeError> {
        Ok(self.endpoint.connect(address).await?)
    }

    /// Shows the token of a ticket to the node that issued it, which then knows this node.
    ///
    /// # Errors
    /// [`TransportError::NotAdmitted`] if the invitation has ended or was used.
    pub async fn take_up(&self, ticket: &Ticket, address: &Address) -> Result<Grants, NodeError> {
        let connection = self.connect(address).await?;
        let mut link = connection.open().await?;
        let not_admitted = || NodeError::Transport(TransportError::NotAdmitted { me: self.me });
        link.control.writer.write(&[&[FRAME_JOIN], ticket.token.as_slice()].concat()).await?;
        let answer = link.control.reader.read().await.ok().flatten().ok_or_else(not_admitted)?;
        connection.close(CloseCode::Done);
        let names = answer.strip_prefix(&[FRAME_WELCOME]).and_then(|names| std::str::from_utf8(names).ok());
        names.and_then(|names| names.parse().ok()).ok_or_else(not_admitted)
    }

    /// Answers peers until `stop` says so, then lets running sessions end for a moment and closes.
    ///
    /// # Errors
    /// [`NodeError::Home`] if the file of peers cannot be read at the start.
    pub async fn serve(&self, stores: Vec<Served>, stop: watch::Receiver<bool>) -> Result<(), NodeError> {
        self.home.peers()?;
        let by_dataset = stores.into_iter().map(|served| (served.side.describe().definition.id, served)).collect();
        let serving = Serving {
            node: self.clone(),
            stores: Arc::new(by_dataset),
            sessions: Arc::new(Semaphore::new(limits::SESSIONS_MAX)),
            stop: stop.clone(),
        };
        let mut connections = JoinSet::new();
        let mut stopped = stop;
        loop {
            tokio::select! {
                connection = self.endpoint.accept() => match connection {
                    Some(connection) => {
                        connections.spawn(serving.clone().connection(connection));
                    }
                    None => break,
                },
                Some(_) = connections.join_next() => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        // Sessions see the same signal and end with what they have.
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, drained).await;
        self.endpoint.shutdown(CloseCode::Shutdown).await;
        Ok(())
    }

    /// Closes all connections.
    pub async fn shutdown(&self) {
        self.endpoint.shutdown(CloseCode::Done).await;
    }
}

/// What a serving node knows while it answers.
#[derive(Clone)]
pub struct Serving {
    node: Node,
    stores: Arc<BTreeMap<DatasetId, Served>>,
    sessions: Arc<Semaphore>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Serving {
    async fn connection(self, connection: Connection) {
        let peer = connection.peer();
        match self.admit(peer) {
            Ok(Some(_)) => {}
            Ok(None) => {
                tracing::info!(peer = %peer.short(), from = %connection.remote_addr(), "not admitted");
                return connection.close(CloseCode::NotAdmitted);
            }
            Err(error) => {
                tracing::error!(%error, "the file of peers cannot be read; nobody is admitted");
                return connection.close(CloseCode::NotAdmitted);
            }
        }
        let mut sessions = JoinSet::new();
        let mut stop = self.stop.clone();
        loop {
            tokio::select! {
                link = connection.accept() => match link {
                    Some(link) => {
                        sessions.spawn(self.clone().session(connection.clone(), link, peer));
                    }
                    None => break,
                },
                Some(_) = sessions.join_next() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        while sessions.join_next().await.is_some() {}
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

    /// What a peer may do; no rights but entry while it may come with an invitation.
    fn admit(&self, peer: PeerId) -> Result<Option<Grants>, HomeError> {
        match self.node.home.grants(peer)? {
            Some(grants) => Ok(Some(grants)),
            None if self.node.home.awaits_anyone(now())? => Ok(Some(Grants::default())),
            None => Ok(None),
        }
    }

    async fn session(self, connection: Connection, mut link: Link, peer: PeerId) {
        let Ok(_session) = self.sessions.clone().try_acquire_owned() else {
            return connection.close(CloseCode::Busy);
        };
        let first = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, link.control.reader.read()).await;
        let Ok(Ok(Some(frame))) = first else {
            return connection.close(CloseCode::Protocol);
        };
        if let Some(token) = frame.strip_prefix(&[FRAME_JOIN]) {
            return self.join(connection, link, peer, token).await;
        }
        // Read again at each session: what was taken away since the connection began is gone.
        let grants = self.admit(peer).ok().flatten().unwrap_or_default();
        if grants.is_empty() {
            return connection.close(CloseCode::NotAdmitted);
        }
        if let Some(request) = frame.strip_prefix(&[FRAME_HOLD]) {
            return self.clone().hold(link, peer, request).await;
        }
        let Ok(Message::Open(open)) = Message::decode(&frame) else {
            return connection.close(CloseCode::Protocol);
        };
        let Some(served) = self.stores.get(&open.dataset.0) else {
            let refuse = Refuse { code: RefuseCode::Dataset, detail: String::new(), definition: Default::default() };
            let _ = link.control.writer.write(&Message::Refuse(refuse).encode()).await;
            let _ = link.control.writer.finish().await;
            return;
        };
        let (side, stop) = (served.side.clone(), self.stop.clone());
        let grant = grants.on(&side.describe().definition);
        let began = std::time::Instant::now();
        let ended = answer_session(side, link, grant, Some(Message::Open(open)), stop).await;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match ended {
            Ok(verdict) => tracing::info!(peer = %peer.short(), verdict, elapsed_ms, "session"),
            Err(error) => {
                tracing::warn!(peer = %peer.short(), %error, elapsed_ms, "session without an outcome");
                if matches!(error, NodeError::Session(_)) {
                    connection.close(CloseCode::Protocol);
                }
            }
        }
    }

    async fn join(self, connection: Connection, mut link: Link, peer: PeerId, token: &[u8]) {
        match self.node.home.take_up(token, peer, now()) {
            Ok(Some(grants)) => {
                let names = grants.names().join(",");
                tracing::info!(%peer, may = names, "joined by invitation");
                let _ = link.control.writer.write(&[&[FRAME_WELCOME], names.as_bytes()].concat()).await;
                let _ = link.control.writer.finish().await;
                connection.closed().await;
            }
            Ok(None) => connection.close(CloseCode::NotAdmitted),
            Err(error) => {
                tracing::error!(%error, "an invitation could not be taken up");
                connection.close(CloseCode::NotAdmitted);
            }
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
