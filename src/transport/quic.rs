//! QUIC: TLS 1.3 with raw public keys both ways, no plaintext, no 0-RTT.
//!
//! A client accepts exactly the key that it was told (RFC 7250); a server learns the client's key
//! and closes on whoever is not admitted, saying nothing else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, TransportErrorCode, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::link::{Lane, LaneKind, Later, Link};
use super::{Address, FrameReader, FrameWriter, Identity, PeerId, TransportError, limits};

const ALPN: &[u8] = b"reknit/1";
/// What stands before an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Lanes that wait for their session to be taken up.
const LANES_WAITING_MAX: usize = 16;
/// How often it is looked whether a close has left.
const LEAVE_STEP: Duration = Duration::from_millis(1);

/// Why a connection is closed, as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// All is said.
    Done = 0,
    /// The peer is not admitted; it learns no more than that.
    NotAdmitted = 1,
    /// Too many sessions.
    Busy = 2,
    /// The peer broke the protocol.
    Protocol = 3,
    /// The node shuts down.
    Shutdown = 4,
    /// Rights that the peer was using were taken away.
    CutOff = 5,
}

/// How an endpoint is bound.
pub struct EndpointOptions {
    /// Whether connections are taken in.
    pub listen: bool,
}

/// A UDP socket that links start from and arrive at.
#[derive(Clone)]
pub struct Endpoint {
    inner: quinn::Endpoint,
    me: PeerId,
    key: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
    /// Handshakes that may be under way with addresses that have proven nothing.
    unproven: Arc<Semaphore>,
    /// Connections that were made here, until the next is made after they are closed.
    outgoing: Arc<Mutex<Vec<Arc<Ending>>>>,
}

impl Endpoint {
    /// Binds a socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`TransportError::Io`] if the address cannot be bound, [`TransportError::Tls`].
    pub fn bind(at: SocketAddr, identity: &Identity, options: &EndpointOptions) -> Result<Endpoint, TransportError> {
        let io = |cause| TransportError::Io { what: format!("UDP address {at} cannot be bound"), cause };
        Endpoint::made(identity, options, |server| match server {
            Some(config) => quinn::Endpoint::server(config, at).map_err(io),
            None => quinn::Endpoint::client(at).map_err(io),
        })
    }

