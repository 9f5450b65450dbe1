//! Triggers of PostgreSQL that write the keys of changed rows to a table of their own, a statement at a time.
//!
//! What is read from there is deleted in the same transaction, which ends when the index has followed: whatever commits later,
//! in whatever order, is still there for the next time. Where the rows come by logical replication only triggers of rows fire,
//! so there they are such; on a partitioned table each part has its own, for statements that name it.

use postgres::Client;
use postgres::types::Type;
use reknit_core::row::{Kind, Value};

use super::decode::{Sent, kind};
use super::{Postgres, ident, list, literal, parts, quoted, told};
use crate::store::StoreError;
use crate::store::linked::{Drained, Feed, FeedMark, Purpose, Remains, Shape, Table, Take, Waiting, feed_comment};

/// Bytes of changes that the feed holds; past it a statement says once that everything may have changed.
const CHANGES_BYTES: u64 = 64 << 20;
/// Keys that are taken at once.
const KEYS: i64 = 1_000;

/// The feed of one table for one index.
pub(super) struct Triggers<'a> {
    table: &'a Postgres,
    /// How the names of all that belongs to it begin.
    name: String,
    key: Vec<String>,
    /// The table and all parts of it that hold rows, each as SQL names it.
    parts: Vec<String>,
    /// Whether rows come by logical replication.
    replicated: bool,
}

/// What of it is there: name and definition of each trigger of these tables, with whether it fires always.
const TRIGGERS: &str = "SELECT tgrelid::regclass::text || ' ' || tgname || ' ' || tgtype || ' ' || tgenabled::text \
                        FROM pg_trigger WHERE tgname LIKE $1 AND tgrelid::regclass::text = ANY($2) ORDER BY 1";

impl<'a> Triggers<'a> {
    pub(super) fn new(table: &'a Postgres, shape: &Shape, index: &str) -> Result<Self, StoreError> {
        let mut client = table.client()?;
        let met = |error| table.met(&error);
        let parts = parts::names(&mut client, table.oid).map_err(met)?;
        let subscribed = "SELECT EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = $1)";
        let replicated = client.query_one(subscribed, &[&table.oid]).map_err(met)?.get(0);
        table.put_back(client);
        if replicated && parts.len() > 1 {
            let message = "a partitioned table that a subscription fills has no feed; it is read whole";
            return Err(StoreError::database(&table.place, message));
        }
        let key = shape.key_sources().map(String::from).collect();
        Ok(Self { table, name: format!("reknit_{index}"), key, parts, replicated })
    }

    fn named(&self, what: &str) -> String {
        quoted(&(self.table.table.0.clone(), format!("{}_{what}", self.name)))
    }

    fn columns(&self) -> String {
        (0..self.key.len()).map(|nth| format!("k{nth}")).collect::<Vec<_>>().join(", ")
    }

    /// What the triggers do. Every writer pays for each word of it, so it sets no search path: all that it names it names in full,
    /// since it runs with the rights of whoever installed it.
    fn function(&self) -> String {
        let (dirty, whole, columns, key) = (self.named("dirty"), self.named("whole"), self.columns(), list(&self.key));
        let of =
            |row: &str| self.key.iter().map(|name| format!("{row}.{}", ident(name))).collect::<Vec<_>>().join(", ");
        let [inserted, updated, deleted] = match self.replicated {
            false => {
                let of = |rows: &str| format!("SELECT {key} FROM {rows}");
                [of("reknit_new"), format!("{} UNION {}", of("reknit_new"), of("reknit_old")), of("reknit_old")]
            }
            true => {
                let (new, old) = (of("new"), of("old"));
                [format!("VALUES ({new})"), format!("SELECT {new} UNION SELECT {old}"), format!("VALUES ({old})")]
            }
        };
        let note = |keys: &str| format!("INSERT INTO {dirty} ({columns}) {keys};");
        format!(
            "CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $reknit$ \
             BEGIN IF TG_OP OPERATOR(pg_catalog.=) 'TRUNCATE' \
             OR pg_catalog.pg_relation_size({}::pg_catalog.regclass) OPERATOR(pg_catalog.>) {CHANGES_BYTES} THEN \
             PERFORM FROM {whole} LIMIT 1 FOR KEY SHARE; IF NOT FOUND THEN INSERT INTO {whole} DEFAULT VALUES; END IF; \
             ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN {} \
             ELSIF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN {} ELSE {} END IF; RETURN NULL; END $reknit$",
            self.named("note"),
            literal(&dirty),
            note(&inserted),
            note(&updated),
            note(&deleted)
        )
    }

