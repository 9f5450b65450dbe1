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

/// Makes a peer over two sets.
pub type New = fn(Arc<Pair>) -> Box<dyn Peer>;

#[cfg(feature = "minisketch")]
const MINISKETCH: Option<New> = Some(minisketch::new);
#[cfg(not(feature = "minisketch"))]
const MINISKETCH: Option<New> = None;
#[cfg(feature = "iroh")]
const IROH_DOCS: Option<New> = Some(iroh_docs::new);
#[cfg(not(feature = "iroh"))]
const IROH_DOCS: Option<New> = None;

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
    /// A peer over two sets, not built yet; none if it was not compiled in.
    pub new: Option<New>,
}

/// Every kind, Reknit first.
pub fn all() -> Vec<Kind> {
    vec![
        Kind {
            name: "reknit",
            crates: &["reknit-core"],
            note: "16-ary tree, sessions of `reknit-core`; a `repair` of both sides from the opening to the last root",
            oracle: false,
            place: reknit::place,
            new: Some(reknit::new),
        },
        Kind {
            name: "negentropy",
            crates: &["negentropy"],
            note: "ranges cut in 16, 16-byte fingerprints, vector storage; its time stamp is 0, in a log the version",
            oracle: false,
            place: negentropy::place,
            new: Some(negentropy::new),
        },
        Kind {
            name: "reconcile",
            crates: &["rbsr", "rsos"],
            note: "ranges over an order-statistics tree, the engine of `reconcile`; its datagrams are not counted",
            oracle: false,
            place: rbsr::place,
            new: Some(rbsr::new),
        },
        Kind {
            name: "mst",
            crates: &["merkle-search-tree"],
            note: "Merkle search tree, page ranges shipped both ways, the documented `diff` once each; the crate promises all differences only after several rounds",
            oracle: false,
            place: rbsr::place,
            new: Some(mst::new),
        },
        Kind {
            name: "cassandra-model",
            crates: &[],
            note: "our model: 2^15 leaves, the whole tree of 32-byte hashes shipped once, every row of a leaf that differs is sent",
            oracle: false,
            place: cassandra::place,
            new: Some(cassandra::new),
        },
        Kind {
            name: "minisketch",
            crates: &["minisketch-rs"],
            note: "PinSketch of 63-bit ids in buckets of capacity 32; **it is told how many records differ**, and its sketches are ready for that number",
            oracle: true,
            place: negentropy::place,
            new: MINISKETCH,
        },
        Kind {
            name: "iroh-docs",
            crates: &["iroh-docs"],
            note: "ranges cut in 2 over signed entries, two stores in memory; its messages hold the signed entries",
            oracle: false,
            place: rbsr::place,
            new: IROH_DOCS,
        },
    ]
}

/// The kinds that were compiled in.
pub fn here() -> Vec<Kind> {
    all().into_iter().filter(|kind| kind.new.is_some()).collect()
}