    /// An endpoint on a network in memory.
    #[cfg(test)]
    pub(crate) fn over(
        socket: Arc<dyn quinn::AsyncUdpSocket>,
        identity: &Identity,
        options: &EndpointOptions,
    ) -> Endpoint {
        let made = Endpoint::made(identity, options, |server| {
            let config = quinn::EndpointConfig::default();
            let made = quinn::Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(quinn::TokioRuntime));
            Ok(made.expect("an endpoint"))
        });
        made.expect("an endpoint")
    }

    fn made(
        identity: &Identity,
        options: &EndpointOptions,
        make: impl FnOnce(Option<quinn::ServerConfig>) -> Result<quinn::Endpoint, TransportError>,
    ) -> Result<Endpoint, TransportError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = certified(identity)?;
        let server = if options.listen { Some(server_config(&provider, &key)?) } else { None };
        let (inner, me) = (make(server)?, identity.peer());
        let unproven = Arc::new(Semaphore::new(limits::UNPROVEN_HANDSHAKES_MAX));
        Ok(Endpoint { inner, me, key, provider, unproven, outgoing: Arc::default() })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        self.inner.local_addr().map_err(|cause| TransportError::Io { what: "the socket has no address".into(), cause })
    }

    /// Connects to a peer; nobody but the pinned peer is accepted.
    ///
    /// # Errors
    /// [`TransportError::Unreachable`], [`TransportError::Oneself`], [`TransportError::Impostor`],
    /// [`TransportError::Version`], [`TransportError::Tls`].
    pub async fn connect(&self, address: &Address) -> Result<Connection, TransportError> {
        if address.peer == self.me {
            return Err(TransportError::Oneself { address: address.to_string() });
        }
        let unreachable = |cause: String| TransportError::Unreachable { address: address.to_string(), cause };
        let local = self.local_addr()?;
        let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
        let mut found = found.map_err(|error| unreachable(error.to_string()))?;
        let to = found.find(|to| to.is_ipv4() == local.is_ipv4());
        let to = to.ok_or_else(|| unreachable("the host has no address of this kind".into()))?;
        let config = client_config(&self.provider, &self.key, address.peer)?;
        let connecting =
            self.inner.connect_with(config, to, "reknit").map_err(|error| unreachable(error.to_string()))?;
        let connected = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, connecting).await;
        let connected = connected.map_err(|_| unreachable("nobody answered within 5 s".into()))?;
        let connection = connected.map_err(|error| match &error {
            ConnectionError::TransportError(inner) if inner.reason.contains(IMPOSTOR) => {
                TransportError::Impostor { address: address.to_string(), expected: address.peer }
            }
            ConnectionError::TransportError(inner) if inner.code == TransportErrorCode::crypto(NO_COMMON_PROTOCOL) => {
                TransportError::Version { address: address.to_string() }
            }
            ConnectionError::ConnectionClosed(inner)
                if inner.error_code == TransportErrorCode::crypto(NO_COMMON_PROTOCOL) =>
            {
                TransportError::Version { address: address.to_string() }
            }
            _ => unreachable(error.to_string()),
        })?;
        let mut outgoing = self.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        outgoing.retain(|ending| ending.connection.close_reason().is_none());
        let ending = Arc::new(Ending { connection, sent_before: OnceLock::new() });
        outgoing.push(ending.clone());
        Ok(Connection::new(ending, address.peer, self.me))
    }

    /// The next connection that comes in, before its handshake; none once the endpoint is closed.
    ///
    /// While few handshakes are under way with addresses that have proven nothing, a first packet is answered at once;
    /// above that with a retry, a round trip in which nothing is kept, so that spoofed senders crowd nobody out.
    pub async fn accept(&self) -> Option<Arriving> {
        loop {
            let incoming = self.inner.accept().await?;
            let unproven = match incoming.remote_address_validated() {
                true => None,
                false => match self.unproven.clone().try_acquire_owned() {
                    Ok(place) => Some(place),
                    Err(_) => {
                        if let Err(error) = incoming.retry() {
                            error.into_incoming().ignore();
                        }
                        continue;
                    }
                },
            };
            if let Ok(connecting) = incoming.accept() {
                return Some(Arriving { connecting, me: self.me, _unproven: unproven });
            }
        }
    }

    /// Closes all connections and waits until they are gone.
    pub async fn shutdown(&self, code: CloseCode) {
        self.inner.close(VarInt::from_u32(code as u32), b"");
        self.inner.wait_idle().await;
    }

    /// Closes all connections and waits until their last words have left, not until they were heard: a peer that missed
    /// them ends by its own timeouts.
    pub async fn leave(&self, code: CloseCode) {
        let outgoing = self.outgoing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ended = async {
            for ending in &outgoing {
                ending.connection.closed().await;
            }
        };
        // Sessions that are over may have a word under way.
        let _ = tokio::time::timeout(limits::LEAVE_MAX, ended).await;
        outgoing.iter().for_each(|ending| ending.close(code));
        self.inner.close(VarInt::from_u32(code as u32), b"");
        let said = async {
            while !outgoing.iter().all(|ending| ending.said()) {
                tokio::time::sleep(LEAVE_STEP).await;
            }
        };
        let _ = tokio::time::timeout(limits::LEAVE_MAX, said).await;
    }
}

/// A connection that came in and has its handshake before it. Many may be under way at once: one that dawdles holds up
/// no other.
pub struct Arriving {
    connecting: quinn::Connecting,
    me: PeerId,
    _unproven: Option<OwnedSemaphorePermit>,
}

impl Arriving {
    /// The connection, after its handshake; none if that fails or dawdles.
    pub async fn connection(self) -> Option<Connection> {
        let connection = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, self.connecting).await.ok()?.ok()?;
        let identity = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let Some(peer) = identity.and_then(|chain| peer_of(chain.first()?)) else {
            connection.close(VarInt::from_u32(CloseCode::Protocol as u32), b"");
            return None;
        };
        let ending = Arc::new(Ending { connection, sent_before: OnceLock::new() });
        Some(Connection::new(ending, peer, self.me))
    }
}

/// A connection to a known peer.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Held>,
    peer: PeerId,
    me: PeerId,
    next_session: Arc<Mutex<u16>>,
    accepted: Arc<tokio::sync::Mutex<mpsc::Receiver<Link>>>,
}

