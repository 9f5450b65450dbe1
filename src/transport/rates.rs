//! How fast sessions go: bytes both ways and records read, each held to a rate for each peer.
//!
//! A rate is a peer's, however many sessions there are with it and whoever opened them. What slows down for a store's own
//! clients is the store's concern.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::PeerId;

/// Bytes in a second that can be told at least: with fewer a frame would take longer than a session may be silent.
pub const BYTES_MIN: u32 = 16 << 10;

/// What the sessions with one peer may take in a second, after a first second for which as much is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Bytes of messages and packed records, both ways together; at least [`BYTES_MIN`] are taken.
    pub bytes: Option<NonZeroU32>,
    /// Records that are read from a store to be compared or sent.
    pub records: Option<NonZeroU32>,
}

/// The rates of all peers.
#[derive(Debug, Default)]
pub struct RateLimits {
    told: Mutex<Told>,
    /// Those that hold too.
    beside: Option<Arc<RateLimits>>,
    /// Which keys are one peer.
    lines: OnceLock<Line>,
}

/// All keys of the peer that a key stands for, the newest first.
#[derive(Clone)]
struct Line(Arc<dyn Fn(PeerId) -> Vec<PeerId> + Send + Sync>);

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

#[derive(Debug, Default)]
struct Told {
    usual: Rates,
    of: BTreeMap<PeerId, Rates>,
    /// Limits that sessions share.
    shared: BTreeMap<PeerId, Weak<Limits>>,
}

impl Told {
    /// Whether any rate is.
    fn any(&self) -> bool {
        self.usual != Rates::default() || !self.of.is_empty()
    }
}

#[derive(Debug)]
struct Limits {
    bytes: Option<Limit>,
    records: Option<Limit>,
}

#[derive(Debug)]
struct Limit {
    limiter: DefaultDirectRateLimiter,
    at_once: u32,
}

/// What the sessions with one peer keep to; nothing, unless it is told otherwise.
#[derive(Clone, Debug, Default)]
pub struct RateLimit(Vec<Arc<Limits>>);

impl RateLimits {
    /// These for all peers, save for those that have their own.
    pub fn new(usual: Rates, of: BTreeMap<PeerId, Rates>) -> RateLimits {
        let told = Mutex::new(Told { usual, of, shared: BTreeMap::new() });
        RateLimits { told, beside: None, lines: OnceLock::new() }
    }

    /// The same with these rates too, for all peers together with whoever shares them.
    #[must_use]
    pub fn and(self: &Arc<RateLimits>, usual: Rates) -> RateLimits {
        RateLimits { beside: Some(Arc::clone(self)), ..RateLimits::new(usual, BTreeMap::new()) }
    }

    /// Takes other rates; sessions under way keep theirs.
    pub fn set(&self, usual: Rates, of: BTreeMap<PeerId, Rates>) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Told { usual, of, shared: BTreeMap::new() };
    }

    /// Asks, where rates are told, which keys are one peer, the newest first: the rates of any of them are the
    /// rates of all, the newest before the others. It is asked at each connection; whoever was told first is.
    pub fn by_lines(&self, line: impl Fn(PeerId) -> Vec<PeerId> + Send + Sync + 'static) {
        let line = Line(Arc::new(line));
        self.beside.iter().for_each(|beside| drop(beside.lines.set(line.clone())));
        let _ = self.lines.set(line);
    }

    /// What sessions with a peer keep to.
    pub fn of(&self, peer: PeerId) -> RateLimit {
        let mut rate_limit = self.beside.as_ref().map(|beside| beside.of(peer)).unwrap_or_default();
        let any = self.told.lock().unwrap_or_else(PoisonError::into_inner).any();
        let line = self.lines.get().filter(|_| any).map(|line| line.0(peer)).unwrap_or_default();
        let peer = line.first().copied().unwrap_or(peer);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let own = std::iter::once(&peer).chain(&line).find_map(|key| told.of.get(key));
        let rates = own.copied().unwrap_or(told.usual);
        if rates == Rates::default() {
            return rate_limit;
        }
        let limits = told.shared.get(&peer).and_then(Weak::upgrade).unwrap_or_else(|| {
            let limits = Arc::new(Limits::new(rates));
            told.shared.retain(|_, limits| limits.strong_count() > 0);
            told.shared.insert(peer, Arc::downgrade(&limits));
            limits
        });
        rate_limit.0.push(limits);
        rate_limit
    }
}

