//! The pages of a column as they are begun: how much the newest holds is noted for whoever reads its rows.
//!
//! The library holds one page of each column whole. Rows that are read no further than to its end hold nothing beside it: their
//! bytes are parts of the page, or of the dictionary.

use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;

/// How much a page of values holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    /// Its values, those that are NULL among them.
    pub(super) values: usize,
    /// Bytes of them all.
    pub(super) bytes: usize,
    /// Whether each value is told as what it adds to the one before, so that it may be as long as all of the page together, and is
    /// no part of it.
    pub(super) rebuilt: bool,
}

/// The extent of the page that was begun last, until it is taken.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Option<Extent>>>);

impl Begun {
    pub(super) fn take(&self) -> Option<Extent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Pages as another reader has them.
pub(super) struct Pages<P> {
    pages: P,
    begun: Begun,
}

impl<P: PageReader> Pages<P> {
    pub(super) fn new(pages: P, begun: Begun) -> Pages<P> {
        Pages { pages, begun }
    }
}

impl<P: PageReader> Iterator for Pages<P> {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<P: PageReader> PageReader for Pages<P> {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = page.as_ref().filter(|page| page.is_data_page()) {
            let extent = Extent {
                values: page.num_values() as usize,
                bytes: page.buffer().len(),
                rebuilt: page.encoding() == Encoding::DELTA_BYTE_ARRAY,
            };
            *self.begun.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(extent);
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>, ParquetError> {
        self.pages.take_deferred_dictionary()
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.pages.at_record_boundary()
    }
}
