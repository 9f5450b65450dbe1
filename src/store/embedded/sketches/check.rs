//! Whether the rows of cells and tails are those of the entries, found in one pass over the entries.
//! At each depth the cells of one range are in memory at a time; what is wrong is said in words.

use std::iter::Peekable;

use reknit_core::sketch::{Cell, Element, Falls, KEPT_DEPTH_MAX, Sketch, cells_kept};
use reknit_core::{CollectionId, Entry, Position, Range};

use super::{Kept, LAID_AT_ONCE, Tail, cells_to_keep, lay, part, tail};
use crate::store::StoreError;
use crate::store::embedded::rows::{self, Folded};
use crate::store::engine::Snapshot;

type FoldedRows<'a> = Peekable<rows::FoldedRows<'a>>;

/// Cells that a tail is checked by where nothing is folded.
const TAIL_CELLS: usize = 4;

/// The sketches of one collection while its entries go by in order.
pub(in super::super) struct SketchCheck<'a> {
    /// The tails that the rows make.
    tails: [Tail; 16],
    in_use: Kept,
    /// What is left of the root in use when all entries are taken from it.
    root: Sketch,
    levels: Vec<Level<'a>>,
    /// Entries that are yet to be taken from them.
    seen: Vec<(Element, i64)>,
    wrong: Vec<String>,
    failed: Option<StoreError>,
}

/// The ranges of one depth, one after the other.
struct Level<'a> {
    depth: u8,
    rows: FoldedRows<'a>,
    /// Which of them is being checked; beyond the last when all are.
    place: usize,
    row: Option<Folded>,
    entries: i64,
    /// What is left of its folded cells when entries are taken from them and the tail is added.
    left: Sketch,
}

impl Level<'_> {
    fn range(&self) -> Range {
        Range::ALL.descendant(self.depth, self.place)
    }
}

impl<'a> SketchCheck<'a> {
    /// Begins with the rows of a snapshot, whose newest commit this is, and what is in memory as of that commit.
    pub(in super::super) fn new(
        snapshot: &'a dyn Snapshot,
        collection: CollectionId,
        newest: u64,
        in_use: Kept,
    ) -> Result<Self, StoreError> {
        let root = Sketch::clone(&in_use.root);
        let (levels, tails, wrong) = (Vec::new(), Default::default(), Vec::new());
        let mut check = Self { tails, in_use, root, levels, seen: Vec::new(), wrong, failed: None };
        check.read_tails(snapshot, collection, newest)?;
        let (start, end) = rows::cells_beyond(collection);
        for row in snapshot.scan(&start, &end)? {
            let at: String = row?.0.iter().skip(3).map(|byte| format!("{byte:02x}")).collect();
            check.wrong.push(format!("the row of cells at {at} belongs to no sketch"));
        }
        for depth in 0..=KEPT_DEPTH_MAX {
            let rows = rows::folded_at(snapshot, collection, depth)?.peekable();
            let mut level = Level { depth, rows, place: 0, row: None, entries: 0, left: Sketch::default() };
            check.begin(&mut level);
            check.levels.push(level);
        }
        Ok(check)
    }

