//! Which tables a database has, or a schema of it.

use super::PostgresAddress;
use super::connect::{Connector, told};
use crate::store::StoreError;

/// Tables, partitioned ones whole, as they are called, and as an address has them: those that are found without naming a schema, or
/// those of one.
const ALL: &str = "SELECT c.relname::text, \
                   CASE WHEN $1 = '' THEN format('%I', c.relname) ELSE format('%I.%I', n.nspname, c.relname) END \
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                   WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_' \
                   AND n.nspname <> 'information_schema' AND c.relname !~ '^reknit_' \
                   AND CASE WHEN $1 = '' THEN pg_table_is_visible(c.oid) ELSE n.nspname = $1 END ORDER BY 1";

/// The tables of an address whose table is `*` or `SCHEMA.*`: what each is called, and how it is written in an address.
pub(super) fn all(address: &PostgresAddress) -> Result<Vec<(String, String)>, StoreError> {
    let wrong = |message: String| StoreError::database(&address.place, message);
    let schema = address.table.strip_suffix('*').and_then(|schema| schema.strip_suffix('.')).unwrap_or_default();
    let mut client = Connector::new(address).map_err(wrong)?.connect().map_err(wrong)?;
    let rows = client.query(ALL, &[&schema]).map_err(|error| wrong(told(&error)))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
