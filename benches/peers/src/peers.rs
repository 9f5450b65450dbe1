//! The set-reconcilers: one file for each, and here the list of them.

mod cassandra;
#[cfg(feature = "iroh")]
mod iroh_docs;
#[cfg(feature = "minisketch")]
mod minisketch;
mod mst;
mod negentropy;
mod rbsr;
mod reknit;

use std::sync::Arc;

use crate::peer::Peer;
use crate::workload::{Pair, Record};

/// One kind of peer.
pub struct Kind {
    /// Its name on the command line and in the tables.
    pub name: &'static str,
    /// The crates that it is made of, whose versions are told; none for a model of our own.
    pub crates: &'static [&'static str],
    /// What a reader of the tables has to know about it.
    pub note: &'static str,
    /// Whether it is told how many records differ, which none of the others is.
    pub oracle: bool,
    /// Where a record lies in its order.
    pub place: fn(&Record) -> u64,
    /// A peer over two sets, not built yet.
    pub new: fn(Arc<Pair>) -> Box<dyn Peer>,
}

/// Every kind that was compiled in, Reknit first.
pub fn all() -> Vec<Kind> {
    vec![
        Kind {
            name: "reknit",
            crates: &["reknit-core"],
            note: "16-ary tree, sessions of `reknit-core`; a `repair` of both sides from the opening to the last root",
            oracle: false,
            place: reknit::place,
            new: reknit::new,
        },
        Kind {
            name: "negentropy",
            crates: &["negentropy"],
            note: "ranges cut in 16, 16-byte fingerprints, vector storage; its time stamp is 0, in a log the version",
            oracle: false,
            place: negentropy::place,
            new: negentropy::new,
        },
        Kind {
            name: "reconcile",
            crates: &["rbsr", "rsos"],
            note: "ranges over an order-statistics tree, the engine of `reconcile`; its datagrams are not counted",
            oracle: false,
            place: rbsr::place,
            new: rbsr::new,
        },
        Kind {
            name: "mst",
            crates: &["merkle-search-tree"],
            note: "Merkle search tree, page ranges shipped both ways, the documented `diff`",
            oracle: false,
            place: rbsr::place,
            new: mst::new,
        },
        Kind {
            name: "cassandra-model",
            crates: &[],
            note: "our model: 2^15 leaves, the whole tree of 32-byte hashes shipped once, every row of a leaf that differs is sent",
            oracle: false,
            place: cassandra::place,
            new: cassandra::new,
        },
        #[cfg(feature = "minisketch")]
        Kind {
            name: "minisketch",
            crates: &["minisketch-rs"],
            note: "PinSketch of 63-bit ids in buckets of capacity 32; **it is told how many records differ**, and its sketches are ready for that number",
            oracle: true,
            place: negentropy::place,
            new: minisketch::new,
        },
        #[cfg(feature = "iroh")]
        Kind {
            name: "iroh-docs",
            crates: &["iroh-docs"],
            note: "ranges cut in 2 over signed entries, two stores in memory; its messages hold the signed entries",
            oracle: false,
            place: rbsr::place,
            new: iroh_docs::new,
        },
    ]
}
