//! Nodes over real QUIC on the loopback: links, sessions, writers beside them, and bad networks.

mod bare;
mod edges;
mod embed;
mod gossip;
mod jobs;
mod links;
mod lives;
mod networks;
mod quarantine;
mod raw;
#[path = "../support/relay.rs"]
mod relay;
mod relayed;
mod sessions;
mod strangers;
mod support;
mod writers;
