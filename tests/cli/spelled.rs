//! Intervals and arrays of PostgreSQL beside engines and files that have none: texts that mean the same are equal.

use rusqlite::Connection;

use crate::harness::Place;
use crate::server::Server;

fn lite(place: &Place, statements: &str) {
    let connection = Connection::open(place.path("b.db")).expect("a database");
    connection.execute_batch(statements).expect("statements");
}

fn texts(place: &Place, query: &str) -> Vec<String> {
    let connection = Connection::open(place.path("b.db")).expect("a database");
    let mut statement = connection.prepare(query).expect("a query");
    statement.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect()
}

#[test]
fn intervals_are_equal_however_they_are_spelled() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, span interval, typed interval);
         INSERT INTO t SELECT i, s, s FROM (VALUES (1, interval '1 year 2 months 3 days 04:05:06.789'), (2, '-1 mon +2 days -00:00:00.5'),
             (3, '0'), (4, '100 hours'), (5, NULL), (6, '1 day'), (7, '24 hours')) AS v (i, s)",
    );
    // As PostgreSQL prints them by itself, and as ISO 8601 has them.
    let printed = |style: &str| -> Vec<String> {
        let mut client = server.client();
        client.batch_execute(&format!("SET intervalstyle = {style}")).expect("a style");
        let rows = client.query("SELECT coalesce(quote_literal(span::text), 'NULL') FROM t ORDER BY id", &[]);
        rows.expect("rows").iter().map(|row| row.get(0)).collect()
    };
    lite(&place, "CREATE TABLE t (id INTEGER PRIMARY KEY, span TEXT, typed INTERVAL)");
    for (id, (span, typed)) in printed("postgres").iter().zip(printed("iso_8601")).enumerate() {
        lite(&place, &format!("INSERT INTO t VALUES ({}, {span}, {typed})", id + 1));
    }
    let a = server.table("reknit", "t");
    place.run_args(&["check", &a, "sqlite:b.db"]).ok().says(&["in sync: 7 records"]);
    let csv = printed("postgres").into_iter().zip(printed("iso_8601")).enumerate().map(|(id, (span, typed))| {
        let bare = |text: &str| if text == "NULL" { String::new() } else { text.trim_matches('\'').to_string() };
        format!("{},{},{}\n", id + 1, bare(&span), bare(&typed))
    });
    place.file("c.csv", format!("id,span,typed\n{}", csv.collect::<String>()));
    place.run_args(&["check", "csv:c.csv", &a]).ok().says(&["in sync: 7 records"]);
    // A day is not 24 hours; what is no interval differs from all that are.
    lite(&place, "UPDATE t SET span = 'PT24H' WHERE id = 6; UPDATE t SET typed = 'soon' WHERE id = 7");
    let diff = place.run_args(&["diff", &a, "sqlite:b.db"]).exits(1);
    diff.says(&["2 changed in b", "* 6", "* 7"]);
    place.run_args(&["repair", &a, "sqlite:b.db", "--to", "b", "--apply"]).ok().says(&["2 to b"]);
    assert_eq!(
        texts(&place, "SELECT span FROM t WHERE id IN (2, 6) ORDER BY id"),
        ["-1 mons +2 days -00:00:00.5", "P0M1DT0S"]
    );
    lite(
        &place,
        "UPDATE t SET span = 'P1Y', typed = '2 days' WHERE id < 3; INSERT INTO t VALUES (9, 'PT-0.5S', '1 mon')",
    );
    place
        .run_args(&["repair", &a, "sqlite:b.db", "--to", "a", "--apply", "--no-probe"])
        .ok()
        .says(&["wrote 3 records to a"]);
    let mut client = server.client();
    let same = "SELECT count(*) FROM t WHERE id < 3 AND span = interval '1 year' AND typed = interval '2 days' OR id = 9 AND span = interval '-0.5 s'";
    assert_eq!(client.query_one(same, &[]).expect("a row").get::<_, i64>(0), 3);
}

const ARRAYS: &str =
    "id int PRIMARY KEY, tags text[], n numeric[], f float8[], grid int[], at timestamptz[], doc jsonb[], ok bool[]";

