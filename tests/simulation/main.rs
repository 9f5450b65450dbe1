//! Whole clusters in one thread, from a seed: the real core and the real store over a pretended network, disk and clock.
//! Operations and faults are drawn, everything that must hold is checked, and the same seed always does the same.

mod checks;
mod collecting;
mod disk;
mod faults;
mod history;
mod lives;
mod operations;
mod oracle;
#[cfg(feature = "planted-bugs")]
mod planted;
mod prefer;
mod runs;
mod session;
mod shape;
mod tally;
mod tree;
mod world;
