//! `repair --sql`: the statements do what the repair would, when `psql` and `sqlite3` run them; nothing else is written.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rusqlite::Connection;
use serde_json::json;

use crate::harness::{Place, Ran};
use crate::server::Server;

/// Runs a file by SQLite's own shell.
pub(crate) fn sqlite3(place: &Place, database: &str, file: &str) -> Ran {
    let mut command = Command::new("sqlite3");
    command.arg("-init").arg("/dev/null").arg("-batch").arg(place.path(database));
    command.stdin(std::fs::File::open(place.path(file)).expect("a file"));
    Ran::of(command.output().expect("sqlite3 is installed; scripts/test sees to it"))
}

/// Runs a file by PostgreSQL's, which stops at the first error or not, with these settings.
pub(crate) fn psql(server: &Server, place: &Place, file: &str, (stops, settings): (&str, &str)) -> Ran {
    let mut command = Command::new("psql");
    command.args(["-X", "-v", &format!("ON_ERROR_STOP={stops}"), "-f"]).arg(place.path(file)).arg(server.conninfo());
    command.env("PGOPTIONS", settings).env("LC_ALL", "C");
    Ran::of(command.output().expect("psql"))
}

fn lite(place: &Place, file: &str, statements: &str) {
    let connection = Connection::open(place.path(file)).expect("a database");
    connection.execute_batch(statements).expect("statements");
}

const ODD: &str =
    "CREATE TABLE \"odd \"\"na'me\" (\"the key\" TEXT COLLATE NOCASE NOT NULL, n INTEGER NOT NULL, v, r REAL, b BLOB,
    g TEXT AS (upper(v)) STORED, h INTEGER AS (n + 1), PRIMARY KEY (n, \"the key\"));";

#[test]
fn sqlite_runs_what_a_repair_would_write() {
    let place = Place::new();
    for file in ["a.db", "b.db"] {
        lite(&place, file, ODD);
    }
    let insert = "INSERT INTO \"odd \"\"na'me\" (\"the key\", n, v, r, b)";
    lite(
        &place,
        "a.db",
        &format!(
            "{insert} VALUES ('it''s', 1, 'a' || char(13, 10) || '.quit' || char(10) || ';--', 0.1, x'00ff'),
                 ('K', 2, '', 1e300, x''), ('k', 3, NULL, -1.5, NULL), ('z' || char(0) || 'z', 4, 9223372036854775807, 5e-324, 'text'),
                 ('é', 5, 12.25, 9e999, CAST(x'ff' AS TEXT)), ('same', 6, 'same', 2.0, NULL);"
        ),
    );
    lite(
        &place,
        "b.db",
        &format!(
            "{insert} VALUES ('it''s', 1, 'old' || char(10), 1.0, x'01'), ('K', 2, NULL, NULL, CAST(x'fe' AS TEXT)),
                 ('gone', 7, 'x', 1.0, x'02'), ('same', 6, 'same', 2.0, NULL);"
        ),
    );
    let before = std::fs::read(place.path("b.db")).expect("a file");
    let repair = |more: &str| place.run(&format!("repair sqlite:a.db sqlite:b.db --to b --delete --no-probe {more}"));
    let dry = repair("").exits(1);
    place.file("b.sql.77.part", "half of one that was killed");
    let told = repair("--sql b.sql --batch 2").exits(1);
    assert!(told.err.contains("b.sql.77.part, left by a command that was killed"), "{}", told.err);
    assert!(!place.path("b.sql.77.part").exists());
    // It says what the dry run says, and what is in the file.
    let line = |ran: &Ran| ran.out.lines().find(|line| line.starts_with("would write")).map(str::to_owned);
    assert_eq!(line(&dry).map(|line| line.replace(", add --apply to write", "")), line(&told));
    told.says(&[
        "would write 0 records to a and 6 to b",
        "6 statements for b in 3 transactions written to b.sql: 3 rows inserted, 2 changed, 1 deleted",
    ]);
    assert!(before == std::fs::read(place.path("b.db")).expect("a file"), "nothing is written but the file");
    let mode = std::fs::metadata(place.path("b.sql")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!place.names(&place.path("")).iter().any(|name| name.ends_with(".part")));
    repair("--sql b.sql").fails("sql.exists");
    let ran = sqlite3(&place, "b.db", "b.sql").ok();
    assert_eq!(ran.err, "");
    place.run("check sqlite:a.db sqlite:b.db").ok().says(&["in sync: 6 records"]);
    repair("--sql c.sql").ok().says(&["no statements for b: c.sql was not written"]);
    assert!(!place.path("c.sql").exists());
}

#[test]
fn a_statement_leaves_what_has_changed_since() {
    let place = Place::new();
    let make = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, w TEXT); INSERT INTO t VALUES (1, 'a', ''), (2, 'a', ''), (3, 'a', '')";
    lite(&place, "a.db", make);
    lite(&place, "b.db", make);
    lite(
        &place,
        "a.db",
        "UPDATE t SET v = 'b' WHERE id < 3; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (4, 'n', ''), (5, 'n', '')",
    );
    let json = place.json("repair sqlite:a.db sqlite:b.db --to b --delete --no-probe --sql b.sql").exits(1).summary();
    let said = json!({
        "file": place.path("b.sql"), "inserts": 2, "updates": 2, "deletes": 1, "transactions": 1, "left": 0
    });
    assert_eq!([&json["sql"], &json["wrote"], &json["would_write"]["b"]], [&said, &json!(0), &json!(5)]);
    // Another column of a row, one that goes, one that came.
    lite(&place, "b.db", "UPDATE t SET w = 'mine' WHERE id IN (1, 3); INSERT INTO t VALUES (4, 'mine', '')");
    sqlite3(&place, "b.db", "b.sql").ok();
    let connection = Connection::open(place.path("b.db")).expect("a database");
    let mut statement = connection.prepare("SELECT id || v || w FROM t ORDER BY id").expect("a query");
    let rows: Vec<String> = statement.query_map([], |row| row.get(0)).expect("rows").map(Result::unwrap).collect();
    assert_eq!(rows, ["1amine", "2b", "3amine", "4mine", "5n"]);
}

