//! Connections over any network: which streams make which session, and what an end means.
//!
//! Bytes are carried by a [`Wire`]; who may what is the node's concern.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::link::{Lane, LaneKind, Later, Link};
use super::network::{CloseCode, End, Incoming, Network, Port, Stream, Wire};
use super::{Address, FrameReader, FrameWriter, Identity, PeerId, RateLimit, RateLimits, TransportError, limits};

/// Lanes that wait for their session to be taken up.
const LANES_WAITING_MAX: usize = 16;

/// An address that links start from and arrive at.
#[derive(Clone)]
pub struct Endpoint {
    port: Arc<dyn Port>,
    me: PeerId,
    /// As whom this node can be reached too, for a time.
    former: Option<PeerId>,
    rate_limits: Arc<RateLimits>,
}

impl Endpoint {
    /// Binds an address of a network, where others may connect if it is to `listen`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`TransportError::Io`] if the address cannot be bound, [`TransportError::Tls`].
    pub fn bind(
        network: &dyn Network,
        at: SocketAddr,
        identity: &Identity,
        listen: bool,
    ) -> Result<Endpoint, TransportError> {
        let port = network.bind(at, identity, listen)?;
        let former = identity.former().map(|former| former.identity.peer());
        Ok(Endpoint { port, me: identity.peer(), former, rate_limits: Arc::default() })
    }

    /// Holds the sessions of connections that begin from now on to these rates.
    #[must_use]
    pub fn with_rate_limits(self, rate_limits: Arc<RateLimits>) -> Endpoint {
        Endpoint { rate_limits, ..self }
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// [`TransportError::Io`].
    pub fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        self.port.local_addr()
    }

    /// Connects to a peer; nobody but the pinned peer is accepted.
    ///
    /// # Errors
    /// [`TransportError::Unreachable`], [`TransportError::Oneself`], [`TransportError::Impostor`],
    /// [`TransportError::Version`], [`TransportError::Tls`].
    pub async fn connect(&self, address: &Address) -> Result<Connection, TransportError> {
        if address.peer == self.me || Some(address.peer) == self.former {
            return Err(TransportError::Oneself { address: address.to_string() });
        }
        let wire = self.port.connect(address).await?;
        Ok(Connection::new(wire, self.me, &self.rate_limits))
    }

    /// The next connection that comes in, before its handshake; none once the endpoint is closed.
    pub async fn accept(&self) -> Option<Arriving> {
        let incoming = self.port.accept().await?;
        Some(Arriving { incoming, me: self.me, rate_limits: self.rate_limits.clone() })
    }

    /// Closes all connections and waits until they are gone.
    pub async fn shutdown(&self, code: CloseCode) {
        self.port.shutdown(code).await;
    }

    /// Closes all connections and waits until their last words have left, not until they were heard: a peer that missed
    /// them ends by its own timeouts.
    pub async fn leave(&self, code: CloseCode) {
        self.port.leave(code).await;
    }
}

/// A connection that came in and has its handshake before it. Many may be under way at once: one that dawdles holds up
/// no other.
pub struct Arriving {
    incoming: Incoming,
    me: PeerId,
    rate_limits: Arc<RateLimits>,
}

impl Arriving {
    /// The connection, after its handshake; none if that fails or dawdles.
    pub async fn connection(self) -> Option<Connection> {
        Some(Connection::new(self.incoming.await?, self.me, &self.rate_limits))
    }
}

/// A connection to a known peer.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Held>,
    me: PeerId,
    rate_limit: RateLimit,
    next_session: Arc<Mutex<u16>>,
    accepted: Arc<tokio::sync::Mutex<mpsc::Receiver<Link>>>,
}

