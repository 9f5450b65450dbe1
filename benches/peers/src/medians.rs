//! Figures of several seeds become one row each: medians, by set, shape, differences and peer.
//!
//! How rows are shown is left to [`crate::tables`] and [`crate::plot`].

use crate::case::Figures;
use crate::peers;
use crate::workload::{RECORD_BYTES, Shape};

/// The medians of one peer over one kind of set.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The peer's name.
    pub peer: String,
    /// Records in all.
    pub records: usize,
    /// Where the differences lie.
    pub shape: Shape,
    /// Differences that there were.
    pub differences: u64,
    /// Seeds that it is the median of.
    pub seeds: usize,
    /// Bytes both ways except records.
    pub metadata: f64,
    /// One-way flights.
    pub flights: f64,
    /// Records sent without need.
    pub needless: f64,
    /// Records that were missed, the most of any seed.
    pub missed: u64,
    /// CPU time of both sides, in milliseconds.
    pub warm_ms: f64,
    /// The same with building both sides.
    pub cold_ms: f64,
    /// CPU time to build one side, in milliseconds.
    pub build_ms: f64,
    /// CPU time of one update, in microseconds.
    pub update_us: f64,
    /// Bytes of memory a record and side.
    pub memory: Option<f64>,
}

impl Row {
    /// Metadata and the records that were sent without need, in bytes.
    pub fn with_needless(&self) -> f64 {
        self.metadata + self.needless * RECORD_BYTES as f64
    }
}

/// One row for each kind of set and peer: large sets last, shapes in their order, peers in theirs.
pub fn rows(figures: &[Figures]) -> Vec<Row> {
    let order: Vec<&str> = peers::all().iter().map(|kind| kind.name).collect();
    let place = |f: &Figures| {
        let peer = order.iter().position(|name| *name == f.case.peer);
        let shape = Shape::ALL.iter().position(|shape| *shape == f.case.shape);
        (f.case.records, shape, f.differences, peer)
    };
    let mut sorted: Vec<&Figures> = figures.iter().collect();
    sorted.sort_by_key(|f| place(f));
    sorted.chunk_by(|a, b| place(a) == place(b)).map(row).collect()
}

fn row(same: &[&Figures]) -> Row {
    let of = |figure: &dyn Fn(&Figures) -> f64| median(same.iter().map(|f| figure(f)).collect()).unwrap_or_default();
    let case = &same[0].case;
    Row {
        peer: case.peer.clone(),
        records: case.records,
        shape: case.shape,
        differences: same[0].differences,
        seeds: same.len(),
        metadata: of(&|f| f.metadata as f64),
        flights: of(&|f| f64::from(f.flights)),
        needless: of(&|f| f.needless as f64),
        missed: same.iter().map(|f| f.missed).max().unwrap_or_default(),
        warm_ms: of(&|f| f.warm_ms),
        cold_ms: of(&|f| f.cold_ms),
        build_ms: of(&|f| f.build_ms),
        update_us: of(&|f| f.update_us),
        memory: median(same.iter().filter_map(|f| f.memory).collect()),
    }
}

/// The middle of some numbers; of an even count the mean of the two in the middle.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let (low, high) = (numbers.len().checked_sub(1)? / 2, numbers.len() / 2);
    Some((numbers[low] + numbers[high]) / 2.0)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::case::Case;

    /// Figures that tell the peer, the differences and the metadata; the rest is fixed.
    pub fn figures(peer: &str, shape: Shape, differences: u64, seed: u64, metadata: u64) -> Figures {
        Figures {
            case: Case { peer: peer.into(), shape, records: 1000, differences: differences as usize, seed },
            date: "2026-01-01".into(),
            command: "--records 1000".into(),
            differences,
            metadata,
            flights: 3,
            needless: differences / 4,
            missed: 0,
            warm_ms: 1.5,
            cold_ms: 10.0,
            build_ms: 4.0,
            update_us: 2.0,
            memory: Some(40.0),
        }
    }

    #[test]
    fn medians_are_in_the_middle() {
        for (numbers, expected) in
            [(vec![], None), (vec![3.0], Some(3.0)), (vec![9.0, 1.0, 2.0], Some(2.0)), (vec![4.0, 1.0], Some(2.5))]
        {
            assert_eq!(median(numbers), expected);
        }
    }

    #[test]
    fn seeds_become_one_row_and_bytes_add_up() {
        let seeds = [(1, 500), (2, 900), (3, 600)];
        let all: Vec<Figures> =
            seeds.iter().map(|(seed, bytes)| figures("mst", Shape::Scattered, 8, *seed, *bytes)).collect();
        let rows = rows(&all);
        assert_eq!((rows.len(), rows[0].seeds, rows[0].metadata, rows[0].needless), (1, 3, 600.0, 2.0));
        assert_eq!(rows[0].with_needless(), 600.0 + 2.0 * 124.0);
    }

    #[test]
    fn rows_come_in_order() {
        let all = [
            figures("mst", Shape::Scattered, 8, 1, 1),
            figures("reknit", Shape::Tail, 8, 1, 1),
            figures("reknit", Shape::Scattered, 8, 1, 1),
            figures("mst", Shape::Scattered, 0, 1, 1),
        ];
        let order: Vec<_> = rows(&all).into_iter().map(|row| (row.shape, row.differences, row.peer)).collect();
        let expected = [
            (Shape::Scattered, 0, "mst"),
            (Shape::Scattered, 8, "reknit"),
            (Shape::Scattered, 8, "mst"),
            (Shape::Tail, 8, "reknit"),
        ];
        assert_eq!(order, expected.map(|(shape, d, peer)| (shape, d, peer.to_string())));
    }
}
