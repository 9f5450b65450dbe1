//! The rows of sketches: cells as they were folded, and the tail of changes since then.
//! What is folded when, and how the two make a range's sketch, is left to [`super::super::sketches`].

use reknit_core::canonical::{Reader, put_varint};
use reknit_core::sketch::{Element, KEPT_DEPTH_MAX, Sketch, cells_kept, pack, unpack};
use reknit_core::{CollectionId, DecodeError, Range};

use super::{CELLS, TAIL, after_all, head};
use crate::store::StoreError;
use crate::store::engine::{Batch, EngineError, Row, Snapshot};

const CELLS_VERSION: u8 = 1;
const TAIL_VERSION: u8 = 1;

/// Cells that one row holds; the rest of a range's cells lie in the rows after it.
pub(in super::super) const ROW_CELLS_MAX: usize = 1024;
const ELEMENT_BYTES: usize = 8;

/// What was folded of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Folded {
    /// Its elements.
    pub(in super::super) count: u64,
    /// How many cells are kept of it.
    pub(in super::super) cells: usize,
    /// The first of them, as far as they were asked for.
    pub(in super::super) sketch: Sketch,
}

/// One row of cells.
struct Piece {
    range: Range,
    from: usize,
    folded: Folded,
}

fn row(collection: CollectionId, range: Range, from: usize) -> Vec<u8> {
    let mut row = range_row(collection, range);
    row.extend_from_slice(&u16::try_from(from).unwrap_or(u16::MAX).to_be_bytes());
    row
}

fn range_row(collection: CollectionId, range: Range) -> Vec<u8> {
    let mut row = head(CELLS, collection, 11);
    row.push(range.depth());
    row.extend_from_slice(&range.bits().to_be_bytes());
    row
}

/// Bounds of the rows of cells below all depths that keep any.
pub(in super::super) fn cells_beyond(collection: CollectionId) -> (Vec<u8>, Vec<u8>) {
    let mut row = head(CELLS, collection, 1);
    row.push(KEPT_DEPTH_MAX + 1);
    (row, after_all(head(CELLS, collection, 0)))
}

/// What is folded of each range of a depth, in order, read as it goes.
pub(in super::super) type FoldedRows<'a> = Box<dyn Iterator<Item = Result<(Range, Folded), StoreError>> + 'a>;

pub(in super::super) fn folded_at(
    snapshot: &dyn Snapshot,
    collection: CollectionId,
    depth: u8,
) -> Result<FoldedRows<'_>, StoreError> {
    /// Bytes of a row's key that name its range.
    const RANGE_BYTES: usize = 12;
    let mut start = head(CELLS, collection, 1);
    start.push(depth);
    let mut rows = snapshot.scan(&start, &after_all(start.clone()))?.peekable();
    Ok(Box::new(std::iter::from_fn(move || {
        let first = rows.next()?;
        let read = || {
            let (row, value) = first?;
            let mut joined = Joining::default();
            let mut pushed = read_piece(&row, &value).and_then(|piece| joined.push(piece));
            // All rows of a range are passed, whatever is wrong with one of them.
            let same = |other: &Result<Row, EngineError>| {
                other.as_ref().is_ok_and(|(other, _)| other.get(..RANGE_BYTES) == row.get(..RANGE_BYTES))
            };
            while let Some(next) = rows.next_if(same) {
                let (row, value) = next?;
                pushed = pushed.and_then(|()| read_piece(&row, &value)).and_then(|piece| joined.push(piece));
            }
            pushed?;
            joined.whole()
        };
        Some(read())
    })))
}

/// Writes all cells of a range, of which `before` were kept until now; none removes what there is.
pub(in super::super) fn put_cells(
    batch: &mut Batch,
    collection: CollectionId,
    range: Range,
    before: usize,
    count: u64,
    sketch: &Sketch,
) {
    let mut from = 0;
    let mut value = Vec::new();
    for cells in sketch.cells().chunks(ROW_CELLS_MAX) {
        value.clear();
        value.push(CELLS_VERSION);
        put_varint(&mut value, count);
        put_varint(&mut value, sketch.cells().len() as u64);
        pack(&mut value, range, count, from, cells);
        batch.put(&row(collection, range, from), &value);
        from += ROW_CELLS_MAX;
    }
    while from < before {
        batch.delete(&row(collection, range, from));
        from += ROW_CELLS_MAX;
    }
}

