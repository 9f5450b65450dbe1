//! QUIC: TLS 1.3 with raw public keys both ways, no plaintext, no 0-RTT.
//!
//! A client accepts exactly the key that it was told (RFC 7250); a server learns the client's key
//! and closes on whoever is not admitted, saying nothing else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, TransportErrorCode, VarInt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio::sync::Semaphore;

use super::network::{CloseCode, End, Incoming, Network, Pending, Port, Stream, Wire};
use super::{Address, Former, Identity, PeerId, TransportError, limits, reset};

const ALPN: &[u8] = b"reknit/1";
/// What stands before an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// How long a socket that is closed waits for what its peers may still say.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// How often it is looked whether a close has left.
const LEAVE_STEP: Duration = Duration::from_millis(1);

/// QUIC over UDP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quic;

impl Network for Quic {
    fn bind(&self, at: SocketAddr, identity: &Identity, listen: bool) -> Result<Arc<dyn Port>, TransportError> {
        let io = |cause| TransportError::Io { what: format!("UDP address {at} cannot be bound"), cause };
        let listening = |server| {
            let socket = std::net::UdpSocket::bind(at)?;
            let config = reset::config(identity, socket.local_addr()?.port())?;
            quinn::Endpoint::new(config, Some(server), socket, Arc::new(quinn::TokioRuntime))
        };
        let socket = Socket::made(identity, listen, |server| match server {
            Some(config) => listening(config).map_err(io),
            None => quinn::Endpoint::client(at).map_err(io),
        })?;
        Ok(Arc::new(socket))
    }
}

/// QUIC over a network of datagrams in memory.
#[cfg(test)]
pub(crate) struct QuicOver(pub(crate) Arc<dyn quinn::AsyncUdpSocket>);

#[cfg(test)]
impl Network for QuicOver {
    fn bind(&self, _: SocketAddr, identity: &Identity, listen: bool) -> Result<Arc<dyn Port>, TransportError> {
        let (config, runtime) = (quinn::EndpointConfig::default(), Arc::new(quinn::TokioRuntime));
        let socket = Socket::made(identity, listen, |server| {
            let made = quinn::Endpoint::new_with_abstract_socket(config, server, self.0.clone(), runtime);
            Ok(made.expect("an endpoint"))
        })?;
        Ok(Arc::new(socket))
    }
}

/// A UDP socket.
struct Socket {
    inner: quinn::Endpoint,
    keys: Arc<OwnKeys>,
    provider: Arc<CryptoProvider>,
    /// Handshakes that may be under way with addresses that have proven nothing.
    unproven: Arc<Semaphore>,
    /// Connections that were made here, until the next is made after they are closed.
    outgoing: Mutex<Vec<Arc<Ending>>>,
}

impl Socket {
    fn made(
        identity: &Identity,
        listen: bool,
        make: impl FnOnce(Option<quinn::ServerConfig>) -> Result<quinn::Endpoint, TransportError>,
    ) -> Result<Socket, TransportError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let keys = Arc::new(OwnKeys::of(identity)?);
        let server = if listen { Some(server_config(&provider, &keys)?) } else { None };
        let inner = make(server)?;
        let unproven = Arc::new(Semaphore::new(limits::UNPROVEN_HANDSHAKES_MAX));
        Ok(Socket { inner, keys, provider, unproven, outgoing: Mutex::default() })
    }

    async fn connect(&self, address: &Address) -> Result<Arc<dyn Wire>, TransportError> {
        let unreachable = |cause: String| TransportError::Unreachable { address: address.to_string(), cause };
        let local = self.local_addr()?;
        let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
        let mut found = found.map_err(|error| unreachable(error.to_string()))?;
        let to = found.find(|to| to.is_ipv4() == local.is_ipv4());
        let to = to.ok_or_else(|| unreachable("the host has no address of this kind".into()))?;
        let config = client_config(&self.provider, &self.keys.own, address.peer)?;
        let connecting = self.inner.connect_with(config, to, &name_of(address.peer));
        let connecting = connecting.map_err(|error| unreachable(error.to_string()))?;
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
        Ok(Arc::new(QuicWire { ending, peer: address.peer, reached_as: None }))
    }

    /// While few handshakes are under way with addresses that have proven nothing, a first packet is answered at once;
    /// above that with a retry, a round trip in which nothing is kept, so that spoofed senders crowd nobody out.
    async fn accept(&self) -> Option<Incoming> {
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
                let keys = self.keys.clone();
                return Some(Box::pin(async move {
                    let arrived = arrived(connecting, &keys).await;
                    drop(unproven);
                    arrived
                }));
            }
        }
    }

    async fn leave(&self, code: CloseCode) {
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

impl Port for Socket {
    fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        self.inner.local_addr().map_err(|cause| TransportError::Io { what: "the socket has no address".into(), cause })
    }

    fn connect<'a>(&'a self, address: &'a Address) -> Pending<'a, Result<Arc<dyn Wire>, TransportError>> {
        Box::pin(self.connect(address))
    }

    fn accept(&self) -> Pending<'_, Option<Incoming>> {
        Box::pin(self.accept())
    }

    fn shutdown(&self, code: CloseCode) -> Pending<'_, ()> {
        Box::pin(async move {
            self.inner.close(VarInt::from_u32(code as u32), b"");
            // What was closed drains for three times as long as the peer may take to answer: minutes, after one was suspended.
            let _ = tokio::time::timeout(DRAIN_MAX, self.inner.wait_idle()).await;
        })
    }

    fn leave(&self, code: CloseCode) -> Pending<'_, ()> {
        Box::pin(self.leave(code))
    }
}

