//! What every [`Table`] must do, as functions that panic where it does not.
//!
//! They use the contract alone, so that one suite serves every adapter. What the index makes of a table, and crashes, are tested
//! elsewhere; what the types of a database mean is for the tests of its adapter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reknit_core::row::{Kind, Value};

use super::{Access, Change, Column, Columns, Drained, FeedKind, FeedMark, Found, Pace, Shape, Table, Terms, Written};
use crate::store::StoreError;

/// The name by which what feeds of the suite have is known in the database.
const INDEX: &str = "c0ffee";
const NONCES: [&str; 2] = ["0000000000000001", "0000000000000002"];
/// How long a transaction of the suite waits for what another one keeps.
const WAIT: Duration = Duration::from_millis(50);
/// Parts in which a feed may be read.
const PARTS_MAX: usize = 1_000;

/// A row of the suite: `id`, a whole number that is the key; `name`, a text that is never NULL; `note`, a text that may be.
pub type Row = (i64, &'static str, Option<&'static str>);

/// What an adapter is to be able to do beyond reading.
#[derive(Clone, Debug, Default)]
pub struct Can {
    /// Whether a table without rows has columns.
    pub empty: bool,
    /// Whether it writes; otherwise it refuses that.
    pub writes: bool,
    /// The feeds that it has.
    pub feeds: Vec<FeedKind>,
}

/// Keys of records, each with its content.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Makes a table of these rows alone, with the columns `id`, `name` and `note` of a [`Row`], and opens it; in a place of its
/// own each time.
pub type Make<'a> = &'a mut dyn FnMut(&[Row]) -> Box<dyn Table>;

/// Rows in which an adapter may go wrong: no text and none at all, quotes, lines, what is not ASCII, the ends of numbers.
pub const ROWS: [Row; 9] = [
    (1, "one", Some("first")),
    (2, "", None),
    (3, "it's \"quoted\", and more", Some("")),
    (4, "two\nlines", Some("a\tb")),
    (5, "Zürich 日本 🦀", Some("é")),
    (-6, "\\N", Some("NULL")),
    (7, " blanks ", Some("one")),
    (i64::MAX, "last", None),
    (i64::MIN, "first", None),
];

/// All checks of an adapter.
///
/// # Panics
/// Where it breaks the contract of [`Table`] or does not do what it `can`, with what it should have done.
pub fn run(make: Make<'_>, can: &Can) {
    reads(&*make(&ROWS));
    reads_much(make);
    if can.empty {
        reads(&*make(&[]));
    }
    if !can.writes {
        return refuses(&*make(&ROWS));
    }
    writes(&*make(&ROWS));
    goes_back(&*make(&ROWS));
    holds(&*make(&ROWS));
    for kind in [FeedKind::Triggers, FeedKind::Slot] {
        let table = make(&ROWS);
        if can.feeds.contains(&kind) {
            feeds(&*table, kind);
        } else {
            assert!(table.feed(kind, &shape(&*table), INDEX).is_err(), "a feed of {kind:?} is refused");
        }
    }
}

fn columns() -> Columns {
    let column = |name: &str, kind| Column { name: name.into(), kind, declared: String::new() };
    let columns = [column("id", Kind::Int), column("name", Kind::Text), column("note", Kind::Text)];
    Columns { columns: columns.into(), key: vec!["id".into()] }
}

/// What the suite compares of a table.
fn shape(table: &dyn Table) -> Shape {
    let shapes = Terms::default().shapes((table.place(), table.columns()), ("the suite", &columns()));
    let [shape, _] = shapes.unwrap_or_else(|error| panic!("it has the columns of the suite: {error}"));
    shape
}

fn values(row: &Row) -> Vec<Value> {
    let text = |text: &str| Value::Text(text.into());
    vec![Value::Int(row.0.into()), text(row.1), row.2.map_or(Value::Null, text)]
}

