//! Identities: an Ed25519 key pair for each home, and the public key by which a peer is known.
//!
//! What a peer may do is decided by the node, not here.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::clock::now_ms;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Base-32 digits of a key: 256 bits and four of padding.
const KEY_DIGITS: usize = 52;
const CHECK_DIGITS: usize = 4;
const GROUP: usize = 7;

/// A peer: its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 32]);

/// Why a text is not a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerIdError {
    /// It has the wrong length.
    #[error("a peer has 56 letters and digits in groups of 7, this has {0}")]
    Length(usize),
    /// It has a character that no peer has.
    #[error("`{0}` does not occur in a peer")]
    Digit(char),
    /// It was mistyped.
    #[error("the checksum of the peer is wrong: a character was mistyped")]
    Checksum,
}

impl PeerId {
    /// The first group, for logs and prompts; not enough to tell peers apart for sure.
    pub fn short(&self) -> String {
        self.to_string()[..GROUP].to_string()
    }

    /// Whether this peer signed `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }

    /// What a client says beforehand of the key that it asks for, by which a server that has two tells which: sixteen bits.
    pub(super) fn hint(&self) -> [u8; 2] {
        let hash = blake3::derive_key("reknit 2026 v1 hint", &self.0);
        [hash[0], hash[1]]
    }

    /// Whether a server that has the keys of both can tell which of them is asked for.
    pub fn is_told_from(&self, other: &PeerId) -> bool {
        self.hint() != other.hint()
    }

    fn check(&self) -> [u8; 3] {
        let hash = blake3::hash(&self.0);
        std::array::from_fn(|i| hash.as_bytes()[i])
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = [encode(&self.0, KEY_DIGITS), encode(&self.check(), CHECK_DIGITS)].concat();
        let groups: Vec<&str> = digits.as_bytes().chunks(GROUP).filter_map(|g| std::str::from_utf8(g).ok()).collect();
        f.write_str(&groups.join("-"))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        let digits: Vec<char> = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        if digits.len() != KEY_DIGITS + CHECK_DIGITS {
            return Err(PeerIdError::Length(digits.len()));
        }
        let value = |c: &char| ALPHABET.iter().position(|a| char::from(*a) == *c).ok_or(PeerIdError::Digit(*c));
        let values = digits.iter().map(value).collect::<Result<Vec<usize>, _>>()?;
        let mut key = [0; 32];
        decode(&values[..KEY_DIGITS], &mut key);
        let peer = PeerId(key);
        // Writing it again also refuses padding bits that are set.
        let same = peer.to_string().chars().filter(|c| *c != '-').eq(digits.iter().copied());
        if same { Ok(peer) } else { Err(PeerIdError::Checksum) }
    }
}

fn encode(bytes: &[u8], digits: usize) -> String {
    let bit = |i: usize| bytes.get(i / 8).map_or(0, |byte| usize::from(byte >> (7 - i % 8) & 1));
    let digit = |d: usize| (0..5).fold(0, |value, i| value << 1 | bit(5 * d + i));
    (0..digits).map(|d| char::from(ALPHABET[digit(d)])).collect()
}

fn decode(values: &[usize], bytes: &mut [u8]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        let bit = |n: usize| (values[n / 5] >> (4 - n % 5) & 1) as u8;
        *byte = (0..8).fold(0, |value, b| value << 1 | bit(8 * i + b));
    }
}

/// Why an identity could not be had. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("the identity at {path} cannot be used: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// Others may read the secret.
    #[error("the identity at {path} may be read by others (mode {mode:o}); `chmod 600` it, or make a new one")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds no key.
    #[error("the file at {path} holds no identity; restore it from a copy, or remove it to become a new peer")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The bytes that were given hold no key.
    #[error("the secret that was given is no identity; give the bytes that were kept, or none to become a new peer")]
    Foreign,
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
}

/// The secret key of a home, and while it takes the place of another that one too.
pub struct Identity {
    pkcs8: Vec<u8>,
    pair: Ed25519KeyPair,
    /// From what other secrets are derived, where that is not this key.
    root: Option<Vec<u8>>,
    former: Option<Former>,
    /// What is shown to peers that know an older key.
    statements: Vec<u8>,
}

/// The key before an identity's own, which is the same peer until the overlap ends.
#[derive(Clone, Debug)]
pub struct Former {
    /// It.
    pub identity: Arc<Identity>,
    /// When it is the peer no more, in milliseconds since 1970.
    pub until_ms: u64,
}

impl Former {
    /// Whether the overlap goes on, by the clock of this host.
    pub fn is_in_force(&self) -> bool {
        now_ms() < self.until_ms
    }
}

