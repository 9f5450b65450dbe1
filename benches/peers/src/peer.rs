//! What a set-reconciler has to do here, and what is counted while it does.
//!
//! The reconcilers themselves are in [`crate::peers`]; which cases are run is left to [`crate::case`].

use std::time::Duration;

use cpu_time::ThreadTime;

use crate::workload::{Id, Record};

/// A reconciler with its two sides, fresh from [`crate::peers::Kind::new`].
///
/// What every peer needs alike and could keep, the hash of each record, is ready before `build`; so it is in no figure.
pub trait Peer {
    /// Builds both sides from their records.
    fn build(&mut self);

    /// Runs one exchange until both sides know what to send; leaves both sides as they were if it `repeats`.
    fn reconcile(&mut self) -> Outcome;

    /// Whether an exchange can run again over the same differences.
    fn repeats(&self) -> bool {
        true
    }

    /// Writes a new version of a record on side A; returns the CPU time, without hashing the record.
    fn update(&mut self, old: &Record, new: &Record) -> Duration;
}

/// What one exchange came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Bytes both ways except records: hellos, hashes, sketches, ids asked for, and whatever ends the exchange.
    pub metadata: u64,
    /// One-way flights of messages until both sides knew what to send; if nothing is, until A knew so.
    pub flights: u32,
    /// The ids of the records that A and B would send, in any order.
    pub sends: [Vec<Id>; 2],
    /// CPU time of both sides.
    pub cpu: Duration,
}

/// Adds up the CPU time of this thread while it runs.
#[derive(Debug, Default)]
pub struct Stopwatch {
    total: Duration,
}

impl Stopwatch {
    /// Does something and counts its time.
    pub fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = ThreadTime::now();
        let result = work();
        self.total += start.elapsed();
        result
    }

    /// The time counted so far.
    pub fn total(&self) -> Duration {
        self.total
    }
}

/// Counts what goes over the line.
///
/// Flights are counted from the outside: bytes that follow bytes of the same direction belong to the same flight.
#[derive(Debug, Default)]
pub struct Line {
    bytes: u64,
    flights: u32,
    last: Option<usize>,
}

impl Line {
    /// `side` (0 is A) sends so many bytes; none is no message.
    pub fn send(&mut self, side: usize, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.bytes += bytes as u64;
        self.close(side);
    }

    /// `side` says nothing more, which the other sees by the closing of the stream: a flight without bytes.
    pub fn close(&mut self, side: usize) {
        if self.last != Some(side) {
            self.flights += 1;
            self.last = Some(side);
        }
    }

    /// Bytes both ways.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Flights so far.
    pub fn flights(&self) -> u32 {
        self.flights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_adds_up_bytes_and_counts_turns() {
        let mut line = Line::default();
        for (side, bytes) in [(0, 10), (0, 5), (1, 0), (0, 1), (1, 7), (0, 2), (0, 0)] {
            line.send(side, bytes);
        }
        assert_eq!((line.bytes(), line.flights()), (25, 3));
        line.close(0);
        assert_eq!((line.bytes(), line.flights()), (25, 3));
        line.close(1);
        assert_eq!((line.bytes(), line.flights()), (25, 4));
    }

    #[test]
    fn a_stopwatch_counts_only_what_it_is_given() {
        let mut watch = Stopwatch::default();
        let spin = |n: u64| (0..n).fold(1u64, |x, i| std::hint::black_box(x.wrapping_mul(i | 1)));
        watch.time(|| spin(1000));
        let before = watch.total();
        spin(1_000_000);
        assert_eq!(watch.total(), before);
        watch.time(|| spin(1_000_000));
        assert!(watch.total() > before);
    }
}
