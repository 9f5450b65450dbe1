//! Which collections a session is about, what their roots are worth together, and what is allowed on each.

use std::collections::{BTreeMap, BTreeSet};

use crate::dataset::{CollectionId, Definition};
use crate::digest::Keys;
use crate::message::Rights;
use crate::query::Cut;
use crate::tree::Summary;

/// Some or all collections of a dataset, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope(Vec<CollectionId>);

impl Scope {
    /// The collections that are named, or all but that of the members if none is; nothing if the dataset has not got one of them.
    pub(super) fn new(definition: &Definition, named: &[CollectionId]) -> Option<Scope> {
        if named.is_empty() {
            return Some(Scope(definition.data().map(|(id, _)| id).collect()));
        }
        let known = |id: &CollectionId| usize::from(id.0) < definition.collections.len();
        // In the dataset's order, each once.
        let scope: BTreeSet<CollectionId> = named.iter().copied().collect();
        scope.iter().all(known).then(|| Scope(scope.into_iter().collect()))
    }

    /// The one collection, if it is one.
    pub(super) fn only(&self) -> Option<CollectionId> {
        if let [only] = self.0.as_slice() { Some(*only) } else { None }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = CollectionId> {
        self.0.iter().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, collection: CollectionId) -> bool {
        self.0.contains(&collection)
    }

    /// The roots of its collections.
    pub(super) fn roots(&self, cut: &Cut) -> Vec<Summary> {
        self.0.iter().map(|collection| cut.roots.get(usize::from(collection.0)).copied().unwrap_or_default()).collect()
    }

    /// What these roots, one for each of its collections, are worth together. Names are digested with
    /// them, so that one scope's root is never taken for another's.
    pub(super) fn root(&self, keys: &Keys, definition: &Definition, roots: &[Summary]) -> Summary {
        let name = |collection: &CollectionId| definition.collections[usize::from(collection.0)].name.as_str();
        keys.root(&self.0.iter().map(name).zip(roots.iter().copied()).collect::<Vec<_>>())
    }
}

/// The first bytes of the root of the members; 0 where there are none.
pub(super) fn hint(definition: &Definition, cut: &Cut) -> u64 {
    let root = definition.members().and_then(|members| cut.roots.get(usize::from(members.0)));
    root.filter(|root| !root.is_empty()).map_or(0, |root| root.digest.short())
}

/// What the opener is allowed here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Its rights on every collection.
    pub rights: Rights,
    /// Its further rights on some.
    pub collections: BTreeMap<CollectionId, Rights>,
    /// The collection of the members: whoever may read any reads it, and only operators write it.
    pub members: Option<CollectionId>,
}

impl Grant {
    /// The same rights on every collection.
    pub fn everywhere(rights: Rights) -> Grant {
        Grant { rights, collections: BTreeMap::new(), members: None }
    }

    /// What may be done with a collection (M19 for that of the members).
    pub fn on(&self, collection: CollectionId) -> Rights {
        if self.members == Some(collection) {
            let read = self.anywhere().both(Rights::COMPARE.and(Rights::READ));
            let operates = self.rights.allow(Rights::OPERATE);
            return if operates { Rights::ALL } else { read };
        }
        self.rights.and(self.collections.get(&collection).copied().unwrap_or_default())
    }

    /// Of these rights no more than those.
    #[must_use]
    pub fn at_most(self, most: Rights) -> Grant {
        let collections = self.collections.into_iter().map(|(collection, rights)| (collection, rights.both(most)));
        Grant { rights: self.rights.both(most), collections: collections.collect(), ..self }
    }

    /// What may be done with at least one of the collections.
    pub fn anywhere(&self) -> Rights {
        self.collections.values().fold(self.rights, |all, some| all.and(*some))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Collection, DatasetId};

    #[test]
    fn a_scope_names_collections_of_the_dataset_in_its_order() {
        let collections = ["a", "b", "c"].map(|name| Collection { name: name.into(), policy: "newest/1".into() });
        let definition = Definition { collections: collections.into(), ..Definition::simple(DatasetId([1; 16]), "x") };
        let scope = |named: &[u16]| {
            let named: Vec<CollectionId> = named.iter().copied().map(CollectionId).collect();
            Scope::new(&definition, &named).map(|scope| scope.iter().map(|c| c.0).collect::<Vec<_>>())
        };
        assert_eq!(scope(&[]), Some(vec![0, 1, 2]));
        assert_eq!(scope(&[2, 0]), Some(vec![0, 2]));
        assert_eq!(scope(&[1, 1]), Some(vec![1]));
        assert_eq!(scope(&[3]), None);
        let definition = definition.with_members();
        let scope = |named: &[CollectionId]| Scope::new(&definition, named).map(|scope| scope.iter().count());
        assert_eq!((scope(&[]), scope(&[CollectionId(3)])), (Some(3), Some(1)), "members only by name");
    }

    #[test]
    fn at_most_takes_rights_away_everywhere() {
        let grant =
            Grant { rights: Rights::ALL, collections: [(CollectionId(1), Rights::WRITE)].into(), members: None };
        let most = Rights::COMPARE.and(Rights::READ);
        assert_eq!(grant.clone().at_most(most).anywhere(), most);
        assert_eq!(grant.at_most(most).on(CollectionId(1)), most);
    }

    #[test]
    fn members_are_read_by_readers_and_written_by_operators() {
        let (some, members) = (CollectionId(0), CollectionId(1));
        let on_members = |everywhere: Rights, there: Rights| {
            let collections = [(some, there), (members, Rights::ALL)].into();
            Grant { rights: everywhere, collections, members: Some(members) }.on(members)
        };
        let reads = Rights::COMPARE.and(Rights::READ);
        let none = Rights::default();
        assert_eq!(on_members(Rights::OPERATE, none), Rights::ALL);
        assert_eq!(on_members(reads.and(Rights::WRITE), none), reads);
        for there in [reads, none] {
            let grant = Grant { rights: none, collections: [(some, there)].into(), members: Some(members) };
            assert_eq!(grant.on(members), there, "as anywhere else");
        }
    }
}
