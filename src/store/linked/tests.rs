//! The index and guarded writes over a table in memory, against plain maps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use reknit_core::journal::{RunHeader, RunKind};
use reknit_core::query::{Guard, Incoming};
use reknit_core::row::{Kind, Value};
use reknit_core::{
    Actor, CollectionId, Content, DatasetId, DatasetKey, Definition, Profile, Range, Record, Sibling, Stamp, State,
    Version,
};

use super::*;
use crate::store::{Durability, EngineKind, Op, Options, Side, Store};

type Row = Vec<Value>;

/// A table in memory of a number and a text, which takes no text that begins with `!`, and shortens those of over five
/// letters. At one text it has gone.
const GONE: &str = "gone, whoever asks";

struct Listed {
    columns: Columns,
    rows: Arc<Mutex<Vec<Row>>>,
}

impl Table for Listed {
    fn place(&self) -> &str {
        "listed"
    }

    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn scan(&self, _: &Shape) -> Result<Rows<'_>, StoreError> {
        let rows = self.rows.lock().expect("no panic").clone();
        Ok(Box::new(rows.into_iter().map(Ok)))
    }

    fn stores_keys_one_way(&self, _: &Shape) -> bool {
        false
    }

    fn begin(&self, _: Access, _: Duration) -> Result<Box<dyn Transaction + '_>, StoreError> {
        let rows = self.rows.lock().expect("no panic").clone();
        Ok(Box::new(Work { table: self, marks: Vec::new(), rows }))
    }

    fn cautions(&self) -> Result<Cautions, StoreError> {
        Ok(Cautions::default())
    }

    fn script(&self, _: Duration) -> Result<Box<dyn Script + '_>, StoreError> {
        Err(StoreError::database("listed", "it has none"))
    }

    fn cost(&self, _: &Shape) -> Result<Cost, StoreError> {
        Ok(Cost::default())
    }

    fn feed(&self, _: FeedKind, _: &Shape, _: &str) -> Result<Box<dyn Feed + '_>, StoreError> {
        Err(StoreError::database("listed", "it has none"))
    }

    fn remains(&self) -> Result<Vec<Remains>, StoreError> {
        Ok(Vec::new())
    }

    fn run(&self, _: &[String]) -> Result<(), StoreError> {
        Ok(())
    }
}

struct Work<'a> {
    table: &'a Listed,
    marks: Vec<Vec<Row>>,
    rows: Vec<Row>,
}

impl Transaction for Work<'_> {
    /// Finds odd keys only by reading.
    fn find(&mut self, _: &Shape, keys: &[Row]) -> Result<Vec<Found>, StoreError> {
        let odd = |row: &Row| matches!(row[0], Value::Int(number) if number % 2 == 1);
        let found = self.rows.iter().filter(|row| keys.contains(&vec![row[0].clone()]) && !odd(row));
        Ok(found.map(|row| Found { place: vec![row[0].clone()], values: row.clone(), busy: None }).collect())
    }

    fn find_by_reading(
        &mut self,
        _: &Shape,
        wanted: &mut dyn FnMut(&[Value]) -> bool,
    ) -> Result<Vec<Found>, StoreError> {
        let found = self.rows.iter().filter(|row| wanted(row));
        Ok(found.map(|row| Found { place: vec![row[0].clone()], values: row.clone(), busy: None }).collect())
    }

    fn write(&mut self, _: &Shape, change: Change<'_>) -> Result<Written, StoreError> {
        let refused = |value: &Value| matches!(value, Value::Text(text) if text.starts_with('!'));
        let kept = |value: &Value| match value {
            Value::Text(text) => Value::Text(text.chars().take(5).collect()),
            value => value.clone(),
        };
        match change {
            Change::Update(_, [(_, Value::Text(text))]) if *text == GONE => {
                Err(StoreError::database("listed", "it has gone"))
            }
            Change::Insert(values) if refused(&values[1]) => Ok(Written::Refused("no".into())),
            Change::Insert(values) if self.rows.iter().any(|row| row[0] == values[0]) => Ok(Written::Moved),
            Change::Insert(values) => {
                let row = vec![values[0].clone(), kept(&values[1])];
                self.rows.push(row.clone());
                Ok(Written::Row(row))
            }
            Change::Update(place, [(1, value)]) => {
                let Some(row) = self.rows.iter_mut().find(|row| row[0] == place[0]) else { return Ok(Written::Moved) };
                row[1] = kept(value);
                Ok(if refused(value) { Written::Refused("no".into()) } else { Written::Row(row.clone()) })
            }
            Change::Update(_, others) => panic!("only what differs is written: {others:?}"),
            Change::Delete(place) => {
                self.rows.retain(|row| row[0] != place[0]);
                Ok(Written::Gone)
            }
        }
    }

    fn mark(&mut self) -> Result<(), StoreError> {
        self.marks.push(self.rows.clone());
        Ok(())
    }

    fn unmark(&mut self, back: bool) -> Result<(), StoreError> {
        let rows = self.marks.pop().expect("a mark");
        self.rows = if back { rows } else { std::mem::take(&mut self.rows) };
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<Besides, StoreError> {
        assert!(self.marks.is_empty());
        *self.table.rows.lock().expect("no panic") = self.rows;
        Ok(Besides::new())
    }
}

