//! A slot of logical replication: the server keeps its log until the keys that changed are read from it, by functions of SQL.
//! What its messages say is [`super::pgoutput`]'s concern.
//!
//! *No streaming.* A slot is looked at without being moved (`…_peek_binary_changes`), and moved only when the index says durably
//! how far it was read. *No list of columns* is published: an UPDATE fails where one does not cover a table's identity, and
//! writers must not fail for what we do. *Parts are published as themselves*: a TRUNCATE of one is not told through the whole.
//!
//! *Where nothing is lost*: the nonce is told in the log itself, behind what was read, by a message. It is found there again unless
//! the slot was made anew, moved by somebody else, or the server put back to an earlier state; whatever restored or promoted
//! server has it has also all that was read. *What is seen*: a transaction is in the log a moment before others see what it
//! wrote. One that is not seen yet comes again the next time, with all behind it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{ToSql, Type};
use reknit_core::row::{Kind, Value};

use super::decode::{kind, value_of};
use super::pgoutput::{Marks, Message, Position};
use super::rights::lacking;
use super::{Postgres, ident, literal, parts, quoted, told};
use crate::store::StoreError;
use crate::store::linked::{Drained, Feed, FeedMark, Purpose, Remains, Shape, Take, Waiting, feed_comment};

/// Bytes of the log that are read at once; what a transaction in them did is read whole.
const LOG_BYTES: u64 = 64 << 20;
/// Where no row of the table changed, the slot is moved only once the server would keep so much for it: a segment.
const IDLE_BYTES: u64 = 16 << 20;
/// Keys that are looked up at once, each once however often it changed; those of a transaction together.
const KEYS: usize = 10_000;
/// Keys of one transaction that are held in memory; where there are more the table is read whole.
const KEYS_MAX: usize = 500_000;
/// How long transactions that were open when the feed began are waited for: see [`Slot::settled`].
const SETTLE_TIME: Duration = Duration::from_secs(10);
/// How our messages begin in the log.
const PREFIX: &str = "reknit";
/// The first release whose plugin tells messages.
const RELEASE_MIN: i32 = 140_000;

/// The feed of one table for one index.
pub(super) struct Slot<'a> {
    table: &'a Postgres,
    /// What both slot and publication are called.
    name: String,
    key: Vec<String>,
}

/// A slot as the server tells it.
struct Standing {
    /// Up to where it was moved.
    position: Position,
    /// What of the log is kept for it.
    kept: u64,
    /// Why it is of no use, if it is not.
    broken: Option<String>,
}

const STANDING: &str = "SELECT pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint, \
    greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint, wal_status = 'lost', \
    plugin = 'pgoutput' AND database = current_database() AND NOT temporary \
    FROM pg_replication_slots WHERE slot_name = $1 AND NOT pg_is_in_recovery()";

/// Whether the publication is as it was made, and has all parts that hold rows; and by what it is known.
const PUBLICATION: &str = "SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND NOT p.pubviaroot \
    AND NOT EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid \
        AND (to_jsonb(r) ->> 'prqual' IS NOT NULL OR to_jsonb(r) ->> 'prattrs' IS NOT NULL)) \
    AND NOT EXISTS (SELECT FROM parts JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind <> 'p' AND NOT EXISTS (SELECT FROM pg_publication_tables t \
        WHERE (t.pubname, t.schemaname, t.tablename) = (p.pubname, n.nspname, c.relname))), \
    concat(p.oid, ' ', p.xmin, ' ', (SELECT string_agg(r.xmin::text, ' ' ORDER BY r.oid) FROM pg_publication_rel r \
        WHERE r.prpubid = p.oid)) \
    FROM pg_publication p WHERE p.pubname = $2";

