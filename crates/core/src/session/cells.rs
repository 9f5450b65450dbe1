//! The opener and sketches: shows its first cells, subtracts and peels what comes, asks for more where that does not
//! suffice, and turns what was peeled into steps.
//!
//! What was peeled is only likely. A repair of both sides acts on it at once, since its verdict rests on whole roots;
//! whoever else acts on it has it proven first: without the entries that were named, both sides must be worth the same
//! in all 32 bytes. Where they are not, ranges are compared as if there were no sketch.

use std::collections::{BTreeMap, BTreeSet};

use super::gate::Gate;
use super::lost::{LOST_FROM, beside, cells_without, with_aside, without_aside};
use super::opener::{Opener, Purpose};
use super::planner::{FURTHER, OPENING_MAX, Plan, Why};
use super::request::Awaited;
use super::{Direction, Intent, Output, SessionError};
use crate::bounds::{CELLS_HELD_MAX, CELLS_MAX, FRAME_BYTES_AIM, RANGES_PER_MESSAGE_MAX};
use crate::canonical::Blob;
use crate::dataset::CollectionId;
use crate::difference::Side;
use crate::mark::{Mark, unpack_marks};
use crate::message::{AskCells, Cells, Compare, Differing, Message};
use crate::query::{Ask, Item, Query, Selection, Shape, View};
use crate::range::Range;
use crate::sketch::{CellRun, ELEMENT_DEPTH, Element, KEPT_DEPTH_MAX, Sketch, pack_elements, unpack_elements};
use crate::tree::Summary;
use crate::wire::{self, Body, RangeView};

/// Ranges of one element each whose items are asked for at once.
const CLOSE_MAX: usize = 1024;
/// Places that are left out of one range when it is proven; more are proven in its parts, so that fewer are doubted if one
/// is wrong, and however close they lie.
const PROVEN_TOGETHER: usize = 1024;

/// What is held of a range of the peer's until it is subtracted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) range: Range,
    count: u64,
    sketch: Sketch,
    /// Whether the counts of its cells tell how many elements differ.
    counted: bool,
}

impl Seen {
    fn nothing_yet(range: Range, count: u64) -> Seen {
        Seen { range, count, sketch: Sketch::default(), counted: true }
    }
}

/// Entries that a sketch says differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) mine: Vec<Element>,
    pub(super) theirs: Vec<Element>,
    /// Where both sides have an entry under what seems to be one key.
    pub(super) both: Vec<Range>,
    /// What the peer told of some of those.
    pub(super) marks: Vec<Mark>,
    /// The ranges that were sketched, disjoint: elsewhere nothing is said.
    pub(super) within: Vec<Range>,
}

impl Named {
    /// Sorts peeled elements into those of one side and those that meet at a key.
    pub(super) fn pair(within: Range, mine: Vec<Element>, theirs: Vec<Element>) -> Named {
        let ranges = |elements: &[Element]| elements.iter().map(|e| e.range()).collect::<BTreeSet<_>>();
        let (own, other) = (ranges(&mine), ranges(&theirs));
        let alone = |elements: Vec<Element>, across: &BTreeSet<Range>| -> Vec<Element> {
            elements.into_iter().filter(|element| !across.contains(&element.range())).collect()
        };
        let both = own.intersection(&other).copied().collect();
        let (mine, theirs) = (alone(mine, &other), alone(theirs, &own));
        Named { mine, theirs, both, marks: Vec::new(), within: vec![within] }
    }

    /// What a peer told of a whole collection, but for what this side has alone.
    pub(super) fn told(theirs: &Blob, marks: &Blob, unclear: &Blob) -> Result<Named, SessionError> {
        let marks = unpack_marks(&marks.0)?.list;
        let mut both = wire::unpack_ranges(&unclear.0)?;
        both.extend(marks.iter().map(|mark| mark.place));
        both.sort_unstable();
        if both.windows(2).any(|pair| pair[0] == pair[1]) || both.iter().any(|place| place.depth() != ELEMENT_DEPTH) {
            return Err(SessionError::Unexpected("places that are told twice"));
        }
        let theirs = whole_elements(theirs)?;
        Ok(Named { mine: Vec::new(), theirs, both, marks, within: vec![Range::ALL] })
    }

