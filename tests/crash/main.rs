//! What a killed process, a torn file and a full disk leave behind: all that was acknowledged, nothing by halves.
//!
//! The real binary is killed 150 times with each engine, or half of `REKNIT_KILLS`; `REKNIT_SEED` says where. A fifth as often
//! a process that writes from several threads is: the test binary, which runs itself again; see [`child`].

#![cfg(target_os = "linux")]

mod backend;
mod binary;
mod calls;
mod child;
mod disk;
mod flips;
mod full;
mod history;
mod images;
mod journals;
mod model;
mod process;
mod recorded;
mod tails;
mod writers;
