//! Every limit of a link, each with its reason, and quinn's settings made of them.
//!
//! Limits of what frames hold are the core's ([`crate::core::bounds`]).

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{IdleTimeout, TransportConfig, VarInt};
use reknit_core::bounds::{FRAME_BYTES_MAX, KEY_BYTES_MAX, RECORD_FRAME_BYTES_MAX};

/// Bytes that a peer may send on a connection before we read: quinn's own default has no bound.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes that a peer may send on one stream before we read: enough for 40 MB/s at 100 ms.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes that we hold for a peer that does not acknowledge.
pub const SEND_WINDOW_BYTES: u64 = 8 << 20;
/// Bytes that may be on their way before anything was acknowledged: a flight of a repair of a thousand differences. quinn
/// sends 12,000 of them at once and spreads the others over the round trip, and from the first loss on it sends less.
pub const FIRST_WINDOW_BYTES: u64 = 64 << 10;
/// Streams that a peer may open at once: two for each of its sessions, and room to close old ones.
pub const BIDI_STREAMS_MAX: u32 = 8;
/// A protocol of frames needs no one-way streams.
pub const UNI_STREAMS_MAX: u32 = 0;
/// Connections that wait for their handshake: a flood of first packets stops here.
pub const INCOMING_MAX: usize = 256;
/// Handshakes under way with addresses that have not proven to be theirs: whoever comes while there are so many is sent
/// a retry first, and proves it for the price of a round trip.
pub const UNPROVEN_HANDSHAKES_MAX: usize = 32;
/// Bytes buffered for a connection that waits for its handshake.
pub const INCOMING_BYTES_MAX: u64 = 64 << 10;
/// Bytes buffered for all of those.
pub const INCOMING_BYTES_TOTAL_MAX: u64 = 8 << 20;
/// Bytes of handshake data out of order: a handshake of ours has a few hundred.
pub const CRYPTO_BUFFER_BYTES: usize = 16 << 10;
/// A handshake that takes longer is given up.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A link that is silent for longer is given up.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a silent link is shown to be alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a program that ends waits for its last words to leave.
pub const LEAVE_MAX: Duration = Duration::from_millis(20);
/// A session in which nothing happens for so long is given up, though the link lives: a peer must not hold a place for
/// nothing. Twice the longest time that differences are given to settle.
pub const SILENCE_MAX: Duration = Duration::from_secs(600);
/// A connection without a session for so long is closed: a peer must not hold a place for nothing.
pub const UNUSED_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections at once, those in their handshake with them: more wait, and then are dropped unseen.
pub const CONNECTIONS_MAX: usize = 512;
/// Sessions of one connection that may wait to be answered.
pub const LINKS_WAITING_MAX: usize = 2;
/// Sessions that a node answers at once.
pub const SESSIONS_MAX: usize = 64;
/// Those of one peer: half of all, so that it leaves room for others.
pub const SESSIONS_OF_PEER_MAX: usize = SESSIONS_MAX / 2;
/// Bytes of messages that may wait for a link before a responder does more of what it is asked.
pub const BACKLOG_BYTES_MAX: u64 = 4 << 20;
/// Streams that may wait for a link before it does: an opener wants a few at once.
pub const STREAMS_WAITING_MAX: u64 = 64;
/// Bytes of a frame on the control lane.
pub const CONTROL_FRAME_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Bytes of a frame of records, packed.
pub const RECORD_LANE_FRAME_BYTES_MAX: usize = RECORD_FRAME_BYTES_MAX + KEY_BYTES_MAX + 16;
/// Words of one peer's gossip that are not heard yet: some seconds of what a store takes in.
pub const GOSSIP_WORDS_MAX: usize = 1024;
/// The same in bytes.
pub const GOSSIP_BYTES_MAX: usize = 4 << 20;
/// Words of gossip that wait for a peer.
pub const GOSSIP_QUEUE_MAX: usize = 256;
/// A link of gossip on which nothing was said for so long, either way, is let go.
pub const GOSSIP_UNUSED_TIMEOUT: Duration = Duration::from_secs(120);

/// quinn's settings for a connection.
pub(super) fn transport() -> Arc<TransportConfig> {
    let mut cubic = CubicConfig::default();
    cubic.initial_window(FIRST_WINDOW_BYTES);
    let mut config = TransportConfig::default();
    config
        .congestion_controller_factory(Arc::new(cubic))
        // Probes for larger datagrams cost up to 11 kB a connection, twice what a check does, and save one byte in a hundred.
        .mtu_discovery_config(None)
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(BIDI_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok())
        .keep_alive_interval(Some(KEEP_ALIVE));
    Arc::new(config)
}

/// Sets what a server takes in before it knows who asks.
pub(super) fn server(config: &mut quinn::ServerConfig) {
    config
        .transport_config(transport())
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX);
}
