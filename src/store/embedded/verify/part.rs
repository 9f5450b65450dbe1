//! A part of a store's records read against its tree, by a snapshot of its own: so that all of them can be read slowly, by several
//! runs, while the engine is free to drop what was written over.

use reknit_core::tree::{Summary, is_leaf};
use reknit_core::{CollectionId, Position, Range};

use super::{Check, Report};
use crate::store::StoreError;
use crate::store::embedded::{Store, rows};

/// What was found in a part.
#[derive(Clone, Debug)]
pub struct Part {
    /// The range that was read.
    pub range: Range,
    /// What is there, and wrong with it.
    pub report: Report,
}

impl Store {
    /// Recomputes digests, entries and nodes of a range from its records, and the nodes above it from those below, up to the root
    /// in use; looks up each record in the lists by key, of conflicts, tombstones and what expires. The range is the widest that
    /// begins at `from` and holds at most `most` entries, or the leaf of the tree that holds it; where tombstones are no entries (in
    /// the content profile) there may be any number of them beside these. Nodes above it are compared by the part that begins where
    /// they do. It is given up when `go_on` says so, which is asked every hundred records. A collection that there is not is empty.
    ///
    /// What is kept of the whole (sketches, counts, what else lists hold, the journal) is for [`Store::verify`].
    ///
    /// # Errors
    /// What kept it from reading at all, and [`StoreError::Stopped`]; what is damaged is in the report.
    pub fn verify_part(
        &self,
        collection: CollectionId,
        from: Position,
        most: u64,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Part, StoreError> {
        let inner = &*self.inner;
        // Under the writer's lock head and snapshot belong together.
        let (snapshot, head) = {
            let _writer = inner.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (inner.engine.snapshot()?, inner.head())
        };
        let mut report = Report::default();
        let Some(root) = head.roots.get(usize::from(collection.0)).copied() else {
            return Ok(Part { range: Range::ALL, report });
        };
        let name = inner.name_of(collection);
        let check = Check { inner, snapshot: &*snapshot, collection, name, sums: None };
        let range = check.descend(root, (from, most), &mut report)?;
        match check.tree(range, head.commit, &mut |_| {}, &mut report, &mut |_| go_on()) {
            Ok((found, _)) if range == Range::ALL && found != root => {
                report.wrong(check.in_collection("the root in use is not that of the records".into()));
            }
            Ok(_) => {}
            // What lies behind it can be read all the same.
            Err(error) if error.is_damage() => report.wrong(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(Part { range, report })
    }
}

impl Check<'_> {
    /// The widest range of no more than that which begins there; each node above it that begins there is compared with those below
    /// that.
    fn descend(&self, root: Summary, (from, most): (Position, u64), report: &mut Report) -> Result<Range, StoreError> {
        let (mut range, mut summary) = (Range::ALL, root);
        // What lies before was read.
        while (summary.count > most || range.first() < from) && !is_leaf(range, summary.count) {
            let begins = range.first() == from;
            let looked = self.children(range).and_then(|children| Ok((children, self.root_row()?)));
            let (children, row) = match looked {
                Ok(looked) => looked,
                // Then the whole range is a part: what of it can be read is.
                Err(error) if error.is_damage() => {
                    report.wrong(error.to_string());
                    break;
                }
                Err(error) => return Err(error),
            };
            if begins && range == Range::ALL && row != Some(root) {
                report.wrong(self.in_collection("the root in use is not that of its row".into()));
            }
            if begins && self.inner.keys.inner(range, &children) != summary {
                report.wrong(self.in_collection(format!("the node of range {range} is not that of those below it")));
            }
            summary = children[usize::from(range.digit(from))];
            range = Range::of(from, range.depth() + 1);
        }
        Ok(range)
    }

    fn root_row(&self) -> Result<Option<Summary>, StoreError> {
        let row = self.snapshot.get(&rows::node(self.collection, Range::ALL))?;
        Ok(row.and_then(|value| rows::read_summary(&value).ok()))
    }

    fn children(&self, range: Range) -> Result<[Summary; 16], StoreError> {
        let mut children = [Summary::EMPTY; 16];
        let (start, end) = rows::family(self.collection, range);
        for row in self.snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            // One that does not decode is named where its own range is read.
            if let Ok((child, summary)) = rows::read_node(&row, &value) {
                children[usize::from(range.digit(child.first()))] = summary;
            }
        }
        Ok(children)
    }
}
