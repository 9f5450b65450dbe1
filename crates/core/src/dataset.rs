//! What a dataset is: an identity, a profile of digests, its collections and their policies.
//!
//! Both sides of a session must hold the same definition; the secret key travels apart ([`crate::digest::DatasetKey`]).

use serde::{Deserialize, Serialize};

use crate::bounds::{COLLECTIONS_MAX, NAME_BYTES_MAX, POLICY_BYTES_MAX};
use crate::canonical::{Blob, DecodeError};
use crate::digest::{Digest, Keys};
use crate::members::MEMBERS;
use crate::record::Keeps;
use crate::tree::Summary;

const DEFINITION_FORMAT: u8 = 1;
/// Collections that are named where definitions differ in many.
const APART_SHOWN: usize = 8;

/// The identity of a dataset: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DatasetId(pub [u8; 16]);

impl std::fmt::Display for DatasetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for DatasetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DatasetId({self})")
    }
}

/// What an entry digest covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// Key, versions with content or tombstone, expiry: for stores of our own.
    Versioned,
    /// Key and content of live records only: for stores of different kinds.
    Content,
}

/// A named part of a dataset with a tree of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Its name, unique in the dataset.
    pub name: String,
    /// The policy that makes one value of concurrent versions, by id.
    pub policy: String,
}

/// The place of a collection in [`Definition::collections`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CollectionId(pub u16);

/// The definition of a dataset. Equal bytes on both sides, or no session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its identity.
    pub id: DatasetId,
    /// Its name, for people.
    pub name: String,
    /// What digests cover.
    pub profile: Profile,
    /// Its collections, in a fixed order.
    pub collections: Vec<Collection>,
    /// Whether stores keep an index by key, so that records can be listed in key order.
    pub key_index: bool,
}

impl Definition {
    /// A dataset of one collection named `default` under `newest`, versioned, with an index by key.
    pub fn simple(id: DatasetId, name: &str) -> Definition {
        let collections = vec![Collection { name: "default".into(), policy: crate::policy::NEWEST.into() }];
        Definition { id, name: name.into(), profile: Profile::Versioned, collections, key_index: true }
    }

    /// The collection of this name.
    pub fn collection(&self, name: &str) -> Option<CollectionId> {
        let place = self.collections.iter().position(|c| c.name == name)?;
        u16::try_from(place).ok().map(CollectionId)
    }

    /// The same with a collection for its members, which is the last.
    #[must_use]
    pub fn with_members(mut self) -> Definition {
        self.collections.push(Collection { name: MEMBERS.into(), policy: crate::policy::NEWEST.into() });
        self
    }

    /// The collection that holds its members, if it has one.
    pub fn members(&self) -> Option<CollectionId> {
        self.collection(MEMBERS)
    }

    /// The collections that hold data, each with its id: all but that of the members.
    pub fn data(&self) -> impl Iterator<Item = (CollectionId, &Collection)> {
        (0..).map(CollectionId).zip(&self.collections).filter(|(_, collection)| collection.name != MEMBERS)
    }

    /// Whether a collection is there and holds data.
    pub fn is_data(&self, id: CollectionId) -> bool {
        self.collections.get(usize::from(id.0)).is_some_and(|collection| collection.name != MEMBERS)
    }

    /// The root of the data, of the roots of all collections in their order.
    pub fn data_root(&self, keys: &Keys, roots: &[Summary]) -> Summary {
        let named = self.data().filter_map(|(id, of)| Some((of.name.as_str(), *roots.get(usize::from(id.0))?)));
        keys.root(&named.collect::<Vec<_>>())
    }

    /// What replicas keep of concurrent versions in a collection, which must be there.
    pub fn keeps(&self, collection: CollectionId) -> Keeps {
        match self.profile {
            // Without versions there is one value.
            Profile::Content => Keeps::Newest,
            Profile::Versioned => crate::policy::keeps(&self.collections[usize::from(collection.0)].policy),
        }
    }

    /// Whether stamps alone tell which record of a collection wins.
    pub fn ranks(&self, collection: CollectionId) -> bool {
        self.profile == Profile::Versioned && self.keeps(collection) == Keeps::Newest
    }

