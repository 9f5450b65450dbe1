//! How far what a session writes gives way to a store's own clients: in pieces, with rests, by what the clients wait.
//!
//! A closed loop: clients are measured while they wait alone and while they wait beside a session, and a session's commits
//! become smaller, then rarer, until the second is no more than [`RATIO_MAX`] times the first. They become larger again once those
//! who waited too long are no more than one of a hundred: what a session wrote may stall the disk much later, so that a calm
//! second says little. What counts is what somebody would wait who came at any time, also while nobody else does because all
//! wait (Tene's *coordinated omission*). Writing and resting is for the store.

mod waits;

use self::waits::Waits;

/// What clients wait beside a session, as a multiple of what they wait alone, in the 99th of 100 cases.
pub const RATIO_MAX: u64 = 2;
/// For so long after its last write a client is expected to write again.
pub const ACTIVE_MICROS: u64 = 10_000_000;
/// Records of the smallest piece.
pub const PIECE_MIN: usize = 8;
/// A rest after a whole piece is at most so long.
pub const REST_MAX_MICROS: u64 = 20_000;

/// Records of the first piece beside a client, where nothing was measured.
const PIECE_FIRST: usize = 64;
/// Records of the largest piece beside a client.
const PIECE_MAX: usize = 4_096;
/// What a client is taken to wait alone before that was measured.
const ALONE_UNKNOWN_MICROS: u64 = 2_000;
/// No wait is told from one that is shorter.
const ALONE_MIN_MICROS: u64 = 100;
/// The shortest rest but none.
const REST_MIN_MICROS: u64 = 500;
/// Of fewer waits nothing is told.
const JUDGED: usize = 64;
/// How often a session that is not too fast is judged.
const JUDGED_MICROS: u64 = 1_000_000;
/// So many who waited too long are made up for at most, each by a hundred who did not: one stall of the disk is to hold a
/// session up for half a minute at most.
const OWED_MAX: usize = 300;
/// Somebody would have come so often, in microseconds, where others wait.
const COMES_EVERY: u64 = 1_000;
/// Who would have come in one wait, at most.
const COME_MAX: usize = 10_000;

/// The loop of one store. Times are microseconds on one clock that only goes forward.
#[derive(Clone, Debug)]
pub struct Throttle {
    alone: Waits,
    /// Waits beside a session since it was last judged, and those that were too long.
    beside: (usize, usize),
    /// When that was.
    judged: u64,
    /// How many are still to come so that those who waited too long are one of a hundred.
    owed: usize,
    /// When its pace was last changed.
    changed: u64,
    /// Whoever would have come until then is counted.
    counted: u64,
    last_client: Option<u64>,
    piece: usize,
    rest: u64,
    /// What a record costs in a session's commit, in nanoseconds.
    record_nanos: Option<u64>,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle {
            alone: Waits::default(),
            beside: (0, 0),
            owed: 0,
            judged: 0,
            changed: 0,
            counted: 0,
            last_client: None,
            piece: PIECE_FIRST,
            rest: 0,
            record_nanos: None,
        }
    }
}

impl Throttle {
    /// Notes that a client waited so long for its write, alone or beside a session's.
    pub fn waited(&mut self, micros: u64, beside: bool, now: u64) {
        if !self.active(now) {
            (self.rest, self.piece) = (0, self.fitting().min(PIECE_FIRST));
            self.judge_anew(now);
            self.owed = 0;
        }
        self.last_client = Some(now);
        let since = now.saturating_sub(micros);
        let others = (self.counted.max(since) + COMES_EVERY..now).step_by(COMES_EVERY as usize).map(|came| now - came);
        let waits = std::iter::once(micros).chain(others.take(COME_MAX));
        self.counted = self.counted.max(now);
        if !beside {
            return waits.for_each(|wait| self.alone.add(wait));
        }
        // Whoever came before the pace was changed waited for the one before.
        if since < self.changed {
            return;
        }
        let bound = self.bound();
        for wait in waits {
            self.beside.0 += 1;
            self.beside.1 += usize::from(wait > bound);
        }
        let (all, late) = self.beside;
        if late > 1 + all / 100 {
            self.changed = now;
            self.judge_anew(now);
            self.slower();
        } else if all >= JUDGED && now.saturating_sub(self.judged) >= JUDGED_MICROS {
            self.judge_anew(now);
            if self.owed == 0 {
                self.faster();
            }
        }
    }

    /// Records that a session's next commit may hold.
    #[must_use]
    pub fn piece(&self, now: u64) -> usize {
        if self.active(now) { self.piece } else { usize::MAX }
    }

    /// Notes that a session's commit of so many records took so long; says how long the session is to rest.
    pub fn wrote(&mut self, records: usize, micros: u64, now: u64) -> u64 {
        // A small commit costs what any commit costs.
        if records >= PIECE_MIN {
            let nanos = micros.saturating_mul(1_000) / records as u64;
            self.record_nanos = Some(self.record_nanos.map_or(nanos, |before| (before * 7 + nanos) / 8));
        }
        if !self.active(now) {
            return 0;
        }
        self.rest * records.min(self.piece) as u64 / self.piece as u64
    }

    /// How a session gives way now: the records of a piece, and the microseconds of a rest; none if no client writes.
    #[must_use]
    pub fn gives_way(&self, now: u64) -> Option<(usize, u64)> {
        self.active(now).then_some((self.piece, self.rest))
    }

    fn active(&self, now: u64) -> bool {
        self.last_client.is_some_and(|last| now.saturating_sub(last) <= ACTIVE_MICROS)
    }

    /// What so many of 100 clients wait alone at most.
    fn alone(&self, percent: u32) -> u64 {
        let known = self.alone.len() >= JUDGED;
        if known { self.alone.at(percent).max(ALONE_MIN_MICROS) } else { ALONE_UNKNOWN_MICROS }
    }

    /// What a client may wait beside a session; some is left to chance.
    fn bound(&self) -> u64 {
        self.alone(99) * (4 * RATIO_MAX - 1) / 4
    }

    /// Records whose commit takes no longer than a client waits alone as a rule: where few wait long, a commit as long as that
    /// would make all others wait as long.
    fn fitting(&self) -> usize {
        let Some(nanos) = self.record_nanos else { return PIECE_MAX };
        let fits = self.alone(50) * 1_000 / nanos.max(1);
        usize::try_from(fits).unwrap_or(PIECE_MAX).clamp(PIECE_MIN, PIECE_MAX)
    }

    fn judge_anew(&mut self, now: u64) {
        let (all, late) = self.beside;
        // Where few write, others could have come all the time.
        let came = (now.saturating_sub(self.judged) / COMES_EVERY) as usize;
        self.owed = (self.owed + 100 * late).saturating_sub(all.max(came)).min(100 * OWED_MAX);
        (self.beside, self.judged) = ((0, 0), now);
    }

    fn slower(&mut self) {
        if self.piece > PIECE_MIN {
            self.piece = (self.piece / 2).max(PIECE_MIN);
        } else {
            self.rest = (self.rest * 2).clamp(REST_MIN_MICROS, REST_MAX_MICROS);
        }
    }

    fn faster(&mut self) {
        if self.rest > 0 {
            // By less than it is slowed down by, so that it stays near the pace at which few wait too long.
            self.rest = if self.rest > REST_MIN_MICROS { self.rest - self.rest / 4 } else { 0 };
        } else {
            self.piece = (self.piece + self.piece.div_ceil(4)).min(self.fitting()).max(PIECE_MIN);
        }
    }
}

#[cfg(test)]
mod tests;
