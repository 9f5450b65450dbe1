//! A table read whole on a thread of its own: by one COPY from one snapshot, by several connections ([`super::readers`]), or by one
//! COPY a slice in the order of the key, so that no transaction lasts and others are let past in between.

use std::io::BufRead;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postgres::types::Type;
use postgres::{CancelToken, Client};
use reknit_core::row::{Kind, Value};

use super::super::pace::{Held, Slices};
use super::super::{Load, Pace, Page, Pages, Shape, Table};
use super::connect::{Connector, told};
use super::copied::{Cutter, Fields};
use super::decode::kind;
use super::readers::Wanted;
use super::{Postgres, encode, ident, quoted};
use crate::store::StoreError;

/// Pages that may be ahead of who takes them.
const PAGES_AHEAD: usize = 4;
/// How often whoever waits for a page looks whether it still is to: the server may have nothing to send for long.
const LOOKS_EVERY: Duration = Duration::from_millis(100);
/// Rows and bytes that are read in a second at least: a table that would take half as long as a transaction may is read in
/// slices from the start.
const ROWS_A_SECOND: u64 = 50_000;
const BYTES_A_SECOND: u64 = 10 << 20;

/// How many transactions of others are open, and how far replicas are behind, as far as anybody may know.
const LOAD: &str = "WITH here AS (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() \
                    ELSE pg_current_wal_lsn() END AS lsn) \
                    SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'virtualxid' AND mode = 'ExclusiveLock' \
                    AND pid <> pg_backend_pid()), \
                    coalesce((SELECT max(pg_wal_lsn_diff(here.lsn, far.lsn)) FROM here, (SELECT replay_lsn AS lsn \
                    FROM pg_stat_replication UNION ALL SELECT restart_lsn FROM pg_replication_slots \
                    WHERE active AND slot_type = 'physical') AS far), 0)::int8";

impl Postgres {
    /// How long a slice is to last, if the table is to be read in slices.
    pub(super) fn slice_time(&self, shape: &Shape, pace: &Pace, goes_on: bool) -> Result<Option<Duration>, StoreError> {
        /// Where only the length of the table asks for it.
        const USUAL: Duration = Duration::from_millis(500);
        // In slices a row is read once for each of its keys, so they go by the key that is compared by.
        if !shape.key_sources().eq(self.columns.key.iter().map(String::as_str)) {
            return Ok(None);
        }
        if let Some(time) = pace.slice() {
            return Ok(Some(time.min(pace.max_snapshot)));
        }
        if goes_on {
            return Ok(Some(USUAL.min(pace.max_snapshot)));
        }
        let cost = self.cost(shape)?;
        let seconds = (cost.rows.unwrap_or(0) / ROWS_A_SECOND).max(cost.bytes.unwrap_or(0) / BYTES_A_SECOND);
        Ok((seconds >= pace.max_snapshot.as_secs().div_ceil(2)).then(|| USUAL.min(pace.max_snapshot)))
    }

