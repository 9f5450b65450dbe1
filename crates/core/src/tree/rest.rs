//! What is left of a range when some of its parts are taken away: two sides whose rests are equal differ nowhere but in those parts.
//!
//! Reads a tree through [`Nodes`] and changes nothing; what the answer proves is the session's concern.

use super::{Nodes, Summary, is_leaf};
use crate::digest::Keys;
use crate::entry::Entry;
use crate::range::Range;

/// The summary that a range worth `summary` would have without the entries in `parts`, which are sorted and lie below it.
///
/// Costs one digest for each node on the paths to the parts, and one leaf read for each leaf touched.
///
/// # Errors
/// What `nodes` says.
pub fn rest<N: Nodes>(
    keys: &Keys,
    nodes: &N,
    range: Range,
    summary: Summary,
    parts: &[Range],
) -> Result<Summary, N::Error> {
    if parts.is_empty() || summary.is_empty() {
        return Ok(summary);
    }
    if parts.iter().any(|part| part.covers(range)) {
        return Ok(Summary::EMPTY);
    }
    if is_leaf(range, summary.count) {
        return Ok(keys.leaf(range, &left(nodes, range, parts)?));
    }
    let mut children = nodes.children(range)?;
    for (digit, child) in children.iter_mut().enumerate() {
        let below = range.child(digit as u8);
        let start = parts.partition_point(|part| part.last() < below.first());
        let end = parts.partition_point(|part| part.first() <= below.last());
        *child = rest(keys, nodes, below, *child, &parts[start..end])?;
    }
    let count = children.iter().map(|child| child.count).sum();
    if is_leaf(range, count) {
        // Shape follows from the entries alone: what is left fits a leaf.
        return Ok(keys.leaf(range, &left(nodes, range, parts)?));
    }
    Ok(keys.inner(range, &children))
}

fn left<N: Nodes>(nodes: &N, range: Range, parts: &[Range]) -> Result<Vec<Entry>, N::Error> {
    let mut entries = nodes.entries(range)?;
    let taken = |entry: &Entry| {
        let place = parts.partition_point(|part| part.last() < entry.position);
        parts.get(place).is_some_and(|part| part.contains(entry.position))
    };
    entries.retain(|entry| !taken(entry));
    Ok(entries)
}