fn columns() -> Columns {
    let column = |name: &str, kind| Column { name: name.into(), kind, declared: String::new() };
    Columns { columns: vec![column("id", Kind::Int), column("v", Kind::Text)], key: vec!["id".into()] }
}

fn shape() -> Shape {
    let [shape, _] = Terms::default().shapes(("a", &columns()), ("b", &columns())).expect("a shape");
    shape
}

fn dataset() -> (Definition, DatasetKey) {
    let definition = Definition::simple(DatasetId([3; 16]), "table");
    let definition = Definition { profile: Profile::Content, key_index: false, ..definition };
    (definition, DatasetKey::from_bytes([5; 32]))
}

fn options() -> Options {
    Options { engine: EngineKind::Redb, ..Options::default() }
}

/// The index of a table of these rows.
fn linked(dir: &Path, rows: &Arc<Mutex<Vec<Row>>>) -> Linked {
    let table = Box::new(Listed { columns: columns(), rows: Arc::clone(rows) });
    Linked::open(dir, table, shape(), dataset(), &options()).expect("opened")
}

/// What the index is worth is what a store that holds the rows themselves is worth.
fn check(linked: &Linked, rows: &[Row]) {
    let (definition, key) = dataset();
    let whole = Store::in_memory(definition, key, &options()).expect("a store");
    for values in rows {
        let (key, row) = shape().record(values.clone()).expect("a record");
        whole.batch(vec![Op::put(key, row)], Durability::Buffered).expect("put");
    }
    assert_eq!(Side::cut(linked).expect("a cut").roots, whole.cut().roots);
    let report = linked.index().verify(&mut |_| ()).expect("verified");
    assert!(report.is_sound(), "{:?}", report.wrong);
}

fn encode(id: i128) -> Vec<u8> {
    reknit_core::row::encode_key(&[Value::Int(id)])
}

