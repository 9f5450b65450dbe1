//! relayed
