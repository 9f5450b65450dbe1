//! The opener's transfers: records gathered to be sent or wanted, streams under way, what became of them.

use std::collections::{BTreeMap, BTreeSet};

use super::offers::Offered;
use super::opener::{Opener, Purpose};
use super::rounds::Phase;
use super::{Guards, Moves, Output, SessionError};
use crate::bounds::RANGES_PER_MESSAGE_MAX;
use crate::brakes::Losses;
use crate::canonical::Blob;
use crate::dataset::{CollectionId, Profile};
use crate::message::{Message, Transfer, Want, Written};
use crate::query::{Applied, Guard, Incoming, Overwrite, Query, Replacement, Selection};
use crate::range::{DEPTH_MAX, Position, Range};
use crate::record::{Dot, Record};
use crate::sketch::{ELEMENT_DEPTH, Element, pack_elements};
use crate::wire;

/// Entries that one request for records names; about 20 bytes each.
const ENTRIES_PER_WANT: usize = 2048;
/// Records that one request for versions names; of each up to [`crate::bounds::VERSIONS_MAX`], about 20 bytes each.
const VERSIONS_PER_WANT: usize = 128;
/// Transfers that may be under way each way before more records are gathered.
const TRANSFERS_MAX: usize = 4;
/// Ranges that are held of where a transfer's records lie; more are told by the ranges at this depth.
const COVER_MAX: usize = 4096;
const COVER_DEPTH: u8 = 3;
/// Refused records whose key and reason are kept for the report.
const SAMPLES_MAX: usize = 16;

#[derive(Default)]
struct Gathered {
    ranges: Vec<Range>,
    entries: Vec<(Position, u64)>,
    bare: Vec<(Position, u64)>,
    versions: Vec<(Position, bool, Vec<Dot>)>,
    elements: Vec<Element>,
    guards: BTreeMap<Vec<u8>, Option<u64>>,
    given: Vec<(Position, Record)>,
}

impl Gathered {
    /// Where its records lie.
    fn cover(&self) -> Vec<Range> {
        let entries = self.entries.iter().chain(&self.bare).map(|(at, _)| *at);
        let made = self.given.iter().map(|(at, _)| *at);
        let positions = entries.chain(self.versions.iter().map(|(at, ..)| *at)).chain(made);
        let places = positions.map(|at| Range::of(at, DEPTH_MAX));
        let elements = self.elements.iter().map(|element| element.range());
        narrowed(self.ranges.iter().copied().chain(places).chain(elements).collect())
    }
}

/// The same places in few ranges, if they are many.
fn narrowed(mut cover: Vec<Range>) -> Vec<Range> {
    if cover.len() > COVER_MAX {
        cover.iter_mut().for_each(|range| *range = Range::of(range.first(), range.depth().min(COVER_DEPTH)));
        cover.sort_unstable();
        cover.dedup();
    }
    cover
}

/// What is gathered, and what is under way.
#[derive(Default)]
pub(super) struct Transfers {
    sending: BTreeMap<CollectionId, Gathered>,
    wanting: BTreeMap<CollectionId, Gathered>,
    next: u16,
    /// Transfers to the peer, and whether their records are yet to be counted as ours alone.
    sent: BTreeMap<Transfer, bool>,
    /// How many there were.
    begun: u64,
    /// Transfers to us, with how many of their records are counted already; none of those that a sketch named, of which
    /// only what arrives is counted.
    wanted: BTreeMap<Transfer, Option<u64>>,
    /// Records whose marks were told and are not answered yet.
    offered: BTreeMap<Transfer, Offered>,
    /// Where the records of all those lie.
    covers: BTreeMap<Transfer, Vec<Range>>,
    /// Where those lie that have come and are being written.
    landing: BTreeMap<CollectionId, Vec<Range>>,
    applying: u64,
    own_commits: BTreeSet<u64>,
    unsynced: bool,
    guards: BTreeMap<(CollectionId, Vec<u8>), Option<u64>>,
    /// Keys whose content is wanted only to be written under a new version.
    taking: BTreeMap<(CollectionId, Vec<u8>), Option<u64>>,
}

impl Transfers {
    pub(super) fn send(&mut self, collection: CollectionId, selection: Selection) {
        gather(&mut self.sending, collection, selection);
    }

    pub(super) fn want(&mut self, collection: CollectionId, selection: Selection) {
        gather(&mut self.wanting, collection, selection);
    }