/// Parts that hold rows and do not tell the key of rows that changed, each with what mends it.
const IDENTITY: &str = "SELECT c.oid::regclass::text, c.relkind IN ('r') AND c.relpersistence = 'p', \
    CASE WHEN bool_or(i.indisprimary) FILTER (WHERE k.covers) THEN 'DEFAULT' \
        ELSE coalesce('USING INDEX ' || min(i.indexrelid::regclass::text) FILTER (WHERE k.covers AND i.indisunique \
            AND i.indimmediate AND i.indpred IS NULL), 'FULL') END \
    FROM pg_class c JOIN parts USING (oid) LEFT JOIN pg_index i ON i.indrelid = c.oid \
    LEFT JOIN LATERAL (SELECT $2::text[] <@ array_agg(a.attname::text) AS covers FROM pg_attribute a \
        WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey::int2[])) k ON true \
    WHERE c.relkind <> 'p' GROUP BY c.oid, c.relkind, c.relpersistence, c.relreplident \
    HAVING NOT (c.relkind = 'r' AND c.relpersistence = 'p') OR NOT (c.relreplident = 'f' OR coalesce(bool_or(k.covers \
        AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)), false)) \
    ORDER BY 1 LIMIT 1";

const SERVER: &str =
    "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('wal_level')";

const PEEK: &str = "pg_logical_slot_peek_binary_changes($1, '0/0'::pg_lsn + $2::bigint::numeric, NULL, 'proto_version', '1', \
    'publication_names', $3, 'messages', 'true', 'binary', 'true')";

impl<'a> Slot<'a> {
    pub(super) fn new(table: &'a Postgres, shape: &Shape, index: &str) -> Self {
        Self { table, name: format!("reknit_{index}"), key: shape.key().map(String::from).collect() }
    }

