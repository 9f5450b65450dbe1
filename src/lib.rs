//! Reknit knits replicas that have drifted apart back together.

pub use reknit_core as core;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(any(feature = "cli", feature = "linked-files"))]
pub mod format;
#[cfg(feature = "node")]
pub mod node;
#[cfg(feature = "store")]
pub mod store;
pub mod testing;
#[cfg(feature = "node")]
pub mod transport;
