//! What a peer may do here: rights everywhere, on a dataset, or on one collection of it.
//!
//! Written as `[DATASET[/COLLECTION]=]RIGHT`, the same in the file of peers and on the command line.

use std::collections::{BTreeMap, BTreeSet};

use reknit_core::Definition;
use reknit_core::message::Rights;
use reknit_core::session::Grant;

/// A set of rights, each somewhere. Datasets and collections are told by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeMap<String, Rights>);

/// Text that names no right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no right; compare, read, write and operate are, alone or as DATASET=RIGHT or DATASET/COLLECTION=RIGHT"
)]
pub struct GrantsError(String);

impl Grants {
    /// The same rights, and those of `other`.
    pub fn and(mut self, other: &Grants) -> Grants {
        for (place, rights) in &other.0 {
            let here = self.0.entry(place.clone()).or_default();
            *here = here.and(*rights);
        }
        self
    }

    /// What both allow.
    pub fn both(&self, other: &Grants) -> Grants {
        let places = self.0.keys().chain(other.0.keys());
        let both = |place: &String| (place.clone(), self.reach(place).both(other.reach(place)));
        let all = Grants(places.map(both).collect());
        // What a wider place allows is not said again.
        let more = |(place, rights): &(&String, &Rights)| {
            let wider = all.reach_around(place);
            wider.and(**rights) != wider
        };
        Grants(all.0.iter().filter(more).map(|(place, rights)| (place.clone(), *rights)).collect())
    }

    /// Those that name no place are meant for this dataset alone.
    pub fn within(self, dataset: &str) -> Grants {
        self.0.into_iter().fold(Grants::default(), |all, (place, rights)| {
            let place = if place.is_empty() { dataset.to_string() } else { place };
            all.and(&Grants(BTreeMap::from([(place, rights)])))
        })
    }

    /// The same without those on datasets, or everywhere, that `other` says anything of.
    pub(super) fn beside(mut self, other: &Grants) -> Grants {
        let dataset = |place: &str| place.split('/').next().unwrap_or_default().to_string();
        let said: BTreeSet<String> = other.0.keys().map(|place| dataset(place)).collect();
        self.0.retain(|place, _| !said.contains("") && !said.contains(&dataset(place)));
        self
    }

    /// What they allow on a dataset.
    pub fn on(&self, definition: &Definition) -> Grant {
        let at = |place: &str| self.0.get(place).copied().unwrap_or_default();
        let mut grant = Grant::everywhere(at("").and(at(&definition.name)));
        for collection in &definition.collections {
            let rights = at(&format!("{}/{}", definition.name, collection.name));
            if let (Some(id), true) = (definition.collection(&collection.name), rights != Rights::default()) {
                grant.collections.insert(id, rights);
            }
        }
        grant
    }

    /// What is allowed at a place: there, or around it.
    fn reach(&self, place: &str) -> Rights {
        self.reach_around(place).and(self.0.get(place).copied().unwrap_or_default())
    }

    /// What is allowed around a place: in the dataset that it is of, or everywhere.
    fn reach_around(&self, place: &str) -> Rights {
        let around = [place.split_once('/').map(|(dataset, _)| dataset), (!place.is_empty()).then_some("")];
        let at = |place: &str| self.0.get(place).copied().unwrap_or_default();
        around.into_iter().flatten().map(at).fold(Rights::default(), Rights::and)
    }

    /// Whether nothing is allowed anywhere.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|rights| *rights == Rights::default())
    }

    /// Each as it is written.
    pub fn names(&self) -> Vec<String> {
        let at = |place: &String, right: &str| if place.is_empty() { right.into() } else { format!("{place}={right}") };
        self.0
            .iter()
            .flat_map(|(place, rights)| rights.names().into_iter().map(move |right| at(place, right)))
            .collect()
    }
}

impl From<Rights> for Grants {
    fn from(rights: Rights) -> Grants {
        Grants(BTreeMap::from([(String::new(), rights)]))
    }
}

impl std::str::FromStr for Grants {
    type Err = GrantsError;

