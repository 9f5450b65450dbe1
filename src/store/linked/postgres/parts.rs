//! The tables that hold a table's rows, and what tells that their files or their number have changed: rows that come and go by
//! DDL, as by a rewriting ALTER TABLE, TRUNCATE, or a part that is detached, are no changes to any feed.

use postgres::Client;

/// The table and those below it, at any depth, as a list of object identifiers.
pub(super) const PARTS: &str = "WITH RECURSIVE parts(oid) AS (SELECT $1::oid UNION SELECT inhrelid FROM pg_inherits \
                                JOIN parts ON inhparent = parts.oid)";

/// What is known of each part: the file that holds it, how its rows are identified, its columns, and when it became a part.
const LAYOUT: &str = "SELECT coalesce(string_agg(concat_ws(' ', c.oid, c.relfilenode, c.relreplident, \
                      (SELECT string_agg(concat_ws(' ', a.attnum, a.atttypid, a.attname), ' ' ORDER BY a.attnum) FROM pg_attribute a \
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
                      (SELECT string_agg(concat(i.inhparent, ' ', i.xmin), ' ' ORDER BY i.inhparent) FROM pg_inherits i \
                      WHERE i.inhrelid = c.oid)), '; ' ORDER BY c.oid), '') FROM pg_class c JOIN parts USING (oid)";

/// Bytes of a digest that tell one layout from another.
const TOLD_BYTES: usize = 16;

/// Why a feed has a gap where the layout is another one.
pub(super) const ANOTHER: &str = "since it was read the table was emptied by TRUNCATE, rewritten (by ALTER TABLE, VACUUM FULL or \
                                  CLUSTER), or its columns, its parts or its REPLICA IDENTITY are others";

/// The table and its parts, each as SQL names it.
pub(super) fn names(client: &mut Client, oid: u32) -> Result<Vec<String>, postgres::Error> {
    let sql = format!("{PARTS} SELECT oid::regclass::text FROM parts ORDER BY 1");
    Ok(client.query(&sql, &[&oid])?.iter().map(|row| row.get(0)).collect())
}

/// What tells this layout from others.
pub(super) fn layout(client: &mut Client, oid: u32) -> Result<String, postgres::Error> {
    let text: String = client.query_one(&format!("{PARTS} {LAYOUT}"), &[&oid])?.get(0);
    Ok(digest(&text))
}

pub(super) fn digest(text: &str) -> String {
    let digest = blake3::hash(text.as_bytes());
    digest.as_bytes().iter().take(TOLD_BYTES).map(|byte| format!("{byte:02x}")).collect()
}
