//! Looking changes nothing: whoever may only read compares, and the database is as it was, rows and catalogs.

use postgres::Client;

use crate::harness::Place;
use crate::server::Server;

/// What a database is made of, and all rows of its tables; without what the server counts for itself.
fn everything(client: &mut Client) -> Vec<String> {
    let mut all = Vec::new();
    for (catalog, columns) in [
        (
            "pg_class",
            "oid, relname, relnamespace, relkind, relowner, relacl, relfilenode, relhastriggers, reloptions, relnatts, relpersistence, relreplident",
        ),
        ("pg_attribute", "attrelid, attnum, attname, atttypid, attacl"),
        ("pg_namespace", "oid, nspname, nspowner"),
        ("pg_proc", "oid, proname, prosrc, proacl"),
        ("pg_trigger", "oid, tgrelid, tgname, tgenabled"),
        ("pg_event_trigger", "oid, evtname"),
        ("pg_rewrite", "oid, ev_class, rulename"),
        ("pg_type", "oid, typname"),
        ("pg_constraint", "oid, conname, conrelid"),
        ("pg_index", "indexrelid, indrelid, indisvalid"),
        ("pg_publication", "oid, pubname"),
        ("pg_publication_rel", "oid, prpubid, prrelid"),
        ("pg_replication_slots", "slot_name, slot_type, temporary"),
        ("pg_subscription", "oid, subname"),
        ("pg_description", "objoid, classoid, objsubid, description"),
        ("pg_shdescription", "objoid, description"),
        ("pg_roles", "oid, rolname, rolconfig"),
        ("pg_db_role_setting", "setdatabase, setrole, setconfig"),
        ("pg_database", "oid, datname, datacl"),
        ("pg_extension", "oid, extname"),
        ("pg_largeobject_metadata", "oid"),
        ("pg_sequences", "schemaname, sequencename, last_value"),
        ("pg_settings", "name, setting, source"),
        ("pg_prepared_xacts", "gid"),
    ] {
        let rows =
            client.query(&format!("SELECT concat_ws('|', {columns}) FROM {catalog} ORDER BY 1"), &[]).expect(catalog);
        all.extend(rows.iter().map(|row| format!("{catalog}: {}", row.get::<_, String>(0))));
    }
    for table in ["a", "b"] {
        // Where a row lies, and which transactions have written or locked it, tells of writing that left nothing else.
        let rows = format!("SELECT concat_ws('|', ctid, xmin, xmax, {table}::text) FROM {table} ORDER BY 1");
        all.extend(client.query(&rows, &[]).expect("rows").iter().map(|row| row.get::<_, String>(0)));
    }
    all
}

#[test]
fn a_user_who_may_only_read_compares_and_changes_nothing() {
    let (server, place) = (Server::with_slots(), Place::new());
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id bigserial PRIMARY KEY, v text, at timestamptz, n numeric, tags text[]);
             INSERT INTO {name} (v, at, n, tags) SELECT 'v' || i, timestamptz '2026-01-01' + i * interval '1 s', i / 4.0, ARRAY[i::text]
             FROM generate_series(1, 2000) AS i; COMMENT ON TABLE {name} IS 'theirs';"
        )
    };
    server.sql(&table("a"));
    server.sql(&table("b"));
    server.sql(
        "UPDATE b SET v = 'other' WHERE id IN (7, 70); DELETE FROM b WHERE id = 700; INSERT INTO b (v) VALUES ('more');
         CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it was written'; END $$;
         CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON a EXECUTE FUNCTION no();
         CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON b EXECUTE FUNCTION no();
         CREATE PUBLICATION theirs FOR TABLE a;
         CREATE ROLE reader LOGIN; REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO reader;
         REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC; GRANT SELECT ON a, b TO reader",
    );
    server.sql("SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')");
    server.sql("VACUUM FREEZE ANALYZE");
    let (a, b) = (server.table("reader", "a"), server.table("reader", "b"));
    let mut client = server.client();
    let before = everything(&mut client);
    let whole = a.strip_suffix("/a").expect("the table");
    for (command, exit) in [
        (&["check", &a, &b][..], 1),
        (&["check", &a, &b, "--chunk-time", "10ms", "--max-rate", "1000000"], 1),
        (&["diff", &a, &b], 1),
        (&["diff", &a, &b, "--where", "id < 500", "--ignore", "n"], 1),
        (&["drift", &a, &b], 1),
        (&["explain", &a], 0),
        (&["explain", &a, &b], 0),
        (&["explain", &a, "--grants", "triggers"], 0),
        (&["explain", &a, "--grants", "slot"], 0),
        (&["inspect", &a, "7", "--against", &b], 1),
        (&["inspect", &b, "9", "--against", &a], 0),
        (&["inspect", &a, "12345"], 1),
        (&["repair", &a, &b, "--to", "b", "--delete", "--no-probe"], 1),
        (&["repair", &a, &b, "--to", "a", "--sql", "b.sql", "--no-probe"], 1),
        (&["repair", &a, &b, "--to", "b", "--plan", "b.plan", "--no-probe"], 1),
        // It says which right is lacking.
        (&["index", "build", &a, "--feed", "triggers"], 2),
        (&["index", "status", &a], 0),
        (&["index", "verify", &a], 0),
        (&["check", whole, whole, "--map", "a.a=b.b,a.b=b.a"], 1),
    ] {
        let ran = place.run_args(command);
        assert_eq!(ran.exit, Some(exit), "{command:?}: {ran:?}");
        let after = everything(&mut client);
        let changed: Vec<&String> = before.iter().filter(|line| !after.contains(line)).collect();
        let come: Vec<&String> = after.iter().filter(|line| !before.contains(line)).collect();
        assert!(before == after, "{command:?}: {changed:?} became {come:?}");
    }
}
