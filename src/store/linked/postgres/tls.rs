//! Encryption of connections to PostgreSQL, as `sslmode` and `sslrootcert` of libpq mean it.
//!
//! Who asks for which of them, and where, is for whoever typed the address; connecting is the neighbour's.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// The `sslrootcert` that means what the operating system trusts.
const SYSTEM: &str = "system";

/// What a connection to a server must be; each asks for more than those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Not encrypted.
    Disable,
    /// Encrypted if the server does that.
    Prefer,
    /// Encrypted, with whomever.
    Require,
    /// Encrypted, with a server whose certificate a root has signed.
    VerifyCa,
    /// Encrypted, with the server of that name.
    VerifyFull,
}

const MODES: [(&str, SslMode); 5] = [
    ("disable", SslMode::Disable),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

impl SslMode {
    /// As it is written.
    pub(super) fn name(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for SslMode {
    type Err = String;

    fn from_str(text: &str) -> Result<SslMode, String> {
        let found = MODES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode);
        found.ok_or_else(|| format!("`{text}` is no sslmode; {} are", MODES.map(|(name, _)| name).join(", ")))
    }
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Encryption {
    /// `sslmode`.
    pub(super) mode: Option<SslMode>,
    /// `sslrootcert`: a file of certificates, or `system`.
    pub(super) roots: Option<PathBuf>,
}

impl Encryption {
    /// What is asked for in the end.
    pub(super) fn mode(&self) -> Result<SslMode, String> {
        match (self.mode, self.of_system()) {
            (None, false) => Ok(SslMode::Prefer),
            (None, true) => Ok(SslMode::VerifyFull),
            (Some(mode), true) if mode != SslMode::VerifyFull => {
                Err(format!("sslrootcert=system asks for sslmode=verify-full, not {}", mode.name()))
            }
            (Some(mode), _) => Ok(mode),
        }
    }

    /// The roots in words.
    pub(super) fn roots_told(&self) -> String {
        match &self.roots {
            Some(file) if !self.of_system() => file.display().to_string(),
            _ => "the operating system's store".into(),
        }
    }

    /// How TLS is spoken: a server is believed as far as the mode and the roots say.
    pub(super) fn client(&self, mode: SslMode) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        // Roots that are named are asked whatever the mode, as libpq does.
        let believed = mode >= SslMode::VerifyCa || self.roots.is_some();
        if !believed {
            let anyone = Arc::new(Anyone(provider));
            return Ok(builder.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth());
        }
        let roots = Arc::new(self.roots()?);
        let webpki = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let webpki = webpki.map_err(|error| error.to_string())?;
        let verifier: Arc<dyn ServerCertVerifier> = match mode {
            SslMode::VerifyFull => webpki,
            _ => Arc::new(AnyName(webpki)),
        };
        Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    }

    fn of_system(&self) -> bool {
        self.roots.as_deref() == Some(Path::new(SYSTEM))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut store = RootCertStore::empty();
        match &self.roots {
            Some(file) if !self.of_system() => {
                let wrong = |error| format!("the roots in {} cannot be read: {error}", file.display());
                for certificate in CertificateDer::pem_file_iter(file).map_err(|e| wrong(e.to_string()))? {
                    let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
                    store.add(certificate).map_err(|e| wrong(e.to_string()))?;
                }
            }
            _ => {
                // What of the system's store is not understood vouches for nobody.
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if store.is_empty() {
            return Err(format!("there is no certificate in {}; sslrootcert=FILE names one", self.roots_told()));
        }
        Ok(store)
    }
}

/// Believes whoever holds a certificate that a root has signed.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is looked at last, when everything else was found to be right.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Believes anyone: against those who only listen, as `sslmode=require` without roots is.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
