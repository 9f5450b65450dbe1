//! What a session asks of a store, put to it: questions become answers, streams of records become frames and back.
//! When that happens, and on which thread, is left to whoever drives the session.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use reknit_core::bounds::{KEY_BYTES_MAX, RECORD_FRAME_BYTES_MAX, VALUE_BYTES_MAX};
use reknit_core::canonical::Reader;
use reknit_core::life::Sighting;
use reknit_core::message::Transfer;
use reknit_core::query::{Answer, Guard, Incoming, Query, Selection};
use reknit_core::session::{Guards, SessionError, Stuck};
use reknit_core::wire::RecordFrame;
use reknit_core::{Actor, Keys, Position, Record};

use super::{Durability, Side, StoreError};

/// Items that one question lists.
const LIST_ITEMS: usize = 256;
/// Bytes of records that are read from the store at once, and that a frame holds; a larger record is cut into chunks.
const PAGE_BYTES: usize = RECORD_FRAME_BYTES_MAX / 2;
/// Large records that may be half received at once.
const CHUNKED_MAX: usize = 2;

/// Puts a question of a session to a store.
///
/// # Errors
/// What the store met.
pub fn answer(side: &dyn Side, query: Query) -> Result<Answer, StoreError> {
    Ok(match query {
        Query::Cut => Answer::Cut(side.cut()?),
        Query::Expire(upto) => Answer::Cut(side.expire(upto)?),
        Query::Introduce => Answer::Cut(side.introduce()?),
        Query::Meet(peer, commit) => {
            let cut = side.introduce()?;
            Answer::Met(cut, side.meet(Actor(peer.actor), Sighting { nonce: peer.nonce, commit }, None)?)
        }
        Query::Confirm(peer, commit, by) => {
            let doubts = side.meet(Actor(peer.actor), Sighting { nonce: peer.nonce, commit }, Some(by))?;
            Answer::Confirmed(doubts.is_empty())
        }
        Query::Recognise(met, whole) => Answer::Recognised(side.recognise(&met, whole)?),
        Query::Horizon => Answer::Horizon(side.horizon()?),
        Query::Raise(horizon) => Answer::Raised(side.raise(&horizon, false)?),
        Query::Views(collection, asks) => Answer::Views(side.view(collection, &asks)?),
        Query::Items(collection, ranges) => Answer::Items(side.items(collection, &ranges)?),
        Query::Sketches(collection, ranges, cells) => Answer::Sketches(side.sketches(collection, &ranges, cells)?),
        Query::Rests(collection, ranges) => Answer::Rests(side.rests(collection, &ranges)?),
        Query::List(collection, range, after) => {
            let (items, next) = side.list(collection, range, after, LIST_ITEMS)?;
            Answer::Listed(items, next)
        }
        Query::Apply(collection, batch) => Answer::Applied(side.apply(collection, batch, Durability::Buffered)?),
        Query::Overwrite(collection, batch) => {
            Answer::Applied(side.overwrite(collection, batch, Durability::Buffered)?)
        }
        Query::Sync => {
            side.sync()?;
            Answer::Synced
        }
    })
}

/// The frames of one transfer, made as they are asked for: a page is read once all frames of the one before were taken.
pub struct Frames {
    transfer: Transfer,
    guards: Guards,
    keys: Arc<Keys>,
    selections: VecDeque<Selection>,
    after: Option<(Position, Vec<u8>)>,
    given: Vec<Record>,
    page_bytes: usize,
    records: Vec<Incoming>,
    bytes: usize,
    sent: u64,
    moved: u64,
    ready: VecDeque<RecordFrame>,
    ended: bool,
}

