//! Cells of anyone: they are unpacked, subtracted and peeled to an end, and whatever travels comes back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reknit_core::mark::{Grain, pack_marks, unpack_marks, unpack_places};
use reknit_core::sketch::{CellRun, Element, Sketch, pack_elements, unpack_elements};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => {
            let Ok(runs) = CellRun::unpack_all(bytes) else { return };
            let mut again = Vec::new();
            runs.iter().for_each(|run| run.encode(&mut again));
            assert_eq!(CellRun::unpack_all(&again).as_ref(), Ok(&runs));
            for run in runs {
                let mut own = Sketch::new(run.cells.len());
                (0..run.count.min(500)).for_each(|n| own.add(Element(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
                own.subtract(&Sketch::from_cells(run.cells));
                let cells = own.cells().len();
                let peeled = own.peel();
                assert!(peeled.mine.len() + peeled.theirs.len() <= cells);
                let _ = (peeled.reach(), peeled.rest.estimate(run.count as i64));
            }
        }
        1 => {
            if let Ok((bits, elements)) = unpack_elements(bytes) {
                assert_eq!(unpack_elements(&pack_elements(bits, &elements)), Ok((bits, elements)));
            }
        }
        2 => {
            if let Ok(marks) = unpack_marks(bytes) {
                let again = unpack_marks(&pack_marks(&marks.list, Grain::Each));
                assert_eq!(again.map(|marks| marks.list), Ok(marks.list));
            }
        }
        _ => {
            let _ = unpack_places(bytes, 1000);
        }
    }
});