    /// Its canonical bytes: a format version, then MessagePack.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![DEFINITION_FORMAT];
        // Strings, lists and unit variants cannot fail to serialise into memory.
        out.extend(rmp_serde::to_vec(self).expect("a definition is plain data"));
        out
    }

    /// Reads a definition back and checks its bounds.
    ///
    /// # Errors
    /// [`DecodeError::Version`] for a later format, [`DecodeError`] for anything but the bytes of a definition within its
    /// bounds.
    pub fn decode(bytes: &[u8]) -> Result<Definition, DecodeError> {
        let (format, body) = bytes.split_first().ok_or(DecodeError::Truncated)?;
        if *format != DEFINITION_FORMAT {
            return Err(DecodeError::Version(*format));
        }
        let definition: Definition =
            rmp_serde::from_slice(body).map_err(|_| DecodeError::Malformed("definition of a dataset"))?;
        definition.check()?;
        if definition.encode() == bytes {
            Ok(definition)
        } else {
            Err(DecodeError::Malformed("definition of a dataset"))
        }
    }

    /// Checks names and counts against their bounds.
    ///
    /// # Errors
    /// [`DecodeError`] for the first that is beyond its bound, or that is no name.
    pub fn check(&self) -> Result<(), DecodeError> {
        let bound = |what, found: usize, limit: usize| match found <= limit {
            true => Ok(()),
            false => Err(DecodeError::Bound { what, found: found as u64, limit: limit as u64 }),
        };
        bound("collections of a dataset", self.collections.len(), COLLECTIONS_MAX)?;
        bound("bytes of a dataset's name", self.name.len(), NAME_BYTES_MAX)?;
        for (i, collection) in self.collections.iter().enumerate() {
            bound("bytes of a collection's name", collection.name.len(), NAME_BYTES_MAX)?;
            bound("bytes of a policy's name", collection.policy.len(), POLICY_BYTES_MAX)?;
            let last = i > 0 && i + 1 == self.collections.len();
            let members = collection.name == MEMBERS && last && self.profile == Profile::Versioned;
            if collection.name.starts_with('.') && !(members && collection.policy == crate::policy::NEWEST) {
                return Err(DecodeError::Malformed("a collection whose name begins with a dot"));
            }
            if self.collections[..i].iter().any(|earlier| earlier.name == collection.name) {
                return Err(DecodeError::Malformed("two collections of one name"));
            }
        }
        if self.collections.is_empty() { Err(DecodeError::Malformed("dataset without a collection")) } else { Ok(()) }
    }

    /// What two sides compare to know that they mean the same dataset.
    pub fn hash(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("reknit 2026 v1 definition");
        hasher.update(&self.encode());
        Digest(*hasher.finalize().as_bytes())
    }

    /// The first half of that, which an opening tells: enough to tell any two apart.
    pub fn short_hash(&self) -> Blob {
        Blob(self.hash().0[..16].to_vec())
    }

    /// The names of the fields in which `other`, of the other side, differs; of collections which they are, with the policies
    /// of both sides where those differ.
    pub fn differences(&self, other: &Definition) -> Vec<String> {
        let fields = [
            ("id", self.id != other.id),
            ("name", self.name != other.name),
            ("profile", self.profile != other.profile),
            ("key_index", self.key_index != other.key_index),
        ];
        let named = fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_string());
        named.chain(self.collections_apart(other)).collect()
    }

    fn collections_apart(&self, other: &Definition) -> Vec<String> {
        let named =
            |of: &Definition, name: &str| of.collection(name).map(|id| of.collections[usize::from(id.0)].clone());
        let mut apart = Vec::new();
        for Collection { name, policy } in &self.collections {
            let shown = name.escape_debug();
            match named(other, name) {
                None => apart.push(format!("collection {shown} (only here)")),
                Some(theirs) if theirs.policy != *policy => {
                    let (here, there) = (policy.escape_debug(), theirs.policy.escape_debug());
                    apart.push(format!("policy of {shown} ({here} here, {there} there)"));
                }
                Some(_) => {}
            }
        }
        let only_there = other.collections.iter().filter(|theirs| named(self, &theirs.name).is_none());
        apart.extend(only_there.map(|theirs| format!("collection {} (only there)", theirs.name.escape_debug())));
        if apart.is_empty() && self.collections != other.collections {
            apart.push("order of the collections".into());
        }
        if apart.len() > APART_SHOWN {
            let more = apart.len() - APART_SHOWN;
            apart.truncate(APART_SHOWN);
            apart.push(format!("{more} more"));
        }
        apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::DatasetKey;

    #[test]
    fn a_definition_comes_back_and_its_hash_tells_every_field() {
        let a = Definition::simple(DatasetId([7; 16]), "cities");
        assert_eq!(Definition::decode(&a.encode()), Ok(a.clone()));
        let others = [
            Definition { id: DatasetId([8; 16]), ..a.clone() },
            Definition { name: "towns".into(), ..a.clone() },
            Definition { profile: Profile::Content, ..a.clone() },
            Definition { key_index: false, ..a.clone() },
            Definition { collections: vec![Collection { name: "x".into(), policy: "newest".into() }], ..a.clone() },
        ];
        for other in others {
            assert_ne!(a.hash(), other.hash());
            assert_ne!(a.differences(&other), Vec::<String>::new());
        }
    }

    #[test]
    fn only_members_may_be_named_with_a_dot_and_only_as_the_last() {
        let a = Definition::simple(DatasetId([7; 16]), "cities");
        let with = a.clone().with_members();
        assert_eq!((a.members(), with.members()), (None, Some(CollectionId(1))));
        assert_eq!(Definition::decode(&with.encode()), Ok(with.clone()));
        let mut first = with.clone();
        first.collections.reverse();
        let mut kept = with.clone();
        kept.collections[1].policy = "keep-both/1".into();
        let mut other = with.clone();
        other.collections[1].name = ".other".into();
        let alone = Definition { collections: vec![with.collections[1].clone()], ..with.clone() };
        for wrong in [first, kept, other, alone, Definition { profile: Profile::Content, ..with }] {
            assert!(matches!(Definition::decode(&wrong.encode()), Err(DecodeError::Malformed(_))), "{wrong:?}");
        }
    }

    #[test]
    fn data_is_all_but_the_members() {
        let with = Definition::simple(DatasetId([7; 16]), "cities").with_members();
        let ids: Vec<CollectionId> = with.data().map(|(id, _)| id).collect();
        assert_eq!(ids, [CollectionId(0)]);
        assert_eq!([0, 1, 2].map(|id| with.is_data(CollectionId(id))), [true, false, false]);
        let keys = Keys::new(&DatasetKey::from_bytes([1; 32]));
        let roots = |members: u8| [1, members].map(|byte| Summary { digest: Digest([byte; 32]), count: 1 });
        assert_eq!(with.data_root(&keys, &roots(2)), with.data_root(&keys, &roots(3)));
        assert_eq!(with.data_root(&keys, &roots(2)), keys.root(&[("default", roots(2)[0])]));
    }

    #[test]
    fn collections_that_differ_are_named_with_both_policies() {
        let of = |collections: &[(&str, &str)]| Definition {
            collections: collections
                .iter()
                .map(|(name, policy)| Collection { name: (*name).into(), policy: (*policy).into() })
                .collect(),
            ..Definition::simple(DatasetId([7; 16]), "cities")
        };
        let here = of(&[("orders", "newest/1"), ("users", "ask/1"), ("notes", "newest/1")]);
        assert_eq!(here.differences(&here), Vec::<String>::new());
        let there = of(&[("orders", "keep-both/1"), ("users", "ask/1"), ("tags", "newest/1")]);
        let told = [
            "policy of orders (newest/1 here, keep-both/1 there)",
            "collection notes (only here)",
            "collection tags (only there)",
        ];
        assert_eq!(here.differences(&there), told);
        let turned = of(&[("users", "ask/1"), ("orders", "newest/1"), ("notes", "newest/1")]);
        assert_eq!(here.differences(&turned), ["order of the collections"]);
        let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let many = of(&names.iter().map(|name| (name.as_str(), "newest/1")).collect::<Vec<_>>());
        assert_eq!(here.differences(&many).last().map(String::as_str), Some("15 more"));
    }

    #[test]
    fn two_collections_of_one_name_are_refused() {
        let mut a = Definition::simple(DatasetId([7; 16]), "cities");
        a.collections.push(a.collections[0].clone());
        assert_eq!(Definition::decode(&a.encode()), Err(DecodeError::Malformed("two collections of one name")));
    }
}