fn row((id, v): (&i128, &String)) -> Row {
    vec![Value::Int(*id), Value::Text(v.clone())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn an_index_is_worth_what_the_table_holds(
        tables in proptest::collection::vec(proptest::collection::btree_map(0_i128..60, "v[0-2]", 0..60), 1..5),
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let rows = Arc::new(Mutex::new(Vec::new()));
        let mut last: BTreeMap<i128, String> = BTreeMap::new();
        for held in tables {
            *rows.lock().expect("no panic") = held.iter().map(row).rev().collect();
            // It goes on where it was.
            let linked = linked(&dir.path().join("index"), &rows);
            let read = linked.refresh(&mut |_| ()).expect("read");
            let changed = held.iter().filter(|(id, v)| last.get(*id) != Some(*v)).count()
                + last.keys().filter(|id| !held.contains_key(*id)).count();
            prop_assert_eq!((read.records, read.changed), (held.len() as u64, changed as u64));
            check(&linked, &held.iter().map(row).collect::<Vec<_>>());
            last = held.clone();
        }
    }

    /// Each write is made exactly where its guard holds and the table takes it, whatever the index knew; the journal holds what
    /// it replaced, and an undo brings that back where nobody has written since.
    #[test]
    fn rows_are_written_as_guards_allow_and_come_back(
        before in proptest::collection::btree_map(0_i128..20, "[ab]{1,2}", 0..20),
        since in proptest::collection::btree_map(0_i128..20, proptest::option::of("[ab]{1,2}"), 0..4),
        wanted in proptest::collection::btree_map(0_i128..24, proptest::option::of("(!a|[abc]{1,2}|toolong)"), 1..20),
        stale in proptest::collection::btree_set(0_i128..24, 0..4),
        later in proptest::collection::btree_map(0_i128..24, proptest::option::of("z"), 0..4),
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let rows = Arc::new(Mutex::new(before.iter().map(row).collect::<Vec<_>>()));
        let linked = linked(&dir.path().join("index"), &rows);
        linked.refresh(&mut |_| ()).expect("read");
        let change = |changes: &BTreeMap<i128, Option<String>>, model: &mut BTreeMap<i128, String>| {
            for (id, v) in changes {
                match v {
                    Some(v) => model.insert(*id, v.clone()),
                    None => model.remove(id),
                };
            }
            *rows.lock().expect("no panic") = model.iter().map(row).collect();
        };
        let mut model = before;
        change(&since, &mut model);
        let at_run = model.clone();
        let short = |id: i128, v: Option<&String>| v.map(|v| {
            let (key, row) = shape().record(row((&id, v))).expect("a record");
            linked.entry(&key, &row)
        });
        let header = RunHeader {
            kind: RunKind::Repair, peer: String::new(), opener: true, policy: String::new(), started: 0,
        };
        let side = linked.in_run(header).expect("a run").expect("one");
        let (mut batch, mut fates, mut written) = (Vec::new(), [0_u64; 4], BTreeSet::new());
        for (id, v) in &wanted {
            let (key, _) = shape().record(row((id, &String::new()))).expect("a record");
            let content = v.as_ref().map_or(Content::Tombstone, |v| {
                Content::Live(shape().record(row((id, v))).expect("a record").1)
            });
            let sibling = Sibling { version: Version::after(Stamp(1), Actor(1), []), content, expires: None };
            let guard = if stale.contains(id) { Some(7) } else { short(*id, model.get(id)) };
            batch.push(Incoming { record: Record { key, state: State::single(sibling) }, guard: Guard::IfShort(guard) });
            let taken = !v.as_ref().is_some_and(|v| v.starts_with('!') || v.len() > 5);
            let fate = match () {
                () if model.get(id) == v.as_ref() => 1,
                () if stale.contains(id) => 2,
                () if taken => 0,
                () => 3,
            };
            fates[fate] += 1;
            if fate == 0 {
                written.insert(*id);
                match v {
                    Some(v) => model.insert(*id, v.clone()),
                    None => model.remove(id),
                };
            }
        }
        let applied = side.apply(CollectionId(0), batch, Durability::Buffered).expect("applied");
        let told = [applied.applied, applied.kept, applied.moved, applied.refused.len() as u64];
        prop_assert_eq!(told, fates);
        let run = side.end_run("done").expect("ended");
        prop_assert_eq!(run.is_some(), fates[0] > 0);
        let table = || {
            let mut all = rows.lock().expect("no panic").clone();
            all.sort();
            all
        };
        prop_assert_eq!(table(), model.iter().map(row).collect::<Vec<_>>());
        linked.refresh(&mut |_| ()).expect("read");
        check(&linked, &table());
        let Some(run) = run else { return Ok(()) };
        // What was written since stays; what is as the run left it becomes what it was.
        let left = model.clone();
        change(&later, &mut model);
        for id in &written {
            if model.get(id) == left.get(id) {
                match at_run.get(id) {
                    Some(v) => model.insert(*id, v.clone()),
                    None => model.remove(id),
                };
            }
        }
        let mut skipped = 0;
        let undone = linked.undo(run, &mut |_| skipped += 1, &mut |_| ()).expect("undone");
        prop_assert_eq!((undone.restored + undone.skipped, undone.skipped), (fates[0], skipped));
        prop_assert_eq!(table(), model.iter().map(row).collect::<Vec<_>>());
        let paused = side.apply(CollectionId(0), vec![], Durability::Buffered);
        prop_assert!(matches!(&paused, Err(StoreError::Paused { .. })), "repairs are paused");
        linked.index().resume().expect("resumed");
        linked.refresh(&mut |_| ()).expect("read");
        check(&linked, &table());
    }
}

#[test]
fn what_was_compared_is_looked_at_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = |text: &str| Value::Text(text.into());
    let rows = Arc::new(Mutex::new(vec![vec![Value::Int(1), text("a")], vec![Value::Int(2), text("b")]]));
    let linked = linked(&dir.path().join("index"), &rows);
    linked.refresh(&mut |_| ()).expect("read");
    let before = Side::cut(&linked).expect("a cut");
    let first = shape().record(vec![Value::Int(1), text("a")]).expect("a record").0;
    let position = linked.describe().keys.position("default", &first);
    linked.items(CollectionId(0), &[Range::of(position, reknit_core::range::DEPTH_MAX)]).expect("items");
    rows.lock().expect("no panic")[0][1] = text("c");
    let after = Side::cut(&linked).expect("a cut");
    assert!(after.commit > before.commit, "a root that is read later is not one of before");
    let held = rows.lock().expect("no panic").clone();
    check(&linked, &held);
    // So is what was listed where much differs.
    linked.list(CollectionId(0), Range::ALL, None, 10).expect("a list");
    rows.lock().expect("no panic")[1][1] = text("d");
    let later = Side::cut(&linked).expect("a cut");
    assert!(later.commit > after.commit);
    // What the other side of a pair found is looked up too.
    let other = Arc::new(Mutex::new(vec![vec![Value::Int(1), text("c")]]));
    let other = self::linked(&dir.path().join("other"), &other).paired(&linked);
    let empty = Side::cut(&other).expect("a cut");
    assert_eq!(empty.roots[0].count, 1, "the index had not been read at all");
}

