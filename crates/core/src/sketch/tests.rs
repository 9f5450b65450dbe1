use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::canonical::Reader;
use crate::digest::Digest;

fn sketch(cells: usize, elements: impl IntoIterator<Item = u64>) -> Sketch {
    let mut sketch = Sketch::new(cells);
    elements.into_iter().for_each(|element| sketch.add(Element(scramble(element))));
    sketch
}

proptest! {
    #[test]
    fn the_next_place_is_where_luck_puts_it_rounded_up(place: u32, start: u64, near in 0u64..3) {
        let (place, mut seed) = (f64::from(place), start);
        let drawn = luck(&mut seed);
        prop_assert!(0.0 < drawn && drawn <= 1.0);
        // However little is left of luck to go further, it is another place.
        for luck in [drawn, 1.0 - near as f64 / (1u64 << 53) as f64] {
            let expected = (((place + 1.0) * (place + 2.0) / luck + 0.25).sqrt() - 1.5).ceil().max(place + 1.0);
            prop_assert_eq!(next_place(place, luck), expected);
        }
    }
}

#[test]
fn an_element_carries_the_key_and_tells_two_digests_of_it_apart() {
    let position = Position(0x0123_4567_89ab_cdef);
    let entry = |byte| Entry { position, digest: Digest([byte; 32]) };
    let (old, new) = (Element::of(&entry(1)), Element::of(&entry(2)));
    assert_eq!(old, Element(0x0123_4567_8901_0101));
    assert_ne!(old, new);
    assert_eq!(old.range(), new.range());
    assert!(old.range().contains(position) && old.range().depth() == ELEMENT_DEPTH);
}

