//! How the rows of each collection of a dataset are laid out, as far as one who shows keys knows.

use std::sync::LazyLock;

use reknit_core::CollectionId;

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

fn read(bytes: &[u8]) -> Result<Layout, CliError> {
    Layout::from_bytes(bytes).map_err(|error| CliError::new("store.layout", error.to_string()))
}
