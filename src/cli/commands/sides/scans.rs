//! What reading a table whole will cost, told before it is done, or in its stead where that is not wanted.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reknit_core::agenda::FreshIndex;

use super::tables;
use crate::cli::args::PaceFlags;
use crate::cli::env::Env;
use crate::cli::progress::Progress;
use crate::cli::units::{show_bytes, show_count, show_duration};
use crate::cli::{CliError, Exit};
use crate::clock::now_ms;
use crate::store::linked::{Cost, Followed, Linked, Pace, Rate, Scanned, Shape, Table};
use crate::store::{ImportProgress, StoreError};

/// What is read in a second where it is not known from an earlier time, of rows of about so many bytes.
const ROWS_A_SECOND: u64 = 150_000;
const BYTES_A_ROW: u64 = 200;
/// Tables that take longer are told of each time; one that has no index yet is told of always.
const WORTH_TELLING: Duration = Duration::from_secs(60);

/// How often it is looked whether what is read is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What reading a table whole takes, as far as it is known.
pub(crate) struct Expected {
    rows: Option<u64>,
    bytes: Option<u64>,
    pub(crate) time: Option<Duration>,
    /// How that is known.
    known: By,
}

/// What tells how long reading takes.
enum By {
    /// What is usual.
    Usual,
    /// How long it took last.
    Last,
    /// The rate that it is held to.
    Rate,
}

impl Expected {
    /// From what the database says of a table, and what its index knows of the last time, if there was one.
    pub(crate) fn of(cost: &Cost, last: Option<Scanned>) -> Expected {
        let rows = cost.rows.or(last.map(|last| last.rows)).filter(|rows| *rows > 0);
        let count = rows.or(cost.bytes.map(|bytes| bytes / BYTES_A_ROW));
        let time = count.map(|count| match last.filter(|last| last.rows > 0) {
            Some(last) => last.time.mul_f64(count as f64 / last.rows as f64),
            None => Duration::from_millis(count.saturating_mul(1_000) / ROWS_A_SECOND),
        });
        Expected { rows, bytes: cost.bytes, time, known: if last.is_some() { By::Last } else { By::Usual } }
    }

    /// The same where no more is read in a second.
    fn held_to(self, rate: Option<Rate>) -> Expected {
        let least = rate.and_then(|rate| {
            let (all, most) = match rate {
                Rate::Rows(most) => (self.rows?, most),
                Rate::Bytes(most) => (self.bytes?, most),
            };
            Some(Duration::from_secs(all / most.max(1)))
        });
        match least.filter(|least| self.time.is_none_or(|time| time < *least)) {
            Some(least) => Expected { time: Some(least), known: By::Rate, ..self },
            None => self,
        }
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.rows {
            Some(rows) => write!(f, "about {} rows", show_count(rows))?,
            None => f.write_str("nobody has counted how many rows")?,
        }
        if let Some(bytes) = self.bytes {
            write!(f, ", {}", show_bytes(bytes))?;
        }
        match self.time {
            None => Ok(()),
            Some(time) => {
                match time.as_secs() {
                    0 => f.write_str(", under a second")?,
                    _ => write!(f, ", about {}", show_duration(time))?,
                }
                match self.known {
                    By::Last => f.write_str(", as it took last"),
                    By::Usual => write!(f, " at {} rows a second", show_count(ROWS_A_SECOND)),
                    By::Rate => f.write_str(" at --max-rate"),
                }
            }
        }
    }
}

/// How fresh the index of a table is, for a daemon that wants to know.
pub(crate) struct Fresh(FreshIndex);

impl Fresh {
    /// Looks at what waits in the feed, before that is read; nobody else is to be told of it.
    pub(crate) fn before(env: &Env, linked: &Linked) -> Option<Fresh> {
        env.followed.as_ref()?;
        let feed = linked.feed_state().ok().flatten().and_then(|state| linked.feed(state.kind).ok());
        // What cannot be told is found out, and said, when it is read.
        let waiting = feed.and_then(|feed| feed.waiting().ok()).unwrap_or_default();
        let (index, table) = (linked.name().to_string(), linked.table().place().to_string());
        Some(Fresh(FreshIndex { index, table, at: 0, waited: waiting.changes, kept_bytes: waiting.kept_bytes }))
    }

    /// The index tells what the table holds.
    pub(crate) fn note(self, env: &mut Env) {
        env.followed.iter_mut().for_each(|all| all.push(FreshIndex { at: now_ms(), ..self.0.clone() }));
    }
}

