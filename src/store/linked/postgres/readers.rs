//! A large table read whole by several connections, which see it by one snapshot: each takes ranges of blocks of its files, until
//! none is left.
//!
//! How rows are made of what is copied is said in [`super::scan`]; by how many a table may be read, in [`super::super::Pace`].

use std::sync::{Mutex, PoisonError};
use std::vec::IntoIter;

use postgres::Client;

use super::parts::PARTS;
use super::scan::Reading;
use crate::store::StoreError;

/// Blocks of a range, at least; a table of fewer than two such ranges is read by one.
const BLOCKS_MIN: i64 = 512;
/// Ranges for each reader, so that none waits long for the last one.
const RANGES_EACH: i64 = 8;
/// From this version on a server reads the blocks of a range alone.
const READS_RANGES: i32 = 140_000;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";
/// The files that hold a table's rows, with their blocks, and whether this user may read ranges of each: what a policy of rows
/// hides, and a part that is about to be none, is left out by the table that was named, not by its parts.
const FILES: &str = "SELECT concat(quote_ident(n.nspname), '.', quote_ident(c.relname)), \
                     (coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int8)::int8, \
                     c.relkind = 'r' AND c.relpersistence <> 't' AND a.amname = 'heap' AND \
                     has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') AND \
                     NOT EXISTS (SELECT FROM pg_class p JOIN parts USING (oid) WHERE p.relrowsecurity) AND \
                     NOT EXISTS (SELECT FROM pg_inherits i JOIN parts ON i.inhparent = parts.oid WHERE i.inhdetachpending) \
                     FROM pg_class c JOIN parts USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace \
                     LEFT JOIN pg_am a ON a.oid = c.relam WHERE c.relkind <> 'p' ORDER BY 1";

/// Files by name, with their blocks.
type Files = Vec<(String, i64)>;

/// A range of the blocks of a file: from one on, up to another or to its end.
#[derive(Debug, PartialEq, Eq)]
struct Blocks<'f> {
    file: &'f str,
    from: i64,
    upto: Option<i64>,
}

/// What is read of each file.
pub(super) struct Wanted {
    pub(super) oid: u32,
    /// The table that was named, as SQL names it.
    pub(super) table: String,
    /// Columns, as SQL lists them.
    pub(super) columns: String,
    pub(super) condition: String,
    /// Connections, at most.
    pub(super) readers: usize,
}

impl Reading {
    /// Reads a table by several connections, this one among them; or says that it is for one to read. Each looks up what
    /// `still` gives with each page.
    pub(super) fn read_apart(
        &self,
        client: &mut Client,
        wanted: &Wanted,
        still: &(dyn Fn() -> Result<(), StoreError> + Sync),
    ) -> Result<bool, StoreError> {
        if wanted.readers <= 1 {
            return Ok(false);
        }
        let version = client.query_one("SELECT current_setting('server_version_num')::int4", &[]);
        if version.map_err(|error| self.met(&error))?.get::<_, i32>(0) < READS_RANGES {
            return Ok(false);
        }
        let Some((snapshot, files)) = found(client, wanted).ok().flatten() else {
            // Whatever spoke against it, none of it is left.
            client.batch_execute("ROLLBACK").map_err(|error| self.met(&error))?;
            return Ok(false);
        };
        let copies = ranges(&files, wanted.readers).iter().map(|blocks| blocks.copy(wanted)).collect::<Vec<_>>();
        let copies = Mutex::new(copies.into_iter());
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..wanted.readers)
                .map(|_| {
                    scope.spawn(|| match self.join(&snapshot, &wanted.table) {
                        Some(mut client) => self.take(&mut client, &copies, still),
                        // It is read all the same, by fewer.
                        None => Ok(()),
                    })
                })
                .collect();
            let mut all = self.take(client, &copies, still);
            for other in others {
                all = all.and(other.join().unwrap_or_else(|_| Err(StoreError::Panicked("reading a table".into()))));
            }
            all
        })?;
        Ok(true)
    }

    /// Another connection that sees the same; none where somebody waits to change the table, who would wait for the first one,
    /// and this one for him.
    fn join(&self, snapshot: &str, table: &str) -> Option<Client> {
        let mut client = self.connect().ok()?;
        client
            .batch_execute(&format!("{BEGIN}; SET TRANSACTION SNAPSHOT '{snapshot}'; {} NOWAIT", lock(table)))
            .ok()?;
        Some(client)
    }

    /// Reads what is left, range by range; where that fails nobody begins another.
    fn take(
        &self,
        client: &mut Client,
        copies: &Mutex<IntoIter<String>>,
        still: &(dyn Fn() -> Result<(), StoreError> + Sync),
    ) -> Result<(), StoreError> {
        loop {
            let copy = copies.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(copy) = copy else { return Ok(()) };
            if self.is_cancelled() {
                return Err(StoreError::Abandoned);
            }
            if let Err(error) = self.copy(client, &copy, &mut || still(), &mut |_, _| None) {
                *copies.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new().into_iter();
                return Err(error);
            }
        }
    }
}