    pub(super) fn send_entry(&mut self, c: CollectionId, at: Position, short: u64, key: &[u8], theirs: Option<u64>) {
        let gathered = self.sending.entry(c).or_default();
        gathered.entries.push((at, short));
        gathered.guards.insert(key.to_vec(), theirs);
    }

    /// Sends a record that the session made, over the entry that was compared.
    pub(super) fn send_given(&mut self, c: CollectionId, at: Position, record: Record, theirs: Option<u64>) {
        let gathered = self.sending.entry(c).or_default();
        gathered.guards.insert(record.key.clone(), theirs);
        gathered.given.push((at, record));
    }

    /// Sends some versions of a record; bare if the peer has their contents.
    pub(super) fn send_versions(&mut self, c: CollectionId, at: Position, dots: Vec<Dot>, bare: bool) {
        self.sending.entry(c).or_default().versions.push((at, bare, dots));
    }

    pub(super) fn want_versions(&mut self, c: CollectionId, at: Position, dots: Vec<Dot>, bare: bool) {
        self.wanting.entry(c).or_default().versions.push((at, bare, dots));
    }

    /// Sends a record whose content the peer has.
    pub(super) fn send_bare(&mut self, c: CollectionId, at: Position, short: u64) {
        self.sending.entry(c).or_default().bare.push((at, short));
    }

    /// Wants a record whose content we have.
    pub(super) fn want_bare(&mut self, c: CollectionId, at: Position, short: u64) {
        self.wanting.entry(c).or_default().bare.push((at, short));
    }

    pub(super) fn want_entry(&mut self, c: CollectionId, at: Position, short: u64, key: &[u8], mine: Option<u64>) {
        self.wanting.entry(c).or_default().entries.push((at, short));
        self.guards.insert((c, key.to_vec()), mine);
    }

    /// Wants the content of an entry, to be written here under a new version.
    pub(super) fn take_entry(&mut self, c: CollectionId, at: Position, short: u64, key: &[u8], mine: Option<u64>) {
        self.wanting.entry(c).or_default().entries.push((at, short));
        self.taking.insert((c, key.to_vec()), mine);
    }

    /// Whether this record's content is to be taken; tells the guard by the way.
    fn taking(&mut self, collection: CollectionId, incoming: &mut Incoming) -> bool {
        match self.taking.remove(&(collection, incoming.record.key.clone())) {
            Some(mine) => {
                incoming.guard = Guard::IfShort(mine);
                true
            }
            None => false,
        }
    }

    /// Forgets contents that had moved before they came: their keys are compared again.
    pub(super) fn forget_taking(&mut self) {
        self.taking.clear();
    }

    /// Names a transfer of what wins over these records; which of them are wanted is told apart.
    pub(super) fn offer(&mut self, collection: CollectionId, offered: Offered, cover: Vec<Range>) -> Transfer {
        let transfer = self.number(collection);
        self.covers.insert(transfer, cover);
        self.wanted.insert(transfer, Some(u64::MAX));
        self.offered.insert(transfer, offered);
        transfer
    }

    /// What was offered, once it is answered.
    pub(super) fn offered(&mut self, transfer: Transfer) -> Option<Offered> {
        self.offered.remove(&transfer)
    }

    /// Transfers that come, or may come by an offer.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Nothing comes in a transfer after all; says whether what came in others is now to be made durable.
    pub(super) fn nothing_comes(&mut self, transfer: Transfer) -> bool {
        self.wanted.remove(&transfer);
        self.covers.remove(&transfer);
        self.wanted.is_empty() && self.applying == 0 && self.unsynced
    }

    /// Whether nothing is gathered, under way or not durable yet.
    pub(super) fn idle(&self) -> bool {
        self.sent.is_empty() && self.all_sent()
    }

    /// Whether nothing is left but to hear what became of records that were sent: all that comes is here, and durable.
    pub(super) fn all_sent(&self) -> bool {
        let nothing = self.sending.is_empty() && self.wanting.is_empty() && self.applying == 0;
        nothing && self.offered.is_empty() && self.wanted.is_empty() && !self.unsynced
    }

