//! One change of one key, and what is seen from it alone.

use std::rc::Rc;

use reknit::core::stamp::CLOCK_BOUND_MILLIS;
use reknit::core::{Actor, Content, Sibling, Stamp, State};

use super::KeyId;

/// One change of one key.
#[derive(Clone)]
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