/// What values of a table mean, by key.
fn record(shape: &Shape, values: &[Value]) -> (Vec<u8>, Vec<u8>) {
    shape.record(values.to_vec()).unwrap_or_else(|error| panic!("{values:?} is a row: {error}"))
}

fn records(rows: &[Row]) -> Records {
    let [shape, _] = Terms::default().shapes(("a", &columns()), ("b", &columns())).expect("one shape");
    rows.iter().map(|row| record(&shape, &values(row))).collect()
}

/// All rows of a scan, each of which comes once.
fn scanned(shape: &Shape, rows: super::Rows<'_>) -> Records {
    let mut all = BTreeMap::new();
    for values in rows {
        let values = values.unwrap_or_else(|error| panic!("all rows are read: {error}"));
        let (key, row) = record(shape, &values);
        assert!(all.insert(key, row).is_none(), "{values:?} comes once");
    }
    all
}

fn held(table: &dyn Table) -> Records {
    let shape = shape(table);
    scanned(&shape, table.scan(&shape).unwrap_or_else(|error| panic!("it is read: {error}")))
}

fn key(id: i64) -> Vec<Value> {
    vec![Value::Int(id.into())]
}

fn found(shape: &Shape, found: &[Found]) -> Records {
    found.iter().map(|found| record(shape, &found.values)).collect()
}

fn begin(table: &dyn Table, access: Access) -> Box<dyn super::Transaction + '_> {
    table.begin(access, WAIT).unwrap_or_else(|error| panic!("a transaction to {access:?} begins: {error}"))
}

