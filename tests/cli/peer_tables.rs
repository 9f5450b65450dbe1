//! Tables of two hosts, of which neither reaches the other's database: served, joined, compared through a peer.

use rusqlite::Connection;

use crate::daemon::{Daemon, at};
use crate::harness::{Place, Ran};
use crate::server::Server;
use crate::slots::catalog;

const PEOPLE: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, born DATE, score REAL);
    INSERT INTO people VALUES (1, 'Ada', '1815-12-10', 1.5), (2, 'Emmy', '1882-03-23', NULL), (3, '', NULL, 0.0);";

pub(crate) fn sql(place: &Place, file: &str, statements: &str) {
    Connection::open(place.path(file)).expect("a database").execute_batch(statements).expect("statements");
}

/// A ticket for a table that is served at a home.
fn ticket(place: &Place, home: &str, (table, served): (&str, &Daemon)) -> String {
    let invite = format!("invite {table} --may compare --at {}", served.socket());
    at(place, home, &invite).ok().out.trim().to_string()
}

/// Serves a table at the home `far`, and lets another join it at the home of the place.
fn joined(place: &Place, served: &str, joins: &str) -> Daemon {
    let daemon = Daemon::start(place, "far", &[served]);
    let ticket = ticket(place, "far", (served, &daemon));
    place.run(&format!("join {joins} {ticket} --may compare")).ok().says(&["this node may", "reknit check"]);
    daemon
}

/// The keys that a diff lists.
fn keys(diff: &Ran) -> Vec<String> {
    let listed = diff.out.lines().filter(|line| line.starts_with(['*', '+', '-']));
    let mut keys: Vec<String> = listed.filter_map(|line| line.split_whitespace().nth(1)).map(String::from).collect();
    keys.sort();
    keys
}

#[test]
fn a_table_is_compared_with_a_peers_in_both_directions_and_looking_changes_nothing() {
    let place = Place::new();
    ["a.db", "b.db"].iter().for_each(|file| sql(&place, file, PEOPLE));
    let before = ["a.db", "b.db"].map(|file| std::fs::read(place.path(file)).expect("a file"));
    let far = joined(&place, "sqlite:a.db/people", "sqlite:b.db/people");
    let (here, there) = ("sqlite:b.db/people", far.address());
    assert!(there.ends_with("/people"), "{there}");
    place.run(&format!("check {here} {there}")).ok().says(&["in sync: 3 records on both sides"]);
    place.run(&format!("check {there} {here}")).ok().says(&["in sync: 3 records on both sides"]);
    let after = ["a.db", "b.db"].map(|file| std::fs::read(place.path(file)).expect("a file"));
    assert!(before == after, "the files are as they were");
    sql(
        &place,
        "a.db",
        "INSERT INTO people VALUES (9, 'Sofja', '1850-01-15', 3); UPDATE people SET score = 2 WHERE id = 3",
    );
    sql(&place, "b.db", "DELETE FROM people WHERE id = 2");
    place.run(&format!("check {here} {there}")).exits(1);
    let diff = place.run(&format!("diff {here} {there}")).exits(1).says(&["2 only in b", "1 with different content"]);
    assert_eq!(keys(&diff), ["2", "3", "9"]);
    let diff = place.json(&format!("diff {there} {here}")).exits(1);
    let (keys, summary) = (diff.objects(), diff.summary());
    assert!(keys[..3].iter().all(|key| key["t"] == "difference" && key["op"] != "only_b"), "{keys:?}");
    assert_eq!((&summary["counts"]["only_a"], &summary["roots"]["a"]["count"]), (&2.into(), &4.into()));
    assert_eq!(summary["compared"]["key"], serde_json::json!(["id"]));
    at(&place, "far", "status").ok().says(&["a.db/people: dataset people"]);
    assert!(far.end().success());
    // The other way round: whoever has joined serves it too.
    let near = Daemon::start(&place, "home", &[here]);
    at(&place, "far", &format!("diff sqlite:a.db/people {}", near.address())).exits(1).says(&["2 only in a"]);
}