    fn met(&self, error: &postgres::Error) -> StoreError {
        match error.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => self.wrong(format!(
                "{}; a slot is read by whoever has the right REPLICATION: reknit explain TABLE --grants slot",
                told(error)
            )),
            Some(&SqlState::OBJECT_IN_USE) => {
                self.wrong(format!("{}: another command reads the feed; try again", told(error)))
            }
            _ => self.table.met(error),
        }
    }

    fn wrong(&self, message: impl Into<String>) -> StoreError {
        StoreError::database(&self.table.place, message)
    }

    /// Whatever is asked by one query in parts.
    fn parts(query: &str) -> String {
        format!("{} {query}", parts::PARTS)
    }

    /// How the slot stands; none if there is none.
    fn standing(&self, client: &mut Client) -> Result<Option<Standing>, postgres::Error> {
        let Some(row) = client.query_opt(STANDING, &[&self.name])? else { return Ok(None) };
        let number = |nth| row.get::<_, Option<i64>>(nth).unwrap_or_default().unsigned_abs();
        let broken = match (row.get::<_, Option<bool>>(2), row.get::<_, bool>(3)) {
            (Some(true), _) => Some("the server has removed log that its slot had not read (max_slot_wal_keep_size)"),
            (_, false) => Some("its slot is not as it was made"),
            _ => None,
        };
        Ok(Some(Standing { position: number(0), kept: number(1), broken: broken.map(String::from) }))
    }

    /// By what table and publication are known; or why the feed cannot go on.
    fn layout(&self, client: &mut Client) -> Result<Result<String, String>, postgres::Error> {
        let oid = self.table.oid;
        let Some(row) = client.query_opt(&Self::parts(PUBLICATION), &[&oid, &self.name])? else {
            return Ok(Err("its publication is not there".into()));
        };
        if !row.get::<_, bool>(0) {
            return Ok(Err("its publication is not as it was made, or lacks a part of the table".into()));
        }
        if let Some(why) = self.unidentified(client)? {
            return Ok(Err(why));
        }
        Ok(Ok(parts::digest(&format!("{} {}", parts::layout(client, oid)?, row.get::<_, String>(1)))))
    }

    /// A part of the table whose changes are not told, or not with the key, and what to do.
    fn unidentified(&self, client: &mut Client) -> Result<Option<String>, postgres::Error> {
        let found = client.query_opt(&Self::parts(IDENTITY), &[&self.table.oid, &self.key])?;
        Ok(found.map(|row| {
            let (part, logged, mend): (String, bool, String) = (row.get(0), row.get(1), row.get(2));
            match logged {
                false => format!("the log tells no changes of {part}, which is unlogged, temporary or foreign"),
                true => format!(
                    "the log does not tell the key ({}) of rows of {part} that change; ALTER TABLE {part} REPLICA IDENTITY {mend}",
                    self.key.join(", ")
                ),
            }
        }))
    }

    /// Tells a nonce in the log, durably; says where.
    fn tell(&self, client: &mut Client, nonce: &str) -> Result<Position, postgres::Error> {
        let content = format!("{} {nonce}", self.name);
        // No standby is waited for.
        let told = format!(
            "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; SELECT pg_logical_emit_message(true, {}, {}); COMMIT",
            literal(PREFIX),
            literal(&content)
        );
        client.batch_execute(&told)?;
        flushed(client)
    }

    /// Waits until whatever has committed before our last word in the log is seen by all. A transaction is in the log a moment
    /// before that, and longer where a standby is waited for; those that are merely open come later in the log, but cannot be told
    /// from them.
    fn settled(client: &mut Client) -> Result<bool, postgres::Error> {
        let open = Unseen::now(client)?.open;
        let begun = Instant::now();
        while begun.elapsed() < SETTLE_TIME {
            if Unseen::now(client)?.open.is_disjoint(&open) {
                return Ok(true);
            }
            client.batch_execute("SELECT pg_sleep(0.01)")?;
        }
        let standbys: String = client.query_one("SELECT current_setting('synchronous_standby_names')", &[])?.get(0);
        Ok(standbys.is_empty())
    }

    /// Reads the log up to a position.
    fn read(
        &self,
        client: &mut Client,
        mark: &FeedMark,
        upto: Position,
        take: Take<'_>,
    ) -> Result<Reading, StoreError> {
        let met = |error: postgres::Error| self.met(&error);
        let types: Vec<(&String, Type)> = self
            .key
            .iter()
            .map(|name| Ok((name, self.table.type_of(name)?.0.clone())))
            .collect::<Result<_, StoreError>>()?;
        let mut marks = Marks::new(types.iter().map(|(name, of)| ((*name).clone(), of.oid())).collect());
        let nonce = format!("{} {}", self.name, mark.nonce);
        let upto_number = position(upto);
        let params: [&(dyn ToSql + Sync); 3] = [&self.name, &upto_number, &self.name];
        let mut rows = match client.query_raw(&format!("SELECT data FROM {PEEK}"), params) {
            Ok(rows) => rows,
            Err(error) => return self.unreadable(error),
        };
        let mut unseen: Option<Unseen> = None;
        let mut reading = Reading { upto, ..Reading::default() };
        let mut keys: BTreeSet<Vec<Vec<u8>>> = BTreeSet::new();
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(error) => return self.unreadable(error),
            };
            if unseen.is_none() {
                // Who is in the log by now and not seen yet; whatever is looked up later sees all others.
                let mut other = self.table.client()?;
                unseen = Some(Unseen::now(&mut other).map_err(met)?);
                self.table.put_back(other);
            }
            let bytes: &[u8] = row.try_get(0).map_err(met)?;
            let message = match Message::decode(bytes) {
                Ok(message) => message,
                Err(error) => return Ok(Reading::lost(format!("what its slot tells is not understood: {error}"))),
            };
            match &message {
                // It comes again, with what lies behind, which may be seen already.
                Message::Begin { at, number } if unseen.as_ref().is_some_and(|unseen| unseen.has(*number)) => {
                    (reading.cut, reading.upto) = (true, reading.upto.min(*at));
                }
                Message::Told { prefix: PREFIX, content } if *content == nonce.as_bytes() => reading.found = true,
                _ => match marks.of(&message) {
                    Ok(marked) => {
                        reading.changes += marked.len();
                        keys.extend(marked.iter().map(|key| key.iter().map(|field| field.to_vec()).collect()));
                    }
                    Err(why) => return Ok(Reading::lost(why)),
                },
            }
            if keys.len() > KEYS_MAX {
                return Ok(Reading::lost(format!("a transaction changed more than {KEYS_MAX} rows since it was read")));
            }
            if keys.len() >= KEYS && message == Message::Commit {
                take(self.values(&types, &std::mem::take(&mut keys))?)?;
            }
        }
        if !keys.is_empty() {
            take(self.values(&types, &keys)?)?;
        }
        Ok(reading)
    }

    /// An error of reading the log: a gap, where the server says that the slot or what it needs is not there.
    fn unreadable(&self, error: postgres::Error) -> Result<Reading, StoreError> {
        match error.code() {
            Some(&(SqlState::UNDEFINED_OBJECT | SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)) => {
                Ok(Reading::lost(told(&error)))
            }
            _ => Err(self.met(&error)),
        }
    }

    fn values(&self, types: &[(&String, Type)], keys: &BTreeSet<Vec<Vec<u8>>>) -> Result<Vec<Vec<Value>>, StoreError> {
        let one = |((_, of), field): (&(&String, Type), &Vec<u8>)| {
            value_of(of, field).map_err(|error| self.wrong(format!("a key of type {}: {error}", of.name())))
        };
        keys.iter().map(|fields| types.iter().zip(fields).map(one).collect()).collect()
    }
}

