//! What a killed process, a torn file and a full disk leave behind: all that was acknowledged, nothing by halves.
//!
//! The test binary runs itself again as the process that writes; see [`child`]. The number of kills for each engine is
//! 150, or half of `REKNIT_KILLS`; `REKNIT_SEED` says where.

#![cfg(target_os = "linux")]

mod backend;
mod binary;
mod child;
mod flips;
mod full;
mod history;
mod images;
mod journals;
mod model;
mod process;
mod tails;
mod writers;
