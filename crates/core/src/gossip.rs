//! Gossip as values: who is to be met next, and what is told to whom of what was freshly written.
//!
//! Who is a peer, and who of them is up, is told from outside; so are the time, and what the store holds. What is lost here is
//! healed by sessions.

mod draw;
mod memory;
mod roster;
mod rumours;
mod speakers;
#[cfg(test)]
mod tests;
mod word;

pub use memory::{Acquaintance, Acquaintances};
pub use roster::{Met, Roster, Standing};
pub use rumours::{Counts, Limits, Rumour, Rumours, Send};
pub use speakers::Speakers;
pub use word::{GOSSIP, Speaker, Word};
