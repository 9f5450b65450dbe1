//! Recomputing everything a store keeps about its records from the records, and saying in words what is wrong.
//! It repairs nothing: a damaged store is filled anew from a backup or a peer.

mod part;

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
pub use part::Part;

/// Findings that a report names; more are only counted.
const NAMED_MAX: usize = 1_000;
/// Records between two questions whether to go on, where all are read and where a part is.
const GO_ON_EVERY: u64 = 10_000;
const GO_ON_EVERY_IN_PART: u64 = 100;

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

    /// Adds what was found in another part.
    pub fn add(&mut self, other: Report) {
        self.records += other.records;
        self.tombstones += other.tombstones;
        self.nodes += other.nodes;
        self.wrong_count += other.wrong_count;
        self.wrong.extend(other.wrong);
        self.wrong.truncate(NAMED_MAX);
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
        let (mut dead, mut expiring) = (0_u128, 0_u128);
        for (collection, kept) in collections.zip(sketches) {
            let sums = Sums::default();
            let name = inner.name_of(collection);
            let check = Check { inner, snapshot: &*snapshot, collection, name, sums: Some(&sums) };
            let sketches = kept.map(|kept| SketchCheck::new(&*snapshot, collection, head.commit, kept)).transpose()?;
            check.run(&sums, &head, sketches, &mut report, go_on)?;
            dead = dead.wrapping_add(sums.tombstones.get());
            expiring = expiring.wrapping_add(sums.expiring.get());
        }
        super::collecting::verify(&*snapshot, dead, &mut |what| report.wrong(what))?;
        super::expiring::verify(&*snapshot, expiring, &mut |what| report.wrong(what))?;
        super::bases::verify(&*snapshot, &mut |what| report.wrong(what))?;
        super::journal::verify(&*snapshot, &mut |what| report.wrong(what))?;
        super::lives::verify(&*snapshot, &mut |what| report.wrong(what))?;
        super::quarantine::verify(inner, &*snapshot, &mut |what| report.wrong(what))?;
        Ok(report)
    }
}

/// Sums over the rows that the lists of a collection should have.
#[derive(Default)]
struct Sums {
    keys: Cell<u128>,
    conflicts: Cell<u128>,
    tombstones: Cell<u128>,
    expiring: Cell<u128>,
}

/// A list of keys that a store keeps beside its records.
#[derive(Clone, Copy)]
enum List {
    Keys,
    Conflicts,
    Tombstones,
    Expiring,
}

impl List {
    fn name(self) -> &'static str {
        match self {
            List::Keys => "the index by key",
            List::Conflicts => "the list of conflicts",
            List::Tombstones => "the list of tombstones",
            List::Expiring => "the list of what expires",
        }
    }

    fn sum(self, sums: &Sums) -> &Cell<u128> {
        match self {
            List::Keys => &sums.keys,
            List::Conflicts => &sums.conflicts,
            List::Tombstones => &sums.tombstones,
            List::Expiring => &sums.expiring,
        }
    }
}

struct Check<'a> {
    inner: &'a Inner,
    snapshot: &'a dyn Snapshot,
    collection: CollectionId,
    name: &'a str,
    /// Where all records are read what their rows in lists come to; else each of these is looked up.
    sums: Option<&'a Sums>,
}

