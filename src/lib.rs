//! Reknit knits replicas that have drifted apart back together: keys and values, on several machines, compared by their trees in
//! a few hundred bytes and repaired by what differs.
//!
//! # In a program
//!
//! ```
//! # #[cfg(feature = "node")] {
//! use reknit::core::message::Rights;
//! use reknit::node::Node;
//! use std::time::Duration;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let desk = Node::builder().dataset("todo", ["items"]).start().await?;
//! desk.put("todo/items", b"milk", b"two bottles").await?;
//! let ticket = desk.invite("todo", Rights::ALL, Duration::from_secs(60)).await?;
//!
//! let phone = Node::builder().start().await?;
//! let at = phone.join(&ticket).await?; // once both are up, writes are gossiped
//! phone.sync_at(&at).await?; // what was there before
//! assert_eq!(phone.get("todo/items", b"milk").await?, Some(b"two bottles".to_vec()));
//! phone.shutdown().await?;
//! desk.shutdown().await?;
//! # Ok::<(), reknit::node::embed::EmbedError>(())
//! # })?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `docs/start/embed.md` goes on from there, and `examples/` has whole programs.
//!
//! | to | use | feature |
//! |---|---|---|
//! | have a node in a program: stores, peers, gossip | `node::Node::builder` | `node` |
//! | the same without a runtime | `node::embed::Builder::start_blocking` | `node` |
//! | keep records with a tree over them | `store::Store` | `embedded-fjall` or `embedded-redb`; `store` for memory |
//! | make two stores of one process equal | `node::between` | `node` |
//! | check a policy, a store or a network of one's own | [`testing`] | |
//! | reconcile with one's own input and output | [`core`] alone | |
//!
//! The features that are on by default build the command line, which a program does not need: `default-features = false`.

pub use reknit_core as core;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "store")]
mod clock;
#[cfg(any(feature = "cli", feature = "linked-files"))]
pub mod format;
#[cfg(feature = "node")]
pub mod node;
#[cfg(feature = "store")]
pub mod store;
pub mod testing;
#[cfg(feature = "node")]
pub mod transport;

/// The programs in the documents, compiled and run as tests.
#[cfg(all(doctest, feature = "node", feature = "embedded-fjall"))]
#[doc = include_str!("../docs/start/embed.md")]
pub struct EmbedDocument;
