//! Offers: where both sides have a key, the opener tells how its version ranks; the responder streams what wins over it
//! and asks for what loses. So a changed record costs a dozen bytes, and only the winning version travels.
//!
//! Used by repairs of both sides with versions; whoever needs to know more compares items ([`super::pairing`]).

use std::collections::BTreeMap;

use super::opener::{Opener, Purpose};
use super::responder::{Responder, Stage};
use super::{Direction, Guards, Intent, Output, SessionError};
use crate::canonical::Blob;
use crate::dataset::{CollectionId, Profile};
use crate::mark::{Mark, alone, pack_marks, pack_places, unpack_marks, unpack_places};
use crate::message::{Message, Offer, Rights, Transfer, Wanted};
use crate::query::{Item, Query, Selection};
use crate::range::Range;

/// Marks that one offer holds; some twelve bytes each.
pub(super) const OFFERED_MAX: usize = 2048;

/// The records of an offer, in order.
pub(super) type Offered = Vec<(Mark, Item)>;

impl Opener {
    /// Whether versions are all that decides which record travels, and both sides may be written.
    pub(super) fn offers(&self) -> bool {
        let both = self.options.intent == Intent::Repair(Direction::Both) && self.mirroring().is_none();
        both && self.definition.profile == Profile::Versioned
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
        for (_, item) in lone.extract_if(.., wins) {
            self.send_newer(collection, &item);
        }
        if lone.is_empty() {
            return;
        }
        let marks: Vec<Mark> = lone.iter().map(|(mark, _)| *mark).collect();
        let transfer = self.transfers.offer(collection, lone);
        self.send(Message::Offer(Offer { transfer, marks: Blob(pack_marks(&marks)) }));
    }

    fn send_newer(&mut self, collection: CollectionId, item: &Item) {
        self.counts.mine_newer += 1;
        self.note_fresh(item);
        if let Some(digest) = item.digest {
            self.transfers.send_entry(collection, item.position, digest.short(), &item.key, None);
        }
    }

    pub(super) fn on_wanted(&mut self, wanted: Wanted) -> Result<(), SessionError> {
        let transfer = wanted.transfer;
        let offered = self.transfers.offered(transfer);
        let offered = offered.ok_or(SessionError::Unexpected("an answer to an offer that was not made"))?;
        let ours = unpack_places(&wanted.wanted.0, offered.len())?;
        let unclear = unpack_places(&wanted.unclear.0, offered.len())?;
        if ours.iter().any(|place| unclear.binary_search(place).is_ok()) {
            return Err(SessionError::Unexpected("a record that is wanted and unclear"));
        }
        self.counts.theirs_newer += (offered.len() - ours.len() - unclear.len()) as u64;
        for place in ours {
            self.send_newer(transfer.1, &offered[place].1);
        }
        let unclear = unclear.into_iter().map(|place| offered[place].0.place);
        self.close.entry(transfer.1).or_default().extend(unclear);
        if !wanted.streams {
            self.transfers.nothing_comes(transfer);
        }
        Ok(())
    }
}

impl Responder {
    pub(super) fn on_offer(&mut self, offer: Offer) -> Result<(), SessionError> {
        let rights = Rights::READ.and(Rights::WRITE);
        self.check(offer.transfer.1, rights, "an offer without the rights to read and write")?;
        let marks = unpack_marks(&offer.marks.0)?;
        let places = marks.iter().map(|mark| mark.place).collect();
        self.ask(Query::Items(offer.transfer.1, places), Stage::Offer { transfer: offer.transfer, marks });
        Ok(())
    }

    /// Streams what wins over what was offered, and asks for what loses (M14).
    pub(super) fn answer_offer(&mut self, transfer: Transfer, marks: &[Mark], items: Vec<Item>) {
        let places: Vec<Range> = marks.iter().map(|mark| mark.place).collect();
        let (lone, _) = alone(&places, items);
        let own: BTreeMap<Range, (Mark, Item)> = lone.into_iter().map(|one| (one.0.place, one)).collect();
        let (mut wanted, mut unclear, mut stream) = (Vec::new(), Vec::new(), Vec::new());
        for (nth, mark) in marks.iter().enumerate() {
            match own.get(&mark.place) {
                Some((mine, item)) if mine.rank() > mark.rank() => {
                    stream.extend(item.digest.map(|digest| (item.position, digest.short())));
                }
                Some((mine, _)) if mine.rank() < mark.rank() => wanted.push(nth),
                // No record, several, or versions that rank the same and differ.
                _ => unclear.push(nth),
            }
        }
        let streams = !stream.is_empty();
        let (wanted, unclear) = (Blob(pack_places(&wanted)), Blob(pack_places(&unclear)));
        self.send(Message::Wanted(Wanted { transfer, streams, wanted, unclear }));
        if streams {
            let selections = vec![Selection::Entries(stream)];
            self.outputs.push_back(Output::Stream { transfer, selections, given: Vec::new(), guards: Guards::Join });
        }
    }

    /// Whether versions of this dataset's records rank.
    pub(super) fn ranks(&self) -> bool {
        self.definition.profile == Profile::Versioned
    }
}