#[test]
fn what_was_written_of_a_batch_counts_though_the_table_went_in_its_middle() {
    let dir = tempfile::tempdir().expect("a directory");
    let of = |id: i128, text: &str| vec![Value::Int(id), Value::Text(text.into())];
    let rows = Arc::new(Mutex::new([2, 4, 6, 8].map(|id| of(id, "a")).to_vec()));
    let linked = linked(&dir.path().join("index"), &rows).in_manner(Manner { batch: 2, ..Manner::default() });
    linked.refresh(&mut |_| ()).expect("read");
    let header =
        RunHeader { kind: RunKind::Repair, peer: String::new(), opener: true, policy: String::new(), started: 0 };
    let side = linked.in_run(header).expect("a run").expect("one");
    let batch = [(2, "b"), (4, "b"), (6, GONE), (8, "b")].map(|(id, text)| {
        let (key, row) = shape().record(of(id, text)).expect("a record");
        let held = linked.entry(&key, &shape().record(of(id, "a")).expect("a record").1);
        let content = Content::Live(row);
        let sibling = Sibling { version: Version::after(Stamp(1), Actor(1), []), content, expires: None };
        Incoming { record: Record { key, state: State::single(sibling) }, guard: Guard::IfShort(Some(held)) }
    });
    let failed = side.apply(CollectionId(0), batch.to_vec(), Durability::Synced).expect_err("it has gone");
    let StoreError::Partly { applied, error } = failed else { panic!("{failed}") };
    assert_eq!((applied.applied, applied.losses.changed), (2, 2));
    assert!(error.to_string().contains("those before were"), "{error}");
    assert_eq!(rows.lock().expect("no panic")[1..3], [of(4, "b"), of(6, "a")]);
}