    pub(super) fn read_whole(&self, shape: &Shape, pace: Option<&Arc<Pace>>) -> Result<Pages<'static>, StoreError> {
        let (copy, types) = self.scan_sql(shape)?;
        let (pace, place, columns) = (pace.cloned(), self.place.clone(), types.len());
        let wanted = Wanted {
            oid: self.oid,
            table: quoted(&self.table),
            columns: self.selected(shape)?.0.join(", "),
            condition: shape.condition().to_string(),
            readers: pace.as_ref().map_or(1, |pace| pace.readers),
        };
        self.spawn((types, columns), pace.clone(), move |reading| {
            let mut client = reading.connect()?;
            let began = Instant::now();
            let still = || match &pace {
                Some(pace) if began.elapsed() > pace.max_snapshot => Err(pace.too_long(&place)),
                _ => Ok(()),
            };
            if reading.read_apart(&mut client, &wanted, &still)? {
                return Ok(());
            }
            reading.copy(&mut client, &copy, &mut || still(), &mut |_, _| None).map(drop)
        })
    }

    pub(super) fn read_sliced(
        &self,
        shape: &Shape,
        pace: &Arc<Pace>,
        time: Duration,
        after: Option<&[u8]>,
    ) -> Result<Pages<'static>, StoreError> {
        let (mut wanted, mut types) = self.selected(shape)?;
        let columns = types.len();
        // Where a slice ends is read from the key's own columns, as they are.
        let (mut names, mut spelled) = (Vec::new(), Vec::new());
        for name in &self.columns.key {
            let (of, sql) = self.type_of(name)?;
            let cast = if kind(of) == Kind::Other { "::text" } else { "" };
            wanted.push(format!("t.{}{cast}", ident(name)));
            // Not the column of the same name that is selected, which may be cast.
            names.push(format!("t.{}", ident(name)));
            spelled.push((kind(of), sql.clone()));
            types.push(of.clone());
        }
        let (select, order) =
            (format!("SELECT {} FROM {} AS t", wanted.join(", "), quoted(&self.table)), names.join(", "));
        let (condition, pace) = (shape.condition(), Arc::clone(pace));
        let mut after = after.map(|after| String::from_utf8_lossy(after).into_owned());
        self.spawn((types, columns), Some(Arc::clone(&pace)), move |reading| {
            let mut client = reading.connect()?;
            let (mut slices, mut held) = (Slices::new(time), Held::new(pace.rate, Instant::now()));
            loop {
                pace.wait(&mut || reading.load(&mut client))?;
                if reading.is_cancelled() {
                    return Err(StoreError::Abandoned);
                }
                let rows = held.at_once(slices.rows());
                let behind = after.iter().map(|after| format!(" AND ({order}) > ({after})")).collect::<String>();
                let copy = format!(
                    "COPY ({select} WHERE {condition}{behind} ORDER BY {order} LIMIT {rows}) TO STDOUT (FORMAT binary)"
                );
                let began = Instant::now();
                let (read, bytes) = reading.copy(&mut client, &copy, &mut || Ok(()), &mut |read, last| {
                    let last: Vec<String> = last.iter().zip(&spelled).map(|(value, of)| literal(value, of)).collect();
                    after = (read == rows).then(|| last.join(", "));
                    after.clone().map(String::into_bytes)
                })?;
                slices.took(read, began.elapsed());
                if after.is_none() {
                    return Ok(());
                }
                std::thread::sleep(held.rest(read, bytes, Instant::now()));
            }
        })
    }

    /// Reads on a thread of its own.
    fn spawn(
        &self,
        (types, columns): (Vec<Type>, usize),
        pace: Option<Arc<Pace>>,
        read: impl FnOnce(&mut Reading) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<Pages<'static>, StoreError> {
        let (statement, place) = (Statement::of(&self.connector), self.place.clone());
        let running = statement.clone();
        let (sender, receiver) = sync_channel(PAGES_AHEAD);
        let reader = std::thread::spawn(move || {
            let fields = Arc::new(Fields { types, columns, place });
            let mut reading = Reading { statement, fields, sender };
            if let Some(error) = read(&mut reading).err().filter(|error| !matches!(error, StoreError::Abandoned)) {
                // Whoever has gone needs it no more.
                let _ = reading.sender.send(Err(error));
            }
            reading.statement.ended();
        });
        Ok(Box::new(Scan { receiver, reader: Some(reader), pace, running }))
    }
}