impl Connection {
    fn new(ending: Arc<Ending>, peer: PeerId, me: PeerId) -> Connection {
        let (sender, accepted) = mpsc::channel(limits::SESSIONS_PER_PEER_MAX);
        let connection = ending.connection.clone();
        let inner = Arc::new(Held(ending));
        // Lanes keep the connection while they are used; sorting them does not.
        tokio::spawn(sort_lanes(connection, Arc::downgrade(&inner), me, sender));
        let accepted = Arc::new(tokio::sync::Mutex::new(accepted));
        Connection { inner, peer, me, next_session: Arc::default(), accepted }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Where the other end is.
    pub fn remote_addr(&self) -> SocketAddr {
        self.inner.0.connection.remote_address()
    }

    /// Bytes of UDP payload sent and received, and the round-trip time.
    pub fn udp(&self) -> (u64, u64, std::time::Duration) {
        let stats = self.inner.0.connection.stats();
        (stats.udp_tx.bytes, stats.udp_rx.bytes, self.inner.0.connection.rtt())
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
        let control =
            open_lane(&self.inner.0.connection, LaneKind::Control, session).await.map_err(|e| self.explain(e))?;
        let inner = self.inner.clone();
        let records: Later = Box::pin(async move { open_lane(&inner.0.connection, LaneKind::Records, session).await });
        Ok(Link { control, records, closed: explainer(self.inner.clone(), self.me) })
    }

    /// The next session that the peer opens; none once the connection is closed.
    pub async fn accept(&self) -> Option<Link> {
        self.accepted.lock().await.recv().await
    }

    /// Closes the connection.
    pub fn close(&self, code: CloseCode) {
        self.inner.0.close(code);
    }

    /// Waits until the connection is closed, by whomever.
    pub async fn closed(&self) {
        self.inner.0.connection.closed().await;
    }

    fn explain(&self, error: TransportError) -> TransportError {
        explainer(self.inner.clone(), self.me)().unwrap_or(error)
    }
}

/// A connection that is closed once nobody holds it any more, neither itself nor a link of it.
struct Held(Arc<Ending>);

impl Drop for Held {
    fn drop(&mut self) {
        // Nothing happens to one that is closed already.
        self.0.close(CloseCode::Done);
    }
}

/// How far a connection is with its end.
struct Ending {
    connection: quinn::Connection,
    /// Datagrams sent before this side closed it.
    sent_before: OnceLock<u64>,
}

impl Ending {
    fn close(&self, code: CloseCode) {
        self.sent_before.get_or_init(|| self.connection.stats().udp_tx.datagrams);
        self.connection.close(VarInt::from_u32(code as u32), b"");
    }

