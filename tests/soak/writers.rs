//! Who writes in a soak, at a steady rate over keys that stay the same, and what of it was acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reknit::store::engine::conformance::Draw;

use crate::cluster::{Node, value};

/// Keys that one node alone writes, and those that all do.
const OWN: usize = 300;
const SHARED: usize = 40;
const ROWS: usize = 200;
/// Records of an import.
const BATCH: usize = 25;
/// Between the beginnings of two commands of one writer.
const PACE: Duration = Duration::from_millis(600);

/// What a key may hold: what was acknowledged last, or something that was written since and not acknowledged. None is no value.
type Allowed = Vec<Option<String>>;

/// What one writer has written.
#[derive(Default)]
pub(crate) struct Written {
    own: BTreeMap<String, Allowed>,
    shared: BTreeMap<String, Vec<Option<String>>>,
    pub(crate) acknowledged: u64,
}

impl Written {
    fn wrote(&mut self, key: &str, what: Option<String>, acknowledged: bool) {
        self.acknowledged += u64::from(acknowledged);
        if key.starts_with("shared") {
            self.shared.entry(key.into()).or_default().push(what);
            return;
        }
        let allowed = self.own.entry(key.into()).or_default();
        if allowed.is_empty() {
            allowed.push(None);
        }
        if acknowledged {
            allowed.clear();
        }
        allowed.push(what);
    }
}

/// Writes on one node until it is told to rest, and to end.
pub(crate) fn write(
    node: &Node,
    nth: usize,
    seed: u64,
    rest: &AtomicBool,
    end: &AtomicBool,
    resting: &AtomicU64,
) -> Written {
    let (mut draw, mut written, mut count) = (Draw(seed), Written::default(), 0);
    while !end.load(Ordering::Relaxed) {
        if rest.load(Ordering::SeqCst) {
            resting.fetch_or(1 << nth, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        resting.fetch_and(!(1 << nth), Ordering::SeqCst);
        let began = Instant::now();
        let key = |draw: &mut Draw| match draw.below(10) {
            0 => format!("shared{}", draw.below(SHARED)),
            _ => format!("own{nth}-{}", draw.below(OWN)),
        };
        match draw.below(20) {
            0..4 => {
                let key = key(&mut draw);
                let ran = node.run(&format!("delete s {key}"));
                // There was none, or it is gone now.
                written.wrote(&key, None, [0, 1].contains(&ran.exit));
            }
            4..8 => {
                count += 1;
                let (key, value) = (key(&mut draw), value(&mut draw, count));
                let ran = node.run(&format!("put s {key} {value}"));
                written.wrote(&key, Some(value), ran.exit == 0);
            }
            8..18 => {
                let records: BTreeMap<String, String> = (0..BATCH)
                    .map(|_| {
                        count += 1;
                        (key(&mut draw), value(&mut draw, count))
                    })
                    .collect();
                let lines: String = records.iter().map(|(key, value)| format!("{key}\t{value}\n")).collect();
                let ran = node.fed("import s - --format kv", lines.as_bytes());
                for (key, value) in records {
                    written.wrote(&key, Some(value), ran.exit == 0);
                }
            }
            _ => row(node, &mut draw),
        }
        std::thread::sleep(PACE.saturating_sub(began.elapsed()));
    }
    written
}

/// Changes a table that a job follows.
fn row(node: &Node, draw: &mut Draw) {
    let (id, text) = (draw.below(ROWS), value(draw, 0));
    let table = node.table("left.db");
    let changed = match draw.below(3) {
        0 => table.execute("DELETE FROM rows WHERE id = ?1", [id]),
        _ => table.execute("INSERT OR REPLACE INTO rows VALUES (?1, ?2)", (id, text)),
    };
    changed.expect("a row");
}

/// Panics if something that was acknowledged is not there, on a node that holds these records.
pub(crate) fn assert_nothing_lost(held: &BTreeMap<String, String>, all: &[Written], seed: u64) {
    for (key, allowed) in all.iter().flat_map(|written| &written.own) {
        let is = held.get(key).cloned();
        assert!(allowed.contains(&is), "seed {seed}: {key} is {is:?}, and was written as {allowed:?}");
    }
    for key in all.iter().flat_map(|written| written.shared.keys()) {
        let is = held.get(key).cloned();
        let written = all.iter().filter_map(|written| written.shared.get(key)).flatten();
        assert!(written.into_iter().any(|value| *value == is), "seed {seed}: {key} is {is:?}, which nobody wrote");
    }
    let stands = |key: &&String| key.starts_with("standing");
    assert_eq!(held.keys().filter(stands).count(), crate::cluster::STANDING, "seed {seed}");
}