/// A value of a key as SQL spells it; a key has no NULL.
fn literal(value: &Value, (kind, spelled): &(Kind, String)) -> String {
    let text = encode::text(value, *kind).unwrap_or_default();
    format!("E'{}'::{spelled}", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// From where to go on behind so many rows, of the last of which these are the values of the key.
type Upto<'a> = &'a mut dyn FnMut(u64, &[Value]) -> Option<Vec<u8>>;

/// What the thread has that reads.
pub(super) struct Reading {
    statement: Statement,
    fields: Arc<Fields>,
    sender: SyncSender<Result<Page, StoreError>>,
}

impl Reading {
    pub(super) fn connect(&self) -> Result<Client, StoreError> {
        self.statement.connect().map_err(|message| StoreError::database(&self.fields.place, message))
    }

    /// Whether nobody waits for what is read any more.
    pub(super) fn is_cancelled(&self) -> bool {
        self.statement.is_cancelled()
    }

    pub(super) fn met(&self, error: &postgres::Error) -> StoreError {
        StoreError::database(&self.fields.place, told(error))
    }

    fn load(&self, client: &mut Client) -> Result<Load, StoreError> {
        let row = client.query_one(LOAD, &[]).map_err(|error| self.met(&error))?;
        let [active, lag]: [i64; 2] = [row.get(0), row.get(1)];
        Ok(Load { active: u32::try_from(active).unwrap_or(u32::MAX), lag: u64::try_from(lag).unwrap_or_default() })
    }

    /// Hands on what a COPY gives; looks up `still` with each page. `upto` hears at its end how many rows that were and what is
    /// behind the columns of the last one, and says from where to go on. Says how many rows and bytes that were.
    /// [`StoreError::Abandoned`] if nobody takes them any more.
    pub(super) fn copy(
        &self,
        client: &mut Client,
        copy: &str,
        still: &mut dyn FnMut() -> Result<(), StoreError>,
        upto: Upto<'_>,
    ) -> Result<(u64, u64), StoreError> {
        let mut sent = client.copy_out(copy).map_err(|error| self.met(&error))?;
        let (mut cutter, mut last) = (Cutter::default(), Vec::new());
        loop {
            let chunk = sent.fill_buf().map_err(|error| StoreError::database(&self.fields.place, told_of(&error)))?;
            let (length, is_end) = (chunk.len(), chunk.is_empty());
            let full = cutter.push(chunk, self.fields.types.len());
            sent.consume(length);
            if full.map_err(|wrong| StoreError::database(&self.fields.place, wrong))? || is_end {
                still()?;
                if is_end && !cutter.ended {
                    let message = "what was copied has no end; run the command again";
                    return Err(StoreError::database(&self.fields.place, message));
                }
                let (rows, behind) = cutter.page(&self.fields)?;
                if !behind.is_empty() {
                    last = behind;
                }
                let upto = if is_end { upto(cutter.rows, &last) } else { None };
                if self.sender.send(Ok(Page { rows: Box::new(rows), upto })).is_err() {
                    return Err(StoreError::Abandoned);
                }
            }
            if is_end {
                return Ok((cutter.rows, cutter.sent));
            }
        }
    }
}

/// What the server said, else what the driver did, where it reads what is copied.
fn told_of(error: &std::io::Error) -> String {
    let said = error.get_ref().and_then(|error| error.downcast_ref::<postgres::Error>());
    said.map_or_else(|| error.to_string(), told)
}

/// Pages on their way from the thread that reads them.
struct Scan {
    receiver: Receiver<Result<Page, StoreError>>,
    reader: Option<JoinHandle<()>>,
    pace: Option<Arc<Pace>>,
    running: Statement,
}

impl Iterator for Scan {
    type Item = Result<Page, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.receiver.recv_timeout(LOOKS_EVERY) {
                Ok(page) => return Some(page),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Err(stopped) = self.pace.as_ref().map_or(Ok(()), |pace| pace.goes_on()) {
                self.running.cancel();
                return Some(Err(stopped));
            }
        }
        let panicked = self.reader.take().is_some_and(|reader| reader.join().is_err());
        panicked.then(|| Err(StoreError::Panicked("reading a table".into())))
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        // Nobody takes what it still reads.
        self.running.cancel();
    }
}

/// What is run for a scan, by all its connections, which whoever waits for it can end at the server.
#[derive(Clone)]
struct Statement {
    connector: Connector,
    /// None once it was cancelled: nothing more is to begin.
    tokens: Arc<Mutex<Option<Vec<CancelToken>>>>,
}

impl Statement {
    fn of(connector: &Connector) -> Statement {
        Statement { connector: connector.clone(), tokens: Arc::new(Mutex::new(Some(Vec::new()))) }
    }

    fn connect(&self) -> Result<Client, String> {
        let client = self.connector.connect()?;
        match self.tokens().as_mut() {
            Some(tokens) => tokens.push(client.cancel_token()),
            None => return Err("nobody waits for it any more".into()),
        }
        Ok(client)
    }

    fn ended(&self) {
        *self.tokens() = None;
    }

    fn tokens(&self) -> MutexGuard<'_, Option<Vec<CancelToken>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cancelled(&self) -> bool {
        self.tokens().is_none()
    }

    /// Has the server end it; nobody waits for that, since it may say nothing.
    fn cancel(&self) {
        let tokens = self.tokens().take().unwrap_or_default();
        if !tokens.is_empty() {
            let connector = self.connector.clone();
            let end = move || tokens.iter().for_each(|token| connector.cancel(token));
            // Where there is no thread the server notices in time that nobody is there.
            let _ = std::thread::Builder::new().name("cancels".into()).spawn(end);
        }
    }
}
