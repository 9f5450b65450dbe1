//! Versions that got another name: the life that wrote them was told apart from another that wrote under the same.

use std::collections::BTreeSet;

use reknit::core::record::Dot;
use reknit::core::{Sibling, State, Version};

use super::{Cause, KeyId, Oracle, WriteId, is_of};

/// Whether a state is another, with versions under the name of a life that was told apart since.
pub(crate) fn is_renamed(was: &State, now: &State) -> bool {
    let (was, now) = (was.versions(), now.versions());
    let from = |sibling: &Sibling| {
        let renamed = |had: &Sibling| is_of(sibling, had) && was_named(&sibling.version, &had.version.dot());
        was.contains(sibling) || was.iter().any(renamed)
    };
    was.len() == now.len() && was != now && now.iter().all(from)
}

/// Whether a version may have had that name. One that was told apart has seen what the other wrote until some time before.
fn was_named(version: &Version, (stamp, actor): &Dot) -> bool {
    *stamp == version.stamp && version.seen.seen(*actor).is_some_and(|after| after < *stamp)
}

impl Oracle {
    /// Whether a version that is not known is one that was there, or that an undo brings back, under another actor.
    pub(super) fn renamed(
        &mut self,
        cause: Cause,
        key: KeyId,
        sibling: &Sibling,
        (old, new): (Option<&State>, &State),
    ) -> bool {
        // Two may have written the same under one stamp: what stands there still was not renamed.
        let stays = |had: &Sibling| new.versions().iter().any(|other| other.version.dot() == had.version.dot());
        let same = |had: &&Sibling| {
            let stamp = had.version.stamp == sibling.version.stamp && had.version.actor != sibling.version.actor;
            stamp && is_of(sibling, had) && !stays(had)
        };
        let had = old.and_then(|old| old.versions().iter().find(same)).map(|had| self.id(key, had));
        let Some(id) =
            had.or_else(|| if cause == Cause::Undo { self.known_by_another_name(key, sibling) } else { None })
        else {
            return false;
        };
        self.by_dot.entry(sibling.version.dot()).or_default().push(id);
        self.writes[id as usize].names.push(sibling.version.dot());
        // What it does not claim any more to have replaced may come to stand beside it, and beside what replaces it.
        let claims = |other: &WriteId| {
            let version = &sibling.version;
            let told = |(stamp, actor): &Dot| match *actor == version.actor {
                true => *stamp <= version.stamp,
                false => version.seen.seen(*actor) >= Some(*stamp),
            };
            self.writes[*other as usize].names.iter().any(told)
        };
        let had = self.writes[id as usize].seen.clone();
        let (seen, passed) = had.into_iter().partition(claims);
        let write = &mut self.writes[id as usize];
        write.seen = seen;
        write.passed.extend::<BTreeSet<WriteId>>(passed);
        true
    }

    /// The write that a version is under a name from before its life was told apart.
    fn known_by_another_name(&self, key: KeyId, sibling: &Sibling) -> Option<WriteId> {
        let same = |id: &&WriteId| {
            let known = &self.writes[**id as usize];
            is_of(sibling, &known.sibling) && known.names.iter().any(|name| was_named(&sibling.version, name))
        };
        self.of_key[key as usize].iter().rev().find(same).copied()
    }
}