#[test]
fn an_index_that_is_made_at_once_is_one_that_grew() {
    let dir = tempfile::tempdir().expect("a directory");
    let numbered = |n: i128| vec![Value::Int(n), Value::Text(format!("v{n}"))];
    let rows = Arc::new(Mutex::new((0..6_000).map(numbered).collect::<Vec<_>>()));
    let made = linked(&dir.path().join("made"), &rows);
    assert_eq!(made.refresh(&mut |_| ()).expect("read").changed, 6_000);
    let held = rows.lock().expect("no panic").clone();
    // One that is not empty is written row by row.
    let grown = Arc::new(Mutex::new(vec![numbered(70_000)]));
    let grown_index = linked(&dir.path().join("grown"), &grown);
    grown_index.refresh(&mut |_| ()).expect("read");
    *grown.lock().expect("no panic") = held.clone();
    grown_index.refresh(&mut |_| ()).expect("read");
    assert_eq!(made.index().cut().roots, grown_index.index().cut().roots);
    let sketch = |linked: &Linked| Side::sketches(linked, CollectionId(0), &[Range::ALL], 500).expect("a sketch");
    assert_eq!(sketch(&made), sketch(&grown_index));
    check(&made, &held);
    // So much has changed that it is packed anew; what it is worth stays.
    *rows.lock().expect("no panic") = (5_500..6_000).map(numbered).collect();
    made.refresh(&mut |_| ()).expect("read");
    let held = rows.lock().expect("no panic").clone();
    check(&made, &held);
    drop(made);
    let made = linked(&dir.path().join("made"), &rows);
    check(&made, &held);
    // A key that comes twice is told, and nothing is there of what came before it.
    let twice = Arc::new(Mutex::new(vec![numbered(1), numbered(2), numbered(1)]));
    let refused = linked(&dir.path().join("twice"), &twice);
    let error = refused.refresh(&mut |_| ()).expect_err("twice");
    assert!(matches!(error, StoreError::Duplicate { first: 1, second: 3, .. }), "{error}");
    assert_eq!(refused.rows(), 0);
    twice.lock().expect("no panic").pop();
    refused.refresh(&mut |_| ()).expect("read");
    check(&refused, &[numbered(1), numbered(2)]);
}

#[test]
fn an_index_of_which_much_has_changed_is_packed_anew_and_knows_what_it_was() {
    const ROWS: i128 = 30_000;
    let dir = tempfile::tempdir().expect("a directory");
    let numbered = |n: i128, v: &str| vec![Value::Int(n), Value::Text(v.into())];
    let rows = Arc::new(Mutex::new((0..ROWS).map(|n| numbered(n, "v")).collect::<Vec<_>>()));
    let [a, b] = ["a", "b"].map(|name| linked(&dir.path().join(name), &rows));
    for linked in [&a, &b] {
        linked.refresh(&mut |_| ()).expect("read");
    }
    a.keep_changes(&b);
    let before = a.index().cut().commit;
    a.note_equal(&b, (before, b.index().cut().commit), &BTreeMap::new()).expect("noted");
    // A third stays, a third changes, a third goes, and as many come.
    let now = (0..2 * ROWS).filter(|n| n % 3 != 2).map(|n| numbered(n, if n % 3 == 0 { "v" } else { "w" }));
    *rows.lock().expect("no panic") = now.collect();
    let read = a.refresh(&mut |_| ()).expect("read");
    assert_eq!((read.records, read.changed), (40_000, 40_000), "10,000 otherwise, 10,000 gone, 20,000 new");
    assert!(read.commit - before <= 3, "commits: {}", read.commit - before);
    let held = rows.lock().expect("no panic").clone();
    check(&a, &held);
    let since = a.since(&b).expect("read").expect("a base").base.was;
    assert_eq!(since.len(), 40_000);
    let was = |n: i128| since.get(&(CollectionId(0), encode(n))).copied();
    let (key, row) = shape().record(numbered(1, "v")).expect("a record");
    assert_eq!((was(0), was(1), was(ROWS)), (None, Some(Some(a.entry(&key, &row))), Some(None)));
    // Nothing changes, and what was there stays as it is.
    assert_eq!(a.refresh(&mut |_| ()).expect("read").changed, 0);
    drop(a);
    check(&linked(&dir.path().join("a"), &rows), &held);
}

