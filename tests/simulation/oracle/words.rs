//! Writes and steps in a few words, for whoever reads a trace.

use std::rc::Rc;

use reknit::core::{Content, State};

use super::{Oracle, Step, WriteId};

impl Oracle {
    /// A step in a few words: which writes came for which.
    pub(crate) fn told(&self, step: &Step) -> String {
        let ids = |state: &Option<Rc<State>>| -> Vec<WriteId> {
            state.iter().flat_map(|state| state.versions()).map(|sibling| self.id(step.key, sibling)).collect()
        };
        format!("key {} {:?}→{:?}", step.key, ids(&step.old), ids(&step.new))
    }

    pub(crate) fn shown(&self, id: WriteId) -> String {
        let write = &self.writes[id as usize];
        let (collection, key) = &self.keys[write.key as usize];
        let kind = if write.sibling.content == Content::Tombstone { "deletion" } else { "write" };
        format!(
            "{kind} {id} by peer {} of key {} ({}, {:?}) at {:?}",
            write.origin,
            write.key,
            collection.0,
            String::from_utf8_lossy(key),
            write.sibling.version
        )
    }
}
