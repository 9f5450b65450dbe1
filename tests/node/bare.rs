//! QUIC without our transport: a client and a server that say whatever a test wants.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, RecvStream, SendStream};
use reknit::transport::PeerId;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme};

/// What this release speaks.
pub(crate) const ALPN: &[u8] = b"reknit/1";
/// What stands before an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A key of its own on a socket of its own.
pub(crate) struct Bare {
    pub(crate) peer: PeerId,
    endpoint: quinn::Endpoint,
    key: Arc<CertifiedKey>,
}

impl Bare {
    /// One that connects.
    pub(crate) fn client() -> Bare {
        let (peer, key) = key();
        Bare { peer, endpoint: quinn::Endpoint::client(loopback()).expect("bound"), key }
    }

    /// One that takes in whoever speaks `alpn`.
    pub(crate) fn server(alpn: &[u8]) -> Bare {
        let (peer, key) = key();
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key.clone())));
        config.alpn_protocols = vec![alpn.to_vec()];
        let quic = QuicServerConfig::try_from(config).expect("suites for QUIC");
        let config = quinn::ServerConfig::with_crypto(Arc::new(quic));
        Bare { peer, endpoint: quinn::Endpoint::server(config, loopback()).expect("bound"), key }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("bound")
    }

    /// Answers handshakes for as long as it is polled.
    pub(crate) async fn shake_hands(&self) {
        while let Some(incoming) = self.endpoint.accept().await {
            if let Ok(connecting) = incoming.accept() {
                let _ = connecting.await;
            }
        }
    }

    pub(crate) async fn connect(&self, to: SocketAddr, alpn: &[u8]) -> Result<quinn::Connection, ConnectionError> {
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = vec![alpn.to_vec()];
        let quic = QuicClientConfig::try_from(config).expect("suites for QUIC");
        let config = quinn::ClientConfig::new(Arc::new(quic));
        self.endpoint.connect_with(config, to, "reknit").expect("an address").await
    }
}

/// Opens a lane by its three bytes; nothing else is said.
pub(crate) async fn lane(
    connection: &quinn::Connection,
    kind: u8,
    session: u16,
) -> Result<(SendStream, RecvStream), ConnectionError> {
    let (mut send, recv) = connection.open_bi().await?;
    let [high, low] = session.to_be_bytes();
    // A connection that ends here tells so wherever it is used next.
    let _ = send.write_all(&[kind, high, low]).await;
    Ok((send, recv))
}

/// A frame as it travels: its length as a varint, then its bytes.
pub(crate) fn framed(frame: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    reknit::core::canonical::put_varint(&mut bytes, frame.len() as u64);
    bytes.extend_from_slice(frame);
    bytes
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn key() -> (PeerId, Arc<CertifiedKey>) {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("drawn");
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a pair");
    let peer = PeerId(pair.public_key().as_ref().try_into().expect("32 bytes"));
    let der = PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec());
    let signs = rustls::crypto::ring::sign::any_eddsa_type(&der).expect("a key");
    let spki = [&SPKI_PREFIX[..], &peer.0].concat();
    (peer, Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], signs)))
}

/// Accepts whatever key the server shows: who it is is no matter of these tests.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
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
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
