//! The members of a dataset as a store has them: read, added, forgotten.
//!
//! What a member is, is said in the core; who may write members is a matter of sessions.

use reknit_core::members::Member;
use reknit_core::receipt::PeerKey;
use reknit_core::record::Content;

use super::{Collection, Store};
use crate::store::StoreError;

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

    fn members_collection(&self) -> Result<Collection, StoreError> {
        let id = self.inner.definition.members().ok_or(StoreError::NoMembers)?;
        Ok(Collection { store: self.clone(), id })
    }
}
