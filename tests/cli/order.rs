//! Databases whose tables refer to one another are repaired with parents before children, and rows go with children before parents.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{Place, Ran};
use crate::scripts::{psql, sqlite3};
use crate::server::Server;

/// Tables by whose names children come before parents; those that are referred to lose what refers to them, or are kept by it.
const WRITTEN: &str = "CREATE TABLE zones (id INTEGER PRIMARY KEY, v TEXT UNIQUE);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, zone INTEGER REFERENCES zones ON DELETE CASCADE, v TEXT);
    CREATE TABLE items (id INTEGER PRIMARY KEY, orders INTEGER REFERENCES orders ON DELETE CASCADE, zone INTEGER REFERENCES zones);
    CREATE TABLE apart (id INTEGER PRIMARY KEY, v TEXT);";
/// The same tables, of which none refers to another.
const READ: &str = "CREATE TABLE zones (id INTEGER PRIMARY KEY, v TEXT);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, zone INTEGER, v TEXT);
    CREATE TABLE items (id INTEGER PRIMARY KEY, orders INTEGER, zone INTEGER);
    CREATE TABLE apart (id INTEGER PRIMARY KEY, v TEXT);";

/// Two databases, of PostgreSQL or of SQLite.
struct Two {
    place: Place,
    servers: Option<[Server; 2]>,
}

impl Two {
    fn all() -> [Two; 2] {
        let servers = Some([Server::start(), Server::start()]);
        [Two { place: Place::new(), servers }, Two { place: Place::new(), servers: None }]
    }

    fn sql(&self, side: usize, statements: &str) {
        match &self.servers {
            Some(servers) => servers[side].sql(statements),
            None => {
                let file = self.place.path(["a.db", "b.db"][side]);
                Connection::open(file).and_then(|file| file.execute_batch(statements)).expect("statements");
            }
        }
    }

