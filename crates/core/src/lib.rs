//! The reconciler as values and state machines: time is an argument, randomness a seed, data the answer to a question.
//!
//! Nothing in here reads a clock, opens a file or a socket, or starts a task.

pub mod agenda;
pub mod agreement;
pub mod alert;
pub mod bounds;
pub mod brakes;
pub mod canonical;
pub mod collect;
pub mod dataset;
pub mod difference;
pub mod digest;
pub mod drift;
pub mod entry;
pub mod gossip;
pub mod journal;
pub mod life;
pub mod mark;
pub mod members;
pub mod message;
pub mod objective;
pub mod order;
#[doc(hidden)]
pub mod planted;
pub mod policy;
pub mod query;
pub mod range;
pub mod receipt;
pub mod record;
pub mod rising;
pub mod row;
pub mod schedule;
pub mod sealed;
pub mod session;
pub mod sketch;
pub mod stamp;
pub mod succession;
pub mod throttle;
pub mod tree;
pub mod wire;

pub use canonical::DecodeError;
pub use dataset::{Collection, CollectionId, DatasetId, Definition, Profile};
pub use digest::{DatasetKey, Digest, Keys};
pub use entry::Entry;
pub use range::{Position, Range};
pub use record::{Actor, Content, Keeps, Record, Sibling, State, Vector, Version};
pub use stamp::{Clock, Millis, Stamp};
pub use tree::Summary;
