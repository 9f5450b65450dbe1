//! One change of one key, and what is seen from it alone.

use std::rc::Rc;

use reknit::core::stamp::CLOCK_BOUND_MILLIS;
use reknit::core::{Actor, Content, Sibling, Stamp, State};

use super::{KeyId, is_dead};

/// One change of one key.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) key: KeyId,
    pub(crate) commit: u64,
    pub(crate) old: Option<Rc<State>>,
    pub(crate) new: Option<Rc<State>>,
}

impl Step {
    /// Whether the same stands there under this actor instead of another: its store has begun a new life.
    pub(crate) fn renames(&self, own: Actor) -> bool {
        let all = |state: &Option<Rc<State>>| -> Vec<(Stamp, Content)> {
            let versions = state.iter().flat_map(|state| state.versions());
            versions.map(|sibling| (sibling.version.stamp, sibling.content.clone())).collect()
        };
        let held = |sibling: &Sibling| {
            let old = self.old.iter().flat_map(|state| state.versions());
            old.into_iter().any(|had| had.version.dot() == sibling.version.dot())
        };
        let new = || self.new.iter().flat_map(|state| state.versions());
        let ours = new().all(|sibling| sibling.version.actor == own || held(sibling));
        all(&self.old) == all(&self.new) && ours
    }

    /// Whether nothing became of the key but that something of it expired, which no run does: a peer that had let it expire
    /// sooner may have brought that.
    pub(crate) fn expires(&self, watermark: u64) -> bool {
        let (Some(old), Some(new)) = (&self.old, &self.new) else { return false };
        // What had expired before, elsewhere perhaps, may have been due later than is due here yet.
        let had = |sibling: &Sibling| old.versions().contains(sibling);
        let expired = new.versions().iter().filter(|sibling| sibling.has_expired() && !had(sibling));
        let latest = expired.filter_map(|sibling| sibling.expires).max().filter(|latest| *latest <= watermark);
        latest.and_then(|latest| old.expired(latest)).is_some_and(|expired| expired == **new)
    }

    /// Whether a key went since all that was left of it had expired so long ago that it is collected at once, which no run does.
    pub(crate) fn expires_and_goes(&self, watermark: u64, horizon: Stamp) -> bool {
        let expired = self.old.as_ref().and_then(|old| old.expired(watermark));
        self.new.is_none() && expired.is_some_and(|expired| is_dead(&expired, horizon))
    }

    /// Nothing expired further ahead of the latest time that the wall clock told than the bound.
    pub(crate) fn expired_in_time(&self, latest: u64) {
        for sibling in self.new.iter().flat_map(|state| state.versions()).filter(|sibling| sibling.has_expired()) {
            let due = sibling.expires.is_some_and(|expires| expires <= latest + CLOCK_BOUND_MILLIS);
            assert!(due, "I10: {sibling:?} of key {} expired before it was due", self.key);
        }
    }

    /// What came from elsewhere was not stamped further ahead of the wall clock than is followed.
    pub(crate) fn is_near(&self, own: Actor, told: u64) {
        let old = self.old.iter().flat_map(|state| state.versions());
        let had: Vec<_> = old.map(|sibling| sibling.version.dot()).collect();
        for sibling in self.new.iter().flat_map(|state| state.versions()) {
            let came = sibling.version.actor != own && !had.contains(&sibling.version.dot());
            let near = sibling.version.stamp.millis() <= told + CLOCK_BOUND_MILLIS;
            assert!(near || !came, "I10: {sibling:?} of key {} was applied from beyond the bound", self.key);
        }
    }
}
