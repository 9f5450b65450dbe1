//! Every upper bound of the core, each with its reason.
//!
//! Limits of links (windows, streams, waits) are the transport's; these hold for values wherever they come from.

/// Bytes of a key. Long enough for any path or composite key; short enough that a list of keys fits a frame.
pub const KEY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a value. A receiver assembles one value in memory before it is applied.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Versions in the state of one key. A set beyond it means writers that never see each other.
pub const VERSIONS_MAX: usize = 32;
/// Actors in one version vector: the greatest stamps are kept.
pub const VECTOR_MAX: usize = 32;
/// Collections of one dataset; their roots travel in one frame.
pub const COLLECTIONS_MAX: usize = 256;
/// Bytes of the text that names a policy with its parameters, which may tell of many columns.
pub const POLICY_BYTES_MAX: usize = 4096;
/// Bytes of a collection's or dataset's name.
pub const NAME_BYTES_MAX: usize = 255;
/// Entries that a range may be said to hold: beyond any store, and sums of all that one message tells do not overflow.
pub const COUNT_MAX: u64 = 1 << 48;
/// Bytes of a message on the control lane, checked before it is read. One item of the longest key and the most versions fits.
pub const FRAME_BYTES_MAX: usize = 128 * 1024;
/// Bytes of a frame of records before compression; larger values are cut into chunks of this size.
pub const RECORD_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that a sender aims at for one message, so that framing never reaches the cap.
pub const FRAME_BYTES_AIM: usize = 48 * 1024;
/// Ranges that one message may speak of.
pub const RANGES_PER_MESSAGE_MAX: usize = 8 * 1024;
/// Levels that one range may be opened at once: 16^2 digests are 2 kB at 8 bytes each.
pub const LEVELS_MAX: u8 = 2;
/// Requests of an opener that may wait for their answer at once; bounds the memory of both sides.
pub const REQUESTS_MAX: usize = 16;
/// Times that a session looks again at what moved before it gives its verdict.
pub const ROUNDS_MAX: u32 = 3;
/// Cells that one range may keep and show: what the root of a large collection keeps, and as many again.
pub const CELLS_MAX: usize = 32 * 1024;
/// Cells of all ranges that a session holds at once: those that a level of 4,096 ranges keeps.
pub const CELLS_HELD_MAX: usize = 1024 * 1024;
/// Transfers of an opener that have not ended: it has some two a collection at once.
pub const OPEN_TRANSFERS_MAX: usize = 1024;
/// Bytes of items that an answer about single places may come to, beside one of the longest keys for each.
pub const GATHERED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Records that the responder looks at for one offer of whole ranges; openers offer a thousand or so at once.
pub const OFFERED_ITEMS_MAX: u64 = 64 * 1024;
/// Datasets that one peer gossips about.
pub const GOSSIP_DATASETS_MAX: usize = 256;
/// Rumours in one word of gossip.
pub const GOSSIP_RUMOURS_MAX: usize = 4096;
/// Speakers of gossip that have a number on one way of a link; the next begins anew.
pub const GOSSIP_SPEAKERS_MAX: usize = 64;
