//! A consistent copy of an open store, and a store made from such a copy, with a life of its own.
//! Any engine's rows can be copied into any other's; nothing here knows how an engine keeps its files.

use std::path::Path;

use super::open::{claim, mark, marked, revive};
use super::{Options, Store, StoreError};
use crate::store::engine;

impl Store {
    /// Copies the store as of now into `dir`, which must not exist or be empty; writers go on meanwhile. `progress`
    /// hears the rows copied so far. The copy becomes a store only when it is whole and durable.
    ///
    /// The copy is for [`Store::restore`]: it shares this store's life, so it must not be opened as a second store.
    ///
    /// # Errors
    /// [`StoreError::Exists`], or what either engine met.
    pub fn backup(&self, dir: &Path, options: &Options, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        let (to, making) = claim(dir, options)?;
        engine::copy_all(&*self.inner.engine, &*to, progress)?;
        drop(to);
        mark(dir, options.engine)?;
        making.finish()
    }

    /// Copies all rows into another engine, for tests that hurt them there.
    #[doc(hidden)]
    pub fn copy_rows(&self, to: &dyn engine::Engine) -> Result<(), StoreError> {
        Ok(engine::copy_all(&*self.inner.engine, to, &mut |_| ())?)
    }

    /// Makes a store in `dir`, which must not exist or be empty, from the copy in `backup`. It gets a life (an actor)
    /// of its own, so that what it writes is never taken for what the first store wrote since.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`] for the copy, [`StoreError::Exists`], or what either engine met.
    pub fn restore(
        backup: &Path,
        dir: &Path,
        options: &Options,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, StoreError> {
        let from = super::open::open_rows(backup, marked(backup)?, options)?;
        let (to, making) = claim(dir, options)?;
        engine::copy_all(&*from, &*to, progress)?;
        revive(&*to, options)?;
        drop((from, to));
        mark(dir, options.engine)?;
        making.finish()?;
        Self::open(dir, options)
    }
}