/// The handshake with somebody who connects.
async fn arrived(connecting: quinn::Connecting, keys: &OwnKeys) -> Option<Arc<dyn Wire>> {
    let connection = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, connecting).await.ok()?.ok()?;
    let identity = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let Some(peer) = identity.and_then(|chain| peer_of(chain.first()?)) else {
        connection.close(VarInt::from_u32(CloseCode::Protocol as u32), b"");
        return None;
    };
    let said = connection.handshake_data().and_then(|any| any.downcast::<HandshakeData>().ok());
    let reached_as = keys.asked_for(said.and_then(|said| said.server_name).as_deref()).map(|(former, _)| *former);
    let ending = Arc::new(Ending { connection, sent_before: OnceLock::new() });
    Some(Arc::new(QuicWire { ending, peer, reached_as }))
}

/// A QUIC connection.
struct QuicWire {
    ending: Arc<Ending>,
    peer: PeerId,
    reached_as: Option<PeerId>,
}

impl Wire for QuicWire {
    fn peer(&self) -> PeerId {
        self.peer
    }

    fn reached_as(&self) -> Option<PeerId> {
        self.reached_as
    }

    fn remote_addr(&self) -> SocketAddr {
        self.ending.connection.remote_address()
    }

    fn open(&self) -> Pending<'_, Result<Stream, TransportError>> {
        Box::pin(async {
            let opened = self.ending.connection.open_bi().await;
            opened.map(stream).map_err(|error| TransportError::Lost(error.to_string()))
        })
    }

    fn accept(&self) -> Pending<'_, Option<Stream>> {
        Box::pin(async { self.ending.connection.accept_bi().await.ok().map(stream) })
    }

    fn close(&self, code: CloseCode) {
        self.ending.close(code);
    }

    fn closed(&self) -> Pending<'_, ()> {
        Box::pin(async { drop(self.ending.connection.closed().await) })
    }

    fn end(&self) -> Option<End> {
        Some(match self.ending.connection.close_reason()? {
            ConnectionError::ApplicationClosed(close) => End::There(close.error_code.into_inner()),
            ConnectionError::TimedOut => End::Broken("the peer fell silent".into()),
            ConnectionError::LocallyClosed => End::Here,
            other => End::Broken(other.to_string()),
        })
    }
}

fn stream((writer, reader): (quinn::SendStream, quinn::RecvStream)) -> Stream {
    Stream { reader: Box::new(reader), writer: Box::new(writer) }
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

/// What a failed check of the pinned key says; the handshake's error carries it.
const IMPOSTOR: &str = "another key than the pinned one";
/// The TLS alert of a peer that speaks none of our protocols.
const NO_COMMON_PROTOCOL: u8 = 120;

/// The name by which a client asks for a key; a release before asks for `reknit`, whichever key it knows.
fn name_of(peer: PeerId) -> String {
    let [first, second] = peer.hint();
    format!("{first:02x}{second:02x}.reknit")
}

/// The keys that a server shows: its own, and the one before while that is in force.
#[derive(Debug)]
struct OwnKeys {
    own: Arc<CertifiedKey>,
    own_name: String,
    former: Option<(PeerId, Arc<CertifiedKey>, Former)>,
}

impl OwnKeys {
    fn of(identity: &Identity) -> Result<OwnKeys, TransportError> {
        let with_key = |former: &Former| {
            let key = certified(&former.identity)?;
            Ok::<_, TransportError>((former.identity.peer(), key, former.clone()))
        };
        let former = identity.former().map(with_key).transpose()?;
        Ok(OwnKeys { own: certified(identity)?, own_name: name_of(identity.peer()), former })
    }

    /// The former key, for a client that does not ask for the newer: one that says nothing knows the former, if any.
    fn asked_for(&self, name: Option<&str>) -> Option<(&PeerId, &Arc<CertifiedKey>)> {
        let (peer, key, former) = self.former.as_ref()?;
        (name != Some(self.own_name.as_str()) && former.is_in_force()).then_some((peer, key))
    }
}

impl ResolvesServerCert for OwnKeys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.asked_for(hello.server_name()).map_or(&self.own, |(_, former)| former).clone())
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

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

fn server_config(provider: &Arc<CryptoProvider>, keys: &Arc<OwnKeys>) -> Result<quinn::ServerConfig, TransportError> {
    let tls = |error: String| TransportError::Tls(error);
    let verifier = Arc::new(Anyone { algorithms: provider.signature_verification_algorithms });
    let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| tls(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(keys.clone());
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
