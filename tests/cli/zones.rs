//! Dates and times without a zone on one side, and instants on the other.

use rusqlite::Connection;

use crate::harness::Place;
use crate::server::Server;

/// As many orders as a probe looks at, one every nine hours through a year with both changes of the clocks, told as
/// instants there and as the clock showed in Berlin here; the side that says no zone is text.
fn orders(place: &Place) -> (Server, Connection) {
    let server = Server::start();
    server.sql(
        "CREATE TABLE orders (id int PRIMARY KEY, created_at timestamptz);
         INSERT INTO orders SELECT i, '2026-01-01 00:00:00+00'::timestamptz + i * interval '9 h' FROM generate_series(1, 1000) AS i",
    );
    let copied = server
        .client()
        .query("SELECT id, to_char(created_at AT TIME ZONE 'Europe/Berlin', 'YYYY-MM-DD HH24:MI:SS') FROM orders", &[]);
    let b = Connection::open(place.path("b.db")).expect("a database");
    b.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY, created_at TEXT); BEGIN").expect("a table");
    for row in copied.expect("rows") {
        let (id, at): (i32, String) = (row.get(0), row.get(1));
        b.execute("INSERT INTO orders VALUES (?, ?)", (id, at)).expect("a row");
    }
    b.execute_batch("COMMIT").expect("a commit");
    (server, b)
}

fn text(connection: &Connection, sql: &str) -> String {
    connection.query_row(sql, [], |row| row.get(0)).expect("a row")
}

#[test]
fn the_zone_of_a_side_is_told_and_makes_the_same_instants() {
    let place = Place::new();
    let (server, b) = orders(&place);
    let (a, b_side) = (server.table("reknit", "orders"), "sqlite:b.db/orders");
    let run = |command: &[&str], more: &[&str]| place.run_args(&[command, &[&a, b_side], more].concat());
    let told = run(&["explain"], &[]).exits(4);
    told.says(&[
        "created_at differs in 1000 of 1000 probed rows, always by 1 h to 2 h: a is timestamptz, b is text without a zone; \
         try --zone b=Europe/Berlin",
        "wrote 0 records",
    ]);
    b.execute_batch("UPDATE orders SET created_at = 'x' WHERE created_at LIKE '2026-10-25 02:%'").expect("a statement");
    let repair = run(&["repair"], &["--to", "b"]).exits(4);
    repair.says(&["[database.probe]"]);
    let terms = ["--zone", "b=Europe/Berlin"];
    let repair = run(&["repair"], &["--zone", "b=Europe/Berlin", "--to", "b", "--apply"]);
    assert!(repair.exit == Some(0), "{repair:?}");
    run(&["check"], &terms).ok().says(&["[of zone b in Europe/Berlin]", "1,000 records"]);
    let told = run(&["explain"], &terms).ok();
    told.says(&[
        "created_at is compared as timestamp: timestamp (timestamptz) in a, text (TEXT) of zone Europe/Berlin in b",
    ]);
    // The wrong one is told from the right one.
    run(&["explain"], &["--zone", "b=America/New_York"]).exits(4).says(&["try --zone b=Europe/Berlin"]);
    // What comes is written as that side keeps it; what it cannot tell is named and left.
    server.sql(
        "INSERT INTO orders VALUES (2001, '2026-07-01 10:00:00.25+00'), (2002, '2026-10-25 01:30:00+00');
         UPDATE orders SET created_at = created_at + interval '1 day' WHERE id = 7",
    );
    let repair = run(&["repair"], &["--zone", "b=Europe/Berlin", "--to", "b", "--apply"]).exits(1);
    repair.says(&[
        "wrote 0 records to a and 2 to b",
        "not stored: 2002",
        "created_at cannot hold",
        "2026-10-25T01:30:00Z",
    ]);
    assert_eq!(text(&b, "SELECT created_at FROM orders WHERE id = 2001"), "2026-07-01 12:00:00.25");
    // A time that the clocks skipped means no instant: it differs, and stays as it is.
    b.execute_batch("UPDATE orders SET created_at = '2026-03-29 02:30:00' WHERE id = 9").expect("a statement");
    run(&["diff"], &terms).exits(1).says(&["* 9", "* 2002"]);
    // The other way round the sides have the other names.
    let other = ["diff", b_side, &a, "--zone", "a=Europe/Berlin"];
    place.run_args(&other).exits(1).says(&["* 9", "* 2002"]);
    run(&["check"], &["--zone", "a=Europe/Berlin"]).exits(4).says(&["[database.shape]", "tells nothing"]);
    run(&["check"], &["--zone", "b=Nowhere"]).fails("usage.terms");
}

#[test]
fn columns_that_are_declared_without_a_zone_are_not_compared_until_it_is_said() {
    let place = Place::new();
    let (server, b) = orders(&place);
    b.execute_batch(
        "ALTER TABLE orders RENAME TO texts; CREATE TABLE orders (id INTEGER PRIMARY KEY, created_at DATETIME);
                     INSERT INTO orders SELECT * FROM texts",
    )
    .expect("statements");
    let (a, b_side) = (server.table("reknit", "orders"), "sqlite:b.db/orders");
    let run = |command: &[&str], more: &[&str]| place.run_args(&[command, &[&a, b_side], more].concat());
    run(&["check"], &[]).exits(4).says(&["[database.shape]", "--zone b=ZONE"]);
    let told = run(&["explain"], &[]).exits(4);
    told.says(&["b is datetime without a zone; try --zone b=Europe/Berlin"]);
    run(&["check"], &["--zone", "b.created_at=Europe/Berlin"]).ok();
    // Keys are instants too.
    server.sql("ALTER TABLE orders DROP CONSTRAINT orders_pkey; ALTER TABLE orders ADD PRIMARY KEY (created_at)");
    b.execute_batch(
        "CREATE TABLE keyed (id INTEGER, created_at DATETIME PRIMARY KEY NOT NULL) WITHOUT ROWID;
                     INSERT INTO keyed SELECT * FROM orders WHERE id <> 5; UPDATE keyed SET id = 0 WHERE id = 6",
    )
    .expect("statements");
    let terms = ["--zone", "b=Europe/Berlin"];
    let run = |command: &[&str]| place.run_args(&[command, &[&a, "sqlite:b.db/keyed"], &terms].concat());
    let told = run(&["diff", "--format", "jsonl"]).exits(1);
    crate::schema::holds(&told.objects());
    let columns = &told.summary()["compared"]["columns"];
    assert_eq!(columns[0]["zones"], serde_json::json!({ "a": null, "b": "Europe/Berlin" }), "{columns}");
    assert!(columns[1]["zones"].is_null(), "{columns}");
    assert_eq!((&told.summary()["counts"]["only_a"], &told.summary()["counts"]["content"]), (&1.into(), &1.into()));
    run(&["repair", "--to", "b", "--apply"]).ok();
    assert_eq!(text(&b, "SELECT created_at FROM keyed WHERE id = 5"), "2026-01-02 22:00:00");
    // Two sides that say no zone are told theirs.
    b.execute_batch(
        "CREATE TABLE utc (id INTEGER PRIMARY KEY, created_at DATETIME);
                     INSERT INTO utc SELECT id, datetime('2026-01-01', (id * 9) || ' hours') FROM orders",
    )
    .expect("statements");
    let told = place.run("explain sqlite:b.db/utc sqlite:b.db/orders").exits(4);
    told.says(&["if a is of UTC, try --zone a=UTC --zone b=Europe/Berlin"]);
    place.run("check sqlite:b.db/utc sqlite:b.db/orders --zone a=UTC,b=Europe/Berlin").ok();
}
