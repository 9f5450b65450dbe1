//! The lines of a file, counted and bounded.
//!
//! What a line means is the formats' concern.

use std::io::{BufRead, Read};

use super::{FormatError, LINE_BYTES_MAX, Reason};

/// Lines one after the other; one is held at a time.
pub(super) struct Lines {
    file: String,
    input: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    pub(super) fn new(file: String, input: Box<dyn BufRead + Send>) -> Lines {
        Lines { file, input, line: Vec::new(), number: 0 }
    }

    /// The next line with its line end, if it has one; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, FormatError> {
        self.line.clear();
        self.number += 1;
        let mut bounded = (&mut self.input).take(LINE_BYTES_MAX as u64 + 1);
        let read = bounded.read_until(b'\n', &mut self.line);
        let taken = read.map_err(|error| self.error_at(self.number, Reason::Io(error)))?;
        if taken > LINE_BYTES_MAX {
            return Err(self.error_at(self.number, Reason::LineTooLong));
        }
        if self.line.is_empty() {
            self.number -= 1;
            return Ok(None);
        }
        Ok(Some(&self.line))
    }

    /// Passes over a UTF-8 byte-order mark at the start of the file.
    pub(super) fn skip_byte_order_mark(&mut self) -> Result<(), FormatError> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        let start = match self.input.fill_buf() {
            Ok(start) => start,
            Err(error) => return Err(self.error_at(0, Reason::Io(error))),
        };
        if start.starts_with(MARK) {
            self.input.consume(MARK.len());
        }
        Ok(())
    }

    /// The number of the line that was read last, from 1; 0 before the first.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn error_at(&self, line: u64, reason: Reason) -> FormatError {
        FormatError { file: self.file.clone(), line, reason }
    }
}
