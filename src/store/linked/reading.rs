//! Rows of a table on their way into its index: encoded and digested on a thread of their own, while others are read and
//! those before them are sorted. How they are had is for the adapters, what becomes of the digests for the index.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::Scope;

use super::index::FIRST;
use super::{Linked, Page, Pages, Rows};
use crate::store::StoreError;
use crate::store::embedded::BareRows;

/// Rows of a page, where an adapter has none of its own, and how many pages one thread may be ahead of the next.
const PAGE_ROWS: usize = 1_024;
const PAGES_AHEAD: usize = 4;

/// Rows, some at a time.
pub(super) fn in_pages(mut rows: Rows<'_>) -> Pages<'_> {
    Box::new(std::iter::from_fn(move || {
        let page: Vec<_> = rows.by_ref().take(PAGE_ROWS).collect();
        (!page.is_empty()).then(|| Ok(Page { rows: Box::new(page.into_iter()), upto: None }))
    }))
}

/// Rows of pages, one by one.
#[cfg(any(feature = "linked-postgres", feature = "linked-sqlite"))]
pub(super) fn in_rows(pages: Pages<'_>) -> Rows<'_> {
    Box::new(
        pages.flat_map(|page| {
            page.map_or_else(|error| Box::new(std::iter::once(Err(error))) as Rows<'_>, |page| page.rows)
        }),
    )
}

impl Linked {
    /// What the index is to hold of rows that come in pages. The thread that takes, encodes and digests them ends with `scope`,
    /// at the latest: values live and die on it, since memory that one thread gives back for another makes both wait.
    pub(super) fn digested<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        pages: Pages<'env>,
    ) -> impl Iterator<Item = Result<BareRows, StoreError>> + use<'scope, 'env> {
        let (made, ready) = sync_channel(PAGES_AHEAD);
        scope.spawn(move || self.digest_pages(pages, &made));
        // A thread that panics does not say that it has given all.
        let panicked = || Some(Err(StoreError::Panicked("reading a table".into())));
        std::iter::from_fn(move || ready.recv().unwrap_or_else(|_| panicked()))
    }

    /// Gives none once all were given, and ends early once nobody takes them.
    fn digest_pages(&self, pages: Pages<'_>, made: &SyncSender<Option<Result<BareRows, StoreError>>>) {
        let (definition, mut counting) = (self.index().definition(), Vec::new());
        let name = &definition.collections[usize::from(FIRST.0)].name;
        let mut digested = |page: Page| {
            let mut rows = BareRows::default();
            rows.upto = page.upto;
            for values in page.rows {
                self.pace.goes_on()?;
                let key = self.shape().counted(values?, &mut counting).map_err(|error| self.unlike(&error))?;
                rows.push(self.keys.position(name, &key), &key, &self.keys.content(&counting).0);
            }
            Ok(rows)
        };
        let all = pages.map(|page| Some(page.and_then(&mut digested))).chain([None]);
        // Whoever has gone needs them no more.
        let _ = all.map(|rows| made.send(rows)).find(Result::is_err);
    }
}