proptest! {
    #[test]
    fn elements_come_back_from_their_first_bits(bits in 40u32..=64, drawn in proptest::collection::btree_set(any::<u64>(), 0..50)) {
        let elements: Vec<Element> = drawn.into_iter().map(Element).collect();
        let mut cut: Vec<Element> = elements.iter().map(|element| element.cut(bits)).collect();
        cut.dedup();
        let bits = if elements.is_empty() { 64 } else { bits };
        prop_assert_eq!(unpack_elements(&pack_elements(bits, &elements)), Ok((bits, cut)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_differs_is_peeled_whatever_is_shared(
        shared in 0u64..3000, mine in 0u64..60, theirs in 0u64..60, seed: u32,
    ) {
        let base = u64::from(seed) << 20;
        let (a, b, c) = (base + shared, base + shared + mine, base + shared + mine + theirs);
        let cells = 24 + 3 * (mine + theirs) as usize;
        let mut ours = sketch(cells, base..b);
        let other = sketch(cells, (base..a).chain(b..c));
        ours.subtract(&other);
        let peeled = ours.peel();
        let set = |elements: &[Element]| elements.iter().map(|e| e.0).collect::<BTreeSet<_>>();
        let (alone_here, alone_there) = ((a..b).map(scramble).collect(), (b..c).map(scramble).collect());
        // So many cells nearly always suffice; where they do not, what came off is right all the same.
        prop_assert!(set(&peeled.mine).is_subset(&alone_here) && set(&peeled.theirs).is_subset(&alone_there));
        if peeled.is_complete() {
            prop_assert_eq!((set(&peeled.mine), set(&peeled.theirs)), (alone_here, alone_there));
        }
    }

    #[test]
    fn many_elements_fall_where_each_falls_alone(n in 0u64..40, cells in 0usize..3000, shorter in 0usize..3000, from in 0usize..40) {
        let elements: Vec<(Element, i64)> = (0..n).map(|i| (Element(scramble(i)), i as i64 % 5 - 2)).collect();
        let falls = Falls::new(&elements, cells);
        let of = from.min(elements.len())..elements.len();
        let (mut alone, mut together) = (Sketch::new(shorter.min(cells)), Sketch::new(shorter.min(cells)));
        elements[of.clone()].iter().for_each(|(element, count)| alone.lay(*element, *count));
        together.lay_falls(&falls, of);
        prop_assert_eq!(alone, together);
    }

    #[test]
    fn a_range_is_the_sum_of_its_parts_and_removing_undoes_adding(n in 0u64..500, cut in 0u64..500, cells in 0usize..200) {
        let cut = cut.min(n);
        let mut parts = sketch(cells, 0..cut);
        parts.join(&sketch(cells, cut..n));
        prop_assert_eq!(&parts, &sketch(cells, 0..n));
        for element in cut..n {
            parts.remove(Element(scramble(element)));
        }
        prop_assert_eq!(parts, sketch(cells, 0..cut));
    }

    #[test]
    fn a_prefix_of_a_sketch_is_a_sketch(n in 0u64..300, short in 0usize..100, long in 100usize..300) {
        let mut cut = sketch(long, 0..n);
        cut.join(&Sketch::new(short));
        prop_assert_eq!(cut, sketch(short, 0..n));
    }

    #[test]
    fn cells_of_anyone_are_peeled_to_an_end(cells in proptest::collection::vec((-2i64..3, any::<u64>(), any::<u16>()), 0..200)) {
        let honest = |sum: u64| Element(sum).check();
        let cells: Vec<Cell> = cells
            .into_iter()
            .map(|(count, sum, check)| Cell { count, sum, check: if check % 2 == 0 { honest(sum) } else { check } })
            .collect();
        let limit = cells.len();
        let peeled = Sketch::from_cells(cells).peel();
        prop_assert!(peeled.mine.len() + peeled.theirs.len() <= limit);
    }
}

/// The figures of the paper, and of the prototypes that this design rests on.
#[test]
fn many_differences_cost_about_1_36_cells_each() {
    for (differences, most) in [(10, 2.3), (100, 1.65), (1000, 1.45), (10_000, 1.40)] {
        let mut cells: Vec<usize> = (0..9).map(|seed| needed(differences, seed)).collect();
        cells.sort_unstable();
        let median = cells[cells.len() / 2] as f64 / differences as f64;
        assert!(median <= most, "{median} cells a difference at {differences}");
    }
}

/// The shortest prefix that gives all differences away.
fn needed(differences: u64, seed: u64) -> usize {
    needed_but(differences, 0, seed)
}

/// The shortest prefix that gives all differences away but for a few.
fn needed_but(differences: u64, few: usize, seed: u64) -> usize {
    let base = seed << 32;
    let whole = sketch(24 + 3 * differences as usize, base..base + differences);
    let (mut low, mut high) = ((differences as usize).saturating_sub(few) / 2, whole.cells().len());
    while low < high {
        let middle = (low + high) / 2;
        let prefix = Sketch::from_cells(whole.cells()[..middle].to_vec());
        if prefix.peel().found() + few >= differences as usize { high = middle } else { low = middle + 1 }
    }
    low
}

/// A cell that is sent takes ten bytes and a quarter. A PinSketch beside them would name the last few at eight bytes each, however
/// they lie, but peeling comes to its end nearly at once or hardly begins: by what three sessions in four need it never pays.
#[test]
fn another_sketch_for_the_last_few_saves_nothing() {
    for elements in [125, 1250] {
        let bytes = |few: usize| {
            let mut all: Vec<f64> =
                (0..40).map(|seed| 10.25 * needed_but(elements, few, seed) as f64 + 8.0 * few as f64).collect();
            all.sort_unstable_by(f64::total_cmp);
            all[30] / elements as f64
        };
        let alone = bytes(0);
        assert!((13.5..16.5).contains(&alone), "{alone} bytes an element of {elements}");
        for few in [4, 8, 16] {
            assert!(
                bytes(few) >= 0.99 * alone,
                "{} bytes rather than {alone} with {few} of {elements} named otherwise",
                bytes(few)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn cells_come_back_from_their_bytes(n in 0u64..300, depth in 0u8..=12, bits: u64, from in 0usize..20, cells in 0usize..200) {
        let range = Range::of(Position(bits), depth);
        let mut sketch = Sketch::new(from + cells);
        let below = u64::MAX.checked_shr(4 * u32::from(depth)).unwrap_or(0);
        (0..n).for_each(|nth| sketch.add(Element(range.bits() | scramble(nth) & below)));
        let mut bytes = Vec::new();
        pack(&mut bytes, range, n, from, &sketch.cells()[from..]);
        let mut reader = Reader::new(&bytes);
        let back = unpack(&mut reader, range, n, from, cells).expect("cells");
        prop_assert_eq!(&back, &sketch.cells()[from..]);
        prop_assert!(reader.end().is_ok());
        prop_assert!(unpack(&mut Reader::new(&bytes), range, n, from, cells + 1).is_err());
        let (run, mut bytes) = (CellRun::new(range, n, from, &sketch.cells()[from..]), Vec::new());
        run.encode(&mut bytes);
        let counted = CellRun::counted(range, n, sketch.cells());
        counted.encode(&mut bytes);
        prop_assert_eq!(CellRun::unpack_all(&bytes), Ok(vec![run.clone(), counted]));
        // What travelled of the counts is enough to peel.
        let mut ours = Sketch::new(from + cells);
        (0..n.min(cells as u64 / 4)).for_each(|nth| ours.add(Element(range.bits() | scramble(nth) & below)));
        if from == 0 && n < cells as u64 / 4 {
            let empty = Sketch::from_cells(run.cells);
            ours.subtract(&empty);
            prop_assert_eq!(ours.peel().is_complete(), true);
        }
    }
}

#[test]
fn the_number_of_differences_is_estimated_from_the_counts() {
    for (cells, differences, off) in [(32, 1_000, 0.55), (32, 100_000, 0.6), (1_000, 50_000, 0.45)] {
        for seed in 0..9 {
            let base = seed << 32;
            let mut ours = sketch(cells, base..base + differences / 4);
            ours.subtract(&sketch(cells, base + differences / 4..base + differences));
            let surplus = ours.count();
            let estimate = ours.estimate(surplus) as f64 / differences as f64;
            assert!((estimate - 1.0).abs() < off, "{estimate} of {differences} by {cells} cells");
        }
    }
    assert_eq!(Sketch::new(40).estimate(0), 0);
}

/// Bytes of further counts tell more than the few whole counts do, also where they wrap, which they do one time in a hundred at
/// 125,000.
#[test]
fn what_is_left_of_further_counts_tells_of_many_differences_too() {
    for differences in [1_000u64, 20_000, 125_000, 250_000] {
        let estimates: Vec<f64> = (0..40)
            .map(|seed| {
                let base = seed << 32;
                let mut ours = sketch(192, base..base + differences / 4);
                ours.subtract(&sketch(192, base + differences / 4..base + differences));
                let further: Vec<u8> = ours.cells()[96..].iter().map(|cell| cell.count as u8).collect();
                let (near, surplus) = (Sketch::from_cells(ours.cells()[..28].to_vec()), ours.count());
                near.estimate_with(surplus, 96, &further) as f64 / differences as f64
            })
            .collect();
        let off = (estimates.iter().map(|e| (e - 1.0).powi(2)).sum::<f64>() / 40.0).sqrt();
        assert!(off < 0.18, "off by {off} at {differences}: {estimates:?}");
    }
}

#[test]
fn three_cells_an_element_and_some_nearly_always_suffice() {
    for differences in [1, 29, 100] {
        let cells = 24 + 3 * differences as usize;
        let peels = |seed: &u64| sketch(cells, seed << 20..(seed << 20) + differences).peel().is_complete();
        let complete = (0..2_000).filter(peels).count();
        assert!(complete >= 1_990, "{complete} of 2,000 at {differences}");
    }
}

#[test]
fn enough_cells_are_asked_for() {
    for differences in [1, 5, 10, 50, 100, 1000, 10_000] {
        let enough = (0..20).filter(|seed| needed(differences, *seed) <= cells_for(differences)).count();
        assert!(enough >= 15, "{enough} of 20 at {differences}");
    }
}

#[test]
fn what_is_kept_follows_depth_and_size() {
    let kept = |depth, count| cells_kept(depth, count);
    assert_eq!(
        [0, 127, 128, 511, 512, 2048, 1 << 15, 1 << 40].map(|n| kept(0, n)),
        [0, 0, 64, 128, 256, 1024, 16384, 16384]
    );
    assert_eq!([128, 511, 512, 8192, 1 << 20].map(|n| kept(1, n)), [0, 0, 256, 4096, 4096]);
    assert_eq!([512, 2047, 2048, 1 << 20].map(|n| kept(2, n)), [256, 512, 1024, 1024]);
    assert_eq!([511, 512, 1 << 20].map(|n| kept(3, n)), [0, 256, 256]);
    assert_eq!(kept(4, 1 << 30), 0);
    for depth in 0..5 {
        for count in 0..20_000 {
            assert!(2 * kept(depth, count) as u64 <= count && kept(depth, count) <= kept(depth, count + 1));
        }
    }
}

#[test]
fn how_far_peeling_got_tells_how_much_there_is() {
    for (cells, differences, off) in
        [(150, 125, 0.25), (300, 400, 0.25), (1200, 1250, 0.1), (1500, 1250, 0.1), (5000, 9000, 0.1)]
    {
        for seed in 0..9 {
            let base = seed << 32;
            let peeled = sketch(cells, base..base + differences).peel();
            if let Some(reach) = peeled.reach().filter(|_| peeled.found() >= 12) {
                let ratio = reach as f64 / differences as f64;
                assert!((ratio - 1.0).abs() < off, "{ratio} of {differences} by {cells} cells");
            } else {
                assert!(cells < 400, "{differences} by {cells} cells");
            }
        }
    }
}