    /// What makes each trigger.
    fn triggers(&self, about: &str) -> Vec<String> {
        let each = if self.replicated { "ROW" } else { "STATEMENT" };
        let tables = |new: bool, old: bool| match (self.replicated, new, old) {
            (true, ..) => "",
            (false, true, false) => "REFERENCING NEW TABLE AS reknit_new",
            (false, false, true) => "REFERENCING OLD TABLE AS reknit_old",
            _ => "REFERENCING NEW TABLE AS reknit_new OLD TABLE AS reknit_old",
        };
        let kinds = [
            ("insert", "INSERT", tables(true, false), each),
            ("update", "UPDATE", tables(true, true), each),
            ("delete", "DELETE", tables(false, true), each),
            ("truncate", "TRUNCATE", "", "STATEMENT"),
        ];
        let mut all = Vec::new();
        for part in &self.parts {
            for (what, event, transition, each) in kinds {
                let name = ident(&format!("{}_{what}", self.name));
                let make = format!(
                    "CREATE TRIGGER {name} AFTER {event} ON {part} {transition} FOR EACH {each} EXECUTE FUNCTION {}()",
                    self.named("note")
                );
                all.push(make);
                all.push(format!("ALTER TABLE {part} ENABLE ALWAYS TRIGGER {name}"));
                all.push(format!("COMMENT ON TRIGGER {name} ON {part} IS {}", literal(about)));
            }
        }
        all
    }

    /// The triggers that there are, with what they do.
    fn there(&self, client: &mut Client) -> Result<Vec<String>, postgres::Error> {
        let like = format!("{}\\_%", self.name.replace('_', "\\_"));
        Ok(client.query(TRIGGERS, &[&like, &self.parts])?.iter().map(|row| row.get(0)).collect())
    }

    /// Why the feed cannot be read on, if it cannot.
    fn gap(&self, client: &mut Client, mark: &FeedMark) -> Result<Option<String>, postgres::Error> {
        let there = self.there(client)?;
        // Bits of `tgtype`: 1 of rows, 4 on inserts, 8 on deletes, 16 on updates, 32 when truncated; A fires always.
        let row = i32::from(self.replicated);
        let mut should = Vec::new();
        for part in &self.parts {
            for (what, kind) in [("insert", 4 + row), ("update", 16 + row), ("delete", 8 + row), ("truncate", 32)] {
                should.push(format!("{part} {}_{what} {kind} A", self.name));
            }
        }
        if let Some(missing) = should.iter().find(|trigger| !there.contains(trigger)) {
            let name = missing.split(' ').take(2).collect::<Vec<_>>().join(": ");
            return Ok(Some(format!("its trigger on {name} is not there, or not as it was made")));
        }
        let known: Option<String> =
            client.query_opt(&format!("SELECT nonce FROM {}", self.named("feed")), &[])?.map(|row| row.get(0));
        if known.as_ref() != Some(&mark.nonce) && (known.is_none() || known != mark.next) {
            return Ok(Some("the database was put back to an earlier state, or another home has read its feed".into()));
        }
        let every = client.query_one(&format!("SELECT EXISTS (SELECT FROM {})", self.named("whole")), &[])?;
        if every.get(0) {
            return Ok(Some(
                "it was emptied by TRUNCATE, or more changed than the feed holds, since it was read".into(),
            ));
        }
        let layout = parts::layout(client, self.table.oid)?;
        Ok((layout != mark.layout).then(|| parts::ANOTHER.into()))
    }