impl Connection {
    fn new(wire: Arc<dyn Wire>, me: PeerId, rate_limits: &RateLimits) -> Connection {
        let rate_limit = rate_limits.of(wire.peer());
        let me = wire.reached_as().unwrap_or(me);
        let (sender, accepted) = mpsc::channel(limits::LINKS_WAITING_MAX);
        let inner = Arc::new(Held(wire.clone()));
        // Lanes keep the connection while they are used; sorting them does not.
        tokio::spawn(sort_lanes(wire, Arc::downgrade(&inner), me, sender, rate_limit.clone()));
        let accepted = Arc::new(tokio::sync::Mutex::new(accepted));
        Connection { inner, me, rate_limit, next_session: Arc::default(), accepted }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> PeerId {
        self.inner.0.peer()
    }

    /// Who this side is to the peer.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// Where the other end is.
    pub fn remote_addr(&self) -> SocketAddr {
        self.inner.0.remote_addr()
    }

    /// Opens a session.
    ///
    /// # Errors
    /// What closed the connection.
    pub async fn open(&self) -> Result<Link, TransportError> {
        let session = {
            let mut next = self.next_session.lock().unwrap_or_else(PoisonError::into_inner);
            *next = next.wrapping_add(1);
            *next
        };
        let control = open_lane(&*self.inner.0, LaneKind::Control, session).await.map_err(|e| self.explain(e))?;
        let inner = self.inner.clone();
        let records: Later = Box::pin(async move { open_lane(&*inner.0, LaneKind::Records, session).await });
        let closed = explainer(self.inner.clone(), self.me);
        Ok(Link { control, records, closed, rate_limit: self.rate_limit.clone() })
    }

    /// The next session that the peer opens; none once the connection is closed.
    pub async fn accept(&self) -> Option<Link> {
        self.accepted.lock().await.recv().await
    }

    /// The links that the peer opens, for whoever is not to keep the connection open by waiting for them.
    pub fn links(&self) -> Links {
        Links(self.accepted.clone())
    }

    /// Closes the connection.
    pub fn close(&self, code: CloseCode) {
        self.inner.0.close(code);
    }

    /// Waits until the connection is closed, by whomever.
    pub async fn closed(&self) {
        self.inner.0.closed().await;
    }

    /// Whether it broke: neither side has closed it.
    pub fn is_broken(&self) -> bool {
        matches!(self.inner.0.end(), Some(End::Broken(_)))
    }

    fn explain(&self, error: TransportError) -> TransportError {
        explainer(self.inner.clone(), self.me)().unwrap_or(error)
    }
}

/// The links that a peer opens on a connection, as long as that lasts.
pub struct Links(Arc<tokio::sync::Mutex<mpsc::Receiver<Link>>>);

impl Links {
    /// The next; none once the connection is closed.
    pub async fn next(&mut self) -> Option<Link> {
        self.0.lock().await.recv().await
    }
}

/// A connection that is closed once nobody holds it any more, neither itself nor a link of it.
struct Held(Arc<dyn Wire>);

impl Drop for Held {
    fn drop(&mut self) {
        // Nothing happens to one that is closed already.
        self.0.close(CloseCode::Done);
    }
}

/// Why the connection was closed, if it was for a reason that has a name.
fn explainer(inner: Arc<Held>, me: PeerId) -> Arc<dyn Fn() -> Option<TransportError> + Send + Sync> {
    Arc::new(move || match inner.0.end()? {
        End::There(code) if code == CloseCode::NotAdmitted as u64 => Some(TransportError::NotAdmitted { me }),
        End::There(code) if code == CloseCode::CutOff as u64 => Some(TransportError::CutOff { me }),
        End::There(code) if code == CloseCode::Busy as u64 => Some(TransportError::Busy),
        End::There(code) if code == CloseCode::Shutdown as u64 => {
            Some(TransportError::Lost("the peer shut down".into()))
        }
        End::There(code) if code == CloseCode::Protocol as u64 => {
            Some(TransportError::Lost("the peer says that this side broke the protocol".into()))
        }
        End::There(_) => Some(TransportError::Closed),
        End::Here => None,
        End::Broken(why) => Some(TransportError::Lost(why)),
    })
}

fn lane(stream: Stream, kind: LaneKind) -> Lane {
    let Stream { reader, writer } = stream;
    Lane { reader: FrameReader::new(reader, kind.limit()), writer: FrameWriter::new(writer, kind.limit()) }
}

async fn open_lane(wire: &dyn Wire, kind: LaneKind, session: u16) -> Result<Lane, TransportError> {
    let mut stream = wire.open().await?;
    let [high, low] = session.to_be_bytes();
    let written = stream.writer.write_all(&[kind as u8, high, low]).await;
    written.map_err(|error| TransportError::Lost(error.to_string()))?;
    Ok(lane(stream, kind))
}

/// Pairs the lanes that a peer opens with their sessions.
async fn sort_lanes(
    wire: Arc<dyn Wire>,
    held: Weak<Held>,
    me: PeerId,
    sessions: mpsc::Sender<Link>,
    rate_limit: RateLimit,
) {
    let mut waiting: HashMap<u16, oneshot::Sender<Lane>> = HashMap::new();
    while let Some(mut stream) = wire.accept().await {
        let mut preamble = [0; 3];
        let read = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, stream.reader.read_exact(&mut preamble)).await;
        if !matches!(read, Ok(Ok(_))) {
            continue;
        }
        let session = u16::from_be_bytes([preamble[1], preamble[2]]);
        waiting.retain(|_, waiter| !waiter.is_closed());
        match preamble[0] {
            kind if kind == LaneKind::Control as u8 && waiting.len() < LANES_WAITING_MAX => {
                let (sender, receiver) = oneshot::channel();
                waiting.insert(session, sender);
                let records: Later = Box::pin(async move {
                    receiver.await.map_err(|_| TransportError::Lost("the peer opened no lane of records".into()))
                });
                let Some(held) = held.upgrade() else { return };
                let closed = explainer(held, me);
                let link =
                    Link { control: lane(stream, LaneKind::Control), records, closed, rate_limit: rate_limit.clone() };
                if let Err(refused) = sessions.try_send(link) {
                    // Before its lanes are let go, so that the peer hears why.
                    wire.close(CloseCode::Busy);
                    drop(refused);
                }
            }
            kind if kind == LaneKind::Records as u8 => {
                if let Some(waiter) = waiting.remove(&session) {
                    let _ = waiter.send(lane(stream, LaneKind::Records));
                }
            }
            _ => wire.close(CloseCode::Protocol),
        }
    }
}