    /// Several, with commas between them.
    fn from_str(text: &str) -> Result<Grants, GrantsError> {
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).try_fold(Grants::default(), |all, name| {
            let (place, right) = name.rsplit_once('=').unwrap_or(("", name));
            let right = Rights::named(right).ok_or_else(|| GrantsError(name.into()))?;
            Ok(all.and(&Grants(BTreeMap::from([(place.into(), right)]))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reknit_core::dataset::Collection;
    use reknit_core::{CollectionId, DatasetId};

    proptest::proptest! {
        #[test]
        fn what_both_allow_is_allowed_by_each(
            one in proptest::collection::vec((0usize..5, 0usize..4), 0..6), other in proptest::collection::vec((0usize..5, 0usize..4), 0..6),
        ) {
            let places = ["", "shop=", "shop/users=", "shop/orders=", "other="];
            let rights = ["compare", "read", "write", "operate"];
            let grants = |of: &[(usize, usize)]| {
                let names: Vec<String> = of.iter().map(|(place, right)| format!("{}{}", places[*place], rights[*right])).collect();
                names.join(",").parse::<Grants>().expect("understood")
            };
            let collections = ["users", "orders"].map(|name| Collection { name: name.into(), policy: "newest/1".into() });
            let shop = Definition { collections: collections.into(), ..Definition::simple(DatasetId([1; 16]), "shop") };
            let (one, other) = (grants(&one), grants(&other));
            let both = one.both(&other);
            for definition in [shop, Definition::simple(DatasetId([2; 16]), "other"), Definition::simple(DatasetId([3; 16]), "new")] {
                for at in (0..definition.collections.len()).map(|nth| CollectionId(nth as u16)) {
                    let on = |grants: &Grants| grants.on(&definition).on(at);
                    proptest::prop_assert_eq!(on(&both), on(&one).both(on(&other)), "{:?}", both.names());
                }
            }
            proptest::prop_assert_eq!(both.names().join(",").parse::<Grants>().expect("understood"), both.clone());
            // It says nothing twice, so that whoever is cut by nothing keeps what it had.
            proptest::prop_assert_eq!(both.both(&both), both);
        }
    }

    #[test]
    fn what_is_decided_counts_where_nothing_was_granted() {
        let grants = |text: &str| text.parse::<Grants>().expect("understood");
        let decided = grants("shop=write,shop/users=read,other=read");
        for (granted, left) in [
            ("", "shop=write,shop/users=read,other=read"),
            ("shop=compare", "other=read"),
            ("other/notes=compare", "shop=write,shop/users=read"),
            ("compare", ""),
        ] {
            assert_eq!(decided.clone().beside(&grants(granted)), grants(left), "{granted}");
        }
    }

    #[test]
    fn a_right_holds_where_it_was_granted_and_nowhere_else() {
        let collections = ["users", "orders"].map(|name| Collection { name: name.into(), policy: "newest/1".into() });
        let shop = Definition { collections: collections.into(), ..Definition::simple(DatasetId([1; 16]), "shop") };
        let other = Definition::simple(DatasetId([2; 16]), "other");
        let grants: Grants = "compare, shop=read,shop/orders=write,shop/orders=read".parse().expect("understood");
        assert_eq!(grants.names(), ["compare", "shop=read", "shop/orders=read", "shop/orders=write"]);
        assert_eq!(grants.names().join(",").parse(), Ok(grants.clone()));
        assert_eq!(grants.on(&shop).on(CollectionId(0)), Rights::COMPARE.and(Rights::READ));
        assert_eq!(grants.on(&shop).on(CollectionId(1)), Rights::COMPARE.and(Rights::READ).and(Rights::WRITE));
        assert_eq!(grants.on(&other).anywhere(), Rights::COMPARE);
        let invited = "read".parse::<Grants>().expect("understood").within("shop");
        assert_eq!(invited.on(&other).anywhere(), Rights::default());
        assert_eq!(invited.on(&shop).anywhere(), Rights::READ);
        assert!("".parse::<Grants>().expect("nothing").is_empty());
        assert_eq!("shop=fly".parse::<Grants>(), Err(GrantsError("shop=fly".into())));
    }
}