/// One table that would be read whole.
pub(crate) struct Needed {
    place: String,
    why: String,
    expected: Expected,
    /// Whether nothing is known of it yet.
    first: bool,
}

impl Needed {
    /// A table that has no index yet.
    pub(crate) fn first(table: &dyn Table, shape: &Shape, rate: Option<Rate>) -> Result<Needed, CliError> {
        let expected = Expected::of(&table.cost(shape)?, None).held_to(rate);
        Ok(Needed { place: table.place().into(), why: "it has no index yet".into(), expected, first: true })
    }

    /// A table with an index, if following that needs it read whole.
    pub(crate) fn of(linked: &Linked, rate: Option<Rate>) -> Result<Option<Needed>, CliError> {
        let Some(why) = linked.needs_scan()? else { return Ok(None) };
        let last = linked.last_scan()?;
        let expected = Expected::of(&linked.table().cost(linked.shape())?, last).held_to(rate);
        Ok(Some(Needed { place: linked.table().place().into(), why, expected, first: last.is_none() }))
    }

    /// Says what is going to be read, if that is worth a word.
    pub(crate) fn tell(&self, env: &mut Env) {
        let long = self.expected.time.is_some_and(|time| time >= WORTH_TELLING);
        if !env.global.quiet && (self.first || long) {
            let _ = writeln!(env.err, "reknit: {} is scanned, since {}: {}", self.place, self.why, self.expected);
        }
    }
}

/// Refuses to read tables whole, with what that would cost.
pub(crate) fn refused(needed: &[Needed]) -> CliError {
    let one =
        |needed: &Needed| format!("{} would be read whole, since {}: {}", needed.place, needed.why, needed.expected);
    let all: Vec<String> = needed.iter().map(one).collect();
    let message = format!(
        "{}; nothing was compared. Leave out --no-scan, or let the table be followed: reknit index build TABLE --feed \
         triggers|slot",
        all.join("; ")
    );
    CliError { exit: Exit::Undetermined, ..CliError::new("database.no-scan", message) }
}

/// Of two sides, the tables that would be read whole for a comparison; makes no index.
pub(crate) fn needed(
    env: &Env,
    sides: [(&str, &Shape, &dyn Table); 2],
    pace: &PaceFlags,
) -> Result<Vec<Needed>, CliError> {
    let (mut needed, rate) = (Vec::new(), pace.pace()?.rate);
    for (typed, shape, table) in sides {
        match tables::known(env, typed, table, shape)? {
            None => needed.push(Needed::first(table, shape, rate)?),
            Some(linked) => needed.extend(Needed::of(&linked, rate)?),
        }
    }
    Ok(needed)
}

/// Refuses brakes that are about a server where none of the sides has one.
pub(crate) fn brakes(pace: &PaceFlags, sides: &[&str]) -> Result<(), CliError> {
    let asked = [("--max-active", pace.max_active.is_some()), ("--max-replica-lag", pace.max_replica_lag.is_some())];
    let asked: Vec<&str> = asked.iter().filter(|(_, asked)| *asked).map(|(flag, _)| *flag).collect();
    if asked.is_empty() || sides.iter().any(|typed| tables::is_postgres(typed)) {
        return Ok(());
    }
    let message = format!(
        "{}: SQLite and files have no server that could tell; --max-load waits while this machine is busy, --chunk-time reads \
         in pieces between which others get at the database; nothing was read",
        asked.join(", ")
    );
    Err(CliError::new("usage.pace", message))
}

/// Which of these tables, each as it was typed, is the one of which `--scan-from` names a replica, and where that is. A
/// database that it names holds the table under the name that it has at its own place.
pub(crate) fn replicated(
    env: &Env,
    pace: &PaceFlags,
    all: &[(&str, &Linked)],
) -> Result<Option<(usize, String)>, CliError> {
    let Some(from) = &pace.scan_from else { return Ok(None) };
    let mut lacks = None;
    for (nth, (typed, linked)) in all.iter().enumerate() {
        let from = match (tables::is_database(from), tables::table_of(typed)) {
            (false, _) => from.clone(),
            (true, Some(name)) => tables::with_table(from, name),
            (true, None) => continue,
        };
        let there = match tables::table(env, &from) {
            Ok(there) => there.standing()?.identity,
            // It may be a replica of the other one's.
            Err(error) => {
                lacks.get_or_insert(error);
                continue;
            }
        };
        if !there.is_empty() && linked.table().standing()?.identity == there {
            return Ok(Some((nth, from)));
        }
    }
    if let Some(error) = lacks {
        return Err(error);
    }
    let place = tables::shown(from);
    let message = format!("--scan-from {place}: it is a replica of no table that is to be read; nothing was read");
    Err(CliError::new("database.no-replica", message))
}

