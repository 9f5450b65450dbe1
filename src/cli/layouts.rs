//! How the rows of each collection of a dataset are laid out, as far as one who shows keys knows.

use std::sync::LazyLock;

use reknit_core::{CollectionId, Sibling, row};

use super::CliError;
use crate::format::Layout;
use crate::node::HeldStore;
use crate::store::{Collection, Store};

/// The layouts of a dataset's collections, by their places; there is always a first.
#[derive(Clone, Debug)]
pub(crate) struct Layouts(Vec<Layout>);

impl Layouts {
    /// Of a dataset of one collection.
    pub(crate) fn one(layout: Layout) -> Self {
        Self(vec![layout])
    }

    /// Of the dataset of a store.
    pub(crate) fn of_store(store: &Store) -> Result<Self, CliError> {
        let names = store.definition().collections.iter().map(|collection| collection.name.as_str());
        names.map(|name| of_collection(&store.collection(name)?)).collect::<Result<_, _>>().map(Self)
    }

    /// As a node tells them of a store that it holds.
    pub(crate) fn told(held: &HeldStore) -> Result<Self, CliError> {
        let first = held.layout.as_deref().unwrap_or_default();
        let all = std::iter::once(first).chain(held.others.iter().map(|bytes| bytes.as_slice()));
        all.map(read).collect::<Result<_, _>>().map(Self)
    }

    /// That of a collection.
    pub(crate) fn of(&self, collection: CollectionId) -> &Layout {
        self.at(usize::from(collection.0))
    }

    /// The same by its place. Where nothing is known of it, rows are shown as they are kept.
    pub(crate) fn at(&self, place: usize) -> &Layout {
        static RAW: LazyLock<Layout> = LazyLock::new(Layout::raw);
        self.0.get(place).unwrap_or(&RAW)
    }

    /// That of the first collection.
    pub(crate) fn first(&self) -> &Layout {
        self.at(0)
    }
}

/// How the rows of a collection are laid out.
pub(crate) fn of_collection(collection: &Collection) -> Result<Layout, CliError> {
    read(&collection.layout()?.unwrap_or_default())
}

/// The layout of a collection that keeps none yet, if all that it holds are rows of this one: with their columns besides.
///
/// They came from another store, which did not say how they are laid out.
pub(crate) fn fitted(collection: &Collection, layout: &Layout) -> Result<Option<Layout>, CliError> {
    let mut fitted = layout.clone();
    for record in collection.scan_positions() {
        let (_, record) = record?;
        let values = record.state.versions().iter().filter_map(Sibling::value);
        if !values.into_iter().all(|value| fitted.takes_in(&record.key, value)) {
            return Ok(None);
        }
    }
    Ok(Some(fitted))
}

/// Whether a collection that keeps no layout begins with a row of a file.
pub(crate) fn lacks_one(collection: &Collection) -> Result<bool, CliError> {
    if collection.layout()?.is_some() {
        return Ok(false);
    }
    let Some(first) = collection.scan_positions().next() else { return Ok(false) };
    let (_, record) = first?;
    let is_row = |value: &Vec<u8>| row::decode(value).is_ok();
    let key = row::decode_key(&record.key).is_ok_and(|parts| !parts.is_empty());
    Ok(key && record.state.versions().iter().filter_map(Sibling::value).any(is_row))
}

fn read(bytes: &[u8]) -> Result<Layout, CliError> {
    Layout::from_bytes(bytes).map_err(|error| CliError::new("store.layout", error.to_string()))
}
