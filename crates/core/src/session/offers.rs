//! Offers: where both sides have a key, the opener tells how its version ranks; the responder streams what wins over it
//! and asks for what loses. So a changed record costs a dozen bytes, and only the winning version travels.
//!
//! Used by repairs of both sides with versions; whoever needs to know more compares items ([`super::pairing`]).

use std::collections::{BTreeMap, BTreeSet};

use super::opener::{Opener, Purpose};
use super::responder::{Responder, Stage};
use super::{Direction, Guards, Intent, Output, SessionError};
use crate::bounds::OFFERED_ITEMS_MAX;
use crate::canonical::Blob;
use crate::dataset::CollectionId;
use crate::mark::{Grain, Mark, Marks, alone, pack_marks, pack_places, unpack_marks, unpack_places};
use crate::message::{Message, Offer, Rights, Transfer, Wanted};
use crate::query::{Ask, Item, Query, Selection, View};
use crate::range::{DEPTH_MAX, Range};
use crate::sketch::ELEMENT_DEPTH;
use crate::wire::{pack_ranges, unpack_ranges};

/// Marks that one offer holds; some twelve bytes each.
pub(super) const OFFERED_MAX: usize = 2048;

/// Offers of whole ranges whose records may be on their way here at once.
const WHOLES_MAX: usize = 16;

/// The records of an offer, in order.
pub(super) type Offered = Vec<(Mark, Item)>;

/// The parts of a range so many levels below it, in order. What a peer says is in a range may come to millions of them, so
/// they are made as they are taken.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    range: Range,
    below: u8,
    next: usize,
}

impl Parts {
    /// Those that are left, as the fewest ranges that hold them.
    pub(super) fn left(&self) -> impl Iterator<Item = Range> {
        let mut next = self.next;
        std::iter::from_fn(move || {
            let up = (next.trailing_zeros() / 4).min(self.below.into());
            let range = (next < self.len()).then(|| self.range.descendant(self.below - up as u8, next >> (4 * up)));
            next += 1 << (4 * up);
            range
        })
    }

    fn is_done(&self) -> bool {
        self.next == self.len()
    }

    fn len(&self) -> usize {
        1 << (4 * self.below)
    }
}

impl Iterator for Parts {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        let range = (!self.is_done()).then(|| self.range.descendant(self.below, self.next))?;
        self.next += 1;
        Some(range)
    }
}

impl Opener {
    /// Whether stamps are all that decides which record travels, and both sides may be written. They do not tell who was
    /// written apart.
    pub(super) fn offers(&self, collection: CollectionId) -> bool {
        let both = self.options.intent == Intent::Repair(Direction::Both);
        let plain = self.mirroring().is_none() && self.preferring().is_none() && !self.is_based();
        both && plain && self.gate_is_open() && self.definition.ranks(collection)
    }

    /// Looks at our records at places where both sides have one; some of theirs may be known by their marks.
    pub(super) fn prepare_offer(&mut self, collection: CollectionId, places: Vec<Range>, theirs: &[Mark]) {
        for some in places.chunks(OFFERED_MAX) {
            let known = theirs.iter().filter(|mark| some.binary_search(&mark.place).is_ok()).copied().collect();
            self.ask(Query::Items(collection, some.to_vec()), Purpose::Offer(collection, some.to_vec(), known));
        }
    }

