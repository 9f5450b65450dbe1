//! Sessions give way to clients: their writes come in pieces with rests, by the core's throttle, and none while the engine has
//! yet to catch up with what was written.
//!
//! How large a piece and how long a rest is, is decided there; that a client's commit goes first is for [`super::commit`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reknit_core::brakes::Losses;
use reknit_core::throttle::{PIECE_MIN, Throttle};

use super::commit::{hand_in, submit};
use super::sketches::{Asked, fold_due};
use super::write::{Done, Write};
use super::{Inner, Store, StoreError};
use crate::store::Durability;
use crate::store::engine::Engine;

/// A client is beside a session until its newest commit is over for so many times as long as it took.
const ALONE_AFTER_COMMITS: u64 = 10;
/// And for so many microseconds: a rest within a session is shorter.
const ALONE_AFTER_MICROS: u64 = 50_000;
/// How often a session looks whether the engine has caught up.
const LOOKS_EVERY: Duration = Duration::from_millis(5);
/// How often it does so for what it was handed at once before it goes on all the same, half a minute: a peer waits for that.
const LOOKS_MAX: u32 = 6_000;

/// How the sessions of a store give way now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivesWay {
    /// Records that one commit of a session may hold.
    pub piece: usize,
    /// How long it rests after so many.
    pub rest: Duration,
}

/// A clock that only goes forward, in microseconds since whenever.
pub(super) type Micros = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's.
pub(super) fn steady() -> Micros {
    let began = Instant::now();
    Arc::new(move || u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// The throttle of one store, with a clock.
pub(super) struct GivingWay {
    /// Microseconds that only go forward.
    clock: Micros,
    throttle: Mutex<Throttle>,
    /// When the newest commit of a session began and ended, in microseconds; one that goes on has not ended.
    session: (AtomicU64, AtomicU64),
}

impl GivingWay {
    pub(super) fn new(clock: Micros) -> GivingWay {
        GivingWay { clock, throttle: Mutex::default(), session: (AtomicU64::new(0), AtomicU64::new(0)) }
    }

    fn now(&self) -> u64 {
        (self.clock)()
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a commit of a session was under way since, or not long before.
    fn beside(&self, since: u64) -> bool {
        let (began, ended) = (self.session.0.load(Ordering::Relaxed), self.session.1.load(Ordering::Relaxed));
        let lasts = (ended.saturating_sub(began) * ALONE_AFTER_COMMITS).max(ALONE_AFTER_MICROS);
        began > ended || ended > 0 && since < ended + lasts
    }

    /// Waits while clients write and the engine is behind, as long as there are looks left.
    fn catch_up(&self, engine: &dyn Engine, looks: &mut u32) {
        while *looks > 0 && self.throttle().gives_way(self.now()).is_some() && engine.behind() {
            *looks -= 1;
            std::thread::sleep(LOOKS_EVERY);
        }
    }
}

impl Store {
    /// How sessions give way to this store's clients now; none while no client writes, or if they do not
    /// ([`super::Options::gives_way`]).
    #[must_use]
    pub fn gives_way(&self) -> Option<GivesWay> {
        let giving = self.inner.giving_way.as_ref()?;
        let (piece, rest) = giving.throttle().gives_way(giving.now())?;
        Some(GivesWay { piece, rest: Duration::from_micros(rest) })
    }
}

/// Hands in what a client wants written, and notes how long it waited.
pub(super) fn submit_first(store: &Inner, writes: Vec<Write>, durability: Durability) -> Result<Done, StoreError> {
    let Some(giving) = &store.giving_way else { return submit(store, writes, durability) };
    let (began, few) = (giving.now(), writes.len() < PIECE_MIN);
    let done = hand_in(store, writes, durability);
    let (now, beside) = (giving.now(), giving.beside(began));
    // A client that writes much at once waits for itself.
    if few && done.is_ok() {
        giving.throttle().waited(now - began, beside, now);
    }
    // Others do not wait for that.
    fold_due(store, if beside { Asked::Hurried } else { Asked::Any });
    done
}

/// Hands in what a session wants written, in pieces; the answers are put together. Pieces before one that failed are applied.
pub(super) fn submit_pieces(store: &Inner, writes: Vec<Write>, durability: Durability) -> Result<Done, StoreError> {
    let Some(giving) = &store.giving_way else { return submit(store, writes, durability) };
    let (mut left, mut looks) = (writes, LOOKS_MAX);
    let mut all = Done { commit: 0, fates: Vec::with_capacity(left.len()), losses: Losses::default() };
    loop {
        giving.catch_up(&*store.engine, &mut looks);
        let began = giving.now();
        let records = giving.throttle().piece(began).min(left.len());
        let after = left.split_off(records);
        giving.session.0.store(began, Ordering::Relaxed);
        let done = hand_in(store, left, durability);
        let now = giving.now();
        // Whoever writes meanwhile is beside it too.
        fold_due(store, Asked::Any);
        giving.session.1.store(giving.now().max(began + 1), Ordering::Relaxed);
        let Done { commit, fates, losses } = done?;
        all.fates.extend(fates);
        all = Done { commit, losses: all.losses.and(losses), ..all };
        let rest = giving.throttle().wrote(records, now - began, now);
        if rest > 0 {
            std::thread::sleep(Duration::from_micros(rest));
        }
        if after.is_empty() {
            return Ok(all);
        }
        left = after;
    }
}
