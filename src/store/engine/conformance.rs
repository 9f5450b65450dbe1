//! What every engine must do, as functions that panic where it does not.
//! It checks the promises at the head of the parent module, save those about crashes, which need a process to kill.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Batch, Durability, Engine, Row, Rows, Snapshot};

/// Opens the engine under test over the same rows each time; the one before was dropped.
pub type Open<'a> = &'a mut dyn FnMut() -> Arc<dyn Engine>;

/// All checks, over fresh rows; `seed` draws the histories.
pub fn run(open: Open<'_>, seed: u64, steps: usize) {
    edges(open);
    histories(open, seed, steps);
}

/// A small repeatable source of numbers (SplitMix64), so that a failure names its seed.
#[derive(Clone, Debug)]
pub struct Draw(pub u64);

impl Draw {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.bits() % bound as u64).unwrap_or(0)
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits().to_le_bytes()[0]).collect()
    }
}

/// The rows that remain are left for [`histories`], which begins with whatever is there.
fn edges(open: Open<'_>) {
    let engine = open();
    let keys: Vec<Vec<u8>> =
        vec![vec![0], vec![0, 0], vec![0, 0xff], vec![1; 3], vec![0xfe; super::ROW_KEY_BYTES_MAX], vec![0xfe, 0xff]];
    let mut batch = Batch::new();
    for (nth, key) in keys.iter().enumerate() {
        batch.put(key, &vec![7; nth * nth * 100]);
    }
    engine.commit(&mut batch, Durability::Synced).expect("commit");
    let snapshot = engine.snapshot().expect("snapshot");
    for (nth, key) in keys.iter().enumerate() {
        assert_eq!(snapshot.get(key).expect("get"), Some(vec![7; nth * nth * 100]));
    }
    assert_eq!(snapshot.get(&[2]).expect("get"), None);
    let found: Vec<Vec<u8>> =
        rows(snapshot.scan(&[0, 0], &[0xfe, 0xff]).expect("scan")).into_iter().map(|row| row.0).collect();
    assert_eq!(found, keys[1..5], "from the start, to just before the end");
    assert!(rows(snapshot.scan(&[5], &[5]).expect("scan")).is_empty());
    assert!(rows(snapshot.scan(&[6], &[5]).expect("scan")).is_empty());
    engine.commit(&mut Batch::new(), Durability::Synced).expect("an empty batch");
}

/// Random batches through the engine and through an ordered map, with snapshots that must stand still, and reopening.
fn histories(open: Open<'_>, seed: u64, steps: usize) {
    let mut draw = Draw(seed);
    let mut engine = open();
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = rows(all(&*engine.snapshot().expect("snapshot"))).into_iter().collect();
    for step in 0..steps {
        let note = format!("seed {seed} step {step}");
        {
            let still = engine.snapshot().expect("snapshot");
            let before = model.clone();
            let mut batch = Batch::new();
            for _ in 0..draw.below(20) {
                let key = {
                    let len = 1 + draw.below(3);
                    let mut key = draw.bytes(len);
                    key.iter_mut().for_each(|byte| *byte %= 4);
                    key
                };
                if draw.below(3) == 0 {
                    model.remove(&key);
                    batch.delete(&key);
                } else {
                    let len = draw.below(50);
                    let value = draw.bytes(len);
                    batch.put(&key, &value);
                    model.insert(key, value);
                }
            }
            let durability = if draw.below(2) == 0 { Durability::Synced } else { Durability::Buffered };
            engine.commit(&mut batch, durability).expect("commit");
            let found: BTreeMap<_, _> = rows(all(&*still)).into_iter().collect();
            assert_eq!(found, before, "{note}: a snapshot moved");
        }
        let snapshot = engine.snapshot().expect("snapshot");
        assert_eq!(
            rows(all(&*snapshot)),
            model.clone().into_iter().collect::<Vec<Row>>(),
            "{note}: the rows are not those written"
        );
        let (from, to) = (draw.bytes(2), draw.bytes(1));
        if from < to {
            assert_eq!(
                rows(snapshot.scan(&from, &to).expect("scan")),
                model.range(from..to).map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<Row>>(),
                "{note}: a part"
            );
        }
        drop(snapshot);
        if draw.below(10) == 0 {
            engine.sync().expect("sync");
            drop(engine);
            engine = open();
        }
    }
}

fn all(snapshot: &dyn Snapshot) -> Rows<'_> {
    snapshot.scan(&[], &[0xff; 16]).expect("scan")
}

fn rows(scan: Rows<'_>) -> Vec<Row> {
    scan.collect::<Result<_, _>>().expect("row")
}