    /// The numbers of the rows of a table of `b`.
    fn rows(&self, table: &str) -> String {
        let query = format!("SELECT id FROM {table} ORDER BY id");
        let all: Vec<i32> = match &self.servers {
            Some([_, b]) => b.client().query(&query, &[]).expect("rows").iter().map(|row| row.get(0)).collect(),
            None => {
                let file = Connection::open(self.place.path("b.db")).expect("a database");
                let mut rows = file.prepare(&query).expect("a query");
                rows.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect()
            }
        };
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    fn run(&self, command: &str, more: &str) -> Ran {
        let [a, b] = match &self.servers {
            Some(servers) => servers.each_ref().map(|server| server.table("reknit", "x").replace("/x", "")),
            None => ["sqlite:a.db".to_string(), "sqlite:b.db".to_string()],
        };
        let words = [command, &a, &b].into_iter().chain(more.split_whitespace());
        self.place.run_args(&words.collect::<Vec<_>>())
    }

    /// Runs a file of statements on `b`, by the shell of its engine, which goes on where one is refused, as it does by itself.
    fn run_file(&self, file: &str) -> Ran {
        match &self.servers {
            Some([_, b]) => psql(b, &self.place, file, ("0", "")),
            None => sqlite3(&self.place, "b.db", file),
        }
    }

    fn table(&self, side: usize, table: &str) -> String {
        match &self.servers {
            Some(servers) => servers[side].table("reknit", table),
            None => format!("sqlite:{}/{table}", ["a.db", "b.db"][side]),
        }
    }
}

/// The tables in the order in which they were told of.
fn told(ran: &Ran) -> Vec<&str> {
    let names = ran.out.lines().filter_map(|line| line.split_once(": "));
    names.map(|(name, _)| name).filter(|name| ["zones", "orders", "items", "apart"].contains(name)).collect()
}

/// By shells that know of no order but that of the file.
#[test]
fn statements_for_whole_databases_are_one_file_in_an_order_in_which_they_run() {
    for two in Two::all() {
        two.sql(0, READ);
        two.sql(1, WRITTEN);
        two.sql(
            0,
            "INSERT INTO zones VALUES (1, 'one'), (3, 'x'); INSERT INTO orders VALUES (10, 1, 'new'), (11, 1, 'moved');
             INSERT INTO items VALUES (100, 10, 1), (101, 11, 3); INSERT INTO apart VALUES (1, 'a')",
        );
        two.sql(
            1,
            "INSERT INTO zones VALUES (3, 'x'), (8, 'eight'), (9, 'nine'); INSERT INTO orders VALUES (11, 8, 'moved'), (12, 9, 'old');
             INSERT INTO items VALUES (101, 11, 8), (102, 12, 8), (103, 11, 3); INSERT INTO apart VALUES (2, 'b')",
        );
        let written = |more: &str| two.run("repair", &format!("{DELETES} --sql {more}"));
        // A table that cannot be put in: others may refer to it.
        let less = DELETES.replace("--max-delete 100%", "--max-delete 1");
        let told = two.run("repair", &format!("{less} --sql f.sql")).exits(4);
        told.says(&["no file was written, since not all tables could be put in it", "[repair.braked]"]);
        two.run("repair", &format!("{DELETES} --plan f.plan")).exits(4).says(&["[plan.several]", "name it"]);
        written("no/f.sql").fails("sql.file");
        for file in ["f.sql", "f.plan"] {
            assert!(!two.place.path(file).exists(), "{file}");
        }
        let told = written("b.sql").exits(1);
        told.says(&[
            "3 statements for b in 2 transactions: 1 rows inserted, 0 changed, 2 deleted",
            "12 statements in all written to b.sql",
            "4 tables: 4 with differences",
        ]);
        assert_eq!(two.rows("zones"), "3 8 9");
        written("b.sql").fails("sql.exists");
        let json = two.run("repair", &format!("{DELETES} --sql c.sql --format jsonl")).exits(1).summary();
        let counts = ["inserts", "updates", "deletes", "left"].map(|name| json["sql"][name].clone());
        assert_eq!((counts, &json["sql"]["file"]), ([4, 2, 6, 0].map(Value::from), &json!(two.place.path("c.sql"))));
        two.run_file("b.sql").ok();
        two.run("check", "").ok().says(&["4 tables: 4 in sync"]);
        written("d.sql").ok().says(&["no statements: no file was written"]);
        assert!(!two.place.path("d.sql").exists());
        // What one needs another has yet.
        two.sql(0, "INSERT INTO zones VALUES (20, 'free')");
        two.sql(1, "INSERT INTO zones VALUES (21, 'free')");
        written("d.sql").exits(1);
        two.run_file("d.sql");
        assert_eq!(two.rows("zones"), "1 3");
        two.run_file("d.sql").ok();
        two.run("check", "").ok();
    }
}

const DELETES: &str = "--to b --delete --max-delete 100% --max-change 100% --no-probe";

#[test]
fn parents_come_before_children_and_go_after_them() {
    for two in Two::all() {
        two.sql(0, READ);
        two.sql(1, WRITTEN);
        two.sql(
            0,
            "INSERT INTO zones VALUES (1, 'one'), (2, 'taken'), (3, 'x'); INSERT INTO orders VALUES (10, 1, 'new'), (11, 2, 'moved');
             INSERT INTO items VALUES (100, 10, 1), (101, 11, 2); INSERT INTO apart VALUES (1, 'a')",
        );
        // What goes has what another wants, for which others wait that are to refer to that.
        two.sql(
            1,
            "INSERT INTO zones VALUES (3, 'x'), (8, 'eight'), (9, 'taken'); INSERT INTO orders VALUES (11, 8, 'moved'), (12, 9, 'old');
             INSERT INTO items VALUES (101, 11, 8), (102, 12, 8), (103, 11, 3); INSERT INTO apart VALUES (2, 'b')",
        );
        let preview = two.run("repair", DELETES).exits(1);
        assert_eq!(told(&preview), ["apart", "zones", "orders", "items"]);
        assert_eq!(two.rows("zones"), "3 8 9");
        let ran = two.run("repair", &format!("{DELETES} --apply")).ok().says(&["4 tables: 4 in sync"]);
        let (writes, deletes) = (["zones", "orders", "items"], ["items", "orders", "zones"]);
        assert_eq!(told(&ran)[..10], [&["apart"][..], &writes, &writes, &deletes].concat(), "{ran:?}");
        ran.says(&["zones: differs", "rows only in b left until all tables are written"]);
        for (table, rows) in [("zones", "1 2 3"), ("orders", "10 11"), ("items", "100 101"), ("apart", "1")] {
            assert_eq!(two.rows(table), rows, "{table}");
        }
        two.run("check", "").ok();
    }
}

#[test]
fn children_of_new_parents_are_not_refused_first() {
    for two in Two::all() {
        two.sql(0, READ);
        two.sql(1, WRITTEN);
        two.sql(
            0,
            "INSERT INTO zones VALUES (1, 'one'); INSERT INTO orders VALUES (10, 1, 'new'); INSERT INTO items VALUES (100, 10, 1)",
        );
        two.sql(
            1,
            "INSERT INTO zones VALUES (9, 'nine'); INSERT INTO orders VALUES (19, 9, 'old'); INSERT INTO items VALUES (109, 19, 9)",
        );
        let ran = two.run("repair", &format!("{DELETES} --apply")).ok();
        assert!(!ran.out.contains("not stored"), "{ran:?}");
        assert_eq!(told(&ran), ["apart", "zones", "orders", "items", "items", "orders", "zones"]);
        ran.says(&["wrote 6 records in all"]);
        // Each of them is a run of its own.
        two.place.run_args(&["runs", "list", &two.table(1, "items")]).ok().says(&["1 changes"]);
    }
}

#[test]
fn a_row_stays_whose_children_are_not_to_go() {
    for two in Two::all() {
        two.sql(0, READ);
        two.sql(1, WRITTEN);
        // `a` knows of no references: it has kept an order whose zone is gone.
        let rows = "INSERT INTO orders VALUES (10, 1, 'kept'); INSERT INTO items VALUES (100, 10, 2)";
        two.sql(0, &format!("INSERT INTO zones VALUES (2, 'two'); {rows}"));
        two.sql(1, &format!("INSERT INTO zones VALUES (1, 'one'), (2, 'two'), (3, 'three'); {rows}; INSERT INTO orders VALUES (13, 3, 'old')"));
        let ran = two.run("repair", &format!("{DELETES} --apply")).exits(1);
        ran.says(&[
            "zones: ",
            "not stored: 1 in default: rows that refer to it in orders would go or change along, and stay",
        ]);
        assert_eq!([two.rows("zones"), two.rows("orders"), two.rows("items")], ["1 2", "10", "100"]);
        // Of one table alone, or without one that refers to it, nothing is known of what would go along.
        let [a, b] = [two.table(0, "zones"), two.table(1, "zones")];
        let words = [&["repair", &a, &b][..], &DELETES.split_whitespace().collect::<Vec<_>>(), &["--apply"]].concat();
        two.place.run_args(&words).exits(4).says(&["[database.cascade]", "rows of orders"]);
        let ran = two.run("repair", &format!("{DELETES} --apply --ignore-table orders")).exits(4);
        ran.says(&["zones: ", "[database.cascade]", "rows of orders", "items: in sync"]);
        assert_eq!(two.rows("zones"), "1 2");
    }
}

#[test]
fn who_would_lose_too_much_is_not_written_at_all() {
    for two in Two::all() {
        two.sql(0, READ);
        two.sql(1, WRITTEN);
        let zones = |ids: std::ops::Range<u32>, v: &str| {
            let rows = ids.map(|id| format!("({id}, '{v}{id}')")).collect::<Vec<_>>();
            format!("INSERT INTO zones VALUES {};", rows.join(", "))
        };
        two.sql(0, &format!("{} {}", zones(0..60, "v"), zones(200..210, "n")));
        two.sql(1, &format!("{} INSERT INTO orders VALUES (1, 1, 'old')", zones(0..100, "v")));
        let ran = two.run("repair", "--to b --delete --max-change 100% --no-probe --apply --max-delete 30").exits(4);
        ran.says(&["zones: ", "40 would be deleted, at most 30", "orders: in sync", "1 refused"]);
        let rows = two.rows("zones");
        assert!(rows.starts_with("0 1 2 ") && rows.ends_with(" 99"), "no row has come either: {rows}");
    }
}

#[test]
fn tables_in_a_circle_are_told_and_repaired_all_the_same() {
    for two in Two::all() {
        two.sql(
            0,
            "CREATE TABLE t (id INTEGER PRIMARY KEY, u INTEGER); CREATE TABLE u (id INTEGER PRIMARY KEY, t INTEGER)",
        );
        two.sql(0, "INSERT INTO t VALUES (1, 10), (2, NULL); INSERT INTO u VALUES (10, NULL), (11, 1)");
        match &two.servers {
            Some([_, b]) => b.sql(
                "CREATE TABLE t (id int PRIMARY KEY, u int); CREATE TABLE u (id int PRIMARY KEY, t int REFERENCES t);
                 ALTER TABLE t ADD FOREIGN KEY (u) REFERENCES u ON DELETE SET NULL",
            ),
            None => two.sql(
                1,
                "CREATE TABLE t (id INTEGER PRIMARY KEY, u INTEGER REFERENCES u ON DELETE SET NULL);
                 CREATE TABLE u (id INTEGER PRIMARY KEY, t INTEGER REFERENCES t)",
            ),
        }
        two.sql(1, "INSERT INTO u VALUES (20, NULL); INSERT INTO t VALUES (3, 20)");
        let ran = two.run("repair", &format!("{DELETES} --apply")).ok();
        ran.says(&["t, u refer to one another in a circle", "2 tables: 2 in sync"]);
        assert_eq!([two.rows("t"), two.rows("u")], ["1 2", "10 11"]);
    }
}

#[test]
fn an_undo_takes_no_rows_of_other_tables_along() {
    for two in Two::all() {
        two.sql(0, READ);
        two.sql(1, WRITTEN);
        two.sql(0, "INSERT INTO zones VALUES (1, 'one'), (2, 'two')");
        let [a, b] = [two.table(0, "zones"), two.table(1, "zones")];
        two.place.run_args(&["repair", &a, &b, "--to", "b", "--apply"]).ok().says(&["2 to b"]);
        two.sql(1, "INSERT INTO orders VALUES (10, 1, 'since')");
        two.place.run_args(&["runs", "undo", &b, "1"]).says(&["1 changes put back, 1 skipped"]);
        assert_eq!([two.rows("zones"), two.rows("orders")], ["1", "10"]);
    }
}