/// What reading the log came to.
#[derive(Default)]
struct Reading {
    /// Why it is a gap, if it is.
    lost: Option<String>,
    /// Whether the nonce was found.
    found: bool,
    /// Up to where it was read.
    upto: Position,
    /// Whether that is before a transaction that is not seen yet.
    cut: bool,
    /// Keys that were marked.
    changes: usize,
}

impl Reading {
    fn lost(why: String) -> Reading {
        Reading { lost: Some(why), ..Reading::default() }
    }
}

impl Feed for Slot<'_> {
    fn install_sql(&self) -> Vec<Vec<String>> {
        let name = ident(&self.name);
        let about = literal(&feed_comment(&self.table.table.1, &self.table.typed));
        vec![
            vec![
                format!("CREATE PUBLICATION {name} FOR TABLE {}", quoted(&self.table.table)),
                format!("COMMENT ON PUBLICATION {name} IS {about}"),
            ],
            // Not in a transaction that has written.
            vec![format!("SELECT pg_create_logical_replication_slot({}, 'pgoutput')", literal(&self.name))],
        ]
    }

    fn remove_sql(&self) -> Vec<String> {
        remove_sql(&self.name)
    }

    fn ready(&self) -> Result<(), StoreError> {
        let mut client = self.table.client()?;
        let row = client.query_one(SERVER, &[]).map_err(|error| self.met(&error))?;
        if row.get(1) {
            return Err(self.wrong("the server is a standby, which has no publications of its own; name its primary"));
        }
        if row.get::<_, i32>(0) < RELEASE_MIN {
            return Err(self.wrong("a slot is read from PostgreSQL 14 on; --feed triggers can follow the table"));
        }
        let level: String = row.get(2);
        if level != "logical" {
            let message = format!(
                "wal_level is {level}; a slot needs ALTER SYSTEM SET wal_level = logical, and a restart of the server"
            );
            return Err(self.wrong(message));
        }
        let lacking = lacking(&mut client, self.table.oid, Purpose::Slot).map_err(|error| self.met(&error))?;
        if !lacking.is_empty() {
            let message =
                format!("this user may not make a slot and a publication of the table: {}", lacking.join("; "));
            return Err(self.wrong(message));
        }
        if let Some(why) = self.unidentified(&mut client).map_err(|error| self.met(&error))? {
            return Err(self.wrong(why));
        }
        // What has no kind of its own is known by its text, and sent in a form of its type.
        for name in &self.key {
            let (of, spelled) = self.table.type_of(name)?;
            let sent = "SELECT typsend::text = ANY (ARRAY['textsend', 'citextsend']) FROM pg_type WHERE oid = $1";
            let as_text = |client: &mut Client| Ok(client.query_one(sent, &[&of.oid()])?.get::<_, bool>(0));
            if kind(of) == Kind::Other && !as_text(&mut client).map_err(|error| self.met(&error))? {
                let message = format!(
                    "a slot does not tell its key {name} ({spelled}) as text; --feed triggers can follow the table"
                );
                return Err(self.wrong(message));
            }
        }
        self.table.put_back(client);
        Ok(())
    }

    fn unbounded(&self) -> Result<Option<String>, StoreError> {
        let mut client = self.table.client()?;
        let setting = "SELECT current_setting('max_slot_wal_keep_size') = '-1'";
        let unbounded: bool = client.query_one(setting, &[]).map_err(|error| self.met(&error))?.get(0);
        self.table.put_back(client);
        Ok(unbounded.then(|| "max_slot_wal_keep_size".into()))
    }

    fn restart(&self, nonce: &str) -> Result<Option<FeedMark>, StoreError> {
        let mut client = self.table.client()?;
        let run = |client: &mut Client| {
            let Some(Standing { broken: None, .. }) = self.standing(client)? else { return Ok(None) };
            let Ok(layout) = self.layout(client)? else { return Ok(None) };
            let moved = "SELECT pg_wal_lsn_diff(moved.end_lsn, '0/0')::bigint FROM pg_replication_slots s, \
                         pg_replication_slot_advance($1, greatest(s.confirmed_flush_lsn, pg_current_wal_flush_lsn())) AS moved \
                         WHERE s.slot_name = $1";
            let position = client.query_one(moved, &[&self.name])?.get::<_, i64>(0).unsigned_abs();
            let told = self.tell(client, nonce)?;
            if !Self::settled(client)? {
                return Ok(None);
            }
            Ok(Some(FeedMark { nonce: nonce.into(), next: None, position, told, layout }))
        };
        let mark = run(&mut client).map_err(|error| self.met(&error))?;
        self.table.put_back(client);
        Ok(mark)
    }

    fn drain(&self, mark: &FeedMark, take: Take<'_>) -> Result<Drained, StoreError> {
        let met = |error: postgres::Error| self.met(&error);
        let mut client = self.table.client()?;
        let another = "its slot was made anew, or another has read it, or the server was put back to an earlier state";
        let lost = |why: &str| Ok(Drained::Lost(why.into()));
        let standing = match self.standing(&mut client).map_err(met)? {
            None => return lost("its slot is not there"),
            Some(Standing { broken: Some(why), .. }) => return lost(&why),
            Some(standing) => standing,
        };
        match self.layout(&mut client).map_err(met)? {
            Err(why) => return lost(&why),
            Ok(layout) if layout != mark.layout => return lost(parts::ANOTHER),
            Ok(_) => {}
        }
        let end = flushed(&mut client).map_err(met)?;
        // A server that was lost may have forgotten that the slot was moved: it comes again.
        if standing.position > mark.position || end < mark.told {
            return lost(another);
        }
        let upto = end.min(mark.told.max(mark.position + LOG_BYTES));
        let reading = self.read(&mut client, mark, upto, take)?;
        match reading {
            Reading { lost: Some(why), .. } => return lost(&why),
            Reading { found: false, .. } => return lost(another),
            Reading { changes: 0, upto, .. } if upto < mark.position + IDLE_BYTES => {
                self.table.put_back(client);
                return Ok(Drained::Untold);
            }
            _ => {}
        }
        let nonce = mark.next.clone().unwrap_or_default();
        let told = self.tell(&mut client, &nonce).map_err(met)?;
        self.table.put_back(client);
        let more = upto < end && !reading.cut;
        let mark = FeedMark { nonce, next: None, position: reading.upto, told, layout: mark.layout.clone() };
        Ok(Drained::Read { mark, more })
    }

    fn release(&self, mark: &FeedMark) -> Result<(), StoreError> {
        let mut client = self.table.client()?;
        let moved = "SELECT pg_replication_slot_advance($1, '0/0'::pg_lsn + $2::bigint::numeric)";
        client.query_one(moved, &[&self.name, &position(mark.position)]).map_err(|error| self.met(&error))?;
        self.table.put_back(client);
        Ok(())
    }

    fn waiting(&self) -> Result<Waiting, StoreError> {
        let mut client = self.table.client()?;
        let Some(standing) = self.standing(&mut client).map_err(|error| self.met(&error))? else {
            return Ok(Waiting::default());
        };
        let mut changes = None;
        if standing.kept <= LOG_BYTES && standing.broken.is_none() {
            // Messages of rows, and of tables that were emptied.
            let count = format!("SELECT count(*) FROM {PEEK} WHERE get_byte(data, 0) IN (68, 73, 84, 85)");
            let upto = position(flushed(&mut client).map_err(|error| self.met(&error))?);
            let row = client.query_one(&count, &[&self.name, &upto, &self.name]).map_err(|error| self.met(&error))?;
            changes = Some(row.get::<_, i64>(0).unsigned_abs());
        }
        self.table.put_back(client);
        Ok(Waiting { changes, kept_bytes: Some(standing.kept) })
    }

    fn kept_bytes(&self) -> Result<u64, StoreError> {
        let mut client = self.table.client()?;
        let standing = self.standing(&mut client).map_err(|error| self.met(&error))?;
        self.table.put_back(client);
        Ok(standing.map_or(0, |standing| standing.kept))
    }
}

