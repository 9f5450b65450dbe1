//! What a seed stands for: every option of a run, all drawn from the seed before anything happens.

use reknit::core::session::Planner;
use reknit::store::engine::conformance::Draw;

/// Policies of collections.
const POLICIES: [&str; 7] = [
    "newest/1",
    "keep-both/1",
    "ask/1",
    "largest/1 size",
    "smallest/1 pad",
    "newest/1 number",
    "merge/1 changed;pad=maximum",
];

/// The options of one run.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) seed: u64,
    pub(crate) peers: usize,
    pub(crate) keys: usize,
    /// Keys that the first peer is filled with before anything else.
    pub(crate) filled: usize,
    /// One collection for each.
    pub(crate) policies: Vec<&'static str>,
    pub(crate) position_bits: Option<u32>,
    pub(crate) key_index: bool,
    pub(crate) width: u8,
    pub(crate) settle: u64,
    pub(crate) requests: usize,
    pub(crate) planner: Planner,
    pub(crate) page_bytes: usize,
    pub(crate) fold_at: usize,
    pub(crate) tree_cache_bytes: usize,
    pub(crate) value_bytes: usize,
    pub(crate) operations: usize,
    pub(crate) faults: usize,
    /// Sessions under way at once.
    pub(crate) sessions: usize,
    /// How far the clock of each peer is off at first, in milliseconds.
    pub(crate) skews: Vec<i64>,
    /// Milliseconds that a step takes, at most.
    pub(crate) tick: u64,
    /// A link breaks in one of so many steps of a session.
    pub(crate) breaks: usize,
    /// In one of so many openings after a crash the process dies again.
    pub(crate) crash_again: usize,
    /// Bursts of versions by writers that nobody knows.
    pub(crate) strangers: bool,
    /// How long tombstones are kept at least, in milliseconds.
    pub(crate) grace: u64,
    /// In one of so many collections a lease lapses first; all agree on whose, as they do where leases are long.
    pub(crate) lapses: usize,
    /// Peers that are no members, from the last.
    pub(crate) guests: usize,
    /// Repairs that prefer a side.
    pub(crate) prefers: bool,
    /// Peers keep what their own writes replace.
    pub(crate) histories: bool,
}

impl Shape {
    pub(crate) fn of(seed: u64) -> Self {
        let mut draw = Draw(seed.wrapping_mul(0x9e37_79b9).wrapping_add(1));
        let peers = [2, 2, 3, 3, 3, 4, 5, 7][draw.below(8)];
        // As often few as many.
        let keys = (3.0 * 100_f64.powf(draw.below(1_000) as f64 / 1_000.0)) as usize;
        let collections = if draw.below(4) == 0 { 2 } else { 1 };
        let planner = Planner {
            opening: [0, 0, 8, 28, 28, 64][draw.below(6)],
            margin: [0, 2, 50][draw.below(3)],
            more: draw.below(3) as u8,
        };
        Self {
            seed,
            peers,
            keys,
            filled: if draw.below(3) == 0 { 0 } else { keys },
            policies: (0..collections).map(|_| POLICIES[draw.below(POLICIES.len())]).collect(),
            position_bits: [None, None, None, Some(4), Some(8)][draw.below(5)],
            key_index: draw.below(4) > 0,
            width: [1, 1, 2, 6, 32][draw.below(5)],
            settle: [0, 50, 500][draw.below(3)],
            requests: [1, 4, 16][draw.below(3)],
            planner,
            page_bytes: [60, 400, 4_000, 500_000][draw.below(4)],
            fold_at: [20, 200, 12_288][draw.below(3)],
            tree_cache_bytes: [0, 4_000, 1 << 20][draw.below(3)],
            value_bytes: [1, 16, 80][draw.below(3)],
            operations: 200 + draw.below(60),
            faults: 5 + draw.below(8),
            sessions: 1 + draw.below(3),
            skews: (0..peers).map(|_| [0, 0, 0, 20_000, -20_000, 3_600_000, -3_600_000][draw.below(7)]).collect(),
            tick: [1, 5, 200][draw.below(3)],
            breaks: [60, 400, 4_000][draw.below(3)],
            crash_again: [2, 4][draw.below(2)],
            strangers: draw.below(3) == 0,
            lapses: [2, 5, 20][draw.below(3)],
            grace: [0, 0, 100, 5_000][draw.below(4)],
            guests: draw.below(6) / 5,
            prefers: draw.below(4) == 0,
            histories: draw.below(4) == 0,
        }
    }
}
