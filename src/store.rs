//! Where records live.

pub mod engine;
