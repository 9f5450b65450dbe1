//! What a user lacks to read, write or follow a table, as the statements that give it. Only catalogs are read, which everybody
//! may, so that whoever has no right at all is told too.

use postgres::Client;

use super::{Connector, PostgresAddress, ident, parts, quoted, told};
use crate::store::StoreError;
use crate::store::linked::Purpose;

/// The table of a name as SQL writes it; where that names no schema, one that is found without, if there is one.
const NAMED: &str = "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, parse_ident($1) AS parts \
                     WHERE c.relname = parts[cardinality(parts)] AND c.relkind IN ('r', 'p') \
                     AND (cardinality(parts) = 2 AND n.nspname = parts[1] \
                         OR cardinality(parts) = 1 AND n.nspname NOT IN ('pg_catalog', 'information_schema')) \
                     ORDER BY pg_table_is_visible(c.oid) DESC, c.oid LIMIT 1";

/// Who asks, where the table is, and which rights there are, or will be of whoever is to have those of the owner.
const RIGHTS: &str = "SELECT current_user::text, current_database()::text, n.nspname::text, c.relname::text, \
    has_schema_privilege(n.oid, 'USAGE') OR $2 AND has_schema_privilege(c.relowner, n.oid, 'USAGE'), \
    has_table_privilege(c.oid, 'SELECT') OR $2 AND has_table_privilege(c.relowner, c.oid, 'SELECT'), \
    has_table_privilege(c.oid, 'INSERT'), \
    has_table_privilege(c.oid, 'UPDATE'), has_table_privilege(c.oid, 'DELETE'), \
    has_schema_privilege(n.oid, 'CREATE') OR $2 AND has_schema_privilege(c.relowner, n.oid, 'CREATE'), \
    has_database_privilege(current_database(), 'CREATE') OR $2 AND has_database_privilege(c.relowner, current_database(), 'CREATE'), \
    (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1";

/// Sequences that give values to its columns, as SQL names them, which the user may not move.
const SEQUENCES: &str = "SELECT n.nspname::text, s.relname::text FROM pg_depend d JOIN pg_class s ON s.oid = d.objid \
    JOIN pg_namespace n ON n.oid = s.relnamespace WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass \
    AND d.refobjid = $1 AND d.deptype IN ('a', 'i') AND s.relkind = 'S' \
    AND NOT (has_sequence_privilege(s.oid, 'SELECT') AND has_sequence_privilege(s.oid, 'UPDATE')) ORDER BY 1, 2";

/// Owners of the table and its parts, whose rights the user has not.
const OWNERS: &str = "SELECT DISTINCT pg_get_userbyid(c.relowner)::text FROM pg_class c JOIN parts USING (oid) \
                      WHERE NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1";

/// The statements that let the user of an address do something with its table, as far as they are lacking.
///
/// # Errors
/// [`StoreError::Database`].
pub(super) fn lacking_at(address: &PostgresAddress, purpose: Purpose) -> Result<Vec<String>, StoreError> {
    let wrong = |message: String| StoreError::database(&address.place, message);
    let name = address.table.as_str();
    let mut client = Connector::new(address).and_then(|connector| connector.connect()).map_err(wrong)?;
    let mut run = || {
        let Some(row) = client.query_opt(NAMED, &[&name])? else { return Ok(None) };
        lacking(&mut client, row.get(0), purpose).map(Some)
    };
    let found = run().map_err(|error: postgres::Error| wrong(told(&error)))?;
    found.ok_or_else(|| wrong(format!("there is no table {name}; write it as schema.table")))
}

/// The statements that let this user do something with a table, as far as they are lacking.
pub(super) fn lacking(client: &mut Client, oid: u32, purpose: Purpose) -> Result<Vec<String>, postgres::Error> {
    let by_owner = matches!(purpose, Purpose::Triggers | Purpose::Slot);
    let row = client.query_one(RIGHTS, &[&oid, &by_owner])?;
    let name = |nth: usize| row.get::<_, String>(nth);
    let (user, schema, table) = (ident(&name(0)), ident(&name(2)), quoted(&(name(2), name(3))));
    let database = ident(&name(1));
    let mut all = Vec::new();
    let mut need = |nth: usize, sql: String| {
        if !row.get::<_, bool>(nth) {
            all.push(sql);
        }
    };
    need(4, format!("GRANT USAGE ON SCHEMA {schema} TO {user}"));
    need(5, format!("GRANT SELECT ON TABLE {table} TO {user}"));
    match purpose {
        Purpose::Compare => {}
        Purpose::Repair => {
            for (nth, right) in [(6, "INSERT"), (7, "UPDATE"), (8, "DELETE")] {
                need(nth, format!("GRANT {right} ON TABLE {table} TO {user}"));
            }
            for row in client.query(SEQUENCES, &[&oid])? {
                let sequence = quoted(&(row.get(0), row.get(1)));
                all.push(format!("GRANT SELECT, UPDATE ON SEQUENCE {sequence} TO {user}"));
            }
        }
        Purpose::Triggers | Purpose::Slot => {
            if purpose == Purpose::Triggers {
                need(9, format!("GRANT CREATE ON SCHEMA {schema} TO {user}"));
            } else {
                need(10, format!("GRANT CREATE ON DATABASE {database} TO {user}"));
                need(11, format!("ALTER ROLE {user} REPLICATION"));
            }
            // Only an owner's triggers fire always, and only an owner publishes.
            for row in client.query(&format!("{} {OWNERS}", parts::PARTS), &[&oid])? {
                all.push(format!("GRANT {} TO {user}", ident(row.get(0))));
            }
        }
    }
    Ok(all)
}