    fn read_tails(&mut self, snapshot: &dyn Snapshot, collection: CollectionId, newest: u64) -> Result<(), StoreError> {
        let (start, end) = rows::tails_of(collection);
        for row in snapshot.scan(&start, &end)? {
            let (row, value) = row?;
            match rows::read_tail(&row, &value) {
                Ok((part, commit, moves)) => {
                    if commit > newest {
                        let what = format!("a tail of part {part:x}* is of commit {commit}, the newest is {newest}");
                        self.wrong.push(what);
                    }
                    self.tails[usize::from(part & 15)].lay(commit, &moves);
                }
                Err(StoreError::Damaged { what }) => self.wrong.push(what),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes an entry away from all sketches that hold it.
    pub(in super::super) fn see(&mut self, entry: &Entry) {
        self.seen.push((Element::of(entry), -1));
        if self.seen.len() == LAID_AT_ONCE {
            self.take_away();
        }
    }

    fn take_away(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        let falls = Falls::new(&seen, cells_kept(0, u64::MAX));
        self.root.lay_falls(&falls, 0..seen.len());
        let mut levels = std::mem::take(&mut self.levels);
        for level in &mut levels {
            for (nth, (element, _)) in seen.iter().enumerate() {
                while !level.range().contains(Position(element.0)) {
                    self.end(level);
                    level.place += 1;
                    self.begin(level);
                }
                level.entries += 1;
                level.left.lay_falls(&falls, nth..nth + 1);
            }
        }
        self.levels = levels;
    }

    /// Takes up the next range with its row.
    fn begin(&mut self, level: &mut Level<'_>) {
        let range = level.range();
        level.entries = 0;
        level.row = None;
        while let Some(row) = level.rows.next_if(|row| row.as_ref().map_or(true, |(at, _)| *at <= range)) {
            match row {
                Ok((_, folded)) => level.row = Some(folded),
                Err(StoreError::Damaged { what }) => self.wrong.push(what),
                Err(error) => self.failed = Some(error),
            }
        }
        level.left = match &mut level.row {
            Some(folded) => std::mem::take(&mut folded.sketch),
            None if level.depth == 1 => Sketch::new(TAIL_CELLS),
            None => Sketch::default(),
        };
    }

    /// Says what is wrong with a range, all of whose entries were seen.
    fn end(&mut self, level: &mut Level<'_>) {
        let (range, depth) = (level.range(), level.depth);
        let tail: Vec<(Element, i64)> = tail(&self.tails, range).collect();
        lay(&mut level.left, &tail);
        let folded = level.entries - tail.iter().map(|(_, count)| count).sum::<i64>();
        let empty = level.left.cells().iter().all(|cell| *cell == Cell::default());
        let (Ok(folded), true) = (u64::try_from(folded), empty) else {
            let what = if level.row.is_some() { "cells" } else { "tail" };
            self.wrong.push(format!("the {what} of range {range} are not those of its entries"));
            return;
        };
        match &level.row {
            Some(row) if row.count != folded || folded == 0 => {
                let count = row.count;
                self.wrong
                    .push(format!("the sketch of range {range} counts {count} folded entries, there are {folded}"));
            }
            // The root gets more cells as soon as it should have them, and fewer when a part is folded.
            Some(row) if depth == 0 && row.cells >= cells_kept(0, level.entries.unsigned_abs()) => {}
            Some(row) if depth > 0 && row.cells == cells_to_keep(depth, folded, row.cells) => {}
            Some(row) => self.wrong.push(format!("{} cells are not what range {range} should keep", row.cells)),
            None if folded > 0 && cells_to_keep(depth, folded, 0) > 0 => {
                self.wrong.push(format!("the sketch of range {range} is missing"));
            }
            None => {}
        }
    }

    /// What is wrong, all entries having been seen.
    pub(in super::super) fn finish(mut self) -> Result<Vec<String>, StoreError> {
        self.take_away();
        let mut root_cells = None;
        for mut level in std::mem::take(&mut self.levels) {
            if level.depth == 0 {
                root_cells = level.row.as_ref().map(|row| row.cells);
            }
            let last = (1 << (4 * level.depth)) - 1;
            self.end(&mut level);
            while level.place < last {
                level.place += 1;
                self.begin(&mut level);
                self.end(&mut level);
            }
        }
        let kept = &self.in_use;
        if self.root.cells().iter().any(|cell| *cell != Cell::default())
            || kept.folded != root_cells.is_some()
            || root_cells.is_some_and(|cells| cells != kept.root_cells)
        {
            self.wrong.push("the sketch in use of the root is not that of the entries".into());
        }
        for (digit, (tail, in_use)) in self.tails.iter().zip(&kept.parts).enumerate() {
            if *tail != **in_use {
                self.wrong.push(format!("the tail in use of range {} is not that of its rows", part(digit)));
            }
        }
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.wrong),
        }
    }
}