impl Identity {
    /// A new identity from the operating system's randomness.
    ///
    /// # Errors
    /// [`IdentityError`] if the system gives no randomness.
    pub fn generate() -> Result<Identity, IdentityError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| IdentityError::Randomness)?;
        Identity::from_pkcs8(pkcs8.as_ref().to_vec()).ok_or(IdentityError::Randomness)
    }

    /// The identity whose secret was kept elsewhere, as [`Identity::secret`] gave it out.
    ///
    /// # Errors
    /// [`IdentityError::Foreign`] for bytes that are none.
    pub fn from_secret(pkcs8: &[u8]) -> Result<Identity, IdentityError> {
        Identity::from_pkcs8(pkcs8.to_vec()).ok_or(IdentityError::Foreign)
    }

    /// The secret itself (PKCS #8), for whoever keeps it elsewhere: with it anybody is this peer.
    pub fn secret(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The identity kept at `path`, or a new one that is kept there from now on.
    ///
    /// # Errors
    /// As for [`Identity::load`] and [`Identity::save`].
    pub fn load_or_create(path: &Path) -> Result<Identity, IdentityError> {
        match Identity::load(path) {
            Err(IdentityError::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {
                let identity = Identity::generate()?;
                identity.save(path)?;
                Ok(identity)
            }
            other => other,
        }
    }

    /// The identity kept at `path`; refused if others may read it.
    ///
    /// # Errors
    /// [`IdentityError`]: what the system says, that others may read it, or that it is damaged.
    pub fn load(path: &Path) -> Result<Identity, IdentityError> {
        let io = |cause| IdentityError::Io { path: path.into(), cause };
        let mode = fs::metadata(path).map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Exposed { path: path.into(), mode });
        }
        let bytes = fs::read(path).map_err(io)?;
        Identity::from_pkcs8(bytes).ok_or_else(|| IdentityError::Damaged { path: path.into() })
    }

    /// Keeps the identity at `path`, where nothing may be yet.
    ///
    /// # Errors
    /// [`IdentityError`]: what the system says, also that there is something already.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let io = |cause| IdentityError::Io { path: path.into(), cause };
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        file.write_all(&self.pkcs8).and_then(|()| file.sync_all()).map_err(io)
    }

    /// The same identity, which took the place of others: secrets go on being derived from `root`, as [`Identity::secret`] gave it
    /// out, peers that know an older key are shown these `statements`, and the key before this one is used while it is in force.
    #[must_use]
    pub fn succeeding(self, root: Vec<u8>, statements: Vec<u8>, former: Option<Former>) -> Identity {
        Identity { root: Some(root), statements, former, ..self }
    }

    /// The key before this one, while both are the peer.
    pub fn former(&self) -> Option<&Former> {
        self.former.as_ref().filter(|former| former.is_in_force())
    }

    /// What is shown to peers that know an older key; empty if there was none.
    pub fn statements(&self) -> &[u8] {
        &self.statements
    }

    /// Who this is.
    pub fn peer(&self) -> PeerId {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        PeerId(key)
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }

    /// A secret of this identity for one purpose, which tells nothing of it nor of those for others; a new key changes none.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, self.root.as_deref().unwrap_or(&self.pkcs8))
    }

    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Option<Identity> {
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).ok()?;
        Some(Identity { pkcs8, pair, root: None, former: None, statements: Vec::new() })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(secret of {})", self.peer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_peer_is_read_back_and_a_slip_is_noticed(key: [u8; 32], at in 0usize..56, to in 0usize..32) {
            let peer = PeerId(key);
            let text = peer.to_string();
            prop_assert_eq!(text.parse(), Ok(peer));
            prop_assert_eq!(text.replace('-', "").to_uppercase().parse(), Ok(peer));
            let mut digits: Vec<char> = text.chars().filter(|c| *c != '-').collect();
            let slip = char::from(ALPHABET[to]);
            if digits[at] != slip {
                digits[at] = slip;
                // Twenty bits of checksum: one slip in a million passes, and none here.
                prop_assert!(digits.iter().collect::<String>().parse::<PeerId>().is_err());
            }
        }
    }

    #[test]
    fn an_identity_is_kept_to_its_owner() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("identity.key");
        let identity = Identity::load_or_create(&path).expect("created");
        assert_eq!(Identity::load_or_create(&path).expect("loaded").peer(), identity.peer());
        assert!(identity.peer().verify(b"words", &identity.sign(b"words")));
        assert!(!identity.peer().verify(b"other words", &identity.sign(b"words")));
        assert!(!format!("{identity:?}").contains("pkcs8"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("permissions");
        assert!(matches!(Identity::load(&path), Err(IdentityError::Exposed { mode: 0o644, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
        fs::write(&path, b"noise").expect("written");
        assert!(matches!(Identity::load(&path), Err(IdentityError::Damaged { .. })));
    }
}