#[test]
fn a_table_is_never_written_by_a_session_with_a_peer() {
    let place = Place::new();
    sql(&place, "a.db", PEOPLE);
    sql(&place, "b.db", &format!("{PEOPLE} UPDATE people SET name = 'x'"));
    let far = joined(&place, "sqlite:a.db", "sqlite:b.db");
    let me = place.run("id").ok().out;
    at(&place, "far", &format!("peers add {} --may compare,read,write,operate", me.trim())).ok();
    let (here, there) = ("sqlite:b.db", far.address());
    for line in [format!("repair {here} {there} --apply"), format!("repair {there} {here} --to b --apply")] {
        place.run(&line).exits(4).says(&["[database.pair]", "reknit check and reknit diff", "wrote 0 records"]);
    }
    place.run(&format!("repair {here} {there}")).exits(4).says(&["[database.pair]"]);
    place.run(&format!("repair {here} {there} --plan p.plan")).exits(4).says(&["[database.pair]"]);
    // Nor by a session that another node holds.
    let held = format!("repair {there} {} --apply", there.replacen("people", "other", 1));
    place.run(&held).exits(4).says(&["[session.held]", "is a table there", "not written"]);
}

const TYPED: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, at DATETIME, price DECIMAL(9,2), note TEXT);
    INSERT INTO t VALUES (1, '2026-01-02 03:04:05', 12.5, 'x'), (2, NULL, NULL, NULL);";

#[test]
fn a_table_of_another_shape_is_refused_by_its_columns_and_uses_up_no_ticket() {
    let place = Place::new();
    sql(&place, "a.db", TYPED);
    sql(
        &place,
        "b.db",
        "CREATE TABLE t (nr INTEGER PRIMARY KEY, at TEXT, price TEXT, note TEXT, more TEXT); INSERT INTO t VALUES (1, '2026-01-02T03:04:05', '12.50', 'x', 'y'), (2, NULL, NULL, NULL, 'z')",
    );
    sql(&place, "c.db", "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, at BLOB, price DECIMAL, note TEXT)");
    sql(&place, "d.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT, price DECIMAL, note UUID)");
    let far = Daemon::start(&place, "far", &["sqlite:a.db"]);
    let ticket = ticket(&place, "far", ("sqlite:a.db", &far));
    let join = |table: &str, more: &str| place.run(&format!("join {table} {ticket} {more}"));
    let (b, renamed) = ("sqlite:b.db", "--rename nr=id --ignore more");
    join(b, "").exits(4).says(&["[database.shape]", "has no column"]);
    join(b, "--rename nr=id").exits(4).says(&["[database.shape]", "the dataset has no column more"]);
    join(b, "--rename nr=id --ignore more,note").exits(4).says(&["[database.shape]", "its column note is left out"]);
    join("sqlite:c.db", "").exits(4).says(&["[database.shape]", "at is"]);
    let told = join("sqlite:d.db", "").exits(4);
    told.says(&[
        "[database.shape]",
        "note would be compared as uuid, the dataset compares it as text",
        "types tell more",
    ]);
    join("sqlite:b.db", "--rename nr").fails("usage.terms");
    join("s", "").exits(4).says(&["[join.kind]", "name the table"]);
    place.run("init s").ok();
    place.run(&format!("check sqlite:b.db {}", far.address())).exits(4).says(&["[database.no-dataset]", "reknit join"]);
    join(b, renamed).ok();
    // Types that tell less are read as those of the dataset.
    place.run(&format!("check sqlite:b.db {}", far.address())).ok().says(&["in sync: 2 records"]);
    let again = self::ticket(&place, "far", ("sqlite:a.db", &far));
    place.run(&format!("join {b} {again} {renamed}")).exits(4).says(&["[database.shared]", "of the dataset t already"]);
    for terms in ["--ignore note", "--tolerance price=1", "--where id=1"] {
        place
            .run(&format!("check {b} {} {terms}", far.address()))
            .fails("usage.terms")
            .says(&["part of their dataset"]);
    }
    // A peer may begin with a t.
    let other = format!("{}/u", far.address().strip_suffix("/t").expect("the dataset"));
    place.run(&format!("check {b} {other}")).exits(4).says(&["[session.dataset]"]);
    place.run(&format!("check s {}", far.address())).exits(4).says(&["[session.dataset]"]);
}