/// The first `cells` cells that were folded of a range; none where it has no row.
pub(in super::super) fn read_cells(
    snapshot: &dyn Snapshot,
    collection: CollectionId,
    range: Range,
    cells: usize,
) -> Result<Option<Folded>, StoreError> {
    let mut joined = Joining::default();
    let mut from = 0;
    loop {
        let row = row(collection, range, from);
        let Some(value) = snapshot.get(&row)? else { break };
        joined.push(read_piece(&row, &value)?)?;
        from += ROW_CELLS_MAX;
        if from >= cells.min(joined.cells()) {
            break;
        }
    }
    let Some((_, mut folded)) = joined.pieces else { return Ok(None) };
    if folded.sketch.cells().len() < cells.min(folded.cells) {
        return Err(StoreError::damaged(format!("some cells of the sketch of range {range} are missing")));
    }
    folded.sketch.truncate(cells);
    Ok(Some(folded))
}

fn read_piece(row: &[u8], value: &[u8]) -> Result<Piece, StoreError> {
    let broken = |error: DecodeError| {
        let at: String = row.iter().skip(3).map(|byte| format!("{byte:02x}")).collect();
        StoreError::damaged(format!("a row of cells at {at} does not decode: {error}"))
    };
    decode_piece(row, value).map_err(broken)
}

fn decode_piece(row: &[u8], value: &[u8]) -> Result<Piece, DecodeError> {
    let mut reader = Reader::new(row);
    reader.take(3)?;
    let depth = reader.u8()?;
    let range = Range::new(reader.u64()?, depth).ok_or(DecodeError::Malformed("range"))?;
    let from = usize::from(u16::from_be_bytes(reader.array()?));
    reader.end()?;
    let mut reader = Reader::new(value);
    match reader.u8()? {
        CELLS_VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    let count = reader.varint("elements of a range", u64::MAX)?;
    let most = cells_kept(depth, u64::MAX) as u64;
    let cells = usize::try_from(reader.varint("cells of a range", most)?).unwrap_or(usize::MAX);
    if !from.is_multiple_of(ROW_CELLS_MAX) || from >= cells {
        return Err(DecodeError::Malformed("place of cells"));
    }
    let read = unpack(&mut reader, range, count, from, ROW_CELLS_MAX.min(cells - from))?;
    reader.end()?;
    Ok(Piece { range, from, folded: Folded { count, cells, sketch: Sketch::from_cells(read) } })
}

/// Rows of one range's cells on their way to be one sketch.
#[derive(Default)]
struct Joining {
    pieces: Option<(Range, Folded)>,
}

impl Joining {
    fn cells(&self) -> usize {
        self.pieces.as_ref().map_or(0, |(_, folded)| folded.cells)
    }

    fn push(&mut self, piece: Piece) -> Result<(), StoreError> {
        let Piece { range, from, folded } = piece;
        let Some((_, so_far)) = &mut self.pieces else {
            self.pieces = Some((range, folded));
            return if from == 0 { Ok(()) } else { Err(torn(range)) };
        };
        let fits = (so_far.count, so_far.cells) == (folded.count, folded.cells) && so_far.sketch.cells().len() == from;
        so_far.sketch.extend(folded.sketch.cells());
        if fits { Ok(()) } else { Err(torn(range)) }
    }
}

impl Joining {
    /// All cells, none missing.
    fn whole(self) -> Result<(Range, Folded), StoreError> {
        let (range, folded) = self.pieces.ok_or_else(|| torn(Range::ALL))?;
        if folded.sketch.cells().len() == folded.cells { Ok((range, folded)) } else { Err(torn(range)) }
    }
}

fn torn(range: Range) -> StoreError {
    StoreError::damaged(format!("the rows of cells of range {range} do not belong together"))
}

/// What commits did to the elements of a collection, or of a part of it; sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Moves {
    pub(in super::super) removed: Vec<Element>,
    pub(in super::super) added: Vec<Element>,
}

