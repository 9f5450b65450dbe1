//! Receipts of a home: signed with its identity, and kept, the newest of each dataset.
//!
//! What a receipt says and when it is signed is the core's concern; how it is shown that of the command line.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use reknit_core::DatasetId;
use reknit_core::receipt::{PeerKey, Receipt, Signature, Witness};

use super::home::{Home, HomeError, hex, unhex};
use super::whole_file;
use crate::clock::now_ms;
use crate::transport::{Identity, PeerId};

/// Receipts that are kept of a dataset.
pub const RECEIPTS_MAX: usize = 10_000;
/// Bytes of a file of receipts, beyond which all but the newest are left out.
const FILE_BYTES_MAX: u64 = 12 << 20;
/// The folder of a home that holds them.
const FOLDER: &str = "receipts";

impl Home {
    /// The receipts of a dataset, oldest first; a line that is none is left out.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn receipts(&self, dataset: DatasetId) -> Result<Vec<Receipt>, HomeError> {
        if let Some(memory) = self.memory() {
            return Ok(memory.receipts.get(&dataset).cloned().unwrap_or_default());
        }
        let path = self.receipts_path(dataset);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(HomeError::Io { path, cause }),
        };
        // The last line of a machine that went down may be half of one.
        Ok(text.lines().filter_map(|line| Receipt::decode(&unhex(line)?).ok()).collect())
    }

    /// Keeps a receipt with those of its dataset.
    ///
    /// # Errors
    /// [`HomeError::Io`]; what was kept before is there.
    pub fn keep_receipt(&self, receipt: &Receipt) -> Result<(), HomeError> {
        if let Some(mut memory) = self.memory() {
            let kept = memory.receipts.entry(receipt.dataset).or_default();
            kept.push(receipt.clone());
            let old = kept.len().saturating_sub(RECEIPTS_MAX);
            kept.drain(..old);
            return Ok(());
        }
        let path = self.receipts_path(receipt.dataset);
        let keep = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(self.dir().join(FOLDER))?;
            let mut file = fs::OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(&path)?;
            let mut last = *b"\n";
            if let Some(at) = file.metadata()?.len().checked_sub(1) {
                file.read_exact_at(&mut last, at)?;
            }
            // Half of a line, which a machine that went down has left, is ended: else this receipt would be part of it.
            let begin = if last == *b"\n" { "" } else { "\n" };
            let line = format!("{begin}{}\n", hex(&receipt.encode()));
            // One write: whoever appends at the same time comes before or after.
            file.write_all(line.as_bytes())?;
            Ok(file.metadata()?.len())
        };
        let bytes = keep().map_err(|cause| HomeError::Io { path: path.clone(), cause })?;
        if bytes > FILE_BYTES_MAX { self.forget_old_receipts(receipt.dataset) } else { Ok(()) }
    }

    fn forget_old_receipts(&self, dataset: DatasetId) -> Result<(), HomeError> {
        let receipts = self.receipts(dataset)?;
        let newest = &receipts[receipts.len().saturating_sub(RECEIPTS_MAX)..];
        let text: String = newest.iter().map(|receipt| hex(&receipt.encode()) + "\n").collect();
        let path = self.receipts_path(dataset);
        let part = path.with_extension("part");
        let written = whole_file::replace(&path, &part, text.as_bytes());
        written.map_err(|cause| HomeError::Io { path, cause })
    }

    fn receipts_path(&self, dataset: DatasetId) -> PathBuf {
        self.dir().join(FOLDER).join(dataset.to_string())
    }
}

/// Signs for a home in a session with one peer, and keeps what came of it.
pub(super) struct Signer {
    home: Home,
    identity: Arc<Identity>,
    peer: PeerId,
}

impl Signer {
    /// In a session with that peer.
    pub(super) fn new(home: &Home, identity: Arc<Identity>, peer: PeerId) -> Arc<Signer> {
        Arc::new(Signer { home: home.clone(), identity, peer })
    }

    /// In a session of which this process has both stores.
    pub(super) fn alone(home: &Home) -> Result<Arc<Signer>, HomeError> {
        let identity = Arc::new(home.identity()?);
        let me = identity.peer();
        Ok(Signer::new(home, identity, me))
    }

    /// The receipts that the home has of a dataset, oldest first.
    pub(super) fn receipts(&self, dataset: DatasetId) -> Result<Vec<Receipt>, HomeError> {
        self.home.receipts(dataset)
    }

    /// Keeps a receipt. The session stands without it.
    pub(super) fn keep(&self, receipt: &Receipt) {
        if let Err(error) = self.home.keep_receipt(receipt) {
            tracing::warn!(%error, "the receipt of a session could not be kept");
        }
    }
}

impl Witness for Signer {
    fn me(&self) -> PeerKey {
        self.identity.peer().0
    }

    fn peer(&self) -> PeerKey {
        self.peer.0
    }

    fn now(&self) -> u64 {
        now_ms()
    }

    fn sign(&self, statement: &[u8]) -> Signature {
        self.identity.sign(statement)
    }

    fn holds(&self, peer: &PeerKey, statement: &[u8], signature: &Signature) -> bool {
        PeerId(*peer).verify(statement, signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reknit_core::Digest;
    use reknit_core::receipt::{Seat, Tally};
    use reknit_core::session::Verdict;

    fn receipt(differences: u64) -> Receipt {
        Receipt {
            dataset: DatasetId([5; 16]),
            definition: Digest::ZERO,
            scope: Vec::new(),
            opener: Seat::default(),
            responder: Seat::default(),
            verdict: Verdict::InSync,
            tally: Tally { differences, ..Tally::default() },
            signatures: ([0; 64], [0; 64]),
        }
    }

    #[test]
    fn half_a_receipt_takes_none_with_it_that_comes_after() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::open(dir.path()).expect("a home");
        let [first, second, third] = [1, 2, 3].map(receipt);
        home.keep_receipt(&first).expect("kept");
        let path = home.receipts_path(first.dataset);
        let whole = fs::read_to_string(&path).expect("read");
        fs::write(&path, whole.clone() + &whole[..whole.len() / 2]).expect("written");
        home.keep_receipt(&second).expect("kept");
        home.keep_receipt(&third).expect("kept");
        assert_eq!(home.receipts(first.dataset).expect("read"), [first, second, third]);
        // The half, and no empty line.
        let text = fs::read_to_string(&path).expect("read");
        assert_eq!((text.lines().count(), text.ends_with('\n')), (4, true));
    }
}