fn ok<T>(done: Result<T, StoreError>, what: &str) -> T {
    done.unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Scans and look-ups agree with what the table holds, and leave everything as it is.
fn reads(table: &dyn Table) {
    let shape = shape(table);
    assert!(!table.place().is_empty(), "a place is named");
    assert!(!ok(table.cost(&shape), "its cost is told").sql.is_empty(), "what reads it is told");
    let before = ok(table.standing(), "its standing is told");
    let all = held(table);
    let rows: Vec<Row> = if all.is_empty() { Vec::new() } else { ROWS.into() };
    assert_eq!(all, records(&rows), "all rows, and what they mean");
    assert_eq!(held(table), all, "a second scan gives the same");
    let mut transaction = begin(table, Access::Read);
    assert_eq!(ok(transaction.find(&shape, &[]), "nothing is sought"), Vec::new());
    let keys = [key(1), key(-6), key(100), key(i64::MIN)];
    let sought = ok(transaction.find(&shape, &keys), "rows are sought by their keys");
    let mut sought = found(&shape, &sought);
    // Others may look like them.
    let asked: Vec<Vec<u8>> = keys.iter().map(|key| shape.key_from(key.clone())).collect();
    sought.retain(|key, _| asked.contains(key));
    if table.stores_keys_one_way(&shape) {
        let there: Vec<Row> = rows.iter().filter(|row| [1, -6, i64::MIN].contains(&row.0)).copied().collect();
        assert_eq!(sought, records(&there), "each row that is there is found by its key, and none that is not");
    }
    let wanted = &mut |values: &[Value]| shape.key_as_stored(values) == shape.key_from(key(5));
    let read = ok(transaction.find_by_reading(&shape, wanted), "rows are sought by reading");
    let there: Vec<Row> = rows.iter().filter(|row| row.0 == 5).copied().collect();
    assert_eq!(found(&shape, &read), records(&there), "the rows that are wanted, and no others");
    assert_eq!(ok(transaction.commit(), "a look ends"), super::Besides::new(), "a look does nothing else");
    let after = ok(table.standing(), "its standing is told");
    assert_eq!(after.identity, before.identity, "it is the same table");
    assert!(after.at >= before.at, "its standing does not go back");
    assert_eq!(ok(table.remains(), "what feeds have is told"), Vec::new(), "nobody has installed anything");
}

/// Each row comes once, in whatever slices a table is read, also where one reading goes on behind another.
fn reads_much(make: Make<'_>) {
    let rows: Vec<Row> = (0..5_000).map(|id| (id * 7 - 9_000, "name", (id % 3 == 0).then_some("note"))).collect();
    let table = make(&rows);
    let shape = shape(&*table);
    let slices = Pace { chunk: Some(Duration::from_millis(1)), ..Pace::default() };
    for pace in [Pace::default(), slices] {
        let pace = Arc::new(pace);
        let pages = |after: Option<&[u8]>| {
            let (pages, sliced) = ok(table.scan_paced(&shape, &pace, after), "it is read at a pace");
            let mut read = Vec::new();
            for page in pages {
                let page = ok(page, "a page is read");
                assert!(sliced || page.upto.is_none(), "only slices tell from where to go on");
                read.push((scanned(&shape, page.rows), page.upto));
            }
            read
        };
        let together = |pages: &[(Records, Option<Vec<u8>>)]| {
            let mut all = BTreeMap::new();
            for (key, row) in pages.iter().flat_map(|(rows, _)| rows) {
                assert_eq!(all.insert(key.clone(), row.clone()), None, "each row comes once");
            }
            all
        };
        let all = pages(None);
        assert_eq!(together(&all), records(&rows), "all rows come at whatever pace");
        if let Some(at) = all.iter().position(|(_, upto)| upto.is_some()) {
            let behind = pages(all[at].1.as_deref());
            assert_eq!(together(&behind), together(&all[at + 1..]), "another goes on behind what was read");
        }
    }
}

/// What is only read says so, and stays.
fn refuses(table: &dyn Table) {
    assert!(table.begin(Access::Write, WAIT).is_err(), "it is not written");
    assert!(table.script(WAIT).is_err(), "nor are statements made for that");
    for kind in [FeedKind::Triggers, FeedKind::Slot] {
        assert!(table.feed(kind, &shape(table), INDEX).is_err(), "nor has it a feed");
    }
    assert_eq!(held(table), records(&ROWS), "it is as it was");
}

fn one(transaction: &mut dyn super::Transaction, shape: &Shape, id: i64) -> Found {
    let all = ok(transaction.find(shape, &[key(id)]), "a row is sought");
    let is = |found: &&Found| shape.key_as_stored(&found.values) == shape.key_from(key(id));
    all.iter().find(is).cloned().unwrap_or_else(|| panic!("the row {id} is found"))
}

/// A row with what a transaction found or wrote.
fn is_row(shape: &Shape, written: Written, row: &Row) {
    let Written::Row(values) = written else { panic!("{row:?} is written, not {written:?}") };
    let (key, as_written) = record(shape, &values);
    assert_eq!(records(&[*row]).get(&key), Some(&as_written), "the row as it is then is given back");
}

/// Changes are seen within their transaction, and by others once that is committed.
fn writes(table: &dyn Table) {
    let shape = shape(table);
    let (new, changed): (Row, Row) = ((50, "new", None), (3, "changed", Some("")));
    let (new_values, text) = (in_order(&shape, &values(&new)), Value::Text("changed".into()));
    let name = place(&shape, "name");
    for commits in [false, true] {
        let mut transaction = begin(table, Access::Write);
        let written = ok(transaction.write(&shape, Change::Insert(&new_values)), "a row comes");
        is_row(&shape, written, &new);
        let there = in_order(&shape, &values(&(1, "other", None)));
        let again = ok(transaction.write(&shape, Change::Insert(&there)), "one that is there is no error");
        assert_eq!(again, Written::Moved, "a row that has come meanwhile stays");
        let three = one(&mut *transaction, &shape, 3);
        let written = ok(transaction.write(&shape, Change::Update(&three.place, &[(name, &text)])), "a row changes");
        is_row(&shape, written, &changed);
        let four = one(&mut *transaction, &shape, 4);
        let gone = ok(transaction.write(&shape, Change::Delete(&four.place)), "a row goes");
        assert_eq!(gone, Written::Gone);
        assert_eq!(one(&mut *transaction, &shape, 50).busy, None, "what was written is found");
        assert_eq!(ok(transaction.check(), "what is checked late"), None);
        match commits {
            true => drop(ok(transaction.commit(), "it commits")),
            false => drop(transaction),
        }
        let mut rows: Vec<Row> = ROWS.into();
        if commits {
            rows.retain(|row| ![3, 4].contains(&row.0));
            rows.extend([new, changed]);
        }
        assert_eq!(held(table), records(&rows), "all of a transaction or nothing; committed: {commits}");
    }
}

/// A row that is refused does no harm to the others of its transaction.
fn goes_back(table: &dyn Table) {
    let shape = shape(table);
    let mut transaction = begin(table, Access::Write);
    let insert = |row: &Row| in_order(&shape, &values(row));
    ok(transaction.write(&shape, Change::Insert(&insert(&(60, "stays", None)))), "a row comes");
    ok(transaction.mark(), "a mark is set");
    ok(transaction.write(&shape, Change::Insert(&insert(&(61, "goes", None)))), "another comes");
    ok(transaction.unmark(true), "it goes back");
    ok(transaction.mark(), "a mark is set");
    let mut none = insert(&(62, "", None));
    none[place(&shape, "name")] = Value::Null;
    let refused = ok(transaction.write(&shape, Change::Insert(&none)), "what the database refuses is no error");
    let Written::Refused(reason) = refused else { panic!("name is never NULL, and this is refused: {refused:?}") };
    assert!(!reason.is_empty(), "the database's reason is told");
    ok(transaction.unmark(true), "it goes back");
    ok(transaction.mark(), "a mark is set");
    ok(transaction.write(&shape, Change::Insert(&insert(&(63, "stays", None)))), "a row comes");
    ok(transaction.unmark(false), "the mark is taken away");
    ok(transaction.commit(), "it commits");
    let rows = [&ROWS[..], &[(60, "stays", None), (63, "stays", None)]].concat();
    assert_eq!(held(table), records(&rows), "what was refused, and what was gone back on, is not there");
}

/// What a transaction that writes has found stays as it is until its end.
fn holds(table: &dyn Table) {
    let shape = shape(table);
    let name = place(&shape, "name");
    let mut first = begin(table, Access::Write);
    let seen = one(&mut *first, &shape, 1);
    assert_eq!(seen.busy, None, "nobody keeps it locked");
    // Of a transaction or of a row, at once or when it is written: whoever comes second is told that another was there.
    let second = table.begin(Access::Write, WAIT).and_then(|mut second| {
        let found = second.find(&shape, &[key(1)])?;
        let busy = found.iter().any(|found| found.busy.is_some());
        let place = found.first().map(|found| found.place.clone()).unwrap_or_default();
        let other = Value::Text("second".into());
        Ok(busy || matches!(second.write(&shape, Change::Update(&place, &[(name, &other)]))?, Written::Busy(_)))
    });
    match second {
        Ok(told) => assert!(told, "another transaction wrote what this one had found"),
        Err(error) => assert!(matches!(error, StoreError::Busy { .. }), "a lock is told as one: {error}"),
    }
    let text = Value::Text("first".into());
    let written = ok(first.write(&shape, Change::Update(&seen.place, &[(name, &text)])), "a row changes");
    is_row(&shape, written, &(1, "first", Some("first")));
    ok(first.commit(), "it commits");
    let mut later = begin(table, Access::Write);
    let again = one(&mut *later, &shape, 1);
    assert_eq!((again.busy, &again.values[name]), (None, &text), "what another has committed is found");
}

/// A feed marks at least the keys that change, says where it has a gap, and goes without a trace.
fn feeds(table: &dyn Table, kind: FeedKind) {
    let shape = shape(table);
    let feed = ok(table.feed(kind, &shape, INDEX), "it can have such a feed");
    ok(feed.ready(), "nothing speaks against it");
    assert_eq!(ok(feed.restart(NONCES[0]), "one that is not there"), None, "nothing is installed yet");
    for statements in feed.install_sql() {
        ok(table.run(&statements), "it is installed");
    }
    let named: Vec<String> =
        ok(table.remains(), "what feeds have is told").into_iter().map(|remains| remains.index).collect();
    assert_eq!(named, [INDEX], "it is known by the name of its index");
    let mark = ok(feed.restart(NONCES[0]), "it begins").unwrap_or_else(|| panic!("it is installed"));
    assert_eq!(mark.nonce, NONCES[0], "it knows what it was told");
    let mut transaction = begin(table, Access::Write);
    let new = in_order(&shape, &values(&(70, "new", None)));
    ok(transaction.write(&shape, Change::Insert(&new)), "a row comes");
    let two = one(&mut *transaction, &shape, 2);
    let text = Value::Text("changed".into());
    ok(transaction.write(&shape, Change::Update(&two.place, &[(place(&shape, "name"), &text)])), "a row changes");
    let five = one(&mut *transaction, &shape, 5);
    ok(transaction.write(&shape, Change::Delete(&five.place)), "a row goes");
    ok(transaction.commit(), "it commits");
    let (keys, mark) = drained(&shape, &*feed, mark);
    for id in [70, 2, 5] {
        assert!(keys.contains(&shape.key_from(key(id))), "the change of {id} is marked");
    }
    assert!(!keys.contains(&shape.key_from(key(1))), "what did not change is not marked");
    ok(feed.release(&mark), "what was read is let go of");
    ok(feed.waiting(), "what waits is told");
    let (keys, mark) = drained(&shape, &*feed, mark);
    assert!(keys.is_empty(), "nothing comes twice");
    ok(table.run(&feed.remove_sql()), "it is removed");
    assert_eq!(ok(table.remains(), "what feeds have is told"), Vec::new(), "nothing of it is left");
    let lost = ok(feed.drain(&mark, &mut |_| Ok(())), "one that is gone is no error");
    assert!(matches!(lost, Drained::Lost(_)), "a feed that is gone is a gap: {lost:?}");
    ok(table.run(&feed.remove_sql()), "removing it once more does no harm");
}

/// The keys that a feed has marked, and how far it was read.
fn drained(shape: &Shape, feed: &dyn super::Feed, mut mark: FeedMark) -> (Vec<Vec<u8>>, FeedMark) {
    let mut all = Vec::new();
    let other = NONCES.iter().find(|nonce| **nonce != mark.nonce).map(|nonce| (*nonce).to_string());
    for _ in 0..PARTS_MAX {
        mark.next.clone_from(&other);
        let mut take = |keys: Vec<Vec<Value>>| {
            all.extend(keys.into_iter().map(|key| shape.key_from(key)));
            Ok(())
        };
        match ok(feed.drain(&mark, &mut take), "it is read") {
            Drained::Read { mark: read, more } => {
                mark = read;
                if more {
                    continue;
                }
            }
            Drained::Untold => {}
            Drained::Lost(why) => panic!("it has no gap: {why}"),
        }
        return (all, mark);
    }
    panic!("it comes to an end");
}

/// The place of a column in a shape.
fn place(shape: &Shape, name: &str) -> usize {
    shape.columns().iter().position(|(column, _)| column == name).unwrap_or_else(|| panic!("it has a column {name}"))
}

/// Values in the order of [`Row`] in that of a shape.
fn in_order(shape: &Shape, values: &[Value]) -> Vec<Value> {
    let names = ["id", "name", "note"];
    let of = |name: &str| names.iter().zip(values).find(|(known, _)| **known == name).map(|(_, value)| value.clone());
    shape.columns().iter().map(|(name, _)| of(name).unwrap_or(Value::Null)).collect()
}
