//! Differences that whoever opens the session holds to be none worth mention: they are counted apart, told, and left as they
//! are. A key that has moved since it was judged is a difference like any other.
//!
//! What is near enough is judged by whoever knows what contents mean.

use std::collections::BTreeMap;

use super::opener::Opener;
use crate::dataset::{CollectionId, Profile};
use crate::difference::{Judged, Kind};
use crate::query::Item;

/// Keys whose difference is tolerated, with the entries of the opener and of the responder, by [`crate::Digest::short`], of which
/// that was judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tolerated {
    /// The keys.
    pub keys: BTreeMap<(CollectionId, Vec<u8>), [Option<u64>; 2]>,
}

impl Opener {
    /// A difference as it was judged, unless it is tolerated.
    pub(super) fn tolerate(
        &self,
        c: CollectionId,
        key: &[u8],
        (mine, theirs): (Option<&Item>, Option<&Item>),
        judged: Judged,
    ) -> Judged {
        let bare = self.definition.profile == Profile::Content;
        let Some(tolerated) = self.options.tolerated.as_ref().filter(|_| bare) else { return judged };
        let short = |item: Option<&Item>| item.and_then(|item| item.digest).map(|digest| digest.short());
        match tolerated.keys.get(&(c, key.to_vec())) {
            Some(entries) if *entries == [short(mine), short(theirs)] => {
                Judged { kind: Kind::Tolerated, mine_lacks: false, theirs_lacks: false }
            }
            _ => judged,
        }
    }
}