    /// Where records are gathered or under way, or may still come by an offer.
    pub(super) fn open(&self, visit: &mut dyn FnMut(CollectionId, Range)) {
        for (collection, gathered) in self.sending.iter().chain(&self.wanting) {
            gathered.cover().into_iter().for_each(|range| visit(*collection, range));
        }
        for (transfer, cover) in &self.covers {
            cover.iter().for_each(|range| visit(transfer.1, *range));
        }
        for (collection, cover) in &self.landing {
            cover.iter().for_each(|range| visit(*collection, *range));
        }
    }

    /// Records and ranges that are gathered and not under way.
    pub(super) fn gathered(&self) -> usize {
        let of = |g: &Gathered| g.ranges.len() + g.entries.len() + g.bare.len() + g.versions.len() + g.given.len();
        self.sending.values().chain(self.wanting.values()).map(of).sum()
    }

    pub(super) fn forget_gathered(&mut self) {
        self.sending.clear();
        self.wanting.clear();
        self.guards.clear();
        self.taking.clear();
    }

    /// Whether this session made the commit.
    pub(super) fn is_own(&self, commit: u64) -> bool {
        self.own_commits.contains(&commit)
    }

    /// Transfers to the peer so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// How many commits of our store this session made.
    pub(super) fn own_commits(&self) -> u64 {
        self.own_commits.len() as u64
    }

    pub(super) fn synced(&mut self) {
        self.unsynced = false;
    }

    fn number(&mut self, collection: CollectionId) -> Transfer {
        let taken = |n: u16| {
            let transfer = Transfer(n, collection);
            let answered = self.wanted.contains_key(&transfer) || self.offered.contains_key(&transfer);
            answered || self.sent.contains_key(&transfer)
        };
        let mut n = self.next;
        while taken(n) {
            n = n.wrapping_add(1);
        }
        self.next = n.wrapping_add(1);
        Transfer(n, collection)
    }
}

/// Bits of an element that tell an entry from so many others but for one time in a million, which costs a round.
fn telling_bits(entries: u64) -> u32 {
    (u64::BITS - entries.leading_zeros() + 20).clamp(4 * u32::from(ELEMENT_DEPTH), u64::BITS)
}

fn gather(into: &mut BTreeMap<CollectionId, Gathered>, collection: CollectionId, selection: Selection) {
    if matches!(&selection, Selection::Elements(_, elements) if elements.is_empty()) {
        return;
    }
    let gathered = into.entry(collection).or_default();
    match selection {
        Selection::Range(range) => gathered.ranges.push(range),
        Selection::Entries(entries) => gathered.entries.extend(entries),
        Selection::Bare(entries) => gathered.bare.extend(entries),
        Selection::Versions { bare, of } => gathered.versions.extend(of.into_iter().map(|(at, dots)| (at, bare, dots))),
        Selection::Elements(_, elements) => gathered.elements.extend(elements),
    }
}

/// What selects these versions, those that travel with their contents and those that do not.
pub(super) fn of_versions(versions: Vec<(Position, bool, Vec<Dot>)>) -> impl Iterator<Item = Selection> {
    let (known, rest): (Vec<_>, Vec<_>) = versions.into_iter().partition(|(_, bare, _)| *bare);
    let selection = |(bare, versions): (bool, Vec<(Position, bool, Vec<Dot>)>)| {
        let mut of: Vec<(Position, Vec<Dot>)> = versions.into_iter().map(|(at, _, dots)| (at, dots)).collect();
        of.sort_unstable();
        (!of.is_empty()).then_some(Selection::Versions { bare, of })
    };
    [(false, rest), (true, known)].into_iter().filter_map(selection)
}

fn sorted<T: Ord>(mut entries: Vec<T>) -> Vec<T> {
    entries.sort_unstable();
    entries.dedup();
    entries
}

