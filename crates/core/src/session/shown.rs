//! The responder and sketches: plans what to send after an opening, shows cells, and says whether a proof holds.

use super::cells;
use super::descent;
use super::planner::{Hints, OPENING_MAX, Plan, Why};
use super::responder::{FIRST_WIDTH, Reply, Responder, Stage};
use super::{Output, SessionError};
use crate::bounds::{CELLS_HELD_MAX, CELLS_MAX, FRAME_BYTES_AIM};
use crate::canonical::{Blob, Reader};
use crate::dataset::CollectionId;
use crate::mark::{Grain, Mark, alone, pack_marks};
use crate::message::{AskCells, Cells, Compared, Differing, Message, Open, Rights};
use crate::query::{Ask, Item, Query, View};
use crate::range::Range;
use crate::sketch::{COUNTED, Cell, CellRun, Sketch};
use crate::tree::Summary;
use crate::wire::{self, Body, RangeView};

/// Cells of one range that go in one piece; some 25 kB.
const CELLS_PER_RUN: usize = 2048;

/// The cells that an opening shows, if any are usable.
pub(super) fn opening_cells(open: &Open) -> Option<CellRun> {
    let mut reader = Reader::new(&open.cells.0);
    let run = CellRun::decode(&mut reader).ok()?;
    (run.range == Range::ALL && run.counted && (1..=OPENING_MAX).contains(&run.cells.len())).then_some(run)
}

impl Responder {
    /// Shows our root, to be compared.
    pub(super) fn show_root(&mut self, collection: CollectionId, levels: u8) {
        self.ask(Query::Views(collection, vec![Ask { range: Range::ALL, levels }]), Stage::First(levels));
    }

    pub(super) fn first(&mut self, levels: u8, views: &[View]) {
        let mut reply = Reply::default();
        views.iter().for_each(|view| self.put_view(&mut reply, &descent::view(view, levels, FIRST_WIDTH)));
        self.send_last(reply);
    }

    /// Decides what to send after the opening.
    pub(super) fn plan(
        &mut self,
        collection: CollectionId,
        theirs: CellRun,
        told: &Blob,
        parts: Option<Vec<u8>>,
        own: Vec<Sketch>,
    ) {
        let mut sketch = own.into_iter().next().unwrap_or_default();
        let further =
            cells::further_counts(&sketch).into_iter().zip(&told.0).map(|(a, b)| a.wrapping_sub(*b)).collect();
        sketch.subtract(&Sketch::from_cells(theirs.cells));
        let peeled = sketch.peel();
        let counts = (self.root_count, theirs.count);
        let hints = Hints { parts: parts.as_ref().map(|parts| parts.len() as u32), further };
        let plan = self.planner.plan(counts, Some(&peeled), &hints);
        self.outputs.push_back(Output::Planned(plan));
        match plan {
            Plan::Named => {
                let (told, both) = cells::differing(peeled.mine, peeled.theirs);
                self.ask(Query::Items(collection, both.clone()), Stage::Differing(collection, told, both));
            }
            Plan::Cells { depth, cells: most, .. } => {
                let ranges = cells::level(depth);
                let stage = Stage::Cells { id: 0, ranges: ranges.clone(), from: 0 };
                self.ask(Query::Sketches(collection, ranges, most), stage);
            }
            // No cells at all: the opener may do as it likes.
            Plan::Compare(Why::Many(_)) => self.send(Message::Cells(Cells { last: true, ..Cells::default() })),
            // A cluster is met sooner by one level at a time than by a view of many equal parts.
            Plan::Compare(Why::Clustered(_)) => {
                // Where roots are looked at in the end, parts that a byte tells apart are shown at once.
                let both = self.takes.allow(Rights::READ.and(Rights::WRITE));
                let parts = parts.filter(|parts| both && !parts.is_empty()).unwrap_or_default();
                if parts.is_empty() {
                    return self.show_root(collection, 1);
                }
                let asks = parts.into_iter().map(|digit| Ask { range: Range::ALL.child(digit), levels: 1 }).collect();
                self.ask(Query::Views(collection, asks), Stage::First(1));
            }
            Plan::Compare(_) => self.show_root(collection, descent::levels(Range::ALL, self.root_count, 1)),
        }
    }

    pub(super) fn send_differing(
        &mut self,
        collection: CollectionId,
        mut told: Differing,
        both: &[Range],
        items: Vec<Item>,
    ) {
        let (marked, mut unclear) = alone(both, items);
        let mut marks: Vec<Mark> = marked.into_iter().map(|(mark, _)| mark).collect();
        if !self.definition.ranks(collection) {
            unclear.extend(marks.drain(..).map(|mark| mark.place));
        }
        told.marks = Blob(pack_marks(&marks, Grain::Each));
        told.unclear = Blob(wire::pack_ranges(&unclear));
        self.send(Message::Differing(told));
    }

    pub(super) fn ask_cells(&mut self, asked: AskCells) -> Result<(), SessionError> {
        self.check(asked.collection, Rights::COMPARE, "a wish for cells without the right to compare")?;
        let ranges = wire::unpack_ranges(&asked.ranges.0)?;
        let (from, to) = (asked.from as usize, asked.to as usize);
        if from >= to || to > CELLS_MAX || ranges.len().saturating_mul(to) > CELLS_HELD_MAX {
            return Err(SessionError::Unexpected("a wish for more cells than a session holds"));
        }
        let stage = Stage::Cells { id: asked.id, ranges: ranges.clone(), from };
        self.ask(Query::Sketches(asked.collection, ranges, to), stage);
        Ok(())
    }

    pub(super) fn send_cells(&mut self, id: u32, ranges: &[Range], from: usize, sketches: &[Sketch]) {
        let mut runs = Blob::default();
        for (range, sketch) in ranges.iter().zip(sketches) {
            let count = sketch.count().unsigned_abs();
            let cells = sketch.cells().get(from..).unwrap_or_default();
            let mut from = from;
            // A range without cells is named too, so that the opener knows that there are none.
            let none: &[Cell] = &[];
            for cells in cells.chunks(CELLS_PER_RUN).chain(cells.is_empty().then_some(none)) {
                let few = id > 0 && from == 0 && cells.len() <= COUNTED;
                let run =
                    if few { CellRun::counted(*range, count, cells) } else { CellRun::new(*range, count, from, cells) };
                run.encode(&mut runs.0);
                from += cells.len();
                if runs.0.len() >= FRAME_BYTES_AIM {
                    self.send(Message::Cells(Cells { id, last: false, runs: std::mem::take(&mut runs) }));
                }
            }
        }
        self.send(Message::Cells(Cells { id, last: true, runs }));
    }

    /// Shows those ranges that are not what the opener says they are without what it named (M13).
    pub(super) fn rests(&mut self, id: u32, collection: CollectionId, theirs: &[RangeView], own: &[Summary]) {
        let differs = |(view, rest): &(&RangeView, &Summary)| match &view.body {
            Body::Rest { digest, .. } => *digest != rest.digest,
            _ => false,
        };
        let wrong = theirs.iter().zip(own).filter(differs);
        let asks: Vec<Ask> = wrong.map(|(view, _)| Ask { range: view.range, levels: 1 }).collect();
        let reply = Reply(Compared { id, ..Compared::default() });
        if asks.is_empty() {
            return self.send_last(reply);
        }
        let stage = Stage::Opened { reply, collection, asks: asks.clone(), positions: Vec::new(), width: 32 };
        self.ask(Query::Views(collection, asks), stage);
    }
}
