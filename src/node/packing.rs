//! Record frames as they travel: compressed where that pays, capped in size and ratio.
//!
//! Hashes never compress, so the control lane stays plain; what a frame holds is the core's concern.

use reknit_core::DecodeError;
use reknit_core::bounds::{KEY_BYTES_MAX, RECORD_FRAME_BYTES_MAX};
use reknit_core::wire::RecordFrame;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const LEVEL: i32 = 1;
/// Frames below this are sent as they are: a header would eat the gain.
const COMPRESS_FROM: usize = 256;
/// How many times larger a frame may become; a sender keeps to it, a receiver insists on it.
const RATIO_MAX: usize = 100;
/// Bytes of a decompressed frame.
const FRAME_MAX: usize = RECORD_FRAME_BYTES_MAX + KEY_BYTES_MAX;

/// The bytes of a record frame on its lane.
pub(super) fn pack(frame: &RecordFrame) -> Vec<u8> {
    let plain = frame.encode();
    if plain.len() >= COMPRESS_FROM
        && let Ok(small) = zstd::bulk::compress(&plain, LEVEL)
        && small.len() < plain.len()
        && plain.len() <= small.len() * RATIO_MAX
    {
        return [&[ZSTD], small.as_slice()].concat();
    }
    [&[PLAIN], plain.as_slice()].concat()
}

/// Reads a record frame; never makes more of it than the caps allow (M4).
pub(super) fn unpack(bytes: &[u8]) -> Result<RecordFrame, DecodeError> {
    let (kind, body) = bytes.split_first().ok_or(DecodeError::Truncated)?;
    match *kind {
        PLAIN => RecordFrame::decode(body),
        ZSTD => {
            let cap = FRAME_MAX.min(body.len().saturating_mul(RATIO_MAX));
            let plain = zstd::bulk::decompress(body, cap);
            RecordFrame::decode(&plain.map_err(|_| DecodeError::Malformed("compressed record frame"))?)
        }
        _ => Err(DecodeError::Malformed("kind of packing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reknit_core::CollectionId;
    use reknit_core::message::Transfer;
    use reknit_core::query::{Guard, Incoming};
    use reknit_core::{Actor, Content, Record, Sibling, Stamp, State, Version};

    fn frame(value: Vec<u8>) -> RecordFrame {
        let version = Version::after(Stamp(1), Actor(2), []);
        let state = State::single(Sibling { version, content: Content::Live(value), expires: None });
        let record = Record { key: b"key".to_vec(), state };
        RecordFrame::Records {
            transfer: Transfer(1, CollectionId(0)),
            records: vec![Incoming { record, guard: Guard::Join }],
        }
    }

    #[test]
    fn frames_come_back_whether_they_compress_or_not() {
        let noise = (0..5000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let text = b"the same words again and again, ".repeat(40);
        for value in [Vec::new(), noise, text.clone(), vec![0; 900_000]] {
            let frame = frame(value);
            assert_eq!(unpack(&pack(&frame)), Ok(frame));
        }
        assert!(pack(&frame(text)).len() < 200);
    }

    #[test]
    fn a_bomb_is_not_unfolded() {
        let bomb = zstd::bulk::compress(&vec![0; 50 << 20], 1).expect("compresses");
        let refused = unpack(&[&[ZSTD], bomb.as_slice()].concat());
        assert_eq!(refused, Err(DecodeError::Malformed("compressed record frame")));
        assert_eq!(unpack(&[]), Err(DecodeError::Truncated));
        assert_eq!(unpack(&[9]), Err(DecodeError::Malformed("kind of packing")));
    }
}
