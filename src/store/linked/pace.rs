//! How fast, and in what pieces, tables are read whole: slices sized by time, a bound on rows or bytes a second, and reasons to
//! wait. What is read, and how a slice is had of a database, is for the adapters.

// Only PostgreSQL is read in slices that are sized by time.
#![cfg_attr(not(feature = "linked-postgres"), allow(dead_code))]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Rows, StoreError};

/// Rows of the first slice, and the fewest and most of any.
const FIRST_ROWS: u64 = 2_000;
const ROWS_MIN: u64 = 100;
const ROWS_MAX: u64 = 1 << 20;
/// A slice is at most so many times as large as the one before.
const GROWTH_MAX: u64 = 4;
/// How often it is looked at whether there is still a reason to wait.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Rows between two looks, of a table that is not read in slices.
const LOOK_EVERY_ROWS: u64 = 1_024;
/// Where Linux tells how loaded the machine is.
const HOST_LOAD: &str = "/proc/loadavg";

/// At most so much in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Rows.
    Rows(u64),
    /// Bytes, as they are sent or, of a file, as they are kept.
    Bytes(u64),
}

/// What reading tables whole may take of whoever has them.
#[derive(Debug)]
pub struct Pace {
    /// No transaction that reads lasts longer.
    pub max_snapshot: Duration,
    /// How long one slice is read, about; none: slices are made only where a table would take longer than a transaction may.
    pub chunk: Option<Duration>,
    /// By so many connections at most a large table is read in one go, where it can be: they see it by one snapshot.
    pub readers: usize,
    /// At most so much in a second.
    pub rate: Option<Rate>,
    /// While it exists nothing is read.
    pub pause_file: Option<PathBuf>,
    /// While more than so many other transactions are open on the server nothing is read.
    pub max_active: Option<u32>,
    /// While a replica is further behind than so many bytes nothing is read.
    pub max_replica_lag: Option<u64>,
    /// While the load of this machine (Linux's average over a minute) is over so many hundredths nothing is read.
    pub max_load: Option<u32>,
    /// Once it says so nothing more is read.
    pub stopped: Option<Arc<AtomicBool>>,
    /// Hears, in words, what is waited for, and that it goes on.
    pub told: Option<Mutex<Sender<String>>>,
}

impl Default for Pace {
    /// As fast as one connection goes, in transactions of at most fifteen minutes.
    fn default() -> Self {
        Pace {
            max_snapshot: Duration::from_secs(15 * 60),
            chunk: None,
            readers: 1,
            rate: None,
            pause_file: None,
            max_active: None,
            max_replica_lag: None,
            max_load: None,
            stopped: None,
            told: None,
        }
    }
}

/// How busy a server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Transactions of others that are open.
    pub active: u32,
    /// Bytes that the replica which is furthest behind lacks.
    pub lag: u64,
}

/// The load of this machine: how many tasks ran, or waited to run or for a disk, on average over the last minute, in hundredths.
///
/// # Errors
/// [`StoreError::Database`] where the system tells none.
pub fn host_load() -> Result<u32, StoreError> {
    let text = std::fs::read_to_string(HOST_LOAD)
        .map_err(|error| StoreError::database(HOST_LOAD, format!("this system tells no load: {error}")))?;
    let first = text.split(' ').next().and_then(|first| first.parse::<f64>().ok());
    let load = first.filter(|load| load.is_finite()).map(|load| (load * 100.0).round() as u32);
    load.ok_or_else(|| StoreError::database(HOST_LOAD, format!("no load of the system: {}", text.trim())))
}

impl Pace {
    /// How long a slice is read, if a table is to be read in slices whatever it takes.
    #[must_use]
    pub fn slice(&self) -> Option<Duration> {
        /// Where a reason to wait is named, but no time.
        const USUAL: Duration = Duration::from_millis(500);
        let waits = self.rate.is_some() || self.pause_file.is_some() || self.max_load.is_some() || self.brakes();
        self.chunk.or(waits.then_some(USUAL))
    }

    /// Whether it depends on what the server does.
    #[must_use]
    pub fn brakes(&self) -> bool {
        self.max_active.is_some() || self.max_replica_lag.is_some()
    }

