//! The responder and sketches: plans what to send after an opening, shows cells, and says whether a proof holds.

use super::cells::{self, part_hints, parts_that_differ};
use super::descent;
use super::lost::{Lost, aside_views, cells_without, planned, take_lost, with_aside, without_aside};
use super::planner::{FURTHER, Hints, OPENING_MAX, Plan, Why};
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

/// What an opening shows, and what was found here since.
pub(super) struct Opened {
    theirs: CellRun,
    counts: Blob,
    parts: Blob,
    differ: Option<Vec<u8>>,
    /// What the opener has lost; nothing if it sets nothing aside.
    told: Option<Vec<Range>>,
    lost: Lost,
}

/// The cells that an opening shows, if any are usable, with all that is beside them.
pub(super) fn opened(open: Open) -> Option<Opened> {
    let mut reader = Reader::new(&open.cells.0);
    let theirs = CellRun::decode(&mut reader).ok()?;
    let told = take_lost(&mut reader);
    let usable = theirs.range == Range::ALL && theirs.counted && (1..=OPENING_MAX).contains(&theirs.cells.len());
    let (counts, parts) = (open.counts, open.parts);
    usable.then(|| Opened { theirs, counts, parts, differ: None, told, lost: Lost::default() })
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

    /// Looks at the root's parts, and further down where something seems to be lost; then at cells.
    pub(super) fn look_at_parts(&mut self, collection: CollectionId, mut opened: Box<Opened>, views: &[View]) {
        if views.first().is_some_and(|view| view.range == Range::ALL) {
            opened.differ = parts_that_differ(&part_hints(views), &opened.parts);
        }
        let asks = if opened.told.is_some() { opened.lost.look(views) } else { Vec::new() };
        if !asks.is_empty() {
            return self.ask(Query::Views(collection, asks), Stage::Parts(collection, opened));
        }
        // What is lost on both sides is equal there.
        let (told, lost) = (opened.told.get_or_insert_default(), &mut opened.lost.0);
        let both: Vec<Range> = lost.iter().map(|(range, _)| *range).filter(|range| told.contains(range)).collect();
        told.retain(|range| !both.contains(range));
        lost.retain(|(range, _)| !both.contains(range) && !told.iter().any(|t| t.covers(*range) || range.covers(*t)));
        let asked = with_aside(vec![Range::ALL], told);
        self.ask(Query::Sketches(collection, asked.clone(), FURTHER.end), Stage::Plan(collection, opened, asked));
    }

    /// Decides what to send after the opening.
    pub(super) fn plan(&mut self, collection: CollectionId, opened: Opened, asked: &[Range], own: Vec<Sketch>) {
        let Opened { theirs, counts: told, differ: parts, lost, .. } = opened;
        let held = asked.iter().zip(&own).skip(1).filter(|(_, sketch)| !sketch.cells().is_empty());
        let gone: Vec<(Range, u64)> = held.map(|(range, own)| (*range, own.count().unsigned_abs())).collect();
        let mine = self.root_count.saturating_sub(gone.iter().map(|(_, count)| count).sum());
        let mut sketch = without_aside(asked, 1, own).into_iter().next().unwrap_or_default();
        let further =
            cells::further_counts(&sketch).into_iter().zip(&told.0).map(|(a, b)| a.wrapping_sub(*b)).collect();
        sketch.subtract(&Sketch::from_cells(theirs.cells));
        let peeled = sketch.peel();
        let hints = Hints {
            parts: parts.as_ref().map(|parts| parts.len() as u32),
            further,
            lost: lost.expected(),
            most: cells_without(gone.iter().chain(&lost.0).copied()),
        };
        let plan = self.planner.plan((mine, theirs.count), Some(&peeled), &hints);
        let aside = match plan {
            // All that the opener has where this side has lost it was named with the rest.
            Plan::Named => aside_views(&gone, &[]),
            Plan::Cells { .. } => aside_views(&gone, &lost.0),
            Plan::Compare(_) => Vec::new(),
        };
        self.outputs.extend(planned(&aside));
        self.outputs.push_back(Output::Planned(plan));
        if !aside.is_empty() {
            self.aside = aside.iter().map(|view| view.range).collect();
            let mut reply = Reply::default();
            aside.iter().for_each(|view| view.encode(&mut reply.0.views.0));
            self.send(Message::Compared(reply.0));
        }
        match plan {
            Plan::Named => {
                let (told, both) = cells::differing(peeled.mine, peeled.theirs);
                self.ask(Query::Items(collection, both.clone()), Stage::Differing(collection, told, both));
            }
            Plan::Cells { depth, cells: most, .. } => {
                let ranges = cells::level(depth);
                let asked = with_aside(ranges.clone(), &self.aside);
                self.ask(Query::Sketches(collection, asked, most), Stage::Cells { id: 0, ranges, from: 0 });
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
        let all = with_aside(ranges.clone(), &self.aside);
        self.ask(Query::Sketches(asked.collection, all, to), Stage::Cells { id: asked.id, ranges, from });
        Ok(())
    }

    pub(super) fn send_cells(&mut self, id: u32, ranges: &[Range], from: usize, sketches: Vec<Sketch>) {
        let asked = with_aside(ranges.to_vec(), &self.aside);
        let sketches = without_aside(&asked, ranges.len(), sketches);
        let mut runs = Blob::default();
        for (range, sketch) in ranges.iter().zip(&sketches) {
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
