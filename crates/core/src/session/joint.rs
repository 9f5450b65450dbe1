//! Openings over several collections: one sketch shows them all, since sketches are sums, and no two collections have a
//! position in common but by chance.
//!
//! Where everything that differs is peeled off it, the responder names it by collection at once. Where not, it tells its
//! roots, and each collection that differs is gone about for itself ([`super::rounds`]).

use std::collections::{BTreeMap, BTreeSet};

use super::cells::{Named, whole_elements};
use super::opener::{Opener, Purpose};
use super::planner::{OPENING_MAX, Plan};
use super::responder::{Responder, Stage};
use super::rounds::Phase;
use super::scope::Scope;
use super::{Output, SessionError};
use crate::canonical::{Blob, Reader};
use crate::dataset::CollectionId;
use crate::entry::Entry;
use crate::mark::{Grain, Mark, alone, pack_marks};
use crate::message::{Message, Named as Told, NamedIn, Open};
use crate::query::{Item, Query};
use crate::range::Range;
use crate::sketch::{CellRun, ELEMENT_DEPTH, Element, Sketch, cells_kept, pack_elements};
use crate::tree::Summary;
use crate::wire::pack_ranges;

/// Collections in scope at most: each is looked at for what the sketch names.
const JOINT_MAX: usize = 16;

/// Whether the sum of all sketches holds this collection: not if it has entries, but too few to keep cells.
fn is_held(root: &Summary) -> bool {
    root.is_empty() || cells_kept(0, root.count) > 0
}

/// An opener's part of it.
#[derive(Default)]
pub(super) struct Joint {
    sum: Sketch,
    /// The collections that the sum holds.
    held: Vec<CollectionId>,
    /// Answers of the store that are awaited.
    asked: usize,
    named: BTreeMap<CollectionId, Named>,
    /// Elements of this side of which the collection is yet to be found.
    lone: BTreeSet<Element>,
}

impl Joint {
    /// The collections of which nothing can be said yet.
    pub(super) fn unknown(&self) -> impl Iterator<Item = CollectionId> {
        self.named.keys().copied()
    }
}

impl Opener {
    /// Looks at the cells of all collections in scope; says whether the opening has to wait for them.
    pub(super) fn prepare_joint(&mut self, cells: usize) -> bool {
        // What is named in two collections takes a few bytes more than in one: a cell less keeps that within 900.
        let cells = cells.saturating_sub(1).max(1);
        let roots = self.scope.roots(&self.outcome.cut_mine);
        let held = self.scope.iter().zip(&roots).filter(|(_, root)| is_held(root));
        let (held, full): (Vec<_>, Vec<_>) = held.map(|(c, root)| (c, (!root.is_empty()).then_some(c))).unzip();
        let full: Vec<CollectionId> = full.into_iter().flatten().collect();
        if self.scope.len() > JOINT_MAX || full.is_empty() {
            return false;
        }
        self.joint = Joint { sum: Sketch::new(cells), held, asked: full.len(), ..Joint::default() };
        for collection in full {
            self.ask(Query::Sketches(collection, vec![Range::ALL], cells), Purpose::JointCells);
        }
        true
    }

    /// Adds the cells of a collection; opens with the last.
    pub(super) fn add_cells(&mut self, sketches: &[Sketch]) {
        sketches.iter().for_each(|sketch| self.joint.sum.join(sketch));
        self.joint.asked -= 1;
        if self.joint.asked > 0 {
            return;
        }
        let (sum, mut cells) = (std::mem::take(&mut self.joint.sum), Vec::new());
        if !sum.cells().is_empty() {
            CellRun::counted(Range::ALL, sum.count().unsigned_abs(), sum.cells()).encode(&mut cells);
            for (collection, root) in self.scope.iter().zip(self.scope.roots(&self.outcome.cut_mine)) {
                let held = self.joint.held.contains(&collection);
                cells.push(u8::from(held));
                cells.extend(if held { Vec::new() } else { root.digest.0[..8].to_vec() });
            }
        }
        self.open_with((Blob(cells), Blob::default()));
    }

    /// Takes what the responder named in all collections.
    pub(super) fn on_named(&mut self, told: Told) -> Result<(), SessionError> {
        let held = std::mem::take(&mut self.joint.held);
        if held.is_empty() || !self.awaits_first_roots() {
            return Err(SessionError::Unexpected("differences that nobody asked for"));
        }
        let whole = || Named { within: vec![Range::ALL], ..Named::default() };
        let mut named: BTreeMap<CollectionId, Named> = held.iter().map(|c| (*c, whole())).collect();
        for NamedIn { collection, mine, marks, unclear } in told.each {
            let place = named.get_mut(&collection).filter(|named| **named == whole());
            let place = place.ok_or(SessionError::Unexpected("a collection that is told twice"))?;
            *place = Named::told(&mine, &marks, &unclear)?;
        }
        for collection in &told.open {
            if held.contains(collection) || !self.scope.contains(*collection) {
                return Err(SessionError::Unexpected("a collection that was shown"));
            }
        }
        let lone = whole_elements(&told.theirs)?;
        self.phase = Phase::Descending;
        self.close_gate();
        self.planned(Plan::Named);
        let count = self.outcome.root_mine.count.max(self.outcome.root_theirs.count);
        for collection in told.open {
            self.open.entry(collection).or_default().push_back((Range::ALL, count));
        }
        self.joint.named = named;
        if lone.is_empty() {
            self.name_all();
            return Ok(());
        }
        self.joint.asked = held.len();
        let places: BTreeSet<Range> = lone.iter().map(|element| element.range()).collect();
        for collection in held {
            let places = places.iter().copied().collect();
            self.ask(Query::Items(collection, places), Purpose::JointPlaces(collection));
        }
        self.joint.lone = lone.into_iter().collect();
        Ok(())
    }