#[test]
fn columns_that_come_or_go_after_a_table_has_joined_are_told_on_either_side() {
    let place = Place::new();
    ["a.db", "b.db"].iter().for_each(|file| sql(&place, file, TYPED));
    let far = joined(&place, "sqlite:a.db", "sqlite:b.db");
    let check = || place.run(&format!("check sqlite:b.db {}", far.address()));
    check().ok();
    sql(&place, "a.db", "ALTER TABLE t ADD COLUMN more");
    check().exits(3).says(&["[peer.store]", "was changed since it joined the dataset t", "its column more is new"]);
    sql(&place, "a.db", "ALTER TABLE t DROP COLUMN more");
    check().ok();
    sql(&place, "b.db", "ALTER TABLE t DROP COLUMN note");
    check().exits(4).says(&["[database.shape]", "it has no column note any more", "nothing was compared"]);
    // A table that is gone is no empty one.
    sql(&place, "b.db", "ALTER TABLE t ADD COLUMN note TEXT; UPDATE t SET note = 'x' WHERE id = 1");
    check().ok();
    sql(&place, "a.db", "DROP TABLE t");
    check().exits(3).says(&["[peer.store]", "a.db/t: ", "it has none; nothing was changed there ["]);
    std::fs::remove_file(place.path("a.db")).expect("removed");
    check().exits(3).says(&["[peer.store]"]);
    sql(&place, "a.db", TYPED);
    check().ok();
}

#[test]
fn rights_are_those_of_any_peer_and_a_stranger_has_nothing_read() {
    let place = Place::new();
    ["a.db", "b.db"].iter().for_each(|file| sql(&place, file, TYPED));
    let far = joined(&place, "sqlite:a.db", "sqlite:b.db");
    let check = format!("check sqlite:b.db {}", far.address());
    place.run(&check).ok();
    let me = place.run("id").ok().out.trim().to_string();
    at(&place, "far", &format!("peers add {me} --may other=compare")).ok();
    // What it would read is gone: were it read, that would be told instead.
    sql(&place, "a.db", "DROP TABLE t");
    place.run(&check).exits(4).says(&["[peer.rights]", "compare"]);
    at(&place, "far", &format!("peers remove {me}")).ok();
    place.run(&check).fails("peer.not-admitted");
}

#[test]
fn a_feed_of_a_shared_table_tells_sessions_what_has_changed() {
    let place = Place::new();
    ["a.db", "b.db"].iter().for_each(|file| sql(&place, file, TYPED));
    let far = joined(&place, "sqlite:a.db", "sqlite:b.db");
    let (check, far_home) = (format!("check sqlite:b.db {}", far.address()), |line: &str| at(&place, "far", line));
    place.run(&format!("{check} --no-scan")).exits(3).says(&["[database.no-scan]"]);
    far_home("index build sqlite:a.db --shared --feed triggers --apply").ok().says(&["followed by triggers"]);
    place.run("index build sqlite:b.db --shared --feed triggers --apply").ok();
    place.run(&format!("{check} --no-scan")).ok();
    sql(&place, "a.db", "UPDATE t SET note = 'y' WHERE id = 1; INSERT INTO t VALUES (3, NULL, 1, 'z')");
    place.run(&format!("{check} --no-scan")).exits(1);
    far_home("index status sqlite:a.db").ok().says(&["3 rows", "followed by triggers"]);
    far_home("index verify sqlite:a.db").ok().says(&["sound: 3 rows"]);
    far_home("index build sqlite:a.db --shared --ignore note").fails("usage.terms");
    place.run("index build sqlite:c.db --shared").fails("database.none");
    far_home("index drop sqlite:a.db").ok().says(&["removed 1 indexes here, and 1 feeds"]);
    place.run(&check).exits(1);
}

#[test]
fn a_dataset_of_a_table_says_what_is_compared_whoever_joins() {
    let place = Place::new();
    sql(
        &place,
        "a.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT, price TEXT, name TEXT, note TEXT); INSERT INTO t VALUES (1, '2026-01-02 03:04:05', '12.50', 'ADA', 'x'), (2, NULL, NULL, NULL, 'y')",
    );
    place.file("b.csv", "id,at,price,name\n1,2026-01-02T03:04:05,12.5,ada\n");
    let init = |more: &str| at(&place, "far", &format!("init sqlite:a.db --name orders {more}"));
    at(&place, "far", "init sqlite:a.db --like s").fails("usage.terms");
    init("--policy ask").fails("usage.terms");
    init("--kind at=moment").fails("usage.terms").says(&["timestamp, datetime"]);
    init("--kind more=int").fails("usage.terms").says(&["has no column more"]);
    init("--kind id=text").fails("usage.terms").says(&["tells more than text"]);
    init("--ignore other").exits(4).says(&["[database.shape]"]);
    let terms = "--ignore note --collate name=ci --where id=1 --kind at=datetime,price=decimal";
    init(terms).ok().says(&["made the dataset orders", "reknit invite"]);
    init(terms).exits(4).says(&["[database.shared]"]);
    place.run("init s --kind a=int").fails("usage.terms");
    let far = Daemon::start(&place, "far", &["sqlite:a.db"]);
    assert!(far.address().ends_with("/orders"));
    let ticket = ticket(&place, "far", ("sqlite:a.db", &far));
    place.run(&format!("join csv:b.csv {ticket}")).exits(4).says(&[
        "[database.shape]",
        "rows where id=1",
        "not used up",
    ]);
    sql(
        &place,
        "b.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at DATETIME, price DECIMAL, name TEXT); INSERT INTO t VALUES (1, '2026-01-02T03:04:05', 12.5, 'ada')",
    );
    place.run(&format!("join sqlite:b.db {ticket}")).ok();
    let check = format!("check sqlite:b.db {}", far.address());
    place.run(&check).ok().says(&["in sync: 1 records"]);
    sql(&place, "a.db", "UPDATE t SET note = 'other', name = 'Ada' WHERE id = 1; UPDATE t SET price = 1 WHERE id = 2");
    place.run(&check).ok();
    sql(&place, "a.db", "UPDATE t SET price = '12.51' WHERE id = 1");
    place.run(&check).exits(1);
}