#[test]
fn what_cannot_be_a_file_of_statements_is_refused() {
    let place = Place::new();
    let make = |n: u32| {
        format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY); WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < {n}) INSERT INTO t SELECT x FROM i"
        )
    };
    lite(&place, "a.db", &make(10));
    lite(&place, "b.db", &make(90));
    let refused = |more: &str, id: &str| {
        place
            .run(&format!("repair sqlite:a.db sqlite:b.db --sql f.sql {more}"))
            .exits(4)
            .says(&[id, "wrote 0 records"]);
        assert!(!place.path("f.sql").exists());
    };
    refused("--to both", "[repair.sql]");
    refused("--newest id", "[repair.sql]");
    refused("--to b --apply", "[repair.sql]");
    refused("--to b --plan p", "[repair.sql]");
    // As a repair would be.
    refused("--to b --delete", "[repair.braked]");
    place.run("repair sqlite:a.db sqlite:b.db --sql no/f.sql --to b --delete --max-delete 100%").fails("sql.file");
    place.run("repair sqlite:a.db sqlite:b.db --sql f.sql --to b").exits(1).says(&["no statements for b"]);
    place.run("init s").ok();
    place.run("repair s s --sql f.sql").exits(4).says(&["[repair.tables]"]);
}

#[test]
fn psql_runs_what_a_repair_would_write() {
    let (server, place) = (Server::start(), Place::new());
    let table = "(id serial PRIMARY KEY, label text, code char(4), n numeric(12, 2), f real, d double precision, ok boolean, raw bytea,
        at timestamptz, civil timestamp, day date, clock time, span interval, doc json, docs jsonb, tags text[], lists json[],
        net inet, odd point, spot int4range, twice bigint GENERATED ALWAYS AS (id * 2) STORED, \"Odd \"\"Name\" text)";
    server.sql(&format!(
        "CREATE TABLE a {table}; CREATE SCHEMA \"o's\"; CREATE TABLE \"o's\".\"B b\" {table};
         INSERT INTO a (id, label, code, n, f, d, ok, raw, at, civil, day, clock, span, doc, docs, tags, lists, net, odd, spot, \"Odd \"\"Name\")
             SELECT i, E'it''s \\\\ :x\\n\\\\q\\r\\t\\x01' || i, 'ab', i + 0.25, i / 3.0, i / 7.0, i % 2 = 0, decode('00ff' || lpad(i::text, 2, '0'), 'hex'),
                 '2026-01-02 03:04:05.000006+02'::timestamptz + i * interval '1 day', 'infinity', date '0044-03-15 BC' + i, '24:00',
                 make_interval(months => i, days => -i, secs => i / 7.0), '{{\"b\": 1.50, \"a\": [null, \"\\u00e9\"]}}', '{{\"a\": 1e5}}',
                 ARRAY['x', NULL, '', 'a\"b\\c{{'], ARRAY['{{\"q\": 1}}'::json], ('10.0.0.' || i)::inet, point(i, 1.5), int4range(i, i + 5), 'q'
             FROM generate_series(1, 40) AS i;
         INSERT INTO a (id, label) VALUES (77, NULL);
         INSERT INTO \"o's\".\"B b\" (id, label, doc, lists, odd, raw, tags, day)
             SELECT i, E'old\\n', '{{\"x\":  1}}', ARRAY['[1]'::json, NULL], point(0, i), '\\x', '{{}}', 'infinity' FROM generate_series(1, 20) AS i;
         INSERT INTO \"o's\".\"B b\" (id, label, f) VALUES (99, 'more', 'NaN')"
    ));
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "\"o's\".\"B b\""));
    let repair = |more: &[&str]| {
        place.run_args(
            &[&["repair", &a, &b, "--to", "b", "--delete", "--no-probe", "--max-change", "100%"], more].concat(),
        )
    };
    let told = repair(&["--sql", "b.sql", "--batch", "25"]).exits(1);
    told.says(&["42 statements for b in 2 transactions written to b.sql: 21 rows inserted, 20 changed, 1 deleted"]);
    let text = place.read("b.sql");
    assert_eq!(text.lines().filter(|line| *line == "COMMIT;").count(), 2);
    // What has changed since is left.
    server.sql("UPDATE \"o's\".\"B b\" SET raw = '\\x01' WHERE id = 7");
    let psql = |settings: &str| psql(&server, &place, "b.sql", ("1", settings));
    let ran = psql("-c standard_conforming_strings=off -c datestyle=sql,dmy -c intervalstyle=sql_standard -c search_path=pg_catalog").ok();
    assert_eq!(ran.out.lines().filter(|line| *line == "UPDATE 0").count(), 1, "{ran:?}");
    let left = place.run_args(&["diff", &a, &b]).exits(1);
    left.says(&["* 7\t", "1 with different content"]);
    // It is put right as any other difference; and its numbers are not given out again.
    repair(&["--apply"]).ok().says(&["1 to b"]);
    assert_eq!(
        server.client().query("SELECT 1 FROM a EXCEPT ALL SELECT 1 FROM \"o's\".\"B b\"", &[]).expect("rows").len(),
        0
    );
    let next =
        server.client().query_one("INSERT INTO \"o's\".\"B b\" (label) VALUES ('') RETURNING id", &[]).expect("a row");
    assert_eq!(next.get::<_, i32>(0), 78);
}