    /// Finds out which of this side's elements are of a collection.
    pub(super) fn place_elements(&mut self, collection: CollectionId, items: &[Item]) {
        let Joint { named, lone, asked, .. } = &mut self.joint;
        let found: BTreeSet<Element> =
            items.iter().filter_map(element).filter(|element| lone.remove(element)).collect();
        if let Some(named) = named.get_mut(&collection) {
            named.mine.extend(found);
        }
        *asked -= 1;
        if *asked == 0 {
            self.name_all();
        }
    }

    fn name_all(&mut self) {
        let named = std::mem::take(&mut self.joint.named);
        named.into_iter().for_each(|(collection, named)| self.name(collection, named));
    }
}

/// The element of an item's entry.
fn element(item: &Item) -> Option<Element> {
    item.digest.map(|digest| Element::of(&Entry { position: item.position, digest }))
}

/// What a responder knows of an opening over several collections.
pub(super) struct Shown {
    theirs: CellRun,
    sum: Sketch,
    /// Collections that the opener's sum holds and that have entries here.
    full: Vec<CollectionId>,
    /// How many of them were looked at.
    seen: usize,
    named: Named,
    told: Told,
}

impl Responder {
    /// What an opening shows of several collections, if that can be set against what is here.
    pub(super) fn shown_jointly(&self, open: &Open, roots: &[Summary]) -> Option<Box<Shown>> {
        let mut reader = Reader::new(&open.cells.0);
        let theirs = CellRun::decode(&mut reader).ok()?;
        let cells = theirs.cells.len();
        let usable = theirs.range == Range::ALL && theirs.counted && (1..=OPENING_MAX).contains(&cells);
        if !usable || roots.len() > JOINT_MAX {
            return None;
        }
        let (mut full, mut told) = (Vec::new(), Told::default());
        for (collection, root) in self.scope.iter().flat_map(Scope::iter).zip(roots) {
            match reader.u8().ok()? {
                1 if !is_held(root) => return None,
                1 if root.is_empty() => {}
                1 => full.push(collection),
                0 if reader.array::<8>().ok()? == root.digest.0[..8] => {}
                0 => told.open.push(collection),
                _ => return None,
            }
        }
        let (sum, named) = (Sketch::new(cells), Named::default());
        (!full.is_empty()).then(|| Box::new(Shown { theirs, sum, full, seen: 0, named, told }))
    }

    /// Looks at the cells of the next collection; names what differs after the last, or tells the roots.
    pub(super) fn look_at_joint(&mut self, mut shown: Box<Shown>) {
        let (cells, next) = (shown.theirs.cells.len(), shown.full.get(shown.seen).copied());
        if let Some(collection) = next {
            shown.seen += 1;
            return self.ask(Query::Sketches(collection, vec![Range::ALL], cells), Stage::JointCells(shown));
        }
        let mut sum = std::mem::take(&mut shown.sum);
        let whole = sum.cells().len() == cells;
        sum.subtract(&Sketch::from_cells(std::mem::take(&mut shown.theirs.cells)));
        let peeled = sum.peel();
        let found = peeled.found() > 0 || !shown.told.open.is_empty();
        if !(whole && peeled.is_complete() && found) {
            return self.first_roots();
        }
        self.outputs.push_back(Output::Planned(Plan::Named));
        // As the opener sees it.
        shown.named = Named::pair(Range::ALL, peeled.theirs, peeled.mine);
        shown.told.theirs = Blob(pack_elements(u64::BITS, &shown.named.mine));
        shown.seen = 0;
        self.look_at_places(shown);
    }

    pub(super) fn add_joint_cells(&mut self, mut shown: Box<Shown>, sketches: &[Sketch]) {
        sketches.iter().for_each(|sketch| shown.sum.join(sketch));
        self.look_at_joint(shown);
    }

    /// Looks at what the next collection has at the places that were named; tells all after the last.
    fn look_at_places(&mut self, mut shown: Box<Shown>) {
        let theirs = shown.named.theirs.iter().map(|element| element.range());
        let places: BTreeSet<Range> = theirs.chain(shown.named.both.iter().copied()).collect();
        match shown.full.get(shown.seen).copied() {
            Some(collection) if !places.is_empty() => {
                shown.seen += 1;
                self.ask(Query::Items(collection, places.into_iter().collect()), Stage::JointPlaces(collection, shown));
            }
            _ => self.send(Message::Named(shown.told)),
        }
    }

    pub(super) fn add_joint_items(&mut self, collection: CollectionId, mut shown: Box<Shown>, mut items: Vec<Item>) {
        let named = &shown.named;
        let mut mine: Vec<Element> = items.iter().filter_map(element).collect();
        mine.retain(|element| named.theirs.contains(element));
        mine.sort_unstable();
        let place = |item: &Item| Range::of(item.position, ELEMENT_DEPTH);
        items.retain(|item| named.both.contains(&place(item)));
        let both: BTreeSet<Range> = items.iter().map(place).collect();
        let (marked, mut unclear) = alone(&both.into_iter().collect::<Vec<_>>(), items);
        let mut marks: Vec<Mark> = marked.into_iter().map(|(mark, _)| mark).collect();
        if !self.definition.ranks(collection) {
            unclear.extend(marks.drain(..).map(|mark| mark.place));
        }
        if !(mine.is_empty() && marks.is_empty() && unclear.is_empty()) {
            let (mine, marks) = (Blob(pack_elements(u64::BITS, &mine)), Blob(pack_marks(&marks, Grain::Each)));
            shown.told.each.push(NamedIn { collection, mine, marks, unclear: Blob(pack_ranges(&unclear)) });
        }
        self.look_at_places(shown);
    }
}
