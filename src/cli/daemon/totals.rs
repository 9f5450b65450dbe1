//! What the runs of jobs have come to since the daemon began, added up.
//!
//! What a single run came to is remembered in the home.

use std::collections::BTreeMap;

use reknit_core::agenda::RunVerdict;

use crate::cli::metrics::Measured;

/// Sums over all jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Runs that have ended, by how.
    pub(crate) runs: BTreeMap<&'static str, u64>,
    /// Bytes that the sides said to each other, by kind.
    pub(crate) bytes: BTreeMap<&'static str, u64>,
    /// Records that were written, and that were refused.
    pub(crate) written: u64,
    pub(crate) refused: u64,
}

impl Totals {
    /// A run has ended.
    pub(super) fn add(&mut self, verdict: RunVerdict, measured: Option<&Measured>) {
        *self.runs.entry(verdict.name()).or_default() += 1;
        let Some(measured) = measured else { return };
        for (kind, bytes) in measured.bytes {
            *self.bytes.entry(kind).or_default() += bytes;
        }
        self.written += measured.written.iter().sum::<u64>();
        self.refused += measured.refused;
    }
}
