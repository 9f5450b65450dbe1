//! QUIC links to known peers.