    /// Takes the keys in a transaction that deletes them; says how many.
    fn take(&self, client: &mut Client, take: Take<'_>) -> Result<u64, StoreError> {
        let met = |error| self.table.met(&error);
        let types: Vec<Type> =
            self.key.iter().map(|name| Ok(self.table.type_of(name)?.0.clone())).collect::<Result<_, StoreError>>()?;
        // A type without a kind is known as it is printed.
        let cast = |of: &Type| if kind(of) == Kind::Other { "::text" } else { "" };
        let columns: Vec<String> = types.iter().enumerate().map(|(nth, of)| format!("k{nth}{}", cast(of))).collect();
        let cursor = format!(
            "DECLARE reknit NO SCROLL CURSOR FOR SELECT {}, ctid::text FROM {} FOR UPDATE",
            columns.join(", "),
            self.named("dirty")
        );
        client.batch_execute(&cursor).map_err(met)?;
        let mut all = 0;
        loop {
            let rows = client.query(&format!("FETCH {KEYS} FROM reknit"), &[]).map_err(met)?;
            let mut keys = Vec::with_capacity(rows.len());
            // Where each lies, which nobody changes while it is locked.
            let mut places: Vec<String> = Vec::with_capacity(rows.len());
            for row in &rows {
                let value = |(nth, of): (usize, &Type)| -> Result<Value, StoreError> {
                    let sent: Sent<'_> = row.try_get(nth).map_err(met)?;
                    let wrong = |error| {
                        StoreError::database(&self.table.place, format!("a key of type {}: {error}", of.name()))
                    };
                    sent.value(of).map_err(wrong)
                };
                keys.push(types.iter().enumerate().map(value).collect::<Result<Vec<_>, _>>()?);
                places.push(row.try_get(self.key.len()).map_err(met)?);
            }
            if rows.is_empty() {
                break;
            }
            take(keys)?;
            all += places.len() as u64;
            let taken = format!("DELETE FROM {} WHERE ctid = ANY($1::text[]::tid[])", self.named("dirty"));
            client.execute(&taken, &[&places]).map_err(met)?;
        }
        client.batch_execute("CLOSE reknit").map_err(met)?;
        Ok(all)
    }
}