impl Opener {
    /// Puts gathered records under way. They are gathered while a burst of answers is digested.
    pub(super) fn flush_transfers(&mut self) -> bool {
        let versioned = self.definition.profile == Profile::Versioned;
        let mut any = false;
        let room = |under_way: usize| under_way < TRANSFERS_MAX;
        let sending = room(self.transfers.sent.len()).then(|| std::mem::take(&mut self.transfers.sending));
        for (collection, gathered) in sending.unwrap_or_default() {
            any = true;
            let cover = gathered.cover();
            let guards = if versioned { Guards::Join } else { Guards::Compared(gathered.guards) };
            // What a sketch named may not be there: only what arrives is counted, so it travels apart.
            if !gathered.elements.is_empty() {
                let selections = vec![Selection::Elements(u64::BITS, sorted(gathered.elements))];
                self.stream((collection, cover.clone()), true, selections, Vec::new(), guards.clone());
            }
            let mut selections: Vec<Selection> = gathered.ranges.into_iter().map(Selection::Range).collect();
            if !gathered.entries.is_empty() {
                selections.push(Selection::Entries(sorted(gathered.entries)));
            }
            if !gathered.bare.is_empty() {
                selections.push(Selection::Bare(sorted(gathered.bare)));
            }
            selections.extend(of_versions(gathered.versions));
            if !selections.is_empty() || !gathered.given.is_empty() {
                let given = gathered.given.into_iter().map(|(_, record)| record).collect();
                self.stream((collection, cover), false, selections, given, guards);
            }
        }
        let bits = telling_bits(self.outcome.root_theirs.count);
        let wanting = room(self.transfers.wanted.len()).then(|| std::mem::take(&mut self.transfers.wanting));
        for (collection, gathered) in wanting.unwrap_or_default() {
            any = true;
            let cover = gathered.cover();
            // What a sketch named may not be there: only what arrives is counted, so it travels apart.
            for few in sorted(gathered.elements).chunks(ENTRIES_PER_WANT) {
                self.want(
                    (collection, cover.clone()),
                    None,
                    Want { elements: Blob(pack_elements(bits, few)), ..Want::default() },
                );
            }
            let (entries, bare) = (sorted(gathered.entries), sorted(gathered.bare));
            let (mut entries, mut bare) = (entries.chunks(ENTRIES_PER_WANT), bare.chunks(ENTRIES_PER_WANT));
            let mut versions = gathered.versions.chunks(VERSIONS_PER_WANT);
            let mut ranges = gathered.ranges.chunks(RANGES_PER_MESSAGE_MAX / 2);
            loop {
                let (parts, some) = (ranges.next().unwrap_or_default(), entries.next().unwrap_or_default());
                let (known, named) = (bare.next().unwrap_or_default(), versions.next().unwrap_or_default());
                if parts.is_empty() && some.is_empty() && known.is_empty() && named.is_empty() {
                    break;
                }
                let told = |entries: &[(Position, u64)]| entries.iter().map(|(at, short)| (at.0, *short)).collect();
                let ranges = Blob(wire::pack_ranges(parts));
                let versions = named.iter().map(|(at, bare, of)| (at.0, *bare, of.clone())).collect();
                let want = Want { ranges, entries: told(some), bare: told(known), versions, ..Want::default() };
                let counted = (some.len() + known.len() + named.len()) as u64;
                self.want((collection, cover.clone()), Some(counted), want);
            }
        }
        any
    }

    fn want(&mut self, (collection, cover): (CollectionId, Vec<Range>), counted: Option<u64>, want: Want) {
        let transfer = self.transfers.number(collection);
        self.transfers.wanted.insert(transfer, counted);
        self.transfers.covers.insert(transfer, cover);
        self.send(Message::Want(Want { transfer, ..want }));
    }

    fn stream(
        &mut self,
        (c, cover): (CollectionId, Vec<Range>),
        alone: bool,
        selections: Vec<Selection>,
        given: Vec<Record>,
        guards: Guards,
    ) {
        let transfer = self.transfers.number(c);
        self.transfers.sent.insert(transfer, alone);
        self.transfers.covers.insert(transfer, cover);
        self.transfers.begun += 1;
        self.outputs.push_back(Output::Stream { transfer, selections, given, guards });
    }

    pub(super) fn on_records(&mut self, transfer: Transfer, mut records: Vec<Incoming>) -> Result<(), SessionError> {
        if !self.transfers.wanted.contains_key(&transfer) {
            return Err(SessionError::Unexpected("records that nobody wanted"));
        }
        if self.definition.profile == Profile::Content {
            for incoming in &mut records {
                let key = (transfer.1, incoming.record.key.clone());
                incoming.guard = Guard::IfShort(self.transfers.guards.get(&key).copied().flatten());
            }
        }
        self.counts.to_mine.offered += records.len() as u64;
        let taken: Vec<Overwrite> =
            records.extract_if(.., |r| self.transfers.taking(transfer.1, r)).map(take).collect();
        self.overwrite(transfer.1, taken);
        if !records.is_empty() {
            self.transfers.applying += 1;
            self.apply(transfer.1, records);
        }
        Ok(())
    }