/// What is heard of a table that is being read.
enum Heard {
    Progress(ImportProgress),
    Told(String),
}

/// Makes an index tell what its table holds now; read from a replica, where that is to be read whole.
pub(crate) fn follow(
    env: &mut Env,
    linked: &Linked,
    flags: &PaceFlags,
    from: Option<&str>,
) -> Result<Followed, CliError> {
    let outgrown = linked.outgrown()?.is_some();
    let fresh = Fresh::before(env, linked);
    let pace = flags.pace()?;
    let needed = Needed::of(linked, pace.rate)?;
    if let Some(needed) = &needed {
        needed.tell(env);
    }
    // As many as there were, about: counting them would be reading them.
    let counted = needed.and_then(|needed| needed.expected.rows);
    let about = Some(linked.rows()).filter(|rows| *rows > 0).or(counted);
    let replica = from.map(|from| tables::table(env, from)).transpose()?;
    let place = linked.table().place();
    let (told, words) = channel();
    let pace = Pace { pause_file: flags.pause_file.as_ref().map(|file| env.path(file)), ..pace };
    let (stopped, left) = (Arc::new(AtomicBool::new(false)), env.left.clone());
    let pace = Pace { stopped: Some(stopped.clone()), told: Some(Mutex::new(told)), ..pace };
    let linked = linked.clone().paced(pace, replica);
    let read = std::thread::scope(|scope| {
        let (sender, heard) = channel();
        let progress = sender.clone();
        // Ends when nobody is left who could say something.
        scope.spawn(move || words.into_iter().try_for_each(|word| sender.send(Heard::Told(word))));
        let reading = scope.spawn(move || {
            linked.follow_table(&mut |so_far| {
                let _ = progress.send(Heard::Progress(so_far));
            })
        });
        let mut progress = Progress::new(env, "reading rows");
        loop {
            // Whoever waited for the command has gone, or its run is to end.
            stopped.fetch_or(*left.borrow(), Ordering::Relaxed);
            let heard = match heard.recv_timeout(LOOK_EVERY) {
                Ok(heard) => heard,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match heard {
                Heard::Told(what) => progress.say(&format!("reknit: {place} {what}")),
                Heard::Progress(so_far) if so_far.written == 0 => progress.at(so_far.read, about),
                Heard::Progress(so_far) => {
                    progress.turn_to("indexing rows");
                    progress.at(so_far.written, Some(so_far.read));
                }
            }
        }
        drop(progress);
        reading.join().unwrap_or_else(|_| Err(StoreError::Panicked("reading a table".into())))
    });
    match read {
        Ok(followed) => {
            fresh.into_iter().for_each(|fresh| fresh.note(env));
            if let Some(why) = &followed.stale {
                let gap = if outgrown { "" } else { ", its feed had a gap" };
                let _ = writeln!(env.err, "reknit: {place} was read whole{gap}: {why}");
            }
            Ok(followed)
        }
        Err(StoreError::Duplicate { key, first, second }) => {
            let message = format!(
                "{place}: two rows mean the same key {key}, so they cannot be told apart{}; nothing was compared",
                // The rows of a file have an order that it shows.
                if tables::is_file(place) { format!(": rows {first} and {second} of the file") } else { String::new() }
            );
            Err(CliError { exit: Exit::Refused, ..CliError::new("database.collapse", message) })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_makes_reading_take_longer_and_never_shorter() {
        let cost = Cost { sql: String::new(), rows: Some(600_000), bytes: Some(60_000_000) };
        let told = |rate| Expected::of(&cost, None).held_to(rate).to_string();
        assert!(told(None).ends_with("about 4.0 s at 150,000 rows a second"), "{}", told(None));
        assert_eq!(told(Some(Rate::Rows(1_000_000))), told(None));
        for rate in [Rate::Rows(10_000), Rate::Bytes(1_000_000)] {
            assert!(told(Some(rate)).ends_with("about 1 m at --max-rate"), "{}", told(Some(rate)));
        }
    }
}