#[test]
fn an_index_of_an_older_release_is_made_anew_and_keeps_what_was_noted() {
    let dir = tempfile::tempdir().expect("a directory");
    let index = dir.path().join("index");
    let (definition, key) = dataset();
    let older = Options { bare: true, ..options() };
    let store = Store::create(&index, definition, key, &older).expect("created");
    store.first().set_layout(Some(shape().to_named_bytes())).expect("a layout");
    store.set_fact("kept", Some(vec![7])).expect("noted");
    store.batch(vec![Op::put(b"k", [1; 32])], Durability::Synced).expect("put");
    let commit = store.cut().commit;
    drop(store);
    let rows = Arc::new(Mutex::new(vec![vec![Value::Int(1), Value::Text("a".into())]]));
    let renewed = linked(&index, &rows);
    let why = renewed.needs_scan().expect("looked").expect("it does");
    assert!(why.contains("older release"), "{why}");
    assert_eq!((renewed.rows(), renewed.index().fact("kept").expect("read")), (0, Some(vec![7])));
    assert!(renewed.index().cut().commit >= commit, "commits go on");
    drop(renewed);
    let renewed = linked(&index, &rows);
    renewed.follow_table(&mut |_| ()).expect("read");
    let held = rows.lock().expect("no panic").clone();
    check(&renewed, &held);
    assert!(!renewed.needs_scan().expect("looked").is_some_and(|why| why.contains("older")));
    assert!(!index.join("rows.old").exists() && !index.join("rows.new").exists());
}

#[test]
fn an_index_of_an_outgrown_encoding_is_made_anew_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let rows = Arc::new(Mutex::new((0..10).map(|id| row((&id, &"v".into()))).collect::<Vec<_>>()));
    let (a, b) = (linked(&dir.path().join("a"), &rows), linked(&dir.path().join("b"), &rows));
    let follow = |linked: &Linked| linked.follow_table(&mut |_| ()).expect("followed");
    for linked in [&a, &b] {
        assert_eq!(follow(linked).stale, None);
    }
    assert_eq!(a.index().fact("encoding").expect("a fact"), Some(vec![1]));
    a.keep_changes(&b);
    a.note_equal(&b, (a.index().cut().commit, b.index().cut().commit), &BTreeMap::new()).expect("noted");
    assert!(a.since(&b).expect("read").is_some());
    // As another encoding would have left it: what is kept of the rows is worth nothing.
    let other = |linked: &Linked, fact: Option<Vec<u8>>| {
        let of = |id: i128| crate::store::embedded::Followed::Is(encode(id), Some(vec![7; 32]));
        linked.index().follow(CollectionId(0), (0..10).map(of).collect(), None, Durability::Buffered).expect("changed");
        linked.index().set_fact("encoding", fact).expect("kept");
    };
    other(&a, Some(vec![0]));
    let told = "its index was made by version 0 of the encoding of rows, this release has version 1";
    assert_eq!(a.outgrown().expect("read").as_deref(), Some(told));
    let followed = follow(&a);
    assert_eq!((followed.stale.as_deref(), followed.changed), (Some(told), 10));
    assert_eq!((a.outgrown().expect("read"), follow(&a).stale, a.since(&b).expect("read")), (None, None, None));
    check(&a, &rows.lock().expect("no panic").clone());
    // What its runs had left is told by the other encoding, and so is not known any more; later runs are undone.
    let run = |linked: &Linked, id: i128| {
        let header =
            RunHeader { kind: RunKind::Repair, peer: String::new(), opener: true, policy: String::new(), started: 0 };
        let side = linked.in_run(header).expect("a run").expect("one");
        let (key, row) = shape().record(row((&id, &"new".into()))).expect("a record");
        let sibling =
            Sibling { version: Version::after(Stamp(1), Actor(1), []), content: Content::Live(row), expires: None };
        let incoming = Incoming { record: Record { key, state: State::single(sibling) }, guard: Guard::IfShort(None) };
        side.apply(CollectionId(0), vec![incoming], Durability::Buffered).expect("applied");
        side.end_run("done").expect("ended").expect("it wrote")
    };
    let undone = |run| a.undo(run, &mut |_| (), &mut |_| ()).map(|undone| undone.restored).map_err(|e| e.to_string());
    let earlier = run(&a, 50);
    a.index().set_fact("encoding", Some(vec![0])).expect("kept");
    assert!(undone(earlier).expect_err("before it is read anew").contains("earlier encoding of rows"));
    follow(&a);
    assert!(undone(earlier).expect_err("nor after").contains("earlier encoding of rows"));
    let later = run(&a, 51);
    assert_eq!(undone(later), Ok(1));
    a.index().resume().expect("resumed");
    // One that does not say is of the first encoding.
    a.index().set_fact("encoding", None).expect("kept");
    assert_eq!((a.outgrown().expect("read"), follow(&a).changed), (None, 0));
}