    pub(super) fn flush_overwrites(&mut self) {
        for (collection, overwrites) in std::mem::take(&mut self.overwrites) {
            self.overwrite(collection, overwrites);
        }
    }

    pub(super) fn overwrite(&mut self, collection: CollectionId, overwrites: Vec<Overwrite>) {
        if !overwrites.is_empty() {
            let places: Vec<Range> = overwrites.iter().map(|it| self.place(collection, &it.key)).collect();
            self.transfers.landing.entry(collection).or_default().extend(narrowed(places));
            self.transfers.applying += 1;
            self.transfers.unsynced = true;
            self.ask(Query::Overwrite(collection, overwrites), Purpose::Apply(collection));
        }
    }

    pub(super) fn on_applied(&mut self, collection: CollectionId, applied: Applied) {
        self.transfers.applying -= 1;
        if self.transfers.applying == 0 {
            self.transfers.landing.clear();
        }
        self.wrote_here(applied.losses);
        self.transfers.unsynced = true;
        if applied.applied > 0 {
            self.transfers.own_commits.insert(applied.commit);
        }
        let refused = applied.refused.len() as u64;
        add(&mut self.counts.to_mine, applied.applied, applied.kept, applied.moved, refused);
        self.unresolved += refused;
        for (key, reason) in applied.refused {
            self.note_refused(collection, key, reason);
        }
        if self.transfers.applying == 0 && self.transfers.wanted.is_empty() {
            self.ask(Query::Sync, Purpose::Sync);
        }
    }

    pub(super) fn on_end(&mut self, transfer: Transfer, records: u64, moved: u64) -> Result<(), SessionError> {
        let named = self.transfers.wanted.remove(&transfer);
        let named = named.ok_or(SessionError::Unexpected("the end of a transfer that nobody wanted"))?;
        let cover = self.transfers.covers.remove(&transfer).unwrap_or_default();
        if self.transfers.applying > 0 {
            self.transfers.landing.entry(transfer.1).or_default().extend(cover);
        }
        self.counts.only_theirs += match named {
            Some(named) => (records + moved).saturating_sub(named),
            None => {
                self.miss(moved);
                records
            }
        };
        self.counts.to_mine.moved += moved;
        self.counts.to_mine.offered += moved;
        self.fresh += moved;
        if self.transfers.wanted.is_empty() {
            self.transfers.unsynced = true;
            self.ask(Query::Sync, Purpose::Sync);
        }
        Ok(())
    }

    pub(super) fn on_written(&mut self, written: Written) -> Result<(), SessionError> {
        let alone = self.transfers.sent.remove(&written.transfer);
        self.transfers.covers.remove(&written.transfer);
        let alone = alone.ok_or(SessionError::Unexpected("the outcome of a transfer that was not sent"))?;
        let offered = written.applied + written.kept + written.moved + written.refused;
        self.counts.only_mine += if alone { offered } else { 0 };
        self.counts.to_theirs.offered += offered;
        add(&mut self.counts.to_theirs, written.applied, written.kept, written.moved, written.refused);
        self.wrote_there(Losses { deleted: written.deleted, changed: written.changed });
        self.fresh += written.moved;
        self.unresolved += written.refused;
        for (key, reason) in written.samples {
            self.note_refused(written.transfer.1, key.0, reason);
        }
        Ok(())
    }

    fn note_refused(&mut self, collection: CollectionId, key: Vec<u8>, reason: String) {
        if self.outcome.refused.len() < SAMPLES_MAX && !matches!(self.phase, Phase::Over) {
            self.outcome.refused.push((collection, key, reason));
        }
    }
}

/// A record that came, to be written under a new version.
fn take(incoming: Incoming) -> Overwrite {
    let state = incoming.record.state;
    let expected = match incoming.guard {
        Guard::IfShort(expected) => expected,
        Guard::Join | Guard::Bare => None,
    };
    let seen = state.versions().iter().map(|sibling| sibling.version.clone()).collect();
    Overwrite { key: incoming.record.key, expected, content: Replacement::Shown(state), seen }
}

fn add(moves: &mut Moves, applied: u64, kept: u64, moved: u64, refused: u64) {
    moves.applied += applied;
    moves.kept += kept;
    moves.moved += moved;
    moves.refused += refused;
}
