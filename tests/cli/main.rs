//! The real binary: every documented outcome of the commands on one store, with its exit code and error id.

mod datasets;
mod documents;
mod exports;
mod harness;
mod imports;
mod peers;
mod records;
mod stores;
