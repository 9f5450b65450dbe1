//! One difference as people and machines see it, with `a` and `b` as they were typed.

use reknit_core::Range;
use reknit_core::agenda::Unproven;
use reknit_core::difference::{Difference, Kind, Side as Seen};
use reknit_core::query::VersionInfo;
use serde_json::{Value, json};

use crate::cli::layouts::Layouts;
use crate::cli::units::show_count;

/// One difference as an object, with `a` and `b` as they were typed.
pub(crate) fn object(difference: &Difference, swapped: bool, layouts: &Layouts, collections: &[String]) -> Value {
    let version = |info: &Option<VersionInfo>| {
        info.as_ref().map(|info| {
            json!({
                "stamp_ms": info.version.stamp.millis(),
                "actor": format!("{:016x}", info.version.actor.0),
                "live": info.content.is_some(),
                "bytes": info.bytes,
                "content": info.content.map(|digest| digest.to_string()[..16].to_string()),
            })
        })
    };
    let (mine, theirs) = (version(&difference.mine), version(&difference.theirs));
    let (a, b) = if swapped { (theirs, mine) } else { (mine, theirs) };
    let hex: String = difference.key.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "t": "difference",
        "op": op(difference.kind, swapped),
        "collection": collections.get(usize::from(difference.collection.0)),
        "key": layouts.of(difference.collection).show_key(&difference.key),
        "key_hex": hex,
        "state": if difference.stable { "stable" } else { "in_flight" },
        "a": a,
        "b": b,
    })
}

/// Ranges in which nothing was proven, for machines; null if there are none.
pub(crate) fn unproven_object(unproven: &Unproven) -> Value {
    if unproven.is_empty() {
        return Value::Null;
    }
    let ranges = unproven.ranges.iter().map(|(name, range)| json!({ "collection": name, "range": range.to_string() }));
    json!({ "ranges": ranges.collect::<Vec<_>>(), "more": unproven.more })
}

/// The same in words.
pub(crate) fn unproven(unproven: &Unproven) -> String {
    let each = |some: &[(String, Range)]| {
        let ranges: Vec<String> = some.iter().map(|(_, range)| range.to_string()).collect();
        match some {
            [(name, Range::ALL)] => format!("all of {name}"),
            [(name, _), ..] => format!("{} of {name}", ranges.join(", ")),
            [] => String::new(),
        }
    };
    let mut all: Vec<String> = unproven.ranges.chunk_by(|(one, _), (other, _)| one == other).map(each).collect();
    if unproven.more > 0 {
        all.push(format!("and {} more", show_count(unproven.more)));
    }
    all.join(" ")
}

/// One difference as a line.
pub(crate) fn line(difference: &Difference, swapped: bool, layouts: &Layouts) -> String {
    let key = layouts.of(difference.collection).show_key(&difference.key);
    let tombstone = |info: &Option<VersionInfo>| info.as_ref().is_some_and(|info| info.content.is_none());
    let deleted = if tombstone(&difference.mine) || tombstone(&difference.theirs) { ", deleted there" } else { "" };
    let flight = if difference.stable { "" } else { " (in flight)" };
    let (sign, words) = match op(difference.kind, swapped) {
        "only_a" => ("-", "only in a".to_string()),
        "only_b" => ("+", "only in b".to_string()),
        "a_newer" => ("*", format!("newer in a{deleted}")),
        "b_newer" => ("*", format!("newer in b{deleted}")),
        "concurrent_a" => ("!", format!("concurrent, newest in a{deleted}")),
        "concurrent_b" => ("!", format!("concurrent, newest in b{deleted}")),
        "tolerated" => ("~", "different content, within tolerance".to_string()),
        "versions" => ("~", "same content under different versions".to_string()),
        _ => ("*", "different content".to_string()),
    };
    format!("{sign} {key}\t{words}{flight}")
}

pub(crate) fn op(kind: Kind, swapped: bool) -> &'static str {
    let a = |side: Seen| (side == Seen::Mine) != swapped;
    match kind {
        Kind::Only(side) => {
            if a(side) {
                "only_a"
            } else {
                "only_b"
            }
        }
        Kind::Newer(side) => {
            if a(side) {
                "a_newer"
            } else {
                "b_newer"
            }
        }
        Kind::Concurrent(side) => {
            if a(side) {
                "concurrent_a"
            } else {
                "concurrent_b"
            }
        }
        Kind::Versions(_) => "versions",
        Kind::Content => "content",
        Kind::Tolerated => "tolerated",
    }
}

/// `s` where there is not exactly one.
pub(crate) fn plural(n: u64) -> &'static str {
    if n == 1 { "" } else { "s" }
}