    fn extend(&mut self, more: Named) {
        self.mine.extend(more.mine);
        self.theirs.extend(more.theirs);
        self.both.extend(more.both);
        self.within.extend(more.within);
        self.marks.extend(more.marks);
    }

    /// All places where something differs, sorted, each once.
    fn ranges(&self) -> Vec<Range> {
        let single = self.mine.iter().chain(&self.theirs).map(|element| element.range());
        single.chain(self.both.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The ranges to prove, each with the places in it that are to be left out, and what was not sketched.
    fn proofs(&self, aside: &[Range]) -> Vec<(Range, Vec<Range>)> {
        let mut places = self.ranges();
        places.retain(|place| !aside.iter().any(|part| part.covers(*place)));
        places.extend(aside);
        places.sort_unstable_by_key(|place| place.first());
        let share = |range: &Range| 16u64.pow(u32::from(KEPT_DEPTH_MAX - range.depth().min(KEPT_DEPTH_MAX)));
        let everything = self.within.iter().map(share).sum::<u64>() == share(&Range::ALL);
        let wholes = if everything { &[Range::ALL][..] } else { &self.within };
        let mut proofs = Vec::new();
        wholes.iter().for_each(|range| split(*range, &places, &mut proofs));
        proofs
    }

    /// Forgets what lies in ranges that were proven wrong.
    fn without(mut self, wrong: &[Range]) -> Named {
        let right = |range: Range| !wrong.iter().any(|wrong| wrong.covers(range));
        self.mine.retain(|element| right(element.range()));
        self.theirs.retain(|element| right(element.range()));
        self.both.retain(|range| right(*range));
        self
    }
}

/// What a responder's few peeled elements come to, as it tells them, and where both sides have a record.
pub(super) fn differing(mine: Vec<Element>, theirs: Vec<Element>) -> (Differing, Vec<Range>) {
    // As the opener sees it.
    let named = Named::pair(Range::ALL, theirs, mine);
    let whole = |elements: &[Element]| Blob(pack_elements(u64::BITS, elements));
    let (mine, theirs) = (whole(&named.theirs), whole(&named.mine));
    (Differing { mine, theirs, ..Differing::default() }, named.both)
}

/// Elements that come whole.
pub(super) fn whole_elements(packed: &Blob) -> Result<Vec<Element>, SessionError> {
    match unpack_elements(&packed.0)? {
        (u64::BITS, elements) => Ok(elements),
        _ => Err(SessionError::Unexpected("differences by parts of elements")),
    }
}

impl Opener {
    /// Looks at what the opening is to show; says whether it has to wait for that.
    pub(super) fn prepare_opening(&mut self, count: u64) -> bool {
        let cells = usize::from(self.options.planner.opening).min(OPENING_MAX);
        let plain = self.options.intent != Intent::Check && !self.is_picked() && self.options.parked.is_none();
        if cells == 0 || !plain {
            return false;
        }
        let Some(only) = self.scope.only() else { return self.prepare_joint(cells) };
        if crate::sketch::cells_kept(0, count) == 0 {
            return false;
        }
        self.ask(Query::Views(only, vec![Ask { range: Range::ALL, levels: 1 }]), Purpose::OpeningParts);
        true
    }

    /// Looks at the root's parts, and further down where something seems to be lost; then at cells.
    pub(super) fn look_at_parts(&mut self, views: &[View]) {
        let Some(only) = self.scope.only() else { return };
        if views.first().is_some_and(|view| view.range == Range::ALL) {
            self.opening_parts = part_hints(views);
        }
        match self.look_for_lost(views) {
            asks if asks.is_empty() => {
                self.ask(Query::Sketches(only, vec![Range::ALL], FURTHER.end), Purpose::OpeningCells);
            }
            asks => self.ask(Query::Views(only, asks), Purpose::OpeningParts),
        }
    }

    /// Opens with the first cells, and behind them what is lost, and the counts of some further ones.
    pub(super) fn show_cells(&mut self, sketches: &[Sketch]) {
        let mut cells = Vec::new();
        let Some(sketch) = sketches.first().filter(|sketch| !sketch.cells().is_empty()) else {
            return self.open_with(Default::default());
        };
        let shown = usize::from(self.options.planner.opening).min(OPENING_MAX).min(sketch.cells().len());
        let count = sketch.count().unsigned_abs();
        CellRun::counted(Range::ALL, count, &sketch.cells()[..shown]).encode(&mut cells);
        self.aside.told = self.outcome.root_mine.count >= LOST_FROM;
        if self.aside.told {
            self.aside.lost.encode(&mut cells);
        }
        self.open_with((Blob(cells), Blob(further_counts(sketch))));
    }

    /// Asks for the first cells of a collection whose roots differ; says whether that is worth it.
    pub(super) fn sketch_root(&mut self, collection: CollectionId, count: u64) -> bool {
        let cells = u32::from(self.options.planner.opening);
        if cells == 0 || self.options.parked.is_some() || crate::sketch::cells_kept(0, count) == 0 {
            return false;
        }
        self.ask_cells(collection, vec![Seen::nothing_yet(Range::ALL, count)], cells, 0);
        self.aside.due = !self.aside.ranges.is_empty();
        true
    }

    fn ask_cells(&mut self, collection: CollectionId, seen: Vec<Seen>, to: u32, times: u8) {
        let from = seen.first().map_or(0, |seen| seen.sketch.cells().len()) as u32;
        let ranges: Vec<Range> = seen.iter().map(|seen| seen.range).collect();
        let packed = Blob(wire::pack_ranges(&ranges));
        let id = self.request(collection, ranges, Awaited::Cells(seen, times));
        self.send(Message::AskCells(AskCells { id, collection, ranges: packed, from, to }));
    }

    pub(super) fn on_differing(&mut self, told: Differing) -> Result<(), SessionError> {
        let first = self.requests.remove(&0).filter(|request| matches!(request.awaited, Awaited::First));
        let request = first.ok_or(SessionError::Unexpected("differences that nobody asked for"))?;
        let named = Named::told(&told.mine, &told.marks, &told.unclear)?;
        let mine = whole_elements(&told.theirs)?;
        self.planned(Plan::Named);
        self.name(request.collection, Named { mine, ..named });
        self.compare_aside(request.collection);
        Ok(())
    }

    /// Takes cells of the peer's, which continue those that came before (M7).
    pub(super) fn on_cells(&mut self, cells: Cells) -> Result<(), SessionError> {
        const UNASKED: SessionError = SessionError::Unexpected("cells that were not asked for");
        let request = self.requests.get_mut(&cells.id).ok_or(UNASKED)?;
        if matches!(request.awaited, Awaited::First) {
            request.awaited = Awaited::Cells(Vec::new(), 0);
        }
        let (unasked, asked) = (cells.id == 0, &request.ranges);
        let Awaited::Cells(seen, _) = &mut request.awaited else { return Err(UNASKED) };
        let mut held: usize = seen.iter().map(|seen| seen.sketch.cells().len()).sum();
        for run in CellRun::unpack_all(&cells.runs.0)? {
            held += run.cells.len();
            let place = match seen.last().filter(|last| last.range == run.range) {
                Some(_) => Some(seen.len() - 1),
                None => seen.iter().position(|seen| seen.range == run.range),
            };
            let place = match place {
                Some(place) => place,
                None if unasked && run.range.depth() <= KEPT_DEPTH_MAX && asked.iter().any(|a| a.covers(run.range)) => {
                    seen.push(Seen::nothing_yet(run.range, run.count));
                    seen.len() - 1
                }
                None => return Err(UNASKED),
            };
            let seen = &mut seen[place];
            let length = seen.sketch.cells().len();
            if !run.cells.is_empty() && run.from != length || length + run.cells.len() > CELLS_MAX {
                return Err(SessionError::Unexpected("cells out of order"));
            }
            seen.count = run.count;
            seen.counted &= run.counted;
            seen.sketch.extend(&run.cells);
        }
        if held > CELLS_HELD_MAX || seen.len() > RANGES_PER_MESSAGE_MAX {
            return Err(SessionError::Unexpected("more cells than a session holds"));
        }
        if !cells.last {
            return Ok(());
        }
        if unasked && seen.is_empty() {
            let collection = request.collection;
            self.requests.remove(&0);
            let count = self.outcome.root_mine.count.max(self.outcome.root_theirs.count);
            self.take_whole(collection, Range::ALL, count);
            return Ok(());
        }
        // What is sent unasked is a whole level, so that no range goes unseen.
        if unasked && seen.iter().map(|seen| seen.range).ne(level(seen.first().map_or(0, |seen| seen.range.depth()))) {
            return Err(SessionError::Unexpected("cells of some ranges of a level"));
        }
        let Some(request) = self.requests.remove(&cells.id) else { return Ok(()) };
        let (collection, Awaited::Cells(seen, times)) = (request.collection, request.awaited) else { return Ok(()) };
        let most = seen.iter().map(|seen| seen.sketch.cells().len()).max().unwrap_or(0);
        let ranges = with_aside(seen.iter().map(|seen| seen.range).collect(), &self.aside.ranges);
        self.ask(Query::Sketches(collection, ranges, most), Purpose::Subtract(collection, seen, times));
        Ok(())
    }

    /// Subtracts the peer's sketches from ours and peels.
    pub(super) fn subtract(&mut self, collection: CollectionId, seen: Vec<Seen>, times: u8, own: Vec<Sketch>) {
        let asked = with_aside(seen.iter().map(|seen| seen.range).collect(), &self.aside.ranges);
        self.take_back(&asked, &own);
        let aside = self.aside.ranges.clone();
        let held = asked.iter().copied().zip(own.iter().map(|sketch| sketch.count().unsigned_abs())).skip(seen.len());
        let most = cells_without(held.map(|(part, count)| (part, count.max(self.aside.told_of(part)))));
        let own = without_aside(&asked, seen.len(), own);
        let mut named = Named::default();
        // What else is asked for, by how many cells there are and how many are wanted.
        let mut more: BTreeMap<usize, (usize, Vec<Seen>)> = BTreeMap::new();
        for (seen, mut sketch) in seen.into_iter().zip(own) {
            let parts = beside(seen.range, &aside);
            if parts.is_empty() {
                continue;
            }
            let counts = (sketch.count().unsigned_abs(), seen.count);
            sketch.subtract(&seen.sketch);
            let peeled = sketch.peel();
            let usable = !peeled.rest.cells().is_empty();
            if usable && peeled.is_complete() {
                named.extend(Named::pair(seen.range, peeled.mine, peeled.theirs));
                continue;
            }
            // More cells are of use only if we keep as many as came.
            let whole = peeled.rest.cells().len() == seen.sketch.cells().len();
            let most = most.filter(|_| parts != [seen.range]);
            let next = self.options.planner.more(seen.range, counts, &peeled, seen.counted, times, most);
            match next.filter(|_| whole) {
                Some((0, cells)) => {
                    let (wanted, same) = more.entry(seen.sketch.cells().len()).or_default();
                    *wanted = cells.max(*wanted);
                    same.push(seen);
                }
                Some((below, cells)) => {
                    let (wanted, same) = more.entry(0).or_default();
                    *wanted = cells.max(*wanted);
                    let part = |i| Seen::nothing_yet(seen.range.descendant(below, i), 0);
                    same.extend((0..1usize << (4 * below)).map(part));
                }
                None => {
                    let found = (peeled.mine.len() + peeled.theirs.len()) as u64;
                    self.planned(Plan::Compare(if usable { Why::Many(found) } else { Why::NoSketch }));
                    for part in parts {
                        let count = seen.count >> (4 * (part.depth() - seen.range.depth()));
                        if usable {
                            self.take_whole(collection, part, count);
                        } else {
                            self.open.entry(collection).or_default().push_back((part, count));
                        }
                    }
                }
            }
        }
        self.name(collection, named);
        for (wanted, mut seen) in more.into_values() {
            while !seen.is_empty() {
                let rest = seen.split_off(seen.len().min(CELLS_HELD_MAX / wanted.max(1)));
                self.ask_cells(collection, std::mem::replace(&mut seen, rest), wanted as u32, times + 1);
            }
        }
        self.compare_aside(collection);
    }

    /// Whether the verdict rests on equal roots, which show whatever was named wrongly.
    fn roots_tell(&self) -> bool {
        self.options.intent == Intent::Repair(Direction::Both) || self.mirroring().is_some()
    }

    /// Acts on what was named, or keeps it until it can be proven.
    pub(super) fn name(&mut self, collection: CollectionId, named: Named) {
        if self.roots_tell() && self.gate_is_open() {
            self.act_unproven(collection, named);
        } else if !named.within.is_empty() {
            self.named.entry(collection).or_default().extend(named);
        }
    }

    /// Has everything proven that was named; says whether there was anything.
    pub(super) fn prove(&mut self) -> bool {
        for (collection, named) in &self.named {
            let wholes = named.proofs(&self.aside.ranges);
            self.queries.push_back((Query::Rests(*collection, wholes.clone()), Purpose::Prove(*collection, wholes)));
        }
        !self.named.is_empty()
    }

    pub(super) fn send_proof(&mut self, collection: CollectionId, wholes: Vec<(Range, Vec<Range>)>, own: &[Summary]) {
        let (mut blob, mut ranges) = (Vec::new(), Vec::new());
        let last = wholes.len().saturating_sub(1);
        for (nth, ((range, parts), rest)) in wholes.into_iter().zip(own).enumerate() {
            ranges.push(range);
            RangeView { range, body: Body::Rest { parts, digest: rest.digest } }.encode(&mut blob);
            if blob.len() >= FRAME_BYTES_AIM || nth == last {
                let (views, ranges) = (Blob(std::mem::take(&mut blob)), std::mem::take(&mut ranges));
                let id = self.request(collection, ranges, Awaited::Proof);
                self.send(Message::Compare(Compare { id, collection, views }));
            }
        }
    }

    /// Notes where a proof failed: there the peer shows its ranges, to be compared.
    pub(super) fn note_unproven(&mut self, collection: CollectionId, asked: &[Range], views: &[RangeView]) {
        let wrong = asked.iter().filter(|range| views.iter().any(|view| range.covers(view.range)));
        let before = self.wrong.len();
        self.wrong.extend(wrong.map(|range| (collection, *range)));
        if self.wrong.len() > before {
            self.width = 32;
        }
    }

    /// Acts on what was proven, once all answers are in.
    pub(super) fn proven(&mut self) {
        if self.requests.values().any(|request| matches!(request.awaited, Awaited::Proof)) {
            return;
        }
        for (collection, named) in std::mem::take(&mut self.named) {
            let wrong: Vec<Range> = self.wrong.iter().filter(|(c, _)| *c == collection).map(|(_, r)| *r).collect();
            self.act_on(collection, named.without(&wrong));
        }
        self.wrong.clear();
    }

    /// Acts on what was named while the gate was closed; has it proven first where no roots will tell.
    pub(super) fn act_on_named(&mut self) {
        if !self.roots_tell() {
            self.prove();
            return;
        }
        let named = std::mem::take(&mut self.named);
        let gone = |named: &Named| match self.mirroring() {
            Some(Side::Mine) => named.mine.len(),
            Some(Side::Theirs) => named.theirs.len(),
            None if self.is_based() => named.mine.len() + named.theirs.len(),
            None => 0,
        };
        let keys: usize = named.values().map(|named| named.both.len() + gone(named)).sum();
        if self.trust(keys as u64) {
            self.guarded.gate = Gate::Open;
            self.flush_overwrites();
        }
        named.into_iter().for_each(|(collection, named)| self.act_unproven(collection, named));
    }

    /// Acts on what is only likely: whether it was right, and all, is shown by the roots.
    fn act_unproven(&mut self, collection: CollectionId, named: Named) {
        self.unconfirmed.entry(collection).or_default().extend(&named.within);
        self.act_on(collection, named);
    }

    fn act_on(&mut self, collection: CollectionId, named: Named) {
        let Named { mine, theirs, both, marks, .. } = named;
        // Whoever does not look at roots in the end looks at items.
        let moves = |side: Side| self.roots_tell() && self.mirroring() != Some(side) && !self.is_based();
        let (sends, wants) = (moves(Side::Mine), moves(Side::Theirs));
        if sends {
            self.transfers.send(collection, Selection::Elements(u64::BITS, mine));
        } else {
            for some in mine.chunks(CLOSE_MAX) {
                let ranges = some.iter().map(|element| element.range()).collect();
                self.ask(Query::Items(collection, ranges), Purpose::Mine(collection, some.to_vec()));
            }
        }
        let mut close: Vec<Range> = Vec::new();
        if wants {
            self.transfers.want(collection, Selection::Elements(u64::BITS, theirs));
        } else {
            close.extend(theirs.iter().map(|element| element.range()));
        }
        if self.offers(collection) {
            self.prepare_offer(collection, both, &marks);
        } else {
            close.extend(both);
        }
        close.sort_unstable();
        close.dedup();
        self.close.entry(collection).or_default().extend(close);
    }

    /// Asks for the items of single elements' ranges.
    pub(super) fn send_close_lists(&mut self) {
        for (collection, ranges) in std::mem::take(&mut self.close) {
            for some in ranges.chunks(CLOSE_MAX) {
                self.send_list(collection, some, Vec::new(), Awaited::Close(Vec::new()));
            }
        }
    }

    /// Pairs our items that a sketch named with nothing; an equal neighbour is not meant.
    pub(super) fn pair_mine(&mut self, collection: CollectionId, named: &[Element], mut items: Vec<Item>) {
        let is_named = |item: &Item| {
            let entry = item.digest.map(|digest| crate::Entry { position: item.position, digest });
            entry.is_some_and(|entry| named.contains(&Element::of(&entry)))
        };
        items.retain(is_named);
        self.pair(collection, items, Vec::new());
    }

    pub(super) fn planned(&mut self, plan: Plan) {
        self.outputs.push_back(Output::Planned(plan));
    }
}

/// Cuts a range until few places lie in each part; `places` are sorted, disjoint and small.
fn split(range: Range, places: &[Range], out: &mut Vec<(Range, Vec<Range>)>) {
    let start = places.partition_point(|place| place.last() < range.first());
    let end = places.partition_point(|place| place.first() <= range.last());
    let places = &places[start..end];
    if places.first().is_some_and(|place| place.covers(range)) {
        return;
    }
    if places.len() <= PROVEN_TOGETHER {
        return out.push((range, places.to_vec()));
    }
    (0..16).for_each(|digit| split(range.child(digit), places, out));
}

/// All ranges at a depth.
pub(super) fn level(depth: u8) -> Vec<Range> {
    (0..1usize << (4 * depth)).map(|i| Range::ALL.descendant(depth, i)).collect()
}

/// The last bytes of the counts of some further cells; nothing if so many are not kept.
pub(super) fn further_counts(sketch: &Sketch) -> Vec<u8> {
    let further = sketch.cells().get(FURTHER).unwrap_or_default();
    further.iter().map(|cell| cell.count as u8).collect()
}

/// The first byte of the digests of a root's parts; nothing if it has none.
pub(super) fn part_hints(views: &[View]) -> Blob {
    let Some(Shape::Inner(parts)) = views.first().map(|view| &view.shape) else { return Blob::default() };
    Blob(parts.iter().map(|part| part.digest.0[0]).collect())
}

/// Which of the sixteen parts differ, as far as a byte of each tells.
pub(super) fn parts_that_differ(mine: &Blob, theirs: &Blob) -> Option<Vec<u8>> {
    let whole = mine.0.len() == 16 && theirs.0.len() == 16;
    whole.then(|| (0..16).filter(|part| mine.0[usize::from(*part)] != theirs.0[usize::from(*part)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::Position;

    #[test]
    fn places_that_lie_close_are_proven_in_small_parts() {
        let scattered = |n: u64| Element(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // All in a 256th of the positions.
        let close = |n: u64| Element(0x3a << 56 | scattered(n).0 >> 8);
        for (n, element) in [(100, &scattered as &dyn Fn(u64) -> Element), (20_000, &scattered), (20_000, &close)] {
            let named = Named::pair(Range::ALL, (1..=n).map(element).collect(), Vec::new());
            let proofs = named.proofs(&[]);
            assert!(proofs.iter().all(|(range, places)| {
                places.len() <= PROVEN_TOGETHER && places.iter().all(|place| range.covers(*place))
            }));
            // Every position is proven once, every place left out once.
            assert!(proofs.windows(2).all(|pair| pair[0].0.last().0.wrapping_add(1) == pair[1].0.first().0));
            assert_eq!((proofs[0].0.first(), proofs[proofs.len() - 1].0.last()), (Position(0), Position(u64::MAX)));
            assert_eq!(proofs.iter().map(|(_, places)| places.len()).sum::<usize>(), named.ranges().len());
            assert_eq!(proofs.len() == 1, n == 100);
        }
    }
}