#[test]
fn arrays_are_lists_of_json() {
    let (server, place) = (Server::start(), Place::new());
    server.sql(&format!(
        "CREATE TABLE t ({ARRAYS}); INSERT INTO t VALUES
         (1, '{{a,NULL,\"q\\\"\\\\,{{}}\",\"\"}}', '{{1.50,2,-0}}', '{{1,0.5,1e21}}', '{{{{1,2}},{{3,4}}}}', '{{\"2026-01-02 03:04:05+02\"}}', ARRAY['{{\"a\": 1.0}}'::jsonb], '{{t,f}}'),
         (2, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}'), (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
    ));
    lite(
        &place,
        r#"CREATE TABLE t (id INTEGER PRIMARY KEY, tags TEXT, n JSON, f, grid TEXT, at TEXT, doc JSON, ok TEXT);
           INSERT INTO t VALUES (1, '["a", null, "q\"\\,{}", ""]', '[1.5, 2.0, 0]', '[1, 0.50, 1000000000000000000000]', '[[1,2],[3,4]]',
               '["2026-01-02T01:04:05Z"]', '[{"a":1}]', '[true,false]'),
           (2, '[]', '[ ]', '[]', '[]', '[]', '[]', '[]'), (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"#,
    );
    let a = server.table("reknit", "t");
    place.run_args(&["check", &a, "sqlite:b.db"]).ok().says(&["in sync: 3 records"]);
    place.file(
        "c.jsonl",
        "{\"id\":1,\"tags\":[\"a\",null,\"q\\\"\\\\,{}\",\"\"],\"n\":[1.5,2,0],\"f\":[1,0.5,1e21],\"grid\":[[1,2],[3,4]],\"at\":[\"2026-01-02T01:04:05Z\"],\"doc\":[{\"a\":1}],\"ok\":[true,false]}
{\"id\":2,\"tags\":[],\"n\":[],\"f\":[],\"grid\":[],\"at\":[],\"doc\":[],\"ok\":[]}
{\"id\":3,\"tags\":null,\"n\":null,\"f\":null,\"grid\":null,\"at\":null,\"doc\":null,\"ok\":null}\n",
    );
    place.run_args(&["check", &a, "jsonl:c.jsonl"]).ok().says(&["in sync: 3 records"]);
    // What the one has changed the other takes, both ways.
    server.sql("UPDATE t SET tags = '{x,NULL}', n = '{7.25}', grid = '{{5},{6}}' WHERE id = 2; INSERT INTO t (id, f) VALUES (4, '{2,NaN}')");
    place.run_args(&["repair", &a, "sqlite:b.db", "--to", "b", "--apply", "--no-probe"]).ok().says(&["2 to b"]);
    assert_eq!(texts(&place, "SELECT tags || n || grid FROM t WHERE id = 2"), ["[\"x\",null][7.25][[5],[6]]"]);
    lite(
        &place,
        r#"UPDATE t SET tags = '["back\\slash", null]', n = '[1, 2.50]', f = '[3]', grid = '[[9,8],[7,6]]', at = '["2026-05-06T07:08:09Z"]',
               doc = '[{"b": [1, {}]}]', ok = '[false]' WHERE id = 1; INSERT INTO t (id, grid) VALUES (5, '[1, "x"]'), (6, '{"no": "list"}')"#,
    );
    let ran = place.run_args(&["repair", &a, "sqlite:b.db", "--to", "a", "--apply", "--no-probe"]).exits(1);
    ran.says(&[
        "wrote 1 records to a",
        "not stored: 5 in default: invalid input syntax for type integer",
        "not stored: 6 in default: ",
    ]);
    let mut client = server.client();
    let row = client.query_one("SELECT t::text FROM t WHERE id = 1", &[]).expect("a row").get::<_, String>(0);
    let wanted = r#"(1,"{""back\\\\slash"",NULL}","{1,2.5}",{3},"{{9,8},{7,6}}","{""2026-05-06 07:08:09+00""}","{""{\\""b\\"": [1, {}]}""}",{f})"#;
    assert_eq!(row.replace("+00:00", "+00"), wanted);
    // Nothing that differs is hidden.
    lite(
        &place,
        "DELETE FROM t WHERE id > 4; UPDATE t SET tags = '[\"back\\\\slash\"]' WHERE id = 1; UPDATE t SET tags = NULL WHERE id = 2",
    );
    place.run_args(&["diff", &a, "sqlite:b.db"]).exits(1).says(&["* 1\t", "* 2\t"]);
}