    /// Whether the peer ended it, or the close has left.
    fn said(&self) -> bool {
        let own = self.connection.close_reason() == Some(ConnectionError::LocallyClosed);
        let sent = self.connection.stats().udp_tx.datagrams;
        !own || self.sent_before.get().is_none_or(|before| sent > *before)
    }
}

/// Why the connection was closed, if it was for a reason that has a name.
fn explainer(inner: Arc<Held>, me: PeerId) -> Arc<dyn Fn() -> Option<TransportError> + Send + Sync> {
    Arc::new(move || match inner.0.connection.close_reason()? {
        ConnectionError::ApplicationClosed(close) => match close.error_code.into_inner() {
            code if code == CloseCode::NotAdmitted as u64 => Some(TransportError::NotAdmitted { me }),
            code if code == CloseCode::CutOff as u64 => Some(TransportError::CutOff { me }),
            code if code == CloseCode::Busy as u64 => Some(TransportError::Busy),
            code if code == CloseCode::Shutdown as u64 => Some(TransportError::Lost("the peer shut down".into())),
            code if code == CloseCode::Protocol as u64 => {
                Some(TransportError::Lost("the peer says that this side broke the protocol".into()))
            }
            _ => Some(TransportError::Closed),
        },
        ConnectionError::TimedOut => Some(TransportError::Lost("the peer fell silent".into())),
        ConnectionError::LocallyClosed => None,
        other => Some(TransportError::Lost(other.to_string())),
    })
}

async fn open_lane(connection: &quinn::Connection, kind: LaneKind, session: u16) -> Result<Lane, TransportError> {
    let lost = |error: String| TransportError::Lost(error);
    let (mut send, recv) = connection.open_bi().await.map_err(|error| lost(error.to_string()))?;
    let [high, low] = session.to_be_bytes();
    send.write_all(&[kind as u8, high, low]).await.map_err(|error| lost(error.to_string()))?;
    Ok(Lane { reader: FrameReader::new(recv, kind.limit()), writer: FrameWriter::new(send, kind.limit()) })
}

/// Pairs the lanes that a peer opens with their sessions.
async fn sort_lanes(connection: quinn::Connection, held: Weak<Held>, me: PeerId, sessions: mpsc::Sender<Link>) {
    let mut waiting: HashMap<u16, tokio::sync::oneshot::Sender<Lane>> = HashMap::new();
    while let Ok((send, mut recv)) = connection.accept_bi().await {
        let mut preamble = [0; 3];
        let read = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, recv.read_exact(&mut preamble)).await;
        if !matches!(read, Ok(Ok(()))) {
            continue;
        }
        let session = u16::from_be_bytes([preamble[1], preamble[2]]);
        let lane = |kind: LaneKind| Lane {
            reader: FrameReader::new(recv, kind.limit()),
            writer: FrameWriter::new(send, kind.limit()),
        };
        waiting.retain(|_, waiter| !waiter.is_closed());
        match preamble[0] {
            kind if kind == LaneKind::Control as u8 && waiting.len() < LANES_WAITING_MAX => {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                waiting.insert(session, sender);
                let records: Later = Box::pin(async move {
                    receiver.await.map_err(|_| TransportError::Lost("the peer opened no lane of records".into()))
                });
                let Some(held) = held.upgrade() else { return };
                let closed = explainer(held, me);
                let link = Link { control: lane(LaneKind::Control), records, closed };
                if let Err(refused) = sessions.try_send(link) {
                    // Before its lanes are let go, so that the peer hears why.
                    connection.close(VarInt::from_u32(CloseCode::Busy as u32), b"");
                    drop(refused);
                }
            }
            kind if kind == LaneKind::Records as u8 => {
                if let Some(waiter) = waiting.remove(&session) {
                    let _ = waiter.send(lane(LaneKind::Records));
                }
            }
            _ => connection.close(VarInt::from_u32(CloseCode::Protocol as u32), b""),
        }
    }
}

/// What a failed check of the pinned key says; the handshake's error carries it.
const IMPOSTOR: &str = "another key than the pinned one";
/// The TLS alert of a peer that speaks none of our protocols.
const NO_COMMON_PROTOCOL: u8 = 120;

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, TransportError> {
    let der = PrivatePkcs8KeyDer::from(identity.pkcs8().to_vec());
    let key =
        rustls::crypto::ring::sign::any_eddsa_type(&der).map_err(|error| TransportError::Tls(error.to_string()))?;
    let spki = [&SPKI_PREFIX[..], &identity.peer().0].concat();
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key)))
}

fn peer_of(certificate: &CertificateDer<'_>) -> Option<PeerId> {
    let key = certificate.as_ref().strip_prefix(&SPKI_PREFIX[..])?;
    key.try_into().ok().map(PeerId)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    key: &Arc<CertifiedKey>,
    pinned: PeerId,
) -> Result<quinn::ClientConfig, TransportError> {
    let tls = |error: String| TransportError::Tls(error);
    let verifier = Arc::new(Pinned { pinned, algorithms: provider.signature_verification_algorithms });
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    let quic = QuicClientConfig::try_from(config).map_err(|error| tls(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(quic));
    config.transport_config(limits::transport());
    Ok(config)
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    key: &Arc<CertifiedKey>,
) -> Result<quinn::ServerConfig, TransportError> {
    let tls = |error: String| TransportError::Tls(error);
    let verifier = Arc::new(Anyone { algorithms: provider.signature_verification_algorithms });
    let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    let quic = QuicServerConfig::try_from(config).map_err(|error| tls(error.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(quic));
    limits::server(&mut config);
    Ok(config)
}

/// Accepts the pinned key and no other (M1).
#[derive(Debug)]
struct Pinned {
    pinned: PeerId,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if peer_of(end_entity) == Some(self.pinned) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General(IMPOSTOR.into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(cert.as_ref()),
            dss,
            &self.algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Lets any key prove that it is held; who is admitted is decided once the key is known.
#[derive(Debug)]
struct Anyone {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match peer_of(end_entity) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(rustls::Error::General("the client shows no Ed25519 key".into())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(cert.as_ref()),
            dss,
            &self.algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
