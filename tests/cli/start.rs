//! The guide for those who begin is run as it is written, and what it says of uninstalling is true.

use crate::harness::Place;
use crate::server::Server;

/// Whether a text is as it was written, where `…` stands for anything.
fn is_as_written(text: &str, written: &str) -> bool {
    let mut parts = written.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut last = "";
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = part;
    }
    rest.is_empty() || written.ends_with('…') && last.is_empty()
}

#[test]
fn the_guide_to_two_databases_is_true() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/start/repair-two-databases.md"));
    let guide = guide.expect("the guide");
    let (server, mut place) = (Server::start(), Place::new());
    let create = guide.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the table");
    server.sql(create);
    server.sql(
        "INSERT INTO orders SELECT i, 'paid', i / 100.0, timestamptz '2026-01-01' + i * interval '1 hour'
         FROM generate_series(1, 1000) AS i",
    );
    let copy = rusqlite::Connection::open(place.path("copy.db")).expect("a database");
    copy.execute_batch(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, state TEXT, price TEXT, paid TEXT);
         WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 1000)
         INSERT INTO orders SELECT x, 'paid', printf('%.2f', x / 100.0), strftime('%Y-%m-%dT%H:%M:%SZ', '2026-01-01', x || ' hours') FROM i;
         DELETE FROM orders WHERE id = 7; UPDATE orders SET state = 'sent' WHERE id = 8; INSERT INTO orders VALUES (5000, 'new', NULL, NULL)",
    )
    .expect("statements");
    server.sql(
        "SET TIME ZONE 'UTC'; UPDATE orders SET paid = timestamptz '2026-01-01 00:00:00+00' + id * interval '1 hour'",
    );
    place.vars = vec![("A", server.table("reknit", "orders")), ("B", "sqlite:copy.db/orders".into())];
    let mut commands = 0;
    for block in guide.split("```console\n").skip(1) {
        let block = block.split("```").next().expect("its end");
        for step in block.split("$ ").filter(|step| step.starts_with("reknit ")) {
            let (typed, written) = step.split_once('\n').expect("a line");
            let line =
                typed.trim_start_matches("reknit ").replace("$A", &place.vars[0].1).replace("$B", &place.vars[1].1);
            let ran = place.run(&line);
            let mut said: Vec<&str> = ran.out.lines().collect();
            let mut written: Vec<&str> = written.trim_end().lines().collect();
            // In which order differences are listed is not promised.
            let listed = |line: &&str| line.starts_with(['+', '-', '*']);
            said.sort_by_key(|line| {
                listed(line).then(|| line.to_string()).map_or((1, String::new()), |line| (0, line))
            });
            written.sort_by_key(|line| {
                listed(line).then(|| line.to_string()).map_or((1, String::new()), |line| (0, line))
            });
            let same =
                said.len() == written.len() && said.iter().zip(&written).all(|(said, line)| is_as_written(said, line));
            assert!(same, "{typed}\nsays\n{}\nand not\n{}\n{}", said.join("\n"), written.join("\n"), ran.err);
            commands += 1;
        }
    }
    assert!(commands >= 8, "{commands}");
    // What is said of uninstalling.
    place.run("index drop sqlite:copy.db/orders").exits(4).says(&["[database.journal]", "1 run overwrote (1)"]);
    place.run("index drop sqlite:copy.db/orders --force").ok().says(&["removed 1 indexes here, and 1 feeds"]);
    let left =
        copy.query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'reknit%'", [], |row| row.get::<_, i64>(0));
    assert_eq!(left, Ok(0));
}

#[test]
fn anything_may_stand_where_the_guide_leaves_out() {
    assert!(is_as_written("a 12 b", "a … b") && is_as_written("a b", "a b") && is_as_written("root 12", "root …"));
    assert!(!is_as_written("a 12 c", "a … b") && !is_as_written("a b c", "a b") && !is_as_written("x", "a …"));
}
