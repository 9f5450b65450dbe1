//! What can be asked of a commit: each kind of write, and which key it means. What becomes of it is decided in [`super`].

use std::sync::Arc;

use reknit_core::brakes::Losses;
use reknit_core::journal::{RunId, Undoing};
use reknit_core::query::{Incoming, Overwrite};
use reknit_core::{CollectionId, Content, Millis, Stamp, State};

use crate::store::Missed;
use crate::store::embedded::journal::Writing;
use crate::store::embedded::quarantine::{Leaving, Release};

/// One thing to be written.
#[derive(Clone, Debug)]
pub(in crate::store::embedded) enum Write {
    /// A caller's own put or delete.
    Local { collection: CollectionId, key: Vec<u8>, content: Content, expires: Option<Millis> },
    /// A row of a file: a put, unless the key has this value already.
    Row { collection: CollectionId, key: Vec<u8>, value: Vec<u8> },
    /// A new version that a session wants over what it compared.
    Overwrite { collection: CollectionId, overwrite: Overwrite, run: Option<Arc<Writing>> },
    /// A record of a peer.
    Incoming { collection: CollectionId, incoming: Incoming, run: Option<Arc<Writing>> },
    /// The exact state of before a run, with the commit that had made it, over the entry that the run left.
    Restore {
        collection: CollectionId,
        key: Vec<u8>,
        expected: Option<u64>,
        state: Option<(State, u64)>,
        run: Arc<Writing>,
    },
    /// How far a run is undone, by the so many writes just before.
    Undoing { run: RunId, undoing: Undoing, of: usize },
    /// What an earlier life wrote is given to the one that goes on.
    Reattribute { collection: CollectionId, key: Vec<u8> },
    /// What expires up to the watermark goes.
    Expire { collection: CollectionId, key: Vec<u8> },
    /// A tombstone that all members have passed goes; one that somebody may lack is written anew.
    Collect { collection: CollectionId, key: Vec<u8> },
    /// A key of a store that missed a horizon: what was there at the cut `base` of its last receipt, and is unchanged since,
    /// goes where the other side has it no more.
    CatchUp { missed: Missed, base: Option<u64>, horizon: Stamp, run: Arc<Writing> },
    /// A record that leaves quarantine, once it was looked up, if there is room for what readers lose by it.
    Release {
        collection: CollectionId,
        key: Vec<u8>,
        how: Release,
        leaving: Option<Leaving>,
        room: Option<Losses>,
        run: Option<Arc<Writing>>,
    },
    /// What a row of a database is worth now, by the digest of its content; under a run, with what it was in full.
    Follow {
        collection: CollectionId,
        key: Vec<u8>,
        content: Option<Vec<u8>>,
        run: Option<(Arc<Writing>, Option<Vec<u8>>)>,
    },
    /// The opaque bytes that a collection's rows are laid out by.
    Layout { collection: CollectionId, bytes: Option<Vec<u8>> },
}

impl Write {
    pub(super) fn place(&self) -> Option<(CollectionId, &[u8])> {
        match self {
            Self::Local { collection, key, .. }
            | Self::Row { collection, key, .. }
            | Self::Release { collection, key, .. }
            | Self::Reattribute { collection, key }
            | Self::Expire { collection, key }
            | Self::Collect { collection, key }
            | Self::Follow { collection, key, .. }
            | Self::Restore { collection, key, .. } => Some((*collection, key)),
            Self::CatchUp { missed, .. } => Some((missed.collection, &missed.key)),
            Self::Overwrite { collection, overwrite, .. } => Some((*collection, &overwrite.key)),
            Self::Incoming { collection, incoming, .. } => Some((*collection, &incoming.record.key)),
            Self::Layout { .. } | Self::Undoing { .. } => None,
        }
    }

    /// Whether a caller of this store asks for it, not a run.
    pub(super) fn is_ordinary(&self) -> bool {
        matches!(self, Self::Local { .. } | Self::Row { .. } | Self::Overwrite { run: None, .. })
    }

    /// Whether a session asks for it.
    pub(in crate::store::embedded) fn is_of_a_session(&self) -> bool {
        matches!(self, Self::Incoming { .. } | Self::Overwrite { run: Some(_), .. })
    }

    /// The oldest stamp of what a session brings.
    pub(super) fn brings(&self) -> Option<Stamp> {
        let Self::Incoming { incoming, .. } = self else { return None };
        incoming.record.state.versions().iter().map(|sibling| sibling.version.stamp).min()
    }

    /// The key, moved out.
    pub(super) fn take_key(&mut self) -> Vec<u8> {
        match self {
            Self::Local { key, .. }
            | Self::Row { key, .. }
            | Self::Release { key, .. }
            | Self::Reattribute { key, .. }
            | Self::Expire { key, .. }
            | Self::Collect { key, .. }
            | Self::Follow { key, .. }
            | Self::Restore { key, .. } => std::mem::take(key),
            Self::CatchUp { missed, .. } => std::mem::take(&mut missed.key),
            Self::Overwrite { overwrite, .. } => std::mem::take(&mut overwrite.key),
            Self::Incoming { incoming, .. } => std::mem::take(&mut incoming.record.key),
            Self::Layout { .. } | Self::Undoing { .. } => Vec::new(),
        }
    }
}