/// Begins a transaction whose snapshot others can have, and says how that is called and which files there are; none where they
/// are not worth it, or not to be read in ranges. The table is locked before it is seen: of one that is emptied or rewritten
/// since, an older snapshot sees no rows.
fn found(client: &mut Client, wanted: &Wanted) -> Result<Option<(String, Files)>, postgres::Error> {
    client.batch_execute(&format!("{BEGIN}; {}", lock(&wanted.table)))?;
    let snapshot: String = client.query_one("SELECT pg_export_snapshot()", &[])?.get(0);
    let rows = client.query(&format!("{PARTS} {FILES}"), &[&wanted.oid])?;
    let all = rows.iter().all(|row| row.get::<_, Option<bool>>(2) == Some(true));
    let files: Files = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let blocks: i64 = files.iter().map(|(_, blocks)| blocks).sum();
    Ok((all && blocks >= 2 * BLOCKS_MIN).then_some((snapshot, files)))
}

/// What keeps a table and its parts as they are, and nobody from reading or writing their rows.
fn lock(table: &str) -> String {
    format!("LOCK TABLE {table} IN ACCESS SHARE MODE")
}

/// All blocks of the files, each in one range.
fn ranges(files: &[(String, i64)], readers: usize) -> Vec<Blocks<'_>> {
    let all: i64 = files.iter().map(|(_, blocks)| blocks).sum();
    let readers = i64::try_from(readers).unwrap_or(i64::MAX).max(1);
    let step = (all / readers.saturating_mul(RANGES_EACH)).max(BLOCKS_MIN);
    let mut ranges = Vec::new();
    for (file, blocks) in files {
        let mut from = 0;
        while blocks - from > step {
            ranges.push(Blocks { file, from, upto: Some(from + step) });
            from += step;
        }
        // What has come since it was asked how long it is nobody sees.
        ranges.push(Blocks { file, from, upto: None });
    }
    ranges
}

impl Blocks<'_> {
    fn copy(&self, wanted: &Wanted) -> String {
        let upto = self.upto.map(|upto| format!(" AND ctid < '({upto},0)'::tid")).unwrap_or_default();
        format!(
            "COPY (SELECT {} FROM ONLY {} WHERE ctid >= '({},0)'::tid{upto} AND ({})) TO STDOUT (FORMAT binary)",
            wanted.columns, self.file, self.from, wanted.condition
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_is_in_one_range_and_the_last_has_no_end() {
        let files =
            [("a", 0), ("b", 5_000), ("c", 100_000), ("d", 512)].map(|(name, blocks)| (name.to_string(), blocks));
        for readers in [1, 2, 3, 16] {
            let ranges = ranges(&files, readers);
            for (file, blocks) in &files {
                let of: Vec<_> = ranges.iter().filter(|range| range.file == file).collect();
                assert!(of.windows(2).all(|pair| pair[0].upto == Some(pair[1].from)), "{of:?}");
                let (first, last) = (of.first().expect("one"), of.last().expect("one"));
                assert_eq!((first.from, last.upto), (0, None));
                assert!(last.from <= *blocks && of.iter().all(|range| range.upto.is_none_or(|upto| upto < *blocks)));
            }
            let most = readers * 8 + files.len();
            assert!((4..=most).contains(&ranges.len()), "{readers}: {}", ranges.len());
        }
    }
}