impl RateLimit {
    /// Waits until so many bytes may pass. Dropping the future gives back nothing that has passed.
    pub async fn bytes(&self, bytes: usize) {
        for limit in self.0.iter().filter_map(|limits| limits.bytes.as_ref()) {
            limit.pass(bytes).await;
        }
    }

    /// Waits until so many records may be read.
    pub async fn records(&self, records: usize) {
        for limit in self.0.iter().filter_map(|limits| limits.records.as_ref()) {
            limit.pass(records).await;
        }
    }
}

impl Limits {
    fn new(rates: Rates) -> Limits {
        let limit =
            |rate: NonZeroU32| Limit { limiter: RateLimiter::direct(Quota::per_second(rate)), at_once: rate.get() };
        let bytes = rates.bytes.map(|bytes| bytes.max(NonZeroU32::MIN.saturating_add(BYTES_MIN - 1)));
        Limits { bytes: bytes.map(limit), records: rates.records.map(limit) }
    }
}

impl Limit {
    async fn pass(&self, many: usize) {
        let mut left = u32::try_from(many).unwrap_or(u32::MAX);
        while let Some(next) = NonZeroU32::new(left.min(self.at_once)) {
            match self.limiter.check_n(next) {
                Ok(Ok(())) => left -= next.get(),
                Ok(Err(later)) => tokio::time::sleep(later.wait_time_from(DefaultClock::default().now())).await,
                // No more than a second's is ever asked for at once.
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn rates(bytes: u32, records: u32) -> Rates {
        Rates { bytes: NonZeroU32::new(bytes), records: NonZeroU32::new(records) }
    }

    fn shared(a: &RateLimit, b: &RateLimit) -> bool {
        a.0.iter().zip(&b.0).all(|(a, b)| Arc::ptr_eq(a, b)) && a.0.len() == b.0.len()
    }

    #[test]
    fn sessions_with_a_peer_share_its_rates_and_others_have_theirs() {
        let [one, two] = [1, 2].map(|n| PeerId([n; 32]));
        let rate_limits = Arc::new(RateLimits::new(Rates::default(), [(one, rates(1 << 20, 0))].into()));
        assert!(rate_limits.of(two).0.is_empty(), "no rate was told");
        let of_one = rate_limits.of(one);
        assert!(shared(&of_one, &rate_limits.of(one)) && of_one.0.len() == 1);
        let both = rate_limits.and(rates(0, 5));
        assert_eq!((both.of(one).0.len(), both.of(two).0.len()), (2, 1));
        assert!(Arc::ptr_eq(&both.of(one).0[0], &of_one.0[0]));
        rate_limits.set(rates(1 << 20, 0), BTreeMap::new());
        assert_eq!((rate_limits.of(one).0.len(), rate_limits.of(two).0.len()), (1, 1));
        assert!(!shared(&rate_limits.of(one), &of_one), "sessions under way keep theirs");
    }

    #[test]
    fn all_keys_of_a_peer_share_the_rates_of_any_of_them() {
        let [old, new, other] = [1, 2, 3].map(|n| PeerId([n; 32]));
        let rate_limits = Arc::new(RateLimits::new(Rates::default(), [(old, rates(1 << 20, 0))].into()));
        assert!(rate_limits.of(new).0.is_empty(), "nobody knows that it is the same peer");
        let both = rate_limits.and(rates(0, 5));
        both.by_lines(move |key| if key == other { vec![other] } else { vec![new, old] });
        let of_new = both.of(new);
        assert!(shared(&of_new, &both.of(old)) && of_new.0.len() == 2);
        assert_eq!(both.of(other).0.len(), 1);
    }

    #[test]
    fn no_more_passes_than_may() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let rate_limits = RateLimits::new(rates(1, 400), BTreeMap::new());
        runtime.block_on(async {
            let rate_limit = rate_limits.of(PeerId([1; 32]));
            let began = Instant::now();
            // A second's is ready, what is above waits: half a second here, of whichever is told.
            rate_limit.records(600).await;
            assert!(began.elapsed() >= Duration::from_millis(499), "{:?}", began.elapsed());
            rate_limit.bytes(BYTES_MIN as usize + BYTES_MIN as usize / 4).await;
            assert!(began.elapsed() >= Duration::from_millis(748), "{:?}", began.elapsed());
        });
    }
}