impl Feed for Triggers<'_> {
    fn install_sql(&self) -> Vec<Vec<String>> {
        let about = feed_comment(&self.table.table.1, &self.table.typed);
        let types = self.key.iter().map(|name| self.table.type_of(name).map_or("text", |of| of.1.as_str()));
        let columns: Vec<String> = types.enumerate().map(|(nth, of)| format!("k{nth} {of}")).collect();
        let [dirty, whole, feed, note] = ["dirty", "whole", "feed", "note"].map(|what| self.named(what));
        let mut all = vec![
            // Neither has a key, which writers would keep up; where all tables are published, rows without one are not deleted.
            format!("CREATE TABLE {dirty} ({})", columns.join(", ")),
            format!("CREATE TABLE {whole} (since timestamptz NOT NULL DEFAULT now())"),
            format!("ALTER TABLE {dirty} REPLICA IDENTITY FULL"),
            format!("ALTER TABLE {whole} REPLICA IDENTITY FULL"),
            format!("CREATE TABLE {feed} (one boolean PRIMARY KEY DEFAULT true CHECK (one), nonce text)"),
            format!("INSERT INTO {feed} (nonce) VALUES ('')"),
            format!("COMMENT ON TABLE {dirty} IS {}", literal(&about)),
            format!("COMMENT ON TABLE {whole} IS {}", literal(&about)),
            format!("COMMENT ON TABLE {feed} IS {}", literal(&about)),
            self.function(),
            format!("COMMENT ON FUNCTION {note}() IS {}", literal(&about)),
            format!("REVOKE ALL ON FUNCTION {note}() FROM PUBLIC"),
        ];
        all.extend(self.triggers(&about));
        vec![all]
    }

    fn remove_sql(&self) -> Vec<String> {
        remove_sql(&self.table.table.0, &self.name)
    }

    fn ready(&self) -> Result<(), StoreError> {
        let lacking = self.table.lacking(Purpose::Triggers)?;
        if !lacking.is_empty() {
            let message = format!("this user may not install triggers on the table: {}", lacking.join("; "));
            return Err(StoreError::database(&self.table.place, message));
        }
        Ok(())
    }

    fn restart(&self, nonce: &str) -> Result<Option<FeedMark>, StoreError> {
        let met = |error| self.table.met(&error);
        let [dirty, whole, feed] = ["dirty", "whole", "feed"].map(|what| self.named(what));
        let mut client = self.table.client()?;
        // A feed of an earlier release had no table of its own for what may all have changed.
        let there = "SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL";
        let there = client.query_one(there, &[&feed, &whole]).map_err(met)?;
        if !there.get::<_, bool>(0) {
            self.table.put_back(client);
            return Ok(None);
        }
        let layout = parts::layout(&mut client, self.table.oid).map_err(met)?;
        self.table.run(&[
            // Waits for those who rely on a row that says it.
            format!("DELETE FROM {whole}"),
            format!("DELETE FROM {dirty}"),
            format!("UPDATE {feed} SET nonce = {}", literal(nonce)),
        ])?;
        // Its bytes are what the cap counts: those of rows that are gone are given back.
        client.batch_execute(&format!("VACUUM {dirty}, {whole}")).map_err(met)?;
        self.table.put_back(client);
        Ok(Some(FeedMark { nonce: nonce.into(), layout, ..FeedMark::default() }))
    }

    fn drain(&self, mark: &FeedMark, take: Take<'_>) -> Result<Drained, StoreError> {
        let mut client = self.table.client()?;
        let met = |error| self.table.met(&error);
        match self.gap(&mut client, mark) {
            Ok(Some(why)) => return Ok(Drained::Lost(why)),
            // Its tables are gone.
            Err(error) if error.code().is_some_and(|code| code.code() == "42P01") => {
                return Ok(Drained::Lost(told(&error)));
            }
            Err(error) => return Err(met(error)),
            Ok(None) => {}
        }
        let any = format!("SELECT EXISTS (SELECT FROM {})", self.named("dirty"));
        if !client.query_one(&any, &[]).map_err(met)?.get::<_, bool>(0) {
            self.table.put_back(client);
            return Ok(Drained::Untold);
        }
        client.batch_execute("BEGIN READ WRITE").map_err(met)?;
        self.take(&mut client, take)?;
        let nonce = mark.next.clone().unwrap_or_default();
        client.execute(&format!("UPDATE {} SET nonce = $1", self.named("feed")), &[&nonce]).map_err(met)?;
        client.batch_execute("COMMIT").map_err(met)?;
        self.table.put_back(client);
        Ok(Drained::Read { mark: FeedMark { nonce, next: None, ..mark.clone() }, more: false })
    }

    fn waiting(&self) -> Result<Waiting, StoreError> {
        let mut client = self.table.client()?;
        let count = format!("SELECT count(*) FROM {}", self.named("dirty"));
        let row = client.query_one(&count, &[]).map_err(|error| self.table.met(&error))?;
        self.table.put_back(client);
        Ok(Waiting { changes: Some(row.get::<_, i64>(0).unsigned_abs()), kept_bytes: None })
    }
}

/// What takes away all in a schema whose names begin so.
fn remove_sql(schema: &str, name: &str) -> Vec<String> {
    let named = |what: &str| quoted(&(schema.to_string(), format!("{name}_{what}")));
    // With the function go its triggers, on whatever table they are.
    vec![
        format!("DROP FUNCTION IF EXISTS {}() CASCADE", named("note")),
        format!("DROP TABLE IF EXISTS {}", named("dirty")),
        format!("DROP TABLE IF EXISTS {}", named("whole")),
        format!("DROP TABLE IF EXISTS {}", named("feed")),
    ]
}

/// Feeds of a table, and those of its schema whose tables are gone.
const REMAINS: &str = "SELECT substring(d.relname FROM '^reknit_([0-9a-z]+)_dirty$') FROM pg_class d \
                       LEFT JOIN pg_trigger t ON t.tgname = replace(d.relname, '_dirty', '_insert') \
                       WHERE d.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = $1) \
                       AND d.relname ~ '^reknit_[0-9a-z]+_dirty$' GROUP BY d.relname \
                       HAVING bool_or(t.tgrelid = $1) OR count(t.oid) = 0 ORDER BY 1";

/// What feeds have in a database, of those of a table and of those whose tables are gone.
pub(super) fn remains(table: &Postgres) -> Result<Vec<Remains>, StoreError> {
    let mut client = table.client()?;
    let rows = client.query(REMAINS, &[&table.oid]).map_err(|error| table.met(&error))?;
    table.put_back(client);
    let one = |index: String| Remains { remove_sql: remove_sql(&table.table.0, &format!("reknit_{index}")), index };
    Ok(rows.iter().map(|row| one(row.get(0))).collect())
}