impl Frames {
    /// The frames of the records that are selected, then of those that are given.
    pub fn new(
        keys: Arc<Keys>,
        transfer: Transfer,
        selections: Vec<Selection>,
        given: Vec<Record>,
        guards: Guards,
    ) -> Self {
        Self {
            transfer,
            guards,
            keys,
            selections: selections.into(),
            after: None,
            given,
            page_bytes: PAGE_BYTES,
            records: Vec::new(),
            bytes: 0,
            sent: 0,
            moved: 0,
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// For tests: pages and frames of about so many bytes.
    #[must_use]
    pub fn with_page_bytes(self, page_bytes: usize) -> Self {
        Self { page_bytes, ..self }
    }

    /// The next frame; none after the last.
    ///
    /// # Errors
    /// What the store met while reading.
    pub fn next(&mut self, side: &dyn Side) -> Result<Option<RecordFrame>, StoreError> {
        while self.ready.is_empty() && !self.ended {
            self.fill(side)?;
        }
        Ok(self.ready.pop_front())
    }

    /// Where the records lie that it would read next.
    pub fn reading(&self) -> Option<Stuck> {
        let from = self.after.as_ref().map_or(Position(0), |(at, _)| *at);
        self.selections.front().map(|selection| Stuck::reading(self.transfer.1, selection, from))
    }

    fn fill(&mut self, side: &dyn Side) -> Result<(), StoreError> {
        if let Some(selection) = self.selections.front() {
            let page = side.read(self.transfer.1, selection, self.after.clone(), self.page_bytes)?;
            let bare = matches!(selection, Selection::Bare(_) | Selection::Versions { bare: true, .. });
            self.moved += page.moved;
            page.records.into_iter().for_each(|record| self.put(record, bare));
            self.after = page.next;
            if self.after.is_none() {
                self.selections.pop_front();
            }
            return Ok(());
        }
        for record in std::mem::take(&mut self.given) {
            self.put(record, false);
        }
        self.flush();
        self.ready.push_back(RecordFrame::End { transfer: self.transfer, records: self.sent, moved: self.moved });
        self.ended = true;
        Ok(())
    }

    /// Adds a record, without its contents if the receiver holds them.
    fn put(&mut self, mut record: Record, bare: bool) {
        let guard = match &self.guards {
            Guards::Join if bare => {
                record.strip(&self.keys);
                Guard::Bare
            }
            Guards::Join => Guard::Join,
            Guards::Compared(guards) => Guard::IfShort(guards.get(&record.key).copied().flatten()),
        };
        self.sent += 1;
        // Bytes that it takes in a frame, about.
        let weight = record.weight() + 16;
        if weight > self.page_bytes {
            let mut whole = Vec::new();
            record.encode(&mut whole);
            let (transfer, total) = (self.transfer, whole.len() as u64);
            let chunk = |bytes: &[u8]| RecordFrame::Chunk { transfer, guard, total, bytes: bytes.to_vec() };
            return self.ready.extend(whole.chunks(self.page_bytes.max(1)).map(chunk));
        }
        self.bytes += weight;
        self.records.push(Incoming { record, guard });
        if self.bytes >= self.page_bytes {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.bytes = 0;
        let records = std::mem::take(&mut self.records);
        if !records.is_empty() {
            self.ready.push_back(RecordFrame::Records { transfer: self.transfer, records });
        }
    }
}

/// Large records that come in chunks, put together again.
#[derive(Default)]
pub struct Chunks(BTreeMap<Transfer, Vec<u8>>);

impl Chunks {
    /// Adds a chunk; gives the record once it is whole. Grows by what came, never by what is claimed.
    ///
    /// # Errors
    /// [`SessionError`] for a peer that does not keep to the bounds.
    pub fn add(&mut self, transfer: Transfer, total: u64, bytes: &[u8]) -> Result<Option<Record>, SessionError> {
        if total > (VALUE_BYTES_MAX + KEY_BYTES_MAX + 4096) as u64 || self.0.len() > CHUNKED_MAX {
            return Err(SessionError::Unexpected("a record above the largest that is allowed"));
        }
        let so_far = self.0.entry(transfer).or_default();
        so_far.extend_from_slice(bytes);
        match (so_far.len() as u64).cmp(&total) {
            std::cmp::Ordering::Less => Ok(None),
            std::cmp::Ordering::Greater => Err(SessionError::Unexpected("more bytes of a record than it has")),
            std::cmp::Ordering::Equal => {
                let whole = self.0.remove(&transfer).unwrap_or_default();
                let mut reader = Reader::new(&whole);
                let record = Record::decode(&mut reader)?;
                reader.end()?;
                Ok(Some(record))
            }
        }
    }
}