    pub(super) fn offer(&mut self, collection: CollectionId, places: &[Range], theirs: &[Mark], items: Vec<Item>) {
        let (mut lone, unclear) = alone(places, items);
        self.close.entry(collection).or_default().extend(unclear);
        let known: BTreeMap<Range, Mark> = theirs.iter().map(|mark| (mark.place, *mark)).collect();
        let wins =
            |(mark, _): &mut (Mark, Item)| known.get(&mark.place).is_some_and(|other| mark.rank() > other.rank());
        for (mark, item) in lone.extract_if(.., wins) {
            let bare = known.get(&mark.place).is_some_and(|other| mark.seems_same(other));
            self.send_winner(collection, &item, bare);
        }
        if lone.is_empty() {
            return;
        }
        let marks: Vec<Mark> = lone.iter().map(|(mark, _)| *mark).collect();
        let cover = marks.iter().map(|mark| mark.place).collect();
        let transfer = self.transfers.offer(collection, lone, cover);
        self.send(Message::Offer(Offer { transfer, marks: Blob(pack_marks(&marks, Grain::Each)), ..Offer::default() }));
    }

    /// Goes about a range in which much differs: all that we have there is offered, if that tells enough.
    pub(super) fn take_whole(&mut self, collection: CollectionId, range: Range, count: u64) {
        if !self.offers(collection) {
            return self.open.entry(collection).or_default().push_back((range, count));
        }
        // Ranges of a few hundred records, so that some make an offer.
        let below = (0..).find(|below| count >> (4 * below) <= OFFERED_MAX as u64 / 4).unwrap_or(0);
        let below = (below as u8).min(DEPTH_MAX - range.depth());
        self.whole.entry(collection).or_default().push_back(Parts { range, below, next: 0 });
        self.whole_size = (count >> (4 * below)).max(1);
    }

    /// Looks at the next whole ranges to offer before anything else, while little is on its way for those before.
    pub(super) fn offer_more(&mut self) {
        let under_way = self.transfers.wanted() >= WHOLES_MAX || self.transfers.gathered() >= WHOLES_MAX * OFFERED_MAX;
        let Some((collection, queue)) = self.whole.iter_mut().find(|(_, queue)| !under_way && !queue.is_empty()) else {
            return;
        };
        let together = (OFFERED_MAX as u64 / self.whole_size.max(1)).max(1) as usize;
        let mut ranges = Vec::new();
        while let Some(parts) = queue.front_mut().filter(|_| ranges.len() < together) {
            ranges.extend(parts.by_ref().take(together - ranges.len()));
            if parts.is_done() {
                queue.pop_front();
            }
        }
        let query = Query::Items(*collection, ranges.clone());
        self.queries.push_front((query, Purpose::OfferWhole(*collection, ranges)));
    }

    pub(super) fn offer_whole(&mut self, collection: CollectionId, ranges: &[Range], items: Vec<Item>) {
        let places: BTreeSet<Range> = items.iter().map(|item| Range::of(item.position, ELEMENT_DEPTH)).collect();
        let places: Vec<Range> = places.into_iter().collect();
        let (lone, unclear) = alone(&places, items);
        let apart = Blob(pack_ranges(&unclear));
        self.close.entry(collection).or_default().extend(unclear);
        let marks: Vec<Mark> = lone.iter().map(|(mark, _)| *mark).collect();
        let transfer = self.transfers.offer(collection, lone, ranges.to_vec());
        let (marks, whole) = (Blob(pack_marks(&marks, Grain::Sixteen)), Blob(pack_ranges(ranges)));
        self.send(Message::Offer(Offer { transfer, marks, whole, apart }));
    }

    /// Sends a record that wins over the peer's; bare if that seems to have the same content.
    fn send_winner(&mut self, collection: CollectionId, item: &Item, bare: bool) {
        *(if bare { &mut self.counts.versions } else { &mut self.counts.mine_newer }) += 1;
        self.send_ours(collection, item, bare);
    }

    fn send_ours(&mut self, collection: CollectionId, item: &Item, bare: bool) {
        self.note_fresh(item);
        match item.digest.map(|digest| digest.short()) {
            Some(short) if bare => self.transfers.send_bare(collection, item.position, short),
            Some(short) => self.transfers.send_entry(collection, item.position, short, &item.key, None),
            None => {}
        }
    }