#[test]
fn statements_cross_from_one_database_to_another() {
    let (server, place) = (Server::start(), Place::new());
    server.sql("CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz); INSERT INTO t SELECT i, 'v' || i, now() FROM generate_series(1, 9) AS i");
    lite(
        &place,
        "b.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, at TEXT); INSERT INTO t VALUES (1, 'x', '2026-01-01 00:00:00+01:00')",
    );
    let pg = server.table("reknit", "t");
    let to_lite = place.run_args(&["repair", &pg, "sqlite:b.db", "--to", "b", "--no-probe", "--sql", "b.sql"]).exits(1);
    to_lite.says(&["9 statements for b in 1 transaction "]);
    sqlite3(&place, "b.db", "b.sql").ok();
    place.run_args(&["check", &pg, "sqlite:b.db"]).ok();
    lite(
        &place,
        "b.db",
        "UPDATE t SET v = 'a' || char(9) WHERE id < 4; INSERT INTO t VALUES (50, 'a' || char(0), NULL)",
    );
    let ran = place.run_args(&["repair", &pg, "sqlite:b.db", "--to", "a", "--no-probe", "--sql", "a.sql"]).exits(1);
    ran.says(&["3 statements for a", "in no statement: 50: the column v cannot hold a zero byte"]);
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-f"]).arg(place.path("a.sql")).arg(server.conninfo());
    Ran::of(psql.output().expect("psql")).ok();
    place.run_args(&["diff", &pg, "sqlite:b.db"]).exits(1).says(&["* 50\t"]);
}

#[test]
fn what_rows_refer_to_comes_first() {
    let (server, place) = (Server::start(), Place::new());
    let table = |name: &str, fk: &str| format!("CREATE TABLE {name} (id int PRIMARY KEY, parent int {fk});");
    server.sql(&format!(
        "{}{} INSERT INTO a SELECT i, nullif(i + 1, 41) FROM generate_series(1, 40) AS i; INSERT INTO b SELECT i, nullif(i - 1, 100) FROM generate_series(101, 140) AS i",
        table("a", ""),
        table("b", "REFERENCES b ON DELETE CASCADE")
    ));
    let (a, b) = (server.table("reknit", "a"), server.table("reknit", "b"));
    place
        .run_args(&[
            "repair",
            &a,
            &b,
            "--to",
            "b",
            "--delete",
            "--max-delete",
            "100%",
            "--batch",
            "7",
            "--sql",
            "b.sql",
        ])
        .exits(1)
        .says(&["80 statements for b in 12 transactions"]);
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(place.path("b.sql")).arg(server.conninfo());
    Ran::of(psql.output().expect("psql")).ok();
    place.run_args(&["check", &a, &b]).ok().says(&["in sync: 40 records"]);
}
