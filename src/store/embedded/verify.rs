//! Recomputing everything a store keeps about its records from the records, and saying in words what is wrong.
//! It repairs nothing: a damaged store is filled anew from a backup or a peer.

use std::cell::Cell;
use std::iter::Peekable;

use reknit_core::query::Cut;
use reknit_core::range::DEPTH_MAX;
use reknit_core::tree::Summary;
use reknit_core::{CollectionId, Digest, Entry, Position, Range, State};

use super::lookahead::Lookahead;
use super::read::records;
use super::rows::{self, Counts};
use super::seen::is_conflict;
use super::sketches::{Kept, SketchCheck};
use super::write::digested;
use super::{Inner, Store, StoreError};
use crate::store::engine::{EngineError, Rows, Snapshot};
use crate::store::error::shown;

/// Findings that a report names; more are only counted.
const NAMED_MAX: usize = 1_000;
/// Records between two questions whether to go on.
const GO_ON_EVERY: u64 = 10_000;

/// What `verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Live records.
    pub records: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Nodes of the trees, roots included.
    pub nodes: u64,
    /// What is wrong, in words, with the key or range; the first thousand.
    pub wrong: Vec<String>,
    /// How much is wrong in all.
    pub wrong_count: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.wrong_count == 0
    }

    fn wrong(&mut self, what: String) {
        self.wrong_count += 1;
        if self.wrong.len() < NAMED_MAX {
            self.wrong.push(what);
        }
    }
}

impl Store {
    /// Recomputes digests, entries, nodes, sketches, roots, counts and the index by key from the records of one snapshot.
    /// `progress` hears the records so far.
    ///
    /// # Errors
    /// What kept it from reading at all; what is merely wrong is in the report.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<Report, StoreError> {
        self.verify_while(&mut |records| {
            progress(records);
            true
        })
    }

    /// The same, as long as `go_on` says so; it hears the records so far every ten thousand, and may take its time to answer.
    ///
    /// # Errors
    /// As for [`Store::verify`], and [`StoreError::Stopped`].
    pub fn verify_while(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<Report, StoreError> {
        let inner = &*self.inner;
        let mut report = Report::default();
        // Under the writer's lock head and snapshot belong together; the lock is not kept while verifying.
        let collections =
            (0..inner.definition.collections.len()).map(|place| CollectionId(u16::try_from(place).unwrap_or(u16::MAX)));
        let (snapshot, head, sketches) = {
            let _writer = inner.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let sketches: Vec<Option<Kept>> =
                collections.clone().map(|collection| inner.sketches.of(collection)).collect();
            (inner.engine.snapshot()?, inner.head(), sketches)
        };
        let (dead_rows, expiring_rows) = (Cell::new(0), Cell::new(0));
        for (collection, kept) in collections.zip(sketches) {
            let check = Check {
                inner,
                snapshot: &*snapshot,
                collection,
                name: inner.name_of(collection),
                index_rows: Cell::new(0),
                conflict_rows: Cell::new(0),
                dead_rows: &dead_rows,
                expiring_rows: &expiring_rows,
            };
            let sketches = kept.map(|kept| SketchCheck::new(&*snapshot, collection, head.commit, kept)).transpose()?;
            check.run(&head, sketches, &mut report, go_on)?;
        }
        super::collecting::verify(&*snapshot, dead_rows.get(), &mut |what| report.wrong(what))?;
        super::expiring::verify(&*snapshot, expiring_rows.get(), &mut |what| report.wrong(what))?;
        super::bases::verify(&*snapshot, &mut |what| report.wrong(what))?;
        super::journal::verify(&*snapshot, &mut |what| report.wrong(what))?;
        super::lives::verify(&*snapshot, &mut |what| report.wrong(what))?;
        super::quarantine::verify(inner, &*snapshot, &mut |what| report.wrong(what))?;
        Ok(report)
    }
}

