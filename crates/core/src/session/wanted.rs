//! The responder and records: streams what is wanted, and accounts for what came.
//!
//! When records are read and applied is the concern of [`super::responder`] and the driver.

use super::responder::Responder;
use super::transfers::of_versions;
use super::{Guards, Output, SessionError};
use crate::bounds::OPEN_TRANSFERS_MAX;
use crate::canonical::Blob;
use crate::message::{Rights, Transfer, Want, Written};
use crate::query::{Applied, Selection};
use crate::range::Position;
use crate::sketch::unpack_elements;
use crate::wire;

/// Refused records whose key and reason are told to the opener.
const SAMPLES_MAX: usize = 16;
/// Bytes of a sample's key and reason that are told.
const SAMPLE_BYTES_MAX: usize = 256;

impl Responder {
    /// Streams what is wanted.
    pub(super) fn want(&mut self, want: Want) -> Result<(), SessionError> {
        self.check(want.transfer.1, Rights::READ, "a wish for records without the right to read")?;
        let (bits, elements) = unpack_elements(&want.elements.0)?;
        let mut selections: Vec<Selection> =
            wire::unpack_ranges(&want.ranges.0)?.into_iter().map(Selection::Range).collect();
        if !want.entries.is_empty() {
            let entries = want.entries.into_iter().map(|(position, short)| (Position(position), short));
            selections.push(Selection::Entries(entries.collect()));
        }
        if !want.bare.is_empty() {
            let entries = want.bare.into_iter().map(|(position, short)| (Position(position), short));
            selections.push(Selection::Bare(entries.collect()));
        }
        let named = |(position, bare, dots)| (Position(position), bare, dots);
        selections.extend(of_versions(want.versions.into_iter().map(named).collect()));
        if !elements.is_empty() {
            selections.push(Selection::Elements(bits, elements));
        }
        self.outputs.push_back(Output::Stream {
            transfer: want.transfer,
            selections,
            given: Vec::new(),
            guards: Guards::Join,
        });
        Ok(())
    }

    /// Records of a transfer have come, or its end.
    pub(super) fn begin_transfer(&mut self, transfer: Transfer) -> Result<(), SessionError> {
        if self.transfers.len() >= OPEN_TRANSFERS_MAX && !self.transfers.contains_key(&transfer) {
            return Err(SessionError::Unexpected("more transfers at once than an opener has"));
        }
        self.transfer(transfer);
        Ok(())
    }

    /// What became of a transfer so far.
    pub(super) fn transfer(&mut self, transfer: Transfer) -> &mut Written {
        self.transfers.entry(transfer).or_insert_with(|| Written {
            transfer,
            applied: 0,
            kept: 0,
            moved: 0,
            refused: 0,
            deleted: 0,
            changed: 0,
            samples: Vec::new(),
        })
    }

    pub(super) fn applied(&mut self, transfer: Transfer, applied: Applied) {
        if applied.applied > 0 {
            self.own_commits.insert(applied.commit);
        }
        self.meter.wrote(applied.losses);
        self.wrote += applied.applied;
        let written = self.transfer(transfer);
        written.applied += applied.applied;
        written.kept += applied.kept;
        written.moved += applied.moved;
        written.refused += applied.refused.len() as u64;
        written.deleted += applied.losses.deleted;
        written.changed += applied.losses.changed;
        let room = SAMPLES_MAX - written.samples.len().min(SAMPLES_MAX);
        for (mut key, reason) in applied.refused.into_iter().take(room) {
            key.truncate(SAMPLE_BYTES_MAX);
            let reason = reason.chars().take(SAMPLE_BYTES_MAX).collect();
            written.samples.push((Blob(key), reason));
        }
    }
}
