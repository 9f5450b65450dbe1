//! What can be typed of how tables are read whole.
//!
//! What it means is said in [`crate::store::linked::Pace`].

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::cli::CliError;
use crate::cli::units::{parse_bytes, parse_duration};
use crate::store::linked::{Pace, Rate, host_load};

/// How tables are read whole: without more haste, load or time in one transaction than is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Of reading tables whole")]
pub(crate) struct PaceFlags {
    /// No transaction that reads lasts longer; a table that takes more is read in slices, in the order of its key
    /// [default: 15m]
    #[arg(long, env = "REKNIT_MAX_SNAPSHOT", value_name = "TIME")]
    pub(crate) max_snapshot: Option<String>,
    /// About how long one slice is read, where a table is read in slices [default: 500ms]
    #[arg(long, env = "REKNIT_CHUNK_TIME", value_name = "TIME")]
    pub(crate) chunk_time: Option<String>,
    /// Read a large table by so many connections at once, 1 to 16, which see one snapshot (PostgreSQL 14 and later)
    /// [default: half of this machine's processors, at most 4]
    #[arg(long, env = "REKNIT_READERS", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) readers: Option<u8>,
    /// Read at most so many rows (20000), or bytes (5MB), of a table in a second
    #[arg(long, env = "REKNIT_MAX_RATE", value_name = "ROWS|BYTES")]
    pub(crate) max_rate: Option<String>,
    /// Wait for as long as this file exists
    #[arg(long, env = "REKNIT_PAUSE_FILE", value_name = "FILE")]
    pub(crate) pause_file: Option<PathBuf>,
    /// Wait while more than so many other connections work on the server (PostgreSQL)
    #[arg(long, env = "REKNIT_MAX_ACTIVE", value_name = "N")]
    pub(crate) max_active: Option<u32>,
    /// Wait while a replica of the server is further behind than this (PostgreSQL)
    #[arg(long, env = "REKNIT_MAX_REPLICA_LAG", value_name = "BYTES")]
    pub(crate) max_replica_lag: Option<String>,
    /// Wait while the load of this machine, its average over a minute, is over this
    #[arg(long, env = "REKNIT_MAX_LOAD", value_name = "LOAD")]
    pub(crate) max_load: Option<String>,
    /// Read the same table on this replica, a database or its table there, once it has come as far as the primary
    #[arg(long, env = "REKNIT_SCAN_FROM", value_name = "ADDRESS")]
    pub(crate) scan_from: Option<String>,
}

impl PaceFlags {
    /// What was typed, as whoever reads takes it.
    pub(crate) fn pace(&self) -> Result<Pace, CliError> {
        let wrong = |message: String| CliError::new("usage.pace", message);
        let time = |typed: &Option<String>, flag: &str| match typed.as_deref().map(parse_duration).transpose()? {
            Some(Duration::ZERO) => Err(wrong(format!("{flag} takes a time that is not zero, as in {flag} 500ms"))),
            time => Ok(time),
        };
        let usual = Pace::default();
        Ok(Pace {
            max_snapshot: time(&self.max_snapshot, "--max-snapshot")?.unwrap_or(usual.max_snapshot),
            chunk: time(&self.chunk_time, "--chunk-time")?,
            readers: self.readers.map_or_else(usual_readers, usize::from),
            rate: self.max_rate.as_deref().map(rate).transpose()?,
            pause_file: self.pause_file.clone(),
            max_active: self.max_active,
            max_replica_lag: self.max_replica_lag.as_deref().map(parse_bytes).transpose()?,
            max_load: self.max_load.as_deref().map(load).transpose()?,
            stopped: None,
            told: None,
        })
    }
}

/// The server, which may be on this machine, has as much to do as those who read from it.
fn usual_readers() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).clamp(1, 4)
}

/// A load, in hundredths; only where the system tells its own.
fn load(typed: &str) -> Result<u32, CliError> {
    let load = typed.parse::<f64>().ok().filter(|load| (0.01..=1e6).contains(load));
    let load = load.ok_or_else(|| {
        CliError::new(
            "usage.pace",
            format!("--max-load takes a load as `uptime` tells it, as in --max-load 1.5, not {typed}"),
        )
    })?;
    host_load().map_err(|error| CliError::new("usage.pace", format!("--max-load: {error}; nothing was read")))?;
    Ok((load * 100.0).round() as u32)
}

/// A number of rows, or of bytes with their unit.
fn rate(typed: &str) -> Result<Rate, CliError> {
    let rate = match typed.parse() {
        Ok(rows) => Rate::Rows(rows),
        Err(_) => Rate::Bytes(parse_bytes(typed)?),
    };
    match rate {
        Rate::Rows(0) | Rate::Bytes(0) => {
            let message = "--max-rate takes rows or bytes a second, more than none: --max-rate 20000, --max-rate 5MB";
            Err(CliError::new("usage.pace", message))
        }
        rate => Ok(rate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_taken_or_refused() {
        let flags = PaceFlags {
            max_snapshot: Some("10s".into()),
            chunk_time: Some("100ms".into()),
            max_rate: Some("20000".into()),
            max_replica_lag: Some("1MB".into()),
            ..PaceFlags::default()
        };
        let pace = flags.pace().expect("a pace");
        assert_eq!((pace.max_snapshot, pace.chunk), (Duration::from_secs(10), Some(Duration::from_millis(100))));
        assert_eq!((pace.rate, pace.max_replica_lag), (Some(Rate::Rows(20_000)), Some(1_000_000)));
        let bytes = PaceFlags { max_rate: Some("5MB".into()), ..PaceFlags::default() };
        assert_eq!(bytes.pace().expect("a pace").rate, Some(Rate::Bytes(5_000_000)));
        for wrong in [
            PaceFlags { max_rate: Some("0".into()), ..PaceFlags::default() },
            PaceFlags { max_rate: Some("fast".into()), ..PaceFlags::default() },
            PaceFlags { chunk_time: Some("0s".into()), ..PaceFlags::default() },
            PaceFlags { max_load: Some("0".into()), ..PaceFlags::default() },
            PaceFlags { max_load: Some("NaN".into()), ..PaceFlags::default() },
        ] {
            assert!(wrong.pace().is_err(), "{wrong:?}");
        }
    }
}