struct Check<'a> {
    inner: &'a Inner,
    snapshot: &'a dyn Snapshot,
    collection: CollectionId,
    name: &'a str,
    /// A sum over the rows that the index by key should have.
    index_rows: Cell<u128>,
    /// The same of the rows of keys that have several versions.
    conflict_rows: Cell<u128>,
    /// The same of the rows of tombstones, of all collections.
    dead_rows: &'a Cell<u128>,
    expiring_rows: &'a Cell<u128>,
}

impl Check<'_> {
    fn run(
        &self,
        head: &Cut,
        mut sketches: Option<SketchCheck<'_>>,
        report: &mut Report,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), StoreError> {
        let mut counts = Counts::default();
        let mut depths = Vec::new();
        for depth in 0..=DEPTH_MAX {
            let (start, end) = rows::nodes_at(self.collection, depth);
            depths.push(self.snapshot.scan(&start, &end)?.peekable());
        }
        let mut nodes = KeptNodes { depths, read: 0 };
        let root = {
            let entries = self.entries(head.commit, &mut counts, report, go_on)?;
            let mut entries = Lookahead::new(entries.inspect(|entry| {
                if let (Ok(entry), Some(sketches)) = (entry, &mut sketches) {
                    sketches.see(entry);
                }
            }));
            // Reports go through a list of their own: the entries already write into the other.
            let mut wrong = Vec::new();
            let compare = &mut |range, summary| {
                nodes.compare(range, summary, &mut wrong);
                Ok(())
            };
            let root = entries.build(&self.inner.keys, Range::ALL, compare)?;
            nodes.compare(Range::ALL, root, &mut wrong);
            if let Some(error) = entries.failed.take() {
                return Err(error);
            }
            drop(entries);
            wrong.into_iter().for_each(|what| report.wrong(self.in_collection(what)));
            root
        };
        let mut wrong = Vec::new();
        nodes.rest(&mut wrong);
        wrong.into_iter().for_each(|what| report.wrong(self.in_collection(what)));
        report.nodes += nodes.read;
        if head.roots.get(usize::from(self.collection.0)) != Some(&root) {
            report.wrong(self.in_collection("the root in use is not that of the records".into()));
        }
        let wrong = sketches.map(SketchCheck::finish).transpose()?.unwrap_or_default();
        wrong.into_iter().for_each(|what| report.wrong(self.in_collection(what)));
        self.counts(counts, report)?;
        self.conflicts(report)?;
        self.index(counts.live, report)?;
        report.records += counts.live;
        report.tombstones += counts.tombstones;
        Ok(())
    }

    fn in_collection(&self, what: String) -> String {
        if self.inner.definition.collections.len() == 1 { what } else { format!("{what} (collection {:?})", self.name) }
    }

    /// The entries that the records make, in order; compares them with the entry rows as it goes.
    fn entries<'r>(
        &'r self,
        newest: u64,
        counts: &'r mut Counts,
        report: &'r mut Report,
        go_on: &'r mut dyn FnMut(u64) -> bool,
    ) -> Result<impl Iterator<Item = Result<Entry, StoreError>> + 'r, StoreError> {
        let (start, end) = rows::records_of(self.collection, Range::ALL);
        let mut stored = records(self.inner, self.snapshot.scan(&start, &end)?).peekable();
        let (start, end) = rows::entries_of(self.collection, Range::ALL);
        let mut kept = self.snapshot.scan(&start, &end)?.peekable();
        let mut ready: std::vec::IntoIter<Entry> = Vec::new().into_iter();
        let (mut seen, mut ended) = (0, false);
        Ok(std::iter::from_fn(move || {
            loop {
                if let Some(entry) = ready.next() {
                    return Some(Ok(entry));
                }
                // All records of one position make the entries of that position.
                let mut position = None;
                let mut digests: Vec<Digest> = Vec::new();
                while let Some(next) = stored.next_if(|next| match next {
                    Ok(record) => position.is_none_or(|position| position == record.position),
                    Err(_) => true,
                }) {
                    let record = match next {
                        Ok(record) => record,
                        Err(StoreError::Damaged { what }) => {
                            report.wrong(what);
                            continue;
                        }
                        Err(error) => return Some(Err(error)),
                    };
                    position = Some(record.position);
                    seen += 1;
                    if seen % GO_ON_EVERY == 0 && !go_on(seen) {
                        return Some(Err(StoreError::Stopped));
                    }
                    if record.commit > newest {
                        let (key, commit) = (shown(&record.key), record.commit);
                        report.wrong(format!("the record of key {key} is of commit {commit}, the newest is {newest}"));
                    }
                    if self.inner.keys.position(self.name, &record.key) != record.position {
                        report.wrong(format!("the record of key {} lies at a wrong position", shown(&record.key)));
                    }
                    counts.replace(None, self.inner.is_live(self.collection, &record.state));
                    self.indexed(&record.key, &record.state);
                    let (_, digest) = digested(self.inner, self.collection, &record.key, record.state);
                    digests.extend(digest);
                }
                digests.sort_unstable();
                let Some(position) = position else {
                    if std::mem::replace(&mut ended, true) {
                        return None;
                    }
                    // Whatever entries are left belong to no record.
                    return self.compare_entries(&mut kept, Position(u64::MAX), &[], report).err().map(Err);
                };
                if let Err(error) = self.compare_entries(&mut kept, position, &digests, report) {
                    return Some(Err(error));
                }
                ready = digests.into_iter().map(|digest| Entry { position, digest }).collect::<Vec<_>>().into_iter();
            }
        }))
    }

    /// Compares the entry rows up to a position with what they should be: nothing, and there `digests`.
    fn compare_entries(
        &self,
        kept: &mut Peekable<Rows<'_>>,
        position: Position,
        digests: &[Digest],
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let here = rows::entry(self.collection, position);
        let mut found = None;
        while let Some(row) =
            kept.next_if(|row| row.as_ref().map_or(true, |(row, _)| row.as_slice() <= here.as_slice()))
        {
            let (row, value) = row?;
            if *row == here {
                found = Some(value);
            } else {
                let at: String = row.iter().skip(3).map(|byte| format!("{byte:02x}")).collect();
                report.wrong(self.in_collection(format!("entries at position {at} belong to no record")));
            }
        }
        let should = (!digests.is_empty()).then(|| rows::entry_value(digests));
        if found != should && !self.inner.no_tree && !self.inner.bare {
            let what = if found.is_none() { "are missing" } else { "are not those of its records" };
            report.wrong(self.in_collection(format!("the entries at position {:016x} {what}", position.0)));
        }
        Ok(())
    }

    /// Notes the row that the index by key should have for a record.
    fn indexed(&self, key: &[u8], state: &State) {
        let note = |sum: &Cell<u128>, (row, value): (Vec<u8>, Vec<u8>)| {
            sum.set(sum.get().wrapping_add(fingerprint(&row, &value)));
        };
        if self.inner.definition.key_index && self.inner.is_live(self.collection, state) {
            note(&self.index_rows, rows::index(self.collection, key));
        }
        if is_conflict(state) {
            note(&self.conflict_rows, rows::conflict(self.collection, key));
        }
        if let Some(stamp) = self.inner.dead(self.collection, Some(state)) {
            note(self.dead_rows, rows::tombstone(self.collection, stamp, key));
        }
        if let Some(at) = self.inner.expires_first(Some(state)) {
            note(self.expiring_rows, rows::expiring(self.collection, at, key));
        }
    }

    fn counts(&self, counts: Counts, report: &mut Report) -> Result<(), StoreError> {
        let kept = match self.snapshot.get(&rows::counts(self.collection))? {
            Some(value) => Counts::decode(&value).ok(),
            None => Some(Counts::default()),
        };
        if kept != Some(counts) {
            let Counts { live, tombstones } = counts;
            let what = format!("the kept counts are wrong: there are {live} live records and {tombstones} tombstones");
            report.wrong(self.in_collection(what));
        }
        Ok(())
    }

    /// Compares the list of conflicts with the records that have several versions.
    fn conflicts(&self, report: &mut Report) -> Result<(), StoreError> {
        let (start, end) = rows::conflicts_of(self.collection);
        let mut sum = 0_u128;
        for row in self.snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            sum = sum.wrapping_add(fingerprint(&row, &value));
        }
        if sum != self.conflict_rows.get() {
            let what = "the list of conflicts does not name just those keys that have several versions";
            report.wrong(self.in_collection(what.into()));
        }
        Ok(())
    }

    /// Compares the index by key with what the records make of it: two runs over rows in order, for which a sum of
    /// fingerprints tells whether they are the same, in whatever order. Only if they are not are keys looked up one by one.
    fn index(&self, live: u64, report: &mut Report) -> Result<(), StoreError> {
        if !self.inner.definition.key_index {
            return Ok(());
        }
        let (start, end) = rows::index_of(self.collection, &[]);
        let (mut held, mut sum) = (0, 0_u128);
        for row in self.snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            sum = sum.wrapping_add(fingerprint(&row, &value));
            held += 1;
        }
        if sum == self.index_rows.get() && held == live {
            return Ok(());
        }
        let (start, end) = rows::records_of(self.collection, Range::ALL);
        let mut lacking = 0;
        // Records that cannot be read were named before.
        for record in records(self.inner, self.snapshot.scan(&start, &end)?).flatten() {
            let (row, value) = rows::index(self.collection, &record.key);
            if self.inner.is_live(self.collection, &record.state) && self.snapshot.get(&row)?.as_ref() != Some(&value) {
                report.wrong(self.in_collection(format!("the index by key lacks {}", shown(&record.key))));
                lacking += 1;
            }
        }
        if held != live || lacking == 0 {
            let what = format!("the index by key holds {held} keys, there are {live} live records");
            report.wrong(self.in_collection(what));
        }
        Ok(())
    }
}