/// Up to where the log is durable.
fn flushed(client: &mut Client) -> Result<Position, postgres::Error> {
    let row = client.query_one("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint", &[])?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

/// The transactions whose writes are not seen yet, by the low halves of their numbers.
struct Unseen {
    open: BTreeSet<u32>,
    /// The first of those that come behind all that have ended.
    from: u32,
}

impl Unseen {
    fn now(client: &mut Client) -> Result<Unseen, postgres::Error> {
        let open = "SELECT (pg_snapshot_xmax(now)::text::numeric % 4294967296)::bigint, \
                    ARRAY(SELECT (open::text::numeric % 4294967296)::bigint FROM pg_snapshot_xip(now) AS open) \
                    FROM pg_current_snapshot() AS now";
        let row = client.query_one(open, &[])?;
        let low = |number: i64| u32::try_from(number).unwrap_or_default();
        Ok(Unseen { from: low(row.get(0)), open: row.get::<_, Vec<i64>>(1).into_iter().map(low).collect() })
    }

    fn has(&self, number: u32) -> bool {
        // Numbers go round: what is less than half of all ahead is later.
        self.open.contains(&number) || number.wrapping_sub(self.from) < 1 << 31
    }
}

/// A position as SQL takes it; the server's own have 63 bits for ages to come.
fn position(position: Position) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// What takes away slot and publication of a name: the slot first, for which the server keeps its log.
fn remove_sql(name: &str) -> Vec<String> {
    let slot = literal(name);
    vec![
        format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = {slot} AND active_pid IS NOT NULL"
        ),
        format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {slot}"),
        format!("DROP PUBLICATION IF EXISTS {}", ident(name)),
    ]
}

/// Publications of a table and those that have none any more, and slots that have no publication.
const REMAINS: &str = "SELECT substring(p.pubname FROM '^reknit_([0-9a-z]+)$') FROM pg_publication p \
    LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid WHERE p.pubname ~ '^reknit_[0-9a-z]+$' \
    GROUP BY p.pubname HAVING bool_or(r.prrelid = $1) OR count(r.oid) = 0 \
    UNION SELECT substring(slot_name FROM '^reknit_([0-9a-z]+)$') FROM pg_replication_slots \
    WHERE slot_name ~ '^reknit_[0-9a-z]+$' AND database = current_database() \
    AND NOT EXISTS (SELECT FROM pg_publication WHERE pubname = slot_name) ORDER BY 1";

/// What slots have in a database, of those of a table and of those whose tables are gone.
pub(super) fn remains(table: &Postgres) -> Result<Vec<Remains>, StoreError> {
    let mut client = table.client()?;
    let rows = client.query(REMAINS, &[&table.oid]).map_err(|error| table.met(&error))?;
    table.put_back(client);
    let one = |index: String| Remains { remove_sql: remove_sql(&format!("reknit_{index}")), index };
    Ok(rows.iter().map(|row| one(row.get(0))).collect())
}
