//! The responder's answers where ranges are compared, proven or listed (M6).
//!
//! What follows from comparing a range is said by [`super::descent`]; who may ask, and in which order, by
//! [`super::responder`].

use super::SessionError;
use super::descent::{self, Step};
use super::responder::{FIRST_WIDTH, Reply, Responder, Stage};
use crate::bounds::FRAME_BYTES_AIM;
use crate::dataset::CollectionId;
use crate::message::{Compare, Compared, List, Message, Rights};
use crate::query::{Ask, Item, Query, View};
use crate::range::{Position, Range, places};
use crate::sketch::ELEMENT_DEPTH;
use crate::wire::{self, Body, RangeView, WireItem};

impl Responder {
    pub(super) fn compare(&mut self, compare: Compare) -> Result<(), SessionError> {
        self.check(compare.collection, Rights::COMPARE, "a comparison without the right to compare")?;
        let theirs = RangeView::unpack(&compare.views.0)?;
        disjoint(theirs.iter().map(|view| view.range))?;
        let (id, collection) = (compare.id, compare.collection);
        let rest = |view: &RangeView| match &view.body {
            Body::Rest { parts, .. } => Some((view.range, parts.clone())),
            _ => None,
        };
        let rests: Vec<(Range, Vec<Range>)> = theirs.iter().filter_map(rest).collect();
        if !rests.is_empty() {
            if rests.len() < theirs.len() {
                return Err(SessionError::Unexpected("a proof and a comparison in one message"));
            }
            self.ask(Query::Rests(collection, rests), Stage::Rests { id, collection, theirs });
            return Ok(());
        }
        let asks = theirs.iter().map(descent::ask_for).collect();
        self.ask(Query::Views(collection, asks), Stage::Compare { id, collection, theirs });
        Ok(())
    }

    /// Answers a comparison (M6).
    pub(super) fn compared(&mut self, id: u32, collection: CollectionId, theirs: &[RangeView], views: &[View]) {
        let mut steps = Vec::new();
        for (view, other) in views.iter().zip(theirs) {
            descent::compare(&self.keys, view, other, &mut steps);
        }
        let width = theirs.iter().find_map(|view| match view.body {
            Body::Parts { width, .. } | Body::Entries { width, .. } => Some(width),
            _ => None,
        });
        let mut reply = Reply(Compared { id, ..Compared::default() });
        let (mut open, mut positions) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::OnlyMine(range, n) => self.put_view(&mut reply, &RangeView { range, body: Body::All(n) }),
                Step::OnlyTheirs(range) => self.put_view(&mut reply, &RangeView { range, body: Body::None }),
                Step::Open(range, count) => open.push((range, count)),
                Step::Leaf { mine, theirs, both } => {
                    reply.0.lacking.extend(theirs.iter().map(|position| position.0));
                    if self.takes.allow(Rights::READ) {
                        reply.0.alone.extend(mine.iter().map(|position| position.0));
                    } else {
                        positions.extend(mine);
                    }
                    positions.extend(both);
                }
            }
        }
        let few = open.len();
        let ask = |(range, count)| Ask { range, levels: descent::levels(range, count, few) };
        let asks: Vec<Ask> = open.into_iter().map(ask).collect();
        if asks.is_empty() {
            return self.ask_items(reply, collection, positions);
        }
        let width = width.unwrap_or(FIRST_WIDTH);
        let stage = Stage::Opened { reply, collection, asks: asks.clone(), positions, width };
        self.ask(Query::Views(collection, asks), stage);
    }

    pub(super) fn ask_items(&mut self, reply: Reply, collection: CollectionId, mut positions: Vec<Position>) {
        if positions.is_empty() {
            return self.send_last(reply);
        }
        positions.sort_unstable();
        positions.dedup();
        self.ask(Query::Items(collection, places(&positions)), Stage::Items { reply, asked: positions });
    }

    pub(super) fn list(&mut self, list: List) -> Result<(), SessionError> {
        self.check(list.collection, Rights::COMPARE, "a wish for keys without the right to compare")?;
        let ranges = wire::unpack_ranges(&list.ranges.0)?;
        disjoint(ranges.iter().copied())?;
        let reply = Reply(Compared { id: list.id, ..Compared::default() });
        let positions = list.positions.into_iter().map(Position).collect();
        self.list_on(reply, list.collection, ranges, positions);
        Ok(())
    }

    /// Lists ranges one by one; those of single elements all at once.
    pub(super) fn list_on(
        &mut self,
        reply: Reply,
        collection: CollectionId,
        mut rest: Vec<Range>,
        positions: Vec<Position>,
    ) {
        if positions.is_empty() && !rest.is_empty() && rest.iter().all(|range| range.depth() == ELEMENT_DEPTH) {
            return self.ask(Query::Items(collection, rest), Stage::Items { reply, asked: Vec::new() });
        }
        match rest.pop() {
            Some(current) => {
                let stage = Stage::List { reply, collection, rest, positions, current };
                self.ask(Query::List(collection, current, None), stage);
            }
            None => self.ask_items(reply, collection, positions),
        }
    }

    pub(super) fn put_items(&mut self, reply: &mut Reply, items: Vec<Item>) {
        for item in items {
            // A long key goes in a frame of its own rather than in one above the cap.
            self.send_if_full(reply, item.key.len());
            self.wire_item(item).encode(&mut reply.0.items.0);
            self.send_if_full(reply, 0);
        }
    }

    pub(super) fn wire_item(&self, item: Item) -> WireItem {
        let since = self.cut.as_ref().is_some_and(|cut| item.commit > cut.commit);
        let fresh = since && !self.own_commits.contains(&item.commit);
        WireItem { item, fresh }
    }

    pub(super) fn put_view(&mut self, reply: &mut Reply, view: &RangeView) {
        view.encode(&mut reply.0.views.0);
        self.send_if_full(reply, 0);
    }

    /// Sends what is there if `more` bytes would fill it.
    fn send_if_full(&mut self, reply: &mut Reply, more: usize) {
        let body = &reply.0;
        let size = body.views.0.len() + body.items.0.len() + 9 * (body.lacking.len() + body.alone.len());
        if size > 0 && size + more >= FRAME_BYTES_AIM {
            let next = Reply(Compared { id: body.id, ..Compared::default() });
            let full = std::mem::replace(reply, next);
            self.send(Message::Compared(full.0));
        }
    }

    pub(super) fn send_last(&mut self, reply: Reply) {
        self.send(Message::Compared(Compared { last: true, ..reply.0 }));
    }
}

/// A range that is asked for again and again in one message would cost a hundred times what the message does.
fn disjoint(ranges: impl Iterator<Item = Range>) -> Result<(), SessionError> {
    let mut ranges: Vec<Range> = ranges.collect();
    ranges.sort_unstable_by_key(|range| (range.first(), range.depth()));
    match ranges.is_sorted_by(|one, next| one.last() < next.first()) {
        true => Ok(()),
        false => Err(SessionError::Unexpected("ranges of one message that overlap")),
    }
}