    /// Waits, without a transaction, until nothing speaks against reading on.
    ///
    /// # Errors
    /// What asking for the load met; [`StoreError::Stopped`] as soon as it is.
    pub fn wait(&self, load: &mut dyn FnMut() -> Result<Load, StoreError>) -> Result<(), StoreError> {
        self.wait_on(load, &mut host_load)
    }

    fn wait_on(
        &self,
        load: &mut dyn FnMut() -> Result<Load, StoreError>,
        host: &mut dyn FnMut() -> Result<u32, StoreError>,
    ) -> Result<(), StoreError> {
        let mut last: Option<String> = None;
        loop {
            self.goes_on()?;
            let load = if self.brakes() { load()? } else { Load::default() };
            let host = if self.max_load.is_some() { host()? } else { 0 };
            let paused = self.pause_file.as_ref().is_some_and(|file| file.exists());
            let Some(why) = self.reason(load, host, paused) else { break };
            if last.is_none() {
                self.tell(format!("waits: {why}"));
            }
            last = Some(why);
            std::thread::sleep(LOOK_EVERY);
        }
        if last.is_some() {
            self.tell("goes on".into());
        }
        Ok(())
    }

    /// That nobody has stopped it.
    pub(super) fn goes_on(&self) -> Result<(), StoreError> {
        let stopped = self.stopped.as_ref().is_some_and(|stopped| stopped.load(Ordering::Relaxed));
        if stopped { Err(StoreError::Stopped) } else { Ok(()) }
    }

    /// Why nothing is to be read now, if there is a reason.
    fn reason(&self, load: Load, host: u32, paused: bool) -> Option<String> {
        if let (Some(file), true) = (&self.pause_file, paused) {
            return Some(format!("{} exists", file.display()));
        }
        if let Some(most) = self.max_load.filter(|most| host > *most) {
            let [host, most] = [host, most].map(|hundredths| f64::from(hundredths) / 100.0);
            return Some(format!("the load of this machine is {host}, --max-load {most}"));
        }
        if let Some(most) = self.max_active.filter(|most| load.active > *most) {
            return Some(format!("{} other transactions are open on the server, --max-active {most}", load.active));
        }
        let most = self.max_replica_lag.filter(|most| load.lag > *most)?;
        Some(format!("a replica is {} bytes behind, --max-replica-lag {most}", load.lag))
    }

    /// That reading a table in one go has lasted as long as a transaction may.
    pub(super) fn too_long(&self, place: &str) -> StoreError {
        let message = format!(
            "reading it in one transaction has lasted {} s, as long as --max-snapshot lets one; nothing was kept of it; \
             --chunk-time 500ms reads it in slices, or let a transaction last longer",
            self.max_snapshot.as_secs()
        );
        StoreError::database(place, message)
    }

    pub(super) fn tell(&self, what: String) {
        if let Some(told) = &self.told {
            // Whoever does not listen any more needs no words.
            let _ = told.lock().unwrap_or_else(PoisonError::into_inner).send(what);
        }
    }
}

/// The rows that the next slice is to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slices {
    time: Duration,
    rows: u64,
}

impl Slices {
    pub(super) fn new(time: Duration) -> Self {
        Slices { time, rows: FIRST_ROWS }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes in how long a slice of so many rows took.
    pub(super) fn took(&mut self, rows: u64, time: Duration) {
        let fits = rows as f64 * self.time.as_secs_f64() / time.as_secs_f64().max(1e-6);
        self.rows = (fits as u64).min(self.rows.saturating_mul(GROWTH_MAX)).clamp(ROWS_MIN, ROWS_MAX);
    }
}

/// What was read since the beginning, held to a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    began: Instant,
    rate: Option<Rate>,
    used: u64,
}

impl Held {
    pub(super) fn new(rate: Option<Rate>, now: Instant) -> Self {
        Held { began: now, rate, used: 0 }
    }

    /// Rows that may be read at once, so that a slow rate does not come in bursts.
    pub(super) fn at_once(&self, rows: u64) -> u64 {
        match self.rate {
            Some(Rate::Rows(most)) => rows.min(most.div_ceil(2)).max(1),
            _ => rows,
        }
    }

