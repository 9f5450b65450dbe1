//! The real binary: every documented outcome of the commands, with its exit code and error id.

mod brakes;
mod conflicts;
mod daemon;
mod datasets;
mod documents;
mod exports;
mod gc;
mod geonames;
mod harness;
mod imports;
mod journal;
mod members;
mod peers;
mod plans;
mod postgres;
mod prefer;
mod quarantine;
mod receipts;
mod records;
mod relay;
mod schema;
mod server;
mod sessions;
mod stores;
mod tables;