#[test]
fn an_index_is_no_store_and_a_store_no_index() {
    let dir = tempfile::tempdir().expect("a directory");
    let (index, store) = (dir.path().join("index"), dir.path().join("store"));
    drop(linked(&index, &Arc::default()));
    let taken = Store::open(&index, &options()).map(drop).expect_err("it is an index").to_string();
    assert!(taken.contains("is the index of a database"), "{taken}");
    let (definition, key) = dataset();
    let whole = Store::create(&store, definition, key, &options()).expect("created");
    whole.put(b"k", b"v").expect("put");
    drop(whole);
    let table = Box::new(Listed { columns: columns(), rows: Arc::default() });
    let taken = Linked::open(&store, table, shape(), dataset(), &options()).map(drop).expect_err("it is a store");
    assert!(taken.to_string().contains("is a store of records"), "{taken}");
    let whole = Store::open(&store, &options()).expect("it is as it was");
    assert_eq!(whole.get(b"k").expect("read"), Some(b"v".to_vec()));
}

/// What has come to the table since it was read is known neither to its index nor by what the peer found: it is read again before
/// it is said once more that it is not there.
#[test]
fn what_has_come_since_is_found_once_a_peer_asks_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let row = |id: i128| vec![Value::Int(id), Value::Text("a".into())];
    let rows = Arc::new(Mutex::new(vec![row(1)]));
    let dataset = TableDataset::new("t", [7; 32], &shape());
    let opened = Arc::new(Mutex::new(0));
    let served = {
        let (dir, rows, dataset, opened) = (dir.path().join("index"), rows.clone(), dataset.clone(), opened.clone());
        let open = move || {
            *opened.lock().expect("no panic") += 1;
            let table = Box::new(Listed { columns: columns(), rows: Arc::clone(&rows) });
            let made_with = (dataset.definition().clone(), dataset.key().clone());
            Linked::open(&dir, table, shape(), made_with, &options())
        };
        ServedTable::new(&TableDataset::new("t", [7; 32], &shape()), ("listed".into(), None), (Actor(1), 2), open)
    };
    let key = shape().record(row(2)).expect("a record").0;
    let place = [Range::of(served.describe().keys.position("default", &key), reknit_core::range::DEPTH_MAX)];
    let (session, other) = (served.for_session().expect("one"), served.for_session().expect("one"));
    assert_eq!(*opened.lock().expect("no panic"), 0, "nothing is opened before it is asked");
    assert_eq!(session.cut().expect("a cut").roots[0].count, 1);
    rows.lock().expect("no panic").push(row(2));
    assert_eq!(session.items(CollectionId(0), &place).expect("items").len(), 0);
    assert_eq!(session.items(CollectionId(0), &place).expect("items").len(), 1);
    assert_eq!(other.cut().expect("a cut").roots[0].count, 2);
    assert_eq!(*opened.lock().expect("no panic"), 1, "sessions at one time share it");
    drop((session, other));
    rows.lock().expect("no panic").clear();
    let later = served.for_session().expect("one");
    assert_eq!(later.cut().expect("a cut").roots[0].count, 0);
    assert_eq!(*opened.lock().expect("no panic"), 2);
    assert!(!later.describe().writable && later.apply(CollectionId(0), vec![], Durability::Buffered).is_err());
}