#[test]
fn postgresql_sqlite_and_files_of_two_hosts_are_equal_or_differ_in_the_same_keys() {
    let (mut server, place) = (Server::start(), Place::new());
    server.sql(
        "CREATE TABLE orders (id bigint PRIMARY KEY, at timestamp, price numeric(9, 2), ok boolean, who uuid, doc jsonb, name text);
         INSERT INTO orders SELECT i, timestamp '2026-01-01' + i * interval '1 s', i / 4.0, i % 2 = 0,
             '6f9619ff-8b86-d011-b42d-00cf4fc964ff', '{\"a\": 1}', 'n' || i FROM generate_series(1, 2000) AS i;
         CREATE ROLE reader LOGIN; GRANT SELECT ON orders TO reader",
    );
    sql(
        &place,
        "b.db",
        "CREATE TABLE orders (name TEXT, id INTEGER PRIMARY KEY, at TEXT, price TEXT, ok BOOLEAN, who TEXT, doc TEXT);
         WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 2000)
         INSERT INTO orders SELECT 'n' || x, x, strftime('%Y-%m-%d %H:%M:%S', '2026-01-01', '+' || x || ' seconds'),
             printf('%.3f', x / 4.0), x % 2 = 0, '6F9619FF-8B86-D011-B42D-00CF4FC964FF', '{\"a\":1}' FROM i",
    );
    let rows = (1..=2000).map(|i| {
        let at = format!("2026-01-01 {:02}:{:02}:{:02}", i / 3600, i / 60 % 60, i % 60);
        format!("{i},n{i},{at},{},{},6f9619ff-8b86-d011-b42d-00cf4fc964ff,{{}}\n", f64::from(i) / 4.0, i % 2 == 0)
    });
    let csv = format!("id,name,at,price,ok,who,doc\n{}", rows.collect::<String>().replace("{}", "\"{\"\"a\"\":1}\""));
    place.file("c.csv", &csv);
    let pg = server.table("reader", "orders");
    let far = joined(&place, &pg, "sqlite:b.db");
    let more = ticket(&place, "far", (&pg, &far));
    at(&place, "third", &format!("join csv:c.csv {more}")).ok();
    let (there, before) = (far.address().to_string(), catalog(&mut server.client()));
    place.run(&format!("check sqlite:b.db {there}")).ok().says(&["in sync: 2,000 records"]);
    at(&place, "third", &format!("check {there} csv:c.csv")).ok().says(&["in sync: 2,000 records"]);
    assert_eq!(catalog(&mut server.client()), before, "looking changes nothing");
    server.sql("UPDATE orders SET price = price + 1 WHERE id IN (7, 70); DELETE FROM orders WHERE id = 700; INSERT INTO orders (id) VALUES (7000)");
    let differ = ["7", "70", "700", "7000"];
    assert_eq!(keys(&place.run(&format!("diff sqlite:b.db {there}")).exits(1)), differ);
    assert_eq!(keys(&at(&place, "third", &format!("diff {there} csv:c.csv")).exits(1)), differ);
    // A server that was down is found again, without the daemon being told.
    server.crash();
    assert_eq!(keys(&place.run(&format!("diff sqlite:b.db {there}")).exits(1)), differ);
    server.sql("REVOKE SELECT ON orders FROM reader");
    place.run(&format!("check sqlite:b.db {there}")).exits(3).says(&["[peer.store]", "that this user may read"]);
    server.sql("GRANT SELECT ON orders TO reader");
    place.run(&format!("check sqlite:b.db {there}")).exits(1);
}