    pub(super) fn on_wanted(&mut self, wanted: Wanted) -> Result<(), SessionError> {
        let transfer = wanted.transfer;
        let offered = self.transfers.offered(transfer);
        let offered = offered.ok_or(SessionError::Unexpected("an answer to an offer that was not made"))?;
        let places = |blob: &Blob| unpack_places(&blob.0, offered.len());
        let (newer, bare) = (places(&wanted.wanted)?, places(&wanted.bare)?);
        let (alone, unclear) = (places(&wanted.lacking)?, places(&wanted.unclear)?);
        let lists = [&newer, &bare, &alone, &unclear];
        let told: BTreeSet<usize> = lists.into_iter().flatten().copied().collect();
        if told.len() < lists.into_iter().map(Vec::len).sum() {
            return Err(SessionError::Unexpected("a record that is told of twice"));
        }
        self.counts.theirs_newer += wanted.newer.0;
        self.counts.only_theirs += wanted.newer.1;
        self.counts.versions += wanted.newer.2;
        self.counts.only_mine += alone.len() as u64;
        newer.into_iter().for_each(|place| self.send_winner(transfer.1, &offered[place].1, false));
        bare.into_iter().for_each(|place| self.send_winner(transfer.1, &offered[place].1, true));
        alone.into_iter().for_each(|place| self.send_ours(transfer.1, &offered[place].1, false));
        let unclear = unclear.into_iter().map(|place| offered[place].0.place);
        self.close.entry(transfer.1).or_default().extend(unclear);
        if !wanted.streams && self.transfers.nothing_comes(transfer) {
            self.ask(Query::Sync, Purpose::Sync);
        }
        Ok(())
    }
}

impl Responder {
    pub(super) fn on_offer(&mut self, offer: Offer) -> Result<(), SessionError> {
        let rights = Rights::READ.and(Rights::WRITE);
        self.check(offer.transfer.1, rights, "an offer without the rights to read and write")?;
        if !self.definition.ranks(offer.transfer.1) {
            return Err(SessionError::Unexpected("an offer of records that are not told apart by stamps"));
        }
        let marks = unpack_marks(&offer.marks.0)?;
        let (whole, apart) = (unpack_ranges(&offer.whole.0)?, unpack_ranges(&offer.apart.0)?);
        let transfer = offer.transfer;
        if whole.is_empty() {
            let places = marks.list.iter().map(|mark| mark.place).collect();
            self.ask(Query::Items(transfer.1, places), Stage::Offer { transfer, marks, apart: None });
            return Ok(());
        }
        // What is offered as a whole may be much more here: that is known before it is read.
        let asks = whole.iter().map(|range| Ask { range: *range, levels: 0 }).collect();
        self.ask(Query::Views(transfer.1, asks), Stage::OfferWhole { transfer, marks, whole, apart });
        Ok(())
    }

    pub(super) fn look_at_whole(
        &mut self,
        transfer: Transfer,
        marks: Marks,
        (whole, apart): (Vec<Range>, Vec<Range>),
        views: &[View],
    ) -> Result<(), SessionError> {
        let records = views.iter().fold(0u64, |sum, view| sum.saturating_add(view.summary.count));
        if records > OFFERED_ITEMS_MAX {
            return Err(SessionError::Unexpected("an offer of ranges that are too large to look at"));
        }
        self.ask(Query::Items(transfer.1, whole), Stage::Offer { transfer, marks, apart: Some(apart) });
        Ok(())
    }

