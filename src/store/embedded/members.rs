//! The members of a dataset as a store has them: read, added, forgotten, and the receipts that are handed on to them.
//!
//! What a member is, is said in the core; who may write members is a matter of sessions.

use reknit_core::collect;
use reknit_core::members::{FORWARDED, Member, is_receipt_key, receipt_key};
use reknit_core::receipt::{PeerKey, Receipt};
use reknit_core::record::Content;
use reknit_core::stamp::Millis;

use super::{Collection, Store};
use crate::store::StoreError;

/// How long a receipt that was handed on stands before the next of the same two peers is: 8 hours.
const FORWARD_MILLIS: Millis = 8 * 3600 * 1000;

impl Store {
    /// The members, in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError::NoMembers`], [`StoreError::Damaged`] for a record that is none, or what the engine met.
    pub fn members(&self) -> Result<Vec<(PeerKey, Member)>, StoreError> {
        let mut members = Vec::new();
        for record in self.members_collection()?.scan_positions() {
            let (_, record) = record?;
            let Some(peer) = Member::peer(&record.key) else { continue };
            let Content::Live(content) = &record.state.winner().content else { continue };
            let member = Member::decode(content);
            let damaged = |error| StoreError::damaged(format!("the record of a member is not understood: {error}"));
            members.push((peer, member.map_err(damaged)?));
        }
        members.sort_by_key(|(peer, _)| *peer);
        Ok(members)
    }

    /// Adds a member, or changes what is said of it.
    ///
    /// # Errors
    /// As for [`Store::put`], or [`StoreError::NoMembers`].
    pub fn add_member(&self, peer: &PeerKey, member: &Member) -> Result<u64, StoreError> {
        self.members_collection()?.put(&Member::key(peer), &member.encode())
    }

    /// Forgets a member: nothing waits for it any more. Says whether it was one.
    ///
    /// # Errors
    /// As for [`Store::add_member`].
    pub fn forget_member(&self, peer: &PeerKey) -> Result<bool, StoreError> {
        self.members_collection()?.delete(&Member::key(peer))
    }

    /// Receipts that members have handed on, as they are: whether they hold is another question.
    ///
    /// # Errors
    /// As for [`Store::members`].
    pub fn forwarded(&self) -> Result<Vec<Receipt>, StoreError> {
        let mut receipts = Vec::new();
        for record in self.members_collection()?.scan_positions() {
            let (_, record) = record?;
            let value = record.state.winner().value().filter(|_| is_receipt_key(&record.key));
            // One of a later release, or that somebody made up, shows nothing.
            receipts.extend(value.and_then(|value| Receipt::decode(value).ok()));
        }
        Ok(receipts)
    }

    /// Hands a receipt on to all members, unless one of the same two peers was lately, or there is no third to tell. Says
    /// whether it did.
    ///
    /// # Errors
    /// As for [`Store::add_member`].
    pub fn forward(&self, receipt: &Receipt) -> Result<bool, StoreError> {
        if self.inner.definition.members().is_none() || !collect::counts(receipt, &self.inner.definition) {
            return Ok(false);
        }
        let members = self.members()?;
        let third = |(peer, _): &(PeerKey, Member)| *peer != receipt.opener.peer && *peer != receipt.responder.peer;
        if !members.iter().any(third) {
            return Ok(false);
        }
        let collection = self.members_collection()?;
        let mut slots = Vec::new();
        for nth in 0..FORWARDED {
            let key = receipt_key(receipt, nth);
            let there = collection.get(&key)?.and_then(|value| Receipt::decode(&value).ok());
            slots.push((there.map_or(0, |there| there.opener.time), key));
        }
        let newest = slots.iter().map(|(time, _)| *time).max().unwrap_or_default();
        if receipt.opener.time < newest.saturating_add(FORWARD_MILLIS) {
            return Ok(false);
        }
        let Some((_, oldest)) = slots.into_iter().min() else { return Ok(false) };
        collection.put(&oldest, &receipt.encode())?;
        Ok(true)
    }

    fn members_collection(&self) -> Result<Collection, StoreError> {
        let id = self.inner.definition.members().ok_or(StoreError::NoMembers)?;
        Ok(Collection { store: self.clone(), id })
    }
}