impl Check<'_> {
    fn run(
        &self,
        sums: &Sums,
        head: &Cut,
        mut sketches: Option<SketchCheck<'_>>,
        report: &mut Report,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), StoreError> {
        let see = &mut |entry: &Entry| {
            if let Some(sketches) = &mut sketches {
                sketches.see(entry);
            }
        };
        let (root, counts) = self.tree(Range::ALL, head.commit, see, report, go_on)?;
        if head.roots.get(usize::from(self.collection.0)) != Some(&root) {
            report.wrong(self.in_collection("the root in use is not that of the records".into()));
        }
        let wrong = sketches.map(SketchCheck::finish).transpose()?.unwrap_or_default();
        wrong.into_iter().for_each(|what| report.wrong(self.in_collection(what)));
        self.counts(counts, report)?;
        self.conflicts(sums.conflicts.get(), report)?;
        self.index(sums.keys.get(), counts.live, report)
    }

    /// Compares the records of a range with their entries, and those with the nodes of that range and below; gives what the
    /// records come to. Each entry is shown to `see`.
    fn tree(
        &self,
        range: Range,
        newest: u64,
        see: &mut dyn FnMut(&Entry),
        report: &mut Report,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(Summary, Counts), StoreError> {
        let mut counts = Counts::default();
        let mut nodes = KeptNodes::new(self.snapshot, self.collection, range)?;
        // Reports go through a list of their own: the entries already write into the other.
        let mut wrong = Vec::new();
        let summary = {
            let entries = self.entries(range, newest, &mut counts, report, go_on)?;
            let mut entries = Lookahead::new(entries.inspect(|entry| {
                if let Ok(entry) = entry {
                    see(entry);
                }
            }));
            let compare = &mut |range, summary| {
                nodes.compare(range, summary, &mut wrong);
                Ok(())
            };
            let summary = entries.build(&self.inner.keys, range, compare)?;
            nodes.compare(range, summary, &mut wrong);
            if let Some(error) = entries.failed.take() {
                return Err(error);
            }
            summary
        };
        nodes.rest(&mut wrong);
        wrong.into_iter().for_each(|what| report.wrong(self.in_collection(what)));
        report.nodes += nodes.read;
        report.records += counts.live;
        report.tombstones += counts.tombstones;
        Ok((summary, counts))
    }

    fn in_collection(&self, what: String) -> String {
        if self.inner.definition.collections.len() == 1 { what } else { format!("{what} (collection {:?})", self.name) }
    }

    /// The entries that the records of a range make, in order; compares them with the entry rows as it goes.
    fn entries<'r>(
        &'r self,
        range: Range,
        newest: u64,
        counts: &'r mut Counts,
        report: &'r mut Report,
        go_on: &'r mut dyn FnMut(u64) -> bool,
    ) -> Result<impl Iterator<Item = Result<Entry, StoreError>> + 'r, StoreError> {
        let (start, end) = rows::records_of(self.collection, range);
        let mut stored = records(self.inner, self.snapshot.scan(&start, &end)?).peekable();
        let (start, end) = rows::entries_of(self.collection, range);
        let mut kept = self.snapshot.scan(&start, &end)?.peekable();
        let mut ready: std::vec::IntoIter<Entry> = Vec::new().into_iter();
        let (mut seen, mut ended) = (0, false);
        let every = if self.sums.is_some() { GO_ON_EVERY } else { GO_ON_EVERY_IN_PART };
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
                    if seen % every == 0 && !go_on(seen) {
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
                    if let Err(error) = self.in_lists(&record.key, &record.state, report) {
                        return Some(Err(error));
                    }
                    let (_, digest) = digested(self.inner, self.collection, &record.key, record.state);
                    digests.extend(digest);
                }
                digests.sort_unstable();
                let Some(position) = position else {
                    if std::mem::replace(&mut ended, true) {
                        return None;
                    }
                    // Whatever entries are left belong to no record.
                    return self.compare_entries(&mut kept, range.last(), &[], report).err().map(Err);
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

    /// Adds the rows that lists should have for a record to their sums, or looks them up.
    fn in_lists(&self, key: &[u8], state: &State, report: &mut Report) -> Result<(), StoreError> {
        let mut each = |list: List, (row, value): (Vec<u8>, Vec<u8>)| -> Result<(), StoreError> {
            match self.sums {
                Some(sums) => {
                    let sum = list.sum(sums);
                    sum.set(sum.get().wrapping_add(fingerprint(&row, &value)));
                }
                None if self.snapshot.get(&row)?.as_ref() != Some(&value) => {
                    report.wrong(self.in_collection(format!("{} lacks {}", list.name(), shown(key))));
                }
                None => {}
            }
            Ok(())
        };
        if self.inner.definition.key_index && self.inner.is_live(self.collection, state) {
            each(List::Keys, rows::index(self.collection, key))?;
        }
        if is_conflict(state) {
            each(List::Conflicts, rows::conflict(self.collection, key))?;
        }
        if let Some(stamp) = self.inner.dead(self.collection, Some(state)) {
            each(List::Tombstones, rows::tombstone(self.collection, stamp, key))?;
        }
        if let Some(at) = self.inner.expires_first(Some(state)) {
            each(List::Expiring, rows::expiring(self.collection, at, key))?;
        }
        Ok(())
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
    fn conflicts(&self, should: u128, report: &mut Report) -> Result<(), StoreError> {
        let (start, end) = rows::conflicts_of(self.collection);
        let mut sum = 0_u128;
        for row in self.snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            sum = sum.wrapping_add(fingerprint(&row, &value));
        }
        if sum != should {
            let what = "the list of conflicts does not name just those keys that have several versions";
            report.wrong(self.in_collection(what.into()));
        }
        Ok(())
    }

    /// Compares the index by key with what the records make of it: two runs over rows in order, for which a sum of
    /// fingerprints tells whether they are the same, in whatever order. Only if they are not are keys looked up one by one.
    fn index(&self, should: u128, live: u64, report: &mut Report) -> Result<(), StoreError> {
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
        if sum == should && held == live {
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

/// The node rows of a range and below, which are met in order at each depth.
struct KeptNodes<'a> {
    /// The depth of the range itself.
    top: u8,
    depths: Vec<Peekable<Rows<'a>>>,
    read: u64,
}

impl<'a> KeptNodes<'a> {
    fn new(snapshot: &'a dyn Snapshot, collection: CollectionId, range: Range) -> Result<Self, StoreError> {
        let top = range.depth();
        let mut depths = Vec::new();
        for depth in top..=DEPTH_MAX {
            let (start, end) = rows::nodes_in(collection, range, depth);
            depths.push(snapshot.scan(&start, &end)?.peekable());
        }
        Ok(KeptNodes { top, depths, read: 0 })
    }

    /// Compares the row of a node with what it should be; the rows before it at its depth belong nowhere.
    fn compare(&mut self, range: Range, should: Summary, wrong: &mut Vec<String>) {
        let rows = &mut self.depths[usize::from(range.depth() - self.top)];
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
