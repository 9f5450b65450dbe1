//! Where a file's bytes come from, part by part, and what tells one version of it from another.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};

/// What tells one version of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// What its keeper changes with each change of it.
    pub(super) mark: String,
}

/// A place where a file is.
pub(super) trait Source: Send + Sync {
    /// The version that is there now.
    fn version(&self) -> io::Result<Version>;

    /// Opens the version that is there now.
    fn open(&self) -> io::Result<Arc<dyn Opened>>;
}

/// One version of a file.
pub(super) trait Opened: Send + Sync {
    /// Which it is.
    fn version(&self) -> &Version;

    /// Bytes that are well read at once.
    fn block(&self) -> usize;

    /// Exactly these bytes; fails beyond the end.
    fn read_at(&self, start: u64, length: usize) -> io::Result<Bytes>;
}

/// All bytes of a file from a place on, read block by block.
pub(super) struct Stream {
    opened: Arc<dyn Opened>,
    at: u64,
    block: Bytes,
}

impl Stream {
    pub(super) fn new(opened: Arc<dyn Opened>, at: u64) -> Stream {
        Stream { opened, at, block: Bytes::new() }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() {
            let left = self.opened.version().bytes.saturating_sub(self.at);
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.opened.block());
            if length == 0 {
                return Ok(0);
            }
            self.block = self.opened.read_at(self.at, length)?;
            self.at += length as u64;
        }
        let count = into.len().min(self.block.len());
        self.block.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}
