//! Reading tables whole: what it costs is told first, and it is left out where it is not wanted.

use rusqlite::Connection;

use crate::harness::Place;

fn sql(place: &Place, file: &str, statements: &str) {
    let connection = Connection::open(place.path(file)).expect("a database");
    connection.execute_batch(statements).expect("statements");
}

const T: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
    WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 1000) INSERT INTO t SELECT x, 'v' || x FROM i;";

fn pair() -> Place {
    let place = Place::new();
    for file in ["a.db", "b.db"] {
        sql(&place, file, T);
    }
    place
}

#[test]
fn without_an_index_a_scan_is_told_of_first_and_left_out_if_asked() {
    let place = pair();
    sql(&place, "a.db", "ANALYZE");
    let refused = place.run("check sqlite:a.db sqlite:b.db --no-scan").exits(3);
    for word in ["a.db/t would be read whole, since it has no index yet: about 1,000 rows", "b.db/t", "rows a second"] {
        assert!(refused.err.contains(word), "{word}: {}", refused.err);
    }
    assert!(refused.err.contains("[database.no-scan]"), "{}", refused.err);
    place.run("index status sqlite:a.db").fails("database.no-index");
    let json = place.json("diff sqlite:a.db sqlite:b.db --no-scan").exits(3).summary();
    assert_eq!(json["error"], "database.no-scan");
    let checked = place.run("check sqlite:a.db sqlite:b.db").ok();
    assert!(checked.err.contains("a.db/t is read whole, since it has no index yet: about 1,000 rows"), "{}", checked.err);
    // The second time it is known how long it takes, and not worth a word.
    let checked = place.run("check sqlite:a.db sqlite:b.db").ok();
    assert_eq!(checked.err, "");
    // An index without a feed does not spare the scan.
    let refused = place.run("check sqlite:a.db sqlite:b.db --no-scan").exits(3);
    assert!(refused.err.contains("it has no feed") && refused.err.contains("as it took last"), "{}", refused.err);
    place.run("explain sqlite:a.db").ok().says(&["reading it whole: about 1,000 rows"]);
    place.run("init s").ok();
    place.run("check s s --no-scan").fails("usage.terms");
}

#[test]
fn with_feeds_nothing_is_read_whole_until_there_is_a_gap() {
    let place = pair();
    for table in ["sqlite:a.db", "sqlite:b.db"] {
        place.run_args(&["index", "build", table, "--feed", "triggers", "--apply"]).ok();
    }
    sql(&place, "a.db", "UPDATE t SET v = 'x' WHERE id = 7");
    place.run("diff sqlite:a.db sqlite:b.db --no-scan --settle 0ms").exits(1).says(&["7"]);
    place.run("repair sqlite:a.db sqlite:b.db --to b --no-scan --no-probe --apply").ok();
    // A file whose schema has changed is one that the feed may have missed something of.
    sql(&place, "b.db", "CREATE TABLE other (x)");
    let refused = place.run("check sqlite:a.db sqlite:b.db --no-scan").exits(3);
    assert!(refused.err.contains("b.db/t would be read whole, since its feed has a gap"), "{}", refused.err);
    assert!(!refused.err.contains("a.db/t"), "{}", refused.err);
    // And the one that was told of is still there for who reads it whole.
    place.run("check sqlite:a.db sqlite:b.db").ok();
    place.run("check sqlite:a.db sqlite:b.db --no-scan").ok();
}