    /// Takes in what was read; how long to rest before more is.
    pub(super) fn rest(&mut self, rows: u64, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let (read, most) = match rate {
            Rate::Rows(most) => (rows, most),
            Rate::Bytes(most) => (bytes, most),
        };
        self.used = self.used.saturating_add(read);
        let due = Duration::from_secs_f64(self.used as f64 / most.max(1) as f64);
        let passed = now.duration_since(self.began);
        if passed > due + Duration::from_secs(1) {
            // What was not used is not saved up for long.
            (self.began, self.used) = (now, 0);
            return Duration::ZERO;
        }
        due.saturating_sub(passed)
    }
}

/// Rows of a table that is read in one go, held to a pace between some of them and the next.
pub(super) fn paced<'a>(rows: Rows<'a>, pace: &'a Pace) -> Rows<'a> {
    if pace.slice().is_none() {
        return rows;
    }
    let (mut held, mut read) = (Held::new(pace.rate, Instant::now()), 0_u64);
    let every = held.at_once(LOOK_EVERY_ROWS);
    Box::new(rows.map(move |row| {
        read += 1;
        if read.is_multiple_of(every) {
            pace.wait(&mut || Ok(Load::default()))?;
            std::thread::sleep(held.rest(every, 0, Instant::now()));
        }
        row
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_come_to_last_as_long_as_they_are_to() {
        let ms = Duration::from_millis;
        let mut slices = Slices::new(ms(500));
        assert_eq!(slices.rows(), FIRST_ROWS);
        slices.took(2_000, ms(10));
        assert_eq!(slices.rows(), 8_000, "not all at once");
        slices.took(8_000, ms(1_000));
        assert_eq!(slices.rows(), 4_000);
        slices.took(4_000, ms(500));
        assert_eq!(slices.rows(), 4_000);
        slices.took(4_000, ms(500_000));
        assert_eq!(slices.rows(), ROWS_MIN);
        slices.took(0, Duration::ZERO);
        assert_eq!(slices.rows(), ROWS_MIN);
    }

    #[test]
    fn a_rate_holds_over_time_and_is_not_saved_up() {
        let now = Instant::now();
        let at = |ms: u64| now + Duration::from_millis(ms);
        let mut held = Held::new(Some(Rate::Rows(1_000)), now);
        assert_eq!(held.at_once(10_000), 500);
        assert_eq!(held.rest(500, 9, at(100)), Duration::from_millis(400));
        assert_eq!(held.rest(500, 9, at(500)), Duration::from_millis(500));
        assert_eq!(held.rest(100, 9, at(60_000)), Duration::ZERO);
        assert_eq!(held.rest(500, 9, at(60_000)), Duration::from_millis(500));
        let mut held = Held::new(Some(Rate::Bytes(1_000)), now);
        assert_eq!((held.at_once(10_000), held.rest(7, 100, at(0))), (10_000, Duration::from_millis(100)));
        assert_eq!(Held::new(None, now).rest(1 << 40, 1 << 40, now), Duration::ZERO);
    }

    #[test]
    fn reasons_to_wait_are_told_in_words() {
        let pace =
            Pace { pause_file: Some("p".into()), max_active: Some(2), max_replica_lag: Some(10), ..Pace::default() };
        let reason = |active, lag, paused| pace.reason(Load { active, lag }, 0, paused).unwrap_or_default();
        assert_eq!(reason(0, 0, true), "p exists");
        assert_eq!(reason(2, 10, false), "");
        assert!(reason(3, 0, false).contains("3 other transactions"));
        assert!(reason(0, 11, false).contains("11 bytes behind"));
        assert_eq!((Pace::default().slice(), pace.slice()), (None, Some(Duration::from_millis(500))));
    }

    #[test]
    fn a_machine_that_is_loaded_is_waited_for() {
        let (told, words) = std::sync::mpsc::channel();
        let pace = Pace { max_load: Some(150), told: Some(Mutex::new(told)), ..Pace::default() };
        assert_eq!(pace.slice(), Some(Duration::from_millis(500)), "it rests between slices");
        let mut loads = [300, 151, 150].into_iter();
        let mut host = || Ok(loads.next().expect("it was looked at once too often"));
        pace.wait_on(&mut || unreachable!("the server is not asked"), &mut host).expect("waited");
        drop(pace);
        let words: Vec<String> = words.iter().collect();
        assert_eq!(words, ["waits: the load of this machine is 3, --max-load 1.5", "goes on"]);
    }
}
