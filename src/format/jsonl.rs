//! JSON Lines: one object a line.
//!
//! JSON itself is read by the core, so that files and databases agree on its canonical form.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Format, Reason, fits};
use crate::core::row::{COLUMNS_MAX, Json, Row, Value, put_json_string};

/// The names that have come up, in order of first appearance. Beyond the bound of a layout their order is forgotten.
#[derive(Default)]
pub(super) struct Names {
    order: Vec<String>,
    known: BTreeSet<String>,
}

impl Names {
    pub(super) fn in_order(&self) -> &[String] {
        &self.order
    }

    fn see(&mut self, name: &str) {
        if fits(self.order.len()) && !self.known.contains(name) {
            self.order.push(name.to_owned());
            self.known.insert(name.to_owned());
        }
    }
}

/// One line as a row.
pub(super) fn row(line: &[u8], names: &mut Names) -> Result<Row, Reason> {
    let mut row = Row::new();
    for (name, value) in columns(line)? {
        names.see(&name);
        row.set(name, value)?;
    }
    Ok(row)
}

/// One line as columns, in the order of its text.
pub(super) fn columns(line: &[u8]) -> Result<Vec<(String, Value)>, Reason> {
    let malformed = |what: String| Reason::Malformed { format: Format::Jsonl, what };
    let text = std::str::from_utf8(line).map_err(|_| Reason::NotUtf8 { what: "the line".to_owned() })?;
    if text.trim_ascii().is_empty() {
        return Err(malformed("an empty line; each line is one object".to_owned()));
    }
    Json::columns_within(text, COLUMNS_MAX).map_err(|error| malformed(error.to_string()))
}

/// The row as one object without a line end: columns as ordered, then any others by name. Absent ones stay absent.
pub(super) fn object(row: &Row, order: &[String]) -> String {
    let known = order.iter().filter_map(|name| row.get(name).map(|value| (name.as_str(), value)));
    let known: Vec<_> = known.collect();
    let mut others = Vec::new();
    if known.len() < row.columns().len() {
        let ordered: BTreeSet<&str> = order.iter().map(String::as_str).collect();
        others.extend(row.columns().filter(|(name, _)| !ordered.contains(name)));
    }
    let mut out = String::from("{");
    for (name, value) in known.into_iter().chain(others) {
        if out.len() > 1 {
            out.push(',');
        }
        // Writing to a String cannot fail.
        let _ =
            put_json_string(&mut out, name).and_then(|()| out.write_char(':')).and_then(|()| value.put_json(&mut out));
    }
    out.push('}');
    out
}