/// What a row adds to a sum over rows. Damage is to be noticed here, not malice.
pub(super) fn fingerprint(row: &[u8], value: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(row.len() as u64).to_be_bytes()).update(row).update(value);
    let digest = hasher.finalize();
    u128::from_be_bytes(std::array::from_fn(|i| digest.as_bytes()[i]))
}

/// The node rows, which are met in order at each depth.
struct KeptNodes<'a> {
    depths: Vec<Peekable<Rows<'a>>>,
    read: u64,
}

impl KeptNodes<'_> {
    /// Compares the row of a node with what it should be; the rows before it at its depth belong nowhere.
    fn compare(&mut self, range: Range, should: Summary, wrong: &mut Vec<String>) {
        let rows = &mut self.depths[usize::from(range.depth())];
        let mut found = None;
        while let Some(row) = rows.next_if(|row| before_or_at(row, range)) {
            self.read += 1;
            match row.map_err(StoreError::from).and_then(|(row, value)| rows::read_node(&row, &value)) {
                Ok((at, summary)) if at == range => found = Some(summary),
                Ok((at, _)) => wrong.push(format!("the node of range {at} belongs to no tree")),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        let should = (!should.is_empty()).then_some(should);
        // The root's row stays when the tree is empty.
        let found = found.filter(|found| !(range == Range::ALL && found.is_empty()));
        if found != should {
            let what = if found.is_none() { "is missing" } else { "is not that of its entries" };
            wrong.push(format!("the node of range {range} {what}"));
        }
    }

    /// What is left belongs nowhere.
    fn rest(&mut self, wrong: &mut Vec<String>) {
        for rows in &mut self.depths {
            for row in rows {
                self.read += 1;
                match row.map_err(StoreError::from).and_then(|(row, value)| rows::read_node(&row, &value)) {
                    Ok((at, _)) => wrong.push(format!("the node of range {at} belongs to no tree")),
                    Err(error) => wrong.push(error.to_string()),
                }
            }
        }
    }
}

fn before_or_at(row: &Result<(Vec<u8>, Vec<u8>), EngineError>, range: Range) -> bool {
    match row {
        Ok((row, _)) => row.get(4..12).is_none_or(|bits| bits <= range.bits().to_be_bytes().as_slice()),
        Err(_) => true,
    }
}
