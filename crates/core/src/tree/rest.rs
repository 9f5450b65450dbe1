//! What is left of a range when some of its parts are taken away: two sides whose rests are equal differ nowhere but in those parts.
//!
//! Reads a tree through [`Nodes`] and changes nothing; what the answer proves is the session's concern.

use super::{Nodes, Summary, is_leaf};
use crate::digest::Keys;
use crate::entry::Entry;
use crate::range::Range;

/// The summary that a range worth `summary` would have without the entries in `parts`, which are sorted and lie below it.
///
/// Costs one digest for each node on the paths to the parts, and reads no more than the leaves that are touched, and those
/// that are left where they fit one.
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
    Ok(left(keys, nodes, range, summary, parts)?.0)
}

/// What is left, with its entries where they were read.
type Left = (Summary, Option<Vec<Entry>>);

fn left<N: Nodes>(keys: &Keys, nodes: &N, range: Range, summary: Summary, parts: &[Range]) -> Result<Left, N::Error> {
    if parts.is_empty() || summary.is_empty() {
        return Ok((summary, None));
    }
    if parts.iter().any(|part| part.covers(range)) {
        return Ok((Summary::EMPTY, None));
    }
    if is_leaf(range, summary.count) {
        let mut entries = nodes.entries(range)?;
        entries.retain(|entry| !is_taken(parts, entry));
        return Ok((keys.leaf(range, &entries), Some(entries)));
    }
    let mut children = [Summary::EMPTY; 16];
    let mut read: [Option<Vec<Entry>>; 16] = Default::default();
    for (digit, child) in nodes.children(range)?.into_iter().enumerate() {
        let below = range.child(digit as u8);
        let start = parts.partition_point(|part| part.last() < below.first());
        let end = parts.partition_point(|part| part.first() <= below.last());
        (children[digit], read[digit]) = left(keys, nodes, below, child, &parts[start..end])?;
    }
    let count = children.iter().map(|child| child.count).sum();
    if !is_leaf(range, count) {
        return Ok((keys.inner(range, &children), None));
    }
    // Shape follows from the entries alone: what is left fits a leaf.
    let mut entries = Vec::new();
    for (digit, (child, read)) in (0..).zip(children.iter().zip(read)) {
        match read {
            Some(read) => entries.extend(read),
            None if child.is_empty() => {}
            None => entries.extend(nodes.entries(range.child(digit))?),
        }
    }
    Ok((keys.leaf(range, &entries), Some(entries)))
}

fn is_taken(parts: &[Range], entry: &Entry) -> bool {
    let place = parts.partition_point(|part| part.last() < entry.position);
    parts.get(place).is_some_and(|part| part.contains(entry.position))
}
