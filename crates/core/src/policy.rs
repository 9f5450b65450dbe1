//! Policies: how concurrent versions of a key become the one value that readers see.
//!
//! A policy is named in the dataset's definition; joining states is [`crate::record::State::join`].

use crate::record::Keeps;

/// The id of the policy that keeps the version of the greatest stamp. It may lose concurrent writes.
pub const NEWEST: &str = "newest/1";

/// What replicas keep of concurrent versions under the policy of this id: one under [`NEWEST`], else all.
pub fn keeps(id: &str) -> Keeps {
    if id == NEWEST { Keeps::Newest } else { Keeps::All }
}