    /// Streams what wins over what was offered, and asks for what loses (M14).
    /// Of a whole offer it is known which places it leaves out.
    pub(super) fn answer_offer(
        &mut self,
        transfer: Transfer,
        marks: &Marks,
        apart: Option<Vec<Range>>,
        items: Vec<Item>,
    ) {
        let whole = apart.is_some();
        let offered: BTreeMap<Range, usize> = (0..).zip(&marks.list).map(|(nth, mark)| (mark.place, nth)).collect();
        let mut own: BTreeMap<Range, Vec<(Mark, Item)>> = BTreeMap::new();
        for item in items {
            if let Some(mark) = Mark::of(&item) {
                own.entry(mark.place).or_default().push((mark, item));
            }
        }
        let held = |mark: &Mark| match own.get(&mark.place).map(Vec::as_slice) {
            Some([(mine, _)]) => Some(mine.content),
            _ => None,
        };
        let same = marks.same(&marks.list.iter().map(held).collect::<Vec<_>>());
        let mut told = Wanted { transfer, ..Wanted::default() };
        let (mut wanted, mut bare, mut lacking, mut unclear) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut stream, mut stream_bare) = (Vec::new(), Vec::new());
        let entry = |item: &Item| item.digest.map(|digest| (item.position, digest.short()));
        for (place, nth) in &offered {
            match own.get(place).map(Vec::as_slice) {
                Some([(mine, item)]) if mine.rank() > marks.list[*nth].rank() => {
                    if same[*nth] {
                        stream_bare.extend(entry(item));
                        told.newer.2 += 1;
                    } else {
                        stream.extend(entry(item));
                        told.newer.0 += 1;
                    }
                }
                Some([(mine, _)]) if mine.rank() < marks.list[*nth].rank() => {
                    (if same[*nth] { &mut bare } else { &mut wanted }).push(*nth);
                }
                // In a whole range most records may be equal: one version is one record. What is not is seen by the roots.
                Some([_]) if whole => {}
                None if whole => lacking.push(*nth),
                // No record where there was one, several, or one that differs and ranks the same.
                _ => unclear.push(*nth),
            }
        }
        if let Some(mut apart) = apart {
            apart.sort_unstable();
            let alone = |place: &Range| !offered.contains_key(place) && apart.binary_search(place).is_err();
            for (_, items) in own.iter().filter(|(place, _)| alone(place)) {
                stream.extend(items.iter().filter_map(|(_, item)| entry(item)));
                told.newer.1 += items.len() as u64;
            }
        }
        let mut selections = Vec::new();
        if !stream.is_empty() {
            selections.push(Selection::Entries(stream));
        }
        if !stream_bare.is_empty() {
            selections.push(Selection::Bare(stream_bare));
        }
        told.streams = !selections.is_empty();
        told.wanted = Blob(pack_places(&wanted));
        told.bare = Blob(pack_places(&bare));
        told.lacking = Blob(pack_places(&lacking));
        told.unclear = Blob(pack_places(&unclear));
        let streams = told.streams;
        self.send(Message::Wanted(told));
        if streams {
            self.outputs.push_back(Output::Stream { transfer, selections, given: Vec::new(), guards: Guards::Join });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_order_and_what_is_left_of_them_is_told_in_few_ranges() {
        let range = Range::ALL.child(3);
        let mut parts = Parts { range, below: 2, next: 0 };
        assert_eq!(parts.left().collect::<Vec<_>>(), [range]);
        let taken: Vec<Range> = parts.by_ref().take(17).collect();
        assert_eq!(taken, (0..17).map(|i| range.descendant(2, i)).collect::<Vec<_>>());
        let left: Vec<Range> = parts.left().collect();
        let singles = (17..32).map(|i| range.descendant(2, i));
        assert_eq!(left, singles.chain((2..16).map(|i| range.descendant(1, i))).collect::<Vec<_>>());
        assert_eq!((parts.by_ref().count(), parts.is_done(), parts.left().count()), (239, true, 0));
        let whole = Parts { range, below: 0, next: 0 };
        assert_eq!((whole.left().collect::<Vec<_>>(), whole.collect::<Vec<_>>()), (vec![range], vec![range]));
        // As many as a peer may claim cost nothing.
        let many = Parts { range: Range::ALL, below: 10, next: 0 };
        assert_eq!((many.left().count(), many.clone().take(3).count()), (1, 3));
    }
}
