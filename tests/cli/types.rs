//! Every type that PostgreSQL has without extensions: equal with itself in another database, different when it changed, and repaired.

use crate::harness::Place;
use crate::server::Server;

/// Types, each with two values of it.
const TYPES: &[[&str; 3]] = &[
    ["boolean", "t", "f"],
    ["smallint", "-1", "32767"],
    ["integer", "1", "-2147483648"],
    ["bigint", "9223372036854775807", "0"],
    ["oid", "4294967295", "1"],
    ["real", "0.1", "Infinity"],
    ["double precision", "0.1", "NaN"],
    ["numeric", "1e100", "NaN"],
    ["numeric(9,2)", "1.50", "1.51"],
    ["money", "$1,234.50", "-$0.01"],
    ["text", "it's \"\\\" \t", ""],
    ["varchar(9)", "a ", "a"],
    ["char(9)", "a", "b"],
    ["\"char\"", "a", "\\200"],
    ["name", "n", "m"],
    ["bytea", "\\x00ff", "\\x"],
    ["date", "2026-02-28", "infinity"],
    ["time", "24:00:00", "00:00:00.000001"],
    ["timetz", "12:00:00+02", "10:00:00+00"],
    ["timestamp", "2026-02-28 01:02:03.000004", "-infinity"],
    ["timestamptz", "2026-02-28 01:02:03+05:30", "infinity"],
    ["interval", "1 mon", "30 days"],
    ["uuid", "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "00000000-0000-0000-0000-000000000000"],
    ["json", "{\"a\":[1,null]}", "{\"a\":[1]}"],
    ["jsonb", "{\"a\": [1, null]}", "[]"],
    ["jsonpath", "$.a", "$.b"],
    ["xml", "<a>1</a>", "<a>2</a>"],
    ["bit(4)", "1010", "0101"],
    ["bit varying", "1", "10"],
    ["macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:04"],
    ["macaddr8", "08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:06"],
    ["inet", "10.0.0.1/8", "::1"],
    ["cidr", "10.0.0.0/8", "10.0.0.0/9"],
    ["point", "(1,2)", "(1,-2)"],
    ["line", "{1,-1,0}", "{1,-1,1}"],
    ["lseg", "[(0,0),(1,1)]", "[(0,0),(1,2)]"],
    ["box", "(1,1),(0,0)", "(2,1),(0,0)"],
    ["path", "((0,0),(1,1))", "[(0,0),(1,1)]"],
    ["polygon", "((0,0),(1,1),(1,0))", "((0,0),(1,1),(2,0))"],
    ["circle", "<(0,0),1>", "<(0,0),2>"],
    ["int4range", "[1,5)", "empty"],
    ["int8range", "[1,5)", "[1,)"],
    ["numrange", "[1.0,5)", "(1.0,5)"],
    ["tsrange", "[2026-01-01,2026-01-02)", "[2026-01-01,2026-01-02]"],
    ["tstzrange", "[2026-01-01,)", "(,2026-01-01)"],
    ["daterange", "[2026-01-01,2026-01-02)", "[2026-01-01,2026-01-03)"],
    ["int4multirange", "{[1,2),[5,6)}", "{}"],
    ["tsvector", "'a':1 'b':2", "'a':2"],
    ["tsquery", "'a' & 'b'", "'a' | 'b'"],
    ["pg_lsn", "0/16B3748", "1/0"],
    ["pg_snapshot", "10:20:10,14", "10:20:"],
    ["xid", "5", "6"],
    ["xid8", "5", "5000000000"],
    ["cid", "1", "2"],
    ["tid", "(0,1)", "(0,2)"],
    ["regtype", "integer", "text"],
    ["oidvector", "1 2", "2 1"],
    ["int2vector", "1 2", "2 1"],
    ["refcursor", "c", "d"],
    ["mood", "fine", "it's bad"],
    ["pair", "(1,\"a,\"\"b\")", "(,)"],
    ["short", "abc", "abd"],
    ["shorts", "{abc,NULL}", "{}"],
    ["paired", "(2,x)", "(3,x)"],
    ["integer[]", "{1,NULL,3}", "{1,3}"],
    ["text[]", "{\"a,b\",\"\",NULL,\"NULL\"}", "{{a},{b}}"],
    ["mood[]", "{fine}", "{\"it's bad\"}"],
    ["pair[]", "{\"(1,a)\",NULL}", "{\"(1,b)\",NULL}"],
    ["inet[]", "{10.0.0.1}", "{10.0.0.2}"],
    ["int4range[]", "{\"[1,2)\"}", "{empty}"],
    ["jsonb[]", "{\"{\\\"a\\\": 1}\"}", "{\"{\\\"a\\\": 2}\"}"],
    ["numeric[]", "{1.5}", "{1.25}"],
    ["timestamptz[]", "{\"2026-01-01 00:00:00+00\"}", "{\"2026-01-01 00:00:01+00\"}"],
];

const MADE: &str = "CREATE TYPE mood AS ENUM ('fine', 'it''s bad'); CREATE TYPE pair AS (x integer, y text);
    CREATE DOMAIN short AS varchar(3) CHECK (value <> ''); CREATE DOMAIN shorts AS short[]; CREATE DOMAIN paired AS pair CHECK ((value).x > 0);";

/// A table with a column for each type, and a row for each; in its own row a column may have its other value.
fn table(changed: bool) -> String {
    let columns = TYPES.iter().enumerate().map(|(nth, [of, ..])| format!("c{nth} {of}")).collect::<Vec<_>>().join(", ");
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let row = |id: usize| {
        let value =
            |(nth, [_, one, other]): (usize, &[&str; 3])| quoted(if changed && nth == id { other } else { one });
        format!("({id}, {})", TYPES.iter().enumerate().map(value).collect::<Vec<_>>().join(", "))
    };
    let rows = (0..=TYPES.len()).map(row).collect::<Vec<_>>().join(", ");
    format!(
        "{MADE} CREATE TABLE t (id int PRIMARY KEY, {columns}); INSERT INTO t VALUES {rows}; INSERT INTO t (id) VALUES (-1)"
    )
}

fn printed(server: &Server) -> Vec<String> {
    let rows = server.client().query("SELECT t::text FROM t ORDER BY id", &[]).expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn every_type_is_equal_with_itself_and_different_when_it_changed() {
    let (place, [a, b, c]) = (
        Place::new(),
        [false, false, true].map(|changed| {
            let server = Server::start();
            server.sql(&table(changed));
            server
        }),
    );
    let [of_a, of_b, of_c] = [&a, &b, &c].map(|server| server.table("reknit", "t"));
    place.run_args(&["check", &of_a, &of_b]).ok().says(&[&format!("in sync: {} records", TYPES.len() + 2)]);
    let mut command = place.command(&["diff", &of_a, &of_c]);
    let ran = crate::harness::Ran::of(command.env("REKNIT_FORMAT", "jsonl").output().expect("the binary")).exits(1);
    let listed: Vec<String> =
        ran.objects().iter().filter_map(|object| object["key"].as_str().map(String::from)).collect();
    let missed: Vec<&[&str; 3]> =
        TYPES.iter().enumerate().filter(|(nth, _)| !listed.contains(&nth.to_string())).map(|(_, of)| of).collect();
    assert_eq!((missed, listed.len()), (Vec::new(), TYPES.len()));
    // Each can be written as it is, too: by a repair, and by its statements.
    place.run_args(&["repair", &of_a, &of_b, "--to", "b", "--apply"]).ok();
    let repair = ["repair", &of_a, &of_c, "--to", "b", "--no-probe", "--max-change", "100%"];
    place.run_args(&[&repair[..], &["--where", "id % 2 = 0", "--sql", "c.sql"]].concat()).exits(1);
    let statements = place.read("c.sql");
    let statements: String =
        statements.lines().filter(|line| !line.starts_with('\\')).map(|line| format!("{line}\n")).collect();
    c.sql(&statements);
    let left = printed(&a).into_iter().zip(printed(&c)).filter(|(one, other)| one != other).count();
    assert_eq!(left, TYPES.len() / 2, "the statements have written every other row");
    place.run_args(&[&repair[..], &["--apply"]].concat()).ok().says(&[&format!("{left} to b")]);
    assert_eq!(printed(&a), printed(&c));
}
