//! What a killed process, a torn file and a full disk leave behind: all that was acknowledged, nothing by halves.
//!
//! The test binary runs itself again as the process that writes; see [`child`]. The number of kills for each engine is
//! 20, or `REKNIT_KILLS`.

#![cfg(unix)]

mod child;
mod full;
mod kills;
mod model;
mod tails;