impl Moves {
    pub(in super::super) fn len(&self) -> usize {
        self.removed.len() + self.added.len()
    }

    /// Each element with what its count changes by.
    pub(in super::super) fn all(&self) -> Vec<(Element, i64)> {
        let removed = self.removed.iter().map(|element| (*element, -1));
        removed.chain(self.added.iter().map(|element| (*element, 1))).collect()
    }

    /// Those of each sixteenth that they touch, by its digit.
    pub(in super::super) fn parts(&self) -> impl Iterator<Item = (u8, Moves)> + '_ {
        let mut touched = [false; 16];
        self.removed.iter().chain(&self.added).for_each(|element| touched[(element.0 >> 60) as usize] = true);
        let parts = (0..16).filter(move |digit| touched[usize::from(*digit)]);
        parts.map(|digit| (digit, self.within(Range::ALL.child(digit))))
    }

    /// Those in a range above [`reknit_core::sketch::ELEMENT_DEPTH`].
    fn within(&self, range: Range) -> Moves {
        let cut = |all: &[Element]| {
            let start = all.partition_point(|element| element.0 < range.first().0);
            let end = all.partition_point(|element| element.0 <= range.last().0);
            all[start..end].to_vec()
        };
        Moves { removed: cut(&self.removed), added: cut(&self.added) }
    }
}

/// The row of what a commit changed in one of the sixteen parts of a collection.
pub(in super::super) fn tail(collection: CollectionId, part: u8, commit: u64) -> Vec<u8> {
    let mut row = head(TAIL, collection, 9);
    row.push(part);
    row.extend_from_slice(&commit.to_be_bytes());
    row
}

/// Bounds of the rows of all tails of a collection.
pub(in super::super) fn tails_of(collection: CollectionId) -> (Vec<u8>, Vec<u8>) {
    let row = head(TAIL, collection, 0);
    let end = after_all(row.clone());
    (row, end)
}

pub(in super::super) fn tail_value(moves: &Moves) -> Vec<u8> {
    let mut value = Vec::with_capacity(4 + ELEMENT_BYTES * moves.len());
    value.push(TAIL_VERSION);
    put_varint(&mut value, moves.removed.len() as u64);
    let all = moves.removed.iter().chain(&moves.added);
    all.for_each(|element| value.extend_from_slice(&element.0.to_be_bytes()));
    value
}

/// Reads the row of what a commit changed in a part: the part, the commit and its elements.
pub(in super::super) fn read_tail(row: &[u8], value: &[u8]) -> Result<(u8, u64, Moves), StoreError> {
    decode_tail(row, value).map_err(|error| {
        let at: String = row.iter().skip(3).map(|byte| format!("{byte:02x}")).collect();
        StoreError::damaged(format!("a row of a sketch's tail at {at} does not decode: {error}"))
    })
}

fn decode_tail(row: &[u8], value: &[u8]) -> Result<(u8, u64, Moves), DecodeError> {
    let mut reader = Reader::new(row);
    reader.take(3)?;
    let part = reader.u8()?;
    let commit = reader.u64()?;
    reader.end()?;
    let mut reader = Reader::new(value);
    match reader.u8()? {
        TAIL_VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    let most = (reader.rest().len() / ELEMENT_BYTES) as u64;
    let removed = usize::try_from(reader.varint("elements removed", most)?).unwrap_or(usize::MAX);
    let mut elements = Vec::with_capacity(reader.rest().len() / ELEMENT_BYTES);
    while !reader.rest().is_empty() {
        elements.push(Element(reader.u64()?));
    }
    if removed > elements.len() || elements.is_empty() {
        return Err(DecodeError::Truncated);
    }
    let added = elements.split_off(removed);
    let of_part = |element: &Element| element.0 >> 60 == u64::from(part);
    if !elements.is_sorted() || !added.is_sorted() || !elements.iter().chain(&added).all(of_part) {
        return Err(DecodeError::Malformed("elements of a tail"));
    }
    Ok((part, commit, Moves { removed: elements, added }))
}
