//! What a node keeps of itself, as bytes: what they are, the body, the digest of both. What the body says is for those who keep it.

use std::fmt;

/// Bytes of what they are; the last of them is the version.
const MAGIC_BYTES: usize = 8;
const DIGEST_BYTES: usize = 32;

/// Bytes that are not what was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptError {
    /// They were written by a later release.
    Newer,
    /// They were changed, cut short, or never were that.
    Damaged,
}

impl fmt::Display for KeptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeptError::Newer => "it was written by a later release",
            KeptError::Damaged => "it is not what was written",
        })
    }
}

impl std::error::Error for KeptError {}

/// A body with what it is and the digest of both.
pub(crate) fn seal(magic: &[u8; MAGIC_BYTES], body: &[u8]) -> Vec<u8> {
    let mut bytes = [magic, body].concat();
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

/// The body of what [`seal`] has made.
pub(crate) fn unseal<'b>(magic: &[u8; MAGIC_BYTES], bytes: &'b [u8]) -> Result<&'b [u8], KeptError> {
    let (whole, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().ok_or(KeptError::Damaged)?;
    if blake3::hash(whole).as_bytes() != digest {
        return Err(KeptError::Damaged);
    }
    let (found, body) = whole.split_first_chunk::<MAGIC_BYTES>().ok_or(KeptError::Damaged)?;
    let version = MAGIC_BYTES - 1;
    match found == magic {
        true => Ok(body),
        false if found[..version] == magic[..version] => Err(KeptError::Newer),
        false => Err(KeptError::Damaged),
    }
}
