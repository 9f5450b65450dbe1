//! Why something that was asked of an embedded node was not done. What follows from it is the program's to decide.

use crate::node::{HomeError, NodeError, TicketError};
use crate::store::StoreError;
use crate::transport::{AddressError, IdentityError};

/// Why something that was asked of an embedded node was not done. Nothing was changed unless it is said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// A session has no outcome, or the network cannot be had. What a session applied is valid.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The home failed.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The identity that was given or kept cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The program's keychain failed.
    #[error("the keychain of the program cannot be used: {0}")]
    Keychain(std::io::Error),
    /// The text is no ticket.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The ticket is for tables of databases, which `reknit join` takes up.
    #[error(
        "the dataset {name} is one of tables, not of stores; nothing was changed; `reknit join TABLE TICKET` takes it up"
    )]
    Tables {
        /// The name of the dataset.
        name: String,
    },
    /// The ticket's address is none.
    #[error("the address in the ticket is none: {0}")]
    Address(#[from] AddressError),
    /// There is no such dataset.
    #[error("this node has no dataset {name}; it has: {have}")]
    NoDataset {
        /// What was asked for.
        name: String,
        /// What there is.
        have: String,
    },
    /// There is a dataset of that name or identity already.
    #[error("this node has the dataset {name} already")]
    DatasetExists {
        /// Its name.
        name: String,
    },
    /// A name that cannot be the name of a dataset of this node: it is also the name of a directory.
    #[error("`{name}` cannot be the name of a dataset here: it is empty, has a slash in it or begins with a dot")]
    DatasetName {
        /// The name.
        name: String,
    },
    /// Nobody knows where others reach this node.
    #[error("say where others reach this node (`Builder::advertise`): it listens on all addresses of its host")]
    NoAddress,
    /// It is not known where the peer is.
    #[error("it is not known where the peer {0} is: it is not up and did not invite this node")]
    UnknownPeer(crate::transport::PeerId),
    /// The node is suspended.
    #[error("the node is suspended; `resume` it first")]
    Suspended,
    /// The node has ended.
    #[error("the node has ended; build another")]
    Ended,
    /// A store did not come free in time. All else has ended, and it is closed with its last use.
    #[error("the store of {dataset} is still in use; it is closed when that ends")]
    StillHeld {
        /// The dataset.
        dataset: String,
    },
    /// A value is not what the program takes it for.
    #[error("the value of {key} in {place} cannot be read as {wanted}: {reason}")]
    Value {
        /// The dataset and collection.
        place: String,
        /// The key.
        key: String,
        /// The type that was asked for.
        wanted: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A value cannot be written.
    #[error("the value for {key} in {place} cannot be written as MessagePack: {reason}; nothing was changed")]
    Unwritable {
        /// The dataset and collection.
        place: String,
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness: {0}")]
    Randomness(String),
    /// A blocking node could not have its runtime.
    #[error("threads cannot be started: {0}")]
    Runtime(std::io::Error),
}
